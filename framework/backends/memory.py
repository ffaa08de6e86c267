"""Memory: the working arrays of an emitted function, laid out once for each number of rows.

Lives: where each value of a function is stored, and when its array is used for the last time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from framework.backends.runtime import windows
from framework.graph.lower import is_columns
from framework.graph.node import Node, nodes_in
from framework.graph.operations import OPERATIONS

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

    def allocate(self, rows: int) -> list[Array]:
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
        for index in self._ones:
            arrays[index].fill(1)
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
        arrays = self[rows] = self._layout.allocate(rows)
        return arrays


Shape = tuple[int, ...]
Home = Any
"""The node whose array holds a value; (loop, place) for a result of a loop."""
_LOOSE = frozenset({"gather", "scatter_add", "python", "call", "call_back", "loop", "astype", "constant"})
"""Operations whose results may have any strides."""
_FEW = 7
"""The number of rows of the small arrays on which NumPy shows what is a view, and how it lies in memory."""
_TALL = 64
"""A transposed matrix is worth a copy where it is multiplied by a matrix of at least this many rows."""


class Lives:
    """Where each value is stored, and when its array is used for the last time."""

    def __init__(self) -> None:
        self.home: dict[Node, Home] = {}
        self.last: dict[Home, float] = {}
        self.read: dict[Node, float] = {}  # when a value itself is read for the last time
        self.layouts: dict[Node, Array | None] = {}
        self.orders: dict[Node, list[Node]] = {}
        self.time: dict[Node, int] = {}
        self.copies: set[Node] = set()  # reshapes that NumPy copies, and transposed matrices that are worth a copy
        self.clock = 0

    def follow(self, order: Iterable[Node]) -> None:
        """Visit nodes in the order of computation, and a loop after its body."""
        order = list(order)
        here = set(order)
        for node in order:
            self.copies |= _factors_to_copy(node) if node.op == "loop" else _row_factors_to_copy(node) & here
        for node in order:
            if node.op == "loop":
                self._follow_body(node)
            if node.op in ("call", "call_back", "python"):  # Python may keep what it is given, or return it
                self.last |= {self.home.setdefault(arg, arg): math.inf for arg in nodes_in(node.args)}
            self.home[node], self.time[node] = self._home(node), self.clock
            for used in (node, *nodes_in(node.args)):
                home = self.home.setdefault(used, used)
                self.read[used], self.last[home] = self.clock, max(self.clock, self.last.get(home, 0))
            self.clock += 1

    def _follow_body(self, loop: Node) -> None:
        body = loop.attributes["body"]
        for node in (*body.states, *body.entries):
            self.home[node] = node
            self.layouts[node] = None
        self.orders[loop] = body.order()
        self.follow(self.orders[loop])
        for output in nodes_in(body.outputs):
            self.last[self.home.setdefault(output, output)] = self.clock
        for index in range(len(body.outputs)):
            self.last[loop, index] = self.clock

    def _home(self, node: Node) -> Home:
        if node.op == "part":
            loop, index = node.args[0], node.attributes["index"]
            return (loop, stack_of_result(loop, index)) if loop.op == "loop" else loop
        if is_columns(node):
            self.copies.add(node)
        self.layouts[node] = self._layout(node)
        first = node.args[0] if node.args else None
        if not OPERATIONS[node.op].view or not isinstance(first, Node) or node in self.copies:
            return node
        return self.home.setdefault(first, first)

    def _layout(self, node: Node) -> Array | None:
        """Return a small array that is laid out as a value is, or None where that is not known."""
        if node in self.copies or not OPERATIONS[node.op].view:
            return None if node.op in _LOOSE else small(node)
        first, attributes = node.args[0], node.attributes
        base = self.layouts.get(first) if isinstance(first, Node) else np.zeros((), np.int8)
        if base is None:
            return None
        if node.op == "transpose":
            return base.transpose(attributes["axes"])
        if node.op == "index":
            return base[(*map(_entry, attributes["index"]), ...)]
        if node.op == "windows":
            return windows(base, **attributes)
        if node.op == "broadcast_to":
            return np.broadcast_to(base, small(node).shape)
        made = base.reshape(small(node).shape)
        if made.size and not np.may_share_memory(made, base):
            self.copies.add(node)
        return made

    def contiguous(self, node: Node) -> bool:
        """Return whether a value is known to be C contiguous."""
        layout = self.layouts.get(node)
        return layout is not None and layout.flags.c_contiguous


def small(node: Node) -> Array:
    """Return an array of the shape of a value for a few rows."""
    sizes = (open_size(size, node.graph.rows) for size in node.shape)
    return np.empty([factor * _FEW**power for factor, power in sizes], np.int8)


def _entry(entry: Any) -> Any:
    """Return an index into one axis as NumPy takes it."""
    if isinstance(entry, tuple):
        start, stop, step = entry
        return slice(start, None if stop < 0 else stop, step)
    return {None: slice(None), "reversed": slice(None, None, -1)}.get(entry, entry)


def _factors_to_copy(loop: Node) -> set[Node]:
    """Return the transposed matrices that every step multiplies by: BLAS is half as fast with them as with a copy."""
    body = loop.attributes["body"]
    factors = {node.args[1] for node in body.order() if node.op == "matmul"} & {*body.captured}
    return {factor for factor in factors if factor.op == "transpose"}


def _row_factors_to_copy(node: Node) -> set[Node]:
    """Return the transposed matrices of a product for each row, where a copy pays for the same reason."""
    pays = node.op == "matmul" and node.ndim > 2 and node.shape[-2] >= _TALL and node.args[1].op == "transpose"
    return {node.args[1]} if pays else set()


def stack_of_result(loop: Node, index: int) -> int:
    """Return the place of the loop's result that holds another one: a state that is also stacked is in the stack."""
    body = loop.attributes["body"]
    count = len(body.states)
    stacks = range(count, count + body.stacked) if index < count else ()
    return next((stack for stack in stacks if body.outputs[stack] is body.outputs[index]), index)
