"""The picture of the trials of a sweep."""

import math

import numpy as np
import pytest

from framework import DataError, SettingsError
from framework.views import plots

ROWS = [
    {"run": "2", "rate": "0.3", "kind": "b", "loss": 0.25},
    {"run": "0", "rate": "0.001", "kind": "a", "loss": 0.5},
    {"run": "1", "rate": "0.02", "kind": "b", "loss": math.inf},
    {"run": "3", "rate": None, "kind": "c", "loss": None},
]


def test_numbers_stand_at_their_values_and_the_first_trial_is_the_best(axis):
    plots.trials(ROWS, "rate", "loss", axis=axis)
    points, best = axis.lines
    np.testing.assert_array_equal(points.get_xydata(), [[0.3, 0.25], [0.001, 0.5]])
    np.testing.assert_array_equal(best.get_xydata(), [[0.3, 0.25]])
    assert best.get_label() == "best loss: 0.25, rate 0.3"
    assert (axis.get_xscale(), axis.get_xlabel(), axis.get_ylabel()) == ("log", "rate", "loss")


def test_names_stand_side_by_side(axis):
    plots.trials(ROWS, "kind", "loss", axis=axis)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["b", "a"]
    assert (axis.get_xscale(), axis.lines[0].get_xdata().tolist()) == ("linear", [0.0, 1.0])


def test_folds_have_their_deviation(axis):
    rows = [{**row, "deviation": 0.125} for row in ROWS[:2]]
    plots.trials(rows, "run", "loss", axis=axis)
    (lines,) = axis.collections
    np.testing.assert_allclose([part[:, 1] for part in lines.get_segments()], [[0.125, 0.375], [0.375, 0.625]])


def test_a_mistake_is_named(axis):
    with pytest.raises(SettingsError, match=r"no column 'rat'; did you mean 'rate'\?"):
        plots.trials(ROWS, "rat", "loss", axis=axis)
    with pytest.raises(DataError, match="must hold a trial with a finite 'loss'"):
        plots.trials(ROWS[2:], "rate", "loss", axis=axis)
