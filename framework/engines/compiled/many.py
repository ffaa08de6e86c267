"""The compiled engine for many models: blocks of models go through their epochs in the lanes of one kernel.

A block holds as many models as a vector has numbers; lanes without a model of their own repeat the first one. Before a
chunk of steps the parameters of the models are copied into the block, and after it back. If a model diverges in a
chunk, the kernel makes the steps before that again, and NumPy makes the step for each model of the block, which finds
the model and its error. A model that stops or diverges leaves its block; those that are left fill new blocks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import is_not
from typing import Any, Protocol

import numpy as np

from framework.arrays import Array, Sums
from framework.data.pieces import Piece
from framework.engines.base import Engine
from framework.engines.chunks import Pace
from framework.engines.compiled.lanes import (
    ManyForm,
    ManySource,
    lanes_of,
    many_source,
    update_of,
)
from framework.engines.compiled.lower import Plan, lowered, require_one_rate
from framework.engines.compiled.wiring import Wiring
from framework.engines.records import CannotLower, Lowered, rehearsed_update
from framework.errors import DivergedError
from framework.losses import Loss
from framework.models import Model
from framework.models.parameters import Parameters
from framework.native import addresses, compiled
from framework.optimizers import Optimizer
from framework.regularizers import Regularizer
from framework.runs.figures import Figures, add_sums
from framework.runs.run import Run
from framework.settings.messages import warn

KEPT_NUMBERS = 1_000_000
"""How many numbers a kernel may keep of a chunk's outputs, or draw for it."""


class Member(Protocol):
    """A model of many in training.

    Attributes:
        run: Its run.
        piece: The rows of its epoch.
        by_numpy: Makes its steps, where the kernel cannot.
    """

    run: Run
    piece: Piece
    by_numpy: Engine


def many_plan(model: Model, loss: Loss, optimizer: Optimizer, regularizers: Sequence[Regularizer]) -> Plan:
    """Return the plan of a kernel for many models like ``model``.

    Raises:
        CannotLower: Some part has no form in such a kernel.
    """
    plan = lowered(model, loss, optimizer, regularizers)
    for classes in {loss.by_row, False}:
        many_source(plan, ManyForm(shared=False, classes=classes, whole=True, keeps=False))
    return plan


def require_like(plan: Plan, model: Model, optimizer: Optimizer) -> bool:
    """Return whether a model has the layers of a plan, and check that a kernel can take its optimizer.

    Raises:
        CannotLower: A part has no form in a kernel.
    """
    _record_of(optimizer, plan.dtype)
    return model.dtype == plan.dtype and _shape(Wiring.of(model)) == _shape(plan.wiring)


def _record_of(optimizer: Optimizer, dtype: str) -> Lowered:
    """Return the record of an update that a kernel can make for several models.

    Raises:
        CannotLower: The optimizer has factors or clips gradients, or its update cannot be recorded.
    """
    require_one_rate(optimizer)
    if optimizer.clip_norm is not None or optimizer.clip_value is not None:
        raise CannotLower(f"it does not clip gradients, as {type(optimizer).__name__} is to do")
    return rehearsed_update(optimizer, dtype)


def _shape(wiring: Wiring) -> tuple[Any, ...]:
    return wiring.signature, [operation.activation for operation in wiring.operations]


class ManyEngine:
    """Makes the steps of many models in kernels, each for as many as a vector has lanes.

    Args:
        plan: What the kernels are made of.
        size: Rows in a batch.
        figures: The loss and the metrics.
    """

    def __init__(self, plan: Plan, size: int, figures: Figures) -> None:
        self.plan, self.size, self.lanes, self.figures = plan, size, lanes_of(plan.dtype), figures
        numbers = size * self.lanes * plan.wiring.operations[-1].width
        self._longest = max(1, KEPT_NUMBERS // numbers) if figures.of_metrics else math.inf
        self._kernels: dict[Any, _Kernel] = {}
        self._settings: dict[int, tuple[Optimizer, tuple[Any, tuple[float, ...]]]] = {}
        self._spans: dict[int, tuple[Any, int, tuple[tuple[int, int], ...]]] = {}
        self._arrays: dict[int, tuple[Any, list[Array]]] = {}
        self._joined: tuple[list[Piece], Array] = [], np.zeros(0, np.int64)
        self._pace = Pace()

    def blocks(self, members: Iterable[Member]) -> list[list[Member]]:
        """Return members in blocks: of one kernel, one number of rows and steps, and rows in one order if possible."""
        groups: dict[Any, list[Member]] = {}
        for member in members:
            run, piece = member.run, member.piece
            update, _ = self._updates(run.optimizer.recipe)
            key = (
                update,
                self._trainable(run.model.parameters),
                piece.count,
                piece.size,
                piece.place,
                run.step,
                piece.arrays[1].ndim,
            )
            groups.setdefault(key, []).append(member)
        found = []
        for group in groups.values():
            ordered = sorted(group, key=lambda member: (id(member.piece.arrays[0]), id(member.piece.rows)))
            found += [ordered[start : start + self.lanes] for start in range(0, len(ordered), self.lanes)]
        return found

    def _trainable(self, parameters: Parameters) -> tuple[tuple[int, int], ...]:
        """Return the first number and the count of the runs of numbers that are trained, found once."""
        known, version, found = self._spans.get(id(parameters), (None, -1, ()))
        if known is not parameters or version != parameters.version:
            found = tuple((part.start, part.stop - part.start) for part in parameters.trainable_runs())
            self._spans[id(parameters)] = parameters, parameters.version, found
        return found

    def advance(self, block: Sequence[Member]) -> list[tuple[Member, DivergedError]]:
        """Make a chunk of steps of a block, whose rows are not done; return the models that diverge, with their errors.

        Where a hook has assigned settings of an optimizer that have no kernel, NumPy makes the steps.
        """
        size = block[0].piece.size
        first = block[0].piece.place // size
        total = math.ceil(block[0].piece.count / size)
        longest = max(1, int(min(self._pace.length, self._longest)))
        rates = [member.by_numpy.rates(min(longest, total - first)) for member in block]
        length = min(map(len, rates))
        record, _ = self._updates(block[0].run.optimizer.recipe)
        if not length or record is None:  # of a schedule that fails, NumPy raises the error
            return self._by_numpy(block, 1)
        begun = time.perf_counter()
        kernel, data = self._kernel(block)
        stop = first + length
        before = kernel.take(block)
        reached, sums, losses = kernel.train(first, stop, data, block, rates)
        steps, by_numpy = length, 0
        if reached < stop or not kernel.finite:
            kernel.put(before)
            steps = max(0, reached - first - 1) if reached < stop else 0
            by_numpy = (reached if reached < stop else stop - 1) - first - steps + 1
            if steps:
                _, sums, losses = kernel.train(first, first + steps, data, block, rates)
        try:
            metrics = self._metrics(block, kernel, first, steps)
        except Exception:  # noqa: BLE001 (a metric's own error, which NumPy raises in the step that it belongs to)
            return self._by_numpy(block, length)
        self._count(block, kernel, steps, rates, sums, losses)
        for member, found in zip(block, metrics, strict=True):
            for batch_sums in found:
                add_sums(member.run.sums, batch_sums)
        if by_numpy:
            return self._by_numpy(block, by_numpy)
        self._pace.note(length, time.perf_counter() - begun)
        return []

    def _metrics(self, block: Sequence[Member], kernel: _Kernel, first: int, steps: int) -> list[list[Sums]]:
        """Return the metrics' sums of each model and batch."""
        metrics, found = self.figures.of_metrics, list[list[Sums]]()
        for lane, member in enumerate(block):
            found.append([])
            piece, model = member.piece, member.run.model
            for batch in range(steps if metrics else 0):
                start = (first + batch) * piece.size
                _, y, weight = piece.part(start, start + piece.size)
                h, a = kernel.outputs(batch * piece.size, len(y), lane, model.output_shape)
                sums = self.figures.metric_sums(model, h, a, y, weight, metrics)
                found[-1].append(sums)
        return found

    def _count(
        self, block: Sequence[Member], kernel: _Kernel, steps: int, rates: list[Array], sums: Array, losses: Array
    ) -> None:
        """Give the models the numbers of the kernel, and count their steps."""
        if not steps:
            return
        loss, width = self.plan.loss, self.plan.wiring.operations[-1].width
        piece = block[0].piece
        rows = min(piece.count, piece.place + steps * piece.size) - piece.place
        count = float(rows if loss.by_row else rows * width)
        for member in block:
            member.run.optimizer.begin()  # it stays inconsistent if it is interrupted here
        kernel.give(block)
        for lane, member in enumerate(block):
            run = member.run
            total, counted = run.sums.get("loss", (0.0, 0.0))
            run.sums["loss"] = (total + float(sums[lane]), counted + count)
            run.batch_loss = float(losses[lane])
            run.batch += steps
            run.step += steps
            member.piece.place += steps * piece.size
            run.optimizer.count(steps, float(rates[lane][steps - 1]))

    def _by_numpy(self, block: Sequence[Member], steps: int) -> list[tuple[Member, DivergedError]]:
        """Make some steps with NumPy, and return the models that diverge."""
        diverged = []
        for member in block:
            try:
                for _ in range(steps):
                    member.by_numpy.advance(member.piece)
            except DivergedError as error:
                diverged.append((member, error))
            except Exception as error:
                error.run = member.run  # type: ignore[attr-defined]
                raise
        return diverged

    def _updates(self, recipe: Optimizer) -> tuple[Any, tuple[float, ...]]:
        """Return the update of an optimizer, or None, and its numbers that kernels take as arguments."""
        known, found = self._settings.get(id(recipe), (None, (None, ())))
        if known is not recipe:
            try:
                record = _record_of(recipe, self.plan.dtype)
                update = update_of(record, self.plan.dtype, self.lanes)
                found = (record, update.text), update.constants
            except CannotLower as reason:  # settings that a hook has assigned
                warn(f"fit_many: falling back to NumPy: {reason}")
                found = None, ()
            self._settings[id(recipe)] = recipe, found
        return found

    def _kernel(self, block: Sequence[Member]) -> tuple[_Kernel, list[Array]]:
        """Return the kernel of a block, and its data: rows, then x and y, of all or of each model."""
        pieces = [member.piece for member in block]
        first = pieces[0]
        shared = all(piece.arrays is first.arrays and piece.rows is first.rows for piece in pieces)
        (record, text), _ = self._updates(block[0].run.optimizer.recipe)
        parameters = block[0].run.model.parameters
        trainable = self._trainable(parameters)
        whole = sum(count for _, count in trainable) == parameters.vector.size
        form = ManyForm(
            shared, self.plan.loss.by_row and first.arrays[1].ndim == 1, whole, bool(self.figures.of_metrics)
        )
        key = form, text
        if key not in self._kernels:
            self._kernels[key] = _Kernel(replace(self.plan, update=record), form, self.size)
        kernel = self._kernels[key]
        kernel.trainable = np.array(trainable).ravel()
        settings = [self._updates(member.run.optimizer.recipe)[1] for member in block]
        kernel.settings = np.array(_filled(settings, self.lanes)).T.ravel()
        if shared:
            return kernel, [first.rows, *self._given(first.arrays, form)]
        return kernel, [
            self._rows(pieces),
            *(array for piece in _filled(pieces, self.lanes) for array in self._given(piece.arrays, form)),
        ]

    def _rows(self, pieces: list[Piece]) -> Array:
        """Return the rows of each model one after another, joined once for all chunks of a block."""
        known, found = self._joined
        if len(known) != len(pieces) or any(map(is_not, known, pieces)):
            found = np.concatenate(_filled([piece.rows for piece in pieces], self.lanes))
            self._joined = pieces, found
        return found

    def _given(self, arrays: Any, form: ManyForm) -> list[Array]:
        """Return x and y as a kernel takes them, cast once."""
        known, found = self._arrays.get(id(arrays), (None, []))
        if known is not arrays:
            x, y, _ = arrays
            dtype = self.plan.dtype
            found = [np.ascontiguousarray(x, dtype), np.ascontiguousarray(y, np.int64 if form.classes else dtype)]
            self._arrays[id(arrays)] = arrays, found
        return found


def require_data(plan: Plan, piece: Piece) -> None:
    """Check that a kernel can take these rows.

    Raises:
        CannotLower: The rows have weights, or are not plain numbers of the model's width.
    """
    x, width = piece.arrays[0], plan.wiring.widths[0]
    if x.ndim != 2:
        raise CannotLower(f"a kernel takes samples of one axis; got x of shape {x.shape}")
    if x.shape[1] != width:  # of a model that leaves its width open; NumPy names the layer
        raise CannotLower(f"a kernel for {width} columns; got {x.shape[1]}")
    if piece.arrays[2] is not None:
        raise CannotLower("it takes no weights of rows")


def _filled(values: Sequence[Any], count: int) -> list[Any]:
    """Return values, and the first one again until there are ``count``."""
    return [*values, *[values[0]] * (count - len(values))]


class _Kernel:
    """A compiled function with the memory of a block."""

    def __init__(self, plan: Plan, form: ManyForm, size: int) -> None:
        self.plan, self.size = plan, size
        self.source: ManySource = many_source(plan, form)
        self._train = compiled(self.source.text, "train", plan.dtype)
        self.lanes = self.source.lanes
        self.settings = self.trainable = np.zeros(0)
        self.sizes = np.array([*self.source.sizes, 0])
        self.constants = np.array([*self.source.constants, 0.0])
        self._memory: dict[str, Array] = {}
        self._done = np.zeros(2, np.int64)
        self._keeps, self._width = form.keeps, plan.wiring.operations[-1].width
        self._kept = [np.zeros(0, plan.dtype)] * 2

    @property
    def _state(self) -> list[Array]:
        """The parameters and the optimizer's memory."""
        return [self._memory["vector"], *(self._memory[f"memory_{place}"] for place in self._places)]

    @property
    def _places(self) -> list[int]:
        """Which arrays of the optimizer's memory the update takes."""
        return [spec[1] for spec in self.source.memory.values() if spec[0] == "memory"]

    def _state_of(self, run: Run) -> list[Array]:
        memory = [*run.optimizer.memory.values()]
        return [run.optimizer.parameters.vector, *(memory[place] for place in self._places)]

    @property
    def finite(self) -> bool:
        """Whether all parameters and all memory are finite."""
        return all(np.isfinite(array.sum()) or np.isfinite(array).all() for array in self._state)

    def _laid(self, numbers: int) -> None:
        """Lay out the memory for models of this many parameters."""
        for name, spec in self.source.memory.items():
            kind = {"found": "float64", "classes": "int64"}.get(name, self.plan.dtype)
            shape: tuple[int, ...] = (numbers, self.lanes)
            match spec:
                case ("shared", int(per_row), int(further)):
                    shape = (per_row * self.size + further,)
                case (int(per_row), int(further)):
                    shape = (per_row * self.size + further, self.lanes)
                case _:
                    pass
            self._memory[name] = _aligned(shape, kind)

    def take(self, block: Sequence[Member]) -> list[Array]:
        """Copy the parameters and memory of models into the lanes, and return a copy of them."""
        if not self._memory:
            self._laid(block[0].run.model.parameters.vector.size)
        of_models = _filled([self._state_of(member.run) for member in block], self.lanes)
        for array, parts in zip(self._state, zip(*of_models, strict=True), strict=True):
            for lane, part in enumerate(parts):
                array[:, lane] = part
        return [array.copy() for array in self._state]

    def put(self, before: Sequence[Array]) -> None:
        """Put back what ``take`` has returned."""
        for array, part in zip(self._state, before, strict=True):
            array[...] = part

    def give(self, block: Sequence[Member]) -> None:
        """Copy parameters and memory from the lanes to the models."""
        for lane, member in enumerate(block):
            for array, part in zip(self._state, self._state_of(member.run), strict=True):
                part[...] = array[:, lane]

    def train(
        self, first: int, stop: int, data: list[Array], block: Sequence[Member], rates: list[Array]
    ) -> tuple[int, Array, Array]:
        """Train on batches first..stop; return the first batch not done, and the sums and last losses of the lanes."""
        run, piece = block[0].run, block[0].piece
        sums, losses = np.zeros((2, self.lanes))
        steps = np.array(_filled([each[: stop - first] for each in rates], self.lanes)).T.ravel()
        settings = self.settings if self.settings.size else np.zeros(1)
        rows, *arrays = data
        if self._keeps:
            self._kept = [
                np.empty((stop - first) * piece.size * self._width * self.lanes, self.plan.dtype) for _ in "ha"
            ]
            arrays += self._kept
        memory = addresses(self._memory.values())
        self._train(
            *(first, stop, piece.size, piece.count, run.optimizer.steps, len(self.trainable) // 2),
            *(rows, steps, sums, losses, self._done, self.trainable, addresses(arrays), memory),
            *(self.sizes, self.constants, settings),
        )
        return int(self._done[0]), sums, losses

    def outputs(self, place: int, rows: int, lane: int, shape: Any) -> list[Array]:
        """Return (h, a) of a model and some rows from a place of the last chunk on, in the model's shape."""
        numbers = self._width * self.lanes
        start = place * numbers
        parts = [kept[start : start + rows * numbers].reshape(self._width, rows, self.lanes) for kept in self._kept]
        return [np.ascontiguousarray(part[:, :, lane].T).reshape(rows, *shape) for part in parts]


def _aligned(shape: tuple[int, ...], dtype: str) -> Array:
    """Return zeros that begin at a multiple of 64 bytes, so that no vector lies in two lines of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
