"""Steps of formulas, each one or two operations of the table, on arrays of the shape (rows, 3, 4).

A new operation gets an entry in this table alone. Every target computes each step as NumPy does: emitted NumPy
(``backends.test_numpy``), the JAX engine (``backends.test_jax``), kernels (``test_compiled_operations``), ONNX and
exported Python (``export``). Formulas of random steps have the gradients of JAX (``test_random_formulas``).

A step returns an array of that shape. It takes what it names: arrays a and b of that shape, an axis (1 or 2), and the
parameters w (4, 4), v (3, 3), c (4,) and s ().
"""

import numpy as np

from framework.base.special import erf, erfc

ROWS = -1
SHAPES = {"x": (ROWS, 3, 4), "y": (ROWS, 3, 4), "w": (4, 4), "v": (3, 3), "c": (4,), "s": ()}

WAVES = np.cos(np.arange(12.0)).reshape(3, 4)


def windows(a, width, axis):
    return np.lib.stride_tricks.sliding_window_view(a, width, axis=axis)


def special(a):
    """Return numbers among which some are equal, infinite or NaN."""
    return np.where(np.abs(a) < 0.4, np.nan, np.where(np.abs(a) > 1.5, np.inf, np.rint(a)))


def assigned(a, index, value):
    """Return a copy of an array with a part replaced."""
    out = np.copy(a)
    out[index] = value
    return out


STEPS = [
    # one array, element by element
    lambda a: np.exp(np.sin(a)),
    lambda a: np.exp(-a * a),
    lambda a: np.exp2(np.cos(a)),
    lambda a: np.expm1(-np.abs(a)),
    lambda a: np.log(1.5 + a * a),
    lambda a: np.log2(2.5 + np.sin(a)),
    lambda a: np.log10(0.1 + np.square(a)),
    lambda a: np.log1p(np.abs(a)),
    lambda a: np.sqrt(1.0 + a * a),
    lambda a: np.cbrt(1.5 + np.sin(a)),
    lambda a: np.sin(a) ** 2,
    lambda a: np.cos(2.0 * a) * a,
    lambda a: np.tan(0.7 * np.sin(a)),
    lambda a: np.arcsin(0.9 * np.tanh(a)),
    lambda a: np.arccos(0.9 * np.sin(a)),
    lambda a: 0.9 * np.arctan(a),
    lambda a: np.sinh(np.tanh(a)),
    lambda a: np.cosh(np.sin(a)),
    lambda a: 0.9 * np.tanh(a),
    lambda a: 0.9 * np.arcsinh(a),
    lambda a: np.arccosh(1.5 + a * a),
    lambda a: np.arctanh(0.8 * np.sin(a)),
    lambda a: 0.9 * erf(a),
    lambda a: a * erfc(a),
    lambda a: 0.9 * np.abs(a),
    lambda a: np.reciprocal(1.2 + np.sin(a)),
    lambda a: np.negative(a) + np.positive(a) * 0.5,
    lambda a: np.sign(a) * np.sqrt(np.abs(a) + 0.01),
    lambda a: a - np.floor(a),
    lambda a: np.ceil(a) * a,
    lambda a: a + np.rint(3.0 * a),
    lambda a: a * np.trunc(2.0 * a),
    lambda a: 1.0 / (1.0 + np.exp(-a)),
    lambda a: np.sinc(0.5 * a + 0.1),
    lambda a: (np.abs(a) + 0.1) ** 1.5,
    lambda a: (1.0 + a * a) ** -0.5,
    lambda a: a**3 * 0.2,
    lambda a: 1.3 ** np.sin(a),
    lambda a: np.clip(a, -0.7, 0.9),
    lambda a: np.where(np.isfinite(a), a, 0.0) + np.where(np.isnan(a), 1.0, 0.2) * np.where(np.isinf(a), 1.0, a),
    lambda a: np.where(np.signbit(a), 0.3 * a, a),
    lambda a: np.heaviside(a, 0.5) * a,
    lambda a: np.mod(a, 1.7),
    lambda a: np.fmod(a, 0.9) - a,
    lambda a: (a // 0.6) * a * 0.3,
    lambda a: np.where((a > -0.5) & ~(a >= 0.8), a, np.tanh(a)),
    lambda a: np.where((a < -0.9) | (a > 0.1), np.sin(a), a * a),
    lambda a: np.where(np.logical_and(a > -1, np.logical_not(a > 1)), a, 0.1 * a),
    lambda a: np.where(np.logical_xor(a > 0, a > 0.5), 2.0 * a, a),
    lambda a: np.where(np.logical_or(a < -0.4, a > 0.6), a, 0.5),
    lambda a: np.select([a < -0.5, a > 0.5], [np.exp(np.minimum(a, 0.0)), np.log(np.maximum(a, 0.5))], a),
    lambda a: a.astype(int) * a * 0.5,
    lambda a: a * (a > 0) + (a == np.abs(a)) * 0.1 - (a != np.trunc(a)) * a,
    # two arrays, element by element
    lambda a, b: a + b,
    lambda a, b: a - 0.5 * b,
    lambda a, b: a * np.tanh(b),
    lambda a, b: a / (1.1 + np.cos(b)),
    lambda a, b: np.maximum(a, 0.9 * b),
    lambda a, b: np.minimum(a, 0.5 * b),
    lambda a, b: np.fmax(a, -b),
    lambda a, b: np.fmin(a, b + 0.1),
    lambda a, b: np.where(a > b, 2.0 * a, b),
    lambda a, b: np.where(a <= b, a * b, np.sin(a)),
    lambda a, b: np.hypot(a, b + 0.1),
    lambda a, b: np.arctan2(a, b + 0.1),
    lambda a, b: np.logaddexp(a, 2.0 * b),
    lambda a, b: np.copysign(a + 0.05, b),
    lambda a, b: (np.abs(a) + 0.2) ** np.tanh(b),
    lambda a, b: np.mod(a, np.abs(b) + 0.5),
    lambda a, b: np.fmod(a, np.abs(b) + 0.5),
    lambda a, b: np.power(1.5 + np.sin(a), np.sin(b)),
    # along an axis
    lambda a, axis: a - a.mean(axis=axis, keepdims=True),
    lambda a, axis: a / (1.0 + np.sum(np.abs(a), axis=axis, keepdims=True)),
    lambda a, axis: a - np.max(a, axis=axis, keepdims=True),
    lambda a, axis: a * np.expand_dims(np.min(a, axis=axis), axis),
    lambda a, axis: 0.5 * a + np.prod(np.cos(a), axis=axis, keepdims=True),
    lambda a, axis: a + np.var(a, axis=axis, keepdims=True),
    lambda a, axis: a / np.sqrt(np.var(a, axis=axis, ddof=1, keepdims=True) + 0.3),
    lambda a, axis: a - np.std(a + WAVES, axis=axis, keepdims=True),
    lambda a, axis: a / (0.5 + np.linalg.norm(a + WAVES, axis=axis, keepdims=True)),
    lambda a, axis: np.cumsum(a, axis=axis) * 0.4,
    lambda a, axis: (
        np.exp(a - a.max(axis=axis, keepdims=True))
        / np.exp(a - a.max(axis=axis, keepdims=True)).sum(axis=axis, keepdims=True)
    ),
    lambda a, axis: a - np.expand_dims(np.log(np.sum(np.exp(a), axis=axis)), axis),
    lambda a, axis: np.where(np.any(a > 1.5, axis=axis, keepdims=True), a, np.sin(a)),
    lambda a, axis: np.where(np.all(a > -0.8, axis=axis, keepdims=True), a, 0.3 * a),
    lambda a, axis: a * np.count_nonzero(a > 0, axis=axis, keepdims=True) * 0.4,
    lambda a, axis: np.take_along_axis(a, np.argmax(a, axis=axis, keepdims=True), axis=axis) * np.sin(a),
    lambda a, axis: a + np.take_along_axis(a, np.expand_dims(np.argmin(a, axis=axis), axis), axis=axis),
    lambda a, axis: a - np.average(a, axis=axis, weights=np.arange(1.0, a.shape[axis] + 1.0), keepdims=True),
    lambda a, axis: np.sort(a, axis=axis) * np.cos(WAVES),
    lambda a, axis: np.sort(np.rint(2.0 * a), axis=axis) * a,
    lambda a, axis: 0.1 * a * np.argsort(special(a), axis=axis, stable=True),
    lambda a, b, axis: np.take_along_axis(b, np.argsort(-a, axis=axis, stable=True), axis=axis),
    lambda a, axis: np.cumprod(1.3 * np.sin(a), axis=axis),
    lambda a, axis: np.cumprod(np.maximum(a, 0.0), axis=axis) + a,
    lambda a, axis: a - np.median(a, axis=axis, keepdims=True),
    lambda a, axis: a * np.expand_dims(np.quantile(a, 0.3, axis=axis), axis),
    lambda a: np.tanh(a) * np.percentile(a, 80.0, axis=(1, 2), keepdims=True),
    lambda a, axis: a / (1.0 + np.ptp(a, axis=axis, keepdims=True)),
    lambda a, axis: a + 0.3 * np.nansum(np.where(a > 0.5, np.nan, a), axis=axis, keepdims=True),
    lambda a, axis: a - np.nanmean(np.where(WAVES < 0.0, np.nan, a), axis=axis, keepdims=True),
    lambda a, axis: a - np.nanmax(np.where(WAVES < 0.0, np.nan, a), axis=axis, keepdims=True),
    lambda a, axis: a * np.expand_dims(np.nanmin(np.where(WAVES < 0.0, np.nan, a), axis=axis), axis),
    # over the rows, or over several axes
    lambda a: a - a.mean(axis=0),
    lambda a: a / (1.0 + np.sqrt(np.mean(a * a, axis=0) + 0.1)),
    lambda a: a - 0.3 * np.max(a, axis=0),
    lambda a: a + a.sum() / a.size,
    lambda a: a - np.sum(a, axis=(0, 1)) / len(a),
    lambda a: a * np.mean(np.tanh(a), axis=(1, 2), keepdims=True),
    lambda a: a - a.sum(axis=(1, 2))[:, None, None] * 0.1,
    lambda a: a + np.min(a, axis=(0, 2), keepdims=True),
    # products
    lambda a, w: a @ w * 0.4,
    lambda a, v: v @ a * 0.4,
    lambda a, b: a @ (b.swapaxes(1, 2) @ a) * 0.1,
    lambda a, w: np.einsum("rij,jk->rik", a, w) * 0.4,
    lambda a, b, w: np.einsum("rij,kj,rkl->ril", a, w[:3], b) * 0.1,
    lambda a, b: np.einsum("rij,rij->ri", a, b)[:, :, None] * 0.3 - a,
    lambda a, w: np.einsum("...j,jk->...k", a, w) * 0.3,
    lambda a, b, v: np.einsum("ij,rjk->rik", v, b) * 0.3 + np.einsum("rij->rj", a)[:, None],
    lambda a, w: np.tensordot(a, w, axes=(2, 1)) * 0.4,
    lambda a, v: np.tensordot(a, v, axes=((1,), (0,))).swapaxes(1, 2) * 0.4,
    lambda a, w: np.dot(a, w) * 0.4,
    lambda a, w: np.inner(a, w) * 0.4,
    lambda a, b, w: (a @ w[0])[:, :, None] * 0.4 + b,
    lambda a, w, v: np.outer(v[0], w[1]) * a,
    lambda a, b: np.vecdot(a, b)[..., None] * 0.2 + a,
    lambda a, b, w: a * np.trace(w) * 0.3 + np.diagonal(w) * b,
    lambda a, b, w, v: a @ np.tril(w) * 0.3 + np.triu(v, 1) @ b * 0.3,
    lambda a, b: (a[:, :, None, :] * b[:, None, :, :]).sum(axis=2) * 0.3,
    # views, parts, joins, look-ups and assignments
    lambda a: np.reshape(np.transpose(a, (0, 2, 1)), (len(a), 3, 4)),
    lambda a, b: a.reshape(a.shape[0], 4, 3).swapaxes(1, 2) * b,
    lambda a: np.moveaxis(np.moveaxis(a, 1, 2) * 0.5, -1, 1),
    lambda a, b: np.broadcast_to(a[:, :1], a.shape) + b,
    lambda a, b: np.squeeze(np.expand_dims(a, 2), 2) - b[:, ::-1],
    lambda a, b: a.ravel().reshape(a.shape) * np.flip(b, 2),
    lambda a: a.reshape(len(a), 12)[:, ::-1].reshape(len(a), 3, 4) + WAVES,
    lambda a, b: np.concatenate([a[:, 1:], b[:, :1]], axis=1),
    lambda a, b: np.concatenate([a, b, a * b], axis=2)[:, :, 2:10:2],
    lambda a, b: np.stack([a, 2.0 * b, a * b], axis=1).sum(axis=1),
    lambda a: np.stack(np.split(a, 2, axis=2), axis=-1).reshape(len(a), 3, 4),
    lambda a, b: np.pad(a, ((0, 0), (1, 0), (0, 1)))[:, :3, 1:] + b,
    lambda a, b: np.pad(a, ((0, 0), (1, 1), (0, 0)), constant_values=0.3)[:, 2:] * b,
    lambda a, b: np.pad(a, ((0, 0), (0, 0), (2, 1)), mode="edge")[:, :, :4] - b,
    lambda a, b: np.pad(a, ((0, 0), (1, 1), (0, 0)), mode="reflect")[:, :3] + b,
    lambda a, b: np.roll(a, 1, axis=2) + np.roll(b, -1, axis=1),
    lambda a, b: np.repeat(a[:, :, :2], 2, axis=2) * b,
    lambda a, b: np.tile(a[:, :1, :2], (1, 3, 2)) + b,
    lambda a, b: windows(a, 2, 2).mean(axis=-1)[:, :, [0, 1, 2, 2]] + b,
    lambda a, b: windows(a, 2, 1).max(axis=-1)[:, np.array([0, 1, 0])] - b,
    lambda a: np.pad(windows(a, (2, 2), (1, 2)).sum(axis=(3, 4)), ((0, 0), (1, 0), (0, 1))) * 0.4,
    lambda a, b: np.diff(np.concatenate([a, b], axis=2), axis=2)[:, :, :4],
    lambda a, b: a[:, None, 1] + b,
    lambda a, b: a[..., 2][..., None] * b,
    lambda a, b: a[:, [2, 0, 0]] * b,
    lambda a, b: np.take(a, np.array([3, 3, 1, 0]), axis=2) + b,
    lambda a, b: a[:, [0, 1, 2], [3, 1, 1]][:, :, None] + b,
    lambda a, b: a * b[:, -1:, 1:2],
    lambda a, b: assigned(a, np.s_[:, 1], b[:, 0]),
    lambda a, b: assigned(assigned(a, np.s_[:, :, 0], 0.5), np.s_[:, 2, 1:3], b[:, 1, 2:]),
    lambda a, b: np.zeros_like(a) + np.ones_like(b) * 0.1 + np.full_like(a, 0.2) * a,
    lambda a, b: a[np.arange(len(a)), (np.abs(b[:, 0, 0]) * 7).astype(int) % 3][:, None] * b,
    lambda a, b: np.take_along_axis(a, (np.abs(b) * 5).astype(int) % 4, axis=2),
    lambda a, b: np.where(np.tri(3, 4, dtype=bool), a, b),
    lambda a, b: np.where(np.tri(3, 4), a, b),
    lambda a, b: np.where(np.array([2, 0, 1, 3]), a, 0.0) + b,
    lambda a, b: np.hstack([a[:, :1], b[:, 1:]]),
    # small parameters
    lambda a, b, s: a * s + b,
    lambda a, b, c: a + c * b,
    lambda a, c, s: np.tanh(a * c) + s,
    lambda a, c, s: (a - c) / np.sqrt(1.0 + s * s),
    lambda a, b, c, s: a * np.exp(-np.square(c)) - np.sin(s * b),
]


def random_steps(seed):
    """Return two or three steps of a formula: (place in STEPS, how far back a lies, which array b is, the axis)."""
    rng = np.random.default_rng(seed)
    steps = [tuple(map(int, rng.integers((len(STEPS), 3, 100, 2)))) for _ in range(2 + seed % 2)]
    return [(seed % len(STEPS), *steps[0][1:]), *steps[1:]]


def run_step(place, a, b, axis, **parameters):
    """Compute one step."""
    step, given = STEPS[place], {"a": a, "b": b, "axis": axis, **parameters}
    return step(*(given[name] for name in step.__code__.co_varnames[: step.__code__.co_argcount]))


def run(steps, x, y, **parameters):
    """Compute the formula of these steps."""
    known = [x, y, x * y]
    for place, back, which, axis in steps:
        known.append(run_step(place, known[-1 - back], known[which % len(known)], axis + 1, **parameters))
    return sum(known[3:]) + 0.1 * known[2]
