"""Layers whose formula has a few lines.

Normalization gives numbers of mean 0 and variance 1, then a scale and a shift that are learnt. BatchNorm takes mean and
variance of each unit over the rows of a batch, LayerNorm of each row over its units, GroupNorm of each row over a group
of channels. RMSNorm has no mean and no shift. The variance inside the formula is that of the numbers at hand, divided
by their count. With Dropout, some numbers are 0.

Shaping arranges the numbers of a sample, and changes none. Bilinear multiplies inputs by each other, and RBF measures a
distance: their units are not a weighted sum.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from framework.base.arrays import Arrays
from framework.base.errors import SettingsError, ShapeError
from framework.base.settings.component import Count, Fraction, Positive
from framework.base.shapes import Shape, format_shape, is_known, is_open
from framework.models.initializers import Constant, Glorot, Initializer, Normal
from framework.models.layer import Layer, require_multiple


class _Normalization(Layer):
    """The base of layers that divide numbers by a root of the mean of their squares, and scale the result."""

    inferred = "units"

    units: Count | None = None
    epsilon: Positive = Field(default=1e-5, kw_only=True)

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"scale": (self.units or 0,), "shift": (self.units or 0,)}

    def initializers(self) -> Mapping[str, Initializer]:
        return {"scale": Constant(value=1.0)}

    @abstractmethod
    def formula(self, *arguments: Any, **parameters: Any) -> Any: ...


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

    def advice(self, shape: Any) -> str:
        advice = super().advice(shape)
        several = not isinstance(shape, dict) and len(shape) > 1
        return f"; use GroupNorm{advice and f', or {advice[2:]}'}" if several else advice

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

    Works on the last axis of a sample: after a convolution, write ``Permute((2, 1)), LayerNorm(), Permute((2, 1))``.
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
            raise SettingsError("must be 2 or more; a row of 1 unit normalizes to 0", name="LayerNorm: setting 'units'")
        return super().inputs_of(shape)

    def formula(self, x: Any, scale: Any, shift: Any) -> Any:
        deviation = x - x.mean(axis=-1, keepdims=True)
        return scale * deviation / np.sqrt(x.var(axis=-1, keepdims=True) + self.epsilon) + shift


class RMSNorm(_Normalization):
    """a = scale * x / sqrt(mean of x^2 + epsilon), for each row over its units.

    Works on the last axis of a sample, as LayerNorm does, and leaves out its mean and its shift: after a convolution,
    write ``Permute((2, 1)), RMSNorm(), Permute((2, 1))``. ``scale`` (units,) starts at 1.
    Training and prediction are the same, and a row's output does not depend on the other rows.

    Args:
        units: The number of inputs, and of outputs; left out, it comes from the layer before or from the data.
        epsilon: Added to the mean, so that a row of zeros is not divided by 0. PyTorch's default is the machine's.

    Raises:
        SettingsError: A setting is out of range.

    Example:
        >>> RMSNorm(2)([3.0, 4.0]).round(3).tolist()
        [0.849, 1.131]

    Source:
        Zhang and Sennrich, Root mean square layer normalization (2019), equation 4, where there is no epsilon.
    """

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"scale": (self.units or 0,)}

    def formula(self, x: Any, scale: Any) -> Any:
        return scale * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.epsilon)


class GroupNorm(_Normalization):
    """a = scale[c] * (x - mean) / sqrt(variance + epsilon) + shift[c], for each row over each group of channels.

    A sample is (channels, sizes) with any number of sizes, or (channels,), and gives the same shape: channels come
    first, as in a convolution. Neighbouring channels are one group, and mean and variance are those of all numbers of a
    group. ``scale`` (channels,) starts at 1, ``shift`` (channels,) at 0. Training and prediction are the same, and a
    row's output does not depend on the other rows. One group normalizes a whole sample; as many groups as channels
    normalize each channel, as instance normalization does.

    Args:
        groups: The number of groups, which divides the number of channels.
        units: The number of channels; left out, it comes from the layer before or from the data.
        epsilon: Added to the variance, so that a constant group is not divided by 0.

    Raises:
        SettingsError: A setting is out of range, or the channels cannot be split into the groups.
        ShapeError: The samples have another number of channels, or a group is a single number, which would always be 0.

    Example:
        >>> GroupNorm(2, units=4)([[1.0, 3.0, 10.0, 30.0]]).round(3).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]

    Source:
        Wu and He, Group normalization (2018), equations 1 to 7.
    """

    leading_axes = True
    inputs_axis = 0

    groups: Count

    def model_post_init(self, context: object) -> None:
        """Refuse channels that cannot be split."""
        self.inputs_of((self.units,))

    @property
    def input_shape(self) -> Shape:
        """The last axis of a sample, of any size: the channels are the first one."""
        return (None,)

    def inputs_of(self, shape: Shape) -> int | None:
        size = super().inputs_of(shape)
        require_multiple(self, "units", size)
        return size

    def settle(self, shape: Shape) -> Shape:
        return shape if is_open(shape) else super().settle(shape)

    def shape_after(self, shape: Shape) -> Shape:
        if not is_open(shape) and None not in (self.units, shape[0]) and shape[0] != self.units:
            raise ShapeError(
                f"GroupNorm takes samples of {self.units} channels, their first axis; got {format_shape(shape)}: give "
                "another units, or Permute the axes before it"
            )
        if is_known(shape) and math.prod(shape) == self.groups:
            raise ShapeError(
                f"a group of samples of shape {format_shape(shape)} is a single number, which normalizes to 0",
                where="GroupNorm",
                advice=f"give fewer groups than {self.groups}, or samples of more numbers",
            )
        return shape

    def formula(self, x: Any, scale: Any, shift: Any) -> Any:
        channels, *sizes = self.shape_after(x.shape[1:])
        groups = x.reshape(len(x), self.groups, -1)
        deviation = groups - groups.mean(axis=-1, keepdims=True)
        normal = deviation / np.sqrt(groups.var(axis=-1, keepdims=True) + self.epsilon)
        normal = normal.reshape(len(x), channels, -1)
        return (scale[:, None] * normal + shift[:, None]).reshape(len(x), channels, *sizes)


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


class Flatten(Layer):
    """The axes of a sample become one, the last index running fastest: (rows, a, b) gives (rows, a b).

    Args:
        shape: The shape of a sample, ``(28, 28)``; ``()`` turns one number per row into one column. Left out, samples
            of every shape are taken, and the size of the output is known once the samples' shape is.

    Raises:
        SettingsError: A size is not a positive whole number.
        ShapeError: The samples have another shape.

    Example:
        >>> Flatten((2, 2))([[1.0, 2.0], [3.0, 4.0]])
        array([1., 2., 3., 4.])
        >>> Flatten()([[[1.0, 2.0], [3.0, 4.0]]])
        array([[1., 2., 3., 4.]])
    """

    shape: tuple[Count, ...] | None = None

    @property
    def input_shape(self) -> Shape:
        """The shape; where it was left out, the last axis of it."""
        return (None,) if self.shape is None else self.shape

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        """Whether samples of any shape are taken."""
        return self.shape is None

    def shape_after(self, shape: Shape) -> Shape:
        shape = shape if self.shape is None else self.shape
        return (math.prod(shape) if is_known(shape) else None,)

    def formula(self, x: Any) -> Any:
        return x.reshape(len(x), math.prod(x.shape[1:]))


class Reshape(Layer):
    """A sample takes another shape, the last index running fastest: Reshape((1, 28, 28)) gives images of one channel.

    Args:
        shape: The new shape of a sample; one size may be -1, and is then what is left.

    Raises:
        SettingsError: A size is neither a positive whole number nor -1, or two are -1.
        ShapeError: The samples have another number of elements.

    Example:
        >>> Reshape((2, -1))([[1.0, 2.0, 3.0, 4.0]])
        array([[[1., 2.],
                [3., 4.]]])

    Source:
        PyTorch's ``Unflatten(1, shape)`` and Keras's ``Reshape(shape)``.
    """

    shape: tuple[int, ...]

    def model_post_init(self, context: object) -> None:
        """Refuse sizes that say nothing."""
        if any(size < 1 and size != -1 for size in self.shape) or self.shape.count(-1) > 1:
            raise SettingsError(
                f"must hold positive sizes, and at most one -1; got {self.shape}", name="setting 'shape'"
            )

    def shape_after(self, shape: Shape) -> Shape:
        """Return the new shape; a size of -1 is known once the samples' shape is."""
        if not is_known(shape):
            return tuple(None if size == -1 else size for size in self.shape)
        count, rest = math.prod(shape), math.prod(size for size in self.shape if size != -1)
        if count % rest or (count != rest and -1 not in self.shape):
            no_rows = "for one sample, give x[None]" if shape == self.shape[-len(shape) :] else ""
            problem = f"samples of shape {format_shape(shape)} do not have the size of {self.shape}"
            raise ShapeError(problem, where="Reshape", advice=no_rows)
        return tuple(count // rest if size == -1 else size for size in self.shape)

    def formula(self, x: Any) -> Any:
        return x.reshape(len(x), *self.shape_after(x.shape[1:]))


class Permute(Layer):
    """The axes of a sample change their order, as by ``np.transpose(x, (0, *axes))``.

    Axes are counted in the batch, whose axis 0, the rows, stays: Permute((2, 1)) turns (rows, steps, inputs), which
    recurrent layers take, into (rows, inputs, steps), which Conv1D takes.

    Args:
        axes: The numbers 1, 2, ... in the new order.

    Raises:
        SettingsError: The axes are not the numbers from 1 on, each once.
        ShapeError: The samples have another number of axes.

    Example:
        >>> Permute((2, 1))([[[1.0, 2.0, 3.0]]])
        array([[[1.],
                [2.],
                [3.]]])

    Source:
        Keras's ``Permute(axes)``; PyTorch's ``torch.permute(x, (0, *axes))``.
    """

    axes: tuple[Annotated[int, Field(ge=1)], ...]

    def model_post_init(self, context: object) -> None:
        """Check that the setting is an order of all axes."""
        if not self.axes or sorted(self.axes) != [*range(1, len(self.axes) + 1)]:
            raise SettingsError(
                f"must hold each of 1, 2, ... once (axis 0, the rows, stays); got {self.axes}", name="setting 'axes'"
            )

    @property
    def input_shape(self) -> Shape:
        return (None,) * len(self.axes)

    def shape_after(self, shape: Shape) -> Shape:
        return tuple(shape[axis - 1] for axis in self.axes) if len(shape) == len(self.axes) else self.input_shape

    def formula(self, x: Any) -> Any:
        return np.transpose(x, (0, *self.axes))


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
                f"the number of inputs must be more than first={self.first}, because x2 is what is left; got "
                f"{shape[-1]}",
                where="Bilinear",
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
