"""Ranges: what axes show, given by the caller or found so that it encloses some points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from framework.arrays import Array
from framework.errors import SettingsError
from framework.settings.messages import brief

Span = tuple[float, float]


def span_of(span: Any, name: str, argument: str = "span") -> Span:
    """Return a range as two floats.

    Raises:
        SettingsError: It is something else than two increasing numbers.

    Example:
        >>> span_of([-1, 2], "activation")
        (-1.0, 2.0)
    """
    ends = [*span] if isinstance(span, Sequence) and not isinstance(span, str) else []
    numbers = len(ends) == 2 and all(isinstance(end, Real) and math.isfinite(end) for end in ends)
    if not numbers or ends[0] >= ends[1]:
        raise SettingsError(
            f"plots.{name}: argument '{argument}' must be two increasing numbers, as (-5, 5); got {brief(span)}"
        )
    return float(ends[0]), float(ends[1])


def two_spans(span: Any, name: str) -> tuple[Span, Span]:
    """Return the ranges of two axes.

    Raises:
        SettingsError: There are not two of them, or one is not two increasing numbers.

    Example:
        >>> two_spans(((0, 1), (-2, 2)), "loss_surface")
        ((0.0, 1.0), (-2.0, 2.0))
    """
    if not isinstance(span, Sequence) or len(span) != 2 or not all(isinstance(each, Sequence) for each in span):
        raise SettingsError(
            f"plots.{name}: argument 'span' must be a range for each axis, as ((-1, 1), (0, 5)); got {brief(span)}"
        )
    return span_of(span[0], name, "span[0]"), span_of(span[1], name, "span[1]")


def enclosing(points: Array, share: float) -> tuple[Span, Span]:
    """Return the ranges that enclose points (points, 2), with a share of the extent as room on each side.

    An axis on which all points are alike has the room of the other one, or 1.

    Example:
        >>> import numpy as np
        >>> enclosing(np.array([[0.0, 5.0], [10.0, 5.0]]), 0.1)
        ((-1.0, 11.0), (4.0, 6.0))
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extents = high - low
    rooms = [share * float(extent or extents.max() or 1.0 / share) for extent in extents]
    first, second = ((float(a - r), float(b + r)) for a, b, r in zip(low, high, rooms, strict=True))
    return first, second
