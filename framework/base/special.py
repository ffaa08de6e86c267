"""Functions that NumPy lacks: the error functions and the normal deviate, right to a few ulps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framework.base.arrays import Array, floats

# A symbol of a traced formula is recorded by the name of these; numbers never go through them.
_ERF = np.frompyfunc(math.erf, 1, 1)
_ERFC = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Any) -> Any:
    """Return 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Example:
        >>> erf(np.array([0.0, 1.0]))
        array([0.        , 0.84270079])

    Source:
        Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity (1981); the
        coefficients are our own.
    """
    return _ERF(x) if _is_symbol(x) else erf_of(floats(x, "x"))


def erfc(x: Any) -> Any:
    """Return 1 - erf(x), accurate where that is tiny.

    Example:
        >>> f"{erfc(10.0):.12g}"
        '2.08848758376e-45'

    Source:
        As for ``erf``.
    """
    return _ERFC(x) if _is_symbol(x) else erfc_of(floats(x, "x"))


def normal_deviate(share: Any) -> Any:
    """Return the number below which this share of a normal distribution lies, for shares from 1e-10 to 1 - 1e-10.

    It takes an array, or a symbol of a formula.

    Example:
        >>> normal_deviate(np.array([0.5, 0.975])).round(4)
        array([0.  , 1.96])

    Source:
        Wichura, Algorithm AS 241: the percentage points of the normal distribution (1988), function PPND16.
    """
    from_middle = share - 0.5
    near = np.clip(from_middle, -0.425, 0.425)
    tail = np.sqrt(-np.log(np.minimum(share, 1.0 - share))) - 1.6
    far = ratio(_WC, _WD, tail)
    far = np.where(from_middle < 0, -far, far)
    return np.where(np.abs(from_middle) <= 0.425, near * ratio(_WA, _WB, 0.180625 - near * near), far)


def _is_symbol(x: Any) -> bool:
    return hasattr(type(x), "__array_ufunc__") and not isinstance(x, np.ndarray | np.generic)


def erf_of(x: Any) -> Any:
    """Return erf of an array of floats, or of a number of NumPy."""
    return _like(x, lambda a, tail: np.copysign(1.0 - tail, a), lambda a: a + a * erf_near(a))


def erfc_of(x: Any) -> Any:
    """Return erfc of an array of floats, or of a number of NumPy."""
    return _like(x, lambda a, tail: np.where(a < 0, 2.0 - tail, tail), _erfc_near)


def _like(x: Any, from_tail: Any, near: Any) -> Any:
    """Evaluate in float64, by erf for |x| < 1, else by erfc, and give the result the shape and dtype of x."""
    a = x.astype(np.float64).reshape(-1)
    out, size = a.copy(), np.abs(a)  # NaN stays
    chosen = np.flatnonzero(size < 1.0)
    out[chosen] = near(a[chosen])
    chosen = np.flatnonzero(size >= 1.0)
    tail = np.minimum(size[chosen], 28.0)
    out[chosen] = from_tail(a[chosen], erfc_tail(tail, _halve_digits(tail)))
    return out.astype(x.dtype).reshape(x.shape)[()]


def _erfc_near(x: Array) -> Any:
    rest = x * erf_near(x)
    return np.where(x < 0.25, 1.0 - (x + rest), 0.5 - ((x - 0.5) + rest))


def erf_near(x: Any) -> Any:
    """Return erf(x) / x - 1 for |x| <= 1: an array, or a symbol of a formula."""
    return polynomial(ERF_NEAR, x * x)


def erfc_tail(x: Any, z: Any) -> Any:
    """Return erfc(x) for x >= 0, as P((x - 3) / (x + 3)) / (1 + 2 x) * exp(-x^2): an array, or a symbol of a formula.

    exp(-x^2) would lose digits for large x: z is x with half of its digits, so that z^2 is exact.
    """
    y = polynomial(ERFC_FAR, (x - 3.0) / (x + 3.0)) / (1.0 + 2.0 * x) * np.exp(-z * z)
    return y + y * np.expm1((z - x) * (z + x))


def _halve_digits(x: Array) -> Array:
    """Return numbers without the last half of their digits."""
    return (x.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)


def ratio(top: tuple[float, ...], bottom: tuple[float, ...], x: Any) -> Any:
    """Return the quotient of two polynomials."""
    value = polynomial(top, x)
    value /= polynomial(bottom, x)
    return value


def polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value *= x
        value += coefficient
    return value


ERF_NEAR = (
    0.12837916709551256,
    -0.37612638903183543,
    0.11283791670945006,
    -0.02686617064323777,
    0.0052239776071164225,
    -0.0008548325975389692,
    0.00012055294904839707,
    -1.492473690741966e-05,
    1.6447424703317362e-06,
    -1.6208483801871705e-07,
    1.3720064546777686e-08,
    -7.795898827002142e-10,
)
ERFC_FAR = (
    1.2530080582697296,
    -0.1356211061245812,
    -0.04756229435341897,
    0.12964515870276264,
    -0.11927366341681594,
    0.06830802734392144,
    -0.023770514890662273,
    0.002529391816799663,
    0.0018886900908332905,
    -0.0007798322772742547,
    -0.00010515828085467254,
    0.00012509937435915822,
    4.944031214882928e-06,
    -2.0100627664406107e-05,
    -7.186149396303622e-07,
    3.472520280065519e-06,
    3.3649033965298255e-07,
    -6.167709493550964e-07,
    -1.2038713923616526e-07,
    1.0195717375790894e-07,
    2.7779061599708634e-08,
    -1.3361953304404018e-08,
    -3.169592039553522e-09,
    9.948820947537195e-10,
)
"""Coefficients of polynomials that interpolate at Chebyshev nodes: relative errors of 8e-18 and 9e-17."""
_WA = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
_WB = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
_WC = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
_WD = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)

PARTS = (erf_of, erfc_of, _like, _erfc_near, erf_near, erfc_tail, _halve_digits, polynomial)
"""The functions of which erf and erfc are made; they need NumPy alone."""

NUMBERS = ("ERF_NEAR", "ERFC_FAR")
"""The names of the numbers that these functions read."""
