"""verify_resume: prove that a training resumes bit for bit, with a user's own parts too."""

from __future__ import annotations

import pickle
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from framework.base.errors import CheckpointError, SettingsError
from framework.base.settings.messages import word_errors
from framework.models import Model
from framework.training.callbacks import Callback
from framework.training.checkpoint import load, save
from framework.training.loop import train
from framework.training.runs.run import Run
from framework.training.trainer import Trainer


@word_errors
def verify_resume(
    trainer: Trainer, model: Model, data: Any, validation: Any = None, *, epochs: int = 3
) -> tuple[int, ...]:
    """Prove that a training resumes bit for bit: run, save on the way, load in a new process, resume, compare.

    It trains a copy of ``model`` for some epochs, and saves it after the first step, at the end of the first epoch, in
    the middle of the second, and before the last step; each file is resumed to the end in a new process. Callbacks that
    write are left out. Trainer and data travel to the new process by pickle, so define your classes and functions in a
    module, or in a script whose calls are under ``if __name__ == "__main__":``.

    Args:
        trainer: The trainer, with its callbacks.
        model: The model to train; a copy is trained.
        data: As for ``fit``.
        validation: As for ``fit``.
        epochs: How many to train, at least 2.

    Returns:
        The steps from which the training was resumed, each with the same bits.

    Raises:
        CheckpointError: Something differs after a resume; names the first difference. Or the new process failed.

    Example:
        >>> from framework import AdamOptimizer, Dropout, Dense, MeanSquaredError, Sequential, Tanh
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.1), batch_size=2)
        >>> model = Sequential(Dense(1, 4, Tanh()), Dropout(0.5), Dense(4, 1))
        >>> verify_resume(trainer, model, ([[0.0], [1.0], [2.0], [3.0], [4.0]], [0.0, 1.0, 4.0, 9.0, 16.0]))
        (1, 3, 5, 8)
    """
    if epochs < 2:
        raise SettingsError("must be 2 or more", name="verify_resume: argument 'epochs'", got=epochs)
    callbacks = [callback for callback in trainer.callbacks if not callback.writes]
    recipe = trainer.replace(epochs=epochs, callbacks=callbacks)
    with tempfile.TemporaryDirectory() as folder:
        saving = recipe.replace(callbacks=[*callbacks, _SaveAtEdges(folder=folder)])
        straight = train(saving, model.copy(), data, validation)
        stops = tuple(step for step in _edges(straight) if _path(folder, step, "stopped").exists())
        _in_a_fresh_process(folder, recipe, model, data, validation, stops)
        for step in stops:
            for name, without, resumed in differences(straight, load(_path(folder, step, "resumed"))):
                raise CheckpointError(
                    f"verify_resume: {name} is {resumed} after a resume from step {step}, {without} without; "
                    "keep the state of a callback in run.memory(self) and that of a layer in its buffers, "
                    "and draw random numbers from run.rng(self) or record.key"
                )
    return stops


def _edges(run: Run) -> list[int]:
    """Return the steps to resume from: at the edges and in the middle of the training."""
    last = run.batches * run.target_epoch - 1
    wanted = {1, run.batches, run.batches + (run.batches + 1) // 2, last}
    return sorted(step for step in wanted if 0 < step <= last)


class _SaveAtEdges(Callback):
    """Save the run after certain steps, as a kill at that moment would leave it."""

    writes = True
    observes = True

    folder: str

    def on_batch_end(self, run: Run) -> None:
        if run.step in _edges(run):
            save(run, _path(self.folder, run.step, "stopped"))


def _path(folder: str, step: int, kind: str) -> Path:
    return Path(folder) / f"{kind}-{step}.safetensors"


def _in_a_fresh_process(folder: str, recipe: Trainer, model: Model, *data_and_stops: Any) -> None:
    """Resume there; the model goes along only so that its classes are defined."""
    import multiprocessing  # noqa: PLC0415 (too slow for `import framework`)

    try:
        (Path(folder) / "arguments").write_bytes(pickle.dumps((recipe, model, *data_and_stops)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"verify_resume: the trainer or the data cannot be sent to a fresh process: {error}; define classes and "
            "functions of your own at the top of a module"
        ) from error
    # Only the folder's name goes through the pipe: a process that dies at its start would leave a full pipe waiting.
    process = multiprocessing.get_context("spawn").Process(target=_resume, args=(folder,))
    process.start()
    process.join()
    report = Path(folder) / "error.txt"
    if report.exists():
        raise CheckpointError(f"verify_resume: the resume failed in a fresh process:\n{report.read_text('utf-8')}")
    if process.exitcode != 0:
        raise CheckpointError(
            "verify_resume: the fresh process could not start; put the call under if __name__ == '__main__': and your "
            "own classes at the top of a module (its error is printed above)"
        )


def _resume(folder: str) -> None:
    """Resume from each stop; this runs in the new process."""
    try:
        recipe, _, data, validation, stops = pickle.loads((Path(folder) / "arguments").read_bytes())
        for step in stops:
            run = load(_path(folder, step, "stopped"))
            train(recipe, run.model, data, validation, run=run)
            save(run, _path(folder, step, "resumed"))
    except Exception:  # noqa: BLE001 (the process that asked raises it)
        (Path(folder) / "error.txt").write_text(traceback.format_exc(), "utf-8")


def differences(one: Run, other: Run) -> Iterator[tuple[str, Any, Any]]:
    """Give (name, value of one, value of the other) for everything whose bits differ; ``seconds`` do not count.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5))
        >>> one, other = (trainer.fit(Neuron.from_weights([w]), ([[1.0]], [2.0])) for w in (1.0, 1.5))
        >>> [name for name, _, _ in differences(one, other)][:2]
        ["parameter 'weights'", "parameter 'bias'"]
    """
    for kind, get in _COMPARED.items():
        mine, others = get(one), get(other)
        for name in dict.fromkeys([*mine, *others]):
            a, b = mine.get(name, "nothing"), others.get(name, "nothing")
            if not _same_bits(a, b):
                yield f"{kind} {name!r}", *_first_difference(a, b)


_COMPARED: dict[str, Any] = {
    "parameter": lambda run: run.model.parameters,
    "buffer": lambda run: run.model.buffers,
    "optimizer memory": lambda run: run.optimizer.memory,
    "optimizer setting": lambda run: run.optimizer.recipe.settings(),
    "callback memory": lambda run: {
        f"{name}: {k}": v for name, memory in run.memories.items() for k, v in memory.items()
    },
    "history row": lambda run: {
        row["epoch"]: {name: value for name, value in row.items() if name != "seconds"} for row in run.history
    },
    "count": lambda run: {
        **{name: getattr(run, name) for name in ("epoch", "step", "batch", "stop_reason", "sums", "loss")},
        "rate": run.optimizer.last_rate,
        "frozen": run.model.parameters.frozen,
    },
}


def _same_bits(a: Any, b: Any) -> bool:
    match a, b:
        case (np.ndarray(), np.ndarray()):
            return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        case (float(), float()):
            return a.hex() == b.hex()
        case (dict(), dict()):
            return a.keys() == b.keys() and all(_same_bits(a[key], b[key]) for key in a)
        case (list() | tuple(), list() | tuple()):
            return len(a) == len(b) and all(map(_same_bits, a, b))
        case _:
            return type(a) is type(b) and bool(a == b)


def _first_difference(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the first elements that differ of two arrays, else the values themselves."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype:
        index = np.flatnonzero(
            np.frombuffer(a.tobytes(), f"V{a.itemsize}") != np.frombuffer(b.tobytes(), f"V{a.itemsize}")
        )[0]
        return f"{a.flat[index]!r} at [{index}]", f"{b.flat[index]!r} at [{index}]"
    return a, b
