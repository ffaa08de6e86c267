"""Trainer: the loop, which reads like the algorithm.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from framework.callbacks import Callback
from framework.callbacks.saving import Checkpoint
from framework.checkpoint import load
from framework.data.adapting import adapted
from framework.data.checks import settling
from framework.data.sampling import Sampling
from framework.data.shares import every
from framework.data.sources import Source, prepare
from framework.data.splits import hold_out, rows_of_parts
from framework.data.streams import Stream
from framework.emit.programs import refresh
from framework.engines import Engine
from framework.errors import ResumeWarning, SettingsError
from framework.losses import Loss
from framework.metrics import Metric
from framework.models import Model
from framework.models.rows import predicted
from framework.optimizers import BoundOptimizer, Optimizer
from framework.parallel.arithmetic import one_thread
from framework.parallel.starting import workers
from framework.parallel.strategy import DataParallel, Sharded, Strategy
from framework.parallel.workers import Workers
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.recipe import Preprocess
from framework.regularizers import Regularizer
from framework.runs.figures import Figures
from framework.runs.run import Run
from framework.settings.component import Component, Count, Seed
from framework.settings.messages import warn, worded
from framework.training.many import fit_many
from framework.training.preconditions import (
    mixing,
    require_again,
    require_classes,
    require_columns,
    require_inputs,
    require_last_batch,
    require_modes,
    require_same_preprocess,
    require_shards,
    require_untrained,
    require_validation,
    require_vocabularies,
)
from framework.training.rates import LearningRateSearch, searched
from framework.training.resuming import (
    recipe_of,
    require_alike,
    require_own,
    require_same_epoch,
    set_end,
    tell_differences,
)
from framework.training.session import Session


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
        shuffle: Whether each epoch sees the rows in a new order.
        sampling: How an epoch draws its rows, as many as the data has, with replacement. ``"weighted"`` draws each row
            by its weight, which then does not count in the loss; ``"balanced"`` draws each class equally often. None
            uses each row once.
        metrics: Figures in addition to the loss, on training and validation data. A loss can be one too.
        regularizers: Penalties on parameters: their slopes are added to the gradients, and the history has their sum as
            ``penalty``. ``loss`` does not include them, so you can compare it with ``val_loss``.
        callbacks: Called at the hooks, in this order; those that save come last.
        preprocess: How the columns of a table become numbers. The first ``fit`` of a model learns it from the training
            data; the model keeps it, and later fits continue with it, also on other data. A model that was fitted
            with another recipe is refused. None takes arrays, or tables as the model's own ``preprocess`` knows them.
        engine: ``"numpy"``, or ``"compiled"`` for one native kernel made from the formulas; it needs
            llvmlite, and NumPy takes over, with a warning, where a formula cannot be compiled.
            ``"auto"`` does the same without the warning. ``"jax"`` compiles the whole step with JAX, for every layer,
            on a CPU or on another device of JAX's.
        flush_to_zero: Whether steps take subnormal numbers, below 1.2e-38 in float32 and 2.2e-308 in float64, as 0,
            since they make many processors slow; hooks, validation and steps that you write yourself keep them. It
            needs Linux with glibc, on x86-64 or AArch64. JAX does so on a CPU in any case. What really happened is in
            ``run.recipe``.
        strategy: ``DataParallel(shards=8)`` trains on all the processes that ``mpiexec`` has started, with the same
            weights to the last bit on any number of them. NumPy or the compiled engine computes its gradients. None
            trains in this process alone.

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

    def model_post_init(self, context: object) -> None:
        """Check that no two metrics have one name, no two callbacks one folder, and that sampling can draw."""
        if self.sampling is not None and not self.shuffle:
            raise SettingsError(f"Trainer: sampling={self.sampling!r} draws rows at random; leave shuffle=False out")
        folders = [Path(callback.folder).resolve() for callback in self.callbacks if isinstance(callback, Checkpoint)]
        if len(folders) != len(set(folders)):
            raise SettingsError("Trainer: setting 'callbacks' must not hold two Checkpoints of one folder")
        if any(one is other for i, one in enumerate(self.callbacks) for other in self.callbacks[:i]):
            raise SettingsError("Trainer: setting 'callbacks' must not hold one object twice; use replace()")
        figures = self._figures
        found = [*figures.keys, *(whole.key for whole in figures.whole)]
        keys = ["epoch", "penalty", "learning_rate", "seconds", *found, *(f"val_{key}" for key in found)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            outputs = "; the outputs of Losses give columns too" if figures.of_outputs else ""
            raise SettingsError(
                f"Trainer: setting 'metrics' must have different names; got '{min(twice)}' twice{outputs}"
            )

    @worded
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
        return self._train(model, data, validation, epochs, run, "fit" if run is None else "resume")

    def _train(self, model: Model, data: Any, validation: Any, epochs: int | None, run: Run | None, name: str) -> Run:
        """Train as ``fit`` does; ``name`` is the caller's, for messages."""
        with self._workers() as team:
            with rows_of_parts(validation):
                run, source, held_out = self._prepared(model, data, validation, epochs, run, name, team)
            shared = self.strategy is not None and not self._in_parts(run.model)
            with Session(
                run,
                self.callbacks,
                lambda: source.rows_of(*self._place(run), shared=shared),
                flush_to_zero=self.flush_to_zero,
                workers=team,
            ) as session:
                engine = self._engine(session)
                acts = session.hears("on_batch_begin", "on_gradients", "on_batch_end")
                own = None if not shared else every if acts else engine.strategy.own
                while session.begin_epoch():
                    engine.begin_epoch()
                    for piece in session.unfinished(source.pieces(*self._place(run), run.read, own)):
                        run.read = piece.read
                        engine.advance(piece)
                    run.layout = self._layout(run, source)
                    if run.batch == run.batches > 0:
                        session.end_epoch(self._figured(run, held_out, engine.strategy))
        return run

    @contextmanager
    def _workers(self) -> Iterator[Workers]:
        """Give the workers that train together, with one thread of BLAS each, as the bits depend on their number."""
        if self.strategy is None:
            yield Workers()
            return
        timeout = self.strategy.timeout
        team = workers(timeout)
        with team.guard(timeout), one_thread():
            yield team

    def _prepared(
        self, model: Model, data: Any, validation: Any, epochs: int | None, run: Run | None, name: str, team: Workers
    ) -> tuple[Run, Source, Source | None]:
        """Check everything before anything changes, and return the run, the data and the validation data."""
        with ExitStack() as settled:
            with team.together():  # an error of one worker is raised on all
                data, validation = self._both(data, validation, self.seed if run is None else run.seed, name)
                learns = run is None and self.preprocess is not None and model.preprocess is None
                require_again(data, validation, self.epochs if epochs is None else epochs, run, name, learns=learns)
                preprocess = model.preprocess if run is not None else self._fitted_preprocess(model, data, name)
                require_inputs(model, preprocess, name)
                settled.enter_context(settling(model, data, name, preprocess))
                require_vocabularies(model, preprocess, name)
                for component in (self.loss, model, *self.regularizers):
                    refresh(component)
                self._require(model)
                require_classes(model, preprocess, name)
                if run is not None:
                    require_own(run, model, self.loss)
                plain = epochs is None or (type(epochs) is int and epochs >= 1)
                epochs = epochs if plain else self.replace(epochs=epochs).epochs  # which words the error
                self._load_engine(run)
                source, held_out = self._sources(model, data, validation, name)
                for regularizer in self.regularizers:
                    regularizer.names(model.parameters)  # refuses a pattern that matches none
                require_validation(self._figures.whole, held_out is not None, name)
                require_columns(self.callbacks, self._keys(validated=held_out is not None), name)
                require_modes(self.callbacks, self._figures.better, name)
                require_last_batch(source.rows, self.batch_size, model, name)
                require_shards(model, self.strategy, name)
                layout = self._layout(run, source)
                engine = self._chosen(model, run)
                validated_on = None if held_out is None else held_out.fingerprint()
                recipe = recipe_of(self, source.fingerprint(), validated_on, engine)
                if run is None:
                    run = Run(model, self.optimizer.bind(model), self.loss, self.seed, engine)
                else:
                    require_same_epoch(run, layout, recipe)
                    tell_differences(run, recipe)
            require_alike(team, run, recipe, self.callbacks, epochs, engine)
            self._complete(run, source, recipe, engine, epochs, team, preprocess)
            return run, source, held_out

    def _complete(
        self,
        run: Run,
        source: Source,
        recipe: dict[str, str],
        engine: str,
        epochs: int | None,
        team: Workers,
        preprocess: FittedPreprocess | None = None,
    ) -> None:
        """Check that the callbacks can begin, and give a run the rest: its recipe, layout, engine, end and columns."""
        model = run.model
        with team.together():
            for callback in self.callbacks:
                if team.rank == 0 or not callback.writes:
                    callback.require(run)
        set_end(run, recipe, self.epochs, epochs)
        run.layout, run.engine = self._layout(run, source), engine
        run.recipe = recipe | run.recipe
        if run.step == 0:
            state = model._built()
            trained = state.columns.trained and preprocess is model.preprocess
            model.preprocess = preprocess
            state.columns = state.columns._replace(trained=trained)
        model.columns = source.columns.inputs or model.columns
        model.target_columns = source.columns.targets or model.target_columns

    def _sources(self, model: Model, data: Any, validation: Any, name: str) -> tuple[Source, Source | None]:
        """Return the checked data and the checked validation data."""
        figures = self._figures
        chosen: Any = {"metrics": figures.summed_metrics, "sampling": self.sampling}
        source = prepare(data, model, figures.losses, name, fingerprinted=True, **chosen)
        if validation is None:
            return source, None
        where, seen = f"{name}: validation", source.columns
        return source, prepare(validation, model, figures.losses, where, seen, self.metrics, fingerprinted=True)

    def _load_engine(self, run: Run | None) -> None:
        """Load the compiler where it will be needed: the checks of the data use it too."""
        if (self.engine if run is None else run.engine) in ("compiled", "many"):
            from framework.engines.compiled import require_available  # noqa: PLC0415 (slow, and seldom needed)

            require_available()

    def _chosen(self, model: Model, run: Run | None) -> str:
        """Return the engine of a run, which is kept when it is resumed."""
        engine = self.engine if run is None else run.engine
        if self.strategy is not None and engine == "jax":
            warn("engine='jax': falling back to NumPy, which makes the steps of DataParallel")
            return "numpy"
        if engine in ("numpy", "jax"):
            return engine
        from framework.engines.compiled import choose  # noqa: PLC0415 (slow, and seldom needed)

        if run is not None:
            return engine
        shards = self.strategy is not None
        return choose(engine, model, self.loss, self.optimizer, self.regularizers, shards=shards)

    def _both(self, data: Any, validation: Any, seed: int, name: str) -> tuple[Any, Any]:
        """Return the training data and the validation data, which may be a part of it."""
        data = adapted(data, name)
        known = isinstance(data, tuple | list | Stream) or hasattr(data, "read")  # anything else is refused later
        if isinstance(validation, float) and known:
            return hold_out(data, validation, seed, f"{name}: argument 'validation'")
        return data, adapted(validation, f"{name}: validation")

    def _fitted_preprocess(self, model: Model, data: Any, name: str) -> FittedPreprocess | None:
        """Return the Preprocess that a model keeps; if it has none, that which the recipe learns from the data."""
        if self.preprocess is None:
            return model.preprocess
        if model.preprocess is None:
            require_untrained(model, name)
            return self.preprocess.fit(data, name)
        require_same_preprocess(model.preprocess, self.preprocess, name)
        return model.preprocess

    def _require(self, model: Model) -> None:
        """Refuse a model whose output cannot serve the loss or a metric."""
        self._figures.require_model(model.output_activation)

    @cached_property
    def _figures(self) -> Figures:
        return Figures(self.loss, self.metrics)

    @property
    def _step_rows(self) -> int:
        """The rows of one update."""
        return self.batch_size * self.accumulate

    def _keys(self, *, validated: bool) -> list[str]:
        """Return the columns that a history will have."""
        figures = self._figures
        penalty = ["penalty"] if self.regularizers else []
        val_keys = [f"val_{key}" for key in [*figures.keys, *(metric.key for metric in figures.whole)] if validated]
        return ["epoch", *figures.keys, *penalty, *val_keys, "learning_rate", "seconds"]

    def _figured(self, run: Run, held_out: Source | None, strategy: Strategy) -> dict[str, float]:
        """Return the columns of a finished epoch."""
        figures = self._figures
        results = figures.results(run.sums)
        if self.regularizers:
            results["penalty"] = sum(regularizer.penalty(run.model) for regularizer in self.regularizers)
        compiled = held_out is not None and run.engine in ("compiled", "many")
        outputs = self._outputs(run.model, "auto") if compiled else None
        if compiled and isinstance(strategy, Sharded):
            strategy.workers.require_equal({"the engine of the validation": "numpy" if outputs is None else "compiled"})
        validated = {} if held_out is None else figures.evaluated(run.model, held_out, outputs, strategy)
        return results | {f"val_{key}": value for key, value in validated.items()}

    def _layout(self, run: Run | None, source: Source) -> tuple[int, int, bool]:
        """Return what a run must keep within an epoch: its rows, 0 where a stream has not ended yet, and batches."""
        if source.rows is None and run is not None:
            source.rows = run.layout[0] or None
        return source.rows or 0, self._step_rows, self.shuffle

    def _place(self, run: Run) -> tuple[int, int, tuple[int, int] | None, int]:
        """Return the rows in a batch, the first row of the next batch, and the order and the number of the epoch."""
        order = (run.seed, run.epoch) if self.shuffle else None
        return self._step_rows, run.batch * self._step_rows, order, run.epoch

    def _in_parts(self, model: Model) -> bool:
        """Return whether layers mix the rows of each part of a batch, whose rows must keep their order."""
        return self.accumulate > 1 and mixing(model)

    def _engine(self, session: Session) -> Engine:
        """Return what makes the steps: NumPy where something acts within a step that a kernel makes whole."""
        run = session.run
        hooks = [hook for hook in ("on_batch_begin", "on_gradients") if session.hears(hook)]
        options: dict[str, Any] = {"part_rows": self.batch_size, "regularizers": self.regularizers}
        watched = session.hears("on_batch_end")
        if self.strategy is not None:
            strategy = Sharded(
                self.strategy,
                session.workers,
                mixed=self.batch_size if mixing(run.model) else 0,
                noted=lambda: session.noted,
                agree=session.agree,
            )
            options |= {"strategy": strategy}
        if run.engine == "jax":
            from framework.engines.jax import JaxEngine  # noqa: PLC0415

            options |= {"watched": watched, "within": bool(hooks), "lifted": session.flushing.lifted}
            return JaxEngine(run, self._figures, session.call, **options)
        if run.engine in ("compiled", "many"):
            from framework.engines.compiled import CompiledEngine, comes_between  # noqa: PLC0415

            if self.strategy is not None or not comes_between(self.engine, hooks):
                options |= {"watched": watched, "quiet": self.engine == "auto"}
                return CompiledEngine(run, self._figures, session.call, **options)
        run.engine = "numpy"
        run.recipe.pop("products", None)
        return Engine(run, self._figures, session.call, **options)

    @worded
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
        """Train many models of one architecture, and return the run of each: for an ensemble, a sweep, a validation.

        With ``engine="compiled"`` or ``"auto"`` all are trained at once, in the lanes of one kernel; ``run.engine`` is
        then ``"many"``. Each model becomes what ``fit`` makes of it, up to rounding. It has its own history and stop,
        and hooks are called for each run. The other engines train one model after another.

        Args:
            models: The models, which have the same layers; they are trained in place.
            data: As for ``fit``; the kernel takes arrays.
            validation: As for ``fit``.
            optimizers: An optimizer for each model, of one class; None is the trainer's.
            seeds: A seed for each model, by which its rows are shuffled; None is the trainer's.
            splits: For each model (rows to train on, rows to validate on), as the splitters of scikit-learn give them;
                None trains all models on all rows.
            epochs: How many; None is the trainer's.

        Returns:
            The runs, in the order of the models.

        Raises:
            SettingsError: The models differ in more than their weights, the kernel has no form for a part, a callback
                acts within steps, or an argument has another length.
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

    @worded
    def resume(
        self, run: Run | str | os.PathLike[str], data: Any, validation: Any = None, *, epochs: int | None = None
    ) -> Run:
        """Continue training where ``run`` ended, also in the middle of an epoch, as if it had not ended.

        Where a callback changed the weights after the last step, as ``restore_best`` does, it continues from those. The
        seed and the optimizer are the run's own, whatever the trainer says. A ResumeWarning lists what changed since
        the run started: settings, data, versions.

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
            advice = f"the run has made its {run.epoch} epochs; write resume(run, data, epochs=5) for five more"
            warn(f"resume: nothing is left to do: {advice}", ResumeWarning)
        return self.fit(run.model, data, validation, epochs=epochs, run=run)

    @worded
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
        return searched(self, model, data, lowest, highest, steps)

    @worded
    def evaluate(self, model: Model, data: Any) -> dict[str, float]:
        """Return the loss and every metric over ``data``, as plain floats.

        Where the model's ``preprocess`` changes the target, as ``Standardize`` does, they are of the changed numbers.

        Raises:
            DataError: The data does not fit the model or the loss.

        Example:
            >>> from framework import MeanSquaredError, Neuron, SGDOptimizer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.evaluate(Neuron.from_weights([2.0]), ([[1.0], [2.0]], [2.0, 5.0]))
            {'loss': 0.5}
        """
        self._require(model)
        figures = self._figures
        source = prepare(data, model, figures.losses, "evaluate", metrics=self.metrics)
        return figures.evaluated(model, source, self._outputs(model, self.engine))

    @worded
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
        outputs = self._outputs(model, self.engine)
        return model.predict(x) if outputs is None else predicted(model, x, "predict", lambda rows: outputs(rows)[1])

    def _outputs(self, model: Model, engine: str) -> Callable[[Any], tuple[Any, Any]] | None:
        """Return what computes (h, a) of a batch in a kernel; None for NumPy."""
        if engine in ("numpy", "jax"):
            return None
        from framework.engines.compiled import predictor  # noqa: PLC0415 (slow, and seldom needed)

        found = predictor(model, engine)
        return None if found is None else found.outputs
