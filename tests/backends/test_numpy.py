"""Emitted NumPy computes what the plain formula computes, for every operation and any number of rows."""

import math

import numpy as np
import pytest
from emit_pieces import (
    ELEMENTWISE,
    FORMULAS,
    STEP_FORMULAS,
    X,
    called,
    made,
    operands,
    plain,
    recorded,
    row_softmax,
    traced,
)

from framework.backends.numpy import emit
from framework.base.errors import DerivativeError
from framework.base.special import erf
from framework.graph.lower import lower
from framework.graph.node import ancestors
from framework.graph.operations import OPERATIONS, STABLE
from framework.graph.stable import stabilise
from framework.graph.trace import ROWS, trace


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_plain_formula(name, memory, dtype):
    formula, shapes = FORMULAS[name]
    record = traced(formula, shapes, dtype)
    emitted = emit({"y": record.output}, record.inputs, memory=memory)
    kept = {"memory": emitted.new_memory()} if memory else {}
    for rows in (5, 1, 2, 5):
        arrays = made(shapes, rows, dtype)
        with np.errstate(all="ignore"):
            found = emitted(*arrays.values(), **kept)
        expected = plain(formula, arrays, dtype)
        assert found.shape == expected.shape
        assert found.dtype == dtype
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    sorted(
        {*FORMULAS} - {*STEP_FORMULAS} - {"einsum", "convolution", "einsum spread", "einsum sums", "einsum of pairs"}
    ),
)
def test_values_without_memory_have_the_bits_of_the_plain_formula(name):
    formula, shapes = FORMULAS[name]
    record = traced(formula, shapes)
    arrays = made(shapes, 5, "float64")
    with np.errstate(all="ignore"):
        found = emit({"y": record.output}, record.inputs, memory=False)(*arrays.values())
    np.testing.assert_array_equal(found, plain(formula, arrays, "float64"))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_every_elementwise_operation_has_the_bits_of_numpy(op, memory, dtype):
    record, count = recorded(op, dtype)
    assert any(node.op == op for node in ancestors(record.outputs))
    emitted = emit({"y": record.output}, record.inputs, memory=memory)
    for rows in (1, 2, 5):
        x = operands(op, count, dtype, rows)
        with np.errstate(all="ignore"):
            found, expected = emitted(*x), called(op, *x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_every_operation_is_tested():
    tested = {
        "call",
        "call_back",
        "loop",
        "part",
        "python",
        "fold",
        "scatter_add",
        "total",
        *ELEMENTWISE,
        *STABLE,
    }  # by other tests
    for formula, shapes in FORMULAS.values():
        outputs = traced(formula, shapes).outputs
        tested |= {node.op for node in ancestors([*outputs, *lower(outputs, exact=True)])}
    assert tested >= {*OPERATIONS}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_fold_adds_up_overlapping_windows(steps):
    graph = traced(lambda x: x, X).graph
    count = (7 - 3) // steps + 1
    g = graph.input("g", (graph.rows, count, 2, 3))
    folded = graph.add("fold", g, shape=(graph.rows, 7, 2), axes=(1,), window=(3,), steps=(steps,))
    values = np.random.default_rng(0).normal(size=(4, count, 2, 3))
    expected = np.zeros((4, 7, 2))
    for place in range(count):
        expected[:, place * steps : place * steps + 3] += values[:, place].transpose(0, 2, 1)
    np.testing.assert_allclose(emit({"y": folded}, {"g": g})(values), expected, rtol=1e-14)


@pytest.mark.parametrize("width", [1, 3, 40])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (0, 2)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scatter_add_adds_where_indices_repeat(axes, width, dtype):
    shape = (3, 4, 5, width)
    graph = traced(lambda x: x, X, dtype).graph
    indices = [graph.input(f"i{axis}", (graph.rows, 2), "i") for axis in axes]
    table = graph.input("table", shape)
    g = graph.input("g", graph.add("gather", table, *indices, axes=axes).shape)
    added = graph.add("scatter_add", g, *indices, axes=axes, shape=shape)
    rng = np.random.default_rng(0)
    where = [rng.integers(-shape[axis], shape[axis], (7, 2)) for axis in axes]
    values = rng.normal(size=tuple(7 if size == graph.rows else size for size in g.shape)).astype(dtype)
    index = [slice(None)] * 4
    for axis, places in zip(axes, where, strict=True):
        index[axis] = places
    expected = np.zeros(shape)
    np.add.at(expected, tuple(index), values)
    found = emit({"y": added}, {"g": g, **{f"i{n}": i for n, i in enumerate(indices)}})(values, *where)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-6)


def test_python_functions_are_called():
    record = traced(lambda x: x + 1.0, X)
    node = record.graph.add("python", record.output, function=np.cbrt, pullback=None, name="__import__('os')")
    emitted = emit({"y": node}, record.inputs)
    assert "import" not in emitted.source
    np.testing.assert_array_equal(emitted(np.full((2, 6), 7.0)), np.full((2, 6), 2.0))


def test_the_stable_softmax_is_lowered_to_the_formula():
    record = traced(row_softmax, {"x": (ROWS, 5)})
    (output,) = stabilise(record.outputs)
    assert output.op == "softmax"
    values = np.random.default_rng(0).normal(size=(3, 5))
    found = emit({"y": output}, record.inputs, memory=False)(values)
    np.testing.assert_array_equal(found, row_softmax(values))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 1e-320, 0.1, 3])
@pytest.mark.parametrize("memory", [True, False])
def test_numbers_are_written_exactly(value, memory):
    record = traced(lambda x: np.copysign(1.0, value * np.ones_like(x)) * x + value, X)
    x = np.full((2, 6), 2.0)
    expected = np.copysign(1.0, value * np.ones_like(x)) * x + value
    np.testing.assert_array_equal(emit({"y": record.output}, record.inputs, memory=memory)(x), expected)


ANY_SHAPE = {
    "a choice": lambda h: np.where(h > 0, h, 0.1 * h),
    "a choice of numbers": lambda h: np.where(h > 0, 1.0, 0.5),
    "erf": lambda h: np.where(h > 0, h, -1.0) + erf(h),
    "ones": lambda h: np.ones_like(h) * 2.0 - h,
    "filled": lambda h: np.full_like(h, 0.25),
    "a number": lambda h: 0.25,  # noqa: ARG005
    "identity": lambda h: h,
    "a boolean": lambda h: h / (1 + np.exp(-h)) + (h > 0) * h,
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ANY_SHAPE)
def test_elementwise_formulas_without_memory_work_on_any_shape(name, dtype):
    formula = ANY_SHAPE[name]
    record = trace(formula, {"h": (ROWS, 4)}, dtype)
    function = emit({"y": record.output}, record.inputs, memory=False).function
    for h in (np.linspace(-1, 1, 24).reshape(2, 3, 4), np.linspace(-1, 1, 3), np.zeros((0, 2)), np.array(0.3)):
        given = h.astype(dtype)
        found = function(given)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.broadcast_to(np.asarray(formula(given), dtype), h.shape))
    number = function(np.dtype(dtype).type(0.3))
    assert type(number) is np.dtype(dtype).type
    assert number == formula(np.dtype(dtype).type(0.3))


def test_given_nodes_are_not_computed_again():
    record = traced(lambda x: np.tanh(np.exp(x)) * np.exp(x), X)
    inner = next(node for node in ancestors(record.outputs) if node.op == "exp")
    emitted = emit({"y": record.output}, {"e": inner})
    assert "exp" not in emitted.source
    np.testing.assert_array_equal(emitted(np.full((2, 6), 0.5)), np.full((2, 6), np.tanh(0.5) * 0.5))


def test_an_input_that_is_missing_is_named():
    record = traced(lambda x, w: x @ w, {**X, "w": (6, 2)})
    with pytest.raises(DerivativeError, match="need the input 'w', which is not among the inputs given"):
        emit({"y": record.output}, {"x": record.inputs["x"]})


def test_the_number_of_rows_is_found_on_any_axis():
    record = traced(lambda x: x.T.reshape(-1) / len(x), X)
    turned = next(node for node in ancestors(record.outputs) if node.op == "transpose")
    values = np.random.default_rng(0).normal(size=(3, 6))
    found = emit({"y": record.output}, {"t": turned})(values.T)
    np.testing.assert_array_equal(found, values.T.reshape(-1) / 3)


HOSTILE = [
    "v0",
    "m0",
    "c0",
    "memory",
    "rows",
    "np",
    "real",
    "choose",
    "class",
    "None",
    "range",
    "x;import os",
    "ä",
    "",
    "_",
]


@pytest.mark.parametrize("name", [*HOSTILE, "b1", "input0_", "__import__('os').abort()", "x\n    1/0"])
@pytest.mark.parametrize("memory", [True, False])
def test_names_never_become_code(name, memory):
    other = "v0" if name != "v0" else "v1"
    graph = traced(lambda x: x, X).graph
    inputs = {name: graph.input(name, (graph.rows, 3)), other: graph.input(other, (graph.rows, 3))}
    output = graph.add("subtract", graph.add("exp", inputs[name]), inputs[other])
    emitted = emit({"y": output}, inputs, name=name, into={"y": f"{name}!"}, memory=memory)
    x, y, out = np.zeros((2, 3)), np.ones((2, 3)), np.empty((2, 3))
    emitted(x, y, out)
    np.testing.assert_array_equal(out, np.exp(x) - y)


def test_subscripts_never_become_code():
    graph = traced(lambda x: x, X).graph
    x = graph.input("x", (graph.rows, 3))
    node = graph.intern_node("einsum", (x,), {"subscripts": "a','->a"}, (graph.rows,))
    graph.lowered = True
    emitted = emit({"y": node}, {"x": x})
    with pytest.raises(ValueError, match="subscript"):
        emitted(np.ones((2, 3)))


def test_functions_of_one_source_share_their_code_and_keep_their_constants():
    def emitted(constant):
        record = trace(lambda x: x * np.array(constant), {"x": (ROWS, len(constant))})
        return emit({"output": record.output}, record.inputs)

    first, second = emitted([2.0, 3.0]), emitted([5.0, 7.0, 11.0])
    assert first.function.__code__ is second.function.__code__
    np.testing.assert_array_equal(first(np.ones((1, 2))), [[2.0, 3.0]])
    np.testing.assert_array_equal(second(np.ones((1, 3))), [[5.0, 7.0, 11.0]])
