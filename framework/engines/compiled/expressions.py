"""Write records as Python source that Numba compiles, one operation per line; ``rows`` does so for rows.

Constants are not part of the source. They are arguments c0, c1, ... that the kernel reads from an array, so that
Swish(beta=2.0) and Swish(beta=3.0) share one kernel. Only the few numbers that help the compiler stay literal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.engines.compiled.lower import Lowered, arguments, bare
from framework.engines.compiled.wiring import CannotLower
from framework.graph.node import Node

LITERALS = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5})

FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "logaddexp", "sign", "maximum", "minimum", "heaviside")
_CALLS = {name: name for name in FUNCTIONS} | {"erf": "math.erf", "erfc": "math.erfc", "abs": "abs"}
"""Functions that a kernel calls instead of NumPy's. Numba rejects a function of NumPy that it does not have."""

_FORMATS = {"negative": "-{0}", "square": "{0} * {0}", "reciprocal": "{one} / {0}", "mod": "{0} % {1}"} | {
    **dict.fromkeys(("positive", "astype"), "{0}"),
}
_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**"} | {
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
_CONNECTIVES = {"bitwise_and": "&", "bitwise_or": "|", "logical_and": "&", "logical_or": "|"}
_BITS = frozenset({"bitwise_and", "bitwise_or", "invert"})

_OF_BOOLEANS = {"add": "|", "maximum": "|", "multiply": "&", "minimum": "&"}
"""NumPy's arithmetic of two booleans is boolean: True + True is True, not 2."""


class Writer:
    """Writes the functions of one kernel, and collects their constants.

    Attributes:
        dtype: "float64" or "float32".
        constants: The values of c0, c1, ...
    """

    def __init__(self, dtype: str) -> None:
        """Start without constants."""
        self.dtype = dtype
        self.constants: list[float] = []
        self._used: set[int] = set()

    def elementwise(self, name: str, record: Lowered) -> tuple[str, str]:
        """Return the source of a function of numbers that returns all outputs, and the call's further arguments."""
        names: dict[Any, str] = {node: argument for argument, node in record.inputs.items()}
        lines = self._statements(record.nodes, names)
        results = ", ".join(self.number(value, names) for value in record.outputs.values())
        return self.function(name, list(record.inputs), [*lines, f"return {results}"])

    def update(self, record: Lowered) -> tuple[str, str]:
        """Return the source of ``update`` on flat arrays, and the call's further arguments.

        What depends on rate and step alone is computed once, in double precision.
        """
        names: dict[Any, str] = {node: argument for argument, node in record.inputs.items()}
        once = [node for node in record.nodes if not node.shape]
        lines = self._statements(once, names, once=True)
        for node in once:
            if self.dtype == "float32" and not boolean(node):
                lines.append(f"r_{names[node]} = real({names[node]})")
                names[node] = f"r_{names[node]}"
        arrays = [argument for argument in record.inputs if argument not in ("rate", "step")]
        for argument in arrays:
            names[record.inputs[argument]] = f"{argument}_i"
        body = [f"{a}_i = {a}[i]" for a in arrays if record.inputs[a] in record.nodes]
        body += self._statements(record.nodes, names, prefix="u")
        for argument, value in record.outputs.items():
            if value is not record.inputs[argument]:
                body.append(f"{argument}[i] = {self.number(value, names)}")
        lines += ["for i in range(len(values)):", *(f"    {line}" for line in body)]
        return self.function("update", ["rate", "step", *arrays], lines)

    def function(self, name: str, arguments: list[str], lines: list[str]) -> tuple[str, str]:
        """Return the source of a function and the constants that its lines use, which are the call's last arguments."""
        used, self._used = sorted(self._used), set()
        casts = [f"k{i} = real(c{i})" for i in used] if self.dtype == "float32" else []
        constants = [f"c{i}" for i in used]
        head = f"@formula\ndef {name}({', '.join([*arguments, *constants])}):"
        return "\n".join([head, *(f"    {line}" for line in [*casts, *lines])]) + "\n", "".join(
            f", {constant}" for constant in constants
        )

    def _statements(
        self, nodes: list[Node], names: dict[Any, str], *, once: bool = False, prefix: str = "v"
    ) -> list[str]:
        lines: list[str] = []
        for node in nodes:
            if node not in names:
                text = self.operation(node, names, once=once)
                names[node] = f"{prefix}{len(lines)}"
                lines.append(f"{names[node]} = {text}")
        return lines

    def operation(self, node: Node, names: dict[Any, str], *, once: bool = False) -> str:
        """Return the expression of one node."""
        op = node.op
        args = arguments(node)
        booleans = all(map(boolean, args))
        if op in _BITS and not booleans:
            raise CannotLower(f"np.{op} of integers has no form in a kernel")
        if op == "where":
            condition = self._boolean(args[0], names)
            one = self._boolean if boolean(node) else self.number
            return f"{one(args[1], names)} if {condition} else {one(args[2], names)}"
        if connective := _CONNECTIVES.get(op) or (_OF_BOOLEANS.get(op) if boolean(node) else None):
            return f" {connective} ".join(f"({self._boolean(arg, names)})" for arg in args)
        if op in ("invert", "logical_not"):
            return f"not ({self._boolean(args[0], names)})"
        if op != "astype" and booleans and not boolean(node):  # in NumPy it has a short dtype, or is an error
            raise CannotLower(f"np.{op} of a boolean has no form in a kernel: write np.where(condition, 1.0, 0.0)")
        if op == "power" and (short := self._power(args, names)) is not None:
            return short
        texts = [self.number(arg, names, once=once) for arg in args]
        if op in _INFIX:
            return f" {_INFIX[op]} ".join(f"({text})" if text.startswith("-") else text for text in texts)
        if op in _FORMATS:
            return _FORMATS[op].format(*texts, one=self.literal(1.0))
        function = f"np.{op}" if once and op in FUNCTIONS else _CALLS.get(op, f"np.{op}")
        return f"{function}({', '.join(texts)})"

    def _power(self, args: tuple[Any, ...], names: dict[Any, str]) -> str | None:
        base, exponent = args
        if isinstance(exponent, Node) or not isinstance(base, Node):
            return None
        x = self.number(base, names)
        if exponent == 0.5:
            return f"np.sqrt({x})"
        return " * ".join([x] * int(exponent)) if exponent in (2, 3, 4) else None

    def literal(self, value: float) -> str:
        """Return a number of the kernel's dtype as text."""
        return f"real({_written(value)})" if self.dtype == "float32" else _written(value)

    def number(self, value: Any, names: dict[Any, str], *, once: bool = False) -> str:
        """Return the text of a node, of a number that helps the compiler, or of a constant."""
        value = bare(value)
        if isinstance(value, Node):
            if boolean(value):
                return f"({self.literal(1.0)} if {names[value]} else {self.literal(0.0)})"
            return names[value]
        number = float(value)
        if number in LITERALS or not np.isfinite(number):
            return _written(number) if once else self.literal(number)
        place = self.place(number)
        self._used.add(place)
        return f"c{place}" if once or self.dtype == "float64" else f"k{place}"

    def place(self, value: float) -> int:
        """Return which of the constants a number is; two of the same value are one."""
        if value not in self.constants:
            self.constants.append(value)
        return self.constants.index(value)

    def _boolean(self, value: Any, names: dict[Any, str]) -> str:
        if not isinstance(value, Node):
            return repr(bool(value))
        return names[value] if boolean(value) else f"{names[value]} != {self.literal(0.0)}"


def _written(value: float) -> str:
    """Return a number as Python."""
    return "np.nan" if np.isnan(value) else f"{'-' if value < 0 else ''}np.inf" if np.isinf(value) else repr(value)


def boolean(value: Any) -> bool:
    """Return whether a node or a plain number is boolean."""
    return value.kind == "b" if isinstance(value, Node) else isinstance(value, bool)
