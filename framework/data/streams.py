"""Streams: rows that come one after another, from a function that gives those of an epoch."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property, partial
from itertools import chain, islice
from typing import Any, Literal, Self

import numpy as np

from framework.base.arrays import Array, Batch
from framework.base.errors import DataError, ResumeWarning, SettingsError, UsageError, brief
from framework.base.settings.messages import warn
from framework.base.trees import rows_in
from framework.data.fingerprints import fingerprints
from framework.data.parts import READ_AGAIN, Part, Source, first_rows, rows_in_part, stack_items, unpack_item
from framework.data.pieces import (
    UNREAD,
    Own,
    Piece,
    Position,
    Window,
    ahead,
    concatenate_batches,
    cut_windows,
    join_batches,
    map_batch,
    permutation,
    row_numbers,
    rows_of_batch,
)
from framework.data.sampling import Sampling

ROWS_AT_ONCE = 1024
"""Rows of a stream of single rows that are put together before they are checked."""


class Stream:
    """Rows from a function of the epoch, for data that has no rows to be read by number.

    ``function(epoch)`` gives an iterable, such as a list or a generator. Its batches may have any size: the trainer
    makes its own of them. An epoch ends where the iterable ends, or after ``rows`` rows. All epochs must have as many
    rows as the first one.

    A run resumes in the middle of an epoch by calling the function and leaving out the rows that were trained on. So
    the function must give the same rows for the same epoch. The rows that are left out, and those of the window that
    was trained on last, are compared with what the run has seen: a ResumeWarning says if some are others.

    Args:
        function: Gives the rows of an epoch, which count from 0. Validation data is always that of epoch 0.
        rows: The rows in an epoch; None finds their number in the first one. Then progress bars have no end, and a
            layer that needs several rows may meet a last batch of one row.
        each: What the iterable gives: ``"batch"``, where x and y hold several rows; or ``"row"``, one row each.
        window: The rows that are held and shuffled together where the trainer shuffles; the first step waits for them.
            1 keeps the order of the function.
        read_ahead: Whether a thread reads the next window while the current one is trained on. The function is then
            called in that thread.

    Raises:
        SettingsError: An argument is of another kind or out of range.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> def measured(epoch):
        ...     for start in range(0, 1000, 100):
        ...         x = np.arange(start, start + 100)[:, None] / 1000
        ...         yield x, 2 * x[:, 0]
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2)
        >>> run = trainer.fit(Neuron(1), Stream(measured))
        >>> run.step, run.batches
        (64, 32)
    """

    def __init__(
        self,
        function: Callable[[int], Iterable[Any]],
        rows: int | None = None,
        *,
        each: Literal["batch", "row"] = "batch",
        window: int = 4096,
        read_ahead: bool = False,
    ) -> None:
        """Check the arguments; nothing is read yet."""
        if not callable(function):
            problem = f"must be a function of the epoch, such as lambda epoch: batches(epoch); got {brief(function)}"
            raise SettingsError(problem, name="Stream: argument 'function'")
        try:
            inspect.signature(function).bind(0)
        except TypeError as error:
            raise SettingsError(
                f"must take the epoch, as def function(epoch): {error}", name="Stream: argument 'function'"
            ) from None
        except ValueError:  # a built-in function, which has no signature
            pass
        for name, value in (("rows", rows), ("window", window)):
            if not (value is None and name == "rows") and (type(value) is not int or value < 1):
                raise SettingsError("must be a whole number, 1 or more", name=f"Stream: argument {name!r}", got=value)
        if each not in ("batch", "row"):
            raise SettingsError("must be 'batch' or 'row'", name="Stream: argument 'each'", got=each)
        self.function, self.rows, self.each = function, rows, each
        self.window, self.read_ahead = window, read_ahead
        self.name = f"Stream({getattr(function, '__qualname__', type(function).__name__)})"  # in messages
        self.exact, self.once = True, False  # whether an epoch can be read again; whether there is one only

    @classmethod
    def over(cls, data: Iterable[Any]) -> Self:
        """Return the stream of an iterable, whose epochs cannot be told apart; an iterator has one epoch."""
        stream = cls(lambda _: data)
        stream.name, stream.exact, stream.once = type(data).__name__, False, iter(data) is data
        return stream

    @cached_property
    def first(self) -> Part:
        """x, y and weight of the first batch; of an iterator it is kept, with the others.

        Raises:
            DataError: The stream gives no rows in epoch 0, or an item of another form.
        """
        parts = self._limit_rows(0)
        for triple in parts:
            self._rest = chain([triple], parts) if self.once else None
            return triple
        advice = f"; if it was read before, {READ_AGAIN}" if self.once else ""
        raise DataError(f"{self.name} must give at least one row; got none in epoch 0{advice}")

    def parts(self, epoch: int) -> Iterator[Part]:
        """Give x, y and weight of each batch of an epoch, of no more than ``rows`` rows.

        Raises:
            UsageError: The epoch of an iterator has been given.
        """
        if not self.once:
            return self._limit_rows(epoch)
        if self.first and self._rest is None:
            raise UsageError(f"{self.name} is used up after one epoch; {READ_AGAIN}")
        parts, self._rest = self._rest, None
        return parts

    def _limit_rows(self, epoch: int) -> Iterator[Part]:
        left = self.rows or sys.maxsize
        for triple in self._parts(epoch):
            count = rows_in_part(triple, self.name)
            yield triple if count <= left else first_rows(triple, left)
            left -= count
            if left <= 0:
                return

    def _parts(self, epoch: int) -> Iterator[Part]:
        """Give x, y and weight of each batch of an epoch."""
        iterable = self.function(epoch)
        try:
            items = iter(iterable)
        except TypeError:
            raise DataError(
                f"{self.name} must return an iterable of batches (x, y); got {type(iterable).__name__}"
            ) from None
        numbered = enumerate(items)
        if self.each == "batch":
            for number, item in numbered:
                name = f"{self.name}, item {number} of epoch {epoch}"
                rows_in_part(triple := unpack_item(item, name), name)
                yield triple
            return
        while held := [*islice(numbered, ROWS_AT_ONCE)]:
            numbers, rows = zip(*held, strict=True)
            yield stack_items(rows, f"{self.name}, epoch {epoch}", numbers)


class StreamSource(Source):
    """A Stream: rows that come one after another, and are checked as they are read."""

    given: Stream

    def __init__(self, stream: Stream, name: str) -> None:
        """Take the number of rows, where it is known."""
        super().__init__(stream, name)
        self.kind, self.rows, self.once, self.exact = stream.name, stream.rows, stream.once, stream.exact
        self._before = self._read_so_far = UNREAD
        self._differs = False

    @property
    def first(self) -> Part:
        return self.given.first

    def parts(self, size: int) -> Iterator[Part]:
        """Give the batches of epoch 0."""
        return self.given.parts(0)

    def _begin(self, sampling: Sampling | None) -> None:
        if sampling is not None:
            raise DataError(
                f"sampling={sampling!r} needs rows by number; got a {self.kind}; leave sampling out", where=self.name
            )

    def pieces(self, position: Position, before: tuple[int, str] = UNREAD, own: Own | None = None) -> Generator[Piece]:
        """Give a window after another; rows before the position are read and left out. All rows are read.

        Each piece knows how many windows of the epoch have been read up to its last row, and a digest of their rows.
        ``before`` is what a run knew before it was resumed, to be compared.
        """
        size, start, order, epoch = position
        self._before = before
        pieces = self._number_windows(cut_windows(self._windows(max(0, start - size) + 1, order, epoch), size, start))
        with closing(ahead(pieces) if self.given.read_ahead else pieces) as source:
            for piece in source:
                if self._differs:  # told here, and not by the thread that reads
                    self._differs = False
                    warn(
                        f"resume: {self.kind} gives other rows of epoch {epoch} than it gave before, so the "
                        "results differ from those without a stop; give the same rows for the same epoch",
                        ResumeWarning,
                    )
                yield piece

    def _number_windows(self, pieces: Generator[Piece]) -> Generator[Piece]:
        for piece in pieces:
            piece.read = self._read_so_far
            yield piece

    def rows_of(self, position: Position, *, shared: bool = False) -> Array:
        """Return which rows the next batch holds; while their number is not known, all windows so far are full."""
        size, start, order, _ = position
        rows = self.rows or sys.maxsize
        ranges = ((first, min(first + self.given.window, rows)) for first in range(0, rows, self.given.window))
        windows = (
            Window(stop - first, _order(stop - first, order, number), partial(row_numbers, [(first, stop)]))
            for number, (first, stop) in enumerate(ranges)
        )
        numbers: Array = next(cut_windows(windows, size, start)).take()[1]
        return numbers

    def fingerprint(self) -> str:
        """Return a text that changes with the function's name and the first batch."""
        name = f"{self.kind}, item 0 of epoch 0"
        return f"{self.kind}: {fingerprints(*self.checks(self.given.first, name))}"

    def _windows(self, least: int, order: tuple[int, int] | None, epoch: int) -> Generator[Window]:
        """Give the windows of an epoch, which must have ``least`` rows: the last batch of it may be a small one."""
        size, digest = self.given.window, ""
        held, total, number = list[Batch](), 0, 0  # the rows of a window, rows so far, windows so far

        def window(batches: list[Batch]) -> Window:
            nonlocal number, digest
            if self.given.exact:
                digest = hashlib.sha256(f"{digest}{fingerprints(*join_batches(batches))}".encode()).hexdigest()[:12]
                self._read_so_far = number + 1, digest
                if self._before[0] == number + 1:
                    self._differs = self._before[1] != digest
            number += 1
            rows = _rows_in(batches)
            return Window(rows, _order(rows, order, number - 1), partial(_fill_window, batches))

        for item, triple in enumerate(self.given.parts(epoch)):
            if rows := rows_in_part(triple, self._name(item, epoch)):
                total += rows
                # A copy, because the function may fill the same memory for every batch.
                held.append(map_batch(np.copy, self.checks(triple, self._name(item, epoch))))
                while _rows_in(held) >= size:
                    *whole, last = held
                    kept = size - _rows_in(whole)
                    rest = rows_of_batch(last, slice(kept, None))
                    held = [rest] if rows_in(rest[1]) else []
                    yield window([*whole, rows_of_batch(last, slice(kept))])
        self._require(total, least, epoch)
        self.rows = total
        if held:
            yield window(held)

    def _require(self, total: int, least: int, epoch: int) -> None:
        """Refuse an epoch of no rows, of fewer than were trained on, or of another number than the first one had."""
        limit = self.rows
        if total < least:
            raise DataError(f"{self.kind} must give {limit or f'{least} or more'} rows; got {total} in epoch {epoch}")
        if limit is not None and total != limit:
            problem = f"{self.kind} must give {limit} rows in each epoch; got {total} in epoch {epoch}"
            raise DataError(problem, advice="write Stream(function, rows=...) with the number that every epoch has")

    def _name(self, item: int, epoch: int) -> str:
        return f"{self.kind}, item {item} of epoch {epoch}"


def _order(rows: int, order: tuple[int, int] | None, number: int) -> Callable[[], Array | None]:
    """Return what gives the order of a window's rows."""
    return (lambda: None) if order is None else partial(permutation, rows, *order, number)


def _fill_window(batches: list[Batch], rest: Batch | None, _: Array | None) -> tuple[Batch, None]:
    parts = [*([] if rest is None else [rest]), *batches]
    return concatenate_batches(parts, _rows_in(parts)), None


def _rows_in(batches: list[Batch]) -> int:
    return sum(rows_in(y) for _, y, _ in batches)
