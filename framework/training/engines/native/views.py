"""Sizes that depend on the number of rows, buffers, and strided views of them.

One kernel serves batches of any size, so a size, a stride or an offset is a polynomial in the number of rows n. It is
stored as one int, written in base ``ROWS``: 3 + 2 n is ``3 + 2 * ROWS``. Such sizes add, multiply, divide without
remainder and compare like plain ints, and a size with rows is larger than any size without. A graph has a prime for the
number of rows instead; see ``framework.graph.node``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

ROWS = 1 << 40
"""The number of rows, as a size. Coefficients of sizes are far below its half."""

Sizes = tuple[int, ...]


def to_size(size: int, stand_in: int) -> int:
    """Return a size of a graph, where a prime stands for the number of rows, in base ``ROWS``.

    Example:
        >>> to_size(3 * 10007, 10007) == 3 * ROWS
        True
    """
    power = 1
    while size and size % stand_in == 0:
        size, power = size // stand_in, power * ROWS
    return size * power


def coefficients(size: int) -> list[int]:
    """Return the coefficients of a size, that of the constant first.

    Example:
        >>> coefficients(2 * ROWS - 3)
        [-3, 2]
    """
    digits = []
    while size:
        digits.append((size + ROWS // 2) % ROWS - ROWS // 2)
        size = (size - digits[-1]) // ROWS
    return digits


def at_rows(size: int, rows: int) -> int:
    """Return a size for a number of rows."""
    return sum(factor * rows**power for power, factor in enumerate(coefficients(size)))


def size_text(size: int) -> str:
    """Return the text of a size in a kernel, where ``n`` is the number of rows.

    Example:
        >>> size_text(2 * ROWS - 3)
        '(2 * n - 3)'
    """
    constant, *factors = coefficients(size) or [0]
    powers = [(factor, power) for power, factor in enumerate(factors, 1) if factor]
    terms = [" * ".join([str(factor)] * (factor != 1) + ["n"] * power) for factor, power in reversed(powers)]
    if not terms:
        return str(constant)
    if constant:
        terms[-1] += f" {'-' if constant < 0 else '+'} {abs(constant)}"
    text = " + ".join(terms)
    return f"({text})" if len(terms) > 1 or constant else text


def axis_groups(source: Sequence[int], target: Sequence[int]) -> list[tuple[Sizes, Sizes]]:
    """Return which axes a reshape turns into which, in the smallest groups of axes with as many elements.

    Example:
        >>> axis_groups((4, 6, 5), (2, 2, 30))
        [((0,), (0, 1)), ((1, 2), (2,))]
    """
    if 0 in source:
        return [(tuple(range(len(source))), tuple(range(len(target))))]
    if math.prod(source) != math.prod(target):
        raise ValueError(f"no reshape from {tuple(source)} to {tuple(target)}")
    source, target, groups = tuple(source), tuple(target), []
    i = j = 0
    while i < len(source) or j < len(target):
        first, second = i, j
        i, j = min(i + 1, len(source)), min(j + 1, len(target))
        while (mine := math.prod(source[first:i])) != (other := math.prod(target[second:j])):
            i, j = (i + 1, j) if mine < other else (i, j + 1)
        i += _count_single_ones(source[i:], target[j:])
        j += _count_single_ones(target[j:], source[i:])
        groups.append((tuple(range(first, i)), tuple(range(second, j))))
    return groups


def _count_single_ones(sizes: Sizes, others: Sizes) -> int:
    """Count the leading axes of 1 that have no axis of 1 on the other side."""
    return 0 if others[:1] == (1,) else len(list(itertools.takewhile(lambda size: size == 1, sizes)))


class NeedsCopy(Exception):  # noqa: N818 (not an error: the array is copied)
    """A reshape of strided elements cannot be a strided view."""


@dataclass(eq=False)
class Buffer:
    """An array in memory.

    Attributes:
        name: What it holds.
        shape: Its sizes.
        kind: "f", "i" or "b"; booleans are stored as the real numbers 0 and 1.
        order: Its axes in memory, the one with the largest stride first.
        role: "temp" for memory that other buffers use before and after it; "filled" for memory of its own that holds
            ``value`` wherever no part is written; "const" for a constant; else that of an array from outside.
        value: The numbers of a constant, or the one that the buffer is filled with once.
    """

    name: str
    shape: Sizes
    kind: str
    order: Sizes
    role: str
    value: Any = 0.0

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def view(self) -> View:
        """Return the whole as a view."""
        strides, step = [0] * len(self.shape), 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= self.shape[axis]
        return View(self, 0, self.shape, tuple(strides))


@dataclass(frozen=True, eq=False)
class View:
    """Elements of a buffer: that at an index is at the offset plus the sum of the strides times the index.

    Methods are those of NumPy, of which none computes anything.

    Attributes:
        buffer: The buffer.
        offset: Where the first element is.
        shape: The sizes.
        strides: The stride of each axis, in elements.
        loop_strides: Variables of the loops around, each with its stride: the view is one step of a sequence.
    """

    buffer: Buffer
    offset: int
    shape: Sizes
    strides: Sizes
    loop_strides: tuple[tuple[str, int], ...] = ()

    def transpose(self, axes: Sequence[int]) -> View:
        """Return the axes in another order."""
        return self._with(self.offset, (self.shape[axis] for axis in axes), (self.strides[axis] for axis in axes))

    def broadcast_to(self, shape: Sizes) -> View:
        """Return the view with a stride of 0 along axes that are broadcast."""
        lead = len(shape) - len(self.shape)
        sizes = zip(self.strides, self.shape, shape[lead:], strict=True)
        return self._with(self.offset, shape, (*[0] * lead, *(step if a == b else 0 for step, a, b in sizes)))

    def index(self, index: Iterable[Any]) -> View:
        """Return a part; an index has an entry for each axis: None, "reversed", an int or a slice's triple."""
        offset, shape, strides = self.offset, [], []
        for entry, size, step in zip(index, self.shape, self.strides, strict=True):
            if isinstance(entry, int):
                offset += entry * step
                continue
            start, count, along = (0, size, 1) if entry is None else (size - 1, size, -1)
            if isinstance(entry, tuple):
                start, count, along = entry[0], len(range(*entry)), entry[2]
            offset += start * step
            shape.append(count)
            strides.append(along * step)
        return self._with(offset, shape, strides)

    def windows(self, axes: Sequence[int], window: Sequence[int], steps: Sequence[int]) -> View:
        """Return the windows along some axes, with an axis for the elements of each at the end."""
        shape, strides = list(self.shape), list(self.strides)
        for axis, width, step in zip(axes, window, steps, strict=True):
            shape[axis] = (shape[axis] - width) // step + 1
            shape.append(width)
            strides.append(strides[axis])
            strides[axis] *= step
        return self._with(self.offset, shape, strides)

    def unpad(self, width: Sequence[tuple[int, int]]) -> View:
        """Return the inner part of an array that is padded by these widths."""
        offset = self.offset + sum(before * step for (before, _), step in zip(width, self.strides, strict=True))
        inner = (size - before - after for size, (before, after) in zip(self.shape, width, strict=True))
        return self._with(offset, inner, self.strides)

    def reshape(self, shape: Sizes) -> View:
        """Return the view in another shape.

        Raises:
            NeedsCopy: Axes that become one are not one in memory.
        """
        strides = [0] * len(shape)
        for mine, others in axis_groups(self.shape, shape):
            step = self._stride_of_merge(mine)
            for axis in reversed(others):
                if shape[axis] != 1:
                    strides[axis] = step
                    step *= shape[axis]
        return self._with(self.offset, shape, strides)

    def _stride_of_merge(self, axes: Sizes) -> int:
        """Return the stride of several axes as one."""
        long = [axis for axis in axes if self.shape[axis] != 1]
        if 0 in self.shape or not long:
            return 0
        if any(self.strides[a] != self.strides[b] * self.shape[b] for a, b in itertools.pairwise(long)):
            raise NeedsCopy
        return self.strides[long[-1]]

    def _with(self, offset: int, shape: Iterable[int], strides: Iterable[int]) -> View:
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))
