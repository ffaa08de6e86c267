"""What the check for divergence costs: its share of a training step on 784-128-10, batches of 128, float32, one thread.

    OPENBLAS_NUM_THREADS=1 python benchmarks/divergence.py

The check is two questions: is the loss finite, and is the product of the gradient with itself finite. Both are timed
where they happen, inside the steps that they are a part of, so that the gradient is in the caches that backward left it
in. A figure is of 100 steps; printed are the median of 41 figures, the least and the greatest. What the two clocks cost
counts as part of the check.
"""

import math
import statistics
import time

import numpy as np

import framework.formulas.losses.base as losses
import framework.training.optimizers.base as optimizers
from framework import CrossEntropy, Dense, ReLU, Sequential, SGDOptimizer, Softmax

BATCH, STEPS, REPEATS = 128, 100, 41
BAR = 3.0
"""Per cent of a step."""


class Timed:
    """A function that adds up the seconds that it takes."""

    def __init__(self, function):
        """Take the function."""
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments):
        """Call the function between two looks at the clock."""
        start = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result


class TimedMath:
    """The module math, with a timed ``isfinite``; loss and optimizer each look it up there."""

    def __init__(self, isfinite):
        """Take the timed function."""
        self.isfinite = isfinite

    def __getattr__(self, name):
        """Return everything else as it is."""
        return getattr(math, name)


def main():
    """Train, and print the share of the check."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS * BATCH, 784), dtype=np.float32)
    y = rng.integers(0, 10, len(x))
    model = Sequential(Dense(784, 128, ReLU()), Dense(128, 10, Softmax()), dtype="float32")
    optimizer, loss = SGDOptimizer(model, learning_rate=0.01), CrossEntropy()

    def steps():
        start = time.perf_counter()
        for first in range(0, len(x), BATCH):
            model.forward(x[first : first + BATCH], copy=False)
            loss.backward(model, y[first : first + BATCH], check=False)
            optimizer.step()
        return time.perf_counter() - start

    steps()  # warm
    vdot, isfinite = optimizers._vdot, Timed(math.isfinite)
    optimizers._vdot = product = Timed(vdot)
    losses.math = optimizers.math = TimedMath(isfinite)
    shares, whole = [], []
    for _ in range(REPEATS):
        product.seconds = isfinite.seconds = 0.0
        product.calls = isfinite.calls = 0
        seconds = steps()
        assert (product.calls, isfinite.calls) == (STEPS, 2 * STEPS)  # one test of the loss, one of the gradient
        shares.append(100 * (product.seconds + isfinite.seconds) / seconds)
        whole.append(1e6 * seconds / STEPS)
    for name, values, unit in (("a step", whole, "µs"), ("of it the check for divergence", shares, "%")):
        spread = f"[{min(values):.3g} .. {max(values):.3g}]"
        print(f"{name:<32} {statistics.median(values):8.3g} {unit:<2} {spread}")
    print(f"at most {BAR:g} %: {'met' if statistics.median(shares) <= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()
