"""The compiled engine: the steps of a chunk in one native function, made from the graph of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count as count_from
from operator import is_
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from framework.backends.arithmetic import arithmetic
from framework.backends.native import addresses, available, llvm, products
from framework.backends.step import Computation, Slot
from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import DivergedError, UsageError
from framework.base.extras import installing
from framework.base.settings.messages import warn
from framework.base.trees import leaves, rows_in
from framework.data.pieces import Piece
from framework.models import Model
from framework.training.engines.chunks import Chunk, ChunkEngine
from framework.training.engines.native.memory import NOTHING, State, Steps
from framework.training.engines.native.program import RowKernel, StepKernel
from framework.training.engines.plan import Plan, Planned, plan_training
from framework.training.engines.records import CannotLower

if TYPE_CHECKING:
    from framework.training.engines.native.many import ManySteps

KEPT_BYTES = 1 << 23
"""How much memory the random numbers and the outputs of a chunk may take."""

_MOST_READY = 4
"""How many chunks are kept ready: an epoch has one or two, and one for a last batch of fewer rows."""


@dataclass(slots=True)
class _Ready:
    """The steps of a chunk with all that takes part in them. As many steps of as many rows may be made with it later.

    Attributes:
        steps: The steps.
        call: Makes them; see ``Memory.bind``.
        parts: The plan, the data and the arrays that the steps change: later steps must have the same.
        steady: Whether the numbers that steps take depend on the rates alone.
        rows: Which rows of the data make up the batches of the epoch.
        place: Where they begin.
        first: The number of the first batch.
        rates: The learning rates.
        weights: The weight of each batch.
    """

    steps: Steps
    call: Any
    parts: tuple[Any, ...]
    steady: bool
    rows: Array
    place: int
    first: int
    rates: Array
    weights: Array

    def move(self, piece: Piece) -> None:
        """Go on with the next batches of a piece."""
        order, self.first = order_of(piece, piece.rows)
        self.call.move(self.first, order)
        self.rows, self.place = piece.rows, piece.place


class CompiledEngine(ChunkEngine):
    """Makes the steps of a run in a kernel, some at a time; NumPy makes a step that is not finite.

    NumPy also makes the update of shards, one that a kernel cannot make, and that of steps within which hooks act. Then
    the kernel computes the gradients alone.
    """

    name: ClassVar[str] = "compiled"
    compile = staticmethod(StepKernel)

    @classmethod
    def require(cls) -> None:
        """Check that llvmlite is installed, and load it, so that the checks of the data use native code too."""
        if not available():
            raise UsageError(f"engine='compiled' needs llvmlite: {installing('llvmlite')}")
        with suppress(Exception):  # a broken llvmlite: the first step falls back to NumPy, and says why
            llvm()

    @classmethod
    def identity(cls, *, flush_to_zero: bool) -> dict[str, str]:
        named = super().identity(flush_to_zero=flush_to_zero) | {"arithmetic": arithmetic(compiled=True)}
        try:
            return named | {"products": products()}
        except ImportError:  # a broken llvmlite
            return named | {"products": "none"}

    @classmethod
    def many(cls) -> ManySteps:
        from framework.training.engines.native.many import ManySteps  # noqa: PLC0415 (seldom needed)

        return ManySteps()

    @classmethod
    def predictor(cls, model: Model, *, quiet: bool) -> Callable[[Any], tuple[Any, Any]] | None:
        from framework.training.engines.native.prediction import compile_prediction  # noqa: PLC0415 (seldom needed)

        compiled = compile_prediction(model, "" if quiet else f"engine={cls.name!r}")
        return None if compiled.reason is not None else compiled.outputs

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self._data: tuple[Any, Any] = (None, None)  # the arrays of a piece, and as the kernel takes them
        self._kept: list[tuple[Array, Array]] | None = None  # what a chunk changes, with copies; None before it does
        self._outputs: list[Array] = []  # of the last chunk
        self._ready: dict[tuple[int, int], _Ready] = {}  # by the rows of a batch and the number of batches
        self._single = False  # whether batches have one row
        self._error: Exception | None = None  # of a step that has not been made
        self._told: str | None = None  # why NumPy makes the update, as far as a warning has said it

    def make_plan(self, batch: Batch) -> Planned:
        made, refusal = None, ""
        try:
            made = self._plan(batch)
        except CannotLower as error:
            refusal = str(error)
        refusals = [] if self.strategy is None else self.strategy.shards.workers.gather(refusal)
        for rank, reason in enumerate(refusals):
            if reason and not all(refusals):
                raise UsageError(
                    f"engine='compiled': worker {rank} has no kernel ({reason}), and worker {refusals.index('')} has "
                    "one, so that the bits would depend on the number of workers",
                    advice="use one llvmlite everywhere, or train with engine='numpy'",
                )
        if made is None:
            raise CannotLower(refusal)
        reason = made.compiled.plan.reason
        before, self._told = self._told, reason
        known = self.quiet if before is None else reason == before
        if reason and not known and self.strategy is None:
            warn(f"engine={self.name!r}: falling back to NumPy for the update: {reason}")
        return made

    def _plan(self, batch: Batch) -> Planned:
        """Return the plan of this worker, with a kernel for single rows where batches have one."""
        within = f"{', '.join(self.within)} must act within each step" if self.within else ""
        within = "the update of shards is NumPy's" if self.strategy is not None else within
        mixes, arguments = (
            self.strategy is not None and self.strategy.mixes,
            (self.run, self.regularizers, self.figures),
        )
        settings: dict[str, Any] = {"pause_flushing": self.pause_flushing, "shards": mixes, "within": within}
        if self._single:
            with suppress(CannotLower):
                return plan_training(*arguments, batch, RowKernel, **settings)
        return plan_training(*arguments, batch, self.compile, **settings)

    def longest(self, piece: Piece) -> float:
        """Return the steps of one size that are left, as many as what is kept of them leaves room for."""
        if self._single != (piece.size == 1):
            self._single, self._batch, self._form = piece.size == 1, None, None
        made, size = self.plan_for(piece.arrays), piece.next_rows
        if made is None or not made.groups or not self._takes(made, size):
            return 0
        room = KEPT_BYTES // max(1, made.compiled.plan.bytes_per_row * size)
        return 1 if size < piece.size else min(max(1, room), (piece.count - piece.place) // size)

    def _takes(self, made: Planned, rows: int) -> bool:
        """Return whether a kernel takes so many rows as one batch."""
        model = made.compiled.plan.graph.model
        mixes = bool(model.buffers) or model.minimum[0] > 1 or made.compiled.runs_python
        fits = rows >= model.minimum[0] and not (mixes and rows > self.part_rows)
        return fits and not (made.compiled.single and rows > 1)

    def launch(self, piece: Piece, rates: Array) -> Chunk | None:
        made, run = self.planned, self.run
        assert made is not None
        if self._error is not None:
            raise self._error
        changing = run.optimizer.parameters.vector, *run.optimizer.memory.values(), *run.model.buffers.values()
        ready = self._prepare_chunk(made, piece, rates, changing)
        weights, steps, first = ready.weights, ready.steps, ready.first
        count = len(weights)
        if not count:
            return None
        self._outputs = outputs_of(steps)
        keeps = self.metrics or made.compiled.runs_python
        self._kept = [(array, array.copy()) for array in changing] if keeps else []
        begun = time.perf_counter()
        try:
            count = ready.call(first, first + count, 0) - first
        except Exception as error:  # of a layer that Python runs: the next chunk raises it, as these steps count
            count, self._error = Slot.of(run.model).workspace[made.compiled].reached - first, error
            if not count:
                raise
        seconds = time.perf_counter() - begun
        if not count:
            self._kept = None
            return None
        for gradient in run.model.parameters.frozen_gradients:
            gradient[...] = 0.0
        return self.chunk_of(steps.totals[:count], steps.counts, weights[:count], seconds)

    def chunk_of(self, totals: Array, counts: Array, weights: Array, seconds: float = 0.0) -> Chunk:
        """Return steps with their totals, (steps, totals), the divisors of their losses, and their weights."""
        count = len(weights)
        loss = float(totals[count - 1, 0] / counts[count - 1])
        return Chunk(count, count, self.add_up([*totals.T], weights), loss, seconds)

    def _prepare_chunk(self, made: Planned, piece: Piece, rates: Array, changing: Iterable[Array]) -> _Ready:
        """Return the steps of a chunk, given the arrays that they change: those of an earlier one, where it can be."""
        parts = made, piece.arrays, *changing
        ready = self._ready.get((piece.next_rows, len(rates)))
        if ready is None or len(parts) != len(ready.parts) or not all(map(is_, parts, ready.parts)):
            ready = self._allocate_chunk(made, piece, len(rates), parts)
        elif piece.rows is not ready.rows or piece.place != ready.place:
            ready.move(piece)
        if rates is not ready.rates or not ready.steady:
            self._fill_steps(ready, piece, rates)
        return ready

    def _allocate_chunk(self, made: Planned, piece: Piece, count: int, parts: tuple[Any, ...]) -> _Ready:
        """Return so many steps with arrays of their own; see ``_Ready``."""
        kernel, run, size, (order, first) = made.compiled, self.run, piece.next_rows, order_of(piece, piece.rows)
        if self._data[0] is not piece.arrays:
            held = self.leaves(kernel.plan, piece.arrays)
            self._data = piece.arrays, (held, addresses(held))
            self._ready.clear()
        draws = [draw for draw, _ in kernel.plan.graph.model.draws]
        steps = Steps(
            rows=size,
            first=first,
            stop=first + count,
            order=order,
            data=self._data[1],
            counts=np.zeros(count),
            numbers=np.zeros((count, kernel.numbers)),
            totals=np.zeros((count, kernel.totals)),
            clips=made.limits,
            moving=self._moving(kernel, (np.empty((count, size, *d.shape), kernel.dtype) for d in draws), count * size),
            updates=True,
            seen=self.watched,
            key=run.key,
        )
        slot = Slot.of(run.model)
        call = slot.workspace[kernel].bind(steps, slot, State.of(run.optimizer))
        steady = not draws and piece.arrays[2] is None and all(group.update.steady for group in made.groups)
        ready = _Ready(steps, call, parts, steady, piece.rows, piece.place, first, NOTHING, NOTHING)
        if not kernel.runs_python:
            if len(self._ready) == _MOST_READY:
                del self._ready[next(iter(self._ready))]  # the oldest
            self._ready[size, count] = ready
        return ready

    def _fill_steps(self, ready: _Ready, piece: Piece, rates: Array) -> None:
        """Give steps the divisors of their losses, the numbers of their updates, and their random numbers."""
        made, steps, start = ready.parts[0], ready.steps, 0
        ready.weights = self.weights(piece, steps.rows, len(rates))
        count = len(ready.weights)
        steps.counts[:count] = ready.weights * made.per_row["loss"]
        for numbers in made.numbers(rates[:count], self.run.optimizer.steps):
            stop = start + numbers.shape[1]
            steps.numbers[:count, start:stop], start = numbers, stop
        draws = [draw for draw, _ in made.compiled.plan.graph.model.draws]
        for index, drawn in enumerate(self.draw(draws, count, steps.rows, count)):
            steps.moving[f"draw {index}"][:count] = drawn
        ready.rates = rates

    def _moving(self, kernel: StepKernel, draws: Iterable[Array], rows: int) -> dict[str, Array]:
        """Return the random numbers of some rows, and arrays for their outputs, by role and number."""
        dtype = self.run.model.dtype
        arrays = {f"draw {index}": array.astype(dtype, copy=False) for index, array in enumerate(draws)}
        shapes = {f"kept {index}": (rows, *node.shape[1:]) for index, node in enumerate(kernel.plan.kept)}
        return arrays | {name: np.empty(shape, dtype) for name, shape in shapes.items()}

    def outputs(self, number: int, piece: Piece, rows: int) -> tuple[Any, Any]:
        assert self.planned is not None
        start = number * piece.size
        plan = self.planned.compiled.plan
        return plan.output_trees([array[start : start + rows] for array in self._outputs])  # type: ignore[no-any-return]

    def take_outputs(self, outputs: list[Array]) -> None:
        """Take the outputs of a chunk that is made elsewhere."""
        self._outputs = outputs

    def undo(self) -> bool:
        kept, self._kept = self._kept, None
        for array, before in kept or ():
            array[...] = before
        return kept is None or bool(kept)

    def commit(self) -> None:
        self._kept = None

    def leaves(self, plan: Plan, batch: Batch) -> list[Array]:
        """Return the leaves of a batch as a kernel takes them."""
        x, y, weight = batch
        kinds: dict[str, Any] = {"f": self.run.model.dtype, "i": np.int64, "b": self.run.model.dtype}
        arrays = [*leaves(x), *leaves(y), *([] if weight is None else [weight])]
        pairs = zip(arrays, plan.inputs.values(), strict=False)
        return [np.ascontiguousarray(array, kinds[node.kind]) for array, node in pairs]

    def fill(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot in the kernel; NumPy does it where a number is not finite."""
        made = self.plan_for(batch)
        if made is not None and self._takes(made, rows_in(batch[1])):
            sums = self._in_kernel(made, count, batch, key, slot)
            if sums is not None:
                return sums
        return super().fill(batch, count, key, slot)

    def _fill_gradients(self, batch: Batch, count: float) -> Sums:
        strategy, model, key = self.strategy, self.run.model, self.run.key
        if strategy is None or not strategy.mixes or self.plan_for(batch) is None:
            return super()._fill_gradients(batch, count)
        fill, first = partial(self._of_shard, count), partial(self._in_phases, count)
        return strategy.gradient(fill, model, batch, key, first=first)

    def _in_phases(
        self, count: float, batch: Batch, key: tuple[int, ...], slot: Slot, rows: int | None = None
    ) -> Computation:
        """Fill a slot from a shard of so many rows, whose layers mix rows; see ``Fill``.

        Raises:
            DivergedError: A number is not finite, or the rows are too few.
        """
        made = self.plan_for(batch)
        own = rows_in(batch[1])
        if made is None or (rows or own) < made.compiled.plan.graph.model.minimum[0]:
            raise DivergedError("NumPy names what is wrong")
        memory, steps = slot.workspace[made.compiled], self._steps(made, count, batch, key)
        for phase in count_from():
            phased = steps._replace(phase=phase, whole=rows or own)
            if not memory.run(phased, slot, State.of(self.run.optimizer)):
                raise DivergedError("a number is not finite")
            exchanged = memory.array_to_exchange(phase, own)
            if exchanged is None:
                break
            exchanged[...] = yield exchanged
        return self._sums_of(made, steps, batch, slot)

    def _in_kernel(self, made: Planned, count: float, batch: Batch, key: tuple[int, ...], slot: Slot) -> Sums | None:
        """Fill a slot from some rows; return the sums of their figures, or None where a number is not finite."""
        kernel, steps = made.compiled, self._steps(made, count, batch, key)
        if not slot.workspace[kernel].run(steps, slot, State.of(self.run.optimizer)):
            return None
        return self._sums_of(made, steps, batch, slot)

    def _steps(self, made: Planned, count: float, batch: Batch, key: tuple[int, ...]) -> Steps:
        """Return the step that computes the gradients of some rows alone."""
        kernel, rows = made.compiled, rows_in(batch[1])
        draws, held = [], self.leaves(kernel.plan, batch)
        for draw, _ in kernel.plan.graph.model.draws:
            draws.append(np.empty((rows, *draw.shape), np.float32))
            draw.fill(draws[-1], key)
        return Steps(
            rows=rows,
            first=0,
            stop=1,
            order=np.arange(rows),
            data=(held, addresses(held)),
            counts=np.array([count]),
            numbers=np.zeros((1, kernel.numbers)),
            totals=np.zeros((1, kernel.totals)),
            clips=made.limits,
            moving=self._moving(kernel, draws, rows),
            updates=False,
            seen=True,
            key=key,
        )

    def _sums_of(self, made: Planned, steps: Steps, batch: Batch, slot: Slot) -> Sums:
        """Return the sums of the figures of some rows, whose gradients are computed."""
        kernel, model = made.compiled, self.run.model
        for name in model.parameters.frozen:
            slot.gradients[name][...] = 0.0
        _, y, weight = batch
        total, *totals = steps.totals[0].tolist()
        figures = {figure.key: figure for figure in (*self.figures.of_outputs, *self.figures.of_metrics)}
        named = zip([*made.per_row][1:], totals, strict=True)
        sums: Sums = {"loss": (total,)} | {name: (total, figures[name].divisor(y, weight)) for name, total in named}
        if made.metrics:
            h, a = kernel.plan.output_trees(outputs_of(steps))
            sums |= self.figures.metric_sums(model, h, a, y, weight, made.metrics)
        return sums


def order_of(piece: Piece, rows: Array) -> tuple[Array, int]:
    """Return an order of rows, and the number of the next batch in it: 0 if that is the last one and has fewer rows."""
    order = np.ascontiguousarray(rows, np.int64)
    return (order[piece.place :], 0) if piece.next_rows < piece.size else (order, piece.place // piece.size)


def outputs_of(steps: Steps) -> list[Array]:
    """Return the outputs that are kept of some steps."""
    return [array for name, array in steps.moving.items() if name.startswith("kept ")]
