"""Columns of a table by their names: ``(frame, "target")`` as (x, y, weight)."""

from __future__ import annotations

from typing import Any

from framework.errors import DataError
from framework.frames import Frame, is_frame
from framework.settings.messages import brief


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
        _require_one_order(x, y, f"{name}: arguments 'x' and 'y'")
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
            f"{name} must have their rows in one order; the labels of both indexes are the same, but in another order; "
            "write y = y.loc[x.index], or give both reset_index(drop=True) where their rows belong together"
        )
