"""The notebook's step: one sigmoid neuron, one sample, one update, for both targets of the reference table.

    python examples/notebook_step.py

The notebook's code says y = 1.0, but the numbers printed under it were made with y = 5.0. Both columns are printed as
this package computes them, and compared with the notebook's own lines in NumPy, bit for bit.
"""

import numpy as np

from framework import HalfSquaredError, Neuron, SGDOptimizer, Sigmoid
from framework.training import increment

X = np.array([1.0, 1.0])
W = np.array([0.1, 0.2])
B = 0.0
ETA = 1.0


def framework_step(y):
    """Return the five quantities of the step, by the framework."""
    neuron = Neuron.from_weights(W, bias=B, activation=Sigmoid(), train_bias=False)
    optimizer = SGDOptimizer(neuron, learning_rate=ETA)
    change = increment(neuron, X, y, learning_rate=ETA)
    output = neuron.forward(X)  # remembers what backward needs
    HalfSquaredError().backward(neuron, y)  # delta, then every gradient
    optimizer.step()  # w <- w - eta * gradient
    return output, y - output, change, neuron.weights, y - neuron(X)


def notebook_step(y):
    """Return the same five quantities by the notebook's lines."""

    def sigmoid(h):
        return 1 / (1 + np.exp(-h))

    output = sigmoid(np.dot(W, X) + B)
    change = ETA * ((y - output) * (output * (1 - output))) * X
    weights = W + change
    return output, y - output, change, weights, y - sigmoid(np.dot(weights, X) + B)


def main():
    """Print both columns."""
    names = ("output", "error", "increment", "new weights", "new error")
    for y in (1.0, 5.0):
        print(f"y = {y}")
        for name, ours, theirs in zip(names, framework_step(y), notebook_step(y), strict=True):
            same = "the same bits" if np.array_equal(ours, theirs) else f"the notebook has {theirs}"
            print(f"  {name:<12} {np.asarray(ours).tolist()!s:<42} {same}")


if __name__ == "__main__":
    main()
