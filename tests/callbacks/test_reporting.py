"""The logs."""

import csv
import json

import numpy as np
import pytest

from framework import (
    CSVLog,
    JSONLog,
    MeanSquaredError,
    Neuron,
    ResumeWarning,
    SettingsError,
    SGDOptimizer,
    Trainer,
    on,
)

X, Y = np.arange(5.0)[:, None], np.arange(5.0)


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "batch_size": 2}
    return Trainer(**default | settings, callbacks=callbacks)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.csv"


def test_the_log_is_the_history_as_csv(log):
    run = recipe(CSVLog(path=str(log)), epochs=3).fit(Neuron(1), (X, Y), (X, Y))
    assert log.read_text() == run.history.to_csv()
    recipe(CSVLog(path=str(log))).fit(Neuron(1), (X, Y))  # a new run starts anew
    assert len(log.read_text().splitlines()) == 2


def test_the_log_is_on_disk_after_every_epoch(log):
    lengths = []
    look = on("epoch_end")(lambda run: lengths.append(log.read_text() == run.history.to_csv()))
    recipe(CSVLog(path=str(log)), look, epochs=3).fit(Neuron(1), (X, Y))
    assert lengths == [True] * 3


def test_the_log_of_a_resumed_run_holds_all_rows_and_columns(log, tmp_path):
    run = recipe(CSVLog(path=str(log)), epochs=2).fit(Neuron(1), (X, Y))
    with pytest.warns(ResumeWarning, match="validation: was none, now x float64"):
        recipe(CSVLog(path=str(log))).resume(run, (X, Y), (X, Y), epochs=2)
    assert log.read_text() == run.history.to_csv()
    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["val_loss"] == "" for row in rows] == [True, True, False, False]
    with pytest.warns(ResumeWarning, match="nothing is left to do"), pytest.warns(ResumeWarning, match="was none, now"):
        recipe(CSVLog(path=str(log))).resume(run, (X, Y), (X, Y))
    assert log.read_text() == run.history.to_csv()
    elsewhere = tmp_path / "other.csv"
    with pytest.warns(ResumeWarning, match="validation: was none, now x float64"):
        recipe(CSVLog(path=str(elsewhere))).resume(run, (X, Y), (X, Y), epochs=1)
    assert elsewhere.read_text() == run.history.to_csv()


@pytest.mark.parametrize("kind", [CSVLog, JSONLog])
def test_a_log_that_cannot_be_written_is_refused_before_training(kind, tmp_path):
    model = Neuron(1)
    before = model.parameters.vector.copy()
    with pytest.raises(SettingsError, match=r"Log: setting 'path' must be a file that can be written; .*missing"):
        recipe(kind(path=str(tmp_path / "missing" / "log.csv"))).fit(model, (X, Y))
    assert np.array_equal(model.parameters.vector, before)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_json_log_has_a_line_for_each_epoch_when_the_epoch_ends(tmp_path):
    log, lengths = tmp_path / "log.jsonl", []
    look = on("epoch_end")(lambda run: lengths.append(lines(log) == run.history.rows))
    run = recipe(JSONLog(path=log), look, epochs=3).fit(Neuron(1), (X, Y), (X, Y))
    assert lengths == [True] * 3
    assert [row["val_loss"] for row in lines(log)] == run.history["val_loss"]


def test_the_json_log_of_a_resumed_run_holds_all_rows(tmp_path):
    log = tmp_path / "log.jsonl"
    run = recipe(JSONLog(path=log), epochs=2).fit(Neuron(1), (X, Y))
    log.write_text(log.read_text() + '{"epoch": 3, "lo')  # as a kill may leave it
    recipe(JSONLog(path=log), epochs=4).resume(run, (X, Y), epochs=2)
    assert lines(log) == run.history.rows
    assert len(run.history) == 4


def test_the_json_log_writes_null_for_a_figure_that_is_not_finite(tmp_path):
    log = tmp_path / "log.jsonl"
    spoil = on("epoch_end")(lambda run: run.history[-1].update(größe=float("nan")))
    recipe(spoil, JSONLog(path=log)).fit(Neuron(1), (X, Y))
    assert lines(log)[0]["größe"] is None
