"""The error functions, which NumPy lacks: Python's own, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_ERF = np.frompyfunc(math.erf, 1, 1)
_ERFC = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Any) -> Any:
    """Return 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Example:
        >>> erf(np.array([0.0, 1.0]))
        array([0.        , 0.84270079])
    """
    return _numbers(_ERF(x), x)


def erfc(x: Any) -> Any:
    """Return 1 - erf(x), accurate where that is tiny.

    Example:
        >>> float(erfc(10.0))
        2.088487583762545e-45
    """
    return _numbers(_ERFC(x), x)


def _numbers(result: Any, x: Any) -> Any:
    """Give the objects that a Python function returned the dtype of ``x``; a symbol stays a symbol."""
    if isinstance(result, np.ndarray):
        return result.astype(np.result_type(x, 0.0))
    return np.result_type(x, 0.0).type(result) if isinstance(result, float) else result
