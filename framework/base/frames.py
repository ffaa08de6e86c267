"""Frames: tables of pandas, polars and Arrow, read column by column with the same result from each.

narwhals reads the table, and Arrow the columns that do not hold plain numbers. Both are imported when a table is handed
in, never before.
"""

from __future__ import annotations

import copy
import math
import numbers
from collections import Counter
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from framework.base.errors import DataError, DtypeError, Text, brief, nearest
from framework.base.extras import load_module
from framework.base.settings.messages import list_names, printable

Kind: TypeAlias = Literal["number", "boolean", "text", "category", "date", "duration", "other"]

_LIBRARIES = {"cudf", "dask", "duckdb", "ibis", "modin", "narwhals", "pandas", "polars", "pyarrow", "pyspark"}
_FRAMES = {"DataFrame", "DuckDBPyRelation", "LazyFrame", "RecordBatch", "Table"}
_SERIES = {"Array", "ChunkedArray", "Series"}

LARGEST_WHOLE = 2**53
"""Up to this every whole number is a float64."""

_MICROSECONDS = {"ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "D": 86_400 * 10**6}

WORDS: dict[Kind, str] = {
    "number": "numbers",
    "boolean": "booleans",
    "text": "text",
    "category": "categories",
    "date": "dates",
    "duration": "durations",
    "other": "other values",
}
"""The values of each kind of column, in the words of messages."""

_ADVICE: dict[Kind, str] = {
    "number": "choose another step for it",
    "boolean": "choose another step for it",
    "text": "a Preprocess makes numbers of it, by OneHot() or Levels(), or by Classes() of a target",
    "category": "a Preprocess makes numbers of it, by OneHot() or Levels(), or by Classes() of a target",
    "date": "a Preprocess makes numbers of it, by Dates()",
    "duration": "make a column of seconds or of days of it",
    "other": "make numbers or text of it, or leave the column out",
}


def is_frame(value: Any) -> bool:
    """Return whether ``value`` is a table of pandas, polars, Arrow or narwhals; imports nothing.

    Example:
        >>> import pandas
        >>> is_frame(pandas.DataFrame({"age": [31]})), is_frame([[31.0]])
        (True, False)
    """
    return _is_one_of(value, _FRAMES)


def is_series(value: Any) -> bool:
    """Return whether ``value`` is one column of such a table; imports nothing.

    Example:
        >>> import pandas
        >>> is_series(pandas.Series([31])), is_series(np.array([31]))
        (True, False)
    """
    return _is_one_of(value, _SERIES)


def concatenate_rows(*parts: Any, name: str = "tables") -> Any:
    """Return arrays, tables or columns of one form as one, in the order of their rows.

    Raises:
        DataError: Tables have other columns, or other types of them; ``name`` begins the message.

    Example:
        >>> import pandas
        >>> concatenate_rows(pandas.Series([31]), pandas.Series([25])).tolist()
        [31, 25]
    """
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    nw = load_module("narwhals.stable.v2", name)
    tables = [nw.from_native(table, allow_series=True) for table in parts]
    label = None if is_frame(parts[0]) else tables[0].name or ""  # a column of Arrow has none
    try:
        whole = nw.concat(tables if label is None else [table.alias(label).to_frame() for table in tables])
    except Exception as error:  # of the library that the tables are of
        raise DataError(f"must have the same columns of the same types; {printable(str(error))}", name=name) from error
    return (whole if label is None else whole.get_column(label)).to_native()


def difference(wanted: tuple[str, ...], got: tuple[str, ...]) -> str:
    """Return the end of a message about names of columns that differ: both, the first that is missing, what to do.

    Example:
        >>> difference(("age", "size"), ("size", "ages"))
        "age, size; got size, ages; there is no column 'age'; did you mean 'ages'?"
    """
    there = set(got)
    absent = [name for name in wanted if name not in there]
    advice = f"there is no column {absent[0]!r}{nearest(absent[0], got)}" if absent else "choose them by their names"
    listed = (
        printable(text if len(text := ", ".join(names)) <= 200 else f"{text[:200]} ...") for names in (wanted, got)
    )
    return f"{'; got '.join(listed)}; {advice}"


def _is_one_of(value: Any, classes: set[str]) -> bool:
    return type(value) is not np.ndarray and any(
        cls.__name__ in classes and cls.__module__.partition(".")[0] in _LIBRARIES for cls in type(value).__mro__
    )


class Frame:
    """A table of pandas, polars, Arrow or narwhals, or one column of it.

    A null, NaN or NaT is missing. Columns of objects are what all their values are; a column without values is one of
    numbers.

    Args:
        table: The table, in memory, with one name for each column. A series is a table of one column.
        name: The argument's name in messages, ``"fit: argument 'x'"``.

    Attributes:
        names: The names of the columns, as text.

    Raises:
        DataError: Two columns have one name, the columns have names of several levels, or the table is lazy.
        UsageError: narwhals or pyarrow is not installed.

    Example:
        >>> import pandas
        >>> frame = Frame(pandas.DataFrame({"age": [31, None], "city": ["Bern", None]}))
        >>> frame.names, frame.rows, frame.kind("age"), frame.kind("city")
        (('age', 'city'), 2, 'number', 'text')
        >>> frame.numbers("age"), frame.texts("city")
        (array([31., nan]), (array([ 0, -1]), ('Bern',)))
    """

    def __init__(self, table: Any, name: str = "table") -> None:
        """Read the names of the columns."""
        nw, pa = load_module("narwhals.stable.v2", name), load_module("pyarrow", name)
        self._nw, self._pa, self._name = nw, pa, name
        native = nw.to_native(table, pass_through=True)
        if isinstance(native, pa.RecordBatch):
            native = pa.Table.from_batches([native])
        elif isinstance(native, pa.Array):
            native = pa.chunked_array([native])
        self._alone = is_series(native)
        self._held: Any = None
        try:
            self._held = nw.from_native(native, allow_series=True)
        except (nw.exceptions.NarwhalsError, TypeError) as error:
            if self._alone or not _twice(tuple(map(str, _labels(native)))):  # which are refused below
                raise DataError(f"must be a table that narwhals reads; {printable(str(error))}", name=name) from None
        if isinstance(self._held, nw.LazyFrame):
            raise DataError(f"must be a table in memory; got a {type(native).__name__}; collect it first", name=name)
        labels = [getattr(table, "name", None)] if self._alone else _labels(native)
        if any(isinstance(label, tuple) for label in labels) and not self._alone:
            raise DataError(
                f"{name} must have one name for each column; got names of several levels, first {brief(labels[0])}; "
                "join them, as frame.columns = ['_'.join(map(str, names)) for names in frame.columns]"
            )
        self.names = tuple("" if label is None else str(label) for label in labels)
        self._labels = dict(zip(self.names, labels, strict=True))
        if twice := _twice(self.names):
            raise DataError(f"{name} must have one name for each column; got {twice[0]!r} twice; rename or drop one")
        self._forget()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._held)

    @property
    def native(self) -> Any:
        """The table as its library has it; a RecordBatch is a Table."""
        return self._held.to_native()

    def take(self, rows: npt.NDArray[np.int64]) -> Frame:
        """Return the frame of these rows, in this order."""
        return self._with(self._held[rows])

    def slice(self, start: int, stop: int) -> Frame:
        """Return the frame of the rows ``start`` to ``stop - 1``."""
        return self._with(self._held[start:stop])

    def select(self, names: Iterable[str]) -> Frame:
        """Return the frame of these columns, in this order.

        Raises:
            DataError: A column does not exist; names the nearest. Or one is chosen twice.
        """
        chosen = tuple(names)
        if twice := _twice(chosen):
            raise DataError(f"choose each column once; got {twice[0]!r} twice", where=self._name)
        labels = {name: self._label(name) for name in chosen}
        frame = self._with(self._held.select(*map(self._nw.col, labels.values())))
        frame.names, frame._labels = chosen, labels
        return frame

    def column(self, name: str) -> Any:
        """Return a column with its name, as narwhals' Series: those of Arrow have no name. A sparse one is dense.

        Raises:
            DataError: The column does not exist; names the nearest.
        """
        if name not in self._columns:
            label = self._label(name)
            series = self._held if self._alone else self._held.get_column(label)
            native = series.to_native()
            if type(getattr(native, "dtype", None)).__name__ == "SparseDtype":  # of pandas
                series = self._nw.from_native(native.sparse.to_dense(), series_only=True)
            self._columns[name] = series
        return self._columns[name]

    def kind(self, name: str) -> Kind:
        """Return what a column holds.

        Decimals are numbers, times of day are durations since midnight, and lists, structs, bytes and mixed objects are
        "other".

        Raises:
            DataError: The column does not exist; names the nearest.
        """
        if name not in self._kinds:
            self._kinds[name] = self._kind(name)
        return self._kinds[name]

    def values(self, name: str | None = None) -> npt.NDArray[Any]:
        """Return a column of numbers or booleans, (rows,), in its own dtype; missing ones are NaN.

        ``name`` may be left out of a series.

        Raises:
            DtypeError: It holds something else; says what is in which row, and what to do.
        """
        name = self.names[0] if name is None else name
        kind = self.kind(name)
        if kind not in ("number", "boolean"):
            raise self._refusal(name, kind)
        if name in self._plain:
            return np.asarray(self.column(name).to_numpy())
        pa = self._pa
        array = self._array(name)
        if pa.types.is_null(array.type):
            return np.full(len(array), np.nan)
        if pa.types.is_boolean(array.type) and array.null_count:
            array = array.cast(pa.uint8())
        if pa.types.is_decimal(array.type):
            array = _floats_of(pa, array)
        return np.asarray(array.to_numpy(zero_copy_only=False))

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of numbers or booleans as float64, (rows,); missing ones are NaN.

        Raises:
            DtypeError: It holds something else; says what is in which row, and what to do.
        """
        return self.values(name).astype(np.float64, copy=False)

    def texts(self, name: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        """Return a column as (codes, levels): the place of each row's level, -1 where missing, (rows,); and the levels.

        Levels are the texts that occur, in the order of their first row; those of numbers and booleans are as
        ``text_of`` writes them.

        Raises:
            DtypeError: It holds dates, durations or something else; says what is in which row.
        """
        kind, pa = self.kind(name), self._pa
        if kind in ("date", "duration", "other"):
            raise self._refusal(name, kind, "text, categories or numbers")
        array = self._array(name)
        if array is not None and pa.types.is_dictionary(array.type):
            value = array.type.value_type
            array = array.cast(value) if _kind_of(pa.types, value) in ("text", "number", "boolean") else None
        if array is None:  # categories that are objects, such as intervals
            items = _items(self.column(name))
            array = pa.array([None if item is None else str(item) for item in items], pa.string())
        if pa.types.is_null(array.type):
            return np.full(len(array), -1), ()
        if pa.types.is_decimal(array.type):
            array = _floats_of(pa, array)
        if pa.types.is_floating(array.type):
            array = pa.array(array.to_numpy(zero_copy_only=False) + 0.0, from_pandas=True)  # -0.0 becomes 0
        encoded = array.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        try:
            written = [*map(text_of, encoded.dictionary.to_numpy(zero_copy_only=False))]
        except (UnicodeDecodeError, pa.ArrowException) as error:
            raise DataError(f"{self._name}: column {name!r} must hold text in UTF-8; {printable(str(error))}") from None
        levels = {text: index for index, text in enumerate(dict.fromkeys(written))}
        if len(levels) < len(written):  # two numbers of one text
            codes = np.array([*map(levels.__getitem__, written), -1], np.int64)[codes]
        return codes, tuple(levels)

    def not_numbers(self, name: str) -> npt.NDArray[np.bool_]:
        """Return where a column of text has something that does not read as a number, (rows,)."""
        codes, levels = self.texts(name)
        return np.array([*(not _reads_as_number(level) for level in levels), False])[codes]

    def zone(self, name: str) -> str | None:
        """Return the time zone of a column of dates, or None where it has none."""
        array = self._array(name) if self.kind(name) == "date" else None
        return None if array is None else getattr(array.type, "tz", None)

    def dates(self, name: str, zone: str | None = "own") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return a column of dates or durations as microseconds, (rows,), 0 where missing; and where it is missing.

        Dates count from 1970, on the clock of their time zone: 08:00 in Berlin is 08:00. Nanoseconds are cut off.

        Args:
            name: The column.
            zone: The time zone whose clock counts, None for dates without one, or "own".

        Raises:
            DtypeError: It holds something else; says what is in which row.
            DataError: A date is more than 292,000 years away; or dates have a time zone and must have none, or the
                reverse.
        """
        kind, pa = self.kind(name), self._pa
        if kind not in ("date", "duration"):
            raise self._refusal(name, kind, "dates or durations")
        array, own = self._array(name), self.zone(name)
        zone = own if zone == "own" or array.null_count == len(array) else zone
        if (own is None) != (zone is None):
            wanted, got = ("without a time zone" if tz is None else f"in a time zone, {tz}" for tz in (zone, own))
            raise DataError(
                f"{self._name}: column {name!r} must hold dates {wanted}; got dates {printable(got)}; convert them"
            )
        if own is not None:
            try:
                array = array.cast(pa.timestamp(array.type.unit, zone))
                array = load_module("pyarrow.compute", self._name).local_timestamp(array)
            except pa.ArrowInvalid as error:
                said = f"must hold dates of a known time zone; {printable(str(error))}"
                raise DataError(f"column {name!r} {said}", where=self._name) from None
        stamps = array.to_numpy(zero_copy_only=False)
        missing, unit = np.isnat(stamps), np.datetime_data(stamps.dtype)[0]
        most = np.iinfo(np.int64).max // _MICROSECONDS.get(unit, 1)
        whole = stamps.astype(np.int64)
        if (far := ((whole > most) | (whole < -most)) & ~missing).any():
            row = int(np.argmax(far))
            got = Text(f"another in {self.place(name, row)}")
            raise DataError("must hold dates within 292,000 years of 1970", name=self._name, got=got, row=row)
        cast = stamps.astype(f"{stamps.dtype.kind}8[us]")
        return np.where(missing, 0, cast.astype(np.int64)), missing

    def seconds(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column of durations in seconds, (rows,), also parts of a microsecond; missing ones are NaN.

        Raises:
            DtypeError: It holds something else; says what is in which row.
        """
        micros, missing = self.dates(name)
        rest = self._nanoseconds(name)
        duration = micros / 1e6 if rest is None else np.where(rest % 1000 == 0, micros / 1e6, rest / 1e9)
        return np.where(missing, np.nan, duration)

    def describe_rounding(self, name: str) -> str:
        """Return what ``numbers`` or ``dates`` lose of a column, for a warning; "" if they keep every value."""
        if self.kind(name) == "number" and self.column(name).dtype in (self._nw.Int64, self._nw.UInt64):
            array = self._array(name)
            ends = load_module("pyarrow.compute", self._name).min_max(array).as_py().values()
            if all(end is None or -LARGEST_WHOLE <= end <= LARGEST_WHOLE for end in ends):
                return ""
            whole = array.drop_null().to_numpy(zero_copy_only=False)
            with np.errstate(invalid="ignore"):  # the largest becomes a float beyond its dtype
                kept = whole.astype(np.float64).astype(whole.dtype) == whole
            return "" if kept.all() else "whole numbers beyond 2^53, which become the nearest floats"
        rest = self._nanoseconds(name) if self.kind(name) == "date" else None
        if rest is None or not (rest % 1000 != 0).any():
            return ""
        return "nanoseconds, which are cut off to microseconds"

    def _nanoseconds(self, name: str) -> npt.NDArray[np.int64] | None:
        """Return a column of dates or durations in nanoseconds, 0 where missing; None if it has a coarser unit."""
        array = self._array(name)
        if getattr(array.type, "unit", None) != "ns":
            return None
        nanoseconds: npt.NDArray[np.int64] = array.view(self._pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return nanoseconds

    def place(self, name: str, row: int) -> str:
        """Return how messages name a value: ``column 'age', row 4``; a series may have no name."""
        return f"column {name!r}, row {row}" if name or not self._alone else f"row {row}"

    def _with(self, held: Any) -> Frame:
        """Return a frame of other rows or columns of the table."""
        frame = copy.copy(self)
        frame._held = held
        frame._forget()
        return frame

    def _forget(self) -> None:
        """Start without anything known of the columns, as none was read."""
        self._columns: dict[str, Any] = {}
        self._kinds: dict[str, Kind] = {}
        self._arrays: dict[str, Any] = {}
        self._plain: set[str] = set()  # columns of numbers that NumPy has, too

    def _label(self, name: str) -> Any:
        """Return the name that the library has for a column: perhaps a number, where ``names`` has its digits."""
        if name not in self._labels:
            hint = nearest(name, self.names) or f". Columns: {list_names(self.names)}"
            raise DataError(f"has no column {name!r}{hint}", name=self._name)
        return self._labels[name]

    def _kind(self, name: str) -> Kind:
        nw, series = self._nw, self.column(name)
        dtype = series.dtype
        if dtype.is_numeric():
            if not (dtype.is_decimal() or isinstance(dtype, nw.Int128 | nw.UInt128)):
                self._plain.add(name)
            return "number"
        if dtype.is_nested() or dtype == nw.Binary:
            return "other"
        if str(getattr(series.to_native(), "dtype", "")) != "object":  # of pandas, where narwhals looks at the values
            kinds: dict[Kind, Any] = {
                "boolean": nw.Boolean,
                "text": nw.String,
                "category": nw.Categorical | nw.Enum,
                "date": nw.Date | nw.Datetime,
                "duration": nw.Duration | nw.Time,
            }
            if match := next((kind for kind, types in kinds.items() if isinstance(dtype, types)), None):
                return match
        array = self._array(name)
        return "other" if array is None else _kind_of(self._pa.types, array.type)

    def _array(self, name: str) -> Any:
        """Return a column as Arrow has it, times of day as durations, or None where it has nothing like it."""
        if name not in self._arrays:
            array, pa = self._convert_to_arrow(self.column(name)), self._pa
            if array is not None and pa.types.is_time(array.type):  # cut to microseconds
                array = array.cast(pa.time64("us"), safe=False).cast(pa.int64()).cast(pa.duration("us"))
            self._arrays[name] = array
        return self._arrays[name]

    def _convert_to_arrow(self, series: Any) -> Any:
        pa, native = self._pa, series.to_native()
        # Arrow may crash on objects of several types, so it is given text alone.
        categories = getattr(native.dtype, "categories", None) if type(native).__module__.startswith("pandas") else None
        if categories is not None and str(categories.dtype) == "object":
            of_text = self._nw.from_native(categories.to_series(), series_only=True).dtype == self._nw.String
            if not of_text:
                return None
        if series.dtype == self._nw.Object:
            return _array_of_objects(pa, _items(series))
        try:
            array = series.to_arrow()
        except (ValueError, TypeError, NotImplementedError, OverflowError):
            return _array_of_objects(pa, _items(series))
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if pa.types.is_run_end_encoded(array.type):
            return load_module("pyarrow.compute", self._name).run_end_decode(array)
        return array

    def _refusal(self, name: str, kind: Kind, wanted: str = "real numbers") -> DtypeError:
        """Return the error for a column that holds something else than what is wanted."""
        column = f": column {name!r}" if name or not self._alone else ""
        error = DtypeError(f"must hold {wanted}", name=f"{self._name}{column}", argument=name, expected=wanted)
        series, words, advice = self.column(name), WORDS[kind], _ADVICE[kind]
        there = np.flatnonzero(~series.is_null().to_numpy().astype(bool))
        if kind == "other":
            items = series.to_list()
            types = dict.fromkeys(type(items[row]).__name__ for row in there)
            words = f"{' and '.join([*types][:3]) or series.dtype} values"
            there = np.array([row for row in there if not _is_number(items[row])] or there, int)
        elif kind == "text" and len(there):
            strange = self.not_numbers(name)
            there = np.flatnonzero(strange) if strange.any() else there
            advice = advice if strange.any() else "all of it reads as numbers: cast the column, or choose other steps"
        if not len(there):
            error.got = Text(f"{words}, {'all missing' if self.rows else 'in no rows'}")
            return error.advise(advice)
        error.row = row = int(there[0])
        first = self.slice(row, row + 1)
        if kind in ("date", "duration"):
            shown = str(first.dates(name)[0].view("M8[us]" if kind == "date" else "m8[us]")[0].item())
        else:
            item = first.column(name).to_list()[0]
            shown = brief(item.item() if isinstance(item, np.str_) else item)
        error.got = Text(f"{words}, first {shown} in row {row}")
        return error.advise(advice)


def _labels(table: Any) -> list[Any]:
    """Return the names of a table's columns as its library has them: pyarrow's ``columns`` are the data."""
    return [*getattr(table, "column_names", table.columns)]


def _twice(names: tuple[str, ...]) -> list[str]:
    """Return the names that come more than once."""
    return [] if len(set(names)) == len(names) else [name for name, count in Counter(names).items() if count > 1]


def _kind_of(types: Any, kind: Any) -> Kind:
    """Return the kind of column that a type of Arrow is."""
    if types.is_null(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_dictionary(kind):
        return "category"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    if types.is_duration(kind):
        return "duration"
    return "text" if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) else "other"


def _is_number(item: Any) -> bool:
    """Return whether an object is a real number: timedelta64, which NumPy counts among the whole numbers, is not."""
    return isinstance(item, numbers.Real | Decimal | np.bool_) and not isinstance(item, np.timedelta64)


def _items(series: Any) -> list[Any]:
    """Return the values of a column, None for each that is missing."""
    nulls = series.is_null().to_numpy().tolist()
    return [None if null else item for item, null in zip(series.to_list(), nulls, strict=True)]


def as_column(array: npt.NDArray[Any], name: str) -> Any:
    """Return an array, (rows,), as a column of Arrow; None and NaN among objects are missing.

    Raises:
        DtypeError: The objects are of several types, or of one that no column has.

    Example:
        >>> as_column(np.array(["no", None, "yes"], object), "y").null_count
        1
    """
    pa = load_module("pyarrow", name)
    if array.dtype != object:
        return pa.array(array)
    items = [None if item is None or _is_nan(item) else item for item in array.tolist()]
    if all(isinstance(item, str | None) for item in items):
        return pa.array(items, pa.string())
    if (column := _array_of_objects(pa, items)) is None:
        types = dict.fromkeys(type(item).__name__ for item in items if item is not None)
        raise DtypeError(f"must hold values of one type; got {' and '.join([*types][:3])} values", name=name)
    return column


def _is_nan(item: Any) -> bool:
    """Return whether an object is NaN, or pandas' NA or NaT."""
    if isinstance(item, float | Decimal | np.floating):
        return math.isnan(item)
    return type(item).__name__ in ("NAType", "NaTType")


def _array_of_objects(pa: Any, items: list[Any]) -> Any:
    """Return objects as an array of what they all are: booleans, numbers, dates of one zone, durations, times; or None.

    A whole number that is too large becomes inf.
    """
    present = [item for item in items if item is not None]
    types = set(map(type, present))

    def are(*classes: type) -> bool:
        return all(issubclass(kind, classes) for kind in types)

    if not types:
        return pa.nulls(len(items))
    if are(bool, np.bool_):
        return pa.array([None if item is None else bool(item) for item in items], pa.bool_())
    if are(timedelta, np.timedelta64):
        return _time_array(pa, items, "m8[us]")
    if are(time):  # of day, in no time zone
        return None if any(item.tzinfo for item in present) else pa.array(items, pa.time64("us"))
    if are(date, np.datetime64):
        zones = {str(zone): zone for zone in (getattr(item, "tzinfo", None) for item in present)}
        if zones == {"None": None}:
            return _time_array(pa, items, "M8[us]")
        (zone, *others) = zones.values()
        return None if others else pa.array(items, pa.timestamp("us", pa.lib.tzinfo_to_string(zone)))
    return _real_array(pa, items, whole=are(numbers.Integral)) if all(map(_is_number, present)) else None


def _real_array(pa: Any, items: list[Any], *, whole: bool) -> Any:
    """Return real numbers as an array: of int64 if they are whole numbers that it holds, else of float64."""
    try:
        if whole:
            return pa.array([None if item is None else int(item) for item in items], pa.int64())
    except OverflowError:
        pass
    return pa.array([None if item is None else _float(item) for item in items], pa.float64())


def _time_array(pa: Any, items: list[Any], unit: str) -> Any:
    """Return dates or durations as an array of microseconds, or None if NumPy cannot convert them."""
    try:
        return pa.array(np.array(items, unit))
    except (TypeError, ValueError, OverflowError):  # such as a duration of months
        return None


def _floats_of(pa: Any, decimals: Any) -> Any:
    """Return decimals as the nearest floats, which Arrow's direct cast does not give."""
    return decimals.cast(pa.string()).cast(pa.float64())


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _float(item: Any) -> float:
    try:
        return float(item)
    except OverflowError:
        return math.inf


def text_of(value: Any) -> str:
    """Return the text of a value: that of a number depends on its value alone, and on no dtype.

    A whole number below 2^64 is written with all its digits, 3 for 3.0. Another number is written as short as it can
    be: a number that float32 holds so that float32 reads it back, any other so that float64 does. So 0.1 of float32 is
    0.1, also after a conversion to float64, as is 0.1 of float64.

    Example:
        >>> text_of(np.float32(0.1)), text_of(float(np.float32(0.1))), text_of(0.1), text_of(1e-7)
        ('0.1', '0.1', '0.1', '1e-07')
        >>> text_of(3.0), text_of(np.int64(3)), text_of(-0.0), text_of(True), text_of("Bern")
        ('3', '3', '0', 'True', 'Bern')
    """
    if not isinstance(value, float | np.floating):
        return str(value)
    number = float(value)
    if number.is_integer() and abs(number) < 2.0**64:
        return str(int(number))
    with np.errstate(over="ignore"):
        narrow = np.float32(number)
    shortest = narrow if float(narrow) == number else np.float64(number)
    short = 1e-6 < abs(number) < 1e22
    return (np.format_float_positional if short else np.format_float_scientific)(shortest, trim="-")
