"""Turns: shards that need sums over all rows of their batch. Each is computed up to such a sum, then the next one."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import numpy as np

from framework.arrays import WHOLE_BATCH, Array, WholeBatch
from framework.errors import UsageError
from framework.parallel.sums import AllReduce, Tree
from framework.parallel.workers import Workers

Result = TypeVar("Result")


class Turns(Generic[Result]):
    """Computes the shards of this worker in turns: one exchange with the other workers for each sum.

    The last shard runs in the thread of the caller, and each other one in a thread that waits while another one runs.
    """

    def __init__(self, workers: Workers, own: Iterable[int], new: Callable[..., Tree | AllReduce]) -> None:
        """Plan no sums yet: the first call of ``run`` finds their number and their lengths.

        Args:
            workers: The workers.
            own: The shards of this worker.
            new: Makes a sum over all shards, given its length, its dtype, and the length of its tail.
        """
        self._workers, self._own, self._new = workers, [*own], new
        self._planned: list[tuple[Any, Tree | AllReduce | None]] = []  # (None, None) where the computation ends
        self._threads = ThreadPoolExecutor(max(len(self._own) - 1, 1), "shard")  # which start when they are needed

    def run(self, jobs: Mapping[int, Callable[[], Result]], rows: int) -> tuple[dict[int, Result], Exception | None]:
        """Return what the jobs of the shards give, and the error of one of them.

        If a shard of any worker has an error, all workers break off, and may have no results.
        """
        self._jobs, self._number = jobs, 0
        self._error: Exception | None = None
        self._sum: Array | None = None
        *before, last = [*jobs] or [-1]
        self._turns = {shard: _Turn(self._threads, jobs[shard], rows) for shard in before}
        token = WHOLE_BATCH.set(WholeBatch(rows, self._total))
        results: dict[int, Result] = {}
        try:
            try:
                results = {last: jobs[last]()} if jobs else {}
            except Exception as error:  # noqa: BLE001 (returned, after the sum that the others wait for)
                self._error = error
            while self._next({}) is not None:  # of a worker without rows, or after an error
                pass
        except _Left:
            return {}, self._error
        finally:
            WHOLE_BATCH.reset(token)
            turns, self._turns, self._jobs = self._turns, {}, {}  # so that no cycle keeps the threads
            for turn in turns.values():
                turn.leave()
        return {shard: turn.results[0] for shard, turn in turns.items() if turn.results} | results, self._error

    def _total(self, array: Array) -> Array:
        """Return the sum of an array of the last shard and of those of all others."""
        found = self._next({[*self._jobs][-1]: array})
        if found is None:
            raise _Left
        return found

    def _next(self, wanted: dict[int, Array]) -> Array | None:
        """Compute the other shards up to their next sum, and return the sum over all; None at the end."""
        for shard, turn in self._turns.items():
            if (array := turn.move(self._sum)) is not None:
                wanted[shard] = array
            self._error = self._error or turn.error
        forms = {shard: (len(array), array.dtype.str) for shard, array in wanted.items()}
        if self._number == len(self._planned):
            self._plan(next(iter(forms.values()), None))
        form, tree = self._planned[self._number]
        if self._error is None and forms != ({} if form is None else dict.fromkeys(self._jobs, form)):
            self._error = UsageError(
                "DataParallel: the layers of a shard add up other numbers over all rows than those of another shard or "
                "than in the first step; let every batch go through the same layers"
            )
        if tree is None:
            return None
        for shard in self._own:
            vector, tail = tree.leaf(shard)
            vector[...] = wanted[shard] if forms.get(shard) == form else 0.0
            tail[0] = self._error is not None
        self._number, self._sum = self._number + 1, np.empty(*form)
        if tree.total(self._sum)[0]:
            raise _Left
        return self._sum

    def _plan(self, form: Any) -> None:
        """Plan the next sum with all workers."""
        told = self._workers.gather((form, self._error is not None))
        if any(failed for _, failed in told):
            raise _Left
        form = next((each for each, _ in told if each is not None), None)
        self._planned.append((form, None if form is None else self._new(*form, 1)))


class _Left(BaseException):
    """Ends the computation of a shard in the middle."""


class _Turn(Generic[Result]):
    """The computation of one shard, in a thread that runs only within ``move``."""

    def __init__(self, threads: ThreadPoolExecutor, job: Callable[[], Result], rows: int) -> None:
        self.error: Exception | None = None
        self.results: list[Result] = []
        self._threads, self._job, self._rows, self._ended = threads, job, rows, False
        self._given, self._wanted = SimpleQueue[Any](), SimpleQueue[Array | None]()
        self._done: Future[None] | None = None

    def move(self, total: Array | None) -> Array | None:
        """Compute on, given the sum that was wanted last, and return what the next sum is of; None at the end."""
        if self._ended:
            return None
        if self._done is None:
            self._done = self._threads.submit(contextvars.copy_context().run, self._work)  # with NumPy's errstate
        else:
            self._given.put(total)
        return self._wanted.get()

    def leave(self) -> None:
        """End the computation."""
        if self._done is not None:
            self._given.put(_Left)
            self._done.exception()

    def _work(self) -> None:
        WHOLE_BATCH.set(WholeBatch(self._rows, self._total))
        try:
            self.results.append(self._job())
        except _Left:
            return
        except Exception as error:  # noqa: BLE001 (raised by the thread that has started this one)
            self.error = error
        self._ended = True
        self._wanted.put(None)

    def _total(self, array: Array) -> Array:
        self._wanted.put(array)
        found = self._given.get()
        if found is _Left:
            raise _Left
        sums: Array = found
        return sums
