"""Sources: arrays or a Dataset as batches, and the order in which training sees their rows.

The order of an epoch is a pure function of (seed, epoch): a seeded permutation of blocks, then of the rows within a
window of blocks, so that a file of a billion rows is read in large pieces and never indexed whole. Arrays are one
block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import getitem, itemgetter
from typing import Any, Protocol, runtime_checkable

import numpy as np

from framework.arrays import Array
from framework.data.checks import NO_COLUMNS, Batch, checked, columns_of, target_shape
from framework.errors import DataError, ShapeError
from framework.fingerprints import fingerprints
from framework.losses import Loss
from framework.metrics import Metric
from framework.models import Model
from framework.models.shapes import of_rows, shown
from framework.models.state import Columns
from framework.random_streams import random_generator
from framework.trees import Tree, flatten, map_leaves, names, rows_in, sample_shape, take

BLOCK_ROWS = 4096
WINDOW_BLOCKS = 16


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


class Source(Protocol):
    """Checked data of one model and loss, as batches."""

    rows: int
    columns: Columns

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches of ``size`` rows from row ``start`` of the order (seed, epoch); None is the data's own order."""

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None) -> Array:
        """Return which rows of the data the first of those batches holds, in its order."""


class ArraySource:
    """Arrays, checked whole and cast once."""

    def __init__(
        self,
        x: Any,
        y: Any,
        weight: Any,
        model: Model,
        losses: tuple[Loss, ...],
        name: str,
        columns: Columns = NO_COLUMNS,
        metrics: Iterable[Metric] = (),
    ) -> None:
        """Check and cast; ``name`` is the caller in messages, ``columns`` are those that frames must have."""
        self.columns = columns_of(x, y)
        x, y, weight = checked(x, y, weight, model, losses, name, columns)
        self.rows = rows_in(x)
        if weight is not None and not weight.any():
            raise DataError(f"{name}: argument 'weight' must have a positive sum; all {self.rows} weights are 0")
        for metric in metrics:
            try:
                metric.require_targets(y, weight, target_shape(model, x))
            except DataError as error:
                raise type(error)(f"{name}: argument 'y': {error}") from None
        self.x, self.y, self.weight = (
            map_leaves(read_only, x),
            read_only(y),
            None if weight is None else read_only(weight),
        )
        self._memory: dict[str, Array] = {}

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches: views in the data's own order, gathered into reused memory when shuffled."""
        arrays = flatten(self.x) | {"y": self.y} | ({} if self.weight is None else {"weight": self.weight})
        x_of: Callable[[dict[str, Array]], Tree] = itemgetter("x")
        if isinstance(self.x, dict):
            x_of = partial(_assembled, names(self.x))
        rows = None if order is None else permutation(self.rows, *order)
        for first in range(start, self.rows, size):
            part = slice(first, min(first + size, self.rows))
            if rows is None:
                batch = {name: array[part] for name, array in arrays.items()}
            else:
                batch = {name: self._gather(name, array, rows[part], size) for name, array in arrays.items()}
            yield x_of(batch), batch["y"], batch.get("weight")

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None) -> Array:
        """Return which rows of the data the batch from ``start`` holds."""
        rows = np.arange(self.rows) if order is None else permutation(self.rows, *order)
        return rows[start : start + size]

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return fingerprints(self.x, self.y, self.weight)

    def _gather(self, name: str, array: Array, rows: Array, size: int) -> Array:
        kept = self._memory.get(name)
        if kept is None or len(kept) < len(rows):
            kept = self._memory[name] = np.empty((min(size, self.rows), *array.shape[1:]), array.dtype)
        out = kept[: len(rows)]
        np.take(array, rows, axis=0, out=out, mode="clip")  # "clip" because the default mode copies out first
        return out


class DatasetSource:
    """A Dataset, read in blocks and checked as it is read."""

    columns = NO_COLUMNS

    def __init__(self, dataset: Dataset, model: Model, losses: tuple[Loss, ...], name: str) -> None:
        """Check the length; rows are checked when they are read."""
        self.dataset, self.model, self.losses, self.name = dataset, model, losses, name
        self._form = ""
        try:
            self.rows = len(dataset)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: argument 'data' must have a number of rows; its len() says: {error}") from None
        if self.rows == 0:
            raise DataError(f"{name}: argument 'data' must have a row at least; got a Dataset of length 0")

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches; a batch that spans two windows is joined from both."""
        for x, y, weight in self.pieces(size, start, order):
            part_of = take if isinstance(x, dict) else getitem
            for first in range(0, len(y), size):
                part = slice(first, first + size)
                yield part_of(x, part), y[part], None if weight is None else weight[part]

    def pieces(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give the rows from ``start`` on in pieces of whole batches; the last piece may end with a smaller one."""
        rest: list[Batch] = []
        held = 0
        skip = start
        for window in self._windows(order):
            rows = sum(stop - first for first, stop in window)
            if skip >= rows:
                skip -= rows
                continue
            x, y, weight = self._read(window, order)
            rest.append((take(x, slice(skip, None)), y[skip:], None if weight is None else weight[skip:]))
            held += rows - skip
            skip = 0
            x, y, weight = joined(rest)
            whole = held - held % size
            if whole:
                yield take(x, slice(whole)), y[:whole], None if weight is None else weight[:whole]
            rest = [(take(x, slice(whole, None)), y[whole:], None if weight is None else weight[whole:])]
            held -= whole
        if held:
            yield joined(rest)

    def rows_of(self, size: int, start: int, order: tuple[int, int] | None) -> Array:
        """Return which rows of the data the batch from ``start`` holds; it may span windows."""
        parts: list[Array] = []
        stop = 0
        for window in self._windows(order):
            first, stop = stop, stop + sum(end - begin for begin, end in window)
            if stop > start:
                rows = np.concatenate([np.arange(begin, end) for begin, end in window])
                rows = rows if order is None else rows[permutation(len(rows), *order, window[0][0])]
                parts.append(rows[max(0, start - first) : start + size - first])
            if stop >= start + size:
                break
        return np.concatenate(parts)

    def fingerprint(self) -> str:
        """Return a text that changes with the class, the length, and the first and the last block."""
        starts = dict.fromkeys((0, (self.rows - 1) // BLOCK_ROWS * BLOCK_ROWS))
        ends = [self._read_block(start, min(start + BLOCK_ROWS, self.rows)) for start in starts]
        return f"{type(self.dataset).__name__} of {self.rows} rows: {'; '.join(fingerprints(*end) for end in ends)}"

    def _windows(self, order: tuple[int, int] | None) -> Iterator[list[tuple[int, int]]]:
        starts = np.arange(0, self.rows, BLOCK_ROWS)
        if order is not None:
            starts = starts[permutation(len(starts), *order)]
        for first in range(0, len(starts), WINDOW_BLOCKS):
            chosen = starts[first : first + WINDOW_BLOCKS]
            yield [(int(start), min(int(start) + BLOCK_ROWS, self.rows)) for start in chosen]

    def _read(self, window: list[tuple[int, int]], order: tuple[int, int] | None) -> Batch:
        x, y, weight = joined([self._read_block(start, stop) for start, stop in window])
        if order is None:
            return x, y, weight
        rows = permutation(len(y), *order, window[0][0])
        return take(x, rows), y[rows], None if weight is None else weight[rows]

    def _read_block(self, start: int, stop: int) -> Batch:
        name = f"{self.name}: {type(self.dataset).__name__}.read({start}, {stop})"
        got = self.dataset.read(start, stop)
        if not isinstance(got, tuple | list) or len(got) not in (2, 3):
            parts = f"{len(got)} parts" if isinstance(got, tuple | list) else type(got).__name__
            raise DataError(f"{name} must return (x, y) or (x, y, weight); got {parts}")
        weight = got[2] if len(got) == 3 else None
        x, y, weight = checked(got[0], got[1], weight, self.model, self.losses, name, self.columns)
        if self.columns == NO_COLUMNS:
            self.columns = columns_of(got[0], got[1])  # the first block's are those of all
        if len(y) != stop - start:
            raise ShapeError(f"{name} must return {stop - start} rows; got {len(y)}")
        weights = "no weights" if weight is None else "weights"
        form = f"x {shown(of_rows(sample_shape(x)))}, y {shown(('rows', *y.shape[1:]))}, {weights}"
        if form != (self._form or form):
            raise DataError(
                f"{name} must return one form, and weights for all rows or for none; got {form}; before {self._form}"
            )
        self._form = form
        # Copies, because a Dataset may fill the same memory at every read.
        return map_leaves(np.copy, x), y.copy(), None if weight is None else weight.copy()


def read_only(array: Array) -> Array:
    """Return a view that no callback or layer can write through, because the array may be the caller's own."""
    view = array.view()
    view.setflags(write=False)
    return view


def _assembled(form: Any, batch: dict[str, Array]) -> Tree:
    """Return the tree whose leaves are the named arrays of a batch."""
    tree: Tree = map_leaves(batch.__getitem__, form)
    return tree


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
) -> ArraySource | DatasetSource:
    """Check ``data`` and make it a source of batches.

    Args:
        data: (x, y), (x, y, weight) or a Dataset; x may be a dict of arrays by name.
        model: What the data is for.
        losses: What the targets are for: the loss, then metrics that are losses.
        name: The caller, for messages.
        columns: The columns that the frames x and y must have; None are those that the model was fitted with.
        metrics: What else must be able to use the targets. Of a Dataset this shows when its rows are used.

    Raises:
        DataError: The data is of no such form, has no rows, or holds something no model can learn from.
        ShapeError: Shapes do not fit the model or each other.
        DtypeError: Values are not real numbers.
    """
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        weight = data[2] if len(data) == 3 else None
        figures = [metric for metric in metrics if isinstance(metric, Metric)]
        return ArraySource(data[0], data[1], weight, model, losses, name, columns, figures)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, model, losses, name)
    hint = f"write {name}(model, (x, y)), with x and y in brackets"
    if name.endswith("validation"):
        hint = "write validation=(x, y); split(data, 0.2) gives both parts"
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
