"""The accuracy of the elementary functions, in units of the last place (ulp), over the whole range of both dtypes."""

import math

import numpy as np
import pytest

from framework.backends.native import compile_kernel

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])
LONG = np.longdouble

EXACT = {
    "exp(x)": np.exp,
    "expm1(x)": np.expm1,
    "log(x)": np.log,
    "log1p(x)": np.log1p,
    "tanh(x)": np.tanh,
    "erf(x)": np.vectorize(math.erf, otypes=[LONG]),  # right to 1 ulp of float64
    "erfc(x)": np.vectorize(math.erfc, otypes=[LONG]),
}
BOUNDS = {"float64": (2, 3, 1, 2, 3, 2, 6), "float32": (1, 2, 1, 2, 3, 2, 5)}


def everywhere(dtype, count=20_000):
    """Return numbers of all magnitudes, and more where the functions bend."""
    rng = np.random.default_rng(0)
    width = np.dtype(dtype).itemsize
    numbers = rng.integers(0, 256, count * width, dtype=np.uint8).view(dtype)
    largest = {"float64": 750, "float32": 110}[dtype]
    near = [rng.uniform(-most, most, count // 2) for most in (1e-3, 1, 3, 28, largest)]
    return np.concatenate([numbers[np.isfinite(numbers)], *near]).astype(dtype)


def values(formula, x):
    text = (
        f"def run(of: reals, to: reals, n: int):\n    for i in range(n):\n        x = of[i]\n        to[i] = {formula}"
    )
    out = np.empty_like(x)
    compile_kernel(text, "run", x.dtype.name)(x, out, len(x))
    return out


def errors(found, exact):
    """Return how far numbers are from exact ones, in units of the last place; 0 where none of the dtype is nearer."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = exact.astype(found.dtype)
        unit = np.spacing(np.abs(nearest)).astype(LONG)
        same = (found == nearest) | (np.isnan(found) & np.isnan(nearest))
        return np.where(same, 0, np.abs(found.astype(LONG) - exact) / unit)


@pytest.mark.share(1 / 3)
@pytest.mark.skipif(np.finfo(LONG).nmant < 63, reason="the oracle needs wider numbers than float64")
@DTYPES
@pytest.mark.parametrize("place", range(len(EXACT)), ids=[*EXACT])
def test_a_function_is_right_to_a_few_units_of_the_last_place(dtype, place):
    formula, exact = list(EXACT.items())[place]
    x = everywhere(dtype)
    x = np.abs(x) if formula == "log(x)" else x[x > -1] if formula == "log1p(x)" else x
    with np.errstate(all="ignore"):
        error = errors(values(formula, x), exact(x.astype(LONG)))
    worst = error.argmax()
    assert error[worst] <= BOUNDS[dtype][place], x[worst]


@DTYPES
def test_special_values_are_those_of_numpy(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, tiny, -tiny, -2.0, np.finfo(dtype).max], dtype)
    with np.errstate(all="ignore"):
        for name in ("exp", "expm1", "log", "log1p", "tanh", "sign"):
            found, expected = values(f"{name}(x)", x), getattr(np, name)(x)
            np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)
            known = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(expected[known]), err_msg=name)
    for name, expected in {"erf": [0, -0.0, 1, -1, np.nan], "erfc": [1, 1, 0, 2, np.nan]}.items():
        found = values(f"{name}(x)", x[[0, 1, 4, 5, 6]])
        np.testing.assert_array_equal(found, expected, err_msg=name)
        np.testing.assert_array_equal(np.signbit(found[:4]), np.signbit(expected[:4]), err_msg=name)


@DTYPES
def test_exponentials_are_finite_up_to_the_last_number_with_a_finite_one(dtype):
    last = {"float64": 709.782712893384, "float32": 88.72283}[dtype]  # log of the largest number
    x = np.array([last, np.nextafter(np.dtype(dtype).type(last), np.dtype(dtype).type(np.inf))], dtype)
    for name in ("exp", "expm1"):
        assert np.isfinite(values(f"{name}(x)", x)).tolist() == [True, False], name


@DTYPES
def test_exponentials_of_any_nan_are_nan(dtype):
    kind, bits = {"float64": (np.uint64, 52), "float32": (np.uint32, 23)}[dtype]
    quiet, negative = kind(2 ** (bits - 1)), kind(2 ** (np.dtype(dtype).itemsize * 8 - 1))
    payloads = np.arange(1, 4096, dtype=kind) | kind(np.array(np.inf, dtype).view(kind)) | quiet
    x = np.concatenate([payloads, payloads | negative]).view(dtype)
    for name in ("exp", "expm1", "tanh"):
        assert np.isnan(values(f"{name}(x)", x)).all(), name


@DTYPES
def test_a_function_of_one_number_is_the_same_as_of_many(dtype):
    x = np.linspace(-3, 3, 67, dtype=dtype)
    for formula in EXACT:
        one = np.concatenate([values(formula, x[i : i + 1]) for i in range(len(x))])
        np.testing.assert_array_equal(one, values(formula, x), err_msg=formula)
