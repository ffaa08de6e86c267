"""Run: one training run, everything that changes while it goes on. A checkpoint is a Run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

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
        layout: (rows, rows in a batch) of this training.
        stop_reason: Why training stopped early, or None.
        error: The exception that ended training, in ``on_train_end``; else None.
        engine: What computes the steps: ``"numpy"`` or ``"compiled"``; chosen once, and kept by ``resume``.
        hook: The hook that is being called, or None.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3)
        >>> run = trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0]))
        >>> run.epoch, run.step, run.stop_reason
        (3, 3, None)
    """

    def __init__(
        self, model: Model, optimizer: Optimizer, loss_function: Loss, seed: int, engine: str = "numpy"
    ) -> None:
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
        self.layout = (0, 0)
        self.current: tuple[Array, Array, Array | None] | None = None
        self.loss: float | None = None
        self.history = History()
        self.stop_reason: str | None = None
        self.error: BaseException | None = None
        self.engine = engine
        self.hook: str | None = None
        self.epoch_begun = False
        self.sums: dict[str, tuple[float, ...]] = {}
        self.seconds = 0.0
        self.memories: dict[str, dict[str, Any]] = {}
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
        """
        return self.memories.setdefault(self._name(callback), {})

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
        """Name the callbacks and clear what an earlier end of training left."""
        self.stop_reason, self.error = None, None
        self._names, self._live, self._generators = {}, {}, {}
        self._callbacks = tuple(callbacks)  # held, so that no later object can get the id of one of them
        ordinals: dict[str, int] = {}
        for callback in self._callbacks:
            kind = callback.label
            ordinals[kind] = ordinals.get(kind, -1) + 1
            self._names[id(callback)] = f"{kind}.{ordinals[kind]}"

    def end(self) -> None:
        """Drop what must not outlive training."""
        self._live, self._generators, self.current = {}, {}, None

    def require_savable(self) -> None:
        """Refuse memory that cannot be saved.

        Raises:
            DataError: A callback remembers something that is neither a JSON value nor an array.
        """
        for name, memory in self.memories.items():
            for key, value in memory.items():
                if not _is_savable(value):
                    raise DataError(
                        f"run.memory of {name}: '{key}' must be a JSON value or a NumPy array; got "
                        f"{type(value).__name__}; bars, files and clients go into run.live(self)"
                    )

    def finish_step(self, sums: dict[str, tuple[float, ...]]) -> None:
        """Count a step, and add its sums to those of the unfinished epoch."""
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
        return self.__dict__ | {"_callbacks": (), "_names": {}, "_live": {}, "_generators": {}}

    def __repr__(self) -> str:
        """Show what a person asks first."""
        loss = self.history[-1].get("loss", math.nan) if len(self.history) else math.nan
        return f"Run(epoch={self.epoch}, step={self.step}, loss={loss:g}, stop_reason={self.stop_reason!r})"


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


def _is_savable(value: Any) -> bool:
    match value:
        case None | bool() | int() | float() | str():
            return True
        case np.ndarray() | np.generic():
            return value.dtype.kind in "biufU"
        case list() | tuple():
            return all(map(_is_savable, value))
        case dict():
            return all(isinstance(key, str) and _is_savable(item) for key, item in value.items())
        case _:
            return False
