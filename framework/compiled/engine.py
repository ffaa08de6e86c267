"""The compiled engine: chunks of steps in one native function, between two looks at what else is to be done."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.compiled.cache import COMPILING, load, load_anew
from framework.compiled.lower import Plan, lowered
from framework.compiled.rehearsal import rehearse
from framework.compiled.source import Form, kernel_source
from framework.compiled.source import Source as Written
from framework.data import ArraySource, Batch, DatasetSource, Source, permutation, read_only
from framework.losses import Loss
from framework.messages import warn
from framework.models import Model
from framework.run import Run, add_sums
from framework.schedules import Schedule
from framework.schedules.base import rate_at

MetricSums = Callable[[Array, Array, Array, Array | None], dict[str, tuple[float, ...]]]

CHUNK_SECONDS = 0.05
"""How long a chunk lasts, so that Ctrl-C, a stop and a bar of progress wait no longer than that."""

GROWTH = 32.0
"""How many times longer than the one before a chunk may be: the first, of one batch, tells little about the time."""

KEPT_NUMBERS = 1_000_000
"""How many numbers a kernel may keep of a chunk's outputs."""

LEAST_ROWS, SCRATCH_NUMBERS = 16, 4096
"""How many rows a formula over rows takes at once: so many numbers of an element, and at least so many rows."""

LIMITS = {"float64": 1e280, "float32": 1e30}
"""What the square of a gradient may be at most in the kernel; the NumPy engine makes the steps beyond it."""


class Engine:
    """Makes the steps of a run in a kernel.

    ``batches`` gives None at every boundary between chunks, where training may end, and a batch when the step is not
    the kernel's: a loss that is not finite, or a gradient that may not be.
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

    def batches(self, *, shuffle: bool) -> Iterator[Batch | None]:
        """Train to the end of the epoch, in the epoch's order of rows or in the data's own."""
        run = self.run
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
            run.loss, binding.rate = float(sums[2]), float(rates[made - 1])
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
            plan = lowered(run.model, self.loss, run.optimizer)
            source = kernel_source(plan, form)
            kernel = self._compiled.get((form, source.text))
            if kernel is None:
                rehearse(plan, self.loss, run.optimizer)
                kernel = self._compiled[form, source.text] = self._compile(plan, form, source, data, rows)
            kernel._constants[:] = source.constants  # other settings may be all that is new
        except Exception as error:  # noqa: BLE001 (a formula that lowers and that Numba refuses all the same)
            lines = [line for line in str(error).splitlines() if line and not line.startswith("Failed in ")]
            if run.step or not self.quiet:
                reason = lines[0] if lines else type(error).__name__
                warn(f"the compiled engine leaves its steps to NumPy: {reason}")
            if not run.step:
                run.engine = "numpy"
            return None
        return kernel

    def _compile(self, plan: Plan, form: Form, written: Written, data: Batch, rows: Array) -> Kernel:
        """Return a new kernel, compiled by a call without batches; what cannot be read from the disk is made anew."""

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


def _taken(data: Batch, rows: Array) -> Batch:
    x, y, weight = data
    return x[rows], y[rows], None if weight is None else weight[rows]


class Kernel:
    """A compiled function with the memory that it works in.

    Attributes:
        longest: How many batches a chunk may have, so that the outputs which are kept for metrics stay small.
    """

    def __init__(self, plan: Plan, form: Form, source: Written, model: Model, size: int) -> None:
        """Load the source and lay out the memory."""
        self._train = load(source.text).train
        self._address = 0
        if "gemm(" in source.text:  # SciPy takes a tenth of a second to import
            self._address = importlib.import_module("framework.compiled.native").gemm_address(plan.dtype)
        self.form, self.model, self.size = form, model, size
        self._constants = np.array(source.constants)
        self._limit = LIMITS[plan.dtype]
        self._folds = plan.descends
        sizes = [plan.layers[0].inputs, *(getattr(layer, "units", 1) for layer in plan.layers)]
        self._sizes = np.array(sizes)
        self.longest = max(1, KEPT_NUMBERS // (size * sizes[-1])) if form.keeps else math.inf
        self._kept = (np.zeros((0, sizes[-1]), plan.dtype), np.zeros((0, sizes[-1]), plan.dtype))
        self._layers, self._source = plan.layers, source
        spread = np.zeros(size * max(sizes), plan.dtype)  # dL/dx of one layer at a time
        at_once = min(size, max(LEAST_ROWS, SCRATCH_NUMBERS // max(sizes)))
        self._memory = {
            "scratch_0": np.zeros((source.scratch * max(sizes), at_once), plan.dtype),
            "columns_0": np.zeros((source.columns, at_once), plan.dtype),
            "scales_0": np.zeros(size, plan.dtype),
            "values_0": np.zeros(size, plan.dtype),
        }
        for i in range(len(plan.layers)):
            for name, width in (("x", sizes[i]), ("h", sizes[i + 1])):
                self._memory[f"{name}_{i}"] = np.zeros((size, width), plan.dtype)
            self._memory[f"s_{i}"] = spread[: size * sizes[i]].reshape(size, sizes[i])
        for name in ("target", "a"):
            self._memory[f"{name}_{i}"] = np.zeros((size, sizes[-1]), plan.dtype)
        self._classes = np.zeros(size, np.int64)
        self._arrays: tuple[tuple[Array, ...], tuple[Array, ...]] = ((), ())
        self._version = -1

    def _array(self, name: str) -> Array:
        """Return the array of a name: working memory, or a part of parameters or gradients as it lies there now.

        With ``_flat`` it has one axis.
        """
        kind, _, place = name.partition("_")
        if kind not in ("w", "gw", "b", "gb"):
            memory = self._memory[name.removesuffix("_flat")]
            return memory.reshape(-1) if name.endswith("_flat") else memory
        parameters = self._layers[int(place)].parameters
        views = parameters.gradients if kind[0] == "g" else parameters.views
        array: Array = views["bias" if kind in ("b", "gb") else "weights"]
        return array if name in self._source.matrices else array.reshape(-1)

    def train(
        self, first: int, stop: int, data: Batch, rows: Array, rates: Array, binding: Any, sums: Array, *, seen: bool
    ) -> tuple[int, int]:
        """Train on batches first..stop; return the first batch that was not done, and how many steps were made.

        A plain step is part of the products, which leave no gradient but that of the last batch; ``seen`` says that
        somebody will look at every one.
        """
        x, y, weight = data
        parameters = binding.parameters
        runs = parameters.trainable_runs()
        if self._version != parameters.version:
            names = self._source.matrices, self._source.vectors
            matrices, vectors = (tuple(map(self._array, part)) for part in names)
            self._arrays, self._version = (matrices, vectors), parameters.version
        if self.form.keeps:
            shape = ((stop - first) * self.size, self._sizes[-1])
            self._kept = (np.empty(shape, x.dtype), np.empty(shape, x.dtype))
        done, made = self._train(
            first,
            stop,
            self.size,
            read_only(x),
            read_only(y if self.form.classes else y.reshape(len(x), -1)),
            read_only(np.zeros(0, x.dtype) if weight is None else weight),
            rows,
            self._sizes,
            parameters.vector,
            parameters.gradient,
            tuple(binding.memory.values()),
            np.array([run.start for run in runs]),
            np.array([run.stop for run in runs]),
            rates,
            binding.steps,
            int(self._folds and not parameters.frozen) * (2 if seen else 1),
            self._constants,
            *self._arrays,
            self._classes,
            sums,
            *self._kept,
            self._limit,
            self._address,
        )
        for frozen in parameters.frozen_gradients:
            frozen[...] = 0.0
        return int(done), int(made)

    def outputs(self, start: int, rows: int) -> tuple[Array, Array]:
        """Return (h, a) of some rows of the last chunk, in the model's shape."""
        shape = (rows, *(size for size in self.model.output_shape if size is not None))
        h, a = (kept[start : start + rows].reshape(shape) for kept in self._kept)
        return h, a
