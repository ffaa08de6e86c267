"""Units that are not a weighted sum: Bilinear multiplies inputs by each other, RBF measures a distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from framework.errors import SettingsError
from framework.models.initializers import Constant, Glorot, Initializer, Normal
from framework.models.layer import Layer
from framework.settings.component import Count
from framework.shapes import Shape


class Bilinear(Layer):
    """a[k] = sum over i, j of x1[i] weights[i, j, k] x2[j] + bias[k], where a sample is x1 and x2 one after the other.

    x (rows, inputs) gives (rows, units); the first ``first`` inputs are x1, the rest are x2.

    Args:
        units: The number of outputs.
        first: The number of inputs in x1.
        inputs: The number of inputs in x1 and x2; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (first, inputs - first, units); ``bias`` (units,) starts at 0.

    Raises:
        SettingsError: A setting is out of range, or nothing is left for x2.

    Example:
        >>> layer = Bilinear(units=1, first=1, inputs=2)
        >>> layer.parameters["weights"][:] = 2.0
        >>> layer([[3.0, 5.0]])
        array([[30.]])

    Source:
        Tenenbaum and Freeman, Separating style and content with bilinear models (2000), equation 1.
    """

    leading_axes = False

    units: Count
    first: Count
    inputs: Count | None = None
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse a split that leaves nothing for x2."""
        self.inputs_of((self.inputs,))

    def inputs_of(self, shape: Shape) -> int | None:
        if shape[-1] is not None and shape[-1] <= self.first:
            raise SettingsError(
                f"Bilinear: the number of inputs must be more than first={self.first}, because x2 is what is left; "
                f"got {shape[-1]}"
            )
        return super().inputs_of(shape)

    def shape_after(self, shape: Shape) -> Shape:
        return (self.units,)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"weights": (self.first, (self.inputs or self.first) - self.first, self.units), "bias": (self.units,)}

    def formula(self, x: Any, weights: Any, bias: Any) -> Any:
        return np.einsum("ni,nj,ijk->nk", x[:, : self.first], x[:, self.first :], weights) + bias


class RBF(Layer):
    """a[k] = exp(-(scale[k] |x - centers[k]|)^2 / 2), a bell around each center; its width is 1 / scale.

    x (rows, inputs) gives (rows, units). The scale is learnt in place of the width, because nothing is divided by it.

    Args:
        units: The number of centers.
        inputs: The number of inputs; left out, it comes from the layer before or from the data.
        initializer: Draws ``centers`` (units, inputs): standard normal, for inputs of mean 0 and variance 1.

    Example:
        >>> layer = RBF(units=1, inputs=2)
        >>> layer.parameters["centers"][:] = [3.0, 4.0]
        >>> layer([[3.0, 4.0], [3.0, 5.0]]).round(4)
        array([[1.    ],
               [0.6065]])

    Source:
        Broomhead and Lowe, Multivariable functional interpolation and adaptive networks (1988). PyTorch has no such
        layer.
    """

    leading_axes = False

    units: Count
    inputs: Count | None = None
    initializer: Initializer = Normal(deviation=1.0)

    def shape_after(self, shape: Shape) -> Shape:
        return (self.units,)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"centers": (self.units, self.inputs or 0), "scale": (self.units,)}

    def initializers(self) -> Mapping[str, Initializer]:
        return {"scale": Constant(value=1.0)}

    def formula(self, x: Any, centers: Any, scale: Any) -> Any:
        distances = ((x[:, None, :] - centers) ** 2).sum(axis=-1)
        return np.exp(-0.5 * scale**2 * distances)
