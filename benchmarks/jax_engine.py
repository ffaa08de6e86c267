"""Epochs of the JAX engine against JAX written by hand: LeNet, a GRU, attention, and dense layers.

    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" python -m benchmarks.jax_engine

Both train the same model from the same weights, on the same rows in the same order, with plain descent, and end with
the same loss. By hand, JAX derives the gradients, by ``jax.value_and_grad``, and an epoch is one jitted scan over the
batches, or a jitted step for each batch; the faster of the two counts. Ours is ``Trainer.fit``: order, checks of every
step, sums of the loss, history. ``grad`` is a scan, too, of our forward pass with the gradients that JAX derives of it.
Rounds take turns. A line gives the medians of the processor time of an epoch, and the median of the ratios.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contenders.framework import composed
from framework import CrossEntropy, Dense, ReLU, Run, Sequential, SGDOptimizer, Softmax, Trainer, on
from framework.data.pieces import permutation
from framework.emit.jax import Source
from framework.engines.jax.graph import StepGraph
from framework.runs.figures import Figures

BATCH, RATE, ROUNDS = 32, 0.01, 7
SAMPLES = {"lenet": (1, 28, 28), "gru": (28, 28), "attention": (32, 64), "dense": (784,)}
ROWS = {"lenet": 2048, "gru": 8192, "attention": 8192, "dense": 32768}


def model_of(name: str) -> Sequential:
    """Return a new model."""
    if name == "dense":
        return Sequential(Dense(784, 128, ReLU(), dtype="float32"), Dense(128, 10, Softmax(), dtype="float32"))
    return composed(name, "float32")


def dense(w: list[Any], x: Any) -> Any:
    """Return the logits of two dense layers."""
    return jnp.maximum(x @ w[0] + w[1], 0) @ w[2] + w[3]


def lenet(w: list[Any], x: Any) -> Any:
    """Return the logits of LeNet; with channels last it is slower."""

    def convolution(x: Any, kernel: Any, bias: Any, padding: str) -> Any:
        numbers = ("NCHW", "IHWO", "NCHW")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers) + bias[:, None, None]

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    a = pool(jnp.maximum(convolution(x, w[0], w[1], "SAME"), 0))
    a = pool(jnp.maximum(convolution(a, w[2], w[3], "VALID"), 0)).reshape(len(x), -1)
    a = jnp.maximum(a @ w[4] + w[5], 0)
    a = jnp.maximum(a @ w[6] + w[7], 0)
    return a @ w[8] + w[9]


def gru(w: list[Any], x: Any) -> Any:
    """Return the logits of a GRU, whose steps are a scan, and a dense layer."""
    weights, recurrent, bias, reset, matrix, last = w
    units = len(reset)

    def step(h: Any, entry: Any) -> Any:
        product = h @ recurrent
        r, z = (
            jax.nn.sigmoid(entry[:, n * units : (n + 1) * units] + product[:, n * units : (n + 1) * units])
            for n in range(2)
        )
        new = jnp.tanh(entry[:, 2 * units :] + r * (product[:, 2 * units :] + reset))
        return (1 - z) * new + z * h, None

    entries = x.swapaxes(0, 1) @ weights + bias
    h, _ = jax.lax.scan(step, jnp.zeros((len(x), units), x.dtype), entries)
    return h @ matrix + last


def attention(w: list[Any], x: Any) -> Any:
    """Return the logits of self-attention with 4 heads and a dense layer."""
    rows, steps, inputs = x.shape
    q, k, v = jnp.split((x @ w[0] + w[1]).reshape(rows, steps, 12, inputs // 4), 3, axis=2)
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (inputs // 4) ** 0.5
    heads = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v).reshape(rows, steps, inputs)
    return (heads @ w[2] + w[3]).reshape(rows, -1) @ w[4] + w[5]


Epoch = Callable[[list[Any], Any], tuple[list[Any], Any]]


def by_hand(logits: Callable[[list[Any], Any], Any], x: Any, y: Any) -> dict[str, Epoch]:
    """Return an epoch as a scan, and as a loop over jitted steps: (weights, order) -> (weights, last loss)."""

    def loss(w: list[Any], x: Any, y: Any) -> Any:
        return -jnp.mean(jax.nn.log_softmax(logits(w, x))[jnp.arange(len(x)), y])

    def step(w: list[Any], rows: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(w, x[rows], y[rows])
        return [each - RATE * g for each, g in zip(w, gradients, strict=True)], value

    once = jax.jit(step)

    def steps(w: list[Any], order: Any) -> Any:
        losses = []
        for rows in order.reshape(-1, BATCH):
            w, value = once(w, rows)
            losses.append(value)
        return w, jnp.stack(losses)

    return {"scan": jax.jit(lambda w, order: jax.lax.scan(step, w, order.reshape(-1, BATCH))), "steps": steps}


def ours_by_grad(model: Sequential, x: Any, y: Any) -> Epoch:
    """Return an epoch of our forward pass, of which JAX derives the gradients, as a scan."""
    graph = StepGraph(
        model, CrossEntropy(), (), Figures(CrossEntropy(), ()), (np.asarray(x[:2]), np.asarray(y[:2]), None)
    )
    total = Source("total", [graph.step.total], graph.inputs, graph.graph).function(jax)

    def loss(w: list[Any], x: Any, y: Any) -> Any:
        return total(x, y, BATCH, *w)[0] / BATCH

    def step(w: list[Any], rows: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(w, x[rows], y[rows])
        return [each - RATE * g for each, g in zip(w, gradients, strict=True)], value

    return jax.jit(lambda w, order: jax.lax.scan(step, w, order.reshape(-1, BATCH)))


def measured(name: str, rounds: int, rows: int) -> None:
    """Measure one model, and print a line."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, *SAMPLES[name]), dtype="float32")
    y = rng.integers(10, size=rows)
    model = model_of(name)
    clock: list[float] = []
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=RATE),
        batch_size=BATCH,
        engine="jax",
        callbacks=[on(hook)(lambda _: clock.append(time.process_time())) for hook in ("epoch_begin", "epoch_end")],
    )
    epochs = by_hand(globals()[name], jnp.asarray(x), jnp.asarray(y))
    epochs["grad"] = ours_by_grad(model, jnp.asarray(x), jnp.asarray(y))
    start = [jnp.array(each) for each in model.parameters.values()]
    run: Run = trainer.fit(model, (x, y))
    for epoch in epochs.values():
        _, losses = epoch(start, permutation(rows, 0, 0))
        apart = abs(float(losses.mean()) - run.history[-1]["loss"])
        assert apart < 1e-4, f"both must learn the same; the losses are {apart:g} apart"
    times: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        times.append({})
        for form, epoch in epochs.items():
            begun = time.process_time()
            jax.block_until_ready(epoch(start, permutation(rows, 0, number)))
            times[-1][form] = time.process_time() - begun
        trainer.replace(engine="numpy").fit(model.copy(), (x, y), epochs=1)
        times[-1]["NumPy engine"] = clock[-1] - clock[-2]
        run = trainer.resume(run, (x, y), epochs=2)  # of the first, a part is the preparation
        times[-1]["ours"] = clock[-1] - clock[-2]
    median = {form: statistics.median(each[form] for each in times) for form in times[0]}
    ratio = statistics.median(min(each["scan"], each["steps"]) / each["ours"] for each in times)
    shown = ", ".join(f"{form} {1e3 * seconds:.0f} ms" for form, seconds in median.items())
    print(f"{name:10} {shown}; the faster by hand over ours: {ratio:.2f}", flush=True)


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    for each in [part for part in sys.argv[1:] if part in SAMPLES] or SAMPLES:
        measured(each, 1 if quick else ROUNDS, 4 * BATCH if quick else ROWS[each])
