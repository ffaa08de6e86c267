"""Schedules: a learning rate as a pure function of the number of updates made so far."""

from __future__ import annotations

import numbers
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from framework.errors import SettingsError
from framework.settings.component import Component, PlainFunction, require_function
from framework.settings.messages import brief


class Schedule(Component):
    """A learning rate that changes: write ``__call__(step)``, where step counts the updates already made, from 0.

    A schedule has its own length, in steps, and ignores the trainer's, so a resumed run continues with the same rates.

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
        framework.errors.SettingsError: Forgetful() must give a rate of 0 or more; got None at step 3
    """
    given: Any = schedule(step)
    rate: Any = given.item() if isinstance(given, np.ndarray | np.generic) and given.ndim == 0 else given
    real = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not real or not 0 <= rate <= sys.float_info.max:
        raise SettingsError(f"{schedule!r} must give a rate of 0 or more; got {brief(given)} at step {step}")
    return float(rate)
