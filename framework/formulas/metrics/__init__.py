"""Metrics: figures for people, in addition to the loss that training minimizes."""

from framework.formulas.metrics.base import Metric, WholeMetric

__all__ = ["Metric", "WholeMetric"]
