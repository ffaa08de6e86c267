"""Losses with one value per row, such as those that compare a row with a distribution or a direction."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from framework.backends.programs import Program, program_of, trial_width
from framework.base.arrays import Array
from framework.base.errors import DataError, SettingsError, ShapeError
from framework.formulas.activations.base import Activation
from framework.formulas.activations.basic import Softmax, times_log
from framework.formulas.losses.base import (
    Loss,
    _FunctionLoss,
    require_classes,
    require_distributions,
    require_output_range,
    require_range,
)


class RowLoss(Loss):
    """A loss with one value per row: write ``value(prediction, target)`` -> (rows,), and its slope is derived.

    Targets reach the formulas as (rows, classes). The base class turns integer classes (rows,) into one-hot rows.

    Example:
        >>> from framework import CrossEntropy
        >>> CrossEntropy()([[0.25, 0.75]], [1]) == CrossEntropy()([[0.25, 0.75]], [[0.0, 1.0]])
        True
    """

    by_row: ClassVar[bool] = True

    def program(self, like: Any = None) -> Program:
        """Return the traced ``value``, for the dtype and the classes of ``like``."""
        example = np.empty((1, trial_width(self))) if like is None else like
        return program_of(self, "value", ("prediction", "target"), example, rows=True)

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets (rows, classes) or integer classes (rows,).

        Raises:
            ShapeError: The shape is neither.
            DataError: A class is not an integer in 0..classes-1, or a row is not a distribution.
        """
        if len(shape) != 2:
            more = "put Flatten() before the last layer, or write returns='last' in the last recurrent layer"
            advice = more if len(shape) > 2 else "give the last layer a unit for each class"
            raise ShapeError(f"{type(self).__name__} needs outputs (rows, classes); got {shape}; {advice}")
        if array.shape == shape:
            self.require_target(array, name)
            return array
        if array.shape not in ((shape[0],), (shape[0], 1)):
            raise ShapeError(
                f"must be classes ({shape[0]},) or have the output's shape, {shape}; got {array.shape}", name=name
            )
        try:
            return require_classes(array.reshape(-1), shape[1], name)
        except DataError as error:
            if type(self).require_target is Loss.require_target:
                advice = (
                    f"targets that are not classes have the output's shape, as np.column_stack([y] * {shape[1]}) has"
                )
                error.advise(advice)
            raise

    def expand(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Return checked targets as (rows, classes)."""
        return array if array.shape == shape else (array[:, None] == np.arange(shape[1])).astype(float)


class DistributionLoss(RowLoss):
    """A loss of the probabilities that a row gives to classes; the target is a distribution."""

    suited = Softmax
    sums_to_one = True

    def require_target(self, target: Array, name: str) -> None:
        require_distributions(name, target)

    def require_prediction(self, prediction: Array) -> None:
        require_range("prediction", prediction, 0.0, 1.0, "Give probabilities, as Softmax gives them")

    def require_output(self, activation: Any) -> None:
        advice = (
            "Use Softmax; the loss works on the logits by itself. For one output use BinaryCrossEntropy and Sigmoid"
        )
        require_output_range(self, activation, 0.0, 1.0, advice)
        unsuited = isinstance(activation, Activation) and type(activation) is not self.suited
        if unsuited and activation.output_range is not None and not activation.coupled:
            raise SettingsError(
                f"{type(self).__name__} needs rows that sum to 1; {activation!r} does not give them. {advice}"
            )


class KLDivergence(DistributionLoss):
    """l = sum_k t_k log(t_k / p_k): how far the probabilities p of a row are from the target distribution t.

    The mean over rows, as PyTorch's KLDivLoss(reduction="batchmean"). It is the cross-entropy less the entropy of t,
    which no prediction changes: so the slope, -t / p, is the same, and 0 is reached where p = t. After Softmax,
    dL/dh = p - t, and the value is computed from the logits h, which never overflows.

    Example:
        >>> round(KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]), 6), KLDivergence()([[0.5, 0.5]], [[0.5, 0.5]])
        (0.130812, 0.0)

    Source:
        Kullback and Leibler, On information and sufficiency (1951).
    """

    def value(self, prediction: Any, target: Any) -> Any:
        return np.sum(times_log(target, target) - times_log(target, prediction), axis=-1)


class CosineSimilarity(RowLoss):
    """l = 1 - cos(p, t) = 1 - sum_k p_k t_k / (|p| |t|), from 0 for the same direction to 2 for the opposite one.

    The mean over rows. The lengths of p and t do not count. slope = (cos(p, t) p / |p| - t / |t|) / |p|, at right
    angles to p. A prediction of 0 has no direction: its length counts as 1, so the loss is 1 and the slope -t / |t|.
    (Keras's CosineSimilarity is the negative cosine, without the 1.)

    Example:
        >>> CosineSimilarity()([[3.0, 4.0], [1.0, 0.0]], [[3.0, 4.0], [0.0, 2.0]])
        0.5

    Source:
        Salton, Wong and Yang, A vector space model for automatic indexing (1975).
    """

    def value(self, prediction: Any, target: Any) -> Any:
        return 1.0 - np.sum(_direction(prediction) * _direction(target), axis=-1)

    def slope(self, prediction: Any, target: Any) -> Any:  # measured: 1.4 times faster than derived
        p, t = _direction(prediction), _direction(target)
        across = np.sum(p * t, axis=-1, keepdims=True) * p - t
        largest = _largest(prediction)
        return across / _length(prediction / largest) / largest

    def require_target(self, target: Array, name: str) -> None:
        zero = ~np.any(target, axis=-1)
        if zero.any():
            row = int(np.argmax(zero))
            raise DataError(f"must have a direction in each row; row {row} is all 0", name=name, row=row)


class MultiQuantile(RowLoss):
    """l = mean_k (1/2 |p_k - t| + (1/2 - q_k) (p_k - t)): the mean of the ``Quantile`` loss over several outputs.

    slope = (1/2 sign(p_k - t) + 1/2 - q_k) / K. Output k of K learns the quantile q_k of the one target t of a row. The
    outputs end in Sort, so they do not cross.

    Attributes:
        quantiles: q, two or more rising numbers inside (0, 1).

    Raises:
        SettingsError: There are fewer than two quantiles, or they do not rise.

    Example:
        >>> round(MultiQuantile(quantiles=[0.1, 0.9])([[1.0, 3.0]], [2.0]), 6)
        0.1

    Source:
        Koenker and Bassett, Regression quantiles (1978). CatBoost has it under this name.
    """

    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)

    def model_post_init(self, context: object) -> None:
        """Check that there are several quantiles, which rise."""
        if len(self.quantiles) < 2 or any(low >= high for low, high in pairwise(self.quantiles)):
            raise SettingsError(
                "must be two or more rising numbers, as (0.1, 0.5, 0.9)",
                name="MultiQuantile: setting 'quantiles'",
                got=self.quantiles,
                advice="for one, use Quantile",
            )

    def value(self, prediction: Any, target: Any) -> Any:
        error, q = prediction - target, np.asarray(self.quantiles, prediction.dtype)
        return np.mean(0.5 * np.abs(error) + (0.5 - q) * error, axis=-1)

    def require_output(self, activation: Any) -> None:
        if isinstance(activation, Activation) and (np.diff(activation(np.array([[1.0, -1.0, 0.5]]))) < 0).any():
            raise SettingsError(
                f"MultiQuantile needs outputs in rising order; {activation!r} does not give them. Use Sort"
            )

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets (rows,), or (rows, quantiles) where each output has one of its own.

        Raises:
            ShapeError: The number of outputs is not that of the quantiles, or the targets have another number of rows.
        """
        if shape[1:] != (len(self.quantiles),):
            raise ShapeError(f"MultiQuantile needs an output for each of {self.quantiles}; got outputs {shape}")
        if array.shape not in (shape, shape[:1], (shape[0], 1)):
            raise ShapeError(f"must have one number for each row, {shape[:1]}", name=name, got=array.shape)
        return array if array.shape == shape else array.reshape(-1)

    def expand(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Return checked targets as (rows, quantiles)."""
        return array if array.shape == shape else array[:, None] * np.ones(shape[1])


def _direction(x: Any) -> Any:
    """Return x / |x| along the row; the largest element is taken out first, so that no square overflows."""
    scaled = x / _largest(x)
    return scaled / _length(scaled)


def _largest(x: Any) -> Any:
    """Return the row's largest |x| as a column, 1 for a row of zeros."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    return np.where(largest == 0.0, 1.0, largest)


def _length(x: Any) -> Any:
    """Return |x| along the row as a column, 1 for a row of zeros."""
    square = np.sum(x * x, axis=-1, keepdims=True)
    return np.sqrt(np.where(square == 0.0, 1.0, square))


class _FunctionRowLoss(_FunctionLoss, RowLoss):
    """A plain function of (prediction, target); made by ``RowLoss.of``."""

    made_by = "RowLoss.of"


RowLoss._of_function = _FunctionRowLoss
