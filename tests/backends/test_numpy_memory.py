"""Working memory: results stay valid until the next call with the same memory, and never lie in each other."""

import numpy as np
import pytest

from framework.backends.numpy import emit
from framework.graph.trace import ROWS, trace


def dense(x, w, b):
    h = x @ w + b
    return np.maximum(h, 0.0), np.exp(h) - h, h


SHAPES = {"x": (ROWS, 3), "w": (3, 4), "b": (4,)}


def made(rows, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)]


@pytest.fixture
def traced():
    return trace(dense, SHAPES)


@pytest.fixture
def emitted(traced):
    return emit(dict(zip("abc", traced.outputs, strict=True)), traced.inputs)


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def nbytes(memory):
    return sum(len(arrays[0].base) for arrays in memory.values())


def test_results_lie_in_the_memory_and_are_overwritten_by_its_next_call(emitted):
    memory = emitted.new_memory()
    first = emitted(*made(5), memory=memory)
    second = emitted(*made(5, seed=1), memory=memory)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert_equal(second, dense(*made(5, seed=1)))


def test_two_memories_do_not_disturb_each_other(emitted):
    one, two = emitted.new_memory(), emitted.new_memory()
    first = emitted(*made(5), memory=one)
    emitted(*made(5, seed=1), memory=two)
    assert_equal(first, dense(*made(5)))


def test_without_memory_each_call_has_its_own_arrays(emitted):
    first = emitted(*made(5))
    emitted(*made(5, seed=1))
    assert_equal(first, dense(*made(5)))


def test_the_number_of_rows_may_change_back_and_forth(emitted):
    memory = emitted.new_memory()
    kept = emitted(*made(5), memory=memory)
    for rows in (3, 5, 1, 7, 5, 3):
        assert_equal(emitted(*made(rows, seed=rows), memory=memory), dense(*made(rows, seed=rows)))
    assert kept[0].shape == (5, 4)


def test_the_arrays_of_two_numbers_of_rows_are_kept(emitted):
    memory = emitted.new_memory()
    first = emitted(*made(5), memory=memory)
    emitted(*made(2), memory=memory)
    assert emitted(*made(5), memory=memory)[0] is first[0]
    emitted(*made(9), memory=memory)
    small = nbytes(memory)
    emitted(*made(2), memory=memory)
    assert nbytes(memory) < small * 2


@pytest.mark.parametrize("axes", [(0,), (0, 1)])
def test_sums_over_the_rows_are_exact_for_any_number_of_rows(axes):
    """Of whole numbers, so that the order of the additions does not matter."""
    sums = trace(lambda x: x - (x + x).sum(axis=axes, keepdims=True), {"x": (ROWS, 3, 2)})
    memory = (emitted := emit({"y": sums.output}, sums.inputs)).new_memory()
    assert ".dot(" in emitted.source
    for rows in (5, 2, 900, 1, 5):
        x = np.random.default_rng(rows).integers(-9, 9, (rows, 3, 2)).astype(float)
        np.testing.assert_array_equal(emitted(x, memory=memory), x - 2 * x.sum(axis=axes, keepdims=True))


def test_arrays_are_used_again_when_their_values_are_not():
    traced = trace(lambda x: np.exp(np.sin(np.tanh(np.sqrt(np.exp(x) + 1.0)))), {"x": (ROWS, 8)})
    memory = (emitted := emit({"y": traced.output}, traced.inputs)).new_memory()
    emitted(np.ones((100, 8)), memory=memory)
    assert nbytes(memory) < 100 * 8 * 8 + 200


def aliased(x):
    h = np.exp(x)
    return h, h.reshape(-1), h[:, 1:], h, x, x.T, np.zeros_like(x), np.zeros_like(x)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_outputs_never_share_memory(dtype):
    traced = trace(aliased, {"x": (ROWS, 3)}, dtype)
    emitted = emit({str(n): output for n, output in enumerate(traced.outputs)}, traced.inputs)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype)
    found = emitted(x)
    assert_equal(found, aliased(x))
    for n, array in enumerate(found):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in [*found[:n], x])


def test_a_constant_is_not_handed_out():
    table = np.arange(3.0)
    traced = trace(lambda x: (x * table, np.broadcast_to(table, x.shape)), {"x": (ROWS, 3)})
    emitted = emit({"a": traced.outputs[0], "b": traced.outputs[1]}, traced.inputs)
    emitted(np.ones((2, 3)))[1][:] = 9.0
    assert_equal(emitted(np.ones((2, 3))), [np.tile(table, (2, 1))] * 2)


@pytest.mark.parametrize("memory", [True, False])
def test_outputs_are_written_into_given_arrays(traced, memory):
    outputs = dict(zip("abc", traced.outputs, strict=True))
    emitted = emit(outputs, traced.inputs, into={"a": "out", "c": "other"}, memory=memory)
    flat = np.full(41, np.nan)
    a, c = flat[1:21].reshape(5, 4), flat[21:].reshape(5, 4)
    found = emitted(*made(5), a, c)
    assert found[0] is a
    assert found[2] is c
    assert_equal(found, dense(*made(5)))
    assert np.isnan(flat[0])


INTO = {
    "matmul": lambda x, w: x.T @ (x @ w),
    "reshape": lambda x, w: np.exp(x @ w).reshape(-1),
    "sum": lambda x, w: (x @ w).sum(axis=0),
    "transpose": lambda x, w: (x @ w).T,
    "number": lambda **x: np.zeros_like(x["w"]),
    "input": lambda **x: x["w"],
    "gather": lambda **x: x["w"][:, np.array([2, 0, 0])],
    "scalar": lambda x, w: (x @ w).mean(),
    "choice": lambda **x: np.where(x["x"] > 0, x["x"], 2.0 * x["x"]),
}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("name", INTO)
def test_any_output_can_be_written_into_an_array(name, memory):
    formula = INTO[name]
    traced = trace(formula, {"x": (ROWS, 3), "w": (3, 4)})
    emitted = emit({"y": traced.output}, traced.inputs, into={"y": "out"}, memory=memory)
    x, w, _ = made(5)
    expected = np.asarray(formula(x=x, w=w))
    out = np.full(expected.shape, np.nan)
    assert emitted(x, w, out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-14)
