"""Regularizers: a penalty on the size of parameters, added to the loss, whose slope is added to their gradients.

A subclass writes the penalty of one array; the base class derives its slope, finds the arrays by name, multiplies by
the strength and adds up. Sums are over all elements, never means, so the strength does not depend on their number.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from framework.backends.programs import Formula, Program, call_formula, program_of
from framework.base.arrays import Array, require_untouched
from framework.base.errors import DivergedError, ShapeError
from framework.base.settings.component import Positive, belongs_to
from framework.formulas.derivatives import Check
from framework.graph.gradient import gradients
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.models import Model
from framework.models.parameters import Parameters, matching


class Regularizer(Formula):
    """A penalty strength * (sum over arrays of value(array)): write ``value(values)``, and its slope is derived.

    A written ``slope(values)`` is compared with differences of the value at first use.

    Attributes:
        strength: The factor of the penalty.
        parameters: Which parameters, by name: a pattern in which ``*`` stands for any text and ``?`` for one letter.
            ``"*weights"`` is every layer's weights, ``"0.*"`` all of the first layer, ``"*"`` everything. Frozen
            parameters are left out, as they cannot change.
        check: ``"off"`` for a slope that differs from the value's on purpose.

    Example:
        >>> class Quartic(Regularizer):
        ...     def value(self, values):
        ...         return (values**4).sum()
        >>> from framework import HalfSquaredError, Neuron
        >>> neuron = Neuron.from_weights([1.0, 2.0])
        >>> prediction = neuron.forward([0.0, 0.0])
        >>> loss = HalfSquaredError().backward(neuron, 0.0)
        >>> loss + Quartic(strength=0.1).backward(neuron)  # then optimizer.step()
        1.7000000000000002
        >>> neuron.parameters.gradients["weights"]
        array([0.4, 3.2])
    """

    strength: Positive
    parameters: str = "*weights"

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Drop a slope that is inherited with another value; it is derived instead."""
        super().__pydantic_init_subclass__(**options)
        if not belongs_to(cls, "slope", "value"):
            cls.slope = Regularizer.slope  # type: ignore[method-assign]

    @abstractmethod
    def value(self, values: Any) -> Any:
        """Return the penalty of one parameter, an array in its own shape: a number."""

    def slope(self, values: Any) -> Any:
        """Return d(value)/d(values), of the shape of ``values``: derived from ``value`` unless the class writes it.

        Raises:
            DerivativeError: The value cannot be traced; says why, and what to write.
        """
        if isinstance(values, Symbol):  # in a formula that is being traced
            return symbol_of(gradients([(value_of(self.value(values)), 1.0)], [values.node], {values.node})[0])
        return self.program(values).derivative(values)

    def program(self, like: Any = None) -> Program:
        """Return the traced ``value``, for arrays of the shape and dtype of ``like``."""
        return program_of(self, "value", ("values",), np.empty((4, 3)) if like is None else like, whole=True)

    def names(self, parameters: Parameters) -> tuple[str, ...]:
        """Return the names that the pattern matches, frozen or not.

        Raises:
            SettingsError: It matches none; lists the names.

        Example:
            >>> from framework import Dense, Sequential
            >>> L2(0.1).names(Sequential(Dense(3, 2), Dense(2, 1)).parameters)
            ('0.weights', '1.weights')
        """
        return matching(self.parameters, tuple(parameters), f"{type(self).__name__}: setting 'parameters': ")

    def penalty(self, model: Model) -> float:
        """Return strength * (sum of value over the trainable parameters that the pattern matches)."""
        with np.errstate(all="ignore"):  # what is not finite is found where it matters, in backward
            return self.strength * sum(self._number(model.parameters[name]) for name in self._trainable(model))

    def backward(self, model: Model) -> float:
        """Add strength * slope to the model's gradients, and return the penalty: call it after the loss's backward.

        Raises:
            DerivativeError: ``slope`` is not the derivative of ``value``; found at the first use.
            DivergedError: The penalty is not finite; nothing was changed.
            SettingsError: The pattern matches no parameter.
            ShapeError: ``slope`` has another shape than its argument.
        """
        self.require_derivative()
        penalty = self.penalty(model)
        if not math.isfinite(penalty):
            raise DivergedError(
                f"{type(self).__name__}: the penalty is not finite; the update was not applied. "
                "Lower the learning rate or the strength"
            )
        parameters = model.parameters
        for name in self._trainable(model):
            slope = self._reshape_slope(parameters[name])
            parameters.gradients[name][...] += self.strength * slope
        return penalty

    def check_derivative(self) -> None:
        """Compare ``slope`` with differences of ``value`` on an array of both signs.

        Raises:
            DerivativeError: They differ; says where.
            ShapeError: ``slope`` has another shape than its argument.
        """
        values = 1.5 * np.cos(np.arange(1.0, 13.0)).reshape(4, 3)
        require_untouched(f"{type(self).__name__}.value", {"values": values}, lambda: self._number(values))

        def value(rows: Array) -> Array:
            return np.array([self._number(row.reshape(values.shape)) for row in rows])

        def slope(gradient: Array, rows: Array) -> Array:
            return np.asarray(gradient * self._reshape_slope(rows.reshape(values.shape)).reshape(rows.shape))

        written = type(self).slope is not Regularizer.slope
        rows = values.reshape(1, -1)
        Check(self, "slope", value, slope, rows, argument="values", written=written).run()

    def _trainable(self, model: Model) -> tuple[str, ...]:
        frozen = model.parameters.frozen
        return tuple(name for name in self.names(model.parameters) if name not in frozen)

    def _number(self, values: Array) -> float:
        penalty = call_formula(self, "value", self.value, values=values)
        if np.ndim(penalty):
            raise ShapeError(
                f"{type(self).__name__}.value must return one number for an array of parameters, such as "
                f"np.sum(values**2); got shape {np.shape(penalty)}"
            )
        return float(penalty)

    def _reshape_slope(self, values: Array) -> Any:
        slope = call_formula(self, "slope", self.slope, values=values)
        if np.shape(slope) != values.shape:
            raise ShapeError(
                f"{type(self).__name__}.slope must have the shape of its argument, {values.shape}; "
                f"got {np.shape(slope)}"
            )
        return slope


class L1(Regularizer):
    """strength * sum(|w|), slope strength * sign(w): pulls every weight towards 0 with the same force.

    At the kink the slope is 0 by convention, as in PyTorch. Weights come close to 0 but seldom stay exactly there:
    descent steps over the kink.

    Example:
        >>> L1(0.5).value(np.array([1.0, -2.0])), L1(0.5).slope(np.array([1.0, -2.0]))
        (np.float64(3.0), array([ 1., -1.]))

    Source:
        Tibshirani, Regression shrinkage and selection via the lasso (1996).
    """

    def value(self, values: Any) -> Any:
        return np.sum(np.abs(values))


class L2(Regularizer):
    """strength * 1/2 sum(w^2), slope strength * w: pulls every weight towards 0 in proportion to its size.

    With the factor 1/2 the strength is what optimizers with coupled decay (SGDOptimizer, AdamOptimizer) call
    weight_decay: the two give the same steps, but weight_decay acts on every parameter and leaves the loss as it is.
    Keras's L2(s), which has no 1/2, is strength 2 s. AdamWOptimizer's decoupled decay is not a penalty.

    Example:
        >>> L2(0.5).value(np.array([1.0, -2.0])), L2(0.5).slope(np.array([1.0, -2.0]))
        (np.float64(2.5), array([ 1., -2.]))

    Source:
        Hoerl and Kennard, Ridge regression (1970); Krogh and Hertz, A simple weight decay can improve generalization
        (1992).
    """

    def value(self, values: Any) -> Any:
        return 0.5 * np.sum(np.square(values))
