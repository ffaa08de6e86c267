"""Packing: values of any shape as JSON, with their arrays beside it.

Plain JSON values stand as they are. An array is named by ``{"$array": name}``, a NumPy scalar by ``{"$scalar": name}``,
and a tuple is ``{"$tuple": [...]}``, so that what comes back is what went in, to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.arrays import Array
from framework.errors import CheckpointError


def pack(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return ``value`` as JSON, and put its arrays into ``arrays`` under names that begin with ``name``.

    Raises:
        CheckpointError: It holds something that is neither a JSON value nor an array of numbers.

    Example:
        >>> arrays = {}
        >>> pack({"best": 0.5, "values": np.zeros(2)}, "memory", arrays)
        {'best': 0.5, 'values': {'$array': 'memory.values'}}
        >>> unpack(pack((1, np.float32(2)), "a", arrays), arrays)
        (1, np.float32(2.0))
    """
    match value:
        case None | bool() | int() | float() | str():
            return float(value) if isinstance(value, float) else value
        case np.ma.MaskedArray():
            raise CheckpointError(f"{name} must have no masked values, which would be lost; fill them first")
        case np.ndarray() | np.generic() if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
            arrays[unused := _unused(name, arrays)] = np.asarray(value)
            return {"$array" if isinstance(value, np.ndarray) else "$scalar": unused}
        case list():
            return [pack(item, f"{name}.{place}", arrays) for place, item in enumerate(value)]
        case tuple():
            return {"$tuple": pack(list(value), name, arrays)}
        case dict() if all(isinstance(key, str) for key in value):
            packed = {key: pack(item, f"{name}.{key}", arrays) for key, item in value.items()}
            return {"$dict": packed} if any(key.startswith("$") for key in packed) else packed
        case _:
            raise CheckpointError(f"{name} must be a JSON value or an array of numbers; got {type(value).__name__}")


def _unused(name: str, arrays: dict[str, Array]) -> str:
    """Return a name for an array that is not taken, of characters that every reader of such files can show."""
    plain = "".join(c if c.isascii() and c.isprintable() else "_" for c in name)
    while plain in arrays:
        plain += "_"
    return plain


def unpack(value: Any, arrays: dict[str, Array]) -> Any:
    """Return what ``pack`` was given.

    Raises:
        CheckpointError: An array is not there, or a tag is unknown.
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
            raise CheckpointError(f"it names something that it does not hold: {str(value)[:80]}")
        case dict():
            return {key: unpack(item, arrays) for key, item in value.items()}
        case _:
            return value
