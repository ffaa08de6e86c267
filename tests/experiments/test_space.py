"""What a sweep varies, as people write it."""

import re

import numpy as np
import pytest
from scipy import stats

from framework import SettingsError
from framework.experiments.sweeps.space import changes_of, parse_varied, trials


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("trainer.epochs=5, 10", ("5", "10")),
        ("trainer.loss=CrossEntropy,MeanSquaredError", ("CrossEntropy", "MeanSquaredError")),
        ('data.path="a,b.csv",c.csv', ('"a,b.csv"', "c.csv")),
        ("data.decimal=,", (",",)),
        ("model.shape=[1,2],[3,4]", ("[1,2]", "[3,4]")),
        ('trainer.optimizer={type="A", b=[1,2]},{type="B"}', ('{type="A", b=[1,2]}', '{type="B"}')),
        ("data.path=my table.csv", ("my table.csv",)),
        ("data.target=log(price)", ("log(price)",)),
        ("data.target=int rate,uniform", ("int rate", "uniform")),
        ('data.target="int(a, b)","f(a, b)"', ('"int(a, b)"', '"f(a, b)"')),
        ('trainer.preprocess.columns."a=b"=1,2', ("1", "2")),
    ],
)
def test_commas_separate_values_outside_of_quotes_and_brackets(text, values):
    assert parse_varied(text).values == values


def test_a_grid_has_every_combination_in_order():
    space = [parse_varied("a=1,2"), parse_varied("b=x,y,z")]
    assert trials(space, None, 0) == [{"a": a, "b": b} for a in "12" for b in "xyz"]


def test_draws_depend_on_the_seed_alone_and_more_of_them_begin_alike():
    space = [parse_varied("a=loguniform(1e-4, 1)"), parse_varied("b=1,2,3")]
    assert trials(space, 20, 3)[:7] == trials(space, 7, 3)
    assert trials(space, 7, 4) != trials(space, 7, 3)


def test_every_combination_is_drawn_once():
    space = [parse_varied("a=int(1, 3)"), parse_varied("b=x,y")]
    drawn = [changes_of(space, trial) for trial in trials(space, 6, 0)]
    assert sorted(drawn) == sorted((f"a={a}", f"b={b}") for a in "123" for b in "xy")
    with pytest.raises(SettingsError, match="--random 7: the varied settings have 6 combinations"):
        trials(space, 7, 0)


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("a=uniform(-1, 3)", stats.uniform(-1, 4)),
        ("a=loguniform(1e-4, 10)", stats.loguniform(1e-4, 10)),
    ],
)
def test_ranges_have_their_distribution(text, law):
    assert stats.kstest([trial["a"] for trial in trials([parse_varied(text)], 500, 0)], law.cdf).pvalue > 0.01


@pytest.mark.parametrize("kind", ["int", "logint"])
def test_whole_numbers_have_their_distribution_with_both_ends(kind):
    space = [parse_varied(f"a={kind}(1, 3)"), parse_varied("b=uniform(0, 1)")]
    counts = np.bincount([trial["a"] for trial in trials(space, 600, 0)], minlength=4)[1:]
    edges = np.arange(0.5, 4)
    shares = np.diff(edges if kind == "int" else np.log(edges))
    assert stats.chisquare(counts, 600 * shares / shares.sum()).pvalue > 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=uniform(2, 1)", "uniform(LOW, HIGH) needs two numbers, the smaller one first"),
        ("a=uniform(0, inf)", "uniform(LOW, HIGH) needs two numbers"),
        ("a=uniform(nan, 1)", "uniform(LOW, HIGH) needs two numbers"),
        ("a=loguniform(0, 1)", "loguniform(LOW, HIGH) needs two positive numbers"),
        ("a=int(1, 2.5)", "int(LOW, HIGH) needs two whole numbers"),
        ("a=logint(0, 5)", "logint(LOW, HIGH) needs two positive whole numbers"),
        ("a=int(5)", "int(LOW, HIGH) needs two whole numbers"),
        ("a=uniform(0, 1, 2)", "uniform(LOW, HIGH) needs two numbers"),
        ("a=logunif(1e-4, 1)", "'logunif' is not a range; did you mean 'loguniform'? Ranges: uniform(LOW, HIGH), "),
        ("a=LogUniform(1e-4, 1)", "did you mean 'loguniform'?"),
        ("a=beta(0, 1)", "'beta' is not a range. Ranges: uniform(LOW, HIGH), loguniform(LOW, HIGH), int(LOW, HIGH), "),
        ("a=", "the value must be TOML; got nothing"),
        ("a=uniform[0, 1]", "a range is written uniform(LOW, HIGH); got uniform[0, 1]"),
        ("a=int 1,5", "a range is written int(LOW, HIGH); got int 1,5"),
        ("a=3,4,3", "the value 3 is given twice; give it once"),
        ("epochs", "write a setting and its value"),
    ],
)
def test_a_mistake_is_refused(text, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        parse_varied(text)


def test_a_range_has_no_combinations():
    with pytest.raises(SettingsError, match=re.escape("a=int(...): a range needs --random N")):
        trials([parse_varied("a=int(1, 3)")], None, 0)
