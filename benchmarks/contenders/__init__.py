"""Who takes part. A contender's module has a function for each kind of workload that it can do, and returns a Task."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.workloads import Workload


class SkipError(Exception):
    """The contender cannot do this workload; the message says why."""


@dataclass(frozen=True)
class Task:
    """Work that is ready to be timed.

    Attributes:
        begin: Puts the first weights in place; not timed.
        run: Does the work and returns when it is done; timed. Where there are epochs, it takes how many, and which is
            the first.
        weights: Returns the trained weights as those of ``Workload.weights``; None for a limit that trains nothing.
        includes: What the time includes besides forward, backward and update.
        loss: Returns the number that all contenders must agree on, where ``Workload.loss`` cannot find it.
    """

    begin: Callable[[], None]
    run: Callable[..., None]
    weights: Callable[[], list[Any]] | None
    includes: str
    loss: Callable[[], float] | None = None


@dataclass(frozen=True)
class Contender:
    """A way to do the work.

    Attributes:
        module: The module in this folder.
        settings: What its functions get besides the workload.
        few_rows: With batch 1, this many rows are enough: the time of a step is what is compared.
        quick: What it does in a quick run, because it takes seconds to begin; None is everything.
    """

    module: str
    settings: dict[str, Any] = field(default_factory=dict)
    few_rows: int | None = None
    quick: tuple[str, ...] | None = None

    def task(self, work: Workload) -> Task:
        """Make the task.

        Raises:
            SkipError: Something is not installed, or the contender cannot do such work.
        """
        try:
            module = import_module(f"benchmarks.contenders.{self.module}")
        except ImportError as error:
            raise SkipError(f"not installed: {error}") from error
        if not hasattr(module, work.kind):
            raise SkipError("does no such work")
        return getattr(module, work.kind)(work, **self.settings)


CONTENDERS = {
    "framework": Contender("framework", {"engine": "numpy"}, few_rows=20_000),
    "framework-compiled": Contender("framework", {"engine": "compiled"}),
    "framework-jax": Contender("framework", {"engine": "jax"}, quick=("gru-fit",)),
    "framework-many": Contender("framework", {"engine": "many"}),
    "framework-subnormal": Contender("framework", {"engine": "numpy", "flush": False}),
    "framework-compiled-subnormal": Contender("framework", {"engine": "compiled", "flush": False}),
    "limit": Contender("limit"),
    "numpy": Contender("numpy", few_rows=20_000),
    "jax-scan": Contender("jax", {"scan": True}, quick=("online", "small", "fashion-32")),
    "jax-jit": Contender("jax", {"scan": False}, few_rows=20_000, quick=("step", "small")),
    "torch": Contender("torch", {"compiled": False}, few_rows=10_000),
    "torch-compile": Contender("torch", {"compiled": True}, few_rows=10_000, quick=("small",)),
    "sklearn": Contender("sklearn"),
    "keras": Contender("keras", few_rows=2_000, quick=("small",)),
    "onnxruntime": Contender("onnxruntime"),
}
OURS = ("framework", "framework-compiled", "framework-jax", "framework-many")
SUBNORMAL = ("framework-subnormal", "framework-compiled-subnormal")
"""Ours without flush to zero."""
PEERS = tuple(name for name in CONTENDERS if name not in {*OURS, *SUBNORMAL, "limit"})
FASTEST = {"ours": OURS, "peers": PEERS, "jax": ("jax-scan", "jax-jit")}
"""In the name of a benchmark: the fastest of these."""
FAST = {"ours": OURS, "peers": ("numpy", "jax-scan"), "jax": ("jax-scan", "jax-jit")}
"""Those of them of which one is the fastest at every training."""
FEW = ("framework", "framework-compiled", "numpy")
"""Who does growth and memory: what is asked there is not who is fastest."""
EAGER = ("framework", "numpy", "torch")
"""Who does layers and passes."""
FIT = ("framework", "framework-compiled", "framework-jax", "jax-scan", "jax-jit", "torch")
MANY = ("framework-compiled", "framework-many", "jax-scan")
"""Who does many: the first one trains one model after another."""
MOMENTUM = (*OURS[:3], *SUBNORMAL, "numpy", "jax-scan", "torch")
INFERENCE = ("framework", "framework-compiled", "numpy", "jax-jit", "torch", "sklearn", "onnxruntime")


def of(work: Workload) -> dict[str, Contender]:
    """Return who does this workload, by name."""
    if work.kind in ("layers", "passes"):
        names = EAGER
    elif work.kind == "fit":
        names = FIT
    elif work.kind == "inference":
        names = INFERENCE
    elif work.kind == "many":
        names = MANY
    elif work.momentum:
        names = MOMENTUM
    elif work.kind == "memory" or work.name.startswith("growth"):
        names = FEW
    else:
        names = tuple(name for name in CONTENDERS if name not in {*SUBNORMAL, "framework-many", "onnxruntime"})
    return {name: CONTENDERS[name] for name in names}
