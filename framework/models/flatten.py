"""Flatten: the axes of a sample become one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from framework.arrays import Array, Record
from framework.component import Count
from framework.errors import ShapeError
from framework.models.layer import Layer
from framework.models.shapes import shown


class Flatten(Layer):
    """A sample of this shape becomes one axis, the last index running fastest: (rows, a, b) gives (rows, a b).

    Args:
        shape: The shape of a sample, ``(28, 28)``; ``()`` turns one number a row into one column.
        seed: Of no use here: nothing is drawn.
        dtype: "float64" or "float32".

    Raises:
        SettingsError: A size is no positive whole number.
        ShapeError: The samples have another shape.

    Example:
        >>> Flatten((2, 2))([[1.0, 2.0], [3.0, 4.0]])
        array([1., 2., 3., 4.])
    """

    shape: tuple[Count, ...]

    def __init__(self, shape: Any, *, seed: int | None = None, dtype: npt.DTypeLike = "float64") -> None:
        """Validate the settings."""
        super().__init__(shape=shape, seed=seed, dtype=dtype)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape."""
        return self.shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """One axis."""
        return (math.prod(self.shape),)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """No parameters."""
        return {}

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Return a view of x with one axis a sample."""
        if x.shape[1:] != self.shape:  # the layer before may give any size
            raise ShapeError(f"Flatten takes samples of shape {shown(self.shape)}; got {shown(x.shape[1:])}")
        return x.reshape(len(x), math.prod(self.shape))

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return the gradient in the shape of the input."""
        return gradient.reshape(len(gradient), *self.shape)
