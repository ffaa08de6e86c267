"""Textbook: formulas and derivatives as readers write them: without guards, with the number in front of a product.

A guard keeps a formula from overflowing or from dividing by 0. ``FACTS`` and the rules in ``plainer`` leave guards out:
except at single points, each is an identity where all values are below 0.9 times the largest number of the dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from framework.base.special import erf, erfc
from framework.graph.graph import Graph, rewrite_into
from framework.graph.node import Node, ancestors, matching
from framework.graph.operations import OPERATIONS
from framework.graph.patterns import Fact, Patterns

_DEEP = 6
"""How far a rule looks into the arguments of an operation, so that the time grows linearly with the formula."""

_SMOOTH = ("input", "constant", "add", "subtract", "multiply", "divide", "square", "sqrt", "sum", "mean", "var")
_sum: Callable[..., Any] = partial(np.sum, axis=-1, keepdims=True)
_most: Callable[..., Any] = partial(np.max, axis=-1, keepdims=True)

FACTS: tuple[Fact, ...] = (
    lambda x: (x * x, np.square(x)),
    lambda x, c: (c * x * x, c * np.square(x)),
    lambda x, c: (c * np.square(x) * x, c * x**3.0),
    lambda x, y: (x / y / y, x / np.square(y)),
    lambda x: (np.square(1.0 / x), 1.0 / np.square(x)),
    lambda x, y: (-(x - y), y - x),
    lambda x, y: (x - -y, x + y),
    lambda x: (np.log1p(x), np.log(1.0 + x)),
    lambda x: (np.square(np.hypot(1.0, x)), 1.0 + np.square(x)),
    lambda x: (np.cosh(abs(x)), np.cosh(x)),
    lambda x: (erfc(-x), 1.0 + erf(x)),
    lambda x: (np.exp(x) / (1.0 + np.exp(x)), 1.0 / (1.0 + np.exp(-x))),
    lambda x: (np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-abs(x))), 1.0 / (1.0 + np.exp(-x))),
    lambda x: (np.maximum(x, 0.0) + np.log(1.0 + np.exp(-abs(x))), np.log(1.0 + np.exp(x))),
    lambda x, s: (np.maximum(x, 0.0) + np.log(1.0 + np.exp(-abs(s * x))) / s, np.log(1.0 + np.exp(s * x)) / s),
    lambda x: (np.minimum(x, 0.0) - np.log(1.0 + np.exp(-abs(x))), -np.log(1.0 + np.exp(-x))),
    lambda x: (np.log(1.0 + 2.0 * np.square(np.sinh(0.5 * x))), np.log(np.cosh(x))),
    lambda x: (abs(x) + (np.log(1.0 + np.exp(-2.0 * abs(x))) - math.log(2.0)), np.log(np.cosh(x))),
    lambda x: (abs(x) + np.log(1.0 + np.exp(-2.0 * abs(x))) - math.log(2.0), np.log(np.cosh(x))),
    lambda x: (
        np.log(np.maximum(abs(x), 1.0)) + 0.5 * np.log(1.0 + (np.minimum(abs(x), 1.0) / np.maximum(abs(x), 1.0)) ** 2),
        0.5 * np.log(1.0 + x**2),
    ),
    lambda x, c: (np.minimum(x, c) * (x - 0.5 * np.minimum(x, c)), np.where(x < c, 0.5 * x * x, c * (x - 0.5 * c))),
    lambda x, y, s: (np.where(x > 0.0, y, np.expm1(np.minimum(x, s))), np.where(x > 0.0, y, np.expm1(x))),
    lambda x, y, c, s: (np.where(x > 0.0, y, c * np.expm1(np.minimum(x, s))), np.where(x > 0.0, y, c * np.expm1(x))),
    lambda x, y, c, s: (
        np.where(x > 0.0, y, c * np.expm1(np.minimum(x, s) / s)),
        np.where(x > 0.0, y, c * np.expm1(x / s)),
    ),
    lambda x, y, c: (np.where(x < c, np.log(np.cosh(np.minimum(x, c))), y), np.where(x < c, np.log(np.cosh(x)), y)),
    lambda x, y, s: (np.where(x == 0.0, 0.0, x**s * y), x**s * y),
    lambda x, y, c: (x / np.where(y == 0.0, c, y), x / y),
    lambda x, y, c: (x / np.sqrt(np.where(y == 0.0, c, y)), x / np.sqrt(y)),
    lambda x: (x / _most(abs(x)) / np.sqrt(_sum((x / _most(abs(x))) ** 2)), x / np.sqrt(_sum(x**2))),
    lambda x, y: (y / np.sqrt(_sum((x / _most(abs(x))) ** 2)) / _most(abs(x)), y / np.sqrt(_sum(x**2))),
    lambda x: (np.log(_sum(np.exp(x - _most(x)))) + _most(x), np.log(_sum(np.exp(x)))),
    lambda x: (np.log(np.exp(x - _most(x)).sum(axis=-1)) + _most(x)[..., 0], np.log(np.exp(x).sum(axis=-1))),
)
"""Pairs of a form for computers and one for readers."""


_PATTERNS = Patterns(FACTS, lambda node: node.op != "equal" or _seldom(*node.args))


def plainer(graph: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Return what readers write for an operation on these arguments; None for the operation itself."""
    written = Node(graph, node.op, args, node.attributes, node.shape, node.kind)
    better = _PATTERNS.replace(written, partial(_add_tidy, graph))
    if better is not None:
        return better
    number = np.finfo(graph.dtype)
    match node.op, args:
        case "exp" | "expm1", (x,):  # beyond, it overflows or is 0
            inner = _within(graph, x, math.log(number.smallest_subnormal), math.log(0.9) + math.log(number.max))
            return None if inner is x else _add_tidy(graph, node.op, inner)
        case "multiply", (float() | int() as c, Node() as x) if abs(c) > 1.0:  # beyond, the product overflows
            inner = _within(graph, x, -0.9 / abs(c) * float(number.max), 0.9 / abs(c) * float(number.max))
            return None if inner is x else _add_tidy(graph, node.op, c, inner)
        case "multiply", (Node() as x, Node() as y):  # where a factor is 0, the other one is of no account
            factors = tuple(_replace_nodes(graph, a, partial(_unless, _factors(b)[1])) for a, b in ((x, y), (y, x)))
            return None if factors == args else _add_tidy(graph, node.op, *factors)
        case "subtract", (x, float() | int() as c) if c < 0:
            return graph.add("add", x, -c)
        case "less", (Node("maximum", (x, float() | int() as c)), float() | int() as d) if c < d:
            return graph.add("less", x, d)
        case "square", (Node("divide", (x, float() as c)),) if c % 1.0 and math.isclose(c * c, round(c * c)):
            return graph.add("divide", graph.add("square", x), float(round(c * c)))
        case _:
            return None


def _add_tidy(graph: Graph, op: str, *args: Any, **attributes: Any) -> Any:
    """Return an operation as readers write it."""
    added = graph.add(op, *args, **attributes)
    better = plainer(graph, added, added.args) if isinstance(added, Node) else None
    return added if better is None else better


def _within(graph: Graph, x: Any, low: float, high: float, deep: int = _DEEP) -> Any:
    """Return what is equal to x where x lies between two numbers, and is on the same side of them elsewhere."""
    ends, guard = (low, high), False
    match x:
        case Node("minimum" | "maximum" as op, (y, float() | int() as c)):
            guard = c >= high if op == "minimum" else c <= low
        case Node("negative", (y,)):
            ends = -high, -low
        case Node("abs", (y,)):
            ends = -high, high
        case Node("multiply", (float() | int() as c, y)) if c:
            ends = min(low / c, high / c), max(low / c, high / c)
        case Node("divide", (Node() as y, float() | int() as c)) if c:
            ends = min(low * c, high * c), max(low * c, high * c)
        case Node("add", (y, Node("multiply", (float() as c, Node("power", (z, 3.0)))))) if y is z and c > 0.0:
            ends = math.cbrt(min(low, 0.0) / c), math.cbrt(max(high, 0.0) / c)  # the sum is further from 0 than c y^3
        case _:
            return x
    inner = _within(graph, y, *ends, deep - 1) if deep else y
    return inner if guard else _replace_nodes(graph, x, lambda node: inner if node is y else None)


def _unless(zero: Any, x: Node) -> Any:
    """Return what x is equal to where another value is not 0, if x is a choice or sum by whether it is 0."""
    match x:
        case Node("where", (Node("equal", pair), _, y)) | Node("add", (y, Node("equal", pair))):
            same = pair == (zero, 0.0) or (matching(zero, "subtract") and zero.args in (pair, pair[::-1]))
            return y if same and isinstance(y, Node) and y.shape == x.shape and _seldom(*pair) else None
        case _:
            return None


def _seldom(x: Any, c: Any) -> bool:
    """Return whether two values are equal at single points only, by their form."""
    match x, c:
        case Node("abs" | "max", (y,)) | Node("divide" | "hypot", (y, _)) | Node("sum", (Node("square", (y,)),)), 0.0:
            return _seldom(y, c)
        case _:
            return all(node.op in _SMOOTH or OPERATIONS[node.op].view for node in ancestors([x, c]))


def _replace_nodes(graph: Graph, x: Any, replace: Callable[[Node], Any], deep: int = _DEEP) -> Any:
    """Return x with nodes in it replaced."""
    if not (deep and isinstance(x, Node)) or (made := replace(x)) is x:
        return x
    if made is None and OPERATIONS[x.op].elementwise:
        args = tuple(_replace_nodes(graph, arg, replace, deep - 1) for arg in x.args)
        made = x if args == x.args else _add_tidy(graph, x.op, *args, **x.attributes)
    return x if made is None else made


def tidy(derivative: Any, kept_nodes: Collection[Node]) -> Any:
    """Return a derivative as a reader would write it; the last bits may differ, and ``kept_nodes`` stay."""
    if not isinstance(derivative, Node):
        return derivative
    return rewrite_into(derivative.graph, [derivative], {node: node for node in kept_nodes}, _tidier)[0]


def _tidier(graph: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    if node.op == "multiply":
        return _tidy_multiply(graph, *args)
    return _tidy_divide(graph, *args) if node.op == "divide" else plainer(graph, node, args)


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
    (c, x), (d, y) = _factors(a), _factors(b)
    if matching(y, "divide") and getattr(y.args[0], "fill", y.args[0]) == 1:
        return _times(graph, c * d, _add_tidy(graph, "divide", x, y.args[1]))
    return _times(graph, c * d, _add_tidy(graph, "multiply", x, y))


def _tidy_divide(graph: Graph, a: Any, b: Any) -> Any:
    (c, x), (d, y) = _factors(a), _factors(b)
    sign = math.copysign(1.0, c) * math.copysign(1.0, d)
    c, d = (1.0, 1.0) if abs(c) == abs(d) else (abs(c), abs(d))
    return _times(graph, sign, _add_tidy(graph, "divide", _times(graph, c, x), _times(graph, d, y)))
