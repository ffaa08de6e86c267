"""A training that saves and resumes: python restarting.py FOLDER [STEP], where worker 1 is killed once in a step."""

import os
import signal
import sys
from pathlib import Path

from parallel_pieces import CLASSES, VALIDATION, X, digest, network, trainer

from framework import Accuracy, AdamOptimizer, Checkpoint, EarlyStopping, latest, on
from framework.training.parallel.mpi import workers

SCRIPT = Path(__file__)


def main(folder, step=None):
    rank = workers().rank

    @on("batch_end")
    def die(run):
        if run.step == step and rank == 1 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    callbacks = [EarlyStopping(patience=3), Checkpoint(folder=folder / "checkpoints", every=3), die]
    settings = {"metrics": [Accuracy()], "epochs": 4, "callbacks": callbacks}
    saving = trainer(AdamOptimizer(learning_rate=0.01), **settings)
    newest = latest(folder / "checkpoints")
    if newest is None:
        run = saving.fit(network(), (X, CLASSES), VALIDATION)
    else:
        run = saving.resume(newest, (X, CLASSES), VALIDATION)
    os.write(1, f"{digest(run)}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
