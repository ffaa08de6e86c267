"""The loop of a training, which reads like the algorithm.

data -> model.forward -> loss.backward -> model.backward -> optimizer.step -> callbacks -> history
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from framework.arithmetic import limit_threads
from framework.callbacks.progress import own_bars
from framework.data.shares import every
from framework.engines import Engine
from framework.models import Model
from framework.parallel import starting
from framework.parallel.strategy import DataParallel, Sharded
from framework.parallel.workers import Workers
from framework.runs.run import Run
from framework.training.preconditions import mixing
from framework.training.preparing import Fit, prepared
from framework.training.session import Session
from framework.training.settings import TrainingSettings

WITHIN = ("on_batch_begin", "on_gradients", "on_batch_end")
"""The hooks within a step and at its end."""


def train(
    trainer: TrainingSettings,
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
    with _workers(trainer.strategy) as workers, ExitStack() as threads:
        fit = prepared(trainer, model, data, validation, epochs, run, name, workers, threads)
        run, source = fit.run, fit.source
        # Layers that mix the rows of each part of a batch need them in their order.
        shared = trainer.strategy is not None and not (trainer.accumulate > 1 and mixing(run.model))
        with Session(
            run,
            (*trainer.callbacks, *own_bars(trainer.callbacks, progress=shown and trainer.progress)),
            lambda: source.rows_of(fit.position, shared=shared),
            flush_to_zero=trainer.flush_to_zero,
            workers=workers,
            shown=shown,
        ) as session:
            engine = _engine(fit, session)
            read_whole = session.hears(*WITHIN)  # such a hook may read all rows of a batch
            own = None
            if shared:
                own = every if read_whole or not isinstance(engine.strategy, Sharded) else engine.strategy.own
            while session.begin_epoch():
                engine.begin_epoch()
                for piece in session.unfinished(source.pieces(fit.position, run.read, own)):
                    run.read = piece.read
                    engine.advance(piece)
                run.layout = fit.layout
                if run.batch == run.batches > 0:
                    session.end_epoch(fit.results(engine.strategy))
    return run


@contextmanager
def _workers(strategy: DataParallel | None) -> Iterator[Workers]:
    """Give the workers that train together, with one thread of BLAS each, as the bits depend on their number."""
    if strategy is None:
        yield Workers()
        return
    workers = starting.workers(strategy.timeout)
    with workers.guard(strategy.timeout), limit_threads():
        yield workers


def _engine(fit: Fit, session: Session) -> Engine:
    """Return the engine that makes the steps."""
    run, trainer = fit.run, fit.trainer
    hooks = [hook for hook in ("on_batch_begin", "on_gradients") if session.hears(hook)]
    options: dict[str, Any] = {"part_rows": trainer.batch_size, "regularizers": trainer.regularizers}
    options |= {"watched": session.hears("on_batch_end"), "within": hooks}
    if trainer.strategy is not None:
        strategy = Sharded(
            trainer.strategy,
            session.workers,
            mixed=trainer.batch_size if mixing(run.model) else 0,
            noted=lambda: session.noted is not None,
            agree=session.agree,
        )
        options |= {"strategy": strategy}
    if run.engine == "jax":
        from framework.engines.jax import JaxEngine  # noqa: PLC0415

        return JaxEngine(run, trainer.figures, session.call, lifted=session.flushing.lifted, **options)
    if run.engine in ("compiled", "many"):
        from framework.engines.compiled import CompiledEngine  # noqa: PLC0415

        return CompiledEngine(run, trainer.figures, session.call, quiet=trainer.engine == "auto", **options)
    run.engine = "numpy"
    run.recipe.pop("products", None)
    return Engine(run, trainer.figures, session.call, **options)
