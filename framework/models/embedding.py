"""Embedding: a row of numbers for each word, place or user; PeriodicEmbedding: several numbers for each number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np

from framework.base.errors import SettingsError
from framework.base.settings.component import Count, Positive
from framework.base.shapes import Shape
from framework.formulas.activations import Activation
from framework.formulas.activations.basic import Identity
from framework.models.initializers import Initializer, Normal, Uniform
from framework.models.layer import Layer, LayerSettings


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


class PeriodicEmbedding(Layer):
    """Each number x followed by f(cos(frequency x + phase) W + b): smooth functions of it, learnt one by one.

    Samples (inputs,) become (inputs + n (units - 1),), where n inputs are numbers: the sample as it is, then
    ``units - 1`` numbers for each of its numbers. A network learns steps and waves of a number from them that it
    learns hardly from the number alone. The numbers should lie near 0, as ``RobustScale(), SmoothClip()`` leave them.

    As the first layer of a model with a ``Preprocess``, or the first one of ``numbers`` in a ``Join``, it embeds what
    the Preprocess calls numbers; columns of levels, booleans and missing values pass. Without numbers it changes
    nothing.

    Args:
        units: How many numbers each number becomes, itself among them.
        frequencies: How many cosines of a number there are.
        deviation: The standard deviation of the first frequencies / (2 pi), in periods per unit of x. The first phases
            lie in [-pi, pi].
        activation: f; ``ReLU()`` makes the embedding PLR of the second source.
        numbers: For each input, whether it is a number to embed; None takes it from the data, as above, where arrays
            hold nothing but numbers.

    Raises:
        SettingsError: A setting is out of range, or f couples the units of a row.

    Example:
        >>> from framework import Dense, ReLU, Sequential
        >>> import numpy as np
        >>> layer = PeriodicEmbedding(numbers=[True, False, True])
        >>> layer(np.zeros((5, 3))).shape, layer.parameters["weights"].shape
        ((5, 9), (2, 16, 3))
        >>> model = Sequential(PeriodicEmbedding(), Dense(units=256, activation=ReLU()), Dense(units=1))

    Source:
        Holzmueller, Grinsztajn and Steinwart, Better by default (2024), arXiv 2407.04491, section 3, PBLD; Gorishniy,
        Rubachev and Babenko, On embeddings for numerical features in tabular deep learning (2022), equation 4.
    """

    inferred: ClassVar[str] = "numbers"
    leading_axes = False

    units: Count = 4
    frequencies: Count = 16
    deviation: Positive = 0.1
    activation: Activation = Identity()
    numbers: tuple[bool, ...] | None = None

    def model_post_init(self, context: object) -> None:
        """Check that the activation works on each number alone."""
        self.activation.require_derivative()
        if self.activation.coupled:
            raise SettingsError("must work on each number alone", name="setting 'activation'", got=self.activation)

    @property
    def input_shape(self) -> Shape:
        """The shape of one sample."""
        return (None if self.numbers is None else len(self.numbers),)

    def inputs_of(self, shape: Any) -> Any:
        return None if shape[0] is None else (True,) * shape[0]

    def tell_numbers(self, numbers: tuple[bool, ...]) -> None:
        if self.numbers is None:
            self.__dict__["numbers"] = numbers

    def shape_after(self, shape: Shape) -> Shape:
        return (None if self.numbers is None else len(self.numbers) + sum(self.numbers) * (self.units - 1),)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        n, frequencies, units = sum(self.numbers or ()), self.frequencies, self.units - 1
        if not n * units:
            return {}
        sizes = {"frequency": (n, frequencies), "phase": (n, frequencies)}
        return sizes | {"weights": (n, frequencies, units), "bias": (n, units)}

    def initializers(self) -> Mapping[str, Initializer]:
        if not self.shapes():
            return {}
        limit = 1 / math.sqrt(self.frequencies)
        linear, phase = Uniform(low=-limit, high=limit), Uniform(low=-math.pi, high=math.pi)
        frequency = Normal(deviation=2 * math.pi * self.deviation)
        return {"frequency": frequency, "phase": phase, "weights": linear, "bias": linear}

    def formula(self, x: Any, frequency: Any = None, phase: Any = None, weights: Any = None, bias: Any = None) -> Any:
        if frequency is None:
            return x
        numbers = x[:, [index for index, number in enumerate(self.numbers or ()) if number]]
        waves = np.cos(numbers[:, :, None] * frequency + phase)
        embedded = self.activation(np.einsum("rnf,nfu->rnu", waves, weights) + bias)
        return np.concatenate([x, np.reshape(embedded, (len(x), bias.shape[0] * bias.shape[1]))], axis=1)
