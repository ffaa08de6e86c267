"""Convolution: a small kernel of weights that moves over the places of a sample.

Channels come first, as in PyTorch: a sample is (channels, steps) or (channels, height, width). The kernel is not
flipped, so the operation is a cross-correlation, as in PyTorch and Keras. As in every layer here, weights are
(inputs, ..., units).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from framework.errors import SettingsError, ShapeError
from framework.models.initializers import Glorot, Initializer
from framework.models.layer import Layer
from framework.models.shapes import Shape, is_known
from framework.settings.component import Count

Size = Annotated[int, Field(ge=0)]


def spread(layer: Layer, name: str, axes: int) -> tuple[int, ...]:
    """Return a setting as one number for each axis.

    Raises:
        SettingsError: The setting is a tuple with another number of entries.
    """
    value = getattr(layer, name)
    if not isinstance(value, tuple):
        return (value,) * axes
    if len(value) != axes:
        raise SettingsError(
            f"{type(layer).__name__}: setting '{name}' must be one number, or one for each of {axes} axes; got {value}"
        )
    return value


class _Convolution(Layer):
    """The base of convolutions over one and over two axes."""

    axes: ClassVar[int]

    filters: Count
    kernel: Count | tuple[Count, ...]
    stride: Count | tuple[Count, ...] = 1
    padding: Literal["valid", "same"] | Size | tuple[Size, ...] = "valid"
    dilation: Count | tuple[Count, ...] = 1
    inputs: Count | None = None
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse settings for another number of axes."""
        for name in ("kernel", "stride", "dilation", *(() if isinstance(self.padding, str) else ("padding",))):
            spread(self, name, self.axes)

    @property
    def input_shape(self) -> Shape:
        return (self.inputs, *(None,) * self.axes)

    def shape_after(self, shape: Shape) -> Shape:
        if not is_known(shape[1:]):
            return (self.filters, *(None,) * self.axes)
        return (self.filters, *self._places(shape[-self.axes :]))

    def inputs_of(self, shape: Shape) -> int | None:
        size: int | None = shape[0]
        return size

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {
            "weights": (self.inputs or 0, *spread(self, "kernel", self.axes), self.filters),
            "bias": (self.filters,),
        }

    def initializers(self) -> Mapping[str, Initializer]:
        return {"weights": self.initializer}

    def formula(self, x: Any, weights: Any, bias: Any) -> Any:
        self._places(x.shape[2:])
        places = range(2, 2 + self.axes)
        reach, strides, dilation = self._reach(), spread(self, "stride", self.axes), spread(self, "dilation", self.axes)
        x = np.pad(x, [(0, 0), (0, 0), *self._around(x.shape[2:])])
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(places))
        every = [slice(None, None, step) for step in (*strides, *dilation)]
        windows = windows[(slice(None), slice(None), *every)]
        at, inside = "xy"[: self.axes], "ij"[: self.axes]
        output = np.einsum(f"nc{at}{inside},c{inside}f->nf{at}", windows, weights)
        return output + bias[:, *(None,) * self.axes]

    def _reach(self) -> tuple[int, ...]:
        """Return how many places a kernel spans with its gaps."""
        kernel, dilation = spread(self, "kernel", self.axes), spread(self, "dilation", self.axes)
        return tuple(step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True))

    def _around(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return how many zeros stand before and after each axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.axes
        if self.padding != "same":
            return [(size, size) for size in spread(self, "padding", self.axes)]
        found = []
        for size, reach, stride in zip(sizes, self._reach(), spread(self, "stride", self.axes), strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            found.append((total // 2, total - total // 2))
        return found

    def _places(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return at how many places the kernel stands along each axis."""
        around, strides = self._around(sizes), spread(self, "stride", self.axes)
        found = tuple(
            (before + size + after - reach) // stride + 1
            for size, (before, after), reach, stride in zip(sizes, around, self._reach(), strides, strict=True)
        )
        if min(found) < 1:
            raise ShapeError(
                f"{type(self).__name__}: a kernel that spans {self._reach()} does not fit into {sizes}; "
                "take a smaller kernel, or padding='same'"
            )
        return found


class Conv1D(_Convolution):
    """a[f, t] = bias[f] + sum over c, i of weights[c, i, f] x[c, stride t + dilation i - padding].

    A sample (channels, steps) gives (filters, places). Channels come first: after a recurrent layer, whose channels
    come last, write ``Permute((2, 1))``.

    Args:
        filters: The number of outputs at each place.
        kernel: The size of the kernel.
        stride: How far the kernel moves.
        padding: "valid" adds nothing, "same" as many zeros as give ceil(steps / stride) places, the odd one at the
            end; a number adds so many zeros before and after.
        dilation: The distance of the kernel's entries; 1 leaves no gaps.
        inputs: The number of channels; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (inputs, kernel, filters); ``bias`` (filters,) starts at 0.

    Raises:
        SettingsError: A setting is out of range, or a tuple has more than one entry.
        ShapeError: The kernel does not fit into a sample.

    Example:
        >>> layer = Conv1D(filters=1, kernel=2, inputs=1)
        >>> layer.parameters["weights"][0, :, 0] = [-1.0, 1.0]
        >>> layer([[[1.0, 4.0, 9.0, 16.0]]])
        array([[[3., 5., 7.]]])

    Source:
        Waibel et al., Phoneme recognition using time-delay neural networks (1989); dilation: Yu and Koltun, Multi-scale
        context aggregation by dilated convolutions (2016).
    """

    axes = 1


class Conv2D(_Convolution):
    """a[f, s, t] = bias[f] + sum over c, i, j of weights[c, i, j, f] x[c, stride s + dilation i - padding, ...].

    A sample (channels, height, width) gives (filters, places, places); the second axis has its own stride, dilation
    and padding. Channels come first, as in PyTorch; ``Reshape((1, 28, 28))`` gives images without channels one.

    Args:
        filters: The number of outputs at each place.
        kernel: The size of the kernel, one number for both axes or one for each.
        stride: How far the kernel moves, likewise.
        padding: "valid" adds nothing, "same" as many zeros as give ceil(size / stride) places, the odd one at the end;
            a number adds so many zeros on each side.
        dilation: The distance of the kernel's entries; 1 leaves no gaps.
        inputs: The number of channels; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (inputs, kernel, kernel, filters); ``bias`` (filters,) starts at 0.

    Raises:
        SettingsError: A setting is out of range, or a tuple does not have two entries.
        ShapeError: The kernel does not fit into a sample.

    Example:
        >>> import numpy as np
        >>> layer = Conv2D(filters=16, kernel=5, padding="same", inputs=3)
        >>> layer(np.zeros((2, 3, 28, 28))).shape
        (2, 16, 28, 28)

    Source:
        LeCun et al., Gradient-based learning applied to document recognition (1998), section II.A; dilation: Yu and
        Koltun, Multi-scale context aggregation by dilated convolutions (2016).
    """

    axes = 2
