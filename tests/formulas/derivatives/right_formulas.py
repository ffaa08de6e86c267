"""Right formulas, written in ways that are easily taken for wrong ones: add a row to try another.

Each activation and elementwise loss has its derivative, in closed form. It must pass when it is written, and the
derived one must agree with it wherever the formula can be derived.
"""

import enum
import math

import numpy as np
from formulas.derivatives.own_formulas import (
    attended,
    convolution,
    layer,
    linear,
    linear_backward,
    opaque,
    recurrent,
    row_activation,
    row_loss,
    sigmoid,
    softmax,
)

from framework import Layer


class Order(enum.IntEnum):
    TWO = 2
    THREE = 3


class Metres(float):
    def __repr__(self):
        return f"{float(self):.1f} m"


def doubled_in_place(h):
    a = h.copy()
    a *= 2
    return a


def twins(h):
    a, b = np.exp(-h * h), np.exp(-h * h)
    a += 1
    return a * b


def filled_in_place(h):
    out = np.zeros_like(h)
    out += h
    np.maximum(out, 0.1 * h, out=out)
    return out


def selected_in_place(h):
    out = np.exp(-np.abs(h))
    np.copyto(out, 1 - h, where=h < 0)
    return out


def horner(h):
    total = np.full_like(h, 0.25)
    for coefficient in (-0.5, 0.0, 1.0):
        total = total * h + coefficient
    return total


def safe(h, instead=1.0):
    """Return h with 0 replaced: the inner half of a double np.where."""
    return np.where(h == 0, instead, h)


def tanh_slope(h):
    return 1 / np.cosh(np.clip(h, -300, 300)) ** 2


def logistic_slope(h):
    return sigmoid(h) * sigmoid(-h)


# name: (formula, its derivative)
DERIVED = {
    # guards and limits
    "a bump behind a double where": (
        lambda h: np.where(h > 0, np.exp(-1 / np.where(h > 0, h, 1.0)), 0.0),
        lambda h: np.where(h > 0, np.exp(-1 / np.where(h > 0, h, 1.0)) / np.where(h > 0, h, 1.0) ** 2, 0.0),
    ),
    "h log|h|, guarded": (
        lambda h: h * np.log(np.where(h == 0, 1.0, np.abs(h))),
        lambda h: 1 + np.log(np.where(h == 0, 1.0, np.abs(h))),
    ),
    "h**2 log|h|, guarded": (
        lambda h: h * h * np.log(np.where(h == 0, 1.0, np.abs(h))),
        lambda h: h + 2 * h * np.log(np.where(h == 0, 1.0, np.abs(h))),
    ),
    "sin h / h, guarded": (
        lambda h: np.where(h == 0, 1.0, np.sin(h) / safe(h)),
        lambda h: np.where(np.abs(h) < 1e-3, h**3 / 30 - h / 3, (np.cos(h) - np.sin(h) / safe(h)) / safe(h)),
    ),
    "the root of a guarded number": (
        lambda h: np.where(h > 0, np.sqrt(np.where(h > 0, h, 1.0)), 0.0),
        lambda h: np.where(h > 0, 0.5 / np.sqrt(np.where(h > 0, h, 1.0)), 0.0),
    ),
    "log of a clipped number": (
        lambda h: np.log(np.clip(h, 1e-3, None)),
        lambda h: np.where(h > 1e-3, 1 / np.clip(h, 1e-3, None), 0.0),
    ),
    "a floor by fmax": (
        lambda h: np.fmax(np.log(h), -5.0),
        lambda h: np.where(h > np.exp(-5), 1 / np.where(h > 0, h, 1.0), 0.0),
    ),
    "a ceiling by fmin": (lambda h: np.fmin(h, 2.0), lambda h: np.where(h < 2, 1.0, 0.0)),
    "a growing exponential, not chosen": (
        lambda h: np.where(h > 0, np.log1p(h * (h > 0)), np.expm1(np.minimum(h, 0))),
        lambda h: np.where(h > 0, 1 / (1 + np.abs(h)), np.exp(np.minimum(h, 0))),
    ),
    # steep, or with an offset
    "sin(1e5 h)": (lambda h: np.sin(1e5 * h), lambda h: 1e5 * np.cos(1e5 * h)),
    "tanh(1e6 h)": (lambda h: np.tanh(1e6 * h), lambda h: 1e6 * tanh_slope(1e6 * h)),
    "a steep step away from 0": (
        lambda h: 1 / (1 + np.exp(-1e4 * (h - 0.33))),
        lambda h: 1e4 * logistic_slope(1e4 * (h - 0.33)),
    ),
    "an offset of 1e9": (lambda h: 1e9 + np.tanh(h), tanh_slope),
    "a ripple of 1e-6": (lambda h: h + 1e-6 * np.sin(1e3 * h), lambda h: 1 + 1e-3 * np.cos(1e3 * h)),
    "1e-30 of a tanh": (lambda h: 1e-30 * np.tanh(h), lambda h: 1e-30 * tanh_slope(h)),
    "1e30 of a tanh": (lambda h: 1e30 * np.tanh(h), lambda h: 1e30 * tanh_slope(h)),
    "a narrow bell far from 0": (
        lambda h: np.exp(-np.minimum((50 * (h - 13)) ** 2, 700)),
        lambda h: -5000 * (h - 13) * np.exp(-np.minimum((50 * (h - 13)) ** 2, 700)) * ((50 * (h - 13)) ** 2 < 700),
    ),
    # sides that are equal on an interval
    "a band of equal sides": (
        lambda h: np.where(np.clip(h, 0.35, 0.65) >= h, h, 0.1 * h),
        lambda h: np.where(h <= 0.65, 1.0, 0.1),
    ),
    "leaky by |h| <= h": (lambda h: np.where(np.abs(h) <= h, h, 0.1 * h), lambda h: np.where(h >= 0, 1.0, 0.1)),
    "leaky by max(h, 0) == h": (
        lambda h: np.where(np.maximum(h, 0) == h, h, 0.2 * h),
        lambda h: np.where(h >= 0, 1.0, 0.2),
    ),
    "a floor that equals h": (
        lambda h: np.where(np.floor(h) == np.ceil(h), h, h),
        np.ones_like,
    ),
    "a clip of a clip": (
        lambda h: np.clip(np.clip(h, -1, 1), -2, 2),
        lambda h: np.where(np.abs(h) < 1, 1.0, 0.0),
    ),
    "the larger of h and its absolute value": (lambda h: np.maximum(h, np.abs(h)), np.sign),
    # spellings: constants of other types, optional arguments, arrays changed in place
    "the power of an IntEnum": (lambda h: h**Order.TWO, lambda h: 2 * h),
    "the cube of an IntEnum": (lambda h: np.power(h, Order.THREE), lambda h: 3 * h * h),
    "a float with its own repr": (lambda h: Metres(0.25) * np.tanh(h), lambda h: 0.25 * tanh_slope(h)),
    "constants whose reprs are alike": (
        lambda h: Metres(0.24) * np.sin(h) + Metres(0.16) * np.cos(h),
        lambda h: 0.24 * np.cos(h) - 0.16 * np.sin(h),
    ),
    "NumPy's numbers as constants": (
        lambda h: np.float64(2.0) * np.sin(np.float32(0.5) * h) + np.int64(3),
        lambda h: np.cos(0.5 * h),
    ),
    "zeros_like with a dtype": (
        lambda h: np.where(h > 0, h, np.zeros_like(h, dtype=float)),
        lambda h: np.where(h > 0, 1.0, 0.0),
    ),
    "ones_like with a dtype": (lambda h: np.ones_like(h, float) - np.tanh(h), lambda h: -tanh_slope(h)),
    "full_like by name": (lambda h: h * np.full_like(h, fill_value=2.0), lambda h: np.full_like(h, 2.0)),
    "copy with an order": (lambda h: np.copy(h, order="C") ** 2, lambda h: 2 * h),
    "astype": (lambda h: h * (h > 0).astype(float), lambda h: (h > 0) * 1.0),
    "a copy in place": (doubled_in_place, lambda h: np.full_like(h, 2.0)),
    "two equal arrays, one in place": (
        twins,
        lambda h: -2 * h * np.exp(-h * h) * (1 + 2 * np.exp(-h * h)),
    ),
    "out= of an own array": (filled_in_place, lambda h: np.where(h > 0, 1.0, 0.1)),
    "copyto of an own array": (selected_in_place, lambda h: np.where(h < 0, -1.0, -np.exp(-np.abs(h)))),
    "Horner's rule in a loop": (horner, lambda h: 0.75 * h * h - h),
    "select": (
        lambda h: np.select([h < -1, h > 1], [-1 - np.log(np.maximum(-h, 1)), 1 + np.log(np.maximum(h, 1))], h),
        lambda h: np.where(np.abs(h) > 1, 1 / np.maximum(np.abs(h), 1), 1.0),
    ),
    "clip by keyword": (lambda h: np.clip(h, a_max=0.5, a_min=-0.5), lambda h: np.where(np.abs(h) < 0.5, 1.0, 0.0)),
    "a comparison as a number": (lambda h: (h > 0) * h - (h < 0) * h, np.sign),
    "booleans combined": (
        lambda h: np.where((h > -1) & ~(h > 1), h**3, np.sign(h)),
        lambda h: np.where(np.abs(h) < 1, 3 * h * h, 0.0),
    ),
    "a function of math on a constant": (
        lambda h: math.sqrt(2 / math.pi) * h + math.exp(-1),
        lambda h: np.full_like(h, math.sqrt(2 / math.pi)),
    ),
    # other functions
    "sinc": (
        np.sinc,
        lambda h: np.where(
            np.abs(h) < 1e-4,
            -(np.pi**2) * h / 3,
            (np.cos(np.pi * h) - np.sin(np.pi * h) / (np.pi * safe(h))) / safe(h),
        ),
    ),
    "sinc near 0 alone": (
        lambda h: np.sinc(np.clip(h, -0.1, 0.1)),
        lambda h: np.where(
            np.abs(h) < 0.1,
            np.where(
                np.abs(h) < 1e-4,
                -(np.pi**2) * h / 3,
                (np.cos(np.pi * h) - np.sin(np.pi * h) / (np.pi * safe(h))) / safe(h),
            ),
            0.0,
        ),
    ),
    "hypot": (lambda h: np.hypot(h, 3.0), lambda h: h / np.hypot(h, 3.0)),
    "exp2": (lambda h: np.exp2(-h * h), lambda h: -2 * h * math.log(2) * np.exp2(-h * h)),
    "logaddexp of both signs": (lambda h: np.logaddexp(h, -h), np.tanh),
    "arctan2": (lambda h: np.arctan2(h, 1.0), lambda h: 1 / (1 + h * h)),
    "the remainder": (lambda h: np.sin(np.pi * np.fmod(h, 7.3)), lambda h: np.pi * np.cos(np.pi * np.fmod(h, 7.3))),
    "a saw tooth": (lambda h: h - np.floor(h), np.ones_like),
    "rounding down to 1e-4": (lambda h: np.floor(1e4 * h) / 1e4, np.zeros_like),
    "stairs, as many as a slope": (lambda h: np.floor(h * np.maximum(h, 2)), np.zeros_like),
    "copysign": (lambda h: np.copysign(np.sqrt(np.abs(h)), h), lambda h: 0.5 / np.sqrt(np.abs(h))),
    "a cube root": (np.cbrt, lambda h: 1 / (3 * np.cbrt(h) ** 2)),
    "the modulus to the power 1.5": (lambda h: np.abs(h) ** 1.5, lambda h: 1.5 * np.sqrt(np.abs(h)) * np.sign(h)),
    "the signed power 1.5": (
        lambda h: 0.3 * np.abs(h) ** 1.5 * np.sign(h),
        lambda h: 0.45 * np.sqrt(np.abs(h)),
    ),
    "a Gaussian by reciprocal": (
        lambda h: np.reciprocal(1 + np.square(h)),
        lambda h: -2 * h / (1 + h * h) ** 2,
    ),
    "Lambert's approximation": (
        lambda h: np.log1p(np.log1p(h * h)),
        lambda h: 2 * h / ((1 + h * h) * (1 + np.log1p(h * h))),
    ),
}
"""Elementwise formulas that can be derived."""

if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # the first with these names
    DERIVED["clip by min and max"] = (
        lambda h: np.clip(h, min=-0.5, max=0.5),
        lambda h: np.where(np.abs(h) < 0.5, 1.0, 0.0),
    )

UNDERIVED = {
    "tanh of math": (opaque(math.tanh), tanh_slope),
    "h times the root of its modulus": (lambda h: h * np.sqrt(np.abs(h)), lambda h: 1.5 * np.sqrt(np.abs(h))),
    "erf of math": (opaque(math.erf), lambda h: 2 / math.sqrt(math.pi) * np.exp(-h * h)),
    "a steep tanh of math": (
        opaque(lambda h: math.tanh(1e3 * h)),
        lambda h: 1e3 * tanh_slope(1e3 * h),
    ),
}
"""Elementwise formulas whose derivative must be written."""

ROW_ACTIVATIONS = {
    "softmax": row_activation(softmax, lambda g, h, a: a * (g - np.sum(g * a, axis=-1, keepdims=True))),
    "softmax, derived": row_activation(softmax),
    "log-softmax": row_activation(
        lambda h: (
            h
            - np.max(h, -1, keepdims=True)
            - np.log(np.sum(np.exp(h - np.max(h, -1, keepdims=True)), -1, keepdims=True))
        ),
        lambda g, h, a: g - np.exp(a) * np.sum(g, axis=-1, keepdims=True),
    ),
    "share of the sum of moduli": row_activation(lambda h: h / (1 + np.sum(np.abs(h), axis=-1, keepdims=True))),
    "standardized": row_activation(
        lambda h: (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5)
    ),
    "unit length with a guard": row_activation(
        lambda h: h / np.sqrt(np.sum(h * h, axis=-1, keepdims=True) + 1e-12),
    ),
    "the largest alone": row_activation(
        lambda h: np.where(h == np.max(h, axis=-1, keepdims=True), h, 0.0),
        lambda g, h, a: np.where(h == np.max(h, axis=-1, keepdims=True), g, 0.0),
    ),
    "a steep softmax": row_activation(
        lambda h: softmax(1e4 * h),
        lambda g, h, a: 1e4 * a * (g - np.sum(g * a, axis=-1, keepdims=True)),
    ),
    "softmax with an offset of 1e7": row_activation(
        lambda h: 1e7 + softmax(h),
        lambda g, h, a: softmax(h) * (g - np.sum(g * softmax(h), axis=-1, keepdims=True)),
    ),
}
"""Activations over rows."""

# name: (value, its slope)
LOSSES = {
    "interpolated": (
        lambda p, t: np.interp(p - t, [-2.0, -0.5, 1.0, 1.0, 3.0], [4.0, 0.5, 0.2, 0.3, 5.0]),
        lambda p, t: np.select([p - t < -2, p - t < -0.5, p - t < 1, p - t < 3], [0.0, -3.5 / 1.5, -0.2, 2.35], 0.0),
    ),
    "squared error": (lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t)),
    "absolute error": (lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t)),
    "quantile": (
        lambda p, t: np.maximum(0.8 * (t - p), -0.2 * (t - p)),
        lambda p, t: np.where(p > t, 0.2, -0.8),
    ),
    "Huber": (
        lambda p, t: np.where(np.abs(p - t) < 1.5, 0.5 * (p - t) ** 2, 1.5 * (np.abs(p - t) - 0.75)),
        lambda p, t: np.clip(p - t, -1.5, 1.5),
    ),
    "log-cosh": (lambda p, t: np.logaddexp(p - t, t - p), lambda p, t: np.tanh(p - t)),
    "insensitive tube": (
        lambda p, t: np.maximum(np.abs(p - t) - 0.1, 0),
        lambda p, t: np.where(np.abs(p - t) > 0.1, np.sign(p - t), 0.0),
    ),
    "Poisson with a guard": (
        lambda p, t: np.maximum(p, 1e-6) - t * np.log(np.maximum(p, 1e-6)),
        lambda p, t: np.where(p > 1e-6, 1 - t / np.maximum(p, 1e-6), 0.0),
    ),
    "binary cross-entropy behind a double where": (
        lambda p, t: np.where(
            (p > 0) & (p < 1),
            -t * np.log(np.where(p > 0, p, 1.0)) - (1 - t) * np.log(np.where(p < 1, 1 - p, 1.0)),
            0.0,
        ),
        lambda p, t: np.where(
            (p > 0) & (p < 1),
            (1 - t) / np.where(p < 1, 1 - p, 1.0) - t / np.where(p > 0, p, 1.0),
            0.0,
        ),
    ),
    "relative error": (
        lambda p, t: np.abs(p - t) / (1 + np.abs(t)),
        lambda p, t: np.sign(p - t) / (1 + np.abs(t)),
    ),
    "Charbonnier": (
        lambda p, t: np.sqrt((p - t) ** 2 + 1e-6),
        lambda p, t: (p - t) / np.sqrt((p - t) ** 2 + 1e-6),
    ),
    "a weight by the target's size": (
        lambda p, t: np.where(t > 5, 0.1, 1.0) * (p - t) ** 2,
        lambda p, t: np.where(t > 5, 0.2, 2.0) * (p - t),
    ),
    "1e6 times the squared error": (lambda p, t: 1e6 * (p - t) ** 2, lambda p, t: 2e6 * (p - t)),
    "1e-12 of the squared error": (lambda p, t: 1e-12 * (p - t) ** 2, lambda p, t: 2e-12 * (p - t)),
    "correntropy": (
        lambda p, t: 1 - np.exp(-np.minimum((p - t) ** 2, 700)),
        lambda p, t: np.where((p - t) ** 2 < 700, 2 * (p - t) * np.exp(-np.minimum((p - t) ** 2, 700)), 0.0),
    ),
}
"""Elementwise losses."""

ROW_LOSSES = {
    "squared distance": row_loss(lambda p, t: np.sum((p - t) ** 2, axis=-1), lambda p, t: 2 * (p - t)),
    "cross-entropy with a floor": row_loss(
        lambda p, t: -np.sum(t * np.log(np.maximum(p, 1e-12)), axis=-1),
        lambda p, t: np.where(p > 1e-12, -t / np.maximum(p, 1e-12), 0.0),
    ),
    "distance": row_loss(
        lambda p, t: np.sqrt(np.sum((p - t) ** 2, axis=-1) + 1e-9),
        lambda p, t: (p - t) / np.sqrt(np.sum((p - t) ** 2, axis=-1, keepdims=True) + 1e-9),
    ),
    "cosine, derived": row_loss(
        lambda p, t: -np.sum(p * t, axis=-1) / np.sqrt(np.sum(p * p, axis=-1) + 1e-9),
    ),
    "the largest error, derived": row_loss(lambda p, t: np.max(np.abs(p - t), axis=-1)),
}
"""Losses over rows."""

LINEAR = {"weights": (3, 2), "bias": (2,)}


def recurrent_backward(g, x, v):
    states = [np.zeros_like(x[:, 0])]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] + states[-1] @ v["u"]))
    to_x, to_u = np.zeros_like(x), np.zeros_like(v["u"])
    for t in reversed(range(x.shape[1])):
        slope = g * (1 - states[t + 1] ** 2)
        to_x[:, t] = slope
        to_u += states[t].T @ slope
        g = slope @ v["u"].T
    return {"u": to_u, "x": to_x}


def convolution_backward(g, x, v):
    to_x = np.zeros_like(x)
    for k in range(3):
        to_x[:, k : k + 4] += g * v["kernel"][k]
    return {"kernel": [np.sum(g * x[:, k : k + 4]) for k in range(3)], "x": to_x}


def attended_backward(g, x, v):
    a = softmax(x @ v["query"] @ x.swapaxes(1, 2))
    to_a = g @ x.swapaxes(1, 2)
    scores = a * (to_a - np.sum(to_a * a, axis=-1, keepdims=True))
    to_x = a.swapaxes(1, 2) @ g + scores @ x @ v["query"].T + scores.swapaxes(1, 2) @ (x @ v["query"])
    return {"query": np.einsum("rsi,rst,rtj->ij", x, scores, x), "x": to_x}


def pooled_backward(g, x, _v):
    pairs = x.reshape(len(x), 3, 2)
    first = (pairs == pairs.max(axis=2, keepdims=True)).cumsum(axis=2) == 1
    return {"x": (g[:, :, None] * (first & (pairs == pairs.max(axis=2, keepdims=True)))).reshape(x.shape)}


class Table(Layer):
    """Looks numbers up by ids, which may come twice."""

    cardinality = 5

    def shapes(self):
        return {"table": (5, 2)}

    @property
    def input_shape(self):
        return (3,)

    @property
    def output_shape(self):
        return (3, 2)

    def apply(self, x, values, record):
        record["ids"] = np.abs(x).astype(int) % 5
        return values["table"][record["ids"]]

    def apply_backward(self, gradient, values, record, gradients):
        gradients["table"][...] = 0
        np.add.at(gradients["table"], record["ids"], gradient)
        return np.zeros(gradient.shape[:2], gradient.dtype)


class Noise(Layer):
    """Multiplies with noise while it is trained: the same noise for the same key."""

    def shapes(self):
        return {"scale": (3,)}

    @property
    def input_shape(self):
        return (3,)

    def apply(self, x, values, record):
        record["x"], record["noise"] = x, np.ones_like(x)
        if record.training:
            record["noise"] += 0.1 * np.random.default_rng(record.key).normal(size=x.shape).astype(x.dtype)
        return x * record["noise"] * values["scale"]

    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"][...] = np.sum(gradient * record["x"] * record["noise"], axis=0)
        return gradient * record["noise"] * values["scale"]


LAYERS = {
    "dense": layer(LINEAR, linear, linear_backward, output=(2,)),
    "an unused parameter": layer(
        {"scale": (3,), "spare": (2,)},
        lambda x, v: x * v["scale"],
        lambda g, x, v: {"scale": np.sum(g * x, axis=0), "spare": 0.0, "x": g * v["scale"]},
    ),
    "outputs of 1e9": layer(
        LINEAR,
        lambda x, v: 1e9 + linear(x, v),
        linear_backward,
        output=(2,),
    ),
    "outputs of 1e-12": layer(
        LINEAR,
        lambda x, v: 1e-12 * linear(x, v),
        lambda g, x, v: linear_backward(1e-12 * g, x, v),
        output=(2,),
    ),
    "a steep sine": layer(
        {"phase": (3,)},
        lambda x, v: np.sin(1e3 * (x + v["phase"])),
        lambda g, x, v: {
            "phase": np.sum(g * 1e3 * np.cos(1e3 * (x + v["phase"])), axis=0),
            "x": g * 1e3 * np.cos(1e3 * (x + v["phase"])),
        },
    ),
    "a ReLU": layer(
        {"bias": (3,)},
        lambda x, v: np.maximum(x + v["bias"], 0),
        lambda g, x, v: {"bias": np.sum(g * (x + v["bias"] > 0), axis=0), "x": g * (x + v["bias"] > 0)},
    ),
    "a step, whose gradient is 0": layer(
        {"bias": (3,)},
        lambda x, v: (x + v["bias"] > 0) * 1.0,
        lambda g, x, v: {"bias": 0.0, "x": np.zeros_like(x)},
    ),
    "a recurrence": layer({"u": (2, 2)}, recurrent, recurrent_backward, sample=(4, 2), output=(2,)),
    "a convolution": layer({"kernel": (3,)}, convolution, convolution_backward, sample=(6,), output=(4,)),
    "an attention": layer({"query": (2, 2)}, attended, attended_backward, sample=(3, 2)),
    "a pool without parameters": layer(
        {}, lambda x, v: x.reshape(len(x), 3, 2).max(axis=2), pooled_backward, sample=(6,), output=(3,)
    ),
    "a table of ids": Table(),
    "noise while training": Noise(),
}
"""Layers written by hand."""
