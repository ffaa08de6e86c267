"""Datasets: rows that are read in blocks, for data that need not fit in memory.

The order of an epoch is a pure function of (seed, epoch): a seeded permutation of blocks, then of the rows within a
window of blocks, so that a file of a billion rows is read in large pieces and never indexed whole. A Dataset that fits
in one window is shuffled as arrays are.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cached_property, partial
from itertools import chain
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from framework.base.arrays import Array, Batch
from framework.base.errors import DataError, FrameworkError, ShapeError
from framework.base.random_streams import random_generator
from framework.base.settings.messages import warn
from framework.base.shapes import is_known
from framework.base.trees import leaves, rows_in, sample_shape
from framework.data.fingerprints import fingerprints
from framework.data.parts import NumberedSource, Part, explain_error, read_part, unpack_item
from framework.data.pieces import (
    UNREAD,
    Own,
    Piece,
    Position,
    Ranges,
    Window,
    ahead,
    concatenate_batches,
    cut_windows,
    every,
    join_batches,
    map_batch,
    permutation,
    row_numbers,
    rows_of_batch,
)
from framework.data.sampling import Chances, Sampling, draw_rows
from framework.data.splits import Mask, Selection

# Orders of rows depend on these sizes, so they are fixed.
BLOCK_ROWS = 4096
"""Rows of a Dataset that follow one another in its file, wherever an epoch puts them."""

WINDOW_NUMBERS = 1 << 23
"""Numbers of x that are in memory and shuffled together: 65,536 rows of 128 numbers. A Dataset that has no more is
shuffled as arrays are."""

WINDOW_ROWS = 1 << 20
"""The most rows that are in memory and shuffled together."""

WINDOW_BLOCKS = 16
"""The fewest blocks of a window: those of wide rows have fewer than ``BLOCK_ROWS`` rows."""

READ_NUMBERS = 1 << 21
"""Numbers of x that are read at once from parts that are read from their beginning."""


@runtime_checkable
class Dataset(Protocol):
    """Data that need not fit in memory: write two methods.

    Example:
        >>> class Squares:
        ...     def __len__(self):
        ...         return 1_000_000
        ...
        ...     def read(self, start, stop):
        ...         x = np.arange(start, stop)[:, None] / 1e6
        ...         return x, x[:, 0] ** 2
        >>> isinstance(Squares(), Dataset)
        True
    """

    def __len__(self) -> int:
        """Return the number of rows."""

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop."""


def _rows_in(window: Ranges) -> int:
    return sum(stop - start for start, stop in window)


class DatasetSource(NumberedSource):
    """A Dataset: rows that are read by number, in blocks, and checked as they are read."""

    chances: Chances | None

    def __init__(self, dataset: Dataset, name: str) -> None:
        """Check the number of rows.

        Raises:
            DataError: The number is missing or 0.
        """
        super().__init__(dataset, name)
        self._warned = False
        self._none: Batch | None = None  # no rows, in the form of those that were read
        try:
            self.rows = len(dataset)
        except FrameworkError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: argument 'data' must have a number of rows; its len() says: {error}") from None
        if self.rows == 0:
            raise DataError("must have at least one row; got a Dataset of length 0", name=f"{name}: argument 'data'")

    @property
    def first(self) -> Part:
        return read_part(self.given, 0, 1, self.name)

    def parts(self, size: int) -> Iterator[Part]:
        alone = getattr(self.given, "target", "") is None and hasattr(self.given, "frame")  # only the inputs are known
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            yield (
                (self.given.frame(start, stop), None, None) if alone else read_part(self.given, start, stop, self.name)
            )

    def select(self, draw: Mask, what: str, *, held: bool) -> Self:
        return type(self)(Selection(self.given, draw, what, held=held), self.name)

    def _begin(self, sampling: Sampling | None) -> None:
        """Read all rows once where they are drawn by their chances, for the sum of those of each block."""
        self.chances = None
        if sampling is None:
            return
        self.chances = chances = Chances(sampling, self.name)
        blocks = (block for window in self._windows(None) for block in window)
        learnt = {start: chances.learn(self._read_block(start, stop)) for start, stop in blocks}
        self._sums = sums = {start: chances.total(counts) for start, counts in learnt.items()}
        if not 0 < sum(sums.values()) < math.inf:
            what = "a positive sum; all are 0" if not any(sums.values()) else "a sum that float64 holds; divide them"
            raise DataError(f"sampling='weighted' needs weights of {what}", where=self.name)

    def pieces(self, position: Position, before: tuple[int, str] = UNREAD, own: Own | None = None) -> Generator[Piece]:
        """Give a window after another; a batch that spans two windows is joined from both.

        A Dataset whose ``read_ahead`` is true is read by a thread, a window ahead. With ``own`` the rows of each batch
        are in the order of the windows, and only those that it names are read; all are where rows are drawn by chances.
        """
        size, start, order, _ = position
        if order is not None:
            self._warn_of_large_parts()
        size = min(size, self.rows)
        return self._ahead(self._pieces(size, start, order, own))

    def between(self, size: int, start: int, stop: int) -> Generator[Piece]:
        return self._ahead(self._between(size, start, stop))

    def _ahead(self, pieces: Generator[Piece]) -> Generator[Piece]:
        return ahead(pieces) if getattr(self.given, "read_ahead", False) else pieces

    def _pieces(self, size: int, start: int, order: tuple[int, int] | None, own: Own | None) -> Generator[Piece]:
        if own is not None and self._none is None:
            self._read_block(0, 1)
        if own is not None and self.chances is not None:  # which the order depends on
            own = every
        windows = (self._window(window, count, order) for window, count in self._count_windows(order))
        done = start
        for piece in cut_windows(windows, size, start, own, self.rows):
            if self.chances is not None:
                piece.arrays = self.chances.drop_chances(piece.arrays)
            if own is not None and own is not every:
                piece.reread = partial(self._whole, size, done, order)
            done += piece.count
            yield piece

    def _between(self, size: int, start: int, stop: int) -> Generator[Piece]:
        clipped = (
            [(max(first, start), min(last, stop)) for first, last in window if first < stop and last > start]
            for window in self._windows(None)
        )
        yield from cut_windows((self._window(window, _rows_in(window), None) for window in clipped if window), size, 0)

    def _whole(self, size: int, first: int, order: tuple[int, int] | None, index: int) -> Batch:
        """Return all rows of the batch that begins at a place after the row ``first`` of the order."""
        with closing(self._pieces(size, first + index, order, every)) as pieces:
            return map_batch(np.copy, next(pieces).take())

    def _window(self, window: Ranges, count: int, order: tuple[int, int] | None) -> Window:
        """Return some blocks as a window of which an epoch uses ``count`` rows."""
        chances, read = self.chances, partial(self._read, window)
        if order is None:
            return Window(count, lambda: None, read)
        if chances is None:
            return Window(count, partial(permutation, count, *order, *self._key(window)), read)
        held: list[Batch] = []  # rows that had to be read to know the order

        def draw() -> Array:
            held.append(read(None, None)[0])
            return draw_rows(chances.of(held[0]), count, *order, *self._key(window))

        return Window(
            count, draw, lambda rest, _: (join_batches([*([] if rest is None else [rest]), held.pop()]), None)
        )

    def _warn_of_large_parts(self) -> None:
        """Warn, once, of parts whose rows are not mixed over the whole part."""
        largest = int(np.diff(np.append(self._parts, self.rows)).max())
        if largest > self._window_rows and not self._fits and not self._warned:
            self._warned = True
            kind = type(self.given).__name__
            warn(
                f"{self.name}: {kind}: {largest:,} rows are read in order from their beginning, and shuffled "
                f"within {self._window_rows:,} only; write parts, such as row groups, of no more rows"
            )

    def _count_windows(self, order: tuple[int, int] | None) -> Iterator[tuple[Ranges, int]]:
        """Give each window, and how many rows an epoch uses of it."""
        if self.chances is None or order is None:
            yield from ((window, _rows_in(window)) for window in self._windows(order))
            return
        windows = [*self._windows(order)]
        sums = np.array([sum(self._sums[start] for start, _ in window) for window in windows])
        counts = random_generator(order[0], "sample", order[1]).multinomial(self.rows, sums / sums.sum())
        yield from zip(windows, map(int, counts), strict=True)

    def rows_of(self, position: Position, *, shared: bool = False) -> Array:
        size, start, order, _ = position
        windows = (
            self._window(window, count, order)._replace(read=partial(row_numbers, window))
            for window, count in self._count_windows(order)
        )
        pieces = cut_windows(windows, min(size, self.rows), start, every if shared else None, self.rows)
        numbers: Array = next(pieces).take()[1]
        return numbers

    def fingerprint(self) -> str:
        """Return the Dataset's own fingerprint, or one of its class, its length, its first and its last block."""
        if hasattr(self.given, "fingerprint") and (text := self.given.fingerprint()) is not None:
            self._read_block(0, 1)  # for the names of the columns
            return str(text)
        rows = BLOCK_ROWS
        starts = dict.fromkeys((0, (self.rows - 1) // rows * rows))
        ends = [self._read_block(start, min(start + rows, self.rows)) for start in starts]
        return f"{type(self.given).__name__} of {self.rows} rows: {'; '.join(fingerprints(*end) for end in ends)}"

    @cached_property
    def _width(self) -> int:
        """The numbers of x in a row."""
        shapes = leaves(self.checks.input_shape)
        if not all(map(is_known, shapes)):
            shapes = leaves(sample_shape(self._read_block(0, 1)[0]))
        return max(1, sum(map(math.prod, shapes)))

    @property
    def _window_rows(self) -> int:
        """The most rows that are in memory together."""
        return max(1, min(WINDOW_NUMBERS // self._width, WINDOW_ROWS))

    @property
    def _parts(self) -> Array:
        """The first rows of the parts that are read from their beginning; smaller neighbours are put together."""
        starts, least, kept = getattr(self.given, "starts", None), self._block_rows, [0]
        if starts is None:
            return np.arange(0, self.rows, least)
        for start in starts:
            if start - kept[-1] >= least:
                kept.append(int(start))
        return np.array(kept)

    @property
    def _block_rows(self) -> int:
        return max(1, min(BLOCK_ROWS, self._window_rows // WINDOW_BLOCKS))

    def _windows(self, order: tuple[int, int] | None) -> Iterator[Ranges]:
        """Give the blocks of each window: as many as may be in memory together.

        Parts that the Dataset reads from their beginning are shuffled as a whole, and cut into blocks.
        """
        starts = self._parts
        ends = np.append(starts[1:], self.rows)
        places = range(len(starts)) if order is None or self._fits else permutation(len(starts), *order)
        most, block = self._window_rows, self._block_rows
        window: Ranges = []
        held = 0
        for index in places:
            for start in range(starts[index], ends[index], block):
                stop = min(start + block, int(ends[index]))
                if held + stop - start > most:
                    yield window
                    window, held = [], 0
                window.append((start, stop))
                held += stop - start
        yield window

    @property
    def _fits(self) -> bool:
        """Whether all rows are one window, which is then shuffled as arrays are."""
        return self.rows <= self._window_rows

    def _key(self, window: Ranges) -> list[int]:
        """Return what tells the random numbers of a window from those of others."""
        return [] if self._fits else [window[0][0]]

    def _read(self, window: Ranges, rest: Batch | None, places: Array | None) -> tuple[Batch, Array | None]:
        """Return rows that are left, then rows of a window, and which places of the window these are.

        Of each block the rows between the first and the last place are read, and with ``read_rows`` only those at the
        places; None is all. Blocks that follow one another are read at once from parts that are read from their
        beginning: a table of many columns is read faster so.
        """
        before, length = [] if rest is None else [rest], 0 if rest is None else rows_in(rest[1])
        places = np.arange(_rows_in(window)) if places is None else places
        if not len(places):
            assert self._none is not None
            return (self._none if rest is None else rest), places
        numbered = hasattr(self.given, "read_rows")
        chunks: list[list[Array]] = []
        held: list[Array] = []
        at, end = 0, -1
        for start, stop in window:
            first, last = np.searchsorted(places, (at, at + stop - start))
            rows = places[first:last] + (start - at)
            if len(rows):
                rows = rows if numbered else np.arange(rows[0], rows[-1] + 1)
                held.append(rows + (at - start))
                joins = start == end and (numbered or rows[0] == chunks[-1][-1][-1] + 1)
                if joins and rows[-1] - chunks[-1][0][0] < self._most:
                    chunks[-1].append(rows)
                else:
                    chunks.append([rows])
                end = stop if hasattr(self.given, "starts") else -1
            at += stop - start
        rows = np.concatenate(held)
        return concatenate_batches(
            chain(before, map(self._read_rows, map(np.concatenate, chunks))), length + len(rows)
        ), rows

    def _read_rows(self, rows: Array) -> Batch:
        """Return some rows, ascending."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if stop - start == len(rows):
            return self._read_block(start, stop)
        name = f"{self.kind}.read_rows of rows from {start} to {stop - 1}"
        triple = unpack_item(self.given.read_rows(rows.tolist()), f"{self.name}: {name}")
        try:
            return self._check_rows(triple, name, len(rows))
        except DataError:
            for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                self._read_block(int(run[0]), int(run[-1]) + 1)  # raises the error that names the row
            raise

    @property
    def _most(self) -> int:
        """The most rows that are read at once."""
        return READ_NUMBERS // self._width

    def _read_block(self, start: int, stop: int) -> Batch:
        triple = read_part(self.given, start, stop, self.name)
        batch = self._check_rows(triple, f"{self.kind}.read({start}, {stop})", stop - start, start)
        if self._none is None:
            self._none = map_batch(np.copy, rows_of_batch(batch, slice(0)))
        return batch

    def _check_rows(self, triple: Part, name: str, rows: int, start: int = 0) -> Batch:
        try:
            batch: Batch = self.checks(triple, name, start)
        except DataError as error:
            if self.target is not None and error.subject == "argument 'y'":
                error.subject, error.argument = f"{error.subject}: column {self.target!r}", self.target
            raise explain_error(error, self.given) from None
        if (count := rows_in(batch[1])) != rows:
            raise ShapeError(f"{name} must return {rows} rows; got {count}", where=self.name)
        return batch
