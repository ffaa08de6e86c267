"""Formulas: what a nest computes at one place of its loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.graph.node import Node
from framework.training.engines.native.expressions import Expressions
from framework.training.engines.native.indices import Coords, Index, broadcast_coords, element_index, source_coords
from framework.training.engines.native.rewrite import REDUCE, VIEWS, is_elementwise
from framework.training.engines.native.schedule import Block
from framework.training.engines.native.views import Buffer, View

if TYPE_CHECKING:
    from framework.training.engines.native.writer import NestWriter

FOLDS = {
    "sum": "{0} + {1}",
    "max": "largest({0}, {1})",
    "min": "smallest({0}, {1})",
    "prod": "{0} * {1}",
    "all": "{0} & {1}",
    "any": "{0} | {1}",
}
"""How a reduction joins two values."""

Base = tuple[Buffer, tuple[tuple[str, int], ...]]
"""An array that a nest takes: a buffer from where the loops around the nest have got to; see ``View.loop_strides``."""


class Formula:
    """The values that a nest computes at one place of its loops, as a formula of the numbers that it loads.

    Attributes:
        lines: The lines of the formula.
        loads: The names of the elements that it takes.
        numbers: The names of the numbers of the step that it takes.
        variables: The loop variables that it takes, and n.
        carried: What it takes of earlier passes of the nest: the name, and the argument.
    """

    def __init__(
        self, writer: NestWriter, block: Block, position: int, earlier: Mapping[tuple[Node, Coords], tuple[str, str]]
    ) -> None:
        """Begin a formula.

        Args:
            writer: The writer of the kernel.
            block: Where the nodes belong.
            position: Which group of the block it is of: its members are computed, all else is loaded.
            earlier: The name, and the argument, of values of earlier passes.
        """
        self._writer, self._block, self._position, self._earlier = writer, block, position, earlier
        self.lines: list[str] = []
        self.loads: dict[tuple[Base, Index], str] = {}
        self.numbers: dict[str, str] = {}
        self.variables: dict[str, None] = {}
        self.carried: dict[str, str] = {}
        self._values: dict[tuple[Node, Coords], str] = {}

    def value(self, node: Any, coords: Coords) -> str:
        """Return the text of a node's element."""
        if not isinstance(node, Node):
            return self._setting(node)
        key = node, coords
        if key not in self._values:
            self._values[key] = self._compute(node, coords)
        return self._values[key]

    def fold(self, op: str, values: Iterable[str]) -> str:
        """Return the text of a reduction of some values."""
        return reduce(lambda total, value: self._assign(FOLDS[op].format(total, value)), values)

    def _compute(self, node: Node, coords: Coords) -> str:
        block, key = self._block, (node, coords)
        if key in self._earlier:
            name, self.carried[name] = self._earlier[key][0], self._earlier[key][1]
            return _boolean(node.kind, name)
        if node.op in VIEWS:
            return self._behind(node, coords)
        if node.op == "rows":
            self.variables["n"] = None
            return rows_text(node)
        if not node.shape and (block.is_number(node) or (is_elementwise(node) and block.is_scalar(node))):
            return self._number(self._writer.scalar(node))
        if node.op == "constant" and (text := self._constant(node, coords)) is not None:
            return text
        if node.op == "row_numbers":
            return self._index(coords[0])
        if self._position in block.evaluated.get(node, ()):
            if is_elementwise(node):
                return self._assign(Expressions(lambda arg: self._operand(node, arg, coords)).expression(node))
            if node.op in REDUCE:
                return self.fold(node.op, (self.value(node.args[0], at) for at in _coords_to_reduce(node, coords)))
        return self._load(block.storage(node), coords)

    def _operand(self, node: Node, arg: Any, coords: Coords) -> str:
        """Return the text of what an elementwise operation takes of an argument."""
        return self.value(arg, broadcast_coords(arg, node.ndim, coords) if isinstance(arg, Node) else coords)

    def _behind(self, node: Node, coords: Coords) -> str:
        """Return the text of an element of a view."""
        source = node.args[0]
        if not isinstance(source, Node):
            return self._setting(source)
        inner = source_coords(node, coords)
        return self._load(self._writer.view(self._block, node), coords) if inner is None else self.value(source, inner)

    def _constant(self, node: Node, coords: Coords) -> str | None:
        """Return the text of an element of a constant; None if it must be loaded."""
        values = node.attributes["value"].value
        if not any(at.factors for at in coords):
            value = values[tuple(at.constant for at in coords)]
            return repr(int(value)) if node.kind == "i" else self._setting(float(value))
        if values.ndim == 1 and np.array_equal(values, np.arange(len(values))):
            return self._index(coords[0])
        return None

    def _number(self, name: str) -> str:
        """Return the text of a number of the step."""
        return self.numbers.setdefault(name, f"s{len(self.numbers)}")

    def _setting(self, value: Any) -> str:
        """Return the text of a plain number."""
        text = self._writer.setting(value)
        return self._number(text) if text in self._writer.settings.values() else text

    def _index(self, index: Index) -> str:
        """Return an index as a value."""
        self.variables |= dict.fromkeys(variable for variable, _ in index.factors)
        return f"({index})" if " " in str(index) else str(index)

    def _load(self, view: View, coords: Coords) -> str:
        key = base_of(view), element_index(view, coords)
        return _boolean(view.buffer.kind, self.loads.setdefault(key, f"x{len(self.loads)}"))

    def _assign(self, text: str) -> str:
        self.lines.append(f"v{len(self.lines)} = {text}")
        return f"v{len(self.lines) - 1}"


def base_of(view: View) -> Base:
    """Return the array that a view is of."""
    return view.buffer, view.loop_strides


def rows_text(node: Node) -> str:
    """Return the text of a multiple of the number of rows."""
    return f"real(n * {node.attributes['times']})"


def storage_text(node: Node, value: str) -> str:
    """Return a value as it is stored: booleans are 0 and 1."""
    return f"(real(1.0) if {value} else real(0.0))" if node.kind == "b" else value


def _boolean(kind: str, name: str) -> str:
    """Return a stored value as it is computed with."""
    return f"({name} != real(0.0))" if kind == "b" else name


def _coords_to_reduce(node: Node, coords: Coords) -> Iterator[Coords]:
    """Give the coordinates of the elements that a reduction joins."""
    source, axes = node.args[0], node.attributes["axes"]
    kept = iter(at for axis, at in enumerate(coords) if not (node.attributes["keepdims"] and axis in axes))
    whole = [Index() if axis in axes else next(kept) for axis in range(source.ndim)]
    for element in np.ndindex(*(source.shape[axis] for axis in axes)):
        for axis, at in zip(axes, element, strict=True):
            whole[axis] = Index(at)
        yield tuple(whole)
