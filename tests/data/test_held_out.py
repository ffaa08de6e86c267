"""Rows that are held out: the same from memory and from files, each once, with no more than a segment in memory."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit
from source_pieces import bits

from framework import (
    CSV,
    Checkpoint,
    DataError,
    MeanSquaredError,
    Neuron,
    OneHot,
    Parquet,
    Preprocess,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Standardize,
    Stream,
    Trainer,
    latest,
    split,
)
from framework.data import NPY, Indexed, blocks, splits
from framework.data.sources import hold_out as sources_of
from framework.data.splits import Selection

ROWS = 10_000
TABLE = pd.DataFrame(
    {"x": np.arange(ROWS) * 0.5, "text": [f"t{row % 7}" for row in range(ROWS)], "row": np.arange(ROWS)}
)
RECIPE = Preprocess(columns={"x": [Standardize()], "text": [OneHot()]}, target=[Standardize()])
TRAINER = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2, seed=3, batch_size=500)


def hold_out(*arguments):
    """The training and the held-out part, as ``fit`` takes them."""
    return [source.given for source in sources_of(*arguments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module", autouse=True)
def table(folder):
    """A table of several row groups, whose target is the number of the row."""
    pa.parquet.write_table(pa.Table.from_pandas(TABLE, preserve_index=False), folder / "a.parquet", row_group_size=4500)
    TABLE.to_csv(folder / "a.csv", index=False)
    (folder / "parts").mkdir()
    for place, end in enumerate((100, 7000, ROWS)):
        TABLE[[0, 100, 7000][place] : end].to_parquet(folder / "parts" / f"{place}.parquet", index=False)
    np.save(folder / "x.npy", TABLE[["x"]])
    np.save(folder / "row.npy", TABLE["row"])
    return Parquet(folder / "a.parquet", target="row")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(splits, "SEGMENT_ROWS", 3000)


def rows(part, step=ROWS):
    read = [part.read(start, min(start + step, len(part))) for start in range(0, len(part), step)]
    for x, y in read:
        assert x["x"].to_numpy().tolist() == [row / 2 for row in y.to_numpy().tolist()]
    return np.concatenate([y.to_numpy() for _, y in read])


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("seed", [0, 3, None])
@pytest.mark.parametrize("fraction", [0.25, 0.1, 1 / 3, 0.99])
@pytest.mark.usefixtures("small")
def test_two_parts_have_every_row_once_in_its_order(table, fraction, seed):
    others, held = hold_out(table, fraction, seed, "hold_out")
    assert len(held) == round(ROWS * fraction)
    assert np.array_equal(np.sort(np.concatenate([rows(held), rows(others)])), np.arange(ROWS))
    for part in (held, others):
        assert np.all(np.diff(rows(part)) > 0)
        for step in (1777, 4096):
            assert np.array_equal(rows(part, step), rows(part))
    if seed is None:
        assert rows(held)[0] == ROWS - len(held)
    else:
        assert abs(rows(held).mean() - ROWS / 2) < 300
        assert np.array_equal(rows(held), rows(hold_out(table, fraction, seed, "hold_out")[1]))
        assert not np.array_equal(rows(held), rows(hold_out(table, fraction, seed + 1, "hold_out")[1]))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("folds", [2, 3, 7])
@pytest.mark.usefixtures("small")
def test_over_all_folds_each_row_is_held_out_once(table, folds):
    parts = [hold_out(table, 1 / folds, 3, "hold_out", fold) for fold in range(folds)]
    held = [rows(part) for _, part in parts]
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(ROWS))
    for (others, _), each in zip(parts, held, strict=True):
        assert abs(len(each) - ROWS / folds) < 1 + len(range(0, ROWS, 3000))
        assert np.array_equal(rows(others), np.setdiff1d(np.arange(ROWS), each))
    arrays = TABLE[["x"]].to_numpy(), TABLE["row"].to_numpy()
    assert np.array_equal(hold_out(arrays, 1 / folds, 3, "hold_out", 1)[1][1], held[1])
    assert len({part.fingerprint() for pair in parts for part in pair}) == 2 * folds


def sources(folder):
    return {
        "CSV": CSV(folder / "a.csv", target="row"),
        "a folder": Parquet(folder / "parts", target="row"),
        "NPY": NPY(folder / "x.npy", folder / "row.npy"),
        "pandas": (TABLE, "row"),
        "polars": (pl.from_pandas(TABLE), "row"),
        "arrays": (TABLE[["x"]].to_numpy(), TABLE["row"].to_numpy(), np.ones(ROWS)),
        "rows by number": Indexed([*zip(TABLE[["x"]].to_numpy(), TABLE["row"], strict=True)]),
    }


@pytest.mark.usefixtures("small")
def test_the_same_rows_are_held_out_of_every_source(table, folder):
    expected = rows(hold_out(table, 0.2, 3, "hold_out")[1])
    for name, source in sources(folder).items():
        found = hold_out(source, 0.2, 3, "hold_out")[1]
        if isinstance(found, Selection):
            y = found.read(0, len(found))[1]
        else:
            y = found[0]["row"] if isinstance(found[1], str) else found[1]
        assert np.array_equal(np.asarray(y), expected), name


@pytest.mark.usefixtures("small")
def test_fit_holds_out_a_part_and_trains_to_the_same_bits_from_every_source(folder):
    trainer = TRAINER.replace(preprocess=RECIPE)
    found = {}
    for name, data in sources(folder).items():
        if name in ("CSV", "a folder", "pandas", "polars"):
            found[name] = trainer.fit(Neuron(), data, 0.2)
    train, held = hold_out((TABLE, "row"), 0.2, 3, "hold_out")
    expected = trainer.fit(Neuron(), train, held)
    assert expected.model.preprocess.columns[0][1][0].mean == (train[0]["x"].mean(),)
    for run in found.values():
        assert bits(run) == bits(expected)
        assert run.history.column("val_loss") == expected.history.column("val_loss")


def test_a_run_resumes_with_the_same_part(folder, tmp_path):
    data = CSV(folder / "a.csv", target="row", columns=["x"])
    trainer = TRAINER.replace(optimizer=SGDOptimizer(learning_rate=1e-8))
    whole = trainer.fit(Neuron(), data, 0.2)
    trainer.replace(epochs=1, callbacks=[Checkpoint(folder=tmp_path)]).fit(Neuron(), data, 0.2)
    run = trainer.resume(latest(tmp_path), data, 0.2)
    assert bits(run) == bits(whole)
    assert run.history.column("val_loss") == whole.history.column("val_loss")


def test_a_block_takes_few_more_rows_than_its_part_of_the_data(table, monkeypatch):
    read = []

    class Watched:
        def __len__(self):
            return len(table)

        def read(self, start, stop):
            read.append(stop - start)
            x, y = table.read(start, stop)
            return x.select(["x"]), y

    monkeypatch.setattr(splits, "SEGMENT_ROWS", 700)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 50)
    monkeypatch.setattr(blocks, "READ_NUMBERS", 50)
    run = TRAINER.replace(optimizer=SGDOptimizer(learning_rate=1e-8), epochs=1).fit(Neuron(), Watched(), 0.2)
    assert run.layout[0] == ROWS - 2000
    assert 200 < max(read) < 450  # 50 / 0.2 and a bit more


def test_split_gives_both_parts_of_a_file(table):
    train, held = split(table, 0.25, seed=5)
    again = hold_out(table, 0.25, 5, "hold_out")
    assert [np.array_equal(rows(part), rows(other)) for part, other in zip((train, held), again, strict=True)]
    with pytest.raises(SettingsError, match="split: stratify needs data in memory; got a Parquet; leave stratify out"):
        split(table, 0.25, stratify=True)


def test_a_fingerprint_tells_parts_apart(table):
    draws = (0.2, 0), (0.2, 1), (0.3, 0), (0.2, None)
    parts = [part for draw in draws for part in hold_out(table, *draw, "hold_out")]
    assert len({part.fingerprint() for part in parts}) == 8


@pytest.mark.parametrize(("fraction", "what"), [(0.00001, "validate"), (0.99999, "train")])
def test_a_part_without_rows_is_refused(table, fraction, what):
    for data in (table, (TABLE, "row")):
        with pytest.raises(
            SettingsError, match=f"'validation' = {fraction} of {ROWS} rows leaves nothing to {what} with"
        ):
            TRAINER.fit(Neuron(), data, fraction)


def test_what_cannot_be_held_out_is_refused(table):
    for fraction in (0.0, 1.0, 1.5, float("nan")):
        with pytest.raises(SettingsError, match=r"fit: argument 'validation' must be between 0 and 1, such as 0\.2"):
            TRAINER.fit(Neuron(), table, fraction)
    stream = Stream(lambda _: [(np.ones((3, 1)), np.ones(3))])
    with pytest.raises(SettingsError, match=r"needs rows by number; got a Stream.*; give held-out data by itself"):
        TRAINER.fit(Neuron(), stream, 0.2)
    with pytest.raises(SettingsError, match="needs rows by number; got a generator; give held-out data by itself"):
        TRAINER.fit(Neuron(), (part for part in [(np.ones((3, 1)), np.ones(3))]), 0.2)
    with pytest.raises(DataError, match=r"argument 'data' must be .*; got ndarray; write fit\(model, \(x, y\)\)"):
        TRAINER.fit(Neuron(), np.ones((3, 1)), 0.2)


@pytest.mark.parametrize("part", [0, 1])
def test_an_error_says_in_which_part_its_row_is_counted(part):
    x = TABLE[["x"]].to_numpy().copy()
    row = int(hold_out((x, TABLE["row"]), 0.2, 3, "hold_out")[part][1].iloc[7])
    x[row] = np.nan
    said = r"got nan at x\[7, 0\] \(1 of .* values\); .*; rows are counted within the "
    with pytest.raises(DataError, match=said + ("held-out part" if part else "training part")):
        TRAINER.fit(Neuron(), (x, TABLE["row"]), 0.2)


@pytest.mark.parametrize("form", ["memory", "file"])
def test_validation_data_of_another_order_of_columns_is_refused_in_the_first_fit(folder, form):
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "y": [5.0, 6.0]})
    table.to_csv(folder / "ab.csv", index=False)
    table[["b", "a", "y"]].to_csv(folder / "ba.csv", index=False)
    data = (table, "y") if form == "memory" else CSV(folder / "ab.csv", target="y")
    model = Neuron(2)
    with pytest.raises(DataError, match=r"validation: .* must have the columns of fit, in that order: a, b; got b, a"):
        TRAINER.fit(model, data, CSV(folder / "ba.csv", target="y"))
    assert model.columns is None


class Numbers:
    """Like a dataset of PyTorch."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 20

    def __getitem__(self, row):
        self.read.append(row)
        return [float(row)], float(row)


def test_an_error_without_a_row_says_nothing_of_parts():
    with pytest.raises(DataError, match=r"got data\[0\] \(3, 1\), data\[1\] \(2,\)$"):
        TRAINER.fit(Neuron(), (np.ones((3, 1)), np.ones(2)), 0.2)


def test_split_takes_objects_with_rows_by_number():
    data = Numbers()
    train, held = split(Indexed(data), 0.25)
    assert [len(train), len(held)] == [15, 5]
    rows = held.read(0, 5)[1].tolist()
    assert data.read == rows  # and no others
    assert sorted(rows + train.read(0, 15)[1].tolist()) == [*range(20)]


def test_a_held_out_row_of_another_form_is_named_by_its_number():
    rows = [([1.0], 1.0)] * 20
    _, held = split(Indexed(rows), 0.25)
    data = Numbers()
    split(Indexed(data), 0.25)[1].read(0, 5)
    rows[data.read[3]] = ([1.0, 2.0], 1.0)
    with pytest.raises(ShapeError, match=rf"got \(2,\) in row {data.read[3]}, \(1,\) in row {data.read[0]}"):
        held.read(0, 5)


@pytest.mark.parametrize("segment", [65_536, 1000])
def test_each_class_has_its_share_of_each_fold_as_in_scikit_learn(segment, monkeypatch):
    monkeypatch.setattr(splits, "SEGMENT_ROWS", segment)
    classes = np.sort(np.random.default_rng(0).choice(4, 1000, p=[0.6, 0.3, 0.07, 0.03]))
    rows = np.arange(1000)
    oracle = [np.bincount(classes[held]) for _, held in StratifiedKFold(5).split(rows, classes)]
    seen = []
    for fold, expected in enumerate(oracle):
        (train, _), (held, _) = hold_out((rows, rows), 0.2, 3, "hold_out", fold, classes)
        assert np.abs(np.bincount(classes[held]) - expected).max() <= 1
        assert np.array_equal(np.sort([*train, *held]), rows)
        seen += [*held]
    assert np.array_equal(np.sort(seen), rows)
    assert not np.array_equal(seen[:200], np.arange(200))


def test_rows_held_out_by_class_are_the_same_from_memory_and_from_a_file(table, monkeypatch):
    monkeypatch.setattr(splits, "SEGMENT_ROWS", 3000)
    classes = np.arange(ROWS) // 2000
    for part, memory in zip(
        hold_out(table, 0.1, 7, "hold_out", None, classes),
        hold_out((TABLE, TABLE["row"].to_numpy()), 0.1, 7, "hold_out", None, classes),
        strict=True,
    ):
        assert np.array_equal(part.read(0, len(part))[1], memory[1])
        assert "by seed 7 and class" in part.fingerprint()


def test_a_class_of_one_row_is_held_out_in_no_part_but_its_fold():
    classes = np.array([0] * 50 + [1])
    for seed in range(20):
        (train, _), _ = hold_out((classes, classes), 0.2, seed, "hold_out", None, classes)
        assert 1 in train


@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_of_few_rows_in_several_segments_has_its_share_of_every_part(seed):
    rows, classes = np.arange(200_000), np.zeros(200_000, int)
    classes[[5, 70_000, 140_000, 199_000]] = 1
    classes[5_000::25_000] = 2
    oracle = [np.bincount(classes[held]).tolist() for _, held in StratifiedKFold(4).split(rows, classes)]
    assert oracle == [[49_997, 1, 2]] * 4
    for fold in (None, *range(4)):
        _, (held, _) = hold_out((rows, rows), 0.25, seed, "hold_out", fold, classes)
        assert np.bincount(classes[held]).tolist() == oracle[0]
    train, held = hold_out(Numbered(rows), 0.25, seed, "hold_out", 3, classes)
    assert np.array_equal(np.sort(np.r_[train.read(0, 150_000)[0], held.read(0, 50_000)[0]]), rows)
    assert np.bincount(classes[held.read(0, 50_000)[0]]).tolist() == oracle[0]


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("count", [6, 23, 100, 200_003])
def test_folds_in_the_order_of_rows_are_those_of_scikit_learns_time_series_split(count, folds):
    rows = np.arange(count)
    for fold, (before, block) in enumerate(TimeSeriesSplit(folds).split(rows)):
        (train, _), (held, _) = hold_out((rows, rows), 1 / folds, None, "hold_out", fold)
        assert np.array_equal(train, before)
        assert np.array_equal(held, block)
        train, held = hold_out(Numbered(rows), 1 / folds, None, "hold_out", fold)
        assert np.array_equal(train.read(0, len(train))[0], before)
        assert np.array_equal(held.read(0, len(held))[0], block)


def test_folds_in_the_order_of_rows_need_one_row_more_than_folds():
    rows = np.arange(5)
    with pytest.raises(SettingsError, match="needs at least 6 rows in order; got 5"):
        hold_out((rows, rows), 0.2, None, "validation", 0)


class Numbered:
    """A Dataset whose rows are their numbers."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def read(self, start, stop):
        return (self.numbers[start:stop],) * 2
