"""Train one model on all workers, from the newest checkpoint where there is one: python train.py [EPOCHS].

framework launch -n 4 --restarts 3 train.py
"""

import sys

from framework import (
    AdamOptimizer,
    Checkpoint,
    CrossEntropy,
    Dense,
    Dropout,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    latest,
)
from framework.data import load_digits
from framework.training import DataParallel, JSONLog


def main(epochs: int) -> None:
    """Start or resume."""
    x, y = load_digits()
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(learning_rate=0.003),
        epochs=epochs,
        callbacks=[Checkpoint("checkpoints", every=20), JSONLog("history.jsonl")],
        strategy=DataParallel(shards=8, timeout=300),
    )
    newest = latest("checkpoints")
    if newest is None:
        model = Sequential(Dense(64, 64, ReLU()), Dropout(0.2), Dense(64, 10, Softmax()))
        trainer.fit(model, (x / 16, y))
    else:
        trainer.resume(newest, (x / 16, y))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
