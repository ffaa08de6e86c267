"""Preparing a training: every check before anything changes, and what the loop then works on."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from framework.arithmetic import limit_threads
from framework.data.checks import settling
from framework.data.pieces import Position
from framework.data.sources import ArraySource, Source, adapted, prepare
from framework.data.splits import hold_out, rows_of_parts
from framework.data.streams import Stream
from framework.emit.programs import refresh
from framework.engines.prediction import outputs_of
from framework.models import Model
from framework.models.rows import multiply_adds
from framework.parallel.strategy import Sharded, Strategy
from framework.parallel.workers import Workers
from framework.preprocessing.fitted import FittedPreprocess
from framework.runs.run import Run
from framework.settings.messages import warn
from framework.training.preconditions import (
    fitted_preprocess,
    require_again,
    require_columns,
    require_counts,
    require_inputs,
    require_last_batch,
    require_shards,
)
from framework.training.resuming import (
    recipe_of,
    require_alike,
    require_own,
    require_same_epoch,
    tell_differences,
    tell_idle,
)
from framework.training.settings import TrainingSettings
from framework.trees import sample_shape


class Fit:
    """A training that is checked: its settings, its run and its data.

    Attributes:
        trainer: The settings.
        run: Everything that changes.
        source: The training data.
        held_out: The validation data, or None.
    """

    def __init__(self, trainer: TrainingSettings, run: Run, source: Source, held_out: Source | None) -> None:
        """Put them together. A run that is resumed has the number of rows of a stream."""
        self.trainer, self.run, self.source, self.held_out = trainer, run, source, held_out
        if source.rows is None:
            source.rows = run.layout[0] or None

    @property
    def step_rows(self) -> int:
        """The rows of one update."""
        return self.trainer.batch_size * self.trainer.accumulate

    @property
    def layout(self) -> tuple[int, int, bool]:
        """The rows of the data, those of an update, and whether they are shuffled: all must stay within an epoch.

        The rows of a stream are 0 before its first end.
        """
        return self.source.rows or 0, self.step_rows, self.trainer.shuffle

    @property
    def position(self) -> Position:
        """Where the run is in its data."""
        run, size = self.run, self.step_rows
        return Position(size, run.batch * size, (run.seed, run.epoch) if self.trainer.shuffle else None, run.epoch)

    def complete(
        self,
        recipe: dict[str, str],
        engine: str,
        epochs: int | None,
        workers: Workers,
        preprocess: FittedPreprocess | None = None,
    ) -> None:
        """Check that the callbacks can begin, and give the run its recipe, layout, engine, end and columns."""
        run, model, columns = self.run, self.run.model, self.source.columns
        with workers.together():
            for callback in self.trainer.callbacks:
                if workers.rank == 0 or not callback.writes:
                    callback.require(run)
        if epochs is not None:  # asking for more clears a pending stop
            run.stop_reason, run.target_epoch = None, run.epoch + epochs
        elif run.ended or run.recipe.get("epochs") != recipe["epochs"]:
            run.target_epoch = self.trainer.epochs  # else keep the number of the fit that was cut off
        run.layout, run.engine = self.layout, engine
        run.recipe = recipe | run.recipe | {"epochs": recipe["epochs"]}  # those of the trainer that set the end last
        if run.step == 0:
            state = model._built()
            trained = state.columns.trained and preprocess is model.preprocess
            model.preprocess = preprocess
            state.columns = state.columns._replace(trained=trained)
        kept = model._built().columns
        known = {name: value for name, value in columns._asdict().items() if value}  # names of columns, and a shape
        model._built().columns = kept._replace(**known)

    def results(self, strategy: Strategy) -> dict[str, float]:
        """Return the columns of a finished epoch."""
        trainer, run, held_out = self.trainer, self.run, self.held_out
        results = trainer.figures.results(run.sums)
        if trainer.regularizers:
            results["penalty"] = sum(regularizer.penalty(run.model) for regularizer in trainer.regularizers)
        if held_out is None:
            return results
        compiled = run.engine in ("compiled", "many")
        outputs = outputs_of(run.model, "auto") if compiled else None
        if compiled and isinstance(strategy, Sharded):
            strategy.workers.require_equal({"the engine of the validation": "numpy" if outputs is None else "compiled"})
        validated = trainer.figures.evaluated(run.model, held_out, outputs, strategy)
        return results | {f"val_{key}": value for key, value in validated.items()}


def prepared(
    trainer: TrainingSettings,
    model: Model,
    data: Any,
    validation: Any,
    epochs: int | None,
    run: Run | None,
    name: str,
    workers: Workers,
    threads: ExitStack,
) -> Fit:
    """Check everything before anything changes, and return what the loop works on; see ``Trainer.fit``.

    ``name`` is the caller's, for messages. The number of BLAS threads is settled until ``threads`` ends.
    """
    figures = trainer.figures
    with rows_of_parts(validation), ExitStack() as settled:
        with workers.together():  # an error of one worker is raised on all
            data, validation = _both(data, validation, trainer.seed if run is None else run.seed, name)
            learns = run is None and trainer.preprocess is not None and model.preprocess is None
            require_again(data, validation, trainer.epochs if epochs is None else epochs, run, name, learns=learns)
            preprocess = model.preprocess if run is not None else fitted_preprocess(trainer, model, data, name)
            require_inputs(model, preprocess, name)
            settled.enter_context(settling(model, data, name, preprocess))
            for component in (trainer.loss, model, *trainer.regularizers):
                refresh(component)
            figures.require_model(model.output_activation)
            require_counts(model, preprocess, validation, name)
            if run is not None:
                require_own(run, model, trainer.loss)
            plain = epochs is None or (type(epochs) is int and epochs >= 1)
            epochs = epochs if plain else trainer.replace(epochs=epochs).epochs  # raises the error of the setting
            if (trainer.engine if run is None else run.engine) in ("compiled", "many"):
                from framework.engines.compiled import require_available  # noqa: PLC0415 (slow, and seldom needed)

                require_available()  # the checks of the data use the compiler too
            source, held_out = _sources(trainer, model, data, validation, name)
            for regularizer in trainer.regularizers:
                regularizer.names(model.parameters)  # refuses a pattern that matches none
            require_columns(trainer, name, validated=held_out is not None)
            require_last_batch(source.rows, trainer.batch_size, model, name)
            require_shards(model, trainer.strategy, name)
            engine = _chosen(trainer, model, run)
            validated_on = None if held_out is None else held_out.fingerprint()
            rows = min(trainer.batch_size, source.rows or trainer.batch_size)
            sample = sample_shape(source.arrays[0]) if isinstance(source, ArraySource) else model.input_shape
            threads.enter_context(limit_threads(multiply_adds(model, rows, sample)))
            recipe = recipe_of(trainer, source.fingerprint(), validated_on, engine)
            resumed = run is not None
            run = run or Run(model, trainer.optimizer.bind(model), trainer.loss, trainer.seed, engine)
            fit = Fit(trainer, run, source, held_out)
            if resumed:
                require_same_epoch(run, fit.layout, recipe)
                tell_differences(run, recipe)
        require_alike(workers, run, recipe, trainer.callbacks, epochs, engine)
        tell_idle(workers, trainer.strategy, name)
        fit.complete(recipe, engine, epochs, workers, preprocess)
        return fit


def _both(data: Any, validation: Any, seed: int, name: str) -> tuple[Any, Any]:
    """Return the training data and the validation data, which may be a part of it."""
    data = adapted(data, name)
    known = isinstance(data, tuple | list | Stream) or hasattr(data, "read")  # anything else is refused later
    if isinstance(validation, float) and known:
        return hold_out(data, validation, seed, f"{name}: argument 'validation'")
    return data, adapted(validation, f"{name}: validation")


def _sources(
    trainer: TrainingSettings, model: Model, data: Any, validation: Any, name: str
) -> tuple[Source, Source | None]:
    """Return the checked data and the checked validation data."""
    figures = trainer.figures
    chosen: Any = {"metrics": [each for each in trainer.metrics if each.key in figures.keys]}  # those of batches
    source = prepare(data, model, figures.losses, name, fingerprinted=True, sampling=trainer.sampling, **chosen)
    if validation is None:
        return source, None
    where, seen = f"{name}: validation", source.columns
    return source, prepare(validation, model, figures.losses, where, seen, trainer.metrics, fingerprinted=True)


def _chosen(trainer: TrainingSettings, model: Model, run: Run | None) -> str:
    """Return the engine of a run, which is kept when it is resumed."""
    engine = trainer.engine if run is None else run.engine
    if trainer.strategy is not None and engine == "jax":
        warn("engine='jax': falling back to NumPy, which makes the steps of DataParallel")
        return "numpy"
    if run is not None or engine in ("numpy", "jax"):
        return engine
    from framework.engines.compiled import choose  # noqa: PLC0415 (slow, and seldom needed)

    shards = trainer.strategy is not None
    return choose(engine, model, trainer.loss, trainer.optimizer, trainer.regularizers, shards=shards)
