"""Reads: every global, closure cell and class attribute that a formula reads, so that a change is found.

A graph holds the values that the formula read when it was traced. A formula whose global changes later would compute
another value than its graph, so the values belong to the key of a graph, and each epoch compares them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, str, bytes, type(None))
_READ = (*_PLAIN, tuple, list, dict, np.ndarray, np.generic)
_CALLED = (FunctionType, MethodType)
_MISSING = object()
_DEPTH = 3
"""How many attributes in a row are followed: ``settings.model.scale`` has two."""


class Reads:
    """What some functions read beside their arguments and settings.

    Attributes:
        values: A comparable form of each value, by the place of the function that reads it and a name such as
            ``global 'scale'``.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]], owner: type | None = None) -> None:
        """Read the values now.

        Args:
            functions: Python functions; what they call is followed, and what a method's object holds to be called.
            owner: The class whose attributes ``self`` has.
        """
        functions = tuple(functions)
        library = owner is not None and _constant(owner.__module__)  # whose formulas read nothing that changes
        held = [part for function in functions for part in _held(getattr(function, "__self__", None))]
        self._functions = [*(() if library else functions), *held]
        self._owner = owner
        self.values = self._read()

    def changed(self) -> str | None:
        """Return the name of the first value that is not what it was, or None."""
        now = self._read()
        return next((key[1] for key, value in self.values.items() if now.get(key, _MISSING) != value), None)

    def _read(self) -> dict[tuple[int, str], Any]:
        found: dict[tuple[int, str], Any] = {}
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[Any, Any]] = [(function, None) for function in self._functions]
        while waiting:
            called, caller = waiting.pop()
            function, instance = getattr(called, "__func__", called), getattr(called, "__self__", caller)
            if (id(function), id(instance)) in seen:
                continue
            seen.add((id(function), id(instance)))
            if not isinstance(function, FunctionType):
                waiting += [(part, None) for part in _held(called)]
                continue
            for name, value in self._named(function, instance):
                key = len(seen), name
                if isinstance(value, _CALLED):
                    inner = getattr(value, "__func__", value)
                    if not _constant(inner.__module__):
                        waiting.append((value, instance))  # a helper may be given self
                    found[key] = getattr(inner, "__code__", None)
                    continue
                if callable(value) and not isinstance(value, type):
                    waiting.append((value, None))
                comparable = _comparable(value)
                if comparable is not None:
                    found[key] = comparable
        return found

    def _named(self, function: FunctionType, instance: Any) -> Iterable[tuple[str, Any]]:
        """Return the names and values that a function may read: globals, cells, defaults, attributes."""
        names = sorted(set(_names(function.__code__)))
        ours = _constant(function.__module__)
        owner = self._owner if instance is None else type(instance)
        held = getattr(instance, "__dict__", {})
        for name in names:
            if name in function.__globals__ and not ours:
                value = function.__globals__[name]
                yield f"global '{name}'", value
                yield from _attributes(name, value, names)
            attribute = getattr(owner, name, _MISSING)
            attribute = attribute.fget if isinstance(attribute, property) else attribute
            if isinstance(attribute, FunctionType) and instance is not None:
                attribute = MethodType(attribute, instance)
            if isinstance(attribute, (*_READ, *_CALLED)):
                yield f"class attribute '{name}'", attribute
            if name in held:
                yield f"'{type(instance).__name__}.{name}'", held[name]
                yield from _attributes(name, held[name], names)
        for default in (function.__defaults__, function.__kwdefaults__):
            if default:
                yield f"default of '{function.__name__}'", default
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            yield f"closure variable '{name}'", value
            yield from _attributes(name, value, names)


def _attributes(owner: str, value: Any, names: Iterable[str], depth: int = _DEPTH) -> Iterable[tuple[str, Any]]:
    """Return the attributes of a module, a class or an object that a function may read, and theirs."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if isinstance(value, (*_READ, *_CALLED)) or _constant(module) or not depth:
        return
    for part in names:
        found = inspect.getattr_static(value, part, _MISSING)
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if isinstance(found, FunctionType) and not isinstance(value, type | ModuleType):
            found = MethodType(found, value)
        if isinstance(found, (*_READ, *_CALLED)):
            yield f"'{owner}.{part}'", found
        elif found is not _MISSING:
            yield from _attributes(f"{owner}.{part}", found, names, depth - 1)


def _held(value: Any) -> list[Any]:
    """Return what a call of an object may call: its class's ``__call__``, and what it holds to be called."""
    if isinstance(value, partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif callable(value):
        held = [part for setting in getattr(value, "__dict__", {}).values() for part in _several(setting)]
    else:
        return []
    call = getattr(type(value), "__call__", None)  # noqa: B004 (the method itself)
    own = [MethodType(call, value)] if isinstance(call, FunctionType) and not _constant(call.__module__) else []
    return [*own, *(part for part in held if callable(part) and not isinstance(part, type))]


def _several(setting: Any) -> tuple[Any, ...]:
    return setting if isinstance(setting, tuple) else (setting,)


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
