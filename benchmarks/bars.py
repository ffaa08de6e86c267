"""The bars that the figures are held against: how fast is fast enough."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """The ratio of two benchmarks, or the seconds of one, and its bound.

    Attributes:
        above: "workload contender"; "workload peers" is the fastest peer.
        below: What it is divided by; empty when the seconds themselves are meant.
        bound: The number.
        least: Whether the figure must be at least the bound, or else at most.
    """

    above: str
    below: str
    bound: float
    least: bool = True


BARS = (
    Bar("step torch", "step framework", 10),
    Bar("step framework", "step limit", 2, least=False),
    Bar("online sklearn", "online framework-compiled", 2),
    Bar("online framework-compiled", "online limit", 1.3, least=False),
    Bar("logistic peers", "logistic framework-compiled", 2),
    Bar("small jax-scan", "small framework-compiled", 2),
    Bar("small torch", "small framework-compiled", 30),
    Bar("own jax-scan", "own framework-compiled", 2),
    Bar("own torch", "own framework-compiled", 30),
    Bar("own framework-compiled", "small framework-compiled", 1.3, least=False),
    Bar("fashion-128 peers", "fashion-128 framework-compiled", 1),
    Bar("fashion-128 limit", "fashion-128 framework-compiled", 0.8),
    Bar("fashion-32 peers", "fashion-32 framework-compiled", 1),
    Bar("fashion-32 limit", "fashion-32 framework-compiled", 0.8),
    Bar("wide peers", "wide framework-compiled", 1),
    Bar("wide limit", "wide framework-compiled", 0.9),
    Bar("fashion-128 limit", "fashion-128 framework", 0.7),
    Bar("wide limit", "wide framework", 0.9),
    Bar("dense framework", "dense numpy", 1.05, least=False),
    Bar("dense-float32 framework", "dense-float32 numpy", 1.05, least=False),
    Bar("convolution framework", "convolution torch", 1.3, least=False),
    *(
        Bar(f"{name}{end} torch", f"{name}{end} framework", 1)
        for name in ("lenet", "gru", "lstm", "attention")
        for end in ("", "-float32")
    ),
    Bar("cold first use of Dense", "", 0.004, least=False),
    Bar("cold first use of LeNet", "", 0.025, least=False),
    Bar("cold first use of GRU", "", 0.020, least=False),
    Bar("cold import framework", "", 0.35, least=False),
    Bar("cold framework step", "cold import torch", 1, least=False),
    Bar("cold fit compiled, second", "", 0.5, least=False),
)
