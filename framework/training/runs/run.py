"""Run: one training run, and everything that changes during it. A checkpoint is a Run."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt

from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import CallbackError, DataError, SettingsError, UsageError, brief, shorten
from framework.base.random_streams import random_generator
from framework.base.settings.messages import elsewhere, word_errors
from framework.base.tables import Markup, as_html, bold, fold_content, html
from framework.base.trees import leaves
from framework.formulas.losses import Loss
from framework.models import Model
from framework.models.rows import prepare
from framework.training.optimizers import BoundOptimizer
from framework.training.runs.contents import comparison, confusions_of, contents_of, outputs_of_classes, side_of
from framework.training.runs.history import History
from framework.training.runs.memory import Memory
from framework.views.reports.page import write_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from framework.views.plots.curves import Better


Listed = Field(strict=False)
"""Marks a tuple that is a list in JSON; its elements stay strict."""


@dataclass(eq=False)
class Progress:
    """Everything of a run that a checkpoint saves as it is; the run adds model, optimizer, history and memories.

    Attributes:
        seed: The seed of every random number in the run.
        engine: ``"numpy"``, ``"compiled"`` or ``"jax"``; chosen once, and kept by ``resume``.
        epoch: Epochs finished.
        step: Updates made.
        batch: Batches finished in the current epoch.
        batch_loss: The loss of the last batch, or None before the first. ``loss`` is that of the last epoch.
        target_epoch: The epoch at which this ``fit`` or ``resume`` ends.
        layout: (rows, rows in a batch, whether they are shuffled) of this training; 0 rows while they are not known, in
            the first epoch of a stream.
        recipe: What the training is made of, as text by name: settings, data, versions. A resume compares it.
        stop_reason: Why training stopped early, or None.
        ended: Whether a stop has taken effect, so that ``resume`` clears it; False in what a hook saves, where a stop
            is still pending.
        identity: Random text that identifies this run.
        epoch_begun: Whether ``on_epoch_begin`` has been called for the current epoch.
        sums: The sums of loss and metrics over the current epoch.
        seconds: The time spent on the current epoch.
        read: Of a stream, how many windows of the current epoch have been read, and a digest of their rows.
    """

    seed: NonNegativeInt
    engine: str = "numpy"
    epoch: NonNegativeInt = 0
    step: NonNegativeInt = 0
    batch: NonNegativeInt = 0
    batch_loss: float | None = None
    target_epoch: NonNegativeInt = 0
    layout: Annotated[tuple[NonNegativeInt, NonNegativeInt, bool], Listed] = (0, 0, False)
    recipe: dict[str, str] = field(default_factory=dict)
    stop_reason: str | None = None
    ended: bool = False
    identity: str = field(default_factory=lambda: os.urandom(8).hex())
    epoch_begun: bool = False
    sums: dict[str, Annotated[tuple[float, ...], Listed]] = field(default_factory=dict)
    seconds: float = 0.0
    read: Annotated[tuple[NonNegativeInt, str], Listed] = (0, "")

    @property
    def batches(self) -> int:
        """Batches in an epoch; 0 while they are not known."""
        rows, size, _ = self.layout
        return -(-rows // max(1, size))


class Run(Progress):
    """One training run. Every callback hook gets it as its only argument, and ``fit`` returns it.

    Its counters and what else a checkpoint saves as it is are those of ``Progress``.

    Attributes:
        model: The model in training.
        optimizer: The bound optimizer; ``run.optimizer.learning_rate = 0.01`` in a hook is safe.
        loss_function: The loss that is minimized.
        history: A row for each finished epoch.
        memories: What callbacks remember, by the name of the callback.
        in_step: True while a batch is being processed and its update is not applied yet.
        hook: The hook that is being called, or None.
        waiting: The callbacks that this hook has not been called for yet.
        error: The exception that ended training, in ``on_train_end``; else None.
        lost: True if another process trains the run now: this one leaves its logs and checkpoints as they are.

    Example:
        >>> from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3)
        >>> run = trainer.fit(Neuron(1), ([[1.0], [2.0]], [2.0, 4.0]))
        >>> run.epoch, run.step, run.stop_reason
        (3, 3, None)
    """

    def __init__(
        self, model: Model, optimizer: BoundOptimizer, loss_function: Loss, seed: int, engine: str = "numpy"
    ) -> None:
        """Start at epoch 0 with an optimizer that is bound to the model; steps that it has made by hand count."""
        super().__init__(seed, engine, step=optimizer.steps)
        self.model = model
        self.optimizer = optimizer
        self.loss_function = loss_function
        self.history = History()
        self.memories: dict[str, Memory] = {}
        self._current: Batch | None = None
        self._whole: Callable[[], Batch] | None = None  # gives all rows, where the current batch has not got them
        self._buffered = bool(model.buffers)
        self.in_step = False
        self.kept: dict[str, Array] | None = None
        self.hook: str | None = None
        self.waiting: list[Any] = []
        self.error: BaseException | None = None
        self.lost = False
        self._training: threading.Lock | None = None
        self._live: dict[int, dict[str, Any]] = {}
        self._callbacks: tuple[Any, ...] = ()
        self._names: dict[int, str] = {}
        self._generators: dict[tuple[int, str | None, int, int], np.random.Generator] = {}

    if not TYPE_CHECKING:  # so that a type checker still reports unknown attributes

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; for a method of another library, say what to write here."""
            if advice := elsewhere(type(self), name):
                raise AttributeError(f"Run has no {name!r}: {advice}", name=name, obj=self)
            return object.__getattribute__(self, name)

    @property
    def progress(self) -> Progress:
        """A copy of what a checkpoint saves as it is."""
        return Progress(**{field.name: getattr(self, field.name) for field in fields(Progress)})

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self.__dict__.update(vars(progress))

    @property
    def current(self) -> Batch | None:
        """(x, y, weight) of the current batch, where x is a dict for a model of several inputs.

        It is working memory that the next batch overwrites. Its rows may be gathered when it is read: of several
        workers each has its own ones alone, and a kernel needs none.
        """
        if self._whole is not None:
            self._current, self._whole = self._whole(), None
        return self._current

    @current.setter
    def current(self, batch: Batch | Callable[[], Batch] | None) -> None:
        self._current, self._whole = (None, batch) if callable(batch) else (batch, None)

    @property
    def key(self) -> tuple[int, int, int]:
        """(seed, epoch, step): the key of this step's random numbers."""
        return (self.seed, self.epoch, self.step)

    @property
    def loss(self) -> float | None:
        """The loss of the last finished epoch, as in the history; None before the first."""
        return self.history[-1].get("loss") if len(self.history) else None

    @property
    def consistent(self) -> bool:
        """Whether model, optimizer, counters and history agree; False after an interrupted update."""
        optimizer = self.optimizer
        return not optimizer.updating and optimizer.steps == self.step and len(self.history) == self.epoch

    @property
    def complete(self) -> bool:
        """Whether the run has made all its epochs, without an error or a request to stop."""
        return self.epoch == self.target_epoch and not (self.active or self.stop_reason or self.error)

    def plot(
        self, *keys: str, right: str | Sequence[str] = (), mode: Better | None = None, axis: Axes | None = None
    ) -> Axes:
        """Draw columns of the history over the epochs; see ``plots.learning_curves``."""
        return self.history.plot(*keys, right=right, mode=mode, axis=axis)

    def stop(self, reason: str = "") -> None:
        """Ask training to stop at the next batch boundary; the first reason stays.

        Example:
            >>> from framework import on
            >>> @on("epoch_end")
            ... def enough(run):
            ...     if run.history[-1]["loss"] < 0.01:
            ...         run.stop("the loss is small enough")
        """
        if not isinstance(reason, str) or not reason:
            got = f"; got {reason!r}" if reason else ""
            raise CallbackError(f"say why: run.stop('the loss is small enough'){got}", where="run.stop")
        if self.stop_reason is None:
            self.stop_reason = reason

    @word_errors
    def report(
        self,
        path: str | os.PathLike[str],
        validation: Any = None,
        *,
        classes: Iterable[Any] | None = None,
        title: str = "Training run",
        others: Mapping[str, Run] | None = None,
    ) -> None:
        """Write an HTML page about the run, which holds all it needs and loads nothing; also while the run is training.

        It has the learning curves, the figures of the last and the best epoch, the model, the settings, the columns of
        a table, and the first steps if ``TraceSteps`` has recorded them.

        Args:
            path: The file; an earlier report of this path is replaced.
            validation: Data for the confusion matrix of a model that ends in Softmax or one Sigmoid, in the form that
                ``fit`` takes; None leaves it out.
            classes: The names of the classes in it; None takes those of a Preprocess, else numbers.
            title: The head of the page; with ``others`` the name of this run.
            others: Further runs by name, which are shown side by side with this one.

        Raises:
            SettingsError: The file cannot be written, or is something else than a report; an argument is of another
                type; or there are more or fewer names than classes.
            DataError: The validation data does not fit the model, or a target is not one class.

        Example:
            >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer
            >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=20)
            >>> data = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
            >>> trainer.fit(Neuron(1, Sigmoid()), data).report("report.html", data, classes=["low", "high"])
        """
        named = (others or {}).items()
        if not all(isinstance(name, str) and name != title and isinstance(other, Run) for name, other in named):
            raise SettingsError(
                "report: argument 'others' must be a dict of runs by names other than the title, as "
                f"others={{'wide': run}}; got {brief(others)}"
            )
        if classes is not None and validation is None:
            raise SettingsError("report: argument 'classes' is for the confusion matrix; give validation data too")
        runs = {title: self, **(others or {})}
        contents = [contents_of(run, name) for name, run in runs.items()]
        for content, run in zip(contents, runs.values(), strict=True):
            outputs = outputs_of_classes(run.model, run.loss_function)
            if validation is not None:
                if not outputs:
                    raise SettingsError(
                        "report: argument 'validation' is for the confusion matrix of a model that ends in Softmax, or "
                        f"in one Sigmoid with a loss of probabilities; got {brief(run.model)}; leave it out"
                    )
                source = prepare(validation, run.model, (run.loss_function,), "report: validation")
                content.confusions = confusions_of(run.model, outputs, source, "report", classes)
            elif outputs:
                content.unconfused = "It is counted on validation data: write run.report(path, validation)."
        sides = [side_of(run, name, runs.values()) for name, run in runs.items()]
        write_report(path, contents, comparison(sides) if others else ())

    def memory(self, callback: object) -> dict[str, Any]:
        """Return what ``callback`` remembers: a dict of JSON values and arrays, saved with the run.

        It is kept under the callback's class and its ordinal among the callbacks of that class, so that a resumed run
        finds it again.

        Raises:
            DataError: What is put into it cannot be saved; or ``callback`` is not one of this run's.
        """
        name = self.name_of(callback)
        if name not in self.memories:
            self.memories[name] = Memory(name)
        return self.memories[name]

    def live(self, callback: object) -> dict[str, Any]:
        """Return a dict for bars, open files and clients of ``callback``: never saved, emptied when training ends."""
        self.name_of(callback)
        return self._live.setdefault(id(callback), {})

    def rng(self, callback: object) -> np.random.Generator:
        """Return a generator for ``callback`` in this hook, epoch and step; it does not change the training."""
        moment = (id(callback), self.hook, self.epoch, self.step)
        if moment not in self._generators:
            self._generators = {key: value for key, value in self._generators.items() if key[1:] == moment[1:]}
            purpose = f"callback {self.name_of(callback)} {self.hook}"
            self._generators[moment] = random_generator(self.seed, purpose, self.epoch, self.step)
        return self._generators[moment]

    def name_of(self, callback: object) -> str:
        """Return the name under which a callback's memory is kept."""
        name = self._names.get(id(callback))
        if name is None:
            raise DataError(f"run.memory: {callback!r} is not one of this run's callbacks; pass the callback itself")
        return name

    def begin(self, callbacks: Iterable[Any]) -> None:
        """Name the callbacks and clear what an earlier end of training left, but keep a pending stop.

        Raises:
            UsageError: Another run trains the model, or one that it is a part of.
        """
        training = self.model.training_lock
        if not training.acquire(blocking=False):
            raise UsageError("fit: the model is in training at this moment, by another fit; train model.copy()")
        self._training = training
        if self.ended:
            self.stop_reason = None
        self.ended, self.error = False, None
        self._live, self._generators = {}, {}
        self._callbacks = tuple(callbacks)  # held, so that no later object can get the id of one of them
        self._names = names_of(self._callbacks)

    def end(self) -> None:
        """Drop what must not outlive training, and note in the model that it was trained."""
        state = self.model._built()
        state.columns = state.columns._replace(trained=state.columns.trained or self.step > 0)
        self._live, self._generators, self.current, self.kept = {}, {}, None, None
        if self._training is not None:
            self._training.release()
            self._training = None

    @property
    def active(self) -> bool:
        """Whether ``fit`` or ``resume`` is running."""
        return self._training is not None

    def begin_step(self, batch: Batch, whole: Callable[[], Batch] | None = None) -> None:
        """Set the current batch, and keep the model's buffers, which forward may change before the step is made.

        Args:
            batch: The batch.
            whole: Fills the rows that are missing in it, and returns it; None where it has all of them.
        """
        self._current, self._whole, self.in_step = batch, whole, True
        if self._buffered:
            self.kept = {name: array.copy() for name, array in self.model.buffers.items()}

    def restore_buffers(self) -> None:
        """Restore the model's buffers after a forward whose step was not made."""
        for name, array in (self.kept or {}).items():
            self.model.buffers[name][...] = array
        self.kept, self.in_step = None, False

    def require_savable(self) -> None:
        """Refuse memory that cannot be saved: values are checked when they are put in, changes inside them here.

        Raises:
            DataError: A callback remembers something that is neither a JSON value nor an array, or, in a list or a
                dict, an array that training changes.
        """
        if not self.memories:
            return
        parameters = self.model.parameters
        numbers = (parameters.vector, parameters.gradient, *self.model.buffers.values())
        batch = [leaf for tree in self._current or () if tree is not None for leaf in leaves(tree)]
        for memory in self.memories.values():
            memory.require_savable(memory, [*numbers, *self.optimizer.memory.values(), *batch])

    def finish_step(self, sums: Sums) -> None:
        """Count a step, and add its sums to those of the unfinished epoch."""
        self.kept = None  # first: interrupted between here and the last line, the run is not consistent
        totals = self.sums
        for name, values in sums.items():
            before = totals.get(name)
            totals[name] = values if before is None else tuple(map(add, before, values))
        self.batch += 1
        self.step += 1
        self.in_step = False

    def finish_epoch(self, results: dict[str, float]) -> None:
        """Count an epoch, and add its row to the history."""
        rate = self.optimizer.last_rate
        row = {"epoch": self.epoch + 1, **results, "learning_rate": rate, "seconds": self.seconds}
        self.epoch += 1  # first: interrupted between here and the last line, the run is not consistent
        self.batch, self.sums, self.seconds, self.epoch_begun, self.read = 0, {}, 0.0, False, (0, "")
        self.history.append(row)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without the callbacks, which are found by their ids."""
        empty: dict[str, Any] = {"_callbacks": (), "_names": {}, "_live": {}, "_generators": {}}
        return (
            self.__dict__ | empty | {"_training": None, "_current": None, "_whole": None, "hook": None, "waiting": []}
        )

    def __copy__(self) -> Run:
        """Return a copy with its own model: two runs never share numbers."""
        return copy.deepcopy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state; a step that was not finished is made again, from the buffers before it."""
        self.__dict__.update(state)
        self.restore_buffers()

    def _repr_html_(self) -> str:
        """Return what Jupyter shows: the counters, and history, model and settings to unfold."""
        reason = "" if self.stop_reason is None else f", stopped: {self.stop_reason}"
        ended = "" if self.error is None else f", {type(self.error).__name__}"
        line = f" {self.epoch} of {self.target_epoch} epochs, {self.step:,} steps, engine {self.engine}{reason}{ended}"
        settings = [("setting", "value"), *((name, shorten(text)) for name, text in self.recipe.items())]
        return (
            f"<div>{bold('Run')}{html(line)}{self.history._repr_html_()}"
            f"{fold_content('model', Markup(self.model._repr_html_()))}"
            f"{fold_content('settings', as_html(settings, left=2))}</div>"
        )

    def __repr__(self) -> str:
        shown = f"{self.loss:g}" if isinstance(self.loss, int | float) else repr(self.loss)
        return f"Run(epoch={self.epoch}, step={self.step}, loss={shown}, stop_reason={self.stop_reason!r})"


def names_of(callbacks: Iterable[Any]) -> dict[int, str]:
    """Return the name of each callback's memory by the callback's id: its label, and its ordinal among equal ones."""
    ordinals: dict[str, int] = {}
    names = {}
    for callback in callbacks:
        kind = callback.label
        ordinals[kind] = ordinals.get(kind, -1) + 1
        names[id(callback)] = f"{kind}.{ordinals[kind]}"
    return names
