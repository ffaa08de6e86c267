"""Formula: a component with a derivative, which is derived from its formula, or written and then checked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.emit.programs import programs_of, tried_width
from framework.emit.text import show
from framework.errors import FrameworkError, UsageError
from framework.graph.graph import Graph
from framework.graph.refuse import CANNOT, line_at_fault
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import share
from framework.settings.component import Component
from framework.settings.messages import require_formula


def check_derivative(formula: Any) -> None:
    """Compare the derivatives that training uses with the formula itself.

    Training runs this check once for each class and its settings; call it to run the check yourself.

    Args:
        formula: An activation, a loss or a regularizer.

    Raises:
        SettingsError: The argument is something else.
        DerivativeError: A derivative is wrong; says at which point, what it gives, what the formula's slope is there,
            the derivative that is derived from the formula, and what is probably meant.

    Example:
        >>> from framework import Activation
        >>> class Wrong(Activation):
        ...     def __call__(self, h):
        ...         return np.tanh(h)
        ...
        ...     def derivative(self, h):
        ...         return 1 - h**2
        >>> check_derivative(Wrong())
        Traceback (most recent call last):
        framework.errors.DerivativeError: Wrong.derivative is wrong at h = -1: it gives 0, but the slope ...
        derived from the formula: f'(h) = 1 - a ** 2  where a = f(h)
        it is written in terms of the output a: begin it with a = self(h)
    """
    require_formula("check_derivative", formula, "check_derivative", "an activation, a loss or a regularizer")
    formula.check_derivative()


def call_formula(owner: Any, method: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Return what a method gives for arrays by name; explain an error that Python or NumPy raises in it.

    Args:
        owner: The component, for the message.
        method: The method's name, for the message.
        function: The method.
        **arguments: Its arguments.

    Raises:
        UsageError: It fails; says for which shapes, at which line, and what to write.
    """
    try:
        return function(*arguments.values())
    except FrameworkError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        name, line = f"{type(owner).__name__}.{method}", line_at_fault(error)
        given = {key: np.asarray(value) for key, value in arguments.items() if value is not None}
        shapes = " and ".join(f"{key} {value.shape}" for key, value in given.items())
        advice = _advice(function, arguments)
        if line and line in advice:
            message = f"{name} must work on whole arrays, here {shapes}; it fails at {advice}"
        else:
            message = f"{name} fails for {shapes}: {error}{line}"
        raise UsageError(message) from error


def _advice(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return what a formula does that arrays cannot do, its line, and what to write; empty if a trace does not tell."""
    graph, symbols = Graph(), list[Any]()
    for name, value in arguments.items():
        array = np.asarray(value)
        kind = {"u": "i"}.get(array.dtype.kind, array.dtype.kind)
        symbols.append(None if value is None else Symbol(graph.input(name, array.shape, kind), fixed=True))
    try:
        with np.errstate(all="ignore"):
            function(*symbols)
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol)
        if str(error).startswith(CANNOT):
            return str(error).removeprefix(CANNOT)
    return ""


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
        symbols = [Symbol(graph.input(f"{index}", (graph.rows, tried_width(self)))) for index in range(count)]
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
