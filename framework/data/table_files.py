"""Tables in files, as Datasets: their rows are read in blocks, so that they need not fit in memory.

A subclass holds the settings and opens a ``Rows``, which holds the state: what is known of the files, and which of them
is open. pyarrow is imported when a table is first read.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from framework.base.errors import Advice, DataError, SettingsError, brief, nearest
from framework.base.extras import load_module
from framework.base.forks import renew_in_children
from framework.base.settings.component import Component
from framework.base.settings.messages import list_names
from framework.data.files import File, locate_files


def texts_of(value: Any) -> Any:
    """Accept paths for text, and any sequence for a tuple."""
    if isinstance(value, list | tuple):
        return tuple(map(texts_of, value))
    return str(value) if isinstance(value, Path) else value


Paths = Annotated[str | tuple[str, ...], BeforeValidator(texts_of)]


class Rows:
    """The rows of some files as one table, from which any range can be read; it may be used by several threads.

    Attributes:
        name: The caller, for messages.
        files: The files, in the order of their rows.
        names: The columns of the first file.
        schema: The names and types of the columns that are read, as pyarrow holds them.
        starts: The first rows of the parts that are read as a whole, ascending.
        rows: The number of rows.
        digest: A text that changes with the contents.
    """

    names: Sequence[str]
    schema: Any
    starts: Sequence[int]
    rows: int
    digest: str

    def __init__(self, name: str, files: Sequence[File]) -> None:
        """Remember the files as they are now."""
        self.name, self.files = name, files
        self.arrow = load_module("pyarrow", name)
        self._stamps = [file.stamp() for file in files]
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget the file that is open."""
        self._lock = threading.Lock()
        self._file: tuple[int, Any] = (-1, None)  # the number of the file that is open, and what it was opened as
        self._place = self._end = 0  # the next row to decode, and the end of the rows being read
        self._tables: Iterator[Any] = iter(())
        self._rest: Any = None  # decoded rows that begin at _place

    def require_unchanged(self, index: int) -> None:
        """Check that a file is as it was when its rows were found; one that is elsewhere, only before it is opened.

        Raises:
            DataError: It was written again.
        """
        file = self.files[index]
        if (file.system is None or self._file[0] != index) and file.stamp() != self._stamps[index]:
            raise self.error_of_change(index)

    def error_of_change(self, index: int) -> DataError:
        """Return the error for a file that is not as it was."""
        return DataError(
            "was changed after it was opened",
            name=f"{self.name}: {self.files[index].url}",
            advice=Advice(f"make a new {self.name}(...)", command="start the command again"),
        )

    def read(self, start: int, stop: int) -> Any:
        """Return the rows start..stop as a pyarrow Table, as a slice of a list does."""
        stop, parts = min(stop, self.rows), []
        with self._lock:
            try:
                while start < stop:
                    if not self._place <= start < self._end:
                        self._place, self._end, self._tables = self.tables(start, stop)
                        self._rest = None
                    while self._place < start:
                        self._next(start - self._place)
                    parts.append(self._next(stop - start))
                    start = self._place
                if self._place == self._end:
                    self._tables = iter(())  # else the last table would stay in memory
            except BaseException:  # also an interrupt, after which rows may be decoded that _place does not count
                self._place = self._end = 0
                raise
        return self.arrow.concat_tables(parts) if parts else self.schema.empty_table()

    def _next(self, most: int) -> Any:
        """Return the next rows, at least one and ``most`` at most."""
        table = next(self._tables) if self._rest is None else self._rest
        self._rest = table.slice(most) if table.num_rows > most else None
        table = table.slice(0, most)
        self._place += table.num_rows
        return table

    @abstractmethod
    def tables(self, row: int, stop: int) -> tuple[int, int, Iterator[Any]]:
        """Return tables that follow one another and hold a row: the first row, the end, and the tables.

        No other thread reads at the same time. ``stop`` is the end of the rows that are wanted.
        """


class TableFile(Component):
    """A table in one file or several, whose rows are read in blocks.

    Attributes:
        path: A file, a pattern such as ``"flights/*.parquet"``, a folder, a URL that fsspec reads, or several of them.
            The files of a pattern or a folder are sorted by name.
        target: The column to predict, or a tuple of columns; None for a table to predict from.
        weight: The column that holds the weight of each row.
        columns: The columns of x, in this order; None are all that are neither target nor weight.
        read_ahead: Whether a thread reads the next rows while the current ones are trained on.
    """

    __slots__ = ("_rows",)  # what is known of the files: derived from the settings, so no part of them

    keeps: ClassVar[str] = "a table in a file holds only settings"
    ending: ClassVar[str]

    path: Paths
    target: Annotated[str | tuple[str, ...] | None, BeforeValidator(texts_of)] = None
    weight: str | None = None
    columns: Annotated[tuple[str, ...] | None, BeforeValidator(texts_of)] = None
    read_ahead: bool = True

    def __init__(self, path: Any, target: Any = None, **settings: Any) -> None:
        super().__init__(path=path, target=target, **settings)

    def model_post_init(self, context: object) -> None:
        """Check that no column is named twice."""
        for setting, names in (("target", self.targets), ("columns", self.columns)):
            if names == () and (setting == "columns" or self.target is not None):
                raise SettingsError("must name at least one column; got ()", name=f"setting '{setting}'")
        used = [*self.targets, *([] if self.weight is None else [self.weight]), *(self.columns or ())]
        if twice := next((column for column in used if used.count(column) > 1), None):
            raise SettingsError(f"the column {twice!r} is named twice")

    @abstractmethod
    def _open(self, files: Sequence[File]) -> Rows:
        """Return the rows of the files."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target's columns."""
        return () if self.target is None else (self.target,) if isinstance(self.target, str) else self.target

    @property
    def rows(self) -> Rows:
        """The rows of the files, which are opened when they are first needed."""
        rows: Rows | None = getattr(self, "_rows", None)
        if rows is None:
            rows = self._open(locate_files(self.path, self.ending, type(self).__name__))
            self.require(rows)
            object.__setattr__(self, "_rows", rows)
        return rows

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of x."""
        others = {*self.targets, self.weight}
        return self.columns or tuple(name for name in self.rows.schema.names if name not in others)

    @property
    def starts(self) -> Sequence[int]:
        """The first rows of the parts that are read as a whole."""
        return self.rows.starts

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows.rows

    def __bool__(self) -> bool:
        return True

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop; x is a pyarrow Table.

        y is one column, or a Table where ``target`` is a tuple.

        Raises:
            DataError: A file cannot be read or was changed, or the target is missing.
        """
        self._require_target()
        return self._split_columns(self.rows.read(start, stop))

    def read_rows(self, rows: Sequence[int]) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of some rows, ascending; those between them are decoded too.

        Raises:
            DataError: A file cannot be read or was changed, or the target is missing.
        """
        self._require_target()
        return self._split_columns(self.rows.read(rows[0], rows[-1] + 1).take([row - rows[0] for row in rows]))

    def _require_target(self) -> None:
        if self.target is None:
            problem = f"must name the column to predict. Columns: {list_names(self.rows.names)}"
            raise DataError(problem, name=f"{type(self).__name__}: setting 'target'")

    def _split_columns(self, table: Any) -> tuple[Any, ...]:
        """Return a table as x, y and perhaps weight."""
        y = table.column(self.target) if isinstance(self.target, str) else table.select(self.target)
        parts = (table.select(self.names), y)
        return parts if self.weight is None else (*parts, table.column(self.weight))

    def frame(self, start: int = 0, stop: int | None = None) -> Any:
        """Return x of the rows start..stop as a pyarrow Table; None is the end."""
        return self.rows.read(start, len(self) if stop is None else stop).select(self.names)

    def fingerprint(self) -> str:
        """Return a text that changes with the contents, the columns and their roles, but not with the path."""
        roles = f"{list_names(self.names)} -> {list_names(self.targets)}{f' by {self.weight}' if self.weight else ''}"
        return f"{type(self).__name__} of {len(self)} rows {self.rows.digest}: {brief(roles)}"

    def require(self, rows: Rows) -> None:
        """Check that the columns that the settings name are there.

        Raises:
            DataError: One is not; names the setting and the file, and lists the columns.
        """
        names = rows.names
        for setting in ("target", "weight", "columns", "text"):
            value = getattr(self, setting, None)
            for column in (value,) if isinstance(value, str) else value or ():
                if column not in names:
                    raise DataError(
                        f"names the column {column!r}, which {rows.files[0].url} does not "
                        f"have{nearest(column, names) or '.'} Columns: {list_names(names)}",
                        name=f"{type(self).__name__}: setting '{setting}'",
                        advice=self.hint(names),
                    )

    def hint(self, names: Sequence[str]) -> Advice | None:
        """Return what else may be wrong where a column is missing."""
        return None


def require_same_names(name: str, first: tuple[File, Sequence[str]], other: tuple[File, Sequence[str]]) -> None:
    """Check that two files have the same columns, in any order.

    Raises:
        DataError: They do not; names the files and the column.
    """
    (one, expected), (two, got) = first, other
    if missing := [column for column in expected if column not in got]:
        raise DataError(f"has no column {missing[0]!r}, which {one.url} has", name=f"{name}: {two.url}")
    if more := [column for column in got if column not in expected]:
        raise DataError(f"has a column {more[0]!r}, which {one.url} does not have", name=f"{name}: {two.url}")


def require_different(name: str, file: File, names: Sequence[str], hint: Advice | None = None) -> None:
    """Check that no two columns of a file have one name; ``hint`` ends the message.

    Raises:
        DataError: Two have.
    """
    if len({*names}) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        problem = f"has {names.count(twice)} columns {twice!r}; rename them"
        raise DataError(problem, name=f"{name}: {file.url}", advice=hint)
