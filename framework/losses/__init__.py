"""Losses: how wrong a prediction is, as one number to descend, and the slope of that number."""

from framework.losses.base import Loss
from framework.losses.classification import BinaryCrossEntropy, CrossEntropy, Focal, Hinge, SquaredHinge
from framework.losses.regression import (
    Cauchy,
    HalfSquaredError,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from framework.losses.rows import RowLoss
from framework.losses.vectors import CosineSimilarity, KLDivergence

__all__ = [
    "BinaryCrossEntropy",
    "Cauchy",
    "CosineSimilarity",
    "CrossEntropy",
    "Focal",
    "HalfSquaredError",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "Quantile",
    "RowLoss",
    "SquaredHinge",
]
