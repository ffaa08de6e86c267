"""The loop of a training, which reads like the algorithm, and all that comes before its first step.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from framework.arithmetic import limit_threads
from framework.data.parts import Source
from framework.data.sources import hold_out, source_of
from framework.data.splits import rows_of_parts
from framework.emit.programs import refresh
from framework.engines import engine_of, supported
from framework.models import Model
from framework.models.rows import multiply_adds, prepare, settling
from framework.parallel import starting
from framework.parallel.strategy import DataParallel
from framework.parallel.workers import Workers
from framework.runs.run import Run
from framework.training.preconditions import (
    fitted_preprocess,
    recipe_of,
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
from framework.training.sharing import SharedTraining
from framework.training.training import Training

if TYPE_CHECKING:
    from framework.training.trainer import Trainer


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
    with ExitStack() as surroundings:
        workers = None if trainer.strategy is None else _join(trainer.strategy, surroundings)
        training = prepare_fit(trainer, model, data, validation, epochs, run, name, surroundings, workers, shown=shown)
        with training:
            engine = training.engine()
            while training.begin_epoch():
                engine.begin_epoch()
                for piece in training.pieces():
                    engine.advance(piece)
                training.end_epoch()
    return training.run


def _join(strategy: DataParallel, surroundings: ExitStack) -> Workers:
    """Return the workers of this training, which end together; the bits depend on the number of threads of a BLAS."""
    workers = starting.workers(strategy.timeout)
    surroundings.enter_context(workers.guard(strategy.timeout))
    surroundings.enter_context(limit_threads())
    return workers


def prepare_fit(
    trainer: Trainer,
    model: Model,
    data: Any,
    validation: Any,
    epochs: int | None,
    run: Run | None,
    name: str,
    surroundings: ExitStack,
    workers: Workers | None = None,
    **options: Any,
) -> Training:
    """Check everything before anything changes, and return what the loop works on; see ``Trainer.fit``.

    ``name`` is the caller's, for messages. The number of BLAS threads is settled until ``surroundings`` end.
    """
    figures = trainer.figures
    with rows_of_parts(validation) if isinstance(validation, float) else nullcontext(), ExitStack() as settled:
        with nullcontext() if workers is None else workers.together():  # an error of one is raised on all
            rows, validated = _both(data, validation, trainer.seed if run is None else run.seed, name)
            left = trainer.epochs if epochs is None else epochs
            left = left if run is None else max(1, left - run.epoch)
            rows.require_again(left, learns=run is None and trainer.preprocess is not None and model.preprocess is None)
            if validated is not None:
                validated.require_again(left, learns=False)
            preprocess = model.preprocess if run is not None else fitted_preprocess(trainer, model, rows, name)
            require_inputs(model, preprocess, name)
            settled.enter_context(settling(model, rows, preprocess))
            for component in (trainer.loss, *(part for _, part in model.placed()), *trainer.regularizers):
                refresh(component)
            figures.require_model(model.output_activation)
            require_counts(model, preprocess, validated, name)
            if run is not None:
                require_own(run, model, trainer.loss)
            plain = epochs is None or (type(epochs) is int and epochs >= 1)
            epochs = epochs if plain else trainer.replace(epochs=epochs).epochs  # raises the error of the setting
            wanted = trainer.engine if run is None else run.engine
            engine_of(wanted).require()  # the checks of the data use the compiler too
            batched = [metric for metric in trainer.metrics if metric.key in figures.keys]
            source = prepare(
                rows, model, figures.losses, name, metrics=batched, sampling=trainer.sampling, fingerprinted=True
            )
            digest, held_out = source.fingerprint(), None  # first, as it reads the names of the columns
            if validated is not None:
                seen, where = source.columns, f"{name}: validation"
                held_out = prepare(validated, model, figures.losses, where, seen, trainer.metrics, fingerprinted=True)
            for regularizer in trainer.regularizers:
                regularizer.names(model.parameters)  # refuses a pattern that matches none
            require_columns(trainer, name, validated=held_out is not None)
            require_last_batch(source.rows, trainer.batch_size, model, name)
            require_shards(trainer, model, name)
            formulas, shards = (model, trainer.loss, trainer.optimizer), trainer.strategy is not None
            engine = supported(wanted, *formulas, trainer.regularizers, shards=shards, resumed=run is not None)
            validated_on = None if held_out is None else held_out.fingerprint()
            size = min(trainer.batch_size, source.rows or trainer.batch_size)
            sample = model.input_shape if source.columns.shape is None else source.columns.shape
            surroundings.enter_context(limit_threads(multiply_adds(model, size, sample)))
            recipe = recipe_of(trainer, model, digest, validated_on, engine)
            resumed = run is not None
            run = run or Run(model, trainer.optimizer.bind(model), trainer.loss, trainer.seed, engine.name)
            training = _training(trainer, run, source, held_out, workers=workers, **options)
            if resumed:
                require_same_epoch(run, training.layout, recipe)
                tell_differences(run, recipe)
        if workers is not None and workers.size > 1:
            require_alike(workers, run, recipe, trainer.callbacks, epochs, engine.name)
            tell_idle(workers, trainer.strategy, name)
        training.complete(recipe, engine.name, epochs, preprocess)
        return training


def _training(trainer: Trainer, *parts: Any, workers: Workers | None, **options: Any) -> Training:
    """Return a training in this process, or on several workers."""
    if workers is None or trainer.strategy is None:
        return Training(trainer, *parts, **options)
    return SharedTraining(trainer, *parts, workers=workers, strategy=trainer.strategy, **options)


def _both(data: Any, validation: Any, seed: int, name: str) -> tuple[Source, Source | None]:
    """Return the training data and the validation data, which may be a part of it."""
    source, of_validation = source_of(data, name), f"{name}: validation"
    if isinstance(validation, float):
        source, held_out = hold_out(source, validation, seed, f"{name}: argument 'validation'")
        return source, held_out.named(of_validation)
    return source, None if validation is None else source_of(validation, of_validation)
