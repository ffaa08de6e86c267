"""What a derivative through kinks looks like, and the forms of the logistic function and of softplus that are seen."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from framework.backends.programs import Program
from framework.backends.runtime import choose, chosen, masked
from framework.graph.gradient import derivative
from framework.graph.node import ancestors

H = np.array([-700.0, -40.0, -3.0, -1e-9, 0.0, 1e-9, 2.0, 36.0, 700.0])


def logistic(h):
    return np.exp(np.minimum(h, 0.0)) / (1.0 + np.exp(-np.abs(h)))


def softplus(h):
    return np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))


def operations(program):
    return sorted(node.op for node in ancestors([derivative(program.stable, program.first)]))


def exact(formula, h):
    """Return a formula of exp(-h) with 60 digits, rounded."""
    with localcontext(prec=60):
        return np.array([float(formula(Decimal(float(-x)).exp())) for x in h])


@pytest.mark.parametrize("scale", [1.0, -1.0, 0.5])
def test_softplus_has_the_logistic_function_as_its_derivative_to_the_last_bits(scale):
    program = Program(lambda h: softplus(scale * h))
    np.testing.assert_allclose(program.derivative(H), scale * exact(lambda e: 1 / (1 + e), scale * H), rtol=4e-16)
    assert "equal" not in operations(program), "no tie is broken: the two kinks cancel"


@pytest.mark.parametrize("scale", [1.0, -2.0])
def test_the_stable_logistic_keeps_the_accuracy_of_both_tails(scale):
    program = Program(lambda h: logistic(scale * h))
    h = H / 2
    np.testing.assert_allclose(program.derivative(h), scale * exact(lambda e: e / (1 + e) ** 2, scale * h), rtol=1e-15)


def test_forms_that_only_look_like_softplus_are_derived_by_the_rules():
    for form in (
        lambda h: np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(2 * h))),
        lambda h: np.maximum(h, 1.0) + np.log1p(np.exp(-np.abs(h))),
        lambda h: np.exp(np.minimum(h, 1.0)) / (1.0 + np.exp(-np.abs(h))),
        lambda h: np.exp(np.minimum(h, 0.0)) / (2.0 + np.exp(-np.abs(h))),
    ):
        h = np.array([-3.3, -0.4, 0.6, 2.2])
        expected = (form(h + 1e-6) - form(h - 1e-6)) / 2e-6
        np.testing.assert_allclose(Program(form).derivative(h), expected, rtol=1e-8, atol=1e-9)


def test_a_clip_is_one_mask():
    program = Program(lambda h: 3.0 * np.clip(h, -1.0, 1.0))
    assert operations(program).count("where") == 1
    assert program.derivative(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0.0, 0.0, 3.0, 0.0, 0.0]


def test_a_gradient_that_is_masked_never_meets_infinity():
    program = Program(lambda h: np.maximum(h, 0.0))
    h = np.array([[-1.0, 1.0]])
    assert program.pullback(np.array([[np.inf, 2.0]]), h).tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_choices_have_the_bits_of_numpy(dtype):
    rng = np.random.default_rng(0)
    condition = rng.random((5, 7)) < 0.5
    a, b = rng.normal(size=(2, 5, 7)).astype(dtype)
    a[~condition], b[condition] = np.nan, np.inf
    for x in (a, dtype(0.3), 1.0):
        for y in (b, dtype(-0.7), 0.0):
            expected = np.where(condition, x, y).astype(dtype)
            assert choose(condition, x, y, np.empty_like(a)).tobytes() == expected.tobytes()
            found = chosen(condition, x, y, dtype)
            assert found.dtype == dtype
            assert found.tobytes() == expected.tobytes()
    assert masked(condition, a, np.empty_like(a)).tobytes() == np.where(condition, a, dtype(0)).tobytes()


def test_choices_of_numbers_keep_the_dtype():
    assert type(chosen(np.True_, 1.0, np.float32(2.0), np.float32)) is np.float32
    assert chosen(np.False_, 1.0, np.float32(2.0), np.float32) == 2.0
