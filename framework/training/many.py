"""Training of many models of one architecture, in one kernel with the compiled engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.progress import own_bars
from framework.data.parts import ArraySource
from framework.data.pieces import Piece, Position
from framework.data.sources import source_of
from framework.engines import Engine, engine_of
from framework.errors import DivergedError, SettingsError
from framework.models import Model
from framework.models.rows import settling
from framework.optimizers import Optimizer
from framework.runs.run import Run
from framework.settings.messages import brief
from framework.training.loop import train
from framework.training.preconditions import shown
from framework.training.training import OF_BATCHES, Handlers, Training, interruption

if TYPE_CHECKING:
    from framework.engines.compiled.lower import Plan
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
        raise SettingsError(f"{NAME}: argument 'models' must be a list of models; got {brief(models)}")
    if len({id(model.outermost) for model in models}) < len(models):
        raise SettingsError(f"{NAME}: argument 'models' must not hold one model twice; use model.copy()")
    trainers = [trainer] * len(models)
    for setting, argument, values in (("optimizer", "optimizers", optimizers), ("seed", "seeds", seeds)):
        for number, value in enumerate(_one_each(argument, values, len(models)) or ()):
            try:
                trainers[number] = trainers[number].replace(**{setting: value})
            except SettingsError as error:
                said = str(error).removeprefix(f"Trainer: setting {setting!r} ")
                raise SettingsError(f"{NAME}: argument {argument!r}, number {number}, {said}") from None
    parts = _parts(data, validation, _one_each("splits", splits, len(models)), len(models))
    if not engine_of(trainer.engine).trains_many:
        return _one_after_another(trainers, models, parts, epochs)
    with ExitStack() as threads:
        with ExitStack() as settled:
            for model, (rows, _) in zip(models, parts, strict=True):
                settled.enter_context(settling(model, rows, model.preprocess))
            plan = _plan(trainers, models)
            members = _members(trainers, models, parts, epochs, plan, threads)
        return _trained(members, plan)


def _one_each(argument: str, values: Iterable[Any] | None, count: int) -> list[Any] | None:
    """Return the values of an argument, one for each model; None where there are none."""
    if values is None:
        return None
    values = [values] if isinstance(values, Optimizer) else [*values]
    if len(values) != count:
        raise SettingsError(
            f"{NAME}: argument {argument!r} must have one for each of the {count} models; got {len(values)}"
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
        raise SettingsError(f"{NAME}: argument 'splits' takes rows of (x, y) or (x, y, weight); got {brief(data)}")
    every, found = np.arange(source.rows), list[tuple[Any, Any]]()
    for place, split in enumerate(splits):
        try:
            rows, others = split
            found.append((source.take(every[np.asarray(rows)]), source.take(every[np.asarray(others)])))
        except (TypeError, ValueError, IndexError) as error:
            raise SettingsError(
                f"{NAME}: argument 'splits' must have (rows to train on, rows to validate on) for each model, as "
                f"KFold(5).split(x) of scikit-learn gives them; number {place} is not: {error}"
            ) from error
    return found


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
    return _ended(runs, diverged)


def _ended(runs: list[Run], diverged: Sequence[DivergedError]) -> list[Run]:
    """Return the runs of all models, or raise the error of the first one that diverged."""
    if not diverged:
        return runs
    error = diverged[0]
    places = [str(place) for place, run in enumerate(runs) if run.error is not None]
    error.add_note(
        f"{NAME}: of {len(runs)} models, these diverged: {', '.join(places)}; error.runs has the runs of all"
    )
    error.runs = runs  # type: ignore[attr-defined]
    raise error


def _plan(trainers: Sequence[Trainer], models: Sequence[Model]) -> Plan:
    """Check that one kernel can train all models, and return its plan.

    Raises:
        SettingsError: A part has no form in the kernel, or the models differ; the message says what to do.
    """
    from framework.engines.compiled.many import many_plan, require_like  # noqa: PLC0415 (slow, and seldom needed)
    from framework.engines.records import CannotLower  # noqa: PLC0415

    trainer, first = trainers[0], models[0]
    engine_of(trainer.engine).require()
    _require_trainer(trainer)
    if any(model.preprocess is not None for model in models):
        raise _refusal("a model with a Preprocess")
    first.retrace(trainer.loss, trainer.optimizer, *trainer.regularizers)
    for model in models[1:]:
        model.retrace()
    try:
        plan = many_plan(first, trainer.loss, trainer.optimizer, trainer.regularizers)
        for place, (one, model) in enumerate(zip(trainers, models, strict=True)):
            if type(one.optimizer) is not type(trainer.optimizer):
                kinds = f"{type(one.optimizer).__name__} and {type(trainer.optimizer).__name__}"
                raise SettingsError(f"{NAME}: argument 'optimizers' must have optimizers of one class; got {kinds}")
            if not require_like(plan, model, one.optimizer):
                raise SettingsError(
                    f"{NAME}: argument 'models' must have models of the same layers, activations and dtype; number "
                    f"{place} is {model!r}, number 0 {first!r}; train it in another call"
                )
    except CannotLower as reason:
        raise _refusal(str(reason)) from None
    return plan


INSTEAD = "Trainer(engine='numpy') trains one model after another, as a loop over fit does with any engine"
"""The advice for a training that the kernel for many models cannot do."""


def _refusal(reason: str, instead: str = INSTEAD) -> SettingsError:
    return SettingsError(f"{NAME}: the kernel for many models has no form for this training: {reason}; {instead}")


def _require_trainer(trainer: Trainer) -> None:
    """Refuse settings that the kernel for many models does not know."""
    for callback in trainer.callbacks:
        if hooks := [hook for hook in OF_BATCHES if hook in callback.hooks()]:
            raise _refusal(f"{type(callback).__name__} has {hooks[0]}, which must act within each step")
        if callback.writes:
            raise _refusal(
                f"{type(callback).__name__} writes about one run, and all models would write to its place",
                "write a loop over fit, where each model has a callback with a place of its own",
            )
    if trainer.preprocess is not None:
        raise _refusal(f"preprocess={trainer.preprocess!r}")
    if trainer.strategy is not None:
        raise _refusal(f"strategy={trainer.strategy!r}")


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
    plan: Plan,
    threads: ExitStack,
) -> list[Training]:
    """Check data and models before anything is trained, and return the members."""
    from framework.engines.compiled.many import require_data  # noqa: PLC0415
    from framework.engines.records import CannotLower  # noqa: PLC0415

    members, known = list[Training](), dict[Any, Training]()
    for trainer, model, part in zip(trainers, models, parts, strict=True):
        own = id(part), trainer.seed if isinstance(part[1], float) else None  # a seed draws the rows that are held out
        first, member = known.get(own), Training(trainer, threads, surrounded=True)
        if first is None:
            member.check(model, *part, epochs, None, NAME)
            if not isinstance(member.source, ArraySource):
                raise _refusal("data that is not in memory as arrays")
            try:
                require_data(plan, next(member.source.pieces(Position(1))))
            except CannotLower as reason:
                raise _refusal(str(reason)) from None
        else:
            engine = first.run.engine
            member.hold(member.new_run(model, engine), first.source, first.held_out)
            settings = {"optimizer": shown(trainer.optimizer), "seed": shown(trainer.seed)}
            member.complete(first.run.recipe | settings, engine, epochs)
        members.append(member)
        known[own] = member
    return members


def _trained(members: Sequence[Training], plan: Plan) -> list[Run]:
    """Train all members; a member that diverges ends alone, another error ends all."""
    from framework.engines.compiled.many import ManyEngine  # noqa: PLC0415

    first = members[0]
    engine = ManyEngine(plan, first.step_rows, first.trainer.figures)
    runs = [member.run for member in members]
    displays = [bar.display(first.run) for bar in (own_bars(()) if first.trainer.progress else ())]
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
                    member.by_numpy = member.engine(Engine)
            while active := [member for member in members if not member.ended]:
                check()
                _epoch(engine, [member for member in active if _begins(member)], check)
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
    return _ended(runs, diverged)


def _begins(member: Training) -> bool:
    """Begin an epoch, and return whether to make it; end the training of a model that is done or is to stop."""
    with _alone(member):
        if member.begin_epoch():
            return member.run.stop_reason is None  # of on_epoch_begin
        _end(member)
    return False


def _epoch(engine: Any, members: Sequence[Training], check: Callable[[], None]) -> None:
    """Make an epoch of all members, block by block."""
    orders: dict[Any, Piece] = {}
    for member in members:
        source, position = member.source, member.position
        key = id(source), position.order
        if key not in orders:
            orders[key] = next(source.pieces(position))
        member.piece = orders[key].starting_at(position.start)
    while blocks := engine.blocks(member for member in members if not (member.ended or member.piece.done)):
        for block in blocks:
            while not any(member.ended for member in block) and not block[0].piece.done:
                check()
                with block[0].flushing:
                    diverged = engine.advance(block)
                for member, error in diverged:
                    _end(member, error)
    for member in members:
        if not member.ended:
            with _alone(member):
                member.require_finite_weights()
                member.end_epoch()
