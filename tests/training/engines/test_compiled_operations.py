"""Operations in formulas of users' layers, layouts and sizes: kernels train as NumPy does."""

import numpy as np
import pytest
from compiled_pieces import RNG, require_same
from graph.random_formulas import STEPS, run
from left_out import hooks_differ

from framework import (
    GRU,
    L2,
    LSTM,
    AdamOptimizer,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    Layer,
    MaxPool,
    MeanSquaredError,
    MultiHeadAttention,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
    on,
    save,
)

SETTINGS = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.05), "batch_size": 4, "seed": 0}
Y = RNG.normal(size=(10, 3))


def require_agreement(model, x, y=Y, **settings):
    """Train copies with both engines, 3 batches of which the last is smaller, and compare all numbers."""
    model.settle(x.shape[1:])
    model.parameters.vector[...] += 0.3 * np.random.default_rng(1).normal(size=model.parameters.vector.shape)
    runs = [Trainer(**SETTINGS | settings, engine=name).fit(model.copy(), (x, y)) for name in ("numpy", "compiled")]
    assert runs[1].engine == "compiled"
    for name, value in runs[0].model.parameters.items():
        change = np.abs(value - model.parameters[name]).max()
        assert np.abs(runs[1].model.parameters[name] - value).max() <= 1e-9 * change + 1e-15, name
    for name, value in runs[0].model.buffers.items():
        np.testing.assert_allclose(runs[1].model.buffers[name], value, rtol=1e-10)


class Formula(Layer):
    """Some steps of the random formulas on the two halves of a row."""

    mixes_rows = True
    places: tuple[int, ...]

    def shapes(self):
        return {"w": (4, 4), "v": (3, 3), "c": (4,), "s": ()}

    def shape_after(self, shape):
        return (3, 4)

    def formula(self, x, w, v, c, s):
        steps = [(place, number % 3, number, number % 2) for number, place in enumerate(self.places)]
        return run(steps, x[:, :3], x[:, 3:], w=w, v=v, c=c, s=s)


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize("start", range(0, len(STEPS), 4))
def test_every_function_of_a_formula(start):
    places = tuple(range(start, min(start + 4, len(STEPS))))
    layer = Formula(places=places)
    require_agreement(Sequential(layer, Flatten(), Dense(units=3)), RNG.normal(size=(10, 6, 4)))


ROW = RNG.normal(size=(10, 24))


def lanes(x, w):
    """Multiply matrices whose elements are neighbours, one in each lane, of a parameter that the product updates."""
    return np.einsum("nju,jku->nku", np.reshape(x, (len(x), 3, 8)), w)


def two_parameters(x, w, v):
    """Multiply two parameters: the gradient of each reads the other one."""
    return x[:, :3] + np.tanh(w @ v)


def rows_last(x, w):
    """Sum over two axes that are not one, so that only the rows are left."""
    return np.einsum("nij,ij->n", np.reshape(x, (len(x), 4, 6))[:, :, :5], w)[:, None]


def nested_reductions(x, w):
    """Reduce a reduction that the same nest has made, over a long row."""
    y = np.reshape(x * w, (len(x), 6, 4))
    largest = np.max(y, axis=2)
    return largest / (1.0 + np.sum(largest, axis=1, keepdims=True) ** 2)


def long_nested_reductions(x, w):
    """As above, where the inner reduction is over more elements than are unrolled."""
    y = np.tanh(x[:, :, None] * w)
    sums = np.sum(np.exp(y - np.max(y, axis=2, keepdims=True)), axis=2)
    return sums / np.sum(sums, axis=1, keepdims=True)


def overlapping(x, w):
    """Add up windows that overlap, in steps of 2."""
    windows = np.lib.stride_tricks.sliding_window_view(x * w, 5, axis=1)[:, ::2]
    return np.max(windows, axis=2) * np.mean(windows, axis=2)


def numbers_as_arrays(x, w):
    """Multiply by arrays that are one number."""
    return (x * w) @ np.ones((24, 2)) + np.einsum("ni,ij->nj", x * w, np.full((24, 2), 0.3))


def parts_of_kinds(x, w):
    """Join floats, integers, booleans and a number."""
    return np.concatenate([x * w, np.rint(x).astype(int), x > 0.0, np.ones_like(x)], axis=1)


FORMULAS = {
    lanes: {"w": (3, 2, 8)},
    two_parameters: {"w": (3, 5), "v": (5,)},
    rows_last: {"w": (4, 5)},
    nested_reductions: {"w": (24,)},
    long_nested_reductions: {"w": (20,)},
    overlapping: {"w": (24,)},
    numbers_as_arrays: {"w": (24,)},
    parts_of_kinds: {"w": (24,)},
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_products_reductions_and_joins_of_an_unusual_form(formula):
    require_agreement(Sequential(Layer.of(formula, shapes=FORMULAS[formula]), Flatten(), Dense(units=3)), ROW)


def test_padding_is_filled_with_its_value_and_pools_are_averaged():
    images = RNG.normal(size=(10, 2, 7, 7)) - 3.0  # all below the zeros of a padding by 0
    for first in (Dropout(0.1), Conv2D(filters=2, kernel=3, padding="same")):
        pool = MaxPool(window=(3, 2), padding=(1, 0))
        require_agreement(Sequential(first, pool, GlobalAverage(), Dense(units=3)), images)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("frozen", ["0.weights", "1.shift"])
def test_penalties_of_batches_in_parts_and_of_frozen_parameters(accumulate, frozen):
    model = Sequential(Dense(4, 3), BatchNorm(3), Dense(3, 3))
    model.parameters.freeze(frozen)
    penalties = [L2(strength=0.1, parameters="*"), L2(strength=0.2, parameters=frozen)]
    require_agreement(model, ROW[:, :4], accumulate=accumulate, regularizers=penalties)


def look_up(x, table):
    return table[x[:, 0].astype(int)]


@pytest.mark.parametrize("place", [5, 400_000_000, -6, 1e300])
def test_an_index_out_of_range_raises_numpys_error_at_its_step(place):
    x, errors = RNG.integers(0, 5, (10, 1)).astype(float), []
    x[6] = place
    for engine in ("numpy", "compiled"):
        model = Sequential(Layer.of(look_up, shapes={"table": (5, 3)}), Dense(3, 3, seed=1))
        with pytest.raises(IndexError) as caught:
            Trainer(**SETTINGS, engine=engine, shuffle=False).fit(model, (x, Y))
        errors.append((str(caught.value), caught.value.run.step))
    assert errors[0] == errors[1]
    assert errors[0][1] == 1


def test_a_negative_index_counts_from_the_end():
    x = RNG.integers(-5, 5, (10, 1)).astype(float)
    require_agreement(Sequential(Layer.of(look_up, shapes={"table": (5, 3)}), Dense(3, 3, seed=1)), x)


MODELS = {
    "batch": lambda: Sequential(Dense(3, 40, Tanh(), seed=2), BatchNorm(40), Dropout(0.3), Dense(40, 3, seed=1)),
    "attention": lambda: Sequential(
        GRU(4, inputs=3, seed=1, returns="all"),
        MultiHeadAttention(heads=2, inputs=4, seed=5),
        GlobalAverage(),
        Dense(5, 3, seed=3),
    ),
    "ids": lambda: Sequential(Embedding(5, 3, seed=1), LSTM(3, inputs=3, seed=2), Dense(3, 3, seed=1), dtype="float32"),
}


@hooks_differ
@pytest.mark.share(1 / 6)
@pytest.mark.parametrize("name", MODELS)
def test_a_run_that_stops_at_any_step_resumes_bit_for_bit(name, tmp_path):
    x = {"batch": ROW[:, :3], "attention": np.reshape(ROW[:, :15], (10, 5, 3)), "ids": RNG.integers(0, 5, (10, 4))}
    data = x[name], Y
    optimizer = AdamOptimizer(learning_rate=0.01, clip_norm=1.0) if name == "batch" else SETTINGS["optimizer"]
    settings = SETTINGS | {"optimizer": optimizer, "epochs": 2, "engine": "compiled"}
    whole = Trainer(**settings).fit(MODELS[name](), data)
    for step in range(1, whole.step):
        stop = on("batch_end")(lambda run, step=step: run.stop("enough") if run.step == step else None)
        cut = Trainer(**settings, callbacks=[stop]).fit(MODELS[name](), data)
        assert (cut.step, cut.engine) == (step, "compiled")
        save(cut, tmp_path / "run.safetensors")
        require_same(Trainer(**settings).resume(tmp_path / "run.safetensors", data), whole)
