"""Turns: shards that need sums over all rows of their batch. All are computed up to such a sum, then up to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue

import numpy as np

from framework.arrays import WHOLE_BATCH, Array, WholeBatch
from framework.errors import UsageError
from framework.parallel.sums import AllReduce, Tree
from framework.parallel.workers import Workers

NOTHING: Array = np.zeros(0)
"""The last array to add up has no numbers."""


class Left(BaseException):
    """Ends the computation of shards in the middle, on all workers; carries an error of this worker, or None."""


class Exchange:
    """The sums over all shards that a step needs, one after another; each step needs the same ones.

    The first step finds how many there are, and how many numbers each has. The last one has no numbers.
    """

    def __init__(self, workers: Workers, own: Iterable[int], new: Callable[..., Tree | AllReduce]) -> None:
        """Plan no sums yet.

        Args:
            workers: The workers.
            own: The shards of this worker.
            new: Makes a sum over all shards, given its length, its dtype, and the length of its tail.
        """
        self._workers, self._own, self._new = workers, [*own], new
        self._planned: list[tuple[tuple[int, str], Tree | AllReduce]] = []
        self._shards: list[int] = []
        self._number = 0

    def run(self, shards: Collection[int], compute: Callable[[], object]) -> tuple[bool, Exception | None]:
        """Compute the shards of this worker; return whether all workers are done, and an error of this worker.

        If a shard of any worker has an error, all workers leave at their next sum.

        Args:
            shards: The shards of this worker that have rows.
            compute: Computes them, and calls ``add_up`` for each sum.
        """
        self._shards, self._number = [*shards], 0
        error = None
        try:
            try:
                if shards:
                    compute()
                else:
                    while self.add_up({}):
                        pass
            except Exception as raised:  # noqa: BLE001 (returned, after the sum that the others wait for)
                error = raised
                self.add_up({}, failed=True)
        except Left as left:
            return False, error or left.args[0]
        return True, None

    def add_up(self, arrays: Mapping[int, Array], *, failed: bool = False) -> bool:
        """Replace an array of each shard by the sum over all shards, in place; return False after the last sum.

        Raises:
            Left: A worker has failed.
        """
        forms = {shard: (len(array), array.dtype.str) for shard, array in arrays.items()}
        if self._number == len(self._planned):
            self._plan(next(iter(forms.values()), None), failed)
        form, tree = self._planned[self._number]
        self._number += 1
        fits = failed or forms == dict.fromkeys(self._shards, form)
        for shard in self._own:
            vector, tail = tree.leaf(shard)
            vector[...] = arrays[shard] if forms.get(shard) == form else 0.0
            tail[0] = failed or not fits
        total = np.empty(*form)
        if tree.total(total)[0]:
            raise Left(None if fits else UsageError(_OTHER_SUMS))
        for array in arrays.values():
            array[...] = total
        return form[0] > 0

    def _plan(self, form: tuple[int, str] | None, failed: bool) -> None:
        """Plan the next sum with all workers."""
        told = self._workers.gather((form, failed))
        if any(failed for _, failed in told):
            raise Left(None)
        form = next(each for each, _ in told if each is not None)
        self._planned.append((form, self._new(*form, 1)))


_OTHER_SUMS = (
    "DataParallel: the layers of a shard add up other numbers over all rows than those of another shard or "
    "than in the first step; let every batch go through the same layers"
)


class Turns:
    """Computes shards in turns: each up to its next sum, then the next shard.

    The last shard runs in the thread of the caller, and each other one in a thread that waits for its turn.
    """

    def __init__(
        self, jobs: Mapping[int, Callable[[], object]], rows: int, add_up: Callable[[Mapping[int, Array]], object]
    ) -> None:
        """Take the computation of each shard, the number of rows of the batch, and what ``Exchange.add_up`` does."""
        self._shards, self._jobs = [*jobs], [*jobs.values()]
        self._rows, self._add_up = rows, add_up
        self._turns = [SimpleQueue[bool]() for _ in jobs]  # True to compute on, False to leave
        self._wanted, self._errors = dict[int, Array](), list[BaseException]()

    def run(self, threads: ThreadPoolExecutor) -> None:
        """Compute all shards; raise the error of one. There must be a thread for each shard but the last."""
        last = len(self._jobs) - 1
        # The context of this thread has NumPy's errstate.
        begun = [threads.submit(copy_context().run, self._work, place) for place in range(last)]
        try:
            self._turns[0].put(True)
            copy_context().run(self._compute, last)
        except (Left, Exception):
            if not self._errors:  # else that of the first shard is raised
                raise
        finally:
            for turn in self._turns:
                turn.put(False)
            wait(begun)
        if self._errors:
            raise self._errors[0]
        self._add_up(self._wanted or dict.fromkeys(self._shards, NOTHING))

    def _work(self, place: int) -> None:
        """Compute a shard in a thread; ``run`` raises an error."""
        try:
            self._compute(place)
        except Left:
            return
        except BaseException as error:  # noqa: BLE001 (raised in the thread of the caller)
            self._errors.append(error)
        self._turns[place + 1].put(True)

    def _compute(self, place: int) -> None:
        self._take_turn(place)
        WHOLE_BATCH.set(WholeBatch(self._rows, partial(self._total, place)))
        self._jobs[place]()

    def _total(self, place: int, array: Array) -> Array:
        """Write the sum over all shards into an array, and return it."""
        self._wanted[self._shards[place]] = array
        following = (place + 1) % len(self._jobs)
        if following == 0:
            if self._errors:
                raise Left(None)
            self._add_up(self._wanted)
            self._wanted = {}
        self._turns[following].put(True)
        self._take_turn(place)
        return array

    def _take_turn(self, place: int) -> None:
        if not self._turns[place].get():
            raise Left(None)
