"""One pass over the numbers of an array: sums that identify it, and whether all are finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.backends.native.kernels import compile_kernel
from framework.base.arrays import Array

_SCAN = """
def scan(words: ints, rows: int, width: int, mask: int, carry: int, columns: ints, sums: ints) -> int:
    seen = 0
    for r in range(rows):
        row, total = words[r * width:], 0
        for j in range(width):
            total += row[j]
            columns[j] += row[j]
            seen |= (row[j] & mask) + carry
        sums[r] = total
    return seen
"""
"""An exponent of ones alone, that of infinity and NaN, carries into the bit of the sign when its last bit is added."""

EXPONENTS = {
    np.dtype(np.float64): (0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000, -(1 << 63)),
    np.dtype(np.float32): (0x7F80_0000_7F80_0000, 0x0080_0000_0080_0000, -(1 << 63) | 1 << 31),
    np.dtype(np.uint8): (0, 0, 0),
}
"""For the numbers in a word: the bits of their exponents, the last of those, and the bits of their signs."""


def grid_sums(grid: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, float]:
    """Return the sums of the rows and of the columns of a grid of words, and 0 if its floats are finite, else NaN.

    Args:
        grid: Integers of 64 bits; their sums are modulo 2^64.
        dtype: That of the numbers in the words: float64, float32 or, for anything else, uint8.

    Example:
        >>> grid_sums(np.array([[1.0, np.inf]]).view(np.uint64), np.dtype("float64"))[2]
        nan
    """
    rows, width = grid.shape
    mask, carry, signs = EXPONENTS[dtype]
    sums, columns = np.empty(rows, np.uint64), np.zeros(width, np.uint64)
    seen = compile_kernel(_SCAN, "scan", "float64")(grid, rows, width, mask, carry, columns, sums)
    return sums, columns, np.nan if seen & signs else 0.0
