"""Shaping: layers that arrange the numbers of a sample, and change none."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from framework.errors import SettingsError, ShapeError
from framework.models.layer import Layer
from framework.settings.component import Count
from framework.shapes import Shape, is_known, shown


class Flatten(Layer):
    """The axes of a sample become one, the last index running fastest: (rows, a, b) gives (rows, a b).

    Args:
        shape: The shape of a sample, ``(28, 28)``; ``()`` turns one number per row into one column. Left out, samples
            of every shape are taken, and the size of the output is known once the samples' shape is.

    Raises:
        SettingsError: A size is not a positive whole number.
        ShapeError: The samples have another shape.

    Example:
        >>> Flatten((2, 2))([[1.0, 2.0], [3.0, 4.0]])
        array([1., 2., 3., 4.])
        >>> Flatten()([[[1.0, 2.0], [3.0, 4.0]]])
        array([[1., 2., 3., 4.]])
    """

    shape: tuple[Count, ...] | None = None

    @property
    def input_shape(self) -> Shape:
        """The shape; where it was left out, the last axis of it."""
        return (None,) if self.shape is None else self.shape

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        """Whether samples of any shape are taken."""
        return self.shape is None

    def shape_after(self, shape: Shape) -> Shape:
        shape = shape if self.shape is None else self.shape
        return (math.prod(shape) if is_known(shape) else None,)

    def formula(self, x: Any) -> Any:
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(Layer):
    """A sample takes another shape, the last index running fastest: Reshape((1, 28, 28)) gives images of one channel.

    Args:
        shape: The new shape of a sample; one size may be -1, and is then what is left.

    Raises:
        SettingsError: A size is neither a positive whole number nor -1, or two are -1.
        ShapeError: The samples have another number of elements.

    Example:
        >>> Reshape((2, -1))([[1.0, 2.0, 3.0, 4.0]])
        array([[[1., 2.],
                [3., 4.]]])

    Source:
        PyTorch's ``Unflatten(1, shape)`` and Keras's ``Reshape(shape)``.
    """

    shape: tuple[int, ...]

    def model_post_init(self, context: object) -> None:
        """Refuse sizes that say nothing."""
        if any(size < 1 and size != -1 for size in self.shape) or self.shape.count(-1) > 1:
            raise SettingsError(
                f"Reshape: setting 'shape' must hold positive sizes, and at most one -1; got {self.shape}"
            )

    def shape_after(self, shape: Shape) -> Shape:
        """Return the new shape; a size of -1 is known once the samples' shape is."""
        if not is_known(shape):
            return tuple(None if size == -1 else size for size in self.shape)
        count, rest = math.prod(shape), math.prod(size for size in self.shape if size != -1)
        if count % rest or (count != rest and -1 not in self.shape):
            raise ShapeError(f"Reshape: samples of shape {shown(shape)} do not have the size of {self.shape}")
        return tuple(count // rest if size == -1 else size for size in self.shape)

    def formula(self, x: Any) -> Any:
        return x.reshape(len(x), *self.shape_after(x.shape[1:]))


class Permute(Layer):
    """The axes of a sample change their order, as by ``np.transpose(x, (0, *axes))``.

    Axes are counted in the batch, whose axis 0, the rows, stays: Permute((2, 1)) turns (rows, steps, inputs), which
    recurrent layers take, into (rows, inputs, steps), which Conv1D takes.

    Args:
        axes: The numbers 1, 2, ... in the new order.

    Raises:
        SettingsError: The axes are not the numbers from 1 on, each once.
        ShapeError: The samples have another number of axes.

    Example:
        >>> Permute((2, 1))([[[1.0, 2.0, 3.0]]])
        array([[[1.],
                [2.],
                [3.]]])

    Source:
        Keras's ``Permute(axes)``; PyTorch's ``torch.permute(x, (0, *axes))``.
    """

    axes: tuple[Annotated[int, Field(ge=1)], ...]

    def model_post_init(self, context: object) -> None:
        """Check that the setting is an order of all axes."""
        if not self.axes or sorted(self.axes) != [*range(1, len(self.axes) + 1)]:
            raise SettingsError(
                f"Permute: setting 'axes' must hold each of 1, 2, ... once (axis 0, the rows, stays); got {self.axes}"
            )

    @property
    def input_shape(self) -> Shape:
        return (None,) * len(self.axes)

    def shape_after(self, shape: Shape) -> Shape:
        return tuple(shape[axis - 1] for axis in self.axes) if len(shape) == len(self.axes) else self.input_shape

    def formula(self, x: Any) -> Any:
        return np.transpose(x, (0, *self.axes))
