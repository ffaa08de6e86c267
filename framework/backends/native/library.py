"""Elementary functions for kernels, in the kernel language.

They have no branches, so loops over them become vector code. The functions of the mathematical library are called
one number at a time, which costs 10 ns where these cost 1. Errors are up to these units in the last place (float64,
float32): exp 2, 1; expm1 3, 2; log 1, 1; log1p 2, 2; tanh 3, 3; erf 2, 2; erfc 6, 5. Special values are those of NumPy.
Each formula relies on the order of its operations.

Source:
    Moshier, Cephes mathematical library (1989), exp.c, log.c, expf.c, logf.c.
    For erf and erfc: ``framework.base.special``.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

from framework.base.arrays import LARGEST_EXPONENT
from framework.base.special import ERF_NEAR, ERFC_FAR

_DOUBLE = '''
def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2; n where a number has its exponent."""
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # leaves no fraction
    n = shifted - 6755399441055744.0
    r = (x - n * 0.693145751953125) - n * 1.4286068203094172e-6
    p = 2.5100424157005067e-8 * r + 2.7620138719733994e-7
    p = (p * r + 2.7557268378684192e-6) * r + 2.480152119021773e-5
    p = (p * r + 1.9841269863105968e-4) * r + 1.3888888917281794e-3
    p = (p * r + 8.333333333330051e-3) * r + 4.166666666662399e-2
    p = (p * r + 1.6666666666666669e-1) * r + 5.000000000000001e-1
    return bits(shifted) << 52, p * (r * r) + r


def log(x):
    """Return the natural logarithm."""
    tiny = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0 if tiny else x
    found = bits(scaled)
    n = number(((found >> 52) & 2047) | 4841369599423283200) - 4503599627371518.0
    n = n - 54.0 if tiny else n
    m = number((found & 4503599627370495) | 4602678819172646912)
    low = m < 0.70710678118654752
    n = n - 1.0 if low else n
    f = m + m - 1.0 if low else m - 1.0
    z = f * f
    p = (1.01875663804580931796e-4 * f + 4.97494994976747001425e-1) * f + 4.70579119878881725854
    p = ((p * f + 1.44989225341610930846e1) * f + 1.79368678507819816313e1) * f + 7.70838733755885391666
    q = ((f + 1.12873587189167450590e1) * f + 4.52279145837532221105e1) * f + 8.29875266912776603211e1
    q = (q * f + 7.11544750618563894466e1) * f + 2.31251620126765340583e1
    y = f * (z * p / q) - n * 2.121944400546905827679e-4 - 0.5 * z
    y = f + y + n * 0.693359375
    y = y if x < inf else x
    y = nan if x < 0.0 else y
    return -inf if x == 0.0 else y
'''

_SINGLE = '''
def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2; n where a number has its exponent."""
    shifted = x * 1.4426950408889634 + 12582912.0  # leaves no fraction
    n = shifted - 12582912.0
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = 1.9875691500e-4 * r + 1.3981999507e-3
    p = (p * r + 8.3334519073e-3) * r + 4.1665795894e-2
    p = (p * r + 1.6666665459e-1) * r + 5.0000001201e-1
    return bits(shifted) << 23, p * (r * r) + r


def log(x):
    """Return the natural logarithm."""
    tiny = x < 1.17549435e-38
    scaled = x * 16777216.0 if tiny else x
    found = bits(scaled)
    n = number(((found >> 23) & 255) | 1258291200) - 8388734.0
    n = n - 24.0 if tiny else n
    m = number((found & 8388607) | 1056964608)
    low = m < 0.70710678
    n = n - 1.0 if low else n
    f = m + m - 1.0 if low else m - 1.0
    z = f * f
    p = 7.0376836292e-2 * f - 1.1514610310e-1
    p = (p * f + 1.1676998740e-1) * f - 1.2420140846e-1
    p = (p * f + 1.4249322787e-1) * f - 1.6668057665e-1
    p = (p * f + 2.0000714765e-1) * f - 2.4999993993e-1
    p = p * f + 3.3333331174e-1
    y = f * z * p - n * 2.12194440e-4 - 0.5 * z
    y = f + y + n * 0.693359375
    y = y if x < inf else x
    y = nan if x < 0.0 else y
    return -inf if x == 0.0 else y
'''

_TRANSCENDENTAL = '''
def exp(x):
    """Return the exponential. n is added to the bits of the exponent; 64 more where the result is tiny."""
    least = {low} if x < {low} else x
    n, change = reduced_exponential(least)
    tiny = x < {tiny}
    scaled = number(bits(1.0 + change) + (n + {shift} if tiny else n))
    scaled = scaled * 5.421010862427522e-20 if tiny else scaled
    return scaled if x <= {high} else x + inf


def expm1(x):
    """Return exp(x) - 1."""
    least = {least} if x < {least} else x
    n, change = reduced_exponential(least)
    scale = number(n + {one})
    small, large = change * scale + (scale - 1.0), number(bits(1.0 + change) + n)
    large = large if x <= {high} else x + inf
    return copysign(small if x < 41.9 else large, x)


def log1p(x):
    """Return log(1 + x), corrected by what the sum 1 + x loses."""
    u = 1.0 + x
    lost = (x - (u - 1.0)) / u if 0.0 < u < inf else 0.0
    return copysign(log(u) + lost, x)


def tanh(x):
    """Return the hyperbolic tangent, from exp(2 |x|) - 1."""
    size = abs(x)
    size = 22.0 if size > 22.0 else size
    t = expm1(size + size)
    t = t / (t + 2.0)
    return copysign(t, x)


def erf_near(x):
    """Return erf(x) = x + x P(x^2), for |x| <= 1."""
    t = x * x
    return x + x * {erf}


def erfc_far(size):
    """Return 1 - erf(x) for x = size >= 0: P((x - 3) / (x + 3)) / (1 + 2 x) * exp(-x^2).

    exp(-x^2) would lose digits for large x: x^2 is the square of a number of half the digits, and what is left.
    """
    x = {far} if size > {far} else size
    t = (x - 3.0) / (x + 3.0)
    short = number(bits(x) & {half})
    left = (short - x) * (short + x)
    y = {erfc} / (1.0 + 2.0 * x) * exp(-(short * short))
    return y + y * (left + left * left * (0.5 + left * (0.16666666666666666 + left * 0.041666666666666664)))


def erf(x):
    """Return the error function."""
    return erf_near(x) if abs(x) < 1.0 else copysign(1.0 - erfc_far(abs(x)), x)


def erfc(x):
    """Return 1 - erf(x), accurate where that is tiny."""
    far = erfc_far(abs(x))
    return 1.0 - erf_near(x) if abs(x) < 0.5 else (2.0 - far if x < 0.0 else far)
'''

_SHARED = '''
def logaddexp(a, b):
    """Return log(exp(a) + exp(b))."""
    larger = a if a > b else b
    return a + 0.6931471805599453 if a == b else larger + log1p(exp(-abs(a - b)))


def sign(x):
    """Return -1, 0 or 1; NaN of NaN."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x + 0.0)


def maximum(a, b):
    """Return the larger one; NaN where either is."""
    return a if (a > b) | (a != a) else b


def minimum(a, b):
    """Return the smaller one; NaN where either is."""
    return a if (a < b) | (a != a) else b


def fmax(a, b):
    """Return the larger one; the other where one is NaN."""
    return a if (a >= b) | (b != b) else b


def fmin(a, b):
    """Return the smaller one; the other where one is NaN."""
    return a if (a <= b) | (b != b) else b


def heaviside(x, at_zero):
    """Return 0 below 0, 1 above, ``at_zero`` at 0; NaN of NaN."""
    return at_zero if x == 0.0 else (1.0 if x > 0.0 else (0.0 if x < 0.0 else x))


def square(x):
    return x * x


def reciprocal(x):
    return 1.0 / x


def signbit(x):
    return bits(x) < 0


def isnan(x):
    return x != x


def isinf(x):
    return abs(x) == inf


def isfinite(x):
    return abs(x) < inf


def mod(a, b):
    """Return the remainder with the sign of b."""
    rest = fmod(a, b)
    low = (rest != 0.0) & ((rest < 0.0) != (b < 0.0))
    return rest + b if low else copysign(rest, b) if rest == 0.0 else rest


def floor_divide(a, b):
    """Return the quotient rounded down, which fits the remainder of ``mod``."""
    rest = fmod(a, b)
    quotient = (a - rest) / b
    quotient = quotient - 1.0 if (rest != 0.0) & ((rest < 0.0) != (b < 0.0)) else quotient
    down = floor(quotient)
    down = down + 1.0 if quotient - down > 0.5 else down
    return a / b if b == 0.0 else copysign(0.0, a / b) if quotient == 0.0 else down
'''

_ERFC_SINGLE = (
    1.2530080563514496,
    -0.13562110005839803,
    -0.047562156146354076,
    0.1296447209153884,
    -0.11927528136881009,
    0.06831319671956372,
    -0.023763559702172088,
    0.0025067786718598333,
    0.001875060245867973,
    -0.0007340820503933423,
    -9.25376912641456e-05,
    8.007454974776248e-05,
)
_ERF_SINGLE = (
    0.12837916584835093,
    -0.37612626666720334,
    0.11283594715160218,
    -0.026854212010626412,
    0.005189087423433974,
    -0.000801686428716587,
    7.875875062685488e-05,
)
"""Coefficients as in ``framework.base.special``, for float32: relative errors of 7e-9 and 1e-9."""


def _polynomial(coefficients: tuple[float, ...]) -> str:
    """Return the text of c0 + c1 t + c2 t^2 + ..., by Horner's rule.

    Example:
        >>> _polynomial((1.0, 2.0, 3.0))
        '((3.0 * t + 2.0) * t + 1.0)'
    """
    *rest, text = map(repr, coefficients)
    for coefficient in reversed(rest):
        text = f"({text} * t + {coefficient})"
    return text


_FORMS: dict[str, dict[str, Any]] = {
    "double": {"high": LARGEST_EXPONENT["float64"], "least": -40.0, "low": -746.0, "tiny": -708.0}
    | {"one": 1023 << 52, "shift": 64 << 52, "far": 28.0, "half": -(1 << 27)}
    | {"erf": _polynomial(ERF_NEAR), "erfc": _polynomial(ERFC_FAR)},
    "float": {"high": LARGEST_EXPONENT["float32"], "least": -20.0, "low": -104.0, "tiny": -87.0}
    | {"one": 127 << 23, "shift": 64 << 23, "far": 11.0, "half": -(1 << 12)}
    | {"erf": _polynomial(_ERF_SINGLE), "erfc": _polynomial(_ERFC_SINGLE)},
}
"""The largest x with a finite exp(x); where exp(x) - 1 is -1, exp is 0, exp may be subnormal; the bits of 1, and of 64
in the exponent; where erfc is 0; a mask of half the bits of a number."""


@lru_cache
def library(kind: str) -> dict[str, ast.FunctionDef]:
    """Return the functions for ``kind``, LLVM's "double" or "float", by name."""
    text = (_DOUBLE if kind == "double" else _SINGLE) + _TRANSCENDENTAL.format(**_FORMS[kind]) + _SHARED
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
