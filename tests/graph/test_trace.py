"""A formula becomes a graph, or an error that names the operation, its line, and what to write instead."""

import enum
import math
import re

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from framework import DerivativeError, ShapeError
from framework.backends.numpy import emit
from framework.graph.loop import loop
from framework.graph.rows import mixing
from framework.graph.trace import ROWS, trace

NAMES = {"np": np, "math": math, "loop": loop, "windows": sliding_window_view}


def written(text):
    return eval(f"lambda x: {text}", dict(NAMES))


def assigned(*lines):
    scope = dict(NAMES)
    exec("\n    ".join(["def formula(x):", *lines]), scope)
    return scope["formula"]


REFUSED = {
    "x if x.sum() > 0 else 0": "use np.where, np.minimum or np.maximum",
    "max(x, 0)": "np.maximum",
    "x > 0 and x": "use np.where",
    "math.exp(x)": "np.exp for math.exp",
    "float(x)": "use the NumPy function",
    "int(x)": "np.trunc for int",
    "np.float32(x)": "leave np.asarray out",
    "np.eye(3)[np.argmax(x, axis=1)]": r"np.asarray\(array, like=x\)\[x\] for array",
    "x.astype(np.float32)": r"x\.astype\(float32\).*the dtype of floats is a setting",
    "x.astype(np.uint8)": r"x\.astype\(uint8\).*use float, int or bool",
    "np.exp(x, dtype=np.float16)": r"x\.astype\(float16\)",
    "np.add.at(x.copy(), [0], 1.0)": r"np\.add\.at .*it has no rule",
    "np.exp(x, where=x > 0)": r"np\.exp with where.*: use np\.where\(condition, a, b\)",
    "np.maximum.accumulate(x, axis=1)": r"np\.maximum\.accumulate .*it has no rule",
    "np.maximum.reduce(x, axis=1, initial=0.0)": "reduce with initial .*: write it without",
    "np.diff(x, prepend=0)": "np.diff with these arguments.*write it without.*prepend",
    "np.asarray(x) * 2": "leave np.asarray out",
    "[row for row in x]": "the number of rows is not fixed",
    "x[0]": "one of the rows .*any number of rows",
    "x[:5]": "a part of the rows .*any number of rows",
    "x[x > 0]": r"array of booleans.*np.where\(condition, a, b\)",
    "np.where(x > 0)": "give the value for each case",
    "np.sort(x, axis=0)": "np.sort along the rows .*: use another axis: the number of rows is not fixed",
    "np.argsort(x, axis=None)": "np.argsort along the rows",
    "np.cumprod(x, axis=-2)": "np.cumprod along the rows",
    "np.median(x)": "np.median along the rows",
    "np.median(x, axis=(0, 1))": "np.median along the rows",
    "np.quantile(x, [0.2, 0.8], axis=1)": "np.quantile .* several numbers q.*: call it with each number",
    "np.percentile(x, 20, axis=1, method='lower')": "method='lower'.*leave the method out",
    "np.sort(x, order='a')": "np.sort with these arguments.*order",
    "np.partition(x, 1)": r"np\.partition .*it has no rule",
    "np.linalg.inv(x)": r"np\.linalg\.inv .*it has no rule",
    "np.fft.fft(x)": r"np\.fft\.fft .*it has no rule",
    "np.nextafter(x, 1)": r"np\.nextafter.* it has no rule",
    "'text'": "a result of type str.*return an array",
    "x * (1 / len(x))": "a number from the number of rows",
    "x if len(x) > 32 else 2.0 * x": "must not branch on the number of rows",
    "x + np.random.default_rng().normal()": "draws random numbers",
    "x * np.arange(len(x))[:, None] ** 2.0 * np.random.default_rng(0).normal(size=(len(x), 1))": "different number",
    "x + 'a'": "(type str|use plain numbers)",
    "x + 1j": "(complex|use plain numbers)",
    "np.concatenate([x, x])": "np.concatenate along the rows",
    "np.cumsum(x, axis=0)": "np.cumsum along the rows",
    "np.pad(x, 1)": "np.pad of the rows",
    "np.split(x, 2)": "np.split along the rows",
    "np.add.reduceat(x, [0, 1])": r"np\.add\.reduceat",
    "x.tolist()": r"x\.tolist .*use NumPy functions, which",
    "x.sort()": r"x\.sort .*write np\.sort\(x\)",
    "x.diagonal()": r"x\.diagonal .*write np\.diagonal\(x\)",
    "x.item()": "leave it out",
}


@pytest.mark.parametrize("formula", REFUSED)
def test_what_a_graph_cannot_hold_is_refused_with_advice(formula):
    with pytest.raises((DerivativeError, TypeError), match=REFUSED[formula]):
        trace(written(formula), {"x": (ROWS, 3)})


@pytest.mark.parametrize(
    ("lines", "advice"),
    [
        (["x *= 2", "return x"], "make a new array"),
        (["x[:, 0] = 1.0", "return x"], "make a new array"),
        (["np.multiply(x, 2, out=x)", "return x"], "make a new array"),
        (
            ["out = x.copy()", "part = out[:, 0]", "out[:, 1] = 1.0", "return out + part[:, None]"],
            "copy the view first",
        ),
        (["part = x.copy()[:, 0]", "part += 1", "return x + part[:, None]"], "assign into the whole array"),
        (["out = x.copy()", "out[x < 0] = 0.0", "return out"], "np.where"),
        (["out = np.zeros((len(x), 3))", "out[:] = x", "return out"], "np.zeros_like"),
        (["out = np.zeros(3)", "out[0] = x[:, 0]", "return out"], r"out\[0\] = x\[:, 0\]\)|np\.stack the elements"),
        (["np.copyto(np.zeros(3), x)", "return x"], "np.zeros_like"),
        (["x + 1"], "returned None: write return"),
        (["return ..."], "returned Ellipsis: write return and the formula"),
    ],
)
def test_assignments_that_numpy_shows_elsewhere_are_refused(lines, advice):
    with pytest.raises(DerivativeError, match=advice):
        trace(assigned(*lines), {"x": (ROWS, 3)})


def test_a_refusal_names_the_line():
    def formula(x):
        doubled = 2 * x
        if doubled > 1:
            return doubled
        return x

    with pytest.raises(DerivativeError, match=r"line \d+ of .*test_trace.py: if doubled > 1:"):
        trace(formula, {"x": (ROWS, 3)})


class Order(enum.IntEnum):
    TWO = 2


class Odd(float):
    def __repr__(self):
        return "1 + 1"


RIGHT = {
    "in place on a copy": assigned("a = x.copy()", "a *= 2", "return a"),
    "in place on one of two equal results": assigned("a, b = np.exp(x), np.exp(x)", "a += 1", "return a * b"),
    "assigned in parts": assigned(
        "out = np.zeros_like(x)", "for t in range(3):", "    out[:, t] = x[:, 2 - t] * t", "return out"
    ),
    "arrays like x": written("x + np.zeros(3, like=x) + np.ones(3, like=x) * np.full(3, 2.0, like=x)"),
    "zeros with a dtype": written("x + np.zeros_like(x, dtype=float)"),
    "ones by position": written("x * np.ones_like(x, float)"),
    "full by name": written("x * np.full_like(x, fill_value=2.0)"),
    "a copy in some order": written("np.copy(x, order='C') * 2"),
    "an enum as an exponent": lambda x: x**Order.TWO,
    "a float subclass": lambda x: x * Odd(2.0),
    "fmax keeps the number": written("np.fmax(np.log(np.where(x > 0, x, 1.0)), -5.0)"),
    "len": written("x.sum(axis=0) / len(x) + x"),
    "shape": written("x.reshape(x.shape[0], -1) * x.shape[1]"),
    "windows": written("windows(x, 2, axis=1).mean(axis=-1)"),
    "windows of a NumPy number": written("windows(x, np.int64(2), axis=1)"),
    "windows of windows along one axis": written("windows(x, (2, 2), axis=(1, 1)) * np.arange(4.0).reshape(2, 2)"),
    "einsum": written("np.einsum('ri,ij->rj', x, np.arange(6.0).reshape(3, 2))"),
    "take along": written("np.take_along_axis(x, np.argmax(x, axis=1)[:, None], axis=1)"),
    "select": written("np.select([x < -1, x > 1], [-1.0, 1.0], x)"),
    "piecewise": written("np.piecewise(x, [x > 0], [lambda x: x, lambda x: 0.1 * x])"),
    "tri": written("x @ np.tril(np.ones((3, 3)))"),
    "booleans as numbers": written("x * (x > 0) + (x > 1)"),
    "log of a sum of exponentials": written("np.logaddexp.reduce(x * 1e3, axis=1, keepdims=True) + x"),
    "sum of booleans": written("x * (x > 0).sum(axis=1, keepdims=True)"),
    "rint and mod": written("np.round(x) + x % 2.0"),
    "outer with newaxis": written("(x[:, :, None] * x[:, None, :]).sum(axis=2)"),
    "loop": assigned(
        "last, every = loop(lambda h, e: (h + e, h * e), np.zeros(len(x)), x)", "return every + last[:, None]"
    ),
}


@pytest.mark.parametrize("size", [3, 15, 105, 1155, 15015, 255255])
def test_sizes_with_small_factors_are_not_taken_for_rows(size):
    formula = trace(lambda x: np.repeat(x, size, axis=1).reshape(-1, size).max(axis=1).reshape(-1, 2), {"x": (ROWS, 2)})
    assert formula.output.shape[1:] == (2,)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("name", RIGHT)
def test_a_graph_computes_what_the_formula_does(name, rows):
    formula = RIGHT[name]
    x = np.random.default_rng(rows).normal(size=(rows, 3)) * 2
    traced = trace(formula, {"x": (ROWS, 3)})
    found = emit({"output": traced.output}, traced.inputs)(x)
    np.testing.assert_allclose(found, formula(x), rtol=1e-13, atol=1e-13)


def test_equal_operations_are_one_node_and_constants_that_look_alike_are_not():
    traced = trace(lambda x: np.exp(x) + np.exp(x) * np.float64(0.1) + np.float64(0.1) * 3, {"x": (ROWS, 3)})
    assert [node.op for node in traced.graph.nodes].count("exp") == 1
    constants = trace(lambda x: x @ np.array([[1.0], [2.0]]) + x @ np.array([[1.0], [2.0 + 1e-15]]), {"x": (ROWS, 2)})
    assert [node.op for node in constants.graph.nodes].count("constant") == 2


@pytest.mark.parametrize("signs", [np.array([0.0, -0.0, 0.0]), np.array([-0.0, 0.0, 0.0]), np.full(3, -0.0)])
def test_a_constant_keeps_the_signs_of_its_zeros(signs):
    traced = trace(lambda x: np.copysign(x, signs), {"x": (ROWS, 3)})
    x = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    np.testing.assert_array_equal(emit({"output": traced.output}, traced.inputs)(x), np.copysign(x, signs))


def test_shapes_that_do_not_fit_are_named_with_rows():
    with pytest.raises(ShapeError, match=r"\(rows, 3\) @ \(2, 4\): the sizes 3 and 2 must be equal"):
        trace(lambda x: x @ np.ones((2, 4)) * np.arange(4.0), {"x": (ROWS, 3)})
    with pytest.raises(ShapeError, match=r"shapes \(rows, 3\) and \(2,\) do not broadcast"):
        trace(lambda x: x + np.arange(2.0), {"x": (ROWS, 3)})


@pytest.mark.parametrize("arguments", ["(2, 2), axis=(1,)", "2, axis=(1, 1)", "-1, axis=1"])
def test_windows_have_a_size_for_each_axis(arguments):
    with pytest.raises(ShapeError, match=r"for each axis of \(1"):
        trace(written(f"windows(x, {arguments})"), {"x": (ROWS, 3)})


@pytest.mark.parametrize("size", [10007, 10009, 20014])
def test_a_size_that_could_stand_for_rows_is_a_plain_size(size):
    traced = trace(lambda x, w: (x @ w)[:, :5] + w[0, :5], {"x": (ROWS, 2), "w": (2, size)})
    assert mixing(traced.output) is None
    emitted = emit({"y": traced.output}, traced.inputs)
    np.testing.assert_array_equal(emitted(np.ones((3, 2)), np.ones((2, size))), np.full((3, 5), 3.0))


INSIDE = {
    "a number": "x * 10007",
    "a sum over a constant": "(x[:, :1] * np.ones(10007)).mean(axis=1)",
    "a constant": "x[:, :1] * np.arange(10009.0)",
    "padding": "np.pad(x, ((0, 0), (0, 10004))).cumsum(axis=1)",
    "a part": "np.repeat(x, 10007, axis=1)[:, ::10007]",
    "a product": "x @ np.full((3, 20014), 0.5) @ np.full((20014, 2), 0.1)",
    "rows times a size": "np.repeat(x, 10007, axis=1).reshape(-1, 10007).max(axis=1).reshape(-1, 3)",
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_size_that_a_formula_makes_is_never_taken_for_rows(name):
    formula, x = written(INSIDE[name]), np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
    traced = trace(formula, {"x": (ROWS, 3)})
    found = emit({"y": traced.output}, traced.inputs)(x)
    np.testing.assert_allclose(found, formula(x), rtol=1e-12)
    assert mixing(traced.output) is None


MIXED = {
    "x - x.mean(axis=0)": "mean over the rows",
    "x / np.max(np.abs(x))": "max over the rows",
    "x / len(x)": "the number of rows",
    "x @ (x.T @ x)": "a product over the rows",
    "np.einsum('ri,rj->ij', x, x)[None] + x[:, :1, None]": "a product over the rows",
    "x[::-1]": "the rows in reverse",
    "np.take(x, (x[:, 0] > 0).astype(int), axis=0)": "an index into the rows",
    "(x[:, None] - x[None]).sum(axis=1)": "pairs of rows|sum over the rows",
    "np.exp(x - x.max(axis=0)) / np.exp(x - x.max(axis=0)).sum(axis=0)": "over the rows",
}


@pytest.mark.parametrize("formula", MIXED)
def test_a_formula_that_mixes_rows_is_recognised(formula):
    found = mixing(trace(written(formula), {"x": (ROWS, 3)}).output)
    assert found is not None
    assert re.search(MIXED[formula], found)


@pytest.mark.parametrize(
    "formula",
    [
        "x / x.sum(axis=1, keepdims=True)",
        "np.cumsum(x, axis=1)",
        "x[:, ::-1] @ np.ones((3, 2))",
        "np.sort(x, axis=1)",
        "loop(lambda h, e: (np.sort(h + e[:, None]),) * 2, x, x)[0]",
    ],
)
def test_a_formula_of_single_rows_does_not_mix_them(formula):
    assert mixing(trace(written(formula), {"x": (ROWS, 3)}).output) is None


@pytest.mark.parametrize(
    "formula",
    [
        "np.add.reduce(x, axis=1, where=x > 0)",
        "np.maximum.reduce(x, axis=1, initial=0.3)",
        "x.sum(axis=1, where=x > 0)",
        "np.pad(x, ((0, 0), (1, 1)), mode='mean')",
        "np.pad(x, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 2)))",
        "np.isclose(x, 1.0, equal_nan=True)",
    ],
)
def test_an_option_that_has_no_rule_is_refused(formula):
    with pytest.raises(DerivativeError, match="cannot be traced"):
        trace(written(formula), {"x": (ROWS, 3)})


def test_a_split_into_unequal_parts_is_numpys_error():
    for find in (trace, lambda formula, _: formula(np.ones((2, 3)))):
        with pytest.raises(ValueError, match="array split does not result in an equal division"):
            find(written("np.split(x, 2, axis=1)[0]"), {"x": (ROWS, 3)})


SAME = [
    "x - np.add.reduce(x, axis=1, keepdims=True)",
    "x + [1.0, 2.0, 3.0]",
    "x[:, np.array(1)]",
    "np.take(x, [0, 5], axis=1, mode='clip')",
    "np.take(x, [0, 5], axis=1, mode='wrap')",
    "np.concatenate(np.array_split(x, 2, axis=1)[::-1], axis=1)",
    "np.isclose(x, x + 1e-9) * x",
    "np.isclose(x / 0.0, x / 0.0)",
    "x.real * 2",
    "np.piecewise(x, [x > 0, x > 1], [1.0, lambda t: t * 2, -1.0])",
    "x[:, [True, False, True]]",
    "x * (x > 0) ** 2",
    "np.where(x > 0, [1.0, 2.0, 3.0], x)",
    "np.where([True, False, True], x, 0)",
    "np.array([1.0, 2.0, 3.0], like=x) * x",
    "np.roll(x, np.int64(1), axis=1)",
    "np.asarray(np.eye(3), like=x)[np.argmax(x, axis=1)] * x",
    "np.sum(x, axis=1, dtype=int)",
    "np.cumsum(x, axis=1, dtype=int)",
    "np.add(x > 0, x > 1, dtype=float)",
]


@pytest.mark.parametrize("formula", SAME)
def test_an_option_gives_what_numpy_gives(formula):
    x = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
    traced = trace(written(formula), {"x": (ROWS, 3)})
    with np.errstate(divide="ignore", invalid="ignore"):
        found = emit({"result": traced.output}, traced.inputs, memory=False).function(x)
        np.testing.assert_array_equal(found, written(formula)(x))


@pytest.mark.parametrize(
    "copy",
    [
        "y.astype(float)",
        "y.flatten()",
        "np.pad(y, ((0, 0), (0, 0)))",
        "np.tile(y, (1, 1))",
        "np.roll(y, 0, axis=1)",
        "np.concatenate([y], axis=1)",
        "np.sum(y, axis=())",
    ],
)
def test_a_change_of_a_copy_leaves_its_array_alone(copy):
    formula = assigned("y = x * 2", f"z = {copy}", "z += 1", "return y.sum(axis=1)")
    x = np.array([[1.0, -2.0, 3.0]])
    traced = trace(formula, {"x": (ROWS, 3)})
    found = emit({"result": traced.output}, traced.inputs, memory=False).function(x)
    np.testing.assert_allclose(found, formula(x))
