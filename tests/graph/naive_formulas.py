"""Formulas as users write them, which overflow or lose small values: of h, or of h and a target t or classes c.

``ELEMENTS`` are of numbers, ``ROWS`` of rows of four classes. ``ORIGINAL`` names those that the rules were made with.
"""

from typing import NamedTuple

import numpy as np
from exact import Real, erfc as exact_erfc

from framework.base.special import erfc

LARGEST = 709.782712893384


class Case(NamedTuple):
    """A formula, the same one in a form that many digits can compute, and where it is computed.

    Attributes:
        formula: What a user writes.
        exact: The same for ``exact``; None where the formula serves.
        low: h is above this,
        high: and below this.
        zero: Whether h = 0, where a kink or a singularity is, is left out.
    """

    formula: object
    exact: object = None
    low: float = -2e4
    high: float = 2e4
    zero: bool = False


def softmax(h):
    e = np.exp(h)
    return e / np.sum(e, axis=-1, keepdims=True)


def shifted_softmax(h):
    e = np.exp(h - np.max(h, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def flat_softmax(h):
    e = np.exp(h)
    return e / e.sum(-1)[:, None]


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def growing_sigmoid(h):
    return np.exp(h) / (1 + np.exp(h))


def tanh(h):
    return np.tanh(h)


def sinc(h):
    return np.sinc(h)


def tanh_sigmoid(h):
    return 0.5 * (1 + np.tanh(h / 2))


def held_sigmoid(h):
    return 1.0 / (1.0 + np.exp(np.minimum(-h, LARGEST)))


def cross_entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def cross_entropy_log1p(p, t):
    return -(t * np.log(p) + (1 - t) * np.log1p(-p))


def gelu_argument(h):
    return np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)


def logsumexp(h):
    return np.log(np.sum(np.exp(h), axis=-1, keepdims=True))


def top(h):
    return h.max(-1, keepdims=True)


def chosen(p, t):
    return np.sum(t * p, axis=-1)


def of_class(p, c):
    return p[np.arange(len(p)), c]


def smoothed(t):
    return 0.9 * t + 0.05


ORIGINAL_ROWS = {
    "log softmax": Case(lambda h: np.log(softmax(h))),
    "log softmax, shifted": Case(lambda h: np.log(shifted_softmax(h))),
    "log softmax, sum without axis": Case(lambda h: np.log(flat_softmax(h))),
    "h - log sum exp": Case(lambda h: h - logsumexp(h)),
    "h - log sum exp, shifted": Case(lambda h: (h - top(h)) - logsumexp(h - top(h))),
    "CE": Case(lambda h, t: -np.sum(t * np.log(softmax(h)), axis=-1)),
    "CE, shifted": Case(lambda h, t: -np.sum(t * np.log(shifted_softmax(h)), axis=-1)),
    "CE: log of the sum": Case(lambda h, t: -np.log(chosen(shifted_softmax(h), t))),
    "CE: take_along_axis": Case(lambda h, c: -np.log(np.take_along_axis(softmax(h), c[:, None], axis=-1))),
    "CE: index": Case(lambda h, c: -np.log(of_class(shifted_softmax(h), c))),
    "CE: logsumexp less h of the class": Case(lambda h, c: np.log(np.sum(np.exp(h), axis=-1)) - of_class(h, c)),
    "CE, smoothed": Case(lambda h, t: -np.sum((0.9 * t + 0.025) * np.log(shifted_softmax(h)), axis=-1)),
    "CE, class weights": Case(lambda h, t: -np.sum(np.array([1.0, 2.0, 0.5, 3.0]) * t * np.log(softmax(h)), axis=-1)),
    "CE, clipped": Case(
        lambda h, t: -np.sum(t * np.log(np.clip(softmax(h), 1e-7, 1 - 1e-7)), axis=-1),
        lambda h, t: -np.sum(t * np.log(np.clip(softmax(h), Real(1e-7), Real(1 - 1e-7))), axis=-1),
    ),
    "focal, of the class": Case(
        lambda h, t: -((1 - chosen(shifted_softmax(h), t)) ** 2) * np.log(chosen(shifted_softmax(h), t))
    ),
    "focal, of all": Case(lambda h, t: -np.sum(t * (1 - softmax(h)) ** 2 * np.log(softmax(h)), axis=-1)),
    "KL": Case(
        lambda h, q: np.sum(q * np.log(q / softmax(h)), axis=-1),
        lambda h, q: np.sum(q * (np.log(q + 1.0 * (q == 0)) - np.log(softmax(h))), axis=-1),
    ),
    "entropy": Case(lambda h: -np.sum(softmax(h) * np.log(softmax(h)), axis=-1)),
    "logsumexp": Case(lambda h: np.log(np.sum(np.exp(h), axis=-1))),
    "log mean exp": Case(lambda h: np.log(np.mean(np.exp(h), axis=-1))),
    "softmax, squared error": Case(lambda h, t: np.sum((softmax(h) - t) ** 2, axis=-1)),
    "CE at temperature 2": Case(lambda h, t: -np.sum(t * np.log(softmax(h / 2)), axis=-1)),
    "one against the rest": Case(lambda h, t: np.sum(cross_entropy(shifted_softmax(h), t), axis=-1)),
    "norm": Case(lambda h: np.sqrt(np.sum(h**2, axis=-1)), zero=True),
    "cosine": Case(
        lambda h, t: np.sum(h * t, axis=-1) / (np.sqrt(np.sum(h**2, axis=-1)) * np.sqrt(np.sum(t**2, axis=-1))),
        zero=True,
    ),
    "normalised": Case(
        lambda h, t: np.sum(t * (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5), axis=-1)
    ),
    "attention": Case(lambda h, t: np.sum(softmax(h) * t, axis=-1)),
}

ORIGINAL_ELEMENTS = {
    **{
        f"BCE, {log}, {name}": Case(
            lambda h, t, loss=loss, form=form: loss(form(h), t), lambda h, t: cross_entropy(sigmoid(h), t)
        )
        for log, loss in (("log(1 - p)", cross_entropy), ("log1p(-p)", cross_entropy_log1p))
        for name, form in (
            ("1/(1+e^-h)", sigmoid),
            ("e^h/(1+e^h)", growing_sigmoid),
            ("tanh", tanh_sigmoid),
            ("held", held_sigmoid),
        )
    },
    "BCE: where": Case(lambda h, t: -np.log(np.where(t == 1, sigmoid(h), 1 - sigmoid(h)))),
    "BCE, positive weight": Case(lambda h, t: -(3 * t * np.log(sigmoid(h)) + (1 - t) * np.log(1 - sigmoid(h)))),
    "BCE of h": Case(lambda h, t: np.maximum(h, 0) - h * t + np.log(1 + np.exp(-np.abs(h)))),
    "focal on sigmoid": Case(
        lambda h, t: (
            -(t * (1 - sigmoid(h)) ** 2 * np.log(sigmoid(h)) + (1 - t) * sigmoid(h) ** 2 * np.log(1 - sigmoid(h)))
        )
    ),
    "focal on sigmoid, root": Case(
        lambda h, t: (
            -(t * (1 - sigmoid(h)) ** 0.5 * np.log(sigmoid(h)) + (1 - t) * sigmoid(h) ** 0.5 * np.log(1 - sigmoid(h)))
        )
    ),
    "logistic loss of signs": Case(lambda h, t: np.log(1 + np.exp(-(2 * t - 1) * h))),
    "softplus": Case(lambda h: np.log(1 + np.exp(h))),
    "softplus: log1p": Case(lambda h: np.log1p(np.exp(h))),
    "softplus: logaddexp": Case(lambda h: np.logaddexp(0, h), lambda h: np.log(1 + np.exp(h))),
    "softplus: -log(sigmoid(-h))": Case(lambda h: -np.log(sigmoid(-h))),
    "softplus: h + log(1+e^-h)": Case(lambda h: h + np.log(1 + np.exp(-h))),
    "softplus: max + log1p": Case(lambda h: np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))),
    "softplus, beta 3": Case(lambda h: np.log(1 + np.exp(3 * h)) / 3),
    "softplus with a threshold": Case(lambda h: np.where(h > 20, h, np.log(1 + np.exp(h)))),
    "log sigmoid": Case(lambda h: np.log(sigmoid(h))),
    "log(1 - sigmoid)": Case(lambda h: np.log(1 - sigmoid(h))),
    "logit of a sigmoid": Case(lambda h: np.log(sigmoid(h) / (1 - sigmoid(h)))),
    "log p - log(1 - p)": Case(lambda h: np.log(sigmoid(h)) - np.log(1 - sigmoid(h))),
    "sigmoid: where": Case(lambda h: np.where(h >= 0, sigmoid(h), growing_sigmoid(h))),
    "sigmoid": Case(sigmoid),
    "sigmoid: e^h/(1+e^h)": Case(growing_sigmoid),
    "sigmoid: tanh": Case(tanh_sigmoid),
    "1 - sigmoid": Case(lambda h: 1 - sigmoid(h)),
    "Mish": Case(lambda h: h * np.tanh(np.log(1 + np.exp(h)))),
    "Swish": Case(lambda h: h / (1 + np.exp(-1.5 * h))),
    "SiLU": Case(lambda h: h * growing_sigmoid(h)),
    "GELU: tanh": Case(
        lambda h: 0.5 * h * (1 + np.tanh(gelu_argument(h))), lambda h: h / (1 + np.exp(-2.0 * gelu_argument(h)))
    ),
    "GELU: sigmoid": Case(lambda h: h / (1 + np.exp(-1.702 * h))),
    "tanh by e^h": Case(lambda h: (np.exp(h) - np.exp(-h)) / (np.exp(h) + np.exp(-h))),
    "tanh by e^-2h": Case(lambda h: (1 - np.exp(-2 * h)) / (1 + np.exp(-2 * h))),
    "tanh": Case(tanh),
    "1 - tanh^2": Case(lambda h: 1 - np.tanh(h) ** 2),
    "1/cosh": Case(lambda h: 1 / np.cosh(h)),
    "h/cosh": Case(lambda h: h / np.cosh(h)),
    "log cosh": Case(lambda h: np.log(np.cosh(h))),
    "log cosh of an error": Case(lambda h, t: np.log(np.cosh(h - t))),
    "log(e^h + e^-h)": Case(lambda h: np.log(np.exp(h) + np.exp(-h))),
    "pseudo-Huber": Case(lambda h: np.sqrt(1 + h**2) - 1),
    "pseudo-Huber, delta 2": Case(lambda h: 4 * (np.sqrt(1 + (h / 2) ** 2) - 1)),
    "Huber": Case(lambda h: np.where(np.abs(h) <= 1, 0.5 * h**2, np.abs(h) - 0.5)),
    "log1p(expm1)": Case(lambda h: np.log1p(np.expm1(h))),
    "e^h - 1": Case(lambda h: np.exp(h) - 1),
    "expm1(h)/h": Case(lambda h: np.expm1(h) / h),
    "(e^h - 1)/h": Case(lambda h: (np.exp(h) - 1) / h),
    "h/expm1(h)": Case(lambda h: h / np.expm1(h)),
    "sin(h)/h": Case(lambda h: np.sin(h) / h),
    "np.sinc": Case(sinc, lambda h: np.sin(np.pi * h) / (np.pi * h), -50, 50),
    "1 - cos": Case(lambda h: 1 - np.cos(h)),
    "cosh - 1": Case(lambda h: np.cosh(h) - 1),
    "sqrt(h^2 + 1e-6)": Case(lambda h: np.sqrt(h**2 + 1e-6)),
    "sqrt(h^2)": Case(lambda h: np.sqrt(h**2), zero=True),
    "arctanh": Case(lambda h: 0.5 * np.log((1 + h) / (1 - h)), None, -1, 1),
    "arctanh by two logarithms": Case(lambda h: 0.5 * (np.log(1 + h) - np.log(1 - h)), None, -1, 1),
    "arcsinh": Case(lambda h: np.log(h + np.sqrt(h**2 + 1))),
    "logit": Case(lambda h: np.log(h / (1 - h)), None, 0, 1),
    "inverse softplus": Case(lambda h: np.log(np.exp(h) - 1), None, 0),
    "log(1 + h)": Case(lambda h: np.log(1 + h), None, -1),
    "Cauchy": Case(lambda h: np.log(1 + h**2)),
    "Gaussian, sigma e^h": Case(lambda h, t: 0.5 * np.log(np.exp(h) ** 2) + (t - 0.7) ** 2 / (2 * np.exp(h) ** 2)),
    "Gaussian, sigma softplus": Case(
        lambda h, t: 0.5 * np.log(np.log(1 + np.exp(h)) ** 2) + (t - 0.7) ** 2 / (2 * np.log(1 + np.exp(h)) ** 2)
    ),
    "Poisson": Case(lambda h, t: np.exp(h) - t * h),
    "Poisson, rate softplus": Case(lambda h, t: np.log(1 + np.exp(h)) - t * np.log(np.log(1 + np.exp(h)))),
    "ELU": Case(lambda h: np.where(h > 0, h, np.exp(h) - 1)),
    "SELU": Case(lambda h: 1.0507 * np.where(h > 0, h, 1.67326 * (np.exp(h) - 1)), zero=True),
    "CELU": Case(lambda h: np.maximum(h, 0) + np.minimum(0, 2 * (np.exp(h / 2) - 1))),
    "ELU: max + min": Case(
        lambda h: np.maximum(h, 0) + np.expm1(np.minimum(h, 0)), lambda h: np.where(h > 0, h, np.exp(h) - 1)
    ),
    "a logarithm in a choice": Case(lambda h: np.where(h > 0, np.log(abs(h)), 0.0), zero=True),
    "softsign": Case(lambda h: h / (1 + np.abs(h))),
    "GELU": Case(
        lambda h: 0.5 * h * erfc(-h / np.sqrt(2.0)), lambda h: 0.5 * h * exact_erfc(-h / np.sqrt(2.0)), -800, 800
    ),
}

ORIGINAL = {*ORIGINAL_ROWS, *ORIGINAL_ELEMENTS}

ROWS = {
    **ORIGINAL_ROWS,
    "CE: log of a product of powers": Case(lambda h, t: -np.log(np.prod(softmax(h) ** t, axis=-1))),
    "Bernoulli likelihood of a row": Case(
        lambda h, t: -np.log(np.prod(sigmoid(h) ** t * (1 - sigmoid(h)) ** (1 - t), axis=-1)),
        lambda h, t: np.sum(np.log(1 + np.exp(h)) - t * h, axis=-1),
    ),
    "CE, mean over classes": Case(lambda h, t: -np.mean(t * np.log(softmax(h)), axis=-1)),
    "-log p of the first class": Case(lambda h: -np.log(softmax(h)[:, 0])),
    "1 - sum p^2": Case(lambda h: 1 - np.sum(softmax(h) ** 2, axis=-1)),
    "log mean e^2h / 2": Case(lambda h: np.log(np.mean(np.exp(h) ** 2, axis=-1)) / 2),
    "sum h e^h / sum e^h": Case(lambda h: np.sum(h * np.exp(h), axis=-1) / np.sum(np.exp(h), axis=-1)),
}

ELEMENTS = {
    **ORIGINAL_ELEMENTS,
    "log(1 + e^2h) / 2": Case(lambda h: np.log(1 + np.exp(2 * h)) / 2),
    "h - log sigmoid": Case(lambda h: h - np.log(sigmoid(h))),
    "-log(1 / (1 + e^h))": Case(lambda h: -np.log(1 / (1 + np.exp(h)))),
    "sigmoid (1 - sigmoid)": Case(lambda h: sigmoid(h) * (1 - sigmoid(h))),
    "2 sigmoid - 1": Case(lambda h: 2 * sigmoid(h) - 1),
    "e^-log(1 + e^h)": Case(lambda h: np.exp(-np.log(1 + np.exp(h)))),
    "1 / (1 + e^h)^2": Case(lambda h: 1 / (1 + np.exp(h)) ** 2),
    "logistic density": Case(lambda h: np.exp(-h) / (1 + np.exp(-h)) ** 2),
    "softplus(h) - softplus(-h)": Case(lambda h: np.log(1 + np.exp(h)) - np.log(1 + np.exp(-h))),
    "1 - e^-e^h": Case(lambda h: 1 - np.exp(-np.exp(h)), high=8),
    "(1 + tanh) / 2": Case(lambda h: (1 + np.tanh(h)) / 2),
    "log((1 + tanh) / 2)": Case(lambda h: np.log((1 + np.tanh(h)) / 2)),
    "logit of tanh": Case(lambda h: 0.5 * np.log((1 + np.tanh(h)) / (1 - np.tanh(h)))),
    "sinh / cosh": Case(lambda h: np.sinh(h) / np.cosh(h)),
    "e^h / (e^h + e^-h)": Case(lambda h: np.exp(h) / (np.exp(h) + np.exp(-h))),
    "h e^h / (1 + e^h)": Case(lambda h: h * np.exp(h) / (1 + np.exp(h))),
    "entropy of a sigmoid": Case(lambda h: cross_entropy(sigmoid(h), sigmoid(h))),
    "log(2 cosh)": Case(lambda h: np.log(2 * np.cosh(h))),
    "bent identity": Case(lambda h: (np.sqrt(h**2 + 1) - 1) / 2 + h),
    "BCE, smoothed": Case(lambda h, t: cross_entropy(sigmoid(h), smoothed(t))),
    "BCE in bits": Case(lambda h, t: -(t * np.log2(sigmoid(h)) + (1 - t) * np.log2(1 - sigmoid(h)))),
    "BCE with epsilon": Case(lambda h, t: -(t * np.log(sigmoid(h) + 1e-7) + (1 - t) * np.log(1 - sigmoid(h) + 1e-7))),
    "Bernoulli likelihood": Case(lambda h, t: -np.log(sigmoid(h) ** t * (1 - sigmoid(h)) ** (1 - t))),
    "Bernoulli likelihood, two logarithms": Case(
        lambda h, t: -np.log(growing_sigmoid(h) ** t) - np.log((1 - growing_sigmoid(h)) ** (1 - t))
    ),
    "log cosh of twice an error": Case(lambda h, t: np.log(np.cosh(2 * (h - t))) / 2),
    "Gaussian, log of the variance": Case(lambda h, t: 0.5 * (h + (t - 0.7) ** 2 / np.exp(h))),
    "negative binomial": Case(lambda h, t: (t + 2) * np.log(2 + np.exp(h)) - t * h),
}
