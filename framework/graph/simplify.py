"""Simplification: for some operations, a rule that returns a simpler node or number, or None.

A rule takes (graph, *arguments, **attributes). Rules that change the last bits, or the result for numbers that are not
finite, apply only while ``graph.reorders``, in gradients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from framework.graph.node import Node, common_shape, matching, nodes_in
from framework.graph.operations import apart, index_shape

if TYPE_CHECKING:
    from framework.graph.graph import Graph

Shape = tuple[int, ...]


def _number(x: Any) -> Any:
    """Return the number that x is, plain or broadcast; None for anything else."""
    return x.fill if isinstance(x, Node) else x


def is_number(x: Any, number: float) -> bool:
    """Return whether x is this number, plain or broadcast."""
    return bool(_number(x) == number)


def _fits(kept: Any, *others: Any) -> bool:
    """Return whether leaving ``others`` out keeps the shape and the kind."""
    nodes = [other for other in others if isinstance(other, Node)]
    if not isinstance(kept, Node) or (kept.kind != "f" and [node.kind for node in nodes] != [kept.kind] * len(others)):
        return False
    return common_shape(kept.shape, *(node.shape for node in nodes)) == kept.shape


def _spread_over(graph: Graph, value: Any, *args: Any) -> Any:
    """Return a value broadcast to the common shape of the arguments."""
    shape = common_shape(*(arg.shape for arg in args if isinstance(arg, Node)))
    return graph.add("broadcast_to", value, shape=shape) if shape else value


def _narrow(graph: Graph, op: str, *args: Any) -> Any:
    """Leave out a broadcast_to or reshape where NumPy broadcasts the argument by itself."""
    whole = common_shape(*(arg.shape for arg in args if isinstance(arg, Node)))
    new = list(args)
    for index, arg in enumerate(args):
        if matching(arg, "broadcast_to"):
            rest = [other.shape for n, other in enumerate(new) if n != index and isinstance(other, Node)]
            inner = arg.args[0]
            if rest and common_shape(*rest, *([inner.shape] if isinstance(inner, Node) else [])) == whole:
                new[index] = inner
        operand = new[index]
        if matching(operand, "reshape") and operand.ndim <= len(whole):
            inner = operand.args[0]
            longer, shorter = sorted((inner.shape, operand.shape), key=len, reverse=True)
            if inner.ndim <= len(whole) and longer == (1,) * (len(longer) - len(shorter)) + shorter:
                rest = [other.shape for n, other in enumerate(new) if n != index and isinstance(other, Node)]
                new[index] = inner if common_shape(inner.shape, *rest) == whole else operand
    return graph.add(op, *new) if any(a is not b for a, b in zip(new, args, strict=True)) else None


def _add(graph: Graph, a: Any, b: Any) -> Any:
    for x, other in ((a, b), (b, a)):
        if is_number(x, 0) and _fits(other, x):
            return other
    if matching(a, "place") and matching(b, "place") and a.shape == b.shape:
        first, second = a.attributes["indices"], b.attributes["indices"]
        add = a.attributes["add"] or b.attributes["add"] or not all(apart(i, j) for i in first for j in second)
        return graph.add("place", *a.args, *b.args, shape=a.shape, indices=first + second, add=add)
    for x, other in ((a, b), (b, a)):
        if matching(other, "negative") and _fits(other.args[0], other):
            return graph.add("subtract", x, other.args[0])
    if graph.reorders and a is b:
        return graph.add("multiply", 2.0, a)
    return _merge_choices(graph, "add", a, b) or _narrow(graph, "add", a, b)


def _merge_choices(graph: Graph, op: str, a: Any, b: Any) -> Node | None:
    """Return the sum or difference of two choices by one condition as a choice, if a side of one is 0."""
    alike = matching(a, "where") and matching(b, "where") and a.args[0] is b.args[0] and a.shape == b.shape
    if not (graph.reorders and alike and any(is_number(side, 0) for side in (*a.args[1:], *b.args[1:]))):
        return None
    sides = (graph.add(op, x, y) for x, y in zip(a.args[1:], b.args[1:], strict=True))
    choice: Node = graph.add("where", a.args[0], *sides)
    return choice


def _subtract(graph: Graph, a: Any, b: Any) -> Any:
    if is_number(b, 0) and _fits(a, b):
        return a
    if is_number(a, 0) and _fits(b, a):
        return graph.add("negative", b)
    return _merge_choices(graph, "subtract", a, b) or _narrow(graph, "subtract", a, b)


def _multiply(graph: Graph, a: Any, b: Any) -> Any:
    if graph.reorders and (is_number(a, 0) or is_number(b, 0)):
        return _spread_over(graph, 0.0, a, b)
    for x, other in ((a, b), (b, a)):
        if is_number(x, 1) and _fits(other, x):
            return other
        if is_number(x, -1) and _fits(other, x):
            return graph.add("negative", other)
        if matching(x, "negative"):
            inner = x.args[0]
            return graph.add("negative", graph.add("multiply", *((inner, b) if x is a else (a, inner))))
        if graph.reorders and _is_masked(x) and not (isinstance(x.args[1], Node) and isinstance(other, Node)):
            return graph.add("where", x.args[0], graph.add("multiply", x.args[1], other), 0.0)
        product = _number_times(graph, x, other) if graph.reorders else None
        if product is not None:
            return product
    return _narrow(graph, "multiply", a, b)


def _is_masked(x: Any) -> bool:
    """Return whether x is where(condition, value, 0)."""
    return matching(x, "where") and is_number(x.args[2], 0)


def _number_times(graph: Graph, x: Any, product: Any) -> Any:
    """Return a number times another one, or times a product that has one, as one number; None for anything else."""
    number = _number(x)
    if number is not None and isinstance(product, Node) and product.fill is not None and _fits(product, x):
        return graph.broadcast(number * product.fill, product.shape)
    if number is not None and matching(product, "multiply") and _fits(product, x):
        for side in (0, 1):
            if not isinstance(product.args[side], Node):
                return graph.add("multiply", number * product.args[side], product.args[1 - side])
        for side in (0, 1):
            if (inner := _number_times(graph, number, product.args[side])) is not None:
                return graph.add("multiply", *((inner, product.args[1]) if side == 0 else (product.args[0], inner)))
    return None


def _divide(graph: Graph, a: Any, b: Any) -> Any:
    if graph.reorders and is_number(a, 0):
        return _spread_over(graph, 0.0, a, b)
    if is_number(b, 1) and _fits(a, b):
        return a
    if graph.reorders and not isinstance(b, Node) and b % 1.0:  # a whole number is a count, which readers know
        product = _number_times(graph, 1.0 / b, a)
        if product is not None:
            return product
    if matching(a, "negative"):
        return graph.add("negative", graph.add("divide", a.args[0], b))
    return _narrow(graph, "divide", a, b)


def _negative(graph: Graph, x: Any) -> Any:
    if x.fill is not None and x.kind == "f":
        return graph.add("broadcast_to", -x.fill, shape=x.shape)
    if graph.reorders and matching(x, "where") and not nodes_in(x.args[1:]):
        return graph.add("where", x.args[0], *(0.0 - number for number in x.args[1:]))
    if graph.reorders and matching(x, "multiply") and (product := _number_times(graph, -1.0, x)) is not None:
        return product
    return x.args[0] if matching(x, "negative") else None


def _power(graph: Graph, x: Any, n: Any) -> Any:
    if isinstance(n, Node) or x.kind == "b":  # NumPy has no square of booleans
        return None
    if n == 0:
        return _spread_over(graph, 1.0, x)
    simpler = {1: "positive", 2: "square"}.get(n)
    return None if simpler is None else graph.add(simpler, x)


def _where(graph: Graph, condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(condition, Node):
        chosen, left = (a, b) if condition else (b, a)
        return chosen if not isinstance(left, Node) or _fits(chosen, left) else _spread_over(graph, chosen, a, b)
    same = a is b if isinstance(a, Node) or isinstance(b, Node) else a == b
    if same:
        return a if _fits(a, condition) else _spread_over(graph, a, a, condition)
    for side, x in ((1, a), (2, b)):  # a nested choice by the same condition
        if matching(x, "where") and x.args[0] is condition and x.shape == condition.shape:
            inner = x.args[side]
            return graph.add("where", condition, *((inner, b) if side == 1 else (a, inner)))
    if _is_masked(a) and is_number(b, 0) and a.args[0].shape == condition.shape:
        return graph.add("where", graph.add("bitwise_and", condition, a.args[0]), a.args[1], b)
    return _narrow(graph, "where", condition, a, b)


def is_along(value: Any, ndim: int, axes: Shape) -> bool:
    """Return whether a value is constant along these axes of an array with ``ndim`` axes."""
    return not isinstance(value, Node) or all(
        axis < ndim - value.ndim or value.shape[axis - ndim + value.ndim] == 1 for axis in axes
    )


def _sum(graph: Graph, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    if not axes:
        return x
    if x.fill is not None:
        total = graph.add("multiply", x.fill, graph.lift(math.prod(x.shape[axis] for axis in axes)))
        shape = tuple(1 if n in axes else size for n, size in enumerate(x.shape) if keepdims or n not in axes)
        return graph.add("broadcast_to", total, shape=shape) if shape else total
    if graph.reorders:
        moved = _sum_inside(graph, x, axes)
        if moved is not None:
            bare = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
            return moved if keepdims else graph.add("reshape", moved, shape=bare)
    if not keepdims and axes == tuple(range(len(axes))) and len(axes) < x.ndim:  # so that both forms are one node
        total = graph.add("sum", x, axes=axes, keepdims=True)
        return graph.add("reshape", total, shape=x.shape[len(axes) :])
    if matching(x, "sum") and x.attributes["keepdims"] and keepdims:
        return graph.add("sum", x.args[0], axes=tuple(sorted({*axes, *x.attributes["axes"]})), keepdims=True)
    return None


def _sum_inside(graph: Graph, x: Node, axes: Shape) -> Any:
    """Move a sum inside a product with a factor that is constant along its axes."""
    if x.op == "negative":
        return graph.add("negative", graph.add("sum", x.args[0], axes=axes, keepdims=True))
    if x.op not in ("multiply", "divide"):
        return None
    a, b = x.args
    if isinstance(a, Node) and a.shape == x.shape and is_along(b, x.ndim, axes):
        return graph.add(x.op, graph.add("sum", a, axes=axes, keepdims=True), b)
    if x.op == "multiply" and isinstance(b, Node) and b.shape == x.shape and is_along(a, x.ndim, axes):
        return graph.add(x.op, a, graph.add("sum", b, axes=axes, keepdims=True))
    return None


def _mean(graph: Graph, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    if not keepdims and axes == tuple(range(len(axes))) and len(axes) < x.ndim:
        return graph.add("reshape", graph.add("mean", x, axes=axes, keepdims=True), shape=x.shape[len(axes) :])
    return None


def _reshape(graph: Graph, x: Any, *, shape: Shape) -> Any:
    if not isinstance(x, Node):
        return graph.add("broadcast_to", x, shape=shape)
    if x.shape == shape:
        return x
    if x.op == "reshape":
        return graph.add("reshape", x.args[0], shape=shape)
    if x.fill is not None:
        return graph.add("broadcast_to", x.fill, shape=shape) if shape else x.fill
    if x.op == "sum" and x.attributes["keepdims"]:
        axes = x.attributes["axes"]
        bare = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
        if bare == shape and axes != tuple(range(len(axes))):
            return graph.add("sum", x.args[0], axes=axes, keepdims=False)
    return None


def _transpose(graph: Graph, x: Any, *, axes: Shape) -> Any:
    if axes == tuple(range(len(axes))):
        return x
    if x.op == "transpose":
        return graph.add("transpose", x.args[0], axes=tuple(x.attributes["axes"][axis] for axis in axes))
    swapped = (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
    if x.op == "matmul" and axes == swapped and all(arg.ndim == len(axes) for arg in x.args):  # (A B)' = B' A'
        return graph.add("matmul", *(graph.add("transpose", arg, axes=swapped) for arg in reversed(x.args)))
    if x.fill is not None:
        return graph.add("broadcast_to", x.fill, shape=tuple(x.shape[axis] for axis in axes))
    return None


def _broadcast_to(graph: Graph, x: Any, *, shape: Shape) -> Any:
    if isinstance(x, Node) and x.shape == shape:
        return x
    if matching(x, "broadcast_to"):
        return graph.add("broadcast_to", x.args[0], shape=shape)
    return None if shape or isinstance(x, Node) else x


def _index(graph: Graph, x: Any, *, index: tuple[Any, ...]) -> Any:
    if all(entry is None for entry in index):
        return x
    if x.fill is not None:
        shape = index_shape(graph, x.shape, index=index)
        return graph.add("broadcast_to", x.fill, shape=shape) if shape else x.fill
    if x.op == "windows":
        return _index_of_windows(graph, x, index)
    if x.op == "concatenate":
        return _index_of_joined(graph, x, index)
    if x.op == "place" and not x.attributes["add"] and index in x.attributes["indices"]:  # no other part overlaps it
        return x.args[x.attributes["indices"].index(index)]
    if x.op == "set_index":
        if x.attributes["index"] == index:
            return x.args[1]
        if apart(x.attributes["index"], index):
            return graph.add("index", x.args[0], index=index)
    return None


def _index_of_windows(graph: Graph, x: Node, index: tuple[Any, ...]) -> Any:
    """Turn a part with a step into windows with that step."""
    axes, steps, rest = x.attributes["axes"], list(x.attributes["steps"]), list(index)
    for n, axis in enumerate(axes):
        entry = index[axis]
        if isinstance(entry, tuple) and entry[0] == 0 and entry[2] > 1 and entry[1] == x.shape[axis] and steps[n] == 1:
            steps[n], rest[axis] = entry[2], None
    if rest == list(index):
        return None
    windows = graph.add("windows", x.args[0], axes=axes, window=x.attributes["window"], steps=tuple(steps))
    return graph.add("index", windows, index=tuple(rest))


def _index_of_joined(graph: Graph, x: Node, index: tuple[Any, ...]) -> Any:
    """Take a part of a concatenation from the argument that contains it."""
    axis = x.attributes["axis"]
    entry = index[axis]
    if not (isinstance(entry, int) or (isinstance(entry, tuple) and entry[2] == 1)):
        return None
    low, high = (entry, entry + 1) if isinstance(entry, int) else entry[:2]
    start = 0
    for arg in x.args:
        stop = start + arg.shape[axis]
        if start <= low and high <= stop:
            inner: Any = entry - start if isinstance(entry, int) else (low - start, high - start, 1)
            inner = None if inner == (0, arg.shape[axis], 1) else inner
            return graph.add("index", arg, index=(*index[:axis], inner, *index[axis + 1 :]))
        start = stop
    return None


def _set_index(graph: Graph, x: Any, value: Any, *, index: tuple[Any, ...]) -> Any:
    if x.fill == 0:
        return graph.add("place", value, shape=x.shape, indices=(index,), add=False)
    if x.op == "place" and not x.attributes["add"] and all(apart(i, index) for i in x.attributes["indices"]):
        return graph.add("place", *x.args, value, shape=x.shape, indices=(*x.attributes["indices"], index), add=False)
    return None


SIMPLER: dict[str, Any] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "abs": lambda graph, x: graph.add("abs", x.args[0]) if graph.lowered and matching(x, "negative") else None,
    "positive": lambda _graph, x: x,
    "power": _power,
    "where": _where,
    "sum": _sum,
    "mean": _mean,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    "index": _index,
    "set_index": _set_index,
}
