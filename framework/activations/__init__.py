"""Activations: what turns a unit's weighted sum h into its output a = f(h)."""

from framework.activations.base import Activation
from framework.activations.basic import Identity, Sigmoid, Softmax, Tanh
from framework.activations.periodic import Sine
from framework.activations.piecewise import HardSigmoid, HardSwish, HardTanh, Step
from framework.activations.rectifiers import CELU, ELU, SELU, LeakyReLU, ReLU
from framework.activations.smooth import GELU, LogSigmoid, Mish, SiLU, Softplus, Softsign, Swish

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "Identity",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Sine",
    "Softmax",
    "Softplus",
    "Softsign",
    "Step",
    "Swish",
    "Tanh",
]
