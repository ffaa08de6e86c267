"""History: a row of plain numbers for each finished epoch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from framework.errors import DataError, SettingsError, nearest
from framework.json_text import parsed
from framework.tables import as_html, as_text


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

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Start from copies of these rows.

        Raises:
            DataError: A row is not a dict of columns.
        """
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError(f"History: rows must be dicts of columns; got {row!r} at row {place}")
        self.rows: list[dict[str, Any]] = [dict(row) for row in rows]

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one more epoch."""
        self.rows.append(row)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which they first come."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row))

    def column(self, key: str) -> list[Any]:
        """Return one column, None where a row does not have it.

        Raises:
            SettingsError: No row has it; lists the keys there are.
        """
        if key not in self.keys:
            raise SettingsError(
                f"history has no column '{key}'{nearest(key, self.keys)}; there are: {', '.join(self.keys)}"
            )
        return [row.get(key) for row in self.rows]

    def to_json(self) -> str:
        """Return the rows as a JSON list; what is not finite is NaN or Infinity, as Python's json has it."""
        return json.dumps(self.rows)

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
        writer.writerows(self.rows)
        return text.getvalue()

    def __getitem__(self, index: Any) -> Any:
        """Return the row of this index, a list of rows for a slice, or the column of this name."""
        if isinstance(index, str):
            return self.column(index)
        if not self.rows and not isinstance(index, slice):
            raise IndexError("history has no row before the first epoch ends; the loss of a batch is run.batch_loss")
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __eq__(self, other: object) -> bool:
        """Compare all rows; NaN equals NaN, as the same figure of the same training."""
        return isinstance(other, History) and [*map(_comparable, self.rows)] == [*map(_comparable, other.rows)]

    __hash__ = None  # type: ignore[assignment]  # rows are added

    def __str__(self) -> str:
        """Return the rows as a table, of many the first and the last five."""
        return as_text(self._table()) if self.rows else repr(self)

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows."""
        return as_html(self._table())

    def _table(self) -> list[list[str]]:
        keys, rows = self.keys, self.rows
        cells = [[_cell(row.get(key)) for key in keys] for row in (rows if len(rows) <= 12 else rows[:5] + rows[-5:])]
        if len(rows) > 12:
            cells.insert(5, ["..."] * len(keys))
        return [[*keys], *cells]

    def __repr__(self) -> str:
        return f"History({len(self.rows)} epochs, last {self.rows[-1] if self.rows else None})"


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {key: "nan" if value != value else value for key, value in row.items()}  # noqa: PLR0124 (only NaN is so)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
