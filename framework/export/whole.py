"""Whole: a model in prediction as one graph, from its inputs to its outputs."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.arrays import Array, Arrays
from framework.errors import DerivativeError, FrameworkError, SettingsError
from framework.graph.graph import KINDS, Graph
from framework.graph.node import Node
from framework.graph.symbol import Symbol
from framework.graph.trace import ROWS, trace
from framework.models import Layer, Model
from framework.models.composite import Following
from framework.models.sequential import Sequential
from framework.settings.component import belongs_to
from framework.shapes import is_known, require_sizes, shown
from framework.trees import flatten, leaves, map_leaves, names, sample_shape


@dataclass(frozen=True)
class Whole:
    """A model as one graph.

    Attributes:
        graph: The graph of all nodes.
        inputs: The node of each leaf of x; the names are those of a dict, or ``x``.
        numbers: The parameters and buffers by their names in the model, each with its node.
        outputs: The node of each output; the names are those of ``Heads``, or ``output``.
        starts: Where in the order of nodes each layer begins, with its name, such as ``0 Dense``.
    """

    graph: Graph
    inputs: dict[str, Node]
    numbers: dict[str, tuple[Node, Array]]
    outputs: dict[str, Node]
    starts: list[tuple[int, str]]

    def layer_of(self, node: Node) -> str:
        """Return the name of the layer in which a node was made."""
        place = bisect.bisect_right([start for start, _ in self.starts], node.place)
        return self.starts[place - 1][1] if place else ""


def whole(model: Model, shape: Any = None, dtype: str | None = None, *, name: str) -> Whole:
    """Return a model in prediction as one graph.

    Args:
        model: The model.
        shape: The shape of a sample; see ``export_onnx``.
        dtype: The dtype of floats; None is the model's.
        name: The caller, for messages.

    Raises:
        SettingsError: Sizes are not known, or the shape does not fit; or a layer has no graph, which is named.
    """
    shape = sample_of(model, shape, name)
    dtype = dtype or model.dtype
    numbers = numbers_of(model)
    kinds = {key: KINDS.get(value.dtype.kind, "f") for key, value in numbers.items()}
    ids = map_leaves(lambda part: bool(np.isfinite(part).all()), model.cardinalities(shape))
    given = flatten(shape)
    shapes = {leaf: (ROWS, *size) for leaf, size in given.items()} | {key: np.shape(v) for key, v in numbers.items()}
    kinds |= {leaf: "i" for leaf, holds in flatten(ids).items() if holds}
    walk = _Walk(name, numbers)
    made: list[str] = []

    def formula(**symbols: Symbol) -> Any:
        walk.starts.clear()
        walk.symbols = symbols
        found = walk.through(model, map_leaves(symbols.__getitem__, names(shape)), "")
        made[:] = _keys(found, "output")
        return tuple(part.astype(float) for part in leaves(found))

    traced = trace(formula, shapes, dtype, kinds=kinds)
    return Whole(
        traced.graph,
        {key: traced.inputs[leaf] for key, leaf in zip(_keys(shape, "x"), given, strict=True)},
        {key: (traced.inputs[key], value) for key, value in numbers.items()},
        dict(zip(made, traced.outputs, strict=True)),
        [*walk.starts],
    )


def sample_of(model: Model, shape: Any, name: str) -> Any:
    """Return the shape of a sample: the given one, that of the preprocess, of the last ``fit``, or of the model.

    Raises:
        SettingsError: Sizes are not known, or the shape does not fit.
        UsageError: A number of inputs is not known.
    """
    model.parameters  # noqa: B018 -- raises while a number of inputs is not known
    expected = model.input_shape
    if model.preprocess is not None:
        if shape is not None:
            raise SettingsError(f"{name}: leave argument 'shape' out: the model's Preprocess has the shape of a sample")
        if not model.takes(model.preprocess.shape):
            raise SettingsError(
                f"{name}: the Preprocess of the model gives samples of shape {shown(model.preprocess.shape)}, and the "
                f"model takes {shown(expected)}; train them together"
            )
        shape = model.preprocess.shape
    shape = model.known_shape if shape is None else shape
    require_sizes(f"{name}: argument 'shape'", shape)
    if not is_known(shape) or not leaves(shape):
        example = map_leaves(lambda part: tuple(size if isinstance(size, int) else 28 for size in part), shape)
        raise SettingsError(
            f"{name}: the model leaves the shape of a sample open, {shown(shape)}; give shape=..., the shape of one "
            f"sample, as shape={example}"
        )
    if not model.takes(shape):
        raise SettingsError(f"{name}: argument 'shape' must fit {shown(expected)}; got {shown(shape)}")
    return shape


def numbers_of(model: Model) -> dict[str, Array]:
    """Return the parameters and buffers of a model."""
    return {key: np.asarray(value) for part in (model.parameters, model.buffers) for key, value in part.items()}


def _keys(tree: Any, alone: str) -> list[str]:
    """Return the names of leaves as users know them, in the order of ``leaves``: ``city``; ``a.b`` inside another."""
    if not isinstance(tree, dict):
        return [alone]
    return [f"{key}.{rest}" if rest else key for key, part in tree.items() for rest in _keys(part, "")]


class _Walk:
    """Carries symbols through a model, layer after layer."""

    def __init__(self, name: str, numbers: Arrays) -> None:
        self.name, self.numbers = name, numbers
        self.symbols: Mapping[str, Symbol] = {}
        self.starts: list[tuple[int, str]] = []
        self.refusal: SettingsError | None = None

    def through(self, model: Model, x: Any, path: str) -> Any:
        """Return the output of a model for x; ``path`` names its place, ``"0.block."``."""
        if isinstance(model, Sequential):
            for name, part in model.parts.items():
                x = self.through(part, x, f"{path}{name}.")
            return x
        label = f"{path.removesuffix('.')} {getattr(model, '_label', type(model).__name__)}".strip()
        values: dict[str, Any] = {key: self.symbols[f"{path}{key}"] for key in (*model.parameters, *model.buffers)}
        try:
            if not isinstance(model, Layer):
                return model.apply(x, values, _Walking(self, model, path))
            self.starts.append((len(leaves(x)[0].graph.nodes), label))
            return self._layer(model, x, values)
        except Exception as error:  # noqa: BLE001 (whatever an apply that was written for arrays raises on symbols)
            if error is not self.refusal:  # of a layer inside, which it names
                self.refusal = SettingsError(f"{self.name}: layer {label} has no graph: {without_graph(error)}")
            raise self.refusal from None

    def _layer(self, layer: Layer, x: Any, values: dict[str, Any]) -> Any:
        if not (layer._derives and belongs_to(type(layer), "apply", "formula")):
            return layer.apply(x, values, _Walking(self, layer, ""))
        layer.program(sample_shape(x), training=False)  # its errors
        found = layer.predict_formula(x, **values)
        return found[0] if layer.buffers and isinstance(found, tuple) else found


def without_graph(error: Exception) -> str:
    """Return what an error of tracing says, with advice that fits: nothing is derived here."""
    said = str(error).partition("; ")[0] if isinstance(error, DerivativeError) else f"{type(error).__name__}: {error}"
    said = str(error) if isinstance(error, FrameworkError) and not isinstance(error, DerivativeError) else said
    return f"{said}; write it with the functions of docs/operations.md"


class OnSymbols(Following):
    """The record of ``apply`` on symbols."""

    __slots__ = ()

    def __init__(self, model: Model) -> None:
        super().__init__(model.dtype, training=False)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return None: what is computed on symbols is written nowhere."""
        return None


class _Walking(OnSymbols):
    """A record whose children are walked through."""

    __slots__ = ("_path", "_walk")

    def __init__(self, walk: _Walk, model: Model, path: str) -> None:
        super().__init__(model)
        self._walk, self._path = walk, path

    def called(self, name: str, child: Model, x: Any) -> Any:
        return self._walk.through(child, x, f"{self._path}{name}.")
