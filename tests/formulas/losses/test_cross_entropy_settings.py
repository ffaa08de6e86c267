"""Label smoothing and class weights of the cross-entropies, against PyTorch."""

import numpy as np
import pytest
from oracles import stored

from framework import BinaryCrossEntropy, CrossEntropy, Dense, Neuron, SettingsError, Sigmoid, Softmax, check_gradients
from framework.formulas import check_derivative

H, BINARY, CLASSES = stored("cross_entropy")["data"].values()


def trained(loss, target, weight=None):
    """Return the loss of a model whose logits are H, and its gradient by them, carried to the parameters."""
    model = Dense(4, 4, Softmax())
    model.parameters["weights"][:] = np.eye(4)
    model.forward(H)
    return model, loss.backward(model, target, weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_binary_cross_entropy_is_pytorchs(smoothing, weight):
    loss = BinaryCrossEntropy(label_smoothing=smoothing, positive_weight=weight)
    check_derivative(loss)
    expected, slope = stored("cross_entropy")[f"binary smoothing={smoothing} weight={weight}"].values()
    neuron = Neuron.from_weights([1.0], activation=Sigmoid())
    neuron.forward(H[:, :1])
    assert loss.backward(neuron, BINARY) == pytest.approx(float(expected), rel=1e-13)
    assert neuron.parameters.gradients["bias"] == pytest.approx(slope.sum(), rel=1e-12)
    assert neuron.parameters.gradients["weights"] == pytest.approx(H[:, 0] @ slope, rel=1e-12)
    assert loss(Sigmoid()(H[:, 0]), BINARY) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothed_cross_entropy_is_pytorchs(smoothing):
    loss = CrossEntropy(label_smoothing=smoothing)
    check_derivative(loss)
    expected, slope = stored("cross_entropy")[f"smoothing={smoothing}"].values()
    model, value = trained(loss, CLASSES)
    assert value == pytest.approx(float(expected), rel=1e-13)
    np.testing.assert_allclose(model.parameters.gradients["weights"], H.T @ slope, rtol=1e-11, atol=1e-15)


def test_balanced_class_weights_are_answered_with_what_balances():
    message = r"one weight for each class, such as \(1.0, 3.0\); .*sampling='balanced' in Trainer.*; got 'balanced'"
    with pytest.raises(SettingsError, match=message):
        CrossEntropy(class_weights="balanced")


def test_class_weights_are_pytorchs_over_the_number_of_rows():
    loss = CrossEntropy(class_weights=(1.0, 2.0, 0.5, 3.0), label_smoothing=0.1)
    check_derivative(loss)
    expected, slope = stored("cross_entropy")["class weights over rows"].values()
    model, value = trained(loss, CLASSES)
    assert value == pytest.approx(float(expected), rel=1e-13)
    np.testing.assert_allclose(model.parameters.gradients["weights"], H.T @ slope, rtol=1e-11, atol=1e-15)
    assert check_gradients(model, loss, H, CLASSES).passed


def test_sample_weights_give_pytorchs_own_mean():
    expected, slope = stored("cross_entropy")["class weights"].values()
    model, value = trained(CrossEntropy(), CLASSES, np.array([1.0, 2.0, 0.5, 3.0])[CLASSES])
    assert value == pytest.approx(float(expected), rel=1e-13)
    np.testing.assert_allclose(model.parameters.gradients["weights"], H.T @ slope, rtol=1e-11, atol=1e-15)


def test_another_number_of_class_weights_than_classes_is_refused():
    model = Dense(4, 4, Softmax())
    model.forward(H)
    with pytest.raises(SettingsError, match="one weight for each of the 4 classes; got 3"):
        CrossEntropy(class_weights=(1.0, 2.0, 3.0)).backward(model, CLASSES)


@pytest.mark.parametrize("settings", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_smoothing_is_a_fraction(settings):
    for kind in (BinaryCrossEntropy, CrossEntropy):
        with pytest.raises(SettingsError, match="label_smoothing"):
            kind(**settings)


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize("classes", [2, 6, 7, 10, 50, 300])
def test_class_weights_of_any_number_of_classes_pass_the_check(classes):
    CrossEntropy(class_weights=[1.0 + place % 3 for place in range(classes)]).check_derivative()
