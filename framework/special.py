"""Functions that NumPy lacks: the error functions and the normal deviate, right to a few ulps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from framework.arrays import Array, floats

# A symbol of a traced formula is recorded by the name of these; numbers never go through them.
_ERF = np.frompyfunc(math.erf, 1, 1)
_ERFC = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Any) -> Any:
    """Return 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Example:
        >>> erf(np.array([0.0, 1.0]))
        array([0.        , 0.84270079])

    Source:
        Cody, Rational Chebyshev approximations for the error function (1969), for the method; the coefficients and the
        intervals are those of the C library fdlibm (Sun Microsystems, 1993), file s_erf.c.
    """
    return _ERF(x) if _is_symbol(x) else erf_of(floats(x, "x"))


def erfc(x: Any) -> Any:
    """Return 1 - erf(x), accurate where that is tiny.

    Example:
        >>> float(erfc(10.0))
        2.088487583762545e-45

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
    """Evaluate in float64, each element on its interval of |x|, and give the result the shape and dtype of x."""
    a = x.astype(np.float64).reshape(-1)
    size = np.abs(a)
    out = np.where(np.isnan(a), a, 0.0)
    for place, (start, stop) in enumerate(itertools.pairwise(EDGES)):
        chosen = np.flatnonzero((size >= start) & (size < stop))
        if len(chosen):
            part = a[chosen]
            out[chosen] = near(part) if place == 0 else from_tail(part, erfc_tail(np.abs(part), _halved(part), place))
    chosen = np.flatnonzero(size >= EDGES[-1])
    out[chosen] = from_tail(a[chosen], np.zeros(len(chosen)))
    return out.astype(x.dtype).reshape(x.shape)[()]


def _erfc_near(x: Array) -> Any:
    rest = x * erf_near(x)
    return np.where(x < 0.25, 1.0 - (x + rest), 0.5 - ((x - 0.5) + rest))


def erf_near(x: Any) -> Any:
    """Return erf(x) / x - 1 for |x| < 0.84375: an array, or a symbol of a formula."""
    return ratio(_PP, _QQ, x * x)


def erfc_tail(x: Any, z: Any, place: int) -> Any:
    """Return erfc(x) for x in the interval between two edges, of which ``place`` counts the first.

    exp(-x^2) would lose digits for large x: z is x with half of its digits, so that z^2 is exact.
    """
    if place == 1:
        return (1.0 - _ERX) - ratio(_PA, _QA, x - 1.0)
    top, bottom = (_RA, _SA) if place == 2 else (_RB, _SB)
    inner = (z - x) * (z + x) + ratio(top, bottom, 1.0 / (x * x))
    return np.exp(-z * z - 0.5625) * np.exp(inner) / x


def _halved(x: Array) -> Array:
    """Return |x| without the last half of its digits."""
    return (np.abs(x).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)


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


EDGES = (0.0, 0.84375, 1.25, 1.0 / 0.35, 28.0)
"""Between two of these, |x| has a formula of its own."""
_ERX = 8.45062911510467529297e-01
_PP = (
    1.28379167095512558561e-01,
    -3.25042107247001499370e-01,
    -2.84817495755985104766e-02,
    -5.77027029648944159157e-03,
    -2.37630166566501626084e-05,
)
_QQ = (
    1.0,
    3.97917223959155352819e-01,
    6.50222499887672944485e-02,
    5.08130628187576562776e-03,
    1.32494738004321644526e-04,
    -3.96022827877536812320e-06,
)
_PA = (
    -2.36211856075265944077e-03,
    4.14856118683748331666e-01,
    -3.72207876035701323847e-01,
    3.18346619901161753674e-01,
    -1.10894694282396677476e-01,
    3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)
_QA = (
    1.0,
    1.06420880400844228286e-01,
    5.40397917702171048937e-01,
    7.18286544141962662868e-02,
    1.26171219808761642112e-01,
    1.36370839120290507362e-02,
    1.19844998467991074170e-02,
)
_RA = (
    -9.86494403484714822705e-03,
    -6.93858572707181764372e-01,
    -1.05586262253232909814e01,
    -6.23753324503260060396e01,
    -1.62396669462573470355e02,
    -1.84605092906711035994e02,
    -8.12874355063065934246e01,
    -9.81432934416914548592e00,
)
_SA = (
    1.0,
    1.96512716674392571292e01,
    1.37657754143519042600e02,
    4.34565877475229228821e02,
    6.45387271733267880336e02,
    4.29008140027567833386e02,
    1.08635005541779435134e02,
    6.57024977031928170135e00,
    -6.04244152148580987438e-02,
)
_RB = (
    -9.86494292470009928597e-03,
    -7.99283237680523006574e-01,
    -1.77579549177547519889e01,
    -1.60636384855821916062e02,
    -6.37566443368389627722e02,
    -1.02509513161107724954e03,
    -4.83519191608651397019e02,
)
_SB = (
    1.0,
    3.03380607434824582924e01,
    3.25792512996573918826e02,
    1.53672958608443695994e03,
    3.19985821950859553908e03,
    2.55305040643316442583e03,
    4.74528541206955367215e02,
    -2.24409524465858183362e01,
)
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

PARTS = (erf_of, erfc_of, _like, _erfc_near, erf_near, erfc_tail, _halved, ratio, polynomial)
"""The functions of which erf and erfc are made; they need NumPy alone."""

NUMBERS = ("EDGES", "_ERX", "_PP", "_QQ", "_PA", "_QA", "_RA", "_SA", "_RB", "_SB")
"""The names of the numbers that these functions read."""
