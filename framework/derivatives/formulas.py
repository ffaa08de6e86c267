"""Formulas: components with a derivative, and how those of activations and losses are checked."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.arrays import Array, require_like
from framework.derivatives.checks import GRID, ROWS, SPARSE, Check, untouched
from framework.emit.programs import programs_of, tried_width
from framework.emit.text import show
from framework.errors import DataError, DerivativeError, FrameworkError, ShapeError
from framework.graph.graph import Graph
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import share
from framework.settings.component import Component

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)
"""Targets to check with; those that a loss refuses are skipped."""


class Formula(Component):
    """A component with a derivative, which is derived from its formula, or written and then checked at first use.

    Attributes:
        check: ``"off"`` for a derivative that differs from the formula's on purpose.
    """

    check: ClassVar[Literal["on", "off"]] = "on"
    _methods: ClassVar[dict[str, int]] = {"value": 1, "slope": 1}  # that are traced, with the number of arguments

    @abstractmethod
    def check_derivative(self) -> None:
        """Compare the derivatives that training uses with the formula; see ``check_derivative``."""

    def require_derivative(self) -> Self:
        """Return the component itself, checked once for its class and its settings; ``fit`` finds other changes.

        Raises:
            DerivativeError: A written derivative is wrong, or none is written and the formula cannot be derived.
        """
        share(("derivative", self), self.require_traced_derivative)
        return self

    def require_traced_derivative(self) -> bool:
        """Check the derivative, once for what the methods make of symbols now, and return True; see above."""

        def check() -> bool:
            with np.errstate(all="ignore"):  # the points are extreme, and a formula may overflow at some
                self.check_derivative()
            return True

        return self.check == "off" or bool(share(("derivative", self, self.traced_key), check))

    @property
    def traced_key(self) -> tuple[Any, ...]:
        """A key of the graphs that the methods of the class record: equal while they compute the same."""
        programs = programs_of(self)
        if "key" not in programs:
            base = next(cls for cls in type(self).__mro__ if "_methods" in vars(cls))
            written = {name: getattr(type(self), name) for name in self._methods}
            own = [name for name, method in written.items() if method is not getattr(base, name, None)]
            programs["key"] = tuple((written[name], self._key_of(name)) for name in own)
        key: tuple[Any, ...] = programs["key"]
        return key

    def _key_of(self, name: str) -> Any:
        graph, count = Graph(), self._methods[name]
        symbols = [Symbol(graph.input(f"{place}", (graph.rows, tried_width(self)))) for place in range(count)]
        try:
            with np.errstate(all="ignore"):
                return graph.key_of([value_of(getattr(self, name)(*symbols))])
        except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol)
            return str(error)

    def _repr_latex_(self) -> str | None:
        """Return the LaTeX that Jupyter draws, of the formula and its derivative; None if it cannot be traced."""
        try:
            return show(self)._repr_latex_()
        except FrameworkError:
            return None


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    name, coupled = type(activation).__name__, activation.coupled
    rows = np.resize(ROWS, (3, tried_width(activation)))
    method = "backward" if coupled else "derivative"
    written = getattr(activation, f"_has_{method}")
    of_output = "it is written in terms of the output a: begin it with a = self(h)"

    def pull_back(gradient: Array, h: Array) -> Any:
        return activation.backward(gradient, h, activation(h)) if coupled else activation.derivative(h)

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
    if coupled:
        a = untouched(f"{name}.__call__", {"h": rows}, lambda: activation(rows))
        require_like(name, "__call__", a, rows.shape)
    else:
        _require_elementwise(name, activation, check.traced)
    check.run()


def _require_elementwise(name: str, formula: Any, traced: Any) -> None:
    """Check that a formula keeps the shape and its argument, and gives for an element alone what it gives for several.

    Raises:
        DerivativeError: It does not.
    """
    h = np.array([-0.7, 0.3, 1.6])
    try:
        a = untouched(f"{name}.__call__", {"h": h}, lambda: formula(h))
        with np.errstate(all="ignore"):
            alone = [formula(h[i : i + 1]) for i in range(len(h))]
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, FrameworkError):
            raise
        if isinstance(traced, DerivativeError):
            raise traced from None
        raise ShapeError(
            f"{name}.__call__ must serve arrays of any shape, as it works on each element alone; it fails for "
            f"{h.shape}: {error}. A formula over rows has backward(gradient, h, a) in place of derivative(h)"
        ) from None
    require_like(name, "__call__", a, h.shape)
    with np.errstate(all="ignore"):
        alike = np.allclose(np.concatenate(alone), a, 1e-12, 0.0, equal_nan=True)
    if not alike:
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
        classes = h.shape[1]
        hard = np.eye(classes)[[0, classes // 2, classes - 1]]
        soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
        soft /= soft.sum(axis=1, keepdims=True)
        cases = [(probabilities, hard), (probabilities, soft), (65.0 * h - 7.0, 60.0 * h - 7.0)]
    else:
        cases = [(ROWS, np.full_like(ROWS, target)) for target in TARGETS]
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
        return getattr(loss, method)(prediction, np.resize(target, prediction.shape).astype(prediction.dtype))

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
        detail="" if loss.by_row else f" (target {number:g})",
    )
    traced = check.traced  # which says first why rows of a width cannot be served
    loss._sum(untouched(f"{name}.value", arguments, lambda: loss.value(*arguments.values())), rows, None)
    if not written and isinstance(traced, DerivativeError):
        raise traced
    slope = untouched(f"{name}.slope", arguments, lambda: loss.slope(*arguments.values()))
    check.run()
    return bool(np.any(slope))
