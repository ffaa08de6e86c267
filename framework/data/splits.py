"""Splits: a training and a held-out part of arrays."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from framework.arrays import Array, require_finite
from framework.errors import DataError, SettingsError, ShapeError
from framework.random_streams import random_generator
from framework.settings.messages import brief, worded
from framework.trees import Tree, flatten, real_tree, rows_in, take


@worded
def split(
    data: tuple[Any, ...], fraction: float = 0.25, *, seed: int = 0, stratify: bool = False
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays into a training and a held-out part, shuffled.

    Args:
        data: (x, y) or (x, y, weight): arrays with the same number of rows; each may be a dict of arrays by name.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the shuffle.
        stratify: Whether each class of y (rows,) has the same share of both parts, as far as rows allow.

    Returns:
        (training, held-out), each a tuple like ``data``; the rows are copies.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or leaves a part empty.
        ShapeError: The arrays differ in rows.
        DataError: ``stratify`` is asked for and y holds real numbers, not classes.

    Example:
        >>> train, test = split((np.arange(8).reshape(8, 1), np.arange(8)), 0.25)
        >>> train[0].shape, test[1].shape
        ((6, 1), (2,))
    """
    if not isinstance(data, tuple | list) or not 1 <= len(data) <= 3 or not isinstance(fraction, numbers.Real):
        got = f"{type(data).__name__} and {brief(fraction)}"
        raise SettingsError(f"split: give a tuple (x, y) and a fraction; got {got}")
    arrays = [real_tree(tree, f"split: argument 'data[{i}]'") for i, tree in enumerate(data)]
    if not 0 < fraction < 1:
        raise SettingsError(f"split: argument 'fraction' must be between 0 and 1; got {fraction!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise SettingsError(f"split: argument 'seed' must be a whole number, 0 or more; got {seed!r}")
    if not isinstance(stratify, bool | np.bool_):
        raise SettingsError(
            f"split: argument 'stratify' must be True, for the classes y, or False; got {brief(stratify)}"
        )
    every = {leaf: array for i, tree in enumerate(arrays) for leaf, array in flatten(tree, f"data[{i}]").items()}
    rows = {array.shape[:1] for array in every.values()}
    if len(rows) != 1 or rows == {()}:
        got = ", ".join(f"{leaf} {array.shape}" for leaf, array in every.items())
        raise ShapeError(f"split: arrays must have the same number of rows; got {got}")
    order = random_generator(seed, "split").permutation(rows_in(arrays[0]))
    held = round(len(order) * fraction)
    if stratify and len(arrays) == 1:
        raise SettingsError("split: stratify needs the classes: give (x, y)")
    if stratify:
        order, held = _stratified(order, arrays[1], fraction)
    if not 0 < held < len(order):
        raise SettingsError(f"split: {fraction} of {len(order)} rows leaves a part empty; give more rows")
    return tuple(take(tree, order[held:]) for tree in arrays), tuple(take(tree, order[:held]) for tree in arrays)


def _stratified(order: Array, labels: Tree, fraction: float) -> tuple[Array, int]:
    """Put the held-out rows first: of each class its share, so that the whole is rounded once."""
    if isinstance(labels, dict) or labels.ndim != 1:
        got = "a dict" if isinstance(labels, dict) else labels.shape
        raise ShapeError(f"split: stratify needs one class a row, (rows,); got {got}")
    require_finite(labels, "split: argument 'data[1]'")  # NaN equals no class
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
