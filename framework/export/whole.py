"""Whole: the graph of a model in prediction, and what an export says of a model that has none."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.base.errors import DerivativeError, SettingsError
from framework.base.shapes import format_shape, is_known, require_sizes
from framework.base.trees import flatten, leaves, map_leaves
from framework.graph.node import Node
from framework.graph.refuse import CANNOT
from framework.graph.step import ModelGraph
from framework.graph.walk import Scope
from framework.models import Model


def graph_of(model: Model, shape: Any, name: str, dtype: str | None = None, *, ids: bool = False) -> ModelGraph:
    """Return the graph of a model in prediction.

    Args:
        model: The model.
        shape: The shape of a sample; see ``export_onnx``.
        name: The caller, for messages.
        dtype: The dtype of floats; None is the model's.
        ids: Whether an input that holds ids alone holds integers.

    Raises:
        SettingsError: Sizes are not known, or the shape does not fit; or a layer has no graph, which is named.
        UsageError: A number of inputs is not known.
    """
    shape = _sample_of(model, shape, name)
    limits = flatten(model.cardinalities(shape)) if ids else {}
    kinds = {leaf: "i" for leaf, limit in limits.items() if np.isfinite(limit).all()}
    try:
        return ModelGraph(model, shape, training=False, dtype=dtype, kinds=kinds, derives=True)
    except Exception as error:  # noqa: BLE001 (whatever an apply that was written for arrays raises on symbols)
        layer = getattr(error, "layer", model._label)
        raise explain_without_graph(error).within(name, f"layer {layer} has no graph") from None


def scope_of(graph: ModelGraph, node: Node) -> Scope | None:
    """Return the innermost layer in which a node was made."""
    return next((scope for scope in graph.scopes if scope.start <= node.place < scope.stop), None)


def explain_without_graph(error: Exception) -> SettingsError:
    """Return an error of tracing with advice that fits: nothing is derived here."""
    made = SettingsError.of(error)
    if isinstance(error, DerivativeError):
        made.advice = made.advice[: error.subject == CANNOT]  # what to write instead
    return made.advise("write it with the functions of docs/operations.md")


def _sample_of(model: Model, shape: Any, name: str) -> Any:
    """Return the shape of a sample: the given one, that of the preprocess, of the last ``fit``, or of the model."""
    model.parameters  # noqa: B018 -- raises while a number of inputs is not known
    expected = model.input_shape
    if model.preprocess is not None:
        if shape is not None:
            raise SettingsError(f"{name}: leave argument 'shape' out: the model's Preprocess has the shape of a sample")
        if not model.takes(model.preprocess.shape):
            raise SettingsError(
                f"the Preprocess of the model gives samples of shape {format_shape(model.preprocess.shape)}, and the "
                f"model takes {format_shape(expected)}; train them together",
                where=name,
            )
        shape = model.preprocess.shape
    shape = model.known_shape if shape is None else shape
    require_sizes(f"{name}: argument 'shape'", shape)
    if not is_known(shape) or not leaves(shape):
        example = map_leaves(lambda sizes: tuple(size if isinstance(size, int) else 28 for size in sizes), shape)
        raise SettingsError(
            f"{name}: the model leaves the shape of a sample open, {format_shape(shape)}; give shape=..., the shape of "
            f"one sample, as shape={example}"
        )
    if not model.takes(shape):
        raise SettingsError(f"{name}: argument 'shape' must fit {format_shape(expected)}; got {format_shape(shape)}")
    return shape
