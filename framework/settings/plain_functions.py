"""Plain functions as components: what ``Activation.of(function)`` and its like return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from framework.errors import SettingsError
from framework.settings.component import Component
from framework.settings.messages import brief


class PlainFunction(Component):
    """A component whose formula is a function. It has no JSON form, because JSON holds no functions.

    Attributes:
        function: The formula.
        made_by: How users make it, for the repr and for messages.
    """

    made_by: ClassVar[str]
    function: Callable[..., Any]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Have messages name the class as users do."""
        super().__pydantic_init_subclass__(**options)
        cls.__name__ = cls.made_by

    @classmethod
    def tag(cls) -> str:
        """Return a name that no class of the library has, because the formula is the user's, and is checked as such."""
        return f"function:{cls.__name__}"

    def __repr__(self) -> str:
        return f"{self.made_by}({name_of(self.function)})"

    def __eq__(self, other: object) -> bool:
        """Compare the function by identity, and the other settings by value."""
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.settings(), other.settings()
        return mine.pop("function") is theirs.pop("function") and mine == theirs

    def __hash__(self) -> int:
        """Hash the function by identity."""
        return hash((type(self), id(self.function)))

    def _require_json(self) -> None:
        raise ValueError(f"{self!r} is a Python function, which JSON cannot hold: write it as a class")


def name_of(function: Any) -> str:
    """Return the name of a function, for messages and columns of a history."""
    return str(getattr(function, "__name__", type(function).__name__)).strip("<>")


def require_function(made_by: str, function: object, *arguments: str, names: Iterable[str] = ()) -> None:
    """Check that a function takes these arguments, by position and by name.

    Raises:
        SettingsError: It does not; says what it takes.

    Example:
        >>> require_function("Loss.of", lambda p: p, "prediction", "target")
        Traceback (most recent call last):
        framework.errors.SettingsError: Loss.of: the function must take (prediction, target); lambda takes (p)
    """
    wanted = ", ".join([*arguments, *names])
    if isinstance(function, type | Component) or not callable(function):
        advice = f"; leave out {made_by}" if isinstance(function, Component) else ""
        raise SettingsError(f"{made_by}: the argument must be a function of ({wanted}); got {brief(function)}{advice}")
    try:
        inspect.signature(function).bind(*arguments, **dict.fromkeys(names))
    except ValueError:  # some built-in functions have none
        return
    except TypeError:
        raise SettingsError(
            f"{made_by}: the function must take ({wanted}); {name_of(function)} takes {inspect.signature(function)}"
        ) from None
