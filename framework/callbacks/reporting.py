"""Norms in the history, and logs: a row in a file after every epoch."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator

from framework.arrays import Array
from framework.callbacks.base import Callback
from framework.errors import SettingsError
from framework.runs.run import Run


class LayerNorms(Callback):
    """Add the norms of each layer's gradient and weights to the history, for ``plots.norms`` and for logs.

    ``gradient_norm_0`` is the Euclidean norm over all parameters of layer 0, the mean over the steps of the epoch;
    ``weight_norm_0`` is the norm at the end of the epoch. The columns of a single layer are ``gradient_norm`` and
    ``weight_norm``. Put it before callbacks that write the history.

    It acts within each step, so that runs fall back from the compiled engine to NumPy.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(
        ...     loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), callbacks=[LayerNorms()]
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


def _norms(arrays: Mapping[str, Array]) -> dict[str, float]:
    """Return the Euclidean norm over all arrays of each layer, by the layer's name."""
    found: dict[str, float] = {}
    for name, array in arrays.items():
        layer = name.rpartition(".")[0]
        found[layer] = math.hypot(found.get(layer, 0.0), float(np.linalg.norm(array)))
    return found


def text_of_path(path: object) -> object:
    """Turn a path object into its text, which JSON holds."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


class _Log(Callback):
    """The base of logs: a file that is open while training runs, and begins with the rows that the run already has."""

    observes: ClassVar[bool] = True

    path: Annotated[str, BeforeValidator(text_of_path)]

    def on_train_begin(self, run: Run) -> None:
        """Open the file, and write the rows that the run already has."""
        try:
            file = Path(self.path).open("w", newline="", encoding="utf-8")  # noqa: SIM115 (closed in on_train_end)
        except OSError as error:
            name = type(self).__name__
            raise SettingsError(f"{name}: setting 'path' must be a file that can be written; {error}") from error
        run.live(self).update(file=file)
        if len(run.history):
            self._rewrite(run)
            file.flush()

    def on_epoch_end(self, run: Run) -> None:
        """Write the newest row, so that it is on disk whatever happens next."""
        self._append(run)
        run.live(self)["file"].flush()

    def on_train_end(self, run: Run) -> None:
        if "file" in run.live(self):
            run.live(self)["file"].close()

    def _rewrite(self, run: Run) -> None:
        """Write all rows."""
        raise NotImplementedError

    def _append(self, run: Run) -> None:
        """Write the newest row."""
        raise NotImplementedError


class CSVLog(_Log):
    """Write a row to a CSV file after every epoch; a resumed run keeps its rows, a new run overwrites the file.

    Attributes:
        path: The file. Its folder must exist.

    Raises:
        SettingsError: The file cannot be written; before training starts.

    Example:
        >>> CSVLog(path="log.csv").path
        'log.csv'
    """

    def _rewrite(self, run: Run) -> None:
        live = run.live(self)
        live["file"].seek(0)
        live["file"].truncate()
        live["writer"] = csv.DictWriter(live["file"], run.history.keys, lineterminator="\n")
        live["writer"].writeheader()
        live["writer"].writerows(run.history)

    def _append(self, run: Run) -> None:
        """Add the newest row; with new columns, write all rows again."""
        live, row = run.live(self), run.history[-1]
        if "writer" in live and row.keys() <= set(live["writer"].fieldnames):
            live["writer"].writerow(row)
        else:
            self._rewrite(run)


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
        ...     loss=HalfSquaredError(),
        ...     optimizer=SGDOptimizer(learning_rate=0.5),
        ...     callbacks=[JSONLog(path="history.jsonl")],
        ... )
        >>> run = trainer.fit(Neuron.from_weights([2.0]), ([[1.0]], [2.0]))
        >>> Path("history.jsonl").read_text()[:38]
        '{"epoch": 1, "loss": 0.0, "learning_ra'

    Source:
        https://jsonlines.org
    """

    def _rewrite(self, run: Run) -> None:
        run.live(self)["file"].writelines(map(_line, run.history))

    def _append(self, run: Run) -> None:
        run.live(self)["file"].write(_line(run.history[-1]))


def _line(row: dict[str, Any]) -> str:
    finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n"
