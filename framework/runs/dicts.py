"""CheckedDict: a dict that checks what is put into it, whichever method puts it there."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self


class CheckedDict(dict[str, Any]):
    """A dict in which everything goes through ``update``, which the subclass writes.

    Example:
        >>> class Lower(CheckedDict):
        ...     def update(self, *values, **named):
        ...         dict.update(self, {key.lower(): value for key, value in dict(*values, **named).items()})
        >>> lower = Lower()
        >>> lower["A"] = 1
        >>> lower
        {'a': 1}
    """

    __slots__ = ()

    @abstractmethod
    def update(self, *values: Any, **named: Any) -> None:
        """Check values, and put them in."""

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc]
        self.update(values)
        return self
