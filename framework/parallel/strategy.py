"""DataParallel: how each batch is cut into shards, whose gradients and sums are added up over all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import Piece, rows_of_batch
from framework.errors import DivergedError
from framework.models import Model
from framework.models.parameters import OtherGradient, Parameters
from framework.parallel.sums import AllReduce, Tree
from framework.parallel.turns import NOTHING, Exchange, Turns
from framework.parallel.workers import Workers
from framework.settings.component import Component, Count, Positive
from framework.trees import rows_in

Sums = dict[str, tuple[float, ...]]
"""The sums of some rows, by the name of the figure that is made of them."""

_Jobs: TypeAlias = Mapping[int, Callable[[Model], Sums]]
"""By shard, a function that fills a model's gradient with that of the shard's rows, and returns their sums."""


class _Computed(NamedTuple):
    """The results of a shard.

    Attributes:
        shard: Its number.
        sums: The sums of its figures; empty if it has no rows or was not computed.
        gradient: Its gradient.
        buffers: The new buffers of its model.
        error: An error of this worker so far.
    """

    shard: int
    sums: Sums
    gradient: Array = NOTHING
    buffers: Iterable[Array] = ()
    error: Exception | None = None


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


class PhasesOfShard(Protocol):
    """The computation of a shard that is cut into phases, with a sum over all shards after each.

    Attributes:
        sums: The sums of its figures, after the last phase.
    """

    sums: Sums

    def advance(self, phase: int) -> Array | None:
        """Compute a phase, and return the numbers that their sums will replace, or None if that is not possible.

        The last phase returns an empty array.
        """

    def buffers(self) -> list[Array]:
        """Return the new buffers, after the last phase."""


class Phases(NamedTuple):
    """How shards are computed in phases.

    Attributes:
        lengths: By phase but the last, how many numbers are summed up after it.
        begin: Prepares the computation of a shard, given its number, its rows of the batch, how many the batch has, and
            its key.
    """

    lengths: Sequence[int]
    begin: Callable[[int, Batch, int, tuple[int, ...]], PhasesOfShard]


Several: TypeAlias = Callable[[Batch, float, Sequence[tuple[int, ...]], Array], Sequence[Sums]]
"""Fills the gradients of consecutive parts of a batch.

Its arguments are the rows of the parts, what the loss is divided by, the key of each part, and for each part: its first
row, how many it has, the three numbers of ``Tree.places``, and the length of its gradient. It returns the sums of the
parts before the first one that it cannot compute. The gradients before that one are added up as ``Tree.places`` says.
"""


@dataclass(frozen=True)
class Work:
    """The gradient of a batch, of which each worker computes parts.

    Attributes:
        fill: Called with a model, some rows, ``count`` and a key: fills the model's gradient with theirs, and returns
            their sums.
        model: The model.
        batch: The batch.
        count: What the loss of all rows is divided by.
        key: The key of the batch's random numbers. Of several parts, each adds its number to it.
        phases: Where the strategy ``mixes``, how parts are computed in phases; None computes them in turns.
        several: Where it does not, what computes all parts of this worker at once; None computes each by itself.
    """

    fill: Callable[..., Sums]
    model: Model
    batch: Batch
    count: float
    key: tuple[int, ...]
    phases: Phases | None = None
    several: Several | None = None


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
        self._others = dict[int, tuple[int, OtherGradient]]()  # by the leaf's identity, with the parameters' version
        self._mixed, self.mixes, self._twins = mixed, mixed > 0, dict[int, Model]()
        self._threads = ThreadPoolExecutor(max(len(self._own) - 1, 1), "shard")  # which start when they are needed
        self._exchanges = dict[tuple[int, ...], Exchange]()  # between phases, by their lengths; of turns, without
        self._gradients = dict[int, Array]()  # of shards in phases

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
        jobs = {shard: partial(_shard, work, shard, part) for shard, part in self.parts(rows)}
        gradient, buffers = model.parameters.gradient, [*model.buffers.values()] if self._mixed else []
        planned, error = self._planned, None
        computed: Iterable[_Computed] | None = None
        if work.phases is not None:
            computed = self._in_phases(work, work.phases)
        if computed is None:
            computed = self._together(jobs, model, rows) if self._mixed else self._one_by_one(work, jobs)
        for each in computed:
            planned = planned or self._plan(each.sums, gradient, buffers)
            self._put(planned, each)
            error = each.error
        self._planned = planned = planned or self._plan({}, gradient, buffers)  # for more workers than shards
        return self._total(planned, gradient, error, buffers)

    def _by_parts(self, work: Work) -> Sums:
        """Compute the rows that are mixed at once, then the next ones."""
        parameters, batch = work.model.parameters, work.batch
        gradient, total = np.zeros_like(parameters.gradient), dict[str, tuple[float, ...]]()
        for place, start in enumerate(range(0, rows_in(batch[1]), self._mixed)):
            part = rows_of_batch(batch, slice(start, start + self._mixed))
            of_part = replace(work, fill=partial(_part, work.fill, start), batch=part, key=(*work.key, place))
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
        with self._other(work.model.parameters, vector):
            rows = rows_of_batch(work.batch, slice(begin, parts[-1][1].stop))
            return several(rows, work.count, keys, np.array(table, np.int64))

    def _one_by_one(self, work: Work, jobs: _Jobs) -> Iterator[_Computed]:
        """Compute one shard after another with the model itself, whose gradient lies in the tree meanwhile.

        From the second step on, ``work.several`` computes shards at once, up to the first one that it cannot compute.
        """
        planned, parameters, error = self._planned, work.model.parameters, None
        done, added_up = list[Sums](), -1  # up to this place the vectors before a leaf are added up already
        if work.several is not None and planned is not None and 0 < len(jobs) == len(self._own):
            try:
                done += self._at_once(work, work.several, planned.tree)
            except Exception as raised:  # noqa: BLE001 (as below)
                error = raised
            added_up = len(done)
        for place, shard in enumerate(self._own):
            sums: Sums = {}
            numbers = parameters.gradient
            if planned is not None:
                numbers = planned.tree.leaf(shard, merged=place <= added_up).vector
            if place < len(done):
                sums = done[place]
            elif shard in jobs and error is None:
                try:
                    with self._other(parameters, numbers):
                        sums = jobs[shard](work.model)
                except Exception as raised:  # noqa: BLE001 (raised on all workers, after the sum they wait for)
                    error = raised
            yield _Computed(shard, sums, numbers, error=error)

    def _other(self, parameters: Parameters, gradient: Array) -> AbstractContextManager[None]:
        """Return what puts a leaf of the tree in the place of the gradient."""
        if gradient is parameters.gradient:
            return nullcontext()
        known = self._others.get(id(gradient))
        if known is None or known[0] != parameters.version:
            known = self._others[id(gradient)] = parameters.version, OtherGradient(parameters, gradient)
        return known[1]

    def _in_phases(self, work: Work, phases: Phases) -> list[_Computed] | None:
        """Compute all shards of this worker in phases; None if a shard of any worker cannot."""
        begun, parameters, rows = dict[int, PhasesOfShard](), work.model.parameters, rows_in(work.batch[1])
        parts, exchange = dict(self.parts(rows)), self._exchange(phases.lengths)

        def compute() -> None:
            for shard, part in parts.items():
                if shard not in self._gradients:
                    self._gradients[shard] = np.zeros_like(parameters.gradient)
                with self._other(parameters, self._gradients[shard]):
                    begun[shard] = phases.begin(shard, rows_of_batch(work.batch, part), rows, (*work.key, shard))
            phase = 0
            while exchange.add_up({shard: _advanced(each, phase) for shard, each in begun.items()}):
                phase += 1

        done, _ = exchange.run(parts, compute)  # an error is raised again where the shards are computed in turns
        if not done:
            return None
        return [
            _Computed(shard, begun[shard].sums, self._gradients[shard], begun[shard].buffers() if shard == 0 else ())
            if shard in begun
            else _Computed(shard, {})
            for shard in self._own
        ]

    def _exchange(self, lengths: Sequence[int] = ()) -> Exchange:
        """Return the sums between phases of these lengths; without lengths, those between turns."""
        if (known := tuple(lengths)) not in self._exchanges:
            self._exchanges[known] = Exchange(self.workers, self._own, self._new)
        return self._exchanges[known]

    def _together(self, jobs: _Jobs, model: Model, rows: int) -> Iterator[_Computed]:
        """Compute the shards in turns, the last one with the model itself."""
        models = dict.fromkeys([*jobs][-1:], model)
        for shard in [*jobs][:-1]:
            twin = self._twins.get(shard)
            if twin is None or twin.parameters.frozen != model.parameters.frozen:
                twin = self._twins[shard] = model.copy()
                twin.parameters.follow(model.parameters)
            for name, buffer in model.buffers.items():
                twin.buffers[name][...] = buffer
            models[shard] = twin
        found = dict[int, Sums]()

        def compute(shard: int) -> None:
            found[shard] = jobs[shard](models[shard])

        exchange = self._exchange()
        turns = Turns({shard: partial(compute, shard) for shard in jobs}, rows, exchange.add_up)
        _, error = exchange.run(jobs, partial(turns.run, self._threads))
        for shard in self._own:
            each = models.get(shard, model)
            yield _Computed(shard, found.get(shard, {}), each.parameters.gradient, each.buffers.values(), error)

    def total(self, sums: Callable[[], Mapping[int, Sums]]) -> Sums:
        """Return the sum of the sums of all parts of all workers; ``sums`` computes those of this one by part."""
        error, found = None, dict[int, Sums]()
        try:
            found = dict(sums())
        except Exception as raised:  # noqa: BLE001 (as above)
            error = raised
        planned = self._plan(next(iter(found.values()), {}), NOTHING)
        for shard in self._own:
            self._put(planned, _Computed(shard, found.get(shard, {}), error=error))
        return self._total(planned, NOTHING, error)

    def _plan(self, sums: Sums, vector: Array, buffers: Iterable[Array] = ()) -> _Planned:
        """Plan the sum of the results of all shards; a worker without rows learns the layout from the others."""
        layouts = self.workers.gather([(key, len(values)) for key, values in sums.items()])
        layout = next(filter(None, layouts), [])
        tail = 1 + sum(size for _, size in layout) + sum(buffer.size for buffer in buffers)
        return _Planned(self._new(vector.size, vector.dtype, tail), layout)

    def _put(self, planned: _Planned, computed: _Computed) -> None:
        """Write the results of a shard into the tree."""
        vector, tail = planned.tree.leaf(computed.shard)
        if computed.sums:
            if vector is not computed.gradient:
                vector[...] = computed.gradient
            numbers = [value for key, _ in planned.layout for value in computed.sums[key]]
            tail[1 : 1 + len(numbers)] = numbers
            if computed.shard == 0 and (new := [buffer.ravel() for buffer in computed.buffers]):
                tail[1 + len(numbers) :] = np.concatenate(new)
        else:
            vector[...] = 0
        tail[0] = computed.error is not None or self._noted()

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


def _part(fill: Callable[..., Sums], start: int, *arguments: Any) -> Sums:
    """Call ``fill`` for the rows of a batch from ``start`` on; an error counts rows from the batch's first one."""
    try:
        return fill(*arguments)
    except DivergedError as error:
        error.row += start
        raise


def _shard(work: Work, shard: int, part: slice, model: Model) -> Sums:
    """Fill the gradient of a model, which may be a copy, with that of a shard."""
    return _part(work.fill, part.start, model, rows_of_batch(work.batch, part), work.count, (*work.key, shard))


def _advanced(shard: PhasesOfShard, phase: int) -> Array:
    found = shard.advance(phase)
    if found is None:
        raise DivergedError("a number may not be finite")  # NumPy computes the batch again, and says which
    return found
