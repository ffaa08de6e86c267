"""Weights: the numbers of a layer as images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError, ShapeError, nearest
from framework.plots.style import INK, axes, colorbar, literal, require_model, require_whole
from framework.settings.messages import brief

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def weights(
    model: Any,
    name: str | None = None,
    *,
    shape: tuple[int, int] | None = None,
    count: int = 64,
    axis: Axes | None = None,
) -> Axes:
    """Draw weights as images: one for each unit of a Dense layer, or one for each filter of a convolution.

    Blue is negative, grey 0 and yellow positive, on one scale for all images; printed in grey, larger is brighter. A
    filter over several channels has an image for each channel, side by side.

    Args:
        model: The model.
        name: The parameter, such as ``"0.weights"``; None takes the first one that has weights.
        shape: The height and the width of an image, for the inputs of a Dense layer. None takes a square.
        count: How many units or filters to draw at most, from the first on.
        axis: The axes to draw on; None makes a figure.

    Raises:
        SettingsError: The model has no such parameter; lists them. Or ``shape`` is not two sizes.
        ShapeError: The inputs do not fill an image of this shape; says how many there are.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import Dense
        >>> axis = weights(Dense(64, 10), axis=Figure().subplots())
        >>> axis.images[0].get_array().shape  # 3 rows of 4 images, with a line between them
        (26, 35)

    Source:
        LeCun et al., Gradient-based learning applied to document recognition (1998); Zeiler and Fergus, Visualizing and
        understanding convolutional networks (2014), figure 2.
    """
    require_model(model, "weights")
    names = [*model.parameters]
    if name is None:
        name = next((each for each in names if each.rpartition(".")[2] == "weights"), "weights")
    if name not in names:
        hint = nearest(name, names)
        raise SettingsError(
            f"plots.weights: argument 'name' must be a parameter of the model{hint or ';'} Parameters: "
            f"{', '.join(names) or 'none'}"
        )
    require_whole(count, 1, "plots.weights: argument 'count'")
    images = _images(np.asarray(model.parameters[name], np.float64), name, shape)[:count]
    grid = _side_by_side(images)
    largest = float(np.max(np.abs(images))) or 1.0
    tall = max(2.2, min(8.0, 4.6 * grid.shape[0] / grid.shape[1] + 0.4))
    axis = axes(axis, "weights", width=5.4, height=tall, layout="compressed")
    drawn = axis.imshow(
        np.ma.masked_invalid(grid), cmap="cividis", vmin=-largest, vmax=largest, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(literal(name), color=INK, fontsize=10)
    colorbar(axis, drawn, "weight")
    return axis


def _images(values: Array, name: str, shape: Any) -> Array:
    """Return weights as images, (units, channels, height, width)."""
    if values.ndim == 4:  # (channels, height, width, filters) of a Conv2D
        return values.transpose(3, 0, 1, 2)
    if values.ndim == 3:  # (channels, kernel, filters) of a Conv1D
        return values.transpose(2, 0, 1)[:, None]
    if values.ndim not in (1, 2):
        raise ShapeError(f"plots.weights: argument 'name': {name} of shape {values.shape} cannot be images")
    rows = values.reshape(len(values), -1).T
    inputs = rows.shape[1]
    side = math.isqrt(inputs)
    if shape is None and side * side != inputs:
        raise ShapeError(
            f"plots.weights: argument 'shape' must be given: {name} has {inputs} inputs, which do not fill a square; "
            "write shape=(height, width)"
        )
    if shape is not None and not (
        isinstance(shape, tuple | list) and len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)
    ):
        raise SettingsError(f"plots.weights: argument 'shape' must be (height, width); got {brief(shape)}")
    height, width = (side, side) if shape is None else shape
    if height * width != inputs:
        raise ShapeError(
            f"plots.weights: argument 'shape' must hold the {inputs} inputs of {name}; got {height} x {width}"
        )
    return rows.reshape(-1, 1, height, width)


def _side_by_side(images: Array) -> Array:
    """Return images (units, channels, height, width) as one, with a line of NaN between them."""
    units, channels, height, width = images.shape
    across = math.ceil(math.sqrt(units * height / (width * channels)))
    across = max(1, min(units, across))
    down = -(-units // across)
    grid = np.full((down * (height + 1) - 1, across * (channels * width + 1) - 1), np.nan)
    for place, image in enumerate(images):
        top, left = place // across * (height + 1), place % across * (channels * width + 1)
        grid[top : top + height, left : left + channels * width] = np.concatenate([*image], axis=1)
    return grid
