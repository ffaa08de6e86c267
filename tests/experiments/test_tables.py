"""A table in two parts, one of which is held out; and a file by its ending."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from framework import CSV, Parquet, SettingsError
from framework.experiments.tables import HeldOut, in_memory, table_of

ROWS = 10_000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of several row groups, whose target is the number of the row."""
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    columns = {"x": np.arange(ROWS) * 0.5, "text": [f"t{row}" for row in range(ROWS)], "row": np.arange(ROWS)}
    pa.parquet.write_table(pa.table(columns), path, row_group_size=4500)
    return Parquet(path, target="row")


def rows(part, step=ROWS):
    read = [part.read(start, min(start + step, len(part))) for start in range(0, len(part), step)]
    for x, y in read:
        assert x["x"].to_numpy().tolist() == [row / 2 for row in y.to_numpy().tolist()]
    return np.concatenate([y.to_numpy() for _, y in read])


@pytest.mark.parametrize("seed", [0, 3, None])
@pytest.mark.parametrize("fraction", [0.25, 0.1, 1 / 3, 0.99])
def test_two_parts_have_every_row_once_in_its_order(table, fraction, seed):
    held, others = (HeldOut(table, fraction, seed, held=held) for held in (True, False))
    assert len(held) == round(ROWS * fraction)
    assert np.array_equal(np.sort(np.concatenate([rows(held), rows(others)])), np.arange(ROWS))
    for part in (held, others):
        assert np.all(np.diff(rows(part)) > 0)
        for step in (1777, 4096):
            assert np.array_equal(rows(part, step), rows(part))
    if seed is None:
        assert rows(held)[0] == ROWS - len(held)
    else:
        assert abs(rows(held).mean() - ROWS / 2) < 300
        assert np.array_equal(rows(held), rows(HeldOut(table, fraction, seed, held=True)))
        assert not np.array_equal(rows(held), rows(HeldOut(table, fraction, seed + 1, held=True)))


def test_a_fingerprint_tells_parts_apart(table):
    draws = (0.2, 0), (0.2, 1), (0.3, 0), (0.2, None)
    parts = [HeldOut(table, *draw, held=held) for draw in draws for held in (False, True)]
    assert len({part.fingerprint() for part in parts}) == 8


@pytest.mark.parametrize(("fraction", "what"), [(0.00001, "validate"), (0.99999, "train")])
def test_a_part_without_rows_is_refused(table, fraction, what):
    with pytest.raises(SettingsError, match=f"of {ROWS} rows leaves nothing to {what} with"):
        HeldOut(table, fraction, 0, held=what == "validate")


def test_small_tables_are_read_into_memory(table, monkeypatch):
    part = HeldOut(table, 0.5, 0, held=True)
    found, target = in_memory(part)
    assert (found.column_names, target) == (["x", "text", "row"], "row")
    assert np.array_equal(found["row"], rows(part))
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
    assert table_of(str(tmp_path), like) == like.replace(path=str(tmp_path))
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
        command("train", "big.toml", "--set", "trainer.epochs=2", "--out", name)
        text = (tmp_path / name / "history.jsonl").read_text()
        histories.append([line.partition(', "learning_rate"')[0] for line in text.splitlines()])
    assert histories[0] == histories[1]
