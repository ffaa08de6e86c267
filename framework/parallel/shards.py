"""DataParallel: the setting of a trainer on several workers; Shards: which rows of a batch each worker computes."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.data.pieces import Piece
from framework.parallel.workers import Workers
from framework.settings.component import Component, Count, Positive


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
