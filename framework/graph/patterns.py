"""Patterns: pairs of formulas, of which the second one may take the place of the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from inspect import signature
from typing import Any

from framework.graph.graph import Graph
from framework.graph.node import Node, matching, nodes_in
from framework.graph.symbol import symbol_of, value_of

Fact = Callable[..., tuple[Any, Any]]
"""A pair of formulas of arrays x and y and numbers c and s, of which s is positive."""

_TWO_WAYS = frozenset({"add", "multiply", "maximum", "minimum", "logaddexp"})


class Patterns:
    """Facts by the operation of their first formula.

    Example:
        >>> import numpy as np
        >>> graph = Graph()
        >>> h = graph.input("h", (3,))
        >>> facts = Patterns([lambda x: (np.exp(x) - 1.0, np.expm1(x))])
        >>> facts.replace(graph.add("subtract", graph.add("exp", h), 1.0), graph.add)
        expm1(v0)(3,)
    """

    def __init__(self, facts: Iterable[Fact], holds: Callable[[Node], bool] = lambda _node: True) -> None:
        """Keep the facts; ``holds`` says of an operation in a formula whether the first one may stand for it."""
        self._facts, self._holds = facts, holds

    @cached_property
    def pairs(self) -> dict[str, list[tuple[Node, Any, frozenset[str]]]]:
        """The facts as pairs of nodes or numbers, with the operations that the arguments of the first one need."""
        pairs: dict[str, list[tuple[Node, Any, frozenset[str]]]] = {}
        for fact in self._facts:
            graph = Graph()
            graph.simplifies = True
            variables = [graph.input(name, () if name in "cs" else (2, 3)) for name in signature(fact).parameters]
            left, right = map(value_of, fact(*map(symbol_of, variables)))
            needs = frozenset(arg.op for arg in nodes_in(left.args) if arg.op != "input")
            pairs.setdefault(left.op, []).append((left, right, needs))
        return pairs

    def candidates(self, op: str, args: Iterable[Any]) -> list[tuple[Node, Any]]:
        """Return the pairs whose first formula an operation on these arguments may have, by their operations."""
        known = {arg.op for arg in args if isinstance(arg, Node)}
        return [(left, right) for left, right, needs in self.pairs.get(op, ()) if needs <= known]

    def replace(self, written: Node, make: Callable[..., Any]) -> Any:
        """Return what takes the place of an operation, made by ``make(op, *args, **attributes)``; None for itself."""
        for left, right in self.candidates(written.op, written.args):
            variables: dict[str, Any] = {}
            if self._fits(left, written, variables):
                return _instance(right, variables, make)
        return None

    def _fits(self, pattern: Any, value: Any, variables: dict[str, Any]) -> bool:
        """Return whether a value has the form of a pattern, and add what its variables stand for."""
        if isinstance(pattern, Node) and pattern.op != "input":
            same = matching(value, pattern.op) and pattern.attributes in ({}, value.attributes)
            if not same or not self._holds(value):
                return False
            for order in (1, -1) if pattern.op in _TWO_WAYS else (1,):
                tried = dict(variables)
                args = zip(pattern.args, value.args[::order], strict=True)
                if all(self._fits(inner, arg, tried) for inner, arg in args):
                    variables |= tried
                    return True
            return False
        known = variables.setdefault(pattern.name, value) if isinstance(pattern, Node) else pattern
        if isinstance(value, Node):
            return known is value and pattern.name in "xy"
        same = not isinstance(known, Node) and bool(known == value)
        return same and (known is pattern or pattern.name != "s" or value > 0)


def _instance(pattern: Any, variables: dict[str, Any], make: Callable[..., Any]) -> Any:
    """Return a pattern with what its variables stand for."""
    if not isinstance(pattern, Node):
        return pattern
    if pattern.op == "input":
        return variables[pattern.name]
    return make(pattern.op, *(_instance(arg, variables, make) for arg in pattern.args), **pattern.attributes)
