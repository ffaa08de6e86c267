"""Messages: pydantic's errors in the words of this package, one readable line for each setting."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError, ValidationError

from framework.errors import SettingsError, nearest


def class_message(name: str, error: PydanticUserError) -> str:
    """Word an error of a class's making: how to write the field."""
    if found := re.search(r"non-annotated attribute was detected: `(\w+) = (.+?)`", str(error)):
        field, value = found.groups()
        kind = next((k for k in ("bool", "int", "float", "str") if _is_literal(value, k)), "float")
        return f"{name}: '{field} = {value}' has no type; write {field}: {kind} = {value}"
    return f"{name}: {str(error).splitlines()[0]}"


def _is_literal(value: str, kind: str) -> bool:
    patterns = {"bool": "True|False", "int": r"[+-]?\d+", "float": r"[+-]?[\d.]+(e[+-]?\d+)?", "str": "['\"].*"}
    return re.fullmatch(patterns[kind], value) is not None


def settings_message(cls: type[BaseModel], error: ValidationError, components: Iterable[type]) -> str:
    """Word a validation error: one line for each setting; ``components`` are what a hint may name."""
    expected: dict[str, list[str]] = {}
    given: dict[str, object] = {}
    lines = []
    for part in error.errors(include_url=False):
        where = str(part["loc"][0]) if part["loc"] else ""
        if not where:
            lines.append(part["msg"].removeprefix("Value error, ").removeprefix(f"{cls.__name__}: "))
        elif part["type"] == "extra_forbidden":
            names = ", ".join(cls.model_fields) or "none"
            lines.append(f"unknown setting '{where}'{nearest(where, cls.model_fields) or '.'} Settings: {names}")
        elif part["type"] == "missing":
            lines.append(f"setting '{where}' is missing; write {where}=...")
        else:
            kind = part.get("ctx", {}).get("class_name")
            wanted = f"be of class {kind}" if kind else re.sub(r"^(Input|Value error,) (should )?", "", part["msg"])
            expected.setdefault(where, []).append(wanted)
            given[where] = part["input"]
    for where, wanted_list in expected.items():
        wanted = " or ".join(dict.fromkeys(wanted_list)).replace(" or be of class", " or")
        lines.append(
            f"setting '{where}' must {wanted}; got {given[where]!r}{_component_hint(given[where], components)}"
        )
    return "\n".join(f"{cls.__name__}: {line}" for line in lines)


def require_arguments(cls: type[Any], args: tuple[Any, ...], settings: Mapping[str, Any]) -> None:
    """Word the error of a class with positional settings that was called with others; do nothing if they fit."""
    signature = inspect.signature(cls.__init__)
    try:
        signature.bind(None, *args, **settings)
    except TypeError as error:
        names = [name for name in signature.parameters if name != "self"]
        unknown = next((name for name in settings if name not in names), None)
        what = str(error) if unknown is None else f"unknown setting '{unknown}'{nearest(unknown, names) or '.'}"
        raise SettingsError(f"{cls.__name__}: {what} Settings: {', '.join(names)}") from None


def _component_hint(given: object, components: Iterable[type]) -> str:
    """Say what to write instead of a component's class or name."""
    if isinstance(given, type):
        return f"; write {given.__name__}() with its brackets"
    if isinstance(given, str):
        known = {found.__name__.lower(): found.__name__ for found in components}
        like = difflib.get_close_matches(given.lower(), known, n=1)
        return f"; write {known[like[0]]}()" if like else ""
    return ""
