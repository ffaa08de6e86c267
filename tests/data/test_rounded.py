"""Numbers of a table that no float64 holds, and nanoseconds: a warning names the column."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from framework import Impute, MeanSquaredError, Neuron, OneHot, Preprocess, SGDOptimizer, Standardize, Trainer
from framework.base.arrays import real_array
from framework.preprocessing import Dates, Levels

LARGE = [2**53 + 1, 2**60, 3]
LIBRARIES = {
    "pandas": lambda values: pd.DataFrame({"id": pd.array(values, "Int64")}),
    "polars": lambda values: pl.DataFrame({"id": values}, schema={"id": pl.Int64}),
    "Arrow": lambda values: pa.table({"id": pa.array(values, pa.int64())}),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("values", [LARGE, [*LARGE, None]])
def test_whole_numbers_that_become_others_are_told_with_their_column(library, values):
    table = LIBRARIES[library](values)
    steps = [Impute(), Standardize()]
    with pytest.warns(UserWarning, match="transform: column 'id' holds whole numbers beyond 2\\^53, which become the"):
        Preprocess(columns={"id": steps}).fit(table).transform(table)
    if None not in values:
        with pytest.warns(UserWarning, match="x: column 'id' holds whole numbers beyond 2\\^53.*; leave it out"):
            real_array(table, "x", "float64")


@pytest.mark.parametrize("library", LIBRARIES)
def test_whole_numbers_that_floats_hold_are_not_told(library):
    table = LIBRARIES[library]([2**53, -(2**53), 2**60, 0])
    fitted = Preprocess(columns={"id": [Standardize()]}).fit(table)
    assert fitted.columns[0][1][0].mean == ((2**60) / 4,)
    fitted.transform(table)
    assert real_array(table, "x", "float64")[2, 0] == 2.0**60


def test_large_ids_are_levels_to_the_last_digit():
    table = pd.DataFrame({"id": [2**60, 2**60 + 1] * 2})
    for step in (OneHot(), Levels()):
        assert Preprocess(columns={"id": [step]}).fit(table).columns[0][1][0].levels == (str(2**60), str(2**60 + 1))
        Preprocess(columns={"id": [step]}).fit(table).transform(table)


def test_a_target_that_is_rounded_is_told():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [2**60 + 1, 2**60 + 3]})
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-300))
    with pytest.warns(UserWarning, match="fit: argument 'y': column 'y' holds whole numbers beyond"):
        trainer.fit(Neuron(), (table, "y"))
    with pytest.warns(UserWarning, match="transform: target 'y' holds whole numbers beyond"):
        Preprocess(columns={"x": []}, target=[Standardize()]).fit((table, "y")).transform_target(table["y"])


def test_nanoseconds_of_dates_are_told_and_those_of_durations_kept():
    when = pd.to_datetime([0, 1_000], unit="ns")
    latency = pd.to_timedelta([350, -250], unit="ns").astype("timedelta64[ns]")
    table = pd.DataFrame({"when": when, "latency": latency})
    fitted = Preprocess(columns={"when": [Dates(["second"])], "latency": []}).fit(table)
    assert fitted.transform(table)[:, -1].tolist() == [3.5e-7, -2.5e-7]
    with pytest.warns(UserWarning, match="column 'when' holds nanoseconds, which are cut off to microseconds"):
        fitted.transform(table.assign(when=table["when"] + pd.Timedelta(1, "ns")))


def test_durations_are_the_same_in_every_unit():
    rng = np.random.default_rng(0)
    micros = rng.integers(-(10**15), 10**15, 100)
    coarse, fine = (
        pa.table({"d": pa.array(micros, pa.duration("us")).cast(pa.duration(unit))}) for unit in ("us", "ns")
    )
    recipe = Preprocess(columns={"d": []})
    with warnings.catch_warnings():
        assert np.array_equal(recipe.fit(coarse).transform(coarse), recipe.fit(fine).transform(fine))
