"""OutputLosses: a loss for each output of a model that has several, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
from pydantic import ConfigDict

from framework.base.arrays import Array
from framework.base.errors import DataError, DivergedError, SettingsError, UsageError, nearest, within
from framework.base.settings.component import Named, NonNegative, require_named
from framework.base.trees import at, leaf_name, leaves, rows_in
from framework.formulas.losses.base import Loss
from framework.graph.step import LossGraph, Output


class OutputLosses(Loss):
    """L = sum_k w_k L_k: a loss L_k for each output of a model of several, by its name, and the weights w_k.

    Prediction and target are dicts of arrays by the outputs' names. Each L_k is the mean that the loss is by itself, so
    its gradient does not depend on the number of outputs; it is as stable after its output as by itself. The
    history has ``loss``, which is L, and each L_k without its weight, such as ``price_loss``.

    Args:
        weights: w_k by name, as ``{"price": 0.1}``; 1 where it is left out. 0 leaves an output untrained.
        **losses: The loss of each output.

    Raises:
        SettingsError: There is no loss, one has no name, or a weight is negative or for an output that has no loss.

    Example:
        >>> from framework import BinaryCrossEntropy, MeanSquaredError
        >>> loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"price": 0.1})
        >>> round(loss({"price": [2.0, 4.0], "late": [0.5, 0.5]}, {"price": [0.0, 0.0], "late": [0.0, 1.0]}), 6)
        1.693147

    Source:
        Caruana, Multitask learning (1997); Kendall, Gal and Cipolla (2018), equation 1.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Loss]

    by_row = True

    weights: Named[NonNegative] = ()

    def __init__(self, /, *unnamed: object, weights: Any = (), **losses: Loss) -> None:
        require_named(type(self), "output", "OutputLosses(price=MeanSquaredError(), late=...)", unnamed, losses)
        if not isinstance(weights, Mapping | tuple):
            raise SettingsError(
                "must be a dict of numbers by name", name="OutputLosses: setting 'weights'", got=weights
            )
        pairs = tuple(weights.items()) if isinstance(weights, Mapping) else weights  # as JSON gives them
        with suppress(TypeError, ValueError, IndexError):  # in the order of the losses: that of weights says nothing
            pairs = tuple(sorted(pairs, key=lambda pair: [*losses].index(pair[0])))
        super().__init__(weights=pairs, **losses)
        for name, _ in self.weights:
            if name not in self.losses:
                raise SettingsError(
                    f"OutputLosses: setting 'weights' names the output {name!r}, which has no loss"
                    f"{nearest(name, self.losses) or '.'} Outputs: {', '.join(self.losses)}"
                )
        for name, loss in self.losses.items():
            if type(loss).backward is not Loss.backward:
                raise SettingsError(
                    f"the loss of {name!r} must not write backward; write value and slope", where="OutputLosses"
                )
        if not any(self.weight_of(name) for name in self.losses):
            raise SettingsError("must have a weight above 0", name="OutputLosses: setting 'weights'")

    @property
    def losses(self) -> dict[str, Loss]:
        """The loss of each output by name."""
        return dict(self.__pydantic_extra__)

    @cached_property
    def _weighted(self) -> list[tuple[str, Loss, float]]:
        weights = dict(self.weights)
        return [(name, loss, weights.get(name, 1.0)) for name, loss in self.losses.items()]

    def weight_of(self, name: str) -> float:
        """Return the weight of an output's loss."""
        return dict(self.weights).get(name, 1.0)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Show the losses first."""
        yield from self.losses.items()
        if self.weights:
            yield "weights", dict(self.weights)

    def value(self, prediction: Any, target: Any) -> Any:
        """Return the weighted sum for each row, (rows,): of an elementwise loss the mean over the row's values."""
        total: Any = 0.0
        for name, loss, share in self._weighted:
            values = np.asarray(loss.value(prediction[name], target[name]))
            total = total + share * values.reshape(len(values), -1).mean(axis=1)
        return total

    def trace(self, graph: LossGraph, output: Output, target: Any, count: Any, path: tuple[str, ...]) -> Any:
        total: Any = 0.0
        graph.totals[path] = total  # before those of its outputs
        for name, loss, share in self._weighted:
            child = output.at((name,))
            per_row = 1.0 if isinstance(child.a, dict) else _per_row(loss, child.a)
            divisor = count * (per_row / share) if share and count is not None else None
            sum_of_part = loss.trace(graph, child, target[name], divisor, (*path, name))
            total = total + sum_of_part * (share / per_row) if share else total
        graph.totals[path] = total
        return total

    def check_derivative(self) -> None:
        for loss in self.losses.values():
            loss.check_derivative()

    def label_formulas(self) -> dict[str, Any]:
        raise UsageError("OutputLosses have a formula for each output: write show(loss.losses['...'])", where="show")

    def require_output(self, activation: Any) -> None:
        """Refuse a model of other outputs, and an output activation that cannot serve its loss."""
        if activation is not None:
            self.require_outputs(activation)
        self._for_each(lambda name, loss: loss.require_output(at(activation, (name,))))

    def require_model(self, activation: Any) -> None:
        self.require_output(activation)
        self._for_each(lambda name, loss: loss.require_model(at(activation, (name,))))

    def gradient(self, prediction: Any, target: Any, weight: Any = None) -> Any:
        """Return the exact derivative of ``loss(prediction, target, weight)``, by name."""
        gradients = self._call_method("gradient", prediction, target, weight)
        return {name: self.weight_of(name) * gradient for name, gradient in gradients.items()}

    def sums(self, prediction: Any, target: Any, weight: Any = None) -> tuple[float, float]:
        """Return (sum of w L over rows, sum(w)), which add up over batches before ``result`` divides."""
        return self.join_sums(self._call_method("sums", prediction, target, weight), prediction)

    def _call_method(self, method: str, prediction: Any, target: Any, weight: Any) -> dict[str, Any]:
        """Return what a method of each loss gives for its output, by name."""
        self.require_names(prediction, "argument 'prediction'")
        self.require_names(target, "argument 'target'")
        return self._for_each(lambda name, loss: getattr(loss, method)(prediction[name], target[name], weight))

    def _for_each(self, call: Callable[[str, Loss], Any]) -> dict[str, Any]:
        """Return what a function gives for each loss, by name; an error names the output."""
        results = {}
        for name, loss in self.losses.items():
            with within(f"output '{name}'"):
                results[name] = call(name, loss)
        return results

    def divergence(
        self, a: Any, h: Any, activation: Any, target: Any, totals: Mapping[Any, float], path: tuple[str, ...] = ()
    ) -> DivergedError:
        bad = (n for n, _, share in self._weighted if share and not math.isfinite(totals[*path, n]))
        name = next(bad, next(iter(self.losses)))
        inside = (a[name], at(h, (name,)), at(activation, (name,)), target[name], totals, (*path, name))
        return self.losses[name].divergence(*inside).within(f"output '{name}'")

    def output_sums(self, activation: Any, h: Any, a: Any, target: Any, weight: Any) -> tuple[float, float]:
        """Return (sum of w L over rows, sum(w)) of a model's outputs."""
        sums = {
            name: loss.output_sums(at(activation, (name,)), at(h, (name,)), a[name], target[name], weight)
            for name, loss in self.losses.items()
        }
        return self.join_sums(sums, a)

    def join_sums(self, sums: Mapping[str, tuple[float, ...]], prediction: Any) -> tuple[float, float]:
        """Return (sum of w L over rows, sum(w)) from the sums of each output's loss, by name."""
        total = count = 0.0
        for name, loss, share in self._weighted:
            loss_sum, of = sums[name]
            per_row = _per_row(loss, prediction[name])
            total, count = total + (share * loss_sum / per_row if share else 0.0), of / per_row
        return total, count

    def form_targets(
        self, target: Any, shape: Any, dtype: Any, name: str = "target", source: Any = None, *, sample: bool = False
    ) -> Any:
        self.require_outputs(shape)
        self.require_names(target, name)
        forms = {}
        for key, loss in self.losses.items():
            own = leaf_name(name, key), at(source, (key,))
            forms[key] = loss.form_targets(target[key], shape[key], dtype, *own, sample=sample)
        return forms

    def expand(self, array: Any, shape: Any) -> Any:
        return {name: loss.expand(array[name], shape[name]) for name, loss in self.losses.items()}

    def count(self, shape: Any, weight: Array | None) -> float:
        """Return sum(w) over rows; the shape may also be (rows,)."""
        rows = leaves(shape)[0][0]
        return float(rows if weight is None else np.add.reduce(weight, dtype=np.float64))

    def require_names(self, values: Any, what: str) -> None:
        """Check that predictions or targets have the names of the outputs.

        Raises:
            DataError: They have others.
        """
        wanted = f"the losses are for the outputs {', '.join(self.losses)}"
        if not isinstance(values, Mapping):
            raise DataError(f"{what} must be a dict of arrays by name; got {type(values).__name__}; {wanted}")
        for name in values:
            if name not in self.losses:
                hint = nearest(str(name), self.losses) or "."
                raise DataError(
                    f"{what} has {name!r}, for which there is no loss{hint} Outputs: {', '.join(self.losses)}"
                )
        for name in self.losses:
            if name not in values:
                raise DataError(f"{what} must have {name!r} too; it has {', '.join(values)}; {wanted}")

    def require_outputs(self, model_outputs: Any) -> None:
        """Check that a model has the outputs that there are losses for, given a dict by their names.

        Raises:
            SettingsError: It has others.
        """
        losses = ", ".join(self.losses)
        if not isinstance(model_outputs, Mapping):
            raise SettingsError(
                f"OutputLosses has a loss for each of {losses}, but the model has one output: give it one"
            )
        outputs = ", ".join(model_outputs)
        for name in self.losses:
            if name not in model_outputs:
                hint = nearest(name, [other for other in model_outputs if other not in self.losses]) or "."
                problem = f"there is a loss for {name!r}, which the model does not give{hint} Outputs: {outputs}"
                raise SettingsError(problem, where="OutputLosses")
        for name in model_outputs:
            if name not in self.losses:
                raise SettingsError(
                    f"OutputLosses: the model's output {name!r} has no loss; there are losses for {losses}. "
                    f"Give it one; with weights={{{name!r}: 0.0}} it is not trained"
                )


class Figure(NamedTuple):
    """A loss or a metric of one output, or of all that a model gives.

    Attributes:
        key: Its column in a history.
        path: The output that it is of, by the names that lead to it: ``("late",)``; () for all.
        formula: The loss or the metric.
    """

    key: str
    path: tuple[str, ...]
    formula: Any

    def form_targets(self, y: Any, shape: Any, dtype: Any, name: str, source: Any) -> Any:
        """Return the targets of a loss that serves as a metric; see ``Loss.form_targets``."""
        y, shape, source = (at(tree, self.path) for tree in (y, shape, source))
        return self.formula.form_targets(y, shape, dtype, reduce(leaf_name, self.path, name), source)

    def divisor(self, y: Any, weight: Array | None) -> float:
        """Return sum(w) of a loss, for targets in the form that batches are cut from; see ``Loss.count``."""
        target = at(y, self.path)
        count: float = self.formula.count((rows_in(target),) if isinstance(target, dict) else target.shape, weight)
        return count


def _per_row(loss: Loss, output: Any) -> float:
    """Return how many values of a row the mean of a loss is over."""
    return 1.0 if isinstance(output, dict) else loss.count((1, *np.shape(output)[1:]), None)
