"""Compare the choices that a user has, by the rows a second of one small network: ``python -m benchmarks.choices``.

The network is 64-32-10 on the digits, ten times over: 17,970 rows, Adam. A round trains every variant for two epochs;
the second one counts, so compiling does not. The ratio of a variant to the first one is made in every round; the table
has the median, the least and the greatest. A number of rounds may follow the command.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import statistics
import sys

import numpy as np

from framework import Accuracy, AdamOptimizer, CrossEntropy, Dense, ReLU, Sequential, Softmax, Trainer, on
from framework.data import load_digits

VARIANTS = {
    "NumPy, batches of 32, float64": {},
    "batches of 8": {"batch_size": 8},
    "batches of 128": {"batch_size": 128},
    "batches of 512": {"batch_size": 512},
    "float32": {"dtype": "float32"},
    "float32, batches of 512": {"dtype": "float32", "batch_size": 512},
    "with Accuracy()": {"metrics": [Accuracy()]},
    "compiled": {"engine": "compiled"},
    "compiled, batches of 8": {"engine": "compiled", "batch_size": 8},
    "compiled, batches of 128": {"engine": "compiled", "batch_size": 128},
    "compiled, float32": {"engine": "compiled", "dtype": "float32"},
    "compiled, with on_batch_end": {"engine": "compiled", "callbacks": [on("batch_end")(lambda run: run.step)]},
}


def rate(dtype="float64", **settings):
    """Return the rows a second of the second epoch."""
    x, y = load_digits()
    x, y = np.tile(x / 16, (10, 1)).astype(dtype), np.tile(y, 10)
    model = Sequential(Dense(64, 32, ReLU(), dtype=dtype), Dense(32, 10, Softmax(), dtype=dtype))
    trainer = Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.003), epochs=2, **settings)
    return len(y) / trainer.fit(model, (x, y)).history[-1]["seconds"]


def main(rounds):
    """Print the table."""
    rates = [{name: rate(**settings) for name, settings in VARIANTS.items()} for _ in range(rounds)]
    first = next(iter(VARIANTS))
    print("| variant | rows a second, of the first |\n|---|---|")
    for name in VARIANTS:
        ratios = sorted(each[name] / each[first] for each in rates)
        print(f"| {name} | {statistics.median(ratios):.2g} [{ratios[0]:.2g} .. {ratios[-1]:.2g}] |")
    print(f"the first: {statistics.median(each[first] for each in rates):,.0f} rows a second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
