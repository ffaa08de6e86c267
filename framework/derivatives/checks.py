"""Checks: a written derivative must lie within bounds, and finite differences decide where it does not.

Where the formula can be traced, the derived derivative around a point bounds the written one; elsewhere, differences
do. Points are a dense grid, a grid of all magnitudes, and the surroundings of the formula's constants. Where the finest
differences cannot resolve the slope, it is enough that both derivatives agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.derivatives.differences import SURE, Bounds, derivative_bounds, resolved_bounds
from framework.emit.text import Shown
from framework.errors import DerivativeError, DtypeError, FrameworkError, ShapeError
from framework.graph.node import Node, needed
from framework.settings.messages import require_formula

_SMALL = (1e-12, 1e-8, 1e-3, 0.05, 0.3, 0.7, 1.0, 1.6, 2.3, 3.0, 4.5, 5.3, 6.0, 7.5, 9.0, 12.0, 15.0, 20.0)
_MAGNITUDES = (*_SMALL, 27.0, 40.0, 110.0, 700.0)
POINTS: Array = np.array([*(-m for m in reversed(_MAGNITUDES)), -0.0, 0.0, *_MAGNITUDES])
"""The first points at which elementwise formulas are checked: both signs, zero, tiny, moderate, saturated and large."""

ROWS: Array = np.array([[0.3, -1.2, 2.0, 0.7], [1.0, 0.2, -0.4, -2.5], [0.9, 0.8, 0.1, 0.6]])
"""Where formulas over rows are checked."""

_DENSE = np.linspace(-10.03, 10.01, 800)
_ALL_SIZES = np.concatenate(
    [np.geomspace(1e-12, 1e12, 530), 10.0 ** np.array([*range(-300, -12, 24), *range(16, 80, 8)])]
)
_GRID: Array = np.concatenate([POINTS, _DENSE, _ALL_SIZES, -_ALL_SIZES])
SPARSE: Array = np.concatenate([POINTS, _DENSE[::9], _ALL_SIZES[::7], -_ALL_SIZES[::7]])
"""Fewer points, for a formula that is checked many times."""

_SUSPECTS = 200


def check_derivative(formula: Any) -> None:
    """Compare the derivatives that training uses with the formula itself.

    Training runs this check once for each class and its settings; call it to run the check yourself.

    Args:
        formula: An activation, a loss or a regularizer.

    Raises:
        SettingsError: The argument is something else.
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
        derived from the formula: f'(h) = 1 - a ** 2  where a = f(h)
        it is written in terms of the output a: name it derivative_from_output(a)
    """
    require_formula("check_derivative", formula, "check_derivative", "an activation, a loss or a regularizer")
    formula.check_derivative()


@dataclass(frozen=True)
class Subject:
    """A method that is checked, and what its error message says.

    Attributes:
        owner: The component.
        method: The method.
        argument: The name of its argument.
        written: Whether the user wrote it; a derived one is compared with differences alone.
        program: Traces the formula; raises DerivativeError where that cannot be done.
        detail: What the message says after the name of the class.
        alternative: Another reading of an elementwise derivative, and what it means when that is the right one.
        advice: What to do when nothing better is known; None is the usual advice.
    """

    owner: Any
    method: str
    argument: str = "h"
    written: bool = True
    program: Callable[[], Any] | None = None
    detail: str = ""
    alternative: tuple[Callable[[Array], Array], str] | None = None
    advice: str | None = None

    @property
    def name(self) -> str:
        """The method's name for messages."""
        return f"{type(self.owner).__name__}{self.detail}.{self.method}"

    @cached_property
    def traced(self) -> Any:
        """The program of the formula, or the DerivativeError that says why it cannot be traced; None if not asked."""
        try:
            return None if self.program is None else self.program()
        except DerivativeError as error:
            return error

    @property
    def derives(self) -> bool:
        """Whether a derived derivative can be compared with the written one."""
        return self.written and self.traced is not None and not isinstance(self.traced, DerivativeError)

    def values(self, function: Callable[[Array], Any], points: Array) -> Array:
        """Return what the method gives at points, as float64.

        Raises:
            DerivativeError: It changes its argument.
            ShapeError: It changes the shape.
        """
        trial = points.copy()
        with np.errstate(all="ignore"):
            result = function(trial)
        if not np.array_equal(trial, points):
            raise DerivativeError(
                f"{self.name} changes its argument in place; make a new array: "
                f"'{self.argument} = {self.argument} * 2', not '{self.argument} *= 2'"
            )
        require_like(self.owner, self.method, result, points.shape)
        return np.asarray(result, dtype=np.float64)

    def error(
        self,
        points: Array,
        place: tuple[int, ...],
        given: Array,
        slope: str,
        meaning: str | None = None,
        dtype: str = "",
    ) -> DerivativeError:
        """Return the error: what the method gives and where, the derived derivative, and what to do."""
        if len(place) == 1:
            where = f"at {self.argument} = {points[place] + 0.0:.6g}"
        else:
            where = f"at element {place[1]} of the row [{', '.join(f'{number:.6g}' for number in points[place[0]])}]"
        verdict = "cannot be confirmed" if self.method.endswith("(derived)") else "is wrong"
        lines = [f"{self.name} {verdict} {dtype}{where}: it gives {given[place]:.9g}, but {slope}"]
        if isinstance(self.traced, DerivativeError):
            lines.append(str(self.traced))
        elif self.traced is not None and self.traced.elementwise:
            derived = Shown(self.traced.shown("value" if self.method.startswith("slope") else "f"))
            lines.append(f"derived from the formula: {derived.text.splitlines()[-1]}")
        method = self.method.split(" ")[0]
        usual = f"leave {method} out and it is derived from the formula, or correct it"
        if isinstance(self.traced, DerivativeError):
            usual = f"correct {method}"
        elif not self.written and not np.isfinite(given[place]):
            meaning = (
                "the chain rule meets 0 * inf there, as in np.sqrt(h) at 0: keep the inner argument away from 0 with "
                "np.where, or write derivative(h) in a class"
            )
        elif not self.written:
            usual = (
                "the formula jumps there, or is too small or too steep for differences: "
                f'write {method} in a class, with check = "off" where it differs on purpose'
            )
        return DerivativeError("\n".join([*lines, meaning or self.advice or usual]))


def check_elementwise(
    subject: Subject,
    formula: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    derived: Callable[[Array], Array] | None = None,
    points: Array = _GRID,
) -> None:
    """Compare the derivative of an elementwise formula with the derived one, and with differences.

    Args:
        subject: The method to check.
        formula: The formula.
        derivative: The derivative to check.
        derived: The derived derivative; None compares with differences alone.
        points: Where to check, besides around the constants of the formula; the examples in messages come first.

    Raises:
        DerivativeError: They differ; says where, by how much, and what is probably meant.
    """
    points = np.concatenate([points, _around(subject.traced)])
    if derived is None:
        points = points[(points == 0) | ((np.abs(points) >= 1e-9) & (np.abs(points) < 1e3))]
    subject.values(derivative, POINTS)  # so that a message about the shape does not depend on the grid
    _check(subject, formula, derivative, derived, points)


def check_rows(
    subject: Subject,
    formula: Callable[[Array], Array],
    pullback: Callable[[Array, Array], Array],
    rows: Array,
    derived: Callable[[Array, Array], Array] | None = None,
) -> None:
    """Compare the gradient of a formula over rows with the derived one, and with differences.

    Args:
        subject: The method to check.
        formula: Rows (n, k) to (n, k) or (n,).
        pullback: (gradient, rows) to dL/drows.
        rows: Where to check, (n, k).
        derived: The derived pullback; None compares with differences alone.

    Raises:
        DerivativeError: They differ; says where.
    """
    with np.errstate(all="ignore"):
        shape = np.shape(formula(rows.copy()))
    gradient = np.cos(np.arange(float(math.prod(shape)))).reshape(shape)

    def total(at: Array) -> Any:
        """Return for each row the number whose gradient is pulled back."""
        return np.sum((gradient * formula(at)).reshape(len(at), -1), axis=1, keepdims=True)

    def pulled(pullback: Any, at: Array) -> Any:
        return pullback(gradient.astype(at.dtype), at)

    _check(subject, total, partial(pulled, pullback), derived and partial(pulled, derived), rows)


def _check(subject: Subject, formula: Any, derivative: Any, derived: Any, points: Array) -> None:
    """Compare a derivative at numbers, or the gradients of rows (n, k), with the derived one and with differences.

    Raises:
        DerivativeError: They differ.
    """
    given = subject.values(derivative, points)
    moderate = points[_moderate(points)] if points.ndim == 1 else points
    bounds = _measured(formula, points, derivative_bounds) if derived is None else _derived_bounds(derived, points)
    wrong = _outside(given, bounds, points)
    if derived is not None:
        wrong |= ~bounds.judged
        # such as exp(-1 / h) / h**2, which is 0 / 0 at 1e-300
        wrong &= ~(np.isnan(given) & (points != 0) & (np.abs(points) < 1e-12) & ~(np.abs(bounds.middle) > 1e-12))
    if wrong.any():  # the finest differences decide, where they can tell
        if points.ndim == 1:
            places = np.flatnonzero(wrong)
            places = np.append(np.arange(min(len(POINTS), len(points))), places[:: len(places) // _SUSPECTS + 1])
            points, given, wrong = points[places], given[places], wrong[places]
            bounds = Bounds(*(field[places] for field in bounds))
        finest = _measured(formula, points, resolved_bounds)
        unlike = _outside(given, bounds.widened(1e-3 * np.abs(bounds.middle)), points) & (derived is not None)
        wrong = np.where(finest.judged, _outside(given, finest, points) & (wrong | (derived is None)), unlike)
        bounds = Bounds(*(np.where(finest.judged, *pair) for pair in zip(finest, bounds, strict=True)))
    if not subject.written:  # the convention at a single point is not a mistake
        for part in (-1e-7, 1e-7):
            beside = _values(derivative, points * (1.0 + part) + 1e-9 * part)
            wrong &= ~np.isfinite(given) | _outside(beside, bounds, points)
    if wrong.any():
        raise _explained(subject, given, bounds, wrong, points)
    if subject.written:
        _check_float32(subject, formula, derivative, moderate)


def _measured(formula: Any, points: Array, measure: Callable[..., Bounds]) -> Bounds:
    """Bound the derivative at points by differences, or that of a number for each row by each element of the row."""

    def by(column: int) -> Bounds:
        def moved(numbers: Array) -> Array:
            rows = points.copy()
            rows[:, column] = numbers
            return _values(formula, rows)[:, 0]

        return measure(lambda at: np.array([moved(numbers) for numbers in at]), points[:, column])

    if points.ndim == 2:
        columns = zip(*map(by, range(points.shape[1])), strict=True)
        bounds = Bounds(*(np.stack(column, axis=1) for column in columns))
    else:
        bounds = measure(formula, points)
    with np.errstate(all="ignore"):
        slack = 1e-5 * np.maximum(np.abs(bounds.low), np.abs(bounds.high))
        usual = _largest(bounds.middle, bounds.judged & (np.abs(points) <= 1.0))
        return bounds.widened(slack + np.where(np.abs(points) < 1e-6, 1e-6 * usual, 0.0))  # sin(h) / h loses digits


def _derived_bounds(derived: Any, points: Array) -> Bounds:
    """Bound the derivative at points by the derived one around them: by rounding, and by both sides of a kink."""
    step = 2.0**-50 * np.abs(points) + 1e-300
    left, right = (
        np.array([_values(derived, points + side * part * step) for part in (0, 1, 2, 4)]) for side in (-1, 1)
    )
    with np.errstate(all="ignore"):
        low, high = np.minimum(left, right).min(axis=0), np.maximum(left, right).max(axis=0)
        noise = 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-12 * _scale(left[0], points)
        noise += 2.0 * np.ptp(left[1:], axis=0) + 2.0 * np.ptp(right[1:], axis=0)
        judged = np.isfinite(low + high + noise)
        return Bounds(low, high, left[1], right[1], judged, np.zeros(points.shape, bool)).widened(noise)


def _outside(given: Array, bounds: Bounds, points: Array) -> Array:
    """Return where a derivative is not within its bounds, or not finite where it must be."""
    return ~bounds.hold(given) & bounds.judged & (np.isfinite(given) | (np.abs(points) <= SURE))


# messages


def _explained(subject: Subject, given: Array, bounds: Bounds, wrong: Array, points: Array) -> DerivativeError:
    """Return the error about a wrong derivative: the clearest point, and what is probably meant."""
    truth = bounds.middle
    with np.errstate(all="ignore"):
        relative = np.abs(given - truth) / (np.abs(given) + np.abs(truth))
    clear = wrong & ~(relative < 0.1)
    place = _clearest(clear if clear.any() else wrong, points)
    slope = f"the slope of the formula there is {truth[place]:.6g}"
    low, high = sorted((bounds.left[place], bounds.right[place]))
    if high - low > 0.01 * abs(truth[place]) and np.isfinite(given[place]):
        slope = f"the slope of the formula there lies in {round(low, 6) + 0.0:.4g} .. {round(high, 6) + 0.0:.4g}"
    return subject.error(points, place, given, slope, _meaning(subject, given, bounds, points))


def _meaning(subject: Subject, given: Array, bounds: Bounds, points: Array) -> str | None:
    """Say what is probably meant, when one simple change makes the derivative right everywhere."""
    seen = bounds.judged & (np.abs(points) <= SURE)

    def agrees(values: Array) -> bool:
        return bool(seen.any() and not _outside(values, bounds, points)[seen].any())

    with np.errstate(all="ignore"):
        if agrees(given):
            return None  # wrong only where simple changes are not tried
        if agrees(-given):
            return "the sign is wrong: it is minus the derivative"
        if subject.alternative is not None and agrees(_values(subject.alternative[0], points)):
            return subject.alternative[1]
        truth = bounds.middle
        far = seen & np.isfinite(given) & np.isfinite(truth)  # where both are well away from 0
        least = 1e-4 * _largest(truth, far)
        far &= (np.abs(given) > least) & (np.abs(truth) > least)
        ratio = float(np.median(truth[far] / given[far])) if np.count_nonzero(far) >= 3 else np.nan
        if np.isfinite(ratio) and agrees(given * ratio):
            factors = _named_factors(subject.owner.settings()).items()
            named = [f" ({text})" for text, value in factors if np.isclose(value, ratio, rtol=1e-3)]
            return f"a constant factor is missing: the derivative is {ratio:.6g}{''.join(named[:1])} times that"
    return None


def _values(function: Any, points: Array) -> Array:
    """Return what a function gives at points, as float64 of their shape."""
    with np.errstate(all="ignore"):
        return np.asarray(function(points), np.float64) + np.zeros(points.shape)


def _moderate(points: Array) -> Array:
    """Return which points are 0 or of moderate size."""
    return np.asarray((points == 0) | ((np.abs(points) >= 0.05) & (np.abs(points) <= 10.0)))


def _clearest(wrong: Array, points: Array) -> tuple[int, ...]:
    """Return the place of the wrong point whose size is nearest to 1, for a message."""
    distance = np.where(wrong, np.abs(np.log(np.maximum(np.abs(points), 1e-30))), np.inf)
    return tuple(map(int, np.unravel_index(np.argmin(distance), points.shape)))


def _largest(values: Array, where: Any = True) -> float:
    """Return the largest size of the values that are finite."""
    return float(np.max(np.abs(values), where=np.isfinite(values) & where, initial=0.0))


def _scale(values: Array, points: Array) -> float:
    """Return the size that rounding errors grow with: at numbers, that of moderate ones, away from a pole at 0."""
    return _largest(values, _moderate(points)) if points.ndim == 1 else 1e3 * _largest(values)


def _spread(function: Any, points: Array, size: float = 2.0**-50) -> Array:
    """Return by how much a derivative changes where the argument changes in its last bits."""
    with np.errstate(all="ignore"):
        found = [_values(function, points * (1.0 + part * size)) for part in (-4, -2, -1, 0, 1, 2, 4)]
        spread = 2.0 * np.ptp(found, axis=0)
    return np.where(np.isfinite(spread), spread, np.inf)


def _check_float32(subject: Subject, formula: Any, derivative: Any, points: Array) -> None:
    """Compare a derivative in float32 with the same one in float64.

    Raises:
        DerivativeError: They differ by more than rounding explains.
    """
    narrow = points.astype(np.float32)
    wide = narrow.astype(np.float64)
    with np.errstate(all="ignore"):
        given, expected = (subject.values(derivative, at) for at in (narrow, wide))
        allowed = 1e-2 * (np.abs(expected) + 1e-3 * _scale(expected, wide) + 1e-30)
        wrong = np.isfinite(expected) & ~(np.abs(given - expected) <= allowed)
        if wrong.any():
            values, exact = _values(formula, narrow), _values(formula, wide)
            wrong &= np.abs(values - exact) <= 1e-2 * np.abs(exact) + 1e-5 * _scale(exact, wide)
            wrong &= ~(np.abs(given - expected) <= allowed + _spread(derivative, wide, 2.0**-22))
    if wrong.any():
        place = _clearest(wrong, wide)
        raise subject.error(wide, place, given, f"in float64 it gives {expected[place]:.6g}", dtype="in float32 ")


def _around(program: Any) -> Array:
    """Return points at the constants of a traced formula and around them: they may be thresholds or scales."""
    outputs = program.traced.outputs if hasattr(program, "traced") else ()
    constants = {abs(float(arg)) for node in needed(outputs) for arg in node.args if not isinstance(arg, Node | bool)}
    numbers = sorted(size for size in constants if 0.0 < size < 1e150)[:8]
    if not numbers:
        return np.empty(0)
    sizes = {size for number in numbers for size in (number, 1.0 / number)}
    steps = [part * size for size in sizes if not 0.1 < size < 10.0 for part in (0.1, 0.5, 1.0, 2.0)]
    steps += [0.0, 1e-6, 1e-3, 0.1]
    places = [0.0, *numbers, *(-number for number in numbers)]
    found = {place + sign * step for place in places for step in steps for sign in (1.0, -1.0)}
    return np.array(sorted(found))


def _named_factors(settings: dict[str, Any]) -> dict[str, float]:
    """Return the simple expressions of a formula's numeric settings that could be a missing factor."""
    factors: dict[str, float] = {}
    for name, value in settings.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1, -1):
            factors |= {name: float(value), f"1 / {name}": 1.0 / value, f"{name} ** 2": float(value) ** 2}
    return factors


# what a formula must be


def require_like(owner: object, method: str, result: Any, shape: tuple[int, ...]) -> None:
    """Check that a formula's result has a shape and is real.

    Args:
        owner: The formula, or its name.
        method: The method that gave the result.
        result: The result.
        shape: What its shape must be.

    Raises:
        ShapeError: The formula changed the shape.
        DtypeError: The formula's result is not real.
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    if result is None or result is Ellipsis:
        raise ShapeError(f"{name}.{method} returned {result}: write return and the formula")
    kind = result.dtype if isinstance(result, np.ndarray | np.generic) else np.asarray(result).dtype
    if np.shape(result) != shape:
        raise ShapeError(
            f"{name}.{method} must keep the shape: expected {shape}; got {np.shape(result)}. "
            "Use NumPy functions that work element by element; a constant is np.full_like(h, 2.0)"
        )
    if kind.kind not in "fiub":
        raise DtypeError(f"{name}.{method} must give real numbers; got {kind}")


def require_traced(name: str, program: Any, formula: Callable[..., Array], *arguments: Array) -> None:
    """Check that a traced formula computes the formula's own values.

    Raises:
        DerivativeError: It does not: the formula depends on more than its arguments.
    """
    with np.errstate(all="ignore"):
        traced, own = program.value(*arguments), formula(*arguments)
    if not np.allclose(traced, own, rtol=1e-12, atol=0.0, equal_nan=True):
        raise DerivativeError(
            f"{name}: the traced formula gives other values than the formula itself; it depends on something besides "
            "its arguments and settings, such as the type or shape of h, or random numbers: let it depend on them "
            "alone, or write a Layer"
        )


def require_elementwise(name: str, formula: Callable[[Array], Array]) -> None:
    """Check that a formula leaves its argument alone, and that no element changes another one's output.

    Raises:
        DerivativeError: It does not.
    """
    h = np.array([-0.7, 0.3, 1.6])
    kept = h.copy()
    with np.errstate(all="ignore"):
        try:
            result = formula(h)
        except (TypeError, ValueError, IndexError) as error:
            if "truth value" in str(error):
                raise DerivativeError(f"{name}.__call__ branches on h, an array: use np.where") from None
            if "converted to Python scalar" in str(error):
                raise DerivativeError(
                    f"{name}.__call__ uses a function of one number on h, an array: use np.exp for math.exp"
                ) from None
            if isinstance(error, FrameworkError | TypeError):
                raise
            raise ShapeError(
                f"{name}.__call__ must serve arrays of any shape, as it works on each element alone; it fails for "
                f"{h.shape}: {error}. A formula over rows has backward(gradient, h, a) in place of derivative(h)"
            ) from None
        if not np.array_equal(h, kept):
            raise DerivativeError(f"{name}.__call__ changes its argument in place; make a new array instead")
        require_like(name, "__call__", result, h.shape)
        before = np.array(result)
        if not np.array_equal(before, formula(h), equal_nan=True):
            raise DerivativeError(
                f"{name}.__call__ gives another result for the same h: a formula depends on its argument and "
                "settings alone; for random numbers write a layer and name them in draws()"
            )
        for place, step in itertools.product(range(len(h)), (9.0, -9.0)):
            moved = h.copy()
            moved[place] += step
            changed = ~((np.array(formula(moved)) == before) | np.isnan(before))
            changed[place] = False
            if changed.any():
                raise DerivativeError(
                    f"{name}.__call__ couples elements: changing h[{place}] changed the output of "
                    f"h[{int(np.argmax(changed))}]; derivative(h) is for formulas that work on each element alone: "
                    "write backward(gradient, h, a), or leave it out and it is derived"
                )
