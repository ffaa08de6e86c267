"""Textbook: formulas and derivatives as readers write them, with the sign and the number in front of a product."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from framework.graph.graph import Graph, rewrite_node
from framework.graph.node import Node, matching, ordered


def plainer(graph: Graph, op: str, args: tuple[Any, ...]) -> Any:
    """Return what readers know an operation as, where it was written for accuracy or speed; None for any other one."""
    match op, args:
        case "log1p", (Node("multiply", (2, Node("square", (Node("sinh", (Node("multiply", (0.5, x)),)),)))),):
            return graph.add("log", graph.add("cosh", x))
        # c (x - c/2) with c = min(x, limit): Huber's loss
        case "multiply", (Node("minimum", (x, limit)) as c, Node("subtract", (y, Node("multiply", (0.5, d))))) if (
            x is y and c is d
        ):
            square, line = graph.add("square", x), graph.add("subtract", x, 0.5 * limit)
            sides = graph.add("multiply", 0.5, square), graph.add("multiply", limit, line)
            return graph.add("where", graph.add("less", x, limit), *sides)
        case "erfc", (Node("negative", (x,)),):
            return graph.add("add", 1.0, graph.add("erf", x))
        case "multiply", (Node("multiply", (c, Node() as x)), y) if x is y:
            return graph.add("multiply", c, graph.add("square", x))
        case "multiply", (Node("multiply", (c, Node("square", (x,)))), y) if x is y:
            return graph.add("multiply", c, graph.add("power", x, 3.0))
        case "divide", (Node("divide", (x, y)), z) if y is z:
            return graph.add("divide", x, graph.add("square", y))
        case "square", (Node("divide", (x, float() as c)),) if c % 1.0 and math.isclose(c * c, round(c * c)):
            return graph.add("divide", graph.add("square", x), float(round(c * c)))
        case "square", (Node("hypot", (1, x)),):
            return graph.add("add", 1.0, graph.add("square", x))
        case "log1p", (x,):
            return graph.add("log", graph.add("add", 1.0, x))
        case _:
            return None


def tidied(found: Any, given: Collection[Node]) -> Any:
    """Return a derivative as a reader would write it; the last bits may differ, and ``given`` nodes stay."""
    known: dict[Node, Any] = {node: node for node in given}
    for node in ordered([found], given):
        if node not in known:
            rewrite_node(node.graph, node, known, _tidier)
    return known.get(found, found)


def _tidier(graph: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    tidy = _TIDIER.get(node.op)
    return tidy(graph, *args) if tidy else plainer(graph, node.op, args)


def _factors(x: Any) -> tuple[float, Any]:
    """Return the number in front of a product, and the rest; 1.0 where nothing is left."""
    if not isinstance(x, Node):
        return x, 1.0
    if x.op == "negative":
        number, rest = _factors(x.args[0])
        return -number, rest
    if x.op == "multiply" and not isinstance(x.args[0], Node):
        return x.args[0], x.args[1]
    if x.op == "divide" and isinstance(x.args[0], Node):
        number, rest = _factors(x.args[0])
        return number, x.graph.add("divide", rest, x.args[1])
    return 1.0, x


def _times(graph: Graph, number: float, rest: Any) -> Any:
    if not isinstance(rest, Node):
        return number * rest
    product = graph.add("multiply", abs(number), rest)
    return graph.add("negative", product) if number < 0 else product


def _tidy_multiply(graph: Graph, a: Any, b: Any) -> Any:
    if isinstance(a, Node) and a is b and (square := plainer(graph, "square", (a,))) is not None:
        return square
    (c, x), (d, y) = _factors(a), _factors(b)
    if matching(y, "divide") and y.args[0] == 1:
        return _times(graph, c * d, _divided(graph, x, y.args[1]))
    return _times(graph, c * d, graph.add("multiply", x, y))


def _tidy_divide(graph: Graph, a: Any, b: Any) -> Any:
    if matching(a, "exp") and matching(b, "add") and b.args == (1, a):
        return graph.add("divide", 1.0, graph.add("add", 1.0, graph.add("exp", graph.add("negative", *a.args))))
    (c, x), (d, y) = _factors(a), _factors(b)
    sign = math.copysign(1.0, c) * math.copysign(1.0, d)
    c, d = (1.0, 1.0) if abs(c) == abs(d) else (abs(c), abs(d))
    return _times(graph, sign, _divided(graph, _times(graph, c, x), _times(graph, d, y)))


def _divided(graph: Graph, x: Any, y: Any) -> Any:
    return plainer(graph, "divide", (x, y)) or graph.add("divide", x, y)


def _tidy_subtract(graph: Graph, a: Any, b: Any) -> Any:
    return graph.add("add", a, b.args[0]) if matching(b, "negative") else graph.add("subtract", a, b)


def _tidy_negative(graph: Graph, x: Any) -> Any:
    return graph.add("subtract", *reversed(x.args)) if matching(x, "subtract") else None


def _tidy_order(graph: Graph, a: Any, b: Any) -> Any:
    """Return max(x, c) < b where c < b as x < b."""
    held = matching(a, "maximum") and not isinstance(a.args[1], Node) and not isinstance(b, Node) and a.args[1] < b
    return graph.add("less", a.args[0], b) if held else None


_TIDIER: dict[str, Callable[..., Any]] = {"multiply": _tidy_multiply, "divide": _tidy_divide}
_TIDIER |= {"subtract": _tidy_subtract, "negative": _tidy_negative, "less": _tidy_order}
