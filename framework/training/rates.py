"""The search for a learning rate: a short training in which the rate grows, as Smith's range test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import DivergedError, SettingsError, UsageError
from framework.data.parts import READ_AGAIN
from framework.data.sources import source_of
from framework.formulas.schedules import ExponentialSchedule
from framework.models import Model
from framework.training.callbacks import on
from framework.training.loop import train
from framework.training.runs.run import Run
from framework.views import plots

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
        suggestion: The rate where the smoothed loss falls fastest over the logarithm of the rate, between the last
            step at which it is as large as at the start and the smallest value before it rises again. None if it falls
            no further than batches differ by chance; take more ``steps`` or larger batches then.

    Example:
        >>> from framework import CrossEntropy, Dense, SGDOptimizer, Softmax, Trainer
        >>> from framework.data import load_digits
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
        rate = None if self.suggestion is None else float(f"{self.suggestion:.3g}")
        return f"LearningRateSearch(suggestion={rate}, {len(self.rates)} steps)"


def search_rate(
    trainer: Trainer, model: Model, data: Any, lowest: float, highest: float, steps: int
) -> LearningRateSearch:
    """Train a copy of the model with growing rates, and return the losses; see ``Trainer.find_learning_rate``."""
    name = "find_learning_rate"
    for argument, value in (("lowest", lowest), ("highest", highest)):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise SettingsError("must be a positive number", name=f"{name}: argument '{argument}'", got=value)
    lowest, highest = float(lowest), float(highest)
    if lowest > highest / 2:
        raise SettingsError(f"{name}: argument 'lowest' must be at most half of 'highest', {highest:g}; got {lowest:g}")
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 20:
        raise SettingsError("must be a whole number from 20", name=f"{name}: argument 'steps'", got=steps)
    source = source_of(data, name)
    if source.once:
        raise UsageError(
            f"a {source.kind} can be read once, and the search may need several epochs; {READ_AGAIN}", where=name
        )
    rates: list[float] = []
    losses: list[float] = []
    tenth, average, least = steps // 10, 0.0, math.inf

    @on("batch_end")
    def record(run: Run) -> None:
        nonlocal average, least
        loss = float(run.batch_loss or 0.0)
        rates.append(run.optimizer.last_rate)
        losses.append(loss)
        average = 0.9 * average + 0.1 * loss
        unbiased = average / (1.0 - 0.9 ** len(losses))  # as in Adam
        least = min(least, unbiased)
        start = sum(losses[:tenth]) / min(len(losses), tenth)
        diverged = len(losses) > tenth and unbiased - least > 3.0 * max(abs(start), abs(least))
        if diverged or len(losses) == steps:
            run.stop(name)

    growth = (math.log(highest) - math.log(lowest)) / (steps - 1)
    schedule = ExponentialSchedule(initial=lowest, decay=math.exp(growth))
    short = trainer.replace(
        optimizer=trainer.optimizer.replace(learning_rate=schedule), epochs=int(steps), callbacks=[record], metrics=()
    )
    try:
        train(short, model.copy(), source, name=name)
    except DivergedError:
        if not losses:
            raise
    deviation = 0.03 * steps
    indices = np.arange(len(losses))
    weights = np.exp(-0.5 * ((indices[:, None] - indices) / deviation) ** 2)
    smoothed: Array = weights @ losses / weights.sum(axis=1)
    suggestion = _find_steepest_rate(np.array(rates), np.array(losses), smoothed, deviation)
    return LearningRateSearch(np.array(rates), np.array(losses), smoothed, suggestion)


def _find_steepest_rate(rates: Array, losses: Array, smoothed: Array, deviation: float) -> float | None:
    """Return the rate where the smoothed loss falls fastest, or None.

    The fall begins at the last step above a tenth of it. It ends where, after half of the whole fall, the loss rises
    again by a tenth.

    The losses of batches differ by chance, so a change counts if it is more than 4 standard deviations of the smoothed
    loss. A Gaussian averages over about 2 sqrt(pi) standard deviations of its own.
    """
    tenth = max(1, len(losses) // 10)
    start = float(smoothed[:tenth].mean())
    spread = 1.4826 * float(np.median(np.abs(losses - smoothed)))  # of normal numbers, the standard deviation
    noise = 4.0 * spread / math.sqrt(2.0 * math.sqrt(math.pi) * deviation)
    smallest = np.minimum.accumulate(smoothed)
    falls = start - smallest
    rises = (falls > max(noise, 0.5 * falls[-1])) & (smoothed - smallest > np.maximum(noise, 0.1 * falls))
    last = int(smoothed[: int(rises.argmax()) if rises.any() else None].argmin())
    if (fall := start - float(smoothed[last])) <= noise:
        return None
    before = np.flatnonzero(smoothed[:last] > start - 0.1 * fall)
    first = int(before[-1]) if before.size else 0
    slopes = np.gradient(smoothed, np.log10(rates))[first : last + 1]
    return float(rates[first + int(slopes.argmin())])
