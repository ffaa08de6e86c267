"""Loss and RowLoss: the formulas are the subclass's, the reduction and the pairing with the model are written here.

The number that training descends is the weighted mean sum(w l) / sum(w), over all values for a Loss and over rows for
a RowLoss. Totals stay sums until the last moment, so a smaller last batch counts by its rows.

The formula is that of the output a. Where its stable form is one of the pre-activation h, as that of log(sigmoid(h)),
the value is computed from h and the gradient is dL/dh, in training and in evaluation alike. So saturation gives neither
NaN nor a vanished gradient. Labels, ranges and outputs that a loss has no meaning for are refused.
"""

from __future__ import annotations

import inspect
import math
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FunctionType
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from framework.backends.programs import Formula, Program, call_formula, is_checked, program_of, programs_of, trial_width
from framework.backends.step import Half, Pass, Pattern
from framework.backends.text import CLASSES
from framework.base.arrays import LARGEST, Array, blocks, first_place, floats, real_array, require_finite
from framework.base.errors import (
    DataError,
    DerivativeError,
    DivergedError,
    SettingsError,
    ShapeError,
    UsageError,
    brief,
)
from framework.base.settings.component import Component, PlainFunction, belongs_to, name_of, require_function
from framework.base.trees import form_of, leaves, map_leaves
from framework.formulas.activations import Activation
from framework.formulas.derivatives import check_loss
from framework.graph.gradient import derivative, elementwise, gradients
from framework.graph.graph import substitute
from framework.graph.node import Node, ancestors, nodes_in
from framework.graph.stable import stabilise
from framework.graph.step import LossGraph, Output as OutputSymbols
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.trace import ROWS, share


class Loss(Formula):
    """An elementwise loss: write ``value(prediction, target)``, and its slope is derived from it.

    ``value`` gives a loss for each element, ``slope`` its derivative with respect to the prediction. A written slope is
    checked against the value at first use. The base class gives the weighted mean
    ``loss(prediction, target, weight)``, its exact ``gradient`` and ``backward``.

    Attributes:
        suited: The output activation that gives the predictions that the loss is for, or None; for advice.
        sums_to_one: Whether the targets of each row sum to 1, which simplifies the gradient.
        check: ``"off"`` for a slope that differs from the value's on purpose.

    Example:
        >>> class Quartic(Loss):
        ...     def value(self, prediction, target):
        ...         return (prediction - target) ** 4
        >>> Quartic()([1.0, 2.0], [0.0, 0.0]), Quartic().gradient([1.0, 2.0], [0.0, 0.0])
        (8.5, array([ 2., 16.]))
    """

    suited: ClassVar[type[Activation] | None] = None
    sums_to_one: ClassVar[bool] = False
    by_row: ClassVar[bool] = False
    _methods: ClassVar[dict[str, int]] = {"value": 2, "slope": 2}
    _of_function: ClassVar[type[Any]]
    _requires_targets: ClassVar[bool] = False  # to compare methods of classes takes 0.1 microseconds a step

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Derive the slope of a subclass that writes another value."""
        super().__pydantic_init_subclass__(**options)
        for method in ("value", "slope"):
            require_prediction_first(f"{cls.__name__}.{method}", getattr(cls, method))
        if not belongs_to(cls, "slope", "value"):
            cls.slope = Loss.slope  # type: ignore[method-assign]  # derive it from the new value
        cls._requires_targets = cls.require_target is not Loss.require_target

    @classmethod
    def of(cls, function: Callable[[Any, Any], Any]) -> Self:
        """Return a loss whose ``value`` is a plain function of (prediction, target). It has no JSON form.

        ``Loss.of`` is for a value for each element, ``RowLoss.of`` for one for each row.

        Raises:
            SettingsError: The argument is not a function of (prediction, target), in this order.

        Example:
            >>> from framework import RowLoss
            >>> Loss.of(lambda prediction, target: (prediction - target) ** 2)([1.0, 2.0], [0.0, 0.0])
            2.5
            >>> RowLoss.of(lambda p, t: np.abs(p - t).max(axis=-1))([[1.0, 2.0]], [[0.0, 0.0]])
            2.0
        """
        require_pair(cls._of_function.made_by, function)
        made: Self = cls._of_function(function=function)
        return made

    @abstractmethod
    def value(self, prediction: Any, target: Any) -> Any:
        """Return the loss of each element."""

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return d(value)/d(prediction), element by element: derived from ``value`` unless the class writes it.

        Raises:
            DerivativeError: The value cannot be traced; says why, and what to write.
        """
        return self.program(prediction).derivative(prediction, target)

    def program(self, like: Any = None) -> Program:
        """Return the traced ``value``, for the dtype and the rows of ``like``."""
        return program_of(self, "value", ("prediction", "target"), like)

    def label_formulas(self) -> dict[str, Any]:
        """Return the value and its slope by label, for ``show``."""
        written = type(self).slope is not Loss.slope
        return self.program(np.empty((1, trial_width(self, CLASSES)))).formulas_by_label(
            "value", (lambda _, *pair: self.slope(*pair)) if written else None
        )

    def check_derivative(self) -> None:
        check_loss(self, written=type(self).slope is not Loss.slope)

    def trace(self, graph: LossGraph, output: OutputSymbols, target: Any, count: Any, path: tuple[str, ...]) -> Any:
        """Add the sum of w l and its gradient to the graph of a step; return the sum.

        Args:
            graph: The graph of the loss of a step.
            output: The output of the model.
            target: The symbol of its target.
            count: What the gradient is divided by; None leaves it out.
            path: The names that lead to the output.
        """
        a, target = output.a, self.expand(target, output.a.shape).astype(float)
        if self.sums_to_one:
            graph.graph.distributions.add(target.node)
        values, slope, of_h = self.trace_values(output, target)
        total = self._sum(values, a, graph.weight)
        weights = 1.0 if graph.weight is None else np.reshape(graph.weight, (-1, *(1,) * (a.ndim - 1)))
        return graph.add(path, total, output, slope, None if count is None else weights / count, of_h=of_h)

    def trace_values(self, output: OutputSymbols, target: Any) -> tuple[Any, Any, bool]:
        """Return the values on symbols, their slope or a function that derives it, and whether it is that by h."""
        a, h = output.a, output.h
        form = None if h is None else self._stable_form_of_h(output.activation, h, target)
        if form is not None:  # what it has of the output is known already
            value, end = form
            known = {end: a.node} if isinstance(end, Node) else {}
            return (
                symbol_of(*substitute([value], known)),
                lambda: symbol_of(*substitute([self._derive_slope(value, h.node, target)], known)),
                True,
            )
        values = self._on_symbols("value", a, target, shape=a.shape[:1] if self.by_row else a.shape)
        if isinstance(values, Symbol):
            values = symbol_of(stabilise([values.node], {a.node, *nodes_in([value_of(target)])}, of_loss=True)[0])
        if type(self).slope is not Loss.slope:
            return values, self._on_symbols("slope", a, target, shape=a.shape), False
        return values, lambda: symbol_of(self._derive_slope(value_of(values), a.node, target)), False

    def _on_symbols(self, method: str, a: Any, target: Any, *, shape: tuple[int, ...]) -> Any:
        """Return what a formula makes of symbols; Python calls a written one on arrays if it cannot be traced."""
        formula = getattr(self, method)
        try:
            return formula(a, target)
        except DerivativeError:
            if type(self).slope is Loss.slope:
                raise
            return a.record("python", target, function=formula, pullback=None, name=method, shape=shape)

    def _stable_form_of_h(self, activation: Any, h: Symbol, target: Any) -> tuple[Node, Any] | None:
        """Return the stable forms of the values and of the output, if the values need h itself; else None.

        A derivative that differs from its formula's on purpose belongs to the output.
        """
        if not (is_checked(self) and is_checked(activation)):
            return None
        try:
            end = activation(h)
            values = self.value(end, target)
        except DerivativeError:
            return None
        if not isinstance(values, Symbol) or not isinstance(end, Symbol):
            return None
        starts = {h.node, *nodes_in([value_of(target)])}
        value, end = stabilise([values.node, end.node], starts, of_loss=True)
        needs_h = isinstance(value, Node) and h.node in ancestors([value], {end})
        return (value, end) if needs_h and end is not h.node else None

    def _derive_slope(self, value: Any, variable: Node, target: Any) -> Any:
        """Return the slope of values by a node."""
        if not isinstance(value, Node):
            return 0.0
        starts = {variable, *nodes_in([value_of(target)])}
        if all(map(elementwise, ancestors([value], starts) - starts)):
            return derivative(value, variable)
        return gradients([(value, 1.0)], [variable], starts)[0]

    def program_of_h(self, activation: Any, like: Any = None) -> Program | None:
        """Return (h, target) -> the values, where their stable form needs the h of an activation; else None."""
        if not isinstance(activation, Activation):
            return None
        programs, dtype = programs_of(self), "float32" if getattr(like, "dtype", None) == np.float32 else "float64"
        shape = (ROWS, *(np.shape(like)[1:] if np.ndim(like) else (trial_width(self),)))
        key = "of h", activation, dtype, shape

        def formula(h: Any, target: Any) -> Any:
            form = self._stable_form_of_h(activation, h, target)
            return h if form is None else symbol_of(form[0])

        if key not in programs:
            keys = self.key_in(dtype), activation.key_in(dtype)
            owner = self, *key, is_checked(self) and is_checked(activation), keys
            programs[key] = share(owner, lambda: Program(formula, ("h", "target"), dtype, shape, owner))
        program: Program = programs[key]
        return program if program.output is not program.first else None

    def _stable_values(self, activation: Any, h: Array | None, a: Array) -> tuple[Callable[..., Any], Array]:
        """Return a function of (h or the output, target) that gives the values in their stable form, and h or a."""
        program = None if h is None else self.program_of_h(activation, h)
        if program is not None and h is not None:
            return program.value, h
        with suppress(DerivativeError):  # Python may do what the graph cannot
            program = self.program(a)
            return (program.stable_value if program.elementwise or a.ndim == 2 else self.value), a
        return self.value, a

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets that the formula has no meaning for; every finite number is welcome unless overridden."""

    def require_prediction(self, prediction: Array) -> None:
        """Refuse predictions that the formula has no meaning for, in calls of the loss by hand."""

    def require_outputs(self, outputs: Any) -> None:
        """Refuse the outputs of a model, or their activations, if they are several by name.

        Raises:
            SettingsError: They are.
        """
        if isinstance(outputs, dict):
            written = ", ".join(f"{name}=..." for name in outputs)
            raise SettingsError(
                f"{type(self).__name__} is for one output, and the model has {', '.join(outputs)}: give each a loss, "
                f"loss=OutputLosses({written}); for one loss of all, let one layer give them as columns"
            )

    def require_output(self, activation: Any) -> None:
        """Refuse an output activation that cannot serve this loss; all can unless overridden."""

    def require_model(self, activation: Any) -> None:
        """Refuse to train with a wrong slope, or with an output activation that cannot serve this loss.

        Raises:
            DerivativeError: A written slope is wrong, or none is written and the value cannot be derived.
            SettingsError: The output activation cannot serve this loss, or the model has several outputs.
        """
        self.require_outputs(activation)
        self.require_derivative()
        self.require_output(activation)

    @property
    def key(self) -> str:
        """The name of this loss in a history when it serves as a metric: ``mean_squared_error``."""
        return column_name(type(self))

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> float:
        """Return the weighted mean sum(w l) / sum(w).

        Args:
            prediction: Outputs, (rows,) or (rows, units); or a single number.
            target: What they should be, of the same shape; a row loss also takes integer classes (rows,).
            weight: One non-negative weight a row, (rows,).

        Raises:
            ShapeError: The shapes differ.
            DataError: A value is not finite or out of range.
        """
        total, count = self.sums(prediction, target, weight)
        return self.result(total, count)

    def gradient(self, prediction: Any, target: Any, weight: Any = None) -> Array:
        """Return the exact derivative of ``loss(prediction, target, weight)`` with respect to the prediction."""
        shape = np.shape(prediction)
        prediction, target, weight = self._check_arguments(prediction, target, weight)
        out: Array = np.empty_like(prediction)
        count = self.count(prediction.shape, weight)
        self.result(0.0, count)  # refuses a count of 0
        scale: Any = 1.0 / count
        if weight is not None:
            scale = (weight / weight.dtype.type(count)).reshape(-1, *(1,) * (out.ndim - 1))
        with np.errstate(all="ignore"):
            slope = call_formula(self, "slope", self.slope, prediction=prediction, target=target)
            if np.shape(slope) != out.shape:
                raise ShapeError(
                    f"{type(self).__name__}.slope must have the shape of the prediction, {out.shape}; "
                    f"got {np.shape(slope)}"
                )
            np.multiply(slope, scale, out=out, casting="same_kind")
        return out.reshape(shape)

    def sums(self, prediction: Any, target: Any, weight: Any = None) -> tuple[float, float]:
        """Return (sum(w l), sum(w)), which add up over batches before ``result`` divides."""
        prediction, target, weight = self._check_arguments(prediction, target, weight)
        with np.errstate(all="ignore"):
            values, _ = self._stable_values(None, None, prediction)
            return self._total(values, prediction, target, weight), self.count(prediction.shape, weight)

    def result(self, total: float, count: float) -> float:
        """Return the mean, total / count.

        Raises:
            DataError: The count is 0: there are no rows, or no row has a weight.
        """
        if count <= 0:
            raise DataError(f"{type(self).__name__} needs a row of positive weight; the weights sum to {count:g}")
        return total / count

    def backward(
        self,
        model: Output,
        target: Any,
        weight: Any = None,
        *,
        count: float | None = None,
        accumulate: bool = False,
        check: bool = True,
    ) -> float:
        """Fill the model's gradients with those of this loss at its last forward, and return the loss.

        It computes delta, dL/dh of the output layer, and runs the model's backward pass. The loss is
        sum(w l) / count, so that parts of a batch add up to the whole when each is given the count of the whole.

        Args:
            model: A model whose ``forward`` has run.
            target: The target of the prediction.
            weight: One non-negative weight a row, or None.
            count: What the sum is divided by; None is sum(w) of these rows, see ``count``.
            accumulate: Whether to add to the gradients instead of overwriting them.
            check: Whether to check target and weight; False when the caller has done so for the whole data set.

        Raises:
            DataError: A target or weight is not finite or out of range, or its shape does not fit.
            DivergedError: The loss is not finite; nothing was changed.
            SettingsError: The model's output activation cannot serve this loss.
            UsageError: ``model`` is not a model, or no forward has run.

        Example:
            >>> from framework import HalfSquaredError, Neuron, Sigmoid
            >>> neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid())
            >>> prediction = neuron.forward([1.0, 1.0])
            >>> HalfSquaredError().backward(neuron, 5.0)
            9.792779518502163
        """
        last_pass = getattr(model, "last_pass", None)
        if last_pass is None:
            raise UsageError(f"the first argument must be the model; got {type(model).__name__}", where="backward")
        done: Pass = last_pass()
        weights: tuple[Any, ...] = ()
        if done.passes.is_number:  # nothing is large, and a weight cancels out
            target = self._one_target(target, weight, done.passes.dtype) if check else target
            divisor = 1.0 if count is None else count / (1.0 if weight is None else float(np.reshape(weight, -1)[0]))
            form, noisy = None, False
        else:
            a = done.tree
            if check:
                rows, dtype = len(done.a[0]), done.a[0].dtype
                target = self.form_targets(target, map_leaves(np.shape, a), dtype, sample=done.sample)
                weight = None if weight is None else require_weights(weight, rows, "weight", dtype)
            divisor = self.count(map_leaves(np.shape, a), weight) if count is None else count
            if divisor <= 0:
                raise DataError("must have a positive sum; got 0: leave such a batch out", name="argument 'weight'")
            weights = () if weight is None else (weight,)
            form, noisy = form_of(target), check
        key, state = (form, bool(weights), self), model._state
        half: Half | None = state.half
        if half is None or half[0] != key:
            done, half = self._halves(model, done, key, target)
        _, graph, function, memory, into = half
        targets = leaves(target) if type(target) is dict else (target,)
        before = state.parameters.gradient.copy() if accumulate else None
        data = (*targets, *weights, done.passes.dtype.type(divisor))
        arguments = (memory, *done.numbers, *done.x, *done.results, *data, *into)
        if noisy:  # in training, warnings of NumPy are off already
            with np.errstate(all="ignore"):  # a loss that is not finite is found here, a gradient by the optimizer
                totals = function(*arguments)
        else:
            totals = function(*arguments)
        loss, done.loss = float(totals[0]) / divisor, (graph.paths, totals)
        if not math.isfinite(loss):
            known = [h if of_h else None for h, of_h in zip(done.h, graph.pattern, strict=True)]
            outputs = done.tree, done.tree_of(known), model.output_activation
            raise self.divergence(*outputs, target, done.totals)
        state.end_backward(before)
        return loss

    def _halves(self, model: Output, done: Pass, key: tuple[Any, bool, Loss], target: Any) -> tuple[Pass, Half]:
        """Return the first half of a step, made again where the loss needs another one, and the second half.

        The second half is made once for equal losses and a form of targets: a loop may make its loss in each step.

        Raises:
            SettingsError: The model's output activation cannot serve this loss.
        """
        state = model._state
        known = next((known for form, known in state.losses if form == (done.passes, key)), None)
        if known is None:
            self.require_model(model.output_activation)
            graph = LossGraph(done.passes.graph, self, target, weighted=key[1])
            if graph.pattern not in done.passes.patterns:
                done = model.again(done, graph.pattern)
            passes = done.passes
            known = share((passes, graph.key), lambda: (graph, passes.backward_of(graph)))
            state.losses.append(((passes, key), known))
            del state.losses[:-_KEPT_LOSSES]
        graph, backward = known
        memory = done.workspace[backward] if backward.works else None
        state.half = key, graph, backward.function, memory, done.into(state.parameters.gradients)
        return done, state.half

    def divergence(
        self, a: Any, h: Any, activation: Any, target: Any, totals: Mapping[Any, float], path: tuple[str, ...] = ()
    ) -> DivergedError:
        """Return the error of a loss that is not finite, given the outputs, h where it works on h, and targets."""
        a, h, target = (None if value is None else np.atleast_1d(value) for value in (a, h, target))
        with np.errstate(all="ignore"):
            target = self.expand(target, a.shape)
            function, first = self._stable_values(activation, h, a)
            values = function(first, target)
        return divergence_error(self, values, a, h)

    def output_sums(
        self, activation: Any, h: Array | None, a: Array, target: Array, weight: Any
    ) -> tuple[float, float]:
        """Return (sum(w l), sum(w)) of a model's outputs, from h where the stable form is one of h."""
        formula, first = self._stable_values(activation, h, a)
        return self._total(formula, first, self.expand(target, a.shape), weight), self.count(a.shape, weight)

    def form_targets(
        self, target: Any, shape: Any, dtype: Any, name: str = "target", source: Any = None, *, sample: bool = False
    ) -> Any:
        """Return targets in their final form, from which batches are cut.

        Args:
            target: What the caller gives.
            shape: The shape of the outputs.
            dtype: The dtype of the outputs.
            name: The argument's name in messages.
            source: What the target was made of, such as a table, if it is an array by now.
            sample: Whether there may be no axis of rows.

        Raises:
            SettingsError: The model has several outputs.
            ShapeError: The shape does not fit the outputs.
            DataError: A target is not finite or out of range.
        """
        self.require_outputs(shape)
        if isinstance(target, Mapping):
            raise DataError(f"must be one array, as the model has one output; got {brief(sorted(target))}", name=name)
        array = real_array(target, name)
        array = array[None] if sample and array.ndim < len(shape) else array
        if not self.by_row or array.shape == shape:  # else they are classes
            array = real_array(array, name, dtype)
        require_finite(array, name, source)
        return self.require_targets(array, shape, name)

    def require_targets(self, array: Array, shape: tuple[int, ...], name: str) -> Array:
        """Return targets in the outputs' shape; (rows,) and (rows, 1) are the same for one output.

        Raises:
            ShapeError: The shape does not fit the outputs.
            DataError: A target is out of range.
        """
        if array.shape != shape:
            if array.shape not in ((shape[0],), (shape[0], 1)) or math.prod(shape[1:]) != 1:
                hint = "; for class labels use CrossEntropy" if array.shape == shape[:1] and len(shape) == 2 else ""
                raise ShapeError(f"must have the shape of the output, {shape}; got {array.shape}{hint}", name=name)
            array = array.reshape(shape)
        self.require_target(array, name)
        return array

    def expand(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Return checked targets, an array or a symbol, in the outputs' shape."""
        if array.shape != shape:
            raise ShapeError(f"target must have the shape of the output, {shape}; got {array.shape}")
        return array

    def _check_arguments(self, prediction: Any, target: Any, weight: Any) -> tuple[Array, Array, Array | None]:
        """Return the arguments as the formulas take them; an error says if they would fit the other way round."""
        try:
            return self._convert_arguments(prediction, target, weight)
        except DataError as error:
            with suppress(DataError):
                self._convert_arguments(target, prediction, weight)
                error.advise("if the arguments are swapped, write loss(prediction, target)")
            raise

    def _convert_arguments(self, prediction: Any, target: Any, weight: Any) -> tuple[Array, Array, Array | None]:
        prediction, target = np.atleast_1d(floats(prediction, "prediction"), real_array(target, "target"))
        require_finite(prediction, "prediction")
        self.require_prediction(prediction)
        if target.shape != prediction.shape and not self.by_row:
            raise ShapeError(
                f"target must have the shape of the prediction, {prediction.shape}; got {target.shape}"
                f"{'; write target[:, None]' if prediction.shape == (*target.shape, 1) else ''}"
            )
        target = self.form_targets(target, prediction.shape, prediction.dtype)
        target = self.expand(target, prediction.shape).astype(prediction.dtype, copy=False)
        if weight is not None:
            weight = np.atleast_1d(real_array(weight, "weight"))
            weight = require_weights(weight, len(prediction), "weight", prediction.dtype)
        return prediction, target, weight

    def _one_target(self, target: Any, weight: Any, dtype: Any) -> Any:
        """Check the target of one number; dtype is that of the prediction. A weight of one sample cancels out."""
        if type(target) is not float:
            array = real_array(target, "target")
            if array.size != 1:
                raise ShapeError(f"target must be one number, as the prediction is; got the shape {array.shape}")
            target = float(array.reshape(())[()])
        if not abs(target) <= LARGEST[dtype]:
            raise DataError(f"target must be finite in {dtype}; got {target}")
        if self._requires_targets:
            self.require_target(np.asarray(target), "target")
        weights = None if weight is None else real_array(weight, "weight").reshape(-1)
        if weights is not None and not require_weights(weights, 1, "weight", np.float64)[0] > 0:
            raise DataError("must have a positive sum; got 0: leave such a sample out", name="argument 'weight'")
        return dtype.type(target)

    def count(self, shape: tuple[int, ...], weight: Array | None) -> float:
        """Return sum(w) for outputs of this shape, over all values, or over rows for a row loss."""
        per_row = 1 if self.by_row else math.prod(shape[1:])
        return float(shape[0] if weight is None else np.add.reduce(weight, dtype=np.float64)) * per_row

    def _total(self, formula: Any, first: Any, target: Array, weight: Array | None) -> float:
        """Return sum(w l), some rows at a time.

        Raises:
            ShapeError: The formula does not give one value per element, or one value per row for a row loss.
        """
        total = 0.0
        for block in blocks(first):
            outputs = first[block]
            values = call_formula(self, "value", formula, prediction=outputs, target=target[block])
            total += float(self._sum(values, outputs, None if weight is None else weight[block]))
        return total

    def _sum(self, values: Any, outputs: Any, weight: Any) -> Any:
        """Return the weighted sum of what the formula makes of some rows, arrays or symbols."""
        expected = outputs.shape[:1] if self.by_row else outputs.shape
        if getattr(values, "shape", ()) != expected:
            of = ("per element", "per row")
            other = outputs.shape if self.by_row else outputs.shape[:1]
            missing = values is None or values is ...
            hint = "; the mean is taken for you" if np.ndim(values) == 0 and not missing else ""
            if np.ndim(values) and math.prod(np.shape(values)) == math.prod(other):
                hint = f"; for one value {of[not self.by_row]} write a {'Loss' if self.by_row else 'RowLoss'}"
            raise ShapeError(
                f"{type(self).__name__}.value must give one value {of[self.by_row]}, {expected}; "
                f"got {f'{values}: write return and the formula' if missing else np.shape(values)}{hint}"
            )
        return np.sum(values if weight is None else values * np.reshape(weight, (-1, *(1,) * (len(expected) - 1))))


_KEPT_LOSSES = 16
"""How many losses a model keeps the functions of."""


def column_name(cls: type) -> str:
    """Return a class's name in snake case: what its figure is called in a history."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


class Output(Protocol):
    """A model, as a loss sees it: its last forward, its output activation, and the way back."""

    @property
    def output_activation(self) -> Any:
        """The activation of the output layer, or None."""

    @property
    def _state(self) -> Any:
        """The state of the model."""

    def last_pass(self) -> Pass:
        """Return the last forward pass."""

    def again(self, done: Pass, *patterns: Pattern) -> Pass:
        """Return a forward pass again, for a backward pass from these patterns."""


def require_classes(array: Array, classes: int, name: str) -> Array:
    """Return labels as integers, which must lie in 0..classes-1.

    Raises:
        DataError: A label is out of range or fractional.

    Example:
        >>> require_classes(np.array([0.0, 2.0]), 3, "y")
        array([0, 2])
    """
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    if not (whole and array.min(initial=0) >= 0 and array.max(initial=0) < classes):
        good = (array >= 0) & (array < classes) & (array == np.floor(array))
        row = int(np.argmin(good))
        raise DataError(
            f"must have integer labels in 0..{classes - 1}; got {array[row]} at row {row} "
            f"({int((~good).sum())} of {len(array)} rows)",
            name=name,
            row=row,
        )
    return array.astype(np.intp, copy=False)


def require_range(name: str, target: Array, low: float, high: float, advice: str) -> None:
    """Refuse targets outside [low, high].

    Raises:
        DataError: A target is out of range.
    """
    if target.size and (target.min() < low or target.max() > high):
        first = first_place((target < low) | (target > high))
        where, row = (f" at row {first[0]}", first[0]) if first else ("", None)
        raise DataError(
            f"must lie in [{low:g}, {high:g}]; got {target[first]}{where}", name=name, row=row, advice=advice
        )


def require_output_range(loss: Component, activation: Any, low: float, high: float, advice: str) -> None:
    """Refuse an output activation whose range reaches outside [low, high]; an unknown range passes.

    Raises:
        SettingsError: The range does not fit.
    """
    output_range = getattr(activation, "output_range", None)
    if output_range is not None and (output_range[0] < low or output_range[1] > high):
        raise SettingsError(
            f"{type(loss).__name__} needs outputs in [{low:g}, {high:g}]; {activation!r} gives "
            f"[{output_range[0]:g}, {output_range[1]:g}]. {advice}"
        )


def require_weights(weight: Any, rows: int, name: str, dtype: Any) -> Array:
    """Return sample weights (rows,) as an array.

    Raises:
        ShapeError: There is not one weight per row.
        DataError: A weight is negative or not finite, or their sum is too large for the dtype.
    """
    array = real_array(weight, name, dtype)
    if array.shape != (rows,):
        raise ShapeError(f"must have one weight per row, ({rows},); got {array.shape}", name=name)
    require_finite(array, name, weight)
    if array.size and array.min() < 0:
        first = int(np.argmax(array < 0))
        raise DataError(f"must not be negative; got {array[first]} at row {first}", name=name, row=first)
    with np.errstate(over="ignore"):
        total = float(np.add.reduce(array, dtype=np.float64))
    if total > LARGEST[array.dtype]:
        raise DataError(f"{name} must have a sum that {array.dtype} holds; got {total:g}; divide by the largest weight")
    return array


OVERFLOWS = 1e6
"""Outputs of this size and more have diverged, so that it is not the loss alone that is wrong."""


def divergence_error(loss: Component, values: Any, a: Array, h: Array | None = None) -> DivergedError:
    """Return an error that says at which row of a batch a loss is not finite.

    It is given the values, the outputs a, and h where the loss works on h.
    """
    numbers = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(numbers)
    index = first_place(bad) if bad.any() else ()
    row = index[0] if index else 0
    advice = "Lower the learning rate, standardise the inputs, or clip the gradient"
    own = ":" in loss.tag()  # the formulas of the library need no other form: the Poisson loss is infinite at 0
    suited = getattr(loss, "suited", None) if h is None else None
    end = f": end the model with {suited.__name__}()" if suited else ""
    inputs, shown = (a, f"the output is {a[row]}") if h is None else (h, f"the output is {a[row]}, of h = {h[row]}")
    if suited and index and np.isinf(numbers[index]) and np.isfinite(a[row]).all():
        advice = f"The loss is infinite for this output{end}"
    elif index and np.isinf(numbers[index]) and own and np.abs(inputs[row]).max() < OVERFLOWS:
        advice = (
            "The formula of the loss overflows there: standardise the target, or write the formula so that it cannot "
            "overflow, such as np.logaddexp(0, 2 * e) for np.log1p(np.exp(e)**2)"
        )
        if h is not None and np.isin(a[row], (0.0, 1.0)).any():
            advice = (
                "A probability p is 0 or 1 there, and the formula takes the logarithm of a sum with it: take that of p "
                "and of 1 - p alone, as target * np.log(p) + (1 - target) * np.log(1 - p), which has a stable form"
            )
    elif index and np.isnan(numbers[index]):
        if np.isfinite(inputs[row]).all():
            guard = (
                ". In a loss of your own, guard 0 / 0 with np.where, and make a number above 0, such as a variance, by "
                "np.exp of an output"
            )
            advice = f"The loss has no value for this output{end}{guard if own else ''}"
        elif np.isnan(inputs[row]).any():
            advice = (
                "A formula in the model gives 0 / 0 or inf - inf: guard it with np.where, or, where the numbers have "
                "grown, lower the learning rate"
            )
    problem = f"the loss is not finite, first at row {{row}} of the batch, where {shown}; the update was not applied"
    return DivergedError(problem, where=type(loss).__name__, row=row, advice=advice)


def require_distributions(name: str, target: Array) -> None:
    """Check that every row is a distribution over the classes.

    Raises:
        DataError: A number is outside [0, 1], or a row does not sum to 1.

    Example:
        >>> require_distributions("y", np.array([[0.5, 0.6]]))
        Traceback (most recent call last):
        framework.base.errors.DataError: y must have rows that sum to 1; row 0 sums to 1.1
    """
    require_range(name, target, 0.0, 1.0, "Give integer classes (rows,), or one distribution per row")
    bad = np.abs(target.sum(axis=-1) - 1.0) > 1e-4
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"must have rows that sum to 1; row {row} sums to {target[row].sum():g}", name=name, row=row)


def require_pair(made_by: str, function: Any, *further: str) -> None:
    """Check that a plain function takes (prediction, target), in this order, and the further names.

    Raises:
        SettingsError: It does not.
    """
    require_function(made_by, function, "prediction", "target", *further)
    if isinstance(function, FunctionType):
        require_prediction_first(f"{made_by}: {name_of(function)}", function)


def require_prediction_first(label: str, function: Any) -> None:
    """Refuse a formula whose first argument is named as the target: the order is (prediction, target).

    Raises:
        SettingsError: It begins with ``y_true``, ``target`` or the like.
    """
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    if names and names[0] in {"y_true", "y", "true", "target", "targets", "label", "labels"}:
        raise SettingsError(f"{label} must take (prediction, target) in this order; got {tuple(names)}")


class _FunctionLoss(PlainFunction, Loss):
    """A plain function of (prediction, target); made by ``Loss.of``."""

    made_by = "Loss.of"

    def value(self, prediction: Any, target: Any) -> Any:
        return self.function(prediction, target)


Loss._of_function = _FunctionLoss
