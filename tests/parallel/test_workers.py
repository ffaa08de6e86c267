import numpy as np
from worker_threads import together

from framework.errors import UsageError


def test_every_leaf_has_one_worker():
    for shards in range(1, 33):
        for size in range(1, shards + 4):
            assert [i for group in together(size, lambda own, shards=shards: own.leaves(shards)) for i in group] == [
                *range(shards)
            ]


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
