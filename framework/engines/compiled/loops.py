"""Write a formula as a function of matrices: loops over the rows of a batch and along the row.

A formula of elements is one loop. A formula over rows, such as a softmax, is loops along the row, and inside each a
loop over rows: the innermost loop is then one that LLVM makes vectors of, however short the rows are. Each sum or
maximum is known after such a loop, and the next loop begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from framework.engines.compiled.expressions import Writer
from framework.engines.compiled.formulas import REDUCTIONS, arguments
from framework.engines.native.expressions import is_boolean, literal
from framework.engines.records import CannotLower, Lowered, bare
from framework.graph.node import Node, nodes_in

_STARTS = {"sum": 0.0, "mean": 0.0, "max": -float("inf"), "min": float("inf")}


@dataclass(frozen=True)
class Place:
    """Where a formula reads an argument or writes a result.

    Attributes:
        array: The name of the array, or of the number.
        form: "full" for a matrix, "column" for a number of each row, "row" for one of each unit, "number"; "classes"
            for a matrix of 0 and 1 that is given as the place of the 1 in each row.
        adds: Whether a result is added to what is there, in a formula of elements.
    """

    array: str
    form: str = "full"
    adds: bool = False


class Loops:
    """The function of a formula.

    Attributes:
        text: Its source.
        arguments: The names of its arguments.
        constants: Its constants.
        cells: How many arrays it works in besides.
        direction: "flat" for one loop over all elements, else what the inner loops run over: "units" or "rows".
    """

    NAME = "FORMULA"
    """The name of the function in the text."""

    def __init__(
        self,
        record: Lowered,
        dtype: str,
        reads: dict[str, Place],
        writes: dict[str, Place],
        *,
        narrow: bool = False,
        by_column: bool = False,
    ) -> None:
        """Write the function.

        Args:
            record: The formula.
            dtype: The kernel's.
            reads: Where each argument is.
            writes: Where each result goes.
            narrow: Whether a row has one element.
            by_column: Whether the numbers of a column lie one after another, instead of those of a row.

        Raises:
            CannotLower: An operation has no form.
        """
        self.narrow, self.by_column = narrow, by_column
        self.writer = Writer(dtype)
        self.reads = {record.inputs[each]: place for each, place in reads.items()}
        self.writes = [(bare(record.outputs[each]), place) for each, place in writes.items()]
        self.nodes = Lowered(record.inputs, {str(place): value for place, (value, _) in enumerate(self.writes)}).nodes
        self.forms: dict[Node, str] = {}
        self.stage: dict[Node, int] = {}
        for node in self.nodes:
            self._classify(node)
        self.last = max([*self.stage.values(), 0])
        forms = {*self.forms.values(), *(place.form for place in self.reads.values() if place.form != "number")}
        self.direction = "flat"
        if any(self._is(node, "column") and node.op != "input" for node in self.nodes):
            self.direction = "rows"
        elif not narrow and forms & {"row", "column", "classes"}:
            self.direction = "units"
        if any(place.form != "full" and not self._is(value, place.form) for value, place in self.writes):
            raise CannotLower("a result that is one number for all units has no form in a kernel")
        self.names: dict[Any, str] = {}
        self.formulas: list[list[str]] = []
        self.cells = 0
        self._places: dict[Node, str] = {}
        numbers = [node for node in self.nodes if self._is(node, "number") and node.op != "input"]
        head = self._computed(numbers, numbers)
        body = self._flat() if self.direction == "flat" else self._staged()
        self._finish([*head, *body])

    # what each node is

    def _classify(self, node: Node) -> None:
        args = nodes_in(arguments(node))
        forms = {self.forms[arg] for arg in args} - {"number"}
        if node.op == "input":
            form = self.reads[node].form
            form = "full" if form == "classes" else form
        elif node.op in REDUCTIONS:
            form = "column"
            if forms != {"full"}:
                raise CannotLower(f"np.{node.op} of what is not a number for each element")
        else:
            form = "full" if "full" in forms or len(forms) > 1 else next(iter(forms), "number")
        self.forms[node] = form
        self.stage[node] = max((self.stage[arg] for arg in args), default=0) + (node.op in REDUCTIONS)

    def _is(self, value: Any, form: str) -> bool:
        return isinstance(value, Node) and self.forms[value] == form

    # one loop over all elements

    def _flat(self) -> list[str]:
        loads = [self._load(node, "i", "0", "i") for node in self.nodes if node.op == "input"]
        wanted = [value for value, _ in self.writes]
        inside = [n for n in self.nodes if n.op != "input" and not self._is(n, "number")]
        lines = [*loads, *self._computed(inside, wanted)]
        for value, place in self.writes:
            sign = "+=" if place.adds else "="
            lines.append(f"{place.array}[i] {sign} {self._number(value)}")
        return ["for i in range(n):", *indented([line for line in lines if line])]

    # stages

    def _staged(self) -> list[str]:
        """Write the loops; cells are arrays."""
        self.inner, self.outer = ("column", "row") if self.direction == "rows" else ("row", "column")
        for node in self.nodes:
            if self.forms[node] in ("row", "column") and node.op != "input":
                self._places[node] = self._cell()
        lines: list[str] = []
        before: list[str] = []  # what is computed in a loop over the cells before the next pass
        for stage in range(self.last + 1):
            before += self._cells(self._computable(self.inner, stage))
            main = self._pass(stage)
            if main:
                starts = self._sums(stage)
                before += [f"{self._at(n)} = {literal(_STARTS[n.op])}" for n in starts]
                lines += [*self._inner_loop(before), *main]
                before = [f"{self._at(n)} = {self._at(n)} / real(width)" for n in starts if n.op == "mean"]
        for node in self.nodes:
            if self._is(node, self.inner):
                self.names.pop(node, None)  # that of another loop
        for value, place in self.writes:
            before += self._cell_written(value, place) if self._is(value, self.inner) else []
        lines += self._inner_loop(before)
        return self._in_blocks(lines) if self.direction == "rows" else lines

    def _in_blocks(self, lines: list[str]) -> list[str]:
        """Repeat the loops for some rows after another, so that what they keep stays near."""
        return [
            "for start in range(0, n, most):",
            "    m = min(most, n - start)",
            *indented(lines),
        ]

    def _inner_loop(self, lines: list[str]) -> list[str]:
        lines = [line for line in lines if line]
        if not lines:
            return []
        if self.inner == "row":
            return ["for j in range(width):", *indented(lines)]
        return ["for l in range(m):", *indented(["i = start + l", *lines])]

    def _computable(self, form: str, stage: int) -> list[Node]:
        """Return the operations of a form whose arguments are known from a stage on."""
        return [
            node
            for node in self.nodes
            if self._is(node, form) and self.stage[node] == stage and node.op not in {*REDUCTIONS, "input"}
        ]

    def _sums(self, stage: int) -> list[Node]:
        """Return the sums and extremes that are known after the pass of a stage."""
        return [node for node in self.nodes if node.op in REDUCTIONS and self.stage[node] == stage + 1]

    def _cells(self, nodes: list[Node]) -> list[str]:
        """Compute cells of the inner loop from others."""
        loads = [self._load_cell(arg) for arg in _arguments_of(nodes) if arg not in nodes]
        return [*loads, *self._computed(nodes, nodes), *(f"{self._at(n)} = {self._number(n)}" for n in nodes)]

    def _pass(self, stage: int) -> list[str]:
        """Return one pass over all elements: what can be computed now, and the sums of it."""
        full, sums = self._computable("full", stage), self._sums(stage)
        writes = [(v, p) for v, p in self.writes if p.form == "full" and self._when(v, p) == stage]
        outer = self._computable(self.outer, stage)
        kept = any(self._needed_after(node, stage) for node in outer)
        if not (full or sums or writes or kept):
            return []
        used = dict.fromkeys([*_arguments_of([*full, *sums]), *nodes_in(v for v, _ in writes)])
        loaded = [node for node in used if node not in full]
        head = self._head(stage, outer, loaded)
        body = [
            self._load_full(n) if self._is(n, "full") else self._load_cell(n)
            for n in loaded
            if not self._is(n, self.outer)
        ]
        strided = [n for n in loaded if n.op == "input" and self.reads[n].form == "full" and self.direction == "rows"]
        keep = [n for n in [*full, *strided] if self._needed_after(n, stage) and n not in self._places]
        wanted = [*keep, *_arguments_of(sums), *(v for v, _ in writes)]
        body += self._computed(full, wanted)
        for n in keep:
            self._places[n] = self._cell()
            body.append(f"{self._kept(n)} = {self._number(n)}")
        for n in sums:
            x, here = self._number(n.args[0]), self._at(n)
            body.append(f"{here} = {n.op}imum({here}, {x})" if n.op in ("max", "min") else f"{here} += {x}")
        body += [f"{place.array}[{self._index()}] = {self._number(value)}" for value, place in writes]
        loop = f"for {'j in range(width)' if self.outer == 'row' else 'i in range(n)'}:"
        return [loop, *indented(line for line in [*head, *self._inner_loop(body)] if line)]

    def _head(self, stage: int, outer: list[Node], loaded: list[Node]) -> list[str]:
        """Return what is computed once for each cell of the outer loop, before the inner one."""
        read = dict.fromkeys([*loaded, *_arguments_of(outer)])
        lines = [self._load_cell(node) for node in read if self._is(node, self.outer) and node not in outer]
        lines += self._computed(outer, outer)
        return [*lines, *(f"{self._at(n)} = {self._number(n)}" for n in outer if self._needed_after(n, stage))]

    def _cell_written(self, value: Any, place: Place) -> list[str]:
        lines = [self._load_cell(value)] if value not in self.names else []
        return [*lines, f"{place.array}[i] = {self._number(value)}"]

    # names of arrays and numbers

    def _cell(self) -> str:
        place = f"cell_{self.cells}"
        self.cells += 1
        return place

    def _at(self, node: Node) -> str:
        """Return the text of a cell: a number of each row or unit that is kept in an array."""
        index = "j" if self.forms[node] == "row" else "l" if self.direction == "rows" else "i"
        return f"{self._places[node]}[{index}]"

    def _kept(self, node: Node) -> str:
        return f"{self._places[node]}[{'j * most + l' if self.direction == 'rows' else 'i * width + j'}]"

    def _index(self) -> str:
        return "j * n + i" if self.by_column else "i * width + j"

    def _load(self, node: Node, full: str, row: str, column: str) -> str:
        place = self.reads[node]
        name = self.names[node] = f"{place.array}_v"
        if place.form == "number":
            self.names[node] = place.array
            return ""
        if place.form == "classes":
            one, zero = literal(1.0), literal(0.0)
            return f"{name} = {one} if {place.array}[{column}] == {row} else {zero}"
        index = {"full": full, "row": row, "column": column}[place.form]
        return f"{name} = {place.array}[{index}]"

    def _load_full(self, node: Node) -> str:
        if node.op == "input" and node not in self._places:
            return self._load(node, self._index(), "j", "i")
        self.names[node] = f"v{node.place}" if node.op != "input" else f"{self.reads[node].array}_v"
        return f"{self.names[node]} = {self._loaded(node, self._kept(node))}"

    def _load_cell(self, node: Any) -> str:
        if not isinstance(node, Node) or (self._is(node, "number") and node.op != "input"):
            return ""
        if node.op == "input":
            return self._load(node, "", "j", "i")
        self.names[node] = f"v{node.place}"
        return f"{self.names[node]} = {self._loaded(node, self._at(node))}"

    def _loaded(self, node: Node, text: str) -> str:
        return f"{text} != {literal(0.0)}" if is_boolean(node) else text

    def _number(self, value: Any) -> str:
        return self.writer.number(value, self.names)

    # when

    def _stage_of(self, value: Any) -> int:
        return self.stage.get(value, 0) if isinstance(value, Node) else 0

    def _when(self, value: Any, place: Place) -> int:
        """Return the pass that writes a matrix: the first in which it is known, the last where it is read before."""
        read = any(other.array == place.array for other in self.reads.values())
        return self.last if read else self._stage_of(value)

    def _needed_after(self, node: Node, stage: int) -> bool:
        later = {v for v, p in self.writes if p.form == "full" and self._when(v, p) > stage}
        later |= {v for v, p in self.writes if p.form != "full" and self._is(v, self.inner)}
        for other in self.nodes:
            first = self.stage[other] - (other.op in REDUCTIONS)
            if first > stage:
                later.update(nodes_in(arguments(other)))
        return node in later

    # texts

    def _computed(self, nodes: list[Node], wanted: Iterable[Any]) -> list[str]:
        """Write a formula of some nodes, and return the line that calls it.

        A formula's operations keep their order, as NumPy's do; sums around it need not.
        """
        wanted = [n for n in dict.fromkeys(nodes_in(wanted)) if n in nodes]
        if not wanted:
            for node in nodes:
                self.names[node] = f"v{node.place}"
            return []
        given = dict.fromkeys(a for n in nodes for a in nodes_in(arguments(n)) if a not in nodes)
        names = {arg: self._name(arg) for arg in given}
        lines = self.writer.statements(nodes, names)
        text = "\n".join(lines)
        constants = [f"k{place}" for place in range(len(self.writer.constants)) if f"k{place}" in text]
        if "real(n *" in text:
            constants.append("n")
        parameters = ", ".join([*dict.fromkeys(names[arg] for arg in given), *constants])
        name = f"{self.NAME}_{len(self.formulas)}"
        results = ", ".join(names[node] for node in wanted)
        self.formulas.append([f"def {name}({parameters}):", *indented([*lines, f"return {results}"])])
        self.names |= {node: names[node] for node in wanted}
        return [f"{results} = {name}({parameters})"]

    def _name(self, node: Node) -> str:
        if node.op == "input" and self.reads[node].form == "number":
            return self.reads[node].array
        return self.names[node]

    def _finish(self, body: list[str]) -> None:
        lines = [*self.writer.read([*body]), *body]
        places = [*self.reads.values(), *(place for _, place in self.writes)]
        kinds: dict[str, str] = {"n": "int"}
        if self.direction != "flat":
            kinds["width"] = "int"
        if self.direction == "rows":
            kinds["most"] = "int"
        for place in places:
            kinds.setdefault(place.array, {"number": "real", "classes": "ints"}.get(place.form, "reals"))
        kinds |= dict.fromkeys((f"cell_{cell}" for cell in range(self.cells)), "reals")
        kinds |= {"c": "floats"} if self.writer.constants else {}
        self.arguments = [*kinds]
        self.constants = self.writer.constants
        head = f"def {self.NAME}({', '.join(f'{name}: {kind}' for name, kind in kinds.items())}):"
        formulas = ["\n".join([*lines_, "", ""]) for lines_ in self.formulas]
        self.text = "\n".join([*formulas, head, *indented(lines)])


def _arguments_of(nodes: Iterable[Node]) -> list[Node]:
    return [*dict.fromkeys(arg for node in nodes for arg in nodes_in(arguments(node)))]


def indented(lines: Iterable[str]) -> list[str]:
    """Return the lines, indented by one more level."""
    return [f"    {line}" for line in lines]
