"""Optimizers as recipes and as bound objects: settings, copies, equality."""

import copy
import math
import pickle

import numpy as np
import pytest

from framework import (
    AdamWOptimizer,
    Dense,
    HalfSquaredError,
    Neuron,
    Optimizer,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Trainer,
)
from framework.base import UsageError
from framework.formulas import ExponentialSchedule

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
        ({"learning_rate": "0.1"}, "'learning_rate' must be a number or a Schedule"),
        ({"learning_rate": True}, "'learning_rate' must be a number"),
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
    with pytest.raises(
        SettingsError, match=r"argument 'model' must be a model; got 0\.1; write SGDOptimizer\(learning_rate=0\.1\)"
    ):
        SGDOptimizer(0.1)


def test_an_unbound_optimizer_is_a_frozen_recipe():
    recipe = SGDOptimizer(learning_rate=0.1)
    with pytest.raises(SettingsError, match="frozen"):
        recipe.learning_rate = 0.2
    with pytest.raises(SettingsError, match="has no setting 'rate_of_learning'"):
        recipe.rate_of_learning = 0.2
    for use in (recipe.step, lambda: recipe.steps):
        with pytest.raises(UsageError, match=r"bound to no model: write SGDOptimizer\(model, \.\.\.\)"):
            use()
    assert hash(recipe) == hash(SGDOptimizer(learning_rate=0.1))


def test_bind_gives_working_copies_with_memory_of_their_own():
    recipe = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    models = [Neuron.from_weights([1.0]), Neuron.from_weights([1.0])]
    first, second = map(recipe.bind, models)
    step(models[0], first, 1.0)
    assert not second.memory["velocity"].any()
    assert (first.steps, second.steps) == (1, 0)
    assert first.recipe == second.recipe == recipe


def test_settings_of_a_bound_optimizer_are_validated_on_assignment():
    neuron, optimizer = made(learning_rate=0.1)
    optimizer.learning_rate = np.float32(0.5)
    step(neuron, optimizer, 1.0)
    assert neuron.weights.tolist() == [0.5] * 3
    optimizer.learning_rate = ExponentialSchedule(initial=0.25)
    for name, value in (("learning_rate", -1), ("momentum", 1.0), ("nesterov", True)):
        with pytest.raises(SettingsError, match=name):
            setattr(optimizer, name, value)
    with pytest.raises(SettingsError, match="unknown setting 'momentun'; did you mean 'momentum'"):
        optimizer.momentun = 0.9
    assert optimizer.recipe == SGDOptimizer(learning_rate=ExponentialSchedule(initial=0.25))


def test_a_bound_optimizer_shows_its_recipe_its_model_and_its_updates():
    neuron, optimizer = made(learning_rate=0.1)
    step(neuron, optimizer, 1.0)
    assert repr(optimizer) == "<SGDOptimizer(learning_rate=0.1) bound to Neuron, 1 updates made>"
    assert Optimizer.from_json(optimizer.recipe.to_json()) == optimizer.recipe


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_a_copied_optimizer_goes_on_with_a_model_of_its_own(duplicate):
    neuron, optimizer = made(learning_rate=0.1, momentum=0.9)
    step(neuron, optimizer, 1.0)
    twin = duplicate(optimizer)
    before = neuron.parameters.vector.copy()
    step(twin.model, twin, 1.0)
    assert np.array_equal(neuron.parameters.vector, before)
    step(neuron, optimizer, 1.0)
    assert np.array_equal(twin.model.parameters.vector, neuron.parameters.vector)
    assert twin.steps == 2
    assert duplicate(SGDOptimizer(learning_rate=0.1)) == SGDOptimizer(learning_rate=0.1)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_model_and_optimizer_copied_together_stay_together(duplicate):
    neuron, optimizer = made(learning_rate=0.1)
    model, twin = duplicate((neuron, optimizer))
    assert twin.model is model
    model.forward(np.ones(3))
    HalfSquaredError().backward(model, 0.0)
    twin.step()
    assert np.all(model.weights < 1.0)


def test_a_shallow_copy_is_a_recipe():
    _, optimizer = made(learning_rate=0.1)
    with pytest.raises(UsageError, match="bound to no model"):
        copy.copy(optimizer).step()


@pytest.mark.parametrize("name", ["step", "rate"])
def test_a_recipe_that_writes_a_method_of_the_bound_optimizer_is_refused(name):
    with pytest.raises(SettingsError, match=f"write update; {name} is a method of the bound optimizer"):
        type("Own", (SGDOptimizer,), {name: Optimizer.step, "__module__": __name__})


def test_memory_that_is_a_text_is_refused():
    with pytest.raises(SettingsError, match=r"Own: write memory = \('velocity',\), with a comma"):
        type("Own", (SGDOptimizer,), {"memory": "velocity", "__module__": __name__})


def test_an_update_that_was_cut_off_counts_until_the_next_whole_one():
    class Own(Optimizer):
        def update(self, values, gradients, rate, step):
            values -= rate * gradients
            if step == 2 and values[0] > 0:
                raise KeyboardInterrupt

    neuron = Neuron.from_weights(np.ones(3))
    optimizer = Own(neuron, learning_rate=0.1)
    step(neuron, optimizer, 1.0)
    assert not optimizer.updating
    with pytest.raises(KeyboardInterrupt):
        step(neuron, optimizer, 1.0)
    assert optimizer.updating
    assert optimizer.steps == 1
    step(neuron, optimizer, 100.0)
    assert not optimizer.updating
    assert optimizer.steps == 2


@pytest.mark.parametrize("recipe", [SGDOptimizer(learning_rate=0.1, momentum=0.9), AdamWOptimizer(learning_rate=0.1)])
def test_factors_by_pattern_are_those_of_separate_optimizers(recipe):
    rng = np.random.default_rng(0)
    model = Sequential(Dense(3, 2), Dense(2, 2))
    recipe = recipe.replace(weight_decay=0.1)
    factors = {"0.weights": (0.1, 1.0), "0.bias": (0.1, 0.0), "1.weights": (1.0, 1.0), "1.bias": (2.0, 0.0)}
    optimizer = recipe.replace(
        rate_factors=(("0.*", 0.1), ("1.bias", 2.0)), decay_factors=(("*.bias", 0.5), ("*bias", 0.0))
    ).bind(model)
    expected = {name: array.copy().reshape(-1) for name, array in model.parameters.items()}
    memory = {name: [np.zeros_like(array) for _ in recipe.memory] for name, array in expected.items()}
    for step_number in (1, 2, 3):
        model.parameters.gradient[:] = rng.normal(size=model.parameters.gradient.size)
        for name, (rate, decay) in factors.items():
            one = recipe.replace(weight_decay=decay * recipe.weight_decay)
            gradient = model.parameters.gradients[name].reshape(-1)
            one.update(expected[name], gradient, rate * 0.1, step_number, *memory[name])
        optimizer.step()
        for name, values in expected.items():
            np.testing.assert_array_equal(model.parameters[name].reshape(-1), values, err_msg=name)


def test_factors_hold_when_parameters_are_frozen_and_when_a_setting_is_assigned():
    model = Sequential(Dense(3, 2), Dense(2, 2))
    optimizer = SGDOptimizer(model, learning_rate=1.0, rate_factors=(("1.*", 0.5),))
    model.parameters.gradient[:] = 1.0
    model.parameters.freeze("0.bias")
    optimizer.learning_rate = 0.1
    before = {name: array.copy() for name, array in model.parameters.items()}
    optimizer.step()
    moved = {name: float((before[name] - array).max()) for name, array in model.parameters.items()}
    assert moved == pytest.approx({"0.weights": 0.1, "0.bias": 0.0, "1.weights": 0.05, "1.bias": 0.05})


class Plain(Optimizer):
    def update(self, values, gradients, rate, step):
        values -= rate * gradients


def test_factors_that_no_parameter_has_are_refused():
    with pytest.raises(SettingsError, match="'rate_factors': there is no parameter '7"):
        SGDOptimizer(Neuron(2), learning_rate=0.1, rate_factors=(("7.*", 0.5),))
    with pytest.raises(SettingsError, match="'decay_factors' needs a setting 'weight_decay'"):
        Plain(learning_rate=0.1, decay_factors=(("*", 0.5),))


def test_the_compiled_engine_updates_with_factors_as_numpy_does():
    recipe, data = SGDOptimizer(learning_rate=0.1, rate_factors=(("bias", 0.5),)), ([[1.0], [2.0]], [1.0, 2.0])
    trainer = Trainer(loss=HalfSquaredError(), optimizer=recipe, seed=0)
    plain = trainer.fit(Neuron(1), data)
    run = trainer.replace(engine="compiled").fit(Neuron(1), data)
    assert run.engine == "compiled"
    np.testing.assert_allclose(run.model.parameters.vector, plain.model.parameters.vector, rtol=1e-12)


def test_an_assigned_recipe_acts_from_the_next_step_on():
    model, fresh = Neuron.from_weights([1.0]), Neuron.from_weights([1.0])
    optimizer = SGDOptimizer(model, learning_rate=0.1)
    other = SGDOptimizer(learning_rate=0.1, clip_value=0.5)
    for neuron, bound in ((model, optimizer), (fresh, other.bind(fresh))):
        neuron.parameters.gradient[:] = 0.0
        bound.step()  # makes the plan of the update
        bound.recipe = other
        neuron.parameters.gradient[:] = 3.0
        bound.step()
    np.testing.assert_array_equal(model.parameters.vector, fresh.parameters.vector)
    with pytest.raises(SettingsError, match="must be a SGDOptimizer, whose memory it holds; got AdamWOptimizer"):
        optimizer.recipe = AdamWOptimizer(learning_rate=0.1)
