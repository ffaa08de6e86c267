"""Losses: how wrong a prediction is, as one number to descend, and the slope of that number."""

from framework.losses.base import Loss
from framework.losses.elementwise import BinaryCrossEntropy, HalfSquaredError, MeanSquaredError
from framework.losses.rows import CrossEntropy, RowLoss

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "HalfSquaredError", "Loss", "MeanSquaredError", "RowLoss"]
