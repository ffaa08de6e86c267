"""The memory of kernels: how long it lasts, and how much of it there is."""

import gc
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework import Dense, MeanSquaredError, Sequential, SGDOptimizer, Tanh, Trainer
from framework.graph import trace
from framework.training import DataParallel

RNG = np.random.default_rng(0)
WIDTH = 400
X, Y = RNG.normal(size=(80, 3)), RNG.normal(size=(80, 1))
NUMBERS = 8 * 5 * WIDTH
"""The bytes of the parameters, as of their gradient."""


def fit(model, **settings):
    settings = {"batch_size": 32, "epochs": 1} | settings
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), engine="compiled", **settings
    )
    assert trainer.fit(model, (X, Y)).engine == "compiled"


def network():
    return Sequential(Dense(3, WIDTH, Tanh()), Dense(WIDTH, 1))


def growth(model, before, after):
    """Return by how many bytes some fits of a model add to what others have left."""
    tracemalloc.start()
    try:
        held = []
        for fits in (before, after):
            for settings in fits:
                fit(model, **settings)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return held[1] - held[0]


def test_the_memory_ends_with_its_kernel(monkeypatch):
    monkeypatch.setattr(trace, "_KNOWN", {})
    model = network()
    fit(model)
    assert len(model._built().workspace) == 1
    trace._KNOWN.clear()
    gc.collect()
    assert len(model._built().workspace) == 0


def test_a_training_leaves_no_gradients_of_shards_behind():
    shared = {"strategy": DataParallel(shards=4)}
    assert growth(network(), [shared] * 2, [shared] * 4) < NUMBERS


def test_few_numbers_of_rows_have_memory():
    sizes = [{"batch_size": size} for size in range(60, 76)]
    assert growth(network(), sizes[:6], sizes[6:]) < 8 * 60 * WIDTH
