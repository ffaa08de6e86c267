"""DataParallel: the setting of a trainer on several workers; and which of them this process is, by its environment."""

from __future__ import annotations

import os

from framework.base.settings.component import Component, Count, Positive


class DataParallel(Component):
    """Train one model on all the processes that ``mpiexec`` has started; without it, in this one.

    Each batch is cut into ``shards`` parts of consecutive rows. A worker computes a range of them, and the gradients
    and the sums of loss and metrics are added up by a fixed tree. So the trained weights are the same to the last bit
    on any number of workers, one included.

    Attributes:
        shards: The parts of a batch. They belong to the experiment: another number gives other last bits. At most
            as many workers have work.
        deterministic: False takes one part for each worker. It is faster than several shards for each worker, and the
            last bits depend on the number of workers.
        timeout: How many seconds the workers wait for one of them, before all end with an error.

    Raises:
        SettingsError: A setting is out of range.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(
        ...     loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), strategy=DataParallel(shards=4)
        ... )
        >>> trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0])).step
        1
    """

    shards: Count = 8
    deterministic: bool = True
    timeout: Positive = 600.0


SIZES = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
"""The variables in which MPICH (and Intel MPI), Open MPI, MVAPICH and Slurm tell a process how many were started, and
which of them it is."""


def count_processes() -> int:
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
    names = [SIZES[size] for size in SIZES if os.environ.get(size) == str(count_processes())]
    return int(os.environ.get(names[0], "0")) if names else 0
