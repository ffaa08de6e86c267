"""Sources: whatever a user gives as data, in one of three forms: arrays in memory, rows by number, a stream; split."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from framework.base.arrays import Array, real_array, require_finite
from framework.base.errors import DataError, SettingsError, ShapeError
from framework.base.frames import Frame, is_frame, is_series
from framework.base.random_streams import random_generator
from framework.base.settings.component import Component
from framework.base.settings.messages import word_errors
from framework.data.blocks import Dataset, DatasetSource
from framework.data.fingerprints import fingerprint
from framework.data.indexed import Indexed
from framework.data.parts import ArraySource, NumberedSource, Source, texts_of
from framework.data.splits import Draw, Mask, draw_groups, spread_classes
from framework.data.streams import Stream, StreamSource


def source_of(data: Any, name: str, *, alone: bool = False) -> Source:
    """Return the source of whatever a user gives; a source is returned for the caller ``name``.

    Args:
        data: (x, y), (x, y, weight), a Dataset or a Stream; a dataset or a DataLoader of PyTorch, a dataset of Hugging
            Face, (dataset, target), or an iterable of batches. x and y may be dicts of arrays by name.
        name: The caller, for messages.
        alone: Whether a table without targets will do.

    Raises:
        DataError: The type is another one, a Dataset has no rows, or a DataLoader shuffles.

    Example:
        >>> source_of(([[1.0], [2.0]], [0, 1]), "fit").rows, source_of((batch for batch in []), "fit").once
        (2, True)
    """
    if isinstance(data, Source):
        return data if data.name == name else data.with_name(name)
    data = _adapt_data(data, name)
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return ArraySource(tuple(data), name)
    if isinstance(data, Stream):
        return StreamSource(data, name)
    if isinstance(data, Dataset) and not isinstance(data, np.ndarray):
        return DatasetSource(data, name)
    if alone and is_frame(data):
        return ArraySource((data,), name)
    raise _refusal(data, name, "(table, 'target')" if alone else "(x, y)")


def _adapt_data(data: Any, name: str) -> Any:
    """Return an object of another library and an iterable as a Dataset or a Stream, and anything else as it is."""
    if isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "with_format"):
        return Indexed(data[0], data[1] if isinstance(data[1], str) else tuple(data[1]))
    known = isinstance(data, tuple | list | str | bytes | Mapping | np.ndarray | Stream | Component | type)
    if known or hasattr(data, "read") or hasattr(data, "dtype") or is_frame(data) or is_series(data):
        return data
    if hasattr(data, "sampler") and hasattr(data, "batch_sampler"):
        return _of_loader(data, name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return Indexed(data)
    return Stream.over(data) if hasattr(data, "__iter__") else data


def _refusal(data: Any, name: str, pair: str) -> DataError:
    """Return the error for an object of another type; it says how to write the call, with ``pair`` for the data."""
    hint = f"write {call_of(name, pair)}, with {pair[1:-1].replace(',', ' and')} in brackets"
    if name.endswith("validation"):
        pair = "(table, 'target'), with the name of the target's column" if is_frame(data) else "(x, y)"
        if name == "report: validation":  # of data that the model was not trained on
            hint = f"write validation={pair}"
        else:
            hint = f"write validation=0.2 to hold out a part of the data, or validation={pair}"
            hint += f"; for the number of epochs, write epochs={data}" if type(data) is int else ""
    elif callable(data) and not isinstance(data, type):
        stream = f"Stream({getattr(data, '__name__', 'function')})"
        hint = f"write {call_of(name, stream)} for a function that gives an epoch"
    elif is_frame(data):
        table = "(table, 'target')"
        hint = f"write {call_of(name, table)}, with the name of the target's column"
    return DataError(
        f"{name}: argument 'data' must be (x, y), (x, y, weight) or a Dataset with len() and read(start, stop); "
        f"got {type(data).__name__}{f' of {len(data)}' if isinstance(data, tuple | list) else ''}; {hint}"
    )


_BEFORE = {"fit_many": "models, ", "resume": "run, ", **dict.fromkeys(("split", "Preprocess.fit", "Preprocess.of"), "")}
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
    samplers = [type(sampler).__name__ for sampler in (loader.sampler, loader.batch_sampler)]
    if samplers[0] == "_InfiniteConstantSampler":  # of a dataset without rows by number
        return Stream.over(loader)
    if samplers != ["SequentialSampler", "BatchSampler"]:
        kind = samplers[0] if samplers[0] != "SequentialSampler" else samplers[1]
        raise DataError(
            f"{name}: argument 'data' must be a DataLoader with shuffle=False; got a {kind}, whose order resume cannot "
            f"repeat; write {call_of(name, 'loader.dataset')}: the trainer shuffles it, and cuts its batches"
        )
    rows = len(loader) * loader.batch_size if loader.drop_last else len(loader.dataset)
    stream = Stream(lambda _: loader, rows)
    stream.name = f"Stream({type(loader).__name__})"
    return stream


@word_errors
def split(
    data: tuple[Any, ...], fraction: float = 0.25, *, seed: int = 0, stratify: bool = False, groups: Any = None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays or tables into a training and a held-out part, shuffled; or the rows of files, in their order.

    Args:
        data: (x, y) or (x, y, weight): arrays or tables with the same number of rows; each may be a dict of them by
            name. Or (table, "target"), as ``fit`` takes it. The same seed takes the same rows of all of these. Or a
            Dataset, such as ``CSV`` and ``Parquet``: both parts are Datasets, as ``hold_out`` gives them.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the shuffle.
        stratify: Whether each class of y (rows,) has the same share of both parts, as far as rows allow: whole numbers,
            text, or a column of categories or booleans. Data in memory only.
        groups: The group of each row, such as a patient, (rows,): numbers, text or a column. Rows of one group are all
            in one part, whose size is then as near to the fraction as groups allow.

    Returns:
        (training, held-out), each a tuple like ``data``; the rows are copies, tables those of the same library.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or leaves a part empty, or all rows are of one group.
        ShapeError: The arrays differ in rows.
        DataError: ``stratify`` is asked for and y holds real numbers, not classes; or a row has no group, or a column
            does not exist.

    Example:
        >>> train, test = split((np.arange(8).reshape(8, 1), np.arange(8)), 0.25)
        >>> train[0].shape, test[1].shape
        ((6, 1), (2,))
        >>> import pandas
        >>> table = pandas.DataFrame({"age": [31, 25, 40, 58], "city": ["Bern", "Rome", "Bern", "Rome"]})
        >>> train, test = split((table, "city"), 0.5, stratify=True)
        >>> train[0]["city"].tolist(), train[1]
        (['Rome', 'Bern'], 'city')
        >>> split((np.arange(6), np.arange(6)), 0.5, groups=["Ann", "Bob", "Bob", "Cy", "Cy", "Cy"])[1][0]
        array([4, 3, 5])
    """
    alone = isinstance(data, tuple | list) and len(data) == 1
    source = ArraySource(tuple(data), "split") if alone else source_of(data, "split")
    if not isinstance(fraction, numbers.Real) or not 0 < fraction < 1:
        raise SettingsError("must be between 0 and 1", name="split: argument 'fraction'", got=fraction)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise SettingsError("must be a whole number, 0 or more", name="split: argument 'seed'", got=seed)
    if not isinstance(stratify, bool | np.bool_):
        raise SettingsError(
            "must be True, for the classes y, or False", name="split: argument 'stratify'", got=stratify
        )
    codes = None if groups is None else _classes(groups, "split: argument 'groups'", "group")
    if codes is not None and len(codes) != source.rows:
        raise ShapeError(
            f"must have the {source.rows} rows of the data", name="split: argument 'groups'", got=len(codes)
        )
    if not isinstance(source, ArraySource):
        if stratify:
            raise SettingsError(f"split: stratify needs data in memory; got a {source.kind}; leave stratify out")
        train, test = hold_out(source, float(fraction), seed, "split: argument 'fraction'", groups=codes)
        return train.given, test.given
    rows, (_, labels, *_) = source.rows, source.first
    order = random_generator(seed, "split").permutation(rows)
    held, classes = round(rows * fraction), _strata(source, labels) if stratify else None
    if classes is not None:
        order = spread_classes(order, classes)  # from each class its share of the first rows
    if codes is not None:
        mask = draw_groups(codes, classes, float(fraction), int(seed), None, "split: argument 'fraction'")[order]
        order, held = np.concatenate([order[mask], order[~mask]]), int(mask.sum())
    if not 0 < held < rows:
        raise SettingsError(f"{fraction} of {rows} rows leaves a part empty", where="split", advice="give more rows")
    return source.take(order[held:]).given, source.take(order[:held]).given


def _strata(source: ArraySource, labels: Any) -> Array:
    """Return a number for the class of each row, for ``split``."""
    if len(source.given) == 1:
        raise SettingsError("stratify needs the classes: give (x, y)", where="split", argument="stratify")
    codes = _classes(labels, "split: argument 'data[1]'", "class")
    classes = np.unique(codes)
    if 2 * len(classes) > source.rows or not np.array_equal(classes, np.floor(classes)):
        raise DataError(
            "split: stratify needs classes, as whole numbers that come several times; argument 'data[1]' holds "
            f"{len(classes)} different numbers in {source.rows} rows; leave stratify out"
        )
    return codes


def hold_out(
    data: Any,
    fraction: float,
    seed: int | None,
    name: str,
    fold: int | None = None,
    classes: Array | None = None,
    groups: Array | None = None,
) -> tuple[NumberedSource, NumberedSource]:
    """Return the training part and the held-out part of some data, each in the order of the data, as sources.

    The seed draws a part of each 65,536 consecutive rows. Which rows these are depends on the seed,
    the fraction and the number of rows alone: they are the same from memory and from files of any kind. With classes a
    part of all rows of each class is drawn.

    Args:
        data: A source, or what ``source_of`` makes one of. A Dataset is read in blocks: to give a block of n rows,
            about n / fraction rows that follow one another are read, and 65,536 at most.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the draw; None holds out the last rows.
        name: The caller and its argument, for messages.
        fold: The number of a drawn part, from 0 to 1 / fraction - 1: over all folds, each row is held out once. Without
            a seed the data has one block more, and fold k trains on those before block k + 1, as scikit-learn's
            TimeSeriesSplit: no row is predicted from a later one. None holds out one part, drawn or the last.
        classes: A number for the class of each row, (rows,): each class has its share of every part, as far as rows
            allow, and a class of one row is trained on, unless its fold is held out. None draws from all rows alike.
        groups: A number for the group of each row, (rows,), for which there must be a seed: see ``draw_groups``.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or a part has no rows; or data has no rows by number; or
            there are fewer groups than parts.

    Example:
        >>> train, held_out = hold_out((np.arange(8.0), np.arange(8)), 0.25, None, "hold_out")
        >>> train.given[1], held_out.given[1]
        (array([0, 1, 2, 3, 4, 5]), array([6, 7]))
    """
    if not 0 < fraction < 1:
        raise SettingsError("must be between 0 and 1, such as 0.2", name=name, got=fraction)
    source = source_of(data, name) if not isinstance(data, Source) else data
    if not isinstance(source, NumberedSource):
        raise SettingsError(f"needs rows by number; got a {source.kind}; give held-out data by itself", name=name)
    if seed is not None or fold is None:
        drawn = Draw(source.rows, fraction, seed, fold)
    else:
        folds = round(1 / fraction)
        if not (size := source.rows // (folds + 1)):
            raise SettingsError(f"{name} = {fraction:.3g} needs at least {folds + 1} rows in order; got {source.rows}")
        end = source.rows - (folds - 1 - fold) * size
        drawn = Draw(end, size / end, None)
        if end < source.rows:
            source = source.select(Draw(source.rows, 1 - end / source.rows, None), f"the first {end}", held=False)
    draw = drawn if classes is None else Mask(drawn.mask(0, drawn.count, classes))
    by = "order" if seed is None else f"seed {seed}{'' if classes is None else ' and class'}"
    if groups is not None:
        if seed is None:
            raise SettingsError("groups are drawn by a seed: the last rows may cut one in two", name=name)
        draw = Mask(draw_groups(groups, classes, fraction, seed, fold, name))
        by += f" of groups {fingerprint(groups)}"
    by += "" if fold is None else f", fold {fold}"
    for held, what in ((True, "validate"), (False, "train")):
        if not sum(draw.size(start, held=held) for start in draw.starts):
            raise SettingsError(f"{name} = {fraction} of {draw.count} rows leaves nothing to {what} with")
    others = source.select(draw, f"without the held-out {fraction} by {by}", held=False)
    return others, source.select(draw, f"{fraction} held out by {by}", held=True)


def _classes(labels: Any, name: str, what: str) -> Array:
    """Return a number for the class or the group of each row; ``name`` and ``what`` are for messages."""
    if is_frame(labels) and len((frame := Frame(labels, name)).names) == 1:
        labels = frame.column(*frame.names)
    if is_series(labels) and (frame := Frame(labels, name)).kind(*frame.names) in ("text", "category"):
        codes, _ = frame.texts(*frame.names)
        if (codes < 0).any():
            row = int(np.argmin(codes))
            where = frame.place(frame.names[0], row)
            raise DataError(f"must have a {what} in each row; got none in {where}", name=name, row=row)
        return codes
    if (texts := texts_of(labels)) is not None and texts.ndim == 1:
        if None in (texts := texts.tolist()):
            row = texts.index(None)
            raise DataError(f"must have a {what} in each row; got none in row {row}", name=name, row=row)
        return np.unique(texts, return_inverse=True)[1]
    if isinstance(labels, dict) or (array := real_array(labels, name)).ndim != 1:
        got = "a dict" if isinstance(labels, dict) else array.shape
        needs = "stratify needs" if what == "class" else "groups needs"
        raise ShapeError(f"{needs} one {what} per row, (rows,); got {got}", where="split")
    require_finite(array, name, labels)  # NaN equals no class
    return array
