"""Models that are exported: every layer and activation of the library, own formulas, and every operation."""

import numpy as np
import pytest
from catalogue import catalogue, example
from formulas.derivatives.own_formulas import activation
from formulas.derivatives.right_formulas import DERIVED, ROW_ACTIVATIONS
from graph.random_formulas import STEPS, run_step

from framework import (
    GRU,
    LSTM,
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    Heads,
    Join,
    Layer,
    LayerNorm,
    MaxPool,
    Model,
    MultiHeadAttention,
    Neuron,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SimpleRNN,
    Softmax,
    Tanh,
    loop,
)
from framework.models import (
    RBF,
    AveragePool,
    Bidirectional,
    Bilinear,
    Composite,
    Conv1D,
    ConvTranspose1D,
    ConvTranspose2D,
    Ensemble,
    GroupNorm,
    Input,
    PeriodicEmbedding,
    Permute,
    PositionalEncoding,
    RMSNorm,
)
from framework.models.composite import ActivationLayer


class Shared(Composite):
    """body(x) body(2 x): one child with two calls."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        record["ab"] = a, b = [self.forward_child("body", part, record) for part in (x, 2 * x)]
        return a * b

    def apply_backward(self, gradient, values, record, gradients):
        a, b = record["ab"]
        dx = 2 * self.backward_child("body", gradient * a, record)
        return dx + self.backward_child("body", gradient * b, record)


class Looped(Layer):
    """Written by hand, with what no graph has: a choice by the numbers themselves."""

    check = "off"

    def apply(self, x, values, record):
        return x if x.sum() > 0 else -x

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


# (the layers, the shape of a sample)
class Emptied(Layer):
    """A layer whose formula computes with arrays that have an axis of length 0."""

    def formula(self, x):
        none = x[:, :0]
        outer = (none[:, :, None] * x[:, None, :]).swapaxes(1, 2).reshape(len(x), 0)
        pairs = np.stack([none, none], axis=1).sum(axis=(1, 2)) + none.reshape(len(x), 2, 0).sum(axis=-1).sum(axis=1)
        sums = np.tanh(none).sum(axis=1, keepdims=True) + outer.sum(axis=1, keepdims=True) + pairs[:, None]
        product = np.roll(none, 1, axis=1).prod(axis=1, keepdims=True)
        none = np.cumprod(np.sort(none, axis=1), axis=1)
        x = np.where((none > 0).any(axis=1, keepdims=True), np.nan, x)
        return np.concatenate([none, x + sums * product, none], axis=1)


MODELS = {
    "axes of length 0": (lambda: [Dense(units=3), Emptied(), Dense(units=2)], (4,)),
    "units": (lambda: [Dense(units=5, activation=Tanh()), Neuron(activation=Sigmoid())], (4,)),
    "units for each step": (lambda: [Dense(4, 3)], (6, 4)),
    "an image": (lambda: [Conv2D(filters=3, kernel=2), MaxPool(window=2), Flatten(), Dense(units=2)], (2, 5, 5)),
    "gaps and steps": (
        lambda: [Conv2D(filters=3, kernel=(2, 3), stride=(2, 1), dilation=(1, 2), padding="same")],
        (2, 7, 7),
    ),
    "zeros around": (lambda: [Conv2D(filters=2, kernel=3, stride=2, padding=1)], (2, 8, 7)),
    "a signal": (lambda: [Conv1D(filters=3, kernel=2), GlobalAverage(), Dense(units=2)], (2, 6)),
    "groups of channels": (
        lambda: [Conv2D(filters=6, kernel=2, groups=2, stride=2), Conv2D(filters=6, kernel=2, groups=6, padding=1)],
        (4, 5, 6),
    ),
    "groups of arranged channels": (
        lambda: [Flatten(), Reshape((4, 6)), Conv1D(filters=4, kernel=3, groups=2), Flatten(), Reshape((2, 8))],
        (2, 12),
    ),
    "no later step": (lambda: [Conv1D(filters=3, kernel=3, dilation=2, stride=2, padding="causal")], (2, 7)),
    "larger images": (
        lambda: [
            ConvTranspose2D(filters=4, kernel=3, stride=2, padding=1),
            ConvTranspose2D(filters=2, kernel=2, groups=2),
        ],
        (3, 4, 5),
    ),
    "longer signals": (lambda: [ConvTranspose1D(filters=2, kernel=3, stride=2, padding="same")], (2, 5)),
    "overlapping pools": (
        lambda: [MaxPool(window=2, stride=1), AveragePool(window=2, padding=1), MaxPool(window=3, stride=2, padding=1)],
        (2, 5, 5),
    ),
    "rnn": (lambda: [SimpleRNN(units=3, returns="all"), SimpleRNN(units=3)], (5, 4)),
    "gru": (lambda: [GRU(units=3, returns="all", masking=0.0), GRU(units=3)], (5, 4)),
    "lstm": (lambda: [LSTM(units=3, returns="all"), LSTM(units=2)], (5, 4)),
    "both directions": (
        lambda: [
            Bidirectional(GRU(units=3, returns="all", masking=0.0)),
            Bidirectional(LSTM(units=2), SimpleRNN(units=3)),
        ],
        (5, 4),
    ),
    "behind a recurrence": (
        lambda: [
            SimpleRNN(units=4, returns="all"),
            Residual(Dense(4, 4), Tanh()),
            MultiHeadAttention(heads=2),
        ],
        (5, 4),
    ),
    "moved axes": (
        lambda: [Permute((2, 1)), Tanh(), Residual(Dense(4, 4)), Permute((2, 1)), Conv1D(filters=2, kernel=2)],
        (4, 5),
    ),
    "attention": (
        lambda: [PositionalEncoding(), MultiHeadAttention(heads=2, causal=True, masking=0.0), Flatten()],
        (5, 4),
    ),
    "distances and products": (lambda: [RBF(units=3), Bilinear(units=3, first=1)], (4,)),
    "shaping": (lambda: [Reshape((2, -1)), Permute((2, 1)), Flatten()], (2, 3)),
    "ids": (lambda: [Embedding(6, 3), Flatten()], (4,)),
    "embedded numbers": (lambda: [PeriodicEmbedding(numbers=[True, False, True, True]), Dense(units=2)], (4,)),
    "running statistics": (lambda: [BatchNorm(4), Dropout(0.5)], (4,)),
    "rows normalized": (lambda: [LayerNorm(16), RMSNorm()], (16,)),
    "groups normalized": (lambda: [Conv2D(filters=4, kernel=2), GroupNorm(2)], (2, 5, 4)),
    "a residual": (lambda: [Residual(Dense(4, 4, ReLU()), Dense(4, 4)), ReLU()], (4,)),
    "several inputs and outputs": (
        lambda: [
            Join(numbers=Input(4), city=Embedding(5, 3), age=Dense(1, 2)),
            Dense(units=3),
            Heads(price=Dense(units=1), late=Dense(units=2, activation=Softmax())),
        ],
        {"numbers": (4,), "city": (), "age": ()},
    ),
    "members": (lambda: [Ensemble(Sequential(Dense(4, 3, Tanh()), Dense(3, 2)), Dense(4, 2))], (4,)),
    "an own composite": (lambda: [Shared(body=Residual(Shared(body=Dense(2, 2, Tanh()))))], (2,)),
}


EACH = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)


def made(make, shape, dtype):
    model = Sequential(*make()).in_dtype(dtype)
    model.settle(shape)
    rng = np.random.default_rng(0)
    model.parameters.vector[:] += 0.1 * rng.normal(size=model.parameters.vector.size)
    for value in model.buffers.values():
        value[...] = rng.uniform(0.5, 2.0, value.shape)
    return model


def sample(model, shape, rows):
    """Return a batch for a model."""
    rng = np.random.default_rng(rows)
    if isinstance(shape, dict):
        x = {key: rng.normal(size=(rows, *size)) for key, size in shape.items()}
        return x | {"city": rng.integers(5, size=rows)}
    x = rng.normal(size=(rows, *shape))
    if isinstance(model[0], Embedding):
        return np.abs(x).astype(int)
    if len(shape) == 2:
        x[:, 3:] = 0.0  # steps that masking hides
    return x


ACTIVATIONS = [example(cls) for cls in catalogue(Activation)]
OWN = [activation(formula) for formula, _ in DERIVED.values()] + [*ROW_ACTIVATIONS.values()]


GRID = np.concatenate([np.linspace(-30, 30, 997), [88.0, -88.0, 200.0, -200.0, 0.0]]).reshape(-1, 2)
"""The numbers that activations are tried on."""


def side_by_side(activations, dtype):
    """Return a model of many outputs, f0, f1, ...: an activation each."""
    parts = {f"f{place}": ActivationLayer(activation=each, dtype=dtype) for place, each in enumerate(activations)}
    return Heads(**parts)


class Step(Layer):
    """One of the steps of random formulas, on two arrays and an axis."""

    mixes_rows = True
    check = "off"

    place: int

    @property
    def input_shape(self):
        return (2, 3, 4)

    def shapes(self):
        return {"w": (4, 4), "v": (3, 3), "c": (4,), "s": ()}

    def formula(self, x, **parameters):
        return run_step(self.place, x[:, 0], x[:, 1], 1 + self.place % 2, **parameters)


def nested(x):
    """Return the states of a recurrence whose steps are recurrences."""

    def outer(state, entry):
        last, _ = loop(lambda s, e: (0.5 * s + e, s), state, entry[:, :, None] * np.ones(2), axis=1)
        return last, last + 1.0

    return loop(outer, np.zeros_like(x[:, 0, :2]), x, axis=1)[1]


def whole(x):
    """Return numbers rounded to integers."""
    return np.rint(x).astype(int)


def filled_with(array, x):
    """Return a copy whose first column is that of x, and whose last one is 0.5, as the dtype of the array has them."""
    out = array.copy()
    out[:, 0], out[:, -1] = x[:, 0], 0.5
    return out


INTEGERS = {
    "booleans chosen by booleans": lambda x: np.where(x > 0, x > 0.5, x < -0.5) * 1.0,
    "recurrences in a recurrence": nested,
    "whole numbers divided": lambda x: np.floor(x * 3).astype(int) // 2 + np.floor(x * 3).astype(int) % 3 * 0.1,
    "powers of whole numbers": lambda x: np.maximum((x * 4).astype(int), 1) ** 2 * 1.0,
    "whole numbers beside floats": lambda x: np.arctan2(x, whole(x)) + np.copysign(x, whole(x)) + np.fmax(whole(x), x),
    "whole numbers as conditions": lambda x: np.logical_and(x, whole(x)) + np.logical_not(x) * 1.0,
    "whole numbers are finite": lambda x: np.isfinite(whole(x)) * np.ceil(whole(x)) + np.isnan(whole(x)) * 0.5,
    "running products of whole numbers": lambda x: np.cumprod(whole(x), axis=1) * 1.0,
    "products of whole numbers and floats": lambda x: (
        np.einsum("rij,rij->ri", whole(3 * x), x) + (whole(3 * x) @ x.swapaxes(1, 2))[:, 0]
    ),
    "whole numbers joined to floats": lambda x: np.concatenate([x, whole(3 * x)], axis=1).mean(axis=1),
    "fractions written into whole numbers": lambda x: filled_with(np.zeros_like(whole(x)), 3 * x) * 1.0,
    "fractions filled into whole numbers": lambda x: np.full_like(whole(x), 1.7) * x + filled_with(x > 1, x),
    "booleans counted": lambda x: np.sum(x > 0, axis=-1) * 1.0,
    "whole numbers added up": lambda x: np.sum((x * 4).astype(int), axis=-1) / 3,
    "signs of whole numbers": lambda x: np.abs((x * 4).astype(int)) * np.sign((x * 4).astype(int)) * 1.0,
    "booleans as numbers": lambda x: np.minimum(x > 0, x < 1) + ((x > 0) + (x < 1)) * 0.5,
    "running sums of whole numbers": lambda x: np.cumsum(np.rint(x).astype(int), axis=1) * 1.0,
    "the largest whole number": lambda x: np.max(np.rint(x).astype(int), axis=1) * 1.0,
    "conditions combined": lambda x: np.where(~(x > 0) & (x < 1) | (x > 2), x, -x),
    "digits near 0": lambda x: (np.expm1(1e-9 * x) + np.log1p(1e-9 * x) + np.sinh(1e-9 * x)) * 1e9,
    "shares of many": lambda x: x.reshape(len(x), 12) / np.exp(x.reshape(len(x), 12)).sum(axis=-1, keepdims=True),
    "differences in brackets": lambda x: -(x - (-x)) - (x - (x - 1)) + 1 / (x * (x / (x / 2))),
}
"""Formulas of integers and booleans, and some in which brackets, digits or the order of a sum matter."""


class Odd(Layer):
    """One of these formulas."""

    check = "off"

    place: str

    @property
    def input_shape(self):
        return (3, 4)

    def formula(self, x):
        return INTEGERS[self.place](x)


def of_integers(dtype="float64"):
    """Return a model with an output for each formula of integers."""
    return Heads(**{name.replace(" ", "_"): Odd(place=name, dtype=dtype) for name in INTEGERS})


def every_step(dtype):
    """Return a model with an output for each step of the random formulas."""
    model = Heads(**{f"step{place}": Step(place=place, dtype=dtype) for place in range(len(STEPS))})
    model.parameters.vector[:] = np.random.default_rng(0).normal(size=model.parameters.vector.size)
    return model
