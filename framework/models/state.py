"""State: what changes in a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from framework.arrays import Array, Record
from framework.parameters import Parameters, Views


class Columns(NamedTuple):
    """The names of the columns of the frames that a model was fitted with; None of what was no frame."""

    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None


class State:
    """What changes in a model: its numbers, and the record of its last forward.

    Attributes:
        parameters: The numbers that are learnt.
        buffers: Numbers that are saved and that no optimizer sees; written into, never replaced.
        record: What the last forward left for backward.
        dtype: That of all numbers.
        columns: Those of the frames that the model was fitted with.
    """

    __slots__ = ("buffers", "columns", "dtype", "parameters", "record")

    def __init__(self, parameters: Parameters, buffers: Mapping[str, Array], record: Record) -> None:
        """Hold the numbers of a built model."""
        self.parameters = parameters
        self.buffers = Views(buffers)
        self.record = record
        self.dtype = record.dtype
        self.columns = Columns()

    def fill(self, values: Array, buffers: Mapping[str, Any], frozen: Iterable[str], columns: Columns) -> None:
        """Write these numbers into the model's own arrays, and freeze what was frozen."""
        self.parameters.vector = values
        for name, value in buffers.items():
            self.buffers[name][...] = value
        self.columns = columns
        if names := tuple(frozen):
            self.parameters.freeze(*names)
