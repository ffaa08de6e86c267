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
from typing import Any, ClassVar

import numpy as np

from framework.backends.memory import Lives
from framework.backends.numpy import reduces_by_rows, sums_over_rows
from framework.backends.runtime import windows
from framework.backends.writer import REDUCERS, TIGHT, Page, Text, Writer, gather_text, is_matrix_product
from framework.base import special
from framework.base.errors import SettingsError
from framework.base.frames import text_of
from framework.base.settings.messages import printable
from framework.graph.graph import Graph
from framework.graph.node import Node, nodes_in, operands, order_nodes
from framework.graph.operations import COMPARISONS, OPERATIONS
from framework.preprocessing.numbers import date_part, deviate_of, number_above, share_below, share_of

_OPERATORS = frozenset({"add", "subtract", "multiply", "divide", "negative", "bitwise_and", "bitwise_or", "invert"})
_OPERATORS |= COMPARISONS
"""Operations whose text for readers is Python, and computes the same bits."""

_LONGEST = 70
"""A longer expression gets a line of its own."""

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
    **{function.__name__: function for function in (*special.PARTS, special.normal_deviate, special.ratio)},
    **{
        function.__name__: function
        for function in (windows, text_of, date_part, share_below, number_above, deviate_of, share_of)
    },
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
    helpers: dict[str, str] = {}
    texts = [text]
    for source in texts:
        for name in dict.fromkeys(re.findall(r"\b\w+(?=\()|\b_\w+|\b[A-Z_]+\b", source)):
            if name in helpers or name not in {*known, *SHARED, *_NUMBERS}:
                continue
            if name in _NUMBERS:
                helpers[name] = f"\n{name} = {getattr(special, name)!r}\n"
            else:
                helpers[name] = known[name] if name in known else _bare(SHARED[name])
            texts.append(helpers[name])
    return helpers


def _bare(function: Callable[..., Any]) -> str:
    """Return the source of a function without its annotations, and with the first paragraph of its docstring."""
    head, _, body = inspect.getsource(function).partition(":\n")
    body = re.sub(r'"""(.*?)(\n\n.*?)?"""', r'"""\1"""', body, count=1, flags=re.DOTALL)
    names = ", ".join(re.findall(r"(\w+):", head))
    return re.sub(r"\b(erfc?)_of\(", r"\1(", f"\ndef {function.__name__}({names}):\n{body}")


def docstring_text(text: str) -> str:
    """Return a text that may stand in a docstring."""
    return printable(text).replace("\\", "\\\\").replace('"', "'")


class Lines(Page):
    """The lines of a function for people: values have names that say what they are, and lines stand under headings.

    Attributes:
        heading: The comment that the next lines stand under; "" for none.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        """Start empty; ``taken`` are names that no value may have."""
        super().__init__()
        self._taken = {*taken}
        self._values = 0
        self.heading = self._headed = ""

    def line(self, text: str) -> None:
        if text and self._headed != self.heading:
            self._headed = self.heading
            self.line("")
            self.comment(self.heading)
        super().line(text)

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


class Readable(Writer):
    """Writes one graph, lowered for NumPy, as lines."""

    def __init__(self, page: Lines, graph: Graph, names: Mapping[Node, str], results: Iterable[Any]) -> None:
        """Begin.

        Args:
            page: Where the lines go.
            graph: The graph.
            names: The names of its inputs.
            results: Everything that the engine computes of it.
        """
        super().__init__(graph, names, page)
        self.page: Lines = page
        self.results = [*results]
        self.wanted: Mapping[Node, str] = {}
        self.headings: Mapping[Node, str] = {}
        self.binding: dict[Node, int] = {}
        self.order = [node for node in order_nodes(self.results, self.names) if node not in names]
        self.lives = Lives()
        self.lives.home = {node: node for node in names}
        self.lives.layouts = dict.fromkeys(names)
        self.lives.follow(self.order)
        self.plain = {*names}  # C contiguous values
        self.strict = {*nodes_in(self.results)}  # those that must be, as the engine's are: strides change last bits
        self.uses = Counter(nodes_in(self.results))
        self._count(self.order)

    def write_results(self, wanted: Mapping[Node, str], headings: Mapping[Node, str] | None = None) -> list[str]:
        """Write the lines, and return the text of each result.

        Args:
            wanted: The names of values that get a line of their own.
            headings: The comment that the line of a value stands under.
        """
        self.wanted, self.headings = wanted, headings or {}
        self.write(self.order)
        return [self.text(result) if isinstance(result, Node) else self.number(result, "f") for result in self.results]

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

    def visit(self, node: Node) -> None:
        self.page.heading = self.headings.get(node, self.page.heading)
        super().visit(node)

    def define(self, node: Node, text: str) -> None:
        """Let the text of a value stand where it is used, or give it a line of its own."""
        plain, binding = self._is_plain(node), OPERATIONS[node.op].binding if node.op in _OPERATORS else TIGHT
        if not plain and node in self.strict and not OPERATIONS[node.op].view:
            text, binding, plain = f"np.ascontiguousarray({text})", TIGHT, True
        if plain:
            self.plain.add(node)
        if node not in self.wanted and self.uses[node] == 1 and len(text) <= _LONGEST and node.op not in _NAMED:
            self.names[node], self.binding[node] = text, binding
        else:
            self.names[node] = name = self.page.name(self.wanted[node]) if node in self.wanted else self.page.value()
            self.page.line(f"{name} = {text}")

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

    def text(self, value: Any, binding: int = 0) -> str:
        text = super().text(value, binding)
        return f"({text})" if isinstance(value, Node) and self.binding.get(value, TIGHT) < binding else text

    def number(self, value: Any, kind: str, binding: int = 0) -> str:
        text = super().number(value, kind).replace("inf", "np.inf").replace("nan", "np.nan")
        return f"({text})" if text.startswith("-") and binding > 1 else text

    def dtype(self, kind: str) -> str:
        return {"f": f"np.{self.graph.dtype}", "i": "np.int64", "b": "bool"}[kind]

    def full(self, node: Node) -> str:
        shape, dtype = self.shape(node.shape), self.dtype(node.kind)
        if node.kind == "f" and repr(node.fill) in ("0", "0.0"):
            return f"np.zeros({shape}, {dtype})"
        return f"np.full({shape}, {self.number(node.fill, node.kind)}, {dtype})"

    def constant(self, value: Any) -> str:
        constants = self.page.constants
        known = next((name for name, array in constants.items() if _bits(array) == _bits(value)), None)
        name = known or self.page.name("constant")
        constants[name] = value
        return name

    def template(self, node: Node) -> str:
        return OPERATIONS[node.op].text if node.op in _OPERATORS else super().template(node)

    def arguments(self, node: Node, template: str = "") -> list[str]:
        if template != OPERATIONS[node.op].text:
            return super().arguments(node, template)
        values, binding = operands(node), OPERATIONS[node.op].binding
        left = self.cast(node, values, max(binding, 1))  # what stands on the right must bind more tightly
        return [*left[:1], *self.cast(node, values, binding + 1)[1:]]

    def index(self, index: tuple[Any, ...]) -> str:
        """Return the text of an index, without whole axes at its end."""
        while len(index) > 1 and index[-1] is None:
            index = index[:-1]
        return super().index(index)

    def _where(self, node: Node) -> str:
        choices = operands(node)[1:]
        condition, *texts = self.arguments(node)
        if node.kind == "f" and not nodes_in(choices):
            if texts == ["1.0", "0.0"]:
                return self.fill_template(node, "{0}.astype({real})")
            texts = [f"{self.dtype('f')}({text})" for text in texts]
        return f"np.where({condition}, {', '.join(texts)})"

    def _reduce(self, node: Node) -> str:
        (x,), axes = node.args, node.attributes["axes"]
        if sums_over_rows(node, self.lives):
            reduction = f"sum_over_rows({self.text(x)}, {len(axes)})"
            return f"{reduction}.reshape({self.shape(node.shape)})" if node.attributes["keepdims"] else reduction
        ufunc = REDUCERS[node.op]
        if reduces_by_rows(node, self.lives):
            reduction = f"row_sums({self.text(x)})" if node.op == "sum" else f"row_extremes({self.text(x)}, {ufunc})"
            return f"{reduction}[..., None]" if node.attributes["keepdims"] else reduction
        keepdims = ", keepdims=True" if node.attributes["keepdims"] else ""
        axis = axes[0] if len(axes) == 1 else axes
        return f"{ufunc}.reduce({self.text(x)}, axis={axis}{keepdims})"

    def _matmul(self, node: Node) -> str:
        if not is_matrix_product(node):
            return self.fill_template(node, "np.matmul({0}, {1})")
        return f"{self.text(node.args[0], TIGHT)}.dot({self.text(node.args[1])})"

    def _rearrange(self, node: Node) -> str:
        turned = node.op == "transpose" and node.attributes["axes"] == (1, 0)
        text = self.fill_template(node, "{0}.T" if turned else self.template(node))
        return f"np.ascontiguousarray({text})" if node in self.lives.copies else text

    def _gather(self, node: Node) -> str:
        axes = node.attributes["axes"]
        if len(axes) == 1:
            return self.fill_template(node, f"np.take({{0}}, {{1}}, axis={axes[0]})")
        x, *indices = self.arguments(node, "{0}")
        return f"np.ascontiguousarray({x}[{gather_text(axes, indices)}])"

    def _place(self, node: Node) -> None:
        name = self.names[node] = self.page.value()
        self.page.line(f"{name} = np.zeros({self.shape(node.shape)}, {self.dtype(node.kind)})")
        self.plain.add(node)
        sign = "+=" if node.attributes["add"] else "="
        for index, text in zip(node.attributes["indices"], self.cast(node, node.args), strict=True):
            self.page.line(f"{name}[{self.index(index)}] {sign} {text}")

    def _set_index(self, node: Node) -> None:
        name = self.names[node] = self.page.value()
        x, value = self.cast(node, node.args)
        self.page.line(f"{name} = np.array({x}, {self.dtype(node.kind)})")
        self.page.line(f"{name}[{self.index(node.attributes['index'])}] = {value}")
        self.plain.add(node)

    def _loop(self, node: Node) -> None:
        body, lines, steps = node.attributes["body"], self.page, node.attributes["steps"]
        count = len(body.states)
        step = lines.name("t")
        read = {use.attributes["index"] for use in self.uses if use.op == "part" and use.args[0] is node}
        for index, state in enumerate(body.states):
            name = self.names[state] = self.names[node, index] = lines.name("state")
            lines.line(f"{name} = {self.cast(state, node.args[index : index + 1])[0]}")
            self.plain.add(state)
        for index in range(count, count + body.stacked):
            if index in read:
                output = body.outputs[index]
                self.names[node, index] = name = lines.name("stack")
                lines.line(f"{name} = np.empty({self.shape((steps, *output.shape))}, {self.dtype(output.kind)})")
        order = f"range({steps})"
        lines.line(f"for {step} in {f'reversed({order})' if node.attributes['reverse'] else order}:")
        outer, lines.indent = lines.indent, lines.indent + "    "
        for entry, sequence in zip(body.entries, node.args[count:], strict=False):
            self.names[entry] = f"{self.text(sequence, TIGHT)}[{step}]"
            self.plain.add(entry)
        self.write(self.lives.orders[node])
        for index in range(count, count + body.stacked):
            if index in read:
                lines.line(f"{self.names[node, index]}[{step}] = {self.text(body.outputs[index])}")
        left = [self.names[state] for state in body.states]
        right = [self.cast(state, [output])[0] for state, output in zip(body.states, body.outputs, strict=False)]
        lines.line(f"{', '.join(left)} = {', '.join(right)}")
        lines.indent = outer

    def _part(self, node: Node) -> str:
        return self.names[node.args[0], node.attributes["index"]]

    def _python(self, node: Node) -> str:
        problem = f"{node.attributes['name']} is a Python function without a graph, which no file can hold"
        raise SettingsError(problem, advice="write the formula with other NumPy functions")

    texts: ClassVar[Mapping[str, Text]] = {
        "where": _where,
        **dict.fromkeys(REDUCERS, _reduce),
        "matmul": _matmul,
        "reshape": _rearrange,
        "transpose": _rearrange,
        "gather": _gather,
        "place": _place,
        "set_index": _set_index,
        "loop": _loop,
        "part": _part,
        "python": _python,
    }


def _bits(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


_NAMED = frozenset({"loop", "place", "set_index"})
