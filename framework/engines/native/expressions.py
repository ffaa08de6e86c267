"""Elementwise operations as expressions of the kernel language."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.engines.records import CannotLower
from framework.graph.node import Node

INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"} | {
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
_OF_INTEGERS = {"mod": "%", "floor_divide": "//"}
CONNECTIVES = {"bitwise_and": "&", "bitwise_or": "|", "logical_and": "&", "logical_or": "|", "logical_xor": "^"}
BITS = frozenset({"bitwise_and", "bitwise_or", "invert"})
_FORMATS = {"negative": "-{0}", "positive": "{0}", "square": "{0} * {0}", "reciprocal": "real(1.0) / {0}"}

OF_BOOLEANS = {"add": "|", "maximum": "|", "multiply": "&", "minimum": "&"}
"""NumPy's arithmetic of two booleans is boolean: True + True is True, not 2."""


def expression(node: Node, texts: Sequence[str]) -> str:
    """Return the expression of an elementwise operation.

    Args:
        node: The operation.
        texts: Its arguments, plain numbers among them.

    Raises:
        CannotLower: It has no form in a kernel.
    """
    op, pairs = node.op, [*zip(node.args, texts, strict=True)]
    booleans = all(map(is_boolean, node.args))
    if op in BITS and not booleans:
        raise CannotLower(f"np.{op} of integers has no form in a kernel", op)
    if op == "where":
        condition, *choices = pairs
        text_of = _boolean if node.kind == "b" else _number
        yes, no = (text_of(*choice) for choice in choices)
        return f"{yes} if {_boolean(*condition)} else {no}"
    if connective := CONNECTIVES.get(op) or (OF_BOOLEANS.get(op) if node.kind == "b" else None):
        return f" {connective} ".join(f"({_boolean(*pair)})" for pair in pairs)
    if op in ("invert", "logical_not"):
        return f"not ({_boolean(*pairs[0])})"
    if op == "astype":
        return _converted(node.attributes["to"], *pairs[0])
    if booleans and node.kind != "b":  # in NumPy it has a short dtype, or is an error
        raise CannotLower(f"np.{op} of a boolean has no form in a kernel: write np.where(condition, 1.0, 0.0)", op)
    return _of_numbers(node, pairs)


def _of_numbers(node: Node, pairs: list[tuple[Any, str]]) -> str:
    """Return the expression of an operation on floats or integers."""
    op = node.op
    if node.kind == "i" and op in _OF_INTEGERS:
        return f" {_OF_INTEGERS[op]} ".join(_integer(*pair) for pair in pairs)
    texts = [(_integer if node.kind == "i" else _number)(*pair) for pair in pairs]
    if op == "power" and (short := _power(node.args[1], texts[0])) is not None:
        return short
    if op in INFIX:
        return f" {INFIX[op]} ".join(f"({text})" if text.startswith("-") else text for text in texts)
    return _FORMATS[op].format(*texts) if op in _FORMATS else f"{op}({', '.join(texts)})"


def literal(value: Any) -> str:
    """Return a plain number in the dtype of the kernel."""
    return f"real({written(float(value))})"


def written(number: float) -> str:
    """Return a number as Python."""
    return "nan" if math.isnan(number) else f"{'-' if number < 0 else ''}inf" if math.isinf(number) else repr(number)


def is_boolean(value: Any) -> bool:
    """Return whether a node or a plain number is boolean."""
    return value.kind == "b" if isinstance(value, Node) else isinstance(value, bool)


def _boolean(value: Any, text: str) -> str:
    if not isinstance(value, Node):
        return repr(bool(value))
    return text if is_boolean(value) else f"{text} != real(0.0)"


def _number(value: Any, text: str) -> str:
    return f"(real(1.0) if {text} else real(0.0))" if isinstance(value, Node) and is_boolean(value) else text


def _integer(value: Any, text: str) -> str:
    return repr(value) if isinstance(value, int) else text


def _converted(kind: str, value: Any, text: str) -> str:
    """Return a value as a float, an integer or a boolean."""
    if kind == "b":
        return _boolean(value, text)
    return f"real({_number(value, text)})" if kind == "f" else f"int({_number(value, text)})"


def _power(exponent: Any, base: str) -> str | None:
    """Return a power without a call of the library, where its exponent allows it."""
    if isinstance(exponent, Node) or exponent not in (0.5, 2, 3, 4):
        return None
    return f"sqrt({base})" if exponent == 0.5 else " * ".join([base] * int(exponent))
