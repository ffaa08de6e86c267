"""Rewriting for kernels keeps what a graph computes, and leaves few kinds of operations."""

import numpy as np
import pytest
from emit_pieces import FORMULAS, IMAGES, SEQUENCES, X, convolution, made, traced
from numpy.lib.stride_tricks import sliding_window_view

from framework.backends.numpy import emit
from framework.graph.gradient import gradients
from framework.graph.loop import loop
from framework.graph.node import ancestors
from framework.graph.trace import ROWS
from framework.training.engines.native.rewrite import is_elementwise, prepare


def with_gradients(formula, shapes):
    """Return the inputs of a formula, and its output and the gradients of its real inputs as a graph."""
    trace = traced(formula, shapes)
    real = [node for node in trace.inputs.values() if node.kind == "f"]
    seed = trace.output.graph.input("seed", trace.output.shape)
    found = gradients([(trace.output, seed)], real) if trace.output.kind == "f" else []
    return {**trace.inputs, "seed": seed}, [trace.output, *found]


def results(outputs, inputs, arrays):
    emitted = emit({f"y{place}": output for place, output in enumerate(outputs)}, inputs)
    with np.errstate(all="ignore"):
        values = emitted(*(arrays[name] for name in inputs))
    return [np.array(value) for value in (values if isinstance(values, tuple) else (values,))]


def rewritten(formula, shapes):
    """Return a formula with its gradients before and after, and the new nodes."""
    inputs, outputs = with_gradients(formula, shapes)
    new, known = prepare([*outputs, *inputs.values()])
    return (inputs, outputs), ({name: known[node] for name, node in inputs.items()}, new[: len(outputs)])


MORE = {
    "gated": (lambda x, w, v: (x @ w) / (1 + np.exp(-(x @ v))), {**X, "w": (6, 3), "v": (6, 3)}),
    "four factors": (
        lambda x, w, v, u: np.einsum("ri,ij,jk,kl->rl", x, w, v, u),
        {**X, "w": (6, 2), "v": (2, 5), "u": (5, 3)},
    ),
    "outer product": (lambda x, w: np.einsum("ri,j->rij", x, w), {**X, "w": (4,)}),
    "letter of one factor": (lambda x, w: np.einsum("ri,jk->rj", x, w), {**X, "w": (4, 3)}),
    "same gradient twice": (lambda x: np.pad(x, ((0, 0), (1, 0)))[:, :6] + np.pad(x, ((0, 0), (0, 1)))[:, 1:], X),
    "flattened": (lambda x, w: np.maximum(x, 0.0).reshape(len(x), -1) @ w, {**IMAGES, "w": (72, 3)}),
    "sum of merged axes": (lambda x: np.exp(x).reshape(len(x), 2, 36).sum(axis=2), IMAGES),
    "sum of half of merged axes": (lambda x: np.exp(x).reshape(len(x), 12, 6)[:, ::2].sum(axis=1), IMAGES),
    "mean of kept axes": (lambda x: x - x.mean(axis=(1, 2), keepdims=True), SEQUENCES),
}


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", [*FORMULAS, *MORE])
def test_a_rewritten_formula_and_its_gradients_have_the_same_values(name, rows):
    formula, shapes = {**FORMULAS, **MORE}[name]
    (inputs, outputs), (moved, new) = rewritten(formula, shapes)
    arrays = made(shapes, rows, "float64")
    seed = np.random.default_rng(1).normal(size=[rows * (n // 10007) or n for n in outputs[0].shape])
    arrays["seed"] = seed
    expected, found = results(outputs, inputs, arrays), results(new, moved, arrays)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["softmax", "mean", "var", "heads"])
def test_means_variances_and_softmax_are_sums_and_elementwise(name):
    _, (_, new) = rewritten(*FORMULAS[name])
    assert not {node.op for node in ancestors(new)} & {"softmax", "mean", "var"}


def test_a_normalised_row_sums_its_elements_once():
    traces = traced(lambda x: (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 0.1), X)
    (new,), _ = prepare(traces.outputs)
    sums = [node for node in ancestors([new]) if node.op == "sum"]
    assert len(sums) == 2
    assert not any(node.attributes["keepdims"] for node in sums)


def test_the_gradient_of_a_convolution_is_a_convolution():
    shapes = {"x": (ROWS, 2, 6, 6), "kernel": (3, 2, 3, 3)}

    def dense(x, kernel):
        return np.einsum("rcyxij,ucij->ruyx", sliding_window_view(x, (3, 3), axis=(2, 3)), kernel)

    _, (_, new) = rewritten(dense, shapes)
    assert "fold" not in {node.op for node in ancestors(new)}
    _, (_, strided) = rewritten(convolution, {**IMAGES, "kernel": (3, 2, 3, 3)})
    assert "fold" in {node.op for node in ancestors(strided)}  # its gradient would be mostly zeros


def test_products_of_many_factors_multiply_two_at_a_time():
    _, (_, new) = rewritten(*MORE["four factors"])
    products = [node for node in ancestors(new) if node.op == "einsum"]
    assert products
    assert all(len(node.args) == 2 for node in products)


def test_a_product_that_sums_over_nothing_is_elementwise():
    _, (_, (output, *_)) = rewritten(*MORE["outer product"])
    assert output.op == "multiply"


def test_elementwise_operations_come_before_the_reshape_that_merges_axes():
    _, (_, (output, *_)) = rewritten(lambda x: np.exp(np.sin(x).reshape(len(x), -1)), IMAGES)
    assert output.op == "reshape"
    assert output.args[0].op == "exp"


def test_a_sum_over_merged_axes_is_one_over_the_axes_themselves():
    _, (_, (output, *_)) = rewritten(*MORE["sum of merged axes"])
    assert output.op == "sum"
    assert is_elementwise(output.args[0])


def test_products_move_out_of_a_loop():
    def recurrent(x, w):
        return loop(lambda h, x: (np.tanh(h + x @ w),) * 2, np.zeros((len(x), 4)), x)[0]

    _, (_, (output, *_)) = rewritten(recurrent, {**SEQUENCES, "w": (3, 4)})
    body = output.args[0].attributes["body"]
    assert "matmul" not in {node.op for node in body.order()}


def test_random_draws_are_compared_with_numbers_as_float32():
    trace = traced(lambda x: np.where(x < 0.3, 1.0, 0.0), X)
    (new,), _ = prepare(trace.outputs, [trace.inputs["x"]])
    (comparison,) = (node for node in ancestors([new]) if node.op == "less")
    assert comparison.args[1] == float(np.float32(0.3)) != 0.3


def test_each_part_of_a_join_is_written_by_an_operation_of_its_own():
    _, (_, (output, *_)) = rewritten(lambda x: np.concatenate([np.exp(x), x], axis=1), X)
    assert [part.op for part in output.args] == ["positive", "positive"]
    product = {**X, "w": (6, 4)}
    _, (_, (output, *_)) = rewritten(lambda x, w: np.concatenate([x @ w, x], axis=1), product)
    assert [part.op for part in output.args] == ["matmul", "positive"]
