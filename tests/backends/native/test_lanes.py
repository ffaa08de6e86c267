"""Products over lanes are those of NumPy, model by model."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework.backends.native import compile_kernel
from framework.backends.native.lanes import lanes_text
from framework.backends.native.machine import processor
from framework.backends.native.tiles import Registers


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("number", [16, 32])
def test_each_lane_has_the_product_of_its_model(number, dtype):
    lanes, rng = 8, np.random.default_rng(0)
    text = lanes_text("lanes_product", lanes, Registers(processor().registers.width, number))
    function = compile_kernel(text, "lanes_product", dtype)
    for m, n, k in ((1, 1, 1), (13, 11, 5), (2, 3, 40), (8, 4, 0)):
        a = rng.normal(size=(m, k, lanes)).astype(dtype)
        b, before = rng.normal(size=(n, k, lanes)).astype(dtype), rng.normal(size=(n, m, lanes)).astype(dtype)
        factor = rng.normal(size=lanes).astype(dtype)
        expected = np.einsum("mkl,nkl->nml", a, b)
        for adds, result in enumerate((expected, before + factor * expected)):
            c = before.copy()
            sizes = m, n, k, np.append(a, 0).astype(dtype), k * lanes, lanes, np.append(b, 0).astype(dtype)
            function(*sizes, k * lanes, lanes, adds, factor, c, lanes, m * lanes)
            tolerance = 1e-5 if dtype == "float32" else 1e-13
            np.testing.assert_allclose(c, result, rtol=tolerance, atol=tolerance)
