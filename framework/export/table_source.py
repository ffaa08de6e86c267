"""TableSource: the FittedPreprocess of a model as lines of Python, from the columns of a table to numbers and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from framework.base.errors import FrameworkError, SettingsError
from framework.export.columns import number_of_level
from framework.export.source import Lines, Readable, docstring_text
from framework.graph.graph import Graph
from framework.graph.node import Node, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import Symbol, value_of
from framework.models.rows import EVALUATION_ROWS
from framework.preprocessing.categories import Classes, Levels, OneHot
from framework.preprocessing.fitted import NUMBERS, FittedPreprocess
from framework.preprocessing.numbers import Dates, Drop, Impute, QuantileTransform
from framework.preprocessing.steps import ColumnStep

TABLE_HELPERS = {
    "column": '''
def column(table, name):
    """Return the values of a column, None where one is missing.

    A table is a dict of columns, a list of records, or a table of pandas, polars or Arrow.
    """
    if isinstance(table, list):
        known = not table or any(name in record for record in table)
        table = {name: [record.get(name) for record in table]} if known else {}
    names = table.column_names if hasattr(table, "to_pylist") else table  # Arrow's
    if not hasattr(table, "__getitem__") or name not in names:
        raise ValueError(f"the table must have the column {name!r}")
    values = table[name].to_pylist() if hasattr(table, "to_pylist") else table[name]
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ValueError(f"column {name!r} must be a list of values; got {values!r}; write [record] for one row")
    return [None if type(each).__name__ == "NAType" or each != each else each for each in values]
''',
    "require": '''
def require(values, fits, wanted, name):
    """Return the values of a column, each of which must fit or be missing."""
    for row, value in enumerate(values):
        if value is not None and not fits(value):
            raise ValueError(f"column {name!r} must hold {wanted}; got {value!r} in row {row}")
    return values
''',
    "numbers": '''
def numbers(table, name):
    """Return a column of numbers as float64, NaN where a value is missing."""
    others = (np.character, np.datetime64, np.timedelta64)
    fits = lambda value: hasattr(value, "__float__") and not isinstance(value, others)
    values = require(column(table, name), fits, "numbers, as float(...) makes them of text", name)
    found = np.array([np.nan if value is None else value for value in values], np.float64)
    if np.isinf(found).any():
        raise ValueError(f"column {name!r} has an infinite number in row {np.isinf(found).argmax()}")
    return found
''',
    "seconds": '''
def seconds(table, name):
    """Return a column of durations in seconds, NaN where a value is missing."""
    fits = lambda value: isinstance(value, np.timedelta64) or hasattr(value, "total_seconds")
    values = require([time_of(value) for value in column(table, name)], fits, "durations", name)
    values = [value.to_timedelta64() if hasattr(value, "to_timedelta64") else value for value in values]
    values = [np.timedelta64("NaT", "s") if value is None else np.timedelta64(value) for value in values]
    finest = np.result_type("timedelta64[s]", *{value.dtype for value in values})
    found = np.array([value.astype(finest) for value in values], finest)
    micros, nanos = found.astype("timedelta64[us]"), found.astype("timedelta64[ns]")
    exact = np.where(found == micros, micros.astype(np.int64) / 1e6, nanos.astype(np.int64) / 1e9)
    return np.where(np.isnat(found), np.nan, exact)
''',
    "time_of": '''
def time_of(value):
    """Return a time of day, also as text such as 01:20, as a duration since midnight; anything else as it is."""
    text = str(value) if type(value).__name__ in ("str", "time") else ""
    try:
        plain = ":" in text and set(text) <= {*"0123456789:."}
        return np.datetime64(f"1970-01-01T{text}") - np.datetime64("1970-01-01") if plain else value
    except ValueError:  # such as 25:00
        return value
''',
    "date_of": '''
def date_of(value, formats, zone):
    """Return a date, or the text of one, as a local time: on the clock of a zone if it has a time zone."""
    for form in formats if isinstance(value, (str, int, np.integer)) else []:
        try:
            value = datetime.strptime(str(value), form)
            break
        except ValueError:
            pass
    if isinstance(value, (int, np.integer)):
        raise ValueError(f"it is not written as {formats}")
    if isinstance(value, str) and zone is not None:
        value = datetime.fromisoformat(value)
    return value if getattr(value, "tzinfo", None) is None else value.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
''',
    "dates": '''
def dates(table, name, formats=(), zone=None):
    """Return a column of dates as local times, NaT where a value is missing.

    Texts are written in one of the formats or as ISO 8601. Dates have a time zone only where the data of fit had one.
    """
    kinds = (str, np.datetime64, int, np.integer) if formats else (str, np.datetime64)
    fits = lambda value: isinstance(value, kinds) or hasattr(value, "year")
    values = require(column(table, name), fits, "dates", name)
    if zone is None:
        require(values, lambda value: getattr(value, "tzinfo", None) is None, "local times without a time zone", name)
    found = np.full(len(values), "NaT", "datetime64[us]")
    for row, value in enumerate(values):
        try:
            found[row] = found[row] if value is None else date_of(value, formats, zone)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r} has {value!r} in row {row}: {error}") from None
    return found
''',
    "texts": '''
def texts(table, name, empty=False):
    """Return a column of text, None where a value is missing.

    A list or a dict says None for a missing value: an empty text, as csv.DictReader gives it, is one only if empty.
    """
    empty = empty or not isinstance(table, (list, dict))
    fits = lambda value: isinstance(value, str) and (value != "" or empty)
    values = require(column(table, name), fits, "text, or None for a missing value", name)
    return np.array([*values, None], object)[:-1]
''',
    "categories": '''
def categories(table, name, empty=False):
    """Return a column of categories as text, None where a value is missing."""
    values = [None if value is None else text_of(value) for value in column(table, name)]
    return texts({name: values}, name, empty or not isinstance(table, (list, dict)))
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
    "part_of": '''
def part_of(dates, part):
    """Return a part of dates, NaN where a date is missing."""
    return np.where(np.isnat(dates), np.nan, date_part(dates.astype(np.int64), part))
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

_SHORT, _LINE = 60, 112
"""The longest list of levels that stands in a call, and the longest line of a longer one."""


class TableSource:
    """Writes the functions ``predict(table)``, ``classify(table)`` and ``transform(table)``.

    Attributes:
        lines: The lines of ``transform``, and what the lines of all three read.
        dates: How texts of dates are written that are not ISO 8601.
    """

    def __init__(self, fitted: FittedPreprocess, dtype: str, lines: Lines, dates: Sequence[str] = ()) -> None:
        self.fitted, self.dtype, self.lines, self.dates = fitted, dtype, lines, dates

    def array(self, values: Iterable[float]) -> str:
        """Return the name of a stored array."""
        name = self.lines.name("quantiles")
        self.lines.constants[name] = np.array([*values], np.float64)
        return name

    def levels_text(self, levels: Iterable[str]) -> str:
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
        results: dict[str, str] = {}
        columns: list[str] = []
        for (label, steps), kind in zip(self.fitted.columns, self.fitted.kinds, strict=True):
            if any(isinstance(step, Drop) for step in steps):
                continue
            self.lines.line("")
            self.lines.comment(f"{label}: {kind}")
            empty = any("" in (getattr(step, "levels", None) or ()) for step in steps)
            column = _Column(self, label, kind, empty=empty)
            try:
                for step in steps:
                    _STEPS.get(type(step), _formula)(column, step)
            except FrameworkError as error:
                raise SettingsError.of(error, "export_python", f"column {label!r}") from None
            if column.ids:
                results[label] = column.ids
            columns += [*(f"present({number}, {label!r})" for number in column.numbers), *column.indicators]
            columns += column.flags
        self.lines.line("")
        if columns:
            rows = [f"        {column}," for column in columns]
            for text in ("x = np.stack(", "    [", *rows, "    ],", "    axis=1,", ")"):
                self.lines.line(text)
            results[NUMBERS if results else ""] = f"x.astype(np.{self.dtype})"
        named = ", ".join(f"{key!r}: {text}" for key, text in results.items())
        self.lines.line(f"return {results['']}" if "" in results else f"return {{{named}}}")
        begin = 'def transform(table):\n    """Return the columns of a table as the network takes them."""'
        return "\n".join([begin, *self.lines.lines, ""])

    # predictions

    def predict(self, outputs: Any, scores: str) -> str:
        """Return the source of ``predict``, and of ``classify`` where the model gives ``scores`` of classes."""
        named, shape, rows, chunk = isinstance(outputs, dict), self.fitted.shape, "x", "x[start:stop]"
        if isinstance(shape, dict):
            rows, chunk = f"x[{next(iter(shape))!r}]", "{name: each[start:stop] for name, each in x.items()}"
        lines = [
            "def predict(table):",
            f'    """Return the predictions for the rows of a table: {self._describe_output(scores)}.',
            "",
            "    A table is a dict of columns by name, a list of records, or a table of pandas, polars or Arrow.",
            "    None and NaN are missing values.",
            '    """',
            "    x, parts = transform(table), []",
            f"    for start in range(0, len({rows}), {EVALUATION_ROWS}) or [0]:",
            f"        stop = start + {EVALUATION_ROWS}",
            f"        parts.append(network({chunk}))",
        ]
        if named:
            lines.append("    output = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}")
            for key in outputs:
                targets = [target for target in self.fitted.target if target[0] == key]
                lines += self._back(f"output[{key!r}]", targets, single=True)
        else:
            lines.append("    output = np.concatenate(parts)")
            lines += self._back("output", [*self.fitted.target], single=len(self.fitted.target) == 1)
        return "\n".join([*lines, "    return output", ""]) + (self._classify(outputs) if scores else "")

    def _describe_output(self, scores: str) -> str:
        """Return what ``predict`` gives, as one line of a docstring."""
        classes, description = self.fitted.classes, ", ".join(self.fitted.targets) or "the outputs of the network"
        if len(self.fitted.target) == 1 and classes and scores:
            levels = next(iter(classes.values()))
            shown = ", ".join(map(repr, levels)) if len(levels) <= 5 else f"{len(levels)} classes"
            description = f"{scores} of {shown if len(levels) > 2 else repr(levels[1])}"
        return docstring_text(" ".join(description.split()))

    def _back(self, value: str, targets: list[tuple[str, Any]], *, single: bool) -> list[str]:
        """Return the lines that turn predictions into the unit of the target."""
        if not any(steps and not isinstance(steps[-1], Classes) for _, steps in targets):
            return []
        saved, self.lines.lines = self.lines.lines, []
        names = []
        for index, (label, steps) in enumerate(targets):
            name = self.lines.name("target")
            self.lines.comment(label)
            self.lines.line(f"{name} = {value if single else f'{value}[:, {index}]'}.astype(np.float64)")
            for step in [] if any(isinstance(step, Classes) for step in steps) else reversed(steps):
                try:
                    self.inverse(step, name)
                except FrameworkError as error:
                    raise SettingsError.of(error, "export_python", f"target {label!r}") from None
            names.append(name)
        whole = names[0] if single else f"np.stack([{', '.join(names)}], axis=1)"
        self.lines.line(f"{value} = {whole}")
        written, self.lines.lines = self.lines.lines, saved
        return written

    def inverse(self, step: ColumnStep, name: str) -> None:
        """Write the inverse of a step of a target, whose value keeps its name."""
        if isinstance(step, QuantileTransform):
            share = name if step.to == "uniform" else f"share_of({name})"
            self.lines.line(f"{name} = number_above({share}, {self.array(step.values[0])})")
        else:
            self.formula(step, lambda y: step.inverse(y, 0), name, name)

    def formula(self, step: ColumnStep, formula: Callable[[Any], Any], argument: str, name: str) -> None:
        """Write a formula of each number alone.

        Args:
            step: The step, for messages.
            formula: (x) -> its result, for a symbol.
            argument: The text of x.
            name: The name of the result; a value of this name ends here.

        Raises:
            SettingsError: The formula mixes the rows.
            DerivativeError: It has no graph.
        """
        graph = Graph("float64")
        x = graph.input("x", (graph.rows,))
        made = value_of(formula(Symbol(x)))
        if not isinstance(made, Node) or not all(OPERATIONS[n.op].elementwise or n is x for n in order_nodes([made])):
            raise SettingsError(f"the formula of {type(step).__name__} must work on each number alone")
        self.lines.free(name)
        (text,) = Readable(self.lines, graph, {x: argument}, [made]).write_results({made: name})
        if made is x:
            self.lines.line(f"{self.lines.name(name)} = {text}")

    def _classify(self, outputs: Any) -> str:
        classes = self.fitted.classes
        if len(classes) != 1:
            return ""
        levels = next(iter(classes.values()))
        single = len(levels) == 2 and outputs == 1
        index = "(predict(table).reshape(-1) > 0.5).astype(int)" if single else "predict(table).argmax(axis=1)"
        begin = '\n\ndef classify(table):\n    """Return the likeliest class of each row of a table."""\n'
        return f"{begin}    return np.array({list(levels)!r})[{index}]\n"


class _Column:
    """A column on its way, as names of values in the source."""

    def __init__(self, source: TableSource, label: str, kind: str, *, empty: bool) -> None:
        self.source, self.label, self.kind = source, label, kind
        self.numbers: list[str] = []
        self.indicators: list[str] = []
        self.flags: list[str] = []
        self.ids = ""
        self.name = source.lines.name(re.sub(r"\W", "_", label, flags=re.ASCII).strip("_") or "column")
        self.name = self.name if not self.name[0].isdigit() else source.lines.name(f"column_{self.name}")
        if kind == "other":
            raise SettingsError("holds neither numbers nor text nor dates", name=f"export_python: column {label!r}")
        readers = {"text": "texts", "category": "categories", "date": "dates", "duration": "seconds"}
        self.form = {"text": "texts", "category": "texts", "date": "dates"}.get(kind, "numbers")
        further = ", empty=True" if empty and self.form == "texts" else ""
        if kind == "date" and (source.dates or label in dict(source.fitted.zones)):
            further = f", {[*source.dates]}, {dict(source.fitted.zones).get(label)!r}"
        self.assign(self.name, f"{readers.get(kind, 'numbers')}(table, {label!r}{further})")
        if self.form == "numbers":
            self.numbers = [self.name]

    def assign(self, name: str, text: str) -> None:
        """Write a line that gives a name a value."""
        self.source.lines.line(f"{name} = {text}")

    def texts(self, levels: Iterable[str]) -> str:
        """Return the name of the column as text, which is compared with levels.

        Raises:
            SettingsError: A level is a larger whole number than the column, as float64, holds exactly.
        """
        if self.form == "texts":
            return self.name
        for level in levels:
            number_of_level(level)
        boolean = ", boolean=True" if self.kind == "boolean" else ""
        self.assign(self.name, f"number_texts({self.numbers[0]}{boolean})")
        self.numbers = []
        return self.name


def _quantiles(column: _Column, step: Any) -> None:
    for name, values in zip(column.numbers, step.values, strict=True):
        column.assign(name, f"share_below({name}, {column.source.array(values)})")
        if step.to == "normal":
            column.assign(name, f"deviate_of({name})")


def _impute(column: _Column, step: Any) -> None:
    name = column.name if column.form == "texts" else column.numbers[0]
    if step.flag and step.missing_column:
        absent = "np.array([value is None for value in {}], bool)" if column.form == "texts" else "np.isnan({})"
        column.flags.append(column.source.lines.name(f"{column.name}_missing"))
        column.assign(column.flags[-1], f"{absent.format(name)}.astype(np.float64)")
    if column.form == "texts":
        column.assign(
            name,
            f"np.array([{step.values[0]!r} if value is None else value for value in {name}] + [None], object)[:-1]",
        )
    for number, value in zip(column.numbers, step.values, strict=False):
        column.assign(number, f"np.where(np.isnan({number}), {float(value)!r}, {number})")


def _one_hot(column: _Column, step: Any) -> None:
    options = ["other=True"] * bool(step.other_column) + ["missing=True"] * bool(step.missing_column)
    options += [] if step.other else [f"refused={column.label!r}"]
    texts = column.texts(step.levels), column.source.levels_text(step.levels)
    column.assign(column.name, f"one_hot({', '.join([*texts, *options])})")
    column.indicators = [f"*{column.name}"]


def _levels(column: _Column, step: Any) -> None:
    levels = step.levels or ()
    column.assign(column.name, f"ids({column.texts(levels)}, {column.source.levels_text(levels)})")
    column.ids = column.name


def _dates(column: _Column, step: Dates) -> None:
    for unit in step.parts:
        argument = f"part_of({column.name}, {unit!r})"
        for ending in step.numbers(unit, np.zeros(1)):
            name = column.source.lines.name(f"{column.name}_{unit}{f'_{ending}' if ending else ''}")
            column.source.formula(step, lambda x: step.numbers(unit, x)[ending], argument, name)  # noqa: B023 (called here)
            column.numbers.append(name)
    column.form = "numbers"


def _formula(column: _Column, step: ColumnStep) -> None:
    """Write a step that is a formula, of the library or of a user's class."""
    if type(step).apply is not ColumnStep.apply:
        raise SettingsError(
            f"{type(step).__name__} writes its own 'apply', which is not a formula", advice="write 'formula' instead"
        )
    for index, name in enumerate(column.numbers):
        column.source.formula(step, lambda x: step.formula(x, index), name, name)  # noqa: B023 (called here)


_STEPS: dict[type[ColumnStep], Callable[[_Column, Any], None]] = {
    QuantileTransform: _quantiles,
    Impute: _impute,
    OneHot: _one_hot,
    Levels: _levels,
    Dates: _dates,
}
"""The steps that are more than a formula of each number."""
