"""What a loss says of itself, checked: its slope against its value, and its canonical pair against both."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.derivatives import (
    POINTS,
    ROWS,
    check_elementwise,
    check_rows,
    named_factors,
    require_record,
)
from framework.errors import DataError, DerivativeError
from framework.formulas import show

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5)
"""Targets to check with; a loss is not asked about those that it refuses."""

MODERATE: Array = np.array([-12.0, -3.0, -0.4, 0.0, 0.2, 1.5, 9.0])


def check_loss(loss: Any, *, writes_slope: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or the canonical pair does not belong to it.
    """
    if loss.by_row:
        _check_rows(loss)
    else:
        _check_elements(loss, writes_slope=writes_slope)


def _targets(loss: Any) -> list[float]:
    accepted = []
    for target in TARGETS:
        try:
            loss.require_target(np.array([target]), "target")
        except DataError:
            continue
        accepted.append(target)
    return accepted


def _check_elements(loss: Any, *, writes_slope: bool) -> None:
    name = type(loss).__name__
    for target in _targets(loss):
        goal = np.full_like(POINTS, target)
        if not writes_slope:
            require_record(name, loss.program(), loss.value, POINTS, goal)

        def value(p: Array, t: float = target) -> Array:
            return _untouched(loss, "value", p, np.full_like(p, t))

        def slope(p: Array, t: float = target) -> Array:
            return _untouched(loss, "slope", p, np.full_like(p, t))

        check_elementwise(
            f"{name} (target {target:g})",
            value,
            slope,
            method="slope" if writes_slope else "slope (derived)",
            argument="prediction",
            derived=lambda: show(loss).text.splitlines()[-1],
            factors=named_factors(loss.settings()),
        )
        if loss.canonical is not None:
            _check_pair(loss, target)


def _check_pair(loss: Any, target: float) -> None:
    """Check that value_from_preactivation(h) is value(f(h)) and that its slope by h is f(h) - target."""
    name, activation = type(loss).__name__, loss.canonical()
    with np.errstate(all="ignore"):
        fused = loss.value_from_preactivation(MODERATE, np.full_like(MODERATE, target))
        plain = loss.value(activation(MODERATE), np.full_like(MODERATE, target))
    _require_same(name, fused, plain, MODERATE)
    check_elementwise(
        f"{name} (target {target:g})",
        lambda h: np.asarray(loss.value_from_preactivation(h, np.full_like(h, target))),
        lambda h: np.asarray(loss.fused_slope(activation(h), np.full_like(h, target))),
        method=f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
        argument="h",
        advice="correct value_from_preactivation or fused_slope, or leave canonical out",
    )


def _check_rows(loss: Any) -> None:
    name = type(loss).__name__
    classes = len(getattr(loss, "class_weights", None) or ROWS[0])
    rows = np.resize(ROWS, (3, classes))
    shifted = np.exp(rows)
    predictions = shifted / shifted.sum(axis=1, keepdims=True)
    soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
    goals = [np.eye(classes)[[0, classes // 2, classes - 1]], soft / soft.sum(axis=1, keepdims=True)]
    for goal in goals:
        check_rows(
            name,
            "slope",
            partial(_at, partial(_untouched, loss, "value"), goal),
            partial(_slope_at, partial(_untouched, loss, "slope"), goal),
            predictions,
        )
        if loss.canonical is None:
            continue
        activation = loss.canonical()
        fused, plain = loss.value_from_preactivation(rows, goal), loss.value(activation(rows), goal)
        _require_same(name, fused, plain, rows)
        check_rows(
            name,
            f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
            partial(_at, loss.value_from_preactivation, goal),
            partial(_slope_at, lambda h, t, f=activation: loss.fused_slope(f(h), t), goal),
            rows,
        )


def _untouched(loss: Any, method: str, prediction: Array, target: Array) -> Array:
    """Return what a formula gives, and refuse one that changes its arguments."""
    kept = prediction.copy(), target.copy()
    result = np.asarray(getattr(loss, method)(prediction, target))
    for name, array, before in zip(("prediction", "target"), (prediction, target), kept, strict=True):
        if not np.array_equal(array, before, equal_nan=True):
            raise DerivativeError(
                f"{type(loss).__name__}.{method} changes its argument '{name}' in place; make a new array: "
                f"'{name} = {name} - 1', not '{name} -= 1'"
            )
    return result


def _at(formula: Any, goal: Array, p: Array) -> Array:
    return np.asarray(formula(p, goal))


def _slope_at(slope: Any, goal: Array, gradient: Array, p: Array) -> Array:
    return np.asarray(gradient[:, None] * slope(p, goal))


def _require_same(name: str, fused: Any, plain: Any, h: Array) -> None:
    both = np.isfinite(fused) & np.isfinite(plain)
    if not np.allclose(np.where(both, fused, 0.0), np.where(both, plain, 0.0), rtol=1e-6, atol=1e-9):
        place = int(np.argmax(np.where(both, np.abs(fused - plain), 0.0)))
        raise DerivativeError(
            f"{name}.value_from_preactivation is wrong at h = {h[place]}: it gives {np.ravel(fused)[place]:.9g}, but "
            f"value of the canonical activation's output there is {np.ravel(plain)[place]:.9g}"
        )
