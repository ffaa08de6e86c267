"""Plain NumPy: what one writes by hand in a few lines, without reused memory."""

from collections.abc import Sequence

import numpy as np

from benchmarks.contenders import SkipError, Task
from benchmarks.memory import blocks
from benchmarks.workloads import Workload

INCLUDES = "order, gather of each batch; no loss"


def step(work: Workload) -> Task:
    """One step on a batch of one."""
    (x, y), rate = work.data(), work.rate
    x, y = x[None], y[None]
    w = work.weights()[0]

    def run() -> None:
        a = 1 / (1 + np.exp(-(x @ w)))
        delta = (a - y) * a * (1 - a)
        w[...] -= rate * (x.T @ delta)

    def begin() -> None:
        w[...] = work.weights()[0]

    return Task(begin, run, lambda: [w], "a batch of one row; no loss")


def neuron(work: Workload) -> Task:
    """A network of one unit."""
    return network(work)


def network(work: Workload) -> Task:
    """Dense layers."""
    x, y = work.data()
    weights: list[np.ndarray] = []
    velocities: list[np.ndarray] = []

    def begin() -> None:
        weights[:] = work.weights()
        velocities[:] = [np.zeros_like(array) for array in weights] if work.momentum else []

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            for first in range(0, work.rows, work.batch):
                rows = order[first : first + work.batch]
                train(work, weights, x[rows], y[rows], velocities)

    return Task(begin, run, lambda: weights, INCLUDES)


def inference(work: Workload) -> Task:
    """Sigmoid and softmax of dense layers."""
    (x, _), weights = work.data(), work.weights()

    def run() -> None:
        for _ in range(round(work.steps)):
            predict(x, weights)

    return Task(lambda: None, run, None, "nothing", lambda: float(np.square(predict(x, weights)).sum()))


def predict(x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Return the probabilities of a network of one hidden layer."""
    a = 1 / (1 + np.exp(-(x @ weights[0] + weights[1])))
    h = a @ weights[2] + weights[3]
    a = np.exp(h - h.max(axis=1, keepdims=True))
    return a / a.sum(axis=1, keepdims=True)


def passes(work: Workload) -> Task:
    """Forward and backward of a dense layer with ReLU, in memory that is reused."""
    if work.model != "dense":
        raise SkipError("written for a dense layer alone")
    (x, _), (w, b) = work.data(), work.weights()
    gradient = np.cos(np.maximum(x @ w + b, 0))
    a, delta, dx, dw, db = map(np.empty_like, (gradient, gradient, x, w, b))
    mask = np.empty(a.shape, bool)

    def run() -> None:
        for _ in range(round(work.steps)):
            np.matmul(x, w, out=a)
            np.add(a, b, out=a)
            np.maximum(a, 0, out=a)
            np.greater(a, 0, out=mask)
            np.multiply(gradient, mask, out=delta)
            np.matmul(x.T, delta, out=dw)
            np.add.reduce(delta, axis=0, out=db)
            np.matmul(delta, w.T, out=dx)

    return Task(
        lambda: None, run, None, "nothing", lambda: float(sum(np.sum(d.astype(float) ** 2) for d in (dx, dw, db)))
    )


def memory(work: Workload) -> Task:
    """The same from a file, block by block, each block shuffled."""
    weights: list[np.ndarray] = []

    def begin() -> None:
        weights[:] = work.weights()

    def run() -> None:
        rng = np.random.default_rng(0)
        for x, y in blocks(work):
            order = rng.permutation(len(x))
            for first in range(0, len(x), work.batch):
                rows = order[first : first + work.batch]
                train(work, weights, x[rows], y[rows])

    return Task(begin, run, None, "reading, order and gather of each block; no loss")


def train(
    work: Workload, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, velocities: Sequence[np.ndarray] = ()
) -> None:
    """Make one step."""
    values = [x]
    for i in range(0, len(weights), 2):
        h = values[-1] @ weights[i] + weights[i + 1]
        last = i + 2 == len(weights)
        values.append(h if last else activation(work, h))
    delta = output_delta(values[-1], y)
    for i in reversed(range(0, len(weights), 2)):
        a = values[i // 2]
        gradient, bias_gradient = a.T @ delta, delta.sum(axis=0)
        if i:
            delta = (delta @ weights[i].T) * slope(work, a)
        if velocities:
            velocities[i][...] = gradient = work.momentum * velocities[i] + gradient
            velocities[i + 1][...] = bias_gradient = work.momentum * velocities[i + 1] + bias_gradient
        weights[i] -= work.rate * gradient
        weights[i + 1] -= work.rate * bias_gradient


def activation(work: Workload, h: np.ndarray) -> np.ndarray:
    """Return f(h)."""
    if work.activation == "relu":
        return np.maximum(h, 0)
    return 1 / (1 + np.exp(-h if work.slope == 1 else -work.slope * h))


def slope(work: Workload, a: np.ndarray) -> np.ndarray:
    """Return f'(h) from a = f(h)."""
    if work.activation == "relu":
        return a > 0
    return a * (1 - a) if work.slope == 1 else work.slope * a * (1 - a)


def output_delta(h: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the slope of the mean cross-entropy before sigmoid or softmax."""
    if h.shape[1] == 1:
        return (1 / (1 + np.exp(-h)) - y[:, None]) / len(h)
    a = np.exp(h - h.max(axis=1, keepdims=True))
    a /= a.sum(axis=1, keepdims=True)
    a[np.arange(len(y)), y] -= 1
    return a / len(h)
