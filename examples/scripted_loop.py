"""A training loop written by hand on real data: no Trainer, batches by hand, the three calls of a step in sight.

    python examples/scripted_loop.py

One sigmoid neuron learns to tell malignant from benign tumours (Wisconsin breast cancer, 569 rows, 30 measurements). A
quarter of the rows is held out, and the 30 columns are standardised with the numbers of the other rows.
"""

import numpy as np

from framework import Accuracy, BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, random_generator, split
from framework.data import load_breast_cancer

EPOCHS = 30
BATCH = 32
SEED = 0


def main():
    """Train, print the loss as it goes down, then the held-out accuracy."""
    (x, y), (x_test, y_test) = split(load_breast_cancer(), 0.25, seed=SEED, stratify=True)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation

    neuron = Neuron(30, Sigmoid(), seed=SEED)
    loss = BinaryCrossEntropy()
    optimizer = SGDOptimizer(neuron, learning_rate=0.1)

    for epoch in range(EPOCHS):
        order = random_generator(SEED, "order", epoch).permutation(len(y))
        total = 0.0
        for start in range(0, len(y), BATCH):
            rows = order[start : start + BATCH]
            neuron.forward(x[rows])
            total += loss.backward(neuron, y[rows]) * len(rows)  # a smaller last batch counts by its rows
            optimizer.step()
        if (epoch + 1) % 5 == 0:
            print(f"epoch {epoch + 1:2}: loss {total / len(y):.4f}")

    prediction = neuron(x_test)
    right = np.count_nonzero((prediction >= 0.5) == y_test)
    print(f"held-out accuracy {Accuracy()(prediction, y_test):.4f}: {right} of {len(y_test)} rows right")


if __name__ == "__main__":
    main()
