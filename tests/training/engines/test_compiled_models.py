"""Whole models and layers at random train in kernels as with NumPy, in memory that they share and that they do not.

As in ``test_whole_models``, each rotation has other models, ``MODELS=300`` takes so many, and a failure shows how to
make its model again.
"""

import os
import warnings

import numpy as np
import pytest
from kernels_of import (  # noqa: F401 (some are fixtures)
    in_python,
    require_margins,
    separate_memory,
    without_passes,
)
from random_layers import FormulaModel
from whole_models import WholeModel, require_agreement, results

from framework.base.trees import leaves, take
from framework.training import compile_model

COUNT = int(os.environ.get("MODELS", "30"))
CASES = pytest.mark.parametrize("case", range(COUNT))
KINDS = pytest.mark.parametrize("kind", [WholeModel, FormulaModel], ids=["model", "formula"])

pytestmark = pytest.mark.share(1 / 10)


def results_of_kernel(drawn):
    """Return the results of the compiled engine, which must not fall back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return results(drawn, "compiled")


@pytest.mark.usefixtures("without_passes")
@KINDS
@CASES
def test_a_random_model_learns_in_a_kernel_as_with_numpy(kind, case, pytestconfig):
    drawn = kind(pytestconfig.option.rotation, case)
    require_agreement(drawn, results_of_kernel(drawn))


@pytest.mark.usefixtures("without_passes")
@CASES
def test_a_random_formula_of_float32_rounds_as_with_numpy(case, pytestconfig):
    seed = pytestconfig.option.rotation, case
    exact, drawn = FormulaModel(*seed), FormulaModel(*seed, dtype="float32")
    truth, rounded, found = results(exact, "numpy"), results(drawn, "numpy"), results(drawn, "compiled")
    start = {f"parameter {name}": value for name, value in exact.model.parameters.items()}
    changes = {name: np.abs(truth[name] - value).max(initial=0.0) for name, value in start.items()}
    vanishing = {name for name, change in changes.items() if change < 1e-12 * max(changes.values())}
    for name, value in truth.items():
        if name in vanishing:  # the gradient is rounding alone
            continue
        errors = [np.abs(other[name] - value).max(initial=0.0) for other in (rounded, found)]
        assert errors[1] <= 20.0 * (errors[0] + 2.0**-24 * np.abs(value).max(initial=0.0)), (drawn, name)


@KINDS
@CASES
def test_memory_that_arrays_share_gives_the_same_bits_as_memory_of_their_own(kind, case, pytestconfig):
    drawn = kind(pytestconfig.option.rotation, 1000 + case)
    shared = results_of_kernel(drawn)
    with separate_memory() as wholes:
        apart = results(drawn, "compiled")
    for name, value in shared.items():
        np.testing.assert_array_equal(apart[name], value, err_msg=f"{drawn!r}: {name}")
    assert wholes
    require_margins(wholes)


@pytest.mark.usefixtures("in_python")
@KINDS
@CASES
def test_a_kernel_read_as_python_stays_within_its_arrays(kind, case, pytestconfig):
    drawn = kind(pytestconfig.option.rotation, 2000 + case)
    with separate_memory() as wholes:
        found = results_of_kernel(drawn)
    require_agreement(drawn, found)
    require_margins(wholes)


@KINDS
@CASES
def test_a_random_model_predicts_in_a_kernel_as_with_numpy_and_each_row_alone(kind, case, pytestconfig):
    """LLVM's passes decide how a row at the end of a batch is rounded."""
    drawn = kind(pytestconfig.option.rotation, 3000 + case)
    model, x = drawn.model, drawn.x
    if model.by_python:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = compile_model(model)
        whole = leaves(fast(x))
    for found, expected in zip(whole, leaves(model(x)), strict=True):
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * scale, err_msg=repr(drawn))
    with separate_memory() as wholes:
        apart = compile_model(model)
        for part in (*map(slice, (1, 2, 7, None)), slice(-1, None), slice(-7, None)):
            for predict in (fast, apart):
                for found, expected in zip(leaves(predict(take(x, part))), whole, strict=True):
                    np.testing.assert_array_equal(found, expected[part], err_msg=repr(drawn))
    require_margins(wholes)
