"""Plain functions as components: Activation.of, Loss.of, RowLoss.of, Metric.of, Schedule.of and Layer.of."""

import copy
import math
import pickle

import numpy as np
import pytest
from oracles import jax_gradients, jnp

from framework import (
    Activation,
    CheckpointError,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    Layer,
    Loss,
    MeanSquaredError,
    Metric,
    Neuron,
    RowLoss,
    Schedule,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    save,
)
from framework.base import UsageError
from framework.formulas import ConstantSchedule, check_derivative
from framework.models import Constant

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))


def swish(h):
    return h / (1 + np.exp(-h))


def squared(prediction, target):
    return np.square(prediction - target)


def worst(prediction, target):
    return np.abs(prediction - target).max()


def weighed(prediction, target, weight):
    return float(np.sum(weight * np.abs(prediction - target)[:, 0]))


def falling(step):
    return 0.1 / (1 + step)


def affine(x, w, b):
    return np.tanh(x @ w + b)


def made():
    return [
        Activation.of(swish),
        Loss.of(squared),
        RowLoss.of(lambda p, t: -np.sum(t * np.log(p), axis=-1)),
        Metric.of(worst),
        Schedule.of(falling),
        Layer.of(affine, shapes={"w": (3, 2), "b": (2,)}),
    ]


def test_a_function_trains_as_its_class_does_bit_for_bit():
    runs = []
    for activation, loss in [(Tanh(), MeanSquaredError()), (Activation.of(np.tanh), Loss.of(squared))]:
        model = Sequential(Dense(3, 4, activation), Dense(4, 1), seed=0)
        trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, batch_size=5, seed=1)
        runs.append((trainer.fit(model, (X, Y)).history[-1]["loss"], model.parameters.vector.tolist()))
    assert runs[0] == runs[1]


def test_an_activation_derives_its_function():
    h = np.array([-400.0, -3.0, 0.0, 2.0, 400.0])
    _, (expected,) = jax_gradients(lambda z: z / (1 + jnp.exp(-jnp.clip(z, -300, None))), h)
    np.testing.assert_allclose(Activation.of(swish).derivative(h), expected, rtol=1e-12, atol=1e-100)
    check_derivative(Activation.of(swish))
    single = Neuron.from_weights([1.0, 1.0], activation=Activation.of(swish))
    assert float(single([1.0, 1.0])) == swish(2.0)


def test_an_activation_over_rows_and_a_row_loss_train_as_softmax_and_cross_entropy():
    def softmax(h):
        e = np.exp(h - np.max(h, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    classes = np.arange(12) % 3
    gradients = []
    for activation, loss in [
        (Softmax(), CrossEntropy()),
        (Activation.of(softmax), RowLoss.of(lambda p, t: -np.sum(t * np.log(p), axis=-1))),
    ]:
        model = Dense(3, 3, activation, seed=0)
        model.forward(X)
        loss.backward(model, classes)
        gradients.append(model.parameters.gradient.copy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-12, atol=1e-15)


def test_an_activation_stands_as_a_layer():
    model = Sequential(Dense(3, 2, seed=0), Activation.of(np.tanh))
    assert model(X).tolist() == Dense(3, 2, Tanh(), seed=0)(X).tolist()


def test_a_layer_has_the_gradients_of_its_function():
    layer = Layer.of(affine, shapes={"w": (3, 2), "b": (2,)}, initializers={"w": Constant(value=0.3)})
    assert layer.parameters["w"].tolist() == [[0.3, 0.3]] * 3
    assert layer.parameters["b"].tolist() == [0.0, 0.0]
    output = layer.forward(X)
    upstream = rng.normal(size=output.shape)
    given = np.array(layer.backward(upstream))
    value, (x, w, b) = jax_gradients(
        lambda x, w, b: jnp.tanh(x @ w + b), X, *layer.parameters.values(), upstream=upstream
    )
    np.testing.assert_allclose(output, value, rtol=1e-12)
    for found, expected in [(given, x), (layer.parameters.gradients["w"], w), (layer.parameters.gradients["b"], b)]:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    check_gradients(Sequential(layer, Dense(2, 1), seed=0), MeanSquaredError(), X, Y)


def test_a_layer_without_parameters():
    model = Sequential(Layer.of(lambda x: np.concatenate([x, x**2], axis=-1)), Dense(6, 1), seed=0)
    assert model(X).shape == (12, 1)


def test_a_schedule_and_metrics():
    model = Dense(3, 1, seed=0)
    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=Schedule.of(falling)),
        metrics=[Metric.of(worst)],
        epochs=2,
        batch_size=12,
    )
    history = trainer.fit(model, (X, Y), validation=(X, Y)).history
    assert [row["learning_rate"] for row in history] == [0.1, 0.05]
    assert history[-1]["val_worst"] == worst(model(X), Y)
    assert trainer.evaluate(model, (X, Y))["worst"] == worst(model(X), Y)


def test_a_metric_with_weights():
    weight = np.arange(1.0, 13.0)
    assert Metric.of(weighed)(Y + 1.0, Y, weight) == pytest.approx(78.0)
    with pytest.raises(DataError, match=r"cannot weigh rows: write worst\(prediction, target, weight\)$"):
        Metric.of(worst)(Y, Y, weight)


@pytest.mark.parametrize("given", [np.ones(2), None, "text"], ids=["an array", "None", "text"])
def test_a_metric_that_is_not_one_number_is_refused(given):
    def odd(prediction, target):  # noqa: ARG001 (the names that a metric must have)
        return given

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=[Metric.of(odd)])
    for call in (
        lambda: Metric.of(odd)(Y, Y),
        lambda: trainer.evaluate(Dense(3, 1), (X, Y)),
        lambda: trainer.fit(Dense(3, 1), (X, Y), validation=(X, Y)),
    ):
        with pytest.raises(UsageError, match=r"Metric\.of\(odd\) must give one number for all rows; got"):
            call()


def test_the_repr_names_the_function():
    assert [repr(component) for component in made()] == [
        "Activation.of(swish)",
        "Loss.of(squared)",
        "RowLoss.of(lambda)",
        "Metric.of(worst)",
        "Schedule.of(falling)",
        "Layer.of(affine)",
    ]
    assert repr(Activation.of(np.tanh)) == "Activation.of(tanh)"
    assert "activation=Activation.of(swish)" in repr(Dense(2, 1, Activation.of(swish)))


def test_two_are_equal_if_the_function_is_the_same_object():
    assert Activation.of(np.tanh) == Activation.of(np.tanh)
    assert hash(Activation.of(np.tanh)) == hash(Activation.of(np.tanh))
    assert Activation.of(np.tanh) != Activation.of(np.sinh)
    assert Loss.of(lambda p, t: p - t) != Loss.of(lambda p, t: p - t)
    assert Activation.of(falling) != Schedule.of(falling)


def test_copies_and_pickles_hold_the_function():
    for component in made():
        if repr(component) != "RowLoss.of(lambda)":
            assert pickle.loads(pickle.dumps(component)).function is component.function
        assert copy.deepcopy(component).function is component.function
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Activation.of(lambda h: h))


def test_json_and_checkpoints_refuse_a_function(tmp_path):
    for component in made():
        with pytest.raises(SettingsError, match=r"of\(\w+\) is a Python function, which JSON cannot hold: write it as"):
            component.to_json()
    model = Dense(3, 1, Activation.of(swish))
    with pytest.raises(SettingsError, match=r"^Dense cannot be written as JSON: Activation\.of\(swish\) is a Python"):
        model.to_json()
    run = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (X, Y))
    with pytest.raises(CheckpointError, match=r"Activation\.of\(swish\) is a Python function"):
        save(run, tmp_path / "run.safetensors")
    assert not list(tmp_path.iterdir())


OPTIMIZER = SGDOptimizer(learning_rate=0.1)
BARE = {
    r"Activation\.of\(np\.tanh\)$": lambda: Dense(64, 32, np.tanh),
    r"Activation\.of\(swish\)$": lambda: Neuron(2, swish),
    r"Loss\.of\(squared\)$": lambda: Trainer(loss=squared, optimizer=OPTIMIZER),
    r"Loss\.of\(function\)$": lambda: Trainer(loss=lambda p, t: (p - t) ** 2, optimizer=OPTIMIZER),
    r"Metric\.of\(worst\) or Loss\.of\(worst\)$": lambda: Trainer(
        loss=MeanSquaredError(), optimizer=OPTIMIZER, metrics=[worst]
    ),
    r"Schedule\.of\(falling\)$": lambda: SGDOptimizer(learning_rate=falling),
    r"Activation\.of\(affine\) or Layer\.of\(affine\)$": lambda: Sequential(Dense(2, 1), affine),
}


@pytest.mark.parametrize("advice", BARE)
def test_a_bare_function_is_refused_with_what_to_write(advice):
    with pytest.raises(SettingsError, match="; write " + advice):
        BARE[advice]()


WRONG = {
    r"Activation\.of: the argument must be a function of \(h\); got 3$": lambda: Activation.of(3),
    r"Activation\.of: .* got <class '.*Tanh'>$": lambda: Activation.of(Tanh),
    r"Activation\.of: .* got Tanh\(\); leave out Activation\.of$": lambda: Activation.of(Tanh()),
    r"Activation\.of: the function must take \(h\); lambda takes \(a, b\)$": lambda: Activation.of(lambda a, b: a + b),
    r"Loss\.of: the function must take \(prediction, target\); swish takes \(h\)$": lambda: Loss.of(swish),
    r"Loss\.of: lambda must take \(prediction, target\) in this order; got \('y_true', 'y_pred'\)$": lambda: Loss.of(
        lambda y_true, y_pred: y_true - y_pred
    ),
    r"RowLoss\.of: the function must take \(prediction, target\); swish": lambda: RowLoss.of(swish),
    r"Metric\.of: the argument must be a function of \(prediction, target\); got 'mse'$": lambda: Metric.of("mse"),
    r"Metric\.of: lambda must take \(prediction, target\) in this order": lambda: Metric.of(lambda y, p: p - y),
    r"Schedule\.of: the argument must be a function of \(step\); got 0\.1$": lambda: Schedule.of(0.1),
    r"Schedule\.of: .*got ConstantSchedule\(.*\); leave out Schedule\.of$": lambda: Schedule.of(
        ConstantSchedule(rate=0.1)
    ),
    r"Layer\.of: the function must take \(x, v\); affine takes .*; give shapes={'w': ...} for the parameter w$": (
        lambda: Layer.of(affine, shapes={"v": (2,)})
    ),
    r"takes \(x, w, b\); give shapes={'b': ...} for the parameter b$": lambda: Layer.of(affine, shapes={"w": (3, 2)}),
    r"Layer\.of: the function must take \(x\); .*; give shapes={'w': ...} for": lambda: Layer.of(affine),
    r"must take \(x, w, b, v\); affine takes \(x, w, b\)$": lambda: Layer.of(
        affine, shapes={"w": (3, 2), "b": (2,), "v": (2,)}
    ),
    r"initializers names 'v', which shapes\(\) does not have": lambda: (
        Layer.of(affine, shapes={"w": (3, 2), "b": (2,)}, initializers={"v": Constant(value=1.0)}).parameters
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_not_such_a_function_is_refused(message):
    with pytest.raises(SettingsError, match=message):
        WRONG[message]()


def test_a_function_that_cannot_be_derived_is_refused_when_it_is_put_to_work():
    with pytest.raises(
        DerivativeError, match=r"Activation\.of.*: the formula cannot be traced .*use the NumPy function"
    ):
        Dense(2, 1, Activation.of(math.tanh))
    model = Dense(3, 1)
    model.forward(X)
    with pytest.raises(DerivativeError, match=r"Loss\.of\.value: the formula cannot be traced"):
        Loss.of(lambda p, t: p if np.all(p > t) else t).backward(model, Y)


def test_a_function_that_depends_on_the_type_of_its_argument_is_refused():
    def by_type(h):
        return h * 2 if isinstance(h, np.ndarray) else h

    with pytest.raises(DerivativeError, match="gives other values than the formula itself"):
        Dense(2, 3, Activation.of(by_type))
    loss = Loss.of(lambda prediction, target: by_type(prediction) - target)
    model = Neuron(2)
    model.forward(np.ones((1, 2)))
    with pytest.raises(DerivativeError, match="gives other values than the formula itself"):
        loss.backward(model, np.ones(1))
    with pytest.raises(DerivativeError, match="gives other values than the formula itself"):
        Layer.of(by_type)(np.ones((1, 2)))


WEIGHTS = np.array([1.0, 2.0])


def squares_of_two(p, t):
    return WEIGHTS * (p - t) ** 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dense(3, 2, Activation.of(lambda h: h * WEIGHTS)),
        lambda: Dense(3, 2, Activation.of(lambda h: np.exp(h.reshape(-1, 3)).reshape(h.shape))),
        lambda: Loss.of(squares_of_two).check_derivative(),
        lambda: RowLoss.of(lambda p, t: squares_of_two(p, t).sum(axis=-1)).check_derivative(),
    ],
    ids=["factors", "groups", "loss", "row loss"],
)
def test_a_formula_for_rows_of_one_width_is_refused_with_what_to_write(make):
    with pytest.raises(
        ShapeError, match=r"fails for .* \(rows, 4\): .* must serve rows of any width: .* setting such as weights"
    ):
        make()


def test_what_to_write_for_rows_of_one_width_works():
    class PerUnit(Activation):
        weights: tuple[float, ...]

        def __call__(self, h):
            return h * np.array(self.weights)

    class PerOutput(RowLoss):
        weights: tuple[float, ...]

        def value(self, prediction, target):
            return (np.array(self.weights) * (prediction - target) ** 2).sum(axis=-1)

    h = np.array([[0.5, -1.0], [2.0, 3.0]])
    activation, loss = PerUnit(weights=(1.0, 2.0)), PerOutput(weights=(1.0, 3.0))
    Dense(3, 2, activation)
    loss.check_derivative()
    np.testing.assert_array_equal(activation(h), h * WEIGHTS)
    np.testing.assert_array_equal(activation.backward(h, h, activation(h)), h * WEIGHTS)
    np.testing.assert_array_equal(Layer.of(lambda x: x * WEIGHTS)(h), h * WEIGHTS)
    np.testing.assert_array_equal(loss.slope(h, 0.0 * h), 2 * h * [1.0, 3.0])


def test_a_function_without_a_rule_is_derived_by_hand_in_a_class():
    with pytest.raises(DerivativeError, match="write the derivative in a class: derivative or backward of an Act"):
        Dense(3, 2, Activation.of(np.unwrap))

    class Unwrapped(Activation):
        def __call__(self, h):
            return np.unwrap(h)

        def backward(self, gradient, h, a):
            return gradient

    class Exact(Loss):
        def value(self, prediction, target):
            return np.nan_to_num(prediction - target) ** 2

        def slope(self, prediction, target):
            return 2 * (prediction - target)

    Unwrapped().check_derivative()
    Exact().check_derivative()
    model = Dense(3, 2, Unwrapped())
    model.forward(X)
    Exact().backward(model, np.zeros((len(X), 2)))
    assert np.isfinite(model.parameters.gradient).all()
