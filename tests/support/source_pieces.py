"""Trainings for the tests of sources: their bits must not depend on where the rows come from."""

import numpy as np

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Tanh,
    Trainer,
)


def numbers(rows):
    """Return x (rows, 3) and the classes of a line through it."""
    x = np.random.default_rng(0).standard_normal((rows, 3))
    return x, (x @ [1.0, 2.0, -1.0] > 0).astype(float)


def classifier(data, **settings):
    """Train a network on two classes."""
    model = Sequential(Dense(units=4, activation=ReLU()), Neuron(activation=Sigmoid()))
    return Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(), epochs=2, **settings).fit(model, data)


def regression(data, model=None, **settings):
    """Train a network on one number."""
    default = {"optimizer": SGDOptimizer(learning_rate=0.05, momentum=0.9), "batch_size": 8, "epochs": 2}
    trainer = Trainer(loss=MeanSquaredError(), **default | settings)
    return trainer.fit(model or Sequential(Dense(units=3, activation=Tanh()), Neuron()), data)


def bits(run):
    return run.model.parameters.vector.tobytes(), run.history.column("loss")


class Squares:
    """A Dataset of several windows, whose batches span them."""

    def __len__(self):
        return 70_000

    def read(self, start, stop):
        x = np.arange(start, stop)[:, None] / 7e4
        return x, x[:, 0] ** 2, 1.0 + x[:, 0]
