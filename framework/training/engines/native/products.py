"""Products of views: which micro-kernel computes them, and the loops around it.

A product C <- alpha A B + beta C has four kinds of axes: M in A and C, N in B and C, K in A and B, which are summed,
and B in all three. Its vectors lie along an axis of C that is contiguous there, best also in the factor that has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from framework.backends.native.lanes import lanes_text
from framework.backends.native.machine import processor
from framework.graph.node import Node
from framework.training.engines.native.expressions import literal
from framework.training.engines.native.indices import Index
from framework.training.engines.native.views import ROWS, Buffer, View, coefficients, size_text
from framework.training.engines.native.writer import Axes, NestWriter
from framework.training.engines.records import CannotLower, Slower

_TALLEST = {1: 14, 2: 10, 3: 8, 4: 6}
"""How many rows a tile with so many vectors may have: its sums, a row of B and a number of A stay in 32 registers."""

_LITERAL = 16
"""The largest size that is a literal where it could be an argument."""

_CELLS = 24
"""How many vectors of sums a tile may have."""


class Axis(NamedTuple):
    """An axis of a product.

    Attributes:
        role: "M", "N", "K" or "B".
        size: How long it is.
        a: Its stride in A, 0 if A does not have it.
        b: That in B.
        c: That in C.
    """

    role: str
    size: int
    a: int
    b: int
    c: int


@dataclass(frozen=True)
class Product:
    """C <- alpha A B + beta C.

    Attributes:
        a: A.
        b: B.
        c: C.
        axes: The axes that are longer than 1.
        alpha: The text of alpha, None for 1.
        beta: Beta, 0 or 1.
    """

    a: View
    b: View
    c: View
    axes: tuple[Axis, ...]
    alpha: str | None = None
    beta: float = 0.0

    def of(self, role: str) -> list[Axis]:
        """Return the axes of a role."""
        return [axis for axis in self.axes if axis.role == role]

    def merge_axes(self, role: str) -> list[Axis]:
        """Return the axes of a role, the one with the longest strides first; two are one where all strides agree."""
        merged: list[Axis] = []
        for axis in sorted(self.of(role), key=lambda axis: [-abs(step) for step in _strides(axis)]):
            size = axis.size
            if merged and _strides(merged[-1]) == [step * size for step in _strides(axis)]:
                size *= merged.pop().size
            merged.append(axis._replace(size=size))
        return merged

    def swap_factors(self) -> Product:
        """Return the same product with its factors swapped: C' = B' A'."""
        roles = {"M": "N", "N": "M"}
        axes = (Axis(roles.get(axis.role, axis.role), axis.size, axis.b, axis.a, axis.c) for axis in self.axes)
        return replace(self, a=self.b, b=self.a, axes=tuple(axes))


def _strides(axis: Axis) -> list[int]:
    """Return the strides of an axis in the arrays that have it."""
    return [step for step, roles in zip(axis[2:], ("MKB", "NKB", "MNB"), strict=True) if axis.role in roles]


def product_of(node: Node, a: View, b: View, c: View, alpha: str | None, beta: float) -> Product:
    """Return the product that a node is, of these factors into this view.

    Raises:
        CannotLower: An axis is in one factor alone.
    """
    of_a, of_b, of_c = letters_of(node)
    sizes: dict[str, int] = {}
    for letters, view in ((of_a, a), (of_b, b)):
        for letter, size in zip(letters, view.shape, strict=True):
            sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
    axes = []
    for letter, size in sizes.items():
        if size != 1:
            roles = {(1, 0, 1): "M", (0, 1, 1): "N", (1, 1, 0): "K", (1, 1, 1): "B"}
            role = roles.get((int(letter in of_a), int(letter in of_b), int(letter in of_c)))
            if role is None:
                raise CannotLower("a product with an axis that is in one factor alone has no form in a kernel")
            strides = (_stride(letter, *pair) for pair in ((of_a, a), (of_b, b), (of_c, c)))
            axes.append(Axis(role, size, *strides))
    return Product(a, b, c, tuple(axes), alpha, beta)


def letters_of(node: Node) -> tuple[str, str, str]:
    """Return the letters of the axes of the factors and of the result, as for ``np.einsum``."""
    if node.op == "einsum":
        factors, result = node.attributes["subscripts"].split("->")
        a, b = factors.split(",")
        return a, b, result
    lead = "abcdefgh"[: node.ndim - 2]
    ends = [lead[len(lead) - (factor.ndim - 2) :] for factor in node.args]
    return f"{ends[0]}ik", f"{ends[1]}kj", f"{lead}ij"


def _stride(letter: str, letters: str, view: View) -> int:
    """Return the stride of an axis, 0 if a view does not have it or it is broadcast."""
    axis = letters.find(letter)
    return 0 if axis < 0 or view.shape[axis] == 1 else view.strides[axis]


def write_product(writer: NestWriter, product: Product) -> None:
    """Write the function of a product, and call it.

    The micro-kernels, from the one with the narrowest use to the one with the widest:

    - ``lanes_product``: many small matrices whose elements are neighbours, one matrix in each lane;
    - ``gemm`` on unfolded parts: the gradient of a kernel with many filters, by the windows of a sample as a matrix;
    - ``dot_tile``: no axis of C makes good vectors, and several axes are summed, of which one is contiguous;
    - ``gemm``: one axis is summed, or several that are as one;
    - ``hop_tile``: several axes are summed, and the columns are shorter than a vector;
    - ``table_tile``: all others. B is copied if its columns are apart.
    """
    lanes = writer.lanes
    many = [axis for axis in product.of("B") if axis[2:] == (1, 1, 1) and axis.size < ROWS and axis.size % lanes == 0]
    if many and (product.alpha is None or product.beta) and all(len(product.of(role)) < 2 for role in "MNK"):
        _write_lanes(writer, product, many[0])
        return
    score, turns = _best_vectors(product, lanes)
    runs = [axis for axis in product.of("K") if axis.a == axis.b == 1 and 4 <= axis.size < ROWS]
    if score < _GOOD and runs and len(product.of("K")) > 1 and product.of("M") and product.of("N"):
        if (unfolding := _Unfolding.of(product)) is not None:
            _write_unfolded(writer, unfolding)
            return
        _write_dots(writer, product, runs[0])
        return
    product = product.swap_factors() if turns else product
    parts = _Parts.of(product)
    if writer.independent:
        _require_small(product, parts)
    if len(parts.sums) == 1:
        _write_gemm(writer, product, parts)
    elif parts.columns.b != 1:
        write_product(writer, _pack_columns(writer, product))
    elif (short := _short_columns(parts, lanes)) is not None:
        _write_hops(writer, product, parts, *short)
    else:
        _write_tables(writer, product, parts)


_MATRIX, _WINDOWS = 1 << 20, 1 << 18
"""The most weights of a product in a prediction: of a matrix, and where several axes are summed."""


def _require_small(product: Product, parts: _Parts) -> None:
    """Refuse a product that NumPy computes faster, by BLAS, in which the bits of a row depend on the rows beside it.

    Raises:
        Slower: It has too many weights.
    """
    weights = max((view.buffer.size for view in (product.a, product.b) if view.buffer.size < ROWS), default=0)
    if weights > (_MATRIX if len(parts.sums) == 1 else _WINDOWS):
        raise Slower(f"NumPy is faster for a layer of {weights:,} weights")


_GOOD = 2.0
"""The score of vectors that are contiguous in C and in a factor, and not half empty."""


def _best_vectors(product: Product, lanes: int) -> tuple[float, bool]:
    """Return how good the best vectors are, and whether the factors must be swapped for them."""
    (rows, columns, sums) = (product.of(role) for role in "MNK")
    if len(sums) == 1 and sums[0].a == sums[0].b == 1 and bool(rows) != bool(columns):
        return math.inf, not rows  # a matrix and a vector: vectors lie along the sum
    best = (0.0, False)
    for axis in product.axes:
        if axis.role in "MN" and axis.c == 1:
            full = 1.0 if axis.size >= ROWS else axis.size / (-(-axis.size // lanes) * lanes)
            contiguous = (axis.a if axis.role == "M" else axis.b) == 1
            score = full + _GOOD * contiguous
            if score > best[0]:
                best = score, axis.role == "M"
    return best


_NO_ROWS, _NO_COLUMNS = Axis("M", 1, 0, 0, 0), Axis("N", 1, 0, 1, 1)


@dataclass(frozen=True)
class _Parts:
    """The axes of a product by what is done with them.

    Attributes:
        rows: The longest axis of M, which the micro-kernel runs over.
        columns: The axis of N that its vectors lie along.
        sums: The axes of K.
        loops: All others.
    """

    rows: Axis
    columns: Axis
    sums: list[Axis]
    loops: list[Axis]

    @classmethod
    def of(cls, product: Product) -> _Parts:
        """Sort the axes of a product."""
        columns = sorted(product.merge_axes("N"), key=lambda axis: (axis.c != 1, -axis.size))
        rows = sorted(product.merge_axes("M"), key=lambda axis: -axis.size)
        along = columns.pop(0) if columns and columns[0].c == 1 else _NO_COLUMNS
        sums = product.merge_axes("K") or [Axis("K", 1, 0, 0, 0)]
        return cls(rows[0] if rows else _NO_ROWS, along, sums, [*product.merge_axes("B"), *rows[1:], *columns])

    @property
    def steps(self) -> int:
        """The number of products that are summed."""
        return math.prod(axis.size for axis in self.sums)


class _Body:
    """The lines of a function of a product, with loops around its micro-kernel."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._sizes: dict[str, str] = {}
        self._starts = {"a": Index(), "b": Index(), "c": Index()}
        self._depth = 1

    def loop(self, axis: Axis, step: int = 1) -> None:
        """Add a loop over an axis around all that follows."""
        variable = f"l{self._depth - 1}"
        size = size_text(axis.size)
        self.add(f"for {variable} in range({size if step == 1 else f'0, {size}, {step}'}):")
        self._depth += 1
        for array, stride in zip("abc", axis[2:], strict=True):
            self._starts[array] += Index.of(variable) * stride

    def add(self, line: str, deeper: int = 0) -> None:
        """Add a line."""
        self.lines.append(" " * 4 * (self._depth + deeper) + line)

    def sizes(self, *sizes: int) -> str:
        """Return sizes as arguments of a call; large ones become parameters, so that products of all sizes are one."""
        texts = map(size_text, sizes)
        return ", ".join(
            self._sizes.setdefault(text, f"size{len(self._sizes)}") if size > _LITERAL and text != "n" else text
            for size, text in zip(sizes, texts, strict=True)
        )

    def array(self, name: str, more: Index | int = 0) -> str:
        """Return the text of an array from where the loops have got to, and some elements further."""
        start = self._starts[name] + more
        return f"{name}[{start}:]" if start != Index() else name

    def element(self, name: str, more: Index) -> str:
        """Return the text of an element of an array, from where the loops have got to."""
        return f"{name}[{self._starts[name] + more}]"

    def call(
        self,
        writer: NestWriter,
        product: Product,
        tables: Sequence[Axes] = (),
        calls: Sequence[str] = (),
        windows: Buffer | None = None,
    ) -> None:
        """Write the function, and call it."""
        parameters = dict.fromkeys(("alpha", "beta"), "real") | dict.fromkeys("abc", "reals")
        held = {} if windows is None else {"windows": writer.pointer(windows)}
        parameters |= dict.fromkeys(held, "reals")
        parameters |= dict.fromkeys(("ta", "tb")[: len(tables)], "ints") | dict.fromkeys(self._sizes.values(), "int")
        views = product.a, product.b, product.c
        arrays = (writer.array(view.buffer, view.loop_strides, view.offset) for view in views)
        alpha = literal(1.0) if product.alpha is None else product.alpha
        arguments = [alpha, literal(product.beta), *arrays, *held.values(), *map(writer.table, tables), *self._sizes]
        writer.call(self.lines, parameters, arguments, calls)


def _texts(*sizes: int) -> str:
    """Return sizes as arguments of a call."""
    return ", ".join(map(size_text, sizes))


def _write_gemm(writer: NestWriter, product: Product, parts: _Parts) -> None:
    if writer.independent and parts.columns.size >= ROWS:  # one column may be summed in another order than several
        parts = replace(parts, columns=_NO_COLUMNS, loops=[*parts.loops, parts.columns])
    body, rows, columns, sums = _Body(), parts.rows, parts.columns, parts.sums[0]
    for axis in parts.loops:
        body.loop(axis)
    left = f"alpha, {body.array('a')}, {body.sizes(rows.a, sums.a)}"
    right = f"{body.array('b')}, {body.sizes(sums.b, columns.b)}"
    result = f"beta, {body.array('c')}, {body.sizes(rows.c)}"
    name = "tiled" if writer.independent else "gemm"
    body.add(f"{name}({body.sizes(rows.size, columns.size, sums.size)}, {left}, {right}, {result})")
    body.call(writer, product)


def _write_lanes(writer: NestWriter, product: Product, many: Axis) -> None:
    lanes = writer.lanes
    text = lanes_text("lanes_product", lanes, processor().registers)
    rows, columns, sums = ((product.of(role) or [Axis(role, 1, 0, 0, 0)])[0] for role in "MNK")
    body, adds, factor = _Body(), 0, "c"  # a factor that is not read
    if product.beta:
        adds, factor = 1, "factor"
        body.add(f"factor = memory({lanes})")
        body.add(f"for i in range({lanes}):")
        body.add("factor[i] = alpha", 1)
    for axis in product.of("B"):
        if axis is not many:
            body.loop(axis)
    body.loop(Axis("B", many.size // lanes, lanes, lanes, lanes))
    left, right = f"{body.array('a')}, {_texts(rows.a, sums.a)}", f"{body.array('b')}, {_texts(columns.b, sums.b)}"
    result = f"{adds}, {factor}, {body.array('c')}, {_texts(rows.c, columns.c)}"
    body.add(f"lanes_product({_texts(rows.size, columns.size, sums.size)}, {left}, {right}, {result})")
    body.call(writer, product, (), [text])


_UNFOLDED = 1 << 17
"""The most elements of a part of unfolded windows, which a cache of the second level holds."""

_TALL, _WIDE = 32, 256
"""The least sizes of the gradient of a kernel for which to copy its windows pays: filters, and weights of each."""


class _Unfolding(NamedTuple):
    """A product of which B is copied in parts that are matrices, as the windows of one sample are.

    Attributes:
        product: The product.
        rows: The axis of M.
        columns: Those of N, which are as one in C.
        outer: Those of K of which a part has one element.
        inner: The others, which are as one in A.
    """

    product: Product
    rows: Axis
    columns: Sequence[Axis]
    outer: Sequence[Axis]
    inner: Sequence[Axis]

    @classmethod
    def of(cls, product: Product) -> _Unfolding | None:
        """Return how to compute a product in parts, or None if it has another form."""
        for turned in (product, product.swap_factors()):
            rows, columns = turned.merge_axes("M"), sorted(turned.of("N"), key=lambda axis: -axis.c)
            inner = sorted(turned.of("K"), key=lambda axis: -abs(axis.a))
            outer = [inner.pop(0)]
            while inner and _elements(*columns, *inner) > _UNFOLDED:
                outer.append(inner.pop(0))
            matrices = len(rows) == 1 and bool(inner) and _are_one(inner, "a") and _are_one(columns, "c")
            large = matrices and _TALL <= rows[0].size < ROWS and _WIDE <= _elements(*columns) < ROWS
            if large and _elements(*inner) < ROWS and 1 in (rows[0].c, columns[-1].c):
                return cls(turned, rows[0], columns, outer, inner)
        return None


def _elements(*axes: Axis) -> int:
    return math.prod(axis.size for axis in axes)


def _are_one(axes: Sequence[Axis], array: str) -> bool:
    """Return whether axes, the one with the longest stride first, are as one in an array."""
    pairs = pairwise(axes)
    return all(getattr(outer, array) == getattr(inner, array) * inner.size for outer, inner in pairs)


def _write_unfolded(writer: NestWriter, unfolding: _Unfolding) -> None:
    product, rows, columns, outer, inner = unfolding
    body, height, depth, run = _Body(), _elements(*columns), _elements(*inner), inner[-1]
    for axis in [*product.of("B"), *outer]:
        body.loop(axis)
    first = " + ".join(f"l{len(product.of('B')) + number}" for number in range(len(outer)))
    source, target, looped = Index(), Index(), [*columns, *inner[: len(inner) - (run.b == 1)]]
    for number, axis in enumerate(looped):
        body.add(f"for w{number} in range({axis.size}):", number)
        source += Index.of(f"w{number}") * axis.b
        target = target * axis.size + Index.of(f"w{number}")
    if run.b == 1:
        body.add(f"copy(windows[{target * run.size}:], {body.array('b', source)}, {run.size})", len(looped))
    else:
        body.add(f"windows[{target}] = {body.element('b', source)}", len(looped))
    body.add(f"share = beta if {first} == 0 else real(1.0)")
    gradient, c = body.array("a"), body.array("c")
    if rows.c == 1:
        sizes, a = body.sizes(height, rows.size, depth), f"windows, {body.sizes(depth)}, 1"
        b, step = f"{gradient}, {body.sizes(run.a, rows.a)}", columns[-1].c
    else:
        sizes, a = body.sizes(rows.size, height, depth), f"{gradient}, {body.sizes(rows.a, run.a)}"
        b, step = f"windows, 1, {body.sizes(depth)}", rows.c
    body.add(f"gemm({sizes}, alpha, {a}, {b}, share, {c}, {body.sizes(step)})")
    body.call(writer, product, windows=Buffer("windows", (height * depth,), "f", (0,), "temp"))


def _write_tables(writer: NestWriter, product: Product, parts: _Parts) -> None:
    if parts.columns.size >= ROWS:  # tiles are written for columns of a known number: one at a time
        parts = replace(parts, columns=_NO_COLUMNS, loops=[*parts.loops, parts.columns])
    body, lanes, rows, width = _Body(), writer.lanes, parts.rows, parts.columns.size
    for axis in parts.loops:
        body.loop(axis)
    for column in range(0, width, 4 * lanes):
        left = min(width - column, 4 * lanes)
        vectors = -(-left // lanes)
        for height, start, stop in _row_blocks(rows.size, _TALLEST[vectors]):
            once = stop - start <= height and rows.size < ROWS
            row = Index(start) if once else Index.of("r")
            if not once:
                body.add(f"for r in range({_texts(start, stop)}, {height}):")
            shape = f"{lanes}, {height}, {vectors}, {int(left < vectors * lanes)}"
            arrays = [body.array("a", row * rows.a), body.array("b", column), body.array("c", row * rows.c + column)]
            rest = f"{size_text(parts.steps)}, alpha, beta, {left - lanes * (vectors - 1)}"
            body.add(f"ra, rc = {arrays[0]}, {arrays[2]}", not once)
            factors = f"ra, {_texts(rows.a)}, ta, {arrays[1]}, tb"
            body.add(f"table_tile({shape}, {factors}, rc, {_texts(rows.c)}, {rest})", not once)
    body.call(writer, product, _tables(parts.sums))


def _short_columns(parts: _Parts, lanes: int) -> tuple[Axis, int] | None:
    """Return the axis along which short columns fill the vectors of a tile, and how many; None if there is none."""
    if parts.columns.size > lanes or parts.rows.size >= ROWS:
        return None
    others = (axis for axis in parts.loops if axis.role == "N" and axis.size < ROWS)
    for axis in sorted(others, key=lambda axis: -axis.size):
        cells = {h: _row_blocks(parts.rows.size, _CELLS // h)[0][0] * h for h in (5, 4, 3, 2) if axis.size % h == 0}
        fitting = [hops for hops, cell in cells.items() if cell <= _CELLS + 1]
        if fitting:
            return axis, max(fitting, key=lambda hops: min(_CELLS, cells[hops]))
    return None


def _write_hops(writer: NestWriter, product: Product, parts: _Parts, along: Axis, hops: int) -> None:
    body, lanes, rows, width = _Body(), writer.lanes, parts.rows, parts.columns.size
    for axis in parts.loops:
        if axis is not along:
            body.loop(axis)
    body.loop(Axis("N", along.size // hops, along.a * hops, along.b * hops, along.c * hops))
    row = Index.of("r")
    for height, start, stop in _row_blocks(rows.size, _CELLS // hops):
        body.add(f"for r in range({_texts(start, stop)}, {height}):")
        body.add(f"ra, rc = {body.array('a', row * rows.a)}, {body.array('c', row * rows.c)}", 1)
        shape = f"{lanes}, {height}, {hops}, {int(width != lanes)}"
        arrays = f"ra, {_texts(rows.a)}, ta, {body.array('b')}, tb, rc, {_texts(rows.c)}"
        rest = f"{_texts(parts.steps)}, alpha, beta, {_texts(width, along.b, along.c)}"
        body.add(f"hop_tile({shape}, {arrays}, {rest})", 1)
    body.call(writer, product, _tables(parts.sums))


def _write_dots(writer: NestWriter, product: Product, run: Axis) -> None:
    sums = [axis for axis in product.of("K") if axis is not run]
    rows, columns, height, width = _choose_tile(product)
    body, lanes = _Body(), writer.lanes
    for axis in [*_largest_first(product.of("M")), *_largest_first(product.of("N")), *product.of("B")]:
        if axis is not rows and axis is not columns:
            body.loop(axis)
    body.loop(rows, height)
    body.loop(columns, width)
    while lanes > 4 and run.size <= lanes // 2:
        lanes //= 2
    left, right = f"{body.array('a')}, {_texts(rows.a)}, ta", f"{body.array('b')}, {_texts(columns.b)}, tb"
    result = f"{body.array('c')}, {_texts(rows.c, columns.c)}, {_texts(math.prod(axis.size for axis in sums))}"
    body.add(f"dot_tile({lanes}, {height}, {width}, {_texts(run.size)}, {left}, {right}, {result}, alpha, beta)")
    body.call(writer, product, _tables(sums))


def _largest_first(axes: Iterable[Axis]) -> list[Axis]:
    return sorted(axes, key=lambda axis: -axis.size)


def _choose_tile(product: Product) -> tuple[Axis, Axis, int, int]:
    """Return the axes of rows and columns, and the (height, width), of the tile that loads the fewest numbers."""
    tiles = (
        (rows, columns, height, width)
        for rows in _largest_first(product.of("M"))
        for columns in _largest_first(product.of("N"))
        for height in range(1, 9)
        for width in range(1, 9)
        if _divides(height, rows.size)
        and _divides(width, columns.size)
        and height * width <= _CELLS
        and height * width + height + width <= 30  # all of them stay in registers
    )
    return max(tiles, key=lambda tile: _products_per_load(*tile[2:]))


def _divides(count: int, size: int) -> bool:
    """Return whether a size is a multiple of a count for every number of rows."""
    return all(factor % count == 0 for factor in coefficients(size))


def _products_per_load(height: int, width: int) -> float:
    """Estimate the products per load of a tile; fewer than 8 sums wait for one another, which costs time."""
    cells = height * width
    return cells / (height + width + 0.5) * min(1.0, cells / 8)


def _pack_columns(writer: NestWriter, product: Product) -> Product:
    """Return the product with a copy of B in which the columns are neighbours."""
    axes = [*product.axes]
    inner = [position for position, axis in enumerate(axes) if axis.role != "M"]
    inner.sort(key=lambda position: (axes[position].role == "K", axes[position].c, abs(axes[position].b)), reverse=True)
    shape = tuple(axes[position].size for position in inner)
    source = replace(product.b, shape=shape, strides=tuple(axes[position].b for position in inner))
    target = Buffer("packed", shape, "f", tuple(range(len(shape))), "temp").view()
    writer.copy(target, source)
    for position, stride in zip(inner, target.strides, strict=True):
        axes[position] = axes[position]._replace(b=stride)
    return replace(product, b=target, axes=tuple(axes))


def _tables(sums: Sequence[Axis]) -> tuple[Axes, Axes]:
    """Return what the tables of the offsets of A and of B are made of."""
    return tuple((axis.size, axis.a) for axis in sums), tuple((axis.size, axis.b) for axis in sums)


def _row_blocks(rows: int, most: int) -> list[tuple[int, int, int]]:
    """Cut rows into blocks of nearly equal height: (height, start, stop)."""
    if rows >= ROWS:
        return [(1, 0, rows)]
    height = -(-rows // -(-rows // most))
    whole = rows // height * height
    return [(height, 0, whole), *([(rows - whole, whole, rows)] if whole < rows else [])]
