"""The compiled engine: the steps of a chunk in one native function."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count as count_from
from typing import Any, ClassVar

import numpy as np

from framework.arithmetic import arithmetic
from framework.arrays import Array, Batch, Sums
from framework.data.pieces import Piece, rows_of_batch
from framework.emit.step import Computation, Slot, finish
from framework.engines.chunks import Chunk, ChunkEngine
from framework.engines.compiled.kernel import Kernel
from framework.engines.compiled.lower import Plan, lowered
from framework.engines.compiled.source import Form, kernel_source
from framework.engines.compiled.wiring import Path, Wiring
from framework.engines.records import CannotLower
from framework.errors import DivergedError, UsageError
from framework.extras import installing
from framework.losses import Loss
from framework.losses.several import Losses
from framework.models import Model
from framework.models.layer import Layer
from framework.native import available, llvm, products
from framework.optimizers import Optimizer
from framework.settings.messages import warn
from framework.trees import at, rows_in


class CompiledEngine(ChunkEngine):
    """Makes the steps of a run in a kernel, some at a time; NumPy makes a step whose loss or gradient is not finite.

    NumPy also makes the update of shards, one that a kernel cannot make, and that of steps within which hooks act. Then
    the kernel computes the gradients alone.
    """

    name: ClassVar[str] = "compiled"
    trains_many: ClassVar[bool] = True

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
    def predictor(cls, model: Model, *, quiet: bool) -> Callable[[Any], tuple[Any, Any]] | None:
        from framework.engines.compiled.prediction import compiled_model  # noqa: PLC0415 (seldom needed)

        compiled = compiled_model(model, "" if quiet else f"engine={cls.name!r}")
        return None if compiled.reason is not None else compiled.outputs

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self._mixes = self.strategy is not None and self.strategy.mixes
        self._kernel: Kernel | None = None  # for the next step
        self._data: Batch | None = None  # of which every epoch has the same, and so the same kernel
        self._part: Kernel | None = None  # the same, if it computes gradients alone
        self._kernels: dict[Form, Kernel | None] = {}
        self._compiled: dict[tuple[Form, str], Kernel] = {}
        self._plan: Plan | None = None
        self._told: str | None = None  # why NumPy makes the update, as far as a warning has said it
        self._recipe: Optimizer | None = None
        self._settings: dict[str, Any] | None = None
        self._reason = ""  # why NumPy computes the form that was refused last
        self._kept: list[tuple[Array, Array]] = []  # arrays that a chunk changes, and what they were before it
        # the losses of several outputs whose sums the kernel gives, and its sums
        self._losses_of_outputs = [each for each in self.figures.of_outputs if not isinstance(each.formula, Losses)]
        self._sums = np.zeros(3 + len(self._losses_of_outputs))
        try:
            self._lower()
        except CannotLower as error:
            self._refuse(error)

    def longest(self, piece: Piece) -> float:
        kernel = self._kernel
        if piece.arrays is not self._data or self.run.optimizer.recipe is not self._recipe:
            shards = 1 if self.strategy is None else self.strategy.shards.count
            self._kernel = kernel = self._kernel_for(piece.arrays, -(-piece.size // shards))  # on each worker
            self._part = kernel if kernel is not None and kernel.form.part else None
            self._data = piece.arrays if piece.lasting else None
        return 0 if kernel is None or kernel.form.part else kernel.longest

    def launch(self, piece: Piece, rates: Array) -> Chunk | None:
        kernel, run, optimizer = self._kernel, self.run, self.run.optimizer
        assert kernel is not None
        first, outputs, sums = piece.place // piece.size, self._losses_of_outputs, self._sums
        sums[0], sums[1] = run.sums.get("loss", (0.0, 0.0))
        for place, figure in enumerate(outputs, 3):
            sums[place] = run.sums.get(figure.key, (0.0,))[0]
        if self.metrics:
            arrays = (optimizer.parameters.vector, *optimizer.memory.values(), *kernel.buffers)
            self._kept = [(array, array.copy()) for array in arrays]
        stop, seen = first + len(rates), self.watched
        train = kernel.prepared(
            first,
            stop,
            piece.arrays,
            piece.rows,
            rates,
            optimizer,
            sums,
            seen=seen,
            keys=[run.key],
            lasting=piece.lasting,
        )
        begun = time.perf_counter()
        stop, made = train(0)
        if stop == first:
            return None
        total, count, loss, *_ = sums.tolist()
        return Chunk(
            batches=stop - first,
            steps=made,
            sums={"loss": (total, count), **(self._of_outputs(kernel, outputs, sums) if outputs else {})},
            loss=loss,
            seconds=time.perf_counter() - begun,
        )

    def outputs(self, number: int, piece: Piece, rows: int) -> tuple[Any, Any]:
        assert self._kernel is not None
        return self._kernel.outputs(number * piece.size, rows)

    def undo(self) -> bool:
        for array, before in self._kept:
            array[:] = before
        return bool(self._kept)

    def _summed(self, batch: Batch, count: float) -> Sums:
        strategy, model, fill = self.strategy, self.run.model, partial(self._of_shard, count)
        if strategy is None or self._part is None:
            return super()._summed(batch, count)
        if strategy.mixes:
            return strategy.gradient(fill, model, batch, self.run.key, first=partial(self._in_kernel, count))
        sums = strategy.gradient(fill, model, batch, self.run.key, several=partial(self._of_shards, count))
        for gradient in model.parameters.frozen_gradients:
            gradient[...] = 0.0
        return sums

    def _of_rows(self, count: float, batch: Batch, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot in the kernel; NumPy does it where numbers may not be finite."""
        if self._part is not None:
            try:
                return finish(self._in_kernel(count, batch, key, slot))
            except DivergedError:
                pass
        return super()._of_rows(count, batch, key, slot)

    def _in_kernel(
        self, count: float, batch: Batch, key: tuple[int, ...], slot: Slot, rows: int | None = None
    ) -> Computation:
        """Fill a slot in the kernel; see ``Fill``.

        Raises:
            DivergedError: A number may not be finite.
        """
        assert self._part is not None
        kernel: Kernel = self._part if rows is None else slot.workspace[self._part]
        own, numbers = rows_in(batch[1]), np.zeros(3 + len(self._losses_of_outputs))
        order, counts = np.arange(own), np.array([count, rows or own], float)
        optimizer = self.run.optimizer
        call = kernel.prepared(0, 1, batch, order, counts, optimizer, numbers, seen=True, keys=[key], slot=slot)
        for phase in count_from():
            done, made = call(phase)
            if not done:
                raise DivergedError("a number may not be finite")
            if made:
                break
            part = kernel.exchanges[phase]
            part[...] = yield part
        sums = self._sums_of_part(kernel, numbers, batch, slice(0, None))
        if rows is not None:
            for buffer, new in zip(slot.buffers.values(), kernel.renewed(), strict=True):
                buffer[...] = new
        return sums

    def _of_shards(
        self, count: float, batch: Batch, keys: Sequence[tuple[int, ...]], slot: Slot, places: Array
    ) -> list[Sums]:
        """Fill the gradients of parts of a batch in one call of the kernel; return the sums of those that are done."""
        kernel, optimizer = self._part, self.run.optimizer
        assert kernel is not None
        numbers = np.zeros((len(keys), 3 + len(self._losses_of_outputs)))
        least = places[:, 1].min()  # each part must have as many rows as a layer needs
        rows, rates = np.arange(rows_in(batch[1])), np.array([count, least], float)
        call = kernel.prepared(
            0, len(keys), batch, rows, rates, optimizer, numbers, seen=True, keys=keys, parts=places, slot=slot
        )
        done, _ = call(0)
        parts = [slice(start, start + size) for start, size in places[:done, :2].tolist()]
        return [self._sums_of_part(kernel, sums, batch, part) for sums, part in zip(numbers, parts, strict=False)]

    def _sums_of_part(self, kernel: Kernel, numbers: Array, batch: Batch, part: slice) -> Sums:
        """Return the sums of the loss and the metrics of some rows, given those that the kernel has computed."""
        outputs = self._losses_of_outputs
        sums: Sums = {"loss": (float(numbers[0]),)}
        sums |= self._of_outputs(kernel, outputs, numbers) if outputs else {}
        if not (metrics := self.figures.of_metrics):
            return sums
        _, y, weight = rows_of_batch(batch, part)
        h, a = kernel.outputs(part.start, rows_in(y))
        return sums | self.figures.metric_sums(self.run.model, h, a, y, weight, metrics)

    def _of_outputs(self, kernel: Kernel, outputs: list[Any], sums: Array) -> Sums:
        """Return the sums of the losses of several outputs, given the kernel's sums."""
        totals = dict(zip((figure.path for figure in outputs), sums[3:], strict=True))
        per_row, count = {path: kernel.per_row(path) for path in totals}, sums[1]

        def sums_of(loss: Loss, path: Path) -> tuple[float, float]:
            if not isinstance(loss, Losses):
                return float(totals[path]), per_row[path]
            inside = ((loss.weight_of(name), *sums_of(each, (*path, name))) for name, each in loss.losses.items())
            return sum(share * total / each for share, total, each in inside), 1.0

        found = ((figure.key, *sums_of(figure.formula, figure.path)) for figure in self.figures.of_outputs)
        return {key: (total, float(count) * each) for key, total, each in found}

    def _kernel_for(self, data: Batch, size: int) -> Kernel | None:
        """Return the kernel for data of this form, compiled; settings that a hook has assigned may need another one."""
        recipe = self.run.optimizer.recipe
        if recipe is not self._recipe:
            settings = recipe.settings()
            settings.pop("learning_rate")
            if settings != self._settings:
                self._kernels, self._settings = {}, settings
            self._recipe = recipe
        form = Form(
            single=size == 1,
            classes=classes_of(self.run.loss_function, data[1]),
            weighted=data[2] is not None,
            keeps=bool(self.figures.of_metrics),
            part=self.strategy is not None,
        )
        if form not in self._kernels:
            self._kernels[form] = None
            kernel = self._made(form, data, size)
            reason = self._reason if kernel is None else ""
            reasons = [] if self.strategy is None else self.strategy.shards.workers.gather(reason)
            for rank, reason in enumerate(reasons):
                if reason and not all(reasons):
                    raise UsageError(
                        f"engine='compiled': worker {rank} has no kernel ({reason}), and worker {reasons.index('')} "
                        "has one, so that the bits would depend on the number of workers; use one llvmlite everywhere, "
                        "or train with engine='numpy'"
                    )
            self._kernels[form] = kernel
        return self._kernels[form]

    def _made(self, form: Form, data: Batch, size: int) -> Kernel | None:
        """Return the kernel for the settings as they are now, or None where there can be none."""
        try:
            plan = self._lower()
            require_rows(data, plan.wiring)
            self._require_form(plan.wiring, size)
            if plan.reason:
                form = replace(form, part=True)
            source = kernel_source(plan, form, size)
            kernel = self._compiled.get((form, source.text))
            if kernel is None:
                kernel = self._compiled[form, source.text] = Kernel(plan, form, source, self.run.model, size)
            kernel.constants[:-1] = source.constants  # perhaps only the constants are new
        except Exception as error:  # noqa: BLE001 (whatever the compiler raises for a formula that lowers)
            self._refuse(error)
            return None
        before, self._told = self._told, plan.reason
        known = self.quiet if before is None else plan.reason == before
        if plan.reason and not known:
            warn(f"engine='compiled': falling back to NumPy for the update: {plan.reason}")
        return kernel

    def _lower(self) -> Plan:
        """Return the plan for the settings as they are now; see ``lowered``."""
        run, recipe, shards = self.run, self.run.optimizer.recipe, self.strategy is not None
        if self._plan is None or recipe is not self._plan.optimizer:
            within = "" if shards or not self.within else f"{', '.join(self.within)} must act within each step"
            self._plan = lowered(run.model, run.loss_function, recipe, self.regularizers, shards=shards, within=within)
        return self._plan

    def _refuse(self, error: Exception) -> None:
        """Leave the steps to NumPy, and say why, once."""
        reason = str(error).partition("\n")[0] or type(error).__name__
        if reason != self._reason:
            self.fall_back(reason)
        self._reason = reason

    def _require_form(self, wiring: Wiring, size: int) -> None:
        """Refuse ids that a hook may change, and layers whose result depends on how a batch is cut into parts."""
        if wiring.tables and "on_batch_begin" in self.within:
            raise CannotLower("on_batch_begin may change the ids of an Embedding, which a kernel does not check")
        cut = self.part_rows < size and not self._mixes
        for layer in (operation.layer for operation in wiring.operations) if cut else ():
            if layer is not None and (layer.mixes_rows or type(layer).draws is not Layer.draws):
                raise CannotLower(f"{type(layer).__name__} with accumulate: a kernel takes a batch as a whole")


def classes_of(loss: Loss, y: Any) -> bool | tuple[bool, ...]:
    """Return whether targets are classes; for each of several outputs."""
    if not isinstance(loss, Losses):
        return loss.by_row and bool(y.ndim == 1)
    found: tuple[bool, ...] = ()
    for name, each in loss.losses.items():
        inside = classes_of(each, y[name])
        found += inside if isinstance(inside, tuple) else (inside,)
    return found


def require_rows(data: Batch, wiring: Wiring) -> None:
    """Refuse rows that are not plain numbers or single ids, or that have another width than the model's matrices.

    Raises:
        CannotLower: Names the input.
    """
    for path in wiring.inputs:
        ids = any(table.path == path for table in wiring.tables)
        array, name = at(data[0], path), "".join(["x", *(f"[{key!r}]" for key in path)])
        if ids and array.ndim != 1:
            raise CannotLower(f"an Embedding in a kernel has a single id a row; got {name} of shape {array.shape}")
        if array.ndim != 2 and not (path and array.ndim == 1):
            raise CannotLower(f"a kernel takes samples of one axis; got {name} of shape {array.shape}")
    for columns in wiring.columns:
        array = at(data[0], columns.path)
        found = array.shape[1] if array.ndim == 2 else 1
        if found != columns.width:  # of a model that leaves its width open; NumPy names the layer
            raise CannotLower(f"a kernel for {columns.width} columns; got {found}")
