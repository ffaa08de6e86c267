"""Residual: layers that learn what to add to their input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from framework.activations import Activation
from framework.arrays import Array, Record
from framework.errors import SettingsError, ShapeError
from framework.models.base import Model
from framework.models.composite import Composite
from framework.models.sequential import Sequential
from framework.models.shapes import Shape, fits, is_known, shown


class Residual(Composite):
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

    def __init__(self, *layers: Model | Activation) -> None:
        if not layers:
            raise SettingsError("Residual: give one layer or more, e.g. Residual(Dense(8, 8, ReLU()), Dense(8, 8))")
        alone = layers[0] if len(layers) == 1 else None
        super().__init__(block=alone if isinstance(alone, Sequential) else Sequential(*layers))

    @classmethod
    def _made_of(cls, settings: Mapping[str, Any]) -> Self:
        if unknown := set(settings) - {"block"}:
            raise SettingsError(f"Residual: unknown setting '{min(unknown)}'. Settings: block")
        return cls(*(block for block in settings.values()))

    def children(self) -> Mapping[str, Model | Activation]:
        return {"block": self.block}

    def _connect(self) -> None:
        if self.block.settled:
            self._require_same(self.block.input_shape, self.block.output_shape)

    def _require_same(self, takes: Shape, gives: Shape) -> None:
        if not fits(gives, takes):
            raise ShapeError(
                f"Residual: the layers must give the shape that they take, {shown(takes)}; they give {shown(gives)}"
            )

    def settle(self, shape: Shape) -> Shape:
        self.block.settle(shape)
        return self.shape_after(shape)

    def shape_after(self, shape: Shape) -> Shape:
        if is_known(shape):
            self._require_same(shape, self.block.shape_after(shape))
        return shape

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        a = self.forward_child("block", x, record)
        return np.add(x, a, out=record.array("a", a.shape))  # not in place: the block's backward needs its own output

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return dL/dx = gradient + the block's dL/dx."""
        wanted = record.needs_input_gradient
        dx = self.backward_child("block", gradient, record, input_gradient=wanted)
        return np.add(gradient, dx, out=record.array("dx", dx.shape)) if wanted else gradient

    def _child_key(self, key: tuple[int, ...], place: int) -> tuple[int, ...]:
        return key

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the layers without a name, as the constructor takes them; a block with a seed as a whole."""
        return [(None, layer) for layer in ((self.block,) if self.block.seed is not None else self.block.layers)]
