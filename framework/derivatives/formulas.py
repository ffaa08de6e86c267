"""Check the derivatives of activations and losses."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.derivatives.checks import (
    POINTS,
    ROWS,
    SPARSE,
    Subject,
    check_elementwise,
    check_rows,
    named_factors,
    require_elementwise,
    require_like,
    require_traced,
)
from framework.emit.programs import Program, one_width_error, tried_width
from framework.emit.show import show
from framework.errors import DataError, DerivativeError, ShapeError
from framework.graph.node import needed
from framework.graph.reads import Reads

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)
"""Targets to check with; a loss is not asked about those that it refuses."""

MODERATE: Array = np.array([-12.0, -3.0, -0.4, 0.0, 0.2, 1.5, 9.0])


def check_once(component: Any, method: str) -> None:
    """Check the derivatives of a user's formula once for its class, its settings and what else it reads."""
    if component.check == "on" and ":" in component.tag():  # tests check the library's own
        _checked(component, frozenset(Reads([getattr(component, method)], type(component)).values.items()))


@lru_cache(maxsize=256)
def _checked(component: Any, reads: frozenset[Any]) -> None:  # noqa: ARG001 (a part of the key)
    component.check_derivative()


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    name = type(activation).__name__
    if activation.coupled:
        rows = np.resize(ROWS, (3, tried_width(activation)))
        try:
            a = activation(rows)
        except (ValueError, IndexError) as error:
            raise one_width_error(activation, rows.shape[1], error) from None
        require_like(name, "__call__", a, rows.shape)
        _check_coupled(activation, np.concatenate([rows, 12.0 * rows]))
        return
    require_elementwise(name, activation)
    methods = ("derivative_from_output", "derivative")  # in this order: the second may call the first
    written = [method for method in methods if getattr(activation, f"_has_{method}")]
    for method in written:
        _check_written(activation, method)
    if not written:
        _check_derived(activation)


def _check_derived(activation: Any) -> None:
    program = activation.program()
    require_traced(type(activation).__name__, program, activation, POINTS)
    it = Subject(
        type(activation).__name__,
        "derivative (derived)",
        written=False,
        program=activation.program,
        advice="write derivative(h), and report the formula: the derived one should be right",
    )
    check_elementwise(it, activation, activation.derivative)


def _check_written(activation: Any, method: str) -> None:
    of_h = getattr(activation, method)

    def of_a(h: Array) -> Any:
        return of_h(activation(h))

    given, other, meaning = of_h, of_a, "it is written in terms of the output a: name it derivative_from_output(a)"
    if method == "derivative_from_output":
        given, other, meaning = of_a, of_h, "it is written in terms of h: name it derivative(h)"
    it = Subject(
        type(activation).__name__,
        method,
        program=partial(_own_program, activation),
        text=partial(_textbook, activation),
        alternative=(other, meaning),
        factors=named_factors(activation.settings()),
    )
    derived = it.traced.derivative if it.derives and it.traced.elementwise else None
    if derived is not None:
        require_traced(it.name, it.traced, activation, POINTS)
    check_elementwise(it, activation, given, derived)


def _textbook(formula: Any) -> str:
    """Return the derived derivative as text."""
    return show(formula).text.splitlines()[-1]


def _own_program(activation: Any) -> Program:
    """Return the program of an activation without the derivative that it writes.

    Raises:
        DerivativeError: The formula cannot be traced.
    """
    program: Program = activation.program()
    if program.elementwise and not _calls_python(program):
        return program  # its derivative comes from the formula alone
    try:
        program = Program(activation._formula, width=tried_width(activation))
    except DerivativeError as error:
        raise DerivativeError(f"{type(activation).__name__}.__call__: {error}") from None
    if _calls_python(program):
        raise DerivativeError(f"{type(activation).__name__}.__call__ calls a formula that cannot be traced")
    return program


def _calls_python(program: Program) -> bool:
    """Return whether some operation is a function that could not be traced."""
    return any(node.op == "python" for node in needed(program.traced.outputs))


def _check_coupled(activation: Any, rows: Array) -> None:
    """Check an activation over rows."""
    it = Subject(
        type(activation).__name__,
        "backward (derived)",
        written=False,
        advice="write backward(gradient, h, a), and report the formula",
    )
    if activation._has_backward:
        it = Subject(
            it.name,
            "backward",
            program=partial(_own_program, activation),
            factors=named_factors(activation.settings()),
        )
    derived = it.traced.pullback if it.derives else None
    check_rows(it, activation, lambda g, h: np.asarray(activation.backward(g, h, activation(h))), rows, derived)


def check_loss(loss: Any, *, written: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or 0 everywhere, or the canonical pair is not its own.
    """
    if loss.by_row:
        _check_row_loss(loss, written)
        return
    targets = _accepted(loss, TARGETS)
    for target in targets:
        _require_values(loss, ROWS, np.full_like(ROWS, target))
        _check_loss(loss, target, written)
    _require_slope(loss, [(ROWS, np.full_like(ROWS, target)) for target in targets])


def _require_slope(loss: Any, pairs: list[tuple[Array, Array]]) -> None:
    """Refuse a loss that nothing can learn from, given predictions and targets to try."""
    with np.errstate(all="ignore"):
        if pairs and not any(np.any(loss.slope(predictions, targets)) for predictions, targets in pairs):
            raise DerivativeError(
                f"{type(loss).__name__}: the slope is 0 everywhere, so nothing can learn: the value does not depend on "
                "the prediction, or only in jumps. Use it as a metric: Metric.of(function)"
            )


def _require_values(loss: Any, predictions: Array, targets: Array) -> None:
    """Check that a loss gives a value for each element, or for each row, as its class says."""
    try:
        with np.errstate(all="ignore"):
            loss._total(loss.value, predictions, targets, None)
    except ShapeError:
        raise
    except Exception:  # noqa: BLE001 (a formula for rows of another width; its trace says so)
        return


def _accepted(loss: Any, targets: Any) -> list[Any]:
    """Return the targets that a loss takes."""
    accepted = []
    for target in targets:
        try:
            loss.require_target(np.atleast_1d(target), "target")
        except DataError:
            continue
        accepted.append(target)
    return accepted


def _check_loss(loss: Any, target: float, written: bool) -> None:
    def of(method: str, p: Array) -> Array:
        return _untouched(loss, method, p, np.full_like(p, target))

    it = Subject(
        f"{type(loss).__name__} (target {target:g})",
        "slope" if written else "slope (derived)",
        "prediction",
        written=written,
        program=loss.program,
        text=partial(_textbook, loss),
        factors=named_factors(loss.settings()),
    )
    if not isinstance(it.traced, DerivativeError):
        require_traced(type(loss).__name__, it.traced, loss.value, POINTS + target, np.full_like(POINTS, target))
    derived = (lambda p: it.traced.derivative(p, np.full_like(p, target))) if it.derives else None
    points = np.concatenate([SPARSE, target + SPARSE])
    check_elementwise(it, partial(of, "value"), partial(of, "slope"), derived, points)
    if loss.canonical is not None:
        pair, activation = _fused(loss, it.name, MODERATE, np.full_like(MODERATE, target))
        value = partial(of, "value_from_preactivation")
        check_elementwise(pair, value, lambda h: of("fused_slope", activation(h)), points=POINTS)


def _fused(loss: Any, name: str, h: Array, goal: Array) -> tuple[Subject, Any]:
    """Check that value_from_preactivation(h) is value(f(h)), and return what is checked of its slope, and f.

    Raises:
        DerivativeError: It is another value.
    """
    activation = loss.canonical()
    with np.errstate(all="ignore"):
        fused, plain = loss.value_from_preactivation(h, goal), loss.value(activation(h), goal)
    both = np.isfinite(fused) & np.isfinite(plain)
    if not np.allclose(np.where(both, fused, 0.0), np.where(both, plain, 0.0), rtol=1e-6, atol=1e-9):
        place = int(np.argmax(np.where(both, np.abs(fused - plain), 0.0)))
        raise DerivativeError(
            f"{type(loss).__name__}.value_from_preactivation is wrong at h = {h[place]}: it gives "
            f"{np.ravel(fused)[place]:.9g}, but value of the canonical activation's output there is "
            f"{np.ravel(plain)[place]:.9g}"
        )
    it = Subject(
        name,
        f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
        written=False,
        advice="correct value_from_preactivation or fused_slope, or leave canonical out",
    )
    return it, activation


def _check_row_loss(loss: Any, written: bool) -> None:
    classes = tried_width(loss)
    rows = np.resize(ROWS, (3, classes))
    shifted = np.exp(rows)
    predictions = shifted / shifted.sum(axis=1, keepdims=True)
    soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
    goals = [np.eye(classes)[[0, classes // 2, classes - 1]], soft / soft.sum(axis=1, keepdims=True), 60.0 * rows - 7.0]
    it = Subject(type(loss).__name__, "slope", "prediction", written=written, program=lambda: loss.program(predictions))
    if not written and isinstance(it.traced, DerivativeError):
        raise it.traced
    accepted = _accepted(loss, goals)
    for goal in accepted:
        _require_values(loss, predictions, goal)
        _check_rows(loss, it, rows, predictions, goal)
    _require_slope(loss, [(predictions, goal) for goal in accepted])


def _check_rows(loss: Any, it: Subject, rows: Array, predictions: Array, goal: Array) -> None:
    def of(method: str, p: Array) -> Array:  # for as many rows as p has: the targets are repeated
        return _untouched(loss, method, p, np.resize(goal, p.shape).astype(p.dtype))

    probable = goal.max() <= 1.0
    at = predictions if probable else goal + 5.0 * rows
    derived = (lambda g, p: np.asarray(it.traced.pullback(g, p, goal))) if it.derives else None
    check_rows(it, partial(of, "value"), lambda g, p: g[:, None] * of("slope", p), at, derived)
    if loss.canonical is not None and probable:
        pair, activation = _fused(loss, it.name, rows, goal)
        value = partial(of, "value_from_preactivation")
        check_rows(pair, value, lambda g, h: g[:, None] * of("fused_slope", activation(h)), rows)


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
