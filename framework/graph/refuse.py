"""Errors for formulas that cannot be traced: the operation, its line, and what to write instead."""

from __future__ import annotations

import linecache
import sys
from typing import NoReturn

from framework.errors import DerivativeError

_OURS = (
    "framework.graph",
    "framework.emit",
    "framework.engines.compiled",
    "framework.activations.base",
    "framework.models.base",
    "numpy",
    "scipy",
)
"""The modules that trace; the line at fault belongs to their caller."""

NO_RULE = (
    "it has no rule; use functions that have one, or write the derivative in a class: derivative or backward of an "
    "Activation, slope of a Loss, apply and apply_backward of a Layer"
)
"""The advice for a function that the table of operations does not have."""


def refuse(what: str, instead: str) -> NoReturn:
    """Raise DerivativeError for an operation that a graph cannot represent.

    Args:
        what: The operation.
        instead: What to write.

    Raises:
        DerivativeError: Always; names the line of the formula.
    """
    raise DerivativeError(f"the formula cannot be traced through {what}{line_at_fault()}: {instead}")


def line_at_fault() -> str:
    """Return the line of the formula that is being traced, in brackets; empty where no formula is."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith(_OURS):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f" (line {frame.f_lineno} of {frame.f_code.co_filename}{f': {code}' if code else ''})"
