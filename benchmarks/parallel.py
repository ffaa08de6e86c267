"""Two workers against one, and against PyTorch's DistributedDataParallel.

    python -m benchmarks.parallel [--quick] [--rounds 5] [--works fashion]

Every contender trains the same network on rows of the same distribution, with plain SGD, in float32 and with one thread
for each worker. A global batch is divided among the workers. Each measurement is a process of its own, or two; the
contenders run in turn, so that the load of the machine affects all of them. A time is the tenth percentile of the steps
of a process in wall time: steps that other programs interrupted are left out. The figure is the median over the rounds.

At the end it prints the table of docs/parallel.md. ``fashion-kernels`` is ``fashion`` with ``engine="compiled"``.
``overhead`` compares two workers with one that has half of the rows, so that each process computes the same. The
difference is the cost of the strategy, in milliseconds for each step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Work(NamedTuple):
    """A network with ReLU, the rows of a global batch, those of an epoch, and the engine of our workers."""

    sizes: tuple[int, ...]
    batch: int
    rows: int
    epochs: int = 4
    engine: Any = "numpy"


WORKS = {
    "wide": Work((1024, 2048, 2048, 1000), 512, 1024, epochs=6),
    "fashion": Work((784, 128, 10), 128, 12_800),
    "fashion-kernels": Work((784, 128, 10), 128, 12_800, engine="compiled"),
    "logreg-1e6": Work((1_000_000, 1), 16, 64, epochs=20),
}
TINY = {
    "wide": Work((64, 32, 32, 10), 16, 64),
    "fashion": Work((64, 16, 10), 16, 64),
    "fashion-kernels": Work((64, 16, 10), 16, 64, engine="compiled"),
    "logreg-1e6": Work((1000, 1), 16, 64),
}
OVERHEADS = {f"overhead-{10 * size}": Work((size, 10), 128, 12_800) for size in (100, 1_000, 10_000)}
HALVES = {f"{name}/2": work._replace(batch=work.batch // 2, rows=work.rows // 2) for name, work in OVERHEADS.items()}
CONTENDERS = {
    "one worker": 1,
    "two workers, 2 shards": 2,
    "two workers, 4 shards": 2,
    "two workers, 8 shards": 2,
    "PyTorch, one process": 1,
    "PyTorch DDP, two": 2,
}


def data(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and their classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((work.rows, work.sizes[0]), np.float32)
    return x, rng.integers(0, max(work.sizes[-1], 2), work.rows)


def ours(contender: str, work: Work) -> list[float]:
    """Return the times at which the steps end."""
    from framework import (  # noqa: PLC0415 (not in PyTorch's processes)
        BinaryCrossEntropy,
        CrossEntropy,
        Dense,
        ReLU,
        Sequential,
        SGDOptimizer,
        Sigmoid,
        Softmax,
        Trainer,
    )
    from framework.training import DataParallel  # noqa: PLC0415 (as above)
    from framework.training.runs.run import Run  # noqa: PLC0415

    times: list[float] = []
    last = Sigmoid() if work.sizes[-1] == 1 else Softmax()
    pairs = [*zip(work.sizes, work.sizes[1:], strict=False)]
    layers = [Dense(*pair, ReLU() if pair != pairs[-1] else last, dtype="float32") for pair in pairs]
    loss = BinaryCrossEntropy() if work.sizes[-1] == 1 else CrossEntropy()
    shards = next((int(word) for word in contender.split() if word.isdigit()), 2)
    strategy = DataParallel(shards=shards) if "two" in contender else None
    if work.engine == "compiled" and strategy is None:
        strategy = DataParallel(shards=1)  # a kernel by itself makes many steps at once, which cannot be timed here
    trainer = Trainer(
        loss=loss,
        optimizer=SGDOptimizer(learning_rate=0.01),
        epochs=work.epochs,
        batch_size=work.batch,
        strategy=strategy,
        engine=work.engine,
    )
    finish = Run.finish_step

    def timed(run: Run, sums: Any) -> None:  # a callback would ask all workers after each step
        finish(run, sums)
        times.append(time.perf_counter())

    Run.finish_step = timed  # type: ignore[method-assign]
    trainer.fit(Sequential(*layers), data(work))
    return times


def torchs(work: Work) -> list[float]:
    """Return the times at which the steps of PyTorch end."""
    import torch  # noqa: PLC0415
    from torch import distributed, nn  # noqa: PLC0415
    from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415

    torch.set_num_threads(1)
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    layers: list[nn.Module] = []
    for pair in zip(work.sizes, work.sizes[1:], strict=False):
        layers += [nn.Linear(*pair), nn.ReLU()]
    model: nn.Module = nn.Sequential(*layers[:-1])
    if size > 1:
        distributed.init_process_group("gloo", init_method=os.environ["RENDEZVOUS"], rank=rank, world_size=size)
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    binary = work.sizes[-1] == 1
    loss = nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss()
    x, y = map(torch.from_numpy, data(work))
    if binary:
        y = y.to(torch.float32)[:, None]
    times, part = [], work.batch // size
    for epoch in range(work.epochs):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(work.rows))
        for start in range(0, work.rows, work.batch):
            rows = order[start + rank * part : start + (rank + 1) * part]
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
            times.append(time.perf_counter())
    if size > 1:
        distributed.destroy_process_group()
    return times


def measure(contender: str, name: str, *, quick: bool) -> float:
    """Return the milliseconds of a step, from processes of their own."""
    command = [sys.executable, "-m", "benchmarks.parallel", "--contender", contender, "--work", name]
    command += ["--quick"] if quick else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if CONTENDERS[contender] == 1:
        commands, places = [command], [{}]
    elif "PyTorch" in contender:
        rendezvous = f"file://{tempfile.mkdtemp()}/rendezvous"
        places = [{"RANK": str(rank), "WORLD_SIZE": "2", "RENDEZVOUS": rendezvous} for rank in range(2)]
        commands = [command, command]
    else:
        commands, places = [[str(Path(sys.executable).with_name("mpiexec")), "-n", "2", *command]], [{}]
    processes = [
        subprocess.Popen(command, env=environment | place, stdout=subprocess.PIPE, text=True)
        for command, place in zip(commands, places, strict=True)
    ]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{contender} failed on {name}")
    return max(float(line) for text in printed for line in text.split())


def works(*, quick: bool) -> dict[str, Work]:
    """Return all works by their names."""
    if quick:
        small = Work((10, 10), 8, 32)
        return TINY | dict.fromkeys((*OVERHEADS, *HALVES), small)
    return WORKS | OVERHEADS | HALVES


def main() -> None:
    """Measure, or be one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which say nothing of the speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", nargs="+", choices=[*WORKS, "overhead"], default=[*WORKS, "overhead"])
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        work = works(quick=options.quick)[options.work]
        times = torchs(work) if "PyTorch" in options.contender else ours(options.contender, work)
        sys.stdout.write(f"{1000 * np.percentile(np.diff(times), 10)}\n")
        return
    chosen = [name for name in CONTENDERS if "PyTorch" not in name or find_spec("torch")]
    rounds = 1 if options.quick else options.rounds
    medians: dict[str, dict[str, float]] = {}
    for name in [name for name in WORKS if name in options.works]:
        found = {contender: list[float]() for contender in chosen}
        for _ in range(rounds):
            for contender, values in found.items():
                values.append(measure(contender, name, quick=options.quick))
        medians[name] = {contender: statistics.median(values) for contender, values in found.items()}
        print(f"{name}: ms a step, median of {rounds}; speed against one worker")
        for contender, values in found.items():
            ratios = [first / value for first, value in zip(found["one worker"], values, strict=True)]
            print(f"  {contender:<32}{medians[name][contender]:9.2f}{statistics.median(ratios):7.2f}")
        print(f"  (one worker from {min(found['one worker']):.2f} to {max(found['one worker']):.2f})")
    if medians:
        print(f"| | {' | '.join(medians)} |\n|---|{'---|' * len(medians)}")
        for contender in chosen:
            print(f"| {contender} | {' | '.join(f'{each[contender]:.3g}' for each in medians.values())} |")
    for name in OVERHEADS if "overhead" in options.works else ():
        pairs = [
            (
                measure("two workers, 2 shards", name, quick=options.quick),
                measure("one worker", f"{name}/2", quick=options.quick),
            )
            for _ in range(rounds)
        ]
        both, alone = (statistics.median(values) for values in zip(*pairs, strict=True))
        lost = statistics.median(two - one for two, one in pairs)
        print(
            f"{name.partition('-')[2]} parameters: {both:.3f} ms, alone {alone:.3f} ms, overhead {lost:.3f} ms a step"
        )


if __name__ == "__main__":
    main()
