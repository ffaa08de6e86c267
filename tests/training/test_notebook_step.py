"""One step of one sigmoid neuron, bit for bit as the notebook computes it."""

import numpy as np
import pytest

from framework import HalfSquaredError, Neuron, SGDOptimizer, Sigmoid, Trainer

X = np.array([1.0, 1.0])
W = np.array([0.1, 0.2])
B = 0.0
ETA = 1.0

TABLE = {  # y: output, error, increment (eight decimals), new weights (eight decimals), new error
    1.0: (0.574442516811659, 0.42555748318834097, 0.10403106, [0.20403106, 0.30403106], 0.3756479177846611),
    5.0: (0.574442516811659, 4.425557483188341, 1.08186431, [1.18186431, 1.28186431], 4.078440380493933),
}


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def sigmoid_prime(h):
    return sigmoid(h) * (1 - sigmoid(h))


def combinacion_lineal(x, w, b):
    return np.dot(w, x) + b


def neurona(x, w, b):
    return sigmoid(combinacion_lineal(x, w, b))


def error_term(y, x, w, b):
    return (y - neurona(x, w, b)) * sigmoid_prime(combinacion_lineal(x, w, b))


def increment(eta, y, x, w, b, i):  # noqa: ARG001 (the notebook's argument)
    """The increment of every weight: the notebook's function ignores the index."""
    return eta * error_term(y, x, w, b) * x


def make_neuron():
    return Neuron.from_weights(W, bias=B, activation=Sigmoid(), train_bias=False)


def step_by_hand(neuron, y):
    optimizer = SGDOptimizer(neuron, learning_rate=ETA)
    neuron.forward(X)
    HalfSquaredError().backward(neuron, y)
    optimizer.step()


def step_by_trainer(neuron, y):
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=ETA), epochs=1, batch_size=1)
    trainer.fit(neuron, (X[None], [y]))


@pytest.mark.parametrize("y", TABLE)
def test_the_notebooks_functions_give_the_table(y):
    output, error, added, weights, new_error = TABLE[y]
    increments = increment(ETA, y, X, W, B, 0)
    assert neurona(X, W, B) == output
    assert y - neurona(X, W, B) == error
    assert np.round(increments, 8).tolist() == [added, added]
    assert np.round(W + increments, 8).tolist() == weights
    assert y - neurona(X, W + increments, B) == new_error


@pytest.mark.parametrize("y", TABLE)
def test_output_and_error_before_the_step(y):
    neuron = make_neuron()
    assert neuron(X) == neuron.forward(X) == neurona(X, W, B) == TABLE[y][0]
    assert y - neuron(X) == TABLE[y][1]


@pytest.mark.parametrize("y", TABLE)
def test_the_gradient_is_minus_the_increment(y):
    neuron = make_neuron()
    neuron.forward(X)
    loss = HalfSquaredError().backward(neuron, y)
    assert loss == 0.5 * (y - neurona(X, W, B)) ** 2
    assert (-neuron.parameters.gradients["weights"]).tolist() == increment(ETA, y, X, W, B, 0).tolist()


@pytest.mark.parametrize("step", [step_by_hand, step_by_trainer])
@pytest.mark.parametrize("y", TABLE)
def test_weights_output_and_error_after_the_step(y, step):
    neuron = make_neuron()
    step(neuron, y)
    weights = W + increment(ETA, y, X, W, B, 0)
    assert neuron.weights.tolist() == weights.tolist()
    assert neuron.bias == B
    assert neuron(X) == neurona(X, weights, B)
    assert y - neuron(X) == TABLE[y][4]


@pytest.mark.parametrize("h", [-745.0, -700.0, -30.0, -1.5, -0.0, 0.0, 0.3, 20.0, 709.0])
def test_sigmoid_has_the_notebooks_bits(h):
    if h > -709:  # beyond, the notebook's own formula overflows
        assert Sigmoid()(np.float64(h)) == sigmoid(np.float64(h))
        assert Sigmoid().derivative(np.float64(h)) == sigmoid_prime(np.float64(h))
    else:
        assert 0 < Sigmoid()(np.float64(h)) < 1e-307
