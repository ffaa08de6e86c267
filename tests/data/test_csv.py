"""CSV files as a Dataset: cells are those that pandas reads, whatever the borders of chunks, blocks and files."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from source_pieces import bits, classifier, numbers

import framework.data.csv
from framework import (
    CSV,
    Component,
    DataError,
    MeanSquaredError,
    Neuron,
    Preprocess,
    SettingsError,
    SGDOptimizer,
    Standardize,
    Trainer,
)
from framework.data import blocks
from framework.data.csv import record_ends
from framework.preprocessing import Dates

ROWS = 200
X, LATE = numbers(ROWS)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(late=LATE.astype(int))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """Blocks of 4 rows and chunks of 64 bytes, so that everything happens at a border of them."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    monkeypatch.setattr(framework.data.csv, "CHUNK", 64)


def written(here, text, name="a.csv", encoding="utf-8"):
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return name


def table(here, content, **settings):
    return CSV(written(here, content), **settings).frame().to_pydict()


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("read_ahead", [True, False])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.usefixtures("small")
def test_it_trains_like_the_arrays_in_memory(here, read_ahead, line_end):
    FRAME.to_csv(here / "all.csv", index=False, lineterminator=line_end)
    data = CSV("all.csv", "late", read_ahead=read_ahead)
    assert bits(classifier(data)) == bits(classifier((X, LATE)))
    assert bits(classifier(data, shuffle=False)) == bits(classifier((X, LATE), shuffle=False))


@pytest.mark.usefixtures("small")
def test_several_files_are_one_table_with_types_that_hold_for_all(here):
    FRAME[:10].assign(a=np.arange(10)).to_csv(here / "1.csv", index=False)
    FRAME[10:10].to_csv(here / "2.csv", index=False)
    FRAME[10:].to_csv(here / "3.csv", index=False, columns=["late", "c", "b", "a"])
    data = CSV("*.csv", "late")
    expected = np.concatenate([np.column_stack([np.arange(10), X[:10, 1:]]), X[10:]])
    assert bits(classifier(data)) == bits(classifier((expected, LATE)))
    rng = np.random.default_rng(0)
    for start, stop in [
        (0, 0),
        (9, 11),
        (0, ROWS),
        (ROWS - 1, ROWS + 5),
        *np.sort(rng.integers(0, ROWS, (20, 2)), axis=1),
    ]:
        x, y = data.read(start, stop)
        assert np.array_equal(np.column_stack(x.columns), expected[start:stop].reshape(-1, 3))
        assert y.to_pylist() == LATE[start:stop].tolist()


def test_files_are_read_through_fsspec():
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/tables/all.csv", FRAME.to_csv(index=False).encode())
    assert bits(classifier(CSV("memory://tables/*.csv", "late"))) == bits(classifier((X, LATE)))


WORDS = [
    "",
    "plain",
    'say "hi"',
    "a,b",
    "two\nlines",
    "crlf\r\nin it",
    '"',
    '""',
    "ünï",
    " space ",
    "5",
    "tail\n",
    ",",
    "x" * 90,
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("small")
def test_random_text_is_read_as_pythons_csv_module_reads_it(here, seed):
    rng = np.random.default_rng(seed)
    rows = [[f"k{i}", *rng.choice(WORDS, 2)] for i in range(int(rng.integers(1, 60)))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=str(rng.choice(["\n", "\r\n"])), quoting=int(rng.choice([0, 1])))
    writer.writerows([["key", "one", "other"], *rows])
    final = text.getvalue()
    final = final if seed % 2 else final.rstrip("\r\n")
    data = CSV(written(here, final), "key", nulls=("no such word",), text=("key", "one", "other"))
    assert len(data) == len(rows)
    start, stop = sorted(rng.integers(0, len(rows) + 1, 2))
    for begin, end in ((0, len(rows)), (int(start), int(stop))):
        x, y = data.read(begin, end)
        got = [list(each) for each in zip(y.to_pylist(), *x.to_pydict().values(), strict=True)]
        assert got == rows[begin:end]


@pytest.mark.usefixtures("small")
def test_a_byte_order_mark_is_left_out_at_the_beginning_of_the_file_alone(here):
    cells = ["\ufeffx", "y", "\ufeff", "\ufeffz"] * 3
    assert table(here, "\ufeffa\n" + "\n".join(cells), nulls=()) == {"a": cells}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("small")
def test_stray_quotes_are_characters_as_for_pyarrow(here, seed):
    rng = np.random.default_rng(seed)
    cells = ["", '5" pipe', 'a"b"c', '"quoted"tail', '"a,b"', '"x""y"', 'end"', "12", '"two\nlines"', "'"]
    text = "a,b\n" + "".join(f"{i},{rng.choice(cells)}\n" for i in range(40))
    expected = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types={"b": pa.string()}),
    )
    assert table(here, text, text=("b",), nulls=()) == expected.to_pydict()


def test_quotes_open_at_the_beginning_of_a_cell_alone():
    assert record_ends(b'a"\nb"\n', ord(","), final=True).tolist() == [3, 6]
    assert record_ends(b'"a\nb"\n', ord(","), final=True).tolist() == [6]
    assert record_ends(b"a\r", ord(","), final=False).tolist() == []
    assert record_ends(b"a\r\nb", ord(","), final=False).tolist() == [3]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2", "3"], [1, 2, 3]),
        (["1", "", "3"], [1, None, 3]),
        (["1", "2.5", "?"], [1.0, 2.5, None]),
        (["1", " NA", " 3"], [1, None, 3]),
        (["", "NA", "?"], [None, None, None]),
        (["true", "False", ""], [True, False, None]),
        (["1", "true", "x"], ["1", "true", "x"]),
        (["1", "x", "2.50"], ["1", "x", "2.50"]),
        (["007", "x", ""], ["007", "x", None]),
        (["1e3", "-inf", "2"], [1000.0, -np.inf, 2.0]),
        (["9223372036854775808", "1", "2"], [2.0**63, 1.0, 2.0]),
        (["12345678901234567890", "12345678901234567891", "2"], ["12345678901234567890", "12345678901234567891", "2"]),
        (["9007199254740993", "1", "2"], [2**53 + 1, 1, 2]),
        (["0.5", "9007199254740993", "2"], ["0.5", "9007199254740993", "2"]),
        (["0.5", "9007199254740992", "1e300"], [0.5, 2.0**53, 1e300]),
        (["2020-01-01", "2020-01-02 10:00:00", ""], ["2020-01-01 00:00:00", "2020-01-02 10:00:00", None]),
        (["2020-01-01 10:00:00", "2020-01-01 10:00:00.5", "x"], ["2020-01-01 10:00:00", "2020-01-01 10:00:00.5", "x"]),
        (["2020-01-01 10:00:00", "2020-01-01T10:00:00Z", ""], ["2020-01-01 10:00:00", "2020-01-01T10:00:00Z", None]),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_type_holds_for_all_rows_of_the_file(here, monkeypatch, cells, expected, apart):
    if apart:  # each row is looked at by itself
        monkeypatch.setattr(framework.data.csv, "CHUNK", 8)
        monkeypatch.setattr(blocks, "BLOCK_ROWS", 1)
    got = table(here, "k,v\n" + "".join(f"0,{cell}\n" for cell in cells))["v"]
    shown = [f"{each:%Y-%m-%d %H:%M:%S}" if hasattr(each, "hour") else each for each in got]
    assert shown == expected


@pytest.mark.usefixtures("small")
def test_fractions_of_seconds_and_dates_are_one_type(here):
    cells = ["2020-01-01"] * 5 + ["2020-01-01 10:00:00.25"]
    data = CSV(written(here, "k,v\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))))
    assert str(data.rows.schema.field("v").type).startswith("timestamp[ns")
    assert pd.Series(data.frame()["v"].to_pandas()).tolist() == [pd.Timestamp(cell) for cell in cells]


def test_text_nulls_encoding_and_delimiter_are_settings(here):
    assert table(here, "zip;n\n01234;-\n", delimiter=";", text=("zip",), nulls=("-",)) == {
        "zip": ["01234"],
        "n": [None],
    }
    written(here, "name\nJosé\n", encoding="latin-1")
    assert CSV("a.csv", encoding="latin-1").frame().to_pydict() == {"name": ["José"]}
    written(here, "prix€\nœuf\n", encoding="cp1252")
    assert CSV("a.csv", encoding="cp1252").frame().to_pydict() == {"prix€": ["œuf"]}
    assert table(here, "1,2\n3,4\n", header=("a", "b")) == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ('v,k\n"1,234.5",1\n7,2\n"-12,000",3\n', {"thousands": ","}, [1234.5, 7.0, -12000.0]),
        ("v;k\n1.234,5;1\n7;2\n,5;3\n", {"thousands": ".", "decimal": ",", "delimiter": ";"}, [1234.5, 7.0, 0.5]),
        ("v;k\n1,5;1\n2;2\n;3\n", {"decimal": ",", "delimiter": ";"}, [1.5, 2.0, None]),
        ("v;k\n1 234;1\n7;2\nNA;3\n", {"thousands": " ", "delimiter": ";"}, [1234.0, 7.0, None]),
        ('v,k\n"1,234",1\n7,2\nx,3\n', {}, ["1,234", "7", "x"]),
        ('v,k\n"1,234",1\n7,2\nx,3\n', {"thousands": ","}, ["1,234", "7", "x"]),
        ('v,k\n"1,234",1\n7,2\n,3\n', {"text": ("v",)}, ["1,234", "7", None]),
        ("v,k\n12 kg,1\n7.5kg,2\n -3 kg ,3\nNA,4\n", {"units": {"v": "kg"}}, [12.0, 7.5, -3.0, None]),
        ("v,k\n$12,1\n-$7.5,2\n$ 3,3\n4,4\n", {"units": {"v": "$"}}, [12.0, -7.5, 3.0, 4.0]),
        ("v,k\n1,1\n2,2\n3 %,3\n", {"units": {"v": "%", "w": "kg"}}, [1.0, 2.0, 3.0]),
        ('v,k\n"$1,234.50",1\n$7,2\n', {"units": {"v": "$"}, "thousands": ","}, [1234.5, 7.0]),
        (
            "v;k\n1.234,5 €;1\n7 €;2\n",
            {"units": {"v": "€"}, "thousands": ".", "decimal": ",", "delimiter": ";"},
            [1234.5, 7.0],
        ),
        ("v,k\n12 kg,1\n7 g,2\n", {"units": {"v": "kg"}}, ["12 kg", "7 g"]),
        ("v,k\n12 kg,1\nlight,2\n", {"units": {"v": "kg"}}, ["12 kg", "light"]),
        ("v,k\n12 kg,1\n7 kg,2\n", {"units": {"v": "kg"}, "text": ("v",)}, ["12 kg", "7 kg"]),
        ("v,k\n12 kg,1\n7 kg,2\n", {"units": {"k": "kg"}}, ["12 kg", "7 kg"]),
    ],
)
@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_numbers_with_commas_and_units_are_read_where_a_setting_says_how(
    here, monkeypatch, text, settings, expected, chunk
):
    monkeypatch.setattr(framework.data.csv, "CHUNK", chunk)
    assert table(here, text, **settings)["v"] == expected


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(here, text):
    with pytest.raises(DataError, match=r"a.csv is empty; a file must begin with a line of column names"):
        classifier(CSV(written(here, text), "y"))


@pytest.mark.parametrize("text", ["x,y\n", "x,y", "\ufeffx,y\r\n\r\n"])
def test_a_header_alone_is_a_table_without_rows(here, text):
    data = CSV(written(here, text), "y")
    assert (len(data), data.names, data.frame().num_rows) == (0, ("x",), 0)
    with pytest.raises(DataError, match="at least one row"):
        classifier(data)


@pytest.mark.parametrize("text", ["x,y\n1,2", "\ufeffx,y\r\n1,2\r\n", "\n\nx,y\n\n1,2\n\n", '"x","y"\n"1","2"\n'])
@pytest.mark.usefixtures("small")
def test_one_row_is_read_whatever_stands_around_it(here, text):
    assert table(here, text) == {"x": [1], "y": [2]}
    assert np.isfinite(classifier(CSV("a.csv", "x"), batch_size=64).history[-1]["loss"])


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("x,y\n1,2\n3\n4,5\n", {}, r"a.csv: row 1 must have 2 cells; got 1: '3'; is delimiter=',' right"),
        ("x,y\n1,2\n3,4,5\n", {}, r"row 1 must have 2 cells; got 3: '3,4,5'"),
        ("x,y\n" + "1,2\n" * 50 + "1\n", {}, r"row 50 must have 2 cells; got 1"),
        ("x;y\n1;2\n", {}, r"'target' names the column 'y', which a.csv does not have.*Columns: x;y"),
        ("x,x,y\n1,2,3\n", {}, r"a.csv has 2 columns 'x'; rename them"),
        (b"x,y\n1,2\n\xe9,2\n", {}, r"must be utf-8 text; row 1 has the byte 0xe9; write the encoding, such as"),
        (b"x\xe9,y\n1,2\n", {}, r"must be utf-8 text; the header has the byte 0xe9"),
        (b"x,y\n" + b"1,2\n" * 50 + b"\xff,2\n", {}, r"row 50 has the byte 0xff"),
        (b"x,y\n1,\x812\n", {"encoding": "cp1252"}, r"must be cp1252 text; row 0 has the byte 0x81"),
        ("x,y\n1,2\n".encode("utf-16"), {}, r"is UTF-16; convert it first: iconv -f utf-16 -t utf-8 a.csv"),
        ("x,y\n1,2\n".encode("utf-16-le"), {}, r"it has a zero byte; is it UTF-16"),
        (b"\x1f\x8b123", {}, r"is compressed with gzip; unpack it first: gunzip -k a.csv"),
        (b"PK\x03\x04", {}, r"is a zip archive or a spreadsheet"),
        ('x,y\n1,2\n"3,4\n', {}, r"a.csv: a quote of row 1 is not closed up to the end"),
        ('x,y\n"1,234",2\n', {}, r"column 'x' has numbers with ',', first '1,234' in row 0; write thousands=','"),
        (
            'x,y\n1,2\n"3,5",2\n',
            {},
            r"'x' has numbers with ',', first '3,5' in row 1; .*decimal=','.*text=\('x',\)",
        ),
        ("x;y\n1;2\n1.234,5;2\n", {"delimiter": ";", "decimal": ","}, r"numbers with '\.', first '1.234,5' in row 1"),
        ('x,y\n"7,777",2\n"1,5",2\n', {"thousands": ","}, r"'x' has numbers with ',', first '1,5' in row 1; write dec"),
        ('x,y\n"12,34",2\n', {"thousands": ","}, r"'12,34' in row 0; write decimal=',' if it is 12.34, or text="),
        (
            'x,y\n7,2\n"1,5",2\n',
            {"thousands": ","},
            r"column 'x' has numbers with ',', first '1,5' in row 1; write dec",
        ),
        ("x;y\n480.874,34;2\n", {"delimiter": ";"}, r"write decimal=',' and thousands='.' if it is 480874.34, or tex"),
        ("x,y\n1'200.5,2\n", {}, r"has numbers with \"'\", .*; write thousands=\"'\" if it is 1200.5, or text="),
        ("x;y\n122,4;2\n", {"delimiter": ";"}, r"first '122,4' in row 0; write decimal=',' if it is 122.4, or text="),
        ("x;y\n200.295;2\n", {"delimiter": ";", "decimal": ","}, r"write thousands='.' if it is 200295, or text="),
        ("x;y\n1.5;2\n", {"delimiter": ";", "decimal": ","}, r"'x' has numbers with '.', .*; write decimal='.' if it"),
        ("x,y\n1,2\n", {"columns": ("z",)}, r"'columns' names the column 'z'"),
        ("x,y\n1,2\n", {"text": ("z",)}, r"'text' names the column 'z'"),
        ("x,y\n1,2\n", {"header": ("x", "y", "z")}, r"row 0 must have 3 cells; got 2"),
    ],
)
@pytest.mark.usefixtures("small")
def test_what_cannot_be_a_table_is_refused_with_file_row_and_column(here, content, settings, message):
    with pytest.raises(DataError, match=message):
        classifier(CSV(written(here, content), **{"target": "y"} | settings))


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (["1,500.5", "4,25"], 1),
        (["4,25", "7", "1,500.5", "4,25"], 2),
        (["1.23", "4,5"], 1),
        (["1,500.5", "", "2,750.5", "4,25", "6,75"], 3),
        (["1.5", "1,500", "1.234.567,5"], 2),
        (["4,25", "1'234"], 1),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"thousands": ","}, {"thousands": " "}, {"decimal": ","}])
@pytest.mark.parametrize("unit", ["", "kg"])
def test_numbers_that_no_setting_reads_alike_are_refused(here, cells, row, settings, unit):
    lines = [f'"1,5","{cell}{unit}"' if cell else '"1,5",' for cell in cells]
    settings = settings | ({"units": {"x": unit}} if unit else {})
    data = CSV(written(here, "\n".join(["y,x", *lines, ""])), **settings)
    message = f"column 'x' has numbers that are not written alike, first {cells[row]!r} in row {row}; write all of "
    with pytest.raises(DataError, match=re.escape(f"{message}them alike, or text=('x',) for text")):
        len(data)
    text = CSV("a.csv", **settings, text=("x", "y"))
    assert text.frame().column("x").to_pylist() == [f"{cell}{unit}" if cell else None for cell in cells]


@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_pieces_of_numbers_that_no_setting_reads_alike_are_refused_unless_one_is_text(here, monkeypatch, chunk):
    monkeypatch.setattr(framework.data.csv, "CHUNK", chunk)
    lines = ["x;y", "1,500.5;1", "2,500.5;1", "4,25;2", "6,75;2"]
    with pytest.raises(DataError, match="column 'x' has numbers that are not written alike, first '4,25' in row 2"):
        table(here, "\n".join([*lines, ""]), delimiter=";", thousands=",")
    assert table(here, "\n".join([*lines, "x;3", ""]), delimiter=";", thousands=",")["x"][2:] == ["4,25", "6,75", "x"]


def test_files_must_have_the_same_columns(here):
    written(here, "x,y\n1,2\n", "a.csv")
    written(here, "x,z\n1,2\n", "b.csv")
    with pytest.raises(DataError, match=r"b.csv has no column 'y', which a.csv has"):
        len(CSV(["a.csv", "b.csv"], "y"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delimiter": ""}, "'delimiter' must be one character"),
        ({"delimiter": '"'}, "'delimiter' must be one character"),
        ({"thousands": ".."}, "'thousands' must be one character"),
        ({"thousands": "."}, "'decimal' and 'thousands' must differ"),
        ({"encoding": "utf-17"}, "'encoding' must be known to Python; got 'utf-17'"),
        ({"encoding": "utf-16"}, "'encoding' must have the characters of ASCII; got 'utf-16'; convert the file"),
        ({"decimal": ";"}, "'decimal' must be"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        CSV("a.csv", "y", **settings)


def test_a_file_that_is_written_again_is_noticed(here):
    data = CSV(written(here, "x,y\n1,2\n3,4\n"), "y")
    first = data.fingerprint()
    written(here, "x,y\n1,2\n3,5\n5,6\n")
    with pytest.raises(DataError, match=r"a.csv was changed after it was opened; make a new CSV"):
        data.read(0, 1)
    assert CSV("a.csv", "y").fingerprint() != first
    written(here, "x,y\n1,2\n3,4\n", "moved.csv")
    assert CSV("moved.csv", "y").fingerprint() == first


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(here, monkeypatch):
    monkeypatch.setattr(framework.data.csv, "CHUNK", 64)
    monkeypatch.setattr(framework.data.csv, "LONGEST", 1000)
    with pytest.raises(DataError, match=r"row 1 is longer than 0 MB; is a quote open\?"):
        len(CSV(written(here, 'x,y\n1,2\n"3,4\n' + "5,6\n" * 1000), "y"))


def test_settings_travel_as_json(here):
    data = CSV(written(here, "x,y\n1,2\n"), "y", nulls=["", "-"], text=["x"])
    assert Component.from_json(data.to_json()) == data
    assert data.frame().to_pydict() == {"x": ["1"]}


@pytest.mark.parametrize("apart", [False, True])
def test_a_cell_of_text_among_numbers_is_named(here, monkeypatch, apart):
    if apart:
        monkeypatch.setattr(framework.data.csv, "CHUNK", 8)
    data = CSV(written(here, "x,y\n1,2\n3.5,4\noops,5\nx,6\n"), "y")
    with pytest.raises(
        DataError, match=r"column 'x' must hold real numbers; CSV reads it as text because of 'oops' in row 2; correct"
    ):
        classifier(data)
    with pytest.raises(DataError, match=r"argument 'y': column 'x' .*because of 'oops' in row 2; correct") as caught:
        classifier(data.replace(target="x"))
    assert (caught.value.argument, caught.value.row) == ("x", 2)
    unknown = DataError("must hold real numbers", name="column 'y'", expected="real numbers", advice="cast it")
    data.explain(unknown)
    assert str(unknown) == "column 'y' must hold real numbers; cast it"
    with pytest.raises(DataError, match=r"column 'x' .* because a float has fewer digits than '12345678901234567891'"):
        classifier(CSV(written(here, "x,y\n1,2\n12345678901234567891,4\n"), "y"))
    with pytest.raises(DataError, match=r"column 'y' must .*text, first 'a' in row 0; a Prep"):
        classifier(CSV(written(here, "y,x\na,2\nb,4\n"), "x"))


def test_cells_of_another_form_than_in_training_are_named(here):
    table = pd.DataFrame({"when": pd.to_datetime(["2021-06-23", "2021-06-24"]), "n": [1.0, 2.0], "y": [0.0, 1.0]})
    recipe = Preprocess(columns={"when": [Dates(["day"])], "n": [Standardize()]})
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), preprocess=recipe)
    model = Neuron()
    trainer.fit(model, (table, "y"))
    forms = {
        "06/23/2021,1": r"'when' held dates in fit, and holds text now; in row 0 it has '06/23/2021'; write "
        r"their form, such as dates=\('%m/%d/%Y',\)$",
        "23.06.2021,1": r"in row 0 it has '23.06.2021'; write their form, such as dates=\('%d.%m.%Y',\)$",
        "1-2-2021,1": r"such as dates=\('%m-%d-%Y',\) or dates=\('%d-%m-%Y',\)$",
        "NA,1\n06/23/2021,1": r"in row 1 it has '06/23/2021'; write their form, such as dates=\('%m/%d/%Y',\)$",
        "2021-06-23,1\n2021-06-24 11:05,1\n06/25/2021,1": r"'when' held dates in fit, and holds text now; CSV "
        r"reads it as text because of '06/25/2021' in row 2; correct the cell, or write nulls=\(..., '06/25/2021'\)",
        "2021-06-23,old\n2021-06-23,2": "'n' held numbers in fit, and holds text now; CSV reads it as text because",
    }
    for cells, said in forms.items():
        lines = "".join(f"{line},0\n" for line in cells.split("\n"))
        data = CSV(written(here, f"when,n,y\n{lines}"), "y")
        for call in (lambda data=data: trainer.evaluate(model, data), lambda data=data: model.predict(data)):
            with pytest.raises(DataError, match=said):
                call()
    text = table.assign(when=table["when"].astype(str))
    with pytest.raises(DataError, match=r"text now; cast it before, such as by pandas.to_datetime\(table\['when'\]\)$"):
        model.predict(text)
    assert np.array_equal(model.predict(text.assign(when=pd.to_datetime(text["when"]))), model.predict(table))
    odd = CSV(written(here, "when,n,y\n06/23/2021,1,0\n23/06/2021,1,0\n"), "y", dates=["%m/%d/%Y"])
    with pytest.raises(DataError, match="because of '23/06/2021' in row 1; correct the cell"):
        model.predict(odd)
    reads = CSV(written(here, "when,n,y\n06/23/2021,1,0\n"), "y", dates=["%m/%d/%Y"])
    assert np.array_equal(model.predict(reads), model.predict(table[:1]))


def test_errors_of_the_target_name_its_column(here):
    data = CSV(written(here, "x,late\n1,1\n2,NA\n"), "late")
    with pytest.raises(DataError, match=r"argument 'y': column 'late' must be finite; got nan in row 1"):
        classifier(data)
    with pytest.raises(DataError, match=r"argument 'y': column 'late' must hold real numbers; got text, first 'a' in"):
        classifier(CSV(written(here, "x,late\n1,a\n2,b\n"), "late"))


def test_rows_of_errors_are_those_of_the_data(here, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    data = CSV(written(here, "x,y\n" + "1,0\n" * 9 + ",0\n1,1\n"), "y", read_ahead=False)
    monkeypatch.setattr(blocks, "READ_NUMBERS", 4)
    with pytest.raises(DataError, match=r"read\(8, 11\).* in column 'x', row 1 .*; rows count from row 8 of the data"):
        classifier(data, shuffle=False)
