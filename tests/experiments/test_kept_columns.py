"""Columns of the table beside the predictions, and files that are read as the training data."""

import csv
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from experiment_pieces import command

CELLS = ["000001", "0663", "34,086", "n/a", "?", "NA", " 7", "1e3", "2021-01-01", "true", ""]


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """A run of a model that predicts a number from a number."""
    monkeypatch.chdir(tmp_path)
    rows = [[place * place % 17 / 4, CELLS[place % len(CELLS)], place * 0.5] for place in range(66)]
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "key", "spent"], *rows])
    command("new", "a.csv", "--target", "spent", "--set", 'data.columns=["x"]')
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")


def test_kept_cells_are_those_of_the_file():
    command("predict", "run", "a.csv", "--keep", "key", "--keep", "spent")
    with Path("predictions.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["key"] for row in rows] == CELLS * 6
    assert [row["actual spent"] for row in rows] == [str(place * 0.5) for place in range(66)]
    assert all(float(row["spent"]) != "" for row in rows)


def test_kept_cells_are_text_in_parquet():
    command("predict", "run", "a.csv", "--keep", "key", "--out", "a.parquet")
    found = pyarrow.parquet.read_table("a.parquet").column("key").to_pylist()
    assert found == [cell or None for cell in CELLS] * 6


def test_kept_columns_of_parquet_keep_their_type():
    pyarrow.parquet.write_table(pyarrow.csv.read_csv("a.csv"), "b.parquet")
    command("predict", "run", "b.parquet", "--keep", "spent", "--out", "c.parquet")
    found = pyarrow.parquet.read_table("c.parquet")
    assert found.column_names == ["actual spent", "spent"]
    assert found.column("actual spent").to_pylist() == [place * 0.5 for place in range(66)]


def test_a_table_of_validation_is_read_in_the_kinds_of_the_training_data():
    lines = [f"{'A7' if row % 2 else '12'},{'no' if row % 2 else 'yes'}" for row in range(60)]
    Path("codes.csv").write_text("\n".join(["code,left", *lines, ""]))
    Path("valid.csv").write_text("code,left\n" + "12,yes\n12,no\n" * 9)
    command("new", "codes.csv", "--target", "left")
    held = 'validation={type="CSV", path="valid.csv", target="left"}'
    command(
        "train", "codes.toml", "--out", "two", "--set", held, "--set", "trainer.epochs=1", "--set", "holdout=random"
    )
