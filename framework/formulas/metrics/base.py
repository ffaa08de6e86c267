"""Metrics: figures for people. Each is a sum over rows until the end, so that batches add up exactly.

A figure that is not a sum over rows is a WholeMetric. A loss serves as a metric too: ``metrics=[MeanSquaredError()]``.
An OutputMetric is that of one output of a model that has several.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from framework.backends.programs import call_formula
from framework.base.arrays import Array, floats, real_array, require_finite
from framework.base.errors import DataError, SettingsError, ShapeError, UsageError, within
from framework.base.settings.component import Component, PlainFunction, name_of
from framework.formulas.losses import Loss
from framework.formulas.losses.base import column_name, require_pair, require_weights


class Metric(Component):
    """A figure for people: write ``sums`` for some rows, and ``result`` from the sums over all rows.

    Attributes:
        better: "greater" or "smaller": which values are better. A callback with the other mode then raises an error.
            None says nothing.

    Example:
        >>> class MeanAbsoluteError(Metric):
        ...     def sums(self, prediction, target, weight=None):
        ...         return np.abs(prediction - target).sum(), prediction.size
        ...
        ...     def result(self, total, count):
        ...         return total / count
        >>> MeanAbsoluteError()(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
        1.5
    """

    better: ClassVar[Literal["greater", "smaller"] | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Check ``better``: a misspelt one would let every mode pass."""
        super().__pydantic_init_subclass__(**options)
        if cls.better not in ("greater", "smaller", None):
            raise SettingsError(f"{cls.__name__}.better must be 'greater', 'smaller' or None", got=cls.better)

    @staticmethod
    def of(function: Callable[..., float]) -> WholeMetric:
        """Return a metric that is a plain function of all predictions and targets at once. It has no JSON form.

        Args:
            function: (prediction, target) -> the figure; or (prediction, target, weight), which also serves rows with
                weights.

        Raises:
            SettingsError: The argument is not such a function.

        Example:
            >>> Metric.of(lambda prediction, target: np.abs(prediction - target).max())([1.0, 2.0], [0.0, 0.0])
            2.0
        """
        require_pair("Metric.of", function, *(["weight"] if _takes_weights(function) else []))
        return _FunctionMetric(function=function)

    @property
    def key(self) -> str:
        """The name in a history: the class name in snake case."""
        return column_name(type(self))

    @abstractmethod
    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return what adds up over rows, for outputs (rows, ...), targets and weights (rows,) or None.

        Targets have the shape of the outputs, or are classes (rows,).
        """

    @abstractmethod
    def result(self, *sums: Any, **_: Any) -> float:
        """Return the figure from the sums over all rows."""

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        """Refuse targets that the figure has no meaning for, before any training; all are welcome unless overridden.

        Args:
            target: All of them.
            weight: All of them, or None.
            shape: That of the outputs.
        """

    def check_sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        """Return ``sums``, or refuse what cannot be added up by place.

        Raises:
            UsageError: The class's ``sums`` returns no tuple of numbers.
        """
        sums = call_formula(self, "sums", self.sums, prediction=prediction, target=target, weight=weight)
        try:
            return tuple(map(float, sums))
        except TypeError:
            raise UsageError(
                f"{type(self).__name__}.sums must return a tuple of plain numbers, which result takes, as (total,)",
                got=sums,
            ) from None

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> float:
        """Return the figure for these rows.

        Raises:
            ShapeError: There are not as many predictions as targets.
            DtypeError: A value is not a real number.
            DataError: There are no rows, no row has a weight, or a value is not finite.
            UsageError: The figure is not one number.
        """
        return one_number(self, self._figure(*check_rows(self, prediction, target, weight)))

    def _figure(self, prediction: Array, target: Array, weight: Array | None) -> float:
        return self.result(*self.check_sums(prediction, target, weight))


class WholeMetric(Metric):
    """A figure that needs all rows at once: write ``whole_result``. It is computed in validation and evaluation only.

    Example:
        >>> class MedianError(WholeMetric):
        ...     def whole_result(self, prediction, target, weight=None):
        ...         return np.median(np.abs(prediction - target))
        >>> MedianError()([1.0, 2.0, 9.0], [0.0, 0.0, 0.0])
        2.0
    """

    @abstractmethod
    def whole_result(self, prediction: Array, target: Array, weight: Array | None = None) -> float:
        """Return the figure, for all outputs (rows, ...), targets and weights (rows,) or None."""

    def _figure(self, prediction: Array, target: Array, weight: Array | None) -> float:
        arguments = {"prediction": prediction, "target": target, "weight": weight}
        result: float = call_formula(self, "whole_result", self.whole_result, **arguments)
        return result

    def sums(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: parts of the rows do not add up to this figure.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{type(self).__name__} is not a sum over rows: call whole_result with all of them")

    result = sums


class _FunctionMetric(PlainFunction, WholeMetric):
    """A plain function of predictions and targets; made by ``Metric.of``."""

    made_by = "Metric.of"

    def require_targets(self, target: Array, weight: Array | None, shape: tuple[int, ...]) -> None:
        """Refuse weights that the function does not take.

        Raises:
            DataError: There are weights.
        """
        if weight is not None and not _takes_weights(self.function):
            raise DataError(f"{self!r} cannot weigh rows: write {name_of(self.function)}(prediction, target, weight)")

    def whole_result(self, prediction: Array, target: Array, weight: Array | None = None) -> float:
        self.require_targets(target, weight, prediction.shape)
        result: float = self.function(prediction, target, *([weight] if _takes_weights(self.function) else []))
        return result


def one_number(figure: Component, value: Any) -> float:
    """Return what a metric or a loss gives for all rows as a float.

    Raises:
        UsageError: It is not one number.
    """
    if type(value) is float:
        return value
    if np.ndim(value) == 0:
        with suppress(TypeError, ValueError):
            return float(value)
    raise UsageError(f"{figure!r} must give one number for all rows", got=value)


def _takes_weights(function: Any) -> bool:
    """Return whether a function takes three arguments."""
    try:
        inspect.signature(function).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return True


def check_rows(component: Component, prediction: Any, target: Any, weight: Any) -> tuple[Array, Array, Array | None]:
    """Return a caller's rows as arrays, the targets as a trainer gives them: (rows,) and (rows, 1) are the same.

    Raises:
        ShapeError: There are not as many predictions as targets.
        DtypeError: A value is not a real number.
        DataError: There are no rows, no row has a weight, or a value is not finite.
    """
    prediction, target = np.atleast_1d(floats(prediction, "prediction"), real_array(target, "target"))
    require_finite(prediction, "prediction")
    require_finite(target, "target")
    if prediction.shape[:1] != target.shape[:1]:
        raise ShapeError(f"target must have {len(prediction)} rows, as the prediction has; got {target.shape}")
    if target.shape[1:] in ((), (1,)):
        target = target.reshape(prediction.shape if prediction.shape[1:] in ((), (1,)) else -1)
    weight = None if weight is None else require_weights(weight, len(prediction), "weight", np.float64)
    if not (len(prediction) if weight is None else weight.any()):
        raise DataError(f"{type(component).__name__} needs a row of positive weight; the weights sum to 0")
    return prediction, target, weight


class OutputMetric(Metric):
    """A metric, or a loss as one, of the output ``output``: ``late_accuracy`` in a history.

    Args:
        output: The name of the output.
        metric: The metric or the loss.

    Example:
        >>> from framework import Accuracy
        >>> metric = OutputMetric("late", Accuracy())
        >>> metric.key, metric({"late": [0.2, 0.7], "price": [1.0, 2.0]}, {"late": [0, 0], "price": [1.0, 2.0]})
        ('late_accuracy', 0.5)
    """

    output: str
    metric: Metric | Loss

    def __init__(self, output: str, metric: Metric | Loss) -> None:
        super().__init__(output=output, metric=metric)

    @property
    def key(self) -> str:
        return f"{self.output}_{self.metric.key}"

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> float:
        with within(self.output and f"output '{self.output}'"):
            return self.metric(prediction[self.output], target[self.output], weight)

    def require_targets(self, target: Any, weight: Array | None, shape: Any) -> None:
        if isinstance(self.metric, Metric):
            with within(self.output and f"output '{self.output}'"):
                self.metric.require_targets(target[self.output], weight, shape[self.output])

    def sums(self, prediction: Any, target: Any, weight: Array | None = None) -> tuple[float, ...]:
        return self.metric.sums(prediction[self.output], target[self.output], weight)

    def result(self, *sums: Any, **_: Any) -> float:
        return self.metric.result(*sums)
