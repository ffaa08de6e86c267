"""NeuralClassifier against scikit-learn's MLPClassifier on the same work.

    OPENBLAS_NUM_THREADS=1 python benchmarks/estimators.py

Both have the same layers, optimizer, batches and epochs, no penalty and no early end, and call ``fit`` on the same
rows, in one thread. Their processor times are taken in pairs, one after the other, so that whatever else the machine
does meets both. A figure is the median of the ratios of the pairs, with the least and the greatest. ``fit`` is whole:
the checks of the data, the first weights, the history. The compiled engine has its kernel from a first fit, which is
not timed. From equal weights both give the same loss curve, as tests/test_sklearn.py shows.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from framework import AdamOptimizer, Dense, ReLU, SGDOptimizer
from framework.sklearn import NeuralClassifier


@dataclass(frozen=True)
class Work:
    """What is trained."""

    rows: int
    features: int
    hidden: int
    classes: int
    batch_size: int
    epochs: int


WORKS = (
    Work(20_000, 20, 16, 2, 32, 3),
    Work(1_797, 64, 32, 10, 32, 20),
    Work(500, 10, 16, 2, 500, 200),
    Work(5_000, 30, 100, 2, 200, 20),
)
OPTIMIZERS = {
    "SGD": (
        SGDOptimizer(learning_rate=0.01),
        {"solver": "sgd", "learning_rate_init": 0.01, "momentum": 0.0, "nesterovs_momentum": False},
    ),
    "Adam": (AdamOptimizer(learning_rate=0.001), {"solver": "adam", "learning_rate_init": 0.001}),
}


def seconds(estimator: Any, X: Any, y: Any) -> float:
    """Return the processor time of a fit, which waits for no other program."""
    begun = time.process_time()
    estimator.fit(X, y)
    return time.process_time() - begun


def ratios(work: Work, optimizer: str, engine: str, pairs: int) -> list[float]:
    """Return the seconds of MLPClassifier over ours in each pair."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(work.rows, work.features)), rng.integers(0, work.classes, work.rows)
    recipe, settings = OPTIMIZERS[optimizer]
    shared: dict[str, Any] = {"batch_size": work.batch_size, "early_stopping": False, "random_state": 0}
    ours = NeuralClassifier(
        layers=[Dense(units=work.hidden, activation=ReLU())],
        optimizer=recipe,
        epochs=work.epochs,
        engine=engine,
        **shared,
    )
    settings = settings | {"alpha": 0.0, "max_iter": work.epochs, "n_iter_no_change": work.epochs + 1}
    theirs = MLPClassifier((work.hidden,), **settings, **shared)
    times = []
    for pair in range(pairs + 1):
        turn = [theirs, ours] if pair % 2 else [ours, theirs]
        took = {id(estimator): seconds(estimator, X, y) for estimator in turn}
        times.append((took[id(theirs)], took[id(ours)]))
    if not ours.n_iter_ == theirs.n_iter_ == work.epochs:
        raise SystemExit(f"not the same work: {ours.n_iter_} and {theirs.n_iter_} epochs")
    return [their / our for their, our in times[1:]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="how many times both are timed")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are given
    print("MLPClassifier's time over ours: median [least .. greatest]\n")
    print("| rows × features, hidden, classes, batch | optimizer | NumPy | compiled |\n|---|---|---|---|")
    for work in WORKS:
        for optimizer in OPTIMIZERS:
            cells = []
            for engine in ("numpy", "compiled"):
                found = ratios(work, optimizer, engine, options.pairs)
                cells.append(f"{statistics.median(found):.3g} [{min(found):.3g} .. {max(found):.3g}]")
            size = f"{work.rows:,} × {work.features}, {work.hidden}, {work.classes}, {work.batch_size}"
            print(f"| {size} | {optimizer} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
