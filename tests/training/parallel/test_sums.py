import numpy as np
import pytest
from worker_threads import Sharing, Threads, together

from framework.base.errors import UsageError
from framework.training.parallel.sums import Tree
from framework.training.parallel.workers import Workers


def by_halves(leaves, start, size):
    """The sum of the leaves from ``start``, in a node of ``size`` leaves, by the definition of the tree."""
    if start >= len(leaves):
        return None
    if size == 1:
        return leaves[start]
    left, right = by_halves(leaves, start, size // 2), by_halves(leaves, start + size // 2, size // 2)
    return left if right is None else (left[0] + right[0], left[1] + right[1])


@pytest.mark.share(1 / 20)
@pytest.mark.parametrize("kind", [Threads, Sharing])
@pytest.mark.parametrize("shards", range(1, 33))
def test_the_sum_has_the_same_bits_for_any_number_of_workers(shards, kind, monkeypatch):
    monkeypatch.setattr("framework.training.parallel.sums.SMALL", 0)
    monkeypatch.setattr("framework.training.parallel.sums.BLOCK", 20)
    rng = np.random.default_rng(shards)
    length, tail = int(rng.integers(0, 70)), int(rng.integers(0, 4))
    leaves = [
        ((rng.normal(size=length) * 10.0 ** rng.integers(-6, 6)).astype(np.float32), rng.normal(size=tail))
        for _ in range(shards)
    ]
    expected = by_halves(leaves, 0, 32)

    def work(group):
        tree, sums = Tree(group, shards, length, np.float32, tail), []
        for factor in (1, 2, 4):  # exact, so that each sum is that of other leaves
            for i in group.leaves(shards):
                leaf = tree.leaf(i)
                leaf.tail[:] = factor * leaves[i][1]
                leaf.vector[:] = factor * leaves[i][0]
            vector = np.empty(length, np.float32)
            sums.append((tree.total(vector).tobytes(), vector.tobytes()))
        return sums

    wanted = [((factor * expected[1]).tobytes(), (factor * expected[0]).tobytes()) for factor in (1, 2, 4)]
    for size in range(1, shards + 4):
        for found in together(size, work, kind):
            assert found == wanted


def test_a_tree_keeps_few_leaves_in_memory():
    tree = Tree(Workers(), 1024, 1000, np.float64)
    assert len(tree._nodes.slots) <= 11


def test_leaves_are_filled_in_order():
    tree = Tree(Workers(), 4, 1, np.float64)
    tree.leaf(0)
    with pytest.raises(UsageError, match=r"the leaves \[0, 1, 2, 3\] of a worker must be filled in this order; got 2"):
        tree.leaf(2)
    with pytest.raises(UsageError, match="total needs all leaves"):
        tree.total(np.zeros(1))
