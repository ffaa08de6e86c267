"""Kernel: a step and its update as one native function, from their graphs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from framework.base.arrays import Array
from framework.graph.node import Node, nodes_in
from framework.models.parameters import label_runs
from framework.training.engines.native.kernel import GraphKernel, bound_to
from framework.training.engines.native.memory import ARRAYS, MOVING, NUMBERS, Memory
from framework.training.engines.native.nests import PHASE, Pause
from framework.training.engines.native.rewrite import prepare
from framework.training.engines.native.schedule import Block, split_views
from framework.training.engines.native.single import for_one_row
from framework.training.engines.native.update import AHEAD, CLIPS, HELPERS, update_text
from framework.training.engines.native.views import Buffer, View
from framework.training.engines.native.writer import KINDS
from framework.training.engines.plan import Plan
from framework.training.engines.records import CannotLower

LIMITS = {"float64": 1e280, "float32": 1e30}
"""The largest square of a gradient that a product makes of a step; the NumPy engine makes the steps beyond it."""

_TRAIN = """
def train(words: arrays) -> int:
{pointers}
    for batch in range(start, stop):
        begin = batch * n
        left = stop * n - begin
        made = batch - first
        s_count = real(counts[made])
        s_whole = real(whole)
{scalars}
{step}
        if seen + 1 - updates > 0 or batch == stop - 1:
{gradients}
        if updates > 0:
{penalties}
            if not isfinite(squares(runs, spans, flat1)):
                return batch
{buffers}
        if updates > 0:
{update}
    return stop
"""


class Fused(NamedTuple):
    """A product that gives a gradient, into which the update of the parameter goes.

    Attributes:
        name: The parameter.
        product: The product.
        rate: The text of the learning rate.
    """

    name: str
    product: Node
    rate: str


class StepKernel(GraphKernel):
    """A step and its update as one native function.

    A gradient that a product makes is added to the parameter in the tiles of the product where the update is that of
    plain descent; the last batch of a call leaves it in the gradient too. All other updates are loops over the flat
    vector of the parameters.

    Attributes:
        plan: The step and its update as graphs.
        single: Whether batches have one row.
        models: How many models the step is of, as the sizes of a further axis: () for one.
        sources: From how many arrays each leaf of the data comes.
    """

    entry, stopped = "train", "batch"
    pausing = True
    single = False
    models: tuple[int, ...] = ()
    sources = 1

    def __init__(self, plan: Plan) -> None:
        """Schedule, write and compile the step.

        Raises:
            CannotLower: Python runs a layer, or an operation has no form in a kernel.
        """
        self.plan = plan
        self._written: dict[str, tuple[str, ...]] = {}
        counts = [len(group.update.numbers) for group in plan.groups]
        self.numbers = sum(counts)
        self._starts = [0, *accumulate(counts)]
        super().__init__(plan.graph.model, plan.step.total.graph)
        self.compile()

    # the text

    def _apart(self, text: str) -> dict[str, tuple[str, ...]]:
        """Return the texts of the functions that other kernels may share, by name."""
        helpers = HELPERS.format(ahead=AHEAD, line=64 // np.dtype(self.dtype).itemsize)
        called = dict.fromkeys(re.findall(r"\b(\w+)\(", text))
        return {
            **{name: (helpers,) for name in called if re.search(rf"\ndef {name}\(\w+: ", helpers)},
            **self.emitter.functions,
            **self._written,
        }

    def _write(self) -> str:
        e, pad = self.emitter, "        "
        nodes = self._prepare()
        outputs = [*self._totals, *self._penalties, *self._gradients.values(), *self._changed.values(), *self._kept]
        inputs = {node for node in nodes.values() if node.op == "input"}
        first, block = self._begin(self._sound, self._with_factors(outputs), inputs)
        self._root = first
        self._bind_inputs(first, self.plan.inputs, nodes)
        copies = self._bind_gradients(block)
        self._compute(self._sound, first, block)
        for view, node in copies:
            e.write_value(block, view, node)
        self._keep(block)
        fresh = self._check(block)
        for factor in (factor for fused in self._fused for factor in fused.product.args):
            e.view(block, factor)  # copied in every step where it must be, and not only where its product is first read
        step, e.lines = e.lines, []
        e.indent += "    "
        for fused in self._fused:
            self._product(block, fused, f"gradient {fused.name}", None, 0.0)
        gradients, e.lines = e.lines or [f"{e.indent}pass"], []
        penalties = self._add_slopes(block, inputs)  # as they come in the step: arrays live until they are read last
        buffers = []
        for name, buffer in fresh.items():
            target = self._root.buffer(f"buffer {name}", buffer.shape, role="buffer")
            buffers.append(f"{pad}copy({e.pointer(target)}, {e.pointer(buffer)}, {buffer.size})")
        for fused in self._fused:
            self._product(block, fused, f"number {fused.name}", f"-{fused.rate}", 1.0)
        self._update()
        update = e.lines
        gathers, parts = self._write_gathers(pad)
        return _TRAIN.format(
            pointers="\n".join(self._write_pointers()),
            scalars="\n".join([*parts, *(pad + line for line in e.scalar_lines)]),
            step="\n".join(self._in_phases([*gathers, *step], pad)),
            penalties="\n".join(penalties),
            gradients="\n".join(gradients),
            buffers="\n".join(buffers),
            update="\n".join(update),
        )

    def _add_slopes(self, block: Block, inputs: set[Node]) -> list[str]:
        """Return the lines that add the slopes of the penalties to the gradients."""
        e = self.emitter
        kept, e.lines = e.lines, []
        if self._slopes:
            slopes = Block(self._slopes.values(), inputs, block).schedule()
            e.block(slopes)
            for name, slope in self._slopes.items():
                e.add(self._arrays[f"gradient {name}"].view(), e.view(slopes, slope))
        lines, e.lines = e.lines, kept
        return lines

    def _in_phases(self, lines: list[str], pad: str) -> list[str]:
        """Return the lines of a step, of which a call makes one phase if it pauses.

        Raises:
            CannotLower: It pauses for Python and for other shards.
        """
        last = len(self.emitter.pauses)
        if len({pause.node is None for pause in self.emitter.pauses}) > 1:
            raise CannotLower("Python runs a layer, and another one mixes the rows of several shards")
        if not last:
            return lines
        phases: list[list[str]] = [[]]
        for line in lines:
            if line.strip() == PHASE:
                phases.append([])
            else:
                phases[-1].append(f"    {line}")
        texts = [[f"{pad}if phase == {index}:", *phase] for index, phase in enumerate(phases)]
        return [*(line for text in texts for line in text), f"{pad}if phase < {last}:", f"{pad}    return stop"]

    def _prepare(self) -> dict[str, Node]:
        """Rewrite the step into the operations of the schedule; return the inputs by role and name."""
        plan, step, graph = self.plan, self.plan.step, self.plan.graph
        parameters = {name: plan.inputs[f"number {name}"] for name in graph.trained}
        penalties, slopes = plan.penalties(parameters) if plan.groups else ([], {})
        penalties = nodes_in(penalties)
        gradients = dict(zip(graph.trained, step.gradients, strict=True))
        news = zip(graph.model.buffers, step.buffers, strict=True)
        changed = {name: node for name, node in news if node is not plan.inputs[f"number {name}"]}
        totals = [step.total, *step.totals]
        draws = enumerate(plan.graph.model.draws)
        compared = {plan.inputs[f"draw {index}"] for index, (draw, _) in draws if not draw.wide}
        filled = step.total.graph.broadcast
        slopes = {
            name: slope if isinstance(slope, Node) else filled(slope, parameters[name].shape)
            for name, slope in slopes.items()
        }
        outputs = [
            step.sound,
            *totals,
            *penalties,
            *gradients.values(),
            *changed.values(),
            *slopes.values(),
            *plan.kept,
        ]
        new, known = self._rewrite(outputs, compared)
        takes = iter(new)
        self._sound = next(takes)
        self._totals = [next(takes) for _ in totals]
        self._penalties = [next(takes) for _ in penalties]
        self._gradients = {name: next(takes) for name in gradients}
        self._changed = {name: next(takes) for name in changed}
        self._slopes = {name: next(takes) for name in slopes}
        self._kept = [*takes]
        inputs = {name: known[node] for name, node in plan.inputs.items() if node in known}
        self._of_data = {node for name, node in inputs.items() if name.startswith("data ")}
        self._fused = [*self._fusable(slopes)]
        for fused in self._fused:
            del self._gradients[fused.name]
        return inputs

    def _rewrite(self, outputs: list[Any], compared: set[Node]) -> tuple[list[Any], dict[Node, Any]]:
        """Return the outputs, rewritten for the schedule, and what each old node became."""
        return prepare(outputs, compared)

    def _fusable(self, slopes: Mapping[str, Any]) -> Iterable[Fused]:
        """Give the products into which the update of a parameter goes."""
        shared = [split_views(node)[0] for node in self._gradients.values() if isinstance(node, Node)]
        for index, group in enumerate(self.plan.groups):
            for name in group.names if group.update.descends and not self.plan.clips else ():
                node = self._gradients[name]
                product, views = split_views(node) if isinstance(node, Node) else (node, [])
                if name in slopes or not isinstance(product, Node) or product.op not in ("matmul", "einsum"):
                    continue
                alone = shared.count(product) == 1 and all(view.op == "reshape" for view in views)
                if alone and all(self._is_factor(split_views(arg)[0]) for arg in product.args):
                    yield Fused(name, product, self._number_text(index, 0))

    def _is_factor(self, node: Node) -> bool:
        """Return whether a node is as it was when the step is updated, and the sum of its squares is known."""
        if node.op == "input":
            # One row is read where it lies. A pause loses a sum of squares that lies in no array.
            return node in self._of_data and not (self.single or self.runs_python)
        return node.op not in ("part", "constant", "broadcast_to")

    def _with_factors(self, outputs: list[Any]) -> list[Any]:
        """Return the outputs of the first part of a step: with the factors of the products that come after it.

        The sums of their squares bound the squares of the products, which are not looked at.
        """
        self._squares: dict[Node, Node] = {}
        factors = [arg for fused in self._fused for arg in fused.product.args]
        for factor in factors:
            base = split_views(factor)[0]
            if base.op != "input" and base not in self._squares:
                square = base.graph.add("multiply", base, base)
                axes = tuple(range(base.ndim))
                self._squares[base] = base.graph.add("sum", square, axes=axes, keepdims=False)
        return [*nodes_in(outputs), *self._squares.values(), *factors]

    def _bind_gradients(self, block: Block) -> list[tuple[View, Any]]:
        """Let gradients be made where they belong; return those that must be copied there."""
        copies = []
        shapes = self.plan.graph.model.numbers
        factors = {split_views(factor)[0] for fused in self._fused for factor in fused.product.args}
        for name in self.plan.graph.trained:
            buffer = self._arrays[f"gradient {name}"] = self._root.buffer(
                f"gradient {name}", (*shapes[name].shape, *self.models), role="gradient"
            )
            gradient = self._gradients.get(name)
            if gradient is None:
                continue
            # A slope is added before the products after the step read their factors.
            read_later = name in self._slopes and isinstance(gradient, Node) and split_views(gradient)[0] in factors
            if read_later or not bound_to(block, gradient, buffer.view()):
                copies.append((buffer.view(), gradient))
        return copies

    def _keep(self, block: Block) -> None:
        """Copy the outputs that metrics read."""
        for index, node in enumerate(self._kept):
            buffer = self._root.buffer(f"kept {index}", block.shape(node), node.kind, role="kept")
            self._arrays[f"kept {index}"] = buffer
            self.emitter.copy(buffer.view(), self.emitter.view(block, node))

    def _check(self, block: Block) -> dict[str, Buffer]:
        """Note the totals, and end before a step with a number that is not finite; return the new buffers."""
        e = self.emitter
        for index, node in enumerate(self._totals):
            self._note_total(block, f"made * {len(self._totals)} + {index}", node)
        if e.wrong in e.pointers:
            self._stop_unless(f"{e.pointer(e.wrong)}[0] == real(0.0)")
        for node in (self._totals[0], *self._penalties):
            self._stop_unless(self._is_finite(block, node))
        fresh = {}
        for name, node in self._changed.items():
            buffer = fresh[name] = self._root.buffer(f"new {name}", block.shape(node), node.kind)
            e.write_value(block, buffer.view(), node)
            self._stop_unless(f"finite({buffer.size}, {e.pointer(buffer)}) == real(0.0)")
        for fused in self._fused:
            texts = []
            for arg in fused.product.args:
                base = split_views(arg)[0]
                if base.op == "input":
                    texts.append(f"square_{e.pointer(self._root.storage(base).buffer)}")
                else:
                    texts.append(f"float({self._number(block, self._squares[base])})")
            self._stop_unless(f"{' * '.join(texts)} <= {LIMITS[self.dtype]!r}")
        return fresh

    def _note_total(self, block: Block, index: str, node: Any) -> None:
        """Write that a total of the step goes to a place among the totals."""
        self.emitter.line(f"totals[{index}] = float({self._number(block, node)})")

    def _is_finite(self, block: Block, node: Any) -> str:
        """Return the text of the condition that a number of the step is finite."""
        return f"isfinite({self._number(block, node)})"

    def _product(self, block: Block, fused: Fused, to: str, alpha: str | None, beta: float) -> None:
        """Write the product that gives a gradient: to <- alpha * product + beta * to."""
        self.emitter.step += 1
        view = self._arrays[to].view().reshape(block.shape(fused.product))
        self.emitter.contract(block, fused.product, view, alpha, beta)

    def _number_text(self, group: int, index: int) -> str:
        return f"real(numbers[made * {self.numbers} + {self._starts[group] + index}])"

    def _number_texts(self, group: int, count: int) -> list[str]:
        """Return the texts of the numbers of an update."""
        return [self._number_text(group, index) for index in range(count)]

    def _update(self) -> None:
        """Write the update of runs of the flat vector, by groups of rate and decay."""
        e, plan = self.emitter, self.plan
        for index, clip in enumerate(plan.clips):
            self._written[f"clip_{clip}"] = (CLIPS[clip].format(lanes=math.prod(self.models)),)
            e.line(f"clip_{clip}(runs, spans, flat1, clips[{index * math.prod(self.models)}:])")
        e.line("for run in range(runs):")
        e.line("    place = spans[3 * run + 1]")
        for number, group in enumerate(plan.groups):
            name = f"update{number}"
            self._written[name] = (update_text(name, group.update, math.prod(self.models)),)
            views = [f"flat{index}[place:]" for index in range(len(group.update.inputs))]
            numbers = self._number_texts(number, len(group.update.numbers))
            e.line(f"    if spans[3 * run] == {number}:")
            e.line(f"        update{number}({', '.join(['spans[3 * run + 2]', *views, *numbers])})")

    def _write_gathers(self, pad: str) -> tuple[list[str], list[str]]:
        """Return the lines that copy the rows of a batch, and those that find the parts of larger arrays."""
        e, lines = self.emitter, list[str]()
        factors = {split_views(arg)[0] for fused in self._fused for arg in fused.product.args}
        squared = {self._root.storage(base).buffer for base in factors if base.op == "input"}
        self.data = [name for name in self._arrays if name.startswith("data ")]
        for index, name in enumerate(self.data):
            buffer = self._arrays[name]
            if buffer in e.pointers:
                lines += [pad + line for line in self._write_gather(index, buffer, squared=buffer in squared)]
        if e.wrong in e.pointers:
            lines.append(f"{pad}{e.pointers[e.wrong]}[0] = real(0.0)")
        return lines, self._parts("made * n")

    def _write_gather(self, index: int, buffer: Buffer, *, squared: bool) -> list[str]:
        """Return the lines that copy the rows of a batch from a leaf of the data."""
        name, width = self.emitter.pointers[buffer], math.prod(buffer.shape[1:])
        arguments = f"(n, {width}, left, rows[begin:], d{index}, {name})"
        if squared:
            return [f"square_{name} = gather_squares{arguments}"]
        return [f"gather{'_ids' if buffer.kind == 'i' else ''}{arguments}"]

    def _write_pointers(self) -> list[str]:
        """Return the lines that name the arrays."""
        kinds = [KINDS[self._arrays[name].kind] for name in self.data for _ in range(self.sources)]
        named = enumerate([*NUMBERS, *(f"{name}: {kind}" for name, kind in ARRAYS.items())])
        lines = [f"    {name} = words[{index}]" for index, name in named]
        lines += [f"    d{index}: {kind} = data[{index}]" for index, kind in enumerate(kinds)]
        start = len(self.emitter.pointers)
        flat = max((len(group.update.inputs) for group in self.plan.groups), default=2)
        lines += [f"    flat{index}: reals = memory[{start + index}]" for index in range(flat)]
        return lines + self._pointers((*MOVING, "data") if self.single else MOVING)

    # the memory

    def new_memory(self) -> Memory:
        """Return working memory; see ``Workspace``."""
        return Memory(self)

    @cached_property
    def moving(self) -> list[tuple[int, str]]:
        """The places and the names of the arrays of which each batch has a part."""
        return [(index, buffer.name) for index, buffer in enumerate(self.buffers) if buffer.role in MOVING]

    @property
    def pauses(self) -> Sequence[Pause]:
        """The pauses after each phase but the last one."""
        return self.emitter.pauses

    @property
    def totals(self) -> int:
        """How many totals a step gives."""
        return len(self._totals)

    def spans(self, parameters: Mapping[str, Array]) -> Array:
        """Return (group, start, length) of each run of the flat vector whose update is a loop."""
        groups = {name: index for index, group in enumerate(self.plan.groups) for name in group.names}
        for fused in self._fused:
            del groups[fused.name]
        runs = label_runs(parameters, groups)
        return np.array([(group, run.start, run.stop - run.start) for group, run in runs], np.int64).reshape(-1, 3)


class RowKernel(StepKernel):
    """A step on one row and its update."""

    single = True

    def _rewrite(self, outputs: list[Any], compared: set[Node]) -> tuple[list[Any], dict[Node, Any]]:
        outputs, before = for_one_row(outputs)
        new, known = prepare(outputs, {before.get(node, node) for node in compared})
        return new, {old: known[node] for old, node in before.items() if node in known}

    def _write_gather(self, index: int, buffer: Buffer, *, squared: bool) -> list[str]:
        """Return the lines that find a row where it lies."""
        del squared
        name, width = self.emitter.pointers[buffer], math.prod(buffer.shape[1:])
        return [
            f"fetched = fetch_row(d{index}, rows[begin + min({AHEAD}, left - 1)] * {width}, {width})",
            f"{name} = d{index}[rows[begin] * {width}:]",
        ]
