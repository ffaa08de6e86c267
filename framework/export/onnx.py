"""export_onnx: a model as an ONNX file, lowered from its graph."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.checkpoint.file import write_whole
from framework.emit.numpy import emit
from framework.errors import SettingsError
from framework.export.operations import FORMULAS, LOGIC, OPERATORS, STRUCTURES, WIDE
from framework.export.whole import Whole, whole
from framework.extras import required
from framework.graph.graph import kind_of
from framework.graph.lower import softmax_in
from framework.graph.node import Node, dependents, nodes_in, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import symbol_of, value_of
from framework.models import Model
from framework.settings.messages import brief

OPSET, IR = 21, 10
"""The versions of the operators and of the file: those of ONNX 1.16 (2024), which ONNX Runtime 1.18 reads."""


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    shape: Any = None,
    dtype: str | None = None,
    classes: Sequence[Any] | None = None,
) -> None:
    """Write a model as an ONNX file, which ONNX Runtime and other programs run without Python or this package.

    The graph computes what ``model(x)`` computes, for any number of rows. Dropout does nothing there, and BatchNorm
    uses its running numbers. The file is written whole, or not at all.

    Args:
        model: The model.
        path: The file; ``.onnx`` is the usual ending.
        shape: The shape of a sample, where the model leaves sizes open, as the steps of a recurrent layer.
        dtype: "float32" or "float64"; None is the model's.
        classes: The names of the classes, for a further output ``label``: the likeliest class of each row.

    Raises:
        SettingsError: Something in the model has no form in ONNX; names the layer and the operation.
        UsageError: onnx is not installed, or a number of inputs is not known yet.
        CheckpointError: The file cannot be written.

    Example:
        >>> from framework import Dense, ReLU, Sequential, Softmax
        >>> model = Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax()))
        >>> export_onnx(model, "model.onnx", classes=["red", "green", "blue"])

    Source:
        The ONNX specification, IR version 10, opset 21.
    """
    name = "export_onnx"
    onnx = required("onnx", name)
    if not isinstance(model, Model):
        raise SettingsError(f"{name}: argument 'model' must be a model; got {brief(model)}")
    if dtype not in (None, "float32", "float64"):
        raise SettingsError(f"{name}: argument 'dtype' must be 'float32' or 'float64'; got {dtype!r}")
    found = whole(model, shape, dtype, name=name)
    writer = Writer(onnx, found, name)
    outputs = writer.outputs()
    if classes is not None:
        outputs |= writer.label(outputs, tuple(classes))
    made = writer.model(outputs)
    onnx.checker.check_model(made, full_check=True)
    write_whole(path, [made.SerializeToString()])


class Writer:
    """Writes a graph as the nodes of an ONNX graph.

    Attributes:
        graph: The graph that is written.
        nodes: The nodes of the ONNX graph so far.
        metadata: The texts that go into the file beside the graph.
    """

    def __init__(self, onnx: Any, found: Whole, name: str) -> None:
        self._onnx, self._whole, self._name = onnx, found, name
        self.graph = found.graph
        self.nodes: list[Any] = []
        self.metadata: dict[str, str] = {}
        self._initializers: dict[str, Array] = {}
        self._numbers: dict[tuple[str, str], str] = {}
        self._names: dict[Node, str] = {}
        self._counts: dict[str, int] = {}
        self._layer = ""
        self._dtypes: dict[str, Any] = {"f": np.dtype(self.graph.dtype), "i": np.dtype("int64"), "b": np.dtype("bool")}
        self._dtypes["narrow"] = np.dtype("float32")
        self._loops: dict[Node, list[str]] = {}
        self._still: set[Node] = set()
        self._names = {node: name for name, node in found.inputs.items()}
        first = next(iter(found.inputs))
        self._rows = self.op("Shape", first, start=0, end=1)

    # names, numbers, nodes

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        return self.ops(operator, inputs, 1, **attributes)[0]

    def ops(self, operator: str, inputs: Iterable[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node, and return the names of its outputs."""
        made = [self._new(operator) for _ in range(outputs)]
        label = f"{self._layer}/{made[0]}" if self._layer else made[0]
        self.nodes.append(self._onnx.helper.make_node(operator, [*inputs], made, name=label, **attributes))
        return made

    def _new(self, operator: str) -> str:
        self._counts[operator] = count = self._counts.get(operator, 0) + 1
        return f"{operator}_{count}"

    def array(self, value: Any, name: str | None = None, kind: str = "") -> str:
        """Return the name of an array that is stored in the file, in the dtype of a kind if one is given."""
        name = name or self._new("constant")
        value = np.asarray(value)
        self._initializers[name] = value.astype(self._dtypes[kind]) if kind else value
        return name

    def number(self, value: Any, kind: str) -> str:
        """Return the name of a plain number of a kind."""
        key = (repr(value), kind)
        if key not in self._numbers:
            with np.errstate(over="ignore"):
                self._numbers[key] = self.array(np.array(value).astype(self._dtypes[kind]))
        return self._numbers[key]

    def integers(self, values: Iterable[int]) -> str:
        """Return the name of a vector of integers, such as axes."""
        return self.array(np.array([*values], np.int64))

    def shape(self, shape: tuple[int, ...]) -> str:
        """Return the name of a shape, in which sizes may be multiples of the number of rows."""
        times = [self.graph.rows_in(size) for size in shape]
        sizes = [0 if n else size for n, size in zip(times, shape, strict=True)]
        if not any(times):
            return self.integers(shape)
        scaled = self.op("Mul", self._rows, self.integers(times))
        return self.op("Add", scaled, self.integers(sizes))

    def count(self, times: int) -> str:
        """Return the name of a multiple of the number of rows, as an integer."""
        return self.op("Squeeze", self.op("Mul", self._rows, self.integers([times])), self.integers([0]))

    def cast(self, name: str, kind: str) -> str:
        """Return the name of an array in the dtype of a kind."""
        return self.op("Cast", name, to=self._type(kind))

    def transposed(self, node: Node, axes: tuple[int, ...]) -> str:
        """Return the name of a transposed array, which is stored so if the array is stored."""
        name = self.text(node, node.kind)
        stored = self._initializers.get(name)
        if stored is None:
            return self.op("Transpose", name, perm=[*axes])
        return self.array(np.ascontiguousarray(stored.transpose(axes)), f"{name} transposed")

    def _type(self, kind: str) -> int:
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(self._dtypes[kind]))

    # the graph

    def outputs(self) -> dict[str, tuple[str, Node]]:
        """Write the whole graph; return the name and the node of each output."""
        wanted = self._whole.outputs
        self._fold([*wanted.values()])
        self._write(ordered(wanted.values()))
        return {key: (self.text(node, node.kind), node) for key, node in wanted.items()}

    def _fold(self, outputs: list[Node]) -> None:
        """Compute what depends on the parameters alone, and store the results."""
        order = ordered(outputs)
        numbers = {node: (name, value) for name, (node, value) in self._whole.numbers.items() if node in order}
        begin = [node for node in order if node.op in ("input", "rows", "row_numbers") and node not in numbers]
        begin += [node for node in order if any(map(self.graph.rows_in, node.shape))]
        moving = dependents(order, dict.fromkeys(begin))
        self._still = {*order} - moving
        used = {arg for node in moving for arg in nodes_in(node.args)}
        fixed = [node for node in order if node in used & self._still and node.fill is None]
        for node in fixed:
            if node in numbers:
                name, value = numbers[node]
                self._names[node] = self.array(value, name, node.kind)
        computed = [node for node in fixed if node not in numbers]
        if computed:
            found = emit(
                {str(place): node for place, node in enumerate(computed)},
                {name: node for node, (name, _) in numbers.items()},
                memory=False,
            )(*(value.astype(self._dtypes[node.kind]) for node, (_, value) in numbers.items()))
            for node, value in zip(computed, found if len(computed) > 1 else [found], strict=True):
                self._names[node] = self.array(value, None, node.kind)

    def _write(self, order: Iterable[Node]) -> None:
        for node in order:
            if node not in self._names and node not in self._still:
                self._layer = self._whole.layer_of(node) or self._layer
                self._names[node] = self._written(node)

    def _written(self, node: Node) -> str:
        """Write a node, and return the name of its result."""
        node = softmax_in(self.graph, node) or node
        kinds = {kind_of(arg) for arg in node.args}
        if kinds == {"b"} and node.op in LOGIC:
            return self.op(LOGIC[node.op], *self.args(node, "b"))
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
            names = [self.text(condition, "b"), self.text(a, node.kind), self.text(b, node.kind)]
            return self.op("Where", *names)
        kind = "f" if "f" in kinds or node.kind == "f" else "i"
        return self.op(OPERATORS[node.op], *self.args(node, kind))

    def args(self, node: Node, kind: str | None = None) -> list[str]:
        """Return the names of the arguments of a node in a kind, by default that of the node.

        An array filled with one number is the number where that gives the same shape.
        """
        values = list(node.args)
        for place, value in enumerate(values if OPERATIONS[node.op].elementwise else []):
            rest = [other.shape for n, other in enumerate(values) if n != place and isinstance(other, Node)]
            if isinstance(value, Node) and value.fill is not None and rest:
                values[place] = value.fill if np.broadcast_shapes(*rest) == node.shape else value
        return [self.text(value, kind or node.kind) for value in values]

    def text(self, value: Any, kind: str) -> str:
        """Return the name of a node or a number, in a kind."""
        if not isinstance(value, Node):
            return self.number(value, kind)
        if value not in self._names:
            self._names[value] = self._written(value)
        name = self._names[value]
        return name if value.kind == kind else self.cast(name, kind)

    def formula(self, formula: Callable[..., Any], node: Node, *more: str) -> str:
        """Write an operation as a formula of its arguments, and of further values of the result's shape by name."""
        given = [self.graph.input(name, node.shape) for name in more]
        self._names |= dict(zip(given, more, strict=True))
        made = formula(*map(symbol_of, (*node.args, *given)), **node.attributes)
        return self.computed(value_of(made), node.kind)

    def computed(self, value: Any, kind: str) -> str:
        """Return the name of a value that was added to the graph while it was being written."""
        if isinstance(value, Node):
            self._write(ordered([value], {*self._names}))
        return self.text(value, kind)

    def loop(self, node: Node) -> str:
        """Write a recurrence as a Scan, whose body is a graph of its own."""
        body, helper = node.attributes["body"], self._onnx.helper
        count = len(body.states)
        inside = (*body.states, *body.entries)
        inputs = [self.text(value, part.kind) for value, part in zip(node.args, inside, strict=False)]
        for captured in node.args[len(inside) :]:
            self.text(captured, captured.kind)
        outer, names, self.nodes = self.nodes, dict(self._names), []
        given = {part: self._new("step") for part in inside}
        self._names |= given
        self._write(body.order())
        outputs = body.outputs[: count + body.stacked]
        results = [self.op("Identity", self.text(output, output.kind)) for output in outputs]
        described = [
            [helper.make_tensor_value_info(name, self._type(part.kind), None) for part, name in pairs]
            for pairs in (given.items(), zip(outputs, results, strict=True))
        ]
        graph = helper.make_graph(self.nodes, "step", *described)
        self.nodes, self._names = outer, names
        back = int(node.attributes["reverse"])
        self._loops[node] = self.ops(
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

    def _refuse(self, node: Node) -> None:
        layer = self._whole.layer_of(node)
        raise SettingsError(
            f"{self._name}: layer {layer}: np.{node.op} has no operator in ONNX; write the formula without it"
        )

    # the file

    def label(self, outputs: Mapping[str, tuple[str, Node]], classes: tuple[Any, ...]) -> dict[str, tuple[str, Any]]:
        """Write the likeliest class of each row."""
        ((scores, _),) = outputs.values()
        self._layer = "label"
        place = self.op("ArgMax", scores, axis=1, keepdims=0)
        names = self.array(np.array([str(each) for each in classes], object))
        self.metadata["classes"] = json.dumps([*classes], ensure_ascii=False)
        return {"label": (self.op("Gather", names, place), "text")}

    def model(self, outputs: Mapping[str, tuple[str, Any]]) -> Any:
        """Return the ONNX model."""
        helper, onnx = self._onnx.helper, self._onnx
        results = []
        for key, (name, node) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [name], [key], name=key))
            if isinstance(node, Node):
                results.append(helper.make_tensor_value_info(key, self._type(node.kind), self._open(node.shape)))
            else:
                results.append(helper.make_tensor_value_info(key, onnx.TensorProto.STRING, ["rows"]))
        nodes = _alive(self.nodes, {*outputs})
        used = {name for node in nodes for name in _reads(node)}
        graph = helper.make_graph(
            nodes,
            "model",
            [
                helper.make_tensor_value_info(name, self._type(node.kind), self._open(node.shape))
                for name, node in self._whole.inputs.items()
            ],
            results,
            [onnx.numpy_helper.from_array(value, name) for name, value in self._initializers.items() if name in used],
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR,
            producer_name="framework",
        )
        helper.set_model_props(made, self.metadata)
        return made

    def _open(self, shape: tuple[int, ...]) -> list[Any]:
        return ["rows" if self.graph.rows_in(size) else size for size in shape]


def _alive(nodes: list[Any], wanted: set[str]) -> list[Any]:
    """Return the nodes that some wanted name depends on."""
    found = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted |= _reads(node)
            found.append(node)
    return found[::-1]


def _reads(node: Any) -> set[str]:
    """Return the names that a node reads, also in a graph of its own."""
    inside = (part for attribute in node.attribute for part in attribute.g.node)
    return {*node.input}.union(*map(_reads, inside))
