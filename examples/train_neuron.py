"""One sigmoid neuron tells malignant from benign tumours: 5-fold cross-validation on the Wisconsin breast cancer set.

    python examples/train_neuron.py            # one shuffle of the folds
    python examples/train_neuron.py --seeds 5  # five shuffles

Each fold is held out once and has the same share of both classes. The mean and deviation that standardise the 30
measurements are those of the other four folds, so nothing about a held-out row is known in training. The seed sets the
folds, the first weights and the order of the rows.
"""

import argparse

import numpy as np

from framework import Accuracy, BinaryCrossEntropy, Neuron, ProgressBar, SGDOptimizer, Sigmoid, Trainer
from framework.data import BREAST_CANCER_CLASSES, load_breast_cancer

FOLDS = 5


def stratified_folds(y, seed):
    """Return the fold of each row: the shuffled rows, sorted by class, are dealt out like cards."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    fold = np.empty(len(y), dtype=int)
    fold[by_class] = np.arange(len(y)) % FOLDS
    return fold


def held_out_predictions(x, y, fold, seed):
    """Return for each row the probability of class 1, from the neuron that did not see the row's fold."""
    trainer = Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.1),
        epochs=100,
        batch_size=32,
        seed=seed,
        callbacks=[ProgressBar()],
    )
    prediction = np.empty(len(y))
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
        neuron = Neuron(x.shape[1], Sigmoid(), seed=seed)
        trainer.fit(neuron, ((x[train] - mean) / deviation, y[train]))
        prediction[test] = trainer.predict(neuron, (x[test] - mean) / deviation)
    return prediction


def print_confusion(prediction, y):
    """Print a row for each actual class, a column for each predicted one."""
    predicted = Accuracy().classes(prediction)
    print(f"\n{'actual / predicted':20}" + "".join(f"{name:>12}" for name in BREAST_CANCER_CLASSES))
    for label, name in enumerate(BREAST_CANCER_CLASSES):
        counts = np.bincount(predicted[y == label], minlength=2)
        print(f"{name:20}" + "".join(f"{count:12}" for count in counts))


def main():
    """Print the accuracy of each fold, their mean, and the confusion matrix of all held-out rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="shuffles: seeds 0, 1, ... (default: 1)")
    seeds = range(parser.parse_args().seeds)
    x, y = load_breast_cancer()
    print(Neuron(x.shape[1], Sigmoid()).summary(), "\n")
    means = []
    for seed in seeds:
        fold = stratified_folds(y, seed)
        prediction = held_out_predictions(x, y, fold, seed)
        accuracies = [Accuracy()(prediction[fold == k], y[fold == k]) for k in range(FOLDS)]
        means.append(np.mean(accuracies))
        print(f"seed {seed}: folds {' '.join(f'{a:.4f}' for a in accuracies)}, mean {means[-1]:.4f}")
        if seed == 0:
            print_confusion(prediction, y)
            print()
    print(f"mean held-out accuracy {np.mean(means):.4f}")


if __name__ == "__main__":
    main()
