"""Processes that share work: claims say who works on what, and several processes of a machine run the same command.

A folder of claims is shared by processes, also on several machines. A claim is a file that only one process can create.
Its holder locks it and touches it every few seconds. A claim is dead if its lock is free on the machine of its holder,
or if nobody has touched it for two minutes. A dead claim stays: the file with the next number follows it, which again
only one process can create. A claim that follows a dead one stays too, marked as given back. So a process that was
suspended sees by the next number that it has lost its claim.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from framework.backends.arithmetic import THREADS
from framework.base.errors import SettingsError
from framework.base.files import lock, reason
from framework.base.forks import renew_in_children

BEAT = 10.0
"""Seconds between two touches of a claim."""

SILENCE = 120.0
"""Seconds without a touch after which the claim of another machine is dead. No clocks are compared."""

GIVEN_BACK = "given back"
"""The first line of a claim that its holder has given back; else it is the machine of the holder."""


def _machine() -> str:
    """Return the boot identifier of this machine; without /proc, its host name."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return platform.node()


class Claims:
    """The claims in a folder.

    Args:
        folder: The folder, which exists.

    Example:
        >>> Path("claims").mkdir()
        >>> with Claims("claims").take("07") as claim:
        ...     Claims("claims").take("07") is None
        True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._seen: dict[Path, tuple[int, float]] = {}  # when a claim was touched, and since when that is known

    def take(self, name: str, note: str = "") -> Claim | None:
        """Return a new claim on a name, or None if another process holds it.

        Args:
            name: The name, which may begin with folders that exist.
            note: A text without line breaks that stays in the claim.

        Raises:
            SettingsError: The claim cannot be written, for instance because the disk is full.
        """
        first = self.first(name)
        start = f"{first.stem}."
        with os.scandir(first.parent) as entries:  # faster than Path.iterdir, in a folder of many parts
            names = [entry.name for entry in entries if entry.name.startswith(start)]
        paths = sorted((first.with_name(entry) for entry in names if entry[len(start) :].isdecimal()), key=_number)
        if paths and self._alive(paths[-1]):
            return None
        newest = _number(paths[-1]) if paths else 0
        path, successor = (first.with_suffix(f".{newest + step}") for step in (1, 2))
        try:
            return Claim(path, successor, paths, note)
        except FileExistsError:
            return None
        except OSError as error:
            raise SettingsError(f"the claim {str(path)!r} cannot be written: {reason(error)}") from error

    def first(self, name: str) -> Path:
        """Return the path of the first claim on a name, which stays if its holder is killed."""
        return self.folder / f"{name}.1"

    def _alive(self, path: Path) -> bool:
        """Return whether the holder of a claim is at work, as far as can be known."""
        try:
            with path.open("rb") as file:  # on network drives, to open a file asks the server for its times
                machine = file.readline().decode().strip()
                touched = os.fstat(file.fileno()).st_mtime_ns
                if machine == GIVEN_BACK:
                    return False
                if machine == _machine() and (free := lock(file, shared=True)) is not None:
                    return not free
        except FileNotFoundError:  # removed at this moment
            return True
        if self._seen.get(path, (None, 0.0))[0] != touched:
            self._seen[path] = touched, time.monotonic()
        return time.monotonic() - self._seen[path][1] < SILENCE


def _number(path: Path) -> int:
    return int(path.suffix[1:])


class Claim:
    """A claim of this process, as a context manager that gives it back.

    Attributes:
        path: Its file.
        successor: The file of the claim that follows, if this one is taken for dead.
        before: The files of earlier claims on the same name, the oldest first: dead, or given back after a dead one.

    Raises:
        FileExistsError: Another process was faster.
    """

    def __init__(self, path: Path, successor: Path, before: list[Path], note: str) -> None:
        self.path, self.successor, self.before = path, successor, before
        self._file = path.open("xb", buffering=0)
        try:
            lock(self._file)
            self._write(f"{_machine()}\n{note}")  # only now: where there is text, there is a lock
        except OSError:
            self._file.close()
            path.unlink()
            raise
        self.renew = self._file.close  # a forked process would keep the lock when this one is killed
        renew_in_children(self)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Hold the claim."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the claim back, which a forked process does not hold."""
        if self._file.closed:
            return
        self._end.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self.before:
                self._write(f"{GIVEN_BACK}\n")
            else:  # on Windows an open file cannot be removed
                self.path.unlink()
        self._file.close()
        if not self.before:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    @property
    def lost(self) -> bool:
        """Whether another process has taken the claim over, because this one seemed dead."""
        return self.successor.exists()

    def notes(self) -> list[str]:
        """Return the notes of the earlier claims on the same name, the oldest first; "" of one that was given back."""
        notes = []
        for path in self.before:
            with contextlib.suppress(FileNotFoundError):  # its holder was suspended, and has given it back now
                notes.append(path.read_text(encoding="utf-8").partition("\n")[2])
        return notes

    def forget(self) -> None:
        """Remove the earlier claims on the same name, where work that is done twice does no harm."""
        for path in reversed(self.before):
            path.unlink(missing_ok=True)
        self.before = []

    def _write(self, text: str) -> None:
        self._file.seek(0)
        self._file.write(text.encode())
        self._file.truncate()

    def _beat(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)


RUN = """\
import os, signal, threading
def end():
    os.read(0, 1)  # returns when the parent has ended, or closes the pipe
    os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, too
threading.Thread(target=end, daemon=True).start()
import framework.__main__
"""
"""A process that ends with its parent, even if that is killed: training stops after the current batch."""

WAIT = 0.1
"""Seconds between two looks at the processes."""


def work_together(
    arguments: Sequence[str], workers: int, *, restarts: int = 0, stderr: int | None = subprocess.DEVNULL
) -> list[int]:
    """Run a ``framework`` command in processes with one BLAS thread each, and return their exit codes.

    Ctrl-C and SIGTERM end them before they raise KeyboardInterrupt and SystemExit.

    Args:
        arguments: The command.
        workers: How many processes.
        restarts: How many times a killed process is started again; its exit code is left out.
        stderr: Where they write errors; None is where this process does.
    """
    environment = dict.fromkeys(THREADS, "1") | os.environ
    processes, codes = list[subprocess.Popen[bytes]](), list[int]()
    reading, writing = os.pipe()

    def start() -> None:
        command, null = [sys.executable, "-c", RUN, *arguments], subprocess.DEVNULL
        processes.append(subprocess.Popen(command, env=environment, stdin=reading, stdout=null, stderr=stderr))

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number)) if main else None
    try:
        for _ in range(workers):
            start()
        while processes:
            for process in [child for child in processes if child.poll() is not None]:
                processes.remove(process)
                killed = process.returncode < 0 or process.returncode > 128  # by a signal
                if killed and restarts:
                    restarts -= 1
                    start()
                else:
                    codes.append(process.returncode)
            time.sleep(WAIT)
    finally:
        os.close(writing)
        for process in processes:
            process.wait()
        os.close(reading)
        if main:
            signal.signal(signal.SIGTERM, before)
    return codes
