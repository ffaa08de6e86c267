"""Wiring: a model as a list of operations on matrices, for a kernel.

A matrix holds the rows of a batch as operations read them: columns of the data, rows of embeddings, and results of
operations before, one beside the other. Matrices and operations are numbered so that each reads only what has smaller
numbers. In layers one after another, matrix i is what operation i reads, and matrix 0 the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from framework.activations import Activation
from framework.activations.basic import Identity
from framework.engines.records import CannotLower
from framework.errors import FrameworkError
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.branches import Heads, Input, Join
from framework.models.composite import ActivationLayer
from framework.models.embedding import Embedding
from framework.models.layer import Layer
from framework.models.sequential import Residual, Sequential

Path = tuple[str, ...]
"""The names that lead to an input or to an output; () where there is one."""


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
class Operation:
    """A layer of a model in a kernel.

    Attributes:
        layer: A Dense or a Neuron, which is a product and an activation; a layer with a formula; or the Residual whose
            sum this is. None for an activation that stands alone.
        activation: The activation of a Dense, a Neuron, or that which stands alone.
        reads: The matrices that it reads.
        width: The number of columns that it writes.
        key: The numbers by which a layer's random numbers differ from those of others.
        writes: The matrix and the first column there; None for an output.
    """

    layer: Any
    activation: Activation
    reads: tuple[int, ...]
    width: int
    key: tuple[int, ...] = ()
    writes: tuple[int, int] | None = None

    @property
    def affine(self) -> bool:
        """Whether it is a matrix product with an activation."""
        return type(self.layer) in (Dense, Neuron)


class Output(NamedTuple):
    """Where an output of the model comes from.

    Attributes:
        activation: The last activation.
        operation: The number of the product that gives h; None where ``matrix`` holds it.
        matrix: The number of the matrix.
        width: How many columns.
    """

    activation: Activation
    operation: int | None
    matrix: int | None
    width: int


@dataclass
class _Value:
    """An array on its way from one part of a model to the next.

    Attributes:
        parts: What it is made of: (input, width), (input, Embedding), or the number of an operation. The width of an
            input that has gone through no layer may be None.
        matrix: The matrix that it has been put into, where something reads it.
    """

    parts: list[Any]
    matrix: int | None = None


@dataclass
class Wiring:
    """The operations of a model, and how they hang together.

    Attributes:
        operations: The operations, in the order of the forward pass.
        widths: The width of each matrix.
        columns: What of the data is in matrices.
        tables: The embeddings in matrices.
        outputs: The outputs, by their paths.
    """

    operations: list[Operation] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    outputs: dict[Path, Output] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> Wiring:
        """Return the wiring of a model.

        Raises:
            CannotLower: A kernel has no form for a layer, or for where it stands.
        """
        wiring = cls()
        wiring._end(wiring._through(model, _Value([((), _width(model))]), ()), ())
        return wiring

    @property
    def signature(self) -> tuple[Any, ...]:
        """The parts of the wiring that a kernel depends on: equal for models of the same layers."""
        operations = (
            (type(made.layer), made.reads, made.width, made.key, made.writes, getattr(made.layer, "minimum_rows", 1))
            for made in self.operations
        )
        tables = ((table.layer.units, table.layer.cardinality, *table[1:]) for table in self.tables)
        outputs = ((path, out[1:]) for path, out in self.outputs.items())
        return *operations, tuple(self.widths), *self.columns, *tables, *outputs

    @property
    def inputs(self) -> list[Path]:
        """The inputs, in the order in which a kernel is given their arrays."""
        return sorted({columns.path for columns in self.columns} | {table.path for table in self.tables})

    @property
    def in_line(self) -> bool:
        """Whether the data is one array, which one product reads."""
        readers = [operation for operation in self.operations if 0 in operation.reads]
        return self.inputs == [()] and len(readers) == 1 and readers[0].affine and not self.tables

    def fills(self, operation: int) -> int | None:
        """Return the matrix that an operation fills alone, or None."""
        made = self.operations[operation]
        return made.writes[0] if made.writes is not None and self.widths[made.writes[0]] == made.width else None

    def made(self, matrix: int) -> bool:
        """Return whether something in a matrix is learnt, so that its gradient is needed."""
        return matrix in self._learnt

    @cached_property
    def _learnt(self) -> set[int]:
        found = {table.matrix for table in self.tables}
        for operation in self.operations:
            own = operation.layer is not None and type(operation.layer) is not Residual
            learns = own and bool(operation.layer.layout())
            if operation.writes is not None and (learns or not found.isdisjoint(operation.reads)):
                found.add(operation.writes[0])
        return found

    def _through(self, part: Any, value: Any, key: tuple[int, ...]) -> Any:
        """Return what a part of a model makes of a value: another value, or a dict of values by name."""
        if type(part) is Sequential:
            for place, child in enumerate(part.parts.values()):
                value = self._through(child, value, part._child_key(key, place))
            return value
        if type(part) is Heads:
            if len(part.parts) > 1 and isinstance(value, _Value):
                self._matrix(value)  # so that no activation of one output becomes that of the layer before
            heads = enumerate(part.parts.items())
            return {name: self._through(child, value, part._child_key(key, place)) for place, (name, child) in heads}
        if not isinstance(value, _Value):
            raise CannotLower(f"a kernel takes no {type(part).__name__} behind several outputs")
        if type(part) is Join:
            return self._join(part, value, key)
        if type(part) is Residual:
            matrix = self._matrix(value)
            block = self._matrix(self._through(part.block, value, part._child_key(key, 0)))
            if block == matrix:
                raise CannotLower("a kernel takes no Residual of a block without a layer")
            return self._added(Operation(part, Identity(), (matrix, block), self.widths[matrix]))
        return self._layer(part, value, key)

    def _layer(self, part: Any, value: _Value, key: tuple[int, ...]) -> _Value:
        """Return what a layer makes of a value."""
        if type(part) is Input:
            return value
        if type(part) is Embedding and (path := _unread(value)) is not None:
            return _Value([(path, part)])
        if type(part) in (Dense, Neuron):
            return self._added(Operation(part, part.activation, (self._read(part, value),), getattr(part, "units", 1)))
        if type(part) is ActivationLayer:
            return self._activated(part.activation, value)
        if isinstance(part, Layer) and type(part).apply is Layer.apply and part.cardinality is None:
            return self._formula(part, value, key)
        raise CannotLower(f"a kernel has no form for the layer {type(part).__name__}")

    def _added(self, operation: Operation) -> _Value:
        for matrix in operation.reads:
            for before in self.operations:
                if before.writes is not None and before.writes[0] == matrix and type(before.layer) is Neuron:
                    raise CannotLower("a Neuron before the last layer gives a number, not a row")
        self.operations.append(operation)
        return _Value([len(self.operations) - 1])

    def _activated(self, activation: Activation, value: _Value) -> _Value:
        last = _last(value)
        if last is not None and self.operations[last].affine and type(self.operations[last].activation) is Identity:
            self.operations[last].activation = activation
            return value
        matrix = self._matrix(value)
        return self._added(Operation(None, activation, (matrix,), self.widths[matrix]))

    def _formula(self, part: Layer, value: _Value, key: tuple[int, ...]) -> _Value:
        if _unread(value) is not None:
            raise CannotLower(f"a kernel takes no {type(part).__name__} whose input is not one row of numbers")
        matrix = self._read(part, value)
        if not _keeps(part, self.widths[matrix]):
            raise CannotLower(f"a kernel has no form for {type(part).__name__}, which changes the length of a row")
        return self._added(Operation(part, Identity(), (matrix,), self.widths[matrix], key))

    def _join(self, part: Join, value: _Value, key: tuple[int, ...]) -> _Value:
        path, parts = _unread(value), list[Any]()
        if path is None:
            raise CannotLower("a kernel takes a Join only where the inputs are")
        for place, (name, child) in enumerate(part.parts.items()):
            found = self._through(child, _Value([((*path, name), _width(child))]), part._child_key(key, place))
            if not isinstance(found, _Value):
                raise CannotLower(f"a kernel takes no Heads in a Join, as in its input {name!r}")
            if found.matrix is not None:
                raise CannotLower(f"a kernel takes no {type(child).__name__} in a Join, as in its input {name!r}")
            parts += found.parts
        return _Value(parts)

    def _read(self, part: Layer, value: _Value) -> int:
        """Return the matrix that a layer reads, whose rows must be its samples."""
        matrix = self._matrix(value)
        if not part.takes((self.widths[matrix],)):
            name, width = type(part).__name__, self.widths[matrix]
            raise CannotLower(f"a kernel takes samples of one axis, and {name} takes no row of {width} numbers")
        return matrix

    def _matrix(self, value: _Value) -> int:
        """Return the matrix that a value is put into, once for all that read it."""
        if value.matrix is not None:
            return value.matrix
        matrix, start = len(self.widths), 0
        for part in value.parts:
            if isinstance(part, int):
                self.operations[part].writes = (matrix, start)
                start += self.operations[part].width
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
        """Take the last values as outputs."""
        if isinstance(value, dict):
            for name, part in value.items():
                self._end(part, (*path, name))
            return
        last = _last(value)
        if last is not None and self.operations[last].affine:
            made = self.operations[last]
            self.outputs[path] = Output(made.activation, last, None, made.width)
            return
        if last is not None and self.operations[last].layer is None:
            made = self.operations[last]  # which writes nothing: the loss computes it
            self.outputs[path] = Output(made.activation, None, made.reads[0], made.width)
            return
        if last is None and value.matrix is None:
            raise CannotLower(f"the output {'.'.join(path) or 'of the model'} is that of no layer")
        matrix = self._matrix(value)
        self.outputs[path] = Output(Identity(), None, matrix, self.widths[matrix])


def _width(model: Model) -> int | None:
    """Return how many numbers a sample of a model has, where it is one row of them."""
    shape = model.input_shape
    if isinstance(shape, tuple) and len(shape) == 1 and isinstance(shape[0], int):
        return shape[0]
    for part in model.chain.values() if shape == (None,) else ():  # layers that take rows of any length
        if (width := _width(part)) is not None:
            return width
        if not _keeps(part, 7):
            return None
    return None


def _keeps(part: Model, width: int) -> bool:
    """Return whether a layer gives rows as long as those that it takes, of this length."""
    try:
        return bool(part.infer_shape((width,)) == (width,))
    except FrameworkError:
        return False


def _last(value: _Value) -> int | None:
    """Return the operation that gives a value, where no other one has read it yet."""
    first = value.parts[0]
    return first if len(value.parts) == 1 and value.matrix is None and isinstance(first, int) else None


def _unread(value: _Value) -> Path | None:
    """Return the path of an input that holds other inputs or ids, not a row of numbers."""
    first = value.parts[0]
    return first[0] if len(value.parts) == 1 and isinstance(first, tuple) and first[1] is None else None
