"""Reads: every global, closure cell and class attribute that a formula reads, so that a change is found.

A graph holds the values that the formula read when it was traced. If a global changes later, the formula and its graph
disagree. So the values are part of a graph's key, and they are compared at each epoch.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import lru_cache, partial
from itertools import chain
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from framework.settings.messages import is_ours

_PLAIN = (bool, int, float, str, bytes, type(None))
_READ = (*_PLAIN, tuple, list, Mapping, np.ndarray, np.generic)
_CALLED = (FunctionType, MethodType)
_MISSING = object()
_DEPTH = 3
"""How many attributes in a row are followed: ``settings.model.scale`` has two."""


class Watched(NamedTuple):
    """The values that a formula reads which is traced as a part of a larger graph."""

    reads: Reads


class Reads:
    """The values that functions read besides their arguments and settings.

    Attributes:
        values: A comparable form of each value, by the place of the function that reads it and a name such as
            ``global 'scale'``.
        bound: (mapping, name, object) of each of these names, so that each call can check that it is still bound to
            that object.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]], owner: type | None = None) -> None:
        """Read the values now.

        Args:
            functions: Python functions. The functions that they call are followed, and the callables that a method's
                object holds.
            owner: The class whose attributes ``self`` has.
        """
        functions = tuple(functions)
        library = owner is not None and _constant(owner.__module__)  # its formulas read nothing that changes
        held = [part for function in functions for part in _held(getattr(function, "__self__", None))]
        self._functions = [*(() if library else functions), *held]
        self._owner = owner
        self.values, self.bound = self._read()

    def changed(self) -> str | None:
        """Return the name of the first value that has changed, or None."""
        now, bound = self._read()
        name = next((key[1] for key, value in self.values.items() if now.get(key, _MISSING) != value), None)
        if name is None:
            self.bound = bound
        return name

    def moved(self) -> bool:
        """Return whether a name is bound to another object: a cheap check, which misses changes in place."""
        for names, name, value in self.bound:  # noqa: SIM110 (a generator costs several times as much)
            if names.get(name) is not value:
                return True
        return False

    def _read(self) -> tuple[dict[tuple[int, str], Any], list[tuple[Any, str, Any]]]:
        found: dict[tuple[int, str], Any] = {}
        bound = []
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[Any, Any]] = [(function, None) for function in self._functions]
        while waiting:
            called, caller = waiting.pop()
            bound_method = isinstance(called, MethodType)
            function, instance = (called.__func__, called.__self__) if bound_method else (called, caller)
            if (id(function), id(instance)) in seen:
                continue
            seen.add((id(function), id(instance)))
            if not isinstance(function, FunctionType):
                waiting += [(part, None) for part in _held(called)]
                continue
            for name, value, names, bare in self._named(function, instance):
                key = len(seen), name
                bound.append((names, bare, names.get(bare)))
                if isinstance(value, _CALLED):
                    inner = getattr(value, "__func__", value)
                    if not _constant(inner.__module__):
                        waiting.append((value, instance))  # a helper may be given self
                    found[key] = getattr(inner, "__code__", None)
                    continue
                if callable(value) and not isinstance(value, type):
                    waiting.append((value, None))
                comparable = _comparable(value)
                if comparable is None:
                    bound.pop()
                else:
                    found[key] = comparable
        return found, bound

    def _named(self, function: FunctionType, instance: Any) -> Iterable[tuple[str, Any, Any, str]]:
        """Return what a function may read: globals, cells, defaults, attributes.

        Returns:
            For each a name for messages, the value, and the mapping and the key where it is bound.
        """
        names = _names(function.__code__)
        ours = _constant(function.__module__)
        owner = self._owner if instance is None else type(instance)
        held = getattr(instance, "__dict__", {})
        for name in names:
            if name in function.__globals__ and not ours and name in _globals(function.__code__):
                value = function.__globals__[name]
                yield f"global '{name}'", value, function.__globals__, name
                yield from _attributes(name, value, names)
            attribute = getattr(owner, name, _MISSING)
            attribute = attribute.fget if isinstance(attribute, property) else attribute
            if isinstance(attribute, FunctionType) and instance is not None:
                attribute = MethodType(attribute, instance)
            if isinstance(attribute, (*_READ, *_CALLED)):
                yield f"class attribute '{name}'", attribute, _home(owner, name), name
            if name in held:
                yield f"'{type(instance).__name__}.{name}'", held[name], held, name
                yield from _attributes(name, held[name], names)
        for place in ("__defaults__", "__kwdefaults__"):
            if default := getattr(function, place):
                yield f"default of '{function.__name__}'", default, _Slot(function, place), place
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            slot = _Slot(cell, "cell_contents")
            value = slot.get(name)
            if value is not _MISSING:
                yield f"closure variable '{name}'", value, slot, name
                yield from _attributes(name, value, names)


class _Slot:
    """A closure cell, or a function's defaults, as a mapping of one name."""

    __slots__ = ("_name", "_owner")

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name

    def get(self, _name: str) -> Any:
        try:
            return getattr(self._owner, self._name)
        except ValueError:  # a cell that is not assigned yet
            return _MISSING


def _home(owner: Any, name: str) -> Any:
    """Return the mapping that an attribute of a module, a class or an object is in."""
    classes = (owner if isinstance(owner, type) else type(owner)).__mro__
    places = [getattr(owner, "__dict__", {}), *map(vars, classes)]
    return next((place for place in places if name in place), {})


def _attributes(
    owner: str, value: Any, names: Iterable[str], depth: int = _DEPTH
) -> Iterable[tuple[str, Any, Any, str]]:
    """Return the attributes of a module, a class or an object that a function may read, and theirs; see ``_named``."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if isinstance(value, (*_READ, *_CALLED)) or _constant(module) or not depth:
        return
    for part in names:
        found = inspect.getattr_static(value, part, _MISSING)
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if isinstance(found, FunctionType) and not isinstance(value, type | ModuleType):
            found = MethodType(found, value)
        if isinstance(found, (*_READ, *_CALLED)):
            yield f"'{owner}.{part}'", found, _home(value, part), part
        elif found is not _MISSING:
            yield from _attributes(f"{owner}.{part}", found, names, depth - 1)


def _held(value: Any) -> list[Any]:
    """Return the functions that a call of an object may reach: its class's ``__call__``, and the callables it holds."""
    if isinstance(value, partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif callable(value):
        settings = getattr(value, "__dict__", {}).values()
        held = [part for each in settings for part in (each if isinstance(each, tuple) else (each,))]
    else:
        return []
    call = getattr(type(value), "__call__", None)  # noqa: B004 (the method itself)
    if isinstance(call, FunctionType) and _constant(call.__globals__.get("__name__")):
        inner = getattr(call, "__wrapped__", None)  # a user's formula in a function of the library's
        call = inner if isinstance(inner, FunctionType) else call
    own = [MethodType(call, value)] if isinstance(call, FunctionType) and not _constant(call.__module__) else []
    return [*own, *(part for part in held if callable(part) and not isinstance(part, type))]


def _constant(module: str | None) -> bool:
    """Return whether the contents of a module count as constant."""
    return is_ours(module) or (module or "").partition(".")[0] == "numpy"


@lru_cache(maxsize=256)
def _globals(code: CodeType) -> frozenset[str]:
    """Return the names that a function and the functions inside it read as globals, not as attributes."""
    own = {str(each.argval) for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(own.union(*(_globals(each) for each in code.co_consts if isinstance(each, CodeType))))


@lru_cache(maxsize=256)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the names in a function and in the functions inside it, in order."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return tuple(sorted({*code.co_names, *chain.from_iterable(inner)}))


def _comparable(value: Any) -> Any:
    """Return a value in a form that can be compared later, or None for what a formula cannot compute with."""
    if isinstance(value, _PLAIN):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes() if array.dtype != object else None
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(map(_comparable, value))
    if isinstance(value, Mapping):  # os.environ too
        return "dict", tuple((repr(key), _comparable(part)) for key, part in value.items())
    if isinstance(value, type | ModuleType):
        return None
    return type(value).__name__, value if isinstance(value, Hashable) else None
