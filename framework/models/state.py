"""State: what changes in a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framework.arrays import Array, Record
from framework.models.parameters import Parameters, Views


class Columns(NamedTuple):
    """The names of the columns of the frames that a model was fitted with; None of what was no frame."""

    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None


class State:
    """The changing part of a model: its numbers, and the record of its last forward.

    Attributes:
        parameters: The numbers that are learnt.
        buffers: Numbers that are saved and that no optimizer sees; written into, never replaced.
        dtype: That of all numbers.
        columns: Those of the frames that the model was fitted with.
        training: Held while the model is trained, which one run at a time may do.
        skips: Whether a backward pass may leave out a layer, whose gradient is then 0.
    """

    def __init__(
        self,
        parameters: Parameters,
        buffers: Mapping[str, Array],
        dtype: npt.DTypeLike,
        new_record: Callable[..., Record],
    ) -> None:
        """Hold the numbers of a built model; its record is made at first use."""
        self.parameters = parameters
        self.buffers = Views(buffers)
        self.dtype = np.dtype(dtype)
        self.columns = Columns()
        self.training = threading.Lock()
        self.skips = False
        self._new_record = new_record

    @cached_property
    def record(self) -> Record:
        """The record of the last forward; a layer inside a model uses its part of the model's record."""
        return self._new_record(training=True)

    def fill(self, values: Array, buffers: Mapping[str, Any], frozen: Iterable[str], columns: Columns) -> None:
        """Write these numbers into the model's own arrays, and freeze what was frozen."""
        self.parameters.vector = values
        for name, value in buffers.items():
            self.buffers[name][...] = value
        self.columns = columns
        if names := tuple(frozen):
            self.parameters.freeze(*names)
