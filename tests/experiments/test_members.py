"""Members: several networks of one experiment, whose mean is one model."""

import contextlib
import json
import os
import runpy
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from experiment_pieces import POINTS, command, write_points
from forked import in_child

from framework import Experiment, latest, load, load_model, on
from framework.experiments.folder import Clock, RunFolder
from framework.experiments.members import MemberRows
from framework.experiments.sweeps.sweep import Sweep
from framework.experiments.views import reporting
from framework.models import Ensemble

FILE = f"""members = 3
{POINTS}
[trainer]
loss = "BinaryCrossEntropy"
optimizer = {{type = "AdamOptimizer", learning_rate = 0.03}}
epochs = 4
batch_size = 16
metrics = ["Accuracy", "ROCAUC"]
callbacks = [{{type = "Checkpoint", folder = "checkpoints", every = "epoch"}}]

[trainer.preprocess.columns]
"<number>" = ["Standardize"]
"""


MODEL = 'model={type="Residual", block={type="Sequential", layers=[{type="Dense", units=2}]}}'


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a table, an experiment of three members, and its run."""
    path = tmp_path_factory.mktemp("members")
    with contextlib.chdir(path):
        write_points(FILE)
        command("train", "points.toml", "--out", "run")
    return path


@pytest.fixture(autouse=True)
def run(workplace, monkeypatch):
    """The run, which no test changes."""
    monkeypatch.chdir(workplace)
    return RunFolder("run")


def trained(out, *changes):
    """Train the experiment with some changes."""
    command("train", "points.toml", "--out", out, *(flag for change in changes for flag in ("--set", change)))
    return RunFolder(out)


def evaluated(run, *options):
    return json.loads(command("evaluate", run.path, "--json", *options))


def vector(folder):
    return load_model(latest(Path(folder) / "checkpoints")).parameters.vector


def test_the_model_of_the_run_is_the_mean_of_its_members_in_every_form(run):
    table = pd.read_csv("points.csv")
    mean = np.mean([member.model().predict(table) for member in run.members], axis=0)
    assert len(run.members) == 3
    assert len({member.model().parameters.vector.tobytes() for member in run.members}) == 3
    assert isinstance(run.model(), Ensemble)
    np.testing.assert_allclose(run.model().predict(table), mean, rtol=1e-14)
    command("predict", run.path, "points.csv", "--out", "predicted.csv")
    predicted = pd.read_csv("predicted.csv")
    np.testing.assert_allclose(predicted["inside"], mean, rtol=1e-14)
    command("export", run.path, "model.py")
    np.testing.assert_allclose(runpy.run_path("model.py")["predict"](table), predicted["inside"], atol=1e-6)


def test_an_onnx_file_gives_the_mean_of_the_members(run):
    runtime = pytest.importorskip("onnxruntime")
    table = pd.read_csv("points.csv")
    command("export", run.path, "model.onnx")
    columns = {name: table[name].to_numpy() for name in ("x", "y")}
    (given,) = runtime.InferenceSession("model.onnx").run(None, columns)
    np.testing.assert_allclose(given.ravel(), run.model().predict(table), atol=1e-6)


def test_a_member_is_the_run_that_has_its_seeds_alone():
    member = trained("last", "members=2", "holdout=last").members[1]
    alone = trained("alone", "members=1", "holdout=last", "trainer.seed=1", "model.seed=1")
    assert vector(member.path).tobytes() == vector(alone.path).tobytes()
    assert member.metrics["validation"] == alone.metrics["validation"]


@pytest.mark.parametrize("holdout", ["random", "stratified", "last"])
def test_each_member_holds_out_the_rows_that_its_seed_draws(holdout):
    changes = [f"holdout={holdout}", "model.seed=7"]
    rows = MemberRows(Experiment.read("points.toml", [*changes, "trainer.seed=5"]))
    for number in range(3):
        alone = Experiment.read("points.toml", [*changes, "members=1", f"trainer.seed={5 + number}"])
        for (table, target), (expected, name) in zip(rows.of(number), alone.parts(), strict=True):
            assert table.equals(expected)
            assert target == name


def test_all_seeds_of_a_model_differ_by_member():
    layer = ["model.layers.0.seed=7", "trainer.seed=3"]
    members = [Experiment.read("points.toml", layer).member(number) for number in range(2)]
    seeds = [(each.trainer.seed, each.model.seed, each.model[0].seed, each.model[1].seed) for each in members]
    assert seeds == [(3, 0, 7, None), (4, 1, 8, None)]


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_row_is_judged_by_the_members_that_did_not_train_on_it(in_memory, run, monkeypatch):
    if not in_memory:
        monkeypatch.setattr("framework.experiments.tables.IN_MEMORY", 0)
        run = trained("blocks")
    table = pd.read_csv("points.csv")
    key = table.apply(tuple, axis=1)
    sums, counts = np.zeros(len(table)), np.zeros(len(table))
    for member in run.members:
        _, held = member.experiment.parts()
        held = held[0].to_pandas() if in_memory else held.read(0, len(held))[0].to_pandas().assign(inside=0)
        judged = key.str[:2].isin(held[["x", "y"]].apply(tuple, axis=1))
        assert judged.sum() == 20
        sums[judged] += member.model().predict(table[judged])
        counts[judged] += 1
    assert {*counts} == {0, 1, 2}
    p, t = sums[counts > 0] / counts[counts > 0], table.inside[counts > 0]
    figures = evaluated(run)
    assert figures["loss"] == pytest.approx(-np.mean(np.log(np.where(t == 1, p, 1 - p))), rel=1e-9)
    assert figures["accuracy"] == pytest.approx(np.mean((p > 0.5) == t))
    above = p[t == 1][:, None] - p[t == 0]
    assert figures["roc_auc"] == pytest.approx(np.mean(above > 0) + np.mean(above == 0) / 2)
    assert run.metrics["validation"] == {key: figures[key] for key in ("loss", "accuracy", "roc_auc")}
    assert {*figures["baselines"]} == {"a linear model", "the commonest class alone"}
    assert run.beside == figures["baselines"]


def test_a_table_of_validation_is_judged_by_all_members():
    pd.read_csv("points.csv")[:50].to_csv("other.csv", index=False)
    run = trained("table", 'validation={type="CSV", path="other.csv", target="inside"}')
    figures = evaluated(run)
    assert figures["loss"] == pytest.approx(evaluated(run, "--data", "other.csv")["loss"], rel=1e-12)


@pytest.mark.parametrize(("holdout", "rows"), [("last", 60), ("random", 80)])
def test_the_members_share_a_preprocess_of_the_rows_that_some_member_trains_on(holdout, rows):
    fitted = MemberRows(Experiment.read("points.toml", [f"holdout={holdout}"])).fit_preprocess()
    table = pd.read_csv("points.csv")[["x", "y"]]
    expected = (table - table[:rows].mean()) / table[:rows].std(ddof=0)
    np.testing.assert_allclose(fitted.transform(table, "float64"), expected)


def test_the_members_keep_the_preprocess_of_the_run(run):
    fitted = MemberRows(run.experiment).fit_preprocess()
    assert [model.preprocess for model in (run.model(), *(member.model() for member in run.members))] == [fitted] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are killed")
@pytest.mark.parametrize("killed_at", [2, 6, "the mean"])
def test_a_run_that_was_killed_resumes_as_if_it_had_not_been(killed_at, run, tmp_path, monkeypatch):
    path = tmp_path / "killed"

    def train():
        epochs = []

        @on("epoch_end")
        def kill(state):
            epochs.append(state.epoch)
            if len(epochs) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        if killed_at == "the mean":
            monkeypatch.setattr("framework.experiments.folder.judge", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        RunFolder.create(path, Experiment.read("points.toml").moved(Path.cwd())).train(callbacks=[kill])

    assert in_child(train) == -signal.SIGKILL
    if killed_at != "the mean":
        assert "has no checkpoint yet" in command("evaluate", path, status=1)
    command("resume", path)
    assert RunFolder(path).complete
    assert vector(path).tobytes() == vector(run.path).tobytes()
    assert RunFolder(path).metrics["validation"] == run.metrics["validation"]
    assert RunFolder(path).beside == run.beside


def test_a_complete_run_is_not_trained_further(run):
    assert "the run run is complete\n" in command("resume", "run", status=1)
    said = command("resume", "run", "--epochs", "2", status=1)
    assert "--epochs 2: members are trained up to trainer.epochs alone: leave --epochs out, or train a new run" in said
    assert run.metrics is not None


@pytest.mark.parametrize("change", ["data.target=outside", 'trainer.loss="PoissonLoss"'])
def test_a_run_that_cannot_begin_leaves_no_folder(change):
    command("train", "points.toml", "--out", "none", "--set", change, status=1)
    assert not Path("none").exists()


def test_members_share_the_time_and_continue_as_if_nothing_had_stopped_them(run, tmp_path):
    path = tmp_path / "stopped"
    said = command("train", "points.toml", "--out", path, "--minutes", "1e-9").splitlines()
    assert said[0].endswith("member-0: 0 epochs (--minutes 1e-09 is over; framework resume continues)")
    assert [load(latest(member.checkpoints)).step for member in RunFolder(path).members] == [1, 1, 1]
    assert RunFolder(path).metrics["validation"]["loss"] > 0
    assert "not complete" in repr(RunFolder(path))
    command("resume", path, "--minutes", "60")
    assert vector(path).tobytes() == vector(run.path).tobytes()
    assert RunFolder(path).metrics["validation"] == run.metrics["validation"]
    assert "is complete" in command("resume", path, status=1)


def test_the_clock_gives_each_run_its_share_of_what_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(2.0)
    now[0] += 30
    for runs, end in ((1, 220.0), (3, 160.0)):
        (callback,) = clock.stops(runs)
        stopped = []
        for moment in (end - 1e-6, end):
            monkeypatch.setattr("time.monotonic", lambda moment=moment: moment)
            callback.function(SimpleNamespace(stop=stopped.append))
        assert stopped == ["--minutes 2 is over; framework resume continues"]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert Clock(None).stops(3) == []


def test_train_says_what_became_of_each_member():
    said = command("train", "points.toml", "--out", "said", "--set", "trainer.epochs=1").splitlines()
    judged = "on the held-out rows, each judged by the members that held it out:"
    assert said[:4] == [*(f"said/member-{number}: 1 epochs" for number in range(3)), judged]
    assert command("evaluate", "said").splitlines() == said[3:]


def test_show_watch_and_compare_know_the_members(run):
    shown = command("show", "run")
    assert "# 12 epochs, complete\n# val_loss = " in shown
    assert "Ensemble" in shown
    watched = command("watch", "run", "--once")
    assert [watched.count(f"member-{number}") for number in range(4)] == [1, 1, 1, 0]
    (row, *_) = json.loads(command("compare", "run", "--json"))
    assert (row["run"], row["epochs"], row["val_loss"]) == ("run", 12, run.metrics["validation"]["loss"])


def test_the_report_has_the_mean_beside_its_members(run):
    command("report", "run")
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert all(f">{name}" in page for name in ("run", "member-0", "member-1", "member-2"))
    assert "has changed" not in page
    contents = reporting._contents(run, "run")
    (confusion,) = contents.confusions.values()
    assert confusion.counts.trace() / confusion.counts.sum() == pytest.approx(run.metrics["validation"]["accuracy"])
    assert contents.alarms == []


def test_a_sweep_varies_the_number_of_members():
    command("sweep", "points.toml", "--set", "members=1,2", "--set", "trainer.epochs=1")
    rows = Sweep("sweeps/points").results()
    assert {row["members"]: row["epochs"] for row in rows} == {1: 1, 2: 2}
    assert all(row["val_loss"] is not None for row in rows)


def test_a_sweep_over_folds_says_how_one_network_is_trained():
    folds = ["sweep", "points.toml", "--folds", "2", "--out", "folds", "--set", "trainer.epochs=1"]
    said = command(*folds, status=1)
    assert (
        "members = 3 are not cross-validated: write members = 1 in the file, or --set members=1; or leave out" in said
    )
    command(*folds, "--set", "members=1")
    assert [row["state"] for row in Sweep("folds").results()] == ["complete"] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["members=0"], "setting 'members' must be greater than or equal to 1; got 0"),
        (["fold=0"], "members = 3 are not cross-validated: write members = 1 in the file"),
        ([MODEL], "members = 3 start from different weights, so the model needs a seed, which Residual does not have"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, said):
    assert said in command(
        "train", "points.toml", *(flag for change in changes for flag in ("--set", change)), status=1
    )
