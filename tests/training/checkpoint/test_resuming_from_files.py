"""When a run can be saved, and how it goes on from a file: what is told, refused and kept."""

import copy
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from left_out import hooks_differ
from saved_pieces import X, Y, network, recipe

from framework import (
    L2,
    BatchNorm,
    Callback,
    Checkpoint,
    CSVLog,
    DataError,
    Dense,
    EarlyStopping,
    HalfSquaredError,
    Neuron,
    ProgressBar,
    Sequential,
    SettingsError,
    SGDOptimizer,
    latest,
    load,
    on,
    save,
)
from framework.base import ResumeWarning, UsageError
from framework.models import Regularizer
from framework.training import TraceSteps
from framework.training.verification import differences

pytestmark = hooks_differ


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


# When a run can be saved


@pytest.mark.parametrize("hook", ["train_begin", "epoch_begin", "batch_end", "epoch_end", "train_end"])
def test_a_last_callback_may_save_between_steps(hook, path):
    @on(hook)
    def saving(run):
        save(run, path)

    recipe(EarlyStopping(monitor="loss"), saving, epochs=2).fit(network(), (X, Y))
    assert load(path).epoch in (0, 1, 2)


@pytest.mark.parametrize("hook", ["batch_begin", "gradients"])
def test_a_run_is_not_saved_within_a_step(hook, path):
    @on(hook)
    def saving(run):
        save(run, path)

    with pytest.raises(UsageError, match="the step is not finished; save in on_batch_end or on_epoch_end"):
        recipe(saving).fit(network(), (X, Y))
    assert not path.exists()


def test_a_run_is_not_saved_while_a_later_callback_has_not_seen_the_epoch(path):
    @on("epoch_end")
    def saving(run):
        save(run, path)

    with pytest.raises(UsageError, match=r"on_epoch_end of EarlyStopping\(.*\) has not been called yet"):
        recipe(saving, EarlyStopping(monitor="loss")).fit(network(), (X, Y))

    class Saver(Callback):
        writes = True

        def on_epoch_end(self, run):
            save(run, path)

    recipe(Saver(), EarlyStopping(monitor="loss")).fit(network(), (X, Y))
    assert load(path).memories["EarlyStopping.0"]["best_epoch"] == 1


def test_a_run_is_not_saved_from_within_a_formula(path):
    class Spy(L2):
        def backward(self, model):
            with pytest.raises(UsageError) as caught:
                save(runs[0], path)
            seen.append(caught.value)
            return super().backward(model)

    seen, runs = [], []
    remember = on("train_begin")(runs.append)
    recipe(remember, regularizers=[Spy(strength=0.1)]).fit(network(), (X, Y))
    assert len(seen) == 2
    assert "the step is not finished" in str(seen[0])
    assert not path.exists()


def test_a_run_cut_off_in_an_update_is_not_saved(path):
    run = recipe().fit(Neuron(2), (X, Y))
    run.optimizer.updating = True
    with pytest.raises(UsageError, match="interrupted in the middle of an update; load the last checkpoint"):
        save(run, path)


# Going on


def test_resume_takes_a_path(path):
    straight = recipe(epochs=4).fit(network(), (X, Y))
    save(recipe(epochs=4).fit(network(), (X, Y), epochs=2), path)
    for given in (path, str(path)):
        assert list(differences(straight, recipe(epochs=4).resume(given, (X, Y)))) == []
    assert recipe().resume(path, (X, Y), epochs=1).epoch == 3


CHANGES = {
    "optimizer: was SGDOptimizer(.*), now SGDOptimizer(.*); the run keeps its own": {
        "optimizer": SGDOptimizer(learning_rate=0.5)
    },
    "seed: was 0, now 7; the run keeps its own": {"seed": 7},
    "batch_size: was 4, now 2": {"batch_size": 2},
    "shuffle: was True, now False": {"shuffle": False},
}


@pytest.mark.parametrize(("line", "change"), CHANGES.items(), ids=[next(iter(c)) for c in CHANGES.values()])
def test_changed_settings_are_told(line, change, path):
    save(recipe().fit(Neuron(2), (X, Y)), path)
    with pytest.warns(ResumeWarning, match=line):
        run = recipe(**change).resume(path, (X, Y), epochs=1)
    assert (run.seed, run.optimizer.learning_rate) == (0, 0.01)


class Scale(Callback):
    """Changes what is learnt, and remembers nothing."""

    factor: float

    def on_gradients(self, run):
        run.model.parameters.gradient *= self.factor


CALLBACKS = {
    r"callback Scale.0: was Scale\(factor=2.0\), now Scale\(factor=3.0\)": (Scale(factor=2), Scale(factor=3)),
    r"callback Scale.0: was Scale\(factor=2.0\), now absent": (Scale(factor=2), None),
    r"callback Scale.0: was absent, now Scale\(factor=3.0\)": (None, Scale(factor=3)),
}


@pytest.mark.parametrize(("line", "callbacks"), CALLBACKS.items(), ids=["changed", "left out", "new"])
def test_another_callback_is_told(line, callbacks, path):
    before, after = ([callback] if callback else [] for callback in callbacks)
    save(recipe(*before).fit(Neuron(2), (X, Y)), path)
    with pytest.warns(ResumeWarning, match=line):
        recipe(*after).resume(path, (X, Y), epochs=1)


def drift(default):
    class Drift(Callback):
        factor: float = default

    return Drift()


def ridge(default):
    class Ridge(Regularizer):
        strength: float = default

        def value(self, values):
            return (values**2).sum()

    return Ridge()


def test_a_changed_default_is_told(path):
    save(recipe(drift(0.1), regularizers=[ridge(0.1)]).fit(Neuron(2), (X, Y)), path)
    recipe(drift(0.1), regularizers=[ridge(0.1)]).resume(path, (X, Y), epochs=1)
    with pytest.warns(ResumeWarning) as caught:
        recipe(drift(50), regularizers=[ridge(50)]).resume(path, (X, Y), epochs=1)
    _, regularizers, callback = str(caught[0].message).splitlines()
    assert regularizers.startswith("regularizers: was (Ridge(strength=0.1, ")
    assert callback == "callback Drift.0: was Drift(factor=0.1), now Drift(factor=50.0)"


def test_callbacks_that_only_observe_are_not_told(tmp_path):
    observers = [ProgressBar(), CSVLog(path=tmp_path / "log.csv"), Checkpoint(folder=tmp_path / "folder")]
    run = recipe(*observers, TraceSteps()).fit(Neuron(2), (X, Y))
    recipe(TraceSteps(limit=1)).resume(run, (X, Y), epochs=1)
    recipe().resume(run, (X, Y), epochs=1)
    recipe().replace(progress=False).resume(run, (X, Y), epochs=1)
    recipe(ProgressBar(seconds=3)).resume(run, (X, Y), epochs=1)


@pytest.mark.parametrize("change", ["one value", "two rows exchanged", "a row more", "weights"])
def test_changed_data_are_told(change, path):
    save(recipe().fit(Neuron(2), (X, Y), (X, Y)), path)
    x, y = X.copy(), Y.copy()
    data = {
        "one value": lambda: (np.nextafter(x, np.where(np.arange(12).reshape(6, 2) == 7, 9, x)), y),
        "two rows exchanged": lambda: (x[[0, 2, 1, 3, 4, 5]], y[[0, 2, 1, 3, 4, 5]]),
        "a row more": lambda: (np.concatenate([x, x[:1]]), np.append(y, 0)),
        "weights": lambda: (x, y, np.ones(6)),
    }[change]()
    for given, which in (((data, (X, Y)), "data"), (((X, Y), data), "validation")):
        with pytest.warns(ResumeWarning, match=f"{which}: was x float64"):
            recipe().resume(path, *given, epochs=1)


def test_other_forms_of_the_same_data_are_no_change(path):
    save(recipe().fit(Neuron(2), (X, Y)), path)
    recipe().resume(path, (X.tolist(), Y.astype(int)), epochs=1)
    recipe().resume(path, (np.asfortranarray(X), Y.reshape(-1, 1)), epochs=1)


def test_another_version_is_told(path):
    run = recipe().fit(Neuron(2), (X, Y))
    run.recipe["versions"] = "framework 0.0.1, NumPy 2.0.0, x86_64"
    save(run, path)
    with pytest.warns(ResumeWarning, match=r"versions: was framework 0.0.1, NumPy 2.0.0, x86_64, now framework"):
        recipe().resume(path, (X, Y), epochs=1)


def test_what_is_told_is_told_against_the_beginning(path):
    run = recipe().fit(Neuron(2), (X, Y))
    with pytest.warns(ResumeWarning, match="seed: was 0, now 5"):
        recipe(seed=5).resume(run, (X, Y), epochs=1)
    recipe().resume(run, (X, Y), epochs=1)  # as it began
    save(run, path)
    with pytest.warns(ResumeWarning, match="seed: was 0, now 7"):
        recipe(seed=7).resume(path, (X, Y), epochs=1)


def test_a_warning_points_at_the_callers_line(path):
    save(recipe().fit(Neuron(2), (X, Y)), path)
    with pytest.warns(ResumeWarning) as caught:
        recipe(seed=1).resume(path, (X, Y), epochs=1)
    assert caught[0].filename == __file__


def test_an_epoch_is_finished_with_the_metrics_that_it_began_with(path):
    @on("batch_end")
    def stop(run):
        run.stop("in the middle")

    save(recipe(stop, metrics=[HalfSquaredError()]).fit(Neuron(2), (X, Y)), path)
    with pytest.raises(UsageError, match=r"has counted the metrics \(HalfSquaredError\(\),\); got \(\)"):
        recipe().resume(path, (X, Y))
    assert recipe(metrics=[HalfSquaredError()]).resume(path, (X, Y)).epoch == 1


def test_a_fit_with_epochs_of_its_own_goes_on_to_them_after_a_kill(path):
    class Saver(Callback):
        writes = True

        def on_epoch_end(self, run):
            if run.epoch == 2:
                save(run, path)

    straight = recipe(Saver()).fit(Neuron(2), (X, Y), epochs=4)
    assert recipe().resume(path, (X, Y)).epoch == straight.epoch == 4
    assert recipe(epochs=3).resume(path, (X, Y)).epoch == 3  # a trainer with another number means it


def test_the_number_of_epochs_that_counts_is_that_of_the_trainer_which_set_it_last(path):
    run = recipe(epochs=1).fit(Neuron(2), (X, Y))
    saver = on("epoch_end")(lambda run: save(run, path) if run.epoch == 2 else None)
    recipe(saver, epochs=9).resume(run, (X, Y))
    for trainer, end in ((recipe(saver, epochs=9), 9), (recipe(saver, epochs=3), 3), (recipe(saver, epochs=1), 2)):
        assert trainer.resume(path, (X, Y)).epoch == end


def test_a_resume_that_is_refused_changes_nothing(path):
    class Stop(Callback):
        writes = True

        def on_epoch_end(self, run):
            run.stop("enough")
            save(run, path)

    recipe(Stop(), epochs=3).fit(Neuron(2), (X, Y))
    run = load(path)
    with pytest.raises(DataError):
        recipe(epochs=3).resume(run, (X * np.nan, Y), epochs=2)
    with pytest.raises(SettingsError, match="'folder' must be"):
        recipe(Checkpoint(folder=path), epochs=3).resume(run, (X, Y), epochs=2)
    assert (run.stop_reason, run.target_epoch) == ("enough", 3)


def test_another_loss_is_refused(path):
    save(recipe().fit(Neuron(2), (X, Y)), path)
    with pytest.raises(UsageError, match=r"the run minimizes MeanSquaredError\(\), the trainer HalfSquaredError\(\)"):
        recipe(loss=HalfSquaredError()).resume(path, (X, Y))


def test_a_stop_that_was_to_come_when_the_run_was_saved_still_comes(path):
    """As when the process is killed just after the save: the run would have ended there."""

    class Saver(Callback):
        writes = True

        def on_epoch_end(self, run):
            save(run, path)

    stopping = EarlyStopping(monitor="loss", patience=1, min_delta=1e9)
    run = recipe(stopping, Saver(), epochs=5).fit(Neuron(2), (X, Y))
    assert run.epoch == 2
    resumed = recipe(stopping, epochs=5).resume(path, (X, Y))
    assert list(differences(run, resumed)) == []
    assert recipe(stopping, epochs=5).resume(path, (X, Y), epochs=2).epoch == 3  # who asks for more gets more
    assert recipe(stopping, epochs=5).resume(run, (X, Y)).epoch == 3  # a stop that has taken effect is over


def test_a_copy_made_within_a_step_counts_running_statistics_once():
    copies = []

    @on("gradients")
    def keep(run):
        copies.append(copy.deepcopy(run))

    straight = recipe(keep).fit(Sequential(Dense(2, 3), BatchNorm(3), Dense(3, 1)), (X, Y))
    assert list(differences(straight, recipe().resume(copies[1], (X, Y)))) == []


def test_the_newest_whole_file_is_found_and_damaged_ones_are_named(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None
    run = recipe().fit(Neuron(2), (X, Y))
    for age, name in enumerate(("c", "a", "b")):  # the newest is that which was written last, whatever its name
        save(run, tmp_path / f"{name}.safetensors")
        os.utime(tmp_path / f"{name}.safetensors", (age, age))
    (tmp_path / "notes.txt").write_text("no checkpoint")
    assert latest(tmp_path) == tmp_path / "b.safetensors"
    data = bytearray((tmp_path / "b.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "b.safetensors").write_bytes(data)
    with pytest.warns(UserWarning, match=r"latest: skipped '.*b.safetensors' cannot be loaded: it is damaged"):
        assert latest(str(tmp_path)) == tmp_path / "a.safetensors"


def test_a_file_keeps_its_mode(path):
    run = recipe().fit(Neuron(2), (X, Y))
    save(run, path)
    Path(path).chmod(0o640)
    save(run, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
