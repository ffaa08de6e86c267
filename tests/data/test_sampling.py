"""Weighted and balanced sampling: frequencies, and the same bits after a resume, from arrays and from a Dataset."""

import numpy as np
import pytest
import scipy.stats
from left_out import hooks_differ

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    MeanSquaredError,
    Neuron,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Stream,
    Trainer,
    on,
)
from framework.base import UsageError
from framework.data import blocks
from framework.data.pieces import Position
from framework.models.rows import prepare

ROWS = 400
X = np.arange(ROWS, dtype=float)[:, None] / ROWS
WEIGHT = np.where(np.arange(ROWS) < 300, np.arange(ROWS) % 4.0, 0.0)
LABELS = np.repeat([0, 1, 2], [320, 60, 20])


class Rows:
    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def read(self, start, stop):
        return tuple(array[start:stop] for array in self.arrays)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 10)
    monkeypatch.setattr(blocks, "WINDOW_NUMBERS", 30)
    monkeypatch.setattr(blocks, "WINDOW_BLOCKS", 3)


def epochs(data, sampling, count=60, model=None, loss=None, start=0):
    """The rows that some epochs draw, by their x."""
    source = prepare(data, model or Neuron(1), (loss or MeanSquaredError(),), "fit", sampling=sampling)
    for epoch in range(count):
        drawn = [(x.copy(), weight) for x, _, weight in source.cut_batches(32, start, (0, epoch))]
        yield np.rint(np.concatenate([x for x, _ in drawn])[:, 0] * ROWS).astype(int), drawn[0][1]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("form", [tuple, lambda data: Rows(*data)], ids=["arrays", "dataset"])
def test_rows_are_drawn_in_proportion_to_their_weights(form):
    found = np.zeros(ROWS)
    for rows, weight in epochs(form((X, X[:, 0], WEIGHT)), "weighted"):
        assert len(rows) == ROWS
        assert weight is None  # it is used up
        found += np.bincount(rows, minlength=ROWS)
    assert not found[WEIGHT == 0].any()
    expected = WEIGHT / WEIGHT.sum() * found.sum()
    assert scipy.stats.chisquare(found[WEIGHT > 0], expected[WEIGHT > 0]).pvalue > 0.001


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("form", [tuple, lambda data: Rows(*data)], ids=["arrays", "dataset"])
def test_classes_are_drawn_equally_often_and_rows_within_them_too(form):
    found = np.zeros(ROWS)
    model = Dense(1, 3, Softmax())
    for rows, _ in epochs(form((X, LABELS)), "balanced", model=model, loss=CrossEntropy()):
        found += np.bincount(rows, minlength=ROWS)
    expected = 1 / np.bincount(LABELS)[LABELS] / 3 * found.sum()
    assert scipy.stats.chisquare(found, expected).pvalue > 0.001


def test_a_small_dataset_draws_what_arrays_draw():
    for sampling, data in (("weighted", (X, X[:, 0], WEIGHT)), ("balanced", (X, (LABELS > 0) * 1.0, WEIGHT))):
        options = {"count": 2, "model": Neuron(1, Sigmoid()), "loss": BinaryCrossEntropy()}
        arrays, dataset = epochs(data, sampling, **options), epochs(Rows(*data), sampling, **options)
        for (one, weight), (other, _) in zip(arrays, dataset, strict=True):
            assert np.array_equal(one, other)
            assert (weight is None) == (sampling == "weighted")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("form", [tuple, lambda data: Rows(*data)], ids=["arrays", "dataset"])
@hooks_differ
def test_training_resumes_bit_for_bit(form):
    data = form((X, X[:, 0], WEIGHT))
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2, sampling="weighted", batch_size=32
    )
    whole = trainer.fit(Neuron(1), data)
    for step in (1, 7, 12, 13, 20):
        stop = on("batch_end")(lambda run, step=step: run.stop("enough") if run.step == step else None)
        run = trainer.replace(callbacks=[stop]).fit(Neuron(1), data)
        trainer.resume(run, data)
        assert run.model.parameters.vector.tolist() == whole.model.parameters.vector.tolist()
        assert run.history.column("loss") == whole.history.column("loss")
    run = trainer.replace(callbacks=[stop]).fit(Neuron(1), data)
    with pytest.raises(UsageError, match="the unfinished epoch has sampling='weighted'; got None"):
        trainer.replace(sampling=None).resume(run, data)


@pytest.mark.usefixtures("small_blocks")
def test_the_rows_of_a_batch_are_known():
    source = prepare(Rows(X, X[:, 0], WEIGHT), Neuron(1), (MeanSquaredError(),), "fit", sampling="weighted")
    for start, (x, *_) in zip(range(0, ROWS, 32), source.cut_batches(32, 0, (0, 3)), strict=True):
        assert np.array_equal(source.rows_of(Position(32, start, (0, 3))), np.rint(x[:, 0] * ROWS))


@pytest.mark.parametrize(
    ("data", "sampling", "message"),
    [
        ((X, X[:, 0]), "weighted", r"sampling='weighted' needs weights; give \(x, y, weight\)"),
        (Rows(X, X[:, 0]), "weighted", r"sampling='weighted' needs weights; give \(x, y, weight\)"),
        (
            Rows(X, X[:, 0], np.zeros(ROWS)),
            "weighted",
            "needs weights of a positive sum; all are 0",
        ),
        ((X, X[:, 0]), "balanced", "sampling='balanced' needs classes as whole numbers; got 0.0025"),
        (Stream(lambda _: [(X, X[:, 0])]), "weighted", r"sampling='weighted' needs rows by number; got a Stream"),
    ],
)
def test_rows_without_chances_are_refused(data, sampling, message):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), sampling=sampling)
    with pytest.raises(DataError, match=message):
        trainer.fit(Neuron(1), data)


@pytest.mark.usefixtures("small_blocks")
def test_weights_whose_sum_is_infinite_are_refused_where_that_of_a_block_is_not():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), sampling="weighted")
    with pytest.raises(DataError, match="weights of a sum that float64 holds; divide them"):
        trainer.fit(Neuron(1), Rows(X, X[:, 0], np.full(ROWS, 1e306)))


def test_sampling_needs_a_shuffle():
    with pytest.raises(SettingsError, match="sampling='weighted' draws rows at random; leave shuffle=False out"):
        Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), sampling="weighted", shuffle=False)
