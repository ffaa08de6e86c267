"""What a formula reads besides its arguments counts as it is when a training begins."""

import types
from typing import ClassVar

import numpy as np
import pytest

from framework import (
    Activation,
    Dense,
    DerivativeError,
    HalfSquaredError,
    Layer,
    Loss,
    Neuron,
    Sequential,
    SGDOptimizer,
    Trainer,
)
from framework.models import Composite, Regularizer

H = np.array([0.1, -0.2, 0.3])
X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.ones(4)
scale = 2.0
held = types.SimpleNamespace(factor=2.0)


@pytest.fixture(autouse=True)
def _restore():
    yield
    globals().update(scale=2.0)
    held.factor = 2.0
    Attribute.steep = 2.0


class Scaled(Activation):
    def __call__(self, h):
        return np.tanh(scale * h)


class Attribute(Activation):
    steep: ClassVar[float] = 2.0

    def __call__(self, h):
        return np.tanh(self.steep * h)


class Held(Activation):
    def __call__(self, h):
        return np.tanh(held.factor * h)


class ScaledLoss(Loss):
    def value(self, prediction, target):
        return scale * (prediction - target) ** 2


class SinglyScaledLoss(Loss):
    """A loss that reads a global in float32 alone."""

    def value(self, prediction, target):
        return (scale if prediction.dtype == np.float32 else 2.0) * (prediction - target) ** 2


class ScaledLayer(Layer):
    units: int = 3

    def shapes(self):
        return {"w": (self.units,)}

    def formula(self, x, w):
        return x * (w + scale)


class ScaledRegularizer(Regularizer):
    strength: float = 1.0

    def value(self, values):
        return np.sum(scale * values**2)


class Around(Composite):
    body: Dense

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        return self.forward_child("body", x * scale, record)


class Slope(Activation):
    """An activation whose written derivative reads a global."""

    check = "off"

    def __call__(self, h):
        return np.tanh(h)

    def derivative(self, h):
        return scale * (1.0 - np.tanh(h) ** 2)


def trainer(**settings):
    return Trainer(
        **{"loss": HalfSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1), "engine": "numpy"} | settings
    )


CHANGES = {"scale": lambda: globals().update(scale=3.0)}
CHANGES["attribute"] = lambda: setattr(Attribute, "steep", 3.0)
CHANGES["held"] = lambda: setattr(held, "factor", 3.0)
MODELS = {
    "an activation": ("scale", lambda: Neuron(3, Scaled(), seed=1), {}),
    "a written derivative": ("scale", lambda: Neuron(3, Slope(), seed=1), {}),
    "a class attribute": ("attribute", lambda: Neuron(3, Attribute(), seed=1), {}),
    "an object": ("held", lambda: Neuron(3, Held(), seed=1), {}),
    "a layer": ("scale", lambda: Sequential(ScaledLayer(seed=2), Neuron(3, seed=1)), {}),
    "a composite": ("scale", lambda: Sequential(Around(body=Dense(3, 3, seed=2)), Neuron(3, seed=1)), {}),
    "a loss": ("scale", lambda: Neuron(3, seed=1), {"loss": ScaledLoss()}),
    "a regularizer": ("scale", lambda: Neuron(3, seed=1), {"regularizers": (ScaledRegularizer(),)}),
}


def test_a_fit_traces_a_loss_again_in_the_dtype_of_the_model():
    def fit():
        own, model = trainer(loss=SinglyScaledLoss()), Neuron(3, seed=1, dtype="float32")
        run = own.fit(model, (X, Y), (X, Y))
        return model.parameters.vector, run.history[-1]["val_loss"], own.evaluate(model, (X, Y))["loss"]

    before = fit()
    CHANGES["scale"]()
    after = fit()
    assert abs(after[0] - before[0]).max() > 1e-3
    assert after[1] == after[2]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("engine", ["numpy", "compiled", "jax"])
@pytest.mark.filterwarnings("ignore:engine=.*falling back to NumPy:UserWarning")
def test_each_fit_traces_the_formulas_again(name, engine):
    pytest.importorskip({"numpy": "numpy", "compiled": "llvmlite", "jax": "jax"}[engine])
    value, make, settings = MODELS[name]
    used, own = make(), trainer(engine=engine, **settings)
    own.fit(used, (X, Y))  # its own model and an equal one are known now
    CHANGES[value]()
    vectors = []
    for model in (used, make()):
        model.parameters.vector = make().parameters.vector
        own.fit(model, (X, Y))
        vectors.append(model.parameters.vector)
    by_hand, loss = make(), own.loss.replace()  # whose graphs are traced now, by hand
    by_hand.forward(X)
    loss.backward(by_hand, Y)
    for regularizer in own.regularizers:
        regularizer.replace().backward(by_hand)
    expected = by_hand.parameters.vector - 0.1 * by_hand.parameters.gradient
    for vector in vectors:
        np.testing.assert_allclose(vector, expected, rtol=1e-9)


def test_a_prediction_follows_the_fit_and_a_copy_is_traced_anew():
    model = Sequential(ScaledLayer(seed=2), Neuron(3, seed=1))
    before = model(X)
    globals()["scale"] = 3.0
    assert np.array_equal(model(X), before)  # by hand, a formula is traced once
    after = model.copy()(X)
    assert not np.allclose(after, before)
    trainer(optimizer=SGDOptimizer(learning_rate=1e-12)).fit(model, (X, Y))
    np.testing.assert_allclose(model(X), after, rtol=1e-9)


def test_resume_traces_the_formulas_again():
    model = Neuron(3, Scaled(), seed=1)
    run = trainer().fit(model, (X, Y), epochs=1)
    globals()["scale"] = 3.0
    twin = model.copy()
    trainer().resume(run, (X, Y), epochs=1)
    trainer().fit(twin, (X, Y), epochs=1)
    np.testing.assert_allclose(model.parameters.vector, twin.parameters.vector, rtol=1e-12)


def test_a_loss_by_hand_is_traced_again_after_a_fit():
    model, loss = Neuron(3, seed=1), ScaledLoss()
    for factor in (2.0, 3.0):
        globals()["scale"] = factor
        trainer(loss=loss).fit(model, (X, Y))
        prediction = model.forward(X)
        assert loss.backward(model, Y) == pytest.approx(factor * np.mean((prediction - 1.0) ** 2))


class Written(Activation):
    def __call__(self, h):
        return np.tanh(scale * h)

    def derivative(self, h):
        return 2.0 * (1.0 - np.tanh(2.0 * h) ** 2)


class WrittenLoss(Loss):
    def value(self, prediction, target):
        return scale * (prediction - target) ** 2

    def slope(self, prediction, target):
        return 4.0 * (prediction - target)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize(("activation", "loss"), [(Written(), HalfSquaredError()), (Scaled(), WrittenLoss())])
def test_a_written_derivative_is_checked_again_when_a_global_has_changed(activation, loss, engine):
    own = trainer(loss=loss, engine=engine)
    model = Neuron(3, activation)
    own.fit(model, (X, Y))
    globals()["scale"] = 3.0
    before = model.parameters.vector.copy()
    for fitted in (lambda: model, lambda: Neuron(3, activation.replace())):
        with pytest.raises(DerivativeError, match=r"Written.* is wrong at"):
            own.fit(fitted(), (X, Y))
    assert np.array_equal(model.parameters.vector, before)
    globals()["scale"] = 2.0
    own.fit(model, (X, Y))
