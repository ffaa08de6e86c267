"""The source of a kernel: one readable function that trains on a chunk of batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

from framework.engines.compiled.expressions import Writer
from framework.engines.compiled.lower import Lowered, Plan
from framework.engines.compiled.numeric import numeric_source
from framework.engines.compiled.products import in_place, product
from framework.engines.compiled.rows import row_function
from framework.engines.compiled.step import indented, step_source


@dataclass(frozen=True)
class Form:
    """The form of the batches that a kernel is written for, whatever their sizes.

    Attributes:
        single: Whether batches have one row.
        classes: Whether targets are classes (rows,), not rows of numbers.
        weighted: Whether rows have weights.
        keeps: Whether the outputs are kept, for metrics.
    """

    single: bool
    classes: bool
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
    """Writes the lines of ``train``."""

    def __init__(self, plan: Plan, form: Form) -> None:
        self.plan, self.form = plan, form
        self.writer = Writer(plan.dtype)
        self.functions: list[str] = []
        self.scratch = 0
        self.columns = 0
        self.flat: set[str] = set()
        self.last = len(plan.layers) - 1
        self.one = self.writer.literal(1.0)
        self.zero = self.writer.literal(0.0)
        self.units_1 = [self._units(layer) == 1 for layer in plan.layers]
        self.widths = ["1" if one else f"sizes[{i + 1}]" for i, one in enumerate(self.units_1)]
        self.by_row = form.classes or plan.output.coupled
        """Whether the last activation and the loss go over a row."""
        self.reads_in_place = form.single or self.units_1[0]
        """Whether the first layer reads the rows of a batch where they lie, because it needs no matrix of them."""

    @staticmethod
    def _units(layer: object) -> int:
        return int(getattr(layer, "units", 1))

    def source(self) -> str:
        step, update = step_source(self.plan, self.writer, self.widths, self._product)
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
        places = "|".join(str(i) for i, one in enumerate(self.units_1) if one and not (i == self.last and self.by_row))
        return re.sub(rf"\b(h|target)_({places or 'none'})(?:_flat)?\[[^\]]*\]", r"\1_\2_0", line)

    def _names(self) -> list[str]:
        """Return the names of the arrays that a kernel may work on, with the number of their layer."""
        names = [f"{name}_{i}" for i in range(self.last + 1) for name in ("x", "h", "w", "gw", "b", "gb")]
        names += [f"s_{i}" for i in range(1, self.last + 1)]
        names += [f"target_{self.last}", f"a_{self.last}", "scratch_0", "columns_0", "scales_0", "values_0"]
        return [*names, *sorted(self.flat)]

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
        each = "1" if self.plan.loss.by_row else self.widths[self.last]
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
        targets = f"for j in range({self.widths[self.last]}):"
        target = f"target_{self.last}[i, j] = y[r, j]"
        copy = ["classes[i] = y[r]"] if self.form.classes else [targets, f"    {target}"]
        lines += ["square_0 = zero", "for i in range(n):", "    r = rows[begin + i]", *indented(copy)]
        if self.units_1[0]:
            return lines  # the product reads x, and adds up its squares
        if self.form.single:
            return [*lines, SOON, "for k in range(sizes[0]):", "    square_0 += x[r, k] * x[r, k]"]
        self.flat.add("x_0_flat")
        lines += indented([SOON, "copy_row(x, r, x_0, i)"])
        return [*lines, "for k in range(n * sizes[0]):", "    square_0 += x_0_flat[k] * x_0_flat[k]"]

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
        lines = product(style, what, place)
        return in_place(lines, SOON) if self.reads_in_place and place == 0 else lines

    def _biased(self, place: int) -> list[str]:
        return self._elements(place, [f"h_{place}[i, j] += b_{place}[j]"])

    def _forward(self) -> list[str]:
        """Go through all layers but the last: x_1, x_2, ..., with the slope in place of h."""
        lines: list[str] = []
        for i, record in enumerate(self.plan.hidden):
            lines += [*self._product("forward", i), f"square_{i + 1} = {self.zero}"]
            total = f"square_{i + 1} += a * a"
            if self.plan.backwards[i] is not None:
                reads, writes = {"h": f"h_{i}[i, j]"}, {"a": f"x_{i + 1}[i, j]"}
                lines += [*self._biased(i), *self._rows(f"activation_{i}", record, i, reads, writes)]
                lines += self._elements(i, [f"a = x_{i + 1}[i, j]", total])
                continue
            text, constants = self.writer.elementwise(f"activation_{i}", record)
            self.functions.append(text)
            call = f"a, slope = activation_{i}(h_{i}[i, j]{constants})"
            lines += self._biased(i)
            lines += self._elements(i, [call, f"x_{i + 1}[i, j] = a", f"h_{i}[i, j] = slope", total])
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
        """Compute the loss and delta = dL/dh of the last layer; stop where they are not finite."""
        i = self.last
        record = self.plan.output
        scale = "scales_0[i]" if self.form.weighted else "scale"
        weighted = " * weight[rows[begin + i]]" if self.form.weighted else ""
        lines = [*self._product("forward", i), "total = 0.0", f"change = {self.zero}"]
        keep_h = f"kept_h[begin - first * size + i, j] = h_{i}[i, j]"
        keep_a = "kept_a[begin - first * size + i, j]"
        if self.by_row:
            target = f"({self.one} if classes[i] == j else {self.zero})" if self.form.classes else f"target_{i}[i, j]"
            reads = {"h": f"h_{i}[i, j]", "target": target}
            writes = {"delta": f"h_{i}[i, j]", "value": "values_0[i]"}
            writes |= {"a": f"a_{i}[i, j]"} if self.form.keeps else {}
            lines += self._biased(i)
            lines += self._elements(i, [keep_h]) if self.form.keeps else []
            lines += self._rows("output", record, i, reads, writes)
            lines += ["for i in range(n):", f"    total += values_0[i]{weighted}"]
            lines += self._elements(i, [f"{keep_a} = a_{i}[i, j]"]) if self.form.keeps else []
            lines += self._elements(i, [f"d = h_{i}[i, j] * {scale}", f"h_{i}[i, j] = d", "change += d * d"])
        else:
            text, constants = self.writer.elementwise("output", record)
            self.functions.append(text)
            inner = [f"a, value, d = output(h_{i}[i, j] + b_{i}[j], target_{i}[i, j]{constants})"]
            if self.form.keeps:
                lines += self._elements(i, [f"{keep_h} + b_{i}[j]"])
                inner.append(f"{keep_a} = a")
            inner += [f"total += value{weighted}", f"d *= {scale}", f"h_{i}[i, j] = d", "change += d * d"]
            lines += self._elements(i, inner)
        return [*lines, "loss = total / count", "if not math.isfinite(loss):", "    return batch, made"]

    def _backward(self) -> list[str]:
        """Carry delta back; stop where a gradient may not be finite."""
        lines: list[str] = []
        check = "if not (float(square_{0}) + n) * float(change) <= limit:  # bounds the square of every gradient"
        for i in range(self.last, 0, -1):
            lines += [check.format(i), "    return batch, made"]
            lines += [*self._product("inputs", i), "change = zero"]
            backward = self.plan.backwards[i - 1]
            below = f"s_{i}[i, j]"
            if backward is None:
                inner = [f"d = {below} * h_{i - 1}[i, j]", f"h_{i - 1}[i, j] = d", "change += d * d"]
                lines += self._elements(i - 1, inner)
            else:
                reads = {"gradient": below, "h": f"h_{i - 1}[i, j]", "a": f"x_{i}[i, j]"}
                lines += self._rows(f"backward_{i - 1}", backward, i - 1, reads, {"delta": f"h_{i - 1}[i, j]"})
                lines += self._elements(i - 1, [f"d = h_{i - 1}[i, j]", "change += d * d"])
        lines += [check.format(0), "    return batch, made"]
        return lines


@dataclass(frozen=True)
class KernelSource:
    """A kernel as text, and what it must be given.

    Attributes:
        text: The source of a module whose ``train`` takes ``ARGUMENTS``.
        constants: The values of c0, c1, ...
        arrays: The names of the arrays, in order; ``h_1`` is that of the second layer.
        scratch: How many numbers of an element are kept in ``scratch``.
        columns: How many numbers of a row are kept in ``columns``.
    """

    text: str
    constants: list[float]
    arrays: list[str]
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
    return KernelSource(header + text, kernel.writer.constants, kernel.arrays, *memory)
