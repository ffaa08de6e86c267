"""A network of two layers reads handwritten digits: 1797 images of 8 x 8 pixels, a quarter of them held out.

    python examples/train_network.py            # one split
    python examples/train_network.py --seeds 5  # five splits, the figure in the documentation

The pixels, 0 to 16, are scaled to [0, 1]; He's initializer suits ReLU. The seed sets the split, the first weights and
the order of the rows. The held-out rows have no part in training; one split alone is good for about +-0.007.
"""

import argparse

import numpy as np

from framework import (
    Accuracy,
    CrossEntropy,
    Dense,
    ProgressBar,
    ReLU,
    Sequential,
    SGDOptimizer,
    Softmax,
    Trainer,
    split,
)
from framework.data import load_digits
from framework.models import He


def network(seed):
    """Return an untrained network."""
    return Sequential(Dense(64, 64, ReLU(), initializer=He()), Dense(64, 10, Softmax()), seed=seed)


def held_out_accuracy(x, y, seed):
    """Train on three quarters of the rows, and return the accuracy on the others."""
    train, test = split((x, y), 0.25, seed=seed)
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.05, momentum=0.9),
        epochs=50,
        batch_size=32,
        seed=seed,
        metrics=[Accuracy()],
        callbacks=[ProgressBar()],
    )
    model = network(seed)
    trainer.fit(model, train)
    return trainer.evaluate(model, test)["accuracy"]


def main():
    """Print the held-out accuracy of each seed, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="splits: seeds 0, 1, ... (default: 1)")
    seeds = range(parser.parse_args().seeds)
    x, y = load_digits()
    print(network(0).summary(), "\n")
    accuracies = []
    for seed in seeds:
        accuracies.append(held_out_accuracy(x / 16.0, y, seed))
        print(f"seed {seed}: held-out accuracy {accuracies[-1]:.4f}")
    print(f"mean held-out accuracy {np.mean(accuracies):.4f}")


if __name__ == "__main__":
    main()
