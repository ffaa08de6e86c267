"""Formulas over a row in a kernel: loops along the row and over the rows of a batch."""

import numpy as np
import pytest

from framework import Activation, Dense, MeanSquaredError, RowLoss, Sequential, SGDOptimizer, Trainer

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(76, 3)), RNG.normal(size=(76, 4))
WEIGHTS = RNG.random(76) * (RNG.random(76) > 0.3)


class Peaks(Activation):
    """A row's maximum, sum and mean, and truths of an element and of a row that a later loop needs."""

    def __call__(self, h):
        top = np.max(h, axis=-1, keepdims=True)
        near = h > top - 1.0
        kept = np.where(near, np.exp(h - top), 0.1)
        total = np.sum(kept, axis=-1, keepdims=True)
        wide = total > 1.5
        high = np.where(np.logical_and(near, wide), kept / total, 0.2 * kept)
        return high + np.where(wide, 0.1, 0.2) * np.mean(h, axis=-1, keepdims=True)


class Spread(RowLoss):
    """A value from two sums over the row and a choice for the row."""

    def value(self, prediction, target):
        error = prediction - target
        middle = 0.5 * np.mean(error, axis=-1, keepdims=True)
        far = np.max(np.abs(error), axis=-1) > 1.0
        return np.sum((error - middle) ** 2, axis=-1) + np.where(far, 0.3, 0.1) * np.sum(error * error, axis=-1)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(("rows", "dtype"), [(1, "float64"), (8, "float64"), (64, "float64"), (8, "float32")])
def test_own_formulas_over_rows_in_batches_of_any_size(rows, dtype):
    model = Sequential(Dense(3, 5, Peaks(), dtype=dtype), Dense(5, 4, dtype=dtype))
    runs = []
    for engine in ("numpy", "compiled"):
        trainer = Trainer(
            loss=Spread(),
            optimizer=SGDOptimizer(learning_rate=0.01),
            metrics=[MeanSquaredError()],
            epochs=10,
            batch_size=rows,
            engine=engine,
        )
        runs.append(trainer.fit(model.copy(), (X, Y, WEIGHTS)))
        assert runs[-1].engine == engine
    expected, found = (run.model.parameters.vector for run in runs)
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(found, expected, **close)
    for name in ("loss", "mean_squared_error"):
        expected, found = (run.history.column(name) for run in runs)
        assert found == pytest.approx(expected, rel=close["rtol"])
