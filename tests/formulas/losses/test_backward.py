"""A loss and a model: stable pairs, what is refused, and what a step leaves."""

import numpy as np
import pytest

from framework import (
    Activation,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    DivergedError,
    HalfSquaredError,
    Identity,
    Loss,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
)
from framework.base import UsageError
from framework.formulas import Focal
from framework.formulas.losses import base as losses
from framework.graph.step import LossGraph
from framework.training import numerical_gradient


def saturated(activation, h=800.0):
    """Units that give h, for one input of 1."""
    return Dense.from_weights([[h, -h]], activation=activation)


@pytest.mark.parametrize("x", [[1.0], [[1.0], [1.0]]], ids=["sample", "batch"])
def test_saturation_neither_diverges_nor_stops_the_gradient(x):
    model = saturated(Sigmoid())
    model.forward(x)
    y = np.broadcast_to([0.0, 1.0], np.shape(model(x)))
    assert BinaryCrossEntropy().backward(model, y) == 800.0
    assert model.parameters.gradients["bias"] == pytest.approx([0.5, -0.5])
    model = saturated(Softmax())
    model.forward(x)
    assert CrossEntropy().backward(model, 1 if np.ndim(x) == 1 else [1, 1]) == 1600.0
    assert model.parameters.gradients["bias"] == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize(("gamma", "value"), [(0.0, 800.0), (0.5, 800.0), (2.0, 800.0)])
def test_a_saturated_focal_loss_is_finite_and_has_a_gradient(gamma, value):
    model = saturated(Sigmoid())
    model.forward([[1.0], [1.0]])
    assert Focal(gamma=gamma).backward(model, [[0.0, 1.0]] * 2) == value
    assert model.parameters.gradients["bias"] == pytest.approx([0.5, -0.5])
    model.forward([[1.0], [1.0]])
    assert Focal(gamma=gamma).backward(model, [[1.0, 0.0]] * 2) == 0.0  # and right by far
    assert np.abs(model.parameters.gradient).max() < 1e-300


def test_a_saturated_neuron_has_a_finite_loss_and_a_gradient():
    neuron = Neuron.from_weights([800.0], activation=Sigmoid())
    neuron.forward([1.0])
    assert BinaryCrossEntropy().backward(neuron, 0.0) == 800.0
    assert neuron.parameters.gradient.tolist() == [1.0, 1.0]


def test_evaluation_uses_the_preactivation_too():
    model = saturated(Softmax())
    h, a = model.output(np.ones((1, 1)))
    assert CrossEntropy().output_sums(model.output_activation, h, a, np.array([1]), None) == (1600.0, 1.0)


@pytest.mark.parametrize("ending", [(Dense(4, 7, Softmax()),), (Dense(4, 7), Softmax())], ids=["dense", "layer"])
@pytest.mark.parametrize("rows", [3, 2000], ids=["one block", "several"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"label_smoothing": 0.1, "class_weights": [*map(float, range(1, 8))]}],
    ids=["plain", "set"],
)
def test_the_loss_by_the_softmaxs_own_sums_is_that_of_the_probabilities(ending, rows, settings):
    model, loss = (
        Sequential(*(part.copy() if isinstance(part, Dense) else part for part in ending)),
        CrossEntropy(**settings),
    )
    rng = np.random.default_rng(0)
    for count in (rows, 2):  # the second batch is smaller, in the same memory
        x, y = rng.normal(size=(count, 4)), rng.integers(7, size=count)
        prediction = model.forward(x)
        assert loss.backward(model, y) == pytest.approx(loss(prediction, y), rel=1e-14)


class OwnForm(CrossEntropy):
    """A user's subclass with a slope of its own, of twice the loss."""

    def value(self, prediction, target):
        return 2.0 * super().value(prediction, target)

    def slope(self, prediction, target):
        return -2.0 * target / prediction


def test_a_subclass_with_a_slope_of_its_own_is_as_stable_after_a_softmax():
    model = Dense.from_weights([[1.0, -1.0]], activation=Softmax())
    model.forward([[0.5], [2.0]])
    single = CrossEntropy().backward(model, [0, 1])
    model.forward([[0.5], [2.0]])
    assert OwnForm().backward(model, [0, 1]) == pytest.approx(2.0 * single, rel=1e-15)


class Scaled(Sigmoid):
    """A user's subclass with another slope."""

    def __call__(self, h):
        return super().__call__(3.0 * h)

    def derivative(self, h):
        return 3.0 * self(h) * (1.0 - self(h))


@pytest.mark.parametrize("x", [[0.2, -0.4], [[0.2, -0.4], [0.1, 0.3]]], ids=["sample", "batch"])
def test_a_loss_after_a_subclass_of_sigmoid_has_the_gradient_of_its_formula(x):
    neuron = Neuron.from_weights([0.3, -0.2], activation=Scaled())
    a = np.atleast_1d(neuron.forward(x))
    BinaryCrossEntropy().backward(neuron, np.ones(np.shape(neuron(x))))
    delta = 3.0 * (a - 1.0) / len(a)
    np.testing.assert_allclose(neuron.parameters.gradients["weights"], delta @ np.atleast_2d(x), rtol=1e-13)


class Doubled(BinaryCrossEntropy):
    """A user's loss with another value."""

    def value(self, prediction, target):
        return 2.0 * super().value(prediction, target)


@pytest.mark.parametrize("x", [[0.2, -0.4], [[0.2, -0.4]]], ids=["sample", "batch"])
def test_a_loss_with_another_value_has_its_gradient(x):
    neuron = Neuron.from_weights([0.3, -0.2], activation=Sigmoid())
    losses, gradients = [], []
    for loss in (BinaryCrossEntropy(), Doubled()):
        neuron.forward(x)
        losses.append(loss.backward(neuron, np.ones(np.shape(neuron(x)))))
        gradients.append(neuron.parameters.gradient.copy())
    assert losses[1] == pytest.approx(2 * losses[0])
    np.testing.assert_allclose(gradients[1], 2 * gradients[0], rtol=1e-12)


class DoubledTwice(Doubled):
    """The inherited slope is already that of the value here."""

    def slope(self, prediction, target):
        return 2.0 * super().slope(prediction, target)


def test_a_slope_that_doubles_the_derived_one_is_refused():
    neuron = Neuron.from_weights([0.3, -0.2], activation=Sigmoid())
    neuron.forward([0.2, -0.4])
    with pytest.raises(DerivativeError, match=r"slope is wrong(.|\n)*the derivative is 0\.5 times that"):
        DoubledTwice().backward(neuron, 1.0)


class Slopeless(Loss):
    def value(self, prediction, target):
        return np.abs(prediction - target)


class TwiceSquaredError(MeanSquaredError):
    def value(self, prediction, target):
        return 2.0 * super().value(prediction, target)


@pytest.mark.parametrize("loss", [Slopeless(), TwiceSquaredError()])
def test_a_loss_without_a_slope_of_its_own_gets_it_derived(loss):
    prediction = np.array([1.0, -2.0, 0.5])
    expected = numerical_gradient(lambda p: loss(p, np.zeros(3)), prediction)
    np.testing.assert_allclose(loss.gradient(prediction, np.zeros(3)), expected, rtol=1e-8)
    neuron = Neuron.from_weights([1.0])
    neuron.forward([1.0])
    loss.backward(neuron, 0.0)
    assert neuron.parameters.gradients["weights"][0] == pytest.approx(loss.slope(1.0, 0.0))


class Branching(Loss):
    def value(self, prediction, target):
        return prediction if np.all(prediction > target) else target


def test_a_loss_that_cannot_be_recorded_is_refused_when_it_is_put_to_work():
    neuron = Neuron.from_weights([1.0])
    neuron.forward([1.0])
    with pytest.raises(DerivativeError, match=r"Branching.value: the formula cannot be traced"):
        Branching().backward(neuron, 0.0)


REFUSED = [
    (BinaryCrossEntropy(), Identity(), "Use Sigmoid"),
    (BinaryCrossEntropy(), ReLU(), "Use Sigmoid"),
    (BinaryCrossEntropy(), Tanh(), "Use Sigmoid"),
    (CrossEntropy(), Identity(), "Use Softmax"),
    (CrossEntropy(), ReLU(), "Use Softmax"),
    (CrossEntropy(), Tanh(), "Use Softmax"),
    (CrossEntropy(), Sigmoid(), "Use Softmax"),
]


@pytest.mark.parametrize(("loss", "activation", "advice"), REFUSED)
def test_an_output_that_cannot_serve_the_loss_is_refused_with_advice(loss, activation, advice):
    model = Sequential(Dense(2, 3, ReLU()), Dense(3, 2, activation))
    model.forward([[1.0, 2.0]])
    with pytest.raises(SettingsError, match=advice):
        loss.backward(model, [[0.0, 1.0]])
    assert not model.parameters.gradient.any()


class Clipped(Activation):
    """An output between 0 and 1 that reaches both ends."""

    def __call__(self, h):
        return np.clip(h, 0.0, 1.0)

    def derivative(self, h):
        return np.where((h > 0) & (h < 1), 1.0, 0.0)


class Hardmax(Activation):
    def __call__(self, h):
        return (h == h.max(axis=-1, keepdims=True)).astype(float)

    def backward(self, gradient, h, a):
        return np.zeros_like(h)


@pytest.mark.parametrize(
    ("loss", "activation", "y"),
    [(BinaryCrossEntropy(), Clipped(), [[1.0, 0.0], [0.0, 1.0]]), (CrossEntropy(), Hardmax(), [0, 1])],
)
def test_a_saturated_output_without_a_stable_form_names_its_row(loss, activation, y):
    model = Dense.from_weights([[2.0, -2.0]], activation=activation)
    model.forward([[1.0], [1.0]])
    end = rf"The loss is infinite for this output: end the model with {loss.suited.__name__}\(\)$"
    with pytest.raises(DivergedError, match=rf"first at row 1 of the batch.*output is \[1\. 0\.\]; .*{end}"):
        loss.backward(model, y)
    assert not model.parameters.gradient.any()


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("model", [Neuron(2, seed=1), Dense(2, 1, seed=1)])
def test_one_output_takes_vectors_and_columns(model, shape):
    x, y = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0, 0.5])
    model.forward(x)
    value = MeanSquaredError().backward(model, y.reshape(shape))
    assert value == np.mean((model(x).ravel() - y) ** 2)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (1, 3), (3, 1, 1)])
def test_targets_of_another_shape_than_the_output_are_refused(shape):
    neuron = Neuron(2)
    neuron.forward(np.ones((3, 2)))
    with pytest.raises(ShapeError, match="must have the shape of the output"):
        HalfSquaredError().backward(neuron, np.ones(shape))


@pytest.mark.parametrize("target", [5, 5.0, np.float32(5), [5.0], np.array(5)])
def test_the_target_of_one_sample_is_one_number_in_any_form(target):
    neuron = Neuron.from_weights([1.0])
    neuron.forward([1.0])
    assert HalfSquaredError().backward(neuron, target) == 8.0


@pytest.mark.parametrize("weight", [1e-3, [0.5], [[7.0]]])
def test_the_weight_of_one_sample_cancels_out(weight):
    neuron = Neuron.from_weights([1.0])
    neuron.forward([1.0])
    assert HalfSquaredError().backward(neuron, 5.0, weight) == 8.0
    assert neuron.parameters.gradient.tolist() == [-4.0, -4.0]


@pytest.mark.parametrize(
    ("loss", "target", "weight", "error"),
    [
        (HalfSquaredError(), np.nan, None, DataError),
        (HalfSquaredError(), [1.0, 2.0], None, ShapeError),
        (HalfSquaredError(), "1", None, DataError),
        (BinaryCrossEntropy(), 2, None, DataError),
        (BinaryCrossEntropy(), -1.0, None, DataError),
        (HalfSquaredError(), 1.0, 0.0, DataError),
        (HalfSquaredError(), 1.0, -1.0, DataError),
        (HalfSquaredError(), 1.0, [1.0, 1.0], ShapeError),
    ],
)
def test_bad_targets_and_weights_of_one_sample_are_refused(loss, target, weight, error):
    neuron = Neuron.from_weights([1.0], activation=Sigmoid())
    neuron.forward([1.0])
    with pytest.raises(error):
        loss.backward(neuron, target, weight)
    assert not neuron.parameters.gradient.any()


@pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0]])
def test_bad_weights_of_a_batch_are_refused(weight):
    neuron = Neuron.from_weights([1.0])
    neuron.forward([[1.0], [2.0]])
    with pytest.raises(DataError):
        HalfSquaredError().backward(neuron, [1.0, 1.0], weight)
    assert not neuron.parameters.gradient.any()


def test_classes_and_distributions_serve_one_sample_too():
    model = Dense(2, 3, Softmax(), seed=3)
    values = []
    for target in (2, [2], [0.0, 0.0, 1.0]):
        model.forward([1.0, 2.0])
        values.append(CrossEntropy().backward(model, target))
    assert values[0] == values[1] == values[2] == pytest.approx(-np.log(model([1.0, 2.0])[2]))


def test_backward_without_forward_is_refused():
    with pytest.raises(UsageError, match=r"call Neuron\.forward"):
        HalfSquaredError().backward(Neuron(2), 1.0)


@pytest.mark.parametrize("count", [None, 2.0])
def test_a_sample_of_weight_0_is_refused(count):
    neuron = Neuron(2)
    neuron.forward([1.0, 2.0])
    with pytest.raises(DataError, match="argument 'weight' must have a positive sum; got 0: leave such a sample out"):
        HalfSquaredError().backward(neuron, 1.0, [0.0], count=count)


def test_a_loss_that_is_made_anew_in_each_step_is_traced_once(monkeypatch):
    traced = []
    monkeypatch.setattr(
        losses, "LossGraph", lambda *args, **options: traced.append(args) or LossGraph(*args, **options)
    )
    model = Dense(2, 3, seed=3)
    for _ in range(40):
        model.forward([[1.0, 2.0]])
        MeanSquaredError().backward(model, [[1.0, 2.0, 3.0]])
    assert len(traced) == 1
    expected = model.parameters.gradient.copy()
    model.forward([[1.0, 2.0]])
    HalfSquaredError().backward(model, [[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(model.parameters.gradient, expected / 2)
