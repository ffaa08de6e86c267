"""Losses: how wrong a prediction is, as one number to descend, and the slope of that number."""

from framework.formulas.losses.base import Loss
from framework.formulas.losses.rows import RowLoss

__all__ = ["Loss", "RowLoss"]
