"""Style: one look for all pictures, that reads in colour, in grey, for colour-blind readers, on white and on black.

Text has a contrast of 4.5:1 on white and of 4.2:1 on #111, lines have 3:1 or more on both, and backgrounds are
transparent, so that one picture serves light and dark pages. Line styles and markers repeat what colours say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from framework.base.arrays import Array
from framework.base.errors import SettingsError
from framework.base.extras import load_module

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Layout = Literal["constrained", "compressed"]

INK = "#767676"
"""Text, ticks and frames: 4.5:1 on white, 4.2:1 on #111. No grey has 4.5:1 on both."""

COLORS = ("#0068a8", "#d68000", "#a8508a", "#009e73", "#b3402f", "#8a8a00")
"""Blue, orange, purple, green, brick and olive: of different greys, and different for deuteranopes."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
"""The line styles of lines that stand for different things."""

DASHED = DASHES[1]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def axes(
    axis: Axes | None, name: str, *, width: float = 6.4, height: float = 4.0, layout: Layout = "constrained"
) -> Axes:
    """Return the axes to draw on; without one, those of a new figure of pyplot.

    Args:
        axis: What the caller was given, or None.
        name: The caller, for messages.
        width: Of a new figure, in inches.
        height: Likewise.
        layout: How a new figure makes room for texts; "compressed" where the axes keep their proportions.

    Raises:
        UsageError: matplotlib is not installed.
        SettingsError: ``axis`` is something else than axes with two straight sides.
    """
    wanted = load_module("matplotlib.axes", f"plots.{name}").Axes
    if axis is None:
        pyplot = load_module("matplotlib.pyplot", f"plots.{name}")
        axis = pyplot.figure(figsize=(width, height), layout=layout, facecolor="none").add_subplot()
    elif not isinstance(axis, wanted) or axis.name != "rectilinear":
        problem = f"plots.{name}: argument 'axis' must be axes of matplotlib, as figure, axis = plt.subplots() gives"
        raise SettingsError(problem, got=axis)
    return _in_ink(axis)


def _in_ink(axis: Axes) -> Axes:
    axis.set_facecolor("none")  # an alpha of 0 would outlast the facecolor of savefig
    axis.grid(visible=False)  # a style may draw one
    axis.tick_params(which="both", color=INK, labelcolor=INK)
    axis.spines[:].set_color(INK)
    for text in (axis.xaxis.label, axis.yaxis.label, axis.title, axis.xaxis.offsetText, axis.yaxis.offsetText):
        text.set_color(INK)
    return axis


def require_model(model: Any, name: str) -> None:
    """Raise a SettingsError if ``model`` is not a model; ``name`` is the caller's."""
    if isinstance(model, type) or not all(
        hasattr(model, attribute) for attribute in ("parameters", "preprocess", "input_shape")
    ):
        raise SettingsError(f"plots.{name}: argument 'model' must be a model", got=model)


def require_whole(value: Any, least: int, name: str) -> None:
    """Raise a SettingsError if ``value`` is not a whole number from ``least`` on; ``name`` is its own."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingsError(f"must be a whole number from {least}", name=name, got=value)


def literal(text: Any) -> str:
    r"""Return text that matplotlib draws as it is: it takes what stands between two dollars for a formula.

    Example:
        >>> print(literal("$ a year"))
        \$ a year
    """
    return str(text).replace("$", r"\$")


def open_frame(axis: Axes) -> Axes:
    """Return the axes with a frame without its right and upper side, and a faint grid behind what is drawn."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=INK, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    return axis


def second(axis: Axes) -> Axes:
    """Return axes with the same horizontal axis and a vertical one of their own, on the right."""
    twin = _in_ink(axis.twinx())
    twin.spines["top"].set_visible(False)
    return twin


def over_epochs(axis: Axes, most: int) -> None:
    """Label the horizontal axis and put its ticks at whole numbers, for curves of up to ``most`` epochs."""
    axis.set_xlabel("epoch")
    if most == 1:
        axis.set_xlim(0.0, 2.0)
    axis.xaxis.set_major_locator(load_module("matplotlib.ticker", "plots").MaxNLocator(integer=True))


def line(index: int, count: int) -> dict[str, Any]:
    """Return colour, marker and places of the markers for the line of this place, which has ``count`` points."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
        "markevery": max(1, -(-count // 8)),
        "linewidth": 1.8,
    }


def star(axis: Axes, x: float, y: float, label: str) -> list[Any]:
    """Mark a point by a star, white within the colour of the first line."""
    edge: dict[str, Any] = {"markeredgecolor": COLORS[0], "markeredgewidth": 1.5}
    return axis.plot([x], [y], "*", color="white", markersize=16, label=label, zorder=4, **edge)


MOST = 20
"""A legend has at most this many entries."""


def legend(axis: Axes, handles: Sequence[Any]) -> None:
    """Put a legend above the axes, where it covers nothing, in as many columns as fit; of many entries, the first."""
    if len(handles) > MOST:
        more = f"and {len(handles) - MOST + 1:,} more"
        rest = load_module("matplotlib.lines", "plots").Line2D([], [], linestyle="none", label=more)
        handles = [*handles[: MOST - 1], rest]
    size = load_module("matplotlib", "plots").rcParams["legend.fontsize"]
    scale = load_module("matplotlib.font_manager", "plots").FontProperties(size=size).get_size_in_points() / 10.0
    room, cell = size_of(axis)[0], axis.get_subplotspec()
    if cell is not None:  # then a legend may be as wide as the column of axes
        columns = cell.get_topmost_subplotspec().get_gridspec().ncols
        room = 0.87 * axis.figure.bbox.width / axis.figure.dpi / columns
    widths = [scale * (0.082 * len(str(handle.get_label())) + 0.62) for handle in handles]  # in inches
    axis.legend(
        handles=handles,
        labels=[literal(handle.get_label()) for handle in handles],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=_columns(widths, room),
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.0,
        borderpad=0.35,
        handlelength=2.8,
        columnspacing=1.0,
    )


def size_of(axis: Axes) -> tuple[float, float]:
    """Return the width and the height of axes in inches, as far as they are known before they are drawn."""
    box, whole = axis.get_position(), axis.figure.bbox
    return box.width * whole.width / axis.figure.dpi, box.height * whole.height / axis.figure.dpi


def _columns(widths: list[float], room: float) -> int:
    """Return how many columns of entries of these widths fit; entries go down the columns."""
    for rows in range(1, len(widths)):
        columns = [max(widths[start : start + rows]) for start in range(0, len(widths), rows)]
        if sum(columns) <= room:
            return len(columns)
    return 1


def colorbar(axis: Axes, drawn: Any, label: str) -> Any:
    """Put a colour bar of the axes' own height beside them."""
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((1.03, 0.0, 0.04, 1.0)))
    bar.set_label(label, color=INK)
    bar.outline.set_edgecolor(INK)
    bar.ax.tick_params(which="both", color=INK, labelcolor=INK)
    bar.ax.yaxis.offsetText.set_color(INK)
    return bar


def contours(axis: Axes, horizontal: Array, vertical: Array, values: Array, levels: Array, label: str) -> None:
    """Draw values over a plane: filled between levels, from dark to light, with lines and a colour bar."""
    filled = axis.contourf(horizontal, vertical, values, levels, cmap="cividis")
    axis.contour(horizontal, vertical, values, levels, colors="white", linewidths=0.5, alpha=0.6, linestyles="-")
    colorbar(axis, filled, label).ax.yaxis.set_major_formatter("{x:.3g}")


Span = tuple[float, float]


def span_of(span: Any, name: str, argument: str = "span") -> Span:
    """Return a range as two floats.

    Raises:
        SettingsError: It is something else than two increasing numbers.

    Example:
        >>> span_of([-1, 2], "activation")
        (-1.0, 2.0)
    """
    ends = [*span] if isinstance(span, Sequence) and not isinstance(span, str) else []
    numbers = len(ends) == 2 and all(isinstance(end, Real) and math.isfinite(end) for end in ends)
    if not numbers or ends[0] >= ends[1]:
        raise SettingsError(f"plots.{name}: argument '{argument}' must be two increasing numbers, as (-5, 5)", got=span)
    return float(ends[0]), float(ends[1])


def two_spans(span: Any, name: str) -> tuple[Span, Span]:
    """Return the ranges of two axes.

    Raises:
        SettingsError: There are not two of them, or one is not two increasing numbers.

    Example:
        >>> two_spans(((0, 1), (-2, 2)), "loss_surface")
        ((0.0, 1.0), (-2.0, 2.0))
    """
    if not isinstance(span, Sequence) or len(span) != 2 or not all(isinstance(limits, Sequence) for limits in span):
        raise SettingsError(
            f"plots.{name}: argument 'span' must be a range for each axis, as ((-1, 1), (0, 5))", got=span
        )
    return span_of(span[0], name, "span[0]"), span_of(span[1], name, "span[1]")


def enclosing(points: Array, share: float) -> tuple[Span, Span]:
    """Return the ranges that enclose points (points, 2), with a share of the extent as room on each side.

    An axis on which all points are alike has the room of the other one, or 1.

    Example:
        >>> import numpy as np
        >>> enclosing(np.array([[0.0, 5.0], [10.0, 5.0]]), 0.1)
        ((-1.0, 11.0), (4.0, 6.0))
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extents = high - low
    rooms = [share * float(extent or extents.max() or 1.0 / share) for extent in extents]
    first, second = ((float(a - r), float(b + r)) for a, b, r in zip(low, high, rooms, strict=True))
    return first, second
