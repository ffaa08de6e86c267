"""The schedule decides what shares loops, what is stored, and where: a wrong decision costs time and nothing else."""

import numpy as np
import pytest
from emit_pieces import heads, row_softmax, traced

from framework.graph.gradient import gradients
from framework.graph.loop import loop
from framework.graph.trace import ROWS as N
from framework.training.engines.native.rewrite import prepare
from framework.training.engines.native.schedule import Block, Group, split_views
from framework.training.engines.native.views import ROWS
from framework.training.engines.records import CannotLower

DENSE = {"x": (N, 6), "w": (6, 5), "b": (5,)}


def scheduled(formula, shapes, *, derive=False):
    """Return the schedule of a formula, with the gradients of its real inputs on demand."""
    trace = traced(formula, shapes)
    outputs = [*trace.outputs]
    if derive:
        seed = trace.output.graph.input("seed", trace.output.shape)
        outputs += gradients([(trace.output, seed)], [node for node in trace.inputs.values() if node.kind == "f"])
    return Block(prepare(outputs)[0]).schedule()


def stored(block):
    return sorted(node.op for node in block.stored)


def evaluations(block, op):
    """Return how many groups compute each operation of this kind."""
    return [len(places) for node, places in block.evaluated.items() if node.op == op]


def test_a_dense_layer_with_softmax_is_a_product_and_one_nest():
    block = scheduled(lambda x, w, b: row_softmax(x @ w + b), DENSE)
    product, nest = block.ops
    assert product.op == "matmul"
    assert {"add", "max", "exp", "sum", "divide"} <= {node.op for node in nest.members}
    assert stored(block) == ["divide"]


def test_only_what_is_expensive_is_stored_for_the_backward_pass():
    block = scheduled(lambda x, w, b: np.tanh(x @ w + b), DENSE, derive=True)
    assert stored(block).count("tanh") == 1
    assert "add" not in stored(block)
    assert evaluations(block, "tanh") == [1]


def test_the_mask_of_relu_is_computed_again():
    block = scheduled(lambda x, w, b: np.maximum(x @ w + b, 0.0), DENSE, derive=True)
    assert not {"greater", "less", "less_equal", "greater_equal"} & {*stored(block)}


def test_the_gradient_of_a_bias_is_summed_in_the_nest_that_makes_it():
    block = scheduled(lambda x, w, b: np.tanh(x @ w + b), DENSE, derive=True)
    (bias,) = (node for node in block.stored if node.op == "sum")
    group = block.ops[block.where[bias]]
    assert "multiply" in {node.op for node in group.members}


def test_targets_as_one_of_k_belong_to_no_nest():
    def loss(x, w, b, ids):
        return -np.sum(np.where(np.arange(5) == ids[:, None], np.log(row_softmax(x @ w + b)), 0.0), axis=1)

    block = scheduled(loss, {**DENSE, "ids": (N,)})
    comparison = next(node for node in block.order if node.op == "equal")
    assert comparison not in block.where
    assert comparison not in block.stored


def norm(x, w, b):
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 0.1) * w + b


@pytest.mark.parametrize(("width", "nests"), [(5, 1), (4096, 1), (4097, 5)])
def test_layer_norm_is_one_nest_while_a_row_fits_a_cache(width, nests):
    block = scheduled(norm, {"x": (N, width), "w": (width,), "b": (width,)})
    assert len(block.ops) == nests


@pytest.mark.parametrize(("width", "nests"), [(64, 1), (65, 2)])
def test_rows_and_columns_are_normalised_in_one_nest_while_both_fit_a_cache(width, nests):
    def normalise(x, axis):
        values = np.exp(x)
        return values / values.sum(axis=axis, keepdims=True)

    block = scheduled(lambda x: normalise(normalise(x, 2), 1), {"x": (N, width, width)})
    assert len(block.ops) == nests


def test_what_reads_a_sum_over_rows_is_another_nest():
    block = scheduled(lambda x: x - x.mean(axis=0), {"x": (N, 5)})
    (total,) = (node for node in block.order if node.op == "sum")
    readers = [
        node for node in block.order if any(split_views(arg)[0] is total for arg in node.args if arg in block.order)
    ]
    assert all(block.where.get(node) != block.where[total] for node in readers)


def test_a_value_of_each_unit_is_not_computed_in_every_row():
    block = scheduled(lambda x, w: x * np.exp(w), {"x": (N, 5), "w": (5,)})
    (exp,) = (node for node in block.order if node.op == "exp")
    assert all(size < ROWS for size in block.ops[block.where[exp]].sizes.values())
    assert exp in block.stored


def test_what_reads_a_neighbour_is_another_nest():
    block = scheduled(lambda x: np.exp(x)[:, 1:] - np.exp(x)[:, :-1], {"x": (N, 5)})
    assert len(block.ops) == 2
    assert stored(block) == ["exp", "subtract"]


def test_heads_are_stored_in_the_order_in_which_they_are_merged():
    block = scheduled(heads, {"x": (N, 5, 4), "query": (4, 6), "key": (4, 6), "value": (4, 6)})
    merged = [node for node in block.order if node.op == "matmul" and block.layout(node) not in (None, (0, 1, 2, 3))]
    assert len(merged) == 1
    view = block.storage(merged[0])
    view.transpose((0, 2, 1, 3)).reshape((ROWS, 5, 6))  # raises NeedsCopy in any other order


def test_a_recurrence_multiplies_its_sequence_before_the_loop():
    def recurrent(x, w, v):
        return loop(lambda h, e: (np.tanh(e @ w + h @ v),) * 2, np.zeros((len(x), 4)), x)[1]

    block = scheduled(recurrent, {"x": (N, 5, 3), "w": (3, 4), "v": (4, 4)})
    assert [op.op for op in block.ops if not isinstance(op, Group)] == ["matmul", "loop"]
    (node,) = (op for op in block.ops if not isinstance(op, Group) and op.op == "loop")
    body = node.attributes["body"]
    inner = Block(body.outputs, {*body.states, *body.entries, *body.captured}, block).schedule()
    product, nest = inner.ops
    assert product.op == "matmul"
    assert "tanh" in {node.op for node in nest.members}


def test_parts_are_made_where_they_are_joined():
    block = scheduled(lambda x: np.concatenate([np.exp(x), np.sin(x)], axis=1) @ np.ones((10, 2)), {"x": (N, 5)})
    whole = next(node for node in block.order if node.op == "concatenate")
    assert {block.storage(part).buffer for part in whole.args} == {block.storage(whole).buffer}


def test_an_array_is_padded_where_it_is_made():
    block = scheduled(
        lambda x, w: np.pad(np.exp(x), ((0, 0), (1, 1)), constant_values=2.0) @ w, {"x": (N, 5), "w": (7, 2)}
    )
    whole = next(node for node in block.order if node.op == "pad")
    buffer = block.storage(whole).buffer
    assert (buffer.role, buffer.value) == ("filled", 2.0)
    assert block.storage(whole.args[0]).buffer is buffer


def test_a_part_that_something_else_reads_is_copied():
    block = scheduled(lambda x: (np.concatenate([h := np.exp(x), x], axis=1), h @ np.ones((5, 2)))[0], {"x": (N, 5)})
    whole = next(node for node in block.order if node.op == "concatenate")
    exp = next(node for node in block.order if node.op == "exp")
    assert block.storage(whole.args[0]).buffer is block.storage(whole).buffer
    assert exp not in block.stored  # the copy and the exponential are one nest


def test_a_cheap_result_of_constants_that_a_product_reads_lies_in_memory():
    block = scheduled(lambda x, ids: (np.arange(4) == ids[:, None]) * 1.0 @ x, {"x": (4, 2), "ids": (N,)})
    product = next(op for op in block.ops if not isinstance(op, Group))
    assert split_views(product.args[0])[0] in block.stored


def unrolled(steps):
    def formula(x):
        h = x
        for _ in range(steps):
            h = h * x + x
        return h

    return formula


def test_a_loop_that_is_unrolled_too_often_is_refused_with_advice():
    assert len(scheduled(unrolled(150), {"x": (N, 5)}).ops) == 1
    with pytest.raises(CannotLower, match=r"more than 300 operations .*; framework\.loop is"):
        scheduled(unrolled(151), {"x": (N, 5)})
