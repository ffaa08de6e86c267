"""Writing a kernel: functions that are nests of loops, each distinct one once, and the lines that call them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from itertools import chain
from typing import Any, Literal

import numpy as np

from framework.backends.native.machine import processor
from framework.base.arrays import Array
from framework.graph.node import Node
from framework.training.engines.native.expressions import Expressions, literal
from framework.training.engines.native.formulas import Base, Formula, base_of, rows_text
from framework.training.engines.native.indices import Index, coords_of, element_index
from framework.training.engines.native.schedule import Block, apply_view, split_views
from framework.training.engines.native.views import Buffer, NeedsCopy, View, at_rows, size_text

_CUBE = 3.0

_INDENT = " " * 4

KINDS = {"i": "ints", "f": "reals", "b": "reals"}
"""The annotations of arrays in the kernel language, by the kinds of their elements."""

Axes = tuple[tuple[int, int], ...]
"""Axes with their sizes and strides."""


class NestWriter:
    """Writes the functions of a kernel, each distinct one once, and the lines that call them.

    Attributes:
        dtype: The dtype of the kernel.
        independent: Whether the bits of a row must not depend on the rows beside it.
        lanes: How many of its numbers are in a vector.
        formulas: The text of each formula, by its name. Names are digests: equal functions of all kernels are one.
        functions: The texts of each nest, by its name: of what it calls, and its own.
        pointers: The name of each buffer.
        tables: The name of each table of offsets, and how it is made for a number of rows.
        settings: The names of plain numbers that the kernel takes as arguments, so that it serves all values of them.
        scalars: The names of numbers that are computed before the step.
        scalar_lines: The lines that do it.
        touched: The steps in which buffers are used: from the first to the last one their memory is their own.
        step: The number of the present step.
        lines: The lines of the step.
        indent: What they begin with.
    """

    def __init__(self, dtype: str, *, independent: bool = False) -> None:
        """Begin a kernel."""
        self.dtype, self.independent = dtype, independent
        self.lanes = processor().registers.lanes("double" if dtype == "float64" else "float")
        self.formulas: dict[str, str] = {}
        self.functions: dict[str, tuple[str, ...]] = {}
        self.pointers: dict[Buffer, str] = {}
        self.tables: dict[Axes, tuple[str, Callable[[int], Array]]] = {}
        self.settings: dict[float, str] = {}
        self.scalars: dict[Node, str] = {}
        self.scalar_lines: list[str] = []
        self.touched: list[tuple[int, Buffer]] = []
        self.step = 0
        self.lines: list[str] = []
        self.indent = 2 * _INDENT

    # names

    def pointer(self, buffer: Buffer) -> str:
        """Return the name of a buffer, which the present step uses."""
        self.touched.append((self.step, buffer))
        return self.pointers.setdefault(buffer, f"m{len(self.pointers)}")

    def array(self, buffer: Buffer, strides: Iterable[tuple[str, int]] = (), offset: int = 0) -> str:
        """Return the text of a buffer from an element on."""
        start = Index(offset, tuple(strides))
        return f"{self.pointer(buffer)}[{start}:]" if start != Index() else self.pointer(buffer)

    def setting(self, value: Any) -> str:
        """Return the text of a plain number: its name, or a literal if it may decide what the compiler makes of it.

        A division by a power of 2 becomes a product, and x**3 becomes x * x * x.
        """
        plain = not isinstance(value, float) or not math.isfinite(value) or value == _CUBE
        if plain or math.frexp(value)[0] in (0.0, 0.5, -0.5):
            return literal(value)
        return self.settings.setdefault(value, f"k{len(self.settings)}")

    def scalar(self, node: Node) -> str:
        """Return the text of a number that depends on numbers of the step alone."""
        if node.op == "rows":
            return rows_text(node)
        if node not in self.scalars:
            if node.op == "input":
                self.scalars[node] = f"s_{'whole' if 'whole' in node.name else 'count'}"
            else:
                writer = Expressions(lambda arg: self.scalar(arg) if isinstance(arg, Node) else self.setting(arg))
                text = writer.expression(node)
                self.scalars[node] = f"s{len(self.scalars)}"
                self.scalar_lines.append(f"{self.scalars[node]} = {text}")
        return self.scalars[node]

    def table(self, axes: Axes) -> str:
        """Return the name of the table of the offsets of all elements along some axes."""
        return self.tables.setdefault(axes, (f"t{len(self.tables)}", partial(_offsets, axes)))[0]

    def formula(self, parameters: Sequence[str], lines: Sequence[str], results: Sequence[str]) -> str:
        """Return the name of a formula."""
        body = "\n".join(_INDENT + line for line in [*lines, f"return {', '.join(results)}"])
        name, text = _name_function("formula", f"({', '.join(parameters)}):\n{body}")
        self.formulas[name] = text
        return name

    # lines

    def line(self, text: str) -> None:
        """Add a line to the step."""
        self.lines.append(self.indent + text)

    def call(
        self, lines: Sequence[str], parameters: Mapping[str, str], arguments: Sequence[str], calls: Iterable[str] = ()
    ) -> None:
        """Add a call of a function.

        Args:
            lines: Its lines.
            parameters: The kinds of its parameters, which come after n.
            arguments: The arguments.
            calls: The texts of the functions that it calls.
        """
        heads = ", ".join(f"{name}: {kind}" for name, kind in {"n": "int", **parameters}.items())
        name, text = _name_function("nest", f"({heads}):\n" + "\n".join(lines))
        self.functions[name] = *dict.fromkeys(calls), text
        self.line(f"{name}({', '.join(['n', *arguments])})")

    # views

    def view(self, block: Block, node: Node) -> View:
        """Return where a node lies in memory; the argument of a reshape is copied, once, if the reshape needs it."""
        base, views = split_views(node)
        view = block.storage(base)
        for step in views:
            if step not in block.views:
                try:
                    block.views[step] = apply_view(view, step)
                except NeedsCopy:
                    copied = block.buffer("copy", view.shape, base.kind).view()
                    self.copy(copied, view)
                    block.views[step] = apply_view(copied, step)
            view = block.views[step]
        return view

    def copy(self, target: View, source: View) -> None:
        """Copy the elements of a view."""
        self._assign(target, "=", source)

    def add(self, target: View, source: View) -> None:
        """Add the elements of a view to those of another; where that shows an element twice, both are added."""
        self._assign(target, "+=", source)

    def _assign(self, target: View, operator: Literal["=", "+="], source: View) -> None:
        nest = Nest(self)
        axes = sorted((k for k, size in enumerate(target.shape) if size != 1), key=lambda k: -abs(target.strides[k]))
        coords = coords_of(f"i{axis}" if size != 1 else None for axis, size in enumerate(target.shape))
        with nest.loops((f"i{axis}", target.shape[axis]) for axis in axes):
            nest.add(f"{nest.element(target, coords)} {operator} {nest.element(source, coords)}")
        nest.call()

    def fill(self, target: View, value: str) -> None:
        """Fill a view whose elements lie together."""
        nest = Nest(self)
        nest.fill(target, value)
        nest.call()


class Nest:
    """A function of loops that is being written.

    Attributes:
        head: Lines before the loops.
        merged: Variables that have become one with the next inner one, which counts on for them.
    """

    def __init__(self, writer: NestWriter) -> None:
        """Begin a nest."""
        self.writer = writer
        self.head: list[str] = []
        self.merged: set[str] = set()
        self._lines: list[str] = []
        self._arrays: dict[Base, str] = {}
        self._numbers: dict[str, str] = {}
        self._calls: list[str] = []
        self._depth = 1

    def add(self, line: str) -> None:
        """Add a line."""
        self._lines.append(self._depth * _INDENT + line)

    @contextmanager
    def loops(self, sizes: Iterable[tuple[str, int]]) -> Iterator[None]:
        """Add loops around the lines of a ``with`` statement, the outer ones first."""
        with self.add_loops((variable, size_text(size)) for variable, size in sizes):
            yield

    @contextmanager
    def add_loops(self, bounds: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Add loops whose bounds are text."""
        depth = self._depth
        for variable, bound in bounds:
            self.add(f"for {variable} in range({bound}):")
            self._depth += 1
        yield
        self._depth = depth

    def element(self, view: View, coords: Sequence[Index]) -> str:
        """Return the text of an element of a view."""
        return self.at(view, element_index(view, coords))

    def at(self, view: View, index: Index) -> str:
        """Return the text of an element of the buffer of a view."""
        return self._text(base_of(view), index)

    def _text(self, base: Base, index: Index) -> str:
        return f"{self._arrays.setdefault(base, f'p{len(self._arrays)}')}[{index.drop_variables(self.merged)}]"

    def evaluate(self, formula: Formula, results: Sequence[str], outputs: Sequence[str]) -> None:
        """Add the call of a formula that gives some of its values."""
        arguments = {name: self._text(*load) for load, name in formula.loads.items()}
        for number, name in formula.numbers.items():
            arguments[name] = self._numbers.setdefault(number, f"s{len(self._numbers)}")
        arguments |= {name: name for name in formula.variables} | formula.carried
        name = self.writer.formula([*arguments], formula.lines, results)
        self._calls.append(self.writer.formulas[name])
        self.add(f"{', '.join(outputs)} = {name}({', '.join(arguments.values())})")

    def fill(self, view: View, value: str) -> None:
        """Fill a view whose elements lie together."""
        with self.loops([("z", math.prod(view.shape))]):
            self.add(f"{self.at(view, Index.of('z') + view.offset)} = {value}")

    def fill_first(self, view: View, value: str) -> None:
        """Fill a view before the loops, if that has not been said yet."""
        whole = Nest(self.writer)
        whole._arrays = self._arrays
        whole.fill(view, value)
        if whole._lines[-1] not in self.head:
            self.head += whole._lines

    def call(self) -> None:
        """Write the function, and call it."""
        parameters = {name: KINDS[buffer.kind] for (buffer, _), name in self._arrays.items()}
        parameters |= dict.fromkeys(self._numbers.values(), "real")
        arrays = (self.writer.array(buffer, strides) for buffer, strides in self._arrays)
        self.writer.call([*self.head, *self._lines], parameters, [*chain(arrays, self._numbers)], self._calls)


def _name_function(kind: str, text: str) -> tuple[str, str]:
    """Return a name for the text of a function behind its name, and the whole text."""
    name = f"{kind}_{blake2b(text.encode(), digest_size=6).hexdigest()}"
    return name, f"def {name}{text}\n"


def _offsets(axes: Axes, rows: int) -> Array:
    """Return the offsets of all elements along some axes, that of the last one first."""
    offsets = np.zeros(1, np.int64)
    for size, stride in axes:
        offsets = np.add.outer(offsets, np.arange(at_rows(size, rows)) * at_rows(stride, rows)).reshape(-1)
    return offsets
