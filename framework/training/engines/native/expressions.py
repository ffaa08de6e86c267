"""Expressions: elementwise operations as expressions of the kernel language."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from framework.backends.writer import Target, Text
from framework.graph.graph import kind_of
from framework.graph.node import Node
from framework.graph.operations import COMPARISONS, OPERATIONS
from framework.training.engines.records import CannotLower

_JOINS = {"bitwise_and": "&", "bitwise_or": "|", "logical_and": "&", "logical_or": "|", "logical_xor": "^"}
_JOINS_OF_BOOLEANS = {"add": "|", "maximum": "|", "multiply": "&", "minimum": "&"}
"""NumPy's arithmetic of two booleans is boolean: True + True is True, not 2."""


class Expressions(Target):
    """Writes elementwise operations as expressions of the kernel language.

    The language converts no boolean and no number by itself. Integers are only indexed with and converted: what a
    formula computes with them is computed in floats, see ``rewrite``.
    """

    texts: ClassVar[dict[str, Text]] = {
        **{op: OPERATIONS[op].text for op in ("add", "subtract", "multiply", "divide", *COMPARISONS)},
        "negative": "-{0}",
        "positive": "{0}",
        "square": "{0} * {0}",
        "reciprocal": "real(1.0) / {0}",
        **dict.fromkeys(("invert", "logical_not"), "not ({0})"),
        "where": "{1} if {0} else {2}",
        "power": lambda writer, node: writer._power(node),
    }

    def __init__(self, text_of: Callable[[Any], str]) -> None:
        """Begin; ``text_of`` returns the text of a node that is known or of a plain number."""
        self._text_of = text_of

    def text(self, value: Any, binding: int = 0) -> str:
        return self._text_of(value)

    def expression(self, node: Node) -> str:
        """Return the expression of an elementwise operation.

        Raises:
            CannotLower: It has no form in a kernel.
        """
        op, booleans = node.op, all(kind_of(arg) == "b" for arg in node.args)
        if op in ("bitwise_and", "bitwise_or", "invert") and not booleans:
            raise CannotLower(f"np.{op} of integers has no form in a kernel", op)
        join = _JOINS.get(op) or (_JOINS_OF_BOOLEANS.get(op) if node.kind == "b" else None)
        if join:
            return f" {join} ".join(f"({self._of_kind('b', arg)})" for arg in node.args)
        if op == "astype":
            text = self._of_kind("b" if node.kind == "b" else "f", node.args[0])
            return text if node.kind == "b" else f"{'real' if node.kind == 'f' else 'int'}({text})"
        if booleans and node.kind != "b":  # in NumPy it has a short dtype, or is an error
            raise CannotLower(f"np.{op} of a boolean has no form in a kernel: write np.where(condition, 1.0, 0.0)", op)
        expression = super().expression(node)
        assert expression is not None
        return expression

    def template(self, node: Node) -> str:
        return f"{node.op}({{arguments}})"

    def arguments(self, node: Node, template: str = "") -> list[str]:
        if node.op in ("invert", "logical_not"):
            return [self._of_kind("b", node.args[0])]
        if node.op == "where":
            kinds = ["b", *["b" if node.kind == "b" else "f"] * 2]
            return [self._of_kind(kind, arg) for kind, arg in zip(kinds, node.args, strict=True)]
        texts = [self._of_kind("f", arg) for arg in node.args]
        operator = template and not template.endswith("({arguments})")
        return [f"({text})" if operator and text.startswith("-") else text for text in texts]

    def _of_kind(self, kind: str, value: Any) -> str:
        """Return a value as a boolean or a number."""
        node = isinstance(value, Node)
        if kind == "b" and not node:
            return repr(bool(value))
        text = self.text(value)
        if kind_of(value) != "b":
            return f"{text} != real(0.0)" if kind == "b" else text
        return f"(real(1.0) if {text} else real(0.0))" if kind == "f" and node else text

    def _power(self, node: Node) -> str:
        """Return a power without a call of the library, where its exponent allows it."""
        base, exponent = self.arguments(node)[0], node.args[1]
        if isinstance(exponent, Node) or exponent not in (0.5, 2, 3, 4):
            return self.fill_template(node, self.template(node))
        return f"sqrt({base})" if exponent == 0.5 else " * ".join([base] * int(exponent))


def literal(value: Any) -> str:
    """Return a plain number in the dtype of the kernel."""
    number = float(value)
    text = "nan" if math.isnan(number) else f"{'-' if number < 0 else ''}inf" if math.isinf(number) else repr(number)
    return f"real({text})"
