"""Textbook: a derivative as readers write it, with the sign and the number in front of a product."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from framework.graph.graph import Graph, rewrite_node
from framework.graph.node import Node, matching, ordered


def tidied(found: Any, given: Collection[Node]) -> Any:
    """Return a derivative as a reader would write it; the last bits may differ, and ``given`` nodes stay."""
    known: dict[Node, Any] = {node: node for node in given}
    for node in ordered([found], given):
        if node not in known:
            rewrite_node(node.graph, node, known, _tidier)
    return known.get(found, found)


def _tidier(graph: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    tidy = _TIDIER.get(node.op)
    return tidy and tidy(graph, *args)


def _factors(x: Any) -> tuple[float, Any]:
    """Return the number in front of a product, and the rest; 1.0 where nothing is left."""
    if not isinstance(x, Node):
        return x, 1.0
    if x.op == "negative":
        number, rest = _factors(x.args[0])
        return -number, rest
    if x.op == "multiply" and not isinstance(x.args[0], Node):
        return x.args[0], x.args[1]
    return 1.0, x


def _times(graph: Graph, number: float, rest: Any) -> Any:
    if not isinstance(rest, Node):
        return number * rest
    product = graph.add("multiply", abs(number), rest)
    return graph.add("negative", product) if number < 0 else product


def _tidy_multiply(graph: Graph, a: Any, b: Any) -> Any:
    (c, x), (d, y) = _factors(a), _factors(b)
    if matching(y, "divide") and y.args[0] == 1:
        return _times(graph, c * d, graph.add("divide", x, y.args[1]))
    return _times(graph, c * d, graph.add("multiply", x, y))


def _tidy_divide(graph: Graph, a: Any, b: Any) -> Any:
    (c, x), (d, y) = _factors(a), _factors(b)
    sign = math.copysign(1.0, c) * math.copysign(1.0, d)
    c, d = (1.0, 1.0) if abs(c) == abs(d) else (abs(c), abs(d))
    return _times(graph, sign, graph.add("divide", _times(graph, c, x), _times(graph, d, y)))


def _tidy_subtract(graph: Graph, a: Any, b: Any) -> Any:
    return graph.add("add", a, b.args[0]) if matching(b, "negative") else graph.add("subtract", a, b)


_TIDIER = {"multiply": _tidy_multiply, "divide": _tidy_divide, "subtract": _tidy_subtract}
