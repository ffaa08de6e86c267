"""What the tests of saving and going on share."""

import numpy as np

from framework import (
    Activation,
    BatchNorm,
    Dense,
    MeanSquaredError,
    Residual,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
)

X = np.arange(12.0).reshape(6, 2) % 5
Y = np.arange(6.0) % 3


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01, momentum=0.9), "batch_size": 4}
    return Trainer(**default | settings, callbacks=callbacks)


class Swish(Activation):
    beta: float = 1.0

    def __call__(self, h):
        return h / (1 + np.exp(-self.beta * h))


def network():
    return Sequential(Dense(2, 3, Swish(beta=2.0)), Residual(Dense(3, 3, Tanh()), BatchNorm(3)), Dense(3, 1), seed=1)
