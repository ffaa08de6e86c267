"""A forked process meets no lock that a thread of its parent holds, and no work that such a thread has half done."""

import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
from forked import DEADLINE, end_child, fork, in_child, start_child

from framework import CSV, Dense, Parquet, Sequential
from framework.backends.step import Passes
from framework.base import UsageError
from framework.data import NPY
from framework.data.files import File
from framework.data.pieces import ahead
from framework.experiments.processes import Claims
from framework.models import Initializer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


class Paused:
    """A function that waits for ``go_on`` in every thread but the main one."""

    def __init__(self, function):
        self.function, self.begun, self.go_on = function, threading.Event(), threading.Event()

    def __get__(self, instance, owner=None):  # as a method of a class
        return self if instance is None else lambda *given: self(instance, *given)

    def __call__(self, *given, **named):
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            assert self.go_on.wait(DEADLINE)
        return self.function(*given, **named)


def while_paused(paused, work, function):
    """Return the exit code of a child that is forked while a thread is in the middle of ``work``."""
    thread = threading.Thread(target=work)
    thread.start()
    assert paused.begun.wait(DEADLINE)
    try:
        return in_child(function)
    finally:
        paused.go_on.set()
        thread.join()


class Slow(Initializer):
    """Numbers that take a while, as those of a large model do."""

    def __call__(self, shape, rng):
        BEGUN.set()
        time.sleep(0.2)
        return rng.normal(size=shape)


BEGUN = threading.Event()


def test_a_child_makes_models_and_finds_those_of_other_threads_whole():
    BEGUN.clear()
    shared, same = (Sequential(Dense(2, 2, initializer=Slow()), Dense(2, 2, initializer=Slow())) for _ in range(2))
    thread = threading.Thread(target=lambda: shared.parameters)
    thread.start()
    assert BEGUN.wait(DEADLINE)

    def use():
        assert Dense(2, 2).parameters.vector.size == 6
        assert shared[0]._state.parameters.vector.base is shared._state.parameters.vector
        assert np.array_equal(shared.parameters.vector, same.parameters.vector)

    assert in_child(use) == 0
    thread.join()


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_a_child_reads_tables_that_a_thread_was_reading(kind, tmp_path, monkeypatch):
    table = pd.DataFrame({"x": np.arange(9.0), "y": np.arange(9.0)})
    path = tmp_path / f"table.{kind}"
    if kind == "npy":
        np.save(path, table.to_numpy())
        data = NPY(str(path), str(path))
    else:
        (table.to_csv if kind == "csv" else table.to_parquet)(path, index=False)
        data = {"csv": CSV, "parquet": Parquet}[kind](str(path), target="y")
        len(data)  # opens it
    name = "open_plain" if kind == "npy" else "open"
    paused = Paused(getattr(File, name))
    monkeypatch.setattr(File, name, paused)

    def read():
        assert np.array_equal(np.asarray(data.read(2, 5)[1]).reshape(3, -1)[:, 0], [2.0, 3.0, 4.0])

    assert while_paused(paused, lambda: data.read(0, 9), read) == 0
    read()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_child_and_its_parent_read_an_open_file_without_moving_its_position_for_one_another(kind, tmp_path):
    rows, rng = 20_000, np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=rows), "y": np.arange(rows)})
    path = tmp_path / f"table.{kind}"
    (table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, row_group_size=500))
    data = {"csv": CSV, "parquet": Parquet}[kind](str(path), target="y")
    data.read(7, 9)  # so that the file is open, and some of its rows are decoded

    def read():
        for start in np.random.default_rng(os.getpid()).integers(0, rows - 900, 150).tolist():
            assert np.array_equal(data.read(start, start + 900)[1].to_numpy(), np.arange(start, start + 900))
        assert data.read(9, 10)[1].to_pylist() == [9]

    children = [start_child(read) for _ in range(2)]
    read()
    assert [*map(end_child, children)] == [0, 0]


def test_a_child_ends_a_training_whose_data_a_thread_reads_and_cannot_continue_it():
    paused = Paused(lambda number: number)

    def items():
        yield 0
        yield paused(1)

    made = ahead(items())
    assert next(made) == 0
    assert paused.begun.wait(DEADLINE)

    def go_on():
        with pytest.raises(UsageError, match=r"a forked process cannot continue .* os\._exit, or .* read_ahead=False"):
            next(made)

    assert [in_child(made.close), in_child(go_on)] == [0, 0]
    paused.go_on.set()
    assert [*made] == [1]


def test_a_child_computes_what_a_thread_was_computing(monkeypatch):
    models = [Dense(2, 2) for _ in range(2)]
    paused = Paused(Passes.run)
    monkeypatch.setattr(Passes, "run", paused)
    forward = [lambda model=model: model.forward([1.0, 2.0]) for model in models]
    assert while_paused(paused, *forward) == 0


def test_a_child_that_lives_on_keeps_no_claim_of_a_parent_that_was_killed(tmp_path):
    (waits, ends), (begun, begins) = os.pipe(), os.pipe()
    if (parent := fork()) == 0:
        signal.alarm(DEADLINE)
        claim = Claims(tmp_path).take("a")
        if fork() == 0:
            with claim:  # which is not the child's to give back
                pass
            os.write(begins, b".")
            os.close(ends)
            os.read(waits, 1)  # until the test is over
        else:
            os.read(begun, 1)
        os._exit(9)
    assert end_child(parent) == 9
    with Claims(tmp_path).take("a") as claim:
        assert [path.name for path in claim.before] == ["a.1"]
    for end in (waits, ends, begun, begins):
        os.close(end)
