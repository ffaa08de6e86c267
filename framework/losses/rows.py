"""Losses with one value a row."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from framework.activations import Activation, Softmax
from framework.arrays import Array, Record
from framework.errors import DataError, SettingsError, ShapeError
from framework.losses.base import Loss
from framework.losses.elementwise import _ratio, _times_log
from framework.losses.requirements import require_classes, require_output_range, require_range


class RowLoss(Loss):
    """A loss with one value a row: write ``value(prediction, target)`` -> (rows,), and its slope is derived.

    Targets reach the formulas as (rows, classes). The base class turns integer classes (rows,) into that form.

    Example:
        >>> from framework import CrossEntropy
        >>> CrossEntropy()([[0.25, 0.75]], [1]) == CrossEntropy()([[0.25, 0.75]], [[0.0, 1.0]])
        True
    """

    by_row: ClassVar[bool] = True

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets (rows, classes) or integer classes (rows,).

        Raises:
            ShapeError: The shape is neither.
            DataError: A class is no integer in 0..classes-1, or a row is no distribution.
        """
        if len(shape) != 2:
            raise ShapeError(f"{type(self).__name__} needs outputs (rows, classes); got {shape}")
        if array.shape == shape:
            self.require_target(array, name)
            return array
        if array.shape not in ((shape[0],), (shape[0], 1)):
            raise ShapeError(
                f"{name} must be classes ({shape[0]},) or have the output's shape, {shape}; got {array.shape}"
            )
        return require_classes(array.reshape(-1), shape[1], name)

    def expand(self, array: Array, shape: tuple[int, ...], record: Record | None) -> Array:
        """Return checked targets as (rows, classes)."""
        if array.shape == shape:
            return array if record is None else array.astype(record.dtype, copy=False)
        if record is None:
            return one_hot(array, np.zeros(shape), np.empty(len(array), np.intp))
        return one_hot(array, record.array("one_hot", shape), record.array("flat", (len(array),), np.intp))


def one_hot(classes: Array, out: Array, flat: Array) -> Array:
    """Fill ``out`` (rows, classes) with 1 at each row's class; ``flat`` is memory for (rows,) places."""
    flat.fill(out.shape[1])
    flat[:1] = 0
    np.cumsum(flat, out=flat)  # where each row starts
    np.add(flat, classes, out=flat, casting="unsafe")
    out.fill(0.0)
    np.put(out, flat, 1.0)
    return out


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
