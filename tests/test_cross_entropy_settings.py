"""Label smoothing and class weights of the cross-entropies, against PyTorch."""

import numpy as np
import pytest
import torch

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    Neuron,
    SettingsError,
    Sigmoid,
    Softmax,
    check_derivative,
    check_gradients,
)

rng = np.random.default_rng(3)
X = rng.normal(size=(7, 3))
BINARY = np.array([0.0, 1.0, 1.0, 0.0, 0.3, 1.0, 0.0])
CLASSES = np.array([0, 2, 1, 1, 3, 2, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_binary_cross_entropy_is_pytorchs(smoothing, weight):
    loss = BinaryCrossEntropy(label_smoothing=smoothing, positive_weight=weight)
    check_derivative(loss)
    h = torch.tensor(X[:, 0], requires_grad=True)
    target = torch.tensor((1 - smoothing) * BINARY + smoothing / 2)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(h, target, pos_weight=torch.tensor(weight))
    expected.backward()
    neuron = Neuron.from_weights([1.0], activation=Sigmoid())
    neuron.forward(X[:, :1])
    assert loss.backward(neuron, BINARY) == pytest.approx(expected.item(), rel=1e-13)
    assert neuron.parameters.gradients["bias"] == pytest.approx(h.grad.sum().item(), rel=1e-12)
    assert loss(Sigmoid()(X[:, 0]), BINARY) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothed_cross_entropy_is_pytorchs(smoothing):
    loss = CrossEntropy(label_smoothing=smoothing)
    check_derivative(loss)
    model = Dense(3, 4, Softmax(), seed=0)
    h = torch.tensor(X @ model.weights, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(h, torch.tensor(CLASSES), label_smoothing=smoothing)
    expected.backward()
    model.forward(X)
    assert loss.backward(model, CLASSES) == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(model.parameters.gradients["weights"], X.T @ h.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_class_weights_are_pytorchs_over_the_number_of_rows():
    weights = (1.0, 2.0, 0.5, 3.0)
    loss = CrossEntropy(class_weights=weights, label_smoothing=0.1)
    check_derivative(loss)
    model = Dense(3, 4, Softmax(), seed=0)
    h = torch.tensor(X @ model.weights, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        h,
        torch.tensor(CLASSES),
        weight=torch.tensor(weights, dtype=torch.float64),
        label_smoothing=0.1,
        reduction="sum",
    ) / len(X)
    expected.backward()
    model.forward(X)
    assert loss.backward(model, CLASSES) == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(model.parameters.gradients["weights"], X.T @ h.grad.numpy(), rtol=1e-11, atol=1e-15)
    assert check_gradients(model, loss, X, CLASSES).passed


def test_sample_weights_give_pytorchs_own_mean():
    weights = np.array([1.0, 2.0, 0.5, 3.0])
    model = Dense(3, 4, Softmax(), seed=0)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(X @ model.weights), torch.tensor(CLASSES), weight=torch.tensor(weights)
    )
    model.forward(X)
    assert CrossEntropy().backward(model, CLASSES, weights[CLASSES]) == pytest.approx(expected.item(), rel=1e-13)


def test_another_number_of_class_weights_than_classes_is_refused():
    model = Dense(3, 4, Softmax())
    model.forward(X)
    with pytest.raises(SettingsError, match="one weight for each of the 4 classes; got 3"):
        CrossEntropy(class_weights=(1.0, 2.0, 3.0)).backward(model, CLASSES)


@pytest.mark.parametrize("settings", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_smoothing_is_a_fraction(settings):
    for kind in (BinaryCrossEntropy, CrossEntropy):
        with pytest.raises(SettingsError, match="label_smoothing"):
            kind(**settings)


@pytest.mark.parametrize("classes", [2, 6, 7, 10, 50, 300])
def test_class_weights_of_any_number_of_classes_pass_the_check(classes):
    CrossEntropy(class_weights=[1.0 + place % 3 for place in range(classes)]).check_derivative()
