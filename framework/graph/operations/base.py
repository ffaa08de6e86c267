"""Operation: one row of the table, with everything that the library knows of a NumPy operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Rule = Callable[..., Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One row of the table of operations.

    A rule carries a gradient back. For an elementwise operation there is one rule for each argument,
    ``rule(t, y, *arguments)``, linear in t, with y the operation's value: it carries a gradient back, and a tangent
    forward. ``reverse(g, y, *arguments, **attributes)`` of any other operation returns a gradient for each argument.
    All of them are written with NumPy on symbols. None means that the derivative is 0 wherever it exists.

    Attributes:
        shape: (graph, *shapes, **attributes) -> the shape of the result.
        rules: One rule for each argument of an elementwise operation.
        reverse: The rule of any other operation.
        numpy: A template of the NumPy source; ``{0}`` is the first argument, ``{out}`` is ``, out=...`` or empty. Its
            default, like that of the next two, is a call with the operation's name.
        text: A template of the text for readers.
        latex: The same in LaTeX.
        binding: How tightly the text binds: comparisons 0, sums 1, products 2, signs 3, powers 4, calls 5.
        kind: "f", "i" or "b"; None for the kind that NumPy promotes the arguments to.
        elementwise: Whether each element of the result depends on one element of each argument.
        view: Whether NumPy returns a view of the first argument.
    """

    shape: Rule
    rules: tuple[Rule | None, ...] = ()
    reverse: Rule | None = None
    numpy: str = ""
    text: str = ""
    latex: str = ""
    binding: int = 5
    kind: str | None = None
    elementwise: bool = False
    view: bool = False


_LATEX = frozenset({"sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "max", "min"})
"""Functions that LaTeX has a command for."""


def completed(rows: Mapping[str, Operation]) -> dict[str, Operation]:
    """Return rows with the templates of a call where they give none."""
    return {
        name: replace(
            row,
            numpy=row.numpy or f"np.{name}({{arguments}}{{out}})",
            text=row.text or f"{name}({{arguments}})",
            latex=row.latex
            or (f"\\{name}" if name in _LATEX else rf"\operatorname{{{{{name}}}}}")
            + r"{along}\left({arguments}\right)",
        )
        for name, row in rows.items()
    }


def same_shape(_graph: Any, shape: Shape, *_others: Shape, **_attributes: Any) -> Shape:
    """Return the shape of the first argument."""
    return shape


def given_shape(_graph: Any, *_shapes: Shape, shape: Shape, **_attributes: Any) -> Shape:
    """Return the attribute ``shape``."""
    return shape


def kept(g: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Return a reduction's result, or its gradient, with the reduced axes kept as axes of 1."""
    return g if keepdims else np.reshape(g, tuple(1 if axis in axes else size for axis, size in enumerate(x.shape)))


def unbroadcast(g: Any, shape: Shape) -> Any:
    """Return the gradient of an argument of this shape that NumPy broadcast to the shape of ``g``: the sum."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = (*range(extra), *(a + extra for a, n in enumerate(shape) if n == 1 and g.shape[a + extra] != 1))
    return np.reshape(np.sum(g, axis=axes, keepdims=True) if axes else g, shape)
