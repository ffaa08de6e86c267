"""From which size on products of matrices pay for several threads of BLAS.

    python benchmarks/threads.py

Each product is timed with one thread and with all, in turn, so that whatever else the machine does meets both. A figure
is the median of the seconds, and of the processor seconds. ``framework.backends.arithmetic.LARGE`` comes from this
table: below it, fits and predictions use one thread.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from framework.backends.arithmetic import LARGE, _threads

PRODUCTS = ((256, 64, 10), (256, 64, 64), (256, 128, 128), (256, 256, 256), (256, 512, 512), (256, 1024, 1024))
TURNS = 9


def main() -> None:
    """Print the table."""
    functions = _threads()
    if functions is None:
        raise SystemExit("this NumPy has no OpenBLAS whose number of threads can be set")
    setter, getter = functions
    every, rng = getter(), np.random.default_rng(0)
    print(f"{every} threads on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; LARGE is {LARGE:,}\n")
    print("| product | multiply-adds | ms, 1 thread | ms, all | ratio | of processor time |\n|---|---|---|---|---|---|")
    for rows, inner, columns in PRODUCTS:
        a, b = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
        work = rows * inner * columns
        repeats = max(1, 10_000_000 // work)
        times: dict[int, list[tuple[float, float]]] = {1: [], every: []}
        for _ in range(TURNS):
            for threads, found in times.items():
                setter(threads)
                begun = time.perf_counter(), time.process_time()
                for _ in range(repeats):
                    a @ b
                found.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        setter(every)
        one, all_ = ([statistics.median(part) / repeats for part in zip(*times[n], strict=True)] for n in (1, every))
        print(
            f"| {rows} × {inner} × {columns} | {work:,} | {1e3 * one[0]:.3g} | {1e3 * all_[0]:.3g} "
            f"| {all_[0] / one[0]:.2f} | {all_[1] / one[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
