"""The error functions, against the C library's and SciPy's."""

import math

import numpy as np
import pytest
import scipy.special

from framework.formulas import erf, erfc

RNG = np.random.default_rng(0)
X = np.concatenate(
    [
        RNG.normal(size=20_000) * 3,
        RNG.uniform(-30, 30, 20_000),
        10.0 ** RNG.uniform(-300, 2, 5_000),
        -(10.0 ** RNG.uniform(-300, 2, 5_000)),
        [edge + shift for edge in (0.25, 0.84375, 1.25, 1 / 0.35, 27.2, 28.0) for shift in (-1e-15, 0, 1e-15)],
        [0.0, np.inf, -np.inf, 5e-324, -5e-324],
    ]
)


@pytest.mark.parametrize(("function", "one"), [(erf, math.erf), (erfc, math.erfc)])
def test_values_are_those_of_the_c_library_to_a_few_ulps(function, one):
    expected = np.array([one(x) for x in X])
    ulps = np.abs(function(X) - expected) / np.spacing(np.maximum(np.abs(expected), np.finfo(float).tiny))
    assert ulps.max() <= 4


@pytest.mark.parametrize(("function", "oracle"), [(erf, scipy.special.erf), (erfc, scipy.special.erfc)])
def test_shape_dtype_and_order_are_kept(function, oracle):
    for x in (RNG.normal(size=(3, 4, 5)), RNG.normal(size=(4, 6)).astype("f4").T, np.float32(0.5), np.zeros((0, 3))):
        value = function(x)
        assert np.shape(value) == np.shape(x)
        assert value.dtype == x.dtype
        np.testing.assert_allclose(value, oracle(x), rtol=3e-7 if x.dtype == np.float32 else 1e-15)
    assert function([0, 1]).tolist() == function(np.array([0.0, 1.0])).tolist()


def test_nan_and_the_sign_of_zero_stay():
    assert np.isnan([erf(np.nan), erfc(np.nan)]).all()
    assert math.copysign(1, erf(-0.0)) == -1
    assert (erf(-np.inf), erfc(-np.inf), erfc(np.inf)) == (-1, 2, 0)
