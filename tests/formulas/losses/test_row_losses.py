"""The catalogue's losses over rows against JAX and SciPy, and what each loss of the catalogue refuses."""

import numpy as np
import pytest
import scipy.special
from oracles import jax, jax_gradients, jnp

from framework import (
    GELU,
    Activation,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    Huber,
    Identity,
    ReLU,
    SettingsError,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from framework.backends.programs import Program
from framework.formulas import (
    Cauchy,
    CosineSimilarity,
    Focal,
    Hinge,
    KLDivergence,
    LogSigmoid,
    Poisson,
    Quantile,
    SquaredHinge,
)

ROWS = [KLDivergence(), CosineSimilarity()]


def distributions(dtype="float64"):
    rng = np.random.default_rng(0)
    target = np.concatenate([rng.dirichlet(np.ones(4), 6), np.eye(4)])
    return rng.dirichlet(np.ones(4), 10).astype(dtype), target.astype(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_kl_divergence_is_scipys_relative_entropy(dtype, tolerance):
    prediction, target = distributions(dtype)
    value, slope = KLDivergence().value(prediction, target), KLDivergence().slope(prediction, target)
    expected = scipy.special.rel_entr(target.astype(float), prediction.astype(float)).sum(axis=-1)
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=0.1 * tolerance)
    np.testing.assert_allclose(slope, -target.astype(float) / prediction, rtol=tolerance)
    assert value.dtype == slope.dtype == dtype
    assert np.array_equal(KLDivergence().value(target, target), np.zeros(10))


@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 2.0, 10)])
def test_kl_divergence_is_fused_with_softmax(weight):
    rng = np.random.default_rng(1)
    x, target = rng.normal(0.0, 3000.0, (10, 3)), distributions()[1]
    model = Dense(3, 4, Softmax(), seed=0)
    model.forward(x)
    value = KLDivergence().backward(model, target, weight)

    def divergence(weights):
        log_p = jax.nn.log_softmax(x @ weights, axis=-1)
        values = (jax.scipy.special.xlogy(target, target) - target * log_p).sum(axis=-1)
        return jnp.average(values, weights=weight)

    mean, (gradient,) = jax_gradients(divergence, model.weights.copy())
    assert value == pytest.approx(mean, rel=1e-12)
    np.testing.assert_allclose(model.parameters.gradient[:12], gradient.ravel(), rtol=1e-10, atol=1e-12)


def test_kl_divergence_has_the_gradient_of_cross_entropy():
    prediction, target = distributions()
    assert np.array_equal(KLDivergence().slope(prediction, target), CrossEntropy().slope(prediction, target))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_cosine_similarity_is_that_of_jax(dtype, tolerance):
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 20, 5)).astype(dtype)

    def distance(p):
        t = target.astype(float)
        return 1 - (p * t).sum(axis=-1) / (jnp.linalg.norm(p, axis=-1) * jnp.linalg.norm(t, axis=-1))

    expected, (slope,) = jax_gradients(distance, prediction.astype(float))
    got = CosineSimilarity().value(prediction, target)
    np.testing.assert_allclose(got, expected, rtol=tolerance)
    np.testing.assert_allclose(CosineSimilarity().slope(prediction, target), slope, rtol=tolerance, atol=tolerance)
    assert got.dtype == CosineSimilarity().slope(prediction, target).dtype == dtype


@pytest.mark.parametrize(("dtype", "length"), [("float64", 1e308), ("float64", 1e-300), ("float32", 3e38)])
def test_cosine_similarity_knows_no_length(dtype, length):
    p, t = np.array([[1.0, 1.0]], dtype), np.array([[0.0, 2.0]], dtype)
    value, slope = CosineSimilarity().value(p * length, t), CosineSimilarity().slope(p * length, t)
    np.testing.assert_allclose(value, CosineSimilarity().value(p, t), rtol=1e-6)
    np.testing.assert_allclose(slope * length, CosineSimilarity().slope(p, t), rtol=1e-6)


def test_a_prediction_of_0_is_at_right_angles_to_everything():
    p, t = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    assert CosineSimilarity().value(p, t).tolist() == [1.0]
    np.testing.assert_allclose(CosineSimilarity().slope(p, t), [[-0.6, -0.8]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", ROWS, ids=repr)
def test_the_traced_slope_of_a_row_is_the_written_one(loss, dtype):
    prediction, target = distributions(dtype)
    program = Program(loss.value, ("prediction", "target"), dtype, prediction.shape[-1])
    traced = program.pullback(np.ones(10, dtype), prediction, target)
    assert np.array_equal(program.value(prediction, target), loss.value(prediction, target))
    assert traced.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(traced, loss.slope(prediction, target), rtol=16 * eps, atol=16 * eps)
    loss.check_derivative()


def test_classes_serve_as_rows_of_one_hot():
    prediction, _ = distributions()
    classes = np.arange(10) % 4
    for loss in ROWS:
        assert loss(prediction, classes) == loss(prediction, np.eye(4)[classes])


def test_many_classes_of_many_rows_serve_as_rows_of_one_hot():
    rng = np.random.default_rng(0)
    classes, prediction = rng.integers(70, size=8200), rng.dirichlet(np.ones(70), 8200)
    assert CrossEntropy()(prediction, classes) == CrossEntropy()(prediction, np.eye(70)[classes])


@pytest.mark.parametrize("loss", [KLDivergence(), CrossEntropy(), CrossEntropy(label_smoothing=0.1)], ids=repr)
def test_the_values_after_a_softmax_are_those_of_its_outputs(loss):
    h, target = np.log(distributions()[0]), distributions()[1]
    values = loss.program_of_h(Softmax(), h).value(h, target)
    np.testing.assert_allclose(values, loss.value(scipy.special.softmax(h, axis=-1), target), rtol=1e-12, atol=1e-15)


# What is refused


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (Hinge(), [0.0, 1.0], r"-1 or \+1; got 0.0 at row 0. .* 2 \* y - 1"),
        (SquaredHinge(), [1.0, 0.5], r"-1 or \+1; got 0.5 at row 1"),
        (Poisson(), [1.0, -1.0], "got -1.0 at row 1"),
        (Focal(), [0.0, 2.0], "got 2.0 at row 1"),
        (KLDivergence(), [[0.5, 0.6]], "row 0 sums to 1.1"),
        (KLDivergence(), [[1.5, -0.5]], r"must lie in \[0, 1\]"),
        (CosineSimilarity(), [[0.0, 0.0]], "row 0 is all 0"),
    ],
)
def test_targets_without_meaning_are_refused(loss, target, message):
    with pytest.raises(DataError, match=message):
        loss(np.full(np.shape(target), 0.5), target)


@pytest.mark.parametrize(
    ("loss", "output", "message"),
    [
        (Hinge(), Sigmoid(), "both signs.*Use Identity or Tanh"),
        (SquaredHinge(), ReLU(), "both signs"),
        (Hinge(), LogSigmoid(), "both signs"),
        (Poisson(), Identity(), "Use Softplus"),
        (Poisson(), GELU(), "Use Softplus"),
        (Focal(), Tanh(), "Use Sigmoid"),
        (KLDivergence(), Sigmoid(), "sum to 1.*Use Softmax"),
        (KLDivergence(), Identity(), "Use Softmax"),
    ],
)
def test_outputs_that_cannot_serve_are_refused(loss, output, message):
    with pytest.raises(SettingsError, match=message):
        loss.require_model(output)


class FromZero(Activation):
    output_range = (0.0, 1.01)

    def __call__(self, h):
        return 1.01 / (1.0 + np.exp(-h))


class ToOne(FromZero):
    output_range = (-0.01, 1.0)


@pytest.mark.parametrize("output", [FromZero(), ToOne()])
@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), CrossEntropy(), Focal(), KLDivergence()])
def test_outputs_that_are_no_probabilities_by_a_little_are_refused(loss, output):
    with pytest.raises(SettingsError, match=r"needs outputs in \[0, 1\]"):
        loss.require_model(output)


@pytest.mark.parametrize(
    ("loss", "output"), [(Hinge(), Tanh()), (Poisson(), Softplus()), (Focal(), Sigmoid()), (KLDivergence(), Softmax())]
)
def test_outputs_that_serve_are_taken(loss, output):
    loss.require_model(output)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (Huber, {"delta": 0.0}),
        (Cauchy, {"scale": -1.0}),
        (Quantile, {"quantile": 0.0}),
        (Quantile, {"quantile": 1.0}),
        (Focal, {"gamma": -1.0}),
        (Focal, {"alpha": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(loss, settings):
    with pytest.raises(SettingsError):
        loss(**settings)
