"""Workers of which number 1 fails in step 20: python failing.py FOLDER KIND."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from framework.parallel.workers import workers

SHARDS, STEPS, TIMEOUT = 8, 40, 3.0


def fail(kind, folder):
    """Fail in one of the ways."""
    if kind == "raise":
        raise ValueError("of step 20")
    if kind.startswith("exit"):
        sys.exit(int(kind[5]))
    elif kind == "sleep":
        time.sleep(1000)
    elif kind != "kill once" or not (folder / "killed").exists():
        (folder / "killed").touch()
        number = {"stop": signal.SIGSTOP, "term": signal.SIGTERM}.get(kind, signal.SIGKILL)
        os.kill(os.getpid(), number)


def train(group, kind, folder):
    tree = group.tree(SHARDS, 1000, np.float32, tail=2)
    for step in range(STEPS):
        for i in group.leaves(SHARDS):
            leaf = tree.leaf(i)
            leaf.vector[:], leaf.tail[:] = i + step, 1.0
        tree.total()
        if step == 20 and kind == "raise on all":
            raise ValueError
        if step == 20 and group.rank == 1:
            if kind == "leave":
                return
            fail(kind, folder)


def main(folder, kind):
    (folder / "pids").mkdir(parents=True, exist_ok=True)
    (folder / "pids" / str(os.getpid())).touch()
    if kind == "before" and os.environ["PMI_RANK"] == "1":
        return
    group = workers(TIMEOUT)
    try:
        with group.guard(TIMEOUT):
            train(group, kind, folder)
    except ValueError:
        if kind != "raise on all":
            raise
        with group.guard(TIMEOUT):  # all go on together
            group.gather(0)
        os.write(1, b"caught\n")
    os.write(1, b"ended\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
