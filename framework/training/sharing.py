"""Sharing: a training on all the workers of ``DataParallel``, which hear of each other's errors and stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from framework.backends.arithmetic import limit_threads
from framework.base.arrays import Array
from framework.data.parts import Source
from framework.data.pieces import Piece, every
from framework.training.engines import Engine
from framework.training.parallel import mpi
from framework.training.parallel.shards import Shards, SharedGradient
from framework.training.parallel.workers import failure_of, require_success
from framework.training.preconditions import mixing, numbers_of, require_alike, tell_idle
from framework.training.runs.run import Run
from framework.training.training import OF_BATCHES, Predict, Training

if TYPE_CHECKING:
    from framework.training.trainer import Trainer


class SharedTraining(Training):
    """A training of which each worker computes parts of every batch.

    Attributes:
        shared: The setting.
        workers: The workers.
    """

    strategy: SharedGradient

    def __init__(self, trainer: Trainer, surroundings: ExitStack, **options: Any) -> None:
        """Join the workers, which end together; the bits depend on the number of threads of a BLAS."""
        assert trainer.strategy is not None
        self.shared = trainer.strategy
        self.workers = workers = mpi.workers(self.shared.timeout)
        self.rank, self.alone = workers.rank, workers.size == 1
        surroundings.enter_context(workers.guard(self.shared.timeout))
        surroundings.enter_context(limit_threads())
        super().__init__(trainer, surroundings, **options)

    def hold(self, run: Run, source: Source, held_out: Source | None) -> None:
        """Hold a run and its data, and share out the batches."""
        super().hold(run, source, held_out)
        trainer, workers, mixed = self.trainer, self.workers, mixing(run.model)
        # Layers that mix the rows of each part of a batch need them in their order.
        self._by_place = not (trainer.accumulate > 1 and mixed)
        count = self.shared.shards if self.shared.deterministic else workers.size
        shards = Shards(workers, count, trainer.batch_size if mixed else 0)
        noted = lambda: self.noted is not None  # noqa: E731
        self.strategy = SharedGradient(shards, noted=noted, agree=self.agree)

    def _require_alike(self, recipe: dict[str, str], epochs: int | None, engine: str, name: str) -> None:
        if not self.alone:
            require_alike(self.workers, self.run, recipe, self.callbacks, epochs, engine)
            tell_idle(self.workers, self.shared, name)

    def engine(self, kind: type[Engine] | None = None) -> Engine:
        self._heard = set().union(*self.workers.gather(self._heard))  # they call a hook together
        with self._together():
            return super().engine(kind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            del self.strategy  # which holds this training, and memory that workers share

    def agree(self, error: Exception | None = None) -> None:
        """Let all workers know of an error, a stop or a signal of one of them. An error of one is raised on all."""
        run, workers = self.run, self.workers
        answers = workers.gather((failure_of(error), run.stop_reason, self.noted))
        reasons = [reason for _, reason, _ in answers if reason is not None]
        signals = [number for _, _, number in answers if number is not None]
        if reasons:
            run.stop_reason = reasons[0]
        if signals:
            self._signal = max(signals)  # SIGTERM before Ctrl-C
        require_success([failure for failure, _, _ in answers], workers.rank, error)

    def rows(self) -> Array:
        return self.source.rows_of(self.position, shared=self._by_place)

    def _together(self) -> AbstractContextManager[None]:
        return self.workers.together(None if self.ended else self.agree)  # a stop or a signal acts in training only

    def _require_end(self, error: BaseException | None) -> None:
        """Check that the run can be saved; an error of one worker's end is raised on all, if training had no error."""
        super()._require_end(error)
        late = self.run.error
        if error is None and (late is None or isinstance(late, Exception)):  # else the others may still be in a step
            self.agree(late)

    def _read(self) -> Iterator[Piece]:
        """Give the pieces, of which all workers have equally many rows."""
        own = None
        if self._by_place:  # a hook within a step may read all rows of a batch
            own = every if self.hears(*OF_BATCHES) else self.strategy.shards.rows_of
        self._pieces = pieces = self.source.pieces(self.position, self.run.read, own)
        while True:
            with self._together():
                piece = next(pieces, None)
            rows = 0 if piece is None else piece.count - piece.place
            self.workers.require_equal({f"the rows read next in epoch {self.run.epoch + 1}": rows})
            if piece is None:
                return
            yield piece

    def _require_epoch(self) -> None:
        """Check that all workers have the same numbers.

        Raises:
            UsageError: The workers have other parameters or buffers.
        """
        self.workers.require_equal(numbers_of(self.run.model), "after the epoch: ")
        self.run.seconds = self.workers.broadcast(self.run.seconds)
        self.agree()

    @cached_property
    def _predict(self) -> Predict | None:
        predict = super()._predict
        kind = Engine.name if predict is None else self.run.engine
        self.workers.require_equal({"the engine of the validation": kind})
        return predict
