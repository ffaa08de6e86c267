"""JAX with optax: a compiled step that Python calls for each batch, or the whole epoch in one compiled scan."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contenders import SkipError, Task
from benchmarks.workloads import JUDGED_ROWS, Workload


def step(work: Workload, *, scan: bool) -> Task:
    """One compiled step of the reference neuron."""
    if scan:
        raise SkipError("one step needs no scan")
    jax.config.update("jax_enable_x64", True)
    x, y = (jnp.asarray(array) for array in work.data())
    state = {}

    def loss(w):
        return 0.5 * (jax.nn.sigmoid(w @ x) - y) ** 2

    train = jax.jit(lambda w: w - work.rate * jax.grad(loss)(w))

    def begin() -> None:
        state["w"] = jnp.asarray(work.weights()[0])

    def run() -> None:
        state["w"] = train(state["w"])
        state["w"].block_until_ready()

    return Task(begin, run, lambda: [np.asarray(state["w"])], "waiting for the result; no optax")


def neuron(work: Workload, *, scan: bool) -> Task:
    """A network of one unit."""
    return network(work, scan=scan)


def network(work: Workload, *, scan: bool) -> Task:
    """Dense layers, written as functions."""
    jax.config.update("jax_enable_x64", work.dtype == "float64")
    x, y = (jnp.asarray(array) for array in work.data())
    optimizer = optax.sgd(work.rate, work.momentum or None)
    full = work.rows // work.batch * work.batch
    state = {}

    def train(carry, rows, x, y):
        weights, memory = carry
        gradients = jax.grad(loss)(weights, x[rows], y[rows], work)
        updates, memory = optimizer.update(gradients, memory, weights)
        return optax.apply_updates(weights, updates), memory

    def epoch(carry, order, x, y):
        batches = order[:full].reshape(-1, work.batch)
        carry, _ = jax.lax.scan(lambda carry, rows: (train(carry, rows, x, y), None), carry, batches)
        return train(carry, order[full:], x, y) if full < work.rows else carry

    train_once, train_all = jax.jit(train, donate_argnums=0), jax.jit(epoch, donate_argnums=0)

    def begin() -> None:
        weights = [jnp.array(array) for array in work.weights()]
        state["carry"] = (weights, optimizer.init(weights))

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            if scan:
                state["carry"] = train_all(state["carry"], order, x, y)
            else:
                for first in range(0, work.rows, work.batch):
                    state["carry"] = train_once(state["carry"], order[first : first + work.batch], x, y)
        jax.block_until_ready(state["carry"])

    includes = f"order and its copy to the device, gather {'in the scan' if scan else 'in the step'}; no loss"
    if work.kind == "fit":
        return Task(begin, run, None, includes, lambda: judged(state["carry"][0], x, y, work))
    return Task(begin, run, lambda: [np.asarray(array) for array in state["carry"][0]], includes)


def many(work: Workload, *, scan: bool) -> Task:
    """The epoch of one model in a scan, mapped over the weights and the rates of all models."""
    if not scan:
        raise SkipError("all models are one function")
    jax.config.update("jax_enable_x64", work.dtype == "float64")
    x, y, rates = (jnp.asarray(array) for array in (*work.data(), work.rates))
    full = work.rows // work.batch * work.batch
    state = {}

    def train(weights, rate, rows):
        gradients = jax.grad(loss)(weights, x[rows], y[rows], work)
        return [array - rate * gradient for array, gradient in zip(weights, gradients, strict=True)]

    train_each = jax.vmap(train, in_axes=(0, 0, None))

    def epoch(weights, order):
        batches = order[:full].reshape(-1, work.batch)
        weights, _ = jax.lax.scan(lambda weights, rows: (train_each(weights, rates, rows), None), weights, batches)
        return train_each(weights, rates, order[full:]) if full < work.rows else weights

    train_all = jax.jit(epoch, donate_argnums=0)

    def begin() -> None:
        state["weights"] = [jnp.stack([jnp.array(array)] * work.models) for array in work.weights()]

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            state["weights"] = train_all(state["weights"], order)
        jax.block_until_ready(state["weights"])

    includes = "order and its copy to the device, gather in the scan; no loss"
    return Task(begin, run, lambda: [np.asarray(array[-1]) for array in state["weights"]], includes)


def judged(weights, x, y, work: Workload) -> float:
    """Return the loss on the first rows."""
    return float(loss(weights, x[:JUDGED_ROWS], y[:JUDGED_ROWS], work))


def fit(work: Workload, *, scan: bool) -> Task:
    """Other layers, written as functions."""
    return network(work, scan=scan)


def inference(work: Workload, *, scan: bool) -> Task:
    """One compiled function."""
    if scan:
        raise SkipError("a prediction needs no scan")
    x, weights = work.data()[0], [jnp.asarray(array) for array in work.weights()]
    predict = jax.jit(lambda x: jax.nn.softmax(jax.nn.sigmoid(x @ weights[0] + weights[1]) @ weights[2] + weights[3]))

    def run() -> None:
        for _ in range(round(work.steps)):
            np.asarray(predict(x))

    return Task(lambda: None, run, None, "the copies to and from JAX", lambda: float(jnp.square(predict(x)).sum()))


def loss(weights, x, y, work: Workload):
    """Return the mean cross-entropy of a batch."""
    if work.kind == "fit":
        *arrays, matrix, bias = weights
        h = LAYERS[work.model](x, *arrays) @ matrix + bias
        return optax.softmax_cross_entropy_with_integer_labels(h, y).mean()
    a = x
    for i in range(0, len(weights), 2):
        h = a @ weights[i] + weights[i + 1]
        a = activation(work, h)
    if work.sizes[-1] == 1:
        return optax.sigmoid_binary_cross_entropy(h[:, 0], y).mean()
    return optax.softmax_cross_entropy_with_integer_labels(h, y).mean()


def activation(work: Workload, h):
    """Return f(h)."""
    if work.activation == "own":
        return 1 / (1 + jnp.exp(-work.slope * h))
    return jax.nn.relu(h) if work.activation == "relu" else jax.nn.sigmoid(h)


def lenet(x, kernel_1, bias_1, kernel_2, bias_2, *dense):
    """Return what comes before the last dense layer."""
    x = pooled(jax.nn.relu(convolved(x, kernel_1, "SAME") + bias_1[:, None, None]))
    x = pooled(jax.nn.relu(convolved(x, kernel_2, "VALID") + bias_2[:, None, None]))
    x = x.reshape(len(x), -1)
    for matrix, bias in zip(dense[::2], dense[1::2], strict=True):
        x = jax.nn.relu(x @ matrix + bias)
    return x


def convolved(x, kernel, padding):
    """Return the convolution of images (rows, channels, height, width)."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NCHW", "IHWO", "NCHW"))


def pooled(x):
    """Return the greatest of each 2 x 2."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def gru(x, weights, recurrent, bias, reset_bias):
    """Return the last state."""
    reset_bias = jax.lax.stop_gradient(reset_bias)  # PyTorch's second biases stand still too

    def step(before, entry):
        product = before @ recurrent
        (r, z, n), (reset, update, new) = jnp.split(entry, 3, axis=1), jnp.split(product, 3, axis=1)
        r, z = jax.nn.sigmoid(r + reset), jax.nn.sigmoid(z + update)
        n = jnp.tanh(n + r * (new + reset_bias))
        return (1 - z) * n + z * before, None

    entries = x.swapaxes(0, 1) @ weights + bias
    return jax.lax.scan(step, jnp.zeros((len(x), len(recurrent)), x.dtype), entries)[0]


def attention(x, weights, bias, output_weights, output_bias):
    """Return the outputs of 4 heads, flat."""
    rows, steps, units = x.shape
    query, key, value = jnp.moveaxis((x @ weights + bias).reshape(rows, steps, 3, 4, units // 4), (2, 3), (0, 2))
    scores = jax.nn.softmax(query @ key.swapaxes(-1, -2) / np.sqrt(units // 4).astype(x.dtype))
    heads = (scores @ value).swapaxes(1, 2).reshape(rows, steps, units)
    return (heads @ output_weights + output_bias).reshape(rows, -1)


LAYERS = {"lenet": lenet, "gru": gru, "attention": attention}
"""The models of "fit" without their last layer."""
