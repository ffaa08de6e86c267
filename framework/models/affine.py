"""Neuron and Dense: a weighted sum of the inputs, then an activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, Unpack

import numpy.typing as npt

from framework.base.arrays import Array, real_array, require_finite
from framework.base.errors import SettingsError, ShapeError
from framework.base.settings.component import Count
from framework.base.shapes import Shape, format_shape
from framework.formulas.activations import Activation
from framework.formulas.activations.basic import Identity
from framework.models.initializers import Glorot, Initializer
from framework.models.layer import Layer, LayerSettings


class _Affine(Layer):
    """The base of Neuron and Dense: h = x @ weights + bias, a = f(h)."""

    axes: ClassVar[tuple[str, ...]] = ("inputs", "units")

    inputs: Count | None = None
    activation: Activation = Identity()
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse an activation that has no derivative, or one over a row of a single unit."""
        self.activation.require_derivative()
        self.activation.require_units(getattr(self, "units", None), "Dense: setting 'activation'")

    @property
    def output_activation(self) -> Activation:
        return self.activation

    @property
    def weights(self) -> Array:
        """The weights: a view, which training changes; ``weights.copy()`` keeps them. Assigning copies into it.

        Taken before the layer becomes part of a model, the view shows its numbers no longer.
        """
        return self.parameters["weights"]

    @weights.setter
    def weights(self, value: Any) -> None:
        self._set("weights", value)

    @property
    def bias(self) -> Array:
        """The bias: a view, as ``weights`` is."""
        return self.parameters["bias"]

    @bias.setter
    def bias(self, value: Any) -> None:
        self._set("bias", value)

    def _set(self, name: str, value: Any) -> None:
        view = self.parameters[name]
        array = real_array(value, name, view.dtype)
        if array.shape != view.shape:
            raise ShapeError(f"must have the shape {view.shape}; got {array.shape}", name=name)
        require_finite(array, name)
        view[...] = array

    @classmethod
    def from_weights(
        cls,
        weights: Any,
        bias: Any = None,
        *,
        activation: Activation = Identity(),  # noqa: B008 (frozen)
        train_bias: bool = True,
        dtype: npt.DTypeLike = "float64",
    ) -> Self:
        """Make a layer from its weights, (inputs,) for a neuron and otherwise (inputs, units), and its bias.

        Args:
            weights: The weights.
            bias: The bias, a number or (units,); None is 0.
            activation: f.
            train_bias: Whether the bias is trained; False freezes it.
            dtype: "float64" or "float32".

        Raises:
            ShapeError: The weights have another number of axes, or the bias does not fit.

        Example:
            >>> from framework import Dense, Neuron
            >>> float(Neuron.from_weights([1.0, 2.0], bias=0.5)([1.0, 1.0]))
            3.5
            >>> Dense.from_weights([[1.0, 2.0]], bias=[0.5, 0.5])([1.0])
            array([1.5, 2.5])
        """
        weights = real_array(weights, "weights", dtype)
        if weights.ndim != len(cls.axes):
            raise ShapeError(f"weights must have the shape {format_shape(cls.axes)}; got {weights.shape}")
        layer = cls(*weights.shape, activation=activation, dtype=dtype)
        layer.weights = weights
        if bias is not None:
            layer.bias = bias
        if not train_bias:
            layer.parameters.freeze("bias")
        return layer

    def formula(self, x: Any, weights: Any, bias: Any) -> Any:
        return self.activation(x @ weights + bias)


class Neuron(_Affine):
    """One unit: a = f(x . weights + bias). A sample gives a number, a batch (rows, inputs) gives (rows,).

    Args:
        inputs: The number of inputs; left out, it comes from the layer before or from the data.
        activation: f.
        initializer: Draws the weights; the bias starts at 0.

    Raises:
        SettingsError: A setting is out of range, or the activation couples units.
        DerivativeError: The activation has no derivative.

    Example:
        >>> from framework import Sigmoid
        >>> neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid())
        >>> float(neuron([1.0, 1.0]))
        0.574442516811659

    Source:
        Rosenblatt, The perceptron (1958); with a smooth f, Widrow and Hoff (1960).
    """

    takes_a_sample = True
    leading_axes = False
    axes = ("inputs",)

    def __init__(
        self,
        inputs: int | None = None,
        activation: Activation = Identity(),  # noqa: B008 (frozen)
        *,
        initializer: Initializer = Glorot(),  # noqa: B008 (frozen)
        **settings: Unpack[LayerSettings],
    ) -> None:
        if isinstance(activation, Activation) and activation.coupled:
            raise SettingsError(
                f"Neuron: setting 'activation' must work on one unit; {activation!r} couples a row of units: "
                "use Sigmoid for two classes, or Dense with a unit for each class"
            )
        super().__init__(inputs=inputs, activation=activation, initializer=initializer, **settings)

    def shape_after(self, shape: Shape) -> Shape:
        return ()

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"weights": (self.inputs or 0,), "bias": ()}

    def initializers(self) -> Mapping[str, Initializer]:
        return {"weights": self.initializer}


class Dense(_Affine):
    """A layer of units: a = f(x @ weights + bias). A sample gives (units,), a batch (rows, inputs) gives (rows, units).

    A batch with more axes, such as (rows, steps, inputs), gives (rows, steps, units).

    Args:
        inputs: The number of inputs; left out, it comes from the layer before or from the data.
        units: The number of outputs.
        activation: f, elementwise or over the row of units.
        initializer: Draws the weights (inputs, units); the bias starts at 0.

    Raises:
        SettingsError: A setting is out of range, or a Softmax has a single unit.
        DerivativeError: The activation has no derivative.

    Example:
        >>> from framework import ReLU
        >>> Dense.from_weights([[1.0, -1.0]], bias=[0.0, 0.0], activation=ReLU())([2.0])
        array([2., 0.])

    Source:
        Goodfellow, Bengio and Courville, Deep learning (2016), chapter 6.
    """

    units: Count

    def __init__(
        self,
        inputs: int | None = None,
        units: int | None = None,
        activation: Activation = Identity(),  # noqa: B008 (frozen)
        *,
        initializer: Initializer = Glorot(),  # noqa: B008 (frozen)
        **settings: Unpack[LayerSettings],
    ) -> None:
        sizes = {} if units is None else {"units": units}  # left out, it is named with what else is wrong
        super().__init__(inputs=inputs, **sizes, activation=activation, initializer=initializer, **settings)

    def shape_after(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.units)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"weights": (self.inputs or 0, self.units), "bias": (self.units,)}
