"""Each step against scikit-learn, pandas or the formula; and chains of steps against one after the other."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

from framework import CSV, DataError, Impute, OneHot, Preprocess, SettingsError, Standardize
from framework.preprocessing import (
    Bounds,
    Classes,
    Clip,
    ColumnStep,
    Dates,
    Drop,
    Levels,
    Log,
    MinMax,
    QuantileTransform,
    RobustScale,
    SmoothClip,
)
from framework.preprocessing.numbers import date_part

RNG = np.random.default_rng(0)
NUMBERS = RNG.gamma(2.0, 3.0, 500).round(1)
HOLES = np.where(RNG.random(500) < 0.1, np.nan, NUMBERS)


def fitted(values, *steps, kind="c"):
    table = pd.DataFrame({kind: values})
    return Preprocess(columns={kind: list(steps)}).fit(table), table


def transformed(values, *steps):
    recipe, table = fitted(values, *steps)
    return recipe.transform(table)


SCALERS = {
    "standardize": (Standardize(), StandardScaler()),
    "minmax": (MinMax(), MinMaxScaler()),
    "robust": (RobustScale(), RobustScaler()),
    "uniform": (QuantileTransform(100), QuantileTransformer(n_quantiles=101)),
    "normal": (QuantileTransform(100, to="normal"), QuantileTransformer(n_quantiles=101, output_distribution="normal")),
}


@pytest.mark.parametrize("name", SCALERS)
def test_a_scale_is_that_of_scikit_learn(name):
    step, oracle = SCALERS[name]
    recipe, table = fitted(NUMBERS, step)
    expected = oracle.fit_transform(NUMBERS[:, None])
    np.testing.assert_allclose(recipe.transform(table), expected, rtol=1e-9, atol=1e-9)
    later = pd.DataFrame({"c": np.linspace(-10, 60, 200)})
    np.testing.assert_allclose(recipe.transform(later), oracle.transform(later.to_numpy()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fill", ["mean", "median"])
def test_a_mean_and_a_median_are_those_of_scikit_learn_with_a_flag(fill):
    oracle = SimpleImputer(strategy=fill, add_indicator=True)
    np.testing.assert_allclose(transformed(HOLES, Impute(fill)), oracle.fit_transform(HOLES[:, None]), rtol=1e-12)


def test_a_constant_is_filled_in_and_the_flag_can_be_left_out():
    assert np.array_equal(transformed(HOLES, Impute(-1.0, flag=False))[:, 0], np.where(np.isnan(HOLES), -1.0, HOLES))
    assert np.array_equal(transformed([None, "a"], Impute("none"), OneHot()), [[0, 1, 1], [1, 0, 0]])


def test_no_flag_is_added_where_the_training_rows_miss_nothing():
    recipe, _ = fitted(NUMBERS, Impute("mean"))
    assert recipe.names == ("c",)
    assert recipe.transform(pd.DataFrame({"c": [None]})) == [[NUMBERS.mean()]]


CHAINS = {
    "impute, standardize": (Impute("median", flag=False), Standardize()),
    "impute, log, standardize": (Impute("mean", flag=False), Log(unit=2.0), Standardize()),
    "impute, quantiles": (Impute(3.0, flag=False), QuantileTransform(20)),
    "log, minmax": (Impute("median", flag=False), Log(), MinMax()),
    "standardize, minmax": (Impute("median", flag=False), Standardize(), MinMax()),
    "quantiles, standardize": (Impute("median", flag=False), QuantileTransform(20, to="normal"), Standardize()),
    "impute, levels": (Impute(3.0, flag=False), OneHot(5)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_learns_what_its_steps_learn_one_after_the_other(name):
    values = HOLES
    for step in CHAINS[name]:
        recipe, table = fitted(values, step)
        values = recipe.transform(table)
        values = values[:, 0] if values.shape[1] == 1 else values
    np.testing.assert_allclose(transformed(HOLES, *CHAINS[name]), values.reshape(500, -1), rtol=1e-9, atol=1e-12)


class Counting:
    """A Dataset that counts how often it is read."""

    def __init__(self, table):
        self.table, self.reads = table, 0

    def __len__(self):
        return len(self.table)

    def read(self, start, stop):
        self.reads += 1
        return self.table[start:stop], np.zeros(stop - start)


@pytest.mark.parametrize(("name", "passes"), [("impute, log, standardize", 1), ("quantiles, standardize", 2)])
def test_a_chain_takes_as_few_passes_as_it_can(name, passes):
    data = Counting(pd.DataFrame({"c": HOLES}))
    Preprocess(columns={"c": CHAINS[name]}).fit(data)
    assert data.reads == passes + 1  # and one that looks at the kinds of columns


def test_a_logarithm_is_that_of_the_formula_on_both_sides_of_0():
    x = np.array([-1e6, -3.0, -0.1, 0.0, 0.2, 5.0, 1e9])
    expected = np.sign(x) * np.log(1 + np.abs(x) / 0.5)
    np.testing.assert_allclose(transformed(x, Log(unit=0.5))[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [100, 70_000])
def test_a_row_in_a_message_is_counted_from_the_first_row_of_the_data(rows):
    values = np.where(np.arange(rows) == rows - 7, np.nan, np.arange(rows) * 1.0)
    recipe = Preprocess(columns={"c": [Standardize()]})
    for data in (pd.DataFrame({"c": values}), Counting(pd.DataFrame({"c": values}))):
        with pytest.raises(DataError, match=f"column 'c' has a missing value in row {rows - 7};"):
            recipe.fit(data)
    with pytest.raises(DataError, match=f"column 'c' has a missing value in row {rows - 7};"):
        recipe.fit(pd.DataFrame({"c": np.arange(rows)})).transform(pd.DataFrame({"c": values}))


def test_one_hot_is_that_of_scikit_learn():
    cities = RNG.choice(["Rome", "Oslo", "Bern", "Kiel"], 500, p=[0.5, 0.3, 0.15, 0.05])
    oracle = OneHotEncoder(sparse_output=False, max_categories=3, handle_unknown="infrequent_if_exist")
    recipe, table = fitted(cities, OneHot(2))
    expected = oracle.fit_transform(cities[:, None])
    assert np.array_equal(recipe.transform(table), expected)
    assert recipe.names == ("c=Oslo", "c=Rome", "c other")
    unseen = pd.DataFrame({"c": ["Graz", "Rome"]})
    assert np.array_equal(recipe.transform(unseen), oracle.transform(unseen.to_numpy()))


def test_an_unseen_level_is_0_everywhere_if_no_level_was_rare():
    recipe, _ = fitted(["a", "b"], OneHot(2))
    assert np.array_equal(recipe.transform(pd.DataFrame({"c": ["new", None, "b"]})), [[0, 0], [0, 0], [0, 1]])


def test_missing_values_of_the_training_rows_get_a_column():
    recipe, table = fitted(["a", None, "b"], OneHot(2))
    assert recipe.names == ("c=a", "c=b", "c missing")
    assert np.array_equal(recipe.transform(table), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_levels_beyond_the_limit_can_be_refused():
    with pytest.raises(DataError, match="column 'c' has 3 levels, and OneHot takes 2; write a larger n, or"):
        fitted(["a", "b", "c"], OneHot(2, other=False))
    recipe, _ = fitted(["a", "b"], OneHot(2, other=False))
    with pytest.raises(DataError, match=r"column 'c' has 'new', which is not among the levels of fit, .* in row 1"):
        recipe.transform(pd.DataFrame({"c": ["a", "new"]}))


def test_ids_are_those_of_an_embedding():
    recipe, table = fitted(["b", "a", None, "b", "c"], Levels(2))
    x = recipe.transform(table)
    assert x["c"].tolist() == [3, 2, 1, 3, 0]
    assert recipe.vocabularies == {"c": 4}
    assert recipe.transform(pd.DataFrame({"c": ["new"]}))["c"].tolist() == [0]


def test_whole_numbers_and_booleans_are_levels_too():
    assert fitted([10, 9, 10], OneHot())[0].names == ("c=9", "c=10")
    assert fitted([True, False], OneHot())[0].names == ("c=False", "c=True")
    assert fitted([0.5, 2.0, None], OneHot())[0].names == ("c=0.5", "c=2", "c missing")


DATES = pd.date_range("1960-02-27 22:58:59", periods=400, freq="37h")


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_parts_of_dates_are_those_of_pandas(zone):
    dates = pd.Series(DATES if zone is None else DATES.tz_localize("UTC").tz_convert(zone))
    parts = ["year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]
    named = {"dayofyear": "day_of_year", "weekday": "day_of_week"}  # as pandas 3 has them
    names = [named.get(part, part) if hasattr(dates.dt, "day_of_year") else part for part in parts]
    expected = np.stack([getattr(dates.dt, part).to_numpy(float) for part in names], axis=1)
    assert np.array_equal(transformed(dates, Dates(parts, cyclic=False)), expected)
    days = (DATES - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D")
    if zone is None:
        np.testing.assert_allclose(transformed(dates, Dates("days"))[:, 0], days, rtol=1e-15)


def test_cyclic_parts_lie_on_a_circle_that_closes():
    dates = pd.to_datetime(["2020-12-31 23:00", "2021-01-01 00:00", "2021-07-01 12:00"])
    x = transformed(dates, Dates(["month", "hour"]))
    np.testing.assert_allclose(x[:, 0] ** 2 + x[:, 1] ** 2, 1.0)
    np.testing.assert_allclose(x[1], [0, 1, 0, 1], atol=1e-15)
    np.testing.assert_allclose(x[2], [0, -1, 0, -1], atol=1e-15)
    assert np.linalg.norm(x[0] - x[1]) < 0.6


def test_the_parts_of_dates_are_those_of_numpy_in_any_year():
    micros = np.random.default_rng(0).integers(-9 * 10**18, 9 * 10**18, 1000)
    micros = np.concatenate([micros, np.arange(-1500, 1500) * 86_400_000_000 * 97, [-1, 86_399_999_999]])
    day = micros.astype("datetime64[us]").astype("datetime64[D]")
    month, year = day.astype("datetime64[M]"), day.astype("datetime64[Y]")
    expected = {
        "year": year.astype(int) + 1970,
        "month": (month - year).astype(int) + 1,
        "day": (day - month).astype(int) + 1,
        "dayofyear": (day - year).astype(int) + 1,
        "weekday": (day.astype(int) + 3) % 7,
    }
    for part, numbers in expected.items():
        np.testing.assert_array_equal(date_part(micros, part), numbers)


def test_missing_dates_are_filled_in_part_by_part_with_one_flag():
    recipe, table = fitted(pd.to_datetime(["2020-01-01", None, "2022-01-01"]), Dates(["year", "month"]), Impute())
    assert recipe.names == ("c year", "c month sin", "c month cos", "c missing")
    np.testing.assert_allclose(recipe.transform(table)[1], [2021, 0, 1, 1])


def test_durations_are_numbers_of_seconds():
    assert transformed(pd.to_timedelta(["1h", "30s"]))[:, 0].tolist() == [3600.0, 30.0]


def test_columns_without_steps_are_numbers_as_they_are_and_dropped_ones_are_gone():
    table = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": ["x", "y"]})
    recipe = Preprocess(columns={"a": [], "<boolean>": [], "c": [Drop()]}).fit(table)
    assert recipe.inputs == ("a", "b")
    assert recipe.transform(table[["b", "a"]]).tolist() == [[1, 1], [2, 0]]


@pytest.mark.parametrize(
    "step", [Standardize(), MinMax(), Log(unit=0.5), QuantileTransform(50), QuantileTransform(50, to="normal")]
)
def test_a_target_comes_back_in_its_unit(step):
    values = np.unique(NUMBERS)
    recipe = Preprocess(columns={"x": []}, target=[step]).fit((pd.DataFrame({"x": values}), values))
    y = recipe.transform_target(values)
    np.testing.assert_allclose(
        recipe.inverse(y), values, rtol=1e-6, atol=0.2 if isinstance(step, QuantileTransform) else 1e-9
    )


def test_several_targets_come_back_each_in_its_unit():
    table = pd.DataFrame({"x": [1.0, 2.0], "a": [10.0, 30.0], "b": [-1.0, 1.0]})
    recipe = Preprocess(columns={"x": []}, target=[Standardize()]).fit((table, ["a", "b"]))
    assert recipe.targets == ("a", "b")
    y = recipe.transform_target(table[["a", "b"]])
    assert np.array_equal(y, [[-1, -1], [1, 1]])
    assert np.array_equal(recipe.inverse(y), table[["a", "b"]])


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (np.array(["b", "a"]), ("a", "b")),
        ([10, 9], (9, 10)),
        ([2.0, 1.0], (1, 2)),
        ([1e22, 2**60], (2**60, 1e22)),
        ([True, False], (False, True)),
        ([0.5, -1], (-1, 0.5)),
    ],
    ids=range(6),
)
def test_classes_are_sorted_by_text_or_by_value(classes, names):
    recipe = Preprocess(columns={"x": []}, target=[Classes()]).fit((pd.DataFrame({"x": [1, 2]}), classes))
    assert recipe.classes == {"target": names}
    assert [*map(type, recipe.classes["target"])] == [*map(type, names)]
    assert type(recipe).from_json(recipe.to_json()) == recipe
    assert recipe.transform_target(classes).tolist() == [1, 0]


def test_classes_can_be_given_in_an_order_of_ones_own():
    recipe = Preprocess(columns={"x": []}, target=[Classes(["no", "maybe", "yes"])])
    found = recipe.fit((pd.DataFrame({"x": [1, 2]}), np.array(["yes", "no"])))
    assert found.transform_target(["yes", "no"]).tolist() == [2, 0]


@pytest.mark.parametrize(
    "levels", [[2, 10], np.array([2, 10]), [2.0, 10.0], [np.int64(2), 10], ["2", "10"]], ids=range(5)
)
def test_numbers_can_be_given_as_classes(levels):
    recipe = Preprocess(columns={"x": []}, target=[Classes(levels)])
    found = recipe.fit((pd.DataFrame({"x": [1, 2]}), np.array([10, 2])))
    assert found.transform_target(np.array([10, 2])).tolist() == [1, 0]
    assert found.classes["target"] == tuple(levels)


class Root(ColumnStep):
    """The root of a number."""

    def formula(self, x, index):
        return np.sqrt(x)

    def inverse(self, y, index):
        return y * y


def test_a_step_of_ones_own_is_a_formula_and_goes_to_json_and_back():
    recipe, table = fitted([4.0, 9.0], Root(), Standardize())
    assert recipe.transform(table).tolist() == [[-1.0], [1.0]]
    assert type(recipe).from_json(recipe.to_json()) == recipe


WRONG = {
    "Standardize of text": (
        ["a", "b"],
        [Standardize()],
        "column 'c' holds text, and Standardize takes numbers; write One",
    ),
    "text without steps": (["a", "b"], [], r"column 'c' holds text: write OneHot\(20\)"),
    "OneHot and a scale": (
        ["a", "b"],
        [OneHot(), Standardize()],
        "'c' holds columns of 0 and 1, which Standardize cannot",
    ),
    "Levels and a scale": (
        ["a", "b"],
        [Levels(), Standardize()],
        "'c' holds ids, which Standardize cannot follow",
    ),
    "dates without steps": (DATES, [], r"column 'c' holds dates: write Dates\(\)"),
    "a scale of dates": (
        DATES,
        [Standardize()],
        r"'c' holds dates, and Standardize takes numbers; write Dates\(\)",
    ),
    "OneHot of dates": (
        DATES,
        [OneHot()],
        r"'c' holds dates, and OneHot takes numbers or text; write Dates\(\)",
    ),
    "a mean of text": (
        ["a", None],
        [Impute(), OneHot()],
        "'c' holds text, which has no 'mean': write Impute",
    ),
    "a text for numbers": ([1.0, None], [Impute("x")], r"column 'c' holds numbers: write Impute\('mean'\)"),
    "everything dropped": ([1.0], [Drop()], "drops every column"),
    "lists": ([[1], [2]], [Standardize()], "column 'c' holds neither numbers nor text nor dates"),
    "a hole": (
        [1.0, np.nan],
        [Standardize()],
        r"column 'c' has a missing value in row 1; make Impute\(\) its first step",
    ),
    "a hole without steps": (
        [1.0, np.nan],
        [],
        r"column 'c' has a missing value in row 1; fill or drop it, or fit with",
    ),
    "a number beyond float64": ([1.0, 1e308], [Log(unit=1e-300)], "'c' becomes a number that float64 does not hold"),
    "infinity": ([1.0, np.inf], [Standardize()], "column 'c' has an infinite number in row 1"),
    "no values": ([np.nan, np.nan], [Impute(), Standardize()], r"column 'c' has no values, .* write Drop\(\)"),
    "too large": (
        [1e300, -1e300],
        [Standardize()],
        "'c' has numbers so large that their variance is not",
    ),
    "too close": (
        [1e-200, 2e-200],
        [Standardize()],
        "'c' has numbers so close to one another that their var",
    ),
    "too wide": ([1.7e308, -1.7e308], [MinMax()], "column 'c' has numbers so large that their range is not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_step_cannot_take_is_refused_by_column(name):
    values, steps, message = WRONG[name]
    with pytest.raises((SettingsError, DataError), match=message):
        transformed(values, *steps)


RECIPES = {
    "a column without a rule": ({"a": []}, r"column 'c' \(number\) fits no rule of the Preprocess; write 'c': "),
    "a rule without a column": (
        {"*": [], "d": []},
        "column 'd' has a rule .* is not in the data. Columns: c",
    ),
    "a misspelt name": ({"*": [], "cc": []}, "column 'cc' has a rule .* did you mean 'c'"),
    "a misspelt kind": ({"<numbers>": []}, "there is no kind '<numbers>'; did you mean '<number>'"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_rules_and_columns_must_fit_together(name):
    columns, message = RECIPES[name]
    with pytest.raises(SettingsError, match=message):
        Preprocess(columns=columns).fit(pd.DataFrame({"c": [1.0]}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": "standardize"}, r"'a' must have a list of steps, as \[Standardize\(\)\]; got 'standardize'"),
        ({"a": ["one-hot"]}, r"'a' must have a list of steps, as \[OneHot\(\)\]; got 'one-hot'"),
        ({"a": OneHot}, r"'a' must have a list of steps, as \[OneHot\(\)\]; got <class"),
        ({"a": max}, r"'a' must have a list of steps, as \[Standardize\(\)\]; got <built-in function max>"),
        (MinMax(), r"setting 'columns' must have steps by name, as {'<number>': \[MinMax\(\)\]}"),
    ],
)
def test_a_rule_that_is_not_a_list_of_steps_is_told_how_to_write_one(columns, message):
    with pytest.raises(SettingsError, match=f"Preprocess: {message}"):
        Preprocess(columns)
    if isinstance(columns, dict):
        with pytest.raises(SettingsError, match=message.replace("'a'", r"'\*'")):
            Preprocess({"a": []}, target=columns["a"])


def test_a_single_step_needs_no_list():
    recipe = Preprocess(columns={"x": Standardize()}, target=Classes())
    assert recipe == Preprocess(columns={"x": [Standardize()]}, target=[Classes()])
    text = '{"type": "Preprocess", "columns": {"x": {"type": "Standardize"}}, "target": {"type": "Classes"}}'
    assert Preprocess.from_json(text) == recipe
    with pytest.raises(SettingsError, match="unknown setting 'colums'; did you mean 'columns'"):
        Preprocess.from_json(text.replace("columns", "colums"))


def test_clip_cuts_numbers_off_after_other_steps():
    recipe, _ = fitted(NUMBERS, Standardize(), Clip(2.0))
    later = np.array([-1e9, 0.0, 5.5, 31.8, 1e9])
    expected = np.clip((later - NUMBERS.mean()) / NUMBERS.std(), -2.0, 2.0)
    np.testing.assert_allclose(recipe.transform(pd.DataFrame({"c": later}))[:, 0], expected, rtol=1e-12)
    assert type(recipe).from_json(recipe.to_json()) == recipe
    with pytest.raises(SettingsError, match="Clip: setting 'limit' must be greater than 0; got -1"):
        Clip(-1)


def test_a_robust_scale_takes_the_range_where_half_of_the_rows_are_equal_and_0_where_all_are():
    assert transformed([0.0] * 9 + [4.0, 8.0], RobustScale()).ravel().tolist() == [0.0] * 9 + [1.0, 2.0]
    recipe, _ = fitted([7.0, 7.0], RobustScale())
    assert recipe.transform(pd.DataFrame({"c": [7.0, 900.0]})).ravel().tolist() == [0.0, 0.0]
    assert type(recipe).from_json(recipe.to_json()) == recipe
    for values in ([1.7e308, -1.7e308], [0.0, 5e-324]):
        with pytest.raises(DataError, match="column 'c' has numbers so large that their range or its inverse"):
            fitted(values, RobustScale())


def test_a_smooth_clip_keeps_the_order_within_its_limit():
    x = np.array([-1e300, -40.0, -0.01, 0.0, 0.5, 3.0, 23.0, 1e300])
    y = SmoothClip(3.0).formula(x, 0)
    np.testing.assert_allclose(y[1:-1], x[1:-1] / np.sqrt(1 + (x[1:-1] / 3) ** 2), rtol=1e-14)
    assert y[[0, -1]].tolist() == [-3.0, 3.0]
    assert (np.diff(y) > 0).all()


def test_a_name_beats_a_pattern_and_a_pattern_a_kind():
    table = pd.DataFrame({"income": [1.0, 3.0], "income b": [1.0, 3.0], "age": [1.0, 3.0], "a.b[c]": [1.0, 3.0]})
    columns = {"<number>": [], "in*": [MinMax()], "i*": [], "income b": [Standardize()], "a.b[*]": [MinMax()]}
    recipe = Preprocess(columns=columns)
    assert recipe.fit(table).transform(table).T.tolist() == [[0, 1], [-1, 1], [1, 3], [0, 1]]


@pytest.mark.parametrize(
    "step",
    [Impute(), OneHot(), Levels(), Drop(), Dates(), Clip(), RobustScale(), SmoothClip()],
    ids=lambda step: type(step).__name__,
)
def test_a_target_takes_no_step_that_cannot_be_undone(step):
    with pytest.raises(SettingsError, match=f"target 'y': {type(step).__name__} does not fit a target"):
        Preprocess(columns={"x": []}, target=[step]).fit((pd.DataFrame({"x": [1, 2], "y": [1, 2]}), "y"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardize(mean=1.0), "give 'mean' and a positive 'scale'"),
        (lambda: Standardize(mean=1.0, scale=0.0), "give 'mean' and a positive 'scale'"),
        (lambda: MinMax(low=1, high=1), "give 'low' and a larger 'high'"),
        (lambda: OneHot(levels=["a", "a"]), "'levels' must not hold 'a' twice"),
        (lambda: Classes(["a", "a\0"]), "'levels' must not end in a zero character"),
        (lambda: Classes([1, 1.0]), "'levels' must not hold '1' twice"),
        (lambda: Classes([1, "2"]), "'levels' must hold text, numbers or booleans alone; got"),
        (lambda: Classes([1, True, 3]), "'levels' must hold text, numbers or booleans alone; got"),
        (lambda: Dates(["month", "month"]), "must name different parts"),
        (lambda: Dates(["moon"]), "'parts"),
        (lambda: QuantileTransform(values=[[1.0]]), "must hold 2 or more rising numbers"),
        (lambda: OneHot(0), "'n'"),
        (lambda: RobustScale(center=1.0, factor=-1.0), "give 'center' and a 'factor' from 0"),
        (lambda: Bounds(low=1.0, high=0.0), "give 'low' and a 'high' that is not smaller"),
    ],
    ids=range(14),
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


FRACTIONS = np.array([0.1, 0.2, 1e-7, 3.0, 123456792.0, 0.1])


@pytest.mark.parametrize("steps", [[OneHot()], [Impute(0.1, flag=False), OneHot()]], ids=["one-hot", "impute, one-hot"])
@pytest.mark.parametrize("fitted_on", ["float32", "float64"])
def test_a_number_has_one_level_whatever_its_dtype(fitted_on, steps):
    recipe = Preprocess(columns={"c": steps}).fit(pd.DataFrame({"c": FRACTIONS.astype(fitted_on)}))
    narrow = FRACTIONS.astype("float32")
    for values in (FRACTIONS, narrow, narrow.astype("float64")):  # decimals as in a CSV file, floats as in Parquet
        x = recipe.transform(pd.DataFrame({"c": values}))
        assert recipe.names == ("c=1e-07", "c=0.1", "c=0.2", "c=3", "c=123456792")
        assert x.argmax(axis=1).tolist() == [1, 2, 0, 3, 4, 1]
        assert x.sum(axis=1).tolist() == [1.0] * 6


def test_given_levels_have_columns_for_other_and_missing_values_of_the_training_rows():
    for values, names in [
        (["a", "b", "c", None], ("c=a", "c other", "c missing")),
        (["a", "b", "a"], ("c=a", "c other")),
        (["a", "a"], ("c=a",)),
    ]:
        recipe, table = fitted(values, OneHot(levels=["a"]))
        assert recipe.names == names
        assert recipe.transform(table).sum(axis=1).tolist() == [1.0] * len(values)
    with pytest.raises(DataError, match=r"column 'c' has 'b', which is not among the levels .*; write other=True"):
        fitted(["a", "b"], OneHot(levels=["a"], other=False))
    assert fitted([1, 2, 3], OneHot(levels=[1, 3]))[0].names == ("c=1", "c=3", "c other")
    assert fitted([1, 2], Levels(levels=[2]))[0].transform(pd.DataFrame({"c": [2, 1]}))["c"].tolist() == [2, 0]


def test_a_given_value_is_filled_in_with_a_flag_where_the_training_rows_miss_some():
    recipe, table = fitted([1.0, None], Impute(values=[7.0]))
    assert recipe.transform(table).tolist() == [[1, 0], [7, 1]]
    assert fitted([1.0, 2.0], Impute(values=[7.0]))[0].names == ("c",)


@pytest.mark.parametrize(
    ("values", "other", "steps"),
    [(["a", "b"], "c=a", [OneHot()]), (["a", None], "c missing", [OneHot()]), ([1.0, None], "c missing", [Impute()])],
)
def test_two_columns_that_end_with_one_name_are_refused(values, other, steps):
    table = pd.DataFrame({"c": values, other: [0.0, 1.0]})
    with pytest.raises(
        SettingsError, match=f"columns 'c' and '{other}' would both give the model a column '{other}'; re"
    ):
        Preprocess(columns={"c": steps, other: []}).fit(table)


def test_a_star_alone_takes_what_no_other_rule_takes():
    table = pd.DataFrame({"a": [1.0, 2.0], "ab": [1.0, 2.0], "t": ["x", "y"], "d": [True, False]})
    recipe = Preprocess(columns={"*": [Drop()], "<number>": [], "a*b": [MinMax()], "<text>": [OneHot()]}).fit(table)
    assert recipe.names == ("a", "ab", "t=x", "t=y")
    assert recipe.transform(table)[:, 1].tolist() == [0.0, 1.0]


def test_a_scale_of_a_target_of_text_is_told_of_classes():
    table = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    with pytest.raises(SettingsError, match=r"target 'y' holds text, and Standardize takes numbers; write Classes\(\)"):
        Preprocess(columns={"x": []}, target=[Standardize()]).fit((table, "y"))


def test_times_of_day_of_a_csv_are_numbers_of_seconds(tmp_path):
    (tmp_path / "t.csv").write_text("t,y\n12:30,1\n08:00,2\n,3\n00:00,4\n")
    table = CSV(str(tmp_path / "t.csv"), target="y")
    recipe = Preprocess(columns={"<duration>": [Impute(0.0, flag=False)]}).fit(table)
    assert recipe.transform(table.frame(0, 4))[:, 0].tolist() == [45_000, 28_800, 0, 0]
    assert str(Preprocess.of(table)).count('"t": [Impute("median"), Standardize(), Clip()]') == 1


def test_durations_of_a_csv_that_pandas_wrote_are_those_of_the_table(tmp_path):
    seconds = [949.0, np.nan, -0.5, 2 * 86_400 + 1e-9, 0.0, 1e9]
    table = pd.DataFrame({"t": pd.to_timedelta(seconds, unit="s"), "y": np.arange(6.0)})
    table.to_csv(tmp_path / "t.csv", index=False)
    read = CSV(str(tmp_path / "t.csv"), target="y")
    recipe = Preprocess(columns={"<duration>": [Impute(0.0, flag=False)]}).fit(table[["t"]])
    assert recipe.transform(read.frame())[:, 0].tolist() == recipe.transform(table[["t"]])[:, 0].tolist()
    assert np.array_equal(read.frame().column("t").to_pandas(), table["t"], equal_nan=True)


@pytest.mark.parametrize(("cell", "held"), [("949", "numbers"), ("949 s", "text")])
def test_durations_of_a_csv_of_another_form_are_refused_with_a_form_that_is_read(tmp_path, cell, held):
    (tmp_path / "t.csv").write_text(f"t\n{cell}\n")
    read = CSV(str(tmp_path / "t.csv"))
    recipe = Preprocess(columns={"t": []}).fit(pd.DataFrame({"t": pd.to_timedelta([1.0], unit="s")}))
    with pytest.raises(DataError, match=f"held durations in fit, and holds {held} now") as caught:
        recipe.transform(read.frame())
    read.explain(caught.value)
    said = str(caught.value)
    assert re.search("now; in row 0 it has '?949.*; write durations as 12:30:00 or, as pandas does, 1 days 12:30", said)


class Weighed(Counting):
    """A Dataset with weights."""

    def read(self, start, stop):
        part = self.table[start:stop]
        return part[["c", "t"]], part["y"], part["w"].to_numpy()


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("rows", [6, 70_000])
@pytest.mark.parametrize("form", ["names", "arrays", "a list", "polars", "dataset"])
def test_rows_count_by_their_weights_in_means_and_once_elsewhere(form, rows):
    weight = RNG.choice([0.0, 0.5, 3.0], rows)
    weight[:3] = 0.0, 1.0, 1.0
    table = pd.DataFrame({"c": RNG.normal(size=rows).round(2), "t": "a", "y": "no", "w": weight})
    table.loc[1, "y"] = "yes"
    table.loc[weight == 0, ["c", "t", "y"]] = [1e6, "b", "maybe"]
    columns, kept = ["c", "t", "y"], table[weight > 0]
    data = {
        "names": (table, "y", "w"),
        "arrays": (table[["c", "t"]], table["y"].to_numpy(), weight),
        "a list": (table[["c", "t"]], table["y"], weight.tolist()),
        "polars": (pl.from_pandas(table), "y", "w"),
        "dataset": Weighed(table),
    }[form]
    recipe = Preprocess(columns={"c": [Impute("median"), Standardize()], "t": [OneHot()]}, target=[Classes()])
    found, expected = recipe.fit(data), recipe.fit((kept[columns], "y"))
    assert found.names == expected.names == ("c", "t=a")
    assert [*found.classes.values()] == [("no", "yes")]
    (_, (impute, scale)), _ = found.columns
    assert impute.values[0] == pytest.approx(np.median(kept["c"]), rel=1e-15)
    oracle = StandardScaler().fit(kept[["c"]], sample_weight=kept["w"])
    np.testing.assert_allclose((*scale.mean, *scale.scale), (*oracle.mean_, *oracle.scale_), rtol=1e-10)


def test_a_row_of_weight_3_counts_like_3_rows_in_means_with_missing_values_too():
    values, weight = np.array([1.0, np.nan, 4.0, 6.0]), np.array([3.0, 2.0, 1.0, 0.0])
    table = pd.DataFrame({"c": values, "y": 0.0, "w": weight})
    repeated = table.loc[np.repeat(np.arange(4), weight.astype(int)), ["c", "y"]].reset_index(drop=True)
    for fill in ("mean", 10.0):
        recipe = Preprocess(columns={"c": [Impute(fill), Standardize()]})
        (_, (impute, scale)), (_, (other, expected)) = (
            recipe.fit(data).columns[0] for data in ((table, "y", "w"), (repeated, "y"))
        )
        assert impute.values == pytest.approx(other.values, rel=1e-15)
        np.testing.assert_allclose((scale.mean, scale.scale), (expected.mean, expected.scale), rtol=1e-14)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_no_row_can_have_are_refused(bad):
    table = pd.DataFrame({"c": [1.0, 2.0], "y": 0.0, "w": [1.0, bad]})
    with pytest.raises(DataError, match=f"argument 'weight' must be finite and not negative; got {bad} in row 1"):
        Preprocess(columns={"c": [Standardize()]}).fit((table, "y", "w"))


def test_weights_of_1_change_no_bit():
    table = pd.DataFrame({"c": RNG.normal(size=1000), "y": 0.0, "w": 1.0})
    recipe = Preprocess(columns={"c": [Standardize()]})
    assert recipe.fit((table, "y", "w")).columns == recipe.fit((table[["c", "y"]], "y")).columns


def test_a_row_in_a_message_counts_those_of_weight_0():
    table = pd.DataFrame({"c": [1.0, np.nan, 2.0, np.nan], "y": 0.0, "w": [0, 0, 1, 1]})
    with pytest.raises(DataError, match="column 'c' has a missing value in row 3;"):
        Preprocess(columns={"c": [Standardize()]}).fit((table, "y", "w"))


def test_a_formula_that_makes_nan_of_a_number_is_named():
    recipe, _ = fitted([4.0, 9.0], Impute(0.0, flag=False), Root())
    assert recipe.transform(pd.DataFrame({"c": [None]})) == [[0.0]]
    for steps in ([Root()], [Root(), Standardize()]):
        with pytest.raises(
            DataError, match=r"'c' holds -4\.0, of which Root makes NaN, in row 1; change the formula of"
        ):
            fitted([1.0, -4.0], *steps)[0].transform(pd.DataFrame({"c": [1.0, -4.0]}))


def test_a_logarithm_far_beyond_the_targets_comes_back_as_infinity():
    values = np.array([1.0, 20.0, 300.0])
    recipe = Preprocess(columns={"x": []}, target=[Log(), Standardize()]).fit((pd.DataFrame({"x": values}), values))
    assert recipe.inverse(np.array([1e4, -1e4])).tolist() == [np.inf, -np.inf]
    assert Log().inverse(np.array([1e4]), 0).tolist() == [np.inf]
