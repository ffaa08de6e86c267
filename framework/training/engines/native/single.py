"""The graph of a step on one row: the axis of the rows is gone, and products become sums that nests compute."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from framework.graph.graph import Graph
from framework.graph.node import Node, nodes_in, order_nodes
from framework.training.engines.records import CannotLower


def for_one_row(outputs: Iterable[Any]) -> tuple[list[Any], dict[Node, Any]]:
    """Return the outputs for a batch of one row in a new graph, and what each old node became.

    Raises:
        CannotLower: An operation has the number of rows inside.
    """
    outputs = list(outputs)
    old = nodes_in(outputs)[0].graph
    new, known = Graph(old.dtype, old.rows), dict[Node, Any]()
    new.simplifies = True
    for node in order_nodes(nodes_in(outputs)):
        args = tuple(known[arg] if isinstance(arg, Node) else arg for arg in node.args)
        known[node] = _of_one_row(new, node, args)
    return [known[output] if isinstance(output, Node) else output for output in outputs], known


def _of_one_row(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    def size(number: int) -> int:
        return new.rows_in(number) or number

    shape = tuple(map(size, node.shape))
    if node.op in _REFUSED or (node.op in _PLACED and _has_rows(new, node)):
        raise CannotLower(f"{node.op} has no form for one row")
    if node.op == "input":
        return new.input(node.name, shape, node.kind)
    if node.op == "rows":
        return float(node.attributes["times"])
    if node.op == "row_numbers":
        return new.constant(np.arange(shape[0]))
    if node.op == "constant":
        return new.copy_of(node)
    attributes = {name: shape if name == "shape" else value for name, value in node.attributes.items()}
    made = _product(new, *args) if node.op == "matmul" else None
    made = new.add(node.op, *args, **attributes) if made is None else made
    if shape and (not isinstance(made, Node) or made.shape != shape):
        made = new.add("broadcast_to", made, shape=shape)
    return made


_REFUSED = frozenset({"loop", "part", "windows", "fold", "python", "call"})
_PLACED = frozenset({"index", "place", "set_index", "pad", "concatenate", "scatter_add"})
"""Operations whose attributes say where elements are."""


def _has_rows(new: Graph, node: Node) -> bool:
    """Return whether an attribute besides the shape counts rows."""
    values = [value for name, value in node.attributes.items() if name != "shape"]
    for value in values:
        if isinstance(value, tuple):
            values += value
    return any(type(value) is int and new.rows_in(value) > 0 for value in values)


def _product(new: Graph, a: Node, b: Node) -> Any:
    """Return the product of a row and a matrix as a sum of products, or that of two vectors as products alone."""
    if a.ndim != 2 or b.ndim != 2 or 1 not in (a.shape[0], a.shape[1]):
        return None
    if a.shape[1] == 1:
        return new.add("multiply", a, b)
    if b.shape[1] == 1:
        row = new.add("reshape", b, shape=(1, b.shape[0]))
        return new.add("sum", new.add("multiply", a, row), axes=(1,), keepdims=True)
    column = new.add("reshape", a, shape=(a.shape[1], 1))
    return new.add("sum", new.add("multiply", column, b), axes=(0,), keepdims=True)
