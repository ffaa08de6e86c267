"""What the tests of divergence share."""

import copy

import numpy as np
import pytest

from framework import (
    Activation,
    Dense,
    DivergedError,
    Identity,
    MeanSquaredError,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
)

ROWS = 11
X = np.random.default_rng(0).uniform(0.5, 1.0, size=(ROWS, 3))
Y = X.sum(axis=1)
SPIKE = 7
"""The row whose first input is so large that Spike gives no number for it."""
SPIKED = X.copy()
SPIKED[SPIKE, 0] = 1e6
KEPT = "the model keeps its last finite weights (error.run)"
AGAIN = "the same step fails again from these weights: resume from earlier ones, or start over, with a lower rate"


class Spike(Activation):
    """The identity, but no number above 1000."""

    check = "off"

    def __call__(self, h):
        return np.where(h > 1000, np.nan, h)

    def derivative(self, h):
        return np.ones_like(h)


class Cliff(Activation):
    """The identity, with a slope that is not finite above 1000."""

    check = "off"

    def __call__(self, h):
        return 1.0 * h

    def derivative(self, h):
        return np.where(h > 1000, np.inf, 1.0)


class Rows:
    """Arrays read through the two methods of a Dataset."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def read(self, start, stop):
        return self.x[start:stop], self.y[start:stop]


def pair(x, y):
    return x, y


def weighted(x, y):
    return x, y, np.ones(len(x))


def ones(inputs, units, activation=None, dtype="float64"):
    weights = np.ones((inputs, units)) / inputs
    return Dense.from_weights(weights, activation=activation or Identity(), dtype=dtype)


def network(activation, *layers, dtype="float64"):
    first = ones(3, 4, Tanh(), dtype) if layers else ones(3, 3, dtype=dtype)
    return Sequential(first, *layers, ones(first.units, 2, activation, dtype), ones(2, 1, dtype=dtype))


def recipe(**settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "epochs": 3, "batch_size": 4}
    return Trainer(**default | settings)


def diverge(trainer, model, *data, **options):
    """Return the error that ends training, after a look at what must always hold."""
    with pytest.raises(DivergedError) as caught:
        trainer.fit(model, *data, **options)
    run = caught.value.run
    assert run.consistent
    assert run.model is model
    assert all(np.isfinite(row["loss"]) for row in run.history)
    return caught.value


def state_of(run):
    """Everything that a step which is not made must leave as it is, bit for bit."""
    memory = {name: array.tobytes() for name, array in run.optimizer.memory.items()}
    buffers = {name: array.tobytes() for name, array in run.model.buffers.items()}
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    counters = (run.epoch, run.step, run.batch, run.optimizer.steps, copy.deepcopy(run.sums), run.optimizer.rate())
    return run.model.parameters.vector.tobytes(), memory, buffers, rows, counters
