"""Derivatives, checked: a written derivative is compared with the formula before it is put to work.

Finite differences are taken on both sides of every point, so that a kink is told from a mistake: at a kink any value
between the two sides is right. Only points at which the formula is finite are judged. The tolerance follows the scale
of the formula and the error that the differences themselves estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.errors import DerivativeError

_MAGNITUDES = (1e-30, 1e-8, 1e-3, 0.05, 0.3, 0.7, 1.0, 1.6, 2.3, 3.0, 4.5, 6.0, 9.0, 15.0, 27.0, 40.0, 110.0, 700.0)
POINTS: Array = np.array([*(-m for m in reversed(_MAGNITUDES)), -0.0, 0.0, *_MAGNITUDES])
"""Where elementwise formulas are checked: both signs, zero, tiny, moderate, saturated and large."""

SURE = 50.0
"""Up to this size of h a derivative must be finite wherever its formula is; beyond, formulas may overflow."""


@dataclass(frozen=True)
class Bounds:
    """What a derivative may be at each point, by finite differences.

    Attributes:
        low: The smallest derivative that agrees.
        high: The largest.
        middle: The best estimate.
        judged: Where the formula is finite around the point.
    """

    low: Array
    high: Array
    middle: Array
    judged: Array


def derivative_bounds(formula: Callable[[Array], Array], points: Array) -> Bounds:
    """Bound the derivative of an elementwise formula at points, from differences on both sides.

    On each side the differences over three steps are extrapolated to step 0 twice; their change is the error estimate.

    Example:
        >>> bounds = derivative_bounds(np.abs, np.array([0.0, 2.0]))
        >>> bounds.low.round(3).tolist(), bounds.high.round(3).tolist()
        ([-1.0, 1.0], [1.0, 1.0])

    Source:
        Press et al., Numerical recipes, 3rd edition, section 5.7.
    """
    step = 2.0**-17 * np.maximum(1.0, np.abs(points))
    offsets = np.array([0.0, 1.0, 0.5, 0.25, -1.0, -0.5, -0.25])[:, None] * step
    at = points + offsets
    with np.errstate(all="ignore"):
        values = np.asarray(formula(at.reshape(-1)), dtype=np.float64).reshape(at.shape)
        quotients = (values[1:] - values[0]) / (at[1:] - points)
        noise = 1e-15 * np.max(np.abs(values), axis=0) / (0.25 * step)
        lows, highs, middles = [], [], []
        judged = np.isfinite(values).all(axis=0)
        for whole, half, quarter in (quotients[:3], quotients[3:]):
            # A quotient that grows as the step shrinks tells of a jump or a pole within the step: no slope to judge.
            judged &= ~((np.abs(quarter) > 1.2 * np.abs(half)) & (np.abs(half) > 1.2 * np.abs(whole)))
            coarse, fine = 2.0 * half - whole, 2.0 * quarter - half
            error = 2.0 * np.abs(fine - coarse) + 1e-5 * np.abs(fine) + 4.0 * noise
            lows.append(fine - error)
            highs.append(fine + error)
            middles.append(fine)
    return Bounds(np.minimum(*lows), np.maximum(*highs), 0.5 * (middles[0] + middles[1]), judged)


def check_elementwise(
    name: str,
    formula: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    *,
    method: str,
    argument: str,
    traced: str | None = None,
    alternative: tuple[Callable[[Array], Array], str] | None = None,
    factors: dict[str, float] | None = None,
    points: Array = POINTS,
) -> None:
    """Compare a derivative with the differences of its formula at every point.

    Args:
        name: The class, for the message.
        formula: The formula.
        derivative: What it is said to be, at the same points.
        method: The name of the derivative's method.
        argument: The name of the formula's argument.
        traced: The derived derivative as text, for the message.
        alternative: Another reading of the derivative, and what it means when that is the right one.
        factors: Named numbers that may explain a constant factor.
        points: Where to look.

    Raises:
        DerivativeError: They differ; says where, by how much, and what is probably meant.
    """
    given_points = points.copy()
    with np.errstate(all="ignore"):
        given = np.asarray(derivative(given_points), dtype=np.float64)
    if not np.array_equal(given_points, points):
        raise DerivativeError(
            f"{name}.{method} changes its argument in place; make a new array: '{argument} = {argument} * 2', "
            f"not '{argument} *= 2'"
        )
    if given.shape != points.shape:
        raise DerivativeError(
            f"{name}.{method} must have the shape of {argument}, {points.shape}; got {given.shape}; "
            "use NumPy functions that work element by element"
        )
    bounds = derivative_bounds(formula, points)
    with np.errstate(all="ignore"):
        slack = 1e-5 * np.abs(given)
        wrong = ~((given >= bounds.low - slack) & (given <= bounds.high + slack))
    wrong &= bounds.judged & (np.isfinite(given) | (np.abs(points) <= SURE))
    if not wrong.any():
        return
    with np.errstate(all="ignore"):
        relative = np.abs(given - bounds.middle) / (np.abs(given) + np.abs(bounds.middle))
    clear = wrong & ~(relative < 0.1)
    distance = np.abs(np.log(np.maximum(np.abs(points), 1e-30)))  # the clearest example: of moderate size
    place = int(np.argmin(np.where(clear if clear.any() else wrong, distance, np.inf)))
    meant = _diagnosis(given, bounds, points, alternative, factors or {})
    lines = [
        f"{name}.{method} is wrong at {argument} = {points[place]:.6g}: it gives {given[place]:.9g}, "
        f"but the slope of the formula there is {bounds.middle[place]:.9g}"
    ]
    if traced is not None:
        lines.append(f"derived from the formula: {traced}")
    lines.append(meant or f"leave {method} out and it is derived from the formula, or correct it")
    raise DerivativeError("\n".join(lines))


def _agrees(values: Array, bounds: Bounds, points: Array) -> bool:
    """Whether these values are right at all points that are judged and not extreme."""
    seen = bounds.judged & (np.abs(points) <= SURE)
    slack = 1e-4 * np.abs(values)
    return bool(seen.any() and np.all((values >= bounds.low - slack)[seen] & (values <= bounds.high + slack)[seen]))


def _diagnosis(
    given: Array,
    bounds: Bounds,
    points: Array,
    alternative: tuple[Callable[[Array], Array], str] | None,
    factors: dict[str, float],
) -> str | None:
    """Say what is probably meant, when one simple change makes the derivative right everywhere."""
    with np.errstate(all="ignore"):
        if _agrees(-given, bounds, points):
            return "the sign is wrong: it is minus the derivative"
        if alternative is not None:
            compute, meaning = alternative
            if _agrees(np.asarray(compute(points), dtype=np.float64), bounds, points):
                return meaning
        # The median ratio, over points where both are far from 0.
        clear = bounds.judged & (np.abs(points) <= SURE) & np.isfinite(given)
        scale = 1e-4 * float(np.max(np.abs(bounds.middle), where=clear, initial=0.0))
        clear &= (np.abs(given) > scale) & (np.abs(bounds.middle) > scale)
        if np.count_nonzero(clear) >= 3:
            ratio = float(np.median(bounds.middle[clear] / given[clear]))
            if np.isfinite(ratio) and _agrees(given * ratio, bounds, points):
                named = [f" ({text})" for text, value in factors.items() if np.isclose(value, ratio, rtol=1e-3)]
                return f"a constant factor is missing: the derivative is {ratio:.6g}{''.join(named[:1])} times that"
    return None


def named_factors(settings: dict[str, Any]) -> dict[str, float]:
    """Return the simple expressions of a formula's numeric settings that could be a missing factor."""
    factors: dict[str, float] = {}
    for name, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1, -1):
            factors |= {name: float(value), f"1 / {name}": 1.0 / value, f"{name} ** 2": float(value) ** 2}
    return factors


def require_elementwise(name: str, formula: Callable[[Array], Array], argument: str = "h") -> None:
    """Refuse a formula that changes its argument, or in which one element changes another one's output.

    Raises:
        DerivativeError: It does.
    """
    h = np.array([-0.7, 0.3, 1.6])
    kept = h.copy()
    with np.errstate(all="ignore"):
        before = np.array(formula(h))
        if not np.array_equal(h, kept):
            raise DerivativeError(f"{name}.__call__ changes its argument in place; make a new array instead")
        if before.shape != h.shape:
            raise DerivativeError(
                f"{name}.__call__ must keep the shape of {argument}, {h.shape}; got {before.shape}; "
                "use NumPy functions that work element by element"
            )
        moved = h.copy()
        moved[1] += 0.5
        after = np.array(formula(moved))
    others = np.array([True, False, True])
    if not np.array_equal(before[others], after[others], equal_nan=True):
        raise DerivativeError(
            f"{name}.__call__ couples elements: changing {argument}[1] changed the output of {argument}[0]; "
            "an Activation works on each element alone, a formula over a row subclasses RowActivation"
        )


def check_rows(
    name: str,
    method: str,
    formula: Callable[[Array], Array],
    pullback: Callable[[Array, Array], Array],
    rows: Array,
    *,
    traced: str | None = None,
) -> None:
    """Compare the gradient of a formula over rows with differences, one element perturbed at a time.

    Args:
        name: The class, for the message.
        method: The name of the derivative's method.
        formula: Rows (n, k) to (n, k) or (n,).
        pullback: (gradient, rows) to dL/drows.
        rows: Where to look, (n, k).
        traced: A remark for the message.

    Raises:
        DerivativeError: They differ; says where.
    """
    kept = rows.copy()
    with np.errstate(all="ignore"):
        value = np.asarray(formula(rows), dtype=np.float64)
        gradient = np.cos(np.arange(1.0, value.size + 1.0)).reshape(value.shape)
        given = np.asarray(pullback(gradient, rows), dtype=np.float64)
        if not np.array_equal(rows, kept):
            raise DerivativeError(f"{name}.{method} or its formula changes its argument in place; make a new array")
        if given.shape != rows.shape:
            raise DerivativeError(f"{name}.{method} must have the shape of its rows, {rows.shape}; got {given.shape}")
        step = 1e-5 * np.maximum(1.0, np.abs(rows))
        expected = np.empty_like(rows)
        for column in range(rows.shape[1]):
            moved = np.zeros_like(rows)
            moved[:, column] = step[:, column]
            change = gradient * (np.asarray(formula(rows + moved)) - np.asarray(formula(rows - moved)))
            expected[:, column] = change.reshape(len(rows), -1).sum(axis=1) / (2.0 * step[:, column])
        error = np.abs(given - expected)
        allowed = 1e-6 * np.maximum(np.abs(given), np.abs(expected)) + 1e-8 * max(1.0, float(np.nanmax(np.abs(expected))))
    wrong = np.isfinite(expected) & ~(error <= allowed)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        hint = "the sign is wrong" if np.allclose(given, -expected, rtol=1e-4, atol=1e-7) else traced
        raise DerivativeError(
            f"{name}.{method} is wrong at element {list(place)} of the rows {rows.round(3).tolist()}: it gives "
            f"{given[place]:.9g}, but the slope of the formula there is {expected[place]:.9g}"
            + (f"\n{hint}" if hint else "")
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
        width = step * max(1.0, abs(kept))
        point[index] = kept + width
        above = function(point)
        point[index] = kept - width
        below = function(point)
        point[index] = kept
        gradient[index] = (above - below) / (2.0 * width)
    return gradient
