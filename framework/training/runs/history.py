"""History: a row of plain numbers for each finished epoch, kept by column, so that saving many rows is fast."""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array, Arrays, place_of_best
from framework.base.errors import DataError, SettingsError, nearest
from framework.base.settings.component import parse_json
from framework.base.tables import as_html, as_text, bold, figure
from framework.training.runs.memory import CheckedDict
from framework.views import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from framework.views.plots.curves import Better

_ABSENT_BITS = np.uint64(0x7FF8_0000_0000_07A2)
_ABSENT = _ABSENT_BITS.view(np.float64).item()
"""Stands in a column where a row has no value: the NaN by which R marks a missing one."""


class History(Sequence[dict[str, Any]]):
    """Rows of plain numbers, one for each epoch, in order: epoch, loss, metrics, val_ ..., learning_rate, seconds.

    A hook may add numbers to the newest row. The rows before it are copies: changing one changes nothing here.

    Raises:
        DataError: A row is not a dict of numbers.

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

    __slots__ = ("_columns", "_newest", "_settled")
    _columns: dict[str, array[float]]
    _newest: _NewestRow | None
    _settled: int

    def __init__(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Start from copies of these rows."""
        self._columns, self._newest, self._settled = {}, None, 0
        for row in rows:
            self.append(row)

    @classmethod
    def from_columns(cls, columns: Arrays, rows: int) -> History:
        """Return the history of which ``columns()`` gives these."""
        history = cls()
        history._columns = {key: array("d", column.tobytes()) for key, column in columns.items()}
        if rows:
            history._settled = rows - 1
            history._newest = _NewestRow(_row({key: column.pop() for key, column in history._columns.items()}))
        return history

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, in a list of its own."""
        return [*self]

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one more epoch."""
        row = _NewestRow(row)
        if (newest := self._newest) is not None:
            for key in newest:
                if key not in self._columns:
                    self._columns[key] = array("d", [_ABSENT]) * self._settled
            for key, column in self._columns.items():
                column.append(newest.get(key, _ABSENT))
            self._settled += 1
        self._newest = row

    def columns(self) -> dict[str, Array]:
        """Return all columns as arrays; where a row has no value, there is a NaN with a mark."""
        newest: dict[str, Any] = self._newest or {}
        none = array("d", [_ABSENT]) * self._settled
        return {key: np.append(self._columns.get(key, none), newest.get(key, _ABSENT)) for key in self.keys}

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns, in the order in which they first come."""
        return tuple(dict.fromkeys([*self._columns, *(self._newest or ())]))

    def column(self, key: str) -> list[Any]:
        """Return one column, None where a row does not have it.

        Raises:
            SettingsError: No row has it; lists the keys there are.
        """
        if key not in self.keys:
            raise SettingsError(
                f"history has no column '{key}'{nearest(key, self.keys) or '.'} Columns: {', '.join(self.keys)}"
            )
        column = self.columns()[key]
        plain = key != "epoch" and not np.isnan(column).any()  # most are: 20 times as fast
        return column.tolist() if plain else [_cell_value(key, value) for value in column.tolist()]

    def plot(
        self, *keys: str, right: str | Sequence[str] = (), mode: Better | None = None, axis: Axes | None = None
    ) -> Axes:
        """Draw columns over the epochs, the loss unless others are named; see ``plots.learning_curves``."""
        return plots.learning_curves(self, *keys, right=right, mode=mode, axis=axis)

    def to_json(self) -> str:
        """Return the rows as a JSON list; what is not finite is NaN or Infinity, as Python's json has it."""
        return json.dumps(self.rows)

    @classmethod
    def from_json(cls, text: str) -> History:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: The text is not a JSON list of objects.
        """
        rows = parse_json(text, "History.from_json", DataError)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"expected a list of objects; got {text[:60]!r}", where="History.from_json")
        return cls(rows)

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; numbers keep all their digits."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self)
        return text.getvalue()

    def __getitem__(self, index: Any) -> Any:
        """Return the row of this index, a list of rows for a slice, or the column of this name."""
        if isinstance(index, str):
            return self.column(index)
        if not len(self) and not isinstance(index, slice):
            raise IndexError("history has no row before the first epoch ends; the loss of a batch is run.batch_loss")
        try:
            places = range(len(self))[index]
        except IndexError:
            raise IndexError(f"history has {len(self)} rows, one for each finished epoch; got index {index}") from None
        return [*map(self._at, places)] if isinstance(index, slice) else self._at(places)

    def _at(self, index: int) -> dict[str, Any]:
        if index == self._settled and self._newest is not None:
            return self._newest
        return _row({key: column[index] for key, column in self._columns.items()})

    def __len__(self) -> int:
        return self._settled + (self._newest is not None)

    def __eq__(self, other: object) -> bool:
        """Compare all rows; NaN equals NaN, as the same figure of the same training."""
        return isinstance(other, History) and [*map(_comparable, self)] == [*map(_comparable, other)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as rows: a copy shares no column."""
        return History, (self.rows,)

    __hash__ = None  # type: ignore[assignment]  # rows are added

    def __str__(self) -> str:
        """Return the rows as a table, of many the first and the last five."""
        return as_text(self._table()) if len(self) else repr(self)

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows: of many rows the first, the best and the last, the best in bold."""
        key = next((key for key in ("val_loss", "loss") if key in self.keys), "")
        best = place_of_best(self.columns().get(key, ()))
        if best is None:
            return as_html(self._table())
        note = f"<div>bold: the lowest {key}, in row {best + 1} of {len(self)}</div>"
        return f"{as_html(self._table(best))}{note}"

    def _table(self, best: int | None = None) -> list[list[str]]:
        places = [*range(len(self))] if len(self) <= 12 else [*range(5), *range(len(self) - 5, len(self))]
        if best is not None:
            places = sorted({*places, best})
        lines: list[list[str]] = [[*self.keys]]
        for before, index in zip([-1, *places], places, strict=False):
            if index > before + 1:
                lines.append(["..."] * len(self.keys))
            cells = [figure(self[index].get(key)) for key in self.keys]
            lines.append([*map(bold, cells)] if index == best else cells)
        return lines

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last {self[-1] if len(self) else None})"


class _NewestRow(CheckedDict):
    """The newest row, in plain numbers: floats, and an int for a whole epoch. A hook may put numbers into it.

    Raises:
        DataError: It holds something else; names the column.
    """

    __slots__ = ()

    def __init__(self, row: Any) -> None:
        if not isinstance(row, dict):
            raise DataError("rows must be dicts of columns", where="History", got=row)
        super().__init__()
        dict.update(self, {key: _number(key, value) for key, value in row.items()})

    def update(self, *values: Any, **named: Any) -> None:
        dict.update(self, {key: _number(key, value) for key, value in dict(*values, **named).items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _number(key: Any, value: Any) -> float:
    if type(value) is (int if key == "epoch" else float) and type(key) is str and value < 1e15:  # a tenth of the time
        return value
    if not isinstance(key, str):
        raise DataError("the name of a column must be text", where="history", got=key)
    if not isinstance(value, Real) or (isinstance(value, int) and value.bit_length() > 1023):
        raise DataError(f"history: {key!r} must be a number; got {value!r}; other values go into run.memory(self)")
    number = float(value)
    return int(number) if key == "epoch" and number.is_integer() else number


def _cell_value(key: str, value: float) -> Any:
    """Return the value of a column as a row shows it: None if the row has no value."""
    if value != value and np.float64(value).view(np.uint64) == _ABSENT_BITS:  # noqa: PLR0124 (only NaN is so)
        return None
    return int(value) if key == "epoch" and value.is_integer() else value


def _row(values: dict[str, float]) -> dict[str, Any]:
    shown = {key: _cell_value(key, value) for key, value in values.items()}
    return {key: value for key, value in shown.items() if value is not None}


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {key: "nan" if value != value else value for key, value in row.items()}  # noqa: PLR0124 (only NaN is so)
