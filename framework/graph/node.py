"""Node: an operation on arrays, as an immutable record with its shape.

The size of most leading axes is the number of rows, which is not fixed. A prime stands in for it, because ``len(x)``
must be a plain int; a size that the prime divides is a multiple of the number of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from framework.graph.graph import Graph


class Node:
    """An operation on nodes and plain numbers; the graph makes each one once.

    Attributes:
        graph: Where the node belongs.
        op: A key of ``OPERATIONS``.
        args: Nodes and plain numbers.
        attributes: Further parameters of the operation, such as axes.
        shape: The shape of the result.
        kind: "f", "i" or "b": floats, integers or booleans.
        place: Its position in the order of computation.
    """

    __slots__ = ("args", "attributes", "graph", "kind", "op", "place", "shape")
    __match_args__ = ("op", "args")

    def __init__(
        self,
        graph: Graph,
        op: str,
        args: tuple[Any, ...],
        attributes: dict[str, Any],
        shape: tuple[int, ...],
        kind: str,
    ) -> None:
        """Make a node; only its graph does."""
        self.graph, self.op, self.args, self.attributes = graph, op, args, attributes
        self.shape, self.kind, self.place = shape, kind, len(graph.nodes)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """The name of an input."""
        return str(self.attributes["name"])

    @property
    def fill(self) -> Any:
        """The value of every element, for a node that broadcasts one number; else None."""
        return self.args[0] if self.op == "broadcast_to" and not isinstance(self.args[0], Node) else None

    def __repr__(self) -> str:
        """Show the operation, its arguments and its shape."""
        args = (f"v{arg.place}" if isinstance(arg, Node) else repr(arg) for arg in self.args)
        return f"{self.attributes.get('name', self.op)}({', '.join(args)}){self.shape}"


class Constant:
    """An array in a formula: equal to another one with the same numbers."""

    __slots__ = ("_key", "value")

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        """Hold the array."""
        self.value = value
        self._key = (value.dtype.str, value.shape, value.tobytes())

    def __eq__(self, other: object) -> bool:
        """Compare the numbers."""
        return isinstance(other, Constant) and self._key == other._key

    def __hash__(self) -> int:
        """Hash the numbers."""
        return hash(self._key)


def common_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that NumPy broadcasts these to; of shapes that are alike, in a fraction of its time."""
    if len(shapes) == 1:
        return shapes[0]
    longest = max(shapes, key=len, default=())
    if len({*shapes, longest, ()}) <= 2:
        return longest
    return np.broadcast_shapes(*shapes)


def nodes_in(values: Iterable[Any]) -> list[Node]:
    """Return the nodes among nodes and plain numbers."""
    return [value for value in values if type(value) is Node]


def operands(node: Node) -> list[Any]:
    """Return the arguments, with a number in place of an array filled with it, where NumPy broadcasts it."""
    values = list(node.args)
    for index, value in enumerate(values):
        rest = [other.shape for n, other in enumerate(values) if n != index and isinstance(other, Node)]
        if isinstance(value, Node) and value.fill is not None and rest:
            values[index] = value.fill if common_shape(*rest) == node.shape else value
    return values


def ancestors(outputs: Iterable[Any], inputs: Collection[Node] = ()) -> set[Node]:
    """Return the nodes that these are computed from, themselves included; stop at ``inputs``."""
    nodes: set[Node] = set()
    waiting = nodes_in(outputs)
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            if node not in inputs:
                waiting += [arg for arg in node.args if type(arg) is Node]
    return nodes


def order_nodes(outputs: Iterable[Any], inputs: Collection[Node] = ()) -> list[Node]:
    """Return ``ancestors`` in the order of computation."""
    return sorted(ancestors(outputs, inputs), key=lambda node: node.place)


def dependents(order: Iterable[Node], sources: Collection[Node], inputs: Collection[Node] = ()) -> set[Node]:
    """Return the nodes of an order of computation that depend on ``sources``, themselves included.

    Args:
        order: The nodes, in the order of computation.
        sources: The nodes to depend on.
        inputs: Nodes that depend on nothing.
    """
    reached = set(sources)
    for node in order:
        if node not in inputs and any(arg in reached for arg in nodes_in(node.args)):
            reached.add(node)
    return reached


def matching(node: Any, op: str) -> bool:
    """Return whether a value is a node of this operation."""
    return type(node) is Node and node.op == op
