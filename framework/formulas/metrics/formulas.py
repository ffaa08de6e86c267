"""Metrics of classes: which class was predicted, and how sure; and of numbers: how far the predictions are off.

One output is a probability, or a score: class 1 from ``threshold`` on. Several outputs are scores of a class each, and
the largest counts, the first of equals. Targets are classes, or one-hot rows. Where a figure would be 0 / 0, such as
the precision of a class that is never predicted, it is 0. The mean absolute error is a loss: MeanAbsoluteError.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from framework.base.arrays import Array, likeliest, real_array, require_finite
from framework.base.errors import DataError, ShapeError
from framework.base.settings.component import Component, Count
from framework.formulas.losses.base import require_classes, require_distributions, require_range
from framework.formulas.losses.formulas import MeanSquaredError
from framework.formulas.metrics.base import Metric, WholeMetric, check_rows


class _OfClasses(Metric):
    """The base of figures of classes: targets that ``sums`` refuses are refused before any training."""

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        self.sums(np.broadcast_to(0.0, shape), target, weight)


class _Fraction(_OfClasses):
    """A weighted fraction of the rows."""

    better = "greater"

    def result(self, *sums: float) -> float:
        right, count = sums
        return right / count


class Accuracy(_Fraction):
    """The weighted fraction of rows whose predicted class is right.

    Example:
        >>> Accuracy()([0.2, 0.7, 0.9], [0, 1, 0])
        0.666...
        >>> Accuracy()([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        0.5
    """

    threshold: float = 0.5

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        labels = true_classes(self, target, prediction)
        return count_weights(predict_classes(prediction, self.threshold) == labels, weight)

    def classes(self, prediction: Any) -> Array:
        """Return the predicted class of each row, (rows,).

        Raises:
            DataError: A prediction is not finite.

        Example:
            >>> Accuracy().classes(np.array([0.2, 0.7]))
            array([0, 1])
        """
        prediction = np.atleast_1d(real_array(prediction, "prediction"))
        require_finite(prediction, "prediction")
        return predict_classes(prediction, self.threshold)


class TopK(_Fraction):
    """The weighted fraction of rows whose class is among the k largest outputs; of equals the first count.

    It is called ``top_5`` in a history when k is 5. TopK(k=1) is Accuracy.

    Example:
        >>> TopK(2)([[0.1, 0.3, 0.6], [0.7, 0.2, 0.1]], [1, 2])
        0.5
    """

    k: Count

    @property
    def key(self) -> str:
        return f"top_{self.k}"

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        labels = true_classes(self, target, prediction, several=True)[:, None]
        classes = prediction.shape[1]
        if self.k > classes:
            raise ShapeError(f"TopK needs {self.k} outputs or more; got {classes}")
        score = np.take_along_axis(prediction, labels, axis=1)
        tied = (prediction == score) & (np.arange(classes) > labels)
        behind = (prediction < score) | tied  # NaN is behind nothing and leaves nothing behind
        return count_weights(classes - 1 - behind.sum(axis=1) < self.k, weight)


class _Counted(_OfClasses):
    """A figure from three counts: hits (predicted and true), predicted, true.

    With one output they are those of class 1. With several, each class has its own, and ``average`` says what is made
    of them: ``"macro"`` is the plain mean of the figure over the classes that occur among predictions or targets,
    ``"micro"`` the figure of the counts summed over all classes, which is the accuracy.
    """

    better = "greater"

    threshold: float = 0.5
    average: Literal["macro", "micro"] = "macro"

    @abstractmethod
    def _ratio(self, hits: Array, predicted: Array, true: Array) -> tuple[Array, Array]:
        """Return numerator and denominator of the figure."""

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return the weighted hits of each class, then the predicted of each, then the true of each."""
        single = is_single(prediction)
        classes = 2 if single else prediction.shape[1]
        predicted, true = predict_classes(prediction, self.threshold), true_classes(self, target, prediction)
        hits = predicted == true
        counts = (
            np.bincount(true[hits], None if weight is None else weight[hits], classes),
            np.bincount(predicted, weight, classes),
            np.bincount(true, weight, classes),
        )
        return tuple(float(count) for class_counts in counts for count in class_counts[1 if single else 0 :])

    def result(self, *sums: float) -> float:
        counts = np.reshape(np.array(sums), (3, -1))
        if self.average == "micro":
            counts = counts.sum(axis=1, keepdims=True)
        elif counts.shape[1] > 1:
            counts = counts[:, counts[1] + counts[2] > 0]
        over, under = self._ratio(*counts)
        return float(np.mean(np.divide(over, under, out=np.zeros_like(over), where=under > 0)))


class Precision(_Counted):
    """hits / predicted: how much of what is called class 1 is class 1; with several outputs, for each class.

    Attributes:
        threshold: With one output, class 1 from here on.
        average: With several outputs: ``"macro"``, the plain mean over the classes that occur, or ``"micro"``, from the
            counts summed over the classes. Of no effect with one output.

    Example:
        >>> Precision()([0.9, 0.8, 0.2], [1, 0, 1])
        0.5
    """

    def _ratio(self, hits: Array, predicted: Array, true: Array) -> tuple[Array, Array]:
        return hits, predicted


class Recall(_Counted):
    """hits / true: how much of class 1 is found; with several outputs, for each class. Settings as in Precision.

    Example:
        >>> Recall()([0.9, 0.8, 0.2, 0.7], [1, 0, 1, 1])
        0.666...
    """

    def _ratio(self, hits: Array, predicted: Array, true: Array) -> tuple[Array, Array]:
        return hits, true


class F1(_Counted):
    """2 hits / (predicted + true), the harmonic mean of precision and recall; with several outputs, for each class.

    Its settings are those of Precision.

    Example:
        >>> F1()([0.9, 0.8, 0.2], [1, 0, 1])
        0.5
    """

    def _ratio(self, hits: Array, predicted: Array, true: Array) -> tuple[Array, Array]:
        return 2.0 * hits, predicted + true


class ConfusionMatrix(Component):
    """How often each class was called what: matrix[true, predicted], whole numbers, or sums of weights.

    Its result is a matrix, so it has no place in a history or in ``Trainer(metrics=...)``: call it on predictions. The
    matrices of several batches add up to that of all rows.

    Attributes:
        num_classes: The number of classes. One output goes with 2.
        threshold: With one output, class 1 from here on.

    Example:
        >>> ConfusionMatrix(num_classes=2)([0.9, 0.8, 0.2], [1, 0, 1])
        array([[0, 1],
               [1, 1]])
    """

    num_classes: Annotated[int, Field(ge=2)]
    threshold: float = 0.5

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> Array:
        """Return the matrix (classes, classes) of these rows.

        Raises:
            ShapeError: The outputs are not those of that many classes, or there are not as many as targets.
            DataError: A target is not a class, there are no rows, or no row has a weight.
        """
        prediction, target, weight = check_rows(self, prediction, target, weight)
        outputs = 2 if is_single(prediction) else prediction.shape[1]
        if outputs != self.num_classes:
            raise ShapeError(
                f"ConfusionMatrix of {self.num_classes} classes needs outputs (rows, {self.num_classes})"
                f"{' or (rows,)' if self.num_classes == 2 else ''}; got {prediction.shape}"
            )
        true = require_classes(labels_of(target, prediction), self.num_classes, "target")
        cells = true * self.num_classes + predict_classes(prediction, self.threshold)
        return np.bincount(cells, weight, self.num_classes**2).reshape(self.num_classes, self.num_classes)


class Perplexity(_OfClasses):
    """exp of the mean cross-entropy, exp(-sum(w log p) / sum(w)), p being the probability given to the row's class.

    It is the number of equally likely classes that would leave as much doubt: 1 is certain and right, the number of
    classes is a blind guess. Targets may also be rows of probabilities. A p of 0 gives infinity.

    Example:
        >>> round(Perplexity()([[0.25, 0.75], [0.5, 0.5]], [1, 0]), 3)
        1.633

    Source:
        Jelinek et al., Perplexity: a measure of the difficulty of speech recognition tasks (1977).
    """

    better = "smaller"

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        labels = true_classes(self, target, prediction, several=True)
        require_range("prediction", prediction, 0.0, 1.0, "Perplexity needs probabilities, as Softmax gives them")
        with np.errstate(divide="ignore"):
            if target.shape == prediction.shape:
                require_distributions("target", target)
                logs = np.log(prediction, where=target > 0, out=np.zeros(prediction.shape))
                losses = -np.sum(target * logs, axis=1)
            else:
                losses = -np.log(np.take_along_axis(prediction, labels[:, None], axis=1)[:, 0], dtype=np.float64)
        if weight is None:
            return float(losses.sum()), float(len(losses))
        counted = weight > 0  # 0 times an infinite loss would be no number
        return float(weight[counted] @ losses[counted]), float(np.sum(weight, dtype=np.float64))

    def result(self, *sums: float) -> float:
        total, count = sums
        with np.errstate(over="ignore"):
            return float(np.exp(total / count))


class ROCAUC(WholeMetric):
    """The area under the ROC curve: how often a row of class 1 scores above one of class 0, a tie counted half.

    With several outputs, the plain mean over the classes of each one's score against the rest. The scores' order alone
    matters, so outputs before or after a Sigmoid give the same.

    Raises:
        DataError: A class has no row of positive weight, or a prediction is not finite.

    Example:
        >>> ROCAUC()([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75

    Source:
        Fawcett, An introduction to ROC analysis (2006), section 7; several classes: section 9.
    """

    better = "greater"

    @property
    def key(self) -> str:
        return "roc_auc"

    def whole_result(self, prediction: Array, target: Array, weight: Array | None = None) -> float:
        require_finite(prediction, "prediction")
        labels = true_classes(self, target, prediction)
        if is_single(prediction):
            return _area(prediction.reshape(-1), labels == 1, weight, 1)
        areas = [_area(scores, labels == index, weight, index) for index, scores in enumerate(prediction.T)]
        return math.fsum(areas) / len(areas)

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        """Refuse targets in which a class has no row, or every row."""
        self.whole_result(np.broadcast_to(0.0, shape), target, weight)


class _OfTemperature(WholeMetric):
    """The base of figures of the temperature T with the least log loss of softmax(h / T), T between 1/4 and 8.

    The probabilities p give h = log p, up to a number for each row, which changes nothing.
    """

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        """Refuse targets that are not classes."""
        true_classes(self, target, np.broadcast_to(0.0, shape))

    def _best(self, prediction: Array, target: Array, weight: Array | None) -> tuple[float, float]:
        """Return the best temperature, and the log loss there.

        The loss is convex in b = 1 / T, so Newton's steps find it; one that is too long is a bisection instead.
        Where no T changes the loss, as for equal probabilities, T is 1.
        """
        advice = f"{type(self).__name__} needs probabilities, as Softmax and Sigmoid give them"
        require_range("prediction", prediction, 0.0, 1.0, advice)
        labels = true_classes(self, target, prediction)
        p = np.ascontiguousarray(prediction.reshape(len(prediction), -1).T, np.float64)  # sums over classes are fast
        if len(p) == 1:
            p = np.clip(p, _CERTAIN, 1.0 - _CERTAIN)
            p = np.concatenate([1.0 - p, p])
        h = np.log(np.maximum(p, _LEAST))
        h -= np.take_along_axis(h, labels[None], axis=0)  # the loss of a row is then log sum exp(b h)
        share = np.full(len(labels), 1.0 / len(labels)) if weight is None else weight / np.sum(weight, dtype=np.float64)
        top = h.max(axis=0)
        low, high, b, moved = *_RANGE, 1.0, math.inf
        while moved > 1e-9 * b:
            scaled = np.exp(b * (h - top))
            total = scaled.sum(axis=0)
            scaled *= h
            mean = scaled.sum(axis=0) / total
            slope = float(share @ mean)
            scaled *= h
            curvature = float(share @ (scaled.sum(axis=0) / total - mean**2))
            if slope == 0:
                break
            low, high = (low, b) if slope > 0 else (b, high)
            step = b - slope / curvature if curvature > 0 else math.inf
            if not low < step < high or abs(step - b) > 0.5 * moved:
                step = math.sqrt(low * high)
            moved, b = abs(step - b), step
        return 1.0 / b, float(share @ (np.log(np.exp(b * (h - top)).sum(axis=0)) + b * top))


class RefinedLoss(_OfTemperature):
    """The log loss at the best temperature: what is left of it once the probabilities are calibrated.

    The log loss of a network that becomes too sure rises while it still learns to sort the rows. This figure falls
    until that ends. It is the log loss or less.

    Raises:
        DataError: A prediction is not a probability, or a target not a class.

    Example:
        >>> from framework import BinaryCrossEntropy
        >>> prediction, target = np.array([0.99, 0.99, 0.99, 0.01]), np.array([1, 1, 0, 0])
        >>> round(BinaryCrossEntropy()(prediction, target), 3), round(RefinedLoss()(prediction, target), 3)
        (1.159, 0.562)

    Source:
        Berta, Holzmueller, Jordan and Bach, Rethinking early stopping: refine, then calibrate (2025), arXiv 2501.19195.
    """

    better = "smaller"

    def whole_result(self, prediction: Array, target: Array, weight: Array | None = None) -> float:
        return self._best(prediction, target, weight)[1]


class Temperature(_OfTemperature):
    """The temperature T with the least log loss of softmax(h / T), h being what the activation at the end takes.

    Above 1 the predictions are too sure, below 1 not sure enough. It lies between 1/4 and 8.
    ``RestoreBest(calibrate=True)`` puts it into the model.

    Raises:
        DataError: A prediction is not a probability, or a target not a class.

    Example:
        >>> round(Temperature()([0.99, 0.99, 0.99, 0.01], [1, 1, 0, 0]), 2)
        4.18

    Source:
        Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks (2017), section 4.2.
    """

    def whole_result(self, prediction: Array, target: Array, weight: Array | None = None) -> float:
        return self._best(prediction, target, weight)[0]


_RANGE = 1 / 8, 4.0
"""The range of 1 / T: with few rows, all of them right, no T would be small enough."""

_CERTAIN, _LEAST = 1e-7, 1e-30
"""Probabilities nearer to 0 or 1 have lost their digits in float32."""


def _area(scores: Array, positive: Array, weight: Array | None, label: int) -> float:
    """Return the weighted fraction of pairs of a positive and a negative row that stand in the right order."""
    weight = np.ones(len(scores)) if weight is None else weight.astype(np.float64)
    values, rank = np.unique(scores, return_inverse=True)
    over = np.bincount(rank, weight * positive, len(values))
    under = np.bincount(rank, weight * ~positive, len(values))
    pairs = float(over.sum() * under.sum())
    if not pairs > 0:
        raise DataError(f"ROCAUC needs rows of positive weight inside and outside class {label}; one side has none")
    return float(over @ (np.cumsum(under) - 0.5 * under)) / pairs


def is_single(prediction: Array) -> bool:
    """Return whether there is one output per row.

    Example:
        >>> is_single(np.zeros((5, 1))), is_single(np.zeros(5)), is_single(np.zeros((5, 2)))
        (True, True, False)
    """
    return prediction.ndim == 1 or prediction.shape[1:] == (1,)


def predict_classes(prediction: Array, threshold: float) -> Array:
    """Return the predicted class of each row, (rows,): 1 from the threshold on, or the first of the largest outputs.

    Example:
        >>> predict_classes(np.array([0.2, 0.7]), 0.5), predict_classes(np.array([[0.2, 0.4, 0.4]]), 0.5)
        (array([0, 1]), array([1]))
    """
    if is_single(prediction):
        return (prediction.reshape(-1) >= threshold).astype(np.intp)
    return np.asarray(np.argmax(prediction, axis=-1))


def labels_of(target: Array, prediction: Array) -> Array:
    """Return the class of each row as it was given, (rows,), from classes or from rows of the prediction's shape.

    Raises:
        ShapeError: The target has another shape, or the outputs have more axes than (rows, classes).
        DataError: A row of targets has several labels, or none, or other numbers than probabilities.

    Example:
        >>> (
        ...     labels_of(np.array([[0.0, 1.0]]), np.array([[0.4, 0.6]])),
        ...     labels_of(np.array([1.0]), np.array([[0.4, 0.6]])),
        ... )
        (array([1]), array([1.]))
    """
    if prediction.ndim > 2:
        raise ShapeError(f"outputs must be (rows,) or (rows, classes); got {prediction.shape}")
    if is_single(prediction) or target.shape != prediction.shape:
        if target.size != len(prediction):
            raise ShapeError(f"target must have one class per row, or the shape {prediction.shape}; got {target.shape}")
        return target.reshape(-1)
    return likeliest(target, "target")


def true_classes(metric: Component, target: Array, prediction: Array, *, several: bool = False) -> Array:
    """Return the class of each row as an integer; of one output 1 or 0, for which a target may also say -1.

    Raises:
        ShapeError: The target has another shape; or there is one output alone, and the metric needs ``several``.
        DataError: A target is not a class.

    Example:
        >>> true_classes(Component(), np.array([1.0]), np.array([[0.4, 0.6]]))
        array([1])
        >>> true_classes(Component(), np.array([1.0, -1.0, 0.0]), np.zeros(3))
        array([1, 0, 0])
    """
    single = is_single(prediction)
    if single and several:
        problem = f"{type(metric).__name__} needs outputs (rows, classes); got {prediction.shape}"
        raise ShapeError(problem, advice="give the last layer a unit for each class")
    labels = labels_of(target, prediction)
    if not single:
        return require_classes(labels, prediction.shape[1], "target")
    bad = ~np.isin(labels, (-1, 0, 1))
    if bad.any():
        row = int(np.argmax(bad))
        needs = f"{type(metric).__name__} of one output needs targets 0 and 1, or -1 and 1"
        raise DataError(f"{needs}; got {labels[row]} at row {row}", row=row)
    return np.asarray(labels == 1, dtype=np.intp)


def count_weights(right: Array, weight: Array | None) -> tuple[float, float]:
    """Return (sum of the weights of the rows that are right, sum of weights); without weights each counts 1.

    Example:
        >>> count_weights(np.array([True, False, True]), np.array([0.5, 1.0, 2.0]))
        (2.5, 3.5)
    """
    if weight is None:
        return float(np.count_nonzero(right)), float(len(right))
    return float(np.sum(weight, where=right, dtype=np.float64)), float(np.sum(weight, dtype=np.float64))


class RootMeanSquaredError(Metric):
    """sqrt(sum(w (prediction - target)^2) / sum(w)) over all values, in the unit of the target.

    Example:
        >>> RootMeanSquaredError()([1.0, 7.0], [0.0, 0.0])
        5.0
    """

    better = "smaller"

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        exact = prediction.astype(np.float64, copy=False)
        return MeanSquaredError().output_sums(None, None, exact, _like(target, prediction), weight)

    def result(self, *sums: float) -> float:
        total, count = sums
        return math.sqrt(total / count)


class _OfQuantiles(Metric):
    """The base of figures of several outputs, (rows, quantiles), for one target of each row, (rows,)."""

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        self.sums(np.zeros(shape), target, weight)

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        if prediction.ndim != 2 or prediction.shape[1] < 2 or target.shape != prediction.shape[:1]:
            raise ShapeError(
                f"{type(self).__name__} needs several outputs and one target for each row; got {prediction.shape} and "
                f"{target.shape}"
            )
        weight = np.ones(len(target)) if weight is None else weight
        return float(np.sum(weight * self._values(prediction, target), dtype=np.float64)), float(weight.sum())

    @abstractmethod
    def _values(self, prediction: Array, target: Array) -> Any:
        """Return what is averaged, (rows,)."""

    def result(self, *sums: float) -> float:
        return sums[0] / sums[1]


class Coverage(_OfQuantiles):
    """The weighted fraction of targets from the lowest to the highest output of their row, such as its quantiles.

    With the quantiles 0.1 and 0.9 at the ends, it is near 0.8 on rows that the model was not trained on.

    Example:
        >>> Coverage()([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [2.5, 3.5])
        0.5
    """

    def _values(self, prediction: Array, target: Array) -> Any:
        return (prediction.min(axis=1) <= target) & (target <= prediction.max(axis=1))


class MiddleError(_OfQuantiles):
    """The weighted mean of abs(m - target), m being the middle of a row's outputs.

    Where the quantiles have 0.5 in the middle, it is the absolute error of the predicted median.

    Example:
        >>> MiddleError()([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [2.5, 3.5])
        1.0
    """

    better = "smaller"

    def _values(self, prediction: Array, target: Array) -> Any:
        return np.abs(np.median(prediction, axis=1) - target)


class R2(Metric):
    """1 - sum(w (target - prediction)^2) / sum(w (target - mean)^2), the part of the variance that is explained.

    1 is perfect, 0 is as good as the targets' weighted mean, and it may be negative. For several outputs it is the
    plain mean of each one's figure. The spread is found from sums of targets and of their squares, which loses digits
    when the targets' mean is large against their spread: then give ``center``, any number near the mean.

    Attributes:
        center: A number that is subtracted from every target before it is squared.

    Raises:
        DataError: The targets of some output are constant, or spread less than 1e-5 of their distance to ``center``.

    Example:
        >>> R2()([1.0, 2.0, 2.0], [1.0, 2.0, 3.0])
        0.5
    """

    better = "greater"

    center: float = 0.0

    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return the sum of weights, then for each output the sums of squared errors, targets, squared targets."""
        rows = len(prediction)
        target = _like(target, prediction).astype(np.float64).reshape(rows, -1)
        prediction = prediction.astype(np.float64).reshape(rows, -1)
        weight = np.ones(rows) if weight is None else weight.astype(np.float64)
        distance = target - self.center
        columns = (weight @ np.square(target - prediction), weight @ distance, weight @ np.square(distance))
        return (float(weight.sum()), *np.concatenate(columns).tolist())

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        self.result(*self.sums(np.zeros(shape), target, weight))

    def result(self, *sums: float) -> float:
        count = sums[0]
        errors, distances, squares = np.reshape(sums[1:], (3, -1))
        spread = squares - distances**2 / count
        if np.any(spread <= 1e-10 * squares):
            output = int(np.argmax(spread <= 1e-10 * squares))
            mean = distances[output] / count + self.center
            raise DataError(
                f"R2 needs targets that differ; those of output {output} are constant, or spread very little about "
                f"their mean, {mean:g}: then write R2(center={mean:g})"
            )
        return float(np.mean(1.0 - errors / spread))


def _like(target: Array, prediction: Array) -> Array:
    """Return the target in the prediction's shape; (rows,) and (rows, 1) are the same."""
    single = {prediction.shape[1:], target.shape[1:]} <= {(), (1,)}
    if prediction.shape[:1] != target.shape[:1] or not (single or prediction.shape == target.shape):
        raise ShapeError(f"target must have the shape of the prediction, {prediction.shape}; got {target.shape}")
    return target.reshape(prediction.shape)
