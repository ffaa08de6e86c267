"""Reports of the folders of runs, one and several, as far as their data and their classes are there."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, needs_chromium
from experiment_pieces import command
from report_pieces import Page

import framework.experiments.views.reporting
from framework import (
    CSV,
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    CheckpointError,
    EarlyStopping,
    Experiment,
    Neuron,
    Preprocess,
    Sigmoid,
    Trainer,
    load,
)
from framework.base.tables import figure
from framework.experiments import Sweep
from framework.experiments.folder import RunFolder
from framework.training import TraceSteps


def table(path, seed=0):
    rows = np.random.default_rng(seed).normal(size=(60, 2)).round(3).tolist()
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "side"], *([*row, "left" if row[0] < 0 else "right"] for row in rows)])


def experiment(rate, **settings):
    data = CSV("points.csv", target="side")
    return Experiment(
        data=data,
        model=Neuron(activation=Sigmoid()),
        trainer=Trainer(
            loss=BinaryCrossEntropy(),
            optimizer=AdamOptimizer(learning_rate=rate),
            epochs=3,
            batch_size=16,
            metrics=[Accuracy()],
            callbacks=[EarlyStopping(patience=2)],
            preprocess=Preprocess.of(data),
        ),
        validation=0.25,
        **settings,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two runs, and their reports."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        table("points.csv")
        for name, rate in (("slow", 0.01), ("fast", 0.1)):
            RunFolder.create(name, experiment(rate).moved(place), ["train", "a <b>.toml"]).train()
        command("report", "slow", "--out", "one.html")
        command("report", "slow", "fast", "--out", "both.html")
    return place


@pytest.fixture
def place(trained, monkeypatch, tmp_path):
    """A copy of the runs whose table may be changed."""
    monkeypatch.chdir(tmp_path)
    for source in (path for path in trained.rglob("*") if path.is_file()):
        target = tmp_path / source.relative_to(trained)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_bytes().replace(str(trained).encode(), str(tmp_path).encode())
        target.write_bytes(source.read_bytes() if source.suffix == ".safetensors" else text)
    return tmp_path


def page(path):
    return Page(Path(path).read_text(encoding="utf-8"))


def test_the_report_of_a_folder_has_its_history_metrics_settings_and_columns(trained):
    found, folder = page(trained / "one.html"), RunFolder(trained / "slow")
    np.testing.assert_allclose(
        [series["y"] for series in found.charts["loss"]],
        [[row[key] for row in folder.history()] for key in ("loss", "val_loss")],
        rtol=1e-6,
    )
    rows = {row[0]: row[1:] for row in found.table("final weights")}
    judged = [folder.metrics["validation"], *folder.beside.values()]
    assert rows["accuracy"][-3:] == [f"{figures['accuracy']:.6g}" for figures in judged]
    assert [row[0] for row in found.table("column", "becomes")] == ["column", "x", "y", "side"]
    head, *rows, _ = found.table("left", "recall")
    assert (head[1:3], sum(int(cell) for row in rows for cell in row[1:3])) == (["left", "right"], 15)
    assert ["command", "framework train 'a <b>.toml'"] in found.tables[1]
    assert "type = &quot;AdamOptimizer&quot;" in found.text
    assert 'class="alarm"' not in found.text


def test_the_first_steps_of_a_neuron_are_made_again_to_the_same_numbers(trained):
    folder = RunFolder(trained / "slow")
    again = folder.experiment
    data, _ = again.parts()
    run = again.trainer.replace(callbacks=[TraceSteps(limit=3, keep="first")], epochs=3).fit(again.model, data)
    assert np.array_equal(run.model.weights, load(folder.newest).model.weights)  # so these were the steps of the run
    rows = {row[0]: row[1:] for row in page(trained / "one.html").table("quantity", "step 3")}
    for place, step in enumerate(run.memories["TraceSteps.0"]["steps"]):
        shown = np.fromstring(rows["new weights"][place].strip("[]"), sep=",")
        np.testing.assert_allclose(shown, step["new_weights"], rtol=1e-5)


def test_several_runs_are_side_by_side_with_what_differs_and_the_best_first(trained):
    found = page(trained / "both.html")
    head, *rows = found.tables[0]
    assert head[1:] == ["fast", "slow", "a linear model", "the commonest class alone"]
    rows = {row[0]: row[1:] for row in rows}
    compared = json.loads(command("compare", trained / "fast", trained / "slow", "--json"))
    assert compared[0]["val_loss"] < compared[1]["val_loss"]
    assert "<title>2 runs, the smallest val_loss first</title>" in found.text
    assert rows["trainer.optimizer.learning_rate"] == ["0.1", "0.01", "", ""]
    beside = [figures["accuracy"] for figures in RunFolder(trained / "slow").beside.values()]
    expected = [*(row["val_accuracy"] for row in compared), *beside]
    assert rows["val_accuracy"] == [f"{accuracy:.6g}" for accuracy in expected]
    assert [series["name"] for series in found.charts["loss"]] == [
        f"{run}: {kind}"
        for run in ("fast: learning_rate 0.1", "slow: learning_rate 0.01")
        for kind in ("training", "validation")
    ]
    assert len({series["color"] for series in found.charts["loss"]}) == 2


def test_a_report_claims_no_order_where_no_run_has_a_figure(place):
    for name in ("fast", "slow"):
        (place / name / "history.jsonl").write_text("")
        (place / name / "metrics.json").unlink()
    command("report", "fast", "slow", "--out", "new.html")
    assert "<title>2 runs</title>" in page("new.html").text


@pytest.fixture(scope="module")
def sweep(trained):
    """A sweep of eight trials, and its report."""
    changes = ["trainer.optimizer.learning_rate=0.001,0.01,0.1,1.0", 'trainer.engine="numpy","auto"']
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        sweep = Sweep.create("tried", experiment(0.1).moved(trained), [*changes, "trainer.batch_size=8"])
        sweep.run()
        command("report", "tried", "--out", "tried.html")
    return sweep


def test_the_report_of_a_sweep_has_its_trials_the_best_first(trained, sweep):
    found, ranked = page(trained / "tried.html"), sweep.ranked()
    assert "<title>tried, the smallest val_loss first</title>" in found.text
    head, *rows = found.tables[0]
    assert head == ["", "val_loss", "learning_rate", "engine", "epochs", "state"]
    assert [row[0] for row in rows] == [row["run"] for row in ranked]
    assert [row[1] for row in rows] == [figure(row["val_loss"]) for row in ranked]
    assert [float(row[2]) for row in rows] == [row["trainer.optimizer.learning_rate"] for row in ranked]
    assert [row[3] for row in rows] == [row["trainer.engine"] for row in ranked]


def test_the_report_of_a_sweep_draws_the_objective_over_each_setting(trained, sweep):
    raw = json.loads(page(trained / "tried.html").raw["script"][0])
    rates, engines = raw[:2]
    ranked = sweep.ranked()
    assert (rates["title"], rates["log"], rates["names"]) == ("val_loss over learning_rate", True, [])
    every, best = rates["series"]
    expected = sorted((row["trainer.optimizer.learning_rate"], row["val_loss"]) for row in ranked)
    assert sorted(zip(every["x"], every["y"], strict=True)) == expected
    assert [value for value in best["y"] if value is not None] == [ranked[0]["val_loss"]]
    assert rates["runs"][best["y"].index(ranked[0]["val_loss"])] == ranked[0]["run"]
    assert engines["names"] == [*dict.fromkeys(row["trainer.engine"] for row in ranked)]
    assert not engines["log"]


def test_the_report_of_a_sweep_has_the_curves_of_the_best_runs_named_by_their_settings(trained, sweep):
    found = page(trained / "tried.html")
    best = [
        f"{row['run']}: learning_rate {row['trainer.optimizer.learning_rate']:g}, engine {row['trainer.engine']}"
        for row in sweep.ranked()[:5]
    ]
    assert [series["name"] for series in found.charts["loss"]] == [
        f"{name}: {kind}" for name in best for kind in ("training", "validation")
    ]


def test_a_sweep_that_has_not_begun_has_a_report_without_charts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table("points.csv")
    Sweep.create("new", experiment(0.1), ["trainer.optimizer.learning_rate=0.1,1.0"])
    command("report", "new")
    found = page("report.html")
    assert found.tables[0][-1] == ["state", "new", "new"]
    assert "<title>new</title>" in found.text
    assert found.charts == {}


@needs_chromium
def test_chromium_draws_the_trials_without_an_error(trained, sweep):
    done = chromium((trained / "tried.html").as_uri())
    charts = len(json.loads(page(trained / "tried.html").raw["script"][0]))
    assert f'data-drawn="{charts}"' in done.stdout
    assert "CONSOLE" not in done.stderr
    assert f"(run {sweep.ranked()[0]['run']})" in done.stdout  # the legend names the best without a cursor


@pytest.mark.usefixtures("place")
def test_data_that_has_changed_is_said_and_its_first_steps_are_left_out():
    table("points.csv", seed=1)
    command("report", "slow", "--out", "new.html")
    found = page("new.html")
    assert "The validation data has changed since the run" in found.text
    assert "The data has changed since the run, so its first steps are not shown" in found.text
    assert "The first steps" not in found.text.replace("its first steps", "")


@pytest.mark.usefixtures("place")
def test_a_run_without_its_data_is_reported_all_but_what_needs_it():
    Path("points.csv").unlink()
    command("report", "slow", "--out", "new.html")
    found = page("new.html")
    assert "The data cannot be used, so what is computed from it is not shown." in found.text
    assert found.charts == page("one.html").charts
    assert [row[0] for row in found.table("column", "becomes")] == ["column", "x", "y", "side"]


def test_a_run_that_is_not_complete_says_so(place):
    (place / "slow" / "metrics.json").unlink()
    history = place / "slow" / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    history.write_text("".join(lines[:2]) + '{"epoch": 3, "lo')
    command("report", "slow", "--out", "new.html")
    found = page("new.html")
    assert "The run is not complete" in found.text
    assert found.charts["loss"][0]["x"] == [1, 2]
    for checkpoint in (place / "fast" / "checkpoints").iterdir():
        checkpoint.unlink()
    (place / "fast" / "history.jsonl").write_text("")
    (place / "fast" / "metrics.json").unlink()
    command("report", "fast", "--out", "new.html")
    assert "No epoch has been finished." in page("new.html").text


def test_what_others_wrote_into_the_files_of_a_run_stays_text(place):
    evil = "<script>alert(1)</script>"
    row = {"epoch": 4, "loss": evil, evil: 1.0, "huge": 10**400}
    history = place / "slow" / "history.jsonl"
    history.write_text(history.read_text() + json.dumps(row) + "\n")
    for name, changes in (("metrics.json", {"validation": {"loss": evil}}), ("run.json", {"started": evil})):
        file = place / "slow" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    command("report", "slow", "--out", "new.html")
    found = page("new.html")
    assert [tag for tag, _ in found.elements].count("script") == 3
    assert ["started", evil] in found.tables[1]
    assert found.charts["loss"][0]["y"][3] is None
    assert (found.charts[evil][0]["y"], found.charts["huge"][0]["y"]) == ([1.0], [None])


def test_lines_of_the_history_end_where_the_run_has_ended_them(place):
    history = place / "slow" / "history.jsonl"
    first, second, third = history.read_bytes().splitlines(keepends=True)
    named = second.replace(b'"loss"', '"a\u2028b": 7.0, "loss"'.encode(), 1)
    history.write_bytes(first + b"\xff\xfe\n" + named + third)
    command("report", "slow", "--out", "new.html")
    found = page("new.html").charts
    assert found["loss"][0]["x"] == [1, 2, 3]
    assert found["a\u2028b"][0]["y"] == [7.0]


@pytest.mark.usefixtures("place")
def test_a_run_of_classes_that_are_not_defined_is_reported_without_its_model(monkeypatch):
    def refused(path):
        raise CheckpointError(f"{path}: no class 'own:Leap' is defined; import the module that defines it first")

    monkeypatch.setattr(framework.experiments.views.reporting, "load", refused)
    command("report", "slow", "--out", "new.html")
    found = page("new.html")
    assert "The checkpoint cannot be loaded, so the model is not shown." in found.text
    assert "own:Leap" in found.text
    assert found.charts == page("one.html").charts


@pytest.mark.usefixtures("place")
def test_a_run_without_validation_data_says_why_it_has_no_confusion_matrix():
    recipe = experiment(0.05)
    recipe = recipe.replace(validation=None, trainer=recipe.trainer.replace(epochs=1, callbacks=[]))
    recipe.save("alone.toml")
    command("train", "alone.toml", "--out", "alone")
    command("report", "alone")
    said = "It is counted on validation data, which the experiment does not have: write validation = 0.2 in its file"
    assert said in Path("report.html").read_text()
