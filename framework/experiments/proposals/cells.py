"""Cells of a CSV file that deserve a word: codes that would become numbers, and cells that make a column text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from framework.data.csv import CSV
from framework.extras import required
from framework.preprocessing.statistics import BLOCK_ROWS

NEARLY = 0.9
"""From this part of its cells on, a column is taken to be meant as numbers or as dates."""

SHOWN = 5
"""Up to this many different cells are kept."""

_DATE = r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?"
_OTHER_DATE = r"\d\d?(/\d\d?/|\.\d\d?\.|-\d\d?-)(\d{4}|\d\d)( \d\d?:\d\d(:\d\d)?)?"
_WITH_UNIT = r"[$€£¥] ?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*( ?[%$€£¥°]| [A-Za-z]{1,6})"
_PARTS = re.compile(r"\s*(\d+)(\D)(\d+)\D(\d+)( \d+:\d+)?(:\d+)?\s*")


class Look:
    """How the cells of a column look that fit a pattern, or that do not.

    Attributes:
        kind: ``"code"`` for digits with a leading zero, ``"number"``, ``"date"``, ``"other date"`` for dates that need
            a format, or ``"unit"`` for numbers with a unit.
        cells: The first different cells with their rows: those of numbers and dates that do not fit; of the others
            those that do.
        fitting: How many cells fit.
        present: How many cells are not missing.
        ends: The greatest first and second part of a date.
    """

    def __init__(self, kind: str, pattern: str) -> None:
        self.kind, self._pattern = kind, rf"^\s*({pattern})\s*$"
        self.cells: dict[str, int] = {}
        self.fitting = self.present = 0
        self.ends = (0, 0)

    def add(self, cells: Any, start: int) -> None:
        """Add cells of text, of which ``start`` is the first row."""
        compute = required("pyarrow.compute", "CSV")
        fits = compute.match_substring_regex(cells, self._pattern)
        self.present += len(cells) - cells.null_count
        self.fitting += compute.sum(fits).as_py() or 0
        shown = compute.invert(fits) if self.kind in ("number", "date") else fits
        rows = np.flatnonzero(shown.fill_null(False).to_numpy(zero_copy_only=False))
        if len(self.cells) <= SHOWN:
            for row in rows.tolist():
                self.cells.setdefault(cells[row].as_py(), start + row)
                if len(self.cells) > SHOWN:
                    break
        if self.kind == "other date":
            for cell in compute.unique(cells.filter(shown)).to_pylist():
                first, _, second, *_ = _PARTS.fullmatch(cell).groups()  # type: ignore[union-attr]
                self.ends = max(self.ends[0], int(first)), max(self.ends[1], int(second))

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the dates: of two, one is right."""
        _, mark, _, year, time, seconds = _PARTS.fullmatch(next(iter(self.cells))).groups()  # type: ignore[union-attr]
        tail = f"{'%Y' if len(year) == 4 else '%y'}{' %H:%M' if time else ''}{':%S' if seconds else ''}"
        month_first, day_first = f"%m{mark}%d{mark}{tail}", f"%d{mark}%m{mark}{tail}"
        if self.ends[0] > 12:
            return (day_first,)
        return (month_first,) if self.ends[1] > 12 else (month_first, day_first)


class Looks(NamedTuple):
    """Columns of a CSV file that deserve a word, by name.

    Attributes:
        codes: Columns of whole numbers, some of which have leading zeros.
        texts: Columns of text, in which nearly all cells are numbers or dates.
    """

    codes: dict[str, Look]
    texts: dict[str, Look]


def looks(table: CSV) -> Looks:
    r"""Return the columns whose kind is worth a word; the table is read once more, in blocks.

    Columns that the settings call text are left out.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.csv").write_text("zip,age\n" + "00663,31\n" * 20 + "10115,old\n")
        >>> found = looks(CSV("a.csv"))
        >>> found.codes["zip"].cells, found.texts["age"].kind, found.texts["age"].cells
        ({'00663': 0}, 'number', {'old': 20})
    """
    types = required("pyarrow", "CSV").types
    fields = [field for field in table.rows.schema if field.name not in (*table.text, table.weight)]
    codes = {field.name: Look("code", r"0\d+") for field in fields if types.is_int64(field.type)}
    number = rf"[+-]?(\d+{re.escape(table.decimal)}?\d*|{re.escape(table.decimal)}\d+)([eE][+-]?\d+)?"
    if table.thousands is not None:
        number += rf"|[+-]?\d{{1,3}}({re.escape(table.thousands)}\d{{3}})+({re.escape(table.decimal)}\d*)?"
    patterns = {"number": number, "date": _DATE, "other date": _OTHER_DATE, "unit": _WITH_UNIT}
    texts = {
        field.name: [Look(kind, pattern) for kind, pattern in patterns.items()]
        for field in fields
        if types.is_string(field.type)
    }
    names = [*codes, *texts]
    if not names:
        return Looks({}, {})
    seen = table.replace(columns=names, text=names, target=None, weight=None)
    for start in range(0, len(seen), BLOCK_ROWS):
        frame = seen.frame(start, min(start + BLOCK_ROWS, len(seen)))
        for name in names:
            column = frame.column(name).combine_chunks()
            for look in [codes[name]] if name in codes else texts[name]:
                look.add(column, start)
    best = {name: max(found, key=lambda look: look.fitting) for name, found in texts.items()}
    return Looks(
        {name: look for name, look in codes.items() if look.fitting},
        {name: look for name, look in best.items() if look.present and look.fitting >= NEARLY * look.present},
    )
