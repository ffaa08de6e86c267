"""Resuming: what a run must agree with before it goes on, and what is told when something has changed."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import metadata

import numpy as np

from framework.component import Component
from framework.errors import ResumeWarning, UsageError
from framework.losses import Loss
from framework.models import Model
from framework.run import Run, names_of

OWN = ("optimizer", "seed")
"""Settings that belong to the run: with a trainer that has others, the run's go on."""


def recipe_of(trainer: Component, data: str, validation: str | None) -> dict[str, str]:
    """Return what a training is made of, as text by name: a run keeps it, and a resume compares it."""
    settings = trainer.settings()
    callbacks = settings.pop("callbacks")
    del settings["epochs"]
    names = names_of(callbacks)
    return {
        **{name: repr(value) for name, value in settings.items()},
        **{f"callback {names[id(callback)]}": repr(callback) for callback in callbacks},
        "data": data,
        "validation": validation or "none",
        "versions": _versions(),
    }


@cache
def _versions() -> str:
    try:
        own = metadata.version("framework")
    except metadata.PackageNotFoundError:  # the folder is used without being installed
        own = "not installed"
    return f"framework {own}, NumPy {np.__version__}, {platform.machine()}"


def require_resumable(run: Run, model: Model, loss: Loss, layout: tuple[int, int, bool], keys: list[str]) -> None:
    """Refuse a run that cannot go on with this model, loss and data.

    Raises:
        UsageError: The run is not consistent, belongs to another model or loss, or is in the middle of another epoch.
    """
    if not isinstance(run, Run):
        raise UsageError(f"fit: argument 'run' must be a Run, as fit returns it; got {type(run).__name__}")
    if run.model is not model:
        raise UsageError("fit: argument 'run' must be a run of this model; it trains another one, run.model")
    if run.loss_function != loss:
        raise UsageError(
            f"resume: the run descends {run.loss_function!r}, the trainer {loss!r}; use a trainer with the run's "
            "loss, or begin a new run with fit(run.model, ...)"
        )
    if not run.consistent:
        raise UsageError("resume: the run was cut off in the middle of an update; start again with fit")
    if run.epoch_begun and layout != run.layout:
        raise UsageError(f"resume: the unfinished epoch has {_laid_out(run.layout)}; got {_laid_out(layout)}")
    if run.sums and list(run.sums) != keys:
        raise UsageError(
            f"resume: the unfinished epoch has counted {', '.join(run.sums)}; "
            f"got a trainer that counts {', '.join(keys)}"
        )


def _laid_out(layout: tuple[int, int, bool]) -> str:
    rows, size, shuffled = layout
    return f"{rows} rows in batches of {size}, {'shuffled' if shuffled else 'in order'}"


def tell_differences(run: Run, recipe: Mapping[str, str]) -> None:
    """Warn of everything that is not as it was when the run began.

    Of the callbacks those count that remember something; a new one begins anew, and one without memory loses nothing.
    """
    remembering = {f"callback {name}" for name, memory in run.memories.items() if memory}
    lines = []
    for name, before in run.recipe.items():
        now = recipe.get(name, "not there")
        if now != before and (not name.startswith("callback ") or name in remembering):
            kept = "; the run's own goes on" if name in OWN else ""
            lines.append(f"{name}: began with {before}, now {now}{kept}")
    if lines:
        warnings.warn(
            "\n".join(["resume: not everything is as when the run began; it may go on differently:", *lines]),
            ResumeWarning,
            stacklevel=5,
        )
