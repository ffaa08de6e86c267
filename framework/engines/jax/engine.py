"""The JAX engine: the steps of a chunk in one function that JAX has compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from framework.arithmetic import flushes
from framework.arrays import Array, Batch, Sums
from framework.data.pieces import Piece
from framework.engines.chunks import Chunk, ChunkEngine
from framework.engines.jax.plan import Plan, padded
from framework.engines.jax.program import State, Steps, compiled
from framework.engines.records import CannotLower
from framework.errors import DerivativeError
from framework.extras import required
from framework.losses.several import Figure
from framework.trees import leaves, map_leaves, rows_in

KEPT_BYTES = 1 << 24
"""How much memory the random numbers and the outputs of a chunk may take."""

LONGEST = 4096
"""How many steps a chunk may have."""


class JaxEngine(ChunkEngine):
    """Makes the steps of a run as one function that JAX compiles; NumPy makes a step that is not finite."""

    name: ClassVar[str] = "jax"
    computes_shards: ClassVar[bool] = False

    _plan: Plan | None
    _results: tuple[Plan, State, Sequence[Array]]  # of the last chunk

    @classmethod
    def require(cls) -> None:
        required("jax", "engine='jax'")

    @classmethod
    def identity(cls, *, flush_to_zero: bool) -> dict[str, str]:
        """Return JAX's version and the device that it computes on, and who takes subnormal numbers as 0."""
        jax = required("jax", "engine='jax'")
        (device,) = jax.device_put(0.0).devices()
        text = f"JAX {jax.__version__}, {device.platform} {device.device_kind}".removesuffix(f" {device.platform}")
        return {"flush_to_zero": str(flushes(wanted=True)) if flush_to_zero else "by JAX", "device": text}

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self.jax = required("jax", "engine='jax'")
        self._capacity = self._room = 0  # the most steps of a chunk, and the most rows of a piece
        self._key: Any = None
        self._data: tuple[Any, tuple[Any, ...]] = (None, ())  # the arrays of a piece, and those on the device
        self._order: tuple[Any, Any] = (None, None)

    def gradient(self, batch: Batch) -> Sums:
        """Fill the gradients with JAX; NumPy raises the error of what is not finite."""
        with self.lifted():
            sums = self._gradient(batch)
        return super().gradient(batch) if sums is None else sums

    def longest(self, piece: Piece) -> float:
        """Return the steps of one size that are left, as many as a compiled function has arrays for."""
        with self.lifted():
            plan = None if self.within else self._planned(piece.arrays)
        if plan is None:
            return 0
        size = piece.next_rows  # the last batch may be smaller
        if size < piece.size:
            return 1
        if not self._capacity:
            room = KEPT_BYTES // max(1, plan.bytes_per_row * size)
            batches = -(-piece.count // size)
            self._capacity = max(1, min(LONGEST, room, 1 << (batches - 1).bit_length()))
        return min(self._capacity, (piece.count - piece.place) // size)

    def launch(self, piece: Piece, rates: Array) -> Chunk | None:
        plan, run = self._plan, self.run
        assert plan is not None
        size = piece.next_rows
        capacity = self._capacity if size == piece.size else 1
        weights = self._weights(piece, size, len(rates))
        rates = rates[: len(weights)]
        if not len(rates):
            return None
        with self.lifted(), self._mode():
            train, _ = compiled(plan.program(size, self.part_rows))
            state = plan.state(run.optimizer)
            steps = Steps(
                self._on_device(piece.arrays),
                self._ordered(piece),
                np.int32(piece.place),
                np.int32(len(rates)),
                plan.fixed(),
                padded((weights * plan.per_row["loss"]).astype(run.model.dtype), capacity),
                tuple(padded(each, capacity) for each in plan.numbers(rates, run.optimizer.steps)),
                self._drawn(plan, len(rates), capacity, size),
            )
            begun = time.perf_counter()
            found = self._called(train, state, steps)
            while found and 0 < found[0] < steps.steps:
                steps = steps._replace(steps=found[0])
                found = self._called(train, state, steps)
            seconds = time.perf_counter() - begun
        if not found or not found[0]:
            return None
        made, state, (totals, outputs) = found
        self._results = plan, state, outputs
        count = int(made)
        return Chunk(
            batches=count,
            steps=count,
            sums=self._added_up(plan, totals, weights[:count]),
            loss=float(totals[0][count - 1] / (weights[count - 1] * plan.per_row["loss"])),
            seconds=seconds,
        )

    def commit(self) -> None:
        plan, state, _ = self._results
        self._take(plan, state)

    @property
    def metrics(self) -> tuple[Figure, ...]:
        return () if self._plan is None else self._plan.metrics

    def outputs(self, number: int, piece: Piece, rows: int) -> tuple[Any, Any]:
        plan, _, outputs = self._results
        return plan.output_trees([output[number] for output in outputs])

    def _take(self, plan: Plan, state: State) -> None:
        """Copy a state into the model and the optimizer."""
        gradients = self.run.model.parameters.gradients
        now = plan.state(self.run.optimizer)._replace(gradients=tuple(gradients[name] for name in plan.names))
        for view, array in zip(*map(self.jax.tree.leaves, (now, state)), strict=True):
            view[...] = array

    def _added_up(self, plan: Plan, totals: Sequence[Array], weights: Array) -> Sums:
        """Add up the sums of the steps of a chunk one after another, as the NumPy engine does."""
        sums: Sums = {}
        for (key, values), total in zip(plan.per_row.items(), totals, strict=True):
            before = self.run.sums.get(key, (0.0, 0.0))
            pairs = zip(before, (total[: len(weights)], weights * values), strict=True)
            sums[key] = tuple(float(np.cumsum([first, *part])[-1]) for first, part in pairs)
        return sums

    # what a chunk is given

    def _weights(self, piece: Piece, size: int, steps: int) -> Array:
        """Return the sum of each batch's weights, up to the first batch whose weights are all 0, which is skipped."""
        weight = piece.arrays[2]
        if weight is None:
            return np.full(steps, float(size))
        rows = piece.rows[piece.place : piece.place + steps * size]
        sums: Array = np.add.reduce(weight[rows].reshape(steps, size), axis=1, dtype=np.float64)
        return sums[: steps if sums.all() else int(np.argmin(sums > 0))]

    def _drawn(self, plan: Plan, steps: int, capacity: int, size: int) -> tuple[Array, ...]:
        """Return the random arrays of the next steps, with the keys of the other engines."""
        seed, epoch, step = self.run.key
        found = []
        for draw in plan.draws:
            array = np.zeros((capacity, size, *draw.shape), np.float32)
            for made in range(steps):
                for number, start in enumerate(range(0, size, self.part_rows)):
                    key = (seed, epoch, step + made, *([number] if number else []))
                    draw.fill(array[made, start : start + self.part_rows], key)
            found.append(array)
        return tuple(found)

    def _on_device(self, arrays: Batch) -> tuple[Any, ...]:
        """Return the leaves of x and y and the weight on JAX's device; those of one piece are moved once.

        Pieces of a Dataset differ in their rows; zeros behind them give all one size, for which JAX compiles once.
        """
        if self._data[0] is not arrays:
            rows = rows_in(arrays[1])
            if rows > self._room:
                self._room = rows + rows // 8 if self._room else rows
            found = (self.jax.device_put(padded(array, self._room)) for array in self._leaves(arrays))
            self._data = (arrays, tuple(found))
        return self._data[1]

    def _leaves(self, batch: Batch) -> list[Array]:
        """Return the leaves of x and y and the weight, in the dtypes of the graph."""
        x, y, weight = batch
        dtype = self.run.model.dtype
        kinds = {"f": dtype, "i": np.int32, "u": np.int32, "b": np.bool_}
        found = [*leaves(x), *leaves(y), *([] if weight is None else [weight])]
        return [array.astype(kinds[array.dtype.kind], copy=False) for array in found]

    def _ordered(self, piece: Piece) -> Any:
        if self._order[0] is not piece.rows:
            self._order = (piece.rows, self.jax.device_put(padded(piece.rows.astype(np.int32), self._room)))
        return self._order[1]

    @contextmanager
    def _mode(self) -> Iterator[None]:
        """Compute in the model's dtype, and products of float32 in full precision; JAX's own settings stay."""
        wide = self.run.model.dtype == "float64"
        with self.jax.enable_x64(wide), self.jax.default_matmul_precision("highest"):
            yield

    # the plan

    def _planned(self, batch: Batch) -> Plan | None:
        """Return the plan for data of this form and the settings as they are now, or None where there can be none."""
        run = self.run
        form = [map_leaves(lambda leaf: (leaf.shape[1:], leaf.dtype.kind), part) for part in batch[:2]]
        settings = run.optimizer.recipe.settings() | {"learning_rate": None}
        key = (settings, run.model.parameters.version, form, batch[2] is not None)
        if key != self._key:
            self._key = key
            try:
                self._plan = Plan(run, self.regularizers, self.figures, batch)
            except (CannotLower, DerivativeError) as reason:
                self._refuse(str(reason))
        return self._plan

    def _refuse(self, reason: str) -> None:
        """Leave the steps to NumPy."""
        self._plan = None
        self.fall_back(reason)

    def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a compiled function gives, as NumPy arrays; None where JAX cannot compile or run it."""
        try:
            return self.jax.tree.map(np.asarray, self.jax.block_until_ready(function(*arguments)))
        except Exception as error:  # noqa: BLE001 (whatever an operation that has a graph does in JAX)
            first = str(error).partition("\n")[0]
            self._refuse(f"JAX cannot compute the step: {type(error).__name__}: {first}")
            return None

    def _gradient(self, batch: Batch) -> Sums | None:
        """Fill the gradients from a batch, and return the sums of its figures; None where NumPy must do it."""
        plan, run = self._planned(batch), self.run
        if plan is None:
            return None
        rows = rows_in(batch[1])
        (weight,) = self._weights(Piece(batch, rows), rows, 1)
        count = weight * plan.per_row["loss"]
        with self._mode():
            program = plan.program(rows, self.part_rows)
            draws = tuple(array[0] for array in self._drawn(plan, 1, 1, rows))
            state, given = plan.state(run.optimizer), tuple(self._leaves(batch))
            divisor = count.astype(run.model.dtype)
            found = self._called(compiled(program)[1], state, given, divisor, plan.fixed(), draws)
        if found is None:
            return None
        totals, sound, state, outputs = found
        if not (sound and np.isfinite(totals[0]) and all(np.isfinite(buffer).all() for buffer in state.buffers)):
            return None
        self._take(plan, state)
        run.batch_loss = float(totals[0] / count)
        figures = zip(plan.per_row.items(), totals, strict=True)
        sums: Sums = {key: (float(total), float(weight * values)) for (key, values), total in figures}
        if plan.metrics:
            sums |= self.figures.metric_sums(run.model, *plan.output_trees(outputs), *batch[1:], plan.metrics)
        return sums
