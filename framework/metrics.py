"""Metrics: figures for people. Each is a sum until the last moment, so batches and workers add up exactly.

A loss serves as a metric too: ``metrics=[MeanSquaredError()]``.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from typing import Any

import numpy as np

from framework.arrays import Array, real_array
from framework.component import Component
from framework.errors import DataError, ShapeError
from framework.losses.base import Loss


class Metric(Component):
    """A figure for people: write ``sums`` for some rows, and ``result`` from the sums over all rows.

    Example:
        >>> class MeanAbsoluteError(Metric):
        ...     def sums(self, prediction, target, weight=None):
        ...         return np.abs(prediction - target).sum(), prediction.size
        ...
        ...     def result(self, total, count):
        ...         return total / count
        >>> MeanAbsoluteError()(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
        1.5
    """

    @property
    def key(self) -> str:
        """The name in a history: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @abstractmethod
    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return what adds up over rows, for outputs (rows, ...), targets and weights (rows,) or None."""

    @abstractmethod
    def result(self, *sums: float) -> float:
        """Return the figure from the sums over all rows."""

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> float:
        """Return the figure for these rows.

        Raises:
            ShapeError: There are not as many predictions as targets.
            DtypeError: A value is no real number.
            DataError: There are no rows, or no row has a weight.
        """
        prediction, target = np.atleast_1d(real_array(prediction, "prediction"), real_array(target, "target"))
        if prediction.shape[:1] != target.shape[:1]:
            raise ShapeError(f"target must have {len(prediction)} rows, as the prediction has; got {target.shape}")
        weight = None if weight is None else Loss.weights(weight, len(prediction), "weight", np.float64)
        if not (len(prediction) if weight is None else weight.any()):
            raise DataError(f"{type(self).__name__} needs a row of positive weight; got {len(prediction)} rows")
        return float(self.result(*self.sums(prediction, target, weight)))


class Accuracy(Metric):
    """The weighted fraction of rows whose predicted class is right.

    One output is a probability, class 1 from ``threshold`` on; several outputs are scored by the largest (the first of
    equals). Targets are classes, 0 and 1, or one-hot rows.

    Example:
        >>> Accuracy()([0.2, 0.7, 0.9], [0, 1, 0])
        0.666...
        >>> Accuracy()([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        0.5
    """

    threshold: float = 0.5

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return (sum of the weights of right rows, sum of weights)."""
        right = self.classes(prediction) == self._labels(target, prediction)
        if weight is None:
            return float(np.count_nonzero(right)), float(len(right))
        return float(np.sum(weight, where=right, dtype=np.float64)), float(np.sum(weight, dtype=np.float64))

    def result(self, *sums: float) -> float:
        """Return right / all."""
        right, count = sums
        return right / count

    def classes(self, prediction: Array) -> Array:
        """Return the predicted class of each row, (rows,).

        Example:
            >>> Accuracy().classes(np.array([0.2, 0.7]))
            array([0, 1])
        """
        if _is_single(prediction):
            return (prediction.reshape(-1) >= self.threshold).astype(np.intp)
        return np.asarray(np.argmax(prediction, axis=-1))

    def _labels(self, target: Array, prediction: Array) -> Array:
        if _is_single(prediction) or target.shape != prediction.shape:
            if target.size != len(prediction):
                raise ShapeError(
                    f"target must have one class a row, or the shape {prediction.shape}; got {target.shape}"
                )
            return target.reshape(-1)
        return np.asarray(np.argmax(target, axis=-1))


def _is_single(prediction: Array) -> bool:
    return prediction.ndim == 1 or prediction.shape[1:] == (1,)


class RootMeanSquaredError(Metric):
    """sqrt(sum(w (prediction - target)^2) / sum(w)) over all values, in the unit of the target.

    Example:
        >>> RootMeanSquaredError()([1.0, 7.0], [0.0, 0.0])
        5.0
    """

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return (sum of weighted squared errors, sum of weights over all values)."""
        if prediction.size != target.size:
            raise ShapeError(f"target must have the shape of the prediction, {prediction.shape}; got {target.shape}")
        errors = np.square(prediction - target.reshape(prediction.shape), dtype=np.float64)
        if weight is None:
            return float(errors.sum()), float(errors.size)
        columns = errors.size // max(1, len(errors))
        return float(weight @ errors.reshape(len(errors), -1).sum(axis=1)), float(weight.sum()) * columns

    def result(self, *sums: float) -> float:
        """Return sqrt(total / count)."""
        total, count = sums
        return math.sqrt(total / count)
