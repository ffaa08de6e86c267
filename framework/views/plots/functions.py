"""Functions: an activation with its derivative, and a loss over two parameters with the descent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array, real_array, require_finite
from framework.base.errors import DataError, DerivativeError, SettingsError, ShapeError, brief
from framework.base.extras import load_module
from framework.base.tables import figure
from framework.base.trees import map_leaves, real_tree
from framework.views.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1001


def activation(formula: Any, *, span: tuple[float, float] = (-5.0, 5.0), axis: Axes | None = None) -> Axes:
    """Draw an activation and its derivative.

    If the class writes its derivative, the one that is derived from the formula is drawn over it, and the legend says
    how far they differ at most. Training uses the written one.

    Args:
        formula: The activation.
        span: The smallest and the largest h.
        axis: The axes to draw on; None makes a figure.

    Raises:
        SettingsError: ``formula`` is not an activation, it couples the units of a row as Softmax does, or ``span`` is
            not two increasing numbers.
        DerivativeError: The formula has no derivative.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework.formulas import Softsign
        >>> axis = activation(Softsign(), axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.get_legend().get_texts()]
        ['f = Softsign()', "f', written", "f', derived: differs by at most 1e-16"]
    """
    if isinstance(formula, type) or not all(hasattr(formula, name) for name in ("derivative", "coupled", "program")):
        raise SettingsError(
            "must be an activation, such as Tanh()", name="plots.activation: argument 'formula'", got=formula
        )
    low, high = style.span_of(span, "activation", "span")
    if formula.coupled:
        problem = f"must work on each number alone; {formula!r} couples the units of a row, so there is no curve over h"
        raise SettingsError(problem, name="plots.activation: argument 'formula'")
    h = np.linspace(low, high, _POINTS)
    with np.errstate(all="ignore"):  # a formula may overflow far from 0
        a = np.asarray(formula(h)) + np.zeros_like(h)
        used = np.asarray(formula.derivative(h)) + np.zeros_like(h)
        derived = _derivative_of_graph(formula, h)
    axis = style.open_frame(style.axes(axis, "activation"))
    axis.axhline(0.0, color=style.INK, linewidth=0.8)
    axis.axvline(0.0, color=style.INK, linewidth=0.8)
    handles = axis.plot(h, a, color=style.COLORS[0], linewidth=2.2, label=f"f = {formula!r}")
    kind = "written" if formula.writes_derivative else "derived"
    handles += axis.plot(h, used, color=style.COLORS[1], linewidth=2.2, linestyle=style.DASHED, label=f"f', {kind}")
    if derived is not None:
        most = float(np.max(np.abs(derived - used)))
        label = f"f', derived: {f'differs by at most {most:.1g}' if most else 'equal'}"
        handles += axis.plot(h, derived, color=style.COLORS[2], linewidth=2.2, linestyle=style.DASHES[2], label=label)
    axis.set_xlabel("h")
    style.legend(axis, handles)
    return axis


def _derivative_of_graph(formula: Any, h: Array) -> Array | None:
    """Return the derivative that the graph gives of a formula whose class writes one; None without either."""
    if not formula.writes_derivative:
        return None
    try:
        program = formula.program(h)
        return np.asarray(program.derivative(h)) + np.zeros_like(h) if program.elementwise else None
    except DerivativeError:
        return None  # an operation that the graph does not know, which is why the class writes the derivative


def loss_surface(
    model: Any,
    loss: Any,
    data: Any,
    path: Any = None,
    *,
    places: tuple[int, int] | None = None,
    span: Sequence[tuple[float, float]] | None = None,
    resolution: int = 61,
    axis: Axes | None = None,
) -> Axes:
    """Draw the loss of a model over two of its parameters as contours, with the path of a descent on it.

    The loss is exact: that of the model on all of the data, at each point of a grid. The model is not changed. Other
    parameters keep the values that they have in it. If they were trained too, the path is seen from above: it was not
    on this surface, and the losses in the legend are those of the surface.

    Args:
        model: The model. Parameters that are not drawn keep its values. Without a path, it is the marked point.
        loss: The loss.
        data: (x, y) or (x, y, weight), arrays; x of the model's own numbers.
        path: The points of the descent: ``TraceSteps().steps(run)``, or an array (points, 2) of the two parameters, or
            (points, parameters) of copies of ``model.parameters.vector``. None marks where the model is.
        places: The places of the two parameters in ``model.parameters.vector``. None takes those that are trained, if
            they are two.
        span: The range of each parameter, ((low, high), (low, high)). None encloses the path.
        resolution: Points of the grid along each axis; the model predicts all of the data at each one.
        axis: The axes to draw on; None makes a figure.

    Raises:
        SettingsError: ``places`` is missing or names no two parameters, or ``span`` is not two ranges.
        ShapeError: The path or the data has another shape.
        DataError: The path is empty, or a value is not finite.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> from framework.training import TraceSteps
        >>> neuron, trace = Neuron(1), TraceSteps()
        >>> data = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=30, callbacks=[trace]
        ... )
        >>> run = trainer.fit(neuron, data)
        >>> axis = loss_surface(neuron, HalfSquaredError(), data, trace.steps(run), axis=Figure().subplots())
        >>> axis.get_xlabel(), axis.get_ylabel(), len(axis.lines[0].get_xdata())
        ('weights[0]', 'bias', 31)

    Source:
        Bishop, Pattern recognition and machine learning (2006), section 5.2 and figure 5.5.
    """
    style.require_model(model, "loss_surface")
    style.require_whole(resolution, 2, "plots.loss_surface: argument 'resolution'")
    copy = model.copy()
    vector = copy.parameters.vector
    names = _names(copy)
    first, second = _places(model, names, places)
    start = np.array(vector)
    points = _points(path, start, (first, second))
    x_range, y_range = style.enclosing(points, 0.35) if span is None else style.two_spans(span, "loss_surface")
    horizontal, vertical = np.linspace(*x_range, resolution), np.linspace(*y_range, resolution)
    measured = _measure(copy, loss, data)

    def loss_at(pair: Any) -> float:
        vector[[first, second]] = pair
        return measured()

    surface = np.array([[loss_at((w, v)) for w in horizontal] for v in vertical])
    finite = surface[np.isfinite(surface)]
    if not finite.size:
        raise DataError("plots.loss_surface: the loss is nowhere finite in this range; choose another 'span'")
    low, high = float(finite.min()), float(finite.max())
    levels = low + (high - low or 1.0) * np.linspace(0.0, 1.0, 16) ** 2  # closer together near the minimum
    axis = style.axes(axis, "loss_surface", width=6.4, height=4.8)
    style.contours(axis, horizontal, vertical, surface, levels, f"loss, {type(loss).__name__}")
    stroke = load_module("matplotlib.patheffects", "plots.loss_surface").withStroke(linewidth=3.5, foreground="black")
    handles = []
    if len(points) > 1:
        kind = ".-" if len(points) <= 200 else "-"
        label = f"{len(points) - 1} steps"
        handles += axis.plot(*points.T, kind, color="white", markersize=6, linewidth=1.4, label=label)
        handles += axis.plot(
            *points[0], "o", color="white", markersize=8, label=f"start: {figure(loss_at(points[0]), digits=4)}"
        )
    where = "end" if len(points) > 1 else "loss here"
    handles += axis.plot(
        *points[-1], "*", color="white", markersize=15, label=f"{where}: {figure(loss_at(points[-1]), digits=4)}"
    )
    for drawn in handles:
        drawn.set_path_effects([stroke])
    axis.set(xlim=x_range, ylim=y_range, xlabel=names[first], ylabel=names[second])
    style.legend(axis, handles)
    return axis


def _names(model: Any) -> list[str]:
    """Return the name of each number of a model's vector; the model is a copy, which this fills with other numbers."""
    vector = model.parameters.vector
    kept = np.array(vector)
    vector[...] = np.arange(vector.size)
    names = [""] * vector.size
    for name, view in model.parameters.items():
        for index, number in np.ndenumerate(view):
            names[int(number)] = f"{name}[{', '.join(map(str, index))}]" if index else name
    vector[...] = kept
    return names


def _places(model: Any, names: list[str], places: Any) -> tuple[int, int]:
    trained = [index for run in model.parameters.trainable_runs() for index in range(run.start, run.stop)]
    chosen = trained if places is None else places
    if not (
        isinstance(chosen, Sequence)
        and len({*chosen}) == len(chosen) == 2
        and all(isinstance(index, int) and 0 <= index < len(names) for index in chosen)
    ):
        listed = ", ".join(f"{index}: {name}" for index, name in enumerate(names[:8]))
        got = f"{len(trained)} of them are trained" if places is None else f"got {brief(places)}"
        raise SettingsError(
            "plots.loss_surface: argument 'places' must be the places of two parameters, as (0, 1); "
            f"{got}. The model has {listed}{', ...' if len(names) > 8 else ''}"
        )
    first, second = chosen
    return first, second


def _points(path: Any, vector: Array, places: tuple[int, int]) -> Array:
    """Return the points of a path, (points, 2)."""
    if path is None:
        return vector[None, places]
    steps = [*path] if isinstance(path, Iterable) else [path]
    if not steps:
        raise DataError("must hold a point or more; it is empty", name="plots.loss_surface: argument 'path'")
    if all(hasattr(step, "new_weights") for step in steps):
        rows = [np.append(step.weights, step.bias) for step in steps]
        steps = [*rows, np.append(steps[-1].new_weights, steps[-1].new_bias)]
    points = real_array(steps, "plots.loss_surface: argument 'path'", np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, vector.size):
        raise ShapeError(
            "plots.loss_surface: argument 'path' must hold steps of TraceSteps, or have the shape (points, 2)"
            f"{f' or (points, {vector.size})' if vector.size != 2 else ''}; got {points.shape}"
        )
    require_finite(points, "plots.loss_surface: argument 'path'")
    return points[:, places] if points.shape[1] == vector.size else points


def _measure(model: Any, loss: Any, data: Any) -> Callable[[], float]:
    """Return a function that gives the loss of a model on the data, with its parameters of that moment."""
    name = "plots.loss_surface: argument 'data'"
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise SettingsError("must be (x, y) or (x, y, weight)", name=name, got=data)
    if not hasattr(loss, "output_sums"):
        raise SettingsError("must be a loss", name="plots.loss_surface: argument 'loss'", got=loss)
    x = real_tree(data[0], f"{name}: x", model.dtype)
    model.require_batch(map_leaves(np.shape, x), f"{name}: x")
    map_leaves(lambda leaf: require_finite(leaf, f"{name}: x"), x)
    weight = None if len(data) == 2 or data[2] is None else real_array(data[2], f"{name}: weight", model.dtype)
    activation = model.output_activation
    y = loss.form_targets(data[1], model.output(x)[1].shape, model.dtype, f"{name}: y")

    def measure_loss() -> float:
        with np.errstate(all="ignore"):
            return float(loss.result(*loss.output_sums(activation, *model.output(x), y, weight)))

    return measure_loss
