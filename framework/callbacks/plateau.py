"""A callback that lowers the learning rate where training no longer gets on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from framework.callbacks.base import Callback
from framework.callbacks.stopping import remember_best
from framework.errors import SettingsError
from framework.runs.run import Run
from framework.schedules import Schedule
from framework.settings.component import Count, NonNegative


class ReduceOnPlateau(Callback):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    An epoch improves when its value is below the best by more than ``min_delta`` (above, for ``mode="max"``), as for
    EarlyStopping. NaN and infinity never improve. The epochs of a cooldown do not count towards the patience.

    This is PyTorch's ReduceLROnPlateau(patience=patience - 1, threshold=min_delta, threshold_mode="abs", eps=0), which
    counts the epochs that it tolerates and so acts one later; Keras counts as here.

    Attributes:
        monitor: A column of the history.
        mode: ``"min"`` or ``"max"``; nothing is guessed from the name.
        factor: The factor for the rate, in (0, 1).
        patience: Epochs without improvement to wait for.
        min_delta: An improvement must be larger than this, in the unit of the monitor.
        cooldown: Epochs after a reduction that do not count.
        minimum: The rate does not fall below this.

    Raises:
        SettingsError: The optimizer's learning rate is a Schedule, or the history has no such column.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> plateau = ReduceOnPlateau(monitor="loss", factor=0.5, patience=1)
        >>> optimizer = SGDOptimizer(learning_rate=1.0)
        >>> trainer = Trainer(
        ...     loss=MeanSquaredError(), optimizer=optimizer, epochs=4, shuffle=False, callbacks=[plateau]
        ... )
        >>> run = trainer.fit(Neuron.from_weights([1.0], train_bias=False), ([[1.0]], [0.0]))
        >>> [(row["loss"], row["learning_rate"]) for row in run.history.rows]
        [(1.0, 1.0), (1.0, 1.0), (1.0, 0.5), (0.0, 0.25)]
    """

    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Count = 10
    min_delta: NonNegative = 0.0
    cooldown: Annotated[int, Field(ge=0)] = 0
    minimum: NonNegative = 0.0

    def judged(self) -> dict[str, str]:
        return {self.monitor: self.mode}

    def on_train_begin(self, run: Run) -> None:
        """Refuse a schedule, which would be lost with the first reduction."""
        rate = run.optimizer.learning_rate
        if isinstance(rate, Schedule) and run.step == 0:  # later a hook may have set one, which then stays
            raise SettingsError(
                f"ReduceOnPlateau sets the optimizer's learning_rate, which must be a number; got {rate!r}; "
                "use one of the two"
            )

    def on_epoch_end(self, run: Run) -> None:
        """Remember the best value, and lower the rate after ``patience`` epochs without a better one."""
        remember_best(self, run)
        memory = run.memory(self)
        if memory.get("cooling", 0):
            memory.update(cooling=memory["cooling"] - 1, waited=0)
        if memory["waited"] >= self.patience:
            memory.update(cooling=self.cooldown, waited=0)
            self._reduce(run)

    def _reduce(self, run: Run) -> None:
        rate = run.optimizer.learning_rate
        if not isinstance(rate, Schedule):  # a hook may have set one since training began; it then stays
            lower = max(rate * self.factor, self.minimum)
            if 0 < lower < rate:
                run.optimizer.learning_rate = lower
