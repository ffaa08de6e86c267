"""Reading: the columns of a table, and of a target, as the steps take them; and data in blocks of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from framework.base.arrays import Array, real_array
from framework.base.errors import Advice, DataError, Text, brief
from framework.base.extras import load_module
from framework.base.frames import WORDS, Frame, Kind, as_column, concatenate_rows, is_frame, is_series
from framework.base.settings.messages import warn
from framework.data.parts import Part, Source
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.preprocessing.steps import Column


def frame_of(table: Any, name: str, advice: str = "") -> Frame:
    """Return a table as a Frame; ``advice`` ends the message for anything else.

    Raises:
        DataError: It is something else.
    """
    if isinstance(table, Frame):
        return table
    if not is_frame(table):
        raise DataError(
            f"{name}: a Preprocess takes a table of pandas, polars or Arrow, whose columns have names; "
            f"got {type(table).__name__}{advice}"
        )
    return Frame(table, f"{name}: argument 'x'")


def raw_column(
    frame: Frame, label: str, where: str, kind: Kind, start: int | Array = 0, zone: str | None = "own"
) -> Column:
    """Return a column of a table as it is before its first step.

    Args:
        frame: The rows.
        label: The column's name.
        where: The caller and the column, for messages.
        kind: What the column held in the training data.
        start: The number of the first row in the caller's data, or those of all rows.
        zone: The time zone of dates in the training data, None for dates without one, or "own".

    Raises:
        DataError: It holds another kind of values now, or a number is infinite; or dates had no time zone and have one
            now, or the reverse.
    """
    held = frame.kind(label)
    if held != kind and held == "number" and np.isnan(values := frame.numbers(label)).all():
        return absent_column(label, where, kind, len(values), start)
    column = Column(where, label, "numbers", (label,), (), start=start)
    if kind in ("text", "category") and held in ("text", "category"):
        codes, levels = frame.texts(label)
        return column.replaced(form="texts", arrays=(codes,), levels=levels)
    if kind in ("date", "duration") and held == kind:
        if kind == "duration":
            return column.replaced(arrays=(frame.seconds(label),))
        micros, missing = frame.dates(label, zone)
        return column.replaced(form="dates", arrays=(micros,), missing=missing)
    if kind in ("number", "boolean") and held in ("number", "boolean"):
        values = np.ascontiguousarray(frame.numbers(label))
        column.refuse(np.isinf(values), "has an infinite number", "replace or drop it")
        if kind == "boolean" and held == "number":
            strange = ~np.isnan(values) & (values != 0.0) & (values != 1.0)
            column.refuse(strange, "held booleans in fit, and has another number", "give booleans, or 0 and 1")
        texts = partial(frame.texts, label) if held == kind else None
        return column.replaced(arrays=(values,), boolean=kind == "boolean", texts=texts)
    if kind == "other":
        raise DataError(f"{where} holds neither numbers nor text nor dates; make one of these of it, or write Drop()")
    example = f", such as by pandas.to_datetime(table[{label!r}])" if kind == "date" else ""
    advice = Advice(f"cast it before{example}")
    error = DataError(f"held {WORDS[kind]} in fit, and holds {WORDS[held]} now", name=where, argument=label)
    error.expected = WORDS[kind]
    if kind == "number" and held == "text" and (odd := frame.not_numbers(label)).any():
        error.row, cell = column.first_row(odd), brief(frame.column(label).item(int(np.argmax(odd))))
        advice = Advice(f"first {cell} in row {error.row}; {advice}", after=", ")
    raise error.advise(advice).advise(advice_on_kept(where.partition(":")[0]))


def tell_rounded(frame: Frame, label: str, column: Column) -> None:
    """Warn of a column that loses digits which its steps would have seen: of numbers, or of the seconds of dates."""
    if column.form != "numbers":
        return
    if frame.kind(label) == "date":
        seen, advice = any(name.startswith(f"{label} second") for name in column.names), ""
    else:
        seen, advice = True, "; OneHot and Levels take it exactly, Drop leaves it out"
    if seen and (lost := frame.describe_rounding(label)):
        warn(f"{column.where} holds {lost}{advice}")


def advice_on_kept(name: str) -> str:
    """Return what to do where the data of a later ``fit`` does not fit the Preprocess that the model keeps.

    Args:
        name: The caller. The data of a first fit always fits, and other callers do not learn.
    """
    if name != "fit":
        return ""
    return (
        "the model keeps the Preprocess of its first fit: to learn another one, train a new model, or write "
        "model.preprocess = None if its weights are untrained"
    )


def absent_column(label: str, where: str, kind: Kind, rows: int, start: int | Array = 0) -> Column:
    """Return a column of some kind in which every value is missing."""
    column = Column(where, label, "numbers", (label,), (), start=start, boolean=kind == "boolean")
    if kind in ("text", "category"):
        return column.replaced(form="texts", arrays=(np.full(rows, -1),))
    if kind == "date":
        return column.replaced(form="dates", arrays=(np.zeros(rows, np.int64),), missing=np.ones(rows, bool))
    return column.replaced(arrays=(np.full(rows, np.nan),))


def target_frame(y: Any, name: str) -> Frame:
    """Return targets as a Frame: a table, one column of it, an array or a list.

    Raises:
        DataError: It is something else.
    """
    if is_frame(y) or is_series(y):
        return Frame(y, f"{name}: argument 'y'")
    where = f"{name}: argument 'y'"
    if isinstance(y, Mapping):
        raise DataError(
            f"must be a table, or name columns of x, as (table, {[*y]}), for a Preprocess; got a dict", name=where
        )
    pa = load_module("pyarrow", where)
    try:
        array = np.asarray(y)
        columns = [as_column(values, where) for values in (array.T if array.ndim > 1 else [array])]
    except (pa.ArrowException, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"must be a column, an array or a list; {error}", name=where) from None
    names = [TARGET] if len(columns) == 1 else [f"{TARGET} {index}" for index in range(len(columns))]
    return Frame(pa.table(dict(zip(names, columns, strict=True))), where)


TARGET = "target"
"""The name of a target that has none."""


class Block(NamedTuple):
    """Some rows of data.

    Attributes:
        start: The number of the first one; those of all where some are left out between them.
        x: The inputs.
        y: The targets, or None.
        weight: The weights, (rows,), or None.
    """

    start: int | Array
    x: Frame
    y: Frame | None
    weight: Array | None = None

    def part(self, start: int, stop: int) -> Block:
        """Return the rows start..stop of it; all of them are the same block."""
        if stop - start == self.x.rows:
            return self
        y = None if self.y is None else self.y.slice(start, stop)
        weight = None if self.weight is None else self.weight[start:stop]
        return Block(self.start + start, self.x.slice(start, stop), y, weight)


class Blocks:
    """Tables of a source in blocks of ``BLOCK_ROWS`` rows, which can be read again.

    It reads epoch 0 of a Stream. Rows of weight 0 are left out of their block.

    Example:
        >>> import pandas
        >>> from framework.data.sources import source_of
        >>> blocks = Blocks(source_of((pandas.DataFrame({"age": [31], "late": ["no"]}), "late"), "fit"))
        >>> [(block.start, block.x.names, block.y.names) for block in blocks]
        [(0, ('age',), ('late',))]
    """

    def __init__(self, source: Source) -> None:
        """Take the data apart that is in memory; other data is read later."""
        self.source, self.name = source, source.name
        self.whole = self._block(source.first) if source.in_memory else None
        if self.whole is not None and not np.any(self.whole.weight):
            self.whole = self.whole._replace(weight=None)  # 0 alone is refused later

    def __iter__(self) -> Iterator[Block]:
        """Give the blocks in order; the last one may have fewer rows."""
        parts = map(self._block, self.source.parts(BLOCK_ROWS)) if self.whole is None else iter([self.whole])
        held: list[Block] = []
        start = count = 0  # the rows that were given, and those of the parts that are held
        for piece in parts:
            held.append(piece)
            count += piece.x.rows
            while count >= BLOCK_ROWS:
                block, held = self._cut_block(held, start, BLOCK_ROWS)
                yield block
                start, count = start + BLOCK_ROWS, count - BLOCK_ROWS
        if count:
            yield self._cut_block(held, start, count)[0]

    def _block(self, triple: Part) -> Block:
        x, y, weight = triple
        weight = None if weight is None else real_array(weight, f"{self.name}: argument 'weight'")
        return Block(0, frame_of(x, self.name), None if y is None else target_frame(y, self.name), weight)

    def _cut_block(self, held: list[Block], start: int, rows: int) -> tuple[Block, list[Block]]:
        """Return the first rows of some parts as a block, and the others."""
        whole = held[0]
        if len(held) > 1:
            _, *tables, weights = zip(*held, strict=True)
            name = f"{self.name}: the tables of a Stream"
            x, y = (
                Frame(concatenate_rows(*(frame.native for frame in frames), name=name), self.name) for frames in tables
            )
            whole = Block(0, x, y, None if any(weight is None for weight in weights) else np.concatenate(weights))
        rest = [whole.part(rows, whole.x.rows)] if rows < whole.x.rows else []
        return self._drop_weightless(whole.part(0, rows)._replace(start=start)), rest

    def _drop_weightless(self, block: Block) -> Block:
        """Return a block without the rows whose weight is 0."""
        start, x, y, weight = block
        weight = None if weight is None else real_array(weight, f"{self.name}: argument 'weight'", "float64")
        if weight is None or weight.shape != (x.rows,):  # a weight of another shape is refused later
            return Block(start, x, y)
        if (bad := ~(np.isfinite(weight) & (weight >= 0))).any():
            row = int(np.argmax(bad))
            name, got = f"{self.name}: argument 'weight'", Text(f"{weight[row]} in row {start + row}")
            raise DataError("must be finite and not negative", name=name, got=got, row=int(start + row))
        if np.all(weight):
            return Block(start, x, y, weight)
        rows = np.flatnonzero(weight)
        return Block(start + rows, x.take(rows), None if y is None else y.take(rows), weight[rows])


def kinds_of(blocks: Blocks) -> tuple[dict[str, Kind], dict[str, Kind], dict[str, str]]:
    """Return the kind of each column of x and of y, and the time zones of dates in x.

    A Dataset is read up to the first value of each.
    """
    kinds: tuple[dict[str, Kind], dict[str, Kind]] = ({}, {})
    zones: dict[str, str] = {}
    for block in blocks if blocks.whole is None else [blocks.whole]:
        unknown = False
        for known, frame in zip(kinds, (block.x, block.y), strict=True):
            if frame is None:
                continue
            first = frame.slice(0, BLOCK_ROWS)
            for label in frame.names:
                if known.get(label, "number") == "number":
                    known[label] = frame.kind(label)
                    if frame is block.x and (zone := frame.zone(label)) is not None:
                        zones[label] = zone
                    missing = (
                        np.isnan(sample.numbers(label)).all() for sample in (first, frame)
                    )  # most end with the first
                    unknown |= known[label] == "number" and all(missing)
        if not unknown:
            break
    return *kinds, zones
