"""The activations that every textbook has."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.activations.base import Activation
from framework.arrays import LARGEST_EXPONENT

_FLOAT32 = np.dtype(np.float32)
_LARGEST = LARGEST_EXPONENT["float64"]
_LARGEST_EXPONENTS = np.array(_LARGEST), np.array(LARGEST_EXPONENT["float32"], _FLOAT32)
"""Arrays, because NumPy would make one of a Python number at each call."""


def _held(exponent: Any) -> Any:
    """Return exponents held at the largest one whose exponential is finite in their dtype."""
    if type(exponent) is np.float64 and not exponent > _LARGEST:  # np.minimum takes a twentieth of a scripted step
        return exponent
    return np.minimum(exponent, _LARGEST_EXPONENTS[getattr(exponent, "dtype", None) == _FLOAT32])


class Identity(Activation):
    """f(h) = h, f'(h) = 1. For regression. Range (-inf, inf).

    Example:
        >>> Identity()(3.0), float(Identity().derivative(3.0))
        (3.0, 1.0)
    """

    output_range = (-np.inf, np.inf)

    def __call__(self, h: Any) -> Any:
        return h


class Sigmoid(Activation):
    """f(h) = 1 / (1 + exp(-h)), f'(h) = f(h) (1 - f(h)). For probabilities. Range (0, 1).

    This is the textbook formula, bit for bit, with the exponent held below the logarithm of the dtype's largest number:
    it never overflows, and for large negative h it keeps its relative accuracy. (A form with two branches, one for each
    sign, would give other last bits.)

    Example:
        >>> float(Sigmoid()(0.0)), float(Sigmoid().derivative(0.0))
        (0.5, 0.25)

    Source:
        Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).
    """

    output_range = (0.0, 1.0)

    def __call__(self, h: Any) -> Any:
        return 1.0 / (1.0 + np.exp(_held(-h)))


class Tanh(Activation):
    """f(h) = tanh(h), f'(h) = 1 - tanh(h)^2. Range (-1, 1).

    Example:
        >>> float(Tanh()(0.0)), float(Tanh().derivative(0.0))
        (0.0, 1.0)

    Source:
        LeCun et al., Efficient BackProp (1998), section 4.4.
    """

    output_range = (-1.0, 1.0)

    def __call__(self, h: Any) -> Any:
        return np.tanh(h)


class Softmax(Activation):
    """a_i = exp(h_i) / sum_j exp(h_j) over the last axis: the probabilities of classes, which sum to 1. Range (0, 1).

    The row's maximum is subtracted first, which changes nothing but the overflow.

    Example:
        >>> Softmax()(np.array([1000.0, 1000.0]))
        array([0.5, 0.5])

    Source:
        Bridle, Probabilistic interpretation of feedforward classification network outputs (1990).
    """

    output_range = (0.0, 1.0)

    def __call__(self, h: Any) -> Any:
        exponentials = np.exp(h - np.max(h, axis=-1, keepdims=True))
        return exponentials / np.sum(exponentials, axis=-1, keepdims=True)
