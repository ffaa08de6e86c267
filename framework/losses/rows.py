"""Losses with one value per row."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from framework.activations.base import Activation
from framework.activations.basic import Softmax
from framework.arrays import Array
from framework.emit.programs import Program, program_of, tried_width
from framework.errors import DataError, SettingsError, ShapeError
from framework.losses.base import Loss, _FunctionLoss
from framework.losses.requirements import require_classes, require_distributions, require_output_range, require_range


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
        given = np.empty((1, tried_width(self))) if like is None else like
        return program_of(self, "value", ("prediction", "target"), given, rows=True)

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets (rows, classes) or integer classes (rows,).

        Raises:
            ShapeError: The shape is neither.
            DataError: A class is not an integer in 0..classes-1, or a row is not a distribution.
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
        try:
            return require_classes(array.reshape(-1), shape[1], name)
        except DataError as error:
            if type(self).require_target is Loss.require_target:
                advice = (
                    f"targets that are not classes have the output's shape, as np.column_stack([y] * {shape[1]}) has"
                )
                error.args = (f"{error}; {advice}",)
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
        if isinstance(activation, Activation) and activation.output_range is not None and not activation.coupled:
            raise SettingsError(
                f"{type(self).__name__} needs rows that sum to 1; {activation!r} does not give them. {advice}"
            )


class _FunctionRowLoss(_FunctionLoss, RowLoss):
    """A plain function of (prediction, target); made by ``RowLoss.of``."""

    made_by = "RowLoss.of"


RowLoss._of_function = _FunctionRowLoss
