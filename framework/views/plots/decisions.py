"""Decisions: decision boundaries, confusion matrices and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array, class_names, likeliest, real_array, require_finite
from framework.base.errors import DataError, SettingsError, ShapeError
from framework.base.extras import load_module
from framework.base.frames import Frame, is_frame, is_series
from framework.data.parts import parts
from framework.views.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def decision_boundary(
    model: Any,
    data: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    span: Sequence[tuple[float, float]] | None = None,
    resolution: int = 200,
    axis: Axes | None = None,
) -> Axes:
    """Draw what a model of two inputs predicts over the plane of its inputs, with the rows of the data on it.

    A model of classes gets a colour for each class, stronger where it is surer, and lines where two classes are equally
    likely; one of two classes also has thin lines at the probabilities 0.1 and 0.9. A model whose output is any number
    gets contours of its prediction. Several outputs are taken as the scores of classes. One output in [0, 1], such as
    Sigmoid's, is the probability of the second of two classes, unless y has numbers between 0 and 1.

    Args:
        model: A model of two inputs. With a ``preprocess``, the plane is that of the two columns of the table.
        data: (x, y), or None. x is an array (rows, 2) or a table of two columns; y has the classes as integers, one-hot
            or as the target of ``fit`` had them, or numbers; or is the name of a column of the table.
        classes: The names of the classes. None takes those of the model's ``preprocess``, or numbers them.
        span: The range of each input, ((low, high), (low, high)). None encloses the data.
        resolution: Predictions along each axis.
        axis: The axes to draw on; None makes a figure.

    Raises:
        ShapeError: The model does not take two inputs or has several outputs, or x is not (rows, 2).
        SettingsError: There is neither data nor a span, the number of names is not that of the classes, or there are
            names for a model of numbers.
        DataError: A target is not one of the classes, or not finite; names the row. Or a prediction is not finite.
        DtypeError: A column of the table does not hold numbers.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import Neuron, Sigmoid
        >>> neuron = Neuron.from_weights([1.0, -1.0], activation=Sigmoid())
        >>> data = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
        >>> axis = decision_boundary(neuron, data, classes=["below", "above"], axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.get_legend().get_texts()]
        ['below', 'above']
    """
    name = "plots.decision_boundary"
    style.require_model(model, "decision_boundary")
    _require_given(model, data, span, resolution, name)
    inputs, target, _ = (None, None, None) if data is None else parts(data, name)
    labels, x, plane = _plane(model, inputs, name)
    if span is not None:
        ranges = style.two_spans(span, "decision_boundary")
    elif x is not None and len(whole := x[np.isfinite(x).all(axis=1)]):
        ranges = style.enclosing(whole, 0.08)
    else:
        raise DataError("x has no row without missing values; give span=((low, high), (low, high))", where=name)
    horizontal, vertical = (np.linspace(*limits, resolution) for limits in ranges)
    scores = model.predict(
        plane(np.stack([coordinates.reshape(-1) for coordinates in np.meshgrid(horizontal, vertical)], axis=1))
    )
    if isinstance(scores, dict):
        raise ShapeError(f"must have one output; it has {', '.join(scores)}", name=f"{name}: argument 'model'")
    preprocess = model.preprocess
    known = None if preprocess is None else next(iter(preprocess.classes.values()), None)
    shares = known is None and classes is None and data is not None and _between(target)
    if not np.isfinite(scores).all():
        raise DataError(f"{name}: argument 'model' must predict finite numbers in the range; choose another 'span'")
    scores, probable = _scores(scores, None if shares else model.output_activation)
    count = scores.shape[1]
    if count == 1 and classes is not None:
        raise SettingsError(
            "is for a model of classes; this one predicts numbers; leave it out", name=f"{name}: argument 'classes'"
        )
    names = [] if count == 1 else class_names(classes, known, count, name)
    y = None
    if data is not None and count == 1:
        y = real_array(target, f"{name}: y", np.float64).reshape(-1)
        require_finite(y, f"{name}: y")
    elif data is not None:
        y = _places_of(target, count, f"{name}: y") if known is None else preprocess.transform_target(target, name=name)
    if x is not None and y is not None and len(y) != len(x):
        raise ShapeError(f"y must have {len(x)} rows, as x; got {len(y)}", where=name)
    axis = style.axes(axis, "decision_boundary", height=4.8)
    grid = scores.reshape(resolution, resolution, count)
    if names:
        _draw_classes(axis, horizontal, vertical, grid, probable=probable)
        seen = np.union1d(grid.argmax(axis=-1), np.zeros(0, np.intp) if y is None else y).tolist()
        _draw_rows(axis, x, y, {level: names[level] for level in (seen if count > style.MOST else range(count))})
    else:
        _draw_values(axis, horizontal, vertical, grid[..., 0], x, y)
    axis.set(xlim=ranges[0], ylim=ranges[1], xlabel=style.literal(labels[0]), ylabel=style.literal(labels[1]))
    return axis


def confusion_matrix(matrix: Any, classes: Sequence[Any] | None = None, *, axis: Axes | None = None) -> Axes:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    The number in a cell counts rows, and its colour is their share of the true class, so that rare classes show too.

    Args:
        matrix: ``ConfusionMatrix(num_classes=n)(prediction, target)``, or scikit-learn's: matrix[true, predicted].
        classes: The names of the classes; None numbers them from 0.
        axis: The axes to draw on; None makes a figure.

    Raises:
        ShapeError: The matrix is not square.
        DataError: A number is negative or not finite.
        SettingsError: The number of names is not that of the classes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axis = confusion_matrix([[5, 1], [0, 4]], ["no", "yes"], axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.texts]
        ['5', '1', '0', '4']
    """
    name = "plots.confusion_matrix"
    counts = real_array(matrix, f"{name}: argument 'matrix'", np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(f"{name}: argument 'matrix' must have the shape (classes, classes); got {counts.shape}")
    require_finite(counts, f"{name}: argument 'matrix'")
    if (counts < 0).any():
        raise DataError(f"must count rows; got {counts.min():g}", name=f"{name}: argument 'matrix'")
    count = len(counts)
    names = [*map(style.literal, class_names(classes, None, count, name))]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    colors = load_module("matplotlib.colors", name)
    shades = colors.LinearSegmentedColormap.from_list("shares", ["#dfe9f2", "#7fb0d6", "#0068a8", "#00385c"])
    side = min(14.0, max(4.0, 0.45 * count + 1.6))
    axis = style.axes(axis, "confusion_matrix", width=side + 0.8, height=side, layout="compressed")
    drawn = axis.imshow(np.ma.masked_where(counts == 0, shares), cmap=shades, vmin=0.0, vmax=1.0)
    whole = bool(np.all(counts == np.rint(counts)))
    longest = len(f"{counts.max():,.0f}") if whole else 5
    cell = 72.0 * style.size_of(axis)[0] / count  # in points
    size = min(11.0, 0.6 * cell, 1.4 * cell / longest)
    for (row, column), number in np.ndenumerate(counts) if size > 3.0 else ():  # smaller ones cannot be read
        red, green, blue, _ = shades(shares[row, column])
        dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18
        color = style.INK if number == 0 else "white" if dark else "black"
        text = f"{number:,.0f}" if whole else f"{number:.3g}"
        axis.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    long = max(map(len, names)) * count > 40
    axis.set_xticks(range(count), names, rotation=45 if long else 0, ha="right" if long else "center")
    axis.set_yticks(range(count), names)
    axis.tick_params(length=0)
    axis.set(xlabel="predicted class", ylabel="true class")
    style.colorbar(axis, drawn, "share of the true class")
    return axis


def calibration(prediction: Any, target: Any, *, bins: int = 10, axis: Axes | None = None) -> Axes:
    """Draw a reliability diagram: the predicted probability, and the share of such rows that are of the class.

    On the diagonal, of the rows with probability 0.8 eight in ten are of the class. Below it, the probabilities are
    too large. The legend has the expected calibration error, the mean distance from the diagonal weighted by rows. Bars
    show how many rows each bin has.

    Args:
        prediction: Probabilities of class 1, (rows,) or (rows, 1); or those of all classes, (rows, classes), of which
            the likeliest counts.
        target: The classes, (rows,), or one-hot.
        bins: The number of bins of equal width.
        axis: The axes to draw on; None makes a figure.

    Raises:
        DataError: A prediction is not in [0, 1], a target is not a class, or there is no row.
        ShapeError: There are not as many targets as predictions.
        SettingsError: ``bins`` is not a whole number from 1.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axis = calibration([0.1, 0.3, 0.6, 0.9], [0, 1, 0, 1], bins=2, axis=Figure().subplots())
        >>> axis.lines[1].get_xydata().tolist()
        [[0.2, 0.5], [0.75, 0.5]]

    Source:
        Guo et al., On calibration of modern neural networks (2017), figure 1 and equation 3.
    """
    name = "plots.calibration"
    style.require_whole(bins, 1, f"{name}: argument 'bins'")
    chances = real_array(prediction, f"{name}: argument 'prediction'", np.float64)
    if chances.ndim not in (1, 2) or not chances.size:
        raise ShapeError(
            f"{name}: argument 'prediction' must have the shape (rows,) or (rows, classes); got {chances.shape}"
        )
    require_finite(chances, f"{name}: argument 'prediction'")
    outside = (chances < 0) | (chances > 1)
    if outside.any():
        problem = f"must hold probabilities; got {chances[outside][0]:g}: end the model in a Sigmoid or a Softmax"
        raise DataError(problem, name=f"{name}: argument 'prediction'")
    several = chances.ndim == 2 and chances.shape[1] > 1
    true = _places_of(target, chances.shape[1] if several else 2, f"{name}: argument 'target'")
    if len(true) != len(chances):
        raise ShapeError(f"{name}: argument 'target' must have {len(chances)} rows, as the prediction; got {len(true)}")
    right = true == chances.argmax(axis=1) if several else true == 1
    chances = chances.max(axis=1) if several else chances.reshape(-1)
    bin_of_row = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], chances)
    rows = np.bincount(bin_of_row, minlength=bins)
    filled = rows > 0
    said = np.bincount(bin_of_row, chances, bins)[filled] / rows[filled]
    was = np.bincount(bin_of_row, right, bins)[filled] / rows[filled]
    error = float(np.sum(rows[filled] * np.abs(said - was)) / len(chances))
    axis = style.open_frame(style.axes(axis, "calibration", width=5.4, height=4.8))
    twin = style.second(axis)
    axis.set_zorder(twin.get_zorder() + 1)
    bars = twin.bar(
        (np.arange(bins) + 0.5) / bins, rows, 0.9 / bins, color=style.INK, alpha=0.35, label="rows in the bin"
    )
    twin.set_ylim(0, 4.0 * rows.max())
    twin.set_yticks([0, int(rows.max())])
    twin.set_ylabel("rows")
    handles = axis.plot(
        [0, 1], [0, 1], color=style.INK, linestyle=style.DASHED, linewidth=1.2, label="perfectly calibrated"
    )
    handles += axis.plot(said, was, **style.line(0, 1), label=f"model, calibration error {error:.3f}")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_xlabel("probability of the likeliest class" if several else "predicted probability")
    axis.set_ylabel("share of rows that are right" if several else "share of rows of class 1")
    style.legend(axis, [*handles, bars])
    return axis


def _require_given(model: Any, data: Any, span: Any, resolution: Any, name: str) -> None:
    """Check the model's inputs, and that there is a plane to draw."""
    preprocess = model.preprocess
    taken = model.input_shape if preprocess is None else (len(preprocess.inputs),)
    if taken != (2,):
        of = "" if preprocess is None else f" columns: {', '.join(preprocess.inputs[:8])}"
        raise ShapeError(f"must take two inputs; it takes {taken}{of}", name=f"{name}: argument 'model'")
    style.require_whole(resolution, 2, f"{name}: argument 'resolution'")
    if data is None and preprocess is not None:
        raise SettingsError(f"{name}: give data=(table, y): the model has a preprocess, which takes tables of its kind")
    if data is None and span is None:
        raise SettingsError("give data=(x, y), or span=((low, high), (low, high))", where=name)
    if data is not None and (not isinstance(data, tuple | list) or len(data) not in (2, 3)):
        raise SettingsError("must be (x, y)", name=f"{name}: argument 'data'", got=data)


def _plane(model: Any, x: Any, name: str) -> tuple[tuple[str, str], Array | None, Any]:
    """Return the names of the two inputs, the rows of x, and what makes rows of numbers into the model's input."""
    preprocess = model.preprocess
    if not is_frame(x):
        if preprocess is not None:
            raise SettingsError(
                "must be (table, y), as the model has a preprocess", name=f"{name}: argument 'data'", got=x
            )
        columns = model.columns or ("x[:, 0]", "x[:, 1]")
        if x is None:
            return (columns[0], columns[1]), None, lambda rows: rows
        array = real_array(x, f"{name}: x", np.float64)
        if array.ndim != 2 or array.shape[1] != 2:
            raise ShapeError(f"x must have the shape (rows, 2); got {array.shape}", where=name)
        require_finite(array, f"{name}: x")
        return (columns[0], columns[1]), array, lambda rows: rows
    frame = Frame(x, f"{name}: x")
    names = frame.names if preprocess is None else preprocess.inputs
    if len(names) != 2:
        raise ShapeError(f"x must have two columns; got {', '.join(names[:8])}", where=name)
    model.require_columns(x, f"{name}: x") if preprocess is None else preprocess.require_columns(frame, name)
    array = np.stack([frame.numbers(column) for column in names], axis=1)
    nw = load_module("narwhals.stable.v2", name)
    library = nw.get_native_namespace(frame.native)

    def table(rows: Array) -> Any:
        columns = dict(zip(names, np.ascontiguousarray(rows.T), strict=True))
        return nw.from_dict(columns, backend=library).to_native()

    return (names[0], names[1]), array, (lambda rows: rows) if preprocess is None else table


def _scores(scores: Array, activation: Any) -> tuple[Array, bool]:
    """Return scores (rows, classes), of one class where they are plain values; and whether they are probabilities."""
    low_high = getattr(activation, "output_range", None)
    if scores.ndim == 1 or scores.shape[1] == 1:
        chance = scores.reshape(-1, 1)
        return (np.concatenate([1 - chance, chance], axis=1), True) if low_high == (0.0, 1.0) else (chance, False)
    if scores.ndim != 2:
        problem = f"must give one row of numbers a sample; got the shape {scores.shape[1:]}"
        raise ShapeError(problem, name="plots.decision_boundary: argument 'model'")
    return scores, bool(np.all(scores >= 0) and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3))


def _between(y: Any) -> bool:
    """Return whether numbers lie in [0, 1], and some of them between its ends."""
    if is_series(y) or is_frame(y):
        return False
    numbers = np.asarray(y)
    if numbers.dtype.kind != "f":
        return False
    return bool(((numbers >= 0) & (numbers <= 1)).all() and ((numbers > 0) & (numbers < 1)).any())


def _places_of(y: Any, count: int, name: str) -> Array:
    """Return the place of the class of each row, (rows,), of integers and of one-hot rows; ``name`` is that of y."""
    array = real_array(y, name, np.float64)
    if array.ndim == 2 and array.shape[1] == count > 1:
        return likeliest(array, name)
    array = array.reshape(-1)
    if count == 2 and np.isin(array, (-1, 1)).all():
        array = (array + 1) / 2
    wrong = ~np.isin(array, np.arange(count))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"must hold classes from 0 to {count - 1}; got {array[row]:g} in row {row}", name=name)
    return array.astype(np.intp)


def _draw_classes(axis: Axes, horizontal: Array, vertical: Array, scores: Array, *, probable: bool) -> None:
    """Draw the colour of the likeliest class at each point, and the lines where two are equally likely."""
    count = scores.shape[-1]
    chosen = scores.argmax(axis=-1)
    to_rgb = load_module("matplotlib.colors", "plots.decision_boundary").to_rgb
    palette = np.array([to_rgb(style.COLORS[index % len(style.COLORS)]) for index in range(count)])
    sure = (scores.max(axis=-1) - 1 / count) / (1 - 1 / count) if probable else np.ones(chosen.shape)
    image = np.concatenate([palette[chosen], 0.1 + 0.5 * np.clip(sure, 0, 1)[..., None]], axis=-1)
    wide, high = ((values[1] - values[0]) / 2 for values in (horizontal, vertical))
    edges = (horizontal[0] - wide, horizontal[-1] + wide, vertical[0] - high, vertical[-1] + high)  # of the pixels
    axis.imshow(image, origin="lower", extent=edges, aspect="auto", interpolation="nearest")
    *_, second, best = np.moveaxis(np.partition(scores, count - 2, axis=-1), -1, 0)
    for index in np.unique(chosen).tolist() if count > 2 else [0]:
        margin = scores[..., index] - np.where(chosen == index, second, best)
        if margin.min() < 0 < margin.max():
            axis.contour(horizontal, vertical, margin, [0.0], colors=style.INK, linewidths=2.0)
    unsure = (scores > 0.1) & (scores < 0.9)
    if count == 2 and probable and unsure.mean() > 0.03:  # else the lines are one
        for level in (0.1, 0.9):
            if scores[..., 1].min() < level < scores[..., 1].max():
                thin = axis.contour(
                    horizontal, vertical, scores[..., 1], [level], colors=style.INK, linewidths=1.0, linestyles="dashed"
                )
                axis.clabel(thin, fmt="%g", fontsize=9)


def _draw_rows(axis: Axes, x: Array | None, y: Array | None, names: Mapping[int, Any]) -> None:
    """Draw the rows with a marker for each of some classes, whose names are given by their places, and the legend."""
    handles = []
    for index, text in names.items():
        rows = np.zeros((0, 2)) if x is None or y is None else x[y == index]
        handles += axis.plot(
            *rows.T,
            style.MARKERS[index % len(style.MARKERS)],
            color=style.COLORS[index % len(style.COLORS)],
            markeredgecolor="white",
            markeredgewidth=0.8,
            markersize=6,
            label=str(text),
        )
    style.legend(axis, handles)


def _draw_values(axis: Axes, horizontal: Array, vertical: Array, values: Array, x: Any, y: Any) -> None:
    """Draw contours of a prediction that is a number, and the rows with their own numbers in the same colours."""
    everything = values if y is None else np.append(values, y)
    low, high = float(everything.min()), float(everything.max())
    ticker = load_module("matplotlib.ticker", "plots.decision_boundary")
    levels = ticker.MaxNLocator(12).tick_values(low, high if high > low else low + 1.0)
    style.contours(axis, horizontal, vertical, values, levels, "prediction")
    if y is not None:
        axis.plot(*x.T, "o", color="white", markersize=8)
        axis.scatter(
            x[:, 0], x[:, 1], c=y, cmap="cividis", vmin=levels[0], vmax=levels[-1], edgecolors="black", zorder=3
        )
