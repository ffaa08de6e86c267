import sys

import numpy as np
import pytest

from framework.backends.native import compile_kernel
from framework.data.fingerprints import sum_and_fingerprint

RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.normal(size=(311, 41)),
    RNG.normal(size=(97, 211)).astype(np.float32),
    RNG.normal(size=1021).astype(np.float16),
    RNG.integers(-5, 5, (40, 300)),
    RNG.integers(0, 2, 10_000).astype(bool),
    np.array([], np.float32),
]


@pytest.fixture
def both(monkeypatch):
    """Return a function that makes a pass with native code and with NumPy."""
    compile_kernel("def run(x: reals):\n    x[0] = 1.0", "run", "float64")  # which loads llvmlite

    def results(array):
        native = sum_and_fingerprint(array)
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "llvmlite.binding")
            return native, sum_and_fingerprint(array)

    return results


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.name} {array.shape}")
def test_a_fingerprint_is_the_same_with_and_without_native_code(both, array):
    (native, total), (numpy, sum_) = both(array)
    assert native == numpy
    assert np.isfinite(total) == np.isfinite(sum_)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numbers_that_are_not_finite_are_seen_wherever_they_are(both, dtype):
    array = np.full(1021 * 5, np.finfo(dtype).max / 8192, dtype)
    array[::3] *= -1
    array[::7] = np.finfo(dtype).smallest_subnormal
    assert np.isfinite(both(array)[0][1])
    for place in (0, 1, 2040, 2041, 2042, len(array) - 1):
        for value in (np.inf, -np.inf, np.nan, -np.nan):
            changed = array.copy()
            changed[place] = value
            assert not np.isfinite(both(changed)[0][1])
