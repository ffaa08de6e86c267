"""Losses with one value a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.activations import Activation, Softmax
from framework.arrays import Array
from framework.errors import DataError, SettingsError
from framework.losses.base import RowLoss, require_output_range, require_range
from framework.losses.elementwise import _ratio, _times_log


class CrossEntropy(RowLoss):
    """l = -sum_k t_k log p_k for the probabilities p of a row, or -log p_y for an integer class y. The mean over rows.

    Canonical with Softmax: then dL/dh = p - t, and l = log sum_k exp(h_k) - sum_k t_k h_k, which never overflows.
    Give the model a Softmax output; the loss works on the logits h by itself.

    Example:
        >>> round(CrossEntropy()([[0.1, 0.9], [0.5, 0.5]], [1, 0]), 6)
        0.399254

    Source:
        Bishop, Pattern recognition and machine learning (2006), equation 4.108.
    """

    canonical = Softmax

    def value(self, prediction: Any, target: Any) -> Any:
        """Return -sum(t log p) for each row, with 0 log 0 = 0."""
        return -np.sum(_times_log(target, prediction), axis=-1)

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return -t / p, with 0 / 0 = 0."""
        return -_ratio(target, prediction)

    def value_from_preactivation(self, h: Any, target: Any) -> Any:
        """Return log sum exp(h) - sum(t h) for each row, the row's maximum subtracted first."""
        shifted = h - np.max(h, axis=-1, keepdims=True)
        return np.log(np.sum(np.exp(shifted), axis=-1)) - np.sum(target * shifted, axis=-1)

    def require_target(self, target: Array, name: str) -> None:
        """Refuse rows that are no distribution over the classes."""
        require_range(name, target, 0.0, 1.0, "Give integer classes (rows,), or one distribution a row")
        bad = np.abs(target.sum(axis=-1) - 1.0) > 1e-4
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"{name} must have rows that sum to 1; row {row} sums to {target[row].sum():g}")

    def require_output(self, activation: Any) -> None:
        """Refuse outputs that are no distribution over the classes."""
        advice = "Use Softmax; the loss works on the logits by itself"
        require_output_range(self, activation, 0.0, 1.0, advice)
        if isinstance(activation, Activation) and activation.output_range is not None:
            raise SettingsError(f"CrossEntropy needs rows that sum to 1; {activation!r} does not give them. {advice}")
