"""Which network `new` proposes: a small one for few classes in few rows, several large ones for everything else."""

import csv
import runpy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from experiment_pieces import command

from framework import CosineSchedule, Experiment
from framework.models import PeriodicEmbedding

RNG = np.random.default_rng(0)
X = RNG.normal(size=2_501).round(3)
SEVERAL = (3, ["PeriodicEmbedding", 256, 256])
PLANS = {
    "two classes in few rows": ([*X[:200]], ["no", "yes"] * 100, (1, [32])),
    "ten classes in few rows": ([*X[:200]], [f"c{row % 10}" for row in range(200)], (1, [32])),
    "eleven classes in few rows": ([*X[:220]], [f"c{row % 11}" for row in range(220)], SEVERAL),
    "two classes in many rows": ([*X], ["no" if x < 0 else "yes" for x in X], SEVERAL),
    "a number in few rows": ([*X[:200]], [*(X[:200] ** 2 + 0.5)], SEVERAL),
    "a number from text alone": (["a", "b"] * 100, [*(X[:200] ** 2 + 0.5)], (3, [256, 256])),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_table(x, y, **more):
    with Path("t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", *more, "y"], *zip(x, *more.values(), y, strict=True)])


@pytest.mark.parametrize("name", PLANS)
def test_the_network_follows_from_the_rows_and_the_target(name):
    x, y, expected = PLANS[name]
    write_table(x, y)
    command("new", "t.csv", "--target", "y")
    experiment = Experiment.read("t.toml")
    first, *hidden = [*experiment.model.layers][:-1]
    units = [type(first).__name__ if isinstance(first, PeriodicEmbedding) else first.units]
    assert (experiment.members, [*units, *(layer.units for layer in hidden)]) == expected
    falling = isinstance(experiment.trainer.optimizer.learning_rate, CosineSchedule)
    assert falling is (experiment.members > 1)


def test_members_train_where_the_held_out_rows_of_one_say_nothing_of_a_metric():
    y = [2.5] * 19 + [3.5]  # a number that most draws of four rows hold out alike
    write_table([*X[:20]], y)
    command("new", "t.csv", "--target", "y", "--task", "number")
    assert '"R2"' not in Path("t.toml").read_text()
    command("train", "t.toml", "--out", "run", "--set", "trainer.epochs=1")


@pytest.mark.share(1 / 2)
@pytest.mark.parametrize("target", ["classes", "number"])
def test_the_exports_of_what_new_proposes_predict_the_same(target):
    x, city = X[:240], RNG.choice(["Rome", "Oslo"], 240)
    y = [f"c{int(row)}" for row in np.digitize(x, np.linspace(-1.2, 1.2, 11))] if target == "classes" else [*(x**2)]
    write_table([*x], y, city=[*city])
    command("new", "t.csv", "--target", "y")
    command("train", "t.toml", "--out", "run", "--set", "trainer.epochs=8")
    command("predict", "run", "t.csv", "--out", "p.csv")
    command("export", "run", "model.onnx")
    command("export", "run", "model.py")
    rows = [*csv.DictReader(Path("p.csv").read_text().splitlines())]
    names = [name for name in rows[0] if name.startswith("y=")] or ["y"]
    expected = np.array([[float(row[name]) for name in names] for row in rows])
    columns = {"x": x, "city": city.astype(object)}
    session = onnxruntime.InferenceSession("model.onnx")
    numbers = session.get_outputs()[0].name  # the probabilities or the numbers; another may be the label
    module = runpy.run_path("model.py")
    for found in (session.run([numbers], columns)[0], module["predict"](columns)):
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-6, rtol=1e-6)
