"""Perplexity: the cross-entropy as a number of equally likely classes."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.losses.requirements import require_distributions, require_range
from framework.metrics.base import Metric
from framework.metrics.labels import require_labels, true_classes


class Perplexity(Metric):
    """exp of the mean cross-entropy, exp(-sum(w log p) / sum(w)), p being the probability given to the row's class.

    It is the number of equally likely classes that would leave as much doubt: 1 is certain and right, the number of
    classes is a blind guess. Targets may also be rows of probabilities. A p of 0 gives infinity.

    Example:
        >>> round(Perplexity()([[0.25, 0.75], [0.5, 0.5]], [1, 0]), 3)
        1.633

    Source:
        Jelinek et al., Perplexity: a measure of the difficulty of speech recognition tasks (1977).
    """

    better = "smaller"
    require_targets = require_labels

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        labels = true_classes(self, target, prediction)
        require_range("prediction", prediction, 0.0, 1.0, "Perplexity needs probabilities, as Softmax gives them")
        if target.shape == prediction.shape:
            require_distributions("target", target)
        with np.errstate(divide="ignore"):
            if target.shape == prediction.shape:
                logs = np.log(prediction, where=target > 0, out=np.zeros(prediction.shape))
                each = -np.sum(target * logs, axis=1)
            else:
                each = -np.log(np.take_along_axis(prediction, labels[:, None], axis=1)[:, 0], dtype=np.float64)
        if weight is None:
            return float(each.sum()), float(len(each))
        counted = weight > 0  # 0 times an infinite loss would be no number
        return float(weight[counted] @ each[counted]), float(np.sum(weight, dtype=np.float64))

    def result(self, *sums: float) -> float:
        total, count = sums
        with np.errstate(over="ignore"):
            return float(np.exp(total / count))
