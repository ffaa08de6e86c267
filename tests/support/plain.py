"""Kernels as plain Python: the functions that the kernel language adds to Python, on flat NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.special import erf, erfc

_ELEMENTWISE = (
    "arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil copysign cos cosh exp exp2 expm1 floor "
    "floor_divide fmax fmin fmod heaviside hypot isfinite isinf isnan log log10 log1p log2 logaddexp maximum minimum "
    "mod reciprocal rint sign signbit sin sinh sqrt square tan tanh trunc"
)


def product(flip: int, m: int, n: int, k: int, alpha: Any, a: Array, b: Array, beta: Any, c: Array) -> None:
    """C <- alpha A B + beta C, row-major: A (m, k), B (k, n), C (m, n); with beta = 0, C is not read.

    Args:
        flip: 1 if A is stored as (k, m), 2 if B is stored as (n, k), else 0. 3 is as 0, without
            BLAS: the bits of a row of C do not depend on m.
        m: The rows of A and C.
        n: The columns of B and C.
        k: The columns of A, the rows of B.
        alpha: The factor of the product.
        a: A.
        b: B.
        beta: The factor of C.
        c: C, which is changed.
    """
    left = a[: m * k].reshape(k, m).T if flip == 1 else a[: m * k].reshape(m, k)
    right = b[: k * n].reshape(n, k).T if flip == 2 else b[: k * n].reshape(k, n)
    out = c[: m * n].reshape(m, n)
    out[...] = alpha * (left @ right) + (beta * out if beta else 0)


def copy(to: Array, at: Array, count: int) -> None:
    """Copy the first ``count`` numbers of ``at`` into ``to``; the arrays do not overlap."""
    to[:count] = at[:count]


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
    names |= {f"scalar_{name}": getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh")}
    names |= {"real": np.dtype(dtype).type, "float": np.float64, "inf": np.inf, "nan": np.nan}
    names |= {function.__name__: function for function in (product, copy, prefetch, bits, number)}
    exec(text, names)
    function: Callable[..., Any] = names[entry]
    return function
