"""Wrong derivatives are found and explained, and right ones pass, for activations, losses and layers."""

import math
import warnings

import numpy as np
import pytest
from formulas.derivatives.own_formulas import activation, loss, opaque, row_activation, softmax
from formulas.derivatives.right_formulas import DERIVED, LAYERS, LOSSES, ROW_ACTIVATIONS, ROW_LOSSES, UNDERIVED
from formulas.derivatives.wrong_formulas import UNDERIVED as WRONG_UNDERIVED, WRONG

from framework import Activation, Dense, DerivativeError, Layer, SettingsError
from framework.formulas import check_derivative

RIGHT = {
    **{f"activation, {name}": activation(*row) for name, row in {**DERIVED, **UNDERIVED}.items()},
    **{f"activation, {name}, derived": activation(row[0]) for name, row in DERIVED.items()},
    **{f"row activation, {name}": formula for name, formula in ROW_ACTIVATIONS.items()},
    **{f"loss, {name}": loss(*row) for name, row in LOSSES.items()},
    **{f"loss, {name}, derived": loss(row[0]) for name, row in LOSSES.items()},
    **{f"row loss, {name}": formula for name, formula in ROW_LOSSES.items()},
    **{f"layer, {name}": formula for name, formula in LAYERS.items()},
}
ADVICE = [
    "out and it is derived",
    "correct derivative",
    "the sign is wrong",
    "a constant factor is missing",
    "in terms of",
]
MAGNITUDES = np.array(
    [1e-6, 1e-3, 0.017, 0.11, 0.33, 0.47, 0.61, 0.93, 1.3, 2.2, 3.4, 5.7, 8.1, 12.9, 21.3, 48.7, 130.3]
)
POINTS = np.concatenate([-MAGNITUDES[::-1], MAGNITUDES])
"""Where derived and written derivatives are compared: away from the kinks of the formulas."""


def put_to_work(formula):
    """Check a formula as training does, in both dtypes."""
    for dtype in ("float64", "float32"):
        if isinstance(formula, Layer):
            formula.replace(dtype=dtype).parameters  # noqa: B018 (the first use checks)
            continue
        check_derivative(formula)
        if isinstance(formula, Activation):
            Dense(2, 3, formula, dtype=dtype, seed=0)
        else:
            model = Dense(2, 3, dtype=dtype, seed=0)
            model.forward(np.ones((3, 2)))
            formula.backward(model, np.eye(3))


def test_the_tables_are_as_long_as_they_should_be():
    assert len(WRONG) >= 110
    assert len(RIGHT) >= 150


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_derivative_is_found_and_explained(name):
    formula, explanation = WRONG[name]
    with pytest.raises(DerivativeError, match=explanation) as caught:
        put_to_work(formula)
    if not isinstance(formula, Layer):
        given = [advice for advice in ADVICE if advice in str(caught.value)]
        assert len(given) == 1, "one piece of advice, and no other that contradicts it"


@pytest.mark.parametrize("name", WRONG_UNDERIVED)
def test_nobody_is_told_to_derive_a_formula_that_cannot_be_derived(name):
    with pytest.raises(DerivativeError) as caught:
        put_to_work(WRONG_UNDERIVED[name][0])
    assert "leave derivative out" not in str(caught.value)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_derivative_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put_to_work(RIGHT[name])


@pytest.mark.parametrize("name", DERIVED)
def test_the_derived_derivative_is_the_one_in_closed_form(name):
    formula, derivative = DERIVED[name]
    with np.errstate(all="ignore"):
        expected = derivative(POINTS)
        defined = np.isfinite(formula(POINTS)) & np.isfinite(expected)
        found = activation(formula).derivative(POINTS)
    assert defined.sum() >= 10
    np.testing.assert_allclose(
        found[defined], expected[defined], rtol=1e-7, atol=1e-9 * np.abs(expected[defined]).max()
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [0.0, 1.0, -3.5, 40.0, 2500.0])
def test_the_derived_slope_of_a_loss_is_the_one_in_closed_form(name, target):
    value, slope = LOSSES[name]
    targets = np.full_like(POINTS, target)
    expected = slope(POINTS, targets)
    found = loss(value).slope(POINTS, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_an_activation_over_rows_may_serve_one_unit_unless_it_is_constant_there():
    share = row_activation(lambda h: h / (1 + np.sum(np.abs(h), axis=-1, keepdims=True)))
    Dense(3, 1, share, seed=0)
    with pytest.raises(SettingsError, match="constant"):
        Dense(3, 1, row_activation(softmax), seed=0)


def test_a_formula_may_name_its_argument_as_it_likes():
    class Own(Activation):
        def __call__(self, x):
            return np.tanh(x)

        def derivative(self, x):
            return 1 - np.tanh(x) ** 2

    check_derivative(Own())
    assert Dense(2, 3, Own(), seed=0)([0.0, 0.0]).tolist() == [0.0, 0.0, 0.0]


def test_a_formula_that_calls_one_that_cannot_be_derived_is_compared_with_differences():
    inner = activation(opaque(math.tanh), lambda h: 1 - np.tanh(h) ** 2)
    check_derivative(activation(lambda h: 2 * inner(h), lambda h: 2 - 2 * np.tanh(h) ** 2))
    with pytest.raises(DerivativeError, match="a constant factor is missing: the derivative is 2 times that"):
        check_derivative(activation(lambda h: 2 * inner(h), lambda h: 1 - np.tanh(h) ** 2))


def test_a_derived_derivative_is_compared_with_differences_on_a_dense_grid(monkeypatch):
    own = activation(np.tanh)
    monkeypatch.setattr(
        type(own), "derivative", lambda self, h: np.where((h > 0.35) & (h < 0.65), 0.1, 1 - np.tanh(h) ** 2)
    )
    with pytest.raises(
        DerivativeError,
        match=r"derivative \(derived\) cannot be confirmed at h = 0\.6(.|\n)*write derivative in a class",
    ):
        check_derivative(own)


def test_a_derived_derivative_that_is_not_finite_is_told_with_advice():
    with pytest.raises(DerivativeError, match=r"gives nan(.|\n)*0 \* inf there(.|\n)*np\.where"):
        check_derivative(activation(lambda h: np.cbrt(h) * h))


def test_a_layer_of_open_sizes_is_checked_on_a_small_batch():
    seen = []

    class Open(Layer):
        filters: int

        @property
        def input_shape(self):
            return (None, None, None)

        @property
        def output_shape(self):
            return (None, None, None)

        def apply(self, x, values, record):
            seen.append(x.size)
            return 2 * x

        def apply_backward(self, gradient, values, record, gradients):
            return 2 * gradient

    Open(filters=100, seed=120)(np.ones((1, 2, 2, 2)))
    assert max(seen) < 1000
