"""The one finite-difference core, against derivatives in closed form."""

import numpy as np
import pytest

from framework.formulas.derivatives import derivative_bounds, resolve_bounds

POINTS = np.array([-300.7, -2.3, -1e-5, 1e-5, 0.4, 1.0, 17.9])


@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (np.sin, np.cos),
        (lambda h: np.sin(1e5 * h), lambda h: 1e5 * np.cos(1e5 * h)),
        (lambda h: np.tanh(1e6 * h), lambda h: 1e6 / np.cosh(np.clip(1e6 * h, -300, 300)) ** 2),
        (lambda h: h * np.log(np.abs(h)), lambda h: 1 + np.log(np.abs(h))),
        (lambda h: 1e9 + h * h, lambda h: 2 * h),
        (lambda h: 1e-30 * np.tanh(h), lambda h: 1e-30 / np.cosh(h) ** 2),
        (np.cbrt, lambda h: 1 / (3 * np.cbrt(h) ** 2)),
    ],
    ids=["sine", "fast sine", "steep", "infinite curvature", "large offset", "tiny", "cube root"],
)
def test_resolved_bounds_hold_the_derivative_and_are_narrow(function, derivative):
    bounds, exact = resolve_bounds(function, POINTS), derivative(POINTS)
    assert bounds.hold(exact, 1e-9 * np.abs(exact))[bounds.judged].all()
    narrow = bounds.high - bounds.low < 0.02 * np.abs(exact).max()
    assert (bounds.judged & narrow).sum() >= 4


def test_a_kink_gives_both_sides_and_its_best_estimates():
    for measure in (derivative_bounds, resolve_bounds):
        bounds = measure(np.abs, np.array([0.0]))
        np.testing.assert_allclose([bounds.low[0], bounds.high[0]], [-1.0, 1.0], rtol=1e-3)
        np.testing.assert_allclose([bounds.left[0], bounds.right[0]], [-1.0, 1.0], rtol=1e-12)


@pytest.mark.parametrize(
    "function",
    [np.floor, np.cbrt, lambda h: h * np.log(np.maximum(np.abs(h), 1e-300))],
    ids=["jump", "cube root", "h log|h|"],
)
def test_a_jump_or_an_infinite_slope_is_not_judged(function):
    assert not resolve_bounds(function, np.array([0.0])).judged[0]


def test_a_fast_sine_far_from_0_is_not_taken_for_a_slow_one():
    point = np.array([329.578])
    bounds = resolve_bounds(lambda h: np.sin(1e4 * h), point)
    assert not bounds.judged[0] or bounds.hold(1e4 * np.cos(1e4 * point))[0]
