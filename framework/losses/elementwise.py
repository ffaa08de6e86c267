"""Losses with a value for each element."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.activations import Sigmoid
from framework.arrays import Array
from framework.component import Fraction, Positive
from framework.losses.base import Loss
from framework.losses.requirements import require_output_range, require_range
from framework.losses.terms import ratio, smoothed, times_log


class HalfSquaredError(Loss):
    """l = 1/2 (prediction - target)^2, slope = prediction - target. The mean over all values.

    The factor 1/2 is part of the loss: with it the slope is the plain error, and a step of descent on one sample is
    the textbook's w + eta * (y - y_hat) * f'(h) * x.

    Example:
        >>> HalfSquaredError()([1.0, 2.0], [0.0, 0.0])
        1.25

    Source:
        Widrow and Hoff, Adaptive switching circuits (1960).
    """

    def value(self, prediction: Any, target: Any) -> Any:
        """Return 1/2 (prediction - target)^2."""
        error = prediction - target
        return 0.5 * error * error

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return prediction - target."""
        return prediction - target


class MeanSquaredError(Loss):
    """l = (prediction - target)^2, slope = 2 (prediction - target). The mean over all values, as in PyTorch and Keras.

    Example:
        >>> MeanSquaredError()([1.0, 2.0], [0.0, 0.0])
        2.5

    Source:
        Gauss, Theoria motus (1809), article 179.
    """

    def value(self, prediction: Any, target: Any) -> Any:
        """Return (prediction - target)^2."""
        error = prediction - target
        return error * error

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return 2 (prediction - target)."""
        return 2.0 * (prediction - target)


class BinaryCrossEntropy(Loss):
    """l = -(w t log p + (1 - t) log(1 - p)) for a probability p and a target t in [0, 1]. The mean over all values.

    Canonical with Sigmoid: then l = max(h, 0) - t h + log(1 + exp(-|h|)), which never overflows, and dL/dh = p - t (for
    w = 1). Give the model a Sigmoid output; the loss works on the logits h by itself.

    Attributes:
        label_smoothing: s moves the targets from 0 and 1 to s/2 and 1 - s/2.
        positive_weight: w, how much a target of 1 counts against one of 0, for rare positives; PyTorch's pos_weight.
            The mean is over the number of values all the same.

    Example:
        >>> round(BinaryCrossEntropy()([0.9, 0.2], [1.0, 0.0]), 6)
        0.164252

    Source:
        Bishop, Pattern recognition and machine learning (2006), equation 4.90.
    """

    label_smoothing: Fraction = 0.0
    positive_weight: Positive = 1.0

    canonical = Sigmoid

    def value(self, prediction: Any, target: Any) -> Any:
        """Return -(w t log p + (1 - t) log(1 - p)), with 0 log 0 = 0."""
        t = smoothed(target, self.label_smoothing, 2)
        return -(self.positive_weight * times_log(t, prediction) + times_log(1.0 - t, 1.0 - prediction))

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return (1 - t) / (1 - p) - w t / p, with 0 / 0 = 0."""
        t = smoothed(target, self.label_smoothing, 2)
        return ratio(1.0 - t, 1.0 - prediction) - self.positive_weight * ratio(t, prediction)

    def value_from_preactivation(self, h: Any, target: Any) -> Any:
        """Return (1 - t) h + (1 + (w - 1) t) log(1 + exp(-h)), as max(h, 0) - t h + log(1 + exp(-|h|)) for w = 1."""
        t = smoothed(target, self.label_smoothing, 2)
        tail = np.log1p(np.exp(-np.abs(h)))
        if self.positive_weight == 1.0:
            return np.maximum(h, 0.0) - t * h + tail
        return (1.0 - t) * h + (1.0 + (self.positive_weight - 1.0) * t) * (np.maximum(-h, 0.0) + tail)

    def fused_slope(self, a: Any, target: Any) -> Any:
        """Return p - t, or p (1 + (w - 1) t) - w t."""
        t, w = smoothed(target, self.label_smoothing, 2), self.positive_weight
        return a - t if w == 1.0 else a * (1.0 + (w - 1.0) * t) - w * t

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets outside [0, 1]."""
        require_range(name, target, 0.0, 1.0, "Binary labels are 0 and 1; for more classes use CrossEntropy")

    def require_output(self, activation: Any) -> None:
        """Refuse outputs that are no probabilities."""
        require_output_range(self, activation, 0.0, 1.0, "Use Sigmoid; the loss works on the logits by itself")
