"""A small run that several tests train: data of eleven rows in batches of 4, 4 and 3, a network, a trainer."""

import numpy as np

from framework import Accuracy, BinaryCrossEntropy, Dense, ReLU, Sequential, SGDOptimizer, Sigmoid, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(11, 2))
Y = (X @ [1.0, -2.0] > 0).astype(float)
HELD_OUT = (RNG.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1]))
EPOCHS = 3


def recipe(**settings):
    default = {
        "loss": BinaryCrossEntropy(),
        "optimizer": SGDOptimizer(learning_rate=0.1, momentum=0.9),
        "epochs": EPOCHS,
        "batch_size": 4,
        "metrics": [Accuracy()],
    }
    return Trainer(**default | settings)


def network():
    return Sequential(Dense(2, 3, ReLU()), Dense(3, 1, Sigmoid()), seed=1)
