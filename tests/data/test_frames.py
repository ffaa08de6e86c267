"""Tables: read alike from pandas, polars and Arrow; what is not plain numbers is refused by column and row."""

import datetime as dt
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from framework import (
    DataError,
    Dense,
    Embedding,
    Flatten,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Trainer,
    split,
)
from framework.base import DtypeError, UsageError
from framework.base.arrays import real_array
from framework.base.frames import Frame, as_column, is_frame, is_series
from framework.data.parts import parts

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "Arrow": pa.table}
TRAINER = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))


@pytest.fixture(params=LIBRARIES)
def table(request):
    """A function that makes a table of one library from columns by name."""
    return LIBRARIES[request.param]


BERLIN = dt.timezone(dt.timedelta(hours=2))
DAY, NOON = dt.date(2020, 1, 2), dt.datetime(1960, 1, 2, 12, 0, 0, 5)

KINDS = {
    "integers": ([1, 2, 3], "number"),
    "integers and nulls": ([1, None, 3], "number"),
    "floats": ([1.5, None, -2.0], "number"),
    "booleans": ([True, False, True], "boolean"),
    "booleans and nulls": ([True, None, False], "boolean"),
    "decimals": ([Decimal("1.10"), None, Decimal("2.35")], "number"),
    "nulls": ([None, None, None], "number"),
    "text": (["a", None, "b"], "text"),
    "dates": ([DAY, None, DAY], "date"),
    "times": ([NOON, None, NOON], "date"),
    "zoned times": ([dt.datetime(2020, 7, 1, 8, tzinfo=dt.UTC), None, None], "date"),
    "durations": ([dt.timedelta(days=1), None, dt.timedelta(seconds=-3)], "duration"),
    "lists": ([[1], None, [2]], "other"),
    "bytes": ([b"a", None, b"b"], "other"),
    "times of day": ([dt.time(8), None, dt.time(9, 30, 1, 5)], "duration"),
    "structs": ([{"a": 1}, None, {"a": 2}], "other"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_is_of_one_kind_in_every_library(table, kind):
    values, expected = KINDS[kind]
    assert Frame(table({"c": values})).kind("c") == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][1] in ("number", "boolean")])
def test_numbers_are_those_of_python_and_missing_ones_nan(table, kind):
    values, _ = KINDS[kind]
    expected = [np.nan if value is None else float(value) for value in values]
    found = Frame(table({"c": values})).numbers("c")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["b", None, "a", "b"], ("b", "a")),
        ([True, None, False, True], ("True", "False")),
        ([3, None, 1, 3], ("3", "1")),
        ([3.0, None, 0.1, 3.0], ("3", "0.1")),
        ([-0.0, None, 2e22, 0.0], ("0", "2e+22")),
        ([Decimal("3.00"), None, Decimal("0.10"), Decimal("3.00")], ("3", "0.1")),
    ],
    ids=["text", "booleans", "integers", "floats", "zeros", "decimals"],
)
def test_levels_come_in_the_order_of_their_first_row(table, values, levels):
    codes, found = Frame(table({"c": values})).texts("c")
    assert codes.dtype == np.int64
    assert (codes.tolist(), found) == ([0, -1, 1, 0], levels)


@pytest.mark.parametrize(
    ("categories", "levels"),
    [
        (pd.Categorical(["b", None, "a", "b"], ["unused", "a", "b"]), ("b", "a")),
        (pd.Categorical([3.0, None, 0.1, 3.0]), ("3", "0.1")),
        (pd.Categorical([True, None, False, True]), ("True", "False")),
        (pd.Categorical(["b", None, 1, "b"]), ("b", "1")),
        (pd.cut(pd.Series([2, None, 1, 2]), [0, 1, 2]), ("(1.0, 2.0]", "(0.0, 1.0]")),
    ],
    ids=["text", "floats", "booleans", "several types", "intervals"],
)
def test_categories_are_the_texts_of_their_values(categories, levels):
    codes, found = Frame(pd.DataFrame({"c": categories})).texts("c")
    assert (codes.tolist(), found) == ([0, -1, 1, 0], levels)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2**60 + 1, None], "number"),
        ([True, pd.NA], "boolean"),
        (["a", np.nan], "text"),
        ([Decimal("0.1"), 2.5], "number"),
        ([dt.timedelta(1), np.timedelta64(1, "s")], "duration"),
        ([NOON.replace(tzinfo=BERLIN), pd.NaT], "date"),
    ],
)
def test_an_array_of_objects_is_a_column_of_what_they_all_are(values, kind):
    objects = np.empty(len(values), object)
    objects[:] = values
    frame = Frame(pa.table({"c": as_column(objects, "y")}))
    assert frame.kind("c") == kind
    if kind == "number":
        assert frame.texts("c")[1][0] == str(values[0])  # whole numbers to their last digit
    if kind == "date":
        assert (frame.dates("c")[0][0], frame.zone("c")) == (np.datetime64(NOON, "us").astype(int), "+02:00")


def test_an_array_of_mixed_objects_is_no_column():
    with pytest.raises(DtypeError, match="y must hold values of one type; got int and str values"):
        as_column(np.array([1, "a"], object), "y")


def test_the_dictionaries_of_several_chunks_are_one():
    parts = [pa.array(part).dictionary_encode() for part in (["b", None], ["a", "b"])]
    codes, levels = Frame(pa.table({"c": pa.chunked_array(parts)})).texts("c")
    assert (codes.tolist(), levels) == ([0, -1, 1, 0], ("b", "a"))


@pytest.mark.parametrize("kind", ["dates", "times", "zoned times", "durations"])
def test_dates_are_microseconds_on_their_own_clock(table, kind):
    values, _ = KINDS[kind]
    found, missing = Frame(table({"c": values})).dates("c")
    stripped = [value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value for value in values]
    code = "m8[us]" if kind == "durations" else "M8[us]"
    assert missing.tolist() == [value is None for value in values]
    assert not found[missing].any()
    np.testing.assert_array_equal(found[~missing].view(code), np.array(stripped, code)[~missing])


def test_a_time_of_day_is_the_duration_since_midnight(table):
    values, _ = KINDS["times of day"]
    found, missing = Frame(table({"c": values})).dates("c")
    assert missing.tolist() == [False, True, False]
    assert found.tolist() == [8 * 3_600_000_000, 0, (9 * 3600 + 30 * 60 + 1) * 1_000_000 + 5]
    for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("ns")):
        narrow = Frame(pa.table({"c": pa.array([None, dt.time(12, 30)], kind)}))
        assert (narrow.kind("c"), narrow.dates("c")[0].tolist()) == ("duration", [0, 45_000_000_000])
    zoned = pd.DataFrame({"c": pd.Series([dt.time(8, tzinfo=dt.UTC)], dtype=object)})
    assert Frame(zoned).kind("c") == "other"


def test_a_zoned_time_has_the_hour_of_its_clock():
    zoned = pd.DataFrame({"c": pd.to_datetime(["2020-07-01 08:00"]).tz_localize("Europe/Berlin")})
    for one in (zoned, pl.from_pandas(zoned), pa.table(zoned)):
        assert Frame(one).dates("c")[0].view("M8[us]").astype("M8[h]") == np.datetime64("2020-07-01T08")


def test_rows_and_columns_are_taken_in_the_tables_own_library(table):
    given = table({"a": [1, 2, 3], "b": ["x", "y", None], "c": [0.5, 1.5, 2.5]})
    frame = Frame(given)
    taken = frame.take(np.array([2, 0]))
    assert type(taken.native) is type(given)
    assert (taken.numbers("a").tolist(), taken.texts("b")[0].tolist()) == ([3, 1], [-1, 0])
    assert frame.slice(1, 3).numbers("c").tolist() == [1.5, 2.5]
    chosen = frame.select(["c", "a"])
    assert (chosen.names, chosen.rows, type(chosen.native)) == (("c", "a"), 3, type(given))
    assert is_frame(given)
    assert is_series(frame.column("a"))
    with pytest.raises(DataError, match="table has no column 'bb'; did you mean 'b'"):
        frame.select(["bb"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([DAY, DAY], "got dates, first 2020-01-02 00:00:00 in row 0; a Preprocess makes numbers of it, by Dates()"),
        ([None, NOON], "got dates, first 1960-01-02 12:00:00.000005 in row 1"),
        ([dt.timedelta(1), None], "got durations, first 1 day, 0:00:00 in row 0; make a column of seconds"),
        ([None, "b"], "got text, first 'b' in row 1; a Preprocess makes numbers of it"),
        ([[1], [2]], r"got list values, first \[1\] in row 0; make numbers or text of it"),
    ],
    ids=["dates", "times", "durations", "text", "lists"],
)
def test_each_column_of_a_frame_is_judged_by_its_own_dtype(table, values, said):
    frame = table({"a": [0.5, 1.0], "when": values})
    with pytest.raises(DtypeError, match=f"^fit: argument 'x': column 'when' must hold real numbers; {said}"):
        TRAINER.fit(Neuron(2), (frame, [0.0, 1.0]))
    with pytest.raises(DtypeError, match=f"^fit: argument 'y': column 'when' must hold real numbers; {said}"):
        TRAINER.fit(Neuron(1), (frame, "when"))


def test_a_frame_becomes_the_array_of_its_columns(table):
    frame = table({"a": np.array([1, 2], "int8"), "b": np.array([True, False])})
    assert np.array_equal(real_array(frame, "x"), [[1, 1], [2, 0]])
    assert real_array(frame, "x").dtype == "int8"
    assert real_array(frame, "x", "float32").flags.c_contiguous


def test_a_value_that_is_not_finite_is_named_by_its_column(table):
    frame = table({"age": [1.0, 2.0], "size": [0.5, np.nan]})
    with pytest.raises(DataError, match="fit: argument 'x' must be finite; got nan in column 'size', row 1 "):
        TRAINER.fit(Neuron(2), (frame, [0.0, 1.0]))
    with pytest.raises(DataError, match="fit: argument 'y' must be finite; got nan in column 'size', row 1 "):
        TRAINER.fit(Dense(2, 2), ([[1.0, 2.0], [3.0, 4.0]], frame))
    with pytest.raises(DataError, match="fit: argument 'y' must be finite; got nan in column 'size', row 1 "):
        TRAINER.fit(Neuron(1), (frame, "size"))
    with pytest.raises(DataError, match="fit: argument 'x' must be finite; got nan in column 'age', row 0 "):
        TRAINER.fit(Neuron(1), (table({"age": [None, 2]}), [0.0, 1.0]))


def test_a_column_name_cannot_command_the_terminal(table):
    model = Neuron(1)
    TRAINER.fit(model, (table({"a": [1.0]}), [1.0]))
    for action in (
        lambda: TRAINER.predict(model, table({"\x1b[31ma": [1.0]})),
        lambda: TRAINER.fit(Neuron(1), (table({"\x1b[31ma": [np.nan]}), [1.0])),
        lambda: TRAINER.fit(Neuron(1), (table({"\x1b[31ma": ["b"]}), [1.0])),
        lambda: TRAINER.fit(Neuron(1), (table({"a": [1.0]}), "\x1b[31ma")),
    ):
        with pytest.raises(DataError, match=r"\\x1b\[31ma") as caught:
            action()
        assert "\x1b" not in str(caught.value)


def test_a_model_knows_the_columns_that_it_was_fitted_with(table):
    model = Neuron(2)
    TRAINER.fit(model, (table({"a": [1.0, 2.0], "b": [0.5, 1.0]}), [0.0, 1.0]))
    assert model.columns == ("a", "b")
    for columns, said in (("ba", "b, a; choose them by their names"), ("ac", "a, c; there is no column 'b'")):
        with pytest.raises(DataError, match=f"columns of fit, in that order: a, b; got {said}"):
            TRAINER.predict(model, table({name: [1.0] for name in columns}))


def test_weights_and_ids_are_named_by_their_column(table):
    frame = table({"a": [0, 1], "city": [1, 7], "w": [1.0, None]})
    model = Sequential(Embedding(5, 3), Flatten(), Dense(units=1))
    with pytest.raises(DataError, match=r"got 7.0 in column 'city', row 1 \(1 of 4 ids\)"):
        TRAINER.fit(model, (Frame(frame).select(["a", "city"]).native, [0.0, 1.0]))
    with pytest.raises(DataError, match="argument 'weight' must be finite; got nan in column 'w', row 1"):
        TRAINER.fit(Neuron(1), (frame, "city", "w"))


def test_ten_thousand_names_make_a_short_message():
    model = Neuron(2)
    model.columns = ("a", "b")
    with pytest.raises(DataError) as caught:
        TRAINER.predict(model, pl.DataFrame(np.zeros((1, 10_000))))
    assert len(str(caught.value)) < 400


def test_targets_are_taken_out_of_the_frame_by_name(table):
    x, y, z = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1, 2, 1]
    frame, both = table({"y": y, "x": x, "z": z}), [[2.0, 1.0], [4.0, 2.0], [6.0, 1.0]]
    named, plain = Neuron(2), Neuron(2)
    TRAINER.fit(named, (frame, "y"), validation=(frame, "y"))
    TRAINER.fit(plain, (table({"x": x, "z": z}), y))
    assert (named.columns, named.target_columns) == (("x", "z"), None)
    np.testing.assert_array_equal(named.weights, plain.weights)
    assert TRAINER.evaluate(named, (frame, "y")) == TRAINER.evaluate(plain, (np.column_stack([x, z]), y))
    named, plain = Dense(units=2), Dense(1, 2)
    TRAINER.fit(named, (frame, ["y", "z"]))
    TRAINER.fit(plain, (np.array(x)[:, None], both))
    assert (named.columns, named.target_columns) == (("x",), ("y", "z"))
    np.testing.assert_array_equal(named.parameters.vector, plain.parameters.vector)
    assert TRAINER.evaluate(Neuron.from_weights([1.0]), (frame, "y", "z")) == TRAINER.evaluate(
        Neuron.from_weights([1.0]), (np.array(x)[:, None], y, z)
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("lat", "fit: argument 'x' has no column 'lat'; did you mean 'late'"),
        (["late", "siz"], "fit: argument 'x' has no column 'siz'; did you mean 'size'"),
        ("LATE", "fit: argument 'x' has no column 'LATE'; did you mean 'late'"),
        ("verdict", "fit: argument 'x' has no column 'verdict'. Columns: .*late"),
        (["late", "late"], "'late' twice"),
        (["yes"], "has no column 'yes': text in a list beside a table names its columns; give classes as a column"),
        (["late", "size"], r"fit: argument 'x' must have a column beside \['late', 'size'\]; got no other"),
    ],
)
def test_a_target_that_is_not_there_is_refused_by_name(table, target, said):
    with pytest.raises(DataError, match=said):
        TRAINER.fit(Neuron(1), (table({"late": [1.0], "size": [2.0]}), target))


def test_a_target_by_name_needs_a_frame():
    with pytest.raises(DataError, match="evaluate: 'late' names a column, which needs a table as x; got ndarray"):
        TRAINER.evaluate(Neuron(1), (np.ones((2, 1)), "late"))


def test_split_keeps_tables_and_takes_the_rows_that_it_takes_of_arrays(table):
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 3
    frame = table({"a": x[:, 0], "b": x[:, 1], "y": y})
    column = Frame(frame).column("y").to_native()
    for stratify in (False, True):
        parts = split((x, y), 0.3, seed=5, stratify=stratify)
        for part, whole in zip(split((frame, "y"), 0.3, seed=5, stratify=stratify), parts, strict=True):
            assert (type(part[0]), part[1]) == (type(frame), "y")
            np.testing.assert_array_equal(real_array(part[0], "x"), np.column_stack(whole))
        for part, whole in zip(split((frame, column), 0.3, seed=5, stratify=stratify), parts, strict=True):
            assert (type(part[0]), type(part[1])) == (type(frame), type(column))
            np.testing.assert_array_equal(Frame(part[1]).values(), whole[1])
    named = split(({"numbers": frame, "more": x}, frame), 0.3, seed=5)[0]
    np.testing.assert_array_equal(real_array(named[0]["numbers"], "x")[:, :2], named[0]["more"])


def test_split_stratifies_by_text(table):
    labels = ["a", "b", "b", "c", "a", "b"] * 10
    frame = table({"x": np.arange(60), "y": labels})
    codes = np.unique(labels, return_inverse=True)[1]
    for part, whole in zip(
        split((frame, "y"), 0.3, stratify=True), split((np.arange(60), codes), 0.3, stratify=True), strict=True
    ):
        assert Frame(part[0]).numbers("x").tolist() == whole[0].tolist()
    for array in (np.array(labels), np.array(labels, object), labels):
        part = split((np.arange(60), array), 0.3, stratify=True)[0]
        assert part[1].tolist() == [labels[row] for row in part[0]]
        assert part[0].tolist() == split((np.arange(60), codes), 0.3, stratify=True)[0][0].tolist()
    with pytest.raises(DataError, match=r"data\[1\]' must have a class in each row; got none in row 1$"):
        split((np.arange(2), ["a", None]), 0.5, stratify=True)
    with pytest.raises(DataError, match=r"must have a class in each row; got none in column 'y', row 1$"):
        split((table({"x": [1, 2], "y": ["a", None]}), "y"), 0.5, stratify=True)
    with pytest.raises(ShapeError, match=r"stratify needs one class per row, \(rows,\); got \(2, 2\)"):
        split((table({"x": [1, 2], "y": [0, 1], "z": [0, 1]}), ["y", "z"]), 0.5, stratify=True)


def test_split_refuses_tables_of_other_lengths_and_columns_that_are_not_there(table):
    frame = table({"a": [1, 2, 3], "late": [0, 1, 0]})
    with pytest.raises(ShapeError, match=r"same number of rows; got data\[0\] \(3, 2\), data\[1\] \(2,\)"):
        split((frame, [0, 1]))
    with pytest.raises(DataError, match="split: argument 'x' has no column 'lat'; did you mean 'late'"):
        split((frame, "lat"))


def test_rows_of_pandas_with_the_same_labels_in_another_order_are_refused():
    x = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=[5, 6, 7])
    y = pd.Series([3.0, 1.0, 2.0], index=[7, 5, 6])
    for use in (lambda y: TRAINER.fit(Neuron(1), (x, y)), lambda y: split((x, y), 0.4)):
        with pytest.raises(DataError, match=r"'x' and 'y' must have their rows in one order; .*write y\.loc"):
            use(y)
        with pytest.raises(DataError, match="'x' and 'weight' must have their rows in one order"):
            TRAINER.fit(Neuron(1), (x, [1.0, 2.0, 3.0], y))
        use(y.loc[x.index])
        use(y.reset_index(drop=True))  # other labels: no order to compare


def test_a_dataset_may_name_its_target_in_a_table(table):
    class Rows:
        def __len__(self):
            return 6

        def read(self, start, stop):
            numbers = np.arange(start, stop, dtype=float)
            return table({"a": numbers, "b": numbers**2, "y": numbers}), "y"

    model, whole = Neuron(2), Neuron(2)
    TRAINER.replace(shuffle=False).fit(model, Rows())
    TRAINER.replace(shuffle=False).fit(whole, Rows().read(0, 6))
    np.testing.assert_array_equal(model.weights, whole.weights)
    assert model.columns == ("a", "b")


TYPES = {
    "number": [
        (pa.int64(), st.integers(-(2**53), 2**53)),
        (pa.uint8(), st.integers(0, 255)),
        (pa.float64(), st.floats()),
        (pa.float32(), st.floats(width=32)),
        (pa.decimal128(20, 4), st.decimals(-(10**15), 10**15, places=4)),
    ],
    "boolean": [(pa.bool_(), st.booleans())],
    "text": [(pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=3))],
    "category": [(pa.dictionary(pa.int32(), pa.string()), st.sampled_from("abc"))],
    "date": [
        (pa.date32(), st.dates()),
        (pa.timestamp("us"), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
    ],
    "duration": [(pa.duration("us"), st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)))],
    "other": [(pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)), (pa.binary(), st.binary(max_size=2))],
}


@st.composite
def columns(draw):
    """A kind, values of one type with nulls among them, and the table of these in Arrow."""
    kind = draw(st.sampled_from(sorted(TYPES)))
    arrow, values = draw(st.sampled_from(TYPES[kind]))
    found = draw(st.lists(values | st.none(), min_size=1, max_size=5))
    return kind, found, pa.table({"c": pa.array(found, arrow)})


def outcome(function):
    try:
        return function()
    except DataError as error:
        return str(error)


@pytest.mark.share(1 / 3)
@settings(max_examples=80, deadline=None)
@given(columns(), st.randoms(use_true_random=False))
def test_a_column_is_alike_in_every_library_and_as_python_has_it(column, random):
    kind, values, arrow = column
    there = [value for value in values if value is not None]
    every = {
        "Arrow": arrow,
        "chunks": pa.concat_tables([arrow.slice(0, 1), arrow.slice(1)]),
        "polars": pl.from_arrow(arrow),
        "pandas": arrow.to_pandas(),
        "pandas of Arrow": arrow.to_pandas(types_mapper=pd.ArrowDtype),
    }
    if kind != "category":
        every["objects"] = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    order = list(range(len(values)))
    random.shuffle(order)
    found = {}
    for library, table in every.items():
        frame = Frame(table, "x")
        if there:  # pandas has no type for objects that are all missing
            assert frame.kind("c") == kind, library
        if kind in ("number", "boolean"):
            expected = np.array([np.nan if value is None else float(value) for value in values])
            np.testing.assert_array_equal(frame.numbers("c"), expected)
            assert frame.values("c").dtype.kind in "biuf"
            np.testing.assert_array_equal(frame.take(np.array(order)).numbers("c"), expected[order])
        if kind in ("text", "category", "boolean") and there:
            codes, levels = frame.texts("c")
            assert [None if code < 0 else levels[code] for code in codes] == [
                None if value is None else str(value) for value in values
            ]
            assert levels == tuple(dict.fromkeys(map(str, there)))
        if kind in ("date", "duration") and there:
            micros, nulls = frame.dates("c")
            assert nulls.tolist() == [value is None for value in values]
            unit = "M8[us]" if kind == "date" else "m8[us]"
            np.testing.assert_array_equal(micros[~nulls].view(unit), np.array(there, unit))
        if there:
            found[library] = outcome(lambda table=table: real_array(table, "x", "float64").tolist())
    if found and kind != "other":  # the types of values in lists are those of each library
        refusals = {repr(result) for result in found.values()}
        assert len(refusals) == 1, refusals


@pytest.mark.parametrize("package", ["narwhals.stable.v2", "pyarrow"])
def test_a_package_that_is_not_installed_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = package.partition(".")[0]
    with pytest.raises(UsageError, match=f"predict: argument 'x' needs {name}: pip install narwhals pyarrow, or in"):
        TRAINER.predict(Neuron(1), pd.DataFrame({"a": [1.0]}))


NUMERIC = [row for kind in ("number", "boolean") for row in TYPES[kind]]
PLAIN = [row for kind in ("text", "date", "duration") for row in TYPES[kind]]


@st.composite
def tables(draw):
    """The values of two to four columns by name, and the table of these in Arrow."""
    names = draw(st.lists(st.text("ab\n' é", min_size=1, max_size=3), min_size=2, max_size=4, unique=True))
    rows, found, arrays = draw(st.integers(2, 5)), {}, {}
    for name in names:
        arrow, values = draw(st.sampled_from(NUMERIC * 2 + PLAIN))
        found[name] = draw(st.lists(values, min_size=rows, max_size=rows))
        if draw(st.integers(0, 5)) == 0:
            found[name][draw(st.integers(0, rows - 2))] = None
        arrays[name] = pa.array(found[name], arrow)
    return found, pa.table(arrays)


@pytest.mark.share(1 / 3)
@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(["float32", "float64"]))
def test_a_table_gives_the_same_arrays_and_errors_in_every_library(pair, dtype):
    values, arrow = pair
    every = [arrow, pl.from_arrow(arrow), arrow.to_pandas(), arrow.to_pandas(types_mapper=pd.ArrowDtype)]
    for target in values:
        found = set()
        for table in every:
            x, y, _ = parts((table, target), "fit")
            found.add(str([outcome(lambda part=part: real_array(part, "x", dtype).tolist()) for part in (x, y)]))
        assert len(found) == 1, found
    if all(isinstance(value, int | float | Decimal | None) for column in values.values() for value in column):
        columns = [[np.nan if value is None else float(value) for value in column] for column in values.values()]
        np.testing.assert_array_equal(real_array(arrow, "x", "float64"), np.column_stack(columns))
