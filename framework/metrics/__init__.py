"""Metrics: figures for people, beside the loss that training minimizes."""

from framework.metrics.base import Metric, WholeMetric

__all__ = ["Metric", "WholeMetric"]
