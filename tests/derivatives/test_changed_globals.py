"""What a formula reads besides its arguments may not change after it was traced, in loops of one's own too."""

import os
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
    Regularizer,
    SGDOptimizer,
    Trainer,
    on,
)
from framework.graph.reads import Reads

H = np.array([0.1, -0.2, 0.3])
X = np.ones((4, 3))
scale = 2.0
shape = 1.0
held = types.SimpleNamespace(factor=2.0, mean=0.0)


@pytest.fixture(autouse=True)
def _restore():
    yield
    globals().update(scale=2.0, shape=1.0)
    held.factor = 2.0


class Scaled(Activation):
    def __call__(self, h):
        return np.tanh(scale * h)


class ScaledLoss(Loss):
    def value(self, prediction, target):
        return scale * (prediction - target) ** 2


class ScaledLayer(Layer):
    def formula(self, x):
        return x * scale


class ScaledRegularizer(Regularizer):
    strength: float = 1.0

    def value(self, values):
        return np.sum(scale * values**2)


def neuron_step(model):
    model.forward(H)
    HalfSquaredError().backward(model, 1.0)


def regularized(regularizer, model):
    neuron_step(model)
    regularizer.backward(model)


USES = {
    "an array": (Scaled(), lambda c: c.derivative(H)),
    "a number": (Scaled(), lambda c: c.derivative(0.5)),
    "a number and its output": (Scaled(), lambda c: c.derivative_at(np.float64(0.5), np.float64(0.5))),
    "a gradient": (Scaled(), lambda c: c.backward(H, H, c(H))),
    "a loss": (ScaledLoss(), lambda c: c.slope(H, H + 1)),
    "a loss of a number": (ScaledLoss(), lambda c: c.slope(np.float64(1), np.float64(2))),
    "a layer": (ScaledLayer(), lambda c: c.forward(X)),
    "a prediction": (ScaledLayer(), lambda c: c(X)),
    "an activation in a neuron": (Neuron(3, Scaled()), neuron_step),
    "an activation in a dense layer": (Dense(3, 2, Scaled()), lambda c: c(X)),
    "a regularizer": (ScaledRegularizer(), lambda c: regularized(c, Neuron(3))),
}


@pytest.mark.parametrize(("component", "use"), USES.values(), ids=USES)
def test_a_changed_global_raises_at_each_use(component, use):
    use(component)
    globals()["scale"] = 3.0
    for _ in range(2):
        with pytest.raises(DerivativeError, match=r"global 'scale' has changed since the formula was traced"):
            use(component)
    globals()["scale"] = float("2.0")  # another object of the same value
    use(component)
    use(component)


def test_fit_and_copies_trace_the_formula_again():
    model = Neuron(3, Scaled(), seed=1)
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=1)
    trainer.fit(model, (X, np.ones(4)))
    globals()["scale"] = 3.0
    activation = Scaled()
    assert np.allclose(activation.derivative(H), 3 * (1 - np.tanh(3 * H) ** 2))
    trainer.fit(model, (X, np.ones(4)))
    neuron_step(model)


@pytest.mark.parametrize("engine", ["numpy", "jax"])
def test_a_metric_follows_a_global_that_changes_while_training(engine):
    if engine == "jax":
        pytest.importorskip("jax")

    @on("epoch_end")
    def change(_run):
        globals()["scale"] = 200.0

    metric, optimizer = ScaledLoss(), SGDOptimizer(learning_rate=1e-9)
    trainer = Trainer(
        loss=HalfSquaredError(), optimizer=optimizer, metrics=[metric], epochs=2, callbacks=[change], engine=engine
    )
    data = X, np.zeros(4)
    first, second = trainer.fit(Neuron.from_weights([1.0, 1.0, 1.0]), data, data).history
    assert first["val_scaled_loss"] * 100 == pytest.approx(second["val_scaled_loss"])
    assert second["scaled_loss"] == pytest.approx(second["val_scaled_loss"])


def test_a_loss_by_hand_is_traced_again_after_a_fit():
    model, loss = Neuron(3, seed=1), ScaledLoss()
    for factor in (2.0, 3.0):
        globals()["scale"] = factor
        Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (X, np.ones(4)))
        prediction = model.forward(X)
        assert loss.backward(model, np.ones(4)) == pytest.approx(factor * np.mean((prediction - 1.0) ** 2))


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


@pytest.mark.parametrize(("activation", "loss"), [(Written(), HalfSquaredError()), (Scaled(), WrittenLoss())])
def test_a_written_derivative_is_checked_again_when_a_global_has_changed(activation, loss):
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.01))
    model = Neuron(3, activation)
    trainer.fit(model, (X, np.ones(4)))
    globals()["scale"] = 3.0
    before = model.parameters.vector.copy()
    for fitted in (lambda: model, lambda: Neuron(3, activation.replace())):
        with pytest.raises(DerivativeError, match=r"Written.* is wrong at"):
            trainer.fit(fitted(), (X, np.ones(4)))
    assert np.array_equal(model.parameters.vector, before)
    globals()["scale"] = 2.0
    trainer.fit(model, (X, np.ones(4)))


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_a_derivative_that_has_become_wrong_is_refused_at_each_fit_of_each_equal_activation(engine):
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), engine=engine)
    models = [Neuron(3, Written()) for _ in range(2)]  # the check of the first one's is that of both
    for model in models:
        trainer.fit(model, (X, np.ones(4)))
    globals()["scale"] = 3.0
    for model in models * 2:
        with pytest.raises(DerivativeError, match=r"Written.* is wrong at"):
            trainer.fit(model, (X, np.ones(4)))
    globals()["scale"] = 2.0
    for model in models:
        trainer.fit(model, (X, np.ones(4)))


@pytest.mark.parametrize(
    "read", [lambda: os.environ["SCALE"], lambda: os.getenv("SCALE", "")], ids=["environ", "getenv"]
)
def test_environment_variables_count_too(read, monkeypatch):
    monkeypatch.setenv("SCALE", "2")
    activation = Activation.of(lambda h: np.tanh(float(read()) * h))
    model = Neuron(3, activation)
    callback = on("epoch_end")(lambda _: monkeypatch.setenv("SCALE", "3"))
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), callbacks=[callback])
    with pytest.raises(DerivativeError, match=r"environ' has changed while training"):
        trainer.fit(model, (X, np.ones(4)), epochs=2)
    trainer.fit(model, (X, np.ones(4)), epochs=1)
    assert np.allclose(activation.derivative(H), 3 * (1 - np.tanh(3 * H) ** 2))


def test_closures_class_attributes_and_objects_count_too():
    factor = 2.0

    class Attribute(Activation):
        steep: ClassVar[float] = 2.0

        def __call__(self, h):
            return np.tanh(self.steep * h)

    def change_closure():
        nonlocal factor
        factor = 3.0

    changes = {
        "closure variable 'factor'": (Activation.of(lambda h: np.tanh(factor * h)), change_closure),
        "class attribute 'steep'": (Attribute(), lambda: setattr(Attribute, "steep", 3.0)),
        "'held.factor'": (Activation.of(lambda h: np.tanh(held.factor * h)), lambda: setattr(held, "factor", 3.0)),
    }
    for name, (activation, change) in changes.items():
        activation.derivative(H)
        change()
        with pytest.raises(DerivativeError, match=name):
            activation.derivative(H)


def test_a_global_with_the_name_of_an_attribute_is_not_read():
    activation = Activation.of(lambda h: h / h.shape[-1])
    before = activation.derivative(H)
    globals()["shape"] = 2.0
    assert np.array_equal(activation.derivative(H), before)


def test_a_formula_that_reads_nothing_leaves_nothing_to_watch():
    class Swish(Activation):
        def __call__(self, h):
            return h / (1 + np.exp(-h))

    reads = Reads([Swish()._formula], Swish)
    assert (reads.values, reads.bound) == ({}, [])
