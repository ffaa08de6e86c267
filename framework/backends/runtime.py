"""Functions that emitted source calls where NumPy has no function, or a slow one."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

_BITS: dict[int, Any] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}
_NARROW = 8
"""Rows of fewer numbers are added up one number at a time."""


def windows(x: Array, axes: Shape, window: Shape, steps: Shape) -> Array:
    """Return a view of every window along the axes, as sliding_window_view with steps."""
    shape, strides = list(x.shape), list(x.strides)
    for axis, width, step in zip(axes, window, steps, strict=True):
        shape[axis] = (shape[axis] - width) // step + 1
        strides[axis] *= step
    inner = [x.strides[axis] for axis in axes]
    return np.lib.stride_tricks.as_strided(x, (*shape, *window), (*strides, *inner), writeable=False)


def fold(g: Array, axes: Shape, window: Shape, steps: Shape, out: Array) -> Array:
    """Add windows back into the array that they were taken from: one strided part for each place in the window."""
    out.fill(0)
    index = [slice(None)] * out.ndim
    for offset in np.ndindex(*window):
        for axis, start, step in zip(axes, offset, steps, strict=True):
            index[axis] = slice(start, start + step * (g.shape[axis] - 1) + 1, step)
        out[tuple(index)] += g[(..., *offset)]
    return out


def total(dtype: Any, *parts: Any) -> Generator[Array, Array, tuple[Array, ...]]:
    """Yield some arrays as one, receive its sum over all shards, and return it as arrays of their shapes."""
    sums, start, totals = (yield np.concatenate([np.ravel(array) for array in parts], dtype=dtype)), 0, []
    for array in parts:
        stop = start + np.size(array)
        totals.append(sums[start:stop].reshape(np.shape(array)))
        start = stop
    return tuple(totals)


def gather(x: Array, index: Array, axis: int, out: Array) -> Any:
    """Write x[..., index, ...] along an axis.

    Raises:
        IndexError: An index is out of bounds.
    """
    size = x.shape[axis]
    if index.size and not (-size <= index.min() and index.max() < size):
        raise IndexError(f"an index is out of bounds for axis {axis} with size {size}")
    return np.take(x, index, axis=axis, out=out, mode="wrap")  # "raise" would make a copy


def masked(condition: Array, a: Array, out: Array) -> Array:
    """Write ``a`` where the condition holds and 0 elsewhere, by masking bits: np.where is slow on random conditions."""
    bits = _BITS[out.itemsize]
    np.multiply(np.asarray(a, out.dtype).view(bits), condition, out=out.view(bits))
    return out


def choose(condition: Array, a: Array | float, b: Array | float, out: Array) -> Array:
    """Write ``a`` where the condition holds and ``b`` elsewhere, as ``masked`` does."""
    bits = _BITS[out.itemsize]
    changed = out.view(bits)
    first, second = (np.asarray(value, out.dtype).view(bits) for value in (a, b))
    if first.ndim or second.ndim:
        np.bitwise_xor(first, second, out=changed)
        np.multiply(changed, condition, out=changed)
    else:
        np.multiply(condition, first ^ second, out=changed)
    np.bitwise_xor(changed, second, out=out.view(bits))
    return out


def chosen(condition: Any, a: Any, b: Any, dtype: Any) -> Any:
    """Return ``a`` where the condition holds and ``b`` elsewhere, for numbers and for arrays of any shape."""
    if not isinstance(condition, np.ndarray):
        return dtype(a if condition else b) if np.ndim(a) == np.ndim(b) == 0 else np.where(condition, a, b)
    out = np.empty(np.broadcast(condition, a, b).shape, dtype)
    return masked(condition, a, out) if type(b) is float and b == 0.0 else choose(condition, a, b, out)


def scatter_add(shape: Shape, axes: Shape, g: Array, *indices: Array) -> Array:
    """Return zeros with the parts of g added at the indices: the reverse of an index by arrays."""
    sizes = tuple(shape[axis] for axis in axes)
    flat = np.ravel_multi_index(indices, sizes, mode="wrap")  # a negative index counts from the end
    rest = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    count, start = len(axes), axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
    if start:  # the position of the axes of the indices
        g = np.moveaxis(g, tuple(range(start, start + flat.ndim)), tuple(range(flat.ndim)))
    total = _add_at(math.prod(sizes), flat.reshape(-1), g.reshape(flat.size, math.prod(rest))).reshape((*sizes, *rest))
    return total if axes == tuple(range(count)) else np.moveaxis(total, tuple(range(count)), axes)


def _add_at(length: int, index: Array, g: Array) -> Array:
    """Return an array (length, width) with each row of g added where its index says."""
    width = g.shape[1]
    if width < _NARROW:
        wide = index if width == 1 else (index[:, None] * width + np.arange(width)).reshape(-1)
        counted = np.bincount(wide, g.reshape(-1), length * width)
        return counted.astype(g.dtype, copy=False).reshape(length, width)
    out = np.zeros((length, width), g.dtype)
    if index.size:
        order = np.argsort(index, kind="stable")
        ranked = index[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        out[ranked[starts]] = np.add.reduceat(g[order], starts, axis=0)
    return out
