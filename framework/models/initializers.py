"""Initializers: the numbers that weights start from.

``fan_in`` is the number of inputs that a unit sums, ``fan_out`` the number of units that an input feeds. Weights of
shape (inputs, units) have fans (inputs, units); a neuron's weights of shape (inputs,) have fans (inputs, 1); those of a
convolution, (inputs, kernel, units), have fans (inputs kernel, kernel units).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import SettingsError
from framework.base.settings.component import Component, Positive


class Initializer(Component):
    """A recipe for a parameter's first values: write ``__call__(shape, rng)``.

    Example:
        >>> class Alternating(Initializer):
        ...     def __call__(self, shape, rng):
        ...         return np.resize([1.0, -1.0], shape)
        >>> Alternating()((3,), np.random.default_rng(0))
        array([ 1., -1.,  1.])
    """

    @abstractmethod
    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return an array of ``shape``, float64, whose random numbers come from ``rng`` alone."""


class Zeros(Initializer):
    """Every value 0.

    Example:
        >>> Zeros()((2,), np.random.default_rng(0))
        array([0., 0.])
    """

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.zeros(shape)


class Constant(Initializer):
    """Every value ``value``.

    Example:
        >>> Constant(0.5)((2,), np.random.default_rng(0))
        array([0.5, 0.5])
    """

    value: float

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.full(shape, self.value)


class Uniform(Initializer):
    """Uniform between ``low`` and ``high``.

    Raises:
        SettingsError: ``low`` is not below ``high``.

    Example:
        >>> bool(abs(Uniform(low=-0.1, high=0.1)((100,), np.random.default_rng(0))).max() <= 0.1)
        True
    """

    low: float = -0.05
    high: float = 0.05

    def model_post_init(self, context: object) -> None:
        if self.low >= self.high:
            raise SettingsError(f"must be less than high; got low={self.low}, high={self.high}", name="setting 'low'")

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.uniform(self.low, self.high, shape)


class Normal(Initializer):
    """Normal, with ``mean`` and standard ``deviation``.

    Example:
        >>> numbers = Normal(mean=1.0, deviation=0.1)((10000,), np.random.default_rng(0))
        >>> round(float(numbers.mean()), 2), round(float(numbers.std()), 2)
        (1.0, 0.1)
    """

    mean: float = 0.0
    deviation: Positive = 0.05

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.normal(self.mean, self.deviation, shape)


class _Scaled(Initializer):
    """Random numbers of mean 0 and the variance that ``_variance`` gives."""

    distribution: Literal["uniform", "normal"] = "normal"

    @abstractmethod
    def _variance(self, fan_in: int, fan_out: int) -> float: ...

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        deviation = math.sqrt(self._variance(*fans(shape)))
        if self.distribution == "normal":
            return rng.normal(0.0, deviation, shape)
        limit = math.sqrt(3.0) * deviation  # a uniform number in [-limit, limit] has the variance limit^2 / 3
        return rng.uniform(-limit, limit, shape)


class Glorot(_Scaled):
    """Variance gain^2 * 2 / (fan_in + fan_out), mean 0. For Sigmoid, Tanh, Softmax.

    Uniform numbers lie within gain * sqrt(6 / (fan_in + fan_out)), the paper's equation 16.

    Example:
        >>> Glorot()((3, 4), np.random.default_rng(0)).shape
        (3, 4)

    Source:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """

    distribution: Literal["uniform", "normal"] = "uniform"
    gain: Positive = 1.0

    def _variance(self, fan_in: int, fan_out: int) -> float:
        return self.gain**2 * 2.0 / (fan_in + fan_out)


class He(_Scaled):
    """Variance 2 / fan_in, mean 0. For ReLU.

    Example:
        >>> He()((3, 4), np.random.default_rng(0)).shape
        (3, 4)

    Source:
        He et al., Delving deep into rectifiers (2015), equation 10.
    """

    def _variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / fan_in


class LeCun(_Scaled):
    """Variance 1 / fan_in, mean 0: a unit's sum keeps the variance of its inputs. For SELU, and linear units.

    Uniform numbers lie within sqrt(3 / fan_in). Normal ones are not truncated, as in PyTorch and unlike Keras.

    Example:
        >>> bool(abs(LeCun(distribution="uniform")((3, 4), np.random.default_rng(0))).max() <= 1.0)
        True

    Source:
        LeCun et al., Efficient BackProp (1998), equation 16; Klambauer et al., Self-normalizing neural networks (2017).
    """

    def _variance(self, fan_in: int, fan_out: int) -> float:
        return 1.0 / fan_in


class Orthogonal(Initializer):
    """``gain`` times a random matrix Q whose columns are orthonormal, or its rows where it is wider than high.

    The matrix is (fan_in, units), so a layer with as many units as inputs keeps the length of its input, times the
    gain; a neuron's weights have the length ``gain``. All such matrices are equally likely. The last bits depend on
    the LAPACK that NumPy was built with.

    Example:
        >>> weights = Orthogonal(gain=2.0)((4, 3), np.random.default_rng(0))
        >>> bool(np.allclose(weights.T @ weights, 4.0 * np.eye(3)))
        True

    Source:
        Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks (2014); Mezzadri, How to generate random matrices from the classical compact groups (2007).
    """

    gain: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        inputs, units = (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else fans(shape)
        normal = rng.normal(size=(max(inputs, units), min(inputs, units)))
        q, r = np.linalg.qr(normal)
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # QR fixes the signs of r; without this Q is not uniform
        tall = q if inputs >= units else q.T
        return self.gain * np.ascontiguousarray(tall).reshape(shape)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of weights of this shape.

    Example:
        >>> fans((30,)), fans((64, 10)), fans((3, 5, 5, 16))
        ((30, 1), (64, 10), (75, 400))
    """
    if len(shape) < 2:
        return (math.prod(shape), 1)
    return (math.prod(shape[:-1]), math.prod(shape[1:]))
