"""The source of a kernel: functions of layers and formulas, and ``train``, which calls them for a chunk of batches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from framework.engines.compiled.expressions import update_source
from framework.engines.compiled.layers import layers_source
from framework.engines.compiled.loops import Loops, Place, indented
from framework.engines.compiled.lower import Passes, Plan
from framework.engines.compiled.wiring import Operation, Wiring
from framework.engines.records import CannotLower, Lowered

_FEW_INPUTS = 256
"""A neuron of up to this many makes a step on one row before its loss is known, and keeps the weights of before."""

LEAST_ROWS, SCRATCH_NUMBERS = 16, 4096
"""A formula over rows takes this many numbers at once, and at least this many rows."""


@dataclass(frozen=True)
class Form:
    """The form of the batches that a kernel is written for, whatever their sizes.

    Attributes:
        single: Whether batches have one row.
        classes: Whether targets are classes (rows,), not rows of numbers; for each of several outputs.
        weighted: Whether rows have weights.
        keeps: Whether the outputs are kept, for metrics.
        part: Whether NumPy makes the update. The kernel then computes the gradients and the sums of parts of a batch,
            as ``parts`` says; ``rates`` holds what the sum of the loss is divided by, and the number of rows of the
            batch.
    """

    single: bool
    classes: bool | tuple[bool, ...]
    weighted: bool
    keeps: bool
    part: bool = False


_CUT = ""
"""A line of the body of ``train`` where a phase ends."""

_SCALAR = re.compile(r"(square_\d+|(?:total|change|share)(?:_\d+)?|own|loss) \+?= ")

_ARGUMENTS = """
first: int, stop: int, size: int, count_of_rows: int, steps: int, fold: int, limit: float, runs: int, rows: ints,
rates: floats, sums: floats, done: ints, trainable: ints, data: arrays, memory: arrays, sizes: ints, c: floats,
phase: int
"""


@dataclass
class KernelSource:
    """A kernel as text, and what it must be given.

    Attributes:
        text: A program in the kernel language, whose ``train`` trains on the batches first..stop.
        constants: The numbers of ``c``.
        sizes: The numbers of ``sizes``.
        memory: The arrays of ``memory`` by name: (numbers of a row, further numbers); ("vector",), ("gradient",) and
            ("memory", place) of the optimizer, ("vector", "like") for one of its length; or "operations" or "tables" of
            the wiring, the number of one, "views", "gradients" or "buffers" of its layer, and a name there.
        data: The names of the arrays of ``data``: ("x", path), ("y", place), ("weight",), ("kept_h",), ("kept_a",),
            ("draw", operation, name), or ("parts",): by part, its first row, how many it has, how far behind
            ``gradient`` its own gradient begins, how many sums of two gradients come before, how far each gradient is
            from the next one, and how many numbers it has.
        exchanges: By phase but the last, what must be summed up over all shards after it: an array of ``memory``, and
            the first and the end of its numbers.
    """

    text: str = ""
    constants: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    data: list[tuple[Any, ...]] = field(default_factory=list)
    exchanges: list[tuple[str, int, int]] = field(default_factory=list)


def kernel_source(plan: Plan, form: Form, size: int = 1) -> KernelSource:
    """Return the kernel of a plan for batches of this form and at most this size; plans of one make share it.

    Raises:
        CannotLower: An operation has no form in a kernel, or the update has none.
    """
    if plan.reason and not form.part:
        raise CannotLower(plan.reason)
    return _written(Make(plan, form, size))


class Make:
    """A plan with the form of its batches, equal to that of another model of the same layers."""

    def __init__(self, plan: Plan, form: Any, size: int) -> None:
        """Collect what the source depends on."""
        self.of = plan, form, size
        optimizer, wiring = plan.optimizer, plan.wiring
        records = [plan.update, *(plan.output(place, weighted=form.weighted) for place in range(len(plan.losses)))]
        records += [penalty.record for penalty in plan.penalties]
        spans = tuple(penalty.spans for penalty in plan.penalties)
        records += [part for passes in plan.passes if passes is not None for part in passes[:2]]
        names = tuple(passes.names for passes in plan.passes if passes is not None)
        clips = optimizer.clip_norm, optimizer.clip_value, plan.descends
        by_row = tuple(loss.by_row for loss in plan.losses)
        self.records = records  # so that no other record has the number of one of these
        kind = form, size, plan.dtype, plan.shards, plan.shares, clips, by_row
        self.key = *kind, wiring.signature, spans, names, *map(id, records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Make) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _written(make: Make) -> KernelSource:
    return _Kernel(*make.of).source()


class Forward:
    """Writes the forward pass of a batch of n rows, and collects the arrays, sizes and constants that it needs.

    Matrix m is ``x_m``. Operation i of a Dense writes ``h_i``.
    """

    def __init__(
        self, wiring: Wiring, passes: tuple[Passes | None, ...], dtype: str, size: int, *, single: bool = False
    ) -> None:
        """Begin without a line.

        Args:
            wiring: The operations.
            passes: By operation, the records of its formula; None for an output that the loss computes.
            dtype: "float64" or "float32".
            size: The largest n.
            single: Whether n is 1.
        """
        self.wiring, self.passes, self.dtype, self.size, self.single = wiring, passes, dtype, size, single
        self.made = KernelSource()
        self.functions: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self._places: dict[Any, int] = {}
        self.slots = 0
        self.dense = "row" if single else "dense"
        """The kind of a Dense of several units."""
        self.in_place = False
        """Whether the first layer reads the rows of a batch where they lie, because it needs no matrix of them."""
        self.row = "begin - first * size"
        """The text of the number of rows before a batch."""
        self.squares: set[int] = set()
        self.squared: set[int] = set()
        """The matrices of which the sum of the squares is needed."""

    # names

    def _size(self, key: Any, value: int) -> str:
        """Return the text of a number of ``sizes``, whose key is the same whatever its value."""
        if key not in self._places:
            self._places[key] = len(self.made.sizes)
            self.made.sizes.append(value)
        return f"sizes[{self._places[key]}]"

    def _width(self, matrix: int) -> str:
        return self._size(("matrix", matrix), self.wiring.widths[matrix])

    def _units(self, i: int) -> str:
        matrix = self.wiring.fills(i)
        return self._size(("units", i), self.wiring.operations[i].width) if matrix is None else self._width(matrix)

    def _array(self, name: str, spec: Any, kind: str = "reals") -> str:
        """Return the name of an array of ``memory``."""
        self.made.memory.setdefault(name, spec)
        self.kinds[name] = kind
        return name

    def _matrix(self, kind: str, m: int) -> str:
        return self._array(f"{kind}_{m}", (self.wiring.widths[m], 0))

    def _h(self, i: int) -> str:
        return self._array(f"h_{i}", (self.wiring.operations[i].width, 0))

    def _parameter(self, i: int, name: str, group: str = "views") -> str:
        operation = self.wiring.operations[i]
        names = {"views": "p", "gradients": "g", "buffers": "b"}
        place = [*operation.layer.layout(), *operation.layer.initial_buffers()].index(name)
        return self._array(f"{names[group]}_{i}_{place}", ("operations", i, group, name))

    def _data(self, *key: Any) -> str:
        if key not in self.made.data:
            self.made.data.append(key)
        return f"data_{self.made.data.index(key)}"

    def _start(self, start: int, key: Any) -> str:
        """Return the text that takes an array from a column on."""
        return f"[{self._size(key, start)}:]" if start else ""

    def _written(self, i: int, kind: str) -> tuple[str, bool, str]:
        """Return where an operation writes: the array, whether its rows lie apart, and how far."""
        place = self.wiring.operations[i].writes
        assert place is not None
        matrix, start = place
        text = f"{self._matrix(kind, matrix)}{self._start(start, place)}"
        return text, self.wiring.fills(i) is None, self._width(matrix)

    # calls

    def _call(self, loops: Loops, width: tuple[str, int], given: dict[str, str]) -> list[str]:
        """Return the lines that call the function of a formula, once for each phase; equal functions are one."""
        name = self.functions_named(loops.text)
        text, units = width
        most = max(1, min(self.size, max(LEAST_ROWS, SCRATCH_NUMBERS // units)))
        rows = self.size if loops.whole else most
        arguments = {"n": "n" if loops.direction != "flat" or loops.narrow else f"n * {text}", "width": text}
        if loops.direction == "rows":
            arguments["most"] = "size" if loops.whole else self._size(("most", text), most)
        if loops.cells:
            room = (self.size if loops.direction == "units" else rows) * units
            place = self._size(("room", text, loops.direction, loops.whole), room)
            needed = loops.cells * room
            scratch = f"lasting_{len(self.made.exchanges)}" if loops.exchanges else "scratch"
            before = self.made.memory.get(scratch, (0, 0))
            self._array(scratch, None)
            self.made.memory[scratch] = (0, max(before[1], needed))
            arguments |= {f"cell_{cell}": f"{scratch}[{cell} * {place}:]" for cell in range(loops.cells)}
        if loops.constants:
            arguments["c"] = self._constants(loops.constants)
        if loops.totals:
            arguments["found"] = f"found[{self.slots}:]"
            self._array("found", (0, 0), "floats")
            self.slots += len(loops.totals)
            self.made.memory["found"] = (0, self.slots)
        arguments |= given | {"whole": "whole"}
        if loops.exchanges:
            begun = len(self.made.exchanges)
            shared = self._array(f"shared_{begun}", (0, loops.exchanges[-1][1] * units))
            self.made.exchanges += [(shared, start * units, end * units) for start, end in loops.exchanges]
            arguments |= {"phase": f"phase - {begun}", "shared": shared}
        call = f"{name}({', '.join(arguments[each] for each in loops.arguments)})"
        return [call, *[_CUT, call] * len(loops.exchanges)]

    def functions_named(self, text: str) -> str:
        """Return the name of a function, which is added where it is new."""
        if text not in self.functions:
            self.functions[text] = text.replace(Loops.NAME, f"formula_{len(self.functions)}")
        return f"formula_{[*self.functions].index(text)}"

    def _constants(self, values: list[float]) -> str:
        start = len(self.made.constants)
        self.made.constants += values
        return f"c[{start}:]"

    def _loops(
        self, record: Lowered, reads: dict[str, Place], writes: dict[str, Place], *totals: str, narrow: bool
    ) -> Loops:
        return Loops(record, self.dtype, reads, writes, totals, narrow=narrow, single=self.single)

    def _found(self, back: int) -> str:
        """Return the text of one of the last totals."""
        return f"found[{self.slots - back}]"

    @staticmethod
    def _stop(condition: str) -> list[str]:
        return [f"if not {condition}:", "    done[0] = batch", "    done[1] = made", "    return"]

    # forward

    def _square(self, m: int, call: str) -> list[str]:
        """Add to the sum of the squares of a matrix, which bounds the gradients of the layers that read it."""
        sign = "+=" if m in self.squares else "="
        self.squares.add(m)
        return [f"square_{m} {sign} {call}"]

    def _kind(self, i: int) -> str:
        """Return the kind of a product: the start of the names of its functions."""
        operation = self.wiring.operations[i]
        if operation.width == 1:
            return "place" if self.in_place and operation.reads == (0,) else "unit"
        return self.dense

    def _product(self, what: str, i: int, *more: str) -> str:
        """Return the call of a product of a layer."""
        (m,) = self.wiring.operations[i].reads
        kind = self._kind(i)
        sizes = ["n", self._width(m)]
        x = self._matrix("x", m) if kind != "place" else self._data("x", ())
        if kind != "place":
            sizes.append(self._units(i))
        elif what == "forward":
            more = ("left", *more)
        rows = ["rows[begin:]"] if kind == "place" else []
        w, b = self._parameter(i, "weights"), self._parameter(i, "bias")
        match what:
            case "forward":
                given = [x, w, b, self._delta(i, "x")]
            case "descend":
                given = [x, self._delta(i), w, b]
            case "inputs":
                given = [self._delta(i), w, self._matrix("s", m)]
            case _:
                given = [x, self._delta(i), *(self._parameter(i, name, "gradients") for name in ("weights", "bias"))]
        return f"{kind}_{what}({', '.join([*sizes, *more, *rows, *given])})"

    def _direct(self, i: int) -> bool:
        """Return whether a product writes its matrix itself, as no activation comes between."""
        operation = self.wiring.operations[i]
        passes = self.passes[i]
        identity = passes is not None and passes.forward.outputs["a"] is passes.forward.inputs.get("h")
        return operation.affine and self.wiring.fills(i) is not None and identity

    def _delta(self, i: int, kind: str = "s") -> str:
        """Return the array that a product writes ("x"), or that of dL/dh ("s")."""
        operation = self.wiring.operations[i]
        if self._direct(i) and operation.writes is not None:
            return self._matrix(kind, operation.writes[0])
        return self._h(i)

    def _forward(self) -> list[str]:
        """Go through all operations."""
        lines: list[str] = []
        for i, operation in enumerate(self.wiring.operations):
            if operation.affine:
                call = self._product("forward", i)
                lines += self._square(0, call) if self._kind(i) == "place" else [call]
            passes = self.passes[i]
            if passes is None or operation.writes is None:
                continue
            m = operation.writes[0]
            if self._direct(i):
                lines += (
                    self._square(m, f"squared(n * {self._width(m)}, {self._matrix('x', m)})")
                    if m in self.squared
                    else []
                )
                continue
            lines += self._formula(i, operation, passes)
        return lines

    def _formula(self, i: int, operation: Operation, passes: Passes) -> list[str]:
        """Call the forward pass of a formula."""
        a, apart, stride = self._written(i, "x")
        reads, given = self._given(i, operation, passes)
        writes = {"a": Place("a", strided=apart)}
        given |= {"a": a, "stride_a": stride}
        if "slope" in passes.forward.outputs:
            writes["slope"] = Place("x") if operation.affine else Place("slope")
            given["slope"] = "" if operation.affine else self._h(i)
        new = [place for place in range(len(passes.names[2])) if f"buffer_{place}" in passes.forward.outputs]
        for place in new:
            writes[f"buffer_{place}"] = Place(f"new{place}", "row")
            given[f"new{place}"] = self._array(f"new_{i}_{place}", (0, operation.width))
        for name in _sums_of(passes):
            writes[name] = Place(f"of_{name}", "row")
            given[f"of_{name}"] = self._array(f"summed_{i}_{name}", (0, operation.width))
        m = operation.writes[0] if operation.writes else 0
        totals = ("square",) if m in self.squared else ()
        loops = self._loops(passes.forward, reads, writes, *totals, narrow=operation.width == 1)
        lines = self._call(loops, (self._units(i), operation.width), given)
        for place in new:
            lines += self._stop(f"norm({self._units(i)}, new_{i}_{place}) <= limit")
        return [*lines, *(self._square(m, self._found(1)) if totals else [])]

    def _given(self, i: int, operation: Operation, passes: Passes) -> tuple[dict[str, Place], dict[str, str]]:
        """Return where the arguments of a formula are, and what is given for them."""
        if operation.affine:
            return {"h": Place("x")}, {"x": self._h(i)}
        x = [self._matrix("x", m) for m in operation.reads]
        if operation.layer is None:
            return {"h": Place("x")}, {"x": x[0]}
        if len(x) == 2:
            return {"x0": Place("x0"), "x1": Place("x1")}, {"x0": x[0], "x1": x[1]}
        reads, given = {"x": Place("x")}, {"x": x[0]}
        parameters, draws, buffers = passes.names
        for place, name in enumerate(parameters):
            reads[name], given[f"p{place}"] = Place(f"p{place}", "row"), self._parameter(i, name)
        for place, name in enumerate(draws):
            reads[name], given[f"r{place}"] = (
                Place(f"r{place}"),
                f"{self._data('draw', i, name)}[({self.row}) * {self._units(i)}:]",
            )
        for place, name in enumerate(buffers):
            reads[name], given[f"b{place}"] = Place(f"b{place}", "row"), self._parameter(i, name, "buffers")
        return reads, given


class _Kernel(Forward):
    """Writes ``train``.

    The gradient of matrix m is ``s_m``. The array ``h_i`` of a Dense holds the slopes of its activation later, and
    dL/dh in the end.
    """

    def __init__(self, plan: Plan, form: Form, size: int) -> None:
        super().__init__(plan.wiring, plan.passes, plan.dtype, size, single=form.single)
        self.plan, self.form = plan, form
        self.outputs = [*self.wiring.outputs.values()]
        self.several = plan.shares is not None
        """Whether the loss is a sum over outputs by name."""
        self.classes = form.classes if isinstance(form.classes, tuple) else (form.classes,)
        self.in_place = self.wiring.in_line and self.wiring.operations[0].width == 1
        alone = self.in_place and self.outputs[0].operation == 0 == len(self.wiring.operations) - 1
        few = self.wiring.widths[0] <= _FEW_INPUTS
        self.late = alone and form.single and plan.descends and few and not form.part
        """Whether a plain step comes before its loss, which the next step need not wait for then."""
        self.row = "begin" if form.part else self.row
        self._sums = 3 + (len(self.outputs) if self.several else 0)
        """How many numbers of ``sums`` a part has."""
        self._total: list[str] = []
        self.begun: set[int] = set()
        self.squared = {m for operation in self.wiring.operations if operation.affine for m in operation.reads}

    def source(self) -> KernelSource:
        body = [*self._gather(), *self._forward(), *self._loss(), *self._backward(), *self._step()]
        if self.made.exchanges:
            body = self._lasting(body)
        body = self._in_phases(body)
        head = [f"{name}: {self.kinds[name]} = memory[{place}]" for place, name in enumerate(self.made.memory)]
        for place, key in enumerate(self.made.data):
            kind = "ints" if key[0] == "parts" or (key[0] == "y" and self.classes[key[1]]) else "reals"
            head.append(f"data_{place}: {kind} = data[{place}]")
        train = [
            f"def train({' '.join(_ARGUMENTS.split())}):",
            *indented([*head, "made = 0", "for batch in range(first, stop):", *indented(body)]),
            *indented(["done[0] = stop", "done[1] = made"]),
        ]
        text = "\n\n\n".join([*self.functions.values(), "\n".join(train), ""])
        self.made.text = f"{layers_source(text, self.dtype)}\n\n\n{text}"
        return self.made

    def _lasting(self, body: list[str]) -> list[str]:
        """Keep the numbers of the body in ``found``, from phase to phase."""
        names = dict.fromkeys(match[1] for line in body if (match := _SCALAR.match(line)))
        self._array("found", (0, 0), "floats")
        places = {name: f"found[{self.slots + place}]" for place, name in enumerate(names)}
        self.slots += len(places)
        self.made.memory["found"] = (0, self.slots)
        named = re.compile(rf"\b({'|'.join(names)})\b")
        return [named.sub(lambda match: places[match[1]], line) for line in body]

    def _in_phases(self, body: list[str]) -> list[str]:
        """Return the body with a condition around the lines of each phase."""
        lines = ["begin = batch * size", "n = min(size, count_of_rows - begin)", "left = count_of_rows - begin"]
        if self.form.part:
            lines = self._begin_part()
        if not self.made.exchanges:
            return [*lines, *body]
        phases: list[list[str]] = [[]]
        for line in body:
            if line == _CUT:
                phases.append([])
            else:
                phases[-1].append(line)
        for phase, each in enumerate(phases):
            lines += [f"if phase == {phase}:", *indented(each)]
        return lines

    def _begin_part(self) -> list[str]:
        """Find where a part and its gradient lie; first add up the gradients that the part before has completed."""
        parts, gradient = self._data("parts"), self._array("gradient", ("gradient",))
        names = ("begin", "n", "leaf", "merges", "stride", "length")
        return [
            *(f"{name} = {parts}[{len(names)} * batch + {place}]" for place, name in enumerate(names)),
            "left = count_of_rows - begin",
            "count = rates[0]",
            "whole = int(rates[1])",
            f"to = batch * {self._sums}",
            "for merge in range(merges):",
            "    right = leaf + (merges - 1 - merge) * stride",
            f"    add_multiple(length, real(1.0), {gradient}[right:], {gradient}[right - stride:])",
        ]

    def _parameter(self, i: int, name: str, group: str = "views") -> str:
        found = super()._parameter(i, name, group)
        return f"{found}[leaf:]" if group == "gradients" and self.form.part else found

    def _gather(self) -> list[str]:
        """Copy the rows of a batch; count their weights."""
        lines: list[str] = []
        least = max((getattr(o.layer, "minimum_rows", 1) for o in self.wiring.operations), default=1)
        if least > 1:
            lines += self._stop(f"{'whole' if self.form.part else 'n'} >= {least}")
        width = "1" if self.several or self.plan.losses[0].by_row else self._output_width(0)
        if self.form.weighted:
            weight = self._array("weight", (1, 0))
            lines.append(f"own = weights(n, rows[begin:], {self._data('weight')}, {weight}) * float({width})")
            lines += [] if self.form.part else ["if own == 0.0:", "    continue"]
        else:
            lines.append(f"own = float(n * {width})")
        lines += [] if self.form.part else ["count = own"]
        for place, out in enumerate(self.outputs):
            y = self._data("y", place)
            if self.classes[place]:
                classes = self._array(f"classes_{place}", (1, 0), "ints")
                lines.append(f"classes(n, left, rows[begin:], {y}, {classes})")
            else:
                target = self._array(f"target_{place}", (out.width, 0))
                lines.append(f"targets(n, {self._output_width(place)}, left, rows[begin:], {y}, {target})")
        for columns in [] if self.in_place else self.wiring.columns:
            m, width = columns.matrix, self._width(columns.matrix)
            x, to = self._data("x", columns.path), self._matrix("x", m)
            if columns.width == self.wiring.widths[m]:
                call = f"gather(n, {width}, left, rows[begin:], {x}, {to})"
            else:
                own, start = (
                    self._size(("columns", columns[:3]), columns.width),
                    self._start(columns.start, (m, columns.start)),
                )
                call = f"columns(n, {own}, {width}, rows[begin:], {x}, {to}{start})"
            lines += self._square(m, call)
        for t, table in enumerate(self.wiring.tables):
            m, (weights, _, ids) = table.matrix, self._table(t)
            to = f"{self._matrix('x', m)}{self._start(table.start, (m, table.start))}"
            units, x = self._size(("table", t), table.layer.units), self._data("x", table.path)
            call = f"embed(n, {units}, {self._width(m)}, rows[begin:], {x}, {ids}, {weights}, {to})"
            lines += self._square(m, call)
        return lines

    def _table(self, t: int) -> tuple[str, str, str]:
        weights = self._array(f"e_{t}", ("tables", t, "views", "weights"))
        gradient = self._array(f"ge_{t}", ("tables", t, "gradients", "weights"))
        gradient = f"{gradient}[leaf:]" if self.form.part else gradient
        return weights, gradient, self._array(f"ids_{t}", (1, 0), "ints")

    def _output_width(self, place: int) -> str:
        out = self.outputs[place]
        if out.width == 1:
            return "1"
        return self._units(out.operation) if out.operation is not None else self._width(out.matrix or 0)

    # loss

    def _loss(self) -> list[str]:
        """Compute the loss and delta = dL/dh of the outputs; stop where they are not finite."""
        lines = [] if not self.several else ["total = 0.0"]
        for place in range(len(self.outputs)):
            scale = "1.0"
            if self.several:
                share = (self.plan.shares or ())[place]
                each = "" if self.plan.losses[place].by_row else f" / float({self._output_width(place)})"
                lines.append(f"share_{place} = {self._constants([share]).replace(':]', ']')}{each}")
                scale = f"share_{place}"
            lines += self._output(place, f"real({scale} / count)")
            if not self.late:
                lines.append(f"total += total_{place} * share_{place}" if self.several else "total = total_0")
        if self.late:
            lines += ["total = 0.0", "loss = 0.0", "if fold != 1:"]
            return [*lines, *indented([*self._total, *self._stop("isfinite(loss)")])]
        return [*lines, "loss = total / count", *self._stop("isfinite(loss)")]

    def _output(self, place: int, scale: str) -> list[str]:
        """Compute the loss and delta of one output."""
        out = self.outputs[place]
        narrow, width, lines = out.width == 1, self._output_width(place), list[str]()
        if out.operation is not None:
            h = delta = self._h(out.operation)
            writes = {"delta": Place("h")}
        else:
            m = out.matrix or 0
            h, delta = self._matrix("x", m), self._matrix("s", m)
            writes = {"delta": Place("delta", adds=m in self.begun)} if self.wiring.made(m) else {}
            self.begun.add(m)
        reads = {
            "h": Place("h"),
            "target": Place("target", "classes" if self.classes[place] else "full"),
            "scale": Place("scale", "number"),
        }
        given = {
            "h": h,
            "target": f"classes_{place}" if self.classes[place] else f"target_{place}",
            "scale": scale,
            "delta": delta,
        }
        if self.form.weighted:
            reads["weight"], given["weight"] = Place("weight", "column"), "weight"
        if self.form.keeps:
            whole = sum(each.width for each in self.outputs)
            start = sum(each.width for each in self.outputs[:place])
            total = self._size("outputs", whole) if len(self.outputs) > 1 else width
            at = f"({self.row}) * {total}" + (f" + {self._size(('output', place), start)}" if start else "")
            writes["a"] = Place("kept", strided=len(self.outputs) > 1)
            given |= {"kept": f"{self._data('kept_a')}[{at}:]", "stride_kept": total}
            lines.append(f"keep(n, {width}, {total}, {h}, {self._data('kept_h')}[{at}:])")
        record = self.plan.output(place, weighted=self.form.weighted)
        if self.late:
            kept = self._array("kept", (1, 0))
            loops = self._loops(record, reads, writes, "change", narrow=narrow)
            lines += [f"{kept}[0] = {h}[0]", *self._call(loops, (width, 1), given), f"change_0 = {self._found(1)}"]
            loops = self._loops(record, reads, {}, "total", narrow=narrow)
            self._total = [*self._call(loops, (width, 1), given | {"h": kept}), f"total = {self._found(1)}"]
            self._total.append("loss = total / count")
            return lines
        loops = self._loops(record, reads, writes, "total", "change", narrow=narrow)
        lines += self._call(loops, (width, out.width), given)
        return [*lines, f"total_{place} = {self._found(2)}", f"change_{place} = {self._found(1)}"]

    # backward

    def _backward(self) -> list[str]:
        """Carry delta back; stop where a gradient may not be finite."""
        lines: list[str] = []
        for i, operation in reversed([*enumerate(self.wiring.operations)]):
            passes = self.passes[i]
            if not operation.affine:
                lines += self._formula_back(i, operation, passes) if passes is not None else []
                continue
            (m,) = operation.reads
            if passes is None or operation.writes is None:
                change = f"change_{[out.operation for out in self.outputs].index(i)}"
            elif self._direct(i):
                change = f"squared(n * {self._units(i)}, {self._delta(i)})"
            else:
                lines += self._activation_back(i, operation, passes)
                change = self._found(1)
            lines += self._stop(f"(square_{m} + float(n)) * {change} <= limit")
            if self.wiring.made(m):
                lines.append(self._product("inputs", i, self._begun(m)))
        for t, table in enumerate(self.wiring.tables):
            change = f"{self._matrix('s', table.matrix)}{self._start(table.start, (table.matrix, table.start))}"
            units = self._size(("table", t), table.layer.units)
            lines += self._stop(f"float(n) * embed_change(n, {units}, {self._width(table.matrix)}, {change}) <= limit")
        return lines

    def _begun(self, m: int) -> str:
        begun = m in self.begun
        self.begun.add(m)
        return f"real({float(begun)})"

    def _activation_back(self, i: int, operation: Operation, passes: Passes) -> list[str]:
        """Make delta of dL/da of a product's activation, in place of h."""
        s, apart, stride = self._written(i, "s")
        given = {"s": s, "stride_s": stride, "h": self._h(i)}
        reads = {"gradient": Place("s", strided=apart)}
        if "slope" in passes.backward.inputs:
            reads["slope"] = Place("h")
        else:
            a, _, _ = self._written(i, "x")
            reads |= {"h": Place("h"), "a": Place("a", strided=apart)}
            given |= {"a": a, "stride_a": stride}
        loops = self._loops(passes.backward, reads, {"delta": Place("h")}, "change", narrow=operation.width == 1)
        return self._call(loops, (self._units(i), operation.width), given)

    def _formula_back(self, i: int, operation: Operation, passes: Passes) -> list[str]:
        """Carry the gradient back through a formula, and find those of its parameters."""
        s, apart, stride = self._written(i, "s")
        reads, given = self._given(i, operation, passes)
        reads["gradient"] = Place("s", strided=apart)
        given |= {"s": s, "stride_s": stride}
        if operation.layer is None:
            if "slope" in passes.backward.inputs:
                reads, given["slope"] = {"gradient": reads["gradient"], "slope": Place("slope")}, self._h(i)
            else:
                a, _, _ = self._written(i, "x")
                reads["a"] = Place("a", strided=apart)
                given |= {"a": a, "stride_a": stride}
        names = (
            [f"dx{place}" for place in range(2)]
            if len(operation.reads) == 2
            else ["delta" if operation.layer is None else "dx"]
        )
        writes: dict[str, Place] = {}
        for name, m in zip(names, operation.reads, strict=True):
            if self.wiring.made(m):
                writes[name] = Place(f"to{len(writes)}", adds=m in self.begun)
                given[f"to{len(writes) - 1}"] = self._matrix("s", m)
                self.begun.add(m)
        for place, name in enumerate(passes.names[0]):
            writes[f"d{name}"] = Place(f"g{place}", "row")
            given[f"g{place}"] = self._parameter(i, name, "gradients")
        if not writes:
            return []
        for name in _sums_of(passes):
            reads[name], given[f"of_{name}"] = Place(f"of_{name}", "row"), f"summed_{i}_{name}"
        if operation.layer is not None:
            reads = {name: place for name, place in reads.items() if name in passes.backward.inputs}
        loops = self._loops(passes.backward, reads, writes, narrow=operation.width == 1)
        lines = self._call(loops, (self._units(i), operation.width), given)
        for name in passes.names[0]:
            lines += self._stop(f"norm({self._units(i)}, {self._parameter(i, name, 'gradients')}) <= limit")
        return lines

    # step

    def _penalties(self) -> list[str]:
        """Compute what regularizers add to the gradients."""
        lines: list[str] = []
        known: set[tuple[int, int]] = set()
        for record, spans in self.plan.penalties:
            for start, count in spans:
                writes = {"slope": Place("slope", adds=(start, count) in known)}
                known.add((start, count))
                loops = self._loops(record, {"w": Place("w")}, writes, "change", "square", narrow=False)
                at = self._start(start, ("span", start))
                slopes = self._array("slopes", ("vector", "like"))
                given = {"w": f"{self._array('vector', ('vector',))}{at}", "slope": f"{slopes}{at}"}
                lines += self._call(
                    loops,
                    (self._size(("count", start), count), count),
                    {"n": self._size(("count", start), count), **given},
                )
                lines += self._stop(f"{self._found(2)} + {self._found(1)} <= limit")
        return lines

    def _slopes(self, factor: str, to: str) -> list[str]:
        """Add a multiple of what regularizers add to the gradients."""
        if not self.plan.penalties:
            return []
        at = "[trainable[2 * run]:]"
        call = f"add_multiple(trainable[2 * run + 1], {factor}, slopes{at}, {to}{at})"
        return ["for run in range(runs):", f"    {call}"]

    def _step(self) -> list[str]:
        """Find every gradient, once every delta is known, and update the parameters."""
        penalties = [] if self.form.part else self._penalties()
        affine = [i for i, operation in reversed([*enumerate(self.wiring.operations)]) if operation.affine]
        gradients = [self._product("weights", i) for i in affine]
        descent = ["rate = real(rates[made])", *(self._product("descend", i, "rate") for i in affine)]
        for i, passes in enumerate(self.passes):
            for name in passes.names[0] if passes is not None else ():
                w, g = self._parameter(i, name), self._parameter(i, name, "gradients")
                descent.append(f"add_multiple({self._units(i)}, -rate, {g}, {w})")
        for t, table in enumerate(self.wiring.tables):
            weights, gradient, ids = self._table(t)
            m = table.matrix
            change = f"{self._matrix('s', m)}{self._start(table.start, (m, table.start))}"
            sizes = f"n, {self._size(('table', t), table.layer.units)}, {self._width(m)}"
            all_numbers = self._size(("whole table", t), table.layer.cardinality * table.layer.units)
            gradients += [f"fill({all_numbers}, real(0.0), {gradient})"]
            gradients += [f"embed_add({sizes}, real(1.0), {ids}, {change}, {gradient})"]
            descent += [f"embed_add({sizes}, -rate, {ids}, {change}, {weights})"]
        to = "to + " if self.form.part else ""
        count = ["made += 1", f"sums[{to}0] += total", f"sums[{to}1] += own", f"sums[{to}2] = loss"]
        count += [f"sums[{to}{place}] += total_{place - 3}" for place in range(3, self._sums)]
        new = []
        for i, passes in enumerate(self.passes if not self.plan.shards else ()):
            for place, name in enumerate(passes.names[2] if passes is not None else ()):
                new.append(f"copy({self._parameter(i, name, 'buffers')}, new_{i}_{place}, {self._units(i)})")
        if self.form.part:
            return [*gradients, *new, *count]
        gradients += self._slopes("real(1.0)", "gradient")
        descent[1:1] = self._slopes("-rate", "vector")
        if self.late:
            w, b, inputs, before = self._before()
            descent = [f"copy({before}, {w}, {inputs})", f"{before}[{inputs}] = {b}[0]", *descent]
        update = [*self._clip(), *self._update()]
        if self.plan.descends:
            # The sums are the same whether a callback reads the gradients or not, so it changes no bit.
            gradients = ["if fold != 1 or begin + n == count_of_rows:", *indented(gradients)] if gradients else []
            gradients = ["if fold > 0:", *indented(descent), *gradients]
            update = ["if fold == 0:", *indented(update)]
        late = self._late() if self.late else []
        return [*penalties, *gradients, *update, *new, *late, *count]

    def _late(self) -> list[str]:
        """Compute the loss after a plain step; where it is not finite, undo the step, and stop."""
        w, b, inputs, before = self._before()
        condition, *stop = self._stop("isfinite(loss)")
        undo = indented([f"copy({w}, {before}, {inputs})", f"{b}[0] = {before}[{inputs}]"])
        return ["if fold == 1:", *indented([*self._total, condition, *undo, *stop])]

    def _before(self) -> tuple[str, str, str, str]:
        """Return the weights, the bias, the number of inputs, and the array that keeps both from before a step."""
        before = self._array("before", (0, self.wiring.widths[0] + 1))
        return self._parameter(0, "weights"), self._parameter(0, "bias"), self._width(0), before

    def _update(self) -> list[str]:
        text, constants = update_source(self.plan.update, self.dtype)
        self.functions["update"] = text
        arrays = [self._array("vector", ("vector",)), self._array("gradient", ("gradient",))]
        names = [name for name in self.plan.update.inputs if name.startswith("memory_")]
        arrays += [self._array(name, ("memory", place)) for place, name in enumerate(names)]
        given = ", ".join(f"{array}[trainable[2 * run]:]" for array in arrays)
        sizes = "trainable[2 * run + 1], rates[made], float(steps + made + 1)"
        return ["for run in range(runs):", f"    update({sizes}, {given}, {self._constants(constants)})"]

    def _clip(self) -> list[str]:
        """Clip the gradient of all trainable parameters: first its norm, then each value."""
        optimizer, lines = self.plan.optimizer, list[str]()
        part = "trainable[2 * run + 1], {}gradient[trainable[2 * run]:]"
        if optimizer.clip_norm is not None:
            most = self._constants([optimizer.clip_norm]).replace(":]", "]")
            lines += ["total_norm = 0.0", "for run in range(runs):", f"    total_norm += norm({part.format('')})"]
            lines += ["total_norm = sqrt(total_norm)", f"if total_norm > {most}:", "    for run in range(runs):"]
            lines += [f"        scale({part.format(f'real({most} / total_norm), ')})"]
        if optimizer.clip_value is not None:
            most = self._constants([optimizer.clip_value]).replace(":]", "]")
            lines += ["for run in range(runs):", f"    clip({part.format(f'real({most}), ')})"]
        return lines


def _sums_of(passes: Passes) -> list[str]:
    """Return the names of the sums over all shards that the backward pass reads."""
    return [name for name in passes.forward.outputs if name.startswith("total_")]
