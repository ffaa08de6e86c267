"""Dates as numbers: their parts, and the place of a part on its circle."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError
from framework.preprocessing.columns import Column
from framework.preprocessing.steps import ColumnStep

_DAY = 86_400_000_000
Part = Literal["days", "year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]

_LENGTHS = {
    "month": 12.0,
    "day": 31.0,
    "dayofyear": 366.0,
    "weekday": 7.0,
    "hour": 24.0,
    "minute": 60.0,
    "second": 60.0,
}
"""How many values a part runs through before it begins again."""


class Dates(ColumnStep):
    """Numbers from dates: the year, the month, the weekday, ..., each as a column ``when year``.

    A cyclic part p of length L becomes two columns, sin(2 pi p / L) and cos(2 pi p / L), so that December lies next to
    January: month from 0 to 11 (L = 12), day from 0 to 30 (31), dayofyear from 0 to 365 (366), weekday from 0 for
    Monday to 6 (7), hour (24), minute and second (60), with fractions only in seconds. ``days`` counts the days since
    1 January 1970 with their fraction; it and ``year`` are never cyclic. With ``cyclic=False`` months and days count
    from 1, as calendars do.

    Missing dates give missing numbers: write ``Impute()`` after this step. Where dates have a time zone, the parts are
    those of its local time, as pandas' and polars' own functions give them. Dates of another zone than in the training
    data are converted to that zone; dates with a zone and dates without one are never mixed.

    Attributes:
        parts: Which parts, in this order.
        cyclic: Whether parts that begin again become a sine and a cosine.

    Example:
        >>> day = np.array([np.datetime64("2013-12-25T06:00", "us").astype(np.int64)])
        >>> column = Column("fit: column 'when'", "when", "dates", ("when",), (day,), missing=np.array([False]))
        >>> found = Dates(["year", "hour"]).apply(column)
        >>> {name: float(array[0].round(3)) for name, array in zip(found.names, found.arrays)}
        {'when year': 2013.0, 'when hour sin': 1.0, 'when hour cos': 0.0}
    """

    takes = ("dates",)

    parts: tuple[Part, ...] = ("year", "month", "day", "weekday", "hour")
    cyclic: bool = True

    def __init__(self, parts: Any = ("year", "month", "day", "weekday", "hour"), *, cyclic: bool = True) -> None:
        super().__init__(parts=(parts,) if isinstance(parts, str) else parts, cyclic=cyclic)

    def model_post_init(self, context: object) -> None:
        """Check that there are parts, and none twice."""
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise SettingsError(f"Dates: setting 'parts' must name different parts; got {list(self.parts)}")

    def apply(self, column: Column) -> Column:
        names: list[str] = []
        arrays: list[Array] = []
        missing, calendar = column.missing, _Calendar(column.arrays[0])
        for part in self.parts:
            for ending, values in self.numbers(part, calendar.part(part)).items():
                names.append(f"{column.names[0]} {part} {ending}".rstrip())
                arrays.append(values if missing is None else np.where(missing, np.nan, values))
        return column.replaced(form="numbers", names=tuple(names), arrays=tuple(arrays), missing=None)

    def numbers(self, part: Part, number: Any) -> dict[str, Any]:
        """Return what becomes of a part by the endings of its names, ``sin`` and ``cos`` where it is cyclic."""
        if not self.cyclic or part not in _LENGTHS:
            return {"": number}
        first, factor = self.circle(part)
        angle = (number - first) * factor
        return {"sin": np.sin(angle), "cos": np.cos(angle)}

    def circle(self, part: Part) -> tuple[float, float]:
        """Return the first value of a cyclic part, and the angle of one step."""
        first = 1.0 if part in ("month", "day", "dayofyear") else 0.0
        return first, 2.0 * np.pi / _LENGTHS[part]


class _Calendar:
    """The parts of dates as float64. What several parts need is found once."""

    def __init__(self, microseconds: Array) -> None:
        self._days, self._rest = np.divmod(microseconds, _DAY)

    @cached_property
    def _dates(self) -> Array:
        return self._days.astype("datetime64[D]")

    @cached_property
    def _months(self) -> Array:
        return self._dates.astype("datetime64[M]")

    @cached_property
    def _years(self) -> Array:
        return self._dates.astype("datetime64[Y]")

    def part(self, name: str) -> Array:
        """Return a part of each date."""
        found: Array
        match name:
            case "days":
                found = self._days + self._rest / _DAY
            case "weekday":
                found = (self._days + 3) % 7  # 1 January 1970 was a Thursday
            case "hour":
                found = self._rest // 3_600_000_000
            case "minute":
                found = self._rest // 60_000_000 % 60
            case "second":
                found = self._rest % 60_000_000 / 1_000_000
            case "year":
                found = self._years.astype(np.int64) + 1970
            case "month":
                found = (self._months - self._years).astype(np.int64) + 1
            case "day":
                found = (self._dates - self._months).astype(np.int64) + 1
            case _:
                found = (self._dates - self._years).astype(np.int64) + 1
        return found.astype(np.float64)
