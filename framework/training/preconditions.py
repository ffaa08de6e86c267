"""Preconditions: what training refuses before anything changes, and what a resume and several workers compare."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import (
    Advice,
    DerivativeError,
    ResumeWarning,
    SettingsError,
    ShapeError,
    UsageError,
    brief,
    nearest,
)
from framework.base.settings.component import classes_by_tag, full_repr
from framework.base.settings.messages import printable, warn
from framework.data.parts import Source
from framework.formulas.losses import Loss
from framework.formulas.losses.base import column_name
from framework.formulas.metrics import Metric
from framework.formulas.schedules import Schedule
from framework.models import Layer, Model
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.reading import Blocks
from framework.training.callbacks import Callback
from framework.training.engines import Engine
from framework.training.engines.step import overrides_loop
from framework.training.runs.memory import pack
from framework.training.runs.run import Run, names_of

if TYPE_CHECKING:
    from framework.training.parallel.strategy import DataParallel
    from framework.training.parallel.workers import Workers
    from framework.training.trainer import Trainer

_SETTINGS = ("model", "argument 'epochs'", "loss", "optimizer", "epochs", "batch_size", "seed", "metrics", "strategy")
_ADVICE = dict.fromkeys(_SETTINGS, "use the same settings on each worker") | dict.fromkeys(
    ("data", "validation"), "give each worker all rows in the same order; DataParallel divides them itself"
)
"""The advice of an error about workers that differ, by the name of the part."""
_OF_ONE_WORKER = ("identity", "seconds", "recipe")
"""The parts of a run's progress that may differ between workers."""

OWN = ("optimizer", "seed", "preprocess", "engine")
"""Settings that belong to the run: it keeps them when it is resumed by a trainer with others."""


def _metric_of(key: str) -> str | None:
    """Return the name of the metric whose column is called so, the user's own among them."""
    metrics = {tag: cls for tag, cls in classes_by_tag().items() if issubclass(cls, Metric) and tag[0] != "_"}
    return next((tag for tag, cls in metrics.items() if column_name(cls) == key), None)


def require_columns(trainer: Trainer, name: str, *, validated: bool) -> None:
    """Refuse a metric and callbacks that the columns of the history cannot serve.

    Args:
        trainer: The settings.
        name: The caller, for messages.
        validated: Whether there is validation data.

    Raises:
        SettingsError: A metric needs all rows at once, but there is no validation data; a callback reads a column which
            the history will not have; or it takes the worst value of a metric, a loss or the penalty for its best.
    """
    figures, keys = trainer.figures, trainer.columns(validated=validated)
    in_file = "write validation = 0.2 in the file, or --set validation=0.2"
    advice = Advice(f"give {name} validation=(x, y)", command=in_file)
    for metric in () if validated else figures.whole:
        problem = "needs all rows at once, so it is computed in validation only"
        raise SettingsError(problem, name=f"{name}: metric '{metric.key}'", expected="validation", advice=advice)
    better = {"penalty": "smaller"} | figures.better
    for callback in trainer.callbacks:
        for key in callback.required_keys():
            if key not in keys:
                problem = f"{type(callback).__name__} reads {key!r}, which the history will not have"
                error = SettingsError(problem, where=name)
                if key.startswith("val_") and not validated:
                    error.expected, error.advice = "validation", (advice,)
                elif absent := _metric_of(key.removeprefix("val_")):
                    error.advise(f"add {absent} to the trainer's metrics")
                else:
                    error.problem += nearest(key, keys)
                raise error.advise(f"Columns: {', '.join(keys)}")
        for key, mode in callback.judged().items():
            kind = better.get(key.removeprefix("val_"))
            wanted = {"greater": "max", "smaller": "min"}.get(kind or "", mode)
            if mode != wanted:
                raise SettingsError(
                    f"{name}: {type(callback).__name__} judges {key!r} by mode={mode!r}, but it is better when it is "
                    f"{kind}; write mode={wanted!r}"
                )
    if len(restoring := [type(callback).__name__ for callback in trainer.callbacks if callback.restores]) > 1:
        raise SettingsError(
            f"{name}: {' and '.join(restoring)} put weights back when training ends; keep one of them, or set "
            "restore_best=False"
        )


def require_categories(model: Model, preprocess: FittedPreprocess | None, validation: Source | None, name: str) -> None:
    """Check that each Embedding takes all ids of its column, and that a target has an output for each class.

    Raises:
        SettingsError: Names the column and both numbers of ids.
        ShapeError: Says how many outputs and classes there are.
        DataError: The validation data has a class that the training data lacks.
    """
    if preprocess is None:
        return
    limits = model.cardinalities(preprocess.shape) if preprocess.vocabularies else {}
    for column, count in preprocess.vocabularies.items():
        if limits[column] < count:
            problem = f"has {count} ids, and its Embedding takes {int(limits[column])}; write Embedding({count}, ...)"
            raise SettingsError(problem, name=f"{name}: column {column!r}")
    for target, classes in preprocess.classes.items():
        shape = model.output_shape
        shape = shape.get(target) if isinstance(shape, dict) else shape
        outputs = 1 if shape == () else shape[0] if shape is not None and len(shape) == 1 else None
        if outputs is not None and outputs != len(classes) and (outputs, len(classes)) != (1, 2):
            # If the validation data has further classes, the error says so instead.
            for block in () if validation is None else Blocks(validation):
                y = None if block.y is None else block.y.native
                preprocess.transform_target(y, name=f"{name}: validation", start=block.start)
            raise ShapeError(
                f"{name}: target {target!r} has {len(classes)} classes, and the model gives "
                f"{outputs} number{'s' * (outputs > 1)}; end it with Dense(units={len(classes)}, activation=Softmax())"
            )


def require_inputs(model: Model, preprocess: FittedPreprocess | None, name: str) -> None:
    """Refuse a model that does not take the numbers or the ids of its Preprocess.

    Raises:
        ShapeError: Says what the Preprocess gives, and how the model is to begin.
    """
    columns, inputs = None if preprocess is None else preprocess.shape, model.input_shape
    if preprocess is None or model.takes(columns):
        return
    if isinstance(columns, dict) and not isinstance(inputs, dict):
        ids = [f"{column}=Embedding({count}, 4)" for column, count in preprocess.vocabularies.items()]
        parts = ", ".join(["numbers=Input()"] * bool(preprocess.names) + ids)
        raise ShapeError(
            f"{name}: Levels gives ids of {', '.join(map(repr, preprocess.vocabularies))}, which need an Embedding; "
            f"begin the model with Join({parts}), or write OneHot for Levels"
        )
    if isinstance(columns, tuple) and isinstance(inputs, tuple) and len(inputs) == 1:
        raise ShapeError(
            f"{name}: the Preprocess gives {columns[0]} numbers for a row, {brief([*preprocess.names])}, and the model "
            f"takes {inputs[0]}; leave the number of inputs out, as in Dense(units=8)"
        )


def fit_preprocess(
    trainer: Trainer, model: Model, source: Source, name: str, learnt: FittedPreprocess | None = None
) -> FittedPreprocess | None:
    """Return the Preprocess that a model keeps, or the one that the recipe learns from the data, or has ``learnt``.

    Raises:
        SettingsError: That of the model was fitted from another recipe, or it has none and its weights were trained
            without it; says what to write.
    """
    kept = model.preprocess
    if trainer.preprocess is None or (kept is not None and kept.recipe == trainer.preprocess):
        return kept
    if kept is not None:
        origin = (
            "comes from another recipe than the trainer's" if kept.recipe else "does not say which recipe it comes from"
        )
        raise SettingsError(
            f"{name}: the model's preprocess {origin}, and its weights belong to it; to keep it, leave preprocess out "
            "of the trainer; to learn the trainer's, train a new model, or write model.preprocess = None if its "
            "weights are untrained"
        )
    if not model.list_unsettled() and model._built().columns.trained:
        raise SettingsError(
            f"{name}: the model was trained without a Preprocess, and its weights belong to numbers that none has "
            "changed; train a new model, leave preprocess out of the trainer, or write model.preprocess = "
            "recipe.fit(data) to use one with these weights anyway"
        )
    return learnt or trainer.preprocess.fit(source, name)


def require_last_batch(rows: int | None, size: int, model: Model, name: str) -> None:
    """Refuse data whose last batch is too small for a layer, such as one row for BatchNorm.

    Raises:
        ShapeError: Says how many rows the model needs.
    """
    if rows is None:  # of a stream; the layer refuses such a batch itself
        return
    last, needed = rows % size or min(rows, size), max(layer.minimum_rows for _, layer in model.walk_models())
    if last < needed:
        raise ShapeError(
            f"{name}: {rows} rows in batches of {size} leave a last batch of {last}, and the model needs "
            f"{needed} rows or more to train; choose another batch_size"
        )


def mixing(model: Model) -> list[tuple[str, Layer]]:
    """Return the layers that need all rows of a batch, for outputs or buffers, as BatchNorm, after their places."""
    layers = ((path, layer) for path, layer in model.walk_models() if isinstance(layer, Layer))
    return [(path, layer) for path, layer in layers if layer.mixes_rows or layer._initial_buffers()]


def require_shards(trainer: Trainer, model: Model, name: str) -> None:
    """Refuse layers that need all rows of a batch, unless formulas alone say how parts of it are computed.

    Raises:
        SettingsError: Names the layer.
    """
    for path, layer in [] if trainer.strategy is None else mixing(model):
        where = f"layer {path}, {type(layer).__name__}," if path else type(layer).__name__
        try:
            # Code that runs it, or the loss after it, on arrays cannot wait for sums over all rows.
            outer = (host for at, host in model.walk_models() if at != path and f"{path}.".startswith(at and f"{at}."))
            writer = next((f"{type(host).__name__}.apply_backward" for host in outer if host.by_hand), None)
            if writer := writer or overrides_loop(trainer.loss):
                raise DerivativeError(  # noqa: TRY301
                    f"{writer} computes with arrays, and sums over all rows are found in a formula alone; leave "
                    f"{writer} out"
                )
            layer.require_shards()
        except DerivativeError as error:
            what = "mixes the rows of a batch" if layer.mixes_rows else "keeps buffers that a batch changes"
            raise SettingsError(
                f"{name}: strategy=DataParallel computes parts of a batch by themselves, and {where} {what}: {error}; "
                "or use a layer of each row alone, such as LayerNorm, or leave the strategy out"
            ) from None


def recipe_of(
    trainer: Trainer, model: Model, data: str, validation: str | None, engine: type[Engine]
) -> dict[str, str]:
    """Return what a training is made of, as text by name; a run keeps it, and a resume compares it."""
    python = ", ".join(model.by_python)
    settings = trainer.settings()
    callbacks, _ = settings.pop("callbacks"), settings.pop("progress")
    names, strategy = names_of(callbacks), settings["strategy"]
    spread = None  # the setting that decides the bits, whatever the number of workers
    if strategy is not None:
        spread = f"shards={strategy.shards}" if strategy.deterministic else "deterministic=False"
    return {
        **{name: format_settings(value) for name, value in settings.items() if value is not None},
        **{
            f"callback {names[id(callback)]}": format_settings(callback)
            for callback in callbacks
            if not callback.observes
        },
        "data": data,
        "validation": validation or "none",
        "versions": _versions(),
        **({} if spread is None else {"strategy": f"DataParallel({spread})"}),
        **engine.identity(flush_to_zero=trainer.flush_to_zero),
        **({"python": python} if python else {}),
    }


def format_settings(value: object) -> str:
    """Return the repr with every setting, whose default may change, and without what differs between processes."""
    text = full_repr(value)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text) if " at 0x" in text else text


@cache
def _versions() -> str:
    try:
        own = metadata.version("framework")
    except metadata.PackageNotFoundError:  # the folder is used without being installed
        own = "not installed"
    return f"framework {own}, NumPy {np.__version__}, {platform.machine()}"


def require_own(run: Run, model: Model, loss: Loss) -> None:
    """Raise an error for a run that cannot be resumed with this model and loss.

    Raises:
        UsageError: It is in training, is not consistent, or belongs to another model or loss.
    """
    if run.active:
        raise UsageError(
            "resume: the run is in training at this moment; in a hook call run.stop(reason), and resume when fit has "
            "returned"
        )
    if run.model is not model:
        raise UsageError("must be a run of this model; it trains another one, run.model", name="fit: argument 'run'")
    if run.loss_function != loss:
        raise UsageError(
            f"resume: the run minimizes {run.loss_function!r}, the trainer {loss!r}; use a trainer with the run's "
            "loss, or start a new run with fit(run.model, ...)"
        )
    if not run.consistent:
        raise UsageError("the run was interrupted in the middle of an update; start again with fit", where="resume")


def require_alike(
    workers: Workers,
    run: Run,
    recipe: Mapping[str, str],
    callbacks: Iterable[Callback],
    epochs: int | None,
    engine: str,
) -> None:
    """Refuse workers that would not train the same model on the same data with the same arithmetic.

    Args:
        workers: The workers.
        run: A new run, or one that is resumed. It gets one identity on all workers.
        recipe: What this training is made of.
        callbacks: Those of the trainer. Memories of callbacks that write or only observe may differ.
        epochs: The argument of ``fit``.
        engine: The engine in use.

    Raises:
        UsageError: They differ; says in what.
    """
    with workers.together():
        model, optimizer, arrays = run.model, run.optimizer, dict[str, Array]()
        state: dict[str, Any] = {
            "model": format_settings(model),
            "engine in use": engine,
            **recipe,
            "argument 'epochs'": epochs,
            "frozen parameters": model.parameters.frozen,
            **numbers_of(model),
            "bound optimizer": format_settings(optimizer.recipe),
            **{f"optimizer's {name}": memory for name, memory in optimizer.memory.items()},
        }
        for name, value in vars(run.progress).items():
            if name not in _OF_ONE_WORKER:
                state[f"run's {name}"] = value
        names = names_of(callbacks)
        for callback in callbacks:
            name = names[id(callback)]
            if name in run.memories and not (callback.writes or callback.observes):
                state[f"memory of {name}"] = pack(dict(run.memories[name]), f"memory of {name}", arrays)
    workers.require_equal(state | arrays, "fit: ", _ADVICE)
    run.identity = workers.broadcast(run.identity)


def tell_idle(workers: Workers, strategy: DataParallel | None, name: str) -> None:
    """Warn, on worker 0, of more workers than shards."""
    if strategy is None or not strategy.deterministic or strategy.shards >= workers.size:
        return
    with workers.together():  # a warning may be an error
        if workers.rank == 0:
            warn(
                f"{name}: only {strategy.shards} of {workers.size} workers compute, each a shard; start fewer workers, "
                f"or begin a new run with DataParallel(shards={workers.size})"
            )


def numbers_of(model: Model) -> dict[str, Array]:
    """Return the parameters and the buffers of a model, by name."""
    parameters = {f"parameter {name}": array for name, array in model.parameters.items()}
    return parameters | {f"buffer {name}": array for name, array in model.buffers.items()}


def require_same_epoch(run: Run, layout: tuple[int, int, bool], recipe: Mapping[str, str]) -> None:
    """Refuse to continue with other shards, and to finish an epoch in another way than it began.

    Raises:
        UsageError: The run has other shards; or the unfinished epoch had other batches, or counted other figures.
    """
    before, now = run.recipe.get("strategy"), recipe.get("strategy")
    if before and now and before != now:
        raise UsageError(
            f"resume: the run has strategy={before}; got {now}; continue with strategy={before}: only the number "
            "of workers may change"
        )
    if run.epoch_begun and layout != run.layout:
        raise UsageError(
            f"resume: the unfinished epoch has {_laid_out(run.layout)}; got {_laid_out(layout)}; finish it with the "
            "same data, batch_size, accumulate and shuffle"
        )
    drawn = run.recipe.get("sampling")
    if run.epoch_begun and drawn != recipe.get("sampling"):
        raise UsageError(
            f"resume: the unfinished epoch has sampling={drawn}; got {recipe.get('sampling')}; finish it with the same"
        )
    counted = run.recipe.get("metrics", recipe["metrics"])
    if run.sums and counted != recipe["metrics"]:
        raise UsageError(
            f"resume: the unfinished epoch has counted the metrics {printable(counted)}; got {recipe['metrics']}; "
            "finish it with the same metrics"
        )


def settle_length(run: Run, layout: tuple[int, int, bool], target: int) -> None:
    """Give a schedule without a length the updates of this fit, if it is the run's first.

    Raises:
        SettingsError: A resume is longer than that; or the data is a stream, whose number of rows is not known.
    """
    optimizer, (rows, size, _) = run.optimizer, layout
    schedule = optimizer.recipe.learning_rate
    if not isinstance(schedule, Schedule) or not schedule.open:
        return
    if not rows:
        raise SettingsError(
            f"fit: {schedule!r} takes its length from the fit, and a stream does not say how many rows it has; give "
            "the schedule a 'length', in updates"
        )
    batches = -(-rows // size)
    end = run.step + max(target - run.epoch, 0) * batches - run.batch
    if optimizer.length is None:
        schedule.over(end)  # raises where a fit is too short
        optimizer.length = end
    if end > optimizer.length:
        raise SettingsError(
            f"resume: {schedule!r} has no setting 'length', so its length is that of the run's first fit, "
            f"{optimizer.length} updates; this resume ends after {end}. Resume to epoch "
            f"{run.epoch + (optimizer.length - run.step + run.batch) // batches} at most, begin a new fit with more "
            "epochs, or assign another rate: run.optimizer.learning_rate = 0.0001"
        )


def _laid_out(layout: tuple[int, int, bool]) -> str:
    rows, size, shuffled = layout
    return f"{rows} rows in batches of {size}, {'shuffled' if shuffled else 'in order'}"


def tell_differences(run: Run, recipe: Mapping[str, str]) -> None:
    """Warn of settings, data, versions and callbacks that changed since the run started."""
    before, lines = run.recipe, []
    for name in dict.fromkeys([*before, *recipe] if before else ()):  # empty for a run made by hand
        was, now = before.get(name, "absent"), recipe.get(name, "absent")
        if was != now and name != "epochs":
            kept = "; the run keeps its own" if name in OWN else ""
            lines.append(printable(f"{name}: was {was}, now {now}{kept}"))
    if lines:
        warn("\n".join(["resume: these changed since the run started, so results may differ:", *lines]), ResumeWarning)
