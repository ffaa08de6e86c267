"""How many rows each of two workers reads, and how long this and an epoch take, against one worker.

    python -m benchmarks.reading [--quick] [--rounds 3]

``parquet`` trains on 1,000,000 rows of 20 columns, in row groups of 65,536 rows. ``items`` trains on 20,000 objects,
each of which takes about 0.1 ms to make. The contenders run in turn, in processes of their own, with one thread for
each worker. Reading is processor time, of the worker that needs most; an epoch is wall time, which depends on what else
the machine does. A time is that of the shortest epoch; the figure is the least of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = {"parquet": (128, 512, 2048), "items": (128,)}


def written(folder: str, rows: int) -> Path:
    """Write a Parquet file of random numbers."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    path = Path(folder) / "numbers.parquet"
    rng = np.random.default_rng(0)
    columns = {f"x{place}": rng.standard_normal(rows) for place in range(20)}
    pq.write_table(pa.table(columns | {"y": columns["x0"]}), path, row_group_size=65_536)
    return path


class Items:
    """Rows that are decompressed one by one."""

    def __init__(self, count: int) -> None:
        self.bytes = zlib.compress(np.random.default_rng(0).integers(0, 9, 20_000).astype(np.uint8).tobytes())
        self.count = count
        self.made = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Any, float]:
        self.made += 1
        return np.frombuffer(zlib.decompress(self.bytes), np.uint8, 20, row % 19_000) + 1.0, row / self.count


def measure(work: str, batch: int, path: str, rows: int) -> None:
    """Train, and print the seconds of an epoch and of its reading, and the rows that it reads."""
    from framework import (  # noqa: PLC0415
        Dense,
        MeanSquaredError,
        Parquet,
        SGDOptimizer,
        Trainer,
        on,
    )
    from framework.data import sources  # noqa: PLC0415
    from framework.data.parquet import _ParquetRows  # noqa: PLC0415
    from framework.training import DataParallel  # noqa: PLC0415

    count, reading, fill = [0], [0.0], sources.filled

    def timed(*arguments: Any) -> Any:
        begun = time.thread_time()
        found = fill(*arguments)
        reading[0] += time.thread_time() - begun
        return found

    sources.filled = timed  # type: ignore[assignment]
    decode = _ParquetRows._next

    def counted(self: Any, most: int) -> Any:
        found = decode(self, most)
        count[0] += found.num_rows
        return found

    _ParquetRows._next = counted  # type: ignore[method-assign]
    items = Items(rows)
    data: Any = Parquet(path, target="y") if work == "parquet" else items
    read: list[tuple[float, int]] = []
    look = on("train_begin")(lambda _: read.append((reading[0], count[0] + items.made)))
    after = on("epoch_end")(lambda _: read.append((reading[0], count[0] + items.made)))
    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=1e-6),
        epochs=3,
        batch_size=batch,
        callbacks=[look, after],
        strategy=DataParallel(shards=2),
    )
    run = trainer.fit(Dense(20, 1, dtype="float32"), data)
    times, rows_read = np.diff(read, axis=0).T
    sys.stdout.write(json.dumps([min(run.history.column("seconds")), times.min(), int(rows_read.max())]) + "\n")


def launched(workers: int, *arguments: str) -> tuple[float, float, list[int]]:
    """Return the seconds of an epoch and of its reading, and the rows that each worker reads in it."""
    command = [sys.executable, "-m", "benchmarks.reading", "--measure", *arguments]
    if workers > 1:
        command = [str(Path(sys.executable).parent / "mpiexec"), "-n", str(workers), *command]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | threads)
    epochs, readings, rows = zip(*map(json.loads, done.stdout.splitlines()), strict=True)
    return max(epochs), max(readings), sorted(rows)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=4)
    options = parser.parse_args()
    if options.measure:
        work, batch, path, count = options.measure
        measure(work, int(batch), path, int(count))
        return
    rows = {"parquet": 10_000, "items": 500} if options.quick else {"parquet": 1_000_000, "items": 20_000}
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, rows["parquet"])
        for work, batch in ((work, batch) for work, batches in BATCHES.items() for batch in batches):
            arguments = work, str(batch), str(path), str(rows[work])
            rounds = [[launched(workers, *arguments) for workers in (1, 2)] for _ in range(options.rounds)]
            for name, place in (("one worker ", 0), ("two workers", 1)):
                epoch, reading = (min(each[place][kind] for each in rounds) for kind in (0, 1))
                counts = " and ".join(f"{count:,}" for count in rounds[0][place][2])
                what = f"{work}, batches of {batch}: {name}"
                sys.stdout.write(f"{what}: {counts} rows, reading {reading:.2f} s, epoch {epoch:.2f} s\n")


if __name__ == "__main__":
    main()
