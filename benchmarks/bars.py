"""The bars that the figures are held against: how fast is fast enough."""

from dataclasses import dataclass

from benchmarks.contenders import FAST
from benchmarks.workloads import FURTHER


@dataclass(frozen=True)
class Bar:
    """The ratio of two benchmarks, or the seconds of one, and its bound.

    Attributes:
        above: "workload contender"; "workload peers" is the fastest peer, "workload jax" the faster JAX by hand,
            and "workload ours" the fastest of our engines. "small-further" is a step of further epochs.
        below: What it is divided by; empty when the seconds themselves are meant.
        bound: The number.
        least: Whether the figure must be at least the bound, or else at most.
    """

    above: str
    below: str
    bound: float
    least: bool = True


def both(name: str, above: str, below: str, first: float, further: float) -> tuple[Bar, Bar]:
    """Return a bar for a step of the first epoch, and one for further epochs."""
    return tuple(
        Bar(f"{name}{end} {above}", f"{name}{end} {below}", bound) for end, bound in (("", first), (FURTHER, further))
    )


FIT = ("lenet", "gru", "attention")
COMPILED = {"lenet": (4, 4, 2.5), "gru": (2.3, 1.5, 6), "attention": (1.5, 1.8, 1.4)}
"""How many times as long as our kernel the JAX engine, JAX by hand and PyTorch may take at least, in further epochs."""

BARS = (
    Bar("step torch", "step framework", 12),
    Bar("step framework", "step limit", 1.9, least=False),
    *both("online", "sklearn", "framework-compiled", 2, 2.5),
    *both("logistic", "peers", "framework-compiled", 1.4, 1.8),
    *both("small", "peers", "framework-compiled", 1.25, 2.2),
    *both("many", "framework-compiled", "framework-many", 4, 4),
    *both("own", "peers", "framework-compiled", 1.25, 2.2),
    *both("fashion-32", "peers", "framework-compiled", 1.05, 1.15),
    *both("fashion-128", "peers", "framework-compiled", 1.05, 1.15),
    *both("wide", "peers", "framework-compiled", 1, 1),
    Bar("small torch", "small framework-compiled", 30),
    Bar("own torch", "own framework-compiled", 30),
    Bar("own framework-compiled", "small framework-compiled", 1.3, least=False),
    Bar("online framework-compiled", "online limit", 1.3, least=False),
    Bar("fashion-32 limit", "fashion-32 framework-compiled", 0.8),
    Bar("fashion-128 limit", "fashion-128 framework-compiled", 0.8),
    Bar("fashion-128 limit", "fashion-128 framework", 0.7),
    Bar("wide limit", "wide framework-compiled", 0.9),
    Bar("wide limit", "wide framework", 0.9),
    Bar("dense framework", "dense numpy", 1.05, least=False),
    Bar("dense-float32 framework", "dense-float32 numpy", 1.05, least=False),
    Bar("convolution framework", "convolution torch", 1.3, least=False),
    *(
        Bar(f"{name}{end} torch", f"{name}{end} framework", 1)
        for name in ("lenet", "gru", "lstm", "attention")
        for end in ("", "-float32")
    ),
    Bar(f"lenet-fit{FURTHER} jax", f"lenet-fit{FURTHER} framework-jax", 0.95),
    *(Bar(f"{name}-fit{FURTHER} jax-scan", f"{name}-fit{FURTHER} framework-jax", 0.95) for name in FIT[1:]),
    *(Bar(f"{name}-fit{FURTHER} torch", f"{name}-fit{FURTHER} framework", 1) for name in FIT),
    *(
        Bar(f"{name}-fit{FURTHER} {peer}", f"{name}-fit{FURTHER} framework-compiled", bound)
        for name, bounds in COMPILED.items()
        for peer, bound in zip(("framework-jax", "jax", "torch"), bounds, strict=True)
    ),
    Bar(f"momentum{FURTHER} framework-subnormal", f"momentum{FURTHER} framework", 1.26),
    Bar(f"momentum{FURTHER} framework-compiled-subnormal", f"momentum{FURTHER} framework-compiled", 1.6),
    Bar("predict-1 ours", "", 2e-6, least=False),
    *(
        Bar(f"{name} {peer}", f"{name} ours", 1)
        for name in ("predict-1", "predict-32", "predict-1000")
        for peer in ("torch", "onnxruntime", "sklearn")
    ),
    Bar("cold first use of Dense", "", 0.004, least=False),
    Bar("cold first use of LeNet", "", 0.025, least=False),
    Bar("cold first use of GRU", "", 0.020, least=False),
    Bar("cold import framework", "", 0.33, least=False),
    Bar("cold framework step", "cold import torch", 1, least=False),
    Bar("cold compile, 1 hidden layer", "", 0.4, least=False),
    Bar("cold compile, 10 hidden layers", "", 0.6, least=False),
    Bar("cold fit compiled, second", "", 0.5, least=False),
)


def needed() -> set[str]:
    """Return "workload contender" of all that the bars compare, of the peers only those that can be the fastest."""
    found = set()
    for side in (side for bar in BARS for side in (bar.above, bar.below) if side):
        name, _, contender = side.replace(FURTHER, "").partition(" ")
        found |= {f"{name} {each}" for each in FAST.get(contender, (contender,))}
    return found
