"""Losses: how wrong a prediction is, as one number to descend, and the slope of that number."""

from framework.losses.base import Loss
from framework.losses.rows import RowLoss

__all__ = ["Loss", "RowLoss"]
