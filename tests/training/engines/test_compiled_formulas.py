"""Formulas reach a kernel as operations and numbers: names stay text, and what a formula reads is watched."""

import os

import numpy as np
import pytest
from compiled_pieces import PLAIN, RNG, X, Y, trainer
from kernels_of import kernel_of

from framework import (
    Activation,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    Identity,
    Neuron,
    Optimizer,
    Sequential,
    Softmax,
    Tanh,
)

pytestmark = pytest.mark.share(1 / 3)


class Odd(float):
    """A number whose repr is code."""

    def __repr__(self):
        return "__import__('os').environ.__setitem__('RAN_REPR', '1') or 2.0"


def test_names_and_reprs_never_become_code(monkeypatch):
    pytest.importorskip("llvmlite")
    for name in ("RAN_NAME", "RAN_REPR"):
        monkeypatch.delenv(name, raising=False)
    two = Odd(2.0)
    code = 'A"""\nimport os; os.environ["RAN_NAME"] = "1"\n"""'
    members = {"__call__": lambda _self, h: two * np.tanh(h) + 0.1 * h, "__module__": "own"}
    activation = type(Activation)(code, (Activation,), members)()
    model = Neuron(3, activation)
    assert trainer(loss=HalfSquaredError()).fit(model, (X, Y)).engine == "compiled"
    assert not {"RAN_NAME", "RAN_REPR"} & {*os.environ}
    for each in (model, Sequential(Dense(3, 3, activation), Neuron(3))):
        assert "RAN" not in kernel_of(each).text


def test_an_activation_as_a_layer_is_the_activation_of_the_layer_before():
    pytest.importorskip("llvmlite")
    apart = Sequential(Sequential(Dense(3, 2, seed=0), Tanh()), Dense(2, 3, seed=1), Softmax())
    inside = Sequential(Dense(3, 2, Tanh(), seed=0), Dense(2, 3, Softmax(), seed=1))
    assert kernel_of(apart, CrossEntropy()).text == kernel_of(inside, CrossEntropy()).text
    classes = RNG.integers(0, 3, len(X))
    runs = [trainer(loss=CrossEntropy(), epochs=3).fit(model, (X, classes)) for model in (apart, inside)]
    assert [run.engine for run in runs] == ["compiled", "compiled"]
    np.testing.assert_array_equal(*(run.model.parameters.vector for run in runs))


FACTOR = 1.0


class Reads(Optimizer):
    """An optimizer that reads a global."""

    def update(self, values, gradients, rate, step):
        values -= FACTOR * rate * gradients


class Bent(Activation):
    """An activation that reads a global."""

    def __call__(self, h):
        return np.tanh(FACTOR * h)

    def derivative(self, h):
        return FACTOR * (1.0 - np.tanh(FACTOR * h) ** 2)


class BentSlope(Activation):
    """An activation whose derivative alone reads a global."""

    check = "off"

    def __call__(self, h):
        return np.tanh(h)

    def derivative(self, h):
        return FACTOR * (1.0 - np.tanh(h) ** 2)


@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [(Identity(), Reads(learning_rate=0.1)), (Bent(), PLAIN), (BentSlope(), PLAIN)],
)
def test_a_later_fit_reads_a_changed_global(monkeypatch, activation, optimizer):
    pytest.importorskip("llvmlite")
    own = trainer(loss=HalfSquaredError(), optimizer=optimizer, epochs=3)
    own.fit(Neuron(3, activation), (X, Y))
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    runs = [made.fit(Neuron(3, activation), (X, Y)) for made in (own, own.replace(engine="numpy"))]
    assert [run.engine for run in runs] == ["compiled", "numpy"]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)


class Signed(Activation):
    sign: float

    def __call__(self, h):
        return np.tanh(h) + np.copysign(0.5, self.sign) * h


def test_settings_that_compare_as_equal_have_kernels_of_their_own():
    pytest.importorskip("llvmlite")
    data = RNG.normal(size=(12, 3)), RNG.normal(size=12)
    for sign in (0.0, -0.0):
        model = Neuron(3, Signed(sign=sign))
        runs = [
            trainer(loss=HalfSquaredError(), engine=engine).fit(model.copy(), data) for engine in ("compiled", "numpy")
        ]
        assert [run.engine for run in runs] == ["compiled", "numpy"]
        np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)
