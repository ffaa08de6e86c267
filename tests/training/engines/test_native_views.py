"""Views of buffers address what NumPy's views address, for every number of rows."""

import itertools
import math
import operator

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from framework.training.engines.native.views import (
    ROWS,
    Buffer,
    NeedsCopy,
    at_rows,
    axis_groups,
    coefficients,
    size_text,
    to_size,
)

N = 5
"""The rows of an array that is compared."""


def buffer(shape, order=None):
    return Buffer("x", shape, "f", order or tuple(range(len(shape))), "temp")


def numbered(whole):
    """Return an array in which each element is its place in memory, as NumPy lays it out in the buffer's order."""
    sizes = [at_rows(whole.shape[axis], N) for axis in whole.order]
    return np.arange(math.prod(sizes)).reshape(sizes).transpose(np.argsort(whole.order))


def elements(view):
    """Return the elements of a view by its own strides."""
    memory = np.arange(at_rows(view.buffer.size, N))
    strides = [at_rows(step, N) * memory.itemsize for step in view.strides]
    return as_strided(memory[at_rows(view.offset, N) :], [at_rows(size, N) for size in view.shape], strides)


def transposed(rng, view, array):
    axes = rng.permutation(array.ndim).tolist()
    return view.transpose(axes), array.transpose(axes)


def indexed(rng, view, array):
    index, keys = [], []
    for size, count in zip(view.shape, array.shape, strict=True):
        how = rng.integers(4) if size < ROWS else rng.integers(2)
        start, step = int(rng.integers(count)), int(rng.integers(1, 3))
        entries = [None, "reversed", start, (start, count, step)]
        index.append(entries[how])
        keys.append([slice(None), slice(None, None, -1), start, slice(start, count, step)][how])
    return view.index(index), array[tuple(keys)]


def windowed(rng, view, array):
    axes = [axis for axis, size in enumerate(view.shape) if 2 <= size < ROWS][:2]
    widths = [int(rng.integers(1, array.shape[axis] + 1)) for axis in axes]
    steps = [int(rng.integers(1, 3)) for _ in axes]
    keys = [slice(None)] * array.ndim
    for axis, step in zip(axes, steps, strict=True):
        keys[axis] = slice(None, None, step)
    windows = sliding_window_view(array, widths, axis=axes)[tuple(keys)] if axes else array
    return view.windows(axes, widths, steps), windows


def broadcast(rng, view, array):
    lead = (2, 1)[: rng.integers(3)]
    sizes = [3 if size == 1 and rng.integers(2) else size for size in view.shape]
    shape = (*lead, *sizes)
    return view.broadcast_to(shape), np.broadcast_to(array, [at_rows(size, N) for size in shape])


def reshaped(rng, view, array):
    """Split an axis, merge two neighbours, or move an axis of 1."""
    shape = [*view.shape]
    even = [axis for axis, size in enumerate(shape) if size % 2 == 0 and 0 < size < ROWS]
    if even and rng.integers(2):
        axis = int(rng.choice(even))
        shape[axis : axis + 1] = [shape[axis] // 2, 2]
    elif len(shape) > 1:
        axis = int(rng.integers(len(shape) - 1))
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    shape.insert(int(rng.integers(len(shape) + 1)), 1)
    sizes = [at_rows(size, N) for size in shape]
    expected = array.reshape(sizes)
    if not np.shares_memory(expected, array) and array.size:
        with pytest.raises(NeedsCopy):
            view.reshape(tuple(shape))
        return None
    return view.reshape(tuple(shape)), expected


@pytest.mark.parametrize("seed", range(300))
def test_a_chain_of_views_is_that_of_numpy(seed):
    rng = np.random.default_rng(seed)
    shape = (ROWS, *rng.integers(1, 7, size=rng.integers(1, 4)).tolist())
    whole = buffer(shape, tuple(rng.permutation(len(shape)).tolist()))
    view, array = whole.view(), numbered(whole)
    for _ in range(4):
        step = rng.choice([transposed, indexed, windowed, broadcast, reshaped])
        view, array = step(rng, view, array) or (view, array)
    np.testing.assert_array_equal(elements(view), array)


def test_the_inner_part_of_a_padded_array_is_what_is_padded():
    whole = buffer((ROWS, 6, 7))
    np.testing.assert_array_equal(elements(whole.view().unpad(((0, 0), (1, 2), (3, 0)))), numbered(whole)[:, 1:4, 3:])


def test_an_array_without_elements_takes_any_shape():
    assert buffer((ROWS, 0, 3)).view().reshape((0, 7)).shape == (0, 7)


@pytest.mark.parametrize("factors", [(0,), (4,), (-3, 2), (0, 1), (2, -1, 3), (-5, 0, 1)])
def test_the_text_of_a_size_has_the_value_of_the_size(factors):
    size = sum(factor * ROWS**power for power, factor in enumerate(factors))
    assert coefficients(size) == [*factors] if size else coefficients(size) == []
    assert eval(size_text(size), {"n": 7}) == at_rows(size, 7) == sum(f * 7**power for power, f in enumerate(factors))


def test_sizes_of_a_graph_keep_their_powers_of_the_rows():
    prime = 10007
    assert [to_size(size, prime) for size in (0, 12, prime, 6 * prime, prime**2)] == [0, 12, ROWS, 6 * ROWS, ROWS**2]


def test_arithmetic_of_sizes_is_that_of_polynomials():
    sizes = [3 + 2 * ROWS, ROWS - 4, 5 * ROWS, 7]
    for a, b in itertools.product(sizes, repeat=2):
        assert at_rows(a * b, N) == at_rows(a, N) * at_rows(b, N)
        assert at_rows(a - b, N) == at_rows(a, N) - at_rows(b, N)


@pytest.mark.parametrize("seed", range(100))
def test_axis_groups_are_the_smallest_with_as_many_elements(seed):
    rng = np.random.default_rng(seed)
    factors = rng.choice([1, 2, 3, ROWS], size=6).tolist()
    source, target = (merged(rng, factors) for _ in range(2))
    groups = axis_groups(source, target)
    for side, shape in enumerate((source, target)):
        assert [axis for group in groups for axis in group[side]] == [*range(len(shape))]
    for mine, others in groups:
        a, b = [source[axis] for axis in mine], [target[axis] for axis in others]
        assert math.prod(a) == math.prod(b)
        inside = [{*itertools.accumulate(sizes[:-1], operator.mul)} for sizes in (a, b)]
        assert inside[0] & inside[1] <= {1, math.prod(a)}


def merged(rng, factors):
    """Return a shape whose axes are products of neighbouring factors."""
    cuts = [0, *np.flatnonzero(rng.integers(2, size=len(factors) - 1)).tolist(), len(factors) - 1]
    ends = sorted({*cuts[1:]})
    starts = [0, *(end + 1 for end in ends[:-1])]
    return tuple(math.prod(factors[start : end + 1]) for start, end in zip(starts, ends, strict=True))
