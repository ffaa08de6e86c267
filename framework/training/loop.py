"""The loop of a training, which reads like the algorithm, and all that comes before its first step.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from framework.arithmetic import limit_threads
from framework.callbacks.progress import own_bars
from framework.data.checks import settling
from framework.data.pieces import Position, every
from framework.data.sources import ArraySource, Source, adapt, prepare
from framework.data.splits import hold_out, rows_of_parts
from framework.data.streams import Stream
from framework.emit.programs import refresh
from framework.engines import Engine, engine_of
from framework.engines.registry import AUTO, supported
from framework.models import Model
from framework.models.rows import multiply_adds
from framework.parallel import starting
from framework.parallel.strategy import DataParallel, Sharded
from framework.parallel.workers import Workers
from framework.preprocessing.fitted import FittedPreprocess
from framework.runs.run import Run
from framework.training.preconditions import (
    fitted_preprocess,
    mixing,
    recipe_of,
    require_again,
    require_alike,
    require_columns,
    require_counts,
    require_inputs,
    require_last_batch,
    require_own,
    require_same_epoch,
    require_shards,
    tell_differences,
    tell_idle,
)
from framework.training.session import Session
from framework.trees import sample_shape

if TYPE_CHECKING:
    from framework.training.trainer import Trainer

WITHIN = ("on_batch_begin", "on_gradients", "on_batch_end")
"""The hooks within a step and at its end."""


def train(
    trainer: Trainer,
    model: Model,
    data: Any,
    validation: Any = None,
    epochs: int | None = None,
    run: Run | None = None,
    name: str | None = None,
    *,
    shown: bool = False,
) -> Run:
    """Train as ``Trainer.fit`` does, and give its name in messages, unless the caller has another.

    If the caller is ``shown``, it shows a bar, and says on an interruption how to resume.
    """
    name = name or ("fit" if run is None else "resume")
    workers = Workers()
    with ExitStack() as surroundings:
        if trainer.strategy is not None:  # one thread of BLAS each, as the bits depend on their number
            workers = starting.workers(trainer.strategy.timeout)
            surroundings.enter_context(workers.guard(trainer.strategy.timeout))
            surroundings.enter_context(limit_threads())
        fit = prepare_fit(trainer, model, data, validation, epochs, run, name, workers, surroundings)
        run, source = fit.run, fit.source
        # Layers that mix the rows of each part of a batch need them in their order.
        shared = trainer.strategy is not None and not (trainer.accumulate > 1 and mixing(run.model))
        with Session(
            run,
            (*trainer.callbacks, *(own_bars(trainer.callbacks) if shown and trainer.progress else ())),
            lambda: source.rows_of(fit.position, shared=shared),
            flush_to_zero=trainer.flush_to_zero,
            workers=workers,
            shown=shown,
        ) as session:
            strategy = None if trainer.strategy is None else _sharded(fit, session, trainer.strategy)
            engine = _engine(fit, session, strategy)
            own = None
            if strategy is not None and shared:  # a hook within a step may read all rows of a batch
                own = every if session.hears(*WITHIN) else strategy.own
            while session.begin_epoch():
                engine.begin_epoch()
                for piece in session.unfinished(source.pieces(fit.position, run.read, own)):
                    run.read = piece.read
                    engine.advance(piece)
                run.layout = fit.layout
                if run.batch == run.batches > 0:
                    session.end_epoch(fit.results(strategy))
    return run


def _sharded(fit: Fit, session: Session, strategy: DataParallel) -> Sharded:
    """Return what shares out batches to the workers of a session."""
    mixed = fit.trainer.batch_size if mixing(fit.run.model) else 0
    return Sharded(strategy, session.workers, mixed=mixed, noted=lambda: session.noted is not None, agree=session.agree)


def _engine(fit: Fit, session: Session, strategy: Sharded | None) -> Engine:
    """Return the engine that makes the steps."""
    run, trainer = fit.run, fit.trainer
    return engine_of(run.engine)(
        run,
        trainer.figures,
        session.call,
        part_rows=trainer.batch_size,
        regularizers=trainer.regularizers,
        strategy=strategy,
        watched=session.hears("on_batch_end"),
        within=[hook for hook in ("on_batch_begin", "on_gradients") if session.hears(hook)],
        quiet=trainer.engine == AUTO,
        lifted=session.flushing.lifted,
    )


class Fit:
    """A training that is checked: its settings, its run and its data.

    Attributes:
        trainer: The settings.
        run: Everything that changes.
        source: The training data.
        held_out: The validation data, or None.
        step_rows: The rows of one update.
    """

    def __init__(self, trainer: Trainer, run: Run, source: Source, held_out: Source | None) -> None:
        """Put them together. A run that is resumed has the number of rows of a stream."""
        self.trainer, self.run, self.source, self.held_out = trainer, run, source, held_out
        self.step_rows = trainer.batch_size * trainer.accumulate
        if source.rows is None:
            source.rows = run.layout[0] or None

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
        run, model = self.run, self.run.model
        with workers.together() if workers.size > 1 else nullcontext():
            for callback in self.trainer.callbacks:
                if workers.rank == 0 or not callback.writes:
                    callback.require(run)
        if epochs is not None:  # asking for more clears a pending stop
            run.stop_reason, run.target_epoch = None, run.epoch + epochs
        elif run.ended or run.recipe.get("epochs") != recipe["epochs"]:
            run.target_epoch = self.trainer.epochs  # else keep the number of the fit that was cut off
        run.layout, run.engine = self.layout, engine
        run.recipe = recipe | run.recipe | {"epochs": recipe["epochs"]}  # those of the trainer that set the end last
        state = model._built()
        if run.step == 0:
            trained = state.columns.trained and preprocess is model.preprocess
            model.preprocess = preprocess
            state.columns = state.columns._replace(trained=trained)
        known = {name: value for name, value in self.source.columns._asdict().items() if value}  # names, and a shape
        state.columns = state.columns._replace(**known)

    @cached_property
    def _outputs(self) -> Callable[[Any], tuple[Any, Any]] | None:
        """The function that gives (h, a) of a batch of validation data; None for ``model.output``."""
        return engine_of(self.run.engine).predictor(self.run.model, quiet=True)

    def results(self, strategy: Sharded | None = None) -> dict[str, float]:
        """Return the columns of a finished epoch."""
        trainer, run, held_out = self.trainer, self.run, self.held_out
        results = trainer.figures.results(run.sums)
        if trainer.regularizers:
            results["penalty"] = sum(regularizer.penalty(run.model) for regularizer in trainer.regularizers)
        if held_out is None:
            return results
        outputs = self._outputs
        if strategy is not None:
            kind = Engine.name if outputs is None else run.engine
            strategy.workers.require_equal({"the engine of the validation": kind})
        validated = trainer.figures.evaluated(run.model, held_out, outputs, strategy)
        return results | {f"val_{key}": value for key, value in validated.items()}


def prepare_fit(
    trainer: Trainer,
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
    with rows_of_parts(validation) if isinstance(validation, float) else nullcontext(), ExitStack() as settled:
        with workers.together() if workers.size > 1 else nullcontext():  # an error of one is raised on all
            data, validation = _both(data, validation, trainer.seed if run is None else run.seed, name)
            learns = run is None and trainer.preprocess is not None and model.preprocess is None
            require_again(data, validation, trainer.epochs if epochs is None else epochs, run, name, learns=learns)
            preprocess = model.preprocess if run is not None else fitted_preprocess(trainer, model, data, name)
            require_inputs(model, preprocess, name)
            settled.enter_context(settling(model, data, name, preprocess))
            for component in (trainer.loss, *(part for _, part in model.placed()), *trainer.regularizers):
                refresh(component)
            figures.require_model(model.output_activation)
            require_counts(model, preprocess, validation, name)
            if run is not None:
                require_own(run, model, trainer.loss)
            plain = epochs is None or (type(epochs) is int and epochs >= 1)
            epochs = epochs if plain else trainer.replace(epochs=epochs).epochs  # raises the error of the setting
            wanted = trainer.engine if run is None else run.engine
            engine_of(wanted).require()  # the checks of the data use the compiler too
            options: dict[str, Any] = {"fingerprinted": True}
            batched = [metric for metric in trainer.metrics if metric.key in figures.keys]
            source = prepare(data, model, figures.losses, name, metrics=batched, sampling=trainer.sampling, **options)
            held_out = None
            if validation is not None:
                seen, where = source.columns, f"{name}: validation"
                held_out = prepare(validation, model, figures.losses, where, seen, trainer.metrics, **options)
            for regularizer in trainer.regularizers:
                regularizer.names(model.parameters)  # refuses a pattern that matches none
            require_columns(trainer, name, validated=held_out is not None)
            require_last_batch(source.rows, trainer.batch_size, model, name)
            require_shards(trainer, model, name)
            formulas, shards = (model, trainer.loss, trainer.optimizer), trainer.strategy is not None
            engine = supported(wanted, *formulas, trainer.regularizers, shards=shards, resumed=run is not None)
            validated_on = None if held_out is None else held_out.fingerprint()
            rows = min(trainer.batch_size, source.rows or trainer.batch_size)
            sample = sample_shape(source.arrays[0]) if isinstance(source, ArraySource) else model.input_shape
            threads.enter_context(limit_threads(multiply_adds(model, rows, sample)))
            recipe = recipe_of(trainer, model, source.fingerprint(), validated_on, engine)
            resumed = run is not None
            run = run or Run(model, trainer.optimizer.bind(model), trainer.loss, trainer.seed, engine.name)
            fit = Fit(trainer, run, source, held_out)
            if resumed:
                require_same_epoch(run, fit.layout, recipe)
                tell_differences(run, recipe)
        if workers.size > 1:
            require_alike(workers, run, recipe, trainer.callbacks, epochs, engine.name)
            tell_idle(workers, trainer.strategy, name)
        fit.complete(recipe, engine.name, epochs, workers, preprocess)
        return fit


def _both(data: Any, validation: Any, seed: int, name: str) -> tuple[Any, Any]:
    """Return the training data and the validation data, which may be a part of it."""
    data = adapt(data, name)
    known = isinstance(data, tuple | list | Stream) or hasattr(data, "read")  # anything else is refused later
    if isinstance(validation, float) and known:
        return hold_out(data, validation, seed, f"{name}: argument 'validation'")
    return data, adapt(validation, f"{name}: validation")
