"""Layers with a formula in a kernel: their random numbers, buffers and sums are those of the NumPy engine."""

import numpy as np
import pytest
from compiled_pieces import PLAIN, RNG, trainer

from framework import BatchNorm, Dense, DivergedError, Dropout, Layer, MeanSquaredError, Sequential, SGDOptimizer

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
X, Y = RNG.normal(size=(48, 3)), RNG.normal(size=(48, 2))


def both(model, **settings):
    settings = {"loss": MeanSquaredError(), "epochs": 3} | settings
    return [trainer(engine=engine, **settings).fit(model.copy(), (X, Y)) for engine in ("numpy", "compiled")]


def require_agreement(runs):
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-11, atol=1e-14)
    for name, value in runs[0].model.buffers.items():
        np.testing.assert_allclose(runs[1].model.buffers[name], value, rtol=1e-11)


class Layered(Layer):
    """The base of layers of three units."""

    @property
    def input_shape(self):
        return (3,)


class Peaks(Layered):
    """A layer over the row with a maximum of the batch, and a buffer that stays."""

    mixes_rows = True

    def shapes(self):
        return {"gain": (3,)}

    def initial_buffers(self):
        return {"peak": np.zeros(3), "kept": np.arange(3.0)}

    def formula(self, x, gain, peak, kept):
        centred = x - x.mean(axis=1, keepdims=True)
        output = (1.0 + gain) * centred + kept
        return output, {"peak": 0.5 * peak + 0.5 * x.max(axis=0), "kept": kept}

    def predict_formula(self, x, gain, peak, kept):
        return x + kept


class Noisy(Layered):
    """A layer that computes with its random numbers before it joins them with x."""

    mixes_rows = True

    kind: str

    def draws(self, shape):
        return {"noise": shape}

    def formula(self, x, noise):
        return x + NOISES[self.kind](noise)

    def predict_formula(self, x):
        return x


NOISES = {
    "scaled": lambda u: 0.1 * (u - 0.5),
    "squared": lambda u: u * u,
    "root": np.sqrt,
    "Gumbel": lambda u: -np.log(-np.log(0.1 + 0.8 * u)),
    "compared with what is computed": lambda u: np.where(2.0 * u < 0.7, 0.1, 0.0),
    "of other rows": lambda u: (u @ u.T) @ u / 100,
}


class Same(Layered):
    """A layer whose buffer becomes one number for all units."""

    def initial_buffers(self):
        return {"count": np.zeros(3)}

    def formula(self, x, count):
        return np.tanh(x), {"count": np.ones(3)}

    def predict_formula(self, x, count):
        return np.tanh(x)


def test_maxima_of_a_batch_and_buffers_of_a_layer_over_the_row():
    require_agreement(both(Sequential(Peaks(), Dense(3, 2))))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_dropout_has_the_masks_of_the_numpy_engine(batch_size):
    require_agreement(
        both(
            Sequential(Dropout(0.6), Dense(3, 5), Dropout(0.3), Dense(5, 2)),
            batch_size=batch_size,
            optimizer=SGDOptimizer(learning_rate=0.01),
        )
    )


@pytest.mark.parametrize("kind", NOISES)
def test_a_formula_of_random_numbers_alone_is_that_of_the_numpy_engine(kind):
    require_agreement(both(Sequential(Noisy(kind), Dense(3, 2))))


def test_a_buffer_may_become_a_number():
    require_agreement(both(Sequential(Same(), Dense(3, 2))))


@pytest.mark.parametrize("layer", [BatchNorm(3), Dropout(0.5)], ids=repr)
def test_batches_in_parts_are_those_of_the_numpy_engine(layer):
    require_agreement(both(Sequential(layer, Dense(3, 2)), accumulate=2))


def test_a_buffer_that_overflows_raises_and_stays():
    errors = []
    for engine in ("numpy", "compiled"):
        model = Sequential(BatchNorm(3), Dense(3, 2))
        with pytest.raises(DivergedError, match=r"buffer 'running_variance' is not finite") as caught:
            trainer(loss=MeanSquaredError(), engine=engine, optimizer=PLAIN).fit(model, (X * 1e200, Y))
        assert np.isfinite(model.buffers["0.running_variance"]).all()
        errors.append(caught.value)
    assert errors[0].run.step == errors[1].run.step
    assert errors[1].run.engine == "compiled"
