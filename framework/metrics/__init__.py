"""Metrics: figures for people, beside the loss that training minimizes."""

from framework.metrics.base import Metric, WholeMetric
from framework.metrics.classification import F1, ROCAUC, Accuracy, ConfusionMatrix, Precision, Recall, TopK
from framework.metrics.perplexity import Perplexity
from framework.metrics.regression import R2, RootMeanSquaredError

__all__ = [
    "F1",
    "R2",
    "ROCAUC",
    "Accuracy",
    "ConfusionMatrix",
    "Metric",
    "Perplexity",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "TopK",
    "WholeMetric",
]
