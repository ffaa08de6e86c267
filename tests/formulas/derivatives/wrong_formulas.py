"""Wrong derivatives, and what the message about each must say: add a row to try another."""

import math

import numpy as np
from formulas.derivatives.own_formulas import (
    activation,
    attended,
    convolution,
    layer,
    linear,
    linear_backward,
    loss,
    opaque,
    recurrent,
    row_activation,
    row_loss,
    sigmoid,
    softmax,
)

from framework import Layer

OUT = "leave derivative out and it is derived"
SIGN = "the sign is wrong: it is minus the derivative"
FROM_OUTPUT = r"written in terms of the output a: begin it with a = self\(h\)"


def factor(number):
    """Return what the message says of a missing factor."""
    return rf"a constant factor is missing: the derivative is {number} times that"


def at(number, advice="", name="h"):
    """Return the point that the message names, as a pattern, and the advice that follows."""
    return rf"wrong at {name} = {number}[\d.e+-]*: (.|\n)*{advice}"


def tanh_slope(h):
    return 1 - np.tanh(h) ** 2


def swish_slope(h, beta):
    s = sigmoid(beta * h)
    return s + beta * h * s * (1 - s)


def only(place, slope, instead):
    """Return a slope that is right but for one place."""
    return lambda h: np.where(place(h), instead, slope(h))


OPAQUE_TANH = opaque(math.tanh)
OPAQUE_ERF = opaque(math.erf)

ACTIVATIONS = {
    # a factor
    "softplus: beta twice": (
        activation(
            lambda h, beta: np.logaddexp(0, beta * h) / beta, lambda h, beta: beta * sigmoid(beta * h), beta=4.0
        ),
        factor(r"0\.25 \(1 / beta\)"),
    ),
    "LeCun's tanh: the inner factor is lost": (
        activation(lambda h: 1.7159 * np.tanh(2 / 3 * h), lambda h: 1.7159 * tanh_slope(2 / 3 * h)),
        factor(r"0\.66666\d"),
    ),
    "arctan: both factors are lost": (
        activation(lambda h: 2 / np.pi * np.arctan(np.pi / 2 * h), lambda h: np.pi / (1 + (np.pi / 2 * h) ** 2)),
        factor(r"0\.31\d+"),
    ),
    "normal distribution: the constant is lost": (
        activation(lambda h: 0.5 + 0.5 * OPAQUE_ERF(h / math.sqrt(2)), lambda h: np.exp(-h * h / 2)),
        factor(r"0\.398942"),
    ),
    "a tenth of a per cent too large": (activation(np.tanh, lambda h: 1.001 * tanh_slope(h)), factor(r"0\.999001")),
    "squared ReLU: the two is lost": (
        activation(lambda h: np.maximum(h, 0) ** 2, lambda h: np.maximum(h, 0)),
        factor("2"),
    ),
    "an offset of 1e9, half the slope": (
        activation(lambda h: 1e9 + 1e3 * np.tanh(h), lambda h: 5e2 * tanh_slope(h)),
        factor("2"),
    ),
    # the sign
    "an offset of 1e9, the wrong sign": (activation(lambda h: 1e9 + np.tanh(h), lambda h: -tanh_slope(h)), SIGN),
    "log-sigmoid: the wrong sign": (activation(lambda h: -np.logaddexp(0, -h), lambda h: -sigmoid(-h)), SIGN),
    "complementary log-log: the wrong sign": (
        activation(lambda h: np.exp(-np.exp(np.minimum(h, 5))), lambda h: np.where(h < 5, np.exp(h - np.exp(h)), 0.0)),
        SIGN,
    ),
    # the argument
    "logistic: in terms of the output": (
        activation(lambda h: 1 / (1 + np.exp(-h)), lambda h: h * (1 - h)),
        FROM_OUTPUT,
    ),
    "softplus: in terms of the output": (
        activation(lambda h: np.logaddexp(0, h), lambda h: 1 - np.exp(-h)),
        FROM_OUTPUT,
    ),
    # a missing term
    "SELU: no scale above 0": (
        activation(
            lambda h: 1.05 * np.where(h > 0, h, 1.67 * np.expm1(np.minimum(h, 0))),
            lambda h: np.where(h > 0, 1.0, 1.05 * 1.67 * np.exp(np.minimum(h, 0))),
        ),
        OUT,
    ),
    "CELU: alpha is forgotten inside": (
        activation(
            lambda h, alpha: np.where(h > 0, h, alpha * np.expm1(np.minimum(h, 0) / alpha)),
            lambda h, alpha: np.where(h > 0, 1.0, np.exp(np.minimum(h, 0))),
            alpha=2.0,
        ),
        at("-", OUT),
    ),
    "swish: beta is forgotten in the second term": (
        activation(lambda h, beta: h * sigmoid(beta * h), lambda h, beta: swish_slope(h, 1.0), beta=1.5),
        OUT,
    ),
    "GELU: the inner slope is lost": (
        activation(
            lambda h: 0.5 * h * (1 + np.tanh(0.79788456 * (h + 0.044715 * h**3))),
            lambda h: (
                0.5 * (1 + np.tanh(0.79788456 * (h + 0.044715 * h**3)))
                + 0.5 * h * tanh_slope(0.79788456 * (h + 0.044715 * h**3)) * 0.79788456
            ),
        ),
        OUT,
    ),
    "Mish: the inner slope is lost": (
        activation(
            lambda h: h * np.tanh(np.logaddexp(0, h)),
            lambda h: np.tanh(np.logaddexp(0, h)) + h * tanh_slope(np.logaddexp(0, h)),
        ),
        OUT,
    ),
    "hard swish: the term of the gate is lost": (
        activation(lambda h: h * np.clip(h / 6 + 0.5, 0, 1), lambda h: np.clip(h / 6 + 0.5, 0, 1)),
        OUT,
    ),
    "snake: the sine of the wrong angle": (
        activation(lambda h: h + np.sin(h) ** 2, lambda h: 1 + np.sin(h)),
        OUT,
    ),
    "bent identity: the 1 is lost": (
        activation(lambda h: (np.sqrt(h * h + 1) - 1) / 2 + h, lambda h: h / (2 * np.sqrt(h * h + 1))),
        OUT,
    ),
    "signed power: wrong at the branch point": (
        activation(lambda h: np.abs(h) ** 1.5 * np.sign(h), lambda h: np.where(h == 0, 0.01, 1.5 * np.sqrt(np.abs(h)))),
        OUT,
    ),
    "inverse root: the wrong power": (
        activation(lambda h: h / np.sqrt(1 + 0.5 * h * h), lambda h: (1 + 0.5 * h * h) ** -0.5),
        OUT,
    ),
    "quotient rule: the wrong sign": (
        activation(lambda h: h / (2 + np.cos(h)), lambda h: (2 + np.cos(h) - h * np.sin(h)) / (2 + np.cos(h)) ** 2),
        OUT,
    ),
    "log cosh: the slope's square": (
        activation(lambda h: np.logaddexp(h, -h), lambda h: np.tanh(h) ** 2),
        at("-", OUT),
    ),
    "power of the modulus: the sign is lost": (
        activation(lambda h: np.abs(h) ** 1.5, lambda h: 1.5 * np.abs(h) ** 0.5),
        at("-", OUT),
    ),
    "sinc: the second term is lost": (
        activation(np.sinc, lambda h: np.cos(np.pi * h) / np.where(h == 0, 1.0, h) * (h != 0)),
        OUT,
    ),
    "rounded: the slope of the identity": (activation(np.rint, np.ones_like), at(r"-?\d", OUT)),
    # one side, one interval, one point
    "shifted ReLU: the threshold is lost": (
        activation(lambda h: np.where(h > 1, h, 0), lambda h: np.where(h > 0, 1.0, 0.0)),
        at(r"0\.", FROM_OUTPUT),
    ),
    "exponential with a ceiling: not flat above it": (
        activation(lambda h: np.exp(np.minimum(h, 3.7)), lambda h: np.exp(np.minimum(h, 3.7))),
        at("[3-9]", OUT),
    ),
    "inverse root for negative h: the slope of the identity": (
        activation(lambda h: np.where(h < 0, h / np.sqrt(1 + h * h), h), np.ones_like),
        at("-", OUT),
    ),
    "ReLU: twice at the kink": (
        activation(lambda h: np.maximum(h, 0), lambda h: np.where(h == 0, 2.0, (h > 0) * 1.0)),
        at("0", OUT),
    ),
    "absolute value: 0 / 0 at the kink": (
        activation(np.abs, lambda h: h / np.abs(h)),
        at("0", OUT),
    ),
    "clipped at 37.5: flat above 38 alone": (
        activation(lambda h: np.minimum(h, 37.5), lambda h: np.where(h < 38, 1.0, 0.0)),
        at(r"3[78]", OUT),
    ),
    "wrong for 12.5 < h < 14": (
        activation(lambda h: h * 1.0, only(lambda h: (h > 12.5) & (h < 14), np.ones_like, 2.0)),
        at(r"1[2-4]", OUT),
    ),
    "wrong for 200 < h < 600": (
        activation(lambda h: h * 1.0, only(lambda h: (h > 200) & (h < 600), np.ones_like, 0.0)),
        at(r"[2-6]\d\d", OUT),
    ),
    "wrong for -600 < h < -200": (
        activation(
            lambda h: h / (1 + np.abs(h)), only(lambda h: (h < -200) & (h > -600), lambda h: (1 + abs(h)) ** -2.0, 1.0)
        ),
        at(r"-[2-6]\d\d", OUT),
    ),
    "wrong for 2e4 < h < 9e4": (
        activation(
            lambda h: np.log1p(h * h), only(lambda h: (h > 2e4) & (h < 9e4), lambda h: 2 * h / (1 + h * h), 1.0)
        ),
        at(r"[2-9]", OUT),
    ),
    "wrong for 1e-5 < h < 1e-4": (
        activation(np.sin, only(lambda h: (h > 1e-5) & (h < 1e-4), np.cos, 0.0)),
        at(r"\d", OUT),
    ),
    "tanh(1e6 h): twice": (
        activation(lambda h: np.tanh(1e6 * h), lambda h: 2e6 * tanh_slope(1e6 * h)),
        factor(r"0\.5"),
    ),
    "a steep step at 0.25: half the slope": (
        activation(
            lambda h: sigmoid(1e4 * (h - 0.25)), lambda h: 5e3 * sigmoid(1e4 * (h - 0.25)) * sigmoid(1e4 * (0.25 - h))
        ),
        factor("2"),
    ),
    "wrong in float32 alone": (
        activation(np.tanh, lambda h: tanh_slope(h) * (2 if h.dtype == np.float32 else 1)),
        r"float32(.|\n)*(leave derivative out|0\.5 times)",
    ),
    "overflows in float32 alone": (
        activation(np.arcsinh, lambda h: 1e30 / np.sqrt(1e60 * (1 + h * h), dtype=h.dtype)),
        r"float32(.|\n)*leave derivative out",
    ),
    "depends on the number of values": (
        activation(np.sin, lambda h: np.cos(h) / np.size(h)),
        r"derivative is wrong at h",
    ),
}
"""Elementwise activations."""

CORRECT = "correct derivative"
UNDERIVED = {
    "erf: the factor is lost": (activation(OPAQUE_ERF, lambda h: np.exp(-h * h)), factor(r"1\.12838")),
    "tanh: wrong for -0.6 < h < -0.4": (
        activation(OPAQUE_TANH, only(lambda h: (h > -0.6) & (h < -0.4), tanh_slope, 0.0)),
        at(r"-0\.[456]", CORRECT),
    ),
    "tanh: wrong for 3.31 < h < 3.89": (
        activation(OPAQUE_TANH, only(lambda h: (h > 3.31) & (h < 3.89), tanh_slope, 0.5)),
        at(r"3\.[3-8]", CORRECT),
    ),
    "gamma: the digamma is lost": (
        activation(opaque(lambda h: math.lgamma(1 + h * h)), lambda h: 2 * h),
        at(r"-?\d", CORRECT),
    ),
    "square: the absolute value": (activation(opaque(lambda h: h * h), lambda h: 2 * np.abs(h)), at("-", CORRECT)),
}
"""Activations from which nothing can be derived: no message may say that they can."""

BACKWARD = "leave backward out and it is derived"
ROW_ACTIVATIONS = {
    "softmax: the sum is lost": (row_activation(softmax, lambda g, h, a: a * g), BACKWARD),
    "softmax: the sum is over the rows": (
        row_activation(softmax, lambda g, h, a: a * (g - np.sum(g * a, axis=0, keepdims=True))),
        BACKWARD,
    ),
    "softmax: a is lost within the sum": (
        row_activation(softmax, lambda g, h, a: a * (g - np.sum(g, axis=-1, keepdims=True))),
        BACKWARD,
    ),
    "softmin: the wrong sign": (
        row_activation(lambda h: softmax(-h), lambda g, h, a: a * (g - np.sum(g * a, axis=-1, keepdims=True))),
        SIGN,
    ),
    "log-softmax: the probabilities are lost": (
        row_activation(
            lambda h: h - np.log(np.sum(np.exp(h), axis=-1, keepdims=True)),
            lambda g, h, a: g - np.sum(g, axis=-1, keepdims=True),
        ),
        BACKWARD,
    ),
    "unit length: the projection is lost": (
        row_activation(
            lambda h: h / np.sqrt(np.sum(h * h, axis=-1, keepdims=True)),
            lambda g, h, a: g / np.sqrt(np.sum(h * h, axis=-1, keepdims=True)),
        ),
        BACKWARD,
    ),
    "standardized: the term of the variance is lost": (
        row_activation(
            lambda h: (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5),
            lambda g, h, a: (g - g.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5),
        ),
        BACKWARD,
    ),
    "centred: the mean of the gradient is lost": (
        row_activation(lambda h: h - h.mean(axis=-1, keepdims=True), lambda g, h, a: g),
        BACKWARD,
    ),
    "share of the sum of moduli: the sign is lost": (
        row_activation(
            lambda h: h / (1 + np.sum(np.abs(h), axis=-1, keepdims=True)),
            lambda g, h, a: (
                (g - np.sum(g * a, axis=-1, keepdims=True)) / (1 + np.sum(np.abs(h), axis=-1, keepdims=True))
            ),
        ),
        BACKWARD,
    ),
    "softmax: twice in float32 alone": (
        row_activation(
            softmax,
            lambda g, h, a: (2 if h.dtype == np.float32 else 1) * a * (g - np.sum(g * a, axis=-1, keepdims=True)),
        ),
        rf"float32(.|\n)*({BACKWARD}|0\.5 times)",
    ),
    "a gate by the row's largest: wrong for rows above 10": (
        row_activation(
            lambda h: h * np.exp(-np.sum(h * h, axis=-1, keepdims=True) / 1e4),
            lambda g, h, a: (
                np.exp(-np.sum(h * h, axis=-1, keepdims=True) / 1e4)
                * (g - 2e-4 * h * np.sum(g * h, axis=-1, keepdims=True))
                * np.where(np.max(np.abs(h), axis=-1, keepdims=True) > 10, 2.0, 1.0)
            ),
        ),
        BACKWARD,
    ),
}
"""Activations over rows."""

SLOPE = "leave slope out and it is derived"
LOSSES = {
    "squared error: the wrong order": (loss(lambda p, t: (p - t) ** 2, lambda p, t: 2 * (t - p)), SIGN),
    "squared error: the two is lost": (loss(lambda p, t: (p - t) ** 2, lambda p, t: p - t), factor("2")),
    "squared error: over the number of values": (
        loss(lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t) / np.size(p)),
        "a constant factor is missing",
    ),
    "squared error: 0 for targets above 5": (
        loss(lambda p, t: (p - t) ** 2, lambda p, t: np.where(t > 5, 0.0, 2 * (p - t))),
        r"target \d+(.|\n)*" + SLOPE,
    ),
    "squared error: wrong for targets above 1000": (
        loss(lambda p, t: (p - t) ** 2, lambda p, t: np.where(t > 1000, 1.0, 2.0) * (p - t)),
        r"target \d+",
    ),
    "squared error: wrong for targets below -5": (
        loss(lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - np.maximum(t, -5))),
        r"target -\d+(.|\n)*" + SLOPE,
    ),
    "squared error: wrong in float32 alone": (
        loss(lambda p, t: (p - t) ** 2, lambda p, t: (p - t) * (1 if p.dtype == np.float32 else 2)),
        "float32",
    ),
    "absolute error: the slope of the square": (loss(lambda p, t: np.abs(p - t), lambda p, t: 2 * (p - t)), SLOPE),
    "Huber: twice the threshold": (
        loss(
            lambda p, t, delta: np.where(
                np.abs(p - t) < delta, 0.5 * (p - t) ** 2, delta * (np.abs(p - t) - 0.5 * delta)
            ),
            lambda p, t, delta: np.clip(p - t, -2 * delta, 2 * delta),
            delta=1.5,
        ),
        SLOPE,
    ),
    "quantile: the sides are swapped": (
        loss(
            lambda p, t, q: np.maximum(q * (t - p), (q - 1) * (t - p)),
            lambda p, t, q: np.where(p > t, q, q - 1),
            q=0.8,
        ),
        SLOPE,
    ),
    "log-cosh: the square": (
        loss(lambda p, t: np.logaddexp(p - t, t - p), lambda p, t: np.tanh(p - t) ** 2),
        SLOPE,
    ),
    "Poisson: multiplied through by the prediction": (
        loss(
            lambda p, t: np.maximum(p, 1e-6) - t * np.log(np.maximum(p, 1e-6)),
            lambda p, t: np.where(p > 1e-6, p - t, 0.0),
        ),
        SLOPE,
    ),
    "binary cross-entropy: the slope by h": (
        loss(
            lambda p, t: -t * np.log(np.clip(p, 1e-9, 1 - 1e-9)) - (1 - t) * np.log(1 - np.clip(p, 1e-9, 1 - 1e-9)),
            lambda p, t: np.where((p > 1e-9) & (p < 1 - 1e-9), p - t, 0.0),
        ),
        SLOPE,
    ),
    "gamma deviance: the square is lost": (
        loss(
            lambda p, t: np.where(p > 0, np.abs(t) / np.where(p > 0, p, 1.0) + np.log(np.where(p > 0, p, 1.0)), 0.0),
            lambda p, t: np.where(p > 0, (1 - np.abs(t)) / np.where(p > 0, p, 1.0), 0.0),
        ),
        SLOPE,
    ),
    "relative error: relative to the prediction": (
        loss(lambda p, t: np.abs(p - t) / (1 + np.abs(t)), lambda p, t: np.sign(p - t) / (1 + np.abs(p))),
        SLOPE,
    ),
    "Charbonnier: the root is lost": (
        loss(lambda p, t: np.sqrt((p - t) ** 2 + 0.01), lambda p, t: (p - t) / ((p - t) ** 2 + 0.01)),
        SLOPE,
    ),
    "insensitive tube: no tube": (
        loss(lambda p, t: np.maximum(np.abs(p - t) - 0.1, 0), lambda p, t: np.sign(p - t)),
        SLOPE,
    ),
    "squared logarithmic error: the inner slope is lost": (
        loss(
            lambda p, t: (np.log1p(np.abs(p)) - np.log1p(np.abs(t))) ** 2,
            lambda p, t: 2 * (np.log1p(np.abs(p)) - np.log1p(np.abs(t))) * np.sign(p),
        ),
        SLOPE,
    ),
    "squared error without a graph: wrong sign for targets above 5": (
        loss(
            opaque(lambda a, b: (a - b) ** 2),
            lambda p, t: np.where(t > 5, -2.0, 2.0) * (p - t),
        ),
        r"target \d+(.|\n)*correct slope|target \d+(.|\n)*the sign is wrong",
    ),
}
"""Elementwise losses."""

ROW_LOSSES = {
    "squared distance: the two is lost": (
        row_loss(lambda p, t: np.sum((p - t) ** 2, axis=-1), lambda p, t: p - t),
        "(leave slope out|2 times)",
    ),
    "squared distance: over the columns": (
        row_loss(lambda p, t: np.mean((p - t) ** 2, axis=-1), lambda p, t: 2 * (p - t)),
        r"(leave slope out|0\.25 times)",
    ),
    "cross-entropy: the denominator is lost": (
        row_loss(lambda p, t: -np.sum(t * np.log(np.maximum(p, 1e-12)), axis=-1), lambda p, t: -t * (p > 1e-12)),
        SLOPE,
    ),
    "cross-entropy: the wrong sign": (
        row_loss(
            lambda p, t: -np.sum(t * np.log(np.maximum(p, 1e-12)), axis=-1),
            lambda p, t: np.where(p > 1e-12, t / np.maximum(p, 1e-12), 0.0),
        ),
        "the sign is wrong",
    ),
    "distance: the root is lost": (
        row_loss(lambda p, t: np.sqrt(np.sum((p - t) ** 2, axis=-1) + 1e-9), lambda p, t: p - t),
        SLOPE,
    ),
    "cosine: the length is taken as constant": (
        row_loss(
            lambda p, t: -np.sum(p * t, axis=-1) / np.sqrt(np.sum(p * p, axis=-1) + 1e-9),
            lambda p, t: -t / np.sqrt(np.sum(p * p, axis=-1, keepdims=True) + 1e-9),
        ),
        SLOPE,
    ),
    "divergence: the logarithm's slope is lost": (
        row_loss(
            lambda p, t: np.sum(p * np.log(np.maximum(p, 1e-9) / np.maximum(t, 1e-9)), axis=-1),
            lambda p, t: np.log(np.maximum(p, 1e-9) / np.maximum(t, 1e-9)),
        ),
        SLOPE,
    ),
    "margin: the right class is lost": (
        row_loss(
            lambda p, t: np.sum(np.maximum(0, 1 + p - np.sum(p * t, axis=-1, keepdims=True)), axis=-1),
            lambda p, t: (1 + p > np.sum(p * t, axis=-1, keepdims=True)) * 1.0,
        ),
        SLOPE,
    ),
}
"""Losses over rows."""

LINEAR = {"weights": (3, 3), "bias": (3,)}


def dense_but(**wrong):
    """Return a dense layer with one wrong gradient."""
    return layer(LINEAR, linear, lambda g, x, v: linear_backward(g, x, v) | {n: f(g, x, v) for n, f in wrong.items()})


class Accumulates(Layer):
    """Adds to the gradient of the step before."""

    def shapes(self):
        return {"scale": (3,)}

    @property
    def input_shape(self):
        return (3,)

    def apply(self, x, values, record):
        record["x"] = x
        return x * values["scale"]

    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"] += np.sum(gradient * record["x"], axis=0)
        return gradient * values["scale"]


class LeavesOneUnfilled(Accumulates):
    def apply_backward(self, gradient, values, record, gradients):
        return gradient * values["scale"]


class ChangesTheGradient(Accumulates):
    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"][...] = np.sum(gradient * record["x"], axis=0)
        gradient *= values["scale"]
        return gradient


class ChangesTheInput(Accumulates):
    def apply(self, x, values, record):
        record["x"] = x.copy()
        x *= values["scale"]
        return x


def gated(x, v):
    return x * sigmoid(x @ v["gate"])


def recurrent_backward_of_one_step(g, x, v):
    h = np.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        before, h = h, np.tanh(x[:, t] + h @ v["u"])
    slope = g * (1 - h * h)
    to_x = np.zeros_like(x)
    to_x[:, -1] = slope
    return {"u": before.T @ slope, "x": to_x}


def convolution_backward_without_sum(g, x, v):
    to_x = np.zeros_like(x)
    for k in range(3):
        to_x[:, k : k + 4] = g * v["kernel"][k]
    return {"kernel": [np.sum(g * x[:, k : k + 4]) for k in range(3)], "x": to_x}


def normalized(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)


def attended_backward_without_the_sum(g, x, v):
    a = softmax(x @ v["query"] @ x.swapaxes(1, 2))
    scores = a * (g @ x.swapaxes(1, 2))
    to_x = a.swapaxes(1, 2) @ g + scores @ x @ v["query"].T + scores.swapaxes(1, 2) @ (x @ v["query"])
    return {"query": np.einsum("rsi,rst,rtj->ij", x, scores, x), "x": to_x}


TO_X = r"dL/dx, which it returns, is wrong"


def of(name):
    """Return what the message says of a parameter's gradient."""
    return rf"gradients\['{name}'\] is wrong"


LAYERS = {
    "dense: twice the weights": (dense_but(weights=lambda g, x, v: 2 * x.T @ g), of("weights")),
    "dense: the weights are not transposed": (dense_but(weights=lambda g, x, v: g.T @ x), of("weights")),
    "dense: the mean over the rows": (dense_but(weights=lambda g, x, v: x.T @ g / len(x)), of("weights")),
    "dense: the bias' mean over the rows": (dense_but(bias=lambda g, x, v: g.mean(axis=0)), of("bias")),
    "dense: the bias over the wrong axis": (dense_but(bias=lambda g, x, v: g[:3].sum(axis=1)), of("bias")),
    "dense: the bias' sign": (dense_but(bias=lambda g, x, v: -g.sum(axis=0)), of("bias") + r"(.|\n)*sign"),
    "dense: dL/dx by the weights": (dense_but(x=lambda g, x, v: g @ v["weights"]), TO_X),
    "dense: dL/dx is the gradient": (dense_but(x=lambda g, x, v: g), TO_X),
    "dense: dL/dx is 0": (dense_but(x=lambda g, x, v: np.zeros_like(x)), TO_X),
    "dense: one element of the weights": (
        dense_but(weights=lambda g, x, v: x.T @ g * np.where(np.arange(9).reshape(3, 3) == 8, 0.0, 1.0)),
        of("weights"),
    ),
    "dense: one unit in ten thousand too large": (
        dense_but(weights=lambda g, x, v: x.T @ g * 1.0001),
        of("weights"),
    ),
    "dense: dL/dx for the first row alone": (
        dense_but(x=lambda g, x, v: (g @ v["weights"].T) * (np.arange(len(x)) == 0)[:, None]),
        TO_X,
    ),
    "dense: twice in float32 alone": (
        dense_but(weights=lambda g, x, v: x.T @ g * (2 if x.dtype == np.float32 else 1)),
        "float32",
    ),
    "dense: wrong for inputs above 5": (
        dense_but(weights=lambda g, x, v: np.minimum(x, 5).T @ g),
        of("weights"),
    ),
    "adds to the gradient of the step before": (Accumulates(), of("scale")),
    "leaves a gradient unfilled": (LeavesOneUnfilled(), of("scale")),
    "changes the gradient in place": (ChangesTheGradient(), "changes its argument 'gradient' in place"),
    "changes the input in place": (ChangesTheInput(), "changes its argument 'x' in place"),
    "gate: the gate's own slope is lost": (
        layer(
            {"gate": (3, 3)},
            gated,
            lambda g, x, v: {
                "gate": x.T @ (g * x * sigmoid(x @ v["gate"]) * sigmoid(-(x @ v["gate"]))),
                "x": g * sigmoid(x @ v["gate"]),
            },
        ),
        TO_X,
    ),
    "a positive scale: the softplus' slope is lost": (
        layer(
            {"raw": (3,)},
            lambda x, v: x * np.logaddexp(0, v["raw"]),
            lambda g, x, v: {"raw": np.sum(g * x, axis=0), "x": g * np.logaddexp(0, v["raw"])},
        ),
        of("raw"),
    ),
    "recurrence: backward through one step": (
        layer({"u": (2, 2)}, recurrent, recurrent_backward_of_one_step, sample=(4, 2), output=(2,)),
        rf"{of('u')}|{TO_X}",
    ),
    "convolution: windows overwrite each other": (
        layer({"kernel": (3,)}, convolution, convolution_backward_without_sum, sample=(6,), output=(4,)),
        TO_X,
    ),
    "batch norm: statistics are taken as constant": (
        layer(
            {"scale": (3,)},
            lambda x, v: v["scale"] * normalized(x),
            lambda g, x, v: {
                "scale": np.sum(g * normalized(x), axis=0),
                "x": g * v["scale"] / np.sqrt(x.var(axis=0) + 1e-3),
            },
        ),
        TO_X,
    ),
    "attention: the softmax's sum is lost": (
        layer({"query": (2, 2)}, attended, attended_backward_without_the_sum, sample=(3, 2)),
        rf"{of('query')}|{TO_X}",
    ),
    "ReLU layer: the mask of the output's gradient": (
        layer(
            {"bias": (3,)},
            lambda x, v: np.maximum(x + v["bias"], 0),
            lambda g, x, v: {"bias": np.sum(g * (x + v["bias"] > 0), axis=0), "x": g * (g > 0)},
        ),
        TO_X,
    ),
}
"""Layers written by hand."""

WRONG = {
    f"{family}, {name}": row
    for family, table in {
        "activation": ACTIVATIONS,
        "underived": UNDERIVED,
        "row activation": ROW_ACTIVATIONS,
        "loss": LOSSES,
        "row loss": ROW_LOSSES,
        "layer": LAYERS,
    }.items()
    for name, row in table.items()
}
