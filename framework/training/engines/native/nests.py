"""A scheduled block as text of the kernel language: groups, products, loops, joins and elements by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from framework.base.trees import leaves
from framework.graph.loop import Body
from framework.graph.node import Node, nodes_in
from framework.training.engines.native.expressions import literal
from framework.training.engines.native.formulas import Formula
from framework.training.engines.native.groups import write_group
from framework.training.engines.native.indices import Coords, Index, broadcast_coords, coords_of
from framework.training.engines.native.products import product_of, write_product
from framework.training.engines.native.rewrite import JOINS, PRODUCTS
from framework.training.engines.native.schedule import Block, Group, part_of, split_views
from framework.training.engines.native.views import Buffer, Sizes, View, size_text
from framework.training.engines.native.writer import Nest, NestWriter
from framework.training.engines.records import CannotLower

PHASE = "# end of a phase"
"""The line at which a step waits for the other shards."""

ELSEWHERE = frozenset({"input", "constant", "part", "rows", "row_numbers", "broadcast_to", *JOINS})
"""Operations whose results are in memory of their own, or that need memory of 0."""


class Pause(NamedTuple):
    """A pause between two phases of a step.

    Attributes:
        inputs: The arrays that it reads.
        outputs: The arrays that it fills.
        node: What Python computes; None where an array becomes its sum over all shards.
    """

    inputs: Sequence[Buffer]
    outputs: Sequence[Buffer]
    node: Node | None = None


class Emitter(NestWriter):
    """Writes scheduled blocks.

    Attributes:
        wrong: A number that is 1 after a step with an index outside of its array, which is read as the nearest one.
        pauses: The pauses after each phase but the last one.
    """

    def __init__(self, dtype: str, *, independent: bool = False) -> None:
        """Begin a kernel."""
        super().__init__(dtype, independent=independent)
        self.wrong = Buffer("wrong", (1,), "f", (0,), "filled")
        self.pauses: list[Pause] = []
        self._loops = 0
        self._depth = 0

    def block(self, block: Block) -> None:
        """Write a block, operation by operation. A loop counts as one step for the memory."""
        for index, operation in enumerate(block.ops):
            self.step += not self._depth
            if isinstance(operation, Group):
                write_group(self, index, operation)
            elif operation in block.evaluated:
                self._write(block, operation)

    def _write(self, block: Block, node: Node) -> None:
        """Write an operation that stands alone."""
        if node.op in PRODUCTS:
            self.contract(block, node, block.storage(node))
        elif node.op == "loop":
            self._write_loop(block, node)
        elif node.op in JOINS:
            self._join(block, node)
        elif node.op == "gather":
            self._write_by_index(block, node, self.view(block, node.args[0]), block.storage(node))
        elif node.op == "scatter_add":
            self.fill(block.storage(node), literal(0.0))
            self._write_by_index(block, node, block.storage(node), self.view(block, node.args[0]))
        elif node.op == "total":
            self._exchange(block, node)
        elif node.op in ("call", "call_back", "python"):
            self._leave(block, node)
        elif node.op == "cumsum":
            self._cumulate(block, node)
        elif node.op == "fold":
            whole, windows = block.storage(node), self.view(block, node.args[0])
            self.fill(whole, literal(0.0))
            self.add(whole.windows(*(node.attributes[name] for name in ("axes", "window", "steps"))), windows)
        else:
            raise CannotLower(f"np.{node.op} has no form in a kernel", node.op)

    def contract(self, block: Block, node: Node, target: View, alpha: str | None = None, beta: float = 0.0) -> None:
        """Write a product of two factors: target <- alpha * product + beta * target."""
        a, b = (self.view(block, factor) for factor in node.args)
        write_product(self, product_of(node, a, b, target, alpha, beta))

    def _join(self, block: Block, node: Node) -> None:
        """Copy the parts of a join that are not made there, or add them."""
        whole, adds = block.storage(node), node.attributes.get("add", False)
        if adds:
            self.fill(whole, literal(0.0))
        for index, arg in enumerate(node.args):
            if arg not in block.views or block.views[arg].buffer is not whole.buffer:
                (self.add if adds else self.copy)(part_of(whole, node, index), self.view(block, arg))

    def _write_by_index(self, block: Block, node: Node, whole: View, looked_up: View) -> None:
        """Copy elements that are looked up by index, or add to them; an index is computed where it is read."""
        indices, axes = node.args[1:], node.attributes["axes"]
        spread = len(np.broadcast_shapes(*(index.shape for index in nodes_in(indices))))
        first = axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
        variables = [f"i{axis}" for axis in range(len(looked_up.shape))]
        inner, others = variables[first : first + spread], variables[:first] + variables[first + spread :]
        nest, sizes = Nest(self), dict(zip(variables, looked_up.shape, strict=True))
        rest = iter(coords_of(others))
        index = [Index.of(f"j{axis}") if axis in axes else next(rest) for axis in range(len(whole.shape))]
        with nest.loops((variable, sizes[variable]) for variable in inner):
            self._find_indices(nest, block, node, coords_of(inner), whole)
            with nest.loops((variable, sizes[variable]) for variable in others):
                element, element_of_whole = nest.element(looked_up, coords_of(variables)), nest.element(whole, index)
                nest.add(
                    f"{element} = {element_of_whole}" if node.op == "gather" else f"{element_of_whole} += {element}"
                )
        nest.call()

    def _find_indices(self, nest: Nest, block: Block, node: Node, coords: Coords, whole: View) -> None:
        """Write the lines that compute the indices j of an element, by axis; negative ones count from the end."""
        formula, axes = Formula(self, block, _NOWHERE, {}), node.attributes["axes"]
        values = [
            f"int({formula.value(index, broadcast_coords(index, len(coords), coords))})"
            if isinstance(index, Node)
            else repr(int(index))
            for index in node.args[1:]
        ]
        nest.evaluate(formula, values, [f"at{axis}" for axis in axes])
        wrong = nest.at(self.wrong.view(), Index())
        for axis in axes:
            size = size_text(whole.shape[axis])
            nest.add(f"from{axis} = at{axis} + {size} if at{axis} < 0 else at{axis}")
            nest.add(f"j{axis} = min(max(from{axis}, 0), {size} - 1)")
            nest.add(f"if j{axis} != from{axis}:")
            nest.add(f"    {wrong} = {literal(1.0)}")

    def _exchange(self, block: Block, node: Node) -> None:
        """Write the end of a phase, after which an array holds the sum of those of all shards."""
        view = block.storage(node)
        self.copy(view, self.view(block, node.args[0]))
        self.pauses.append(Pause([view.buffer], [view.buffer]))
        self.line(PHASE)

    def _leave(self, block: Block, node: Node) -> None:
        """Write the end of a phase, after which Python computes a node: from copies, which last until the step ends."""
        if self._depth:
            raise CannotLower("a function of Python inside a loop has no form in a kernel", node.op)
        inputs = [self.view(block, arg) for arg in nodes_in(node.args) if arg.op != "call"]
        copies = [block.buffer("argument", view.shape, view.buffer.kind, role="filled").view() for view in inputs]
        for copied, view in zip(copies, inputs, strict=True):
            self.copy(copied, view)
        shapes = [block.shape(node)] if node.op == "python" else _results_of(node, inputs[0].shape[0])
        results = [block.buffer("result", shape, role="filled").view() for shape in shapes]
        self.pauses.append(Pause([view.buffer for view in copies], [view.buffer for view in results], node))
        for view in (*copies, *results):
            self.pointer(view.buffer)
        self.line(PHASE)
        if node.op == "python":
            self.copy(block.storage(node), *results)
        else:
            block.loop_results[node] = results if node.op == "call_back" else [copies[0], *results]  # after the record

    def _cumulate(self, block: Block, node: Node) -> None:
        source, target, along = self.view(block, node.args[0]), block.storage(node), node.attributes["axis"]
        variables = [f"i{axis}" for axis in range(node.ndim)]
        nest, coords, sizes = Nest(self), coords_of(variables), [*zip(variables, target.shape, strict=True)]
        with nest.loops(pair for axis, pair in enumerate(sizes) if axis != along):
            nest.add(f"total = {literal(0.0)}")
            with nest.loops([sizes[along]]):
                nest.add(f"total += {nest.element(source, coords)}")
                nest.add(f"{nest.element(target, coords)} = total")
        nest.call()

    # loops

    def _write_loop(self, block: Block, node: Node) -> None:
        """Write a loop of the graph, whose body is a block of its own."""
        body: Body = node.attributes["body"]
        self._loops += 1
        variable = f"u{self._loops}"
        inner = Block(body.outputs, {*body.states, *body.entries, *body.captured}, block)
        inner.schedule()
        states = [block.buffer("state", block.shape(state), state.kind).view() for state in body.states]
        inner.views |= dict(zip(body.states, states, strict=True))
        for captured in body.captured:
            self._bind_captured(block, inner, captured)
        for entry, whole in zip(body.entries, node.args[len(states) :], strict=False):
            inner.views[entry] = _step_of(self.view(block, whole), variable)
        stacks, sums = self._bind_outputs(block, inner, node, variable)
        block.loop_results[node] = [*states, *stacks.wholes, *sums]
        for state, start in zip(states, node.args, strict=False):
            self.write_value(block, state, start)
        for total in sums:
            self.fill(total, literal(0.0))
        steps = node.attributes["steps"]
        bounds = f"{steps - 1}, -1, -1" if node.attributes["reverse"] else f"{steps}"
        self.line(f"for {variable} in range({bounds}):")
        indent, self.indent = self.indent, self.indent + "    "
        self._depth += 1
        self._write_step(inner, body, states, stacks, sums)
        self._depth -= 1
        self.indent = indent

    def _write_step(self, inner: Block, body: Body, states: list[View], stacks: _Stacks, sums: list[View]) -> None:
        """Write what a loop repeats: the block of its body, and then the new states."""
        before = [pair for pair in stacks.copied if split_views(pair[1])[0] in inner.inputs]
        for target, output in before:
            self.copy(target, self.view(inner, output))
        self.block(inner)
        for target, output in stacks.copied:
            if (target, output) not in before:
                self.copy(target, self.view(inner, output))
        for total, output in zip(sums, body.outputs[len(body.outputs) - len(sums) :], strict=True):
            self.add(total, self.view(inner, output))
        news = [self._new_state(inner, body, output) for output in body.outputs[: len(states)]]
        for state, new in zip(states, news, strict=True):
            self.copy(state, new)

    def _new_state(self, inner: Block, body: Body, output: Node) -> View:
        """Return where a new state lies; one that shows an old state is copied before that is overwritten."""
        new = self.view(inner, output)
        if split_views(output)[0] not in body.states:
            return new
        copied = inner.buffer("state", new.shape, output.kind).view()
        self.copy(copied, new)
        return copied

    def write_value(self, block: Block, target: View, value: object) -> None:
        """Copy a node, or a plain number, into a view."""
        if isinstance(value, Node) and value.fill is None:
            self.copy(target, self.view(block, value))
        else:
            number: Any = value.fill if isinstance(value, Node) else value
            self.fill(target, repr(int(number)) if target.buffer.kind == "i" else literal(number))

    def _bind_captured(self, block: Block, inner: Block, node: Node) -> None:
        """Let the body of a loop read a value from around it; a transposed matrix is turned once, before the loop."""
        if node.op == "input" and not node.shape:
            return
        view = self.view(block, node)
        if len(view.shape) > 1 and view.strides[-1] != 1:
            turned = block.buffer("turned", view.shape, node.kind).view()
            self.copy(turned, view)
            view = turned
        inner.views[node] = view

    def _bind_outputs(self, block: Block, inner: Block, node: Node, variable: str) -> tuple[_Stacks, list[View]]:
        """Let the results of the steps be made where they are stacked; return the stacks, and the sums over steps."""
        body: Body = node.attributes["body"]
        first, stop = len(body.states), len(body.states) + body.stacked
        stacks = _Stacks([], [])
        for output in body.outputs[first:stop]:
            order = inner.layout(output) or range(output.ndim)
            shape = (node.attributes["steps"], *block.shape(output))
            whole = block.buffer("stack", shape, output.kind, (0, *(1 + axis for axis in order))).view()
            stacks.wholes.append(whole)
            step = _step_of(whole, variable)
            made = output in inner.computed and output not in inner.views and split_views(output)[0] is output
            if made and output.op not in ELSEWHERE:
                inner.views[output] = step
            else:
                stacks.copied.append((step, output))
        return stacks, [block.buffer("sum", block.shape(node), node.kind).view() for node in body.outputs[stop:]]


class _Stacks(NamedTuple):
    """The stacked results of a loop.

    Attributes:
        wholes: Where all steps lie.
        copied: Where the present step lies, and the output that is copied there.
    """

    wholes: list[View]
    copied: list[tuple[View, Node]]


def _results_of(node: Node, rows: int) -> list[Sizes]:
    """Return the shapes of what a model gives whose passes Python runs, or of the gradients that it gives back."""
    called = node.attributes["called"]
    if node.op == "call":
        return [(rows, *shape) for shape in leaves(called.outputs)]
    return [*((rows, *shape) for shape in leaves(called.shape)), *(w.shape for w in called.model.parameters.values())]


_NOWHERE = -2
"""The place of a formula that is of no group: it computes only what is cheap."""


def _step_of(view: View, variable: str) -> View:
    """Return the step of a sequence that a loop has got to."""
    strides = (*view.loop_strides, (variable, view.strides[0]))
    return View(view.buffer, view.offset, view.shape[1:], view.strides[1:], strides)
