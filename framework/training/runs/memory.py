"""Memory: what one callback remembers, and how values of any shape become JSON, with their arrays beside it.

Plain JSON values stand as they are. An array is named by ``{"$array": name}``, a NumPy scalar by ``{"$scalar": name}``,
and a tuple is ``{"$tuple": [...]}``, so that what comes back is what went in, to the last bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from framework.base.arrays import Array, has_mask
from framework.base.errors import DataError

DEPTH = 100
"""How deeply lists and dicts may be nested; one that contains itself has no end."""


class CheckedDict(dict[str, Any]):
    """A dict in which everything goes through ``update``, which the subclass writes.

    Example:
        >>> class Lower(CheckedDict):
        ...     def update(self, *values, **named):
        ...         dict.update(self, {key.lower(): value for key, value in dict(*values, **named).items()})
        >>> lower = Lower()
        >>> lower["A"] = 1
        >>> lower
        {'a': 1}
    """

    __slots__ = ()

    @abstractmethod
    def update(self, *values: Any, **named: Any) -> None:
        """Check values, and put them in."""

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc]
        self.update(values)
        return self


class Memory(CheckedDict):
    """The memory of one callback. A value that cannot be saved is refused; an array is copied.

    Lists and dicts stay the caller's, so that ``memory.setdefault("seen", []).append(value)`` works.

    Example:
        >>> memory = Memory("EarlyStopping.0")
        >>> memory["best"] = 0.5
        >>> memory["file"] = object()
        Traceback (most recent call last):
        framework.base.errors.DataError: run.memory of EarlyStopping.0: 'file' must be a JSON value or a NumPy array ...
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
                raise DataError(f"run.memory of {self.name}: keys must be text", got=key)
            arrays: dict[str, Array] = {}
            try:
                pack(value, f"'{key}'", arrays)
            except DataError as error:
                error.advise("bars, files and clients go into run.live(self)")
                raise error.within(f"run.memory of {self.name}") from None
            for name, array in arrays.items():
                if any(np.may_share_memory(array, other) for other in changing):
                    raise DataError(
                        f"run.memory of {self.name}: {name} must not share memory with what training changes, such as "
                        "the weights; write .copy()"
                    )

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.name, dict(self))


def pack(value: Any, name: str, arrays: dict[str, Array], depth: int = DEPTH) -> Any:
    """Return ``value`` as JSON, and put its arrays into ``arrays`` under names that begin with ``name``.

    Only the plain types are taken: what a subclass adds, a default or a name, would be lost.

    Raises:
        DataError: It holds something that is neither a JSON value nor an array of numbers.

    Example:
        >>> arrays = {}
        >>> pack({"best": 0.5, "values": np.zeros(2)}, "memory", arrays)
        {'best': 0.5, 'values': {'$array': 'memory.values'}}
        >>> unpack(pack((1, np.float32(2)), "a", arrays), arrays)
        (1, np.float32(2.0))
    """
    if depth == 0:
        raise DataError(f"{name[:40]} is nested more than {DEPTH} deep, or contains itself")
    if has_mask(type(value)):
        raise DataError("must have no masked values, which would be lost", name=name, advice="fill them first")
    kind = type(value)
    if value is None or kind in (bool, float, str) or (kind is int and value.bit_length() < 14_000):
        return value  # Python writes no longer whole numbers as text
    if kind is np.ndarray or isinstance(value, np.generic):
        if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:  # safetensors has no longer floats
            plain = "".join(c if c.isascii() and c.isprintable() else "_" for c in name)  # which every reader can show
            while plain in arrays:
                plain += "_"
            arrays[plain] = np.asarray(value)
            return {"$array" if kind is np.ndarray else "$scalar": plain}
    elif kind is list:
        return [pack(item, f"{name}.{index}", arrays, depth - 1) for index, item in enumerate(value)]
    elif kind is tuple:
        return {"$tuple": pack(list(value), name, arrays, depth)}
    elif kind is dict and all(type(key) is str for key in value):
        packed = {key: pack(item, f"{name}.{key}", arrays, depth - 1) for key, item in value.items()}
        return {"$dict": packed} if any(key.startswith("$") for key in packed) else packed
    raise DataError(f"must be a JSON value or a NumPy array of numbers; got {kind.__name__}", name=name)


def unpack(value: Any, arrays: dict[str, Array]) -> Any:
    """Return what ``pack`` was given.

    Raises:
        DataError: An array is not there, or a tag is unknown.
    """
    match value:
        case list():
            return [unpack(item, arrays) for item in value]
        case {"$array": str(name)} if len(value) == 1 and name in arrays:
            return arrays[name]
        case {"$scalar": str(name)} if len(value) == 1 and name in arrays and not arrays[name].shape:
            return arrays[name][()]
        case {"$tuple": list(items)} if len(value) == 1:
            return tuple(unpack(items, arrays))
        case {"$dict": dict(items)} if len(value) == 1:
            return {key: unpack(item, arrays) for key, item in items.items()}
        case dict() if any(key.startswith("$") for key in value):
            raise DataError(f"it names something that it does not hold: {str(value)[:80]}")
        case dict():
            return {key: unpack(item, arrays) for key, item in value.items()}
        case _:
            return value
