"""Normalization: numbers of mean 0 and variance 1, then a scale and a shift that are learnt. Dropout: some are 0.

BatchNorm takes mean and variance of each unit over the rows of a batch, LayerNorm of each row over its units. The
variance inside the formula is that of the numbers at hand, divided by their count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from framework.arrays import Arrays
from framework.errors import SettingsError
from framework.models.initializers import Constant, Initializer
from framework.models.layer import Layer
from framework.settings.component import Count, Fraction, Positive
from framework.shapes import Shape


class _Normalization(Layer):
    """The base of both: a = scale * (x - mean) / sqrt(variance + epsilon) + shift."""

    inferred = "units"

    units: Count | None = None
    epsilon: Positive = Field(default=1e-5, kw_only=True)

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"scale": (self.units or 0,), "shift": (self.units or 0,)}

    def initializers(self) -> Mapping[str, Initializer]:
        return {"scale": Constant(value=1.0)}


class BatchNorm(_Normalization):
    """a = scale * (x - mean) / sqrt(variance + epsilon) + shift, for each unit over the rows of the batch.

    Training uses the batch's mean and variance, and moves the running ones towards them:
    running <- (1 - momentum) running + momentum batch, where the running variance takes the batch's unbiased one,
    divided by rows - 1. Prediction uses the running ones. They are buffers: saved with the model, seen by no optimizer,
    and they move on when scale and shift are frozen. Sample weights do not reach them.

    Args:
        units: The number of inputs, and of outputs; left out, it comes from the layer before or from the data.
        momentum: The part of the running numbers that a batch replaces, in (0, 1]: PyTorch's meaning; Keras's is 1
            minus this.
        epsilon: Added to the variance, so that a constant unit is not divided by 0.

    Raises:
        SettingsError: A setting is out of range.
        ShapeError: A batch has one row in training: its variance would be 0, whatever the row.

    Example:
        >>> layer = BatchNorm(1)
        >>> layer.forward([[1.0], [3.0]]).round(3).tolist()
        [[-1.0], [1.0]]
        >>> {name: value.round(3).tolist() for name, value in layer.buffers.items()}
        {'running_mean': [0.2], 'running_variance': [1.1]}

    Source:
        Ioffe and Szegedy, Batch normalization (2015), algorithm 1.
    """

    leading_axes = False
    mixes_rows = True
    minimum_rows = 2

    momentum: Annotated[float, Field(gt=0, le=1, kw_only=True)] = 0.1

    def initial_buffers(self) -> Arrays:
        units = self.units or 0
        return {"running_mean": np.zeros(units, self.dtype), "running_variance": np.ones(units, self.dtype)}

    def formula(self, x: Any, scale: Any, shift: Any, running_mean: Any, running_variance: Any) -> Any:
        mean, unbiased = x.mean(axis=0), x.var(axis=0, ddof=1)
        output = scale * (x - mean) / np.sqrt(x.var(axis=0) + self.epsilon) + shift
        return output, {
            "running_mean": running_mean + self.momentum * (mean - running_mean),
            "running_variance": running_variance + self.momentum * (unbiased - running_variance),
        }

    def predict_formula(self, x: Any, scale: Any, shift: Any, running_mean: Any, running_variance: Any) -> Any:
        return (x - running_mean) * (scale / np.sqrt(running_variance + self.epsilon)) + shift


class LayerNorm(_Normalization):
    """a = scale * (x - mean) / sqrt(variance + epsilon) + shift, for each row over its units.

    Training and prediction are the same, and a row's output does not depend on the other rows.

    Args:
        units: The number of inputs, and of outputs, 2 or more; left out, it comes from the layer before or from the
            data.
        epsilon: Added to the variance, so that a constant row is not divided by 0.

    Raises:
        SettingsError: A setting is out of range, or there is a single unit, which would always be 0.

    Example:
        >>> LayerNorm(2)([1.0, 3.0]).round(3).tolist()
        [-1.0, 1.0]

    Source:
        Ba, Kiros and Hinton, Layer normalization (2016), equation 4.
    """

    def model_post_init(self, context: object) -> None:
        """Refuse a single unit."""
        self.inputs_of((self.units,))

    def inputs_of(self, shape: Shape) -> int | None:
        if shape[-1] == 1:
            raise SettingsError("LayerNorm: setting 'units' must be 2 or more; a row of 1 unit normalizes to 0")
        return super().inputs_of(shape)

    def formula(self, x: Any, scale: Any, shift: Any) -> Any:
        deviation = x - x.mean(axis=-1, keepdims=True)
        return scale * deviation / np.sqrt(x.var(axis=-1, keepdims=True) + self.epsilon) + shift


class Dropout(Layer):
    """In training each input is 0 with probability ``rate``, else x / (1 - rate); in prediction x stays as it is.

    Dividing in training keeps the mean ("inverted" dropout), so prediction needs no factor. The mask is a pure
    function of the key of ``forward`` and of the batch's shape, and the same in both dtypes. Backward uses the mask of
    its forward.

    Args:
        rate: The fraction of inputs that become 0, in [0, 1). A rate of 0 draws nothing and needs no key.

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

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def draws(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        return {"dropout": shape} if self.rate else {}

    def formula(self, x: Any, dropout: Any = None) -> Any:
        return x * np.where(dropout >= self.rate, 1.0 / (1.0 - self.rate), 0.0) if self.rate else x

    def predict_formula(self, x: Any) -> Any:
        return x
