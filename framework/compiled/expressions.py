"""Records written as Python source that Numba compiles: element by element, or row by row.

Constants are no part of the source. They are arguments c0, c1, ... that the kernel reads from an array, so that
Swish(beta=2.0) and Swish(beta=3.0) share one kernel. Only the few numbers that help the compiler stay literal.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from framework.compiled.lower import CannotLower, Record, needed
from framework.formulas.rules import INFIX, REDUCTIONS, TRUTHS
from framework.formulas.symbols import FULL, Symbol

LITERALS = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5})

_OWN = ("exp", "expm1", "log", "log1p", "tanh", "logaddexp", "sign", "maximum", "minimum", "heaviside")
_CALLS = {name: name for name in _OWN} | {
    **{name: f"np.{name}" for name in ("sqrt", "cbrt", "exp2", "log2", "log10", "sin", "cos", "tan", "arcsin")},
    **{name: f"np.{name}" for name in ("arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh")},
    **{name: f"np.{name}" for name in ("floor", "ceil", "rint", "trunc", "isnan", "isinf", "isfinite", "signbit")},
    **{name: f"np.{name}" for name in ("hypot", "arctan2", "copysign")},
    "erf": "math.erf",
    "erfc": "math.erfc",
    "abs": "abs",
}
_WRITTEN = {"negative": "-{0}", "square": "{0} * {0}", "reciprocal": "{one} / {0}", "mod": "{0} % {1}"} | {
    "row_length": "real({width})",
    **dict.fromkeys(("positive", "spread", "column", "flat"), "{0}"),
}
_CONNECTIVES = {"bitwise_and": "&", "bitwise_or": "|", "logical_and": "&", "logical_or": "|"}


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
        self._used = set()
        names = {symbol: argument for argument, symbol in record.inputs.items()}
        lines = self._statements(record, names, needed(*record.outputs.values()))
        results = ", ".join(self._number(value, names) for value in record.outputs.values())
        return self._function(name, list(record.inputs), [*lines, f"return {results}"])

    def rows(
        self, name: str, record: Record, inputs: dict[str, str], outputs: dict[str, str], total: str | None
    ) -> tuple[str, str, int]:
        """Return the source of a function of row i, the call's further arguments, and how many rows of memory it needs.

        Args:
            name: The function's name.
            record: The formula over a row.
            inputs: How each input is read, such as ``h[i, j]``.
            outputs: Where each output goes, such as ``h[i, j]``.
            total: The output whose sum over the row is returned, or None.
        """
        self._used = set()
        return _RowFunction(self, record, inputs, outputs, total).source(name)

    def update(self, record: Record) -> tuple[str, str]:
        """Return the source of ``update`` on flat arrays, and the call's further arguments.

        What depends on rate and step alone is computed once, in double precision.
        """
        self._used = set()
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
                body.append(f"{argument}[i] = {self._number(value, names)}")
        lines += ["for i in range(len(values)):", *(f"    {line}" for line in body)]
        return self._function("update", ["rate", "step", *arrays], lines)

    def _function(self, name: str, arguments: list[str], lines: list[str]) -> tuple[str, str]:
        used = sorted(self._used)
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
            one = self._truth if truth(node) else self._number
            return f"{one(node.args[1], names)} if {condition} else {one(node.args[2], names)}"
        if op in _CONNECTIVES:
            return f" {_CONNECTIVES[op]} ".join(f"({self._truth(arg, names)})" for arg in node.args)
        if op in ("invert", "logical_not"):
            return f"not ({self._truth(node.args[0], names)})"
        if op == "power" and (short := self._power(node, names)) is not None:
            return short
        arguments = [self._number(arg, names, once=once) for arg in node.args]
        if op in INFIX:
            return f" {INFIX[op]} ".join(arguments)
        if op in _WRITTEN:
            return _WRITTEN[op].format(*arguments, one=self._literal(1.0), width=width)
        if op not in _CALLS:
            raise CannotLower(f"np.{op} has no form in a kernel")
        function = f"np.{op}" if once and op in _OWN else _CALLS[op]
        return f"{function}({', '.join(arguments)})"

    def _power(self, node: Symbol, names: dict[Any, str]) -> str | None:
        base, exponent = node.args
        if isinstance(exponent, Symbol) or not isinstance(base, Symbol):
            return None
        x = self._number(base, names)
        if exponent == 0.5:
            return f"np.sqrt({x})"
        return " * ".join([x] * int(exponent)) if exponent in (2, 3, 4) else None

    def _literal(self, value: float) -> str:
        text = "np.nan" if np.isnan(value) else f"{'-' if value < 0 else ''}np.inf" if np.isinf(value) else repr(value)
        return f"real({text})" if self.dtype == "float32" else text

    def _number(self, value: Any, names: dict[Any, str], *, once: bool = False) -> str:
        if isinstance(value, Symbol):
            if truth(value):
                return f"({self._literal(1.0)} if {names[value]} else {self._literal(0.0)})"
            return names[value]
        number = float(value)
        if number in LITERALS or not np.isfinite(number):
            return repr(number) if once else self._literal(number)
        if number not in self.constants:
            self.constants.append(number)
        place = self.constants.index(number)
        self._used.add(place)
        return f"c{place}" if once or self.dtype == "float64" else f"k{place}"

    def _truth(self, value: Any, names: dict[Any, str]) -> str:
        if not isinstance(value, Symbol):
            return repr(bool(value))
        return names[value] if truth(value) else f"{names[value]} != {self._literal(0.0)}"


def truth(node: Any) -> bool:
    """Return whether a node is true or false, not a number."""
    if not isinstance(node, Symbol):
        return isinstance(node, bool | np.bool_)
    return node.op in TRUTHS or (node.op == "where" and truth(node.args[1]) and truth(node.args[2]))


class _RowFunction:
    """A formula over a row as loops along it: after each loop its sums and maxima are known, and the next one begins.

    What a later loop needs of an earlier one is kept in ``scratch``, a row of memory for each.
    """

    def __init__(
        self, writer: Writer, record: Record, inputs: dict[str, str], outputs: dict[str, str], total: str | None
    ) -> None:
        self.writer, self.record, self.total = writer, record, total
        self.reads = {record.inputs[name]: text for name, text in inputs.items()}
        self.writes = [(record.outputs[name], text) for name, text in outputs.items()]
        value = None if total is None else record.outputs[total]
        self.value = value
        self.wanted = needed(*(v for v, _ in self.writes), value)
        self.nodes = [node for node in record.tape.nodes if node in self.wanted]
        self.stage: dict[Symbol, int] = {}
        for node in self.nodes:
            before = [self.stage[arg] for arg in node.args if isinstance(arg, Symbol)]
            self.stage[node] = max(before, default=0) + (node.op in REDUCTIONS)

    def source(self, name: str) -> tuple[str, str, int]:
        names: dict[Any, str] = {}
        for node in self.nodes:
            if node.op != "input":
                names[node] = f"v{len(names)}"
        lines: list[str] = []
        kept: dict[Symbol, int] = {}
        if isinstance(self.value, Symbol) and self.value.kind == FULL:
            lines.append("total = 0.0")
        elif self.value is not None and not isinstance(self.value, Symbol):
            raise CannotLower("a loss that is the same for every row")
        last = max([*self.stage.values(), 0])
        for stage in range(last + 1):
            lines += [
                f"{names[node]} = {self.writer.operation(node, names, width='width')}"
                for node in self.nodes
                if node.kind != FULL and node.op not in (*REDUCTIONS, "input") and self.stage[node] == stage
            ]
            lines += self._loop(stage, names, kept)
        result = "0.0"
        if isinstance(self.value, Symbol):
            result = "total" if self.value.kind == FULL else names[self.value]
        lines.append(f"return {result}")
        texts = " ".join([*self.reads.values(), *(text for _, text in self.writes)])
        arrays = sorted(set(re.findall(r"\w+(?=\[)", texts)))
        body, constants = self.writer._function(name, ["i", "width", *arrays, "scratch"], lines)
        return body, f"{', '.join(arrays)}, scratch_0{constants}", len(kept)

    def _loop(self, stage: int, names: dict[Any, str], kept: dict[Symbol, int]) -> list[str]:
        """Return one loop along the row: what can be computed now, and the reductions of it."""
        full = [n for n in self.nodes if n.kind == FULL and n.op != "input" and self.stage[n] == stage]
        reductions = [n for n in self.nodes if n.op in REDUCTIONS and self.stage[n] == stage + 1]
        writes = [(value, text) for value, text in self.writes if self._when(value) == stage]
        totalled = isinstance(self.value, Symbol) and self.value.kind == FULL and self.stage[self.value] == stage
        if not (full or reductions or writes or totalled):
            return []
        used = [arg for node in [*full, *reductions] for arg in node.args if isinstance(arg, Symbol)]
        outgoing = [value for value, _ in writes] + ([self.value] if totalled else [])
        used += [value for value in outgoing if isinstance(value, Symbol)]
        local = dict(names)
        body: list[str] = []
        for node in dict.fromkeys(used):
            if node.op == "input":
                local[node] = f"x_{node.name}"
                body.append(f"{local[node]} = {self.reads[node]}")
            elif node.kind == FULL and self.stage[node] < stage:
                body.append(f"{names[node]} = scratch[{kept[node]}, j]")
        body += [f"{names[node]} = {self.writer.operation(node, local, width='width')}" for node in full]
        later = {
            arg
            for node in self.nodes
            if (self.stage[node] > stage and node.kind == FULL)
            or (node.op in REDUCTIONS and self.stage[node] > stage + 1)
            for arg in node.args
        } | {value for value, _ in self.writes if self._when(value) > stage}
        for node in full:
            if node in later:
                kept[node] = len(kept)
                body.append(f"scratch[{kept[node]}, j] = {self.writer._number(node, local)}")
        start, add, end = self._reductions(reductions, local)
        body += add
        if totalled:
            body.append(f"total += {self.writer._number(self.value, local)}")
        body += [f"{text} = {self.writer._number(value, local)}" for value, text in writes]
        return [*start, "for j in range(width):", *(f"    {line}" for line in body), *end]

    def _when(self, value: Any) -> int:
        """Return the loop that writes an output: the first in which it is known; the last for what is read before."""
        found = self.stage.get(value, 0) if isinstance(value, Symbol) else 0
        return max([found, *(self.stage.values())]) if self._overwrites else found

    @property
    def _overwrites(self) -> bool:
        """Whether an output goes where an input is read, so that it must wait for the last loop."""
        return any(text in self.reads.values() for _, text in self.writes)

    def _reductions(self, nodes: list[Symbol], names: dict[Any, str]) -> tuple[list[str], list[str], list[str]]:
        start, add, end = [], [], []
        first = {"sum": 0.0, "mean": 0.0, "max": -np.inf, "min": np.inf}
        for node in nodes:
            name, x = names[node], self.writer._number(node.args[0], names)
            start.append(f"{name} = {self.writer._literal(first[node.op])}")
            if node.op in ("max", "min"):
                add.append(f"{name} = {node.op}imum({name}, {x})")
            else:
                add.append(f"{name} += {x}")
            if node.op == "mean":
                end.append(f"{name} /= real(width)")
        return start, add, end
