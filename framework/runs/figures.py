"""Figures: the loss and the metrics of a training, as sums over batches until the last moment."""

from __future__ import annotations

from operator import add

import numpy as np

from framework.activations import Activation
from framework.arrays import Array, Batch
from framework.data.pieces import joined, read_only
from framework.data.sources import Source, batches
from framework.losses import Loss
from framework.metrics import Metric, WholeMetric
from framework.metrics.base import one_number
from framework.models import Model
from framework.models.rows import EVALUATION_ROWS

Sums = dict[str, tuple[float, ...]]
"""The sums of some rows, by the name of the figure that is made of them."""


class Figures:
    """The loss and the metrics that a history has.

    Attributes:
        loss: The loss; its column is ``loss``.
        summed: The metrics that add up over batches.
        whole: The metrics that need all rows at once.
    """

    def __init__(self, loss: Loss, metrics: tuple[Metric | Loss, ...]) -> None:
        """Hold a loss and its metrics."""
        self.loss = loss
        self.summed = tuple(metric for metric in metrics if not isinstance(metric, WholeMetric))
        self.whole = tuple(metric for metric in metrics if isinstance(metric, WholeMetric))

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The loss, then the metrics that are losses too."""
        return (self.loss, *(metric for metric in self.summed if isinstance(metric, Loss)))

    @property
    def keys(self) -> list[str]:
        """The columns that can be computed batch by batch."""
        return ["loss", *(metric.key for metric in self.summed)]

    def metric_sums(
        self, activation: Activation | None, h: Array | None, a: Array, y: Array, weight: Array | None
    ) -> Sums:
        """Return the sums of every metric over a batch. A metric cannot change the arrays that it is given."""
        if not self.summed:
            return {}
        a, y = read_only(a), read_only(y)
        return {
            metric.key: metric.output_sums(activation, h, a, y, weight)
            if isinstance(metric, Loss)
            else metric.checked_sums(a, y, weight)
            for metric in self.summed
        }

    def results(self, sums: Sums) -> dict[str, float]:
        """Return the loss and every metric from their sums."""
        figures: dict[str, Loss | Metric] = {"loss": self.loss, **{metric.key: metric for metric in self.summed}}
        return {key: one_number(figure, figure.result(*sums.get(key, (0.0, 0.0)))) for key, figure in figures.items()}

    def evaluated(self, model: Model, source: Source) -> dict[str, float]:
        """Return every figure of a model over a source of data."""
        totals: Sums = {}
        kept: list[Batch] = []
        activation = model.output_activation
        for x, y, weight in batches(source, EVALUATION_ROWS):
            with np.errstate(all="ignore"):
                h, a = model.output(x)
                loss = self.loss.output_sums(activation, h, a, y, weight)
                add_sums(totals, {"loss": loss} | self.metric_sums(activation, h, a, y, weight))
            if self.whole:
                kept.append((a, y.copy(), None if weight is None else weight.copy()))
        rows = joined(kept) if kept else ()
        return self.results(totals) | {
            metric.key: one_number(metric, metric.whole_result(*rows)) for metric in self.whole
        }


def add_sums(totals: Sums, sums: Sums) -> None:
    """Add the sums of some rows to the totals, in place.

    Example:
        >>> totals = {"loss": (1.0, 2.0)}
        >>> add_sums(totals, {"loss": (0.5, 1.0)})
        >>> totals
        {'loss': (1.5, 3.0)}
    """
    for name, values in sums.items():
        before = totals.get(name)
        totals[name] = values if before is None else tuple(map(add, before, values))
