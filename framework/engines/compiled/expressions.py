"""Write the operations of a graph as expressions of the kernel language.

Constants are not part of the text. They are numbers k0, k1, ... that a function reads from an array, so that
Swish(beta=2.0) and Swish(beta=3.0) share one kernel. Only the few numbers that help the compiler stay literal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.engines.compiled.formulas import arguments
from framework.engines.native.expressions import BITS, CONNECTIVES, INFIX, OF_BOOLEANS, is_boolean, literal, written
from framework.engines.records import CannotLower, bare
from framework.graph.node import Node

LITERALS = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5})

_FORMATS = {"negative": "-{0}", "square": "{0} * {0}", "reciprocal": "{one} / {0}"} | {
    **dict.fromkeys(("positive", "astype"), "{0}"),
}
_INFIX = INFIX | {"power": "**"}


class Writer:
    """Writes the operations of one function, and collects its constants.

    Attributes:
        dtype: "float64" or "float32".
        constants: The values of k0, k1, ...
    """

    def __init__(self, dtype: str) -> None:
        """Start without constants."""
        self.dtype = dtype
        self.constants: list[float] = []

    def statements(
        self, nodes: list[Node], names: dict[Any, str], *, once: bool = False, prefix: str = "v"
    ) -> list[str]:
        """Return an assignment for each node that has no name yet; ``once`` for those in double precision."""
        lines: list[str] = []
        for node in nodes:
            if node not in names:
                text = self.operation(node, names, once=once)
                names[node] = f"{prefix}{node.place}" if prefix == "v" else f"{prefix}{len(lines)}"
                lines.append(f"{names[node]} = {text}")
        return lines

    def operation(self, node: Node, names: dict[Any, str], *, once: bool = False) -> str:
        """Return the expression of one node."""
        op = node.op
        args = arguments(node)
        booleans = all(map(is_boolean, args))
        if op == "rows":
            return f"real(n * {node.attributes['times']})"
        if op in BITS and not booleans:
            raise CannotLower(f"np.{op} of integers has no form in a kernel")
        if op == "where":
            condition = self._boolean(args[0], names)
            one = self._boolean if is_boolean(node) else self.number
            return f"{one(args[1], names)} if {condition} else {one(args[2], names)}"
        if connective := CONNECTIVES.get(op) or (OF_BOOLEANS.get(op) if is_boolean(node) else None):
            return f" {connective} ".join(f"({self._boolean(arg, names)})" for arg in args)
        if op in ("invert", "logical_not"):
            return f"not ({self._boolean(args[0], names)})"
        if op != "astype" and booleans and not is_boolean(node):  # in NumPy it has a short dtype, or is an error
            raise CannotLower(f"np.{op} of a boolean has no form in a kernel: write np.where(condition, 1.0, 0.0)")
        if op == "power" and (short := self._power(args, names)) is not None:
            return short
        texts = [self.number(arg, names, once=once) for arg in args]
        if op in _INFIX:
            return f" {_INFIX[op]} ".join(f"({text})" if text.startswith("-") else text for text in texts)
        if op in _FORMATS:
            return _FORMATS[op].format(*texts, one=literal(1.0))
        return f"{op}({', '.join(texts)})"

    def _power(self, args: tuple[Any, ...], names: dict[Any, str]) -> str | None:
        base, exponent = args
        if isinstance(exponent, Node) or not isinstance(base, Node):
            return None
        x = self.number(base, names)
        if exponent == 0.5:
            return f"sqrt({x})"
        return " * ".join([x] * int(exponent)) if exponent in (2, 3, 4) else None

    def number(self, value: Any, names: dict[Any, str], *, once: bool = False) -> str:
        """Return the text of a node, of a number that helps the compiler, or of a constant."""
        value = bare(value)
        if isinstance(value, Node):
            if is_boolean(value):
                return f"({literal(1.0)} if {names[value]} else {literal(0.0)})"
            return names[value]
        number = float(value)
        if number in LITERALS or not np.isfinite(number):
            return f"float({written(number)})" if once else literal(number)
        return f"{'d' if once else 'k'}{self.place(number)}"

    def place(self, value: float) -> int:
        """Return which of the constants a number is; two of the same value are one."""
        if value not in self.constants:
            self.constants.append(value)
        return self.constants.index(value)

    def read(self, lines: list[str]) -> list[str]:
        """Return the lines that read the constants from the array ``c``, as far as these lines need them."""
        text = "\n".join(lines)
        found = []
        for place in range(len(self.constants)):
            found += [f"k{place} = real(c[{place}])"] if f"k{place}" in text else []
            found += [f"d{place} = c[{place}]"] if f"d{place}" in text else []
        return found

    def _boolean(self, value: Any, names: dict[Any, str]) -> str:
        if not isinstance(value, Node):
            return repr(bool(value))
        return names[value] if is_boolean(value) else f"{names[value]} != {literal(0.0)}"
