"""Layer: a model with arrays of its own, and the base of own layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from framework.arrays import Array, Record
from framework.component import Dtype, Seed
from framework.initializers import Initializer, Zeros
from framework.models.base import Model, State
from framework.parameters import Parameters
from framework.random_streams import random_generator


class Layer(Model):
    """A model with arrays of its own. An own layer declares shapes and writes its forward and backward.

    Write ``shapes()``, ``apply`` and ``apply_backward``; ``initializers()`` where zeros will not do; ``input_shape``
    and ``output_shape`` where they are not one axis of any size. ``record`` holds what forward leaves for backward:
    ``record["x"] = x``; ``record.array(name, shape)`` is memory that is kept from step to step; ``record.key`` is the
    key of this pass's random numbers and ``record.training`` tells training from prediction.

    Attributes:
        seed: What the first values are drawn from; None leaves it to the model that the layer becomes part of.
        dtype: "float64" or "float32".

    Example:
        >>> from framework import Constant
        >>> class Scale(Layer):
        ...     units: int
        ...
        ...     def shapes(self):
        ...         return {"scale": (self.units,)}
        ...
        ...     def initializers(self):
        ...         return {"scale": Constant(value=1.0)}
        ...
        ...     def apply(self, x, values, record):
        ...         record["x"] = x
        ...         return x * values["scale"]
        ...
        ...     def apply_backward(self, gradient, values, record, gradients):
        ...         np.sum(gradient * record["x"], axis=0, out=gradients["scale"])
        ...         return gradient * values["scale"]
        >>> Scale(units=2)([3.0, 4.0])
        array([3., 4.])
    """

    seed: Seed | None = None
    dtype: Dtype = "float64"

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each parameter by name, in the order of the flat vector."""

    def initializers(self) -> Mapping[str, Initializer]:
        """Return what draws each parameter; what is not named starts at 0."""
        return {}

    def initial_buffers(self) -> Mapping[str, Array]:
        """Return the buffers' first values by name: numbers that are saved and that no optimizer sees."""
        return {}

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; one axis of any size unless the class says otherwise."""
        return (None,)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of one prediction; that of the input unless the class says otherwise."""
        return self.input_shape

    def _build(self, *place: int) -> State:
        parameters = Parameters(self.shapes(), self.dtype)
        initializers = self.initializers()
        place = place if self.seed is None else (self.seed,)
        seed, *counters = place or (0,)
        for index, (name, view) in enumerate(parameters.items()):
            rng = random_generator(seed, "initialize", *counters, index)
            view[...] = initializers.get(name, Zeros())(view.shape, rng)
        buffers = {name: np.array(value) for name, value in self.initial_buffers().items()}
        return State(parameters, buffers, self._new_record(training=True))

    def _new_record(self, *, training: bool) -> Record:
        return Record(self.dtype, training=training)

    def _twin(self) -> Self:
        twin = self._made_of(self.settings())
        source = self._state if self._owner is None else self._built()
        if source is not None:
            state = twin._built()
            state.parameters.vector[:] = source.parameters.vector
            state.parameters.gradient[:] = source.parameters.gradient
            state.buffers.update({name: np.array(value) for name, value in source.buffers.items()})
            state.columns = source.columns
            if frozen := source.parameters.frozen:
                state.parameters.freeze(*frozen)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as settings and numbers; the views are made anew."""
        state = self._state if self._owner is None else self._built()
        if state is None:
            return _unpickle, (type(self), self.settings(), None)
        numbers = (np.array(state.parameters.vector), state.parameters.frozen, state.buffers, state.columns)
        return _unpickle, (type(self), self.settings(), numbers)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the settings that differ from their defaults, the class's own first."""
        fields = type(self).model_fields
        inherited = Layer.model_fields
        names = [name for name in fields if name not in inherited] + [name for name in fields if name in inherited]
        return [
            (n, getattr(self, n)) for n in names if fields[n].is_required() or getattr(self, n) != fields[n].default
        ]

    def _summary_rows(self, prefix: str) -> list[tuple[str, tuple[int | None, ...], int]]:
        activation = self.output_activation
        inside = type(activation).__name__ if activation is not None else ""
        name = f"{prefix} {type(self).__name__}({inside})".strip()
        return [(name, self.output_shape, self.parameters.vector.size)]


def _unpickle(cls: type[Layer], settings: dict[str, Any], numbers: Any) -> Layer:
    layer = cls._made_of(settings)
    if numbers is not None:
        vector, frozen, buffers, columns = numbers
        state = layer._built()
        state.parameters.vector[:] = vector
        state.buffers.update(buffers)
        state.columns = columns
        if frozen:
            state.parameters.freeze(*frozen)
    return layer
