"""Claims: which process works on what, in a folder that several processes share, also on several machines.

A claim is a file that only one process can create. Its holder locks it and touches it every few seconds. A claim is
dead if its lock is free on the machine of its holder, or if nobody has touched it for two minutes. A dead claim stays:
the file with the next number follows it, which again only one process can create.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from pathlib import Path
from typing import IO, Self

try:
    import fcntl
except ImportError:  # Windows, and Python in a browser
    fcntl = None  # type: ignore[assignment]

BEAT = 10.0
"""Seconds between two touches of a claim."""

SILENCE = 120.0
"""Seconds without a touch after which the claim of another machine is dead. No clocks are compared."""


def _machine() -> str:
    """Return what the processes of one machine since its start have in common."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return platform.node()


class Claims:
    """The claims in a folder.

    Args:
        folder: The folder, which exists.

    Example:
        >>> Path("claims").mkdir()
        >>> with Claims("claims").take("07", "") as claim:
        ...     Claims("claims").take("07", "") is None
        True
        >>> Claims("claims").dead("07")
        []
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._seen: dict[Path, tuple[int, float]] = {}  # when a claim was touched, and since when that is known

    def take(self, name: str, note: str) -> Claim | None:
        """Return a new claim on a name, or None if another process holds it.

        Args:
            name: The name.
            note: A text without line breaks that stays in the claim.
        """
        numbers = self._numbers(name)
        newest = numbers[-1] if numbers else 0
        if newest and self._alive(self._path(name, newest)):
            return None
        try:
            return Claim(self._path(name, newest + 1), self._path(name, newest + 2), note)
        except FileExistsError:
            return None

    def dead(self, name: str) -> list[str]:
        """Return the notes of the dead claims on a name, the oldest first, for the holder of the newest claim."""
        texts = [self._path(name, number).read_text(encoding="utf-8") for number in self._numbers(name)[:-1]]
        return [text.partition("\n")[2] for text in texts]

    def forget(self, name: str) -> None:
        """Remove the dead claims on a name; only the holder of the newest claim may do so."""
        for number in self._numbers(name)[:-1]:
            self._path(name, number).unlink(missing_ok=True)

    def _numbers(self, name: str) -> list[int]:
        found = (path.name.rpartition(".") for path in self.folder.iterdir())
        return sorted(int(number) for stem, _, number in found if stem == name)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.{number}"

    def _alive(self, path: Path) -> bool:
        """Return whether the holder of a claim is at work, as far as can be known."""
        try:
            with path.open("rb") as file:  # on network drives, to open a file asks the server for its times
                machine = file.readline().decode().strip()
                touched = os.fstat(file.fileno()).st_mtime_ns
                if fcntl is not None and machine == _machine():
                    with contextlib.suppress(OSError):  # a file system without locks
                        return _locked(file)
        except FileNotFoundError:  # given back at this moment
            return True
        if self._seen.get(path, (None, 0.0))[0] != touched:
            self._seen[path] = touched, time.monotonic()
        return time.monotonic() - self._seen[path][1] < SILENCE


def _locked(file: IO[bytes]) -> bool:
    """Return whether another holds the lock of a file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


class Claim:
    """A claim of this process, as a context manager that gives it back.

    Attributes:
        path: Its file.
        successor: The file of the claim that follows, if this one is taken for dead.

    Raises:
        FileExistsError: Another process was faster.
    """

    def __init__(self, path: Path, successor: Path, note: str) -> None:
        self.path, self.successor = path, successor
        self._file = path.open("x", encoding="utf-8")
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.write(f"{_machine()}\n{note}")  # only now: where there is text, there is a lock
        self._file.flush()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Hold the claim."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the claim back."""
        self._end.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # on Windows an open file cannot be removed
            self.path.unlink()
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)
