"""Normalization: numbers of mean 0 and variance 1, then a scale and a shift that are learnt.

BatchNorm takes mean and variance of each unit over the rows of a batch, LayerNorm of each row over its units. The
variance inside the formula is that of the numbers at hand, divided by their count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from framework.arrays import Array, Record
from framework.component import Count, Positive
from framework.errors import SettingsError, ShapeError
from framework.initializers import Constant, Initializer
from framework.models.layer import Layer


class _Normalization(Layer):
    """What both share: a = scale * (x - mean) / sqrt(variance + epsilon) + shift."""

    units: Count
    epsilon: Positive = 1e-5

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(units,)."""
        return (self.units,)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Scale and shift (units,)."""
        return {"scale": (self.units,), "shift": (self.units,)}

    def initializers(self) -> Mapping[str, Initializer]:
        """Start with scale 1 and shift 0."""
        return {"scale": Constant(value=1.0)}

    def _scaled(self, values: Mapping[str, Array], record: Record) -> Array:
        """Return scale * normalized + shift."""
        normalized = record["normalized"]
        a: Array = np.multiply(normalized, values["scale"], out=record.array("a", normalized.shape))
        a += values["shift"]
        return a

    def _fill(self, gradient: Array, record: Record, gradients: Mapping[str, Array]) -> None:
        """Fill dL/d(scale) and dL/d(shift)."""
        np.add.reduce(gradient, axis=0, out=gradients["shift"])
        np.einsum("ij,ij->j", gradient, record["normalized"], out=gradients["scale"])


class BatchNorm(_Normalization):
    """a = scale * (x - mean) / sqrt(variance + epsilon) + shift, for each unit over the rows of the batch.

    Training uses the batch's mean and variance, and moves the running ones towards them:
    running <- (1 - momentum) running + momentum batch, where the running variance takes the batch's unbiased one,
    divided by rows - 1. Prediction uses the running ones. They are buffers: saved with the model, seen by no optimizer,
    and they move on when scale and shift are frozen. Sample weights do not reach them.

    Args:
        units: The number of inputs, and of outputs.
        momentum: The part of the running numbers that a batch replaces, in (0, 1]: PyTorch's meaning; Keras's is 1
            minus this.
        epsilon: Added to the variance, so that a constant unit divides by no 0.
        seed: Of no use here: scale starts at 1 and shift at 0.
        dtype: "float64" or "float32".

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

    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1

    def __init__(
        self,
        units: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        seed: int | None = None,
        dtype: npt.DTypeLike = "float64",
    ) -> None:
        """Validate the settings."""
        super().__init__(units=units, momentum=momentum, epsilon=epsilon, seed=seed, dtype=dtype)

    @property
    def minimum_rows(self) -> int:
        """Two: one row alone has no variance."""
        return 2

    def initial_buffers(self) -> Mapping[str, Array]:
        """Start with running mean 0 and variance 1."""
        return {
            "running_mean": np.zeros(self.units, self.dtype),
            "running_variance": np.ones(self.units, self.dtype),
        }

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Normalize by the batch in training, else by the running numbers."""
        running_mean, running_variance = self.buffers["running_mean"], self.buffers["running_variance"]
        if not record.training:
            a = x - running_mean
            a *= values["scale"] / np.sqrt(running_variance + self.epsilon)
            a += values["shift"]
            return a
        rows = len(x)
        if rows < 2:
            raise ShapeError(
                f"BatchNorm needs 2 rows or more in training; got {rows}: "
                "choose a batch_size that leaves no single row at the end; model(x) predicts for one row"
            )
        mean = np.add.reduce(x, axis=0, out=record.array("mean", (self.units,)))
        mean /= rows
        normalized = np.subtract(x, mean, out=record.array("normalized", x.shape))
        variance = np.einsum("ij,ij->j", normalized, normalized, out=record.array("variance", (self.units,)))
        variance /= rows
        if np.isfinite(variance).all():  # else the loss diverges, and the model keeps its last finite numbers
            running_mean += self.momentum * (mean - running_mean)
            running_variance += self.momentum * (variance * (rows / (rows - 1)) - running_variance)
        variance += self.epsilon
        record["deviation"] = deviation = np.sqrt(variance, out=variance)
        normalized /= deviation
        record["normalized"] = normalized
        return self._scaled(values, record)

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return dL/dx = scale / deviation * (g - mean(g) - normalized * mean(g * normalized)), means over rows."""
        self._fill(gradient, record, gradients)
        if not record.needs_input_gradient:
            return gradient
        rows = len(gradient)
        dx: Array = np.multiply(
            record["normalized"], gradients["scale"] / -rows, out=record.array("dx", gradient.shape)
        )
        dx += gradient
        dx -= gradients["shift"] / rows
        dx *= values["scale"] / record["deviation"]
        return dx


class LayerNorm(_Normalization):
    """a = scale * (x - mean) / sqrt(variance + epsilon) + shift, for each row over its units.

    Training and prediction are the same, and a row's output does not depend on the other rows.

    Args:
        units: The number of inputs, and of outputs: 2 or more.
        epsilon: Added to the variance, so that a constant row divides by no 0.
        seed: Of no use here: scale starts at 1 and shift at 0.
        dtype: "float64" or "float32".

    Raises:
        SettingsError: A setting is out of range, or there is a single unit, which would always be 0.

    Example:
        >>> LayerNorm(2)([1.0, 3.0]).round(3).tolist()
        [-1.0, 1.0]

    Source:
        Ba, Kiros and Hinton, Layer normalization (2016), equation 4.
    """

    def __init__(
        self,
        units: int,
        *,
        epsilon: float = 1e-5,
        seed: int | None = None,
        dtype: npt.DTypeLike = "float64",
    ) -> None:
        """Validate the settings."""
        super().__init__(units=units, epsilon=epsilon, seed=seed, dtype=dtype)

    def model_post_init(self, context: object) -> None:
        """Refuse a single unit."""
        if self.units == 1:
            raise SettingsError("LayerNorm: setting 'units' must be 2 or more; a row of 1 unit normalizes to 0")

    def apply(self, x: Array, values: Mapping[str, Array], record: Record) -> Array:
        """Normalize each row."""
        mean = np.add.reduce(x, axis=1, out=record.array("mean", x.shape[:1]))
        mean /= self.units
        normalized = np.subtract(x, mean[:, None], out=record.array("normalized", x.shape))
        variance = np.einsum("ij,ij->i", normalized, normalized, out=record.array("variance", x.shape[:1]))
        variance /= self.units
        variance += self.epsilon
        record["deviation"] = deviation = np.sqrt(variance, out=variance)
        normalized /= deviation[:, None]
        record["normalized"] = normalized
        return self._scaled(values, record)

    def apply_backward(
        self, gradient: Array, values: Mapping[str, Array], record: Record, gradients: Mapping[str, Array]
    ) -> Array:
        """Return dL/dx = (g - mean(g) - normalized * mean(g * normalized)) / deviation, with g = scale * dL/da."""
        self._fill(gradient, record, gradients)
        if not record.needs_input_gradient:
            return gradient
        rows = gradient.shape[:1]
        normalized = record["normalized"]
        scaled = np.multiply(gradient, values["scale"], out=record.array("scaled", gradient.shape))
        along = np.einsum("ij,ij->i", scaled, normalized, out=record.array("along", rows))
        along /= -self.units
        mean = np.add.reduce(scaled, axis=1, out=record.array("gradient_mean", rows))
        mean /= self.units
        dx: Array = np.multiply(normalized, along[:, None], out=record.array("dx", gradient.shape))
        dx += scaled
        dx -= mean[:, None]
        dx /= record["deviation"][:, None]
        return dx
