"""The loop of a training, which reads like the algorithm.

``Engine.advance`` makes a step: the gradients of a batch, then the update of the optimizer, with the hooks around them.
An engine that compiles makes a chunk of several steps in one call.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from framework.models import Model
from framework.training.runs.run import Run
from framework.training.training import Training

if TYPE_CHECKING:
    from framework.training.trainer import Trainer


def train(
    trainer: Trainer,
    model: Model,
    data: Any,
    validation: Any = None,
    epochs: int | None = None,
    run: Run | None = None,
    name: str | None = None,
    *,
    shown: bool = False,
) -> Run:
    """Train as ``Trainer.fit`` does, and give its name in messages, unless the caller has another.

    If the caller is ``shown``, it shows a bar, and says on an interruption how to resume.
    """
    name = name or ("fit" if run is None else "resume")
    kind = Training
    if trainer.strategy is not None:
        from framework.training.sharing import SharedTraining  # noqa: PLC0415 (one worker needs nothing of several)

        kind = SharedTraining
    with ExitStack() as surroundings:
        training = kind(trainer, surroundings, shown=shown)
        training.check(model, data, validation, epochs, run, name)
        engine = training.engine()
        with training:
            while training.begin_epoch():
                for piece in training.pieces():
                    engine.advance(piece)
                training.end_epoch()
    return training.run
