"""Readable: a formula without what only keeps its numbers in range, for readers.

``min(-h, 709.78)``, ``max(h, 0) + log1p(exp(-|h|))`` and ``log(p + (t == 0))`` each compute a shorter formula safely. A
kink is such a guard if the formula with one side of it has the same values wherever they are finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.emit.numpy import emit
from framework.graph.graph import Graph, rewrite
from framework.graph.node import Node, nodes_in, ordered
from framework.graph.operations import COMPARISONS, KINKS, OPERATIONS
from framework.graph.region import elementwise
from framework.graph.textbook import plainer

_USUAL = np.array([0.2371, 0.6713, 1.7177, 4.319])
"""Sizes at which a formula without its guards must be finite too; elsewhere it may overflow or divide by 0."""

_SIZES = [*_USUAL, 0.0, *np.geomspace(1e-8, 1e8, 17), *np.geomspace(1e16, 1e304, 19)]
_KINKS = (KINKS | COMPARISONS) - {"where"}  # a choice has its kinks where its condition changes
_ROWS, _WIDTH = 48, 500


def readable(outputs: Iterable[Any], guarded: Iterable[tuple[list[Node], list[Node]]]) -> list[Any]:
    """Return outputs of one graph as a textbook writes them; ``guarded`` are results that may have guards, with inputs.

    Example:
        >>> from framework.emit.text import Shown
        >>> from framework.graph.trace import ROWS, trace
        >>> safe = trace(lambda h: np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h))), {"h": (ROWS,)})
        >>> Shown({"f(h)": readable([safe.output], [([safe.output], [safe.inputs["h"]])])[0]})
        f(h) = log(1 + exp(h))
    """
    guards: dict[Node, bool] = {}
    for results, inputs in guarded:
        guards |= _guards(results, inputs)
    return _without(guards, outputs)


def _guards(results: list[Node], inputs: list[Node]) -> dict[Node, bool]:
    """Return the nodes that are guards, and for each whether its argument is taken to be large."""
    groups: dict[Any, dict[Node, bool]] = {}  # kinks at one point are taken together
    nodes = [node for node in ordered(results, inputs) if node not in inputs]
    for node in nodes:
        if node.op in ("max", "min"):
            groups.setdefault((node.op, *node.args, node.attributes["axes"]), {})[node] = True
        elif node.op in _KINKS and len(nodes_in(node.args)) == 1:
            number = next((arg for arg in node.args if not isinstance(arg, Node)), 0.0)
            point, rising = _kink(nodes_in(node.args)[0], number)
            groups.setdefault(point, {})[node] = rising
    arrays = _arrays(nodes, inputs) if groups else []

    def measured(guards: dict[Node, bool]) -> tuple[list[int], list[Any]]:
        """Return the sizes of the formulas without these guards, and their values."""
        made = _without(guards, [*results, *inputs])
        outputs, names = made[: len(results)], {f"x{n}": node for n, node in enumerate(made[len(results) :])}
        with np.errstate(all="ignore"):
            values = [emit({"a": output}, names, memory=False).function(*arrays) for output in outputs]
        sizes: dict[Any, int] = {}
        for node in ordered(outputs):
            sizes[node] = 1 + sum(sizes.get(arg, 0) for arg in node.args)
        return [sizes.get(output, 0) for output in outputs], values

    best: dict[Node, bool] = {}
    size, expected = measured(best) if groups else ([], [])
    for group in groups.values():
        known = best
        for large in (True, False):
            tried = known | {node: rising == large for node, rising in group.items()}
            smaller, values = measured(tried)
            if smaller < size and all(map(_agree, values, expected)):
                size, best = smaller, tried
    return best


def _agree(values: Any, expected: Any) -> bool:
    """Return whether values are equal wherever they are finite, and finite in the rows of usual numbers."""
    if np.shape(values) != np.shape(expected):
        return False
    finite, usual = np.isfinite(values), np.isfinite(expected[: _ROWS // 2])
    equal = np.allclose(values[finite], expected[finite], rtol=1e-9, atol=1e-9)
    return equal and np.array_equal(finite[: _ROWS // 2], usual)


def _kink(x: Any, c: float, *, rising: bool = True) -> tuple[tuple[Any, float], bool]:
    """Return the node and the number that are equal where x = c, and whether x rises with the node."""
    match x:
        case Node("negative", (y,)):
            return _kink(y, -c, rising=not rising)
        case Node("multiply", (float() | int() as factor, Node() as y)) if factor:
            return _kink(y, c / factor, rising=rising == (factor > 0))
        case Node("divide", (Node() as y, float() | int() as factor)) if factor:
            return _kink(y, c * factor, rising=rising == (factor > 0))
        case Node("minimum" | "maximum", (Node() as y, float() as bound)) if abs(bound) > 1e30:
            return _kink(y, c, rising=rising)
        case _:
            return (x, c), rising


def _arrays(nodes: list[Node], inputs: list[Node]) -> list[Array]:
    """Return an array for each input: rows of positive numbers, of negative ones and of both; half have usual sizes."""
    alone = all(elementwise(node) or node.fill is not None for node in nodes)
    numbers = {float(arg) for node in nodes for arg in node.args if not isinstance(arg, Node)}
    sizes = np.abs([*_SIZES, *(n + d for n in numbers if math.isfinite(n) for d in (-0.01, 0.0, 0.01))])
    sizes = sizes if alone else sizes[sizes < 1e30]  # so that no square overflows
    rng, arrays = np.random.default_rng(0), []
    for x in inputs:
        shape = [_ROWS, _WIDTH] if alone else [_ROWS if x.graph.rows_in(size) else size for size in x.shape]
        row = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        signs = np.choose(row % 3, [1.0, -1.0, rng.choice([-1.0, 1.0], shape)])
        arrays.append(signs * np.where(row < _ROWS // 2, rng.choice(_USUAL, shape), rng.choice(sizes, shape)))
    return arrays


def _without(guards: dict[Node, bool], outputs: Iterable[Any]) -> list[Any]:
    """Return the outputs in a new graph, without guards."""

    def rule(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
        numbers = [arg.fill if isinstance(arg, Node) and arg.fill is not None else arg for arg in args]
        if node in guards and node.op in ("max", "min"):
            return float(guards[node])  # a scale that cancels out is 1, a shift 0
        if node in guards:
            end = math.inf if guards[node] else -math.inf
            value = getattr(np, node.op)(*(end if isinstance(arg, Node) else arg for arg in node.args)).item()
            (x,) = (arg for arg, old in zip(args, node.args, strict=True) if isinstance(old, Node))
            return value if math.isfinite(value) else x if value == end else new.add("negative", x)
        if node.op == "where" and isinstance(numbers[0], bool):
            return args[1] if numbers[0] else args[2]
        if args and OPERATIONS[node.op].elementwise and not nodes_in(numbers):
            return new.add(node.op, *numbers)
        return plainer(new, node.op, args)

    return rewrite(outputs, rule)
