"""A graph written for JAX computes what the plain formula computes, for every operation."""

import numpy as np
import pytest
from emit_pieces import ELEMENTWISE, FORMULAS, X, called, made, operands, plain, recorded, traced
from oracles import jax, quickly

from framework.backends.jax import Source
from framework.backends.numpy import emit
from framework.base.errors import DerivativeError
from framework.graph.gradient import gradients
from framework.graph.node import ancestors
from framework.graph.trace import Traced

pytestmark = pytest.mark.share(1 / 3)


def source(record):
    return Source("formula", record.outputs, record.inputs.values(), record.graph)


def computed(records, arguments, dtype):
    """Return the values of graphs, which are compiled as one program: that takes a second, and one for each minutes."""
    with jax.enable_x64(dtype == "float64"):
        functions = [source(record).function(jax) for record in records]
        program = quickly(lambda given: [function(*x)[0] for function, x in zip(functions, given, strict=True)])
        return list(map(np.asarray, program(arguments)))


def test_every_operation_has_the_values_of_the_plain_formula():
    records = {name: traced(formula, shapes) for name, (formula, shapes) in FORMULAS.items()}
    arrays = {name: made(shapes, 5, "float64") for name, (_, shapes) in FORMULAS.items()}
    found = computed(records.values(), [tuple(each.values()) for each in arrays.values()], "float64")
    for (name, (formula, _)), value in zip(FORMULAS.items(), found, strict=True):
        expected = plain(formula, arrays[name], "float64")
        assert value.shape == expected.shape, name
        assert value.dtype.kind == "f", name
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_gradients_are_those_of_numpy():
    """They have the operations that put parts of arrays into places: place, fold, scatter_add, set_index."""
    names = ["index", "reversed to the start", "windows", "pooling", "set_index", "gather inner", "pad", "lstm"]
    records, arguments, expected = [], [], []
    for name in names:
        formula, shapes = FORMULAS[name]
        record = traced(formula, shapes)
        floats = [node for node in record.inputs.values() if node.kind == "f"]
        found = gradients([(record.output, 1.0)], floats)
        x = tuple(made(shapes, 5, "float64").values())
        records.append(Traced(record.inputs, (found[0],)))
        arguments.append(x)
        expected.append(emit({"g": found[0]}, record.inputs)(*x))
    for name, value, g in zip(names, computed(records, arguments, "float64"), expected, strict=True):
        np.testing.assert_allclose(value, g, rtol=1e-12, atol=1e-12, err_msg=name)
    used = {node.op for record in records for node in ancestors(record.outputs)}
    assert used >= {"place", "fold", "scatter_add", "set_index"}


@pytest.mark.parametrize(
    ("indices", "joined"),
    [
        ([(2, None), ((0, 2, 1), None)], True),
        ([(0, None), ((1, 3, 1), None)], True),
        ([(1, None), ((0, 2, 1), None)], False),  # they overlap, and leave a gap
        ([(2, None), ((1, -1, -1), None)], False),
    ],
)
def test_parts_that_fill_an_axis_are_joined(indices, joined):
    record = traced(lambda x: (np.exp(x), np.stack([x, x * x])), {"x": (6,)})
    node = record.graph.add("place", *record.outputs, indices=tuple(indices), shape=(3, 6), add=True)
    placed = Traced(record.inputs, (node,))
    assert ("placed(" not in source(placed).text) == joined
    x = np.arange(6.0)
    (value,) = computed([placed], [(x,)], "float64")
    expected = np.zeros((3, 6))
    for (index, _), part in zip(indices, (np.exp(x), np.stack([x, x * x])), strict=True):
        expected[index if isinstance(index, int) else [*range(*index)]] += part
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_elementwise_operation_has_the_values_of_numpy(dtype):
    records, arguments = [], []
    for op in ELEMENTWISE:
        record, count = recorded(op, dtype)
        records.append(record)
        arguments.append(tuple(operands(op, count, dtype, 5)))
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    for op, x, value in zip(ELEMENTWISE, arguments, computed(records, arguments, dtype), strict=True):
        with np.errstate(all="ignore"):
            expected = called(op, *x)
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance, err_msg=op)


def test_a_function_of_python_is_refused_by_name():
    record = traced(lambda x: x + 1.0, X)
    node = record.graph.add("python", record.output, function=np.cbrt, pullback=None, name="Rooted")
    with pytest.raises(DerivativeError, match="Rooted is a function of Python on arrays, which JAX cannot compile"):
        Source("formula", [node], record.inputs.values(), record.graph)


def test_an_input_that_is_missing_is_named():
    record = traced(lambda x, w: x @ w, {**X, "w": (6, 2)})
    with pytest.raises(DerivativeError, match="the results need the input 'w'"):
        Source("formula", record.outputs, [record.inputs["x"]], record.graph)


def test_sources_with_other_constants_differ():
    one, same, other = (traced(lambda x, c=c: x * np.arange(6.0) ** c, X) for c in (1, 1, 2))
    assert source(one) == source(same)
    assert source(one) != source(other)
