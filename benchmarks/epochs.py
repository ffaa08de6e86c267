"""Measure what an epoch costs beyond its steps: full-batch training of small data has one step an epoch.

    python -m benchmarks.epochs

The network is 24-8-2 with Sigmoid and Softmax, cross-entropy and plain SGD, in float32, without callbacks, metrics or
validation. One training has 200 rows, all in one batch, for ``EPOCHS`` epochs; another has as many steps of 200 rows in
a single epoch. The cost is the difference by epoch. Both engines and both trainings run in turn, and the medians of
``ROUNDS`` rounds are compared, each from the processor time of one training less that of a short one.
"""

import argparse
import time
from statistics import median

import numpy as np

import framework as fw

ROWS, EPOCHS, ROUNDS = 200, 1000, 9
BARS = {"compiled": 30, "numpy": 60}
"""The microseconds that an epoch may take beyond its step."""


def seconds(engine: str, steps: int, epochs: int) -> float:
    """Return the processor time of training: ``epochs`` epochs of ``steps`` batches each."""
    rng = np.random.default_rng(0)
    rows = ROWS * steps
    data = rng.normal(size=(rows, 24)).astype(np.float32), rng.integers(0, 2, rows)
    model = fw.Sequential(fw.Dense(24, 8, fw.Sigmoid()), fw.Dense(8, 2, fw.Softmax()), dtype="float32")
    optimizer = fw.SGDOptimizer(learning_rate=0.01)
    trainer = fw.Trainer(
        loss=fw.CrossEntropy(), optimizer=optimizer, batch_size=ROWS, engine=engine, epochs=epochs, progress=False
    )
    begun = time.process_time()
    trainer.fit(model, data)
    return time.process_time() - begun


def microseconds(engine: str) -> tuple[float, float]:
    """Return the time of an epoch of one step, and that of a step in a long epoch."""
    first, more = seconds(engine, 1, 100), seconds(engine, 1, 100 + EPOCHS)
    short, long = seconds(engine, 100, 1), seconds(engine, 100 + EPOCHS, 1)
    return 1e6 * (more - first) / EPOCHS, 1e6 * (long - short) / EPOCHS


def main() -> None:
    """Measure, and print the medians with their bars."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epochs", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    for engine in BARS:
        seconds(engine, 1, 1)
    measured = [{engine: microseconds(engine) for engine in BARS} for _ in range(rounds)]
    for engine, bar in BARS.items():
        epoch, step = (median(times[engine][which] for times in measured) for which in (0, 1))
        beyond = median(times[engine][0] - times[engine][1] for times in measured)
        print(f"{engine}: {epoch:.1f} us an epoch, {step:.1f} a step; {beyond:.1f} beyond it, at most {bar}")


if __name__ == "__main__":
    main()
