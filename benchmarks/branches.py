"""What names cost: a step with dicts of arrays against the same step with one array (batches of 32, 20-16-1).

    OPENBLAS_NUM_THREADS=1 python benchmarks/branches.py

The rows of each line have the same products, except the last, which has one head and one loss more. Printed are the
median of the ratios of CPU time, the least and the greatest. The contenders run in turn.
"""

import statistics
import time

import numpy as np

from framework import Dense, Heads, Join, MeanSquaredError, ReLU, Sequential, SGDOptimizer, Trainer
from framework.formulas import OutputLosses

BATCH, STEPS, PAIRS = 32, 600, 15
BAR = 1.3


def contenders():
    """Return each model with its data and its loss, by name."""
    x = np.random.default_rng(0).normal(size=(BATCH * STEPS, 20))
    y, named = x[:, :1] + 1.0, {"a": x[:, :12].copy(), "b": x[:, 12:].copy()}

    def network(*layers):
        return Sequential(*layers[:-1], Dense(units=16, activation=ReLU()), layers[-1])

    one, two = Dense(units=1), Dense(units=2)
    head, heads = Heads(a=Dense(units=1)), Heads(a=Dense(units=1), b=Dense(units=1))
    loss = MeanSquaredError()
    return {
        "one array": (network(one), (x, y), loss),
        "two inputs": (network(Join(a=None, b=None), one.copy()), (named, y), loss),
        "one head": (network(head), (x, {"a": y}), OutputLosses(a=loss)),
        "one array, two units": (network(two), (x, np.hstack([y, -y])), loss),
        "two heads": (network(heads), (x, {"a": y, "b": -y}), OutputLosses(a=loss, b=loss)),
    }


def main():
    """Train each in turn, and print the ratios."""
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=BATCH)
    seconds = {name: [] for name in contenders()}
    for pair in range(PAIRS + 1):  # the first is not counted
        for name, (model, data, loss) in contenders().items():
            recipe = trainer.replace(loss=loss)
            start = time.process_time()
            recipe.fit(model, data)
            if pair:
                seconds[name].append(time.process_time() - start)
    for name, plain in (("two inputs", "one array"), ("one head", "one array"), ("two heads", "one array, two units")):
        ratios = [one / other for one, other in zip(seconds[name], seconds[plain], strict=True)]
        median = statistics.median(ratios)
        bar = "" if name == "two heads" else f"; at most {BAR:g}: {'met' if median <= BAR else 'MISSED'}"
        print(f"{name} / {plain}: {median:.2f} [{min(ratios):.2f} .. {max(ratios):.2f}]{bar}")


if __name__ == "__main__":
    main()
