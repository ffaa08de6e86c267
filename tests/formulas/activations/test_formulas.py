"""Every activation of the catalogue against PyTorch on a grid from 0 to the largest numbers, in both dtypes."""

import inspect

import numpy as np
import pytest
import scipy.special
from catalogue import catalogue
from oracles import assert_within, stored

from framework import GELU, Activation, SettingsError, Softplus
from framework.backends.programs import Program
from framework.formulas import (
    CELU,
    ELU,
    SELU,
    HardSigmoid,
    HardSwish,
    HardTanh,
    LeakyReLU,
    LogSigmoid,
    Mish,
    SiLU,
    Sine,
    Softsign,
    Step,
    Swish,
)
from framework.formulas.activations.basic import logistic, scale_in_range, softplus
from framework.formulas.derivatives import GRID, Check

GRIDS = {dtype: stored("activations")[f"SiLU() {dtype}"]["h"] for dtype in ("float64", "float32")}
LARGEST = [("float64", 1e308), ("float32", 3e38)]


# How many ulps value and derivative may be away from PyTorch's. In GELU the exponent, 18 at h = 6 (25 in the tanh
# form), carries its rounding into the result that many times, and so does the phase 9 of Sine at h = 0.3 in float32.
TABLE = {
    LeakyReLU(): (1, 0),
    LeakyReLU(negative_slope=0.3): (1, 1),
    ELU(): (2, 2),
    ELU(alpha=0.5): (2, 2),
    SELU(): (3, 3),
    CELU(): (2, 2),
    CELU(alpha=0.5): (2, 2),
    CELU(alpha=2.0): (2, 2),
    GELU(): (40, 40),
    GELU(approximate="tanh"): (60, 60),
    SiLU(): (3, 4),
    Swish(): (3, 4),
    Swish(beta=0.5): (3, 4),
    Swish(beta=3.0): (3, 4),
    Mish(): (4, 8),
    Softplus(): (3, 4),
    Softplus(beta=3.0): (4, 4),
    Softplus(beta=0.5): (3, 4),
    Softsign(): (2, 4),
    LogSigmoid(): (3, 4),
    HardSigmoid(): (1, 1),
    HardTanh(): (0, 0),
    HardSwish(): (2, 2),
    Sine(): (16, 16),
    Sine(frequency=0.5): (4, 4),
}
TRACED = {Softplus(): 4, Softplus(beta=3.0): 4, Softplus(beta=0.5): 4, Softsign(): 1402}
"""The same of the derivative that is traced from the formula, where the class writes another one.

Softsign's traced derivative subtracts |f| from 1 and so loses a factor 1 + |h|.
"""
ALL = [*TABLE, *(cls() for cls in catalogue(Activation) if cls() not in TABLE and not cls().coupled)]
EVERY = pytest.mark.parametrize("activation", ALL, ids=repr)
IN_TABLE = pytest.mark.parametrize("activation", TABLE, ids=repr)
DTYPES = pytest.mark.parametrize("dtype", GRIDS)


def meant(activation, h):
    """Where the activation means what it says: beyond, the phase of a sine overflows, and is held."""
    return np.abs(h) < (1e30 if isinstance(activation, Sine) else np.inf)


@DTYPES
@IN_TABLE
def test_values_are_pytorchs(activation, dtype):
    ulps, _ = TABLE[activation]
    h, expected = (stored("activations")[f"{activation!r} {dtype}"][key] for key in ("h", "value"))
    got = activation(h)
    assert np.isfinite(got).all()
    assert_within(got[meant(activation, h)], expected[meant(activation, h)], ulps)


@DTYPES
@IN_TABLE
def test_derivatives_are_pytorchs_and_its_conventions_at_the_kinks_too(activation, dtype):
    _, ulps = TABLE[activation]
    h, expected = (stored("activations")[f"{activation!r} {dtype}"][key] for key in ("h", "derivative"))
    got = activation.derivative(h)
    assert np.isfinite(got).all()
    assert_within(got[meant(activation, h)], expected[meant(activation, h)], ulps)


@DTYPES
@IN_TABLE
def test_the_source_of_a_traced_formula_gives_its_values(activation, dtype):
    h = GRIDS[dtype]
    assert np.array_equal(Program(activation._formula, dtype=dtype).value(h), activation(h))


@DTYPES
@pytest.mark.parametrize("activation", TRACED, ids=repr)
def test_traced_derivatives_of_classes_that_write_another_one_are_pytorchs(activation, dtype):
    h, expected = (stored("activations")[f"{activation!r} {dtype}"][key] for key in ("h", "derivative"))
    with np.errstate(over="ignore"):  # exp(-h^2) is 0 after an overflow
        traced = Program(activation._formula, dtype=dtype).derivative(h)
    assert traced.dtype == dtype
    assert_within(traced, expected, TRACED[activation])


def test_every_written_derivative_has_a_traced_one_that_is_compared():
    writers = {cls for cls in catalogue(Activation) if "def derivative(" in inspect.getsource(cls)}
    assert writers == {*map(type, TRACED), Step}  # Step's is on purpose not that of its formula


@IN_TABLE
def test_the_written_derivative_is_that_of_the_differences(activation):
    Check(activation, "derivative", activation, lambda _, h: activation.derivative(h), GRID[:, None]).run()


@DTYPES
@EVERY
def test_dtype_shape_and_argument_are_kept(activation, dtype):
    grid = GRIDS[dtype].copy()
    for shape in ((), (0,), (3,), (2, 3), (2, 0, 3)):
        h = np.resize(grid[-6:], shape).astype(dtype)[()]
        for result in (activation(h), activation.derivative(h)):
            assert np.shape(result) == shape
            assert result.dtype == dtype
    assert activation(grid).dtype == activation.derivative(grid).dtype == dtype
    assert np.array_equal(grid, GRIDS[dtype])


@EVERY
def test_single_numbers_give_what_arrays_give(activation):
    h = np.array([-3.0, -0.7, -0.0, 0.0, 0.4, 1.0, 5.0])
    for formula in (activation, activation.derivative):
        for number in (float, np.float64):
            assert_within(np.array([formula(number(x)) for x in h]), formula(h), 4)


@DTYPES
@EVERY
def test_outputs_lie_in_the_range_that_is_stated(activation, dtype):
    name = type(activation).__name__
    assert activation.output_range is not None, f"write output_range = (low, high) in the class {name}, as others do"
    low, high = activation.output_range
    a = activation(np.concatenate([GRIDS[dtype], np.linspace(-6, 6, 20_001).astype(dtype)]))
    assert (a >= low).all()
    assert (a <= high).all()
    assert np.isinf(low) or a.min() < low + 1e-3  # the range is no wider than it must be
    assert np.isinf(high) or a.max() > high - 1e-3


@pytest.mark.parametrize(("dtype", "largest"), LARGEST)
@pytest.mark.parametrize(
    "activation", [GELU(), GELU(approximate="tanh"), SiLU(), Swish(beta=3.0), Mish(), HardSwish()], ids=repr
)
def test_gated_units_reach_0_and_h_in_the_limits(activation, dtype, largest):
    h = np.array([-largest, largest], dtype)
    assert np.array_equal(activation(h), [0.0, h[1]])
    assert np.array_equal(activation.derivative(h), [0.0, 1.0])


def test_gelu_keeps_its_relative_accuracy_in_the_tail():
    h = np.linspace(-37, -1, 200)
    np.testing.assert_allclose(GELU()(h), h * np.exp(scipy.special.log_ndtr(h)), rtol=1e-12)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_is_pytorchs_up_to_the_tail_that_pytorch_loses(approximate):
    expected = stored("gelu")[approximate]
    h, gelu = expected["h"], GELU(approximate=approximate)
    np.testing.assert_allclose(gelu(h), expected["value"], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(gelu.derivative(h), expected["derivative"], rtol=1e-14, atol=1e-14)


def test_softplus_has_no_threshold():
    h = np.linspace(15, 30, 100)
    np.testing.assert_allclose(Softplus()(h) - h, np.exp(-h), rtol=1e-2, atol=4e-15)
    np.testing.assert_allclose(Softplus()(-h), np.log1p(np.exp(-h)), rtol=1e-15)


@DTYPES
def test_step_passes_gradients_straight_through_up_to_1(dtype):
    h = np.array([-2.0, -1.0, -0.5, -0.0, 0.0, 1e-30, 1.0, 1.5], dtype)
    assert Step()(h).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert Step().derivative(h).tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert Step().require_derivative() == Step()


@DTYPES
def test_the_logistic_function_and_softplus_are_scipys(dtype):
    h = GRIDS[dtype]
    exact = h.astype(np.float64)
    assert_within(logistic(h), scipy.special.expit(exact), 3)
    assert_within(-softplus(-h), scipy.special.log_expit(exact), 3)


@pytest.mark.parametrize(("dtype", "largest"), LARGEST)
def test_a_scaled_number_never_overflows(dtype, largest):
    h = np.array([-largest, -2.0, 0.0, 2.0, largest], dtype)
    assert scale_in_range(h, 30.0)[1:4].tolist() == [-60.0, 0.0, 60.0]
    assert np.isfinite(scale_in_range(h, 30.0)).all()
    assert np.array_equal(scale_in_range(h, 0.5), 0.5 * h)


@pytest.mark.parametrize(
    "settings",  # those of torch.nn.LeakyReLU(), ELU(), CELU(), GELU() and Softplus(); beta = 1 makes Swish SiLU
    [
        LeakyReLU(negative_slope=0.01),
        ELU(alpha=1.0),
        CELU(alpha=1.0),
        GELU(approximate="none"),
        Softplus(beta=1.0),
        Swish(beta=1.0),
    ],
    ids=repr,
)
def test_settings_that_are_not_given_are_pytorchs(settings):
    assert type(settings)() == settings


@pytest.mark.parametrize(
    ("activation", "settings"),
    [
        (LeakyReLU, {"negative_slope": -0.1}),
        (LeakyReLU, {"negative_slope": 1.0}),
        (ELU, {"alpha": 0.0}),
        (CELU, {"alpha": -1.0}),
        (Swish, {"beta": 0.0}),
        (Softplus, {"beta": -1.0}),
        (Sine, {"frequency": 0.0}),
        (GELU, {"approximate": "sigmoid"}),
        (SELU, {"alpha": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(activation, settings):
    with pytest.raises(SettingsError):
        activation(**settings)


@EVERY
def test_json_gives_it_back(activation):
    assert Activation.from_json(activation.to_json()) == activation
