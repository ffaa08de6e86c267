"""The trials of a sweep: a figure over a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framework.errors import DataError, SettingsError, nearest
from framework.plots.style import COLORS, axes, legend, literal, open_frame, star
from framework.tables import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trials(results: Sequence[Mapping[str, Any]], setting: str, objective: str, *, axis: Axes | None = None) -> Axes:
    """Draw a figure of the trials of a sweep over one of their settings; the first trial is marked as the best.

    Numbers that span two powers of ten have a log scale. Values that are not numbers stand side by side. With folds, a
    line shows the standard deviation. Trials without a finite figure are left out.

    Args:
        results: The rows of the trials, the best first, as ``sweep.ranked()`` gives them.
        setting: The column of the setting.
        objective: The column of the figure.
        axis: The axes to draw on; None makes a figure.

    Raises:
        DataError: No trial has a finite figure.
        SettingsError: The trials have no such column.
        UsageError: matplotlib is not installed.

    Example:
        >>> from matplotlib.figure import Figure
        >>> rows = [{"rate": "0.1", "val_loss": 0.2}, {"rate": "0.001", "val_loss": 0.7}]
        >>> axis = trials(rows, "rate", "val_loss", axis=Figure().subplots())
        >>> axis.get_xscale(), axis.lines[0].get_xdata().tolist()
        ('log', [0.1, 0.001])
    """
    for column in (setting, objective):
        if any(column not in row for row in results):
            raise SettingsError(
                f"plots.trials: the trials have no column {column!r}{nearest(column, results[0])}; their columns: "
                f"{', '.join(results[0])}"
            )
    rows = [row for row in results if row[objective] is not None and math.isfinite(row[objective])]
    if not rows:
        raise DataError(f"plots.trials: argument 'results' must hold a trial with a finite {objective!r}")
    axis = open_frame(axes(axis, "trials"))
    values = [row[setting] for row in rows]
    numbers, names, log = placed(values)
    if names:
        axis.set_xticks(range(len(names)), [literal(name) for name in names])
    elif log:
        axis.set_xscale("log")
    figures = [float(row[objective]) for row in rows]
    axis.plot(numbers, figures, "o", color=COLORS[0])
    if all(row.get("deviation") is not None for row in rows):
        axis.errorbar(numbers, figures, [row["deviation"] for row in rows], fmt="none", ecolor=COLORS[0], capsize=3)
    best = f"best {objective}: {figure(figures[0], digits=4)}, {setting.rpartition('.')[2]} {values[0]}"
    axis.set(xlabel=literal(setting), ylabel=literal(objective))
    legend(axis, star(axis, numbers[0], figures[0], best))
    return axis


def placed(values: Sequence[Any]) -> tuple[list[float], list[str], bool]:
    """Return the places of values on an axis, the names of values that are not numbers, and whether its scale is log.

    Example:
        >>> placed(["0.1", 0.001]), placed(["ReLU", "Tanh", "ReLU"])
        (([0.1, 0.001], [], True), ([0.0, 1.0, 0.0], ['ReLU', 'Tanh'], False))
    """
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError):
        numbers = [math.nan]
    if all(map(math.isfinite, numbers)):
        return numbers, [], min(numbers) > 0 and max(numbers) >= 100 * min(numbers)
    names = [*dict.fromkeys(map(str, values))]
    return [float(names.index(str(value))) for value in values], names, False
