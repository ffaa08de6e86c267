"""The source of formulas over a row: loops along the row, and inside each a loop over the rows of a batch.

So the innermost loop is one that LLVM makes vectors of, however short the rows are. After each loop along the row its
sums and maxima are known, and the next one begins. For a batch of one row the loop over the rows is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from framework.engines.compiled.expressions import Writer, boolean
from framework.engines.compiled.lower import REDUCTIONS, Lowered, arguments, bare
from framework.engines.compiled.wiring import CannotLower
from framework.graph.node import Node, nodes_in

_STARTS = {"sum": 0.0, "mean": 0.0, "max": -float("inf"), "min": float("inf")}


@dataclass(frozen=True)
class RowFunction:
    """A function of some rows of a batch.

    Attributes:
        text: Its source.
        call: The lines that call it for all ``n`` rows.
        scratch: How many numbers of an element it keeps from one loop to the next.
        columns: How many numbers of a row it keeps.
    """

    text: str
    call: list[str]
    scratch: int
    columns: int


def row_function(
    writer: Writer,
    name: str,
    record: Lowered,
    reads: dict[str, str],
    writes: dict[str, str],
    *,
    width: str,
    single: bool,
) -> RowFunction:
    """Write the function of a formula over a row.

    Args:
        writer: Writes the operations.
        name: The function's name.
        record: The formula.
        reads: The source that reads each input, such as ``h[i, j]``.
        writes: The target of each output, such as ``h[i, j]``; ``values[i]`` gets the sum of a row.
        width: The length of a row, as written in the call.
        single: Whether a batch has one row.

    Raises:
        CannotLower: An operation has no form, or an output of each row is constant.
    """
    rows = _Rows(writer, record, reads, writes, single=single)
    lines = rows.lines()
    texts = " ".join([*reads.values(), *writes.values()])
    arrays = sorted(set(re.findall(r"\w+(?=\[)", texts)))
    text, constants = writer.function(name, ["start", "stop", "width", *arrays, "scratch", "columns"], lines)
    arguments = f"{width}, {', '.join(arrays)}, scratch_0, columns_0{constants}"
    call = [f"{name}(0, 1, {arguments})"]
    if not single:
        most = "scratch_0.shape[1]"
        call = [f"for low in range(0, n, {most}):", f"    {name}(low, min(low + {most}, n), {arguments})"]
    return RowFunction(text, call, len(rows.kept), len(rows.columns))


class _Rows:
    """Writes a record as loops: an operation belongs to the first loop in which all its arguments are known.

    Numbers of an element that a later loop needs are kept in ``scratch[place * width + j, l]``, numbers of a row in
    ``columns[place, l]``, where l counts the rows from ``start`` on.
    """

    def __init__(
        self, writer: Writer, record: Lowered, reads: dict[str, str], writes: dict[str, str], *, single: bool
    ) -> None:
        self.writer, self.single = writer, single
        self.reads = {record.inputs[name]: text for name, text in reads.items()}
        outputs = [(bare(record.outputs[name]), text) for name, text in writes.items()]
        self.elements = [(value, text) for value, text in outputs if text.endswith("j]")]
        self.totals = [(value, text) for value, text in outputs if not text.endswith("j]")]
        if not all(isinstance(value, Node) for value, _ in self.totals):
            raise CannotLower("a loss that is the same for every row")
        self.nodes = Lowered(record.inputs, {str(place): value for place, (value, _) in enumerate(outputs)}).nodes
        self.stage: dict[Node, int] = {}
        self.full: set[Node] = set()  # the nodes with a number for each element of a row
        for node in self.nodes:
            args = nodes_in(arguments(node))
            self.stage[node] = max((self.stage[arg] for arg in args), default=0) + (node.op in REDUCTIONS)
            if node.op not in REDUCTIONS and (node.op == "input" or not self.full.isdisjoint(args)):
                self.full.add(node)
        self.last = max([*self.stage.values(), 0])
        self.kept: dict[Node, int] = {}
        self.columns: dict[Node, str] = {}
        self.names: dict[Any, str] = {}
        reductions: dict[Any, str] = {}  # a sum as a column and as a flat array is computed once
        for node in self.nodes:
            if node in self.full:
                self.names[node] = f"x_{node.name}" if node.op == "input" else f"v{len(self.names)}"
                continue
            place = len(self.columns)
            cell = f"s{place}" if single else f"columns[{place}, l]"
            if node.op in REDUCTIONS:
                cell = reductions.setdefault((node.op, arguments(node)), cell)
            self.columns[node] = cell
            self.names[node] = f"({cell} != {writer.literal(0.0)})" if boolean(node) else cell

    def lines(self) -> list[str]:
        """Return the body of the function."""
        lines = ["i = l = 0"] if self.single else []
        before = [f"{text} = {self.writer.literal(0.0)}" for _, text in self._summed()]
        for stage in range(self.last + 1):
            before += [
                f"{self.columns[node]} = {self._operation(node)}"
                for node in self.columns
                if node.op not in REDUCTIONS and self.stage[node] == stage
            ]
            starts, loop, before_next = self._loop(stage)
            if loop:
                lines += [*self._over_rows([*before, *starts]), *loop]
                before = before_next
        known = [(value, text) for value, text in self.totals if value not in self.full]
        return lines + self._over_rows([*before, *(f"{text} = {self._number(value)}" for value, text in known)])

    def _over_rows(self, lines: list[str]) -> list[str]:
        if not lines or self.single:
            return lines
        return ["for l in range(stop - start):", "    i = start + l", *(f"    {line}" for line in lines)]

    def _loop(self, stage: int) -> tuple[list[str], list[str], list[str]]:
        """Return one loop along the row, with what comes before it and after it for each row.

        The loop computes what can be computed now, and the reductions of it.
        """
        full = [n for n in self.nodes if n in self.full and n.op != "input" and self.stage[n] == stage]
        reductions = {self.columns[n]: n for n in self.nodes if n.op in REDUCTIONS and self.stage[n] == stage + 1}
        elements = [(value, text) for value, text in self.elements if self._when(value) == stage]
        totals = [(value, text) for value, text in self._summed() if self.stage[value] == stage]
        used = [arg for node in [*full, *reductions.values()] for arg in arguments(node)]
        used += [value for value, _ in [*elements, *totals]]
        if not used and not elements:
            return [], [], []
        body = [line for node in dict.fromkeys(used) for line in self._loaded(node, stage)]
        body += [f"{self.names[node]} = {self._operation(node)}" for node in full]
        for node in full:
            if self._needed_after(node, stage):
                self.kept[node] = len(self.kept)
                body.append(f"{self._place(node)} = {self._number(node)}")
        body += [self._reduced(cell, node) for cell, node in reductions.items()]
        body += [f"{text} += {self._number(value)}" for value, text in totals]
        body += [f"{text} = {self._number(value)}" for value, text in elements]
        starts = [f"{cell} = {self.writer.literal(_STARTS[node.op])}" for cell, node in reductions.items()]
        means = [f"{cell} /= real(width)" for cell, node in reductions.items() if node.op == "mean"]
        return starts, ["for j in range(width):", *(f"    {line}" for line in self._over_rows(body))], means

    def _loaded(self, node: Any, stage: int) -> list[str]:
        """Return the line that makes an element known in this loop, where it was not computed there."""
        if not isinstance(node, Node) or node not in self.full:
            return []
        if node.op == "input":
            return [f"{self.names[node]} = {self.reads[node]}"]
        if self.stage[node] == stage:
            return []
        return [f"{self.names[node]} = {self._place(node)}{f' != {self.writer.literal(0.0)}' if boolean(node) else ''}"]

    def _place(self, node: Node) -> str:
        return f"scratch[{self.kept[node]} * width + j, l]"

    def _needed_after(self, node: Node, stage: int) -> bool:
        later = {value for value, _ in self.elements if self._when(value) > stage}
        for other in self.nodes:
            first = self.stage[other] - (other.op in REDUCTIONS)
            if first > stage and (other in self.full or other.op in REDUCTIONS):
                later.update(arguments(other))
        return node in later

    def _summed(self) -> list[tuple[Node, str]]:
        """Return the totals of a row that are sums of its elements."""
        return [(value, text) for value, text in self.totals if value in self.full]

    def _when(self, value: Any) -> int:
        """Return the loop that writes an element: the first in which it is known, the last for what is read before."""
        if any(text in self.reads.values() for _, text in self.elements):
            return self.last
        return self.stage.get(value, 0) if isinstance(value, Node) else 0

    def _reduced(self, cell: str, node: Node) -> str:
        x = self._number(node.args[0])
        return f"{cell} = {node.op}imum({cell}, {x})" if node.op in ("max", "min") else f"{cell} += {x}"

    def _operation(self, node: Node) -> str:
        text = self.writer.operation(node, self.names)
        one, zero = self.writer.literal(1.0), self.writer.literal(0.0)
        return f"{one} if {text} else {zero}" if boolean(node) and node not in self.full else text

    def _number(self, value: Any) -> str:
        return self.writer.number(value, self.names)
