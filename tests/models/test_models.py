"""Neuron, Dense and Sequential: predictions, gradients and who owns which array."""

from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

from framework import (
    Activation,
    Dense,
    HalfSquaredError,
    Layer,
    Loss,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
)
from framework.base import DtypeError, UsageError

X = np.random.default_rng(0).normal(size=(6, 3))


def neuron():
    return Neuron(3, Sigmoid(), seed=1)


def dense():
    return Dense(3, 2, Softmax(), seed=1)


def sequential():
    return Sequential(Dense(3, 4, Tanh()), Dense(4, 2, Sigmoid()), seed=1)


def ending_in_a_neuron():
    return Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()), seed=1)


def some_gradient(prediction):
    """One that a softmax's backward does not turn into 0."""
    return np.cos(np.arange(np.size(prediction)), dtype=prediction.dtype).reshape(np.shape(prediction))


MODELS = [neuron, dense, sequential, ending_in_a_neuron]
EACH_MODEL = pytest.mark.parametrize("make", MODELS)


def test_a_layer_is_its_formula():
    w, b = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), np.array([1.0, -1.0])
    model = Dense.from_weights(w, b, activation=Tanh())
    np.testing.assert_allclose(model(X), np.tanh(X @ w + b), rtol=1e-14)
    np.testing.assert_allclose(Neuron.from_weights(w[:, 0], 1.0, activation=Tanh())(X), np.tanh(X @ w + b)[:, 0])


@EACH_MODEL
def test_a_sample_gives_a_prediction_and_a_batch_a_batch(make):
    model = make()
    batch = model(X)
    assert batch.shape == (6, *model.output_shape)
    assert model(X[:0]).shape == (0, *model.output_shape)
    for row, expected in zip(X, batch, strict=True):
        assert np.shape(model(row)) == np.shape(model.forward(row)) == model.output_shape
        assert np.shape(model.forward(row, copy=False)) == model.output_shape
        np.testing.assert_allclose(model(row), expected, rtol=1e-14)
        assert np.array_equal(model(row), model.forward(row))
        assert np.array_equal(model(row), model(row[None])[0])


@EACH_MODEL
def test_forward_gives_what_prediction_gives(make):
    model = make()
    assert np.array_equal(model.forward(X), model(X))


@EACH_MODEL
@pytest.mark.parametrize("x", [np.ones(2), np.ones((6, 2)), np.ones((1, 6, 2)), 1.0, [[1.0], [1.0, 2.0]]])
def test_inputs_of_another_shape_are_refused(make, x):
    for call in (make(), make().forward):
        with pytest.raises(ShapeError, match="x must be"):
            call(x)


@pytest.mark.parametrize("x", [["a", "b", "c"], [1j, 0, 0], np.array(["2020"], "M8"), [None, 1.0, 2.0]])
def test_inputs_that_are_no_real_numbers_are_refused(x):
    with pytest.raises(DtypeError, match="x must hold real numbers"):
        neuron()(x)


WIDE = np.random.default_rng(1).normal(size=(12, 80)).round(3)
FORMS = {
    "list": lambda x: x.tolist(),
    "big-endian": lambda x: x.astype(">f8"),
    "Fortran order": np.asfortranarray,
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "objects": lambda x: x.astype(object),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("x", [WIDE[0], WIDE], ids=["sample", "batch"])
@pytest.mark.parametrize("model", [Neuron(80, Tanh(), seed=2), Dense(80, 30, Tanh(), seed=2)])
def test_the_form_of_the_input_does_not_change_a_bit(model, x, form):
    assert np.array_equal(model(form(x)), model(x))
    assert np.array_equal(model.forward(form(x)), model(x))


@EACH_MODEL
def test_what_is_handed_out_is_the_callers_own(make):
    model = make()
    first, predicted = model.forward(X), model(X)
    gradient = model.backward(some_gradient(first))
    kept = [first.copy(), predicted.copy(), gradient.copy()]
    vector = model.parameters.vector.copy()
    model.backward(some_gradient(model.forward(2 * X)))
    model(2 * X)
    model.predict(3 * X)
    for array, before in zip((first, predicted, gradient), kept, strict=True):
        assert np.array_equal(array, before)
        array[...] = np.nan
    assert np.array_equal(model(X), kept[1])
    assert np.array_equal(model.parameters.vector, vector)


def test_a_hand_written_loop_may_ask_for_working_memory():
    model = dense()
    a = model.forward(X, copy=False)
    assert np.shares_memory(a, model.forward(2 * X, copy=False))


@EACH_MODEL
@pytest.mark.parametrize("rows", [slice(None), 0], ids=["batch", "sample"])
def test_gradients_are_those_of_finite_differences(make, rows):
    model, x = make(), X[rows].copy()
    direction = np.random.default_rng(5).normal(size=np.shape(model(x)))
    model.forward(x)
    got = model.backward(direction)
    assert got.shape == x.shape

    def differences(array):
        out = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            kept, values = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = kept + step
                values.append(np.sum(direction * model(x)))
            array[place] = kept
            out[place] = (values[0] - values[1]) / 2e-6
        return out

    np.testing.assert_allclose(got, differences(x), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.parameters.gradient, differences(model.parameters.vector), rtol=1e-7, atol=1e-9)


@EACH_MODEL
def test_each_forward_serves_one_backward(make):
    model = make()
    with pytest.raises(UsageError, match=r"call \w+\.forward\(x\) first"):
        model.backward(some_gradient(model(X)))
    a = model.forward(X)
    model.backward(some_gradient(a))
    with pytest.raises(UsageError, match="each forward serves one backward"):
        model.backward(some_gradient(a))


@EACH_MODEL
def test_a_gradient_of_another_shape_is_refused(make):
    model = make()
    a = model.forward(X)
    with pytest.raises(ShapeError, match="gradient must have the shape of the prediction"):
        model.backward(np.ones((*a.shape, 1)))


@EACH_MODEL
def test_backward_overwrites_or_accumulates(make):
    model = make()
    for _ in range(2):
        model.backward(some_gradient(model.forward(X)))
    once = model.parameters.gradient.copy()
    model.backward(some_gradient(model.forward(X)), accumulate=True)
    np.testing.assert_allclose(model.parameters.gradient, 2 * once, rtol=1e-15)


@EACH_MODEL
def test_a_smaller_batch_after_a_larger_one_leaves_nothing_behind(make):
    used, fresh = make(), make()
    used.backward(some_gradient(used.forward(X)))
    for model in (used, fresh):
        model.backward(some_gradient(model.forward(X[:2])))
    assert np.array_equal(used.parameters.gradient, fresh.parameters.gradient)


@EACH_MODEL
def test_a_frozen_gradient_stays_zero(make):
    model = make()
    name = next(iter(model.parameters))
    model.parameters.freeze(name)
    model.backward(some_gradient(model.forward(X)))
    assert not model.parameters.gradients[name].any()
    assert model.parameters.gradient.any()


@EACH_MODEL
def test_predicting_between_forward_and_backward_changes_nothing(make):
    alone, watched = make(), make()
    alone.backward(some_gradient(alone.forward(X)))
    a = watched.forward(X)
    watched(-3 * X[:4])
    watched.backward(some_gradient(a))
    assert np.array_equal(alone.parameters.gradient, watched.parameters.gradient)


@EACH_MODEL
def test_threads_may_share_a_model(make):
    inputs = [np.random.default_rng(i).normal(size=(1 + i, 3)) for i in range(40)]
    shared, expected = make(), make()
    with ThreadPoolExecutor(8) as pool:
        predictions = list(pool.map(shared, inputs))  # the first of them draw the weights
    for x, prediction in zip(inputs, predictions, strict=True):
        assert np.array_equal(prediction, expected(x))


def test_a_prediction_may_be_made_while_another_is():
    """As by a signal handler, or by a layer that asks the whole model."""

    class Asking(Layer):
        check: ClassVar = "off"
        inputs: int = 4

        def apply(self, x, values, record):
            if questions:
                answers.append(model(questions.pop()))
            return x

        def apply_backward(self, gradient, values, record, gradients):
            return gradient

    first, last = Dense(3, 4, Tanh(), seed=1), Dense(4, 2, Sigmoid(), seed=2)
    expected = Sequential(first.copy(), last.copy())
    model, questions, answers = Sequential(first, Asking(), last), [], []
    for x in (X, 3 * X):
        assert np.array_equal(model(x), expected(x))
        questions.append(2 * X)
    assert np.array_equal(answers[0], expected(2 * X))


def test_assigning_weights_copies_into_them():
    model = sequential()
    layer, values = model.layers[0], np.arange(12.0).reshape(3, 4)
    layer.weights = values
    layer.bias = [1, 2, 3, 4]
    values[:] = 0
    assert np.array_equal(model.parameters["0.weights"], np.arange(12.0).reshape(3, 4))
    assert model.parameters["0.bias"].tolist() == [1, 2, 3, 4]
    with pytest.raises(ShapeError, match=r"weights must have the shape \(3, 4\); got \(4, 3\)"):
        layer.weights = values.T
    with pytest.raises(ValueError, match="bias must be finite"):
        layer.bias = [0.0, np.nan, 0.0, 0.0]
    assert layer.bias.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "shape"), [(Neuron, (3,)), (Dense, (3, 2))])
def test_from_weights_copies_and_checks(kind, shape):
    make, values = kind.from_weights, np.ones(shape)
    model = make(values, train_bias=False)
    assert model.parameters.frozen == ("bias",)
    values[:] = 7
    assert np.all(model.weights == 1)
    with pytest.raises(ShapeError, match="weights must have the shape"):
        make(values[None])
    with pytest.raises(ShapeError, match="bias must have the shape"):
        make(values, np.ones(5))


class Float64Constant(Activation):
    """A user's formula that would make float64 of float32."""

    def __call__(self, h):
        return np.float64(2.0) * h * np.ones(np.shape(h))

    def derivative(self, h):
        return np.float64(2.0) * np.ones(np.shape(h))


class Float64Loss(Loss):
    def value(self, prediction, target):
        return np.float64(0.5) * (prediction - target) ** 2

    def slope(self, prediction, target):
        return np.float64(1.0) * (prediction - target)


@pytest.mark.parametrize("loss", [HalfSquaredError(), Float64Loss()])
@pytest.mark.parametrize("activation", [Sigmoid(), Float64Constant()])
@pytest.mark.parametrize("x", [X[0], X], ids=["sample", "batch"])
def test_float32_stays_float32(x, activation, loss):
    for model in (
        Neuron(3, activation, dtype="float32"),
        Sequential(Dense(3, 4, activation, dtype="float32"), Dense(4, 2, activation, dtype="float32")),
    ):
        a = model.forward(x)
        assert a.dtype == model(x).dtype == np.float32
        assert model.backward(some_gradient(a)).dtype == np.float32
        model.forward(x)
        loss.backward(model, np.zeros_like(a))
        SGDOptimizer(model, learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, clip_norm=1.0).step()
        assert model.parameters.vector.dtype == model.parameters.gradient.dtype == np.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Neuron(0), "'inputs' must be greater than or equal to 1"),
        (lambda: Dense(2, True), "'units' must be an integer"),
        (lambda: Neuron(2, Softmax()), "couples a row of units: use Sigmoid for two classes"),
        (lambda: Dense(2, 1, Softmax()), "over a row of 1 unit is constant: use Sigmoid"),
        (lambda: Neuron(2, ReLU), r"write ReLU\(\) with its brackets"),
        (lambda: Dense(2, 2, dtype="int32"), "'dtype' must"),
        (lambda: Neuron(2, seed=-1), "'seed' must be greater than or equal to 0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


def test_models_are_equal_only_to_themselves():
    model = neuron()
    assert model == model  # noqa: PLR0124 (the point of the test)
    assert model != neuron()
    assert len({model, neuron()}) == 2


def test_summary_counts_what_is_trainable():
    model = Sequential(Dense(4, 8, ReLU()), Sequential(Dense(8, 8)), Neuron(8, Sigmoid()))
    model.parameters.freeze("0.weights")
    assert model.summary().splitlines() == [
        "layer                output     parameters",
        "0 Dense(ReLU)        (rows, 8)          40",
        "1.0 Dense(Identity)  (rows, 8)          72",
        "2 Neuron(Sigmoid)    (rows,)             9",
        "total                                  121",
        "trainable                               89",
    ]
