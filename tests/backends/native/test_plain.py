import numpy as np
import pytest
from plain import bits, number, runnable


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bits_and_number_are_inverse(dtype):
    value = np.dtype(dtype).type(-1.5)
    assert number(bits(value)) == value
    assert bits(value).itemsize == value.itemsize


def test_functions_of_a_kernel_call_one_another():
    text = "def half(x):\n    return real(0.5) * x\n\ndef run(x: reals, n: int) -> real:\n    return half(x[n])\n"
    assert runnable(text, "run", "float32")(np.arange(3, dtype=np.float32), 2) == 1.0
