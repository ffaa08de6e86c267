"""The shards of batches, which workers compute, and the gradient of a batch as the sum of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from framework.backends.step import Computation, Slot, Workspace
from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import DivergedError
from framework.base.trees import rows_in
from framework.data.pieces import Piece, rows_of_batch
from framework.models import Model
from framework.training.parallel.sums import NOTHING, Addend, Lockstep, Shard, Tree
from framework.training.parallel.workers import Workers


class Shards:
    """The parts of consecutive rows into which batches are cut, of which each worker computes a range.

    Attributes:
        count: The parts of a batch.
        workers: The workers.
        own: Those of this worker.
        mixed: How many rows layers mix at once; 0 where no layer does.

    Example:
        >>> shards = Shards(Workers(), 4)
        >>> shards.parts(6)
        [(0, slice(0, 2, None)), (1, slice(2, 3, None)), (2, slice(3, 5, None)), (3, slice(5, 6, None))]
    """

    def __init__(self, workers: Workers, count: int, mixed: int = 0) -> None:
        """Take a range of the shards."""
        self.workers, self.count, self.mixed = workers, count, mixed
        self.own = workers.leaves(count)

    def parts(self, rows: int) -> list[tuple[int, slice]]:
        """Return the number and the rows of each part of a batch that this worker computes."""
        bounds = [self._start(rows, shard) for shard in range(self.own.start, self.own.stop + 1)]
        ranges = zip(self.own, bounds, bounds[1:], strict=False)
        return [(shard, slice(start, stop)) for shard, start, stop in ranges if start < stop]

    def rows_of(self, rows: int) -> slice:
        """Return which of the rows of a batch this worker needs."""
        if 0 < self.mixed < rows:
            return slice(0, rows)  # a shard has rows of each part
        return slice(self._start(rows, self.own.start), self._start(rows, self.own.stop))

    def rows_for(self, piece: Piece) -> slice | None:
        """Return which rows of the next batch this worker needs; None is all. The piece gets the weights of all."""
        weight, rows = piece.arrays[2], piece.next_rows
        if self.workers.size > 1 and weight is not None and piece.reread is not None and piece.weights is None:
            gathered = self.workers.gather((self.own, weight[piece.rows[self._mine(piece, self.own)]]))
            piece.weights = np.empty(piece.count, weight.dtype)
            for leaves, weights in gathered:
                piece.weights[self._mine(piece, leaves)] = weights
        own = self.rows_of(rows)
        return None if own == slice(0, rows) else own

    def _start(self, rows: int, shard: int) -> int:
        """Return the first row of a shard. Shard 0 always has rows."""
        return -(-rows * shard // self.count)

    def _mine(self, piece: Piece, leaves: range) -> Array:
        """Return for each row of a piece whether it is of these shards."""
        mine = np.zeros(piece.count, bool)
        whole = piece.count - piece.count % piece.size
        for batches in (mine[:whole].reshape(-1, piece.size), mine[whole:][None]):
            size = batches.shape[1]
            batches[:, self._start(size, leaves.start) : self._start(size, leaves.stop)] = True
        return mine


Fill: TypeAlias = Callable[[Batch, tuple[int, ...], Slot, int | None], Computation]
"""Fills a slot, given some rows and the key of their random numbers.

The last argument is how many rows the whole batch has if these are a shard of it and layers mix rows; otherwise None.
"""


class Work(NamedTuple):
    """The gradient of a batch, and how parts of it are computed; see ``SharedGradient.gradient``."""

    fill: Fill
    model: Model
    batch: Batch
    key: tuple[int, ...]


class SharedGradient:
    """Computes the gradient of batches, and sums of figures, on all workers.

    Attributes:
        shards: Which rows each worker computes.
        mixes: Whether a part of a batch needs sums over all rows.
    """

    def __init__(self, shards: Shards, *, noted: Callable[[], bool], agree: Callable[[Exception | None], None]) -> None:
        """Prepare for a training.

        Args:
            shards: Which rows each worker computes.
            noted: As for ``Lockstep``.
            agree: As for ``Lockstep``.
        """
        self.shards, self.mixes = shards, shards.mixed > 0
        new = partial(Tree, shards.workers, shards.count)
        self._new = partial(Lockstep, shards.workers, shards.own, new, noted=noted, agree=agree)
        self._slots = dict[int, Slot]()  # by shard; where no layer mixes rows, by the identity of the gradient
        self._locksteps = dict[bool, tuple[int, Lockstep]]()  # by whether of the first way, with parameters.version

    def gradient(
        self, fill: Fill, model: Model, batch: Batch, key: tuple[int, ...], *, first: Fill | None = None
    ) -> Sums:
        """Fill the model's gradient with the sum over all parts of a batch, and return the sums of their figures.

        Args:
            fill: Computes a part.
            model: The model.
            batch: The batch.
            key: The key of the batch's random numbers. Each of several parts adds its number to it.
            first: Where layers mix rows, another way to compute a part, tried first; or None.
        """
        rows = rows_in(batch[1])
        if 0 < self.shards.mixed < rows:
            return self._by_parts(fill, model, batch, key, first)
        parts, gradient = dict(self.shards.parts(rows)), model.parameters.gradient
        total = None
        for way in (first, fill):
            if way is not None and total is None:  # an error of the first way comes again in the second one
                tolerant = way is first
                lockstep = self._lockstep(model.parameters.version if self.mixes else 0, first=tolerant)
                shard = partial(self._shard, Work(way, model, batch, key), parts)
                total = lockstep.run(parts, shard, gradient, tolerant=tolerant)
        assert total is not None
        start = 0
        for buffer in model.buffers.values() if self.mixes else ():
            buffer[...] = total.arrays[0][start : start + buffer.size].reshape(buffer.shape)
            start += buffer.size
        return total.sums

    def _by_parts(self, fill: Fill, model: Model, batch: Batch, key: tuple[int, ...], first: Fill | None) -> Sums:
        """Compute the rows that are mixed at once, then the next ones."""
        parameters, size = model.parameters, self.shards.mixed
        gradient, total = np.zeros_like(parameters.gradient), dict[str, tuple[float, ...]]()
        for number, start in enumerate(range(0, rows_in(batch[1]), size)):
            rows = rows_of_batch(batch, slice(start, start + size))
            of_rows = self.gradient(partial(_from_row, start, fill), model, rows, (*key, number), first=first)
            for name, sums in of_rows.items():
                total[name] = tuple(map(sum, zip(sums, total.get(name, (0.0,) * len(sums)), strict=True)))
            gradient += parameters.gradient
        parameters.gradient[...] = gradient
        return total

    def _shard(self, work: Work, parts: Mapping[int, slice], shard: int, tree: Tree | None) -> Shard:
        """Return the program of a shard, which computes straight into the tree if no layer mixes rows."""
        own_rows, model, rows = parts[shard], work.model, None
        if self.mixes:
            slot, rows = self._slot(model, shard), rows_in(work.batch[1])
        elif tree is None:
            slot = Slot.of(model)
        else:
            vector = tree.leaf(shard).vector
            slot = self._slot(model, id(vector), vector)
        batch, key = rows_of_batch(work.batch, own_rows), (*work.key, shard)
        sums = yield from _from_row(own_rows.start, work.fill, batch, key, slot, rows)
        yield Addend(slot.gradient, sums, [*slot.buffers.values()] if self.mixes else ())

    def _slot(self, model: Model, number: int, gradient: Array | None = None) -> Slot:
        """Return the slot of a number: the arrays of the model with another gradient, or arrays of its own."""
        slot = self._slots.get(number)
        if slot is None:
            slot = Slot.of(model)
            if gradient is None:
                gradient = np.zeros_like(slot.gradient)
                slot = slot._replace(buffers={n: b.copy() for n, b in slot.buffers.items()}, workspace=Workspace())
            slot = slot._replace(gradient=gradient, gradients=model.parameters.views_of(gradient))
            self._slots[number] = slot
        return slot

    def _lockstep(self, version: int, *, first: bool) -> Lockstep:
        """Return what leads the shards; other parameters that are frozen need other sums."""
        known = self._locksteps.get(first)
        if known is None or known[0] != version:
            known = self._locksteps[first] = version, self._new()
        return known[1]

    def total(self, compute: Callable[[], Mapping[int, Sums]]) -> Sums:
        """Return the sum of the sums of all parts of all workers; ``compute`` gives those of this one by part."""
        sums, error = dict[int, Sums](), None
        try:
            sums = dict(compute())
        except Exception as raised:  # noqa: BLE001 (raised on all workers, after the sum they wait for)
            error = raised

        def shard(number: int, _: Tree | None) -> Shard:
            if error is not None:
                raise error
            yield Addend(NOTHING, sums[number])

        total = self._new().run(self.shards.own if error is not None else sums, shard, NOTHING)
        assert total is not None
        return total.sums


def _from_row(start: int, fill: Fill, *arguments: Any) -> Computation:
    """Compute the rows of a batch from ``start`` on; an error counts rows from the batch's first one."""
    try:
        return (yield from fill(*arguments))
    except DivergedError as error:
        error.row += start
        raise
