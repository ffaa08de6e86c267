"""Elementwise formulas: bounds of the slope at each point, the comparison, and what a mistake probably means."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from framework.arrays import Array
from framework.errors import DerivativeError, DtypeError, ShapeError

_MAGNITUDES: tuple[float, ...] = (
    1e-12,
    1e-8,
    1e-3,
    0.05,
    0.3,
    0.7,
    1.0,
    1.6,
    2.3,
    3.0,
    4.5,
    5.3,
    6.0,
    7.5,
    9.0,
    12.0,
    15.0,
    20.0,
)
_MAGNITUDES += (27.0, 40.0, 110.0, 700.0)
POINTS: Array = np.array([*(-m for m in reversed(_MAGNITUDES)), -0.0, 0.0, *_MAGNITUDES])
"""Where elementwise formulas are checked: both signs, zero, tiny, moderate, saturated and large."""

SURE = 50.0
"""Up to this size of h a derivative must be finite wherever its formula is; beyond, formulas may overflow."""


class Checked(Protocol):
    """A formula that checks itself: an activation or a loss."""

    def check_derivative(self) -> None:
        """Raise DerivativeError when a derivative is wrong."""


def check_derivative(formula: Checked) -> None:
    """Compare the derivatives that training uses with the formula itself.

    Training does this by itself, once for a class and its settings; here it can be asked for.

    Args:
        formula: An activation or a loss, elementwise or over rows.

    Raises:
        DerivativeError: A derivative is wrong; says at which point, what it gives, what the formula's slope is there,
            the derivative that is derived from the formula, and what is probably meant.

    Example:
        >>> from framework import Activation
        >>> class Wrong(Activation):
        ...     def __call__(self, h):
        ...         return np.tanh(h)
        ...
        ...     def derivative(self, h):
        ...         return 1 - h**2
        >>> check_derivative(Wrong())
        Traceback (most recent call last):
        framework.errors.DerivativeError: Wrong.derivative is wrong at h = -1: it gives 0, but the slope ...
        derived from the formula: f'(h) = 1 - tanh(h) * tanh(h)
        it is written in terms of the output a: name it derivative_from_output(a)
    """
    formula.check_derivative()


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
        size = np.max(np.abs(values), axis=0)
        usual = np.max(
            size, where=np.isfinite(size) & (np.abs(points) <= 1.0), initial=0.0
        )  # of what may cancel inside
        noise = 1e-15 * np.maximum(size, usual) / (0.25 * step)
        lows, highs, middles = [], [], []
        judged = np.isfinite(values).all(axis=0)
        for whole, half, quarter in (quotients[:3], quotients[3:]):
            # A quotient that grows as the step shrinks tells of a jump or a pole within the step: no slope to judge.
            judged &= ~((np.abs(quarter) > 1.2 * np.abs(half)) & (np.abs(half) > 1.2 * np.abs(whole)))
            coarse, fine = 2.0 * half - whole, 2.0 * quarter - half
            error = 2.0 * np.abs(fine - coarse) + 1e-5 * np.abs(fine) + 4.0 * noise
            judged &= (np.abs(points) <= SURE) | (np.abs(fine - coarse) <= 1e-3 * np.abs(fine) + noise)
            lows.append(fine - error)
            highs.append(fine + error)
            middles.append(fine)
    return Bounds(np.minimum(*lows), np.maximum(*highs), 0.5 * (middles[0] + middles[1]), np.asarray(judged))


def require_like(owner: object, method: str, result: Any, shape: tuple[int, ...]) -> None:
    """Refuse a formula's result that has another shape or is not real.

    Args:
        owner: The formula, or its name.
        method: The method that gave the result.
        result: The result.
        shape: What its shape must be.

    Raises:
        ShapeError: The formula changed the shape.
        DtypeError: The formula's result is not real.
    """
    if result is None:
        raise ShapeError(
            f"{owner if isinstance(owner, str) else type(owner).__name__}.{method} returned None: write return"
        )
    kind = result.dtype if isinstance(result, np.ndarray | np.generic) else np.asarray(result).dtype
    if np.shape(result) == shape and kind.kind in "fiub":
        return
    name = owner if isinstance(owner, str) else type(owner).__name__
    if np.shape(result) != shape:
        raise ShapeError(
            f"{name}.{method} must keep the shape: expected {shape}; got {np.shape(result)}. "
            "Use NumPy functions that work element by element; a constant is np.full_like(h, 2.0)"
        )
    raise DtypeError(f"{name}.{method} must give real numbers; got {kind}")


def check_elementwise(
    name: str,
    formula: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    *,
    method: str,
    argument: str,
    derived: Callable[[], str] | None = None,
    alternative: tuple[Callable[[Array], Array], str] | None = None,
    factors: dict[str, float] | None = None,
    advice: str | None = None,
    derivation: Callable[[Array], Array] | None = None,
    points: Array = POINTS,
) -> None:
    """Compare a derivative with the differences of its formula at every point.

    Args:
        name: The class, for the message.
        formula: The formula.
        derivative: What it is said to be, at the same points.
        method: The name of the derivative's method.
        argument: The name of the formula's argument.
        derived: Gives the derived derivative as text, for the message.
        alternative: Another reading of the derivative, and what it means when that is the right one.
        factors: Named numbers that may explain a constant factor.
        advice: What to do when nothing better is known.
        derivation: The derived derivative: where it differs on a dense grid is looked at too.
        points: Where to look.

    Raises:
        DerivativeError: They differ; says where, by how much, and what is probably meant.
    """
    if derivation is not None:
        points = np.concatenate([points, _suspects(derivative, derivation)])
    given_points = points.copy()
    with np.errstate(all="ignore"):
        result = derivative(given_points)
    if not np.array_equal(given_points, points):
        raise DerivativeError(
            f"{name}.{method} changes its argument in place; make a new array: '{argument} = {argument} * 2', "
            f"not '{argument} *= 2'"
        )
    require_like(name, method, result, points.shape)
    given = np.asarray(result, dtype=np.float64)
    bounds = derivative_bounds(formula, points)
    with np.errstate(all="ignore"):
        usual = np.max(np.abs(bounds.middle), where=bounds.judged & (np.abs(points) <= 1.0), initial=0.0)
        slack = np.where(np.isfinite(given), 1e-5 * np.abs(given), 0.0)
        slack += np.where(np.abs(points) < 1e-6, 1e-7 * usual, 0.0)  # quotients such as sin(h) / h are noisy there
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
    here = f"{argument} = {points[place] + 0.0:.6g}"  # + 0.0 makes -0 a plain 0
    slope = f"the slope of the formula there is {bounds.middle[place]:.6g}"
    if bounds.high[place] - bounds.low[place] > 0.01 * abs(bounds.middle[place]) and np.isfinite(given[place]):
        low, high = (np.round(side[place], 6) + 0.0 for side in (bounds.low, bounds.high))
        slope = f"the slope of the formula there lies in {low:.4g} .. {high:.4g}"
    lines = [f"{name}.{method} is wrong at {here}: it gives {given[place]:.9g}, but {slope}"]
    if derived is not None:
        try:
            lines.append(f"derived from the formula: {derived()}")
        except DerivativeError as error:
            lines.append(str(error))
    lines.append(meant or advice or f"leave {method} out and it is derived from the formula, or correct it")
    raise DerivativeError("\n".join(lines))


_GRID: Array = np.linspace(-10.03, 10.01, 800)


def _suspects(derivative: Callable[[Array], Array], derivation: Callable[[Array], Array]) -> Array:
    """Return points of a dense grid at which a written derivative differs from the derived one, at most 24."""
    with np.errstate(all="ignore"):
        given, derived = derivative(_GRID.copy()), derivation(_GRID.copy())
        if np.shape(given) != _GRID.shape:
            return _GRID[:0]
        scale = np.max(np.abs(derived), where=np.isfinite(derived), initial=0.0)
        places = np.flatnonzero(~np.isclose(given, derived, rtol=1e-4, atol=1e-9 * scale, equal_nan=True))
    return _GRID[places[:: max(1, len(places) // 24)]]


def _agrees(values: Array, bounds: Bounds, points: Array) -> bool:
    """Whether these values are right at all points that are judged and not extreme."""
    seen = bounds.judged & (np.abs(points) <= SURE)
    slack = np.where(np.isfinite(values), 1e-5 * np.abs(values), 0.0)
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
        if _agrees(given, bounds, points):
            return None  # the mistake lies where no simple change is judged
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


def require_record(name: str, program: Any, formula: Callable[..., Array], *arguments: Array) -> None:
    """Refuse a record that does not compute the formula's own values.

    Raises:
        DerivativeError: It does not: the formula depends on more than its arguments.
    """
    with np.errstate(all="ignore"):
        recorded, own = program.value(*arguments), formula(*arguments)
    if not np.allclose(recorded, own, rtol=1e-12, atol=0.0, equal_nan=True):
        raise DerivativeError(
            f"{name}: the record of the formula gives other values than the formula itself; it depends on something "
            "besides its arguments and settings, such as the type or shape of h, or random numbers: write derivative(h)"
        )


def require_elementwise(name: str, formula: Callable[[Array], Array], argument: str = "h") -> None:
    """Refuse a formula that changes its argument, or in which one element changes another one's output.

    Raises:
        DerivativeError: It does.
    """
    h = np.array([-0.7, 0.3, 1.6])
    kept = h.copy()
    with np.errstate(all="ignore"):
        try:
            result = formula(h)
        except (TypeError, ValueError) as error:
            if "truth value" in str(error):
                raise DerivativeError(f"{name}.__call__ branches on {argument}, an array: use np.where") from None
            if "converted to Python scalar" in str(error):
                raise DerivativeError(
                    f"{name}.__call__ uses a function of one number on {argument}, an array: use np.exp for math.exp"
                ) from None
            raise
        if not np.array_equal(h, kept):
            raise DerivativeError(f"{name}.__call__ changes its argument in place; make a new array instead")
        require_like(name, "__call__", result, h.shape)
        before = np.array(result)
        if not np.array_equal(before, formula(h), equal_nan=True):
            raise DerivativeError(
                f"{name}.__call__ gives another result for the same {argument}: a formula depends on its argument and "
                "settings alone; random numbers belong into a layer, from record.key"
            )
        for place, step in itertools.product(range(len(h)), (9.0, -9.0)):
            moved = h.copy()
            moved[place] += step
            changed = ~((np.array(formula(moved)) == before) | np.isnan(before))
            changed[place] = False
            if changed.any():
                raise DerivativeError(
                    f"{name}.__call__ couples elements: changing {argument}[{place}] changed the output of "
                    f"{argument}[{int(np.argmax(changed))}]; an Activation works on each element alone, "
                    "a formula over a row subclasses RowActivation"
                )
