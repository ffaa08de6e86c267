"""A loss's call and a metric's call, and targets that a metric has no use for.

The table is read as: this call ends with this error of this argument. What it was given stays as it was. The texts are
in tests/errors.txt.
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
P, T = np.linspace(0.1, 0.9, 4), np.array([0.0, 1.0, 1.0, 0.0])
ROWS3 = np.full((4, 3), 1 / 3)
LOSSES = [
    (DataError, "prediction", lambda: MeanSquaredError()([0.0, NAN], [0.0, 0.0])),
    (DataError, "target", lambda: MeanSquaredError()(np.float32([1]), [1e300])),
    (DataError, "target", lambda: MeanSquaredError()([0.0, 0.0], [0.0, INF])),
    (ShapeError, "prediction", lambda: MeanSquaredError()([[1, 2], [3]], [[1, 2], [3]])),
    (ShapeError, "target", lambda: MeanSquaredError()([[1, 2], [3, 4]], [[1, 2], [3]])),
    (ShapeError, "target", lambda: CrossEntropy()(ROWS3, [[1], [1, 2], [1], [1]])),
    (ShapeError, "weight", lambda: MeanSquaredError()(P, T, [[1], [1, 2], [1], [1]])),
    (ShapeError, "weight", lambda: MeanSquaredError()(0.5, 0.0, [[1], [1, 2]])),
    (DtypeError, "target", lambda: MeanSquaredError()(P, [None] * 4)),
    (DtypeError, "prediction", lambda: MeanSquaredError()(["a"], [0.0])),
    (DtypeError, "target", lambda: MeanSquaredError()(P, [np.ma.masked, 0.0, 1.0, 1.0])),
    (DtypeError, "target", lambda: MeanAbsoluteError().gradient(P, T * 1j)),
    (ShapeError, None, lambda: MeanSquaredError()(P[:, None], T)),
    (ShapeError, "weight", lambda: MeanSquaredError()(P, T, [1, 1, 1])),
    (DataError, "weight", lambda: MeanSquaredError()(P, T, -T)),
    (DataError, None, lambda: MeanSquaredError()(P, T, [1e308] * 4)),
    (DataError, None, lambda: MeanSquaredError()(P, T, 0 * T)),
    (DataError, None, lambda: MeanSquaredError()([], [])),
    (DataError, "target", lambda: BinaryCrossEntropy()(P, 2 * T)),
    (DataError, "target", lambda: CrossEntropy()(ROWS3, [0, 1, 2, 3])),
    (DataError, "target", lambda: KLDivergence()(ROWS3, ROWS3 * 0 + 1)),
    (ShapeError, None, lambda: CrossEntropy()(P, T)),
    (DataError, "target", lambda: Poisson()(P, -T)),
]
MULTI = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]])
METRICS = [
    (DataError, "prediction", lambda: Accuracy()(put(P, 2, NAN), T)),
    (DataError, "prediction", lambda: TopK(k=1)(put(ROWS3, (0, 1), INF), T)),
    (DataError, "prediction", lambda: ConfusionMatrix(num_classes=2)([NAN, 1.0], [0, 1])),
    (DataError, "prediction", lambda: Accuracy().classes([NAN, 0.3])),
    (DataError, "target", lambda: RootMeanSquaredError()([1.0, 1.0], [1.0, NAN])),
    (DataError, "target", lambda: Accuracy()(ROWS3, MULTI)),
    (DataError, "target", lambda: F1()(ROWS3, 0 * MULTI)),
    (ShapeError, None, lambda: Accuracy()(*[np.ones((4, 3, 2))] * 2)),
    (ShapeError, None, lambda: R2()(np.ones((2, 3)), np.ones((2, 1, 3)))),
    (ShapeError, None, lambda: R2()(np.ones((2, 6)), np.ones((2, 3, 2)))),
    (ShapeError, None, lambda: RootMeanSquaredError()(np.ones((2, 2, 3)), np.ones((2, 3, 2)))),
    (ShapeError, None, lambda: Accuracy()(P, T[:3])),
    (ShapeError, "prediction", lambda: Accuracy()([[1, 2], [3]], [0, 1])),
    (DtypeError, "target", lambda: Accuracy()([0.1, 0.2], ["no", "yes"])),
    (DtypeError, "prediction", lambda: R2()([*MASKED], X)),
    (DataError, None, lambda: Accuracy()(P, T / 2)),
    (DataError, None, lambda: Precision()(P, T + 1)),
    (DataError, "target", lambda: TopK(k=1)(ROWS3, T / 2)),
    (ShapeError, None, lambda: TopK(k=4)(ROWS3, T)),
    (DataError, "weight", lambda: Accuracy()(P, T, -T)),
    (DataError, "weight", lambda: Accuracy()(P, T, NAN * T)),
    (DataError, None, lambda: ROCAUC()(P, 0 * T)),
    (DataError, None, lambda: R2()(P, 0 * T)),
    (DataError, "prediction", lambda: Perplexity()(ROWS3 - 4 / 3, T)),
    (DataError, "target", lambda: Perplexity()(ROWS3, 2 * MULTI[[0, 0, 2, 3]])),
    (DataError, None, lambda: Accuracy()([], [])),
]
ALL = [*LOSSES, *METRICS]


@pytest.mark.parametrize("place", range(len(ALL)), ids=[f"{i}: {row[1]}" for i, row in enumerate(ALL)])
def test_a_bad_call_is_refused_and_changes_nothing(place):
    error, argument, call = ALL[place]
    before = pickle.dumps((P, T, ROWS3, MULTI, MASKED, np.random.get_state()))  # noqa: NPY002
    for _ in range(2):
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
        assert caught.value.argument == argument
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
