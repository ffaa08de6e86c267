"""Dropout: some inputs are left out at random, so that no unit can rely on another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from framework.models.layer import Layer, LayerSettings
from framework.models.shapes import Shape
from framework.settings.component import Fraction


class Dropout(Layer):
    """In training each input is 0 with probability ``rate``, else x / (1 - rate); in prediction x stays as it is.

    Dividing in training keeps the mean ("inverted" dropout), so prediction needs no factor. The mask is a pure
    function of the key of ``forward`` and of the batch's shape, and the same in both dtypes. Backward uses the mask of
    its forward.

    Args:
        rate: The fraction that is left out, in [0, 1). A rate of 0 draws nothing and needs no key.

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

    def __init__(self, rate: float, **settings: Unpack[LayerSettings]) -> None:
        super().__init__(rate=rate, **settings)

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def draws(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {"dropout": shape} if self.rate else {}

    def formula(self, x: Any, dropout: Any = None) -> Any:
        return x * np.where(dropout >= self.rate, 1.0 / (1.0 - self.rate), 0.0) if self.rate else x

    def predict_formula(self, x: Any) -> Any:
        return x
