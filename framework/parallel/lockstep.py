"""Lockstep: shards that need sums over all rows are computed up to such a sum, all of them, then up to the next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from framework.arrays import Array
from framework.errors import UsageError
from framework.parallel.sums import AllReduce, Tree
from framework.parallel.workers import Workers

Result = TypeVar("Result")

NOTHING: Array = np.zeros(0)
"""The array that a shard adds up after its last phase."""

_OTHER_SUMS = (
    "DataParallel: the layers of a shard add up other numbers over all rows than those of another shard or "
    "than in the first step; let every batch go through the same layers"
)


class Lockstep:
    """Computes the shards of a worker, in step with the shards of all workers.

    A shard is a generator: it yields an array, and receives the sum of this array over all shards. The first run finds
    how many sums there are, and how many numbers each has; all runs need the same ones.

    Example:
        >>> def centred(x):
        ...     total = yield np.array([x.sum(), len(x)])
        ...     return x - total[0] / total[1]
        >>> alone = Workers()
        >>> lockstep = Lockstep(alone, [0, 1], lambda *sizes: Tree(alone, 2, *sizes))
        >>> lockstep.run({0: centred(np.array([1.0, 2.0])), 1: centred(np.array([6.0]))})
        ({0: array([-2., -1.]), 1: array([3.])}, None)
    """

    def __init__(self, workers: Workers, own: Iterable[int], new: Callable[..., Tree | AllReduce]) -> None:
        """Plan no sums yet.

        Args:
            workers: The workers.
            own: The numbers of the shards of this worker.
            new: Makes a sum over all shards, given its length, its dtype, and the length of its tail.
        """
        self._workers, self._own, self._new = workers, [*own], new
        self._planned: list[tuple[tuple[int, str], Tree | AllReduce]] = []

    def run(
        self, shards: Mapping[int, Generator[Array, Any, Result]]
    ) -> tuple[dict[int, Result] | None, Exception | None]:
        """Return the results of the shards of this worker that have rows, and an error of this worker.

        If a shard of any worker has an error, all workers end at their next sum, and there are no results.
        """
        results, total, number = dict[int, Result](), None, 0
        while True:
            parts, error = dict[int, Array](), None
            try:
                for shard, computing in shards.items():
                    parts[shard] = NOTHING
                    try:
                        parts[shard] = computing.send(total)
                    except StopIteration as ended:
                        results[shard] = ended.value
            except Exception as raised:  # noqa: BLE001 (returned, after the sum that the others wait for)
                error = raised
            forms = {(len(part), part.dtype.str) for part in parts.values()}
            if number == len(self._planned) and not self._plan(next(iter(forms), None), failed=error is not None):
                return None, error
            form, tree = self._planned[number]
            if error is None and not forms <= {form}:
                error = UsageError(_OTHER_SUMS)
            for shard in self._own:
                vector, tail = tree.leaf(shard)
                vector[...] = parts[shard] if error is None and shard in parts else 0.0
                tail[0] = error is not None
            total = np.empty(*form)
            if tree.total(total)[0]:
                return None, error
            if not len(total):
                return results, None
            total.setflags(write=False)  # all shards of this worker read it
            number += 1

    def _plan(self, form: tuple[int, str] | None, *, failed: bool) -> bool:
        """Plan the next sum with all workers, of which some have no shard; return False if one has failed."""
        answers = self._workers.gather((form, failed))
        if any(failed for _, failed in answers):
            return False
        form = next(each for each, _ in answers if each is not None)
        self._planned.append((form, self._new(*form, 1)))
        return True
