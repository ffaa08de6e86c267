"""The text of ``show`` computes what the class computes, is as short as in a textbook, and drops no real choice."""

import inspect
import math

import numpy as np
import pytest
from scipy import special

import framework
from framework import (
    CELU,
    ELU,
    GELU,
    Activation,
    BinaryCrossEntropy,
    Cauchy,
    CrossEntropy,
    Dense,
    Focal,
    Huber,
    LeakyReLU,
    LogCosh,
    Loss,
    Losses,
    Quantile,
    RowLoss,
    Sigmoid,
    Sine,
    Softplus,
    Step,
    Swish,
    show,
)

NAMESPACE = {name: getattr(np, name) for name in ("exp", "log", "tanh", "cosh", "sinh", "sin", "cos", "sqrt", "sum")}
NAMESPACE |= {name: getattr(np, name) for name in ("abs", "sign", "where", "heaviside", "mean", "pi", "hypot")}
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
    for name in framework.__all__:
        kind = getattr(framework, name)
        formulas = isinstance(kind, type) and issubclass(kind, Activation | Loss) and not inspect.isabstract(kind)
        if formulas and kind is not Losses:  # which has a formula for each output
            yield kind()


FORMULAS = [*{repr(formula): formula for formula in [*made(), *SETTINGS]}.values()]


def extreme(function, reduction):
    return lambda x, *other, **options: reduction(x, **options) if options else function(x, *other)


def computed(shown, values):
    """Return the value of each line of a shown formula, with what its legend means."""
    known = dict(values)
    scope = NAMESPACE | {"max": extreme(np.maximum, np.max), "min": extreme(np.minimum, np.min)}
    for line in shown.text.splitlines():
        label, _, rest = line.partition(" = ")
        expression, _, legend = rest.partition("  where ")
        names = {}
        for meaning in filter(None, legend.split(", ") if "axis=" not in legend else split_at_names(legend)):
            name, _, body = meaning.partition(" = ")
            names[name] = known[body] if body in known else eval(body, scope, {**values, **names})
        known[label] = eval(expression, scope, {**values, **names}) + np.zeros(())
        yield label, known[label]


def split_at_names(legend):
    """Split ``u = f(x, axis=-1), v = g(u)`` where a name follows."""
    pieces = legend.split(", ")
    merged = []
    for piece in pieces:
        if merged and not piece.split(" = ")[0].isidentifier():
            merged[-1] += f", {piece}"
        else:
            merged.append(piece)
    return merged


@pytest.mark.parametrize("formula", FORMULAS, ids=repr)
def test_the_text_computes_what_the_class_computes(formula):
    h = np.array([[-2.7, -0.6, 0.4], [1.3, 2.2, 4.1]])
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.15, 0.25]])
    target = np.array([[0.3, 0.3, 0.4], [0.9, 0.05, 0.05]])
    if isinstance(formula, Activation):
        gradient = np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0]])
        a = formula(h)
        values = {"h": h, "gradient": gradient}
        expected = [a, formula.backward(gradient, h, a) if formula.coupled else formula.derivative_at(h, a)]
    else:
        values = {"prediction": p, "target": target}
        expected = [formula.value(p, target), formula.slope(p, target)]
        if formula.by_row:
            expected[1] = formula.gradient(p, target) * len(p)
    for (label, found), wanted in zip(computed(show(formula), values), expected, strict=True):
        np.testing.assert_allclose(np.broadcast_to(found, wanted.shape), wanted, rtol=5e-6, atol=1e-12, err_msg=label)


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
    ],
)
def test_a_choice_that_changes_values_stays(formula, expected):
    assert show(Activation.of(formula)).text.splitlines()[0] == f"f(h) = {expected}"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h: np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h))), "log(1 + exp(h))"),
        (lambda h: np.where(np.abs(h) < 1e-5, 1.0, np.sin(h) / h), "sin(h) / h"),
        (lambda h: np.exp(np.clip(h, -745.0, 709.78)), "exp(h)"),
        (lambda h: np.cosh(np.abs(h)), "cosh(h)"),
    ],
)
def test_guards_of_own_formulas_are_left_out_too(formula, expected):
    assert show(Activation.of(formula)).text.splitlines()[0] == f"f(h) = {expected}"


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
