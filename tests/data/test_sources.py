"""Data: splits, the order of an epoch, batches of arrays and of a Dataset, sample weights."""

from itertools import chain

import numpy as np
import pytest
import sklearn.model_selection
from left_out import hooks_differ

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dataset,
    Dense,
    MeanSquaredError,
    Neuron,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
    on,
    split,
)
from framework.data import blocks
from framework.data.pieces import Piece, Position, permutation
from framework.models.rows import prepare

ROWS = 23
X = np.arange(ROWS, dtype=float)[:, None] / ROWS
Y = np.arange(ROWS, dtype=float)
LABELS = np.repeat([0, 1, 2], [50, 30, 20])
ORDER = (0, 0)


class Rows:
    """The rows of arrays, read through the two methods of a Dataset; it fills the same memory at every read."""

    def __init__(self, *arrays):
        self.arrays = arrays
        self.memory = [np.empty_like(array) for array in arrays]
        self.reads = []

    def __len__(self):
        return len(self.arrays[0])

    def read(self, start, stop):
        self.reads.append((start, stop))
        parts = []
        for array, memory in zip(self.arrays, self.memory, strict=True):
            memory[: stop - start] = array[start:stop]
            parts.append(memory[: stop - start])
        return tuple(parts)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 3 rows and windows of 2 blocks: 8 blocks and 4 windows."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 3)
    monkeypatch.setattr(blocks, "WINDOW_NUMBERS", 6)
    monkeypatch.setattr(blocks, "WINDOW_BLOCKS", 2)


def recipe(**settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1, momentum=0.9), "batch_size": 4}
    return Trainer(**default | settings)


def rows_seen(data, order, size=4, start=0):
    source = prepare(data, Neuron(1), (MeanSquaredError(),), "fit")
    return [y.astype(int).tolist() for _, y, _ in source.cut_batches(size, start, order)]


EACH_DATA = pytest.mark.parametrize("data", [(X, Y), Rows(X, Y)], ids=["arrays", "dataset"])


@EACH_DATA
@pytest.mark.parametrize("size", [1, 4, 7, 23, 100])
def test_every_row_is_used_once_an_epoch(data, size):
    batches = rows_seen(data, ORDER, size)
    assert sorted(chain(*batches)) == list(range(ROWS))
    assert [len(batch) for batch in batches] == [size] * (ROWS // size) + [ROWS % size] * (ROWS % size > 0)


@EACH_DATA
def test_the_order_is_a_pure_function_of_seed_and_epoch(data):
    assert rows_seen(data, (1, 2)) == rows_seen(data, (1, 2))
    orders = [str(rows_seen(data, key)) for key in ((0, 0), (0, 1), (1, 0))]
    assert len(set(orders)) == 3


@EACH_DATA
def test_without_a_shuffle_rows_keep_their_order(data):
    assert list(chain(*rows_seen(data, None))) == list(range(ROWS))
    seen = []
    recipe(shuffle=False, callbacks=[on("batch_end")(lambda run: seen.extend(run.current[1]))]).fit(Neuron(1), data)
    assert seen == list(range(ROWS))


@EACH_DATA
@pytest.mark.parametrize("order", [None, ORDER])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_batches_from_the_middle_are_those_of_the_whole_epoch(data, order, size):
    batches = rows_seen(data, order, size)
    for done in range(len(batches) + 1):
        assert rows_seen(data, order, size, done * size) == batches[done:]


def test_a_piece_that_starts_elsewhere_leaves_the_batches_of_the_first_alone():
    piece = Piece((X, Y, None), 4, 0, permutation(ROWS, 0, 0))
    x, y, _ = piece.take()
    kept = x.copy(), y.copy()
    other = piece.starting_at(8)
    assert np.array_equal(other.take()[1], Y[piece.rows[8:12]])
    assert np.array_equal(x, kept[0])
    assert np.array_equal(y, kept[1])
    assert (piece.place, other.place, other.rows is piece.rows) == (4, 12, True)


def test_a_permutation_is_one_and_depends_on_every_counter():
    orders = [permutation(50, *key).tolist() for key in ((0, 0), (0, 1), (1, 0), (0, 0, 1))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


def test_a_dataset_is_read_in_blocks_and_shuffled_within_windows():
    data = Rows(X, Y)
    assert isinstance(data, Dataset)
    order = np.array(rows_seen(data, ORDER, ROWS)[0])
    assert sorted(data.reads) == [(start, min(start + 3, ROWS)) for start in range(0, ROWS, 3)]
    assert data.reads != sorted(data.reads)
    place, orders = 0, []
    for first, second in zip(data.reads[::2], data.reads[1::2], strict=True):
        window = [*range(*first), *range(*second)]
        rows = order[place : (place := place + len(window))]
        assert sorted(rows) == sorted(window)
        orders.append([window.index(row) for row in rows])
    assert all(found != sorted(found) for found in orders)
    assert len({tuple(found) for found in orders}) == len(orders)


def test_a_resumed_epoch_reads_no_window_that_is_done():
    data = Rows(X, Y)
    rows_seen(data, None, 4, 16)
    assert data.reads == [(12, 15), (15, 18), (18, 21), (21, 23)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("step", range(1, 12))
@hooks_differ
def test_training_on_a_dataset_resumes_bit_for_bit(step, shuffle):
    @on("batch_end")
    def stop(run):
        if run.step == step:
            run.stop("enough")

    weights = np.arange(ROWS) % 5.0
    whole = recipe(epochs=2, shuffle=shuffle).fit(Neuron(1), Rows(X, Y, weights))
    run = recipe(epochs=2, shuffle=shuffle, callbacks=[stop]).fit(Neuron(1), Rows(X, Y, weights))
    assert (run.step, run.stop_reason) == (step, "enough")
    recipe(epochs=2, shuffle=shuffle).resume(run, Rows(X, Y, weights))
    assert run.model.parameters.vector.tolist() == whole.model.parameters.vector.tolist()
    assert run.history.column("loss") == whole.history.column("loss")


def test_a_dataset_in_order_trains_like_its_arrays():
    arrays, dataset = Neuron(1), Neuron(1)
    recipe(shuffle=False).fit(arrays, (X, Y), (X, Y))
    run = recipe(shuffle=False).fit(dataset, Rows(X, Y), Rows(X, Y))
    assert dataset.parameters.vector.tolist() == arrays.parameters.vector.tolist()
    assert run.history[0]["val_loss"] == recipe().evaluate(arrays, (X, Y))["loss"]


def test_bad_rows_of_a_dataset_are_refused_before_the_step_that_would_use_them():
    bad = Y.copy()
    bad[13] = np.nan  # in the third window, rows 12 to 17
    model, by_hand = Neuron(1), Neuron(1)
    with pytest.raises(
        DataError, match=r"fit: Rows.read\(12, 15\): argument 'y' must be finite; got nan at y\[1\]"
    ) as caught:
        recipe(shuffle=False).fit(model, Rows(X, bad))
    run = caught.value.run
    assert (run.step, run.consistent, len(run.history)) == (3, True, 0)
    recipe(shuffle=False).fit(by_hand, (X[:12], Y[:12]))
    assert model.parameters.vector.tolist() == by_hand.parameters.vector.tolist()
    recipe(shuffle=False).resume(run, Rows(X, Y))
    recipe(shuffle=False).fit(by_hand := Neuron(1), (X, Y))
    assert model.parameters.vector.tolist() == by_hand.parameters.vector.tolist()


class Wrong:
    def __init__(self, *parts, rows=5):
        self.parts, self.rows = parts, rows

    def __len__(self):
        return self.rows

    def read(self, start, stop):
        return self.parts or None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Wrong(), r"fit: Wrong.read\(.*\) must return \(x, y\) or \(x, y, weight\); got NoneType"),
        (Wrong(X), "got 1 parts"),
        (Wrong(X, Y), r"fit: Wrong.read\(.*\) must return [23] rows; got 23"),
        (Wrong(X[:3], Y[:2]), r"'x' and 'y' must have the same number of rows; got shapes \(3, 1\) and \(2,\)"),
        (Wrong(X[:3], Y[:3], np.ones(2)), r"'weight' must have one weight per row, \(3,\); got \(2,\)"),
        (Wrong(X[:0], Y[:0]), "'x' must have at least one row"),
        (Wrong(X, Y, rows=0), "must have at least one row; got a Dataset of length 0"),
        (X, "must be .* or a Dataset with .* got ndarray"),
        ((X, Y, Y, Y), "must be .* got tuple"),
        (None, "got NoneType"),
    ],
)
def test_data_of_another_form_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        recipe().fit(Neuron(1), data)


def test_a_dataset_gives_weights_for_all_rows_or_for_none():
    class Some(Rows):
        def read(self, start, stop):
            return super().read(start, stop)[: 2 if start else 3]

    with pytest.raises(DataError, match="weights for all rows or for none"):
        recipe().fit(Neuron(1), Some(X, Y, np.ones(ROWS)))


@pytest.mark.parametrize(
    ("loss", "model", "y"),
    [
        (MeanSquaredError(), Dense(2, 2), np.ones((3, 2))),
        (BinaryCrossEntropy(), Neuron(2, Sigmoid()), np.array([0.0, 1.0, 1.0])),
        (CrossEntropy(), Dense(2, 3, Softmax()), np.array([0, 2, 1])),
    ],
)
def test_a_weight_of_two_is_the_row_twice(loss, model, y):
    x = np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, 0.1]])
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.5))
    twice = model.copy()
    weighted = trainer.fit(model, (x, y, [1, 2, 0]))
    repeated = trainer.fit(twice, (x[[0, 1, 1]], y[[0, 1, 1]]))
    assert model.parameters.vector == pytest.approx(twice.parameters.vector, rel=1e-13)
    assert weighted.history[0]["loss"] == pytest.approx(repeated.history[0]["loss"], rel=1e-13)


def test_weights_of_one_are_no_weights():
    plain, ones = recipe().fit(Neuron(1), (X, Y)), recipe().fit(Neuron(1), (X, Y, np.ones(ROWS, int)))
    assert ones.model.parameters.vector == pytest.approx(plain.model.parameters.vector, rel=1e-13)
    assert (
        recipe().fit(Neuron(1), (X, Y, None)).model.parameters.vector.tolist() == plain.model.parameters.vector.tolist()
    )


def test_a_batch_whose_weights_are_all_zero_makes_no_step():
    weights = np.ones(ROWS)
    weights[4:8] = 0.0
    seen = []
    trainer = recipe(shuffle=False, epochs=2, callbacks=[on("batch_end")(lambda run: seen.append(run.batch))])
    run = trainer.fit(Neuron(1), (X, Y, weights))
    assert (run.epoch, run.step) == (2, 10)
    assert seen == [1, 3, 4, 5, 6] * 2
    rest = np.delete(np.arange(ROWS), slice(4, 8))
    without = recipe(shuffle=False, epochs=2).fit(Neuron(1), (X[rest], Y[rest]))
    assert run.model.parameters.vector == pytest.approx(without.model.parameters.vector, rel=1e-13)


def test_the_callers_arrays_cannot_be_changed_through_a_batch():
    @on("batch_begin")
    def spoil(run):
        run.current[0][:] = 0.0

    x = X.copy()
    recipe(callbacks=[spoil]).fit(Neuron(1), (x, Y))  # shuffled: rows are gathered into working memory
    with pytest.raises(ValueError, match="read-only"):
        recipe(callbacks=[spoil], shuffle=False).fit(Neuron(1), (x, Y))
    assert np.array_equal(x, X)
    assert x.flags.writeable


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("stratify", [False, True])
def test_a_split_loses_and_doubles_no_row(fraction, stratify):
    x, weight = np.arange(100)[:, None], np.arange(100) / 7
    train, held_out = split((x, LABELS, weight), fraction, stratify=stratify)
    assert len(held_out[0]) == round(100 * fraction)
    assert sorted(np.concatenate([train[0], held_out[0]])[:, 0]) == list(range(100))
    for part in (train, held_out):
        rows = part[0][:, 0]
        assert np.array_equal(part[1], LABELS[rows])
        assert np.array_equal(part[2], weight[rows])
        assert rows.tolist() != sorted(rows)


def test_a_stratified_split_has_scikit_learns_shapes_and_proportions():
    x = np.arange(100)[:, None]
    for fraction in (0.1, 0.25, 0.33):
        train, held_out = split((x, LABELS), fraction, stratify=True)
        parts = sklearn.model_selection.train_test_split(x, LABELS, test_size=fraction, stratify=LABELS, random_state=0)
        assert [train[0].shape, held_out[0].shape] == [parts[0].shape, parts[1].shape]
        for ours, theirs in ((train[1], parts[2]), (held_out[1], parts[3])):
            assert np.abs(np.bincount(ours) - np.bincount(theirs)).max() <= 1


def test_a_split_is_a_pure_function_of_its_seed():
    splits = [split((X, Y), seed=seed)[1][1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize(
    ("data", "settings", "error", "message"),
    [
        ((X, Y), {"fraction": 0}, SettingsError, "between 0 and 1; got 0"),
        ((X, Y), {"fraction": 1.0}, SettingsError, "between 0 and 1; got 1.0"),
        ((X, Y), {"fraction": float("nan")}, SettingsError, "between 0 and 1; got nan"),
        ((X[:2], Y[:2]), {"fraction": 0.1}, SettingsError, "leaves a part empty"),
        ((X, Y[:5]), {}, ShapeError, r"same number of rows; got data\[0\] \(23, 1\), data\[1\] \(5,\)"),
        ((X, X), {"stratify": True}, ShapeError, r"one class per row, \(rows,\); got \(23, 1\)"),
    ],
)
def test_splits_that_make_no_sense_are_refused(data, settings, error, message):
    with pytest.raises(error, match=message):
        split(data, **settings)


@pytest.mark.parametrize("width", [1, 40])
def test_what_fits_in_a_window_is_shuffled_as_arrays_are(monkeypatch, width):
    for constant, number in (("BLOCK_ROWS", 4096), ("WINDOW_BLOCKS", 16), ("WINDOW_NUMBERS", 1 << 23)):
        monkeypatch.setattr(blocks, constant, number)
    rows = (1 << 23) // 40 if width == 40 else 200_000
    x, y = np.zeros((rows, width), "float32"), np.arange(float(rows), dtype="float32")
    model = Dense(width, 1, dtype="float32")

    def order_of(data):
        source = prepare(data, model, (MeanSquaredError(),), "fit")
        return np.concatenate([y[:, 0].copy() for _, y, _ in source.cut_batches(50_000, 0, ORDER)])

    assert np.array_equal(order_of(Rows(x, y[:, None])), order_of((x, y[:, None])))
    more = np.zeros((rows + 1 if width == 40 else (1 << 20) + 1, width), "float32")
    larger = (more, np.arange(float(len(more)), dtype="float32")[:, None])
    assert not np.array_equal(order_of(Rows(*larger)), order_of(larger))


def test_wide_rows_have_small_windows_and_blocks():
    data = Rows(np.zeros((100, 3)), np.arange(100.0))
    source = prepare(data, Neuron(3), (MeanSquaredError(),), "fit")
    assert [len(piece.arrays[1]) for piece in source.pieces(Position(1))][:3] == [2, 2, 2]
    assert [stop - start for start, stop in data.reads] == [1] * 100


def test_a_part_that_is_longer_than_a_window_is_told_once():
    class Parts(Rows):
        starts = (0, 13)

    data = Parts(X, Y)
    with pytest.warns(UserWarning, match=r"fit: Parts: 13 rows are read in order .* within 6 only; write parts"):
        recipe(epochs=3).fit(Neuron(1), data)
    recipe(shuffle=False).fit(Neuron(1), data)
