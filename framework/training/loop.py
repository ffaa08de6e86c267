"""The loop of a training, which reads like the algorithm, and all that comes before its first step.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from framework.arithmetic import limit_threads
from framework.data.checks import settling
from framework.data.sources import ArraySource, adapt, prepare
from framework.data.splits import hold_out, rows_of_parts
from framework.data.streams import Stream
from framework.emit.programs import refresh
from framework.engines import engine_of, supported
from framework.models import Model
from framework.models.rows import multiply_adds
from framework.parallel import starting
from framework.parallel.strategy import DataParallel
from framework.parallel.workers import Workers
from framework.runs.run import Run
from framework.training.preconditions import (
    fitted_preprocess,
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
from framework.training.sharing import SharedTraining
from framework.training.training import Training
from framework.trees import sample_shape

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
            batched = [metric for metric in trainer.metrics if metric.key in figures.keys]
            source = prepare(
                data, model, figures.losses, name, metrics=batched, sampling=trainer.sampling, fingerprinted=True
            )
            held_out = None
            if validation is not None:
                seen, where = source.columns, f"{name}: validation"
                held_out = prepare(validation, model, figures.losses, where, seen, trainer.metrics, fingerprinted=True)
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
            surroundings.enter_context(limit_threads(multiply_adds(model, rows, sample)))
            recipe = recipe_of(trainer, model, source.fingerprint(), validated_on, engine)
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


def _both(data: Any, validation: Any, seed: int, name: str) -> tuple[Any, Any]:
    """Return the training data and the validation data, which may be a part of it."""
    data = adapt(data, name)
    known = isinstance(data, tuple | list | Stream) or hasattr(data, "read")  # anything else is refused later
    if isinstance(validation, float) and known:
        return hold_out(data, validation, seed, f"{name}: argument 'validation'")
    return data, adapt(validation, f"{name}: validation")
