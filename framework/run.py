"""Run: one training run, everything that changes while it goes on. A checkpoint is a Run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from framework.arrays import Array
from framework.errors import DataError
from framework.history import History
from framework.losses import Loss
from framework.models import Model
from framework.optimizers import Optimizer
from framework.random_streams import random_generator


class Labelled(Protocol):
    """What a run asks of a callback: under which name to keep its memory."""

    @property
    def label(self) -> str:
        """The name, the same in every process."""


class Run:
    """One training run. Every callback hook gets it as its only argument, and ``fit`` returns it.

    Attributes:
        model: The model in training.
        optimizer: The bound optimizer; ``run.optimizer.learning_rate = 0.01`` in a hook is safe.
        loss_function: What is descended.
        seed: The seed of every random number in the run.
        epoch: Epochs finished.
        step: Updates made.
        batch: Batches finished in the epoch that is not finished yet.
        current: (x, y, weight) of the batch in work: working memory that the next batch overwrites.
        loss: The loss of the last batch, or None before the first.
        history: A row for each finished epoch.
        target_epoch: The epoch at which this ``fit`` or ``resume`` ends.
        batches: Batches in an epoch.
        layout: (rows, rows in a batch, whether they are shuffled) of this training.
        recipe: What the training is made of, as text by name: settings, data, versions. A resume compares it.
        stop_reason: Why training stopped early, or None.
        ended: Whether ``fit`` or ``resume`` has come to its end; False in a run that was saved on the way.
        error: The exception that ended training, in ``on_train_end``; else None.
        engine: What computes the steps: ``"numpy"``.
        hook: The hook that is being called, or None.
        waiting: The callbacks whose call of this hook is still to come, each with its function.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3)
        >>> run = trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0]))
        >>> run.epoch, run.step, run.stop_reason
        (3, 3, None)
    """

    def __init__(self, model: Model, optimizer: Optimizer, loss_function: Loss, seed: int) -> None:
        """Begin at epoch 0 with an optimizer that is bound to the model."""
        self.model = model
        self.optimizer = optimizer
        self.loss_function = loss_function
        self.seed = seed
        self.epoch = 0
        self.step = 0
        self.batch = 0
        self.target_epoch = 0
        self.batches = 0
        self.layout = (0, 0, False)
        self.recipe: dict[str, str] = {}
        self.current: tuple[Array, Array, Array | None] | None = None
        self.loss: float | None = None
        self.history = History()
        self.stop_reason: str | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.engine = "numpy"
        self.hook: str | None = None
        self.waiting: Sequence[tuple[Any, Any]] = ()
        self.epoch_begun = False
        self.sums: dict[str, tuple[float, ...]] = {}
        self.seconds = 0.0
        self.memories: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, Array] | None = None
        self._live: dict[int, dict[str, Any]] = {}
        self._callbacks: tuple[Labelled, ...] = ()
        self._names: dict[int, str] = {}
        self._generators: dict[tuple[int, str | None, int, int], np.random.Generator] = {}

    @property
    def key(self) -> tuple[int, int, int]:
        """(seed, epoch, step): the key of this step's random numbers."""
        return (self.seed, self.epoch, self.step)

    @property
    def consistent(self) -> bool:
        """Whether model, optimizer, counters and history agree; False after an update was cut off half-way."""
        binding = self.optimizer.binding
        return not binding.updating and binding.steps == self.step and len(self.history) == self.epoch

    def stop(self, reason: str) -> None:
        """Ask training to stop at the next batch boundary; the first reason stays.

        Example:
            >>> from framework import on
            >>> @on("epoch_end")
            ... def enough(run):
            ...     if run.history[-1]["loss"] < 0.01:
            ...         run.stop("the loss is small enough")
        """
        if self.stop_reason is None:
            self.stop_reason = reason

    def memory(self, callback: object) -> dict[str, Any]:
        """Return what ``callback`` remembers: a dict of JSON values and arrays, saved with the run.

        It is kept under the callback's class and its ordinal among the callbacks of that class, so that a resumed run
        finds it again.

        Raises:
            DataError: What is put into it cannot be saved; or ``callback`` is none of this run's.
        """
        name = self._name(callback)
        if name not in self.memories:
            self.memories[name] = Memory(name)
        return self.memories[name]

    def live(self, callback: object) -> dict[str, Any]:
        """Return a dict for bars, open files and clients of ``callback``: never saved, emptied when training ends."""
        self._name(callback)
        return self._live.setdefault(id(callback), {})

    def rng(self, callback: object) -> np.random.Generator:
        """Return the random numbers of ``callback`` in this hook, at this epoch and step: no part of the training."""
        place = (id(callback), self.hook, self.epoch, self.step)
        if place not in self._generators:
            self._generators = {key: value for key, value in self._generators.items() if key[1:] == place[1:]}
            purpose = f"callback {self._name(callback)} {self.hook}"
            self._generators[place] = random_generator(self.seed, purpose, self.epoch, self.step)
        return self._generators[place]

    def _name(self, callback: object) -> str:
        name = self._names.get(id(callback))
        if name is None:
            raise DataError(f"run.memory: {callback!r} is not one of this run's callbacks; pass the callback itself")
        return name

    def begin(self, callbacks: Iterable[Labelled]) -> None:
        """Name the callbacks and clear what an earlier end of training left; a stop that is still to come stays."""
        if self.ended:
            self.stop_reason = None
        self.ended, self.error = False, None
        self._live, self._generators = {}, {}
        self._callbacks = tuple(callbacks)  # held, so that no later object can get the id of one of them
        self._names = names_of(self._callbacks)

    def end(self) -> None:
        """Drop what must not outlive training."""
        self._live, self._generators, self.current, self.kept = {}, {}, None, None

    def begin_step(self, batch: tuple[Array, Array, Array | None]) -> None:
        """Take a batch in work, and keep the model's buffers, which its forward may change before the step is made."""
        self.current = batch
        if self.model.buffers:
            self.kept = {name: array.copy() for name, array in self.model.buffers.items()}

    def put_back(self) -> None:
        """Undo what the forward of a step that was not made has changed in the model's buffers."""
        for name, array in (self.kept or {}).items():
            self.model.buffers[name][...] = array
        self.kept = None

    def require_savable(self) -> None:
        """Refuse memory that cannot be saved; what is put into a memory is checked then, what is inside it now.

        Raises:
            DataError: A callback remembers something that is neither a JSON value nor an array.
        """
        for name, memory in self.memories.items():
            for key, value in memory.items():
                require_savable(name, key, value)

    def finish_step(self, sums: dict[str, tuple[float, ...]]) -> None:
        """Count a step, and add its sums to those of the unfinished epoch."""
        self.kept = None  # first: cut off from here to the last line, the run is not consistent
        add_sums(self.sums, sums)
        self.batch += 1
        self.step += 1

    def finish_epoch(self, results: dict[str, float]) -> None:
        """Count an epoch, and add its row to the history."""
        rate = self.optimizer.binding.rate
        row = {"epoch": self.epoch + 1, **results, "learning_rate": rate, "seconds": self.seconds}
        self.epoch += 1  # first: cut off from here to the last line, the run is not consistent
        self.batch, self.sums, self.seconds, self.epoch_begun = 0, {}, 0.0, False
        self.history.append(row)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without the callbacks: what is found by their ids means nothing elsewhere."""
        return self.__dict__ | {
            "_callbacks": (),
            "_names": {},
            "_live": {},
            "_generators": {},
            "current": None,
            "waiting": (),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state; a step that was in work is to be made again, from the buffers before it."""
        self.__dict__.update(state)
        self.put_back()

    def __repr__(self) -> str:
        """Show what a person asks first."""
        loss = self.history[-1].get("loss") if len(self.history) else math.nan
        shown = f"{loss:g}" if isinstance(loss, int | float) else repr(loss)
        return f"Run(epoch={self.epoch}, step={self.step}, loss={shown}, stop_reason={self.stop_reason!r})"


def names_of(callbacks: Iterable[Labelled]) -> dict[int, str]:
    """Return under which name each callback's memory is kept, by the callback's id: its class and its ordinal there."""
    ordinals: dict[str, int] = {}
    names = {}
    for callback in callbacks:
        kind = callback.label
        ordinals[kind] = ordinals.get(kind, -1) + 1
        names[id(callback)] = f"{kind}.{ordinals[kind]}"
    return names


class Memory(dict[str, Any]):
    """What one callback remembers; what cannot be saved is refused when it is put in.

    Example:
        >>> memory = Memory("EarlyStopping.0")
        >>> memory["best"] = 0.5
        >>> memory["file"] = object()
        Traceback (most recent call last):
        framework.errors.DataError: run.memory of EarlyStopping.0: 'file' must be a JSON value or a NumPy array ...
    """

    __slots__ = ("name",)

    def __init__(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        """Start with these values."""
        super().__init__()
        self.name = name
        self.update(values or {})

    def __setitem__(self, key: str, value: Any) -> None:
        """Put a value in, or refuse it."""
        require_savable(self.name, key, value)
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of this key; put the default in first where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *values: Any, **named: Any) -> None:
        """Put several values in, or refuse them all."""
        new = dict(*values, **named)
        for key, value in new.items():
            require_savable(self.name, key, value)
        super().update(new)

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc]
        """Put several values in, or refuse them all."""
        self.update(values)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by name and values."""
        return Memory, (self.name, dict(self))


def add_sums(totals: dict[str, tuple[float, ...]], sums: dict[str, tuple[float, ...]]) -> None:
    """Add the sums of some rows to the totals, in place.

    Example:
        >>> totals = {"loss": (1.0, 2.0)}
        >>> add_sums(totals, {"loss": (0.5, 1.0)})
        >>> totals
        {'loss': (1.5, 3.0)}
    """
    for name, values in sums.items():
        before = totals.get(name)
        totals[name] = values if before is None else tuple(a + b for a, b in zip(before, values, strict=True))


def require_savable(name: str, key: Any, value: Any) -> None:
    """Refuse what a callback named ``name`` wants to remember if it cannot be saved.

    Raises:
        DataError: It is neither a JSON value nor an array of numbers, or the key is no text.
    """
    if not isinstance(key, str):
        raise DataError(f"run.memory of {name}: keys must be text; got {key!r}")
    if not _is_savable(value, 100):  # a limit to the depth, which a list that contains itself reaches too
        raise DataError(
            f"run.memory of {name}: '{key}' must be a JSON value or a NumPy array of numbers; got "
            f"{type(value).__name__}; bars, files and clients go into run.live(self)"
        )


def _is_savable(value: Any, depth: int) -> bool:
    match value:
        case np.ma.MaskedArray():
            return False
        case None | bool() | float() | str():
            return True
        case int():
            return value.bit_length() < 14_000  # Python writes no longer ones as text
        case np.ndarray() | np.generic():
            return value.dtype.kind in "biuf" and value.dtype.itemsize <= 8  # safetensors has no longer floats
        case list() | tuple():
            return depth > 0 and all(_is_savable(item, depth - 1) for item in value)
        case dict():
            pairs = value.items()
            return depth > 0 and all(isinstance(key, str) and _is_savable(item, depth - 1) for key, item in pairs)
        case _:
            return False
