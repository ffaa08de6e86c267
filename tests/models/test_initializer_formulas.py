import numpy as np
import pytest
from oracles import stored

from framework import Dense, Neuron
from framework.base.errors import SettingsError
from framework.base.random_streams import random_generator
from framework.base.settings.component import Component
from framework.models.initializers import LeCun, Normal, Orthogonal

SHAPES = [(300, 200), (50, 900), (4000,), (5, 6, 700)]
SQUARE_TALL_WIDE = [(6, 6), (9, 4), (4, 9), (2, 3, 5), (7,), (1, 1), ()]


def draw(initializer, shape, seed=0):
    return initializer(shape, random_generator(seed, "test"))


@pytest.mark.parametrize("shape", SHAPES)
def test_lecun_has_the_bounds_and_the_deviation_of_pytorchs_linear_gain(shape):
    fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else shape[0]
    bound = np.sqrt(3 / fan_in)
    assert 0.99 * bound < stored("initializers")[str(shape)]["largest"] <= bound  # PyTorch's: it is the same formula
    uniform = draw(LeCun(distribution="uniform"), shape)
    assert 0.999 * bound < np.abs(uniform).max() <= bound
    assert uniform.std() == pytest.approx(np.sqrt(1 / fan_in), rel=0.05)
    normal = draw(LeCun(), shape)
    assert normal.std() == pytest.approx(np.sqrt(1 / fan_in), rel=0.05)
    assert np.abs(normal).max() > bound
    assert abs(normal.mean()) < 4 * normal.std() / np.sqrt(normal.size)


def test_lecun_keeps_the_variance_of_the_inputs():
    layer = Dense(400, 300, initializer=LeCun(), seed=0)
    x = random_generator(0, "x").normal(size=(200, 400))
    assert layer(x).var() == pytest.approx(1.0, rel=0.05)


def test_normal_has_its_mean_and_deviation():
    values = draw(Normal(mean=-3.0, deviation=0.5), (100_000,))
    assert values.mean() == pytest.approx(-3.0, abs=0.01)
    assert values.std() == pytest.approx(0.5, rel=0.02)
    standard = (values + 3.0) / 0.5
    assert np.mean(standard**4) == pytest.approx(3.0, rel=0.05)  # the kurtosis of a normal distribution


@pytest.mark.parametrize("shape", SQUARE_TALL_WIDE)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal_has_orthonormal_columns_or_rows_times_the_gain(shape, gain):
    values = draw(Orthogonal(gain=gain), shape)
    assert values.shape == shape
    assert values.flags.c_contiguous
    matrix = values.reshape(-1, shape[-1] if len(shape) > 1 else 1)
    inputs, units = matrix.shape
    product = matrix.T @ matrix if inputs >= units else matrix @ matrix.T
    np.testing.assert_allclose(product, gain**2 * np.eye(min(inputs, units)), atol=1e-13)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_orthogonal_is_pytorchs_of_the_same_normal_numbers(shape):
    class Given:
        """A generator of the normal numbers that PyTorch was given."""

        def normal(self, *_args, size, **_options):
            return numbers.reshape(size).copy()

    numbers, expected = (stored("initializers")[f"orthogonal {shape}"][key] for key in ("numbers", "weights"))
    weights = Orthogonal(gain=1.5)(shape, Given())
    if shape[0] == shape[1]:
        weights = weights.T  # a square matrix is drawn transposed here, because weights are (inputs, units)
    np.testing.assert_allclose(weights, expected, atol=1e-14)


def test_orthogonal_prefers_no_sign():
    diagonals = np.array([np.diag(draw(Orthogonal(), (3, 3), seed)) for seed in range(500)])
    assert np.all(np.abs(diagonals.mean(axis=0)) < 4 * np.sqrt(1 / 3 / 500))  # an element's variance is 1/3


def test_a_layer_of_orthogonal_weights_keeps_lengths():
    layer = Dense(8, 8, initializer=Orthogonal(), seed=0)
    x = random_generator(0, "x").normal(size=(5, 8))
    np.testing.assert_allclose(np.linalg.norm(layer(x), axis=1), np.linalg.norm(x, axis=1))
    assert np.linalg.norm(Neuron(5, initializer=Orthogonal(gain=2.0)).weights) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "initializer", [LeCun(), LeCun(distribution="uniform"), Normal(), Orthogonal(gain=2.0)], ids=repr
)
def test_the_numbers_come_from_the_generator_alone(initializer):
    np.testing.assert_array_equal(draw(initializer, (4, 3)), draw(initializer, (4, 3)))
    assert not np.array_equal(draw(initializer, (4, 3)), draw(initializer, (4, 3), seed=1))
    assert Component.from_json(initializer.to_json()) == initializer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(deviation=0.0), "deviation"),
        (lambda: Orthogonal(gain=-1.0), "gain"),
        (lambda: LeCun(distribution="cauchy"), "distribution"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()
