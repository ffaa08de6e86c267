"""Preprocess.of looks at the data, proposes steps, and prints code that runs."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from framework import Impute, Preprocess, Standardize
from framework.base.lazy import import_all
from framework.data import load_digits
from framework.preprocessing import Clip
from framework.preprocessing.proposing import code, propose, rules

RNG = np.random.default_rng(0)
ROWS = 400
NUMBERS = RNG.normal(size=ROWS)
SCALED = '[Impute("median"), Standardize(), Clip()]'
HOURS = pd.Timestamp("2013-01-01") + pd.to_timedelta(RNG.integers(0, 400 * 24, ROWS), unit="h")
DAYS = pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(ROWS) % 20, unit="D")

COLUMNS = {
    "numbers": (RNG.normal(size=ROWS), SCALED),
    "numbers with a hole": (
        np.where(np.arange(ROWS) == 3, np.nan, RNG.normal(size=ROWS)),
        SCALED,
    ),
    "a long tail": (np.exp(RNG.normal(10, 1.5, ROWS)), '[Impute("median"), Log(), Standardize(), Clip()]'),
    "a long tail of small numbers": (
        np.exp(RNG.normal(-6, 1.5, ROWS)),
        '[Impute("median"), Log(0.0001), Standardize(), Clip()]',
    ),
    "few whole numbers": (RNG.integers(0, 5, ROWS), "[OneHot()]"),
    "many whole numbers": (RNG.integers(0, 50, ROWS), SCALED),
    "0 and 1": (RNG.integers(0, 2, ROWS), '[Impute("median")]'),
    "two numbers": (RNG.choice([3.5, 7.0], ROWS), '[Impute("median"), MinMax()]'),
    "booleans": (RNG.random(ROWS) > 0.5, '[Impute("median")]'),
    "booleans with a hole": (pd.array([None, *(RNG.random(ROWS - 1) > 0.5)], "boolean"), "[OneHot()]"),
    "text": (RNG.choice(["a", "b"], ROWS), "[OneHot()]"),
    "categories": (pd.Categorical(RNG.choice(["a", "b"], ROWS)), "[OneHot()]"),
    "a text in each row": ([f"row {place}" for place in range(ROWS)], "[Drop()]"),
    "numbers of the rows": (np.arange(ROWS) + 7, "[Drop()]"),
    "user id": (RNG.permutation(10 * ROWS)[:ROWS], "[Drop()]"),
    "always the same": (np.full(ROWS, 3.0), "[Drop()]"),
    "always the same text": (["a"] * ROWS, "[Drop()]"),
    "nothing": ([None] * ROWS, "[Drop()]"),
    "lists": ([[1, 2]] * ROWS, "[Drop()]"),
    "hours": (HOURS, '[Dates(["year", "month", "weekday", "hour"]), Impute("median"), Standardize()]'),
    "days of a month": (DAYS, '[Dates(["weekday"]), Impute("median"), Standardize()]'),
    "days of a year": (
        DAYS + pd.to_timedelta(RNG.integers(0, 300, ROWS), unit="D"),
        '[Dates(["weekday"]), Impute("median"), Standardize()]',
    ),
    "durations": (pd.to_timedelta(RNG.normal(size=ROWS), unit="h"), SCALED),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_gets_steps_that_suit_it(name):
    values, expected = COLUMNS[name]
    found, goals = propose(pd.DataFrame({name: values}))
    assert not goals
    assert (
        code({key: steps for key, (steps, _) in rules(found).items()}).splitlines()[2].strip()
        == f'"{name}": {expected},'
    )


@pytest.mark.parametrize("library", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas], ids=range(3))
def test_the_proposal_runs_as_code_and_fits_the_data(library):
    table = pd.DataFrame(
        {name: values for name, (values, _) in COLUMNS.items()} | {"late": RNG.choice(["no", "yes"], ROWS)}
    )
    table = library(table.drop(columns=["lists", "nothing"]))
    recipe = Preprocess.of(table, target="late")
    assert eval(str(recipe), import_all()) == recipe
    fitted = recipe.fit((table, "late"))
    assert np.isfinite(fitted.transform(table)).all()
    assert fitted.classes == {"late": ("no", "yes")}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (RNG.choice(["no", "yes"], ROWS), "[Classes()]"),
        (RNG.integers(0, 10, ROWS), "[Classes()]"),
        (RNG.random(ROWS) > 0.5, "[Classes()]"),
        (RNG.normal(size=ROWS), "[Standardize()]"),
        (np.exp(RNG.normal(10, 1.5, ROWS)), "[Standardize()]"),
        (np.arange(ROWS), "[Standardize()]"),
    ],
    ids=range(6),
)
def test_a_target_has_classes_or_is_scaled(target, expected):
    recipe = Preprocess.of((pd.DataFrame({"x": RNG.normal(size=ROWS)}), target))
    assert f"target={expected}," in str(recipe)


def test_a_target_with_a_long_tail_gets_a_remark_on_the_logarithm():
    remarks = {}
    for name, target in (("tail", np.exp(RNG.normal(10, 1.5, ROWS))), ("none", RNG.normal(size=ROWS))):
        _, [goal] = propose((pd.DataFrame({"x": NUMBERS}), target), name="new")
        remarks[name] = goal.reason
    assert remarks == {"tail": 'long tail; ["Log", "Standardize"] fits ratios and predicts medians', "none": ""}


def test_many_columns_of_small_whole_numbers_are_pixels_and_share_a_rule():
    x, y = load_digits()
    recipe = Preprocess.of(pd.DataFrame(x, columns=[f"pixel {place}" for place in range(64)]).assign(digit=y), "digit")
    found = dict(recipe.columns)
    assert found["<number>"] == (Impute("median"), Standardize(), Clip())
    assert len(found) < 10


@pytest.mark.parametrize(("noise", "ordered"), [(0.0, True), (5.0, True), (1e4, False)])
def test_the_order_of_dates_is_seen_by_and_large(noise, ordered, monkeypatch):
    monkeypatch.setattr("framework.preprocessing.reading.BLOCK_ROWS", 100)
    days = np.arange(400.0) + np.random.default_rng(0).normal(size=400) * noise
    when = pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D")
    table = pd.DataFrame({"when": when, "x": np.arange(400.0)})
    table.loc[::7, "when"] = None
    months = table.sort_values("when", key=lambda dates: dates.dt.strftime("%b"), kind="stable")  # April, August, ...
    shops = pd.concat([table[start::3] for start in range(3)])  # each with dates that rise
    for each, expected in ((table, ordered), (table[::-1], ordered), (months, False), (shops, False)):
        proposals, _ = propose(each.reset_index(drop=True))
        assert [proposal.ordered for proposal in proposals] == [expected, False]


def test_levels_that_differ_in_capitals_or_spaces_are_named():
    table = pd.DataFrame({"plan": ["pro", "basic", "Basic ", "pro"] * 5, "id": [f"C{row:06}" for row in range(20)]})
    (plan, _), _ = propose(table)
    assert plan.reason == "3 levels, 'basic' and 'Basic ' among them"


def test_a_column_of_many_codes_is_not_called_dates():
    table = pd.DataFrame({"id": [f"C{row:06}" for row in range(5000)]})
    (proposal,), _ = propose(table)
    assert proposal.reason == "5,000 different texts in 5,000 rows"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([f"${row:,}" for row in range(1000, 1100)], r"column 'raw' holds numbers as text, such as '\$1,000'; convert"),
        (
            [f"{row / 8}%" for row in range(100)],
            "column 'raw' holds numbers as text, such as '0.0%'; convert numbers fi",
        ),
        (
            [f"{row % 28 + 1}/3/2021" for row in range(100)],
            "column 'raw' holds dates as text, such as '1/3/2021'; conv",
        ),
    ],
)
@pytest.mark.parametrize("frame", [pd.DataFrame, pa.table])
def test_text_of_numbers_or_dates_is_warned_of(frame, column, message):
    with pytest.warns(UserWarning, match=f"Preprocess.of: {message}"):
        Preprocess.of((frame({"raw": column, "churned": ["no", "yes"] * 50}), "churned"))


NUMBERS_AS_TEXT = {
    "per cent": {"22%": 22.0, "0.5%": 0.5, "-3 %": -3.0},
    "money": {"$1,000.50": 1000.5, "$ 3": 3.0, "$-12,345": -12345.0},
    "units": {"3 kg": 3.0, "0.25 kg": 0.25},
    "decimal commas": {"3,5": 3.5, "1,250": 1.25, "-7": -7.0},
    "plain": {"1.5": 1.5, "+2": 2.0},
}


@pytest.mark.parametrize("numbers", NUMBERS_AS_TEXT.values(), ids=NUMBERS_AS_TEXT)
def test_the_line_that_a_warning_of_numbers_as_text_advises_converts_them(numbers):
    table = pd.DataFrame({"raw": [*numbers, None] * 20, "late": ["no", "yes"] * 10 * (len(numbers) + 1)})
    with pytest.warns(UserWarning, match="column 'raw' holds numbers as text") as caught:
        Preprocess.of(table, "late")
    exec(str(caught[0].message).partition("convert numbers first, in pandas: ")[2], {"pandas": pd, "table": table})
    np.testing.assert_array_equal(table["raw"], [*numbers.values(), np.nan] * 20)


def test_a_target_of_very_many_classes_is_warned_of():
    table = pd.DataFrame({"x": range(90), "price": [f"{row // 3} EUR per night" for row in range(90)]})
    assert Preprocess.of(table, "price").target
    table["price"] = [f"{row // 2 * 2 + row % 2} EUR per night" for row in range(90)]
    with pytest.warns(UserWarning, match="target 'price' holds 90 classes in 90 rows, such as '0 EUR per night'"):
        Preprocess.of(table, "price")


def test_digits_that_are_text_are_codes():
    assert Preprocess.of(pd.DataFrame({"zip": ["00663", "10115"] * 50})).columns
