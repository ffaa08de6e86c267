"""Products of strided matrices, and of the tiles that nests call, are those of NumPy."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework.backends.native import compile_kernel
from framework.backends.native.kernels import load_shared
from framework.backends.native.machine import processor

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
SCALES = pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
ALPHA = 0.25  # as the numbers below are small integers, every order of a sum gives the same bits


def numbers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def expected_in(c, product, beta, dtype):
    """Return what C becomes; where beta is 0, its numbers are not read."""
    return (ALPHA * product + (beta * c if beta else 0.0)).astype(dtype)


def result_array(rng, shape, beta, dtype):
    return np.full(shape, np.nan, dtype) if beta == 0.0 else numbers(rng, shape, dtype)


@DTYPES
@SCALES
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_strided_product_is_that_of_numpy(dtype, beta, columns):
    """Rows, or else columns, of each matrix are neighbours; ``columns`` is the distance of those of B."""
    rng = np.random.default_rng(columns)
    gemm = load_shared("gemm", dtype)
    shapes = [(1, 1, 1), (3, 1, 7), (5, 3, 0), (7, 33, 20), (13, 70, 300), (20, 300, 4), (483, 19, 5)]
    for m, n, k in [*shapes, *rng.integers(1, 40, (8, 3))]:
        for turned in (False, True):
            stored_a = numbers(rng, (k, m + 2) if turned else (m, k + 2), dtype)
            a, steps_a = (stored_a[:, :m].T, (1, m + 2)) if turned else (stored_a[:, :k], (k + 2, 1))
            if columns == 3:
                stored_b = numbers(rng, (n, k + 1), dtype)
                b, steps_b = stored_b[:, :k].T, (1, k + 1)
            else:
                stored_b = numbers(rng, (k, n * columns + 3), dtype)
                b, steps_b = stored_b[:, : n * columns : columns], (n * columns + 3, columns)
            stored_c = result_array(rng, (m, n + 1), beta, dtype)
            stored_c[:, n:] = 7.0
            expected = expected_in(stored_c[:, :n], a.astype(float) @ b, beta, dtype)
            gemm(m, n, k, ALPHA, stored_a, *steps_a, stored_b, *steps_b, beta, stored_c, n + 1)
            np.testing.assert_array_equal(stored_c[:, :n], expected, err_msg=f"{m}, {n}, {k}, {turned}")
            np.testing.assert_array_equal(stored_c[:, n:], 7.0)


TABLE = """
def run(a: reals, row_a: int, ta: ints, b: reals, tb: ints, c: reals, row_c: int, k: int, alpha: real, beta: real,
        left: int):
    table_tile({lanes}, {rows}, {vectors}, {masked}, a, row_a, ta, b, tb, c, row_c, k, alpha, beta, left)
"""


@pytest.mark.share(1 / 3)
@DTYPES
@SCALES
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_table_tile_is_the_product_at_the_places_of_its_tables(dtype, beta, rows):
    rng = np.random.default_rng(rows)
    lanes = processor().registers.lanes({"float64": "double", "float32": "float"}[dtype])
    for vectors, left, k in ((1, lanes, 5), (1, lanes - 1, 1), (4, lanes, 9), (4, 1, 3), (2, lanes, 0)):
        text = TABLE.format(lanes=lanes, rows=rows, vectors=vectors, masked=int(left < lanes))
        columns = lanes * (vectors - 1) + left
        a, b = numbers(rng, rows * 50, dtype), numbers(rng, 200, dtype)
        ta, tb = rng.integers(0, 50, k), rng.integers(0, 200 - columns, k)
        c = result_array(rng, (rows, columns + 1), beta, dtype)
        c[:, columns:] = 7.0
        left_factor = a.reshape(rows, 50)[:, ta].astype(float)
        right_factor = b[tb[:, None] + np.arange(columns)]
        expected = expected_in(c[:, :columns], left_factor @ right_factor, beta, dtype)
        compile_kernel(text, "run", dtype)(a, 50, ta, b, tb, c, columns + 1, k, ALPHA, beta, left)
        np.testing.assert_array_equal(c[:, :columns], expected)
        np.testing.assert_array_equal(c[:, columns:], 7.0)


HOP = """
def run(a: reals, row_a: int, ta: ints, b: reals, tb: ints, c: reals, row_c: int, k: int, alpha: real, beta: real,
        left: int, hop_b: int, hop_c: int):
    hop_tile({lanes}, {rows}, {vectors}, {masked}, a, row_a, ta, b, tb, c, row_c, k, alpha, beta, left, hop_b, hop_c)
"""


@pytest.mark.share(1 / 3)
@DTYPES
@SCALES
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_hop_tile_is_a_product_for_each_of_its_vectors(dtype, beta, rows):
    rng = np.random.default_rng(rows)
    lanes = processor().registers.lanes({"float64": "double", "float32": "float"}[dtype])
    for vectors, left, k in ((2, lanes, 5), (4, lanes - 1, 3), (3, 1, 4), (2, lanes, 0)):
        text = HOP.format(lanes=lanes, rows=rows, vectors=vectors, masked=int(left < lanes))
        a, b = numbers(rng, rows * 50, dtype), numbers(rng, (vectors, 200), dtype)
        ta, tb = rng.integers(0, 50, k), rng.integers(0, 200 - left, k)
        c = result_array(rng, (vectors, rows, left + 1), beta, dtype)
        c[..., left:] = 7.0
        left_factor = a.reshape(rows, 50)[:, ta].astype(float)
        right_factor = b[:, tb[:, None] + np.arange(left)]
        expected = expected_in(c[..., :left], left_factor @ right_factor, beta, dtype)
        sizes = left + 1, k, ALPHA, beta, left, 200, rows * (left + 1)
        compile_kernel(text, "run", dtype)(a, 50, ta, b, tb, c, *sizes)
        np.testing.assert_array_equal(c[..., :left], expected)
        np.testing.assert_array_equal(c[..., left:], 7.0)


DOT = """
def run(a: reals, row_a: int, ta: ints, b: reals, row_b: int, tb: ints, c: reals, row_c: int, column_c: int, k: int,
        alpha: real, beta: real):
    dot_tile({lanes}, {rows}, {columns}, {length}, a, row_a, ta, b, row_b, tb, c, row_c, column_c, k, alpha, beta)
"""


@pytest.mark.share(1 / 3)
@DTYPES
@SCALES
@pytest.mark.parametrize("length", [3, 8, 11, 24])
def test_a_dot_tile_adds_up_runs_of_both_factors(dtype, beta, length):
    rng = np.random.default_rng(length)
    lanes = processor().registers.lanes({"float64": "double", "float32": "float"}[dtype])
    for rows, columns, k in ((1, 1, 4), (3, 2, 7), (2, 5, 0)):
        text = DOT.format(lanes=lanes, rows=rows, columns=columns, length=length)
        a, b = numbers(rng, (rows, 90), dtype), numbers(rng, (columns, 70), dtype)
        ta, tb = rng.integers(0, 90 - length, k), rng.integers(0, 70 - length, k)
        c = result_array(rng, (columns, 2, rows), beta, dtype)  # its columns are the far ones
        run = np.arange(length)
        expected = c.copy()
        product = np.einsum("pts,qts->qp", a[:, ta[:, None] + run].astype(float), b[:, tb[:, None] + run])
        expected[:, 0] = expected_in(c[:, 0], product, beta, dtype)
        compile_kernel(text, "run", dtype)(a, 90, ta, b, 70, tb, c, 1, 2 * rows, k, ALPHA, beta)
        np.testing.assert_array_equal(c, expected)


@DTYPES
@pytest.mark.parametrize("name", ["largest", "smallest"])
def test_extremes_keep_nan_and_order_the_zeros(dtype, name):
    text = (
        f"def run(x: reals, y: reals, to: reals, n: int):\n    for i in range(n):\n        to[i] = {name}(x[i], y[i])"
    )
    x, y = (grid.ravel().astype(dtype) for grid in np.meshgrid(*[[0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]] * 2))
    found = np.empty_like(x)
    compile_kernel(text, "run", dtype)(x, y, found, len(x))
    expected = {"largest": np.maximum, "smallest": np.minimum}[name](x, y)
    np.testing.assert_array_equal(found, expected)
    zeros = (x == 0.0) & (y == 0.0)
    signs = np.signbit(x) & np.signbit(y) if name == "largest" else np.signbit(x) | np.signbit(y)
    np.testing.assert_array_equal(np.signbit(found[zeros]), signs[zeros])


def test_the_clock_counts_on():
    text = "def run(x: reals, n: int) -> int:\n    begun = clock()\n    x[n] = 0.0\n    return clock() - begun"
    assert compile_kernel(text, "run", "float64")(np.ones(2), 1) > 0
