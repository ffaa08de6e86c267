import sys
import threading

import numpy as np
import pytest

from framework.errors import UsageError
from framework.parallel.workers import Workers, workers


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


def by_halves(leaves, start, size):
    """The sum of the leaves from ``start``, in a node of ``size`` leaves, by the definition of the tree."""
    if start >= len(leaves):
        return None
    if size == 1:
        return leaves[start]
    left, right = by_halves(leaves, start, size // 2), by_halves(leaves, start + size // 2, size // 2)
    return left if right is None else (left[0] + right[0], left[1] + right[1])


@pytest.mark.parametrize("kind", [Threads, Sharing])
@pytest.mark.parametrize("shards", range(1, 33))
def test_the_sum_has_the_same_bits_for_any_number_of_workers(shards, kind, monkeypatch):
    monkeypatch.setattr("framework.parallel.workers.SMALL", 0)
    monkeypatch.setattr("framework.parallel.workers.BLOCK", 20)
    rng = np.random.default_rng(shards)
    length, tail = int(rng.integers(0, 70)), int(rng.integers(0, 4))
    leaves = [
        ((rng.normal(size=length) * 10.0 ** rng.integers(-6, 6)).astype(np.float32), rng.normal(size=tail))
        for _ in range(shards)
    ]
    expected = by_halves(leaves, 0, 32)

    def work(group):
        tree, sums = group.tree(shards, length, np.float32, tail), []
        for factor in (1, 2, 4):  # exact, so that each sum is that of other leaves
            for i in group.leaves(shards):
                leaf = tree.leaf(i)
                leaf.vector[:], leaf.tail[:] = (factor * numbers for numbers in leaves[i])
            vector = np.empty(length, np.float32)
            sums.append((tree.total(vector).tobytes(), vector.tobytes()))
        return sums

    wanted = [((factor * expected[1]).tobytes(), (factor * expected[0]).tobytes()) for factor in (1, 2, 4)]
    for size in range(1, shards + 4):
        for found in together(size, work, kind):
            assert found == wanted


def test_every_leaf_has_one_worker():
    for shards in range(1, 33):
        for size in range(1, shards + 4):
            assert [i for group in together(size, lambda own, shards=shards: own.leaves(shards)) for i in group] == [
                *range(shards)
            ]


def test_a_tree_keeps_few_leaves_in_memory():
    tree = Workers().tree(1024, 1000, np.float64)
    assert len(tree._nodes.slots) <= 11


def test_leaves_are_filled_in_order():
    tree = Workers().tree(4, 1, np.float64)
    tree.leaf(0)
    with pytest.raises(UsageError, match=r"the leaves \[0, 1, 2, 3\] of a worker must be filled in this order; got 2"):
        tree.leaf(2)
    with pytest.raises(UsageError, match="total needs all leaves"):
        tree.total(np.zeros(1))


def test_a_value_that_differs_is_an_error_that_names_the_workers():
    def work(group):
        group.require_equal({"the seed": 3, "parameters": np.zeros(3)})
        vector = np.zeros(3)
        vector[1] = -0.0 if group.rank in {1, 3} else 0.0
        group.require_equal({"the seed": 3, "parameters": vector})

    errors = together(4, work)
    assert all(isinstance(error, UsageError) for error in errors)
    assert all("parameters must be equal on all workers" in str(error) for error in errors)
    assert all("workers 1, 3 have" in str(error) for error in errors)


def test_a_process_by_itself_is_one_worker(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    found = workers()
    assert (found.rank, found.size, found.leaves(3)) == (0, 1, range(3))
    assert found.broadcast(5) == 5


def test_several_processes_without_mpi4py_are_an_error_with_advice(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UsageError, match="one of 4, and training them together needs mpi4py: pip install mpi4py mpich"):
        workers()
