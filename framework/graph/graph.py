"""Graph: nodes in the order of computation. The same operation on the same arguments is one node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from framework.base.errors import ShapeError
from framework.base.special import erf, erfc
from framework.graph.node import Constant, Node, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.refuse import NO_RULE, line_at_fault, refuse
from framework.graph.simplify import SIMPLER

STAND_IN = 10007
"""The prime that stands for the number of rows."""

KINDS = {"f": "f", "i": "i", "u": "i", "b": "b"}
_SPECIAL = {"erf": erf, "erfc": erfc}  # the functions that NumPy does not have
_PROMOTED_FROM = {"where": slice(1, None), "gather": slice(1), "set_index": slice(2), "scatter_add": slice(1)}
"""The arguments that determine the kind of the result, where not all do."""

_OF_NOTHING = {"sum": 0, "prod": 1, "any": 0, "all": 1, "matmul": 0, "einsum": 0, "mean": math.nan, "var": math.nan}
"""The results of operations on arrays without elements; of the other reductions these are errors."""


class Key(tuple[Any, ...]):
    """A key of a graph. It computes its hash once."""

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        """Return the hash of the tuple."""
        return self._hash


@dataclass(frozen=True)
class Call:
    """A call of an activation in a formula.

    Attributes:
        activation: What is called.
        argument: The node that it is called with.
        pullback: (gradient, h, a) -> the gradient by h, written by hand; None where it is derived.
    """

    activation: Any
    argument: Node
    pullback: Callable[[Any, Any, Any], Any] | None


class Graph:
    """Nodes in an order of computation.

    Attributes:
        dtype: The dtype of floats, "float64" or "float32".
        rows: The stand-in for the number of rows.
        nodes: Every node, in the order of computation.
        ops: Their operations.
        simplifies: Whether a new operation is replaced by a simpler one that computes the same.
        reorders: Whether it may also be replaced by one that differs in the last bits; in gradients alone.
        lowered: Whether ``lower`` made it, so that NumPy computes every operation fast.
        rules: By operation, what may put a stable form in its place; see ``stable``.
        calls: The activations that the formula calls, by their results.
        written: Those whose classes write a derivative.
        distributions: Nodes whose last axis is known to sum to 1.
        loops: How many loops the formula has begun.
    """

    def __init__(self, dtype: str = "float64", rows: int = STAND_IN) -> None:
        """Start empty."""
        self.dtype, self.rows = dtype, rows
        self.nodes: list[Node] = []
        self.ops: set[str] = set()
        self.simplifies = self.reorders = self.lowered = False
        self.rules: Mapping[str, Callable[..., Any]] = {}
        self.calls: dict[Node, Call] = {}
        self.written: list[Any] = []
        self.distributions: set[Node] = set()
        self.loops = 0
        self._known: dict[tuple[Any, ...], Node] = {}
        self._recorded: dict[tuple[Any, ...], Node] = {}
        self._key = Key()

    def begin_trace(self) -> int:
        """Forget the calls of the last trace; return the number of its nodes, to which an equal formula adds none.

        Nothing else may have been added since.
        """
        self.calls, self.written, self.loops = {}, [], 0
        return len(self.nodes)

    @contextmanager
    def simplifying(
        self, rules: Mapping[str, Callable[..., Any]] | None = None, *, reorders: bool = False
    ) -> Iterator[None]:
        """Simplify new operations in this block, by ``rules`` if they are not None; see the attributes."""
        before = self.rules, self.simplifies, self.reorders
        self.rules, self.simplifies, self.reorders = self.rules if rules is None else rules, True, reorders
        try:
            yield
        finally:
            self.rules, self.simplifies, self.reorders = before

    def rows_in(self, size: int) -> int:
        """Return how many times the number of rows a size is; 0 for a plain size."""
        return size // self.rows if size and size % self.rows == 0 else 0

    def input(self, name: str, shape: tuple[int, ...], kind: str = "f") -> Node:
        """Add an input."""
        return self.intern_node("input", (), {"name": name}, tuple(shape), kind)

    def add(self, op: str, *args: Any, **attributes: Any) -> Any:
        """Return the node of an operation, or the node or number that it simplifies to.

        Raises:
            DerivativeError: An argument is not a number, a node or an array, or the operation has no row in the table.
            ShapeError: The arguments' shapes do not fit.
        """
        args = tuple([arg if type(arg) is Node else self.lift(arg) for arg in args])
        key: tuple[Any, ...] | None = None
        if not (self.simplifies or self.rules):
            key = op, *_comparison_key(args), *attributes.items()
            if (known := self._recorded.get(key)) is not None:
                return known
        row = OPERATIONS.get(op)
        if row is None:
            refuse(f"np.{op}", *NO_RULE)
        if row.elementwise and Node not in map(type, args):
            return self._number(op, args, attributes)
        if op in self.rules and (form := self.rules[op](*args, **attributes)) is not None:
            return form
        if self.simplifies and op in SIMPLER and (form := SIMPLER[op](self, *args, **attributes)) is not None:
            return form
        try:
            shape = row.shape(self, *[arg.shape if type(arg) is Node else () for arg in args], **attributes)
        except ShapeError as error:
            error.problem += line_at_fault()
            raise
        kind = row.kind or self._promote_kind(op, args, attributes)
        if 0 in (_sizes(args) if op in _OF_NOTHING else shape):
            return self.of_nothing(op, shape, kind)
        made = self.intern_node(op, args, attributes, tuple(map(int, shape)), kind)
        if key is not None:
            self._recorded[key] = made
        return made

    def of_nothing(self, op: str, shape: tuple[int, ...], kind: str) -> Any:
        """Return what an operation makes of no elements: no target has to compute it."""
        number = _OF_NOTHING.get(op, 0)
        value = float(number) if kind == "f" else int(number) if kind == "i" else bool(number)
        return self.broadcast(value, shape, kind) if shape else value

    def _number(self, op: str, args: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        """Return what an operation makes of plain numbers."""
        lowered = OPERATIONS[op].lowered
        with np.errstate(all="ignore"):
            if lowered is not None:
                return float(lowered(*map(np.dtype(self.dtype).type, args), **attributes))
            return np.asarray((_SPECIAL.get(op) or getattr(np, op))(*args)).item()

    def _promote_kind(self, op: str, args: tuple[Any, ...], attributes: dict[str, Any]) -> str:
        if op == "astype":
            return str(attributes["to"])
        kinds = {*map(kind_of, args[_PROMOTED_FROM[op]] if op in _PROMOTED_FROM else args)}
        return "f" if "f" in kinds or not kinds else "i" if "i" in kinds else "b"

    def copy_of(self, node: Node) -> Node:
        """Return a node without arguments, such as an input, in this graph."""
        return self.intern_node(node.op, (), node.attributes, node.shape, node.kind)

    def intern_node(
        self, op: str, args: tuple[Any, ...], attributes: dict[str, Any], shape: tuple[int, ...], kind: str = "f"
    ) -> Node:
        """Return the node of an operation whose shape is known."""
        further = attributes.items() if op != "loop" else (attributes["body"].places, *[*attributes.items()][1:])
        key = (op, kind, shape, *_comparison_key(args), *further)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Node(self, op, args, attributes, shape, kind)
            self.nodes.append(known)
            self.ops.add(op)
        return known

    def find(self, op: str, args: tuple[Any, ...], **attributes: Any) -> Node | None:
        """Return the node of an operation on nodes that is known already, or None."""
        shape = OPERATIONS[op].shape(self, *(arg.shape for arg in args), **attributes)
        key = (op, args[0].kind, tuple(map(int, shape)), *(arg.place for arg in args), *attributes.items())
        return self._known.get(key)

    def key_of(self, outputs: Iterable[Any]) -> Key:
        """Return a key of the graph as it is now: equal graphs with equal outputs have equal ones."""
        places = tuple(output.place if isinstance(output, Node) else (type(output), repr(output)) for output in outputs)
        if self._key[3:] != (len(self.nodes), places):
            self._key = Key((self.dtype, self.rows, tuple(self._known), len(self.nodes), places))
        return self._key

    def broadcast(self, value: Any, shape: tuple[int, ...], kind: str = "f") -> Node:
        """Return a number or a node, broadcast to a shape."""
        return self.intern_node("broadcast_to", (value,), {"shape": shape}, shape, kind)

    def lift(self, value: Any) -> Any:
        """Return a value as a node or a plain number."""
        if type(value) is float or isinstance(value, Node):
            return value
        value = np.asarray(value) if isinstance(value, list | tuple) else value
        if isinstance(value, np.ndarray) and value.ndim:
            return self.constant(value)
        if isinstance(value, np.generic | np.ndarray):
            value = value.item()
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            times = self.rows_in(int(value))
            return self.intern_node("rows", (), {"times": times}, (), "f") if times else int(value)
        if isinstance(value, float):
            return float(value)
        refuse(f"a setting or constant of type {type(value).__name__}", "use plain numbers as settings")
        return None

    def constant(self, value: np.ndarray[Any, Any]) -> Node:
        """Return the node of an array in the formula, which must not hold a different number for each row.

        Raises:
            DerivativeError: It does, or its elements are not real numbers.
        """
        if value.dtype.kind not in KINDS:
            refuse(f"an array of dtype {value.dtype}", "use real numbers")
        kind, shape = KINDS[value.dtype.kind], value.shape
        open_axes = [axis for axis, size in enumerate(shape) if self.rows_in(size)]
        if value.size and _repeats(value, value.flat[0]):
            return self.broadcast(value.flat[0].item(), shape, kind)
        if open_axes:
            if value.ndim == 1 and kind == "i" and np.array_equal(value, np.arange(len(value))):
                attributes = {"shape": shape, "times": self.rows_in(shape[0])}
                return self.intern_node("row_numbers", (), attributes, shape, "i")
            if open_axes == [0] and _repeats(value, value[:1]):
                return self.broadcast(self.constant(value[0]), shape, kind)
            advice = "a formula must work for any number of rows; declare random numbers in draws(shape) of a Layer"
            refuse("an array with a different number for each row", advice)
        return self.intern_node("constant", (), {"value": Constant(value), "shape": shape}, shape, kind)

    def size_text(self, size: int) -> str:
        """Return a size as text, ``rows`` for the number of rows."""
        times = self.rows_in(size)
        return str(size) if not times else "rows" if times == 1 else f"{self.size_text(times)} * rows"

    def shape_text(self, shape: Iterable[int]) -> str:
        """Return a shape as text."""
        sizes = [self.size_text(size) for size in shape]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _sizes(args: Iterable[Any]) -> list[int]:
    return [size for arg in args if type(arg) is Node for size in arg.shape]


def _comparison_key(args: Iterable[Any]) -> list[Any]:
    """Return arguments as they are compared: nodes by their places, numbers by type and text."""
    return [arg.place if type(arg) is Node else (type(arg), repr(arg)) for arg in args]


def _repeats(value: np.ndarray[Any, Any], number: Any) -> bool:
    """Return whether an array holds one number, or one row, again and again; 0.0 and -0.0 are two numbers."""
    return bool(((value == number) & (np.signbit(value) == np.signbit(number))).all())


def kind_of(value: Any) -> str:
    """Return the kind of a node or a plain number."""
    if type(value) is Node:
        return value.kind
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"


def rewrite(outputs: Iterable[Any], rule: Callable[[Graph, Node, tuple[Any, ...]], Any]) -> list[Any]:
    """Return the outputs in a new graph, with each node rewritten by a rule. Every transformation of a graph uses this.

    Args:
        outputs: Nodes and plain numbers of one graph.
        rule: (new graph, node, new arguments) -> what the node becomes there; None for the same operation.

    Example:
        >>> graph = Graph()
        >>> h = graph.input("h", (3,))
        >>> rewrite([graph.add("multiply", h, 1.0)], lambda graph, node, args: None)
        [h()(3,)]
    """
    outputs = list(outputs)
    nodes = order_nodes(outputs)
    if not nodes:
        return outputs
    new = Graph(nodes[0].graph.dtype, nodes[0].graph.rows)
    new.simplifies = True
    return rewrite_into(new, outputs, {}, rule)


def rewrite_into(new: Graph, outputs: Iterable[Any], known: dict[Node, Any], rule: Callable[..., Any]) -> list[Any]:
    """Return the outputs in a graph, with each node rewritten by a rule; ``known`` maps those that have been."""
    outputs = list(outputs)
    for node in order_nodes(outputs, known):
        if node not in known:
            rewrite_node(new, node, known, rule)
    return [known[output] if isinstance(output, Node) else output for output in outputs]


def rewrite_node(new: Graph, node: Node, known: dict[Node, Any], rule: Callable[..., Any]) -> None:
    """Write one node into a new graph. ``known`` maps old nodes to new ones, and receives this one."""
    args = tuple(known[arg] if isinstance(arg, Node) else arg for arg in node.args)
    made = rule(new, node, args)
    if made is None:
        if node.op == "loop":
            made = node.attributes["body"].rewrite(new, node, args, known, rule)
        elif node.op == "part":
            made = new.intern_node("part", args, node.attributes, node.shape, node.kind)
        else:
            made = new.add(node.op, *args, **node.attributes) if node.args else new.copy_of(node)
    if node.shape and node.op != "loop" and (not isinstance(made, Node) or made.shape != node.shape):
        made = new.add("broadcast_to", made, shape=node.shape)  # such as 0 * x, which is a number now
    known[node] = made


def substitute(outputs: Iterable[Any], known: Mapping[Node, Any]) -> list[Any]:
    """Return the outputs in their graph, with other nodes in the place of some."""
    outputs, made = list(outputs), dict[Any, Any](known)
    for node in order_nodes(outputs, made):
        if node not in made:
            args = tuple(made.get(arg, arg) if isinstance(arg, Node) else arg for arg in node.args)
            made[node] = node.graph.intern_node(node.op, args, node.attributes, node.shape, node.kind)
    return [made[output] if isinstance(output, Node) else output for output in outputs]


def signature(outputs: Iterable[Any]) -> tuple[Any, ...]:
    """Return a key that is equal for two traces of a formula: all but the stand-in for the number of rows."""
    outputs = list(outputs)
    nodes = order_nodes(outputs)
    places = {node: index for index, node in enumerate(nodes)}

    def key_of_value(value: Any, graph: Graph) -> Any:
        if type(value) is Node:
            return places[value]
        if isinstance(value, tuple):
            return tuple(key_of_value(value_inside, graph) for value_inside in value)
        if hasattr(value, "signature"):  # the body of a loop
            return value.signature()
        if type(value) is int and graph.rows_in(value):
            return "rows", key_of_value(graph.rows_in(value), graph)
        return repr(value) if isinstance(value, float) else value

    keys = tuple(
        (
            node.op,
            node.kind,
            key_of_value(node.args, node.graph),
            tuple((name, key_of_value(value, node.graph)) for name, value in node.attributes.items()),
            key_of_value(node.shape, node.graph),
        )
        for node in nodes
    )
    return keys, tuple(places[output] if isinstance(output, Node) else repr(output) for output in outputs)
