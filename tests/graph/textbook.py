"""Layers from other people's papers, each written only as a formula: add a function to try another.

A formula takes ``x``, with the rows first, and parameters by name. ``layer`` registers it with its source and shapes.
Constants stand as default arguments. The functions take ``np`` from this module, so that a test can run the same text
with another library under that name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS = -1
"""Stands for the number of rows in a shape."""


@dataclass(frozen=True)
class Textbook:
    """A layer from the literature.

    Attributes:
        formula: A function of x and the parameters.
        source: The paper.
        shapes: The shape of x and of each parameter.
        row_by_row: Whether each output row depends on its own input row alone.
    """

    formula: Callable[..., Any]
    source: str
    shapes: dict[str, tuple[int, ...]]
    row_by_row: bool = True


LAYERS: dict[str, Textbook] = {}
"""The table: a layer for each name."""


def layer(source: str, x: tuple[int, ...], /, *, row_by_row: bool = True, **shapes: tuple[int, ...]) -> Any:
    """Register a formula under its name; ``x`` is the shape of one row."""

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        LAYERS[formula.__name__] = Textbook(formula, source, {"x": (ROWS, *x), **shapes}, row_by_row)
        return formula

    return register


# What several of them share.


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def silu(h):
    return h * sigmoid(h)


def relu(h):
    return np.maximum(h, 0)


def softplus(h):
    return np.logaddexp(0, h)


def softmax(h, axis=-1):
    e = np.exp(h - h.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_sum_exp(h, axis):
    top = h.max(axis=axis, keepdims=True)
    return np.log(np.exp(h - top).sum(axis=axis)) + np.squeeze(top, axis)


def windows(x, width, axis=1):
    return np.lib.stride_tricks.sliding_window_view(x, width, axis=axis)


# Attention; x is (rows, steps, channels).


@layer("Vaswani et al. 2017, equation 1", (5, 4), query=(4, 3), key=(4, 3), value=(4, 3))
def dot_product_attention(x, query, key, value):
    scores = (x @ query) @ (x @ key).swapaxes(-1, -2) / np.sqrt(query.shape[1])
    return softmax(scores) @ (x @ value)


@layer("Bahdanau, Cho and Bengio 2015, appendix A.1.2", (5, 4), query=(4, 3), key=(4, 3), bias=(3,), score=(3,))
def additive_attention(x, query, key, bias, score):
    hidden = np.tanh((x @ query)[:, :, None, :] + (x @ key)[:, None, :, :] + bias)
    return softmax(hidden @ score) @ x


@layer("Luong, Pham and Manning 2015 (general)", (5, 4), score=(4, 4), out=(8, 3))
def general_attention(x, score, out):
    last = x[:, -1]
    weights = softmax(np.einsum("ri,ij,rsj->rs", last, score, x))
    context = np.einsum("rs,rsi->ri", weights, x)
    return np.tanh(np.concatenate([context, last], axis=1) @ out)


@layer("Katharopoulos et al. 2020 (linear attention)", (5, 4), query=(4, 3), key=(4, 3), value=(4, 2))
def linear_attention(x, query, key, value):
    q, k = (np.where(h > 0, h + 1, np.exp(np.minimum(h, 0))) for h in (x @ query, x @ key))
    memory = k.swapaxes(1, 2) @ (x @ value)
    return q @ memory / (q @ k.sum(axis=1)[:, :, None])


@layer("Katharopoulos et al. 2020 (causal linear attention)", (5, 4), query=(4, 3), key=(4, 3), value=(4, 2))
def causal_linear_attention(x, query, key, value):
    q, k = (np.where(h > 0, h + 1, np.exp(np.minimum(h, 0))) for h in (x @ query, x @ key))
    memory = np.cumsum(k[..., None] * (x @ value)[:, :, None, :], axis=1)
    return np.einsum("rsk,rskv->rsv", q, memory) / np.sum(q * np.cumsum(k, axis=1), axis=-1, keepdims=True)


@layer("Beltagy, Peters and Cohan 2020 (sliding windows)", (7, 4), query=(4, 3), key=(4, 3), value=(4, 3))
def windowed_attention(x, query, key, value, reach=2):
    place = np.arange(x.shape[1])
    near = np.abs(place[:, None] - place) <= reach
    scores = (x @ query) @ (x @ key).swapaxes(-1, -2) / np.sqrt(query.shape[1])
    return softmax(np.where(near, scores, -np.inf)) @ (x @ value)


@layer(
    "Shaw, Uszkoreit and Vaswani 2018, equations 3 and 4",
    (6, 4),
    query=(4, 3),
    key=(4, 3),
    value=(4, 3),
    key_places=(5, 3),
    value_places=(5, 3),
)
def relative_attention(x, query, key, value, key_places, value_places):
    place = np.arange(x.shape[1])
    reach = key_places.shape[0] // 2
    distance = np.clip(place - place[:, None], -reach, reach) + reach
    q, k, v = x @ query, x @ key, x @ value
    scores = np.einsum("rik,rijk->rij", q, k[:, None] + key_places[distance]) / np.sqrt(query.shape[1])
    return np.einsum("rij,rijk->rik", softmax(scores), v[:, None] + value_places[distance])


@layer("Press, Smith and Lewis 2022 (ALiBi)", (6, 4), query=(4, 4), key=(4, 4), value=(4, 4))
def attention_with_linear_biases(x, query, key, value, heads=2):
    rows, steps, _ = x.shape
    q, k, v = ((x @ weights).reshape(rows, steps, heads, -1).transpose(0, 2, 1, 3) for weights in (query, key, value))
    place = np.arange(steps)
    slope = 2.0 ** (-8 * np.arange(1, heads + 1) / heads)
    bias = np.where(place <= place[:, None], slope[:, None, None] * (place - place[:, None]), -np.inf)
    heard = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias) @ v
    return heard.transpose(0, 2, 1, 3).reshape(rows, steps, -1)


@layer("Su et al. 2021, equation 34 (RoPE)", (6, 4), query=(4, 4), key=(4, 4), value=(4, 4))
def rotary_attention(x, query, key, value):
    half = query.shape[1] // 2
    angle = np.arange(x.shape[1])[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angle), np.sin(angle)

    def rotated(h):
        a, b = h[..., :half], h[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    scores = rotated(x @ query) @ rotated(x @ key).swapaxes(-1, -2) / np.sqrt(query.shape[1])
    return softmax(scores) @ (x @ value)


@layer("Ainslie et al. 2023 (grouped queries)", (5, 4), query=(4, 8), key=(4, 4), value=(4, 4))
def grouped_query_attention(x, query, key, value, heads=4, groups=2):
    rows, steps, _ = x.shape
    size = query.shape[1] // heads
    q = (x @ query).reshape(rows, steps, groups, heads // groups, size)
    k = (x @ key).reshape(rows, steps, groups, size)
    v = (x @ value).reshape(rows, steps, groups, size)
    weights = softmax(np.einsum("rsghd,rtgd->rghst", q, k) / np.sqrt(size))
    return np.einsum("rghst,rtgd->rsghd", weights, v).reshape(rows, steps, -1)


@layer("Lee et al. 2019 (pooling by learnt seeds)", (5, 4), seeds=(3, 4), key=(4, 4), value=(4, 4))
def set_pooling(x, seeds, key, value):
    weights = softmax(seeds @ (x @ key).swapaxes(-1, -2) / np.sqrt(x.shape[-1]))
    return weights @ (x @ value)


@layer("Henry et al. 2020 (query-key normalization)", (5, 4), query=(4, 3), key=(4, 3), value=(4, 3), scale=())
def cosine_attention(x, query, key, value, scale):
    q, k = (h / np.linalg.norm(h, axis=-1, keepdims=True) for h in (x @ query, x @ key))
    return softmax(scale * q @ k.swapaxes(-1, -2)) @ (x @ value)


@layer("Graves, Wayne and Danihelka 2014, equations 5 and 6", (4,), memory=(6, 3), key=(4, 3), strength=(4,))
def content_addressing(x, memory, key, strength):
    wanted = x @ key
    length = np.linalg.norm(wanted, axis=1, keepdims=True) * np.linalg.norm(memory, axis=1)
    return softmax(softplus(x @ strength)[:, None] * (wanted @ memory.T) / length) @ memory


@layer("Ramsauer et al. 2021, equation 3 (a modern Hopfield network, two steps)", (4,), patterns=(6, 4), beta=())
def modern_hopfield(x, patterns, beta):
    for _ in range(2):
        x = softmax(beta * x @ patterns.T) @ patterns
    return x


# Gated units.


@layer("Dauphin et al. 2017, equation 1", (4,), w=(4, 3), b=(3,), v=(4, 3), c=(3,))
def gated_linear_unit(x, w, b, v, c):
    return (x @ w + b) * sigmoid(x @ v + c)


@layer("Srivastava, Greff and Schmidhuber 2015, equation 3", (4,), w=(4, 4), b=(4,), gate=(4, 4), gate_bias=(4,))
def highway(x, w, b, gate, gate_bias):
    carry = 1 - sigmoid(x @ gate + gate_bias)
    return np.tanh(x @ w + b) * (1 - carry) + x * carry


@layer("Shazeer 2020, equation 6", (4,), w=(4, 6), v=(4, 6), out=(6, 4))
def swiglu(x, w, v, out):
    return (silu(x @ w) * (x @ v)) @ out


@layer("Shazeer 2020, equation 6, with the GELU of Hendrycks and Gimpel 2016", (4,), w=(4, 6), v=(4, 6), out=(6, 4))
def geglu(x, w, v, out):
    h = x @ w
    return (0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))) * (x @ v)) @ out


@layer("Liu et al. 2021 (the spatial gate of gMLP)", (5, 4), mix=(5, 5), bias=(5,), scale=(2,), shift=(2,))
def spatial_gate(x, mix, bias, scale, shift):
    u, v = np.split(x, 2, axis=-1)
    v = (v - v.mean(axis=-1, keepdims=True)) / np.sqrt(v.var(axis=-1, keepdims=True) + 1e-3) * scale + shift
    return u * (np.einsum("st,rtc->rsc", mix, v) + bias[:, None])


# Mixtures of experts and trees.


@layer("Jacobs, Jordan, Nowlan and Hinton 1991", (4,), gate=(4, 3), w=(3, 4, 2), b=(3, 2))
def mixture_of_experts(x, gate, w, b):
    experts = np.tanh(np.einsum("ri,eio->reo", x, w) + b)
    return np.einsum("re,reo->ro", softmax(x @ gate), experts)


@layer("Shazeer et al. 2017, equations 3 to 5 (the best two experts)", (4,), gate=(4, 4), w=(4, 4, 2))
def top_two_experts(x, gate, w):
    h = x @ gate
    first = h.max(axis=1, keepdims=True)
    second = np.where(h == first, -np.inf, h).max(axis=1, keepdims=True)
    weights = softmax(np.where(h >= second, h, -np.inf))
    return np.einsum("re,reo->ro", weights, relu(np.einsum("ri,eio->reo", x, w)))


@layer("Fedus, Zoph and Shazeer 2022, equation 2 (the best expert alone)", (4,), gate=(4, 3), w=(3, 4, 2))
def switch(x, gate, w):
    probability = softmax(x @ gate)
    chosen = np.argmax(probability, axis=1)
    expert = np.einsum("ri,rio->ro", x, w[chosen])
    return expert * np.take_along_axis(probability, chosen[:, None], axis=1)


@layer("Frosst and Hinton 2017, a soft tree of depth 2", (4,), split=(4, 3), bias=(3,), leaves=(4, 2))
def soft_decision_tree(x, split, bias, leaves):
    right = sigmoid(x @ split + bias)
    top, low, high = right[:, 0], right[:, 1], right[:, 2]
    reach = np.stack([(1 - top) * (1 - low), (1 - top) * low, top * (1 - high), top * high], axis=1)
    return reach @ softmax(leaves)


# Convolutions; x is (rows, steps, channels) or (rows, height, width, channels).


@layer("Chollet 2017 (depthwise separable convolution)", (6, 5, 3), depthwise=(3, 3, 3), pointwise=(3, 4), bias=(4,))
def separable_convolution(x, depthwise, pointwise, bias):
    patches = windows(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    return np.einsum("rhwcij,ijc->rhwc", patches, depthwise) @ pointwise + bias


@layer("Dai et al. 2017, equations 2 to 4, in one dimension", (8, 3), offset=(9, 3), kernel=(3, 3, 2), bias=(2,))
def deformable_convolution(x, offset, kernel, bias):
    rows, steps, channels = x.shape
    width = kernel.shape[0]
    patches = windows(np.pad(x, ((0, 0), (1, 1), (0, 0))), width).reshape(rows, steps, -1)
    place = np.arange(steps)[:, None] + np.arange(width) - 1 + np.tanh(patches @ offset)
    place = np.clip(place, 0.0, steps - 1.0)
    low = np.minimum(np.floor(place), steps - 2.0)
    share = (place - low)[..., None]
    left = low.astype(int).reshape(rows, steps * width, 1)

    def at(places):
        return np.take_along_axis(x, places, axis=1).reshape(rows, steps, width, channels)

    sampled = (1 - share) * at(left) + share * at(left + 1)
    return np.einsum("rswc,wco->rso", sampled, kernel) + bias


@layer(
    "Van den Oord et al. 2016, equation 2 (WaveNet, dilation 2)", (7, 3), filters=(2, 3, 3), gate=(2, 3, 3), out=(3, 3)
)
def gated_causal_convolution(x, filters, gate, out, dilation=2):
    early = np.pad(x, ((0, 0), (dilation, 0), (0, 0)))[:, : x.shape[1]]
    z = np.tanh(early @ filters[0] + x @ filters[1]) * sigmoid(early @ gate[0] + x @ gate[1])
    return x + z @ out


@layer("Wu et al. 2019 (a lightweight convolution with shared, normalized kernels)", (6, 4), kernel=(2, 3))
def lightweight_convolution(x, kernel):
    patches = windows(np.pad(x, ((0, 0), (2, 0), (0, 0))), kernel.shape[1])
    weights = np.repeat(softmax(kernel), x.shape[2] // kernel.shape[0], axis=0)
    return np.einsum("rscw,cw->rsc", patches, weights)


@layer("Li et al. 2021 (involution)", (6, 4), reduce=(4, 2), span=(2, 3))
def involution(x, reduce, span):
    kernel = relu(x @ reduce) @ span
    patches = windows(np.pad(x, ((0, 0), (1, 1), (0, 0))), span.shape[1])
    return np.einsum("rsw,rscw->rsc", kernel, patches)


@layer("Shi et al. 2016 (sub-pixel convolution)", (4, 3, 2), kernel=(2, 2, 2, 12))
def sub_pixel_convolution(x, kernel, factor=2):
    patches = windows(np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), (2, 2), axis=(1, 2))
    h = np.tensordot(patches, kernel, axes=((4, 5, 3), (0, 1, 2)))
    rows, height, width, units = h.shape
    h = h.reshape(rows, height, width, factor, factor, units // factor**2).transpose(0, 1, 3, 2, 4, 5)
    return h.reshape(rows, height * factor, width * factor, -1)


@layer("Hu, Shen and Sun 2018, equations 2 to 4", (4, 3, 4), squeeze=(4, 2), excite=(2, 4))
def squeeze_and_excitation(x, squeeze, excite):
    scale = sigmoid(relu(x.mean(axis=(1, 2)) @ squeeze) @ excite)
    return x * scale[:, None, None, :]


@layer("Gulcehre et al. 2014 (learnt-norm pooling)", (6, 3), order=(3,))
def learnt_norm_pooling(x, order):
    p = 1 + softplus(order)
    pairs = np.abs(x.reshape(len(x), 3, 2, -1))
    return np.mean(pairs**p, axis=2) ** (1 / p)


@layer("Levine et al. 2016 (spatial softmax)", (4, 5, 3), temperature=())
def spatial_softmax(x, temperature):
    rows, height, width, channels = x.shape
    weights = softmax(x.reshape(rows, height * width, channels) / np.exp(temperature), axis=1)
    down, along = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([np.ravel(down), np.ravel(along)])
    return (places @ weights).reshape(rows, -1)


@layer("Jaderberg et al. 2015 (a spatial transformer)", (5, 4), locate=(20, 6), start=(6,))
def spatial_transformer(x, locate, start):
    rows, height, width = x.shape
    theta = (np.tanh(x.reshape(rows, -1) @ locate) + start).reshape(rows, 2, 3)
    down, along = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    grid = np.stack([np.ravel(along), np.ravel(down), np.ones(height * width)])
    source = theta @ grid
    across, below = (source[:, 0] + 1) * (width - 1) / 2, (source[:, 1] + 1) * (height - 1) / 2
    near_row = relu(1 - np.abs(below[:, :, None] - np.arange(height)))
    near_column = relu(1 - np.abs(across[:, :, None] - np.arange(width)))
    return np.einsum("rhw,rnh,rnw->rn", x, near_row, near_column).reshape(rows, height, width)


# Splines, Fourier features and radial functions.


@layer("Liu et al. 2024, equations 2.10 to 2.12 (KAN with cubic B-splines)", (3,), coefficients=(3, 7, 2), base=(3, 2))
def kolmogorov_arnold(x, coefficients, base, degree=3):
    knots = np.linspace(-4.0, 4.0, coefficients.shape[1] + degree + 1)
    h = x[:, :, None]
    basis = np.where((h >= knots[:-1]) & (h < knots[1:]), 1.0, 0.0)
    for k in range(1, degree + 1):
        left = (h - knots[: -k - 1]) / (knots[k:-1] - knots[: -k - 1])
        right = (knots[k + 1 :] - h) / (knots[k + 1 :] - knots[1:-k])
        basis = left * basis[:, :, :-1] + right * basis[:, :, 1:]
    return np.einsum("rik,iko->ro", basis, coefficients) + silu(x) @ base


@layer("Igelnik and Parikh 2003 (Kolmogorov's spline network, with hats)", (3,), heights=(3, 7, 2))
def piecewise_linear(x, heights):
    centres = np.linspace(-3.0, 3.0, heights.shape[1])
    hats = relu(1 - np.abs(x[:, :, None] - centres) / (centres[1] - centres[0]))
    return np.einsum("rik,iko->ro", hats, heights)


@layer("Mason and Handscomb 2002, section 1.2 (Chebyshev polynomials)", (3,), coefficients=(3, 5, 2))
def chebyshev(x, coefficients):
    u = np.tanh(x)
    terms = [np.ones_like(u), u]
    for _ in range(coefficients.shape[1] - 2):
        terms.append(2 * u * terms[-1] - terms[-2])
    return np.einsum("rik,iko->ro", np.stack(terms, axis=-1), coefficients)


@layer("Rahimi and Recht 2007, algorithm 1", (4,), directions=(4, 6), phases=(6,), w=(6, 2))
def random_fourier_features(x, directions, phases, w):
    return np.sqrt(2 / phases.shape[0]) * np.cos(x @ directions + phases) @ w


@layer("Tancik et al. 2020 (positional encoding)", (2,), w=(12, 3))
def fourier_encoding(x, w, octaves=3):
    angles = (2.0 ** np.arange(octaves)[:, None] * x[:, None, :]).reshape(len(x), -1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1) @ w


@layer("Sitzmann et al. 2020 (SIREN)", (2,), w=(2, 5), b=(5,), v=(5, 3), c=(3,))
def sinusoidal(x, w, b, v, c, frequency=3.0):
    return np.sin(frequency * (np.sin(frequency * (x @ w) + b) @ v) + c)


@layer("Broomhead and Lowe 1988", (4,), centres=(5, 4), log_width=(5,), w=(5, 2))
def radial_basis(x, centres, log_width, w):
    distance = np.sum((x[:, None, :] - centres) ** 2, axis=-1)
    return np.exp(-distance * np.exp(-2 * log_width)) @ w


@layer("Duchon 1977 (thin plate splines)", (2,), centres=(5, 2), w=(5, 2))
def thin_plate(x, centres, w):
    squared = np.sum((x[:, None, :] - centres) ** 2, axis=-1)
    return (0.5 * squared * np.log(squared + 1e-12)) @ w


# Capsules, sets and graphs.


@layer("Sabour, Frosst and Hinton 2017, procedure 1 (three iterations)", (4, 3), w=(4, 2, 3, 3))
def capsules(x, w, iterations=3):
    votes = np.einsum("rci,ckio->rcko", x, w)
    agreement = np.zeros((len(x), w.shape[0], w.shape[1]))
    for iteration in range(iterations):
        s = np.einsum("rck,rcko->rko", softmax(agreement), votes)
        squared = np.sum(s * s, axis=-1, keepdims=True)
        v = squared / (1 + squared) * s / np.sqrt(squared + 1e-9)
        if iteration < iterations - 1:
            agreement = agreement + np.einsum("rcko,rko->rck", votes, v)
    return v


@layer("Zaheer et al. 2017 (DeepSets)", (5, 3), each=(3, 4), rest=(3, 4), w=(4, 2))
def deep_set(x, each, rest, w):
    h = relu(x @ each - x.max(axis=1, keepdims=True) @ rest)
    return h.sum(axis=1) @ w


EDGES = np.array([[0, 1, 0, 0, 1], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 0]], dtype=float)
"""A ring of five nodes, as an adjacency matrix."""

STARTS, ENDS = np.nonzero(EDGES)
"""The nodes that each edge joins."""


@layer("Kipf and Welling 2017, equation 2", (5, 3), w=(3, 4), v=(4, 2))
def graph_convolution(x, w, v):
    loops = EDGES + np.eye(5)
    degree = loops.sum(axis=1)
    spread = loops / np.sqrt(degree[:, None] * degree)
    return spread @ relu(spread @ x @ w) @ v


@layer("Velickovic et al. 2018, equations 1 to 4 (graph attention)", (5, 3), w=(3, 4), source=(4,), target=(4,))
def graph_attention(x, w, source, target):
    h = x @ w
    score = (h @ source)[:, :, None] + (h @ target)[:, None, :]
    score = np.where(score > 0, score, 0.2 * score)
    return np.tanh(softmax(np.where(EDGES + np.eye(5) > 0, score, -np.inf)) @ h)


@layer("Defferrard, Bresson and Vandergheynst 2016 (Chebyshev filters on a graph)", (5, 3), w=(4, 3, 2))
def chebyshev_graph_convolution(x, w):
    laplacian = -EDGES / 2
    terms = [x, laplacian @ x]
    while len(terms) < w.shape[0]:
        terms.append(2 * laplacian @ terms[-1] - terms[-2])
    return np.einsum("krni,kio->rno", np.stack(terms), w)


@layer("Gilmer et al. 2017, equations 1 and 2 (two steps of messages)", (5, 3), message=(6, 3), update=(6, 3))
def message_passing(x, message, update):
    arrives = np.eye(5)[:, ENDS]
    for _ in range(2):
        sent = relu(np.concatenate([x[:, STARTS], x[:, ENDS]], axis=-1) @ message)
        x = np.tanh(np.concatenate([x, arrives @ sent], axis=-1) @ update)
    return x


# Weights that depend on the input; products of features.


@layer("Ha, Dai and Le 2017 (a hypernetwork)", (5,), embed=(2, 3), make=(3, 6), bias=(6,))
def hypernetwork(x, embed, make, bias):
    context, features = x[:, :2], x[:, 2:]
    weights = (np.tanh(context @ embed) @ make + bias).reshape(len(x), 3, 2)
    return (features[:, None, :] @ weights)[:, 0]


@layer("Perez et al. 2018 (FiLM)", (5,), scale=(2, 3), shift=(2, 3), w=(3, 3))
def feature_modulation(x, scale, shift, w):
    context, features = x[:, :2], x[:, 2:]
    return relu((1 + context @ scale) * (features @ w) + context @ shift)


@layer("Kim et al. 2017 (low-rank bilinear pooling)", (6,), u=(3, 4), v=(3, 4), out=(4, 2), b=(2,))
def low_rank_bilinear(x, u, v, out, b):
    a, c = x[:, :3], x[:, 3:]
    return (np.tanh(a @ u) * np.tanh(c @ v)) @ out + b


@layer("Hu et al. 2022, equation 3 (LoRA)", (4,), w=(4, 3), down=(4, 2), up=(2, 3))
def low_rank_adaptation(x, w, down, up, alpha=8.0):
    return x @ w + alpha / down.shape[1] * (x @ down @ up)


@layer("Socher et al. 2013, equation 1 (a neural tensor network)", (6,), w=(2, 3, 3), v=(6, 2), b=(2,), u=(2,))
def neural_tensor(x, w, v, b, u):
    product = np.einsum("ri,kij,rj->rk", x[:, :3], w, x[:, 3:])
    return np.tanh(product + x @ v + b) @ u


@layer("Novikov et al. 2015 (a tensor train)", (6,), first=(2, 2, 3), second=(3, 3, 2))
def tensor_train(x, first, second):
    h = np.einsum("rij,ipk,kjq->rpq", x.reshape(len(x), 2, 3), first, second)
    return h.reshape(len(x), -1)


@layer("Rendle 2010 (a factorization machine)", (5,), bias=(), w=(5,), v=(5, 3))
def factorization_machine(x, bias, w, v):
    return bias + x @ w + 0.5 * np.sum((x @ v) ** 2 - (x * x) @ (v * v), axis=1)


@layer("Wang et al. 2017, equation 3 (the cross network)", (4,), w=(3, 4), b=(3, 4))
def cross_network(x, w, b):
    first = x
    for k in range(w.shape[0]):
        x = first * (x @ w[k])[:, None] + b[k] + x
    return x


@layer("Durbin and Rumelhart 1989 (product units)", (3,), power=(3, 4), w=(4, 2))
def product_units(x, power, w):
    return np.exp(np.log(np.abs(x) + 0.1) @ power) @ w


@layer("Trask et al. 2018 (NALU)", (3,), w=(3, 2), m=(3, 2), gate=(3, 2))
def neural_arithmetic(x, w, m, gate):
    weights = np.tanh(w) * sigmoid(m)
    added, multiplied = x @ weights, np.exp(np.log(np.abs(x) + 1e-3) @ weights)
    share = sigmoid(x @ gate)
    return share * added + (1 - share) * multiplied


@layer("Chrysos et al. 2020 (a polynomial network of order 3)", (4,), u=(3, 4, 5), out=(5, 2), b=(2,))
def polynomial(x, u, out, b):
    z = x @ u[0]
    for k in range(1, u.shape[0]):
        z = (x @ u[k]) * z + z
    return z @ out + b


@layer("Goodfellow et al. 2013 (maxout)", (4,), w=(4, 3, 2), b=(3, 2))
def maxout(x, w, b):
    return np.max(np.tensordot(x, w, 1) + b, axis=2)


@layer("Mhammedi et al. 2017 (Householder reflections)", (4,), v=(2, 4))
def householder(x, v):
    for k in range(v.shape[0]):
        x = x - 2 * np.outer(x @ v[k], v[k]) / np.dot(v[k], v[k])
    return x


@layer("Dinh, Sohl-Dickstein and Bengio 2017, equations 7 and 8 (a coupling layer)", (4,), s=(2, 2), t=(2, 2))
def affine_coupling(x, s, t):
    kept, changed = x[:, :2], x[:, 2:]
    return np.hstack([kept, changed * np.exp(np.tanh(kept @ s)) + kept @ t])


@layer("Arandjelovic et al. 2016 (NetVLAD)", (5, 3), w=(3, 2), b=(2,), centres=(2, 3))
def vlad(x, w, b, centres):
    share = softmax(x @ w + b)
    v = np.einsum("rsk,rskc->rkc", share, x[:, :, None, :] - centres)
    v = v / np.linalg.norm(v, axis=2, keepdims=True)
    return v.reshape(len(x), -1)


@layer("Agustsson et al. 2017 (soft quantization)", (4,), codes=(5, 2), hardness=())
def soft_quantization(x, codes, hardness):
    parts = x.reshape(len(x), 2, 1, 2)
    share = softmax(-softplus(hardness) * np.sum((parts - codes) ** 2, axis=-1))
    return (share @ codes).reshape(len(x), -1)


# Normalizations.


@layer("Salimans and Kingma 2016, equation 2 (weight normalization)", (4,), v=(4, 3), g=(3,), b=(3,))
def weight_normalization(x, v, g, b):
    return x @ (g * v / np.linalg.norm(v, axis=0)) + b


@layer("Luo et al. 2017 (cosine normalization)", (4,), w=(4, 3))
def cosine_similarity(x, w):
    return x @ w / (np.sqrt(np.sum(x * x, axis=1, keepdims=True)) * np.sqrt(np.sum(w * w, axis=0)))


@layer("Wu and He 2018 (group normalization)", (3, 4), scale=(4,), shift=(4,))
def group_norm(x, scale, shift, groups=2):
    parts = x.reshape(len(x), 3, groups, -1)
    mean, variance = parts.mean(axis=(1, 3), keepdims=True), parts.var(axis=(1, 3), keepdims=True)
    return ((parts - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * scale + shift


@layer("Zhang and Sennrich 2019, equation 4", (5,), scale=(5,))
def rms_norm(x, scale):
    return scale * x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + 1e-6)


@layer("Ioffe and Szegedy 2015, algorithm 1", (4,), row_by_row=False, scale=(4,), shift=(4,))
def batch_norm(x, scale, shift):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-2) * scale + shift


@layer("Krizhevsky, Sutskever and Hinton 2012, section 3.3 (local response normalization)", (3, 6), strength=())
def local_response_norm(x, strength):
    around = windows(np.pad(x * x, ((0, 0), (0, 0), (1, 1))), 3, axis=2).sum(axis=-1)
    return x / (2 + np.exp(strength) * around) ** 0.75


@layer("Woo et al. 2023 (global response normalization)", (3, 4, 2), scale=(2,), shift=(2,))
def global_response_norm(x, scale, shift):
    size = np.sqrt(np.sum(x * x, axis=(1, 2), keepdims=True))
    return scale * (x * size / (size.mean(axis=-1, keepdims=True) + 1e-6)) + shift + x


# Recurrences; x is (rows, steps, channels).


@layer("Elman 1990", (6, 3), w=(3, 4), u=(4, 4), b=(4,))
def elman(x, w, u, b):
    h = np.zeros((len(x), u.shape[0]))
    states = []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ w + h @ u + b)
        states.append(h)
    return np.stack(states, axis=1)


@layer("Zhou et al. 2016 (the minimal gated unit)", (6, 3), wf=(7, 4), bf=(4,), wh=(7, 4), bh=(4,))
def minimal_gated_unit(x, wf, bf, wh, bh):
    h = np.zeros((len(x), bf.shape[0]))
    for t in range(x.shape[1]):
        f = sigmoid(np.concatenate([h, x[:, t]], axis=1) @ wf + bf)
        h = (1 - f) * h + f * np.tanh(np.concatenate([f * h, x[:, t]], axis=1) @ wh + bh)
    return h


@layer("Gers, Schraudolph and Schmidhuber 2002 (peepholes)", (5, 3), w=(3, 16), u=(4, 16), b=(16,), peep=(3, 4))
def peephole_lstm(x, w, u, b, peep):
    h = c = np.zeros((len(x), u.shape[0]))
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f + peep[0] * c) * c + sigmoid(i + peep[1] * c) * np.tanh(g)
        h = sigmoid(o + peep[2] * c) * np.tanh(c)
    return h


@layer("Bradbury et al. 2017 (QRNN, fo-pooling)", (6, 3), z=(2, 3, 4), f=(2, 3, 4), o=(2, 3, 4))
def quasi_recurrent(x, z, f, o):
    before = np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    new = np.tanh(before @ z[0] + x @ z[1])
    forget, out = (sigmoid(before @ k[0] + x @ k[1]) for k in (f, o))
    c = np.zeros((len(x), z.shape[2]))
    for t in range(x.shape[1]):
        c = forget[:, t] * c + (1 - forget[:, t]) * new[:, t]
    return out[:, -1] * c


@layer(
    "Gu, Goel, Gupta and Re 2022 (S4D, real, by convolution)", (6, 3), log_decay=(3, 4), b=(3, 4), c=(3, 4), skip=(3,)
)
def diagonal_state_space(x, log_decay, b, c, skip):
    steps = x.shape[1]
    powers = np.exp(-np.exp(log_decay)[:, :, None] * np.arange(steps))
    kernel = np.einsum("cn,cn,cnt->tc", b, c, powers)
    filled = np.pad(kernel[::-1], ((0, steps - 1), (0, 0)))
    toeplitz = np.stack([filled[steps - 1 - t : 2 * steps - 1 - t] for t in range(steps)])
    return np.einsum("tsc,rsc->rtc", toeplitz, x) + skip * x


@layer(
    "Gu and Dao 2023, algorithm 2 (the selective scan)",
    (5, 3),
    log_a=(3, 2),
    b=(3, 2),
    c=(3, 2),
    step=(3, 3),
    step_bias=(3,),
)
def selective_scan(x, log_a, b, c, step, step_bias):
    delta = softplus(x @ step + step_bias)
    decay = np.exp(-delta[..., None] * np.exp(log_a))
    enters = (delta * x)[..., None] * (x @ b)[:, :, None, :]
    h = np.zeros((len(x), *log_a.shape))
    outputs = []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + enters[:, t]
        outputs.append(h @ (x[:, t] @ c)[:, :, None])
    return np.squeeze(np.stack(outputs, axis=1), -1)


@layer("Lafferty, McCallum and Pereira 2001 (a chain's log-partition)", (5, 3), emit=(3, 4), move=(4, 4))
def conditional_random_field(x, emit, move):
    scores = x @ emit
    alpha = scores[:, 0]
    for t in range(1, x.shape[1]):
        alpha = log_sum_exp(alpha[:, :, None] + move, axis=1) + scores[:, t]
    return log_sum_exp(alpha, axis=1)


# A fixed number of iterations.


@layer("Bai, Kolter and Koltun 2019 (a fixed point, by eight iterations)", (4,), w=(5, 5), u=(4, 5), b=(5,))
def fixed_point(x, w, u, b):
    z = np.zeros((len(x), b.shape[0]))
    for _ in range(8):
        z = np.tanh(0.3 * z @ w + x @ u + b)
    return z


@layer("Gregor and LeCun 2010 (LISTA, three steps)", (4,), w=(4, 6), s=(6, 6), threshold=(6,))
def sparse_coding(x, w, s, threshold):
    def shrunk(h):
        return np.sign(h) * relu(np.abs(h) - 0.1 * np.exp(threshold))

    first = x @ w
    z = shrunk(first)
    for _ in range(2):
        z = shrunk(first + 0.2 * z @ s)
    return z


@layer("Cuturi 2013, algorithm 1 (three Sinkhorn steps on a matrix of costs)", (4, 4), scale=())
def sinkhorn(x, scale):
    log_plan = x * scale
    for _ in range(3):
        log_plan = log_plan - log_sum_exp(log_plan, axis=2)[:, :, None]
        log_plan = log_plan - log_sum_exp(log_plan, axis=1)[:, None, :]
    return np.exp(log_plan)
