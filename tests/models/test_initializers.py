import numpy as np
import pytest
from oracles import stored

from framework import Dense, Neuron, SettingsError, random_generator
from framework.models import Constant, Glorot, He, Initializer, Uniform, Zeros
from framework.models.initializers import fans

SHAPES = [(300, 200), (50, 900), (4000,), (5, 6, 700)]


def draw(initializer, shape):
    return initializer(shape, random_generator(0, "test"))


def pytorch_fans(shape):
    return tuple(stored("initializers")[str(shape)]["fans"].tolist())


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_those_of_pytorch(shape):
    assert fans(shape) == pytorch_fans(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gain", [1.0, 5 / 3])
def test_glorot_has_the_bounds_and_the_deviation_of_pytorch(shape, gain):
    total = sum(pytorch_fans(shape))
    bound = gain * np.sqrt(6 / total)  # torch.nn.init.xavier_uniform_
    uniform = draw(Glorot(gain=gain), shape)
    assert 0.999 * bound < np.abs(uniform).max() <= bound
    assert uniform.std() == pytest.approx(gain * np.sqrt(2 / total), rel=0.05)
    normal = draw(Glorot(gain=gain, distribution="normal"), shape)
    assert normal.std() == pytest.approx(gain * np.sqrt(2 / total), rel=0.05)  # torch.nn.init.xavier_normal_
    assert np.abs(normal).max() > bound


@pytest.mark.parametrize("shape", SHAPES)
def test_he_has_the_bounds_and_the_deviation_of_pytorch(shape):
    fan_in, _ = pytorch_fans(shape)
    normal = draw(He(), shape)
    assert normal.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)  # torch.nn.init.kaiming_normal_
    bound = np.sqrt(6 / fan_in)  # torch.nn.init.kaiming_uniform_
    assert 0.999 * bound < np.abs(draw(He(distribution="uniform"), shape)).max() <= bound
    assert np.abs(normal).max() > bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("initializer", [Glorot(), He(), Uniform(low=-1.0, high=1.0)])
def test_the_mean_is_zero(initializer, shape):
    values = draw(initializer, shape)
    assert values.shape == shape
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)


def test_uniform_fills_its_interval():
    values = draw(Uniform(low=2.0, high=3.0), (10_000,))
    assert 2.0 <= values.min() < 2.01
    assert 2.99 < values.max() < 3.0


@pytest.mark.parametrize(("initializer", "value"), [(Zeros(), 0.0), (Constant(value=-0.5), -0.5)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_constants(initializer, value, shape):
    assert np.array_equal(draw(initializer, shape), np.full(shape, value))


@pytest.mark.parametrize("initializer", [Uniform(), Glorot(), He()])
def test_numbers_come_from_the_generator_alone(initializer):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (it must stay as it is)
    assert np.array_equal(draw(initializer, (5, 5)), draw(initializer, (5, 5)))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(low=1.0, high=1.0), "'low' must be less than high"),
        (lambda: Glorot(gain=0.0), "'gain' must be greater than 0"),
        (lambda: He(distribution="gamma"), "'distribution' must be 'uniform' or 'normal'"),
        (Constant, "'value' is missing"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


class Alternating(Initializer):
    def __call__(self, shape, rng):
        return np.resize([1.0, -1.0], shape)


def test_an_own_initializer_draws_the_weights_of_neuron_and_dense():
    assert Neuron(3, initializer=Alternating()).weights.tolist() == [1.0, -1.0, 1.0]
    assert Dense(2, 2, initializer=Alternating(), dtype="float32").weights.tolist() == [[1.0, -1.0], [1.0, -1.0]]


def test_a_neuron_and_a_layer_of_one_unit_draw_within_the_same_bound():
    neuron, dense = Neuron(30, seed=1), Dense(30, 1, seed=1)
    assert np.array_equal(neuron.weights, dense.weights[:, 0])
    assert np.abs(neuron.weights).max() <= np.sqrt(6 / 31)
    assert neuron.bias == 0.0
