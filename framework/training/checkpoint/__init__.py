"""Checkpoints: a Run in one file, which is whole at every instant, verified when it is loaded, and resumes bit for bit.

The file has the safetensors layout, so that other tools read its arrays. It holds no code: what is not an array is
JSON, and classes are looked up by name among those that the program has defined.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, overload

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import CheckpointError, UsageError
from framework.base.files import format_path, leads_to
from framework.base.settings.messages import printable, word_errors
from framework.base.tables import as_text
from framework.models import Model
from framework.training.checkpoint.document import Document, history_of, model_of, rebuild_run, take_apart
from framework.training.checkpoint.file import checkpoints, read, write
from framework.training.runs.run import Run

__all__ = ["Loaded", "describe", "latest", "load", "load_model", "save"]


def save(run: Run, path: str | os.PathLike[str]) -> None:
    """Save a run, atomically and durably.

    The old file at ``path`` stays complete until the new one has been written and forced to disk; then the new one
    replaces it in one step.

    Args:
        run: The run that ``fit`` returned, the ``run`` of an error, or the argument of a hook: ``on_batch_end`` or
            ``on_epoch_end``, of a callback that comes last.
        path: The file; ``.safetensors`` is the usual ending.

    Raises:
        CheckpointError: The file cannot be written, or something in the run cannot be saved.
        DivergedError: The weights are not finite; no file was written or replaced.
        UsageError: The run is in the middle of a step.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3)
        >>> data = [[1.0], [2.0]], [2.0, 4.0]
        >>> run = trainer.fit(Neuron(1), data, epochs=1)
        >>> save(run, "run.safetensors")
        >>> run = trainer.resume("run.safetensors", data)
        >>> run.epoch
        3

    Source:
        Pillai et al., All file systems are not created equal (OSDI 2014), on what a rename does and does not promise.
    """
    if not isinstance(run, Run):
        by_hand = "; after a loop by hand, Run(model, optimizer, loss, seed) makes one"
        hint = f"write save(run, path), with the run that fit returned{by_hand if isinstance(run, Model) else ''}"
        raise CheckpointError(f"must be a Run; got {type(run).__name__}; {hint}", name="save: argument 'run'")
    write(path, *take_apart(run))


def load(path: str | os.PathLike[str]) -> Run:
    """Load a run with its model, optimizer, history and what its callbacks remember.

    ``Trainer.resume(path, data)`` does it too. Classes of your own must be defined before.

    Raises:
        CheckpointError: The file is missing, damaged, not a checkpoint, or of classes that are not defined here.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
        >>> save(trainer.fit(Neuron(1), ([[1.0]], [2.0])), "run.safetensors")
        >>> load("run.safetensors").step
        1
    """
    arrays, text = read(path)
    try:
        return rebuild_run(arrays, text)
    except Exception as error:
        raise _wrap_error(path, error) from error


@overload
def load_model(path: str | os.PathLike[str]) -> Model: ...
@overload
def load_model(path: str | os.PathLike[str], *, into: Model, names: str | tuple[str, ...] = "*") -> Loaded: ...
@word_errors
def load_model(path: Any, *, into: Model | None = None, names: str | tuple[str, ...] = "*") -> Model | Loaded:
    """Load the model alone, to predict or to train again; or a part of it into another model, to fine-tune that one.

    With ``into``, the file's classes need not be defined, and the dtypes may differ.

    Args:
        path: The file.
        into: The model whose parameters and buffers are overwritten; None builds the file's model.
        names: Which ones, for ``into``: a pattern such as ``"0.*"``, or a tuple of patterns. Names that the model or
            the file does not have are left out.

    Returns:
        The model; with ``into``, what was loaded and what was not, which prints as a table.

    Raises:
        CheckpointError: As for ``load``; with ``into``, a shape differs or no name fits, and nothing is changed.
        UsageError: ``names`` is given without ``into``, or the model's numbers of inputs are not known yet.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5))
        >>> save(trainer.fit(Neuron.from_weights([1.0]), ([[1.0]], [2.0])), "run.safetensors")
        >>> float(load_model("run.safetensors")([1.0]))
        2.0
        >>> model = Neuron(1)
        >>> print(load_model("run.safetensors", into=model, names="weights"))
        loaded: weights
        kept:   bias
        unused: bias
    """
    if into is None and names != "*":
        raise UsageError("chooses what goes into a model: write into=model", name="load_model: argument 'names'")
    if not isinstance(names, str) and not (isinstance(names, tuple | list) and all(isinstance(n, str) for n in names)):
        raise UsageError("must be a pattern such as '0.*', or several", name="load_model: argument 'names'", got=names)
    if into is not None:
        into._built()  # raises while a number of inputs is not known
    arrays, text = read(path)
    try:
        if into is not None:
            return fill(into, arrays, names)
        return model_of(Document.from_text(text), arrays)
    except Exception as error:
        raise _wrap_error(path, error) from error


def _wrap_error(path: object, error: Exception) -> CheckpointError:
    """Wrap whatever error building from a file raised: a hostile file can cause any."""
    return CheckpointError.of(error, f"{format_path(path)} cannot be loaded")


@word_errors
def latest(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest whole checkpoint of a folder, or None if the folder has none or does not exist.

    A damaged file is skipped with a warning. The newest file has the latest modification time, and may be
    ``best.safetensors``; ``save`` gives each file a later time than the others in its folder, even if the clock was set
    back. A copy of a folder must keep the times (``cp -p``).

    Raises:
        CheckpointError: ``folder`` is a file.

    Example:
        >>> latest("no such folder") is None
        True
    """
    if leads_to(folder, CheckpointError) == "file":
        raise CheckpointError(f"must be a folder; got the file {format_path(folder)}", name="latest: argument 'folder'")
    for path in checkpoints(folder)[::-1]:
        try:
            read(path)
        except CheckpointError as error:
            warnings.warn(f"latest: skipped {error}", stacklevel=2)
        else:
            return path
    return None


_GROUPS = ("parameters.", "buffers.")


@dataclass(frozen=True)
class Loaded:
    """The result of ``load_model(path, into=model)``: names of parameters and buffers; it prints as a table.

    Attributes:
        loaded: Names whose numbers come from the file.
        kept: Other names of the model, whose numbers stay.
        unused: Other names in the file.

    Example:
        >>> print(Loaded(loaded=("0.weights", "0.bias"), kept=("1.weights",), unused=()))
        loaded: 0.weights, 0.bias
        kept:   1.weights
        unused: nothing
    """

    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        groups = (("loaded", self.loaded), ("kept", self.kept), ("unused", self.unused))
        return "\n".join(f"{f'{name}:':<8}{', '.join(names) or 'nothing'}" for name, names in groups)


def fill(model: Model, arrays: dict[str, Array], names: str | tuple[str, ...]) -> Loaded:
    """Copy the arrays whose names fit into a model's parameters and buffers of the same names.

    Raises:
        CheckpointError: A shape differs, a number is too large for the model's dtype, or no name fits; nothing is
            changed.
    """
    patterns = (names,) if isinstance(names, str) else tuple(names)
    targets: dict[str, Array] = {**model.parameters.views, **model.buffers}
    sources = {name.split(".", 1)[1]: array for name, array in arrays.items() if name.startswith(_GROUPS)}
    chosen = [n for n in targets if n in sources and any(fnmatchcase(n, pattern) for pattern in patterns)]
    if not chosen:
        raise CheckpointError(
            f"no parameter of both the file and the model has a name like {' or '.join(map(repr, patterns))}\n"
            f"the file has: {', '.join(sorted(sources))}\nthe model has: {', '.join(targets)}"
        )
    if differing := [n for n in chosen if sources[n].shape != targets[n].shape]:
        lines = [f"{n}: {targets[n].shape} in the model, {sources[n].shape} in the file" for n in differing]
        raise CheckpointError("\n".join(["shapes differ; choose names without these:", *lines]))
    with np.errstate(over="ignore"):
        values = {n: sources[n].astype(targets[n].dtype) for n in chosen}
    if large := [n for n in chosen if not np.isfinite(values[n]).all()]:
        raise CheckpointError(f"{large[0]} holds numbers that are not finite in {targets[large[0]].dtype}")
    for name, value in values.items():
        targets[name][...] = value
    return Loaded(
        tuple(chosen),
        tuple(n for n in targets if n not in values),
        tuple(sorted(n for n in sources if n not in values)),
    )


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
        lines = _describe_document(Document.from_text(text), arrays)
    except (CheckpointError, RecursionError) as error:
        raise CheckpointError.of(error, f"{format_path(path)} cannot be described") from None
    return printable(f"{os.fspath(path)}: " + "\n".join(lines))


def _describe_document(document: Document, arrays: dict[str, Array]) -> list[str]:
    progress = document.progress
    finished = f"{progress.epoch} of {progress.target_epoch} epochs, {progress.step} steps"
    return [
        f"{finished}, {progress.batch} of {progress.batches} batches of the next epoch",
        *([f"stopped: {progress.stop_reason}"] if progress.stop_reason else []),
        f"engine: {progress.engine}; seed: {progress.seed}",
        f"model: {_format_json(document.model)}",
        *([f"frozen: {', '.join(document.frozen)}"] if document.frozen else []),
        f"loss: {_format_json(document.loss_function)}",
        f"optimizer: {_format_json(document.optimizer)}, {document.optimizer_steps} updates made",
        "started with:",
        *(f"  {name}: {text}" for name, text in progress.recipe.items() if name not in _SHOWN_ABOVE),
        *(f"newest row: {_format_pairs(row)}" for row in history_of(document.history, arrays)[-1:]),
        *(f"remembered by {name}: {', '.join(memory) or 'nothing'}" for name, memory in document.memories.items()),
        "arrays:",
        as_text([(f"  {name}", f"{array.dtype.name} {array.shape}") for name, array in arrays.items()], left=2),
    ]


def _format_json(value: Any) -> str:
    """Return JSON on one line, an object with a type as ``Type(name=value, ...)``."""
    match value:
        case {"type": str(kind), **settings}:
            return f"{kind}({_format_pairs({str(name): item for name, item in settings.items() if item is not None})})"
        case dict():
            return f"{{{_format_pairs(value)}}}"
        case list():
            return f"[{', '.join(map(_format_json, value))}]"
        case _:
            return json.dumps(value)


def _format_pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_format_json(item)}" for name, item in values.items())
