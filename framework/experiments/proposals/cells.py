"""Cells of a CSV file that deserve a word: codes and dates that are not numbers, and cells that make a column text."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.data.csv import CSV, marks_of, number_pattern
from framework.data.date_formats import ISO, exchanged, formats_of, pattern_of
from framework.extras import required
from framework.preprocessing.statistics import BLOCK_ROWS

NEARLY = 0.9
"""From this part of its cells on, a column is taken to be meant as numbers or as dates."""

SHOWN = 5
"""Up to this many different cells are kept."""

DIGITS = "%Y%m%d"
"""The format of dates that CSV files would hold as whole numbers."""

_WITH_UNIT = r"[+-]?[$€£¥] ?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*( ?[%$€£¥°]| [A-Za-z]{1,6})"


class Look:
    """How many cells of a column fit a pattern, and which.

    Attributes:
        kind: ``"code"`` for digits with a leading zero, ``"number"``, ``"date"``, or ``"unit"`` for a number with one.
        format: The format of dates that are not ISO 8601; "" for others.
        cells: The first different cells that fit, with their rows.
        odd: Those that do not.
        fitting: How many cells fit.
        present: How many cells are not missing.
        formats: Of dates: all formats that fit as many cells.
        units: Of numbers with a unit: the units.
    """

    def __init__(self, kind: str, pattern: str, form: str = "") -> None:
        self.kind, self.format, self._pattern = kind, form, rf"^({pattern})$" if form else rf"^\s*({pattern})\s*$"
        self.cells: dict[str, int] = {}
        self.odd: dict[str, int] = {}
        self.fitting = self.present = 0
        self.formats: tuple[str, ...] = ()
        self.units: set[str] = set()

    def add(self, cells: Any, start: int) -> None:
        """Add cells of text, of which ``start`` is the first row."""
        compute = required("pyarrow.compute", "CSV")
        fits = compute.match_substring_regex(cells, self._pattern)
        self.present += len(cells) - cells.null_count
        self.fitting += compute.sum(fits).as_py() or 0
        if self.kind == "unit" and len(self.units) < SHOWN:
            self.units |= {*compute.replace_substring_regex(cells.filter(fits), r"[\s\d.,+-]", "").unique().to_pylist()}
        for kept, shown in ((self.cells, fits), (self.odd, compute.invert(fits))):
            rows = np.flatnonzero(shown.fill_null(False).to_numpy(zero_copy_only=False))
            for row in rows.tolist() if len(kept) <= SHOWN else ():
                kept.setdefault(cells[row].as_py(), start + row)
                if len(kept) > SHOWN:
                    break


def looks(table: CSV) -> dict[str, Look]:
    r"""Return the columns whose kind is worth a word, by name; the table is read once more, in blocks.

    These are whole numbers with leading zeros or that are dates, and text in which nearly all cells are numbers or
    dates. Columns that the settings call text are left out.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.csv").write_text("zip,age,when\n" + "00663,31,20/1/2021\n" * 20 + "10115,old,1/1/2021\n")
        >>> found = looks(CSV("a.csv"))
        >>> found["zip"].kind, found["zip"].cells, found["age"].kind, found["age"].odd, found["when"].formats
        ('code', {'00663': 0}, 'number', {'old': 20}, ('%d/%m/%Y',))
    """
    types = required("pyarrow", "CSV").types
    fields = [field for field in table.rows.schema if field.name not in (*table.text, table.weight)]
    whole = [field.name for field in fields if types.is_int64(field.type) and field.name not in table.targets]
    numbers = [("number", number_pattern(*marks)) for marks in marks_of(table)]
    digits = rf"(?:19|20)\d\d{pattern_of('%m%d')}"
    every = {name: [Look("code", r"0\d+"), Look("date", digits, DIGITS)] for name in whole}
    every |= {
        field.name: [Look(kind, pattern) for kind, pattern in (*numbers, ("date", ISO), ("unit", _WITH_UNIT))]
        for field in fields
        if types.is_string(field.type)
    }
    names, seen_dates = [*every], {*whole}
    if not names:
        return {}
    seen = table.replace(columns=names, text=names, target=None, weight=None)
    for start in range(0, len(seen), BLOCK_ROWS):
        frame = seen.frame(start, min(start + BLOCK_ROWS, len(seen)))
        for name in names:
            column = frame.column(name).combine_chunks()
            if name not in seen_dates and (first := column.slice(0, 1000).drop_null().unique()[:SHOWN].to_pylist()):
                seen_dates.add(name)
                forms = dict.fromkeys(form for cell in first for form in formats_of(cell))
                every[name] += [Look("date", pattern_of(form), form) for form in forms]
            for look in every[name]:
                look.add(column, start)
    worth = {}
    for name, tried in every.items():
        best = max(tried, key=lambda look: look.fitting)
        fitting = [look.format for look in tried if look.format and look.fitting == best.fitting]
        if best.format:
            best.formats = tuple(dict.fromkeys(f for f in (fitting[0], exchanged(fitting[0])) if f in fitting))
        share = {"code": 1 / max(1, best.present), DIGITS: 1.0}.get(best.format or best.kind, NEARLY)
        if best.fitting and best.fitting >= share * best.present:
            worth[name] = best
    return worth
