import numpy as np
import pytest
import sklearn.metrics

from framework import Accuracy, DataError, MeanSquaredError, Metric, ShapeError
from framework.formulas import RootMeanSquaredError

RNG = np.random.default_rng(0)
PROBABILITY = RNG.uniform(size=40)
BINARY = RNG.integers(0, 2, 40)
SCORES = RNG.dirichlet(np.ones(4), 40)
CLASSES = RNG.integers(0, 4, 40)
REAL, TARGET = RNG.normal(size=(2, 40, 3))
WEIGHT = RNG.uniform(size=40)
EACH_WEIGHT = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])


@EACH_WEIGHT
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_accuracy_of_one_output_is_that_of_scikit_learn(threshold, column, weight):
    expected = sklearn.metrics.accuracy_score(BINARY, threshold <= PROBABILITY, sample_weight=weight)
    prediction = PROBABILITY[:, None] if column else PROBABILITY
    for target in (BINARY, BINARY[:, None], BINARY.astype(float)):
        assert Accuracy(threshold=threshold)(prediction, target, weight) == pytest.approx(expected, rel=1e-14)


@EACH_WEIGHT
def test_accuracy_of_classes_is_that_of_scikit_learn(weight):
    expected = sklearn.metrics.accuracy_score(CLASSES, SCORES.argmax(axis=1), sample_weight=weight)
    for target in (CLASSES, CLASSES[:, None], np.eye(4)[CLASSES]):
        assert Accuracy()(SCORES, target, weight) == pytest.approx(expected, rel=1e-14)


def test_the_first_of_equal_outputs_counts():
    assert Accuracy().classes(np.array([[0.5, 0.5], [0.2, 0.8]])).tolist() == [0, 1]


@EACH_WEIGHT
def test_root_mean_squared_error_is_that_of_scikit_learn(weight):
    mean = sklearn.metrics.mean_squared_error(TARGET, REAL, sample_weight=weight)
    assert RootMeanSquaredError()(REAL, TARGET, weight) == pytest.approx(np.sqrt(mean), rel=1e-14)


@pytest.mark.parametrize(
    ("metric", "prediction", "target"),
    [(Accuracy(), SCORES, CLASSES), (Accuracy(), PROBABILITY, BINARY), (RootMeanSquaredError(), REAL, TARGET)],
)
@EACH_WEIGHT
def test_batches_add_up(metric, prediction, target, weight):
    parts = [
        metric.sums(prediction[rows], target[rows], None if weight is None else weight[rows])
        for rows in (slice(0, 7), slice(7, 32), slice(32, 40))
    ]
    total = metric.result(*np.sum(parts, axis=0))
    assert total == pytest.approx(metric(prediction, target, weight), rel=1e-14)


@pytest.mark.parametrize("metric", [Accuracy(), RootMeanSquaredError()])
@pytest.mark.parametrize(
    ("prediction", "target"), [((4,), (5,)), ((4, 2), (5,)), ((4, 2), (4, 3)), ((4,), (4, 2)), ((4, 3), (4, 2))]
)
def test_shapes_that_do_not_fit_are_refused(metric, prediction, target):
    with pytest.raises(ShapeError, match="target must have"):
        metric(np.ones(prediction), np.ones(target))


@pytest.mark.parametrize("metric", [Accuracy(), RootMeanSquaredError()])
def test_no_rows_and_no_weight_are_refused(metric):
    with pytest.raises(DataError, match="row of positive weight; the weights sum to 0"):
        metric([], [])
    with pytest.raises(DataError, match="row of positive weight; the weights sum to 0"):
        metric([1.0, 0.0], [1.0, 1.0], [0.0, 0.0])
    with pytest.raises(DataError, match="not be negative"):
        metric([1.0, 0.0], [1.0, 1.0], [1.0, -1.0])


@pytest.mark.parametrize("metric", [Accuracy(), RootMeanSquaredError()])
def test_a_single_number_is_one_row(metric):
    assert metric(1.0, 1.0) == (1.0 if isinstance(metric, Accuracy) else 0.0)


def test_results_are_plain_floats():
    for metric in (Accuracy(), RootMeanSquaredError()):
        assert type(metric(PROBABILITY.astype("float32"), BINARY)) is float


class LargestError(Metric):
    def sums(self, prediction, target, weight=None):
        return (float(np.abs(prediction - target).max()),)

    def result(self, largest):
        return largest


def test_an_own_metric_gets_its_key_from_its_name():
    assert LargestError()([1.0, 2.0], [0.0, 0.0]) == 2.0
    assert LargestError().key == "largest_error"
    assert RootMeanSquaredError().key == "root_mean_squared_error"
    assert MeanSquaredError().key == "mean_squared_error"


@pytest.mark.parametrize("column", [(6, 1), (6,)])
def test_an_own_metric_gets_targets_in_the_form_that_a_trainer_gives(column):
    off = Metric.of(lambda prediction, target: np.abs(prediction - target).mean())
    right = Metric.of(lambda prediction, target: (prediction.argmax(axis=-1) == target).mean())
    prediction = np.arange(6.0)
    for given in (prediction, prediction[:, None]):
        assert off(given, (prediction + 1.0).reshape(column)) == 1.0  # not the mean over 6 x 6 differences
    classes = np.array([0, 1, 2, 2, 1, 0])
    assert right(np.eye(3)[classes], classes.reshape(column)) == 1.0
