"""Rows without a target: left out of training and evaluation, counted, and predicted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from experiment_pieces import command

from framework import Parquet
from framework.experiments import tables as reading
from framework.experiments.tables import drop_unlabelled

SAID = "the target 'left' is missing in 20 of 90 rows, first in row 4; they are left out"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Write a table in which some rows have no target, and one without these rows."""
    monkeypatch.chdir(tmp_path)
    row = np.arange(90)
    left = np.where(row % 9 < 4, "yes", "no").astype(object)
    left[row % 9 > 6] = None
    left[4], left[7] = None, "no"
    table = pa.table({"x": np.sin(row), "city": np.array(["Rome", "Oslo", "Bern"])[row % 3], "left": left})
    for name, rows in (("some", table), ("whole", table.filter(pa.compute.is_valid(table["left"])))):
        pyarrow.csv.write_csv(rows, f"{name}.csv")
        pyarrow.parquet.write_table(rows, f"{name}.parquet", row_group_size=16)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_run_on_a_table_is_that_on_its_rows_with_a_target(ending, in_memory, monkeypatch):
    monkeypatch.setattr(reading, "IN_MEMORY", 10_000 if in_memory else 0)
    assert f"Warning: {SAID}" in command("new", f"some.{ending}", "--target", "left")
    command("new", f"whole.{ending}", "--target", "left")
    some, whole = (Path(f"{name}.toml").read_text() for name in ("some", "whole"))
    said = "# left: 2 classes: yes (40 rows), no (30 rows)"
    assert said in whole
    assert some == whole.replace("whole", "some").replace(said, f"{said}; 20 rows without it are left out")
    for name in ("some", "whole"):
        command("train", f"{name}.toml", "--out", name, "--set", "trainer.epochs=3")
    some, whole = (Path(f"{name}/metrics.json").read_text() for name in ("some", "whole"))
    assert some == whole
    evaluated = command("evaluate", "some", "--data", f"some.{ending}")
    assert SAID in evaluated
    assert evaluated.endswith(command("evaluate", "whole", "--data", f"whole.{ending}"))
    assert command("predict", "some", f"some.{ending}") == "wrote predictions.csv: 90 rows\n"
    assert SAID in command("resume", "some", "--epochs", "1")


def test_an_error_says_that_rows_without_a_target_do_not_count():
    command("new", "whole.csv", "--target", "left")
    command("train", "whole.toml", "--out", "run", "--set", "trainer.epochs=1")
    Path("odd.csv").write_text("x,city,left\n1,Rome,\ninf,Rome,yes\n2,Oslo,no\n")
    said = command("evaluate", "run", "--data", "odd.csv", status=1)
    assert "column 'x' has an infinite number in row 0" in said
    assert said.endswith("; rows are counted without those that have no target\n")


def test_a_row_that_lacks_one_of_several_targets_is_left_out():
    table = Parquet("some.parquet", target=["left", "x"], columns=["city"])
    with pytest.warns(UserWarning, match="the target 'left', 'x' is missing in 20 of 90 rows"):
        rows = drop_unlabelled(table)
    x, y = rows.read(2, 7)
    whole = pyarrow.parquet.read_table("whole.parquet").slice(2, 5)
    assert (x, y) == (whole.select(["city"]), whole.select(["left", "x"]))
    assert len(rows.read(3, 3)[0]) == 0
    assert rows.fingerprint() != table.fingerprint()
    assert (rows.starts[0], len({*rows.starts}), max(rows.starts) < len(rows)) == (0, len(rows.starts), True)


def test_a_table_whose_rows_all_have_a_target_is_used_as_it_is():
    table = Parquet("whole.parquet", target="left")
    assert drop_unlabelled(table) is table
    Path("odd.csv").write_text("x,left\n1,2\n3,inf\n5,4\n")
    assert "new: target has an infinite number in row 1" in command("new", "odd.csv", "--target", "left", status=1)
