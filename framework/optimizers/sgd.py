"""Stochastic gradient descent."""

from __future__ import annotations

from framework.arrays import Array
from framework.errors import SettingsError
from framework.optimizers.base import Optimizer
from framework.settings.component import Fraction, NonNegative


class SGDOptimizer(Optimizer):
    """Stochastic gradient descent: w <- w - rate * g. Everything else is off unless asked for.

    With weight decay, g <- g + weight_decay * w (an L2 penalty). With momentum, v <- momentum * v + g and
    w <- w - rate * v; with nesterov, w <- w - rate * (g + momentum * v). This is PyTorch's variant: the rate is not
    part of v, and there is no dampening.

    Args:
        model: The model to bind to; None, as inside a Trainer, leaves the optimizer unbound.

    Attributes:
        learning_rate: A positive number, or a Schedule.
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
