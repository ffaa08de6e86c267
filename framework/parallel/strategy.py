"""DataParallel: the setting of a trainer that trains on several workers."""

from __future__ import annotations

from framework.settings.component import Component, Count, Positive


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
