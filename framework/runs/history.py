"""History: a row of plain numbers for each finished epoch.

The rows before the newest are kept as columns too, so that a save need not go through them.
"""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from framework.errors import DataError, SettingsError, nearest
from framework.settings.json_text import parsed
from framework.tables import as_html, as_text

Form = tuple[tuple[str, str], ...]
"""The keys of a row, each with the kind of its value: "d" a float, "q" a whole number, "n" the number of the epoch."""


class Row(dict[str, Any]):
    """A row of a history. Changing one that is kept as columns makes the history forget the columns."""

    __slots__ = ("history",)
    history: History

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _forgetting(name: str) -> Any:
    method = getattr(dict, name)

    def change(self: Row, *args: Any, **named: Any) -> Any:
        if (history := getattr(self, "history", None)) is not None:
            history._forget()
        return method(self, *args, **named)

    return change


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(Row, _name, _forgetting(_name))


class History(Sequence[dict[str, Any]]):
    """Rows of plain numbers, one for each epoch, in order: epoch, loss, metrics, val_ ..., learning_rate, seconds.

    Example:
        >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
        >>> history["loss"], history[-1]["epoch"]
        ([0.5, 0.25], 2)
        >>> History.from_json(history.to_json()) == history
        True
        >>> print(history.to_csv().strip())
        epoch,loss
        1,0.5
        2,0.25
    """

    __slots__ = ("_columns", "_kept", "_others", "_rows")
    _columns: dict[Form, list[array[Any]]]
    _others: dict[int, Row]
    _kept: int

    def __init__(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Start from copies of these rows.

        Raises:
            DataError: A row is not a dict of columns.
        """
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError(f"History: rows must be dicts of columns; got {row!r} at row {place}")
        self._rows = [Row(row) for row in rows]
        self._forget()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, in a list of its own."""
        return [*self._rows]

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one more epoch."""
        self._keep(len(self._rows))
        self._rows.append(Row(row))

    def columns(self) -> tuple[dict[Form, list[array[Any]]], dict[int, Row]]:
        """Return the rows before the newest: by form their numbers and columns, and by number those that have no form.

        The first of a form's columns are the numbers of its rows; a value of kind "n" has no column.
        """
        self._keep(len(self._rows) - 1)
        return self._columns, self._others

    def _keep(self, stop: int) -> None:
        """Keep the rows before ``stop`` as columns."""
        for number in range(self._kept, stop):
            row = self._rows[number]
            form = _form(row, number)
            if form is None:
                self._others[number] = row
            else:
                if form not in self._columns:
                    self._columns[form] = [array("i"), *(array(kind) for _, kind in form if kind != "n")]
                values = [value for value, (_, kind) in zip(row.values(), form, strict=True) if kind != "n"]
                for column, value in zip(self._columns[form], (number, *values), strict=True):
                    column.append(value)
            row.history = self
        self._kept = max(self._kept, stop)

    def _forget(self) -> None:
        self._columns, self._others, self._kept = {}, {}, 0

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which they first come."""
        return tuple(dict.fromkeys(key for row in self._rows for key in row))

    def column(self, key: str) -> list[Any]:
        """Return one column, None where a row does not have it.

        Raises:
            SettingsError: No row has it; lists the keys there are.
        """
        if key not in self.keys:
            raise SettingsError(
                f"history has no column '{key}'{nearest(key, self.keys)}; there are: {', '.join(self.keys)}"
            )
        return [row.get(key) for row in self._rows]

    def to_json(self) -> str:
        """Return the rows as a JSON list; what is not finite is NaN or Infinity, as Python's json has it."""
        return json.dumps(self._rows)

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: The text is not a JSON list of objects.
        """
        rows = parsed(text, "History.from_json", DataError)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"History.from_json: expected a list of objects; got {text[:60]!r}")
        return cls(rows)

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; numbers keep all their digits."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        return text.getvalue()

    def __getitem__(self, index: Any) -> Any:
        """Return the row of this index, a list of rows for a slice, or the column of this name."""
        if isinstance(index, str):
            return self.column(index)
        if not self._rows and not isinstance(index, slice):
            raise IndexError("history has no row before the first epoch ends; the loss of a batch is run.batch_loss")
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        """Compare all rows; NaN equals NaN, as the same figure of the same training."""
        return isinstance(other, History) and [*map(_comparable, self._rows)] == [*map(_comparable, other._rows)]

    def __reduce__(self) -> tuple[Any, ...]:
        return History, (self.rows,)

    __hash__ = None  # type: ignore[assignment]  # rows are added

    def __str__(self) -> str:
        """Return the rows as a table, of many the first and the last five."""
        return as_text(self._table()) if self._rows else repr(self)

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows."""
        return as_html(self._table())

    def _table(self) -> list[list[str]]:
        keys, rows = self.keys, self._rows
        cells = [[_cell(row.get(key)) for key in keys] for row in (rows if len(rows) <= 12 else rows[:5] + rows[-5:])]
        if len(rows) > 12:
            cells.insert(5, ["..."] * len(keys))
        return [[*keys], *cells]

    def __repr__(self) -> str:
        return f"History({len(self._rows)} epochs, last {self._rows[-1] if self._rows else None})"


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {key: "nan" if value != value else value for key, value in row.items()}  # noqa: PLR0124 (only NaN is so)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _form(row: dict[str, Any], number: int) -> Form | None:
    """Return the form of a row, or None where a value is not a float or a whole number of 64 bits."""
    form = []
    for key, value in row.items():
        if type(value) is float:
            kind = "d"
        elif type(value) is int and -(2**63) <= value < 2**63:
            kind = "n" if value == number + 1 else "q"
        else:
            return None
        form.append((key, kind))
    return tuple(form)
