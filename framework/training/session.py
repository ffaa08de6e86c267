"""Session: what surrounds the loop of ``Trainer.fit``: hooks, signals, and cleaning up after any error."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from framework.arithmetic import Flushing
from framework.arrays import Array
from framework.callbacks import HOOKS, Callback
from framework.callbacks.progress import Display, ProgressBar
from framework.callbacks.saving import KEPT
from framework.data.pieces import Piece
from framework.errors import CallbackError, DivergedError, nearest
from framework.parallel.workers import Workers, failure_of, require_success
from framework.runs.divergence import explain, kept, place_of
from framework.runs.run import Run
from framework.settings.messages import brief, elsewhere
from framework.training.preconditions import numbers_of


class Session:
    """One ``fit`` or ``resume`` of a run, as a context manager.

    It calls the hooks, ends training at the next batch boundary when a callback, Ctrl-C or SIGTERM asks for it, and
    at the end calls ``on_train_end`` of every callback that started, puts the signal handlers back and attaches the
    run to the exception that leaves.
    """

    def __init__(
        self,
        run: Run,
        callbacks: tuple[Callback, ...],
        rows: Callable[[], Array] | None = None,
        *,
        flush_to_zero: bool = False,
        workers: Workers | None = None,
        surrounded: bool = False,
        shown: bool = False,
    ) -> None:
        """Order the callbacks: those that write come last; ``rows`` numbers the rows of the current batch.

        Where sessions of several runs are open at once, they are ``surrounded`` by what handles signals and NumPy's
        warnings for all of them. If the caller is ``shown``, an interruption says how to resume.
        """
        self.run, self.workers = run, Workers() if workers is None else workers
        self.flushing = Flushing(wanted=flush_to_zero)  # from piece to piece of the data, but not in hooks
        self._rows = rows
        self.callbacks = sorted(callbacks, key=lambda callback: callback.writes)
        hooks_of = [(callback, callback.hooks()) for callback in self.callbacks]
        self._heard = {hook for _, hooks in hooks_of for hook in hooks}
        if self.workers.size > 1:  # they call a hook together
            self._heard = set().union(*self.workers.gather(self._heard))
        self._hooks: dict[str, list[tuple[Callback, Callable[[Run], Any]]]] = {
            hook: [(callback, hooks[hook]) for callback, hooks in hooks_of if hook in hooks and self._calls(callback)]
            for hook in HOOKS
        }
        self._started: list[Callback] = []
        self._displays: list[Display] = []  # the progress
        self._pieces: Generator[Piece] | None = None
        self._signal: int | None = None  # one that has come, and acts at the next batch boundary
        self.noted: int | None = None  # one that has come to this worker, of which the others may not know yet
        self._signals = 0
        self._ending = False
        self._handlers, self._surrounded, self._shown = Handlers(self._note_signal), surrounded, shown
        self._since = time.perf_counter()
        # Divergence is found by looking at the loss and the gradient, so NumPy need not warn about it as well.
        self._errstate: AbstractContextManager[Any] = nullcontext() if surrounded else np.errstate(all="ignore")

    def __enter__(self) -> Self:
        """Begin: signal handlers, then ``on_train_begin``."""
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
            with self._together(self.agree):
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
            self._attempt(partial(self._end_together, error))
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
        if self._signal is not None and isinstance(error, SystemExit) and notes and self.workers.rank == 0:
            sys.stderr.write(f"{self.run.stop_reason}; {notes[0]}\n")

    def _end_together(self, error: BaseException | None) -> None:
        """Check that the run can be saved; an error of one worker's end is raised on all, if training had no error."""
        if self.run.error is None:
            self._attempt(self.run.require_savable)
        late = self.run.error
        # Otherwise the others may still be in a step.
        several = self.workers.size > 1
        if several and error is None and (late is None or isinstance(late, Exception)):
            self.agree(late)

    def _tell(self, error: BaseException | None) -> None:
        """Restore buffers after an error; annotate where divergence began."""
        in_step = self.run.in_step and not hasattr(error, "run")  # an error with a run comes from a fit in a callback
        if error is not None:
            self.run.put_back()
        if isinstance(error, DivergedError):
            for line in self._explained() if in_step else [place_of(self.run), kept(self.run)]:
                error.add_note(line)

    def _explained(self) -> list[str]:
        """Return why the step diverged, computed as the step was; and whether subnormal numbers are behind it."""
        with self.flushing:
            lines = explain(self.run, self._rows)
            flushed = self.flushing.active
        if flushed and explain(self.run, self._rows) != lines:
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
        if not np.isfinite(self.run.model.parameters.vector).all():
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

    def hears(self, *hooks: str) -> bool:
        """Return whether some callback has one of these hooks, on any worker."""
        return not self._heard.isdisjoint(hooks)

    def call(self, hook: str) -> None:
        """Call a hook of every callback that has it; an error gains a note that says where it happened."""
        if hook not in self._heard:
            return
        with self.flushing.lifted(), self._together(self.agree):
            calls = self._hooks[hook]
            for place, (callback, function) in enumerate(calls, 1):
                self.run.waiting = [later for later, _ in calls[place:]]
                self._call(callback, function, hook)

    def _calls(self, callback: Callback) -> bool:
        """Return whether this worker calls a callback: one that writes is called by the first worker alone."""
        return self.workers.rank == 0 or not callback.writes

    def _together(self, *agree: Callable[..., None]) -> AbstractContextManager[None]:
        """Do something on all workers; an error on one of them is raised on all. For one worker, nothing is done."""
        return self.workers.together(*agree) if self.workers.size > 1 else nullcontext()

    def agree(self, error: Exception | None = None) -> None:
        """Let all workers know of an error, a stop or a signal of one of them. An error of one is raised on all."""
        run, workers = self.run, self.workers
        told = workers.gather((failure_of(error), run.stop_reason, self.noted))
        reasons = [reason for _, reason, _ in told if reason is not None]
        signals = [number for _, _, number in told if number is not None]
        if reasons:
            run.stop_reason = reasons[0]
        if signals:
            self._signal = max(signals)  # SIGTERM before Ctrl-C
        require_success([failure for failure, _, _ in told], workers.rank, error)

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
            if isinstance(error, OSError) and self.workers.size > 1 and not callback.writes:
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

    def unfinished(self, pieces: Generator[Piece]) -> Iterator[Piece]:
        """Give each piece of an epoch again and again until its rows are done, or until training is to stop."""
        run, self._pieces = self.run, pieces
        for piece in self._read_together(pieces):
            with self.flushing:
                while piece.place < piece.count:
                    if self._signal is not None:
                        self._raise_signal()
                    if run.stop_reason is not None:
                        return
                    yield piece
                    if self._displays and run.batch != run.batches:  # else after the hooks, whose text needs room
                        self._show()
        self.require_finite_weights()  # so that they are neither judged, nor saved, nor the best
        self._raise_signal()

    def _read_together(self, pieces: Generator[Piece]) -> Iterator[Piece]:
        """Give the pieces, of which all workers have equally many rows; an error of one reader is raised on all."""
        while True:
            with self._together():
                piece = next(pieces, None)
            rows = 0 if piece is None else piece.count - piece.place
            if self.workers.size > 1:
                self.workers.require_equal({f"the rows read next in epoch {self.run.epoch + 1}": rows})
            if piece is None:
                return
            yield piece

    def end_epoch(self, results: dict[str, float]) -> None:
        """Add the row of a finished epoch to the history, and call ``on_epoch_end``.

        Raises:
            UsageError: The workers have other parameters or buffers.
        """
        self._tick()
        if self.workers.size > 1:
            self.workers.require_equal(numbers_of(self.run.model), "after the epoch: ")
            self.run.seconds = self.workers.broadcast(self.run.seconds)
            self.agree()
        self.run.finish_epoch(results)
        self.call("on_epoch_end")
        self.run.require_savable()

    def _show(self) -> None:
        """Bring the progress up to date."""
        for display in self._displays:
            display.show(self.run)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.run.seconds += now - self._since
        self._since = now

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self.noted = number
        if self.workers.size == 1:
            self._signal = number
        self._signals += 1
        # The second one acts at once; at the end, where a save may be at work, the third: a hook may hang there.
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
