import copy
import pickle
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest

from framework import (
    Accuracy,
    Dense,
    Layer,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Tanh,
    Trainer,
    load,
    random_generator,
    save,
)
from framework.models import Initializer
from framework.models.initializers import Glorot


def test_layers_without_a_seed_differ_from_each_other():
    model = Sequential(Dense(4, 4), Dense(4, 4))
    assert not np.array_equal(model.layers[0].weights, model.layers[1].weights)


def test_layers_of_models_within_a_model_differ_too():
    model = Sequential(Sequential(Dense(4, 4), Dense(4, 4)), Sequential(Dense(4, 4), Dense(4, 4)))
    weights = [layer.weights for inner in model.layers for layer in inner.layers]
    assert all(not np.array_equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_a_layer_alone_is_drawn_from_seed_0():
    assert np.array_equal(Dense(4, 4).weights, Dense(4, 4, seed=0).weights)
    assert not np.array_equal(Dense(4, 4).weights, Dense(4, 4, seed=1).weights)


def test_numbers_are_a_pure_function_of_seed_and_place():
    model = Sequential(Dense(4, 3), Dense(3, 2), seed=7)
    for place, layer in enumerate(model.layers):
        expected = Glorot()(layer.weights.shape, random_generator(7, "initialize", place, 0))
        assert np.array_equal(layer.weights, expected)


@pytest.mark.parametrize("nested", [False, True])
def test_the_seed_of_the_model_decides(nested):
    def vector(seed):
        inner = [Dense(4, 4), Dense(4, 4)]
        return Sequential(*([Sequential(*inner)] if nested else inner), seed=seed).parameters.vector

    assert np.array_equal(vector(1), vector(1))
    assert np.array_equal(vector(None), vector(0))
    assert not np.array_equal(vector(1), vector(2))


def test_a_given_seed_wins():
    model = Sequential(Dense(4, 4, seed=5), Sequential(Dense(4, 4), seed=6), seed=9)
    assert np.array_equal(model.layers[0].weights, Dense(4, 4, seed=5).weights)
    assert np.array_equal(model.layers[1].layers[0].weights, Sequential(Dense(4, 4), seed=6).layers[0].weights)


def test_a_layer_that_has_numbers_keeps_them():
    layer = Dense(4, 4)
    before = layer.weights.copy()
    model = Sequential(Dense(4, 4), layer, seed=3)
    assert np.array_equal(model.layers[1].weights, before)


def test_threads_that_meet_at_first_use_share_the_numbers():
    draws, others = [], []

    class Meeting(Initializer):
        """While the first thread draws, a second one asks for the numbers too."""

        def __call__(self, shape, rng):
            draws.append(shape)
            if not others:
                others.append(Thread(target=lambda: model.parameters))
                others[0].start()
                others[0].join(0.1)  # it waits for the first
            return np.ones(shape)

    model = Sequential(Dense(2, 2, initializer=Meeting()))
    vector = model.parameters.vector
    others[0].join()
    assert draws == [(2, 2)]
    assert model.parameters.vector is vector


def test_the_order_of_first_use_does_not_matter():
    by_layer, by_model = (Sequential(Dense(4, 4), Sequential(Dense(4, 4)), seed=2) for _ in range(2))
    weights = by_layer.layers[1].layers[0].weights.copy()
    assert np.array_equal(by_model.parameters["1.0.weights"], weights)
    assert np.shares_memory(by_layer.layers[1].layers[0].weights, by_layer.parameters.vector)


def test_a_model_within_a_model_computes_the_same():
    layers = [Dense(3, 5, Tanh(), seed=1), Dense(5, 4, ReLU(), seed=2), Neuron(4, Sigmoid(), seed=3)]
    flat = Sequential(*layers)
    nested = Sequential(layers[0].copy(), Sequential(layers[1].copy(), Sequential(layers[2].copy())))
    x = np.random.default_rng(0).normal(size=(6, 3))
    gradients = [model.backward(np.ones_like(model.forward(x))) for model in (flat, nested)]
    assert np.array_equal(flat(x), nested(x))
    assert np.array_equal(*gradients)
    assert np.array_equal(flat.parameters.gradient, nested.parameters.gradient)
    assert list(nested.parameters)[-1] == "1.1.0.bias"


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ((), SettingsError, "give one layer or more"),
        ((Dense(2, 3), Dense(4, 1)), ShapeError, r"layer 0 gives \(3,\) but layer 1 takes \(4,\)"),
        ((Neuron(2), Dense(1, 1)), ShapeError, r"layer 0 gives \(\) but layer 1 takes \(1,\)"),
        (
            (Dense(2, 3), Dense(3, 1, dtype="float32")),
            SettingsError,
            r"one dtype; got float64 \(0 Dense\) and",
        ),
        ((Dense(2, 3), Accuracy()), SettingsError, r"'layers' must be of class Model or Activation; got Accuracy\("),
        ((Dense,), SettingsError, r"write Dense\(\.\.\.\) with its brackets"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, error, message):
    with pytest.raises(error, match=message):
        Sequential(*layers)


def test_what_it_tells_about_itself():
    model = Sequential(Dense(4, 8, ReLU()), Neuron(8, Sigmoid()))
    assert model.input_shape == (4,)
    assert model.output_shape == ()
    assert model.output_activation == Sigmoid()
    assert model.dtype == "float64"


def nested(depth):
    model = Dense(1, 1, seed=0)
    for _ in range(depth):
        model = Sequential(model)
    return model


@pytest.mark.share(1 / 3)
def test_models_nest_50_deep_and_no_deeper(tmp_path):
    data = np.ones((2, 1)), np.zeros((2, 1))
    run = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(nested(50), data)
    save(run, tmp_path / "run.safetensors")
    copies = [run.model.copy(), copy.deepcopy(run.model), pickle.loads(pickle.dumps(run.model))]
    for twin in (*copies, load(tmp_path / "run.safetensors").model):
        assert np.array_equal(twin(data[0]), run.model(data[0]))
    assert repr(Sequential.from_json(run.model.to_json())) == repr(run.model)
    with pytest.raises(
        SettingsError, match="Sequential: models may be nested 50 deep; put the layers into one Sequential"
    ):
        nested(51)


def test_training_does_not_go_back_through_first_layers_without_parameters():
    class Doubled(Layer):
        calls: ClassVar[list[str]] = []
        check = "off"

        @property
        def input_shape(self):
            return (3,)

        def apply(self, x, values, record):
            return 2 * x

        def apply_backward(self, gradient, values, record, gradients):
            self.calls.append("back")
            return 2 * gradient

    model = Sequential(Doubled(), Tanh(), Dense(3, 2))
    x, y = np.arange(12.0).reshape(4, 3) / 10, np.ones((4, 2))
    model.forward(x)
    MeanSquaredError().backward(model, y)
    assert not Doubled.calls
    found = model.parameters.gradients["2.weights"].copy()
    model.forward(x)
    back = model.backward(MeanSquaredError().gradient(model(x), y))
    np.testing.assert_array_equal(model.parameters.gradients["2.weights"], found)
    assert Doubled.calls == ["back"]
    delta = MeanSquaredError().gradient(model(x), y) @ model.parameters["2.weights"].T
    np.testing.assert_allclose(back, 2 * delta * (1 - np.tanh(2 * x) ** 2), rtol=1e-12)
