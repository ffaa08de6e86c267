"""Wiring: which matrix each layer of a model reads and which it writes, for a kernel.

A matrix holds the rows of a batch as a layer reads them: columns of the data, rows of embeddings, and outputs of layers
before, one beside the other. In layers one after another, matrix i is what layer i reads, and matrix 0 the data.
Matrices and layers are numbered so that each reads only what has smaller numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

from framework.activations import Activation
from framework.activations.basic import Identity
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.branches import Heads, Input, Join
from framework.models.composite import ActivationLayer
from framework.models.embedding import Embedding
from framework.models.sequential import Sequential

Path = tuple[str, ...]
"""The names that lead to an input or to an output; () where there is one."""


class CannotLower(Exception):  # noqa: N818 (not an error: the NumPy engine takes over)
    """A formula has no form that a kernel can compute; the message names it and says why."""


class Columns(NamedTuple):
    """Columns of the data in a matrix.

    Attributes:
        path: Of which input.
        matrix: The number of the matrix.
        start: The first column there.
        width: How many.
    """

    path: Path
    matrix: int
    start: int
    width: int


class Table(NamedTuple):
    """Rows of an embedding in a matrix, one for the id of each row of the batch.

    Attributes:
        layer: The Embedding.
        path: The input that holds the ids.
        matrix: The number of the matrix.
        start: The first column there.
    """

    layer: Embedding
    path: Path
    matrix: int
    start: int


@dataclass
class _Value:
    """An array on its way from one part of a model to the next.

    Attributes:
        parts: What it is made of: (input, width), (input, Embedding), or the number of a layer. The width of an input
            that has gone through no layer may be None.
        matrix: The matrix that it has been put into, where a layer reads it.
    """

    parts: list[Any]
    matrix: int | None = None


@dataclass
class Wiring:
    """The layers of a model, and how they hang together.

    Attributes:
        layers: The layers of units.
        activations: The activation of each.
        reads: The matrix that each layer reads.
        writes: The matrix and the first column there that each layer writes; None for an output.
        widths: The width of each matrix.
        columns: What of the data is in matrices.
        tables: The embeddings in matrices.
        outputs: The layers that give the outputs, by their paths.
    """

    layers: list[Any] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    writes: list[tuple[int, int] | None] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    outputs: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> Wiring:
        """Return the wiring of a model.

        Raises:
            CannotLower: A kernel has no form for a layer, or for where it stands.
        """
        wiring = cls()
        wiring._end(wiring._through(model, _Value([((), _width(model))])), ())
        return wiring

    @property
    def inputs(self) -> list[Path]:
        """The inputs, in the order in which a kernel is given their arrays."""
        return sorted({columns.path for columns in self.columns} | {table.path for table in self.tables})

    @property
    def in_line(self) -> bool:
        """Whether the data is one array, which one layer reads."""
        return self.inputs == [()] and self.reads.count(0) == 1

    def fills(self, layer: int) -> int | None:
        """Return the matrix that a layer fills alone, or None."""
        place = self.writes[layer]
        return place[0] if place is not None and self.widths[place[0]] == self.units(layer) else None

    def made(self, matrix: int) -> bool:
        """Return whether something in a matrix is learnt, so that its gradient is needed."""
        layers = (place[0] for place in self.writes if place is not None)
        return matrix in layers or matrix in {table.matrix for table in self.tables}

    def units(self, layer: int) -> int:
        """Return the number of units of a layer."""
        return int(getattr(self.layers[layer], "units", 1))

    def _through(self, part: Any, value: Any) -> Any:
        """Return what a part of a model makes of a value: another value, or a dict of values by name."""
        if type(part) is Sequential:
            return reduce(lambda given, layer: self._through(layer, given), part.parts.values(), value)
        if type(part) is Heads:
            if len(part.parts) > 1 and isinstance(value, _Value):
                self._matrix(value)  # so that no activation of one output becomes that of the layer before
            return {name: self._through(child, value) for name, child in part.parts.items()}
        if not isinstance(value, _Value):
            raise CannotLower(f"a kernel takes no {type(part).__name__} behind several outputs")
        if type(part) is Join:
            return self._join(part, value)
        if type(part) is Input:
            return value
        if type(part) is Embedding and (path := _unread(value)):
            return _Value([(path, part)])
        if type(part) in (Dense, Neuron):
            return self._layer(part, value)
        if type(part) is ActivationLayer:
            return self._activated(part.activation, value)
        kinds = "Dense, Neuron, Embedding in a Join, Input, Join, Heads, Sequential and activations"
        raise CannotLower(f"a kernel takes {kinds}; got {type(part).__name__}")

    def _activated(self, activation: Activation, value: _Value) -> _Value:
        last = _last(value)
        if last is None or type(self.activations[last]) is not Identity:
            name = type(activation).__name__
            raise CannotLower(f"the activation {name} stands as a layer, but not behind a Dense without an activation")
        self.activations[last] = activation
        return value

    def _join(self, part: Join, value: _Value) -> _Value:
        path, parts = _unread(value), list[Any]()
        if path is None:
            raise CannotLower("a kernel takes a Join only where the inputs are")
        for name, child in part.parts.items():
            found = self._through(child, _Value([((*path, name), _width(child))]))
            if not isinstance(found, _Value):
                raise CannotLower(f"a kernel takes no Heads in a Join, as in its input {name!r}")
            parts += found.parts
        return _Value(parts)

    def _layer(self, layer: Dense | Neuron, value: _Value) -> _Value:
        for part in value.parts:
            if isinstance(part, int) and type(self.layers[part]) is Neuron:
                raise CannotLower("a Neuron before the last layer gives a number, not a row")
        self.reads.append(self._matrix(value))
        self.layers.append(layer)
        self.activations.append(layer.activation)
        self.writes.append(None)
        return _Value([len(self.layers) - 1])

    def _matrix(self, value: _Value) -> int:
        """Return the matrix that a value is put into, once for all that read it."""
        if value.matrix is not None:
            return value.matrix
        matrix, start = len(self.widths), 0
        for part in value.parts:
            if isinstance(part, int):
                self.writes[part] = (matrix, start)
                start += self.units(part)
                continue
            path, made = part
            if isinstance(made, Embedding):
                self.tables.append(Table(made, path, matrix, start))
                start += made.units
            elif made is None:
                raise CannotLower(f"the number of columns of the input {'.'.join(path) or 'x'} is not known")
            else:
                self.columns.append(Columns(path, matrix, start, made))
                start += made
        self.widths.append(start)
        value.matrix = matrix
        return matrix

    def _end(self, value: Any, path: Path) -> None:
        """Take the last layers as outputs."""
        if isinstance(value, dict):
            for name, part in value.items():
                self._end(part, (*path, name))
            return
        last = _last(value)
        if last is None:
            raise CannotLower(f"the output {'.'.join(path) or 'of the model'} is not that of a Dense or a Neuron")
        self.outputs[path] = last


def _width(model: Model) -> int | None:
    """Return how many numbers a sample of a model has, where it is one row of them."""
    shape = model.input_shape
    return shape[0] if isinstance(shape, tuple) and len(shape) == 1 else None


def _last(value: _Value) -> int | None:
    """Return the layer that gives a value, where no other layer has read it yet."""
    first = value.parts[0]
    return first if len(value.parts) == 1 and value.matrix is None and isinstance(first, int) else None


def _unread(value: _Value) -> Path | None:
    """Return the path of an input that holds other inputs or ids, not a row of numbers."""
    first = value.parts[0]
    return first[0] if len(value.parts) == 1 and isinstance(first, tuple) and first[1] is None else None
