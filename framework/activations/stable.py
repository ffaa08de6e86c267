"""Functions that several formulas share, written so that they neither overflow nor lose small values.

The exponentials take no positive argument: exp(-|h|) lies in (0, 1] for every h, and becomes 0 where it should.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.arrays import LARGEST


def logistic(h: Any) -> Any:
    """Return 1 / (1 + exp(-h)), with its relative accuracy kept down to the smallest numbers and exactly 0 beyond.

    ``Sigmoid`` keeps the bits of the textbook formula and stays above 0, so its product with h = -1e308 is not 0.

    Example:
        >>> float(logistic(0.0)), float(logistic(-1e308))
        (0.5, 0.0)
    """
    return np.exp(np.minimum(h, 0.0)) / (1.0 + np.exp(-np.abs(h)))


def softplus(h: Any) -> Any:
    """Return log(1 + exp(h)) as max(h, 0) + log(1 + exp(-|h|)).

    Example:
        >>> round(float(softplus(0.0)), 6), float(softplus(1e308)), float(softplus(-1e308))
        (0.693147, 1e+308, 0.0)
    """
    return np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))


def times_log(x: Any, y: Any) -> Any:
    """Return x log y, 0 where x is 0 and y is not negative.

    Example:
        >>> float(times_log(0.0, 0.0)), float(times_log(2.0, 1.0))
        (0.0, 0.0)
    """
    return x * np.log(y + (x == 0.0))


def scaled(h: Any, factor: float) -> Any:
    """Return factor * h, held at 1.7e308 (3.2e38 in float32) where the product would overflow.

    Example:
        >>> float(scaled(0.5, 30.0)), float(scaled(-1e308, 30.0)) > -1.8e308
        (15.0, True)
    """
    if factor <= 1.0:
        return factor * h
    limit = 0.95 * LARGEST[np.dtype(getattr(h, "dtype", float))] / factor
    return factor * np.clip(h, -limit, limit)
