"""The callback that saves the run during training."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from framework.base.errors import FrameworkError, SettingsError
from framework.base.files import claim_folder, require_writable
from framework.base.settings.component import Count
from framework.data.fingerprints import fingerprint
from framework.training.callbacks.base import CHUNK_END, Callback
from framework.training.callbacks.reporting import text_of_path
from framework.training.checkpoint import latest, save
from framework.training.checkpoint.document import Document, take_apart
from framework.training.checkpoint.file import checkpoints, read
from framework.training.runs.run import Run

BEST = "best.safetensors"

KEPT = "the run is saved: "
"""How the note on an exception begins."""


def _interval(every: object) -> object:
    """Accept ``"epoch"``, a number of steps, and ``"30 seconds"``."""
    seconds = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?) seconds?", every) if isinstance(every, str) else None
    if every == "epoch" or (type(every) is int and every > 0) or (seconds and float(seconds[1]) > 0):
        return every
    raise ValueError("be 'epoch', a number of steps such as 100, or a time in seconds such as '30 seconds'")


class Checkpoint(Callback):
    """Save the run into a folder during training: the newest state, some before it, and the best.

    Files are named ``step-000000123.safetensors``; ``latest(folder)`` finds the newest whole one, and
    ``trainer.resume(latest(folder), data)`` resumes from it, bit for bit. An older file is deleted only after the newer
    one is whole and on disk. At the end of training, also after an interruption or an error, the newest state is
    saved.

    Attributes:
        folder: Where to save; created if it is missing. One folder serves one run.
        every: ``"epoch"``, a number of steps, or a time such as ``"30 seconds"``, checked after each step, or
            after each chunk of the steps that an engine compiles.
        keep: How many of the newest files to keep.
        monitor: A column of the history: the epoch that is best by it is kept as ``best.safetensors``.
        mode: ``"min"`` or ``"max"``; nothing is guessed from the name.

    Raises:
        SettingsError: The folder cannot be written, or a new run finds another run's files in it, or another run is
            saving into it at this moment; at ``fit``.
        CheckpointError: A file cannot be written, for instance because the disk is full.
        DivergedError: The weights are not finite when it is time to save; the files stay as they are.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer, latest
        >>> saver = Checkpoint("checkpoints", every=100, keep=2, monitor="loss")
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, callbacks=[saver]
        ... )
        >>> run = trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0]))
        >>> latest("checkpoints").name
        'step-000000003.safetensors'
    """

    writes: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    folder: Annotated[str, BeforeValidator(text_of_path)]
    every: Annotated[int | str, BeforeValidator(_interval)] = "epoch"
    keep: Count = 2
    monitor: str | None = None
    mode: Literal["min", "max"] = "min"

    def judged(self) -> dict[str, str]:
        return {} if self.monitor is None else {self.monitor: self.mode}

    def hooks(self) -> dict[str, Any]:
        """Return the hooks; without a number of steps, batches cost nothing."""
        hooks = super().hooks()
        if isinstance(self.every, str):
            save_if_due = hooks.pop("on_batch_end")
            if self.every != "epoch":
                hooks[CHUNK_END] = save_if_due
        return hooks

    def require(self, run: Run) -> None:
        """Make the folder, and see whether it can be written and is this run's, and whether the run can be saved."""
        folder = Path(self.folder)
        require_writable(folder, "Checkpoint", self.folder)
        with self._claim_folder(folder, run):
            take_apart(run)  # refuses what save would refuse

    @contextlib.contextmanager
    def _claim_folder(self, folder: Path, run: Run) -> Iterator[None]:
        """Lock the folder, so that two runs do not mix their files, and refuse it if it has other or damaged files."""
        refusal = (
            f"Checkpoint: setting 'folder' must be one that no other run is saving into; got {str(folder)!r}, where "
            "one is in training; give another folder, or wait for its end"
        )
        with claim_folder(folder, refusal):
            newest, there = latest(folder), checkpoints(folder)
            if there and newest is None:
                raise SettingsError(
                    f"Checkpoint: setting 'folder' holds {there[-1].name!r}, which cannot be loaded; delete what is "
                    "damaged, or give another folder"
                )
            if newest is not None and Document.from_text(read(newest)[1]).progress.identity != run.identity:
                raise SettingsError(
                    f"Checkpoint: setting 'folder' holds another run's {newest.name!r} already; resume it, "
                    f"trainer.resume(latest({self.folder!r}), data), or give another folder"
                )
            yield

    def on_train_begin(self, run: Run) -> None:
        """Claim the folder, and note what is saved already."""
        folder = Path(self.folder).absolute()  # a hook may change the working directory
        with contextlib.ExitStack() as claim:
            # Another run may have begun and ended since ``require``.
            claim.enter_context(self._claim_folder(folder, run))
            saved = _state(run) if checkpoints(folder) else None
            run.live(self).update(folder=folder, saved=saved, time=time.monotonic(), claim=claim.pop_all())

    def on_batch_end(self, run: Run) -> None:
        """Save when the number of steps or the time has come."""
        if isinstance(self.every, int):
            due = run.step % self.every == 0
        else:
            due = time.monotonic() - run.live(self)["time"] >= float(self.every.split()[0])
        # At the end of an epoch its row is still to come: on_epoch_end saves then.
        if due and run.batch != run.batches:
            self._save(run)
        run.live(self)["due"] = due

    def on_epoch_end(self, run: Run) -> None:
        """Save when it is time, and the best epoch."""
        # The best first: after the other one, a kill between them would leave an epoch that nothing calls the best.
        if self.monitor is not None and self._is_best(run, self.monitor):
            save(run, run.live(self)["folder"] / BEST)
        if self.every == "epoch" or run.live(self).pop("due", False):
            self._save(run)

    def on_train_end(self, run: Run) -> None:
        """Save the newest state, also the best weights that EarlyStopping has restored, unless it is saved already."""
        with run.live(self)["claim"]:
            if run.live(self)["saved"] != _state(run) and run.consistent and not run.lost:
                self._save(run)
            error = run.error
            if error is None or isinstance(error, FrameworkError | OSError):  # whose cause a resume would meet again
                return
            if newest := latest(run.live(self)["folder"]):
                error.add_note(f"{KEPT}trainer.resume(latest({self.folder!r}), data) continues from {newest.name}")

    def _is_best(self, run: Run, key: str) -> bool:
        """Return whether the newest row is the best of the history, also where earlier ones had another monitor."""
        sign = 1.0 if self.mode == "min" else -1.0
        value, live = sign * float(run.history[-1][key]), run.live(self)
        if "best" not in live:  # when training begins or resumes, the history tells
            earlier = sign * run.history.columns()[key][:-1]
            live["best"] = float(np.min(earlier, where=np.isfinite(earlier), initial=np.inf))
        better = math.isfinite(value) and value < live["best"]
        if better:
            live["best"] = value
        return better

    def _save(self, run: Run) -> None:
        """Save, and only then delete what is older than the newest ``keep`` files."""
        folder = run.live(self)["folder"]
        path = folder / f"step-{run.step:09}.safetensors"
        save(run, path)
        run.live(self).update(saved=_state(run), time=time.monotonic())
        own = re.compile(r"step-[0-9]{9,}\.safetensors")  # what somebody else has put there stays
        older = [old for old in checkpoints(folder) if own.fullmatch(old.name) and old.name != path.name]
        for old in older[: max(0, len(older) - (self.keep - 1))]:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # on Windows, somebody may have it open
                os.unlink(old)  # noqa: PTH108 (os's own, like the calls of the saving)


def _state(run: Run) -> tuple[int, str]:
    """Return what changes when there is something new to save."""
    return run.step, fingerprint(run.model.parameters.vector)
