"""Flush to zero: what steps compute with it, and that the caller's mode comes back after every kind of exit."""

import itertools
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from framework import (
    Activation,
    DivergedError,
    HalfSquaredError,
    Metric,
    Neuron,
    Optimizer,
    SGDOptimizer,
    Stream,
    Trainer,
    on,
    save,
)
from framework.backends import arithmetic
from framework.backends.arithmetic import Flushing, flushes
from framework.base import ResumeWarning
from framework.training import HOOKS
from framework.training.training import Training

pytestmark = pytest.mark.skipif(not flushes(wanted=True), reason="this platform has no flush to zero to set")

TINY = np.float64(1e-310)
X = np.arange(7.0)[:, None]
DATA = X, 0.5 * X[:, 0]
modes = []


def flushing():
    """Whether the calling thread flushes now: a number, and NumPy's vectors, in the result and in the argument."""
    vector = np.full(64, TINY)
    found = {bool(TINY * 0.5 == 0), not (vector * 0.5).any(), not (vector * 1e300).any()}
    assert len(found) == 1
    return found == {True}


class Noting(Optimizer):
    """Descent that notes the mode of each step, and fails in the second one where it is told to."""

    fails: str = ""

    def update(self, values, gradients, rate, step):
        modes.append(flushing())
        if step == 2 and self.fails == "error":
            raise ValueError("in a step")
        if step == 2 and self.fails == "interrupt":
            for _ in range(2):  # the second one acts at once
                signal.raise_signal(signal.SIGINT)
        values -= rate * gradients


class Flushed(Metric):
    """The share of batches whose metrics are computed with flush to zero."""

    def sums(self, prediction, target, weight=None):
        return float(flushing()), 1.0

    def result(self, flushed, count):
        return flushed / count


def trainer(fails="", **settings):
    modes.clear()
    optimizer = Noting(learning_rate=0.01, fails=fails)
    return Trainer(**{"loss": HalfSquaredError(), "optimizer": optimizer, "batch_size": 3, "epochs": 2} | settings)


def test_a_scope_sets_the_mode_and_puts_it_back():
    with Flushing(wanted=True) as scope:
        assert flushing()
        with scope.pause():
            assert not flushing()
        assert flushing()
    assert not flushing()


def test_a_scope_that_is_not_wanted_leaves_the_mode_as_it_is():
    with Flushing(wanted=False) as scope, scope.pause():
        assert not flushing()
    with Flushing(wanted=True), Flushing(wanted=False):
        assert flushing()


def test_a_scope_inside_another_leaves_the_mode_of_the_outer_one():
    with Flushing(wanted=True):
        with Flushing(wanted=True) as inner, inner.pause():
            assert flushing()
        assert flushing()
    assert not flushing()


def test_steps_flush_but_hooks_validation_and_data_do_not():
    seen = {}

    def noting(name):
        return on(name)(lambda _run: seen.setdefault(name, flushing()))

    class Rows:
        def __len__(self):
            return len(X)

        def read(self, start, stop):
            seen["data"] = flushing()
            return X[start:stop], DATA[1][start:stop]

    hooks = [hook.removeprefix("on_") for hook in HOOKS]
    settings = {"metrics": [Flushed()], "callbacks": [noting(hook) for hook in hooks]}
    run = trainer(**settings).fit(Neuron(1), Rows(), validation=DATA)
    assert set(modes) == {True}
    assert seen == dict.fromkeys([*hooks, "data"], False)
    assert (run.history[-1]["flushed"], run.history[-1]["val_flushed"], flushing()) == (1.0, 0.0, False)


def test_without_the_setting_steps_keep_the_mode_of_the_caller():
    trainer(flush_to_zero=False).fit(Neuron(1), DATA)
    assert set(modes) == {False}


@pytest.mark.parametrize("hook", [hook.removeprefix("on_") for hook in HOOKS])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_mode_is_restored_after_an_error_in_a_hook(hook, error):
    @on(hook)
    def fail(_run):
        raise error

    with pytest.raises(error):
        trainer(callbacks=[fail]).fit(Neuron(1), DATA)
    assert not flushing()


@pytest.mark.parametrize(("fails", "error"), [("error", ValueError), ("interrupt", KeyboardInterrupt)])
def test_the_mode_is_restored_after_an_error_in_a_step(fails, error):
    with pytest.raises(error):
        trainer(fails).fit(Neuron(1), DATA)
    assert (set(modes), flushing()) == ({True}, False)


def test_the_mode_is_restored_wherever_ctrl_c_acts_at_once():
    """Before every line of what sets and lifts the mode; the end of a session only notes a signal."""
    watched = {Training.pieces.__code__, Training.call.__code__, Training.__exit__.__code__}

    def interrupted_at(place):
        """Fit with two signals before the line of this number, and return whether there is such a line."""
        lines = iter(range(place + 1))
        session = []

        def line(_frame, event, _argument):
            if event == "line" and next(lines, None) == place:
                for _ in range(2):
                    signal.raise_signal(signal.SIGINT)
            return line

        def call(frame, _event, _argument):
            code = frame.f_code
            if code is Training.__enter__.__code__:
                session.append(code)
            return line if session and (code in watched or code.co_qualname.startswith("Flushing.")) else None

        sys.settrace(call)
        try:
            once.fit(Neuron(1), ([[1.0]], [2.0]))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert not flushing(), place
        return next(lines, None) is None

    once = trainer(epochs=1, callbacks=[on("batch_end")(lambda _run: None)])
    places = next(place for place in itertools.count() if not interrupted_at(place))
    assert places > 40


@pytest.mark.parametrize("read_ahead", [False, True])
def test_the_mode_is_restored_when_a_stop_leaves_the_generator_of_the_data(read_ahead):
    def rows(_epoch):
        for _ in range(4):
            read.append(flushing())
            yield X, DATA[1]

    read = []
    stop = on("batch_end")(lambda run: run.stop("enough"))
    run = trainer(callbacks=[stop]).fit(Neuron(1), Stream(rows, read_ahead=read_ahead))
    assert (run.step, set(read), set(modes), flushing()) == (1, {False}, {True}, False)


def test_a_fit_in_a_hook_flushes_and_restores_for_itself():
    inner = []

    @on("batch_end")
    def nested(_run):
        Trainer(loss=HalfSquaredError(), optimizer=Noting(learning_rate=0.1)).fit(Neuron(1), DATA)
        inner.append(flushing())

    trainer(callbacks=[nested]).fit(Neuron(1), DATA)
    assert (set(inner), set(modes), flushing()) == ({False}, {True}, False)


def test_each_thread_has_its_own_mode():
    """One fits, and others compute meanwhile: one that began before the fit, and one that a hook starts."""
    turn, seen = threading.Barrier(2), {}

    def other(name):
        turn.wait(10)
        seen[name] = flushing()
        turn.wait(10)

    class Meeting(Noting):
        def update(self, values, gradients, rate, step):
            super().update(values, gradients, rate, step)
            if step == 2:
                turn.wait(10)
                turn.wait(10)

    @on("epoch_begin")
    def start(_run):
        threads.append(threading.Thread(target=other, args=("of a hook",)))
        threads[-1].start()

    def fit(*callbacks):
        optimizer = Meeting(learning_rate=0.1)
        trainer(optimizer=optimizer, epochs=1, batch_size=4, callbacks=callbacks).fit(Neuron(1), DATA)
        seen["after"] = flushing()

    threads = [threading.Thread(target=fit)]
    threads[0].start()
    other("main")
    threads[0].join()
    fit(start)
    threads[1].join()
    assert (set(modes), seen) == ({True}, {"main": False, "of a hook": False, "after": False})


def test_a_mode_that_a_hook_sets_is_kept():
    scope = Flushing(wanted=True)
    run = trainer(epochs=1, callbacks=[on("epoch_begin")(lambda _run: scope.__enter__() and None)])
    run.fit(Neuron(1), DATA)
    after = flushing()
    scope.__exit__()
    assert (after, flushing()) == (True, False)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_velocities_are_zero_instead_of_subnormal_and_the_weights_are_the_same(engine, dtype):
    """A weight whose input is 0 from the second row on: its velocity shrinks to nothing."""
    if engine == "compiled":
        pytest.importorskip("llvmlite")
    x = np.zeros((316 if dtype == "float64" else 42, 2), dtype)
    x[0, 0] = x[:, 1] = 1.0
    momentum = SGDOptimizer(learning_rate=0.1, momentum=0.1)
    settings = {"optimizer": momentum, "batch_size": 1, "shuffle": False, "epochs": 1, "engine": engine}
    velocities, weights = {}, {}
    for flush in (False, True):
        run = trainer(flush_to_zero=flush, **settings).fit(Neuron(2, seed=1, dtype=dtype), (x, np.ones(len(x))))
        velocities[flush], weights[flush] = run.optimizer.memory["velocity"][0], run.model.parameters.vector
    assert 0 < abs(velocities[False]) < np.finfo(dtype).tiny
    assert velocities[True] == 0
    assert weights[True].tobytes() == weights[False].tobytes()


PRODUCTS = """
import numpy as np
from framework import Dense, HalfSquaredError, SGDOptimizer, Trainer, on

subnormal = lambda array: int(((array != 0) & (abs(array) < np.finfo(array.dtype).tiny)).sum())
gradients = []
count = on("gradients")(lambda run: gradients.append(subnormal(run.model.parameters.gradient)))
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9), batch_size=512)
model = Dense.from_weights(np.zeros((512, 512)), np.zeros(512), dtype="float32")
x, y = np.full((512, 512), 1e-30, "float32"), np.full((512, 512), 1e-7, "float32")
run = trainer.replace(callbacks=[count]).fit(model, (x, y))
print(gradients[0], subnormal(run.optimizer.memory["velocity"]))
"""


@pytest.mark.share(1 / 3)
def test_threads_of_openblas_keep_their_mode_and_nothing_subnormal_stays():
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", PRODUCTS], env=env, capture_output=True, text=True, check=True)
    in_gradients, in_velocities = map(int, done.stdout.split())
    assert in_velocities == 0
    if not in_gradients:
        pytest.skip("this NumPy has no BLAS with threads of its own, or there is one core")


def test_a_checkpoint_that_is_resumed_with_another_setting_says_so(tmp_path):
    run = trainer().fit(Neuron(1), DATA, epochs=1)
    assert run.recipe["flush_to_zero"] == "True"
    save(run, tmp_path / "a.safetensors")
    with pytest.warns(ResumeWarning, match="flush_to_zero: was True, now False"):
        trainer(flush_to_zero=False).resume(tmp_path / "a.safetensors", DATA)
    assert set(modes) == {False}


def test_the_record_says_what_happened_where_the_platform_cannot_flush(monkeypatch):
    monkeypatch.setattr(arithmetic, "_control", lambda: None)
    assert trainer().fit(Neuron(1), DATA).recipe["flush_to_zero"] == "False"
    assert set(modes) == {False}


def test_the_record_says_what_happened_where_the_caller_flushes():
    with Flushing(wanted=True):
        run = trainer(flush_to_zero=False).fit(Neuron(1), DATA)
    assert run.recipe["flush_to_zero"] == "True"


def test_the_record_says_that_jax_flushes_in_any_case():
    pytest.importorskip("jax")
    x = np.zeros((42, 2), "float32")
    x[0, 0] = x[:, 1] = 1.0
    settings = {"optimizer": SGDOptimizer(learning_rate=0.1, momentum=0.1), "batch_size": 1, "shuffle": False}
    model = Neuron(2, seed=1, dtype="float32")
    run = trainer(engine="jax", flush_to_zero=False, epochs=1, **settings).fit(model, (x, np.ones(42)))
    assert (run.engine, run.recipe["flush_to_zero"], run.optimizer.memory["velocity"][0]) == ("jax", "by JAX", 0)


def test_a_divergence_by_flushing_says_so():
    class Scaled(Activation):
        """h, by numbers that are 0 unless subnormal ones count."""

        def __call__(self, h):
            return (1e-308 * np.tanh(h)) / 1e-308

    model = Neuron.from_weights([0.0], activation=Scaled())
    settings = {"loss": HalfSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1)}
    with pytest.raises(DivergedError) as caught:
        Trainer(**settings).fit(model, DATA)
    assert any("Trainer(flush_to_zero=False) keeps them" in note for note in caught.value.__notes__)
    Trainer(flush_to_zero=False, **settings).fit(model, DATA)


def test_a_divergence_that_has_another_cause_does_not_blame_flushing():
    optimizer = SGDOptimizer(learning_rate=1e200)
    with pytest.raises(DivergedError) as caught:
        Trainer(loss=HalfSquaredError(), optimizer=optimizer, epochs=9).fit(Neuron(1), DATA)
    assert not any("flush" in note for note in caught.value.__notes__)
