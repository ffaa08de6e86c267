"""Periodic activations, for networks that learn a signal as a function of its coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.activations.base import Activation
from framework.activations.stable import scaled
from framework.settings.component import Positive


class Sine(Activation):
    """f(h) = sin(omega h), f'(h) = omega cos(omega h). Range [-1, 1].

    For coordinate networks (SIREN): omega = 30 in the paper, with weights drawn evenly from +-sqrt(6 / inputs) / omega,
    and from +-1 / inputs in the first layer. The phase omega h is held at 1.7e308 (3.4e38 in float32), where it would
    overflow and have no sine.

    Attributes:
        frequency: omega, in radians per unit of h.

    Example:
        >>> round(float(Sine(frequency=np.pi)(0.5)), 6), float(Sine().derivative(0.0))
        (1.0, 30.0)

    Source:
        Sitzmann et al., Implicit neural representations with periodic activation functions (2020), section 3.2.
    """

    output_range = (-1.0, 1.0)
    frequency: Positive = 30.0

    def __call__(self, h: Any) -> Any:
        return np.sin(scaled(h, self.frequency))
