"""Data in a file that is larger than the memory allowed, and the peak of a process that trains on it."""

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.contenders import SkipError, Task
from benchmarks.workloads import SEED, Workload

BLOCK_ROWS = 4096
ALLOWED = 200_000_000
"""Bytes of address space beyond what the process had before; the file is larger, in a quick run too."""


def write(work: Workload) -> None:
    """Write the file: rows of the inputs and the class, all of the workload's dtype."""
    rng = np.random.default_rng(SEED)
    with Path(work.file).open("wb") as file:
        for first in range(0, work.rows, BLOCK_ROWS):
            rows = rng.standard_normal((min(BLOCK_ROWS, work.rows - first), work.sizes[0] + 1), dtype=work.dtype)
            rows[:, -1] = rows[:, :2].argmax(axis=1)
            rows.tofile(file)


class FileRows:
    """The file as a Dataset; each block is mapped only while it is read."""

    def __init__(self, work: Workload) -> None:
        """Remember where the file is."""
        self.work = work

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.work.rows

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, y) of the rows start..stop."""
        dtype = np.dtype(self.work.dtype)
        columns = self.work.sizes[0] + 1
        offset = start * columns * dtype.itemsize
        rows = np.memmap(self.work.file, dtype, mode="r", offset=offset, shape=(stop - start, columns))
        return rows[:, :-1], rows[:, -1].astype(np.int64)


def blocks(work: Workload) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the file block by block."""
    rows = FileRows(work)
    for first in range(0, work.rows, BLOCK_ROWS):
        yield rows.read(first, min(first + BLOCK_ROWS, work.rows))


def peak() -> int:
    """Return the greatest resident memory of this process so far, in bytes (Linux)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(work: Workload, make) -> tuple[int, dict[str, int | float | str]]:
    """Train in an address space that is limited; return the peak in bytes, and what belongs to it.

    Args:
        work: The workload.
        make: Makes a task for a workload.
    """
    if not Path("/proc/self/statm").exists():
        raise SkipError("reads the size of the address space from /proc")
    warm: Task = make(replace(work, rows=2 * BLOCK_ROWS))
    warm.begin()
    warm.run()
    task: Task = make(work)
    task.begin()
    before, size = peak(), os.path.getsize(work.file)  # noqa: PTH202 (a path is a string here)
    address_space = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (address_space + ALLOWED, resource.RLIM_INFINITY))
    task.run()
    return peak(), {"peak_before": before, "file_bytes": size, "allowed_bytes": ALLOWED, "includes": task.includes}
