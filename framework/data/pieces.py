"""Pieces: rows of an epoch in memory, in the order of training, cut into batches; a thread may read the next piece.

A shuffled batch that workers share has its rows in the order in which they lie in the data. So a worker, which computes
consecutive rows of each batch, needs rows that lie close together: of two workers, the first reads about the first half
of each window. Which rows a batch has does not change.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from functools import cached_property
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from framework.base.arrays import Array, Batch
from framework.base.errors import UsageError
from framework.base.random_streams import random_generator
from framework.base.trees import leaves, map_leaves, rows_in, take

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds to wait for the thread at the end; one that hangs in a read is left behind."""

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
        self, arrays: Batch, size: int, start: int = 0, order: Array | None = None, memory: list[Batch] | None = None
    ) -> None:
        """Start at the row ``start`` of ``order``; None is the arrays' own. Shuffled batches share ``memory``."""
        self.arrays, self.size, self.place, self._order = arrays, size, start, order
        self.count = rows_in(arrays[1]) if order is None else len(order)
        if order is not None:
            self.rows = order
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
        return np.arange(self.count)

    def starting_at(self, start: int) -> Piece:
        """Return the same rows from another place on, with memory of its own for shuffled batches."""
        piece = Piece(self.arrays, self.size, start, self._order)
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
        span = slice(self.place, self.place + self.size)
        self.place += self.size
        if self._order is None:
            return rows_of_batch(self.arrays, span)
        rows = self._order[span]
        batch, gathers = self._gathering
        if (count := len(rows)) < self.size:
            batch = rows_of_batch(batch, slice(count))
        if own is None:
            own = slice(count)
        for array, memory in gathers:  # "clip" because the default mode copies out first
            array.take(rows[own], axis=0, out=memory[own], mode="clip")
        x, y, weight = batch
        if self.weights is not None:
            weight = self.weights[span]
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


Own: TypeAlias = Callable[[int], slice]
"""Returns which rows of a batch a worker computes, given how many the batch has."""


def every(rows: int) -> slice:
    """Return all rows of a batch."""
    return slice(0, rows)


def sort_batches(order: Array, size: int) -> Array:
    """Sort the rows within each batch of ``size`` rows of an order.

    Example:
        >>> sort_batches(np.array([4, 0, 3, 1, 2]), 2).tolist()
        [0, 4, 1, 3, 2]
    """
    last = len(order) - len(order) % size  # the start of the incomplete batch
    return np.concatenate([np.sort(order[:last].reshape(-1, size), axis=1).ravel(), np.sort(order[last:])])


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

    def arrange_rows(self, places: Array, *, shuffled: bool) -> Arranged:
        """Return where the next rows come."""
        runs: list[tuple[Array, Array, Array]] = []
        done = at = 0
        while at < len(places):
            count = len(places) - at
            if not len(self._free) and count >= self.size:  # whole batches
                count -= count % self.size
                mine = np.zeros(self.size, bool)
                mine[self._own(self.size)] = True
                rows = places[at : at + count]
                rows = sort_batches(rows, self.size) if shuffled else rows
                runs.append((rows, done + np.arange(count), np.tile(mine, count // self.size)))
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
                runs.append((rows, done + slots, (own.start <= slots) & (slots < own.stop)))
                done += 0 if len(self._free) else self._length
            at += count
        rows, slots, mine = map(np.concatenate, zip(*runs, strict=True))
        return Arranged(rows, slots, mine, done)

    def _begun(self) -> Array:
        """Return the free places of the unfinished batch, or of a new one if all batches are finished."""
        if not len(self._free):
            self._length = min(self.size, self._left)
            self._left -= self._length
            self._free = np.arange(self._length)
        return self._free


class Window(NamedTuple):
    """Rows that are in memory together.

    Attributes:
        rows: How many an epoch uses.
        order: Returns their places in the order of training; None is their own order.
        read: Returns memory with the rows that are given, which are left from the window before, then those of the
            window at some places, ascending, and which places it holds; None is all.
    """

    rows: int
    order: Callable[[], Array | None]
    read: Callable[[Batch | None, Array | None], tuple[Batch, Array | None]]


Ranges: TypeAlias = list[tuple[int, int]]
"""Rows that are read one after another: where each block begins and ends."""


def row_numbers(window: Ranges, rest: Batch | None, _: Array | None) -> tuple[Batch, None]:
    """Return the numbers of rows in the place of a batch, as ``Window.read`` does."""
    parts = [np.arange(start, stop) for start, stop in window]
    numbers = np.concatenate(parts if rest is None else [rest[1], *parts])
    return (numbers, numbers, None), None


def cut_windows(
    windows: Iterable[Window], size: int, skip: int, own: Own | None = None, total: int = sys.maxsize
) -> Generator[Piece]:
    """Cut windows into pieces of whole batches, from the row ``skip`` on; a batch may span two windows.

    A window whose rows are all skipped is not read.

    Args:
        windows: The windows.
        size: The rows of a batch.
        skip: How many rows are left out.
        own: Which rows of each batch are read; the others are undefined. A shuffled batch then has its rows in the
            order of the data. None reads all, in the order of training.
        total: The rows of all windows, where they are known, as they must be with ``own``.
    """
    memory: list[Batch] = []
    slots = Slots(size, total - skip, own or every)
    rest: Batch | None = None
    rest_slots = np.zeros(0, np.intp)
    for count, order, read in windows:
        if skip >= count:
            skip -= count
            continue
        places = order()
        plain = places is None
        places = np.arange(count) if places is None else places
        arranged = slots.arrange_rows(places[skip:], shuffled=not plain and own is not None)
        skip = 0
        needed = arranged.places[arranged.mine]
        if own is None or own is every:
            batch, _ = read(rest, None)
        else:
            where = np.zeros(count, np.intp)  # by place: faster than sorting the places and searching in them
            where[needed] = 1
            batch, held = read(rest, np.flatnonzero(where))
            if held is not None:
                where[held] = np.arange(len(held))
                needed = where[needed]
        rows = np.concatenate([np.arange(len(rest_slots)), len(rest_slots) + needed])
        at = np.concatenate([rest_slots, arranged.slots[arranged.mine]])
        now = at < arranged.done
        if arranged.done and plain and own is None:
            yield Piece(rows_of_batch(batch, slice(rows[0], rows[0] + arranged.done)), size)
        elif arranged.done:
            index = np.zeros(arranged.done, np.intp)
            index[at[now]] = rows[now]
            yield Piece(batch, size, 0, index, memory)
        rest_slots = at[~now] - arranged.done
        rest = None
        if len(rest_slots):
            rest = rows_of_batch(batch, rows[~now])
        del batch  # so that it is not held while the next window is read
    if rest is not None:
        yield Piece(rest, size)


def concatenate_batches(parts: Iterable[Batch], rows: int) -> Batch:
    """Return batches one after another in new memory of ``rows`` rows."""
    made: Batch | None = None
    start = 0
    for batch in parts:
        if made is None:
            made = empty_like(batch, rows)
        stop = start + rows_in(batch[1])
        map_batch(lambda whole, source, own=slice(start, stop): np.copyto(whole[own], source), made, batch)
        start = stop
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


def join_batches(parts: list[Batch]) -> Batch:
    """Join batches of one form into one."""
    return parts[0] if len(parts) == 1 else map_batch(lambda *arrays: np.concatenate(arrays), *parts)


def permutation(rows: int, seed: int, epoch: int, *counters: int) -> Array:
    """Return the order of ``rows`` rows in an epoch: a pure function of its arguments.

    Example:
        >>> permutation(4, 0, 1).tolist() == permutation(4, 0, 1).tolist()
        True
    """
    return random_generator(seed, "shuffle", epoch, *counters).permutation(rows)


def ahead(items: Generator[T]) -> Generator[T]:
    """Give ``items``, each made by a thread while the one before it is used: at most one waits.

    The items and their order are the same as without the thread. An error of ``items`` is raised here, with its
    traceback. Closing this generator ends the thread and closes ``items``.

    Example:
        >>> list(ahead(n * n for n in range(4)))
        [0, 1, 4, 9]
    """
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    wanted = threading.Semaphore(1)
    stopped = threading.Event()

    def work() -> None:
        try:
            while wanted.acquire() and not stopped.is_set():
                made.put((next(items),))
        except StopIteration:
            made.put(None)
        except BaseException as error:  # noqa: BLE001 (raised below)
            made.put(error)
        finally:
            items.close()

    # The context holds NumPy's errstate.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="read ahead", daemon=True)
    thread.start()
    process = os.getpid()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item[0]
            del item  # so that it need not live until the next one is there
            if os.getpid() != process:
                problem = "a forked process cannot continue the training of its parent, whose data a thread reads"
                raise UsageError(problem, advice="leave the hook by os._exit, or give the Dataset read_ahead=False")
    finally:
        if os.getpid() == process:  # in a forked one, nobody may ever release the locks
            stopped.set()
            wanted.release()
            thread.join(PATIENCE)
