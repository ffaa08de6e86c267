"""Rectifiers: h above 0, and nothing or something small below; and straight pieces and steps, which are cheap.

Where a formula has two branches, np.where computes both; the exponent of the lower one is held at a point where the
upper one has long been chosen, so that nothing overflows and 0 remains the only kink.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from framework.activations.base import Activation
from framework.settings.component import Fraction, Positive


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
