"""Kernels as plain Python: the functions that the kernel language adds to Python, on flat NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.special import erf, erfc

_ELEMENTWISE = (
    "arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil copysign cos cosh exp exp2 expm1 floor "
    "floor_divide fmax fmin fmod heaviside hypot isfinite isinf isnan log log10 log1p log2 logaddexp maximum minimum "
    "mod reciprocal rint sign signbit sin sinh sqrt square tan tanh trunc"
)


class Within:
    """An array from some element on.

    A place before the array or after it is an error, where NumPy would count from the end.
    """

    def __init__(self, array: Array, start: int = 0) -> None:
        """Begin at an element."""
        self.array, self.start = array, start

    def __getitem__(self, place: Any) -> Any:
        """Return an element, elements at an array of places, or the array from a place on."""
        if isinstance(place, slice):
            return Within(self.array, self.start + int(place.start))
        return self.array[self._checked(place)]

    def __setitem__(self, place: Any, value: Any) -> None:
        """Set an element, or elements at an array of places."""
        self.array[self._checked(place)] = value

    def _checked(self, place: Any) -> Any:
        places = np.asarray(self.start + place)
        if places.size and not 0 <= places.min() <= places.max() < len(self.array):
            raise IndexError(f"places {places.min()} to {places.max()} of {len(self.array)} elements")
        return places


def within(value: Any) -> Any:
    """Return an argument of a kernel, with arrays that check places."""
    if isinstance(value, list):
        return [within(each) for each in value]
    return Within(value) if isinstance(value, np.ndarray) else value


def gemm(
    m: int,
    n: int,
    k: int,
    alpha: Any,
    a: Array,
    row_a: int,
    step_a: int,
    b: Array,
    step_b: int,
    col_b: int,
    beta: Any,
    c: Array,
    row_c: int,
) -> None:
    """C <- alpha A B + beta C for matrices whose rows, and whose elements along k and n, are so far apart."""
    left = a[np.arange(m)[:, None] * row_a + np.arange(k) * step_a]
    right = b[np.arange(k)[:, None] * step_b + np.arange(n) * col_b]
    _put(c, np.arange(m)[:, None] * row_c + np.arange(n), left @ right, alpha, beta)


def _put(c: Any, places: Array, values: Array, alpha: Any, beta: Any) -> None:
    c[places] = alpha * values + (beta * c[places] if beta else 0)


def table_tile(
    lanes: int, rows: int, vectors: int, masked: int, a: Any, row_a: int, ta: Any, b: Any, tb: Any, c: Any, row_c: int,
    k: int, alpha: Any, beta: Any, left: int,
) -> None:  # fmt: skip
    """C <- alpha A B + beta C, with tables of the steps along k; the last vector may have ``left`` lanes alone."""
    columns, steps = np.arange(lanes * (vectors - 1) + (left if masked else lanes)), np.arange(k)
    products = a[np.arange(rows)[:, None] * row_a + ta[steps]] @ b[tb[steps][:, None] + columns]
    _put(c, np.arange(rows)[:, None] * row_c + columns, products, alpha, beta)


def hop_tile(
    lanes: int, rows: int, vectors: int, masked: int, a: Any, row_a: int, ta: Any, b: Any, tb: Any, c: Any, row_c: int,
    k: int, alpha: Any, beta: Any, left: int, hop_b: int, hop_c: int,
) -> None:  # fmt: skip
    """As ``table_tile``, for vectors that are ``hop_b`` and ``hop_c`` numbers apart and masked alike."""
    for vector in range(vectors):
        given = ta, b[vector * hop_b :], tb, c[vector * hop_c :], row_c, k, alpha, beta, left
        table_tile(lanes, rows, 1, masked, a, row_a, *given)


def dot_tile(
    _lanes: int, rows: int, columns: int, length: int, a: Any, row_a: int, ta: Any, b: Any, row_b: int, tb: Any,
    c: Any, row_c: int, col_c: int, k: int, alpha: Any, beta: Any,
) -> None:  # fmt: skip
    """C[p, q] <- alpha sum over t and s < length of A[p, ta[t] + s] B[q, tb[t] + s] + beta C."""
    steps, along = np.arange(k), np.arange(length)
    left = a[np.arange(rows)[:, None, None] * row_a + ta[steps][:, None] + along]
    right = b[np.arange(columns)[:, None, None] * row_b + tb[steps][:, None] + along]
    places = np.arange(rows)[:, None] * row_c + np.arange(columns) * col_c
    _put(c, places, np.einsum("pts,qts->pq", left, right), alpha, beta)


def lanes_tile(
    lanes: int, rows: int, columns: int, a: Any, row_a: int, step_a: int, b: Any, row_b: int, step_b: int,
    k: int, adds: int, factor: Any, c: Any, row_c: int, column_c: int,
) -> None:  # fmt: skip
    """C[p, q] <- sum over t of A[p, t] B[q, t] in each lane; or it is added to C times ``factor``."""
    steps, each = np.arange(k)[:, None], np.arange(lanes)
    left = a[np.arange(rows)[:, None, None] * row_a + steps * step_a + each]
    right = b[np.arange(columns)[:, None, None] * row_b + steps * step_b + each]
    places = np.arange(rows)[:, None, None] * row_c + np.arange(columns)[:, None] * column_c + each
    sums = np.einsum("ptl,qtl->pql", left, right)
    c[places] = c[places] + factor[each] * sums if adds else sums


def memory(count: int) -> Within:
    """Return an array that nothing was written into."""
    return Within(np.full(count, np.nan))


def copy(to: Array, at: Array, count: int) -> None:
    """Copy the first ``count`` numbers of ``at`` into ``to``; the arrays do not overlap."""
    places = np.arange(count)
    to[places] = at[places]


def prefetch(_x: Array, _place: int) -> None:
    """Bring the cache line of x[place] near, which is read soon; the place may lie outside the array."""


def bits(value: Any) -> Any:
    """Return the bits of a number as an integer of the same width."""
    return value.view(f"i{value.itemsize}")


def number(value: Any) -> Any:
    """Return the number that has the bits of an integer of the same width."""
    return value.view(f"f{value.itemsize}")


def runnable(text: str, entry: str, dtype: str) -> Callable[..., Any]:
    r"""Return a function of a kernel's text as plain Python.

    Args:
        text: The kernel.
        entry: The name of the function.
        dtype: That of ``real``, "float64" or "float32".

    Returns:
        The function, which takes flat NumPy arrays and numbers; for ``arrays``, a list of arrays.

    Example:
        >>> double = "def double(x: reals, n: int):\n    for i in range(n):\n        x[i] *= 2.0"
        >>> x = np.ones(3)
        >>> runnable(double, "double", "float64")(x, 2)
        >>> x
        array([2., 2., 1.])
    """
    names: dict[str, Any] = dict.fromkeys(("reals", "floats", "ints", "arrays"), Array)
    names |= {name: getattr(np, name) for name in _ELEMENTWISE.split()} | {"erf": erf, "erfc": erfc}
    names |= {"real": np.dtype(dtype).type, "float": np.float64, "inf": np.inf, "nan": np.nan}
    functions = (gemm, memory, copy, prefetch, bits, number, table_tile, hop_tile, dot_tile, lanes_tile)
    names |= {function.__name__: function for function in functions}
    names |= {"tiled": gemm, "largest": np.maximum, "smallest": np.minimum, "power": np.power}
    exec(text, names)
    return lambda *arguments: names[entry](*map(within, arguments))
