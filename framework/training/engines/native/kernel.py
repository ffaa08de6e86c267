"""The parts that a kernel of a step and one of a prediction have in common: names, text and code."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from framework.backends.native import Function, compile_kernel
from framework.graph.graph import Graph
from framework.graph.node import Node
from framework.graph.step import ModelGraph
from framework.training.engines.native.expressions import literal
from framework.training.engines.native.memory import MOVING
from framework.training.engines.native.nests import ELSEWHERE, Emitter
from framework.training.engines.native.schedule import Block, split_views
from framework.training.engines.native.views import Buffer, NeedsCopy, View
from framework.training.engines.native.writer import KINDS
from framework.training.engines.records import CannotLower, python_text


class GraphKernel(ABC):
    """A graph as one native function.

    Attributes:
        model: The graph of the model.
        dtype: The dtype of floats.
        emitter: The text by parts, and the arrays that the function takes.
        text: The function in the kernel language.
        settings: The plain numbers that it takes.
        function: The native function, once it is compiled.
        runs_python: Whether Python computes some of its nodes.
    """

    function: Function
    entry: ClassVar[str]
    """The name of the function."""

    stopped: ClassVar[str]
    """The number that it returns where it ends early."""

    pausing: ClassVar[bool] = False
    """Whether it pauses for what Python computes."""

    def __init__(self, model: ModelGraph, graph: Graph, *, independent: bool = False) -> None:
        """Schedule and write a graph; see ``NestWriter`` for ``independent``.

        Raises:
            CannotLower: Python runs a layer, or an operation has no form in a kernel.
        """
        functions = [python_text(node) for node in graph.nodes if node.op == "python"]
        by_python = dict.fromkeys([*model.calls, *functions])
        if by_python and not self.pausing:
            raise CannotLower(f"Python runs {', '.join(by_python)}, which has no graph")
        self.runs_python = bool(by_python)
        self.model, self.dtype = model, model.graph.dtype
        self.emitter = Emitter(self.dtype, independent=independent)
        self._arrays: dict[str, Buffer] = {}
        try:
            text = self._write()
        except CannotLower as error:
            raise error.within(*_layer_with(error.op, model)) from None
        apart = self._apart(text)
        self.text = "\n\n".join(dict.fromkeys([*chain(*apart.values()), text]))
        self.settings = np.array([*self.emitter.settings, 0.0])
        self._own, self._others = text, tuple((name, "\n\n".join(texts)) for name, texts in apart.items())

    def compile(self) -> None:
        """Compile the function."""
        self.function = compile_kernel(self._own, self.entry, self.dtype, self._others)

    @property
    def buffers(self) -> Iterable[Buffer]:
        """The arrays that the function takes, in their order."""
        return self.emitter.pointers

    @abstractmethod
    def _write(self) -> str:
        """Return the text of the function, without that of the functions that it calls."""

    def _apart(self, text: str) -> Mapping[str, Sequence[str]]:
        """Return the texts of the functions that other kernels may share, by name."""
        del text
        return self.emitter.functions

    def _begin(self, sound: Any, outputs: Iterable[Any], inputs: Iterable[Node]) -> tuple[Block, Block]:
        """Return the block that checks ids, and the one that computes the outputs; one block if there are no ids."""
        if not isinstance(sound, Node):
            whole = Block(outputs)
            return whole, whole
        first = Block([sound])
        return first, Block(outputs, inputs, first)

    def _bind_inputs(self, block: Block, inputs: Mapping[str, Node], nodes: Mapping[str, Node]) -> None:
        """Give the inputs arrays, by role and name; see ``Plan.inputs``.

        Args:
            block: The first block.
            inputs: The inputs.
            nodes: What the inputs that are read have become.
        """
        for name, node in inputs.items():
            if not block.is_number(node):
                read = nodes.get(name, node)
                role = name.partition(" ")[0]
                self._arrays[name] = block.buffer(name, block.shape(read), node.kind, role=role)
                if name in nodes and read.op == "input":
                    block.views[read] = self._arrays[name].view()

    def _compute(self, sound: Any, first: Block, block: Block) -> None:
        """Write what the blocks compute; a step or a prediction with a wrong id ends before it."""
        if first is not block:
            self.emitter.block(first.schedule())
            self._stop_unless(f"{self._number(first, sound)} != real(0.0)")
        self.emitter.block(block.schedule())
        self.emitter.step += 1

    def _stop_unless(self, condition: str) -> None:
        """Write that the function ends unless a condition holds."""
        self.emitter.line(f"if not ({condition}):")
        self.emitter.line(f"    return {self.stopped}")

    def _number(self, block: Block, node: Any) -> str:
        """Return the text of a number."""
        if not isinstance(node, Node):
            return literal(node)
        if block.is_scalar(node) or block.is_number(node):
            return self.emitter.scalar(node)
        return f"{self.emitter.pointer(self.emitter.view(block, node).buffer)}[0]"

    def _pointers(self, moving: Sequence[str] = MOVING, elsewhere: Sequence[str] = ()) -> list[str]:
        """Return the lines that name the arrays, the tables and the settings.

        Args:
            moving: The roles of arrays of which each batch has a part.
            elsewhere: The roles of arrays that are not in ``memory``.
        """
        e = self.emitter
        lines = [
            f"    {'whole_' * (buffer.role in moving)}{name}: {KINDS[buffer.kind]} = memory[{index}]"
            for index, (buffer, name) in enumerate(e.pointers.items())
            if buffer.role not in elsewhere
        ]
        lines += [f"    {name}: ints = tables[{index}]" for index, (name, _) in enumerate(e.tables.values())]
        return lines + [f"    {name} = real(settings[{index}])" for index, name in enumerate(e.settings.values())]

    def _parts(self, first: str) -> list[str]:
        """Return the lines that find the parts of the present batch in larger arrays, from the first row on."""
        return [
            f"        {name} = whole_{name}[{first} * {math.prod(buffer.shape[1:])}:]"
            for buffer, name in self.emitter.pointers.items()
            if buffer.role in MOVING
        ]


def bound_to(block: Block, node: Any, view: View) -> bool:
    """Let a node be made in a view, and return True, if it can be."""
    if not isinstance(node, Node):
        return False
    base, views = split_views(node)
    if base in block.views or not base.shape or base.op in ELSEWHERE:
        return False
    try:
        for step in reversed(views):
            if step.op == "transpose":
                view = view.transpose(np.argsort(step.attributes["axes"]).tolist())
            elif step.op == "reshape":
                view = view.reshape(block.shape(step.args[0]))
            else:
                return False
    except NeedsCopy:
        return False
    block.views[base] = view
    return True


def _layer_with(op: str, model: ModelGraph) -> list[str]:
    """Return the layer with an operation as an error names it; empty if no formula has it."""
    scopes = (
        scope for scope in model.scopes if op in {node.op for node in model.graph.nodes[scope.start : scope.stop]}
    )
    return [f"layer {scope.label}" for scope in scopes][:1]
