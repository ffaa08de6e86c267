"""Which rows `new` holds out of a table of classes, and what `fit` says of a class that only held-out rows have."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment_pieces import command

from framework import (
    AdamOptimizer,
    CrossEntropy,
    DataError,
    Dense,
    Experiment,
    Heads,
    Preprocess,
    Sequential,
    ShapeError,
    Softmax,
    Standardize,
    Trainer,
    split,
)
from framework.formulas import OutputLosses
from framework.preprocessing import Classes, Drop

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(classes):
    """Write a table of days in order, with a number that tells the classes apart."""
    codes = pd.factorize(pd.Series(classes), sort=True)[0]
    days = pd.date_range("2007-11-01", periods=len(codes))
    table = pd.DataFrame({"day": days, "mass": codes + RNG.normal(0, 0.1, len(codes)), "kind": classes})
    table.to_csv("a.csv", index=False, date_format="%Y-%m-%d")
    return table


def held_out_line():
    return next(line for line in Path("a.toml").read_text().splitlines() if line.startswith("holdout"))


TABLES = {
    "two blocks": (["a"] * 60 + ["b"] * 60, 'the last rows have no "a"'),
    "three blocks": (["a"] * 40 + ["b"] * 40 + ["c"] * 40, 'the last rows have no "a"'),
    "a class at the end": (["a", "b"] * 50 + ["c"] * 20, 'only the last rows have "c"'),
    "one row at the end": (["a", "b"] * 60 + ["c"], 'only the last rows have "c"'),
    "penguins": (["Adelie"] * 152 + ["Chinstrap"] * 68 + ["Gentoo"] * 124, 'the last rows have no "Adelie"'),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", TABLES)
def test_new_holds_out_rows_of_each_class_of_a_sorted_table(name):
    classes, said = TABLES[name]
    table = written(classes)
    command("new", "a.csv", "--target", "kind")
    assert held_out_line().startswith('holdout = "stratified"')
    assert held_out_line().endswith(f"although the rows are in the order of a date: {said}")
    experiment = Experiment.read("a.toml")
    train, held_out = (part[0].column("kind").to_pylist() for part in experiment.parts())
    assert set(train) == set(classes)
    counts = table["kind"].value_counts()
    for kind, count in counts.items():
        assert abs(held_out.count(kind) - 0.2 * count) < 1
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=60")
    assert dict(experiment.trainer.preprocess.target)["kind"] == (Classes(sorted(set(classes))),)
    printed = command("evaluate", "run")
    assert float(printed.split("accuracy")[1].split()[0]) > 0.9


def test_new_holds_out_the_last_rows_where_they_have_their_share_of_each_class():
    written((["a", "b"] * 100 + ["rare", "a"])[::-1])
    command("new", "a.csv", "--target", "kind")
    assert held_out_line() == 'holdout = "last"        # the last rows, because the rows are in the order of a date'
    command("train", "a.toml", "--set", "trainer.epochs=1")


def test_a_row_of_a_class_of_one_is_trained_on_whatever_the_seed():
    written(["a", "b"] * 30 + ["c"])
    command("new", "a.csv", "--target", "kind")
    for seed in range(20):
        train, _ = Experiment.read("a.toml", [f"trainer.seed={seed}"]).parts()
        assert "c" in train[0].column("kind").to_pylist()


TARGETS = {
    "near its mean": (1e6 + 1e-3 * RNG.normal(size=60), {"mean_absolute_error", "root_mean_squared_error", "r2"}),
    "one number": (np.full(60, 7.5), {"mean_absolute_error", "root_mean_squared_error"}),
    "zeros in the last rows": (
        np.r_[RNG.normal(size=20), np.zeros(60)],
        {"mean_absolute_error", "root_mean_squared_error"},
    ),
    "far outlier": (np.r_[1e30, RNG.normal(size=59)], {"mean_absolute_error", "root_mean_squared_error"}),
    "too large": (1e200 * RNG.normal(size=60), None),
    "classes": (["u", "v"] * 30, {"accuracy", "roc_auc"}),
    "a class of one row": (["u"] + ["v"] * 59, {"accuracy"}),
}


@pytest.mark.parametrize("name", TARGETS)
def test_new_writes_the_metrics_that_train_can_compute_from_the_held_out_rows(name):
    values, metrics = TARGETS[name]
    table = pd.DataFrame({"x": RNG.normal(size=len(values)), "y": values})
    if name == "zeros in the last rows":
        table["day"] = pd.date_range("2007-11-01", periods=len(values))
    table.to_csv("a.csv", index=False, date_format="%Y-%m-%d")
    command("new", "a.csv", "--target", "y")
    if metrics is None:
        assert "target 'y' has numbers so large" in command("train", "a.toml", status=1)
    else:
        command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
        assert json.loads(Path("run/metrics.json").read_text())["validation"].keys() == metrics | {"loss"}


def test_classes_of_a_parquet_file_keep_their_kind():
    table = written(["a", "b"] * 60)
    for number, (values, levels) in enumerate({(10, 9): (9, 10), (True, False): (False, True)}.items()):
        path = f"{number}.parquet"
        table.assign(kind=list(values) * 60).to_parquet(path)
        command("new", path, "--target", "kind")
        (step,) = dict(Experiment.read(f"{number}.toml").trainer.preprocess.target)["kind"]
        assert step.levels == levels
        assert [*map(type, step.levels)] == [*map(type, levels)]


def trainer(*targets):
    loss = CrossEntropy() if len(targets) == 1 else OutputLosses(**dict.fromkeys(targets, CrossEntropy()))
    recipe = Preprocess({"x": Standardize(), "*": Drop()}, target={name: Classes() for name in targets})
    return Trainer(loss=loss, optimizer=AdamOptimizer(), epochs=1, preprocess=recipe)


ROWS = pd.DataFrame({"x": np.arange(60.0), "kind": ["a"] * 20 + ["b"] * 20 + ["c"] * 20, "sex": ["f", "m"] * 30})
ONLY = "class 'c' of target 'kind' is only among the held-out rows, first in row 0; split"


@pytest.mark.parametrize("units", [2, 3])
def test_fit_names_a_class_that_only_held_out_rows_have(units):
    model = Sequential(Dense(units=units, activation=Softmax()))
    with pytest.raises(DataError, match=ONLY):
        trainer("kind").fit(model, (ROWS[:40], "kind"), validation=(ROWS[40:], "kind"))
    train, held_out = split((ROWS, "kind"), stratify=True)
    trainer("kind").fit(Sequential(Dense(units=3, activation=Softmax())), train, validation=held_out)


@pytest.mark.parametrize("units", [2, 3])
def test_fit_names_such_a_class_of_several_outputs(units):
    model = Heads(kind=Dense(units=units, activation=Softmax()), sex=Dense(units=2, activation=Softmax()))
    targets = ["kind", "sex"]
    with pytest.raises(DataError, match=ONLY):
        trainer(*targets).fit(model, (ROWS[:40], targets), validation=(ROWS[40:], targets))


def test_a_model_of_another_number_of_outputs_is_still_told_its_end():
    model = Sequential(Dense(units=4, activation=Softmax()))
    with pytest.raises(ShapeError, match=r"has 3 classes, and the model gives 4 numbers; end it with Dense\(units=3"):
        trainer("kind").fit(model, (ROWS, "kind"), validation=(ROWS, "kind"))


def test_a_command_names_such_a_class_with_the_setting_of_the_file():
    written(["a", "b"] * 50 + ["c"] * 20)
    command("new", "a.csv", "--target", "kind")
    text = Path("a.toml").read_text().replace('{type = "Classes", levels = ["a", "b", "c"]}', '"Classes"')
    Path("b.toml").write_text(text)
    said = "class 'c' of target 'kind' is only among the held-out rows"
    advice = 'validation = 0.2 with holdout = "stratified" in the file leaves rows of each class for training'
    printed = command("train", "b.toml", "--set", "holdout=last", status=1)
    assert said in printed
    assert advice in printed
    command("train", "b.toml", "--set", "trainer.epochs=1")
