"""Activations on a grid from 0 to the largest numbers, those of either dtype; computed in float64.

Where PyTorch's own function loses digits or overflows, its elementary functions are put together anew.
"""

import numpy as np
import torch
from torch.nn import functional

MODERATE = [1e-8, 0.3, 1.0, 3.0, 6.0, 50.0, 700.0]
GRIDS = {
    "float64": np.array([sign * h for h in (0.0, 1e-300, *MODERATE, 1e308) for sign in (-1.0, 1.0)]),
    "float32": np.array([sign * h for h in (0.0, 1e-37, *MODERATE, 3e38) for sign in (-1.0, 1.0)], np.float32),
}


def exact_gelu(h):
    return 0.5 * h * torch.special.erfc(-h / 2**0.5)  # PyTorch's own loses the tail: it adds 1 to erf


def gelu_tanh(h):
    return h * torch.sigmoid((8 / torch.pi) ** 0.5 * (h + 0.044715 * h**3))


def gelu_slope(h):
    return torch.special.erfc(-h / 2**0.5) / 2 + h.clamp(-40, 40) * torch.exp(-(h**2) / 2) / (2 * torch.pi) ** 0.5


def gelu_tanh_slope(h):
    u, rise = (8 / torch.pi) ** 0.5 * (h + 0.044715 * h**3), (8 / torch.pi) ** 0.5 * (1 + 3 * 0.044715 * h**2)
    return torch.where(h.abs() < 40, torch.sigmoid(u) + h * torch.sigmoid(u) * torch.sigmoid(-u) * rise, (h > 0) * 1.0)


def swish(beta):
    return lambda h: h * torch.sigmoid(beta * h)


def swish_slope(beta):  # PyTorch's own subtracts the sigmoid from 1
    return lambda h: (
        torch.sigmoid(beta * h) + (beta * h).clamp(-1e300, 1e300) * torch.sigmoid(beta * h) * torch.sigmoid(-beta * h)
    )


def softsign_slope(h):  # PyTorch's own subtracts numbers that nearly agree for large h
    return (1 / (1 + h.abs())) ** 2


def hard_sigmoid(h):  # PyTorch's own has the derivative float32(1/6) in float64, too
    return functional.relu6(h + 3) / 6


def exact_softplus(beta):
    return lambda h: functional.relu(h) + torch.log1p(torch.exp(-beta * h.abs())) / beta


def softplus_slope(beta):
    return lambda h: torch.sigmoid(beta * h)


def hard_swish(h):  # PyTorch's own overflows at 1e308
    return h * hard_sigmoid(h)


TABLE = {  # the function, and its derivative (None: PyTorch derives it)
    "LeakyReLU()": (lambda h: functional.leaky_relu(h, 0.01), None),
    "LeakyReLU(negative_slope=0.3)": (lambda h: functional.leaky_relu(h, 0.3), None),
    "ELU()": (functional.elu, None),
    "ELU(alpha=0.5)": (lambda h: functional.elu(h, 0.5), None),
    "SELU()": (functional.selu, None),
    "CELU()": (functional.celu, None),
    "CELU(alpha=0.5)": (lambda h: functional.celu(h, 0.5), None),
    "CELU(alpha=2.0)": (lambda h: functional.celu(h, 2.0), None),
    "GELU()": (exact_gelu, gelu_slope),
    "GELU(approximate='tanh')": (gelu_tanh, gelu_tanh_slope),
    "SiLU()": (functional.silu, swish_slope(1.0)),
    "Swish()": (functional.silu, swish_slope(1.0)),
    "Swish(beta=0.5)": (swish(0.5), swish_slope(0.5)),
    "Swish(beta=3.0)": (swish(3.0), swish_slope(3.0)),
    "Mish()": (functional.mish, None),
    "Softplus()": (exact_softplus(1.0), softplus_slope(1.0)),
    "Softplus(beta=3.0)": (exact_softplus(3.0), softplus_slope(3.0)),
    "Softplus(beta=0.5)": (exact_softplus(0.5), softplus_slope(0.5)),
    "Softsign()": (functional.softsign, softsign_slope),
    "LogSigmoid()": (functional.logsigmoid, None),
    "HardSigmoid()": (hard_sigmoid, None),
    "HardTanh()": (functional.hardtanh, None),
    "HardSwish()": (hard_swish, None),
    "Sine()": (lambda h: torch.sin(30.0 * h), None),
    "Sine(frequency=0.5)": (lambda h: torch.sin(0.5 * h), None),
}


def evaluated(function, slope, h):
    """Value and derivative at h, both in float64."""
    x = torch.tensor(h.astype(np.float64), requires_grad=True)
    value = function(x)
    derivative = slope(x) if slope else torch.autograd.grad(value.sum(), x)[0]
    return {"h": h, "value": value.detach().numpy(), "derivative": derivative.detach().numpy()}


def activations():
    return {
        f"{name} {dtype}": evaluated(*functions, h) for name, functions in TABLE.items() for dtype, h in GRIDS.items()
    }


def gelu():
    """PyTorch's own functions, where they keep their digits."""
    h = np.linspace(-10, 10, 401)
    return {
        form: evaluated(lambda x, form=form: functional.gelu(x, approximate=form), None, h) for form in ("none", "tanh")
    }
