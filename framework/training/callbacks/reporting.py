"""Norms in the history; logs, which write its rows to a file; the base of logs and trackers."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator

from framework.base.arrays import Arrays
from framework.base.errors import SettingsError
from framework.training.callbacks.base import Callback
from framework.training.runs.run import Run


class RecordNorms(Callback):
    """Add the norms of each layer's gradient and weights to the history, for ``plots.norms`` and for logs.

    ``gradient_norm_0`` is the Euclidean norm over all parameters of layer 0, the mean over the steps of the epoch;
    ``weight_norm_0`` is the norm at the end of the epoch. The columns of a single layer are ``gradient_norm`` and
    ``weight_norm``.

    It acts within each step, so that with the compiled engine NumPy makes the update.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), callbacks=[RecordNorms()]
        ... )
        >>> run = trainer.fit(Neuron.from_weights([2.0], train_bias=False), ([[1.0]], [5.0]))
        >>> run.history[-1]["gradient_norm"], run.history[-1]["weight_norm"]
        (3.0, 3.5)
    """

    observes: ClassVar[bool] = True

    def on_gradients(self, run: Run) -> None:
        """Add the norms of this step."""
        memory = run.memory(self)
        if "sums" not in memory:
            memory.update(sums={}, steps=0)
        sums = memory["sums"]
        for layer, norm in _norms(run.model.parameters.gradients).items():
            sums[layer] = sums.get(layer, 0.0) + norm
        memory["steps"] += 1

    def on_epoch_end(self, run: Run) -> None:
        """Put the norms into the newest row."""
        memory = run.memory(self)
        steps = memory.pop("steps", 0)
        of_gradients = {layer: total / steps for layer, total in memory.pop("sums", {}).items()}
        for kind, norms in (("gradient", of_gradients), ("weight", _norms(run.model.parameters))):
            run.history[-1].update({f"{kind}_norm{layer and '_'}{layer}": norm for layer, norm in norms.items()})


def _norms(arrays: Arrays) -> dict[str, float]:
    """Return the Euclidean norm over all arrays of each layer, by the layer's name."""
    norms: dict[str, float] = {}
    for name, array in arrays.items():
        layer = name.rpartition(".")[0]
        norms[layer] = math.hypot(norms.get(layer, 0.0), float(np.linalg.norm(array)))
    return norms


def text_of_path(path: object) -> object:
    """Turn a path object into its text, which JSON holds."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


class Sender(Callback):
    """The base of logs and trackers: send each row of the history once, to a file or to another program.

    It comes after other callbacks, so that a row has the columns that those add. A resumed run sends all its rows.
    """

    writes: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    def on_train_begin(self, run: Run) -> None:
        """Open the file or the tracker, and send the rows that the run already has."""
        self._open(run)
        run.live(self).update(sent=0, last=time.monotonic())
        try:
            self._send_new(run)
        except BaseException:
            self._close(run)
            raise

    def on_epoch_end(self, run: Run) -> None:
        """Send the rows that are not sent yet."""
        self._send_new(run)

    def on_train_end(self, run: Run) -> None:
        """Send what is left, and close."""
        if "sent" in run.live(self):
            try:
                if not run.lost:
                    self._send_new(run)
            finally:
                self._close(run)

    def _send_new(self, run: Run) -> None:
        live = run.live(self)
        if rows := run.history[live["sent"] :]:
            self._send(run, rows)
            live["sent"] += len(rows)

    @abstractmethod
    def _open(self, run: Run) -> None:
        """Open a file or a client, and keep it in ``run.live(self)``."""

    @abstractmethod
    def _send(self, run: Run, rows: list[dict[str, Any]]) -> None:
        """Send rows of the history."""

    @abstractmethod
    def _close(self, run: Run) -> None:
        """Close it."""


class _Log(Sender):
    """The base of logs: a file that is open while training runs."""

    path: Annotated[str, BeforeValidator(text_of_path)]

    def _open(self, run: Run) -> None:
        try:
            file = Path(self.path).open("w", newline="", encoding="utf-8")  # noqa: SIM115 (closed in _close)
        except (OSError, ValueError) as error:
            name = type(self).__name__
            raise SettingsError(f"{name}: setting 'path' must be a file that can be written; {error}") from error
        run.live(self)["file"] = file

    def _close(self, run: Run) -> None:
        run.live(self)["file"].close()


class CSVLog(_Log):
    """Write a row to a CSV file after every epoch; a resumed run keeps its rows, a new run overwrites the file.

    Attributes:
        path: The file. Its folder must exist.

    Raises:
        SettingsError: The file cannot be written; before training starts.

    Example:
        >>> CSVLog("log.csv").path
        'log.csv'
    """

    def _send(self, run: Run, rows: list[dict[str, Any]]) -> None:
        """Add rows, so that they are on disk whatever happens next; if there are new columns, write all rows again."""
        live, keys = run.live(self), run.history.keys
        file = live["file"]
        if keys != live.get("keys"):
            file.seek(0)
            file.truncate()
            live.update(keys=keys, writer=csv.DictWriter(file, keys, lineterminator="\n"))
            live["writer"].writeheader()
            rows = run.history.rows
        live["writer"].writerows(rows)
        file.flush()


class JSONLog(_Log):
    """Write a line of JSON to a file after every epoch; a resumed run keeps its rows, a new run overwrites the file.

    Each line is one object, which pandas, polars, DuckDB and jq read as they are. JSON has no NaN and no infinity: a
    figure that is not finite is written as null.

    Attributes:
        path: The file; ``.jsonl`` is the usual ending. Its folder must exist.

    Raises:
        SettingsError: The file cannot be written; before training starts.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), callbacks=[JSONLog("history.jsonl")]
        ... )
        >>> run = trainer.fit(Neuron.from_weights([2.0]), ([[1.0]], [2.0]))
        >>> Path("history.jsonl").read_text()[:38]
        '{"epoch": 1, "loss": 0.0, "learning_ra'

    Source:
        https://jsonlines.org
    """

    def _send(self, run: Run, rows: list[dict[str, Any]]) -> None:
        """Add rows, so that they are on disk whatever happens next."""
        file = run.live(self)["file"]
        file.writelines(map(_line, rows))
        file.flush()


def _line(row: dict[str, Any]) -> str:
    finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n"
