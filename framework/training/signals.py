"""Ctrl-C and SIGTERM while training: they end it between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from framework.runs.run import Run


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


def stop_by(number: int, run: Run) -> None:
    """Stop a run because of a signal. Unlike a stop that a callback asked for, this one is over at once."""
    if run.stop_reason is None:
        run.stop("interrupted by Ctrl-C" if number == signal.SIGINT else "ended by SIGTERM")
        run.ended = True


def error_of(number: int) -> BaseException:
    """Return the error that a signal raises."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
