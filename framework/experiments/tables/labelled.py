"""The rows of a table that have a target: an experiment trains on these, and is evaluated on these."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from framework.arrays import Array
from framework.data.csv import CSV
from framework.data.splits import Mask, Selection
from framework.data.table_files import TableFile
from framework.errors import DataError
from framework.frames import Frame
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.settings.messages import warn


def labelled(table: TableFile) -> TableFile | Selection:
    """Return a table without its rows that have no target, and warn of their number.

    Raises:
        DataError: No row has a target.
    """
    if table.target is None:
        return table
    blocks = [
        np.any([frame.column(name).to_native().is_null(nan_is_null=True) for name in frame.names], axis=0)
        for frame in targets_of(table)
    ]
    absent = np.concatenate([np.zeros(0, bool), *blocks])
    missing = int(absent.sum())
    if not missing:
        return table
    what = "the target " + ", ".join(map(repr, table.targets))
    if missing == len(table):
        raise DataError(f"{what} is missing in all {missing:,} rows, so there is nothing to learn from")
    warn(f"{what} is missing in {missing:,} of {len(table):,} rows, first in row {absent.argmax()}; they are left out")
    return Selection(table, Mask(absent), f"{len(table) - missing} rows with a target", held=False)


def classes_of(table: TableFile | Selection, most: float = math.inf) -> tuple[list[tuple[str, ...]], Array]:
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


def targets_of(table: TableFile | Selection) -> Iterator[Frame]:
    """Give the targets of a table, in blocks."""
    file = table if isinstance(table, TableFile) else table.dataset
    narrow = file if isinstance(file, CSV) else file.replace(columns=file.names[:1])  # a CSV file is parsed whole
    rows = narrow if isinstance(table, TableFile) else Selection(narrow, table.draw, table.name, held=table.held)
    for start in range(0, len(rows), BLOCK_ROWS):
        yield Frame(rows.read(start, min(start + BLOCK_ROWS, len(rows)))[1], f"the target {file.targets[0]!r}")
