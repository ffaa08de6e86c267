"""Training of many models of one architecture, in one kernel with the compiled engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.errors import DivergedError, SettingsError
from framework.data.parts import ArraySource
from framework.data.pieces import Piece
from framework.data.sources import source_of
from framework.models import Model
from framework.models.rows import settling, unsettling
from framework.training.callbacks.progress import make_bars
from framework.training.engines import Engine, engine_of
from framework.training.engines.base import Stepping
from framework.training.loop import train
from framework.training.optimizers import Optimizer
from framework.training.preconditions import fit_preprocess, format_settings
from framework.training.runs.run import Run
from framework.training.training import Handlers, Training, interruption

if TYPE_CHECKING:
    from framework.training.trainer import Trainer

NAME = "fit_many"


def fit_many(
    trainer: Trainer,
    models: Iterable[Model],
    data: Any,
    validation: Any,
    optimizers: Iterable[Any] | None,
    seeds: Iterable[int] | None,
    splits: Iterable[tuple[Any, Any]] | None,
    epochs: int | None,
) -> list[Run]:
    """Train as ``Trainer.fit_many`` does."""
    models = models if isinstance(models, Model) else [*models]
    if isinstance(models, Model) or not models or not all(isinstance(model, Model) for model in models):
        raise SettingsError("must be a list of models", name=f"{NAME}: argument 'models'", got=models)
    if len({id(model.outermost) for model in models}) < len(models):
        raise SettingsError("must not hold one model twice; use model.copy()", name=f"{NAME}: argument 'models'")
    trainers = [trainer] * len(models)
    for setting, argument, values in (("optimizer", "optimizers", optimizers), ("seed", "seeds", seeds)):
        for number, value in enumerate(_one_each(argument, values, len(models)) or ()):
            try:
                trainers[number] = trainers[number].replace(**{setting: value})
            except SettingsError as error:
                error.where, error.argument = (NAME,), argument
                error.subject = f"argument {argument!r}, number {number},"
                raise
    _require_trainer(trainer)
    parts = _parts(data, validation, _one_each("splits", splits, len(models)), len(models))
    many = engine_of(trainer.engine).many()
    if many is None:
        return _one_after_another(trainers, models, parts, epochs)
    with ExitStack() as threads:
        with ExitStack() as settled:
            for model in models:
                settled.enter_context(unsettling(model))
            members = _members(trainers, models, parts, epochs, threads)
        return _train_members(members, many)


def _one_each(argument: str, values: Iterable[Any] | None, count: int) -> list[Any] | None:
    """Return the values of an argument, one for each model; None where there are none."""
    if values is None:
        return None
    values = [values] if isinstance(values, Optimizer) else [*values]
    if len(values) != count:
        raise SettingsError(
            f"must have one for each of the {count} models; got {len(values)}", name=f"{NAME}: argument {argument!r}"
        )
    return values


def _parts(data: Any, validation: Any, splits: Sequence[Any] | None, count: int) -> list[tuple[Any, Any]]:
    """Return the data and the validation data of each model; those that share data get the same objects."""
    source = source_of(data, NAME)
    if splits is None:
        return [(source, validation)] * count
    if validation is not None:
        raise SettingsError(f"{NAME}: give validation=... or splits=..., whose second rows are the validation data")
    if not isinstance(source, ArraySource):
        raise SettingsError("takes rows of (x, y) or (x, y, weight)", name=f"{NAME}: argument 'splits'", got=data)
    every, pairs = np.arange(source.rows), list[tuple[Any, Any]]()
    for index, split in enumerate(splits):
        try:
            rows, others = split
            pairs.append((source.take(every[np.asarray(rows)]), source.take(every[np.asarray(others)])))
        except (TypeError, ValueError, IndexError) as error:
            raise SettingsError(
                f"{NAME}: argument 'splits' must have (rows to train on, rows to validate on) for each model, as "
                f"KFold(5).split(x) of scikit-learn gives them; number {index} is not: {error}"
            ) from error
    return pairs


def _one_after_another(
    trainers: Sequence[Trainer], models: Sequence[Model], parts: Sequence[tuple[Any, Any]], epochs: int | None
) -> list[Run]:
    """Train one model after another, with an engine that has no kernel for many models."""
    runs: list[Run] = []
    diverged: list[DivergedError] = []
    try:
        for trainer, model, (data, validation) in zip(trainers, models, parts, strict=True):
            try:
                runs.append(train(trainer, model, data, validation, epochs, None, NAME, shown=True))
            except DivergedError as error:
                diverged.append(error)
                runs.append(error.run)  # type: ignore[attr-defined]
    except BaseException as error:
        error.runs = [*runs, error.run] if hasattr(error, "run") else runs  # type: ignore[attr-defined]
        raise
    return _end_runs(runs, diverged)


def _end_runs(runs: list[Run], diverged: Sequence[DivergedError]) -> list[Run]:
    """Return the runs of all models, or raise the error of the first one that diverged."""
    if not diverged:
        return runs
    error = diverged[0]
    places = [str(index) for index, run in enumerate(runs) if run.error is not None]
    error.add_note(
        f"{NAME}: of {len(runs)} models, these diverged: {', '.join(places)}; error.runs has the runs of all"
    )
    error.runs = runs  # type: ignore[attr-defined]
    raise error


def _require_trainer(trainer: Trainer) -> None:
    """Refuse callbacks and strategies that are of one model alone."""
    instead = "write a loop over fit, where each model has a callback with a place of its own"
    for callback in trainer.callbacks:
        if callback.writes:
            kind = type(callback).__name__
            raise SettingsError(
                f"{kind} writes about one run, and all models would write to its place; {instead}", where=NAME
            )
    if trainer.strategy is not None:
        raise SettingsError(
            f"strategy={trainer.strategy!r} shares out the batches of one model; write a loop over fit", where=NAME
        )


def _end(training: Training, error: BaseException | None = None) -> None:
    """End the training of a model: ``on_train_end``."""
    if not training.ended:
        training.__exit__(None if error is None else type(error), error, None)


@contextmanager
def _alone(training: Training) -> Iterator[None]:
    """End the training of this model at an error; that of a divergence is not raised further."""
    try:
        yield
    except BaseException as error:
        _end(training, error)
        if not isinstance(error, DivergedError):
            raise


class _ModelTraining(Training, Stepping):
    """The training of one model among several."""


class _Interrupts:
    """Handles Ctrl-C and SIGTERM for all models: the first acts between two steps, the second at once."""

    number: int | None = None

    def note(self, number: int, _frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again:
            raise interruption(number)

    def act(self, members: Iterable[Training]) -> None:
        """End training if a signal came."""
        if self.number is not None:
            raise interruption(self.number, *(member.run for member in members if not member.ended))


def _members(
    trainers: Sequence[Trainer],
    models: Sequence[Model],
    parts: Sequence[tuple[Any, Any]],
    epochs: int | None,
    threads: ExitStack,
) -> list[_ModelTraining]:
    """Check data and models before anything is trained, and return the members."""
    members, known = list[_ModelTraining](), dict[Any, _ModelTraining]()
    for trainer, model, data_pair in zip(trainers, models, parts, strict=True):
        formulas = tuple((path, layer.origin, layer.settings_text) for path, layer in model.walk_models())
        seed = trainer.seed if isinstance(data_pair[1], float) else None  # it draws the rows that are held out
        columns = None if model.list_unsettled() else model._built().columns[:2]
        alike = id(data_pair), seed, id(model.preprocess), formulas, columns
        first, member = known.get(alike), _ModelTraining(trainer, threads, surrounded=True)
        if first is None:
            member.check(model, *data_pair, epochs, None, NAME)
            if not isinstance(member.source, ArraySource):
                raise SettingsError("the data must be arrays in memory", where=NAME, advice="write a loop over fit")
        else:
            model.retrace()
            preprocess = fit_preprocess(trainer, model, data_pair[0], NAME, first.run.model.preprocess)
            with settling(model, data_pair[0], preprocess):
                member.hold(member.new_run(model, first.run.engine), first.source, first.held_out)
            settings = {"optimizer": format_settings(trainer.optimizer), "seed": format_settings(trainer.seed)}
            member.complete(first.run.recipe | settings, first.run.engine, epochs, preprocess)
        members.append(member)
        known[alike] = member
    return members


def _train_members(members: Sequence[_ModelTraining], many: Any) -> list[Run]:
    """Train all members; a member that diverges ends alone, another error ends all."""
    first = members[0]
    runs = [member.run for member in members]
    displays = [bar.display(first.run) for bar in (make_bars(()) if first.trainer.progress else ())]
    interrupts = _Interrupts()
    with np.errstate(all="ignore"), Handlers(interrupts.note):

        def check() -> None:
            interrupts.act(members)
            for display in displays:
                display.show(next((member.run for member in members if not member.ended), first.run))

        try:
            for member in members:
                with _alone(member):
                    member.__enter__()
                    member.maker = member.engine()
            while active := [member for member in members if not member.ended]:
                check()
                _epoch(many, [member for member in active if _begins(member)], check)
            interrupts.act(members)
        except BaseException as error:
            own = getattr(error, "run", None)
            for member in members:
                try:
                    _end(member, error)
                except BaseException as later:  # noqa: BLE001 (the first error is raised)
                    error.add_note(f"then {type(later).__name__}: {later}")
            if own is not None:
                error.run = own  # type: ignore[attr-defined]
            error.runs = runs  # type: ignore[attr-defined]
            raise
        finally:
            for display in displays:
                display.end(max(runs, key=lambda run: run.epoch))
    diverged = [run.error for run in runs if isinstance(run.error, DivergedError)]
    return _end_runs(runs, diverged)


def _begins(member: _ModelTraining) -> bool:
    """Begin an epoch, and return whether to make it; end the training of a model that is done or is to stop."""
    with _alone(member):
        if member.begin_epoch():
            return member.run.stop_reason is None  # of on_epoch_begin
        _end(member)
    return False


def _epoch(many: Any, members: Sequence[_ModelTraining], check: Callable[[], None]) -> None:
    """Make an epoch of all members, block by block."""
    orders: dict[Any, Piece] = {}
    for member in members:
        source, position = member.source, member.position
        key = id(source), position.order
        if key not in orders:
            orders[key] = next(source.pieces(position))
        member.piece = orders[key].starting_at(position.start)
    while active := [member for member in members if _has_step(member)]:
        for block in many.blocks(active):
            while all(map(_has_step, block)):
                check()
                with block[0].flushing:
                    diverged = _advance(many, block)
                for member, error in diverged:
                    _end(member, error)
    for member in members:
        if not member.ended:
            with _alone(member):
                member.require_finite_weights()
                member.end_epoch()


def _has_step(member: _ModelTraining) -> bool:
    """Return whether a model has a further step in this epoch."""
    return not (member.ended or member.piece.done or member.run.stop_reason is not None)


def _advance(many: Any, block: Sequence[_ModelTraining]) -> list[tuple[_ModelTraining, DivergedError]]:
    """Make steps of a block; return the members that diverge, with their errors."""
    if len(block) > 1 and many.advance(block):
        return []
    diverged = list[tuple[_ModelTraining, DivergedError]]()
    for member in block:
        try:
            if len(block) > 1:  # one step, which is not finite for some member
                Engine.advance(member.maker, member.piece)
            else:
                member.maker.advance(member.piece)
        except DivergedError as error:
            diverged.append((member, error))
        except Exception as error:
            error.run = member.run  # type: ignore[attr-defined]
            raise
    return diverged
