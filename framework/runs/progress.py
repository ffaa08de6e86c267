"""Progress: what a checkpoint saves of a run as it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, NonNegativeInt

Listed = Field(strict=False)
"""Marks a tuple that is a list in JSON; its elements stay strict."""


@dataclass(eq=False)
class Progress:
    """Everything of a run that a checkpoint saves as it is; the run adds model, optimizer, history and memories.

    Attributes:
        seed: The seed of every random number in the run.
        engine: ``"numpy"``, ``"compiled"``, ``"jax"`` or ``"many"``, that of ``fit_many``; chosen once, and kept by
            ``resume``.
        epoch: Epochs finished.
        step: Updates made.
        batch: Batches finished in the current epoch.
        batch_loss: The loss of the last batch, or None before the first. ``loss`` is that of the last epoch.
        target_epoch: The epoch at which this ``fit`` or ``resume`` ends.
        layout: (rows, rows in a batch, whether they are shuffled) of this training; 0 rows while they are not known, in
            the first epoch of a stream.
        recipe: What the training is made of, as text by name: settings, data, versions. A resume compares it.
        stop_reason: Why training stopped early, or None.
        ended: Whether a stop has taken effect, so that ``resume`` clears it; False in what a hook saves, where a stop
            is still pending.
        identity: Random text that identifies this run.
        epoch_begun: Whether ``on_epoch_begin`` has been called for the current epoch.
        sums: The sums of loss and metrics over the current epoch.
        seconds: The time spent on the current epoch.
        read: Of a stream, how many windows of the current epoch have been read, and a digest of their rows.
    """

    seed: NonNegativeInt
    engine: str = "numpy"
    epoch: NonNegativeInt = 0
    step: NonNegativeInt = 0
    batch: NonNegativeInt = 0
    batch_loss: float | None = None
    target_epoch: NonNegativeInt = 0
    layout: Annotated[tuple[NonNegativeInt, NonNegativeInt, bool], Listed] = (0, 0, False)
    recipe: dict[str, str] = field(default_factory=dict)
    stop_reason: str | None = None
    ended: bool = False
    identity: str = field(default_factory=lambda: os.urandom(8).hex())
    epoch_begun: bool = False
    sums: dict[str, Annotated[tuple[float, ...], Listed]] = field(default_factory=dict)
    seconds: float = 0.0
    read: Annotated[tuple[NonNegativeInt, str], Listed] = (0, "")

    @property
    def batches(self) -> int:
        """Batches in an epoch; 0 while they are not known."""
        rows, size, _ = self.layout
        return -(-rows // max(1, size))
