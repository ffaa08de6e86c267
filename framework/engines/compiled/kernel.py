"""Kernel: a compiled function with the memory that it works in."""

from __future__ import annotations

import importlib
import math

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import read_only
from framework.engines.compiled.cache import load
from framework.engines.compiled.lower import Plan
from framework.engines.compiled.source import Form, KernelSource
from framework.models import Model
from framework.optimizers import BoundOptimizer

KEPT_NUMBERS = 1_000_000
"""How many numbers a kernel may keep of a chunk's outputs."""

LEAST_ROWS, SCRATCH_NUMBERS = 16, 4096
"""A formula over rows takes this many numbers at once, and at least this many rows."""

LIMITS = {"float64": 1e280, "float32": 1e30}
"""The largest square of a gradient in the kernel; the NumPy engine makes the steps beyond it."""


class Kernel:
    """A compiled function with the memory that it works in.

    Attributes:
        constants: The settings in its formulas, which may be replaced by others for the same formulas.
        longest: How many batches a chunk may have, so that the outputs which are kept for metrics stay small.
    """

    def __init__(self, plan: Plan, form: Form, source: KernelSource, model: Model, size: int) -> None:
        """Load the source and lay out the memory."""
        dtype = plan.dtype
        self._train = load(source.text).train
        self._address = 0
        if "gemm(" in source.text:  # SciPy takes a tenth of a second to import
            self._address = importlib.import_module("framework.engines.compiled.native").gemm_address(dtype)
        self.form, self.model, self.size = form, model, size
        self.constants = np.array(source.constants)
        self._limit = LIMITS[dtype]
        self._folds = plan.descends
        sizes = [plan.layers[0].inputs, *(getattr(layer, "units", 1) for layer in plan.layers)]
        self._sizes = np.array(sizes)
        self.longest = max(1, KEPT_NUMBERS // (size * sizes[-1])) if form.keeps else math.inf
        self._kept = (np.zeros((0, sizes[-1]), dtype), np.zeros((0, sizes[-1]), dtype))
        self._layers, self._source = plan.layers, source
        spread = np.zeros(size * max(sizes), dtype)  # dL/dx of one layer at a time
        at_once = min(size, max(LEAST_ROWS, SCRATCH_NUMBERS // max(sizes)))
        self._memory = {
            "scratch_0": np.zeros((source.scratch * max(sizes), at_once), dtype),
            "columns_0": np.zeros((source.columns, at_once), dtype),
            "scales_0": np.zeros(size, dtype),
            "values_0": np.zeros(size, dtype),
        }
        for i in range(len(plan.layers)):
            for name, width in (("x", sizes[i]), ("h", sizes[i + 1])):
                self._memory[f"{name}_{i}"] = np.zeros((size, width), dtype)
            self._memory[f"s_{i}"] = spread[: size * sizes[i]].reshape(size, sizes[i])
        for name in ("target", "a"):
            self._memory[f"{name}_{len(plan.layers) - 1}"] = np.zeros((size, sizes[-1]), dtype)
        self._classes = np.zeros(size, np.int64)
        self._arrays: tuple[Array, ...] = ()
        self._runs: tuple[Array, ...] = ()
        self._version = -1

    def _array(self, name: str) -> Array:
        """Return the array of a name: working memory, or the current view of parameters or gradients.

        With ``_flat`` it has one axis.
        """
        kind, _, place = name.partition("_")
        if kind not in ("w", "gw", "b", "gb"):
            memory = self._memory[name.removesuffix("_flat")]
            return memory.reshape(-1) if name.endswith("_flat") else memory
        parameters = self._layers[int(place)].parameters
        views = parameters.gradients if kind[0] == "g" else parameters.views
        array: Array = views["bias" if kind in ("b", "gb") else "weights"]
        return array.reshape(-1) if kind in ("b", "gb") or self._sizes[int(place) + 1] == 1 else array

    def train(
        self,
        first: int,
        stop: int,
        data: Batch,
        rows: Array,
        rates: Array,
        optimizer: BoundOptimizer,
        sums: Array,
        *,
        seen: bool,
    ) -> tuple[int, int]:
        """Train on batches first..stop; return the first batch that was not done, and how many steps were made.

        A plain step is part of the products, which leave only the gradient of the last batch; with ``seen`` every
        gradient is computed, for callbacks that read it.
        """
        x, y, weight = data
        parameters = optimizer.parameters
        if self._version != parameters.version:
            runs = parameters.trainable_runs()
            self._runs = np.array([run.start for run in runs]), np.array([run.stop for run in runs])
            self._arrays, self._version = tuple(map(self._array, self._source.arrays)), parameters.version
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
            tuple(optimizer.memory.values()),
            *self._runs,
            rates,
            optimizer.steps,
            int(self._folds and not parameters.frozen_gradients) * (2 if seen else 1),
            self.constants,
            self._arrays,
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
        shape = (rows, *(size for size in self.model.output_shape if isinstance(size, int)))
        h, a = (kept[start : start + rows].reshape(shape) for kept in self._kept)
        return h, a
