"""What activations and losses say of their derivatives, compared by the checks."""

from __future__ import annotations

from functools import partial
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
from framework.emit.programs import Program
from framework.emit.show import show
from framework.errors import DataError, DerivativeError
from framework.graph.node import needed

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)
"""Targets to check with; a loss is not asked about those that it refuses."""

MODERATE: Array = np.array([-12.0, -3.0, -0.4, 0.0, 0.2, 1.5, 9.0])


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    name = type(activation).__name__
    written = [
        (method, has)
        for method, has in (
            ("derivative_from_output", activation._has_derivative_from_output),  # first: derivative may call it
            ("derivative", activation._has_derivative),
        )
        if has
    ]
    subject = partial(
        Subject,
        name,
        program=partial(_own_program, activation),
        text=lambda: show(activation).text.splitlines()[-1],
        factors=named_factors(activation.settings()),
    )
    if activation.coupled:
        require_like(name, "__call__", activation(ROWS), ROWS.shape)
        _check_coupled(activation, subject)
        return
    require_elementwise(name, activation)
    if not written:
        program = activation.program()
        require_traced(name, program, activation, POINTS)
        check_elementwise(
            Subject(
                name,
                "derivative (derived)",
                written=False,
                program=activation.program,
                advice="write derivative(h), and report the formula: the derived one should be right",
            ),
            activation,
            activation.derivative,
        )
    for method, _ in written:
        function = getattr(activation, method)
        if method == "derivative":
            meaning = "it is written in terms of the output a: name it derivative_from_output(a)"
            given, other = function, lambda h, f=function: f(activation(h))
        else:
            meaning = "it is written in terms of h: name it derivative(h)"
            given, other = (lambda h, f=function: f(activation(h))), function
        it = subject(method, alternative=(other, meaning))
        derived = it.traced.derivative if it.derives and it.traced.elementwise else None
        if derived is not None:
            require_traced(name, it.traced, activation, POINTS)
        check_elementwise(it, activation, given, derived)


def _own_program(activation: Any) -> Program:
    """Return the program of an activation without the derivative that it writes.

    Raises:
        DerivativeError: The formula cannot be traced.
    """
    program: Program = activation.program()
    if program.elementwise and not _calls_python(program):
        return program  # its derivative comes from the formula alone
    try:
        program = Program(activation._formula)
    except DerivativeError as error:
        raise DerivativeError(f"{type(activation).__name__}.__call__: {error}") from None
    if _calls_python(program):
        raise DerivativeError(f"{type(activation).__name__}.__call__ calls a formula that cannot be traced")
    return program


def _calls_python(program: Program) -> bool:
    """Return whether some operation is a function that could not be traced."""
    return any(node.op == "python" for node in needed(program.traced.outputs))


def _check_coupled(activation: Any, subject: Any) -> None:
    """Check an activation over rows, near 0 and far from it."""
    it = subject("backward", written=activation._has_backward, text=None)
    if not it.written:
        it = Subject(
            it.name,
            "backward (derived)",
            written=False,
            advice="write backward(gradient, h, a), and report the formula",
        )
    rows = np.concatenate([ROWS, 12.0 * ROWS])
    derived = it.traced.pullback if it.derives else None
    check_rows(it, activation, lambda g, h: np.asarray(activation.backward(g, h, activation(h))), rows, derived)


def check_loss(loss: Any, *, written: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or the canonical pair does not belong to it.
    """
    (_check_row_loss if loss.by_row else _check_loss)(loss, written)


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


def _check_loss(loss: Any, written: bool) -> None:
    name = type(loss).__name__
    for target in _accepted(loss, TARGETS):
        it = Subject(
            f"{name} (target {target:g})",
            "slope" if written else "slope (derived)",
            "prediction",
            written=written,
            program=loss.program,
            text=lambda: show(loss).text.splitlines()[-1],
            factors=named_factors(loss.settings()),
        )
        value, slope = (partial(_with_target, loss, method, target) for method in ("value", "slope"))
        derived = None
        if not isinstance(it.traced, DerivativeError):
            goal = np.full_like(POINTS, target)
            require_traced(name, it.traced, loss.value, POINTS + target, goal)
            derived = (lambda p, t=target, of=it.traced: of.derivative(p, np.full_like(p, t))) if written else None
        check_elementwise(it, value, slope, derived, np.concatenate([SPARSE, target + SPARSE]))
        if loss.canonical is not None:
            _check_pair(loss, target)


def _with_target(loss: Any, method: str, target: float, p: Array) -> Array:
    return _untouched(loss, method, p, np.full_like(p, target))


def _check_pair(loss: Any, target: float) -> None:
    """Check that value_from_preactivation(h) is value(f(h)) and that its slope by h is f(h) - target."""
    name, activation = type(loss).__name__, loss.canonical()
    with np.errstate(all="ignore"):
        fused = loss.value_from_preactivation(MODERATE, np.full_like(MODERATE, target))
        plain = loss.value(activation(MODERATE), np.full_like(MODERATE, target))
    _require_same(name, fused, plain, MODERATE)
    check_elementwise(
        Subject(
            f"{name} (target {target:g})",
            f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
            written=False,
            advice="correct value_from_preactivation or fused_slope, or leave canonical out",
        ),
        lambda h: np.asarray(loss.value_from_preactivation(h, np.full_like(h, target))),
        lambda h: np.asarray(loss.fused_slope(activation(h), np.full_like(h, target))),
        points=POINTS,
    )


def _check_row_loss(loss: Any, written: bool) -> None:
    name = type(loss).__name__
    classes = len(getattr(loss, "class_weights", None) or ROWS[0])
    rows = np.resize(ROWS, (3, classes))
    shifted = np.exp(rows)
    predictions = shifted / shifted.sum(axis=1, keepdims=True)
    soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
    goals = [np.eye(classes)[[0, classes // 2, classes - 1]], soft / soft.sum(axis=1, keepdims=True), 60.0 * rows - 7.0]
    it = Subject(name, "slope", "prediction", written=written, program=lambda: loss.program(predictions))
    for goal in _accepted(loss, goals):
        at = predictions if goal.max() <= 1.0 else goal + 5.0 * rows

        def pullback(g: Array, p: Array, goal: Array = goal) -> Array:
            return np.asarray(g[:, None] * _untouched(loss, "slope", p, goal.astype(p.dtype)))

        def derived(g: Array, p: Array, goal: Array = goal) -> Array:
            return np.asarray(it.traced.pullback(g, p, goal))

        check_rows(it, partial(_of_rows, loss, "value", goal), pullback, at, derived if it.derives else None)
        if loss.canonical is None or at is not predictions:
            continue
        activation = loss.canonical()
        fused, plain = loss.value_from_preactivation(rows, goal), loss.value(activation(rows), goal)
        _require_same(name, fused, plain, rows)

        def fused_pullback(g: Array, h: Array, goal: Array = goal, f: Any = activation) -> Array:
            return np.asarray(g[:, None] * loss.fused_slope(f(h), goal))

        check_rows(
            Subject(
                name,
                f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
                written=False,
                advice="correct value_from_preactivation or fused_slope, or leave canonical out",
            ),
            partial(_of_rows, loss, "value_from_preactivation", goal),
            fused_pullback,
            rows,
        )


def _of_rows(loss: Any, method: str, goal: Array, p: Array) -> Array:
    """Return what a formula gives for as many rows as there are predictions: the targets are repeated."""
    return _untouched(loss, method, p, np.resize(goal, p.shape).astype(p.dtype))


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


def _require_same(name: str, fused: Any, plain: Any, h: Array) -> None:
    both = np.isfinite(fused) & np.isfinite(plain)
    if not np.allclose(np.where(both, fused, 0.0), np.where(both, plain, 0.0), rtol=1e-6, atol=1e-9):
        place = int(np.argmax(np.where(both, np.abs(fused - plain), 0.0)))
        raise DerivativeError(
            f"{name}.value_from_preactivation is wrong at h = {h[place]}: it gives {np.ravel(fused)[place]:.9g}, but "
            f"value of the canonical activation's output there is {np.ravel(plain)[place]:.9g}"
        )
