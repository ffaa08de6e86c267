"""Lion: descent by signs alone."""

from __future__ import annotations

import numpy as np

from framework.arrays import Array
from framework.optimizers.base import Optimizer
from framework.schedules import Schedule
from framework.settings.component import Fraction, NonNegative, Positive


class LionOptimizer(Optimizer):
    """Every weight moves by the rate: w <- w - rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * w).

    Then m <- beta2 m + (1 - beta2) g: what decides the step leans more on the newest gradient than what is remembered.
    sign(0) is 0, there is no epsilon and no bias correction. Weight decay is decoupled and multiplied by the rate, as
    in the paper, which takes rates 3 to 10 times smaller, and decays as many times larger, than AdamW's.

    Args:
        model: The model to bind to; None, as inside a Trainer, leaves the optimizer unbound.

    Attributes:
        learning_rate: A positive number, or a Schedule.
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
