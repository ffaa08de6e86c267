import numpy as np
import pytest
import scipy.special
from oracles import jax, jax_gradients, jnp

from framework import (
    Activation,
    BinaryCrossEntropy,
    Dense,
    DerivativeError,
    HalfSquaredError,
    Identity,
    Neuron,
    ReLU,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
)
from framework.base import DtypeError
from framework.models.composite import ActivationLayer

ELEMENTWISE = [Identity(), Sigmoid(), Tanh(), ReLU()]
JAX = {Identity(): lambda h: h * 1, Sigmoid(): jax.nn.sigmoid, Tanh(): jnp.tanh, ReLU(): jax.nn.relu}
SCIPY = {
    Sigmoid(): scipy.special.expit,
    Tanh(): np.tanh,
    ReLU(): lambda h: np.where(h > 0, h, 0.0),
    Identity(): np.copy,
}
POINTS = [0.0, 1e-300, 1e-9, 0.1, 1.0, 3.7, 20.0, 50.0, 700.0, 709.7, 1e4, 1e308]
FLOAT32_POINTS = [0.0, 1e-38, 1e-6, 0.1, 1.0, 3.7, 20.0, 50.0, 88.7, 103.0, 3.4e38]
GRID = np.array([sign * h for h in POINTS for sign in (-1.0, 1.0)])
GRID32 = np.array([sign * h for h in FLOAT32_POINTS for sign in (-1.0, 1.0)], np.float32)


def evaluated(activation, h):
    return ActivationLayer(activation=activation, dtype=h.dtype).forward(h)


def backward(activation, gradient, h):
    layer = ActivationLayer(activation=activation, dtype=h.dtype)
    layer.forward(h)
    return layer.backward(gradient)


@pytest.mark.parametrize(("h", "tiny"), [(GRID, 1e-307), (GRID32, 1e-37)], ids=["float64", "float32"])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_values_are_those_of_scipy_and_nothing_overflows(activation, h, tiny):
    got = activation(h)
    assert got.dtype == h.dtype
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, SCIPY[activation](h), rtol=8 * np.finfo(h.dtype).eps, atol=tiny)


@pytest.mark.parametrize("h", [GRID, GRID32], ids=["float64", "float32"])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_derivatives_are_those_of_jax(activation, h):
    _, (expected,) = jax_gradients(JAX[activation], h)
    tolerance = {"rtol": 8 * np.finfo(h.dtype).eps, "atol": 8 * np.finfo(h.dtype).eps}
    np.testing.assert_allclose(activation.derivative(h), expected, **tolerance)
    np.testing.assert_allclose(backward(activation, np.ones_like(h), h), expected, **tolerance)


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_gradients_are_carried_back_as_jax_does(activation):
    h, gradient = np.random.default_rng(0).normal(0, 3, (2, 7, 5))
    _, (expected,) = jax_gradients(JAX[activation], h, upstream=gradient)
    got = activation.backward(gradient, h, activation(h))
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-15)


def test_the_derivative_of_relu_at_its_kink_is_0():
    assert ReLU().derivative(np.array([-0.0, 0.0, 1e-300])).tolist() == [0.0, 0.0, 1.0]


def test_sigmoid_has_the_bits_of_the_textbook_formula():
    h = np.random.default_rng(0).normal(0.0, 200.0, 100_000)
    h = h[h > -709]  # below, the textbook formula overflows
    assert np.array_equal(Sigmoid()(h), 1 / (1 + np.exp(-h)))


def test_sigmoid_keeps_its_relative_accuracy_far_below_zero():
    h = np.linspace(-708, -1, 500)
    np.testing.assert_allclose(Sigmoid()(h), np.exp(h - np.log1p(np.exp(h))), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_shape_and_dtype_are_kept(activation, shape, dtype):
    h = np.ones(shape, dtype)[()]
    for result in (activation(h), activation.derivative(h)):
        assert np.shape(result) == shape
        assert result.dtype == dtype


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_python_numbers_are_welcome(activation):
    assert float(activation(0.5)) == float(activation(np.float64(0.5)))
    assert float(activation.derivative(0.5)) == float(activation.derivative(np.float64(0.5)))


@pytest.mark.parametrize(("dtype", "largest"), [(np.float64, 1e308), (np.float32, 3e38)])
def test_softmax_is_that_of_scipy_and_does_not_overflow(dtype, largest):
    h = np.array([[0.0, -0.0, 1e-30], [50.0, -50.0, 0.0], [700.0, -700.0, 710.0], [largest, largest, 0.0]], dtype)
    got = Softmax()(h)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, scipy.special.softmax(h.astype(np.float64), axis=-1), rtol=4e-7, atol=1e-37)
    np.testing.assert_allclose(got.sum(axis=-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5)])
def test_softmax_carries_gradients_back_as_jax_does(shape):
    rng = np.random.default_rng(0)
    h, gradient = rng.normal(0, 3, shape), rng.normal(size=shape)
    _, (expected,) = jax_gradients(jax.nn.softmax, h, upstream=gradient)
    np.testing.assert_allclose(Softmax().backward(gradient, h, Softmax()(h)), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(backward(Softmax(), gradient, h), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("activation", [*ELEMENTWISE, Softmax()])
def test_a_layer_gives_what_one_call_gives(activation):
    h = np.random.default_rng(0).normal(size=(3000, 7))
    np.testing.assert_allclose(evaluated(activation, h), activation(h), rtol=0 if activation in ELEMENTWISE else 1e-15)
    gradient = np.ones_like(h)
    a = activation(h)
    whole = activation.backward(gradient, h, a) if isinstance(activation, Softmax) else activation.derivative(h)
    np.testing.assert_allclose(backward(activation, gradient, h), whole, rtol=1e-13, atol=1e-15)


class NoDerivative(Activation):
    def __call__(self, h):
        return h * h


class NoDerivativeOfItsOwn(Sigmoid):
    def __call__(self, h):
        return super().__call__(2.0 * h)


class NoBackwardOfItsOwn(Softmax):
    def __call__(self, h):
        return super().__call__(2.0 * h)


@pytest.mark.parametrize("activation", [NoDerivative(), NoDerivativeOfItsOwn()])
def test_a_formula_without_a_derivative_of_its_own_gets_it_derived(activation):
    h = np.linspace(-2, 2, 9)
    step = 1e-6
    difference = (activation(h + step) - activation(h - step)) / (2 * step)
    np.testing.assert_allclose(activation.derivative(h), difference, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(backward(activation, np.ones_like(h), h), difference, rtol=1e-8, atol=1e-9)


def test_a_row_formula_without_a_backward_of_its_own_gets_it_derived():
    report = check_gradients(Dense(2, 3, NoBackwardOfItsOwn()), HalfSquaredError(), np.eye(2), np.zeros((2, 3)))
    assert report.passed


class NoRecord(Activation):
    def __call__(self, h):
        return np.vectorize(lambda one: one if one > 0 else 0.0)(h)


def test_a_formula_that_cannot_be_recorded_is_refused_when_a_layer_is_made():
    with pytest.raises(DerivativeError, match=r"NoRecord.*: the formula cannot be traced through"):
        Dense(2, 3, NoRecord())


class Written(NoRecord):
    def derivative(self, h):
        return np.where(h > 0, 1.0, 0.0)


class WrittenUnchecked(Written):
    check = "off"


@pytest.mark.parametrize("activation", [Written(), WrittenUnchecked()])
def test_a_formula_that_cannot_be_traced_serves_with_a_written_derivative(activation):
    assert activation.require_derivative() == activation
    model = Dense.from_weights(np.eye(2), activation=activation)
    model.forward([[3.0, -2.0]])
    assert model.backward([[5.0, 7.0]]).tolist() == [[5.0, 0.0]]


class Steep(Sigmoid):
    """Writes its formula and derivative."""

    beta: float = 2.0

    def __call__(self, h):
        return super().__call__(self.beta * h)

    def derivative(self, h):
        return self.beta * self(h) * (1 - self(h))


def test_the_derivative_of_a_new_formula_is_used():
    h = np.linspace(-2, 2, 9)
    assert np.array_equal(backward(Steep(), np.ones_like(h), h), Steep().derivative(h))
    step = 1e-6
    difference = (Steep()(h + step) - Steep()(h - step)) / (2 * step)
    np.testing.assert_allclose(backward(Steep(), np.ones_like(h), h), difference, rtol=1e-8)


def test_an_inherited_derivative_is_not_used_for_a_new_formula():
    class Shifted(Written):
        def __call__(self, h):
            return h * h

    assert Shifted().derivative(np.array([-1.0, 3.0])).tolist() == [-2.0, 6.0]


def test_a_formula_that_cannot_be_traced_is_refused_without_a_check_too():
    class Unchecked(NoRecord):
        check = "off"

    with pytest.raises(DerivativeError, match="the formula cannot be traced through"):
        Unchecked().require_derivative()


class ByPython(Activation):
    """Its formula can be traced, its derivative cannot."""

    def __call__(self, h):
        return np.maximum(h, 0.0)

    def derivative(self, h):
        return np.vectorize(lambda one: 1.0 if one > 0 else 0.0)(h)


class Around(Activation):
    def __call__(self, h):
        return 3.0 * ByPython()(2.0 * h)


def test_a_written_derivative_that_cannot_be_traced_serves_inside_another_formula():
    h, gradient = np.array([[-1.0, 0.5, 2.0]]), np.array([[1.0, 10.0, 100.0]])
    assert Around().backward(gradient, h, Around()(h)).tolist() == [[0.0, 60.0, 600.0]]
    assert backward(Around(), gradient, h).tolist() == [[0.0, 60.0, 600.0]]


def test_jupyter_shows_the_formula_and_its_derivative():
    shown = Tanh()._repr_latex_()
    assert shown.startswith("$$")
    assert r"f'" in shown
    assert r"\tanh" in shown


def test_an_inherited_backward_is_not_used_for_a_new_formula():
    class Squared(Activation):
        def __call__(self, h):
            return h * h

        def backward(self, gradient, h, a):
            return 2.0 * h * gradient

    class Cubed(Squared):
        def __call__(self, h):
            return h * h * h

    h = np.array([-1.0, 2.0])
    assert Squared().backward(np.ones(2), h, h**2).tolist() == [-2.0, 4.0]
    assert Cubed().backward(np.ones(2), h, h**3).tolist() == [3.0, 12.0]


class StraightThrough(Activation):
    """Writes another derivative than that of its formula, on purpose."""

    check = "off"

    def __call__(self, h):
        return np.exp(h)

    def derivative(self, h):
        return 3.0 * self(h)


def test_a_written_derivative_is_used():
    h = np.array([0.0, 1.0])
    np.testing.assert_allclose(backward(StraightThrough(), np.ones(2), h), 3.0 * np.exp(h), rtol=1e-15)


def formula(value, slope, writes="derivative"):
    class Own(Activation):
        def __call__(self, h):
            return value(h)

        if writes == "derivative":

            def derivative(self, h):
                return slope(h)

        else:

            def backward(self, gradient, h, a):
                return slope(h)

    return Own()


BAD = {  # value, slope, error
    "value of another shape": (lambda _: np.ones(99), np.ones_like, ShapeError),
    "complex value": (lambda h: h + 1j, np.ones_like, DtypeError),
    "text": (lambda h: np.full(np.shape(h), "a"), np.ones_like, DtypeError),
    "slope of another shape": (np.copy, lambda _: np.ones(99), ShapeError),
    "one slope for all": (np.copy, lambda h: np.ones((*np.shape(h), 1)), ShapeError),
    "complex slope": (np.copy, lambda h: 1j * h, DtypeError),
}


@pytest.mark.parametrize("writes", ["derivative", "backward"])
@pytest.mark.parametrize("x", [[1.0, 2.0], [[1.0, 2.0]] * 3], ids=["sample", "batch"])
@pytest.mark.parametrize(("value", "slope", "error"), BAD.values(), ids=BAD)
def test_results_of_another_shape_or_no_real_numbers_are_refused(value, slope, error, x, writes):
    activation = formula(value, slope, writes)

    def train():
        model = Neuron(2, activation) if writes == "derivative" else Dense(2, 2, activation)
        model.backward(np.ones(np.shape(model.forward(x))))

    with pytest.raises(error, match="Own"):
        train()


def test_whole_numbers_and_truth_values_are_cast():
    class Unchecked(type(formula(lambda h: h > 0, lambda h: np.ones(h.shape, int)))):
        check = "off"

    model = Dense.from_weights(np.eye(2), activation=Unchecked())
    prediction = model.forward([[1.0, -1.0]])
    assert prediction.dtype == np.float64
    assert prediction.tolist() == [[1.0, 0.0]]
    assert model.backward([[2.0, 3.0]]).tolist() == [[2.0, 3.0]]


class Scaled(Activation):
    top: float = 1.0

    @property
    def output_range(self):
        return (0.0, self.top)

    def __call__(self, h):
        return self.top / (1.0 + np.exp(-h))


def test_a_range_may_depend_on_a_setting():
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    data = ([[0.0], [1.0]], [0, 1])
    assert trainer.fit(Neuron(1, Scaled()), data).loss > 0
    with pytest.raises(SettingsError, match=r"needs outputs in \[0, 1\]; Scaled\(top=2.0\) gives \[0, 2\]"):
        trainer.fit(Neuron(1, Scaled(2.0)), data)


@pytest.mark.parametrize("value", [3, (1.0, 0.0), (0.0, "1"), (0.0, 1.0, 2.0), lambda self: (0.0, self.top)])
def test_a_range_that_is_no_interval_is_refused_with_the_class(value):
    class Odd(Scaled):
        output_range = value

    with pytest.raises(SettingsError, match=r"^Odd: output_range must be \(low, high\), the interval of the outputs"):
        Odd()
