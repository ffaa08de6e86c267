"""Pooling: the maximum or the mean of the inputs in a window. Channels come first, as in ``convolution``.

A window covers every axis after the channels, so one class serves (channels, steps) and (channels, height, width).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.errors import SettingsError, ShapeError
from framework.models.convolution import Size, spread
from framework.models.layer import Layer
from framework.models.shapes import Shape, is_known
from framework.settings.component import Count


class _Pool(Layer):
    """The base of the maximum and the mean in a window."""

    window: Count | tuple[Count, ...]
    stride: Count | tuple[Count, ...] | None = None
    padding: Size | tuple[Size, ...] = 0

    def model_post_init(self, context: object) -> None:
        """Refuse settings for different numbers of axes, and windows that can lie in the padding alone."""
        window, _, padding = self._spread(self._axes or 1)
        if any(2 * around > size for around, size in zip(padding, window, strict=True)):
            raise SettingsError(
                f"{type(self).__name__}: setting 'padding' must be at most half of the window, {window}; got {padding}"
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
        if len(shape) == 1:  # the last axis alone, behind a layer that samples with more axes may come from
            return (None,)
        if is_known(shape):
            return super().shape_after(shape)
        return (shape[0], *(None,) * (len(shape) - 1))

    def _spread(self, axes: int) -> tuple[tuple[int, ...], ...]:
        """Return window, stride and padding with one number for each axis."""
        window = spread(self, "window", axes)
        return window, window if self.stride is None else spread(self, "stride", axes), spread(self, "padding", axes)

    def _windows(self, x: Any, fill: float) -> tuple[Any, tuple[int, ...]]:
        """Return x with axes for the places in a window, and those axes."""
        if x.ndim < 3:
            raise ShapeError(f"{type(self).__name__} takes samples (channels, sizes); got {x.ndim - 1} axis")
        window, stride, padding = self._spread(x.ndim - 2)
        sizes = tuple(size + 2 * around for size, around in zip(x.shape[2:], padding, strict=True))
        if any(size < width for size, width in zip(sizes, window, strict=True)):
            raise ShapeError(f"{type(self).__name__}: a window of {window} does not fit into {sizes}")
        x = np.pad(x, [(0, 0), (0, 0), *((around, around) for around in padding)], constant_values=fill)
        if stride == window:  # windows that do not overlap are blocks
            counts = [size // width for size, width in zip(sizes, window, strict=True)]
            whole = [slice(0, count * width) for count, width in zip(counts, window, strict=True)]
            blocks = [n for pair in zip(counts, window, strict=True) for n in pair]
            x = x[(slice(None), slice(None), *whole)].reshape(len(x), x.shape[1], *blocks)
            return x, tuple(range(3, x.ndim, 2))
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(x, window, axis=axes)
        windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in stride))]
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
        >>> MaxPool(window=2)(np.arange(16.0).reshape(1, 1, 4, 4))
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
    along each axis. The padding holds zeros, which count, as in PyTorch's default; Keras leaves them out.

    Args:
        window: The size of the window, one number for all axes or one for each.
        stride: How far the window moves; None is the window's size, so that windows do not overlap.
        padding: How many places are added before and after each axis: at most half of the window.

    Raises:
        SettingsError: A setting is out of range, or given for different numbers of axes.
        ShapeError: The window does not fit into a sample.

    Example:
        >>> import numpy as np
        >>> AveragePool(window=2)(np.arange(8.0).reshape(1, 1, 8))
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
        return shape[:1]

    def formula(self, x: Any) -> Any:
        return x.mean(axis=tuple(range(2, x.ndim)))
