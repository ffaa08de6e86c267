"""Kernel: a compiled function with the memory that it works in."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import read_only
from framework.engines.compiled.cache import load
from framework.engines.compiled.lower import Plan
from framework.engines.compiled.source import Form, KernelSource
from framework.engines.compiled.wiring import Path
from framework.models import Model
from framework.optimizers import BoundOptimizer
from framework.trees import at

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
        self._sizes = np.array(source.sizes)
        self._wiring, self._source = plan.wiring, source
        self._by_row = {i: loss.by_row for i, loss in zip(plan.wiring.outputs.values(), plan.losses, strict=True)}
        wiring, layers = plan.wiring, range(len(plan.wiring.layers))
        self._width = sum(map(wiring.units, wiring.outputs.values()))
        self.longest = max(1, KEPT_NUMBERS // (size * self._width)) if form.keeps else math.inf
        self._kept = (np.zeros((0, self._width), dtype), np.zeros((0, self._width), dtype))
        widest = max(*wiring.widths, *map(wiring.units, layers))
        spread = np.zeros(size * widest, dtype)  # dL/dx of one layer at a time, where they are one after another
        at_once = min(size, max(LEAST_ROWS, SCRATCH_NUMBERS // widest))
        self._memory = {
            "scratch_0": np.zeros((source.scratch * widest, at_once), dtype),
            "columns_0": np.zeros((source.columns, at_once), dtype),
            "scales_0": np.zeros(size, dtype),
            "values_0": np.zeros(size, dtype),
        }
        for m, width in enumerate(wiring.widths):
            own = spread[: size * width] if wiring.in_line else np.zeros(size * width, dtype)
            self._memory |= {f"x_{m}": np.zeros((size, width), dtype), f"s_{m}": own.reshape(size, width)}
        self._memory |= {f"h_{i}": np.zeros((size, wiring.units(i)), dtype) for i in layers}
        for i in wiring.outputs.values():
            self._memory |= {f"{name}_{i}": np.zeros((size, wiring.units(i)), dtype) for name in ("target", "a")}
            self._memory[f"classes_{i}"] = np.zeros(size, np.int64)
        self._memory |= {f"ids_{t}": np.zeros(size, np.int64) for t in range(len(wiring.tables))}
        self._classes = np.zeros(size, np.int64)
        self._arrays: tuple[Array, ...] = ()
        self._runs: tuple[Array, ...] = ()
        self._version = -1

    def _array(self, name: str) -> Array:
        """Return the array of a name: working memory, or the current view of parameters or gradients.

        With ``_flat`` it has one axis.
        """
        kind, _, place = name.partition("_")
        if kind not in ("w", "gw", "b", "gb", "e", "ge"):
            memory = self._memory[name.removesuffix("_flat")]
            return memory.reshape(-1) if name.endswith("_flat") else memory
        wiring, number = self._wiring, int(place)
        parameters = (wiring.tables[number].layer if kind in ("e", "ge") else wiring.layers[number]).parameters
        views = parameters.gradients if kind[0] == "g" else parameters.views
        array: Array = views["bias" if kind in ("b", "gb") else "weights"]
        vector = kind in ("b", "gb") or (kind in ("w", "gw") and wiring.units(number) == 1)
        return array.reshape(-1) if vector else array

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
        x, y, weight = self._rows(data)
        parameters = optimizer.parameters
        if self._version != parameters.version:
            runs = parameters.trainable_runs()
            self._runs = np.array([run.start for run in runs]), np.array([run.stop for run in runs])
            self._arrays, self._version = tuple(map(self._array, self._source.arrays)), parameters.version
        if self.form.keeps:
            shape, dtype = ((stop - first) * self.size, self._width), parameters.vector.dtype
            self._kept = (np.empty(shape, dtype), np.empty(shape, dtype))
        done, made = self._train(
            first,
            stop,
            self.size,
            x,
            y,
            weight,
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

    def _rows(self, data: Batch) -> tuple[Any, Any, Array]:
        """Return x, y and weight as the source takes them: an array, or a tuple of them for several by name."""
        x, y, weight = data
        dtype = self._memory["scales_0"].dtype
        weight = read_only(np.zeros(0, dtype) if weight is None else weight)
        if self._wiring.inputs != [()]:
            x = tuple(_rows_of_numbers(at(x, path)) for path in self._wiring.inputs)
        else:
            x = read_only(x)
        if not isinstance(self.form.classes, tuple):
            return x, read_only(y) if self.form.classes else _rows_of_numbers(y), weight
        targets = (at(y, path) for path in self._wiring.outputs)
        pairs = zip(targets, self.form.classes, strict=True)
        return x, tuple(read_only(part) if classes else _rows_of_numbers(part) for part, classes in pairs), weight

    def per_row(self, path: Path) -> float:
        """Return how many values of a row the mean of an output's loss is over."""
        i = self._wiring.outputs[path]
        return 1.0 if self._by_row[i] else float(self._wiring.units(i))

    def outputs(self, start: int, rows: int) -> tuple[Any, Any]:
        """Return (h, a) of some rows of the last chunk, in the model's shape."""
        h, a = (kept[start : start + rows] for kept in self._kept)
        shapes, stop = self.model.output_shape, 0
        if not isinstance(shapes, dict):
            return tuple(_shaped(part, shapes) for part in (h, a))  # type: ignore[return-value]
        found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for path, i in self._wiring.outputs.items():
            start, stop = stop, stop + self._wiring.units(i)
            for tree, part in zip(found, (h, a), strict=True):
                inside = tree
                for name in path[:-1]:
                    inside = inside.setdefault(name, {})
                inside[path[-1]] = _shaped(part[:, start:stop], at(shapes, path))
        return found


def _rows_of_numbers(array: Array) -> Array:
    return read_only(array.reshape(len(array), -1))


def _shaped(rows: Array, shape: Any) -> Array:
    return rows.reshape(len(rows), *(size for size in shape if isinstance(size, int)))
