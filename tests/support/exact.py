"""Formulas in as many digits as they need: NumPy calls the methods of mpmath's numbers, in arrays of objects."""

import numpy as np
from mpmath import MPContext

CONTEXT = MPContext()
Real = CONTEXT.mpf
for _name in ("log", "log1p", "log10", "sqrt"):
    setattr(Real, _name, lambda x, name=_name: getattr(CONTEXT, name)(x))
for _name in ("exp", "expm1", "sin", "cos", "sinh", "cosh", "tanh"):
    setattr(Real, _name, lambda x, name=_name: _limited(getattr(CONTEXT, name), x))
Real.log2 = lambda x: CONTEXT.log(x) / CONTEXT.log(2)
erfc = np.frompyfunc(CONTEXT.erfc, 1, 1)

STEP = "1e-40"
"""The distance of the points that a slope is computed from."""


def _limited(function, x):
    """Return a function of a number whose digits do not fill the memory."""
    if abs(x) > 1e30:
        raise OverflowError
    return function(x)


def reals(array):
    """Return an array of floats as one of mpmath's numbers."""
    return np.frompyfunc(lambda x: Real(float(x)), 1, 1)(array) if np.asarray(array).dtype.kind == "f" else array


def exact(formula, h, *others):
    """Return a formula's values for each row of h, and the slope of their sum by each element."""
    values, slopes = [], []
    for place in range(len(h)):
        rows = slice(place, place + 1)
        CONTEXT.dps = 260 + int(0.95 * (np.ptp(h[rows]) or np.max(np.abs(h[rows]))))  # for 1 - p of a p near 1
        given, x, step = [reals(other[rows]) for other in others], reals(h[rows]), Real(STEP)
        try:
            value = formula(x, *given)
        except ZeroDivisionError:  # beside a singularity that can be removed
            value = formula(x + step, *given)
        values.append(np.asarray(value, object))
        slopes.append(np.empty(x.shape, object))
        for column in np.ndindex(x.shape):
            up, down = x.copy(), x.copy()
            up[column] += step
            down[column] -= step
            difference = np.asarray(formula(up, *given), object) - np.asarray(formula(down, *given), object)
            slopes[-1][column] = difference.sum() / (2 * step)
    return np.concatenate(values), np.concatenate(slopes)


def wrong(found, true, tolerance, tiny):
    """Return how many numbers are not within a tolerance of the true ones, relative to max(1, |true|)."""
    largest = np.finfo(found.dtype).max

    def is_wrong(x, truth):
        if abs(truth) > largest:
            return abs(x) < 0.99 * largest or (x > 0) != (truth > 0)
        return not np.isfinite(x) or abs(Real(float(x)) - truth) > tolerance * max(1, abs(truth)) + tiny

    return sum(map(is_wrong, np.broadcast_to(found, true.shape).flat, true.flat))
