"""Describing a checkpoint: its contents as text, without building anything of it."""

from __future__ import annotations

import json
import os
from typing import Any

from framework.arrays import Array
from framework.checkpoint.document import Document, history_of
from framework.checkpoint.file import read
from framework.errors import CheckpointError
from framework.files import shown
from framework.settings.messages import printable
from framework.tables import as_text

_SHOWN_ABOVE = ("loss", "optimizer", "seed", "epochs")


def describe(path: str | os.PathLike[str]) -> str:
    r"""Return what a checkpoint holds, as text: counts, settings, arrays, the newest row. Nothing of it is built.

    Raises:
        CheckpointError: The file is not there, damaged, or no checkpoint.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer, save
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), shuffle=False)
        >>> save(trainer.fit(Neuron.from_weights([1.0]), ([[1.0]], [2.0])), "run.safetensors")
        >>> lines = describe("run.safetensors").splitlines()
        >>> print("\n".join([*lines[:2], *lines[-3:]]))
        run.safetensors: 1 of 1 epochs, 1 steps, 0 of 1 batches of the next epoch
        engine: numpy; seed: 0
          optimizer.velocity  float64 (2,)
          parameters.bias     float64 ()
          parameters.weights  float64 (1,)
    """
    arrays, text = read(path)
    try:
        lines = _lines(Document.from_text(text), arrays)
    except (CheckpointError, RecursionError) as error:
        raise CheckpointError(f"{shown(path)} cannot be described: {error}") from None
    return printable(f"{os.fspath(path)}: " + "\n".join(lines))


def _lines(document: Document, arrays: dict[str, Array]) -> list[str]:
    progress = document.progress
    finished = f"{progress.epoch} of {progress.target_epoch} epochs, {progress.step} steps"
    return [
        f"{finished}, {progress.batch} of {progress.batches} batches of the next epoch",
        *([f"stopped: {progress.stop_reason}"] if progress.stop_reason else []),
        f"engine: {progress.engine}; seed: {progress.seed}",
        f"model: {_line(document.model)}",
        *([f"frozen: {', '.join(document.frozen)}"] if document.frozen else []),
        f"loss: {_line(document.loss_function)}",
        f"optimizer: {_line(document.optimizer)}, {document.optimizer_steps} updates made",
        "started with:",
        *(f"  {name}: {text}" for name, text in progress.recipe.items() if name not in _SHOWN_ABOVE),
        *(f"newest row: {_pairs(row)}" for row in history_of(document.history, arrays)[-1:]),
        *(f"remembered by {name}: {', '.join(memory) or 'nothing'}" for name, memory in document.memories.items()),
        "arrays:",
        as_text([(f"  {name}", f"{array.dtype.name} {array.shape}") for name, array in arrays.items()], left=2),
    ]


def _line(value: Any) -> str:
    """Return JSON on one line, an object with a type as ``Type(name=value, ...)``."""
    match value:
        case {"type": str(kind), **settings}:
            return f"{kind}({_pairs({str(name): item for name, item in settings.items() if item is not None})})"
        case dict():
            return f"{{{_pairs(value)}}}"
        case list():
            return f"[{', '.join(map(_line, value))}]"
        case _:
            return json.dumps(value)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_line(item)}" for name, item in values.items())
