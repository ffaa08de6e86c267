"""Indices: where an element lies, as a sum of multiples of loop variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework.graph.node import Node
from framework.training.engines.native.views import View, axis_groups, size_text, to_size


@dataclass(frozen=True)
class Index:
    """A constant plus multiples of loop variables; constants and factors are sizes.

    Attributes:
        constant: The constant.
        factors: The variables with their factors, sorted; none is 0.

    Example:
        >>> print(3 + (Index.of("i") * 2 + 1) * 5)
        i * 10 + 8
    """

    constant: int = 0
    factors: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, variable: str) -> Index:
        """Return a variable as an index."""
        return cls(0, ((variable, 1),))

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.constant + other, self.factors)
        factors = dict(self.factors)
        for variable, factor in other.factors:
            factors[variable] = factors.get(variable, 0) + factor
        nonzero = ((variable, factor) for variable, factor in factors.items() if factor)
        return Index(self.constant + other.constant, tuple(sorted(nonzero)))

    __radd__ = __add__

    def __mul__(self, factor: int) -> Index:
        if not factor:
            return Index()
        return Index(self.constant * factor, tuple((variable, old * factor) for variable, old in self.factors))

    def __str__(self) -> str:
        """Return the index as text of a kernel."""
        terms = [name if factor == 1 else f"{name} * {size_text(factor)}" for name, factor in self.factors]
        return " + ".join([*terms, size_text(self.constant)] if self.constant or not terms else terms)

    def factor(self, variable: str) -> int:
        """Return the factor of a variable."""
        return dict(self.factors).get(variable, 0)

    def drop_variables(self, variables: Iterable[str]) -> Index:
        """Return the index without the multiples of some variables."""
        return Index(self.constant, tuple(pair for pair in self.factors if pair[0] not in variables))


Coords = tuple[Index, ...]
"""An index for each axis."""


def coords_of(variables: Iterable[str | None], values: Mapping[str, int] | None = None) -> Coords:
    """Return the index on each axis: 0 for None, an axis of size 1; its value for a variable in ``values``."""
    values = values or {}
    return tuple(
        Index() if name is None else Index(values[name]) if name in values else Index.of(name) for name in variables
    )


def element_index(view: View, coords: Sequence[Index]) -> Index:
    """Return where the element at some coordinates of a view lies in its buffer."""
    return sum((at * stride for at, stride in zip(coords, view.strides, strict=True)), Index(view.offset))


def broadcast_coords(node: Node, whole: int, coords: Coords) -> Coords:
    """Return the coordinates of an operand that is broadcast to so many axes."""
    return tuple(Index() if size == 1 else at for size, at in zip(node.shape, coords[whole - node.ndim :], strict=True))


def source_coords(node: Node, coords: Coords) -> Coords | None:
    """Return which element of its source an element of a view is; None if several axes of the source became one."""
    source, attributes = node.args[0], node.attributes
    match node.op:
        case "transpose":
            moved = dict(zip(attributes["axes"], coords, strict=True))
            return tuple(moved[axis] for axis in range(source.ndim))
        case "broadcast_to":
            return broadcast_coords(source, node.ndim, coords)
        case "index":
            return _coords_before_index(source, attributes["index"], coords)
        case "windows":
            inner = list(coords[: source.ndim])
            within = coords[source.ndim :]
            for axis, step, at in zip(attributes["axes"], attributes["steps"], within, strict=True):
                inner[axis] = inner[axis] * step + at
            return tuple(inner)
        case _:
            return _coords_before_reshape(source, node, coords)


def _coords_before_index(source: Node, entries: Sequence[Any], coords: Coords) -> Coords:
    """Return the coordinates behind an index, which has an entry for each axis of the source."""
    kept, inner = iter(coords), []
    for entry, size in zip(entries, source.shape, strict=True):
        if isinstance(entry, int):
            inner.append(Index(entry))
        elif entry is None:
            inner.append(next(kept))
        elif entry == "reversed":
            inner.append(next(kept) * -1 + (to_size(size, source.graph.rows) - 1))
        else:
            inner.append(next(kept) * entry[2] + entry[0])
    return tuple(inner)


def _coords_before_reshape(source: Node, node: Node, coords: Coords) -> Coords | None:
    """Return the coordinates before a reshape that splits axes."""
    inner = [Index()] * source.ndim
    for axes, others in axis_groups(source.shape, node.shape):
        long = [axis for axis in axes if source.shape[axis] != 1]
        if len(long) > 1:
            return None
        if long:
            step = 1
            for axis in reversed(others):
                if node.shape[axis] != 1:
                    inner[long[0]] += coords[axis] * step
                    step *= to_size(node.shape[axis], node.graph.rows)
    return tuple(inner)
