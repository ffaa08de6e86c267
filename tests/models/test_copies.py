"""Copies, pickles and owners: the numbers of a model are its own."""

import copy
import pickle

import numpy as np
import pytest

from framework import Dense, HalfSquaredError, Neuron, Sequential, SGDOptimizer, Tanh, Trainer
from framework.base import UsageError

X, Y = np.random.default_rng(0).normal(size=(5, 3)), np.zeros((5, 2))
COPIES = {
    "copy": lambda model: model.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}
EACH_COPY = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)


def make_neuron():
    return Neuron(3, Tanh(), seed=4)


def make_dense():
    return Dense(3, 2, Tanh())


def make_sequential():
    return Sequential(Dense(3, 4, Tanh()), Sequential(Dense(4, 4, Tanh()), Dense(4, 2)), seed=3)


def step(model):
    optimizer = SGDOptimizer(model, learning_rate=0.5)
    model.forward(X)
    HalfSquaredError().backward(model, np.zeros(np.shape(model(X))))
    optimizer.step()


@EACH_COPY
@pytest.mark.parametrize(
    "part", [lambda model: model, lambda model: model[1], lambda model: model[2]], ids=["model", "layer", "layers"]
)
def test_a_model_of_open_sizes_and_its_layers_can_be_copied(part, duplicate):
    given = Dense.from_weights(np.ones((3, 3)))
    model = Sequential(Dense(units=3), given, Sequential(Dense(units=2), Dense(units=2)))
    twin = duplicate(part(model))
    assert repr(twin) == repr(part(model))
    if isinstance(twin, Dense):
        assert np.array_equal(twin.weights, given.weights)
    elif len(twin) == 3:
        assert np.array_equal(twin[1].weights, np.ones((3, 3)))
        assert twin.copy().settle((3,)) == (2,)
        trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
        runs = [trainer.fit(one, (X, Y)) for one in (twin, model)]
        assert np.array_equal(*(run.model.parameters.vector for run in runs))


@EACH_COPY
@pytest.mark.parametrize("make", [make_neuron, make_dense, make_sequential])
def test_a_copy_has_the_numbers_and_goes_its_own_way(make, duplicate):
    model = make()
    model.parameters.vector[:] += 1.0
    name = list(model.parameters)[-1]
    model.parameters.freeze(name)
    model.columns, model.target_columns = ["a", "b", "c"], ["d"]
    twin = duplicate(model)
    before = model.parameters.vector.copy()
    assert repr(twin) == repr(model)
    assert np.array_equal(twin.parameters.vector, before)
    assert twin.parameters.frozen == (name,)
    assert (twin.columns, twin.target_columns) == (("a", "b", "c"), ("d",))
    step(twin)
    assert not np.array_equal(twin.parameters.vector, before)
    assert np.array_equal(model.parameters.vector, before)


@EACH_COPY
@pytest.mark.parametrize("make", [make_neuron, make_dense])
def test_a_step_of_a_copy_moves_its_weights(make, duplicate):
    twin = duplicate(make())
    before = twin.weights.copy()
    step(twin)
    assert not np.array_equal(twin.weights, before)
    assert np.shares_memory(twin.weights, twin.parameters.vector)


@EACH_COPY
def test_a_step_of_a_copied_model_moves_the_weights_of_its_layers(duplicate):
    twin = duplicate(make_sequential())
    layers = [twin.layers[0], *twin.layers[1].layers]
    before = [layer.weights.copy() for layer in layers]
    step(twin)
    for layer, weights in zip(layers, before, strict=True):
        assert not np.array_equal(layer.weights, weights)
        assert np.shares_memory(layer.weights, twin.parameters.vector)


@EACH_COPY
def test_a_copy_before_first_use_draws_the_same_numbers(duplicate):
    model = make_sequential()
    twin = duplicate(model)
    assert np.array_equal(twin.parameters.vector, model.parameters.vector)


@EACH_COPY
def test_a_copied_layer_of_a_model_stands_alone(duplicate):
    model = make_sequential()
    twin = duplicate(model.layers[0])
    assert np.array_equal(twin.weights, model.layers[0].weights)
    before = model.parameters.vector.copy()
    Sequential(twin)  # it may join another model
    step(twin)
    assert np.array_equal(model.parameters.vector, before)


@EACH_COPY
def test_a_copy_may_be_trained_while_the_original_waits_for_backward(duplicate):
    model, undisturbed = make_dense(), make_dense()
    for one in (model, undisturbed):
        a = one.forward(X)
    step(duplicate(model))
    for one in (model, undisturbed):
        one.backward(np.ones_like(a))
    assert model.parameters.gradient.any()
    assert np.array_equal(model.parameters.gradient, undisturbed.parameters.gradient)


def test_a_second_owner_is_refused():
    layer = Dense(3, 3)
    model = Sequential(layer)
    with pytest.raises(UsageError, match=r"layer 1 already belongs to a model; give layer\.copy\(\)"):
        Sequential(Dense(3, 3), layer)
    Sequential(Dense(3, 3), layer.copy())
    assert np.shares_memory(layer.weights, model.parameters.vector)


def test_a_layer_twice_in_one_model_is_refused():
    layer = Dense(3, 3)
    with pytest.raises(UsageError, match=r"layer\.copy\(\)"):
        Sequential(layer, layer)
    Sequential(layer)  # the refusal left it free


def test_a_layer_of_a_model_within_a_model_is_owned_too():
    layer = Dense(3, 3)
    inner = Sequential(layer)
    Sequential(inner)
    for owned in (layer, inner):
        with pytest.raises(UsageError, match=r"layer\.copy\(\)"):
            Sequential(owned)


def test_a_layer_with_a_bound_optimizer_is_refused():
    layer = Dense(3, 3)
    SGDOptimizer(layer, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"optimizer is bound to layer 0; give layer\.copy\(\)"):
        Sequential(layer)
    Sequential(layer.copy())


def test_moving_in_keeps_the_numbers_and_what_is_frozen():
    layer = Dense.from_weights(np.ones((3, 3)), train_bias=False)
    model = Sequential(Dense(3, 3), layer)
    assert model.parameters["1.weights"].tolist() == np.ones((3, 3)).tolist()
    assert model.parameters.frozen == ("1.bias",)
    layer.parameters.unfreeze()
    assert model.parameters.frozen == ()


def test_replace_keeps_the_numbers_of_the_layers():
    model = make_sequential()
    model.parameters.vector[:] = 2.0
    twin = model.replace(seed=9)
    assert np.all(twin.parameters.vector == 2.0)
    assert not np.shares_memory(twin.parameters.vector, model.parameters.vector)
