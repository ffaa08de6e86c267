"""Curves of numbers over epochs: loss, metrics, learning rate and the norms of layers; figures over a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from framework.base.arrays import Array, Arrays, place_of_best
from framework.base.errors import DataError, SettingsError, brief, nearest
from framework.base.tables import figure
from framework.views.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Better = Literal["min", "max"]


def learning_curves(
    history: Any, *keys: str, right: str | Sequence[str] = (), mode: Better | None = None, axis: Axes | None = None
) -> Axes:
    """Draw columns of a history over the epochs: training solid, validation dashed in the same colour.

    Args:
        history: A run, or its history.
        *keys: The columns, such as ``"loss"`` and ``"accuracy"``; each brings its ``val_`` column along. Without any,
            the loss.
        right: Columns of another unit, such as ``"learning_rate"``: they get a vertical axis on the right.
        mode: Whether the smallest (``"min"``) or the largest (``"max"``) value of the first column is marked as the
            best, in validation if there is one. None marks the smallest loss, and nothing for another column.
        axis: The axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        DataError: The history has no finished epoch.
        SettingsError: The history has no such column, or ``mode`` is something else.
        UsageError: matplotlib is not installed.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework.training import History
        >>> history = History([{"epoch": 1, "loss": 0.5, "val_loss": 0.7}, {"epoch": 2, "loss": 0.3, "val_loss": 0.6}])
        >>> axis = learning_curves(history, axis=Figure().subplots())
        >>> [str(line.get_label()) for line in axis.lines]
        ['loss', 'val_loss', 'best val_loss: 0.6, epoch 2']
    """
    columns, epochs = _columns(history, "learning_curves", "history")
    right = (right,) if isinstance(right, str) else tuple(right)
    keys = keys or ("loss",)
    if mode not in (None, "min", "max"):
        raise SettingsError("must be 'min' or 'max'", name="plots.learning_curves: argument 'mode'", got=mode)
    for key in (*keys, *right):
        _require_column(columns, key, "learning_curves")
    axis = style.open_frame(style.axes(axis, "learning_curves"))
    twin = style.second(axis) if right else None
    handles = []
    for index, key in enumerate((*keys, *right)):
        on = axis if twin is None or index < len(keys) else twin
        for name, dash in ((key, "-"), (f"val_{key}", style.DASHED)):
            if name in columns:
                handles += on.plot(epochs, columns[name], linestyle=dash, label=name, **style.line(index, len(epochs)))
    name = f"val_{keys[0]}" if f"val_{keys[0]}" in columns else keys[0]
    row = None if mode is None and keys[0] != "loss" else place_of_best(columns[name], mode or "min")
    if row is not None:
        value, epoch = columns[name][row], epochs[row]
        label = f"best {name}: {figure(value, digits=4)}, epoch {figure(epoch)}"
        handles += style.star(axis, float(epoch), float(value), label)
    style.over_epochs(axis, len(epochs))
    axis.set_ylabel(style.literal(", ".join(keys)))
    if twin is not None:
        twin.set_ylabel(style.literal(", ".join(right)))
    style.legend(axis, handles)
    return axis


def compare_runs(runs: Mapping[str, Any] | Sequence[Any], key: str = "val_loss", *, axis: Axes | None = None) -> Axes:
    """Draw one column of several runs over the epochs, each run with a colour, a line style and a marker of its own.

    Args:
        runs: Runs or histories by the names that the legend shows; a list numbers them from 1.
        key: The column.
        axis: The axes to draw on; None makes a figure.

    Raises:
        DataError: There is no run, or one has no finished epoch; names it.
        SettingsError: A run has no such column; names it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework.training import History
        >>> slow, fast = (History([{"epoch": 1, "loss": loss}]) for loss in (0.5, 0.1))
        >>> axis = compare_runs({"slow": slow, "fast": fast}, "loss", axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.get_legend().get_texts()]
        ['slow', 'fast']
    """
    if not isinstance(runs, Mapping):
        if hasattr(runs, "history") or hasattr(runs, "columns") or not isinstance(runs, Sequence):
            problem = f"must be a dict of runs by name, or a list of runs; got {brief(runs)}"
            raise SettingsError(problem, name="plots.compare_runs: argument 'runs'")
        runs = {f"run {index}": run for index, run in enumerate(runs, 1)}
    if not runs:
        raise DataError("must hold a run or more; it is empty", name="plots.compare_runs: argument 'runs'")
    curves = {}
    for name, run in runs.items():
        columns, epochs = _columns(run, "compare_runs", f"runs[{name!r}]")
        _require_column(columns, key, f"compare_runs: run {name!r}")
        curves[name] = epochs, columns[key]
    return _apart(style.axes(axis, "compare_runs"), curves, style.literal(key))


def norms(history: Any, of: Literal["gradient", "weight"] = "gradient", *, axis: Axes | None = None) -> Axes:
    """Draw the norm of the gradient, or of the weights, of every layer over the epochs, as ``RecordNorms`` recorded it.

    A gradient that vanishes or explodes on its way back through the layers shows as lines that are powers of ten apart.

    Args:
        history: A run with the callback ``RecordNorms``, or its history.
        of: ``"gradient"`` or ``"weight"``.
        axis: The axes to draw on; None makes a figure.

    Raises:
        DataError: The history has no finished epoch, or no norms; says which callback records them.
        SettingsError: ``of`` is something else.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework.training import History
        >>> history = History([{"epoch": 1, "gradient_norm_0": 0.5, "gradient_norm_1": 2.0}])
        >>> axis = norms(history, axis=Figure().subplots())
        >>> [str(line.get_label()) for line in axis.lines], axis.get_yscale()
        (['layer 0', 'layer 1'], 'log')
    """
    if of not in ("gradient", "weight"):
        raise SettingsError("must be 'gradient' or 'weight'", name="plots.norms: argument 'of'", got=of)
    columns, epochs = _columns(history, "norms", "history")
    start = f"{of}_norm"
    norms_by_layer = {
        key.removeprefix(start).lstrip("_"): values for key, values in columns.items() if key.startswith(start)
    }
    if not norms_by_layer:
        problem = "has no norms of layers; train with Trainer(callbacks=[RecordNorms()]), which records them"
        raise DataError(problem, name="plots.norms: argument 'history'")
    axis = style.axes(axis, "norms")
    if any((values[np.isfinite(values)] > 0).any() for values in norms_by_layer.values()):
        axis.set_yscale("log")
    curves = {f"layer {name}" if name else "model": (epochs, values) for name, values in norms_by_layer.items()}
    return _apart(axis, curves, f"norm of the {'gradient' if of == 'gradient' else 'weights'}")


def _apart(axis: Axes, curves: Mapping[Any, tuple[Array, Array]], label: str) -> Axes:
    """Draw epochs and values by name, each with a colour, a line style and a marker of its own."""
    style.open_frame(axis)
    handles = []
    for index, (name, (epochs, values)) in enumerate(curves.items()):
        look = {"linestyle": style.DASHES[index % len(style.DASHES)], **style.line(index, len(epochs))}
        handles += axis.plot(epochs, values, label=str(name), **look)
    style.over_epochs(axis, max(len(epochs) for epochs, _ in curves.values()))
    axis.set_ylabel(label)
    style.legend(axis, handles)
    return axis


def learning_rate_search(search: Any, *, axis: Axes | None = None) -> Axes:
    """Draw the losses of a search for a learning rate over the rates, and mark the suggested one.

    Args:
        search: What ``trainer.find_learning_rate(model, data)`` returns.
        axis: The axes to draw on; None makes a figure.

    Raises:
        SettingsError: ``search`` is something else.
    """
    if not all(hasattr(search, name) for name in ("rates", "losses", "smoothed", "suggestion")):
        problem = f"must be what trainer.find_learning_rate(model, data) returns; got {brief(search)}"
        raise SettingsError(problem, name="plots.learning_rate_search: argument 'search'")
    axis = style.open_frame(style.axes(axis, "learning_rate_search"))
    handles = axis.plot(
        search.rates, search.losses, ".", color=style.COLORS[1], markersize=4, label="loss of the batch"
    )
    handles += axis.plot(search.rates, search.smoothed, color=style.COLORS[0], linewidth=1.8, label="smoothed")
    if search.suggestion is not None:
        value = float(np.interp(np.log(search.suggestion), np.log(search.rates), search.smoothed))
        handles += style.star(axis, search.suggestion, value, f"suggestion: {search.suggestion:.2g}")
    axis.set_xscale("log")
    smoothed = search.smoothed[np.isfinite(search.smoothed)]
    low, high = float(smoothed.min()), float(np.max(smoothed[: max(1, len(smoothed) // 10)]))
    room = (high - low) or abs(low) or 1.0
    axis.set_ylim(low - 0.15 * room, high + 0.6 * room)  # what lies above has diverged
    axis.set(xlabel="learning rate", ylabel="loss")
    style.legend(axis, handles)
    return axis


def _columns(thing: Any, name: str, argument: str) -> tuple[dict[str, Array], Array]:
    """Return the columns of a history, NaN where a row has no value, and the epochs of its rows."""
    history = getattr(thing, "history", thing)
    if not callable(getattr(history, "columns", None)) or not hasattr(history, "keys"):
        raise SettingsError(f"plots.{name}: argument '{argument}' must be a run, or its history", got=thing)
    if not len(history):
        raise DataError(f"plots.{name}: argument '{argument}' must have a finished epoch; it has none")
    columns = history.columns()
    return columns, columns.get("epoch", np.arange(1.0, len(history) + 1.0))


def _require_column(columns: Arrays, key: str, name: str) -> None:
    if key not in columns:
        raise SettingsError(
            f"plots.{name}: the history has no column {brief(key)}{nearest(str(key), columns) or '.'} Columns: "
            f"{', '.join(columns)}"
        )


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
        raise DataError(f"must hold a trial with a finite {objective!r}", name="plots.trials: argument 'results'")
    axis = style.open_frame(style.axes(axis, "trials"))
    values = [row[setting] for row in rows]
    numbers, names, log = axis_positions(values)
    if names:
        axis.set_xticks(range(len(names)), [style.literal(name) for name in names])
    elif log:
        axis.set_xscale("log")
    figures = [float(row[objective]) for row in rows]
    axis.plot(numbers, figures, "o", color=style.COLORS[0])
    if all(row.get("deviation") is not None for row in rows):
        axis.errorbar(
            numbers, figures, [row["deviation"] for row in rows], fmt="none", ecolor=style.COLORS[0], capsize=3
        )
    best = f"best {objective}: {figure(figures[0], digits=4)}, {setting.rpartition('.')[2]} {values[0]}"
    axis.set(xlabel=style.literal(setting), ylabel=style.literal(objective))
    style.legend(axis, style.star(axis, numbers[0], figures[0], best))
    return axis


def axis_positions(values: Sequence[Any]) -> tuple[list[float], list[str], bool]:
    """Return the places of values on an axis, the names of values that are not numbers, and whether its scale is log.

    Example:
        >>> axis_positions(["0.1", 0.001]), axis_positions(["ReLU", "Tanh", "ReLU"])
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
