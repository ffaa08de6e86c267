"""Proposals: which steps suit the columns of some data, and why."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from framework.base.arrays import Array
from framework.base.frames import Frame, Kind
from framework.base.settings.component import obvious_setting
from framework.base.settings.messages import warn
from framework.data.sources import source_of
from framework.preprocessing.categories import Classes, OneHot
from framework.preprocessing.numbers import SMALLEST_SQUARES, Clip, Dates, Drop, Impute, Log, MinMax, Standardize
from framework.preprocessing.reading import TARGET, Blocks, kinds_of, raw_column
from framework.preprocessing.statistics import BLOCK_ROWS, LevelCounts, Moments, Sketch
from framework.preprocessing.steps import Column, ColumnStep

FEW = 10
"""Up to this many different whole numbers are taken for categories."""

CLASSES = 20
"""Up to this many different whole numbers of a target are taken for classes."""

COUNTED = 4096
"""Up to this many different values are counted exactly."""

_ID = re.compile(r"(^|[_\W])(id|uuid|guid|key|index|rownames?)$", re.IGNORECASE)
_DOUBTS = {
    "dates": re.compile(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?|\d\d?[/.]\d\d?[/.]\d{2,4}( .*)?"),
    "numbers": re.compile(r"[$€£¥]? ?[+-]?\d[\d,]*\.?\d*( ?[%$€£¥°]| [A-Za-z]{1,6})?"),
}
_DECIMAL_COMMA = re.compile(r",(?!\d{3}(\D|$))")


class Proposal(NamedTuple):
    """Steps for a column.

    Attributes:
        column: Its name.
        kind: What it holds.
        steps: The steps.
        reason: Why, in a few words; "" for what needs none.
        ordered: Whether it holds dates that rise or fall from row to row, by and large.
    """

    column: str
    kind: Kind
    steps: tuple[ColumnStep, ...]
    reason: str
    ordered: bool = False


class _Summary:
    """Counts, range, quantiles and levels of a column, gathered in one pass."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.rows, self.missing = kind, 0, 0
        self.moments, self.sketch, self.levels = Moments(), Sketch(), LevelCounts(COUNTED)
        self.numbers: set[float] = set()
        self.most_distinct = 0  # the sum over blocks
        self.whole = True
        self.units: dict[str, Moments] = {}  # of dates
        self.positions, self.products = Moments(), 0.0  # of the rows with a date, and the sum of position times days

    def add(self, column: Column, rows: int) -> None:
        """Add the rows of a block."""
        self.rows += rows
        if column.form == "dates":
            units = ("days", "year", "month", "weekday", "hour")
            arrays = Dates(units, cyclic=False).apply(column).arrays
            for unit, array in zip(units, arrays, strict=True):
                self.units.setdefault(unit, Moments()).add(array)
            days = arrays[0]
            positions = np.where(np.isnan(days), np.nan, np.arange(self.rows - rows, self.rows))
            self.positions.add(positions)
            self.products += float(np.nansum(positions * days))
            self.missing = int(self.units["days"].missing)
        elif column.form == "numbers":
            (values,) = column.arrays
            self.moments.add(values)
            self.sketch.add(values)
            self.missing = int(self.moments.missing)
            distinct = np.unique(values[~np.isnan(values)])
            self.whole = self.whole and bool((distinct == np.floor(distinct)).all())
            self.most_distinct += len(distinct)
            if len(self.numbers) <= COUNTED:
                self.numbers.update(distinct[: COUNTED + 1].tolist())
        else:
            self.levels.add(column.arrays[0], column.levels)
            self.most_distinct += len(column.levels)
            self.missing = self.levels.missing

    @property
    def present(self) -> int:
        """How many values are there."""
        return self.rows - self.missing

    @property
    def ordered(self) -> bool:
        """Whether the positions of the rows explain half of the variance of their dates, or more."""
        if self.kind != "date":
            return False
        days, positions = self.units["days"], self.positions
        covariance = self.products - positions.count * positions.mean * days.mean
        return covariance**2 > 0.5 * positions.squares * days.squares

    def doubt(self, *, target: bool = False) -> str:
        """Return what seems wrong: text of dates or numbers, or very many classes; "" for nothing."""
        some, count = [*self.levels.counts][:50] if self.kind == "text" else [], self.distinct
        if target and some and count > CLASSES and count > min(self.present / 2, 10 * CLASSES):
            return f"{count:,} classes in {self.present:,} rows, such as {some[0]!r}, which may be numbers"
        known = {} if all(map(str.isdigit, some)) else _DOUBTS  # digits alone may be codes
        what = next((what for what, pattern in known.items() if all(map(pattern.fullmatch, some))), "")
        return what and f"{what} as text, such as {some[0]!r}"

    def conversion(self, label: str) -> str:
        """Return how pandas makes dates or numbers of text that is in doubt."""
        some = [*self.levels.counts][:50]
        if all(map(_DOUBTS["dates"].fullmatch, some)):
            return f"convert it first, as by pandas.to_datetime(table[{label!r}], format=...)"
        texts = f"table[{label!r}].str" + (".replace(',', '.').str" if any(map(_DECIMAL_COMMA.search, some)) else "")
        code = f"pandas.to_numeric({texts}.replace(r'[^\\d.+-]', '', regex=True))"
        return f"convert numbers first, in pandas: table[{label!r}] = {code}"

    @property
    def distinct(self) -> int:
        """How many different values there are; beyond ``COUNTED`` the sum over blocks, which may be too large."""
        counted = len(self.levels.counts) if self.levels.counts else len(self.numbers)
        return self.most_distinct if self.levels.error or counted > COUNTED else counted


def propose(
    data: Any, target: str | Sequence[str] | None = None, *, name: str = "propose", advice: str = ""
) -> tuple[list[Proposal], list[Proposal]]:
    """Return a proposal for each column of some data, and one for each target.

    Args:
        data: A table, (table, "target"), (table, y) or a Dataset of tables; read whole, in blocks.
        target: The name of the target's column, or of several, if data is a table.
        name: The caller, for messages.
        advice: What a warning advises for a column of numbers or dates as text, or for very many classes; "" is a line
            of pandas that converts it.

    Example:
        >>> import pandas
        >>> table = pandas.DataFrame({"city": ["Rome", "Oslo"], "late": ["no", "yes"]})
        >>> [proposal], [goal] = propose(table, "late")
        >>> proposal.column, proposal.kind, proposal.steps[0].n, goal.steps
        ('city', 'text', 20, (Classes(),))
    """
    source = source_of(data if target is None else (data, target), name, alone=True)
    blocks = Blocks(source)
    kinds, goals, _ = kinds_of(blocks)
    summaries = {label: _Summary(kind) for label, kind in kinds.items()}
    targets = {label: _Summary(kind) for label, kind in goals.items()}
    for block in blocks:
        _add(summaries, block.x, f"{name}: column", block.start)
        if block.y is not None:
            _add(targets, block.y, f"{name}: target", block.start)
    for what, columns in (("column", summaries), ("target", targets)):
        for label, column in columns.items():
            if said := column.doubt(target=what == "target"):
                shown = label or source.target or TARGET
                warn(f"{name}: {what} {shown!r} holds {said}; {advice or column.conversion(shown)}")
    few = [summary.whole and summary.distinct <= 300 for summary in summaries.values() if summary.kind == "number"]
    pixels = len(few) > 8 and sum(few) > len(few) / 2  # most are small whole numbers, which are then no categories
    proposals = [
        Proposal(label, summary.kind, *_steps(label, summary, pixels), summary.ordered)
        for label, summary in summaries.items()
    ]
    return proposals, [_goal(source.target or label or TARGET, summary) for label, summary in targets.items()]


def _add(summaries: dict[str, _Summary], frame: Frame, where: str, start: int | Array) -> None:
    for label, summary in summaries.items():
        if summary.kind == "other":
            summary.rows += frame.rows
        else:
            summary.add(
                raw_column(frame, label, f"{where} {label!r}" if label else where, summary.kind, start), frame.rows
            )


def _steps(label: str, column: _Summary, pixels: bool) -> tuple[tuple[ColumnStep, ...], str]:
    if column.kind == "other":
        return (Drop(),), "neither numbers nor text nor dates"
    if not column.present:
        return (Drop(),), "no values"
    if column.kind == "date":
        return _date_steps(column)
    if not column.missing and column.distinct == 1:
        return (Drop(),), "always the same"
    if column.kind in ("text", "category"):
        return _text_steps(label, column)
    return _number_steps(label, column, pixels)


def _text_steps(label: str, column: _Summary) -> tuple[tuple[ColumnStep, ...], str]:
    count, doubt = column.distinct, f", {column.doubt()}" if column.doubt() else ""
    shown = f"{'up to ' if count > COUNTED and column.rows > BLOCK_ROWS else ''}{count:,}"
    if column.present > 20 and (count > 0.9 * column.present or (count > 0.5 * column.present and _ID.search(label))):
        return (Drop(),), f"{shown} different texts in {column.present:,} rows{doubt}"
    missing = f", {column.missing:,} missing" if column.missing else ""
    return (OneHot(),), f"{shown} level{'s' * (count != 1)}{missing}{doubt}{alike(column.levels.counts)}"


def alike(levels: Iterable[str]) -> str:
    """Return a remark on the first two levels that differ in capitals or spaces alone; "" if there are none.

    Example:
        >>> alike(["yes", "no", "Yes "])
        ", 'yes' and 'Yes ' among them"
    """
    first: dict[str, str] = {}
    for level in levels:
        known = first.setdefault("".join(level.split()).casefold(), level)
        if known != level:
            return f", {known!r} and {level!r} among them"
    return ""


def _number_steps(label: str, column: _Summary, pixels: bool) -> tuple[tuple[ColumnStep, ...], str]:
    moments, missing = column.moments, f"{column.missing:,} missing" if column.missing else ""
    if column.kind == "boolean" or (column.distinct == 2 and (moments.low, moments.high) == (0.0, 1.0)):
        return (
            ((OneHot(),), missing) if missing else ((Impute("median"),), "0 and 1" if column.kind == "number" else "")
        )
    few = column.whole and column.distinct <= FEW and not pixels and column.kind == "number"
    if column.whole and column.present > 20 and not few:
        numbered = column.distinct == column.present and moments.high - moments.low == column.present - 1
        if numbered or (_ID.search(label) and column.distinct > 0.5 * column.present):
            return (Drop(),), "numbers of the rows" if numbered else "an id"
    if few and column.present >= 5 * column.distinct and column.distinct > 2:
        return (OneHot(),), ", ".join(filter(None, [f"{column.distinct} different whole numbers", missing]))
    fill = Impute("median")  # also without missing values, because later rows may have some
    if column.distinct == 2:
        return (fill, MinMax()), ", ".join(filter(None, ["two numbers", missing]))
    if moments.squares < SMALLEST_SQUARES and moments.low < moments.high:  # which Standardize refuses
        return (fill, MinMax()), ", ".join(filter(None, ["very close to one another", missing]))
    if (log := _log(column)) is not None:
        size = "long tail" if math.isfinite(moments.squares) else "very large numbers"
        return (fill, log, Standardize(), Clip()), ", ".join(filter(None, [size, missing]))
    return (fill, Standardize(), Clip()), missing


def _log(column: _Summary) -> Log | None:
    """Return a logarithm for numbers of very different size, or so large that Standardize refuses them."""
    if not math.isfinite(column.moments.squares):
        return Log()
    low, lower, middle, upper, high = column.sketch.quantiles(np.array([0.005, 0.25, 0.5, 0.75, 0.995])).tolist()
    right, left = upper - middle or column.moments.deviation, middle - lower or column.moments.deviation
    if not (high - middle > 10 * right or middle - low > 10 * left) or column.present < 50:
        return None
    size = min((abs(number) for number in (lower, middle, upper) if number), default=1.0)
    return Log(unit=1.0 if column.whole or size >= 1.0 else 10.0 ** math.floor(math.log10(size)))


def _date_steps(column: _Summary) -> tuple[tuple[ColumnStep, ...], str]:
    units = [unit for unit in ("year", "month", "weekday", "hour") if column.units[unit].deviation > 0]
    missing = f"{column.missing:,} missing" if column.missing else ""
    if not units and not missing:
        return (Drop(),), "always the same"
    if "month" in units and "year" not in units:  # a later month would be outside of all that the model has seen
        units.remove("month")
        missing = ", ".join(filter(None, ["of one year: no month comes again", missing]))
    return (Dates(units or ("days",)), Impute("median"), Standardize()), missing


def _goal(label: str, column: _Summary) -> Proposal:
    if column.kind in ("text", "category", "boolean"):
        return Proposal(label, column.kind, (Classes(),), f"{column.distinct} classes")
    if column.kind == "number" and column.whole and column.distinct <= min(CLASSES, column.present / 2):
        return Proposal(label, column.kind, (Classes(),), f"{column.distinct} classes")
    tail = column.kind == "number" and _log(column) is not None
    remark = 'long tail; ["Log", "Standardize"] fits ratios and predicts medians' if tail else ""
    return Proposal(label, column.kind, (Standardize(),), remark)


def rules(proposals: Sequence[Proposal]) -> dict[str, tuple[tuple[ColumnStep, ...], str]]:
    """Return the steps and the reason by name; where most columns of a kind take the same, by kind."""
    common: dict[Kind, tuple[ColumnStep, ...]] = {}
    plain = not any("*" in p.column or p.column.startswith("<") for p in proposals)  # else names act as rules
    for kind in dict.fromkeys(p.kind for p in proposals if plain):
        steps, count = Counter(p.steps for p in proposals if p.kind == kind).most_common(1)[0]
        few = FEW if kind in ("text", "category") else 3  # the number of levels is worth a line for each
        if count > few and not any(isinstance(step, Drop) for step in steps):
            common[kind] = steps
    named = {p.column: (p.steps, p.reason) for p in proposals if common.get(p.kind) != p.steps}
    return named | {f"<{kind}>": (steps, "the others") for kind, steps in common.items()}


_Steps: TypeAlias = Mapping[str, tuple[ColumnStep, ...]]


def code(columns: _Steps, target: _Steps = MappingProxyType({})) -> str:
    """Return a recipe as Python code.

    Example:
        >>> print(code({"age": (Impute("median"), Standardize())}, {"*": (Classes(),)}))
        Preprocess(
            columns={
                "age": [Impute("median"), Standardize()],
            },
            target=[Classes()],
        )
    """
    lines = ["Preprocess(", *_table("columns", columns)]
    if [*target] == ["*"]:
        lines.append(f"    target={_write_steps(target['*'])},")
    elif target:
        lines += _table("target", target)
    return "\n".join([*lines, ")"])


def _table(setting: str, steps: _Steps) -> list[str]:
    rows = [f"        {_quote(key)}: {_write_steps(chain)}," for key, chain in steps.items()]
    return [f"    {setting}={{", *rows, "    },"]


def _quote(text: str) -> str:
    shown = repr(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _write_value(value: Any, digits: int) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_write_value(item, digits) for item in value)}]"
    if isinstance(value, float):
        value = float(f"{value:.{digits}g}")
    return _quote(value) if isinstance(value, str) else repr(value)


def _write_steps(steps: Iterable[ColumnStep]) -> str:
    return f"[{', '.join(map(step_code, steps))}]"


def step_code(step: ColumnStep, digits: int = 17) -> str:
    """Return a step as code, without the settings that are the defaults; its numbers have some digits.

    Example:
        >>> step_code(OneHot(50)), step_code(Impute(0.0, flag=False)), step_code(Log())
        ('OneHot(50)', 'Impute(0.0, flag=False)', 'Log()')
        >>> step_code(Log(unit=0.1234567), digits=4)
        'Log(0.1235)'
    """
    cls = type(step)
    shown = [
        f"{'' if name == obvious_setting(cls) else f'{name}='}{_write_value(value, digits)}"
        for name, value in step.settings().items()
        if value != cls.model_fields[name].get_default()
    ]
    return f"{cls.__name__}({', '.join(shown)})"
