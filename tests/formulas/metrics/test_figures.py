"""The metrics of the catalogue against scikit-learn, weighted or not, and added up over uneven batches."""

import pickle

import numpy as np
import pytest
import sklearn.metrics as reference

from framework import (
    F1,
    R2,
    Accuracy,
    Component,
    ConfusionMatrix,
    CrossEntropy,
    DataError,
    Dense,
    Metric,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Trainer,
)
from framework.base import UsageError
from framework.formulas import ROCAUC, Perplexity, Precision, Recall, TopK
from framework.formulas.metrics import WholeMetric

RNG = np.random.default_rng(1)
ROWS = 53
PROBABILITY = RNG.uniform(size=ROWS).round(1)  # with ties
BINARY = RNG.integers(0, 2, ROWS)
SCORES = RNG.dirichlet(np.ones(5), ROWS)
CLASSES = RNG.integers(0, 5, ROWS)
REAL = RNG.normal(3.0, 2.0, (ROWS, 3))
TARGET = REAL + RNG.normal(size=(ROWS, 3))
WEIGHT = RNG.uniform(size=ROWS)
WEIGHT[::7] = 0.0
BATCHES = (slice(0, 7), slice(7, 8), slice(8, 40), slice(40, ROWS))
EACH_WEIGHT = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])

COUNTED = [
    (Precision, reference.precision_score),
    (Recall, reference.recall_score),
    (F1, reference.f1_score),
]
ADDITIVE = [
    *((metric(), PROBABILITY, BINARY) for metric, _ in COUNTED),
    *((metric(average=average), SCORES, CLASSES) for metric, _ in COUNTED for average in ("macro", "micro")),
    (TopK(k=1), SCORES, CLASSES),
    (TopK(k=3), SCORES, CLASSES),
    (Perplexity(), SCORES, CLASSES),
    (R2(), REAL, TARGET),
    (R2(center=3.0), REAL[:, 0], TARGET[:, 0]),
]


def added(metric, prediction, target, weight):
    parts = [metric.sums(prediction[b], target[b], None if weight is None else weight[b]) for b in BATCHES]
    assert all(type(value) is float for part in parts for value in part)
    return metric.result(*(sum(values) for values in zip(*parts, strict=True)))


@EACH_WEIGHT
@pytest.mark.parametrize(("metric", "prediction", "target"), ADDITIVE, ids=lambda value: repr(value)[:40])
def test_uneven_batches_add_up_to_the_whole(metric, prediction, target, weight):
    whole = metric(prediction, target, weight)
    assert type(whole) is float
    assert added(metric, prediction, target, weight) == pytest.approx(whole, rel=1e-12)


@EACH_WEIGHT
@pytest.mark.parametrize(("metric", "prediction", "target"), ADDITIVE, ids=lambda value: repr(value)[:40])
def test_a_weight_of_two_is_the_row_twice(metric, prediction, target, weight):
    weight = np.full(ROWS, 2.0) if weight is None else 2.0 * weight
    twice = np.concatenate([prediction, prediction]), np.concatenate([target, target])
    assert metric(*twice, np.concatenate([weight, weight]) / 2) == pytest.approx(metric(prediction, target, weight))


@EACH_WEIGHT
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize(("metric", "function"), COUNTED)
def test_the_counts_of_one_output_are_those_of_scikit_learn(metric, function, threshold, weight):
    expected = function(BINARY, threshold <= PROBABILITY, sample_weight=weight)
    for prediction in (PROBABILITY, PROBABILITY[:, None], PROBABILITY.astype("float32")):
        cut = np.float32(threshold) if prediction.dtype == np.float32 else threshold
        for target in (BINARY, BINARY[:, None].astype(float), 2.0 * BINARY - 1.0):
            assert metric(threshold=cut)(prediction, target, weight) == pytest.approx(expected, rel=1e-12)


@EACH_WEIGHT
@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize(("metric", "function"), COUNTED)
def test_the_counts_of_classes_are_those_of_scikit_learn(metric, function, average, weight):
    for target in (CLASSES, np.minimum(CLASSES, 2)):
        expected = function(target, SCORES.argmax(axis=1), average=average, sample_weight=weight, zero_division=0)
        assert metric(average=average)(SCORES, target, weight) == pytest.approx(expected, rel=1e-12)
        assert metric(average=average)(SCORES, np.eye(5)[target], weight) == pytest.approx(expected, rel=1e-12)


def test_macro_leaves_out_a_class_that_never_occurs():
    prediction, target = np.eye(4)[[0, 1, 1]], [0, 1, 0]
    expected = reference.f1_score(target, [0, 1, 1], average="macro")
    assert F1()(prediction, target) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [Precision(), Recall(), F1()])
def test_nothing_of_nothing_is_0(metric):
    assert metric([0.1, 0.2], [0, 0]) == 0.0


def test_targets_that_are_no_classes_are_refused():
    with pytest.raises(
        DataError, match=r"Precision of one output needs targets 0 and 1, or -1 and 1; got 0.5 at row 1"
    ):
        Precision()([0.1, 0.2], [0.0, 0.5])
    with pytest.raises(DataError, match=r"integer labels in 0..4; got 5"):
        Recall()(SCORES, np.full(ROWS, 5))
    with pytest.raises(ShapeError, match="one class per row"):
        F1()(SCORES, np.ones((ROWS, 2)))
    with pytest.raises(SettingsError, match="average"):
        F1(average="weighted")


@pytest.mark.parametrize(
    "metric", [Accuracy(), TopK(k=2), F1(), ROCAUC(), Perplexity(), ConfusionMatrix(num_classes=3)]
)
@pytest.mark.parametrize("row", [[3.5, 1.2, 0.1], [0.2, -0.1, 0.9], [0.5, 0.4, 0.3], [2.0, 0.0, 0.0]])
def test_rows_that_are_no_distributions_are_refused(metric, row):
    target = np.vstack([np.eye(3), row])
    with pytest.raises(
        DataError, match=r"target must have one class per row; got \[.*\] at row 3. Give integer classes"
    ):
        metric(np.full((4, 3), 1 / 3), target)


def test_rows_of_probabilities_and_of_minus_one_and_one_are_classes():
    for target in ([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], [[-1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]):
        assert Accuracy()([[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]], target) == 0.5


@EACH_WEIGHT
@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_that_of_scikit_learn(k, weight):
    expected = reference.top_k_accuracy_score(CLASSES, SCORES, k=k, sample_weight=weight)
    assert TopK(k=k)(SCORES, CLASSES, weight) == pytest.approx(expected, rel=1e-12)
    assert TopK(k=k).key == f"top_{k}"


def test_top_k_counts_the_first_of_equals_and_in_training_never_nan():
    equal = np.full((3, 3), 0.3)
    assert [TopK(k=k)(equal, [0, 1, 2]) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert TopK(k=2).sums(np.array([[np.nan, 0.1, 0.2], [0.5, np.nan, 0.1]]), np.array([0, 1])) == (0.0, 2.0)


def test_top_k_needs_k_outputs():
    with pytest.raises(ShapeError, match="TopK needs 6 outputs or more; got 5"):
        TopK(k=6)(SCORES, CLASSES)
    with pytest.raises(ShapeError, match=r"needs outputs \(rows, classes\)"):
        TopK(k=1)(PROBABILITY, BINARY)


@EACH_WEIGHT
def test_the_confusion_matrix_is_that_of_scikit_learn(weight):
    matrix = ConfusionMatrix(num_classes=5)
    expected = reference.confusion_matrix(CLASSES, SCORES.argmax(axis=1), sample_weight=weight, labels=range(5))
    np.testing.assert_allclose(matrix(SCORES, CLASSES, weight), expected, rtol=1e-12)
    parts = [matrix(SCORES[b], CLASSES[b], None if weight is None else WEIGHT[b]) for b in BATCHES if b.stop != 8]
    rest = matrix(SCORES[7:8], CLASSES[7:8], None if weight is None else np.ones(1))
    np.testing.assert_allclose(sum(parts) + (rest if weight is None else rest * WEIGHT[7]), expected, rtol=1e-12)
    binary = reference.confusion_matrix(BINARY, PROBABILITY >= 0.5, sample_weight=weight)
    np.testing.assert_allclose(ConfusionMatrix(num_classes=2)(PROBABILITY, BINARY, weight), binary, rtol=1e-12)
    assert matrix(SCORES, CLASSES).dtype.kind == "i"


def test_the_confusion_matrix_refuses_other_outputs():
    with pytest.raises(ShapeError, match=r"of 5 classes needs outputs \(rows, 5\); got \(53,\)"):
        ConfusionMatrix(num_classes=5)(PROBABILITY, BINARY)
    with pytest.raises(ShapeError, match=r"of 2 classes needs outputs \(rows, 2\) or \(rows,\)"):
        ConfusionMatrix(num_classes=2)(SCORES, CLASSES)
    with pytest.raises(DataError, match="row of positive weight"):
        ConfusionMatrix(num_classes=2)([], [])


def test_the_confusion_matrix_has_no_place_in_a_trainer():
    with pytest.raises(SettingsError, match="metrics"):
        Trainer(
            loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=[ConfusionMatrix(num_classes=2)]
        )


@EACH_WEIGHT
@pytest.mark.parametrize("scores", [PROBABILITY, RNG.normal(size=ROWS), PROBABILITY[:, None] - 5.0])
def test_roc_auc_is_that_of_scikit_learn(scores, weight):
    expected = reference.roc_auc_score(BINARY, scores.reshape(-1), sample_weight=weight)
    assert ROCAUC()(scores, BINARY, weight) == pytest.approx(expected, rel=1e-12)
    assert ROCAUC()(scores, 2 * BINARY - 1, weight) == pytest.approx(expected, rel=1e-12)


@EACH_WEIGHT
def test_roc_auc_of_classes_is_one_against_the_rest(weight):
    expected = reference.roc_auc_score(CLASSES, SCORES, multi_class="ovr", average="macro", sample_weight=weight)
    assert ROCAUC()(SCORES, CLASSES, weight) == pytest.approx(expected, rel=1e-12)
    two = np.stack([1.0 - PROBABILITY, PROBABILITY], axis=1)
    assert ROCAUC()(two, BINARY, weight) == pytest.approx(ROCAUC()(PROBABILITY, BINARY, weight), rel=1e-12)


def test_roc_auc_counts_a_tie_half():
    assert ROCAUC()([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5


def test_roc_auc_without_both_classes_is_refused():
    with pytest.raises(DataError, match="inside and outside class 1"):
        ROCAUC()([0.1, 0.2], [1, 1])
    with pytest.raises(DataError, match="inside and outside class 1"):
        ROCAUC()([0.1, 0.2], [0, 1], [1.0, 0.0])
    with pytest.raises(DataError, match="finite"):
        ROCAUC()([0.1, np.nan], [0, 1])


def test_a_whole_metric_is_no_sum():
    metric = ROCAUC()
    assert isinstance(metric, WholeMetric)
    assert isinstance(metric, Metric)
    assert metric.key == "roc_auc"
    assert not any(isinstance(metric, WholeMetric) for metric, _, _ in ADDITIVE)
    for call in (lambda: metric.sums(PROBABILITY, BINARY), lambda: metric.result(1.0)):
        with pytest.raises(UsageError, match="whole_result"):
            call()


@EACH_WEIGHT
def test_r2_is_that_of_scikit_learn(weight):
    for columns in (slice(0, 1), slice(0, 3)):
        prediction, target = REAL[:, columns], TARGET[:, columns]
        expected = reference.r2_score(target, prediction, sample_weight=weight)
        assert R2()(prediction, target, weight) == pytest.approx(expected, rel=1e-12)
    assert R2()(REAL[:, 0], TARGET[:, :1], weight) == pytest.approx(R2()(REAL[:, 0], TARGET[:, 0], weight))


def test_r2_of_targets_far_from_0_needs_a_center():
    far = TARGET[:, 0] + 1e7
    with pytest.raises(DataError, match=r"write R2\(center=1e\+07\)"):
        R2()(REAL[:, 0] + 1e7, far)
    expected = reference.r2_score(far, REAL[:, 0] + 1e7)
    assert R2(center=1e7)(REAL[:, 0] + 1e7, far) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_r2_of_constant_targets_is_refused(constant):
    with pytest.raises(DataError, match="targets that differ"):
        R2()([1.0, 2.0, 3.0], [constant] * 3)


@EACH_WEIGHT
def test_perplexity_is_the_exponential_of_the_log_loss(weight):
    expected = np.exp(reference.log_loss(CLASSES, SCORES, sample_weight=weight, labels=range(5)))
    for target in (CLASSES, CLASSES.astype(float), np.eye(5)[CLASSES]):
        assert Perplexity()(SCORES, target, weight) == pytest.approx(expected, rel=1e-12)
    assert Perplexity()(SCORES, CLASSES, weight) == pytest.approx(np.exp(CrossEntropy()(SCORES, CLASSES, weight)))


def test_perplexity_takes_rows_of_probabilities():
    soft = np.random.default_rng(3).dirichlet(np.ones(5), ROWS)
    assert Perplexity()(SCORES, soft) == pytest.approx(np.exp(CrossEntropy()(SCORES, soft)))


def test_perplexity_of_a_blind_guess_is_the_number_of_classes_and_of_a_sure_mistake_infinite():
    assert Perplexity()(np.full((4, 8), 1 / 8), [0, 3, 5, 7]) == pytest.approx(8.0)
    assert Perplexity()([[0.0, 1.0]], [0]) == np.inf
    assert Perplexity()([[0.0, 1.0]], [1]) == 1.0
    with pytest.raises(ShapeError, match=r"Perplexity needs outputs .*; give the last layer a unit for each class"):
        Perplexity()(PROBABILITY, BINARY)


@pytest.mark.parametrize(
    "component",
    [
        TopK(k=3),
        Precision(threshold=0.3),
        Recall(average="micro"),
        F1(),
        ConfusionMatrix(num_classes=3),
        ROCAUC(),
        R2(center=1.5),
        Perplexity(),
    ],
)
def test_metrics_travel(component):
    assert Component.from_json(component.to_json()) == component
    assert pickle.loads(pickle.dumps(component)) == component
    assert eval(repr(component)) == component
    assert "Example:" in type(component).__doc__


def test_names_in_a_history():
    metrics = (TopK(k=5), Precision(), Recall(), F1(), ROCAUC(), R2(), Perplexity())
    assert [metric.key for metric in metrics] == ["top_5", "precision", "recall", "f1", "roc_auc", "r2", "perplexity"]


def test_arguments_are_left_as_they_are():
    for metric, prediction, target in [
        *ADDITIVE,
        (ROCAUC(), SCORES, CLASSES),
        (ConfusionMatrix(num_classes=5), SCORES, CLASSES),
    ]:
        before = prediction.copy(), target.copy(), WEIGHT.copy()
        metric(prediction, target, WEIGHT)
        for kept, now in zip(before, (prediction, target, WEIGHT), strict=True):
            assert np.array_equal(kept, now)


def test_a_trainer_reports_them_over_an_epoch_with_a_smaller_last_batch():
    x, y = np.random.default_rng(4).normal(size=(ROWS, 4)), CLASSES % 3
    metrics = [F1(), Precision(average="micro"), TopK(k=2), Perplexity()]
    trainer = Trainer(
        loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=3, batch_size=8, metrics=metrics
    )
    model = Dense(4, 3, Softmax())
    row = trainer.fit(model, (x, y, WEIGHT), (x, y, WEIGHT)).history[-1]
    prediction = trainer.predict(model, x)
    for metric in metrics:
        assert row[f"val_{metric.key}"] == pytest.approx(metric(prediction, y, WEIGHT), rel=1e-12)
        assert np.isfinite(row[metric.key])


@pytest.mark.parametrize("label", [2.0, -1.0, 0.5])
def test_accuracy_of_several_outputs_refuses_a_target_that_is_no_class(label):
    with pytest.raises(DataError, match=str(label)):
        Accuracy()([[0.2, 0.7], [0.6, 0.4]], [0.0, label])
