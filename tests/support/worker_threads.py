"""Workers that are threads of this process."""

import threading

import numpy as np
import pytest

from framework.base.errors import UsageError
from framework.training.parallel.workers import Workers


class Threads(Workers):
    """Workers that are threads of this process, which exchange their bytes by a shared list."""

    def __init__(self, rank, size, barrier, desk):
        self.rank, self.size, self._barrier, self._desk = rank, size, barrier, desk

    def _exchange(self, value):
        self._desk[self.rank] = value
        self._barrier.wait(10)
        found = list(self._desk)
        self._barrier.wait(10)
        return found

    def alltoall(self, sent, places, received, origins):
        flat = received.reshape(-1)
        parts = [sent[start : start + count].copy() for count, start in zip(*places, strict=True)]
        for (count, start), given in zip(zip(*origins, strict=True), self._exchange(parts), strict=True):
            assert given[self.rank].size == count
            flat[start : start + count] = given[self.rank]

    def allgather(self, sent, received, origins):
        for (count, start), part in zip(zip(*origins, strict=True), self._exchange(sent.copy()), strict=True):
            assert part.size == count
            received[start : start + count] = part

    def gather(self, value):
        return self._exchange(value)


class Sharing(Threads):
    """The same with memory that they share."""

    def share(self, size):
        return self._exchange(np.zeros(size, np.uint8))[0]

    def barrier(self):
        self._barrier.wait(10)

    def alltoall(self, *_):
        pytest.fail("workers that share memory send nothing")


def together(size, work, kind=Threads):
    """Call ``work(workers)`` on threads, and return the results of all."""
    barrier, desk, results = threading.Barrier(size), [None] * size, [None] * size

    def run(rank):
        try:
            results[rank] = work(kind(rank, size, barrier, desk))
        except UsageError as error:  # on all workers alike
            results[rank] = error
        finally:
            if results[rank] is None:
                barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not barrier.broken
    return results
