"""Functions that kernels may call besides their own, in the kernel language: elementary ones."""

from __future__ import annotations

import ast
from functools import lru_cache

_DOUBLE = '''
def scale_of_two(n):
    """Return 2^n for a whole number -1022 <= n <= 1023, written into the bits of the exponent."""
    return number((bits(n + 6755399441055744.0) << 52) + 4607182418800017408)


def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2."""
    n = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0  # leaves no fraction
    r = (x - n * 0.693145751953125) - n * 1.4286068203094172e-6
    z = r * r
    p = r * ((1.2617719307481059e-4 * z + 3.0299440770744196e-2) * z + 1.0)
    q = ((3.0019850513866446e-6 * z + 2.5244834034968410e-3) * z + 2.2726554820815503e-1) * z + 2.0
    return n, 2.0 * p / (q - p)


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
def scale_of_two(n):
    """Return 2^n for a whole number -126 <= n <= 127, written into the bits of the exponent."""
    return number((bits(n + 12582912.0) << 23) + 1065353216)


def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2."""
    n = (x * 1.4426950408889634 + 12582912.0) - 12582912.0  # leaves no fraction
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = 1.9875691500e-4 * r + 1.3981999507e-3
    p = (p * r + 8.3334519073e-3) * r + 4.1665795894e-2
    p = (p * r + 1.6666665459e-1) * r + 5.0000001201e-1
    return n, p * (r * r) + r


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
    """Return the exponential."""
    x = {high} if x > {high} else x
    x = {low} if x < {low} else x
    n, change = reduced_exponential(x)
    half = (0.5 * n + {whole}) - {whole}
    return (1.0 + change) * scale_of_two(half) * scale_of_two(n - half)


def expm1(x):
    """Return exp(x) - 1."""
    x = {high} if x > {high} else x
    x = {least} if x < {least} else x
    n, change = reduced_exponential(x)
    half = (0.5 * n + {whole}) - {whole}
    first, second = scale_of_two(half), scale_of_two(n - half)
    scale = first * second
    small, large = change * scale + (scale - 1.0), (1.0 + change) * first * second
    return large if n > 60.0 else small


def log1p(x):
    """Return log(1 + x), corrected by what the sum 1 + x loses."""
    u = 1.0 + x
    lost = (x - (u - 1.0)) / u if 0.0 < u < inf else 0.0
    return log(u) + lost


def tanh(x):
    """Return the hyperbolic tangent, from exp(2 |x|) - 1."""
    size = abs(x)
    size = 22.0 if size > 22.0 else size
    t = expm1(size + size)
    t = t / (t + 2.0)
    return -t if x < 0.0 else t
'''

_SHARED = '''
def logaddexp(a, b):
    """Return log(exp(a) + exp(b))."""
    larger = a if a > b else b
    return a + 0.6931471805599453 if a == b else larger + log1p(exp(-abs(a - b)))


def sign(x):
    """Return -1, 0 or 1; NaN of NaN."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x)


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

_LIMITS = {
    "double": {"high": 710.0, "low": -746.0, "least": -40.0, "whole": 6755399441055744.0},
    "float": {"high": 89.0, "low": -104.0, "least": -20.0, "whole": 12582912.0},
}
"""Where exp is infinite, 0 and exp(x) - 1 is -1; and a number that leaves no fraction when it is added."""


@lru_cache
def library(kind: str) -> dict[str, ast.FunctionDef]:
    """Return the functions for ``kind``, LLVM's "double" or "float", by name."""
    text = (_DOUBLE if kind == "double" else _SINGLE) + _TRANSCENDENTAL.format(**_LIMITS[kind]) + _SHARED
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
