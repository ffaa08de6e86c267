import sys

import pytest

from framework.errors import UsageError
from framework.parallel.starting import workers


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
