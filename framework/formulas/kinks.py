"""Where the kinks of a formula are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.formulas.rules import COMPARISONS
from framework.formulas.symbols import Symbol

_SIZES = np.geomspace(1e-3, 1e3, 60)
_GRID = np.unique(np.concatenate([np.arange(-12.0, 12.5, 0.5), -_SIZES, _SIZES]))


def tie_of(kink: Symbol) -> Any:
    """Return what is 0 where a kink's two sides meet."""
    if kink.op == "where":
        condition = kink.args[0]
        compared = isinstance(condition, Symbol) and condition.op in COMPARISONS
        return condition.args[0] - condition.args[1] if compared else None
    if kink.op == "copysign":
        return kink.args[1]
    return kink.args[0] if kink.op in ("abs", "sign", "heaviside") else kink.args[0] - kink.args[1]


def zeros(compute: Callable[..., Any], rest: list[float]) -> np.ndarray[Any, Any]:
    """Return where a function of the first input is 0 or changes its sign, found by bisection."""
    signs = np.sign(compute(_GRID, *(np.full_like(_GRID, value) for value in rest)))
    places = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    low, high = _GRID[places], _GRID[places + 1]
    for _ in range(60 if len(places) else 0):
        middle = 0.5 * (low + high)
        same = np.sign(compute(middle, *(np.full_like(middle, value) for value in rest))) == signs[places]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.concatenate([_GRID[signs == 0], low, high])
