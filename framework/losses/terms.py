"""The terms that several losses are made of."""

from __future__ import annotations

from typing import Any

import numpy as np


def times_log(x: Any, y: Any) -> Any:
    """Return x log y, 0 where x is 0 and y is not negative."""
    return x * np.log(y + (x == 0.0))


def smoothed(target: Any, smoothing: float, classes: int) -> Any:
    """Return (1 - smoothing) target + smoothing / classes: some of each target's weight is spread over all classes.

    Source:
        Szegedy et al., Rethinking the Inception architecture for computer vision (2016), section 7.
    """
    return target if smoothing == 0.0 else (1.0 - smoothing) * target + smoothing / classes
