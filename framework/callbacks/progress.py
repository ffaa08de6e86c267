"""ProgressBar: how far a training is, on a terminal, in a notebook or in a log file."""

from __future__ import annotations

import os
import sys
import time
from importlib.util import find_spec
from typing import Any, ClassVar

from framework.callbacks.base import Callback
from framework.runs.run import Run
from framework.settings.component import Positive
from framework.settings.messages import printable
from framework.tables import COUNTERS, duration, figure


class ProgressBar(Callback):
    """Show epochs, rate, remaining time and the newest figures; batches too when asked.

    On a terminal it draws tqdm's bars, as wide as the terminal: figures that do not fit are left out whole. In a
    notebook it is a widget if ipywidgets is installed, else a bar of text. Anywhere else, as in a log file or a pipe,
    it writes lines: after the first and the last epoch, and in between at most one in ``seconds``, and at most one in a
    twentieth of the time so far. All but a notebook's go to standard error.

    Attributes:
        batches: Whether the batches of each epoch are shown too. The compiled engine then stops after every batch.
        keys: The columns shown; all of the row's when empty.
        seconds: The least time between two lines.

    Example:
        >>> ProgressBar(batches=True, keys=("loss", "val_loss")).batches
        True

    Source:
        https://tqdm.github.io
    """

    writes: ClassVar[bool] = True
    observes: ClassVar[bool] = True

    batches: bool = False
    keys: tuple[str, ...] = ()
    seconds: Positive = 10.0

    def required_keys(self) -> tuple[str, ...]:
        return self.keys

    def hooks(self) -> dict[str, Any]:
        """Return the hooks; without batches to show, batches cost nothing."""
        hooks = super().hooks()
        if not self.batches:
            del hooks["on_batch_end"], hooks["on_epoch_begin"]
        return hooks

    def on_train_begin(self, run: Run) -> None:
        """Begin to show; also an epoch that is not finished."""
        bars, options = _bars()
        display = _Bars(run, self.keys, **options) if bars else _Lines(run, self.keys, self.seconds)
        run.live(self)["display"] = display
        if run.epoch_begun:
            self.on_epoch_begin(run)

    def on_epoch_begin(self, run: Run) -> None:
        if self.batches:
            run.live(self)["display"].begin_epoch(run)

    def on_batch_end(self, run: Run) -> None:
        run.live(self)["display"].batch(run)

    def on_epoch_end(self, run: Run) -> None:
        run.live(self)["display"].epoch(run)

    def on_train_end(self, run: Run) -> None:
        if "display" in run.live(self):
            run.live(self)["display"].end(run)


def _bars() -> tuple[bool, dict[str, Any]]:
    """Return whether bars can be drawn, and how."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        text = {"file": sys.stdout, "ncols": 100, "nested": False, "mininterval": 0.5}
        return True, text if find_spec("ipywidgets") is None else {"widget": True}
    terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return terminal and _columns(sys.stderr) > 0, {"file": sys.stderr, "dynamic_ncols": True}


def _columns(stream: Any) -> int:
    """Return the width of a terminal; 0 if it has none, as under some programs that run others, or does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0


def _bar(*, widget: bool = False, **options: Any) -> Any:
    # Imported here because it is too slow for `import framework`.
    if widget:
        from tqdm.notebook import tqdm  # noqa: PLC0415
    else:
        from tqdm import tqdm  # noqa: PLC0415

    return tqdm(miniters=1, **options)  # 1: the time alone says when to draw, without a guess of how fast batches come


def _pairs(row: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    shown = keys or [key for key in row if key not in (*COUNTERS, "learning_rate")]
    return [f"{printable(key)}={row[key]:.4g}" for key in shown if key in row]


class _Bars:
    """A bar of epochs, and below it one of the batches of an epoch; or, not nested, the batch in the bar of epochs."""

    def __init__(self, run: Run, keys: tuple[str, ...], *, nested: bool = True, **options: Any) -> None:
        self.keys, self.nested, self.options = keys, nested, options
        self.batches: Any = None
        self.epochs = _bar(total=run.target_epoch, initial=run.epoch, unit="epoch", leave=True, **options)

    def begin_epoch(self, run: Run) -> None:
        if self.nested:
            options = {"desc": f"epoch {run.epoch + 1}", "unit": "batch", "leave": False, **self.options}
            self.batches = _bar(total=run.batches or None, initial=run.batch, **options)

    def batch(self, run: Run) -> None:
        bar = self.epochs if self.batches is None else self.batches
        if _due(bar):
            place = [] if bar is self.batches else [_batch(run)]
            _put(bar, [*place, f"loss={run.batch_loss:.4g}"])
            self.epochs.refresh()  # whose time has moved on
            self.epochs.last_print_t = time.time()
        if bar is self.batches:
            bar.update()

    def epoch(self, run: Run) -> None:
        if self.batches is not None:
            self.batches.close()
            self.batches = None
        if _due(self.epochs):
            _put(self.epochs, _pairs(run.history[-1], self.keys))
        self.epochs.update()

    def end(self, run: Run) -> None:
        if self.batches is not None:
            self.batches.close()
        if len(run.history):
            _put(self.epochs, _pairs(run.history[-1], self.keys))
        self.epochs.close()
        if run.stop_reason is not None and run.error is None:
            _write(self.options.get("file", sys.stdout), f"stopped: {printable(run.stop_reason)}")


def _due(bar: Any) -> bool:
    """Return whether a bar is drawn at its next update."""
    return not bar.disable and bool(time.time() - bar.last_print_t >= bar.mininterval)


def _put(bar: Any, pairs: list[str]) -> None:
    """Write figures behind a bar, as many as fit into its line: a number that is cut off would be another one."""
    if bar.disable:  # as TQDM_DISABLE=1 in the environment asks for
        return
    form = bar.format_dict
    width, form["ncols"] = form["ncols"], None
    while pairs and width and len(bar.format_meter(**form | {"postfix": ", ".join(pairs)})) > width:
        pairs = pairs[:-1]
    bar.set_postfix_str(", ".join(pairs), refresh=False)


class _Lines:
    """Lines for a log: after the first and the last epoch, and ever fewer in between."""

    def __init__(self, run: Run, keys: tuple[str, ...], seconds: float) -> None:
        self.keys, self.seconds = keys, seconds
        self.begun = self.written = time.monotonic()
        self.start = self.shown = _place(run)
        self.lines = 0

    def begin_epoch(self, run: Run) -> None:
        """Write nothing."""

    def batch(self, run: Run) -> None:
        if run.batch_loss is not None and self._due():
            place = f"epoch {run.epoch + 1}/{run.target_epoch}, {_batch(run)}"
            self._write(run, f"{place}: loss={run.batch_loss:.4g}")

    def epoch(self, run: Run) -> None:
        if self.lines == 0 or run.epoch == run.target_epoch or self._due():
            self._write_epoch(run)

    def end(self, run: Run) -> None:
        if len(run.history) and self.shown < run.epoch:
            self._write_epoch(run)
        if run.stop_reason is not None and run.error is None:
            _write(sys.stderr, f"stopped: {printable(run.stop_reason)}")

    def _due(self) -> bool:
        now = time.monotonic()
        return now - self.written >= max(self.seconds, (now - self.begun) / 20)

    def _write_epoch(self, run: Run) -> None:
        self._write(run, f"epoch {run.epoch}/{run.target_epoch}: {', '.join(_pairs(run.history[-1], self.keys))}")

    def _write(self, run: Run, text: str) -> None:
        self.written, self.shown = time.monotonic(), _place(run)
        self.lines += 1
        done, seconds = self.shown - self.start, self.written - self.begun
        if done > 0 and seconds > 0:
            each, left = seconds / done, 0 if run.stop_reason is not None else run.target_epoch - self.shown
            rate = f"{figure(float(f'{1 / each:.3g}'))} epochs/s" if each < 1 else f"{duration(each)} an epoch"
            text += f" ({rate}, {duration(each * left)} left)" if left > 0 else f" ({rate}, {duration(seconds)} in all)"
        _write(sys.stderr, text)


def _write(stream: Any, line: str) -> None:
    if stream is not None:  # as in a window without a console
        stream.write(f"{line}\n")
        stream.flush()


def _batch(run: Run) -> str:
    return f"batch {run.batch}{f'/{run.batches}' if run.batches else ''}"


def _place(run: Run) -> float:
    """Return how many epochs are done, with the part of the one that is not finished."""
    return run.epoch + (run.batch / run.batches if run.batches else 0.0)
