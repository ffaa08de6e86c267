"""Judge what ``framework new`` proposes for tables that nobody prepared.

    python -m benchmarks.proposals FOLDER [--share 0.2] [--seed 0]

Each line of FOLDER/targets.csv names a table in FOLDER and its target, such as ``penguins.csv,species``. A share of the
rows is held out at random. The commands ``new``, ``train``, ``evaluate`` and ``predict`` run on the others with no flag
but the target, each in a process of its own with one BLAS thread. The figures are those that ``evaluate`` prints for
the held-out rows. The processor seconds are those of all four commands.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np


def split_rows(path: Path, target: str, folder: Path, share: float, seed: int) -> int:
    """Write ``table.csv`` and ``held.csv``, the rows in their order, and return how many there are in all."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names, *rows = csv.reader(file)
    held = np.random.default_rng(seed).random(len(rows)) < share
    firsts = {row[names.index(target)]: index for index, row in reversed([*enumerate(rows)])}
    if len(firsts) < len(rows) / 2:  # classes: no row of an unknown one is held out
        held[[*firsts.values()]] = False
    for name, wanted in (("table.csv", False), ("held.csv", True)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *(row for row, out in zip(rows, held, strict=True) if out == wanted)])
    return len(rows)


def run_commands(folder: Path, target: str) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run the four commands up to the first that fails."""
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    for arguments in (
        ["new", "table.csv", "--target", target],
        ["train", "table.toml", "--out", "run"],
        ["evaluate", "run", "--data", "held.csv"],
        ["predict", "run", "held.csv", "--out", "predictions.csv"],
    ):
        command = [sys.executable, "-m", "framework", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        yield arguments[0], done
        if done.returncode:
            return


def processor_seconds() -> float:
    """Return the processor seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def judge(path: Path, target: str, share: float, seed: int) -> tuple[int, float, str]:
    """Return a table's number of rows, the processor seconds, and its figures or the error."""
    with tempfile.TemporaryDirectory() as folder:
        rows, before, text = split_rows(path, target, Path(folder), share, seed), processor_seconds(), ""
        for name, done in run_commands(Path(folder), target):
            if done.returncode:
                text = f"{name} FAILED ({done.returncode}): {done.stderr.strip().splitlines()[-1]}"
            elif name == "evaluate":
                text = "; ".join(" ".join(line.split()) for line in done.stdout.splitlines())
        return rows, processor_seconds() - before, text


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each table; return 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with (options.folder / "targets.csv").open(encoding="utf-8", newline="") as file:
        tables = [line for line in csv.reader(file) if line]
    failed = 0
    for name, target in tables:
        rows, seconds, text = judge(options.folder / name, target, options.share, options.seed)
        failed += "FAILED" in text
        print(f"{name:24} {rows:8,} rows {seconds:7.1f} s  {text}", flush=True)
    print(f"{len(tables) - failed} of {len(tables)} tables")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
