"""Check the derivatives of activations and losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.arrays import Array
from framework.derivatives.checks import (
    POINTS,
    ROWS,
    SPARSE,
    Subject,
    check_elementwise,
    check_rows,
    require_elementwise,
    require_like,
    require_traced,
)
from framework.emit.programs import Program, one_width_error, tried_width, wholly_ours
from framework.emit.text import show
from framework.errors import DataError, DerivativeError, FrameworkError, ShapeError
from framework.graph.node import needed
from framework.graph.reads import Reads
from framework.settings.component import Component

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)
"""Targets to check with; those that a loss refuses are skipped."""

MODERATE: Array = np.array([-12.0, -3.0, -0.4, 0.0, 0.2, 1.5, 9.0])


class Formula(Component):
    """A component with a derivative, which is derived from its formula, or written and then checked at first use.

    Attributes:
        check: ``"off"`` for a derivative that differs from the formula's on purpose.
    """

    check: ClassVar[Literal["on", "off"]] = "on"
    _method: ClassVar[str] = "value"  # the method that is the formula

    @abstractmethod
    def check_derivative(self) -> None:
        """Compare the derivatives that training uses with the formula; see ``check_derivative``."""

    def require_derivative(self) -> Self:
        """Return the component itself, checked once for its class, its settings and what else its formula reads.

        Raises:
            DerivativeError: A written derivative is wrong, or none is written and the formula cannot be derived.
        """
        if self.check == "on" and not wholly_ours(self):  # tests check the library's own
            reads = Reads([getattr(self, self._method)], type(self)).values
            _check_once(self, frozenset(reads.items()))
        return self

    def _repr_latex_(self) -> str | None:
        """Return the LaTeX that Jupyter draws, of the formula and its derivative; None if it cannot be traced."""
        try:
            return show(self)._repr_latex_()
        except FrameworkError:
            return None


@lru_cache(maxsize=256)
def _check_once(formula: Formula, reads: frozenset[Any]) -> None:  # noqa: ARG001 (a part of the key)
    formula.check_derivative()


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
        it = Subject(activation, "derivative (derived)", written=False, program=activation.program)
        require_traced(name, activation.program(), activation, POINTS)
        check_elementwise(it, activation, activation.derivative)


def _check_written(activation: Any, method: str) -> None:
    of_h = getattr(activation, method)

    def of_a(h: Array) -> Any:
        return of_h(activation(h))

    given, other, meaning = of_h, of_a, "it is written in terms of the output a: name it derivative_from_output(a)"
    if method == "derivative_from_output":
        given, other, meaning = of_a, of_h, "it is written in terms of h: name it derivative(h)"
    it = Subject(activation, method, program=partial(_own_program, activation), alternative=(other, meaning))
    derived = it.traced.derivative if it.derives and it.traced.elementwise else None
    if derived is not None:
        require_traced(type(activation).__name__, it.traced, activation, POINTS)
    check_elementwise(it, activation, given, derived)


def _own_program(activation: Any) -> Program:
    """Return the program of an activation, without its written derivative.

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
    it = Subject(activation, "backward (derived)", written=False)
    if activation._has_backward:
        it = Subject(activation, "backward", program=partial(_own_program, activation))
    derived = (lambda g, h: np.asarray(it.traced.pullback_at(g, h, activation(h)))) if it.derives else None
    check_rows(it, activation, lambda g, h: np.asarray(activation.backward(g, h, activation(h))), rows, derived)


def check_loss(loss: Any, *, written: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or 0 everywhere, or the canonical pair is not its own.
    """
    check: Callable[..., None]
    if loss.by_row:
        h = np.resize(ROWS, (3, tried_width(loss)))
        predictions = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
        classes = h.shape[1]
        soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
        hard = np.eye(classes)[[0, classes // 2, classes - 1]]
        check, goals = _check_rows, [hard, soft / soft.sum(axis=1, keepdims=True), 60.0 * h - 7.0]
    else:
        h, predictions, check = MODERATE, ROWS, _check_elements
        goals = [np.full_like(ROWS, target) for target in TARGETS]
    accepted = []
    for goal in goals:
        with suppress(DataError):
            loss.require_target(goal, "target")
            accepted.append(goal)
    for goal in accepted:
        _require_values(loss, predictions, goal)
        check(loss, written, h, predictions, goal)
    with np.errstate(all="ignore"):
        if accepted and not any(np.any(loss.slope(predictions, goal)) for goal in accepted):
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


def _check_elements(loss: Any, written: bool, h: Array, _predictions: Array, goal: Array) -> None:
    target = goal.flat[0]

    def of(method: str, p: Array) -> Array:
        return _untouched(loss, method, p, np.full_like(p, target))

    method, detail = "slope" if written else "slope (derived)", f" (target {target:g})"
    it = Subject(loss, method, "prediction", written=written, program=loss.program, detail=detail)
    if not isinstance(it.traced, DerivativeError):
        require_traced(type(loss).__name__, it.traced, loss.value, POINTS + target, np.full_like(POINTS, target))
    derived = (lambda p: it.traced.derivative(p, np.full_like(p, target))) if it.derives else None
    points = np.concatenate([SPARSE, target + SPARSE])
    check_elementwise(it, partial(of, "value"), partial(of, "slope"), derived, points)
    if loss.canonical is not None:
        pair, activation = _fused(loss, detail, h, np.full_like(h, target))
        value = partial(of, "value_from_preactivation")
        check_elementwise(pair, value, lambda h: of("fused_slope", activation(h)), points=POINTS)


def _check_rows(loss: Any, written: bool, h: Array, predictions: Array, goal: Array) -> None:
    def of(method: str, p: Array) -> Array:
        return _untouched(loss, method, p, goal.astype(p.dtype))

    it = Subject(loss, "slope", "prediction", written=written, program=lambda: loss.program(predictions))
    if not written and isinstance(it.traced, DerivativeError):
        raise it.traced
    probable = goal.max() <= 1.0
    at = predictions if probable else goal + 5.0 * h
    derived = (lambda g, p: np.asarray(it.traced.pullback_at(g, p, goal, loss.value(p, goal)))) if it.derives else None
    check_rows(it, partial(of, "value"), lambda g, p: g[:, None] * of("slope", p), at, derived)
    if loss.canonical is not None and probable:
        pair, activation = _fused(loss, "", h, goal)
        value = partial(of, "value_from_preactivation")
        check_rows(pair, value, lambda g, h: g[:, None] * of("fused_slope", activation(h)), h)


def _fused(loss: Any, detail: str, h: Array, goal: Array) -> tuple[Subject, Any]:
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
        loss,
        f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
        written=False,
        detail=detail,
        advice="correct value_from_preactivation or fused_slope, or leave canonical out",
    )
    return it, activation


def _untouched(loss: Any, method: str, prediction: Array, target: Array) -> Array:
    """Return the result of a formula, and refuse one that changes its arguments."""
    kept = prediction.copy(), target.copy()
    result = np.asarray(getattr(loss, method)(prediction, target))
    for name, array, before in zip(("prediction", "target"), (prediction, target), kept, strict=True):
        if not np.array_equal(array, before, equal_nan=True):
            raise DerivativeError(
                f"{type(loss).__name__}.{method} changes its argument '{name}' in place; make a new array: "
                f"'{name} = {name} - 1', not '{name} -= 1'"
            )
    return result
