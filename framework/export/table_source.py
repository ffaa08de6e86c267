"""TableSource: the FittedPreprocess of a model as lines of Python, from the columns of a table to numbers and back."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from framework import special
from framework.errors import FrameworkError, SettingsError
from framework.export.source import Formula, Lines
from framework.frames import text_of
from framework.graph.graph import Graph
from framework.graph.node import Node, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import Symbol, value_of
from framework.models.rows import EVALUATION_ROWS
from framework.preprocessing.categories import Classes, Levels, OneHot
from framework.preprocessing.dates import Dates
from framework.preprocessing.fitted import NUMBERS, FittedPreprocess
from framework.preprocessing.numbers import Drop, Impute, Log, MinMax, Quantiles, Standardize
from framework.preprocessing.steps import ColumnStep

TABLE_HELPERS = {
    "column": '''
def column(table, name):
    """Return the values of a column: of a dict of columns, a table of pandas, or a list of records."""
    if not isinstance(table, list) and name not in table:
        raise ValueError(f"the table must have the column {name!r}")
    values = [record.get(name) for record in table] if isinstance(table, list) else table[name]
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ValueError(f"column {name!r} must be a list of values; got {values!r}; write [record] for one row")
    return [value if value == value else None for value in values]
''',
    "cast": '''
def cast(values, dtype, name):
    """Return the values of a column as an array."""
    try:
        return np.array(values, dtype)
    except (TypeError, ValueError):
        for row, value in enumerate(values):
            try:
                np.array(value, dtype)
            except (TypeError, ValueError) as error:
                raise ValueError(f"column {name!r} has {value!r} in row {row}: {error}") from None
        raise
''',
    "numbers": '''
def numbers(table, name):
    """Return a column of numbers as float64, NaN where a value is missing."""
    found = cast([np.nan if value is None else value for value in column(table, name)], np.float64, name)
    if np.isinf(found).any():
        raise ValueError(f"column {name!r} has an infinite number in row {np.isinf(found).argmax()}")
    return found
''',
    "seconds": '''
def seconds(table, name):
    """Return a column of durations in seconds, NaN where a value is missing."""
    nothing = np.timedelta64("NaT", "us")
    found = cast([nothing if value is None else value for value in column(table, name)], "timedelta64[us]", name)
    return np.where(np.isnat(found), np.nan, found.astype(np.int64) / 1e6)
''',
    "dates": '''
def dates(table, name):
    """Return a column of dates, NaT where a value is missing; dates are local times, without a time zone."""
    values = column(table, name)
    if any(getattr(value, "tzinfo", None) is not None for value in values):
        raise ValueError(f"column {name!r} must hold local times without a time zone")
    nothing = np.datetime64("NaT", "us")
    return cast([nothing if value is None else value for value in values], "datetime64[us]", name)
''',
    "texts": '''
def texts(table, name):
    """Return a column of text, None where a value is missing."""
    values = column(table, name)
    return np.array([None if value is None else str(value) for value in values] + [None], object)[:-1]
''',
    "number_texts": '''
def number_texts(values, boolean=False):
    """Return numbers as text, None where a value is missing."""
    found = [bool(x) if boolean and x in (0.0, 1.0) else float(x) for x in values]
    return np.array([None if x != x else text_of(x) for x in found] + [None], object)[:-1]
''',
    "one_hot": '''
def one_hot(values, levels, other=False, missing=False, refused=None):
    """Return columns of 0 and 1: one for each level, then one for other levels and one for missing values."""
    absent = np.array([value is None for value in values], bool)
    found = [np.array([value == level for value in values], bool) for level in levels]
    rest = ~absent & ~np.any([absent, *found], axis=0)
    if refused is not None and rest.any():
        raise ValueError(f"column {refused!r} has an unknown level, {values[rest.argmax()]!r}, in row {rest.argmax()}")
    found += [rest] if other else []
    found += [absent] if missing else []
    return [each.astype(np.float64) for each in found]
''',
    "ids": '''
def ids(values, levels):
    """Return the place of each level from 2 on; 0 for other levels, 1 for missing values."""
    places = {level: place for place, level in enumerate(levels, 2)} | {None: 1}
    return np.array([places.get(value, 0) for value in values], np.int64)
''',
    "date_part": '''
def date_part(dates, part):
    """Return a part of dates as float64, NaN where a date is missing."""
    days, rest = np.divmod(dates.astype(np.int64), 86_400_000_000)
    day = days.astype("datetime64[D]")
    month, year = day.astype("datetime64[M]"), day.astype("datetime64[Y]")
    found = {
        "days": days + rest / 86_400_000_000,
        "weekday": (days + 3) % 7,
        "hour": rest // 3_600_000_000,
        "minute": rest // 60_000_000 % 60,
        "second": rest % 60_000_000 / 1_000_000,
        "year": year.astype(np.int64) + 1970,
        "month": (month - year).astype(np.int64) + 1,
        "day": (day - month).astype(np.int64) + 1,
        "dayofyear": (day - year).astype(np.int64) + 1,
    }
    return np.where(np.isnat(dates), np.nan, found[part].astype(np.float64))
''',
    "shares": '''
def shares(x, values):
    """Return the share of the training rows below each number, interpolated between their quantiles."""
    y = np.linspace(0.0, 1.0, len(values))
    y = 0.5 * (np.interp(x, values, y) - np.interp(-x, -values[::-1], -y[::-1]))
    y = np.where(x <= values[0], 0.0, np.where(x >= values[-1], 1.0, np.clip(y, 0.0, 1.0)))
    return np.where(np.isnan(x), np.nan, y)
''',
    "present": '''
def present(x, name):
    """Return x, or raise ValueError if a number is missing."""
    if np.isnan(x).any():
        raise ValueError(f"column {name!r} has a missing value in row {np.isnan(x).argmax()}")
    return x
''',
}
"""The functions that the lines may call, by name, as source."""

_CALLS = {
    "numbers": ("column", "cast"),
    "seconds": ("column", "cast"),
    "dates": ("column", "cast"),
    "texts": ("column",),
    "number_texts": ("text_of",),
}


def quoted(text: str) -> str:
    """Return a text that may stand in a docstring, in one line."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")


def table_helper(name: str) -> str:
    """Return the source of a function that lines call."""
    if name == "text_of":
        return "\n" + re.sub(
            r'    """.*?"""\n', '    """Return the text of a number."""\n', _bare(text_of), flags=re.DOTALL
        )
    if name == "normal_deviate":
        numbers = "\n".join(f"{number} = {getattr(special, number)!r}" for number in ("_WA", "_WB", "_WC", "_WD"))
        functions: list[Any] = [special.normal_deviate, special.ratio, special.polynomial]
        return f"\n{numbers}\n\n\n" + "\n\n".join(map(_bare, functions))
    return TABLE_HELPERS[name]


def _bare(function: Callable[..., Any]) -> str:
    """Return the source of a function without its annotations."""
    source = inspect.getsource(function)
    head, _, body = source.partition(":\n")
    names = re.findall(r"(\w+):", head)
    return f"def {function.__name__}({', '.join(names)}):\n{body}"


_SHORT, _LINE = 60, 112
"""The longest list of levels that stands in a call, and the longest line of a longer one."""


class TableSource:
    """Writes the functions ``predict(table)``, ``classify(table)`` and ``transform(table)``.

    Attributes:
        lines: The lines of ``transform``, and what the lines of all three call and read.
    """

    def __init__(self, fitted: FittedPreprocess, dtype: str, lines: Lines) -> None:
        self.fitted, self.dtype, self.lines = fitted, dtype, lines

    def call(self, name: str, *arguments: str) -> str:
        """Return the text of a call of a helper."""
        for each in (*_CALLS.get(name, ()), name):
            self.lines.calls(each)
        return f"{name}({', '.join(arguments)})"

    def array(self, values: Iterable[float]) -> str:
        """Return the name of a stored array."""
        name = self.lines.name("quantiles")
        self.lines.constants[name] = np.array([*values], np.float64)
        return name

    def listed(self, levels: Iterable[str]) -> str:
        """Return the text of a list of levels, or of a long one the name."""
        texts = [*map(repr, levels)]
        if len(", ".join(texts)) <= _SHORT:
            return f"[{', '.join(texts)}]"
        name, row = self.lines.name("levels"), "   "
        self.lines.line(f"{name} = [")
        for text in texts:
            if len(row) + len(text) > _LINE:
                self.lines.line(row)
                row = "   "
            row += f" {text},"
        self.lines.line(row)
        self.lines.line("]")
        return name

    # columns

    def transform(self) -> str:
        """Return the source of ``transform``."""
        found: dict[str, str] = {}
        columns: list[str] = []
        for (label, steps), kind in zip(self.fitted.columns, self.fitted.kinds, strict=True):
            if any(isinstance(step, Drop) for step in steps):
                continue
            self.lines.line("")
            self.lines.line(f"# {' '.join(f'{label}: {kind}'.split())}")
            column = _Column(self, label, kind)
            try:
                for step in steps:
                    _STEPS.get(type(step), _formula)(column, step)
            except FrameworkError as error:
                raise SettingsError(f"export_python: column {label!r}: {error}") from None
            if column.ids:
                found[label] = column.ids
            columns += [*(self.call("present", each, repr(label)) for each in column.numbers), *column.indicators]
            columns += column.flags
        self.lines.line("")
        if columns:
            self.lines.line("x = np.stack(")
            for text in ("[", *(f"    {each}," for each in columns), "],", "axis=1,"):
                self.lines.line(f"    {text}")
            self.lines.line(")")
            found[NUMBERS if found else ""] = f"x.astype(np.{self.dtype})"
        named = ", ".join(f"{key!r}: {text}" for key, text in found.items())
        self.lines.line(f"return {found['']}" if "" in found else f"return {{{named}}}")
        return "\n".join(
            [
                "def transform(table):",
                '    """Return the columns of a table as the network takes them."""',
                *self.lines.lines,
                "",
            ]
        )

    # predictions

    def predict(self, outputs: Any, scores: str) -> str:
        """Return the source of ``predict``, and of ``classify`` where the model gives ``scores`` of classes."""
        named, one = isinstance(outputs, dict), "" in self._inputs()
        rows = "x" if one else f"x[{next(iter(self._inputs()))!r}]"
        part = "x[start:stop]" if one else "{name: each[start:stop] for name, each in x.items()}"
        lines = [
            "def predict(table):",
            f'    """Return the predictions for the rows of a table: {quoted(self._described(scores))}.',
            "",
            "    A table is a dict of columns by name, or a list of records. None and NaN are missing values.",
            '    """',
            "    x, parts = transform(table), []",
            f"    for start in range(0, len({rows}), {EVALUATION_ROWS}) or [0]:",
            f"        stop = start + {EVALUATION_ROWS}",
            f"        parts.append(network({part}))",
        ]
        if named:
            lines.append("    output = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}")
            for key in outputs:
                lines += self._back(
                    f"output[{key!r}]", [each for each in self.fitted.target if each[0] == key], single=True
                )
        else:
            lines.append("    output = np.concatenate(parts)")
            lines += self._back("output", [*self.fitted.target], single=len(self.fitted.target) == 1)
        return "\n".join([*lines, "    return output", ""]) + (self._classify(outputs) if scores else "")

    def _inputs(self) -> dict[str, Any]:
        shape = self.fitted.shape
        return shape if isinstance(shape, dict) else {"": shape}

    def _described(self, scores: str) -> str:
        classes = self.fitted.classes
        if len(self.fitted.target) == 1 and classes and scores:
            levels = next(iter(classes.values()))
            shown = ", ".join(map(repr, levels)) if len(levels) <= 5 else f"{len(levels)} classes"
            return f"{scores} of {shown if len(levels) > 2 else repr(levels[1])}"
        return ", ".join(self.fitted.targets) or "the outputs of the network"

    def _back(self, value: str, targets: list[tuple[str, Any]], *, single: bool) -> list[str]:
        """Return the lines that turn predictions into the unit of the target."""
        if not any(steps and not isinstance(steps[-1], Classes) for _, steps in targets):
            return []
        saved, self.lines.lines = self.lines.lines, []
        names = []
        for place, (label, steps) in enumerate(targets):
            name = self.lines.name("target")
            self.lines.line(f"{name} = {value if single else f'{value}[:, {place}]'}.astype(np.float64)  # {label}")
            for step in [] if any(isinstance(step, Classes) for step in steps) else reversed(steps):
                self.lines.line(f"{name} = {self._inverse(step, name, label)}")
            names.append(name)
        whole = names[0] if single else f"np.stack([{', '.join(names)}], axis=1)"
        self.lines.line(f"{value} = {whole}.astype(np.{self.dtype})")
        written, self.lines.lines = self.lines.lines, saved
        return written

    def _inverse(self, step: ColumnStep, y: str, label: str) -> str:
        match step:
            case Standardize(mean=(mean,), scale=(scale,)):
                return f"{y} * {scale!r} + {_signed(mean)}"
            case MinMax(low=(low,), high=(high,)):
                return f"{y} * ({high!r} - {_signed(low)}) + {_signed(low)}"
            case Log(unit=unit):
                return f"np.copysign(np.expm1(np.abs({y})) * {unit!r}, {y})"
            case _:
                raise SettingsError(
                    f"export_python: target {label!r}: {type(step).__name__} has no source of its inverse; export_onnx "
                    "takes it"
                )

    def _classify(self, outputs: Any) -> str:
        classes = self.fitted.classes
        if len(classes) != 1:
            return ""
        levels = next(iter(classes.values()))
        place = (
            "(predict(table).reshape(-1) > 0.5).astype(int)"
            if len(levels) == 2 and outputs == 1
            else "predict(table).argmax(axis=1)"
        )
        return "\n".join(
            [
                "",
                "",
                "def classify(table):",
                '    """Return the likeliest class of each row of a table."""',
                f"    return np.array({list(levels)!r})[{place}]",
                "",
            ]
        )


class _Column:
    """A column on its way, as names of values in the source."""

    def __init__(self, source: TableSource, label: str, kind: str) -> None:
        self.source, self.label, self.kind = source, label, kind
        self.numbers: list[str] = []
        self.indicators: list[str] = []
        self.flags: list[str] = []
        self.ids = ""
        self.name = source.lines.name(re.sub(r"\W", "_", label, flags=re.ASCII).strip("_") or "column")
        self.name = self.name if not self.name[0].isdigit() else source.lines.name(f"column_{self.name}")
        readers = {"text": "texts", "category": "texts", "date": "dates", "duration": "seconds", "other": ""}
        reader = readers.get(kind, "numbers")
        if not reader:
            raise SettingsError(f"export_python: column {label!r} holds neither numbers nor text nor dates")
        self.form = reader
        self.assign(self.name, source.call(reader, "table", repr(label)))
        if reader in ("numbers", "seconds"):
            self.numbers = [self.name]

    def assign(self, name: str, text: str) -> None:
        """Write a line that gives a name a value."""
        self.source.lines.line(f"{name} = {text}")

    def texts(self) -> str:
        """Return the name of the column as text."""
        if self.form == "texts":
            return self.name
        boolean = ["boolean=True"] if self.kind == "boolean" else []
        self.assign(self.name, self.source.call("number_texts", self.numbers[0], *boolean))
        self.numbers = []
        return self.name


def _signed(number: float) -> str:
    return f"({number!r})" if number < 0 or math.copysign(1.0, number) < 0 else repr(number)


def _standardize(column: _Column, step: Any) -> None:
    for name, mean, scale in zip(column.numbers, step.mean, step.scale, strict=True):
        column.assign(name, f"({name} - {_signed(mean)}) / {scale!r}")


def _min_max(column: _Column, step: Any) -> None:
    for name, low, high in zip(column.numbers, step.low, step.high, strict=True):
        column.assign(name, f"({name} - {_signed(low)}) / ({high!r} - {_signed(low)})")


def _log(column: _Column, step: Any) -> None:
    for name in column.numbers:
        column.assign(name, f"np.copysign(np.log1p(np.abs({name}) / {step.unit!r}), {name})")


def _quantiles(column: _Column, step: Any) -> None:
    for name, values in zip(column.numbers, step.values, strict=True):
        column.assign(name, column.source.call("shares", name, column.source.array(values)))
        if step.to == "normal":
            deviate = column.source.call("normal_deviate", f"np.clip({name}, 1e-07, 1.0 - 1e-07)")
            column.assign(name, deviate)


def _impute(column: _Column, step: Any) -> None:
    name = column.name if column.form == "texts" else column.numbers[0]
    if step.flag and step.missing_column:
        absent = (
            f"np.array([value is None for value in {name}], bool)" if column.form == "texts" else f"np.isnan({name})"
        )
        column.flags.append(column.source.lines.name(f"{column.name}_missing"))
        column.assign(column.flags[-1], f"{absent}.astype(np.float64)")
    if column.form == "texts":
        column.assign(
            name,
            f"np.array([{step.values[0]!r} if value is None else value for value in {name}] + [None], object)[:-1]",
        )
    for each, value in zip(column.numbers, step.values, strict=False):
        column.assign(each, f"np.where(np.isnan({each}), {float(value)!r}, {each})")


def _one_hot(column: _Column, step: Any) -> None:
    options = [
        f"{key}=True" for key, given in (("other", step.other_column), ("missing", step.missing_column)) if given
    ]
    options += [] if step.other else [f"refused={column.label!r}"]
    text = column.source.call("one_hot", column.texts(), column.source.listed(step.levels), *options)
    column.assign(column.name, text)
    column.indicators = [f"*{column.name}"]


def _levels(column: _Column, step: Any) -> None:
    column.assign(column.name, column.source.call("ids", column.texts(), column.source.listed(step.levels or ())))
    column.ids = column.name


def _dates(column: _Column, step: Dates) -> None:
    for part in step.parts:
        part_text = column.source.call("date_part", column.name, repr(part))
        for ending, text in _circle(step, part, part_text).items():
            name = column.source.lines.name(f"{column.name}_{part}{f'_{ending}' if ending else ''}")
            column.assign(name, text)
            column.numbers.append(name)
    column.form = "numbers"


def _circle(step: Dates, part: Any, text: str) -> dict[str, str]:
    """Return the texts of what becomes of a part by the endings of their names, as ``Dates.numbers`` computes it."""
    if step.numbers(part, np.zeros(1)).keys() == {""}:
        return {"": text}
    first, factor = step.circle(part)
    return {each: f"np.{each}(({text} - {first!r}) * {factor!r})" for each in ("sin", "cos")}


def _formula(column: _Column, step: ColumnStep) -> None:
    """Write a step of a user's class, by the graph of its formula."""
    if type(step).apply is not ColumnStep.apply:
        raise SettingsError(
            f"{type(step).__name__} writes its own 'apply', which is not a formula; write 'formula' instead"
        )
    for place, name in enumerate(column.numbers):
        graph = Graph("float64")
        given = graph.input("x", (graph.rows,))
        x: Any = Symbol(given)
        made = value_of(step.formula(x, place))
        if not isinstance(made, Node) or not all(OPERATIONS[n.op].elementwise or n is given for n in ordered([made])):
            raise SettingsError(f"the formula of {type(step).__name__} must work on each number alone")
        formula = Formula(column.source.lines, graph, {given: name}, [made])
        column.numbers[place] = formula.write(made, None, name, name)


_STEPS: dict[type[ColumnStep], Callable[[_Column, Any], None]] = {
    Standardize: _standardize,
    MinMax: _min_max,
    Log: _log,
    Quantiles: _quantiles,
    Impute: _impute,
    OneHot: _one_hot,
    Levels: _levels,
    Dates: _dates,
}
"""The steps of the library."""
