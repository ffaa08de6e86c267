"""Engines by name. An engine is imported when a training asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from framework.engines.base import Engine
from framework.losses import Loss
from framework.models import Model
from framework.optimizers import Optimizer
from framework.regularizers import Regularizer
from framework.settings.messages import warn

ENGINES = {
    "numpy": ("framework.engines.base", "Engine"),
    "compiled": ("framework.engines.compiled.engine", "CompiledEngine"),
    "many": ("framework.engines.compiled.engine", "ManyRunEngine"),
    "jax": ("framework.engines.jax.engine", "JaxEngine"),
}
"""The module and the class of each engine."""

AUTO = "auto"
"""The name for the compiled engine where it can be used, and NumPy elsewhere, without a warning."""


def engine_of(name: str) -> type[Engine]:
    """Return the engine of a name.

    Example:
        >>> engine_of("numpy").name
        'numpy'
    """
    if name == AUTO:
        name = "compiled" if find_spec("llvmlite") is not None else Engine.name
    module, kind = ENGINES[name]
    engine: type[Engine] = getattr(import_module(module), kind)
    return engine


def supported(
    name: str,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    regularizers: Sequence[Regularizer] = (),
    *,
    shards: bool = False,
    resumed: bool = False,
) -> type[Engine]:
    """Return the engine of a name, or NumPy's with a warning where that one cannot make the steps of a training.

    A run that is ``resumed`` keeps its engine, which says at its first step what it cannot make.
    """
    engine = engine_of(name)
    reason = ""
    if shards and not engine.computes_shards:
        reason = "it does not compute the shards of DataParallel"
    elif not resumed:
        reason = engine.reason_against(model, loss, optimizer, regularizers, shards=shards)
    if reason and name != AUTO:
        warn(f"engine={name!r}: falling back to NumPy: {reason}")
    return Engine if reason else engine


def outputs_of(model: Model, name: str) -> Callable[[Any], tuple[Any, Any]] | None:
    """Return what computes (h, a) of a batch in the engine of a name; None is ``model.output``.

    Raises:
        UsageError: The engine needs something that is not installed.
    """
    engine = engine_of(name)
    engine.require()
    return engine.predictor(model, quiet=name == AUTO)
