"""Source: the formula of a layer as lines of NumPy that a person reads, with the bits of the engine.

The engine runs the graph of a layer as a function that works in memory of its own. These lines compute the same
operations on arrays in the same order, and allocate an array for each. A value that is used once stands in the
expression that uses it.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from framework import special
from framework.emit.memory import Lives
from framework.emit.numpy import attribute_texts, index_text, reduces_by_rows, sums_over_rows
from framework.emit.runtime import windows
from framework.emit.text import gather_text
from framework.errors import SettingsError
from framework.frames import text_of
from framework.graph.graph import Graph, kind_of
from framework.graph.node import Node, nodes_in, operands, ordered
from framework.graph.operations import COMPARISONS, OPERATIONS
from framework.preprocessing.numbers import date_part, deviate_of, number_above, share_below, share_of
from framework.settings.messages import printable

_OPERATORS = frozenset({"add", "subtract", "multiply", "divide", "negative", "bitwise_and", "bitwise_or", "invert"})
_OPERATORS |= COMPARISONS
"""Operations whose text for readers is Python, and computes the same bits."""

_LONGEST = 70
"""A longer expression gets a line of its own."""

_TIGHT = 9
"""How tightly a name or a call binds."""

HELPERS = {
    "sum_over_rows": '''
def sum_over_rows(x, axes):
    """Return the sum over the first axes, as a product with ones."""
    matrix = x.reshape(np.prod(x.shape[:axes]), np.prod(x.shape[axes:], dtype=int))
    return np.ones(len(matrix), x.dtype).dot(matrix).reshape(x.shape[axes:])
''',
    "row_sums": '''
def row_sums(x):
    """Return the sum of each row, as a product with ones."""
    size = x.shape[-1]
    return x.reshape(np.prod(x.shape[:-1], dtype=int), size).dot(np.ones(size, x.dtype)).reshape(x.shape[:-1])
''',
    "row_extremes": '''
def row_extremes(x, extreme):
    """Return the largest or the smallest number of each row, column by column."""
    columns = np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T)
    return extreme.reduce(columns, axis=0).reshape(x.shape[:-1])
''',
    "require_columns": '''
def require_columns(x, names):
    """Check the names of a table's columns; an array has none."""
    given = [str(name) for name in getattr(x, "column_names", getattr(x, "columns", names))]
    if given != names:
        raise ValueError(f"x must have the columns {names}, in that order; got {given}")
''',
    "require_ids": '''
def require_ids(x, count):
    """Check that these are whole numbers from 0 to count - 1, and return them."""
    if x.size and not (0 <= x.min() and x.max() < count and np.array_equal(x, np.rint(x))):
        raise ValueError(f"ids must be whole numbers from 0 to {count - 1}")
    return x
''',
}
"""The functions that the lines may call, by name, as source."""


SHARED: dict[str, Callable[..., Any]] = {
    "erf": special.erf_of,
    "erfc": special.erfc_of,
    **{each.__name__: each for each in (*special.PARTS, special.normal_deviate, special.ratio)},
    **{each.__name__: each for each in (windows, text_of, date_part, share_below, number_above, deviate_of, share_of)},
}
"""Those that are functions of this package, by their names in a file."""

_NUMBERS = (*special.NUMBERS, "_WA", "_WB", "_WC", "_WD")
"""The numbers that these read."""

HELPER_NAMES = {*HELPERS, *SHARED, *_NUMBERS}
"""The names that all these have in a file."""


def helpers_in(text: str, known: Mapping[str, str]) -> dict[str, str]:
    """Return the source of each function that a text calls, and of what these need in turn, by name.

    ``known`` has the functions that are known as source.
    """
    found: dict[str, str] = {}
    texts = [text]
    for each in texts:
        for name in dict.fromkeys(re.findall(r"\b\w+(?=\()|\b_\w+|\b[A-Z_]+\b", each)):
            if name in found or name not in {*known, *SHARED, *_NUMBERS}:
                continue
            if name in _NUMBERS:
                found[name] = f"\n{name} = {getattr(special, name)!r}\n"
            else:
                found[name] = known[name] if name in known else _bare(SHARED[name])
            texts.append(found[name])
    return found


def _bare(function: Callable[..., Any]) -> str:
    """Return the source of a function without its annotations, and with the first paragraph of its docstring."""
    head, _, body = inspect.getsource(function).partition(":\n")
    body = re.sub(r'"""(.*?)(\n\n.*?)?"""', r'"""\1"""', body, count=1, flags=re.DOTALL)
    names = ", ".join(re.findall(r"(\w+):", head))
    return re.sub(r"\b(erfc?)_of\(", r"\1(", f"\ndef {function.__name__}({names}):\n{body}")


def quoted(text: str) -> str:
    """Return a text that may stand in a docstring."""
    return printable(text).replace("\\", "\\\\").replace('"', "'")


class Lines:
    """The lines of a function, with the names that are taken.

    Attributes:
        lines: The lines so far.
        constants: The arrays that they read, by name, apart from parameters.
        heading: The comment that the next lines stand under; "" for none.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        """Start empty; ``taken`` are names that no value may have."""
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}
        self.indent = "    "
        self._taken = {*taken}
        self._values = 0
        self.heading = self._headed = ""

    def line(self, text: str) -> None:
        """Add a line."""
        if text and self._headed != self.heading:
            self._headed = self.heading
            self.line("")
            self.comment(self.heading)
        self.lines.append(self.indent + text if text else "")

    def name(self, wanted: str) -> str:
        """Return a name that is free: the wanted one, or one like it."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def value(self) -> str:
        """Return a name for an intermediate value."""
        self._values += 1
        return self.name(f"v{self._values}")

    def comment(self, text: str) -> None:
        """Add a comment, in one line."""
        self.line(f"# {' '.join(printable(text).split())}")

    def free(self, name: str) -> None:
        """Let a name be taken again."""
        self._taken.discard(name)


class Formula:
    """Writes one graph, lowered for NumPy, as lines."""

    def __init__(self, lines: Lines, graph: Graph, names: Mapping[Node, str], results: Iterable[Any]) -> None:
        """Begin.

        Args:
            lines: Where the lines go.
            graph: The graph.
            names: The names of its inputs.
            results: Everything that the engine computes of it.
        """
        self.lines, self.graph, self.results = lines, graph, [*results]
        self.real = f"np.{graph.dtype}"
        self.names: dict[Any, str] = dict(names)
        self.binding: dict[Node, int] = {}
        self.order = [node for node in ordered(self.results, self.names) if node not in names]
        self.lives = Lives()
        self.lives.home = {node: node for node in names}
        self.lives.layouts = dict.fromkeys(names)
        self.lives.follow(self.order)
        self.plain = {*names}  # C contiguous values
        self.strict = {*nodes_in(self.results)}  # those that must be, as the engine's are: strides change last bits
        self.uses = Counter(nodes_in(self.results))
        self._count(self.order)

    def write(self, wanted: Mapping[Node, str], headings: Mapping[Node, str] | None = None) -> list[str]:
        """Write the lines, and return the text of each result.

        Args:
            wanted: The names of values that get a line of their own.
            headings: The comment that the line of a value stands under.
        """
        self._write(self.order, wanted, headings or {})
        return [self.text(result) for result in self.results]

    def _count(self, order: Iterable[Node]) -> None:
        for node in order:
            self.uses.update(nodes_in(node.args))
            if not OPERATIONS[node.op].elementwise:
                self.strict.update(nodes_in(node.args))
            if node.op == "loop":
                self.uses.update(nodes_in(node.args))  # which every step reads
                self.strict.update(nodes_in(node.attributes["body"].outputs))
                body = node.attributes["body"]
                self.uses.update(nodes_in(body.outputs))
                self._count(body.order())

    def _write(self, order: Iterable[Node], wanted: Mapping[Node, str], headings: Mapping[Node, str]) -> None:
        """Write the lines of nodes in their order."""
        for node in order:
            if node in self.names or node.fill is not None:
                continue
            self.lines.heading = headings.get(node, self.lines.heading)
            text, binding = self._expression(node)
            if text is None:
                continue
            plain = self._is_plain(node)
            if not plain and node in self.strict and not OPERATIONS[node.op].view:
                text, binding, plain = f"np.ascontiguousarray({text})", _TIGHT, True
            if plain:
                self.plain.add(node)
            if node not in wanted and self.uses[node] == 1 and len(text) <= _LONGEST and node.op not in _NAMED:
                self.names[node], self.binding[node] = text, binding
            else:
                self.names[node] = name = self.lines.name(wanted[node]) if node in wanted else self.lines.value()
                self.lines.line(f"{name} = {text}")

    def _is_plain(self, node: Node) -> bool:
        """Return whether NumPy gives a C contiguous array."""
        row = OPERATIONS[node.op]
        if row.view and node not in self.lives.copies:
            first = node.args[0]
            return first in self.plain and (node.op == "reshape" or self.lives.contiguous(node))
        if node.op in ("matmul", "gather", "constant", "rows", "row_numbers", "place", "loop", "part"):
            return True
        if row.elementwise and any(arg in self.plain and arg.shape == node.shape for arg in nodes_in(node.args)):
            return True  # NumPy takes the order of C where operands differ
        return node.op != "einsum" and all(
            arg in self.plain or arg.ndim < 2 or arg.fill is not None for arg in nodes_in(node.args)
        )

    # texts

    def text(self, value: Any, binding: int = 0, kind: str = "f") -> str:
        """Return the text of a node or a number, in parentheses if it binds less tightly than it must."""
        if not isinstance(value, Node):
            return self._number(value, kind, binding)
        if value.fill is not None and value not in self.names:
            shape, dtype = self.graph.shape_text(value.shape), self._dtype(value)
            if value.kind == "f" and repr(value.fill) in ("0", "0.0"):
                return f"np.zeros({shape}, {dtype})"
            return f"np.full({shape}, {self._number(value.fill, value.kind, 0)}, {dtype})"
        if value.op == "constant" and value not in self.names:
            array = value.attributes["value"].value
            array = array.astype(self.graph.dtype) if value.kind == "f" else array
            known = next((n for n, each in self.lines.constants.items() if _bits(each) == _bits(array)), None)
            name = self.names[value] = known or self.lines.name("constant")
            self.lines.constants[name] = array
            self.plain.add(value)
        found = self.names[value]
        return f"({found})" if self.binding.get(value, _TIGHT) < binding else found

    def _number(self, value: Any, kind: str, binding: int) -> str:
        if kind == "f" and not isinstance(value, bool):
            value = float(value)
        text = repr(value)
        text = text.replace("inf", "np.inf").replace("nan", "np.nan")
        return f"({text})" if text.startswith("-") and binding > 1 else text

    def _cast(self, node: Node, values: Iterable[Any], binding: int = 0) -> list[str]:
        """Return the texts of arguments; integers among floats must not make them float64."""
        kinds = {value.kind for value in nodes_in(values)}
        cast = "" if node.kind != "f" else "i" if "f" in kinds else "ib"
        texts = []
        for value in values:
            if isinstance(value, Node) and value.kind in cast:
                texts.append(f"{self.text(value, _TIGHT)}.astype({self.real})")
            else:
                texts.append(self.text(value, binding, "f" if node.kind == "f" or "f" in kinds else kind_of(value)))
        return texts

    def _expression(self, node: Node) -> tuple[Any, int]:
        """Return the expression of a node, and how tightly it binds; None where it has written lines itself."""
        if node.op in _WRITERS:
            return _WRITERS[node.op](self, node), _TIGHT
        row = OPERATIONS[node.op]
        if row.elementwise:
            values = operands(node)
            if node.op not in _OPERATORS:
                texts = self._cast(node, values)
                return row.numpy.format(*texts, arguments=", ".join(texts), out=""), _TIGHT
            left, *right = self._cast(node, values, row.binding + (row.binding == 0))
            if right:  # what stands on the right must bind more tightly, so that the order stays
                right = self._cast(node, values, row.binding + 1)[1:]
            return row.text.format(left, *right), row.binding
        texts = [self.text(arg, _TIGHT if row.numpy.startswith("{0}") else 0, kind_of(arg)) for arg in node.args]
        attributes = attribute_texts(node, _part)
        attributes |= {key: self._number(value, "f", 0) for key, value in attributes.items() if type(value) is float}
        found = row.numpy.format(*texts, arguments=", ".join(texts), out="", **attributes)
        return found.replace("real(", f"{self.real}(") if node.op == "rows" else found, _TIGHT

    def _where(self, node: Node) -> str:
        condition, *choices = operands(node)
        texts = self._cast(node, choices)
        if node.kind == "f" and not nodes_in(choices):
            if texts == ["1.0", "0.0"]:
                return f"{self.text(condition, _TIGHT)}.astype({self.real})"
            texts = [f"{self.real}({text})" for text in texts]
        return f"np.where({self.text(condition)}, {', '.join(texts)})"

    def _reduce(self, node: Node) -> str:
        (x,), axes = node.args, node.attributes["axes"]
        if sums_over_rows(node, self.lives):
            found = f"sum_over_rows({self.text(x)}, {len(axes)})"
            return f"{found}.reshape({self.graph.shape_text(node.shape)})" if node.attributes["keepdims"] else found
        ufunc = {"sum": "np.add", "max": "np.maximum", "min": "np.minimum", "prod": "np.multiply"}[node.op]
        if reduces_by_rows(node, self.lives):
            found = f"row_sums({self.text(x)})" if node.op == "sum" else f"row_extremes({self.text(x)}, {ufunc})"
            return f"{found}[..., None]" if node.attributes["keepdims"] else found
        keepdims = ", keepdims=True" if node.attributes["keepdims"] else ""
        axis = axes[0] if len(axes) == 1 else axes
        return f"{ufunc}.reduce({self.text(x)}, axis={axis}{keepdims})"

    def _matmul(self, node: Node) -> str:
        a, b = node.args
        if all(x.ndim <= 2 and x.kind == "f" for x in node.args):
            return f"{self.text(a, _TIGHT)}.dot({self.text(b)})"
        return f"np.matmul({self.text(a)}, {self.text(b)})"

    def _rearranged(self, node: Node) -> str:
        x = self.text(node.args[0], _TIGHT)
        text = (
            f"{x}.reshape({self.graph.shape_text(node.shape)})"
            if node.op == "reshape"
            else f"{x}.transpose{node.attributes['axes']}"
        )
        if node.op == "transpose" and node.attributes["axes"] == (1, 0):
            text = f"{x}.T"
        return f"np.ascontiguousarray({text})" if node in self.lives.copies else text

    def _gather(self, node: Node) -> str:
        x, *indices = (self.text(arg, _TIGHT, kind_of(arg)) for arg in node.args)
        axes = node.attributes["axes"]
        if len(axes) == 1:
            return f"np.take({x}, {indices[0]}, axis={axes[0]})"
        return f"np.ascontiguousarray({x}[{gather_text(axes, indices)}])"

    def _place(self, node: Node) -> None:
        name = self.names[node] = self.lines.value()
        self.lines.line(f"{name} = np.zeros({self.graph.shape_text(node.shape)}, {self._dtype(node)})")
        self.plain.add(node)
        sign = "+=" if node.attributes["add"] else "="
        for index, part in zip(node.attributes["indices"], node.args, strict=True):
            self.lines.line(f"{name}[{_part(index)}] {sign} {self.text(part)}")

    def _set_index(self, node: Node) -> None:
        name = self.names[node] = self.lines.value()
        x, value = node.args
        self.lines.line(f"{name} = np.array({self.text(x, 0, node.kind)}, {self._dtype(node)})")
        self.lines.line(f"{name}[{_part(node.attributes['index'])}] = {self.text(value, 0, node.kind)}")
        self.plain.add(node)

    def _dtype(self, node: Node) -> str:
        return {"f": self.real, "i": "np.int64", "b": "bool"}[node.kind]

    def _loop(self, node: Node) -> None:
        body, lines, steps = node.attributes["body"], self.lines, node.attributes["steps"]
        count = len(body.states)
        step = lines.name("t")
        read = {part.attributes["index"] for part in self.uses if part.op == "part" and part.args[0] is node}
        for place, state in enumerate(body.states):
            name = self.names[state] = self.names[node, place] = lines.name("state")
            lines.line(f"{name} = {self.text(node.args[place], 0, state.kind)}")
            self.plain.add(state)
        for place in range(count, count + body.stacked):
            if place in read:
                output = body.outputs[place]
                self.names[node, place] = name = lines.name("stack")
                lines.line(f"{name} = np.empty({self.graph.shape_text((steps, *output.shape))}, {self._dtype(output)})")
        order = f"range({steps})"
        lines.line(f"for {step} in {f'reversed({order})' if node.attributes['reverse'] else order}:")
        outer, lines.indent = lines.indent, lines.indent + "    "
        for entry, sequence in zip(body.entries, node.args[count:], strict=False):
            self.names[entry] = f"{self.text(sequence, _TIGHT)}[{step}]"
            self.plain.add(entry)
        self._write(self.lives.orders[node], {}, {})
        for place in range(count, count + body.stacked):
            if place in read:
                lines.line(f"{self.names[node, place]}[{step}] = {self.text(body.outputs[place])}")
        left = [self.names[state] for state in body.states]
        right = [self.text(output) for output in body.outputs[:count]]
        lines.line(f"{', '.join(left)} = {', '.join(right)}")
        lines.indent = outer

    def _part(self, node: Node) -> str:
        return self.names[node.args[0], node.attributes["index"]]

    def _python(self, node: Node) -> str:
        raise SettingsError(
            f"{node.attributes['name']} is a Python function without a graph, which no file can hold; write the "
            "formula with other NumPy functions"
        )


def _bits(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def _part(index: tuple[Any, ...]) -> str:
    """Return the text of an index, without whole axes at its end."""
    while len(index) > 1 and index[-1] is None:
        index = index[:-1]
    return index_text(index)


_NAMED = frozenset({"loop", "place", "set_index"})
_WRITERS: dict[str, Callable[[Formula, Node], Any]] = {
    "where": Formula._where,
    **dict.fromkeys(("sum", "max", "min", "prod"), Formula._reduce),
    "matmul": Formula._matmul,
    "reshape": Formula._rearranged,
    "transpose": Formula._rearranged,
    "gather": Formula._gather,
    "place": Formula._place,
    "set_index": Formula._set_index,
    "constant": lambda formula, node: formula.text(node),
    "loop": Formula._loop,
    "part": Formula._part,
    "python": Formula._python,
    "astype": lambda formula, node: f"{formula.text(node.args[0], _TIGHT)}.astype({formula._dtype(node)})",
}
"""The writers of operations for which the template of the table is not enough."""
