"""The activations that every textbook has, and functions that several formulas share.

These functions neither overflow nor lose small values: their exponentials take no positive argument, as exp(-|h|) lies
in (0, 1] for every h, and becomes 0 where it should.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.base.arrays import LARGEST, LARGEST_EXPONENT
from framework.formulas.activations.base import Activation

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


def logistic(h: Any) -> Any:
    """Return 1 / (1 + exp(-h)), with its relative accuracy kept down to the smallest numbers and exactly 0 beyond.

    ``Sigmoid`` keeps the bits of the textbook formula and stays above 0, so its product with h = -1e308 is not 0.

    Example:
        >>> float(logistic(0.0)), float(logistic(-1e308))
        (0.5, 0.0)
    """
    return np.exp(np.minimum(h, 0.0)) / (1.0 + np.exp(-np.abs(h)))


def softplus(h: Any) -> Any:
    """Return log(1 + exp(h)) as max(h, 0) + log(1 + exp(-|h|)).

    Example:
        >>> round(float(softplus(0.0)), 6), float(softplus(1e308)), float(softplus(-1e308))
        (0.693147, 1e+308, 0.0)
    """
    return np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))


def times_log(x: Any, y: Any) -> Any:
    """Return x log y, 0 where x is 0 and y is not negative.

    Example:
        >>> float(times_log(0.0, 0.0)), float(times_log(2.0, 1.0))
        (0.0, 0.0)
    """
    return x * np.log(y + (x == 0.0))


def scale_in_range(h: Any, factor: float) -> Any:
    """Return factor * h, held at 1.7e308 (3.2e38 in float32) where the product would overflow.

    Example:
        >>> float(scale_in_range(0.5, 30.0)), float(scale_in_range(-1e308, 30.0)) > -1.8e308
        (15.0, True)
    """
    if factor <= 1.0:
        return factor * h
    limit = 0.95 * LARGEST[np.dtype(getattr(h, "dtype", float))] / factor
    return factor * np.clip(h, -limit, limit)
