"""Which class each row is of, and which one was predicted: what the metrics of classes share."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.errors import DataError, ShapeError
from framework.losses.requirements import require_classes
from framework.settings.component import Component


def is_single(prediction: Array) -> bool:
    """Return whether there is one output a row.

    Example:
        >>> is_single(np.zeros((5, 1))), is_single(np.zeros(5)), is_single(np.zeros((5, 2)))
        (True, True, False)
    """
    return prediction.ndim == 1 or prediction.shape[1:] == (1,)


def predicted_classes(prediction: Array, threshold: float) -> Array:
    """Return the predicted class of each row, (rows,): 1 from the threshold on, or the first of the largest outputs.

    Example:
        >>> predicted_classes(np.array([0.2, 0.7]), 0.5), predicted_classes(np.array([[0.2, 0.4, 0.4]]), 0.5)
        (array([0, 1]), array([1]))
    """
    if is_single(prediction):
        return (prediction.reshape(-1) >= threshold).astype(np.intp)
    return np.asarray(np.argmax(prediction, axis=-1))


def labels_of(target: Array, prediction: Array) -> Array:
    """Return the class of each row as it was given, (rows,), from classes or from rows of the prediction's shape.

    Raises:
        ShapeError: The target has another shape, or the outputs have more axes than (rows, classes).
        DataError: A row of targets has several labels, or none.

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
            raise ShapeError(f"target must have one class a row, or the shape {prediction.shape}; got {target.shape}")
        return target.reshape(-1)
    largest = np.count_nonzero(target == target.max(axis=1, keepdims=True), axis=1)
    if np.any(largest > 1):  # several labels a row, or none; or a distribution, of whose equals the first counts
        several = (largest > 1) & ((target.min(axis=1) < 0) | (np.abs(target.sum(axis=1) - 1.0) > 1e-4))
        if several.any():
            row = int(np.argmax(several))
            raise DataError(
                f"target must have one class a row; got {target[row]} at row {row}. Of several labels a row, count "
                "each as a row of its own: prediction.reshape(-1), target.reshape(-1)"
            )
    return np.asarray(np.argmax(target, axis=-1))


def true_classes(metric: Component, target: Array, prediction: Array) -> Array:
    """Return the class of each row as an integer, for outputs (rows, classes).

    Raises:
        ShapeError: There is one output alone, or the target has another shape.
        DataError: A target is not a class.

    Example:
        >>> true_classes(Component(), np.array([1.0]), np.array([[0.4, 0.6]]))
        array([1])
    """
    if prediction.ndim != 2 or is_single(prediction):
        raise ShapeError(f"{type(metric).__name__} needs outputs (rows, classes); got {prediction.shape}")
    return require_classes(labels_of(target, prediction), prediction.shape[1], "target")


def binary_labels(metric: Component, labels: Array) -> Array:
    """Return whether each row is of class 1; the other class is 0, or -1.

    Raises:
        DataError: A target is none of the three.

    Example:
        >>> binary_labels(Component(), np.array([1.0, -1.0, 0.0]))
        array([ True, False, False])
    """
    one: Array = labels == 1
    bad = ~(one | (labels == 0) | (labels == -1))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{type(metric).__name__} of one output needs targets 0 and 1, or -1 and 1; got {labels[row]} at row {row}"
        )
    return one


def weighted_count(right: Array, weight: Array | None) -> tuple[float, float]:
    """Return (sum of the weights of the rows that are right, sum of weights); without weights each counts 1.

    Example:
        >>> weighted_count(np.array([True, False, True]), np.array([0.5, 1.0, 2.0]))
        (2.5, 3.5)
    """
    if weight is None:
        return float(np.count_nonzero(right)), float(len(right))
    return float(np.sum(weight, where=right, dtype=np.float64)), float(np.sum(weight, dtype=np.float64))
