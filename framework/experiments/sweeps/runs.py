"""A run of a sweep: its state, read from its folder, and its training under a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from framework.callbacks import Callback
from framework.errors import CheckpointError, FrameworkError
from framework.experiments.claims import Claim
from framework.experiments.folder import METRICS, SETTINGS, RunFolder, require_one_process
from framework.files import write_whole
from framework.runs.run import Run

FAILED = "failed.json"

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
    """Train or resume a run up to the epoch ``until``, and write down an error that is the run's own."""
    run, epochs = RunFolder(path), str(epochs_of(path))
    require_one_process(run.experiment)
    if claim.notes()[-ATTEMPTS:] == [epochs] * ATTEMPTS:
        _fail(path, f"{ATTEMPTS} processes ended while they trained it, after {epochs} epochs")
        return
    try:
        others = str(claim.successor), str(path / METRICS)
        run.train(callbacks=[_Watch(others=others, until=until)])
    except _Left:
        return
    except (CheckpointError, OSError):  # which is not the run's own
        raise
    except Exception as error:  # noqa: BLE001 (the sweep goes to the next run)
        if not claim.successor.exists():
            kind = "" if isinstance(error, FrameworkError) else f"{type(error).__name__}: "
            _fail(path, f"{kind}{error}")


def _fail(path: Path, error: str) -> None:
    write_whole(path / FAILED, json.dumps({"error": error}, ensure_ascii=False) + "\n")


class _Left(Exception):  # noqa: N818 (not an error)
    """The run has reached the end of its rung; or another process has taken it over, because this one seemed dead."""


class _Watch(Callback):
    """Leave a run as a kill would: nothing is done that belongs to its end, such as to restore the best weights.

    Attributes:
        others: Files that show that another process has taken over the run, or finished it since.
        until: The last epoch of the rung.
    """

    writes: ClassVar[bool] = True  # after all other callbacks
    observes: ClassVar[bool] = True

    others: tuple[str, ...]
    until: int | None

    def on_epoch_begin(self, run: Run) -> None:
        """Leave at the end of the rung, or when another process has taken over the run."""
        if run.epoch == self.until or any(Path(path).exists() for path in self.others):
            raise _Left
