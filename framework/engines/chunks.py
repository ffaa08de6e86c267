"""Chunks: engines that compile make many steps at a time; signals, stops and callbacks are handled between chunks."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

from framework.arrays import Array, Sums
from framework.data.pieces import Piece
from framework.engines.base import Engine
from framework.losses.several import Figure
from framework.runs.figures import add_sums
from framework.trees import rows_in

CHUNK_SECONDS = 0.05
"""How long a chunk lasts, in seconds: Ctrl-C, a stop and a progress bar wait no longer."""

GROWTH = 32.0
"""How many times longer than the one before a chunk may be: the first, of one batch, says little about speed."""

COPIES = 20
"""A chunk lasts at least this many times as long as what comes before and after it."""


@dataclass
class Chunk:
    """Steps that are computed and not counted yet.

    Attributes:
        batches: How many batches are done, with those whose weights are all 0, of which no step is made.
        steps: How many steps are made.
        sums: The sums of the epoch's figures after them.
        loss: The loss of the last batch.
        seconds: How long the compiled function has worked.
    """

    batches: int
    steps: int
    sums: Sums
    loss: float
    seconds: float


class Pace:
    """How many steps a chunk has, so that it lasts as long as it is to.

    Attributes:
        length: The number of steps, at least 1 of which is made.
    """

    length = 1.0

    def note(self, steps: int, seconds: float, others: float = 0.0) -> None:
        """Note a chunk: its steps, how long they have taken, and how long what comes before and after them."""
        wanted = max(CHUNK_SECONDS, COPIES * others)
        self.length = min(wanted * steps / max(seconds, 1e-9), GROWTH * steps)


class ChunkEngine(Engine):
    """The base of engines that compile: they make steps in chunks, and NumPy makes a step that they cannot make."""

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self._pace = Pace()

    @abstractmethod
    def longest(self, piece: Piece) -> float:
        """Return how many steps of a piece the next chunk may have; 0 where NumPy makes the next step."""

    @abstractmethod
    def launch(self, piece: Piece, rates: Array) -> Chunk | None:
        """Compute a step for each rate, up to the first one that is not finite; return None if there is no step."""

    def undo(self) -> bool:
        """Put back what ``launch`` has changed; return False where it is not kept."""
        return True

    def commit(self) -> None:
        """Put the results of ``launch`` into the model and the optimizer, if they are not there yet."""

    @property
    def metrics(self) -> tuple[Figure, ...]:
        """The metrics that NumPy computes from the outputs."""
        return self.figures.of_metrics

    @abstractmethod
    def outputs(self, number: int, piece: Piece, rows: int) -> tuple[Any, Any]:
        """Return (h, a) of a batch of the last chunk, given its number there and how many rows it has."""

    def advance(self, piece: Piece) -> None:
        """Make a chunk of steps; NumPy makes a step that is not finite, or whose metrics raise an error."""
        longest = self.longest(piece)
        if not longest or not self._advance(piece, longest):
            super().advance(piece)

    def _advance(self, piece: Piece, longest: float) -> bool:
        """Make a chunk of steps, and return whether there were any."""
        run, optimizer, size = self.run, self.run.optimizer, piece.size
        begun = time.perf_counter()
        longest = 1 if self.watched else max(1, int(min(self._pace.length, longest)))
        rates = self.rates(min(longest, math.ceil((piece.count - piece.place) / size)))
        optimizer.begin()  # it stays inconsistent if steps are made and not counted
        chunk = None
        try:
            chunk = self.launch(piece, rates) if len(rates) else None
            metrics = self._metric_sums(piece, chunk) if chunk is not None and self.metrics else ()
        except BaseException as error:
            # A second Ctrl-C acts as soon as the function returns: its steps are undone, or made and not counted.
            failed, undone = isinstance(error, Exception), self.undo()
            optimizer.updating = not (undone or failed)
            self._pace.length = 1.0
            if chunk is not None and failed:  # a metric: NumPy makes the steps, and raises its error in the right one
                return False
            raise
        if chunk is None:
            optimizer.updating = False
            return False
        self.commit()
        if chunk.steps:
            run.sums |= chunk.sums
            run.batch_loss = chunk.loss
        for sums in metrics:
            add_sums(run.sums, sums)
        run.batch += chunk.batches
        run.step += chunk.steps
        piece.place += chunk.batches * size
        optimizer.count(chunk.steps, float(rates[chunk.steps - 1]) if chunk.steps else optimizer.last_rate)
        self._pace.note(chunk.batches, chunk.seconds, time.perf_counter() - begun - chunk.seconds)
        if chunk.steps and (self.watched or piece.done):
            run.current = partial(piece.part, piece.place - size, piece.place)
        if chunk.steps and self.watched:
            self.call("on_batch_end")
        return True

    def _metric_sums(self, piece: Piece, chunk: Chunk) -> list[Sums]:
        """Return the metrics' sums of each batch of a chunk; they are added up one by one, as the NumPy engine does."""
        sums: list[Sums] = []
        for number in range(chunk.batches):
            start = piece.place + number * piece.size
            _, y, weight = piece.part(start, start + piece.size)
            if weight is None or weight.any():
                h, a = self.outputs(number, piece, rows_in(y))
                sums.append(self.figures.metric_sums(self.run.model, h, a, y, weight, self.metrics))
        return sums
