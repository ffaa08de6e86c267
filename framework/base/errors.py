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

An error is data: what is wrong, of which argument, where, what came, and what to do next. Python and the command line
write the advice differently, each in one place. An error comes before anything is changed.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple, Self


class Text(str):
    """Text that ``repr`` writes without quotes, to describe what came: ``got=Text("no rows")``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Setting(NamedTuple):
    """A setting in advice: ``str`` writes it as in Python, ``delimiter=';'``, a command as its flag."""

    name: str
    value: Any

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}".replace("=(Ellipsis,", "=(...,", 1)


@dataclass(frozen=True, init=False)
class Advice:
    """The advice of an error on what to do.

    Attributes:
        words: Text, and settings, which a command writes differently.
        command: What a command says instead; empty for the same words.
        after: What stands between the text before and the advice: a new sentence, such as a list of ``Columns: ...``,
            follows a full stop, and other words a semicolon.

    Example:
        >>> print(Advice("write ", Setting("delimiter", ";")))
        write delimiter=';'
    """

    words: tuple[str | Setting, ...]
    command: str
    after: str

    def __init__(self, *words: str | Setting, command: str = "", after: str = "") -> None:
        """Hold the words."""
        sentence = re.match("[A-Z][a-z]", str(words[0]))
        vars(self).update(words=words, command=command, after=after or (". " if sentence else "; "))

    def __str__(self) -> str:
        return "".join(map(str, self.words))


class FrameworkError(Exception):
    """The base class of what this package raises itself, except for absent names, keys and indexes.

    Attributes:
        problem: What is wrong, without the other fields.
        argument: The name of the argument, setting or column that is wrong; None if it is none of them.
        got: What came instead; ``...`` if the problem says it, or nothing came.
        where: Where it happened, from the outside to the inside, such as ``("fit", "output 'price'")``.
        advice: What to do next.
        subject: The first words of the sentence, such as ``setting 'rate'``; empty if the problem has them.
        expected: What was expected, such as ``"dates"``, where a program has to know it; else empty.
        row: The number of the row of data that is wrong, if one is.
        faults: The errors of several settings, of which this one is the list.

    Example:
        >>> error = SettingsError("must be positive", name="SGD: setting 'rate'", got=-1, advice="write rate=0.1")
        >>> print(error.within("output 'price'"))
        output 'price': SGD: setting 'rate' must be positive; got -1; write rate=0.1
        >>> error.argument, error.where
        ('rate', ("output 'price'", 'SGD'))
    """

    def __init__(
        self,
        problem: str = "",
        *,
        name: str = "",
        argument: str | None = None,
        expected: str = "",
        got: Any = ...,
        where: str | tuple[str, ...] = (),
        advice: Advice | str | None = None,
        row: int | None = None,
        faults: Iterable[FrameworkError] = (),
    ) -> None:
        """Hold the fields; ``name`` is where and what, as functions pass it on, such as ``fit: argument 'x'``."""
        super().__init__(problem)
        places = name.split(": ")
        self.subject = places.pop()
        self.row, self.faults = row, (*faults,)
        named = re.match(r"\w+ '(.*?)'|(\w+)$", self.subject)
        self.argument = argument or (named and (named[1] or named[2]))
        self.argument = self.argument or (self.faults[0].argument if self.faults else None)
        self.problem, self.expected, self.got = problem, expected, got
        self.where = (*([where] if isinstance(where, str) else where), *places)
        self.advice: tuple[Advice, ...] = ()
        self.advise(advice)

    @classmethod
    def of(cls, error: Exception, *where: str) -> Self:
        """Return an error of this class with the fields of another one, or with the text of one from elsewhere."""
        made = cls(f"{type(error).__name__}: {error}")
        if isinstance(error, FrameworkError):
            vars(made).update((name, value) for name, value in vars(error).items() if name in vars(made))
            made.args = error.args
        made.where = (*where, *made.where)
        return made

    def within(self, *where: str) -> Self:
        """Add where the error happened, as seen from further outside, and return the error."""
        self.where = (*where, *self.where)
        return self

    def advise(self, advice: Advice | str | None) -> Self:
        """Add advice after that which there is, and return the error."""
        self.advice += (Advice(advice) if isinstance(advice, str) else advice,) if advice else ()
        return self

    def render(self, write: Callable[[Advice], str] = str) -> str:
        """Return the message, with the advice as a function writes it."""
        words = [f"{where}: " for where in self.where] + [self.subject and f"{self.subject} "]
        words += [self._sentence(), "\n".join(fault.render(write) for fault in self.faults)]
        text = "".join([*words, "" if self.got is ... else f"; got {_brief(self.got)}"])
        for advice in self.advice:
            text += (" " if text.endswith("?") and advice.after == ". " else advice.after) + write(advice)
        return text

    def _sentence(self) -> str:
        """Return the problem; a subclass adds its own fields."""
        return str(self.problem)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what came as its text: it may be anything, such as a function."""
        plain = self.got is None or isinstance(self.got, bool | int | float | str | EllipsisType)
        return type(self), self.args, vars(self) | {"got": self.got if plain else Text(_brief(self.got))}

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _render_traceback_(self) -> list[str]:
        """Return the lines that Jupyter shows: the caller's and the message, without those of this package."""
        inside = {__name__.partition(".")[0], "pydantic", "IPython"}
        frames = traceback.StackSummary.extract(
            (frame, line)
            for frame, line in traceback.walk_tb(self.__traceback__)
            if frame.f_globals.get("__name__", "").partition(".")[0] not in inside
        )
        return "".join([*frames.format(), *traceback.format_exception_only(self)]).splitlines()


@contextmanager
def within(*where: str) -> Iterator[None]:
    """Add to the errors of a block where they happened, from the outside to the inside; leave out empty texts.

    Example:
        >>> with within("output 'late'"):
        ...     raise ShapeError("target must have the shape of the output")
        Traceback (most recent call last):
        framework.base.errors.ShapeError: output 'late': target must have the shape of the output
    """
    try:
        yield
    except FrameworkError as error:
        error.within(*filter(None, where))
        raise


def _brief(value: object) -> str:
    if isinstance(value, Text):
        return value
    from framework.base.settings.messages import brief  # noqa: PLC0415 (it imports this module)

    return brief(value)


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
        row: The place in the batch of the first row whose loss is not finite. A part of a batch counts within itself,
            and the caller that has cut the batch adds the rows before the part.
        state: The output in that row; empty if no row is known.
    """

    row: int

    def __init__(self, problem: str = "", *, state: str = "", row: int = 0, **fields: Any) -> None:
        """Hold the fields."""
        super().__init__(problem, row=row, **fields)
        self.state = state

    def _sentence(self) -> str:
        if not self.state:
            return super()._sentence()
        return f"{self.problem}, first at row {self.row} of the batch, where {self.state}; the update was not applied"


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
