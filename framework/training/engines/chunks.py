"""Chunks: engines that compile make many steps at a time; signals, stops and callbacks are handled between chunks."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from framework.base.arrays import Array, Batch, Sums
from framework.base.trees import form_of, rows_in
from framework.data.pieces import Piece
from framework.formulas.losses.several import Figure
from framework.graph.walk import Draw
from framework.training.engines.base import Engine
from framework.training.engines.plan import Compiled, Plan, Planned, plan_training
from framework.training.engines.records import CannotLower
from framework.training.optimizers import Optimizer
from framework.training.runs.figures import add_sums

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
    """The base of engines that compile: they make steps in chunks, and NumPy makes a step that they cannot make.

    Attributes:
        derives: Whether gradients that a class writes by hand are derived too.
        planned: The plan for the last data, or None where there can be none.
    """

    derives: ClassVar[bool] = False

    planned: Planned | None

    def __init__(self, *settings: Any, **options: Any) -> None:
        """Prepare for a run."""
        super().__init__(*settings, **options)
        self._pace = Pace()
        self.planned = None
        self._recipe: Any = None
        self._form: Any = None
        self._batch: Batch | None = None  # the last one, of which every epoch may have the same
        self._version = -1
        self._reason = ""  # why NumPy computes what was refused last

    @abstractmethod
    def compile(self, plan: Plan) -> Compiled:
        """Return what the engine makes of a plan.

        Raises:
            CannotLower: An operation has no form in it; names it.
        """

    def plan_for(self, batch: Batch) -> Planned | None:
        """Return the plan for data of this form and the settings as they are now, or None where there can be none."""
        run, (x, y, weight) = self.run, batch
        recipe, version = run.optimizer.recipe, run.model.parameters.version
        if batch is self._batch and recipe is self._recipe and version == self._version:
            return self.planned
        self._batch, self._version = batch, version
        if recipe is not self._recipe:
            if self._recipe is None or self._settings(recipe) != self._settings(self._recipe):
                self._form = None
            self._recipe = recipe
        form = version, form_of(x), form_of(y), weight is None
        if form != self._form:
            self._form = form
            try:
                self.planned = self.make_plan(batch)
            except CannotLower as error:
                self.refuse(str(error))
        return self.planned

    def make_plan(self, batch: Batch) -> Planned:
        """Return the plan of the run; see ``plan_training``."""
        return plan_training(
            self.run,
            self.regularizers,
            self.figures,
            batch,
            self.compile,
            pause_flushing=self.pause_flushing,
            derives=self.derives,
        )

    @staticmethod
    def _settings(recipe: Optimizer) -> dict[str, Any]:
        return recipe.settings() | {"learning_rate": None}

    def refuse(self, reason: str) -> None:
        """Leave the steps to NumPy, and say why, once."""
        self.planned = None
        if reason != self._reason:
            self.fall_back(reason)
        self._reason = reason

    def weights(self, piece: Piece, size: int, steps: int) -> Array:
        """Return the sum of each batch's weights, up to the first batch whose weights are all 0, which is skipped."""
        weight = piece.arrays[2]
        if weight is None:
            return np.full(steps, float(size))
        rows = piece.rows[piece.place : piece.place + steps * size]
        sums: Array = np.add.reduce(weight[rows].reshape(steps, size), axis=1, dtype=np.float64)
        return sums[: steps if sums.all() else int(np.argmin(sums > 0))]

    def draw(self, draws: Iterable[Draw], steps: int, size: int, capacity: int) -> list[Array]:
        """Return the random arrays of the next steps, with the keys of the other engines."""
        seed, epoch, step = self.run.key
        drawn = []
        for draw in draws:
            array = np.zeros((capacity, size, *draw.shape), np.float32)
            for made in range(steps):
                for number, start in enumerate(range(0, size, self.part_rows)):
                    key = (seed, epoch, step + made, *([number] if number else []))
                    draw.fill(array[made, start : start + self.part_rows], key)
            drawn.append(array)
        return drawn

    def add_up(self, totals: Sequence[Array], weights: Array) -> Sums:
        """Add up the sums of the steps of a chunk one after another, as the NumPy engine does."""
        assert self.planned is not None
        sums: Sums = {}
        for (key, values), total in zip(self.planned.per_row.items(), totals, strict=True):
            before = self.run.sums.get(key, (0.0, 0.0))
            if len(weights) == 1:
                sums[key] = before[0] + float(total[0]), before[1] + float(weights[0]) * values
                continue
            pairs = zip(before, (total[: len(weights)], weights * values), strict=True)
            sums[key] = tuple(float(np.cumsum(np.concatenate(([first], terms)))[-1]) for first, terms in pairs)
        return sums

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
        return () if self.planned is None else self.planned.metrics

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
        optimizer, size = self.run.optimizer, piece.size
        begun = time.perf_counter()
        longest = 1 if self.watched else max(1, int(min(self._pace.length, longest)))
        rates = self.rates(min(longest, math.ceil((piece.count - piece.place) / size)))
        optimizer.begin()  # it stays inconsistent if steps are made and not counted
        chunk = None
        try:
            chunk = self.launch(piece, rates) if len(rates) else None
            metrics = self.metric_sums(piece, chunk) if chunk is not None else []
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
        self.count(piece, chunk, rates, metrics)
        self._pace.note(chunk.batches, chunk.seconds, time.perf_counter() - begun - chunk.seconds)
        if chunk.steps and self.watched:
            self.call("on_batch_end")
        return True

    def count(self, piece: Piece, chunk: Chunk, rates: Array, metrics: Iterable[Sums]) -> None:
        """Count the steps of a chunk, which the model and the optimizer have."""
        run, optimizer = self.run, self.run.optimizer
        if chunk.steps:
            run.sums |= chunk.sums
            run.batch_loss = chunk.loss
        for sums in metrics:
            add_sums(run.sums, sums)
        run.batch += chunk.batches
        run.step += chunk.steps
        piece.place += chunk.batches * piece.size
        optimizer.count(chunk.steps, float(rates[chunk.steps - 1]) if chunk.steps else optimizer.last_rate)
        if chunk.steps and (self.watched or piece.done):
            run.current = partial(piece.part, piece.place - piece.size, piece.place)

    def metric_sums(self, piece: Piece, chunk: Chunk) -> list[Sums]:
        """Return the metrics' sums of each batch of a chunk; they are added up one by one, as the NumPy engine does."""
        sums: list[Sums] = []
        for number in range(chunk.batches if self.metrics else 0):
            start = piece.place + number * piece.size
            _, y, weight = piece.part(start, start + piece.size)
            if weight is None or weight.any():
                h, a = self.outputs(number, piece, rows_in(y))
                sums.append(self.figures.metric_sums(self.run.model, h, a, y, weight, self.metrics))
        return sums
