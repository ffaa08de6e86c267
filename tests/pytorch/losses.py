"""OutputLosses of each value on a grid from 0 to the largest numbers, those of either dtype; computed in float64.

Where PyTorch's own function loses digits or overflows, its elementary functions are put together anew.
"""

from itertools import product

import numpy as np
import torch
from torch.nn import functional

MODERATE = [1e-8, 0.3, 1.0, 3.0, 6.0, 50.0, 700.0]
POSITIVE = {"float64": [1e-300, *MODERATE, 1e308], "float32": [1e-37, *MODERATE, 3e38]}
LINE = {dtype: [s * p for p in (0.0, *POSITIVE[dtype]) for s in (-1.0, 1.0)] for dtype in POSITIVE}
SHORT = {dtype: line[:-2] for dtype, line in LINE.items()}  # for losses that grow as the square
UNIT = {"float64": [1e-300, 1e-8, 0.3, 0.5, 0.9, 1 - 2**-40], "float32": [1e-37, 1e-8, 0.3, 0.5, 0.9, 1 - 2**-20]}


def huber(delta):
    return lambda p, t: functional.huber_loss(p, t, delta=delta, reduction="none")


def log_cosh(p, t):
    e = (p - t).abs()
    return torch.where(
        e < 1, torch.log1p(torch.sinh(e.clamp(max=1)) ** 2) / 2, e + torch.log1p(torch.exp(-2 * e)) - np.log(2)
    )


def cauchy(scale):
    def value(p, t):
        z = (p - t).abs() / scale
        log = torch.where(z < 1e9, torch.log1p(z.clamp(max=1e9) ** 2), 2 * torch.log(z.clamp(min=1)))
        return scale**2 / 2 * log

    return value


def cauchy_slope(scale):
    def slope(p, t):
        e = p - t
        return torch.where(e.abs() < 1e9, e / (1 + (e / scale).clamp(-1e9, 1e9) ** 2), scale**2 / e)

    return slope


def quantile(q):
    return lambda p, t: q * functional.relu(t - p) + (1 - q) * functional.relu(p - t)


def hinge(p, t):
    return functional.relu(1 - t * p)


def poisson(p, t):
    return functional.poisson_nll_loss(p, t, log_input=False, eps=0.0, reduction="none")


def focal(gamma, yes=1.0, no=1.0):
    def value(p, t):
        return -(yes * t * (1 - p) ** gamma * torch.log(p) + no * (1 - t) * p**gamma * torch.log1p(-p))

    return value


TABLE = {  # the loss, its slope (None: PyTorch derives it), predictions, targets
    "MeanAbsoluteError()": (lambda p, t: functional.l1_loss(p, t, reduction="none"), None, LINE, [0, 0.7, -2]),
    "Huber()": (huber(1.0), None, LINE, [0, 0.7, -2]),
    "Huber(delta=0.5)": (huber(0.5), None, LINE, [0, 0.7, -2]),
    "LogCosh()": (log_cosh, lambda p, t: torch.tanh(p - t), LINE, [0, 0.7, -2]),
    "Cauchy()": (cauchy(1.0), cauchy_slope(1.0), LINE, [0, 0.7]),
    "Cauchy(scale=2.0)": (cauchy(2.0), cauchy_slope(2.0), LINE, [0, 0.7]),
    "Quantile()": (quantile(0.5), None, LINE, [0, 0.7]),
    "Quantile(quantile=0.9)": (quantile(0.9), None, LINE, [0, 0.7]),
    "Hinge()": (hinge, None, LINE, [-1, 1]),
    "SquaredHinge()": (lambda p, t: hinge(p, t) ** 2, None, SHORT, [-1, 1]),
    "Poisson()": (poisson, None, POSITIVE, [0, 0.7, 3]),
    "Focal()": (focal(2.0), None, UNIT, [0, 1, 0.3]),
    "Focal(gamma=0.0)": (focal(0.0), None, UNIT, [0, 1, 0.3]),
    "Focal(gamma=0.5)": (focal(0.5), None, UNIT, [0, 1, 0.3]),
    "Focal(gamma=1.5, alpha=0.25)": (focal(1.5, 0.25, 0.75), None, UNIT, [0, 1, 0.4]),
}


def evaluated(function, slope, predictions, targets, dtype):
    """Value and slope for every prediction with every target, both in float64."""
    prediction, target = (a.ravel() for a in np.meshgrid(np.array(predictions, dtype), np.array(targets, dtype)))
    p = torch.tensor(prediction.astype(np.float64), requires_grad=True)
    t = torch.tensor(target.astype(np.float64))
    value = function(p, t)
    slopes = slope(p, t) if slope else torch.autograd.grad(value.sum(), p)[0]
    return {
        "prediction": prediction,
        "target": target,
        "value": value.detach().numpy(),
        "slope": slopes.detach().numpy(),
    }


def losses():
    return {
        f"{name} {dtype}": evaluated(function, slope, grid[dtype], targets, dtype)
        for name, (function, slope, grid, targets) in TABLE.items()
        for dtype in LINE
    }


def cross_entropy():
    """Label smoothing and class weights, with the gradient by the logits h; the targets are in "data"."""
    rng = np.random.default_rng(3)
    h, classes = rng.normal(size=(7, 4)), np.array([0, 2, 1, 1, 3, 2, 0])
    binary = np.array([0.0, 1.0, 1.0, 0.0, 0.3, 1.0, 0.0])

    def derived(function, h):
        h = torch.tensor(h, requires_grad=True)
        value = function(h)
        value.backward()
        return {"value": value.detach().numpy(), "slope": h.grad.numpy()}

    def loss(h, **settings):
        return functional.cross_entropy(h, torch.tensor(classes), **settings)

    cases = {"data": {"h": h, "binary": binary, "classes": classes}}
    for smoothing, weight in product((0.0, 0.1), (1.0, 4.0)):
        target, positive = torch.tensor((1 - smoothing) * binary + smoothing / 2), torch.tensor(weight)
        cases[f"binary smoothing={smoothing} weight={weight}"] = derived(
            lambda h, t=target, w=positive: functional.binary_cross_entropy_with_logits(h, t, pos_weight=w), h[:, 0]
        )
    for smoothing in (0.0, 0.2):
        cases[f"smoothing={smoothing}"] = derived(lambda h, s=smoothing: loss(h, label_smoothing=s), h)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    cases["class weights"] = derived(lambda h: loss(h, weight=weights), h)
    cases["class weights over rows"] = derived(
        lambda h: loss(h, weight=weights, label_smoothing=0.1, reduction="sum") / len(h), h
    )
    return cases
