"""The JAX engine: the steps of a chunk in one function that JAX has compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from framework.backends.arithmetic import flushes
from framework.base.arrays import Array, Batch, Sums
from framework.base.extras import load_module
from framework.base.trees import leaves, rows_in
from framework.data.pieces import Piece
from framework.training.engines.chunks import Chunk, ChunkEngine
from framework.training.engines.jax.plan import JaxPlan, pad
from framework.training.engines.jax.program import State, Steps, compile_program
from framework.training.engines.plan import Plan

KEPT_BYTES = 1 << 24
"""How much memory the random numbers and the outputs of a chunk may take."""

LONGEST = 4096
"""How many steps a chunk may have."""


class JaxEngine(ChunkEngine):
    """Makes the steps of a run as one function that JAX compiles; NumPy makes a step that is not finite."""

    name: ClassVar[str] = "jax"
    computes_shards: ClassVar[bool] = False
    derives: ClassVar[bool] = True
    compile = staticmethod(JaxPlan)

    _results: tuple[State, Sequence[Array]]  # of the last chunk

    @classmethod
    def require(cls) -> None:
        load_module("jax", "engine='jax'")

    @classmethod
    def identity(cls, *, flush_to_zero: bool) -> dict[str, str]:
        """Return JAX's version and the device that it computes on, and who takes subnormal numbers as 0."""
        jax = load_module("jax", "engine='jax'")
        (device,) = jax.device_put(0.0).devices()
        text = f"JAX {jax.__version__}, {device.platform} {device.device_kind}".removesuffix(f" {device.platform}")
        return {"flush_to_zero": str(flushes(wanted=True)) if flush_to_zero else "by JAX", "device": text}

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self.jax = load_module("jax", "engine='jax'")
        self._capacity = self._room = 0  # the most steps of a chunk, and the most rows of a piece
        self._data: tuple[Any, tuple[Any, ...]] = (None, ())  # the arrays of a piece, and those on the device
        self._order: tuple[Any, Any] = (None, None)

    def gradient(self, batch: Batch) -> Sums:
        """Fill the gradients with JAX; NumPy raises the error of what is not finite."""
        with self.pause_flushing():
            sums = self._gradient(batch)
        return super().gradient(batch) if sums is None else sums

    def longest(self, piece: Piece) -> float:
        """Return the steps of one size that are left, as many as a compiled function has arrays for."""
        with self.pause_flushing():
            made = None if self.within else self.plan_for(piece.arrays)
        if made is None:
            return 0
        plan = made.compiled.plan
        size = piece.next_rows  # the last batch may be smaller
        if size < piece.size:
            return 1
        if not self._capacity:
            room = KEPT_BYTES // max(1, plan.bytes_per_row * size)
            batches = -(-piece.count // size)
            self._capacity = max(1, min(LONGEST, room, 1 << (batches - 1).bit_length()))
        return min(self._capacity, (piece.count - piece.place) // size)

    def launch(self, piece: Piece, rates: Array) -> Chunk | None:
        made, run = self.planned, self.run
        assert made is not None
        jaxed, per_row = made.compiled, made.per_row["loss"]
        size = piece.next_rows
        capacity = self._capacity if size == piece.size else 1
        weights = self.weights(piece, size, len(rates))
        rates = rates[: len(weights)]
        if not len(rates):
            return None
        with self.pause_flushing(), self._mode():
            train, _ = compile_program(jaxed.program(size, self.part_rows, made.limits))
            state = jaxed.state(run.model, run.optimizer)
            steps = Steps(
                self._on_device(piece.arrays),
                self._order_on_device(piece),
                np.int32(piece.place),
                np.int32(len(rates)),
                self._values_not_trained(),
                pad((weights * per_row).astype(run.model.dtype), capacity),
                tuple(
                    pad(values.astype(run.model.dtype), capacity) for values in made.numbers(rates, run.optimizer.steps)
                ),
                self._draw_numbers(jaxed.plan, len(rates), size, capacity),
            )
            begun = time.perf_counter()
            results = self._call(train, state, steps)
            while results and 0 < results[0] < steps.steps:
                steps = steps._replace(steps=results[0])
                results = self._call(train, state, steps)
            seconds = time.perf_counter() - begun
        if not results or not results[0]:
            return None
        made, state, (totals, outputs) = results
        self._results = state, outputs
        count = int(made)
        return Chunk(
            batches=count,
            steps=count,
            sums=self.add_up(totals, weights[:count]),
            loss=float(totals[0][count - 1] / (weights[count - 1] * per_row)),
            seconds=seconds,
        )

    def commit(self) -> None:
        self._take(self._results[0])

    def outputs(self, number: int, piece: Piece, rows: int) -> tuple[Any, Any]:
        assert self.planned is not None
        trees: tuple[Any, Any] = self.planned.compiled.plan.output_trees([leaf[number] for leaf in self._results[1]])
        return trees

    def _take(self, state: State) -> None:
        """Copy a state into the model and the optimizer."""
        assert self.planned is not None
        jaxed, model = self.planned.compiled, self.run.model
        gradients = tuple(model.parameters.gradients[name] for name in jaxed.names)
        now = jaxed.state(model, self.run.optimizer)._replace(gradients=gradients)
        for view, array in zip(*map(self.jax.tree.leaves, (now, state)), strict=True):
            view[...] = array

    # what a chunk is given

    def _on_device(self, arrays: Batch) -> tuple[Any, ...]:
        """Return the leaves of x and y and the weight on JAX's device; those of one piece are moved once.

        Pieces of a Dataset differ in their rows; zeros behind them give all one size, for which JAX compiles once.
        """
        if self._data[0] is not arrays:
            rows = rows_in(arrays[1])
            if rows > self._room:
                self._room = rows + rows // 8 if self._room else rows
            moved = (self.jax.device_put(pad(array, self._room)) for array in self._leaves(arrays))
            self._data = (arrays, tuple(moved))
        return self._data[1]

    def _leaves(self, batch: Batch) -> list[Array]:
        """Return the leaves of x and y and the weight, in the dtypes of the graph."""
        x, y, weight = batch
        dtype = self.run.model.dtype
        kinds = {"f": dtype, "i": np.int32, "u": np.int32, "b": np.bool_}
        arrays = [*leaves(x), *leaves(y), *([] if weight is None else [weight])]
        return [array.astype(kinds[array.dtype.kind], copy=False) for array in arrays]

    def _order_on_device(self, piece: Piece) -> Any:
        if self._order[0] is not piece.rows:
            self._order = (piece.rows, self.jax.device_put(pad(piece.rows.astype(np.int32), self._room)))
        return self._order[1]

    @contextmanager
    def _mode(self) -> Iterator[None]:
        """Compute in the model's dtype, and products of float32 in full precision; JAX's own settings stay."""
        wide = self.run.model.dtype == "float64"
        with self.jax.enable_x64(wide), self.jax.default_matmul_precision("highest"):
            yield

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a compiled function gives, as NumPy arrays; None where JAX cannot compile or run it."""
        try:
            return self.jax.tree.map(np.asarray, self.jax.block_until_ready(function(*arguments)))
        except Exception as error:  # noqa: BLE001 (whatever an operation that has a graph does in JAX)
            first = str(error).partition("\n")[0]
            self.refuse(f"JAX cannot compute the step: {type(error).__name__}: {first}")
            return None

    def _gradient(self, batch: Batch) -> Sums | None:
        """Fill the gradients from a batch, and return the sums of its figures; None where NumPy must do it."""
        made, run = self.plan_for(batch), self.run
        if made is None:
            return None
        rows, jaxed = rows_in(batch[1]), made.compiled
        (weight,) = self.weights(Piece(batch, rows), rows, 1)
        count = weight * made.per_row["loss"]
        with self._mode():
            program = jaxed.program(rows, self.part_rows, made.limits)
            draws = tuple(array[0] for array in self._draw_numbers(jaxed.plan, 1, rows, 1))
            state, data = jaxed.state(run.model, run.optimizer), tuple(self._leaves(batch))
            divisor = count.astype(run.model.dtype)
            results = self._call(compile_program(program)[1], state, data, divisor, self._values_not_trained(), draws)
        if results is None:
            return None
        totals, sound, state, outputs = results
        if not (sound and np.isfinite(totals[0]) and all(np.isfinite(buffer).all() for buffer in state.buffers)):
            return None
        self._take(state)
        run.batch_loss = float(totals[0] / count)
        figures = zip(made.per_row.items(), totals, strict=True)
        sums: Sums = {key: (float(total), float(weight * values)) for (key, values), total in figures}
        if made.metrics:
            (h, a), (_, y, weights) = jaxed.plan.output_trees(outputs), batch
            sums |= self.figures.metric_sums(run.model, h, a, y, weights, made.metrics)
        return sums

    def _values_not_trained(self) -> tuple[Array, ...]:
        """Return the parameters that are not trained."""
        parameters = self.run.model.parameters
        return tuple(parameters.views[name] for name in parameters.frozen)

    def _draw_numbers(self, plan: Plan, steps: int, size: int, capacity: int) -> tuple[Array, ...]:
        draws = [draw for draw, _ in plan.graph.model.draws]
        numbers = zip(draws, self.draw(draws, steps, size, capacity), strict=True)
        return tuple(array.astype(self.run.model.dtype) if draw.wide else array for draw, array in numbers)
