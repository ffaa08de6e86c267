"""The errors of the framework: every one is a FrameworkError and also the built-in error that fits.

    FrameworkError
    ├── SettingsError    (ValueError)       a setting or argument is unknown, missing or out of range
    ├── CallbackError    (TypeError)        a hook is misspelt or takes the wrong arguments
    ├── DataError        (ValueError)       data holds something that no model can learn from
    │   ├── ShapeError   (ValueError)       two shapes do not fit together
    │   └── DtypeError   (TypeError)        the values are not real numbers
    ├── UsageError       (RuntimeError)     a call came out of order: backward before forward, a layer with two owners
    ├── DerivativeError  (ArithmeticError)  a formula has no derivative, or a wrong one
    ├── DivergedError    (ArithmeticError)  a loss or gradient is no longer finite
    └── CheckpointError  (OSError)          a checkpoint cannot be written, or is damaged, foreign or from elsewhere

and one warning: ResumeWarning (UserWarning), a run is resumed with other settings or data

A message names the argument, what was expected, what came, and what to do next. It comes before anything is changed.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable


class FrameworkError(Exception):
    """The base class of what this package raises itself, except for absent names, keys and indexes."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that Jupyter shows: the caller's and the message, without those of this package."""
        inside = {__name__.partition(".")[0], "pydantic", "IPython"}
        frames = traceback.StackSummary.extract(
            (frame, line)
            for frame, line in traceback.walk_tb(self.__traceback__)
            if frame.f_globals.get("__name__", "").partition(".")[0] not in inside
        )
        return "".join([*frames.format(), *traceback.format_exception_only(self)]).splitlines()


class SettingsError(FrameworkError, ValueError):
    """A setting is unknown, missing, of the wrong kind or out of range."""


class CallbackError(FrameworkError, TypeError):
    """A callback class has a misspelt hook, or a hook that does not take exactly ``run``."""


class DataError(FrameworkError, ValueError):
    """Data holds something that no model can learn from: NaN, an impossible label, no rows."""


class ShapeError(DataError):
    """Two shapes do not fit together."""


class DtypeError(DataError, TypeError):
    """The values are not real numbers: text, objects, dates, complex or masked numbers."""


class UsageError(FrameworkError, RuntimeError):
    """A call came out of order, an object is in use elsewhere, or a method of a user's class fails on arrays."""


class DerivativeError(FrameworkError, ArithmeticError):
    """A formula has no derivative."""


class DivergedError(FrameworkError, ArithmeticError):
    """A loss or a gradient is no longer finite; the update was not applied.

    Attributes:
        row: The place in the batch of the first row whose loss is not finite. The message has it as ``{row}``: a part
            of a batch counts within itself, and the caller that has cut the batch adds the rows before the part.
    """

    row: int = 0

    def __str__(self) -> str:
        return super().__str__().replace("{row}", str(self.row))


class CheckpointError(FrameworkError, OSError):
    """A checkpoint cannot be written or read: no such file, damaged, of another format, or of unknown classes."""


class ResumeWarning(UserWarning):
    """A run is resumed with other settings, data or library versions than it started with; the message lists them."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean 'beta'?`` for the choice most like ``name``, or nothing when none is like it.

    Example:
        >>> nearest("momentun", ["learning_rate", "momentum"])
        "; did you mean 'momentum'?"
        >>> nearest("HUE", ["age", "hue"])
        "; did you mean 'hue'?"
        >>> nearest("zzz", ["learning_rate"])
        ''
    """
    choices = list(choices)
    similar = [choice for choice in choices if str(choice).casefold() == str(name).casefold()]
    similar = similar or difflib.get_close_matches(str(name), choices, n=1)
    return f"; did you mean {similar[0]!r}?" if similar else ""


def misspelt(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that differs from ``name`` in one letter of four or more, or in two that changed places.

    The first letter is the same: few people mistype it, and many short names differ in it alone.

    Example:
        >>> misspelt("momentun", ["learning_rate", "momentum"]), misspelt("Conv3D", ["Conv1D"])
        ('momentum', None)
    """
    for choice in difflib.get_close_matches(name, [choice for choice in choices if choice[:1] == name[:1]], n=3):
        same = difflib.SequenceMatcher(None, choice, name).ratio() * (len(name) + len(choice)) / 2
        if same >= max(len(name), len(choice), 4) - 1 and re.sub(r"\D", "", name) == re.sub(r"\D", "", choice):
            return choice
    return None
