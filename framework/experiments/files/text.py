"""Settings as text: TOML and JSON read with the line of every key, and written back as TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from framework.errors import SettingsError
from framework.settings.component import parsed

KeyPath = tuple[str | int, ...]
"""Where a value stands: names of tables, and numbers of places in arrays."""


def read_settings(text: str, name: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    r"""Parse a TOML or JSON text.

    Args:
        text: The text.
        name: Its file, for messages; ``.json`` at its end means JSON, anything else TOML.

    Returns:
        The settings, and the line of every key and of every item of an array.

    Raises:
        SettingsError: The text is not TOML or JSON; names the line.

    Example:
        >>> settings, lines = read_settings("[trainer]\nepochs = 3", "e.toml")
        >>> settings, lines["trainer", "epochs"]
        ({'trainer': {'epochs': 3}}, 2)
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if name.endswith(".json"):
        try:
            settings = parsed(text, name, SettingsError)
        except SettingsError as error:
            cause = error.__context__
            place = f", line {cause.lineno}" if isinstance(cause, json.JSONDecodeError) else ""
            raise SettingsError(f"{name}{place}: {str(error).removeprefix(f'{name}: ')}") from None
        if not isinstance(settings, dict):
            raise SettingsError(f"{name}: expected an object of settings; got {type(settings).__name__}")
    else:
        try:
            settings = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(_located(str(error), text, name)) from None
        except RecursionError:
            raise SettingsError(f"{name}: the text is nested too deeply") from None
    lines: dict[KeyPath, int] = {}
    for path, line in Scanner(text).lines():
        lines.setdefault(path, line)
    return settings, lines


def _located(message: str, text: str, name: str) -> str:
    """Put the line of a TOML error in front."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place is None:
        return f"{name}: the text is not TOML: {message}"
    line = place[1] or text.rstrip("\n").count("\n") + 1
    said = message[: place.start()]
    hint = "; text goes in quotes" if said == "Invalid value" else ""
    if name.endswith((".csv", ".tsv")):
        hint = "; framework new writes an experiment for a table"
    return f"{name}, line {line}: the text is not TOML: {said}{hint}"


_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # up to two quotes may stand before the three that end it
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Scanner:
    """Find the line of every key of a text that a parser has accepted, so that nothing is checked here."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.counts: dict[KeyPath, int] = {}  # the newest item of each array of tables

    def lines(self) -> Iterator[tuple[KeyPath, int]]:
        """Give every path with its line; where a path comes several times, the first one counts."""
        if self.peek("{"):
            yield from self.value(())
            return
        table: KeyPath = ()
        while not self.ended():
            if self.take("[["):
                *front, last = self.keys("]]")
                array = (*self.resolved(front), last)
                self.counts[array] = self.counts.get(array, -1) + 1
                table = (*array, self.counts[array])
                yield from self.header(table)
            elif self.take("["):
                table = self.resolved(self.keys("]"))
                yield from self.header(table)
            else:
                yield from self.pair(table)

    @property
    def line(self) -> int:
        """The line of the current place, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    def resolved(self, keys: list[str]) -> KeyPath:
        """Return the path of a header: an array of tables stands for its newest item."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self.counts:
                path = (*path, self.counts[path])
        return path

    def header(self, table: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        """Give a table and those around it the line of its header."""
        for length in range(1, len(table) + 1):
            yield table[:length], self.line

    def pair(self, table: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        """Scan ``key = value``, where the key may have dots."""
        self.ended()
        line = self.line
        path = (*table, *self.keys("=", ":"))
        for length in range(len(table) + 1, len(path) + 1):
            yield path[:length], line
        yield from self.value(path)

    def keys(self, *ends: str) -> list[str]:
        """Scan the parts of a key, and what ends it."""
        keys = []
        while True:
            self.ended()
            quoted = self.text[self.at] in "\"'"
            key = self.match(_STRING if quoted else _BARE)
            keys.append(_unquoted(key) if quoted else key)
            if any(map(self.take, ends)):
                return keys
            self.take(".")

    def value(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        """Scan a value, and give the lines inside it."""
        if self.take("["):
            place = 0
            while not self.take("]"):
                yield (*path, place), self.line
                yield from self.value((*path, place))
                self.take(",")
                place += 1
        elif self.take("{"):
            while not self.take("}"):
                yield from self.pair(path)
                self.take(",")
        elif not self.ended():
            self.match(_STRING if self.text[self.at] in "\"'" else _SCALAR)

    def ended(self) -> bool:
        """Skip space and comments; return whether the text is at its end."""
        self.match(_SPACE)
        return self.at == len(self.text)

    def peek(self, token: str) -> bool:
        """Return whether ``token`` comes next, after space and comments."""
        self.ended()
        return self.text.startswith(token, self.at)

    def take(self, token: str) -> bool:
        """Go past ``token`` if it comes next."""
        found = self.peek(token)
        self.at += len(token) if found else 0
        return found

    def match(self, pattern: re.Pattern[str]) -> str:
        """Return the text that fits a pattern here, and go past it."""
        found = pattern.match(self.text, self.at)
        assert found is not None  # the parser has accepted the text
        self.at = found.end()
        return found[0]


def _unquoted(text: str) -> str:
    """Return the text in quotes, of JSON or TOML: what both can read means the same in both."""
    try:
        found: str = json.loads(text, strict=False)
    except ValueError:
        found = tomllib.loads(f"key = {text}")["key"]
    return found


def to_toml(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML. TOML has no None, so a setting that is None is left out.

    Raises:
        SettingsError: An item of an array is None, or a value is of a class that TOML does not have.

    Example:
        >>> print(to_toml({"trainer": {"epochs": 3, "optimizer": {"type": "AdamOptimizer"}}}))
        [trainer]
        epochs = 3
        optimizer = {type = "AdamOptimizer"}
        <BLANKLINE>
    """
    return "\n".join(_tables(settings, ()))


_WIDTH = 100


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Give a table as text, and then each table in it that is too long for a line."""
    lines, inner = [], []
    for key, value in _present(table):
        line = f"{_key(key)} = {_value(value, (*path, key))}"
        if isinstance(value, Mapping) and (not path or len(line) > _WIDTH):
            inner.append((key, value))
        elif isinstance(value, list) and len(line) > _WIDTH:
            items = "".join(f"    {_value(item, (*path, key))},\n" for item in value)
            lines.append(f"{_key(key)} = [\n{items}]\n")
        else:
            lines.append(f"{line}\n")
    if path and (lines or not inner):
        lines.insert(0, f"[{'.'.join(map(_key, path))}]\n")
    if lines:
        yield "".join(lines)
    for key, value in inner:
        yield from _tables(value, (*path, key))


def _present(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, path: tuple[str, ...]) -> str:
    """Return a value on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(_value(item, path) for item in value)}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(item, (*path, key))}' for key, item in _present(value))}}}"
        case _:
            raise SettingsError(f"setting '{'.'.join(path)}' cannot be written as TOML; got {value!r}")
