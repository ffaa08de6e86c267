"""Formulas over rows, gradients along a direction, and the gradient of any number by differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.derivatives.elementwise import require_like
from framework.errors import DerivativeError

ROWS: Array = np.array([[0.3, -1.2, 2.0, 0.7], [1.0, 0.2, -0.4, -2.5], [0.9, 0.8, 0.1, 0.6]])
"""Where formulas over rows are checked."""


def check_rows(
    name: str,
    method: str,
    formula: Callable[[Array], Array],
    pullback: Callable[[Array, Array], Array],
    rows: Array,
) -> None:
    """Compare the gradient of a formula over rows with differences, one element perturbed at a time.

    Args:
        name: The class, for the message.
        method: The name of the derivative's method.
        formula: Rows (n, k) to (n, k) or (n,).
        pullback: (gradient, rows) to dL/drows.
        rows: Where to look, (n, k).

    Raises:
        DerivativeError: They differ; says where.
    """
    kept = rows.copy()
    with np.errstate(all="ignore"):
        result = np.asarray(formula(rows))
        require_like(name, "__call__", result, result.shape)
        value = result.astype(np.float64)
        gradient = np.cos(np.arange(1.0, value.size + 1.0)).reshape(value.shape)
        slopes = pullback(gradient, rows)
        if not np.array_equal(rows, kept):
            raise DerivativeError(f"{name}.{method} or its formula changes its argument in place; make a new array")
        require_like(name, method, slopes, rows.shape)
        given = np.asarray(slopes, dtype=np.float64)
        step = 1e-5 * np.maximum(1e-3, np.abs(rows))  # in proportion: a logarithm is steep at a small probability
        expected = np.empty_like(rows)
        for column in range(rows.shape[1]):
            moved = np.zeros_like(rows)
            moved[:, column] = step[:, column]
            change = gradient * (np.asarray(formula(rows + moved)) - np.asarray(formula(rows - moved)))
            expected[:, column] = change.reshape(len(rows), -1).sum(axis=1) / (2.0 * step[:, column])
        error = np.abs(given - expected)
        allowed = 1e-6 * np.maximum(np.abs(given), np.abs(expected)) + 1e-8 * max(
            1.0, float(np.nanmax(np.abs(expected)))
        )
    wrong = np.isfinite(expected) & ~(error <= allowed)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        hint = f"leave {method} out and it is derived from the formula, or correct it"
        if np.allclose(given, -expected, rtol=1e-4, atol=1e-7):
            hint = "the sign is wrong: it is minus the derivative"
        raise DerivativeError(
            f"{name}.{method} is wrong at element {list(place)} of the rows {rows.round(3).tolist()}: it gives "
            f"{given[place]:.9g}, but the slope of the formula there is {expected[place]:.9g}"
            f"\n{hint}"
        )


def check_direction(what: str, value: Callable[[], float], array: Array, gradient: Array) -> None:
    """Compare a gradient with the differences of a number along one direction, on both sides.

    Args:
        what: The gradient, for the message.
        value: Computes the number from ``array`` as it is.
        array: What is moved, and put back.
        gradient: The gradient of the number with respect to it.

    Raises:
        DerivativeError: They differ.
    """
    if array.size == 0:
        return
    direction = np.sin(np.arange(1.0, 1.0 + array.size) ** 1.7).reshape(array.shape)
    kept = array.copy()
    slopes = []
    middle = value()
    for step in (1e-5, -1e-5):
        array[...] = kept + 2.0 * step * direction
        far = value()
        array[...] = kept + step * direction
        slopes.append((4.0 * value() - far - 3.0 * middle) / (2.0 * step))
    array[...] = kept
    given = float(np.sum(gradient * direction))
    scale = max(abs(given), *map(abs, slopes), 1e-6 * float(np.abs(gradient).max()))
    allowed = 1e-5 * scale + 1e-9 * max(1.0, abs(middle))
    if not min(slopes) - allowed <= given <= max(slopes) + allowed:
        expected = 0.5 * sum(slopes)
        raise DerivativeError(
            f"{what} is wrong: along one direction it gives {given:.6g}, but the outputs change by {expected:.6g}"
            + ("; the sign is wrong" if np.isclose(given, -expected, rtol=1e-3) else "")
        )


def numerical_gradient(function: Callable[[Array], float], x: Any, *, step: float = 1e-6) -> Array:
    """Return the gradient of a number with respect to each element of ``x``, by central differences.

    Args:
        function: From an array of x's shape to a number.
        x: Where, an array of float64.
        step: The step relative to max(1, |x|).

    Example:
        >>> numerical_gradient(lambda x: float(np.sum(x**2)), [1.0, 2.0]).round(6)
        array([2., 4.])
    """
    point = np.array(x, dtype=np.float64)
    gradient = np.empty_like(point)
    for index in np.ndindex(point.shape):
        kept = point[index]
        width = step * max(1.0, abs(float(kept)))
        point[index] = kept + width
        above = function(point)
        point[index] = kept - width
        below = function(point)
        point[index] = kept
        gradient[index] = (above - below) / (2.0 * width)
    return gradient
