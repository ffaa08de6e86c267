"""The layers of the catalogue inside a Trainer: a run stops and goes on bit for bit, and what is fitted learns."""

import pickle

import numpy as np
import pytest
from left_out import hooks_differ

from framework import (
    BatchNorm,
    CrossEntropy,
    DataError,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MeanSquaredError,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    SGDOptimizer,
    Softmax,
    Tanh,
    Trainer,
    on,
)

RNG = np.random.default_rng(2)
DATA = (RNG.normal(size=(37, 4)), RNG.integers(0, 3, 37))


def network(dropout=0.3):
    return Sequential(
        Dense(4, 8, ReLU()),
        BatchNorm(8),
        Dropout(dropout),
        Residual(Dense(8, 8, Tanh()), BatchNorm(8), Dropout(dropout)),
        LayerNorm(8),
        Dense(8, 3, Softmax()),
        seed=3,
    )


def trainer(**settings):
    optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    return Trainer(
        **{"loss": CrossEntropy(), "optimizer": optimizer, "epochs": 6, "batch_size": 8, "seed": 1, **settings}
    )


def numbers(model):
    return {"": model.parameters.vector.copy(), **{name: value.copy() for name, value in model.buffers.items()}}


def same_bits(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop", [1, 5, 7, 13])
@hooks_differ
def test_a_run_that_was_stopped_resumes_bit_for_bit(stop):
    @on("batch_end")
    def cut(run):
        if run.step == stop:
            run.stop("enough")

    straight = trainer().fit(network(), DATA, DATA)
    broken = trainer(callbacks=[cut]).fit(network(), DATA, DATA)
    assert broken.step == stop
    broken = trainer().resume(pickle.loads(pickle.dumps(broken)), DATA, DATA)
    assert same_bits(numbers(broken.model), numbers(straight.model))
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.history.rows] for run in (straight, broken)
    ]
    assert rows[0] == rows[1]


def test_a_run_that_goes_on_equals_one_that_was_longer():
    straight = trainer(epochs=6).fit(network(), DATA)
    halves = trainer(epochs=3).fit(network(), DATA)
    halves = trainer().resume(halves, DATA, epochs=3)
    assert same_bits(numbers(halves.model), numbers(straight.model))


def test_dropout_changes_training_and_not_evaluation():
    with_mask, without = (trainer().fit(network(rate), DATA).model for rate in (0.3, 0.0))
    assert not np.array_equal(with_mask.parameters.vector, without.parameters.vector)
    before = numbers(with_mask)
    first, again = (trainer().evaluate(with_mask, DATA) for _ in range(2))
    assert first == again
    assert same_bits(before, numbers(with_mask))


def test_a_network_with_all_layers_learns():
    model = network(0.1)
    x = np.random.default_rng(8).normal(size=(200, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    history = trainer(epochs=30, batch_size=20).fit(model, (x, y)).history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert trainer().evaluate(model, (x, y))["loss"] < 0.4


def test_an_embedding_learns_in_a_trainer():
    ids = np.random.default_rng(8).integers(0, 6, (60, 2))
    values = np.arange(6.0)
    model = Sequential(Embedding(6, 4), Flatten((2, 4)), Dense(8, 1))
    settings = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.05, momentum=0.9)}
    run = trainer(epochs=80, **settings).fit(model, (ids, values[ids].sum(axis=1)))
    assert run.history[-1]["loss"] < 0.05
    with pytest.raises(DataError, match=r"whole ids in 0\.\.5; got 6"):
        trainer(**settings).fit(model, (ids + 1, values[ids].sum(axis=1)))


def test_layers_before_a_neuron_train_too():
    model = Sequential(Dropout(0.2), Dense(4, 3, Tanh()), LayerNorm(3), Neuron(3))
    run = trainer(loss=MeanSquaredError(), epochs=2).fit(model, (DATA[0], DATA[1].astype(float)))
    assert run.epoch == 2
