"""Turns: shards that need sums over all rows of their batch. Each is computed up to such a sum, then the next one."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np

from framework.arrays import WHOLE_BATCH, Array, WholeBatch
from framework.parallel.workers import AllReduce, Tree, Workers

Result = TypeVar("Result")


class Turns:
    """Computes the shards of this worker in turns: one exchange with the other workers for each sum."""

    def __init__(self, workers: Workers, own: Iterable[int], new: Callable[..., Tree | AllReduce]) -> None:
        """Plan no sums yet: the first call of ``run`` finds their number and their lengths.

        Args:
            workers: The workers.
            own: The shards of this worker.
            new: Makes a sum over all shards, given its length, its dtype, and the length of its tail.
        """
        self._workers, self._own, self._new = workers, own, new
        self._trees: list[tuple[Tree | AllReduce, int, str] | None] = []  # with length and dtype; None is the end

    def run(self, jobs: Mapping[int, Callable[[], Result]], rows: int) -> tuple[dict[int, Result], Exception | None]:
        """Return what the jobs of the shards give, and the error of one of them.

        If a shard of any worker has an error, all workers break off, and may have no results.
        """
        turns = {shard: _Turn(job, rows) for shard, job in jobs.items()}
        found: Array | None = None
        try:
            for number in count():
                for turn in turns.values():
                    turn.move(found)
                error = next((turn.error for turn in turns.values() if turn.error is not None), None)
                wanted = {shard: turn.wanted for shard, turn in turns.items() if turn.wanted is not None}
                if number == len(self._trees) and not self._learn(wanted, failed=error is not None):
                    return {}, error
                if (planned := self._trees[number]) is None:
                    return {shard: turn.results[0] for shard, turn in turns.items() if turn.results}, error
                tree, length, dtype = planned
                for shard in self._own:
                    vector, tail = tree.leaf(shard)
                    vector[...], tail[0] = wanted.get(shard, 0.0), error is not None
                found = np.empty(length, dtype)
                if tree.total(found)[0]:
                    return {}, error
        finally:
            for turn in turns.values():
                turn.leave()
        raise AssertionError

    def _learn(self, wanted: Mapping[int, Array], *, failed: bool) -> bool:
        """Plan the next sum, and return whether all workers could."""
        form = next(((len(array), array.dtype.str) for array in wanted.values()), None)
        told = self._workers.gather((form, failed))
        if any(each for _, each in told):
            return False
        forms = [each for each, _ in told if each is not None]
        self._trees.append((self._new(*forms[0], 1), *forms[0]) if forms else None)
        return True


class _Left(BaseException):
    """Ends the computation of a shard in the middle."""


class _Turn(Generic[Result]):
    """The computation of one shard, in a thread that runs only within ``move``."""

    def __init__(self, job: Callable[[], Result], rows: int) -> None:
        self.wanted: Array | None = None
        self.error: Exception | None = None
        self.results: list[Result] = []
        self._sum: Array | None = None
        self._job, self._rows, self._ended, self._leaving = job, rows, False, False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        context: Any = contextvars.copy_context()  # NumPy's errstate
        self._thread = threading.Thread(target=context.run, args=(self._work,), daemon=True)
        self._thread.start()

    def move(self, total: Array | None) -> None:
        """Compute up to the next sum, or to the end, given the sum that was wanted last."""
        if not self._ended:
            self.wanted, self._sum = None, total
            self._go.release()
            self._stopped.acquire()

    def leave(self) -> None:
        """End the thread."""
        if not self._ended:
            self._leaving = True
            self._go.release()
        self._thread.join()

    def _work(self) -> None:
        WHOLE_BATCH.set(WholeBatch(self._rows, self._total))
        try:
            self._wait()
            self.results.append(self._job())
        except _Left:
            return
        except Exception as error:  # noqa: BLE001 (raised by the thread that has started this one)
            self.error = error
        self._ended = True
        self._stopped.release()

    def _wait(self) -> None:
        self._go.acquire()
        if self._leaving:
            raise _Left

    def _total(self, array: Array) -> Any:
        self.wanted = array
        self._stopped.release()
        self._wait()
        return self._sum
