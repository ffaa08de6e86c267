"""Files that are written whole or not at all: by a save, a report, an export.

A write is: a temporary file in the target's own folder, its contents, fsync, mode, rename, fsync of the folder. So at
every instant the path holds a whole file, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from framework.base.errors import FrameworkError, SettingsError
from framework.base.forks import renew_in_children

try:
    import fcntl
except ImportError:  # Windows, and Python in a browser
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], error: type[FrameworkError] = SettingsError) -> Iterator[Path]:
    """Give the path of a new file, which takes the place of ``path``, atomically and durably, when the block ends.

    A link is followed; a file that is there keeps its mode.

    Raises:
        FrameworkError: The file cannot be written; of the class ``error``. The old file is as it was, and nothing is
            left behind, unless the last call failed, which makes the rename durable: then the new file is there.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # a loop of links: the system says it
            target.stat()
        if target.exists() and not target.is_file() and not target.is_dir():  # of a folder the system says it
            raise OSError("a pipe or a device is there, which a file would replace; give the path of a file")  # noqa: TRY301
        new = target.with_name(f".{target.name}.{os.urandom(8).hex()}.new")
        new.touch(exist_ok=False)
    except (OSError, ValueError, TypeError) as problem:
        missing = isinstance(problem, FileNotFoundError)
        hint = f"; make the folder {os.fspath(Path(path).parent)!r} first" if missing else ""
        raise error(f"{format_path(path)} cannot be written: {reason(problem)}{hint}") from problem
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            new.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(new, target)  # noqa: PTH105 (os's own, like fsync)
        _sync_folder(target.parent)
    except FrameworkError:
        raise
    except (OSError, UnicodeEncodeError) as problem:  # also characters that stand for bytes in no encoding
        raise error(f"{format_path(path)} cannot be written: {reason(problem)}") from problem
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def write_whole(
    path: str | os.PathLike[str], contents: bytes | str, error: type[FrameworkError] = SettingsError
) -> None:
    """Write bytes, or text as UTF-8, as ``whole_file`` does.

    Raises:
        FrameworkError: The file cannot be written; of the class ``error``.
    """
    with whole_file(path, error) as new:
        new.write_bytes(contents.encode() if isinstance(contents, str) else contents)


def write_folder(
    path: str | os.PathLike[str], files: Mapping[str, str], owner: str, advice: str, *, shared: bool = False
) -> None:
    """Write texts into a new or empty folder, which belongs to its owner as soon as the last one is there.

    Nothing is written outside of it. Files of a process that was killed while it made the folder are replaced.

    Args:
        path: The folder.
        files: The texts by name.
        owner: Whose folder it is, for messages.
        advice: What to do where the folder has other contents.
        shared: Whether another process may have written it, or does so now; then its folder stays.

    Raises:
        SettingsError: The folder has other contents, or cannot be written.
    """
    folder, (*_, last) = Path(path).absolute(), files
    names, others = ("|".join(map(re.escape, some)) for some in (files, files.keys() - {last}))
    remains = re.compile(rf"{others}|\.({names})\.[0-9a-f]{{16}}\.new")
    refusal = f"the folder {os.fspath(path)!r} must be new or empty; {advice}"
    try:
        new = not leads_to(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with claim_folder(folder, refusal, wait=shared):
            if not all(map(remains.fullmatch, os.listdir(folder))):  # noqa: PTH208 (a file there is no folder)
                raise SettingsError(refusal)  # noqa: TRY301 (raised again below, unless another process was faster)
            try:
                for name, text in files.items():
                    write_whole(folder / name, text)
            finally:
                whole = (folder / last).exists()
                for name in filter(remains.fullmatch, os.listdir(folder)):  # noqa: PTH208
                    if not (whole and name in files):
                        (folder / name).unlink(missing_ok=True)
                if new and not whole:
                    folder.rmdir()
    except (OSError, SettingsError) as error:
        if shared and (folder / last).exists():
            return
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(
            f"the folder of {owner} must be one that can be written; got {os.fspath(path)!r}: {reason(error)}"
        ) from None


def leads_to(
    path: str | os.PathLike[str], error: type[FrameworkError] = SettingsError
) -> Literal["file", "folder", "device", ""]:
    """Return what is at a path, after links; "" if nothing is. A pipe counts as a device.

    Raises:
        FrameworkError: The system refuses the path: it is too long, a loop of links, or in a folder that may not be
            read; of the class ``error``.

    Example:
        >>> leads_to("."), leads_to("no/such/file")
        ('folder', '')
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (of any type)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError, TypeError) as problem:
        raise error(f"{format_path(path)} cannot be read: {reason(problem)}") from problem
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path behind links, and behind ``~``.

    Raises:
        SettingsError: It holds a zero byte.
    """
    try:
        return Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 (pathlib raises for unknown users)
    except ValueError as problem:
        raise SettingsError(f"{format_path(path)} cannot be read: {reason(problem)}") from problem


def read_text(path: str | os.PathLike[str], name: str = "the settings") -> str:
    """Return the text of a file in UTF-8.

    Raises:
        SettingsError: It cannot be read, or is not UTF-8, with the line; the message names the ``name`` of the text.
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as problem:
        line, byte = problem.object[: problem.start].count(b"\n") + 1, f"{problem.object[problem.start]:#x}"
        raise SettingsError(f"{path}, line {line}: {name} must be a text in UTF-8; got the byte {byte}") from None
    except (OSError, ValueError) as problem:
        raise SettingsError(f"{name} must be a file that can be read; {reason(problem)}", where=f"{path}") from None


def require_writable(folder: Path, owner: str, setting: str) -> None:
    """Make a folder, and check that a file can be made in it.

    Raises:
        SettingsError: It cannot; names the setting 'folder' of ``owner`` and what was ``setting``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"must be a folder that can be written; got {setting!r}: {error}", name=f"{owner}: setting 'folder'"
        ) from None


def lock(file: Any, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file against other processes until it is closed; shared, against locks that are not shared alone.

    Return False if another process has the lock, and None where files cannot be locked: on Windows and some network
    drives.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


class _Handle:
    """An open folder. A forked process closes it, because it would keep the lock when this one is killed."""

    def __init__(self, folder: Path) -> None:
        self.number: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        renew_in_children(self)

    def renew(self) -> None:
        if self.number is not None:
            os.close(self.number)
        self.number = None


@contextlib.contextmanager
def claim_folder(folder: Path, refusal: str, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder against other processes, and against other claims of this one.

    The system gives the lock back when its holder ends, however that happens: nothing is left behind that somebody
    would have to clear away. Where folders cannot be locked, as on Windows and some network drives, nothing is done.

    Raises:
        SettingsError: Another one has the lock; with the message ``refusal``. With ``wait``, its end is waited for.
    """
    if fcntl is None:
        yield
        return
    handle = _Handle(folder)
    try:
        if lock(handle.number, wait=wait) is False:
            raise SettingsError(refusal)
        yield
    finally:
        if handle.number is not None:  # in a forked process it is closed
            with contextlib.suppress(OSError):
                fcntl.flock(handle.number, fcntl.LOCK_UN)
            handle.renew()


def format_path(path: object) -> str:
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
