"""Products of many small matrices at once: the matrices of several models lie in the lanes of vectors.

Each number of a matrix is a vector with that number of every model, so that no product is too small for vectors.
"""

from __future__ import annotations

from framework.backends.native.tiles import Block, Registers

_HEAD = """
def {name}(m: int, n: int, k: int, a: reals, row_a: int, step_a: int, b: reals, row_b: int, step_b: int,
           adds: int, factor: reals, c: reals, row_c: int, column_c: int):
""".strip()


def lanes_text(name: str, lanes: int, registers: Registers) -> str:
    """Return a function in the kernel language: C[p, q] <- sum over k of A[p, k] B[q, k], in each lane.

    Its arguments are ``m, n, k, a, row_a, step_a, b, row_b, step_b, adds, factor, c, row_c, column_c``: the sizes, each
    array with its distances in numbers, and whether the sum times ``factor`` is added to C.

    Args:
        name: The function's name.
        lanes: The numbers in a vector, which are the models.
        registers: Those of the processor.
    """
    shapes = _SHAPES[registers.number >= _MANY]
    lines = [_HEAD.format(name=name), "    from_q = 0"]
    for columns, rows in shapes:
        lines += [f"    to_q = n - (n - from_q) % {columns}", f"    for q in range(from_q, to_q, {columns}):"]
        lines += ["        bs, cs, from_p = b[q * row_b:], c[q * column_c:], 0"]
        for some in dict.fromkeys((rows, 2, 1)):
            arguments = f"{lanes}, {some}, {columns}, a[p * row_a:], row_a, step_a, bs, row_b, step_b, k"
            lines += [
                f"        to_p = m - (m - from_p) % {some}",
                f"        for p in range(from_p, to_p, {some}):",
                f"            lanes_tile({arguments}, adds, factor, cs[p * row_c:], row_c, column_c)",
                "        from_p = to_p",
            ]
        lines += ["    from_q = to_q"]
    return "\n".join(lines)


_MANY = 32
_SHAPES = {True: ((4, 5), (2, 8), (1, 8)), False: ((3, 3), (2, 4), (1, 6))}
"""Columns and rows of tiles, for many vector registers and for few: what their sums and B need stays in registers."""


class LanesTile(Block):
    """Writes the function C[p, q] <- sum over k of A[p, k] B[q, k] for a few p and q, in registers.

    Args:
        name: The function's name.
        real: "double" or "float".
        lanes: The numbers in a vector.
        rows: How many p.
        columns: How many q.
    """

    arguments = (
        "ptr noalias %a, i64 %row_a, i64 %step_a, ptr noalias %b, i64 %row_b, i64 %step_b, i64 %k, i64 %adds, "
        "ptr noalias %factor, ptr noalias %c, i64 %row_c, i64 %column_c"
    )

    def _places(self) -> None:
        for p in self.rows:
            self._add(f"%by_a.{p} = mul i64 %row_a, {p}")
            self._place(f"%a.{p}", "%a", f"%by_a.{p}")
        for q in self.columns:
            self._add(f"%by_b.{q} = mul i64 %row_b, {q}")
            self._place(f"%b.{q}", "%b", f"%by_b.{q}")

    def _factors(self) -> None:
        """Load a vector of A for each p, and one of B for each q."""
        for q in self.columns:
            self._place(f"%b.{q}.now", f"%b.{q}", "%at_b")
            self._load(f"%y.{q}", f"%b.{q}.now")
        for p in self.rows:
            self._place(f"%a.{p}.now", f"%a.{p}", "%at_a")
            self._load(f"%x.{p}", f"%a.{p}.now")

    def _ends(self) -> None:
        """Store the cells, or add them."""
        self._add("switch i64 %adds, label %put [i64 1, label %add]")
        for block in ("put", "add"):
            self.lines.append(f"{block}:")
            if block == "add":
                self._load("%factors", "%factor")
            for p in self.rows:
                self._add(f"%{block}.by.{p} = mul i64 %row_c, {p}")
                self._place(f"%{block}.c.{p}.0", "%c", f"%{block}.by.{p}")
                for q in self.columns:
                    self._result(block, p, q)
            self._add("ret void")

    def _result(self, block: str, p: int, q: int) -> None:
        """Store a sum, next to that of the column before."""
        address, name, total = f"%{block}.c.{p}.{q}", f"%{block}.{p}.{q}", f"%sum.{p}.{q}"
        if q:
            self._place(address, f"%{block}.c.{p}.{q - 1}", "%column_c")
        if block == "add":
            self._load(f"{name}.old", address)
            self._add(f"{name}.part = fmul {self.vector} %factors, {total}")
            self._add(f"{name}.new = fadd {self.vector} {name}.old, {name}.part")
        self._store(total if block == "put" else f"{name}.new", address)
