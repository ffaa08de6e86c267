"""The operations of a graph in ONNX: a row for each, beside the table of ``framework.graph.operations``.

A row of ``OPERATORS`` names the operator of ONNX that computes the same. A row of ``FORMULAS`` writes an operation with
others, as a formula of NumPy. ``WIDE`` has the formulas for float64, in which ONNX Runtime lacks some operators; they
keep the digits of float64. ``STRUCTURES`` in ``writer.py`` has the operations that need several operators or
attributes. An operation without a row is refused by its name.

Source:
    ONNX operators, opset 21 (2024). Abramowitz and Stegun, Handbook of mathematical functions, sections 4.4 to 4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from framework.base.special import erf_near, erfc_tail

OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "negative": "Neg",
    "positive": "Identity",
    "reciprocal": "Reciprocal",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "arcsin": "Asin",
    "arccos": "Acos",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "tanh": "Tanh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
    "erf": "Erf",
    "abs": "Abs",
    "maximum": "Max",
    "minimum": "Min",
    "where": "Where",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "rint": "Round",  # half to even, as NumPy
    "isnan": "IsNaN",
    "isinf": "IsInf",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "equal": "Equal",
}
"""Elementwise operations that are one operator."""

LOGIC = {
    "logical_not": "Not",
    "invert": "Not",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    # of booleans
    "equal": "Equal",
    "add": "Or",
    "maximum": "Or",
    "multiply": "And",
    "minimum": "And",
}
"""Elementwise operations on booleans."""

REDUCERS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd"}
REDUCERS |= {"any": "ReduceMax", "all": "ReduceMin"}
EXTREMES = {"argmax": "ArgMax", "argmin": "ArgMin"}


def _signbit(x: Any) -> Any:
    """Return whether the sign is negative; that of a zero shows in its reciprocal."""
    return (x < 0) | ((x == 0) & (np.reciprocal(x) < 0))


def _copysign(a: Any, b: Any) -> Any:
    return np.where(_signbit(b), -np.abs(a), np.abs(a))


def _expm1(x: Any) -> Any:
    """Return tanh(x / 2) (exp(x) + 1): no digits are lost near 0, and both ends are right."""
    return np.tanh(0.5 * x) * (np.exp(x) + 1.0)


def _log1p(x: Any) -> Any:
    """Return log(u) x / (u - 1) with u = 1 + x, which loses no digits near 0."""
    u = 1.0 + x
    ends = (u == 1.0) | (u == math.inf)
    ratio = x / np.where(ends, 1.0, u - 1.0)
    return np.where(ends, x, np.log(u) * ratio)


def _logaddexp(a: Any, b: Any) -> Any:
    """Return max(a, b) + log(1 + exp(-|a - b|)), where inf - inf counts as 0."""
    apart = np.where(a == b, 0.0, a - b)
    return np.maximum(a, b) + _log1p(np.exp(-np.abs(apart)))


def _arctan2(a: Any, b: Any) -> Any:
    """Return the angle of the point (b, a): arctan(a / b), turned by half a circle where b is negative."""
    both = np.isinf(a) & np.isinf(b)
    a, b = np.where(both, np.sign(a), a), np.where(both, np.sign(b), b)
    steep = np.abs(a) > np.abs(b)
    small, large = np.where(steep, b, a), np.where(steep, a, b)
    ratio = np.where(large == 0, 0.0, np.abs(small) / np.where(large == 0, 1.0, np.abs(large)))
    angle = np.arctan(ratio)  # of the first eighth of the circle
    angle = np.where(steep, 0.5 * math.pi - angle, angle)
    angle = _copysign(np.where(_signbit(b), math.pi - angle, angle), a)
    return np.where(np.isnan(a) | np.isnan(b), a + b, angle)


def _mod(a: Any, b: Any) -> Any:
    """Return the remainder with the sign of b."""
    rest = np.fmod(a, b)
    return np.where(_signs_differ(rest, b), rest + b, rest)


def _signs_differ(rest: Any, b: Any) -> Any:
    """Return whether a remainder has another sign than the divisor."""
    return ((rest < 0) & (b > 0)) | ((rest > 0) & (b < 0))


def _floor_divide(a: Any, b: Any) -> Any:
    """Return (a - rest) / b, which rounding may have moved from a whole number."""
    rest = np.fmod(a, b)
    whole = np.rint((a - rest) / b)
    return np.where(b == 0, a / b, np.where(_signs_differ(rest, b), whole - 1.0, whole))


def _hypot(a: Any, b: Any) -> Any:
    a, b = np.abs(a), np.abs(b)
    large, small = np.maximum(a, b), np.minimum(a, b)
    ratio = small / np.where((large == 0) | np.isinf(large), 1.0, large)
    return np.where(np.isinf(large), large, large * np.sqrt(1.0 + ratio * ratio))


def _cbrt(x: Any) -> Any:
    """Return the cube root: that of a power, with one step of Newton's method, which makes the last digits right."""
    size = np.where((x == 0) | np.isinf(x), 1.0, np.abs(x))
    root = size ** (1.0 / 3.0)
    root = root - (root - size / (root * root)) / 3.0
    return np.where((x == 0) | np.isinf(x), x, _copysign(root, x))


def _erfc_far(size: Any) -> Any:
    x = np.minimum(size, 28.0)
    z = np.rint(x * 64.0) / 64.0  # few digits, so that z^2 is exact in float32 too
    return np.where(np.isnan(size), size, erfc_tail(x, z))


def _erfc(x: Any) -> Any:
    size = np.abs(x)
    inner = np.clip(x, -1.0, 1.0)
    near, far = 1.0 - (inner + inner * erf_near(inner)), _erfc_far(size)
    return np.where(size < 1.0, near, np.where(x < 0, 2.0 - far, far))


def _erf(x: Any) -> Any:
    size = np.abs(x)
    inner = np.clip(x, -1.0, 1.0)
    return np.where(size < 1.0, inner + inner * erf_near(inner), _copysign(1.0 - _erfc_far(size), x))


def _var(x: Any, *, axes: tuple[int, ...], keepdims: bool, ddof: int) -> Any:
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    total = np.sum(deviation * deviation, axis=axes, keepdims=keepdims)
    return total / (x.number(math.prod(x.shape[axis] for axis in axes)) - ddof)


FORMULAS: dict[str, Callable[..., Any]] = {
    "square": lambda x: x * x,
    "exp2": lambda x: np.power(2.0, x),
    "log2": lambda x: np.log(x) * (1.0 / math.log(2.0)),
    "log10": lambda x: np.log(x) * (1.0 / math.log(10.0)),
    "expm1": _expm1,
    "log1p": _log1p,
    "logaddexp": _logaddexp,
    "cbrt": _cbrt,
    "hypot": _hypot,
    "arctan2": _arctan2,
    "erfc": _erfc,
    "fmax": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.maximum(a, b))),
    "fmin": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.minimum(a, b))),
    "copysign": _copysign,
    "signbit": _signbit,
    "mod": _mod,
    "floor_divide": _floor_divide,
    "trunc": lambda x: np.where(x < 0, np.ceil(x), np.floor(x)),
    "heaviside": lambda a, b: np.where(a == 0, b, np.where(a > 0, 1.0, np.where(a < 0, 0.0, a))),
    "isfinite": lambda x: ~(np.isnan(x) | np.isinf(x)),
    "not_equal": lambda a, b: ~(a == b),
    "var": _var,
}
"""Operations that are a formula of others."""


def _sinh(x: Any) -> Any:
    """Return (u + u / (u + 1)) / 2 with u = exp(|x|) - 1; of large |x| exp(|x| / 2)^2 / 2, which overflows late."""
    size = np.abs(x)
    u, root = _expm1(np.minimum(size, 20.0)), np.exp(0.5 * size)
    return _copysign(np.where(size > 20.0, 0.5 * root * root, 0.5 * (u + u / (u + 1.0))), x)


def _cos(x: Any) -> Any:
    """Return 1 - 2 sin(x / 2)^2: many versions of ONNX Runtime lack the cosine of float64."""
    half = np.sin(0.5 * x)
    return 1.0 - 2.0 * half * half


def _cosh(x: Any) -> Any:
    root = np.exp(0.5 * np.abs(x))
    return 0.5 * root * root + 0.5 / root / root


def _arcsinh(x: Any) -> Any:
    size = np.abs(x)
    inner = np.minimum(size, 1e8)
    near = _log1p(inner + inner * inner / (1.0 + np.sqrt(1.0 + inner * inner)))
    return _copysign(np.where(size > 1e8, np.log(np.maximum(size, 1.0)) + math.log(2.0), near), x)


def _arccosh(x: Any) -> Any:
    above = np.minimum(x, 1e8) - 1.0
    near = _log1p(above + np.sqrt(above) * np.sqrt(above + 2.0))
    return np.where(x > 1e8, np.log(np.maximum(x, 1.0)) + math.log(2.0), near)


WIDE: dict[str, Callable[..., Any]] = {
    "erf": _erf,
    "cos": _cos,
    "tan": lambda x: np.sin(x) / np.cos(x),
    "arcsin": lambda x: _arctan2(x, np.sqrt((1.0 - x) * (1.0 + x))),
    "arccos": lambda x: _arctan2(np.sqrt((1.0 - x) * (1.0 + x)), x),
    "sinh": _sinh,
    "cosh": _cosh,
    "arcsinh": _arcsinh,
    "arccosh": _arccosh,
    "arctanh": lambda x: 0.5 * (_log1p(x) - _log1p(-x)),
}
"""Formulas in place of operators that ONNX Runtime does not have for float64."""
