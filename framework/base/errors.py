"""The errors of the framework: each below is a FrameworkError and also the built-in error that fits.

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
from types import NoneType
from typing import Any, NamedTuple, Self


class Text(str):
    """Text that ``repr`` writes without quotes, to describe what came: ``got=Text("no rows")``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def brief(value: object) -> str:
    """Return ``repr(value)``, shortened in the middle if it is long; a Text as it is.

    Example:
        >>> brief("short"), len(brief(list(range(1000))))
        ("'short'", 200)
    """
    if isinstance(value, Text):
        return value
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (also a whole number of more digits than Python writes)
        return "a value too long to show" if isinstance(value, int) else f"a {type(value).__name__}"
    return shorten(re.sub(r"\n\s*", " ", text))  # as of an array


def shorten(text: str) -> str:
    """Return text, shortened in the middle if it has more than 200 characters.

    Example:
        >>> shorten("short"), len(shorten("long" * 100))
        ('short', 200)
    """
    return text if len(text) <= 200 else f"{text[:150]} ... {text[-45:]}"


_PLACES = re.compile(r""": (?=(?:\\.|[^'"\\]|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")*$)""")
"""The colons between the places of a name; those in quotes are part of a place."""
_NAMED = re.compile(r"""(?:argument|setting|parameter|column|metric) (?P<quote>['"])(.*)(?P=quote)|([a-z_]\w*)""")


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
        sentence = re.match("[A-Z][a-z ]", "".join(map(str, words[:1])))
        vars(self).update(words=words, command=command, after=after or (". " if sentence else "; "))

    def __str__(self) -> str:
        return "".join(map(str, self.words))


class FrameworkError(Exception):
    """The base class of what this package raises itself, except for absent names, keys and indexes.

    Attributes:
        problem: The sentence on the problem, such as ``"must be positive"``.
        argument: The name of the wrong argument, setting or column, or None.
        got: What came instead, of long values and other objects a short text; empty if the problem says it.
        where: Where it happened, from the outside to the inside, such as ``("fit", "output 'price'")``.
        advice: What to do next.
        subject: The first words of the sentence, such as ``setting 'rate'``; empty if the problem has them.
        expected: A word for what was expected, such as ``"dates"``, by which a caller chooses its advice; often empty.
        row: The number of the row of data that is wrong, if one is; the problem may name it as ``{row}``.
        faults: The errors of several settings, of which this one is the list; they say where it happened.

    Example:
        >>> error = SettingsError("must be positive", name="SGD: setting 'rate'", got=-1, advice="write rate=0.1")
        >>> print(error.within("output 'price'"))
        output 'price': SGD: setting 'rate' must be positive; got -1; write rate=0.1
        >>> error.argument, error.where
        ('rate', ("output 'price'", 'SGD'))
    """

    problem: str = ""
    argument: str | None = None
    got: Any = Text()
    where: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    subject: str = ""
    expected: str = ""
    row: int | None = None
    faults: tuple[FrameworkError, ...] = ()

    def __init__(
        self,
        problem: object = "",
        *args: object,
        name: str = "",
        argument: str | None = None,
        expected: str = "",
        got: Any = got,
        where: str | tuple[str, ...] = (),
        advice: Advice | str | None = None,
        row: int | None = None,
        faults: Iterable[FrameworkError] = (),
    ) -> None:
        """Hold the fields; ``name`` is where and what, as functions pass it on, such as ``fit: argument 'x'``."""
        super().__init__(problem, *args)
        *places, self.subject = _PLACES.split(name)
        named = _NAMED.fullmatch(self.subject)
        self.problem, self.faults = super().__str__() if args else str(problem), (*faults,)
        first = [fault.argument for fault in self.faults[:1]]
        self.argument = next(filter(None, (argument, *(named.group(2, 3) if named else first))), None)
        plain = isinstance(got, int | float | NoneType | Text) or (isinstance(got, str) and len(got) <= 200)
        self.got = got if plain else Text(brief(got))  # a list may change, and an array would live with the error
        self.expected, self.row = expected, self.row if row is None else row
        self.where = (*([where] if isinstance(where, str) else where), *places)
        self.advise(advice)

    @classmethod
    def of(cls, error: Exception, *where: str) -> Self:
        """Return an error of this class with the fields of another one, or with the text of one from elsewhere."""
        made = cls(f"{type(error).__name__}: {error}")
        if isinstance(error, FrameworkError):
            vars(made).update((name, getattr(error, name)) for name in FrameworkError.__annotations__)
            made.args = error.args
        return made.within(*where)

    @property
    def errors(self) -> tuple[FrameworkError, ...]:
        """The errors of a list, without lists; else this one."""
        return tuple(error for fault in self.faults for error in fault.errors) or (self,)

    def within(self, *where: str) -> Self:
        """Add where the error happened, as seen from further outside, and return the error."""
        for error in self.errors:
            error.where = (*where, *error.where)
        return self

    def advise(self, advice: Advice | str | None) -> Self:
        """Add advice after that which there is, and return the error."""
        self.advice += (Advice(advice) if isinstance(advice, str) else advice,) if advice else ()
        return self

    def render(self, write: Callable[[Advice], str] = str) -> str:
        """Return the message, with the advice as a function writes it."""
        words = [f"{where}: " for where in self.where] + [self.subject and f"{self.subject} "]
        words += [self.problem.replace("{row}", str(self.row)) or super().__str__()]
        got = brief(self.got)
        text = "".join([*words, "\n".join(fault.render(write) for fault in self.faults), got and f"; got {got}"])
        for advice in self.advice:
            text += (" " if text.endswith("?") and advice.after == ". " else advice.after) + write(advice)
        return text

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
    """

    row: int = 0


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
