"""Several processes that work on one sweep, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from framework.experiments.sweep import Sweep

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

WAIT = 0.1
"""Seconds between two looks at the processes."""


def work_together(sweep: Sweep, workers: int, imports: Sequence[str]) -> bool:
    """Train the runs of a sweep in processes with one BLAS thread each; one that was killed is started again.

    Args:
        sweep: The sweep.
        workers: How many processes.
        imports: Modules that each imports first.

    Returns:
        Whether all of them ended well.
    """
    command = [sys.executable, "-m", "framework", "sweep", str(sweep.path), "--json"]
    command += [part for module in imports for part in ("--import", module)]
    environment = os.environ | dict.fromkeys(THREADS, "1")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    started = min(workers, len(sweep.trials))
    processes, well, limit = [start() for _ in range(started)], True, started + 5 * len(sweep.trials)
    try:
        while processes:
            for process in [each for each in processes if each.poll() is not None]:
                processes.remove(process)
                killed = process.returncode < 0 or process.returncode > 128  # by a signal
                if killed and started < limit:
                    processes.append(start())
                    started += 1
                else:
                    well = well and process.returncode == 0
            time.sleep(WAIT)
    finally:
        for process in processes:
            process.terminate()  # training stops after the current batch
        for process in processes:
            process.wait()
    return well
