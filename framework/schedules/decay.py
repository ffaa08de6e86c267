"""Schedules that lead from a first rate to a last one."""

from __future__ import annotations

import bisect
import math

from framework.errors import SettingsError
from framework.schedules.base import Schedule
from framework.settings.component import Count, NonNegative, Positive


class ConstantSchedule(Schedule):
    """rate(step) = rate. A plain number does the same; this one can be warmed up.

    Attributes:
        rate: The rate of every step.

    Example:
        >>> ConstantSchedule(rate=0.1)(1000)
        0.1
    """

    rate: NonNegative

    def __call__(self, step: int) -> float:
        return self.rate


class StepSchedule(Schedule):
    """rate(step) = initial * decay^floor(step / every): stairs of equal length. PyTorch's StepLR.

    Attributes:
        initial: The first rate.
        every: Steps on one stair.
        decay: The factor from one stair to the next.

    Example:
        >>> [StepSchedule(initial=1.0, every=2, decay=0.5)(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    initial: Positive
    every: Count
    decay: Positive = 0.1

    def __call__(self, step: int) -> float:
        return self.initial * _power(self.decay, step // self.every)


class MultiStepSchedule(Schedule):
    """rate(step) = initial * decay^(number of milestones up to step): stairs of any length. PyTorch's MultiStepLR.

    Attributes:
        initial: The first rate.
        milestones: The steps at which a new stair begins, in rising order.
        decay: The factor from one stair to the next.

    Raises:
        SettingsError: The milestones do not rise.

    Example:
        >>> [MultiStepSchedule(initial=1.0, milestones=(1, 3), decay=0.5)(step) for step in range(5)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    initial: Positive
    milestones: tuple[Count, ...]
    decay: Positive = 0.1

    def model_post_init(self, context: object) -> None:
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise SettingsError(
                f"MultiStepSchedule: setting 'milestones' must rise, e.g. (100, 200); got {self.milestones}"
            )

    def __call__(self, step: int) -> float:
        return self.initial * _power(self.decay, bisect.bisect_right(self.milestones, step))


class ExponentialSchedule(Schedule):
    """rate(step) = initial * decay^step. PyTorch's ExponentialLR.

    Attributes:
        initial: The first rate.
        decay: The factor from one step to the next; more than 1 lets the rate grow.

    Example:
        >>> ExponentialSchedule(initial=0.1, decay=0.5)(2)
        0.025
    """

    initial: Positive
    decay: Positive = 0.999

    def __call__(self, step: int) -> float:
        return self.initial * _power(self.decay, step)


class InverseTimeSchedule(Schedule):
    """rate(step) = initial / (1 + decay * step): the rates of stochastic approximation, whose sum is infinite.

    PyTorch has it as Adagrad's lr_decay.

    Attributes:
        initial: The first rate.
        decay: After 1 / decay steps the rate is half the first.

    Example:
        >>> InverseTimeSchedule(initial=0.1, decay=0.01)(100)
        0.05

    Source:
        Robbins and Monro, A stochastic approximation method (1951), equation 26.
    """

    initial: Positive
    decay: Positive

    def __call__(self, step: int) -> float:
        return self.initial / (1 + self.decay * step)


class PolynomialSchedule(Schedule):
    """rate(step) = final + (initial - final) (1 - step / length)^power, then final. PyTorch's PolynomialLR has final 0.

    Attributes:
        initial: The first rate.
        length: Steps from the first rate to the final one.
        final: The rate after ``length`` steps and from then on.
        power: 1 is a straight line.

    Example:
        >>> [PolynomialSchedule(initial=1.0, length=4, power=2.0)(step) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    initial: Positive
    length: Count
    final: NonNegative = 0.0
    power: Positive = 1.0

    def __call__(self, step: int) -> float:
        left = 1 - min(step, self.length) / self.length
        return self.final + (self.initial - self.final) * math.pow(left, self.power)


class CosineSchedule(Schedule):
    """rate(step) = final + (initial - final) (1 + cos(pi step / length)) / 2, then final.

    PyTorch's CosineAnnealingLR up to ``length``; after it PyTorch's rate rises again.

    Attributes:
        initial: The first rate.
        length: Steps from the first rate to the final one.
        final: The rate after ``length`` steps and from then on.

    Example:
        >>> [round(CosineSchedule(initial=1.0, length=3)(step), 9) for step in range(5)]
        [1.0, 0.75, 0.25, 0.0, 0.0]

    Source:
        Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017), equation 5.
    """

    initial: Positive
    length: Count
    final: NonNegative = 0.0

    def __call__(self, step: int) -> float:
        return cosine(self.initial, self.final, min(step / self.length, 1.0))


def cosine(start: float, end: float, part: float) -> float:
    """Return the rate after a part, in 0..1, of half a cosine's way from start to end.

    Example:
        >>> cosine(1.0, 0.0, 0.5)
        0.5
    """
    return end + (start - end) * (0.5 * (1 + math.cos(math.pi * part)))


def _power(base: float, exponent: int) -> float:
    """Return base^exponent, infinity where it overflows, which the optimizer refuses with the schedule's name."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf
