"""Data: arrays or a Dataset, and the order in which training sees their rows.

The order of an epoch is a pure function of (seed, epoch): a seeded permutation of blocks, then of the rows within a
window of blocks, so that a file of a billion rows is read in large pieces and never indexed whole. Arrays are one
block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from framework.arrays import Array, real_array, require_finite
from framework.errors import DataError, SettingsError, ShapeError
from framework.losses import Loss
from framework.losses.requirements import require_weights
from framework.models import Model
from framework.models.base import fits, shown
from framework.random_streams import random_generator

Batch = tuple[Array, Array, Array | None]

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
    columns: Any

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches of ``size`` rows from row ``start`` of the order (seed, epoch); None is the data's own order."""


class ArraySource:
    """Arrays, checked whole and cast once."""

    def __init__(
        self, x: Any, y: Any, weight: Any, model: Model, losses: tuple[Loss, ...], name: str, columns: Any = None
    ) -> None:
        """Check and cast; ``name`` is the caller in messages, ``columns`` are those that a frame must have."""
        self.columns = getattr(x, "columns", None)
        x, y, weight = checked(x, y, weight, model, losses, name, columns)
        self.rows = len(x)
        if weight is not None and not weight.any():
            raise DataError(f"{name}: argument 'weight' must have a positive sum; all {self.rows} weights are 0")
        self.x, self.y, self.weight = read_only(x), read_only(y), None if weight is None else read_only(weight)
        self._memory: dict[str, Array] = {}

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches: views in the data's own order, gathered into reused memory when shuffled."""
        arrays = {"x": self.x, "y": self.y} | ({} if self.weight is None else {"weight": self.weight})
        rows = None if order is None else permutation(self.rows, *order)
        for first in range(start, self.rows, size):
            part = slice(first, min(first + size, self.rows))
            if rows is None:
                batch = {name: array[part] for name, array in arrays.items()}
            else:
                batch = {name: self._gather(name, array, rows[part], size) for name, array in arrays.items()}
            yield batch["x"], batch["y"], batch.get("weight")

    def _gather(self, name: str, array: Array, rows: Array, size: int) -> Array:
        kept = self._memory.get(name)
        if kept is None or len(kept) < len(rows):
            kept = self._memory[name] = np.empty((min(size, self.rows), *array.shape[1:]), array.dtype)
        out = kept[: len(rows)]
        np.take(array, rows, axis=0, out=out, mode="clip")  # "clip" because the default mode copies out first
        return out


class DatasetSource:
    """A Dataset, read in blocks and checked as it is read."""

    columns = None

    def __init__(self, dataset: Dataset, model: Model, losses: tuple[Loss, ...], name: str) -> None:
        """Check the length; rows are checked when they are read."""
        self.dataset, self.model, self.losses, self.name = dataset, model, losses, name
        self.rows = len(dataset)
        if self.rows == 0:
            raise DataError(f"{name}: argument 'data' must have a row at least; got a Dataset of length 0")

    def batches(self, size: int, start: int, order: tuple[int, int] | None) -> Iterator[Batch]:
        """Give batches; a batch that spans two windows is joined from both."""
        for x, y, weight in self.pieces(size, start, order):
            for first in range(0, len(x), size):
                part = slice(first, first + size)
                yield x[part], y[part], None if weight is None else weight[part]

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
            rest.append((x[skip:], y[skip:], None if weight is None else weight[skip:]))
            held += rows - skip
            skip = 0
            x, y, weight = joined(rest)
            whole = held - held % size
            if whole:
                yield x[:whole], y[:whole], None if weight is None else weight[:whole]
            rest = [(x[whole:], y[whole:], None if weight is None else weight[whole:])]
            held -= whole
        if held:
            yield joined(rest)

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
        rows = permutation(len(x), *order, window[0][0])
        return x[rows], y[rows], None if weight is None else weight[rows]

    def _read_block(self, start: int, stop: int) -> Batch:
        name = f"{self.name}: {type(self.dataset).__name__}.read({start}, {stop})"
        got = self.dataset.read(start, stop)
        if not isinstance(got, tuple | list) or len(got) not in (2, 3):
            parts = f"{len(got)} parts" if isinstance(got, tuple | list) else type(got).__name__
            raise DataError(f"{name} must return (x, y) or (x, y, weight); got {parts}")
        x, y, weight = checked(got[0], got[1], got[2] if len(got) == 3 else None, self.model, self.losses, name)
        if len(x) != stop - start:
            raise ShapeError(f"{name} must return {stop - start} rows; got {len(x)}")
        # Copies, because a Dataset may fill the same memory at every read.
        return x.copy(), y.copy(), None if weight is None else weight.copy()


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
    data: Any, model: Model, losses: tuple[Loss, ...], name: str, columns: Any = None
) -> ArraySource | DatasetSource:
    """Check ``data`` and make it a source of batches.

    Args:
        data: (x, y), (x, y, weight) or a Dataset.
        model: What the data is for.
        losses: What the targets are for: the loss, then metrics that are losses.
        name: The caller, for messages.
        columns: The columns that a frame must have; None are those that the model was fitted with.

    Raises:
        DataError: The data is of no such form, has no rows, or holds something no model can learn from.
        ShapeError: Shapes do not fit the model or each other.
        DtypeError: Values are no real numbers.
    """
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return ArraySource(data[0], data[1], data[2] if len(data) == 3 else None, model, losses, name, columns)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, model, losses, name)
    raise DataError(
        f"{name}: argument 'data' must be (x, y), (x, y, weight) or a Dataset with len() and read(start, stop); "
        f"got {type(data).__name__}{'; write (x, y) in brackets' if isinstance(data, np.ndarray | list) else ''}"
    )


def checked(
    x: Any, y: Any, weight: Any, model: Model, losses: tuple[Loss, ...], name: str, columns: Any = None
) -> Batch:
    """Return x, y and weight as arrays that fit the model and the loss; see ``prepare``."""
    x = checked_rows(x, model, name, columns)
    if len(x) == 0:
        raise DataError(f"{name}: argument 'x' must have a row at least; got shape {x.shape}")
    y = real_array(y, f"{name}: argument 'y'")
    if y.ndim == 0 or len(y) != len(x):
        raise ShapeError(f"{name}: arguments 'x' and 'y' must have as many rows; got shapes {x.shape} and {y.shape}")
    sample_shape = model.output_shape if None not in model.output_shape else model.output(x[:1])[1].shape[1:]
    shape = (len(x), *(size for size in sample_shape if size is not None))
    if not losses[0].by_row or y.shape == shape:
        y = real_array(y, f"{name}: argument 'y'", model.dtype)
    require_finite(y, f"{name}: argument 'y'")
    forms = [loss.require_targets(y, shape, f"{name}: argument 'y'") for loss in losses]
    y = forms[0]  # that of the loss which is trained on
    if weight is not None:
        weight = require_weights(weight, len(x), f"{name}: argument 'weight'", model.dtype)
    return x, y, weight


def checked_rows(x: Any, model: Model, name: str, expected_columns: Any = None) -> Array:
    """Return x as rows of the model's dtype, finite and of its input shape.

    Raises:
        ShapeError: x is no batch of the model's samples.
        DataError: A value is not finite; or a frame's columns are not those that the model was fitted with.
    """
    known = None if expected_columns is None else tuple(map(str, expected_columns))
    model.require_columns(x, f"{name}: argument 'x'", known)
    array = real_array(x, f"{name}: argument 'x'", model.dtype)
    if not array.shape or not fits(array.shape[1:], model.input_shape):
        hint = "; one feature is x.reshape(-1, 1), one sample x[None]" if array.ndim == 1 else ""
        expected = shown(("rows", *model.input_shape))
        raise ShapeError(f"{name}: argument 'x' must have the shape {expected}; got {array.shape}{hint}")
    require_finite(array, f"{name}: argument 'x'")
    return array


def joined(parts: list[Batch]) -> Batch:
    """Join batches into one.

    Raises:
        DataError: Some have weights and some have not.
    """
    if len(parts) == 1:
        return parts[0]
    weights = [weight for _, _, weight in parts if weight is not None]
    if weights and len(weights) != len(parts):
        raise DataError("Dataset.read must return weights for all rows or for none")
    return (
        np.concatenate([x for x, _, _ in parts]),
        np.concatenate([y for _, y, _ in parts]),
        np.concatenate(weights) if weights else None,
    )


def split(
    data: tuple[Any, ...], fraction: float = 0.25, *, seed: int = 0, stratify: bool = False
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Split arrays into a training and a held-out part, shuffled.

    Args:
        data: (x, y) or (x, y, weight): arrays with as many rows.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: What the shuffle is drawn from.
        stratify: Whether each class of y (rows,) has the same share of both parts, as far as rows allow.

    Returns:
        (training, held-out), each a tuple like ``data``; the rows are copies.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or leaves a part empty.
        ShapeError: The arrays differ in rows.

    Example:
        >>> train, test = split((np.arange(8).reshape(8, 1), np.arange(8)), 0.25)
        >>> train[0].shape, test[1].shape
        ((6, 1), (2,))
    """
    if not isinstance(data, tuple | list) or not 1 <= len(data) <= 3 or isinstance(fraction, str):
        raise SettingsError(f"split: give a tuple (x, y) and a fraction; got {type(data).__name__} and {fraction!r}")
    arrays = [real_array(array, f"split: argument 'data[{i}]'") for i, array in enumerate(data)]
    if not 0 < fraction < 1:
        raise SettingsError(f"split: argument 'fraction' must be between 0 and 1; got {fraction!r}")
    if len({array.shape[:1] for array in arrays}) != 1 or arrays[0].ndim == 0:
        raise ShapeError(f"split: arrays must have as many rows; got {', '.join(str(a.shape) for a in arrays)}")
    order = random_generator(seed, "split").permutation(len(arrays[0]))
    held = round(len(order) * fraction)
    if stratify and len(arrays) == 1:
        raise SettingsError("split: stratify needs the classes: give (x, y)")
    if stratify:
        order, held = _stratified(order, arrays[1], fraction)
    if not 0 < held < len(order):
        raise SettingsError(f"split: {fraction} of {len(order)} rows leaves a part empty; give more rows")
    return tuple(array[order[held:]] for array in arrays), tuple(array[order[:held]] for array in arrays)


def _stratified(order: Array, labels: Array, fraction: float) -> tuple[Array, int]:
    """Put the held-out rows first: of each class its share, so that the whole is rounded once."""
    if labels.ndim != 1:
        raise ShapeError(f"split: stratify needs one class a row, (rows,); got {labels.shape}")
    shuffled = labels[order]
    rank = np.empty(len(order))
    for label in np.unique(shuffled):
        places = np.flatnonzero(shuffled == label)
        rank[places] = (np.arange(len(places)) + 0.5) / len(places)
    by_share = np.argsort(rank, kind="stable")
    return order[by_share], round(len(order) * fraction)
