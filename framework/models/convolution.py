"""Convolution and pooling: a small kernel of weights, or a window, that moves over the places of a sample.

Channels come first, as in PyTorch: a sample is (channels, steps) or (channels, height, width). The kernel is not
flipped, so the operation is a cross-correlation, as in PyTorch and Keras. As in every layer here, weights are
(inputs, ..., units). In a grouped convolution, each group of units sees its own group of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from framework.base.errors import SettingsError, ShapeError
from framework.base.settings.component import Count
from framework.base.shapes import Shape, is_known, is_open
from framework.models.initializers import Glorot, Initializer
from framework.models.layer import Layer, require_multiple

Size = Annotated[int, Field(ge=0)]


def spread_setting(layer: Layer, name: str, axes: int) -> tuple[int, ...]:
    """Return a setting as one number for each axis.

    Raises:
        SettingsError: The setting is a tuple with another number of entries.
    """
    value = getattr(layer, name)
    if not isinstance(value, tuple):
        return (value,) * axes
    if len(value) != axes:
        problem = f"must be one number, or one for each of {axes} axes; got {value}"
        raise SettingsError(problem, name=f"{type(layer).__name__}: setting '{name}'")
    return value


def _windows(x: Any, sizes: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    """Return the windows of x along its last axes, one at every step; axes inside a window come last."""
    front = x.ndim - len(sizes)
    windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=tuple(range(front, x.ndim)))
    return windows[(*(slice(None),) * front, *(slice(None, None, step) for step in steps))]


class _Convolution(Layer):
    """The base of convolutions over one and over two axes."""

    axes: ClassVar[int]
    inputs_axis = 0

    filters: Count
    kernel: Count | tuple[Count, ...]
    stride: Count | tuple[Count, ...] = 1
    padding: Literal["valid", "same", "causal"] | Size | tuple[Size, ...] = "valid"
    dilation: Count | tuple[Count, ...] = 1
    groups: Count = 1
    inputs: Count | None = None
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse settings for another number of axes, and channels that cannot be split into the groups."""
        for name in ("kernel", "stride", "dilation", *(() if isinstance(self.padding, str) else ("padding",))):
            spread_setting(self, name, self.axes)
        require_multiple(self, "filters", self.filters)
        require_multiple(self, "inputs", self.inputs)

    @property
    def input_shape(self) -> Shape:
        return (self.inputs, *(None,) * self.axes)

    def shape_after(self, shape: Shape) -> Shape:
        if not is_known(shape[1:]):
            return (self.filters, *(None,) * self.axes)
        return (self.filters, *self._output_sizes(shape[-self.axes :]))

    def inputs_of(self, shape: Shape) -> int | None:
        size = super().inputs_of(shape)
        require_multiple(self, "inputs", size)
        return size

    def _adapter(self, shape: Shape) -> str:
        if len(shape) == 1 < self.axes:
            return f"Reshape(({self.inputs or 'channels'}, height, width))"
        one_channel = len(shape) == self.axes
        return "" if one_channel and self.groups > 1 else super()._adapter(shape)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {
            "weights": ((self.inputs or 0) // self.groups, *spread_setting(self, "kernel", self.axes), self.filters),
            "bias": (self.filters,),
        }

    def formula(self, x: Any, weights: Any, bias: Any) -> Any:
        self._output_sizes(x.shape[2:])  # raises if the kernel does not fit
        x = np.pad(x, [(0, 0), (0, 0), *self._margins(x.shape[2:])])
        steps = (*spread_setting(self, "stride", self.axes), *spread_setting(self, "dilation", self.axes))
        return self._product(x, weights, self._reach(), steps) + bias[:, *(None,) * self.axes]

    def _product(self, x: Any, weights: Any, reach: tuple[int, ...], steps: tuple[int, ...]) -> Any:
        """Return the sums over the windows of x, whose places and entries are apart by some steps, in each group."""
        groups = (self.groups,) * (self.groups > 1)
        windows = _windows(x.reshape(len(x), *groups, -1, *x.shape[2:]), reach, steps)
        g, at, inside = "g" * len(groups), "xy"[: self.axes], "ij"[: self.axes]
        weights = weights.reshape(*weights.shape[:-1], *groups, -1)
        output = np.einsum(f"n{g}c{at}{inside},c{inside}{g}f->n{g}f{at}", windows, weights)
        return output.reshape(len(x), -1, *output.shape[-self.axes :])

    def _reach(self) -> tuple[int, ...]:
        """Return how many places a kernel spans with its gaps."""
        kernel, dilation = spread_setting(self, "kernel", self.axes), spread_setting(self, "dilation", self.axes)
        return tuple(step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True))

    def _margins(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return how many zeros stand before and after each axis."""
        if self.padding == "valid":
            return [(0, 0)] * self.axes
        if self.padding == "causal":
            return [(reach - 1, 0) for reach in self._reach()]
        if self.padding != "same":
            return [(size, size) for size in spread_setting(self, "padding", self.axes)]
        zeros = []
        for size, reach, stride in zip(sizes, self._reach(), spread_setting(self, "stride", self.axes), strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            zeros.append((total // 2, total - total // 2))
        return zeros

    def _output_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return at how many places the kernel stands along each axis."""
        margins, strides = self._margins(sizes), spread_setting(self, "stride", self.axes)
        positions = tuple(
            (before + size + after - reach) // stride + 1
            for size, (before, after), reach, stride in zip(sizes, margins, self._reach(), strides, strict=True)
        )
        if min(positions) < 1:
            order = (self.axes + 1, *range(1, self.axes + 1))
            swap = f"if they come last, put Permute({order}) before {type(self).__name__}; otherwise "
            advice = swap if sizes[-1] in (1, 3) else ""  # as many channels as images have
            raise ShapeError(
                f"a kernel that spans {self._reach()} does not fit into {sizes}; channels are the first axis of a "
                f"sample; {advice}take a smaller kernel, or padding='same'",
                where=type(self).__name__,
            )
        return positions


class Conv1D(_Convolution):
    """a[f, t] = bias[f] + sum over c, i of weights[c, i, f] x[c, stride t + dilation i - padding].

    A sample (channels, steps) gives (filters, places). Channels come first: after a recurrent layer, whose channels
    come last, write ``Permute((2, 1))``.

    The settings are those of Conv2D, along one axis; ``weights`` are (inputs / groups, kernel, filters).
    ``padding="causal"`` adds dilation (kernel - 1) zeros before the first step alone, so that a place sees no later
    step, and gives ceil(steps / stride) places. LayerNorm and RMSNorm work on the last axis, here the steps, and mix
    them: write ``Permute((2, 1)), RMSNorm(), Permute((2, 1))``.

    Raises:
        SettingsError: A setting is out of range, a tuple has more than one entry, or the channels cannot be split.
        ShapeError: The kernel does not fit into a sample.

    Example:
        >>> layer = Conv1D(filters=1, kernel=2, inputs=1)
        >>> layer.parameters["weights"][0, :, 0] = [-1.0, 1.0]
        >>> layer([[[1.0, 4.0, 9.0, 16.0]]])
        array([[[3., 5., 7.]]])

    Source:
        Waibel et al., Phoneme recognition using time-delay neural networks (1989); dilation: Yu and Koltun, Multi-scale
        context aggregation by dilated convolutions (2016); causal: van den Oord et al., WaveNet (2016), section 2.1.
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
            a number adds that many zeros on each side.
        dilation: The distance of the kernel's entries; 1 leaves no gaps.
        groups: The number of groups: channels and filters are split evenly, in order, and the filters of a group see
            its channels alone. As many groups as channels make a depthwise convolution.
        inputs: The number of channels; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (inputs / groups, kernel, kernel, filters); ``bias`` (filters,) starts at 0.

    Raises:
        SettingsError: A setting is out of range, a tuple does not have two entries, or the channels cannot be split.
        ShapeError: The kernel does not fit into a sample.

    Example:
        >>> import numpy as np
        >>> layer = Conv2D(filters=16, kernel=5, padding="same", inputs=3)
        >>> layer(np.zeros((2, 3, 28, 28))).shape
        (2, 16, 28, 28)

    Source:
        LeCun et al., Gradient-based learning applied to document recognition (1998), section II.A; dilation: Yu and
        Koltun, Multi-scale context aggregation by dilated convolutions (2016); groups: Krizhevsky, Sutskever and
        Hinton, ImageNet classification with deep convolutional neural networks (2012), section 3.5.
    """

    axes = 2

    padding: Literal["valid", "same"] | Size | tuple[Size, ...] = "valid"


class _Transposed(_Convolution):
    """The base of transposed convolutions.

    With stride s, every s-th entry of a kernel makes every s-th place of the output. So the kernel is split into s
    phases that move by 1, and their outputs are interleaved: no zeros between the places of x are multiplied.
    """

    padding: Literal["valid", "same"] | Size | tuple[Size, ...] = "valid"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        kernel = spread_setting(self, "kernel", self.axes)
        return {"weights": (self.inputs or 0, *kernel, self.filters // self.groups), "bias": (self.filters,)}

    def formula(self, x: Any, weights: Any, bias: Any) -> Any:
        sizes, margins = self._output_sizes(x.shape[2:]), self._margins(x.shape[2:])
        weights = self._phase_kernels(weights)
        counts = weights.shape[1:-1]
        x = np.pad(x, [(0, 0), (0, 0), *((count - 1, count - 1) for count in counts)])
        output = self._interleave(self._product(x, weights, counts, (1,) * (2 * self.axes)))
        crops = (slice(start, start + size) for (start, _), size in zip(margins, sizes, strict=True))
        return output[(slice(None), slice(None), *crops)] + bias[:, *(None,) * self.axes]

    def _phase_kernels(self, weights: Any) -> Any:
        """Return the phases of the kernel, (inputs / groups, counts, filters strides), as a kernel of a convolution."""
        masks = map(_phase_mask, *(spread_setting(self, name, self.axes) for name in ("kernel", "dilation", "stride")))
        subscripts = "cif,ikp->ckfp" if self.axes == 1 else "cijf,ikp,jlq->cklfpq"
        kernels = np.einsum(subscripts, weights, *masks)
        kernels = kernels.reshape(*kernels.shape[: 1 + self.axes], -1)
        return np.concatenate(np.split(kernels, self.groups), axis=-1)  # those of a group see its inputs alone

    def _interleave(self, output: Any) -> Any:
        """Interleave the outputs of the phases: (rows, filters strides, sizes) gives (rows, filters, places)."""
        strides, sizes = spread_setting(self, "stride", self.axes), output.shape[2:]
        output = output.reshape(len(output), self.filters, *strides, *sizes)
        order = [axis for n in range(2, 2 + self.axes) for axis in (n + self.axes, n)]
        places = (size * stride for size, stride in zip(sizes, strides, strict=True))
        return np.transpose(output, (0, 1, *order)).reshape(len(output), self.filters, *places)

    def _margins(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return how many places are cut off before and after each axis; a negative number adds places."""
        if self.padding != "same":
            return super()._margins(sizes)
        totals = [reach - n for reach, n in zip(self._reach(), spread_setting(self, "stride", self.axes), strict=True)]
        return [(max(total, 0) // 2, total - max(total, 0) // 2) for total in totals]

    def _output_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        margins, strides = self._margins(sizes), spread_setting(self, "stride", self.axes)
        places = tuple(
            (size - 1) * stride + reach - sum(margin)
            for size, stride, reach, margin in zip(sizes, strides, self._reach(), margins, strict=True)
        )
        if min(places) < 1:
            problem = f"padding={self.padding} cuts off every place of samples of sizes {sizes}"
            raise ShapeError(problem, where=type(self).__name__, advice="take a smaller padding, or 'same'")
        return places


def _phase_mask(size: int, dilation: int, stride: int) -> Any:
    """Return which entry of a kernel goes where in which phase, as zeros and ones: (entries, counts, phases).

    The entries stand in reverse order, because a convolution does not flip its kernel.
    """
    count = dilation * (size - 1) // stride + 1
    places = stride * np.arange(count)[::-1, None] + np.arange(stride)
    return 1.0 * (dilation * np.arange(size)[:, None, None] == places)


class ConvTranspose1D(_Transposed):
    """a[f, t] = bias[f] + the sum of weights[c, i, f] x[c, s] over c and t = stride s + dilation i - padding.

    A sample (channels, steps) gives (filters, places). The settings are those of ConvTranspose2D, along one axis;
    ``weights`` are (inputs, kernel, filters / groups).

    Raises:
        SettingsError: A setting is out of range, a tuple has more than one entry, or the channels cannot be split.
        ShapeError: The padding cuts off all places.

    Example:
        >>> layer = ConvTranspose1D(filters=1, kernel=2, stride=2, inputs=1)
        >>> layer.parameters["weights"][0, :, 0] = [1.0, 10.0]
        >>> layer([[[1.0, 2.0, 3.0]]])
        array([[[ 1., 10.,  2., 20.,  3., 30.]]])

    Source:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapter 4.
    """

    axes = 1


class ConvTranspose2D(_Transposed):
    """a[f, t, u] = bias[f] + the sum of weights[c, i, j, f] x[c, s, r] over c and t = stride s + dilation i - padding.

    The second axis, u, likewise has its own stride, dilation and padding. This is how a convolution's gradients go back
    to its input, as a layer of its own: with a stride it makes images larger. A sample (channels, height, width) gives
    (filters, places, places): (size - 1) stride + dilation (kernel - 1) + 1 - 2 padding places along each axis, as in
    PyTorch with ``output_padding=0``.

    Args:
        filters: The number of outputs at each place.
        kernel: The size of the kernel, one number for both axes or one for each.
        stride: How far apart the kernels of neighbouring places of x lie, likewise.
        padding: "valid" cuts off nothing; "same" as many places as leave size stride of them, the odd one at the end,
            as in Keras; a number cuts off that many places on each side.
        dilation: The distance of the kernel's entries; 1 leaves no gaps.
        groups: The number of groups: channels and filters are split evenly, in order, and the filters of a group see
            its channels alone.
        inputs: The number of channels; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (inputs, kernel, kernel, filters / groups); ``bias`` (filters,) starts at 0.

    Raises:
        SettingsError: A setting is out of range, a tuple does not have two entries, or the channels cannot be split.
        ShapeError: The padding cuts off all places.

    Example:
        >>> import numpy as np
        >>> layer = ConvTranspose2D(filters=3, kernel=4, stride=2, padding=1, inputs=16)
        >>> layer(np.zeros((2, 16, 14, 14))).shape
        (2, 3, 28, 28)

    Source:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapter 4.
    """

    axes = 2


class _Pool(Layer):
    """The base of the maximum and the mean in a window, which covers every axis after the channels."""

    window: Count | tuple[Count, ...]
    stride: Count | tuple[Count, ...] | None = None
    padding: Size | tuple[Size, ...] = 0

    def model_post_init(self, context: object) -> None:
        """Refuse settings for different numbers of axes, and windows that can lie in the padding alone."""
        window, _, padding = self._spread_settings(self._axes or 1)
        if any(2 * around > size for around, size in zip(padding, window, strict=True)):
            raise SettingsError(
                f"must be at most half of the window, {window}; got {padding}", name="setting 'padding'"
            )

    @property
    def input_shape(self) -> Shape:
        """(channels, sizes), where a setting says how many sizes there are; otherwise the last of them."""
        return (None, *(None,) * self._axes) if self._axes else (None,)

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        """Whether no setting says how many axes there are."""
        return not self._axes

    @property
    def _axes(self) -> int:
        """The number of axes that a tuple among the settings is for, or 0."""
        return max((len(v) for v in (self.window, self.stride, self.padding) if isinstance(v, tuple)), default=0)

    def shape_after(self, shape: Shape) -> Shape:
        if is_known(shape):
            return super().shape_after(shape)
        return (shape[0], *(None,) * (len(shape) - 1))

    def _spread_settings(self, axes: int) -> tuple[tuple[int, ...], ...]:
        """Return window, stride and padding with one number for each axis."""
        window = spread_setting(self, "window", axes)
        return (
            window,
            window if self.stride is None else spread_setting(self, "stride", axes),
            spread_setting(self, "padding", axes),
        )

    def _windows(self, x: Any, fill: float) -> tuple[Any, tuple[int, ...]]:
        """Return x with axes for the places in a window, and those axes."""
        if x.ndim < 3:
            raise ShapeError(f"{type(self).__name__} takes samples (channels, sizes); got {x.ndim - 1} axis")
        window, stride, padding = self._spread_settings(x.ndim - 2)
        sizes = tuple(size + 2 * around for size, around in zip(x.shape[2:], padding, strict=True))
        if any(size < width for size, width in zip(sizes, window, strict=True)):
            raise ShapeError(f"a window of {window} does not fit into {sizes}", where=type(self).__name__)
        x = np.pad(x, [(0, 0), (0, 0), *((around, around) for around in padding)], constant_values=fill)
        if stride == window:  # windows that do not overlap are blocks
            counts = [size // width for size, width in zip(sizes, window, strict=True)]
            whole = [slice(0, count * width) for count, width in zip(counts, window, strict=True)]
            blocks = [n for pair in zip(counts, window, strict=True) for n in pair]
            x = x[(slice(None), slice(None), *whole)].reshape(len(x), x.shape[1], *blocks)
            return x, tuple(range(3, x.ndim, 2))
        windows = _windows(x, window, stride)
        return windows, tuple(range(x.ndim, windows.ndim))


class MaxPool(_Pool):
    """a[c, t] = the largest x[c, stride t + i - padding] over the places i of the window.

    A sample is (channels, sizes) and gives (channels, places), with (size + 2 padding - window) // stride + 1 places
    along each axis. The padding holds -infinity. Equal largest values share the gradient evenly, as in ``np.max``
    here; PyTorch gives it to the first.

    Args:
        window: The size of the window, one number for all axes or one for each.
        stride: How far the window moves; None is the window's size, so that windows do not overlap.
        padding: How many places are added before and after each axis: at most half of the window.

    Raises:
        SettingsError: A setting is out of range, or given for different numbers of axes.
        ShapeError: The window does not fit into a sample.

    Example:
        >>> import numpy as np
        >>> MaxPool(2)(np.arange(16.0).reshape(1, 1, 4, 4))
        array([[[[ 5.,  7.],
                 [13., 15.]]]])

    Source:
        Goodfellow, Bengio and Courville, Deep learning (2016), section 9.3; PyTorch's ``MaxPool2d(window, stride,
        padding)`` has no weights to load.
    """

    def formula(self, x: Any) -> Any:
        windows, axes = self._windows(x, -np.inf)
        return windows.max(axis=axes)


class AveragePool(_Pool):
    """a[c, t] = the mean of x[c, stride t + i - padding] over the places i of the window.

    A sample is (channels, sizes) and gives (channels, places), with (size + 2 padding - window) // stride + 1 places
    along each axis. The padding holds zeros, which count, as in PyTorch's default; Keras leaves them out. The settings
    are those of MaxPool.

    Raises:
        SettingsError: A setting is out of range, or given for different numbers of axes.
        ShapeError: The window does not fit into a sample.

    Example:
        >>> import numpy as np
        >>> AveragePool(2)(np.arange(8.0).reshape(1, 1, 8))
        array([[[0.5, 2.5, 4.5, 6.5]]])

    Source:
        LeCun et al., Gradient-based learning applied to document recognition (1998), section II.B, where a weight and
        a bias follow; PyTorch's ``AvgPool2d(window, stride, padding)`` has no weights to load.
    """

    def formula(self, x: Any) -> Any:
        windows, axes = self._windows(x, 0.0)
        return windows.mean(axis=axes)


class GlobalAverage(Layer):
    """a[c] = the mean of x[c] over all places: (channels, sizes) gives (channels,), for samples of any size.

    Example:
        >>> GlobalAverage()([[[1.0, 3.0], [10.0, 30.0]]])
        array([[ 2., 20.]])

    Source:
        Lin, Chen and Yan, Network in network (2014), section 3.2; PyTorch's ``AdaptiveAvgPool2d(1)`` and ``Flatten``.
    """

    def shape_after(self, shape: Shape) -> Shape:
        return (None,) if is_open(shape) else shape[:1]

    def formula(self, x: Any) -> Any:
        return x.mean(axis=tuple(range(2, x.ndim)))
