"""Check labels, ranges and outputs that a loss has no meaning for."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any, Protocol

import numpy as np

from framework.arrays import LARGEST, Array, first_place, real_array, require_finite
from framework.emit.step import Pass, Pattern
from framework.errors import DataError, DivergedError, SettingsError, ShapeError
from framework.settings.component import Component, name_of, require_function


class Output(Protocol):
    """A model, as a loss sees it: its last forward, its output activation, and the way back."""

    @property
    def output_activation(self) -> Any:
        """The activation of the output layer, or None."""

    @property
    def _state(self) -> Any:
        """The state of the model."""

    def recorded(self) -> Pass:
        """Return the last forward pass."""

    def again(self, done: Pass, *patterns: Pattern) -> Pass:
        """Return a forward pass again, for a backward pass from these patterns."""


def require_classes(array: Array, classes: int, name: str) -> Array:
    """Return labels as integers, which must lie in 0..classes-1.

    Raises:
        DataError: A label is out of range or fractional.

    Example:
        >>> require_classes(np.array([0.0, 2.0]), 3, "y")
        array([0, 2])
    """
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    if not (whole and array.min(initial=0) >= 0 and array.max(initial=0) < classes):
        good = (array >= 0) & (array < classes) & (array == np.floor(array))
        row = int(np.argmin(good))
        raise DataError(
            f"{name} must have integer labels in 0..{classes - 1}; got {array[row]} at row {row} "
            f"({int((~good).sum())} of {len(array)} rows)"
        )
    return array.astype(np.intp, copy=False)


def require_range(name: str, target: Array, low: float, high: float, advice: str) -> None:
    """Refuse targets outside [low, high].

    Raises:
        DataError: A target is out of range.
    """
    if target.size and (target.min() < low or target.max() > high):
        first = first_place((target < low) | (target > high))
        where = f" at row {first[0]}" if first else ""
        raise DataError(f"{name} must lie in [{low:g}, {high:g}]; got {target[first]}{where}. {advice}")


def require_output_range(loss: Component, activation: Any, low: float, high: float, advice: str) -> None:
    """Refuse an output activation whose range reaches outside [low, high]; an unknown range passes.

    Raises:
        SettingsError: The range does not fit.
    """
    output_range = getattr(activation, "output_range", None)
    if output_range is not None and (output_range[0] < low or output_range[1] > high):
        raise SettingsError(
            f"{type(loss).__name__} needs outputs in [{low:g}, {high:g}]; {activation!r} gives "
            f"[{output_range[0]:g}, {output_range[1]:g}]. {advice}"
        )


def require_weights(weight: Any, rows: int, name: str, dtype: Any) -> Array:
    """Return sample weights (rows,) as an array.

    Raises:
        ShapeError: There is not one weight per row.
        DataError: A weight is negative or not finite, or their sum is too large for the dtype.
    """
    array = real_array(weight, name, dtype)
    if array.shape != (rows,):
        raise ShapeError(f"{name} must have one weight per row, ({rows},); got {array.shape}")
    require_finite(array, name, weight)
    if array.size and array.min() < 0:
        first = int(np.argmax(array < 0))
        raise DataError(f"{name} must not be negative; got {array[first]} at row {first}")
    with np.errstate(over="ignore"):
        total = float(np.add.reduce(array, dtype=np.float64))
    if total > LARGEST[array.dtype]:
        raise DataError(f"{name} must have a sum that {array.dtype} holds; got {total:g}; divide by the largest weight")
    return array


OVERFLOWS = 1e6
"""Outputs of this size and more have diverged, so that it is not the loss alone that is wrong."""


def diverged(loss: Component, values: Any, a: Array, h: Array | None = None) -> DivergedError:
    """Return an error that says at which row of a batch a loss is not finite.

    It is given the values, the outputs a, and h where the loss works on h.
    """
    numbers = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(numbers)
    place = first_place(bad) if bad.any() else ()
    row = place[0] if place else 0
    advice = "Lower the learning rate, standardise the inputs, or clip the gradient"
    suited = getattr(loss, "suited", None) if h is None else None
    end = f": end the model with {suited.__name__}()" if suited else ""
    given, shown = (a, f"the output is {a[row]}") if h is None else (h, f"the output is {a[row]}, of h = {h[row]}")
    if suited and place and np.isinf(numbers[place]) and np.isfinite(a[row]).all():
        advice = f"The loss is infinite for this output{end}"
    elif place and np.isinf(numbers[place]) and ":" in loss.tag() and np.abs(given[row]).max() < OVERFLOWS:
        advice = (
            "The formula of the loss overflows there: standardise the target, or write the formula so that it cannot "
            "overflow, such as np.logaddexp(0, 2 * e) for np.log1p(np.exp(e)**2)"
        )
        if h is not None and np.isin(a[row], (0.0, 1.0)).any():
            advice = (
                "A probability p is 0 or 1 there, and the formula takes the logarithm of a sum with it: take that of p "
                "and of 1 - p alone, as target * np.log(p) + (1 - target) * np.log(1 - p), which has a stable form"
            )
    elif place and np.isnan(numbers[place]):
        if np.isfinite(given[row]).all():
            own = (
                ". In a loss of your own, guard 0 / 0 with np.where, and make a number above 0, such as a variance, by "
                "np.exp of an output"
            )
            advice = f"The loss has no value for this output{end}{own if ':' in loss.tag() else ''}"
        elif np.isnan(given[row]).any():
            advice = (
                "A formula in the model gives 0 / 0 or inf - inf: guard it with np.where, or, where the numbers have "
                "grown, lower the learning rate"
            )
    error = DivergedError(
        f"{type(loss).__name__}: the loss is not finite, first at row {{row}} of the batch, where {shown}; the update "
        f"was not applied. {advice}"
    )
    error.row = int(row)
    return error


def require_distributions(name: str, target: Array) -> None:
    """Check that every row is a distribution over the classes.

    Raises:
        DataError: A number is outside [0, 1], or a row does not sum to 1.

    Example:
        >>> require_distributions("y", np.array([[0.5, 0.6]]))
        Traceback (most recent call last):
        framework.errors.DataError: y must have rows that sum to 1; row 0 sums to 1.1
    """
    require_range(name, target, 0.0, 1.0, "Give integer classes (rows,), or one distribution per row")
    bad = np.abs(target.sum(axis=-1) - 1.0) > 1e-4
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{name} must have rows that sum to 1; row {row} sums to {target[row].sum():g}")


def require_pair(made_by: str, function: Any, *further: str) -> None:
    """Check that a plain function takes (prediction, target), in this order, and the further names.

    Raises:
        SettingsError: It does not.
    """
    require_function(made_by, function, "prediction", "target", *further)
    if isinstance(function, FunctionType):
        require_prediction_first(f"{made_by}: {name_of(function)}", function)


def require_prediction_first(label: str, function: Any) -> None:
    """Refuse a formula whose first argument is named as the target: the order is (prediction, target).

    Raises:
        SettingsError: It begins with ``y_true``, ``target`` or the like.
    """
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    if names and names[0] in {"y_true", "y", "true", "target", "targets", "label", "labels"}:
        raise SettingsError(f"{label} must take (prediction, target) in this order; got {tuple(names)}")
