"""The source of a kernel: one readable function that trains on a chunk of batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from framework.engines.compiled.expressions import Writer
from framework.engines.compiled.lower import Lowered, Plan
from framework.engines.compiled.numeric import numeric_source
from framework.engines.compiled.products import in_place, product
from framework.engines.compiled.rows import row_function
from framework.engines.compiled.step import indented, step_source
from framework.engines.compiled.wiring import Columns, Table


@dataclass(frozen=True)
class Form:
    """The form of the batches that a kernel is written for, whatever their sizes.

    Attributes:
        single: Whether batches have one row.
        classes: Whether targets are classes (rows,), not rows of numbers; for each of several outputs.
        weighted: Whether rows have weights.
        keeps: Whether the outputs are kept, for metrics.
    """

    single: bool
    classes: bool | tuple[bool, ...]
    weighted: bool
    keeps: bool


ARGUMENTS = (
    "first, stop, size, x, y, weight, rows, sizes, vector, gradient, memory, starts, stops, rates, steps, fold, "
    "constants, arrays, classes, sums, kept_h, kept_a, limit, address"
)
"""The arguments of ``train``, in this order, as ``Kernel.train`` gives them."""

AHEAD = 8
"""How many rows ahead a row is prefetched: enough to hide the latency of memory, few enough to stay in cache."""

SOON = f"fetch_row(x, rows[min(begin + i + {AHEAD}, len(rows) - 1)])"

_HEADER = '''"""A training kernel, written by framework.engines.compiled; no text of the user's is part of it.

With framework/engines/compiled/native.py {stamp}.
"""

import math

import numpy as np
from numba import njit

from framework.engines.compiled.native import copy_row, fetch_row, gemm

bare = {{"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}}
formula = njit(error_model="numpy", fastmath={{"contract"}}, **bare)
fast = {{"contract", "reassoc", "nsz"}}  # not nnan or ninf: divergence must be seen
kernel = njit(cache=CACHE, nogil=True, error_model="numpy", fastmath=fast, no_cfunc_wrapper=True)

'''


class _Kernel:
    """Writes the lines of ``train``.

    The number of a layer ends the names of its arrays, as in ``h_1``. That of a matrix ends ``x_1``, which layers read,
    and ``s_1``, its gradient.
    """

    def __init__(self, plan: Plan, form: Form) -> None:
        self.plan, self.form, self.wiring = plan, form, plan.wiring
        self.writer = Writer(plan.dtype)
        self.functions: list[str] = []
        self.scratch = 0
        self.columns = 0
        self.flat: set[str] = set()
        self.layers = range(len(self.wiring.layers))
        self.outputs = [*self.wiring.outputs.values()]
        self.several = plan.shares is not None
        """Whether the loss is a sum over outputs by name."""
        self.one = self.writer.literal(1.0)
        self.zero = self.writer.literal(0.0)
        self.sizes = [*self.wiring.widths]
        self._places: dict[Any, int] = {}
        self.units_1 = [self.wiring.units(layer) == 1 for layer in self.layers]
        self.widths = ["1" if one else f"sizes[{self._units(i)}]" for i, one in enumerate(self.units_1)]
        self.by_row = {
            i: classes or plan.outputs[i].coupled for i, classes in zip(self.outputs, self._classes(), strict=True)
        }
        """By output, whether the last activation and the loss go over a row."""
        self.reads_in_place = self.wiring.in_line and (form.single or self.units_1[0])
        """Whether the first layer reads the rows of a batch where they lie, because it needs no matrix of them."""

    def _classes(self) -> tuple[bool, ...]:
        return self.form.classes if isinstance(self.form.classes, tuple) else (self.form.classes,)

    def _size(self, key: Any, value: int) -> int:
        """Return where ``sizes`` has a number, whose key is the same whatever its value."""
        if key not in self._places:
            self._places[key] = len(self.sizes)
            self.sizes.append(value)
        return self._places[key]

    def _units(self, layer: int) -> int:
        """Return where ``sizes`` has a layer's number of units."""
        matrix = self.wiring.fills(layer)
        return self._size(("units", layer), self.wiring.units(layer)) if matrix is None else matrix

    def _column(self, matrix: int, start: int, j: str = "j") -> str:
        """Return the source of column j of what begins at ``start`` in a matrix."""
        return j if start == 0 else f"sizes[{self._size((matrix, start), start)}] + {j}"

    def _written(self, layer: int, kind: str) -> str:
        """Return the source of what a layer writes, in its matrix ("x") or in the gradient of that ("s").

        ``[i, j]``, which one loop over all elements may stand for, is only that of a matrix that the layer fills alone.
        """
        place = self.wiring.writes[layer]
        assert place is not None
        column = "j" if self.wiring.fills(layer) is not None else f"sizes[{self._size(place, place[1])}] + j"
        return f"{kind}_{place[0]}[i, {column}]"

    def source(self) -> str:
        totals = [f"total_{i}" for i in self.outputs if self.several]
        step, update = step_source(self.plan, self.writer, self.widths, self._product, self._scattered, totals)
        self.functions.append(update)
        body = [*self._gather(), *self._forward(), *self._loss(), *self._backward(), *step]
        body = [*map(self._plain, body)] if self.form.single else body
        text = "\n".join(body)
        self.arrays = [name for name in self._names() if name in text]
        train = [
            "@kernel",
            f"def train({ARGUMENTS}):",
            *indented(self._start()),
            "    for batch in range(first, stop):",
            *indented(body, 2),
            "    return stop, made",
        ]
        return "\n\n".join(
            [
                numeric_source(self.plan.dtype, library=self.form.single and all(self.units_1)),
                *self.functions,
                "\n".join(train),
                "",
            ]
        )

    def _plain(self, line: str) -> str:
        """Return a line where h and target of a single unit in a batch of one row are numbers, not arrays."""
        places = "|".join(str(i) for i, one in enumerate(self.units_1) if one and not self.by_row.get(i, False))
        return re.sub(rf"\b(h|target)_({places or 'none'})(?:_flat)?\[[^\]]*\]", r"\1_\2_0", line)

    def _names(self) -> list[str]:
        """Return the names of the arrays that a kernel may work on, with the number of their layer or matrix."""
        reads = self.wiring.reads
        names = dict.fromkeys(
            name
            for i in self.layers
            for name in (f"x_{reads[i]}", *(f"{kind}_{i}" for kind in ("h", "w", "gw", "b", "gb")))
        )
        names |= dict.fromkeys(f"s_{m}" for m in range(len(self.wiring.widths)) if self.wiring.made(m))
        tables = range(len(self.wiring.tables))
        names |= dict.fromkeys(f"{kind}_{t}" for t in tables for kind in ("ids", "e", "ge"))
        names |= dict.fromkeys(f"{kind}_{i}" for i in self.outputs for kind in ("target", "a", "classes"))
        return [*names, "scratch_0", "columns_0", "scales_0", "values_0", *sorted(self.flat)]

    def _start(self) -> list[str]:
        """Name the constants, the parameters and the working memory."""
        return [
            f"{', '.join(self.arrays)}, = arrays",
            *(f"c{i} = constants[{i}]" for i in range(len(self.writer.constants))),
            "zero, one = real(0.0), real(1.0)",
            "made = 0",
        ]

    def _gather(self) -> list[str]:
        """Copy the rows of a batch; count their weights."""
        each = "1" if self.several or self.plan.losses[0].by_row else self.widths[self.outputs[0]]
        lines = ["begin = batch * size", "n = min(size, len(rows) - begin)"]
        if self.form.single:
            lines = ["begin, n = batch, 1"]
        if self.form.weighted:
            lines += [
                "count = 0.0",
                "for i in range(n):",
                "    count += weight[rows[begin + i]]",
                f"count *= {each}",
                "if count == 0.0:  # a batch without weight makes no step",
                "    continue",
                "for i in range(n):",
                "    scales_0[i] = real(weight[rows[begin + i]] / count)",
            ]
        else:
            lines += [f"count = float(n * {each})", "scale = real(1.0 / count)"]
        copy = [line for place in range(len(self.outputs)) for line in self._targets(place)]
        if not self.wiring.in_line:
            squares = [f"square_{m} = zero" for m in sorted({piece.matrix for piece in self._pieces()})]
            return [
                *lines,
                *squares,
                "for i in range(n):",
                "    r = rows[begin + i]",
                *indented([*copy, *self._inputs()]),
            ]
        lines += ["square_0 = zero", "for i in range(n):", "    r = rows[begin + i]", *indented(copy)]
        if self.units_1[0]:
            return lines  # the product reads x, and adds up its squares
        if self.form.single:
            return [*lines, SOON, "for k in range(sizes[0]):", "    square_0 += x[r, k] * x[r, k]"]
        self.flat.add("x_0_flat")
        lines += indented([SOON, "copy_row(x, r, x_0, i)"])
        return [*lines, "for k in range(n * sizes[0]):", "    square_0 += x_0_flat[k] * x_0_flat[k]"]

    def _targets(self, place: int) -> list[str]:
        """Copy the targets of a row for one of the outputs."""
        i = self.outputs[place]
        y, classes = (f"y[{place}]", f"classes_{i}") if self.several else ("y", "classes")
        if self._classes()[place]:
            return [f"{classes}[i] = {y}[r]"]
        return [f"for j in range({self.widths[i]}):", f"    target_{i}[i, j] = {y}[r, j]"]

    def _pieces(self) -> list[Columns | Table]:
        """Return what of the data goes into matrices."""
        return [*self.wiring.columns, *self.wiring.tables]

    def _inputs(self) -> list[str]:
        """Copy a row of the inputs into the matrices, and rows of embeddings."""
        places = {path: f"x[{place}]" for place, path in enumerate(self.wiring.inputs)}
        if self.wiring.inputs == [()]:
            places = {(): "x"}
        lines: list[str] = []
        for columns in self.wiring.columns:
            m, width = columns.matrix, self._size(("columns", columns[:3]), columns.width)
            lines += [
                f"for j in range(sizes[{width}]):",
                f"    v = {places[columns.path]}[r, j]",
                f"    x_{m}[i, {self._column(m, columns.start)}] = v",
                f"    square_{m} += v * v",
            ]
        for t, table in enumerate(self.wiring.tables):
            m = table.matrix
            lines += [
                f"ids_{t}[i] = int({places[table.path]}[r, 0])",
                f"for j in range(e_{t}.shape[1]):",
                f"    v = e_{t}[ids_{t}[i], j]",
                f"    x_{m}[i, {self._column(m, table.start)}] = v",
                f"    square_{m} += v * v",
            ]
        return lines

    def _scattered(self, into: str, factor: str) -> list[str]:
        """Add dL/d(row) to the rows of the embeddings, or of their gradients, which start at 0."""
        lines: list[str] = []
        for t, table in enumerate(self.wiring.tables):
            gradient = f"s_{table.matrix}[i, {self._column(table.matrix, table.start)}]"
            lines += [f"{into}_{t}[:] = zero"] if into == "ge" else []
            lines += ["for i in range(n):", f"    for j in range({into}_{t}.shape[1]):"]
            lines += [f"        {into}_{t}[ids_{t}[i], j] += {factor}{gradient}"]
        return lines

    def _elements(self, place: int, lines: list[str]) -> list[str]:
        """Return loops over the rows and units of a layer: one loop where a line needs neither row nor unit."""
        flat = [re.sub(r"\b((?:a|h|s|target|x)_\d+)\[i, j\]", r"\1_flat[i]", line) for line in lines]
        if self.units_1[place]:  # LLVM makes no vectors of a column
            loop = ["for i in range(n):", *indented(["j = 0", *flat])]
        elif not re.search(r"\bi\b|\bj\b", "\n".join(flat).replace("_flat[i]", "")):
            loop = [f"for i in range(n * {self.widths[place]}):", *indented(flat)]
        else:
            return ["for i in range(n):", f"    for j in range({self.widths[place]}):", *indented(lines, 2)]
        self.flat |= set(re.findall(r"\w+_flat", "\n".join(flat)))
        return loop

    def _product(self, what: str, place: int) -> list[str]:
        style = "vector" if self.units_1[place] else "online" if self.form.single else "matrix"
        lines = product(style, what, place, self.wiring.reads[place], self._units(place))
        return in_place(lines, SOON) if self.reads_in_place and place == 0 else lines

    def _biased(self, place: int) -> list[str]:
        return self._elements(place, [f"h_{place}[i, j] += b_{place}[j]"])

    def _forward(self) -> list[str]:
        """Go through all layers but the outputs: x_1, x_2, ..., with the slope in place of h."""
        lines: list[str] = []
        begun = {piece.matrix for piece in self._pieces()}
        for i, record in enumerate(self.plan.hidden):
            place = self.wiring.writes[i]
            if record is None or place is None:
                continue
            m, above = place[0], self._written(i, "x")
            lines += self._product("forward", i)
            lines += [] if m in begun else [f"square_{m} = {self.zero}"]
            begun.add(m)
            total = f"square_{m} += a * a"
            if self.plan.backwards[i] is not None:
                reads, writes = {"h": f"h_{i}[i, j]"}, {"a": above}
                lines += [*self._biased(i), *self._rows(f"activation_{i}", record, i, reads, writes)]
                lines += self._elements(i, [f"a = {above}", total])
                continue
            text, constants = self.writer.elementwise(f"activation_{i}", record)
            self.functions.append(text)
            call = f"a, slope = activation_{i}(h_{i}[i, j]{constants})"
            lines += self._biased(i)
            lines += self._elements(i, [call, f"{above} = a", f"h_{i}[i, j] = slope", total])
        return lines

    def _rows(self, name: str, record: Lowered, place: int, reads: dict[str, str], writes: dict[str, str]) -> list[str]:
        """Write the function of a formula over the rows of a layer's units, and return the lines that call it."""
        width = self.widths[place]
        function = row_function(self.writer, name, record, reads, writes, width=width, single=self.form.single)
        self.functions.append(function.text)
        self.scratch = max(self.scratch, function.scratch)
        self.columns = max(self.columns, function.columns)
        return function.call

    def _loss(self) -> list[str]:
        """Compute the loss and delta = dL/dh of the outputs; stop where they are not finite."""
        if not self.several:
            lines = self._output(0, "total", "")
        else:
            lines = ["total = 0.0"]
            for place, (i, share) in enumerate(zip(self.outputs, self.plan.shares or (), strict=True)):
                each = "" if self.plan.losses[place].by_row else f" / {self.widths[i]}"
                lines += [f"share_{i} = c{self.writer.place(share)}{each}", f"part_{i} = real(share_{i})"]
                lines += [*self._output(place, f"total_{i}", f"_{i}"), f"total += total_{i} * share_{i}"]
        return [*lines, "loss = total / count", "if not math.isfinite(loss):", "    return batch, made"]

    def _output(self, place: int, total: str, end: str) -> list[str]:
        """Compute the loss and delta of one output; ``end`` ends the names of what each output has."""
        i = self.outputs[place]
        record = self.plan.outputs[i]
        scale = f"{'scales_0[i]' if self.form.weighted else 'scale'}{f' * part_{i}' if self.several else ''}"
        weighted = " * weight[rows[begin + i]]" if self.form.weighted else ""
        lines = [*self._product("forward", i), f"{total} = 0.0", f"change{end} = {self.zero}"]
        column = self._column(-1, sum(map(self.wiring.units, self.outputs[:place])))
        keep_h = f"kept_h[begin - first * size + i, {column}] = h_{i}[i, j]"
        keep_a = f"kept_a[begin - first * size + i, {column}]"
        if self.by_row[i]:
            classes = f"classes{end}[i]" if self.several else "classes[i]"
            target = f"({self.one} if {classes} == j else {self.zero})"
            target = target if self._classes()[place] else f"target_{i}[i, j]"
            reads = {"h": f"h_{i}[i, j]", "target": target}
            writes = {"delta": f"h_{i}[i, j]", "value": "values_0[i]"}
            writes |= {"a": f"a_{i}[i, j]"} if self.form.keeps else {}
            lines += self._biased(i)
            lines += self._elements(i, [keep_h]) if self.form.keeps else []
            lines += self._rows(f"output{end}", record, i, reads, writes)
            lines += ["for i in range(n):", f"    {total} += values_0[i]{weighted}"]
            lines += self._elements(i, [f"{keep_a} = a_{i}[i, j]"]) if self.form.keeps else []
            inner = [f"d = h_{i}[i, j] * {scale}", f"h_{i}[i, j] = d", f"change{end} += d * d"]
            return lines + self._elements(i, inner)
        text, constants = self.writer.elementwise(f"output{end}", record)
        self.functions.append(text)
        inner = [f"a, value, d = output{end}(h_{i}[i, j] + b_{i}[j], target_{i}[i, j]{constants})"]
        if self.form.keeps:
            lines += self._elements(i, [f"{keep_h} + b_{i}[j]"])
            inner.append(f"{keep_a} = a")
        inner += [f"{total} += value{weighted}", f"d *= {scale}", f"h_{i}[i, j] = d", f"change{end} += d * d"]
        return lines + self._elements(i, inner)

    def _backward(self) -> list[str]:
        """Carry delta back; stop where a gradient may not be finite."""
        lines: list[str] = []
        begun: set[int] = set()
        for i in reversed(self.layers):
            m = self.wiring.reads[i]
            lines += self._delta(i)
            change = f"change_{i}" if self.several and i in self.outputs else "change"
            lines += self._stop(f"(float(square_{m}) + n) * float({change})")
            if self.wiring.made(m):
                lines += self._product("more" if m in begun else "inputs", i)
                begun.add(m)
        for t, table in enumerate(self.wiring.tables):
            gradient = f"s_{table.matrix}[i, {self._column(table.matrix, table.start)}]"
            lines += ["change = zero", "for i in range(n):", f"    for j in range(e_{t}.shape[1]):"]
            lines += [f"        change += {gradient} * {gradient}", *self._stop("n * float(change)")]
        return lines

    @staticmethod
    def _stop(bound: str) -> list[str]:
        return [f"if not {bound} <= limit:  # bounds the square of every gradient", "    return batch, made"]

    def _delta(self, i: int) -> list[str]:
        """Make delta of dL/da of a layer; that of an output is known from the loss."""
        place, backward = self.wiring.writes[i], self.plan.backwards[i]
        if place is None:
            return []
        below = self._written(i, "s")
        if backward is None:
            inner = [f"d = {below} * h_{i}[i, j]", f"h_{i}[i, j] = d", "change += d * d"]
            return ["change = zero", *self._elements(i, inner)]
        reads = {"gradient": below, "h": f"h_{i}[i, j]", "a": self._written(i, "x")}
        lines = self._rows(f"backward_{i}", backward, i, reads, {"delta": f"h_{i}[i, j]"})
        return ["change = zero", *lines, *self._elements(i, [f"d = h_{i}[i, j]", "change += d * d"])]


@dataclass(frozen=True)
class KernelSource:
    """A kernel as text, and what it must be given.

    Attributes:
        text: The source of a module whose ``train`` takes ``ARGUMENTS``.
        constants: The values of c0, c1, ...
        arrays: The names of the arrays, in order; ``h_1`` is that of the second layer.
        sizes: The numbers of ``sizes``.
        scratch: How many numbers of an element are kept in ``scratch``.
        columns: How many numbers of a row are kept in ``columns``.
    """

    text: str
    constants: list[float]
    arrays: list[str]
    sizes: list[int]
    scratch: int
    columns: int


@cache
def _stamp() -> str:
    """Return a digest of the code that kernels call, so that another version of it is another kernel."""
    return blake2b((Path(__file__).parent / "native.py").read_bytes(), digest_size=8).hexdigest()


def kernel_source(plan: Plan, form: Form) -> KernelSource:
    """Write the kernel of a plan for batches of this form.

    Raises:
        CannotLower: An operation has no form in a kernel.
    """
    kernel = _Kernel(plan, form)
    text = kernel.source()
    header = _HEADER.format(stamp=_stamp())
    memory = max(kernel.scratch, 1), max(kernel.columns, 1)
    return KernelSource(header + text, kernel.writer.constants, kernel.arrays, kernel.sizes, *memory)
