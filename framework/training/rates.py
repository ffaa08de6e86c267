"""The search for a learning rate: a short training in which the rate grows, as Smith's range test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from framework import plots
from framework.arrays import Array
from framework.callbacks import on
from framework.errors import DivergedError, SettingsError
from framework.models import Model
from framework.runs.run import Run
from framework.schedules.formulas import ExponentialSchedule
from framework.settings.messages import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from framework.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class LearningRateSearch:
    """The result of ``trainer.find_learning_rate(model, data)``.

    Attributes:
        rates: The learning rate of each step, growing by a constant factor, (steps,).
        losses: The loss of each step's batch, before the step, (steps,).
        smoothed: The losses smoothed over neighbouring steps, on both sides alike, by a Gaussian whose standard
            deviation is 3 % of the steps; so a fall is not shown later than it came.
        suggestion: The rate where the smoothed loss falls fastest over the logarithm of the rate, between the first
            tenth of the steps and the smallest smoothed loss. None if it falls nowhere there.

    Example:
        >>> from framework import CrossEntropy, Dense, SGDOptimizer, Softmax, Trainer
        >>> from framework.datasets import load_digits
        >>> x, y = load_digits()
        >>> trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.01))
        >>> search = trainer.find_learning_rate(Dense(64, 10, Softmax()), (x / 16, y))
        >>> 0.01 < search.suggestion < 1, len(search.rates) == len(search.losses)
        (True, True)
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None

    def plot(self, *, axis: Axes | None = None) -> Axes:
        """Draw the losses over the rates; see ``plots.learning_rate_search``."""
        return plots.learning_rate_search(self, axis=axis)

    def __repr__(self) -> str:
        found = None if self.suggestion is None else float(f"{self.suggestion:.3g}")
        return f"LearningRateSearch(suggestion={found}, {len(self.rates)} steps)"


def searched(
    trainer: Trainer, model: Model, data: Any, lowest: float, highest: float, steps: int
) -> LearningRateSearch:
    """Train a copy of the model with growing rates, and return what was found; see ``Trainer.find_learning_rate``."""
    name = "find_learning_rate"
    for argument, value in (("lowest", lowest), ("highest", highest)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise SettingsError(f"{name}: argument '{argument}' must be a positive number; got {brief(value)}")
    if lowest >= highest:
        raise SettingsError(f"{name}: argument 'lowest' must be less than 'highest', {highest:g}; got {lowest:g}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 20:
        raise SettingsError(f"{name}: argument 'steps' must be a whole number from 20; got {brief(steps)}")
    rates: list[float] = []
    losses: list[float] = []
    average, least = 0.0, math.inf

    @on("batch_end")
    def record(run: Run) -> None:
        nonlocal average, least
        loss = float(run.batch_loss or 0.0)
        rates.append(run.optimizer.last_rate)
        losses.append(loss)
        average = 0.9 * average + 0.1 * loss
        unbiased = average / (1.0 - 0.9 ** len(losses))
        least = min(least, unbiased)
        if len(losses) == steps or unbiased - least > 3.0 * max(abs(losses[0]), abs(least)):
            run.stop(name)

    schedule = ExponentialSchedule(initial=lowest, decay=(highest / lowest) ** (1.0 / (steps - 1)))
    short = trainer.replace(
        optimizer=trainer.optimizer.replace(learning_rate=schedule), epochs=steps, callbacks=[record], metrics=()
    )
    try:
        short.fit(model.copy(), data)
    except DivergedError:
        if not losses:
            raise
    smoothed = _smoothed(np.array(losses), 0.03 * steps)
    return LearningRateSearch(np.array(rates), np.array(losses), smoothed, _steepest(np.array(rates), smoothed, steps))


def _smoothed(losses: Array, deviation: float) -> Array:
    """Return the mean of all losses at each step, weighted by a Gaussian of the distance in steps."""
    steps = np.arange(len(losses))
    share = np.exp(-0.5 * ((steps[:, None] - steps) / deviation) ** 2)
    result: Array = share @ losses / share.sum(axis=1)
    return result


def _steepest(rates: Array, smoothed: Array, steps: int) -> float | None:
    """Return the rate where the smoothed loss falls fastest, or None."""
    first, last = steps // 10, int(smoothed.argmin())
    if last <= first:
        return None
    slopes = np.gradient(smoothed, np.log10(rates))[first : last + 1]
    place = int(slopes.argmin())
    return float(rates[first + place]) if slopes[place] < 0 else None
