import numpy as np
import pytest
from plain import bits, number, product, runnable


@pytest.mark.parametrize("flip", [0, 1, 2])
def test_the_plain_product_is_that_of_the_stored_matrices(flip):
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    expected = 2.0 * a @ b + 3.0 * c
    stored = np.ascontiguousarray(a.T if flip == 1 else a), np.ascontiguousarray(b.T if flip == 2 else b)
    product(flip, 3, 5, 4, 2.0, stored[0].ravel(), stored[1].ravel(), 3.0, c.reshape(-1))
    np.testing.assert_allclose(c, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bits_and_number_are_inverse(dtype):
    value = np.dtype(dtype).type(-1.5)
    assert number(bits(value)) == value
    assert bits(value).itemsize == value.itemsize


def test_functions_of_a_kernel_call_one_another():
    text = "def half(x):\n    return real(0.5) * x\n\ndef run(x: reals, n: int) -> real:\n    return half(x[n])\n"
    assert runnable(text, "run", "float32")(np.arange(3, dtype=np.float32), 2) == 1.0
