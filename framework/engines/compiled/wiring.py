"""Wiring: a model of one input and one output as a list of operations on matrices, for a kernel.

A matrix holds the rows of a batch: matrix 0 the data, each other one the results of an operation. Each operation reads
only matrices that are there before it. In layers one after another, matrix i is what operation i reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from framework.activations import Activation
from framework.activations.basic import Identity
from framework.engines.records import CannotLower
from framework.errors import FrameworkError
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.branches import Heads, Input, Join
from framework.models.composite import ActivationLayer
from framework.models.layer import Layer
from framework.models.sequential import Residual, Sequential


@dataclass
class Operation:
    """A layer of a model in a kernel.

    Attributes:
        layer: A Dense or a Neuron, which is a product and an activation; a layer with a formula; or the Residual whose
            sum this is. None for an activation that stands alone.
        activation: The activation of a Dense, a Neuron, or that which stands alone.
        reads: The matrices that it reads.
        width: The number of columns that it writes.
        writes: The matrix that it writes; None for the output.
    """

    layer: Any
    activation: Activation
    reads: tuple[int, ...]
    width: int
    writes: int | None = None

    @property
    def affine(self) -> bool:
        """Whether it is a matrix product with an activation."""
        return type(self.layer) in (Dense, Neuron)


@dataclass
class _Value:
    """An array on its way from one part of a model to the next.

    Attributes:
        operation: The operation that gives it; None for the data.
        matrix: The matrix that it has been put into, where something reads it.
    """

    operation: int | None
    matrix: int | None = None


@dataclass
class Wiring:
    """The operations of a model, and how they hang together.

    Attributes:
        inputs: How many columns the data has; None if that is not known.
        operations: The operations, in the order of the forward pass.
        widths: The width of each matrix.
    """

    inputs: int | None
    operations: list[Operation] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model) -> Wiring:
        """Return the wiring of a model.

        Raises:
            CannotLower: A kernel has no form for a layer, or for where it stands.
        """
        wiring = cls(_width(model))
        wiring._end(wiring._through(model, _Value(None)))
        return wiring

    @property
    def signature(self) -> tuple[Any, ...]:
        """The parts of the wiring that a kernel depends on: equal for models of the same layers."""
        operations = ((type(made.layer), made.reads, made.width, made.writes) for made in self.operations)
        return *operations, tuple(self.widths)

    def _through(self, part: Any, value: _Value) -> _Value:
        """Return what a part of a model makes of a value."""
        if type(part) is Sequential:
            for child in part.parts.values():
                value = self._through(child, value)
            return value
        if type(part) in (Heads, Join):
            raise CannotLower("a kernel takes one array and gives one")
        if type(part) is Residual:
            matrix = self._matrix(value)
            block = self._matrix(self._through(part.block, value))
            if block == matrix:
                raise CannotLower("a kernel takes no Residual of a block without a layer")
            return self._added(Operation(part, Identity(), (matrix, block), self.widths[matrix]))
        return self._layer(part, value)

    def _layer(self, part: Any, value: _Value) -> _Value:
        """Return what a layer makes of a value."""
        if type(part) is Input:
            return value
        if type(part) in (Dense, Neuron):
            return self._added(Operation(part, part.activation, (self._read(part, value),), getattr(part, "units", 1)))
        if type(part) is ActivationLayer:
            return self._activated(part.activation, value)
        if isinstance(part, Layer) and type(part).apply is Layer.apply and part.cardinality is None:
            return self._formula(part, value)
        raise CannotLower(f"a kernel has no form for the layer {type(part).__name__}")

    def _added(self, operation: Operation) -> _Value:
        for before in self.operations:
            if before.writes in operation.reads and type(before.layer) is Neuron:
                raise CannotLower("a Neuron before the last layer gives a number, not a row")
        self.operations.append(operation)
        return _Value(len(self.operations) - 1)

    def _activated(self, activation: Activation, value: _Value) -> _Value:
        last = self._last(value)
        if last is not None and last.affine and type(last.activation) is Identity:
            last.activation = activation
            return value
        matrix = self._matrix(value)
        return self._added(Operation(None, activation, (matrix,), self.widths[matrix]))

    def _formula(self, part: Layer, value: _Value) -> _Value:
        if value.operation is None and self.inputs is None:
            raise CannotLower(f"a kernel takes no {type(part).__name__} whose input is not one row of numbers")
        matrix = self._read(part, value)
        if not _keeps(part, self.widths[matrix]):
            raise CannotLower(f"a kernel has no form for {type(part).__name__}, which changes the length of a row")
        return self._added(Operation(part, Identity(), (matrix,), self.widths[matrix]))

    def _read(self, part: Layer, value: _Value) -> int:
        """Return the matrix that a layer reads, whose rows must be its samples."""
        matrix = self._matrix(value)
        if not part.takes((self.widths[matrix],)):
            name, width = type(part).__name__, self.widths[matrix]
            raise CannotLower(f"a kernel takes samples of one axis, and {name} takes no row of {width} numbers")
        return matrix

    def _matrix(self, value: _Value) -> int:
        """Return the matrix that a value is put into, once for all that read it."""
        if value.matrix is None:
            value.matrix = len(self.widths)
            width = self.inputs
            if value.operation is not None:
                made = self.operations[value.operation]
                made.writes, width = value.matrix, made.width
            if width is None:
                raise CannotLower("the number of columns of the input x is not known")
            self.widths.append(width)
        return value.matrix

    def _last(self, value: _Value) -> Operation | None:
        """Return the operation that gives a value, where no other one has read it yet."""
        return None if value.operation is None or value.matrix is not None else self.operations[value.operation]

    def _end(self, value: _Value) -> None:
        """Take the last value as the output; only that of a product or of an activation needs no matrix."""
        last = self._last(value)
        if last is None and value.matrix is None:
            raise CannotLower("the output of the model is that of no layer")
        if last is None or not (last.affine or last.layer is None):
            self._matrix(value)


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
