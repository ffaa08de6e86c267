"""Hoisting: matrix products move out of a loop and become one product over all steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from framework.graph.graph import Graph, rewrite_node
from framework.graph.loop import Body, looped, node_of, part
from framework.graph.node import Node, dependents, matching, ordered


def hoisted(new: Graph, node: Node, known: dict[Node, Any], rule: Callable[..., Any]) -> list[Any]:
    """Write a loop into a new graph, and return its results there.

    The product of an entry, or of a result of each step, with a matrix that is the same in every step becomes one
    product of the whole sequence. The sum over the steps of a' b, as in the gradient of a matrix, becomes one product
    of the stacked a and b.

    Args:
        new: The graph to write into.
        node: The loop.
        known: The new node of each old one.
        rule: The rule that rewrites each node of the body.
    """
    return _Hoisted(new, node, known, rule).results()


class _Hoisted:
    """A loop in the new graph, from which products move out."""

    def __init__(self, new: Graph, node: Node, known: dict[Node, Any], rule: Callable[..., Any]) -> None:
        self.new, self.node, self.body = new, node, node.attributes["body"]
        args = [node_of(new, known[arg], arg) for arg in node.args]
        count = len(self.body.states)
        self.firsts, self.sequences = args[:count], args[count : count + len(self.body.entries)]
        self.inner: dict[Node, Any] = {outside: known[outside] for outside in self.body.captured}
        self.states = [self._input(state) for state in self.body.states]
        self.entries = [self._input(entry) for entry in self.body.entries]
        for inner in self.body.order():
            if not self._made_before(inner):
                rewrite_node(new, inner, self.inner, rule)
        self.outputs = [node_of(new, self.inner[output], output) for output in self.body.outputs]
        moving = {*self.states, *self.entries}
        self.inside = dependents(ordered(self.outputs, moving), moving)  # what changes from step to step
        self.stacks: list[Node] = []

    def _input(self, node: Node) -> Node:
        made = self.inner[node] = self.new.input(f"step_{len(self.new.nodes)}", node.shape, node.kind)
        return made

    def _made_before(self, product: Node) -> bool:
        """Compute a node before the loop, and return True, if it is the product of an entry and a matrix."""
        if product.op != "matmul":
            return False
        entry, matrix = product.args
        if entry not in self.body.entries or matrix not in self.body.captured:
            return False
        sequence = self.sequences[self.body.entries.index(entry)]
        if sequence.ndim != 3 or matrix.ndim != 2:
            return False
        self.sequences.append(self._product(sequence, self.inner[matrix]))
        self.entries.append(self._input(product))
        return True

    def results(self) -> list[Any]:
        """Return the new value of each output of the loop."""
        count, stacked = len(self.states), len(self.states) + self.body.stacked
        after = [
            self._stacked_after(output) if place < stacked else self._summed_after(output)
            for place, output in enumerate(self.outputs[count:], count)
        ]
        sums = [output for output, made in zip(self.outputs[count:], after, strict=True) if made is None]
        outputs = [*self.outputs[:count], *self.stacks, *sums]
        used = set(ordered(outputs))
        pairs = [pair for pair in zip(self.entries, self.sequences, strict=True) if pair[0] in used]
        body = Body(self.states, [entry for entry, _ in pairs], outputs, len(self.stacks))
        moving = [*self.firsts, *(sequence for _, sequence in pairs)]
        self.loop = looped(
            self.new, body, moving, self.node.attributes["steps"], reverse=self.node.attributes["reverse"]
        )
        kept = iter(range(count + len(self.stacks), len(outputs)))
        return [
            *(part(self.loop, place) for place in range(count)),
            *(part(self.loop, next(kept)) if made is None else made() for made in after),
        ]

    def _stacked_after(self, output: Node) -> Callable[[], Any]:
        """Return a function that computes a stacked output after the loop."""
        if matching(output, "matmul") and output.args[0] in self.inside and output.args[1] not in self.inside:
            a, b = output.args
            if a.ndim == 2:
                self._stack(a)
                return lambda: self._product(self._stack_of(a), b)
        self._stack(output)
        return lambda: self._stack_of(output)

    def _summed_after(self, output: Node) -> Callable[[], Any] | None:
        """Return a function that computes a sum over the steps after the loop, or None."""
        base = output.args[0] if output.op == "reshape" else output
        if matching(base, "matmul") and matching(base.args[0], "transpose") and base.ndim <= 2:
            a, b = base.args[0].args[0], base.args[1]
            if a in self.inside and b in self.inside:
                self._stack(a)
                self._stack(b)
                return lambda: self._reshaped("matmul", self._flat(a, turned=True), self._flat(b), shape=output.shape)
        if matching(base, "sum") and base.attributes["axes"] == (0,) and base.args[0].ndim == 2:
            a = base.args[0]
            self._stack(a)
            return lambda: self._reshaped("sum", self._flat(a), shape=output.shape, axes=(0,), keepdims=True)
        return None

    def _stack(self, value: Node) -> None:
        if value not in self.entries and value not in self.stacks:
            self.stacks.append(value)

    def _stack_of(self, value: Node) -> Any:
        """Return the values of all steps."""
        if value in self.entries:
            return self.sequences[self.entries.index(value)]
        return part(self.loop, len(self.states) + self.stacks.index(value))

    def _flat(self, value: Node, *, turned: bool = False) -> Any:
        """Return the values of all steps as one matrix, the steps below each other."""
        stack = self._stack_of(value)
        flat = self.new.add("reshape", stack, shape=(math.prod(stack.shape[:2]), *stack.shape[2:]))
        return self.new.add("transpose", flat, axes=(1, 0)) if turned else flat

    def _product(self, sequence: Node, matrix: Node) -> Any:
        flat = self.new.add("reshape", sequence, shape=(math.prod(sequence.shape[:-1]), sequence.shape[-1]))
        return self._reshaped("matmul", flat, matrix, shape=(*sequence.shape[:-1], matrix.shape[-1]))

    def _reshaped(self, op: str, *args: Any, shape: tuple[int, ...], **attributes: Any) -> Any:
        return self.new.add("reshape", self.new.add(op, *args, **attributes), shape=shape)
