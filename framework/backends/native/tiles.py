"""Products of matrices: blocks of the result stay in registers, and NumPy's OpenBLAS takes the large ones.

Which of the two depends on the sizes alone, so that results do not depend on a measured time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple


class Registers(NamedTuple):
    """The vector registers of a processor: the bytes in one, and how many there are."""

    width: int
    number: int

    def lanes(self, real: str) -> int:
        """Return how many numbers of a type, "double" or "float", are in one."""
        return self.width // (4 if real == "float" else 8)


_TILED = """
def stripe(lanes, rows, fewer, vectors, masked, m, a, row_a, step_a, b, step_b, c, row_c, k, alpha, beta, left):
    whole = m - m % rows
    for i in range(0, whole, rows):
        at, to = a[i * row_a:], c[i * row_c:]
        tile(lanes, rows, vectors, masked, at, row_a, step_a, b, step_b, to, row_c, k, alpha, beta, left)
    part = m - (m - whole) % fewer
    for i in range(whole, part, fewer):
        at, to = a[i * row_a:], c[i * row_c:]
        tile(lanes, fewer, vectors, masked, at, row_a, step_a, b, step_b, to, row_c, k, alpha, beta, left)
    for i in range(part, m):
        at, to = a[i * row_a:], c[i * row_c:]
        tile(lanes, 1, vectors, masked, at, row_a, step_a, b, step_b, to, row_c, k, alpha, beta, left)


def tiled(m: int, n: int, k: int, alpha: real, a: reals, row_a: int, step_a: int, b: reals, step_b: int, col_b: int,
          beta: real, c: reals, row_c: int):
    if n == 1 and step_a == 1 and step_b == 1:
        for i in range(m):
            total = real(0.0)
            for p in range(k):
                total += a[i * row_a + p] * b[p]
            c[i * row_c] = alpha * total + (beta * c[i * row_c] if beta != 0.0 else real(0.0))
        return
    panel = memory({depth} * {width})
    for low in range(0, m, {rows}):
        high = min({rows}, m - low)
        share = beta
        for p in range(0, max(k, 1), {depth}):
            deep = min({depth}, k - p)
            at = a[low * row_a + p * step_a:]
            for j in range(0, n, {width}):
                left, source, step = n - j, b[p * step_b + j * col_b:], step_b
                if col_b != 1:
                    source, step = panel, {width}
                    if step_b == 1:
                        for q in range(min(left, {width})):
                            for r in range(deep):
                                panel[r * {width} + q] = b[(j + q) * col_b + p + r]
                    else:
                        for r in range(deep):
                            for q in range(min(left, {width})):
                                panel[r * {width} + q] = b[(j + q) * col_b + (p + r) * step_b]
                elif step_b > 256 and m > 16:
                    source, step = panel, {width}
                    for r in range(deep):
                        copy(panel[r * {width}:], b[(p + r) * step_b + j:], min(left, {width}))
                to = c[low * row_c + j:]
                {stripes}
            share = real(1.0)
"""

_GEMM = """
def gemm(m: int, n: int, k: int, alpha: real, a: reals, row_a: int, step_a: int, b: reals, step_b: int, col_b: int,
         beta: real, c: reals, row_c: int):
    {large}
    tiled(m, n, k, alpha, a, row_a, step_a, b, step_b, col_b, beta, c, row_c)
"""

_LARGE = """if m * n * k > 16777216 and (step_a == 1 or row_a == 1) and (col_b == 1 or step_b == 1):
        left, right = 0 if step_a == 1 else 1, 0 if col_b == 1 else 2
        blas(left + right, m, n, k, alpha, a, max(row_a, step_a), b, max(step_b, col_b), beta, c, row_c)
        return"""


def gemm_text(*, blas: bool) -> str:
    """Return the function ``gemm`` in the kernel language, which calls ``tiled``.

    Args:
        blas: Whether NumPy's OpenBLAS takes the large products.
    """
    return _GEMM.format(large=_LARGE if blas else "")


def text_of_tiled(real: str, registers: Registers) -> str:
    """Return the function ``tiled`` in the kernel language.

    Args:
        real: "double" or "float".
        registers: Those of the processor.
    """
    lanes = registers.lanes(real)
    rows = {1: 8, 2: 8, 3: 8, 4: 6} if registers.number >= 32 else {1: 8, 2: 6}
    most = max(rows)
    width = most * lanes
    shapes = [(lanes, vectors) for vectors in range(most, 0, -1)]
    shapes += [(fewer, 1) for fewer in (lanes // 2, lanes // 4) if fewer * registers.width >= 16 * lanes]
    stripes = [_stripe(f"left >= {width}", lanes, rows[most], most, "0")]
    for (tile_lanes, vectors), (less, fewer) in zip(shapes, [*shapes[1:], (0, 0)], strict=True):
        stripes.append(
            _stripe(
                f"left > {less * fewer}", tile_lanes, rows[vectors], vectors, f"left - {tile_lanes * (vectors - 1)}"
            )
        )
    text = f"\n{' ' * 16}el".join(stripes)
    return _TILED.format(depth=256, width=width, rows=480, stripes=text)


def _stripe(test: str, lanes: int, rows: int, vectors: int, left: str) -> str:
    """Return the call for some columns, in the shape of a tile; it masks the last vector unless ``left`` is "0"."""
    masked = int(left != "0")
    shape = f"{lanes}, {rows}, {1 if masked else 2}, {vectors}, {masked}"  # of fewer rows, two at a time where it pays
    arguments = f"{shape}, high, at, row_a, step_a, source, step, to, row_c, deep, alpha, share"
    return f"if {test}:\n{' ' * 20}stripe({arguments}, {left})"


def declarations(real: str, lanes: int) -> list[str]:
    """Return the declarations of LLVM's functions that tiles call."""
    vector, kind = f"<{lanes} x {real}>", f"v{lanes}f{32 if real == 'float' else 64}"
    return [
        f"declare {vector} @llvm.fmuladd.{kind}({vector}, {vector}, {vector})",
        f"declare {vector} @llvm.masked.load.{kind}.p0(ptr, i32, <{lanes} x i1>, {vector})",
        f"declare void @llvm.masked.store.{kind}.p0({vector}, ptr, i32, <{lanes} x i1>)",
        f"declare {real} @llvm.vector.reduce.fadd.{kind}({real}, {vector})",
    ]


class Block(ABC):
    """Writes a function of LLVM's language that keeps the sums x y along k in registers, one vector a cell.

    Attributes:
        name: The function's name.
        real: "double" or "float".
        lanes: The numbers in a vector.
        cells: The numbers of x and y of each sum.
        arguments: The function's arguments; ``k`` and those of ``steps`` are among them.
        steps: What grows from step to step, and by how much.
    """

    arguments: str
    steps: ClassVar[dict[str, str]] = {"at_a": "%step_a", "at_b": "%step_b"}

    def __init__(self, name: str, real: str, lanes: int, rows: int, columns: int) -> None:
        self.name, self.real, self.lanes = name, real, lanes
        self.rows, self.columns = range(rows), range(columns)
        self.cells = [(row, column) for row in self.rows for column in self.columns]
        self.vector, self.size = f"<{lanes} x {real}>", 4 if real == "float" else 8
        self.kind = f"v{lanes}f{8 * self.size}"
        self.lines: list[str] = []

    def text(self) -> str:
        """Return the function."""
        self.lines.append("entry:")
        self._places()
        self._add("%some = icmp sgt i64 %k, 0")
        self._add("br i1 %some, label %loop, label %done")
        self._loop()
        self.lines.append("done:")
        for x, y in self.cells:
            self._add(f"%sum.{x}.{y} = phi {self.vector} [zeroinitializer, %entry], [%new.{x}.{y}, %loop]")
        self._ends()
        head = f"define internal void @{self.name}({self.arguments}) noinline nounwind {{"
        return "\n".join([head, *self.lines, "}", ""])

    @abstractmethod
    def _places(self) -> None:
        """Find out where the rows begin."""

    @abstractmethod
    def _factors(self) -> None:
        """Load each ``%x`` and ``%y`` of a step, ``%at_a`` and ``%at_b`` numbers behind where its row begins."""

    @abstractmethod
    def _ends(self) -> None:
        """Store each ``%sum``, and return."""

    def _loop(self) -> None:
        """Add products to each cell, step by step along k."""
        self.lines.append("loop:")
        steps = {"p": "1", **self.steps}
        for name in steps:
            self._add(f"%{name} = phi i64 [0, %entry], [%{name}.next, %loop]")
        for x, y in self.cells:
            self._add(f"%old.{x}.{y} = phi {self.vector} [zeroinitializer, %entry], [%new.{x}.{y}, %loop]")
        self._products()
        for name, by in steps.items():
            self._add(f"%{name}.next = add i64 %{name}, {by}")
        self._add("%more = icmp slt i64 %p.next, %k")
        self._add("br i1 %more, label %loop, label %done")

    def _products(self) -> None:
        """Add the product of a step to each cell."""
        self._factors()
        for x, y in self.cells:
            self._multiply_add(f"%new.{x}.{y}", f"%x.{x}", f"%y.{y}", f"%old.{x}.{y}")

    def _offsets(self) -> None:
        """Load where a step begins from the tables ``ta`` and ``tb``, instead of adding to ``at_a`` and ``at_b``."""
        for array in "ab":
            self._add(f"%entry_{array} = getelementptr i64, ptr %t{array}, i64 %p")
            self._add(f"%at_{array} = load i64, ptr %entry_{array}")

    def _add(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def _place(self, to: str, at: str, by: str) -> None:
        self._add(f"{to} = getelementptr {self.real}, ptr {at}, i64 {by}")

    def _splat(self, to: str, kind: str, value: str) -> None:
        kinds = f"<{self.lanes} x {kind}>"
        self._add(f"{to}.0 = insertelement {kinds} poison, {kind} {value}, i64 0")
        self._add(f"{to} = shufflevector {kinds} {to}.0, {kinds} poison, <{self.lanes} x i32> zeroinitializer")

    def _multiply_add(self, to: str, x: str, y: str, z: str) -> None:
        arguments = ", ".join(f"{self.vector} {value}" for value in (x, y, z))
        self._add(f"{to} = call {self.vector} @llvm.fmuladd.{self.kind}({arguments})")

    def _load(self, to: str, at: str, mask: str = "") -> None:
        """Load a vector; where a mask is false, 0."""
        if mask:
            arguments = f"ptr {at}, i32 {self.size}, <{self.lanes} x i1> {mask}, {self.vector} zeroinitializer"
            self._add(f"{to} = call {self.vector} @llvm.masked.load.{self.kind}.p0({arguments})")
        else:
            self._add(f"{to} = load {self.vector}, ptr {at}, align {self.size}")

    def _store(self, value: str, at: str, mask: str = "") -> None:
        """Store a vector, where a mask is true."""
        if mask:
            arguments = f"{self.vector} {value}, ptr {at}, i32 {self.size}, <{self.lanes} x i1> {mask}"
            self._add(f"call void @llvm.masked.store.{self.kind}.p0({arguments})")
        else:
            self._add(f"store {self.vector} {value}, ptr {at}, align {self.size}")


class Tile(Block):
    """Writes the function C <- alpha A B + beta C for some rows by some vectors of C, which stay in registers.

    Its arguments are ``a, row_a, step_a, b, step_b, c, row_c, k, alpha, beta, left``: arrays, the distances of rows and
    of steps along k in numbers, and how many numbers of the last vector count.

    Args:
        name: The function's name.
        real: "double" or "float".
        lanes: The numbers in a vector.
        rows: The rows of C.
        vectors: The vectors in a row.
        masked: Whether the last vector may have fewer numbers.
    """

    def __init__(self, name: str, real: str, lanes: int, rows: int, vectors: int, *, masked: bool) -> None:
        super().__init__(name, real, lanes, rows, vectors)
        self.masked = self.columns[-1:] if masked else range(0)
        self.arguments = (
            "ptr noalias %a, i64 %row_a, i64 %step_a, ptr noalias %b, i64 %step_b, "
            f"ptr noalias %c, i64 %row_c, i64 %k, {real} %alpha, {real} %beta, i64 %left"
        )

    def _places(self) -> None:
        if self.masked:
            self._splat("%most", "i64", "%left")
            numbers = ", ".join(f"i64 {i}" for i in range(self.lanes))
            self._add(f"%mask = icmp ugt <{self.lanes} x i64> %most, <{numbers}>")
        for r in self.rows:
            self._add(f"%to_a.{r} = mul i64 %row_a, {r}")
            self._place(f"%a.{r}", "%a", f"%to_a.{r}")
            self._add(f"%to_c.{r} = mul i64 %row_c, {r}")
            self._place(f"%c.{r}", "%c", f"%to_c.{r}")

    def _factors(self) -> None:
        """Load a number of A for each row, and the vectors of a row of B."""
        self._place("%b.now", "%b", "%at_b")
        for v in self.columns:
            self._load_part(f"%y.{v}", "%b.now", v)
        for r in self.rows:
            self._place(f"%a.{r}.now", f"%a.{r}", "%at_a")
            self._add(f"%number.{r} = load {self.real}, ptr %a.{r}.now")
            self._splat(f"%x.{r}", self.real, f"%number.{r}")

    def _ends(self) -> None:
        """Store the cells; C is not read where beta is 0."""
        self._splat("%factor", self.real, "%alpha")
        self._splat("%share", self.real, "%beta")
        self._add(f"%reads = fcmp une {self.real} %beta, 0.0")
        self._add("br i1 %reads, label %add, label %put")
        for block in ("add", "put"):
            self.lines.append(f"{block}:")
            for r, v in self.cells:
                value = f"%{block}.{r}.{v}"
                self._add(f"{value} = fmul {self.vector} %factor, %sum.{r}.{v}")
                if block == "add":
                    self._load_part(f"%c.{r}.{v}.old", f"%c.{r}", v)
                    self._multiply_add(f"%c.{r}.{v}.new", "%share", f"%c.{r}.{v}.old", value)
                    value = f"%c.{r}.{v}.new"
                self._store_part(value, f"%c.{r}", v)
            self._add("ret void")

    def _load_part(self, to: str, row: str, v: int) -> None:
        """Load a vector of a row."""
        self._place(f"{to}.place", row, self._hop(row, v))
        self._load(to, f"{to}.place", self._mask(v))

    def _store_part(self, value: str, row: str, v: int) -> None:
        """Store a vector of a row."""
        self._place(f"{value}.place", row, self._hop(row, v))
        self._store(value, f"{value}.place", self._mask(v))

    def _hop(self, _row: str, v: int) -> str:
        """Return how many numbers behind the beginning of a row a vector is."""
        return str(v * self.lanes)

    def _mask(self, v: int) -> str:
        """Return the mask of a vector of a row."""
        return "%mask" if v in self.masked else ""


class TableTile(Tile):
    """Writes a tile whose steps along k are not alike: tables hold where each begins in A and in B.

    Its arguments are ``a, row_a, ta, b, tb, c, row_c, k, alpha, beta, left``: as those of ``Tile``, with the tables
    ``ta`` and ``tb`` in place of the distances of steps. So a convolution is a product without a copy of its windows.
    """

    steps: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str, real: str, lanes: int, rows: int, vectors: int, *, masked: bool) -> None:
        super().__init__(name, real, lanes, rows, vectors, masked=masked)
        self.arguments = (
            "ptr noalias %a, i64 %row_a, ptr noalias %ta, ptr noalias %b, ptr noalias %tb, "
            f"ptr noalias %c, i64 %row_c, i64 %k, {real} %alpha, {real} %beta, i64 %left"
        )

    def _factors(self) -> None:
        self._offsets()
        super()._factors()


class HopTile(TableTile):
    """Writes a table tile whose vectors are not neighbours, but ``hop_b`` numbers apart in B and ``hop_c`` in C.

    Short columns fill its vectors, one for each of some places along another axis. ``left`` counts for all of them.
    """

    def __init__(self, name: str, real: str, lanes: int, rows: int, vectors: int, *, masked: bool) -> None:
        super().__init__(name, real, lanes, rows, vectors, masked=masked)
        self.masked = self.columns if masked else range(0)
        self.arguments += ", i64 %hop_b, i64 %hop_c"

    def _places(self) -> None:
        super()._places()
        for v in self.columns:
            self._add(f"%hops_b.{v} = mul i64 %hop_b, {v}")
            self._add(f"%hops_c.{v} = mul i64 %hop_c, {v}")

    def _hop(self, row: str, v: int) -> str:
        return f"%hops_{row[1]}.{v}"


class DotTile(Block):
    """Writes C[p, q] <- alpha sum over t and s of A[p, ta[t] + s] B[q, tb[t] + s] + beta C[p, q], s < length.

    The lanes of its vectors lie along s, which is contiguous in both factors: so it is for gradients of convolutions.
    Its arguments are ``a, row_a, ta, b, row_b, tb, c, row_c, column_c, k, alpha, beta``; ``k`` counts the t.

    Args:
        name: The function's name.
        real: "double" or "float".
        lanes: The numbers in a vector.
        rows: How many p.
        columns: How many q.
        length: How many s.
    """

    steps: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str, real: str, lanes: int, rows: int, columns: int, length: int) -> None:
        super().__init__(name, real, lanes, rows, columns)
        self.vectors = range(-(-length // lanes))
        rest = length - lanes * self.vectors[-1]
        self.mask = f"<{', '.join(f'i1 {int(i < rest)}' for i in range(lanes))}>" if rest < lanes else ""
        self.arguments = (
            "ptr noalias %a, i64 %row_a, ptr noalias %ta, ptr noalias %b, i64 %row_b, ptr noalias %tb, "
            f"ptr noalias %c, i64 %row_c, i64 %column_c, i64 %k, {real} %alpha, {real} %beta"
        )

    def _places(self) -> None:
        for array, numbers in (("a", self.rows), ("b", self.columns)):
            for i in numbers:
                self._add(f"%to_{array}.{i} = mul i64 %row_{array}, {i}")
                self._place(f"%{array}.{i}", f"%{array}", f"%to_{array}.{i}")

    def _products(self) -> None:
        self._factors()
        last = self.vectors[-1]
        for v in self.vectors:
            for x, y in self.cells:
                before, after = (f"%part.{v}.{x}.{y}" if v else f"%old.{x}.{y}"), f"%part.{v + 1}.{x}.{y}"
                self._multiply_add(after if v < last else f"%new.{x}.{y}", f"%x.{x}.{v}", f"%y.{y}.{v}", before)

    def _factors(self) -> None:
        self._offsets()
        for array, factor, numbers in (("a", "x", self.rows), ("b", "y", self.columns)):
            for i in numbers:
                self._place(f"%{array}.{i}.now", f"%{array}.{i}", f"%at_{array}")
                for v in self.vectors:
                    to = f"%{factor}.{i}.{v}"
                    self._place(f"{to}.place", f"%{array}.{i}.now", str(v * self.lanes))
                    self._load(to, f"{to}.place", self.mask if v == self.vectors[-1] else "")

    def _ends(self) -> None:
        self._add(f"%reads = fcmp une {self.real} %beta, 0.0")
        for p, q in self.cells:
            cell, arguments = f"{p}.{q}", f"{self.real} -0.0, {self.vector} %sum.{p}.{q}"
            self._add(f"%row.{cell} = mul i64 %row_c, {p}")
            self._add(f"%column.{cell} = mul i64 %column_c, {q}")
            self._add(f"%index.{cell} = add i64 %row.{cell}, %column.{cell}")
            self._place(f"%c.{cell}", "%c", f"%index.{cell}")
            self._add(f"%total.{cell} = call reassoc {self.real} @llvm.vector.reduce.fadd.{self.kind}({arguments})")
            self._add(f"%product.{cell} = fmul {self.real} %alpha, %total.{cell}")
            self._add(f"%before.{cell} = load {self.real}, ptr %c.{cell}")
            self._add(f"%scaled.{cell} = fmul {self.real} %beta, %before.{cell}")
            self._add(f"%share.{cell} = select i1 %reads, {self.real} %scaled.{cell}, {self.real} 0.0")
            self._add(f"%result.{cell} = fadd {self.real} %product.{cell}, %share.{cell}")
            self._add(f"store {self.real} %result.{cell}, ptr %c.{cell}")
        self._add("ret void")
