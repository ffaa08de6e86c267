"""What a derived derivative costs beside a written one, and what checking a formula costs when first put to work.

    python benchmarks/derivatives.py

For every activation of the library: the milliseconds of its check with new settings, nothing cached; and the time of
the derived derivative over the written one, on 8192 numbers of float64 (medians of runs in turn).
"""

import statistics
import timeit

import numpy as np

import framework
from framework import Activation, Component
from framework.activations.base import _checked
from framework.formulas import trace


def activations() -> list[Activation]:
    """Every elementwise activation of the library."""
    classes = [getattr(framework, name) for name in framework.__all__]
    found = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, Component)]
    return [cls() for cls in found if issubclass(cls, Activation) and cls is not Activation]


def check_milliseconds(activation: Activation) -> float:
    """The time of a first check: a fresh instance, nothing cached."""

    def check() -> None:
        _checked.cache_clear()
        type(activation)().require_derivative()

    return 1e3 * statistics.median(timeit.repeat(check, number=1, repeat=25))


def derived_over_written(activation: Activation) -> float:
    """The ratio of the derived derivative's time to the written one's."""
    h = np.linspace(-8.0, 8.0, 8192)
    derived = trace(activation).derivative
    ratios = []
    for _ in range(15):
        ours, theirs = (timeit.timeit(lambda f=f: f(h), number=40) for f in (derived, activation.derivative))
        ratios.append(ours / theirs)
    return statistics.median(ratios)


def main() -> None:
    """Print a row for each activation."""
    print(f"{'activation':<14}{'check, ms':>10}{'derived / written':>20}")
    for activation in activations():
        name, cost = type(activation).__name__, check_milliseconds(activation)
        print(f"{name:<14}{cost:>10.2f}{derived_over_written(activation):>20.2f}")


if __name__ == "__main__":
    main()
