"""A run of a sweep: its state, read from its folder, and its training under a claim."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import ClassVar

from framework.callbacks import Callback
from framework.errors import FrameworkError
from framework.experiments.folder import SETTINGS, RunFolder, require_one_process
from framework.experiments.processes.claims import Claim
from framework.files import write_whole
from framework.runs.run import Run
from framework.settings.messages import warn

FAILED = "failed.json"

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a disk that is full, can only be read, or is broken."""

ATTEMPTS = 5
"""A run has failed when this many processes have ended while they trained it, without a new epoch."""


def is_begun(path: Path) -> bool:
    """Return whether a run has a folder."""
    return (path / SETTINGS).is_file()


def epochs_of(path: Path) -> int:
    """Return the number of finished epochs."""
    return len(RunFolder(path).history()) if is_begun(path) else 0


def error_of(path: Path) -> str | None:
    """Return why a run has failed; None if it has not."""
    try:
        return str(json.loads((path / FAILED).read_text(encoding="utf-8"))["error"])
    except FileNotFoundError:
        return None


def is_finished(path: Path) -> bool:
    """Return whether a run is complete, or has failed."""
    return is_begun(path) and (RunFolder(path).metrics is not None or error_of(path) is not None)


def has_reached(path: Path, until: int | None) -> bool:
    """Return whether a run has finished, or made its epochs ``until``."""
    if is_finished(path) or until is None or not is_begun(path):
        return is_finished(path)
    return any(row.get("epoch") == until for row in RunFolder(path).history())


def train(path: Path, claim: Claim, until: int | None) -> None:
    """Train or resume a run up to the epoch ``until``, and write down an error that is the run's own.

    Raises:
        CheckpointError, OSError: The folder cannot be written, for instance because the disk is full.
    """
    run, epochs = RunFolder(path), str(epochs_of(path))
    require_one_process(run.experiment)
    if claim.notes()[-ATTEMPTS:] == [epochs] * ATTEMPTS:
        _fail(path, f"{ATTEMPTS} processes ended while they trained it, after {epochs} epochs")
        return
    try:
        run.train(callbacks=[_Claimed(successor=str(claim.successor)), _Rung(until=until)], swept=True)
    except _Left:
        pass
    except Exception as error:
        if not claim.lost:
            if _is_of_the_disk(error):  # which is not the run's own
                raise
            kind = "" if isinstance(error, FrameworkError) else f"{type(error).__name__}: "
            _fail(path, f"{kind}{error}")
    if claim.lost:
        warn(
            f"the run {str(path)!r} is trained by another process: this one seemed dead, because it did not touch its "
            "claim for two minutes, perhaps while it was suspended; it leaves the run, and goes to the next one"
        )


def _is_of_the_disk(error: BaseException) -> bool:
    """Return whether an error, or one that it comes from, says that the disk cannot be read or written."""
    if isinstance(error, OSError):
        return True
    cause = error.__cause__ or error.__context__
    while cause is not None and getattr(cause, "errno", None) not in DISK:
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _fail(path: Path, error: str) -> None:
    write_whole(path / FAILED, json.dumps({"error": error}, ensure_ascii=False) + "\n")


class _Left(Exception):  # noqa: N818 (not an error)
    """Ends training as a kill would: nothing is done that belongs to the end, such as to restore the best weights."""


class _Claimed(Callback):
    """Leave a run that another process has taken over, before logs and checkpoints are written.

    Attributes:
        successor: The file that shows it.
    """

    observes: ClassVar[bool] = True

    successor: str

    def on_epoch_end(self, run: Run) -> None:
        if Path(self.successor).exists():
            run.lost = True
            raise _Left

    on_train_begin = on_epoch_end

    def on_train_end(self, run: Run) -> None:
        run.lost = run.lost or Path(self.successor).exists()


class _Rung(Callback):
    """Leave a run at the end of its rung.

    Attributes:
        until: The last epoch of the rung; None is that of the run.
    """

    writes: ClassVar[bool] = True  # after all other callbacks
    observes: ClassVar[bool] = True

    until: int | None

    def on_epoch_begin(self, run: Run) -> None:
        if run.epoch == self.until:
            raise _Left
