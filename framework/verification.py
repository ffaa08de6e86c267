"""verify_resume: the proof that a training goes on bit for bit, for a user's own pieces too."""

from __future__ import annotations

import pickle
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from framework.callbacks import on
from framework.checkpoint import load, save
from framework.errors import CheckpointError
from framework.models import Model
from framework.run import Run
from framework.trainer import Trainer, require_model


def verify_resume(
    trainer: Trainer, model: Model, data: Any, validation: Any = None, *, epochs: int = 3
) -> tuple[int, ...]:
    """Prove that a training resumes bit for bit: run, stop, save, load in a fresh process, go on, compare.

    It trains copies of ``model`` for some epochs: once without a stop, and once with a stop at the first step, at the
    end of the first epoch, in the middle of the second, and before the last step. Callbacks that save are left out.
    Trainer and data travel to the fresh process by pickle, so classes and functions of your own must stand in a module
    or in a script whose own calls are under ``if __name__ == "__main__":``.

    Args:
        trainer: The recipe, with its callbacks.
        model: What would be trained; it stays as it is.
        data: As for ``fit``.
        validation: As for ``fit``.
        epochs: How many to train, at least 2.

    Returns:
        The steps at which the training was stopped and went on.

    Raises:
        CheckpointError: Something differs after a resume; names the first thing that does. Or the fresh process failed.

    Example:
        >>> from framework import AdamOptimizer, Dropout, Dense, MeanSquaredError, Sequential, Tanh
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.1), batch_size=2)
        >>> model = Sequential(Dense(1, 4, Tanh()), Dropout(rate=0.5), Dense(4, 1))
        >>> verify_resume(trainer, model, ([[0.0], [1.0], [2.0], [3.0], [4.0]], [0.0, 1.0, 4.0, 9.0, 16.0]))
        (1, 3, 5, 8)
    """
    require_model(model, "verify_resume")
    callbacks = [callback for callback in trainer.callbacks if not callback.saves]
    recipe = trainer.replace(epochs=epochs, callbacks=callbacks)
    straight = recipe.fit(model.copy(), data, validation)
    stops = _stops(straight)
    with tempfile.TemporaryDirectory() as folder:
        for step in stops:
            stopping = recipe.replace(callbacks=[*callbacks, on("batch_end")(_StopAt(step))])
            save(stopping.fit(model.copy(), data, validation), _path(folder, step, "stopped"))
        _in_a_fresh_process(folder, recipe, model, data, validation, stops)
        for step in stops:
            for name, without, resumed in differences(straight, load(_path(folder, step, "resumed"))):
                raise CheckpointError(
                    f"verify_resume: {name} is {resumed} after a stop at step {step} and a resume, {without} without; "
                    "what a callback remembers belongs into run.memory(self), what a layer does into model.buffers, "
                    "and random numbers come from run.rng(self) or record.key"
                )
    return stops


def _stops(run: Run) -> tuple[int, ...]:
    """Return the steps to stop at: at the edges and in the middle of the training."""
    per_epoch = run.step // max(1, run.epoch)
    wanted = {1, per_epoch, per_epoch + (per_epoch + 1) // 2, run.step - 1}
    return tuple(sorted(step for step in wanted if 0 < step < run.step))


class _StopAt:
    """A stop at one step; its name, like that of a function, is what a run's recipe shows."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, run: Run) -> None:
        if run.step == self.step:
            run.stop("verify_resume")


def _path(folder: str, step: int, kind: str) -> Path:
    return Path(folder) / f"{kind}-{step}.safetensors"


def _in_a_fresh_process(folder: str, recipe: Trainer, model: Model, *data_and_stops: Any) -> None:
    """Resume there; the model goes along only so that its classes are defined."""
    import multiprocessing  # noqa: PLC0415 (too slow for `import framework`)

    arguments = (folder, recipe, model, *data_and_stops)
    process = multiprocessing.get_context("spawn").Process(target=_resume, args=arguments)
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"verify_resume: the trainer or the data cannot be sent to a fresh process: {error}; define classes and "
            "functions of your own at the top of a module"
        ) from error
    process.join()
    report = Path(folder) / "error.txt"
    if report.exists():
        raise CheckpointError(f"verify_resume: the resume failed in a fresh process:\n{report.read_text('utf-8')}")
    if process.exitcode != 0:
        raise CheckpointError(
            "verify_resume: the fresh process could not begin; put the call under if __name__ == '__main__': and your "
            "own classes at the top of a module (its error is printed above)"
        )


def _resume(folder: str, recipe: Trainer, _: Model, data: Any, validation: Any, stops: tuple[int, ...]) -> None:
    """Go on from each stop; this runs in the fresh process."""
    try:
        for step in stops:
            run = recipe.resume(_path(folder, step, "stopped"), data, validation)
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
    "optimizer memory": lambda run: run.optimizer.binding.memory,
    "optimizer setting": lambda run: run.optimizer.settings(),
    "callback memory": lambda run: {
        f"{name}: {k}": v for name, memory in run.memories.items() for k, v in memory.items()
    },
    "history row": lambda run: {
        row["epoch"]: {name: value for name, value in row.items() if name != "seconds"} for row in run.history
    },
    "count": lambda run: {name: getattr(run, name) for name in ("epoch", "step", "batch", "stop_reason")},
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
        place = np.flatnonzero(
            np.frombuffer(a.tobytes(), f"V{a.itemsize}") != np.frombuffer(b.tobytes(), f"V{a.itemsize}")
        )[0]
        return f"{a.flat[place]!r} at [{place}]", f"{b.flat[place]!r} at [{place}]"
    return a, b
