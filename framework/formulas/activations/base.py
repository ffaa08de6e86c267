"""Activations: the function f that turns a unit's weighted sum h into its output a = f(h), and the way back through it.

``h`` is always the pre-activation and ``a`` the output. A formula is written with NumPy functions and serves arrays of
any shape. The base class owns the loops, the memory and the casting.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from framework.backends.programs import Formula, Program, call_formula, program_of, programs_of, trial_width
from framework.backends.text import CLASSES
from framework.base.arrays import Array, numeric
from framework.base.errors import DerivativeError, SettingsError, brief
from framework.base.settings.component import PlainFunction, belongs_to, require_function
from framework.formulas.derivatives import check_activation
from framework.graph.graph import Call
from framework.graph.symbol import Symbol
from framework.graph.trace import share
from framework.views import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Activation(Formula):
    """An activation: write ``__call__(h)``, and the rest is derived from it.

    A formula works on each element alone, or on rows: the last axis is the row, as in Softmax. ``derivative(h)`` of an
    elementwise formula is derived unless it is written, and so is the way back through a formula over rows,
    ``backward(gradient, h, a)``. A written derivative is checked against the formula at first use.

    Attributes:
        output_range: The interval of the outputs, so that a loss can refuse an activation that cannot serve it; a
            property where it depends on a setting. None is not known.
        writes_derivative: Whether the class writes ``derivative``; set with the class.
        writes_backward: Whether the class writes ``backward``; set with the class.
        check: ``"off"`` for a derivative that differs from the formula's on purpose.

    Raises:
        DerivativeError: A written derivative is wrong, or the formula cannot be derived; at first use.
        SettingsError: ``output_range`` is not an interval.

    Example:
        >>> class Cubic(Activation):
        ...     def __call__(self, h):
        ...         return h**3
        >>> Cubic()(2.0), float(Cubic().derivative(2.0))
        (8.0, 12.0)
    """

    if TYPE_CHECKING:  # so that a subclass may write a constant or a property

        @property
        def output_range(self) -> tuple[float, float] | None: ...
    else:
        output_range: ClassVar[tuple[float, float] | None] = None
    _formula: ClassVar[Callable[..., Any]]
    _methods: ClassVar[dict[str, int]] = {"_formula": 1, "derivative": 1, "backward": 3}
    writes_derivative: ClassVar[bool]
    writes_backward: ClassVar[bool]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Drop derivatives inherited with another formula, and note which ones the class writes."""
        super().__pydantic_init_subclass__(**options)
        if "__call__" in vars(cls):
            cls._formula = vars(cls)["__call__"]
            cls.__call__ = _traceable(cls._formula)  # type: ignore[method-assign]
        for name in ("derivative", "backward"):
            if not belongs_to(cls, name, "__call__"):
                setattr(cls, name, getattr(Activation, name))
            setattr(cls, f"writes_{name}", getattr(cls, name) is not getattr(Activation, name))

    def model_post_init(self, context: object) -> None:
        """Check the range of the outputs."""
        match self.output_range:
            case None:
                return
            case (float() | int() as low, float() | int() as high) if low < high:
                return
        raise SettingsError(
            f"output_range must be (low, high), the interval of the outputs, or None; got {brief(self.output_range)}"
        )

    @staticmethod
    def of(function: Callable[[Any], Any]) -> Activation:
        """Return an activation whose formula is a plain function of h. It has no JSON form.

        Raises:
            SettingsError: The argument is not a function of one argument.

        Example:
            >>> Activation.of(np.tanh), float(Activation.of(np.tanh).derivative(0.0))
            (Activation.of(tanh), 1.0)
        """
        require_function("Activation.of", function, "h")
        return _FunctionActivation(function=function)

    @abstractmethod
    def __call__(self, h: Any) -> Any:
        """Return a = f(h), of the shape of ``h``."""

    def derivative(self, h: Any) -> Any:
        """Return f'(h), of the shape of ``h``: by the chain rule over the formula, unless the class writes it.

        Raises:
            DerivativeError: The formula cannot be traced, or it couples the elements of a row.
        """
        program = self.program(h := numeric(h, "h"))
        if not program.elementwise:
            raise DerivativeError(
                f"{type(self).__name__} couples the elements of a row, so it has no elementwise derivative: use "
                "backward(gradient, h, a)"
            )
        return program.derivative(h)

    def backward(self, gradient: Any, h: Any, a: Any) -> Any:
        """Return dL/dh of the shape of ``h``, given dL/da, h and a.

        Raises:
            DerivativeError: The formula cannot be traced; says why, and what to write.
        """
        if not self.coupled:
            return gradient * self.derivative(h)
        rows = [np.reshape(x, (-1, np.shape(x)[-1])) for x in (gradient, h)]
        return np.reshape(self.program(h).pullback(*rows), np.shape(h))

    @property
    def coupled(self) -> bool:
        """Whether the elements of a row depend on one another, as in Softmax."""
        if self.writes_derivative or self.writes_backward:
            return not self.writes_derivative

        def couples() -> bool:
            return bool(share(("coupled", self, self.traced_key), lambda: not self.program().elementwise))

        return bool(share("coupled", couples, programs_of(self)))

    def program(self, like: Any = None) -> Program:
        """Return the traced formula, for the dtype and the rows of ``like``."""
        return program_of(self, "_formula", ("h",), like)

    def label_formulas(self) -> dict[str, Any]:
        """Return the formula and its derivative by label, for ``show``."""
        written = (lambda _, h: self.derivative(h)) if self.writes_derivative else None
        return self.program(np.empty((1, trial_width(self, CLASSES)))).formulas_by_label("f", written)

    def plot(self, *, span: tuple[float, float] = (-5.0, 5.0), axis: Axes | None = None) -> Axes:
        """Draw f and f' over h; see ``plots.activation``."""
        return plots.activation(self, span=span, axis=axis)

    def require_traced_derivative(self) -> bool:
        if not (self.writes_derivative or self.writes_backward):  # then the formula must be traceable
            share(("traceable", self, self.traced_key), self.program)
        return super().require_traced_derivative()

    def require_units(self, units: int | None, name: str = "") -> None:
        """Check that the output over a row of this many units is not constant; ``name`` is the setting's, for messages.

        Raises:
            SettingsError: It is, as that of Softmax over one unit.
        """
        if units == 1 and self.coupled:
            first, second = self(np.array([[-0.7], [1.3]]))
            if first == second:
                problem = f"{self!r} over a row of 1 unit is constant: use Sigmoid for two classes"
                raise SettingsError(f"must work on 1 unit; {problem}" if name else problem, name=name)

    def check_derivative(self) -> None:
        check_activation(self)

    def _record_call(self, formula: Callable[..., Any], h: Symbol) -> Any:
        """Return f(h) in a formula that is being traced, and note the call there."""
        if formula is not type(self)._formula:  # super().__call__(h)
            return formula(self, h)
        if written := self.writes_derivative or self.writes_backward:
            h.node.graph.written.append(self)
        try:
            a = formula(self, h)
            a = a.astype(float) if isinstance(a, Symbol) else np.full_like(h, a)
        except DerivativeError:
            if not written:
                raise
            a = h.record("python", function=self._on_arrays, pullback=self._pull_array, name=type(self).__name__)
        if isinstance(a, Symbol) and a.node.op != "python":
            written = written and a.node is not h.node  # Identity hands its argument on
            a.graph.calls[a.node] = Call(self, h.node, self._pull_back if written else None)
        return a

    def _pull_back(self, gradient: Symbol, h: Symbol, a: Symbol) -> Any:
        """Return the gradient by h with the written derivative; Python calls it on arrays where it cannot be traced."""
        try:
            return self.backward(gradient, h, a) if self.writes_backward else gradient * self.derivative(h)
        except DerivativeError:
            return gradient.record("python", h, a, function=self._pull_array, pullback=None, name="derivative")

    def _on_arrays(self, h: Array) -> Array:
        return np.asarray(self._formula(h), h.dtype)

    def _pull_array(self, gradient: Array, h: Array, a: Array) -> Array:
        return np.asarray(self.backward(gradient, h, a), h.dtype)


def _traceable(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a formula that notes its calls on symbols."""

    @wraps(formula)
    def __call__(self: Activation, h: Any) -> Any:  # noqa: N807 (it becomes the method)
        if type(h) is Symbol:
            return self._record_call(formula, h)
        return call_formula(self, "__call__", partial(formula, self), h=numeric(h, "h"))

    return __call__


class _FunctionActivation(PlainFunction, Activation):
    """A plain function of h; made by ``Activation.of``."""

    made_by = "Activation.of"

    def __call__(self, h: Any) -> Any:
        return self.function(h)
