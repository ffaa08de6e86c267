"""Losses: how wrong a prediction is, as one number to descend, and the slope of that number."""

from framework.losses.base import Loss, RowLoss
from framework.losses.elementwise import BinaryCrossEntropy, HalfSquaredError, MeanSquaredError
from framework.losses.rows import CrossEntropy

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "HalfSquaredError", "Loss", "MeanSquaredError", "RowLoss"]
