"""Checks: a written derivative must lie within bounds, and finite differences decide where it does not.

Where the formula can be traced, the derived derivative around a point bounds the written one; elsewhere, differences
do. Points are a dense grid, a grid of all magnitudes, and the surroundings of the formula's constants. Where the finest
differences cannot resolve the slope, it is enough that both derivatives agree.

Every formula is checked as one number for each row of points, of which each element is moved. An elementwise formula
has rows of one number. A layer has one row: how far its numbers are moved along two directions.

Slopes are measured by finite differences in one place, on both sides of a point. At a kink any value between the two
sides is accepted; anything else is a mistake. Each measured slope comes with bounds, which cover the errors of
extrapolation and rounding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from framework.backends.programs import Program, call_formula, trial_width
from framework.backends.text import Shown
from framework.base.arrays import Array, require_like, require_untouched
from framework.base.errors import DataError, DerivativeError, ShapeError, UsageError
from framework.graph.node import Node, ancestors

SURE = 50.0
"""Up to this |h| a derivative must be finite wherever its formula is; beyond, formulas may overflow."""

_PARTS = np.array([0.0, 1.0, 0.5, 0.25, -1.0, -0.5, -0.25])[:, None]
_STEP = 2.0**-17
_STEPS = tuple(2.0**-power for power in (6, 11, 17, 24, 32))
_RELATIVE_STEPS = (2.0**-8, 2.0**-16)


class Bounds(NamedTuple):
    """The range that a derivative may lie in at each point.

    Attributes:
        low: The smallest derivative that agrees.
        high: The largest.
        left, right: The best estimates for the two sides.
        judged: Where the function is finite around the point, and does not jump.
        jumps: Where it jumps, by more than rounding explains.
    """

    low: Array
    high: Array
    left: Array
    right: Array
    judged: Array
    jumps: Array

    @property
    def middle(self) -> Array:
        """The best estimate where there is no kink."""
        return 0.5 * (self.left + self.right)

    def with_slack(self, slack: Any) -> Bounds:
        """Return wider bounds."""
        return self._replace(low=self.low - slack, high=self.high + slack)

    def hold(self, values: Array, slack: Any = 0.0) -> Array:
        """Return where values lie within the bounds, widened by ``slack``."""
        return np.asarray((values >= self.low - slack) & (values <= self.high + slack))


def derivative_bounds(function: Callable[[Array], Array], points: Array, step: Any = None) -> Bounds:
    """Bound the derivative of an elementwise function at points.

    On each side the differences over three steps are extrapolated to step 0 twice. Their change is the error estimate.

    Args:
        function: It is given (7, n) numbers: every point, and six points near it.
        points: Where, (n,).
        step: The largest step, a number or (n,); None is 2**-17 in proportion to the point.

    Example:
        >>> bounds = derivative_bounds(np.abs, np.array([0.0, 2.0]))
        >>> bounds.low.round(3).tolist(), bounds.high.round(3).tolist()
        ([-1.0, 1.0], [1.0, 1.0])

    Source:
        Press et al., Numerical recipes, 3rd edition, section 5.7.
    """
    with np.errstate(all="ignore"):
        step = _STEP * np.maximum(1.0, np.abs(points)) if step is None else step
        at = points + _PARTS * step
        values = np.asarray(function(at), dtype=np.float64)
        quotients = (values[1:] - values[0]) / (at[1:] - points)
        size = np.max(np.abs(values), axis=0)
        near = np.isfinite(size) & (np.abs(points) <= 1.0) & (np.abs(points) >= 0.05)
        usual = np.max(size, where=near, initial=0.0)  # of terms that may cancel inside
        noise = 1e-15 * np.maximum(size, usual) / (0.25 * step)
        whole, half, quarter = quotients.reshape(2, 3, -1).swapaxes(0, 1)  # to the right, and to the left
        # A quotient that grows as the step shrinks comes from a jump or a pole: there is no slope to judge.
        grows = (np.abs(quarter) > 1.2 * np.abs(half)) & (np.abs(half) > 1.2 * np.abs(whole))
        change = np.abs(quarter - half)
        coarse, fine = 2.0 * half - whole, 2.0 * quarter - half
        error = 2.0 * np.abs(fine - coarse) + 1e-5 * np.abs(fine) + 4.0 * noise
        # Half the step leaves half the error, and more at a branch point: 0.7 of it for h * sqrt(abs(h)) at 0.
        rate = np.minimum(change / np.maximum(np.abs(half - whole), 1e-300), 0.9)
        error += change * np.maximum(rate / (1.0 - rate) - 1.0, 0.0)
        resolved = (np.abs(points) <= SURE) | (np.abs(fine - coarse) <= 1e-3 * np.abs(fine) + noise)
        judged = np.isfinite(quotients).all(axis=0) & (resolved & ~grows).all(axis=0)
        jumps = (grows & (change > 8.0 * noise)).any(axis=0)
        return Bounds((fine - error).min(axis=0), (fine + error).max(axis=0), fine[1], fine[0], judged, jumps)


def resolve_bounds(function: Callable[[Array], Array], points: Array) -> Bounds:
    """Bound the derivative as ``derivative_bounds`` does, with the best of many steps for each point.

    For each point it takes the narrowest bounds that those of all smaller steps overlap, and the next narrowest. Where
    there are none, as for a sine that oscillates within a step, the slope cannot be resolved and the point is not
    judged. It is not judged either where the function jumps within a smaller step: many small jumps look like a slope.
    """
    sizes = np.maximum(1.0, np.abs(points))
    near = np.maximum(np.abs(points), 1e-12)
    steps = np.sort([*(size * sizes for size in _STEPS), *(size * near for size in _RELATIVE_STEPS)], axis=0)
    measured = (derivative_bounds(function, points, step) for step in steps)
    low, high, left, right, judged, jumps = map(np.array, zip(*measured, strict=True))
    judged &= ~np.logical_or.accumulate(jumps, axis=0)
    with np.errstate(all="ignore"):
        above = np.maximum.accumulate(np.where(judged, low, -np.inf), axis=0)  # the slope lies between these two
        below = np.minimum.accumulate(np.where(judged, high, np.inf), axis=0)
        width = np.where(judged, high - low, np.inf)
        best = np.argmin(np.where((high >= above) & (low <= below), width, np.inf), axis=0), np.arange(len(points))
        other = np.where(np.arange(len(steps))[:, None] == best[0], np.inf, width)
        second = np.argmin(other, axis=0), best[1]
        resolved = np.isfinite(width[best] + other[second]) & (low[best] <= high[second]) & (low[second] <= high[best])
    return Bounds(low[best], high[best], left[best], right[best], resolved, np.any(jumps, axis=0))


_FIRST = np.array([-0.0, *np.linspace(-20.0, 20.0, 81)])
_DENSE = np.linspace(-10.03, 10.01, 800)
_ALL_SIZES = np.concatenate(
    [np.geomspace(1e-12, 1e12, 530), 10.0 ** np.array([*range(-300, -12, 24), *range(16, 80, 8)])]
)
GRID: Array = np.concatenate([_FIRST, _DENSE, _ALL_SIZES, -_ALL_SIZES])
"""Where elementwise formulas are checked: both signs, zero, tiny, moderate, saturated and large."""

SPARSE: Array = np.concatenate([_FIRST, _DENSE[::9], _ALL_SIZES[::7], -_ALL_SIZES[::7]])
"""Fewer points, for a formula that is checked many times."""

ROWS: Array = np.array([[0.3, -1.2, 2.0, 0.7], [1.0, 0.2, -0.4, -2.5], [0.9, 0.8, 0.1, 0.6]])
"""Where formulas over rows are checked."""


@dataclass(frozen=True)
class Check:
    """A comparison of the gradient of a formula with the derived one, and with differences.

    Attributes:
        owner: The component.
        method: The method that gives the gradient.
        formula: From rows (n, k) to (n, k) or (n,).
        pullback: (gradient, rows) to dL/drows, by the method.
        points: Where to check, (n, k). Rows of one number are the points of an elementwise formula.
        argument: The name of the method's argument.
        along_directions: Whether each row says how far something is moved along directions.
        advice: What to do if the method is right once the formula's result replaces its argument.
        written: Whether the user wrote the method; a derived one is compared with differences alone.
        program: Traces the formula; raises DerivativeError where that cannot be done.
        target: The second argument of the program, if it has one: a number, or an array for rows (n, k).
    """

    owner: Any
    method: str
    formula: Callable[[Array], Any]
    pullback: Callable[[Array, Array], Any]
    points: Array
    argument: str = "h"
    along_directions: bool = False
    advice: str | None = None
    written: bool = True
    program: Callable[[], Program] | None = None
    target: Any = None

    def run(self) -> None:
        """Compare them.

        Raises:
            DerivativeError: They differ; says where, by how much, and what is probably meant.
            ShapeError: The method changes the shape.
        """
        with np.errstate(all="ignore"):
            self._require_traced()
            self._compare()
            if self.written:
                self._check_float32()

    def _compare(self) -> None:
        """Compare the method with the derived one, or with differences, which decide where it is not within bounds.

        Raises:
            DerivativeError: They differ.
        """
        rows, derives = self._rows, self.written and isinstance(self.traced, Program)
        derives = derives and (self.traced.elementwise or not self._elementwise)
        result = require_untouched(self.name, {self.argument: rows}, lambda: self.pullback(self._weights, rows))
        require_like(self.owner, self.method, result, rows.shape)
        slopes = np.asarray(result, np.float64)
        precise = (rows == 0) | ((np.abs(rows) >= 1e-9) & (np.abs(rows) < 1e3))  # differences
        if not derives:
            bounds = self._bound_by_differences(derivative_bounds, slopes)
            wrong = _outside(slopes, bounds, rows) & precise
        else:
            bounds = self._bound_by_neighbours(self._derive_gradient, rows, 2.0**-50)
            # such as exp(-1 / h) / h**2, which is 0 / 0 at 1e-300
            undefined = np.isnan(slopes) & (rows != 0) & (np.abs(rows) < 1e-12) & ~(np.abs(bounds.middle) > 1e-12)
            wrong = (_outside(slopes, bounds, rows) | ~bounds.judged) & ~undefined
        if wrong.any():  # the finest differences decide, where they can tell
            finest = self._bound_by_differences(resolve_bounds, slopes)
            unlike = _outside(slopes, bounds.with_slack(1e-3 * np.abs(bounds.middle)), rows) & derives
            measured = _outside(slopes, finest, rows) & (wrong if derives else precise)
            wrong = np.where(finest.judged, measured, wrong & unlike)
            bounds = Bounds(*(np.where(finest.judged, *pair) for pair in zip(finest, bounds, strict=True)))
        if not self.written:  # the convention at a single point is not a mistake
            for shift in (-1e-7, 1e-7):
                beside = self._gradient(self.pullback, rows * (1.0 + shift) + 1e-9 * shift)
                wrong &= ~np.isfinite(slopes) | _outside(beside, bounds, rows)
        if wrong.any():
            raise self._error(rows, slopes, bounds, wrong)

    def _check_float32(self) -> None:
        """Compare the method in float32 with the same one in float64.

        Raises:
            DerivativeError: They differ by more than rounding explains.
        """
        narrow = (self._rows[_moderate(self._rows)[:, 0]] if self._elementwise else self._rows).astype(np.float32)
        wide = narrow.astype(np.float64)
        slopes, exact = (self._gradient(self.pullback, at) for at in (narrow, wide))
        bounds = self._bound_by_neighbours(self.pullback, wide, 2.0**-22)
        bounds = bounds.with_slack(1e-2 * (np.abs(exact) + 1e-3 * self._scale(exact, wide) + 1e-30))
        wrong = bounds.judged & ~bounds.hold(slopes) & np.isfinite(self._number(narrow))[:, None]
        if wrong.any():
            raise self._error(wide, slopes, bounds, wrong, "in float32 ")

    @cached_property
    def traced(self) -> Any:
        """The program of the formula, or the error that says why it cannot be traced; None if not asked."""
        try:
            program = None if self.program is None else self.program()
        except DerivativeError as error:
            return error
        if program is not None and any(node.op == "python" for node in ancestors(program.traced.outputs)):
            return DerivativeError(f"{type(self.owner).__name__} calls a formula that cannot be traced")
        return program

    @property
    def name(self) -> str:
        """The method's name for messages."""
        detail = "" if self.target is None or np.ndim(self.target) else f" (target {self.target:g})"
        return f"{type(self.owner).__name__}{detail}.{self.method}{'' if self.written else ' (derived)'}"

    @property
    def _elementwise(self) -> bool:
        return bool(self.points.shape[1] == 1)

    @cached_property
    def _rows(self) -> Array:
        """The points, and for an elementwise formula those around its constants."""
        return np.concatenate([self.points, _around(self.traced)]) if self._elementwise else self.points

    @cached_property
    def _weights(self) -> Array:
        """dL/d(formula) for the L that is checked. For single numbers it is 1, so that messages show the derivative."""
        shape = np.shape(self.formula(self._rows.copy()))
        return np.ones(shape) if self._elementwise else np.cos(np.arange(float(math.prod(shape)))).reshape(shape)

    def _require_traced(self) -> None:
        """Check that a traced formula computes the formula's own values.

        Raises:
            DerivativeError: It does not: the formula depends on more than its arguments.
        """
        program, rows = self.traced, self._rows
        if not isinstance(program, Program) or not program.elementwise:
            return
        if not np.allclose(program.value(rows, *self._rest(rows)), self.formula(rows), 1e-12, 0.0, equal_nan=True):
            raise DerivativeError(
                f"{type(self.owner).__name__}: the traced formula gives other values than the formula itself; it "
                "depends on something besides its arguments and settings, such as the type or shape of h, or random "
                "numbers: let it depend on them alone, or write a Layer"
            )

    def _derive_gradient(self, gradient: Array, rows: Array) -> Any:
        """Return the derived gradient, which a written one is compared with."""
        if self.traced.elementwise:
            return gradient * self.traced.derivative(rows, *self._rest(rows))
        return self.traced.pullback(gradient, rows, *self._rest(rows))

    def _rest(self, rows: Array) -> tuple[Array, ...]:
        return () if self.target is None else (np.broadcast_to(self.target, rows.shape),)

    def _gradient(self, pullback: Callable[[Array, Array], Any], rows: Array) -> Array:
        """Return the gradient of L."""
        gradient = pullback(self._weights[: len(rows)].astype(rows.dtype), rows)
        return np.asarray(gradient, np.float64) + np.zeros(rows.shape)

    def _number(self, rows: Array) -> Array:
        """Return the part of each row in L."""
        values = np.asarray(self._weights[: len(rows)] * self.formula(rows), np.float64)
        numbers: Array = np.sum(values.reshape(len(rows), -1), axis=1)
        return numbers

    def _bound_by_differences(self, measure: Callable[..., Bounds], gradient: Array) -> Bounds:
        """Bound the gradient by differences, of which each number of a row is moved alone."""
        rows = self._rows

        def bound(column: Array) -> Bounds:
            moved = lambda numbers: self._number(np.where(column, numbers[:, None], rows))  # noqa: E731
            return measure(lambda at: np.array([*map(moved, at)]), rows[:, column][:, 0])

        columns = zip(*map(bound, np.eye(rows.shape[1], dtype=bool)), strict=True)
        bounds = Bounds(*(np.stack(column, axis=1) for column in columns))
        slack = 1e-5 * np.maximum(np.abs(bounds.low), np.abs(bounds.high))
        slack += 1e-6 * np.where(np.isfinite(gradient), np.abs(gradient), 0.0)
        usual = _largest(bounds.middle, bounds.judged & (np.abs(rows) <= 1.0))
        return bounds.with_slack(slack + np.where(np.abs(rows) < 1e-6, 1e-6 * usual, 0.0))  # sin(h) / h loses digits

    def _bound_by_neighbours(self, pullback: Callable[[Array, Array], Any], rows: Array, size: float) -> Bounds:
        """Bound the gradient by those around the points: by rounding, and by both sides of a kink."""
        step = size * np.abs(rows) + 1e-300
        values = np.array([self._gradient(pullback, rows + steps * step) for steps in (-4, -2, -1, 0, 1, 2, 4)])
        low, high = values.min(axis=0), values.max(axis=0)
        noise = 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-12 * self._scale(values[3], rows)
        noise += 2.0 * np.ptp(values[:3], axis=0) + 2.0 * np.ptp(values[4:], axis=0)
        judged = np.isfinite(low + high + noise)
        return Bounds(low, high, values[2], values[4], judged, np.zeros(low.shape, bool)).with_slack(noise)

    def _scale(self, values: Array, rows: Array) -> float:
        """Return the size that rounding errors grow with: at numbers, that of moderate ones, away from a pole at 0."""
        return _largest(values, _moderate(rows)) if self._elementwise else 1e3 * _largest(values)

    # messages

    def _error(self, rows: Array, slopes: Array, bounds: Bounds, wrong: Array, dtype: str = "") -> DerivativeError:
        """Return the error: what the method gives at the clearest point, the derived derivative, and what to do."""
        truth = bounds.middle
        clear = wrong & ~(np.abs(slopes - truth) < 0.1 * (np.abs(slopes) + np.abs(truth)))
        distance = np.abs(np.log(np.maximum(np.abs(rows), 1e-30)))  # from the size 1
        distance[~(clear if clear.any() else wrong)] = np.inf
        index = tuple(map(int, np.unravel_index(np.argmin(distance), rows.shape)))
        where = f"at element {index[1]} of the row [{', '.join(f'{number:.6g}' for number in rows[index[0]])}]"
        if self._elementwise:
            where = f"at {self.argument} = {rows[index] + 0.0:.6g}"
        elif self.along_directions:
            where = "along one direction"
        slope, finite = f"is {truth[index]:.6g}", np.isfinite(slopes[index])
        low, high = sorted((bounds.left[index], bounds.right[index]))
        if high - low > 0.01 * abs(truth[index]) and finite:
            slope = f"lies in {round(low, 6) + 0.0:.4g} .. {round(high, 6) + 0.0:.4g}"
        verdict = f"{self.name} {'is wrong' if self.written else 'cannot be confirmed'} {dtype}{where}"
        lines = [f"{verdict}: it gives {slopes[index]:.9g}, but the slope of the formula there {slope}"]
        method = re.split("[ :]", self.method)[0]
        usual = f"leave {method} out and it is derived from the formula, or correct it"
        if isinstance(self.traced, DerivativeError):
            lines.append(str(self.traced))
            usual = f"correct {method}"
        elif self.traced is not None and self.traced.elementwise:
            derived = Shown(self.traced.formulas_by_label("value" if method == "slope" else "f"))
            lines.append(f"derived from the formula: {derived.text.splitlines()[-1]}")
        if not self.written:
            usual = (
                "the formula jumps there, or is too small or too steep for differences: "
                f'write {method} in a class, with check = "off" where it differs on purpose'
                if finite
                else "the chain rule meets 0 * inf there, as in np.sqrt(h) at 0: keep the inner argument away from 0 "
                f"with np.where, or write {method} in a class"
            )
        return DerivativeError("\n".join([*lines, self._meaning(rows, slopes, bounds) or usual]))

    def _meaning(self, rows: Array, slopes: Array, bounds: Bounds) -> str | None:
        """Say what is probably meant, when one simple change makes the derivative right everywhere."""
        truth, seen = bounds.middle, bounds.judged & (np.abs(rows) <= SURE)

        def agrees(values: Array) -> bool:
            return bool(seen.any() and not _outside(values, bounds, rows)[seen].any())

        if agrees(slopes):
            return None  # wrong only where simple changes are not tried
        if agrees(-slopes):
            return "the sign is wrong: it is minus the derivative"
        if self.advice is not None and agrees(self._gradient(self.pullback, self.formula(rows))):
            return self.advice
        far = seen & np.isfinite(slopes) & np.isfinite(truth)  # where both are well away from 0
        least = 1e-4 * _largest(truth, far)
        far &= (np.abs(slopes) > least) & (np.abs(truth) > least)
        ratio = float(np.median(truth[far] / slopes[far])) if np.count_nonzero(far) >= 3 else np.nan
        if not (np.isfinite(ratio) and agrees(slopes * ratio)):
            return None
        settings = self.owner.settings().items()
        numbers = [(n, v) for n, v in settings if isinstance(v, int | float) and v not in (0, 1, -1)]
        factors = [factor for n, v in numbers for factor in ((n, v), (f"1 / {n}", 1.0 / v), (f"{n} ** 2", v**2))]
        name = next((f" ({text})" for text, value in factors if np.isclose(value, ratio, rtol=1e-3)), "")
        return f"a constant factor is missing: the derivative is {ratio:.6g}{name} times that"


def _outside(slopes: Array, bounds: Bounds, at: Array) -> Array:
    """Return where a derivative is not within its bounds, or not finite where it must be."""
    return ~bounds.hold(slopes) & bounds.judged & (np.isfinite(slopes) | (np.abs(at) <= SURE))


def _moderate(points: Array) -> Array:
    """Return which points are 0 or of moderate size."""
    return np.asarray((points == 0) | ((np.abs(points) >= 0.05) & (np.abs(points) <= 10.0)))


def _largest(values: Array, where: Any = True) -> float:
    """Return the largest size of the values that are finite."""
    return float(np.max(np.abs(values), where=np.isfinite(values) & where, initial=0.0))


def _around(program: Any) -> Array:
    """Return points at the constants of a traced formula and around them: they may be thresholds or scales."""
    outputs = program.traced.outputs if isinstance(program, Program) else ()
    constants = {
        abs(float(arg)) for node in ancestors(outputs) for arg in node.args if not isinstance(arg, Node | bool)
    }
    sizes = np.array(sorted(size for size in constants if 0.0 < size < 1e150)[:8])
    scales = np.array(sorted({*sizes, *(1.0 / sizes)}))  # np.unique would import masked arrays
    steps = np.concatenate([[0.0, 1e-6, 1e-3, 0.1], *(multiple * scales for multiple in (0.1, 0.5, 1.0, 2.0))])
    centres = np.array([0.0, *sizes, *-sizes])
    points = {*np.add.outer(centres, steps).flat, *np.subtract.outer(centres, steps).flat}
    return np.array(sorted(points))[:, None]


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    coupled = activation.coupled
    rows = np.resize(ROWS, (3, trial_width(activation)))
    method = "backward" if coupled else "derivative"
    written = getattr(activation, f"writes_{method}")

    def pull_back(gradient: Array, h: Array) -> Any:
        arguments = {"gradient": gradient, "h": h, "a": activation(h)} if coupled else {"h": h}
        return call_formula(activation, method, getattr(activation, method), **arguments)

    check = Check(
        activation,
        method,
        activation,
        pull_back,
        np.concatenate([rows, 12.0 * rows]) if coupled else GRID[:, None],
        advice=None if coupled else "it is written in terms of the output a: begin it with a = self(h)",
        written=written,
        program=activation.program,
    )
    _require_formula(activation, rows if coupled else np.array([-0.7, 0.3, 1.6]), check.traced)
    check.run()


def _require_formula(formula: Any, h: Array, traced: Any) -> None:
    """Check that a formula keeps the shape and its argument; an elementwise one couples no elements.

    Raises:
        DerivativeError: It does not.
    """
    name = type(formula).__name__
    try:
        a = require_untouched(f"{name}.__call__", {"h": h}, lambda: formula(h))
        with np.errstate(all="ignore"):
            alone = [formula(h[i : i + 1]) for i in range(len(h))] if h.ndim == 1 else []
    except UsageError as error:
        if h.ndim > 1:
            raise
        if isinstance(traced, DerivativeError):
            raise traced from None
        raise ShapeError(
            f"{name}.__call__ must serve arrays of any shape, as it works on each element alone; {error}. A formula "
            "over rows has backward(gradient, h, a) in place of derivative(h)"
        ) from None
    require_like(name, "__call__", a, h.shape)
    with np.errstate(all="ignore"):
        couples = alone and not np.allclose(np.concatenate(alone), a, 1e-12, 0.0, equal_nan=True)
    if couples:
        raise DerivativeError(
            f"{name}.__call__ couples elements: for an element alone it gives another result than for several; "
            "derivative(h) is for formulas that work on each element alone: write backward(gradient, h, a), or leave "
            "it out and it is derived. For random numbers write a layer and name them in draws()"
        )


def check_loss(loss: Any, *, written: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or 0 everywhere.
        ShapeError: The value is not one for each element, or for each row of a loss over rows.
    """
    if loss.by_row:
        h = np.resize(ROWS, (3, trial_width(loss)))
        probabilities = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
        hard = np.eye(h.shape[1])[[0, h.shape[1] // 2, -1]]
        soft = np.arange(1.0, h.shape[1] + 1.0) + np.arange(3.0)[:, None]
        soft /= soft.sum(axis=1, keepdims=True)
        cases = [(probabilities, hard), (probabilities, soft), (65.0 * h - 7.0, 60.0 * h - 7.0)]
    else:
        targets = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)  # those that it refuses are skipped
        cases = [(ROWS, np.full_like(ROWS, target)) for target in targets]
    learns = []
    for rows, target in cases:
        try:
            loss.require_target(target, "target")
        except DataError:
            continue
        learns.append(_check_loss_at(loss, written, rows, target))
    if learns and not any(learns):
        raise DerivativeError(
            f"{type(loss).__name__}: the slope is 0 everywhere, so nothing can learn: the value does not depend on "
            "the prediction, or only in jumps. Use it as a metric: Metric.of(function)"
        )


def _check_loss_at(loss: Any, written: bool, rows: Array, target: Array) -> bool:
    """Check a loss at rows of predictions, and return whether a slope is not 0.

    One that works on each element alone is checked at many predictions for the target.
    """
    number, name = target.flat[0], type(loss).__name__
    arguments = {"prediction": rows.copy(), "target": target.copy()}

    def call(method: str, prediction: Array) -> Any:
        targets = np.resize(target, prediction.shape).astype(prediction.dtype)
        return call_formula(loss, method, getattr(loss, method), prediction=prediction, target=targets)

    check = Check(
        loss,
        "slope",
        partial(call, "value"),
        lambda gradient, at: np.reshape(gradient, (len(at), -1)) * call("slope", at),
        rows if loss.by_row else np.append(SPARSE, SPARSE + number)[:, None],
        argument="prediction",
        written=written,
        program=partial(loss.program, rows),
        target=target if loss.by_row else number,
    )
    traced = check.traced  # which says first why rows of a width cannot be served

    def call_method(method: str) -> Any:
        function = partial(call_formula, loss, method, getattr(loss, method), **arguments)
        return require_untouched(f"{name}.{method}", arguments, function)

    loss._sum(call_method("value"), rows, None)
    if not written and isinstance(traced, DerivativeError):
        raise traced
    couples = not (loss.by_row or getattr(traced, "elementwise", True))
    if couples and np.shape(call("value", check.points)) != check.points.shape:
        raise ShapeError(
            f"{name}.value must give a value for each element of a prediction of any width; it does not serve one "
            "column. For a value for each row write a RowLoss"
        )
    slope = call_method("slope")
    check.run()
    return bool(np.any(slope))
