"""Writer: a graph as text, for one target or another.

The table of operations has the text of every operation in NumPy. A target is a class with a table of the operations
that it writes in another way.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar

from framework.base.errors import DerivativeError
from framework.graph.graph import Graph, kind_of
from framework.graph.node import Node, nodes_in, operands
from framework.graph.operations import OPERATIONS

REDUCERS = {"sum": "np.add", "max": "np.maximum", "min": "np.minimum", "prod": "np.multiply"}
"""The functions of two arrays whose ``reduce`` is a reduction."""

TIGHT = 9
"""How tightly a name or a call binds; see ``Operation.binding``."""

_PROMOTING = frozenset({"matmul", "einsum", "concatenate"})
"""Operations on several elements whose arguments NumPy promotes to one dtype."""

Text = str | Callable[[Any, Node], str | None]
"""A template; or a function of the writer and a node, which returns a text, or writes lines itself and returns None."""


class Target(ABC):
    """Writes operations as expressions.

    Attributes:
        texts: The operations whose text is not that of NumPy.
    """

    texts: ClassVar[Mapping[str, Text]] = {}

    @abstractmethod
    def text(self, value: Any, binding: int = 0) -> str:
        """Return the text of a node that is known or of a plain number, in brackets if it binds less tightly."""

    def dtype(self, kind: str) -> str:
        """Return the name of the dtype of a kind of values."""
        return {"f": "real", "i": "np.int64", "b": "np.bool_"}[kind]

    def expression(self, node: Node) -> str | None:
        """Return the text of an operation; None where its lines have been written."""
        text = self.texts.get(node.op) or self.template(node)
        return self.fill_template(node, text) if isinstance(text, str) else text(self, node)

    def template(self, node: Node) -> str:
        """Return the template of an operation that is not in the table of the target."""
        if is_sum_of_products(node):
            return "np.vecdot({0}, {1}{out})"  # faster than np.einsum
        return OPERATIONS[node.op].numpy

    def fill_template(self, node: Node, template: str) -> str:
        """Return a template with the texts of the arguments and the attributes."""
        args = self.arguments(node, template)
        out = self.out_argument(node) if "{out}" in template else ""
        fields = {"arguments": ", ".join(args), "out": out, "real": self.dtype("f"), **self.attributes(node)}
        return template.format(*args, **fields)

    def out_argument(self, node: Node) -> str:
        """Return the argument of a NumPy function that says where the result is written; "" for an array of its own."""
        return ""

    def attributes(self, node: Node) -> dict[str, Any]:
        """Return the attributes of a node: shapes, sizes, indices and dtypes as text, others as they are."""
        graph = node.graph
        texts: dict[Any, Callable[[Any], str]] = {
            "shape": graph.shape_text,
            "times": lambda times: graph.size_text(times * graph.rows),
            "index": self.index,
            "to": self.dtype,
            "value": lambda value: self.number(value, "f"),
        }
        return {key: texts[key](value) if key in texts else value for key, value in node.attributes.items()}

    def index(self, index: tuple[Any, ...]) -> str:
        """Return the text of an index with an entry for each axis."""
        return ", ".join(map(entry_text, index))

    def arguments(self, node: Node, template: str = "") -> list[str]:
        """Return the texts of the arguments, for a template."""
        if not OPERATIONS[node.op].elementwise:
            binding = TIGHT if template.startswith("{0}") else 0
            if node.op in _PROMOTING:
                return self.cast(node, node.args, binding)
            return [self.text(arg, binding) for arg in node.args]
        values = operands(node)
        conditions = values[: node.op == "where"]
        return [*map(self.text, conditions), *self.cast(node, values[len(conditions) :])]

    def cast(self, node: Node, values: Iterable[Any], binding: int = 0) -> list[str]:
        """Return the texts of arguments; integers among floats must not make them float64."""
        kinds = {value.kind for value in nodes_in(values)}
        cast = "" if node.kind != "f" else "i" if "f" in kinds else "ib"
        texts = []
        for value in values:
            if not isinstance(value, Node):
                texts.append(self.number(value, "f" if node.kind == "f" or "f" in kinds else "i", binding))
            elif value.kind in cast:
                texts.append(f"{self.text(value, TIGHT)}.astype({self.dtype('f')})")
            else:
                texts.append(self.text(value, binding))
        return texts

    def number(self, value: Any, kind: str, binding: int = 0) -> str:
        """Return the text of a plain number; as a float if it stands among floats."""
        return repr(float(value) if kind == "f" and not isinstance(value, bool) else value)


class Page:
    """The lines of a function.

    Attributes:
        lines: The lines so far.
        constants: The arrays that they read, by name.
        indent: What the next lines begin with.
    """

    def __init__(self) -> None:
        """Begin without lines."""
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.indent = "    "
        self._counts = Counter[str]()  # of names, by their first letter

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append(self.indent + text if text else "")

    def name(self, wanted: str) -> str:
        """Return a name that is free, which begins with the wanted one."""
        self._counts[wanted] += 1
        return f"{wanted}{self._counts[wanted] - 1}"

    def count(self, wanted: str) -> int:
        """Return how many names begin with this one."""
        return self._counts[wanted]


class Writer(Target):
    """Writes a graph as the lines of a function.

    Attributes:
        graph: The graph.
        page: Where the lines go.
        names: The names of the nodes that are known.
    """

    def __init__(self, graph: Graph, names: Mapping[Any, str], page: Page) -> None:
        """Begin with the names of the nodes that are given."""
        self.graph, self.page = graph, page
        self.names: dict[Any, str] = dict(names)

    def write(self, order: Iterable[Node]) -> None:
        """Write the lines of nodes, in this order."""
        for node in order:
            self.visit(node)

    def visit(self, node: Node) -> None:
        """Write the lines of a node; a constant and an array filled with one number stand where they are read."""
        known = node in self.names or node.op == "constant" or node.fill is not None
        if not known and (text := self.expression(node)) is not None:
            self.define(node, text)

    def define(self, node: Node, text: str) -> None:
        """Write the line that computes a node."""
        self.names[node] = self.page.name("v")
        self.page.line(f"{self.names[node]} = {text}")

    def rows_line(self, inputs: Iterable[Node], head: Iterable[str] = ()) -> list[str]:
        """Return the line that finds the number of rows, from the shape of an input; [] if no line reads it."""
        if not any(re.search(r"\brows\b", line) for line in (*head, *self.page.lines)):
            return []
        axes = [(self.names[node], axis, size) for node in inputs for axis, size in enumerate(node.shape)]
        of = self.graph.rows_in
        whole = (f"{name}.shape[{axis}]" for name, axis, size in axes if size == self.graph.rows)
        parts = (f"{name}.shape[{axis}] // {of(size)}" for name, axis, size in axes if 0 < of(size) < self.graph.rows)
        return [f"    rows = {next(chain(whole, parts), '1')}"]

    def text(self, value: Any, binding: int = 0) -> str:
        if not isinstance(value, Node):
            return self.number(value, kind_of(value), binding)
        if value.fill is not None and value not in self.names:
            return self.full(value)
        if value.op == "constant" and value not in self.names:
            array = value.attributes["value"].value
            self.names[value] = self.constant(array.astype(self.graph.dtype) if value.kind == "f" else array)
        return self.names[value]

    def constant(self, value: Any) -> str:
        """Return the name of a constant."""
        self.page.constants[name := self.page.name("c")] = value
        return name

    @abstractmethod
    def full(self, node: Node) -> str:
        """Return the text of an array filled with one number."""

    def shape(self, shape: tuple[int, ...]) -> str:
        """Return the text of a shape."""
        return self.graph.shape_text(shape)


def require_inputs(order: Iterable[Node]) -> None:
    """Check that no input is among the nodes that are to be computed.

    Raises:
        DerivativeError: One is; names it.
    """
    missing = next((node for node in order if node.op == "input"), None)
    if missing is not None:
        name = re.sub(r"<\d+ (.+)>", r"\1", missing.name)  # as lowering names it
        raise DerivativeError(f"the results need the input '{name}', which is not among the inputs given")


def is_sum_of_products(node: Node) -> bool:
    """Return whether a node is the sum of products of two arrays of one shape along their last axis."""
    factors, _, output = node.attributes.get("subscripts", "").partition("->")
    pairs = node.op == "einsum" and factors == f"{output}{factors[-1]},{output}{factors[-1]}"
    return pairs and node.args[0].shape == node.args[1].shape


def is_matrix_product(node: Node) -> bool:
    """Return whether a node is the product of two arrays of floats that have two axes at most."""
    return node.op == "matmul" and all(x.ndim <= 2 and x.kind == "f" for x in node.args)


def gather_text(axes: tuple[int, ...], indices: Iterable[str]) -> str:
    """Return the text of an index with these texts in the place of some axes."""
    entries = dict(zip(axes, indices, strict=True))
    return ", ".join(entries.get(axis, ":") for axis in range(axes[-1] + 1))


def entry_text(entry: Any, size: float = math.inf) -> str:
    """Return the text of an index into an axis; a slice to the end of the axis has no stop."""
    if entry is None:
        return ":"
    if entry == "reversed":
        return "::-1"
    if isinstance(entry, int):
        return str(entry)
    start, stop, step = entry
    return f"{start or ''}:{stop if 0 <= stop < size else ''}" + (f":{step}" if step != 1 else "")
