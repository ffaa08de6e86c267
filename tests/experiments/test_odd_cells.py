"""Cells that decide how a column is read, and what `new` says of them."""

import re
import shlex
from pathlib import Path

import pytest
from experiment_pieces import command

from framework import CSV, DataError, Experiment


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


@pytest.mark.parametrize(
    ("cells", "formats"),
    [
        (["03/21/2021", "3/1/2021"] * 30, ["%m/%d/%Y"]),
        (["21.03.2021 10:30", "01.03.2021 23:59"] * 30, ["%d.%m.%Y %H:%M"]),
        (["01-02-21", "03-04-21"] * 30, ["%m-%d-%y", "%d-%m-%y"]),
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


def test_rows_without_a_target_are_counted():
    Path("a.csv").write_text("x,spent\n" + "".join(f"{row},{row % 9 or ''}\n" for row in range(60)))
    said = "the target 'spent' is missing in 7 of 60 rows, first in row 0; remove these rows from the file to train"
    assert said in command("new", "a.csv", "--target", "spent", status=1)
    assert said in command("new", "a.csv", "--target", "spent", "--task", "number", status=1)


def test_a_date_that_no_format_fits_leaves_text():
    written("when", ["03/21/2021", "21/03/2021"])
    data = CSV("a.csv", dates=["%m/%d/%Y"])
    assert data.frame().column("when").to_pylist() == ["03/21/2021", "21/03/2021"]
    with pytest.raises(DataError, match="names the column 'z'"):
        len(data.replace(target="z"))
