"""Losses with one value a row."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from framework.activations import Softmax
from framework.arrays import Array, Record
from framework.component import Fraction, Positive
from framework.errors import SettingsError, ShapeError
from framework.losses.base import Loss
from framework.losses.requirements import require_classes, require_distribution_output, require_distributions
from framework.losses.terms import ratio, smoothed, times_log


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
    """l = -sum_k c_k t_k log p_k for the probabilities p of a row, or -c_y log p_y for a class y. The mean over rows.

    Canonical with Softmax: then l = log sum_k exp(h_k) - sum_k t_k h_k, which never overflows, and dL/dh = p - t (with
    no class weights). Give the model a Softmax output; the loss works on the logits h by itself.

    Attributes:
        label_smoothing: s gives each of the K classes s/K of every row's target, and 1 - s to the target itself.
        class_weights: c, one positive weight a class, or None. The mean is over the number of rows, as in Keras;
            PyTorch divides by the sum of the weights, as the sample weights ``weight = c[y]`` do.

    Example:
        >>> round(CrossEntropy()([[0.1, 0.9], [0.5, 0.5]], [1, 0]), 6)
        0.399254

    Source:
        Bishop, Pattern recognition and machine learning (2006), equation 4.108.
    """

    label_smoothing: Fraction = 0.0
    class_weights: tuple[Positive, ...] | None = None

    canonical = Softmax

    def value(self, prediction: Any, target: Any) -> Any:
        """Return -sum(c t log p) for each row, with 0 log 0 = 0."""
        return -np.sum(times_log(self._weighted(target), prediction), axis=-1)

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return -c t / p, with 0 / 0 = 0."""
        return -ratio(self._weighted(target), prediction)

    def value_from_preactivation(self, h: Any, target: Any) -> Any:
        """Return log sum exp(h) sum(c t) - sum(c t h) for each row, the row's maximum subtracted first."""
        t = self._weighted(target)
        shifted = h - np.max(h, axis=-1, keepdims=True)
        log_sum = np.log(np.sum(np.exp(shifted), axis=-1))
        if self.class_weights is not None:
            log_sum = log_sum * np.sum(t, axis=-1)
        return log_sum - np.sum(t * shifted, axis=-1)

    def fused_slope(self, a: Any, target: Any) -> Any:
        """Return p - t, or p sum(c t) - c t."""
        t = self._weighted(target)
        return a - t if self.class_weights is None else a * np.sum(t, axis=-1, keepdims=True) - t

    def _weighted(self, target: Any) -> Any:
        """Return c t, with the smoothing that is asked for."""
        t = target if self.label_smoothing == 0.0 else smoothed(target, self.label_smoothing, target.shape[-1])
        return t if self.class_weights is None else t * np.asarray(self.class_weights, t.dtype)

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets as RowLoss does, and refuse class weights of another number.

        Raises:
            SettingsError: There is not one class weight a class.
        """
        if self.class_weights is not None and len(self.class_weights) != shape[-1]:
            raise SettingsError(
                f"CrossEntropy: setting 'class_weights' must have one weight for each of the {shape[-1]} classes; "
                f"got {len(self.class_weights)}"
            )
        return super().require_targets(array, shape, name)

    def require_target(self, target: Array, name: str) -> None:
        """Refuse rows that are no distribution over the classes."""
        require_distributions(name, target)

    def require_output(self, activation: Any) -> None:
        """Refuse outputs that are no distribution over the classes."""
        require_distribution_output(self, activation)
