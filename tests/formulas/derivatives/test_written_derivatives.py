"""Right formulas that must pass and wrong ones that must be found: add a row to try another."""

import math
import warnings

import numpy as np
import pytest

from framework import Activation, DerivativeError, ShapeError
from framework.base.special import erf
from framework.formulas import check_derivative


def sigmoid(h):
    return 1 / (1 + np.exp(np.minimum(-h, 709.0)))


NAMES = {"np": np, "math": math, "erf": erf, "sigmoid": sigmoid}


def activation(formula, derivative=None, **settings):
    """Make an activation class of these texts, and an instance."""
    body = {"__annotations__": dict.fromkeys(settings, float), **settings, "__module__": __name__}
    for name, text in [("__call__", formula), ("derivative", derivative)]:
        if text is not None:
            body[name] = eval(f"lambda self, h: {text}", NAMES)
    return type("Mine", (Activation,), body)()


LEAVE_OUT = "leave derivative out"
SIGN = "the sign is wrong"
OUTPUT = "in terms of the output"
FACTOR = "a constant factor is missing"

# (formula, wrong derivative, what the explanation says, settings)
WRONG = [
    ("sigmoid(h)", "h * (1 - h)", OUTPUT, {}),
    ("sigmoid(h)", "-sigmoid(h) * (1 - sigmoid(h))", SIGN, {}),
    ("sigmoid(h)", "sigmoid(h) * (1 + sigmoid(h))", LEAVE_OUT, {}),
    ("sigmoid(h)", "sigmoid(h) ** 2", LEAVE_OUT, {}),
    ("sigmoid(h)", "2 * sigmoid(h) * (1 - sigmoid(h))", FACTOR, {}),
    ("sigmoid(h)", "sigmoid(h) - sigmoid(h) ** 3", LEAVE_OUT, {}),
    ("sigmoid(h)", "np.exp(-np.abs(h))", LEAVE_OUT, {}),
    ("sigmoid(self.beta * h)", "sigmoid(self.beta * h) * (1 - sigmoid(self.beta * h))", r"3 \(beta\)", {"beta": 3.0}),
    ("sigmoid(h / self.beta)", "sigmoid(h / self.beta) * (1 - sigmoid(h / self.beta))", r"1 / beta", {"beta": 4.0}),
    ("np.tanh(h)", "1 - h**2", OUTPUT, {}),
    ("np.tanh(h)", "1 - np.tanh(h)", LEAVE_OUT, {}),
    ("np.tanh(h)", "1 + np.tanh(h) ** 2", LEAVE_OUT, {}),
    ("np.tanh(h)", "np.tanh(h) ** 2 - 1", SIGN, {}),
    ("np.tanh(h)", "1 / np.cosh(np.clip(h, -300, 300))", LEAVE_OUT, {}),
    ("np.tanh(self.beta * h)", "1 - np.tanh(self.beta * h) ** 2", r"2\.5 \(beta\)", {"beta": 2.5}),
    ("self.alpha * np.tanh(h)", "1 - np.tanh(h) ** 2", r"1\.7 \(alpha\)", {"alpha": 1.7}),
    ("np.maximum(h, 0)", "(h < 0) * 1.0", LEAVE_OUT, {}),
    ("np.maximum(h, 0)", "np.ones_like(h)", LEAVE_OUT, {}),
    ("np.maximum(h, 0)", "np.sign(h)", OUTPUT, {}),
    ("np.maximum(h, 0)", "np.where(h > 0, -1.0, 0.0)", SIGN, {}),
    ("np.maximum(h, 0)", "np.maximum(h, 0)", LEAVE_OUT, {}),
    ("np.maximum(h, 0)", "np.where(h > 1, 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.maximum(h, 0) ** 2", "np.maximum(h, 0)", r"2 times", {}),
    ("np.minimum(np.maximum(h, 0), 6)", "np.where(h > 0, 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.minimum(np.maximum(h, 0), 6)", "np.where((h > 0) & (h < 5), 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.where(h > 0, h, self.slope * h)", "np.where(h > 0, 1.0, 0.0)", LEAVE_OUT, {"slope": 0.1}),
    ("np.where(h > 0, h, self.slope * h)", "np.where(h > 0, self.slope, 1.0)", LEAVE_OUT, {"slope": 0.1}),
    ("np.where(h > 0, h, self.slope * h)", "np.where(h > 0, 1.0, -self.slope)", LEAVE_OUT, {"slope": 0.1}),
    (
        "np.where(h > 0, h, np.expm1(np.minimum(h, 0)))",
        "np.where(h > 0, 1.0, np.expm1(np.minimum(h, 0)))",
        LEAVE_OUT,
        {},
    ),
    ("np.where(h > 0, h, np.expm1(np.minimum(h, 0)))", "np.where(h > 0, h, np.exp(np.minimum(h, 0)))", LEAVE_OUT, {}),
    (
        "self.alpha * np.expm1(np.minimum(h, 0))",
        "np.where(h < 0, np.exp(np.minimum(h, 0)), 0.0)",
        "alpha",
        {"alpha": 1.3},
    ),
    ("h * sigmoid(h)", "sigmoid(h) * (1 - sigmoid(h))", LEAVE_OUT, {}),
    ("h * sigmoid(h)", "sigmoid(h)", LEAVE_OUT, {}),
    ("h * sigmoid(h)", "sigmoid(h) + sigmoid(h) * (1 - sigmoid(h))", LEAVE_OUT, {}),
    ("h * sigmoid(h)", "sigmoid(h) - h * sigmoid(h) * (1 - sigmoid(h))", LEAVE_OUT, {}),
    (
        "h * sigmoid(self.beta * h)",
        "sigmoid(self.beta * h) + h * sigmoid(self.beta * h) * (1 - sigmoid(self.beta * h))",
        LEAVE_OUT,
        {"beta": 2.0},
    ),
    ("np.logaddexp(0, h)", "1 - sigmoid(h)", LEAVE_OUT, {}),
    ("np.logaddexp(0, h)", "sigmoid(-h)", LEAVE_OUT, {}),
    ("np.logaddexp(0, h)", "sigmoid(h) * (1 - sigmoid(h))", LEAVE_OUT, {}),
    ("np.logaddexp(0, self.beta * h) / self.beta", "sigmoid(h)", LEAVE_OUT, {"beta": 3.0}),
    ("h / (1 + np.abs(h))", "1 / (1 + np.abs(h))", LEAVE_OUT, {}),
    ("h / (1 + np.abs(h))", "1 / (1 + h) ** 2", LEAVE_OUT, {}),
    ("h / (1 + np.abs(h))", "1 / (1 + h**2)", LEAVE_OUT, {}),
    ("np.sin(h)", "-np.cos(h)", SIGN, {}),
    ("np.sin(self.frequency * h)", "np.cos(self.frequency * h)", r"5 \(frequency\)", {"frequency": 5.0}),
    ("np.cos(h)", "np.sin(h)", SIGN, {}),
    ("np.exp(-h * h)", "np.exp(-h * h)", LEAVE_OUT, {}),
    ("np.exp(-h * h)", "2 * h * np.exp(-h * h)", SIGN, {}),
    ("np.exp(-h * h)", "-h * np.exp(-h * h)", r"2 times", {}),
    ("h**3", "3 * h", LEAVE_OUT, {}),
    ("h**3", "h**2", r"3 times", {}),
    ("h**2", "2.0 + 0 * h", LEAVE_OUT, {}),
    ("h**2", "2 * np.abs(h)", LEAVE_OUT, {}),
    ("np.sqrt(1 + h * h)", "1 / np.sqrt(1 + h * h)", LEAVE_OUT, {}),
    ("np.sqrt(1 + h * h)", "h * np.sqrt(1 + h * h)", LEAVE_OUT, {}),
    ("np.hypot(1, h)", "2 * h / np.hypot(1, h)", r"0\.5 times", {}),
    ("np.arctan(h)", "1 / (1 + h)", LEAVE_OUT, {}),
    ("np.arctan(h)", "1 / (1 - h * h)", LEAVE_OUT, {}),
    ("np.log1p(h * h)", "2 / (1 + h * h)", LEAVE_OUT, {}),
    ("np.log1p(np.abs(h))", "1 / (1 + np.abs(h))", LEAVE_OUT, {}),
    ("0.5 * h * (1 + erf(h / math.sqrt(2)))", "0.5 * (1 + erf(h / math.sqrt(2)))", LEAVE_OUT, {}),
    (
        "0.5 * h * (1 + erf(h / math.sqrt(2)))",
        "0.5 * (1 + erf(h / math.sqrt(2))) + h * np.exp(-h * h / 2)",
        LEAVE_OUT,
        {},
    ),
    ("h * np.tanh(np.logaddexp(0, h))", "np.tanh(np.logaddexp(0, h))", LEAVE_OUT, {}),
    ("np.clip(h, -1, 1)", "np.where(np.abs(h) < 2, 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.abs(h)", "np.where(h > 0, 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.clip(h / 6 + 0.5, 0, 1)", "np.where(np.abs(h) < 2.5, 1 / 6, 0.0)", LEAVE_OUT, {}),
    ("np.clip(0.2 * h + 0.5, 0, 1)", "np.where(np.abs(h) < 3, 0.2, 0.0)", LEAVE_OUT, {}),
    ("np.clip(h, 0, 6)", "np.where((h > 0) & (h < 5.8), 1.0, 0.0)", LEAVE_OUT, {}),
    ("np.maximum(h - 4, 0)", "np.where(h > 4.4, 1.0, 0.0)", LEAVE_OUT, {}),
    ("h * sigmoid(h)", "np.where(h > 500, 0.0, sigmoid(h) * (1 + h * (1 - sigmoid(h))))", LEAVE_OUT, {}),
    ("np.abs(h)", "-np.sign(h)", SIGN, {}),
    ("3 * h + 2", "2.0 + 0 * h", r"1\.5 times", {}),
    ("sigmoid(h) + 1e6", "1.1 * sigmoid(h) * (1 - sigmoid(h))", FACTOR, {}),
    ("np.tanh(h)", "np.where(h < -5, 1.0, 1 - np.tanh(h) ** 2)", LEAVE_OUT, {}),
    ("np.tanh(h)", "np.where(np.abs(h) < 1e-6, 0.0, 1 - np.tanh(h) ** 2)", LEAVE_OUT, {}),
    ("np.tanh(h)", "(1 - np.tanh(h) ** 2) / np.abs(np.sign(h))", LEAVE_OUT, {}),
]

# (formula, derivative or None, settings): all right, each written in another way
RIGHT = [
    ("sigmoid(h)", "sigmoid(h) * (1 - sigmoid(h))", {}),
    ("1 / (1 + np.exp(-h))", None, {}),
    ("np.exp(h) / (1 + np.exp(h))", None, {}),
    ("0.5 * (1 + np.tanh(h / 2))", "0.25 / np.cosh(np.clip(h / 2, -300, 300)) ** 2", {}),
    ("np.where(h >= 0, 1 / (1 + np.exp(-np.abs(h))), np.exp(-np.abs(h)) / (1 + np.exp(-np.abs(h))))", None, {}),
    ("np.tanh(h)", "1 - np.tanh(h) ** 2", {}),
    ("np.tanh(h)", "1 / np.cosh(np.clip(h, -300, 300)) ** 2", {}),
    ("(np.exp(2 * h) - 1) / (np.exp(2 * h) + 1)", None, {}),
    ("np.tanh(self.beta * h)", "self.beta * (1 - np.tanh(self.beta * h) ** 2)", {"beta": 1000.0}),
    ("np.maximum(h, 0)", "(h > 0) * 1.0", {}),
    ("np.maximum(0, h)", "(h >= 0) * 1.0", {}),
    ("np.maximum(h, 0)", "np.heaviside(h, 0.5)", {}),
    ("h * (h > 0)", None, {}),
    ("np.where(h == 0, 0.0, h)", None, {}),
    ("np.where(h > 0, h, 0)", None, {}),
    ("(h + np.abs(h)) / 2", None, {}),
    ("np.clip(h, 0, None)", None, {}),
    ("np.minimum(np.maximum(h, 0), 6)", "np.where((h > 0) & (h < 6), 1.0, 0.0)", {}),
    ("np.clip(h, -1, 1)", "np.where(np.abs(h) <= 1, 1.0, 0.0)", {}),
    ("np.select([h < -1, h > 1], [-1.0, 1.0], h)", None, {}),
    ("np.where(h > 0, h, self.slope * h)", "np.where(h > 0, 1.0, self.slope)", {"slope": 0.1}),
    ("np.maximum(h, self.slope * h)", None, {"slope": 0.1}),
    ("np.where(h > 0, h, np.expm1(np.minimum(h, 0)))", "np.exp(np.minimum(h, 0))", {}),
    ("np.maximum(h, 0) + np.minimum(0, np.exp(np.minimum(h, 0)) - 1)", None, {}),
    ("np.maximum(h, 0) + 0.1 * np.minimum(h, 0)", None, {}),
    ("np.where(h > 0, h, 0.5 * np.expm1(np.minimum(h, 0)))", None, {}),
    ("h * sigmoid(h)", "sigmoid(h) * (1 + h * (1 - sigmoid(h)))", {}),
    ("h / (1 + np.exp(-self.beta * h))", None, {"beta": 2.0}),
    ("np.logaddexp(0, h)", "sigmoid(h)", {}),
    ("np.log1p(np.exp(-np.abs(h))) + np.maximum(h, 0)", None, {}),
    ("np.log(1 + np.exp(h))", None, {}),
    ("h / (1 + np.abs(h))", "1 / (1 + np.abs(h)) ** 2", {}),
    ("h / np.sqrt(1 + h * h)", "(1 + h * h) ** -1.5", {}),
    ("h / np.hypot(1, h)", None, {}),
    ("np.sin(30 * h)", "30 * np.cos(30 * h)", {}),
    ("h + np.sin(h) ** 2", "1 + np.sin(2 * h)", {}),
    ("np.exp(-np.square(h))", "-2 * h * np.exp(-h * h)", {}),
    ("np.arctan(h)", "1 / (1 + h * h)", {}),
    ("np.arcsinh(h)", None, {}),
    ("np.cbrt(h)", None, {}),
    ("np.where(h == 0, 1.0, np.sin(h) / np.where(h == 0, 1.0, h))", None, {}),
    ("np.sin(1e4 * h)", "1e4 * np.cos(1e4 * h)", {}),
    ("np.copysign(np.log1p(np.abs(h)), h)", None, {}),
    ("np.clip(h, a_min=0, a_max=6)", None, {}),
    ("h.clip(min=0)", None, {}),
    ("h * np.array(2.0)", None, {}),
    ("np.array([0.5]) * h", "0.5 + 0 * h", {}),
    ("np.sign(h) * np.log1p(np.abs(h))", "1 / (1 + np.abs(h))", {}),
    ("h * np.tanh(np.logaddexp(0, h))", None, {}),
    ("0.5 * h * (1 + erf(h / math.sqrt(2)))", None, {}),
    ("0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))", None, {}),
    ("h**3 - h", "3 * h**2 - 1", {}),
    ("h * h * h", None, {}),
    ("np.power(np.abs(h), 1.5)", None, {}),
    ("2.0 ** np.minimum(h, 10)", None, {}),
    ("np.floor(h)", "0 * h", {}),
    ("np.sqrt(h)", "0.5 / np.sqrt(h)", {}),
    ("np.log(h)", "1 / h", {}),
    ("1 / h", "-1 / h**2", {}),
    ("h", "np.ones_like(h)", {}),
    ("0 * h + 7", "0 * h", {}),
    ("1e200 * h", "1e200 + 0 * h", {}),
    ("1e-200 * h**2", "2e-200 * h", {}),
    ("sigmoid(h) + 1e6", "sigmoid(h) * (1 - sigmoid(h))", {}),
]


def test_the_tables_are_as_long_as_they_should_be():
    assert len(WRONG) >= 60
    assert len(RIGHT) >= 40


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(("formula", "derivative", "explanation", "settings"), WRONG)
def test_a_wrong_derivative_is_found_and_explained(formula, derivative, explanation, settings):
    with pytest.raises(DerivativeError, match=explanation) as caught:
        check_derivative(activation(formula, derivative, **settings))
    message = str(caught.value)
    assert message.startswith("Mine.derivative is wrong at h = ")
    explanations = [text for text in (LEAVE_OUT, SIGN, OUTPUT, FACTOR) if text in message]
    assert len(explanations) == 1, "one explanation, and no misleading one beside it"


@pytest.mark.parametrize(("formula", "derivative", "settings"), RIGHT)
def test_a_right_derivative_passes(formula, derivative, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_derivative(activation(formula, derivative, **settings))


POINTS = np.array([-5.3, -1.7, -0.6, -1e-4, 2e-4, 0.3, 1.2, 2.4, 6.6])
"""Where to compare: not at a kink of a formula in RIGHT."""


@pytest.mark.parametrize(("formula", "derivative", "settings"), RIGHT)
def test_the_derived_derivative_is_the_right_one_or_that_of_the_differences(formula, derivative, settings):
    mine = activation(formula, derivative, **settings)
    with np.errstate(all="ignore"):
        derived = activation(formula, None, **settings).derivative(POINTS)
        if derivative is None:
            points = POINTS.astype(np.longdouble)
            step = 1e-7 * np.abs(points)
            expected = (mine(points + step) - mine(points - step)) / (2 * step)
        else:
            expected = mine.derivative(POINTS)
    np.testing.assert_allclose(derived, expected.astype(float), rtol=1e-7, atol=1e-8)


def test_the_message_shows_the_derived_derivative():
    with pytest.raises(DerivativeError, match=r"derived from the formula: f'\(h\) = 1 - a \*\* 2  where a = f\(h\)"):
        check_derivative(activation("np.tanh(h)", "1 - np.tanh(h)"))


@pytest.mark.parametrize(
    ("formula", "derivative", "message"),
    [
        ("h / np.sum(h)", "1 / np.sum(h)", "couples elements"),
        ("h - np.mean(h)", "np.ones_like(h)", "couples elements"),
        ("np.exp(h) / np.exp(h).sum(axis=-1, keepdims=True)", "h * 0", "couples elements"),
        ("np.cumsum(h)", "np.ones_like(h)", "couples elements"),
        ("np.sum(h)", "np.ones_like(h)", "keep the shape"),
        ("np.multiply(h, 2, out=h)", "2 + 0 * h", "changes its argument 'h' in place"),
        ("np.tanh(h)", "np.subtract(1, np.tanh(h) ** 2, out=h)", "changes its argument 'h' in place"),
        ("np.tanh(h)", "np.float64(1.0)", "must keep the shape"),
    ],
)
def test_formulas_that_are_no_elementwise_functions_are_told_so(formula, derivative, message):
    with pytest.raises((DerivativeError, ShapeError), match=message):
        check_derivative(activation(formula, derivative))


def test_checking_touches_no_random_stream():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the global stream is what must not change)
    check_derivative(activation("np.tanh(h)", "1 - np.tanh(h) ** 2"))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
