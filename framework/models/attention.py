"""Attention: each step of a sequence is a mean of all steps, weighted by similarity.

A batch is (rows, steps, inputs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from framework.activations.basic import Softmax
from framework.errors import SettingsError
from framework.models.initializers import Glorot, Initializer
from framework.models.layer import Layer
from framework.settings.component import Count, Positive
from framework.shapes import Shape

_SOFTMAX = Softmax()
_NEVER = -1e30
"""The score of a hidden key: its weight is 0. Unlike -inf, it gives no NaN where every key is hidden."""


class MultiHeadAttention(Layer):
    """Self-attention: softmax(q k' / sqrt(d)) v in each head, q, k and v linear in x; then a linear map of all heads.

    x (rows, steps, inputs) gives (rows, steps, inputs). ``weights`` (inputs, 3 units) and ``bias`` (3 units,) give q,
    k and v, in this order, each with the heads side by side, d = units / heads numbers each. ``output_weights`` (units,
    inputs) and ``output_bias`` (inputs,) map the heads back.

    Args:
        heads: The number of heads.
        units: The numbers of all heads together; left out, as many as inputs.
        causal: Whether a step sees only itself and those before it.
        masking: Steps whose inputs all equal this number are hidden from every step, and their own outputs have no
            meaning; None hides none.
        mask: ``mask[query][key]`` is True where step ``query`` sees step ``key``, the opposite of PyTorch's, for
            sequences of this length; None lets every step see all.
        inputs: The number of inputs of a step; left out, it comes from the layer before or from the data.
        initializer: Draws the weights; the biases start at 0.

    Raises:
        SettingsError: A setting is out of range, or the units cannot be split over the heads.

    Example:
        >>> import numpy as np
        >>> layer = MultiHeadAttention(heads=2, inputs=4, causal=True)
        >>> x = np.random.default_rng(0).normal(size=(3, 5, 4))
        >>> later = x.copy()
        >>> later[:, 3:] = 0.0
        >>> layer(x).shape, bool(np.allclose(layer(x)[:, :3], layer(later)[:, :3]))
        ((3, 5, 4), True)

    Source:
        Vaswani et al., Attention is all you need (2017), section 3.2.
    """

    heads: Count
    units: Count | None = None
    causal: bool = False
    masking: float | None = None
    mask: tuple[tuple[bool, ...], ...] | None = None
    inputs: Count | None = None
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse units that cannot be split over the heads, and a mask that is not square."""
        self._size()
        if self.mask is not None and {len(row) for row in self.mask} != {len(self.mask)}:
            raise SettingsError(
                "MultiHeadAttention: setting 'mask' must have as many columns as rows: mask[query][key]"
            )

    def _size(self, inputs: int | None = None) -> int:
        """Return the numbers of one head."""
        units = self.units or inputs or self.inputs or self.heads
        if units % self.heads:
            raise SettingsError(
                f"MultiHeadAttention: setting 'units' must be a multiple of heads={self.heads}; got {units}"
            )
        return units // self.heads

    def inputs_of(self, shape: Shape) -> int | None:
        self._size(shape[-1])
        return super().inputs_of(shape)

    @property
    def input_shape(self) -> Shape:
        return (None if self.mask is None else len(self.mask), self.inputs)

    def shape_after(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.inputs)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        inputs, units = self.inputs or 0, self.heads * self._size()
        return {
            "weights": (inputs, 3 * units),
            "bias": (3 * units,),
            "output_weights": (units, inputs),
            "output_bias": (inputs,),
        }

    def formula(self, x: Any, weights: Any, bias: Any, output_weights: Any, output_bias: Any) -> Any:
        rows, steps, size = len(x), x.shape[1], self._size()
        packed = (x @ weights + bias).reshape(rows, steps, 3, self.heads, size)
        query, key, value = np.moveaxis(packed, (2, 3), (0, 2))  # each (rows, heads, steps, size)
        scores = query / math.sqrt(size) @ key.swapaxes(-1, -2)
        if self.causal:
            scores = np.where(np.tri(steps, dtype=bool), scores, _NEVER)
        if self.mask is not None:
            scores = np.where(np.array(self.mask), scores, _NEVER)
        if self.masking is not None:
            scores = np.where((x != self.masking).any(axis=-1)[:, None, None, :], scores, _NEVER)
        heads = _SOFTMAX(scores) @ value
        return heads.swapaxes(1, 2).reshape(rows, steps, self.heads * size) @ output_weights + output_bias


class PositionalEncoding(Layer):
    """a[t, 2j] = x[t, 2j] + sin(t / base^(2j / n)) and a[t, 2j + 1] = x[t, 2j + 1] + cos(t / base^(2j / n)).

    t is the step, from 0 on, and n the number of inputs: x (rows, steps, n) gives the same shape. There is nothing to
    learn.

    Args:
        base: The wavelengths run from 2 pi to 2 pi base.

    Example:
        >>> import numpy as np
        >>> PositionalEncoding()(np.zeros((1, 2, 4))).round(2)
        array([[[0.  , 1.  , 0.  , 1.  ],
                [0.84, 0.54, 0.01, 1.  ]]])

    Source:
        Vaswani et al., Attention is all you need (2017), section 3.5.
    """

    base: Positive = Field(default=10000.0, kw_only=True)  # for 64, elsewhere, is the number of units

    @property
    def input_shape(self) -> Shape:
        return (None, None)

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def formula(self, x: Any) -> Any:
        steps, inputs = x.shape[1:]
        even = np.arange(inputs) // 2 * 2
        angles = np.arange(steps)[:, None] / self.base ** (even / inputs)
        return x + np.where(np.arange(inputs) % 2 == 0, np.sin(angles), np.cos(angles))
