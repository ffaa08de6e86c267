"""Sources: arrays or a Dataset as batches, and the order in which training sees their rows.

The order of an epoch is a pure function of (seed, epoch): a seeded permutation of blocks, then of the rows within a
window of blocks, so that a file of a billion rows is read in large pieces and never indexed whole. Arrays are one
block.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from framework.arrays import Array, Batch, column_names
from framework.data.adapting import adapted
from framework.data.ahead import ahead
from framework.data.checks import NO_COLUMNS, PartChecks, checked, read, target_shape, transformed
from framework.data.fingerprints import fingerprints
from framework.data.parts import parts
from framework.data.pieces import Piece, cut, filled, permutation, read_only
from framework.data.streams import Stream, StreamSource
from framework.errors import DataError, ShapeError
from framework.frames import is_frame
from framework.losses import Loss
from framework.losses.several import OutputLoss
from framework.metrics import Metric
from framework.models import Model
from framework.models.parameters import Columns
from framework.models.rows import TableTransform
from framework.trees import map_leaves, rows_in

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


def batches(source: Source, size: int, start: int = 0, order: tuple[int, int] | None = None) -> Generator[Batch]:
    """Give batches of ``size`` rows from row ``start`` of the order (seed, epoch); None is the data's own order."""
    with closing(source.pieces(size, start, order)) as pieces:
        for piece in pieces:
            while not piece.done:
                yield piece.take()


Blocks: TypeAlias = list[tuple[int, int]]
"""Rows that are read one after another: where each block begins and ends."""


def _rows_in(window: Blocks) -> int:
    return sum(stop - start for start, stop in window)


class ArraySource:
    """Arrays, checked whole and cast once."""

    def __init__(self, arrays: Batch, columns: Columns, digests: Sequence[str]) -> None:
        """Hold checked arrays; ``columns`` are those of the frames, ``digests`` the fingerprints that are known."""
        x, y, weight = arrays
        self.arrays = map_leaves(read_only, x), map_leaves(read_only, y), None if weight is None else read_only(weight)
        self.rows, self.columns, self._digests = rows_in(y), columns, digests
        self._memory: dict[str, Array] = {}

    def pieces(self, size: int, start: int, order: tuple[int, int] | None, epoch: int = 0) -> Generator[Piece]:
        """Give the rows from ``start`` on in pieces, which are cut into batches of ``size`` rows: here one piece.

        The order is that of (seed, epoch), or None for the data's own. Each piece but the last holds whole batches.
        """
        rows = None if order is None else permutation(self.rows, *order)
        yield Piece(self.arrays, min(size, self.rows), start, rows, self._memory)

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None, epoch: int = 0) -> Array:
        """Return which rows of the data the first of those batches holds, in its order."""
        rows = np.arange(self.rows) if order is None else permutation(self.rows, *order)
        return rows[start : start + size]

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return fingerprints(*self.arrays, self._digests)


class DatasetSource:
    """A Dataset, read in blocks and checked as it is read."""

    def __init__(self, dataset: Dataset, checks: PartChecks) -> None:
        """Check the length; rows are checked when they are read."""
        self.dataset, self.checks = dataset, checks
        name = checks.name
        try:
            self.rows = len(dataset)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: argument 'data' must have a number of rows; its len() says: {error}") from None
        if self.rows == 0:
            raise DataError(f"{name}: argument 'data' must have at least one row; got a Dataset of length 0")

    @property
    def columns(self) -> Columns:
        """The columns of the frames x and y."""
        return self.checks.columns

    def pieces(self, size: int, start: int, order: tuple[int, int] | None, epoch: int = 0) -> Generator[Piece]:
        """Give a window after another; a batch that spans two windows is joined from both.

        A Dataset whose ``read_ahead`` is true is read by a thread, a window ahead.
        """
        windows = ((_rows_in(window), partial(self._read, window, order)) for window in self._windows(order))
        pieces = cut(windows, min(size, self.rows), start)
        return ahead(pieces) if getattr(self.dataset, "read_ahead", False) else pieces

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None, epoch: int = 0) -> Array:
        """Return which rows of the data the batch from ``start`` holds; it may span windows."""
        parts: list[Array] = []
        stop = 0
        for window in self._windows(order):
            first, stop = stop, stop + _rows_in(window)
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

    def _windows(self, order: tuple[int, int] | None) -> Iterator[Blocks]:
        """Give the blocks of each window: as many as have no more than ``WINDOW_BLOCKS * BLOCK_ROWS`` rows together.

        Parts that the Dataset reads as a whole are shuffled as a whole, and cut into blocks of ``BLOCK_ROWS``.
        """
        starts = parts_of(self.dataset, self.rows)
        ends = np.append(starts[1:], self.rows)
        places = range(len(starts)) if order is None or self._fits else permutation(len(starts), *order)
        window: Blocks = []
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

    def _permuted(self, window: Blocks, order: tuple[int, int]) -> Array:
        """Return the order of a window's rows, by their places in it."""
        return permutation(_rows_in(window), *order, *([] if self._fits else [window[0][0]]))

    def _read(self, window: Blocks, order: tuple[int, int] | None, rest: Batch | None) -> tuple[Batch, Array | None]:
        """Return the rows of a window, after those that are left from the one before, and their order."""
        reads = self._runs(window) if hasattr(self.dataset, "starts") else window
        blocks = (self._read_block(start, stop) for start, stop in reads)
        held = [] if rest is None else [rest]
        batch = filled(chain(held, blocks), _rows_in(window) + sum(rows_in(y) for _, y, _ in held))
        return batch, None if order is None else self._permuted(window, order)

    @staticmethod
    def _runs(window: Blocks) -> Iterator[tuple[int, int]]:
        """Join blocks that follow one another, up to ``READ_ROWS`` rows: a table of many columns is read faster so."""
        first, last = window[0]
        for start, stop in window[1:]:
            if start != last or stop - first > READ_ROWS:
                yield first, last
                first = start
            last = stop
        yield first, last

    def _read_block(self, start: int, stop: int) -> Batch:
        name = f"{type(self.dataset).__name__}.read({start}, {stop})"
        batch = self.checks(read(self.dataset, start, stop, self.checks.name), name, start)
        if (rows := rows_in(batch[1])) != stop - start:
            raise ShapeError(f"{self.checks.name}: {name} must return {stop - start} rows; got {rows}")
        return batch


Source: TypeAlias = ArraySource | DatasetSource | StreamSource
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


def prepare(
    data: Any,
    model: Model,
    losses: tuple[Loss | OutputLoss, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    metrics: Iterable[Metric | Loss] = (),
    *,
    fingerprinted: bool = False,
    preprocess: TableTransform | None = None,
) -> Source:
    """Check ``data`` and make it a source of batches.

    Args:
        data: (x, y), (x, y, weight), a Dataset or a Stream, or what ``adapted`` makes one of; x and y may be dicts of
            arrays by name.
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
    data = adapted(data, name)
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        x, y, weight = parts(data, name)
        x, y = transformed(x, y, model, losses, preprocess, name)
        digests: list[str] = []
        arrays = checked(x, y, weight, model, losses, name, columns, digests if fingerprinted else None)
        if (weights := arrays[2]) is not None and not weights.any():
            raise DataError(f"{name}: argument 'weight' must have a positive sum; all {len(weights)} weights are 0")
        for metric in metrics:
            try:
                if isinstance(metric, Metric):
                    metric.require_targets(*arrays[1:], target_shape(model, arrays[0]))
            except DataError as error:
                raise type(error)(f"{name}: argument 'y': {error}") from None
        return ArraySource(arrays, Columns(column_names(x), column_names(y)), digests)
    checks = PartChecks(model, losses, name, preprocess)
    if isinstance(data, Stream):
        return StreamSource(data, checks)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, checks)
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
