"""Time zones: an hour of the training data and an hour at predict are hours of the same clock."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from framework import CSV, DataError, Preprocess
from framework.preprocessing import Dates, FittedPreprocess

RECIPE = Preprocess(columns={"when": [Dates(["hour", "day"], cyclic=False)]})
NAIVE = pd.DataFrame({"when": pd.to_datetime(["2020-07-01 08:00", "2020-12-24 23:30", None])})
PARIS = NAIVE.assign(when=NAIVE["when"].dt.tz_localize("Europe/Paris"))
UTC = PARIS.assign(when=PARIS["when"].dt.tz_convert("UTC"))
FILLED = PARIS.iloc[:2]


@pytest.mark.parametrize("make", [lambda table: table, pl.from_pandas, pa.table], ids=["pandas", "polars", "Arrow"])
def test_dates_of_another_zone_are_converted_to_that_of_the_training_data(make):
    fitted = RECIPE.fit(make(FILLED))
    assert fitted.zones == (("when", "Europe/Paris"),)
    expected = [[8.0, 1.0], [23.0, 24.0]]
    for table in (FILLED, UTC.iloc[:2], FILLED.assign(when=FILLED["when"].dt.tz_convert("Asia/Tokyo"))):
        np.testing.assert_array_equal(fitted.transform(make(table)), expected)
    twin = FittedPreprocess.from_json(fitted.to_json())
    np.testing.assert_array_equal(twin.transform(make(UTC.iloc[:2])), expected)
    np.testing.assert_array_equal(RECIPE.fit(make(UTC.iloc[:2])).transform(make(FILLED)), [[6.0, 1.0], [22.0, 24.0]])


def test_a_csv_file_of_offsets_has_the_hours_of_the_training_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FILLED.assign(late=[0, 1]).to_csv("when.csv", index=False)
    assert "+02:00" in Path("when.csv").read_text()
    table, _ = CSV("when.csv", target="late").read(0, 2)
    np.testing.assert_array_equal(RECIPE.fit(FILLED).transform(table), [[8.0, 1.0], [23.0, 24.0]])


@pytest.mark.parametrize(
    ("learnt", "given", "said"),
    [
        (FILLED, NAIVE.iloc[:2], "dates in a time zone, Europe/Paris; got dates without a time zone; convert them"),
        (NAIVE.iloc[:2], FILLED, "dates without a time zone; got dates in a time zone, Europe/Paris; convert them"),
    ],
    ids=["no zone", "a zone"],
)
def test_dates_with_and_without_a_zone_are_not_mixed(learnt, given, said):
    with pytest.raises(DataError, match=f"^transform: argument 'x': column 'when' must hold {said}$"):
        RECIPE.fit(learnt).transform(given)


def test_a_column_without_a_date_has_no_zone_to_differ():
    with pytest.raises(DataError, match="column 'when' has a missing value in row 0"):
        RECIPE.fit(FILLED).transform(NAIVE.iloc[2:])
