"""Runs of the JAX engine beside those of the NumPy engine."""

import numpy as np
import pytest
from oracles import quick_options

from framework import AdamOptimizer, CrossEntropy, Trainer
from framework.training.engines.jax import program

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Compile with less optimization."""
    program.OPTIONS.update(quick_options())
    yield
    program.OPTIONS.clear()


def both(make, data, **settings):
    """Train twins with both engines, and return their runs."""
    settings = {"loss": CrossEntropy(), "optimizer": AdamOptimizer(learning_rate=0.01), "batch_size": 8} | settings
    runs = [Trainer(engine=engine, **settings).fit(make(), data) for engine in ("numpy", "jax")]
    assert [run.engine for run in runs] == ["numpy", "jax"]
    return runs


def require_close(runs, rtol=1e-12, atol=1e-12):
    """Compare weights, gradients, buffers, memory and history."""
    expected, found = runs
    for arrays in (
        [run.model.parameters.vector for run in runs],
        [run.model.parameters.gradient for run in runs],
        *zip(*(run.model.buffers.values() for run in runs), strict=True),
        *zip(*(run.optimizer.memory.values() for run in runs), strict=True),
    ):
        np.testing.assert_allclose(arrays[1], arrays[0], rtol=rtol, atol=atol)
    for before, after in zip(expected.history.rows, found.history.rows, strict=True):
        rest = before.keys() - {"seconds"}
        assert {key: after[key] for key in rest} == pytest.approx({key: before[key] for key in rest}, rel=rtol)
