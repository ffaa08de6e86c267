"""Trainer: what a user calls to train, resume, evaluate and predict."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from pydantic import field_validator

from framework.base.errors import ResumeWarning, SettingsError
from framework.base.files import real_path
from framework.base.settings.component import Component, Count, Seed
from framework.base.settings.messages import warn, word_errors
from framework.data.sampling import Sampling
from framework.formulas.losses import Loss
from framework.formulas.metrics import Metric
from framework.models import Model
from framework.models.regularizers import Regularizer
from framework.models.rows import predict_rows, prepare
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.recipe import Preprocess
from framework.training.callbacks import Callback
from framework.training.callbacks.saving import Checkpoint
from framework.training.checkpoint import load
from framework.training.engines import outputs_of
from framework.training.loop import train
from framework.training.many import fit_many
from framework.training.optimizers import BoundOptimizer, Optimizer
from framework.training.parallel.strategy import DataParallel
from framework.training.rates import LearningRateSearch, search_rate
from framework.training.runs.figures import Figures
from framework.training.runs.run import Run


class Trainer(Component):
    """The settings of a training: loss, optimizer, epochs, batches, metrics and callbacks.

    Attributes:
        loss: The loss that is minimized.
        optimizer: An unbound optimizer; each ``fit`` binds a copy to its model.
        epochs: Passes over the data.
        batch_size: Rows that go through the model at once. The last batch of an epoch may be smaller; it counts by its
            rows.
        accumulate: How many batches make one update. The gradient is that of the mean over all their rows, so
            ``batch_size=8, accumulate=4`` trains as ``batch_size=32`` does, with the memory of 8 rows. Epochs, hooks
            and schedules count updates.
        seed: The seed of the run's random numbers, which also depend on purpose, epoch and step.
        shuffle: Whether each epoch sees the rows in a new order. One batch of all rows keeps the order of the data,
            unless a callback has ``on_batch_begin``.
        sampling: How an epoch draws its rows, as many as the data has, with replacement. ``"weighted"`` draws each row
            by its weight, which then does not count in the loss; ``"balanced"`` draws each class equally often. None
            uses each row once.
        metrics: Figures in addition to the loss, on training and validation data, in the unit of the target. A loss can
            be one too.
        regularizers: Penalties on parameters: their slopes are added to the gradients, and the history has their sum as
            ``penalty``. ``loss`` does not include them, so you can compare it with ``val_loss``.
        callbacks: Called at the hooks, in this order; those that save come last.
        preprocess: How the columns of a table become numbers. The first ``fit`` of a model learns it from the training
            data; the model keeps it, and later fits continue with it, also on other data. A model that was fitted
            with another recipe is refused. None takes arrays, or tables as the model's own ``preprocess`` knows them.
        engine: ``"numpy"``, or ``"compiled"`` for one native kernel made from the formulas of layers, loss and
            optimizer; it needs llvmlite, and NumPy takes over, with a warning, where Python must run a part.
            ``"auto"`` does the same without the warning. ``"jax"`` compiles the whole step with JAX, on a CPU or on
            another device of JAX's.
        flush_to_zero: Whether steps take subnormal numbers, below 1.2e-38 in float32 and 2.2e-308 in float64, as 0,
            since they make many processors slow; hooks, validation and steps that you write yourself keep them. It
            needs Linux with glibc, on x86-64 or AArch64. JAX does so on a CPU in any case. What really happened is in
            ``run.recipe``.
        strategy: ``DataParallel(shards=8)`` trains on all the processes that ``mpiexec`` has started, with the same
            weights to the last bit on any number of them. NumPy or the compiled engine computes its gradients. None
            trains in this process alone.
        progress: Whether a bar shows how far training is, if standard error is a terminal and it lasts over a second;
            a ``ProgressBar`` among the callbacks takes its place.

    Raises:
        SettingsError: A setting is unknown or out of range, the optimizer is bound, or two metrics have one name.

    Example:
        >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid
        >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=100)
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
        >>> model = Neuron(1, Sigmoid())
        >>> run = trainer.fit(model, (x, y))
        >>> trainer.predict(model, x) > 0.5
        array([False, False,  True,  True])
    """

    loss: Loss
    optimizer: Optimizer
    epochs: Count = 1
    batch_size: Count = 32
    accumulate: Count = 1
    seed: Seed = 0
    shuffle: bool = True
    sampling: Sampling | None = None
    metrics: tuple[Metric | Loss, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    preprocess: Preprocess | None = None
    engine: Literal["auto", "numpy", "compiled", "jax"] = "numpy"
    flush_to_zero: bool = True
    strategy: DataParallel | None = None
    progress: bool = True

    @field_validator("optimizer", mode="before")
    @classmethod
    def _require_recipe(cls, value: Any) -> Any:
        if isinstance(value, BoundOptimizer):
            raise SettingsError(
                f"not be bound to a model: write {type(value.recipe).__name__}(learning_rate=...) without the model, "
                "and fit binds it"
            )
        return value

    @field_validator("preprocess", mode="before")
    @classmethod
    def _require_open(cls, value: Any) -> Any:
        if isinstance(value, FittedPreprocess):
            raise SettingsError(
                "be a Preprocess; the numbers belong to a model: model.preprocess = fitted, without preprocess here"
            )
        return value

    @cached_property
    def figures(self) -> Figures:
        """The loss and the metrics, as the columns of a history."""
        return Figures(self.loss, self.metrics)

    def columns(self, *, validated: bool) -> list[str]:
        """Return the columns of a history, with or without those of validation data."""
        figures, penalty = self.figures, ["penalty"] if self.regularizers else []
        val_keys = [f"val_{key}" for key in [*figures.keys, *(whole.key for whole in figures.whole)] if validated]
        return ["epoch", *figures.keys, *penalty, *val_keys, "learning_rate", "seconds"]

    def model_post_init(self, context: object) -> None:
        """Check that no two metrics have one name, no two callbacks one folder, and that sampling can draw."""
        if self.sampling is not None and not self.shuffle:
            raise SettingsError(f"sampling={self.sampling!r} draws rows at random; leave shuffle=False out")
        folders = [real_path(callback.folder) for callback in self.callbacks if isinstance(callback, Checkpoint)]
        if len(folders) != len(set(folders)):
            raise SettingsError("must not hold two Checkpoints of one folder", name="setting 'callbacks'")
        if any(one is other for i, one in enumerate(self.callbacks) for other in self.callbacks[:i]):
            raise SettingsError("must not hold one object twice; use replace()", name="setting 'callbacks'")
        figures = self.figures
        measured = [*figures.keys, *(whole.key for whole in figures.whole)]
        keys = ["epoch", "penalty", "learning_rate", "seconds", *measured, *(f"val_{key}" for key in measured)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            outputs = "; the outputs of OutputLosses give columns too" if figures.of_outputs else ""
            raise SettingsError(
                f"must have different names; got '{min(twice)}' twice{outputs}", name="setting 'metrics'"
            )

    @word_errors
    def fit(
        self, model: Model, data: Any, validation: Any = None, *, epochs: int | None = None, run: Run | None = None
    ) -> Run:
        """Train ``model`` in place, from its current weights, and return the run.

        Args:
            model: The model to train.
            data: (x, y), (x, y, weight), a Dataset such as ``CSV`` and ``Parquet``, a ``Stream``, a dataset or a
                DataLoader of PyTorch, or an iterable of batches. Arrays are checked whole before anything changes. For
                a model of several inputs x is a dict of arrays by name, for one of several outputs y is.
            validation: Data of the same form, evaluated after each epoch; or the part of ``data`` that is held out for
                it, such as 0.2, which is drawn by the trainer's seed, of files as of arrays; or None.
            epochs: How many; None is the trainer's.
            run: The run to resume; ``resume`` gives it.

        Returns:
            The run: history, counters, why it stopped.

        Raises:
            DataError: The data holds something that no model can learn from.
            DivergedError: A loss or gradient is not finite; the last finite weights are kept.
            SettingsError: A callback reads a column that the history will not have; or the model keeps a Preprocess of
                another recipe.
            KeyboardInterrupt: Ctrl-C was pressed. As on every exception, ``error.run`` is the run, to resume.
        """
        if self.strategy is None and "mpi4py.MPI" in sys.modules:
            from framework.training.parallel.mpi import warn_if_alone  # noqa: PLC0415 (which a process alone does not need)

            warn_if_alone()
        return train(self, model, data, validation, epochs, run, shown=True)

    @word_errors
    def fit_many(
        self,
        models: Iterable[Model],
        data: Any,
        validation: Any = None,
        *,
        optimizers: Iterable[Optimizer] | None = None,
        seeds: Iterable[int] | None = None,
        splits: Iterable[tuple[Any, Any]] | None = None,
        epochs: int | None = None,
    ) -> list[Run]:
        """Train many models, and return the run of each: for an ensemble, a sweep, a cross-validation.

        With ``engine="compiled"`` or ``"auto"`` small models of one architecture are trained at once, in the lanes of
        one kernel. Each model becomes what ``fit`` makes of it, up to rounding. It has its own history and stop, and
        hooks are called for each run.
        The other engines train one model after another.

        Args:
            models: The models; they are trained in place.
            data: As for ``fit``; the compiled engine takes arrays.
            validation: As for ``fit``.
            optimizers: An optimizer for each model; None is the trainer's.
            seeds: A seed for each model, by which its rows are shuffled; None is the trainer's.
            splits: For each model (rows to train on, rows to validate on), as the splitters of scikit-learn give them;
                None trains all models on all rows.
            epochs: How many; None is the trainer's.

        Returns:
            The runs, in the order of the models.

        Raises:
            SettingsError: A callback writes files about one run, the data is not in memory, the trainer has a strategy,
                or an argument has another length.
            DataError: As for ``fit``; every model is left as it was.
            DivergedError: A model diverged; the others have been trained to their end.
            KeyboardInterrupt: Ctrl-C was pressed. As on every exception, ``error.runs`` holds the runs of all models.

        Example:
            >>> from framework import Dense, MeanSquaredError, Sequential, SGDOptimizer, Tanh
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=20)
            >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [[0.0], [1.0], [0.0], [-1.0]]
            >>> models = [Sequential(Dense(1, 8, Tanh(), seed=seed), Dense(8, 1)) for seed in range(5)]
            >>> rates = [SGDOptimizer(learning_rate=rate) for rate in (0.001, 0.003, 0.01, 0.03, 0.1)]
            >>> runs = trainer.fit_many(models, (x, y), optimizers=rates)
            >>> len(runs), len(runs[0].history)
            (5, 20)
        """
        return fit_many(self, models, data, validation, optimizers, seeds, splits, epochs)

    @word_errors
    def resume(
        self, run: Run | str | os.PathLike[str], data: Any, validation: Any = None, *, epochs: int | None = None
    ) -> Run:
        """Continue training where ``run`` ended, also in the middle of an epoch, as if it had not ended.

        It continues from the weights of the last step, also where ``restore_best`` or ``RestoreBest`` has put others
        back; what another callback or the program changed after that step stays. The seed and the optimizer are the
        run's own, whatever the trainer says. A ResumeWarning lists what changed since the run started: settings, data,
        versions.

        Args:
            run: The run that ``fit`` returned, the ``run`` of its exception, or the path of a checkpoint.
            data: The same data.
            validation: The same validation data, or the same part of the data.
            epochs: How many more; None trains up to the trainer's ``epochs``, which gives a ResumeWarning where a Run
                has made them, but none for a file: a program may be started again after its last epoch.

        Raises:
            UsageError: The run was interrupted in the middle of an update, its loss is another, or the unfinished epoch
                had other batches.
            CheckpointError: The file cannot be loaded.
        """
        if isinstance(run, str | os.PathLike):  # perhaps by a program that is started again, which needs no warning
            run = load(run)
        elif epochs is None and run.complete and run.epoch >= self.epochs:
            advice = "write resume(run, data, epochs=5) for five more"
            if run.optimizer.length is not None:
                advice = "its schedule ends there; begin a new fit with more epochs"
            advice = f"the run has made its {run.epoch} epochs; {advice}"
            warn(f"resume: nothing is left to do: {advice}", ResumeWarning)
        return self.fit(run.model, data, validation, epochs=epochs, run=run)

    @word_errors
    def find_learning_rate(
        self, model: Model, data: Any, *, lowest: float = 1e-7, highest: float = 10.0, steps: int = 100
    ) -> LearningRateSearch:
        """Train a copy of ``model`` with a rate that grows from step to step, and return the losses and a suggestion.

        The search stops when the loss diverges: when its moving average rises above its smallest value by three times
        the loss of the start. Neither the model nor the trainer changes. The trainer's callbacks and metrics are left
        out.

        The suggestion is a start, not the best rate: look at ``search.plot()``. It is for a constant rate, or for the
        largest one of a schedule.

        Args:
            model: The model.
            data: As for ``fit``; it must be possible to read it several times.
            lowest: The first rate.
            highest: The last rate.
            steps: Updates, of which each has the rate of the one before times a constant.

        Raises:
            DivergedError: The loss of the first step is not finite.
            SettingsError: A rate is not positive, the first is more than half of the last, or there are fewer than 20
                steps.
            DataError: The data does not fit the model or the loss.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> search = trainer.find_learning_rate(Neuron(1), ([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0]))
            >>> 0.001 < search.suggestion < 0.2  # from 2 / 9.33 on, it diverges
            True

        Source:
            Smith, Cyclical learning rates for training neural networks (2017), section 3.3.
        """
        return search_rate(self, model, data, lowest, highest, steps)

    @word_errors
    def evaluate(self, model: Model, data: Any) -> dict[str, float]:
        """Return the loss and every metric over ``data``, as plain floats.

        Metrics are in the unit of the target. The loss is what is trained: where the model's ``preprocess`` changes the
        target, as ``Standardize`` does, it is of the changed numbers.

        Raises:
            DataError: The data does not fit the model or the loss.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.evaluate(Neuron.from_weights([2.0]), ([[1.0], [2.0]], [2.0, 5.0]))
            {'loss': 0.5}
        """
        figures = self.figures
        figures.require_model(model.output_activation)
        source = prepare(data, model, figures.losses, "evaluate", metrics=self.metrics)
        return figures.evaluate(model, source, outputs_of(model, self.engine))

    @word_errors
    def predict(self, model: Model, x: Any) -> Any:
        """Return ``model.predict(x)``: predictions for rows of x, (rows, ...), in the unit of the target.

        A model of several outputs gives a dict of arrays by name.

        Raises:
            ShapeError: x is not a batch of the model's samples.
            DataError: A value is not finite, or a table's columns are not those of ``fit``.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.predict(Neuron.from_weights([2.0]), [[1.0], [2.0]])
            array([2., 4.])
        """
        outputs = outputs_of(model, self.engine)
        return model.predict(x) if outputs is None else predict_rows(model, x, "predict", lambda rows: outputs(rows)[1])
