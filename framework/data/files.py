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
from framework.base.extras import load_module
from framework.base.files import leads_to


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
        return self._open(lambda path: load_module("pyarrow", "a file").OSFile(os.fsencode(path)))  # perhaps not UTF-8

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
                status = os.stat(self.path)  # noqa: PTH116 (a path is a string here)
                return f"{status.st_size} {status.st_mtime_ns}"
            info = self.system.info(self.path)
        except OSError as error:
            raise DataError(f"{self.url} cannot be read: {error}") from error
        return " ".join(str(info.get(key)) for key in ("size", "mtime", "LastModified", "ETag", "created"))


def locate_files(paths: str | Iterable[str], ending: str, name: str) -> list[File]:
    """Return the files that ``paths`` stand for: those of a pattern or of a folder sorted by name.

    Args:
        paths: A file, a pattern with ``*``, ``?`` or ``[``, a folder, a URL, or several of them in their order.
        ending: The ending of the files that are taken from a folder.
        name: The caller, for messages.

    Raises:
        DataError: There is no such file.

    Example:
        >>> locate_files("no/such/*.csv", ".csv", "CSV")
        Traceback (most recent call last):
        framework.base.errors.DataError: CSV: no file has the path 'no/such/*.csv'
    """
    all_files: list[File] = []
    for path in [paths] if isinstance(paths, str) else paths:
        files = _remote(path, ending, name) if "://" in path else _local(path, ending, name)
        if not files:
            raise DataError(f"no file has the path {path!r}", where=name, argument="path", expected="file")
        all_files += files
    if not all_files:
        raise DataError("must name at least one file", name=f"{name}: setting 'path'", got=paths)
    return all_files


def _local(path: str, ending: str, name: str) -> list[File]:
    base = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 (pathlib raises for unknown users)
    there = leads_to(base, DataError)
    if there == "folder":
        inside = _in_folder([str(entry.relative_to(base)) for entry in base.rglob(f"*{ending}")], path, ending, name)
        return [File(str(base / inner), None, str(Path(path) / inner), inner) for inner in inside]
    if there or not glob.has_magic(path):
        return [File(str(base), None, path, base.name)] if there else []
    # Path.glob takes no absolute pattern.
    matched = sorted(glob.glob(str(base), recursive=True))  # noqa: PTH207
    root = Path(*takewhile(lambda segment: not glob.has_magic(segment), base.parts))
    names = [str(Path(entry).relative_to(root)) for entry in matched]
    _require_whole(names, f"the pattern {path!r}", name)
    pairs = zip(matched, names, strict=True)
    return [File(entry, None, entry, within) for entry, within in pairs if os.path.isfile(entry)]  # noqa: PTH113 (a string)


def _remote(url: str, ending: str, name: str) -> list[File]:
    system, path = load_module("fsspec", f"the path {url!r}").core.url_to_fs(url)
    protocol = url.partition("://")[0]
    if system.isdir(path):
        root = path.rstrip("/")
        inside = [entry[len(root) + 1 :] for entry in system.find(root) if entry.endswith(ending)]
        names = _in_folder(inside, url, ending, name)
        paths = [f"{root}/{inner}" for inner in names]
    elif glob.has_magic(path) and not system.exists(path):
        paths = sorted(system.glob(path))
        root = "/".join(takewhile(lambda segment: not glob.has_magic(segment), path.split("/")))
        names = [entry.lstrip("/")[len(root.lstrip("/")) :].lstrip("/") for entry in paths]
        _require_whole(names, f"the pattern {url!r}", name)
    else:
        paths = [path] if system.exists(path) else []
        names = [entry.rstrip("/").rpartition("/")[2] for entry in paths]
    pairs = zip(paths, names, strict=True)
    return [File(entry, system, f"{protocol}://{entry.lstrip('/')}", within) for entry, within in pairs]


def _in_folder(names: list[str], folder: str, ending: str, name: str) -> list[str]:
    """Return the files of a folder in their order; those that begin with a dot or an underscore are not data."""
    kept = sorted(entry for entry in names if not entry.replace("\\", "/").rpartition("/")[2].startswith((".", "_")))
    if not kept:
        raise DataError(f"the folder {folder!r} has no file that ends in {ending}", where=name)
    _require_whole(kept, f"the folder {folder!r}", name)
    return kept


def _require_whole(names: Iterable[str], where: str, name: str) -> None:
    """Refuse files in folders such as year=2020, which hold the value of a column in their name."""
    if parted := next((entry for entry in names if "=" in entry.replace("\\", "/").rpartition("/")[0]), None):
        problem = f"is partitioned: the path {parted!r} holds the value of a column, which would be lost"
        raise DataError(problem, name=f"{name}: {where}", advice="write the table without partitions")
