"""Pieces: rows of an epoch in memory, in the order of training, cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from framework.arrays import Array, Batch
from framework.random_streams import random_generator
from framework.trees import leaves, map_leaves, rows_in, take

UNREAD = (0, "")
"""No windows of a stream, and the digest of no rows."""


class Position(NamedTuple):
    """Where a training is in its data.

    Attributes:
        size: Rows in a batch.
        start: The first row of the next batch, in the order of the epoch.
        order: The (seed, epoch) by which rows are shuffled; None is the data's own order.
        epoch: The number of the epoch.
    """

    size: int
    start: int = 0
    order: tuple[int, int] | None = None
    epoch: int = 0


class Piece:
    """Rows of an epoch in the order of training, cut into batches one after another.

    Attributes:
        arrays: (x, y, weight).
        size: Rows in a batch; the last one may have fewer.
        place: How many rows are done.
        count: How many rows there are.
        read: Of a stream, how many windows of the epoch are read up to the last row, and a digest of their rows.
        reread: Reads the whole batch that begins at a row, if only a part of its rows is in memory; else None.
        weights: The weights of all rows in the order of training, where ``arrays`` has only some of them; else None.
    """

    read: tuple[int, str] = UNREAD
    reread: Callable[[int], Batch] | None = None
    weights: Array | None = None

    def __init__(
        self,
        arrays: Batch,
        size: int,
        place: int = 0,
        order: Array | None = None,
        memory: list[Batch] | None = None,
    ) -> None:
        """Start at the row ``place`` of ``order``; None is the arrays' own. Shuffled batches share ``memory``."""
        self.arrays, self.size, self.place, self._order = arrays, size, place, order
        self.count = rows_in(arrays[1]) if order is None else len(order)
        self._memory: list[Batch] = [] if memory is None else memory

    @property
    def done(self) -> bool:
        """Whether no rows are left."""
        return self.place >= self.count

    @property
    def next_rows(self) -> int:
        """How many rows the next batch has."""
        return min(self.size, self.count - self.place)

    @cached_property
    def rows(self) -> Array:
        """Which rows of the arrays make up the batches, in order."""
        return np.arange(self.count) if self._order is None else self._order

    def starting_at(self, place: int) -> Piece:
        """Return the same rows from another place on, with memory of its own for shuffled batches."""
        piece = Piece(self.arrays, self.size, place, self._order)
        piece.rows = self.rows  # made once
        return piece

    def part(self, start: int, stop: int) -> Batch:
        """Return some rows of the order of training: views in the data's own order, else copies.

        Where rows are to be read again, it is the batch that begins at ``start``.
        """
        if self.reread is not None:
            return self.reread(start)
        rows = slice(start, stop)
        return rows_of_batch(self.arrays, rows if self._order is None else self._order[rows])

    def take(self, own: slice | None = None) -> Batch:
        """Return the next batch: views in the data's own order, gathered into reused memory when shuffled.

        Args:
            own: The rows of it that will be used; the other rows of x and y are undefined. None is all of them.
        """
        part = slice(self.place, self.place + self.size)
        self.place += self.size
        if self._order is None:
            return rows_of_batch(self.arrays, part)
        rows = self._order[part]
        batch, gathers = self._gathering
        if (count := len(rows)) < self.size:
            batch = rows_of_batch(batch, slice(count))
        if own is None:
            own = slice(count)
        for array, memory in gathers:  # "clip" because the default mode copies out first
            array.take(rows[own], axis=0, out=memory[own], mode="clip")
        x, y, weight = batch
        if self.weights is not None:
            weight = self.weights[part]
        elif weight is not None and self.arrays[2] is not None:
            self.arrays[2].take(rows, axis=0, out=weight, mode="clip")
        return x, y, weight

    def take_again(self) -> Batch:
        """Return all rows of the batch that was taken last.

        It is in the same memory, so that a change of it is trained on, unless rows have to be read again.
        """
        if self.reread is not None:
            return self.reread(self.place - self.size)
        self.place -= self.size
        return self.take()

    @cached_property
    def _gathering(self) -> tuple[Batch, list[tuple[Array, Array]]]:
        """Memory for a shuffled batch, and each array of x and y with its own."""
        if not self._memory or rows_in(self._memory[0][1]) < self.size:
            self._memory[:] = [empty_like(self.arrays, self.size)]
        memory = self._memory[0]
        x, y = (
            zip(leaves(array), leaves(space), strict=True)
            for array, space in zip(self.arrays, memory[:2], strict=False)
        )
        return memory, [*x, *y]


Window: TypeAlias = "tuple[int, Callable[[Batch | None], tuple[Batch, Array | None]]]"
"""Rows that are in memory together: how many, and a function that reads them.

The function is given the rows that are left from the window before. It returns memory with those first, and the places
of its own rows in the order of training, counted after them; None is their own order.
"""


def cut(windows: Iterable[Window], size: int, skip: int) -> Generator[Piece]:
    """Cut windows into pieces of whole batches, from the row ``skip`` on; a batch may span two windows.

    A window whose rows are all skipped is not read.
    """
    memory: list[Batch] = []
    rest: Batch | None = None
    for rows, read in windows:
        if skip >= rows:
            skip -= rows
            continue
        held = 0 if rest is None else rows_in(rest[1])
        batch, order = read(rest)
        places = np.arange(held + rows)
        if order is not None:
            places[held:] = held + order
        places, skip = places[skip:], 0  # there is no rest where rows are skipped
        whole = len(places) - len(places) % size
        if whole and order is None:
            yield Piece(rows_of_batch(batch, slice(places[0], places[0] + whole)), size)
        elif whole:
            yield Piece(batch, size, 0, places[:whole], memory)
        rest = rows_of_batch(batch, places[whole:])
        del batch  # so that it is not held while the next window is read
    if rest is not None and rows_in(rest[1]):
        yield Piece(rest, size)


def filled(parts: Iterable[Batch], rows: int) -> Batch:
    """Return batches one after another in new memory of ``rows`` rows."""
    made: Batch | None = None
    place = 0
    for part in parts:
        if made is None:
            made = empty_like(part, rows)
        stop = place + rows_in(part[1])
        map_batch(lambda whole, given, own=slice(place, stop): np.copyto(whole[own], given), made, part)
        place = stop
    assert made is not None
    return made


def empty_like(batch: Batch, rows: int) -> Batch:
    """Return new memory for ``rows`` rows of the form of a batch."""
    return map_batch(lambda array: np.empty((rows, *array.shape[1:]), array.dtype), batch)


def map_batch(function: Callable[..., Any], *batches: Batch) -> Batch:
    """Return ``function`` of each array of batches of one form; without weights there are none."""
    x, y, weights = zip(*batches, strict=True)
    return map_leaves(function, *x), map_leaves(function, *y), None if weights[0] is None else function(*weights)


def rows_of_batch(batch: Batch, rows: Any) -> Batch:
    """Return some rows of a batch, by a slice or by their numbers."""
    x, y, weight = batch
    return take(x, rows), take(y, rows), None if weight is None else weight[rows]


def read_only(array: Array) -> Array:
    """Return a view that no callback or layer can write through, because the array may be the caller's own."""
    view = array.view()
    view.setflags(write=False)
    return view


def joined(parts: list[Batch]) -> Batch:
    """Join batches of one form into one."""
    return parts[0] if len(parts) == 1 else map_batch(lambda *arrays: np.concatenate(arrays), *parts)


def permutation(rows: int, seed: int, epoch: int, *counters: int) -> Array:
    """Return the order of ``rows`` rows in an epoch: a pure function of its arguments.

    Example:
        >>> permutation(4, 0, 1).tolist() == permutation(4, 0, 1).tolist()
        True
    """
    return random_generator(seed, "shuffle", epoch, *counters).permutation(rows)
