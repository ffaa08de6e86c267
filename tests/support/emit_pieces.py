"""A formula for every operation of the table, with arrays for its arguments."""

from functools import partial

import numpy as np
from graph import random_formulas
from numpy.lib.stride_tricks import sliding_window_view

from framework.base.special import erf, erfc
from framework.graph.operations import OPERATIONS
from framework.graph.trace import ROWS, trace

ELEMENTWISE = sorted(name for name, row in OPERATIONS.items() if row.elementwise and row.lowered is None)


def row_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def assigned(x):
    out = np.zeros_like(x)
    for step in range(x.shape[1]):
        out[:, step] = x[:, : step + 1].sum(axis=1)
    return out


def overwritten(x):
    h = np.exp(x)
    h[:, 1] = h[:, 0] + 1.0
    return h * 2.0


def convolution(x, kernel):
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), kernel.shape[2:], axis=(2, 3))
    return np.einsum("rcyxij,ucij->ruyx", windows[:, :, ::2, ::2], kernel)


def lstm(x, wx, wh):
    h = c = np.zeros((len(x), wh.shape[0]))
    steps = []
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ wx + h @ wh, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        steps.append(h)
    return np.stack(steps, axis=1)


def heads(x, query, key, value):
    def split(a):
        return a.reshape(len(x), x.shape[1], 2, -1).transpose(0, 2, 1, 3)

    q, k, v = split(x @ query), split(x @ key), split(x @ value)
    scores = np.where(np.tri(x.shape[1], dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(3.0), -np.inf)
    return (row_softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[1], -1)


X = {"x": (ROWS, 6)}
IMAGES = {"x": (ROWS, 2, 6, 6)}
SEQUENCES = {"x": (ROWS, 5, 3)}
STEP_SHAPES = {{"x": "a", "y": "b"}.get(name, name): shape for name, shape in random_formulas.SHAPES.items()}
STEP_FORMULAS = {
    f"step {place}": (partial(random_formulas.run_step, place, axis=1 + place % 2), STEP_SHAPES)
    for place in range(len(random_formulas.STEPS))
}
"""The steps of random formulas, which every target computes."""

FORMULAS = STEP_FORMULAS | {
    # name: (formula, shapes of its arguments; integers have the name ids)
    "sum all": (lambda x: x.sum(), X),
    "sum last": (lambda x: x.sum(axis=1), X),
    "sum first": (lambda x: np.exp(x).sum(axis=0), X),
    "sum kept": (lambda x: x / x.sum(axis=1, keepdims=True), X),
    "sum short": (lambda x: x.sum(axis=1), SEQUENCES),
    "sum of products": (lambda x, y: (x * y).sum(axis=(1, 2)), {"x": (ROWS, 4, 3), "y": (ROWS, 4, 3)}),
    "sum of a transpose": (lambda x: np.exp(x).T.sum(axis=1), X),
    "sum long": (lambda x: np.exp(x).sum(axis=1), {"x": (ROWS, 2000)}),
    "mean": (lambda x: x - x.mean(axis=0), X),
    "mean of integers": (lambda x, ids: x[:, :3] + ids.mean(axis=1, keepdims=True), {**X, "ids": (ROWS, 3)}),
    "var": (lambda x: x.var(axis=-1, ddof=1, keepdims=True), X),
    "var of all": (lambda x: x.var(), X),
    "max": (lambda x: x.max(axis=1), X),
    "max wide": (lambda x: np.exp(x).max(axis=1), {"x": (ROWS, 20)}),
    "max of all": (lambda x: x.max(), X),
    "min": (lambda x: x.min(axis=(0, 1), keepdims=True) + x, X),
    "min of rows": (lambda x: x.min(axis=0), X),
    "prod": (lambda x: x.prod(axis=1), X),
    "any": (lambda x: np.where((x > 1).any(axis=1, keepdims=True), x, -x), X),
    "all": (lambda x: np.where((x > -1).all(axis=0), x, -x), X),
    "argmax": (lambda x: x.argmax(axis=1) * 0.5, X),
    "argmin": (lambda x: x.argmin(axis=1, keepdims=True) * x, X),
    "cumsum": (lambda x: np.cumsum(x, axis=1), X),
    "softmax": (row_softmax, {"x": (ROWS, 5)}),
    "matmul": (lambda x, w: x @ w, {**X, "w": (6, 4)}),
    "matmul of a batch": (lambda x, w: np.tanh(x) @ w, {**SEQUENCES, "w": (3, 4)}),
    "matmul of rows": (lambda x: x.T @ x, X),
    "gram": (lambda x: x @ x.T, X),
    "einsum": (lambda x, w, y: np.einsum("ri,oij,rj->ro", x, w, y), {**X, "w": (3, 6, 4), "y": (ROWS, 4)}),
    "einsum sums": (lambda x, w: np.einsum("rij,k->ki", x, w), {**SEQUENCES, "w": (2,)}),
    "einsum of pairs": (
        lambda x: np.einsum("ri,ri->r", x, x[:, :1])[:, None] + np.einsum("ri,ri->r", x, x * x)[:, None],
        X,
    ),
    "einsum of one": (lambda x: np.einsum("rij->ji", x), SEQUENCES),
    "einsum spread": (lambda x, w: np.einsum("rij,ij->ri", x, w), {**SEQUENCES, "w": (5, 1)}),
    "row numbers": (lambda x, ids: x[np.arange(len(x)), ids], {**X, "ids": (ROWS,)}),
    "rows": (lambda x: x.sum(axis=0) / len(x), X),
    "twice the rows": (lambda x: x.reshape(-1, 3).mean(axis=0), X),
    "astype": (lambda x: (x > 0).astype(float) + (x < 1).astype(int) * 0.5 + x.astype(int), X),
    "integers": (lambda x, ids: np.where(ids > 1, ids * 2 + 1, -ids) * x[:, :3], {**X, "ids": (ROWS, 3)}),
    "reshape of a transpose": (
        lambda x: np.exp(x.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(len(x), -1),
        SEQUENCES,
    ),
    "broadcast": (lambda x, b: np.broadcast_to(b, x.shape), {**X, "b": (6,)}),
    "filled": (lambda x: np.full_like(x, 0.1), X),
    "filled product": (lambda x, w: np.full_like(x, 0.5) @ w, {**X, "w": (6, 2)}),
    "index": (lambda x: x[:, ::-1][:, 1:5:2] + x[:, 4][:, None] - x[:, 4:0:-2], X),
    "reversed to the start": (lambda x: x[:, 4::-2], X),
    "windows": (lambda x: sliding_window_view(x, 3, axis=1)[:, ::2].max(axis=-1), X),
    "pooling": (lambda x: sliding_window_view(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-1, -2)), IMAGES),
    "pooling by reshape": (lambda x: x.reshape(len(x), 2, 3, 2, 3, 2).mean(axis=(3, 5)), IMAGES),
    "convolution": (convolution, {**IMAGES, "kernel": (3, 2, 3, 3)}),
    "place": (assigned, X),
    "set_index": (overwritten, X),
    "choice of a view": (lambda x: np.where(x > 0, h := np.exp(x), h[:, ::-1]), X),
    "sum in place of a view": (lambda x: np.exp(x).reshape(-1, 3) + np.exp(x.reshape(-1, 3)[:, ::-1]), X),
    "gather": (lambda table, ids: table[ids].mean(axis=1), {"table": (5, 3), "ids": (ROWS, 4)}),
    "gather inner": (lambda x, ids: x[:, ids], {"x": (ROWS, 5, 2), "ids": (3,)}),
    "concatenate": (lambda x: np.concatenate([x, 2 * x, x[:, :1]], axis=1), X),
    "pad": (lambda x: np.pad(x, ((0, 0), (2, 1)), constant_values=-np.inf), X),
    "lstm": (lstm, {**SEQUENCES, "wx": (3, 16), "wh": (4, 16)}),
    "heads": (heads, {"x": (ROWS, 5, 4), "query": (4, 6), "key": (4, 6), "value": (4, 6)}),
}


def made(shapes, rows, dtype, seed=0):
    rng = np.random.default_rng((seed, rows))
    sizes = {name: tuple(rows if size == ROWS else size for size in shape) for name, shape in shapes.items()}
    return {
        name: rng.integers(0, 3, shape) if name == "ids" else rng.normal(size=shape).astype(dtype)
        for name, shape in sizes.items()
    }


def traced(formula, shapes, dtype="float64"):
    return trace(formula, shapes, dtype, kinds={"ids": "i"})


def plain(formula, arrays, dtype):
    with np.errstate(all="ignore"):
        return np.asarray(formula(**arrays)).astype(dtype)


def called(op, *values):
    return {"erf": erf, "erfc": erfc}.get(op, getattr(np, op, None))(*values)


def operands(op, count, dtype, rows):
    rng = np.random.default_rng(3)
    if op in ("bitwise_and", "bitwise_or", "invert"):
        return [rng.normal(size=(rows, 4)) > 0 for _ in range(count)]
    x = [rng.normal(size=(rows, 4)).astype(dtype) for _ in range(count)]
    x[0][0] = [0.0, -0.0, 1.0, x[-1][0, 3]]
    return [x[0] > 0, *x[1:]] if op == "where" else x


def recorded(op, dtype):
    """Return an elementwise operation as a graph, and how many arguments it takes."""
    count = len(OPERATIONS[op].rules)
    names = ("a", "b", "c")[:count]
    kinds = {"bitwise_and": "b", "bitwise_or": "b", "invert": "b"}.get(op)
    kinds = dict.fromkeys(names, kinds) if kinds else {"a": "b"} if op == "where" else {}
    return trace(lambda **x: called(op, *x.values()), dict.fromkeys(names, (ROWS, 4)), dtype, kinds=kinds), count
