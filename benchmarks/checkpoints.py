"""The time of saving and loading a run of 100 MB, against torch and plain safetensors with the same arrays, in one run.

    python benchmarks/checkpoints.py [folder]

Every row is the median of 9 rounds in which all of them take turns. What they do differs: torch and safetensors leave
the bytes in the system's memory, and a crash of the machine loses them. ``save`` makes a checksum and waits for the
disk (fsync). On a disk that really waits, fsync is most of that time: so there are rows with it and without it. All
loads find the file in the system's memory; those of the framework verify it. The row with SHA-256 shows what a checksum
alone costs.
"""

import hashlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from framework import Dense, HalfSquaredError, SGDOptimizer, Trainer, load, load_model, save
from framework.training.checkpoint.document import take_apart

UNITS, ROUNDS = 2500, 9  # 2500 x 2500 weights of float64 and their velocity are 100 MB


def synced(path: Path) -> None:
    """Wait until the file is on disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def unsynced(function):
    """Return a function that calls this one with an fsync that does nothing."""

    def call() -> None:
        fsync, os.fsync = os.fsync, lambda _: None
        try:
            function()
        finally:
            os.fsync = fsync

    return call


def main() -> None:
    """Save and load in turn, and print a table."""
    x = np.zeros((1, UNITS))
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9))
    run = trainer.fit(Dense(UNITS, UNITS), (x, x))
    arrays = {name: np.array(array) for name, array in take_apart(run)[0].items()}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        ours, theirs, plain = (Path(folder) / name for name in ("ours", "torch", "safetensors"))
        work = {
            "framework save": lambda: save(run, ours),
            "framework save, no fsync": unsynced(lambda: save(run, ours)),
            "torch.save": lambda: torch.save(tensors, theirs),
            "torch.save, fsync": lambda: (torch.save(tensors, theirs), synced(theirs)),
            "safetensors save_file": lambda: save_file(arrays, plain),
            "safetensors save_file, fsync": lambda: (save_file(arrays, plain), synced(plain)),
            "SHA-256 of the bytes": lambda: hashlib.sha256(ours.read_bytes()),
            "framework load": lambda: load(ours),
            "framework load_model": lambda: load_model(ours),
            "torch.load": lambda: torch.load(theirs, weights_only=True),
            "safetensors load_file": lambda: load_file(plain),
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(ROUNDS):
            for name, do in work.items():
                start = time.perf_counter()
                do()
                seconds[name].append(time.perf_counter() - start)
                os.sync()  # what one has left to be written does not count for the next
        print(f"{ours.stat().st_size / 1e6:.0f} MB, float64, medians of {ROUNDS} rounds")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        spread = f"[{min(seconds[name]):.3f} .. {max(seconds[name]):.3f}]"
        against = median["torch.load" if "load" in name else "torch.save"]
        print(f"{name:<30}{1e3 * value:>8.0f} ms  {value / against:>6.2f} x torch  {spread}")


if __name__ == "__main__":
    main()
