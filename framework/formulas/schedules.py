"""Schedules: a learning rate as a pure function of the number of updates made so far.

Most lead from a first rate to a last one; in some the rate also rises.
"""

from __future__ import annotations

import bisect
import math
import numbers
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from framework.base.errors import SettingsError, brief
from framework.base.settings.component import Component, Count, NonNegative, PlainFunction, Positive, require_function


class Schedule(Component):
    """A learning rate that changes: write ``__call__(step)``, where step counts the updates already made, from 0.

    A schedule whose setting ``length`` is None is ``open``: ``fit`` gives it the number of updates of that fit, and
    the run keeps it. A resume up to that number continues as one long run does; a longer one is refused.

    Example:
        >>> class Halving(Schedule):
        ...     def __call__(self, step):
        ...         return 0.1 * 0.5 ** (step // 100)
        >>> Halving()(0), Halving()(250)
        (0.1, 0.025)
    """

    @staticmethod
    def of(function: Callable[[int], float]) -> Schedule:
        """Return a schedule that is a plain function of the step. It has no JSON form.

        Raises:
            SettingsError: The argument is not a function of one argument.

        Example:
            >>> Schedule.of(lambda step: 0.1 / (1 + step))(3)
            0.025
        """
        require_function("Schedule.of", function, "step")
        return _FunctionSchedule(function=function)

    @property
    def open(self) -> bool:
        """Whether the length is that of the fit: ``length``, its own or that of a schedule within, is None."""
        return getattr(self, "length", 0) is None or any(inner.open for inner in self._within().values())

    def over(self, steps: int) -> Schedule:
        """Return the schedule with the length ``steps`` wherever it has none.

        Example:
            >>> CosineSchedule(initial=0.1).over(500)
            CosineSchedule(initial=0.1, length=500)
        """
        changes: dict[str, Any] = {name: inner.over(steps) for name, inner in self._within().items() if inner.open}
        if getattr(self, "length", 0) is None:
            changes["length"] = steps
        return self.replace(**changes) if changes else self

    def _within(self) -> dict[str, Schedule]:
        """Return the settings that are schedules."""
        return {name: value for name, value in self.settings().items() if isinstance(value, Schedule)}

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the rate of the update after ``step`` updates; it may reach 0 but not fall below."""


class _FunctionSchedule(PlainFunction, Schedule):
    """A plain function of the step; made by ``Schedule.of``."""

    made_by = "Schedule.of"

    def __call__(self, step: int) -> Any:
        return self.function(step)


def rate_at(schedule: Schedule, step: int) -> float:
    """Return ``schedule(step)``, checked.

    Raises:
        SettingsError: The schedule gives no number, or one that is negative or not finite.

    Example:
        >>> class Forgetful(Schedule):
        ...     def __call__(self, step):
        ...         0.1 * 0.5**step
        >>> rate_at(Forgetful(), 3)
        Traceback (most recent call last):
        framework.base.errors.SettingsError: Forgetful() must give a rate of 0 or more; got None at step 3
    """
    value: Any = schedule(step)
    rate: Any = value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value
    real = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not real or not 0 <= rate <= sys.float_info.max:
        raise SettingsError(f"{schedule!r} must give a rate of 0 or more; got {brief(value)} at step {step}")
    return float(rate)


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
    """rate(step) = initial * decay^(number of milestones up to step): steps of any length. PyTorch's MultiStepLR.

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
            raise SettingsError(f"must rise, e.g. (100, 200); got {self.milestones}", name="setting 'milestones'")

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
        length: Steps from the first rate to the final one; None takes those of the ``fit``.
        final: The rate after ``length`` steps and from then on.
        power: 1 is a straight line.

    Example:
        >>> [PolynomialSchedule(initial=1.0, length=4, power=2.0)(step) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    initial: Positive
    length: Count | None = None
    final: NonNegative = 0.0
    power: Positive = 1.0

    def __call__(self, step: int) -> float:
        length = _require_length(self, self.length)
        left = 1 - min(step, length) / length
        return self.final + (self.initial - self.final) * math.pow(left, self.power)


class CosineSchedule(Schedule):
    """rate(step) = final + (initial - final) (1 + cos(pi step / length)) / 2, then final.

    PyTorch's CosineAnnealingLR up to ``length``; after it PyTorch's rate rises again.

    Attributes:
        initial: The first rate.
        length: Steps from the first rate to the final one; None takes those of the ``fit``.
        final: The rate after ``length`` steps and from then on.

    Example:
        >>> [round(CosineSchedule(initial=1.0, length=3)(step), 9) for step in range(5)]
        [1.0, 0.75, 0.25, 0.0, 0.0]

    Source:
        Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017), equation 5.
    """

    initial: Positive
    length: Count | None = None
    final: NonNegative = 0.0

    def __call__(self, step: int) -> float:
        return cosine(self.initial, self.final, min(step / _require_length(self, self.length), 1.0))


class WarmupSchedule(Schedule):
    """A straight rise to the first rate of another schedule, which then begins.

        rate(step) = schedule(0) * (step + 1) / (length + 1)    while step < length
        rate(step) = schedule(step - length)                    after

    The first step is not wasted on a rate of 0. In PyTorch: SequentialLR of LinearLR(start_factor=1/(length + 1),
    total_iters=length) and the other, with milestones=[length].

    Attributes:
        schedule: The schedule after the warm-up. Without a length it takes the rest of the ``fit``.
        length: Steps of warm-up.

    Example:
        >>> from framework.formulas import ExponentialSchedule
        >>> warmup = WarmupSchedule(schedule=ExponentialSchedule(initial=1.0, decay=0.5), length=3)
        >>> [warmup(step) for step in range(6)]
        [0.25, 0.5, 0.75, 1.0, 0.5, 0.25]

    Source:
        Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour (2017), section 2.2.
    """

    schedule: Schedule
    length: Count

    def over(self, steps: int) -> Schedule:
        """Return the warm-up with the rest of ``steps`` for a schedule without a length.

        Raises:
            SettingsError: The warm-up leaves no rest.
        """
        if self.open and steps <= self.length:
            raise SettingsError(
                f"must be less than the {steps} updates of the fit, of which the schedule within takes the rest; got "
                f"{self.length}",
                name="WarmupSchedule: setting 'length'",
            )
        return super().over(steps - self.length)

    def __call__(self, step: int) -> float:
        if step < self.length:
            return rate_at(self.schedule, 0) * (step + 1) / (self.length + 1)
        return rate_at(self.schedule, step - self.length)


class OneCycleSchedule(Schedule):
    """One rise from maximum / division to maximum, and one longer fall to maximum / division / final_division.

    Each is half a cosine, or a straight line. PyTorch's OneCycleLR, except that momentum is left alone, and after
    ``length`` steps, where PyTorch overshoots once and then fails, the rate stays. As there, the top is at
    step rise * length - 1, which may lie between two steps, and the lowest rate belongs to step length - 1, the last.

    Attributes:
        maximum: The rate at the top.
        length: Steps of the whole cycle; None takes those of the ``fit``.
        rise: The part of the steps in which the rate rises.
        division: The maximum over the first rate.
        final_division: The first rate over the last.
        shape: ``"cosine"`` or ``"linear"``.

    Raises:
        SettingsError: The cycle is so short that it cannot rise.

    Example:
        >>> cycle = OneCycleSchedule(
        ...     maximum=1.0, length=9, rise=4 / 9, division=4.0, final_division=2.0, shape="linear"
        ... )
        >>> [round(cycle(step), 9) for step in range(10)]
        [0.25, 0.5, 0.75, 1.0, 0.825, 0.65, 0.475, 0.3, 0.125, 0.125]

    Source:
        Smith and Topin, Super-convergence: very fast training of neural networks using large learning rates (2018).
    """

    maximum: Positive
    length: Count | None = None
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    division: Annotated[float, Field(ge=1)] = 25.0
    final_division: Annotated[float, Field(ge=1)] = 1e4
    shape: Literal["cosine", "linear"] = "cosine"

    def model_post_init(self, context: object) -> None:
        if self.length is not None and self.rise * self.length <= 1:
            problem = f"must be more than 1 / rise = {1 / self.rise:g}, so that the rate can rise; got {self.length}"
            raise SettingsError(problem, name="setting 'length'")

    def __call__(self, step: int) -> float:
        first = self.maximum / self.division
        length = _require_length(self, self.length)
        top, end = self.rise * length - 1, length - 1
        way = cosine if self.shape == "cosine" else lambda start, end, fraction: start + (end - start) * fraction
        if step <= top:
            return way(first, self.maximum, step / top)
        return way(self.maximum, first / self.final_division, (min(step, end) - top) / (end - top))


class CosineRestartsSchedule(Schedule):
    """CosineSchedule again and again, each time ``growth`` times as long. PyTorch's CosineAnnealingWarmRestarts.

    Attributes:
        initial: The rate at the start and after each restart.
        length: Steps until the first restart.
        growth: How many times as long each period is as the one before.
        final: The rate that each period falls to; the restart comes just before it is reached.

    Example:
        >>> restarts = CosineRestartsSchedule(initial=1.0, length=2, growth=2)
        >>> [round(restarts(step), 3) for step in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]

    Source:
        Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017), equation 5.
    """

    initial: Positive
    length: Count
    growth: Count = 1
    final: NonNegative = 0.0

    def __call__(self, step: int) -> float:
        length = self.length
        if self.growth == 1:
            step %= length
        while step >= length:
            step -= length
            length *= self.growth
        return cosine(self.initial, self.final, step / length)


def cosine(start: float, end: float, fraction: float) -> float:
    """Return the rate after a part, in 0..1, of half a cosine's way from start to end.

    Example:
        >>> cosine(1.0, 0.0, 0.5)
        0.5
    """
    return end + (start - end) * (0.5 * (1 + math.cos(math.pi * fraction)))


def _require_length(schedule: Schedule, length: int | None) -> int:
    """Return the length of a schedule.

    Raises:
        SettingsError: It has none, outside of a fit.
    """
    if length is None:
        raise SettingsError(
            f"{schedule!r} has no length here: a fit gives it one, and a loop by hand needs "
            f"{type(schedule).__name__}(..., length=1000)"
        )
    return length


def _power(base: float, exponent: int) -> float:
    """Return base^exponent, infinity where it overflows, which the optimizer refuses with the schedule's name."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf
