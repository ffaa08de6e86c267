"""Elementary functions without branches, as source for the kernels: LLVM turns a loop over them into vector code.

The functions of the mathematical library are called one number at a time, which costs 10 ns where these cost 1. Here
exp, log and log1p are accurate to 2 units in the last place, expm1 and tanh to 5. NaN and infinity are kept, 0 is
reached gradually, and -0.0 loses its sign. They rely on the order of their operations, so they are compiled without
``reassoc``. ``real`` is the kernel's dtype.

Source: Moshier, Cephes mathematical library (1989), exp.c, log.c, expf.c, logf.c.
"""

from __future__ import annotations

_DOUBLE = '''
@formula
def scale_of_two(n):
    """Return 2^n for a whole number -1022 <= n <= 1023, written into the bits of the exponent."""
    bits = np.float64(n + 6755399441055744.0).view(np.int64) << 52
    return np.int64(bits + 4607182418800017408).view(np.float64)


@formula
def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2."""
    n = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0  # leaves no fraction
    r = (x - n * 0.693145751953125) - n * 1.4286068203094172e-6
    z = r * r
    p = r * ((1.2617719307481059e-4 * z + 3.0299440770744196e-2) * z + 1.0)
    q = ((3.0019850513866446e-6 * z + 2.5244834034968410e-3) * z + 2.2726554820815503e-1) * z + 2.0
    return n, 2.0 * p / (q - p)


@formula
def log(x):
    """Return the natural logarithm."""
    tiny = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0 if tiny else x
    bits = np.float64(scaled).view(np.int64)
    n = np.int64(((bits >> 52) & 2047) | 4841369599423283200).view(np.float64) - 4503599627371518.0
    n = n - 54.0 if tiny else n
    m = np.int64((bits & 4503599627370495) | 4602678819172646912).view(np.float64)
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
    y = y if x < np.inf else x
    y = np.nan if x < 0.0 else y
    return -np.inf if x == 0.0 else y
'''

_SINGLE = '''
@formula
def scale_of_two(n):
    """Return 2^n for a whole number -126 <= n <= 127, written into the bits of the exponent."""
    bits = np.int32(np.float32(n + real(12582912.0)).view(np.int32) << np.int32(23))
    return np.int32(bits + np.int32(1065353216)).view(np.float32)


@formula
def reduced_exponential(x):
    """Return (n, exp(r) - 1) with x = n log 2 + r, |r| <= log(2) / 2."""
    n = (x * real(1.4426950408889634) + real(12582912.0)) - real(12582912.0)  # leaves no fraction
    r = (x - n * real(0.693359375)) + n * real(2.12194440e-4)
    p = real(1.9875691500e-4) * r + real(1.3981999507e-3)
    p = (p * r + real(8.3334519073e-3)) * r + real(4.1665795894e-2)
    p = (p * r + real(1.6666665459e-1)) * r + real(5.0000001201e-1)
    return n, p * (r * r) + r


@formula
def log(x):
    """Return the natural logarithm."""
    tiny = x < real(1.17549435e-38)
    scaled = x * real(16777216.0) if tiny else x
    bits = np.float32(scaled).view(np.int32)
    n = real(np.int32(np.int32(bits >> np.int32(23)) & np.int32(255))) - real(126.0)
    n = n - real(24.0) if tiny else n
    m = np.int32(np.int32(bits & np.int32(8388607)) | np.int32(1056964608)).view(np.float32)
    low = m < real(0.70710678)
    n = n - real(1.0) if low else n
    f = m + m - real(1.0) if low else m - real(1.0)
    z = f * f
    p = real(7.0376836292e-2) * f - real(1.1514610310e-1)
    p = (p * f + real(1.1676998740e-1)) * f - real(1.2420140846e-1)
    p = (p * f + real(1.4249322787e-1)) * f - real(1.6668057665e-1)
    p = (p * f + real(2.0000714765e-1)) * f - real(2.4999993993e-1)
    p = p * f + real(3.3333331174e-1)
    y = f * z * p - n * real(2.12194440e-4) - real(0.5) * z
    y = f + y + n * real(0.693359375)
    y = y if x < real(np.inf) else x
    y = real(np.nan) if x < real(0.0) else y
    return real(-np.inf) if x == real(0.0) else y
'''

_TRANSCENDENTAL = '''
@formula
def exp(x):
    """Return the exponential."""
    x = real({high}) if x > real({high}) else x
    x = real({low}) if x < real({low}) else x
    n, change = reduced_exponential(x)
    half = (real(0.5) * n + real({whole})) - real({whole})
    return (real(1.0) + change) * scale_of_two(half) * scale_of_two(n - half)


@formula
def expm1(x):
    """Return exp(x) - 1."""
    x = real({high}) if x > real({high}) else x
    x = real({least}) if x < real({least}) else x
    n, change = reduced_exponential(x)
    half = (real(0.5) * n + real({whole})) - real({whole})
    first, second = scale_of_two(half), scale_of_two(n - half)
    scale = first * second
    small, large = change * scale + (scale - real(1.0)), (real(1.0) + change) * first * second
    return large if n > real(60.0) else small


@formula
def log1p(x):
    """Return log(1 + x), corrected by what the sum 1 + x loses."""
    u = real(1.0) + x
    lost = (x - (u - real(1.0))) / u if real(0.0) < u < real(np.inf) else real(0.0)
    return log(u) + lost


@formula
def tanh(x):
    """Return the hyperbolic tangent, from exp(2 |x|) - 1."""
    size = abs(x)
    size = real(22.0) if size > real(22.0) else size
    t = expm1(size + size)
    t = t / (t + real(2.0))
    return -t if x < real(0.0) else t


'''

_SHARED = '''
@formula
def logaddexp(a, b):
    """Return log(exp(a) + exp(b))."""
    larger = a if a > b else b
    return a + real(0.6931471805599453) if a == b else larger + log1p(exp(-abs(a - b)))


@formula
def sign(x):
    """Return -1, 0 or 1; NaN of NaN."""
    return real(1.0) if x > real(0.0) else (real(-1.0) if x < real(0.0) else x)


@formula
def maximum(a, b):
    """Return the larger one; NaN where either is."""
    return a if (a > b) | (a != a) else b


@formula
def minimum(a, b):
    """Return the smaller one; NaN where either is."""
    return a if (a < b) | (a != a) else b


@formula
def heaviside(x, at_zero):
    """Return 0 below 0, 1 above, ``at_zero`` at 0; NaN of NaN."""
    return at_zero if x == real(0.0) else (real(1.0) if x > real(0.0) else (real(0.0) if x < real(0.0) else x))
'''


_LIMITS = {
    "float64": {"high": 710.0, "low": -746.0, "least": -40.0, "whole": 6755399441055744.0},
    "float32": {"high": 89.0, "low": -104.0, "least": -20.0, "whole": 12582912.0},
}
"""Where exp is infinite, 0 and exp(x) - 1 is -1; and a number that leaves no fraction when it is added."""

_LIBRARY = """
exp, expm1, log, log1p, tanh = math.exp, math.expm1, math.log, math.log1p, math.tanh
"""


def numeric_source(dtype: str, *, library: bool = False) -> str:
    """Return the source of the functions for ``"float64"`` or ``"float32"``.

    Args:
        dtype: The kernel's.
        library: Whether to take those of the mathematical library: faster where there is one number at a time.

    Example:
        >>> "def tanh(x):" in numeric_source("float32")
        True
    """
    own = _LIBRARY
    if not library:
        own = (_DOUBLE if dtype == "float64" else _SINGLE) + _TRANSCENDENTAL.format(**_LIMITS[dtype])
    return f"real = np.{dtype}\n\n{own}\n{_SHARED}"
