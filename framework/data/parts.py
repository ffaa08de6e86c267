"""Parts: x, y and weight of some rows, out of what users' functions and objects give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framework.data.frames import parts
from framework.errors import DataError, ShapeError
from framework.settings.messages import brief

Part = tuple[Any, Any, Any]
"""x, y and weight of some rows, as they were given; the weight may be None."""


def parted(item: Any, name: str) -> Part:
    """Return x, y and weight of an item that holds some rows.

    Raises:
        DataError: It is neither (x, y) nor (x, y, weight).

    Example:
        >>> parted(([[1.0]], [2.0]), "item 0")
        ([[1.0]], [2.0], None)
    """
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        form = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"{name} must return (x, y) or (x, y, weight); got {form}")
    return parts(item, name)


def rows_in_part(part: Part, name: str) -> int:
    """Return the number of rows of y, or of its first array.

    Raises:
        ShapeError: y is one number.
    """
    y = part[1]
    while isinstance(y, Mapping) and y:
        y = next(iter(y.values()))
    try:
        return len(y)
    except TypeError:
        raise ShapeError(f"{name} must have rows in y; got one number; for single rows write each='row'") from None


def stacked(items: Sequence[Any], name: str, first: int = 0) -> Part:
    """Return items of one row each as the rows of one part; ``first`` is the number of the first, for messages.

    Raises:
        DataError: An item is neither (x, y) nor (x, y, weight), or unlike the first one.

    Example:
        >>> stacked([([1, 2], 3), ([4, 5], 6)], "data")
        (array([[1, 2],
               [4, 5]]), array([3, 6]), None)
    """
    rows: list[Any] = []
    for number, item in enumerate(items, first):
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            form = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
            raise DataError(f"{name}: row {number} must be (x, y) or (x, y, weight); got {form}")
        if rows and len(item) != len(rows[0]):
            raise DataError(f"{name}: row {number} must have {len(rows[0])} parts, as row {first} has; got {len(item)}")
        rows.append(item)
    columns = zip(*rows, strict=True)
    x, y, *weight = (
        _stacked([*values], f"{name}: {part}", first) for values, part in zip(columns, "xyw", strict=False)
    )
    return x, y, weight[0] if weight else None


def _stacked(values: list[Any], name: str, first: int) -> Any:
    if isinstance(values[0], Mapping):
        keys = values[0].keys()
        if odd := next((place for place, each in enumerate(values) if each.keys() != keys), None):
            raise DataError(
                f"{name} must have the same names in each row; got {brief(sorted(values[odd]))} in row {first + odd}, "
                f"{brief(sorted(keys))} in row {first}"
            )
        return {key: _stacked([each[key] for each in values], f"{name}[{key!r}]", first) for key in keys}
    arrays = [np.asarray(each) for each in values]
    if odd := next((place for place, each in enumerate(arrays) if each.shape != arrays[0].shape), None):
        raise ShapeError(
            f"{name} must have one shape in each row; got {arrays[odd].shape} in row {first + odd}, "
            f"{arrays[0].shape} in row {first}"
        )
    return np.stack(arrays)
