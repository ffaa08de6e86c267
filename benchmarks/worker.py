"""One contender in a process of its own: prints a line of JSON for each workload, with a pyperf benchmark.

    python -m benchmarks.worker jax-scan small --values 3

The first run is not timed with the others: it compiles what has to be compiled, and is reported as ``first_run``. Every
run begins with the same weights. Where a contender cannot do the work, the line says why. Only a quick run does several
workloads in one process, and imports each library once.
"""

import argparse
import io
import json
import timeit
import traceback
from dataclasses import replace
from typing import Any

import pyperf

from benchmarks.contenders import CONTENDERS, SkipError, Task
from benchmarks.workloads import WORKLOADS, Workload

STEPS = 1000
COLLECTED = ("cpu_count", "cpu_model_name", "date", "load_avg_1min", "mem_max_rss", "platform", "python_version")
"""Of what pyperf finds out: no names of machines, folders or users."""


def seconds_of(task: Task, work: Workload, *, first: bool = False) -> float:
    """Return the seconds of one run from the first weights."""
    task.begin()
    if work.kind == "step" and not first:
        return timeit.timeit(task.run, number=STEPS) / STEPS
    start = pyperf.perf_counter()
    task.run()
    return pyperf.perf_counter() - start


def measure(work: Workload, contender: str, values: int) -> tuple[list[float], dict[str, Any]]:
    """Return the seconds of a step, ``values`` times, and what belongs to them."""
    task = CONTENDERS[contender].task(work)
    first = seconds_of(task, work, first=True)
    about = {"first_run": first, "includes": task.includes}
    if work.kind == "step" and task.weights:  # of one step; what is timed goes on from there
        about["loss"] = work.loss(task.weights())
    measured = [seconds_of(task, work) / work.steps for _ in range(values)]
    if task.loss:
        about["loss"] = task.loss()
    elif work.kind != "step" and task.weights:
        about["loss"] = work.loss(task.weights())
    return measured, about | {"unit": "second"}


def measure_memory(work: Workload, contender: str) -> tuple[list[int], dict[str, Any]]:
    """Return the peak of the resident memory, and what belongs to it."""
    from benchmarks import memory  # noqa: PLC0415 (Unix only)

    peak, about = memory.measure(work, CONTENDERS[contender].task)
    return [peak], about | {"unit": "byte"}


def benchmark(work: Workload, contender: str, values: int) -> pyperf.Benchmark:
    """Measure one workload.

    Raises:
        SkipError: The contender cannot do it.
    """
    if work.kind == "memory":
        measured, about = measure_memory(work, contender)
    else:
        measured, about = measure(work, contender, values)
    about |= {"name": f"{work.name} {contender}", "workload": work.name, "contender": contender}
    about |= {"rows": work.rows, "what": work.what}
    collected = pyperf.Run(measured).get_metadata()
    about |= {name: collected[name] for name in COLLECTED if name in collected}
    return pyperf.Benchmark([pyperf.Run(measured, metadata=about, collect_metadata=False)])


def outcome(work: Workload, contender: str, values: int) -> dict[str, str]:
    """Return what came of a workload: "benchmark", "skipped" or "failed", with the text that belongs to it."""
    text = io.StringIO()
    try:
        benchmark(work, contender, values).dump(text)
    except SkipError as error:
        return {"skipped": str(error)}
    except Exception as error:  # noqa: BLE001 (the others go on)
        return {"failed": traceback.format_exception_only(error)[-1].strip()}
    return {"benchmark": text.getvalue()}


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--values", type=int, default=3, help="runs to time")
    parser.add_argument("--rows", type=int, help="how many rows, instead of the workload's")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--file", default="", help="the data of the workload memory")
    options = parser.parse_args()
    for name in options.workloads:
        work = WORKLOADS[name].quick() if options.quick else WORKLOADS[name]
        work = replace(work, rows=options.rows or work.rows, file=options.file)
        print(json.dumps({"workload": name} | outcome(work, options.contender, options.values)), flush=True)


if __name__ == "__main__":
    main()
