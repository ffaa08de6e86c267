"""Parts: x, y and weight of some rows, out of what users' functions and objects give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framework.errors import DataError, ShapeError
from framework.frames import Frame, is_frame
from framework.settings.messages import brief

Part = tuple[Any, Any, Any]
"""x, y and weight of some rows, as they were given; the weight may be None."""


def parts(data: tuple[Any, ...] | list[Any], name: str) -> tuple[Any, Any, Any]:
    """Return x, y and weight of (x, y) or (x, y, weight); columns that are given by name are taken out of a frame x.

    Args:
        data: y may be the name of a column of a frame x, or a list of names; weight the name of one.
        name: The caller, for messages.

    Raises:
        DataError: A column does not exist; names the nearest. Or x is not a table, or no column is left in it. Or x and
            y are of pandas, and their indexes hold the same labels in another order.

    Example:
        >>> import pandas
        >>> x, y, weight = parts((pandas.DataFrame({"age": [31], "size": [1.8], "late": [1]}), "late"), "fit")
        >>> [*x.columns], y.to_list(), weight
        (['age', 'size'], [1], None)
    """
    x, y, weight = data if len(data) == 3 else (*data, None)
    named = [*names_in(x, y), *names_in(x, weight)]
    if not named:
        for part, other in (("y", y), ("weight", weight)):
            _require_one_order(x, other, f"{name}: arguments 'x' and '{part}'")
        return x, y, weight
    if not is_frame(x):
        raise DataError(f"{name}: {brief(named[0])} names a column, which needs a table as x; got {type(x).__name__}")
    frame = Frame(x, f"{name}: argument 'x'")
    if (
        not isinstance(y, str)
        and len(y) == frame.rows
        and (others := [label for label in names_in(x, y) if label not in frame.names])
    ):
        raise DataError(
            f"{name}: argument 'x' has no column {others[0]!r}: text in a list beside a table names its columns; "
            "give classes as a column of the table or as an array, np.array(...)"
        )
    if names_in(x, y):
        y = frame.column(y) if isinstance(y, str) else frame.select(y).native
    if isinstance(weight, str):
        weight = frame.column(weight)
    rest = [label for label in frame.names if label not in named]
    if not rest:
        raise DataError(f"{name}: argument 'x' must have a column beside {brief(named)}; got no other")
    return frame.select(rest).native, y, weight


def names_in(x: Any, part: Any) -> list[str]:
    """Return the names of columns that y or weight is given by: a text, or texts in a list beside a table x.

    Example:
        >>> names_in(None, "late"), names_in(None, ["late"]), names_in(None, [1.0])
        (['late'], [], [])
    """
    if isinstance(part, str):
        return [part]
    several = isinstance(part, list | tuple) and is_frame(x) and all(isinstance(label, str) for label in part)
    return [*part] if several else []


def _require_one_order(x: Any, y: Any, name: str) -> None:
    """Refuse tables of pandas whose rows have the same labels in another order: rows are paired by their place."""
    first, second = (
        getattr(one, "index", None) if type(one).__module__.startswith("pandas") else None for one in (x, y)
    )
    if first is None or second is None or len(first) != len(second) or first.equals(second):
        return
    if first.is_unique and first.isin(second).all():
        raise DataError(
            f"{name} must have their rows in one order; both indexes hold the same labels, in another order; where the "
            "labels belong together, write y.loc[x.index]; where the places do, reset_index(drop=True) of both"
        )


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


def stacked(items: Sequence[Any], name: str, numbers: Sequence[int] | None = None) -> Part:
    """Return items of one row each as the rows of one part; ``numbers`` are those of the rows, for messages.

    Raises:
        DataError: An item is neither (x, y) nor (x, y, weight), or unlike the first one.

    Example:
        >>> stacked([([1, 2], 3), ([4, 5], 6)], "data")
        (array([[1, 2],
               [4, 5]]), array([3, 6]), None)
    """
    rows: list[Any] = []
    numbers = range(len(items)) if numbers is None else numbers
    for number, item in zip(numbers, items, strict=True):
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            form = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
            raise DataError(f"{name}: row {number} must be (x, y) or (x, y, weight); got {form}")
        if rows and len(item) != len(rows[0]):
            raise DataError(
                f"{name}: row {number} must have {len(rows[0])} parts, as row {numbers[0]} has; got {len(item)}"
            )
        rows.append(item)
    columns = zip(*rows, strict=True)
    x, y, *weight = (
        _stacked([*values], f"{name}: {part}", numbers) for values, part in zip(columns, "xyw", strict=False)
    )
    return x, y, weight[0] if weight else None


def _stacked(values: list[Any], name: str, numbers: Sequence[int]) -> Any:
    if isinstance(values[0], Mapping):
        keys = values[0].keys()
        if odd := next((place for place, each in enumerate(values) if each.keys() != keys), None):
            raise DataError(
                f"{name} must have the same names in each row; got {brief(sorted(values[odd]))} in row {numbers[odd]}, "
                f"{brief(sorted(keys))} in row {numbers[0]}"
            )
        return {key: _stacked([each[key] for each in values], f"{name}[{key!r}]", numbers) for key in keys}
    arrays = [np.asarray(each) for each in values]
    if odd := next((place for place, each in enumerate(arrays) if each.shape != arrays[0].shape), None):
        raise ShapeError(
            f"{name} must have one shape in each row; got {arrays[odd].shape} in row {numbers[odd]}, "
            f"{arrays[0].shape} in row {numbers[0]}"
        )
    return np.stack(arrays)
