"""Metrics of numbers: how far the predictions are off. The mean absolute error is a loss: MeanAbsoluteError."""

from __future__ import annotations

import math

import numpy as np

from framework.arrays import Array
from framework.errors import DataError, ShapeError
from framework.losses.regression import MeanSquaredError
from framework.metrics.base import Metric


class RootMeanSquaredError(Metric):
    """sqrt(sum(w (prediction - target)^2) / sum(w)) over all values, in the unit of the target.

    Example:
        >>> RootMeanSquaredError()([1.0, 7.0], [0.0, 0.0])
        5.0
    """

    better = "smaller"

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        exact = prediction.astype(np.float64, copy=False)
        return MeanSquaredError().output_sums(None, None, exact, _like(target, prediction), weight)

    def result(self, *sums: float) -> float:
        total, count = sums
        return math.sqrt(total / count)


class R2(Metric):
    """1 - sum(w (target - prediction)^2) / sum(w (target - mean)^2), the part of the variance that is explained.

    1 is perfect, 0 is as good as the targets' weighted mean, and it may be negative. Of several outputs it is the
    plain mean of each one's figure. The spread is found from sums of targets and of their squares, which loses digits
    when the targets' mean is large against their spread: then give ``center``, any number near the mean.

    Attributes:
        center: A number that is subtracted from every target before it is squared.

    Raises:
        DataError: The targets of some output are constant, or spread less than 1e-5 of their distance to ``center``.

    Example:
        >>> R2()([1.0, 2.0, 2.0], [1.0, 2.0, 3.0])
        0.5
    """

    better = "greater"

    center: float = 0.0

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return the sum of weights, then for each output the sums of squared errors, targets, squared targets."""
        rows = len(prediction)
        target = _like(target, prediction).astype(np.float64).reshape(rows, -1)
        prediction = prediction.astype(np.float64).reshape(rows, -1)
        weight = np.ones(rows) if weight is None else weight.astype(np.float64)
        distance = target - self.center
        columns = (weight @ np.square(target - prediction), weight @ distance, weight @ np.square(distance))
        return (float(weight.sum()), *np.concatenate(columns).tolist())

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        self.result(*self.sums(np.zeros(shape), target, weight))

    def result(self, *sums: float) -> float:
        count = sums[0]
        errors, distances, squares = np.reshape(sums[1:], (3, -1))
        spread = squares - distances**2 / count
        if np.any(spread <= 1e-10 * squares):
            output = int(np.argmax(spread <= 1e-10 * squares))
            mean = distances[output] / count + self.center
            raise DataError(
                f"R2 needs targets that differ; those of output {output} are constant, or spread very little about "
                f"their mean, {mean:g}: then write R2(center={mean:g})"
            )
        return float(np.mean(1.0 - errors / spread))


def _like(target: Array, prediction: Array) -> Array:
    """Return the target in the prediction's shape; (rows,) and (rows, 1) are the same."""
    single = {prediction.shape[1:], target.shape[1:]} <= {(), (1,)}
    if prediction.shape[:1] != target.shape[:1] or not (single or prediction.shape == target.shape):
        raise ShapeError(f"target must have the shape of the prediction, {prediction.shape}; got {target.shape}")
    return target.reshape(prediction.shape)
