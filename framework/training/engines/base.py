"""Engine: makes the steps of a run with NumPy, and is the base of the engines that make them otherwise.

A step has two halves: ``gradient`` fills the model's gradients from a batch, ``update`` applies them. ``advance`` makes
whole steps, with the hooks around them. Engines have names, and each is imported when a training asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from framework.backends.arithmetic import arithmetic, flushes
from framework.backends.step import Computation, Slot
from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import DivergedError
from framework.base.settings.messages import warn
from framework.base.trees import rows_in
from framework.data.pieces import Piece, rows_of_batch
from framework.formulas.schedules import Schedule, rate_at
from framework.models import Model
from framework.models.regularizers import Regularizer
from framework.training.engines.step import NumPyStep
from framework.training.runs.figures import Figures, add_sums
from framework.training.runs.run import Run

if TYPE_CHECKING:
    from framework.training.parallel.shards import SharedGradient

ENGINES = {
    "numpy": ("framework.training.engines.base", "Engine"),
    "compiled": ("framework.training.engines.native.engine", "CompiledEngine"),
    "jax": ("framework.training.engines.jax.engine", "JaxEngine"),
}
"""The module and the class of each engine."""

AUTO = "auto"
"""The name for the compiled engine where it can be used, and NumPy elsewhere, without a warning."""


class Stepping:
    """A training among several.

    Attributes:
        maker: The engine that makes its steps.
        piece: The rows of its epoch.
    """

    maker: Any
    piece: Piece


class Engine:
    """Makes the steps of a run with NumPy.

    Attributes:
        name: The name under which it is registered, as ``run.engine`` has it.
        computes_shards: Whether it computes the shards of ``DataParallel``.
        run: The run.
        figures: The loss and the metrics.
        call: Calls a hook of every callback, by its name.
        part_rows: Rows that go through the model at once. A larger batch goes through it in parts.
        regularizers: The penalties whose slopes are added to the gradients.
        strategy: Shares out a batch to workers, and adds up their results; None computes all of it here.
        watched: Whether a callback has ``on_batch_end``; a chunk is then one batch.
        within: The hooks within a step that some callback has; NumPy then makes the update.
        quiet: Whether it falls back without a warning if it cannot make the first step.
        pause_flushing: Puts back the caller's mode for subnormal numbers for a while.
    """

    name: ClassVar[str] = "numpy"
    computes_shards: ClassVar[bool] = True

    @classmethod
    def require(cls) -> None:
        """Check that everything the engine needs is installed.

        Raises:
            UsageError: Something is missing; says what to install.
        """

    @classmethod
    def identity(cls, *, flush_to_zero: bool) -> dict[str, str]:
        """Return what decides the last bits of a step, as text by name, for ``run.recipe``."""
        return {"flush_to_zero": str(flushes(wanted=flush_to_zero)), "arithmetic": arithmetic()}

    @classmethod
    def many(cls) -> Any:
        """Return what makes the steps of several trainings at once, or None where each makes its own."""

    @classmethod
    def predictor(cls, model: Model, *, quiet: bool) -> Callable[[Any], tuple[Any, Any]] | None:
        """Return what computes (h, a) of a batch; None is ``model.output``, with a warning unless ``quiet``."""
        del model, quiet
        return None

    def __init__(
        self,
        run: Run,
        figures: Figures,
        call: Callable[[str], None],
        *,
        part_rows: int,
        regularizers: Sequence[Regularizer] = (),
        strategy: SharedGradient | None = None,
        watched: bool = False,
        within: Sequence[str] = (),
        quiet: bool = False,
        pause_flushing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Prepare for a run."""
        self.run, self.figures, self.call, self.quiet, self.pause_flushing = run, figures, call, quiet, pause_flushing
        self.part_rows, self.regularizers, self.watched, self.within = part_rows, regularizers, watched, within
        self.strategy = strategy
        self._rates: tuple[float, Array] = (0.0, np.zeros(0))  # a constant one, as often as was asked for
        self._step, self._slot = NumPyStep(run.model, run.loss_function, figures, pause_flushing), Slot.of(run.model)

    def advance(self, piece: Piece) -> None:
        """Make the next step of a piece of the epoch's rows; skip a batch whose weights are all 0."""
        run = self.run
        own = None if self.strategy is None else self.strategy.shards.rows_for(piece)
        batch = piece.take(own)
        if batch[2] is not None and not batch[2].any():
            run.batch += 1
            return
        run.begin_step(batch, None if own is None else piece.take_again)
        if self.within:
            self.call("on_batch_begin")
        sums = self.gradient(batch)
        if self.within:
            self.call("on_gradients")
        self.update()
        run.finish_step(sums)
        if self.watched:
            self.call("on_batch_end")

    def gradient(self, batch: Batch) -> Sums:
        """Fill the model's gradients with those of the mean loss over the batch, and return the sums of its figures."""
        run, model, y = self.run, self.run.model, batch[1]
        count = run.loss_function.count(y.shape if type(y) is np.ndarray else (rows_in(y),), batch[2])
        sums = self._fill_gradients(batch, count)
        total = sums["loss"][0]
        sums["loss"] = total, count
        run.batch_loss = total / count
        for regularizer in self.regularizers:
            regularizer.backward(model)
        return sums

    def _fill_gradients(self, batch: Batch, count: float) -> Sums:
        """Fill the model's gradients with those of all rows, and return the sums of the loss and the metrics."""
        if self.strategy is None:
            return self._of_rows(count, batch, self.run.key, self._slot)
        return self.strategy.gradient(partial(self._of_shard, count), self.run.model, batch, self.run.key)

    def _of_shard(self, count: float, batch: Batch, key: tuple[int, ...], slot: Slot, rows: int | None) -> Computation:
        """Fill a slot from a shard; see ``Fill``."""
        if rows is None:
            return self._of_rows(count, batch, key, slot)
        return (yield from self._step.shard(batch, count, key, slot, rows))

    def _of_rows(self, count: float, batch: Batch, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot with the gradients of the sum of the loss over some rows, divided by ``count``, part by part."""
        if rows_in(batch[1]) <= self.part_rows:
            return self.fill(batch, count, key, slot)
        sums: Sums = {}
        for index, start in enumerate(range(0, rows_in(batch[1]), self.part_rows)):
            block = rows_of_batch(batch, slice(start, start + self.part_rows))
            before = slot.gradient.copy() if index else None
            try:
                add_sums(sums, self.fill(block, count, (*key, index) if index else key, slot))
            except DivergedError as error:
                error.row += start
                raise
            if before is not None:
                np.add(slot.gradient, before, out=slot.gradient)
        return sums

    def fill(self, batch: Batch, count: float, key: tuple[int, ...], slot: Slot) -> Sums:
        """Fill a slot from rows that go through the model at once; see ``NumPyStep``."""
        return self._step(batch, count, key, slot)

    def update(self) -> None:
        """Apply the gradients: one step of the optimizer."""
        self.run.optimizer.step()

    def rates(self, count: int) -> Array:
        """Return the next learning rates up to the first invalid one; the NumPy engine then raises the error."""
        optimizer = self.run.optimizer
        rate, steps = optimizer.recipe.learning_rate, optimizer.steps
        if not isinstance(rate, Schedule):
            if rate != self._rates[0] or count > len(self._rates[1]):
                self._rates = rate, np.full(count, rate)
            return self._rates[1] if count == len(self._rates[1]) else self._rates[1][:count]
        schedule, rates = optimizer.schedule(rate), np.zeros(count)
        for made in range(count):
            try:
                rates[made] = rate_at(schedule, steps + made)
            except Exception:  # noqa: BLE001 (the schedule's own error, or an invalid rate)
                return rates[:made]
        return rates

    def fall_back(self, reason: str) -> None:
        """Warn that NumPy makes the steps; before the first one, make the run one of NumPy's."""
        run = self.run
        if run.step or not self.quiet:
            warn(f"engine={self.name!r}: falling back to NumPy: {reason}")
        if not run.step:
            flush_to_zero = run.recipe.get("flush_to_zero") == str(True)
            kept = {name: text for name, text in run.recipe.items() if name not in self.identity(flush_to_zero=True)}
            run.engine, run.recipe = Engine.name, kept | Engine.identity(flush_to_zero=flush_to_zero)


def engine_of(name: str) -> type[Engine]:
    """Return the engine of a name.

    Example:
        >>> engine_of("numpy").name
        'numpy'
    """
    if name == AUTO:
        from framework.backends.native import available  # noqa: PLC0415 (slow, and needed for this name alone)

        name = "compiled" if available() else Engine.name
    module, kind = ENGINES[name]
    engine: type[Engine] = getattr(import_module(module), kind)
    return engine


def is_quiet(name: str) -> bool:
    """Return whether the engine of a name falls back to NumPy without a warning."""
    return name == AUTO


def engine_for(name: str, *, shards: bool) -> type[Engine]:
    """Return the engine of a name, or NumPy's with a warning where it does not compute the ``shards`` of workers."""
    engine = engine_of(name)
    if engine.computes_shards or not shards:
        return engine
    warn(f"engine={name!r}: falling back to NumPy: it does not compute the shards of DataParallel")
    return Engine


def outputs_of(model: Model, name: str) -> Callable[[Any], tuple[Any, Any]] | None:
    """Return what computes (h, a) of a batch in the engine of a name; None is ``model.output``.

    Raises:
        UsageError: The engine needs something that is not installed.
    """
    engine = engine_of(name)
    engine.require()
    return engine.predictor(model, quiet=is_quiet(name))
