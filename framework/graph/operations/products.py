"""Products of matrices and of arrays with any number of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.errors import ShapeError
from framework.graph.operations.base import Operation, Shape, unbroadcast


def _matmul_shape(graph: Any, a: Shape, b: Shape) -> Shape:
    if a[-1] != b[-2:][0]:
        raise ShapeError(
            f"{graph.shape_text(a)} @ {graph.shape_text(b)}: the sizes {graph.size_text(a[-1])} and "
            f"{graph.size_text(b[-2:][0])} must be equal"
        )
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], *b[1:][-1:])  # lowering multiplies by a vector too


def _matmul(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 2 and a.ndim > 2:  # one product for all leading axes
        flat_g, flat_a = np.reshape(g, (-1, g.shape[-1])), np.reshape(a, (-1, a.shape[-1]))
        return np.reshape(flat_g @ b.mT, a.shape), flat_a.mT @ flat_g
    return unbroadcast(g @ b.mT, a.shape), unbroadcast(a.mT @ g, b.shape)


def _einsum_shape(graph: Any, *shapes: Shape, subscripts: str) -> Shape:
    inputs, output = subscripts.split("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(inputs.split(","), shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ShapeError(
                    f"np.einsum('{subscripts}'): the axis {letter} is both {graph.size_text(sizes[letter])} and "
                    f"{graph.size_text(size)}"
                )
    return tuple(sizes[letter] for letter in output)


def _einsum(g: Any, y: Any, *args: Any, subscripts: str) -> Any:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    return tuple(_einsum_part(g, place, x, terms, output, args) for place, x in enumerate(args))


def _einsum_part(g: Any, place: int, x: Any, terms: list[str], output: str, args: tuple[Any, ...]) -> Any:
    """Return the gradient of one argument: the product of ``g`` with the other arguments."""
    others = [(term, arg) for n, (term, arg) in enumerate(zip(terms, args, strict=True)) if n != place]
    known = set(output).union(*(term for term, _ in others))
    mine = terms[place]
    have = "".join(letter for letter in mine if letter in known)
    part = np.einsum(f"{','.join([output, *(term for term, _ in others)])}->{have}", g, *(arg for _, arg in others))
    if have != mine:  # letters that only this argument has were summed over
        part = np.reshape(part, tuple(n if c in known else 1 for c, n in zip(mine, x.shape, strict=True)))
    axes = tuple(n for n, (p, q) in enumerate(zip(part.shape, x.shape, strict=True)) if q == 1 and p != 1)
    part = np.sum(part, axis=axes, keepdims=True) if axes else part
    return np.broadcast_to(part, x.shape)


PRODUCTS: dict[str, Operation] = {
    "matmul": Operation(_matmul_shape, (), _matmul, text="{0} @ {1}", latex=r"{0} \, {1}", binding=2),
    "einsum": Operation(
        _einsum_shape,
        (),
        _einsum,
        "np.einsum({subscripts!r}, {arguments}{out})",
        "einsum('{subscripts}', {arguments})",
        r"\operatorname{{einsum}}_{{{subscripts}}}\left({arguments}\right)",
    ),
}
