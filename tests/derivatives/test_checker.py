"""Wrong derivatives are found and explained, and right ones pass, for activations, losses and layers."""

import warnings

import numpy as np
import pytest
from derivatives.own_formulas import activation, loss, row_activation, softmax
from derivatives.right_formulas import DERIVED, FROM_OUTPUT, LAYERS, LOSSES, ROW_ACTIVATIONS, ROW_LOSSES, UNDERIVED
from derivatives.wrong_formulas import UNDERIVED as WRONG_UNDERIVED
from derivatives.wrong_formulas import WRONG

from framework import Activation, Dense, DerivativeError, Layer, RowActivation, SettingsError, check_derivative

RIGHT = {
    **{f"activation, {name}": activation(*row) for name, row in {**DERIVED, **UNDERIVED}.items()},
    **{f"activation, {name}, derived": activation(row[0]) for name, row in DERIVED.items()},
    **{f"from the output, {name}": formula for name, formula in FROM_OUTPUT.items()},
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

NOT_FOUND_YET = {
    "activation, an offset of 1e9, the wrong sign",
    "activation, clipped at 37.5: flat above 38 alone",
    "activation, wrong for 12.5 < h < 14",
    "activation, wrong for 200 < h < 600",
    "activation, wrong for -600 < h < -200",
    "activation, wrong for 2e4 < h < 9e4",
    "activation, wrong for 1e-5 < h < 1e-4",
    "activation, tanh(1e6 h): twice",
    "activation, a steep step at 0.25: half the slope",
    "activation, wrong in float32 alone",
    "activation, overflows in float32 alone",
    "underived, tanh: wrong for -0.6 < h < -0.4",
    "underived, tanh: wrong for 3.31 < h < 3.89",
    "underived, gamma: the digamma is lost",
    "underived, square: the absolute value",
    "row activation, softmax: twice in float32 alone",
    "row activation, a gate by the row's largest: wrong for rows above 10",
    "loss, squared error: 0 for targets above 5",
    "loss, squared error: wrong for targets above 1000",
    "loss, squared error: wrong for targets below -5",
    "loss, squared error: wrong in float32 alone",
    "loss, squared error without a graph: wrong sign for targets above 5",
    "layer, dense: the weights are not transposed",
    "layer, dense: twice in float32 alone",
    "layer, dense: wrong for inputs above 5",
}
REFUSED_YET = {
    "activation, h log|h|, guarded",
    "activation, sin(1e5 h)",
    "activation, the cube of an IntEnum",
    "activation, a float with its own repr",
    "activation, constants whose reprs are alike",
    "activation, zeros_like with a dtype",
    "activation, ones_like with a dtype",
    "activation, full_like by name",
    "activation, copy with an order",
    "activation, a comparison as a number",
    "activation, a bump behind a double where, derived",
    "activation, h log|h|, guarded, derived",
    "activation, a floor by fmax, derived",
    "activation, sin(1e5 h), derived",
    "activation, leaky by |h| <= h, derived",
    "activation, the power of an IntEnum, derived",
    "activation, the cube of an IntEnum, derived",
    "activation, a float with its own repr, derived",
    "activation, constants whose reprs are alike, derived",
    "activation, zeros_like with a dtype, derived",
    "activation, ones_like with a dtype, derived",
    "activation, full_like by name, derived",
    "activation, copy with an order, derived",
    "activation, a copy in place, derived",
    "activation, two equal arrays, one in place, derived",
    "activation, out= of an own array, derived",
    "activation, copyto of an own array, derived",
    "activation, a comparison as a number, derived",
    "activation, sinc, derived",
    "activation, the remainder, derived",
    "row activation, standardized",
    "row activation, softmax with an offset of 1e7",
    "layer, a steep sine",
}
NOT_DERIVED_YET = {
    "a band of equal sides",
    "leaky by |h| <= h",
    "the cube of an IntEnum",
    "a float with its own repr",
    "constants whose reprs are alike",
    "zeros_like with a dtype",
    "ones_like with a dtype",
    "full_like by name",
    "copy with an order",
    "a copy in place",
    "two equal arrays, one in place",
    "out= of an own array",
    "copyto of an own array",
    "a comparison as a number",
    "sinc",
    "the remainder",
}


def rows(names, unfinished):
    marks = pytest.mark.xfail(reason="checker", strict=True)
    return [pytest.param(name, marks=marks if name in unfinished else ()) for name in names]


def put_to_work(formula):
    """Check a formula as training does, in both dtypes."""
    for dtype in ("float64", "float32"):
        if isinstance(formula, Layer):
            formula.replace(dtype=dtype).parameters  # noqa: B018 (the first use checks)
            continue
        check_derivative(formula)
        if isinstance(formula, Activation | RowActivation):
            Dense(2, 3, formula, dtype=dtype, seed=0)
        else:
            model = Dense(2, 3, dtype=dtype, seed=0)
            model.forward(np.ones((3, 2)))
            formula.backward(model, np.eye(3))


def test_the_tables_are_as_long_as_they_should_be():
    assert len(WRONG) >= 110
    assert len(RIGHT) >= 150


@pytest.mark.parametrize("name", rows(WRONG, NOT_FOUND_YET))
def test_a_wrong_derivative_is_found_and_explained(name):
    formula, explanation = WRONG[name]
    with pytest.raises(DerivativeError, match=explanation) as caught:
        put_to_work(formula)
    if not isinstance(formula, Layer):
        given = [advice for advice in ADVICE if advice in str(caught.value)]
        assert len(given) == 1, "one piece of advice, and no other that contradicts it"


@pytest.mark.parametrize("name", rows(WRONG_UNDERIVED, {n.removeprefix("underived, ") for n in NOT_FOUND_YET}))
def test_nobody_is_told_to_derive_a_formula_that_cannot_be_derived(name):
    with pytest.raises(DerivativeError) as caught:
        put_to_work(WRONG_UNDERIVED[name][0])
    assert "leave derivative out" not in str(caught.value)


@pytest.mark.parametrize("name", rows(RIGHT, REFUSED_YET))
def test_a_right_derivative_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put_to_work(RIGHT[name])


@pytest.mark.parametrize("name", rows(DERIVED, NOT_DERIVED_YET))
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


@pytest.mark.xfail(reason="checker", strict=True)
def test_an_activation_over_rows_may_serve_one_unit_unless_it_is_constant_there():
    share = row_activation(lambda h: h / (1 + np.sum(np.abs(h), axis=-1, keepdims=True)))
    Dense(3, 1, share, seed=0)
    with pytest.raises(SettingsError, match="constant"):
        Dense(3, 1, row_activation(softmax), seed=0)
