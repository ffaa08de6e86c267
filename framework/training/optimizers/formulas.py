"""Optimizers that go down the gradient, or its sign; and those that divide it by a measure of its own past size.

Of the latter, Adam and its relatives correct the bias of a mean of few steps.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import SettingsError
from framework.base.settings.component import Fraction, NonNegative, Positive
from framework.formulas.schedules import Schedule
from framework.training.optimizers.base import Optimizer


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
            raise SettingsError("needs momentum; write momentum=0.9, nesterov=True", name="setting 'nesterov'")

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


class _Adam(Optimizer):
    """Adam and its relatives: a step of about the rate's size, from running means of the gradient and of its square.

    In all of them m is the mean of the gradients and v that of their squares; both start at 0, so they are divided by
    what a mean of so few steps falls short of 1. epsilon stands outside the root, beside sqrt(v_hat).
    """

    learning_rate: Positive | Schedule = 0.001
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0

    memory: ClassVar[tuple[str, ...]] = ("mean", "square")
    squares = True

    def _move_memory(self, gradients: Array, step: int, m: Array, v: Array) -> Array:
        """Move m and v towards the gradients and their squares, and return sqrt(v_hat) + epsilon."""
        m *= self.beta1
        m += (1 - self.beta1) * gradients
        v *= self.beta2
        v += (1 - self.beta2) * gradients**2
        root: Array = np.sqrt(v / (1 - self.beta2**step)) + self.epsilon
        return root


class AdamOptimizer(_Adam):
    """Adam, with bias correction: the paper's Algorithm 1 and PyTorch's Adam.

        m <- beta1 m + (1 - beta1) g              m_hat = m / (1 - beta1^step)
        v <- beta2 v + (1 - beta2) g^2            v_hat = v / (1 - beta2^step)
        w <- w - rate * m_hat / (sqrt(v_hat) + epsilon)

    Weight decay is coupled: g <- g + weight_decay * w before all else, so that it is scaled like the gradient;
    AdamWOptimizer decouples it. The paper's second form, with the corrections drawn into the rate, has another epsilon.

    Attributes:
        beta1: How much of m is kept at each step, in [0, 1).
        beta2: How much of v is kept at each step, in [0, 1).
        epsilon: Keeps the quotient finite where the gradients are 0.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = AdamOptimizer(neuron, learning_rate=0.1)
        >>> neuron.parameters.gradients["weights"][:] = [0.01, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(6)  # the first step has the size of the rate, whatever the gradient's
        array([0.9, 0.9])

    Source:
        Kingma and Ba, Adam: a method for stochastic optimization (2015), Algorithm 1.
    """

    elementwise = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        m, v = memory
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        root = self._move_memory(gradients, step, m, v)
        m_hat = m / (1 - self.beta1**step)
        values -= rate * m_hat / root


class AdamWOptimizer(_Adam):
    """Adam with decoupled weight decay: w <- w - rate * (m_hat / (sqrt(v_hat) + epsilon) + weight_decay * w).

    m_hat and v_hat are AdamOptimizer's, of the gradient alone. The decay is multiplied by the rate, schedule included,
    as in PyTorch; the paper multiplies it by the schedule's factor alone, so its weight_decay is ours times its rate.
    Every trainable parameter decays, biases too.

    Attributes:
        beta1, beta2, epsilon: Those of AdamOptimizer.
        weight_decay: The part of w that each step removes, per unit of rate; PyTorch's 0.01 unless set.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = AdamWOptimizer(neuron, learning_rate=0.1, weight_decay=0.5)
        >>> neuron.parameters.gradients["weights"][:] = [0.0, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(6)
        array([0.95, 0.85])

    Source:
        Loshchilov and Hutter, Decoupled weight decay regularization (2019), Algorithm 2.
    """

    weight_decay: NonNegative = 0.01

    elementwise = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        m, v = memory
        root = self._move_memory(gradients, step, m, v)
        m_hat = m / (1 - self.beta1**step)
        values -= rate * (m_hat / root + self.weight_decay * values)


class NAdamOptimizer(_Adam):
    """Adam with Nesterov's look-ahead along m: PyTorch's NAdam, with the momentum schedule of Dozat's report.

        mu(t) = beta1 (1 - 1/2 0.96^(t * momentum_decay))        M(t) = mu(1) mu(2) ... mu(t)
        ahead = mu(step + 1) m / (1 - M(step + 1)) + (1 - mu(step)) g / (1 - M(step))
        w <- w - rate * ahead / (sqrt(v_hat) + epsilon)

    m and v are AdamOptimizer's. m is kept with beta1, as in PyTorch; the report keeps it with mu(t). The rest,
    1 - M(t), is kept for each parameter. Weight decay is coupled: g <- g + weight_decay * w.

    Attributes:
        beta1: How much of m is kept at each step, and the limit of mu, in [0, 1).
        beta2, epsilon: Those of AdamOptimizer.
        momentum_decay: How fast mu rises from about beta1 / 2 to beta1; 0 leaves it at beta1 / 2.

    Example:
        >>> from framework import Neuron
        >>> neuron = Neuron.from_weights([1.0, 1.0], train_bias=False)
        >>> optimizer = NAdamOptimizer(neuron, learning_rate=0.1)
        >>> neuron.parameters.gradients["weights"][:] = [0.01, 100.0]
        >>> optimizer.step()
        >>> neuron.weights.round(4)
        array([0.8944, 0.8944])

    Source:
        Dozat, Incorporating Nesterov momentum into Adam (2016), Algorithm 2; PyTorch, torch.optim.NAdam.
    """

    learning_rate: Positive | Schedule = 0.002
    momentum_decay: NonNegative = 0.004

    memory = ("mean", "square", "rest")
    elementwise = True

    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        m, v, rest = memory
        if self.weight_decay:
            gradients = gradients + self.weight_decay * values
        root = self._move_memory(gradients, step, m, v)
        mu, next_mu = (self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1))
        rest *= mu
        rest += 1 - mu
        ahead = next_mu * m / (1 - next_mu * (1 - rest)) + (1 - mu) * gradients / rest
        values -= rate * ahead / root
