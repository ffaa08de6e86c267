"""Files: the files that a path, a pattern, a folder or a URL stands for, in a fixed order.

A path with ``://`` is read through fsspec, which is imported only then.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from framework.base.errors import DataError
from framework.base.extras import required
from framework.base.files import leads_to
from framework.base.settings.messages import brief


class File(NamedTuple):
    """One file: on this machine, or in a file system of fsspec.

    Attributes:
        path: The absolute path, or the path within the file system.
        system: The file system, or None for this machine's.
        url: How messages name the file.
        name: The path within the folder or below the folders that a pattern names; of a single file, its last part.
    """

    path: str
    system: Any
    url: str
    name: str

    def open(self) -> Any:
        """Open for reading, as pyarrow takes it.

        Raises:
            DataError: The file cannot be read.
        """
        return self._open(lambda path: required("pyarrow", "a file").OSFile(os.fsencode(path)))  # perhaps not UTF-8

    def open_plain(self) -> Any:
        """Open for reading, without pyarrow.

        Raises:
            DataError: The file cannot be read.
        """
        return self._open(lambda path: Path(path).open("rb"))

    def _open(self, local: Callable[[str], Any]) -> Any:
        try:
            return (local if self.system is None else self.system.open)(self.path)
        except OSError as error:
            raise DataError(f"{self.url} cannot be read: {error}") from error

    def stamp(self) -> str:
        """Return a text that changes when the file is written again.

        Raises:
            DataError: The file is gone.
        """
        try:
            if self.system is None:
                found = os.stat(self.path)  # noqa: PTH116 (a path is a string here)
                return f"{found.st_size} {found.st_mtime_ns}"
            info = self.system.info(self.path)
        except OSError as error:
            raise DataError(f"{self.url} cannot be read: {error}") from error
        return " ".join(str(info.get(key)) for key in ("size", "mtime", "LastModified", "ETag", "created"))


def located(paths: str | Iterable[str], ending: str, name: str) -> list[File]:
    """Return the files that ``paths`` stand for: those of a pattern or of a folder sorted by name.

    Args:
        paths: A file, a pattern with ``*``, ``?`` or ``[``, a folder, a URL, or several of them in their order.
        ending: The ending of the files that are taken from a folder.
        name: The caller, for messages.

    Raises:
        DataError: There is no such file.

    Example:
        >>> located("no/such/*.csv", ".csv", "CSV")
        Traceback (most recent call last):
        framework.base.errors.DataError: CSV: no file has the path 'no/such/*.csv'
    """
    found: list[File] = []
    for path in [paths] if isinstance(paths, str) else paths:
        files = _remote(path, ending, name) if "://" in path else _local(path, ending, name)
        if not files:
            raise DataError(f"{name}: no file has the path {path!r}")
        found += files
    if not found:
        raise DataError(f"{name}: setting 'path' must name at least one file; got {brief(paths)}")
    return found


def _local(path: str, ending: str, name: str) -> list[File]:
    place = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 (pathlib raises for unknown users)
    there = leads_to(place, DataError)
    if there == "folder":
        inside = _in_folder([str(each.relative_to(place)) for each in place.rglob(f"*{ending}")], path, ending, name)
        return [File(str(place / each), None, str(Path(path) / each), each) for each in inside]
    if there or not glob.has_magic(path):
        return [File(str(place), None, path, place.name)] if there else []
    # Path.glob takes no absolute pattern.
    matched = sorted(glob.glob(str(place), recursive=True))  # noqa: PTH207
    root = Path(*takewhile(lambda part: not glob.has_magic(part), place.parts))
    names = [str(Path(each).relative_to(root)) for each in matched]
    _require_whole(names, f"the pattern {path!r}", name)
    pairs = zip(matched, names, strict=True)
    return [File(each, None, each, within) for each, within in pairs if os.path.isfile(each)]  # noqa: PTH113 (a string)


def _remote(url: str, ending: str, name: str) -> list[File]:
    system, path = required("fsspec", f"the path {url!r}").core.url_to_fs(url)
    protocol = url.partition("://")[0]
    if system.isdir(path):
        root = path.rstrip("/")
        inside = [each[len(root) + 1 :] for each in system.find(root) if each.endswith(ending)]
        names = _in_folder(inside, url, ending, name)
        paths = [f"{root}/{each}" for each in names]
    elif glob.has_magic(path) and not system.exists(path):
        paths = sorted(system.glob(path))
        root = "/".join(takewhile(lambda part: not glob.has_magic(part), path.split("/")))
        names = [each.lstrip("/")[len(root.lstrip("/")) :].lstrip("/") for each in paths]
        _require_whole(names, f"the pattern {url!r}", name)
    else:
        paths = [path] if system.exists(path) else []
        names = [each.rstrip("/").rpartition("/")[2] for each in paths]
    pairs = zip(paths, names, strict=True)
    return [File(each, system, f"{protocol}://{each.lstrip('/')}", within) for each, within in pairs]


def _in_folder(names: list[str], folder: str, ending: str, name: str) -> list[str]:
    """Return the files of a folder in their order; those that begin with a dot or an underscore are not data."""
    kept = sorted(each for each in names if not each.replace("\\", "/").rpartition("/")[2].startswith((".", "_")))
    if not kept:
        raise DataError(f"{name}: the folder {folder!r} has no file that ends in {ending}")
    _require_whole(kept, f"the folder {folder!r}", name)
    return kept


def _require_whole(names: Iterable[str], place: str, name: str) -> None:
    """Refuse files in folders such as year=2020, which hold the value of a column in their name."""
    if parted := next((each for each in names if "=" in each.replace("\\", "/").rpartition("/")[0]), None):
        raise DataError(
            f"{name}: {place} is partitioned: the path {parted!r} holds the value of a column, which would be lost; "
            "write the table without partitions"
        )
