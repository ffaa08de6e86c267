"""CSV files as a Dataset: one pass finds the rows and the types of the columns, then blocks are read by their bytes."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from pydantic import BeforeValidator

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, Setting, SettingsError, Text, brief
from framework.base.extras import load_module
from framework.base.frames import LARGEST_WHOLE
from framework.base.settings.component import Named
from framework.data import blocks
from framework.data.date_formats import ISO, formats_of, pattern_of, swap_day_and_month
from framework.data.files import File
from framework.data.table_files import Rows, TableFile, require_different, require_same_names, texts_of

CHUNK = 1 << 22
"""Bytes that are looked at together in the first pass."""

LONGEST = 1 << 26
"""Bytes of a row: more means that a quote is not closed."""

TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
"""The cells of a column of booleans, as in pandas: 1 and 0 are numbers, and beside one of these text."""

NULLS = ("", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None")

DURATION = (
    r"^\s*(?P<days>-?\d{1,5}) days \+?(?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)"
    r"(?:\.(?P<fraction>\d{1,9}))?\s*$"
)
"""A duration as pandas writes it, such as ``1 days 12:30:00`` or ``-1 days +23:59:59.5``."""

_ENCODINGS = [Setting("encoding", "latin-1"), Setting("encoding", "cp1252")]

_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'

_EXCEL = re.compile(rb"(?:\xef\xbb\xbf)?sep=(.)\r?\n")
"""The first line that tells Excel the delimiter."""

_UNREADABLE = {
    b"\x1f\x8b": "is compressed with gzip; unpack it first: gunzip -k FILE",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"BZh": "is compressed with bzip2; unpack it first: bunzip2 -k FILE",
    b"\xfd7zXZ": "is compressed with xz; unpack it first: unxz -k FILE",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it first: unzstd FILE",
    b"PAR1": "is a Parquet file; write Parquet(...)",
    b"\xff\xfe": "is UTF-16; convert it first: iconv -f utf-16 -t utf-8 FILE",
    b"\xfe\xff": "is UTF-16; convert it first: iconv -f utf-16 -t utf-8 FILE",
}
"""How files begin that hold something else than lines of text."""


class CSV(TableFile):
    r"""A table in CSV files, read in blocks; it needs pyarrow.

    The first use reads every file once: to find the rows, also those with newlines in quotes, and the types of the
    columns, which are numbers, booleans, dates, times or text over all rows of all files. Memory does not grow with the
    size of the table. A column of numbers with one cell of text is a column of text, and so is one with a whole number
    of more digits than it could keep, with a cell such as ``0x10``, or with ``1`` or ``0`` beside ``true`` and
    ``false``. Cells such as ``12:30:00`` are times of day, ``1 days 12:30:00`` and its like are durations.

    A table of more than 8,388,608 numbers is shuffled within windows, and then in another order than the same table in
    memory.

    Attributes:
        path: A file, a pattern such as ``"flights/*.csv"``, a folder, a URL that fsspec reads, or several of them. The
            files of a pattern or a folder are sorted by name. Each begins with a line of the same names, in any order.
        target: The column to predict, or a tuple of columns; None for a table to predict from.
        weight: The column that holds the weight of each row.
        columns: The columns of x, in this order; None are all that are neither target nor weight.
        read_ahead: Whether a thread reads the next rows while the current ones are trained on.
        delimiter: The character between two cells.
        encoding: That of the text, such as ``"latin-1"``.
        nulls: The cells, with or without quotes, that stand for a missing value.
        decimal: The decimal point of numbers, ``"."`` or ``","``.
        thousands: The character that groups digits, such as ``","`` in 1,234.5; None refuses such numbers.
        units: The unit of the numbers of a column, such as ``{"price": "$", "weight": "kg"}``, which stands before or
            after them and is left out. A column in which a cell has another unit is text.
        text: Columns that are text even if every cell is a number or a date, such as postal codes.
        dates: How dates are written that are not ISO 8601, such as ``"%m/%d/%Y"`` or ``"%d %b %Y %I:%M %p"``. A column
            whose cells all fit is read as dates; one of whole numbers, such as 20211231, if one format of digits
            alone fits all of them. A day that its month lacks, such as 30 February, is refused.
        header: The names of the columns of files that do not begin with a line of names.

    Raises:
        DataError: A file is missing, compressed, unlike the others, or not of this encoding; a row has too many or too
            few cells. Names the file, and the row, counted from 0 without the header and blank lines.
        UsageError: pyarrow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("boxes.csv").write_text('width,name,area\n1.5,"big,\nred",3\n2,NA,?\n')
        >>> data = CSV("boxes.csv", target="area")
        >>> len(data), data.names
        (2, ('width', 'name'))
        >>> x, y = data.read(0, 2)
        >>> x.to_pydict(), y.to_pylist()
        ({'width': [1.5, 2.0], 'name': ['big,\nred', None]}, [3, None])

    Source:
        RFC 4180, Common format and MIME type for comma-separated values files (2005).
    """

    ending: ClassVar[str] = ".csv"

    delimiter: str = ","
    encoding: str = "utf-8"
    nulls: Annotated[tuple[str, ...], BeforeValidator(texts_of)] = NULLS
    decimal: Literal[".", ","] = "."
    thousands: str | None = None
    units: Named[str] = ()
    text: Annotated[tuple[str, ...], BeforeValidator(texts_of)] = ()
    dates: Annotated[tuple[str, ...], BeforeValidator(texts_of)] = ()
    header: Annotated[tuple[str, ...] | None, BeforeValidator(texts_of)] = None

    def model_post_init(self, context: object) -> None:
        """Check the characters and the encoding."""
        super().model_post_init(context)
        for setting, value in (("delimiter", self.delimiter), ("thousands", self.thousands)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n'):
                raise SettingsError("must be one character, such as ';'", name=f"setting '{setting}'", got=value)
        if twice := [
            form for form in self.dates if swap_day_and_month(form) != form and swap_day_and_month(form) in self.dates
        ]:
            raise SettingsError(
                f"must not hold both {twice[0]!r} and {twice[1]!r}, which read 01/02/2021 differently; leave one "
                "out, and name the columns that have it in 'text'",
                name="setting 'dates'",
            )
        if self.decimal == self.thousands:
            raise SettingsError(f"settings 'decimal' and 'thousands' must differ; got {self.decimal!r} twice")
        try:
            keeps_ascii = 'a,\r\n"'.encode(self.encoding) == b'a,\r\n"'
        except LookupError:
            raise SettingsError("must be known to Python", name="setting 'encoding'", got=self.encoding) from None
        if not keeps_ascii and codecs.lookup(self.encoding).name != "utf-8-sig":
            raise SettingsError(
                f"must have the characters of ASCII; got {self.encoding!r}; convert the file first: iconv -f "
                f"{self.encoding} -t utf-8 FILE",
                name="setting 'encoding'",
            )

    def _open(self, files: Sequence[File]) -> Rows:
        return _CSVRows(files, self)

    def hint(self, names: Sequence[str]) -> Advice | None:
        """Return what else may be wrong where a column is missing: the delimiter, or a header that is not there."""
        delimiter = next((character for character in ";\t|," if len(names) == 1 and character in names[0]), None)
        if delimiter is not None:
            return Advice(f"the line of names has no {self.delimiter!r}: write ", Setting("delimiter", delimiter))
        if self.header is None and any(re.fullmatch(r"[+-]?\d+([.,]\d+)*", name.strip()) for name in names):
            header = tuple(f"column{n}" for n in range(1, len(names) + 1))
            return Advice("if the file begins without a line of names, give them: ", Setting("header", header))
        return None

    def explain(self, error: DataError) -> None:
        """Say in the error of a column that is text, and should not be, which cell makes it text."""
        column, expected, kind = error.argument, error.expected, None
        if expected in ("dates", "durations") and column in self.names:
            explained = self._explain_form(column, expected)
        elif expected and (kind := cast("_CSVRows", self.rows).types.get(column or "")) and kind.odd:
            cell, row = kind.odd
            explained = _or_missing(cell, f"CSV reads it as text because of {brief(cell)} in row {row}; "), row
            if kind.odd == kind.long:
                said = f"CSV reads it as text because a float has fewer digits than {brief(cell)} in row {row}"
                explained = Advice(said), row
        else:
            return
        if explained is not None:
            advice, error.row = explained
            error.got, error.advice = Text(), (*error.advice[1:], advice)

    def _explain_form(self, column: str, kind: str) -> tuple[Advice, int] | None:
        """Return what to do where a cell of dates or durations is of a form that is not read, and its row."""
        known = [ISO, *map(pattern_of, self.dates)] if kind == "dates" else [r"\d\d:\d\d(:\d\d)?", DURATION]
        compute = load_module("pyarrow.compute", "CSV")
        is_text = str(self.rows.schema.field(column).type) == "string"
        for start in range(0, len(self), blocks.BLOCK_ROWS) if kind == "durations" or is_text else ():
            cells = self.frame(start, min(start + blocks.BLOCK_ROWS, len(self))).column(column).cast("string")
            fits = compute.match_substring_regex(cells, rf"^\s*({'|'.join(known)})$")
            if (index := compute.index(fits, False).as_py()) < 0:
                continue
            cell, row = cells[index].as_py(), start + index
            if start or compute.any(fits).as_py():
                return _or_missing(cell, f"CSV reads it as text because of {brief(cell)} in row {row}; "), row
            what = f"in row {row} it has {brief(cell)}; write"
            if kind == "durations":
                said = f"{what} durations as 12:30:00 or, as pandas does, 1 days 12:30:00; a number has no unit"
                return Advice(said), row
            forms = [Setting("dates", (form,)) for form in formats_of(cell.strip()) or ("%m/%d/%Y", "%d/%m/%Y")]
            return Advice(f"{what} their form, such as ", *_join_settings(forms, " or ")), row
        return None


def _or_missing(cell: str, problem: str = "") -> Advice:
    """Return advice on a cell that may stand for a missing value."""
    nulls = Setting("nulls", (..., cell))
    return Advice(f"{problem}correct the cell, or write ", nulls, " if it stands for a missing value")


def _join_settings(settings: Sequence[str | Setting], between: str) -> list[str | Setting]:
    """Return settings with a text between them."""
    return [*chain(*((between, setting) for setting in settings))][1:]


class _Block(NamedTuple):
    """Rows that follow one another: the number of their file, their first row, and their bytes, from and up to."""

    file: int
    start: int
    begin: int
    end: int


class _CSVRows(Rows):
    """The places of blocks of rows in some files.

    Attributes:
        types: The types of the columns that are read, by name.
    """

    def __init__(self, files: Sequence[File], settings: CSV) -> None:
        """Read all files once."""
        super().__init__("CSV", files)
        self._settings, self._library = settings, load_module("pyarrow.csv", "CSV")
        self._firsts: list[int] = []  # the first row of each file
        self._headers: list[tuple[str, ...]] = []
        self._blocks: list[_Block] = []
        self.types: dict[str, _Type] = {}
        self.rows = 0
        digest = hashlib.sha256()
        for index in range(len(files)):
            self._scan(index, digest)
        self.starts, self.digest = [block.start for block in self._blocks], digest.hexdigest()[:12]
        for kind in sorted(self.types.values(), key=lambda kind: bool(kind.marks)):  # first those that nothing reads
            kind.close()
            kind.require_known(settings)
        self.schema = self.arrow.schema([(name, kind.whole) for name, kind in self.types.items()])

    def _scan(self, index: int, digest: Any) -> None:
        """Find the header, the blocks and the types of one file."""
        file, first = self.files[index], self.rows
        self._firsts.append(first)
        names: tuple[str, ...] | None = self._settings.header
        begins: list[int] = []
        end = 0
        for base, data, row_starts in self._records(index, digest):
            starts = row_starts
            if names is None and len(row_starts):
                line = self._decode_text(
                    index, data[row_starts[0] : row_starts[1] if len(row_starts) > 1 else None], None
                )
                cells = csv.reader(io.StringIO(line, newline=""), delimiter=self._settings.delimiter)
                names = tuple(next(cells))
                starts = row_starts[1:]
            if len(starts) == 0:
                continue
            assert names is not None
            if len(self._headers) == index:
                self._add_header(index, names)
            due = np.flatnonzero((self._row(index) + np.arange(len(starts))) % blocks.BLOCK_ROWS == 0)
            begins += [base + int(starts[row]) for row in due]
            self._learn(index, data[starts[0] :], starts - starts[0])
            self.rows += len(starts)
            end = base + len(data)
        if names is None:
            raise DataError("is empty; a file must begin with a line of column names", name=f"CSV: {file.url}")
        if len(self._headers) == index:
            self._add_header(index, names)
        for number, begin in enumerate(begins):
            stop = begins[number + 1] if number + 1 < len(begins) else end
            self._blocks.append(_Block(index, first + number * blocks.BLOCK_ROWS, begin, stop))

    def _records(self, index: int, digest: Any) -> Iterator[tuple[int, bytes, Array]]:
        """Give a file in pieces of whole rows: their offset, their bytes, and where rows that are not blank begin."""
        file, delimiter = self.files[index], ord(self._settings.delimiter)
        where = "CSV", file.url
        with file.open() as opened:
            rest, base = b"", 0
            while True:
                new = opened.read(CHUNK)
                digest.update(new)
                if base == 0 and not rest:
                    base = self._beginning(file, new)
                    new = new[base:]
                data = rest + new
                ends = record_ends(data, delimiter, final=not new)
                if not new and rest and (len(ends) == 0 or ends[-1] < len(data)):
                    raise DataError(f"a quote of row {self._row(index)} is not closed up to the end", where=where)
                whole = int(ends[-1]) if len(ends) else 0
                if whole:
                    yield base, data[:whole], _starts(data, ends)
                rest, base = data[whole:], base + whole
                if len(rest) > LONGEST:
                    problem = f"row {self._row(index)} is longer than {LONGEST >> 20} MB; is a quote open?"
                    raise DataError(problem, where=where)
                if not new:
                    return

    def _beginning(self, file: File, data: bytes) -> int:
        """Return where the rows begin: after a byte order mark, and after a first line such as ``sep=;``."""
        name = f"CSV: {file.url}"
        for mark, problem in _UNREADABLE.items():
            if data.startswith(mark):
                raise DataError(problem.replace("FILE", file.url), name=name)
        if b"\0" in data[:4096]:
            raise DataError("is not text: it has a zero byte; is it UTF-16, or another kind of file?", name=name)
        if (line := _EXCEL.match(data)) is None:
            return 3 if data.startswith(codecs.BOM_UTF8) else 0
        delimiter = line[1].decode("latin-1")
        if delimiter != self._settings.delimiter:
            advice = Advice("write ", Setting("delimiter", delimiter))
            raise DataError(f"says in its first line that cells end with {delimiter!r}", name=name, advice=advice)
        return line.end()

    def _row(self, index: int) -> int:
        """Return the number in its file of the row that comes next."""
        return self.rows - self._firsts[index]

    def _add_header(self, index: int, names: tuple[str, ...]) -> None:
        file, settings = self.files[index], self._settings
        require_different("CSV", file, names, settings.hint(names))
        if index == 0:
            self.names = names
            wanted = {*(settings.columns or names), *settings.targets, settings.weight}
            units = dict(settings.units) | dict.fromkeys(settings.text, None)  # of None, the column is text
            self.types = {name: _Type(name, self.arrow, units.get(name, "")) for name in names if name in wanted}
            settings.require(self)
        else:
            require_same_names("CSV", (self.files[0], self._headers[0]), (file, names))
        self._headers.append(names)

    def _decode_text(self, index: int, data: bytes, starts: Array | None) -> str:
        """Return text; ``starts`` are the places of its rows, or None for a header."""
        try:
            return data.decode(self._settings.encoding)
        except UnicodeDecodeError as error:
            row = "the header"
            if starts is not None:
                row = f"row {self._row(index) + int(np.searchsorted(starts, error.start, side='right')) - 1}"
            raise DataError(
                f"must be {self._settings.encoding} text; {row} has the byte {hex(data[error.start])}",
                name=f"CSV: {self.files[index].url}",
                advice=Advice("write the encoding, such as ", *_join_settings(_ENCODINGS, " or ")),
            ) from None

    def _learn(self, index: int, data: bytes, starts: Array) -> None:
        """Widen the types of the columns to what these rows hold."""
        self._decode_text(index, data, starts)
        known = {name: self.arrow.string() for name in self.types if name in self._settings.text}
        table = self._parse_rows(index, data, known, self._row(index))
        if table.num_rows != len(starts):
            raise DataError(
                f"rows from {self._row(index)} on cannot be told apart: {len(starts)} by their quotes, "
                f"{table.num_rows} by pyarrow; put cells that hold quotes or newlines into quotes",
                where=("CSV", self.files[index].url),
            )
        row, hexes, settings = self._row(index), b"0x" in data.lower(), self._settings
        asked = [kind.name for kind in self.types.values() if kind.needs_text(table.column(kind.name), settings, hexes)]
        texts: Any = (
            self._parse_rows(index, data, dict.fromkeys(asked, self.arrow.string()), row, asked) if asked else None
        )
        for name, kind in self.types.items():
            kind.widen(table.column(name), texts.column(name) if name in asked else None, row, settings)

    def _parse_rows(self, index: int, data: bytes, types: dict[str, Any], row: int, names: Sequence[str] = ()) -> Any:
        """Return whole rows, or some columns, as a pyarrow Table; ``row`` is the number of the first, for messages."""
        settings, library = self._settings, self._library
        if codecs.lookup(settings.encoding).name not in ("utf-8", "utf-8-sig", "ascii"):
            data = data.decode(settings.encoding).encode()
        if data.startswith(codecs.BOM_UTF8):  # part of a cell: the file's own is left out before
            data = codecs.BOM_UTF8 + data  # because pyarrow drops the first
        bad: Any = []
        try:
            return library.read_csv(
                self.arrow.py_buffer(data),
                library.ReadOptions(column_names=self._headers[index], block_size=len(data) + 1, use_threads=False),
                library.ParseOptions(
                    delimiter=settings.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=lambda row: bad.append(row) or "error",
                ),
                library.ConvertOptions(
                    column_types=types,
                    null_values=[*settings.nulls, *(f" {word}" for word in settings.nulls)],
                    true_values=TRUE,
                    false_values=FALSE,
                    strings_can_be_null=True,
                    include_columns=[*(names or self.types)],
                    decimal_point=settings.decimal,
                    timestamp_parsers=[*settings.dates, library.ISO8601],
                ),
            )
        except self.arrow.ArrowInvalid as error:
            file = self.files[index].url
            if bad:
                wrong, delimiter = bad[0], Setting("delimiter", settings.delimiter)
                raise DataError(
                    f"must have {wrong.expected_columns} cells; got {wrong.actual_columns}: {brief(wrong.text)}",
                    name=f"CSV: {file}: row {row + (wrong.number or 1) - 1}",
                    advice=Advice("is ", delimiter, " right, and is text that has it in quotes?"),
                ) from None
            raise DataError(f"rows from {row} on cannot be read: {error}", where=("CSV", file)) from error

    def tables(self, row: int, stop: int) -> tuple[int, int, Iterator[Any]]:
        """Return one: the block of the row, with those after it in the same file that are wanted too, up to 16."""
        first = last = bisect_right(self.starts, row) - 1
        block, ends = self._blocks[first], [*self.starts[first + 1 : first + 17], self.rows]
        while ends[last - first] < stop and last < first + 15 and self._blocks[last + 1].file == block.file:
            last += 1
        table, end = self._block(block, self._blocks[last].end), ends[last - first]
        if table.num_rows != end - block.start:
            raise self.error_of_change(block.file)
        return block.start, end, iter([table])

    def _block(self, block: _Block, end: int) -> Any:
        """Return the rows of a block and of those after it, up to the byte ``end``."""
        self.require_unchanged(block.file)
        if self._file[0] != block.file:
            self._file = block.file, self.files[block.file].open()
        self._file[1].seek(block.begin)
        data = self._file[1].read(end - block.begin)
        types = {name: kind.read for name, kind in self.types.items()}
        table = self._parse_rows(block.file, data, types, block.start - self._firsts[block.file])
        columns = [kind.convert_cells(table.column(name), self._settings) for name, kind in self.types.items()]
        return self.arrow.Table.from_arrays(columns, schema=self.schema)


class _Type:
    """The type of a column, widened from piece to piece of the rows.

    Attributes:
        type: The type of the rows so far; null where all were missing.
        grouped: The first number with grouped digits or another decimal point, and its row, while every cell of the
            pieces that are not plain numbers is such a number; None where there is none. Where no marks read all
            these cells, the first that none of the marks of the cells before it reads.
        marks: The decimal points, with what groups digits, by which all these cells are numbers.
        odd: The first cell of text among numbers, and its row; None where there is none.
        long: The first whole number of which a float would lose digits, and its row; None where there is none.
        formats: The formats of digits alone that all whole numbers have.
    """

    def __init__(self, name: str, arrow: Any, unit: str | None) -> None:
        """Know nothing yet; a column may have a unit, or be text by a setting, with None."""
        self.name, self.arrow, self.compute = name, arrow, load_module("pyarrow.compute", "CSV")
        self.unit, self.type = unit, arrow.string() if unit is None else arrow.null()
        self.grouped: tuple[str, int] | None = None
        self.marks: set[tuple[str, str | None]] = set()
        self.odd: tuple[str, int] | None = None
        self.long: tuple[str, int] | None = None
        self.formats: list[str] | None = None

    def needs_text(self, cells: Any, settings: CSV, hexes: bool) -> bool:
        """Return whether the text of cells matters, because pyarrow may change them: see ``widen``."""
        types = self.arrow.types
        if (hexes and types.is_int64(cells.type)) or (settings.dates and types.is_timestamp(cells.type)):
            return True
        if self.long is not None or not (types.is_int64(cells.type) or types.is_float64(cells.type)):
            return False
        ends = self.compute.min_max(cells).as_py().values()
        return any(end is not None and not -LARGEST_WHOLE < end < LARGEST_WHOLE for end in ends)

    def note_long(self, cells: Any, row: int) -> None:
        """Keep the first whole number of which a float would lose digits; ``cells`` are text."""
        digits = self.compute.match_substring_regex(cells, r"^\s*[+-]?\d{16,}\s*$").fill_null(False)
        for index in np.flatnonzero(digits.to_numpy()) if self.long is None else ():
            cell = cells[int(index)].as_py()
            if int(float(cell)) != int(cell):
                self.long = cell, row + int(index)
                return

    def close(self) -> None:
        """Decide, when all rows are known: whole numbers that a float would change are text, and others are dates."""
        if self.long is not None and self.arrow.types.is_float64(self.type):
            self.type, self.odd, self.grouped = self.arrow.string(), self.long, None
        if self.formats and self.arrow.types.is_int64(self.type):
            self.type = self.arrow.timestamp("s")

    def widen(self, cells: Any, text: Any, row: int, settings: CSV) -> None:
        """Take further cells into account, and their text where it is needed; ``row`` is the number of the first."""
        types, before = self.arrow.types, self.type
        if text is not None and types.is_timestamp(cells.type):
            self.require_days(text, row, settings)  # pyarrow reads 30 February as 2 March
        elif text is not None:
            self.note_long(text, row)
            if types.is_int64(cells.type) and not self._match(text, "[^xX]*").all():
                cells = text  # pyarrow reads 0x10 as 16; pandas does not
        kind = cells.type
        if types.is_int64(kind) and settings.dates:
            known = settings.dates if self.formats is None else self.formats
            digits = cells.cast(self.arrow.string())
            self.formats = [form for form in known if self._match(digits, pattern_of(form)).all()]
        if types.is_string(kind) and not types.is_string(before):
            cells = self._strip_unit(cells)
            durations = self._match(cells, DURATION).all()
            kind = self.arrow.duration("ns") if durations else self._number_in_text(cells, row, settings) or kind
        self.type = self._common_type(before, kind)
        if types.is_string(self.type) and not types.is_string(before):
            self.grouped = None
            if types.is_string(cells.type):
                number = number_pattern(*marks_of(settings)[0])
                is_number = self.compute.match_substring_regex(cells, rf"^\s*{number}\s*$")
                index = self.compute.index(is_number, False).as_py()
                numbers = types.is_int64(before) or types.is_float64(before) or self.compute.any(is_number).as_py()
                self.odd = (cells[index].as_py(), row + index) if numbers and index >= 0 else None

    def require_days(self, cells: Any, row: int, settings: CSV) -> None:
        """Refuse a day that no month has; ``cells`` are text.

        Raises:
            DataError: There is one; names the column, the row and the cell.
        """
        rest = np.ones(len(cells), bool)  # cells that no format before reads
        for form in dict.fromkeys(re.sub("%[bB]", name, form) for form in settings.dates for name in ("%b", "%B")):
            rest &= ~self._match(cells, pattern_of(form))
            if rest.any() and (bad := rest & self._match(cells, pattern_of(form, real=False))).any():
                cell = cells[int(bad.argmax())].as_py()
                problem = f"has {brief(cell)} in row {row + bad.argmax()}, a day that no calendar has"
                raise DataError(problem, name=f"CSV: column {self.name!r}", advice=_or_missing(cell))

    def _match(self, cells: Any, pattern: str) -> Any:
        return self.compute.match_substring_regex(cells, rf"^\s*({pattern})$").fill_null(True).to_numpy()

    def _number_in_text(self, cells: Any, row: int, settings: CSV) -> Any:
        """Return the type of numbers, where each cell is one with some decimal point and grouped digits."""
        own = settings.decimal, settings.thousands
        fits = {marks: self._match(cells, rf"{number_pattern(*marks)}\s*") for marks in marks_of(settings)}
        if not np.any([*fits.values()], axis=0).all():
            return None
        known, same = self.marks if self.grouped else {*fits}, np.array(True)
        self.marks = {marks for marks in known if fits[marks].all()}
        if known and not self.marks:
            same = np.logical_or.reduce(np.logical_and.accumulate([fits[marks] for marks in known], axis=1))
        elif self.grouped is None or own in known - self.marks:
            same = self._match(cells, rf"{number_pattern(own[0], None)}\s*") if own in self.marks else fits[own]
        if not same.all():
            self.grouped = cells[int(same.argmin())].as_py(), row + int(same.argmin())
        return self.arrow.float64() if self.grouped or self.unit else None

    def _common_type(self, first: Any, second: Any) -> Any:
        """Return the narrowest type that holds the values of both types."""
        types = self.arrow.types
        kinds = [kind for kind in dict.fromkeys((first, second)) if not types.is_null(kind)]
        if len(kinds) < 2:
            return kinds[0] if kinds else first
        if all(types.is_int64(kind) or types.is_float64(kind) for kind in kinds):
            return self.arrow.float64()
        timestamps = [kind for kind in kinds if types.is_timestamp(kind)]
        all_dates = all(types.is_timestamp(kind) or types.is_date32(kind) for kind in kinds)
        if timestamps and all_dates and len({getattr(kind, "tz", None) for kind in kinds}) == 1:  # a date has no zone
            return max(timestamps, key=lambda kind: ("s", "ms", "us", "ns").index(kind.unit))
        return self.arrow.string()

    def require_known(self, settings: CSV) -> None:
        """Refuse numbers that have another decimal point or grouped digits than the settings say.

        Raises:
            DataError: There are some; names the column, the first row, and the settings that fit all rows, if any do.
        """
        if not self.grouped or (settings.decimal, settings.thousands) in self.marks:
            return
        (cell, row), name = self.grouped, self.name
        signs = {",": "."}.get(settings.decimal, ","), "'", settings.decimal
        form = f"with {next(sign for sign in signs if sign in cell)!r}" if self.marks else "that are not written alike"
        options: dict[str, list[str | Setting]] = {}
        for decimal, thousands in marks_of(settings):
            if (decimal, thousands) in self.marks:
                changed: list[str | Setting] = [Setting("decimal", decimal)] * (decimal != settings.decimal)
                changed += [Setting("thousands", thousands)] * (thousands is not None)
                number = cell.replace(thousands or "", "").replace(decimal, ".")
                options.setdefault(decimal, [*_join_settings(changed, " and "), f" if it is {number}, "])
        if settings.decimal == "," and "," in options:  # the user has set it
            options.pop(".", None)
        ways = [*chain(*options.values())] or ["all of them alike, "]
        raise DataError(
            f"has numbers {form}, first {cell!r} in row {row}",
            name=f"CSV: column {name!r}",
            advice=Advice("write ", *ways, "or ", Setting("text", (name,)), " for text"),
        )

    @property
    def read(self) -> Any:
        """The type that pyarrow reads."""
        return self.arrow.string() if self._spelt or self.arrow.types.is_duration(self.whole) else self.whole

    @property
    def _spelt(self) -> bool:
        """Whether cells are numbers only without a unit or the characters that group digits."""
        return bool(self.grouped or (self.unit and self.arrow.types.is_float64(self.type)))

    def _strip_unit(self, cells: Any) -> Any:
        if not self.unit:
            return cells
        unit = rf"\s*{re.escape(self.unit)}\s*"
        return self.compute.replace_substring_regex(cells, rf"^\s*([+-]?){unit}|{unit}$", r"\1")

    @property
    def whole(self) -> Any:
        """The type of the column: floats where every cell is missing."""
        return self.arrow.float64() if self.arrow.types.is_null(self.type) else self.type

    def convert_cells(self, cells: Any, settings: CSV) -> Any:
        """Return the cells as they are meant: durations, and numbers without units and characters that group digits."""
        if self.arrow.types.is_duration(self.whole):  # text such as -1 days +23:59:59.5
            parts = self.compute.extract_regex(cells, DURATION)
            total: Any = 0
            for name, unit in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
                number = self.compute.struct_field(parts, name).cast(self.arrow.int64())
                total = self.compute.add(total, self.compute.multiply(number, unit * 10**9))
            fraction = self.compute.utf8_rpad(self.compute.struct_field(parts, "fraction"), 9, "0")
            return self.compute.add(total, fraction.cast(self.arrow.int64())).cast(self.whole)
        if not self._spelt:
            return cells
        plain = self.compute.replace_substring(self._strip_unit(cells), settings.thousands or " ", "")
        plain = self.compute.replace_substring(plain, settings.decimal, ".")
        return self.compute.utf8_trim_whitespace(plain).cast(self.whole)


def marks_of(settings: CSV) -> list[tuple[str, str | None]]:
    """Return decimal points, each with what may group digits: first those of the settings."""
    own: tuple[str, str | None] = (settings.decimal, settings.thousands)
    return [*dict.fromkeys([own, (".", None), (".", ","), (".", "'"), (",", None), (",", ".")])]


def number_pattern(decimal: str, thousands: str | None) -> str:
    """Return a regular expression of numbers with a decimal point, and perhaps a character that groups digits."""
    point = re.escape(decimal)
    grouped = "" if thousands is None else rf"\d{{1,3}}({re.escape(thousands)}\d{{3}})*({point}\d*)?|"
    return rf"[+-]?({grouped}(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?)"


def record_ends(data: bytes, delimiter: int, *, final: bool) -> Array:
    r"""Return where the rows of CSV text end, which begins with a row; newlines within quotes end none.

    A quote opens a quoted cell only at the beginning of a cell, as in pyarrow.

    Args:
        data: The bytes.
        delimiter: The byte between two cells.
        final: Whether nothing comes after ``data``, so that its end ends a row.

    Example:
        >>> record_ends(b'a,b\n"1\n2",3\r\n4', ord(","), final=True).tolist()
        [4, 13, 14]
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == _LINE_FEED)
    if b"\r" in data:
        returns = np.flatnonzero(raw == _RETURN)
        alone = returns[raw[np.minimum(returns + 1, len(raw) - 1)] != _LINE_FEED]
        if not final and len(alone) and alone[-1] == len(raw) - 1:
            alone = alone[:-1]  # a line feed may come
        ends = np.sort(np.concatenate([ends, alone]))
    closed = True
    if b'"' in data:
        quotes = np.flatnonzero(raw == _QUOTE)
        if _is_proper(raw, quotes, delimiter):
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
            closed = len(quotes) % 2 == 0
        else:
            ends, closed = _ends_by_steps(data, delimiter, final=final)
    ends = ends + 1
    if final and closed and len(data) and (len(ends) == 0 or ends[-1] < len(data)):
        ends = np.append(ends, len(data))
    return ends


def _is_proper(raw: Array, quotes: Array, delimiter: int) -> bool:
    """Return whether every other quote opens at the beginning of a cell, and those between close at the end of one."""
    around = np.isin(np.arange(256), [delimiter, _LINE_FEED, _RETURN, _QUOTE])
    opening, closing = quotes[::2], quotes[1::2]
    before = opening[opening > 0] - 1
    after = closing[closing < len(raw) - 1] + 1
    return bool(around[raw[before]].all() and around[raw[after]].all())


def _ends_by_steps(data: bytes, delimiter: int, *, final: bool) -> tuple[Array, bool]:
    """Return the newlines that end rows, where some quotes are no more than characters, and whether all are closed."""
    ends: list[int] = []
    outside, begins = re.compile(rb'"|\r\n?|\n'), (delimiter, _LINE_FEED, _RETURN)
    position, inside = 0, False
    while True:
        if inside:
            quote = data.find(b'"', position)
            if quote < 0:
                break
            inside = data[quote + 1 : quote + 2] == b'"'
            position = quote + 1 + inside
            continue
        if (match := outside.search(data, position)) is None:
            break
        position = match.end()
        if match[0] == b'"':
            inside = match.start() == 0 or data[match.start() - 1] in begins
        elif final or position < len(data) or match[0] != b"\r":
            ends.append(position - 1)
    return np.array(ends, np.int64), not inside


def _starts(data: bytes, ends: Array) -> Array:
    """Return where rows begin that are not blank."""
    raw = np.frombuffer(data, np.uint8)
    starts = np.concatenate([[0], ends[:-1]])
    lengths, first = ends - starts, raw[starts]
    blank = (lengths == 1) & ((first == _LINE_FEED) | (first == _RETURN)) | (lengths == 2) & (first == _RETURN)
    row_starts: Array = starts[~blank]
    return row_starts
