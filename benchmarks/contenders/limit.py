"""The limit: the notebook's own lines, one loop written by hand for Numba, or the matrix products alone."""

import numpy as np

from benchmarks.contenders import SkipError, Task
from benchmarks.workloads import Workload


def step(work: Workload) -> Task:
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

    (x, y), w, b, eta = work.data(), work.weights()[0], 0.0, work.rate
    y = float(y)

    def begin() -> None:
        nonlocal w
        w = work.weights()[0]

    def run() -> None:
        nonlocal w
        neuron(x, w, b)
        w = w + increment(eta, y, x, w, b)

    return Task(begin, run, lambda: [w], "the notebook's output, increment and new weights; no loss")


def neuron(work: Workload) -> Task:
    """One loop for Numba."""
    try:
        from benchmarks.contenders.numba_limit import train_neuron, train_online  # noqa: PLC0415 (Numba may be missing)
    except ImportError as error:
        raise SkipError(f"not installed: {error}") from error
    (x, y), arrays = work.data(), work.weights()

    def begin() -> None:
        arrays[:] = work.weights()

    def run(*epochs: int) -> None:
        w = arrays[0].reshape(-1)
        for order in work.orders(*epochs):
            if work.batch == 1:
                train_online(x, y, order, work.rate, w, arrays[1])
            else:
                train_neuron(x, y, order, work.batch, work.rate, w, arrays[1])

    return Task(begin, run, lambda: arrays, "order, gather, one loop written by hand for Numba; no loss")


def network(work: Workload) -> Task:
    """One function for Numba where the network is small, else the products."""
    if work.activation == "relu":
        return products(work)
    try:
        from benchmarks.contenders.numba_limit import train_network  # noqa: PLC0415 (Numba may be missing)
    except ImportError as error:
        raise SkipError(f"not installed: {error}") from error
    (x, y), arrays = work.data(), work.weights()

    def begin() -> None:
        arrays[:] = work.weights()

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            train_network(x, y, order, work.batch, work.rate, work.slope, *arrays)

    return Task(begin, run, lambda: arrays, "order, gather, one function written by hand for Numba; no loss")


def products(work: Workload) -> Task:
    """The products of an epoch alone, on numbers of a usual size: subnormals would be slower."""
    try:
        from scipy.linalg.blas import dgemm, sgemm  # noqa: PLC0415 (SciPy may be missing)
    except ImportError as error:
        raise SkipError(f"not installed: {error}") from error
    gemm = sgemm if work.dtype == "float32" else dgemm
    rng = np.random.default_rng(0)
    weights = work.weights()[::2]
    updates = [rng.standard_normal(w.shape, dtype=work.dtype) for w in weights]
    values = [rng.standard_normal((work.batch, size), dtype=work.dtype) for size in work.sizes]
    deltas = [rng.standard_normal((work.batch, size), dtype=work.dtype) for size in work.sizes]

    def train(rows: int) -> None:
        """The products of a step; each is handed to BLAS transposed, so that nothing is copied."""
        a, d = [value[:rows].T for value in values], [delta[:rows].T for delta in deltas]
        for i, w in enumerate(weights):
            gemm(1, w.T, a[i], c=a[i + 1], overwrite_c=1)
        for i in reversed(range(len(weights))):
            gemm(1, d[i + 1], a[i], trans_b=1, c=updates[i].T, overwrite_c=1)
            if i:
                gemm(1, weights[i].T, d[i + 1], trans_a=1, c=d[i], overwrite_c=1)

    def run(epochs: int = 1, _start: int = 0) -> None:
        for _ in range(epochs):
            for first in range(0, work.rows, work.batch):
                train(min(work.batch, work.rows - first))

    return Task(lambda: None, run, None, "matrix products alone, by SciPy's BLAS")
