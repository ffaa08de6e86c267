"""Activations made of straight pieces and steps: cheap, with kinks where the pieces meet."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from framework.activations.base import Activation


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
