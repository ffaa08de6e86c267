"""Every loss of the catalogue against PyTorch, SciPy and scikit-learn, in both dtypes, up to the largest numbers."""

import inspect

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from catalogue import catalogue
from oracles import assert_within, stored

from framework import BinaryCrossEntropy, HalfSquaredError, Huber, Loss, MeanAbsoluteError, RowLoss
from framework.backends.programs import Program
from framework.formulas import (
    Cauchy,
    CosineSimilarity,
    Focal,
    Hinge,
    KLDivergence,
    LogCosh,
    Poisson,
    Quantile,
    SquaredHinge,
)
from framework.formulas.derivatives import GRID, Check

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])


# How many ulps value and slope may be away from PyTorch's. LogCosh takes log 2 from numbers of its own size; Focal's
# slope is a sum of two terms that nearly cancel at some p.
TABLE = {
    MeanAbsoluteError(): (1, 0),
    Huber(): (2, 1),
    Huber(delta=0.5): (2, 1),
    LogCosh(): (8, 2),
    Cauchy(): (4, 4),
    Cauchy(scale=2.0): (4, 4),
    Quantile(): (1, 0),
    Quantile(quantile=0.9): (2, 2),
    Hinge(): (1, 0),
    SquaredHinge(): (2, 2),
    Poisson(): (4, 2),
    Focal(): (8, 16),
    Focal(gamma=0.0): (8, 8),
    Focal(gamma=0.5): (8, 16),
    Focal(gamma=1.5, alpha=0.25): (8, 16),
}
TRACED = {
    Huber(): 0,
    Huber(delta=0.5): 0,
    LogCosh(): 4,
    Cauchy(): 4,
    Cauchy(scale=2.0): 4,
    Hinge(): 0,
    SquaredHinge(): 0,
}
"""The same of the slope that is traced from the formula, where the class writes another one."""
IN_TABLE = pytest.mark.parametrize("loss", TABLE, ids=repr)
ROWS = [KLDivergence(), CosineSimilarity()]


def points(loss, dtype):
    """Every prediction with every target of the loss's grid."""
    values = stored("losses")[f"{loss!r} {dtype}"]
    return values["prediction"], values["target"]


def targets(loss):
    """The targets of the loss's grid, in their order."""
    return list(dict.fromkeys(points(loss, "float64")[1].tolist()))


@DTYPES
@IN_TABLE
@pytest.mark.parametrize(("method", "place"), [("value", 0), ("slope", 1)])
def test_values_and_slopes_are_pytorchs_and_its_conventions_at_the_kinks_too(loss, dtype, method, place):
    got = getattr(loss, method)(*points(loss, dtype))
    assert np.isfinite(got).all()
    assert got.dtype == dtype
    assert_within(got, stored("losses")[f"{loss!r} {dtype}"][method], TABLE[loss][place])


@DTYPES
@IN_TABLE
def test_the_source_of_a_traced_formula_gives_its_values(loss, dtype):
    program = Program(loss.value, ("prediction", "target"), dtype)
    assert np.array_equal(program.value(*points(loss, dtype)), loss.value(*points(loss, dtype)))


@DTYPES
@pytest.mark.parametrize("loss", TRACED, ids=repr)
def test_traced_slopes_of_classes_that_write_another_one_are_pytorchs(loss, dtype):
    traced = Program(loss.value, ("prediction", "target"), dtype).derivative(*points(loss, dtype))
    assert traced.dtype == dtype
    assert_within(traced, stored("losses")[f"{loss!r} {dtype}"]["slope"], TRACED[loss])


def test_every_written_slope_has_a_traced_one_that_is_compared():
    elementwise = [cls for cls in catalogue(Loss) if not issubclass(cls, RowLoss)]
    writers = {cls for cls in elementwise if "def slope(" in inspect.getsource(cls)}
    assert writers == {*map(type, TRACED)}


@IN_TABLE
def test_the_written_slope_is_that_of_the_differences(loss):
    for target in targets(loss):
        Check(
            loss,
            "slope",
            lambda p, t=target: loss.value(p, np.full_like(p, t)),
            lambda _, p, t=target: loss.slope(p, np.full_like(p, t)),
            GRID[:, None],
        ).run()
    loss.check_derivative()


@IN_TABLE
def test_single_numbers_give_what_arrays_give(loss):
    for prediction, target in zip(*points(loss, "float64"), strict=True):
        assert_within(loss.value(prediction, target), loss.value(np.array([prediction]), np.array([target]))[0], 4)
        assert_within(loss.slope(prediction, target), loss.slope(np.array([prediction]), np.array([target]))[0], 4)
        assert np.shape(loss.value(prediction, target)) == np.shape(loss.slope(prediction, target)) == ()


@IN_TABLE
def test_the_mean_is_over_all_values_by_weight(loss):
    prediction = np.array([[0.2, 0.5], [0.6, 0.1], [0.3, 0.9]])
    target = np.resize(np.array(targets(loss)[:2]), (3, 2))
    weight = np.array([1.0, 3.0, 0.5])
    expected = np.average(loss.value(prediction, target), weights=np.stack([weight, weight], axis=1))
    assert loss(prediction, target, weight) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", [*TABLE, *ROWS], ids=repr)
def test_json_gives_it_back(loss):
    assert Loss.from_json(loss.to_json()) == loss


# What is particular to some


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantile_is_scikit_learns_pinball_loss(quantile):
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=50), rng.normal(size=50)
    expected = sklearn.metrics.mean_pinball_loss(target, prediction, alpha=quantile)
    assert Quantile(quantile=quantile)(prediction, target) == pytest.approx(expected, rel=1e-14)


def test_hinge_is_scikit_learns():
    prediction, target = np.array([0.5, -2.0, 0.1, 3.0]), np.array([1.0, -1.0, -1.0, -1.0])
    assert Hinge()(prediction, target) == pytest.approx(sklearn.metrics.hinge_loss(target, prediction), rel=1e-14)


def test_huber_is_scipys_and_small_errors_are_half_squares():
    e = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(Huber(delta=1.5).value(e, 0.0), scipy.special.huber(1.5, e), rtol=1e-14)
    for loss in (Huber(), LogCosh(), Cauchy(), Cauchy(scale=3.0)):
        assert loss.value(1e-5, 0.0) == pytest.approx(HalfSquaredError().value(1e-5, 0.0), rel=1e-9)


def test_cauchy_is_the_cost_of_scipys_least_squares():
    for error in (0.2, 1.0, 8.0):
        start = scipy.optimize.least_squares(lambda e: e, [error], loss="cauchy", f_scale=2.0, max_nfev=1)
        assert Cauchy(scale=2.0).value(start.x[0], 0.0) == pytest.approx(start.cost, rel=1e-12)


def test_small_log_cosh_losses_are_not_negative():
    e = np.geomspace(1e-150, 1.0, 1000)
    np.testing.assert_allclose(LogCosh().value(e, 0.0), np.where(e < 1e-4, e**2 / 2, np.log(np.cosh(e))), rtol=1e-7)


def test_focal_without_focus_is_binary_cross_entropy():
    p, t = np.array([0.1, 0.6, 0.9, 1.0, 0.0]), np.array([1.0, 0.0, 0.3, 1.0, 0.0])
    np.testing.assert_allclose(Focal(gamma=0.0).value(p, t), BinaryCrossEntropy().value(p, t), rtol=1e-14)
    np.testing.assert_allclose(Focal(gamma=0.0).slope(p, t), BinaryCrossEntropy().slope(p, t), rtol=1e-14)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_is_0_for_a_prediction_that_is_exactly_right(gamma):
    p = np.array([0.0, 1.0])
    assert np.array_equal(Focal(gamma=gamma).value(p, p), [0.0, 0.0])
    assert np.array_equal(Focal(gamma=gamma).slope(p, p), [0.0, 0.0])


def test_poisson_without_events_is_the_rate():
    assert Poisson().value(np.array([0.0, 2.0]), np.zeros(2)).tolist() == [0.0, 2.0]
    assert Poisson().slope(np.array([0.0, 2.0]), np.zeros(2)).tolist() == [1.0, 1.0]


# Rows
