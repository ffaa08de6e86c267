"""Own layers: what a subclass writes, and what it gets."""

import numpy as np
import pytest

from framework import (
    Dense,
    HalfSquaredError,
    Layer,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Trainer,
    random_generator,
)
from framework.base import UsageError
from framework.models import Constant


class Scale(Layer):
    units: int
    start: float = 1.0

    def shapes(self):
        return {"scale": (self.units,)}

    def initializers(self):
        return {"scale": Constant(value=self.start)}

    def apply(self, x, values, record):
        record["x"] = x
        return x * values["scale"]

    def apply_backward(self, gradient, values, record, gradients):
        np.sum(gradient * record["x"], axis=0, out=gradients["scale"])
        return gradient * values["scale"]


class Dropout(Layer):
    rate: float = 0.5

    def shapes(self):
        return {}

    def apply(self, x, values, record):
        if not record.training:
            return x
        if record.key is None:
            raise UsageError("Dropout needs a key: forward(x, key=(seed, epoch, step))")
        seed, *counters = record.key
        record["mask"] = random_generator(seed, "dropout", *counters).random(x.shape) >= self.rate
        return x * record["mask"] / (1 - self.rate)

    def apply_backward(self, gradient, values, record, gradients):
        return gradient * record["mask"] / (1 - self.rate)


class Centre(Layer):
    """Keeps a running mean in a buffer."""

    units: int

    def shapes(self):
        return {}

    def initial_buffers(self):
        return {"mean": np.zeros(self.units)}

    def apply(self, x, values, record):
        if record.training:
            self.buffers["mean"][:] = 0.5 * self.buffers["mean"] + 0.5 * x.mean(axis=0)
        return x - self.buffers["mean"]

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


X = np.random.default_rng(0).normal(size=(6, 3))


def test_an_own_layer_predicts_alone_for_samples_and_batches():
    layer = Scale(units=3, start=2.0)
    assert layer([1.0, 2.0, 3.0]).tolist() == [2.0, 4.0, 6.0]
    assert np.array_equal(layer(X), 2 * X)


def test_an_own_layer_trains_inside_a_model():
    model = Sequential(Dense(3, 4, ReLU()), Scale(units=4), Dense(4, 1))
    y = X.sum(axis=1, keepdims=True)
    optimizer = SGDOptimizer(model, learning_rate=0.05)
    losses = []
    for _ in range(100):
        model.forward(X)
        losses.append(HalfSquaredError().backward(model, y))
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]
    assert np.any(model.layers[1].parameters["scale"] != 1.0)


def test_gradients_of_an_own_layer_reach_the_layers_before_it():
    model = Sequential(Dense(3, 3, seed=1), Scale(units=3, start=2.0))
    model.forward(X)
    gradient = model.backward(np.ones((6, 3)))
    np.testing.assert_allclose(gradient, np.tile(2.0 * model.layers[0].weights.sum(axis=1), (6, 1)))


@pytest.mark.parametrize("key", [3, "abc", [0, 0, 1], 0.5])
def test_a_key_is_a_tuple(key):
    for model in (Dropout(), Sequential(Dropout(), Dropout())):
        with pytest.raises(UsageError, match=r"'key' must be a tuple, \(seed, epoch, step\); got"):
            model.forward(np.ones((2, 3)), key=key)


def test_a_key_tells_random_layers_and_steps_apart():
    model = Sequential(Dropout(), Dropout())
    one = np.ones((50, 8))

    def masks(key):
        model.forward(one, key=key)
        done = model.last_pass()
        return [record["mask"].copy() for record in done.workspace[done.passes.forward].records.values()]

    first, second = masks((0, 0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(masks((0, 0, 1))[0], first)
    assert not np.array_equal(masks((0, 0, 2))[0], first)
    assert not np.array_equal(masks((1, 0, 1))[0], first)


def test_a_layer_that_needs_a_key_says_so_and_prediction_needs_none():
    with pytest.raises(UsageError, match="needs a key"):
        Dropout().forward(X)
    assert np.array_equal(Dropout()(X), X)


def test_the_trainer_gives_the_key():
    model = Sequential(Dropout(rate=0.2), Dense(3, 1, seed=1))
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, batch_size=2)
    twin = model.copy()
    for each in (model, twin):
        trainer.fit(each, (X, X.sum(axis=1)))
    assert np.array_equal(model.parameters.vector, twin.parameters.vector)


def test_a_layer_that_hands_on_its_input_does_not_hand_out_the_callers_array():
    for x in (X.copy(), X[0].copy()):
        prediction = Dropout()(x)
        prediction[...] = 0
        assert x.any()


def test_buffers_are_saved_numbers_that_no_optimizer_sees():
    model = Sequential(Centre(units=3), Dense(3, 1))
    model.forward(X)
    assert list(model.buffers) == ["0.mean"]
    np.testing.assert_allclose(model.buffers["0.mean"], 0.5 * X.mean(axis=0))
    twin = model.copy()
    model.forward(X)
    np.testing.assert_allclose(twin.buffers["0.mean"], 0.5 * X.mean(axis=0))
    np.testing.assert_allclose(twin.layers[0].buffers["mean"], twin.buffers["0.mean"])
    assert model.parameters.vector.size == 4


class InFloat64(Scale):
    def apply(self, x, values, record):
        record["x"] = x
        return x * values["scale"] * np.ones(x.shape)

    def apply_backward(self, gradient, values, record, gradients):
        return super().apply_backward(gradient * np.ones(gradient.shape), values, record, gradients)


@pytest.mark.parametrize("x", [X, X[0]], ids=["batch", "sample"])
def test_an_own_layer_that_computes_in_float64_gives_float32(x):
    layer = InFloat64(units=3, dtype="float32")
    a = layer.forward(x)
    assert a.dtype == layer(x).dtype == np.float32
    assert layer.backward(np.ones_like(a)).dtype == np.float32
    layer.forward(x)
    HalfSquaredError().backward(layer, np.zeros_like(a))
    assert layer.parameters.gradient.any()


def test_settings_json_and_repr_are_those_of_a_component():
    layer = Scale(units=3, start=0.5, seed=2)
    assert repr(layer) == "Scale(units=3, start=0.5, seed=2)"
    twin = Layer.from_json(layer.to_json())
    assert repr(twin) == repr(layer)
    with pytest.raises(SettingsError, match="unknown setting 'strat'; did you mean 'start'"):
        Scale(units=3, strat=0.5)


def test_an_incomplete_layer_says_what_to_write():
    class Half(Layer):
        def shapes(self):
            return {}

    with pytest.raises(SettingsError, match="Half is not complete: write 'formula' in the class"):
        Half()
