"""The cost of trackers: the time of a run with one of them, over the time that the run spends outside of it.

    PYTHONPATH=. OPENBLAS_NUM_THREADS=1 python benchmarks/trackers.py

Two trainings: a network 1-8-1 on 32 rows, whose epoch is one step, and a network 64-32-10 on 1,347 digits in batches of
32. Processor time in the hooks of the tracker is compared with that of the whole run, so both are of the same moment.
Imports and a new database are not timed.
"""

from __future__ import annotations

import argparse
import os
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
    Neuron,
    ReLU,
    Run,
    Sequential,
    SGDOptimizer,
    Softmax,
    Tanh,
    Trainer,
    split,
)
from framework.data import load_digits
from framework.training import JSONLog, MLflow, TensorBoard

CALLBACKS: dict[str, Callable[[], Callback]] = {
    "JSONLog": lambda: JSONLog(path="log.jsonl"),
    "TensorBoard": lambda: TensorBoard(folder="board"),
    "MLflow": MLflow,
}
spent = [0.0]
"""The processor time in hooks so far."""


def timed(hook: Callable[[Any, Run], None]) -> Callable[[Any, Run], None]:
    """Return a hook that adds its processor time to ``spent``."""

    def call(callback: Callback, run: Run) -> None:
        begun = time.process_time()
        hook(callback, run)
        spent[0] += time.process_time() - begun

    return call


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
    parser.add_argument("--work", choices=("small", "digits"), action="append", help="what is trained; both by default")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for cls in (JSONLog, TensorBoard, MLflow):
        for name in ("on_train_begin", "on_epoch_end", "on_train_end"):
            setattr(cls, name, timed(getattr(cls, name)))
    works = {"small": small, "digits": digits}
    print("| training | ms an epoch | tracker | time over that outside of it | µs an epoch |\n|---|---|---|---|---|")
    for name in options.work or works:
        for each, callback in CALLBACKS.items():
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                works[name]((callback(),), 2)  # imports, the database
                spent[0], begun = 0.0, time.process_time()
                works[name]((callback(),), options.epochs)
                rest = time.process_time() - begun - spent[0]
            figures = f"{1e3 * rest / options.epochs:.2f} | {each} | {1 + spent[0] / rest:.3f}"
            print(f"| {name} | {figures} | {1e6 * spent[0] / options.epochs:.0f} |", flush=True)


if __name__ == "__main__":
    main()
