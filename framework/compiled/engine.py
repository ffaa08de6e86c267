"""Run steps in native chunks; signals, stops and callbacks are handled between chunks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.compiled.cache import COMPILING, load_anew
from framework.compiled.kernel import Kernel
from framework.compiled.lower import CannotLower, Plan, lowered
from framework.compiled.rehearsal import rehearse
from framework.compiled.source import Form, kernel_source
from framework.compiled.source import Source as Written
from framework.data import ArraySource, Batch, DatasetSource, Source, permutation
from framework.losses import Loss
from framework.messages import warn
from framework.run import Run, add_sums
from framework.schedules import Schedule
from framework.schedules.base import rate_at

MetricSums = Callable[[Array, Array, Array, Array | None], dict[str, tuple[float, ...]]]

CHUNK_SECONDS = 0.05
"""How long a chunk lasts, so that Ctrl-C, a stop and a bar of progress wait no longer than that."""

GROWTH = 32.0
"""How many times longer than the one before a chunk may be: the first, of one batch, tells little about the time."""


class Engine:
    """Make the steps of a run in a kernel.

    ``batches`` gives None at every boundary between chunks, where training may end, and a batch when NumPy must make
    the step: the loss is not finite, or a gradient may not be.
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        loss: Loss,
        size: int,
        sums: MetricSums | None,
        after: Callable[[], None] | None,
        *,
        quiet: bool = False,
    ) -> None:
        """Prepare for a run.

        Args:
            run: The run.
            source: Its data.
            loss: What is descended.
            size: Rows in a batch.
            sums: Gives the sums of the metrics from (h, a, y, weight) of a batch; None where there are no metrics.
            after: Is called after each step, which makes chunks of one batch; None where no callback asks for it.
            quiet: Whether NumPy makes a run's first step without a notice where the kernel cannot be compiled.
        """
        self.run, self.source, self.loss, self.sums, self.after, self.quiet = run, source, loss, sums, after, quiet
        self.size = min(size, source.rows)
        self._length = 1.0  # of a chunk, in batches; only time depends on it
        self._kernels: dict[Form, Kernel | None] = {}
        self._compiled: dict[tuple[Form, str], Kernel] = {}
        self._settings: dict[str, Any] | None = None
        self._plan: Plan | None = None

    def batches(self, *, shuffle: bool) -> Iterator[Batch | None]:
        """Train to the end of the epoch, in the epoch's order of rows or in the data's own.

        Raises:
            DerivativeError: A formula reads another value than when its kernel was made.
        """
        run = self.run
        if self._plan is not None:
            self._plan.require_unchanged()
        for data, rows, before in self._pieces(shuffle=shuffle):
            while (place := (run.batch - before) * self.size) < len(rows):
                yield None
                if not self._advance(data, rows, before):
                    yield _taken(data, rows[place : place + self.size])

    def _pieces(self, *, shuffle: bool) -> Iterator[tuple[Batch, Array, int]]:
        """Give data, which rows make up its batches, and how many batches come before: arrays are one piece."""
        run, source = self.run, self.source
        order = (run.seed, run.epoch) if shuffle else None
        if isinstance(source, ArraySource):
            rows = np.arange(source.rows) if order is None else permutation(source.rows, *order)
            yield (source.x, source.y, source.weight), rows, 0
        elif isinstance(source, DatasetSource):
            for piece in source.pieces(self.size, run.batch * self.size, order):
                yield piece, np.arange(len(piece[0])), run.batch

    def _advance(self, data: Batch, rows: Array, before: int) -> bool:
        """Make a chunk of steps from the run's batch on, and return whether the kernel made any.

        Args:
            data: x, y and weight.
            rows: Which rows of them make up the batches, in order.
            before: How many batches of the epoch come before the first of ``rows``.
        """
        kernel = self._kernel(data, rows)
        if kernel is None:
            return False
        run, binding = self.run, self.run.optimizer.binding
        first = run.batch - before
        begun = time.perf_counter()
        length = 1 if self.after else max(1, int(min(self._length, kernel.longest)))
        rates = self._rates(min(length, math.ceil(len(rows) / self.size) - first))
        arrays = (binding.parameters.vector, *binding.memory.values())
        kept = [array.copy() for array in arrays] if self.sums else []
        stop, made, sums = self._trained(kernel, first, data, rows, rates)
        metrics, failure = self._metrics(kernel, data, rows, first, stop)
        if failure:  # as in the NumPy engine, the steps before it are made, and that of its batch is not
            for array, before_chunk in zip(arrays, kept, strict=True):
                array[:] = before_chunk
            stop, made, sums = self._trained(kernel, first, data, rows, rates[: len(metrics)])
        if stop > first:
            self._length = min(CHUNK_SECONDS * (stop - first) / (time.perf_counter() - begun), GROWTH * (stop - first))
        if made:
            run.sums["loss"] = (float(sums[0]), float(sums[1]))
            run.batch_loss, binding.rate = float(sums[2]), float(rates[made - 1])
        for batch_sums in metrics:
            add_sums(run.sums, batch_sums)
        run.batch += stop - first
        run.step += made
        binding.steps += made
        binding.updating = False
        if made and (self.after or stop * self.size >= len(rows)):
            run.current = _taken(data, rows[(stop - 1) * self.size : stop * self.size])
        if failure:
            raise failure
        if made and self.after:
            self.after()
        return stop > first

    def _trained(self, kernel: Kernel, first: int, data: Batch, rows: Array, rates: Array) -> tuple[int, int, Array]:
        """Train on one batch for each rate; return the first that was not done, the steps made, and the loss's sums."""
        binding = self.run.optimizer.binding
        sums = np.array([*self.run.sums.get("loss", (0.0, 0.0)), 0.0])
        binding.updating = True  # stays set when what the kernel has done is not counted
        try:
            done = kernel.train(first, first + len(rates), data, rows, rates, binding, sums, seen=bool(self.after))
        except Exception:  # from before the first step: a kernel raises nothing
            binding.updating = False
            raise
        return *done, sums

    def _kernel(self, data: Batch, rows: Array) -> Kernel | None:
        """Return the kernel for data of this form, compiled; settings that a hook has assigned may need another one."""
        settings = self.run.optimizer.settings()
        settings.pop("learning_rate")
        if settings != self._settings:
            self._kernels, self._settings = {}, settings
        form = Form(
            single=self.size == 1,
            classes=self.loss.by_row and data[1].ndim == 1,
            weighted=data[2] is not None,
            keeps=self.sums is not None,
        )
        if form not in self._kernels:
            self._kernels[form] = self._made(form, data, rows)
        return self._kernels[form]

    def _made(self, form: Form, data: Batch, rows: Array) -> Kernel | None:
        """Return the kernel for the settings as they are now, or None where there can be none."""
        run = self.run
        try:
            _require_rows(data)
            plan = lowered(run.model, self.loss, run.optimizer)
            source = kernel_source(plan, form)
            kernel = self._compiled.get((form, source.text))
            if kernel is None:
                rehearse(plan.formulas)
                kernel = self._compiled[form, source.text] = self._compile(plan, form, source, data, rows)
            kernel.constants[:] = source.constants  # other settings may be all that is new
            self._plan = plan
        except Exception as error:  # noqa: BLE001 (a formula that lowers and that Numba refuses all the same)
            lines = [line for line in str(error).splitlines() if line and not line.startswith("Failed in ")]
            if run.step or not self.quiet:
                reason = lines[0] if lines else type(error).__name__
                warn(f"the compiled engine falls back to NumPy: {reason}")
            if not run.step:
                run.engine = "numpy"
            return None
        return kernel

    def _compile(self, plan: Plan, form: Form, written: Written, data: Batch, rows: Array) -> Kernel:
        """Return a new kernel, compiled by a call without batches; a damaged cache file is replaced."""

        def compiled() -> Kernel:
            kernel = Kernel(plan, form, written, self.run.model, self.size)
            kernel.train(0, 0, data, rows, np.zeros(0), self.run.optimizer.binding, np.zeros(3), seen=False)
            return kernel

        with COMPILING:
            try:
                return compiled()
            except Exception:  # noqa: BLE001 (whatever a damaged file makes Numba raise; another error comes again)
                load_anew(written.text)
                return compiled()

    def _rates(self, count: int) -> Array:
        """Return the rates of the next steps, up to the first that is none: NumPy makes that step, and says so."""
        optimizer = self.run.optimizer
        rate, steps = optimizer.learning_rate, optimizer.binding.steps
        if not isinstance(rate, Schedule):
            return np.full(count, rate)
        rates = np.zeros(count)
        for made in range(count):
            try:
                rates[made] = rate_at(rate, steps + made)
            except Exception:  # noqa: BLE001 (a schedule's own, or that what it gives is no rate)
                return rates[:made]
        return rates

    def _metrics(
        self, kernel: Kernel, data: Batch, rows: Array, first: int, stop: int
    ) -> tuple[list[dict[str, tuple[float, ...]]], BaseException | None]:
        """Return the metrics' sums of each batch of a chunk, up to the one at which a metric fails, and its error.

        They are added up one after another, as the NumPy engine does.
        """
        found: list[dict[str, tuple[float, ...]]] = []
        if self.sums is None:
            return found, None
        try:
            for batch in range(first, stop):
                _, y, weight = _taken(data, rows[batch * self.size : (batch + 1) * self.size])
                outputs = kernel.outputs((batch - first) * self.size, len(y))
                found.append(self.sums(*outputs, y, weight) if weight is None or weight.any() else {})
        except BaseException as error:  # noqa: BLE001 (the engine raises it, once the steps before it are made)
            return found, error
        return found, None


def _require_rows(data: Batch) -> None:
    if data[0].ndim != 2:
        raise CannotLower(f"a kernel takes samples of one axis; got x of shape {data[0].shape}")


def _taken(data: Batch, rows: Array) -> Batch:
    x, y, weight = data
    return x[rows], y[rows], None if weight is None else weight[rows]
