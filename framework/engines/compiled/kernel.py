"""Kernel: a compiled function with the memory that it works in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from operator import is_not
from typing import Any

import numpy as np

from framework.arrays import Array, Batch
from framework.emit.step import Slot
from framework.engines.compiled.lower import Plan
from framework.engines.compiled.source import Form, KernelSource
from framework.engines.compiled.wiring import Path
from framework.models import Model
from framework.native import addresses, compiled
from framework.optimizers import BoundOptimizer
from framework.random_streams import random_generator
from framework.trees import at

KEPT_NUMBERS = 1_000_000
"""How many numbers a kernel may keep of a chunk's outputs, or draw for it."""

LIMITS = {"float64": 1e280, "float32": 1e30}
"""The largest square of a gradient in the kernel; the NumPy engine makes the steps beyond it."""


class Kernel:
    """A compiled function with the memory that it works in.

    Attributes:
        constants: The settings in its formulas, which may be replaced by others for the same formulas.
        longest: How many batches a chunk may have, so that what is kept for metrics and drawn for it stays small.
    """

    def __init__(self, plan: Plan, form: Form, source: KernelSource, model: Model, size: int) -> None:
        """Compile the source and lay out the memory."""
        self._train = compiled(source.text, "train", plan.dtype)
        self.form, self.model, self.size = form, model, size
        self.constants, self._sizes = np.array([*source.constants, 0.0]), np.array([*source.sizes, 0])
        self._plan, self._source, self._wiring = plan, source, plan.wiring
        self._descends = plan.descends
        self._width = sum(out.width for out in self._wiring.outputs.values())
        self.draws = [key for key in source.data if key[0] == "draw"]
        most = [self._width] if form.keeps else []
        most += [self._wiring.operations[key[1]].width for key in self.draws]
        self.longest = max(1, KEPT_NUMBERS // (size * max(most))) if most else math.inf
        self._memory = {
            name: np.zeros(spec[0] * size + spec[1] or 1, self._dtype(name))
            for name, spec in source.memory.items()
            if isinstance(spec[0], int)
        }
        places = [spec for spec in source.memory.values() if spec[2:3] == ("buffers",)]
        self._changed = [(self._wiring.operations[i].layer, name) for _, i, _, name in places]
        self._kept = (np.zeros((0, self._width), plan.dtype), np.zeros((0, self._width), plan.dtype))
        self._done = np.zeros(2, np.int64)
        self._targets: dict[Any, tuple[Any, Array]] = {}
        self._runs = self._none = np.zeros(0, np.int64)
        self._places: dict[int, tuple[int, list[Array], list[Array], tuple[Any, ...], list[Array]]] = {}
        self._fixed = not form.keeps and {key[0] for key in source.data} <= {"x", "y", "weight"}
        self._whole: tuple[Any, Any, Any] = (None, None, None)  # data, what a kernel gets of it, and where that lies
        self._changing: tuple[Array | None, ...] = (None, None, None)  # the arrays of the last call
        self._located: tuple[Any, ...] = ()  # where they lie

    def new_memory(self) -> Kernel:
        """Return a kernel with the same constants and memory of its own; see ``Workspace``."""
        made = copy(self)
        made._memory = {name: np.zeros_like(array) for name, array in self._memory.items()}
        made._done, made._targets, made._places = np.zeros_like(self._done), {}, {}
        made._whole = None, None, None
        return made

    @property
    def exchanges(self) -> list[Array]:
        """By phase but the last, the numbers to be replaced by their sums over all shards."""
        return [self._memory[name][start:stop] for name, start, stop in self._source.exchanges]

    def renewed(self) -> list[Array]:
        """Return what a part of a batch makes of the model's buffers."""
        new = dict[int, Array]()
        for i, (operation, passes) in enumerate(zip(self._wiring.operations, self._plan.passes, strict=True)):
            for place, name in enumerate(passes.names[2] if passes is not None else ()):
                new[id(operation.layer.buffers[name])] = self._memory[f"new_{i}_{place}"]
        return [new[id(buffer)] for buffer in self.model.buffers.values()]

    @property
    def buffers(self) -> list[Array]:
        """The arrays that layers change besides their parameters."""
        return [layer.buffers[name] for layer, name in self._changed]

    def _dtype(self, name: str) -> str:
        kind = name.partition("_")[0]
        return "float64" if kind == "found" else "int64" if kind in ("classes", "ids") else self._plan.dtype

    def _array(self, name: str, spec: Any, optimizer: BoundOptimizer, gradient: Array) -> Array:
        """Return the array of a name: working memory, or the current view of parameters, a gradient and memory."""
        if name in self._memory:
            return self._memory[name]
        found: Array
        match spec:
            case ("vector", "like"):
                found = np.zeros_like(optimizer.parameters.vector)
                self._memory[name] = found
            case ("vector",):
                found = optimizer.parameters.vector
            case ("gradient",):
                found = gradient
            case ("memory", place):
                found = [*optimizer.memory.values()][place]
            case _:
                where, number, group, key = spec
                layer = getattr(self._wiring, where)[number].layer
                found = getattr(layer if group == "buffers" else layer.parameters, group)[key]
                if group == "gradients":
                    start = (found.ctypes.data - optimizer.parameters.gradient.ctypes.data) // found.itemsize
                    found = gradient[start : start + found.size].reshape(found.shape)
        return found

    def prepared(
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
        keys: Sequence[tuple[int, ...]] = ((),),
        parts: Array | None = None,
        slot: Slot | None = None,
        lasting: bool = False,
    ) -> Callable[[int], tuple[int, int]]:
        """Return a function that trains on batches first..stop, or does a phase of it, given the number of the phase.

        The function returns the first batch that was not done, and how many steps were made. A kernel has one phase,
        unless it needs sums over all rows of a batch of which it computes a part: see ``exchanges``.

        A plain step is part of the products, which leave only the gradient of the last batch; with ``seen`` every
        gradient is computed, for callbacks that read it. ``keys`` holds the key of the first step's random numbers.

        With ``Form.part`` it computes gradients alone: of ``parts`` as in ``KernelSource.data``, or of all rows as one
        part, into ``slot``. Then ``keys`` holds a key for each part. Addresses of data that is ``lasting`` are kept.
        """
        parameters = optimizer.parameters
        gradient = parameters.gradient if slot is None else slot.gradient
        state = [parameters.vector, gradient, *optimizer.memory.values(), *self.buffers]
        version, placed, _, memory, frozen = self._places.get(id(gradient), (-1, [], [], (), []))
        if version != parameters.version or any(map(is_not, state, placed)):
            self._runs = np.array([[run.start, run.stop - run.start] for run in parameters.trainable_runs()], np.int64)
            arrays = [self._array(name, spec, optimizer, gradient) for name, spec in self._source.memory.items()]
            kept = [self._done, self._runs, addresses(arrays), self._sizes, self.constants]
            memory = (*self._train.located(*kept),)
            frozen = [(slot or Slot.of(self.model)).gradients[name] for name in parameters.frozen]
            self._places[id(gradient)] = parameters.version, state, kept, memory, frozen
        if self.form.keeps:
            shape, dtype = ((stop - first) * self.size, self._width), parameters.vector.dtype
            self._kept = (np.empty(shape, dtype), np.empty(shape, dtype))
        known, given, of_data = self._whole
        if known is not data:
            if parts is None:
                parts = np.array([[0, len(rows), 0, 0, 0, 0]])
            given = [
                np.ascontiguousarray(array, None if array.dtype == np.int64 else self._plan.dtype)
                for array in (self._given(name, data, rows, first, stop, keys, parts) for name in self._source.data)
            ]
            given = given, addresses(given)
            (of_data,) = self._train.located(given[1])
            if lasting and self._fixed:
                self._whole = data, given, of_data
        rows = np.ascontiguousarray(rows, np.int64)
        changing = rows, rates, sums
        if any(map(is_not, changing, self._changing)):
            self._changing, self._located = changing, (*self._train.located(*changing),)
        function = self._train.at(
            first,
            stop,
            self.size,
            len(rows),
            optimizer.steps,
            int(self._descends and not frozen) * (2 if seen else 1),
            LIMITS[self._plan.dtype],
            len(self._runs),
            *self._located,
            *memory[:2],
            of_data,
            *memory[2:],
        )

        def phase(number: int) -> tuple[int, int]:
            _ = given, changing  # whose addresses the kernel has
            function(number)
            for each in frozen:
                each[...] = 0.0
            done, made = self._done.tolist()
            return done, made

        return phase

    def _given(
        self, name: tuple[Any, ...], data: Batch, rows: Array, first: int, stop: int, keys: Any, parts: Array
    ) -> Array:
        """Return one of the arrays that change from chunk to chunk."""
        x, y, weight = data
        found: Array
        match name:
            case ("x", path):
                found = at(x, path)
            case ("y", place):
                classes = self.form.classes if isinstance(self.form.classes, tuple) else (self.form.classes,)
                target = at(y, [*self._wiring.outputs][place]) if isinstance(self.form.classes, tuple) else y
                found = self._classes(place, target) if classes[place] else target
            case ("weight",) if weight is not None:
                found = weight
            case ("kept_h" | "kept_a" as which,):
                found = self._kept[which == "kept_a"]
            case ("parts",):
                found = parts
            case _:
                drawn = self._steps(rows, weight, first, stop, keys[0])
                if self.form.part:
                    drawn = zip(keys, *parts.T[:2].tolist(), strict=True)
                found = np.empty(((stop - first) * self.size, self._wiring.operations[name[1]].width), self._plan.dtype)
                self._draw(self._wiring.operations[name[1]], name[2], drawn, found)
        return found

    def _classes(self, place: int, target: Array) -> Array:
        """Return the classes as int64, converted once for the same array."""
        known, found = self._targets.get(place, (None, target))
        if known is not target:
            found = np.ascontiguousarray(target, np.int64)
            self._targets[place] = target, found
        return found

    def _steps(
        self, rows: Array, weight: Array | None, first: int, stop: int, key: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Yield the key, the first row and the number of rows of each batch; one without weight makes no step."""
        for batch in range(first, stop):
            part = rows[batch * self.size : (batch + 1) * self.size]
            if weight is None or weight[part].any():
                yield key, (batch - first) * self.size, len(part)
                key = (*key[:2], key[2] + 1)

    @staticmethod
    def _draw(operation: Any, name: str, drawn: Iterable[tuple[tuple[int, ...], int, int]], to: Array) -> None:
        """Draw the random numbers of a layer: those of the NumPy engine."""
        for (seed, *key), start, count in drawn:
            rng = random_generator(seed, name, *key, *operation.key)
            to[start : start + count] = rng.random((count, operation.width), dtype=np.float32)

    def per_row(self, path: Path) -> float:
        """Return how many values of a row the mean of an output's loss is over."""
        place = [*self._wiring.outputs].index(path)
        return 1.0 if self._plan.losses[place].by_row else float(self._wiring.outputs[path].width)

    def outputs(self, start: int, rows: int) -> tuple[Any, Any]:
        """Return (h, a) of some rows of the last chunk, in the model's shape."""
        h, a = (kept[start : start + rows] for kept in self._kept)
        shapes, stop = self.model.output_shape, 0
        if not isinstance(shapes, dict):
            return tuple(_shaped(part, shapes) for part in (h, a))  # type: ignore[return-value]
        found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for path, out in self._wiring.outputs.items():
            start, stop = stop, stop + out.width
            for tree, part in zip(found, (h, a), strict=True):
                inside = tree
                for name in path[:-1]:
                    inside = inside.setdefault(name, {})
                inside[path[-1]] = _shaped(part[:, start:stop], at(shapes, path))
        return found


def _shaped(rows: Array, shape: Any) -> Array:
    return rows.reshape(len(rows), *(size for size in shape if isinstance(size, int)))
