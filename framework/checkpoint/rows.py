"""The history in a checkpoint: columns of numbers as arrays, so that a save of many epochs takes as long as of a few.

The newest row, and rows with other values than numbers, are JSON.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from framework.arrays import Array
from framework.errors import CheckpointError
from framework.runs.history import History
from framework.runs.packing import pack, unpack

_KINDS = {"i": np.dtype(np.int32), "d": np.dtype(np.float64), "q": np.dtype(np.int64)}


class Rows(BaseModel):
    """The history in a document: the kind of each column of each form, and the rows that are JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    forms: list[dict[str, Literal["d", "q", "n"]]]
    others: dict[str, dict[str, Any]]
    newest: dict[str, Any] | None


def pack_rows(history: History, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return a history as the document says it, and put its columns into ``arrays``."""
    forms, others = history.columns()
    for place, columns in enumerate(forms.values()):
        for number, column in enumerate(columns):
            values = np.array(column)
            same = number > 0 and column[0] == column[-1] and values.tobytes() == values[:1].tobytes() * len(values)
            arrays[f"history.{place}.{number}"] = values[:1] if same else values
    return {
        "forms": [dict(form) for form in forms],
        "others": {str(number): pack(dict(row), f"row.{number}", arrays) for number, row in others.items()},
        "newest": pack(dict(history[-1]), "row.newest", arrays) if len(history) else None,
    }


def unpack_rows(rows: Rows, arrays: dict[str, Array]) -> History:
    """Build the history again.

    Raises:
        CheckpointError: The columns are not those that the document names, or some row is missing.
    """
    found = {int(number): unpack(row, arrays) for number, row in rows.others.items()}
    named: set[str] = set()
    for place, form in enumerate(rows.forms):
        kinds = ["i", *(kind for kind in form.values() if kind != "n")]
        names = [f"history.{place}.{number}" for number in range(len(kinds))]
        named.update(names)
        columns = [arrays[name] for name in names]
        for column, kind in zip(columns, kinds, strict=True):
            if column.dtype != _KINDS[kind] or column.shape not in (columns[0].shape, (1,)) or column.ndim != 1:
                raise CheckpointError("the columns of its history are not those of its document")
        # A column of one number is the same in every row.
        numbers, *values = (np.broadcast_to(column, columns[0].shape).tolist() for column in columns)
        left = iter(values)
        by_key = [[number + 1 for number in numbers] if kind == "n" else next(left) for kind in form.values()]
        for number, *row in zip(numbers, *by_key, strict=True):
            found[number] = dict(zip(form, row, strict=True))
    if found.keys() != set(range(len(found))) or named != {name for name in arrays if name.startswith("history.")}:
        raise CheckpointError("its history is not whole")
    newest = [] if rows.newest is None else [unpack(rows.newest, arrays)]
    return History([*(found[number] for number in range(len(found))), *newest])
