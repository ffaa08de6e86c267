"""Stable forms: naive formulas are right for any h, and no formula gets worse; against mpmath."""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
from exact import CONTEXT, exact, wrong
from graph.naive_formulas import ELEMENTS, ORIGINAL, ROWS

from framework import Layer
from framework.backends.numpy import emit
from framework.base.errors import DerivativeError
from framework.graph import operations
from framework.graph.gradient import gradients
from framework.graph.node import Node, order_nodes
from framework.graph.patterns import Patterns
from framework.graph.stable import FACTS, stabilise
from framework.graph.symbol import symbol_of, value_of
from framework.graph.trace import ROWS as OPEN, trace

SIZES = np.array([1e-8, 1e-4, 0.01, 0.3, 1.0, 2.5, 7.0, 15.0, 30.0, 45.0, 120.0, 300.0, 720.0, 1e4])
BASE = np.array([[0, 0, 0, 0], [1, 0.5, -0.3, 0.2], [-1, 1, 1, 0.1], [0.3, -0.7, 1.0, -1], [1, 1 - 1e-3, 0.5, -1]])
SCALES = (1e-4, 0.1, 1.0, 10.0, 300.0)

WRONG_VALUES = {"one against the rest", "normalised", "sum h e^h / sum e^h"}
"""They need the logarithm of the other classes' sum, an exact mean, and a weighted mean of exponentials."""
WRONG_SLOPES = {*WRONG_VALUES, "Gaussian, sigma softplus"}
"""The last one has slopes near 1e260."""
IN_FLOAT32 = {"np.sinc", "GELU", "Gaussian, sigma e^h"}
"""Values whose condition, or function in float32, is worse than 1e-5."""


def element_arrays(case, dtype):
    h = np.concatenate([SIZES, -SIZES, [] if case.zero else [0.0], [0.5, -0.5, 0.9, 1 - 1e-6, -1 + 1e-6]])
    h = h[(h > case.low) & (h < case.high)].astype(dtype)
    targets = np.tile(np.array([0.0, 1.0, 0.3], dtype), len(h))
    if "t" not in inspect.signature(case.formula).parameters:
        return {"h": h[:, None]}
    return {"h": np.repeat(h, 3)[:, None], "t": targets[:, None]}


def row_arrays(case, dtype):
    rows = [BASE[case.zero :] * scale for scale in SCALES] + [BASE[1:] + 1e4, BASE[1:] - 1e4, BASE[1:2] * 1e4]
    h = np.concatenate(rows).astype(dtype)
    classes = np.where(np.arange(len(h)) % 2, np.argmin(h, axis=1), np.argmax(h, axis=1))
    q = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.25, 0.25]])[np.arange(len(h)) % 3]
    data = {"h": h, "t": np.eye(4)[classes].astype(dtype), "c": classes, "q": q.astype(dtype)}
    return {name: data[name] for name in inspect.signature(case.formula).parameters}


def computed(node, inputs, arrays):
    with np.errstate(all="ignore"):
        return np.asarray(emit({"result": node}, inputs, memory=False)(*arrays))


def value_and_slope(formula, data, dtype):
    kinds = {name: "i" for name, array in data.items() if array.dtype.kind == "i"}
    traced = trace(formula, {name: (OPEN, *array.shape[1:]) for name, array in data.items()}, dtype, kinds=kinds)
    (form,), h = stabilise(traced.outputs, of_loss=True), traced.inputs["h"]
    slope = gradients([(form, 1.0)], [h])[0]
    return [computed(node, traced.inputs, data.values()) for node in (form, slope)]


@pytest.mark.share(1 / 16)
@pytest.mark.parametrize("name", [*ELEMENTS, *ROWS])
def test_naive_formulas_are_right_for_any_size_of_h(name):
    case, arrays = (ELEMENTS[name], element_arrays) if name in ELEMENTS else (ROWS[name], row_arrays)
    data = arrays(case, np.float32)  # numbers that both dtypes have
    true = exact(
        case.exact or case.formula,
        *(array.astype(float) if array.dtype.kind == "f" else array for array in data.values()),
    )
    for dtype, tolerance, tiny in ((np.float64, 1e-12, 1e-300), (np.float32, 1e-5, 1e-36)):
        if dtype == np.float32 and name in IN_FLOAT32:
            continue
        given = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in data.items()}
        found = value_and_slope(case.formula, given, np.dtype(dtype).name)
        if name not in WRONG_VALUES:
            assert wrong(found[0], true[0], tolerance, tiny) == 0, dtype
        if name not in WRONG_SLOPES:
            assert wrong(found[1], true[1], tolerance, tiny) == 0, dtype


def test_most_naive_formulas_are_right():
    assert len(ORIGINAL) == 104
    assert len(ORIGINAL - WRONG_VALUES) >= 102
    assert len(ORIGINAL - WRONG_SLOPES) >= 99
    others = {*ELEMENTS, *ROWS} - ORIGINAL
    assert len(others) == 34
    assert len(others - WRONG_SLOPES) >= 31


def softmax(h):
    e = np.exp(h)
    return e / np.sum(e, axis=-1, keepdims=True)


SIGNED = {
    "a product of two factors below 0": lambda h: np.log(h * np.exp(h) * h),
    "a root of such a product": lambda h: np.log(np.sqrt(h * np.exp(h) * h)),
    "a product in a choice": lambda h: np.log(np.where(h > 0, h * np.exp(h), -h) * h * h),
    "1 - sum t p": lambda h, t: 1 - np.sum(t * softmax(h), axis=-1),
    "log(1 - sum t p)": lambda h, t: np.log1p(-np.sum(t * softmax(h), axis=-1)),
    "a quotient": lambda h, t: 1 / (1 + np.sum(t * np.exp(h), axis=-1)),
    "a square": lambda h, t: np.log(np.sum(t * np.exp(h), axis=-1) ** 2),
    "a limit": lambda h, t: np.log(np.maximum(np.sum(t * np.exp(h), axis=-1), 0.1)),
    "no number": lambda h: (h - h) + 1,
    "the smallest number": lambda h: h / 5e-324,
}
"""Formulas with values of both signs and NaN."""


@pytest.mark.parametrize("name", SIGNED)
def test_no_rule_assumes_a_sign_or_a_number(name):
    formula, h = SIGNED[name], np.array([[1.0, 2.0, 0.0], [3.0, -1.0, 0.5], [-2.0, -1.0, -5.0], [np.nan, 1.0, 1.0]])
    data = {"h": h, "t": np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-2.0, 1.0, 0.5], [1.0, 1.0, -1.0]])}
    data = {name: data[name] for name in inspect.signature(formula).parameters}
    value, _ = value_and_slope(formula, data, "float64")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(value, formula(*data.values()), rtol=1e-12)


@pytest.mark.parametrize("place", range(len(FACTS)))
def test_a_fact_is_an_identity(place):
    ((left, right, _),) = [pair for pairs in Patterns(FACTS[place : place + 1]).pairs.values() for pair in pairs]
    inputs = {node.name: node for node in left.graph.nodes if node.op == "input"}
    numbers = np.array([[0.3, -0.7, 2.5], [0.6, 0.2, -1.5]])
    data = [x.reshape(3, 1) * np.ones(3) for x in numbers[: len(inputs)]]
    before, after = (np.broadcast_to(computed(node, inputs, data), (3, 3)) for node in (left, right))
    defined = np.isfinite(before)
    assert defined.any()
    np.testing.assert_allclose(after[defined], before[defined], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", ["softmax", "log softmax"])
def test_a_sum_that_is_put_along_another_axis_is_no_softmax(form, whole):
    def formula(h):
        total = np.sum(np.exp(h), axis=2)[:, None, :]
        total = np.broadcast_to(total, (len(h), 3, 3)) if whole else total
        return np.exp(h) / total if form == "softmax" else h - np.log(total)

    h = np.random.default_rng(0).normal(size=(4, 3, 3))
    value, _ = value_and_slope(formula, {"h": h}, "float64")
    np.testing.assert_allclose(value, formula(h), rtol=1e-12)


# formulas at random

PARTS = [
    *("np.exp({0})", "np.log({0})", "np.log1p({0})", "np.expm1({0})", "np.tanh({0})", "np.sqrt({0})", "({0})**2"),
    *("np.abs({0})", "np.maximum({0}, {c})", "np.minimum({0}, {1})", "np.logaddexp({0}, {1})", "(1 - {0})"),
    *("(1 + {0})", "1 / (1 + np.exp(-{0}))", "({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})"),
    *("np.log(1 + np.exp({0}))", "({c} * {0})", "np.exp({0}) / (1 + np.exp({0}))", "(np.exp({0}) - 1)"),
    *("np.cosh({0})", "np.where({0} > {c}, {1}, {0})", "-{0}", "({0})**0.5", "np.log(np.abs({0}))"),
    "np.log(({0})**2)",
]
POINTS = np.array([-30.0, -3.0, -0.7, -1e-5, 1e-5, 0.4, 1.3, 9.0, 40.0])


class ExactNumPy:
    """NumPy on numbers of mpmath, which has no logaddexp."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def logaddexp(a, b):
        return np.log(np.exp(a) + np.exp(b))


def random_text(rng, depth=3):
    if depth == 0 or rng.random() < 0.12:
        return "h" if rng.random() < 0.85 else rng.choice(["0.5", "2.0", "1.0"])
    numbers = rng.choice(["0.0", "1.0", "0.5", "2.0"])
    return rng.choice(PARTS).format(random_text(rng, depth - 1), random_text(rng, depth - 1), c=numbers)


def rewritten(text):
    """Return a formula's graph and its stable form, where that is another one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            traced = trace(eval(f"lambda h: {text}", {"np": np}), {"h": (OPEN, 1)})
        except (DerivativeError, ZeroDivisionError, TypeError):  # of numbers, as a root of a negative one
            return None
    (form,) = stabilise(traced.outputs) if isinstance(traced.output, Node) else [traced.output]
    plain = [node.op for node in order_nodes(traced.outputs)]
    same = not isinstance(form, Node) or [node.op for node in order_nodes([form])] == plain
    return None if same else (traced, form)


def errors(node, h, points, true):
    """Return the relative errors of a value and of its slope; NaN stands for a missing number."""
    slope = gradients([(node, 1.0)], [h])[0]

    def error(x, truth):
        if not CONTEXT.isfinite(truth) or not -1e300 < truth < 1e300:
            return np.nan
        return (
            float(abs(CONTEXT.mpf(float(x)) - truth) / (abs(truth) + CONTEXT.mpf("1e-290")))
            if np.isfinite(x)
            else np.inf
        )

    found = [np.broadcast_to(computed(part, {"h": h}, [points]), points.shape).ravel() for part in (node, slope)]
    return [np.array([*map(error, part, truth)]) for part, truth in zip(found, true, strict=True)]


def true_points(text):
    """Return the points where a formula has a real value, its values, and its slopes."""
    formula = eval(f"lambda h: {text} + 0 * h", {"np": ExactNumPy()})
    points, values, slopes = [], [], []
    for point in POINTS:
        try:
            value, slope = exact(formula, np.array([[point]]))
        except (ArithmeticError, ValueError, TypeError):  # a logarithm of 0, a number that is not real
            continue
        if all(isinstance(number, CONTEXT.mpf) for number in (value[0, 0], slope[0, 0])):
            points.append([point])
            values.append(value[0, 0])
            slopes.append(slope[0, 0])
    return np.array(points), (values, slopes)


def size_of_terms(output, h):
    """Return the sum of the sizes of all terms of a slope: one for each path of the chain rule."""
    sizes = {h: 1.0}
    for node in order_nodes([output], {h}):
        args = [symbol_of(arg) for arg in node.args]
        for arg, rule in zip(node.args, operations.OPERATIONS[node.op].rules, strict=False):
            if arg in sizes and rule is not None:
                sizes[node] = sizes.get(node, 0.0) + abs(rule(sizes[arg], symbol_of(node), *args))
    return value_of(sizes[output])


def slopes_that_count(node, h, points, true):
    """Return where a slope is not 0, and not so small beside its terms that it depends on their order."""
    sizes = np.broadcast_to(computed(size_of_terms(node, h), {"h": h}, [points]), points.shape).ravel()
    return np.array([abs(x) > max(1e-60, 1e-6 * size) for x, size in zip(true, sizes, strict=True)])


CANCELLING = [
    "1 + (np.cosh(h) - np.cosh(h))",
    "((np.exp(h) - 1) - np.exp(h)) - h",
    "h * (np.exp(h) - (np.exp(h) - 1))",
    "h**2 + np.exp(h / h)",
    "(np.exp(h) - 1) / (h / h)",
]


@pytest.mark.parametrize("text", CANCELLING)
def test_terms_that_cancel_cancel_in_the_stable_form(text):
    traced = trace(eval(f"lambda h: {text}", {"np": np}), {"h": (OPEN, 1)})
    points, true = true_points(text)
    value, slope = errors(stabilise(traced.outputs)[0], traced.inputs["h"], points, true)
    assert max(value) < 1e-15
    assert max(slope) < 1e-15


@pytest.mark.parametrize("text", ["h - h", "h / h"])
def test_a_number_minus_or_over_itself_has_no_slope_and_stays_missing_where_it_is(text):
    traced, points = trace(eval(f"lambda h: {text}"), {"h": (OPEN, 1)}), np.array([[0.0], [np.inf], [np.nan], [2.0]])
    slope = gradients([(traced.output, 1.0)], [traced.inputs["h"]])[0]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(computed(traced.output, traced.inputs, [points]), eval(text, {"h": points}))
    np.testing.assert_array_equal(np.broadcast_to(computed(slope, traced.inputs, [points]), points.shape), 0.0)


@pytest.mark.share(1 / 4)
@pytest.mark.parametrize("seed", range(8))
def test_no_random_formula_gets_worse(seed, request, monkeypatch):
    # The sigmoid of the textbook keeps the slope y (1 - y) of the textbook, which loses its upper tail.
    accurate = replace(operations.OPERATIONS["logistic"], rules=(lambda t, y, x: t * (y * (-x).record("logistic")),))
    monkeypatch.setitem(operations.OPERATIONS, "logistic", accurate)
    rng, compared, worse = np.random.default_rng([seed, request.config.option.rotation]), 0, []
    while compared < 15:
        text = random_text(rng)
        forms = rewritten(text)
        points, true = true_points(text) if forms else ((), ())
        if not len(points):
            continue
        traced, form = forms
        compared += 1
        before, after = (errors(node, traced.inputs["h"], points, true) for node in (traced.output, form))
        for what, a, b in zip(("value", "slope"), before, after, strict=True):
            bad = (b > 1e-9) & (a < 1e-10)
            if what == "slope" and bad.any():
                bad &= slopes_that_count(traced.output, traced.inputs["h"], points, true[1])
            worse += [(what, text, points[bad].ravel())] if bad.any() else []
    assert not worse


def put_back(total, axis):
    return np.expand_dims(total, axis)


PUT_BACK = {
    "log-softmax": lambda x, summed, kept: x - put_back(np.log(np.sum(np.exp(x), axis=summed)), kept),
    "its exponential": lambda x, summed, kept: np.exp(x - put_back(np.log(np.sum(np.exp(x), axis=summed)), kept)),
    "softmax": lambda x, summed, kept: np.exp(x) / put_back(np.sum(np.exp(x), axis=summed), kept),
    "softmax by broadcast_to": lambda x, summed, kept: (
        np.exp(x) / np.broadcast_to(put_back(np.sum(np.exp(x), axis=summed), kept), x.shape)
    ),
    "norm": lambda x, summed, kept: x / np.sqrt(np.broadcast_to(put_back(np.sum(x**2, axis=summed), kept), x.shape)),
    "shifted": lambda x, summed, kept: (
        np.max(x, axis=summed, keepdims=True)
        + put_back(np.log(np.sum(np.exp(x - np.max(x, axis=summed, keepdims=True)), axis=summed)), kept)
    ),
}


@pytest.mark.parametrize("summed", [1, 2])
@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("name", PUT_BACK)
def test_a_sum_may_be_put_back_along_another_axis_of_the_same_size(name, summed, kept):
    formula, x = PUT_BACK[name], np.random.default_rng(0).normal(size=(2, 3, 3))
    layer = Layer.of(lambda x: formula(x, summed, kept))
    np.testing.assert_allclose(layer(x), formula(x, summed, kept), rtol=1e-12)
