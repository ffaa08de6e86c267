"""What the trackers cost: a run of 10,000 epochs with each of them, over the same run without.

    PYTHONPATH=. OPENBLAS_NUM_THREADS=1 python benchmarks/trackers.py

Two trainings: a network 1-8-1 on 32 rows, whose epoch is one step, and a network 64-32-10 on 1,347 digits in batches of
32. A row has loss, accuracy or none, their validation, the rate and the seconds. Processor times are taken in turn, so
that whatever else the machine does meets all of them; imports and a new database are not timed. A figure is the median
of the ratios of the turns; then the processor time of a tracker for each epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from typing import Any

import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    Callback,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    JSONLog,
    MLflow,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Softmax,
    Tanh,
    TensorBoard,
    Trainer,
    split,
)
from framework.datasets import load_digits

CALLBACKS: dict[str, Callable[[], tuple[Callback, ...]]] = {
    "none": lambda: (),
    "JSONLog": lambda: (JSONLog(path="log.jsonl"),),
    "TensorBoard": lambda: (TensorBoard(folder="board"),),
    "MLflow": lambda: (MLflow(),),
}


def small(callbacks: tuple[Callback, ...], epochs: int) -> None:
    """Train a network 1-8-1 on 32 rows."""
    x = np.linspace(-1, 1, 32)[:, None]
    optimizer = SGDOptimizer(learning_rate=0.1)
    trainer = Trainer(loss=HalfSquaredError(), optimizer=optimizer, epochs=epochs, callbacks=callbacks)
    trainer.fit(Sequential(Dense(1, 8, Tanh()), Neuron(8)), (x, x[:, 0] ** 2), (x, x[:, 0] ** 2))


def digits(callbacks: tuple[Callback, ...], epochs: int) -> None:
    """Train a network 64-32-10 on the digits."""
    x, y = load_digits()
    train, test = split((x / 16, y), 0.25, seed=0, stratify=True)
    settings: dict[str, Any] = {"metrics": [Accuracy()], "callbacks": callbacks, "epochs": epochs}
    trainer = Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.0001), **settings)
    trainer.fit(Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax())), train, test)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10_000, help="the epochs of a run")
    parser.add_argument("--turns", type=int, default=3, help="how many times each is timed")
    parser.add_argument("--work", choices=("small", "digits"), action="append", help="what is trained; both by default")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    works = {"small": small, "digits": digits}
    print("| training | ms an epoch | tracker | time over that without | µs an epoch |\n|---|---|---|---|---|")
    for name in options.work or works:
        times: dict[str, list[float]] = {each: [] for each in CALLBACKS}
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            for callbacks in CALLBACKS.values():
                works[name](callbacks(), 2)  # imports, kernels, the database
            for _ in range(options.turns):
                for each, callbacks in CALLBACKS.items():
                    begun = time.process_time()
                    works[name](callbacks(), options.epochs)
                    times[each].append(time.process_time() - begun)
        plain = times.pop("none")
        for each, found in times.items():
            ratios = [one / other for one, other in zip(found, plain, strict=True)]
            cost = statistics.median(one - other for one, other in zip(found, plain, strict=True)) / options.epochs
            base = 1e3 * statistics.median(plain) / options.epochs
            shown = f"{statistics.median(ratios):.3f} [{min(ratios):.3f} .. {max(ratios):.3f}]"
            print(f"| {name} | {base:.2f} | {each} | {shown} | {1e6 * cost:.0f} |", flush=True)


if __name__ == "__main__":
    main()
