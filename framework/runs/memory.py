"""Memory: what one callback remembers, saved with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.errors import DataError
from framework.runs.dicts import CheckedDict
from framework.runs.packing import pack


class Memory(CheckedDict):
    """The memory of one callback. A value that cannot be saved is refused; an array is copied.

    Lists and dicts stay the caller's, so that ``memory.setdefault("seen", []).append(value)`` works.

    Example:
        >>> memory = Memory("EarlyStopping.0")
        >>> memory["best"] = 0.5
        >>> memory["file"] = object()
        Traceback (most recent call last):
        framework.errors.DataError: run.memory of EarlyStopping.0: 'file' must be a JSON value or a NumPy array ...
    """

    __slots__ = ("name",)

    def __init__(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.name = name
        self.update(values or {})

    def update(self, *values: Any, **named: Any) -> None:
        new = dict(*values, **named)
        self.require_savable(new)
        for key, value in new.items():
            if isinstance(value, np.ndarray) and value is not self.get(key):
                new[key] = value.copy()  # training changes the model's weights
        dict.update(self, new)

    def require_savable(self, values: Mapping[str, Any], changing: Sequence[Array] = ()) -> None:
        """Check that values can be saved.

        Args:
            values: The values to remember.
            changing: Arrays that training writes into; none of the values may share memory with them.

        Raises:
            DataError: A value is neither a JSON value nor an array of numbers, or shares memory, or a key is not text.
        """
        for key, value in values.items():
            if not isinstance(key, str):
                raise DataError(f"run.memory of {self.name}: keys must be text; got {key!r}")
            arrays: dict[str, Array] = {}
            try:
                pack(value, f"'{key}'", arrays)
            except DataError as error:
                raise DataError(
                    f"run.memory of {self.name}: {error}; bars, files and clients go into run.live(self)"
                ) from None
            for name, array in arrays.items():
                if any(np.may_share_memory(array, other) for other in changing):
                    raise DataError(
                        f"run.memory of {self.name}: {name} must not share memory with what training changes, such as "
                        "the weights; write .copy()"
                    )

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.name, dict(self))
