"""Keras on JAX, or on PyTorch where JAX is not installed."""

import os
from importlib.util import find_spec

os.environ.setdefault("KERAS_BACKEND", "jax" if find_spec("jax") else "torch")

import keras
import numpy as np

from benchmarks.contenders import Task
from benchmarks.workloads import Workload

BACKEND = os.environ["KERAS_BACKEND"]


def use(dtype: str) -> None:
    """Make everything of this type; JAX has to be told as well."""
    keras.config.set_floatx(dtype)
    if BACKEND == "jax":
        import jax  # noqa: PLC0415 (only with this backend)

        jax.config.update("jax_enable_x64", dtype == "float64")


def step(work: Workload) -> Task:
    """train_on_batch with one row."""
    use(work.dtype)
    x, y = work.data()
    x, y = x[None], y[None, None]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid", use_bias=False)])
    model.compile(keras.optimizers.SGD(work.rate), lambda y, a: 0.5 * (a - y) ** 2)

    def begin() -> None:
        model.set_weights([work.weights()[0][:, None]])

    return Task(
        begin,
        lambda: model.train_on_batch(x, y),
        lambda: [model.get_weights()[0][:, 0]],
        f"train_on_batch, the loss; on {BACKEND}",
    )


def neuron(work: Workload) -> Task:
    """A network of one unit."""
    return network(work)


def network(work: Workload) -> Task:
    """Dense layers and fit."""
    use(work.dtype)
    x, y = work.data()
    losses = keras.losses
    loss = losses.BinaryCrossentropy if work.sizes[-1] == 1 else losses.SparseCategoricalCrossentropy
    hidden = (lambda h: 1 / (1 + keras.ops.exp(-work.slope * h))) if work.activation == "own" else work.activation
    layers = [keras.layers.Dense(units, hidden) for units in work.sizes[1:-1]]
    model = keras.Sequential([keras.Input((work.sizes[0],)), *layers, keras.layers.Dense(work.sizes[-1])])
    model.compile(keras.optimizers.SGD(work.rate), loss(from_logits=True))

    def begin() -> None:
        model.set_weights(work.weights())

    def run(epochs: int = 1, _start: int = 0) -> None:
        order = work.order()  # for further epochs too, as fit makes all of them
        model.fit(x[order], y[order], batch_size=work.batch, epochs=epochs, shuffle=False, verbose=0)

    def weights() -> list[np.ndarray]:
        return model.get_weights()

    return Task(begin, run, weights, f"order, one gather of all rows, fit with its loss; on {BACKEND}")
