"""The callback that saves while training goes on: which files there are, when, and what they go on from."""

import os
import time

import numpy as np
import pytest
from left_out import hooks_differ

from framework import (
    Checkpoint,
    CheckpointError,
    CSVLog,
    Dense,
    DivergedError,
    EarlyStopping,
    MeanSquaredError,
    Neuron,
    SettingsError,
    SGDOptimizer,
    Trainer,
    latest,
    load,
    load_model,
    on,
    save,
)
from framework.training.callbacks import saving
from framework.training.verification import differences

X = np.arange(10.0).reshape(5, 2) / 10
Y = np.array([0.1, 0.9, 0.2, 0.8, 0.3])


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1), "batch_size": 2, "epochs": 3}
    return Trainer(**default | settings, callbacks=callbacks)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def step(number):
    return f"step-{number:09}.safetensors"


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [6, 9]),
        ({"keep": 1}, [9]),
        ({"keep": 3}, [3, 6, 9]),
        ({"keep": 9}, [3, 6, 9]),
        ({"every": 2, "keep": 9}, [2, 4, 6, 8, 9]),
        ({"every": 1, "keep": 9}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"every": 100}, [9]),
        ({"every": "0.000001 seconds", "keep": 4}, [6, 7, 8, 9]),
        ({"every": "1000 seconds"}, [9]),
    ],
)
def test_the_newest_files_are_kept(settings, kept, folder):
    run = recipe(Checkpoint(folder=folder, **settings)).fit(Neuron(2), (X, Y))
    assert names(folder) == [step(number) for number in kept]
    assert latest(folder).name == step(9)
    for number in kept:
        assert load(folder / step(number)).step == number
    assert list(differences(run, load(latest(folder)))) == []


def test_every_file_goes_on_bit_for_bit(folder, tmp_path):
    stopping = EarlyStopping(monitor="loss", patience=9)
    straight = recipe(stopping).fit(Neuron(2), (X, Y))
    recipe(Checkpoint(folder=folder, every=1, keep=99), stopping).fit(Neuron(2), (X, Y))
    for path in folder.iterdir():
        run = recipe(stopping, Checkpoint(folder=tmp_path / "further")).resume(path, (X, Y))
        assert list(differences(straight, run)) == []


def test_an_old_file_goes_only_after_the_new_one_is_there(folder, monkeypatch):
    seen = []
    unlink = saving.os.unlink

    def watched(path, **options):
        if str(path).endswith(".safetensors"):
            seen.append([load(folder / name).step for name in names(folder)])
        unlink(path, **options)

    monkeypatch.setattr(saving.os, "unlink", watched)
    recipe(Checkpoint(folder=folder, keep=1)).fit(Neuron(2), (X, Y))
    assert seen == [[3, 6], [6, 9]]


def test_a_save_that_fails_leaves_the_last_good_file(folder, monkeypatch):
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=rf"'.*{step(9)}' cannot be written: No space left on device") as caught:
        recipe(Checkpoint(folder=folder, keep=1)).fit(Neuron(2), (X, Y))
    assert names(folder) == [step(6)]
    monkeypatch.undo()
    again = recipe(Checkpoint(folder=folder, keep=1)).resume(caught.value.run, (X, Y), epochs=1)
    assert load(latest(folder)).step == again.step == 12


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 4)])
def test_the_best_epoch_is_kept(mode, best, folder):
    values = iter([0.5, 0.3, float("nan"), 0.9, 0.3, float("inf")])

    @on("epoch_end")
    def score(run):
        run.history[-1]["seconds"] = next(values)

    recipe(score, Checkpoint(folder=folder, monitor="seconds", mode=mode), epochs=6).fit(Neuron(2), (X, Y))
    assert names(folder) == ["best.safetensors", step(15), step(18)]
    assert load(folder / "best.safetensors").epoch == best


def test_the_best_epoch_is_that_of_the_whole_run_also_after_a_resume(folder):
    values = iter([0.5, 0.1, 0.3, 0.2])

    @on("epoch_end")
    def score(run):
        run.history[-1]["loss"] = next(values)

    saver = Checkpoint(folder=folder, monitor="loss")
    recipe(score, saver, epochs=2).fit(Neuron(2), (X, Y))
    recipe(score, saver, epochs=4).resume(latest(folder), (X, Y))
    assert load(folder / "best.safetensors").epoch == 2


def test_a_resume_by_another_column_judges_the_earlier_epochs_by_it_too(folder):
    values = iter([0.5, 0.1, 0.3, 0.05])
    score = on("epoch_end")(lambda run: run.history[-1].update(loss=1.0 + next(values), seconds=0.1))
    recipe(score, Checkpoint(folder=folder, monitor="seconds"), epochs=2).fit(Neuron(2), (X, Y))
    recipe(score, Checkpoint(folder=folder, monitor="loss"), epochs=3).resume(latest(folder), (X, Y))
    assert load(folder / "best.safetensors").epoch == 1
    recipe(score, Checkpoint(folder=folder, monitor="loss"), epochs=4).resume(latest(folder), (X, Y))
    assert load(folder / "best.safetensors").epoch == 4


@hooks_differ
def test_an_interrupted_run_is_saved_where_it_is(folder):
    @on("batch_end")
    def interrupt(run):
        if run.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe(interrupt, Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert names(folder) == [step(3), step(4)]
    straight = recipe().fit(Neuron(2), (X, Y))
    assert list(differences(straight, recipe(Checkpoint(folder=folder)).resume(latest(folder), (X, Y)))) == []


def test_a_diverged_run_is_saved_with_its_last_finite_weights(folder):
    trainer = recipe(Checkpoint(folder=folder), optimizer=SGDOptimizer(learning_rate=1e160))
    with pytest.raises(DivergedError) as caught:
        trainer.fit(Dense(2, 1), (X, Y[:, None]))
    saved = load(latest(folder))
    assert saved.step == caught.value.run.step >= 1
    assert np.isfinite(saved.model.parameters.vector).all()


def hook_that_spoils(step):
    @on("batch_end")
    def spoil(run):
        if run.step == step:
            run.model.weights[0] = np.nan

    return spoil


@pytest.mark.parametrize(
    ("rate", "callbacks", "kept"),
    [(1e30, (), []), (0.1, (hook_that_spoils(5),), [4]), (0.1, (hook_that_spoils(6),), [5])],
    ids=["an update", "a hook in an epoch", "a hook at its end"],
)
def test_weights_that_are_not_finite_never_replace_a_good_file(rate, callbacks, kept, folder):
    saver = Checkpoint(folder=folder, every=1, keep=1, monitor="loss")
    trainer = recipe(*callbacks, saver, optimizer=SGDOptimizer(learning_rate=rate), batch_size=2)
    with pytest.raises(DivergedError) as caught:
        trainer.fit(Neuron(2, dtype="float32"), (1e6 * X, 1e6 * Y) if rate > 1 else (X, Y))
    assert not np.isfinite(caught.value.run.model.parameters.vector).all()
    assert names(folder) == [*(["best.safetensors"] if kept else []), *map(step, kept)]
    for name in names(folder):
        assert np.isfinite(load_model(folder / name).parameters.vector).all()


@pytest.mark.parametrize("every", ["epoch", 100, 2, "1000 seconds"])
@pytest.mark.parametrize("restore", [False, True])
def test_a_finished_training_that_is_started_again_has_nothing_to_do(every, restore, folder):
    stopping = EarlyStopping(monitor="loss", patience=1, min_delta=1e9, restore_best=restore)
    trainer = recipe(stopping, Checkpoint(folder=folder, every=every), epochs=9)
    run = trainer.fit(Neuron(2), (X, Y))
    assert run.epoch == 2
    assert np.array_equal(load_model(latest(folder)).parameters.vector, run.model.parameters.vector)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    for _ in range(2):
        again = trainer.resume(latest(folder), (X, Y))
        assert again.epoch == 2
        assert np.array_equal(again.model.parameters.vector, run.model.parameters.vector)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before


def test_the_best_is_saved_before_the_newest(folder, monkeypatch):
    """A kill between the two would otherwise leave an epoch that is the best by its history, and no file of it."""
    written = []
    monkeypatch.setattr(saving, "save", lambda run, path: (written.append(path.name), save(run, path)))
    recipe(Checkpoint(folder=folder, monitor="loss"), epochs=1).fit(Neuron(2), (X, Y))
    assert written == ["best.safetensors", step(3)]


def test_nothing_is_touched_when_the_folder_is_refused(folder, tmp_path):
    log = tmp_path / "log.csv"
    recipe(CSVLog(path=log), Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    before = log.read_text()
    with pytest.raises(SettingsError, match="holds another run's"):
        recipe(CSVLog(path=log), Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert log.read_text() == before


def test_what_cannot_be_saved_is_refused_at_fit(folder):
    class FunctionError(MeanSquaredError):
        function: object = print

    model = Neuron(2)
    with pytest.raises(CheckpointError, match="the run cannot be saved: FunctionError cannot be written as JSON"):
        recipe(Checkpoint(folder=folder), loss=FunctionError()).fit(model, (X, Y))


def test_a_run_that_goes_back_to_an_older_file_makes_that_the_newest(folder):
    recipe(Checkpoint(folder=folder, every=1, keep=9)).fit(Neuron(2), (X, Y))
    recipe(Checkpoint(folder=folder, every=1, keep=9), epochs=2).resume(folder / step(4), (X, Y))
    assert latest(folder).name == step(6)


def test_a_clock_that_is_set_back_costs_no_newer_file(folder):
    trainer = recipe(Checkpoint(folder=folder, monitor="loss"))
    trainer.replace(epochs=1).fit(Neuron(2), (X, Y))
    tomorrow = time.time() + 86400
    for name in names(folder):
        os.utime(folder / name, (tomorrow, tomorrow))
    trainer.resume(folder / step(3), (X, Y))
    assert names(folder) == ["best.safetensors", step(6), step(9)]
    assert latest(folder).name == step(9)


@pytest.mark.parametrize(
    "every",
    [0, -1, 2.5, True, "steps", "100 steps", "0.0 seconds", "00 seconds", "-1 seconds", "epochs", "1.5 steps", None],
)
def test_an_interval_that_is_none_is_refused(every):
    with pytest.raises(SettingsError, match=r"setting 'every' must be 'epoch', a number of steps .*'30 seconds'; got"):
        Checkpoint(folder="a", every=every)


def test_settings_travel_as_json():
    saver = Checkpoint(folder="a", every="30 seconds", keep=3, monitor="val_loss", mode="max")
    assert Checkpoint.from_json(saver.to_json()) == saver


def test_a_monitor_that_the_history_will_not_have_is_refused(folder):
    with pytest.raises(SettingsError, match="Checkpoint reads 'val_loss', which the history will not have"):
        recipe(Checkpoint(folder=folder, monitor="val_loss")).fit(Neuron(2), (X, Y))
    assert not folder.exists()


def test_between_saves_batches_cost_nothing():
    assert set(Checkpoint(folder="a").hooks()) == {"on_train_begin", "on_epoch_end", "on_train_end"}
    assert "on_batch_end" in Checkpoint(folder="a", every=5).hooks()
    assert "on_batch_end" not in Checkpoint(folder="a", every="5 seconds").hooks()


def test_a_time_leaves_the_compiled_engine_its_chunks_and_each_file_resumes_with_the_same_bits(folder):
    pytest.importorskip("llvmlite")
    x = np.random.default_rng(0).normal(size=(300, 2))
    data = x, np.tanh(x[:, 0])
    settings = {"engine": "compiled", "batch_size": 1, "epochs": 2}
    run = recipe(Checkpoint(folder=folder, every="0.000001 seconds", keep=999), **settings).fit(Neuron(2), data)
    steps = [load(folder / name).step for name in names(folder)]
    assert any(step % 300 for step in steps)
    assert len(steps) < 100
    for name in names(folder)[:-1]:
        resumed = recipe(**settings).resume(folder / name, data)
        assert np.array_equal(resumed.model.parameters.vector, run.model.parameters.vector)
