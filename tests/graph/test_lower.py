"""Lowering replaces what NumPy computes slowly."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from framework.backends.numpy import emit
from framework.graph.lower import lower
from framework.graph.node import ancestors
from framework.graph.trace import ROWS, trace


def operations(outputs):
    return {node.op for node in ancestors(outputs)}


@pytest.mark.parametrize(
    ("formula", "shapes", "gone", "there"),
    [
        (lambda x: x.mean(axis=1), {"x": (ROWS, 30)}, "mean", "sum"),
        (lambda x: x.var(axis=1), {"x": (ROWS, 30)}, "var", "einsum"),
        (lambda x: x.max(axis=1), {"x": (ROWS, 4)}, "max", "maximum"),
        (lambda x: (x * x[:, ::-1]).sum(axis=1), {"x": (ROWS, 30)}, "multiply", "einsum"),
        (lambda x, w: np.einsum("ri,io->ro", x, w), {"x": (ROWS, 3), "w": (3, 2)}, "einsum", "matmul"),
        (lambda x, w: np.einsum("ri,ri->ri", x, w), {"x": (ROWS, 3), "w": (ROWS, 3)}, "einsum", "multiply"),
    ],
)
def test_what_numpy_computes_slowly_is_replaced(formula, shapes, gone, there):
    found = operations(lower(trace(formula, shapes).outputs))
    assert gone not in found
    assert there in found


def test_a_product_that_is_used_again_is_not_computed_twice():
    def formula(x):
        h = x * np.exp(x)
        return h.sum(axis=1, keepdims=True) + h

    assert "einsum" not in operations(lower(trace(formula, {"x": (ROWS, 30)}).outputs))


def test_a_batch_by_a_matrix_is_one_product_of_matrices():
    (output,) = lower(trace(lambda x, w: np.exp(x) @ w, {"x": (ROWS, 4, 3), "w": (3, 2)}).outputs)
    (product,) = (node for node in ancestors([output]) if node.op == "matmul")
    assert product.ndim == 2


def test_a_convolution_with_channels_first_is_one_product_for_each_row():
    def formula(x, kernel):
        return np.einsum("rcyxij,ucij->ruyx", sliding_window_view(x, (3, 3), axis=(2, 3)), kernel)

    (output,) = lower(trace(formula, {"x": (ROWS, 2, 6, 6), "kernel": (5, 2, 3, 3)}).outputs)
    (product,) = (node for node in ancestors([output]) if node.op == "matmul")
    assert product.shape[1:] == (5, 16)


def test_exact_lowering_keeps_the_operations_of_the_formula():
    outputs = trace(lambda x: (x * x).mean(axis=1) + x.var(axis=1) + x.max(axis=1), {"x": (ROWS, 4)}).outputs
    assert operations(outputs) <= operations(lower(outputs, exact=True)) | {"square"}


def test_nothing_behind_given_nodes_is_kept():
    traced = trace(lambda x: np.tanh(np.exp(x)), {"x": (ROWS, 4)})
    inner = next(node for node in ancestors(traced.outputs) if node.op == "exp")
    assert operations(lower(traced.outputs, [inner])) == {"input", "tanh"}


def test_operations_along_tiny_last_axes_are_computed_one_place_at_a_time():
    def formula(x):
        h = np.exp(x)
        return np.where(h == h.max(axis=(1, 2), keepdims=True), h, 0.0)

    traced = trace(formula, {"x": (ROWS, 2, 2)})
    (output,) = lower(traced.outputs)
    assert output.op == "place"
    assert len(output.args) == 4
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    np.testing.assert_array_equal(emit({"y": traced.output}, traced.inputs)(x), formula(x))


@pytest.mark.parametrize("step", [1, 2])
def test_windows_computed_one_place_at_a_time_are_folded_as_parts(step):
    graph = trace(lambda x: x, {"x": (ROWS, 6)}).graph
    g = graph.input("g", (graph.rows, (6 - 2) // step + 1, 1))
    w = graph.input("w", (graph.rows, (6 - 2) // step + 1, 2))
    product = graph.add("multiply", g, w)
    folded = graph.add("fold", product, shape=(graph.rows, 6), axes=(1,), window=(2,), steps=(step,))
    assert "fold" not in operations(lower([folded]))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(3, *node.shape[1:])) for node in (g, w)]
    expected = np.zeros((3, 6))
    for place in range(g.shape[1]):
        expected[:, place * step : place * step + 2] += (values[0] * values[1])[:, place]
    np.testing.assert_allclose(emit({"y": folded}, {"g": g, "w": w})(*values), expected, rtol=1e-14)


@pytest.mark.parametrize(("step", "high", "folds"), [(1, 3, False), (1, 2, False), (2, 3, True)])
def test_the_input_gradient_of_a_convolution_is_added_up_in_long_runs(step, high, folds):
    graph = trace(lambda x: x, {"x": (ROWS, 6)}).graph
    g, kernel = graph.input("g", (graph.rows, 4, 5, 6)), graph.input("kernel", (4, 2, high, 3))
    size = (4 * step + high, 5 * step + 3)
    spread = graph.add("einsum", g, kernel, subscripts="ruyx,ucij->rcyxij")
    shape, steps = (graph.rows, 2, *size), (step, step)
    folded = graph.add("fold", spread, shape=shape, axes=(2, 3), window=(high, 3), steps=steps)
    assert ("fold" in operations(lower([folded]))) == folds
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(4, 2, high, 3))
    expected = np.zeros((3, 2, *size))
    for y, x in np.ndindex(5, 6):
        part = np.einsum("ru,ucij->rcij", values[:, :, y, x], weights)
        expected[:, :, y * step : y * step + high, x * step : x * step + 3] += part
    found = emit({"y": folded}, {"g": g, "kernel": kernel})(values, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
