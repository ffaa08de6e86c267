"""Callbacks that judge epochs: they stop training, lower the learning rate, or restore the best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from framework.base.errors import SettingsError, brief
from framework.base.settings.component import Count, NonNegative
from framework.formulas.activations.basic import Identity, Sigmoid, Softmax
from framework.formulas.schedules import Schedule
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.composite import ActivationLayer
from framework.models.sequential import Sequential
from framework.training.callbacks.base import Callback
from framework.training.runs.run import Run


def remember_best(callback: Any, run: Run) -> bool:
    """Remember a value of the newest row that is the best, or count the epochs since; return whether it is."""
    value = float(run.history[-1][callback.monitor])
    memory = run.memory(callback)
    best = memory.get("best")
    gain = math.inf if best is None else (best - value if callback.mode == "min" else value - best)
    if math.isfinite(value) and gain > callback.min_delta:
        memory.update(best=value, best_epoch=run.epoch, waited=0)
        return True
    memory["waited"] = memory.get("waited", 0) + 1
    return False


def _keep_weights(callback: Any, run: Run) -> None:
    """Remember the weights of the epoch that has just ended."""
    run.memory(callback).update(_weights_of(run))


def _weights_of(run: Run) -> dict[str, Any]:
    buffers = {name: array.copy() for name, array in run.model.buffers.items()}
    return {"values": run.model.parameters.vector.copy(), "buffers": buffers}


def _replace_weights(run: Run, weights: Mapping[str, Any]) -> None:
    run.model.parameters.vector[:] = weights["values"]
    for name, array in weights["buffers"].items():
        run.model.buffers[name][...] = array


def _restore_weights(callback: Any, run: Run) -> None:
    """Put the remembered weights back, unless training ended with an error."""
    memory = run.memory(callback)
    if run.error is None and "values" in memory and memory.get("restored") != run.step:
        memory["last"] = _weights_of(run)
        _replace_weights(run, memory)
        memory["restored"] = run.step  # until a further step these are the weights of the best epoch


def _resume_weights(callback: Any, run: Run) -> None:
    """Put the last weights back where a resumed run has steps to make, so that it equals one that was not stopped.

    Weights that the user has set since stay.
    """
    memory = run.memory(callback)
    if memory.get("restored") == run.step and run.stop_reason is None and run.epoch < run.target_epoch:
        last = memory.pop("last")
        if np.array_equal(run.model.parameters.vector, memory["values"]):
            _replace_weights(run, last)
        del memory["restored"]


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not improved for ``patience`` epochs.

    An epoch improves when its value is below the best by more than ``min_delta`` (above, for ``mode="max"``). NaN and
    infinity never improve.

    Attributes:
        monitor: A column of the history.
        mode: ``"min"`` or ``"max"``; nothing is guessed from the name.
        patience: Epochs without improvement to wait for.
        min_delta: An improvement must be larger than this, in the unit of the monitor.
        restore_best: Whether to put the weights of the best epoch back when training ends without an error. A resumed
            run continues from the last weights, as for RestoreBest.

    Raises:
        SettingsError: The history has no such column; at ``fit``.

    Example:
        >>> EarlyStopping(monitor="val_accuracy", mode="max", patience=3, restore_best=True).patience
        3

    Source:
        Prechelt, Early stopping - but when? (1998).
    """

    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    patience: Count = 5
    min_delta: NonNegative = 0.0
    restore_best: bool = False

    @property
    def restores(self) -> bool:
        return self.restore_best

    def judged(self) -> dict[str, str]:
        return {self.monitor: self.mode}

    def on_train_begin(self, run: Run) -> None:
        _resume_weights(self, run)

    def on_epoch_end(self, run: Run) -> None:
        """Remember the best value, and stop after ``patience`` epochs without a better one."""
        memory = run.memory(self)
        if remember_best(self, run):
            if self.restore_best:
                _keep_weights(self, run)
        elif memory["waited"] >= self.patience:
            best = "never finite"
            if "best" in memory:
                best = f"best, {memory['best']:.6g}, in epoch {memory['best_epoch']}"
            run.stop(f"EarlyStopping: {self.monitor} was {best}; no improvement in {memory['waited']} epochs")

    def on_train_end(self, run: Run) -> None:
        if self.restore_best:
            _restore_weights(self, run)


class RestoreBest(Callback):
    """Put the weights of the best epoch back when training ends without an error; it stops nothing.

    With ``calibrate`` the model keeps the best epoch's temperature T as well: the last weights and biases are divided
    by T, so that its probabilities are those of softmax(h / T), in every export too. The order of the classes stays.
    The figures of that epoch in the history are those before. Figures over the validation rows are slightly too good,
    as these rows have chosen the epoch and T: judge the model by others. A resumed run continues from the last weights,
    which the callback remembers, so that a stopped run equals one that was not.

    Attributes:
        monitor: A column of the history, such as ``"val_refined_loss"``, the loss at the best temperature.
        mode: ``"min"`` or ``"max"``.
        min_delta: An improvement must be larger than this, in the unit of the monitor.
        calibrate: Whether to divide by ``val_temperature``, the column of the metric ``Temperature()``.

    Raises:
        SettingsError: The history has no such column; or ``calibrate`` does not find a Dense or Neuron that a Softmax
            or Sigmoid ends. At ``fit``.

    Example:
        >>> from framework import AdamOptimizer, CrossEntropy, Trainer
        >>> from framework.formulas import RefinedLoss
        >>> from framework.formulas import Temperature
        >>> trainer = Trainer(
        ...     loss=CrossEntropy(),
        ...     optimizer=AdamOptimizer(),
        ...     metrics=[RefinedLoss(), Temperature()],
        ...     callbacks=[RestoreBest(monitor="val_refined_loss", calibrate=True)],
        ... )

    Source:
        Berta, Holzmueller, Jordan and Bach, Rethinking early stopping: refine, then calibrate (2025), arXiv 2501.19195.
    """

    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    min_delta: NonNegative = 0.0
    calibrate: bool = False
    restores: ClassVar[bool] = True

    def judged(self) -> dict[str, str]:
        return {self.monitor: self.mode}

    def required_keys(self) -> tuple[str, ...]:
        return (self.monitor, *([_TEMPERATURE] if self.calibrate else []))

    def require(self, run: Run) -> None:
        """Check that there are weights to calibrate."""
        if self.calibrate:
            _output_layer(run.model)

    def on_train_begin(self, run: Run) -> None:
        _resume_weights(self, run)

    def on_epoch_end(self, run: Run) -> None:
        """Remember the weights of the best epoch, calibrated."""
        if remember_best(self, run):
            current = _weights_of(run)
            if self.calibrate:
                layer, temperature = _output_layer(run.model), run.history[-1][_TEMPERATURE]
                layer.weights /= temperature
                layer.bias /= temperature
            _keep_weights(self, run)
            _replace_weights(run, current)

    def on_train_end(self, run: Run) -> None:
        _restore_weights(self, run)


_TEMPERATURE = "val_temperature"
"""The column of the temperature."""


def _output_layer(model: Model) -> Dense | Neuron:
    """Return the layer whose h the Softmax or Sigmoid at the end of a model takes.

    Raises:
        SettingsError: There is no such layer.
    """
    layer, activation = model, model.output_activation
    last = activation
    while isinstance(layer, Sequential):
        *before, layer = layer.parts.values()
        if isinstance(layer, ActivationLayer) and before:
            layer, last = before[-1], Identity()
    if isinstance(activation, Softmax | Sigmoid) and isinstance(layer, Dense | Neuron) and layer.activation == last:
        return layer
    raise SettingsError(
        "RestoreBest: setting 'calibrate' divides the numbers before a Softmax or Sigmoid by a temperature, and "
        f"needs a model that ends in Dense(units=3, activation=Softmax()) or the like; got {brief(model)}"
    )


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


class StopOnConvergence(Callback):
    """Stop when the change of the cost between epochs is insignificant.

    That is, when |previous - current| <= tolerance * |previous| for ``patience`` epochs in a row.

    Attributes:
        monitor: A column of the history.
        tolerance: The relative change that is insignificant.
        patience: How many epochs in a row.

    Raises:
        SettingsError: The history has no such column; at ``fit``.

    Example:
        >>> StopOnConvergence(tolerance=1e-6).monitor
        'loss'
    """

    monitor: str = "loss"
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    patience: Count = 1

    def required_keys(self) -> tuple[str, ...]:
        return (self.monitor,)

    def on_epoch_end(self, run: Run) -> None:
        value = float(run.history[-1][self.monitor])
        memory = run.memory(self)
        previous = memory.get("previous")
        memory["previous"] = value
        small = previous is not None and abs(previous - value) <= self.tolerance * abs(previous) < math.inf
        memory["still"] = memory.get("still", 0) + 1 if small else 0
        if memory["still"] >= self.patience:
            run.stop(f"StopOnConvergence: {self.monitor} changed from {previous:.6g} to {value:.6g} only")
