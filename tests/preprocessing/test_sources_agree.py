"""The same table from pandas, polars, Arrow, CSV and Parquet, in memory and in blocks: the same bits."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from framework import (
    CSV,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    Impute,
    Neuron,
    OneHot,
    Parquet,
    Preprocess,
    ReLU,
    Sequential,
    Sigmoid,
    Standardize,
    Trainer,
)
from framework.preprocessing import Classes, Dates, Log, QuantileTransform

ROWS = 70_000  # more than a block
RECIPE = Preprocess(
    columns={
        "age": [Impute("median"), Standardize()],
        "pay": [Log(), QuantileTransform(50, to="normal")],
        "city": [OneHot(20)],
        "when": [Dates(), Standardize()],
        "children": [OneHot()],
    },
    target=[Classes()],
)


def made(rows):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": np.where(np.arange(rows) % 50 == 3, np.nan, rng.normal(40, 10, rows)),
            "pay": rng.gamma(1, 2, rows).round(2),
            "city": rng.choice([f"city {place}" for place in range(30)], rows),
            "when": pd.Timestamp("2013-01-01") + pd.to_timedelta(rng.integers(0, 9600, rows), unit="h"),
            "children": rng.integers(0, 5, rows),
        }
    )
    table.loc[::31, "city"] = None
    return table.assign(late=np.where((table["pay"] > 2) | (table["children"] == 1), "yes", "no"))


SOURCES = ("pandas", "y apart", "polars", "Arrow", "Arrow in chunks", "CSV", "Parquet", "Parquet in groups")


def source(name, table, folder):
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    match name:
        case "pandas":
            return table, "late"
        case "y apart":
            return table.drop(columns="late"), table["late"]
        case "polars":
            return pl.from_pandas(table), "late"
        case "Arrow":
            return arrow, "late"
        case "Arrow in chunks":
            return pa.concat_tables([arrow.slice(0, 99), arrow.slice(99)]), "late"
        case "CSV":
            table.to_csv(folder / "t.csv", index=False)
            return CSV(folder / "t.csv", target="late")
        case _:
            rows = 3000 if "groups" in name else None
            pa.parquet.write_table(arrow, folder / "t.parquet", row_group_size=rows)
            return Parquet(folder / "t.parquet", target="late")


TABLE = made(ROWS)
FITTED = RECIPE.fit((TABLE, "late"))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", [name for name in SOURCES if name != "pandas"])
def test_what_is_learnt_is_the_same_from_every_source(name, tmp_path):
    data = source(name, TABLE, tmp_path)
    assert RECIPE.fit(data).to_json() == FITTED.to_json()


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", ["pandas", "polars", "Arrow"])
def test_a_part_of_a_table_is_transformed_as_the_whole_is(name, tmp_path):
    (table, _), whole = source(name, TABLE, tmp_path), FITTED.transform(TABLE)
    assert np.array_equal(FITTED.transform(table), whole)
    cut = table.slice if name == "Arrow" else lambda start, rows: table[start : start + rows]
    parts = [FITTED.transform(cut(start, 4096)) for start in range(0, ROWS, 4096)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_blocks_of_a_file_are_transformed_as_the_whole_is(tmp_path):
    data = source("Parquet in groups", TABLE, tmp_path)
    parts = [FITTED.transform(data.read(start, start + 4096)[0]) for start in range(0, ROWS, 4096)]
    assert np.array_equal(np.concatenate(parts), FITTED.transform(TABLE))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", SOURCES)
def test_a_model_trains_to_the_same_bits_from_every_source(name, tmp_path):
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(), batch_size=2048, preprocess=RECIPE)
    vectors = []
    for data in ((TABLE, "late"), source(name, TABLE, tmp_path)):
        model = Sequential(Dense(units=4, activation=ReLU()), Neuron(activation=Sigmoid()))
        run = trainer.fit(model, data, data)
        vectors.append([*model.parameters.vector, run.history[-1]["val_loss"]])
    assert vectors[0] == vectors[1]
