import re

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from oracles import jax_gradients, jnp, weighted_mean

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    DivergedError,
    HalfSquaredError,
    Loss,
    MeanSquaredError,
    Neuron,
    RowLoss,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.formulas import Focal, KLDivergence, LogCosh, Poisson
from framework.formulas.losses.base import divergence_error

RNG = np.random.default_rng(0)
P = RNG.uniform(0.05, 0.95, (6, 3))
ROWS = P / P.sum(axis=1, keepdims=True)
REAL = RNG.normal(size=(6, 3))
SOFT = RNG.dirichlet(np.ones(3), 6)
CLASSES = np.array([0, 2, 1, 1, 0, 2])
WEIGHT = np.array([1.0, 0.0, 2.5, 0.1, 3.0, 1.0])

CASES = {  # loss, prediction, target, JAX's loss of each value
    "half": (HalfSquaredError(), REAL, P, lambda p, t: 0.5 * (p - t) ** 2),
    "mse": (MeanSquaredError(), REAL, P, lambda p, t: (p - t) ** 2),
    "bce": (BinaryCrossEntropy(), P, SOFT, lambda p, t: -(t * jnp.log(p) + (1 - t) * jnp.log1p(-p))),
    "ce soft": (CrossEntropy(), ROWS, SOFT, lambda p, t: -(t * jnp.log(p)).sum(1)),
    "ce one-hot": (CrossEntropy(), ROWS, np.eye(3)[CLASSES], lambda p, t: -(t * jnp.log(p)).sum(1)),
    "ce classes": (CrossEntropy(), ROWS, CLASSES, lambda p, t: -jnp.log(p)[jnp.arange(6), t]),
}
EACH_CASE = pytest.mark.parametrize(("loss", "prediction", "target", "values"), CASES.values(), ids=CASES)
EACH_LOSS = pytest.mark.parametrize(("loss", "prediction", "target"), [case[:3] for case in CASES.values()], ids=CASES)
EACH_WEIGHT = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])


@EACH_WEIGHT
@EACH_CASE
def test_value_and_gradient_are_those_of_jax(loss, prediction, target, values, weight):
    value, (gradient,) = jax_gradients(lambda p: weighted_mean(values(p, target), weight), prediction)
    assert loss(prediction, target, weight) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(loss.gradient(prediction, target, weight), gradient, rtol=1e-12, atol=1e-16)


@EACH_WEIGHT
@EACH_LOSS
def test_the_gradient_is_the_exact_derivative_of_the_mean(loss, prediction, target, weight):
    gradient = loss.gradient(prediction, target, weight)
    step = 1e-6
    for place in np.ndindex(prediction.shape):
        up, down = prediction.copy(), prediction.copy()
        up[place] += step
        down[place] -= step
        difference = (loss(up, target, weight) - loss(down, target, weight)) / (2 * step)
        assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-9)


@EACH_LOSS
def test_batches_add_up(loss, prediction, target):
    parts = [loss.sums(prediction[rows], target[rows], WEIGHT[rows]) for rows in (slice(0, 4), slice(4, 6))]
    total, count = np.sum(parts, axis=0)
    assert loss.result(total, count) == pytest.approx(loss(prediction, target, WEIGHT), rel=1e-14)


def test_scikit_learn_agrees():
    assert CrossEntropy()(ROWS, CLASSES) == pytest.approx(sklearn.metrics.log_loss(CLASSES, ROWS), rel=1e-12)
    assert MeanSquaredError()(REAL, P) == pytest.approx(sklearn.metrics.mean_squared_error(P, REAL), rel=1e-12)


def test_factor_and_reduction():
    assert HalfSquaredError()(3.0, 1.0) == 2.0
    assert MeanSquaredError()(3.0, 1.0) == 4.0
    assert HalfSquaredError()([[3.0, 1.0], [1.0, 1.0]], np.ones((2, 2))) == 0.5  # over values
    assert CrossEntropy()([[0.5, 0.5], [1.0, 0.0]], [0, 0]) == pytest.approx(np.log(2) / 2)  # over rows
    assert HalfSquaredError()([3.0, 1.0], [1.0, 1.0], [1.0, 3.0]) == 0.5  # sum(w l) / sum(w)
    assert HalfSquaredError()(3.0, 1.0, 7.0) == 2.0  # the weight of one number cancels out


def test_zero_probability_costs_nothing_where_the_target_is_zero():
    assert BinaryCrossEntropy()([0.0, 1.0], [0.0, 1.0]) == 0.0
    assert CrossEntropy()([[0.0, 1.0]], [1]) == 0.0
    assert CrossEntropy().gradient([[0.0, 1.0]], [1]).tolist() == [[0.0, -1.0]]
    assert BinaryCrossEntropy()([0.0], [1.0]) == np.inf


@pytest.mark.parametrize("loss", [HalfSquaredError(), MeanSquaredError(), BinaryCrossEntropy(), CrossEntropy()])
def test_float32_stays_float32(loss):
    assert loss.gradient(ROWS.astype("float32"), SOFT.astype("float32")).dtype == np.float32


SHAPES = {
    "rows": (HalfSquaredError(), (3,), (4,)),
    "column against vector": (HalfSquaredError(), (3,), (3, 1)),
    "vector against column": (MeanSquaredError(), (3, 1), (3,)),
    "number against vector": (HalfSquaredError(), (3,), ()),
    "transposed": (BinaryCrossEntropy(), (2, 3), (3, 2)),
    "classes": (CrossEntropy(), (3, 2), (4,)),
    "no classes axis": (CrossEntropy(), (3,), (3,)),
    "other classes": (CrossEntropy(), (3, 2), (3, 3)),
}


@pytest.mark.parametrize(("loss", "prediction", "target"), SHAPES.values(), ids=SHAPES)
def test_unequal_shapes_are_refused(loss, prediction, target):
    for function in (loss, loss.gradient):
        with pytest.raises(ShapeError):
            function(np.full(prediction, 0.5), np.ones(target))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, r"integer labels in 0\.\.2; got 3 at row 1 \(1 of 2 rows\)"),
        (-1, "got -1 at row 1"),
        (0.5, r"got 0\.5 at row 1"),
        (np.nan, "finite"),
        (np.inf, "finite"),
    ],
)
def test_impossible_classes_are_refused(label, message):
    with pytest.raises(DataError, match=message):
        CrossEntropy()(ROWS[:2], [0, label])


def test_whole_floats_are_classes():
    assert CrossEntropy()(ROWS, CLASSES.astype(float)) == CrossEntropy()(ROWS, CLASSES)
    assert CrossEntropy()(ROWS, CLASSES[:, None].astype("uint8")) == CrossEntropy()(ROWS, CLASSES)


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "message"),
    [
        (BinaryCrossEntropy(), [0.5, 0.5], [1, -1], r"lie in \[0, 1\]; got -1\.0 at row 1.*Binary labels are 0 and 1"),
        (BinaryCrossEntropy(), [0.5, 0.5, 0.5], [0, 1, 2], r"got 2\.0 at row 2.*CrossEntropy"),
        (CrossEntropy(), ROWS[:2], [[1, 0, 0], [0.5, 0.6, 0]], r"rows that sum to 1; row 1 sums to 1\.1"),
        (CrossEntropy(), ROWS[:2], [[1, 0, 0], [2, -1, 0]], r"lie in \[0, 1\]; got"),
        (CrossEntropy(), ROWS[:2], np.zeros((2, 3)), "row 0 sums to 0"),
    ],
)
def test_targets_that_are_no_probabilities_are_refused(loss, prediction, target, message):
    with pytest.raises(DataError, match=message):
        loss(prediction, target)


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "message"),
    [
        (BinaryCrossEntropy(), [0.5, 1.5], [1, 1], r"prediction must lie in \[0, 1\]; got 1.5 at row 1. .*as Sigmoid"),
        (Focal(), [-0.5], [1], "got -0.5 at row 0. Give probabilities, as Sigmoid gives them"),
        (CrossEntropy(), [[3.0, 4.0]], [1], "got 3.0 at row 0. Give probabilities, as Softmax gives them"),
        (KLDivergence(), [[1.5, -0.5]], [1], "got 1.5 at row 0"),
        (Poisson(), [-1.0], [1], r"lie in \[0, inf\]; got -1.0 at row 0. Give rates, as Softplus gives them"),
    ],
)
@pytest.mark.parametrize("call", ["__call__", "gradient", "sums"])
def test_predictions_outside_the_range_of_the_formula_are_refused(loss, prediction, target, message, call):
    with pytest.raises(DataError, match=message):
        getattr(loss, call)(prediction, target)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -1.0], "not be negative; got -1.0 at row 1"),
        ([1.0, np.nan], "finite; got nan"),
        ([0.0, 0.0], "sum to 0"),
        ([1.0], "one weight per row"),
        ([[1.0, 1.0]], "one weight per row"),
        (["a", "b"], "real numbers"),
    ],
)
@pytest.mark.parametrize("call", ["__call__", "gradient"])
def test_impossible_weights_are_refused(weight, message, call):
    with pytest.raises(DataError, match=message):
        getattr(HalfSquaredError(), call)([1.0, 2.0], [1.0, 0.0], weight)


@pytest.mark.parametrize("call", ["__call__", "gradient"])
def test_no_rows_are_refused(call):
    with pytest.raises(DataError, match="row of positive weight"):
        getattr(HalfSquaredError(), call)([], [])


def test_predictions_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match=r"prediction must be finite; got nan at prediction\[1\]"):
        MeanSquaredError()([0.0, np.nan], [0.0, 0.0])


def own_loss(value, slope):
    class Own(Loss):
        def value(self, prediction, target):
            return value(prediction, target)

        def slope(self, prediction, target):
            return slope(prediction, target)

    return Own()


def test_a_formula_that_changes_the_shape_is_refused():
    with pytest.raises(ShapeError, match=r"Own\.value must give one value per element"):
        own_loss(lambda p, t: np.sum(p - t), np.subtract)([1.0, 2.0], [0.0, 0.0])
    with pytest.raises(ShapeError, match=r"Own\.slope must have the shape of the prediction"):
        own_loss(np.subtract, lambda *_: 1.0).gradient([1.0, 2.0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            Loss.of(lambda p, t: ((p - t) ** 2).sum(axis=-1)),
            "one value per element, .*; for one value per row write a Row",
        ),
        (
            Loss.of(lambda p, t: ((p - t) ** 2).sum(axis=-1, keepdims=True)),
            r"one value per element, .* got \(3, 1\); for one value per row write a Row",
        ),
        (RowLoss.of(lambda p, t: (p - t) ** 2), "one value per row, .*; for one value per element write a Loss"),
        (
            RowLoss.of(lambda p, t: ((p - t) ** 2).sum(axis=-1, keepdims=True)),
            r"one value per row, \(3,\); got \(3, 1\)",
        ),
        (
            Loss.of(lambda p, t: ((p - t) ** 2).mean()),
            r"one value per element, .* got \(\); the mean is taken for you",
        ),
    ],
    ids=["a value per row", "a value per row, kept axis", "a value per element", "a kept axis", "the mean"],
)
def test_a_value_of_another_shape_is_named_before_training(loss, message):
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1))
    for model in (Dense(3, 4), Dense(3, 1)):
        with pytest.raises(ShapeError, match=message):
            trainer.fit(model, (P, np.ones((6, *model.output_shape))))


@pytest.mark.parametrize(
    "loss",
    [
        Loss.of(lambda p, t: p > t),
        Loss.of(lambda p, t: t * t + 0 * p),
        RowLoss.of(lambda p, t: np.argmax(p, axis=-1) != np.argmax(t, axis=-1)),
    ],
    ids=["a comparison", "the target alone", "errors of classes"],
)
def test_a_loss_that_nothing_can_learn_from_is_refused(loss):
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(DerivativeError, match=r"of: the slope is 0 everywhere, so nothing can learn.* Metric\.of"):
        trainer.fit(Dense(3, 4), (P, np.ones((6, 4))))


def test_a_slope_that_differences_do_not_confirm_is_told_with_advice():
    trainer = Trainer(
        loss=Loss.of(lambda p, t: (p - t) ** 2 + np.rint((p - t) ** 2)), optimizer=SGDOptimizer(learning_rate=0.1)
    )
    with pytest.raises(
        DerivativeError, match=r"slope \(derived\) cannot be confirmed(.|\n)*the formula jumps there.*write slope"
    ):
        trainer.fit(Dense(3, 1), (P, np.ones((6, 1))))


def test_blocks_give_what_one_call_gives():
    p, t, w = RNG.normal(size=(5000, 7)), RNG.normal(size=(5000, 7)), RNG.uniform(size=5000)
    assert MeanSquaredError()(p, t, w) == pytest.approx(np.sum(w[:, None] * (p - t) ** 2) / (7 * w.sum()), rel=1e-13)
    expected = 2 * (p - t) * (w / (7 * w.sum()))[:, None]
    np.testing.assert_allclose(MeanSquaredError().gradient(p, t, w), expected, rtol=1e-13)


def test_keys_are_in_snake_case():
    assert [loss.key for loss in (MeanSquaredError(), CrossEntropy())] == ["mean_squared_error", "cross_entropy"]


class OwnLogarithm(Loss):
    """0 log 0 at a prediction of 0, without a guard."""

    def value(self, prediction, target):
        return (prediction - target) ** 2 + prediction * np.log(prediction)


class OwnLogCosh(Loss):
    """log cosh, whose cosh overflows."""

    def value(self, prediction, target):
        return np.log(np.cosh(prediction - target))


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "advice"),
    [
        (OwnLogCosh(), 1.0, [1000.0], r"The formula of the loss overflows there: standardise the target, "),
        (OwnLogCosh(), np.inf, [1.0], "Lower the learning rate"),
        (OwnLogarithm(), 0.0, [1.0], r"where the output is \[0\.\].*guard 0 / 0 with np\.where"),
        (OwnLogarithm(), -2.0, [1.0], r"the output is \[-2\.\].* make a number above 0, .* by np\.exp of an output"),
        (CrossEntropy(), -1.0, [[1.0, 0.0]], r"no value for this output: end the model with Softmax\(\)"),
        (MeanSquaredError(), np.nan, [1.0], "A formula in the model gives 0 / 0 or inf - inf"),
        (MeanSquaredError(), np.inf, [1.0], "Lower the learning rate"),
    ],
    ids=[
        "own overflow",
        "diverged",
        "own loss",
        "logarithm below 0",
        "no distribution",
        "nan in the model",
        "overflow",
    ],
)
def test_a_loss_that_is_not_finite_says_what_to_do(loss, outputs, targets, advice):
    targets = np.array(targets)
    outputs = np.full((1, targets.shape[-1]), outputs)
    with np.errstate(all="ignore"):
        values = loss.value(outputs, targets.reshape(outputs.shape))
    message = str(divergence_error(loss, values, outputs))
    assert re.search(advice, message), message
    assert ("Lower the learning rate" in message) == np.isinf(outputs).any()


def test_an_overflow_is_avoided_by_the_formula_that_the_error_advises():
    class Squared(Loss):
        def value(self, prediction, target):
            return np.log1p(np.exp(prediction - target) ** 2)

    class Doubled(Loss):
        def value(self, prediction, target):
            return np.logaddexp(0, 2 * (prediction - target))

    model = Neuron.from_weights([1.0])
    with np.errstate(over="ignore"):
        model.forward([[800.0]])
        with pytest.raises(DivergedError, match=r"np\.logaddexp\(0, 2 \* e\) for np\.log1p\(np\.exp\(e\)\*\*2\)"):
            Squared().backward(model, [0.0])
    model.forward([[800.0]])
    assert Doubled().backward(model, [0.0]) == pytest.approx(1600.0)


@pytest.mark.parametrize(
    ("model", "loss", "target"),
    [
        (Neuron.from_weights([1e308], activation=Sigmoid()), BinaryCrossEntropy(), [1.0]),
        (Dense.from_weights([[1e308, -1e308]], activation=Softmax()), CrossEntropy(), [0]),
    ],
    ids=["sigmoid", "softmax"],
)
def test_a_loss_of_overflowed_preactivations_advises_a_lower_rate(model, loss, target):
    with np.errstate(all="ignore"):
        model.forward([[1e10]])
        with pytest.raises(DivergedError, match="Lower the learning rate, standardise") as raised:
            loss.backward(model, target)
    assert "of h = " in str(raised.value)
    assert "your own" not in str(raised.value)


def test_a_slope_behind_an_overflow_is_found_without_a_warning():
    assert LogCosh().gradient([1e308], [-1e308]) == [1.0]


class NaiveLogCosh(Loss):
    def value(self, prediction, target):
        return np.log(np.cosh(prediction - target))


def test_a_naive_loss_is_as_stable_in_a_call_and_in_evaluation_as_in_training():
    model, x, y = Dense.from_weights([[1.0]], [0.0]), np.array([[1000.0], [-2000.0]]), np.zeros((2, 1))
    exact = 1500.0 - np.log(2.0)  # |e| - log 2 for large errors
    prediction = model.forward(x)
    assert NaiveLogCosh().backward(model, y) == pytest.approx(exact, rel=1e-14)
    assert NaiveLogCosh()(prediction, y) == pytest.approx(exact, rel=1e-14)
    assert Trainer(loss=NaiveLogCosh(), optimizer=SGDOptimizer(learning_rate=0.1)).evaluate(model, (x, y)) == {
        "loss": pytest.approx(exact, rel=1e-14)
    }


class GaussianLikelihood(RowLoss):
    def value(self, prediction, target):
        mean, log_variance = prediction[:, 0], prediction[:, 1]
        return 0.5 * (log_variance + (target[:, 0] - mean) ** 2 / np.exp(log_variance))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gaussian_likelihood_learns_the_mean_and_the_variance(dtype):
    rng = np.random.default_rng(3)
    x, y = np.ones((400, 1)), rng.normal(2.0, 3.0, 400)
    trainer = Trainer(loss=GaussianLikelihood(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=300, batch_size=400)
    run = trainer.fit(Dense(1, 2, dtype=dtype), (x, np.column_stack([y, y])))
    mean, log_variance = run.model(x[0])
    assert mean == pytest.approx(y.mean(), rel=1e-4)
    assert log_variance == pytest.approx(np.log(y.var()), rel=1e-4)
    exact = -scipy.stats.norm.logpdf(y, y.mean(), y.std()).mean() - 0.5 * np.log(2.0 * np.pi)
    assert trainer.evaluate(run.model, (x, np.column_stack([y, y])))["loss"] == pytest.approx(exact, rel=1e-5)


class UnpackedColumns(RowLoss):
    def value(self, prediction, target):
        mean, log_variance = prediction.T
        return log_variance + (target[:, 0] - mean) ** 2


GAUSSIAN_MISTAKES = {
    "targets of one column": (
        GaussianLikelihood(),
        DataError,
        r"'y' must have integer labels .*; targets that are not classes have .*, as np\.column_stack\(\[y\] \* 2\)",
    ),
    "a target without its column": (
        RowLoss.of(lambda p, t: p[:, 1] + (t - p[:, 0]) ** 2),
        ShapeError,
        r"value fails for prediction and target \(rows, 4\): .* take columns by number, .* target\[:, 0\]",
    ),
    "unpacked columns": (
        UnpackedColumns(),
        ShapeError,
        r"fails for prediction and target \(rows, 4\): .* take columns by number, as prediction\[:, 0\]",
    ),
    "columns in a loss of elements": (
        Loss.of(lambda p, t: p[:, 1:2] + (t - p[:, :1]) ** 2),
        ShapeError,
        "value must give a value for each element .* write a RowLoss",
    ),
}


@pytest.mark.parametrize(("loss", "error", "advice"), GAUSSIAN_MISTAKES.values(), ids=GAUSSIAN_MISTAKES)
def test_a_loss_of_two_outputs_and_one_target_is_told_how_to_go_on(loss, error, advice):
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(error, match=advice):
        trainer.fit(Dense(3, 2), (P, REAL[:, 0]))


class BernoulliLikelihood(Loss):
    def value(self, prediction, target):
        return -np.log(prediction**target * (1 - prediction) ** (1 - target))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bernoulli_likelihood_has_the_value_and_slope_of_binary_cross_entropy(dtype):
    prediction, target = np.array([0.0, 1.0, 0.0, 0.25, 1.0], dtype), np.array([0.0, 1.0, 0.0, 1.0, 1.0], dtype)
    own, ours = BernoulliLikelihood(), BinaryCrossEntropy()
    assert own(prediction, target) == pytest.approx(ours(prediction, target), rel=1e-6)
    np.testing.assert_allclose(own.gradient(prediction, target), ours.gradient(prediction, target), rtol=1e-6)
    assert own.gradient(prediction, target).dtype == dtype
    h, y = np.array([[1e4], [-1e4], [40.0], [-0.3]], dtype), np.array([[0.0], [1.0], [0.0], [1.0]])
    gradients = []
    for loss in (own, ours):
        model = Dense.from_weights([[1.0]], [0.0], activation=Sigmoid(), dtype=dtype)
        model.forward(h)
        gradients.append((loss.backward(model, y), *model.parameters.gradient))
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_a_likelihood_without_a_stable_form_is_answered_with_one_that_has_it():
    mixed = Loss.of(lambda p, t: -np.log(t * p + (1 - t) * (1 - p)))
    advised = Loss.of(lambda p, target: -(target * np.log(p) + (1 - target) * np.log(1 - p)))
    model = Dense.from_weights([[1.0]], [0.0], activation=Sigmoid())
    model.forward([[1e4]])
    with pytest.raises(DivergedError, match=r"as target \* np\.log\(p\) \+ \(1 - target\) \* np\.log\(1 - p\), which"):
        mixed.backward(model, [[0.0]])
    assert advised.backward(model, [[0.0]]) == 1e4


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_a_bernoulli_likelihood_trains_as_binary_cross_entropy_does(engine):
    x = RNG.normal(size=(40, 3)) * 1e3
    y = (x[:, 0] > 0).astype(float)
    histories = []
    for loss in (BernoulliLikelihood(), BinaryCrossEntropy()):
        trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=1e-3), epochs=3, engine=engine)
        histories.append(trainer.fit(Dense(3, 1, Sigmoid()), (x, y)).history["loss"])
    assert histories[0] == pytest.approx(histories[1], rel=1e-9)
