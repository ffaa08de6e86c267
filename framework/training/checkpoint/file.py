"""The file: arrays and one JSON text in the safetensors layout, with a checksum over all, written as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from framework.base.arrays import Array
from framework.base.errors import CheckpointError
from framework.base.files import format_path, reason, whole_file
from framework.base.settings.component import parse_json

FORMAT = "framework.checkpoint"
VERSION = 4
_LENGTH = struct.Struct("<Q")  # a safetensors file begins with the length of its JSON header
_MARK = b'"sha256":"'  # inside a JSON text every quote is escaped, so this stands once in a header
_NO_DIGEST = b"0" * 64
_HEADER_LIMIT = 100_000_000  # that of safetensors
_DTYPES = {"BOOL": "?"} | {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)}
_DTYPES |= {f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def encode(arrays: dict[str, Array], text: str) -> list[Any]:
    """Return the file's bytes in parts: the header with ``text`` and the SHA-256 of all parts, then the arrays.

    The checksum is that of the file with zeros in the checksum's own place.

    Raises:
        CheckpointError: An array has a dtype that the format lacks, or the header is too long for it.
    """
    metadata = {"format": FORMAT, "version": str(VERSION), "run": text, "sha256": _NO_DIGEST.decode()}
    header: dict[str, Any] = {"__metadata__": metadata}
    parts: list[Any] = []
    end = 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):  # so each is aligned
        plain = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        if plain.dtype not in _NAMES:
            raise CheckpointError(f"array {name!r} has the dtype {plain.dtype}, which safetensors does not have")
        start, end = end, end + plain.nbytes
        header[name] = {"dtype": _NAMES[plain.dtype], "shape": plain.shape, "data_offsets": (start, end)}
        parts.append(plain.reshape(-1).view(np.uint8))
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % _LENGTH.size)
    _require_limit(len(head))
    head = _LENGTH.pack(len(head)) + head
    digest = hashlib.sha256(head)
    for chunk in parts:
        digest.update(chunk)
    return [head.replace(_MARK + _NO_DIGEST, _MARK + digest.hexdigest().encode()), *parts]


def decode(data: bytes | None) -> tuple[dict[str, Array], str]:
    """Return what ``encode`` was given. The checksum is compared first, before anything else is read.

    Raises:
        CheckpointError: The bytes are not a checkpoint, or some bit has changed.
    """
    if data is None:
        raise CheckpointError("it is not a file; latest(folder) finds the newest checkpoint of a folder")
    end, view = _header_end(data), memoryview(data)
    start = data.find(_MARK, _LENGTH.size, end) + len(_MARK)
    if start < len(_MARK) or start + 64 > end or data.find(_MARK, start, end) >= 0:
        raise CheckpointError("it is not a checkpoint of this framework: its header has no checksum")
    span = slice(start, start + 64)
    digest = hashlib.sha256(view[: span.start])
    digest.update(_NO_DIGEST)
    digest.update(view[span.stop :])
    if digest.hexdigest().encode() != data[span]:
        raise CheckpointError("it is damaged: its checksum does not fit its contents", advice="use an older checkpoint")
    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]  # the library types its classes alone
        metadata = parse_json(data[_LENGTH.size : end], "its header", CheckpointError)["__metadata__"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"it is not a valid safetensors file: {error}") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT or not isinstance(metadata.get("run"), str):
        raise CheckpointError("it is a safetensors file, but not a checkpoint of this framework")
    version = metadata.get("version")
    if version != str(VERSION):
        raise CheckpointError(
            f"its format is version {version}; this framework reads version {VERSION}: use the one that wrote it"
        )
    return {name: array_of(name, tensor) for name, tensor in sorted(tensors)}, metadata["run"]


def _header_end(data: bytes) -> int:
    """Return where the JSON header ends; its length is compared with the file's before anything is read."""
    if len(data) < _LENGTH.size:
        raise CheckpointError(f"it is too short for a checkpoint: {len(data)} bytes")
    (length,) = _LENGTH.unpack_from(data)
    if length > len(data) - _LENGTH.size:
        raise CheckpointError("it is truncated, or not a safetensors file: the header would be longer than the file")
    _require_limit(length)
    return _LENGTH.size + int(length)


def _require_limit(length: int) -> None:
    if length > _HEADER_LIMIT:
        raise CheckpointError(f"its header has {length} bytes, more than the {_HEADER_LIMIT} of a safetensors file")


def array_of(name: str, tensor: dict[str, Any]) -> Array:
    """Return a tensor of ``safetensors.deserialize`` as an array."""
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise CheckpointError(f"its array {name!r} has the dtype {tensor['dtype']}, which NumPy does not have")
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"]).astype(dtype.lstrip("<"), copy=False)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], str]:
    """Read and verify a file.

    Raises:
        CheckpointError: It cannot be read, or is not a whole checkpoint.
    """
    if path is None:
        raise CheckpointError(
            "a checkpoint must be the path of a file; got None, which latest(folder) returns for a folder without one: "
            "give it the folder that Checkpoint(folder=...) names, or train first"
        )
    try:
        file = Path(path)
        return decode(None if file.exists() and not file.is_file() else file.read_bytes())  # to open a pipe would block
    except CheckpointError as error:
        raise error.within(f"{format_path(path)} cannot be loaded") from None
    except (OSError, ValueError, TypeError, MemoryError) as error:
        hint = _instead(path) if isinstance(error, FileNotFoundError) else ""
        raise CheckpointError(f"{format_path(path)} cannot be loaded: {reason(error)}{hint}") from error


def _instead(path: str | os.PathLike[str]) -> str:
    """Say what to give instead of a file that is not there."""
    for newest in checkpoints(Path(path).parent)[-1:]:
        with contextlib.suppress(CheckpointError):
            read(newest)
            return f"; the newest checkpoint of its folder is {format_path(newest)}"
    return "; give the path of a checkpoint, a file that save or Checkpoint(folder=...) wrote"


def write(path: str | os.PathLike[str], arrays: dict[str, Array], text: str) -> None:
    """Write a file as ``whole_file`` does, the newest of its folder.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        parts = encode(arrays, text)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{format_path(path)} cannot be written: {reason(error)}") from error
    with whole_file(path, CheckpointError) as new:
        with new.open("wb") as file:
            for chunk in parts:
                file.write(chunk)
        with contextlib.suppress(OSError):  # a file system that keeps no such times, or a file that is gone
            newest = max((path.stat().st_mtime_ns for path in checkpoints(new.parent)), default=-1)
            if newest >= new.stat().st_mtime_ns:  # after the clock was set back
                os.utime(new, ns=(newest + 1,) * 2)


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a folder that end like checkpoints, the newest last; of the same time, the last by name."""
    stamped = []
    for path in Path(folder).glob("*.safetensors"):
        with contextlib.suppress(OSError):  # it was replaced or deleted in this moment
            if path.is_file():
                stamped.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(stamped)]
