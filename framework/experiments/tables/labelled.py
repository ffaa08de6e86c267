"""The rows of a table that have a target: an experiment trains on these, and is evaluated on these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.data.csv import CSV
from framework.data.table_files import TableFile
from framework.errors import DataError
from framework.frames import Frame
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.settings.messages import warn


class Labelled:
    """The rows of a table that have a target; a Dataset.

    Args:
        table: The table.
        rows: The numbers of these rows, ascending.
    """

    def __init__(self, table: TableFile, rows: Array) -> None:
        self.table, self.rows = table, rows
        self.target, self.targets, self.names, self.read_ahead = table.target, table.targets, table.names, False

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def starts(self) -> Sequence[int]:
        """The first rows of the parts of the table that are read as a whole."""
        return sorted({*np.searchsorted(self.rows, self.table.starts).tolist()} - {len(self)})

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop; see ``TableFile.read``."""
        rows = self.rows[start:stop]
        first, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        return tuple(part.take(rows - first) for part in self.table.read(first, end))

    def fingerprint(self) -> str:
        """Return a text that changes with the contents."""
        return f"{self.table.fingerprint()}, {len(self)} rows with a target"

    def explained(self, message: str) -> str:
        """Return a message on a column with what the file knows of it."""
        return self.table.explained(message)


def labelled(table: TableFile) -> TableFile | Labelled:
    """Return a table without its rows that have no target, and warn of their number.

    Raises:
        DataError: No row has a target.
    """
    if table.target is None:
        return table
    narrow = table if isinstance(table, CSV) else table.replace(columns=table.names[:1])  # a CSV file is parsed whole
    blocks = [_absent(narrow, start) for start in range(0, len(table), BLOCK_ROWS)]
    absent = np.concatenate([np.zeros(0, bool), *blocks])
    missing = int(absent.sum())
    if not missing:
        return table
    what = "the target " + ", ".join(map(repr, table.targets))
    if missing == len(table):
        raise DataError(f"{what} is missing in all {missing:,} rows, so there is nothing to learn from")
    warn(f"{what} is missing in {missing:,} of {len(table):,} rows, first in row {absent.argmax()}; they are left out")
    return Labelled(table, np.flatnonzero(~absent))


def _absent(table: TableFile, start: int) -> Array:
    """Return which rows of a block have no target, or lack one of several."""
    y = table.read(start, min(start + BLOCK_ROWS, len(table)))[1]
    columns = [y] if isinstance(table.target, str) else y.columns
    absent: Array = np.any([column.is_null(nan_is_null=True).to_numpy() for column in columns], axis=0)
    return absent


def classes_of(table: TableFile | Labelled, most: float = math.inf) -> tuple[list[tuple[str, ...]], Array]:
    """Return the classes of the target, of several targets their combinations, and the number of that of each row.

    Reading ends after a block with which there are more than ``most`` classes.
    """
    known: dict[tuple[str, ...], int] = {}
    numbers = [np.zeros(0, np.int64)]
    for frame in targets_of(table):
        texts = [np.array(levels, object)[codes] for codes, levels in map(frame.texts, frame.names)]
        numbers.append(np.array([known.setdefault(row, len(known)) for row in zip(*texts, strict=True)]))
        if len(known) > most:
            break
    return [*known], np.concatenate(numbers)


def targets_of(table: TableFile | Labelled) -> Iterator[Frame]:
    """Give the targets of a table, in blocks."""
    file = table if isinstance(table, TableFile) else table.table
    narrow = file.replace(columns=file.names[:1])
    table = narrow if isinstance(table, TableFile) else Labelled(narrow, table.rows)
    for start in range(0, len(table), BLOCK_ROWS):
        yield Frame(table.read(start, min(start + BLOCK_ROWS, len(table)))[1], f"the target {table.targets[0]!r}")
