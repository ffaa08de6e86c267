"""Columns: the FittedPreprocess of a model in ONNX, from the columns of a table to the model's numbers and back.

There is an input for each column, (rows,): float64 for numbers, booleans and durations in seconds, where NaN is
missing; text for text and categories, where "" is missing; and int64 for dates, in microseconds since 1970 on the clock
of their time zone, where the smallest integer, NumPy's NaT, is missing.

The formulas of the steps are called on symbols, as those of layers are, so a step of a user's class is exported too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framework.base.errors import DerivativeError, SettingsError
from framework.export.file import File
from framework.export.whole import explain_without_graph
from framework.export.writer import Writer
from framework.graph.graph import Graph
from framework.graph.symbol import value_of
from framework.graph.trace import STAND_INS
from framework.preprocessing.categories import Levels, OneHot
from framework.preprocessing.fitted import NUMBERS, FittedPreprocess
from framework.preprocessing.numbers import Dates, Drop, Impute, date_part
from framework.preprocessing.steps import ColumnStep

_NAT = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class _Column:
    """A column on its way: numbers, (rows, n), as a symbol; or text, as the name of a value of the file."""

    name: str
    numbers: Any = None
    text: str = ""
    date: Any = None
    ids: Any = None
    flags: tuple[Any, ...] = ()


def column_inputs(fitted: FittedPreprocess) -> list[str]:
    """Return the names of the columns that are inputs of the file: those that are not dropped."""
    return [name for name, steps in fitted.columns if not any(isinstance(step, Drop) for step in steps)]


def write_columns(file: File, fitted: FittedPreprocess, dtype: str) -> tuple[dict[str, str], str]:
    """Write the inputs and the steps of all columns.

    Returns:
        The names of the model's inputs in the file; and that of the rows that ``predict`` refuses, (rows,), boolean, or
        "" if it takes any row.

    Raises:
        SettingsError: A step has no form in ONNX; names the column.
    """
    sizes = [len(step.levels or ()) for _, steps in fitted.columns for step in steps if hasattr(step, "levels")]
    sizes += [
        len(v) for _, steps in fitted.columns for step in steps for v in getattr(step, "values", ()) if np.ndim(v)
    ]
    rows = next(prime for prime in STAND_INS if all(size % prime for size in (*sizes, len(fitted.names)) if size))
    writer = Writer(file, Graph("float64", rows))
    names: dict[str, str] = {}
    blocks: list[Any] = []
    raw: list[Any] = []  # the numbers as they came
    inputs = column_inputs(fitted)
    for (name, steps), kind in zip(fitted.columns, fitted.kinds, strict=True):
        if name not in inputs:
            continue
        file.layer = f"column {name}"
        try:
            column = _input(writer, name, kind)
            raw += [] if column.numbers is None else [column.numbers]
            for step in steps:
                column = _STEPS.get(type(step), _formula)(writer, column, step)
        except DerivativeError as error:
            raise explain_without_graph(error).within("export_onnx", f"column {name!r}") from None
        except SettingsError as error:
            raise error.within("export_onnx", f"column {name!r}") from None
        if column.ids is not None:
            names[name] = writer.write_value(value_of(column.ids), "i")
        blocks += [] if column.numbers is None else [column.numbers]
        blocks += column.flags
    file.layer = "columns"
    refused = [np.any(np.isinf(_side_by_side(raw)), axis=1)] if raw else []
    if blocks:
        x = file.cast(writer.write_value(value_of(_side_by_side(blocks)), "f"), dtype)
        names[NUMBERS if names else "x"] = x
        wide = writer.symbol_of_value(file.cast(x, "float64"), (rows, sum(block.shape[1] for block in blocks)))
        refused.append(~np.all(np.isfinite(wide), axis=1))
    return names, writer.write_value(value_of(functools.reduce(np.logical_or, refused)), "b") if refused else ""


def _side_by_side(blocks: list[Any]) -> Any:
    return np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]


def _input(writer: Writer, name: str, kind: str) -> _Column:
    """Add the input of a column."""
    rows = (writer.graph.rows,)
    if kind in ("text", "category"):
        return _Column(name, text=writer.file.input(name, object, ["rows"]))
    if kind == "date":
        return _Column(name, date=writer.symbol_of_value(writer.file.input(name, "int64", ["rows"]), rows, "i"))
    if kind == "other":
        raise SettingsError("it holds neither numbers nor text nor dates")
    return _Column(name, writer.symbol_of_value(writer.file.input(name, "float64", ["rows"]), rows)[:, None])


def _formula(_writer: Writer, column: _Column, step: ColumnStep) -> _Column:
    """Take a step that is a formula of numbers."""
    if type(step).apply is not ColumnStep.apply:
        raise SettingsError(
            f"{type(step).__name__} writes its own 'apply', which has no graph", advice="write 'formula' instead"
        )
    arrays = [step.formula(column.numbers[:, index], index) for index in range(column.numbers.shape[1])]
    return replace(column, numbers=np.stack(arrays, axis=1))


def _impute(writer: Writer, column: _Column, step: Any) -> _Column:
    flags, flagged = column.flags, step.flag and step.missing_column
    if column.text:
        absent = writer.op("Equal", column.text, writer.file.array([""], object))
        flags = (*flags, writer.symbol_of_value(absent, (writer.graph.rows,), "b")[:, None] * 1.0) if flagged else flags
        filled = writer.op("Where", absent, writer.file.array([step.values[0]], object), column.text)
        return replace(column, text=filled, flags=flags)
    absent = np.isnan(column.numbers)
    flags = (*flags, absent[:, :1] * 1.0) if flagged else flags
    return replace(column, numbers=np.where(absent, np.array(step.values, float), column.numbers), flags=flags)


def _matches(writer: Writer, column: _Column, levels: Iterable[str]) -> tuple[Any, Any]:
    """Return which level each row has, (rows, levels), and where the value is missing, (rows, 1)."""
    levels, rows = [*levels], writer.graph.rows
    if column.text:
        wide = writer.op("Unsqueeze", column.text, writer.file.integers([1]))
        matches = writer.op("Equal", wide, writer.file.array([levels or [""]], object))
        absent = writer.op("Equal", wide, writer.file.array([[""]], object))
        known = writer.symbol_of_value(matches, (rows, max(1, len(levels))), "b")
        return known[:, : len(levels)], writer.symbol_of_value(absent, (rows, 1), "b")
    numbers = np.array([number_of_level(level) for level in levels])[None]
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32).astype(float)  # 0.1 is also the level of float32's 0.1
    return (column.numbers == numbers) | (column.numbers == narrow), np.isnan(column.numbers)


def number_of_level(level: str) -> float:
    """Return the number that a level is written of; NaN, which equals nothing, for a text that is not a number.

    Raises:
        SettingsError: It is a larger whole number than float64, in which the column comes, holds exactly.
    """
    try:
        number = float({"True": "1", "False": "0"}.get(level, level))
    except ValueError:
        return np.nan
    if abs(number) >= 2.0**53:
        raise SettingsError(f"the level {level} is a larger whole number than float64 holds exactly")
    return number


def _one_hot(writer: Writer, column: _Column, step: Any) -> _Column:
    if not (step.levels or step.other_column or step.missing_column):
        return replace(column, text="", numbers=None)
    known, absent = _matches(writer, column, step.levels)
    some = np.any(known, axis=1, keepdims=True) if step.levels else absent & ~absent
    parts = [known] if step.levels else []
    parts += [~(some | absent)] if step.other_column else []
    parts += [absent & ~some] if step.missing_column else []
    numbers = np.concatenate([indicator * 1.0 for indicator in parts], axis=1)
    if not step.other:  # such a level raises an error in predict
        numbers = np.where(some | absent, numbers, np.nan)
    return replace(column, text="", numbers=numbers)


def _levels(writer: Writer, column: _Column, step: Any) -> _Column:
    if not step.levels:
        _, absent = _matches(writer, column, ["-"])
        return replace(column, text="", numbers=None, ids=absent[:, 0] * 1)
    known, absent = _matches(writer, column, step.levels)
    places = np.sum(known * np.arange(2, 2 + len(step.levels)), axis=1)
    return replace(column, text="", numbers=None, ids=np.where(places > 0, places, absent[:, 0] * 1))


def _dates(_writer: Writer, column: _Column, step: Any) -> _Column:
    parts = [number for unit in step.parts for number in step.numbers(unit, date_part(column.date, unit)).values()]
    absent = (column.date == _NAT)[:, None]
    return replace(column, date=None, numbers=np.where(absent, np.nan, np.stack(parts, axis=1)))


_STEPS: dict[type[ColumnStep], Callable[[Writer, _Column, Any], _Column]] = {
    Impute: _impute,
    OneHot: _one_hot,
    Levels: _levels,
    Dates: _dates,
}
"""The steps that are more than a formula of numbers."""


def write_inverse(
    file: File, fitted: FittedPreprocess, outputs: dict[str, tuple[str, tuple[int, ...]]]
) -> dict[str, str]:
    """Write the predictions in the unit of the target, as ``FittedPreprocess.inverse`` gives them, in float64.

    Args:
        file: The file.
        fitted: The steps of the target.
        outputs: The name in the file and the shape of a sample of each output.

    Returns:
        The names in the file of the outputs that it changes.
    """
    if not fitted.unit:
        return {}
    graph = Graph("float64")
    writer, file.layer = Writer(file, graph), "target"
    values = {
        key: writer.symbol_of_value(file.cast(name, "float64"), (graph.rows, *shape))
        for key, (name, shape) in outputs.items()
    }
    in_unit = fitted.inverse(values) if len(values) > 1 else dict.fromkeys(values, fitted.inverse(*values.values()))
    return {key: writer.write_value(value_of(value), "f") for key, value in in_unit.items() if value is not values[key]}
