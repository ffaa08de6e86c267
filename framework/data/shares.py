"""Shares: the rows of each batch that one worker computes, so that it reads few others.

A shuffled batch that is shared out has its rows in the order in which they lie in the data. So a worker, which computes
consecutive rows of each batch, needs rows that lie close together: of two workers, the first reads about the first half
of each window. Which rows a batch has does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

from framework.arrays import Array, Batch
from framework.data.pieces import Piece, rows_of_batch

Own: TypeAlias = Callable[[int], slice]
"""Returns which rows of a batch a worker computes, given how many the batch has."""


def every(rows: int) -> slice:
    """Return all rows of a batch."""
    return slice(0, rows)


def by_place(order: Array, size: int) -> Array:
    """Return an order in which the rows of each batch of ``size`` rows are ascending.

    Example:
        >>> by_place(np.array([4, 0, 3, 1, 2]), 2).tolist()
        [0, 4, 1, 3, 2]
    """
    whole = len(order) - len(order) % size
    return np.concatenate([np.sort(order[:whole].reshape(-1, size), axis=1).ravel(), np.sort(order[whole:])])


class Arranged(NamedTuple):
    """Rows of a window, and where they come in the batches.

    Attributes:
        places: The rows, by their places in the window.
        slots: Where each comes, counted from the first row of the batch that was unfinished before.
        mine: Whether this worker computes it.
        done: How many rows the finished batches have.
    """

    places: Array
    slots: Array
    mine: Array
    done: int


class Slots:
    """Where the rows of one window after another come in the batches.

    Of a shuffled batch that spans two windows, the rows of both are spread over the whole batch, so that each worker
    needs rows of the same part of each window.
    """

    def __init__(self, size: int, rows: int, own: Own) -> None:
        """Begin with a new batch, of ``rows`` rows that are left in the epoch."""
        self.size, self._left, self._own = size, rows, own
        self._free, self._length = np.zeros(0, np.intp), 0

    def arranged(self, places: Array, *, shuffled: bool) -> Arranged:
        """Return where the next rows come."""
        found: list[tuple[Array, Array, Array]] = []
        done = at = 0
        while at < len(places):
            count = len(places) - at
            if not len(self._free) and count >= self.size:
                count -= count % self.size
                slots = np.arange(count)
                mine = np.zeros(self.size, bool)
                mine[self._own(self.size)] = True
                rows = places[at : at + count]
                rows = by_place(rows, self.size) if shuffled else rows
                found.append((rows, done + slots, np.tile(mine, count // self.size)))
                self._left -= count
                done += count
            else:
                count = min(count, len(self._begun()))
                chosen = np.arange(count)
                if shuffled:
                    chosen = (2 * chosen + 1) * len(self._free) // (2 * count)
                slots, self._free = self._free[chosen], np.delete(self._free, chosen)
                own, rows = self._own(self._length), places[at : at + count]
                rows = np.sort(rows) if shuffled else rows
                found.append((rows, done + slots, (own.start <= slots) & (slots < own.stop)))
                done += 0 if len(self._free) else self._length
            at += count
        rows, slots, mine = map(np.concatenate, zip(*found, strict=True))
        return Arranged(rows, slots, mine, done)

    def _begun(self) -> Array:
        """Return the free places of the unfinished batch, or of a new one if all batches are finished."""
        if not len(self._free):
            self._length = min(self.size, self._left)
            self._left -= self._length
            self._free = np.arange(self._length)
        return self._free


class SharedWindow(NamedTuple):
    """Rows that are in memory together.

    Attributes:
        rows: How many an epoch uses.
        order: Returns their places in the order of training; None is their own order.
        read: Returns memory with the rows that are given, then those of the window at some places, ascending (None are
            all), and which places it holds.
    """

    rows: int
    order: Callable[[], Array | None]
    read: Callable[[Batch | None, Array | None], tuple[Batch, Array]]


def shared(windows: Iterable[SharedWindow], size: int, skip: int, total: int, own: Own) -> Generator[Piece]:
    """Cut windows of ``total`` rows into pieces of whole batches, from the row ``skip`` on.

    Only the rows that ``own`` names are read; the others of a batch are undefined. A window whose rows are all skipped
    is not read.
    """
    memory: list[Batch] = []
    slots = Slots(size, total - skip, own)
    rest: Batch | None = None
    rest_slots = np.zeros(0, np.intp)
    for count, order, read in windows:
        if skip >= count:
            skip -= count
            continue
        places = order()
        shuffled = places is not None
        found = slots.arranged((np.arange(count) if places is None else places)[skip:], shuffled=shuffled)
        skip = 0
        needed = found.places[found.mine]
        if own is every:
            batch, _ = read(rest, None)
        else:
            where = np.zeros(count, np.intp)  # by place: faster than sorting the places and searching in them
            where[needed] = 1
            batch, held = read(rest, np.flatnonzero(where))
            where[held] = np.arange(len(held))
            needed = where[needed]
        rows = np.concatenate([np.arange(len(rest_slots)), len(rest_slots) + needed])
        at = np.concatenate([rest_slots, found.slots[found.mine]])
        now = at < found.done
        if found.done:
            index = np.zeros(found.done, np.intp)
            index[at[now]] = rows[now]
            yield Piece(batch, size, 0, index, memory)
        rest_slots = at[~now] - found.done
        rest = None
        if len(rest_slots):
            rest = rows_of_batch(batch, rows[~now])
        del batch  # so that it is not held while the next window is read
