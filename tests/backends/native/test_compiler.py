"""A kernel as machine code computes what its text does as plain Python."""

import numpy as np
import pytest
from plain import runnable

from framework.backends.native import addresses, compile_kernel
from framework.backends.native.compiler import KernelError

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])

STATEMENTS = '''
def double_and_slope(x, rate):
    """Return 2 x and the rate."""
    y = x + x
    y = y if y > 0.0 else -y
    return y, rate


def scaled(x: reals, n: int, rate: real) -> real:
    total = real(0.0)
    for i in range(n):
        total += rate * x[i]
    return total


def touch(x: reals, n: int):
    if n == 0:
        return
    x[0] += real(1.0)


def run(x: reals, y: floats, order: ints, n: int, rate: real, size: float) -> float:
    total, count = 0.0, 0
    for i in range(1, n, 2):
        r = order[i]
        if x[r] < 0.0 and i != 3:
            continue
        elif not x[r] <= 2.0 or r == 5:
            count += 1
        else:
            pass
        a, slope = double_and_slope(x[r], rate)
        y[i] = a * size - float(slope)
        total += y[i]
    for i in range(n - 1, -1, -1):
        x[i] = -x[i] / (1.0 + abs(x[i])) if 0.0 < x[i] < 1.0 else x[i] * 0.5
        y[i] -= i
    touch(x, 0)
    touch(x[2:], n)
    later = y[n - 3:]
    later[1] *= 3.0
    order[0] = min(count, n, 4) + max(n // -3, -n % 7) + (n << 3 | 1) - (n >> 1 & 6) * 10 ** 2
    return total + count + scaled(x, n, rate)
'''


@DTYPES
def test_every_statement_does_what_it_does_in_python(dtype):
    rng = np.random.default_rng(0)
    x, y, order = rng.normal(size=20).astype(dtype), rng.normal(size=20), rng.permutation(20)
    plain = runnable(STATEMENTS, "run", dtype)
    expected, outcome = [(z.copy(), y.copy(), order.copy()) for z in (x, x)]
    result = plain(*expected, 20, np.dtype(dtype).type(0.3), 0.7)
    found = compile_kernel(STATEMENTS, "run", dtype)(*outcome, 20, 0.3, 0.7)
    rtol = 1e-13 if dtype == "float64" else 1e-6
    assert found == pytest.approx(result, rel=rtol)
    np.testing.assert_array_equal(outcome[2], expected[2])
    np.testing.assert_allclose(outcome[0], expected[0], rtol=rtol)
    np.testing.assert_allclose(outcome[1], expected[1], rtol=rtol)


TEXT_OF_FUNCTIONS = """
arccos(x) arccosh(x) arcsin(x) arcsinh(x) arctan(x) arctanh(x) cbrt(x) ceil(x) cos(x) cosh(x) erf(x) erfc(x) exp(x)
exp2(x) expm1(x) floor(x) isfinite(x) isinf(x) isnan(x) log(x) log10(x) log1p(x) log2(x) reciprocal(x) rint(x) sign(x)
signbit(x) sin(x) sinh(x) sqrt(x) square(x) tan(x) tanh(x) trunc(x) abs(x) arctan2(x,y) copysign(x,y) fmax(x,y)
floor_divide(x,y) fmin(x,y) fmod(x,y) heaviside(x,y) hypot(x,y) logaddexp(x,y) maximum(x,y) minimum(x,y) mod(x,y) x//y
x%y x**y
"""
FUNCTIONS = TEXT_OF_FUNCTIONS.split()


@DTYPES
def test_functions_are_those_of_numpy(dtype):
    lines = "".join(f"        out[{k} * n + i] = {call}\n" for k, call in enumerate(FUNCTIONS))
    head = "def run(p: reals, q: reals, out: reals, n: int):\n    for i in range(n):\n        x, y = p[i], q[i]\n"
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.5, -2.5, 3.0]
    values = np.concatenate([special, np.random.default_rng(0).normal(size=7)]).astype(dtype)
    x, y = (part.ravel() for part in np.meshgrid(values, values))
    found, expected = np.empty((2, len(FUNCTIONS), len(x)), dtype)
    compile_kernel(head + lines, "run", dtype)(x, y, found, len(x))
    with np.errstate(all="ignore"):
        runnable(head + lines, "run", dtype)(x, y, expected.reshape(-1), len(x))
    for name, *pair in zip(FUNCTIONS, found, expected, strict=True):
        np.testing.assert_allclose(*pair, rtol=4e-15 if dtype == "float64" else 1e-6, err_msg=name)


@DTYPES
def test_arrays_are_read_by_their_addresses(dtype):
    text = """
def run(arrays: arrays, n: int):
    x: reals = arrays[1]
    ids: ints = arrays[0]
    copy(x[n:], x, n)
    prefetch(x, -5)
    for i in range(n):
        x[i] = number(bits(x[ids[i]]))
"""
    for call in (
        lambda *given: compile_kernel(text, "run", dtype)(addresses(given[0]), given[1]),
        runnable(text, "run", dtype),
    ):
        ids, x = np.array([2, 2, 0]), np.array([1.0, -2.0, 3.0, 0.0, 0.0, 0.0], dtype)
        call([ids, x], 3)
        np.testing.assert_array_equal(x, [3.0, 3.0, 3.0, 1.0, -2.0, 3.0])


def test_divergence_is_seen():
    text = (
        "def run(x: reals, n: int) -> real:\n    t = real(0.0)\n    for i in range(n):\n        t += x[i]\n    return t"
    )
    assert np.isnan(compile_kernel(text, "run", "float32")(np.array([1.0, np.nan] * 40, np.float32), 80))
    assert compile_kernel(text, "run", "float32")(np.full(80, np.inf, np.float32), 80) == np.inf


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("y = z", "function run, line 2 of the kernel: z has no value yet"),
        ("while n:", "While is not in the kernel language"),
        ("a, b = n", "the numbers of names and of values differ"),
        ("return n", "a function that returns a number says which"),
        ("y = n[0]", "n is not an array"),
        ("y = x + 1", "expected numbers, got [*]double"),
        ("y = gamma(n)", "no function gamma"),
        ("y = exp(n, n)", r"wrong arguments: exp\(n, n\)"),
        ("y = x[1:2]", r"expected: array\[start:\]"),
        ("for i in x:", r"expected: for name in range\(...\)"),
        ("x[0] = early(x[0])", "function early, .*: a formula returns in its last statement"),
        ("y = bits(n)", r"wrong arguments: bits\(n\)"),
        ("y = half(n)", "function half of the kernel: expected one of int, float, .*; got nothing"),
        ("n[0] = 1", "n is not an array"),
        ("for i in range(n): k = 0; k += x[i]", r"expected an integer, .*; got a float; write int\(...\)"),
    ],
)
def test_errors_name_the_function_and_the_line(line, message):
    rest = "def early(x):\n    if x > 0.0:\n        return x\n    return -x\n\ndef half(x: real, y):\n    return x\n"
    text = f"def run(x: reals, n: int):\n    {line}{'pass' if line.endswith(':') else ''}\n\n{rest}"
    with pytest.raises(KernelError, match=message):
        compile_kernel(text, "run", "float64")


def test_a_bound_function_reads_its_arrays_where_they_lie():
    text = "def run(x: reals, i: int) -> real:\n    return x[i]"
    x = np.arange(4.0)
    function = compile_kernel(text, "run", "float64")
    at = function.at(*function.addresses_of(x))
    x[2] = 7.0
    assert [at(1), at(2)] == [1.0, 7.0]


@DTYPES
def test_a_formula_rounds_alike_in_vectors_and_in_the_rest_of_a_loop(dtype):
    units = range(4)
    names = ", ".join(f"{name}{unit}" for unit in units for name in "xyabcd")
    lines = [f"    r{u} = (x{u} * y{u} + a{u} - b{u}) * c{u} + d{u}" for u in units]
    formula = "\n".join([f"def formula({names}):", *lines, "    return r0, r1, r2, r3"])
    given = (*(f"{name}[4 * i + {{0}}]" for name in "xy"), *(f"{name}[{{0}}]" for name in "abcd"))
    arguments = ", ".join(text.format(unit) for unit in units for text in given)
    lines = [f"p0, p1, p2, p3 = formula({arguments})", *(f"z[4 * i + {unit}] = p{unit}" for unit in units)]
    head = f"def nest(n: int, {', '.join(f'{name}: reals' for name in 'xyabcdz')}):\n    for i in range(n):"
    nest = compile_kernel("\n".join([formula, head, *(f"        {line}" for line in lines)]), "nest", dtype)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 23 * 4)).astype(dtype)
    numbers = rng.normal(size=(4, 4)).astype(dtype)
    whole = np.zeros_like(x)
    nest(23, x, y, *numbers, whole)
    for start in range(23):
        part = np.zeros_like(x[4 * start :])
        nest(23 - start, x[4 * start :], y[4 * start :], *numbers, part)
        np.testing.assert_array_equal(part, whole[4 * start :])
