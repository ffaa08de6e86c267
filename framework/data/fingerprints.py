"""Fingerprints: checksums that tell data from other data."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.trees import Tree, flatten

_COLUMNS = 1021
"""Words in a row of the grid: a prime, so that no period of the data fits it, and odd, so that signs count."""

_ROWS = 64
"""Rows that are summed at once: half a megabyte, which stays in cache while it is read twice."""


def fingerprint(array: Array) -> str:
    """Return the dtype and shape of an array and a digest of its contents.

    The bytes are laid out as a grid of 8-byte words. The digest is SHA-256 over the sum of every row and of every
    column of the grid, modulo 2^64, and over the words that fill no row. So it is as fast as memory, and sees every
    change of up to three words, an exchange of two values among them; more changes escape only where they cancel out
    along every row and every column. It does not protect against deliberate forgery.

    Example:
        >>> fingerprint(np.zeros((2, 3)))
        'float64 (2, 3) 4c564769e8be'
        >>> fingerprint(np.arange(3.0)) == fingerprint(np.array([0.0, 2.0, 1.0]))
        False

    Source:
        Elias, Error-free coding (1954): the product of two parity codes has the minimum distance 4.
    """
    return sum_and_fingerprint(array)[0]


@np.errstate(all="ignore")
def sum_and_fingerprint(array: Array) -> tuple[str, float]:
    """Return the fingerprint, and from the same pass a number that is finite only if all floats are, such as their sum.

    Where llvmlite is loaded, native code makes the pass.
    """
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.uint8)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    total = 0.0
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(raw) - len(raw) % (8 * _COLUMNS)
    if whole:
        grid = raw[:whole].view(np.uint64).reshape(-1, _COLUMNS)
        row_sums, column_sums, total = _sum_grid_natively(grid, kind) or _sum_grid(grid, kind)
        digest.update(row_sums.data)
        digest.update(column_sums.data)
    digest.update(raw[whole:].data)
    total += _sum_floats(raw[whole:].view(kind))
    return f"{array.dtype.name} {array.shape} {digest.hexdigest()[:12]}", total


def _sum_grid_natively(grid: Array, kind: np.dtype[Any]) -> tuple[Array, Array, float] | None:
    """Return the sums of ``_sum_grid`` from native code; None without llvmlite, as loading it would take longer."""
    if "llvmlite.binding" not in sys.modules:
        return None
    from framework.backends.native.scan import EXPONENTS, grid_sums  # noqa: PLC0415 (slow, and seldom needed)

    return grid_sums(grid, kind) if kind in EXPONENTS else None


def _sum_grid(grid: Array, kind: np.dtype[Any]) -> tuple[Array, Array, float]:
    """Return the sums of the rows and of the columns of a grid of words, and the sum of its floats."""
    row_sums, column_sums, total = np.empty(len(grid), np.uint64), np.zeros(grid.shape[1], np.uint64), 0.0
    for start in range(0, len(grid), _ROWS):
        rows = grid[start : start + _ROWS]
        total += _sum_floats(rows.reshape(-1).view(kind))
        row_sums[start : start + _ROWS] = np.add.reduce(rows, axis=1)
        column_sums += np.add.reduce(rows, axis=0)
    return row_sums, column_sums, total


def _sum_floats(numbers: Array) -> float:
    return float(np.add.reduce(numbers)) if numbers.dtype.kind == "f" else 0.0


def fingerprints(x: Tree, y: Tree, weight: Array | None, known: Sequence[str] = ()) -> str:
    """Return the fingerprint of each part of some data, and of each leaf by name; ``known`` are the first ones.

    Example:
        >>> fingerprints(np.zeros((2, 3)), np.zeros(2), None)  # doctest: +ELLIPSIS
        'x float64 (2, 3) 4c564769e8be, y float64 (2,) ...'
    """
    parts = [*flatten(x, "x").items(), *flatten(y, "y").items()] + ([] if weight is None else [("weight", weight)])
    digests = [*known, *(fingerprint(array) for _, array in parts[len(known) :])]
    texts = (f"{name} {text}" for (name, _), text in zip(parts, digests, strict=True))
    return ", ".join(sorted(texts, key=lambda text: (text.startswith("weight"), text)))  # whatever a dict's order
