"""How the derivatives of activations and losses are checked."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from framework.arrays import Array, require_like, require_untouched
from framework.derivatives.checks import GRID, ROWS, SPARSE, Check
from framework.emit.formula import call_formula
from framework.emit.programs import tried_width
from framework.errors import DataError, DerivativeError, ShapeError, UsageError


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    coupled = activation.coupled
    rows = np.resize(ROWS, (3, tried_width(activation)))
    method = "backward" if coupled else "derivative"
    written = getattr(activation, f"writes_{method}")
    of_output = "it is written in terms of the output a: begin it with a = self(h)"

    def pull_back(gradient: Array, h: Array) -> Any:
        arguments = {"gradient": gradient, "h": h, "a": activation(h)} if coupled else {"h": h}
        return call_formula(activation, method, getattr(activation, method), **arguments)

    check = Check(
        activation,
        method if written else f"{method} (derived)",
        activation,
        pull_back,
        np.concatenate([rows, 12.0 * rows]) if coupled else GRID[:, None],
        written=written,
        program=activation.program,
        alternative=None if coupled else (lambda _, h: activation.derivative(activation(h)), of_output),
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
        h = np.resize(ROWS, (3, tried_width(loss)))
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
        "slope" if written else "slope (derived)",
        partial(call, "value"),
        lambda gradient, at: np.reshape(gradient, (len(at), -1)) * call("slope", at),
        rows if loss.by_row else np.append(SPARSE, SPARSE + number)[:, None],
        argument="prediction",
        written=written,
        program=partial(loss.program, rows),
        target=target if loss.by_row else number,
    )
    traced = check.traced  # which says first why rows of a width cannot be served

    def called(method: str) -> Any:
        function = partial(call_formula, loss, method, getattr(loss, method), **arguments)
        return require_untouched(f"{name}.{method}", arguments, function)

    loss._sum(called("value"), rows, None)
    if not written and isinstance(traced, DerivativeError):
        raise traced
    couples = not (loss.by_row or getattr(traced, "elementwise", True))
    if couples and np.shape(call("value", check.points)) != check.points.shape:
        raise ShapeError(
            f"{name}.value must give a value for each element of a prediction of any width; it does not serve one "
            "column. For a value for each row write a RowLoss"
        )
    slope = called("slope")
    check.run()
    return bool(np.any(slope))
