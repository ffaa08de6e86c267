"""Writer: a graph as nodes of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from framework.arrays import Array
from framework.emit.numpy import emit
from framework.errors import SettingsError
from framework.export.file import File, Size
from framework.export.operations import FORMULAS, INTEGERS, LOGIC, OPERATORS, STRUCTURES, WIDE
from framework.graph.graph import Graph, kind_of
from framework.graph.lower import softmax_in
from framework.graph.node import Node, dependents, nodes_in, operands, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import Symbol, symbol_of, value_of


class Writer:
    """Writes a graph into a file.

    Attributes:
        file: The file.
        graph: The graph.
    """

    def __init__(
        self,
        file: File,
        graph: Graph,
        numbers: Mapping[str, tuple[Node, Array]] | None = None,
        layer_of: Callable[[Node], str] = lambda _node: "",
    ) -> None:
        """Begin.

        Args:
            file: The file.
            graph: The graph.
            numbers: The arrays that are known, by their names in the file, each with its node.
            layer_of: (node) -> the name of the layer that made it.
        """
        self.file, self.graph = file, graph
        self._layer_of = layer_of
        self._numbers = {node: (name, value) for name, (node, value) in (numbers or {}).items()}
        self._names: dict[Node, str] = {}
        self._still: set[Node] = set()  # what depends on known arrays alone
        self._loops: dict[Node, list[str]] = {}
        self._dtypes = {"f": graph.dtype, "i": "int64", "b": "bool"}

    def given(self, name: str, shape: tuple[int, ...], kind: str = "f") -> Symbol:
        """Return a value of the file, by its name, as a symbol of the graph."""
        node = self.graph.input(name, shape, kind)
        self._names[node] = name
        return Symbol(node)

    def name(self, node: Node, name: str) -> None:
        """Say which value of the file a node of the graph is."""
        self._names[node] = name

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to the file, and return the name of its output."""
        return self.file.op(operator, *inputs, **attributes)

    def array(self, value: Any, kind: str) -> str:
        """Store an array in the dtype of a kind, and return its name."""
        return self.file.array(np.asarray(value).astype(self._dtypes[kind]))

    def dtype(self, node: Node) -> str:
        """Return the dtype of a node in the file."""
        return self._dtypes[node.kind]

    def sizes(self, shape: tuple[int, ...]) -> list[Size]:
        """Return a shape with a name for the number of rows."""
        return ["rows" if self.graph.rows_in(size) == 1 else size for size in shape]

    def shape(self, shape: tuple[int, ...]) -> str:
        """Return the name of a shape, in which sizes may be multiples of the number of rows."""
        times = [self.graph.rows_in(size) for size in shape]
        if not any(times):
            return self.file.integers(shape)
        sizes = [0 if n else size for n, size in zip(times, shape, strict=True)]
        return self.op("Add", self.file.rows(times), self.file.integers(sizes))

    def count(self, times: int) -> str:
        """Return the name of a multiple of the number of rows, as a number."""
        return self.op("Squeeze", self.file.rows([times]), self.file.integers([0]))

    def cast(self, name: str, kind: str) -> str:
        """Return the name of an array in the dtype of a kind."""
        return self.file.cast(name, self._dtypes[kind])

    def transposed(self, node: Node, axes: tuple[int, ...]) -> str:
        """Return the name of a transposed array, which is stored so if the array is stored."""
        name = self.text(node, node.kind)
        stored = self.file.stored.get(name)
        if stored is None:
            return self.op("Transpose", name, perm=[*axes])
        return self.file.array(np.ascontiguousarray(stored.transpose(axes)), name=f"{name} transposed")

    def write(self, outputs: Iterable[Node]) -> list[str]:
        """Write what these nodes are computed from, and return their names."""
        outputs = [*outputs]
        self._fold(outputs)
        self._write(ordered(outputs))
        return [self.text(node, node.kind) for node in outputs]

    def _fold(self, outputs: list[Node]) -> None:
        """Compute what depends on the parameters alone, and store the results."""
        order = ordered(outputs)
        here = {*order}
        numbers = {node: known for node, known in self._numbers.items() if node in here}
        begin = [node for node in order if node.op in ("input", "rows", "row_numbers") and node not in numbers]
        begin += [node for node in order if any(map(self.graph.rows_in, node.shape))]
        moving = dependents(order, dict.fromkeys(begin))
        self._still = here - moving
        used = {arg for node in moving for arg in nodes_in(node.args)} - moving
        fixed = [node for node in order if node in used and node.fill is None]
        for node in fixed:
            if node in numbers:
                name, value = numbers[node]
                self._names[node] = self.file.array(value, self._dtypes[node.kind], name)
        computed = [node for node in fixed if node not in numbers]
        if computed:
            found = emit(
                {str(place): node for place, node in enumerate(computed)},
                {name: node for node, (name, _) in numbers.items()},
                memory=False,
            )(*(value.astype(self._dtypes[node.kind]) for node, (_, value) in numbers.items()))
            for node, value in zip(computed, found if len(computed) > 1 else [found], strict=True):
                self._names[node] = self.array(value, node.kind)

    def _write(self, order: Iterable[Node]) -> None:
        for node in order:
            if node not in self._names and node not in self._still:
                self.file.layer = self._layer_of(node) or self.file.layer
                self._names[node] = self._written(node)

    def _written(self, node: Node) -> str:
        """Write a node, and return the name of its result."""
        node = softmax_in(self.graph, node) or node
        kinds = {kind_of(arg) for arg in node.args}
        if kinds == {"b"} and node.op in LOGIC:
            return self.op(LOGIC[node.op], *self.args(node, "b"))
        if node.kind == "i" and node.op in INTEGERS:
            return INTEGERS[node.op](self, *self.args(node))
        if self.graph.dtype == "float64" and node.op in WIDE:
            return self.formula(WIDE[node.op], node)
        if node.op in FORMULAS:
            return self.formula(FORMULAS[node.op], node)
        if node.op in STRUCTURES:
            return STRUCTURES[node.op](self, node)
        if node.op not in OPERATORS:
            self._refuse(node)
        if node.op == "where":
            condition, a, b = node.args
            if node.kind == "b":  # ONNX Runtime does not choose between booleans
                chosen, not_chosen = self.text(condition, "b"), self.op("Not", self.text(condition, "b"))
                parts = [self.op("And", c, self.text(x, "b")) for c, x in ((chosen, a), (not_chosen, b))]
                return self.op("Or", *parts)
            names = [self.text(condition, "b"), self.text(a, node.kind), self.text(b, node.kind)]
            return self.op("Where", *names)
        kind = "f" if "f" in kinds or node.kind == "f" else "i"
        return self.op(OPERATORS[node.op], *self.args(node, kind))

    def args(self, node: Node, kind: str | None = None) -> list[str]:
        """Return the names of the arguments of a node in a kind, by default that of the node."""
        values = operands(node) if OPERATIONS[node.op].elementwise else node.args
        return [self.text(value, kind or node.kind) for value in values]

    def text(self, value: Any, kind: str) -> str:
        """Return the name of a node or a number, in a kind."""
        if not isinstance(value, Node):
            return self.file.number(value, self._dtypes[kind])
        if value not in self._names:
            self._names[value] = self._written(value)
        name = self._names[value]
        return name if value.kind == kind else self.cast(name, kind)

    def formula(self, formula: Callable[..., Any], node: Node, *more: str) -> str:
        """Write an operation as a formula of its arguments, and of further values of the result's shape by name."""
        given = [self.given(name, node.shape) for name in more]
        made = formula(*map(symbol_of, node.args), *given, **node.attributes)
        return self.computed(value_of(made), node.kind)

    def computed(self, value: Any, kind: str) -> str:
        """Return the name of a value that was added to the graph while it was being written."""
        if isinstance(value, Node):
            self._write(ordered([value], {*self._names}))
        return self.text(value, kind)

    def loop(self, node: Node) -> str:
        """Write a recurrence as a Scan, whose body is a graph of its own."""
        body, file = node.attributes["body"], self.file
        count = len(body.states)
        inside = (*body.states, *body.entries)
        inputs = [self.text(value, part.kind) for value, part in zip(node.args, inside, strict=False)]
        for captured in node.args[len(inside) :]:
            self.text(captured, captured.kind)
        outer, names, file.nodes = file.nodes, dict(self._names), []
        given = {part: file.new("step") for part in inside}
        self._names |= given
        self._write(body.order())
        outputs = body.outputs[: count + body.stacked]
        results = [self.op("Identity", self.text(output, output.kind)) for output in outputs]
        described = [
            [file.described(name, self._dtypes[part.kind], None) for part, name in pairs]
            for pairs in (given.items(), zip(outputs, results, strict=True))
        ]
        graph = file.onnx.helper.make_graph(file.nodes, "step", *described)
        file.nodes, self._names = outer, names
        back = int(node.attributes["reverse"])
        self._loops[node] = file.ops(
            "Scan",
            inputs,
            len(outputs),
            body=graph,
            num_scan_inputs=len(body.entries),
            scan_input_directions=[back] * len(body.entries),
            scan_output_directions=[back] * body.stacked,
        )
        return self._loops[node][0]

    def part(self, node: Node) -> str:
        """Return the name of a result of a recurrence."""
        index: int = node.attributes["index"]
        return self._loops[node.args[0]][index]

    def _refuse(self, node: Node) -> NoReturn:
        where = f"layer {layer}: " if (layer := self._layer_of(node)) else ""
        if node.op == "python":
            said = f"{node.attributes['name']} is a Python function without a graph, which no file can hold"
        else:
            said = f"np.{node.op} has no operator in ONNX"
        raise SettingsError(f"export_onnx: {where}{said}; write the formula with other NumPy functions")
