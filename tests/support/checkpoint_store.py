"""Store a checkpoint of today's format. Run it when the format's version rises, and keep the older files."""

from pathlib import Path

import numpy as np

from framework import (
    AdamOptimizer,
    BatchNorm,
    Dense,
    EarlyStopping,
    MeanSquaredError,
    ReLU,
    Run,
    Sequential,
    Trainer,
    save,
)
from framework.training.checkpoint.file import VERSION

X = np.linspace(-1.0, 1.0, 24).reshape(12, 2)
Y = X.sum(axis=1, keepdims=True) ** 2


def trainer() -> Trainer:
    """Return the trainer of the stored run."""
    return Trainer(
        loss=MeanSquaredError(),
        optimizer=AdamOptimizer(learning_rate=0.01),
        epochs=4,
        batch_size=4,
        callbacks=(EarlyStopping(patience=9),),
    )


def stored_run() -> Run:
    """Return the run that is stored: half of its four epochs."""
    model = Sequential(Dense(2, 3, ReLU()), BatchNorm(3), Dense(3, 1))
    return trainer().fit(model, (X, Y), (X, Y), epochs=2)


if __name__ == "__main__":
    save(
        stored_run(),
        Path(__file__).parents[1] / "training" / "checkpoint" / "versions" / f"version_{VERSION}.safetensors",
    )
