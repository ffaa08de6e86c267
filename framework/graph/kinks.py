"""Kinks: the slope of an elementwise formula where several of its kinks meet.

There, the conventions may add up to the slope of neither side: max(h, 0) - max(-h, 0) is smooth and has the slope 1 at
0, where the rules of both maxima give 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import reduce
from itertools import combinations, product, starmap
from typing import Any

import numpy as np

from framework.graph.graph import Graph, rewrite_into
from framework.graph.node import Node, dependents, nodes_in, ordered
from framework.graph.operations import COMPARISONS, OPERATIONS

ORDER = COMPARISONS - {"equal", "not_equal"}
"""Comparisons whose result changes at a tie."""

EXTREMES = frozenset({"abs", "maximum", "minimum", "fmax", "fmin"})
_JUMPS = ORDER | {"sign", "heaviside", "copysign"}
_KINKS = EXTREMES | _JUMPS


def elementwise(node: Node) -> bool:
    """Return whether each element depends on one element of each argument."""
    return OPERATIONS[node.op].elementwise or node.op == "astype"


def variable_of(
    node: Node, reached: Collection[Node], consumers: Mapping[Node, Collection[Node]], ends: Collection[Node]
) -> Node | None:
    """Return the one variable of the largest elementwise formula that ends in a node, if it has several kinks.

    Args:
        node: The result of the formula.
        reached: The nodes that depend on what the whole graph is derived by.
        consumers: The nodes that use a node.
        ends: Nodes that are given or need a gradient of their own, so that they are not inside a formula.
    """
    members: set[Node] = set()
    frontier, variable, kinks = {node}, None, 0
    while frontier:
        last = max(frontier, key=lambda member: member.place)
        if kinks > 1 and frontier == {last} and last.kind == "f" and last.shape == node.shape:
            variable = last
        inside = last is node or not (last in ends or any(user not in members for user in consumers[last]))
        if not inside or last.shape != node.shape or not elementwise(last):
            break
        members.add(last)
        kinks += len(_pairs(last)) if last.op in _KINKS else 0
        frontier.remove(last)
        frontier.update(arg for arg in nodes_in(last.args) if arg in reached)
    return variable


def between(slope: Node, variable: Node, reached: Collection[Node], deciding: Collection[Node]) -> Node:
    """Return a slope, held between those of both sides wherever a kink is, if some of the kinks can meet.

    Args:
        slope: The slope of the formula by its variable.
        variable: The variable.
        reached: The nodes of the formula that depend on it.
        deciding: Those whose rules have decided where a gradient goes.
    """
    jumps = (node for node in ordered([slope], {variable}) if node in reached and node.op in _JUMPS)
    pairs = [pair for node in dict.fromkeys([*deciding, *jumps]) for pair in _pairs(node)]
    kinks = [_numbers(*pair) for pair in pairs]
    if not any(starmap(_meet, combinations(kinks, 2))):
        return slope
    bases, numbers = {base for base, _ in kinks}, {number for _, several in kinks for number in several}
    base = bases.pop() if len(bases) == 1 else None
    variable = base or variable
    left, right = (_beside(slope, variable, side) for side in ("subtract", "add"))
    if base is not None:
        values = [[_value(form, base, number) for form in (slope, left, right)] for number in numbers]
        at, before, after = np.array(values, float).T
        if ((at >= np.fmin(before, after)) & (at <= np.fmax(before, after))).all():
            return slope
    add = variable.graph.add
    held = add("fmin", add("fmax", slope, add("fmin", left, right)), add("fmax", left, right))  # NaN does not count
    ties = (add("equal", *pair) for pair in dict.fromkeys(pairs))
    made: Node = add("where", reduce(lambda tie, other: add("bitwise_or", tie, other), ties), held, slope)
    return made


def _value(output: Any, variable: Node, number: float) -> float | None:
    """Return the value of an output at a number of a variable; None if it depends on anything else."""
    values: dict[Any, Any] = {variable: number}
    for node in ordered([output], {variable}):
        if node.op == "broadcast_to":
            values[node] = values.get(node.args[0], node.args[0])
        elif node is not variable:
            if not node.args or not OPERATIONS[node.op].elementwise:
                return None
            values[node] = node.graph.add(node.op, *(values.get(arg, arg) for arg in node.args))
    return float(values.get(output, output))


def _beside(slope: Node, variable: Node, side: str) -> Any:
    """Return a slope with every decision as it is a few units in the last place to one side of the variable."""
    graph, number = variable.graph, np.finfo(variable.graph.dtype)
    step = graph.add("multiply", 8.0 * float(number.eps), graph.add("abs", variable))
    step = graph.add("add", step, 16.0 * float(number.tiny))
    order = ordered([slope], {variable})
    inside = dependents(order, {variable}, {variable}) - {variable}
    limits: dict[Node, Any] = {node: node for node in order if node not in inside}
    moved = limits | {variable: graph.add(side, variable, step)}
    jumps = [node for node in order if node in inside and node.op in _JUMPS]
    rewrite_into(graph, [arg for jump in jumps for arg in jump.args], moved, lambda *_: None)

    def decided(graph: Graph, node: Node, _args: Any) -> Any:
        return graph.add(node.op, *(moved.get(arg, arg) for arg in node.args)) if node in jumps else None

    return rewrite_into(graph, [slope], limits, decided)[0]


# where kinks are


def _pairs(node: Node) -> list[tuple[Any, ...]]:
    """Return the pairs of values that are equal at the kinks of an operation."""
    if node.op in ("abs", "sign", "heaviside"):
        return [(node.args[0], 0.0)]
    return [(arg, 0.0) for arg in nodes_in(node.args)] if node.op == "copysign" else [node.args]


def _meet(one: tuple[Any, set[float]], other: tuple[Any, set[float]]) -> bool:
    """Return whether two kinks may be at one number; False only if their numbers are known and differ."""
    if one[0] is None or one[0] is not other[0]:
        return True
    return any(math.isclose(x, y, abs_tol=1e-9) for x, y in product(one[1], other[1]))


def _numbers(a: Any, b: Any) -> tuple[Node | None, set[float]]:
    """Return a node and its values where a = b; None and nothing where they are not known."""
    if isinstance(b, Node):
        a, b = b, a
    if isinstance(b, Node):
        return None, set()
    values = {b}
    while len(inner := nodes_in(a.args)) == 1 and (undone := [_undone(a, value) for value in values]) and all(undone):
        a, values = inner[0], {value for several in undone for value in several}
    return a, values


def _undone(a: Node, b: float) -> tuple[float, ...]:
    """Return the values of the one argument of ``a`` that is a node where a = b; nothing where they are not known."""
    c = next((arg for arg in a.args if not isinstance(arg, Node)), 0.0)
    match a.op:
        case "negative":
            return (-b,)
        case "abs":
            return b, -b
        case "add":
            return (b - c,)
        case "subtract":
            return (b + c,) if a.args[1] is c else (c - b,)
        case "multiply" if c:
            return (b / c,)
        case "divide" if c and a.args[1] is c:
            return (b * c,)
        case "maximum" | "fmax" | "minimum" | "fmin" if b != c:
            return (b,)
        case _:
            return ()
