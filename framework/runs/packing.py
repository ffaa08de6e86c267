"""Packing: values of any shape as JSON, with their arrays beside it.

Plain JSON values stand as they are. An array is named by ``{"$array": name}``, a NumPy scalar by ``{"$scalar": name}``,
and a tuple is ``{"$tuple": [...]}``, so that what comes back is what went in, to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.arrays import Array, has_mask
from framework.errors import DataError

DEPTH = 100
"""How deeply lists and dicts may be nested; one that contains itself has no end."""


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
        raise DataError(f"{name} must have no masked values, which would be lost; fill them first")
    kind = type(value)
    if value is None or kind in (bool, float, str) or (kind is int and value.bit_length() < 14_000):
        return value  # Python writes no longer whole numbers as text
    if kind is np.ndarray or isinstance(value, np.generic):
        if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:  # safetensors has no longer floats
            arrays[unused := _unused(name, arrays)] = np.asarray(value)
            return {"$array" if kind is np.ndarray else "$scalar": unused}
    elif kind is list:
        return [pack(item, f"{name}.{place}", arrays, depth - 1) for place, item in enumerate(value)]
    elif kind is tuple:
        return {"$tuple": pack(list(value), name, arrays, depth)}
    elif kind is dict and all(type(key) is str for key in value):
        packed = {key: pack(item, f"{name}.{key}", arrays, depth - 1) for key, item in value.items()}
        return {"$dict": packed} if any(key.startswith("$") for key in packed) else packed
    raise DataError(f"{name} must be a JSON value or a NumPy array of numbers; got {kind.__name__}")


def _unused(name: str, arrays: dict[str, Array]) -> str:
    """Return a name for an array that is not taken, of characters that every reader of such files can show."""
    plain = "".join(c if c.isascii() and c.isprintable() else "_" for c in name)
    while plain in arrays:
        plain += "_"
    return plain


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
