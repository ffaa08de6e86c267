"""Memory: the working arrays of an emitted function, laid out once for each number of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
OpenSize = tuple[int, int]
"""(factor, power): a size of factor * rows ** power."""

_ALIGNMENT = 64
_KEPT = 2
"""The numbers of rows whose arrays are kept: that of the batches, and that of the last batch."""


def open_size(size: int, rows: int) -> OpenSize:
    """Return a size as a factor and a power of the number of rows, whose stand-in is ``rows``."""
    power = 0
    while size and size % rows == 0:
        size, power = size // rows, power + 1
    return size, power


class Layout:
    """The layout of a function's working arrays: each has a slot, which arrays with other lifetimes share.

    Attributes:
        arrays: The slot, the dtype and the open shape of each array.
    """

    def __init__(self, dtype: str, rows: int) -> None:
        """Start empty, for floats of this dtype and this stand-in for the number of rows."""
        self._dtypes = {"f": np.dtype(dtype), "i": np.dtype(np.int64), "b": np.dtype(bool)}
        self._rows = rows
        self._demands: list[set[OpenSize]] = []
        self._free: list[int] = []
        self._ones: list[int] = []
        self.arrays: list[tuple[int, np.dtype[Any], tuple[OpenSize, ...]]] = []

    def take(self, shape: tuple[int, ...], kind: str) -> int:
        """Add an array, and return its slot: the free one that fits best, or a new one."""
        dtype = self._dtypes[kind]
        factor, power = open_size(math.prod(shape) * dtype.itemsize, self._rows)
        fits = [slot for slot in reversed(self._free) if max(self._demands[slot])[1] == power]
        larger = [slot for slot in fits if self._largest(slot) >= factor]
        if larger:
            slot = min(larger, key=self._largest)
        elif fits:
            slot = max(fits, key=self._largest)
        else:
            slot = len(self._demands)
            self._demands.append(set())
            self._free.append(slot)
        self._free.remove(slot)
        self._demands[slot].add((factor, power))
        self.share(slot, shape, kind)
        return slot

    def share(self, slot: int, shape: tuple[int, ...], kind: str) -> None:
        """Put an array into a slot whose present array is no longer used."""
        self.arrays.append((slot, self._dtypes[kind], tuple(open_size(size, self._rows) for size in shape)))

    def ones(self, size: int) -> None:
        """Add an array of ones in a slot of its own, which no function writes into."""
        self._ones.append(len(self.arrays))
        self._free, free = [], self._free
        self.take((size,), "f")
        self._free = free

    def give_back(self, slot: int) -> None:
        """Let other arrays use a slot."""
        self._free.append(slot)

    def _largest(self, slot: int) -> int:
        return max(factor for factor, _ in self._demands[slot])

    def made(self, rows: int) -> list[Array]:
        """Return the arrays for a number of rows, in one block of memory."""
        starts, end = [], 0
        for demand in self._demands:
            starts.append(end)
            size = max(factor * rows**power for factor, power in demand)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        block = np.empty(end + _ALIGNMENT, np.uint8)
        first = -block.ctypes.data % _ALIGNMENT
        arrays = [
            np.ndarray(tuple(factor * rows**power for factor, power in shape), dtype, block, first + starts[slot])
            for slot, dtype, shape in self.arrays
        ]
        for place in self._ones:
            arrays[place].fill(1)
        return arrays


class Memory(dict[int, list[Array]]):
    """The working arrays of one function for one model by the number of rows; never shared between models or threads.

    It holds the results of a call until the next call with the same memory.

    Attributes:
        key: The key of the random numbers of layers that Python runs, or None.
        records: Their records, by the number of the call.

    Example:
        >>> layout = Layout("float64", rows=10007)
        >>> layout.take((10007, 2), "f")
        0
        >>> [array.shape for array in Memory(layout)[3]]
        [(3, 2)]
    """

    __slots__ = ("_layout", "key", "records")

    def __init__(self, layout: Layout) -> None:
        """Start without arrays."""
        super().__init__()
        self._layout = layout
        self.key: tuple[int, ...] | None = None
        self.records: dict[int, Any] = {}

    def __missing__(self, rows: int) -> list[Array]:
        """Make the arrays for a number of rows."""
        if len(self) == _KEPT:
            del self[next(iter(self))]
        found = self[rows] = self._layout.made(rows)
        return found
