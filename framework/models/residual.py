"""Residual: layers that learn what to add to their input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from framework.arrays import Array, Record
from framework.errors import SettingsError, ShapeError, UsageError
from framework.models.base import Model
from framework.models.sequential import Sequential
from framework.models.shapes import fits, shown
from framework.models.state import Columns, State
from framework.parameters import Parameters


class Residual(Model):
    """a = x + block(x), the block being layers one after another whose output has the shape of their input.

    The layers move in as they do in Sequential: no other model may take them, and a layer without numbers yet is drawn
    from the seed and the place of the model that this one is part of.

    Args:
        *layers: One layer or more. A single Sequential is taken as the block, which is how to give a seed:
            ``Residual(Sequential(Dense(4, 4), seed=1))``.

    Raises:
        SettingsError: There is no layer, or the dtypes differ.
        ShapeError: A layer's output does not fit the next one's input, or the last one's the first one's.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense
        >>> model = Residual(Dense.from_weights([[2.0]]))
        >>> model([3.0])
        array([9.])
        >>> list(model.parameters)
        ['block.0.weights', 'block.0.bias']

    Source:
        He et al., Deep residual learning for image recognition (2015), equation 1.
    """

    block: Sequential

    def __init__(self, *layers: Model) -> None:
        """Take the layers in."""
        if not layers:
            raise SettingsError("Residual: give one layer or more, e.g. Residual(Dense(8, 8, ReLU()), Dense(8, 8))")
        alone = layers[0] if len(layers) == 1 else None
        block = alone if isinstance(alone, Sequential) else Sequential(*layers)
        super().__init__(block=block)
        if block._owner is not None:
            raise UsageError("Residual: the block already belongs to a model; give block.copy() instead")
        if block._state is not None and block._state.parameters.bound:
            raise UsageError("Residual: an optimizer is bound to the block; give block.copy(), or bind to the model")
        if not fits(block.output_shape, block.input_shape):
            raise ShapeError(
                f"Residual: the layers must give the shape that they take, {shown(block.input_shape)}; "
                f"they give {shown(block.output_shape)}"
            )
        object.__setattr__(block, "_owner", self)

    @classmethod
    def _made_of(cls, settings: Mapping[str, Any]) -> Self:
        if unknown := set(settings) - {"block"}:
            raise SettingsError(f"Residual: unknown setting '{min(unknown)}'. Settings: block")
        return cls(*(block for block in settings.values()))

    @property
    def dtype(self) -> str:
        """The dtype of parameters and outputs."""
        return self.block.dtype

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape that the block takes."""
        return self.block.input_shape

    @property
    def minimum_rows(self) -> int:
        """How many rows a batch must have in training: what the block needs."""
        return self.block.minimum_rows

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape that the block gives."""
        return self.block.output_shape

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Return x + block(x); the block finds its own values, as views of this model's."""
        (part,) = record.parts
        part.key = record.key
        a = self.block.apply(x, self.block.parameters.views, part)
        return np.add(x, a, out=record.array("a", a.shape))  # not in place: the block's backward needs its own output

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return dL/dx = gradient + the block's dL/dx."""
        (part,) = record.parts
        part.needs_input_gradient = record.needs_input_gradient
        parameters = self.block.parameters
        dx = self.block.apply_backward(gradient, parameters.views, part, parameters.gradients)
        if not record.needs_input_gradient:
            return gradient
        return np.add(gradient, dx, out=record.array("dx", dx.shape))

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, without making any."""
        return {f"block.{name}": shape for name, shape in self.block.layout().items()}

    def _build(self, *place: int, draw: bool = True) -> State:
        state = self.block._built(*(place or (0,)), draw=draw)
        parameters = Parameters.join({"block": state.parameters}, self.dtype)
        buffers = {f"block.{name}": value for name, value in state.buffers.items()}
        return State(parameters, buffers, self._new_record(training=True))

    def _new_record(self, *, training: bool) -> Record:
        return Record(self.dtype, training=training, parts=(self.block._new_record(training=training),))

    def _twin(self) -> Self:
        twin = type(self)(self.block.copy())
        if self._state is not None:
            twin._built().columns = self._state.columns
        return twin

    def replace(self, **changes: Any) -> Self:
        """Return a copy with another block; a block that stays is copied with its numbers."""
        return self._made_of({"block": self.block.copy(), **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the block, with its numbers."""
        return _unpickle, (type(self), self.block, self._built().columns)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the layers without a name, as the constructor takes them; a block with a seed as a whole."""
        return [(None, layer) for layer in ((self.block,) if self.block.seed is not None else self.block.layers)]

    def _summary_rows(self, prefix: str) -> list[tuple[str, tuple[int | None, ...], int]]:
        start = f"{prefix}.block" if prefix else "block"
        return [(f"{prefix} Residual".strip(), self.output_shape, 0), *self.block._summary_rows(start)]


def _unpickle(cls: type[Residual], block: Sequential, columns: Columns) -> Residual:
    model = cls(block)
    model._built().columns = columns
    return model
