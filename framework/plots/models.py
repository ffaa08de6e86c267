"""Models: their weights as images, and their layers as a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError, ShapeError, nearest
from framework.extras import required
from framework.plots.style import COLORS, INK, axes, colorbar, require_model, size_of
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
        SettingsError: The model has no such parameter; lists them.
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
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SettingsError(f"plots.weights: argument 'count' must be a whole number from 1; got {brief(count)}")
    images = _images(np.asarray(model.parameters[name], np.float64), name, shape)[:count]
    grid = _side_by_side(images)
    largest = float(np.max(np.abs(images))) or 1.0
    tall = max(2.2, min(8.0, 4.6 * grid.shape[0] / grid.shape[1] + 0.4))
    axis = axes(axis, "weights", width=5.4, height=tall, layout="compressed")
    drawn = axis.imshow(
        np.ma.masked_invalid(grid), cmap="cividis", vmin=-largest, vmax=largest, interpolation="nearest"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_title(name, color=INK, fontsize=10)
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


def graph(model: Any, *, axis: Axes | None = None) -> Axes:
    r"""Draw the layers of a model as boxes, with the shape of what each one gives and the number of its parameters.

    Layers run from top to bottom. The models of a Join and of Heads stand side by side, and a line beside a Residual's
    layers is its input, which is added to their output. Another Composite is one box.

    Args:
        model: The model.
        axis: The axes to draw on; None makes a figure of the size that the boxes need.

    Raises:
        SettingsError: ``model`` is not a model.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import Dense, ReLU, Sequential, Softmax
        >>> axis = graph(Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax())), axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.texts if text.get_text()]
        ['input\n(rows, 4)', '0 Dense(ReLU)\n(rows, 8), 40 parameters', '1 Dense(Softmax)\n(rows, 3), 27 parameters']
    """
    require_model(model, "graph")
    part = _drawn(model, "", model.input_shape)
    if not isinstance(model.input_shape, dict):  # the models of a Join draw their own
        part = _stacked([_box(f"input\n{_shown(model.input_shape)}"), part])
    inch = 1.0  # how large an inch of the boxes becomes
    if axis is not None and hasattr(axis, "get_position"):
        across, down = size_of(axis)
        inch = min(across / part.width, down / part.height, 1.0)
    axis = axes(axis, "graph", width=part.width + 0.2, height=part.height + 0.2)
    patches = required("matplotlib.patches", "plots.graph")
    fill = required("matplotlib.colors", "plots.graph").to_rgba(COLORS[0], 0.18)
    for box in part.boxes:
        axis.add_patch(
            patches.FancyBboxPatch(
                (box.x - box.width / 2, box.y - _HIGH),
                box.width,
                _HIGH,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=fill if box.filled else "none",
                edgecolor=INK,
                linewidth=1.2,
            )
        )
        axis.text(box.x, box.y - _HIGH / 2, box.text, color=INK, ha="center", va="center", fontsize=9 * inch)
    for arrow in part.arrows:
        axis.plot(*zip(*arrow, strict=True), color=INK, linewidth=1.2)
        tip: dict[str, Any] = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", arrow[-1], arrow[-2], arrowprops=tip)
    axis.set_xlim(-part.width / 2 - 0.1, part.width / 2 + 0.1)
    axis.set_ylim(-part.height - 0.1, 0.1)
    axis.set_aspect("equal")
    axis.set_axis_off()
    return axis


_HIGH = 0.46
"""The height of a box, and between boxes, in inches."""
_GAP = 0.3


@dataclass
class _Box:
    """A box: the middle of its upper side, its width, and its text."""

    x: float
    y: float
    width: float
    text: str
    filled: bool


@dataclass
class _Part:
    """A part of a graph, which begins in the middle of its upper side, at (0, 0), and grows downwards."""

    width: float
    height: float
    boxes: list[_Box] = field(default_factory=list)
    arrows: list[list[tuple[float, float]]] = field(default_factory=list)
    fans: bool = False  # whether it brings the arrows from the part above it

    def take(self, other: _Part, x: float, y: float) -> None:
        """Take the boxes and arrows of another part in, moved to (x, y)."""
        self.boxes += [_Box(box.x + x, box.y + y, box.width, box.text, box.filled) for box in other.boxes]
        self.arrows += [[(a + x, b + y) for a, b in arrow] for arrow in other.arrows]


def _box(text: str, *, filled: bool = False) -> _Part:
    width = max(map(len, text.splitlines())) * 0.078 + 0.24
    return _Part(width, _HIGH, [_Box(0.0, 0.0, width, text, filled)])


def _stacked(parts: list[_Part]) -> _Part:
    """Return parts one below the other, with an arrow from each to the next."""
    whole = _Part(max(part.width for part in parts), -_GAP)
    for place, part in enumerate(parts):
        if place and not part.fans:
            whole.arrows.append([(0.0, -whole.height), (0.0, -whole.height - _GAP)])
        whole.height += _GAP
        whole.take(part, 0.0, -whole.height)
        whole.height += part.height
    return whole


def _beside(parts: list[_Part], *, fans: bool, joins: bool) -> _Part:
    """Return parts side by side; arrows lead to each from above, or from each to the middle below."""
    width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
    tallest, top = max(part.height for part in parts), _GAP if fans else 0.0
    whole = _Part(width, top + tallest + (_GAP if joins else 0.0), fans=fans)
    left = -width / 2
    for part in parts:
        x = left + part.width / 2
        whole.take(part, x, -top)
        if fans:
            whole.arrows.append([(0.0, _GAP), (x, -top)])
        if joins:
            whole.arrows.append([(x, -top - part.height), (x, -top - tallest), (0.0, -whole.height)])
        left += part.width + _GAP
    return whole


def _drawn(model: Any, name: str, shape: Any) -> _Part:
    """Return a model that samples of this shape go through as a part of a graph."""
    start = f"{name}." if name else ""
    rows = model._summary_rows(name, shape)
    if branches := model.branches(_zeros(shape)):
        joins = isinstance(shape, dict)
        parts = []
        for key, (part, _) in branches.items():
            given = shape[key] if joins else part.narrowed(shape)
            drawn = _drawn(part, start + key, (1,) if given == () and not part.takes(()) else given)
            parts.append(_stacked([_box(f"input {key}\n{_shown(given)}"), drawn]) if joins else drawn)
        side_by_side = _beside(parts, fans=not joins, joins=joins)
        if not joins:
            return side_by_side
        joined = _box(f"{rows[0][0]}\n{_shown(rows[0][1])}")
        side_by_side.take(joined, 0.0, -side_by_side.height)
        side_by_side.height += joined.height
        side_by_side.width = max(side_by_side.width, joined.width)
        return side_by_side
    parts = []
    for key, part in model.chain.items():
        shape = part.narrowed(shape)
        parts.append(_drawn(part, start + key, shape))
        shape = part.shape_after(shape)
    if [*model.chain] == ["block"]:  # a Residual
        return _with_bypass(parts[0], f"{name} Residual: x + block(x)\n{_shown(shape)}".strip())
    return _stacked(parts) if parts else _layer(rows)


def _with_bypass(block: _Part, text: str) -> _Part:
    """Return a block, a box for the sum, and a line to that box from the arrow above the block."""
    total = _box(text)
    whole = _stacked([block, total])
    right = whole.width / 2 + _GAP
    whole.width = 2 * right
    above, middle = _GAP / 2, _HIGH / 2 - whole.height
    whole.arrows.append([(0.0, above), (right, above), (right, middle), (total.width / 2, middle)])
    return whole


def _layer(rows: list[tuple[str, Any, int]]) -> _Part:
    """Return the box of a layer, or of a model whose inside is not drawn."""
    numbers = sum(size for _, _, size in rows)
    text = f"{rows[0][0].removesuffix('()')}\n{_shown(rows[0][1])}" + (f", {numbers:,} parameters" if numbers else "")
    return _box(text, filled=numbers > 0)


def _zeros(shape: Any) -> Any:
    """Return a sample in a batch of its own; an open size counts as 1."""
    if isinstance(shape, dict):
        return {name: _zeros(each) for name, each in shape.items()}
    return np.zeros((1, *(size if isinstance(size, int) else 1 for size in shape)))


def _shown(shape: Any) -> str:
    """Return a shape of samples as text, with the axis of rows."""
    if isinstance(shape, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in shape.items())
    sizes = ("..." if size is ... else "any" if size is None else str(size) for size in shape)
    return f"({', '.join(('rows', *sizes))}{'' if shape else ','})"
