"""The logs."""

import csv
import json

import numpy as np
import pytest

from framework import (
    CSVLog,
    Dense,
    MeanSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Tanh,
    Trainer,
    on,
)
from framework.base import ResumeWarning
from framework.training import JSONLog, RecordNorms

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
    look = on("epoch_begin")(lambda run: lengths.append(log.read_text() == (run.history.to_csv() if run.epoch else "")))
    recipe(CSVLog(path=str(log)), look, epochs=3).fit(Neuron(1), (X, Y))
    assert lengths == [True] * 3


@pytest.mark.parametrize("kind", [CSVLog, JSONLog])
def test_a_log_has_the_columns_that_later_callbacks_add(kind, log):
    add = on("epoch_end")(lambda run: run.history[-1].update(added=run.epoch / 2))
    run = recipe(kind(path=log), add, epochs=2).fit(Neuron(1), (X, Y))
    assert log.read_text() == (run.history.to_csv() if kind is CSVLog else "".join(map(line, run.history)))


@pytest.mark.parametrize("kind", [CSVLog, JSONLog])
def test_a_log_has_the_epoch_in_whose_end_another_callback_fails(kind, log):
    fail = on("epoch_end")(lambda run: 1 / (2 - run.epoch))
    with pytest.raises(ZeroDivisionError) as caught:
        recipe(fail, kind(path=log), epochs=3).fit(Neuron(1), (X, Y))
    history = caught.value.run.history
    assert len(history) == 2
    assert log.read_text() == (history.to_csv() if kind is CSVLog else "".join(map(line, history)))


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


def line(row):
    return json.dumps(row) + "\n"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_json_log_has_a_line_for_each_epoch_when_the_epoch_ends(tmp_path):
    log, lengths = tmp_path / "log.jsonl", []
    look = on("epoch_begin")(lambda run: lengths.append(lines(log) == run.history.rows))
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


def test_norms_of_layers_are_those_of_numpy_over_all_parameters_of_a_layer():
    model = Sequential(Dense(2, 3, Tanh()), Dense(3, 1))
    x, y = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6.0)[:, None]
    found = []

    @on("gradients")
    def record(run):
        found.append({name: array.copy() for name, array in run.model.parameters.gradients.items()})

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=3, epochs=2)
    run = trainer.replace(callbacks=[RecordNorms(), record]).fit(model, (x, y))
    for layer in "01":
        parts = [np.concatenate([each[f"{layer}.weights"].ravel(), each[f"{layer}.bias"]]) for each in found]
        norms = [np.linalg.norm(part) for part in parts]
        wanted = [np.mean(norms[:2]), np.mean(norms[2:])]
        assert run.history[f"gradient_norm_{layer}"] == pytest.approx(wanted, rel=1e-14)
        final = np.concatenate([model.parameters[f"{layer}.weights"].ravel(), model.parameters[f"{layer}.bias"]])
        assert run.history[-1][f"weight_norm_{layer}"] == pytest.approx(np.linalg.norm(final), rel=1e-14)


def test_norms_of_an_epoch_are_whole_after_a_resume_in_its_middle():
    def trained(*more):
        trainer = Trainer(
            loss=MeanSquaredError(),
            optimizer=SGDOptimizer(learning_rate=0.1),
            batch_size=1,
            epochs=2,
            callbacks=[RecordNorms(), *more],
        )
        return trainer, trainer.fit(Dense(1, 1), ([[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]))

    @on("batch_end")
    def stop(run):
        if run.step == 2:
            run.stop("in the middle")

    _, whole = trained()
    trainer, part = trained(stop)
    resumed = trainer.resume(part, ([[1.0], [2.0], [3.0]], [[1.0], [0.0], [2.0]]))
    assert resumed.history["gradient_norm"] == whole.history["gradient_norm"]
