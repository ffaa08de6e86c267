"""Splits: a training and a held-out part of arrays or tables."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from framework.arrays import Array, real_array, require_finite
from framework.errors import DataError, SettingsError, ShapeError
from framework.frames import Frame, is_frame, is_series
from framework.parts import names_in, parts
from framework.random_streams import random_generator
from framework.settings.messages import brief, worded
from framework.trees import as_tree, flatten, map_leaves


@worded
def split(
    data: tuple[Any, ...], fraction: float = 0.25, *, seed: int = 0, stratify: bool = False
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays or tables into a training and a held-out part, shuffled.

    Args:
        data: (x, y) or (x, y, weight): arrays or tables with the same number of rows; each may be a dict of them by
            name. Or (table, "target"), as ``fit`` takes it. The same seed takes the same rows of all of these.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the shuffle.
        stratify: Whether each class of y (rows,) has the same share of both parts, as far as rows allow: whole numbers,
            text, or a column of categories or booleans.

    Returns:
        (training, held-out), each a tuple like ``data``; the rows are copies, tables those of the same library.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or leaves a part empty.
        ShapeError: The arrays differ in rows.
        DataError: ``stratify`` is asked for and y holds real numbers, not classes; or a column does not exist.

    Example:
        >>> train, test = split((np.arange(8).reshape(8, 1), np.arange(8)), 0.25)
        >>> train[0].shape, test[1].shape
        ((6, 1), (2,))
        >>> import pandas
        >>> table = pandas.DataFrame({"age": [31, 25, 40, 58], "city": ["Bern", "Rome", "Bern", "Rome"]})
        >>> train, test = split((table, "city"), 0.5, stratify=True)
        >>> train[0]["city"].tolist(), train[1]
        (['Rome', 'Bern'], 'city')
    """
    if not isinstance(data, tuple | list) or not 1 <= len(data) <= 3 or not isinstance(fraction, numbers.Real):
        got = f"{type(data).__name__} and {brief(fraction)}"
        hint = "; write the rows of each part to a file of its own" if hasattr(data, "read") else ""
        raise SettingsError(f"split: give a tuple (x, y) and a fraction; got {got}{hint}")
    trees = {
        i: as_tree(part, f"split: argument 'data[{i}]'", _leaf)
        for i, part in enumerate(data)
        if not names_in(data[0], part)
    }
    if not 0 < fraction < 1:
        raise SettingsError(f"split: argument 'fraction' must be between 0 and 1; got {fraction!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise SettingsError(f"split: argument 'seed' must be a whole number, 0 or more; got {seed!r}")
    if not isinstance(stratify, bool | np.bool_):
        raise SettingsError(
            f"split: argument 'stratify' must be True, for the classes y, or False; got {brief(stratify)}"
        )
    shapes = {leaf: _shape(part) for i, tree in trees.items() for leaf, part in flatten(tree, f"data[{i}]").items()}
    counts = {shape[:1] for shape in shapes.values()}
    if len(counts) != 1 or counts == {()}:
        got = ", ".join(f"{leaf} {shape}" for leaf, shape in shapes.items())
        raise ShapeError(f"split: arrays must have the same number of rows; got {got}")
    labels = parts(data, "split")[1] if len(data) > 1 else None
    order = random_generator(seed, "split").permutation(*counts.pop())
    held = round(len(order) * fraction)
    if stratify and len(data) == 1:
        raise SettingsError("split: stratify needs the classes: give (x, y)")
    if stratify:
        order, held = _stratified(order, _classes(labels), fraction)
    if not 0 < held < len(order):
        raise SettingsError(f"split: {fraction} of {len(order)} rows leaves a part empty; give more rows")
    train, held_out = (
        tuple(_rows(trees[i], rows) if i in trees else part for i, part in enumerate(data))
        for rows in (order[held:], order[:held])
    )
    return train, held_out


def _leaf(value: Any, name: str) -> Any:
    """Return a table or its column as it is, classes as an array of text, and anything else as an array of numbers."""
    if is_frame(value) or is_series(value):
        return value
    texts = _texts(value)
    return real_array(value, name) if texts is None else texts


def _texts(value: Any) -> Array | None:
    """Return an array or a list of text as an array, which may have None where a text is missing; else None."""
    held = value.ravel() if isinstance(value, np.ndarray) else value
    if not isinstance(held, list | tuple | np.ndarray) or not len(held) or not isinstance(held[0], str | None):
        return None
    return np.asarray(value) if all(isinstance(item, str | None) for item in held) else None


def _shape(leaf: Any) -> tuple[int, ...]:
    if isinstance(leaf, np.ndarray):
        return tuple(leaf.shape)
    frame = Frame(leaf, "split")
    return (frame.rows,) if is_series(leaf) else (frame.rows, len(frame.names))


def _rows(tree: Any, rows: Array) -> Any:
    """Return some rows of each array, table or column."""
    return map_leaves(lambda leaf: leaf[rows] if isinstance(leaf, np.ndarray) else Frame(leaf).take(rows).native, tree)


def _classes(labels: Any) -> Array:
    """Return a number for the class of each row."""
    name = "split: argument 'data[1]'"
    if is_frame(labels) and len((frame := Frame(labels, name)).names) == 1:
        labels = frame.column(*frame.names)
    if is_series(labels) and (frame := Frame(labels, name)).kind(*frame.names) in ("text", "category"):
        codes, _ = frame.texts(*frame.names)
        if (codes < 0).any():
            where = frame.place(frame.names[0], int(np.argmin(codes)))
            raise DataError(f"{name} must have a class in each row; got none in {where}")
        return codes
    if (texts := _texts(labels)) is not None and texts.ndim == 1:
        if None in (texts := texts.tolist()):
            raise DataError(f"{name} must have a class in each row; got none in row {texts.index(None)}")
        return np.unique(texts, return_inverse=True)[1]
    if isinstance(labels, dict) or (array := real_array(labels, name)).ndim != 1:
        got = "a dict" if isinstance(labels, dict) else array.shape
        raise ShapeError(f"split: stratify needs one class per row, (rows,); got {got}")
    require_finite(array, name, labels)  # NaN equals no class
    return array


def _stratified(order: Array, labels: Array, fraction: float) -> tuple[Array, int]:
    """Put the held-out rows first: of each class its share, so that the whole is rounded once."""
    shuffled = labels[order]
    rank = np.empty(len(order))
    classes = np.unique(shuffled)
    if 2 * len(classes) > len(order) or not np.array_equal(classes, np.floor(classes)):
        raise DataError(
            "split: stratify needs classes, as whole numbers that come several times; argument 'data[1]' holds "
            f"{len(classes)} different numbers in {len(order)} rows; leave stratify out"
        )
    for label in classes:
        places = np.flatnonzero(shuffled == label)
        rank[places] = (np.arange(len(places)) + 0.5) / len(places)
    by_share = np.argsort(rank, kind="stable")
    return order[by_share], round(len(order) * fraction)
