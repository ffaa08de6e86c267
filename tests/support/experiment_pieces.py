"""What the tests of experiments share."""

import csv
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from framework.cli import main

POINTS = """\
validation = 0.25

[data]
type = "CSV"
path = "points.csv"
target = "inside"

[model]
type = "Sequential"
layers = [{type = "Dense", units = 4, activation = "Tanh"}, {type = "Neuron", activation = "Sigmoid"}]
"""
"""The data and the model of an experiment on the table of ``write_points``."""


def write_points(experiment):
    """Write a table of 80 rows, points.csv, and the text of an experiment, points.toml, to the working directory."""
    x = np.random.default_rng(0).normal(size=(80, 2)).round(3)
    rows = [[*row, int(np.hypot(*row) < 1)] for row in x.tolist()]
    with Path("points.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "inside"], *rows])
    Path("points.toml").write_text(experiment)


def command(*arguments, status=0):
    """Run a command, and return what it prints."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert status in (None, result.exit_code), result.output
    return result.output
