"""Dates as numbers: their parts, and the place of a part on its circle."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from framework.arrays import Array
from framework.errors import SettingsError
from framework.preprocessing.steps import Column, ColumnStep

Part = Literal["days", "year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]
_Parts = Annotated[tuple[Part, ...], BeforeValidator(lambda parts: (parts,) if isinstance(parts, str) else parts)]

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

    parts: _Parts = ("year", "month", "day", "weekday", "hour")
    cyclic: bool = Field(True, kw_only=True)

    def model_post_init(self, context: object) -> None:
        """Check that there are parts, and none twice."""
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise SettingsError(f"Dates: setting 'parts' must name different parts; got {list(self.parts)}")

    def apply(self, column: Column) -> Column:
        names: list[str] = []
        arrays: list[Array] = []
        for part in self.parts:
            for ending, values in self.numbers(part, date_part(column.arrays[0], part)).items():
                names.append(f"{column.names[0]} {part} {ending}".rstrip())
                arrays.append(values if column.missing is None else np.where(column.missing, np.nan, values))
        return column.replaced(form="numbers", names=tuple(names), arrays=tuple(arrays), missing=None)

    def numbers(self, part: Part, number: Any) -> dict[str, Any]:
        """Return what becomes of a part by the endings of its names, ``sin`` and ``cos`` where it is cyclic."""
        if not self.cyclic or part not in _LENGTHS:
            return {"": number}
        first = 1.0 if part in ("month", "day", "dayofyear") else 0.0
        angle = (number - first) * (2.0 * np.pi / _LENGTHS[part])
        return {"sin": np.sin(angle), "cos": np.cos(angle)}


def date_part(micros: Any, part: Part) -> Any:
    """Return a part of dates, of their microseconds since 1970: an array, or a symbol of a formula.

    Example:
        >>> date_part(np.array([0, 951_868_800_000_000]), "dayofyear")  # 1970-01-01 and 2000-03-01
        array([ 1., 61.])

    Source:
        Hinnant, chrono-compatible low-level date algorithms (2013), civil_from_days: years begin in March there, so
        that a leap day is their last.
    """
    days = micros // 86_400_000_000
    rest = micros - days * 86_400_000_000
    if part == "days":
        return days + rest / 86_400_000_000
    if part == "weekday":
        return (days + 3) % 7 * 1.0  # 1 January 1970 was a Thursday
    if part == "hour":
        return rest // 3_600_000_000 * 1.0
    if part == "minute":
        return rest // 60_000_000 % 60 * 1.0
    if part == "second":
        return rest % 60_000_000 / 1_000_000
    era = (days + 719_468) // 146_097  # of 400 years
    day = days + 719_468 - era * 146_097
    years = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day = day - (365 * years + years // 4 - years // 100)  # since 1 March
    month = (5 * day + 2) // 153  # since March
    year = years + 400 * era + (month >= 10) * 1
    if part == "year":
        return year * 1.0
    if part == "month":
        return np.where(month < 10, month + 3, month - 9) * 1.0
    if part == "day":
        return (day - (153 * month + 2) // 5 + 1) * 1.0
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.where(month < 10, day + 60 + leap * 1, day - 305) * 1.0
