"""One folder serves one run: what is found in it at the start is never mixed with another run's files."""

import os
import warnings

import numpy as np
import pytest
from left_out import hooks_differ
from saved_pieces import X, Y, recipe as short_recipe

from framework import Checkpoint, Neuron, SettingsError, latest, load, on, save


def recipe(*callbacks, **settings):
    return short_recipe(*callbacks, **{"batch_size": 2, "epochs": 3} | settings)  # 9 steps


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_a_resumed_run_does_not_mix_with_the_files_of_another(folder, tmp_path):
    recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    other = recipe(epochs=1).fit(Neuron(2), (X, Y))
    with pytest.raises(SettingsError, match="holds another run's"):
        recipe(Checkpoint(folder=folder)).resume(other, (X, Y))
    assert recipe(Checkpoint(folder=tmp_path / "own")).resume(other, (X, Y)).epoch == 3


def test_a_folder_of_damaged_files_is_refused(folder):
    folder.mkdir()
    (folder / "step-000000001.safetensors").write_bytes(b"damaged")
    with (
        pytest.warns(UserWarning, match="latest: skipped"),
        pytest.raises(SettingsError, match=r"holds 'step-000000001.safetensors', which cannot be loaded"),
    ):
        recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))


def test_two_savers_do_not_share_a_folder(folder):
    with pytest.raises(SettingsError, match="must not hold two Checkpoints of one folder"):
        recipe(Checkpoint(folder=folder), Checkpoint(folder=folder / ".", every=10))


def test_a_folder_that_cannot_be_written_is_refused_at_fit(tmp_path):
    (tmp_path / "file").write_text("no folder")
    model = Neuron(2)
    before = model.parameters.vector.copy()
    for path in (tmp_path / "file", tmp_path / "file" / "inside", "/proc/no/such"):
        with pytest.raises(SettingsError, match=f"'folder' must be a folder that can be written; got '{path}'"):
            recipe(Checkpoint(folder=path)).fit(model, (X, Y))
    assert np.array_equal(model.parameters.vector, before)


def test_a_new_run_does_not_mix_with_the_files_of_another(folder):
    recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    before = names(folder)
    with pytest.raises(SettingsError, match=r"holds another run's 'step-000000009.safetensors' already; resume it"):
        recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert names(folder) == before


@pytest.mark.parametrize("when", [1, 4], ids=["before the first save", "later"])
@pytest.mark.parametrize("door", ["fit", "resume"])
@hooks_differ
def test_a_run_that_begins_while_another_one_trains_in_the_folder_is_refused(when, door, folder, tmp_path):
    save(recipe().fit(Neuron(2), (X, Y), epochs=1), tmp_path / "elsewhere.safetensors")
    refused = []

    @on("batch_end")
    def begin_another(run):
        if run.step == when:
            other, path = recipe(Checkpoint(folder=folder)), latest(folder) or tmp_path / "elsewhere.safetensors"
            begin = {"fit": lambda: other.fit(Neuron(2), (X, Y)), "resume": lambda: other.resume(path, (X, Y))}[door]
            with pytest.raises(SettingsError, match=r"one that no other run is saving into; got '.*checkpoints'"):
                begin()
            refused.append(run.step)

    run = recipe(begin_another, Checkpoint(folder=folder, keep=9)).fit(Neuron(2), (X, Y))
    assert refused == [when]
    assert [load(folder / name).identity for name in names(folder)] == [run.identity] * 3


def test_a_run_that_began_and_ended_between_the_checks_and_the_first_step_is_seen(folder):
    other = on("train_begin")(lambda _run: recipe(Checkpoint(folder=folder, keep=9)).fit(Neuron(2), (X, Y)))
    with pytest.raises(SettingsError, match=r"another run's 'step-000000009.safetensors' already"):
        recipe(other, Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert len(names(folder)) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")
def test_a_run_that_was_killed_before_its_first_save_blocks_nobody(folder):
    die = on("batch_end")(lambda _run: os._exit(9))
    with warnings.catch_warnings():
        for category in (DeprecationWarning, RuntimeWarning):  # NumPy and JAX have threads; the child uses none
            warnings.simplefilter("ignore", category)
        process = os.fork()
    if process == 0:
        recipe(die, Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert names(folder) == []
    assert recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y)).epoch == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")
def test_a_run_that_was_killed_while_its_worker_lives_on_blocks_nobody(folder):
    (waits, ends), (begun, begins) = os.pipe(), os.pipe()

    def fork():
        with warnings.catch_warnings():
            for category in (DeprecationWarning, RuntimeWarning):  # NumPy and JAX have threads; the child uses none
                warnings.simplefilter("ignore", category)
            return os.fork()

    def die_after_forking(_run):
        if fork() == 0:
            os.close(ends)
            os.write(begins, b".")  # by now it has closed the lock that it inherited
            os.read(waits, 1)  # until the test is over
        else:
            os.read(begun, 1)
        os._exit(9)

    process = fork()
    if process == 0:
        recipe(on("batch_end")(die_after_forking), Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y)).epoch == 3
    for end in (waits, ends, begun, begins):
        os.close(end)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")
def test_a_forked_process_neither_holds_nor_gives_back_the_lock(folder):
    tried = []

    def fork_and_leave(_run):
        with warnings.catch_warnings():
            for category in (DeprecationWarning, RuntimeWarning):
                warnings.simplefilter("ignore", category)
            process = os.fork()
        if process == 0:
            raise SystemExit  # ends fit in the child, as a pool's worker may
        os.waitpid(process, 0)
        with pytest.raises(SettingsError, match="no other run is saving into"):
            recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
        tried.append(True)

    parent = os.getpid()
    try:
        recipe(on("batch_end")(fork_and_leave), Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert tried == [True] * 9


def test_a_refused_or_failed_run_gives_the_folder_back(folder):
    fail = on("train_begin")(lambda _run: {}["missing"])
    with pytest.raises(KeyError):
        recipe(fail, Checkpoint(folder=folder)).fit(Neuron(2), (X, Y))
    assert recipe(Checkpoint(folder=folder)).fit(Neuron(2), (X, Y)).epoch == 3
