"""Finite differences: the one place where slopes are measured.

They are taken on both sides of a point. At a kink any value between the two sides is accepted; anything else is a
mistake. Each measured slope comes with bounds, which cover the errors of extrapolation and rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from framework.arrays import Array

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

    def widened(self, slack: Any) -> Bounds:
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
        judged = np.isfinite(quotients).all(axis=0)
        jumps, sides = np.zeros(points.shape, bool), []
        for whole, half, quarter in (quotients[:3], quotients[3:]):
            # A quotient that grows as the step shrinks comes from a jump or a pole: there is no slope to judge.
            grows = (np.abs(quarter) > 1.2 * np.abs(half)) & (np.abs(half) > 1.2 * np.abs(whole))
            judged &= ~grows
            jumps |= grows & (np.abs(quarter - half) > 8.0 * noise)
            coarse, fine = 2.0 * half - whole, 2.0 * quarter - half
            error = 2.0 * np.abs(fine - coarse) + 1e-5 * np.abs(fine) + 4.0 * noise
            # Half the step leaves half the error, and more at a branch point: 0.7 of it for h * sqrt(abs(h)) at 0.
            change = np.abs(quarter - half)
            rate = np.minimum(change / np.maximum(np.abs(half - whole), 1e-300), 0.9)
            error += change * np.maximum(rate / (1.0 - rate) - 1.0, 0.0)
            judged &= (np.abs(points) <= SURE) | (np.abs(fine - coarse) <= 1e-3 * np.abs(fine) + noise)
            sides.append((fine - error, fine + error, fine))
        (low, high, right), (other_low, other_high, left) = sides
        return Bounds(np.minimum(low, other_low), np.maximum(high, other_high), left, right, judged, jumps)


def resolved_bounds(function: Callable[[Array], Array], points: Array) -> Bounds:
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
