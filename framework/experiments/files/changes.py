"""Changes of settings, such as ``trainer.epochs=20``: read, applied, and named in messages."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from framework.errors import SettingsError
from framework.experiments.files.text import KeyPath, Scanner
from framework.settings.component import class_of


def parse_change(text: str) -> tuple[KeyPath, Any]:
    """Return the path and the value of a change such as ``trainer.epochs=20``.

    The value is TOML. One that is not TOML, such as ``income`` or ``data/a.csv``, is text. Numbers in the path are
    places in an array.

    Raises:
        SettingsError: The text has no ``=``, its path is not a key of TOML, or a quote or a bracket is not closed.

    Example:
        >>> parse_change("trainer.optimizer.learning_rate=1e-3")
        (('trainer', 'optimizer', 'learning_rate'), 0.001)
        >>> parse_change("data.target=income"), parse_change('trainer.callbacks.0.monitor="val_loss"')
        ((('data', 'target'), 'income'), (('trainer', 'callbacks', 0, 'monitor'), 'val_loss'))
    """
    scanner, keys = _key_of(text)
    path = tuple(int(key) if re.fullmatch("[0-9]+", key) else key for key in keys)
    value = text[scanner.at :].strip()
    try:
        read = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        if not value or value[0] in "[{\"'":
            hint = f"{value}; is each quote and bracket closed?" if value else "nothing"
            raise SettingsError(f"--set {text}: the value must be TOML; got {hint}") from None
        return path, value  # text without quotes, which the shell takes away
    if read.keys() != {"value"}:
        raise SettingsError(f"--set {text}: the value must be one value of TOML; got several lines")
    return path, read["value"]


def _key_of(text: str) -> tuple[Scanner, list[str]]:
    """Return a scanner that stands behind the ``=`` of a change, and the parts of its key."""
    scanner = Scanner(text)
    try:
        keys = scanner.keys("=")
        tomllib.loads(f"{text[: scanner.at]} 0")
    except (AssertionError, IndexError, tomllib.TOMLDecodeError):
        said = "write a setting and its value, e.g. --set trainer.epochs=20"
        if (plain := re.sub(r"\[(\d+)\]", r".\1", text.partition("=")[0])) != text.partition("=")[0]:
            said = f"places in an array are numbers between points; did you mean {plain!r}?"
        elif "=" in text:
            said = (
                'a name with other characters than letters, digits, _ and - goes in quotes, as columns."signup date", '
                "and the whole in others: --set 'SETTING=VALUE'"
            )
        raise SettingsError(f"--set {text}: {said}") from None
    return scanner, keys


def alternatives(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the setting, the value and the alternatives of a change such as ``trainer.epochs=5,10``.

    Commas in quotes and brackets separate nothing.

    Raises:
        SettingsError: The text has no ``=``, or its path is not a key of TOML.

    Example:
        >>> alternatives("trainer.epochs=5,10")
        ('trainer.epochs', '5,10', ('5', '10'))
        >>> alternatives('data.path="a,b.csv"')[2], alternatives("data.decimal=,")[2]
        (('"a,b.csv"',), (',',))
    """
    scanner, _ = _key_of(text)
    setting, value = text[: scanner.at - 1].strip(), text[scanner.at :].strip()
    found: list[str] = []
    with suppress(AssertionError, IndexError):  # text without quotes is not TOML
        while not found or scanner.take(","):
            scanner.ended()
            start = scanner.at
            for _ in scanner.value(()):
                pass
            found.append(text[start : scanner.at].strip())
    return setting, value, tuple(found) if all(found) and scanner.ended() else (value,)


def changed(settings: Mapping[str, Any], changes: Mapping[str, tuple[KeyPath, Any]]) -> dict[str, Any]:
    """Return settings with changes, whose order does not matter.

    Args:
        settings: The settings of a file.
        changes: The path and the value of each change, by its text.

    Raises:
        SettingsError: Two changes overlap, or the path of one leads nowhere.
    """
    for text, (path, _) in changes.items():
        for other, (longer, _) in changes.items():
            if other != text and longer[: len(path)] == path:
                raise SettingsError(f"--set {text} and --set {other} change the same setting; give one of them")
    made = copy.deepcopy(dict(settings))
    for text, (path, value) in changes.items():
        node: Any = made
        for depth, key in enumerate(path[:-1]):
            node = _inside(node, key, path[:depth], text, {})
        place = path[-1] if isinstance(node, list) else str(path[-1])
        _inside(node, place, path[:-1], text, value)
        node[place] = value
    return made


def without_found(settings: Any, follows: bool = False) -> Any:
    """Return settings without the numbers of inputs of layers that follow others, whose units they are.

    Example:
        >>> without_found({"layers": [{"inputs": 2, "units": 3}, {"inputs": 3, "units": 1}]})
        {'layers': [{'inputs': 2, 'units': 3}, {'units': 1}]}
        >>> without_found({"layers": [{"type": "Dense", "units": 3}, {"type": "BatchNorm", "units": 3}]})
        {'layers': [{'type': 'Dense', 'units': 3}, {'type': 'BatchNorm'}]}
    """
    if isinstance(settings, list):
        return [without_found(item, follows) for item in settings]
    if not isinstance(settings, dict):
        return settings
    made, inferred = {}, "inputs"
    with suppress(KeyError, TypeError, SettingsError):  # not a layer, or one that this program does not define
        inferred = getattr(class_of(settings["type"]), "inferred", inferred)
    for key, item in settings.items():
        if key == "layers" and isinstance(item, list):
            made[key] = [without_found(layer, follows or place > 0) for place, layer in enumerate(item)]
        elif not (follows and key == inferred):
            made[key] = without_found(item, follows)
    return made


def places(
    name: str, lines: Mapping[KeyPath, int], given: Mapping[str, tuple[KeyPath, Any]]
) -> Callable[[KeyPath], str]:
    """Return the function that words the place of a setting: a change, or a line of the file ``name``."""

    def place(path: KeyPath) -> str:
        for text, (changed_path, value) in given.items():
            made = lines and path and path not in lines and changed_path[: len(path)] == path  # a table of the change
            if made or path[: len(changed_path)] == changed_path:
                return f"--set {text}"
            if changed_path[1:] and changed_path[-1] == "type" and path[: len(changed_path) - 1] == changed_path[:-1]:
                table = ".".join(map(str, changed_path[:-1]))
                return f"--set {text} keeps the other settings of {table}; --set {table}={value} does not"
        line = next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)
        return name if line is None else f"{name}, line {line}"

    return place


def _inside(node: Any, key: str | int, path: KeyPath, text: str, default: Any) -> Any:
    """Return what a table or an array has under a key; a table gets the default where it has nothing."""
    where = f"'{'.'.join(map(str, path))}'" if path else "the file"
    if isinstance(node, dict):
        return node.setdefault(str(key), default)
    if not isinstance(node, list):
        raise SettingsError(f"--set {text}: {where} is {node!r}, which has no settings")
    if not node:
        raise SettingsError(f"--set {text}: {where} is empty, so it has no item {key!r}; give the whole array")
    if not isinstance(key, int) or key >= len(node):
        raise SettingsError(f"--set {text}: expected a place in the array {where}, 0 to {len(node) - 1}; got {key!r}")
    return node[key]
