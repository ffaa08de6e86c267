"""Gradient: the chain rule backwards over a graph, into the same graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from framework.graph.loop import reverse_loop
from framework.graph.node import Node, dependents, matching, nodes_in, ordered
from framework.graph.operations import OPERATIONS, unbroadcast
from framework.graph.region import region_of
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.tangent import slope
from framework.trees import leaves

_PASSING = frozenset({"add", "subtract", "negative", "positive", "where", "maximum", "minimum", "fmax", "fmin"})
"""Operations whose rules pass a gradient on unchanged, or choose where it goes."""


def gradients(
    seeds: Iterable[tuple[Node, Node | float]],
    wrt: Sequence[Node],
    given: Collection[Node] = (),
    ends: Collection[Node] = (),
) -> list[Node]:
    """Return the gradients of sum(g * output), summed over the pairs (output, g), as nodes of the shapes of ``wrt``.

    An elementwise region of one variable is derived forwards, as a whole. Both sides of a kink, and factors that
    overflow, are known only then. A call of an activation uses the derivative that its class writes, if any.

    Args:
        seeds: Pairs of an output and its gradient: a node of its shape, or a number.
        wrt: The nodes to derive by.
        given: Nodes that count as inputs: the derivation stops there.
        ends: Nodes that no elementwise region goes beyond, such as the outputs of layers.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> traced = trace(lambda x, w: x @ w, {"x": (ROWS, 3), "w": (3, 2)})
        >>> g = traced.graph.input("g", traced.output.shape)
        >>> gradients([(traced.output, g)], list(traced.inputs.values()))
        [matmul(v3, v4)(10007, 3), matmul(v6, v3)(3, 2)]

    Source:
        Griewank and Walther, Evaluating derivatives (2008), chapter 3.
    """
    return _Reverse([(output, g) for output, g in seeds if isinstance(output, Node)], wrt, given, ends).result()


class _Reverse:
    """One backward pass: an adjoint for each node that depends on some of ``wrt``."""

    def __init__(
        self,
        seeds: list[tuple[Node, Node | float]],
        wrt: Sequence[Node],
        given: Collection[Node],
        ends: Collection[Node],
    ) -> None:
        self.wrt, self.given = wrt, given
        self.graph = wrt[0].graph
        self.graph.simplifies = self.graph.reorders = True
        self.order = ordered((output for output, _ in seeds), given)
        self.reached = dependents(self.order, wrt, given)
        self.consumers: dict[Node, list[Node]] = {node: [] for node in self.order}
        for node in self.order:
            for arg in nodes_in(node.args) if node not in given else ():
                self.consumers[arg].append(node)
        self.calls = {node: call for node, call in self.graph.calls.items() if call.pullback is not None}
        self.ends = {output for output, _ in seeds} | {*self.calls, *ends}
        self.adjoints: dict[Node, Any] = {}
        self.parts: dict[Node, dict[int, Node]] = {}  # the gradients of the parts of a loop
        for output, g in seeds:
            self._give(output, Symbol(self.graph.add("broadcast_to", g, shape=output.shape)) if output.shape else g)

    def _give(self, node: Any, part: Any) -> None:
        """Add to the adjoint of a node."""
        if part is None or node not in self.reached or node.kind != "f":
            return
        before = self.adjoints.get(node)
        self.adjoints[node] = part if before is None else before + part

    def result(self) -> list[Node]:
        for node in reversed(self.order):
            if node.op == "loop" and node in self.parts:
                found = reverse_loop(node, self.parts[node], gradients)
                for arg, part in zip(node.args, found, strict=True):
                    self._give(arg, symbol_of(part))
            elif node.op == "call" and node in self.parts:
                self._call_back(node, self.parts[node])
            elif node in self.adjoints and node in self.reached and node.args and node not in self.given:
                self._back(node, self.adjoints[node])
        return [self._gradient(node) for node in self.wrt]

    def _call_back(self, call: Node, given: dict[int, Node]) -> None:
        """Let Python carry the gradients of the outputs of a call back to its arguments."""
        graph, rows = call.graph, call.args[0].shape[0]
        shapes = enumerate(leaves(call.attributes["called"].outputs), 1)
        parts = [given[place] if place in given else graph.filled(0.0, (rows, *shape)) for place, shape in shapes]
        back = graph.made("call_back", (call, *parts), call.attributes, ())
        for place, arg in enumerate(call.args):
            self._give(arg, Symbol(graph.made("part", (back,), {"index": place}, arg.shape)))

    def _gradient(self, node: Node) -> Any:
        """Return the gradient of one of ``wrt`` as a node of its shape."""
        g = value_of(self.adjoints.get(node, 0.0))
        if not isinstance(g, Node):
            return self.graph.filled(g, node.shape)
        return self.graph.add("broadcast_to", g, shape=node.shape)

    def _back(self, node: Node, g: Any) -> None:
        """Propagate the adjoint of a node to its arguments."""
        if not isinstance(g, Symbol) or g.shape != node.shape:
            g = Symbol(node.graph.filled(value_of(g), node.shape))
        call = self.calls.get(node)
        if call is not None and call.pullback is not None:
            self._give(call.argument, call.pullback(g, Symbol(call.argument), Symbol(node)))
            return
        if node.op == "part":
            self.parts.setdefault(node.args[0], {})[node.attributes["index"]] = g.node
            return
        row = OPERATIONS[node.op]
        args = [symbol_of(arg) for arg in node.args]
        if not row.elementwise:
            if row.reverse is not None:
                parts = row.reverse(g, Symbol(node), *args, **node.attributes)
                for arg, part in zip(node.args, parts, strict=True):
                    self._give(arg, part)
            return
        region = region_of(node, self.reached, self.consumers, self.ends | {*self.given})
        if region is not None:
            self._give(region.variable, g * symbol_of(slope(region)))
            return
        for arg, rule in zip(node.args, row.rules, strict=True):
            if isinstance(arg, Node) and arg in self.reached and rule is not None:
                self._give(arg, unbroadcast(_pushed(node, rule, g, args), arg.shape))


def _pushed(node: Node, rule: Any, g: Any, args: list[Any]) -> Any:
    """Apply the rule of one argument. In where(c, t, 0) the choice stays outermost, so that 0 * inf never occurs."""
    y = Symbol(node)
    chosen = g.node
    if node.op not in _PASSING and matching(chosen, "where") and chosen.args[2] == 0 and chosen.args[0] is not None:
        condition, inner = (symbol_of(arg) for arg in chosen.args[:2])
        if isinstance(inner, Symbol) and inner.shape == node.shape:
            return np.where(condition, rule(inner, y, *args), 0.0)
    found = rule(g, y, *args)
    return found if isinstance(found, Symbol) else Symbol(node.graph.filled(found, node.shape))
