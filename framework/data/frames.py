"""Columns of a table by their names: ``(frame, "target")`` as (x, y, weight)."""

from __future__ import annotations

from typing import Any

from framework.errors import DataError
from framework.frames import Frame, is_frame
from framework.settings.messages import brief

__all__ = ["Frame", "is_frame", "parts"]


def parts(data: tuple[Any, ...] | list[Any], name: str) -> tuple[Any, Any, Any]:
    """Return x, y and weight of (x, y) or (x, y, weight); columns that are given by name are taken out of a frame x.

    Args:
        data: y may be the name of a column of a frame x, or a list of names; weight the name of one.
        name: The caller, for messages.

    Raises:
        DataError: A column does not exist; names the nearest. Or x is not a table, or no column is left in it.

    Example:
        >>> import pandas
        >>> x, y, weight = parts((pandas.DataFrame({"age": [31], "size": [1.8], "late": [1]}), "late"), "fit")
        >>> [*x.columns], y.to_list(), weight
        (['age', 'size'], [1], None)
    """
    x, y, weight = data if len(data) == 3 else (*data, None)
    several = isinstance(y, list | tuple) and is_frame(x) and all(isinstance(label, str) for label in y)
    named = [label for label in ([*y] if several else [y], [weight]) for label in label if isinstance(label, str)]
    if not named:
        return x, y, weight
    if not is_frame(x):
        raise DataError(f"{name}: {brief(named[0])} names a column, which needs a table as x; got {type(x).__name__}")
    frame = Frame(x, f"{name}: argument 'x'")
    if several:
        y = frame.select(y).native
    elif isinstance(y, str):
        y = frame.column(y)
    if isinstance(weight, str):
        weight = frame.column(weight)
    rest = [label for label in frame.names if label not in named]
    if not rest:
        raise DataError(f"{name}: argument 'x' must have a column beside {brief(named)}; got no other")
    return frame.select(rest).native, y, weight
