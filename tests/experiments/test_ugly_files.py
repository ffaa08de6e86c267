"""Tables that nobody prepared: with no flag but the target, ``new`` writes what ``train`` accepts."""

import csv
import datetime as dt
import io
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_pieces import command

ROWS = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=ROWS).round(3).tolist()
SIZE = [round(10 ** (3 + 4 * x), 2) for x in RNG.random(ROWS)]
CITY = RNG.choice(["Rome", "Oslo", "Bern"], ROWS).tolist()
LABEL = ["yes" if x > 0 else "no" for x in X]
DAY = [dt.date(2021, 1, 1) + dt.timedelta(days=7 * row) for row in range(ROWS)]


def every(n, cell, cells):
    """Return cells with another in each n-th row."""
    return [cell if row % n == 0 else other for row, other in enumerate(cells)]


def text(columns, delimiter=",", **settings):
    """Return a CSV file of columns; the names of ``settings`` are those of csv.writer."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", **settings)
    writer.writerows([[*columns], *zip(*columns.values(), strict=True)])
    return file.getvalue()


def beside(name, cells, **more):
    """Return a file with a column beside a number, and a target of two classes."""
    return text({"x": X, name: cells, **more, "y": LABEL})


def goal(cells, **more):
    """Return a file with a target beside a number and a text."""
    return text({"x": X, "city": CITY, **more, "y": cells})


def first(rows, file):
    """Return the first rows of a file."""
    return "".join(file.splitlines(keepends=True)[: rows + 1])


PLAIN = beside("city", CITY)
TIMES = [f"{day} {row % 24:02}:30:00" for row, day in enumerate(DAY)]
FILES = {
    # Cells.
    "missing numbers": beside("a", every(3, "", X)),
    "missing text": beside("a", every(3, "", CITY)),
    "nothing in a column": beside("a", [""] * ROWS),
    "one number in a column": beside("a", every(ROWS, "3.5", [""] * ROWS)),
    "one number everywhere": beside("a", [4] * ROWS),
    "one text everywhere": beside("a", ["same"] * ROWS),
    "a text for each row": beside("a", [f"name {row}" for row in range(ROWS)]),
    "an id": beside("customer_id", [1000 + 17 * row for row in range(ROWS)]),
    "NA among numbers": beside("a", every(9, "NA", X)),
    "a question mark among numbers": beside("a", every(30, "?", X)),
    "a line for missing numbers": beside("a", every(7, "-", X)),
    "a word among numbers": beside("a", every(50, "unknown", X)),
    "enormous numbers": beside("a", every(20, "1e300", X)),
    "enormous numbers alone": beside("a", [f"{x}e300" for x in X]),
    "the largest numbers among fractions": beside("a", every(7, "1e308", [x / 100 for x in X])),
    "tiny numbers": beside("a", [f"{x:.3f}e-300" for x in X]),
    "numbers of all sizes": beside("a", SIZE),
    "one typing error": beside("a", every(ROWS, 1e9, X)),
    "scientific numbers": beside("a", [f"{size:.2E}" for size in SIZE]),
    "hexadecimal numbers": beside("a", [hex(row) for row in range(ROWS)]),
    "codes with leading zeros": beside("a", [f"{row % 7:04}" for row in range(ROWS)]),
    "dollars": beside("a", [f"${size:,.2f}" for size in SIZE]),
    "euros behind the number": beside("a", [f"{x} €" for x in X]),
    "percent": beside("a", [f"{row}%" for row in range(ROWS)]),
    "kilograms": beside("a", [f"{abs(x)} kg" for x in X]),
    "two units": beside("a", every(2, "3 cm", [f"{abs(x)} m" for x in X])),
    "grouped digits": beside("a", [f"{size:,.0f}" for size in SIZE]),
    "spaces around cells": beside("a", [f"  {x} " for x in X]),
    "true and false": beside("a", every(3, "true", ["false"] * ROWS)),
    "yes and no": beside("a", every(3, "Yes", ["No"] * ROWS)),
    "capitals": beside("a", every(5, "ROME", every(7, "rome", CITY))),
    "lines in a cell": beside("a", every(4, "one\ntwo", CITY)),
    "commas and quotes in a cell": beside("a", every(4, 'say "a, b"', CITY)),
    "a very long text": beside("a", every(4, "long " * 2000, CITY)),
    "formulas of a spreadsheet": beside("a", every(4, "=A1+B2", CITY)),
    "many scripts": beside("a", every(4, "東京", every(3, "Αθήνα", CITY))),
    "dates": beside("a", DAY),
    "dates with points": beside("a", [f"{day:%d.%m.%Y}" for day in DAY]),
    "dates of unclear order": beside("a", [f"{day:%m}/{day.day % 12 + 1:02}/{day:%Y}" for day in DAY]),
    "dates as whole numbers": beside("a", [f"{day:%Y%m%d}" for day in DAY]),
    "times": beside("a", TIMES),
    "times with a zone": beside("a", [f"{time}+02:00".replace(" ", "T") for time in TIMES]),
    "missing dates": beside("a", every(3, "", DAY)),
    # Columns.
    "a hundred columns": text({f"c{n}": np.roll(X, n).tolist() for n in range(100)} | {"y": LABEL}),
    "text alone": text({"city": CITY, "y": LABEL}),
    "names with spaces and signs": text({"my x (cm)": X, 'a "b", c': CITY, "größe": X[::-1], "y": LABEL}),
    "names that are patterns": text({"*": X, "<number>": X[::-1], "a*": CITY, "y": LABEL}),
    "names of settings": text({"type": X, "columns": X[::-1], "a.b": CITY, "y": LABEL}),
    "an empty name": text({"": [*range(ROWS)], "x": X, "y": LABEL}),
    "names in two cases": text({"x": X, "X": CITY, "Y": X[::-1], "y": LABEL}),
    "the target first": text({"y": LABEL, "x": X}),
    # Targets.
    "rows without a target": goal(every(6, "", LABEL)),
    "a class of one row": goal(every(ROWS, "rare", LABEL)),
    "classes of whole numbers": goal([row % 4 for row in range(ROWS)]),
    "classes with leading zeros": goal([f"{row % 3:02}" for row in range(ROWS)]),
    "true and false to predict": goal([str(x > 0).lower() for x in X]),
    "sorted classes": goal(sorted(LABEL)),
    "thirty classes": goal([f"class {row % 30}" for row in range(ROWS)]),
    "a number to predict": goal(SIZE),
    "a number of one value to predict": goal([2.5] * ROWS),
    "numbers of dollars to predict": goal([f"${size:,.2f}" for size in SIZE]),
    "an enormous number to predict": goal([f"{x}e15" for x in X]),
    # Files.
    "ten rows": first(10, PLAIN),
    "five rows": first(5, text({"x": X, "y": every(2, "no", ["yes"] * ROWS)})),
    "one row twenty times": "x,city,y\n" + "1,Rome,yes\n2,Oslo,no\n" * 20,
    "semicolons and decimal commas": text(
        {"x": [str(x).replace(".", ",") for x in X], "city": CITY, "y": LABEL}, delimiter=";"
    ),
    "tabs": text({"x": X, "city": CITY, "y": LABEL}, delimiter="\t"),
    "bars": text({"x": X, "city": CITY, "y": LABEL}, delimiter="|"),
    "everything in quotes": text({"x": X, "city": CITY, "y": LABEL}, quoting=csv.QUOTE_ALL),
    "a byte order mark": "\ufeff" + PLAIN,
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "no end of the last line": PLAIN.rstrip("\n"),
    "a comma at the end of each line": PLAIN.replace("\n", ",\n"),
}
"""Files as people have them. Other tests say which tables ``new`` refuses, and why."""


@pytest.mark.share(1 / 4)
@pytest.mark.filterwarnings("ignore::UserWarning")  # what new says of single columns has tests of its own
@pytest.mark.parametrize("name", FILES)
def test_train_accepts_what_new_writes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(FILES[name], encoding="utf-8", newline="")
    command("new", "t.csv", "--target", "y")
    command("train", "t.toml", "--out", "run", "--set", "trainer.epochs=2", "--set", 'trainer.engine="numpy"')
    command("predict", "run", "t.csv", "--out", "p.csv")
    rows = [*csv.DictReader(Path("p.csv").read_text(encoding="utf-8").splitlines())]
    assert len(rows) == len([*csv.reader(io.StringIO(FILES[name].lstrip("\ufeff")))]) - 1
    assert np.isfinite([float(cell) for row in rows for key, cell in row.items() if key.startswith("y=")]).all()


KINDS = {
    "decimals": pa.array([Decimal(str(x)) for x in X]),
    "categories": pa.array(CITY).dictionary_encode(),
    "missing whole numbers": pa.array(every(3, None, [*range(ROWS)])),
    "missing booleans": pa.array(every(3, None, [x > 0 for x in X])),
    "dates": pa.array(DAY),
    "times with a zone": pa.array([dt.datetime(2021, 1, 1, row % 24, tzinfo=dt.UTC) for row in range(ROWS)]),
    "durations": pa.array([dt.timedelta(minutes=row) for row in range(ROWS)]),
    "lists": pa.array([[x, x] for x in X]),
    "bytes": pa.array([b"\xff"] * ROWS),
    "halves": pa.array(np.array(X, "float16")),
    "nothing": pa.nulls(ROWS),
}
"""Columns of Parquet files that no CSV file has."""


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", KINDS)
def test_train_accepts_what_new_writes_for_a_parquet_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"x": X, "a": KINDS[name], "y": LABEL}), "t.parquet")
    command("new", "t.parquet", "--target", "y")
    command("train", "t.toml", "--out", "run", "--set", "trainer.epochs=2", "--set", 'trainer.engine="numpy"')
    command("predict", "run", "t.parquet", "--out", "p.csv")
    assert len(Path("p.csv").read_text().splitlines()) == ROWS + 1
