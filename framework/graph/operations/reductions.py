"""Reductions: sums, means and extremes over axes, and what is computed along one axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framework.graph.operations.base import Operation, Shape, kept, same_shape


def _reduced(_graph: Any, shape: Shape, *, axes: Shape, keepdims: bool, **_attributes: Any) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keepdims or axis not in axes)


def _count(x: Any, axes: Shape) -> Any:
    """Return how many elements one result is computed from: a number, or a symbol where rows are among them."""
    return x.number(math.prod(x.shape[axis] for axis in axes))


def _var(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool, ddof: int) -> Any:
    """Return 2 (x - mean) / (n - ddof): the part through the mean is 0, because the deviations add up to 0."""
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    return (deviation * (2.0 * kept(g, x, axes, keepdims) / (_count(x, axes) - ddof)),)


def _extreme(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    """Share the gradient evenly among the elements that reach the extreme."""
    reached = x == kept(y, x, axes, keepdims)
    share = kept(g, x, axes, keepdims) / np.sum(np.where(reached, 1.0, 0.0), axis=axes, keepdims=True)
    return (np.where(reached, share, 0.0),)


def _prod(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    """Return the product of the others, also where one element is 0."""
    zero = x == 0
    rest = np.where(zero, 1.0, x)
    others = np.prod(rest, axis=axes, keepdims=True)
    zeros = np.sum(np.where(zero, 1.0, 0.0), axis=axes, keepdims=True)
    slope = np.where(zeros == 0, others / rest, np.where((zeros == 1) & zero, others, 0.0))
    return (kept(g, x, axes, keepdims) * slope,)


def _reduction(
    name: str, reverse: Any, latex: str = "", kind: str | None = None, *, axis: str = "{axes}", further: str = ""
) -> Operation:
    numpy = f"np.{name}({{0}}, axis={axis}{further}, keepdims={{keepdims}}{{out}})"
    return Operation(_reduced, (), reverse, numpy, f"{name}({{0}}{{along}})", latex, kind=kind)


REDUCTIONS: dict[str, Operation] = {
    "sum": _reduction(
        "sum", lambda g, y, x, **axes: (np.broadcast_to(kept(g, x, **axes), x.shape),), r"\sum{along} {0}"
    ),
    "mean": _reduction(
        "mean",
        lambda g, y, x, *, axes, keepdims: (np.broadcast_to(kept(g, x, axes, keepdims) / _count(x, axes), x.shape),),
        kind="f",
    ),
    "var": _reduction("var", _var, kind="f", further=", ddof={ddof}"),
    "max": _reduction("max", _extreme),
    "min": _reduction("min", _extreme),
    "prod": _reduction("prod", _prod, r"\prod{along} {0}"),
    "any": _reduction("any", None, r"\exists{along} {0}", "b"),
    "all": _reduction("all", None, r"\forall{along} {0}", "b"),
    "argmax": _reduction("argmax", None, kind="i", axis="{axes[0]}"),
    "argmin": _reduction("argmin", None, kind="i", axis="{axes[0]}"),
    "cumsum": Operation(
        same_shape,
        (),
        lambda g, y, x, *, axis: (np.flip(np.cumsum(np.flip(g, axis), axis), axis),),
        "np.cumsum({0}, axis={axis}{out})",
        "cumsum({0}, axis={axis})",
        r"\operatorname{{cumsum}}_{{\mathrm{{axis}} = {axis}}}\left({0}\right)",
    ),
    # the sum over the shards of a batch; passes says whether a gradient goes through it
    "total": Operation(
        same_shape, (), lambda g, y, x, *, passes: (g.record("total", passes=False) if passes else None,)
    ),
    # exp(x - max(x)) / sum(exp(x - max(x))) over the axes, recognised: no gradient goes through the maximum
    "softmax": Operation(
        same_shape,
        (),
        lambda g, y, x, *, axes: (y * (g - np.sum(g * y, axis=axes, keepdims=True)),),
        text="softmax({0}{along})",
        kind="f",
    ),
}
