"""Parts of a larger array are computed where they belong, unless something else still reads them."""

import numpy as np

from framework.backends.numpy import emit
from framework.graph.gradient import gradients
from framework.graph.trace import ROWS, trace


def given(*shape):
    return np.cos(np.arange(1.0, 1.0 + np.prod(shape))).reshape(shape)


def side_by_side(a, b):
    """Return the node of a and b, (rows, 3) each, as (rows, 6)."""
    indices = ((None, (0, 3, 1)), (None, (3, 6, 1)))
    return a.graph.add("place", a, b, shape=(a.shape[0], 6), indices=indices, add=False)


def exp_and_square():
    traced = trace(lambda x: (np.exp(x), x * x), {"x": (ROWS, 3)})
    return traced.inputs, *traced.outputs


def test_parts_are_not_copied():
    inputs, a, b = exp_and_square()
    function = emit({"both": side_by_side(a, b)}, inputs)
    x = given(4, 3)
    assert np.array_equal(function(x), np.hstack([np.exp(x), x * x]))
    assert "] = v" not in function.source


def test_a_part_that_is_read_later_keeps_its_own_array():
    inputs, a, b = exp_and_square()
    changed = a.graph.add("tanh", side_by_side(a, b))
    function = emit({"changed": changed, "later": a.graph.add("add", a, 1.0)}, inputs)
    x = given(4, 3)
    changed, later = function(x)
    assert np.array_equal(changed, np.tanh(np.hstack([np.exp(x), x * x])))
    assert np.array_equal(later, np.exp(x) + 1.0)


def test_a_part_that_comes_twice_is_copied():
    inputs, a, _ = exp_and_square()
    function = emit({"both": side_by_side(a, a)}, inputs)
    x = given(7, 3) + 2.0  # no memory of another test holds these numbers
    assert np.array_equal(function(x), np.hstack([np.exp(x), np.exp(x)]))


def test_the_sum_over_parts_is_the_sum_of_the_parts():
    def formula(x):
        windows = x.reshape(len(x), 3, 2, 3, 2)
        return windows.max(axis=(2, 4))

    traced = trace(formula, {"x": (ROWS, 6, 6)})
    seed = traced.graph.input("seed", traced.output.shape)
    (gradient,) = gradients([(traced.output, seed)], [traced.inputs["x"]])
    function = emit({"gradient": gradient}, {"x": traced.inputs["x"], "seed": seed})
    x = np.round(2.0 * given(4, 6, 6))  # with ties, which share the gradient
    seeds = given(4, 3, 3)
    split = x.reshape(4, 3, 2, 3, 2)
    largest = split == split.max(axis=(2, 4), keepdims=True)
    expected = largest / largest.sum(axis=(2, 4), keepdims=True) * seeds[:, :, None, :, None]
    assert np.allclose(function(x, seeds), expected.reshape(4, 6, 6), rtol=1e-15)
