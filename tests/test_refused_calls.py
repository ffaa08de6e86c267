"""A loss's call and a metric's call, and targets that a metric has no use for.

The table is read as: this call ends with this error. What it was given stays as it was.
"""

import pickle

import numpy as np
import pytest
from eleven_rows import INF, LABELS, NAN, X, Y, put

from framework import (
    F1,
    R2,
    Accuracy,
    BinaryCrossEntropy,
    ConfusionMatrix,
    CrossEntropy,
    DataError,
    Dense,
    MeanAbsoluteError,
    MeanSquaredError,
    Neuron,
    ShapeError,
    Softmax,
)
from framework.base import DtypeError
from framework.formulas import ROCAUC, KLDivergence, Perplexity, Poisson, Precision, RootMeanSquaredError, TopK
from framework.models.rows import prepare

MASKED = np.ma.MaskedArray(X, X == 0)
GRID = "must be a full grid of numbers; got rows of different lengths"
P, T = np.linspace(0.1, 0.9, 4), np.array([0.0, 1.0, 1.0, 0.0])
ROWS3 = np.full((4, 3), 1 / 3)
LOSSES = [
    (
        DataError,
        "prediction must be finite; got nan at prediction[1]",
        lambda: MeanSquaredError()([0.0, NAN], [0.0, 0.0]),
    ),
    (DataError, "target must be finite; got inf at target[0]", lambda: MeanSquaredError()(np.float32([1]), [1e300])),
    (DataError, "target must be finite; got inf at target[1]", lambda: MeanSquaredError()([0.0, 0.0], [0.0, INF])),
    (ShapeError, f"prediction {GRID}: prediction[1] has", lambda: MeanSquaredError()([[1, 2], [3]], [[1, 2], [3]])),
    (
        ShapeError,
        f"target {GRID}: target[1] has length 1",
        lambda: MeanSquaredError()([[1, 2], [3, 4]], [[1, 2], [3]]),
    ),
    (ShapeError, f"target {GRID}: target[1] has length 2", lambda: CrossEntropy()(ROWS3, [[1], [1, 2], [1], [1]])),
    (ShapeError, f"weight {GRID}: weight[1] has length 2", lambda: MeanSquaredError()(P, T, [[1], [1, 2], [1], [1]])),
    (ShapeError, "weight must be a full grid", lambda: MeanSquaredError()(0.5, 0.0, [[1], [1, 2]])),
    (
        DtypeError,
        "target must hold real numbers; got Python objects, first N",
        lambda: MeanSquaredError()(P, [None] * 4),
    ),
    (DtypeError, "prediction must hold real numbers; got text", lambda: MeanSquaredError()(["a"], [0.0])),
    (DtypeError, "target must have no masked values", lambda: MeanSquaredError()(P, [np.ma.masked, 0.0, 1.0, 1.0])),
    (DtypeError, "target must hold real numbers; got complex", lambda: MeanAbsoluteError().gradient(P, T * 1j)),
    (
        ShapeError,
        "target must have the shape of the prediction, (4, 1); got (4,); ",
        lambda: MeanSquaredError()(P[:, None], T),
    ),
    (ShapeError, "weight must have one weight per row, (4,); got (3,)", lambda: MeanSquaredError()(P, T, [1, 1, 1])),
    (DataError, "weight must not be negative; got -1.0 at row 1", lambda: MeanSquaredError()(P, T, -T)),
    (DataError, "weight must have a sum that float64 holds", lambda: MeanSquaredError()(P, T, [1e308] * 4)),
    (DataError, "MeanSquaredError needs a row of positive weight", lambda: MeanSquaredError()(P, T, 0 * T)),
    (DataError, "MeanSquaredError needs a row of positive weight", lambda: MeanSquaredError()([], [])),
    (DataError, "target must lie in [0, 1]; got 2.0 at row 1", lambda: BinaryCrossEntropy()(P, 2 * T)),
    (DataError, "target must have integer labels in 0..2; got 3", lambda: CrossEntropy()(ROWS3, [0, 1, 2, 3])),
    (DataError, "target must have rows that sum to 1; row 0 sums to 3", lambda: KLDivergence()(ROWS3, ROWS3 * 0 + 1)),
    (ShapeError, "CrossEntropy needs outputs (rows, classes); got (4,)", lambda: CrossEntropy()(P, T)),
    (DataError, "target must", lambda: Poisson()(P, -T)),
]
MULTI = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]])
METRICS = [
    (DataError, "prediction must be finite; got nan at prediction[2]", lambda: Accuracy()(put(P, 2, NAN), T)),
    (
        DataError,
        "prediction must be finite; got inf at prediction[0, 1]",
        lambda: TopK(k=1)(put(ROWS3, (0, 1), INF), T),
    ),
    (DataError, "prediction must be finite; got nan", lambda: ConfusionMatrix(num_classes=2)([NAN, 1.0], [0, 1])),
    (DataError, "prediction must be finite; got nan at prediction[0]", lambda: Accuracy().classes([NAN, 0.3])),
    (
        DataError,
        "target must be finite; got nan at target[1]",
        lambda: RootMeanSquaredError()([1.0, 1.0], [1.0, NAN]),
    ),
    (DataError, "target must have one class per row; got [1. 1. 0.] at row 1", lambda: Accuracy()(ROWS3, MULTI)),
    (DataError, "target must have one class per row; got [0. 0. 0.] at row 0", lambda: F1()(ROWS3, 0 * MULTI)),
    (
        ShapeError,
        "outputs must be (rows,) or (rows, classes); got (4, 3, 2)",
        lambda: Accuracy()(*[np.ones((4, 3, 2))] * 2),
    ),
    (
        ShapeError,
        "target must have the shape of the prediction, (2, 3)",
        lambda: R2()(np.ones((2, 3)), np.ones((2, 1, 3))),
    ),
    (
        ShapeError,
        "target must have the shape of the prediction, (2, 6)",
        lambda: R2()(np.ones((2, 6)), np.ones((2, 3, 2))),
    ),
    (
        ShapeError,
        "target must have the shape",
        lambda: RootMeanSquaredError()(np.ones((2, 2, 3)), np.ones((2, 3, 2))),
    ),
    (ShapeError, "target must have 4 rows, as the prediction has; got (3,)", lambda: Accuracy()(P, T[:3])),
    (ShapeError, f"prediction {GRID}: prediction[1] has", lambda: Accuracy()([[1, 2], [3]], [0, 1])),
    (
        DtypeError,
        "target must hold real numbers; got text, first 'no'",
        lambda: Accuracy()([0.1, 0.2], ["no", "yes"]),
    ),
    (DtypeError, "prediction must have no masked values", lambda: R2()([*MASKED], X)),
    (DataError, "Accuracy of one output needs targets 0 and 1", lambda: Accuracy()(P, T / 2)),
    (DataError, "Precision of one output needs targets 0 and 1", lambda: Precision()(P, T + 1)),
    (DataError, "target must have integer labels in 0..2; got 0.5", lambda: TopK(k=1)(ROWS3, T / 2)),
    (ShapeError, "TopK needs 4 outputs or more; got 3", lambda: TopK(k=4)(ROWS3, T)),
    (DataError, "weight must not be negative; got -1.0 at row 1", lambda: Accuracy()(P, T, -T)),
    (DataError, "weight must be finite; got nan at weight[0]", lambda: Accuracy()(P, T, NAN * T)),
    (DataError, "ROCAUC needs rows of positive weight inside and outside", lambda: ROCAUC()(P, 0 * T)),
    (DataError, "R2 needs targets that differ", lambda: R2()(P, 0 * T)),
    (DataError, "prediction must lie in [0, 1]; got -1.0 at row 0. Perpl", lambda: Perplexity()(ROWS3 - 4 / 3, T)),
    (
        DataError,
        "target must have one class per row; got [2. 0. 0.] at row 0",
        lambda: Perplexity()(ROWS3, 2 * MULTI[[0, 0, 2, 3]]),
    ),
    (DataError, "Accuracy needs a row of positive weight; the weights sum to 0", lambda: Accuracy()([], [])),
]
ALL = [*LOSSES, *METRICS]


@pytest.mark.parametrize("place", range(len(ALL)), ids=[f"{i}: {row[1][:60]}" for i, row in enumerate(ALL)])
def test_a_bad_call_is_refused_and_changes_nothing(place):
    error, line, call = ALL[place]
    before = pickle.dumps((P, T, ROWS3, MULTI, MASKED, np.random.get_state()))  # noqa: NPY002
    for _ in range(2):
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
        assert str(caught.value).startswith(line)
    assert pickle.dumps((P, T, ROWS3, MULTI, MASKED, np.random.get_state())) == before  # noqa: NPY002


def test_a_row_without_weight_adds_nothing_to_the_perplexity():
    assert Perplexity()([[0.5, 0.5], [0.0, 1.0]], [0, 0], [1.0, 0.0]) == pytest.approx(2.0)


def test_rows_with_one_largest_value_and_distributions_are_classes():
    for target in (MULTI[[0, 2, 3, 0]], 2 * MULTI[[0, 2, 3, 0]] - 1, 0.8 * MULTI[[0, 2, 3, 0]] + 0.2 / 3):
        assert Accuracy()(ROWS3, target) == 0.5
    assert Accuracy()(ROWS3, ROWS3) == 1.0  # of equals the first counts


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "bool", "uint64", "longdouble"])
def test_small_kinds_of_numbers_neither_wrap_nor_overflow(dtype):
    prediction, target = np.array([0, 1, 1], dtype), np.array([1, 0, 1], dtype)
    plain = prediction.astype(float), target.astype(float)
    for figure in (RootMeanSquaredError(), R2(), MeanSquaredError(), MeanAbsoluteError(), Accuracy()):
        assert figure(prediction, target) == figure(*plain)
    if dtype == "float16":
        assert MeanSquaredError()(300 * prediction, target) == MeanSquaredError()(300 * plain[0], plain[1])


@pytest.mark.parametrize("target", [1e300, -1e39])
def test_a_target_too_large_for_the_models_dtype_is_refused(target):
    for model, rows, targets in [
        (Neuron(2, dtype="float32"), X, [target] * 11),
        (Neuron(2, dtype="float32"), X[0], target),
    ]:
        model.forward(rows)
        with pytest.raises(DataError, match="target must be finite"):
            MeanSquaredError().backward(model, targets)


def test_one_output_may_be_a_column_on_either_side():
    for metric in (RootMeanSquaredError(), R2()):
        assert metric(P[:, None], T) == metric(P, T[:, None]) == metric(P[:, None], T[:, None]) == metric(P, T)


UP_FRONT = [
    (
        Neuron(2),
        MeanSquaredError(),
        Accuracy(),
        Y / 2,
        "Accuracy of one output needs targets 0 and 1, or -1 and 1",
    ),
    (Neuron(2), MeanSquaredError(), ROCAUC(), 0 * Y, "ROCAUC needs rows of positive weight inside and outside class 1"),
    (Neuron(2), MeanSquaredError(), R2(), 0 * Y + 1, "R2 needs targets that differ; those of output 0 are constant"),
    (Dense(2, 3, Softmax()), CrossEntropy(), TopK(k=4), LABELS, "TopK needs 4 outputs or more; got 3"),
    (
        Dense(2, 3, Softmax()),
        CrossEntropy(),
        ROCAUC(),
        LABELS % 2,
        "ROCAUC needs rows of positive weight inside",
    ),
    (
        Dense(2, 3),
        MeanSquaredError(),
        F1(),
        np.ones((11, 3)),
        "target must have one class per row; got [1. 1. 1.]",
    ),
    (
        Dense(2, 3),
        MeanSquaredError(),
        Perplexity(),
        2 * np.eye(3)[LABELS],
        "target must have one class per row; got [2. 0. 0.] at row 0",
    ),
]


@pytest.mark.parametrize("place", range(len(UP_FRONT)), ids=[f"{i}: {row[-1][:50]}" for i, row in enumerate(UP_FRONT)])
@pytest.mark.parametrize("name", ["fit", "fit: validation", "evaluate"])
def test_targets_that_a_metric_has_no_use_for_are_refused_up_front(place, name):
    model, loss, metric, y, line = UP_FRONT[place]
    with pytest.raises(DataError) as caught:
        prepare((X, y), model, (loss,), name, metrics=[loss, metric])
    assert str(caught.value).startswith(f"{name}: argument 'y': {line}")
    assert prepare((X, y), model, (loss,), name).rows == 11


def test_targets_whose_rows_have_no_weight_are_none():
    weight = np.where(Y == 1, 0.0, 1.0)
    with pytest.raises(DataError, match="evaluate: argument 'y': ROCAUC needs rows of positive weight"):
        prepare((X, Y, weight), Neuron(2), (MeanSquaredError(),), "evaluate", metrics=[ROCAUC()])
    prepare((X, Y), Neuron(2), (MeanSquaredError(),), "evaluate", metrics=[ROCAUC()])
