"""A Parquet table larger than the memory allowed: its rate and its memory, compared with the same numbers in memory.

    python -m benchmarks.large_tables --gigabytes 4 --folder /tmp/table

The file is made once and kept in the folder. Each measurement is a process of its own, and they take turns. Memory is
the anonymous part of the resident memory, above that after ``import framework``. The rate is that of an epoch with
shuffled rows, or of its first ``--seconds``. On a machine with other work, rows per second of processor time say more.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

COLUMNS = 128
GROUP = 65_536
BARS = {"anonymous MB": 300, "share of the rate in memory": 0.5}


def anonymous() -> int:
    """Return the anonymous part of the resident memory of this process, in bytes (Linux)."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("RssAnon:")[2].split()[0])


class Peak(threading.Thread):
    """Looks at the anonymous memory every 5 milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.highest = anonymous()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.005):
            self.highest = max(self.highest, anonymous())


def make(path: Path, gigabytes: float) -> None:
    """Write a table of random float32 numbers and a class that depends on the first two."""
    import numpy as np  # noqa: PLC0415 (the measurements begin without it)
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rng = np.random.default_rng(0)
    names = [f"x{n:03}" for n in range(COLUMNS)]
    schema = pa.schema([*((name, pa.float32()) for name in names), ("label", pa.int64())])
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, schema, use_dictionary=["label"]) as writer:
        while part.stat().st_size < gigabytes * 1e9:
            x = rng.standard_normal((COLUMNS, GROUP), dtype=np.float32)
            columns = [pa.array(column) for column in x] + [pa.array(x[:10].argmax(axis=0))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=GROUP)
    part.rename(path)


def measure(path: Path, source: str, units: int, seconds: float) -> dict[str, float]:
    """Train for one epoch in this process."""
    import framework  # noqa: PLC0415

    peak = Peak()
    peak.start()
    data = framework.Parquet(path, "label", read_ahead=source != "parquet, no thread")
    rows = len(data)
    if source == "memory":
        import numpy as np  # noqa: PLC0415

        x, y = np.empty((rows, COLUMNS), np.float32), np.empty(rows, np.int64)
        for start in range(0, rows, GROUP):
            table, label = data.read(start, start + GROUP)
            for place, column in enumerate(table.columns):
                x[start : start + GROUP, place] = column
            y[start : start + GROUP] = label
        data = (x, y)
    layers = framework.Dense(COLUMNS, units, framework.ReLU()), framework.Dense(units, 10, framework.Softmax())
    model = framework.Sequential(*layers, dtype="float32")
    trainer = framework.Trainer(
        loss=framework.CrossEntropy(), optimizer=framework.SGDOptimizer(learning_rate=0.1), batch_size=256
    )
    begun: list[float] = []
    ended: list[float] = []

    @framework.on("train_begin")
    def begin(_run: framework.Run) -> None:
        begun[:] = time.perf_counter(), time.process_time()

    @framework.on("batch_end", every=100)
    def end(run: framework.Run) -> None:
        ended[:] = time.perf_counter(), time.process_time(), 256 * run.step
        if ended[0] - begun[0] > seconds:
            run.stop("the time is up")

    run = trainer.replace(callbacks=[begin, end]).fit(model, data)
    peak.done.set()
    return {
        "rows": rows,
        "trained": ended[2],
        "rows per second": ended[2] / (ended[0] - begun[0]),
        "rows per second of processor time": ended[2] / (ended[1] - begun[1]),
        "anonymous MB": (peak.highest - peak.before) / 1e6,
        "loss": run.batch_loss or 0.0,
    }


def main() -> None:
    """Make the file, measure in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/framework-table"))
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.folder / f"{options.gigabytes:g}.parquet"
    if options.measure:
        print(json.dumps(measure(path, options.measure, options.units, options.seconds)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        make(path, options.gigabytes)
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB, {COLUMNS} columns, network {COLUMNS}-{options.units}-10")
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        for source in ("memory", "parquet", "parquet, no thread"):
            command = [sys.executable, "-m", "benchmarks.large_tables", "--measure", source, *sys.argv[1:]]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.setdefault(source, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(source, found[source][-1], flush=True)
    for key in ("rows per second", "rows per second of processor time"):
        rates = {source: statistics.median(each[key] for each in rows) for source, rows in found.items()}
        for source, rate in rates.items():
            print(f"{source:20} {rate:12,.0f} {key} {rate / rates['memory']:6.2f}")
    for source, rows in found.items():
        print(f"{source:20} {max(each['anonymous MB'] for each in rows):6.0f} MB")
    print("bars:", BARS)


if __name__ == "__main__":
    main()
