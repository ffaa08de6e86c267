"""Sources: arrays or a Dataset as batches, and the order in which training sees their rows.

The order of an epoch is a pure function of (seed, epoch): a seeded permutation of blocks, then of the rows within a
window of blocks, so that a file of a billion rows is read in large pieces and never indexed whole. Arrays are one
block.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from framework.arrays import Array, Batch, column_names
from framework.data.ahead import ahead
from framework.data.checks import NO_COLUMNS, checked, read, target_shape, transformed
from framework.data.fingerprints import fingerprints
from framework.data.frames import parts
from framework.errors import DataError, ShapeError
from framework.frames import is_frame
from framework.losses import Loss
from framework.metrics import Metric
from framework.models import Model
from framework.models.parameters import Columns
from framework.models.rows import TableTransform
from framework.models.shapes import of_rows, shown
from framework.random_streams import random_generator
from framework.trees import leaves, map_leaves, names, sample_shape, take

BLOCK_ROWS = 4096
WINDOW_BLOCKS = 16
READ_ROWS = 16_384


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


class Piece:
    """Rows of an epoch in the order of training, cut into batches one after another.

    Attributes:
        arrays: (x, y, weight).
        size: Rows in a batch; the last one may have fewer.
        place: How many rows are done.
    """

    def __init__(
        self,
        arrays: Batch,
        size: int,
        place: int = 0,
        order: Array | None = None,
        memory: dict[str, Array] | None = None,
    ) -> None:
        """Start at the row ``place`` of ``order``; None is the arrays' own. Shuffled batches share ``memory``."""
        self.arrays, self.size, self.place, self._order = arrays, size, place, order
        self._memory: dict[str, Array] = {} if memory is None else memory

    @property
    def done(self) -> bool:
        """Whether no rows are left."""
        return self.place >= (len(self.arrays[1]) if self._order is None else len(self._order))

    @cached_property
    def rows(self) -> Array:
        """Which rows of the arrays make up the batches, in order."""
        return np.arange(len(self.arrays[1])) if self._order is None else self._order

    def take(self) -> Batch:
        """Return the next batch: views in the data's own order, gathered into reused memory when shuffled."""
        x, y, weight = self.arrays
        part = slice(self.place, self.place + self.size)
        self.place += self.size
        if self._order is None:
            return rows_of_batch(self.arrays, part)
        rows = self._order[part]
        if isinstance(x, dict):
            x = map_leaves(lambda name, leaf: self._gather(name, leaf, rows), names(x), x)
        else:
            x = self._gather("x", x, rows)
        return x, self._gather("y", y, rows), None if weight is None else self._gather("weight", weight, rows)

    def _gather(self, name: str, array: Array, rows: Array) -> Array:
        kept = self._memory.get(name)
        if kept is None or len(kept) < len(rows):
            kept = self._memory[name] = np.empty((self.size, *array.shape[1:]), array.dtype)
        out = kept[: len(rows)]
        array.take(rows, axis=0, out=out, mode="clip")  # "clip" because the default mode copies out first
        return out


def batches(source: Source, size: int, start: int = 0, order: tuple[int, int] | None = None) -> Iterator[Batch]:
    """Give batches of ``size`` rows from row ``start`` of the order (seed, epoch); None is the data's own order."""
    for piece in source.pieces(size, start, order):
        while not piece.done:
            yield piece.take()


def rows_of_batch(batch: Batch, rows: Any) -> Batch:
    """Return some rows of a batch, by a slice or by their numbers."""
    x, y, weight = batch
    return take(x, rows), y[rows], None if weight is None else weight[rows]


class ArraySource:
    """Arrays, checked whole and cast once."""

    def __init__(self, arrays: Batch, columns: Columns, digests: Sequence[str]) -> None:
        """Hold checked arrays; ``columns`` are those of the frames, ``digests`` the fingerprints that are known."""
        x, y, weight = arrays
        self.arrays = map_leaves(read_only, x), read_only(y), None if weight is None else read_only(weight)
        self.rows, self.columns, self._digests = len(y), columns, digests
        self._memory: dict[str, Array] = {}

    def pieces(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Piece]:
        """Give the rows from ``start`` on in pieces, which are cut into batches of ``size`` rows: here one piece.

        The order is that of (seed, epoch), or None for the data's own. Each piece but the last holds whole batches.
        """
        rows = None if order is None else permutation(self.rows, *order)
        yield Piece(self.arrays, min(size, self.rows), start, rows, self._memory)

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None) -> Array:
        """Return which rows of the data the first of those batches holds, in its order."""
        rows = np.arange(self.rows) if order is None else permutation(self.rows, *order)
        return rows[start : start + size]

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return fingerprints(*self.arrays, self._digests)


class DatasetSource:
    """A Dataset, read in blocks and checked as it is read."""

    columns = NO_COLUMNS

    def __init__(
        self,
        dataset: Dataset,
        model: Model,
        losses: tuple[Loss, ...],
        name: str,
        preprocess: TableTransform | None = None,
    ) -> None:
        """Check the length; rows are checked when they are read."""
        self.dataset, self.model, self.losses, self.name = dataset, model, losses, name
        self.preprocess = preprocess
        self._form = ""
        try:
            self.rows = len(dataset)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: argument 'data' must have a number of rows; its len() says: {error}") from None
        if self.rows == 0:
            raise DataError(f"{name}: argument 'data' must have at least one row; got a Dataset of length 0")

    def pieces(self, size: int, start: int, order: tuple[int, int] | None) -> Generator[Piece]:
        """Give a window after another; a batch that spans two windows is joined from both.

        A Dataset whose ``read_ahead`` is true is read by a thread, a window ahead.
        """
        pieces = self._pieces(min(size, self.rows), start, order)
        return ahead(pieces) if getattr(self.dataset, "read_ahead", False) else pieces

    def _pieces(self, size: int, skip: int, order: tuple[int, int] | None) -> Generator[Piece]:
        memory: dict[str, Array] = {}
        rest: Batch | None = None
        for window in self._windows(order):
            rows = sum(stop - first for first, stop in window)
            if skip >= rows:
                skip -= rows
                continue
            read, held = self._filled(window, rest), 0 if rest is None else len(rest[1])
            places = np.arange(held + rows)
            if order is not None:
                places[held:] = held + self._permuted(window, order)
            places, skip = places[skip:], 0  # there is no rest where rows are skipped
            whole = len(places) - len(places) % size
            if whole and order is None:
                yield Piece(rows_of_batch(read, slice(places[0], places[0] + whole)), size)
            elif whole:
                yield Piece(read, size, 0, places[:whole], memory)
            rest = rows_of_batch(read, places[whole:])
            del read  # so that it is not held while the next window is read
        if rest is not None and len(rest[1]):
            yield Piece(rest, size)

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None) -> Array:
        """Return which rows of the data the batch from ``start`` holds; it may span windows."""
        parts: list[Array] = []
        stop = 0
        for window in self._windows(order):
            first, stop = stop, stop + sum(end - begin for begin, end in window)
            if stop > start:
                rows = np.concatenate([np.arange(begin, end) for begin, end in window])
                rows = rows if order is None else rows[self._permuted(window, order)]
                parts.append(rows[max(0, start - first) : start + size - first])
            if stop >= start + size:
                break
        return np.concatenate(parts)

    def fingerprint(self) -> str:
        """Return the Dataset's own fingerprint, or one of its class, its length, its first and its last block."""
        if hasattr(self.dataset, "fingerprint"):
            self._read_block(0, 1)  # for the names of the columns
            return str(self.dataset.fingerprint())
        starts = dict.fromkeys((0, (self.rows - 1) // BLOCK_ROWS * BLOCK_ROWS))
        ends = [self._read_block(start, min(start + BLOCK_ROWS, self.rows)) for start in starts]
        return f"{type(self.dataset).__name__} of {self.rows} rows: {'; '.join(fingerprints(*end) for end in ends)}"

    def _windows(self, order: tuple[int, int] | None) -> Iterator[list[tuple[int, int]]]:
        """Give the blocks of each window: as many as have no more than ``WINDOW_BLOCKS * BLOCK_ROWS`` rows together.

        Parts that the Dataset reads as a whole are shuffled as a whole, and cut into blocks of ``BLOCK_ROWS``.
        """
        starts = parts_of(self.dataset, self.rows)
        ends = np.append(starts[1:], self.rows)
        places = range(len(starts)) if order is None or self._fits else permutation(len(starts), *order)
        window: list[tuple[int, int]] = []
        held = 0
        for place in places:
            for start in range(starts[place], ends[place], BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, int(ends[place]))
                if held + stop - start > WINDOW_BLOCKS * BLOCK_ROWS:
                    yield window
                    window, held = [], 0
                window.append((start, stop))
                held += stop - start
        yield window

    @property
    def _fits(self) -> bool:
        """Whether all rows are one window, which is then shuffled as arrays are."""
        return self.rows <= WINDOW_BLOCKS * BLOCK_ROWS

    def _permuted(self, window: list[tuple[int, int]], order: tuple[int, int]) -> Array:
        """Return the order of a window's rows, by their places in it."""
        rows = sum(stop - first for first, stop in window)
        return permutation(rows, *order, *([] if self._fits else [window[0][0]]))

    def _filled(self, window: list[tuple[int, int]], rest: Batch | None) -> Batch:
        """Return the rows of a window in new memory, after those that are left from the one before."""
        rows = sum(stop - first for first, stop in window)
        place = 0 if rest is None else len(rest[1])
        made: Batch | None = None
        reads = self._runs(window) if hasattr(self.dataset, "starts") else window
        for part in chain([] if rest is None else [rest], (self._read_block(*block) for block in reads)):
            if made is None:
                made = empty_batch(part, place + rows)
                place = 0
            fill(made, place, part)
            place += len(part[1])
        assert made is not None
        return made

    @staticmethod
    def _runs(window: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Join blocks that follow one another, up to ``READ_ROWS`` rows: a table of many columns is read faster so."""
        first, last = window[0]
        for start, stop in window[1:]:
            if start != last or stop - first > READ_ROWS:
                yield first, last
                first = start
            last = stop
        yield first, last

    def _read_block(self, start: int, stop: int) -> Batch:
        name = f"{self.name}: {type(self.dataset).__name__}.read({start}, {stop})"
        x, y, weight = read(self.dataset, start, stop, self.name)
        got = (*transformed(x, y, self.model, self.preprocess, self.name, start), weight)
        x, y, weight = checked(*got, self.model, self.losses, name, self.columns)
        if self.columns == NO_COLUMNS:
            self.columns = Columns(*map(column_names, got[:2]))  # the first block's are those of all
        if len(y) != stop - start:
            raise ShapeError(f"{name} must return {stop - start} rows; got {len(y)}")
        weights = "no weights" if weight is None else "weights"
        form = f"x {shown(of_rows(sample_shape(x)))}, y {shown(('rows', *y.shape[1:]))}, {weights}"
        if form != (self._form or form):
            raise DataError(
                f"{name} must return one form, and weights for all rows or for none; got {form}; before {self._form}"
            )
        self._form = form
        return x, y, weight


Source: TypeAlias = ArraySource | DatasetSource
"""Checked data of one model and loss, as batches."""


def parts_of(dataset: Any, rows: int) -> Array:
    """Return the first rows of the parts that a Dataset reads as a whole, each of ``BLOCK_ROWS`` rows at least.

    They are those of its attribute ``starts``, where it has one; smaller neighbours are put together.

    Example:
        >>> parts_of(range(10_000), 10_000).tolist()
        [0, 4096, 8192]
    """
    starts = getattr(dataset, "starts", None)
    if starts is None:
        return np.arange(0, rows, BLOCK_ROWS)
    kept = [0]
    for start in starts:
        if start - kept[-1] >= BLOCK_ROWS:
            kept.append(int(start))
    return np.array(kept)


def empty_batch(like: Batch, rows: int) -> Batch:
    """Return memory for ``rows`` rows of the form of a batch."""
    x, y, weight = like
    return (
        map_leaves(lambda leaf: np.empty((rows, *leaf.shape[1:]), leaf.dtype), x),
        np.empty((rows, *y.shape[1:]), y.dtype),
        None if weight is None else np.empty(rows, weight.dtype),
    )


def fill(batch: Batch, place: int, part: Batch) -> None:
    """Copy the rows of ``part`` into a batch, from the row ``place`` on."""
    rows = slice(place, place + len(part[1]))
    for whole, given in zip(leaves(batch[0]), leaves(part[0]), strict=True):
        whole[rows] = given
    batch[1][rows] = part[1]
    if batch[2] is not None:
        batch[2][rows] = part[2]


def read_only(array: Array) -> Array:
    """Return a view that no callback or layer can write through, because the array may be the caller's own."""
    view = array.view()
    view.setflags(write=False)
    return view


def permutation(rows: int, seed: int, epoch: int, *counters: int) -> Array:
    """Return the order of ``rows`` rows in an epoch: a pure function of its arguments.

    Example:
        >>> permutation(4, 0, 1).tolist() == permutation(4, 0, 1).tolist()
        True
    """
    return random_generator(seed, "shuffle", epoch, *counters).permutation(rows)


def prepare(
    data: Any,
    model: Model,
    losses: tuple[Loss, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    metrics: Iterable[Metric | Loss] = (),
    *,
    fingerprinted: bool = False,
    preprocess: TableTransform | None = None,
) -> Source:
    """Check ``data`` and make it a source of batches.

    Args:
        data: (x, y), (x, y, weight) or a Dataset; x may be a dict of arrays by name.
        model: The model that takes the data.
        losses: The losses that take the targets: the trained one first, then metrics that are losses.
        name: The caller, for messages.
        columns: The columns that the frames x and y must have; None are those that the model was fitted with.
        metrics: The metrics that take the targets; those of a Dataset are checked when its rows are used.
        fingerprinted: Whether the source's fingerprint will be asked for: it is found while arrays are checked.
        preprocess: What makes arrays of tables; then x must be a table.

    Raises:
        DataError: The data is of no such form, has no rows, or holds something no model can learn from.
        ShapeError: Shapes do not fit the model or each other.
        DtypeError: Values are not real numbers.
    """
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        x, y, weight = parts(data, name)
        x, y = transformed(x, y, model, preprocess, name)
        digests: list[str] = []
        arrays = checked(x, y, weight, model, losses, name, columns, digests if fingerprinted else None)
        if (weights := arrays[2]) is not None and not weights.any():
            raise DataError(f"{name}: argument 'weight' must have a positive sum; all {len(arrays[1])} weights are 0")
        for metric in metrics:
            try:
                if isinstance(metric, Metric):
                    metric.require_targets(*arrays[1:], target_shape(model, arrays[0]))
            except DataError as error:
                raise type(error)(f"{name}: argument 'y': {error}") from None
        return ArraySource(arrays, Columns(column_names(x), column_names(y)), digests)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, model, losses, name, preprocess)
    hint = f"write {name}(model, (x, y)), with x and y in brackets"
    if name.endswith("validation"):
        hint = "write validation=(x, y); split(data, 0.2) gives both parts"
        hint = f"write epochs={data}" if type(data) is int else hint
    elif is_frame(data):
        hint = f"write {name}(model, (table, 'target')), with the name of the target's column"
    raise DataError(
        f"{name}: argument 'data' must be (x, y), (x, y, weight) or a Dataset with len() and read(start, stop); "
        f"got {type(data).__name__}{f' of {len(data)}' if isinstance(data, tuple | list) else ''}; {hint}"
    )


def joined(parts: list[Batch]) -> Batch:
    """Join batches of one form into one."""
    if len(parts) == 1:
        return parts[0]
    weights = [weight for _, _, weight in parts if weight is not None]
    return (
        map_leaves(lambda *leaves: np.concatenate(leaves), *(x for x, _, _ in parts)),
        np.concatenate([y for _, y, _ in parts]),
        np.concatenate(weights) if weights else None,
    )
