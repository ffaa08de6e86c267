"""A training that is killed (SIGKILL) and started again gives the same weights, to the last bit, as one that was not.

python examples/killed_and_resumed.py
"""

import multiprocessing
import tempfile
import time

import numpy as np

from framework import (
    AdamOptimizer,
    Checkpoint,
    CrossEntropy,
    Dense,
    Dropout,
    ReLU,
    Run,
    Sequential,
    Softmax,
    Trainer,
    latest,
)
from framework.data import load_digits


def train(folder: str) -> Run:
    """Start, or resume from the newest file in the folder."""
    x, y = load_digits()
    model = Sequential(Dense(64, 64, ReLU()), Dropout(0.2), Dense(64, 10, Softmax()))
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(learning_rate=0.001),
        epochs=30,
        callbacks=[Checkpoint(folder, every=20)],
    )
    newest = latest(folder)
    if newest is None:
        return trainer.fit(model, (x / 16.0, y))
    print(f"resumes from {newest.name}")
    return trainer.resume(newest, (x / 16.0, y))


def main() -> None:
    """Train once in peace and once with three kills, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        straight = train(f"{folder}/straight")
        for seconds in (0.5, 0.6, 0.7):
            process = multiprocessing.get_context("spawn").Process(target=train, args=(f"{folder}/killed",))
            process.start()
            while process.is_alive() and latest(f"{folder}/killed") is None:
                time.sleep(0.01)
            process.join(seconds)
            print("killed" if process.is_alive() else "was done before it could be killed")
            process.kill()
            process.join()
        run = train(f"{folder}/killed")
    same = np.array_equal(run.model.parameters.vector, straight.model.parameters.vector)
    print(f"{run.step} steps; the same weights to the last bit: {same}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
