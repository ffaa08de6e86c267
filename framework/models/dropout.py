"""Dropout: some inputs are left out at random, so that no unit can rely on another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from framework.arrays import Array, Record
from framework.component import Fraction
from framework.errors import UsageError
from framework.models.layer import Layer
from framework.random_streams import random_generator


class Dropout(Layer):
    """In training each input is 0 with probability ``rate``, else x / (1 - rate); in prediction x stays as it is.

    Dividing in training keeps the mean ("inverted" dropout), so prediction needs no factor. The mask is a pure
    function of the key of ``forward`` and of the batch's shape, and the same in both dtypes. Backward uses the mask of
    its forward. A sample has one axis: after an Embedding, Flatten first.

    Args:
        rate: The fraction that is left out, in [0, 1). A rate of 0 draws nothing and needs no key.
        seed: Of no use here: the mask is drawn from the key of ``forward``.
        dtype: "float64" or "float32".

    Raises:
        SettingsError: The rate is not in [0, 1).
        UsageError: ``forward`` was called without a key.

    Example:
        >>> layer = Dropout(0.5)
        >>> layer.forward([1.0, 2.0, 3.0, 4.0], key=(0, 0, 1))
        array([2., 0., 0., 8.])
        >>> layer.backward([1.0, 1.0, 1.0, 1.0])
        array([2., 0., 0., 2.])
        >>> layer([1.0, 2.0, 3.0, 4.0])
        array([1., 2., 3., 4.])

    Source:
        Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014), where the factor
        is applied in prediction instead.
    """

    rate: Fraction

    def __init__(self, rate: float, *, seed: int | None = None, dtype: npt.DTypeLike = "float64") -> None:
        """Validate the settings."""
        super().__init__(rate=rate, seed=seed, dtype=dtype)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """No parameters."""
        return {}

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Return x times the mask in training, else x."""
        if not record.training or not self.rate:
            return x
        if not record.key:
            raise UsageError("Dropout draws a mask in training: write forward(x, key=(seed, epoch, step))")
        seed, *counters = record.key
        numbers = record.array("numbers", x.shape, np.float32)
        random_generator(seed, "dropout", *counters).random(dtype=np.float32, out=numbers)
        record["mask"] = mask = record.array("mask", x.shape)
        np.greater_equal(numbers, self.rate, out=mask)
        mask *= 1.0 / (1.0 - self.rate)
        return np.multiply(x, mask, out=record.array("a", x.shape))

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return the gradient times the mask of the forward."""
        if not self.rate:
            return gradient
        dx: Array = np.multiply(gradient, record["mask"], out=record.array("dx", gradient.shape))
        return dx
