"""What a step, an epoch and the import cost, beside NumPy written by hand and beside PyTorch: ratios of one run.

    python benchmarks/step.py                     # everything, about three minutes; needs the extra "test"
    python benchmarks/step.py step                # only (a) and (b)
    python benchmarks/step.py --json figures.json

(a) step: one step on the notebook's neuron, two weights and one sample, by a loop written by hand: forward, backward,
    step. Over the same step by the notebook's own functions in NumPy: output, increment, new weights.
(b) step: the same step in PyTorch eager over ours: tensors with requires_grad and torch.optim.SGD, float64. For
    comparison also the least that PyTorch can do: no optimizer, the weights changed under no_grad.
(c) epoch: an epoch of Trainer over one of PyTorch eager: 60,000 x 784 float32, 784-128-10 with ReLU, cross-entropy,
    batches of 128, plain SGD. Both begin with the same weights and index the same arrays with the same permutations;
    their losses must agree in every epoch. Each runs in a process of its own, because two pools of BLAS threads in one
    process hinder each other. Ours is timed with its check of the whole data, PyTorch's with nothing but the loop.
(d) import: the seconds that `import framework` adds to an empty Python process; beside it those of numpy and pydantic
    with one model of one field, because pydantic imports most of itself when it is first used.

What is compared is run in turn, many times, and a figure is the median of the ratios of neighbours, with the least and
the greatest in brackets: what else the machine does meets both sides alike.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import timeit
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from framework import HalfSquaredError, Neuron, SGDOptimizer, Sigmoid

LOSS_TOLERANCE = 1e-5
"""Relative, in every epoch. Float32 sums in another order differ by 4e-7; one batch left out once, by 5e-4."""


@dataclass
class Figure:
    """A measured figure, and the bar that it is held against: at most, or at least when ``least``."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    bar: float | None = None
    least: bool = False

    @classmethod
    def of(cls, name, unit, values, bar=None, *, least=False):
        """Return the median and the range of ``values``."""
        return cls(name, unit, statistics.median(values), min(values), max(values), bar, least)

    @property
    def verdict(self):
        """Whether the median meets the bar."""
        if self.bar is None:
            return ""
        met = self.median >= self.bar if self.least else self.median <= self.bar
        return f"{'at least' if self.least else 'at most'} {self.bar:g}: {'met' if met else 'MISSED'}"

    def __str__(self):
        """Return a line of the report."""
        spread = f"[{self.low:.4g} .. {self.high:.4g}]"
        return f"  {self.name:<52} {self.median:8.4g} {self.unit:<2} {spread:<20} {self.verdict}".rstrip()


def ratios(above, below):
    """Return the ratio of each pair of neighbours."""
    return [a / b for a, b in zip(above, below, strict=True)]


def in_turn(timers, repeats):
    """Call each timer once a repeat, in an order that turns, and return the results by name."""
    results = {name: [] for name in timers}
    names = list(timers)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            results[name].append(timers[name]())
    return results


# (a) and (b): one step of the notebook's neuron. Each maker returns the step and a way to read the weights.

X, W, Y, ETA = [1.0, 1.0], [0.1, 0.2], 5.0, 1.0


def notebook_step():
    """The notebook's functions, and the three lines that use them."""

    def sigmoid(h):
        return 1 / (1 + np.exp(-h))

    def sigmoid_prime(h):
        return sigmoid(h) * (1 - sigmoid(h))

    def linear_combination(x, w, b):
        return np.dot(w, x) + b

    def neuron(x, w, b):
        return sigmoid(linear_combination(x, w, b))

    def error_term(y, x, w, b):
        return (y - neuron(x, w, b)) * sigmoid_prime(linear_combination(x, w, b))

    def increment(eta, y, x, w, b):
        return eta * error_term(y, x, w, b) * x

    x, w, b = np.array(X), np.array(W), 0.0

    def step():
        nonlocal w
        output = neuron(x, w, b)
        w = w + increment(ETA, Y, x, w, b)
        return output

    return step, lambda: w


def framework_step():
    """The loop that the README writes by hand."""
    neuron = Neuron.from_weights(W, bias=0.0, activation=Sigmoid(), train_bias=False)
    loss = HalfSquaredError()
    optimizer = SGDOptimizer(neuron, learning_rate=ETA)
    x = np.array(X)

    def step():
        output = neuron.forward(x)
        loss.backward(neuron, Y)
        optimizer.step()
        return output

    return step, lambda: neuron.weights


def torch_step(*, optimized):
    """The same in PyTorch eager, with torch.optim.SGD or with the update written out."""
    x, b = torch.tensor(X, dtype=torch.float64), 0.0
    w = torch.tensor(W, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=ETA)

    def step():
        output = torch.sigmoid(w @ x + b)
        loss = 0.5 * (output - Y) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return output

    def step_without_optimizer():
        output = torch.sigmoid(w @ x + b)
        loss = 0.5 * (output - Y) ** 2
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad, alpha=ETA)
            w.grad = None
        return output

    return step if optimized else step_without_optimizer, lambda: w.detach().numpy()


def measure_step(repeats=41, number=1000):
    """Measure (a) and (b)."""
    torch.set_num_threads(1)
    makers = {
        "notebook": notebook_step,
        "framework": framework_step,
        "torch": lambda: torch_step(optimized=True),
        "torch without optimizer": lambda: torch_step(optimized=False),
    }
    steps = {}
    for name, maker in makers.items():
        steps[name], weights = maker()
        steps[name]()
        np.testing.assert_allclose(weights(), [1.18186431, 1.28186431], rtol=1e-8, err_msg=name)
        timeit.timeit(steps[name], number=number)  # warm
    timers = {name: lambda step=step: timeit.timeit(step, number=number) / number for name, step in steps.items()}
    seconds = in_turn(timers, repeats)
    ours = seconds["framework"]
    return [
        *(Figure.of(f"a step, {name}", "µs", [1e6 * s for s in values]) for name, values in seconds.items()),
        Figure.of("(a) a step, framework / notebook", "", ratios(ours, seconds["notebook"]), 2.5),
        Figure.of("(b) a step, torch / framework", "", ratios(seconds["torch"], ours), 5, least=True),
        Figure.of("a step, torch without optimizer / framework", "", ratios(seconds["torch without optimizer"], ours)),
    ]


# (c): an epoch. Each script prints the seconds of an epoch, and the loss of every epoch.

EPOCH_SCRIPTS = {name: Path(__file__).with_name(f"epoch_{name}.py") for name in ("framework", "torch")}


def run_epochs(name, threads):
    """Run an epoch script in a process of its own; return the seconds of an epoch and the losses."""
    pools = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    command = [sys.executable, EPOCH_SCRIPTS[name], str(threads)]
    done = subprocess.run(command, env=os.environ | pools, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def measure_epoch(repeats=7):
    """Measure (c) with one thread and with two."""
    figures = []
    for threads in (1, 2):
        timers = {name: lambda name=name, threads=threads: run_epochs(name, threads) for name in EPOCH_SCRIPTS}
        results = in_turn(timers, repeats)
        losses = {name: runs[0][1] for name, runs in results.items()}
        np.testing.assert_allclose(losses["framework"], losses["torch"], rtol=LOSS_TOLERANCE)
        seconds = {name: [seconds for seconds, _ in runs] for name, runs in results.items()}
        title = f"epoch, {threads} thread{'s' * (threads > 1)}"
        figures += [Figure.of(f"{title}, {name}", "s", values) for name, values in seconds.items()]
        figures += [Figure.of(f"{title}, {name}, last loss", "", [losses[name][-1]]) for name in EPOCH_SCRIPTS]
        ratio = ratios(seconds["framework"], seconds["torch"])
        figures.append(Figure.of(f"(c) {title}, framework / torch", "", ratio, 1.0))
    return figures


# (d): the import.


def measure_import(repeats=21):
    """Measure (d)."""

    def process(code):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    codes = {
        "nothing": "pass",
        "numpy": "import numpy",
        "numpy, pydantic": "import numpy, pydantic\nclass Model(pydantic.BaseModel):\n  rate: float = 0.1",
        "framework": "import framework",
    }
    for code in codes.values():
        process(code)  # writes the bytecode
    seconds = in_turn({name: lambda code=code: process(code) for name, code in codes.items()}, repeats)

    def added(name):
        return [s - bare for s, bare in zip(seconds[name], seconds["nothing"], strict=True)]

    return [
        Figure.of("import numpy", "s", added("numpy")),
        Figure.of("import numpy, pydantic, and one model of pydantic's", "s", added("numpy, pydantic")),
        Figure.of("(d) import framework", "s", added("framework"), 0.35),
    ]


PARTS = {"step": measure_step, "epoch": measure_epoch, "import": measure_import}


def machine():
    """Return what the figures depend on."""
    cpu = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("framework", "numpy", "pydantic", "torch")},
    }


def main():
    """Run the parts that are asked for, print the figures, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    report = {"machine": machine(), "figures": []}
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    for part in options.parts or PARTS:
        for figure in PARTS[part]():
            print(figure, flush=True)
            report["figures"].append(asdict(figure) | {"verdict": figure.verdict})
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
