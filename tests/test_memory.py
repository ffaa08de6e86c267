"""Between the gathering of a batch and the update, the built-in parts allocate nothing that grows with the work."""

import tracemalloc

import numpy as np
import pytest

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    Identity,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
)
from framework.arrays import BLOCK

# A formula works on blocks of BLOCK elements and an update on 2 BLOCK; each may hold a few temporaries of that size.
BOUND = 8 * BLOCK * 8
# Four times the rows, or the parameters, may move the peak by less than one array of a number a row.
SLACK = 24_000
SIZES = [(2048, 160), (8192, 160), (2048, 320)]  # rows of a batch, width of the model


def peak_of_a_step(model, loss, x, y, weight=None, **settings):
    """The bytes that a step holds at once beyond what it was given, when its working memory is there."""
    optimizer = SGDOptimizer(model, learning_rate=1e-6, **settings)

    def step():
        model.forward(x, copy=False)
        loss.backward(model, y, weight, check=False)
        optimizer.step()

    step()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def assert_constant(peaks):
    assert max(peaks) < BOUND
    assert max(peaks) - min(peaks) < SLACK


def network(width, hidden, output):
    return Sequential(Dense(16, width, hidden), Dense(width, width, hidden), Dense(width, 8, output))


def batch(rows, kind):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(rows, 16)), rng.uniform(size=rows)
    match kind:
        case "classes":
            return x, rng.integers(0, 8, rows), weight
        case "one-hot":
            return x, np.eye(8)[rng.integers(0, 8, rows)], weight
        case _:
            return x, rng.integers(0, 2, (rows, 8)).astype(float), weight


class OwnSigmoid(Sigmoid):
    """Not fused."""


class OwnSoftmax(Softmax):
    """Not fused."""


CASES = [
    (Tanh(), Identity(), HalfSquaredError(), "values"),
    (ReLU(), Identity(), MeanSquaredError(), "values"),
    (Sigmoid(), ReLU(), MeanSquaredError(), "values"),
    (Identity(), Sigmoid(), BinaryCrossEntropy(), "values"),
    (ReLU(), OwnSigmoid(), BinaryCrossEntropy(), "values"),
    (ReLU(), Softmax(), CrossEntropy(), "classes"),
    (Softmax(), Softmax(), CrossEntropy(), "one-hot"),
    (ReLU(), OwnSoftmax(), CrossEntropy(), "classes"),
]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("hidden", "output", "loss", "kind"), CASES)
def test_every_activation_and_loss_needs_the_same_at_any_size(hidden, output, loss, kind, weighted):
    peaks = []
    for rows, width in SIZES:
        x, y, weight = batch(rows, kind)
        peaks.append(peak_of_a_step(network(width, hidden, output), loss, x, y, weight if weighted else None))
    assert_constant(peaks)


SETTINGS = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"clip_norm": 1e-6},
    {"clip_value": 1e-6},
]


@pytest.mark.parametrize("settings", SETTINGS, ids="+".join)
def test_every_setting_of_sgd_needs_the_same_at_any_size(settings):
    peaks = []
    for rows, width in SIZES:
        x, y, _ = batch(rows, "classes")
        peaks.append(peak_of_a_step(network(width, ReLU(), Softmax()), CrossEntropy(), x, y, **settings))
    assert_constant(peaks)


@pytest.mark.parametrize("activation", [Identity(), Sigmoid(), Tanh(), ReLU()])
def test_a_neuron_needs_the_same_at_any_size(activation):
    peaks = []
    for rows, inputs in [(20_000, 32), (80_000, 32), (20_000, 128)]:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(rows, inputs)), rng.normal(size=rows)
        peaks.append(peak_of_a_step(Neuron(inputs, activation), HalfSquaredError(), x, y))
    assert_constant(peaks)
