import numpy as np
import pytest

from framework.base.errors import UsageError
from framework.training.parallel.sums import NOTHING, Addend, Lockstep, Tree
from framework.training.parallel.workers import Workers

ALONE = Workers()


class Steps:
    """The shards of one worker, in lockstep, and the errors and signals that it has told."""

    def __init__(self, shards=3, noted=False):
        def new(*sizes):
            return Tree(ALONE, shards, *sizes)

        self.told = []
        self.lockstep = Lockstep(ALONE, range(shards), new, noted=lambda: noted, agree=self.told.append)

    def run(self, shards, **options):
        return self.lockstep.run(shards, lambda shard, _: shards[shard], np.zeros(0), **options)


def adding(*numbers, totals=None):
    """Yield arrays one after another, keep the sums that come back, and add up how many there are."""
    totals = [] if totals is None else totals
    for number in numbers:
        total = yield np.array(number)
        totals.append(total.tolist())
    yield Addend(NOTHING, {"sums": (float(len(totals)),)})


def failing(count):
    """Fail after some sums."""
    for _ in range(count):
        yield np.ones(1)
    raise ValueError("no")


def test_every_shard_receives_the_sums_over_all_shards():
    steps = Steps()
    for factor in (1.0, 2.0):  # the second run knows the sums
        totals = [[], [], []]
        shards = {shard: adding([factor], [factor * shard, 1.0], totals=totals[shard]) for shard in range(3)}
        assert steps.run(shards).sums == {"sums": (6.0,)}
        assert totals == [[[3 * factor], [3 * factor, 3.0]]] * 3


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_shard_without_rows_adds_nothing(empty):
    steps = Steps()
    for _ in range(2):
        totals = [[], [], []]
        shards = {shard: adding([1.0 + shard], totals=totals[shard]) for shard in range(3) if shard != empty}
        assert steps.run(shards).sums == {"sums": (2.0,)}
        assert [total for total in totals if total] == [[[5.0 - empty]]] * 2


def test_the_last_sum_is_of_vectors_and_the_further_numbers_are_those_of_shard_0():
    def shard(number):
        yield Addend(np.array([1.0, number]), {"loss": (number, 1.0)}, [np.array([[number + 5.0]])])

    vector = np.zeros(2)
    steps = Steps(2)
    for _ in range(2):
        total = steps.lockstep.run([0, 1], lambda number, _: shard(float(number)), vector)
        assert (total.sums, total.arrays[0].tolist(), vector.tolist()) == ({"loss": (1.0, 2.0)}, [5.0], [2.0, 1.0])


def test_no_shard_may_write_into_the_sum_of_all():
    def writing():
        total = yield np.ones(2)
        total += 1.0

    steps = Steps(1)
    assert steps.run({0: writing()}) is None
    assert "read-only" in str(steps.told[0])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_error_in_a_shard_ends_all_and_is_told(count):
    steps = Steps(2)
    for _ in range(2):  # before and after the sums are planned
        assert steps.run({0: failing(count), 1: adding([1.0], [1.0])}) is None
        assert str(steps.told.pop()) == "no"
        assert steps.run({0: failing(count), 1: adding([1.0], [1.0])}, tolerant=True) is None
        assert steps.told == []
    assert steps.run({0: adding([1.0], [1.0]), 1: adding([1.0], [1.0])}) is not None


def test_a_signal_is_told_and_ends_nothing():
    steps = Steps(1, noted=True)
    assert steps.run({0: adding()}).sums == {"sums": (0.0,)}
    assert steps.told == [None]


@pytest.mark.parametrize("other", [(), ([1.0, 2.0],), ([1.0], [1.0])])
@pytest.mark.parametrize("planned", [False, True])
def test_other_sums_are_refused(other, planned):
    steps = Steps(2)
    if planned:
        steps.run({0: adding([1.0]), 1: adding([1.0])})
    shards = [{0: adding([1.0]), 1: adding(*other)}]
    shards += [{0: adding(*other), 1: adding(*other)}] if planned else []
    for each in shards:
        assert steps.run(each) is None
        error = steps.told.pop()
        assert type(error) is UsageError
        assert "add up other numbers over all rows" in str(error)
