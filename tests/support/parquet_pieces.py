"""A training on a folder of Parquet files that is read ahead, and that a process of its own may be killed in."""

import os
import signal

from framework import (
    AdamOptimizer,
    Checkpoint,
    CrossEntropy,
    Dense,
    Parquet,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    latest,
    on,
)
from framework.data import blocks


def train(folder, **settings):
    """Train from the newest checkpoint, where there is one; windows have 256 rows, which hold parts of row groups."""
    blocks.BLOCK_ROWS, blocks.WINDOW_BLOCKS, blocks.WINDOW_NUMBERS = 64, 4, 3 * 256
    trainer = Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(), epochs=2, **settings)
    data, newest = Parquet(f"{folder}/table", "label"), latest(f"{folder}/run")
    if newest is not None:
        return trainer.resume(newest, data)
    return trainer.fit(Sequential(Dense(units=4, activation=ReLU()), Dense(units=3, activation=Softmax())), data)


def train_and_die(folder, step):
    """Train with a checkpoint after each third step, and kill this process after a step."""

    @on("batch_end")
    def die(run):
        if run.step == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, callbacks=[Checkpoint(folder=f"{folder}/run", every=3), die])
