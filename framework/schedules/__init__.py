"""Schedules: a learning rate as a pure function of the number of updates made so far."""

from framework.schedules.base import Schedule

__all__ = ["Schedule"]
