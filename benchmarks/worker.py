"""One contender in a process of its own: prints a line of JSON for each workload, with pyperf benchmarks.

    python -m benchmarks.worker jax-scan small --values 3

The first run is not timed with the others: it compiles what has to be compiled, and is reported as ``first_run``. Every
run begins with the same weights. Where a contender cannot do the work, the line says why. Only a quick run does several
workloads in one process, and imports each library once.
"""

import argparse
import io
import json
import statistics
import timeit
import traceback
from dataclasses import replace
from typing import Any

import pyperf

from benchmarks.contenders import CONTENDERS, SkipError, Task
from benchmarks.workloads import FURTHER, WORKLOADS, Workload

STEPS = 1000
MORE_EPOCHS = 20
COLLECTED = ("cpu_count", "cpu_model_name", "date", "load_avg_1min", "mem_max_rss", "platform", "python_version")
"""Of what pyperf finds out: no names of machines, folders or users."""


def seconds_of(task: Task, work: Workload, epochs: int = 1) -> float:
    """Return the seconds of some epochs, or of work without epochs, from the first weights."""
    task.begin()
    if work.warm:
        task.run(work.warm)
    start = pyperf.perf_counter()
    task.run(*((epochs, work.warm) if work.has_epochs else ()))
    return pyperf.perf_counter() - start


def measure(work: Workload, contender: str, values: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return the seconds of a step, ``values`` times, in the first epoch and in further ones; and facts about them."""
    task = CONTENDERS[contender].task(work)
    first = seconds_of(task, work)
    about = {"first_run": first, "includes": task.includes, "unit": "second"}
    if work.kind == "step":
        if task.weights:  # of one step; what is timed goes on from there
            about["loss"] = work.loss(task.weights())
        return {"": [timeit.timeit(task.run, number=STEPS) / STEPS for _ in range(values)]}, about
    seconds = [seconds_of(task, work) for _ in range(values)]
    if task.loss:
        about["loss"] = task.loss()
    elif task.weights:
        about["loss"] = work.loss(task.weights())
    measured = {"": [each / work.steps for each in seconds]}
    if work.has_epochs:
        once = statistics.median(seconds)
        more = max(1, min(MORE_EPOCHS, round(work.more / once)))
        further = [(seconds_of(task, work, 1 + more) - once) / more for _ in range(values)]
        least = once / 1000  # in tiny sizes the noise may be larger than an epoch
        measured[FURTHER] = [max(each, least) / work.steps for each in further]
    return measured, about


def measure_memory(work: Workload, contender: str) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Return the peak of the resident memory, and what belongs to it."""
    from benchmarks import memory  # noqa: PLC0415 (Unix only)

    peak, about = memory.measure(work, CONTENDERS[contender].task)
    return {"": [peak]}, about | {"unit": "byte"}


def benchmarks_of(work: Workload, contender: str, values: int) -> list[pyperf.Benchmark]:
    """Measure one workload.

    Raises:
        SkipError: The contender cannot do it.
    """
    measured, about = measure_memory(work, contender) if work.kind == "memory" else measure(work, contender, values)
    about |= {"workload": work.name, "contender": contender, "rows": work.rows, "what": work.what}
    collected = pyperf.Run([1.0]).get_metadata()
    about |= {name: collected[name] for name in COLLECTED if name in collected}
    return [
        pyperf.Benchmark(
            [pyperf.Run(found, metadata=about | {"name": f"{work.name}{end} {contender}"}, collect_metadata=False)]
        )
        for end, found in measured.items()
    ]


def outcome(work: Workload, contender: str, values: int) -> dict[str, Any]:
    """Return what came of a workload: "benchmarks", "skipped" or "failed", with the text that belongs to it."""
    texts = []
    try:
        for bench in benchmarks_of(work, contender, values):
            text = io.StringIO()
            bench.dump(text)
            texts.append(text.getvalue())
    except SkipError as error:
        return {"skipped": str(error)}
    except Exception as error:  # noqa: BLE001 (the others go on)
        return {"failed": traceback.format_exception_only(error)[-1].strip()}
    return {"benchmarks": texts}


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
