"""Activations: the function f that turns a unit's weighted sum h into its output a = f(h), and its derivative f'(h).

``h`` is always the pre-activation and ``a`` the output. A formula is written with NumPy functions and serves single
numbers and arrays of any shape; the base classes own the loops, the memory and the casting.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from framework.arrays import Array, blocks
from framework.component import Component, belongs_to
from framework.errors import DerivativeError, DtypeError, ShapeError

_LARGEST_EXPONENT = {"float32": 88.72283, "float64": 709.782712893384}
"""The logarithm of the largest number of each dtype: exp of it is still finite."""


class Activation(Component):
    """An elementwise activation: write ``__call__(h)`` and ``derivative(h)``.

    Each output depends on its own h alone. ``derivative_from_output(a)`` is optional, for formulas whose derivative is
    cheaper in terms of the output. ``output_range`` may name the interval of the outputs, so that a loss can refuse an
    activation that cannot serve it.

    Example:
        >>> class Cubic(Activation):
        ...     def __call__(self, h):
        ...         return h**3
        ...
        ...     def derivative(self, h):
        ...         return 3 * h**2
        >>> Cubic()(2.0), Cubic().derivative(2.0)
        (8.0, 12.0)
    """

    output_range: ClassVar[tuple[float, float] | None] = None
    _has_derivative: ClassVar[bool] = False
    _has_derivative_from_output: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Note which derivatives the class writes, so that no step has to ask."""
        super().__pydantic_init_subclass__(**options)
        cls._has_derivative = belongs_to(cls, "derivative", "__call__")
        cls._has_derivative_from_output = belongs_to(cls, "derivative_from_output", "__call__", "derivative")

    @abstractmethod
    def __call__(self, h: Any) -> Any:
        """Return a = f(h), of the shape of ``h``."""

    def derivative(self, h: Any) -> Any:
        """Return f'(h), of the shape of ``h``.

        Raises:
            DerivativeError: The class does not write its derivative.
        """
        raise DerivativeError(_no_derivative(type(self)))

    def derivative_from_output(self, a: Any) -> Any:
        """Return f'(h) in terms of the output a = f(h); write it only where it is cheaper than ``derivative``."""
        raise DerivativeError(f"{type(self).__name__} does not write derivative_from_output(a)")

    def require_derivative(self) -> Self:
        """Return the activation itself, or refuse one that cannot be trained.

        Raises:
            DerivativeError: The class writes neither derivative.
        """
        if not (self._has_derivative or self._has_derivative_from_output):
            raise DerivativeError(_no_derivative(type(self)))
        return self

    def slope(self, h: Any, a: Any) -> Any:
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
            slope = self.slope(flat_h[part], flat_a[part])
            require_like(self, "derivative", slope, flat_h[part].shape)
            np.multiply(flat_gradient[part], slope, out=flat_out[part], casting="same_kind")
        return out


class RowActivation(Component):
    """An activation that couples the values of a row: write ``__call__(h)`` and ``backward(gradient, h, a)``.

    The last axis is the row. There is no elementwise derivative: each output depends on every h of its row.

    Example:
        >>> Softmax()(np.log([[1.0, 2.0, 1.0]]))
        array([[0.25, 0.5 , 0.25]])
    """

    output_range: ClassVar[tuple[float, float] | None] = None

    @abstractmethod
    def __call__(self, h: Any) -> Any:
        """Return the outputs a, of the shape of ``h``."""

    @abstractmethod
    def backward(self, gradient: Any, h: Any, a: Any) -> Any:
        """Return dL/dh of the shape of ``h``, given dL/da, h and a."""

    def require_derivative(self) -> Self:
        """Return the activation itself, or refuse one whose backward belongs to another formula.

        Raises:
            DerivativeError: The class writes ``__call__`` anew but not ``backward``.
        """
        if not belongs_to(type(self), "backward", "__call__"):
            raise DerivativeError(
                f"{type(self).__name__} writes __call__ anew, so the backward that it inherits is of another "
                "formula: write backward(self, gradient, h, a)"
            )
        return self

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


def require_like(formula: Component, method: str, result: Any, shape: tuple[int, ...]) -> None:
    """Refuse a formula's result that has another shape or is not real.

    Raises:
        ShapeError: The formula changed the shape.
        DtypeError: The formula's result is not real.
    """
    if np.shape(result) != shape:
        raise ShapeError(
            f"{type(formula).__name__}.{method} must keep the shape: expected {shape}; got {np.shape(result)}. "
            "Use NumPy functions that work element by element"
        )
    kind = result.dtype if isinstance(result, np.ndarray | np.generic) else np.asarray(result).dtype
    if kind.kind not in "fiub":
        raise DtypeError(f"{type(formula).__name__}.{method} must give real numbers; got {kind}")


def _no_derivative(cls: type[Activation]) -> str:
    if any(getattr(cls, name) is not getattr(Activation, name) for name in ("derivative", "derivative_from_output")):
        return (
            f"{cls.__name__} writes __call__ anew, so the derivative that it inherits is of another formula: "
            "write derivative(self, h)"
        )
    return (
        f"{cls.__name__} has no derivative: write derivative(self, h), the slope of __call__ at h, "
        "or derivative_from_output(self, a) in terms of the output"
    )


def largest_exponent(h: Any) -> float:
    """Return the largest number whose exponential is finite in the dtype of ``h``.

    Example:
        >>> largest_exponent(np.float32(1.0))
        88.72283
    """
    return _LARGEST_EXPONENT["float32" if getattr(h, "dtype", None) == np.float32 else "float64"]


class Identity(Activation):
    """f(h) = h, f'(h) = 1. For regression. Range (-inf, inf).

    Example:
        >>> Identity()(3.0), float(Identity().derivative(3.0))
        (3.0, 1.0)
    """

    output_range = (-np.inf, np.inf)

    def __call__(self, h: Any) -> Any:
        """Return h."""
        return h

    def derivative(self, h: Any) -> Any:
        """Return 1."""
        return np.ones_like(h)[()]


class Sigmoid(Activation):
    """f(h) = 1 / (1 + exp(-h)), f'(h) = f(h) (1 - f(h)). For probabilities. Range (0, 1).

    This is the textbook formula, bit for bit, with the exponent held below the logarithm of the dtype's largest number:
    it never overflows, and for large negative h it keeps its relative accuracy. (A form with two branches, one for each
    sign, would give other last bits.)

    Example:
        >>> float(Sigmoid()(0.0)), float(Sigmoid().derivative(0.0))
        (0.5, 0.25)

    Source:
        Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).
    """

    output_range = (0.0, 1.0)

    def __call__(self, h: Any) -> Any:
        """Return 1 / (1 + exp(-h))."""
        return 1.0 / (1.0 + np.exp(np.minimum(-h, largest_exponent(h))))

    def derivative(self, h: Any) -> Any:
        """Return f(h) (1 - f(h))."""
        return self.derivative_from_output(self(h))

    def derivative_from_output(self, a: Any) -> Any:
        """Return a (1 - a)."""
        return a * (1.0 - a)


class Tanh(Activation):
    """f(h) = tanh(h), f'(h) = 1 - tanh(h)^2. Range (-1, 1).

    Example:
        >>> float(Tanh()(0.0)), float(Tanh().derivative(0.0))
        (0.0, 1.0)

    Source:
        LeCun et al., Efficient BackProp (1998), section 4.4.
    """

    output_range = (-1.0, 1.0)

    def __call__(self, h: Any) -> Any:
        """Return tanh(h)."""
        return np.tanh(h)

    def derivative(self, h: Any) -> Any:
        """Return 1 - tanh(h)^2."""
        return self.derivative_from_output(np.tanh(h))

    def derivative_from_output(self, a: Any) -> Any:
        """Return 1 - a^2."""
        return 1.0 - a * a


class ReLU(Activation):
    """f(h) = max(h, 0), f'(h) = 1 where h > 0, else 0. Range [0, inf).

    At the kink the derivative is 0 by convention, as in PyTorch.

    Example:
        >>> ReLU()(np.array([-1.0, 0.0, 2.0])), ReLU().derivative(np.array([-1.0, 0.0, 2.0]))
        (array([0., 0., 2.]), array([0., 0., 1.]))

    Source:
        Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010).
    """

    output_range = (0.0, np.inf)

    def __call__(self, h: Any) -> Any:
        """Return max(h, 0)."""
        return np.maximum(h, 0.0)

    def derivative(self, h: Any) -> Any:
        """Return 1 where h > 0, else 0."""
        return np.greater(h, 0).astype(np.result_type(h, 0.0))


class Softmax(RowActivation):
    """a_i = exp(h_i) / sum_j exp(h_j) over the last axis: the probabilities of classes, which sum to 1. Range (0, 1).

    The row's maximum is subtracted first, which changes nothing but the overflow.

    Example:
        >>> Softmax()(np.array([1000.0, 1000.0]))
        array([0.5, 0.5])

    Source:
        Bridle, Probabilistic interpretation of feedforward classification network outputs (1990).
    """

    output_range = (0.0, 1.0)

    def __call__(self, h: Any) -> Any:
        """Return exp(h) / sum(exp(h)) along the last axis."""
        exponentials = np.exp(h - np.max(h, axis=-1, keepdims=True))
        return exponentials / np.sum(exponentials, axis=-1, keepdims=True)

    def backward(self, gradient: Any, h: Any, a: Any) -> Any:
        """Return a * (gradient - sum(gradient * a)): the softmax's Jacobian applied to the gradient."""
        return a * (gradient - np.sum(gradient * a, axis=-1, keepdims=True))
