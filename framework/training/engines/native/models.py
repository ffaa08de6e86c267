"""The graph of a step of several models: one more axis, the last one, on all that differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from framework.graph.graph import Graph, rewrite_node
from framework.graph.loop import Body, add_loop, node_of
from framework.graph.node import Node, nodes_in, order_nodes
from framework.training.engines.native.products import letters_of
from framework.training.engines.native.rewrite import JOINS, PRODUCTS, REDUCE, is_elementwise
from framework.training.engines.records import CannotLower


def for_models(outputs: Iterable[Any], own: Iterable[Node], count: int) -> tuple[list[Any], dict[Node, Any]]:
    """Return the outputs of several models in a new graph, each with the axis of the models, and what old nodes became.

    An operation that reads none of ``own`` is computed once for all models. The elements of the models are neighbours
    in memory, so that each model is in a lane of a vector.

    Args:
        outputs: Nodes and plain numbers of one graph, which ``prepare`` has rewritten.
        own: The inputs that each model has of its own.
        count: The number of models.

    Raises:
        CannotLower: An operation has no form with this axis.
    """
    outputs, own = list(outputs), set(own)
    axis = _Axis(nodes_in(outputs)[0].graph, count)
    for node in order_nodes(nodes_in(outputs)):
        axis.add(node, own=node in own)
    return [axis.widen(output) for output in outputs], axis.known


class _Axis:
    """Adds the axis of the models to a graph.

    Attributes:
        known: What the nodes became.
    """

    def __init__(self, old: Graph, count: int) -> None:
        self.known: dict[Node, Any] = {}
        self._new, self._count = Graph(old.dtype, old.rows), count
        self._new.simplifies = True
        self._wide: set[Node] = set()  # the old nodes whose new ones have the axis

    def add(self, node: Node, *, own: bool) -> None:
        """Add a node to the new graph."""
        wide = own or not self._wide.isdisjoint(nodes_in(node.args))
        if wide:
            self._wide.add(node)
            self.known[node] = self._widely(node)
        else:
            rewrite_node(self._new, node, self.known, lambda *_: None)

    def widen(self, output: Any) -> Any:
        """Return what a node became, with the axis of the models."""
        if not isinstance(output, Node) or output in self._wide:
            return self._of(output)
        return self._new.add("broadcast_to", self._beside(output), shape=(*output.shape, self._count))

    def _widely(self, node: Node) -> Any:
        """Return the node of an operation for all models."""
        shape = (*node.shape, self._count)
        if node.op == "input":
            return self._new.input(node.name, shape, node.kind)
        if is_elementwise(node):
            return self._new.intern_node(
                node.op, tuple(map(self._beside, node.args)), node.attributes, shape, node.kind
            )
        if node.op in PRODUCTS:
            return self._product(node)
        if node.op == "loop":
            return self._loop(node)
        if node.op in JOINS:
            args = tuple(map(self.widen, node.args))
            return self._new.intern_node(node.op, args, self._attributes(node), shape, node.kind)
        own_indices = any(arg in self._wide for arg in nodes_in(node.args[1:]))
        if own_indices and _is_element_lookup(node):
            return self._look_up(node, shape)
        if node.op not in _ATTRIBUTES or own_indices:
            raise CannotLower(f"np.{node.op} has no form for several models at once", node.op)
        args = (self.known[node.args[0]], *map(self._of, node.args[1:]))
        return self._new.intern_node(node.op, args, self._attributes(node), shape, node.kind)

    def _look_up(self, node: Node, shape: tuple[int, ...]) -> Any:
        """Return a look-up of single elements, or its reverse, by indices that each model has of its own."""
        indices = *map(self._beside, node.args[1:]), self._new.constant(np.arange(self._count))
        attributes = self._attributes(node) | {"axes": (*node.attributes["axes"], len(node.attributes["axes"]))}
        return self._new.intern_node(node.op, (self.widen(node.args[0]), *indices), attributes, shape, node.kind)

    def _attributes(self, node: Node) -> dict[str, Any]:
        rules = _ATTRIBUTES.get(node.op, {})
        return {
            name: rules[name](value, node.ndim, self._count) if name in rules else value
            for name, value in node.attributes.items()
        }

    def _of(self, arg: Any) -> Any:
        return self.known[arg] if isinstance(arg, Node) else arg

    def _beside(self, arg: Any) -> Any:
        """Return what an argument became; an array that all models share gets an axis of 1."""
        made = self._of(arg)
        if arg in self._wide or not isinstance(made, Node) or not made.shape:
            return made
        return self._new.add("reshape", made, shape=(*made.shape, 1))

    def _loop(self, node: Node) -> Any:
        """Return a loop whose states and results are those of all models."""
        body: Body = node.attributes["body"]
        moving = [self.widen(state) for state in node.args[: len(body.states)]]
        self._wide.update(body.states)
        for entry, whole in zip(body.entries, node.args[len(moving) :], strict=False):
            moving.append(node_of(self._new, self.known[whole], whole))
            if whole in self._wide:
                self._wide.add(entry)
        inputs = [self._step_input(state) for state in (*body.states, *body.entries)]
        for inner in body.order():
            self.add(inner, own=False)
        count = len(body.states)
        widened = Body(inputs[:count], inputs[count:], [*map(self.widen, body.outputs)], body.stacked)
        return add_loop(self._new, widened, moving, node.attributes["steps"], reverse=node.attributes["reverse"])

    def _step_input(self, old: Node) -> Node:
        """Return the node for a state before a step, or for an entry of a sequence."""
        shape = (*old.shape, self._count) if old in self._wide else old.shape
        self.known[old] = made = self._new.input(f"step_{len(self._new.nodes)}", shape, old.kind)
        return made

    def _product(self, node: Node) -> Any:
        *factors, result = letters_of(node)
        axis = next(letter for letter in _LETTERS if letter not in "".join((*factors, result)))
        terms = [letters + axis * (arg in self._wide) for letters, arg in zip(factors, node.args, strict=True)]
        subscripts = f"{','.join(terms)}->{result}{axis}"
        return self._new.add("einsum", *map(self._of, node.args), subscripts=subscripts)


def _is_element_lookup(node: Node) -> bool:
    """Return whether an operation looks single elements up, or adds to them, by an index for each axis."""
    if node.op not in ("gather", "scatter_add"):
        return False
    shape = node.args[0].shape if node.op == "gather" else node.attributes["shape"]
    return len(node.attributes["axes"]) == len(shape)


_LETTERS = "zyxwvutsrqponmlkjihgfedcba"

_Rule = Callable[[Any, int, int], Any]


def _sizes(sizes: tuple[int, ...], _ndim: int, count: int) -> tuple[int, ...]:
    return (*sizes, count)


def _whole(index: tuple[Any, ...], _ndim: int, _count: int) -> tuple[Any, ...]:
    return (*index, None)


_ATTRIBUTES: dict[str, dict[str, _Rule]] = {
    **{op: {} for op in (*REDUCE, "cumsum", "concatenate", "gather", "part")},
    "transpose": {"axes": lambda axes, ndim, _count: (*axes, ndim)},
    "reshape": {"shape": _sizes},
    "broadcast_to": {"shape": _sizes},
    "index": {"index": _whole},
    "set_index": {"index": _whole},
    "pad": {"width": lambda width, _ndim, _count: (*width, (0, 0))},
    "place": {"shape": _sizes, "indices": lambda indices, _ndim, _count: tuple((*index, None) for index in indices)},
    "scatter_add": {"shape": _sizes},
}
"""The rules for attributes, by operation; attributes without one count axes and elements from the front."""
