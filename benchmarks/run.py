"""Measure every contender at every workload, each pair in a process of its own, in turn.

    python -m benchmarks                              # everything
    python -m benchmarks small own --threads 2
    python -m benchmarks --bars                       # only what the bars compare
    python -m benchmarks --quick                      # tiny sizes: does it work?
    python -m benchmarks --json docs/benchmarks.json --chart docs/benchmarks.png

A round runs every contender once, and each round begins with another one, so background load affects all of them
equally. A quick run shares one process among the workloads of a contender. Every process gets the same number of
threads and of cores. docs/benchmarks.md says what is measured.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import pyperf

from benchmarks import cold, memory, report
from benchmarks.bars import needed
from benchmarks.contenders import CONTENDERS, Contender, SkipError, of
from benchmarks.workloads import FURTHER, GROUPS, TOLERANCE, WORKLOADS, Workload

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")  # NPROC is XLA's
SLOWING = (
    "OPENBLAS_CORETYPE",  # chooses kernels for another machine than this one
    "OPENBLAS_L2_SIZE",
    "PYTHONDONTWRITEBYTECODE",  # makes every process compile its sources anew
)
PACKAGES = ("framework", "numpy", "scipy", "numba", "llvmlite", "torch", "jax", "optax", "scikit-learn", "keras")
PACKAGES += ("onnxruntime", "pyperf")

Measure = Callable[[], list[pyperf.Benchmark]]


class FailedError(Exception):
    """A process ended with an error; the message is its last line."""


Outcome = list[pyperf.Benchmark] | SkipError | FailedError


@dataclass
class Bench:
    """One call of the command.

    Attributes:
        options: The arguments.
        folder: A temporary folder, for caches and for the data of "memory".
        env: The environment of every process.
        results: Benchmarks by their name, "workload contender".
        shared: In a quick run, what came of the workloads of each contender, by their names.
        troubles: What makes the command end with 1.
    """

    options: argparse.Namespace
    folder: Path
    env: dict[str, str]
    results: dict[str, pyperf.Benchmark] = field(default_factory=dict)
    shared: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def share(self, works: list[Workload]) -> None:
        """Run each contender in one process for all its workloads, as most of a quick run is imports and compiling."""
        chosen: dict[str, list[Workload]] = {}
        for work in works:
            if work.kind not in ("cold", "memory"):  # which need processes of their own
                for name in self.names(work):
                    chosen.setdefault(name, []).append(work)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(lambda name: self.process(name, chosen[name], "--values", "1"), chosen)
            self.shared = dict(zip(chosen, done, strict=True))

    def measure(self, works: list[Workload]) -> None:
        """Measure workloads that belong together, in rounds."""
        pairs = {f"{work.name} {name}": measure for work in works for name, measure in self.contenders(work).items()}
        left: set[str] = set()
        at_once = (os.cpu_count() or 1) if self.options.quick else 1
        for turn in range(self.options.repeats):
            names = list(pairs)
            start = turn % max(len(names), 1)
            names = names[start:] + names[:start]
            with ThreadPoolExecutor(at_once) as pool:
                for name, result in zip(names, pool.map(lambda name: attempt(pairs[name]), names), strict=True):
                    if isinstance(result, list):
                        for bench in result:
                            if bench.get_name() in self.results:
                                self.results[bench.get_name()].add_runs(bench)
                            else:
                                self.results[bench.get_name()] = bench
                        continue
                    print(f"  {name}: {'skipped' if isinstance(result, SkipError) else 'FAILED'}: {result}", flush=True)
                    if isinstance(result, FailedError):
                        self.troubles.append(f"{name}: {result}")
                    left.add(name)
            for name in left:
                pairs.pop(name, None)
                for each in (name, name.replace(" ", f"{FURTHER} ", 1)):
                    self.results.pop(each, None)
        for work in works:
            self.compare_losses(work)

    def contenders(self, work: Workload) -> dict[str, Measure]:
        """Return who does the work, by name."""
        if work.kind == "cold":
            runs = cold.commands(self.folder)
            names = [name for name in runs if not self.options.bars or f"cold {name}" in needed()]
            names = [name for name in names if not self.options.quick or name not in cold.DEPTHS]
            return {name: lambda name=name: self.cold(name, runs[name]) for name in names}
        return {name: lambda name=name: self.worker(work, name) for name in self.names(work)}

    def names(self, work: Workload) -> list[str]:
        """Return the names of the contenders who do the work."""
        chosen, quick = self.options.contenders, self.options.quick
        names = [name for name in of(work) if not chosen or name in chosen]
        names = [name for name in names if not self.options.bars or f"{work.name} {name}" in needed()]
        return [name for name in names if not quick or work.name in (CONTENDERS[name].quick or (work.name,))]

    def worker(self, work: Workload, name: str) -> list[pyperf.Benchmark]:
        """Run a contender once, in a process of its own unless all that it does is already done.

        Raises:
            SkipError: It cannot do the work.
            FailedError: It ended with an error.
        """
        few = self.options.quick or work.name == "wide" or work.kind == "fit"
        values = 1 if few else 2 if self.options.bars else 3
        arguments = ["--values", str(values), *rows_of(work, CONTENDERS[name])]
        found = self.shared.get(name, {}).get(work.name) or self.process(name, [work], *arguments)[work.name]
        if isinstance(found, list):
            return found
        raise found

    def process(self, name: str, works: list[Workload], *arguments: str) -> dict[str, Outcome]:
        """Run benchmarks.worker, and return what came of each workload."""
        command = [sys.executable, "-m", "benchmarks.worker", name, *(work.name for work in works), *arguments]
        command += ["--quick"] if self.options.quick else []
        command += ["--file", works[0].file] if works[0].file else []
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True, check=False)
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        found: dict[str, Outcome] = {work.name: FailedError(last) for work in works}
        for line in done.stdout.splitlines():
            if line.startswith('{"workload":'):
                told = json.loads(line)
                found[told["workload"]] = (
                    [pyperf.Benchmark.loads(text) for text in told["benchmarks"]]
                    if "benchmarks" in told
                    else SkipError(told["skipped"])
                    if "skipped" in told
                    else FailedError(told["failed"])
                )
        return found

    def cold(self, name: str, run: Callable[[dict[str, str]], float]) -> list[pyperf.Benchmark]:
        """Time a whole process."""
        about = {"name": f"cold {name}", "workload": "cold", "contender": name, "what": WORKLOADS["cold"].what}
        about |= {"unit": "second", "includes": cold.INCLUDES[name]}
        return [pyperf.Benchmark([pyperf.Run([run(self.env)], metadata=about, collect_metadata=False)])]

    def compare_losses(self, work: Workload) -> None:
        """Refuse a contender whose final loss is not that of plain NumPy after the same rows; of layers, of ours."""
        expected: dict[int, float] = {}
        references = {"many": "framework-compiled", **dict.fromkeys(("fit", "layers", "passes"), "framework")}
        reference = references.get(work.kind, "numpy")
        for name in (reference, *CONTENDERS):
            bench = self.results.get(f"{work.name} {name}")
            facts = report.about(bench) if bench else {}
            if "loss" not in facts:
                continue
            rows, loss = facts["rows"], facts["loss"]
            if name == reference:
                expected[rows] = loss
            if rows not in expected:  # not measured
                measured = self.process(reference, [work], "--values", "1", "--rows", str(rows))[work.name]
                if not isinstance(measured, list):
                    raise measured
                expected[rows] = report.about(measured[0])["loss"]
            if abs(loss - expected[rows]) > TOLERANCE[work.dtype] * expected[rows]:
                self.troubles.append(
                    f"{work.name} {name}: the final loss is {loss}, that of {reference} {expected[rows]}"
                )


def attempt(measure: Measure) -> Outcome:
    """Return the benchmark, or what came instead."""
    try:
        return measure()
    except (SkipError, FailedError) as error:
        return error


def rows_of(work: Workload, contender: Contender) -> list[str]:
    """Return the argument for a contender to whom few rows are enough, because its steps are slow."""
    if work.batch == 1 and work.kind == "neuron" and contender.few_rows and contender.few_rows < work.rows:
        return ["--rows", str(contender.few_rows)]
    return []


def environment(threads: int, folder: Path, *, quick: bool) -> dict[str, str]:
    """Return the environment of every process: the same threads, no slowing settings, caches in ``folder``."""
    if found := [name for name in SLOWING if name in os.environ]:
        print(f"removed from the processes' environment, because they slow them down: {', '.join(found)}")
    env = {name: value for name, value in os.environ.items() if name not in SLOWING}
    env |= dict.fromkeys(THREADS, str(threads))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores and not quick:
        if threads > len(cores):
            sys.exit(f"--threads {threads}: there are {len(cores)} cores")
        os.sched_setaffinity(0, cores[-threads:])  # the processes inherit it
    caches = {"FRAMEWORK_CACHE_DIR": "framework", "TORCHINDUCTOR_CACHE_DIR": "torch", "XDG_CACHE_HOME": "xdg"}
    return env | {name: str(folder / part) for name, part in caches.items()}


def versions() -> str:
    """Return what is installed."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def chosen_groups(names: list[str], *, quick: bool) -> list[list[Workload]]:
    """Return the workloads in groups that are measured together: growth as a whole, each other alone."""
    chosen = [part for name in names for part in GROUPS.get(name, [name])] or list(WORKLOADS)
    works = [work.quick() if quick else work for name, work in WORKLOADS.items() if name in chosen]
    growth = [work for work in works if work.name.startswith("growth")]
    return [[work] for work in works if work not in growth] + ([growth] if growth else [])


def main() -> None:
    """Measure what the arguments say, print the tables, and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join([*WORKLOADS, *GROUPS])} (default: all)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="only these (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="threads and cores of every process (default: 1)")
    parser.add_argument("--bars", action="store_true", help="only what the bars compare: the figures of the page")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: to see that all works")
    parser.add_argument("--json", type=Path, help="write the figures to this file, in pyperf's form")
    parser.add_argument("--chart", type=Path, help="draw them into this PNG; needs matplotlib")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS) - set(GROUPS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are: {', '.join([*WORKLOADS, *GROUPS])}")
    if options.quick:
        options.repeats = 1
        print("quick: tiny sizes, whatever is written below, and processes at the same time: the figures say nothing")
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        bench = Bench(options, Path(folder), environment(options.threads, Path(folder), quick=options.quick))
        groups = chosen_groups(options.workloads, quick=options.quick)
        if options.quick:
            bench.share([work for works in groups for work in works])
        for works in groups:
            for i, work in enumerate(works):
                print(f"{work.name}: {work.what}", flush=True)
                if work.kind == "memory":
                    works[i] = replace(work, file=str(Path(folder) / "rows"))
                    memory.write(works[i])
            bench.measure(works)
            for text in report.tables(bench.results, [work.name for work in works]):
                print(text, flush=True)
    finish(bench)


def finish(bench: Bench) -> None:
    """Write what was asked for, and end with 1 where something was wrong."""
    options = bench.options
    if bench.results:
        suite = pyperf.BenchmarkSuite(list(bench.results.values()))
        for result in suite:
            result.update_metadata({"versions": versions(), "threads": options.threads})
        print(report.machine(suite))
        if not options.quick:
            print("\n".join(report.bars(bench.results)))
        if options.json:
            suite.dump(str(options.json), compact=False, replace=True)
        if options.chart:
            report.chart(suite, options.chart)
    if bench.troubles:
        sys.exit("\n".join(["what went wrong:", *bench.troubles]))


if __name__ == "__main__":
    main()
