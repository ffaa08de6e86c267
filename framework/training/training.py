"""Training: one ``fit`` or ``resume`` of a run: hooks, signals, epochs, and cleaning up after any error."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property, partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from framework.backends.arithmetic import Flushing, limit_threads
from framework.backends.programs import forget
from framework.base.arrays import Array
from framework.base.errors import CallbackError, DivergedError, brief, nearest
from framework.base.settings.messages import elsewhere
from framework.data.parts import Source
from framework.data.pieces import Piece, Position
from framework.data.sources import hold_out, source_of
from framework.data.splits import rows_of_parts
from framework.models import Model
from framework.models.rows import multiply_adds, prepare, settling
from framework.preprocessing.fitted import FittedPreprocess
from framework.training import preconditions
from framework.training.callbacks import HOOKS, Callback
from framework.training.callbacks.base import CHUNK_END
from framework.training.callbacks.progress import Display, ProgressBar, make_bars
from framework.training.callbacks.saving import KEPT
from framework.training.engines import Engine, engine_for, engine_of, is_quiet
from framework.training.runs.divergence import describe_weights, explain, place_of
from framework.training.runs.run import Run

if TYPE_CHECKING:
    from framework.training.parallel.shards import SharedGradient
    from framework.training.trainer import Trainer

WITHIN = ("on_batch_begin", "on_gradients")
"""The hooks within a step."""

OF_BATCHES = (*WITHIN, "on_batch_end")
"""The hooks within a step and at its end."""

Predict = Callable[[Any], tuple[Any, Any]]
"""Returns (h, a) of a batch."""


class Training:
    """One ``fit`` or ``resume`` of a run: its settings, its data, and what surrounds its steps.

    As a context manager it calls the hooks, ends training at the next batch boundary when a callback, Ctrl-C or SIGTERM
    asks for it, and at the end calls ``on_train_end`` of every callback that started, puts the signal handlers back and
    attaches the run to the exception that leaves.

    Attributes:
        trainer: The settings.
        run: Everything that changes; this and the data are there after ``check``.
        source: The training data.
        held_out: The validation data, or None.
        step_rows: The rows of one update.
        callbacks: Those of the trainer, and its own bar; those that write come last.
        strategy: Shares out batches to workers; None computes all of them here.
        alone: Whether no other worker trains.
        noted: A signal that has come to this process, of which other workers may not know yet.
        ended: Whether it has ended, or has not begun.
    """

    run: Run
    source: Source
    held_out: Source | None

    strategy: SharedGradient | None = None
    rank = 0
    alone = True
    noted: int | None = None
    ended = True

    def __init__(
        self, trainer: Trainer, surroundings: ExitStack, *, surrounded: bool = False, shown: bool = False
    ) -> None:
        """Order the callbacks. The number of BLAS threads is settled until ``surroundings`` end.

        Where several runs are trained at once, they are ``surrounded`` by what handles signals and NumPy's warnings for
        all of them. If the caller is ``shown``, it shows a bar, and an interruption says how to resume.
        """
        self.trainer, self.step_rows = trainer, trainer.batch_size * trainer.accumulate
        self._surroundings = surroundings
        self.flushing = Flushing(wanted=trainer.flush_to_zero)  # from piece to piece of the data, but not in hooks
        bars = make_bars(trainer.callbacks) if shown and trainer.progress else ()
        self.callbacks = sorted((*trainer.callbacks, *bars), key=lambda callback: callback.writes)
        hooks_of = [(callback, callback.hooks()) for callback in self.callbacks]
        self._heard = {hook for _, hooks in hooks_of for hook in hooks}
        self._hooks: dict[str, list[tuple[Callback, Callable[[Run], Any]]]] = {
            hook: [(callback, hooks[hook]) for callback, hooks in hooks_of if hook in hooks and self._calls(callback)]
            for hook in (*HOOKS, CHUNK_END)
        }
        self._started: list[Callback] = []
        self._displays: list[Display] = []  # the progress
        self._pieces: Generator[Piece] | None = None
        self._signal: int | None = None  # one that has come, and acts at the next batch boundary
        self._signals = 0
        self._ending = False
        self._handlers, self._surrounded, self._shown = Handlers(self._note_signal), surrounded, shown
        # Divergence is found by looking at the loss and the gradient, so NumPy need not warn about it as well.
        self._errstate: AbstractContextManager[Any] = nullcontext() if surrounded else np.errstate(all="ignore")

    # settings and data

    def check(self, model: Model, data: Any, validation: Any, epochs: int | None, run: Run | None, name: str) -> None:
        """Check everything before anything changes, and hold the run and the data; see ``Trainer.fit``.

        ``name`` is the caller's, for messages.
        """
        trainer, figures = self.trainer, self.trainer.figures
        with rows_of_parts(validation) if isinstance(validation, float) else nullcontext(), ExitStack() as settled:
            with self._together():  # an error of one worker is raised on all
                rows, validated = _both(data, validation, trainer.seed if run is None else run.seed, name)
                left = trainer.epochs if epochs is None else epochs
                left = left if run is None else max(1, left - run.epoch)
                learns = run is None and trainer.preprocess is not None and model.preprocess is None
                rows.require_again(left, learns=learns)
                if validated is not None:
                    validated.require_again(left, learns=False)
                preprocess = (
                    model.preprocess if run is not None else preconditions.fit_preprocess(trainer, model, rows, name)
                )
                preconditions.require_inputs(model, preprocess, name)
                optimizer = trainer.optimizer if run is None else run.optimizer.recipe
                model.retrace(trainer.loss, optimizer, *trainer.regularizers)
                forget(*trainer.metrics)
                settled.enter_context(settling(model, rows, preprocess))
                figures.require_model(model.output_activation)
                preconditions.require_categories(model, preprocess, validated, name)
                if run is not None:
                    preconditions.require_own(run, model, trainer.loss)
                plain = epochs is None or (type(epochs) is int and epochs >= 1)
                epochs = epochs if plain else trainer.replace(epochs=epochs).epochs  # raises the error of the setting
                wanted = trainer.engine if run is None else run.engine
                engine_of(wanted).require()  # the checks of the data use the compiler too
                batched = [metric for metric in trainer.metrics if metric.key in figures.keys]
                source = prepare(
                    rows, model, figures.losses, name, metrics=batched, sampling=trainer.sampling, fingerprinted=True
                )
                digest, held_out = source.fingerprint(), None  # first, as it reads the names of the columns
                if validated is not None:
                    seen, where, losses = source.columns, f"{name}: validation", figures.losses
                    held_out = prepare(validated, model, losses, where, seen, trainer.metrics, fingerprinted=True)
                for regularizer in trainer.regularizers:
                    regularizer.names(model.parameters)  # refuses a pattern that matches none
                    regularizer.require_traced_derivative()
                preconditions.require_columns(trainer, name, validated=held_out is not None)
                preconditions.require_last_batch(source.rows, trainer.batch_size, model, name)
                preconditions.require_shards(trainer, model, name)
                engine = engine_for(wanted, shards=trainer.strategy is not None)
                validated_on = None if held_out is None else held_out.fingerprint()
                size = min(trainer.batch_size, source.rows or trainer.batch_size)
                sample = model.input_shape if source.columns.shape is None else source.columns.shape
                self._surroundings.enter_context(limit_threads(multiply_adds(model, size, sample)))
                recipe, resumed = preconditions.recipe_of(trainer, model, digest, validated_on, engine), run is not None
                self.hold(run or self.new_run(model, engine.name), source, held_out)
                if resumed:
                    preconditions.require_same_epoch(self.run, self.layout, recipe)
                    preconditions.tell_differences(self.run, recipe)
            self._require_alike(recipe, epochs, engine.name, name)
            self.complete(recipe, engine.name, epochs, preprocess)

    def new_run(self, model: Model, engine: str) -> Run:
        """Return a run of the first epoch on."""
        trainer = self.trainer
        return Run(model, trainer.optimizer.bind(model), trainer.loss, trainer.seed, engine)

    def hold(self, run: Run, source: Source, held_out: Source | None) -> None:
        """Hold a run and its data. A run that is resumed has the number of rows of a stream."""
        self.run, self.source, self.held_out, self._since = run, source, held_out, time.perf_counter()
        if source.rows is None:
            source.rows = run.layout[0] or None

    def _require_alike(self, recipe: dict[str, str], epochs: int | None, engine: str, name: str) -> None:
        """Check that all workers train alike."""

    @property
    def layout(self) -> tuple[int, int, bool]:
        """The rows of the data, those of an update, and whether they are shuffled: all must stay within an epoch.

        The rows of a stream are 0 before its first end.
        """
        return self.source.rows or 0, self.step_rows, self.trainer.shuffle

    @property
    def position(self) -> Position:
        """Where the run is in its data."""
        run, size = self.run, self.step_rows
        return Position(size, run.batch * size, (run.seed, run.epoch) if self._shuffles else None, run.epoch)

    @property
    def _shuffles(self) -> bool:
        """Whether rows come in a new order: one batch of all rows needs none, unless a hook may write into a copy."""
        trainer, rows = self.trainer, self.source.rows
        several = rows is None or rows > self.step_rows or self.hears("on_batch_begin")
        return trainer.shuffle and (several or trainer.sampling is not None)

    def rows(self) -> Array:
        """Return which rows of the data the current batch holds."""
        return self.source.rows_of(self.position)

    def complete(
        self, recipe: dict[str, str], engine: str, epochs: int | None, preprocess: FittedPreprocess | None = None
    ) -> None:
        """Check that the callbacks can begin, and give the run its recipe, layout, engine, end and columns."""
        run, model = self.run, self.run.model
        target = run.target_epoch
        if epochs is not None:
            target = run.epoch + epochs
        elif run.ended or run.recipe.get("epochs") != recipe["epochs"]:
            target = self.trainer.epochs  # else keep the number of the fit that was cut off
        preconditions.settle_length(run, self.layout, target)
        with self._together():
            for callback in self.trainer.callbacks:
                if self._calls(callback):
                    callback.require(run)
        if epochs is not None:  # asking for more clears a pending stop
            run.stop_reason = None
        run.target_epoch = target
        run.layout, run.engine = self.layout, engine
        run.recipe = recipe | run.recipe | {"epochs": recipe["epochs"]}  # those of the trainer that set the end last
        state = model._built()
        if run.step == 0:
            trained = state.columns.trained and preprocess is model.preprocess
            model.preprocess = preprocess
            state.columns = state.columns._replace(trained=trained)
        known = {name: value for name, value in self.source.columns._asdict().items() if value}  # names, and a shape
        state.columns = state.columns._replace(**known)

    def engine(self, kind: type[Engine] | None = None) -> Engine:
        """Return an engine that makes the steps, by default that of the run."""
        run, trainer = self.run, self.trainer
        return (kind or engine_of(run.engine))(
            run,
            trainer.figures,
            self.call,
            part_rows=trainer.batch_size,
            regularizers=trainer.regularizers,
            strategy=self.strategy,
            watched=self.hears("on_batch_end"),
            within=[hook for hook in WITHIN if self.hears(hook)],
            quiet=is_quiet(trainer.engine),
            pause_flushing=self.flushing.pause,
        )

    # begin and end

    def __enter__(self) -> Self:
        """Begin: signal handlers, then ``on_train_begin``."""
        self.ended = False
        try:
            with self._together():
                self.run.begin(self.callbacks)
        except BaseException:
            self.run.end()
            raise
        self._errstate.__enter__()
        hooks = {id(callback): function for callback, function in self._hooks["on_train_begin"]}
        try:
            if not self._surrounded:
                self._handlers.__enter__()
            with self._together():
                for callback in self.callbacks:
                    if id(callback) in hooks:
                        self._call(callback, hooks[id(callback)], "on_train_begin")
                    self._started.append(callback)
                    if isinstance(callback, ProgressBar) and self._calls(callback):
                        self._displays.append(self.run.live(callback)["display"])
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: ``on_train_end`` of every callback that started. The first error is raised, later ones are notes."""
        run = self.run
        self._ending = True  # from here on a signal is noted, and acts when all is in order; the third acts at once
        self.ended = True
        self.flushing.__exit__()
        run.error = error
        try:
            if self._pieces is not None:  # a thread may read ahead
                self._attempt(self._pieces.close)
            self._tick()
            if error is None:
                self._attempt(self.require_finite_weights)
            self._tell(run.error)
            for callback, function in self._hooks["on_train_end"]:
                if any(callback is started for started in self._started):
                    self._attempt(partial(self._call, callback, function, "on_train_end"))
            self._attempt(partial(self._require_end, error))
        finally:
            run.end()
            if error is None:  # after on_train_end, so that what is saved there still has the stop to come
                run.ended = True
            self._errstate.__exit__(None, None, None)
            self._handlers.__exit__()
        self._signal = self._signal or self.noted
        if not isinstance(run.error, KeyboardInterrupt | SystemExit):
            self._attempt(self._raise_signal)  # one that came during on_train_end
        if run.error is not None:
            if isinstance(run.error, KeyboardInterrupt | SystemExit) and self._shown:
                self._say_what_is_kept(run.error)
            run.error.run = run  # type: ignore[attr-defined]  # how an interrupted caller gets the run back
        if error is None and run.error is not None:
            raise run.error

    def _say_what_is_kept(self, error: BaseException) -> None:
        """Add a note on the run, unless a Checkpoint did, and print it for SIGTERM, whose SystemExit shows nothing."""
        notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(KEPT)]
        if not notes and not hasattr(error, "run"):
            notes.append(
                "the run is not saved, but is error.run: trainer.resume(error.run, data) continues it; "
                "Trainer(callbacks=[Checkpoint('checkpoints')]) saves it the next time"
            )
            error.add_note(notes[0])
        if self._signal is not None and isinstance(error, SystemExit) and notes and self.rank == 0:
            sys.stderr.write(f"{self.run.stop_reason}; {notes[0]}\n")

    def _require_end(self, error: BaseException | None) -> None:
        """Check that the run can be saved."""
        del error
        if self.run.error is None:
            self._attempt(self.run.require_savable)

    def _tell(self, error: BaseException | None) -> None:
        """Restore buffers after an error; annotate where divergence began."""
        in_step = self.run.in_step and not hasattr(error, "run")  # an error with a run comes from a fit in a callback
        if error is not None:
            self.run.restore_buffers()
        if isinstance(error, DivergedError):
            for line in self._explain_divergence() if in_step else [place_of(self.run), describe_weights(self.run)]:
                error.add_note(line)

    def _explain_divergence(self) -> list[str]:
        """Return why the step diverged, computed as the step was; and whether subnormal numbers are behind it."""
        with self.flushing:
            lines = explain(self.run, self.rows)
            flushed = self.flushing.active
        if flushed and explain(self.run, self.rows) != lines:
            lines.append(
                "without flush to zero the step gives something else: numbers below the smallest normal one of their "
                "dtype counted as 0; Trainer(flush_to_zero=False) keeps them"
            )
        return lines

    def require_finite_weights(self) -> None:
        """Refuse weights that are not finite, where no later loss would show it.

        Raises:
            DivergedError: One is not finite.
        """
        vector = self.run.model.parameters.vector
        if not math.isfinite(np.vdot(vector, vector)) and not np.isfinite(vector).all():  # a square may overflow
            raise DivergedError("the last update made weights that are not finite. Lower the learning rate")

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do one part of the end; the first error ends the run, later ones are notes on it."""
        try:
            action()
        except BaseException as error:  # noqa: BLE001 (__exit__ raises it)
            if self.run.error is None:
                self.run.error = error
            elif error is not self.run.error:
                where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
                self.run.error.add_note(f"then {type(error).__name__}: {error}{where}")

    # hooks

    def hears(self, *hooks: str) -> bool:
        """Return whether some callback has one of these hooks."""
        return not self._heard.isdisjoint(hooks)

    def call(self, hook: str) -> None:
        """Call a hook of every callback that has it; an error gains a note that says where it happened."""
        if hook not in self._heard:
            return
        with self.flushing.pause(), self._together():
            calls = self._hooks[hook]
            for number, (callback, function) in enumerate(calls, 1):
                self.run.waiting = [later for later, _ in calls[number:]]
                self._call(callback, function, hook)

    def _calls(self, callback: Callback) -> bool:
        """Return whether this process calls a callback: one that writes is called by the first worker alone."""
        return self.rank == 0 or not callback.writes

    def _together(self) -> AbstractContextManager[None]:
        """Do something that other workers do too, so that an error of one is raised on all; alone, just do it."""
        return nullcontext()

    def _call(self, callback: Callback, function: Callable[[Run], Any], hook: str) -> None:
        for display in self._displays:
            display.clear(callback)
        self.run.hook = hook
        names = len(vars(self.run))
        try:
            function(self.run)
            if len(vars(self.run)) > names:
                self._refuse_new_name()
        except BaseException as error:
            error.add_note(f"in {hook} of {callback!r}, {self.run.epoch} epochs and {self.run.step} steps finished")
            if isinstance(error, OSError) and not (self.alone or callback.writes):
                error.add_note("each worker calls this hook; worker 0 alone calls those of a class with writes = True")
            raise
        finally:
            self.run.hook, self.run.waiting = None, []

    def _refuse_new_name(self) -> None:
        """Refuse an attribute that a hook has added to the run: nothing reads it.

        Raises:
            CallbackError: Says what to write instead.
        """
        name, value = vars(self.run).popitem()
        known = [name for name in dir(self.run) if not name.startswith("_")]
        memory = "; what a callback remembers goes into run.memory(self), or into run.live(self)"
        advice = f"; {known_advice}" if (known_advice := elsewhere(Run, name)) else nearest(name, known) or memory
        raise CallbackError(f"run.{name} = {brief(value)}: a run has no {name!r}{advice}")

    # epochs

    def begin_epoch(self) -> bool:
        """Begin or continue an epoch; return False when training ends."""
        run = self.run
        self._raise_signal()
        if run.stop_reason is not None or run.epoch >= run.target_epoch:
            return False
        if not run.epoch_begun:
            run.epoch_begun = True
            self.call("on_epoch_begin")
        self._show()
        return True

    def pieces(self) -> Iterator[Piece]:
        """Give each piece of an epoch again and again until its rows are done, or until training is to stop."""
        run = self.run
        for piece in self._read():
            with self.flushing:
                while piece.place < piece.count:
                    if self._signal is not None:
                        self._raise_signal()
                    if run.stop_reason is not None:
                        return
                    run.read = piece.read  # not before: a stop may come between two windows of a stream
                    yield piece
                    self.call(CHUNK_END)
                    if self._displays and run.batch != run.batches:  # else after the hooks, whose text needs room
                        self._show()
        self.require_finite_weights()  # so that they are neither judged, nor saved, nor the best
        self._raise_signal()

    def _read(self) -> Iterator[Piece]:
        """Give the pieces of the rest of the epoch."""
        self._pieces = self.source.pieces(self.position, self.run.read)
        return self._pieces

    def end_epoch(self) -> None:
        """Add the row of a finished epoch to the history, and call ``on_epoch_end``; an unfinished one gets none."""
        run = self.run
        run.layout = self.layout
        if not run.batch == run.batches > 0:
            return
        results = self._results()
        self._tick()
        self._require_epoch()
        run.finish_epoch(results)
        self.call("on_epoch_end")
        run.require_savable()

    def _require_epoch(self) -> None:
        """Check what the epoch has made of the run."""

    def _results(self) -> dict[str, float]:
        """Return the columns of a finished epoch."""
        trainer, run = self.trainer, self.run
        results = trainer.figures.results(run.sums)
        if trainer.regularizers:
            results["penalty"] = sum(regularizer.penalty(run.model) for regularizer in trainer.regularizers)
        if self.held_out is not None:
            figures = trainer.figures.evaluate(run.model, self.held_out, self._predict, self.strategy)
            results |= {f"val_{key}": value for key, value in figures.items()}
        return results

    @cached_property
    def _predict(self) -> Predict | None:
        """The function that predicts for validation data, made once; None for ``model.output``."""
        return engine_of(self.run.engine).predictor(self.run.model, quiet=True)

    def _show(self) -> None:
        """Bring the progress up to date."""
        for display in self._displays:
            display.show(self.run)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.run.seconds += now - self._since
        self._since = now

    # signals

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, which acts at the next batch boundary.

        The second one acts at once; at the end, where a save may be at work, the third: a hook may hang there.
        """
        self.noted = number
        if self.alone:
            self._signal = number
        self._signals += 1
        if (self._signals >= 2 and not self._ending) or (self._signals >= 3 and self.run.hook is not None):
            self._signal = number
            self._raise_signal()

    def _raise_signal(self) -> None:
        """End training at this step boundary if a signal came."""
        if self._signal is not None:
            self._ending = True  # a further signal is noted, and acts when all is in order
            raise interruption(self._signal, self.run)


class Handlers:
    """The handlers of Ctrl-C and SIGTERM: training's own, and those of the program, which come back."""

    def __init__(self, note: Callable[[int, FrameType | None], None]) -> None:
        """Begin with the program's; ``note`` is training's."""
        self._note = note
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        """Install training's handler, except for a signal that the program ignores."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers, and only it receives Ctrl-C
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        """Put the program's handlers back."""
        for number, handler in self._before.items():  # Ctrl-C's last: from there on it may act at once
            signal.signal(number, handler)


def interruption(number: int, *runs: Run) -> BaseException:
    """Stop runs because of a signal, and return its error. Unlike a stop of a callback, this one is over at once."""
    for run in runs:
        if run.stop_reason is None:
            run.stop("interrupted by Ctrl-C" if number == signal.SIGINT else "ended by SIGTERM")
            run.ended = True
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _both(data: Any, validation: Any, seed: int, name: str) -> tuple[Source, Source | None]:
    """Return the training data and the validation data, which may be a part of it."""
    source, of_validation = source_of(data, name), f"{name}: validation"
    if isinstance(validation, float):
        source, held_out = hold_out(source, validation, seed, f"{name}: argument 'validation'")
        return source, held_out.with_name(of_validation)
    return source, None if validation is None else source_of(validation, of_validation)
