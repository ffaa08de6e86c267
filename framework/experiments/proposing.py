"""A first experiment for a table: what is in it, and a choice for everything, with a comment that says why."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, brief
from framework.base.extras import load_module
from framework.base.frames import Frame
from framework.base.settings.messages import printable, warn
from framework.data.csv import CSV, marks_of, number_pattern
from framework.data.date_formats import ISO, formats_of, pattern_of, swap_day_and_month
from framework.data.files import locate_files
from framework.data.sources import hold_out
from framework.data.splits import Selection
from framework.data.table_files import TableFile
from framework.experiments.files.text import to_toml
from framework.experiments.folder import SAVING
from framework.experiments.tables import classes_of, drop_unlabelled, groups_of, table_of, table_read_as, targets_of
from framework.formulas.losses.rows import MultiQuantile
from framework.formulas.metrics.base import Metric
from framework.formulas.metrics.formulas import R2, ROCAUC
from framework.preprocessing.categories import Classes, OneHot
from framework.preprocessing.numbers import Drop, Standardize
from framework.preprocessing.proposing import alike, propose, rules
from framework.preprocessing.statistics import BLOCK_ROWS, LevelCounts
from framework.preprocessing.steps import ColumnStep
from framework.training.proposing import SIZES, Size, size_of

NEARLY = 0.9
"""From this part of its cells on, a column is taken to be meant as numbers or as dates."""

SHOWN = 5
"""Up to this many different cells are kept."""

DIGITS = "%Y%m%d"
"""The format of dates that CSV files would hold as whole numbers."""

_WITH_UNIT = r"[+-]?[$€£¥] ?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*( ?[%$€£¥°]| [A-Za-z]{1,6})"


class Look:
    """How many cells of a column fit a pattern, and which.

    Attributes:
        kind: ``"code"`` for digits with a leading zero, ``"number"``, ``"date"``, or ``"unit"`` for a number with one.
        format: The format of dates that are not ISO 8601; "" for others.
        cells: The first different cells that fit, with their rows.
        odd: Those that do not.
        fitting: How many cells fit.
        present: How many cells are not missing.
        formats: Of dates: all formats that fit as many cells.
        units: Of numbers with a unit: the units.
    """

    def __init__(self, kind: str, pattern: str, form: str = "") -> None:
        self.kind, self.format, self._pattern = kind, form, rf"^({pattern})$" if form else rf"^\s*({pattern})\s*$"
        self.cells: dict[str, int] = {}
        self.odd: dict[str, int] = {}
        self.fitting = self.present = 0
        self.formats: tuple[str, ...] = ()
        self.units: set[str] = set()

    def add(self, cells: Any, start: int) -> None:
        """Add cells of text, of which ``start`` is the first row."""
        compute = load_module("pyarrow.compute", "CSV")
        fits = compute.match_substring_regex(cells, self._pattern)
        self.present += len(cells) - cells.null_count
        self.fitting += compute.sum(fits).as_py() or 0
        if self.kind == "unit" and len(self.units) < SHOWN:
            self.units |= {*compute.replace_substring_regex(cells.filter(fits), r"[\s\d.,+-]", "").unique().to_pylist()}
        for kept, shown in ((self.cells, fits), (self.odd, compute.invert(fits))):
            rows = np.flatnonzero(shown.fill_null(False).to_numpy(zero_copy_only=False))
            for row in rows.tolist() if len(kept) <= SHOWN else ():
                kept.setdefault(cells[row].as_py(), start + row)
                if len(kept) > SHOWN:
                    break


def looks(table: CSV) -> dict[str, Look]:
    r"""Return the columns whose kind is worth a word, by name; the table is read once more, in blocks.

    These are whole numbers with leading zeros or that are dates, and text in which nearly all cells are numbers or
    dates. Columns that the settings call text are left out.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.csv").write_text("zip,age,when\n" + "00663,31,20/1/2021\n" * 20 + "10115,old,1/1/2021\n")
        >>> found = looks(CSV("a.csv"))
        >>> found["zip"].kind, found["zip"].cells, found["age"].kind, found["age"].odd, found["when"].formats
        ('code', {'00663': 0}, 'number', {'old': 20}, ('%d/%m/%Y',))
    """
    types = load_module("pyarrow", "CSV").types
    fields = [field for field in table.rows.schema if field.name not in (*table.text, table.weight)]
    whole = [field.name for field in fields if types.is_int64(field.type) and field.name not in table.targets]
    numbers = [("number", number_pattern(*marks)) for marks in marks_of(table)]
    digits = rf"(?:19|20)\d\d{pattern_of('%m%d')}"
    every = {name: [Look("code", r"0\d+"), Look("date", digits, DIGITS)] for name in whole}
    every |= {
        field.name: [Look(kind, pattern) for kind, pattern in (*numbers, ("date", ISO), ("unit", _WITH_UNIT))]
        for field in fields
        if types.is_string(field.type)
    }
    names, seen_dates = [*every], {*whole}
    if not names:
        return {}
    seen = table.replace(columns=names, text=names, target=None, weight=None)
    for start in range(0, len(seen), BLOCK_ROWS):
        frame = seen.frame(start, min(start + BLOCK_ROWS, len(seen)))
        for name in names:
            column = frame.column(name).combine_chunks()
            if name not in seen_dates and (first := column.slice(0, 1000).drop_null().unique()[:SHOWN].to_pylist()):
                seen_dates.add(name)
                forms = dict.fromkeys(form for cell in first for form in formats_of(cell))
                every[name] += [Look("date", pattern_of(form), form) for form in forms]
            for look in every[name]:
                look.add(column, start)
    worth = {}
    for name, tried in every.items():
        best = max(tried, key=lambda look: look.fitting)
        fitting = [look.format for look in tried if look.format and look.fitting == best.fitting]
        if best.format:
            best.formats = tuple(dict.fromkeys(f for f in (fitting[0], swap_day_and_month(fitting[0])) if f in fitting))
        share = {"code": 1 / max(1, best.present), DIGITS: 1.0}.get(best.format or best.kind, NEARLY)
        if best.fitting and best.fitting >= share * best.present:
            worth[name] = best
    return worth


TOO_MANY = 1000
"""More classes than this are an id or a text."""

_COMMENTED = "the new file has a comment on it"

RARE = 0.05
"""A class with this part of the rows or less deserves a word; of more than 10 classes, with half of an equal part."""


FEW_CLASSES = 10
"""Up to this many classes need a small network only, where the rows are as few as in the first size."""


_MEMBERS = """\
members = {:<13} # the model is the mean of networks with first weights{} of their own; 1 is faster
"""


class Plan(NamedTuple):
    """The hidden layers, and how they are trained; everything is TOML.

    Attributes:
        layers: The hidden layers, and why.
        rate: The learning rate.
        batch_size: Rows of a step.
        epochs: How many, and why.
        metrics: Those that the callback needs.
        best: The callback that keeps the best weights, and why.
        members: How many such networks there are.
    """

    layers: tuple[tuple[str, str], ...]
    rate: str
    batch_size: int
    epochs: tuple[int, str]
    metrics: str
    best: tuple[str, str]
    members: int = 1


def plan(size: Size, classes: int, *, numbers: bool) -> Plan:
    """Return a small network for few classes in few rows, which a large one learns by heart; else large ones.

    Args:
        size: The choices for as many rows.
        classes: How many classes the target has; 0 for a number.
        numbers: Whether there are inputs that are numbers or dates.
    """
    if 0 < classes <= FEW_CLASSES and size.rows == SIZES[0].rows:
        return Plan(
            layers=(('{type = "Dense", units = 32, activation = "ReLU"}', ""),),
            rate="0.003",
            batch_size=32,
            epochs=(200, "at most: EarlyStopping ends training before"),
            metrics="",
            best=(
                'type = "EarlyStopping", monitor = "val_loss", patience = 20, restore_best = true',
                "Stop when the validation loss has not improved for some epochs, and keep the best weights.",
            ),
        )
    waves = ('"PeriodicEmbedding"', "waves of each number, by which its bends are easy to learn")
    dense = ('{type = "Dense", units = 256, activation = "ReLU"}', "")
    return Plan(
        layers=(waves, dense, dense) if numbers else (dense, dense),
        rate='{type = "CosineSchedule", initial = 0.003}',
        batch_size=size.batch_size,
        epochs=(size.epochs, "the learning rate falls to 0 in them"),
        metrics=', "RefinedLoss", "Temperature"' if classes else "",
        best=(
            'type = "RestoreBest", monitor = "val_refined_loss", calibrate = true',
            "Keep the weights of the epoch that tells the classes apart best, and make its probabilities fit.",
        )
        if classes
        else ('type = "RestoreBest", monitor = "val_loss"', "Keep the weights of the epoch with the least loss."),
        members=3,
    )


def proposal(
    data: str,
    target: str,
    task: Literal["classes", "number"] | None,
    folder: Path,
    changes: Sequence[str] = (),
    out: str | None = None,
    groups: str | None = None,
    quantiles: Sequence[float] = (),
) -> str:
    """Return an experiment for a table, as TOML with comments.

    Args:
        data: A CSV or Parquet file, or several as a pattern. It is read whole, in blocks.
        target: The column to predict.
        task: What the target is; None guesses.
        folder: Where the experiment will be: the path of the data is relative to it.
        changes: Settings of how the table is read, such as ``"data.thousands=,"``.
        out: The file that is written, for the commands in comments; None is the name of the data.
        groups: The column whose values keep rows together when some are held out; it is not an input.
        quantiles: The quantiles of the target to predict, which is a number then; () predicts its mean.

    Raises:
        DataError: The table cannot be read, has no such column, or its target cannot be learnt.
        SettingsError: The ending is neither .csv nor .parquet, or a setting is wrong.
    """
    table, comments = table_read_as(table_of(data, target=target), changes), list[str]()
    flags = {"--task": task, "--out": out, "--groups": groups, "--quantiles": ",".join(map(repr, quantiles)) or None}
    settings = [*flags.items(), *(("--set", change) for change in changes)]
    options = [text for flag, value in settings if value is not None for text in (flag, value)]
    again = ["framework", "new", data, "--target", target, *options]
    if isinstance(table, CSV):
        table, comments = _read_as_meant(table, again)
    names = [name for name in table.names if name != groups]
    if not names or not len(table):
        lack = "rows" if names else f"column but the target {target!r}"
        raise DataError(f"{data} has no {lack}, so there is nothing to learn from")
    codes = None if groups is None else groups_of(drop_unlabelled(table), groups)
    table = table.replace(columns=names) if groups is not None and table.columns else table
    learnt = drop_unlabelled(table if groups is None else table.replace(columns=names))
    proposals, [goal] = propose(learnt, name="new", advice=_COMMENTED)
    rows = len(learnt)
    left_out = f"; {len(table) - rows:,} rows without it are left out" if rows < len(table) else ""
    size = size_of(rows, classes=True)
    columns = [  # with as many levels of a text as the number of rows allows
        column._replace(steps=(OneHot(size.levels),)) if column.steps == (OneHot(),) else column for column in proposals
    ]
    if goal.kind in ("date", "other"):
        what = "dates" if goal.kind == "date" else "neither numbers nor text"
        raise DataError(f"the target {target!r} holds {what}; choose another column")
    if all(isinstance(step, Drop) for column in columns for step in column.steps[:1] or [None]):
        said = "".join(f"; {line[2:].rstrip()}" for line in comments if ": read as " in line)
        why = ", ".join(f"{column.column} ({column.reason})" for column in columns[:10])
        raise DataError(f"{data} has no column to learn from: {why}{', ...' if len(columns) > 10 else ''}{said}")
    classes, split, step = Counter[str](), "", cast("ColumnStep", Standardize())
    if task == "classes" or (task is None and not quantiles and any(isinstance(step, Classes) for step in goal.steps)):
        if isinstance(table, CSV) and goal.kind != "text":
            table = table.replace(text=(*table.text, target))  # so that a label stays as its cell is: 01, true
        classes, y, split = _classes(drop_unlabelled(table), target, size.validation)
        counts, kind = LevelCounts(), "text" if isinstance(table, CSV) else goal.kind
        counts.counts, counts.numeric, counts.boolean = dict(classes), kind == "number", kind == "boolean"
        step = Classes().learnt([counts], "the target")  # all classes, also those that only held-out rows have
    elif goal.kind not in ("number", "duration"):
        cause = next((f"; {line[2:].rstrip()}" for line in comments if line.startswith(f"# {_comment(target)}: ")), "")
        what = f"the target {target!r} must hold numbers; it holds {goal.kind}{cause}"
        raise DataError(what, where="--quantiles" if quantiles else "--task number")
    else:
        y = _numbers(learnt, goal.kind)
    kinds = Counter(column.kind for column in columns).items()
    counted = ", ".join(f"{count} {kind} column{'s' * (count > 1)}" for kind, count in kinds)
    held, why_held = _holdout(bool(classes), split, codes, ordered=any(column.ordered for column in columns))
    with_numbers = any(column.kind not in ("text", "category", "boolean") for column in columns)
    planned = plan(size_of(rows, classes=bool(classes)), len(classes), numbers=with_numbers)
    strata, own = (y if held == "stratified" else None), "" if held == "last" else " and held-out rows"
    parts = [
        part.first[1]
        for seed in ([None] if held == "last" else range(planned.members))
        for part in hold_out((y, y), size.validation, seed, "validation", None, strata, codes)
    ]
    head, loss, metrics = _head(classes, parts, planned.metrics, quantiles)
    lines = "".join(f"    {layer},{f'  # {why}' if why else ''}\n" for layer, why in (*planned.layers, head))
    return f"""\
# {_comment(data)}: {rows:,} rows; {counted}
# {_comment(target)}: {_comment(_describe_target(classes))}{left_out}
{_rare(classes)}#
# Every setting below is a first guess. Change it here, or by a flag: framework train FILE --set trainer.epochs=5.
# The sizes depend on the rows and on the target; no setting was tuned on the data.

# The part of the rows that is held out for validation after each epoch.
validation = {size.validation}
holdout = {_quote(held):<13} # {_comment(why_held)}
{_groups(learnt, groups, codes, again)}{_MEMBERS.format(planned.members, own) if planned.members > 1 else ""}
# Paths are relative to this file.
{"".join(comments)}{to_toml({"data": _data(table, folder)})}
[trainer]
seed = 0                # of the held-out rows and of the order of the others
epochs = {planned.epochs[0]:<14} # {planned.epochs[1]}
batch_size = {planned.batch_size}
engine = "auto"         # compiled where llvmlite is installed, and NumPy where it is not; "numpy" is always NumPy
loss = {loss}
metrics = {metrics}
optimizer = {{type = "AdamOptimizer", learning_rate = {planned.rate}}}
callbacks = [
    # {planned.best[1]}
    {{{planned.best[0]}}},
    "ProgressBar",
    # What the run writes; these paths are relative to its folder.
    {{type = "JSONLog", path = "history.jsonl"}},
    # Save the newest state this often, and the best weights at the end.
    {{type = "Checkpoint", folder = "{SAVING.folder}", every = "{SAVING.every}"}},
]

# The steps that convert each column to numbers, learnt from the training rows alone. A column takes the steps under its
# name; else those of the first matching pattern, such as "income*"; else those of its kind, such as "<text>". Impute
# fills missing values, also if only later rows have some. Clip cuts numbers off at 5 standard deviations, so that a
# typing error in one row cannot end training or give an absurd prediction.
[trainer.preprocess.target]
{_rule(target, [step], "" if classes else goal.reason)}
[trainer.preprocess.columns]
{"".join(_rule(key, chain, why) for key, (chain, why) in rules(columns).items())}
[model]
type = "Sequential"
seed = 0                # of the first weights
dtype = "float32"       # faster than float64, the default, and precise enough for a table
layers = [
{lines}]
"""


def _require_header(table: CSV, again: Sequence[str]) -> None:
    """Refuse a first line of numbers unless they are whole and rise, as years do; beside text, if they do neither.

    Raises:
        DataError: It is so, or text of this line is in other rows too; gives the command that names the columns.
    """
    names, rows = [*table.rows.names], table.rows.read(0, 1000)
    numbers = [float(name.replace(",", ".")) for name in names if re.fullmatch(r"\s*[+-]?\d+([.,]\d+)?\s*", name)]
    usual = [numbers == sorted({*numbers}), all(map(float.is_integer, numbers))]
    enough = all(usual) if len(numbers) == len(names) else any(usual)
    if (table.header is None and numbers) and (
        not enough or any(name in rows.column(name).to_pylist() for name in rows.column_names)
    ):
        columns = [f"column{index}" for index in range(1, len(names) + 1)]
        command = [*again[:4], columns[names.index(table.targets[0])], *again[5:]]
        settings = {"header": columns} | ({} if table.delimiter == "," else {"delimiter": table.delimiter})
        raise DataError(
            f"{again[2]}: the first line, {brief(', '.join(names))}, looks like a row of data; begin the file with a "
            f"line of names, or give them: {_flags(command, settings)}"
        )


def _comment(text: str) -> str:
    """Return a text as it may stand in a comment: names in a table may hold anything."""
    return printable(text).replace("\n", "\\n")


def _classes(table: TableFile | Selection, target: str, validation: float) -> tuple[Counter[str], Array, str]:
    """Return how often each class of the target comes, that of each row, and which the last rows lack or have alone.

    Raises:
        DataError: The classes are too few or too many.
    """
    names, codes = classes_of(table, TOO_MANY)
    if len(names) > TOO_MANY:
        raise DataError(
            f"the target {target!r} has more than {TOO_MANY} different values; choose another column, or, if it "
            "is a number, --task number"
        )
    if len(names) < 2:
        raise DataError(f"the target {target!r} has one value in all rows, {brief(names[0][0] if names else None)}")
    ends = codes[len(codes) - round(len(codes) * validation) :]
    counts, last = (np.bincount(some, minlength=len(names)).tolist() for some in (codes, ends))
    split = ""
    for (name,), count, held_out in zip(names, counts, last, strict=True):
        if held_out == count:
            split = f"only the last rows have {_quote(name)}"
        elif not held_out and count * validation >= 1:  # of a rarer class, less than one row is expected
            split = split or f"the last rows have no {_quote(name)}"
    return Counter({name: count for (name,), count in zip(names, counts, strict=True)}), codes, split


def _holdout(classes: bool, split: str, groups: Array | None, *, ordered: bool) -> tuple[str, str]:
    """Return which rows are held out, and why; ``split`` is what the last rows do to a class."""
    if groups is not None:
        why = ", although the rows are in the order of a date" * ordered
        return "stratified" if classes else "random", f"whole groups, drawn by the seed of the trainer{why}"
    if classes and (split or not ordered):
        why = f"although the rows are in the order of a date: {split}" if ordered else _DRAWN
        return "stratified", f"of each class its share, {why}"
    return ("last", "the last rows, because the rows are in the order of a date") if ordered else ("random", _DRAWN)


_DRAWN = 'drawn by the seed of the trainer; "last" takes the last rows'


_REPEATED = re.compile(
    r"(^|[_\W])(ids?|uuid|key|patient|subject|participant|person|user|customer|client|household|session|device|group)$",
    re.IGNORECASE,
)
"""The end of the name of a column whose values may keep rows together."""


def _groups(table: Any, groups: str | None, codes: Array | None, again: Sequence[str]) -> str:
    """Return the line of the groups, or a comment on the first column that looks like the id of several rows."""
    if groups is not None and codes is not None:
        why = f"the rows of each of its {codes.max() + 1:,} values stay together, because they may be alike"
        return f"groups = {_quote(groups):<14} # {why}\n"
    for name in filter(_REPEATED.search, (table if isinstance(table, TableFile) else table.dataset).names):
        with suppress(DataError):
            counts = np.bincount(groups_of(table, name))
            if 10 < len(counts) <= len(table) / 2 and np.median(counts) > 1:
                advice = f"If rows that share one are alike: {shlex.join([*again, '--groups', name, '--overwrite'])}"
                return f"# {_comment(name)}: {len(counts):,} values in {len(table):,} rows. {_comment(advice)}\n"
    return ""


def _delimiter(table: CSV) -> str:
    """Return the delimiter by which the line of names has the target, or else the most names."""
    with locate_files(table.path, table.ending, "CSV")[0].open_plain() as file:
        lines = bytes(file.read(1 << 16)).decode(table.encoding, "replace").removeprefix("\ufeff").splitlines()
    names = {mark: next(csv.reader(lines, delimiter=mark), []) for mark in f"{table.delimiter};\t|,"}
    return max(names, key=lambda mark: (table.targets[0] in names[mark], len(names[mark])))


def _with_numbers_read(table: CSV) -> CSV:
    """Return a table as it is, or with the only decimal point and grouped digits that fit all columns.

    Raises:
        DataError: The table cannot be read, or numbers fit two decimal points or none.
    """
    problems, readings = list[DataError](), dict[str, CSV]()
    for decimal, thousands in marks_of(table):
        read = table.replace(decimal=decimal, thousands=thousands)
        try:
            read.rows  # noqa: B018 (opens the files)
        except DataError as problem:
            problems.append(problem)
            continue
        if not problems:
            return read
        readings.setdefault(decimal, read)
    if len(readings) == 1:
        return readings.popitem()[1]
    first, last = problems[0], problems[-1]
    if not readings and (first.subject, first.problem) != (last.subject, last.problem):
        first.problem += f", but {last.subject} {last.problem}"
        first.advice = (Advice("write all numbers of the file alike, or ", *first.advice[0].words[-2:]),)
    raise first


def _read_as_meant(table: CSV, again: Sequence[str]) -> tuple[CSV, list[str]]:
    """Return a CSV file that is read with its delimiter, numbers, codes and dates as meant, and comments that say so.

    Args:
        table: The file.
        again: The command that writes the experiment; the delimiter, marks of numbers and dates that it has are kept.

    Raises:
        DataError: The table cannot be read, or in two ways, or its first line looks like a row.
    """
    before, flags = table, {argument.partition("=")[0] for argument in again}
    with_numbers_read = (lambda table: table) if flags & {"data.decimal", "data.thousands"} else _with_numbers_read
    if "data.delimiter" not in flags:
        table = table.replace(delimiter=_delimiter(table))
    table = with_numbers_read(table)
    _require_header(table, again)
    seen = looks(table)
    for look in seen.values() if "data.dates" not in flags else ():
        if len(look.formats) == 1 and look.fitting == look.present:
            (form,) = look.formats
            if form not in table.dates and (
                swap_day_and_month(form) == form or swap_day_and_month(form) not in table.dates
            ):
                table = table.replace(dates=[*table.dates, form])
    table = table.replace(text=[*table.text, *(name for name, look in seen.items() if look.kind == "code")])
    whole = {name: [*look.units] for name, look in seen.items() if look.kind == "unit" and look.fitting == look.present}
    units = {name: candidates[0] for name, candidates in whole.items() if len(candidates) == 1} | dict(table.units)
    table = with_numbers_read(table.replace(units=units))
    comments, marks = [], ("delimiter", "decimal", "thousands")
    if changed := [mark for mark in marks if getattr(table, mark) != getattr(before, mark)]:
        comments.append(f"# {', '.join(changed)}: as all columns are written\n")
    types = cast("Any", table.rows).types.values()
    for name, (cell, _) in [(kind.name, kind.grouped) for kind in types if kind.grouped]:
        number = cell.replace(table.thousands or "", "").replace(table.decimal, ".")
        comments.append(f"# {_comment(name)}: numbers with grouped digits; {_quote(cell)} is {number}\n")
    comments += [f"# {_comment(name)}: {_of_cells(name, look, table, again)}\n" for name, look in seen.items()]
    return table, comments


def _of_cells(name: str, look: Look, table: CSV, again: Sequence[str]) -> str:
    """Return the comment on a column of codes, or in which nearly all cells are numbers or dates, and what to do."""
    cells, odd = (
        ", ".join(map(_quote, [*some][:SHOWN])) + (" and others" if len(some) > SHOWN else "")
        for some in (look.cells, look.odd)
    )
    cell, row = next(iter(look.cells.items()))
    if look.kind == "code":
        return (
            f"digits with leading zeros, first {_quote(cell)} in row {row}, are read as text, because they are "
            "labels; delete the name in text if they are numbers."
        )
    if look.fitting == look.present and (read_by := [form for form in look.formats if form in table.dates]):
        but = ", as in another column" if len(look.formats) > 1 else ""
        if look.format == DIGITS:
            but = f"; if they are numbers: {_flags(again, {'dates': []})}"
        return f"dates such as {_quote(cell)} are read by {_quote(read_by[0])} in dates{_comment(but)}"
    if look.kind == "number" and not look.odd:
        return "read as text; a float has fewer digits than some of its numbers"
    if look.kind == "unit" and name in dict(table.units):
        return f"numbers such as {cells} are read without their unit, which is in units."
    begin = f"read as {'numbers' if look.format == DIGITS else 'text'}; {look.fitting:,} of {look.present:,} cells are"
    if look.kind == "unit" and not (look.odd and len(look.units) == 1):
        return f"{begin} numbers with a unit, such as {cells}. To make them numbers, give all cells one unit."
    nulls = {"nulls": [*table.nulls, *look.odd]} if look.odd else {}
    commands = [
        _flags(again, nulls | {"dates": [*(form for form in table.dates if form != swap_day_and_month(last)), last]})
        for last in look.formats
    ]
    command = _comment(" or ".join(commands or [_flags(again, nulls)]))
    if not look.odd:
        return f"{begin} dates, such as {cells}. To read them: {command}"
    cell, row = next(iter(look.odd.items()))
    count = f"{look.present - look.fitting:,} of {look.present:,} cells"
    warn(f"column {name!r} holds text in {count}, first {brief(cell)} in row {row}; {_COMMENTED}")
    end = "." if len(look.odd) > SHOWN else f"; or, if they stand for missing values: {command}"
    kinds = "numbers with a unit" if look.kind == "unit" else f"{look.kind}s"
    return f"{begin} {kinds}, but not {odd}, first in row {row}. Correct the cells{end}"


def _quote(cell: str) -> str:
    return json.dumps(printable(cell), ensure_ascii=False)


def _flags(again: Sequence[str], settings: Mapping[str, str | Sequence[str]]) -> str:
    """Return a command again, with settings of how the table is read."""
    begins = tuple(f"data.{setting}=" for setting in settings)
    kept = [argument for n, argument in enumerate(again) if not any(one.startswith(begins) for one in again[n : n + 2])]
    for setting, value in settings.items():
        text = value if isinstance(value, str) else json.dumps([*dict.fromkeys(value)], ensure_ascii=False)
        kept += ["--set", f"data.{setting}={text}"]
    return shlex.join([*kept, "--overwrite"])


def _describe_target(classes: Counter[str]) -> str:
    """Say what the target is."""
    if not classes:
        return "a number"
    shown = ", ".join(f"{name} ({count:,} rows)" for name, count in classes.most_common(10))
    return f"{len(classes)} classes: {shown}{', ...' if len(classes) > 10 else ''}{alike(classes)}"


def _rare(classes: Counter[str]) -> str:
    """Return a comment on the classes that have few rows."""
    few, rows = RARE * min(1, 10 / max(1, len(classes))), classes.total()
    rare = [
        f"{_comment(name)} ({count / rows:.1%})"
        for name, count in sorted(classes.items(), key=itemgetter(1))
        if count <= few * rows
    ]
    shown = ", ".join(rare[:SHOWN]) + f" and {len(rare) - SHOWN} more" * (len(rare) > SHOWN)
    return bool(rare) * (
        f"# Few rows: {shown}\n# The accuracy says little about them. sampling = "
        '"balanced" in [trainer] draws each class equally often;\n# its probabilities are then too large.\n'
    )


def _data(table: TableFile, folder: Path) -> dict[str, Any]:
    """Return the settings of a table that differ from their defaults, with the path relative to a folder."""
    path = table.path
    if isinstance(path, str) and "://" not in path:
        try:
            path = Path(os.path.relpath(path, folder)).as_posix()
        except ValueError:  # another drive of Windows
            path = Path(path).absolute().as_posix()
    return dict(_short(table.replace(path=path)))


def _numbers(table: TableFile | Selection, kind: str) -> Array:
    """Return a target of numbers as the metrics see it: standardised, in float32, and turned back."""
    read = Frame.seconds if kind == "duration" else Frame.numbers
    y = np.concatenate([read(frame, frame.names[0]) for frame in targets_of(table)])
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        return ((y - mean) / scale).astype(np.float32).astype(np.float64) * scale + mean


def _head(
    classes: Counter[str], parts: Sequence[Array], more: str, quantiles: Sequence[float]
) -> tuple[tuple[str, str], str, str]:
    """Return the last layer for a target and why, the loss, and the metrics that training and held-out rows have."""
    if quantiles:
        loss = f'{{type = "MultiQuantile", quantiles = {[*MultiQuantile(quantiles=quantiles).quantiles]}}}'
        layer = f'{{type = "Dense", units = {len(quantiles)}, activation = "Sort"}}'
        return (layer, "An output for each quantile, in rising order"), loss, f'[{loss}, "Coverage", "MiddleError"]'
    if not classes:
        center = float(f"{np.nan_to_num(parts[0].mean()):.6g}")
        r2 = _choose_metric({', "R2"': R2(), f', {{type = "R2", center = {center}}}': R2(center=center)}, parts)
        metrics = f'["MeanAbsoluteError", "RootMeanSquaredError"{r2}]'  # in the unit of the target
        return ('{type = "Neuron"}', "One output, a number"), '"MeanSquaredError"', metrics
    if len(classes) == 2:
        neuron = '{type = "Neuron", activation = "Sigmoid"}', "One output: the probability of the second class"
        area = _choose_metric({', "ROCAUC"': ROCAUC()}, parts)
        return neuron, '"BinaryCrossEntropy"', f'["Accuracy"{area}{more}]'
    layer = f'{{type = "Dense", units = {len(classes)}, activation = "Softmax"}}'
    return (layer, "An output for each class: its probability"), '"CrossEntropy"', f'["Accuracy"{more}]'


def _choose_metric(metrics: Mapping[str, Metric], parts: Sequence[Array]) -> str:
    """Return the text of the first metric that the targets of all parts let ``train`` compute, or nothing."""
    for text, metric in metrics.items():
        with suppress(DataError):
            for y in parts:
                metric.require_targets(y, None, y.shape)
            return text
    return ""


def _rule(key: str, steps: Sequence[ColumnStep], why: str) -> str:
    """Return the line of a rule."""
    line = to_toml({key: [*map(_short, steps)]}).rstrip("\n")
    return f"{line}{f'  # {_comment(why)}' if why else ''}\n"


def _short(component: TableFile | ColumnStep) -> Any:
    """Return the settings that differ from the defaults of their class; a class alone is its name."""
    settings = component.model_dump(mode="json", exclude_defaults=True)
    settings |= {name: dict(settings[name]) for name in settings if name in type(component).named}
    return {"type": component.tag(), **settings} if settings else component.tag()
