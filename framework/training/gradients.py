"""Gradients, checked: a whole model against differences of its loss, and a whole run against a plain NumPy one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import DataError, DerivativeError, brief
from framework.base.random_streams import random_generator
from framework.base.settings.messages import word_errors
from framework.base.tables import as_html, as_text, bold
from framework.base.trees import flatten, map_leaves, real_tree, sample_shape
from framework.formulas.derivatives import Bounds, derivative_bounds
from framework.formulas.losses import Loss
from framework.models import Model
from framework.training.callbacks import on
from framework.training.loop import train
from framework.training.runs.run import Run
from framework.training.trainer import Trainer


@dataclass(frozen=True)
class GradientRow:
    """The worst element of one parameter.

    Attributes:
        parameter: Its name, or ``"x"`` for the input, ``"x['city']"`` for one of several.
        element: The index of the worst element.
        analytic: The gradient that backward gives.
        numeric: The gradient by differences.
        relative_error: How far the gradient is outside the error bounds of the differences, over the larger of both, or
            over a ten-thousandth of the largest gradient.
    """

    parameter: str
    element: tuple[int, ...]
    analytic: float
    numeric: float
    relative_error: float


@dataclass(frozen=True)
class GradientReport:
    """The result of ``check_gradients``: a row for each parameter and one for the input.

    Attributes:
        rows: The rows.
        tolerance: The relative error that is allowed.
    """

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every relative error is within the tolerance."""
        return all(row.relative_error <= self.tolerance for row in self.rows)

    def __str__(self) -> str:
        return as_text(self._table())

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows, wrong gradients in bold."""
        head, *cells = self._table()
        marked = [
            cell if row.relative_error <= self.tolerance else [*map(bold, cell)]
            for row, cell in zip(self.rows, cells, strict=True)
        ]
        said = "passed" if self.passed else "failed"
        return f"{as_html([head, *marked], left=2)}<div>{said}, tolerance {self.tolerance:g}</div>"

    def _table(self) -> list[Sequence[str]]:
        header = ("parameter", "worst element", "analytic", "numeric", "relative error")
        cells = [
            (r.parameter, str(list(r.element)), f"{r.analytic:.9g}", f"{r.numeric:.9g}", f"{r.relative_error:.1e}")
            for r in self.rows
        ]
        return [header, *cells]


@word_errors
def check_gradients(
    model: Model, loss: Loss, x: Any, y: Any, weight: Any = None, *, tolerance: float = 1e-5, elements: int = 20
) -> GradientReport:
    """Compare every parameter's gradient, and the input's, with differences of the loss on both sides.

    Where the loss has a kink, as at pixels and biases of 0, a nearby point decides: where several kinks meet,
    the conventions at each of them may add up to a slope of neither side.

    Args:
        model: The model; a copy is worked on.
        loss: The loss.
        x: Rows of inputs: an array, or a dict of arrays by name.
        y: Their targets: an array, or a dict of arrays by name.
        weight: One weight per row, or None.
        tolerance: The relative error that is allowed.
        elements: How many elements of each array are tried, at most: always the same ones.

    Returns:
        A report that prints as a table.

    Raises:
        DataError: The model is not of dtype float64, whose digits differences need; or no element is to be tried.
        DerivativeError: A gradient is wrong; the message is the table.

    Example:
        >>> from framework import Dense, MeanSquaredError, Sequential, Tanh
        >>> model = Sequential(Dense(2, 3, Tanh()), Dense(3, 1))
        >>> report = check_gradients(model, MeanSquaredError(), [[0.5, -1.0], [2.0, 0.1]], [[1.0], [0.0]])
        >>> report.passed, [row.parameter for row in report.rows]
        (True, ['0.weights', '0.bias', '1.weights', '1.bias', 'x'])
    """
    if not elements >= 1:
        raise DataError("must be 1 or more", name="check_gradients: argument 'elements'", got=elements)
    model = model.copy()
    model.parameters.unfreeze()
    if model.dtype != "float64":
        raise DataError(f"the model must be of dtype float64; got {model.dtype}", where="check_gradients")
    inputs = map_leaves(np.array, real_tree(x, "check_gradients: argument 'x'", np.float64))
    key = (0, 0, 0)

    def value() -> float:
        model.forward(inputs, key=key)
        return loss.backward(model, y, weight)

    def gradients() -> dict[str, Array]:
        value()
        slopes = {name: gradient.copy() for name, gradient in model.parameters.gradients.items()}
        prediction = model.forward(inputs, key=key)
        target = loss.form_targets(y, map_leaves(np.shape, prediction), model.dtype)
        return slopes | flatten(model.backward(loss.gradient(prediction, target, weight)))

    arrays = {name: (view, np.inf) for name, view in model.parameters.items()}
    parameters = [*arrays]
    limits = flatten(model.cardinalities(sample_shape(inputs)))
    for leaf, array in flatten(inputs).items():
        if not np.isfinite(limits[leaf]).all():  # ids have no gradient
            arrays[leaf] = (array, limits[leaf])
    rows = tuple(_compare_elements(arrays, parameters, value, gradients, elements))
    report = GradientReport(rows, tolerance)
    if not report.passed:
        raise DerivativeError(f"the gradients of {type(model).__name__} with {loss!r} are wrong:\n{report}")
    return report


def _compare_elements(
    arrays: Mapping[str, tuple[Array, Any]],
    parameters: Sequence[str],
    value: Callable[[], float],
    gradients: Callable[[], Mapping[str, Array]],
    elements: int,
) -> list[GradientRow]:
    """Return the worst element of each array; for each the first point decides at which the loss has no kink."""
    left = [(name, index) for name, pair in arrays.items() for index in _choose_elements(name, *pair, elements)]
    kept = {name: array.copy() for name, (array, _) in arrays.items()}
    compared: dict[tuple[str, tuple[int, ...]], GradientRow] = {}
    for moved in ([], parameters, [*arrays]):
        for name in moved:
            array, limit = arrays[name]
            shift = random_generator(0, f"beside {name}").uniform(-1.0, 1.0, array.shape) * 2.0**-7
            array += np.where(np.isinf(limit), shift * np.maximum(1.0, np.abs(array)), 0.0)
        slopes = gradients() if left else {}
        scale = max((float(np.max(np.abs(slope), initial=0.0)) for slope in slopes.values()), default=0.0)
        results = {key: _compare(*key, arrays[key[0]][0], value, slopes, scale) for key in left}
        compared |= {key: row for key, (row, _) in results.items()}
        left = [key for key, (row, kinked) in results.items() if kinked and np.isfinite(row.relative_error)]
        for name, (array, _) in arrays.items():
            array[...] = kept[name]
    rows = [*compared.values(), *(GradientRow(name, (), 0.0, 0.0, 0.0) for name in arrays)]
    rows.sort(key=lambda row: (row.relative_error, abs(row.analytic)), reverse=True)
    return [next(row for row in rows if row.parameter == name) for name in arrays]


def _choose_elements(name: str, array: Array, limit: Any, elements: int) -> list[tuple[int, ...]]:
    """Return the indices of the elements to try, of many always the same ones; ids have no gradient."""
    indices = [tuple(index) for index in np.argwhere(np.broadcast_to(np.isinf(limit), array.shape)).tolist()]
    if len(indices) <= elements:
        return indices
    chosen = random_generator(0, f"check {name}").choice(len(indices), elements, replace=False)
    return [indices[i] for i in sorted(chosen)]


def _compare(
    name: str,
    index: tuple[int, ...],
    array: Array,
    value: Callable[[], float],
    slopes: Mapping[str, Array],
    scale: float,
) -> tuple[GradientRow, bool]:
    """Return how an element's gradient compares with differences, and whether the loss has a kink there."""
    analytic = float(slopes[name][index])
    bounds = _bounds_by_element(value, array, index)
    low, high = float(bounds.low[0]), float(bounds.high[0])  # both sides of a kink, and what rounding leaves open
    numeric = min(max(analytic, low), high) if np.isfinite(analytic) else low
    size = max(abs(analytic), abs(numeric), 1e-4 * scale, 1e-300)
    error = abs(analytic - numeric) / size if np.isfinite(analytic) else np.inf
    left, right = float(bounds.left[0]), float(bounds.right[0])
    kinked = abs(left - right) > 1e-3 * max(abs(left), abs(right))
    return GradientRow(name, index, analytic, float(bounds.middle[0]), error), kinked


@word_errors
def numerical_gradient(function: Callable[[Array], float], x: Any) -> Array:
    """Return the gradient of a number with respect to each element of ``x``, by differences on both sides.

    Args:
        function: From an array of x's shape to a number.
        x: Where, an array of float64.

    Example:
        >>> numerical_gradient(lambda x: float(np.sum(x**2)), [1.0, 2.0]).round(6)
        array([2., 4.])
    """
    point = np.array(x, dtype=np.float64)
    slopes = [_bounds_by_element(lambda: function(point), point, i).middle[0] for i in np.ndindex(point.shape)]
    return np.reshape(slopes, point.shape)


def _bounds_by_element(value: Callable[[], float], array: Array, index: tuple[int, ...]) -> Bounds:
    """Bound the derivative of a number by an element of the array that it is computed from."""
    kept = float(array[index])

    def values_at(at: Array) -> Array:
        values = []
        for number in at[:, 0]:
            array[index] = number
            values.append([value()])
        array[index] = kept
        return np.array(values)

    return derivative_bounds(values_at, np.array([kept]), 2.0**-15 * max(1.0, abs(kept)))


@dataclass(frozen=True)
class StepComparison:
    """The result of ``compare_steps``.

    Attributes:
        steps: How many steps were compared.
        first_step: The first step, from 1, after which the two differ; None when they never do.
        parameter: The name of the first parameter that differs then.
        ulps: By how many units in the last place its worst element differs then.
        values: That element in the loop and in the reference; None when they never differ.
        largest_ulps: The largest such distance over all steps and parameters.
        tolerance: The relative error that counts as equal.
    """

    steps: int
    first_step: int | None
    parameter: str | None
    ulps: float
    values: tuple[float, float] | None
    largest_ulps: float
    tolerance: float

    def __str__(self) -> str:
        if self.values is None:
            return f"equal {f'up to {self.tolerance}' if self.tolerance else 'to the last bit'} over {self.steps} steps"
        rounding = f", {self.ulps:.3g} ulps apart" if self.ulps < 1e6 else ""
        loop, reference = (f"{value!r}" if rounding else f"{value:.6g}" for value in self.values)
        return (
            f"they differ from step {self.first_step} of {self.steps} on, in '{self.parameter}': "
            f"{loop} in the loop, {reference} in the reference{rounding}"
        )


@word_errors
def compare_steps(
    loop: Trainer | Callable[[], Mapping[str, Any]],
    reference: Callable[..., Mapping[str, Any]],
    *,
    model: Model | None = None,
    data: Any = None,
    steps: int = 100,
    tolerance: float = 0.0,
) -> StepComparison:
    """Compare training with a plain NumPy step function, step by step, to prove that a port is right.

    Args:
        loop: A Trainer, with ``model`` and ``data``; or a function that makes one step and returns parameters by name.
        reference: A function that makes one step in plain NumPy and returns the parameters by name. If ``loop`` is
            a Trainer, it takes each batch: step(x, y).
        model: The model for the trainer; a copy is trained.
        data: The data for the trainer.
        steps: How many steps to compare at most.
        tolerance: The error that is allowed, relative to the largest number of a parameter; 0 asks for equality.

    Returns:
        The first step, parameter and distance in units in the last place at which they differ.

    Raises:
        DataError: The reference has no parameter of that name or shape, or a Trainer comes without model and data.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> w = np.array([0.5])
        >>> def notebook(x, y):
        ...     global w
        ...     w = w - 0.25 * ((x @ w - y) * x.T).mean(axis=1)
        ...     return {"weights": w}
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.25), batch_size=1, epochs=2
        ... )
        >>> neuron = Neuron.from_weights([0.5], train_bias=False)
        >>> print(compare_steps(trainer, notebook, model=neuron, data=([[1.0], [2.0]], [1.0, 2.0])))
        equal to the last bit over 4 steps
    """
    pairs: list[tuple[int, str, float, tuple[float, float]]] = []
    if isinstance(loop, Trainer):
        if model is None or data is None:
            raise DataError("a Trainer needs model=... and data=...", where="compare_steps")
        count = itertools.count(1)

        def compare(run: Run) -> None:
            if run.current is not None and run.step <= steps:
                x, y = (map_leaves(np.copy, tree) for tree in run.current[:2])
                pairs.extend(_distances(run.model.parameters, reference(x, y), next(count), tolerance))
            if run.step >= steps:
                run.stop("compare_steps")

        trainer = loop.replace(callbacks=(*loop.callbacks, on("batch_end")(compare)))
        made = train(trainer, model.copy(), data).step
    else:
        made = steps
        for step in range(1, steps + 1):
            pairs.extend(_distances(loop(), reference(), step, tolerance))
    largest = max((ulps for _, _, ulps, _ in pairs), default=0.0)
    first, name, ulps, values = next((pair for pair in pairs if pair[2] > 0), (None, None, 0.0, None))
    return StepComparison(made, first, name, ulps, values, largest, tolerance)


def _distances(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], step: int, tolerance: float
) -> Iterator[tuple[int, str, float, tuple[float, float]]]:
    """Yield the step, each parameter, its distance in ulps, 0 within the tolerance, and its worst element in both."""
    if not isinstance(theirs, Mapping) or not theirs:
        got = "nothing; write return" if theirs is None else brief(theirs)
        raise DataError(f"compare_steps: the reference must return its parameters by name, as a dict; got {got}")
    for name, value in theirs.items():
        if name not in ours:
            raise DataError(f"the model has no parameter '{name}'; it has {', '.join(ours)}", where="compare_steps")
        a, b = np.asarray(ours[name]), np.asarray(value)
        if b.dtype.kind not in "biuf":
            raise DataError(f"'{name}' must be numbers; the reference gives {brief(value)}", where="compare_steps")
        if a.shape != b.shape:
            raise DataError(f"compare_steps: '{name}' must have the shape {a.shape}; the reference gives {b.shape}")
        b = b.astype(a.dtype)
        spacing = np.spacing(np.maximum(np.abs(a), np.abs(b)).astype(a.dtype))
        with np.errstate(invalid="ignore"):
            equal = np.isclose(a, b, rtol=0.0, atol=tolerance * np.abs(a).max(initial=0.0), equal_nan=True)
            ulps = np.where(equal, 0.0, np.abs(a - b) / spacing)
            ulps = np.where(np.isnan(ulps), np.inf, ulps)
        if ulps.size:
            worst = np.unravel_index(ulps.argmax(), ulps.shape)
            yield step, name, float(ulps[worst]), (float(a[worst]), float(b[worst]))
