"""The file: arrays and one JSON text in the safetensors layout, with a checksum over all, written so that it lasts.

A write is: a temporary file in the target's own folder, flush, time, fsync, mode, rename, fsync of the folder. So at
every instant the path holds a whole file, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from framework.arrays import Array
from framework.errors import CheckpointError
from framework.settings.component import parsed

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
    for part in parts:
        digest.update(part)
    return [head.replace(_MARK + _NO_DIGEST, _MARK + digest.hexdigest().encode()), *parts]


def decode(data: bytes | None) -> tuple[dict[str, Array], str]:
    """Return what ``encode`` was given. The checksum is compared first, before anything else is read.

    Raises:
        CheckpointError: The bytes are not a checkpoint, or some bit has changed.
    """
    if data is None:
        raise CheckpointError("it is not a file; latest(folder) finds the newest checkpoint of a folder")
    place = _digest_place(data)
    view = memoryview(data)
    digest = hashlib.sha256(view[: place.start])
    digest.update(_NO_DIGEST)
    digest.update(view[place.stop :])
    if digest.hexdigest().encode() != data[place]:
        raise CheckpointError("it is damaged: its checksum does not fit its contents; use an older checkpoint")
    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]  # the library types its classes alone
        metadata = parsed(data[_LENGTH.size : _header_end(data)], "its header", CheckpointError)["__metadata__"]
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


def _digest_place(data: bytes) -> slice:
    """Return where in the file the 64 digits of the checksum stand."""
    end = _header_end(data)
    start = data.find(_MARK, _LENGTH.size, end) + len(_MARK)
    if start < len(_MARK) or start + 64 > end or data.find(_MARK, start, end) >= 0:
        raise CheckpointError("it is not a checkpoint of this framework: its header has no checksum")
    return slice(start, start + 64)


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
    try:
        file = Path(path)
        return decode(None if file.exists() and not file.is_file() else file.read_bytes())  # to open a pipe would block
    except CheckpointError as error:
        raise CheckpointError(f"{shown(path)} cannot be loaded: {error}") from None
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{shown(path)} cannot be loaded: {reason(error)}") from error


def write(path: str | os.PathLike[str], arrays: dict[str, Array], text: str) -> None:
    """Write a file, atomically and durably; a link is followed, a file that is there keeps its mode.

    Raises:
        CheckpointError: It cannot be written. The old file is as it was, and nothing is left behind, unless the last
            call failed, which makes the rename durable: then the new file is there.
    """
    try:
        parts = encode(arrays, text)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{shown(path)} cannot be written: {reason(error)}") from error
    write_whole(path, parts)


def write_whole(path: str | os.PathLike[str], parts: list[Any]) -> None:
    """Write bytes as a file, atomically and durably, as ``write`` does.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        _replace(Path(os.path.realpath(path)), parts)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{shown(path)} cannot be written: {reason(error)}") from error


def _replace(target: Path, parts: list[Any]) -> None:
    """Put ``parts`` in the place of ``target``; at every instant that is the old file or the new one, whole."""
    if target.exists() and not target.is_file() and not target.is_dir():  # of a folder the system says it
        raise CheckpointError("a pipe or a device is there, which a file would replace; give the path of a file")
    new = target.with_name(f".{target.name}.{os.urandom(8).hex()}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(new, flags, 0o666), "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            _make_newest(new)
            os.fsync(file.fileno())
        if target.exists():
            new.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(new, target)  # noqa: PTH105 (os's own, like fsync)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _make_newest(file: Path) -> None:
    """Give a file a later time than the checkpoints beside it, also after the clock was set back."""
    with contextlib.suppress(OSError):  # a file system that keeps no such times, or a file that is gone
        newest = max((path.stat().st_mtime_ns for path in checkpoints(file.parent)), default=-1)
        if newest >= file.stat().st_mtime_ns:
            os.utime(file, ns=(newest + 1,) * 2)


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a folder that end like checkpoints, the newest last; of the same time, the last by name."""
    found = []
    for path in Path(folder).glob("*.safetensors"):
        with contextlib.suppress(OSError):  # it was replaced or deleted in this moment
            if path.is_file():
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def shown(path: object) -> str:
    """Return a path for a message, without the name of its class."""
    return repr(os.fspath(path)) if isinstance(path, os.PathLike) else repr(path)


def reason(error: BaseException) -> str:
    """Return what an error says, without the path that the message already has."""
    said = getattr(error, "strerror", None) or str(error)
    return said or type(error).__name__


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where folders can be opened; on Windows they cannot, and need not."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
                raise
        finally:
            os.close(handle)
