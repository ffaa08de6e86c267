"""Object files by name, in a folder of the user.

A file is read only if this user owns it and no one else can write to it, which is asked of the open file. So it does
not matter who else can write to the folder. A checksum of the name and the contents finds damage. A file that cannot be
read is made again, and one that cannot be written is done without. Writing a file removes the oldest beyond a number.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path

FILES = 1000
"""How many files are kept. Most have 5 to 50 KB."""

_CHECKSUM = 16

_OURS = re.compile(r"\w+_[0-9a-f]{32}\.o(\.\w+\.tmp)?")
"""The names of object files, and of those that a process was still writing when it ended."""


def folder() -> Path | None:
    """Return where object files are kept: ``FRAMEWORK_CACHE_DIR``, or a folder in the user's cache.

    None where neither the environment nor the system knows such a folder.
    """
    if own := os.environ.get("FRAMEWORK_CACHE_DIR"):
        return Path(own)
    base = os.environ.get({"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME"), "")
    if Path(base).is_absolute():  # the XDG specification has empty and relative ones ignored
        return Path(base) / "framework"
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry
        return None
    parts = {"win32": ("AppData", "Local"), "darwin": ("Library", "Caches")}.get(sys.platform, (".cache",))
    return home.joinpath(*parts, "framework")


def read_cached(name: str) -> bytes | None:
    """Return the contents of a file of the cache, or None if it is missing or cannot be trusted.

    Args:
        name: The file's name, which says all that the contents depend on.
    """
    directory = folder()
    if directory is not None:
        with contextlib.suppress(OSError):
            return _read_file(directory / name)
    return None


def write(name: str, contents: bytes) -> None:
    """Keep a file in the cache, if that is possible."""
    directory = folder()
    if directory is not None:
        with contextlib.suppress(OSError):
            _write(directory / name, contents)
            _prune(directory)


def _read_file(path: Path) -> bytes | None:
    with open(path, "rb", opener=_open_file) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return None
        checksum, contents = file.read(_CHECKSUM), file.read()
    return contents if checksum == _checksum(path, contents) else None


def _open_file(path: str, flags: int) -> int:
    """Open a file, without waiting for a writer if it is a pipe that someone has put there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _write(path: Path, contents: bytes) -> None:
    """Write a file that only this user can change; at every instant the path holds a whole file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_checksum(path, contents) + contents)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink()
        raise


def _prune(directory: Path) -> None:
    """Remove the files that were written first, until ``FILES`` are left. Other processes may do so too."""
    ages = {}
    for file in filter(lambda file: _OURS.fullmatch(file.name), directory.iterdir()):
        with contextlib.suppress(OSError):  # another process has removed it
            ages[file] = file.lstat().st_mtime_ns
    for file in sorted(ages, key=ages.__getitem__)[: max(0, len(ages) - FILES)]:
        with contextlib.suppress(OSError):
            file.unlink()


def _checksum(path: Path, contents: bytes) -> bytes:
    return blake2b(path.name.encode() + contents, digest_size=_CHECKSUM).digest()
