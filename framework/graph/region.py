"""Region: an elementwise part of a graph that depends on one variable, and is derived forwards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from framework.graph.node import Node, matching, nodes_in
from framework.graph.operations import COMPARISONS, GROWING, KINKS, OPERATIONS

ORDER = COMPARISONS - {"equal", "not_equal"}
"""Comparisons whose result changes at a tie."""

DENOMINATOR = {"divide": 1, "reciprocal": 0}
"""The argument that an operation divides by."""

_BOUNDED = frozenset({"tanh", "arctan", "erf", "erfc", "sin", "cos", "sign"})
_KINKS = (KINKS - {"where"}) | ORDER  # a choice has its kinks where its condition changes


@dataclass(frozen=True)
class Region:
    """An elementwise part of a graph that depends on one variable.

    Attributes:
        variable: The node that it is derived by.
        members: The nodes that depend on it, in the order of computation; the last is the result.
    """

    variable: Node
    members: tuple[Node, ...]


def region_of(
    node: Node,
    reached: Collection[Node],
    consumers: Mapping[Node, Collection[Node]],
    ends: Collection[Node] = (),
) -> Region | None:
    """Return the largest elementwise region that ends in ``node``, or None where reverse rules are right.

    They are right for fewer than two kinks, unless a denominator can overflow or a choice is made between expressions.

    Args:
        node: The result of the region.
        reached: The nodes that depend on what the whole graph is derived by.
        consumers: The nodes that use a node.
        ends: Nodes that are given or need a gradient of their own, so that they are not inside a region.
    """
    members: set[Node] = set()
    frontier = {node}
    region = None
    while frontier:
        last = max(frontier, key=lambda found: found.place)
        if members and frontier == {last} and last.kind == "f" and last.shape == node.shape:
            region = Region(last, tuple(sorted(members, key=lambda found: found.place)))
        inside = last is node or not (last in ends or any(c not in members for c in consumers[last]))
        if not inside or last.shape != node.shape or not elementwise(last):
            break
        members.add(last)
        frontier.remove(last)
        frontier.update(arg for arg in nodes_in(last.args) if arg in reached)
    if region is None:
        return None
    chosen = any(n.op == "where" and any(arg in members for arg in n.args[1:]) for n in region.members)
    return region if chosen or len(kinks_of(region)) > 1 or overflowing(region) else None


def elementwise(node: Node) -> bool:
    """Return whether each element depends on one element of each argument."""
    return OPERATIONS[node.op].elementwise or node.op == "astype"


def kinks_of(region: Region) -> list[tuple[Any, Any]]:
    """Return the pairs of values that are equal at a kink."""
    found: list[tuple[Any, Any]] = []
    for node in region.members:
        if node.op in ("abs", "sign", "heaviside"):
            found.append((node.args[0], 0.0))
        elif node.op == "copysign":  # |a| with the sign of b
            found += [(arg, 0.0) for arg in node.args]
        elif node.op in _KINKS:
            a, b = node.args
            found.append((a, b if isinstance(b, Node) else float(b)))
    return found


def overflowing(region: Region) -> frozenset[Node]:
    """Return the quotients whose denominator can overflow with the variable."""
    growing: set[Node] = set()
    for node in region.members:
        if node.op in _BOUNDED or (node.op == "exp" and _limited(node.args[0])):
            continue
        grows = node.op in GROWING and not (node.op == "multiply" and len(nodes_in(node.args)) == 1)
        if grows or any(arg in growing for arg in nodes_in(node.args)):
            growing.add(node)
    return frozenset(
        node
        for node in region.members
        if node.op in DENOMINATOR and any(arg in growing for arg in nodes_in(node.args[DENOMINATOR[node.op] :]))
    )


def _limited(x: Any) -> bool:
    """Return whether a value is a number, or never above 0 by its form, so that its exponential cannot overflow."""
    if matching(x, "negative"):
        (inner,) = x.args
        return inner.op in ("abs", "square") or (inner.op == "multiply" and inner.args[0] is inner.args[1])
    return matching(x, "minimum") and any(not isinstance(arg, Node) and arg <= 80.0 for arg in x.args)
