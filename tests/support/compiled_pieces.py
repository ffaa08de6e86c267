"""Pieces of the tests of the compiled engine: data, a neuron, a trainer, formulas without a kernel."""

import numpy as np

from framework import BinaryCrossEntropy, Dense, Neuron, Sequential, SGDOptimizer, Sigmoid, Tanh, Trainer
from framework.models import Regularizer
from framework.training.verification import differences

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = (X[:, 0] > 0).astype(float)
NEURON = Neuron(3, Sigmoid())
DEEP = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
PLAIN = SGDOptimizer(learning_rate=0.1)


class Branched(SGDOptimizer):
    """A kernel cannot make its update, which depends on the number of the step."""

    def update(self, values, gradients, rate, step, *memory):
        values -= rate * gradients if step < 3 else 0.5 * rate * gradients


class Group(Regularizer):
    """A kernel cannot compute its slope, which depends on all numbers of a parameter."""

    def value(self, values):
        return np.sqrt(np.sum(values**2) + 1e-3)


def trainer(**settings):
    settings = {"loss": BinaryCrossEntropy(), "optimizer": PLAIN, "batch_size": 8, "engine": "compiled"} | settings
    return Trainer(**settings)


def require_same(one, other):
    assert list(differences(one, other)) == []
