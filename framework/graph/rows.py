"""Rows: whether a formula treats each row alone, and how it computes a part of a batch where sums mix them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from framework.graph.graph import Call, Graph, rewrite
from framework.graph.node import Node, nodes_in, order_nodes


def mixing(*outputs: Node, summing: bool = True) -> str | None:
    """Return the operation by which a row's outputs depend on other rows, or None.

    Args:
        outputs: The outputs.
        summing: Whether sums, means and variances over the rows, and their number, are among these operations.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> mixing(trace(lambda x: x - x.mean(axis=0), {"x": (ROWS, 3)}).output)
        'mean over the rows'
    """
    return mixing_operation(order_nodes(outputs), summing=summing)


def mixing_operation(nodes: Iterable[Node], *, summing: bool = True) -> str | None:
    """Return what the first of these operations that mixes rows does, or None; see ``mixing``."""
    for node in nodes:
        if _counts_rows(node):
            return "the places of the rows"
        reason = mixing(*node.attributes["body"].outputs) if node.op == "loop" else _mixes(node)
        if reason is not None and (summing or node.op not in _SUMMED):
            return reason
    return None


def over_shards(outputs: Iterable[Any]) -> list[Any]:
    """Return the outputs for the rows of a shard, a part of a batch, in a new graph.

    Each sum over rows becomes the sum over the shard's rows, then ``total``, the sum over all shards. The number of
    rows is such a total too. The gradient of a total by a shard's part is the total of the shards' gradients. So the
    chain rule gives each shard dL/dx of its rows, and of a parameter its part of the gradient.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> over_shards(trace(lambda x: x.sum(axis=0), {"x": (ROWS, 3)}).outputs)[0].graph.nodes
        [x()(10007, 3), sum(v0)(1, 3), total(v1)(1, 3), reshape(v2)(3,)]
    """
    outputs = list(outputs)
    calls = next((node.graph.calls for node in nodes_in(outputs)), {})
    sharded = rewrite([*outputs, *calls, *(call.argument for call in calls.values())], _over_shards)
    results, arguments = sharded[len(outputs) : len(outputs) + len(calls)], sharded[len(outputs) + len(calls) :]
    for result, argument, call in zip(results, arguments, calls.values(), strict=True):
        if isinstance(result, Node) and isinstance(argument, Node):
            result.graph.calls[result] = Call(call.activation, argument, call.pullback)
    return sharded[: len(outputs)]


def _over_shards(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    if node.op == "rows":
        return new.add("total", new.copy_of(node), passes=False)
    if node.op not in _SUMMED or not _mixes(node):
        return None
    (x,), axes = args, node.attributes["axes"]

    def total(x: Any, *, passes: bool = True) -> Any:
        return new.add("total", new.add("sum", x, axes=axes, keepdims=True), passes=passes)

    if node.op == "sum":
        return new.add("reshape", total(x), shape=node.shape)
    count = new.add("total", new.lift(math.prod(node.args[0].shape[axis] for axis in axes)), passes=False)
    numerator, divisor = total(x), count
    if node.op == "var":
        mean = new.add("divide", total(x, passes=False), count)  # the deviations add up to 0, and so do their gradients
        numerator = total(new.add("square", new.add("subtract", x, mean)))
        divisor = new.add("subtract", count, node.attributes["ddof"])
    return new.add("reshape", new.add("divide", numerator, divisor), shape=node.shape)


def _mixes(node: Node) -> str | None:
    rows = node.graph.rows_in
    shapes = [arg.shape for arg in nodes_in(node.args)]
    axes = node.attributes.get("axes", ())
    if node.op in _REDUCING and any(rows(shapes[0][axis]) for axis in axes):
        return f"{node.op} over the rows"
    if node.op == "cumsum" and rows(shapes[0][node.attributes["axis"]]):
        return "cumsum along the rows"
    if node.op == "matmul" and rows(shapes[0][-1]):
        return "a product over the rows"
    if node.op == "einsum":
        inputs, result = node.attributes["subscripts"].split("->")
        for term, shape in zip(inputs.split(","), shapes, strict=True):
            if any(rows(size) and letter not in result for letter, size in zip(term, shape, strict=True)):
                return "a product over the rows"
    if node.op == "index" and any(
        entry == "reversed" and rows(n) for entry, n in zip(node.attributes["index"], shapes[0], strict=True)
    ):
        return "the rows in reverse"
    if node.op == "gather" and any(rows(shapes[0][axis]) for axis in axes) and not is_place(node.args[1]):
        return "an index into the rows"  # x[np.arange(len(x)), classes] reads from each row itself
    if node.shape and sum(rows(size) > 0 for size in node.shape) > 1:
        return "pairs of rows"
    return "the number of rows" if node.op == "rows" else None


_SUMMED = frozenset({"sum", "mean", "var", "rows"})
_REDUCING = frozenset({"sum", "mean", "var", "max", "min", "prod", "any", "all", "argmax", "argmin", "softmax"})


def is_place(node: Node) -> bool:
    """Return whether a node is the place of each row in the batch."""
    while node.op == "reshape":
        node = node.args[0]
    return bool(node.op == "row_numbers")


def _counts_rows(node: Node) -> bool:
    """Return whether an operation computes with the places of the rows, other than to read from each row itself."""
    if node.op == "reshape":
        return False
    body = node.attributes.get("body")  # what a body captures is checked with its operations
    args = node.args if body is None else node.args[: len(body.states) + len(body.entries)]
    places = [arg for arg in nodes_in(args) if is_place(arg)]
    if node.op == "gather" and any(node.graph.rows_in(node.args[0].shape[axis]) for axis in node.attributes["axes"]):
        return is_place(node.args[0])
    return bool(places)
