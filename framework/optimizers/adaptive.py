"""Optimizers that divide each gradient by a measure of its own past size, without Adam's bias correction."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.optimizers.base import Optimizer
from framework.schedules import Schedule
from framework.settings.component import Fraction, NonNegative, Positive


class RMSPropOptimizer(Optimizer):
    """The gradient over the root of its mean square.

        v <- rho v + (1 - rho) g^2
        w <- w - rate * g / (sqrt(v) + epsilon)

    With momentum, u <- momentum * u + g / (sqrt(v) + epsilon) and w <- w - rate * u. Centered, v is replaced under the
    root by the variance v - m^2, where m <- rho m + (1 - rho) g. Weight decay is coupled: g <- g + weight_decay * w.

    This is PyTorch's RMSprop: no bias correction, and epsilon outside the root (Keras has it inside). Where rounding
    makes the variance negative, it is 0 here; PyTorch's root of it is NaN.

    Attributes:
        rho: How much of the means is kept at each step, in [0, 1).
        epsilon: Keeps the quotient finite where the gradients are 0.
        momentum: In [0, 1).
        centered: Whether to divide by the standard deviation of the gradients in place of their root mean square.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = RMSPropOptimizer(neuron, learning_rate=0.1, rho=0.75)
        >>> neuron.parameters.gradients["weights"][:] = [0.01, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(6)  # g / sqrt((1 - rho) g^2) is 2: without bias correction the first steps are long
        array([0.8, 0.8])

    Source:
        Hinton, Neural networks for machine learning (2012), lecture 6e; Graves, Generating sequences with recurrent
        neural networks (2013), equations 38 to 41, for the centered form.
    """

    learning_rate: Positive | Schedule = 0.01
    rho: Fraction = 0.99
    epsilon: Positive = 1e-8
    momentum: Fraction = 0.0
    centered: bool = False
    weight_decay: NonNegative = 0.0

    memory = ("square", "mean", "velocity")
    elementwise = True
    squares = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        v, m, velocity = memory
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        v *= self.rho
        v += (1 - self.rho) * gradients**2
        variance = v
        if self.centered:
            m *= self.rho
            m += (1 - self.rho) * gradients
            variance = np.maximum(v - m**2, 0)
        scaled = gradients / (np.sqrt(variance) + self.epsilon)
        if self.momentum:
            velocity *= self.momentum
            velocity += scaled
            scaled = velocity
        values -= rate * scaled


class AdagradOptimizer(Optimizer):
    """The gradient over the root of the sum of its squares: s <- s + g^2, w <- w - rate * g / (sqrt(s) + epsilon).

    This is PyTorch's Adagrad, epsilon outside the root; its lr_decay is an InverseTimeSchedule. The sum never falls,
    so the steps shrink like 1 / sqrt(step). Weight decay is coupled: g <- g + weight_decay * w.

    Attributes:
        initial: The first value of the sum; more than 0 shortens the first steps.
        epsilon: Keeps the quotient finite where the gradients are 0.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = AdagradOptimizer(neuron, learning_rate=0.1)
        >>> neuron.parameters.gradients["weights"][:] = [0.01, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(6)
        array([0.9, 0.9])

    Source:
        Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic optimization (2011),
        figure 1, diagonal form.
    """

    learning_rate: Positive | Schedule = 0.01
    initial: NonNegative = 0.0
    epsilon: Positive = 1e-10
    weight_decay: NonNegative = 0.0

    memory = ("squares",)
    elementwise = True
    squares = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        (squares,) = memory
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        squares += gradients**2
        values -= rate * gradients / (np.sqrt(self.initial + squares) + self.epsilon)


class AdadeltaOptimizer(Optimizer):
    """A step as long as the past steps were, so that it has the unit of w and needs no rate.

        v <- rho v + (1 - rho) g^2
        change = sqrt(d + epsilon) / sqrt(v + epsilon) * g
        d <- rho d + (1 - rho) change^2,    w <- w - rate * change

    This is the paper's Algorithm 1, epsilon inside both roots; the rate, 1 in the paper, is PyTorch's and no part of
    d. There is no bias correction: d starts at 0, so epsilon sets the size of the first steps. Weight decay is coupled:
    g <- g + weight_decay * w.

    Attributes:
        learning_rate: A positive number, or a Schedule; 1 is the paper's.
        rho: How much of the means is kept at each step, in [0, 1); the paper has 0.95, PyTorch 0.9.
        epsilon: The square of the first change, roughly.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = AdadeltaOptimizer(neuron, rho=0.75)
        >>> neuron.parameters.gradients["weights"][:] = [1.0, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(6)
        array([0.998, 0.998])

    Source:
        Zeiler, ADADELTA: an adaptive learning rate method (2012), Algorithm 1.
    """

    learning_rate: Positive | Schedule = 1.0
    rho: Fraction = 0.9
    epsilon: Positive = 1e-6
    weight_decay: NonNegative = 0.0

    memory = ("square", "changes")
    elementwise = True
    squares = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        v, d = memory
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        v *= self.rho
        v += (1 - self.rho) * gradients**2
        change = np.sqrt(d + self.epsilon) / np.sqrt(v + self.epsilon) * gradients
        d *= self.rho
        d += (1 - self.rho) * change**2
        values -= rate * change
