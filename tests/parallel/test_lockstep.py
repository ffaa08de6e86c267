import numpy as np
import pytest

from framework.errors import UsageError
from framework.parallel.lockstep import Lockstep
from framework.parallel.sums import Tree
from framework.parallel.workers import Workers

ALONE = Workers()


def lockstep(shards=3):
    return Lockstep(ALONE, range(shards), lambda *sizes: Tree(ALONE, shards, *sizes))


def adding(*numbers):
    """Yield arrays one after another, and end with the sums that come back."""
    totals = []
    for number in numbers:
        total = yield np.array(number)
        totals.append(total)
    return totals


def failing(count):
    """Fail after some sums."""
    for _ in range(count):
        yield np.ones(1)
    raise ValueError("no")


def test_every_shard_receives_the_sums_over_all_shards():
    steps = lockstep()
    for factor in (1.0, 2.0):  # the second run knows the sums
        shards = {shard: adding([factor], [factor * shard, 1.0]) for shard in range(3)}
        results, error = steps.run(shards)
        assert error is None
        assert [[total.tolist() for total in sums] for sums in results.values()] == [
            [[3 * factor], [3 * factor, 3.0]]
        ] * 3


def test_a_shard_without_rows_adds_nothing():
    steps = lockstep()
    for _ in range(2):
        results, _ = steps.run({0: adding([1.0]), 1: adding([2.0])})
        assert {shard: sums[0].tolist() for shard, sums in results.items()} == {0: [3.0], 1: [3.0]}


def test_shards_without_sums_end_at_once():
    assert lockstep(2).run({0: adding(), 1: adding()}) == ({0: [], 1: []}, None)


def test_no_shard_may_write_into_the_sum_of_all():
    def writing():
        total = yield np.ones(2)
        total += 1.0

    results, error = lockstep(1).run({0: writing()})
    assert results is None
    assert "read-only" in str(error)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_error_in_a_shard_ends_all_and_is_returned(count):
    steps = lockstep(2)
    for _ in range(2):  # before and after the sums are planned
        results, error = steps.run({0: failing(count), 1: adding([1.0], [1.0])})
        assert results is None
        assert str(error) == "no"
    assert steps.run({0: adding([1.0], [1.0]), 1: adding([1.0], [1.0])})[1] is None


@pytest.mark.parametrize("other", [(), ([1.0, 2.0],), ([1.0], [1.0])])
@pytest.mark.parametrize("planned", [False, True])
def test_other_sums_are_refused(other, planned):
    steps = lockstep(2)
    if planned:
        steps.run({0: adding([1.0]), 1: adding([1.0])})
    results, error = steps.run({0: adding([1.0]), 1: adding(*other)})
    assert results is None
    assert type(error) is UsageError
    assert "add up other numbers over all rows" in str(error)
    if planned:
        results, error = steps.run({0: adding(*other), 1: adding(*other)})
        assert results is None
        assert type(error) is UsageError
