"""Optimizers as recipes and as bound objects: settings, copies, equality."""

import copy
import math
import pickle

import numpy as np
import pytest

from framework import (
    ExponentialSchedule,
    HalfSquaredError,
    Neuron,
    Optimizer,
    SettingsError,
    SGDOptimizer,
    UsageError,
)

EACH_COPY = pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)


def made(**settings):
    neuron = Neuron.from_weights(np.ones(3))
    return neuron, SGDOptimizer(neuron, **settings)


def step(model, optimizer, gradient):
    model.parameters.gradient[:] = gradient
    optimizer.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0}, "'learning_rate' must be greater than 0"),
        ({"learning_rate": -0.1}, "'learning_rate' must be greater than 0"),
        ({"learning_rate": math.nan}, "'learning_rate' must be a finite number"),
        ({"learning_rate": "0.1"}, "'learning_rate' must be a valid number or Schedule"),
        ({"learning_rate": True}, "'learning_rate' must be a valid number"),
        ({"learning_rate": 0.1, "momentum": 1.0}, "'momentum' must be less than 1"),
        ({"learning_rate": 0.1, "momentum": -0.1}, "'momentum' must be greater than or equal to 0"),
        ({"learning_rate": 0.1, "nesterov": True}, "'nesterov' needs momentum"),
        ({"learning_rate": 0.1, "clip_norm": 0}, "'clip_norm' must be greater than 0"),
        ({"learning_rate": 0.1, "momentun": 0.9}, "unknown setting 'momentun'; did you mean 'momentum'"),
        ({}, "'learning_rate' is missing"),
    ],
)
def test_impossible_settings_are_refused_unbound_and_bound(settings, message):
    for arguments in ((), (Neuron(2),)):
        with pytest.raises(SettingsError, match=message):
            SGDOptimizer(*arguments, **settings)


def test_the_model_comes_first_and_settings_by_name():
    with pytest.raises(SettingsError, match=r"argument 'model' must be a model; got 0\.1; settings go by name"):
        SGDOptimizer(0.1)


def test_an_unbound_optimizer_is_a_frozen_recipe():
    recipe = SGDOptimizer(learning_rate=0.1)
    with pytest.raises(SettingsError, match="frozen"):
        recipe.learning_rate = 0.2
    for use in (recipe.step, lambda: recipe.steps):
        with pytest.raises(UsageError, match=r"bound to no model: write SGDOptimizer\(model, \.\.\.\)"):
            use()
    assert hash(recipe) == hash(SGDOptimizer(learning_rate=0.1))


def test_bind_gives_working_copies_with_memory_of_their_own():
    recipe = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    models = [Neuron.from_weights([1.0]), Neuron.from_weights([1.0])]
    first, second = map(recipe.bind, models)
    step(models[0], first, 1.0)
    assert not second.binding.memory["velocity"].any()
    assert (first.steps, second.steps) == (1, 0)
    assert first == second == recipe


def test_settings_of_a_bound_optimizer_are_validated_on_assignment():
    neuron, optimizer = made(learning_rate=0.1)
    optimizer.learning_rate = np.float32(0.5)
    step(neuron, optimizer, 1.0)
    assert neuron.weights.tolist() == [0.5] * 3
    optimizer.learning_rate = ExponentialSchedule(initial=0.25)
    for name, value in (("learning_rate", -1), ("momentum", 1.0), ("nesterov", True)):
        with pytest.raises(SettingsError, match=name):
            setattr(optimizer, name, value)
    with pytest.raises(SettingsError, match="no setting 'momentun'; did you mean 'momentum'"):
        optimizer.momentun = 0.9
    assert optimizer == SGDOptimizer(learning_rate=ExponentialSchedule(initial=0.25))


def test_a_bound_optimizer_shows_its_settings_only_and_has_no_hash():
    _, optimizer = made(learning_rate=0.1)
    assert repr(optimizer).startswith("SGDOptimizer(learning_rate=0.1,")
    assert Optimizer.from_json(optimizer.to_json()) == optimizer
    with pytest.raises(TypeError, match="unhashable"):
        hash(optimizer)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_a_copied_optimizer_goes_on_with_a_model_of_its_own(duplicate):
    neuron, optimizer = made(learning_rate=0.1, momentum=0.9)
    step(neuron, optimizer, 1.0)
    twin = duplicate(optimizer)
    before = neuron.parameters.vector.copy()
    step(twin.binding.model, twin, 1.0)
    assert np.array_equal(neuron.parameters.vector, before)
    step(neuron, optimizer, 1.0)
    assert np.array_equal(twin.binding.model.parameters.vector, neuron.parameters.vector)
    assert twin.steps == 2
    assert duplicate(SGDOptimizer(learning_rate=0.1)) == SGDOptimizer(learning_rate=0.1)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_model_and_optimizer_copied_together_stay_together(duplicate):
    neuron, optimizer = made(learning_rate=0.1)
    model, twin = duplicate((neuron, optimizer))
    assert twin.binding.model is model
    model.forward(np.ones(3))
    HalfSquaredError().backward(model, 0.0)
    twin.step()
    assert np.all(model.weights < 1.0)


def test_a_shallow_copy_is_a_recipe():
    _, optimizer = made(learning_rate=0.1)
    with pytest.raises(UsageError, match="bound to no model"):
        copy.copy(optimizer).step()
