"""Errors for formulas that cannot be traced or fail on arrays: the operation, its line, and what to write instead."""

from __future__ import annotations

import linecache
import traceback
from typing import NoReturn

from framework.base.errors import Advice, DerivativeError

_OURS = (
    "framework.graph",
    "framework.backends",
    "framework.formulas.activations.base",
    "framework.models.base",
    "numpy",
    "scipy",
)
"""The modules that trace; the line at fault belongs to their caller."""

_RULES = (
    "use functions that have one, or write the derivative in a class: derivative or backward of an Activation, slope "
    "of a Loss, apply and apply_backward of a Layer"
)
NO_RULE = "it has no rule", _RULES
"""The advice for a function that the table of operations does not have."""

CANNOT = "the formula cannot be traced"
"""The subject of the errors of ``refuse``."""

ONE_HOT = (
    "the target of a RowLoss has one-hot rows: np.sum(target * prediction, axis=-1), or target.argmax(axis=-1) as index"
)
"""The advice for an index by such a target."""


def refuse(what: str, instead: str, more: str = "") -> NoReturn:
    """Raise DerivativeError for an operation that a graph cannot represent.

    Args:
        what: The operation.
        instead: What to write.
        more: Further advice.

    Raises:
        DerivativeError: Always; names the line of the formula.
    """
    advice = Advice(instead, after=": ")
    raise DerivativeError(f"through {what}{line_at_fault()}", name=CANNOT, advice=advice).advise(more)


def line_at_fault(error: BaseException | None = None) -> str:
    """Return the line of the formula that is being traced, or that raised an error, in brackets; empty if it has none.

    Args:
        error: An error that was caught where the formula was called.
    """
    lines = traceback.walk_stack(None) if error is None else reversed([*traceback.walk_tb(error.__traceback__)])
    for frame, number in lines:
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            code = linecache.getline(frame.f_code.co_filename, number).strip()
            return f" (line {number} of {frame.f_code.co_filename}{f': {code}' if code else ''})"
    return ""
