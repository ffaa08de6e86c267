"""Trainer: the loop, which reads like the algorithm.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from framework.arrays import Array
from framework.callbacks import Callback, Checkpoint
from framework.checkpoint import load
from framework.compiled import Engine, choose, comes_between, require_available
from framework.component import Component, Count, Seed
from framework.data import Batch, Source, checked_rows, joined, prepare, read_only, settling
from framework.emit.programs import refresh, require_unchanged
from framework.errors import SettingsError, UsageError
from framework.losses import Loss
from framework.messages import worded
from framework.metrics import Metric, WholeMetric
from framework.models import Model
from framework.optimizers import Optimizer
from framework.preconditions import require_columns, require_last_batch, require_model, require_modes
from framework.regularizers import Regularizer
from framework.resuming import recipe_of, require_own, require_same_epoch, set_end, tell_differences
from framework.run import Run, add_sums
from framework.session import Session
from framework.trees import rows_in, take

EVALUATION_ROWS = 4096


class Trainer(Component):
    """A recipe for training: a loss, an optimizer, the number of epochs, the batches, metrics and callbacks.

    Attributes:
        loss: The loss that is minimized.
        optimizer: An unbound optimizer; each ``fit`` binds a copy to its model.
        epochs: Passes over the data.
        batch_size: Rows in a batch; the last one of an epoch may be smaller, and counts by its rows.
        seed: What every random number of a run is drawn from, with purpose, epoch and step.
        shuffle: Whether each epoch sees the rows in a new order.
        metrics: What is reported beside the loss, on training and validation data. A loss serves too.
        regularizers: Penalties on parameters: their slopes are added to the gradients, and the history has their sum as
            ``penalty``. ``loss`` stays that of the data, so that it compares with ``val_loss``.
        callbacks: What is called at the hooks, in this order; those that save come last.
        engine: What computes the steps. ``"compiled"`` is one native kernel made from the formulas; it needs
            ``framework[compiled]``, and NumPy takes over, with a warning, where a formula cannot be compiled.
            ``"auto"`` does the same without the warning.

    Raises:
        SettingsError: A setting is unknown or out of range, the optimizer is bound, or two metrics have one name.

    Example:
        >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid
        >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=100)
        >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
        >>> model = Neuron(1, Sigmoid())
        >>> run = trainer.fit(model, (x, y))
        >>> trainer.predict(model, x) > 0.5
        array([False, False,  True,  True])
    """

    loss: Loss
    optimizer: Optimizer
    epochs: Count = 1
    batch_size: Count = 32
    seed: Seed = 0
    shuffle: bool = True
    metrics: tuple[Metric | Loss, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    engine: Literal["auto", "numpy", "compiled"] = "numpy"

    def model_post_init(self, context: object) -> None:
        """Refuse a bound optimizer and metrics of the same name."""
        if self.optimizer._binding is not None:
            raise SettingsError(
                "Trainer: setting 'optimizer' must not be bound to a model; write "
                f"{type(self.optimizer).__name__}(learning_rate=...) without the model: fit binds it"
            )
        folders = [Path(callback.folder).resolve() for callback in self.callbacks if isinstance(callback, Checkpoint)]
        if len(folders) != len(set(folders)):
            raise SettingsError("Trainer: setting 'callbacks' must not hold two Checkpoints of one folder")
        if any(one is other for i, one in enumerate(self.callbacks) for other in self.callbacks[:i]):
            raise SettingsError("Trainer: setting 'callbacks' must not hold one object twice; use replace()")
        keys = ["epoch", "loss", "penalty", "learning_rate", "seconds", *(metric.key for metric in self.metrics)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise SettingsError(f"Trainer: setting 'metrics' must have different names; got '{min(twice)}' twice")

    @worded
    def fit(
        self, model: Model, data: Any, validation: Any = None, *, epochs: int | None = None, run: Run | None = None
    ) -> Run:
        """Train ``model`` in place, from its current weights, and return the run.

        Args:
            model: What to train.
            data: (x, y), (x, y, weight) or a Dataset. Arrays are checked whole before anything changes. For a model of
                several inputs x is a dict of arrays by name.
            validation: Data of the same form, evaluated after each epoch, or None.
            epochs: How many; None is the trainer's.
            run: The run to resume; ``resume`` gives it.

        Returns:
            The run: history, counters, why it stopped.

        Raises:
            DataError: The data holds something that no model can learn from.
            DivergedError: A loss or gradient is not finite; the last finite weights are kept.
            SettingsError: A callback reads a column that the history will not have.
            KeyboardInterrupt: Ctrl-C was pressed. As on every exception, ``error.run`` is the run, to resume.
        """
        run, source, held_out = self._prepared(model, data, validation, epochs, run)
        with Session(run, self.callbacks, lambda: source.rows_of(*self._place(run))) as session:
            batches = self._stream(source, session)
            while session.begin_epoch():
                for component in (self.loss, model, *self.regularizers):
                    require_unchanged(component)
                for x, y, weight in session.batches(batches()):
                    session.call("on_batch_begin")
                    prediction = model.forward(x, key=run.key, copy=False)
                    run.batch_loss = self.loss.backward(model, y, weight, check=False)
                    for regularizer in self.regularizers:
                        regularizer.backward(model)
                    sums = self._sums(model, run.batch_loss, prediction, y, weight)
                    session.call("on_gradients")
                    run.optimizer.step()
                    run.finish_step(sums)
                    session.call("on_batch_end")
                if run.batch == run.batches:
                    session.end_epoch(self._results(run.sums) | self._penalty(model) | self._validated(model, held_out))
        return run

    def _prepared(
        self, model: Model, data: Any, validation: Any, epochs: int | None, run: Run | None
    ) -> tuple[Run, Source, Source | None]:
        """Check everything before anything changes, and return the run, the data and the validation data."""
        name = "fit" if run is None else "resume"
        require_model(model, name)
        with settling(model, data, name):
            self._require(model, name)
            for component in (self.loss, model, *self.regularizers):
                refresh(component)
            if run is not None:
                require_own(run, model, self.loss)
            epochs = None if epochs is None else self.replace(epochs=epochs).epochs
            source = prepare(data, model, self._losses, name, metrics=self._summed)
            held_out = None
            if validation is not None:
                held_out = prepare(validation, model, self._losses, f"{name}: validation", source.columns, self.metrics)
            for regularizer in self.regularizers:
                regularizer.names(model.parameters)  # refuses a pattern that matches none
            keys = self._keys(validated=held_out is not None)
            if held_out is None and (whole := [metric.key for metric in self._whole]):
                raise SettingsError(
                    f"{name}: metric '{whole[0]}' needs all rows at once, so it is found in validation only; "
                    f"give {name} validation=(x, y)"
                )
            require_columns(self.callbacks, keys, name)
            require_modes(self.callbacks, self.metrics, name)
            require_last_batch(source.rows, self.batch_size, model, name)
            layout = (source.rows, self.batch_size, self.shuffle)
            recipe = recipe_of(self, source.fingerprint(), None if held_out is None else held_out.fingerprint())
            if run is None:
                engine = choose(self.engine, model, self.loss, self.optimizer)
                run = Run(model, self.optimizer.bind(model), self.loss, self.seed, engine)
            else:
                if run.engine == "compiled":
                    require_available()
                require_same_epoch(run, layout, recipe)
                tell_differences(run, recipe)
            for callback in self.callbacks:
                callback.require(run)
            set_end(run, recipe, self.epochs, epochs)
            run.batches, run.layout = math.ceil(source.rows / self.batch_size), layout
            run.recipe = recipe | run.recipe
            if run.step == 0:
                model.columns = model.target_columns = None
            model.columns = source.columns.inputs or model.columns
            model.target_columns = source.columns.targets or model.target_columns
            return run, source, held_out

    def _require(self, model: Model, name: str) -> None:
        """Refuse anything but a model, or one whose output cannot serve the loss or a metric."""
        require_model(model, name)
        self.loss.require_model(model.output_activation)
        for loss in self._losses:
            loss.require_output(model.output_activation)

    @property
    def _losses(self) -> tuple[Loss, ...]:
        """The loss, then the metrics that are losses too."""
        return (self.loss, *(metric for metric in self.metrics if isinstance(metric, Loss)))

    def _keys(self, *, validated: bool) -> list[str]:
        """Return the columns that a history will have."""
        keys = ["loss", *(metric.key for metric in self._summed)]
        penalty = ["penalty"] if self.regularizers else []
        val_keys = [f"val_{key}" for key in [*keys, *(metric.key for metric in self._whole)] if validated]
        return ["epoch", *keys, *penalty, *val_keys, "learning_rate", "seconds"]

    @property
    def _summed(self) -> tuple[Metric | Loss, ...]:
        """The metrics that add up over batches."""
        return tuple(metric for metric in self.metrics if not isinstance(metric, WholeMetric))

    @property
    def _whole(self) -> tuple[WholeMetric, ...]:
        """The metrics that need all rows at once."""
        return tuple(metric for metric in self.metrics if isinstance(metric, WholeMetric))

    def _penalty(self, model: Model) -> dict[str, float]:
        if not self.regularizers:
            return {}
        return {"penalty": sum(regularizer.penalty(model) for regularizer in self.regularizers)}

    def _place(self, run: Run) -> tuple[int, int, tuple[int, int] | None]:
        """Return the rows in a batch, the first row of the next batch, and the order of the run's epoch."""
        return self.batch_size, run.batch * self.batch_size, (run.seed, run.epoch) if self.shuffle else None

    def _stream(self, source: Source, session: Session) -> Callable[[], Iterator[Batch | None]]:
        """Return a function that yields an epoch's batches: all, or those that the compiled engine leaves to NumPy."""
        run = session.run
        hooks = [hook for hook in ("on_batch_begin", "on_gradients") if session.hears(hook)]
        if run.engine == "numpy" or comes_between(self.engine, self.regularizers, hooks):
            return lambda: source.batches(*self._place(run))
        sums = partial(self._metric_sums, run.model) if self._summed else None
        after = partial(session.call, "on_batch_end") if session.hears("on_batch_end") else None
        engine = Engine(run, source, self.loss, self.batch_size, sums, after, quiet=self.engine == "auto")
        return partial(engine.batches, shuffle=self.shuffle)

    @worded
    def resume(
        self, run: Run | str | os.PathLike[str], data: Any, validation: Any = None, *, epochs: int | None = None
    ) -> Run:
        """Continue training where ``run`` ended, also in the middle of an epoch, as if it had not ended.

        Seed and optimizer are the run's own, whatever the trainer says. A ResumeWarning lists what has
        changed since the run started: settings, data, versions.

        Args:
            run: What ``fit`` returned, the ``run`` of the exception that left it, or the path of a checkpoint.
            data: The same data.
            validation: The same validation data.
            epochs: How many more; None trains up to the trainer's ``epochs``.

        Raises:
            UsageError: The run was interrupted in the middle of an update, its loss is another, or the unfinished epoch
                had other batches.
            CheckpointError: The file cannot be loaded.
        """
        if isinstance(run, str | os.PathLike):
            run = load(run)
        if not isinstance(run, Run):
            raise UsageError(
                "resume: argument 'run' must be a Run, as fit returns it, or the path of a checkpoint; "
                f"got {type(run).__name__}"
            )
        return self.fit(run.model, data, validation, epochs=epochs, run=run)

    @worded
    def evaluate(self, model: Model, data: Any) -> dict[str, float]:
        """Return the loss and every metric over ``data``, as plain floats.

        Raises:
            DataError: The data holds something that the model cannot be judged by.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.evaluate(Neuron.from_weights([2.0]), ([[1.0], [2.0]], [2.0, 5.0]))
            {'loss': 0.5}
        """
        self._require(model, "evaluate")
        return self._evaluated(model, prepare(data, model, self._losses, "evaluate", metrics=self.metrics))

    def _evaluated(self, model: Model, source: Source) -> dict[str, float]:
        totals: dict[str, tuple[float, ...]] = {}
        kept: list[Batch] = []
        for x, y, weight in source.batches(EVALUATION_ROWS, 0, None):
            with np.errstate(all="ignore"):
                h, a = model.output(x)
                total, count = self.loss.output_sums(model.output_activation, h, a, y, weight)
                add_sums(totals, {"loss": (total, count)} | self._metric_sums(model, h, a, y, weight))
            if self._whole:
                kept.append((a, y.copy(), None if weight is None else weight.copy()))
        if not self._whole:
            return self._results(totals)
        rows = joined(kept)
        return self._results(totals) | {metric.key: float(metric.whole_result(*rows)) for metric in self._whole}

    def _validated(self, model: Model, held_out: Source | None) -> dict[str, float]:
        if held_out is None:
            return {}
        return {f"val_{key}": value for key, value in self._evaluated(model, held_out).items()}

    def _sums(
        self, model: Model, loss: float, prediction: Array, y: Array, weight: Array | None
    ) -> dict[str, tuple[float, ...]]:
        """Return the sums of one batch: what an epoch adds up."""
        count = self.loss.count(prediction.shape, weight)
        return {"loss": (loss * count, count)} | self._metric_sums(model, model.preactivation, prediction, y, weight)

    def _metric_sums(
        self, model: Model, h: Array | None, a: Array, y: Array, weight: Array | None
    ) -> dict[str, tuple[float, ...]]:
        """Return the sums of every metric; a metric cannot change its arguments."""
        if not self._summed:
            return {}
        a, y = read_only(a), read_only(y)
        return {
            metric.key: metric.output_sums(model.output_activation, h, a, y, weight)
            if isinstance(metric, Loss)
            else metric.checked_sums(a, y, weight)
            for metric in self._summed
        }

    def _results(self, sums: dict[str, tuple[float, ...]]) -> dict[str, float]:
        """Return the loss and every metric from their sums."""
        figures: dict[str, Loss | Metric] = {"loss": self.loss, **{metric.key: metric for metric in self._summed}}
        return {key: float(figure.result(*sums.get(key, (0.0, 0.0)))) for key, figure in figures.items()}

    @worded
    def predict(self, model: Model, x: Any) -> Array:
        """Return the predictions for rows of x, (rows, ...); no rows give no predictions.

        Raises:
            ShapeError: x is not a batch of the model's samples.
            DataError: A value is not finite, or a frame's columns are not those of ``fit``.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.predict(Neuron.from_weights([2.0]), [[1.0], [2.0]])
            array([2., 4.])
        """
        require_model(model, "predict")
        x = checked_rows(x, model, "predict")
        starts = range(0, rows_in(x), EVALUATION_ROWS) or [0]  # of no rows, one empty batch
        with np.errstate(all="ignore"):
            return np.concatenate([model.output(take(x, slice(n, n + EVALUATION_ROWS)))[1] for n in starts])
