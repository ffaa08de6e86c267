"""DataParallel: how each batch is cut into shards, whose gradients and sums are added up over all workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import Piece, rows_of_batch
from framework.emit.step import Slot, Workspace, finish
from framework.errors import DivergedError
from framework.models import Model
from framework.parallel.lockstep import NOTHING, Lockstep
from framework.parallel.sums import AllReduce, Tree
from framework.parallel.workers import Workers
from framework.settings.component import Component, Count, Positive
from framework.trees import rows_in

Sums = dict[str, tuple[float, ...]]
"""The sums of some rows, by the name of the figure that is made of them."""


class DataParallel(Component):
    """Train one model on all the processes that ``mpiexec`` has started; without it, in this one.

    Each batch is cut into ``shards`` parts of consecutive rows. A worker computes a range of them, and the gradients
    and the sums of loss and metrics are added up by a fixed tree. So the trained weights are the same to the last bit
    on any number of workers, one included.

    Attributes:
        shards: The parts of a batch. They belong to the experiment: another number gives other last bits. At most
            as many workers have work.
        deterministic: False takes one part for each worker. It is faster than several shards for each worker, and the
            last bits depend on the number of workers.
        timeout: How many seconds the workers wait for one of them, before all end with an error.

    Raises:
        SettingsError: A setting is out of range.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(
        ...     loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), strategy=DataParallel(shards=4)
        ... )
        >>> trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0])).step
        1
    """

    shards: Count = 8
    deterministic: bool = True
    timeout: Positive = 600.0


Computation: TypeAlias = Generator[Array, Array, Sums]
"""A step of some rows up to the gradients, which ends with the sums of its figures.

A shard whose layers mix rows yields what it adds up, and receives the sum over all shards.
"""

Fill: TypeAlias = Callable[[Batch, tuple[int, ...], Slot, int | None], Computation]
"""Fills a slot, given some rows and the key of their random numbers.

The last argument is how many rows the whole batch has if these are a shard of it and layers mix rows; otherwise None.
"""

Several: TypeAlias = Callable[[Batch, Sequence[tuple[int, ...]], Slot, Array], Sequence[Sums]]
"""Fills the gradients of consecutive parts of a batch.

Its arguments are the rows of the parts, the key of each part, the slot of the first one, and for each part: its first
row, how many it has, the three numbers of ``Tree.places``, and the length of its gradient. It returns the sums of the
parts before the first one that it cannot compute. The gradients before that one are added up as ``Tree.places`` says.
"""


@dataclass(frozen=True)
class Work:
    """The gradient of a batch, of which each worker computes parts.

    Attributes:
        fill: Computes a part.
        model: The model.
        batch: The batch.
        key: The key of the batch's random numbers. Of several parts, each adds its number to it.
        first: Where the strategy ``mixes``, another way to compute a part, tried first; or None.
        several: Where it does not, what computes all parts of this worker at once; None computes each by itself.
    """

    fill: Fill
    model: Model
    batch: Batch
    key: tuple[int, ...]
    first: Fill | None = None
    several: Several | None = None


_Computed: TypeAlias = tuple[int, Sums, Slot, Exception | None]
"""The results of a shard: its number, its sums, which are empty where it was not computed, and an error so far."""


class _Planned(NamedTuple):
    """A sum over all shards, which each step fills again.

    Attributes:
        tree: Adds up the gradient and a tail: above 0 for an error or a signal, then the sums, then the new buffers.
        layout: The names of the sums in the tail, and how many numbers each has.
    """

    tree: Tree | AllReduce
    layout: Sequence[tuple[str, int]]


class Sharded:
    """The shards of ``DataParallel``, of which a worker computes a range.

    The first number of each sum is above 0 if a worker has an error or a signal. Then all workers call ``agree``.

    Attributes:
        shards: The parts of a batch.
        workers: The workers.
        mixes: Whether a part of a batch needs sums over all rows.
    """

    def __init__(
        self,
        settings: DataParallel,
        workers: Workers,
        *,
        mixed: int = 0,
        noted: Callable[[], bool],
        agree: Callable[[Exception | None], None],
    ) -> None:
        """Take a range of the shards.

        Args:
            settings: The settings.
            workers: The workers.
            mixed: How many rows layers mix at once; 0 where no layer does.
            noted: Returns whether a signal has come to this worker of which the others may not know.
            agree: Sends the signal or an error to all workers, which raise the error.
        """
        self.shards = settings.shards if settings.deterministic else workers.size
        self.workers, self._noted, self._agree = workers, noted, agree
        self._own = workers.leaves(self.shards)
        self._new: Callable[..., Tree | AllReduce] = partial(AllReduce, workers)
        if settings.deterministic:
            self._new = partial(Tree, workers, self.shards)
        self._planned: _Planned | None = None  # for gradients; their length is known at the first step
        self._mixed, self.mixes = mixed, mixed > 0
        self._slots = dict[int, Slot]()  # by shard; where no layer mixes rows, by the identity of the gradient
        self._locksteps = dict[bool, tuple[int, Lockstep]]()  # by whether of ``Work.first``, with parameters.version

    def _start(self, rows: int, shard: int) -> int:
        """Return the first row of a shard. Shard 0 always has rows; its sums give the layout of all."""
        return -(-rows * shard // self.shards)

    def own(self, rows: int) -> slice:
        """Return which of the rows of a batch this worker needs."""
        if 0 < self._mixed < rows:
            return slice(0, rows)  # a shard has rows of each part
        return slice(self._start(rows, self._own.start), self._start(rows, self._own.stop))

    def rows_for(self, piece: Piece) -> slice | None:
        """Return which rows of the next batch this worker needs; None is all. The piece gets the weights of all."""
        weight, rows = piece.arrays[2], piece.next_rows
        if self.workers.size > 1 and weight is not None and piece.reread is not None and piece.weights is None:
            found = self.workers.gather((self._own, weight[piece.rows[self._mine(piece, self._own)]]))
            piece.weights = np.empty(piece.count, weight.dtype)
            for leaves, part in found:
                piece.weights[self._mine(piece, leaves)] = part
        own = self.own(rows)
        return None if own == slice(0, rows) else own

    def _mine(self, piece: Piece, leaves: range) -> Array:
        """Return for each row of a piece whether it is of these shards."""
        mine = np.zeros(piece.count, bool)
        whole = piece.count - piece.count % piece.size
        for batches in (mine[:whole].reshape(-1, piece.size), mine[whole:][None]):
            size = batches.shape[1]
            batches[:, self._start(size, leaves.start) : self._start(size, leaves.stop)] = True
        return mine

    def parts(self, rows: int) -> list[tuple[int, slice]]:
        """Return the number and the rows of each part of a batch that this worker computes."""
        bounds = [self._start(rows, shard) for shard in range(self._own.start, self._own.stop + 1)]
        places = zip(self._own, bounds, bounds[1:], strict=False)
        return [(shard, slice(start, stop)) for shard, start, stop in places if start < stop]

    def gradient(self, work: Work) -> Sums:
        """Fill the model's gradient with the sum over all parts of a batch, and return the sums of their figures."""
        model, rows = work.model, rows_in(work.batch[1])
        if 0 < self._mixed < rows:
            return self._by_parts(work)
        gradient, buffers = model.parameters.gradient, [*model.buffers.values()] if self._mixed else []
        planned, error = self._planned, None
        for shard, sums, slot, error in (self._in_lockstep if self._mixed else self._one_by_one)(work, rows):
            planned = planned or self._plan(sums, gradient, buffers)
            self._put(planned, shard, sums, error, slot)
        self._planned = planned = planned or self._plan({}, gradient, buffers)  # for more workers than shards
        return self._total(planned, gradient, error, buffers)

    def _by_parts(self, work: Work) -> Sums:
        """Compute the rows that are mixed at once, then the next ones."""
        parameters, batch = work.model.parameters, work.batch
        gradient, total = np.zeros_like(parameters.gradient), dict[str, tuple[float, ...]]()
        for place, start in enumerate(range(0, rows_in(batch[1]), self._mixed)):
            part = rows_of_batch(batch, slice(start, start + self._mixed))
            of_part = replace(work, fill=partial(_from_row, start, work.fill), batch=part, key=(*work.key, place))
            for name, found in self.gradient(of_part).items():
                total[name] = tuple(map(sum, zip(found, total.get(name, (0.0,) * len(found)), strict=True)))
            gradient += parameters.gradient
        parameters.gradient[...] = gradient
        return total

    def _at_once(self, work: Work, several: Several, tree: Tree | AllReduce) -> Sequence[Sums]:
        """Compute the shards of this worker at once, up to the first one that cannot be; return the sums of each."""
        vector, places = tree.places()
        parts = self.parts(rows_in(work.batch[1]))
        begin, keys = parts[0][1].start, [(*work.key, shard) for shard, _ in parts]
        table = [
            (part.start - begin, part.stop - part.start, *place, len(vector))
            for (_, part), place in zip(parts, places, strict=True)
        ]
        rows = rows_of_batch(work.batch, slice(begin, parts[-1][1].stop))
        return several(rows, keys, self._slot(work.model, id(vector), vector), np.array(table, np.int64))

    def _one_by_one(self, work: Work, rows: int) -> Iterator[_Computed]:
        """Compute one shard after another, each straight into the tree.

        From the second step on, ``work.several`` computes shards at once, up to the first one that it cannot compute.
        """
        planned, parts, error = self._planned, dict(self.parts(rows)), None
        done, added_up = list[Sums](), -1  # up to this place the vectors before a leaf are added up already
        if work.several is not None and planned is not None and 0 < len(parts) == len(self._own):
            try:
                done += self._at_once(work, work.several, planned.tree)
            except Exception as raised:  # noqa: BLE001 (as below)
                error = raised
            added_up = len(done)
        for place, shard in enumerate(self._own):
            sums: Sums = {}
            slot = Slot.of(work.model)
            if planned is not None:
                vector = planned.tree.leaf(shard, merged=place <= added_up).vector
                slot = self._slot(work.model, id(vector), vector)
            if place < len(done):
                sums = done[place]
            elif shard in parts and error is None:
                try:
                    sums = finish(_of_shard(work, work.fill, shard, parts[shard], slot))
                except Exception as raised:  # noqa: BLE001 (raised on all workers, after the sum they wait for)
                    error = raised
            yield shard, sums, slot, error

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

    def _in_lockstep(self, work: Work, rows: int) -> Iterator[_Computed]:
        """Compute all shards of this worker, in step with those of the others."""
        parts = dict(self.parts(rows))
        slots = {shard: self._slot(work.model, shard) for shard in parts}
        results, error = None, None
        for fill in (work.first, work.fill):
            if fill is not None and results is None:  # an error of the first way comes again in the second one
                shards = {shard: _of_shard(work, fill, shard, parts[shard], slots[shard], rows) for shard in parts}
                results, error = self._lockstep(work.model.parameters.version, first=fill is work.first).run(shards)
        for shard in self._own:
            sums = {} if results is None else results.get(shard, {})
            yield shard, sums, slots.get(shard) or Slot.of(work.model), error

    def _lockstep(self, version: int, *, first: bool) -> Lockstep:
        """Return what leads the shards; other parameters that are frozen need other sums."""
        known = self._locksteps.get(first)
        if known is None or known[0] != version:
            known = self._locksteps[first] = version, Lockstep(self.workers, self._own, self._new)
        return known[1]

    def total(self, sums: Callable[[], Mapping[int, Sums]]) -> Sums:
        """Return the sum of the sums of all parts of all workers; ``sums`` computes those of this one by part."""
        error, found = None, dict[int, Sums]()
        try:
            found = dict(sums())
        except Exception as raised:  # noqa: BLE001 (as above)
            error = raised
        planned = self._plan(next(iter(found.values()), {}), NOTHING)
        for shard in self._own:
            self._put(planned, shard, found.get(shard, {}), error)
        return self._total(planned, NOTHING, error)

    def _plan(self, sums: Sums, vector: Array, buffers: Iterable[Array] = ()) -> _Planned:
        """Plan the sum of the results of all shards; a worker without rows learns the layout from the others."""
        layouts = self.workers.gather([(key, len(values)) for key, values in sums.items()])
        layout = next(filter(None, layouts), [])
        tail = 1 + sum(size for _, size in layout) + sum(buffer.size for buffer in buffers)
        return _Planned(self._new(vector.size, vector.dtype, tail), layout)

    def _put(
        self, planned: _Planned, shard: int, sums: Sums, error: Exception | None, slot: Slot | None = None
    ) -> None:
        """Write the results of a shard into the tree."""
        vector, tail = planned.tree.leaf(shard)
        tail[0] = error is not None or self._noted()
        if not sums:
            vector[...] = 0
            return
        numbers = [value for key, _ in planned.layout for value in sums[key]]
        tail[1 : 1 + len(numbers)] = numbers
        if slot is not None and vector is not slot.gradient:
            vector[...] = slot.gradient
        if slot is not None and shard == 0 and slot.buffers:
            tail[1 + len(numbers) :] = np.concatenate([buffer.ravel() for buffer in slot.buffers.values()])

    def _total(self, planned: _Planned, vector: Array, error: Exception | None, buffers: Iterable[Array] = ()) -> Sums:
        """Write the sums over all shards into ``vector`` and the buffers, and return those of the figures."""
        tail = planned.tree.total(vector)
        if tail[0]:
            self._agree(error)
        found, place = {}, 1
        for key, size in planned.layout:
            found[key] = tuple(tail[place : place + size].tolist())
            place += size
        for buffer in buffers:
            buffer[...] = tail[place : place + buffer.size].reshape(buffer.shape)
            place += buffer.size
        return found


def _of_shard(work: Work, fill: Fill, shard: int, part: slice, slot: Slot, rows: int | None = None) -> Computation:
    """Return the computation of a shard."""
    return _from_row(part.start, fill, rows_of_batch(work.batch, part), (*work.key, shard), slot, rows)


def _from_row(start: int, fill: Fill, *arguments: Any) -> Computation:
    """Compute the rows of a batch from ``start`` on; an error counts rows from the batch's first one."""
    try:
        return (yield from fill(*arguments))
    except DivergedError as error:
        error.row += start
        raise
