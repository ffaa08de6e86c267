"""Schedules: a learning rate as a pure function of the number of updates made so far."""

from __future__ import annotations

from abc import abstractmethod

from framework.component import Component


class Schedule(Component):
    """A learning rate that changes: write ``__call__(step)``, where step counts the updates already made, from 0.

    A schedule carries its own length, in steps, and never sees the trainer's, so training on gives the same rates.

    Example:
        >>> class Halving(Schedule):
        ...     def __call__(self, step):
        ...         return 0.1 * 0.5 ** (step // 100)
        >>> Halving()(0), Halving()(250)
        (0.1, 0.025)
    """

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the rate of the update after ``step`` updates; it may reach 0 but not fall below."""
