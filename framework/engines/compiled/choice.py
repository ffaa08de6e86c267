"""Select the engine, and decide when a compiled run falls back to NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from framework.engines.compiled.lower import lowered
from framework.engines.records import CannotLower
from framework.errors import UsageError
from framework.extras import installing
from framework.losses import Loss
from framework.models import Model
from framework.native import available, llvm
from framework.optimizers import Optimizer
from framework.regularizers import Regularizer
from framework.settings.messages import warn


def choose(
    wanted: str,
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    regularizers: Sequence[Regularizer] = (),
    *,
    shards: bool = False,
) -> str:
    """Return the engine of a run, "compiled" or "numpy", given "auto" or "compiled" and the formulas alone."""
    if wanted == "auto" and not available():
        return "numpy"
    try:
        lowered(model, loss, optimizer, regularizers, shards=shards)
    except CannotLower as reason:
        if wanted == "compiled":
            warn(f"engine='compiled': falling back to NumPy: {reason}")
        return "numpy"
    return "compiled"


def require_available() -> None:
    """Check that llvmlite is installed, and load it, so that the checks of the data use native code too.

    Raises:
        UsageError: It is missing.
    """
    if not available():
        raise UsageError(f"engine='compiled' needs llvmlite: {installing('llvmlite')}")
    with suppress(Exception):  # a broken llvmlite: the first step falls back to NumPy, and says why
        llvm()
