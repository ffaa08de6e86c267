"""How a command is told to read a CSV file: its errors name the flags that it takes."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from experiment_pieces import command

from framework import Experiment
from framework.base.errors import Advice, DataError
from framework.experiments.tables import render_for_command

QUOTED = '"{}"'.format


@pytest.fixture
def incomes(tmp_path, monkeypatch):
    """Return a function that writes 120 rows: an income with grouped digits, a city, and whether one has left."""
    monkeypatch.chdir(tmp_path)

    def write(path, *, delimiter=",", encoding="utf-8", header=True, seed=0):
        rng = np.random.default_rng(seed)
        rows = [
            [f"{income:,}", city, "yes" if income > 50_000 else "no"]
            for income, city in zip(rng.integers(1_000, 99_000, 120).tolist(), ["Zürich", "Bern"] * 60, strict=True)
        ]
        lines = [["income", "city", "left"], *rows] if header else rows
        text = "".join(f"{delimiter.join(map(QUOTED, line))}\n" for line in lines)
        Path(path).write_text(text, encoding=encoding)

    return write


def advised(printed):
    """Return the first flag that a message advises, as a shell reads it."""
    found = re.search(r"--set (?:'[^']*'|\S+)", printed)
    return shlex.split(found[0].rstrip(";"))


def test_new_reads_what_the_flags_of_its_errors_say(incomes):
    incomes("a.csv", encoding="latin-1", delimiter=";")
    arguments = ["new", "a.csv", "--target", "left"]
    for expected in ("data.encoding=latin-1", "data.thousands=,"):
        flag = advised(command(*arguments, status=1))
        assert flag[1] == expected
        arguments += flag
    command(*arguments)
    data = Experiment.read("a.toml").data
    assert (data.encoding, data.delimiter, data.thousands) == ("latin-1", ";", ",")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=2")


@pytest.mark.parametrize(
    ("cells", "setting", "value"),
    [
        (["81,706", "1,204,311"], "thousands", 81706.0),  # a number has one decimal point
        (["81'706.5", "0.5"], "thousands", 81706.5),  # as the Swiss write
        (["0,5", "81,706"], "decimal", 0.5),  # digits come in groups of three
    ],
)
def test_new_reads_marks_that_have_one_reading(tmp_path, monkeypatch, cells, setting, value):
    monkeypatch.chdir(tmp_path)
    rows = [f'"{cells[i % 2]}",{"ab"[i % 3 == 0]}' for i in range(60)]
    Path("a.csv").write_text("\n".join(["size,kind", *rows, ""]))
    command("new", "a.csv", "--target", "kind")
    data = Experiment.read("a.toml").data
    assert getattr(data, setting) == ("'" if "'" in cells[0] else ",")
    assert data.read(0, 1)[0].column("size").to_pylist() == [value]
    assert f"# {setting}: as all columns are written\n" in Path("a.toml").read_text()


def test_new_reads_commas_by_the_decimal_points_of_another_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f'"81,{700 + i}",{i / 8},{"ab"[i % 3 == 0]}' for i in range(60)]
    Path("a.csv").write_text("\n".join(["size,rate,kind", *rows, ""]))
    command("new", "a.csv", "--target", "kind")
    assert Experiment.read("a.toml").data.thousands == ","


GERMAN = [f"{['Kiel', 'Köln'][row % 2]};{100 + row},{row % 10};480.874,{10 + row};200.{100 + row}" for row in range(80)]


def test_new_finds_delimiter_decimal_point_and_grouped_digits_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("\n".join(["ort, Kreis;fläche;preis;einwohner", *GERMAN, ""]))
    command("new", "a.csv", "--target", "preis")
    data = Experiment.read("a.toml").data
    assert (data.delimiter, data.decimal, data.thousands, data.units) == (";", ",", ".", ())
    assert next(zip(*data.read(0, 1)[0].to_pydict().values(), strict=True)) == ("Kiel", 100.0, 200100.0)
    text = Path("a.toml").read_text()
    assert "# preis: a number\n" in text
    assert "# delimiter, decimal, thousands: as all columns are written\n" in text
    assert '# preis: numbers with grouped digits; "480.874,10" is 480874.10\n' in text
    assert '# einwohner: numbers with grouped digits; "200.100" is 200100\n' in text
    assert "\nunits = " not in text


@pytest.mark.parametrize("change", ["data.decimal=.", "data.thousands=,"])
def test_new_keeps_the_marks_of_numbers_that_are_set(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("\n".join(["ort;fläche;preis;einwohner", *GERMAN, ""]))
    printed = command("new", "a.csv", "--target", "preis", "--set", change, status=1)
    assert "'fläche' has numbers with ',', first '100,0' in row 0; write --set data.decimal=, if it is 100.0" in printed


def test_new_names_two_columns_with_different_decimal_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("\n".join(["size;price", *(f"{row}.5;480.874,{10 + row}" for row in range(60)), ""]))
    printed = command("new", "a.csv", "--target", "price", status=1)
    assert "column 'price' has numbers with ',', first '480.874,10' in row 0, but column 'size' has numbers " in printed
    assert "first '0.5' in row 0; write all numbers of the file alike, or --set 'data.text=[\"price\"]'" in printed


@pytest.mark.parametrize("unit", ["", " kg"])
@pytest.mark.parametrize("cells", [("1,500.5", "4,25"), ("1.23", "4,5")])
def test_new_refuses_numbers_that_no_setting_reads_alike_with_a_flag(tmp_path, monkeypatch, cells, unit):
    monkeypatch.chdir(tmp_path)
    lines = [f'"{row},5","{cells[row % 2]}{unit}",{"ab"[row % 3 == 0]}' for row in range(60)]
    Path("a.csv").write_text("\n".join(["size,mass,kind", *lines, ""]))
    printed = command("new", "a.csv", "--target", "kind", status=1)
    assert f"column 'mass' has numbers that are not written alike, first '{cells[1]}' in row 1; write all of" in printed
    assert "'size'" not in printed
    command("new", "a.csv", "--target", "kind", *advised(printed))
    data = Experiment.read("a.toml").data
    assert (data.decimal, data.text) == (",", ("mass",))


def test_evaluate_and_predict_read_another_kind_of_file(incomes):
    incomes("a.csv")
    command("new", "a.csv", "--target", "left", "--set", "data.thousands=,")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=2")
    incomes("b.csv", seed=1)
    incomes("c.csv", seed=1, encoding="latin-1")
    read = advised(command("evaluate", "run", "--data", "c.csv", status=1))
    assert command("evaluate", "run", "--data", "c.csv", *read) == command("evaluate", "run", "--data", "b.csv")
    command("predict", "run", "b.csv")
    command(
        "predict",
        "run",
        "c.csv",
        "--out",
        "p.csv",
        *advised(command("predict", "run", "c.csv", "--out", "p.csv", status=1)),
    )
    assert Path("p.csv").read_bytes() == Path("predictions.csv").read_bytes()


def test_a_file_without_a_line_of_names_gets_them_by_a_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("".join(f"{n % 7},{n % 5}.5,{'no' if n % 2 else 'yes'}\n" for n in range(60)))
    printed = command("new", "a.csv", "--target", "left", status=1)
    assert """give them: --set 'data.header=["column1", "column2", "column3"]'""" in printed
    command("new", "a.csv", "--target", "left", "--set", 'data.header=["x", "y", "left"]')
    assert Experiment.read("a.toml").data.header == ("x", "y", "left")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.thousand=,", "--set data.thousand=,: CSV: unknown setting 'thousand'; did you mean 'thousands'?"),
        ("data.decimal=;", "--set data.decimal=;: CSV: setting 'decimal' must be"),
        ("trainer.epochs=3", "--set trainer.epochs=3: this command takes settings of how the table is read, such as"),
        ("data.path=b.csv", "--set data.path=b.csv: this command takes settings of how the table is read, such as"),
        ("data.text=city", "--set data.text=city: CSV: setting 'text' must be an array: write text = [\"city\"]"),
    ],
)
def test_a_wrong_setting_of_reading_is_named(incomes, change, message):
    incomes("a.csv")
    assert command("new", "a.csv", "--target", "left", "--set", change, status=1).startswith(f"Error: {message}")
    assert not Path("a.toml").exists()


def test_new_takes_a_folder_of_files_of_one_kind(incomes):
    Path("shops").mkdir()
    for name in "ab":
        incomes(f"shops/{name}.csv")
    command("new", "shops", "--target", "left", "--set", "data.thousands=,")
    assert len(Experiment.read("shops.toml").data) == 240
    Path("shops/c.parquet").touch()
    printed = command("new", "shops", "--target", "left", "--overwrite", status=1)
    assert printed == "Error: the table 'shops' must end in .csv or .parquet\n"


def test_a_table_of_validation_gets_flags_of_its_own(incomes):
    incomes("a.csv")
    incomes("b.csv", encoding="latin-1")
    command("new", "a.csv", "--target", "left", "--set", "data.thousands=,")
    held = 'validation={type="CSV", path="b.csv", target="left", thousands=","}'
    Path("b.toml").write_text(re.sub("(?m)^holdout =.*$", "", Path("a.toml").read_text()))
    Path("b.toml").write_text(Path("b.toml").read_text().replace("validation = 0.2", held.replace("=", " = ")))
    flag = advised(command("train", "b.toml", "--out", "run", status=1))
    assert flag[1] == "validation.encoding=latin-1"
    command("train", "b.toml", "--out", "run", "--set", "trainer.epochs=1", *flag)


def test_settings_of_reading_without_a_table_are_refused(incomes):
    incomes("a.csv")
    command("new", "a.csv", "--target", "left", "--set", "data.thousands=,")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    printed = command("evaluate", "run", "--set", "data.delimiter=;", status=1)
    assert printed == "Error: --set data.delimiter=;: give --data, the table that is read so\n"


def test_commands_without_flags_advise_the_file_of_the_run(incomes):
    incomes("a.csv", delimiter=";")
    command("new", "a.csv", "--target", "left", "--set", "data.thousands=,", "--set", "data.delimiter=;")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=2")
    incomes("a.csv")
    for arguments in (("resume", "run", "--epochs", "1"), ("evaluate", "run")):
        printed = command(*arguments, status=1)
        assert "--set" not in printed
        assert 'delimiter = "," in [data] of run/experiment.toml' in printed
    file = Path("run/experiment.toml")
    file.write_text(file.read_text().replace('delimiter = ";"', 'delimiter = ","'))
    assert "run: 3 epochs" in command("resume", "run", "--epochs", "1")


def test_a_table_that_was_moved_is_found_by_its_new_path(incomes):
    incomes("a.csv")
    command("new", "a.csv", "--target", "left", "--set", "data.thousands=,")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    Path("a.csv").rename("b.csv")
    printed = command("resume", "run", "--epochs", "1", status=1)
    assert printed.endswith("a.csv'; if it was moved, write its new path in [data] of run/experiment.toml\n")
    file = Path("run/experiment.toml")
    file.write_text(file.read_text().replace("a.csv", "b.csv"))
    assert "run: 2 epochs" in command("resume", "run", "--epochs", "1")
    assert "moved" not in command("new", "c.csv", "--target", "left", status=1)


def test_a_command_advises_to_start_it_again():
    advice = Advice("make a new CSV(...)", command="start the command again")
    error = DataError("was changed after it was opened", name="a.csv", advice=advice)
    assert str(error) == "a.csv was changed after it was opened; make a new CSV(...)"
    assert render_for_command(error) == "a.csv was changed after it was opened; start the command again"
