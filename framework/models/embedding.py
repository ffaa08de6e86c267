"""Embedding: a row of numbers for each word, place or user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from framework.models.initializers import Initializer, Uniform
from framework.models.layer import Layer, LayerSettings
from framework.settings.component import Count
from framework.shapes import Shape


class Embedding(Layer):
    """a[i] = weights[id[i]]: a sample is a row of n ids, (n,), and gives (n, units); a batch (rows, n, units).

    One id per row is ``ids.reshape(-1, 1)``. Ids are whole numbers in 0..vocabulary-1, of any dtype; the model casts
    them to its own. ``Flatten((n, units))`` leads on to Dense. The gradient is dense: an id that a batch does not have
    has the gradient 0, and an id that occurs twice the sum of both. The gradient with respect to the ids, dL/dx, is 0.

    Args:
        vocabulary: How many ids there are.
        units: How many numbers each has.
        initializer: Draws the weights (vocabulary, units).

    Raises:
        SettingsError: A setting is out of range, or float32 cannot hold every id (from 2^24 on).
        DataError: An id is fractional or out of range.

    Example:
        >>> layer = Embedding(3, 2)
        >>> layer.parameters["weights"][:] = [[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]]
        >>> layer([2, 0])
        array([[2. , 2.1],
               [0. , 0.1]])

    Source:
        Bengio et al., A neural probabilistic language model (2003).
    """

    leading_axes = False

    vocabulary: Count
    units: Count
    initializer: Initializer = Uniform()

    def __init__(
        self,
        vocabulary: int,
        units: int,
        *,
        initializer: Initializer = Uniform(),  # noqa: B008 (frozen)
        **settings: Unpack[LayerSettings],
    ) -> None:
        super().__init__(vocabulary=vocabulary, units=units, initializer=initializer, **settings)

    @property
    def cardinality(self) -> int:
        """The size of the vocabulary."""
        return self.vocabulary

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"weights": (self.vocabulary, self.units)}

    def takes(self, shape: Any) -> bool:
        """Return whether samples may have this shape; inside another model, one id is a sample too."""
        return shape == () or super().takes(shape)

    def shape_after(self, shape: Shape) -> Shape:
        return (*shape, self.units)

    def formula(self, x: Any, weights: Any) -> Any:
        return np.take(weights, x.astype(int), axis=0)
