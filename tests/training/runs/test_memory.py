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
from framework.base.arrays import BLOCK

# A formula works on blocks of BLOCK elements and an update on 2 BLOCK; each may hold a few temporaries of that size.
BOUND = 8 * BLOCK * 8
# Rows of a batch, width of the model: one number per row, or one a parameter, is already more than the bound.
SIZES = [(256, 6), (BOUND // 8, 6), (64, 320)]


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


def network(width, hidden, output):
    return Sequential(Dense(4, width, hidden), Dense(width, width, hidden), Dense(width, 3, output))


def batch(rows, kind):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(rows, 4)), rng.uniform(size=rows)
    match kind:
        case "classes":
            return x, rng.integers(0, 3, rows), weight
        case "one-hot":
            return x, np.eye(3)[rng.integers(0, 3, rows)], weight
        case _:
            return x, rng.integers(0, 2, (rows, 3)).astype(float), weight


class OwnSigmoid(Sigmoid):
    """The same numbers, but a class of the user's."""


class OwnSoftmax(Softmax):
    """The same numbers, but a class of the user's."""


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


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("hidden", "output", "loss", "kind"), CASES)
def test_no_activation_or_loss_needs_more_than_its_blocks(hidden, output, loss, kind, weighted, size):
    rows, width = size
    x, y, weight = batch(rows, kind)
    assert peak_of_a_step(network(width, hidden, output), loss, x, y, weight if weighted else None) < BOUND


SETTINGS = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"clip_norm": 1e-6},
    {"clip_value": 1e-6},
]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", SETTINGS, ids="+".join)
def test_no_setting_of_sgd_needs_more_than_its_blocks(settings, size):
    rows, width = size
    x, y, _ = batch(rows, "classes")
    assert peak_of_a_step(network(width, ReLU(), Softmax()), CrossEntropy(), x, y, **settings) < BOUND


@pytest.mark.parametrize("activation", [Identity(), Sigmoid(), Tanh(), ReLU()])
@pytest.mark.parametrize(("rows", "inputs"), [(256, 4), (BOUND // 8, 4), (4, BOUND // 8)])
def test_a_neuron_needs_no_more_than_its_blocks(activation, rows, inputs):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(rows, inputs)), rng.normal(size=rows)
    assert peak_of_a_step(Neuron(inputs, activation), HalfSquaredError(), x, y) < BOUND
