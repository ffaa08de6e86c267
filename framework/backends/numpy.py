"""NumPy: a graph as the source of a Python function, compiled."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, ClassVar

import numpy as np

from framework.backends.memory import Home, Layout, Lives, Memory, Shape, small, stack_of_result
from framework.backends.runtime import choose, chosen, fold, gather, masked, scatter_add, total, windows
from framework.backends.writer import REDUCERS, Page, Text, Writer, gather_text, is_matrix_product, require_inputs
from framework.base.special import erf, erfc
from framework.graph import trace
from framework.graph.graph import Graph
from framework.graph.lower import lower
from framework.graph.node import Node, nodes_in, operands, order_nodes
from framework.graph.operations import OPERATIONS

_CALLED = (choose, chosen, erf, erfc, fold, gather, math.isfinite, masked, scatter_add, total, windows)
_NAMESPACE: dict[str, Any] = {
    "np": np,
    "inf": np.inf,
    "nan": np.nan,
    "isfinite": math.isfinite,
    **{f.__name__: f for f in _CALLED},
}
_TAKEN = {*_NAMESPACE, "memory", "real", "rows", "range", "reversed", "len"}
_OURS = re.compile(r"[cmnstv]\d+|ones\d+")
_OPERATORS = frozenset({"add", "subtract", "multiply", "negative"})
_OF_NUMBERS = _OPERATORS | {"divide"}
_WITH_NUMBERS = frozenset({"add", "subtract", "multiply", "divide", "minimum", "maximum"})
_OF_ONE_NUMBER = {"minimum": "<", "maximum": ">"}
"""A comparison is faster on single numbers. One that is NaN stays, as with NumPy's functions."""
_NEVER = math.inf
_WIDE = 256
"""Up to this length the maximum of a row is found column by column; NumPy is faster beyond."""
_LONG = 1024
"""Up to this length a sum is a product with ones; NumPy's pairwise sum is more accurate beyond."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """A graph as a Python function.

    Attributes:
        source: The function's source.
        function: The function: (memory, *inputs, *into), or (*inputs, *into) without memory.
        waits: Whether it is a generator, because it needs totals over shards: it yields the numbers of each phase as
            one array, and receives their totals.
        layout: The layout of its working arrays; None without memory.
        contiguous: The nodes whose values are known to be C contiguous.
        works: Whether the function reads its memory: one of plain numbers has no arrays.
    """

    source: str
    function: Callable[..., Any]
    layout: Layout | None
    contiguous: frozenset[Node] = frozenset()
    waits: bool = False
    works: bool = True

    def new_memory(self) -> Memory:
        """Return working memory of its own, which is laid out when it is first used; for a function with memory."""
        assert self.layout is not None
        return Memory(self.layout)

    def __call__(self, *arrays: Any, memory: Memory | None = None) -> Any:
        """Return the result, or the tuple of results; without ``memory`` in arrays of their own."""
        if self.layout is None:
            return self.function(*arrays)
        return self.function(memory if memory is not None else self.new_memory(), *arrays)


def emit(
    outputs: Mapping[str, Any],
    inputs: Mapping[str, Node],
    *,
    name: str = "formula",
    into: Mapping[str, str] | None = None,
    memory: bool = True,
    share: bool = False,
    contiguous: Collection[Node] = (),
    finite: int = 0,
) -> Emitted:
    """Return a graph as a NumPy function.

    With ``memory``, results and intermediate values are kept in working arrays, which a later call with the same memory
    overwrites. Without it, every operation allocates an array, an elementwise formula works on arrays of any shape and
    on numbers, and every result has the bits that NumPy's own functions give, except np.einsum.

    Args:
        outputs: Nodes and plain numbers by name; the function returns them in this order, a single one by itself.
        inputs: The nodes that are given, by the names of the function's parameters; the computation starts from them.
        name: The function's name.
        into: Names of outputs, each with the name of a further parameter: an array of the output's shape and dtype, C
            contiguous, which the result is written into. It must not overlap other arguments.
        memory: Whether the function works in memory that the caller keeps, as its first argument.
        share: Whether results may be views of one array; otherwise each has an array of its own.
        contiguous: The inputs that are known to be C contiguous.
        finite: How many outputs, single numbers that come first, must be finite; if one is not, the function returns
            them before it computes the others.

    Raises:
        DerivativeError: The outputs need an input that is not given.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> traced = trace(lambda x, w: np.maximum(x @ w, 0.0), {"x": (ROWS, 3), "w": (3, 2)})
        >>> emitted = emit({"output": traced.output}, traced.inputs)
        >>> print(emitted.source)
        def formula(memory, x, w):
            rows = x.shape[0]
            m0, = memory[rows]
            v0 = x.dot(w, out=m0)
            v1 = np.maximum(v0, c0, out=m0)
            return v1
        <BLANKLINE>
        >>> emitted(np.ones((1, 3)), np.ones((3, 2)))
        array([[3., 3.]])
    """
    into = {} if into is None else into
    values = [*outputs.values(), *inputs.values()]
    graph = next((node.graph for node in nodes_in(values)), None) or Graph()
    if not graph.lowered:
        values = lower(values, inputs.values(), exact=not memory)
        graph = next((node.graph for node in nodes_in(values)), graph)
    results, entering = values[: len(outputs)], dict(zip(inputs, values[len(outputs) :], strict=True))
    writer = NumPy(graph, Layout(graph.dtype, graph.rows) if memory else None, share=share)
    writer.lives.layouts |= {node: small(node) for node in contiguous}
    writer.finite = results[:finite]
    source = writer.function(_safe(name, 0), dict(zip(outputs, results, strict=True)), entering, into)
    namespace = {**_NAMESPACE, "real": np.dtype(graph.dtype).type, **writer.page.constants}

    def run_source() -> CodeType:
        exec(source, defined := dict[str, Any]())  # not compile(), whose first call in a process takes milliseconds
        code: CodeType = defined[_safe(name, 0)].__code__
        return code

    function = FunctionType(trace.share(("code", source), run_source), namespace)
    known = frozenset(node for node in nodes_in(results) if writer.lives.contiguous(node))
    works = "memory" in source.partition("\n")[2]
    return Emitted(source, function, writer.layout, known, bool(writer.totals), works)


def _safe(name: str, index: int) -> str:
    """Return a name that is safe in the source: no text of a user's becomes code."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name.endswith("_"):
        return f"input{index}_"
    return f"{name}_" if name in _TAKEN or keyword.iskeyword(name) or _OURS.fullmatch(name) else name


def reduces_by_rows(node: Node, lives: Lives) -> bool:
    """Return whether a reduction over contiguous rows is faster as a product with ones, or column by column."""
    x, longest = node.args[0], {"sum": _LONG, "max": _WIDE, "min": _WIDE}.get(node.op, -1)
    over_rows = node.shape and node.kind == "f" and node.attributes["axes"] == (x.ndim - 1,)
    return bool(over_rows) and x.shape[-1] <= longest and lives.contiguous(x)


def _with_number(values: Sequence[Any]) -> tuple[Node, float] | None:
    """Return a node and a number other than 0 and NaN, in this order, if these are the arguments."""
    number, node = sorted(values, key=lambda value: isinstance(value, Node))
    return (node, number) if not isinstance(number, Node) and abs(number) > 0 else None


def sums_over_rows(node: Node, lives: Lives) -> bool:
    """Return whether a sum over the rows, and the axes after them, is faster as a product with ones."""
    x, axes = node.args[0], node.attributes["axes"]
    leading = node.op == "sum" and axes == tuple(range(len(axes))) and node.graph.rows_in(x.shape[0]) > 0
    several = node.kind == "f" and math.prod(x.shape[len(axes) :]) > 1
    return leading and several and (x.ndim == 2 or x.op == "input" or lives.contiguous(x))


class NumPy(Writer):
    """Writes a function that works in planned memory, or without memory."""

    def __init__(self, graph: Graph, layout: Layout | None, *, share: bool = False) -> None:
        super().__init__(graph, {}, Page())
        self.layout, self.share = layout, share
        self.lives = Lives()
        self.numbers: dict[str, str] = {}  # names of plain numbers among the constants
        self.clock = 0
        self.free: list[str] = []  # names of values that are no longer read
        self.own: set[Node] = set()
        self.targets: dict[Node, str] = {}  # arrays outside the memory that a node is to be written into
        self.slots: dict[Home, tuple[str, int]] = {}  # the working array of each home, and its slot
        self.deaths: dict[float, list[Home]] = {}
        self.given: set[Node] = set()
        self.aims: dict[str, Node] = {}  # the node that an output's array is the target of
        self.unread: set[Node] = set()  # views of such nodes that need no line
        self.ones: dict[int, str] = {}  # names of arrays of ones whose length depends on the number of rows
        self.totals: dict[int, list[Node]] = {}  # over shards, by their phase
        self.finite: Sequence[Any] = ()  # the results that must be finite, until that is checked
        self.begun: dict[Node, tuple[str, set[Node]]] = {}  # arrays of "place" nodes, and the parts computed there

    # the function

    def function(
        self, name: str, outputs: Mapping[str, Any], inputs: Mapping[str, Node], into: Mapping[str, str]
    ) -> str:
        """Return the source of the function."""
        parameters = {text: _safe(text, index) for index, text in enumerate(dict.fromkeys([*inputs, *into.values()]))}
        self.names = {node: parameters[text] for text, node in inputs.items()}
        self.given = set(self.names)
        self.lives.home = {node: node for node in self.names}
        self.lives.layouts = dict.fromkeys(self.names) | self.lives.layouts
        order = [node for node in order_nodes(outputs.values(), set(self.names)) if node not in self.names]
        require_inputs(order)
        order = self._in_phases(order)
        self.lives.follow(order)
        for output in nodes_in(outputs.values()):
            self.lives.last[self.lives.home[output]] = _NEVER
        for home, time in self.lives.last.items():
            self.deaths.setdefault(time, []).append(home)
        for key, text in into.items():
            self._aim(key, outputs[key], parameters[text])
        self.lives.read |= dict.fromkeys(nodes_in(outputs.values()), _NEVER)
        self.write(order)
        results = self._results(outputs, inputs, into, parameters)
        self.page.line(f"return {', '.join(results)}")
        head = [*(["memory"] if self.layout else []), *parameters.values()]
        return "\n".join([f"def {name}({', '.join(head)}):", *self._beginning(inputs), *self.page.lines, ""])

    def _in_phases(self, order: list[Node]) -> list[Node]:
        """Return an order of computation in which totals over shards that do not need one another come together."""
        phase: dict[Node, int] = {}
        for node in order:
            before = (phase[arg] + (arg.op == "total") for arg in nodes_in(node.args) if arg in phase)
            phase[node] = max(before, default=0)
            if node.op == "total":
                self.totals.setdefault(phase[node], []).append(node)
        return sorted(order, key=lambda node: (phase[node], node.op == "total")) if self.totals else order

    def _beginning(self, inputs: Mapping[str, Node]) -> list[str]:
        """Return the lines that find the number of rows, and the working arrays for it."""
        lines = []
        if self.layout and (count := self.page.count("m")):
            arrays = ", ".join(f"m{index}" for index in range(count))
            lines.append(f"    {arrays}{',' if count == 1 else ''} = memory[rows]")
        lines = [*self.rows_line(inputs.values(), lines), *lines]
        if self.layout:  # arithmetic with an array of no axes is slow
            single = (node for node in inputs.values() if node.op == "input" and self.lives.layouts[node] is None)
            lines += [
                f"    {self.names[node]} = {self.names[node]}[()]"
                for node in single
                if not node.shape and node in self.lives.read
            ]
        return lines

    def _aim(self, name: str, output: Any, target: str) -> None:
        """Let the last operation of an output write into the given array where possible."""
        node = output
        while isinstance(node, Node) and node.op == "reshape" and node not in self.lives.copies:
            node = node.args[0]
        if not isinstance(node, Node) or node in self.names or node in self.targets or not node.shape:
            return
        self.aims[name] = node
        self.targets[node] = target if node is output else f"{target}.reshape({self.shape(node.shape)})"
        if node is not output and self.lives.read[output] == self.lives.time[output]:
            self.unread.add(output)

    def _results(
        self,
        outputs: Mapping[str, Any],
        inputs: Mapping[str, Node],
        into: Mapping[str, str],
        parameters: Mapping[str, str],
    ) -> list[str]:
        """Write the copies that are still missing, and return the texts of the results."""
        written = {name for name, node in self.aims.items() if node not in self.targets}
        homes = {name: self.lives.home[value] for name, value in outputs.items() if isinstance(value, Node)}
        texts = {name: parameters[text] for name, text in into.items()}
        for name, text in texts.items():
            if name not in written:
                self.page.line(f"{text}[...] = {self.text(outputs[name])}")
        taken = {homes[name] for name in written}
        for name, value in outputs.items():
            if name in texts:
                continue
            if not isinstance(value, Node):
                texts[name] = self._plain(value, inputs)
            elif homes[name] in taken or self._is_foreign(homes[name], inputs):
                texts[name] = self._copy(value)
            else:
                texts[name] = self.text(value)
                taken |= set() if self.share else {homes[name]}
        return [texts[name] for name in outputs]

    def _is_foreign(self, home: Home, inputs: Mapping[str, Node]) -> bool:
        """Return whether a result must be copied: it is in an input or a constant, or is a broadcast number."""
        if not isinstance(home, Node):
            return False
        return home.op in ("constant", "broadcast_to") or (self.layout is not None and home in inputs.values())

    def _plain(self, value: float, inputs: Mapping[str, Node]) -> str:
        """Return the text of a result that is a plain number."""
        if self.layout or not inputs:
            return f"real({value!r})"
        return f"np.full_like({self.names[next(iter(inputs.values()))]}, {value!r}, dtype=real)[()]"

    def _copy(self, value: Any) -> str:
        """Write a copy of a result, and return its text."""
        if not isinstance(value, Node) or not value.shape:
            return self.text(value)
        if self.layout is None:
            return f"np.array({self.text(value)})[()]"
        array = self.array(("copy", self.page.count("m")), value.shape, value.kind)
        self.page.line(f"{array}[...] = {self.text(value)}")
        return array

    # names and arrays

    def text(self, value: Any, binding: int = 0) -> str:
        if value in self.unread:
            self.unread.remove(value)
            self.visit(value)
        return super().text(value, binding)

    def full(self, node: Node) -> str:
        """Return the text of an array filled with one number."""
        if self.layout is None:
            for input_node, name in self.names.items():
                if input_node in self.given and input_node.shape == node.shape:
                    return f"np.full_like({name}, {node.fill!r}, dtype={self.dtype(node.kind)})[()]"
        return f"np.broadcast_to({self.dtype(node.kind)}({node.fill!r}), {self.shape(node.shape)})"

    def define(self, node: Node, text: str) -> None:
        """Write the line that computes a node; without memory it reuses a free name, which drops that array."""
        if self.layout is None and OPERATIONS[node.op].elementwise and not self.lives.orders:
            dead = (arg for arg in dict.fromkeys(nodes_in(node.args)) if self.lives.read[arg] == self.clock)
            self.free += [
                self.names[arg] for arg in dead if self.names.get(arg, "").startswith("v") and arg in self.own
            ]
        self.own.add(node)
        self.names[node] = self.free.pop() if self.free else self.page.name("v")
        self.page.line(f"{self.names[node]} = {text}")

    def array(self, home: Home, shape: Shape, kind: str) -> str:
        """Return the name of a working array."""
        name = self.page.name("m")
        if self.layout is None:
            self.page.line(f"{name} = np.empty({self.shape(shape)}, {self.dtype(kind)})")
        else:
            self.slots[home] = name, self.layout.take(shape, kind)
        return name

    def _ones(self, size: int) -> str:
        """Return the name of an array of ones."""
        if not self.graph.rows_in(size):
            self.page.constants[f"ones{size}"] = np.ones(size, self.graph.dtype)
            return f"ones{size}"
        if size not in self.ones:
            assert self.layout is not None
            self.ones[size] = self.page.name("m")
            self.layout.ones(size)
        return self.ones[size]

    def reshape_text(self, name: str, shape: Shape, wanted: Shape) -> str:
        """Return the text of an array in another shape."""
        return name if shape == wanted else f"{name}.reshape({self.shape(wanted)})"

    def _fills(self, arg: Node, home: Home, node: Node) -> bool:
        """Return whether an argument fills its whole array, with each element where that of the node will be."""
        same = isinstance(home, Node) and arg.shape == node.shape and arg.kind == node.kind
        return same and math.prod(home.shape) == math.prod(arg.shape) and self.lives.contiguous(arg)

    def into(self, node: Node, reusable: Iterable[Any] = ()) -> str:
        """Return the text of the array to write a node into: that of one of these arguments if it is free."""
        if node in self.targets:
            return self.targets.pop(node)
        for arg in nodes_in(reusable):
            home = self.lives.home[arg]
            if home in self.slots and self.lives.last[home] == self.clock and self._fills(arg, home, node):
                name, slot = self.slots.pop(home)
                if self.layout and home.shape != node.shape:
                    name = self.page.name("m")
                    self.layout.share(slot, node.shape, node.kind)
                self.slots[node] = name, slot
                return name
        return self.array(node, node.shape, node.kind)

    def out_argument(self, node: Node) -> str:
        if node in self.targets or (self.layout and node.shape):
            return f", out={self.into(node, node.args if OPERATIONS[node.op].elementwise else ())}"
        return ""

    # operations

    def write(self, order: Iterable[Node]) -> None:
        """Write a line, or a few, for each node."""
        order = list(order)
        owners = self._owners(order)
        for node in order:
            if node in owners and owners[node] not in self.begun:
                self._begin_place(owners[node], owners)
            if node not in self.unread:
                self.visit(node)
            for home in self.deaths.get(self.clock, ()):
                self.free_array(home)
            self.clock += 1
            if self.finite and all(result in self.names for result in nodes_in(self.finite)):
                self._require_finite()

    def _require_finite(self) -> None:
        """Write the end of a function whose first results are not finite."""
        texts = [self.text(result) if isinstance(result, Node) else f"real({result!r})" for result in self.finite]
        self.page.line(f"if not ({' and '.join(f'isfinite({text})' for text in texts)}):")
        self.page.line(f"    return {', '.join(texts)},")
        self.finite = ()

    def free_array(self, home: Home) -> None:
        """Let the working array of a value be used again."""
        if self.layout and home in self.slots:
            self.layout.give_back(self.slots.pop(home)[1])

    def template(self, node: Node) -> str:
        """Return the template of the table; without memory an operator, which is faster on single numbers."""
        single = node.op in _OPERATORS if self.layout is None else not node.shape and node.op in _OF_NUMBERS
        if self.layout and is_matrix_product(node):
            return "{0}.dot({1}{out})"  # twice as fast as matmul for small matrices
        return OPERATIONS[node.op].text if single else super().template(node)

    def arguments(self, node: Node, template: str = "") -> list[str]:
        """Return the texts of the arguments; a number beside arrays is an array, so that NumPy need not make one."""
        texts = super().arguments(node, template)
        if self.layout and node.shape and node.op in _WITH_NUMBERS:
            values = operands(node)
            if all(x.kind == "f" for x in nodes_in(values)):
                return [t if isinstance(x, Node) else self._number(x) for x, t in zip(values, texts, strict=True)]
        return texts

    def _extreme(self, node: Node) -> str:
        """Return the text of a minimum or maximum: of one number and a plain one it is a comparison."""
        pair = _with_number(operands(node))
        if self.layout and not node.shape and pair and pair[0].kind == "f":
            text, number = self.text(pair[0]), self._number(pair[1], single=True)
            return f"{number} if {number} {_OF_ONE_NUMBER[node.op]} {text} else {text}"
        return self.fill_template(node, self.template(node))

    def _number(self, value: float, *, single: bool = False) -> str:
        """Return the name of a number as an array of no axes, or as a scalar."""
        key = f"{value!r} {single}"  # 0.0 and -0.0 are equal
        if key not in self.numbers:
            with np.errstate(over="ignore"):
                number = np.array(value, self.graph.dtype)
            self.numbers[key] = self.constant(number[()] if single else number)
        return self.numbers[key]

    def _where(self, node: Node) -> str | None:
        condition, a, b = self.arguments(node)
        if node.kind != "f":
            return f"np.where({condition}, {a}, {b})[()]"
        if not self.layout or not node.shape:
            constant = (a, b) == ("1.0", "0.0") and not self.layout
            return f"{condition}.astype(real)" if constant else f"chosen({condition}, {a}, {b}, real)"
        if (a, b) == ("1.0", "0.0"):
            self._assign(node, condition)
            return None
        if b in ("0.0", "0"):
            return f"masked({condition}, {a}, {self.into(node, node.args[1:2])})"
        first, second = (self.lives.home.get(arg) for arg in node.args[1:])
        return f"choose({condition}, {a}, {b}, {self.into(node, node.args[1:2] if first is not second else ())})"

    def _assign(self, node: Node, text: str) -> None:
        """Write a text into the array of a node."""
        self.define(node, self.into(node))
        self.page.line(f"{self.names[node]}[...] = {text}")

    def _reduce(self, node: Node) -> str | None:
        (x,), axes = node.args, node.attributes["axes"]
        if self.layout and sums_over_rows(node, self.lives):
            length, width = (math.prod(axes_of_part) for axes_of_part in (x.shape[: len(axes)], x.shape[len(axes) :]))
            text = self.reshape_text(self.text(x), x.shape, (length, width))
            self.define(node, self.into(node))
            out = self.reshape_text(self.names[node], node.shape, (width,))
            self.page.line(f"{self._ones(length)}.dot({text}, out={out})")
            return None
        if self.layout and reduces_by_rows(node, self.lives):
            length, width = math.prod(x.shape[:-1]), x.shape[-1]
            text = self.reshape_text(self.text(x), x.shape, (length, width))
            self.define(node, self.into(node))
            out = self.reshape_text(self.names[node], node.shape, (length,))
            if node.op == "sum":
                self.page.line(f"{text}.dot({self._ones(width)}, out={out})")
                return None
            home = ("turned", node)
            turned = self.array(home, (width, length), x.kind)
            self.page.line(f"{turned}[...] = {text}.T")
            self.page.line(f"{REDUCERS[node.op]}.reduce({turned}, axis=0, out={out})")
            self.free_array(home)
            return None
        keepdims = ", keepdims=True" if node.attributes["keepdims"] else ""
        return f"{REDUCERS[node.op]}.reduce({self.text(x)}, axis={axes}{keepdims}{self.out_argument(node)})"

    def _astype(self, node: Node) -> str | None:
        if not self.layout or not node.shape:
            return self.fill_template(node, self.template(node))
        self._assign(node, self.text(node.args[0]))
        return None

    def _rearrange(self, node: Node) -> str | None:
        """Write a reshape or a transpose, as a view or as a copy."""
        text = self.fill_template(node, self.template(node))
        if node not in self.lives.copies or not self.layout:
            return text
        if node.op == "transpose":
            self._assign(node, text)
        else:
            self.define(node, self.into(node))
            self.page.line(
                f"{self.names[node]}.reshape({self.shape(node.args[0].shape)})[...] = {self.text(node.args[0])}"
            )
        return None

    def _owners(self, order: list[Node]) -> dict[Node, Node]:
        """Return the parts that can be computed in place, each with the node that places it."""
        here, lives = set(order), self.lives
        return {
            value: node
            for node in order
            if self.layout and node.op == "place" and not node.attributes["add"]
            for value in node.args
            if value in here
            and value.shape
            and OPERATIONS[value.op].elementwise
            and lives.last[value] == lives.time[node]  # nothing reads it later
            and value.kind == node.kind
            and node.args.count(value) == 1
        }

    def _begin_place(self, node: Node, owners: Mapping[Node, Node]) -> None:
        """Make the array of a "place" node, and have its parts computed there."""
        name, aimed = self.begun[node] = self.into(node), set[Node]()
        size = sum(math.prod(arg.shape) if isinstance(arg, Node) else 1 for arg in node.args)
        if node.attributes["add"] or size < math.prod(node.shape):
            self.page.line(f"{name}.fill(0)")
        for index, value in zip(node.attributes["indices"], node.args, strict=True):
            if owners.get(value) is node:
                self.targets[value] = f"{name}[{self.index(index)}]"
                aimed.add(value)

    def _place(self, node: Node) -> None:
        if node not in self.begun:
            self._begin_place(node, {})
        (name, aimed), sign = self.begun[node], "+=" if node.attributes["add"] else "="
        self.define(node, name)
        for index, value in zip(node.attributes["indices"], node.args, strict=True):
            if value not in aimed or self.targets.pop(value, ""):  # or it has an array of its own nevertheless
                self.page.line(f"{self.names[node]}[{self.index(index)}] {sign} {self.text(value)}")

    def _set_index(self, node: Node) -> None:
        x, value = self.arguments(node)
        before = self.slots.get(node.args[0])
        self.define(node, self.into(node, node.args[:1]))
        if before is None or self.slots.get(node) is not before:
            self.page.line(f"{self.names[node]}[...] = {x}")
        self.page.line(f"{self.names[node]}[{self.index(node.attributes['index'])}] = {value}")

    def _pad(self, node: Node) -> None:
        (x,), (text,), width = node.args, self.arguments(node), node.attributes["width"]
        inner = tuple((a, a + size, 1) if a or b else None for (a, b), size in zip(width, x.shape, strict=True))
        self.define(node, self.into(node))
        self.page.line(f"{self.names[node]}.fill({node.attributes['value']!r})")
        self.page.line(f"{self.names[node]}[{self.index(inner)}] = {text}")

    def _fold(self, node: Node) -> str:
        (g,) = self.arguments(node)
        axes, window, steps = (node.attributes[key] for key in ("axes", "window", "steps"))
        return f"fold({g}, {axes}, {window}, {steps}, {self.into(node)})"

    def _gather(self, node: Node) -> str:
        x, *indices = self.arguments(node)
        axes = node.attributes["axes"]
        if self.layout and len(axes) == 1 and node.shape:
            return f"gather({x}, {indices[0]}, {axes[0]}, {self.into(node)})"
        return f"{x}[{gather_text(axes, indices)}]"

    def _total(self, node: Node) -> None:
        """Write all totals of a phase with the first one: one exchange."""
        together = next(nodes for nodes in self.totals.values() if node in nodes)
        values_text = ", ".join(self.text(total.args[0]) for total in together)
        self.names |= {total: self.page.name("v") for total in together}
        self.page.line(f"{', '.join(self.names[total] for total in together)}, = yield from total(real, {values_text})")

    def _python(self, node: Node) -> str:
        return f"{self.constant(node.attributes['function'])}({', '.join(self.arguments(node))})"

    def _call_model(self, node: Node) -> str:
        """Return the text of a call of a model whose passes Python runs."""
        called, back = node.attributes["called"], node.op == "call_back"
        name = self.constant(called.backward if back else called.forward)
        return f"{name}({', '.join([*([] if back else ['memory']), *self.arguments(node)])})"

    # loops

    def _part(self, node: Node) -> None:
        whole, index = node.args[0], node.attributes["index"]
        self.names[node] = self.names[whole, index] if whole.op == "loop" else f"{self.names[whole]}[{index}]"

    texts: ClassVar[Mapping[str, Text]] = {
        "where": _where,
        **dict.fromkeys(_OF_ONE_NUMBER, _extreme),
        **dict.fromkeys(REDUCERS, _reduce),
        "astype": _astype,
        "reshape": _rearrange,
        "transpose": _rearrange,
        "place": _place,
        "set_index": _set_index,
        "pad": _pad,
        "fold": _fold,
        "gather": _gather,
        "python": _python,
        "call": _call_model,
        "call_back": _call_model,
        "total": _total,
        "loop": lambda writer, node: _Loop(writer, node).write(),
        "part": _part,
    }


class _Loop:
    """Writes a loop: stacks are written in place; a state alternates between two arrays unless it is in a stack."""

    def __init__(self, writer: NumPy, node: Node) -> None:
        self.writer, self.node, self.body = writer, node, node.attributes["body"]
        self.count = len(self.body.states)
        self.stacks = range(self.count, self.count + self.body.stacked)
        self.sums = range(self.count + self.body.stacked, len(self.body.outputs))
        self.step, self.steps = writer.page.name("t"), node.attributes["steps"]
        self.targets: dict[int, str] = {}  # the array that a new state or an entry of a stack is to be written into
        self.before: list[tuple[str, str]] = []  # assignments before the loop
        self.after: list[tuple[str, str]] = []  # and at the end of each step

    def write(self) -> None:
        """Write the lines."""
        writer, body, node = self.writer, self.body, self.node
        for index in self.stacks:
            shape = (self.steps, *body.outputs[index].shape)
            array = writer.names[node, index] = writer.array((node, index), shape, body.outputs[index].kind)
            self.targets[index] = f"{array}[{self.step}]"
        for index in self.sums:
            self._begin_sum(index)
        for index in range(self.count):
            self._begin_state(index)
        for left, right in self.before:
            writer.page.line(f"{left} = {right}")
        steps = f"range({self.steps})"
        writer.page.line(f"for {self.step} in {f'reversed({steps})' if node.attributes['reverse'] else steps}:")
        writer.page.indent += "    "
        for entry, sequence in zip(body.entries, node.args[self.count :], strict=False):
            writer.define(entry, f"{writer.text(sequence)}[{self.step}]")
        aimed = self._aim()
        writer.write(writer.lives.orders[node])
        self._end({index for index in aimed if body.outputs[index] not in writer.targets})
        writer.page.indent = writer.page.indent[4:]
        for index in range(self.count):
            last, free = (node, index), (node, index, "next")
            if free in writer.slots and self.steps % 2:  # the last swap has left the state in the other array
                writer.slots[last], writer.slots[free] = writer.slots[free], writer.slots[last]
            writer.free_array(free)

    def _begin_sum(self, index: int) -> None:
        output, key = self.body.outputs[index], (self.node, index)
        if output.shape:
            self.writer.names[key] = self.writer.array(key, output.shape, output.kind)
            self.writer.page.line(f"{self.writer.names[key]}.fill(0)")
        else:
            self.writer.names[key] = self.writer.page.name("s")
            self.before.append((self.writer.names[key], "real(0.0)"))

    def _begin_state(self, index: int) -> None:
        writer, output, key = self.writer, self.body.outputs[index], (self.node, index)
        name = writer.names[key] = writer.names[self.body.states[index]] = writer.page.name("s")
        first = writer.text(self.node.args[index])
        stack = stack_of_result(self.node, index)
        if not output.shape:
            self.before.append((name, first))
        elif stack != index:
            self.before.append((name, first))
            self.after.append((name, self.targets[stack]))
        else:
            arrays = [writer.array(home, output.shape, output.kind) for home in (key, (*key, "next"))]
            self.targets[index] = f"n{name[1:]}"
            writer.page.line(f"{arrays[0]}[...] = {first}")
            self.before += [(name, arrays[0]), (self.targets[index], arrays[1])]
            self.after += [(name, self.targets[index]), (self.targets[index], name)]

    def _aim(self) -> list[int]:
        """Have the step write what it can straight into the stacks and the new states."""
        aimed = []
        inside = set(self.writer.lives.orders[self.node])
        for index, target in self.targets.items():
            output = self.body.outputs[index]
            if output in inside and output.shape and output not in self.writer.targets:
                self.writer.targets[output] = target
                aimed.append(index)
        return aimed

    def _end(self, written: set[int]) -> None:
        """Write the end of a step: what is still to be copied, the sums, and the new states."""
        writer, outputs = self.writer, self.body.outputs
        for index, target in self.targets.items():
            if index not in written:
                writer.targets.pop(outputs[index], None)
                text = writer.text(outputs[index])
                writer.page.line(f"{target} = {text}" if index in self.stacks else f"{target}[...] = {text}")
        for index in self.sums:
            total, text = writer.names[self.node, index], writer.text(outputs[index])
            if outputs[index].shape:
                writer.page.line(f"np.add({total}, {text}, out={total})")
            else:
                self.after.append((total, f"{total} + {text}"))
        for index in range(self.count):
            if not outputs[index].shape:
                self.after.append((writer.names[self.node, index], writer.text(outputs[index])))
        if self.after:
            left, right = zip(*self.after, strict=True)
            writer.page.line(f"{', '.join(left)} = {', '.join(right)}")
