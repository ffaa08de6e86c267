"""Whole networks of the catalogue's layers, trained on digits to a stated accuracy."""

import numpy as np
import pytest

from framework import (
    GRU,
    AdamOptimizer,
    Conv2D,
    CrossEntropy,
    Dense,
    Flatten,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Softmax,
    Tanh,
    Trainer,
)
from framework.data import load_digits
from framework.models import PositionalEncoding


def lenet():
    return Sequential(
        Reshape((1, 8, 8)),
        Conv2D(filters=6, kernel=3, padding="same"),
        Tanh(),
        MaxPool(window=2),
        Conv2D(filters=16, kernel=3),
        Tanh(),
        Flatten(),
        Dense(units=32, activation=Tanh()),
        Dense(units=10, activation=Softmax()),
    )


def gru():
    return Sequential(GRU(units=32), Dense(units=10, activation=Softmax()))


def transformer():
    return Sequential(
        Dense(units=16),
        PositionalEncoding(),
        Residual(LayerNorm(16), MultiHeadAttention(heads=4)),
        Residual(LayerNorm(16), Dense(16, 32, ReLU()), Dense(32, 16)),
        LayerNorm(16),
        Flatten(),
        Dense(units=10, activation=Softmax()),
    )


def images(x):
    return x.reshape(-1, 8, 8)


def lines(x):
    """Return the 8 lines of each image as 28 steps, each line several times."""
    return x.reshape(-1, 8, 8)[:, np.arange(28) * 8 // 28]


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize(
    ("make", "arrange", "rate", "epochs", "accuracy"),
    [
        pytest.param(lenet, images, 0.005, 6, 0.96, id="LeNet"),
        pytest.param(gru, lines, 0.01, 10, 0.94, id="GRU over 28 steps"),
        pytest.param(transformer, images, 0.005, 6, 0.95, id="transformer block"),
    ],
)
def test_digits_are_learnt(make, arrange, rate, epochs, accuracy):
    x, y = load_digits()
    order = np.random.default_rng(0).permutation(len(x))
    x, y = arrange(x[order] / 16), y[order]
    trainer = Trainer(
        loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=rate), epochs=epochs, batch_size=32, seed=0
    )
    run = trainer.fit(make(), (x[:1400], np.eye(10)[y[:1400]]))
    assert (run.model(x[1400:]).argmax(axis=1) == y[1400:]).mean() >= accuracy
