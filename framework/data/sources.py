"""Sources: the data that a user gives, checked and as batches, in the order in which training sees its rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np

from framework.arrays import Array, Batch, column_names
from framework.data.blocks import Dataset, DatasetSource
from framework.data.checks import NO_COLUMNS, PartChecks, checked, fingerprints, target_shape, transformed
from framework.data.indexed import Indexed
from framework.data.pieces import (
    UNREAD,
    Own,
    Piece,
    Position,
    by_place,
    map_batch,
    permutation,
    read_only,
    rows_of_batch,
)
from framework.data.sampling import Chances, Sampling, drawn
from framework.data.streams import BareStream, Stream, StreamSource
from framework.errors import DataError
from framework.frames import is_frame, is_series
from framework.losses import Loss
from framework.losses.several import Figure
from framework.metrics import Metric
from framework.models import Model
from framework.models.parameters import Columns
from framework.parts import parts
from framework.settings.component import Component
from framework.trees import rows_in, sample_shape


class ArraySource:
    """Arrays, checked whole and cast once."""

    def __init__(self, arrays: Batch, columns: Columns, digests: Sequence[str], chances: Chances | None = None) -> None:
        """Hold checked arrays.

        Args:
            arrays: x, y and weight.
            columns: Those of the frames.
            digests: The fingerprints that are known.
            chances: By which rows are drawn; None uses each row once.
        """
        self.arrays = map_batch(read_only, arrays)
        self.rows, self.columns, self._digests = rows_in(arrays[1]), columns, digests
        self._memory: list[Batch] = []
        self._whole, self._chances = self.arrays, None
        if chances is not None:
            chances.learn(self.arrays)
            self._chances, self.arrays = chances.of(self.arrays), chances.without(self.arrays)

    def pieces(self, position: Position, before: tuple[int, str] = UNREAD, own: Own | None = None) -> Generator[Piece]:
        """Give the rows of an epoch from a position on in pieces, which are cut into batches: here one piece.

        Each piece but the last holds whole batches. With ``own`` the rows of each batch are in the order of the data,
        and only those that it names need be taken.
        """
        size, order = min(position.size, self.rows), self._ordered(position, shared=own is not None)
        piece = Piece(self.arrays, size, position.start, order, self._memory)
        piece.lasting = True
        yield piece

    def between(self, size: int, start: int, stop: int) -> Generator[Piece]:
        """Give the rows start..stop in the data's own order."""
        yield Piece(rows_of_batch(self.arrays, slice(start, stop)), size)

    def rows_of(self, position: Position, *, shared: bool = False) -> Array:
        """Return which rows of the data the next batch holds, in its order."""
        rows = self._ordered(position, shared=shared)
        rows = np.arange(self.rows) if rows is None else rows
        return rows[position.start : position.start + position.size]

    def _ordered(self, position: Position, *, shared: bool) -> Array | None:
        order, chances = position.order, self._chances
        if order is None:
            return None
        rows = permutation(self.rows, *order) if chances is None else drawn(chances, self.rows, *order)
        return by_place(rows, min(position.size, self.rows)) if shared else rows

    def fingerprint(self) -> str:
        """Return a text that changes with the data."""
        return fingerprints(*self._whole, self._digests)


Source: TypeAlias = ArraySource | DatasetSource | StreamSource
"""Checked data of one model and loss, as batches."""


def batches(source: Source, size: int, start: int = 0, order: tuple[int, int] | None = None) -> Generator[Batch]:
    """Give batches of ``size`` rows from row ``start`` of the order (seed, epoch); None is the data's own order."""
    with closing(source.pieces(Position(size, start, order))) as pieces:
        for piece in pieces:
            while not piece.done:
                yield piece.take()


def prepare(
    data: Any,
    model: Model,
    losses: tuple[Loss | Figure, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    metrics: Iterable[Metric | Loss] = (),
    *,
    fingerprinted: bool = False,
    sampling: Sampling | None = None,
) -> Source:
    """Check ``data`` and make it a source of batches.

    Args:
        data: (x, y), (x, y, weight), a Dataset or a Stream, or what ``adapt`` makes one of; x and y may be dicts of
            arrays by name.
        model: The model that takes the data.
        losses: The losses that take the targets: the trained one first, then metrics that are losses.
        name: The caller, for messages.
        columns: The columns that the frames x and y must have; None are those that the model was fitted with.
        metrics: The metrics that take the targets; those of a Dataset are checked when its rows are used.
        fingerprinted: Whether the source's fingerprint will be asked for: it is found while arrays are checked.
        sampling: How the rows of a shuffled epoch are drawn; None uses each row once.

    Raises:
        DataError: The data is of no such form, has no rows, or holds something no model can learn from.
        ShapeError: Shapes do not fit the model or each other.
        DtypeError: Values are not real numbers.
    """
    data = adapt(data, name)
    chances = None if sampling is None else Chances(sampling, name)
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        x, y, weight = parts(data, name)
        x, y = transformed(x, y, model, losses, name)
        digests: list[str] = []
        arrays = checked(x, y, weight, model, losses, name, columns, digests if fingerprinted else None)
        if (weights := arrays[2]) is not None and not weights.any():
            raise DataError(f"{name}: argument 'weight' must have a positive sum; all {len(weights)} weights are 0")
        _require_metrics(metrics, arrays, model, name)
        columns = Columns(column_names(x), column_names(y), shape=sample_shape(arrays[0]))
        return ArraySource(arrays, columns, digests, chances)
    checks = PartChecks(model, losses, name)
    if isinstance(data, Stream):
        return StreamSource(data, checks, sampling)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, checks, chances)
    hint = f"write {call_of(name, '(x, y)')}, with x and y in brackets"
    if name.endswith("validation"):
        pair = "(table, 'target'), with the name of the target's column" if is_frame(data) else "(x, y)"
        if name == "report: validation":  # of data that the model was not trained on
            hint = f"write validation={pair}"
        else:
            hint = f"write validation=0.2 to hold out a part of the data, or validation={pair}"
            hint = f"write epochs={data}" if type(data) is int else hint
    elif callable(data) and not isinstance(data, type):
        stream = f"Stream({getattr(data, '__name__', 'function')})"
        hint = f"write {call_of(name, stream)} for a function that gives an epoch"
    elif is_frame(data):
        table = "(table, 'target')"
        hint = f"write {call_of(name, table)}, with the name of the target's column"
    raise DataError(
        f"{name}: argument 'data' must be (x, y), (x, y, weight) or a Dataset with len() and read(start, stop); "
        f"got {type(data).__name__}{f' of {len(data)}' if isinstance(data, tuple | list) else ''}; {hint}"
    )


def _require_metrics(metrics: Iterable[Any], arrays: Batch, model: Model, name: str) -> None:
    """Check that metrics take the targets; a loss has checked them itself."""
    target = arrays[1] if model.preprocess is None else model.preprocess.inverse(arrays[1])
    for metric in metrics:
        try:
            if isinstance(metric, Metric):
                metric.require_targets(target, arrays[2], target_shape(model, arrays[0]))
        except DataError as error:
            raise type(error)(f"{name}: argument 'y': {error}") from None


def adapt(data: Any, name: str) -> Any:
    """Return a Dataset or a Stream for a dataset or a DataLoader of PyTorch, a dataset of Hugging Face, or an iterable.

    Anything else is returned as it is.

    Args:
        data: What a caller of ``fit`` gives.
        name: The caller, for messages.

    Raises:
        DataError: It is a DataLoader that shuffles.

    Example:
        >>> adapt((batch for batch in []), "fit").once
        True
    """
    if isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "with_format"):
        return Indexed(data[0], data[1] if isinstance(data[1], str) else tuple(data[1]))
    known = isinstance(data, tuple | list | str | bytes | Mapping | np.ndarray | Stream | Component | type)
    if known or hasattr(data, "read") or hasattr(data, "dtype") or is_frame(data) or is_series(data):
        return data
    if hasattr(data, "sampler") and hasattr(data, "batch_sampler"):
        return _of_loader(data, name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return Indexed(data)
    return BareStream(data) if hasattr(data, "__iter__") else data


_BEFORE = {"fit_many": "models, ", "resume": "run, ", "split": ""}
"""The argument before the data, of functions that do not take a model first."""


def call_of(name: str, data: str) -> str:
    """Return how a function is given data, for messages.

    Args:
        name: The function, or the function and "validation", as in messages.
        data: The data.

    Example:
        >>> call_of("fit", "(x, y)"), call_of("fit_many", "(x, y)"), call_of("fit: validation", "(x, y)")
        ('fit(model, (x, y))', 'fit_many(models, (x, y))', 'validation=(x, y)')
    """
    if name.endswith("validation"):
        return f"validation={data}"
    return f"{name}({_BEFORE.get(name, 'model, ')}{data})"


def _of_loader(loader: Any, name: str) -> Stream:
    """Return the batches of a DataLoader, whose order is the same in each epoch, as a Stream."""
    samplers = [type(each).__name__ for each in (loader.sampler, loader.batch_sampler)]
    if samplers[0] == "_InfiniteConstantSampler":  # of a dataset without rows by number
        return BareStream(loader)
    if samplers != ["SequentialSampler", "BatchSampler"]:
        kind = samplers[0] if samplers[0] != "SequentialSampler" else samplers[1]
        raise DataError(
            f"{name}: argument 'data' must be a DataLoader with shuffle=False; got a {kind}, whose order resume cannot "
            f"repeat; write {call_of(name, 'loader.dataset')}: the trainer shuffles it, and cuts its batches"
        )
    rows = len(loader) * loader.batch_size if loader.drop_last else len(loader.dataset)

    def batches(_epoch: int) -> Any:  # the same in each
        return loader

    batches.__qualname__ = type(loader).__name__
    return Stream(batches, rows)
