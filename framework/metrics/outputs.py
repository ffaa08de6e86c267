"""OutputMetric: a metric of one output of a model that has several."""

from __future__ import annotations

from typing import Any

from framework.arrays import Array
from framework.losses import Loss
from framework.losses.several import about
from framework.metrics.base import Metric


class OutputMetric(Metric):
    """A metric, or a loss as one, of the output ``output``: ``late_accuracy`` in a history.

    Args:
        output: The name of the output.
        metric: The metric or the loss.

    Example:
        >>> from framework import Accuracy
        >>> metric = OutputMetric("late", Accuracy())
        >>> metric.key, metric({"late": [0.2, 0.7], "price": [1.0, 2.0]}, {"late": [0, 0], "price": [1.0, 2.0]})
        ('late_accuracy', 0.5)
    """

    output: str
    metric: Metric | Loss

    def __init__(self, output: str, metric: Metric | Loss) -> None:
        super().__init__(output=output, metric=metric)

    @property
    def key(self) -> str:
        return f"{self.output}_{self.metric.key}"

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> float:
        with about(self.output):
            return self.metric(prediction[self.output], target[self.output], weight)

    def require_targets(self, target: Any, weight: Array | None, shape: Any) -> None:
        if isinstance(self.metric, Metric):
            with about(self.output):
                self.metric.require_targets(target[self.output], weight, shape[self.output])

    def sums(self, prediction: Any, target: Any, weight: Array | None = None) -> tuple[float, ...]:
        return self.metric.sums(prediction[self.output], target[self.output], weight)

    def result(self, *sums: Any, **_: Any) -> float:
        return self.metric.result(*sums)
