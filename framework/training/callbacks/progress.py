"""ProgressBar: how far a training is, on a terminal, in a notebook or in a log file."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from framework.base.settings.component import NonNegative, Positive
from framework.base.settings.messages import is_ours, printable
from framework.base.tables import COUNTERS, duration, figure
from framework.training.callbacks.base import Callback, FunctionCallback
from framework.training.runs.run import Run

DELAY = 1.0
"""After how many seconds the default bar of a trainer appears."""


class ProgressBar(Callback):
    """Show epoch, batch, rate, remaining time and the newest figures.

    A ``Trainer`` without one shows a bar by itself if standard error is a terminal and training lasts over a second;
    ``Trainer(progress=False)`` does not.

    On a terminal it draws a bar of tqdm, as wide as the terminal: figures that do not fit are left out whole. Ten
    times a second, between chunks of steps, it is brought up to date, and makes room for what your hooks print. In a
    notebook it is a widget if ipywidgets is installed, else a bar of text. Anywhere else, as in a log file or a pipe,
    it writes lines: after the first and the last epoch, and in between at most one in ``seconds``, and at most one in a
    twentieth of the time so far. All but a notebook's go to standard error.

    Attributes:
        keys: The columns shown; all of the row's when empty.
        seconds: The least time between two lines.
        delay: When a bar appears, in seconds; a training that is over by then shows none.

    Example:
        >>> ProgressBar(keys=("loss", "val_loss")).keys
        ('loss', 'val_loss')

    Source:
        https://tqdm.github.io
    """

    writes: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    keys: tuple[str, ...] = ()
    seconds: Positive = 10.0
    delay: NonNegative = 0.0

    def required_keys(self) -> tuple[str, ...]:
        return self.keys

    def display(self, run: Run) -> Display:
        """Return what shows runs that last as long as this one: a bar, or lines."""
        options = _bar_options()
        return Lines(run, self.keys, self.seconds) if options is None else Bar(run, self.keys, self.delay, options)

    def on_train_begin(self, run: Run) -> None:
        run.live(self)["display"] = self.display(run)

    def on_train_end(self, run: Run) -> None:
        """Show the newest row, and why training stopped."""
        display = run.live(self).get("display")
        if display is not None and display.end(run) and run.stop_reason is not None and run.error is None:
            _write(display.stream, f"stopped: {printable(run.stop_reason)}")


def make_bars(callbacks: Sequence[Callback]) -> list[ProgressBar]:
    """Return the bar of a trainer that has none among its callbacks, if there is a terminal."""
    wanted = _is_terminal() and not any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [ProgressBar(delay=DELAY)] if wanted else []


def _bar_options() -> dict[str, Any] | None:
    """Return how a bar is drawn; None where it cannot be."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return {"file": sys.stdout, "ncols": 100} if find_spec("ipywidgets") is None else {"widget": True}
    return {"file": sys.stderr, "dynamic_ncols": True} if _is_terminal() else None


def _is_terminal() -> bool:
    """Return whether standard error is a terminal that can go back in a line and says how wide it is."""
    stream = sys.stderr
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        return False


def _bar(*, widget: bool = False, **options: Any) -> Any:
    # Imported here because it is too slow for `import framework`.
    if widget:
        from tqdm.notebook import tqdm  # noqa: PLC0415
    else:
        from tqdm import tqdm  # noqa: PLC0415

    # The display says when to draw. A bar within another one goes at its end.
    return tqdm(mininterval=0.0, miniters=0, unit="epoch", leave=None, **options)


class Display(ABC):
    """Shows a run whenever it is due; the base of a bar and of lines.

    Attributes:
        due: When it is shown next, on the monotonic clock.
        stream: Where it is written.
    """

    def __init__(self, run: Run, keys: tuple[str, ...], wait: float, stream: Any) -> None:
        self.keys, self.stream, self.begun, self.start = keys, stream, time.monotonic(), _count_epochs(run)
        self.due = self.begun + wait

    def begin(self, run: Run) -> None:
        """Say which layers Python runs; NumPy, a kernel and JAX run the others."""
        if layers := run.recipe.get("python"):
            _write(self.stream, f"Python runs the passes that are written by hand: layer {printable(layers)}")

    def show(self, run: Run) -> None:
        """Show it if it is due: called after every chunk of steps and every epoch."""
        if time.monotonic() >= self.due:
            self.draw(run)

    @abstractmethod
    def draw(self, run: Run) -> None:
        """Show it, and set when it is shown next."""

    def clear(self, callback: Callback) -> None:  # noqa: B027 (lines need no room)
        """Make room for what a hook of this callback may print; a later ``show`` draws it again."""

    @abstractmethod
    def end(self, run: Run) -> bool:
        """Show the last row; return whether anything was shown."""

    def pairs(self, run: Run) -> list[str]:
        """Return the figures of the newest row; within an epoch, the loss is the epoch's mean so far."""
        row = run.history[-1] if len(run.history) else {}
        if run.batch and "loss" in run.sums:
            total, count = run.sums["loss"]
            row = {**row, "loss": total / count}
        first = [key for key in ("loss", "val_loss") if key in row]  # a narrow terminal has no room for all
        keys = self.keys or [key for key in dict.fromkeys([*first, *row]) if key not in (*COUNTERS, "learning_rate")]
        return [f"{printable(key)}={row[key]:.4g}" for key in keys if key in row]


class Bar(Display):
    """A bar that appears after a delay."""

    def __init__(self, run: Run, keys: tuple[str, ...], delay: float, options: dict[str, Any]) -> None:
        super().__init__(run, keys, delay, options.get("file", sys.stdout))
        self.options, self.since = options, time.time()
        self.bar: Any = None
        self.stands = False  # in the line that hooks print into
        self.show(run)

    def draw(self, run: Run) -> None:
        self.due = time.monotonic() + (0.1 if self.stream is sys.stderr else 0.5)
        if self.bar is None:
            self.begin(run)
            form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
            self.options |= {"total": run.target_epoch, "initial": self.start, "desc": _position(run)}
            self.bar = _bar(bar_format=form, **self.options)
            self.bar.start_t = self.bar.last_print_t = self.since
        if not self.bar.disable:  # as TQDM_DISABLE=1 in the environment asks for
            self.bar.set_description_str(_position(run), refresh=False)
            pairs, form = self.pairs(run), self.bar.format_dict
            width, form["ncols"] = form["ncols"], None  # a number that is cut off would be another one
            while pairs and width and len(self.bar.format_meter(**form | {"postfix": ", ".join(pairs)})) > width:
                pairs = pairs[:-1]
            self.bar.set_postfix_str(", ".join(pairs), refresh=False)
            self.bar.update(_count_epochs(run) - self.bar.n)
            self.stands = "file" in self.options  # a widget has a place of its own

    def clear(self, callback: Callback) -> None:
        # Callbacks of the library print nothing, and a bar that is drawn again after each of them would flicker.
        own = is_ours(type(callback).__module__) and not isinstance(callback, FunctionCallback)
        if self.stands and not own and (self.stream is sys.stderr or time.monotonic() >= self.due):
            self.bar.clear()
            self.stands = False
            self.due -= 0.08  # else it would be gone for most of the time

    def end(self, run: Run) -> bool:
        if self.bar is None:
            return False
        self.draw(run)
        self.bar.close()
        return True


class Lines(Display):
    """Lines for a log: after the first and the last epoch, and ever fewer in between.

    Within an epoch there is one only if the epoch is so long that its end comes ``seconds`` too late for the next line.
    """

    def __init__(self, run: Run, keys: tuple[str, ...], seconds: float) -> None:
        super().__init__(run, keys, 0.0, sys.stderr)
        self.seconds, self.shown = seconds, _position(run)
        self.begin(run)

    def show(self, run: Run) -> None:
        if self.shown != _position(run) and (not run.batch or time.monotonic() >= self.due + self.seconds):
            super().show(run)

    def draw(self, run: Run) -> None:
        now = time.monotonic()
        self.due = now + max(self.seconds, (now - self.begun) / 19)  # a twentieth of the time so far, when it is over
        self.shown, finished = _position(run), _count_epochs(run)
        text = f"{self.shown}: {', '.join(self.pairs(run))}"
        done, seconds = finished - self.start, now - self.begun
        if done > 0 and seconds > 0:
            an_epoch, left = seconds / done, 0 if run.stop_reason is not None else run.target_epoch - finished
            rate = (
                f"{figure(float(f'{1 / an_epoch:.3g}'))} epochs/s" if an_epoch < 1 else f"{duration(an_epoch)} an epoch"
            )
            text += (
                f" ({rate}, {duration(an_epoch * left)} left)" if left > 0 else f" ({rate}, {duration(seconds)} in all)"
            )
        _write(self.stream, text)

    def end(self, run: Run) -> bool:
        if self.shown != _position(run):
            self.draw(run)
        return True


def _write(stream: Any, line: str) -> None:
    if stream is not None:  # as in a window without a console
        stream.write(f"{line}\n")
        stream.flush()


def _position(run: Run) -> str:
    if not run.batch:
        return f"epoch {run.epoch}/{run.target_epoch}"
    return f"epoch {run.epoch + 1}/{run.target_epoch}, batch {run.batch}{f'/{run.batches}' if run.batches else ''}"


def _count_epochs(run: Run) -> float:
    """Return how many epochs are done, with the part of the one that is not finished."""
    return run.epoch + (run.batch / run.batches if run.batches else 0.0)
