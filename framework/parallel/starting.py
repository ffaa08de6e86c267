"""Which workers a process belongs to: those that mpiexec or srun has started with it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from threading import Event

from framework.errors import UsageError
from framework.extras import installing
from framework.parallel.mpi import MPIWorkers
from framework.parallel.workers import Workers
from framework.settings.messages import warn

RUN = "from mpi4py import MPI, run; run.main()"
"""As python -m mpi4py, which ends all workers after an error, but MPI starts before the script, which may end early."""

SIZES = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
"""The variables in which MPICH (and Intel MPI), Open MPI, MVAPICH and Slurm tell a process how many were started, and
which of them it is."""


def started() -> int:
    """Return how many processes mpiexec or srun started together with this one; 1 without them."""
    return max((int(text) for name in SIZES if (text := os.environ.get(name, "")).isdigit()), default=1)


def rank() -> int:
    """Return the number of this process, from 0, among those that mpiexec or srun started; 0 without them.

    It reads the environment, and does not start MPI.

    Example:
        >>> if rank() == 0:
        ...     print("once, whatever the number of workers")
        once, whatever the number of workers
    """
    names = [SIZES[size] for size in SIZES if os.environ.get(size) == str(started())]
    return int(os.environ.get(names[0], "0")) if names else 0


def workers(timeout: float = 600.0) -> Workers:
    """Return the workers that this process belongs to: those of mpiexec or srun, or itself alone.

    Args:
        timeout: The seconds that the first call waits for the others to start.

    Raises:
        UsageError: Several processes were started, and mpi4py is not installed or finds fewer of them.
    """
    count = started()
    if count == 1:
        return Workers()
    if count not in _created:
        if find_spec("mpi4py") is None:
            raise UsageError(
                f"this process is one of {count}, and training them together needs mpi4py: {installing('mpi4py')}; on "
                f"a cluster install mpi4py alone, beside the MPI library of the site"
            )
        _created[count] = MPIWorkers(count, timeout)
    return _created[count]


_created = dict[int, Workers]()
"""The workers of MPI by their number; they are made once."""

_known_alone = Event()
"""Set where it is known that this process trains by itself: that is intended, or a warning was given."""


def expect_alone() -> None:
    """Let this process train by itself without a warning, also where others were started with it."""
    _known_alone.set()


def warn_if_alone() -> None:
    """Warn once, on worker 0, that the workers of ``framework launch`` train without a strategy."""
    if _created or _known_alone.is_set() or sys.orig_argv[1:3] != ["-c", RUN]:
        return
    _known_alone.set()
    if sys.modules["mpi4py.MPI"].COMM_WORLD.rank == 0:
        count = started()
        warn(
            f"fit: the trainer has no strategy, so each of the {count} workers of framework launch trains a model by "
            f"itself; to train one together: Trainer(strategy=DataParallel()); if each is to train its own, start them "
            f"by mpiexec -n {count} python"
        )
