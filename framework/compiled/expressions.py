"""Records written as Python source that Numba compiles, an operation a line; ``rows`` lays those over rows out.

Constants are no part of the source. They are arguments c0, c1, ... that the kernel reads from an array, so that
Swish(beta=2.0) and Swish(beta=3.0) share one kernel. Only the few numbers that help the compiler stay literal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.compiled.lower import CannotLower, Record
from framework.formulas.program import needed
from framework.formulas.rules import INFIX, TRUTHS
from framework.formulas.symbols import Symbol

LITERALS = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5})

FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "logaddexp", "sign", "maximum", "minimum", "heaviside")
_CALLS = {name: name for name in FUNCTIONS} | {
    **{name: f"np.{name}" for name in ("sqrt", "cbrt", "exp2", "log2", "log10", "sin", "cos", "tan", "arcsin")},
    **{name: f"np.{name}" for name in ("arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh")},
    **{name: f"np.{name}" for name in ("floor", "ceil", "rint", "trunc", "isnan", "isinf", "isfinite", "signbit")},
    **{name: f"np.{name}" for name in ("hypot", "arctan2", "copysign")},
    "erf": "math.erf",
    "erfc": "math.erfc",
    "abs": "abs",
}
_FORMATS = {"negative": "-{0}", "square": "{0} * {0}", "reciprocal": "{one} / {0}", "mod": "{0} % {1}"} | {
    "row_length": "real({width})",
    **dict.fromkeys(("positive", "spread", "column", "flat"), "{0}"),
}
_CONNECTIVES = {"bitwise_and": "&", "bitwise_or": "|", "logical_and": "&", "logical_or": "|"}

_OF_TRUTHS = {"add": "|", "maximum": "|", "multiply": "&", "minimum": "&"}
"""What NumPy's arithmetic makes of two truths: a truth again, so True + True is True and not 2."""

_TAKE_TRUTHS = TRUTHS | {"spread", "column", "flat", "row_length"}


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

    def elementwise(self, name: str, record: Record) -> tuple[str, str]:
        """Return the source of a function of numbers that returns all outputs, and the call's further arguments."""
        names = {symbol: argument for argument, symbol in record.inputs.items()}
        lines = self._statements(record, names, needed(*record.outputs.values()))
        results = ", ".join(self.number(value, names) for value in record.outputs.values())
        return self.function(name, list(record.inputs), [*lines, f"return {results}"])

    def update(self, record: Record) -> tuple[str, str]:
        """Return the source of ``update`` on flat arrays, and the call's further arguments.

        What depends on rate and step alone is computed once, in double precision.
        """
        names = {symbol: argument for argument, symbol in record.inputs.items()}
        wanted = needed(*record.outputs.values())
        once = {record.inputs["rate"], record.inputs["step"]}
        for node in record.tape.nodes:
            if node.op != "input" and all(arg in once for arg in node.args if isinstance(arg, Symbol)):
                once.add(node)
        lines = self._statements(record, names, wanted & once, once=True)
        for node in record.tape.nodes:
            if node in once and node in wanted and self.dtype == "float32" and not truth(node):
                lines.append(f"r_{names[node]} = real({names[node]})")
                names[node] = f"r_{names[node]}"
        arrays = [argument for argument in record.inputs if argument not in ("rate", "step")]
        for argument in arrays:
            names[record.inputs[argument]] = f"{argument}_i"
        body = [f"{a}_i = {a}[i]" for a in arrays if record.inputs[a] in wanted]
        body += self._statements(record, names, wanted - once, prefix="u")
        for argument, value in record.outputs.items():
            if value is not record.inputs[argument]:
                body.append(f"{argument}[i] = {self.number(value, names)}")
        lines += ["for i in range(len(values)):", *(f"    {line}" for line in body)]
        return self.function("update", ["rate", "step", *arrays], lines)

    def function(self, name: str, arguments: list[str], lines: list[str]) -> tuple[str, str]:
        """Return the source of a function with the constants that its lines have used, and these for its call."""
        used, self._used = sorted(self._used), set()
        casts = [f"k{i} = real(c{i})" for i in used] if self.dtype == "float32" else []
        constants = [f"c{i}" for i in used]
        head = f"@formula\ndef {name}({', '.join([*arguments, *constants])}):"
        return "\n".join([head, *(f"    {line}" for line in [*casts, *lines])]) + "\n", "".join(
            f", {constant}" for constant in constants
        )

    def _statements(
        self, record: Record, names: dict[Any, str], wanted: set[Symbol], *, once: bool = False, prefix: str = "v"
    ) -> list[str]:
        lines: list[str] = []
        for node in record.tape.nodes:
            if node in wanted and node not in names:
                text = self.operation(node, names, once=once)
                names[node] = f"{prefix}{len(lines)}"
                lines.append(f"{names[node]} = {text}")
        return lines

    def operation(self, node: Symbol, names: dict[Any, str], *, once: bool = False, width: str = "") -> str:
        """Return the expression of one node."""
        op = node.op
        if op == "where":
            condition = self._truth(node.args[0], names)
            one = self._truth if truth(node) else self.number
            return f"{one(node.args[1], names)} if {condition} else {one(node.args[2], names)}"
        if connective := _CONNECTIVES.get(op) or (_OF_TRUTHS.get(op) if truth(node) else None):
            return f" {connective} ".join(f"({self._truth(arg, names)})" for arg in node.args)
        if op in ("invert", "logical_not"):
            return f"not ({self._truth(node.args[0], names)})"
        if op not in _TAKE_TRUTHS and all(map(truth, node.args)):  # in NumPy it has a short dtype, or is an error
            raise CannotLower(f"np.{op} of a truth has no form in a kernel: write np.where(condition, 1.0, 0.0)")
        if op == "power" and (short := self._power(node, names)) is not None:
            return short
        arguments = [self.number(arg, names, once=once) for arg in node.args]
        if op in INFIX:
            return f" {INFIX[op]} ".join(f"({text})" if text.startswith("-") else text for text in arguments)
        if op in _FORMATS:
            return _FORMATS[op].format(*arguments, one=self.literal(1.0), width=width)
        if op not in _CALLS:
            raise CannotLower(f"np.{op} has no form in a kernel")
        function = f"np.{op}" if once and op in FUNCTIONS else _CALLS[op]
        return f"{function}({', '.join(arguments)})"

    def _power(self, node: Symbol, names: dict[Any, str]) -> str | None:
        base, exponent = node.args
        if isinstance(exponent, Symbol) or not isinstance(base, Symbol):
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
        if isinstance(value, Symbol):
            if truth(value):
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

    def _truth(self, value: Any, names: dict[Any, str]) -> str:
        if not isinstance(value, Symbol):
            return repr(bool(value))
        return names[value] if truth(value) else f"{names[value]} != {self.literal(0.0)}"


def _written(value: float) -> str:
    """Return a number as Python."""
    return "np.nan" if np.isnan(value) else f"{'-' if value < 0 else ''}np.inf" if np.isinf(value) else repr(value)


def truth(node: Any) -> bool:
    """Return whether a node is true or false, not a number."""
    if not isinstance(node, Symbol):
        return isinstance(node, bool | np.bool_)
    return node.op in TRUTHS or (
        (node.op == "where" and all(map(truth, node.args[1:])))
        or (node.op in _OF_TRUTHS and all(map(truth, node.args)))
    )
