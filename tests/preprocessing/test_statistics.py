"""Statistics over blocks: those of NumPy, with the stated error where a sketch is no longer exact."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from framework.preprocessing import statistics
from framework.preprocessing.statistics import LevelCounts, Moments, Sketch

FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False) | st.integers(-3, 3).map(float) | st.just(np.nan)
NUMBERS = arrays(np.float64, st.integers(1, 200), elements=FLOATS)


def gathered(statistic, values, size):
    for start in range(0, len(values), size):
        statistic.add(values[start : start + size])
    return statistic


@settings(max_examples=30)
@given(NUMBERS, st.integers(1, 50))
def test_moments_of_blocks_are_those_of_numpy(values, size):
    moments, present = gathered(Moments(), values, size), values[~np.isnan(values)]
    assert (moments.count, moments.missing) == (len(present), len(values) - len(present))
    if len(present):
        assert (moments.low, moments.high) == (present.min(), present.max())
        scale = np.abs(present).max()
        np.testing.assert_allclose(moments.mean, present.mean(), rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(moments.deviation, present.std(), rtol=1e-9, atol=1e-9 * scale)


@settings(max_examples=30)
@given(NUMBERS, st.integers(1, 50), st.floats(-100, 100))
def test_missing_values_count_as_what_is_filled_in_for_them(values, size, fill):
    filled = np.where(np.isnan(values), fill, values)
    moments, sketch = gathered(Moments(), values, size), gathered(Sketch(), values, size)
    moments.fill(fill)
    sketch.fill(fill)
    np.testing.assert_allclose(moments.mean, filled.mean(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.deviation, filled.std(), rtol=1e-6, atol=1e-6)
    assert sketch.quantiles(np.array([0.5])) == np.quantile(filled, 0.5)


def test_a_large_mean_does_not_drown_a_small_deviation():
    values = 1e9 + np.random.default_rng(0).normal(size=100_000)
    moments = gathered(Moments(), values, 1000)
    np.testing.assert_allclose(moments.deviation, (values - 1e9).std(), rtol=1e-6)


@pytest.mark.parametrize("number", [0.1, 1e300, -7.0, 1e-300])
def test_equal_numbers_have_the_deviation_0(number):
    assert gathered(Moments(), np.full(1000, number), 7).deviation == 0.0


@pytest.mark.share(1 / 3)
@settings(max_examples=30)
@given(NUMBERS, st.integers(1, 50))
def test_a_small_sketch_gives_the_quantiles_of_numpy_to_the_bit(values, size):
    sketch, present = gathered(Sketch(), values, size), values[~np.isnan(values)]
    if len(present):
        shares = np.linspace(0, 1, 21)
        assert np.array_equal(sketch.quantiles(shares), np.quantile(present + 0.0, shares))


def test_a_sketch_of_few_distinct_numbers_is_exact_whatever_the_rows():
    values = np.random.default_rng(0).integers(0, 1000, 400_000).astype(float)
    shares = np.linspace(0, 1, 101)
    found = gathered(Sketch(), values, 65_536).quantiles(shares)
    assert np.array_equal(found, np.quantile(values, shares))


ORDERS = {
    "random": np.random.default_rng(0).permutation(100_000),
    "rising": np.arange(100_000),
    "falling": np.arange(100_000)[::-1],
    "in turn": np.arange(100_000).reshape(100, -1).T.reshape(-1),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_rank_of_a_sketched_quantile_is_within_the_stated_error(order, monkeypatch):
    monkeypatch.setattr(statistics, "SKETCH_SIZE", 64)
    rows, size = 100_000, 500
    values = ORDERS[order].astype(float)
    shares = np.linspace(0, 1, 101)
    found = gathered(Sketch(), values, size).quantiles(shares)  # a value is its own rank
    stated = rows * (1 + np.log2(rows / size)) / (2 * 64)
    assert np.abs(found - shares * (rows - 1)).max() <= stated + 1
    assert (found[0], found[-1]) == (0, rows - 1)


def test_pruning_moves_a_rank_by_at_most_half_a_group(monkeypatch):
    monkeypatch.setattr(statistics, "SKETCH_SIZE", 10)
    values, counts = statistics._prune_counts(np.arange(1000.0), np.ones(1000, int))
    assert len(values) == 10
    assert np.abs(np.repeat(values, counts) - np.arange(1000)).max() <= 1000 / (2 * 10)


def test_a_sketch_is_small():
    sketch = gathered(Sketch(), np.random.default_rng(0).normal(size=2**20), 65_536)
    assert sum(len(values) for values, _ in filter(None, sketch._parts)) <= 5 * 8192


TEXTS = st.lists(st.sampled_from("abcdefgh") | st.none(), min_size=1, max_size=100)


def counted(texts, size):
    counts = LevelCounts()
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        levels = tuple(dict.fromkeys(text for text in part if text is not None))
        counts.add(np.array([-1 if text is None else levels.index(text) for text in part]), levels)
    return counts


@settings(max_examples=30)
@given(TEXTS, st.integers(1, 30))
def test_levels_are_counted_as_python_counts(texts, size):
    counts = counted(texts, size)
    expected = collections.Counter(text for text in texts if text is not None)
    assert counts.counts == expected
    assert counts.missing == texts.count(None)
    assert counts.error == 0
    most = sorted(expected, key=lambda text: (-expected[text], text))[:3]
    assert counts.commonest(3) == tuple(sorted(most))


def test_common_levels_survive_a_flood_of_rare_ones_with_counts_within_the_stated_error(monkeypatch):
    monkeypatch.setattr(statistics, "LEVELS_KEPT", 50)
    rng = np.random.default_rng(0)
    texts = [f"rare {place}" for place in range(5000)] + ["common"] * 400 + ["usual"] * 300
    texts = [texts[place] for place in rng.permutation(len(texts))]
    counts, true = counted(texts, 100), collections.Counter(texts)
    assert counts.commonest(2) == ("common", "usual")
    assert 0 < counts.error <= len(texts) / 50
    assert all(true[text] - counts.error <= count <= true[text] for text, count in counts.counts.items())
    assert len(counts.counts) <= 50


def test_long_texts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(statistics, "CHARACTERS_KEPT", 1000)
    counts = counted([f"{place:0100d}" for place in range(200)] + ["short"] * 50, 50)
    assert counts.commonest(1) == ("short",)
    assert sum(map(len, counts.counts)) <= 1000


def test_levels_of_numbers_sort_by_value():
    counts = LevelCounts()
    counts.numeric = True
    counts.add(np.array([0, 1, 2]), ("10", "9", "-1.5"))
    assert counts.commonest(3) == ("-1.5", "9", "10")
