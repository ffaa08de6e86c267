"""Rewrite a step for kernels: in few kinds of operations, and in forms that can share loops.

What remains are elementwise operations, reductions, products of two arrays, views, joins of parts, look-ups by index,
and loops. The scheduler makes nests from these; see ``schedule``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from framework.graph.functions import positions
from framework.graph.graph import Graph
from framework.graph.loop import node_of
from framework.graph.lower import Factor, Lowering, Rule, einsum_by_pairs
from framework.graph.node import Node, matching, nodes_in
from framework.graph.operations import COMPARISONS, OPERATIONS, shape_with_ones
from framework.graph.symbol import symbol_of, value_of
from framework.training.engines.native.views import axis_groups
from framework.training.engines.records import Slower

REDUCE = frozenset({"sum", "max", "min", "prod", "any", "all"})
VIEWS = frozenset(name for name, row in OPERATIONS.items() if row.view)
PRODUCTS = frozenset({"matmul", "einsum"})
JOINS = frozenset({"place", "pad", "concatenate", "set_index"})
"""Operations that write parts into a whole."""

_MOST_SORTED = 400
"""Up to this length a row is sorted by a kernel; NumPy is faster beyond."""

_OF_FLOATS = PRODUCTS | {"sum", "max", "min", "prod", "cumsum", "fold", "scatter_add"}
"""Operations that a kernel computes in floats, whatever the kind of their arguments."""

_VALUES = {"scatter_add": (0,), "where": (1, 2)}
"""The arguments that are neither indices nor conditions, where not all are."""

Shape = tuple[int, ...]


def is_elementwise(node: Node) -> bool:
    """Return whether each element of the result depends on one element of each argument."""
    return OPERATIONS[node.op].elementwise or node.op == "astype"


def prepare(outputs: Iterable[Any], compared: Iterable[Node] = ()) -> tuple[list[Any], dict[Node, Any]]:
    """Return the outputs in a new graph, rewritten for kernels, and what each old node became.

    Args:
        outputs: Nodes and plain numbers of one graph.
        compared: Inputs that are random numbers, and only compared.
    """
    outputs = list(outputs)
    lowering = Lowering(nodes_in(outputs)[0].graph, rule=partial(_rewrite, frozenset(compared)))
    return lowering.add(outputs), lowering.known


def _rewrite(compared: frozenset[Node], new: Graph, node: Node, args: tuple[Any, ...], uses: Counter[Node]) -> Any:
    """Return what an operation becomes, or None for no change; see ``framework.graph.lower.Rule``."""
    if node.op in COMPARISONS and not compared.isdisjoint(node.args):
        return _compare_draws(new, node, args)
    elementwise = OPERATIONS[node.op].elementwise
    other_kinds = node.op in _OF_FLOATS and any(arg.kind != "f" for arg in nodes_in(args))
    if other_kinds or (elementwise and node.kind == "i"):
        return _compute_in_floats(new, node, args, uses)
    if node.op in _RULES:
        return _RULES[node.op](new, node, args, uses)
    return _before_merging(new, node, args) if elementwise else None


def _compare_draws(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Round numbers as NumPy does, in which draws that are only compared are float32."""
    return new.add(node.op, *(arg if isinstance(arg, Node) else float(np.float32(arg)) for arg in args))


def _compute_in_floats(new: Graph, node: Node, args: tuple[Any, ...], uses: Counter[Node]) -> Any:
    """Convert the arguments, and the result back: up to 2^53 nothing is rounded. Integers are stored, and index."""
    values = _VALUES.get(node.op, range(len(args)))
    args = tuple(_of_kind(new, arg, "f") if index in values else arg for index, arg in enumerate(args))
    made = _RULES[node.op](new, node, args, uses) if node.op in _RULES else None
    made = new.add(node.op, *args, **node.attributes) if made is None else made
    return _of_kind(new, made, node.kind)


def _of_kind(new: Graph, value: Any, kind: str) -> Any:
    return new.add("astype", value, to=kind) if isinstance(value, Node) and value.kind != kind else value


# rules: see ``framework.graph.lower.Rule``


def _total(new: Graph, _node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Read the number of rows of the whole batch; other sums over its shards are waited for."""
    x = args[0]
    if isinstance(x, Node) and x.op == "rows":
        return new.add("multiply", new.input("whole count", ()), x.attributes["times"])
    return new.add("total", x, passes=False)


def _join(new: Graph, node: Node, args: tuple[Any, ...], uses: Counter[Node]) -> Any:
    """Copy each part by an operation of its own, which joins the nest that makes the part and writes it in its place.

    The product of two arrays writes a part that nothing else reads by itself.
    """
    parts = []
    for arg, old in zip(args, node.args, strict=True):
        operand = _of_kind(new, node_of(new, arg, old), node.kind)
        if operand.kind == "i" and operand.fill is not None:  # a plain number is a float in a kernel
            operand = new.intern_node(
                "astype", (new.broadcast(float(operand.fill), operand.shape),), {"to": "i"}, operand.shape, "i"
            )
        writes_itself = operand.op in PRODUCTS and uses[old] == 1 and node.op != "set_index"
        copies = isinstance(arg, Node) and not writes_itself
        parts.append(new.intern_node("positive", (operand,), {}, operand.shape, operand.kind) if copies else operand)
    return new.intern_node(node.op, tuple(parts), node.attributes, node.shape, node.kind)


def _reduce(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Reduce without kept axes, over the axes as they were before a reshape merged them.

    So the gradient of a bias after a convolution is summed in the nest that computes it.
    """
    x, axes = args[0], node.attributes["axes"]
    if node.attributes["keepdims"]:
        return _add_reduction(new, node.op, x, axes, keepdims=True)
    if not matching(x, "reshape") or not is_elementwise(x.args[0]):
        return None
    whole = x.args[0]
    groups = axis_groups(whole.shape, x.shape)
    if any(set(merged) & set(axes) and not set(merged) <= set(axes) for _, merged in groups):
        return None
    inner = tuple(sorted(axis for apart, merged in groups for axis in apart if set(merged) & set(axes)))
    if not inner:
        return None
    made = new.add(node.op, whole, axes=inner, keepdims=False)
    return (
        made if not isinstance(made, Node) or made.shape == node.shape else new.add("reshape", made, shape=node.shape)
    )


def _add_reduction(new: Graph, op: str, x: Node, axes: Shape, *, keepdims: bool) -> Any:
    """Return a reduction, of which a reshape keeps the axes."""
    made = new.add(op, x, axes=axes, keepdims=False)
    return (
        new.add("reshape", made, shape=shape_with_ones(x.shape, axes)) if keepdims and isinstance(made, Node) else made
    )


def _mean(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    return new.add("divide", _add_reduction(new, "sum", args[0], **node.attributes), _count(new, node))


def _var(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Sum squares of deviations elementwise: all passes over a row are one nest."""
    (x,), axes, ddof = args, node.attributes["axes"], node.attributes["ddof"]
    count = _count(new, node)
    deviation = new.add("subtract", x, new.add("divide", _add_reduction(new, "sum", x, axes, keepdims=True), count))
    squares = new.add("multiply", deviation, deviation)
    total = _add_reduction(new, "sum", squares, axes, keepdims=node.attributes["keepdims"])
    return new.add("divide", total, new.add("subtract", count, ddof) if ddof else count)


def _count(new: Graph, node: Node) -> Any:
    return new.lift(math.prod(node.args[0].shape[axis] for axis in node.attributes["axes"]))


def _find_extreme(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Return the first place of the largest or smallest element along an axis, or of one that is not a number."""
    x, (axis,) = _of_kind(new, args[0], "f"), node.attributes["axes"]
    size = x.shape[axis]
    places: Any = 0.0
    if size > 1:
        shape = tuple(size if number == axis else 1 for number in range(x.ndim))
        places = new.add("reshape", new.constant(np.arange(float(size))), shape=shape)
    extreme = _add_reduction(new, node.op.removeprefix("arg"), x, (axis,), keepdims=True)
    hits = new.add("logical_or", new.add("equal", x, extreme), new.add("isnan", x))
    first = new.add("min", new.add("where", hits, places, float(size)), axes=(axis,), keepdims=False)
    return new.add("reshape", new.add("astype", first, to="i"), shape=node.shape)


def _argsort(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Count the elements before each one, which is its place in the order, and write the number of each into its place.

    Counting compares all pairs of an axis in loops that need no branch: up to 100 elements that is as fast as NumPy,
    and for 1,000 it takes three times as long.

    Raises:
        Slower: The axis has too many elements.
    """
    x, axis = symbol_of(_of_kind(new, args[0], "f")), node.attributes["axis"]
    if x.shape[axis] > _MOST_SORTED and not new.rows_in(x.shape[axis]):
        raise Slower(f"NumPy is faster at sorting {x.shape[axis]:,} elements")
    index = positions(x)
    numbers: Any = np.broadcast_to(index[axis].astype(float), x.shape)
    last = np.isnan(x)
    value, turn = np.where(last, np.inf, x), np.where(last, numbers + x.shape[axis], numbers)
    (mine, others), (my_turn, their_turn) = ([np.expand_dims(v, axis + n) for n in (1, 0)] for v in (value, turn))
    before = (others < mine) | ((others == mine) & (their_turn < my_turn))
    index[axis] = np.sum(np.where(before, 1.0, 0.0), axis=axis + 1).astype(int)
    order = numbers.record("scatter_add", *index, axes=tuple(range(x.ndim)), shape=x.shape)
    return value_of(order.astype(int))


def _einsum(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    return einsum_by_pairs(new, node, args, _contract)


def _contract(new: Graph, a: Factor, b: Factor, output: str) -> Any:
    return new.add("einsum", a.node, b.node, subscripts=f"{a.letters},{b.letters}->{output}")


def _fold(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Compute the gradient of a convolution by its input as a convolution of the padded gradient.

    Its kernel is turned around. Adding up overlapping windows would read and write the result once for each element of
    the kernel; the convolution writes it once, by the tiles that compute the forward pass.
    """
    g = args[0]
    axes, window, steps = (node.attributes[key] for key in ("axes", "window", "steps"))
    if not matching(g, "einsum") or set(steps) != {1} or len(g.args) != 2:
        return None
    terms, output = g.attributes["subscripts"].split("->")
    ours, others = terms.split(",")
    positions, inside = [output[axis] for axis in axes], output[node.ndim :]
    if any(c not in ours or c in others for c in positions) or any(c not in others or c in ours for c in inside):
        return None
    gradient, kernel = g.args
    at = tuple(ours.index(c) for c in positions)
    around = dict(zip(at, ((size - 1, size - 1) for size in window), strict=True))
    width = tuple(around.get(axis, (0, 0)) for axis in range(gradient.ndim))
    padded = new.add("windows", new.add("pad", gradient, width=width, value=0.0), axes=at, window=window, steps=steps)
    turned = new.add("index", kernel, index=tuple("reversed" if c in inside else None for c in others))
    return new.add("einsum", padded, turned, subscripts=f"{ours}{inside},{others}->{output[: node.ndim]}")


def _before_merging(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Compute an elementwise operation before a reshape that merges axes, and not after it.

    Then it shares the loops of what computes its argument: a ReLU before a flattening, or the gradient of pooling.
    After it, a nest would write the argument to memory and another read it.
    """
    for x in args:
        if matching(x, "reshape") and x.shape == node.shape and x.ndim < x.args[0].ndim and is_elementwise(x.args[0]):
            apart = x.args[0].shape
            groups = axis_groups(apart, x.shape)
            if all(len(merged) == 1 for _, merged in groups):
                split = [_split_axes(new, arg, node.ndim, apart, groups) for arg in args]
                return new.add("reshape", new.add(node.op, *split, **node.attributes), shape=node.shape)
    return None


def _split_axes(new: Graph, arg: Any, ndim: int, apart: Shape, groups: list[tuple[Shape, Shape]]) -> Any:
    """Return an argument with the axes that a reshape merges; an axis of 1 becomes several of 1."""
    if not isinstance(arg, Node) or not arg.shape:
        return arg
    sizes = (1,) * (ndim - arg.ndim) + arg.shape
    shape = [apart[axis] if sizes[merged] != 1 else 1 for axes, (merged,) in groups for axis in axes]
    return new.add("reshape", arg, shape=tuple(shape))


_RULES: dict[str, Rule] = {
    "total": _total,
    **dict.fromkeys(JOINS, _join),
    **dict.fromkeys(REDUCE, _reduce),
    "mean": _mean,
    "var": _var,
    "argmax": _find_extreme,
    "argmin": _find_extreme,
    "argsort": _argsort,
    "einsum": _einsum,
    "fold": _fold,
}
