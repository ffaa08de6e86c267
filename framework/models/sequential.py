"""Sequential: layers one after another; Residual: such layers, whose input is added to their output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy.typing as npt
from pydantic import PrivateAttr

from framework.base.arrays import Arrays, Record
from framework.base.errors import FrameworkError, SettingsError, ShapeError, within
from framework.base.settings.component import Seed
from framework.base.shapes import Shape, close_shape, fits, format_shape, is_open, narrow_shape
from framework.base.trees import map_leaves
from framework.formulas.activations import Activation
from framework.models.base import Model
from framework.models.composite import Composite


class Sequential(Composite):
    """Layers one after another: each layer's output is the next one's input.

    An activation may be a layer. The layers move in: their numbers become views of this model's vector, and no other
    model may take them. A layer without numbers yet is drawn at first use from (seed, its place), in a model within a
    model from the whole path. A layer whose number of inputs was left out takes it from the layer before, or from the
    data.

    Args:
        *layers: One layer or more; a model may be a layer of another.
        seed: The seed of the layers that have none of their own; None is 0, or the place in the model that
            takes this one in. Models of the same layers with seed=None start with the same weights: give each model of
            an ensemble its own seed.
        dtype: "float64" or "float32", which the layers become; None is that of the layers.

    Raises:
        SettingsError: There is no layer, or the dtypes differ.
        ShapeError: A layer's output does not fit the next one's input.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense, ReLU, Softmax
        >>> import numpy as np
        >>> model = Sequential(Dense(4, 8), ReLU(), Dense(units=3), Softmax())
        >>> model(np.zeros((5, 4))).shape, len(model), model[1]
        ((5, 3), 4, ReLU())
        >>> list(model.parameters)
        ['0.weights', '0.bias', '2.weights', '2.bias']
    """

    __slots__ = ("_front",)
    if TYPE_CHECKING:
        _front: Shape | None = PrivateAttr()  # the axes in front that a later layer needs; None where it needs none

    layers: tuple[Model | Activation, ...]
    seed: Seed | None = None

    def __init__(
        self, *layers: Model | Activation, seed: int | None = None, dtype: npt.DTypeLike | None = None
    ) -> None:
        if not layers:
            raise SettingsError("Sequential: give one layer or more, e.g. Sequential(Dense(4, 8, ReLU()), Dense(8, 1))")
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            raise SettingsError("Sequential: give the layers one by one, without a list: Sequential(*layers)")
        super().__init__(layers=layers, seed=seed, dtype=dtype)

    @classmethod
    def _build_from(cls, settings: Mapping[str, Any]) -> Self:
        layers = settings.get("layers", ())
        if not isinstance(layers, tuple | list):
            raise SettingsError("must be a list of layers", name="Sequential: setting 'layers'", got=layers)
        return cls(*layers, **{name: value for name, value in settings.items() if name != "layers"})

    def children(self) -> Mapping[str, Model | Activation]:
        return {str(index): layer for index, layer in enumerate(self.layers)}

    @property
    def chain(self) -> Mapping[str, Model]:
        return self.parts

    def _connect(self) -> None:
        gives, front = self._first.open_shape, None
        same_axes = is_open(gives)  # whether the open axes of ``gives`` are those of the samples
        for index, layer in enumerate(self.parts.values()):
            if index and not layer.takes(gives):
                gives = close_shape(gives) if same_axes else gives
                raise ShapeError(
                    f"Sequential: layer {index - 1} gives {format_shape(gives)} but layer {index} takes "
                    f"{format_shape(layer.input_shape)}{self._advice_for(index, gives)}"
                )
            takes = narrow_shape(gives, layer.open_shape)
            if same_axes and not is_open(takes):
                front = takes[: len(takes) - len(gives) + 1]
            gives = layer.infer_shape(gives, settle=True)
            same_axes = same_axes and is_open(takes) and is_open(gives) and gives != (...,)
        object.__setattr__(self, "_front", front)

    def _advice_for(self, index: int, gives: Any) -> str:
        """Return the advice for a layer that does not take what the layer before it gives."""
        layer, *earlier = [*self.parts.values()][index::-1]
        if isinstance(layer.input_shape, dict):
            return layer.advice(gives)
        if isinstance(gives, dict):
            return "; a Join makes one array of several, and layers of one output belong in its Heads"
        if len(gives) + 1 == len(layer.input_shape):
            for back, before in enumerate(earlier, 1):
                for _, inner in before.walk_models():
                    if getattr(inner, "returns", None) == "last":
                        return f"; write {inner._label}(..., returns='all') in layer {index - back}"
        return layer.advice(gives)

    def advice(self, shape: Any) -> str:
        for layer in self.parts.values():
            if not layer.takes(shape):
                return layer.advice(shape)
            try:
                shape = layer.infer_shape(shape)
            except FrameworkError:
                break
        return ""

    @property
    def input_shape(self) -> Any:
        """The shape that the first layer takes, with the axes in front that a later one needs."""
        front, shape = self._front, super().input_shape
        return map_leaves(lambda leaf: (*front, *leaf), shape) if front else shape

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        return self._front is None and self._first.leading_axes

    def cardinalities(self, shape: Any) -> Any:
        return self._first.cardinalities(shape)

    def takes(self, shape: Any) -> bool:
        """Return whether samples may have this shape; of several inputs, the first layer says which."""
        named = isinstance(shape, dict) and not self._front
        return self._first.takes(shape) if named else super().takes(shape)

    def require_batch(self, shapes: Any, name: str) -> None:
        if self._front:
            super().require_batch(shapes, name)
        else:
            self._first.require_batch(shapes, name)

    def shape_after(self, shape: Any) -> Any:
        gives = shape
        for layer in self.parts.values():
            gives = layer.infer_shape(gives)
        return gives

    def settle(self, shape: Any) -> Any:
        gives = shape
        for index, layer in enumerate(self.parts.values()):
            with within(f"layer {index}"):
                gives = layer.infer_shape(gives, settle=True)
        return gives

    @property
    def output_activation(self) -> Any:
        return [*self.parts.values()][-1].output_activation

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        for name in self.parts:
            x = self.forward_child(name, x, record)
        return x

    def _key(self, position: tuple[int, ...]) -> tuple[int, ...]:
        return position or (0,) if self.seed is None else (self.seed,)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the layers without a name, as the constructor takes them."""
        return [*((None, layer) for layer in self.layers), *([] if self.seed is None else [("seed", self.seed)])]

    def _summary_rows(self, prefix: str, sample: Any) -> list[tuple[str, Any, int]]:
        start = f"{prefix}." if prefix else ""
        rows = []
        for name, layer in self.parts.items():
            rows += layer._summary_rows(f"{start}{name}", narrow_shape(sample, layer.open_shape))
            sample = layer.infer_shape(sample)
        return rows


class Residual(Composite):
    """a = x + block(x), the block being layers one after another whose output has the shape of their input.

    The layers move in as they do in Sequential: no other model may take them, and a layer without numbers yet is drawn
    from the seed and the place of the model that this one is part of.

    Args:
        *layers: One layer or more. A single Sequential is taken as the block, which is how to give a seed:
            ``Residual(Sequential(Dense(4, 4), seed=1))``.
        dtype: "float64" or "float32", which the layers become; None is that of the layers.

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

    def __init__(self, *layers: Model | Activation, dtype: npt.DTypeLike | None = None) -> None:
        if not layers:
            raise SettingsError("Residual: give one layer or more, e.g. Residual(Dense(8, 8, ReLU()), Dense(8, 8))")
        alone = layers[0] if len(layers) == 1 else None
        block = alone if isinstance(alone, Sequential) else Sequential(*layers, dtype=dtype)
        super().__init__(block=block, dtype=dtype)

    @classmethod
    def _build_from(cls, settings: Mapping[str, Any]) -> Self:
        if unknown := set(settings) - {"block"}:
            raise SettingsError(f"unknown setting '{min(unknown)}'. Settings: block", where="Residual")
        return cls(*settings.values())

    def children(self) -> Mapping[str, Model | Activation]:
        return {"block": self.block}

    @property
    def chain(self) -> Mapping[str, Model]:
        return self.parts

    def _connect(self) -> None:
        if self.block.settled:
            self.infer_shape(self.block.open_shape)

    def settle(self, shape: Any) -> Any:
        self.block.infer_shape(shape, settle=True)
        return self.shape_after(shape)

    def shape_after(self, shape: Any) -> Any:
        output_shape = self.block.infer_shape(shape)
        if not fits(output_shape, shape):
            expected, got = format_shape(close_shape(shape)), format_shape(close_shape(output_shape))
            raise ShapeError(f"Residual: the layers must give the shape that they take, {expected}; they give {got}")
        return shape

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        return x + self.forward_child("block", x, record)

    def _child_key(self, key: tuple[int, ...], index: int) -> tuple[int, ...]:
        return key

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the layers without a name, as the constructor takes them; a block with a seed as a whole."""
        return [(None, layer) for layer in ((self.block,) if self.block.seed is not None else self.block.layers)]
