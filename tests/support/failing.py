"""Workers of which number 1 fails in step 20: python failing.py FOLDER KIND."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer, on
from framework.training import DataParallel
from framework.training.parallel.mpi import workers

SCRIPT = Path(__file__)
CAUSES = {
    "raise": "ValueError: of step 20",
    "exit(0)": "SystemExit: 0",
    "exit(3)": "SystemExit: 3",
    "sleep": "time.sleep(1000)",
    "stop": "worker 1 gives no answer",
    "kill": "EXIT CODE: 9",
    "term": "143",
    "leave": "worker 1 has left while others train",
}
"""The ways to fail, and the cause that is printed."""


def alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return sys.platform != "linux" and _known(pid)


def _known(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def left_behind(folder):
    """The workers that still run, after some time to end, and the files in memory that they have left."""
    pids = [int(path.name) for path in (folder / "pids").iterdir()]
    for _ in range(100):
        if not any(map(alive, pids)):
            break
        time.sleep(0.1)
    maps = "".join(path.read_text() for path in folder.glob("maps*"))
    return [*filter(alive, pids), *filter(os.path.exists, set(re.findall(r"/dev/shm/\S+", maps)))]


def fail(kind, folder):
    """Fail in one of the ways."""
    if kind == "raise":
        raise ValueError("of step 20")
    if kind.startswith("exit"):
        sys.exit(int(kind[5]))
    elif kind == "sleep":
        time.sleep(1000)
    elif kind == "orphan":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    elif kind.startswith("run "):
        subprocess.run(kind.split()[1:], check=True)
    elif kind != "kill once" or not (folder / "killed").exists():
        (folder / "killed").touch()
        number = {"stop": signal.SIGSTOP, "term": signal.SIGTERM}.get(kind, signal.SIGKILL)
        os.kill(os.getpid(), number)


def mpi_rank():
    """The number of this worker, before it trains."""
    from mpi4py import MPI  # here, because tests that import this file may run without mpi4py

    return MPI.COMM_WORLD.rank


def train(kind, folder):
    waits = kind in {"sleep", "stop", "before"} or kind.startswith("run ")
    timeout = 3.0 if waits else 30.0  # the other jobs end without it, on a busy machine too
    rank = workers(timeout).rank

    @on("batch_end")
    def act(run):
        if run.step == 10 and sys.platform == "linux":
            (folder / f"maps{rank}").write_bytes(Path("/proc/self/maps").read_bytes())
        if run.step == 20 and kind == "raise on all":
            raise ValueError
        if run.step == 20 and rank == 1 and kind not in {"nothing", "leave", "raise later"}:
            fail(kind, folder)

    strategy = DataParallel(timeout=timeout)
    optimizer = SGDOptimizer(learning_rate=0.1)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=optimizer, epochs=4, callbacks=[act], strategy=strategy)
    trainer.fit(Neuron(2), (np.ones((320, 2)), np.ones(320)))


def main(folder, kind):
    (folder / "pids").mkdir(parents=True, exist_ok=True)
    (folder / "pids" / str(os.getpid())).touch()
    if kind == "before" and mpi_rank() == 1:
        return
    try:
        train(kind, folder)
    except ValueError:
        if kind != "raise on all":
            raise
        os.write(1, b"caught\n")
    if kind == "raise later" and workers().rank == 1:
        raise ValueError("after the training")
    if kind in {"raise on all", "raise later"} or (kind == "leave" and workers().rank != 1):
        train("nothing", folder)
    os.write(1, b"ended\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
