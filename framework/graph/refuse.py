"""Refusals: what a formula must not do, with the line that does it and what to write instead."""

from __future__ import annotations

import linecache
import sys
from typing import NoReturn

from framework.errors import DerivativeError

_OURS = ("framework.graph", "framework.emit", "framework.compiled", "framework.activations.base", "numpy")
"""The modules that trace; the line at fault belongs to their caller."""


def refuse(what: str, instead: str) -> NoReturn:
    """Raise the error for an operation that a graph cannot hold.

    Args:
        what: The operation.
        instead: What to write.

    Raises:
        DerivativeError: Always; names the line of the formula.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back  # type: ignore[assignment]
    where = ""
    if frame is not None:
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        where = f" (line {frame.f_lineno} of {frame.f_code.co_filename}{f': {code}' if code else ''})"
    raise DerivativeError(f"the formula cannot be traced through {what}{where}: {instead}")
