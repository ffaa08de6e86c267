"""Parquet files as a Dataset, read from row group to row group."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple

from framework.base.errors import DataError, Text
from framework.base.extras import load_module
from framework.data import blocks
from framework.data.files import File
from framework.data.table_files import Rows, TableFile, require_different, require_same_names


class Parquet(TableFile):
    """A table in Parquet files, read in blocks; it needs pyarrow.

    Rows are decoded from row group to row group, and never a file as a whole, so that memory does not grow with the
    size of the table. All files must have the same columns of the same types. Rows of a table of more than 8,388,608
    numbers are shuffled within windows, and then in another order than the same table in memory. A row group is read
    from its beginning: write row groups of at most 65,536 rows, and write a table that is sorted by its target in
    random order.

    Attributes:
        path: A file, a pattern such as ``"flights/*.parquet"``, a folder, a URL that fsspec reads, or several of them.
            The files of a pattern or a folder are sorted by name.
        target: The column to predict, or a tuple of columns; None for a table to predict from.
        weight: The column that holds the weight of each row.
        columns: The columns of x, in this order; None are all that are neither target nor weight. The others are not
            read.
        read_ahead: Whether a thread reads the next rows while the current ones are trained on.

    Raises:
        DataError: A file is missing, no Parquet file, or unlike the others; names the file and the column.
        UsageError: pyarrow is not installed.

    Example:
        >>> import pyarrow, pyarrow.parquet
        >>> table = pyarrow.table({"width": [1.0, 2.0, 3.0], "height": [2.0, 1.0, 0.0], "area": [2.0, 2.0, 0.0]})
        >>> pyarrow.parquet.write_table(table, "boxes.parquet")
        >>> data = Parquet("boxes.parquet", target="area")
        >>> len(data), data.names
        (3, ('width', 'height'))
        >>> x, y = data.read(1, 3)
        >>> x.to_pydict(), y.to_pylist()
        ({'width': [2.0, 3.0], 'height': [1.0, 0.0]}, [2.0, 0.0])
    """

    ending: ClassVar[str] = ".parquet"

    def _open(self, files: Sequence[File]) -> Rows:
        wanted = None if self.columns is None else {*self.columns, *self.targets, self.weight}
        return _ParquetRows(files, wanted)


def row_groups(file: File) -> list[int]:
    """Return how many rows each row group of a file has.

    Raises:
        DataError: It cannot be read, or is not a Parquet file.
    """
    with _open_file(file) as reader:
        return [reader.metadata.row_group(group).num_rows for group in range(reader.metadata.num_row_groups)]


def _open_file(file: File) -> Any:
    library = load_module("pyarrow.parquet", "Parquet")
    try:
        # A file that holds checksums of its pages is verified as it is read.
        return library.ParquetFile(file.open(), pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True)
    except load_module("pyarrow", "Parquet").ArrowInvalid as error:
        raise DataError(f"is not a Parquet file, or is damaged: {error}", name=f"Parquet: {file.url}") from error


class _Group(NamedTuple):
    """A row group: the number of its file, its number within it, its rows, and its first row in the table."""

    file: int
    number: int
    start: int
    rows: int


class _ParquetRows(Rows):
    """The row groups of some files, each of which is decoded from its beginning."""

    def __init__(self, files: Sequence[File], wanted: set[str | None] | None) -> None:
        """Read the footers, and keep of each only how many rows its groups have."""
        super().__init__("Parquet", files)
        digest = hashlib.sha256()
        groups: list[tuple[int, int, int]] = []
        for index, file in enumerate(files):
            reader = _open_file(file)
            # The index of a pandas frame that has no name is left out.
            fields = [field for field in reader.schema_arrow if not re.fullmatch("__index_level_.*__", field.name)]
            names = [field.name for field in fields]
            require_different("Parquet", file, names)
            schema = self.arrow.schema([field for field in fields if wanted is None or field.name in wanted])
            if index == 0:
                self.names, self.schema = names, schema
            else:
                require_same_names("Parquet", (files[0], self.schema.names), (file, schema.names))
                self._require_same_types(file, schema)
            metadata = reader.metadata
            groups += [(index, group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups)]
            digest.update(_footer(file))
        groups = [group for group in groups if group[2]]
        ends = [0, *accumulate(rows for *_, rows in groups)]
        self._groups = [
            _Group(file, number, start, rows) for (file, number, rows), start in zip(groups, ends, strict=False)
        ]
        self.starts, self.rows, self.digest = ends[:-1], ends[-1], digest.hexdigest()[:12]

    def tables(self, row: int, stop: int) -> tuple[int, int, Iterator[Any]]:
        """Return those of the row group."""
        group = self._groups[bisect_right(self.starts, row) - 1]
        self.require_unchanged(group.file)
        if self._file[0] != group.file:
            self._file = group.file, _open_file(self.files[group.file])
        return group.start, group.start + group.rows, self._decode_group(group)

    def _decode_group(self, group: _Group) -> Iterator[Any]:
        names = self.schema.names
        rows = max(1, blocks.READ_NUMBERS // len(names))
        try:
            # One thread: the other processors are for the training, whose next rows are read meanwhile.
            for batch in self._file[1].iter_batches(rows, row_groups=[group.number], columns=names, use_threads=False):
                same = batch.schema.equals(self.schema)  # else another order, or codes of another width
                aligned = batch if same else batch.select(names).cast(self.schema)
                yield self.arrow.Table.from_batches([aligned], self.schema)
        except Exception as error:
            name = f"Parquet: rows of {self.files[group.file].url}"
            raise DataError(f"cannot be read: {error}", name=name) from error
        raise DataError("has fewer rows than its footer says", name=f"Parquet: {self.files[group.file].url}")

    def _require_same_types(self, file: File, schema: Any) -> None:
        for column in self.schema.names:
            types = (layout.field(column).type for layout in (self.schema, schema))
            # The codes of a dictionary may differ in width.
            expected, got = (type_.value_type if self.arrow.types.is_dictionary(type_) else type_ for type_ in types)
            if got != expected:
                raise DataError(
                    "must have one type in all files",
                    name=f"Parquet: column {column!r}",
                    got=Text(f"{got} in {file.url}, {expected} in {self.files[0].url}"),
                    advice="write them alike, or leave the column out by columns=(...)",
                )


def _footer(file: File) -> bytes:
    """Return the description of a file's row groups, which holds their sizes and the least and greatest values."""
    opened = file.open()
    with opened:
        opened.seek(0, 2)
        size = opened.tell()
        opened.seek(size - 8)
        length = int.from_bytes(opened.read(8)[:4], "little")
        opened.seek(size - 8 - length)
        footer: bytes = opened.read(length)
        return footer
