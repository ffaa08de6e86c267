"""Schedules: a learning rate as a pure function of the number of updates made so far."""

from framework.schedules.base import Schedule
from framework.schedules.cycles import CosineRestartsSchedule, OneCycleSchedule, WarmupSchedule
from framework.schedules.decay import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    MultiStepSchedule,
    PolynomialSchedule,
    StepSchedule,
)

__all__ = [
    "ConstantSchedule",
    "CosineRestartsSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "InverseTimeSchedule",
    "MultiStepSchedule",
    "OneCycleSchedule",
    "PolynomialSchedule",
    "Schedule",
    "StepSchedule",
    "WarmupSchedule",
]
