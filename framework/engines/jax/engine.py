"""Run steps in chunks that JAX has compiled; signals, stops and callbacks are handled between chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import Piece
from framework.engines.base import CHUNK_SECONDS, GROWTH, ChunkEngine
from framework.engines.jax.plan import Plan, padded
from framework.engines.jax.program import Chunk, State, compiled
from framework.engines.records import CannotLower
from framework.errors import DerivativeError
from framework.extras import required
from framework.parallel.strategy import Sums
from framework.runs.figures import Figures, add_sums
from framework.runs.run import Run
from framework.settings.messages import warn
from framework.trees import leaves, map_leaves, rows_in

COPIES = 20
"""A chunk lasts at least this many times as long as its copies between model and device."""

KEPT_BYTES = 1 << 24
"""How much memory the random numbers and the outputs of a chunk may take."""

LONGEST = 4096
"""How many steps a chunk may have."""


def device() -> str:
    """Return JAX's version and the device that it computes on, as a run records them.

    Raises:
        UsageError: JAX is not installed.
    """
    jax = required("jax", "engine='jax'")
    (found,) = jax.device_put(0.0).devices()
    return f"JAX {jax.__version__}, {found.platform} {found.device_kind}".removesuffix(f" {found.platform}")


class JaxEngine(ChunkEngine):
    """Makes the steps of a run as one function that JAX compiles; NumPy makes a step that is not finite."""

    _plan: Plan | None

    def __init__(
        self,
        run: Run,
        figures: Figures,
        call: Callable[[str], None],
        *,
        lifted: Callable[[], AbstractContextManager[None]] = nullcontext,
        **options: Any,
    ) -> None:
        """Prepare for a run; ``lifted`` puts back the caller's mode for subnormal numbers, which XLA sets by itself."""
        super().__init__(run, figures, call, **options)
        self.jax, self._lifted = required("jax", "engine='jax'"), lifted
        self._capacity = self._room = 0  # the most steps of a chunk, and the most rows of a piece
        self._key: Any = None
        self._compiled: set[Any] = set()
        self._data: tuple[Any, tuple[Any, ...]] = (None, ())  # the arrays of a piece, and those on the device
        self._order: tuple[Any, Any] = (None, None)

    def advance(self, piece: Piece) -> None:
        """Make a chunk of steps with JAX, or one step whose halves are made one after the other."""
        with self._lifted():
            made = not self.within and self._chunk(piece)
        if not made:
            super().advance(piece)

    def gradient(self, batch: Batch) -> Sums:
        """Fill the gradients with JAX; NumPy raises the error of what is not finite."""
        with self._lifted():
            sums = self._gradient(batch)
        return super().gradient(batch) if sums is None else sums

    # a chunk

    def _chunk(self, piece: Piece) -> bool:
        """Make a chunk of steps, and return whether JAX made any; NumPy makes those in which a metric fails."""
        plan = self._planned(piece.arrays)
        if plan is None:
            return False
        run, optimizer = self.run, self.run.optimizer
        begun = time.perf_counter()
        size = min(piece.size, piece.count - piece.place)  # the last batch may be smaller
        whole = 1 if size < piece.size else (piece.count - piece.place) // size
        if size == piece.size and not self._capacity:  # a compiled function has arrays of this many steps
            room = KEPT_BYTES // max(1, plan.bytes_per_row * size)
            batches = -(-piece.count // size)
            self._capacity = max(1, min(LONGEST, room, 1 << (batches - 1).bit_length()))
        capacity = self._capacity if size == piece.size else 1
        length = 1 if self.watched else max(1, int(self._length))
        rates = self.rates(min(length, whole, capacity))
        weights = self._weights(piece, size, len(rates))
        rates = rates[: len(weights)]
        if not len(rates):
            return False
        with self._mode():
            program = plan.program(size, self.part_rows)
            train, _ = compiled(program)
            state = plan.state(optimizer)
            chunk = Chunk(
                self._on_device(piece.arrays),
                self._ordered(piece),
                np.int32(piece.place),
                np.int32(len(rates)),
                plan.fixed(),
                padded((weights * plan.per_row["loss"]).astype(run.model.dtype), capacity),
                tuple(padded(each, capacity) for each in plan.numbers(rates, optimizer.steps)),
                self._drawn(plan, len(rates), capacity, size),
            )
            if (key := (program, capacity, self._room)) not in self._compiled:
                self._called(train, state, chunk._replace(steps=np.int32(0)))
                self._compiled.add(key)
                begun = time.perf_counter()
            copied = time.perf_counter()
            found = self._plan and self._called(train, state, chunk)
            while found and 0 < found[0] < chunk.steps:
                chunk = chunk._replace(steps=found[0])
                found = self._called(train, state, chunk)
            computed = time.perf_counter()
        if not found or not found[0]:
            return False
        made, state, (totals, outputs) = found
        steps = int(made)
        try:
            metrics = self._metrics(plan, piece, outputs, size, steps)
        except Exception:  # noqa: BLE001 (a metric of the user's: NumPy makes the steps, and raises its error in the right one)
            self._length = 1.0
            return False
        run.optimizer.updating = True  # stays True if a second Ctrl-C comes in between
        self._take(plan, state)
        self._add_up(plan, totals, weights[:steps], rates, metrics)
        ended = time.perf_counter()
        copies = ended - begun - (computed - copied)
        seconds = max(CHUNK_SECONDS, COPIES * copies) * steps / max(computed - copied, 1e-9)
        self._length = min(seconds, GROWTH * steps)
        self._end_chunk(piece, size, steps, steps)
        return True

    def _take(self, plan: Plan, state: State) -> None:
        """Copy a state into the model and the optimizer."""
        gradients = self.run.model.parameters.gradients
        now = plan.state(self.run.optimizer)._replace(gradients=tuple(gradients[name] for name in plan.names))
        for view, array in zip(*map(self.jax.tree.leaves, (now, state)), strict=True):
            view[...] = array

    def _add_up(self, plan: Plan, totals: Sequence[Array], weights: Array, rates: Array, metrics: list[Sums]) -> None:
        """Add up the sums of the steps of a chunk one after another, as the NumPy engine does."""
        run, last = self.run, len(weights) - 1
        for (key, values), total in zip(plan.per_row.items(), totals, strict=True):
            before = run.sums.get(key, (0.0, 0.0))
            pairs = zip(before, (total[: last + 1], weights * values), strict=True)
            run.sums[key] = tuple(float(np.cumsum([first, *part])[-1]) for first, part in pairs)
        for sums in metrics:
            add_sums(run.sums, sums)
        run.batch_loss = float(totals[0][last] / (weights[last] * plan.per_row["loss"]))
        run.optimizer.last_rate = float(rates[last])

    def _metrics(self, plan: Plan, piece: Piece, outputs: tuple[Any, ...], size: int, steps: int) -> list[Sums]:
        """Return for each batch of a chunk the sums of the metrics that the step does not compute."""
        found: list[Sums] = []
        for step in range(steps) if plan.metrics else ():
            start = piece.place + step * size
            _, y, weight = piece.part(start, start + size)
            h, a = plan.output_trees([output[step] for output in outputs])
            found.append(self.figures.metric_sums(self.run.model, h, a, y, weight, plan.metrics))
        return found

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
        if self._order[0] is not piece:
            self._order = (piece, self.jax.device_put(padded(piece.rows.astype(np.int32), self._room)))
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
        """Leave the steps to NumPy, with a warning."""
        warn(f"engine='jax': falling back to NumPy: {reason}")
        self._plan = None
        if not self.run.step:
            self.run.engine = "numpy"
            del self.run.recipe["device"]

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
        piece = Piece(batch, rows)
        (weight,) = self._weights(piece, rows, 1)
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
        for found_sums in self._metrics(plan, piece, tuple(output[None] for output in outputs), rows, 1):
            sums |= found_sums
        return sums
