"""Settings as text: TOML and JSON read with the line of every key, changed as by ``--set``, and written as TOML."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from framework.base.errors import SettingsError
from framework.base.settings.component import class_of, parse_json

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
            settings = parse_json(text, name, SettingsError)
        except SettingsError as error:
            cause = error.__context__
            where = f", line {cause.lineno}" if isinstance(cause, json.JSONDecodeError) else ""
            error.where = (f"{name}{where}",)
            raise
        if not isinstance(settings, dict):
            raise SettingsError(f"expected an object of settings; got {type(settings).__name__}", where=name)
    else:
        try:
            settings = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            at = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
            if at is None:
                raise SettingsError(f"the text is not TOML: {error}", where=name) from None
            line, said = at[1] or text.rstrip("\n").count("\n") + 1, str(error)[: at.start()]
            hint = "; text goes in quotes" if said == "Invalid value" else ""
            if name.endswith((".csv", ".tsv")):
                hint = "; framework new writes an experiment for a table"
            raise SettingsError(f"{name}, line {line}: the text is not TOML: {said}{hint}") from None
        except RecursionError:
            raise SettingsError("the text is nested too deeply", where=name) from None
    lines: dict[KeyPath, int] = {}
    for path, line in Scanner(text).lines():
        lines.setdefault(path, line)
    return settings, lines


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
        while not self.at_end():
            if self.take("[["):
                *front, last = self.keys("]]")
                array = (*self.resolve_header(front), last)
                self.counts[array] = self.counts.get(array, -1) + 1
                table = (*array, self.counts[array])
                yield from self.header(table)
            elif self.take("["):
                table = self.resolve_header(self.keys("]"))
                yield from self.header(table)
            else:
                yield from self.pair(table)

    @property
    def line(self) -> int:
        """The line of the current place, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    def resolve_header(self, keys: list[str]) -> KeyPath:
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
        self.at_end()
        line = self.line
        path = (*table, *self.keys("=", ":"))
        for length in range(len(table) + 1, len(path) + 1):
            yield path[:length], line
        yield from self.value(path)

    def keys(self, *ends: str) -> list[str]:
        """Scan the parts of a key, and what ends it."""
        keys = []
        while True:
            self.at_end()
            quoted = self.text[self.at] in "\"'"
            key = self.match(_STRING if quoted else _BARE)
            keys.append(_unquote(key) if quoted else key)
            if any(map(self.take, ends)):
                return keys
            self.take(".")

    def value(self, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        """Scan a value, and give the lines inside it."""
        if self.take("["):
            index = 0
            while not self.take("]"):
                yield (*path, index), self.line
                yield from self.value((*path, index))
                self.take(",")
                index += 1
        elif self.take("{"):
            while not self.take("}"):
                yield from self.pair(path)
                self.take(",")
        elif not self.at_end():
            self.match(_STRING if self.text[self.at] in "\"'" else _SCALAR)

    def at_end(self) -> bool:
        """Skip space and comments; return whether the text is at its end."""
        self.match(_SPACE)
        return self.at == len(self.text)

    def peek(self, token: str) -> bool:
        """Return whether ``token`` comes next, after space and comments."""
        self.at_end()
        return self.text.startswith(token, self.at)

    def take(self, token: str) -> bool:
        """Go past ``token`` if it comes next."""
        present = self.peek(token)
        self.at += len(token) if present else 0
        return present

    def match(self, pattern: re.Pattern[str]) -> str:
        """Return the text that fits a pattern here, and go past it."""
        match = pattern.match(self.text, self.at)
        assert match is not None  # the parser has accepted the text
        self.at = match.end()
        return match[0]


def _unquote(text: str) -> str:
    """Return the text in quotes, of JSON or TOML: what both can read means the same in both."""
    try:
        content: str = json.loads(text, strict=False)
    except ValueError:
        content = tomllib.loads(f"key = {text}")["key"]
    return content


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
            raise SettingsError(f"setting '{'.'.join(path)}' cannot be written as TOML", got=value)


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
            raise SettingsError(f"the value must be TOML; got {hint}", where=f"--set {text}") from None
        return path, value  # text without quotes, which the shell takes away
    if read.keys() != {"value"}:
        raise SettingsError("the value must be one value of TOML; got several lines", where=f"--set {text}")
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
        raise SettingsError(said, where=f"--set {text}") from None
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
    options: list[str] = []
    with suppress(AssertionError, IndexError):  # text without quotes is not TOML
        while not options or scanner.take(","):
            scanner.at_end()
            start = scanner.at
            for _ in scanner.value(()):
                pass
            options.append(text[start : scanner.at].strip())
    return setting, value, tuple(options) if all(options) and scanner.at_end() else (value,)


def apply_changes(settings: Mapping[str, Any], changes: Mapping[str, tuple[KeyPath, Any]]) -> dict[str, Any]:
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
        final_key = path[-1] if isinstance(node, list) else str(path[-1])
        _inside(node, final_key, path[:-1], text, value)
        node[final_key] = value
    return made


def drop_inferred_inputs(settings: Any, follows: bool = False) -> Any:
    """Return settings without the numbers of inputs of layers that follow others, whose units they are.

    Example:
        >>> drop_inferred_inputs({"layers": [{"inputs": 2, "units": 3}, {"inputs": 3, "units": 1}]})
        {'layers': [{'inputs': 2, 'units': 3}, {'units': 1}]}
        >>> drop_inferred_inputs({"layers": [{"type": "Dense", "units": 3}, {"type": "BatchNorm", "units": 3}]})
        {'layers': [{'type': 'Dense', 'units': 3}, {'type': 'BatchNorm'}]}
    """
    if isinstance(settings, list):
        return [drop_inferred_inputs(item, follows) for item in settings]
    if not isinstance(settings, dict):
        return settings
    made, inferred = {}, "inputs"
    with suppress(KeyError, TypeError, SettingsError):  # not a layer, or one that this program does not define
        inferred = getattr(class_of(settings["type"]), "inferred", inferred)
    for key, item in settings.items():
        if key == "layers" and isinstance(item, list):
            made[key] = [drop_inferred_inputs(layer, follows or index > 0) for index, layer in enumerate(item)]
        elif not (follows and key == inferred):
            made[key] = drop_inferred_inputs(item, follows)
    return made


def places(
    name: str, lines: Mapping[KeyPath, int], changes: Mapping[str, tuple[KeyPath, Any]]
) -> Callable[[KeyPath], str]:
    """Return the function that words the place of a setting: a change, or a line of the file ``name``."""

    def place(path: KeyPath) -> str:
        for text, (changed_path, value) in changes.items():
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
        raise SettingsError(f"{where} is {node!r}, which has no settings", where=f"--set {text}")
    if not node:
        problem = f"{where} is empty, so it has no item {key!r}; give the whole array"
        raise SettingsError(problem, where=f"--set {text}")
    if not isinstance(key, int) or key >= len(node):
        problem = f"expected a place in the array {where}, 0 to {len(node) - 1}; got {key!r}"
        raise SettingsError(problem, where=f"--set {text}")
    return node[key]
