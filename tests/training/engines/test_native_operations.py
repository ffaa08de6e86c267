"""Users' layers with operations of every kind train and predict in a kernel as with NumPy."""

from contextlib import nullcontext

import numpy as np
import pytest
from emit_pieces import row_softmax
from numpy.lib.stride_tricks import sliding_window_view

from framework import Dense, Flatten, Layer, MeanSquaredError, Sequential, SGDOptimizer, Trainer
from framework.graph.loop import loop
from framework.training import compile_model

pytest.importorskip("llvmlite")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 3, 4)), RNG.normal(size=(24, 2))
SQUARE, SQUARE3, LINE = {"w": (4, 4)}, {"w": (3, 4)}, {"w": (4,)}


SETTINGS = {"loss": MeanSquaredError(), "batch_size": 7, "epochs": 1, "seed": 0}


def started(formula, shapes):
    """Return a model with a formula, and with numbers that do not depend on how it was made."""
    members = {"mixes_rows": True, "shapes": lambda *_: shapes, "__module__": __name__}
    layer = type("Own", (Layer,), {**members, "formula": lambda _layer, x, w: formula(x, w)})()
    model = Sequential(layer, Flatten(), Dense(units=2))
    Trainer(**SETTINGS, optimizer=SGDOptimizer(learning_rate=1e-9)).fit(model, (X, Y))  # which gives it its shapes
    rng = np.random.default_rng(1)
    for view in model.parameters.views.values():
        view[...] = 0.7 * rng.normal(size=view.shape)
    return model


def learnt(engine, formula, shapes):
    """Return the parameters before and after an epoch, the last batch of which is smaller."""
    model = started(formula, shapes)
    start = model.parameters.vector.copy()
    run = Trainer(**SETTINGS, optimizer=SGDOptimizer(learning_rate=1e-3), engine=engine).fit(model, (X, Y))
    assert run.engine == engine
    return start, model.parameters.vector


def overwritten(x, w):
    h = np.exp(x @ w)
    h[:, 1] = h[:, 0] + 1.0
    h[:, :, 1:3] = 0.5
    return h


def recurrent(step):
    """Return a formula that runs a step over the entries of x."""
    return lambda x, w: loop(lambda h, e: (step(h, e, w),) * 2, np.zeros((len(x), 4)), x)[1]


def set_in_loop(h, e, w):
    h = np.tanh(e @ w + h)
    h[:, 1] = 0.5
    return h


def recurrent_pair(step):
    """Return a formula that runs a step with two states, the first of which is also its output."""

    def formula(x, w):
        (h, g), outputs = loop(lambda states, e: (step(*states, e, w), states[0]), (x[:, 0], x[:, 1] @ w), x)
        return outputs + (h - 2.0 * g)[:, None]

    return formula


def loop_in_loop(x, w):
    def step(h, e):
        return loop(lambda g, f: (np.tanh(g + f[:, None] * (h @ w)), g), h, e)

    last, outputs = loop(step, x[:, 0], x)
    return outputs.sum(axis=2) + last[:, None]


def integers(x):
    return (3.0 * x).astype(int)


FORMULAS = {
    # name: (formula, shapes of its parameters)
    "sum along an axis before the rows": (
        lambda x, w: np.swapaxes(np.cumsum(np.swapaxes(x @ w, 0, 1), axis=2), 0, 1),
        SQUARE,
    ),
    "assignment to parts": (overwritten, SQUARE),
    "assignment in a loop": (recurrent(set_in_loop), SQUARE),
    "running sum in a loop": (recurrent(lambda h, e, w: np.tanh(np.cumsum(e @ w + h, axis=1))), SQUARE),
    "windows in a loop": (
        recurrent(lambda h, e, w: np.tanh(np.pad(sliding_window_view(e @ w + h, 2, axis=1).sum(-1), ((0, 0), (0, 1))))),
        SQUARE,
    ),
    "look-up in a loop": (recurrent(lambda h, e, w: np.tanh(h + w[np.abs(integers(e[:, 0])) % 4])), SQUARE),
    "an order in a loop": (recurrent(lambda h, e, w: np.sort(np.tanh(e @ w + h), axis=1)), SQUARE),
    "orders and running products of axes of 0 and 1": (
        lambda x, w: (
            np.concatenate(
                [np.sort(x[:, :0], axis=1), np.cumprod(np.sort((x @ w)[:, 1:2], axis=1), axis=1), x * w[0]], axis=1
            )
            + np.cumprod(x[:, :0] * w[0], axis=1).sum(axis=1, keepdims=True)
        ),
        SQUARE,
    ),
    "an order of many": (lambda x, w: np.sort((x @ w).reshape(len(x), 12)), SQUARE),
    "a state that is the other one before": (recurrent_pair(lambda h, g, e, w: (np.tanh(e @ w + h - g), h)), SQUARE),
    "states that change places": (recurrent_pair(lambda h, g, e, w: (g, np.tanh(e @ w + h))), SQUARE),
    "a state that is turned around": (recurrent_pair(lambda h, g, e, w: (h[:, ::-1], np.tanh(e @ w + g))), SQUARE),
    "a loop in a loop": (loop_in_loop, SQUARE),
    "index of the largest": (
        lambda x, w: (
            np.take_along_axis(x @ w, (x @ w).argmax(axis=2, keepdims=True), axis=2)
            + (x @ w).argmin(axis=1, keepdims=True)
        ),
        SQUARE,
    ),
    "product of elements": (
        lambda x, w: (x * w).prod(axis=1) + (x + w).prod(axis=(1, 2), keepdims=True)[:, 0],
        SQUARE3,
    ),
    "overlapping parts": (lambda x, w: np.diff(np.concatenate([x * w, x], axis=2), axis=2)[:, :, :4], LINE),
    "parts that read one array": (
        lambda x, w: np.concatenate([(x @ w)[:, :2], (x @ w)[:, 1:], (x @ w)[:, ::2]], axis=1),
        SQUARE,
    ),
    "axes of 1": (lambda x, w: (x[:, :1] * w[:, :1]).sum(axis=1, keepdims=True) + x[:, :1, :1] @ w[:1], SQUARE),
    "axes of 0": (
        lambda x, w: np.concatenate([x[:, :0], x @ w], axis=1) + (x[:, :0] * w[0]).sum(axis=1, keepdims=True),
        SQUARE,
    ),
    "sums of integers": (
        lambda x, w: x * w * integers(x).sum(axis=2, keepdims=True) + np.cumsum(integers(x), axis=1),
        LINE,
    ),
    "sums of integers over rows": (lambda x, w: x * w + 0.01 * (x > 0).sum() + integers(x).max(axis=0), LINE),
    "products of integers": (
        lambda x, w: integers(x) @ w + x @ np.arange(16).reshape(4, 4) / 9 + integers(x) @ np.eye(4, dtype=int),
        SQUARE,
    ),
    "products of booleans": (lambda x, w: (x > 0) @ (np.tri(4, dtype=bool) @ w), SQUARE),
    "arithmetic of booleans": (
        lambda x, w: ((x > 0) * (x < w)) * x + ((x > 0) + (x < w)) * w - (x > 0) + np.maximum(x > 0, x < w) * x * w,
        LINE,
    ),
    "arithmetic of integers": (
        lambda x, w: (integers(x) // 2 + integers(x) % 3 - np.maximum(integers(x), 1) ** 2) * w + integers(x) / 2,
        LINE,
    ),
    "constants": (
        lambda x, w: np.where(np.array([True, False, True, False]), x * w, -w) * np.array([1, 2, 3, 4]),
        LINE,
    ),
    "diagonals": (
        lambda x, w: x * np.diagonal(w) * np.trace(w) + np.diagonal(x[:, :, :3] @ w[:3, :3], 0, 1, 2)[..., None],
        SQUARE,
    ),
    "interpolation": (lambda x, w: np.interp(x, np.linspace(-2, 2, 5), [0.0, 1.0, 0.5, 2.0, 1.0]) * w, LINE),
    "look-up along two axes": (
        lambda x, w: w[np.abs(integers(x[:, 0])) % 4, np.abs(integers(x[:, 1])) % 4],
        SQUARE,
    ),
    "rows as the last axis": (lambda x, w: np.einsum("rij,jk->kir", x, w).T, SQUARE),
    "pairs of rows": (
        lambda x, w: np.exp(-((x[:, None, 0] * w - x[None, :, 0]) ** 2).sum(axis=-1)) @ x[:, 1],
        LINE,
    ),
    "attention over rows": (
        lambda x, w: row_softmax(0.1 * (x[:, 0] @ w) @ x[:, 0].T) @ x[:, 1],
        SQUARE,
    ),
    "pairs of rows as one axis": (lambda x, w: x * w + 0.01 * ((x[:, 0] * w) @ x[:, 0].T).reshape(-1).sum(), LINE),
    "a product that sums over nothing": (lambda x, w: np.einsum("rij,kl->rijk", x, w), SQUARE),
}


OVER_ROWS = {"sums of integers over rows", "pairs of rows", "attention over rows", "pairs of rows as one axis"}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_layer_learns_in_a_kernel_as_with_numpy(name):
    start, expected = learnt("numpy", *FORMULAS[name])
    _, found = learnt("compiled", *FORMULAS[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected - start).max())


@pytest.mark.parametrize("name", FORMULAS)
def test_a_layer_whose_rows_are_apart_predicts_in_a_kernel_as_with_numpy(name):
    model = started(*FORMULAS[name])
    with nullcontext() if name not in OVER_ROWS else pytest.warns(UserWarning, match="layer 0 Own mixes rows, by "):
        fast = compile_model(model)
    assert fast.engine == ("numpy" if name in OVER_ROWS else "compiled")
    whole = fast(X)
    np.testing.assert_allclose(whole, model(X), rtol=1e-12, atol=1e-13)
    for rows in (1, 2, 7) if name not in OVER_ROWS else ():
        np.testing.assert_array_equal(fast(X[:rows]), whole[:rows])


def test_a_refusal_names_the_operation_and_the_layer():
    layer = Layer.of(lambda x, w: (integers(x) & 3) * w, shapes=LINE)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-3), engine="compiled", epochs=1)
    with pytest.warns(UserWarning, match=r"layer 1 Layer\.of: np\.bitwise_and of integers has no form in a kernel"):
        trainer.fit(Sequential(Dense(units=4), layer, Flatten(), Dense(units=2)), (X, Y))
