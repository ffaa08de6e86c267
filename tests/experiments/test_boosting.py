"""Where LightGBM is installed, ``framework compare`` shows its default on the same rows as the runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment_pieces import command

from framework.experiments import baselines, folder
from framework.experiments.baselines import BOOSTED
from framework.experiments.folder import RunFolder, compare_folders
from framework.experiments.members import MemberRows

RNG = np.random.default_rng(0)
ROWS = 600
X = RNG.normal(size=(ROWS, 3))
SCORE = X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * RNG.normal(size=ROWS)
TARGETS = {
    "price": 100 + 20 * SCORE,
    "late": np.where(SCORE > 0, "yes", "no"),
    "size": np.array([*"LMS"])[np.digitize(SCORE, [-1, 1])],
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(target, *changes, members=1, flags=()):
    """Train what ``new`` proposes for a table of one of the targets, for an epoch."""
    table = pd.DataFrame(X, columns=[*"abc"]).assign(who=np.arange(ROWS) // 6, **{target: TARGETS[target]})
    table.to_csv("rows.csv", index=False)
    command("new", "rows.csv", "--target", target, "--overwrite", "--set", 'data.columns=["a", "b", "c"]', *flags)
    shown = [text for change in ("trainer.epochs=1", f"members={members}", *changes) for text in ("--set", change)]
    path = f"run {len([*Path().glob('run*')])}"
    command("train", "rows.toml", "--out", path, *shown)
    return RunFolder(path)


def beside(*runs):
    return {row["run"]: row for row in compare_folders(runs, baselines=True)}


@pytest.mark.parametrize("target", TARGETS)
def test_its_figures_are_those_of_the_estimators_of_lightgbm(target):
    lightgbm = pytest.importorskip("lightgbm")
    run = trained(target)
    (table, _), (held, _) = run.experiment.parts()
    x, x_held = (run.model().preprocess.transform(rows, "float32") for rows in (table, held))
    y, y_held = (rows.column(target).to_numpy() for rows in (table, held))
    row = beside(run)[BOOSTED]
    if target == "price":
        prediction = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(x, y)).predict(x_held)
        assert row["val_mean_absolute_error"] == pytest.approx(np.abs(prediction - y_held).mean(), rel=1e-5)
        return
    model = lightgbm.LGBMClassifier(verbose=-1).fit(x, y)
    assert row["val_accuracy"] == model.score(x_held, y_held)
    chance = model.predict_proba(x_held)[y_held[:, None] == model.classes_]
    assert row["val_loss"] == pytest.approx(-np.log(chance).mean(), rel=1e-5)


def test_each_member_has_trees_of_its_own_rows():
    pytest.importorskip("lightgbm")
    run = trained("price", "groups=who", members=3)
    rows = MemberRows(run.experiment)
    fitted = [baselines.Boosted(run.experiment.trainer, run.model(), rows.of(number)[0]) for number in range(3)]
    (table, _), held = rows.out_of_fold()
    x = run.model().preprocess.transform(table, "float32")
    each = np.stack([trees.output(x)[1] for trees in fitted])
    mean = run.model().preprocess.inverse(np.sum(each * held, axis=0) / held.sum(axis=0))
    error = np.abs(mean - table.column("price").to_numpy()).mean()
    assert beside(run)[BOOSTED]["val_mean_absolute_error"] == pytest.approx(error, rel=1e-5)
    assert BOOSTED in command("compare", run.path)
    assert BOOSTED not in [row["run"] for row in json.loads(command("compare", run.path, "--json"))]


def test_quantiles_are_those_of_lightgbm_and_rise():
    pytest.importorskip("lightgbm")
    run = trained("price", flags=("--quantiles", "0.1,0.9"))
    data, held = run.experiment.parts()
    trees = baselines.Boosted(run.experiment.trainer, run.model(), data)
    a = trees.output(run.model().preprocess.transform(held[0], "float32"))[1]
    assert (a[:, 0] <= a[:, 1]).all()
    assert 0.4 < beside(run)[BOOSTED]["val_coverage"] < 0.9


def test_runs_on_the_same_rows_share_one_fit(monkeypatch):
    fits = []
    monkeypatch.setattr(folder, "find_spec", lambda name: name)
    monkeypatch.setattr(RunFolder, "judge_lightgbm", lambda run, _: fits.append(run) or {"loss": len(fits) / 8})
    runs = [
        trained("late", *changes) for changes in ((), ("trainer.optimizer.learning_rate=0.1",), ("trainer.seed=1",))
    ]
    rows = beside(*runs)
    assert len(fits) == 2
    assert [rows[name]["val_loss"] for name in (BOOSTED, f"{BOOSTED}, run 2")] == [0.125, 0.25]


def test_what_fails_there_ends_no_comparison(monkeypatch):
    monkeypatch.setattr(folder, "find_spec", lambda name: name)
    monkeypatch.setattr(folder, "Boosted", lambda *_: 1 / 0)
    run = trained("late")
    printed = command("compare", run.path)
    assert f"Warning: run 0: {BOOSTED} is not shown: division by zero" in printed
    assert "a linear model" in printed


def test_without_lightgbm_nothing_is_read(monkeypatch):
    run = trained("late")
    monkeypatch.setattr(folder, "find_spec", lambda _: None)
    monkeypatch.setattr(RunFolder, "judge_lightgbm", lambda *_: 1 / 0)
    assert BOOSTED not in command("compare", run.path)
