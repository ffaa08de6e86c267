"""Checks before a run is resumed, and the warning that lists what has changed since it started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from framework.arrays import Array
from framework.callbacks import Callback
from framework.errors import ResumeWarning, UsageError
from framework.losses import Loss
from framework.models import Model
from framework.parallel.strategy import DataParallel
from framework.parallel.workers import Workers
from framework.runs.memory import pack
from framework.runs.run import Run, names_of
from framework.settings.messages import printable, warn
from framework.training.preconditions import shown

_SETTINGS = ("model", "argument 'epochs'", "loss", "optimizer", "epochs", "batch_size", "seed", "metrics", "strategy")
_ADVICE = dict.fromkeys(_SETTINGS, "use the same settings on each worker") | dict.fromkeys(
    ("data", "validation"), "give each worker all rows in the same order; DataParallel divides them itself"
)
"""The advice of an error about workers that differ, by the name of the part."""
_OF_ONE_WORKER = ("identity", "seconds", "recipe")
"""The parts of a run's progress that may differ between workers."""

OWN = ("optimizer", "seed", "preprocess", "engine")
"""Settings that belong to the run: it keeps them when it is resumed by a trainer with others."""


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
        raise UsageError("fit: argument 'run' must be a run of this model; it trains another one, run.model")
    if run.loss_function != loss:
        raise UsageError(
            f"resume: the run minimizes {run.loss_function!r}, the trainer {loss!r}; use a trainer with the run's "
            "loss, or start a new run with fit(run.model, ...)"
        )
    if not run.consistent:
        raise UsageError("resume: the run was interrupted in the middle of an update; start again with fit")


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
            "model": shown(model),
            "engine in use": engine,
            **recipe,
            "argument 'epochs'": epochs,
            "frozen parameters": model.parameters.frozen,
            **numbers_of(model),
            "bound optimizer": shown(optimizer.recipe),
            **{f"optimizer's {name}": memory for name, memory in optimizer.memory.items()},
        }
        for name, value in vars(run.progress).items():
            if name not in _OF_ONE_WORKER:
                state[f"run's {name}"] = value
        names = names_of(callbacks)
        for each in callbacks:
            name = names[id(each)]
            if name in run.memories and not (each.writes or each.observes):
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
