"""Cells that decide how a column is read, and what `new` says of them."""

import csv
import datetime as dt
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from experiment_pieces import command
from hypothesis import given, settings, strategies as st

from framework import CSV, DataError, Experiment, SettingsError
from framework.data.date_formats import pattern_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(name, cells, path="a.csv"):
    """Write a table of a column and a target."""
    lines = [f'"{cell}",{"no" if row % 3 else "yes"}' for row, cell in enumerate(cells)]
    Path(path).write_text("\n".join([f"{name},left", *lines, ""]))


def comment(name):
    return next(line for line in Path("a.toml").read_text().splitlines() if line.startswith(f"# {name}: "))


@pytest.mark.parametrize(
    ("cells", "odd", "what", "step"),
    [
        ([f"{20 + row % 50}" for row in range(200)], "old", "number", "Standardize"),
        ([f"2021-03-{1 + row % 28:02}" for row in range(200)], "unknown", "date", "Dates"),
    ],
)
def test_new_names_the_cell_that_makes_a_column_text_and_a_command_that_reads_it(cells, odd, what, step):
    cells[7] = odd
    written("age", cells)
    command("new", "a.csv", "--target", "left")
    said = comment("age")
    assert f'read as text; 199 of 200 cells are {what}s, but not "{odd}", first in row 7. Correct the cells' in said
    again = shlex.split(re.search("framework new .*", said)[0])
    command(*again[1:])
    assert CSV.__name__ in Path("a.toml").read_text()
    assert odd in Experiment.read("a.toml").data.nulls
    assert f'"{step}"' in (text := Path("a.toml").read_text()) or f'type = "{step}"' in text
    assert "read as text" not in text


DAYS = pd.date_range("2012-01-03 00:05", periods=90, freq="31h")


@pytest.mark.parametrize(
    "form",
    [
        "%Y/%m/%d",
        "%d %b %Y",
        "%Y%m%d",
        "%m/%d/%Y %I:%M %p",
        "%d.%m.%Y",
        "%B %d, %Y",
        "%d-%b-%y",
        "%Y-%m",
        "%m/%d/%y %H:%M:%S",
        "%Y-%m-%d %H:%M:%S %z",
    ],
)
def test_new_reads_dates_that_have_one_reading(form):
    cells = DAYS.tz_localize("Europe/Oslo" if "%z" in form else None).strftime(form)
    written("when", cells)
    command("new", "a.csv", "--target", "left")
    data = Experiment.read("a.toml").data
    assert data.dates == (form,)
    assert comment("when").startswith(f'# when: dates such as "{cells[0]}" are read by "{form}" in dates')
    assert "Dates" in Path("a.toml").read_text()
    read = data.frame().column("when").to_pandas()
    assert np.array_equal(read, pd.to_datetime(cells, format=form, utc="%z" in form))


def test_new_reads_dates_without_leading_zeros():
    written("when", [f"{day.year}-{day.month}-{day.day}" for day in DAYS])
    command("new", "a.csv", "--target", "left")
    assert np.array_equal(Experiment.read("a.toml").data.frame().column("when").to_pandas(), DAYS.normalize())


def test_whole_numbers_that_may_be_dates_stay_numbers_if_one_is_none_or_the_user_says_so():
    for last, changes in (("20121301", ()), ("2012111", ()), ("20121201", ("--set", "data.dates=[]"))):
        written("code", [*DAYS.strftime("%Y%m%d"), last])
        command("new", "a.csv", "--target", "left", "--overwrite", *changes)
        assert Experiment.read("a.toml").data.dates == ()
        assert "Dates" not in Path("a.toml").read_text()
    assert 'data.dates=["%Y%m%d"]' in comment("code")


def test_whole_numbers_that_are_dates_in_the_first_block_alone_are_numbers(monkeypatch):
    monkeypatch.setattr("framework.data.csv.CHUNK", 200)
    written("code", [*DAYS.strftime("%Y%m%d"), "12345678"])
    assert CSV("a.csv", dates=["%Y%m%d"]).frame().column("code").type == pa.int64()


@pytest.mark.parametrize(("cells", "days"), [(["2021001", "2021365"], True), (["12345", "99999"], False)])
def test_whole_numbers_may_be_days_of_a_year(cells, days):
    written("code", cells * 10)
    found = CSV("a.csv", dates=["%Y%j"]).frame().column("code")
    assert found.type == (pa.timestamp("s") if days else pa.int64())


DAYS_OF_NO_CALENDAR = {
    "%d/%m/%Y": "30/02/2021",
    "%m-%d-%y": "2-29-21",
    "%Y-%m-%d": "1900-02-29",
    "%d %b %Y": "31 April 2021",
    "%F %T": "2021-06-31 12:00:00",
    "%d/%m/%Y %H:%M %z": "31/11/2021 10:00 -0500",
    "day %j of %Y": "day 366 of 2021",
}


@pytest.mark.parametrize("form", DAYS_OF_NO_CALENDAR)
def test_a_day_that_no_month_has_is_refused_and_moves_to_no_other(form, monkeypatch):
    monkeypatch.setattr("framework.data.csv.CHUNK", 64)
    cell, days = DAYS_OF_NO_CALENDAR[form], [dt.datetime(2020, 2, 29, tzinfo=dt.UTC)] * 9
    cells = [f"{day:{form}}" for day in days]
    written("when", [*cells, "", cell, *cells])
    with pytest.raises(DataError, match=f"column 'when' has '{cell}' in row 10, a day that no calendar has; correct "):
        len(CSV("a.csv", dates=[form]))
    assert CSV("a.csv", dates=[form], text=["when"]).frame().column("when")[10].as_py() == cell
    found = CSV("a.csv", dates=[form], nulls=["", cell]).frame().column("when").drop_null().to_pylist()
    assert {f"{day:%F}" for day in found} == {"2020-02-29"}


def test_a_day_is_refused_only_where_no_format_before_reads_it():
    written("when", ["21/02/30", "30/12/21"])
    assert len(CSV("a.csv", dates=["%d/%m/%y", "%y/%m/%d"])) == 2
    with pytest.raises(DataError, match="'when' has '21/02/30' in row 0"):
        len(CSV("a.csv", dates=["%y/%m/%d", "%d/%m/%y"]))


@settings(max_examples=300)
@given(st.integers(1800, 2100), st.integers(0, 13), st.integers(0, 32))
def test_patterns_of_dates_match_the_days_that_python_reads(year, month, day):
    for form, cell in {"%d.%m.%Y": f"{day}.{month}.{year}", "%Y%m%d": f"{year}{month:02}{day:02}"}.items():
        try:
            dt.datetime.strptime(cell, form)
        except ValueError:
            assert not re.fullmatch(pattern_of(form), cell)
        else:
            assert re.fullmatch(pattern_of(form), cell)


@pytest.mark.parametrize("form", ["%Y%U", "%s", "%Y%m%x"])
def test_a_format_with_a_directive_that_is_not_known_takes_no_whole_numbers(form):
    written("code", ["20210112", "99999999"])
    assert CSV("a.csv", dates=[form]).frame().column("code").type == pa.int64()


def test_a_column_that_another_one_decides_says_so():
    lines = [f"{day:%d.%m.%Y},0{1 + row % 9}.0{1 + row % 7}.2012,{row % 2}" for row, day in enumerate(DAYS)]
    Path("a.csv").write_text("\n".join(["sure,unsure,left", *lines, ""]))
    command("new", "a.csv", "--target", "left")
    assert comment("unsure").endswith('are read by "%d.%m.%Y" in dates, as in another column')


def test_two_readings_of_one_cell_are_refused():
    with pytest.raises(SettingsError, match=r"not hold both '%d/%m/%Y' and '%m/%d/%Y', which read 01/02/2021 diff"):
        CSV("a.csv", dates=["%d/%m/%Y", "%Y/%m/%d", "%m/%d/%Y"])


def test_an_exported_file_reads_the_dates_of_the_table_of_its_run():
    forms = ["%Y%m%d", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%Y-%m-%dT%H:%M:%S+01:00", "%Y-%m-%d"]
    columns = {f"c{place}": DAYS.strftime(form) for place, form in enumerate(forms)}
    pd.DataFrame(columns | {"y": np.arange(90) % 7 + 0.5}).to_csv("a.csv", index=False)
    command("new", "a.csv", "--target", "y")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    command("predict", "run", "a.csv")
    command("export", "run", "model.py")
    predict = runpy.run_path("model.py")["predict"]
    expected = pd.read_csv("predictions.csv")["y"]
    with Path("a.csv").open(newline="") as file:
        np.testing.assert_allclose(predict([*csv.DictReader(file)]), expected, rtol=1e-5)
    np.testing.assert_allclose(predict(pd.read_csv("a.csv")), expected, rtol=1e-5)  # whole numbers in c0
    with pytest.raises(ValueError, match="column 'c0' has 3 in row 0: it is not written as"):
        predict({name: [3 if name == "c0" else values[0]] for name, values in columns.items()})


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["01-02-21", "03-04-21"] * 30, ["%m-%d-%y", "%d-%m-%y"]),
        (["1/2/2021 3:05 PM", "3/4/2021 12:00 AM"] * 30, ["%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M %p"]),
        (["21/02/2021"] * 59 + ["later"], ["%d/%m/%Y"]),
    ],
)
def test_new_says_how_dates_of_another_form_are_read(cells, formats):
    written("when", cells)
    command("new", "a.csv", "--target", "left")
    commands = re.findall(r"framework new .*?--overwrite", comment("when"))
    assert len(commands) == len(formats)
    for text, expected in zip(commands, formats, strict=True):
        command(*shlex.split(text)[1:])
        assert Experiment.read("a.toml").data.dates == (expected,)
        assert "Dates" in Path("a.toml").read_text()


def test_dates_of_a_format_are_read_as_python_does():
    written("when", ["03/21/2021", "12/01/2020"])
    found = CSV("a.csv", dates=["%m/%d/%Y"]).frame().column("when").to_pylist()
    assert [each.isoformat() for each in found] == ["2021-03-21T00:00:00", "2020-12-01T00:00:00"]


def test_new_reads_digits_with_leading_zeros_as_text():
    written("zip", ["00663", "10115", "20095"] * 30)
    command("new", "a.csv", "--target", "left")
    assert 'digits with leading zeros, first "00663" in row 0, are read as text' in comment("zip")
    assert Experiment.read("a.toml").data.text == ("zip",)
    assert 'zip = ["OneHot"]' in Path("a.toml").read_text()
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")


def test_the_command_in_a_comment_writes_the_same_file():
    written("age", ["31", "42", "53"] * 30 + ["old"])
    command("new", "a.csv", "--target", "left", "--task", "classes", "--out", "my file.toml")
    again = shlex.split(re.search("framework new .*", Path("my file.toml").read_text())[0])
    command(*again[1:])
    assert "old" in Experiment.read("my file.toml").data.nulls
    assert not Path("a.toml").exists()


def test_predict_and_evaluate_name_the_cell_that_makes_a_column_text():
    written("age", ["31", "42", "53"] * 30)
    command("new", "a.csv", "--target", "left")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    written("age", ["31", "42", "old"], "b.csv")
    for arguments in (["predict", "run", "b.csv"], ["evaluate", "run", "--data", "b.csv"]):
        printed = command(*arguments, status=1)
        assert "column 'age' held numbers in fit, and holds text now" in printed
        assert "because of 'old' in row 2; correct the cell, or write --set 'data.nulls=" in printed
        assert "cast" not in printed
        command(*arguments, *shlex.split(re.search("--set '.*?'", printed)[0]))


def test_metrics_that_need_a_table_of_validation_say_how_a_file_gives_one():
    written("age", ["31", "42", "53"] * 30)
    command("new", "a.csv", "--target", "left")
    text = Path("a.toml").read_text()
    Path("b.toml").write_text(re.sub("(?m)^(validation|holdout) =.*$", "", text))
    printed = command("train", "b.toml", "--out", "run", status=1)
    assert printed.endswith("write validation = 0.2 in the file, or --set validation=0.2\n")


def test_ordinary_columns_get_no_word():
    written("city", ["Rome", "Oslo", "12"] * 30)
    command("new", "a.csv", "--target", "left")
    assert "city: " not in Path("a.toml").read_text()


def test_a_target_of_numbers_with_one_word_names_it():
    lines = [f"{row % 7},{row}.5" for row in range(60)]
    Path("a.csv").write_text("\n".join(["x,spent", *lines, "1,much", ""]))
    printed = command("new", "a.csv", "--target", "spent", "--task", "number", status=1)
    assert (
        'must hold numbers; it holds text; spent: read as text; 60 of 61 cells are numbers, but not "much"' in printed
    )


def test_a_date_that_no_format_fits_leaves_text():
    written("when", ["03/21/2021", "21/03/2021"])
    data = CSV("a.csv", dates=["%m/%d/%Y"])
    assert data.frame().column("when").to_pylist() == ["03/21/2021", "21/03/2021"]
    with pytest.raises(DataError, match="names the column 'z'"):
        len(data.replace(target="z"))


def test_new_says_on_the_terminal_which_column_a_few_cells_make_text():
    written("rain", ["1.5", "n.a.?", "0", "2", "n.a.?", "3", *["4"] * 40])
    printed = command("new", "a.csv", "--target", "left")
    said = (
        "Warning: column 'rain' holds text in 2 of 46 cells, first 'n.a.?' in row 1; the new file has a comment on it"
    )
    assert said in printed
    assert "read as text; 44 of 46 cells" in comment("rain")


@pytest.mark.parametrize(("form", "unit"), [("{} %", "%"), ("{}%", "%"), ("${}", "$"), ("{} kg", "kg")])
def test_new_reads_numbers_with_a_unit_as_numbers(form, unit):
    numbers = [row % 50 + 0.5 for row in range(100)]
    written("rate", map(form.format, numbers))
    command("new", "a.csv", "--target", "left")
    assert f'"{form.format(0.5)}", "{form.format(1.5)}"' in comment("rate")
    assert "are read without their unit, which is in units" in comment("rate")
    data = Experiment.read("a.toml").data
    assert dict(data.units) == {"rate": unit}
    assert data.frame().column("rate").to_pylist() == numbers


def test_new_names_a_cell_that_makes_a_column_with_a_unit_text_and_a_command():
    written("rate", ["free" if row == 49 else f"${row % 50}.5" for row in range(100)])
    printed = command("new", "a.csv", "--target", "left")
    assert "column 'rate' holds text in 1 of 100 cells, first 'free' in row 49; the new file has a" in printed
    assert '99 of 100 cells are numbers with a unit, but not "free", first in row 49. Correct the' in comment("rate")
    (again,) = re.findall("framework (new .*)", comment("rate"))
    command(*shlex.split(again))
    assert Experiment.read("a.toml").data.frame().column("rate").to_pylist()[48:51] == [48.5, None, 0.5]


def test_new_reads_a_sign_before_and_behind_a_unit():
    numbers = [row % 50 - 25.5 for row in range(100)]
    written("rate", [f"${number}" if number > -9 else f"-${-number}" for number in numbers])  # $-3.5 too
    command("new", "a.csv", "--target", "left")
    assert Experiment.read("a.toml").data.frame().column("rate").to_pylist() == numbers


def test_new_reads_grouped_digits_behind_a_unit_where_they_have_one_reading():
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["rate", "left"], *([f"${row * 1000.5:,.2f}", row % 2] for row in range(100))])
    command("new", "a.csv", "--target", "left")
    assert Experiment.read("a.toml").data.frame().column("rate").to_pylist() == [row * 1000.5 for row in range(100)]


def test_new_takes_columns_of_two_units_for_text_and_says_so():
    written("rate", [f"{row % 50} {'kg' if row % 2 else 'g'}" for row in range(100)])
    command("new", "a.csv", "--target", "left")
    assert 'read as text; 100 of 100 cells are numbers with a unit, such as "0 g", "1 kg"' in comment("rate")
    assert Experiment.read("a.toml").data.units == ()


@pytest.mark.parametrize("first", ["5.1,3.5,1", "7,3,1", "2,4,2"])
def test_new_refuses_a_first_line_of_numbers_with_a_command_that_names_the_columns(first):
    Path("a.csv").write_text("".join([f"{first}\n", *(f"{row % 7}.5,{row},{row % 2}\n" for row in range(40))]))
    last = first.rpartition(",")[2]
    said = command("new", "a.csv", "--target", last, status=1)
    if first == "2,4,2":  # two columns of one name, which CSV refuses
        assert "rename them; if the file begins without a line of names, give them: --set 'data.header=" in said
        return
    assert f"the first line, '{first.replace(',', ', ')}', looks like a row of data" in said
    (again,) = re.findall("framework (new .*)", said)
    command(*shlex.split(again))
    data = Experiment.read("a.toml").data
    assert (data.header, data.target, len(data)) == (("column1", "column2", "column3"), "column3", 41)


@pytest.mark.parametrize("first", ["5.1,3.5,setosa", "1,2,setosa", "5.1,3.5,unknown"])
def test_new_refuses_a_first_line_that_is_partly_a_row(first):
    rows = "".join(f"{row % 7}.5,{row % 5},{'setosa' if row % 2 else 'virginica'}\n" for row in range(40))
    Path("a.csv").write_text(f"{first}\n{rows}")
    said = command("new", "a.csv", "--target", first.rpartition(",")[2], "--out", "b.toml", status=1)
    (again,) = re.findall("framework (new .*)", said)
    command(*shlex.split(again))
    assert len(Experiment.read("b.toml").data) == 41


@pytest.mark.parametrize("names", ["1100,1102.5,label", "3,1,label", "2019,2020,label", "x1,x2,label"])
def test_new_takes_numbers_beside_text_for_names_if_they_rise_or_are_whole(names):
    Path("a.csv").write_text(f"{names}\n" + "".join(f"{row}.5,{row * 2},{'ab'[row % 2]}\n" for row in range(40)))
    command("new", "a.csv", "--target", "label")
    assert Experiment.read("a.toml").data.names == tuple(names.split(",")[:2])


def test_new_finds_the_delimiter_of_a_file_without_a_line_of_names():
    Path("a.csv").write_text("".join(f"{row % 7},5;{row % 9},25;{'ab'[row % 2]}\n" for row in range(40)))
    said = command("new", "a.csv", "--target", "a", status=1)
    (again,) = re.findall("framework (new .*)", said)
    command(*shlex.split(again))
    data = Experiment.read("a.toml").data
    assert (data.delimiter, data.decimal, len(data)) == (";", ",", 40)


def test_new_warns_of_a_target_with_very_many_classes():
    rows = [f"{row},{'€' if row % 7 else '$'}{row * 31},{'' if row % 2 else 'x'}" for row in range(100)]
    Path("a.csv").write_text("\n".join(["x,price,left", *rows, ""]))
    printed = command("new", "a.csv", "--target", "price")
    assert "target 'price' holds 100 classes in 100 rows, such as '$0', which may be numbers; the new file" in printed
    assert "# price: read as text; 100 of 100 cells are numbers with a unit" in Path("a.toml").read_text()


def test_new_warns_of_numbers_and_dates_that_stay_text():
    rows = [f"{row % 12 + 1}/{row % 11 + 1}/2021,{row % 9} {'kg' if row % 2 else 'g'},{row % 2}" for row in range(99)]
    Path("a.csv").write_text("\n".join(["when,mass,left", *rows, ""]))
    printed = command("new", "a.csv", "--target", "left")
    assert "column 'when' holds dates as text, such as '1/1/2021'; the new file has a comment on it" in printed
    assert "column 'mass' holds numbers as text, such as '0 g'; the new file has a comment on it" in printed


def test_new_gives_the_command_where_the_only_column_holds_unclear_dates():
    rows = [f"{row % 12 + 1}/{row % 11 + 1}/2021,{row % 2}" for row in range(80)]
    Path("a.csv").write_text("\n".join(["when,left", *rows, ""]))
    printed = command("new", "a.csv", "--target", "left", status=1)
    assert "no column to learn from: when (80 different texts in 80 rows, dates as text" in printed
    assert """framework new a.csv --target left --set 'data.dates=["%m/%d/%Y"]'""" in printed


def test_new_says_why_numbers_of_many_digits_are_text():
    written("x", ["12345678901234567890", "1.5", "2.5"] * 20)
    command("new", "a.csv", "--target", "left")
    assert comment("x") == "# x: read as text; a float has fewer digits than some of its numbers"


def test_new_takes_years_for_names():
    Path("a.csv").write_text("2019,2020,2021\n" + "".join(f"{row}.5,{row * 2},{row * 3}\n" for row in range(40)))
    command("new", "a.csv", "--target", "2021")
    assert Experiment.read("a.toml").data.names == ("2019", "2020")


def test_new_ends_a_list_of_examples_with_one_stop():
    written("when", [f"{row % 3 + 1}/{row % 4 + 1}/2021" for row in range(100)])
    command("new", "a.csv", "--target", "left")
    assert re.search(r'dates, such as .*" and others\. To read them:', comment("when"))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"yes": 15, "no": 485}, "yes (3.0%)"),
        ({"yes": 100, "no": 400}, ""),
        ({"sun": 300, "fog": 25, "rain": 165, "snow": 10}, "snow (2.0%), fog (5.0%)"),
        (dict.fromkeys("abcdefghijklmnopqrstuvwxyz", 10), ""),
        ({"a": 500} | dict.fromkeys("bcdefghijkl", 5), "b (0.9%), c (0.9%), d (0.9%), e (0.9%), f (0.9%) and 6 more"),
    ],
)
def test_new_names_the_classes_with_few_rows(sizes, told):
    names = [name for name, size in sizes.items() for _ in range(size)]
    Path("a.csv").write_text("\n".join(["x,left", *(f"{row % 37}.5,{name}" for row, name in enumerate(names)), ""]))
    command("new", "a.csv", "--target", "left")
    text = Path("a.toml").read_text()
    assert re.findall("# Few rows: (.*)\n# The accuracy says little about them", text) == [told] * bool(told)


def test_predict_names_the_cell_of_a_duration_that_is_text():
    table = pa.table({"stay": pa.array([1, 2] * 20, pa.duration("s")), "y": ["no", "yes"] * 20})
    pa.parquet.write_table(table, "a.parquet")
    command("new", "a.parquet", "--target", "y")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    Path("b.csv").write_text("stay\n28 hours\n")
    printed = command("predict", "run", "b.csv", status=1)
    assert (
        "column 'stay' held durations in fit, and holds text now; in row 0 it has '28 hours'; write durations as 12:30"
        in printed
    )
    Path("b.csv").write_text("stay\n1 days 02:00:00\n28 hours\n")
    assert "text because of '28 hours' in row 1; correct the cell" in command("predict", "run", "b.csv", status=1)
