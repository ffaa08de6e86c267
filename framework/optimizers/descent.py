"""Optimizers that go down the gradient, or its sign, without dividing it by its size."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError
from framework.optimizers.base import Optimizer
from framework.schedules import Schedule
from framework.settings.component import Fraction, NonNegative, Positive


class SGDOptimizer(Optimizer):
    """Stochastic gradient descent: w <- w - rate * g. Everything else is off unless asked for.

    With weight decay, g <- g + weight_decay * w (an L2 penalty). With momentum, v <- momentum * v + g and
    w <- w - rate * v; with nesterov, w <- w - rate * (g + momentum * v). This is PyTorch's variant: the rate is not
    part of v, and there is no dampening.

    Attributes:
        momentum: In [0, 1).
        nesterov: Whether to look ahead along the velocity; needs momentum.
        weight_decay: Added to the gradient as weight_decay * w.

    Raises:
        SettingsError: A setting is out of range, or nesterov has no momentum.

    Example:
        >>> SGDOptimizer(learning_rate=0.1, momentum=0.9).momentum
        0.9

    Source:
        Robbins and Monro (1951); Polyak (1964); Sutskever et al., On the importance of initialization and momentum in
        deep learning (2013).
    """

    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    memory = ("velocity",)
    elementwise = True

    def model_post_init(self, context: object) -> None:
        """Refuse nesterov without momentum."""
        if self.nesterov and not self.momentum:
            raise SettingsError("SGDOptimizer: setting 'nesterov' needs momentum; write momentum=0.9, nesterov=True")

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        if self.momentum:
            (velocity,) = memory
            velocity *= self.momentum
            velocity += gradients
            gradients = gradients + self.momentum * velocity if self.nesterov else velocity
        values -= rate * gradients


class LionOptimizer(Optimizer):
    """Every weight moves by the rate: w <- w - rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * w).

    Then m <- beta2 m + (1 - beta2) g: what decides the step leans more on the newest gradient than what is remembered.
    sign(0) is 0, there is no epsilon and no bias correction. Weight decay is decoupled and multiplied by the rate, as
    in the paper, which takes rates 3 to 10 times smaller, and decays as many times larger, than AdamW's.

    Attributes:
        beta1: How much m counts in the step, in [0, 1).
        beta2: How much of m is kept at each step, in [0, 1).
        weight_decay: The part of w that each step removes, per unit of rate.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0, 1.0], train_bias=False)
        >>> optimizer = LionOptimizer(neuron, learning_rate=0.25)
        >>> neuron.parameters.gradients["weights"][:] = [0.01, -100.0, 0.0]
        >>> optimizer.step()
        >>> neuron.weights
        array([0.75, 1.25, 1.  ])

    Source:
        Chen et al., Symbolic discovery of optimization algorithms (2023), Algorithm 2.
    """

    learning_rate: Positive | Schedule = 0.0001
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    weight_decay: NonNegative = 0.0

    memory = ("mean",)
    elementwise = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        (m,) = memory
        direction = np.sign(self.beta1 * m + (1 - self.beta1) * gradients)
        values -= rate * (direction + self.weight_decay * values)
        m *= self.beta2
        m += (1 - self.beta2) * gradients
