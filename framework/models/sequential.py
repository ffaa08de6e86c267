"""Sequential: layers one after another, with all their numbers in one flat vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from framework.arrays import Array, Record
from framework.component import Seed
from framework.errors import SettingsError, ShapeError, UsageError
from framework.models.base import AnyActivation, Model
from framework.models.layer import Layer
from framework.models.shapes import fits, shown
from framework.models.state import Columns, State
from framework.parameters import Parameters


class Sequential(Model):
    """Layers one after another: each layer's output is the next one's input.

    The layers move in: their numbers become views of this model's vector, and no other model may take them. A layer
    without numbers yet is drawn at first use from (seed, its place), in a model within a model from the whole path.

    Args:
        *layers: One layer or more; a model may be a layer of another.
        seed: What the layers without a seed of their own are drawn from; None is 0, or the place in the model that
            takes this one in.

    Raises:
        SettingsError: There is no layer, or the dtypes differ.
        ShapeError: A layer's output does not fit the next one's input.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense, ReLU, Softmax
        >>> import numpy as np
        >>> model = Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax()))
        >>> model(np.zeros((5, 4))).shape
        (5, 3)
        >>> list(model.parameters)
        ['0.weights', '0.bias', '1.weights', '1.bias']
    """

    layers: tuple[Model, ...]
    seed: Seed | None = None

    def __init__(self, *layers: Model, seed: int | None = None) -> None:
        """Take the layers in."""
        super().__init__(layers=layers, seed=seed)
        self._require_chain()
        for layer in self.layers:
            object.__setattr__(layer, "_owner", self)

    @classmethod
    def _made_of(cls, settings: Mapping[str, Any]) -> Self:
        layers = settings.get("layers", ())
        if not isinstance(layers, tuple | list):
            raise SettingsError(f"Sequential: setting 'layers' must be a list of layers; got {layers!r}")
        if unknown := set(settings) - {"layers", "seed"}:
            raise SettingsError(f"Sequential: unknown setting '{min(unknown)}'. Settings: layers, seed")
        return cls(*layers, **{name: value for name, value in settings.items() if name == "seed"})

    def _require_chain(self) -> None:
        if not self.layers:
            raise SettingsError("Sequential: give one layer or more, e.g. Sequential(Dense(4, 8, ReLU()), Dense(8, 1))")
        for place, layer in enumerate(self.layers):
            parameters = None if layer._state is None else layer._state.parameters
            if any(layer is other for other in self.layers[:place]) or layer._owner is not None:
                raise UsageError(f"Sequential: layer {place} already belongs to a model; give layer.copy() instead")
            if parameters is not None and parameters.bound:
                raise UsageError(
                    f"Sequential: an optimizer is bound to layer {place}; give layer.copy(), or bind to the model"
                )
        dtypes = [layer.dtype for layer in self.layers]
        if len(set(dtypes)) > 1:
            raise SettingsError(f"Sequential: layers must have one dtype; got {', '.join(dtypes)}")
        gives = self.layers[0].output_shape
        for place, layer in enumerate(self.layers[1:], 1):
            if not fits(gives, layer.input_shape):
                raise ShapeError(
                    f"Sequential: layer {place - 1} gives {shown(gives)} but layer {place} takes "
                    f"{shown(layer.input_shape)}"
                )
            gives = through(layer, gives)

    @property
    def dtype(self) -> str:
        """The dtype of parameters and outputs."""
        return self.layers[0].dtype

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape that the first layer takes."""
        return self.layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape that the last layer gives."""
        gives = self.layers[0].output_shape
        for layer in self.layers[1:]:
            gives = through(layer, gives)
        return gives

    @property
    def minimum_rows(self) -> int:
        """How many rows a batch must have in training: what the most demanding layer needs."""
        return max(layer.minimum_rows for layer in self.layers)

    @property
    def output_activation(self) -> AnyActivation | None:
        """The last layer's activation."""
        return self.layers[-1].output_activation

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Go through the layers; each finds its own values, as views of this model's."""
        for place, (layer, part) in enumerate(zip(self.layers, record.parts, strict=True)):
            part.key = None if record.key is None else (*record.key, place)
            x = layer.apply(x, layer.parameters.views, part)
        record.preactivation = record.parts[-1].preactivation
        return x

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Go back through the layers; each fills its own gradients, as views of this model's."""
        last = len(self.layers) - 1
        for place in range(last, -1, -1):
            layer, part = self.layers[place], record.parts[place]
            part.fused = record.fused and place == last
            part.needs_input_gradient = record.needs_input_gradient or place > 0
            gradient = layer.apply_backward(gradient, layer.parameters.views, part, layer.parameters.gradients)
        return gradient

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, without making any."""
        return {f"{i}.{name}": shape for i, layer in enumerate(self.layers) for name, shape in layer.layout().items()}

    def _build(self, *place: int, draw: bool = True) -> State:
        seed = place or (0,) if self.seed is None else (self.seed,)
        states = [layer._built(*seed, i, draw=draw) for i, layer in enumerate(self.layers)]
        parameters = Parameters.join({str(i): state.parameters for i, state in enumerate(states)}, self.dtype)
        buffers = {f"{i}.{name}": value for i, state in enumerate(states) for name, value in state.buffers.items()}
        return State(parameters, buffers, self._new_record(training=True))

    def _new_record(self, *, training: bool) -> Record:
        parts = tuple(layer._new_record(training=training) for layer in self.layers)
        return Record(self.dtype, training=training, parts=parts)

    def _twin(self) -> Self:
        twin = type(self)(*map(_twin_of, self.layers), seed=self.seed)
        if self._state is not None:
            twin._built().columns = self._state.columns
        return twin

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed; layers that stay are copied with their numbers."""
        return self._made_of({"layers": tuple(layer.copy() for layer in self.layers), "seed": self.seed, **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as layers, each with its numbers."""
        return _unpickle, (type(self), self.layers, self.seed, self._built().columns)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the layers without a name, as the constructor takes them."""
        return [*((None, layer) for layer in self.layers), *([] if self.seed is None else [("seed", self.seed)])]

    def _summary_rows(self, prefix: str) -> list[tuple[str, tuple[int | None, ...], int]]:
        start = f"{prefix}." if prefix else ""
        return [row for i, layer in enumerate(self.layers) for row in layer._summary_rows(f"{start}{i}")]


def through(layer: Model, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return the shape that a layer gives for this one; where it keeps an open size, that of its input.

    Example:
        >>> from framework import Dense, Dropout
        >>> through(Dropout(rate=0.5), (8,)), through(Dense(8, 3), (8,))
        ((8,), (3,))
    """
    return shape if layer.output_shape == layer.input_shape and None in layer.output_shape else layer.output_shape


def _twin_of(layer: Model) -> Model:
    """Return a copy; of a layer without numbers yet, one that its new owner draws."""
    return layer._undrawn() if isinstance(layer, Layer) and layer._state is None else layer.copy()


def _unpickle(cls: type[Sequential], layers: tuple[Model, ...], seed: int | None, columns: Columns) -> Sequential:
    model = cls(*layers, seed=seed)
    model._built().columns = columns
    return model
