import numpy as np
import pytest
from worker_threads import together

from framework.base.errors import DivergedError, UsageError
from framework.training.parallel.mpi import print_line
from framework.training.parallel.workers import failure_of, require_success


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


def failing(error):
    """The errors of three workers of which all but worker 0 fail together."""

    def work(group):
        own = error(group.rank) if group.rank > 0 else None
        with pytest.raises((DivergedError, KeyError, UsageError)) as caught:
            require_success(group.gather(failure_of(own)), group.rank, own)
        return caught.value

    return together(3, work)


def diverged(rank):
    return DivergedError("the loss is nan, first at row {row} of the batch", row=10 * rank)


def test_workers_that_diverge_name_one_row():
    errors = failing(diverged)
    assert [type(error) for error in errors] == [DivergedError] * 3
    told = "the loss is nan, first at row 10 of the batch"
    assert [error.row for error in errors] == [10, 10, 10]
    assert [str(error) for error in errors] == [f"worker 1: {told}", told, f"worker 1: {told}"]


def test_workers_raise_their_own_error_or_that_of_the_first():
    errors = failing(KeyError)
    assert [type(error) for error in errors] == [UsageError, KeyError, KeyError]
    assert [str(error) for error in errors] == ["worker 1: KeyError: 1", "1", "2"]


def test_an_error_that_names_a_file_with_bytes_that_are_no_text_is_printed(capfd):
    print_line("no file \udc80.csv")
    assert capfd.readouterr().err == "framework: no file \\udc80.csv\n"
