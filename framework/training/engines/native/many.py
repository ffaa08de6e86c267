"""Many models at once: the steps of several trainings that are alike in one kernel, a model in each lane of a vector.

The parameters of the models are copied into arrays with an axis of models before a chunk of steps, and back after it.
Where a step is not finite for some model, NumPy makes it for each of them, and finds the model and its error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import is_not
from typing import Any

import numpy as np

from framework.backends.native import addresses
from framework.backends.native.machine import processor
from framework.backends.step import Slot, Workspace
from framework.base.arrays import Array
from framework.data.pieces import Piece
from framework.graph.node import Node
from framework.graph.trace import share
from framework.training.engines.base import Stepping
from framework.training.engines.chunks import Chunk, Pace
from framework.training.engines.native.engine import KEPT_BYTES, CompiledEngine, order_of, outputs_of
from framework.training.engines.native.indices import coords_of
from framework.training.engines.native.memory import State, Steps, lay_out
from framework.training.engines.native.models import for_models
from framework.training.engines.native.products import letters_of, product_of, write_product
from framework.training.engines.native.program import Fused, StepKernel
from framework.training.engines.native.rewrite import prepare
from framework.training.engines.native.schedule import Block
from framework.training.engines.native.views import Buffer, View
from framework.training.engines.native.writer import Nest
from framework.training.engines.plan import Plan
from framework.training.engines.records import CannotLower, run_compiler
from framework.training.runs.run import Run

_LARGE = 1 << 15
"""How many numbers a parameter has in all models that is too large for the cache of the first level."""

_MOST_BYTES = 1 << 21
"""The most memory that the step of a block works in: a cache of the second level. Larger models are trained alone."""


class ManyKernel(StepKernel):
    """A step of several models and its update as one native function.

    Attributes:
        shared: Whether all models get the same rows; else each leaf of the data comes from one array for each model.
    """

    pausing = False

    def __init__(self, plan: Plan, lanes: int, *, shared: bool) -> None:
        """Schedule, write and compile the step.

        Raises:
            CannotLower: An operation has no form for several models.
        """
        self.models, self.shared, self.sources = (lanes,), shared, 1 if shared else lanes
        super().__init__(plan)

    def _rewrite(self, outputs: list[Any], compared: set[Node]) -> tuple[list[Any], dict[Node, Any]]:
        outputs, before = prepare(outputs, compared)
        inputs = {name: before[node] for name, node in self.plan.inputs.items() if node in before}
        own = [node for name, node in inputs.items() if not self._is_shared(name, node)]
        new, known = for_models(outputs, own, *self.models)
        sound = known.get(outputs[0])
        if sound is not None:  # one condition for all models
            new[0] = sound.graph.add("all", sound, axes=(0,), keepdims=False) if sound.shape else sound
        return new, {old: known[node] for old, node in before.items() if node in known}

    def _is_shared(self, name: str, node: Node) -> bool:
        """Return whether all models have one input: the rows of the data, or the number by which a loss is divided."""
        return name.startswith("data ") and (self.shared or not node.shape)

    def _fusable(self, slopes: Mapping[str, Any]) -> Iterable[Fused]:
        """Give the products into which the update of a parameter goes: those of large parameters.

        A factor is multiplied by the rates before, which costs more than to store the gradient of a small parameter.
        """
        return (fused for fused in super()._fusable(slopes) if math.prod(fused.product.shape) >= _LARGE)

    def _product(self, block: Block, fused: Fused, to: str, alpha: str | None, beta: float) -> None:
        """Write the product that gives a gradient; in an update, of a factor times the rate of each model."""
        if alpha is None:
            super()._product(block, fused, to, alpha, beta)
            return
        e = self.emitter
        factors = [e.view(block, factor) for factor in fused.product.args]
        *terms, result = letters_of(fused.product)
        own = (number for number, term in enumerate(terms) if term.endswith(result[-1]))
        smaller = min(own, key=lambda number: math.prod(factors[number].shape))
        factors[smaller] = self._times_rates(block, factors[smaller], alpha)
        a, b = factors
        target = self._arrays[to].view().reshape(block.shape(fused.product))
        write_product(e, product_of(fused.product, a, b, target, None, beta))

    def _times_rates(self, block: Block, factor: View, rate: str) -> View:
        """Return a factor of which the part of each model is multiplied by a number of that model."""
        e, (lanes,) = self.emitter, self.models
        rates, scaled = block.buffer("rates", self.models).view(), block.buffer("scaled", factor.shape).view()
        e.line(f"for lane in range({lanes}):")
        e.line(f"    {e.pointer(rates.buffer)}[lane] = {rate}")
        nest = Nest(e)
        variables = [f"i{axis}" for axis in range(len(factor.shape))]
        coords = coords_of(variables)
        with nest.loops(zip(variables, factor.shape, strict=True)):
            product = f"{nest.element(factor, coords)} * {nest.element(rates, coords[-1:])}"
            nest.add(f"{nest.element(scaled, coords)} = {product}")
        nest.call()
        e.step += 1
        return scaled

    def _beside(self, block: Block, node: Any) -> str:
        """Return the name of an array with a number of each model."""
        numbers = block.buffer("numbers", self.models, "f")
        self.emitter.write_value(block, numbers.view(), node)
        return self.emitter.pointer(numbers)

    def _note_total(self, block: Block, index: str, node: Any) -> None:
        e, (lanes,) = self.emitter, self.models
        numbers = self._beside(block, node)
        e.line(f"for lane in range({lanes}):")
        e.line(f"    totals[({index}) * {lanes} + lane] = float({numbers}[lane])")

    def _is_finite(self, block: Block, node: Any) -> str:
        return f"finite({self.models[0]}, {self._beside(block, node)}) == real(0.0)"

    def _number_text(self, group: int, index: int) -> str:
        return f"real(numbers[(made * {self.numbers} + {self._starts[group] + index}) * {self.models[0]} + lane])"

    def _number_texts(self, group: int, count: int) -> list[str]:
        del count
        return [f"numbers[(made * {self.numbers} + {self._starts[group]}) * {self.models[0]}:]"]

    def _write_gather(self, index: int, buffer: Buffer, *, squared: bool) -> list[str]:
        """Return the lines that copy the rows of a batch; each model may have its own."""
        if self.shared:
            return super()._write_gather(index, buffer, squared=squared)
        name, (lanes,) = self.emitter.pointers[buffer], self.models
        function, width = f"gather{'_ids' * (buffer.kind == 'i')}_beside", math.prod(buffer.shape[1:-1])
        head, sums = ([f"square_{name} = 0.0"], f"square_{name} += ") if squared else ([], "")
        return head + [
            f"{sums}{function}(n, {width}, {lane}, {lanes}, rows[begin * {lanes}:], d{index * lanes + lane}, {name})"
            for lane in range(lanes)
        ]


class ManySteps:
    """Makes the steps of several trainings at once.

    ``blocks`` says which trainings go together, and ``advance`` makes a chunk of steps of such a block.
    """

    def __init__(self) -> None:
        """Begin without memory."""
        self._models: dict[ManyKernel, _Models] = {}
        self._leaves: dict[int, tuple[Any, list[Array]]] = {}
        self._order: tuple[list[Array], Array] = [], np.zeros(0, np.int64)

    def blocks(self, members: Iterable[Stepping]) -> list[list[Stepping]]:
        """Return the trainings in blocks of those that are alike; what has no kernel for several is alone."""
        alike: dict[Any, list[Stepping]] = {}
        for member in members:
            alike.setdefault(_key_of(member.maker, member.piece) or id(member), []).append(member)
        blocks = list[list[Stepping]]()
        for group in alike.values():
            numbers: dict[tuple[int, int], int] = {}  # those that share rows go together
            for member in group:
                numbers.setdefault(_rows_of(member), len(numbers))
            group.sort(key=lambda member: numbers[_rows_of(member)])
            lanes = _lanes(group[0])
            for start in range(0, len(group), lanes):
                block = group[start : start + lanes]
                blocks += [block] if len(block) > 1 and _kernel_of(block) else [[member] for member in block]
        return blocks

    def advance(self, block: Sequence[Stepping]) -> bool:
        """Make a chunk of steps of a block; return False if each training must make its next step alone."""
        begun, first, piece, kernel = time.perf_counter(), block[0].maker, block[0].piece, _kernel_of(block)
        assert kernel is not None
        if kernel not in self._models:
            self._models[kernel] = _Models(kernel, first.run)
        models = self._models[kernel]
        room = KEPT_BYTES // max(1, kernel.plan.bytes_per_row * piece.next_rows * kernel.models[0])
        longest = max(1, int(min(models.pace.length, room, first.longest(piece))))
        rates = [member.maker.rates(longest) for member in block]
        weights = first.weights(piece, piece.next_rows, min(map(len, rates)))
        if not len(weights):
            return False
        steps = self._steps(kernel, block, rates, weights)
        models.take(block)
        before = time.perf_counter()
        count = models.run(steps) - steps.first
        seconds = time.perf_counter() - before
        if not count:
            return False
        chunks = [_chunk_of(steps, member.maker, lane, weights[:count]) for lane, member in enumerate(block)]
        try:
            metrics = [
                member.maker.metric_sums(member.piece, chunk) for member, chunk in zip(block, chunks, strict=True)
            ]
        except Exception:  # noqa: BLE001 (a metric's own error: the step that it belongs to raises it)
            return False
        for member in block:
            member.maker.run.optimizer.begin()  # it stays inconsistent if it is interrupted here
        models.give(block)
        for member, *results in zip(block, chunks, rates, metrics, strict=True):
            member.maker.count(member.piece, *results)
        models.pace.note(count, seconds, time.perf_counter() - begun - seconds)
        return count == len(weights)

    def _steps(self, kernel: ManyKernel, block: Sequence[Stepping], rates: Sequence[Array], weights: Array) -> Steps:
        """Return the steps of a chunk."""
        piece, made, count = block[0].piece, block[0].maker.planned, len(weights)
        size, filled = piece.next_rows, _fill_lanes(block, *kernel.models)
        numbers = [_numbers(member.maker, line[:count]) for member, line in zip(block, rates, strict=True)]
        order, first = order_of(piece, self._rows(kernel, filled))
        held = self._data(kernel, filled)
        return Steps(
            rows=size,
            first=first,
            stop=first + count,
            order=order,
            data=(held, addresses(held)),
            counts=weights * made.per_row["loss"],
            numbers=np.stack(_fill_lanes(numbers, *kernel.models), axis=-1),
            totals=np.zeros((count, kernel.totals, *kernel.models)),
            clips=np.stack([member.maker.planned.limits for member in filled], axis=-1),
            moving=_moving(kernel, filled, count, size),
            updates=True,
            seen=False,
        )

    def _rows(self, kernel: ManyKernel, block: Sequence[Stepping]) -> Array:
        """Return the rows in the order of the epoch; where each model has its own, (row, model)."""
        rows = [member.piece.rows for member in block]
        if kernel.shared:
            return rows[0]
        known, order = self._order
        if len(known) != len(rows) or any(map(is_not, known, rows)):
            order = np.stack(rows, axis=1).astype(np.int64, copy=False)
            self._order = rows, order
        return order

    def _data(self, kernel: ManyKernel, block: Sequence[Stepping]) -> list[Array]:
        """Return the leaves of the data; where each model has its own, each leaf of all models."""
        held = []
        for member in block[: kernel.sources]:
            arrays = member.piece.arrays
            if self._leaves.get(id(arrays), (None,))[0] is not arrays:
                self._leaves[id(arrays)] = arrays, member.maker.leaves(kernel.plan, arrays)
            held.append(self._leaves[id(arrays)][1])
        return [leaf for leaves in zip(*held, strict=True) for leaf in leaves]


class _Models:
    """The numbers of the models of a block, each with an axis of models behind its own.

    Attributes:
        pace: How many steps a chunk has.
    """

    def __init__(self, kernel: ManyKernel, run: Run) -> None:
        """Make arrays for models like that of a run."""
        self._kernel, self._lanes, self.pace = kernel, kernel.models[0], Pace()
        optimizer, parameters = run.optimizer, run.optimizer.parameters

        def views(vector: Array) -> dict[str, Array]:
            parts = np.split(vector, np.cumsum([view.size for view in parameters.values()])[:-1])
            named = zip(parameters.items(), parts, strict=True)
            return {name: values.reshape(*view.shape, self._lanes) for (name, view), values in named}

        vector, gradient = self._like(parameters.vector), self._like(parameters.vector)
        buffers = {name: self._like(buffer) for name, buffer in run.model.buffers.items()}
        memory = {name: self._like(array) for name, array in optimizer.memory.items()}
        self._state = State(0, vector, views(vector), memory, buffers)
        self._slot = Slot(gradient, views(gradient), buffers, Workspace())

    def _like(self, array: Array) -> Array:
        """Return zeros that begin at a multiple of 64 bytes, so that no vector lies in two lines of the cache."""
        size = array.size * self._lanes
        memory = np.zeros(size + 64 // array.itemsize, array.dtype)
        start = -memory.ctypes.data % 64 // array.itemsize
        return memory[start : start + size].reshape(*array.shape, self._lanes)

    def run(self, steps: Steps) -> int:
        """Make steps; return the first batch that is not done."""
        reached: int = self._slot.workspace[self._kernel].run(steps, self._slot, self._state)
        return reached

    def take(self, block: Sequence[Stepping]) -> None:
        """Copy the numbers of models into the lanes; lanes without a model repeat the first one."""
        arrays = [_changing(State.of(member.maker.run.optimizer)) for member in _fill_lanes(block, self._lanes)]
        for whole, parts in zip(_changing(self._state), zip(*arrays, strict=True), strict=True):
            np.stack(parts, axis=-1, out=whole)

    def give(self, block: Sequence[Stepping]) -> None:
        """Copy the numbers, and the gradients of the last step, from the lanes to the models."""
        for lane, member in enumerate(block):
            parameters = member.maker.run.model.parameters
            state = _changing(State.of(member.maker.run.optimizer))
            pairs = zip([*state, parameters.gradient], [*_changing(self._state), self._slot.gradient], strict=True)
            for array, whole in pairs:
                array[...] = whole[..., lane]
            for gradient in parameters.frozen_gradients:
                gradient[...] = 0.0


def _changing(state: State) -> list[Array]:
    """Return the arrays that steps change."""
    return [state.vector, *state.memory.values(), *state.buffers.values()]


def _fill_lanes(values: Sequence[Any], lanes: int) -> list[Any]:
    """Return values, and the first one again until there is one for each lane."""
    return [*values, *[values[0]] * (lanes - len(values))]


def _rows_of(member: Stepping) -> tuple[int, int]:
    return id(member.piece.arrays[0]), id(member.piece.rows)


def _lanes(member: Stepping) -> int:
    """Return how many models are in a block."""
    return processor().registers.lanes("double" if member.maker.run.model.dtype == "float64" else "float")


def _key_of(engine: CompiledEngine, piece: Piece) -> Any:
    """Return what trainings that are made together have in common, or None for one that is made alone."""
    if not engine.longest(piece) or engine.watched or engine.within:
        return None
    made, arrays = engine.planned, piece.arrays
    if made is None:
        return None
    weighted = None if arrays[2] is None else (id(arrays), id(piece.rows))
    return made.compiled, piece.count, piece.size, piece.place, weighted


def _kernel_of(block: Sequence[Stepping]) -> ManyKernel | None:
    """Return the kernel of a block, compiled once for trainings that are alike; None if there can be none."""
    pieces, lanes = [member.piece for member in block], _lanes(block[0])
    shared = all(piece.arrays is pieces[0].arrays and piece.rows is pieces[0].rows for piece in pieces)
    compiled, rows, vector = block[0].maker.planned.compiled, pieces[0].size, block[0].maker.run.model.parameters.vector

    def compile_block() -> ManyKernel | str:
        if lanes * (vector.nbytes + lay_out(compiled.emitter, rows)[2].nbytes) > _MOST_BYTES:
            return "the models are too large"
        try:
            return run_compiler(partial(ManyKernel, compiled.plan, lanes, shared=shared))
        except CannotLower as error:
            return str(error)

    kernel = share(("many", compiled, lanes, shared, rows), compile_block)
    return None if isinstance(kernel, str) else kernel


def _numbers(engine: CompiledEngine, rates: Array) -> Array:
    """Return the numbers of the updates of some steps, (steps, numbers)."""
    assert engine.planned is not None
    return np.concatenate([*engine.planned.numbers(rates, engine.run.optimizer.steps)], axis=1)


def _moving(kernel: ManyKernel, block: Sequence[Stepping], count: int, size: int) -> dict[str, Array]:
    """Return the random numbers of some steps, and arrays for their outputs, by role and number."""
    draws = [draw for draw, _ in kernel.plan.graph.model.draws]
    drawn = zip(*(member.maker.draw(draws, count, size, count) for member in block), strict=True)
    arrays = {f"draw {index}": np.stack(parts, axis=-1).astype(kernel.dtype) for index, parts in enumerate(drawn)}
    shapes = ((count * size, *node.shape[1:], *kernel.models) for node in kernel.plan.kept)
    return arrays | {f"kept {index}": np.empty(shape, kernel.dtype) for index, shape in enumerate(shapes)}


def _chunk_of(steps: Steps, engine: CompiledEngine, lane: int, weights: Array) -> Chunk:
    """Return the steps of one of the models, and let its engine read their outputs."""
    engine.take_outputs([array[..., lane] for array in outputs_of(steps)])
    return engine.chunk_of(steps.totals[: len(weights), :, lane], steps.counts, weights)
