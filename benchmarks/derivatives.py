"""Which derivatives are worth writing by hand: each derived one against what a person would write.

    python benchmarks/derivatives.py

A class of the library writes a derivative only where this table says that it is more than a fifth faster (a ratio
above 1.2) or more accurate. "slower" marks those that are derived although they cost more. Columns, for float64 and
float32:

- ``pass``: the time of the derived form over the written one, for a forward and a backward pass of a layer that is the
  activation, on 128 x 128 numbers, or for the slope of a loss on 8192 numbers, the block that it sees at once in
  training; the least of runs in turn;
- ``number``: the same for the derivative of one number, or the slope of one prediction;
- ``errors``: the largest relative errors of the derived and of the written form, against 40 digits of mpmath.

The last column is the time of the check with new settings, nothing cached.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

import framework.formulas as fw
from framework import Layer
from framework.base.special import erfc
from framework.formulas.activations.basic import logistic, scale_in_range

DTYPES = ("float64", "float32")
LIMIT = 1.2
Formula = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A formula of the library.

    Attributes:
        formula: The activation or loss.
        by_hand: (h, a) -> f'(h), or (prediction, target) -> slope: what a person would write.
        exact: The formula in mpmath: h -> a, or (prediction, target) -> value; None for a loss over rows.
    """

    formula: Any
    by_hand: Formula
    exact: Formula | None = None

    @property
    def writes(self) -> bool:
        """Whether the class of the library writes its derivative."""
        kind = type(self.formula)
        return kind.writes_derivative if isinstance(self.formula, fw.Activation) else kind.slope is not fw.Loss.slope


def bell(h: Any) -> Any:
    """Return exp(-|h|) / (1 + exp(-|h|))^2, the slope of the logistic function."""
    e = np.exp(-np.abs(h))
    return e / (1.0 + e) / (1.0 + e)


def swish_slope(h: Any, beta: float) -> Any:
    """Return the derivative of h s(beta h)."""
    z = scale_in_range(h, beta)
    return logistic(z) + z * bell(z)


def mish_slope(h: Any) -> Any:
    """Return the derivative of h tanh(log(1 + exp(h)))."""
    gate = np.tanh(np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h))))
    return gate + h * (1.0 - gate * gate) * logistic(h)


def gelu_slope(h: Any) -> Any:
    """Return the derivative of h P(h)."""
    held = np.clip(h, -40.0, 40.0)
    return 0.5 * erfc(-h / 2.0**0.5) + held * np.exp(-0.5 * held * held) / (2.0 * np.pi) ** 0.5


def tanh_gelu_slope(h: Any) -> Any:
    """Return the derivative of the tanh form of GELU."""
    held, factor = np.clip(h, -40.0, 40.0), 2.0 * (2.0 / np.pi) ** 0.5
    u = factor * (held + 0.044715 * held * held * held)
    return logistic(u) + held * bell(u) * (factor * (1.0 + 3.0 * 0.044715 * held * held))


def among(condition: Any, h: Any) -> Any:
    """Return a condition as numbers of the dtype of h."""
    return np.asarray(condition).astype(h.dtype)


def part(x: Any, y: Any) -> Any:
    """Return x / y, 0 where x is 0."""
    return x / np.where(x == 0.0, 1.0, y)


def celu_slope(h: Any) -> Any:
    """Return the derivative of CELU."""
    return np.where(h > 0, 1.0, np.exp(np.clip(h, -800.0, 1.0))).astype(h.dtype)


def focal_slope(p: Any, t: Any) -> Any:
    """Return the derivative of the focal loss with gamma = 2, finite also where the prediction is 0 or 1."""
    yes = (1.0 - p) ** 2 / np.where(t == 0.0, 1.0, p) - 2.0 * (1.0 - p) * np.log(np.where(t == 0.0, 1.0, p))
    no = p**2 / (1.0 - np.where(t == 1.0, 0.0, p)) - 2.0 * p * np.log1p(-np.where(t == 1.0, 0.0, p))
    return (1.0 - t) * no - t * yes


def s(z: Any) -> Any:
    """Return the logistic function in mpmath."""
    return 1 / (1 + mp.exp(-z))


ROOT = mp.sqrt(2)
ACTIVATIONS = [
    Case(fw.Identity(), lambda h, _: np.ones_like(h), lambda h: h),
    Case(fw.Sigmoid(), lambda _, a: a * (1.0 - a), s),
    Case(fw.Tanh(), lambda _, a: 1.0 - a * a, mp.tanh),
    Case(fw.ReLU(), lambda h, _: among(h > 0, h), lambda h: max(h, 0)),
    Case(fw.LeakyReLU(), lambda h, _: np.maximum(among(h > 0, h), 0.01), lambda h: h if h > 0 else h * 0.01),
    Case(
        fw.ELU(),
        lambda h, _: np.where(h > 0, 1.0, np.exp(np.minimum(h, 1.0))).astype(h.dtype),
        lambda h: h if h > 0 else mp.expm1(h),
    ),
    Case(fw.CELU(), lambda h, _: celu_slope(h), lambda h: h if h > 0 else mp.expm1(h)),
    Case(
        fw.SELU(),
        lambda h, _: (
            1.0507009873554805 * np.where(h > 0, 1.0, 1.6732632423543772 * np.exp(np.minimum(h, 1.0))).astype(h.dtype)
        ),
        lambda h: 1.0507009873554805 * (h if h > 0 else 1.6732632423543772 * mp.expm1(h)),
    ),
    Case(fw.GELU(), lambda h, _: gelu_slope(h), lambda h: h * mp.erfc(-h / ROOT) / 2),
    Case(
        fw.GELU(approximate="tanh"),
        lambda h, _: tanh_gelu_slope(h),
        lambda h: h * s(2 * mp.sqrt(2 / mp.pi) * (h + 0.044715 * h**3)),
    ),
    Case(fw.SiLU(), lambda h, _: swish_slope(h, 1.0), lambda h: h * s(h)),
    Case(fw.Swish(beta=3.0), lambda h, _: swish_slope(h, 3.0), lambda h: h * s(3 * h)),
    Case(fw.Mish(), lambda h, _: mish_slope(h), lambda h: h * mp.tanh(mp.log1p(mp.exp(h)))),
    Case(fw.Softplus(), lambda h, _: logistic(h), lambda h: mp.log1p(mp.exp(h))),
    Case(fw.Softplus(beta=3.0), lambda h, _: logistic(scale_in_range(h, 3.0)), lambda h: mp.log1p(mp.exp(3 * h)) / 3),
    Case(fw.LogSigmoid(), lambda h, _: logistic(-h), lambda h: -mp.log1p(mp.exp(-h))),
    Case(fw.Softsign(), lambda h, _: (1.0 / (1.0 + np.abs(h))) ** 2, lambda h: h / (1 + abs(h))),
    Case(fw.Sine(), lambda h, _: 30.0 * np.cos(scale_in_range(h, 30.0)), lambda h: mp.sin(30 * h)),
    Case(fw.HardTanh(), lambda h, _: among(np.abs(h) < 1.0, h), lambda h: min(max(h, -1), 1)),
    Case(fw.HardSigmoid(), lambda h, _: among(np.abs(h) < 3.0, h) / 6.0, lambda h: min(max(h + 3, 0), 6) / 6),
    Case(
        fw.HardSwish(),
        lambda h, _: np.clip(h + 3.0, 0.0, 6.0) / 6.0 + np.where(np.abs(h) < 3.0, h / 6.0, 0.0),
        lambda h: h * min(max(h + 3, 0), 6) / 6,
    ),
]
LOSSES = [
    Case(fw.HalfSquaredError(), lambda p, t: p - t, lambda p, t: (p - t) ** 2 / 2),
    Case(fw.MeanSquaredError(), lambda p, t: 2.0 * (p - t), lambda p, t: (p - t) ** 2),
    Case(fw.MeanAbsoluteError(), lambda p, t: np.sign(p - t), lambda p, t: abs(p - t)),
    Case(
        fw.Huber(),
        lambda p, t: np.clip(p - t, -1.0, 1.0),
        lambda p, t: (p - t) ** 2 / 2 if abs(p - t) < 1 else abs(p - t) - 0.5,
    ),
    Case(fw.LogCosh(), lambda p, t: np.tanh(p - t), lambda p, t: mp.log(mp.cosh(p - t))),
    Case(fw.Cauchy(), fw.Cauchy().slope, lambda p, t: mp.log1p((p - t) ** 2) / 2),
    Case(
        fw.Quantile(quantile=0.25),
        lambda p, t: 0.25 * np.minimum(np.sign(p - t), 0.0) + 0.75 * np.maximum(np.sign(p - t), 0.0),
        lambda p, t: max((t - p) / 4, 3 * (p - t) / 4),
    ),
    Case(fw.Poisson(), lambda p, t: 1.0 - part(t, p), lambda p, t: p - t * mp.log(p)),
    Case(
        fw.BinaryCrossEntropy(),
        lambda p, t: part(1.0 - t, 1.0 - p) - part(t, p),
        lambda p, t: -(t * mp.log(p) + (1 - t) * mp.log(1 - p)),
    ),
    Case(
        fw.Focal(),
        focal_slope,
        lambda p, t: -(t * (1 - p) ** 2 * mp.log(p) + (1 - t) * p**2 * mp.log(1 - p)),
    ),
    Case(fw.Hinge(), lambda p, t: -t * (t * p < 1.0), lambda p, t: max(1 - t * p, 0)),
    Case(fw.SquaredHinge(), lambda p, t: -2.0 * t * np.maximum(1.0 - t * p, 0.0), lambda p, t: max(1 - t * p, 0) ** 2),
    Case(fw.CrossEntropy(), lambda p, t: -part(t, p)),
    Case(fw.KLDivergence(), lambda p, t: -part(t, p)),
    Case(fw.CosineSimilarity(), fw.CosineSimilarity().slope),
]


def derived_and_written(case: Case) -> tuple[Any, Any]:
    """Return two activations with the formula of a case: one derives its derivative, one has it by hand."""
    kind = type(case.formula)
    names = ("derivative", "backward")
    derived = type(
        "Derived", (kind,), {"__module__": __name__, **{name: getattr(fw.Activation, name) for name in names}}
    )
    of_output = kind in (fw.Sigmoid, fw.Tanh)
    body = {"derivative": lambda self, h: case.by_hand(None, self(h)) if of_output else case.by_hand(h, None)}
    written = type("Written", (derived,), {"__module__": __name__, "check": "off", **body})
    return tuple(cls(**case.formula.settings()) for cls in (derived, written))


class Only(Layer):
    """A layer that is an activation."""

    inputs: int
    activation: fw.Activation

    def formula(self, x: Any) -> Any:
        """Return the activation of x."""
        return self.activation(x)


def passes(activation: fw.Activation, dtype: str) -> Callable[[], Any]:
    """Return a function that makes a forward and a backward pass."""
    layer = Only(inputs=128, activation=activation, dtype=dtype)
    x, gradient = numbers(dtype), numbers(dtype)[::-1].copy()

    def run() -> Any:
        layer.forward(x)
        return layer.backward(gradient)

    return run


def numbers(dtype: str, seed: int = 0) -> Any:
    """Return 128 x 128 numbers."""
    return (3.0 * np.random.default_rng(seed).normal(size=(128, 128))).astype(dtype)


def ratio(first: Callable[[], Any], second: Callable[[], Any], calls: int) -> float:
    """Return the least time of one over that of the other, measured in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(40):
        for found, function in zip(times, (first, second), strict=True):
            found.append(timeit.timeit(function, number=calls))
    return min(times[0]) / min(times[1])


def error(found: Any, exact: Any) -> float:
    """Return the largest relative error."""
    worst = max(abs(mp.mpf(float(f)) - e) / (abs(e) or 1) for f, e in zip(found, exact, strict=True))
    return float(worst)


def activation_row(case: Case, dtype: str) -> list[Any]:
    """Return the columns of an activation."""
    derived, written = derived_and_written(case)
    h = numbers(dtype)[0]
    exact = [mp.diff(case.exact, mp.mpf(float(x))) for x in h]
    found = [activation.derivative(h) for activation in (derived, written)]
    return [
        ratio(passes(derived, dtype), passes(written, dtype), 3),
        ratio(lambda: derived.derivative(h[0]), lambda: written.derivative(h[0]), 200),
        *(error(slope, exact) for slope in found),
    ]


def pairs(case: Case, dtype: str) -> tuple[Any, Any]:
    """Return predictions and targets that a loss accepts."""
    p, t, name = numbers(dtype)[:64], numbers(dtype, 1)[:64], type(case.formula).__name__
    if name in ("BinaryCrossEntropy", "Focal"):
        p, t = logistic(p), among(t > 0, t)
    elif "Hinge" in name:
        t = np.sign(t)
    elif name == "Poisson":
        p, t = np.abs(p), np.round(np.abs(t))
    elif name == "CrossEntropy":
        p, t = fw.Softmax()(p), np.eye(128, dtype=dtype)[::2]
    elif name == "KLDivergence":
        p, t = fw.Softmax()(p), fw.Softmax()(t)
    return p, t


def loss_row(case: Case, dtype: str) -> list[Any]:
    """Return the columns of a loss."""
    p, t = pairs(case, dtype)

    def derived(p: Any, t: Any) -> Any:
        return fw.Loss.slope(case.formula, p, t)

    columns: list[Any] = [ratio(lambda: derived(p, t), lambda: case.by_hand(p, t), 3), None, None, None]
    if case.exact is not None:
        exact = [
            mp.diff(case.exact, tuple(map(mp.mpf, map(float, pair))), (1, 0)) for pair in zip(p[0], t[0], strict=True)
        ]
        columns[1] = ratio(lambda: derived(p[0, 0], t[0, 0]), lambda: case.by_hand(p[0, 0], t[0, 0]), 200)
        columns[2:] = [error(slope, exact) for slope in (derived(p[0], t[0]), case.by_hand(p[0], t[0]))]
    return columns


def check_milliseconds(activation: fw.Activation) -> float:
    """Return the time of a first check: of a new instance, which has traced nothing yet."""
    times = timeit.repeat(lambda: activation.replace().check_derivative(), number=1, repeat=9)
    return 1e3 * statistics.median(times)


def text(columns: list[Any]) -> str:
    """Return the columns of one dtype."""
    ratios = "".join("       -" if x is None else f"{x:8.2f}" for x in columns[:2])
    return ratios + "".join("        -" if x is None else f"{x:9.0e}" for x in columns[2:])


def main() -> None:
    """Print a row for each formula, and which of the written derivatives are justified."""
    mp.mp.dps = 40
    columns = f"{'pass':>8}{'number':>8}{'derived':>9}{'written':>9}"
    print(f"{'':<42}" + "".join(f"{dtype + ': ratios, errors':>34}" for dtype in DTYPES))
    print(f"{'':<34}{'written':>8}" + columns * len(DTYPES) + f"{'check, ms':>12}")
    with np.errstate(all="ignore"):
        for case in (*ACTIVATIONS, *LOSSES):
            is_activation = isinstance(case.formula, fw.Activation)
            rows = [(activation_row if is_activation else loss_row)(case, dtype) for dtype in DTYPES]
            faster = max(row[0] for row in rows) > LIMIT
            mark = "yes" if case.writes else "slower" if faster else "no"
            name = repr(case.formula).partition("(label")[0]
            check = f"{check_milliseconds(case.formula):12.2f}" if is_activation else ""
            print(f"{name:<34}{mark:>8}" + "".join(map(text, rows)) + check)


if __name__ == "__main__":
    main()
