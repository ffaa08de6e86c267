"""What the tests of the compiled engine share: data, a neuron, a trainer, and a cache of kernels of their own."""

import numpy as np
import pytest

from framework import BinaryCrossEntropy, Dense, Neuron, Sequential, SGDOptimizer, Sigmoid, Tanh, Trainer
from framework.training.verification import differences

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = (X[:, 0] > 0).astype(float)
NEURON = Neuron(3, Sigmoid())
DEEP = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
PLAIN = SGDOptimizer(learning_rate=0.1)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def trainer(**settings):
    settings = {"loss": BinaryCrossEntropy(), "optimizer": PLAIN, "batch_size": 8, "engine": "compiled"} | settings
    return Trainer(**settings)


def require_same(one, other):
    assert list(differences(one, other)) == []
