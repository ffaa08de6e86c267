"""Losses with a value for each element."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.activations import Sigmoid
from framework.arrays import Array
from framework.losses.base import Loss
from framework.losses.requirements import require_output_range, require_range


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
    """l = -(t log p + (1 - t) log(1 - p)) for a probability p and a target t in [0, 1]. The mean over all values.

    Canonical with Sigmoid: then dL/dh = p - t, and l = max(h, 0) - t h + log(1 + exp(-|h|)), which never overflows.
    Give the model a Sigmoid output; the loss works on the logits h by itself.

    Example:
        >>> round(BinaryCrossEntropy()([0.9, 0.2], [1.0, 0.0]), 6)
        0.164252

    Source:
        Bishop, Pattern recognition and machine learning (2006), equation 4.90.
    """

    canonical = Sigmoid

    def value(self, prediction: Any, target: Any) -> Any:
        """Return -(t log p + (1 - t) log(1 - p)), with 0 log 0 = 0."""
        return -(_times_log(target, prediction) + _times_log(1.0 - target, 1.0 - prediction))

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return (1 - t) / (1 - p) - t / p, with 0 / 0 = 0."""
        return _ratio(1.0 - target, 1.0 - prediction) - _ratio(target, prediction)

    def value_from_preactivation(self, h: Any, target: Any) -> Any:
        """Return max(h, 0) - t h + log(1 + exp(-|h|))."""
        return np.maximum(h, 0.0) - target * h + np.log1p(np.exp(-np.abs(h)))

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets outside [0, 1]."""
        require_range(name, target, 0.0, 1.0, "Binary labels are 0 and 1; for more classes use CrossEntropy")

    def require_output(self, activation: Any) -> None:
        """Refuse outputs that are no probabilities."""
        require_output_range(self, activation, 0.0, 1.0, "Use Sigmoid; the loss works on the logits by itself")


def _times_log(x: Any, y: Any) -> Any:
    """Return x log y, 0 where x is 0."""
    return x * np.log(np.where(x == 0.0, 1.0, y))


def _ratio(x: Any, y: Any) -> Any:
    """Return x / y, 0 where x is 0."""
    return x / np.where(x == 0.0, 1.0, y)
