"""Activations: the function f that turns a unit's weighted sum h into its output a = f(h), and its derivative f'(h).

``h`` is always the pre-activation and ``a`` the output. A formula is written with NumPy functions and serves single
numbers and arrays of any shape; the base classes own the loops, the memory and the casting.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.arrays import Array, blocks
from framework.component import Component, belongs_to
from framework.derivatives import (
    POINTS,
    ROWS,
    check_elementwise,
    check_rows,
    named_factors,
    require_elementwise,
    require_like,
    require_record,
)
from framework.errors import DerivativeError
from framework.formulas import Program, latex_of, program_of, show


class Activation(Component):
    """An elementwise activation: write ``__call__(h)``, and the rest is derived from it.

    Each output depends on its own h alone. ``derivative(h)`` is derived from the formula unless it is written;
    ``derivative_from_output(a)`` may be written where the derivative is cheaper in terms of the output. What is written
    is checked against the formula when it is first put to work.

    Attributes:
        output_range: The interval of the outputs, so that a loss can refuse an activation that cannot serve it.
        check: ``"off"`` for a derivative that differs from the formula's on purpose.

    Raises:
        DerivativeError: A written derivative is wrong, or the formula cannot be derived; when first put to work.

    Example:
        >>> class Cubic(Activation):
        ...     def __call__(self, h):
        ...         return h**3
        >>> Cubic()(2.0), float(Cubic().derivative(2.0))
        (8.0, 12.0)
    """

    output_range: ClassVar[tuple[float, float] | None] = None
    check: ClassVar[Literal["on", "off"]] = "on"
    _has_derivative: ClassVar[bool] = False
    _has_derivative_from_output: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Derive anew what a class inherits with another formula, and note which derivatives it writes."""
        super().__pydantic_init_subclass__(**options)
        if not belongs_to(cls, "derivative", "__call__"):
            cls.derivative = Activation.derivative  # type: ignore[method-assign]
        if not belongs_to(cls, "derivative_from_output", "__call__", "derivative"):
            cls.derivative_from_output = Activation.derivative_from_output  # type: ignore[method-assign]
        cls._has_derivative = cls.derivative is not Activation.derivative
        cls._has_derivative_from_output = cls.derivative_from_output is not Activation.derivative_from_output

    @abstractmethod
    def __call__(self, h: Any) -> Any:
        """Return a = f(h), of the shape of ``h``."""

    def derivative(self, h: Any) -> Any:
        """Return f'(h), of the shape of ``h``: by the chain rule over the formula, unless the class writes it.

        Raises:
            DerivativeError: The formula cannot be recorded; says why, and what to write.
        """
        return self.program(h).derivative(h)

    def derivative_from_output(self, a: Any) -> Any:
        """Return f'(h) in terms of the output a = f(h); write it only where it is cheaper than ``derivative``."""
        raise DerivativeError(f"{type(self).__name__} does not write derivative_from_output(a)")

    def program(self, like: Any = None) -> Program:
        """Return the record of the formula, for the dtype of ``like``: its value, derivative and text."""
        return program_of(self, "__call__", ("h",), like)

    def _repr_latex_(self) -> str | None:
        """Return what Jupyter draws: the formula and its derivative."""
        return latex_of(self)

    def require_derivative(self) -> Self:
        """Return the activation itself, checked once for its class and settings.

        Raises:
            DerivativeError: A written derivative is wrong, or none is written and the formula cannot be derived.
        """
        _checked(self)
        return self

    def check_derivative(self) -> None:
        """Compare the derivatives that training uses with the formula; see ``check_derivative``."""
        name = type(self).__name__
        require_elementwise(name, self)
        if not (self._has_derivative or self._has_derivative_from_output):
            require_record(name, self.program(), self, POINTS)
            check_elementwise(
                name,
                self,
                self.derivative,
                method="derivative (derived)",
                argument="h",
                advice="write derivative(h), and report the formula: the derived one should be right",
            )
            return
        if self._has_derivative_from_output:  # first, because a written derivative may call it
            meaning = "it is written in terms of h: name it derivative(h)"
            from_h = self.derivative_from_output
            self._compare("derivative_from_output", lambda h: from_h(self(h)), from_h, meaning)
        if self._has_derivative:
            meaning = "it is written in terms of the output a: name it derivative_from_output(a)"
            self._compare("derivative", self.derivative, lambda h: self.derivative(self(h)), meaning)

    def _compare(self, method: str, derivative: Any, alternative: Any, meaning: str) -> None:
        check_elementwise(
            type(self).__name__,
            self,
            derivative,
            method=method,
            argument="h",
            derived=self._derived,
            derivation=self._derivation(),
            alternative=(alternative, meaning),
            factors=named_factors(self.settings()),
        )

    def _derivation(self) -> Any:
        """Return the derived derivative, or None where the formula cannot be recorded."""
        try:
            return self.program().conventional
        except DerivativeError:
            return None

    def _derived(self) -> str:
        """Return the derived derivative as text."""
        return show(self).text.splitlines()[-1]

    def derivative_at(self, h: Any, a: Any) -> Any:
        """Return f'(h) by the cheaper of the two derivatives, given both h and a = f(h)."""
        return self.derivative_from_output(a) if self._has_derivative_from_output else self.derivative(h)

    def evaluate(self, h: Array, out: Array) -> Array:
        """Fill ``out`` with f(h), block by block, cast to its dtype. Both are contiguous; they may be the same."""
        flat_h, flat_out = h.reshape(-1), out.reshape(-1)
        for part in blocks(h.size, 1):
            assign(self, flat_out[part], self(flat_h[part]))
        return out

    def backward_into(self, gradient: Array, h: Array, a: Array, out: Array) -> Array:
        """Fill ``out`` with dL/dh = dL/da * f'(h), block by block, given dL/da."""
        flat_gradient, flat_h, flat_a, flat_out = (array.reshape(-1) for array in (gradient, h, a, out))
        for part in blocks(h.size, 1):
            slope = self.derivative_at(flat_h[part], flat_a[part])
            require_like(self, "derivative", slope, flat_h[part].shape)
            np.multiply(flat_gradient[part], slope, out=flat_out[part], casting="same_kind")
        return out


class RowActivation(Component):
    """An activation that couples the values of a row: write ``__call__(h)``, and its backward is derived from it.

    The last axis is the row. There is no elementwise derivative: each output depends on every h of its row. A written
    ``backward(gradient, h, a)`` is checked against the formula when it is first put to work.

    Example:
        >>> from framework import Softmax
        >>> Softmax()(np.log([[1.0, 2.0, 1.0]]))
        array([[0.25, 0.5 , 0.25]])
    """

    output_range: ClassVar[tuple[float, float] | None] = None
    check: ClassVar[Literal["on", "off"]] = "on"

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Derive anew a backward that a class inherits with another formula."""
        super().__pydantic_init_subclass__(**options)
        if not belongs_to(cls, "backward", "__call__"):
            cls.backward = RowActivation.backward  # type: ignore[method-assign]

    @abstractmethod
    def __call__(self, h: Any) -> Any:
        """Return the outputs a, of the shape of ``h``."""

    def backward(self, gradient: Any, h: Any, a: Any) -> Any:
        """Return dL/dh of the shape of ``h``, given dL/da, h and a.

        Raises:
            DerivativeError: The formula cannot be recorded; says why, and what to write.
        """
        return self.program(h).pullback(gradient, h)

    def program(self, like: Any = None) -> Program:
        """Return the record of the formula, for the dtype of ``like``."""
        return program_of(self, "__call__", ("h",), like, rows=True)

    def _repr_latex_(self) -> str | None:
        """Return what Jupyter draws: the formula."""
        return latex_of(self)

    def require_derivative(self) -> Self:
        """Return the activation itself, checked once for its class and settings.

        Raises:
            DerivativeError: A written backward is wrong, or none is written and the formula cannot be derived.
        """
        _checked(self)
        return self

    def check_derivative(self) -> None:
        """Compare the backward that training uses with the formula; see ``check_derivative``."""
        name = type(self).__name__
        require_like(name, "__call__", self(ROWS), ROWS.shape)
        check_rows(name, "backward", self, self._backward_of, ROWS)

    def _backward_of(self, gradient: Array, h: Array) -> Array:
        return np.asarray(self.backward(gradient, h, self(h)))

    def evaluate(self, h: Array, out: Array) -> Array:
        """Fill ``out`` with the outputs, some rows at a time, cast to its dtype."""
        for part in blocks(len(h), h.shape[-1]):
            assign(self, out[part], self(h[part]))
        return out

    def backward_into(self, gradient: Array, h: Array, a: Array, out: Array) -> Array:
        """Fill ``out`` with dL/dh, some rows at a time."""
        for part in blocks(len(h), h.shape[-1]):
            assign(self, out[part], self.backward(gradient[part], h[part], a[part]), "backward")
        return out


def assign(formula: Component, out: Array, result: Any, method: str = "__call__") -> None:
    """Copy a formula's result into ``out``, cast to its dtype.

    Raises:
        ShapeError: The formula changed the shape.
        DtypeError: The formula's result is not real.
    """
    require_like(formula, method, result, out.shape)
    np.copyto(out, result, casting="same_kind")


@lru_cache(maxsize=256)  # once for a class and its settings
def _checked(activation: Activation | RowActivation) -> None:
    if activation.check == "on":
        activation.check_derivative()
    elif isinstance(activation, Activation) and not (
        activation._has_derivative or activation._has_derivative_from_output
    ):
        activation.program()
