"""The operations of a graph in ONNX: a row for each, beside the table of ``framework.graph.operations``.

A row of ``OPERATORS`` names the operator of ONNX that computes the same. A row of ``FORMULAS`` writes an operation with
others, as a formula of NumPy. A row of ``STRUCTURES`` is a function that writes the operators one by one. An operation
without a row is refused by its name.

Source:
    ONNX operators, opset 21 (2024). Abramowitz and Stegun, Handbook of mathematical functions, sections 4.4 to 4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.graph.node import Node
from framework.special import erf

if TYPE_CHECKING:
    from framework.export.onnx import Writer

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
    "arctan": "Atan",
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
    ends = (u == 1.0) | np.isinf(u)
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
    return _copysign(np.where(_signbit(b), math.pi - angle, angle), a)


def _mod(a: Any, b: Any) -> Any:
    """Return the remainder with the sign of b."""
    rest = np.fmod(a, b)
    return np.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


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


def _var(x: Any, *, axes: tuple[int, ...], keepdims: bool, ddof: int) -> Any:
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    total = np.sum(deviation * deviation, axis=axes, keepdims=keepdims)
    return total / (x.number(math.prod(x.shape[axis] for axis in axes)) - ddof)


def _softmax(x: Any, *, axes: tuple[int, ...]) -> Any:
    e = np.exp(x - np.max(x, axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)


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
    "erfc": lambda x: 1.0 - erf(x),
    "fmax": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.maximum(a, b))),
    "fmin": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.minimum(a, b))),
    "copysign": _copysign,
    "signbit": _signbit,
    "mod": _mod,
    "floor_divide": lambda a, b: np.rint((a - _mod(a, b)) / b),
    "trunc": lambda x: np.where(x < 0, np.ceil(x), np.floor(x)),
    "heaviside": lambda a, b: np.where(a == 0, b, np.where(a > 0, 1.0, a * 0.0)),
    "isfinite": lambda x: ~(np.isnan(x) | np.isinf(x)),
    "not_equal": lambda a, b: ~(a == b),
    "var": _var,
}


# structures: (writer, node, names of the arguments) -> the name of the result


def _matmul(writer: Writer, _node: Node, args: list[str]) -> str:
    return writer.op("MatMul", *args)


def _reduced(writer: Writer, node: Node, args: list[str]) -> str:
    axes = writer.integers(node.attributes["axes"])
    return writer.op(REDUCERS[node.op], *args, axes, keepdims=int(node.attributes["keepdims"]))


def _softmax_of(writer: Writer, node: Node, args: list[str]) -> str:
    if len(node.attributes["axes"]) == 1:
        return writer.op("Softmax", *args, axis=node.attributes["axes"][0])
    return writer.formula(_softmax, node)


def _reshape(writer: Writer, node: Node, args: list[str]) -> str:
    return writer.op("Reshape", args[0], writer.shape(node.shape))


def _broadcast_to(writer: Writer, node: Node, args: list[str]) -> str:
    return writer.op("Expand", args[0], writer.shape(node.shape))


def _transpose(writer: Writer, node: Node, args: list[str]) -> str:
    return writer.op("Transpose", args[0], perm=[*node.attributes["axes"]])


def _astype(writer: Writer, node: Node, args: list[str]) -> str:
    return writer.cast(args[0], node.kind)


STRUCTURES: dict[str, Callable[[Writer, Node, list[str]], str]] = {
    "matmul": _matmul,
    **dict.fromkeys(REDUCERS, _reduced),
    "softmax": _softmax_of,
    "reshape": _reshape,
    "broadcast_to": _broadcast_to,
    "transpose": _transpose,
    "astype": _astype,
}
