"""Rectifiers: h above 0, and nothing or something small below; straight pieces and steps, which are cheap.

The smooth activations have no kinks, so a derivative that changes gradually everywhere.

Where a formula has two branches, np.where computes both; the exponent of the lower one is held at a point where the
upper one has long been chosen, so that nothing overflows and 0 remains the only kink.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np

from framework.base.settings.component import Fraction, Positive
from framework.base.special import erfc
from framework.formulas.activations.base import Activation
from framework.formulas.activations.basic import logistic, scale_in_range, softplus


class ReLU(Activation):
    """f(h) = max(h, 0), f'(h) = 1 where h > 0, else 0. Range [0, inf).

    At the kink the derivative is 0 by convention, as in PyTorch.

    Example:
        >>> ReLU()(np.array([-1.0, 0.0, 2.0])), ReLU().derivative(np.array([-1.0, 0.0, 2.0]))
        (array([0., 0., 2.]), array([0., 0., 1.]))

    Source:
        Nair and Hinton, Rectified linear units improve restricted Boltzmann machines (2010).
    """

    output_range = (0.0, np.inf)

    def __call__(self, h: Any) -> Any:
        return np.maximum(h, 0.0)


class LeakyReLU(Activation):
    """f(h) = h where h > 0, else s h; f'(h) = 1 where h > 0, else s. Range (-inf, inf).

    At the kink the derivative is s, as in PyTorch.

    Attributes:
        negative_slope: s, in [0, 1); 0 is ReLU.

    Example:
        >>> LeakyReLU()(np.array([-1.0, 2.0])), LeakyReLU().derivative(np.array([-1.0, 2.0]))
        (array([-0.01,  2.  ]), array([0.01, 1.  ]))

    Source:
        Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models (2013).
    """

    output_range = (-np.inf, np.inf)
    negative_slope: Fraction = 0.01

    def __call__(self, h: Any) -> Any:
        return np.where(h > 0, h, self.negative_slope * h)[()]


class ELU(Activation):
    """f(h) = h where h > 0, else alpha (exp(h) - 1); f'(h) = 1 where h > 0, else alpha exp(h). Range (-alpha, inf).

    At 0 the derivative is alpha, as in PyTorch; with alpha = 1 there is no kink.

    Attributes:
        alpha: The limit for large negative h is -alpha.

    Example:
        >>> float(ELU()(2.0)), round(float(ELU()(-1.0)), 6), float(ELU().derivative(0.0))
        (2.0, -0.632121, 1.0)

    Source:
        Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential linear units (2016),
        section 3.
    """

    output_range = (-np.inf, np.inf)  # for every alpha
    alpha: Positive = 1.0

    def __call__(self, h: Any) -> Any:
        return np.where(h > 0, h, self.alpha * np.expm1(np.minimum(h, 1.0)))[()]


class SELU(Activation):
    """f(h) = lambda h where h > 0, else lambda alpha (exp(h) - 1): the ELU that keeps mean 0 and variance 1.

    f'(h) = lambda where h > 0, else lambda alpha exp(h). Range (-lambda alpha, inf) = (-1.7581, inf). lambda and alpha
    are the solution of the paper's fixed point, not settings. At 0 the derivative is lambda alpha, as in PyTorch. The
    weights should be drawn with variance 1 / inputs (LeCun).

    Example:
        >>> round(float(SELU()(1.0)), 6), round(float(SELU()(-1e308)), 6)
        (1.050701, -1.758099)

    Source:
        Klambauer et al., Self-normalizing neural networks (2017), equation 2.
    """

    output_range = (-1.7581, np.inf)
    scale: ClassVar[float] = 1.0507009873554805
    alpha: ClassVar[float] = 1.6732632423543772

    def __call__(self, h: Any) -> Any:
        return self.scale * np.where(h > 0, h, self.alpha * np.expm1(np.minimum(h, 1.0)))


class CELU(Activation):
    """f(h) = h where h > 0, else alpha (exp(h / alpha) - 1); f'(h) = 1 where h > 0, else exp(h / alpha).

    The ELU whose derivative is continuous for every alpha. Range (-alpha, inf).

    Attributes:
        alpha: The limit for large negative h is -alpha.

    Example:
        >>> round(float(CELU(alpha=2.0)(-2.0)), 6), float(CELU(alpha=2.0).derivative(0.0))
        (-1.264241, 1.0)

    Source:
        Barron, Continuously differentiable exponential linear units (2017).
    """

    output_range = (-np.inf, np.inf)  # for every alpha
    alpha: Positive = 1.0

    def __call__(self, h: Any) -> Any:
        exponent = np.clip(h, -800.0 * self.alpha, self.alpha) / self.alpha  # below, exp is 0
        return np.where(h > 0, h, self.alpha * np.expm1(exponent))[()]


class HardTanh(Activation):
    """f(h) = min(max(h, -1), 1), f'(h) = 1 where |h| < 1, else 0. Range [-1, 1].

    At both kinks the derivative is 0, as in PyTorch.

    Example:
        >>> HardTanh()(np.array([-2.0, 0.5, 3.0])), HardTanh().derivative(np.array([-2.0, 0.5, 3.0]))
        (array([-1. ,  0.5,  1. ]), array([0., 1., 0.]))

    Source:
        Collobert, Large scale machine learning (2004).
    """

    output_range = (-1.0, 1.0)

    def __call__(self, h: Any) -> Any:
        return np.clip(h, -1.0, 1.0)


class HardSigmoid(Activation):
    """f(h) = min(max(h + 3, 0), 6) / 6, f'(h) = 1/6 where |h| < 3, else 0. Range [0, 1].

    At both kinks the derivative is 0. This is the form of PyTorch and of Keras 3; older ones use 0.2 h + 0.5.

    Example:
        >>> HardSigmoid()(np.array([-4.0, 0.0, 4.0])), float(HardSigmoid().derivative(0.0)) == 1 / 6
        (array([0. , 0.5, 1. ]), True)

    Source:
        Howard et al., Searching for MobileNetV3 (2019).
    """

    output_range = (0.0, 1.0)

    def __call__(self, h: Any) -> Any:
        return np.clip(h + 3.0, 0.0, 6.0) / 6.0


class HardSwish(Activation):
    """f(h) = h min(max(h + 3, 0), 6) / 6. Range [-3/8, inf).

    f'(h) = 0 where h <= -3, h/3 + 1/2 where |h| < 3, and 1 where h >= 3: at both kinks the value of the straight piece,
    as in PyTorch.

    Example:
        >>> HardSwish()(np.array([-4.0, -1.5, 4.0])), HardSwish().derivative(np.array([-4.0, 0.0, 4.0]))
        (array([-0.   , -0.375,  4.   ]), array([0. , 0.5, 1. ]))

    Source:
        Howard et al., Searching for MobileNetV3 (2019).
    """

    output_range = (-0.375, np.inf)

    def __call__(self, h: Any) -> Any:
        return h * (np.clip(h + 3.0, 0.0, 6.0) / 6.0)


class Step(Activation):
    """f(h) = 1 where h > 0, else 0, with a straight-through derivative: f'(h) = 1 where |h| <= 1, else 0. Range 0 to 1.

    The true derivative is 0 wherever it exists, and nothing would learn. The one written here is that of HardTanh, both
    ends included: gradients pass as if the unit were linear, and stop where |h| > 1. So it is not compared with the
    formula. At 0 the output is 0: the threshold must be exceeded.

    Example:
        >>> Step()(np.array([-2.0, 0.0, 0.5])), Step().derivative(np.array([-2.0, 0.0, 0.5]))
        (array([0., 0., 1.]), array([0., 1., 1.]))

    Source:
        Hubara et al., Binarized neural networks (2016), section 1.3, for the sign function. Bengio, Léonard and
        Courville, Estimating or propagating gradients through stochastic neurons (2013), let every gradient pass.
    """

    output_range = (0.0, 1.0)
    check: ClassVar[Literal["on", "off"]] = "off"

    def __call__(self, h: Any) -> Any:
        return np.heaviside(h, 0.0)

    def derivative(self, h: Any) -> Any:  # on purpose not the formula's, which is 0
        return np.heaviside(1.0 - np.abs(h), 1.0)


_ROOT_2 = math.sqrt(2.0)
_TANH_FACTOR = 2.0 * math.sqrt(2.0 / math.pi)


class GELU(Activation):
    """f(h) = h P(h), f'(h) = P(h) + h p(h), with P and p the standard normal distribution and its density.

    Exact: P(h) = 1/2 erfc(-h / sqrt 2), which keeps the relative accuracy of the tail. The tanh form of the paper's
    equation 2 is 1/2 h (1 + tanh u) with u = sqrt(2 / pi) (h + 0.044715 h^3); it is computed as h / (1 + exp(-2 u)),
    the same number without the difference. Range [-0.17, inf), least near h = -0.75.

    Attributes:
        approximate: ``"none"`` for the exact form, ``"tanh"`` for the faster one, as in PyTorch.

    Example:
        >>> round(float(GELU()(1.0)), 6), round(float(GELU(approximate="tanh")(1.0)), 6)
        (0.841345, 0.841192)

    Source:
        Hendrycks and Gimpel, Gaussian error linear units (2016), section 2.
    """

    output_range = (-0.1701, np.inf)
    approximate: Literal["none", "tanh"] = "none"

    def __call__(self, h: Any) -> Any:
        if self.approximate == "tanh":
            held = np.clip(h, -40.0, 40.0)  # beyond, the exponential is 0
            return h * logistic(_TANH_FACTOR * (held + 0.044715 * held * held * held))
        return 0.5 * h * erfc(-h / _ROOT_2)


class SiLU(Activation):
    """f(h) = h s(h), f'(h) = s(h) + h s'(h), with s(h) = 1 / (1 + exp(-h)). Range [-0.2785, inf).

    Example:
        >>> float(SiLU()(0.0)), float(SiLU().derivative(0.0)), round(float(SiLU()(1.0)), 6)
        (0.0, 0.5, 0.731059)

    Source:
        Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function approximation (2018).
    """

    output_range = (-0.2785, np.inf)

    def __call__(self, h: Any) -> Any:
        return h * logistic(h)


class Swish(Activation):
    """f(h) = h s(beta h), f'(h) = s(beta h) + beta h s'(beta h), with s(z) = 1 / (1 + exp(-z)).

    With beta = 1 it is SiLU; for large beta it nears ReLU. Range [-0.2785 / beta, inf).

    Attributes:
        beta: How sharply the gate opens at 0.

    Example:
        >>> bool(Swish()(1.0) == SiLU()(1.0)), round(float(Swish(beta=2.0)(1.0)), 6)
        (True, 0.880797)

    Source:
        Ramachandran, Zoph and Le, Searching for activation functions (2017).
    """

    output_range = (-np.inf, np.inf)  # for every beta
    beta: Positive = 1.0

    def __call__(self, h: Any) -> Any:
        return h * logistic(scale_in_range(h, self.beta))


class Mish(Activation):
    """f(h) = h tanh(log(1 + exp(h))). Range [-0.3089, inf).

    f'(h) = t + h (1 - t^2) s(h), with t = tanh(log(1 + exp(h))) and s(h) = 1 / (1 + exp(-h)).

    Example:
        >>> float(Mish()(0.0)), float(Mish().derivative(0.0).round(12)), round(float(Mish()(1.0)), 6)
        (0.0, 0.6, 0.865098)

    Source:
        Misra, Mish: a self regularized non-monotonic activation function (2019).
    """

    output_range = (-0.3089, np.inf)

    def __call__(self, h: Any) -> Any:
        return h * np.tanh(softplus(h))


class Softplus(Activation):
    """f(h) = log(1 + exp(beta h)) / beta, f'(h) = 1 / (1 + exp(-beta h)). Range (0, inf).

    Computed as max(h, 0) + log(1 + exp(-|beta h|)) / beta, which is exact everywhere: there is no threshold beyond
    which the function is taken for linear, as there is in PyTorch.

    Attributes:
        beta: How sharp the bend at 0 is.

    Example:
        >>> round(float(Softplus()(0.0)), 6), float(Softplus().derivative(0.0))
        (0.693147, 0.5)

    Source:
        Dugas et al., Incorporating second-order functional knowledge for better option pricing (2001).
    """

    output_range = (0.0, np.inf)
    beta: Positive = 1.0

    def __call__(self, h: Any) -> Any:
        return np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(scale_in_range(h, self.beta)))) / self.beta

    def derivative(self, h: Any) -> Any:  # measured: 1.8 times faster than derived where beta is not 1
        return logistic(scale_in_range(h, self.beta))


class LogSigmoid(Activation):
    """f(h) = log(1 / (1 + exp(-h))) = -log(1 + exp(-h)), f'(h) = 1 / (1 + exp(h)). Range (-inf, 0).

    Example:
        >>> round(float(LogSigmoid()(0.0)), 6), float(LogSigmoid().derivative(0.0)), float(LogSigmoid()(-1e308))
        (-0.693147, 0.5, -1e+308)

    Source:
        Bishop, Pattern recognition and machine learning (2006), equation 4.59.
    """

    output_range = (-np.inf, 0.0)

    def __call__(self, h: Any) -> Any:
        return -softplus(-h)


class Sine(Activation):
    """f(h) = sin(omega h), f'(h) = omega cos(omega h). Range [-1, 1].

    For coordinate networks (SIREN): omega = 30 in the paper, with weights drawn evenly from +-sqrt(6 / inputs) / omega,
    and from +-1 / inputs in the first layer. The phase omega h is held at 1.7e308 (3.2e38 in float32), where it would
    overflow and have no sine.

    Attributes:
        frequency: omega, in radians per unit of h.

    Example:
        >>> round(float(Sine(frequency=np.pi)(0.5)), 6), float(Sine().derivative(0.0))
        (1.0, 30.0)

    Source:
        Sitzmann et al., Implicit neural representations with periodic activation functions (2020), section 3.2.
    """

    output_range = (-1.0, 1.0)
    frequency: Positive = 30.0

    def __call__(self, h: Any) -> Any:
        return np.sin(scale_in_range(h, self.frequency))


class Softsign(Activation):
    """f(h) = h / (1 + |h|), f'(h) = 1 / (1 + |h|)^2. Range (-1, 1). It nears its limits more slowly than tanh.

    Example:
        >>> float(Softsign()(3.0)), float(Softsign().derivative(3.0))
        (0.75, 0.0625)

    Source:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """

    output_range = (-1.0, 1.0)

    def __call__(self, h: Any) -> Any:
        return h / (1.0 + np.abs(h))

    def derivative(self, h: Any) -> Any:  # measured: 1.4 times faster than derived, and right for large h
        share = 1.0 / (1.0 + np.abs(h))
        return share * share


class Sort(Activation):
    """a = the elements of h in rising order along the last axis, as np.sort, for outputs that must not cross.

    The mean loss of quantiles never rises when they are sorted.

    Example:
        >>> Sort()(np.array([3.0, 1.0, 2.0]))
        array([1., 2., 3.])

    Source:
        Chernozhukov, Fernandez-Val and Galichon, Quantile and probability curves without crossing (2010).
    """

    output_range = (-np.inf, np.inf)

    def __call__(self, h: Any) -> Any:
        return np.sort(h, axis=-1)
