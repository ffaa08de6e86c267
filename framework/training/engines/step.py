"""The step of a run with NumPy, as one function of its batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from framework.backends.programs import keys_of, require_called, require_derivatives
from framework.backends.step import Computation, Slot, StepProgram, draw_numbers, require_rows
from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import DivergedError
from framework.base.trees import form_of, leaves, map_leaves, rows_in, sample_shape
from framework.formulas.losses import Loss
from framework.formulas.losses.several import Figure, OutputLosses
from framework.graph.step import ModelGraph, StepGraph
from framework.graph.trace import share
from framework.models import Model
from framework.models.base import unsound_buffer
from framework.training.runs.figures import Figures

_LOOPS = {"backward": (Loss.backward,), "count": (Loss.count, OutputLosses.count)}
"""The loops of the base classes, which the graph of a loss takes the place of."""


def overrides_loop(loss: Loss) -> str | None:
    """Return the method with which a class replaces what its base class does with ``value``, or None."""
    names = (name for name, known in _LOOPS.items() if getattr(type(loss), name) not in known)
    return next((f"{type(loss).__name__}.{name}" for name in names), None)


def metrics_in_step(figures: Figures, model: Model) -> list[Figure]:
    """Return the metrics that are losses, whose sums a step computes.

    NumPy computes one whose numbers a Preprocess turns back.
    """
    return [
        figure
        for figure in figures.of_metrics
        if isinstance(figure.formula, Loss)
        and type(figure.formula).output_sums in (Loss.output_sums, OutputLosses.output_sums)
        and overrides_loop(figure.formula) is None
        and figures.inverse(model, figure) is None
    ]


class NumPyStep:
    """Fills the gradients of a model from a batch; one function for each form of a batch."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        figures: Figures,
        pause_flushing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare for the batches of a run; ``pause_flushing`` is that of ``Engine``."""
        self.model, self.loss, self.figures, self.pause_flushing = model, loss, figures, pause_flushing
        self._by_hand = overrides_loop(loss) is not None
        self._forms: dict[Any, _Form] = {}

    def __call__(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot from some rows; the loss in the sums is without ``count``.

        Args:
            batch: The rows.
            count: What the loss is divided by.
            key: The key of the rows' random numbers.
            slot: The arrays to fill.

        Raises:
            DivergedError: The loss is not finite.
        """
        if self._by_hand:
            return self.by_hand(batch, count, key, slot)
        return self._form(batch, shards=False).step(batch, count, key, slot)

    def shard(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot, rows: int) -> Computation:
        """Fill a slot from a shard of a batch of so many rows, whose layers mix rows."""
        return self._form(batch, shards=True).shard(batch, count, key, slot, rows)

    def by_hand(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot by hand: for a loss with loops of its own, and for the error of what is not finite."""
        x, y, weight = batch
        model = self.model
        model.forward(x, key=key, copy=False)
        own = model.parameters.gradient
        total = count * self.loss.backward(model, y, weight, count=count, check=False)
        if slot.gradient is not own:
            slot.gradient[...] = own
        return {"loss": (total,)} | self.figures.training_sums(model, y, weight)

    def _form(self, batch: Batch, *, shards: bool) -> _Form:
        x, y, weight = batch
        key = form_of(x), form_of(y), weight is None, shards, self.model.parameters.frozen
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = _Form(self, batch, shards=shards)
        return form


class _Form:
    """The step of batches of one form."""

    def __init__(self, step: NumPyStep, batch: Batch, *, shards: bool) -> None:
        model, loss, figures = step.model, step.loss, step.figures
        self._by_hand = step.by_hand
        metrics = metrics_in_step(figures, model)
        formulas = [(figure.path, figure.formula) for figure in metrics]
        kept = shards or len(metrics) < len(figures.of_metrics)  # by shards, for the error of what is not finite

        x, y, weight = batch
        plain = ModelGraph(model, sample_shape(x), training=True, shards=shards, stable=False)
        keys = keys_of(loss, *(formula for _, formula in formulas), dtype=model.dtype)
        form = form_of(y), weight is None, kept, model.parameters.frozen
        key = plain.key, keys, *(path for path, _ in formulas), *form

        def make() -> tuple[StepGraph, StepProgram]:
            with step.pause_flushing():
                require_called(plain.written)
                require_derivatives(*(layer for _, layer in model.walk_models()), loss, traced=True)
            traced = StepGraph(model, loss, batch, metrics=formulas, shards=shards, plain=plain)
            return traced, StepProgram(traced, kept=kept or None in traced.loss.metrics)

        graph, program = share(key, make, model._built().programs if plain.calls else None)
        made = [figure for figure, total in zip(metrics, graph.loss.metrics, strict=True) if total is not None]
        self.model, self.loss, self.figures, self.graph = model, loss, figures, graph
        self.totals = [*figures.of_outputs, *made]
        self.rest = tuple(figure for figure in figures.of_metrics if figure not in made)
        self.program = program
        self.frozen = [name for name in model.parameters if name not in program.trained]
        state = model._built()
        self.dtype: Any = state.dtype
        self._numbers = [*state.parameters.views.values(), *state.buffers.values()]

    def step(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot; where a number is not finite, or an id is out of range, the step by hand raises its error."""
        try:
            results = self.program.function.function(*self._arguments(batch, count, key, slot))
        except IndexError:  # an id is out of range
            results = None
        if results is None or not self._is_sound(results):
            return self._by_hand(batch, count, key, slot)
        return self._finish(results, batch, slot)

    def shard(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot, rows: int) -> Computation:
        """Fill a slot from a shard of a batch of so many rows, which waits for sums over all rows."""
        results: Any = None
        try:
            step = self.program.function.function(*self._arguments(batch, count, key, slot, rows))
            results = (yield from step) if self.program.function.waits else step
        except IndexError:
            pass
        if results is None or not self._has_sound_ids(results):
            return self._by_hand(batch, count, key, slot)
        if not self._is_sound(results):
            raise self._divergence(results, batch[1])
        return self._finish(results, batch, slot)

    def _arguments(
        self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot, rows: int | None = None
    ) -> list[Any]:
        """Return the memory and the arguments of the program; ``rows`` are those of the whole batch of a shard."""
        (x, y, weight), graph, program, dtype = batch, self.graph.model, self.program, self.dtype
        if graph.minimum[0]:
            require_rows(graph, rows or rows_in(y))
        memory, gradients = slot.workspace[program.function], slot.gradients
        memory.key = key
        into = gradients.values() if program.whole else map(gradients.__getitem__, program.trained)
        arrays = [x, y] if type(x) is not dict and type(y) is not dict else [*leaves(x), *leaves(y)]
        if weight is not None:
            arrays.append(weight)
        for index, array in enumerate(arrays):
            if (array.dtype is not dtype and array.dtype.kind == "f") or not array.flags.c_contiguous:
                arrays[index] = np.ascontiguousarray(array, dtype if array.dtype.kind == "f" else None)
        drawn = draw_numbers(graph, key, rows_in(y)) if graph.draws else ()
        return [memory, *arrays, dtype.type(count), *self._numbers, *drawn, *into]

    def _has_sound_ids(self, results: tuple[Any, ...]) -> bool:
        return self.program.sound is None or bool(results[self.program.sound])

    def _is_sound(self, results: tuple[Any, ...]) -> bool:
        """Return whether ids are in range, and the loss and the new buffers are finite."""
        if not (math.isfinite(results[0]) and self._has_sound_ids(results)):
            return False
        new = self._new_buffers(results).values() if self.program.changed else ()
        return not new or all(np.isfinite(buffer).all() for buffer in new)

    def _new_buffers(self, results: tuple[Any, ...]) -> dict[str, Array]:
        program = self.program
        return dict(zip(program.changed, results[program.buffers :], strict=False))

    def _divergence(self, results: tuple[Any, ...], y: Any) -> DivergedError:
        """Return the error of a shard whose loss, or a new buffer of it, is not finite."""
        if math.isfinite(results[0]):
            new = self._new_buffers(results).items()
            return unsound_buffer(self.model, next(name for name, buffer in new if not np.isfinite(buffer).all()))
        h, a = self.program.outputs(results)
        loss, outputs = self.graph.loss, self.graph.model.outputs
        h = map_leaves(lambda name, leaf: leaf if loss.of_h.get(name) else None, outputs, h)
        totals = {path: float(total) for path, total in zip(loss.paths, results, strict=False)}
        return self.loss.divergence(a, h, self.model.output_activation, y, totals)

    def _finish(self, results: tuple[Any, ...], batch: Batch, slot: Slot) -> Sums:
        """Write new buffers and the gradients of frozen parameters, and return the sums of the figures, loss first."""
        if slot.buffers:
            for name, buffer in (self.model.buffers | self._new_buffers(results)).items():
                slot.buffers[name][...] = buffer
        for name in self.frozen:
            slot.gradients[name][...] = 0.0
        sums: Sums = {"loss": (float(results[0]),)}
        if not self.figures.summed:
            return sums
        _, y, weight = batch
        for figure, total in zip(self.totals, results[1:], strict=False):
            sums[figure.key] = float(total), figure.divisor(y, weight)
        if self.rest:
            h, a = self.program.outputs(results)
            sums |= self.figures.metric_sums(self.model, h, a, y, weight, self.rest)
        return sums
