"""Emitted values and gradients of whole layers and losses agree with JAX in float64."""

import functools

import numpy as np
import pytest
from graph.both_ways import jax_windows
from numpy.lib.stride_tricks import sliding_window_view
from oracles import jax_gradients, jnp

from framework.backends.numpy import emit
from framework.graph.gradient import gradients
from framework.graph.loop import loop
from framework.graph.lower import lower
from framework.graph.stable import stabilise
from framework.graph.trace import ROWS, trace


def jax_loop(step, state, sequence, axis=1):
    outputs = []
    for place in range(sequence.shape[axis]):
        state, output = step(state, jnp.take(sequence, place, axis))
        outputs.append(output)
    return state, jnp.stack(outputs, axis)


class NumPy:
    """NumPy's namespace for the formulas, with the two functions that JAX does not have."""

    xp, windows, loop = np, staticmethod(sliding_window_view), staticmethod(loop)


class Jax:
    xp, windows, loop = jnp, staticmethod(jax_windows), staticmethod(jax_loop)


def sigmoid(h, xp):
    return 1 / (1 + xp.exp(-h))


def softmax(h, xp):
    e = xp.exp(h - h.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dense(lib, x, w, b):
    return lib.xp.maximum(x @ w + b, 0.0)


def layer_norm(lib, x, scale, shift):
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return scale * (x - mean) / lib.xp.sqrt(var + 1e-5) + shift


def batch_norm(lib, x, scale, shift):
    return scale * (x - x.mean(axis=0)) / lib.xp.sqrt(x.var(axis=0) + 0.1) + shift  # float32 and two rows want 0.1


def embedding(lib, ids, table):
    return lib.xp.take(table, ids, axis=0)


def pooled_embedding(_lib, ids, table):
    return table[ids].mean(axis=1)


def conv1d(lib, x, kernel, bias):
    windows = lib.windows(x, kernel.shape[0], axis=1)[:, ::2]
    return lib.xp.einsum("rpcw,wcu->rpu", windows, kernel) + bias


def conv2d_strided(lib, x, kernel, bias):
    x = lib.xp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = lib.windows(x, kernel.shape[2:], axis=(2, 3))[:, :, ::2, ::2]
    h = lib.xp.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3)))
    return h.transpose(0, 3, 1, 2) + bias[:, None, None]


def conv2d(lib, x, kernel, bias):
    windows = lib.windows(x, kernel.shape[2:], axis=(2, 3))
    return lib.xp.einsum("rchwij,ucij->ruhw", windows, kernel) + bias.reshape(-1, 1, 1)


def conv2d_last(lib, x, kernel):
    windows = lib.windows(x, kernel.shape[:2], axis=(1, 2))
    return lib.xp.einsum("ryxcij,ijcu->ryxu", windows, kernel)


def max_pool(lib, x):
    return lib.windows(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-1, -2))


def max_pool_overlapping(lib, x):
    return lib.windows(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-1, -2))


def max_pool_reshaped(_lib, x):
    rows, channels, height, width = x.shape
    return x.reshape(rows, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def average_pool(lib, x):
    return lib.windows(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].mean(axis=(-1, -2))


def rnn(lib, x, wx, wh, b):
    h = x[:, 0] @ wx
    for step in range(x.shape[1]):
        h = lib.xp.tanh(x[:, step] @ wx + h @ wh + b)
    return h


def gru(lib, x, wx, wh, bx, bh):
    units = wh.shape[0]

    def step(h, gx):
        gh = h @ wh + bh
        r, z = (sigmoid(gx[:, a : a + units] + gh[:, a : a + units], lib.xp) for a in (0, units))
        n = lib.xp.tanh(gx[:, 2 * units :] + r * gh[:, 2 * units :])
        h = (1 - z) * n + z * h
        return h, h

    return lib.loop(step, lib.xp.zeros_like(x[:, 0, :1] * bh[:units]), x @ wx + bx)[1]


def lstm(lib, x, wx, wh, b):
    def step(state, entry):
        h, c = state
        i, f, g, o = lib.xp.split(entry @ wx + h @ wh + b, 4, axis=1)
        c = sigmoid(f, lib.xp) * c + sigmoid(i, lib.xp) * lib.xp.tanh(g)
        h = sigmoid(o, lib.xp) * lib.xp.tanh(c)
        return (h, c), h * c

    zero = lib.xp.zeros_like(x[:, 0, :1] * wh[:, 0])
    (h, _), outputs = lib.loop(step, (zero, zero), x)
    return h + outputs.mean(axis=1)


def attention(lib, x, query, key, value):
    q, k, v = x @ query, x @ key, x @ value
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(query.shape[1]), lib.xp) @ v


def multi_head(lib, x, query, key, value, out):
    rows, steps, _ = x.shape

    def split(a):
        return a.reshape(rows, steps, 2, -1).transpose(0, 2, 1, 3)

    q, k, v = split(x @ query), split(x @ key), split(x @ value)
    scores = lib.xp.where(np.tri(steps, dtype=bool), q @ k.swapaxes(-1, -2) / 2.0, -np.inf)
    return (softmax(scores, lib.xp) @ v).transpose(0, 2, 1, 3).reshape(rows, steps, -1) @ out


def bilinear(lib, x, y, w, b):
    return lib.xp.einsum("ri,oij,rj->ro", x, w, y) + b


def radial(lib, x, centres, width):
    return lib.xp.exp(-((x[:, None] - centres) ** 2).sum(axis=-1) * width**2)


def residual(lib, x, w1, b1, w2, b2):
    return x + lib.xp.maximum(x @ w1 + b1, 0.0) @ w2 + b2


def gated(lib, x, w, v):
    return (x @ w) * sigmoid(x @ v, lib.xp)


def mixture(lib, x, gate, w, b):
    outputs = lib.xp.tanh(lib.xp.einsum("ri,eiu->reu", x, w) + b)
    return (softmax(x @ gate, lib.xp)[:, :, None] * outputs).sum(axis=1)


def gelu(lib, x):
    return 0.5 * x * (1 + lib.xp.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def cross_entropy(lib, x, w, b, ids):
    h = x @ w + b
    h = h - h.max(axis=1, keepdims=True)
    return -lib.xp.mean(h[lib.xp.arange(len(x)), ids] - lib.xp.log(lib.xp.exp(h).sum(axis=1)))


def rearranged(lib, x, w):
    xp = lib.xp
    h = xp.concatenate([x, xp.flip(x, 1), xp.roll(x, 1, axis=1)], axis=1) @ w
    h = h / (1 + xp.linalg.norm(h, axis=1, keepdims=True))
    h = h + xp.prod(xp.clip(x, -1, 1), axis=1, keepdims=True) + xp.cumsum(h, axis=1) * xp.std(x, axis=1)[:, None]
    h = h + xp.tile(xp.repeat(x[:, :2], 2, axis=1), (1, 2))[:, : h.shape[1]]
    return h - h.min(axis=0) / len(x)


IMAGES = (ROWS, 2, 7, 7)
FORMULAS = {
    dense: {"x": (ROWS, 5), "w": (5, 3), "b": (3,)},
    layer_norm: {"x": (ROWS, 6), "scale": (6,), "shift": (6,)},
    batch_norm: {"x": (ROWS, 4), "scale": (4,), "shift": (4,)},
    embedding: {"ids": (ROWS, 3), "table": (11, 4)},
    pooled_embedding: {"ids": (ROWS, 3), "table": (11, 9)},
    conv1d: {"x": (ROWS, 9, 3), "kernel": (3, 3, 4), "bias": (4,)},
    conv2d_strided: {"x": (ROWS, 3, 8, 8), "kernel": (4, 3, 3, 3), "bias": (4,)},
    conv2d: {"x": (ROWS, 3, 8, 9), "kernel": (4, 3, 3, 3), "bias": (4,)},
    conv2d_last: {"x": (ROWS, 8, 8, 3), "kernel": (3, 3, 3, 4)},
    max_pool: {"x": IMAGES},
    max_pool_overlapping: {"x": IMAGES},
    max_pool_reshaped: {"x": (ROWS, 2, 6, 6)},
    average_pool: {"x": IMAGES},
    rnn: {"x": (ROWS, 3, 5), "wx": (5, 6), "wh": (6, 6), "b": (6,)},
    gru: {"x": (ROWS, 4, 5), "wx": (5, 18), "wh": (6, 18), "bx": (18,), "bh": (18,)},
    lstm: {"x": (ROWS, 4, 5), "wx": (5, 24), "wh": (6, 24), "b": (24,)},
    attention: {"x": (ROWS, 7, 5), "query": (5, 6), "key": (5, 6), "value": (5, 6)},
    multi_head: {"x": (ROWS, 7, 8), "query": (8, 8), "key": (8, 8), "value": (8, 8), "out": (8, 8)},
    bilinear: {"x": (ROWS, 4), "y": (ROWS, 5), "w": (3, 4, 5), "b": (3,)},
    radial: {"x": (ROWS, 3), "centres": (6, 3), "width": (6,)},
    residual: {"x": (ROWS, 5), "w1": (5, 7), "b1": (7,), "w2": (7, 5), "b2": (5,)},
    gated: {"x": (ROWS, 5), "w": (5, 3), "v": (5, 3)},
    mixture: {"x": (ROWS, 5), "gate": (5, 3), "w": (3, 5, 4), "b": (3, 4)},
    gelu: {"x": (ROWS, 4)},
    cross_entropy: {"x": (ROWS, 5), "w": (5, 3), "b": (3,), "ids": (ROWS,)},
    rearranged: {"x": (ROWS, 4), "w": (12, 5)},
}


def made(shapes, rows):
    """Return arrays of float64 that float32 can hold."""
    rng = np.random.default_rng(rows)
    sizes = {name: tuple(rows if size == ROWS else size for size in shape) for name, shape in shapes.items()}
    return {
        name: rng.integers(0, 3, shape)
        if name == "ids"
        else rng.normal(size=shape).astype(np.float32).astype(np.float64)
        for name, shape in sizes.items()
    }


def derived(formula, shapes, dtype):
    """Return a formula with all gradients as one function, and the names that it is derived by."""
    record = trace(lambda **x: formula(NumPy, **x), shapes, dtype, kinds={"ids": "i"})
    (output,), inputs = stabilise(record.outputs), record.inputs
    names = [name for name in shapes if name != "ids"]
    seed = {"gradient": output.graph.input("gradient", output.shape)} if output.shape else {}
    found = gradients([(output, seed.get("gradient", 1.0))], [inputs[name] for name in names])
    lowered = lower([output, *found, *inputs.values(), *seed.values()])
    outputs = dict(zip(["output", *names], lowered, strict=False))
    given = dict(zip([*inputs, *seed], lowered[len(outputs) :], strict=True))
    return emit(outputs, given, into={name: f"d_{name}" for name in names}), names


@functools.cache
def expected(formula, rows):
    """Return the arguments, the gradient of the output, and JAX's value and gradients in float64."""
    arrays = made(FORMULAS[formula], rows)
    names = [name for name in arrays if name != "ids"]

    def value(*x):
        return formula(Jax, **{**arrays, **dict(zip(names, x, strict=True))})

    shape = formula(NumPy, **arrays).shape
    g = np.random.default_rng(9).normal(size=shape).astype(np.float32).astype(np.float64) if shape else 1.0
    case = f"{formula.__name__} {rows}"
    output, gradients = jax_gradients(value, *(arrays[name] for name in names), upstream=g, case=case)
    return arrays, g, [output, *gradients]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__name__)
def test_values_and_gradients_are_those_of_jax(formula, dtype):
    emitted, names = derived(formula, FORMULAS[formula], dtype)
    memory = emitted.new_memory()
    for rows in (5, 1):
        arrays, g, results = expected(formula, rows)
        given = [x if name == "ids" else x.astype(dtype) for name, x in arrays.items()]
        given += [g.astype(dtype)] if np.ndim(g) else []
        into = [np.full(arrays[name].shape, np.nan, dtype) for name in names]
        with np.errstate(all="ignore"):
            found = emitted(*given, *into, memory=memory)
        for mine, theirs in zip(found, results, strict=True):
            assert mine.dtype == dtype
            tolerance = (1e-12 if dtype == "float64" else 1e-5) * max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
