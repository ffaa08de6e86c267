"""Reads: every global, closure cell and class attribute that a formula reads, so that a change is found.

A graph holds the values that the formula read when it was traced. A formula whose global changes later would compute
another value than its graph, so the values belong to the key of a graph, and each epoch compares them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, str, bytes, type(None))
_READ = (*_PLAIN, tuple, np.ndarray, np.generic, FunctionType, MethodType)


class Reads:
    """What some functions read beside their arguments and settings.

    Attributes:
        values: A comparable form of each value, by a name such as ``global 'scale'``.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]], owner: type | None = None) -> None:
        """Read the values now.

        Args:
            functions: Python functions; those that they call by name are followed.
            owner: The class whose attributes ``self`` has.
        """
        functions = tuple(functions)
        library = owner is not None and _constant(owner.__module__)  # whose formulas read nothing that changes
        held = (part for function in functions for part in _held(function))
        self._functions = (*(() if library else functions), *held)
        self._owner = owner
        self.values = self._read()

    def changed(self) -> str | None:
        """Return the name of the first value that is not what it was, or None."""
        now = self._read()
        for name, value in self.values.items():
            if name not in now or now[name] != value:
                return name
        return None

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        seen: set[CodeType] = set()
        waiting: list[Any] = [getattr(function, "__func__", function) for function in self._functions]
        while waiting:
            function = waiting.pop()
            code = getattr(function, "__code__", None)
            if code is None or code in seen:
                continue
            seen.add(code)
            for name, value in self._named(function):
                inner = getattr(value, "__func__", value)
                if isinstance(inner, FunctionType):
                    if not _constant(inner.__module__):
                        waiting.append(inner)
                    found[name] = inner.__code__
                else:
                    comparable = _comparable(value)
                    if comparable is not None:
                        found[name] = comparable
        return found

    def _named(self, function: FunctionType) -> Iterable[tuple[str, Any]]:
        """Return the names and values that a function may read: globals, attributes of modules and classes, cells."""
        names = set(_names(function.__code__))
        ours = _constant(function.__module__)
        for name in names:
            if name in function.__globals__ and not ours:
                value = function.__globals__[name]
                yield f"global '{name}'", value
                yield from _attributes(name, value, names)
            attribute = getattr(self._owner, name, self)  # not None, which a class may have
            attribute = attribute.fget if isinstance(attribute, property) else attribute
            if isinstance(attribute, _READ):
                yield f"class attribute '{name}'", attribute
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            yield f"closure variable '{name}'", value
            yield from _attributes(name, value, names)


def _attributes(owner: str, value: Any, names: Iterable[str]) -> Iterable[tuple[str, Any]]:
    """Return the attributes of a module, a class or an object that a function may read."""
    if isinstance(value, (*_PLAIN, FunctionType, np.ndarray)) or _constant(getattr(value, "__module__", None)):
        return
    if isinstance(value, ModuleType) and _constant(value.__name__):
        return
    for part in names:
        found = inspect.getattr_static(value, part, _attributes)
        found = found.fget if isinstance(found, property) else found
        if isinstance(found, (*_READ, list, dict)):
            yield f"'{owner}.{part}'", found


def _held(function: Any) -> list[FunctionType]:
    """Return the functions among the settings of a method's object."""
    settings = vars(function.__self__) if isinstance(function, MethodType) else {}
    return [value for value in settings.values() if isinstance(value, FunctionType)]


def _constant(module: str | None) -> bool:
    """Return whether nobody changes what is in a module."""
    return module is not None and module.partition(".")[0] in ("numpy", "framework")


def _names(code: CodeType) -> Iterable[str]:
    """Return the names in a function and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _comparable(value: Any) -> Any:
    """Return a value in a form that can be compared later, or None for what a formula cannot compute with."""
    if isinstance(value, _PLAIN):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes() if array.dtype != object else None
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(map(_comparable, value))
    if isinstance(value, dict):
        return "dict", tuple((repr(key), _comparable(part)) for key, part in value.items())
    if isinstance(value, type | ModuleType):
        return None
    return type(value).__name__, value if isinstance(value, Hashable) else None
