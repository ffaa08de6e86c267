"""Calls of NumPy's functions with all their arguments: a traced formula gives what NumPy gives."""

import re

import numpy as np
import pytest
from graph.both_ways import by_graph, made_up

ROWS = -1
SHAPES = {"x": (ROWS, 3, 4), "y": (ROWS, 3, 4), "w": (4, 4), "v": (3, 3), "b": (3,), "c": (4,), "s": ()}
CALLS = """
np.trace(w)                                           np.trace(w, 1)
np.trace(w, -2)                                       np.trace(w[:2], 1)
np.trace(w[:, :2], offset=-1)                         np.trace(x, axis1=2, axis2=1)
np.trace(x, 1, 1, 2)                                  np.diagonal(w, 2)
np.diagonal(w[:3], -1)                                np.diagonal(x, 0, 1, 2)
np.diagonal(x, offset=-1, axis1=2, axis2=1)           np.tril(w, -1)
np.tril(w[:2], 1)                                     np.triu(w[:, :3], -1)
np.triu(w, 2)                                         np.stack([c, c])
np.stack([w, 2 * w], axis=-1)                         np.stack([w, w], axis=2)
np.stack([x, y], axis=-2)                             np.concatenate([w, v, c], axis=None)
np.concatenate([c, b])                                np.concatenate([w, w[:, :2]], axis=-1)
np.append(w, v)                                       np.append(w, w, axis=0)
np.append(c, 2.0)                                     np.hstack([c, b])
np.hstack([x, y])                                     np.column_stack([c, w])
np.column_stack([c, c])                               np.round(x, 1)
np.round(100 * x, -1)                                 np.around(x, 2)
np.round(x)                                           np.sinc(x)
np.sinc(0 * x)                                        np.dot(w, c)
np.interp(x, [-1, -0.2, 0.5, 1], [3, 9, -4, 1])       np.interp(0 * c, [0, 0, 1], [1, 2, 3])
np.dot(c, w)                                          np.dot(c, c)
np.dot(s, w)                                          np.dot(x, s)
np.dot(x, w)                                          np.inner(c, c)
np.inner(s, w)                                        np.inner(w, s)
np.inner(x, c)                                        np.inner(w, w)
np.matmul(c, c)                                       np.matmul(w, c)
np.matmul(c, w)                                       np.matmul(c, x.swapaxes(1, 2))
np.matmul(x, c)                                       np.matmul(v, x)
np.vdot(w, 2 * w)                                     np.vdot(c, c)
np.outer(b, c)                                        np.outer(v, c)
np.tensordot(w, w)                                    np.tensordot(w, c, axes=1)
np.tensordot(v, c, axes=0)                            np.tensordot(x, w, axes=([2], [1]))
np.tensordot(x, v, axes=(1, 0))                       np.einsum('ij->ji', w)
np.einsum('ij', w)                                    np.einsum('ij,j', w, c)
np.einsum('...j,j->...', x, c)                        np.einsum('...ij,...ij->...', x, y)
np.einsum('i...->...', w)                             np.einsum('ij,kj->ik', v, v)
x * np.size(w)                                        x * np.size(w[:, :3], 1)
x * np.size(w[:2], 0)                                 np.reshape(w, -1)
np.reshape(w, (2, -1))                                np.reshape(w, (-1, 2, 4))
np.reshape(x, (len(x), -1, 2))                        w.reshape(2, 8)
np.ravel(w)                                           np.tile(c, 2)
np.tile(c, (3, 1))                                    np.tile(w, (2, 1, 3))
np.tile(w, 2)                                         np.tile(x, (1, 1, 2))
np.roll(c, 1, axis=0)                                 np.roll(c, -1, axis=0)
np.roll(w, 3, axis=0)                                 np.roll(w, 6, axis=1)
np.flip(w)                                            np.flip(w, 0)
np.flip(x, (1, 2))                                    np.diff(c)
np.diff(w, axis=0)                                    np.diff(x, 2)
np.diff(x, n=2, axis=1)                               np.repeat(c, 3)
np.repeat(w, 2)                                       np.repeat(w, 2, axis=0)
np.split(c, 2)[1]                                     np.split(c, [1, 3])[1]
np.split(w, [1], axis=1)[1]                           np.array_split(c, 3)[0]
np.array_split(c, 3)[2]                               np.array_split(w, 3, axis=1)[1]
np.clip(x, None, 0.5)                                 np.clip(x, -0.5, None)
np.clip(x, -0.2, None)                                np.linalg.norm(c)
np.linalg.norm(w)                                     np.linalg.norm(x, axis=-1)
np.linalg.norm(x, axis=1, keepdims=True)              np.linalg.norm(x, ord=1, axis=-1)
np.linalg.norm(x, 2, 2)                               np.linalg.norm(x, axis=(1, 2))
np.sum(w)                                             np.sum(w, axis=0, keepdims=True)
np.mean(x, axis=(1, 2))                               np.mean(w)
np.var(x, axis=-1, ddof=1)                            np.std(w, axis=0, ddof=1)
np.var(w)                                             np.average(x, axis=2, weights=[1, 2, 3, 4])
np.average(w)                                         np.prod(w, axis=1)
np.prod(c)                                            np.cumsum(x, axis=1)
np.cumsum(c)                                          np.cumsum(w, axis=None)
np.cumprod(x, axis=1)                                 np.cumprod(c)
np.cumprod(w, axis=None)                              np.cumprod(x > 0, axis=-1)
np.cumprod(np.rint(3 * x).astype(int), -2)            w.cumprod(0)
np.multiply.accumulate(w, axis=1)                     np.sort(x)
np.sort(c)                                            np.sort(w, axis=None)
np.sort(x, axis=-2)                                   np.sort(np.rint(3 * x).astype(int), axis=1)
np.sort(x > 0, axis=2)                                np.sort(np.where(w > 0, w, np.nan), kind='stable')
np.argsort(x, axis=1)                                 np.argsort(np.rint(x), -1, stable=True)
w.argsort(axis=None)                                  np.argsort(np.where(w > 0, w, np.nan), stable=True)
np.argsort(np.tile(np.rint(c), 50), stable=True)      np.argsort(np.tile(np.rint(c), 50), kind='mergesort')
np.median(w)                                          np.median(x, axis=1)
np.median(x, axis=(1, -1), keepdims=True)             np.median(np.where(w > -1, w, np.nan), axis=0)
np.median(np.rint(3 * x).astype(int), axis=-1)        np.median(x[:, :, :1], axis=-1)
np.quantile(x, 0.0, axis=1)                           np.quantile(w, 1)
np.quantile(c, 0.45)                                  np.quantile(x, 0.7, axis=(1, 2), keepdims=True)
np.percentile(x, 10, axis=-1)                         np.percentile(w, 99.0, 0, keepdims=True)
np.ptp(w)                                             np.ptp(x, axis=-2, keepdims=True)
np.nansum(np.where(w > 0, w, np.nan))                 np.nansum(np.where(x > 0, x, np.nan), axis=1, keepdims=True)
np.nansum(np.rint(x).astype(int), axis=(1, 2))        np.nanmean(np.where(c > 0, c, np.nan))
np.nanmean(np.rint(x).astype(int), axis=-1)           np.nanmean(np.where(x > 0, x, np.nan), (1, 2), keepdims=True)
np.nanmax(np.where(w > 0, w, np.nan))                 np.nanmin(np.where(x > 0, x, np.nan), axis=(1, 2))
np.nanmax(np.rint(3 * x).astype(int), axis=1)         np.nanmin(np.where(c > 0, c, np.nan), keepdims=True)
np.max(w)                                             np.min(x, axis=(1, 2), keepdims=True)
np.argmax(x, axis=1)                                  np.argmin(c)
np.argmax(x, axis=-1, keepdims=True)                  np.count_nonzero(x > 0, axis=1)
np.any(x > 1, axis=(1, 2))                            np.all(w > -9)
np.expand_dims(w, 0)                                  np.expand_dims(w, (0, 3))
np.expand_dims(x, -1)                                 np.squeeze(w[None, :, None])
np.squeeze(x[:, :1], 1)                               np.squeeze(x[:, None], axis=1)
np.atleast_1d(s)                                      np.atleast_2d(c)
np.transpose(w)                                       np.transpose(x, (0, 2, 1))
np.swapaxes(x, -1, 1)                                 np.moveaxis(x, 1, -1)
np.moveaxis(x, (1, 2), (2, 1))                        np.matrix_transpose(x)
np.broadcast_to(c, (2, 4))                            np.broadcast_arrays(c, w)[0]
np.take(c, [3, 0])                                    np.take(w, [1, 1], axis=1)
np.take(w, [5, 0])                                    np.take(x, 2, axis=1)
np.take_along_axis(x, (y > 0).astype(int), 1)         np.take_along_axis(w, np.argsort(np.eye(4), axis=1), axis=1)
w[1]                                                  w[1, 2]
w[:, 1]                                               w[::2, ::-1]
w[None, 1:3, None]                                    w[..., 0]
x[:, -1]                                              x[:, 1, None, 2:]
x[:, :, [0, 3]]                                       w[[0, 1], [2, 3]]
w[[0, 1]][:, None]                                    x[..., None, :, -2]
np.pad(w, 1)                                          np.pad(w, (1, 2))
np.pad(w, ((1, 0), (0, 2)))                           np.pad(c, 2, mode='edge')
np.pad(c, (1, 2), mode='reflect')                     np.pad(x, ((0, 0), (0, 0), (1, 1)), constant_values=2.0)
np.lib.stride_tricks.sliding_window_view(c, 2)        np.lib.stride_tricks.sliding_window_view(w, (2, 3))
np.lib.stride_tricks.sliding_window_view(w, 2, 0)     np.select([x > 0, x > -1], [x, 2 * x], 7.0)
np.select([x > 0], [x])                               np.piecewise(x, [x > 0.5, x < 0], [np.sin, 2.0, np.cos])
np.piecewise(x, [x > 0], [np.sin])                    np.isclose(x, y)
np.isclose(x, x + 1e-9)                               np.isclose(x, x + 1e-3, rtol=0.0, atol=1e-2)
np.isclose(x, 1.1 * x, rtol=0.2, atol=0.0)            np.full_like(x, 2.0)
np.full((2, 3), 2.0, like=x)                          np.ones(3, like=x)
np.zeros((2,), like=x)                                np.fmod(x, 0.7)
np.mod(x, 0.7)                                        np.remainder(x, -0.7)
np.floor_divide(x, 0.7)                               np.hypot(x, y)
np.copysign(x, y)                                     np.logaddexp(x, y)
np.logaddexp.reduce(x, axis=-1)                       np.heaviside(x, 0.5)
np.add.reduce(x, axis=-1)                             np.maximum.reduce(x, axis=1)
np.multiply.outer(c, b)                               np.add.accumulate(c)
(x > 0).astype(int) + 2                               abs(x) ** 1.5
np.full_like(x.astype(int), 1.7) * x                  np.full_like(x > 0, 0.5) * x
np.radians(x)                                         np.degrees(np.rint(3 * x).astype(int))
np.full(3, 2.5, like=x)                               np.full_like(x.astype(int), w[0, 0] * 9) * x
"""


@pytest.mark.parametrize("call", re.split(r"\s\s+|\n", CALLS.strip()))
def test_a_call_gives_what_numpy_gives(call):
    arrays = made_up(SHAPES, 5, np.random.default_rng(0))
    formula = eval(f"lambda {', '.join(SHAPES)}: {call}", {"np": np})
    expected = np.asarray(formula(**arrays))
    compute, _ = by_graph(formula, SHAPES)
    value, _ = compute(arrays, np.ones(expected.shape))
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("made", ["np.zeros_like(x)", "np.zeros_like(x.astype(int))", "x > 0", "x.astype(int)"])
@pytest.mark.parametrize("value", ["3.0 * x[:, 0]", "2.7", "2", "x[:, 1] > 0", "np.array([1.5, 2.5, -0.5, 0.0])"])
def test_an_array_keeps_its_dtype_when_it_is_written_into(made, value):
    def formula(x):
        out = eval(made, {"np": np, "x": x}).copy()
        out[:, 0] = eval(value, {"np": np, "x": x})
        return out * 1.0

    arrays = made_up({"x": (ROWS, 3, 4)}, 5, np.random.default_rng(0))
    compute, _ = by_graph(formula, {"x": (ROWS, 3, 4)})
    np.testing.assert_array_equal(compute(arrays, np.ones((5, 3, 4)))[0], formula(**arrays))
