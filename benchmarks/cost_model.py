"""A cost model of training on several workers: fitted to measured times, checked against runs, extrapolated on paper.

    python -m benchmarks.cost_model

It needs mpi4py and mpich, and takes some minutes. With S shards, B rows a batch, n workers and a gradient of V bytes:

    step(n)     = u + ceil(S / n) (a + b B / S) + exchange(n)
    exchange(n) = 2 (n - 1) latency + 2 V (n - 1) / n / bandwidth

u is what every worker does (the update), a the cost of a shard, b that of a row. They are fitted to steps of one
worker, latency and bandwidth to exchanges of two workers. These go through shared memory, through TCP on the loopback
interface, and, for root on Linux, through a link of 1 Gbit/s between two network namespaces, as between two machines.
Through a network it is an Alltoallv and an Allgatherv: each worker sends n - 1 messages and V (n - 1) / n bytes in
each of them. In shared memory each worker adds up a part of the sums in place, between two barriers. With at least four
cores, exchanges and steps of four workers are compared with the model too.

Times are minima, so that other programs on the machine disturb them less. What a worker computes by itself is measured
in processor time, which does not count while another program has the core. Exchanges and steps are measured on the
clock.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from framework import CrossEntropy, Dense, ReLU, Sequential, SGDOptimizer, Softmax, Trainer, on
from framework.training import DataParallel
from framework.training.parallel.mpi import workers
from framework.training.parallel.strategy import count_processes
from framework.training.parallel.sums import Tree

CORES = len(os.sched_getaffinity(0))
TCP = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "lo", "MPIR_CVAR_NOLOCAL": "1"}
"""Makes MPICH use TCP within a machine."""
HOSTS = {"10.79.0.1": "a", "10.79.0.2": "b"}
"""The addresses of two network namespaces."""
SHELL = """#!/bin/sh
# in place of ssh: run a command on the host of an address
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in 10.79.0.1) space=%sa;; *) space=%sb;; esac
shift
exec ip netns exec $space sh -c "$*"
"""
SECONDS = 3
"""How long each figure is measured."""
BYTES = (4_000, 40_000, 400_000, 4_000_000)
NETWORKS = {"10 Gbit/s Ethernet": (25e-6, 1.1e9), "100 Gbit/s InfiniBand": (2e-6, 11e9)}
"""Assumed latencies in seconds and bandwidths in bytes/s, for the table on paper."""


class Work(NamedTuple):
    """A network, and the batches that its times are fitted to.

    Attributes:
        sizes: The inputs and the units of each layer, float32.
        fitted: (rows of a batch, shards).
        checked: The same, for the runs of several workers.
        paper: The same, for hundreds of workers.
    """

    sizes: tuple[int, ...]
    fitted: tuple[tuple[int, int], ...]
    checked: tuple[int, int]
    paper: tuple[int, int]

    @property
    def bytes(self):
        """The size of the gradient."""
        return 4 * sum((inputs + 1) * units for inputs, units in pairwise(self.sizes))


DENSE = ((8, 1), (8, 8), (256, 1), (256, 8), (512, 1), (512, 8))
WORK = {
    "784-256-10": Work((784, 256, 10), DENSE, (512, 4), (16_384, 256)),
    "784-1024-1024-10": Work((784, 1024, 1024, 10), DENSE, (64, 4), (16_384, 256)),
    "1,000,000-2": Work((1_000_000, 2), ((1, 1), (4, 1), (4, 4), (8, 1), (8, 8)), (8, 4), (4096, 256)),
}


def step(name, batch, shards):
    """Return the least times of a step: on the clock, and of the processor outside of the exchange."""
    sizes = WORK[name].sizes
    layers = [
        Dense(inputs, units, Softmax() if units == sizes[-1] else ReLU(), dtype="float32")
        for inputs, units in pairwise(sizes)
    ]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * batch, sizes[0]), dtype=np.float32)
    y = rng.integers(0, sizes[-1], len(x))
    clock, processor, best, end = time.perf_counter, time.thread_time, [np.inf, np.inf], [0.0, 0.0]
    total, last = Tree.total, clock() + SECONDS

    def timed(tree, vector):
        own = processor() - end[1]
        found = total(tree, vector)
        if count_processes() == 1:
            own = processor() - end[1]
        best[:] = min(best[0], clock() - end[0]), min(best[1], own)
        end[:] = clock(), processor()
        return found

    # A callback at each batch would add an exchange, so the sums are timed: from the end of one to the end of the next.
    Tree.total = timed

    @on("epoch_begin")
    def forget(run):
        end[:] = -np.inf, -np.inf
        if run.step and clock() > last:
            run.stop("measured")

    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=1e-4),
        epochs=100_000,
        batch_size=batch,
        strategy=DataParallel(shards=shards),
        callbacks=[forget],
    )
    trainer.fit(Sequential(*layers), (x, y))
    return best


def exchanges():
    """Return the shortest time of an exchange of each of BYTES."""
    team, found = workers(), []
    with team.guard(120):
        for size in BYTES:
            tree, best = Tree(team, team.size, size // 4, np.float32, tail=1), np.inf
            vector = np.empty(size // 4, np.float32)
            end, over = time.perf_counter() + SECONDS, False
            while not over:
                tree.leaf(team.rank).tail[0] = time.perf_counter() > end
                start = time.perf_counter()
                over = tree.total(vector)[0] > 0
                best = min(best, time.perf_counter() - start)
            found.append(best)
    return found


class Start(NamedTuple):
    """How mpiexec starts workers that exchange by one of the networks.

    Attributes:
        fitted: The bytes of the smallest exchange that the model is fitted to.
    """

    before: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}  # noqa: RUF012 (nobody changes it)
    fitted: int = 0


@contextmanager
def link(rate):
    """Make two network namespaces with a link that sends at most ``rate``; give the start of workers in them."""
    name = f"cost{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        shell = Path(folder, "shell")
        shell.write_text(SHELL % (name, name))
        shell.chmod(0o755)
        try:
            for end in HOSTS.values():
                ip("netns", "add", name + end)
            ip("link", "add", "wire", "netns", f"{name}a", "type", "veth", "peer", "name", "wire", "netns", f"{name}b")
            for address, end in HOSTS.items():
                ip("-n", name + end, "address", "add", f"{address}/24", "dev", "wire")
                for device in ("wire", "lo"):
                    ip("-n", name + end, "link", "set", device, "up")
                limit = ["root", "tbf", "rate", rate, "burst", "64kb", "limit", "2mb"]
                subprocess.run(["tc", "-n", name + end, "qdisc", "add", "dev", "wire", *limit], check=True, timeout=20)
            time.sleep(3)  # until the kernel has checked the addresses
            options = ("-launcher", "ssh", "-launcher-exec", str(shell), "-hosts", ",".join(HOSTS))
            options = (*options, "-localhost", next(iter(HOSTS)))
            # What the mpich wheel takes by itself on two hosts. Its warnings would go to the standard output.
            environment = {"MPIR_CVAR_CH4_NETMOD": "ucx", "UCX_TLS": "tcp,self", "UCX_LOG_LEVEL": "error"}
            yield Start(("ip", "netns", "exec", f"{name}a"), options, environment, fitted=400_000)  # more than a burst
        finally:
            for end in HOSTS.values():
                subprocess.run(
                    ["ip", "netns", "delete", name + end], check=False, stderr=subprocess.DEVNULL, timeout=20
                )


def ip(*arguments):
    """Run the command of that name."""
    subprocess.run(["ip", *arguments], check=True, timeout=20)


def measured(count, task, *arguments, start=Start()):  # noqa: B008 (it is immutable)
    """Return what worker 0 of some workers measures."""
    command = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.cost_model", task, *map(str, arguments)]
    if count > 1:
        mpiexec = str(Path(sys.executable).with_name("mpiexec"))
        command = [*start.before, mpiexec, *start.options, "-n", str(count), *command]
    else:
        del command[1:3]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one, **start.environment}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def least_squares(rows, times):
    """Return the coefficients, none below 0, with the least squares of relative errors."""
    rows, used = np.array(rows) / np.array(times)[:, None], list(range(len(rows[0])))
    while True:
        found = np.zeros(rows.shape[1])
        found[used] = np.linalg.lstsq(rows[:, used], np.ones(len(rows)), rcond=None)[0]
        if (found >= 0).all():
            return found
        used.remove(int(found.argmin()))


def exchange(network, count, size):
    """Return the predicted seconds of an exchange."""
    latency, bandwidth = network
    return 2 * (count - 1) * latency + 2 * size * (count - 1) / count / bandwidth


def predicted(costs, work, batch_and_shards, network, count):
    """Return the predicted seconds of a step."""
    (u, a, b), (batch, shards) = costs, batch_and_shards
    return u + -(-shards // count) * (a + b * batch / shards) + exchange(network, count, work.bytes)


def table(head, lines):
    """Print a table as Markdown."""
    for line in (head, ["---"] * len(head), *lines):
        print("|", " | ".join(map(str, line)), "|")
    print()


def milliseconds(seconds):
    """Return a time as text."""
    return f"{1000 * seconds:.3g}"


def main():
    """Measure with each of the networks there are."""
    starts = {"shared memory": Start(), "TCP loopback": Start(environment=TCP)}
    if os.geteuid() == 0 and shutil.which("tc"):
        with link("1gbit") as start:
            report({**starts, "1 Gbit/s link": start})
    else:
        report(starts)


def report(starts):
    """Measure, fit, check, extrapolate."""
    counts = [count for count in (2, 4) if count <= CORES]
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}\n")
    networks = {}
    lines = []
    for name, start in starts.items():
        found = [measured(count, "exchanges", start=start) for count in counts]
        sizes = [size for size in BYTES if size >= start.fitted]
        fitted = least_squares([[2, size] for size in sizes], found[0][-len(sizes) :])
        networks[name] = fitted[0], 1 / fitted[1]
        for place, size in enumerate(BYTES):
            pairs = [
                (each[place], exchange(networks[name], count, size)) for count, each in zip(counts, found, strict=True)
            ]
            lines.append([name, f"{size:,}", *(milliseconds(each) for pair in pairs for each in pair)])
        print(f"{name}: latency {1e6 * fitted[0]:.3g} us, bandwidth {networks[name][1] / 1e9:.3g} GB/s")
    print()
    table(["exchange", "bytes", *(text for count in counts for text in (f"{count} workers, ms", "model"))], lines)
    costs, lines = {}, []
    for name, work in WORK.items():
        times = [measured(1, "step", name, batch, shards)[1] for batch, shards in work.fitted]
        costs[name] = least_squares([[1, shards, batch] for batch, shards in work.fitted], times)
        for (batch, shards), found in zip(work.fitted, times, strict=True):
            model = predicted(costs[name], work, (batch, shards), (0, np.inf), 1)
            line = [name, batch, shards, 1, milliseconds(found), milliseconds(model), f"{found / model:.2f}"]
            lines.append([*line, "", "", "", ""])
        for count in counts:
            for network, start in starts.items():
                clock, own = measured(count, "step", name, *work.checked, start=start)
                model = predicted(costs[name], work, work.checked, networks[network], count)
                alone = predicted(costs[name], work, work.checked, (0, np.inf), count)
                line = [name, *work.checked, count, milliseconds(own), milliseconds(alone), f"{own / alone:.2f}"]
                lines.append([*line, network, milliseconds(clock), milliseconds(model), f"{clock / model:.2f}"])
    for name, (u, a, b) in costs.items():
        print(f"{name}: u {1000 * u:.3g} ms, a {1000 * a:.3g} ms, b {1e6 * b:.3g} us, {WORK[name].bytes:,} bytes")
    print()
    own, clock = ["own work, ms", "model", "ratio"], ["exchange", "step, ms", "model", "ratio"]
    table(["network", "rows", "shards", "workers", *own, *clock], lines)
    for name, work in WORK.items():
        print(f"{name}, batches of {work.paper[0]:,} rows, {work.paper[1]} shards: predicted ms per step, speed-up\n")
        lines, counts = [], [2**power for power in range(work.paper[1].bit_length())]
        links = {"TCP loopback": networks["TCP loopback"], **NETWORKS}
        times = {
            link: [predicted(costs[name], work, work.paper, network, count) for count in counts]
            for link, network in links.items()
        }
        one = predicted(costs[name], work, (work.paper[0], 1), (0, np.inf), 1)
        lines.append(["1, of one shard", *(f"{milliseconds(one)}, {found[0] / one:.3g}" for found in times.values())])
        for place, count in enumerate(counts):
            cells = [f"{milliseconds(each[place])}, {each[0] / each[place]:.3g}" for each in times.values()]
            lines.append([count, *cells])
        halves = [
            max(count for count, each in zip(counts, found, strict=True) if found[0] / each >= count / 2)
            for found in times.values()
        ]
        lines.append(["at least half of n up to", *halves])
        lines.append(["fastest", *(counts[int(np.argmin(found))] for found in times.values())])
        table(["workers", *times], lines)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        task, *given = sys.argv[1:]
        result = exchanges() if task == "exchanges" else step(given[0], *map(int, given[1:]))
        if workers().rank == 0:
            print(json.dumps(result))
    else:
        main()
