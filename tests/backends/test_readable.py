"""The text of ``show`` computes what the class computes, is as short as in a textbook, and drops no real choice."""

import inspect
import math
import re
import sys

import numpy as np
import pytest
from scipy import special

from framework import (
    GELU,
    Activation,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    Huber,
    Loss,
    RowLoss,
    Sigmoid,
    Softplus,
    show,
)
from framework.backends.text import Shown
from framework.base.lazy import families, import_public
from framework.formulas import (
    CELU,
    ELU,
    Cauchy,
    Focal,
    LeakyReLU,
    LogCosh,
    OutputLosses,
    Quantile,
    Sine,
    Sort,
    Step,
    Swish,
)
from framework.graph.graph import rewrite
from framework.graph.node import Node, order_nodes
from framework.graph.textbook import FACTS, plainer
from framework.graph.trace import ROWS, trace

NAMESPACE = {name: getattr(np, name) for name in ("exp", "log", "tanh", "cosh", "sinh", "sin", "cos", "sqrt", "sum")}
NAMESPACE |= {
    name: getattr(np, name) for name in ("abs", "array", "sign", "where", "heaviside", "mean", "pi", "hypot", "floor")
}
NAMESPACE |= {"erf": special.erf}
SETTINGS = [
    CELU(alpha=2.0),
    ELU(alpha=0.5),
    GELU(approximate="tanh"),
    LeakyReLU(negative_slope=0.2),
    Sine(frequency=1.5),
    Softplus(beta=3.0),
    Swish(beta=0.3),
    BinaryCrossEntropy(label_smoothing=0.1, positive_weight=3.0),
    Cauchy(scale=3.0),
    CrossEntropy(label_smoothing=0.1),
    CrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0, 3.0)),
    Focal(gamma=0.5, alpha=0.25),
    Focal(gamma=0.0),
    Huber(delta=0.5),
    Quantile(quantile=0.9),
]


def made():
    """Return every activation and loss of the library that needs no settings."""
    for name in families():
        kind = import_public(name)
        formulas = isinstance(kind, type) and issubclass(kind, Activation | Loss) and not inspect.isabstract(kind)
        if formulas and kind not in (OutputLosses, Sort):  # a formula for each output; and one with numbers of rows
            yield kind()


FORMULAS = [*{repr(formula): formula for formula in [*made(), *SETTINGS]}.values()]


def extreme(function, reduction):
    return lambda x, *other, **options: reduction(x, **options) if options else function(x, *other)


def computed(shown, values):
    """Return the value of each line of a shown formula, with what its legend means."""
    known = dict(values)
    scope = NAMESPACE | {"max": extreme(np.maximum, np.max), "min": extreme(np.minimum, np.min)}
    for line in re.sub(r"(?<!\w)(\[[^\]]+\])", r"array(\1)", shown.text).splitlines():  # a list divides nothing
        label, _, rest = line.partition(" = ")
        expression, _, legend = rest.partition("  where ")
        names = {}
        for meaning in filter(None, re.split(r", (?=[a-z]\w* = )", legend)):
            name, _, body = meaning.partition(" = ")
            names[name] = known[body] if body in known else eval(body, scope, {**values, **names})
        known[label] = eval(expression, scope, {**values, **names}) + np.zeros(())
        yield label, known[label]


def numbers_near(program):
    """Return every number of a formula, more and less by a little, and small and large ones."""
    numbers = {float(arg) for node in order_nodes([program.output]) for arg in node.args if not isinstance(arg, Node)}
    near = [number + more for number in numbers if abs(number) < 1e300 for more in (-0.01, 0.0, 0.01)]
    return np.array([*near, 1e-8, 0.01, 0.3, 0.7, 2.7, 50.0, 800.0, 1e5])


def assert_equal_where_finite(shown, values, expected, least=0.0):
    with np.errstate(all="ignore"):
        for (label, text), wanted in zip(computed(shown, values), expected, strict=True):
            text = np.broadcast_to(text, np.shape(wanted))  # noqa: PLW2901
            finite = np.isfinite(text) & np.isfinite(wanted)
            assert finite.mean() >= least, label
            np.testing.assert_allclose(text[finite], wanted[finite], rtol=5e-6, atol=1e-12, err_msg=f"{shown}: {label}")


@pytest.mark.parametrize("formula", FORMULAS, ids=repr)
def test_the_text_computes_what_the_class_computes(formula):
    rng, shape = np.random.default_rng(0), (600, 3)
    like = np.empty((1, 3))
    points = numbers_near(formula.program(like))
    h = rng.choice(points, shape) * np.where(np.arange(600) % 2, 1.0, rng.choice([-1.0, 1.0], shape).T).T
    if isinstance(formula, Activation):
        gradient, a = rng.normal(size=shape), formula(h)
        values = {"h": h, "gradient": gradient}
        expected = [a, formula.backward(gradient, h, a) if formula.coupled else formula.derivative(h)]
    else:
        target = rng.choice([0.0, 1.0, 0.3, 2.0], shape)
        values = {"prediction": h, "target": target}
        with np.errstate(all="ignore"):
            expected = [formula.value(h, target), formula.slope(h, target)]
            if formula.by_row:
                expected[1] = formula.program(like).derivative(h, target)
    assert_equal_where_finite(show(formula), values, expected, least=0.1)


@pytest.mark.parametrize("formula", FORMULAS, ids=repr)
def test_the_text_has_no_guard_and_no_number_that_nobody_knows(formula):
    text, latex = show(formula).text, show(formula).latex
    for form in (text, latex):
        assert "709.7" not in form
        assert "e+" not in form
        assert "10^" not in form
        assert "== 0" not in form
    known = {"1.0507", "1.67326", "0.044715", "0.134145"}  # of SELU, and of the paper's approximation of GELU
    numbers = {word for word in text.replace("(", " ").replace(")", " ").split() if word[0].isdigit()}
    assert all(len(number) <= 4 for number in numbers - known), numbers


PAIR = "(prediction, target)"


@pytest.mark.parametrize(
    ("formula", "value", "slope"),
    [
        (Sigmoid(), "f(h) = 1 / (1 + exp(-h))", "f'(h) = a * (1 - a)  where a = f(h)"),
        (Softplus(), "f(h) = log(1 + exp(h))", "f'(h) = 1 / (1 + exp(-h))"),
        (
            Swish(beta=2.0),
            "f(h) = h / (1 + exp(-2 * h))",
            "f'(h) = u + 2 * h * u * (1 - u)  where u = 1 / (1 + exp(-2 * h))",
        ),
        (
            GELU(),
            "f(h) = 0.5 * h * (1 + erf(h / sqrt(2)))",
            "f'(h) = 0.5 * (1 + erf(h / sqrt(2))) + 1 / sqrt(2 * pi) * h * exp(-h ** 2 / 2)",
        ),
        (
            CrossEntropy(label_smoothing=0.1),
            f"value{PAIR} = -sum((0.9 * target + 0.1 / k) * log(prediction), axis=-1)  where k = prediction.shape[-1]",
            f"value'{PAIR} = -(0.9 * target + 0.1 / k) / prediction  where k = prediction.shape[-1]",
        ),
        (
            BinaryCrossEntropy(),
            f"value{PAIR} = -(target * log(prediction) + (1 - target) * log(1 - prediction))",
            f"value'{PAIR} = (1 - target) / (1 - prediction) - target / prediction",
        ),
        (LogCosh(), f"value{PAIR} = log(cosh(prediction - target))", f"value'{PAIR} = tanh(prediction - target)"),
        (Step(), "f(h) = heaviside(h, 0)", "f'(h) = heaviside(1 - abs(h), 1)"),
    ],
    ids=repr,
)
def test_a_textbook_prints(formula, value, slope):
    assert show(formula).text.splitlines() == [value, slope]


def test_a_layer_prints_its_activation_without_guards():
    assert show(Dense(4, 3, Sigmoid())).text == "a = 1 / (1 + exp(-(x @ weights + bias)))"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h: np.minimum(h, 1e6), "min(h, 1e+06)"),
        (lambda h: np.sqrt(np.maximum(h, 0.0)), "sqrt(max(h, 0))"),
        (lambda h: np.where(h > 0, np.log(h), 0.0), "where(h > 0, log(h), 0)"),
        (lambda h: np.where(h == 3, 100.0, h), "where(h == 3, 100, h)"),
        (lambda h: np.clip(h, -40.0, 40.0), "min(max(h, -40), 40)"),
        (lambda h: np.exp(np.minimum(h, 2.0)), "exp(min(h, 2))"),
        (lambda h: np.abs(h) * h, "abs(h) * h"),
        (lambda h: np.maximum(0.0, 1.0 - np.abs(h * h - 30.0)), "max(0, 1 - abs(h ** 2 - 30))"),
        (lambda h: 1e-10 * np.tanh(np.maximum(h, 0.0)), "1e-10 * tanh(max(h, 0))"),
        (lambda h: np.clip(np.sin(h), -0.99999, 0.99999), "min(max(sin(h), -0.99999), 0.99999)"),
        (lambda h: np.where((h * h > 29.0) & (h * h < 31.0), 5.0, h), "where((h ** 2 > 29) & (h ** 2 < 31), 5, h)"),
        (lambda h: np.where(np.abs(h) < 1e-5, 1.0, np.sin(h) / h), "where(abs(h) < 1e-05, 1, sin(h) / h)"),
        (lambda h: np.exp(np.minimum(h, 88.0)), "exp(min(h, 88))"),
        (lambda h: np.exp(2.0 * np.minimum(h, 350.0)), "exp(2 * min(h, 350))"),
        (lambda h: np.maximum(h, 1.0) + np.log1p(np.exp(-np.abs(h))), "max(h, 1) + log(1 + exp(-abs(h)))"),
        (lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, -1.0))), "where(h > 0, h, exp(min(h, -1)) - 1)"),
        (lambda h: h * np.where(h == 1, 3.0, np.cos(h)), "h * where(h == 1, 3, cos(h))"),
    ],
)
def test_a_choice_that_changes_values_stays(formula, expected):
    assert show(Activation.of(formula)).text.splitlines()[0] == f"f(h) = {expected}"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h: np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h))), "log(1 + exp(h))"),
        (lambda h: 2.0 * (np.log1p(np.exp(-np.abs(h))) + np.maximum(0.0, h)), "2 * log(1 + exp(h))"),
        (lambda h: np.minimum(h, 0) - np.log1p(np.exp(-np.abs(h))), "-log(1 + exp(-h))"),
        (lambda h: h * np.log(h + (h == 0)), "h * log(h)"),
        (lambda h: np.exp(2.0 * np.minimum(h, 400.0)), "exp(2 * h)"),
        (lambda h: np.exp(np.clip(h, -745.0, 709.78)), "exp(h)"),
        (lambda h: np.cosh(np.abs(h)), "cosh(h)"),
        (lambda h: -2.0 * (h - -1.0), "-2 * (h + 1)"),
    ],
)
def test_guards_of_own_formulas_are_left_out_too(formula, expected):
    assert show(Activation.of(formula)).text.splitlines()[0] == f"f(h) = {expected}"


@pytest.mark.parametrize("zero", ["np.maximum(h, 0.0)", "h + abs(h)", "np.floor(h)", "1.0 - np.tanh(h)"])
@pytest.mark.parametrize(
    "guarded",
    [
        "h / np.where(r == 0, 1.0, r)",
        "h / np.sqrt(np.where(r == 0, 1.0, r))",
        "r * np.where(r == 0, 1.0, 1.0 / r)",
        "r * np.log(r + (r == 0))",
        "np.where(r == 0, 0.0, r**3.0 * np.log(r))",
    ],
)
def test_a_guard_against_0_on_an_interval_stays(guarded, zero):
    formula = Activation.of(lambda h: eval(guarded, {"np": np, "h": h, "r": eval(zero, {"np": np, "h": h})}))
    h = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0])
    with np.errstate(all="ignore"):
        value, shown = formula(h), next(computed(show(formula), {"h": h}))[1]
    assert np.isfinite(value).mean() > 0.5
    np.testing.assert_allclose(shown[np.isfinite(value)], value[np.isfinite(value)], rtol=5e-6)


def test_the_maximum_that_a_stable_sum_of_exponentials_subtracts_is_left_out():
    def value(prediction, target):
        top = prediction.max(axis=-1, keepdims=True)
        return np.log(np.exp(prediction - top).sum(axis=-1)) + top[..., 0] - (prediction * target).sum(axis=-1)

    shown = show(RowLoss.of(value)).text.splitlines()[0]
    assert shown == "value(prediction, target) = log(sum(exp(prediction), axis=-1)) - sum(prediction * target, axis=-1)"


def test_numbers_are_written_by_name_only_where_they_are_that_number():
    rng = np.random.default_rng(0)
    for number in rng.uniform(-10.0, 10.0, 200):
        line = show(Activation.of(lambda h, c=float(number): c * h)).text.splitlines()[0]
        assert line == f"f(h) = {number:.6g} * h"
    assert show(Activation.of(lambda h: math.pi * h)).text.splitlines()[0] == "f(h) = pi * h"
    assert show(Activation.of(lambda h: -math.pi * h)).text == "f(h) = -pi * h\nf'(h) = -pi"
    assert show(Activation.of(lambda h: 1.2345678e200 * h)).text.splitlines()[0] == "f(h) = 1.23457e+200 * h"


@pytest.mark.parametrize(
    ("number", "text", "latex"), [(math.nan, "nan", r"\text{nan}"), (-math.inf, "-inf", r"-\infty")]
)
def test_what_is_not_finite_has_text_and_latex(number, text, latex):
    shown = show(Activation.of(lambda h: np.where(h > 0, h, number)))
    assert f"where(h > 0, h, {text})" in shown.text
    assert latex in shown.latex


def test_a_tiny_number_is_not_a_root():
    assert show(Activation.of(lambda h: h / 1.2345678e-130)).text.startswith("f(h) = h / 1.23457e-130\n")


@pytest.mark.parametrize("fact", FACTS, ids=range(len(FACTS)))
@pytest.mark.parametrize("c", [0.3, 1.0, 2.0, 7.0, 300.0])
def test_both_sides_of_a_fact_are_equal_wherever_they_are_finite(fact, c):
    names = inspect.signature(fact).parameters
    points = [0.0, c, 2 * c, c / 2, c * c, c + 1e-9, c - 1e-9, 0.5, 1.0, 1e-8, 1e-150, 3.0, 30.0, 700.0, 1e5, 1e140]
    rng = np.random.default_rng(0)
    x, y = rng.choice([*points, *np.negative(points)], (2, 4000, 3))
    with np.errstate(all="ignore"):
        left, right = fact(**{name: {"x": x, "y": y}.get(name, c) for name in names})
    finite = np.isfinite(left) & np.isfinite(right)
    assert finite.sum() > 100
    np.testing.assert_allclose(left[finite], right[finite], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fact", FACTS, ids=range(len(FACTS)))
def test_the_form_for_computers_is_shown_in_the_form_for_readers(fact):
    arrays = {name: (ROWS, 3) for name in inspect.signature(fact).parameters if name in "xy"}
    numbers = {name: 5.0 for name in inspect.signature(fact).parameters if name in "cs"}
    formulas = [trace(lambda side=side, **x: fact(**x, **numbers)[side], arrays).output for side in (0, 1)]
    left, right = (Shown({"f": rewrite([formula], plainer)[0]}).text for formula in formulas)
    assert left == right


def random_formula(rng, depth):
    """Return a random formula of h with kinks, as text."""
    if depth == 0:
        return "h"
    a, b = (random_formula(rng, depth - 1) for _ in range(2))
    c = rng.choice([-745.0, -40.0, -2.0, -1.0, -1e-5, 0.0, 0.5, 1.0, 3.0, 88.0, 700.0])
    forms = ["{a} + {b}", "{a} * {b}", "{c} * ({a})", "np.maximum({a}, {c})", "np.minimum({a}, {c})", "abs({a})"]
    forms += [
        "np.tanh({a})",
        "np.exp(-abs({a}))",
        "np.exp({a})",
        "np.log1p(np.exp({a}))",
        "np.where({a} > {c}, {a}, {b})",
    ]
    forms += ["np.where({a} == {c}, {c}, {b})", "np.clip({a}, -2.0, 3.0)", "np.sin({a})"]
    forms += ["1.0 / (1.0 + np.exp({a}))"]
    return "(" + rng.choice(forms).format(a=a, b=b, c=c) + ")"


@pytest.mark.parametrize("seed", range(200))
def test_the_text_of_a_random_formula_computes_its_value_and_derivative(seed):
    rng = np.random.default_rng(seed)
    text = f"h + {random_formula(rng, 4)}"
    formula = Activation.of(lambda h: eval(text, {"np": np, "h": h}))
    near = np.array([-40.0, -2.0, -1.0, -1e-5, 0.5, 1.0, 3.0, 88.0, 700.0])
    h = np.concatenate([rng.normal(size=200), near + 0.01, near - 0.01, 1e3 * rng.normal(size=20)])
    with np.errstate(all="ignore"):
        expected = [formula(h), formula.derivative(h)]
    assert_equal_where_finite(show(formula), {"h": h}, expected, least=0.1)


def test_the_time_of_show_grows_linearly_with_the_formula():
    def count_calls(terms):
        formula = Activation.of(lambda h: sum(np.maximum(h - float(n), 0.0) for n in range(terms)))
        calls = []
        sys.setprofile(lambda _frame, event, _arg: calls.append(event) if event == "call" else None)
        try:
            show(formula)
        finally:
            sys.setprofile(None)
        return len(calls)

    assert count_calls(99) < 2.2 * count_calls(49)


class RowMean(RowLoss):
    def value(self, prediction, target):
        return ((prediction - target) ** 2).mean(axis=-1)


def test_the_length_of_a_row_is_shown_by_its_name():
    centred = show(Activation.of(lambda h: 2 * (h - h.mean(axis=-1, keepdims=True))))
    assert str(centred).endswith("2 * gradient - 2 * sum(gradient, axis=-1, keepdims=True) / k  where k = h.shape[-1]")
    assert "1009" not in centred._repr_latex_()
    assert str(show(RowMean())).endswith(" = 2 * (prediction - target) / k  where k = prediction.shape[-1]")
