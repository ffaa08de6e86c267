"""The source of a kernel that trains several models at once, each in a lane of the vectors.

All arrays have the models as their last axis, which is as long as a vector: parameters (number, model), matrices
(column, row, model), but the data (row, column, model). A formula of elements is then one loop over all numbers, a
formula over rows has long loops over the rows of all models, and a product is a few fused multiply-adds of vectors,
however small the matrices are. The last column of a matrix is 1, so that the bias is the last row of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from framework.engines.compiled.expressions import Writer
from framework.engines.compiled.loops import Loops, Place, indented
from framework.engines.compiled.lower import Plan
from framework.engines.native.expressions import is_boolean
from framework.engines.records import CannotLower, Lowered
from framework.native.lanes import ADDED, PLAIN, TIMES, lanes_text
from framework.native.machine import processor

ROWS = 1024
"""A formula over rows takes this many numbers of a column at once."""

AHEAD = 32
"""How many rows ahead a row is prefetched: enough to hide the latency of memory."""

_ARGUMENTS = """
first: int, stop: int, size: int, count_of_rows: int, steps: int, runs: int, rows: ints, rates: floats, sums: floats,
losses: floats, done: ints, trainable: ints, data: arrays, memory: arrays, sizes: ints, c: floats, settings: floats
"""

_TEXT = '''
def fetch_row(x, start, width):
    for k in range(0, width, {line}):
        prefetch(x, start + k)
    prefetch(x, start + width - 1)
    return 0


def fill(n: int, value: real, x: reals):
    for i in range(n):
        x[i] = value


def gather_rows(n: int, width: int, left: int, rows: ints, x: reals, to: reals):
    """Copy the rows of a batch, with a 1 behind each."""
    for r in range(n):
        fetch_row(x, rows[min(r + {ahead}, left - 1)] * width, width)
        copy(to[r * (width + 1):], x[rows[r] * width:], width)
        to[r * (width + 1) + width] = real(1.0)


def targets_lane(n: int, width: int, rows: ints, y: reals, to: reals):
    for r in range(n):
        for k in range(width):
            to[(k * n + r) * {lanes}] = y[rows[r] * width + k]


def classes_lane(n: int, rows: ints, y: ints, to: ints):
    for r in range(n):
        to[r * {lanes}] = y[rows[r]]


def spread(n: int, x: reals):
    """Copy the first lane to the others."""
    for r in range(n):
        for lane in range(1, {lanes}):
            x[r * {lanes} + lane] = x[r * {lanes}]


def spread_classes(n: int, x: ints):
    for r in range(n):
        for lane in range(1, {lanes}):
            x[r * {lanes} + lane] = x[r * {lanes}]


def negative(rates: floats, to: reals):
    for lane in range({lanes}):
        to[lane] = -real(rates[lane])


def totals(n: int, each: reals, found: floats) -> float:
    """Add up the values of the rows of each model; return 0 if all are finite, else nan."""
    for lane in range({lanes}):
        found[lane] = 0.0
    for r in range(n):
        for lane in range({lanes}):
            found[lane] += float(each[r * {lanes} + lane])
    wrong = 0.0
    for lane in range({lanes}):
        wrong += 0.0 * found[lane]
    return wrong


def counted(count: float, found: floats, sums: floats, losses: floats):
    for lane in range({lanes}):
        sums[lane] += found[lane]
        losses[lane] = found[lane] / count
'''


class ManyForm(NamedTuple):
    """The form of the batches that a kernel is written for.

    Attributes:
        shared: Whether all models take the same rows in the same order.
        classes: Whether targets are classes.
        whole: Whether all parameters are trainable.
        keeps: Whether the outputs are kept, for metrics.
    """

    shared: bool
    classes: bool
    whole: bool
    keeps: bool


@dataclass
class ManySource:
    """A kernel as text, and what it must be given.

    Attributes:
        text: A program in the kernel language.
        lanes: How many models it trains.
        constants: The numbers of ``c``.
        sizes: The numbers of ``sizes``.
        memory: The arrays of ``memory`` by name: (numbers for each row of a batch, further numbers) for each model, or
            "vector", "gradient", or the place of an array of the optimizer's memory; "shared" before the numbers of an
            array that all models share.
    """

    text: str
    lanes: int
    constants: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


class Update(NamedTuple):
    """An optimizer's update of several models: the function, and the numbers that may differ from model to model."""

    text: str
    constants: tuple[float, ...]
    once: int


def lanes_of(dtype: str) -> int:
    """Return how many models of a dtype a kernel trains at once."""
    return processor().registers.width // (8 if dtype == "float64" else 4)


@lru_cache(maxsize=64)
def update_of(record: Lowered, dtype: str, lanes: int) -> Update:
    """Return the source of ``update`` on arrays (number, model), with a rate and constants for each model."""
    writer = Writer(dtype)
    names: dict[Any, str] = {node: argument for argument, node in record.inputs.items()}
    once = [node for node in record.nodes if not node.shape]
    head = writer.statements(once, names, once=True, prefix="w")
    kept: dict[str, str] = {}
    for place, node in enumerate(once):
        at = f"kept[{place * lanes} + lane]"
        number = f"real(1.0) if {names[node]} else real(0.0)" if is_boolean(node) else f"real({names[node]})"
        head.append(f"{at} = {number}")
        names[node] = f"once_{place}"
        kept[names[node]] = f"{at} != real(0.0)" if is_boolean(node) else at
    arrays = [argument for argument in record.inputs if argument not in ("rate", "step")]
    for argument in arrays:
        names[record.inputs[argument]] = f"{argument}_i"
    changed = {a: value for a, value in record.outputs.items() if value is not record.inputs[a]}
    read = [a for a in arrays if record.inputs[a] in record.nodes]
    body = writer.statements(record.nodes, names, prefix="u")
    results = [writer.number(value, names) for value in changed.values()]
    text = "\n".join([*body, *results])
    numbers = [place for place in range(len(writer.constants)) if f"k{place}" in text]
    for extra, place in enumerate(numbers):
        at = f"kept[{(len(once) + extra) * lanes} + lane]"
        head.append(f"{at} = real(c[{place * lanes} + lane])")
        kept[f"k{place}"] = at
    kept = {name: value for name, value in kept.items() if name in text}
    of_arrays = [names[record.inputs[a]] for a in read]
    formula = [f"def rule({', '.join([*of_arrays, *kept])}):", *indented([*body, f"return {', '.join(results)}"])]
    constants = [f"d{place} = c[{place * lanes} + lane]" for place in range(len(writer.constants))]
    constants = [line for line in constants if line.split()[0] in "\n".join(head)]
    inside = [f"{a}_i = {a}[i * {lanes} + lane]" for a in read]
    inside += [f"{', '.join(f'new_{a}' for a in changed)} = rule({', '.join([*of_arrays, *kept.values()])})"]
    inside += [f"{a}[i * {lanes} + lane] = new_{a}" for a in changed]
    named = ", ".join(f"{a}: reals" for a in arrays)
    lines = [
        f"def update(n: int, rates: floats, step: float, {named}, c: floats, kept: reals):",
        *indented([f"for lane in range({lanes}):", *indented(["rate = rates[lane]", *constants, *head])]),
        *indented(["for i in range(n):", f"    for lane in range({lanes}):", *indented(indented(inside))]),
    ]
    return Update("\n".join([*formula, "", "", *lines]), tuple(writer.constants), len(once) + len(numbers))


def many_source(plan: Plan, form: ManyForm) -> ManySource:
    """Return the kernel of a plan for models of this form.

    Raises:
        CannotLower: An operation has no form in a kernel.
    """
    return _written(_Make(plan, form))


class _Make:
    """A plan with the form of its batches, equal to that of another model of the same layers."""

    def __init__(self, plan: Plan, form: ManyForm) -> None:
        """Collect what the source depends on."""
        self.plan, self.form = plan, form
        records = [plan.update, plan.output(), *(penalty.record for penalty in plan.penalties)]
        records += [record for passes in plan.passes if passes for record in passes if record]
        self.records = records  # so that no other record has the number of one of these
        spans = tuple(penalty.spans for penalty in plan.penalties)
        self.key = form, plan.dtype, plan.descends, plan.loss.by_row, plan.wiring.signature, spans, *map(id, records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Make) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _written(make: _Make) -> ManySource:
    return _Kernel(make.plan, make.form).source()


class _Kernel:
    """Writes ``train``: matrix m is ``x_m``; ``h_i`` holds h of operation i, its slopes later, and dL/dh in the end."""

    def __init__(self, plan: Plan, form: ManyForm) -> None:
        self.plan, self.form, self.wiring = plan, form, plan.wiring
        self.lanes = lanes_of(plan.dtype)
        self.made = ManySource("", self.lanes)
        self.functions: dict[str, str] = {}
        self.folds = plan.descends and form.whole and not plan.penalties
        """Whether a step of descent is part of the products."""

    def source(self) -> ManySource:
        for name, spec in (("vector", "vector"), ("gradient", "gradient"), ("found", (0, 1)), ("minus", (0, 1))):
            self._array(name, spec)
        body = [*self._gather(), *self._forward(), *self._loss(), *self._backward(), *self._step()]
        kinds = {"found": "floats", "classes": "ints"}
        head = [f"{name}: {kinds.get(name, 'reals')} = memory[{i}]" for i, name in enumerate(self.made.memory)]
        train = [
            f"def train({' '.join(_ARGUMENTS.split())}):",
            *indented([*head, "made = 0", "for batch in range(first, stop):", *indented(body)]),
            *indented(["done[0] = stop", "done[1] = made"]),
        ]
        registers = processor().registers
        products = [lanes_text("many", self.lanes, registers, shared=False)]
        products += [lanes_text("one", self.lanes, registers, shared=True)] if self.form.shared else []
        text = "\n\n\n".join([*products, *self.functions.values(), "\n".join(train), ""])
        line = {"float64": 8, "float32": 16}[self.plan.dtype]
        self.made.text = f"{_TEXT.format(lanes=self.lanes, ahead=AHEAD, line=line)}\n\n{text}"
        return self.made

    def _array(self, name: str, spec: Any) -> str:
        self.made.memory.setdefault(name, spec)
        return name

    def _size(self, value: int) -> str:
        self.made.sizes.append(value)
        return f"sizes[{len(self.made.sizes) - 1}]"

    def _x(self, m: int) -> str:
        spec = (self.wiring.widths[m] + 1, 0)
        return self._array(f"x_{m}", ("shared", *spec) if m == 0 and self.form.shared else spec)

    def _h(self, i: int) -> str:
        return self._array(f"h_{i}", (self.wiring.operations[i].width, 0))

    def _distances(self, m: int) -> str:
        """Return how far apart the rows and the columns of a matrix lie: the data has its rows one after another."""
        if m > 0:
            return f"{self.lanes}, n * {self.lanes}"
        row, number = f"({self._size(self.wiring.widths[0])} + 1)", 1 if self.form.shared else self.lanes
        return f"{row} * {number}, {number}"

    def _weights(self, i: int, array: str = "vector") -> str:
        """Return the weights of an operation, or their gradient; the bias comes after them."""
        start = sum((self.wiring.widths[k] + 1) * self.wiring.operations[k].width for k in range(i))
        return f"{array}[{self._size(start * self.lanes)}:]"

    def _product(self, m: str, n: str, k: str, a: str, b: str, how: int, c: str, *, shared: bool = False) -> str:
        """Return a call of a product; each array is given with its two distances."""
        return f"{'one' if shared else 'many'}({m}, {n}, {k}, {a}, {b}, {how}, minus, {c})"

    def _call(self, loops: Loops, width: tuple[str, int], given: dict[str, str]) -> str:
        """Return the line that calls the function of a formula; equal functions are one."""
        text, units = width
        self.functions.setdefault(loops.text, loops.text.replace(Loops.NAME, f"formula_{len(self.functions)}"))
        flat = loops.direction == "flat"
        arguments = {
            "n": f"n * {text} * {self.lanes}" if flat else f"n * {self.lanes}",
            "width": text,
            "most": str(ROWS),
        }
        if loops.cells:
            before = self.made.memory.get("scratch", (0, 0))[1]
            self.made.memory["scratch"] = (0, max(before, -(-loops.cells * ROWS * units // self.lanes)))
            room = self._size(ROWS * units)
            arguments |= {f"cell_{cell}": f"scratch[{cell} * {room}:]" for cell in range(loops.cells)}
        if loops.constants:
            arguments["c"] = f"c[{len(self.made.constants)}:]"
            self.made.constants += loops.constants
        arguments |= given
        name = f"formula_{[*self.functions].index(loops.text)}"
        return f"{name}({', '.join(arguments[each] for each in loops.arguments)})"

    def _loops(self, record: Lowered, reads: dict[str, Place], writes: dict[str, Place]) -> Loops:
        if any(node.op == "rows" for node in record.nodes):
            raise CannotLower("a formula counts the rows of a batch")
        return Loops(record, self.plan.dtype, reads, writes, by_column=True)

    def _gather(self) -> list[str]:
        """Copy the rows of a batch; where each model has its own, column by column, so that a store is a vector."""
        lanes, inputs, units = self.lanes, self._size(self.wiring.widths[0]), self._size(self._outputs)
        x, lines = self._x(0), ["begin = batch * size", "n = min(size, count_of_rows - begin)"]
        kind, columns = ("classes", "") if self.form.classes else ("targets", f"{units}, ")
        y = self._array("classes", (1, 0)) if self.form.classes else self._array("target", (self._outputs, 0))
        of_y = "ints" if self.form.classes else "reals"
        if self.form.shared:
            lines += [
                "data_x: reals = data[0]",
                f"data_y: {of_y} = data[1]",
                f"gather_rows(n, {inputs}, count_of_rows - begin, rows[begin:], data_x, {x})",
                f"{kind}_lane(n, {columns}rows[begin:], data_y, {y})",
                f"spread_classes(n, {y})" if self.form.classes else f"spread(n * {units}, {y})",
            ]
            return lines
        return [
            *lines,
            f"for lane in range({lanes}):",
            f"    data_y: {of_y} = data[2 * lane + 1]",
            f"    {kind}_lane(n, {columns}rows[lane * count_of_rows + begin:], data_y, {y}[lane:])",
            *(f"data_{lane}: reals = data[{2 * lane}]" for lane in range(lanes)),
            *(f"rows_{lane} = rows[{lane} * count_of_rows:]" for lane in range(lanes)),
            "for r in range(n):",
            "    later = min(begin + r + 4, count_of_rows - 1)",
            f"    to_x = {x}[r * ({inputs} + 1) * {lanes}:]",
            *(f"    fetch_row(data_{lane}, rows_{lane}[later] * {inputs}, {inputs})" for lane in range(lanes)),
            *(f"    row_{lane} = data_{lane}[rows_{lane}[begin + r] * {inputs}:]" for lane in range(lanes)),
            f"    for k in range({inputs}):",
            *(f"        to_x[k * {lanes} + {lane}] = row_{lane}[k]" for lane in range(lanes)),
            f"    fill({lanes}, real(1.0), to_x[{inputs} * {lanes}:])",
        ]

    @property
    def _outputs(self) -> int:
        return self.wiring.operations[-1].width

    def _units(self, i: int) -> tuple[str, int]:
        width = self.wiring.operations[i].width
        return self._size(width), width

    def _forward(self) -> list[str]:
        """H = x w + b, and the activation."""
        lanes, lines = self.lanes, list[str]()
        for i, operation in enumerate(self.wiring.operations):
            inputs, (units, width) = self._size(self.wiring.widths[i]), self._units(i)
            shared = i == 0 and self.form.shared
            a = f"{self._x(i)}, {self._distances(i)}"
            b = f"{self._weights(i)}, {lanes}, {units} * {lanes}"
            c = f"{self._h(i)}, {lanes}, n * {lanes}"
            lines.append(self._product("n", units, f"{inputs} + 1", a, b, PLAIN, c, shared=shared))
            passes = self.plan.passes[i]
            if passes is None or operation.writes is None:
                continue
            to = self._x(i + 1)
            reads, writes, given = {"h": Place("x")}, {"a": Place("a")}, {"x": self._h(i), "a": to}
            if "slope" in passes.forward.outputs:
                writes["slope"] = Place("x")
            lines.append(self._call(self._loops(passes.forward, reads, writes), (units, width), given))
            lines.append(f"fill(n * {lanes}, real(1.0), {to}[n * {units} * {lanes}:])")
        return lines

    def _loss(self) -> list[str]:
        """Compute the loss of each model and delta = dL/dh of the output; stop where a loss is not finite."""
        i, (units, width), loss = len(self.wiring.operations) - 1, self._units(-1), self.plan.loss
        record = _by_row(self.plan.output())
        count = "float(n)" if loss.by_row else f"float(n * {units})"
        target = "classes" if self.form.classes else "full"
        reads = {"h": Place("h"), "target": Place("target", target), "scale": Place("scale", "number")}
        writes = {"delta": Place("h"), "each": Place("each", "column")}
        given = {"h": self._h(i), "target": "classes" if self.form.classes else "target"}
        given |= {"scale": "real(1.0 / count)", "each": self._array("each", (1, 0))}
        kept: list[str] = []
        if self.form.keeps:
            first, numbers = 2 if self.form.shared else 2 * self.lanes, f"{units} * {self.lanes}"
            kept = [f"kept_{name}: reals = data[{first + place}]" for place, name in enumerate("ha")]
            kept += [f"at = (batch - first) * size * {numbers}", f"copy(kept_h[at:], {self._h(i)}, n * {numbers})"]
            writes["a"], given["kept"] = Place("kept"), "kept_a[at:]"
        return [
            f"count = {count}",
            *kept,
            self._call(self._loops(record, reads, writes), (units, width), given),
            "wrong = totals(n, each, found)",
            "if not wrong == 0.0:",
            *indented(["done[0] = batch", "done[1] = made", "return"]),
        ]

    def _backward(self) -> list[str]:
        """Carry delta back."""
        lanes, lines = self.lanes, list[str]()
        for i in range(len(self.wiring.operations) - 1, 0, -1):
            inputs, (units, _), passes = self._size(self.wiring.widths[i]), self._units(i), self.plan.passes[i - 1]
            a = f"{self._weights(i)}, {units} * {lanes}, {lanes}"
            b = f"{self._h(i)}, {lanes}, n * {lanes}"
            assert passes is not None
            if passes.backward is None:  # delta is the product times the slopes
                c = f"{self._h(i - 1)}, n * {lanes}, {lanes}"
                lines.append(self._product(inputs, "n", units, a, b, TIMES, c))
                continue
            s = self._array("s", (max(self.wiring.widths[1:]), 0))
            lines.append(self._product(inputs, "n", units, a, b, PLAIN, f"{s}, n * {lanes}, {lanes}"))
            reads = {"gradient": Place("s"), "h": Place("h"), "a": Place("a")}
            given = {"s": s, "h": self._h(i - 1), "a": self._x(i)}
            loops = self._loops(passes.backward, reads, {"delta": Place("h")})
            lines.append(self._call(loops, (inputs, self.wiring.widths[i]), given))
        return lines

    def _step(self) -> list[str]:
        """Find the gradients of weights and biases, and update them."""
        lanes, lines = self.lanes, [f"negative(rates[made * {self.lanes}:], minus)"]
        for i in range(len(self.wiring.operations)):
            inputs, (units, _) = self._size(self.wiring.widths[i]), self._units(i)
            shared = i == 0 and self.form.shared
            a = f"{self._x(i)}, {', '.join(reversed(self._distances(i).split(', ')))}"
            b = f"{self._h(i)}, n * {lanes}, {lanes}"
            how, to = (ADDED, "vector") if self.folds else (PLAIN, "gradient")
            c = f"{self._weights(i, to)}, {units} * {lanes}, {lanes}"
            lines.append(self._product(f"{inputs} + 1", units, "n", a, b, how, c, shared=shared))
        if not self.folds:
            lines += [*self._penalties(), *self._update()]
        return [*lines, "made += 1", "counted(count, found, sums, losses)"]

    def _penalties(self) -> list[str]:
        """Add the slopes of regularizers to the gradients."""
        lines = []
        for record, spans in self.plan.penalties:
            for start, count in spans:
                loops = self._loops(record, {"w": Place("w")}, {"slope": Place("slope", adds=True)})
                at, numbers = f"[{self._size(start * self.lanes)}:]", f"{self._size(count)} * {self.lanes}"
                given = {"n": numbers, "w": f"vector{at}", "slope": f"gradient{at}"}
                lines.append(self._call(loops, ("1", 1), given))
        return lines

    def _update(self) -> list[str]:
        update = update_of(self.plan.update, self.plan.dtype, self.lanes)
        self.functions["update"] = update.text
        arrays = ["vector", "gradient"]
        names = [name for name in self.plan.update.inputs if name.startswith("memory_")]
        arrays += [self._array(name, ("memory", place)) for place, name in enumerate(names)]
        at = f"[trainable[2 * run] * {self.lanes}:]"
        given = ", ".join(f"{array}{at}" for array in arrays)
        sizes = f"trainable[2 * run + 1], rates[made * {self.lanes}:], float(steps + made + 1)"
        kept = self._array("kept", (0, max(1, update.once)))
        return ["for run in range(runs):", f"    update({sizes}, {given}, settings, {kept})"]


@lru_cache(maxsize=64)
def _by_row(record: Lowered) -> Lowered:
    """Return the record of an output with the value of each row, as ``each``."""
    total = record.outputs["total"]
    if total.shape[-1:] == record.inputs["h"].shape[-1:] and len(total.shape) == len(record.inputs["h"].shape):
        total = total.graph.add("sum", total, axes=(1,), keepdims=True)
    return Lowered(record.inputs, record.outputs | {"each": total})
