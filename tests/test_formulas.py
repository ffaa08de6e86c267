import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import jax_gradients

from framework import DerivativeError
from framework.derivatives import check_elementwise, check_rows
from framework.formulas import show_program, trace
from framework.formulas.rules import COMPARISONS, OPERATIONS
from framework.special import erf, erfc

GRID = np.array([-700.0, -50.0, -3.0, -1.0, -0.4, -1e-8, -0.0, 0.0, 1e-8, 0.4, 1.0, 3.0, 50.0, 700.0])
INSIDE = np.array([-0.9, -0.5, -0.1, 0.2, 0.7])
POSITIVE = np.array([1e-8, 0.1, 0.5, 1.0, 2.0, 40.0])


def absolute(x):
    return x * jnp.sign(x)  # the slope of jnp.abs is 1 at 0; by our convention it is 0


ONE_ARGUMENT = {  # each operation of one argument, where it is smooth, and JAX's name for it
    "exp": (np.exp, jnp.exp, INSIDE),
    "exp2": (np.exp2, jnp.exp2, INSIDE),
    "expm1": (np.expm1, jnp.expm1, INSIDE),
    "log": (np.log, jnp.log, POSITIVE),
    "log2": (np.log2, jnp.log2, POSITIVE),
    "log10": (np.log10, jnp.log10, POSITIVE),
    "log1p": (np.log1p, jnp.log1p, POSITIVE),
    "sqrt": (np.sqrt, jnp.sqrt, POSITIVE),
    "cbrt": (np.cbrt, lambda x: x ** (1 / 3), POSITIVE),
    "square": (np.square, jnp.square, GRID),
    "reciprocal": (np.reciprocal, jnp.reciprocal, POSITIVE),
    "negative": (np.negative, jnp.negative, GRID),
    "positive": (np.positive, lambda x: x, GRID),
    "sin": (np.sin, jnp.sin, GRID),
    "cos": (np.cos, jnp.cos, GRID),
    "tan": (np.tan, jnp.tan, INSIDE),
    "arcsin": (np.arcsin, jnp.arcsin, INSIDE),
    "arccos": (np.arccos, jnp.arccos, INSIDE),
    "arctan": (np.arctan, jnp.arctan, GRID),
    "sinh": (np.sinh, jnp.sinh, INSIDE),
    "cosh": (np.cosh, jnp.cosh, INSIDE),
    "tanh": (np.tanh, jnp.tanh, GRID),
    "arcsinh": (np.arcsinh, jnp.arcsinh, INSIDE),
    "arccosh": (np.arccosh, jnp.arccosh, POSITIVE[4:]),
    "arctanh": (np.arctanh, jnp.arctanh, INSIDE),
    "erf": (erf, jax.scipy.special.erf, GRID),
    "erfc": (erfc, jax.scipy.special.erfc, GRID),
    "abs": (np.abs, absolute, GRID),
    "fabs": (np.fabs, absolute, GRID),
    "sign": (np.sign, jnp.sign, GRID),
    "floor": (np.floor, jnp.floor, INSIDE),
    "ceil": (np.ceil, jnp.ceil, INSIDE),
    "rint": (np.rint, jnp.rint, INSIDE),
    "trunc": (np.trunc, jnp.trunc, INSIDE),
}

TWO_ARGUMENTS = {
    "add": (np.add, jnp.add),
    "subtract": (np.subtract, jnp.subtract),
    "multiply": (np.multiply, jnp.multiply),
    "divide": (np.divide, jnp.divide),
    "power": (np.power, jnp.power),
    "hypot": (np.hypot, jnp.hypot),
    "logaddexp": (np.logaddexp, jnp.logaddexp),
    "arctan2": (np.arctan2, jnp.arctan2),
    "maximum": (np.maximum, jnp.maximum),
    "minimum": (np.minimum, jnp.minimum),
    "copysign": (np.copysign, jnp.copysign),
    "mod": (np.mod, jnp.mod),
}


def written(text):
    """Return the formula of h that this text is."""
    return eval(f"lambda h: {text}", {"np": np, "math": math})


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_each_operation_has_the_derivative_of_jax(name):
    function, oracle, points = ONE_ARGUMENT[name]
    program = trace(function)
    assert np.array_equal(program.value(points), function(points))
    np.testing.assert_allclose(program.derivative(points), jax_gradients(oracle, points)[1][0], rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
@pytest.mark.parametrize("place", [0, 1])
def test_each_operation_of_two_has_the_derivative_of_jax_by_both(name, place):
    function, oracle = TWO_ARGUMENTS[name]
    x, other = np.array([0.3, 1.7, 2.2, 5.1]), 1.3
    pair = (lambda f, c: lambda h: f(h, c)) if place == 0 else (lambda f, c: lambda h: f(c, h))
    program = trace(pair(function, other))
    _, (expected,) = jax_gradients(pair(oracle, other), x)
    assert np.array_equal(program.value(x), pair(function, other)(x))
    np.testing.assert_allclose(program.derivative(x), expected, rtol=1e-13, atol=1e-300)


def test_the_table_of_operations_is_covered():
    steps = {"sign", "heaviside", "signbit", "isfinite", "isnan", "isinf", "invert", "where"}
    logic = {"logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or"}
    rows = {"sum", "mean", "max", "min", "column", "flat", "spread", "row_length"}
    assert OPERATIONS.keys() == set(ONE_ARGUMENT) - {"fabs"} | set(TWO_ARGUMENTS) | steps | logic | rows | COMPARISONS


@pytest.mark.parametrize(
    ("formula", "at_the_kink"),
    [
        ("np.maximum(h, 0)", 0.0),
        ("np.maximum(0, h)", 0.0),
        ("h * (h > 0)", 0.0),
        ("np.where(h > 0, h, 0)", 0.0),
        ("np.clip(h, 0, 1)", 0.0),
        ("np.abs(h)", 0.0),
        ("np.maximum(h, -h)", 0.0),
        ("np.sqrt(h * h + 1) - 1", 0.0),
        ("np.sign(h)", 0.0),
        ("np.heaviside(h, 0.5)", 0.0),
    ],
)
def test_kinks_follow_the_convention(formula, at_the_kink):
    assert trace(written(formula)).derivative(np.array([0.0]))[0] == at_the_kink


@pytest.mark.parametrize(
    ("formula", "slope"),
    [
        ("np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))", 0.5),
        ("np.maximum(h, 0) - np.maximum(-h, 0)", 1.0),
        ("np.where(h > 0, h, np.expm1(np.minimum(h, 0)))", 1.0),
        ("np.where(h >= 0, 1 / (1 + np.exp(-np.abs(h))), 1 - 1 / (1 + np.exp(-np.abs(h))))", 0.25),
    ],
)
def test_kinks_that_cancel_give_the_derivative_of_the_smooth_function(formula, slope):
    assert trace(written(formula)).derivative(np.array([0.0]))[0] == pytest.approx(slope, rel=1e-15)


def test_kinks_that_cancel_away_from_zero_are_found_too():
    program = trace(lambda h: np.maximum(h - 0.3, 0) + np.log1p(np.exp(-np.abs(h - 0.3))))
    assert program.derivative(np.array([0.3]))[0] == pytest.approx(0.5, rel=1e-15)


def test_a_choice_that_is_not_taken_cannot_spoil_the_derivative():
    with np.errstate(all="ignore"):
        slope = trace(lambda h: np.where(h > 0, np.log(h), 0.0)).derivative(np.array([-1.0, 0.0, 2.0]))
    assert slope.tolist() == [0.0, 0.0, 0.5]


def test_a_tiny_derivative_keeps_its_relative_accuracy():
    slope = trace(lambda h: 1 / (1 + np.exp(-h))).derivative(np.array([-700.0, -300.0]))
    np.testing.assert_allclose(slope, np.exp([-700.0, -300.0]), rtol=1e-13)


def test_helpers_settings_and_changes_of_a_result_in_place_are_recorded():
    def helper(x, scale):
        return np.tanh(scale * x)

    def formula(h):
        result = helper(h, 2.0)
        result += 1
        result *= 0.5
        return result

    program = trace(formula)
    assert np.array_equal(program.value(INSIDE), formula(INSIDE))
    np.testing.assert_allclose(program.derivative(INSIDE), 1 - np.tanh(2 * INSIDE) ** 2, rtol=1e-14)


def test_the_same_operation_is_recorded_once():
    program = trace(lambda h: np.exp(-h) / (1 + np.exp(-h)))
    assert program.value_source.count("exp") == 1


@pytest.mark.parametrize("formula", ["np.where(h > 0, 1.0, 0.1) * h", "h / (1 + np.exp(-2.0 * h))", "h * (h > 0)"])
def test_float32_stays_float32(formula):
    program = trace(written(formula), dtype="float32")
    h = INSIDE.astype(np.float32)
    assert program.value(h).dtype == program.derivative(h).dtype == np.float32


def test_a_number_gives_a_number():
    program = trace(lambda h: np.where(h > 0, h, 0.1 * h))
    assert isinstance(program.value(np.float64(2.0)), np.float64)
    assert isinstance(program.derivative(np.float64(2.0)), np.float64)
    assert trace(lambda h: 2 * h).derivative(np.zeros((2, 3))).tolist() == [[2.0] * 3] * 2
    assert trace(lambda _h: 5.0).derivative(np.zeros(2)).tolist() == [0.0, 0.0]


def test_a_loss_is_derived_by_its_prediction():
    program = trace(lambda p, t: (p - t) ** 2, ("prediction", "target"))
    assert program.derivative(np.array([3.0]), np.array([1.0])).tolist() == [4.0]


REFUSED = [
    ("h if h > 0 else 0", "use np.where"),
    ("max(h, 0)", "np.maximum"),
    ("h > 0 and h", "use np.where"),
    ("math.exp(h)", "np.exp for math.exp"),
    ("float(h)", "use the NumPy function"),
    ("np.asarray(h) * 2", "h is an array already"),
    ("[x for x in h]", "NumPy functions, which work on every element"),
    ("h[0]", "use np.where"),
    ("h.astype(float)", "leave the dtype to the framework"),
    ("np.zeros(h.shape) + h", "np.zeros_like"),
    ("np.sort(h)", "np.sort"),
    ("np.nextafter(h, 1)", "np.nextafter"),
    ("h @ h", "np.matmul"),
    ("h * np.array([1.0, 2.0])", "plain numbers"),
    ("h - np.mean(h, axis=-1, keepdims=True)", "subclass RowActivation"),
    ("h.sum()", "subclass RowActivation"),
    ("np.piecewise(h, [h > 0], [1, 0])", "np.piecewise"),
    ("'text'", "must return numbers"),
]


@pytest.mark.parametrize(("formula", "advice"), REFUSED)
def test_what_cannot_be_recorded_is_refused_with_advice(formula, advice):
    with pytest.raises(DerivativeError, match=advice):
        trace(written(formula))


def test_a_refusal_names_the_line():
    def formula(h):
        doubled = 2 * h
        if doubled > 1:
            return doubled
        return h

    with pytest.raises(DerivativeError, match=r"line \d+ of .*test_formulas.py: if doubled > 1:"):
        trace(formula)


@pytest.mark.parametrize("assignment", ["h *= 2", "h[h < 0] = 0", "np.multiply(h, 2, out=h)"])
def test_a_change_of_the_argument_in_place_is_refused(assignment):
    scope = {"np": np}
    exec(f"def formula(h):\n    {assignment}\n    return h", scope)
    with pytest.raises(DerivativeError, match=r"in place|assignment"):
        trace(scope["formula"])


def test_a_result_changed_in_place_under_another_name_is_refused():
    def formula(h):
        first = np.exp(h)
        second = first
        second += 1
        return first

    with pytest.raises(DerivativeError, match="changed in place"):
        trace(lambda h: formula(h) * 2)


ROWS = {
    "softmax": lambda h: (
        np.exp(h - np.max(h, axis=-1, keepdims=True))
        / np.sum(np.exp(h - np.max(h, axis=-1, keepdims=True)), axis=-1, keepdims=True)
    ),
    "log of the sum": lambda h: np.log(np.sum(np.exp(h), axis=-1)),
    "centred": lambda h: h - h.mean(axis=-1, keepdims=True),
    "normalised": lambda h: h / np.sqrt(np.sum(h**2, axis=-1, keepdims=True)),
    "a column from one number a row": lambda h: h * np.sum(h, axis=-1)[:, None],
    "range": lambda h: np.max(h, axis=-1) - np.min(h, axis=-1),
    "kinks": lambda h: np.sum(np.abs(h) + np.maximum(h, 0.1) + np.where(h > 0, h, 0.2 * h), axis=-1),
}


@pytest.mark.parametrize("name", ROWS)
def test_formulas_over_rows_have_the_gradient_of_finite_differences(name):
    rows = np.array([[0.3, -1.2, 2.0, 0.7], [1.0, 0.2, -0.4, -2.0]])
    program = trace(ROWS[name], rows=True)
    assert np.array_equal(program.value(rows), ROWS[name](rows))
    check_rows(name, "pullback", ROWS[name], program.pullback, rows)


def test_equal_maxima_of_a_row_share_the_gradient():
    program = trace(lambda h: np.max(h, axis=-1), rows=True)
    assert program.pullback(np.ones(1), np.array([[1.0, 1.0, 0.0]])).tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize(
    ("formula", "advice"),
    [
        ("np.sum(h, axis=0)", "write axis=-1"),
        ("np.sum(h)", "write axis=-1"),
        ("h / np.sum(h, axis=-1)", "keepdims=True"),
        ("np.cumsum(h, axis=-1)", "np.cumsum"),
    ],
)
def test_rows_are_refused_with_advice_too(formula, advice):
    with pytest.raises(DerivativeError, match=advice):
        trace(written(formula), rows=True)


def test_show_writes_value_and_derivative():
    shown = show_program(trace(lambda h: h / (1 + np.exp(-2 * h))), "f")
    assert shown.text.splitlines()[0] == "f(h) = h / (1 + exp(-2 * h))"
    assert shown.text.splitlines()[1].startswith("f'(h) = ")
    assert r"\frac{h}{1 + e^{-2 \, h}}" in shown.latex
    assert shown._repr_latex_().startswith("$$")


@pytest.mark.parametrize(
    "formula",
    [
        "(h - 1) - (h - 2)",
        "2 ** (-h) / (h + 1) ** 2",
        "-((h + 1) * (h - 3))",
        "(h / 2) ** 3 / (h / 4)",
        "1 / (1 / (1 + h))",
        "(-h) ** 2 - (2 * h) ** 2",
    ],
)
def test_the_text_evaluates_back_to_the_formula(formula):
    text = show_program(trace(written(formula)), "f").text.splitlines()[0].removeprefix("f(h) = ")
    h = POSITIVE
    np.testing.assert_allclose(written(text)(h), written(formula)(h), rtol=1e-12)


def test_the_derived_derivative_of_every_row_of_the_table_passes_the_check():
    for name, (function, _, _) in ONE_ARGUMENT.items():
        check_elementwise(
            name, function, trace(lambda h, f=function: f(h)).derivative, method="derivative", argument="h"
        )


@pytest.mark.parametrize(
    ("formula", "rows", "gradient"),
    [
        ("np.minimum(h, np.max(h, axis=-1, keepdims=True))", [[1.0, 2.0, 3.0]], [[1.0, 1.0, 1.0]]),
        ("np.maximum(np.abs(h), -h)", [[-1.0, 2.0]], [[-1.0, 1.0]]),
        ("np.where(h > 0, np.log(np.where(h > 0, h, 0.0)), 0.0)", [[-1.0, 2.0]], [[0.0, 0.5]]),
    ],
)
def test_rows_share_ties_and_leave_out_what_is_not_chosen(formula, rows, gradient):
    rows = np.array(rows)
    program = trace(written(formula), rows=True)
    np.testing.assert_allclose(program.pullback(np.ones_like(rows), rows), gradient, rtol=1e-15)
