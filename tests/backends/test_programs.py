"""A program gives a formula's value, its derivative, and the way back through it."""

from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from oracles import jax_gradients, jnp

from framework import Activation, CrossEntropy, Dense, DerivativeError, Loss, Sigmoid, Softmax
from framework.backends.programs import Program, forget, program_of

INSIDE = np.linspace(-3.1, 3.3, 41)


def test_the_value_has_the_bits_of_the_formula():
    def formula(h):
        return 0.5 * h * (1 + np.tanh(0.79788456 * (h + 0.044715 * h**3)))

    assert np.array_equal(Program(formula).value(INSIDE), formula(INSIDE))


@pytest.mark.parametrize(
    "text", ["np.where(h > 0, 1.0, 0.1) * h", "h / (1 + np.exp(-2.0 * h))", "h * (h > 0)", "np.sqrt(2 / np.pi) * h"]
)
def test_float32_stays_float32(text):
    program = Program(eval(f"lambda h: {text}", {"np": np}), dtype="float32")
    h = INSIDE.astype(np.float32)
    assert program.value(h).dtype == program.derivative(h).dtype == np.float32


def test_a_number_gives_a_number_and_any_shape_its_own():
    program = Program(lambda h: np.where(h > 0, h, 0.1 * h))
    assert isinstance(program.value(np.float64(2.0)), np.float64)
    assert isinstance(program.derivative(np.float64(2.0)), np.float64)
    assert Program(lambda h: 2 * h).derivative(np.zeros((2, 3))).tolist() == [[2.0] * 3] * 2
    assert Program(lambda _h: 5.0).derivative(np.zeros(2)).tolist() == [0.0, 0.0]
    assert Program(np.ones_like).value(np.zeros((2, 3, 4))).shape == (2, 3, 4)


def test_a_loss_is_derived_by_its_prediction():
    program = Program(lambda p, t: (p - t) ** 2, ("prediction", "target"))
    assert program.derivative(np.array([3.0]), np.array([1.0])).tolist() == [4.0]


def test_a_tiny_derivative_keeps_its_relative_accuracy():
    slope = Program(lambda h: np.exp(h) / (1 + np.exp(h))).derivative(np.array([-700.0, -300.0]))
    np.testing.assert_allclose(slope, np.exp([-700.0, -300.0]), rtol=1e-13)


def test_the_sigmoids_derivative_has_the_bits_of_the_output_times_1_minus_the_output():
    h = np.array([-800.0, -2.0, 0.0, 5.0])
    a = Sigmoid()(h)
    assert np.array_equal(Sigmoid().program().derivative(h), a * (1 - a))


ROWS = {
    "softmax": lambda np, h: (
        np.exp(h - np.max(h, axis=-1, keepdims=True))
        / np.sum(np.exp(h - np.max(h, axis=-1, keepdims=True)), axis=-1, keepdims=True)
    ),
    "log of the sum": lambda np, h: np.log(np.sum(np.exp(h), axis=-1)),
    "centred": lambda _, h: h - h.mean(axis=-1, keepdims=True),
    "normalised": lambda np, h: h / np.sqrt(np.sum(h**2, axis=-1, keepdims=True)),
    "axis by number": lambda np, h: h * np.sum(h, axis=1)[:, None],
    "range": lambda np, h: np.max(h, axis=-1) - np.min(h, axis=-1),
    "kinks": lambda np, h: np.sum(np.abs(h) + np.maximum(h, 0.1) + np.where(h > 0, h, 0.2 * h), axis=-1),
    "sums of sums": lambda np, h: np.cumsum(h, axis=-1) / (1 + np.sum(np.abs(h), axis=-1, keepdims=True)),
}


@pytest.mark.parametrize("width", [4, 7])
@pytest.mark.parametrize("name", ROWS)
def test_formulas_over_rows_have_jaxs_gradient(name, width):
    rng = np.random.default_rng(0)
    h = rng.normal(size=(3, width))
    formula = ROWS[name]
    program = Program(partial(formula, np), width=width)
    assert not program.elementwise
    gradient = rng.normal(size=program.value(h).shape)
    np.testing.assert_allclose(program.value(h), formula(np, h), rtol=1e-14, atol=1e-14)
    _, (expected,) = jax_gradients(partial(formula, jnp), h, upstream=gradient)
    np.testing.assert_allclose(program.pullback(gradient, h), expected, rtol=1e-12, atol=1e-12)


def test_equal_maxima_of_a_row_share_the_gradient():
    program = Program(lambda h: np.max(h, axis=-1), width=3)
    assert program.pullback(np.ones(1), np.array([[1.0, 1.0, 0.0]])).tolist() == [[0.5, 0.5, 0.0]]


def test_a_formula_is_traced_once_for_its_dtype_and_width():
    traced = []

    class Counted(Activation):
        def __call__(self, h):
            traced.append(h.dtype)
            return np.tanh(h)

    counted = Counted()
    for _ in range(3):
        counted.program(np.ones(3))
        counted.program(np.ones((2, 5)))
        counted.program(np.ones(3, np.float32))
    assert len(traced) == 4  # each dtype twice, with two primes for the number of rows

    softmax = Softmax()
    assert softmax.program(np.ones((2, 5))) is softmax.program(np.ones((9, 5)))
    assert softmax.program(np.ones((2, 5))) is not softmax.program(np.ones((2, 6)))


SCALE = 2.0


class Scaled(Activation):
    def __call__(self, h):
        return SCALE * np.tanh(h)


def test_a_formula_is_traced_again_after_it_was_forgotten(monkeypatch):
    activation = Scaled()
    assert activation.derivative(0.0) == 2.0
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    forget(activation)
    assert activation.derivative(0.0) == 3.0
    assert Scaled().derivative(0.0) == 3.0


class Offset(Activation):
    offset: ClassVar = 1.0

    def __call__(self, h):
        return np.tanh(h) + self.offset


class Around(Activation):
    inner: Activation

    def __call__(self, h):
        return self.inner(h) * 2.0


@pytest.mark.parametrize("activation", [Offset, lambda: Around(inner=Offset())], ids=["own", "inside another"])
def test_a_new_layer_reads_what_its_activation_reads_anew(activation, monkeypatch):
    before = Dense(1, 1, activation(), seed=0)([0.5])
    monkeypatch.setattr(Offset, "offset", 3.0)
    factor = 2.0 if activation is not Offset else 1.0
    np.testing.assert_allclose(Dense(1, 1, activation(), seed=0)([0.5]), before + factor * 2.0)


def test_parts_of_a_component_are_forgotten_too(monkeypatch):
    around = Around(inner=Scaled())
    assert around.inner.derivative(0.0) == 2.0
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    forget(around)
    assert around.inner.derivative(0.0) == 5.0


def test_errors_name_the_class_and_its_formula():
    class Unwrapped(Loss):
        def value(self, prediction, target):
            return np.unwrap(prediction) - target

    with pytest.raises(DerivativeError, match=r"Unwrapped\.value: the formula cannot be traced through np\.unwrap"):
        program_of(Unwrapped(), "value", ("prediction", "target"))


@pytest.mark.parametrize(
    ("formula", "mixed"),
    [(lambda h: h - h.mean(axis=0), "mean over the rows"), (lambda h: h / len(h), "the number of")],
)
def test_a_formula_that_mixes_rows_is_refused(formula, mixed):
    with pytest.raises(DerivativeError, match=f"mixes rows, by {mixed}"):
        Dense(2, 3, Activation.of(formula))


def test_a_formula_of_a_whole_array_may_have_any_shape():
    values = np.full((10007, 2), 2.0)  # the number that stands for the rows of a batch
    program = Program(lambda v: (v**4).sum(), ("values",), width=values.shape)
    np.testing.assert_array_equal(program.derivative(values), 4.0 * values**3)


def test_a_loss_with_class_weights_is_traced_for_its_number_of_classes():
    loss = CrossEntropy(class_weights=(1.0, 2.0, 3.0))
    prediction, target = np.full((2, 3), 1 / 3), np.eye(3)[:2]
    np.testing.assert_allclose(loss.gradient(prediction, target), [[-1.5, 0, 0], [0, -3.0, 0]])
