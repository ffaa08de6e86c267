"""File: the nodes, stored arrays, inputs and outputs of an ONNX file while it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from framework.base.arrays import Array

OPSET, IR = 21, 10
"""The versions of the operators and of the file: those of ONNX 1.16 (2024), which ONNX Runtime 1.18 reads."""

Size = int | str
"""A size, or the name of one that is open."""


class File:
    """An ONNX graph while it is written.

    Args:
        onnx: The package.
        names: The names of the inputs and outputs, which no other value gets.

    Attributes:
        onnx: The package.
        nodes: The nodes so far, or those of the body of a recurrence while that is written.
        layer: What the names of new nodes begin with.
        stored: The arrays that are stored in the file, by name.
    """

    def __init__(self, onnx: Any, names: Iterable[str] = ()) -> None:
        self.onnx = onnx
        self._names = {*names}
        self.nodes: list[Any] = []
        self.layer = ""
        self.stored: dict[str, Array] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._metadata: dict[str, str] = {}
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._rows = ""

    def input(self, name: str, dtype: Any, shape: Sequence[Size]) -> str:
        """Add an input, whose first axis are the rows, and return its name."""
        self._inputs.append(self.value_info(name, dtype, shape))
        if not self._rows:
            self._rows = self.op("Shape", name, start=0, end=1)
        return name

    def output(self, name: str, value: str, dtype: Any, shape: Sequence[Size]) -> None:
        """Add an output."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(self.value_info(name, dtype, shape))

    def note(self, name: str, value: Any) -> None:
        """Add a value to the metadata, as JSON."""
        self._metadata[name] = json.dumps(value, ensure_ascii=False)

    def value_info(self, name: str, dtype: Any, shape: Sequence[Size] | None) -> Any:
        """Return the description of an array; None is any shape."""
        return self.onnx.helper.make_tensor_value_info(name, self.type(dtype), shape)

    def type(self, dtype: Any) -> int:
        """Return the number that ONNX has for a dtype; that of text for objects."""
        if np.dtype(dtype) == object:
            return int(self.onnx.TensorProto.STRING)
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def new(self, operator: str) -> str:
        """Return a name that no value has yet."""
        self._counts[operator] = count = self._counts.get(operator, 0) + 1
        name = f"/{operator}_{count}"
        return self.new(operator) if name in self._names else name

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        return self.ops(operator, inputs, 1, **attributes)[0]

    def ops(self, operator: str, inputs: Iterable[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node, and return the names of its outputs."""
        made = [self.new(operator) for _ in range(outputs)]
        label = f"{self.layer}/{made[0]}" if self.layer else made[0]
        self.nodes.append(self.onnx.helper.make_node(operator, [*inputs], made, name=label, **attributes))
        return made

    def array(self, value: Any, dtype: Any = None, name: str | None = None) -> str:
        """Store an array, and return its name: the given one if no input or output has it."""
        name = self.new(name or "constant") if not name or name in self._names else name
        self.stored[name] = np.asarray(value, dtype)
        return name

    def number(self, value: Any, dtype: Any) -> str:
        """Return the name of a plain number, which is stored once."""
        key = (repr(value), np.dtype(dtype).name)
        if key not in self._known:
            with np.errstate(over="ignore"):
                self._known[key] = self.array(np.array(value).astype(dtype))
        return self._known[key]

    def integers(self, values: Iterable[int]) -> str:
        """Return the name of a vector of integers, such as axes."""
        values = [*values]
        return self.number(values, np.int64)

    def cast(self, name: str, dtype: Any) -> str:
        """Return the name of an array in another dtype."""
        return self.op("Cast", name, to=self.type(dtype))

    def rows(self, times: Sequence[int]) -> str:
        """Return the name of a vector of multiples of the number of rows."""
        return self.op("Mul", self._rows, self.integers(times))

    def model(self) -> Any:
        """Return the ONNX model, with the nodes that some output depends on."""
        helper = self.onnx.helper
        nodes, wanted = [], {output.name for output in self._outputs}
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.output):
                wanted |= _reads(node)
                nodes.append(node)
        stored = [
            self.onnx.numpy_helper.from_array(value, name) for name, value in self.stored.items() if name in wanted
        ]
        graph = helper.make_graph(nodes[::-1], "model", self._inputs, self._outputs, stored)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="framework"
        )
        helper.set_model_props(made, self._metadata)
        self.onnx.checker.check_model(made, full_check=True)
        return made


def _reads(node: Any) -> set[str]:
    """Return the names that a node reads, also in a graph of its own."""
    inside = (inner for attribute in node.attribute for inner in attribute.g.node)
    return {*node.input}.union(*map(_reads, inside))
