"""Layers that Python runs within a kernel: their numbers, errors and signals are those of the NumPy engine."""

import signal

import numpy as np
import pytest

from framework import (
    AdamOptimizer,
    Dense,
    DivergedError,
    Layer,
    MeanAbsoluteError,
    MeanSquaredError,
    Sequential,
    ShapeError,
    Tanh,
    Trainer,
)
from framework.training import DataParallel

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))
EPOCHS, BATCHES = 3, 5
ACTIONS = {}
"""What the first or the second layer does in a pass of training, by the number of the pass."""


class Noisy(Layer):
    """Multiplies its inputs by weights and by noise, and counts its passes in training."""

    units: int
    first: bool = True
    check = "off"  # the check would count as passes

    @property
    def input_shape(self):
        return (self.units,)

    def shapes(self):
        return {"scale": (self.units,)}

    def initial_buffers(self):
        return {"passes": np.zeros(())}

    def apply(self, x, values, record):
        factor = 1.0
        if record.training:
            self.buffers["passes"] += 1.0
            factor = 1.0 + 0.1 * np.random.default_rng(record.key).normal(size=x.shape)
            factor = factor * ACTIONS.get((self.first, int(self.buffers["passes"])), lambda: 1.0)()
        record["factor"] = factor * x
        return record["factor"] * values["scale"]

    def apply_backward(self, gradient, values, record, gradients):
        np.sum(gradient * record["factor"], axis=0, out=gradients["scale"])
        return gradient * values["scale"]


class Doubled(Layer):
    units: int

    @property
    def input_shape(self):
        return (self.units,)

    def apply(self, x, values, record):
        return 2 * x

    def apply_backward(self, gradient, values, record, gradients):
        return 2 * gradient


def trainer(engine, **settings):
    settings = {"batch_size": 4, "epochs": EPOCHS, "metrics": [MeanAbsoluteError()]} | settings
    return Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.01), engine=engine, **settings)


def network():
    return Sequential(
        Dense(3, 4, Tanh()), Noisy(units=4), Dense(4, 4, Tanh()), Noisy(units=4, first=False), Dense(4, 2), seed=1
    )


def state_of(run):
    arrays = [run.model.parameters.vector, *run.model.buffers.values(), *run.optimizer.memory.values()]
    return [array.tobytes() for array in arrays], run.step, run.history.column("loss")


@pytest.fixture
def actions():
    yield ACTIONS
    ACTIONS.clear()


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"batch_size": 1}])
def test_the_numbers_are_those_of_numpy(settings):
    runs = [trainer(engine, **settings).fit(network(), (X, Y)) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    assert runs[1].recipe["python"] == "1 Noisy, 3 Noisy"
    expected, found = (run.model.parameters.vector for run in runs)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for name, buffer in runs[0].model.buffers.items():
        np.testing.assert_array_equal(runs[1].model.buffers[name], buffer)
    errors = [run.history.column("mean_absolute_error") for run in runs]
    assert errors[1] == pytest.approx(errors[0], rel=1e-10)


def test_shards_are_those_of_numpy():
    settings, runs = {"strategy": DataParallel(shards=2), "metrics": []}, []
    for engine in ("numpy", "compiled"):
        model = Sequential(Dense(3, 4, Tanh()), Doubled(units=4), Dense(4, 2), seed=1)
        runs.append(trainer(engine, **settings).fit(model, (X, Y)))
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    expected, found = (run.model.parameters.vector for run in runs)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_an_error_or_a_signal_in_a_pass_leaves_a_run_that_can_be_resumed(actions, times):
    def fail():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        if not times:
            raise OSError("in the layer")
        return 1.0

    expected = state_of(trainer("compiled").fit(network(), (X, Y)))
    actions[True, 8] = fail
    with pytest.raises(KeyboardInterrupt if times else OSError) as caught:
        trainer("compiled").fit(network(), (X, Y))
    run = caught.value.run
    assert run.consistent
    assert times or run.step == 7
    actions.clear()
    assert state_of(trainer("compiled").resume(run, (X, Y))) == expected


def test_an_error_that_comes_once_ends_training(actions):
    def fail():
        actions.clear()
        raise OSError("device busy")

    actions[True, 12] = fail
    with pytest.raises(OSError, match="device busy") as caught:
        trainer("compiled").fit(network(), (X, Y))
    assert caught.value.run.consistent
    assert caught.value.run.step == 11


class Sampled(Doubled):
    """Returns a gradient of another shape for batches of four rows."""

    def apply_backward(self, gradient, values, record, gradients):
        return 2 * gradient if len(gradient) != 4 else 2 * gradient.mean(axis=0)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_a_gradient_of_another_shape_is_refused(engine):
    model = Sequential(Dense(3, 4, Tanh()), Sampled(units=4), Dense(4, 2), seed=1)
    with pytest.raises(
        ShapeError, match=r"Sampled\.apply_backward must return dL/dx, \(4, 4\), as its input; got \(4,\)"
    ):
        trainer(engine).fit(model, (X, Y))


def test_a_step_that_is_not_finite_ends_training_as_with_numpy(actions):
    states = []
    for engine in ("numpy", "compiled"):
        actions |= {(True, number): lambda: np.nan for number in range(8, 12)}  # a step may be made again
        with pytest.raises(DivergedError) as caught:
            trainer(engine).fit(network(), (X, Y))
        states.append((caught.value.run.step, {**caught.value.run.model.buffers}, str(caught.value)))
    assert states[0] == states[1]
