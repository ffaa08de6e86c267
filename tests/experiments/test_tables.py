"""A file by its ending, and a table that is read into memory."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from framework import CSV, Parquet, SettingsError, split
from framework.experiments.tables import in_memory, table_of

ROWS = 10_000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of several row groups, whose target is the number of the row."""
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    columns = {"x": np.arange(ROWS) * 0.5, "text": [f"t{row}" for row in range(ROWS)], "row": np.arange(ROWS)}
    pa.parquet.write_table(pa.table(columns), path, row_group_size=4500)
    return Parquet(path, target="row")


def test_small_tables_are_read_into_memory(table, monkeypatch):
    _, part = split(table, 0.5)
    found, target = in_memory(part)
    assert (found.column_names, target) == (["x", "text", "row"], "row")
    assert found["row"].to_pylist() == part.read(0, len(part))[1].to_pylist()
    several = table.replace(target=["row", "x"])
    found, targets = in_memory(several)
    assert (found.column_names, targets) == (["text", "row", "x"], ["row", "x"])
    monkeypatch.setattr("framework.experiments.tables.IN_MEMORY", 2 * ROWS - 1)
    assert in_memory(table) is table


def test_the_ending_says_the_kind_of_table(tmp_path):
    like = CSV("a.csv", target="y", delimiter=";")
    assert table_of("b.CSV", like) == like.replace(path="b.CSV")
    assert table_of("b.parquet", like, weight="w") == Parquet("b.parquet", target="y", weight="w")
    assert table_of("b.tsv", target="y") == CSV("b.tsv", target="y", delimiter="\t")
    folder = str(tmp_path)
    assert table_of(folder, like) == like.replace(path=folder)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").touch()
    assert table_of(folder, like) == Parquet(folder, target="y")
    (tmp_path / "b.csv").touch()
    assert table_of(folder, like) == like.replace(path=folder)
    for path, advice in (("a.xlsx", ""), ("a.csv.gz", "; unpack it first")):
        with pytest.raises(SettingsError, match=rf"'{path}' must end in \.csv or \.parquet{advice}$"):
            table_of(path, like)


def test_a_table_in_memory_and_in_blocks_trains_to_the_same_bits(tmp_path, monkeypatch):
    from experiment_pieces import command

    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(9000, 3)).round(3)
    with (tmp_path / "big.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c", "y"], *[[*row, int(sum(row) > 0)] for row in x.tolist()]])
    command("new", "big.csv", "--target", "y")
    histories = []
    for name, cells in (("memory", 1e9), ("blocks", 0)):
        monkeypatch.setattr("framework.experiments.tables.IN_MEMORY", cells)
        command("train", "big.toml", "--set", "trainer.epochs=2", "--set", "members=1", "--out", name)
        text = (tmp_path / name / "history.jsonl").read_text()
        histories.append([line.partition(', "learning_rate"')[0] for line in text.splitlines()])
    assert histories[0] == histories[1]
