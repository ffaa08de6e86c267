"""Ugly tables: each becomes the right numbers, or is refused with the name of its column."""

import datetime as dt
import enum
import re
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from framework import CSV, FrameworkError, Impute, MeanSquaredError, Neuron, OneHot, Preprocess, SGDOptimizer, Trainer
from framework.base.arrays import real_array
from framework.preprocessing import Dates, Drop

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "Arrow": pa.table}
CAST = "; all of it reads as numbers: cast the column, or choose other steps"
TEXT = "; a Preprocess makes numbers of it, by OneHot() or Levels(), or by Classes() of a target"
DATE = "; a Preprocess makes numbers of it, by Dates()"
OTHER = "; make numbers or text of it, or leave the column out"
FILL = "; drop the rows with missing values, or fill these by Impute() in a Preprocess"


def real(got):
    return f": column 'c' must hold real numbers; got {got}"


def missing(row, count, size=2):
    return f" must be finite; got nan in column 'c', row {row} ({count} of {size} values){FILL}"


NOON = dt.datetime(2020, 7, 1, 12)
PARIS, TOKYO = pd.Timestamp(NOON, tz="Europe/Paris"), pd.Timestamp(NOON, tz="Asia/Tokyo")


class Color(enum.Enum):
    RED = 1


IN_EACH = {
    "integers": ([1, 2], [1, 2]),
    "booleans": ([True, False], [1, 0]),
    "decimals": ([Decimal("40.98"), Decimal("-0.10")], [40.98, -0.1]),
    "the largest integers": ([2**63 - 1, -(2**63)], [2.0**63, -(2.0**63)]),
    "unsigned integers": (np.array([2**64 - 1, 0], "uint64"), [2.0**64, 0]),
    "small unsigned integers": (np.array([255, 0], "uint8"), [255, 0]),
    "halves": (np.array([0.5, 65504], "float16"), [0.5, 65504]),
    "negative zero": ([-0.0, 5e-324], [-0.0, 5e-324]),
    "integers and a null": ([1, None], missing(1, 1)),
    "booleans and a null": ([None, True], missing(0, 1)),
    "decimals and a null": ([Decimal("0.1"), None], missing(1, 1)),
    "nan": ([0.5, np.nan], missing(1, 1)),
    "nothing": ([None, None], missing(0, 2)),
    "infinity": ([0.5, -np.inf], " must be finite; got -inf in column 'c', row 1 (1 of 2 values)"),
    "text": (["a", "b"], real(f"text, first 'a' in row 0{TEXT}")),
    "numbers as text": ([None, "2"], real(f"text, first '2' in row 1{CAST}")),
    "a question mark": (["2", "?"], real(f"text, first '?' in row 1{TEXT}")),
    "a unit": (["2", "3 km"], real(f"text, first '3 km' in row 1{TEXT}")),
    "text and nulls": ([None, "b"], real(f"text, first 'b' in row 1{TEXT}")),
    "empty text": (["", None], real(f"text, first '' in row 0{TEXT}")),
    "escapes in text": (["\x1b[31m", "b"], real(f"text, first '\\x1b[31m' in row 0{TEXT}")),
    "dates": ([dt.date(1850, 1, 2)] * 2, real(f"dates, first 1850-01-02 00:00:00 in row 0{DATE}")),
    "times": ([None, NOON], real(f"dates, first 2020-07-01 12:00:00 in row 1{DATE}")),
    "times with a zone": ([NOON.replace(tzinfo=dt.UTC)] * 2, real(f"dates, first 2020-07-01 12:00:00 in row 0{DATE}")),
    "durations": (
        [dt.timedelta(hours=-1), None],
        real("durations, first -1 day, 23:00:00 in row 0; make a column of seconds or of days of it"),
    ),
    "times of day": (
        [dt.time(8), None],
        real("durations, first 8:00:00 in row 0; make a column of seconds or of days of it"),
    ),
    "lists": ([[1.0, 2.0], [3.0, 4.0]], real(f"list values, first [1.0, 2.0] in row 0{OTHER}")),
    "structs": ([{"a": 1}] * 2, real(f"dict values, first {{'a': 1}} in row 0{OTHER}")),
    "bytes": ([b"1", b"2"], real(f"bytes values, first b'1' in row 0{OTHER}")),
}
"""Columns of every library."""

OBJECTS = {
    "integers as objects": ([1, 2**70], [1, 2.0**70]),
    "too large for a float": ([10**400, 1], " must be finite; got inf in column 'c', row 0 (1 of 2 values)"),
    "booleans among numbers": ([True, 2.5], [1, 2.5]),
    "decimals among numbers": ([Decimal("0.1"), 2.5], [0.1, 2.5]),
    "fractions": ([Fraction(1, 4), 1], [0.25, 1]),
    "scalars of NumPy": ([np.float32(1.5), np.bool_(True)], [1.5, 1]),
    "NA among numbers": ([1, pd.NA], missing(1, 1)),
    "text among numbers": ([1, "b"], real(f"int and str values, first 'b' in row 1{OTHER}")),
    "numbers among text": (["a", 1], real(f"str and int values, first 'a' in row 0{OTHER}")),
    "dates among text": (["a", dt.date(2020, 1, 1)], real(f"str and date values, first 'a' in row 0{OTHER}")),
    "times after dates": ([dt.date(2020, 1, 1), NOON], real(f"dates, first 2020-01-01 00:00:00 in row 0{DATE}")),
    "dates among halves": (
        [np.datetime64("2020-01-01"), np.float16(1.5)],  # which crash Arrow
        real(f"datetime64 and float16 values, first {np.datetime64('2020-01-01')!r} in row 0{OTHER}"),
    ),
    "months": ([np.timedelta64(1, "M"), None], real("timedelta64 values, first np.timedelta64(1,'M') in row 0")),
    "two time zones": ([PARIS, TOKYO], real(f"Timestamp values, first {PARIS!r} in row 0{OTHER}")),
    "a time zone and none": ([NOON, TOKYO], real(f"datetime and Timestamp values, first {NOON!r} in row 0{OTHER}")),
    "durations of NumPy among numbers": (
        [np.timedelta64(1, "s"), 1],
        real(f"timedelta64 and int values, first {np.timedelta64(1, 's')!r} in row 0{OTHER}"),
    ),
    "text without a Unicode form": (["\ud800", "b"], real(f"str values, first '\\ud800' in row 0{OTHER}")),
    "identifiers": ([uuid.UUID(int=3), None], real(f"UUID values, first {uuid.UUID(int=3)!r} in row 0{OTHER}")),
    "members of an enum": ([Color.RED, Color.RED], real(f"Color values, first {Color.RED!r} in row 0{OTHER}")),
    "arrays": ([np.zeros(2), np.ones(2)], real(f"ndarray values, first array([0., 0.]) in row 0{OTHER}")),
}
"""Columns of objects, which pandas alone has."""


def series(values, dtype=None):
    return pd.DataFrame({"c": pd.Series(values, dtype=dtype)})


def arrow(array):
    return pa.table({"c": array})


CATEGORIES = real(f"categories, first 'b' in row 0{TEXT}")
OWN = {
    "pandas: Int64": (series([1, 2], "Int64"), [1, 2]),
    "pandas: UInt8 and a null": (series([255, None], "UInt8"), missing(1, 1)),
    "pandas: boolean and a null": (series([None, True], "boolean"), missing(0, 1)),
    "pandas: Arrow's integers": (series([1, 2], "int8[pyarrow]"), [1, 2]),
    "pandas: Arrow's integers and a null": (series([1, None], "int8[pyarrow]"), missing(1, 1)),
    "pandas: sparse numbers": (series(pd.arrays.SparseArray([0.0, 2.5])), [0, 2.5]),
    "pandas: sparse numbers and nan": (series(pd.arrays.SparseArray([np.nan, 2.5])), missing(0, 1)),
    "pandas: sparse booleans": (series(pd.arrays.SparseArray([True, False])), [1, 0]),
    "pandas: sparse text": (series(pd.arrays.SparseArray(["b", None])), real(f"text, first 'b' in row 0{TEXT}")),
    "pandas: the other byte order": (series(np.array([1.5, -2.0], ">f8")), [1.5, -2.0]),
    "pandas: long doubles": (series(np.array([1.5, -2.0], "longdouble")), [1.5, -2.0]),
    "pandas: every second row": (pd.DataFrame({"c": [1.0, 5.0, 2.0]}).iloc[::2], [1, 2]),
    "pandas: rows of two levels": (
        pd.DataFrame({"c": [1.0, 2.0]}, pd.MultiIndex.from_tuples([(0, 1), (0, 2)])),
        [1, 2],
    ),
    "pandas: one label for two rows": (pd.DataFrame({"c": [1.0, 2.0]}, index=[7, 7]), [1, 2]),
    "pandas: complex numbers": (series([1j, 2]), real(f"complex values, first 1j in row 0{OTHER}")),
    "pandas: categories": (series(["b", None], "category"), CATEGORIES),
    "pandas: categories that are numbers": (series([3, 1], "category"), real(f"categories, first 3 in row 0{TEXT}")),
    "pandas: categories of several types": (series(["b", 1], "category"), CATEGORIES),
    "pandas: intervals": (
        pd.DataFrame({"c": pd.cut(pd.Series([1, 2]), [0, 1, 2])}),
        real(f"categories, first Interval(0, 1, closed='right') in row 0{TEXT}"),
    ),
    "pandas: periods": (
        series(pd.period_range("2020", periods=2, freq="M")),
        real(f"Period values, first Period('2020-01', 'M') in row 0{OTHER}"),
    ),
    "pandas: no dates": (series([pd.NaT, pd.NaT]), real(f"dates, all missing{DATE}")),
    "pandas: summer time": (series([PARIS, PARIS]), real(f"dates, first 2020-07-01 12:00:00 in row 0{DATE}")),
    "pandas: text of Python": (series(["b", None], "string"), real(f"text, first 'b' in row 0{TEXT}")),
    "pandas: names of two levels": (
        pd.DataFrame([[1.0, 2.0]], columns=pd.MultiIndex.from_tuples([("c", 1), ("c", 2)])),
        " must have one name for each column; got names of several levels, first ('c', 1); join them, as frame.columns",
    ),
    "pandas: one name twice": (
        pd.DataFrame([[1.0, 2.0]], columns=["c", "c"]),
        " must have one name for each column; got 'c' twice; rename or drop one",
    ),
    "pandas: a number and its digits": (
        pd.DataFrame([[1.0, 2.0]], columns=[1, "1"]),
        " must have one name for each column; got '1' twice; rename or drop one",
    ),
    "pandas: names that are numbers": (pd.DataFrame([[1.0, 2.0]]), [[1, 2]]),
    "polars: 10,000 columns": (pl.DataFrame(np.arange(20000.0).reshape(2, -1)), np.arange(20000.0).reshape(2, -1)),
    "polars: 10,000 columns and nan": (
        pl.DataFrame(np.where(np.arange(20000) == 12345, np.nan, 0.0).reshape(2, -1)),
        f" must be finite; got nan in column 'column_2345', row 1 (1 of 20000 values){FILL}",
    ),
    "pandas: one row": (pd.DataFrame({"c": [2.0]}), [2]),
    "pandas: a name that is empty": (
        pd.DataFrame({"": [0.5, np.nan]}),
        f" must be finite; got nan in column '', row 1 (1 of 2 values){FILL}",
    ),
    "polars: several chunks": (
        pl.concat([pl.DataFrame({"c": [1.0]}), pl.DataFrame({"c": [2.0]})], rechunk=False),
        [1, 2],
    ),
    "polars: Int128": (pl.DataFrame({"c": pl.Series([1, 2**100], dtype=pl.Int128)}), [1, 2.0**100]),
    "polars: numbers as objects": (pl.DataFrame({"c": pl.Series([1, 2.5], dtype=pl.Object)}), [1, 2.5]),
    "polars: categories": (pl.DataFrame({"c": pl.Series(["b", None], dtype=pl.Categorical)}), CATEGORIES),
    "polars: enum": (pl.DataFrame({"c": pl.Series(["b", None], dtype=pl.Enum(["a", "b"]))}), CATEGORIES),
    "polars: arrays of one width": (
        pl.DataFrame({"c": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))}),
        real(f"list values, first [1, 2] in row 0{OTHER}"),
    ),
    "polars: a date beyond microseconds": (
        pl.DataFrame({"c": pl.Series([0, 2**31 - 1], dtype=pl.Int32).cast(pl.Date)}),
        real(f"dates, first 1970-01-01 00:00:00 in row 0{DATE}"),
    ),
    "polars: lazy": (
        pl.LazyFrame({"c": [1.0]}),
        " must be a table in memory; got a LazyFrame; collect it first",
    ),
    "Arrow: a record batch": (pa.record_batch({"c": [1.0, 2.0]}), [1, 2]),
    "Arrow: a slice": (pa.table({"c": [9.0, 1.0, 2.0]}).slice(1), [1, 2]),
    "Arrow: uneven chunks": (arrow(pa.chunked_array([[1.0], [], [2.0]])), [1, 2]),
    "Arrow: runs": (arrow(pa.RunEndEncodedArray.from_arrays([2], [1.5])), [1.5, 1.5]),
    "Arrow: wide decimals": (arrow(pa.array([Decimal("1.1"), Decimal(2)], pa.decimal256(50, 3))), [1.1, 2]),
    "Arrow: categories": (arrow(pa.array(["b", None]).dictionary_encode()), CATEGORIES),
    "Arrow: a null among the categories": (
        arrow(pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["b", None]))),
        CATEGORIES,
    ),
    "Arrow: days in milliseconds": (
        arrow(pa.array([dt.date(2020, 1, 2)] * 2, pa.date64())),
        real(f"dates, first 2020-01-02 00:00:00 in row 0{DATE}"),
    ),
    "Arrow: a time zone that does not exist": (
        arrow(pa.array([NOON] * 2, pa.timestamp("us", "Mars/Base"))),
        ": column 'c' must hold dates of a known time zone; Cannot locate",
    ),
    "Arrow: text that is not UTF-8": (
        arrow(pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])),
        ": column 'c' must hold text in UTF-8; ",
    ),
    "Arrow: maps": (
        arrow(pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))),
        real(f"list values, first [('a', 1)] in row 0{OTHER}"),
    ),
    "Arrow: one name twice": (
        pa.table([pa.array([1.0]), pa.array([2.0])], names=["c", "c"]),
        " must have one name for each column; got 'c' twice; rename or drop one",
    ),
    "a library that narwhals does not read": (
        type("DataFrame", (), {"__module__": "pyspark.sql", "columns": ["c"]})(),
        " must be a table that narwhals reads; ",
    ),
    "narwhals": (nw.from_native(pl.DataFrame({"c": [1.0, 2.0]})), [1, 2]),
}
"""What one library alone has."""

CSVS = {
    "newlines in quotes": (b'c,y\n"1\n",0\n2,1\n', "argument 'x': column 'c' must hold real numbers; got text"),
    "a question mark": (b"c,y\n1,0\n?,1\n", f"argument 'x'{missing(1, 1)}"),
    "NA": (b"c,y\n1,0\nNA,1\n", f"argument 'x'{missing(1, 1)}"),
    "numbers with commas": (
        b'c,y\n"1,234",0\n2,1\n',
        "column 'c' has numbers with ',', first '1,234' in row 0; write thou",
    ),
    "numbers with points and commas": (
        b'c,y\n1.23,0\n"4,5",1\n',
        "column 'c' has numbers that are not written alike, first '4,5' in row 1; write all of them alike, or text=",
    ),
    "not UTF-8": (
        "c,y\ncafé,0\n2,1\n".encode("latin-1"),
        "t.csv must be utf-8 text; row 0 has the byte 0xe9; write the",
    ),
    "a byte order mark": (b"\xef\xbb\xbfc,y\n1,0\n2,1\n", [1, 2]),
    "carriage returns": (b"c,y\r\n1,0\r\n2,1", [1, 2]),
    "a cell less": (b"c,y\n1,0\n2\n", "row 1 must have 2 cells; got 1: '2'"),
    "one name twice": (b"c,c,y\n1,1,0\n", "t.csv has 2 columns 'c'; rename them"),
    "no text": (b"", "t.csv is empty; a file must begin with a line of column names"),
    "no rows": (b"c,y\n", "must have at least one row"),
    "booleans": (b"c,y\ntrue,0\nFalse,1\n", [1, 0]),
    "booleans among 0 and 1": (
        b"c,y\ntrue,0\n1,1\n",
        "column 'c' must hold real numbers; CSV reads it as text because of 'true' in row 0",
    ),
    "the first line of Excel": (b"sep=,\r\nc,y\r\n1,0\r\n2,1\r\n", [1, 2]),
    "another first line of Excel": (
        b"sep=;\nc;y\n1;0\n2;1\n",
        "t.csv says in its first line that cells end with ';'; write delimiter=';'",
    ),
    "hexadecimal codes": (b"c,y\n0x10,0\n1F,1\n", "column 'c' must hold real numbers; got text, first '0x10' in row 0"),
    "hexadecimal numbers": (
        b"c,y\n0x10,0\n12,1\n",
        "column 'c' must hold real numbers; CSV reads it as text because of '0x10' in row 0",
    ),
    "0x in another column": (
        b"c,t,y\n10,0x,0\n12,x,1\n",
        "column 't' must hold real numbers; got text, first '0x' in row 0",
    ),
    "dates": (b"c,y\n2020-01-02,0\n2020-01-03,1\n", "column 'c' must hold real numbers; got dates, first 2020-01-02"),
    "beyond 64 bits": (b"c,y\n18446744073709551616,0\n1e-3,1\n", [2.0**64, 0.001]),
    "beyond floats": (b"c,y\n1,0\n1e999,1\n", "argument 'x' must be finite; got inf in column 'c', row 1"),
    "percent": (b"c,y\n5%,0\n6%,1\n", "column 'c' must hold real numbers; got text, first '5%' in row 0"),
    "a target of text": (
        b"c,y\n1,no\n2,yes\n",
        "argument 'y': column 'y' must hold real numbers; got text, first 'no' in row 0",
    ),
    "a target that is missing": (b"c,y\n1,0\n2,\n", "argument 'y': column 'y' must be finite; got nan in row 1"),
    "the target alone": (b"y\n1\n2\n", "argument 'x' must not have an empty axis"),
}
"""CSV files; tests/data/test_csv.py has more."""

TABLES = {
    **{
        f"{lib}: {name}": (make({"c": v}), said)
        for name, (v, said) in IN_EACH.items()
        for lib, make in LIBRARIES.items()
    },
    **{f"pandas: {name}": (series(v, object), said) for name, (v, said) in OBJECTS.items()},
    **OWN,
}


@pytest.mark.share(1 / 3)
@pytest.mark.filterwarnings("ignore:.*holds whole numbers beyond 2")  # see test_rounded.py
@pytest.mark.parametrize("name", TABLES)
def test_an_ugly_table_is_right_or_refused_with_its_column(name):
    table, expected = TABLES[name]
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-300))
    if isinstance(expected, str):
        with pytest.raises(FrameworkError) as caught:
            trainer.fit(Neuron(), (table, [0.0, 1.0]))
        assert str(caught.value).startswith(f"fit: argument 'x'{expected}")
        return
    expected = np.array(expected, float)
    expected = expected[:, None] if expected.ndim == 1 else expected
    found = real_array(table, "x", "float64")
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(np.signbit(found), np.signbit(expected))
    trainer.evaluate(Neuron(expected.shape[1]), (table, np.zeros(len(expected))))


EMPTY = {
    "no rows": (lambda make: make({"c": np.zeros(0)}), " must have at least one row; got shape (0, 1)"),
    "no rows of text": (lambda make: make({"c": pd.Series([], dtype="string")}), real("text, in no rows")),
    "no columns": (lambda make: make({}), " must have the shape (rows, 1); got (0, 0)"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_table_is_refused(library, kind):
    make, said = EMPTY[kind]
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(FrameworkError) as caught:
        trainer.fit(Neuron(1), (make(LIBRARIES[library]), []))
    assert str(caught.value).startswith(f"fit: argument 'x'{said}")


@pytest.mark.parametrize("name", CSVS)
def test_an_ugly_csv_file_is_right_or_refused_with_its_column(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, expected = CSVS[name]
    Path("t.csv").write_bytes(text)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-300))
    if isinstance(expected, str):
        with pytest.raises(FrameworkError, match=re.escape(expected)):
            trainer.fit(Neuron(), CSV("t.csv", target="y"))
        return
    x, _ = CSV("t.csv", target="y").read(0, 2)
    np.testing.assert_array_equal(real_array(x, "x"), np.array(expected)[:, None])
    trainer.fit(Neuron(), CSV("t.csv", target="y"))


STEPS = {
    "<number>": [Impute()],
    "<boolean>": [Impute()],
    "<text>": [OneHot()],
    "<category>": [OneHot()],
    "<date>": [Dates(), Impute()],
    "<duration>": [Impute()],
    "<other>": [Drop()],
}


def turn(share):
    """The sine and the cosine of a share of a full circle."""
    return [np.sin(2 * np.pi * share), np.cos(2 * np.pi * share)]


A_LEVEL_EACH, BACKWARDS = [[1, 0], [0, 1]], [[0, 1], [1, 0]]
"""Levels stand in their order, and a missing one after them."""
ONE_AND_A_FLAG = [[1, 0], [1, 1]]
"""A missing number is filled by the mean of the others, and flagged in a second column."""
WEDNESDAY, THURSDAY = 2 / 7, 3 / 7
NOON_OF_JULY = [2020, *turn(6 / 12), *turn(0), *turn(WEDNESDAY), *turn(12 / 24)]
EMPTY_COLUMN = "column 'c' has no values, so nothing can be learnt from it; write Drop() for it"

PREPARED = {
    **dict.fromkeys(("text", "a question mark", "a unit", "empty text", "escapes in text"), A_LEVEL_EACH),
    **dict.fromkeys(("numbers as text", "text and nulls"), BACKWARDS),
    **dict.fromkeys(("integers and a null", "NA among numbers"), ONE_AND_A_FLAG),
    "booleans and a null": [[1, 1], [1, 0]],
    "decimals and a null": [[0.1, 0], [0.1, 1]],
    "nan": [[0.5, 0], [0.5, 1]],
    "nothing": EMPTY_COLUMN,
    "infinity": "column 'c' has an infinite number in row 1; replace or drop it",
    "too large for a float": "column 'c' has an infinite number in row 0; replace or drop it",
    "dates": [[1850, *turn(0), *turn(1 / 31), *turn(WEDNESDAY), *turn(0)]] * 2,
    "times": [[*NOON_OF_JULY, 1], [*NOON_OF_JULY, 0]],
    "times with a zone": [NOON_OF_JULY] * 2,
    "times after dates": [[2020, *turn(0), *turn(0), *turn(WEDNESDAY), *turn(0)], NOON_OF_JULY],
    "durations": [[-3600, 0], [-3600, 1]],
    "times of day": [[28800, 0], [28800, 1]],
    "pandas: UInt8 and a null": [[255, 0], [255, 1]],
    "pandas: boolean and a null": [[1, 1], [1, 0]],
    "pandas: Arrow's integers and a null": ONE_AND_A_FLAG,
    "pandas: sparse numbers and nan": [[2.5, 1], [2.5, 0]],
    "pandas: sparse text": A_LEVEL_EACH,
    "pandas: categories": A_LEVEL_EACH,
    "pandas: categories that are numbers": BACKWARDS,
    "pandas: categories of several types": BACKWARDS,
    "pandas: intervals": A_LEVEL_EACH,
    "pandas: no dates": EMPTY_COLUMN,
    "pandas: summer time": [NOON_OF_JULY] * 2,
    "pandas: text of Python": A_LEVEL_EACH,
    "pandas: a name that is empty": [[0.5, 0], [0.5, 1]],
    "polars: categories": A_LEVEL_EACH,
    "polars: enum": A_LEVEL_EACH,
    "polars: a date beyond microseconds": "must hold dates within 292,000 years of 1970; got another in column",
    "Arrow: categories": A_LEVEL_EACH,
    "Arrow: a null among the categories": A_LEVEL_EACH,
    "Arrow: days in milliseconds": [[2020, *turn(0), *turn(1 / 31), *turn(THURSDAY), *turn(0)]] * 2,
}
"""What the steps make of a table or say of it, where this is not what the table is, or is refused for, without them."""


@pytest.mark.share(1 / 3)
@pytest.mark.filterwarnings("ignore:.*holds whole numbers beyond 2")  # see test_rounded.py
@pytest.mark.parametrize("name", [name for name in TABLES if "10,000" not in name])
def test_a_preprocess_makes_the_right_numbers_of_an_ugly_table_or_names_its_column(name):
    table, without = TABLES[name]
    expected = PREPARED.get(name, PREPARED.get(name.partition(": ")[2], without))
    if expected is without and isinstance(without, str) and " values, first " in without:  # the kind "<other>"
        expected = "the Preprocess drops every column, so nothing is left for the model"
    preprocess = Preprocess(columns=STEPS)
    if isinstance(expected, str):
        with pytest.raises(FrameworkError, match=re.escape(expected.strip(" :"))):
            preprocess.fit(table)
        return
    expected = np.array(expected, float)
    expected = expected[:, None] if expected.ndim == 1 else expected
    np.testing.assert_allclose(preprocess.fit(table).transform(table), expected, rtol=1e-14, atol=1e-15)
