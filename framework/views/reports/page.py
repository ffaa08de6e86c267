"""Page: runs as one HTML page that holds all it needs, under a content policy that lets nothing else run or load.

Its charts have the columns of histories, thinned so that long runs stay small.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from framework.base.arrays import Array, place_of_best
from framework.base.errors import SettingsError
from framework.base.files import write_whole
from framework.base.settings.messages import printable
from framework.base.tables import COUNTERS, figure
from framework.views.plots.curves import axis_positions

MARK = '<meta name="generator" content="framework report">'
"""Says that a file is a report, which a newer one may replace."""

TABLE_EPOCHS = 100
MATRIX_CLASSES = 25
PAIRS = 30
ROWS = 500
FEW = 12
BESIDE = 7
LONGEST = 100_000

POINTS = 2000
"""A curve with more points is thinned to at most this many."""

COLORS = 7
"""How many colours the page has; further runs repeat them with other dashes."""

NORMS = ("gradient_norm", "weight_norm")
"""How the columns of ``RecordNorms`` begin."""


Cells = Sequence[Sequence[str]]
"""The rows of a table."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        classes: The names of the classes.
        counts: counts[true, predicted], (classes, classes).
    """

    classes: tuple[str, ...]
    counts: Array


@dataclass
class Contents:
    """The parts of a page about one run.

    Attributes:
        name: The run's name, for the title.
        columns: The history by column: None where an epoch has no value, a NaN where it is not finite or not known.
        facts: Names and values: engine, time, why it stopped, versions.
        settings: Names and values; or the text of an experiment.
        code: The model as Python code.
        layers: The rows of the model's summary, the first of which is the head; empty without a model.
        data: The rows of the table of columns: name, kind, steps, what it became.
        weights: The epoch at whose end the model had its weights, None if it is not known.
        final: The figures of the final weights on the validation data, by name.
        beside: Those of each baseline, such as a linear model, by its name.
        confusions: The confusion matrix of each output of classes on the validation data, by its name.
        unconfused: Why there is no confusion matrix, and what to do for one; empty where the model has no classes.
        steps: The quantities of the first steps, by name: of a ``TracedStep``, or of a ``TracedUpdate``.
        notes: Why the run stopped without an error.
        alarms: The error that ended the run, and what is missing on the page, and why.
    """

    name: str
    columns: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    facts: Cells = ()
    settings: Sequence[tuple[str, str]] | str = ()
    code: str = ""
    layers: Cells = ()
    data: Cells = ()
    weights: int | None = None
    final: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    unconfused: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    alarms: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """The epochs in the history."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def best(self) -> tuple[str, int] | None:
        """The column that says which epoch is the best, and its place; None where no value is finite."""
        key = next((key for key in ("val_loss", "loss") if key in self.columns), "")
        epoch = place_of_best(self.columns.get(key, ()))
        return None if epoch is None else (key, epoch)


def write_report(path: str | os.PathLike[str], runs: Sequence[Contents], *several: Any) -> None:
    """Write a page about some runs; an earlier report of this path is replaced.

    Args:
        path: The file.
        runs: The runs, in the order in which they are shown.
        several: The further arguments of ``page``.

    Raises:
        SettingsError: The file cannot be written, or is something else than a report.
    """
    file = Path(path)
    try:
        if file.is_file() and MARK not in file.read_text(encoding="utf-8", errors="replace")[:1000]:
            raise SettingsError(f"report: {os.fspath(path)!r} exists, and is not a report; give another path")
    except OSError as error:
        raise SettingsError(f"must be a file that can be read; {error}", name="report: argument 'path'") from error
    write_whole(file, page(runs, *several))


def page(runs: Sequence[Contents], rows: Sequence[Any] = (), over: Sequence[Any] = (), title: str = "") -> str:
    """Return the page as text.

    Args:
        runs: The runs, in the order in which they are shown.
        rows: The settings and figures of several runs, and of baselines behind them; empty for one run.
        over: Charts of a figure over settings.
        title: The title of several runs.
    """
    title = title or (f"{len(runs)} runs" if rows else runs[0].name)
    curves = charts(runs)
    styles = _asset("uPlot.min.css") + _asset("report.css")
    scripts = [f"/*!\n{_asset('LICENSE-uPlot')}*/\n{_asset('uPlot.iife.min.js')}", _asset("report.js")]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(styles)}",
            f"script-src {' '.join(map(_hash, scripts))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n{MARK}\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n',
            f"<title>{_text(title)}</title>\n<style>{styles}</style>\n</head>\n<body>\n<main>\n",
            f"<h1>{_text(title)}</h1>\n",
            f'<p class="soft">Written by framework at {dt.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}.</p>\n',
            *_body(runs, rows, over, curves),
            "</main>\n",
            f'<script type="application/json" id="data">{_json([*over, *curves])}</script>\n',
            *(f"<script>{script}</script>\n" for script in scripts),
            "</body>\n</html>\n",
        )
    )


def _body(runs: Sequence[Contents], rows: Sequence[Any], over: Sequence[Any], curves: Sequence[Any]) -> Iterator[str]:
    yield from _comparison(runs, rows) if rows else _results(runs[0])
    if over:
        yield "<h2>Settings that vary</h2>\n"
        yield from _chart_boxes(over, 0)
    yield from _curves(runs, curves, len(over))
    for index, run in enumerate(runs):
        if not rows:
            yield from _details(run)
        else:
            mark = f'<span class="mark m{index % COLORS}"></span>'
            yield f'<details class="run"><summary>{mark}{_text(run.name)}</summary>\n'
            parts = "".join((*_results(run), *_details(run)))
            yield parts.replace("<h2>", "<h3>").replace("</h2>", "</h3>") + "</details>\n"


def _results(run: Contents) -> Iterator[str]:
    for kind, texts in (("note", run.notes), ("alarm", run.alarms)):
        yield from (f'<p class="{kind}">{_text(text)}</p>\n' for text in texts)
    yield '<div class="pair"><section>\n'
    yield from _figures(run)
    yield f"</section><section>\n<h2>Run</h2>\n{_table(run.facts, 'run')}</section></div>\n"


def _comparison(runs: Sequence[Contents], rows: Sequence[Any]) -> Iterator[str]:
    """Give a table with a column for each run, and for each baseline behind them; of more runs, with a row for each."""
    marks = [*(f'<span class="mark m{index % COLORS}"></span>' for index in range(len(runs))), *[""] * len(rows)]
    table: Any = [["", *(f"{mark}{_text(row['run'])}" for mark, row in zip(marks, rows[:ROWS], strict=False))]]
    for key in [key for key in rows[0] if key != "run"]:
        values = [row[key] for row in rows[:ROWS]]
        table.append([_text(key), *(_shorten(value) if isinstance(value, str) else _cell(value) for value in values)])
    few = len(rows) <= BESIDE
    head, *lines = table if few else zip(*table, strict=True)
    yield f"<h2>Side by side</h2>\n{_grid('runs side by side', _heads(head), lines, 'text' * few)}"


def _figures(run: Contents) -> Iterator[str]:
    """Give the figures of the last epoch, of the best one and of the final weights."""
    if not run.epochs:
        yield "<h2>Figures</h2>\n<p>No epoch has been finished.</p>\n"
        return
    last, best = run.epochs - 1, run.best
    groups = [(f"last epoch, {_epoch(run, last)}", last)]
    if best is not None and best[1] == last:
        groups = [(f"last epoch, {_epoch(run, last)}, also the best", last)]
    elif best is not None:
        groups.append((f"best epoch, {_epoch(run, best[1])}", best[1]))
    names = figures([run])
    parts = ("training", "validation") if any(f"val_{name}" in run.columns for name in names) else ("training",)
    yield "<h2>Figures</h2>\n"
    said = [f"The best epoch has the smallest {best[0]}."] if best is not None else []
    said += [f"The weights are those of epoch {run.weights:,}."] if run.weights else []
    yield f'<p class="soft">{_text(" ".join(said))}</p>\n' if said else ""
    finals = {"final weights": run.final, **run.beside} if run.final else {}
    top = [f'<th class="group" scope="colgroup" colspan="{len(parts)}">{label}</th>' for label, _ in groups]
    top += [f'<th class="group" scope="colgroup">{_text(label)}</th>' for label in finals]
    lines = []
    for name in dict.fromkeys([*names, *run.final]):
        keys = (name, f"val_{name}")[: len(parts)]
        columns = [(run.columns.get(key), epoch) for _, epoch in groups for key in keys]
        values = [None if column is None else column[epoch] for column, epoch in columns]
        lines.append([_text(name), *map(_cell, [*values, *(final.get(name) for final in finals.values())])])
    heads = _heads([*parts] * len(groups) + ["validation"] * len(finals))
    yield _grid("figures", f'<tr><td rowspan="2"></td>{"".join(top)}</tr>\n{heads}', lines)


def _epoch(run: Contents, index: int) -> str:
    return _cell(run.columns["epoch"][index]) if "epoch" in run.columns else str(index + 1)


def _curves(runs: Sequence[Contents], curves: Sequence[Any], first: int) -> Iterator[str]:
    """Give the charts of curves, whose numbers on the page begin with ``first``, and the tables of epochs."""
    if not curves:
        return
    yield "<h2>Curves</h2>\n"
    yield "<noscript><p>The curves need JavaScript. The tables of epochs have their numbers.</p></noscript>\n"
    thinned = any(run.epochs > POINTS for run in runs)
    yield (
        '<p class="soft">Drag over a chart to zoom all of them, double-click to see all again. A click on a name in a '
        "legend hides its curve."
    )
    yield " Of each run, training is the thin curve, and validation the thick one." if len(runs) > 1 else ""
    yield (
        f" Curves of more than {POINTS:,} epochs are thinned: of each of {(POINTS - 2) // 3} equal parts, the smallest "
        "and the largest value are drawn."
        if thinned
        else ""
    )
    yield "</p>\n"
    yield from _chart_boxes(curves, first)
    for run in runs:
        yield from _epochs(run, f" of {_text(run.name)}" if len(runs) > 1 else "")


def _chart_boxes(charts: Sequence[Any], first: int) -> Iterator[str]:
    """Give an empty box for each chart, which the script fills; their numbers on the page begin with ``first``."""
    yield '<div class="charts" hidden>\n'
    for number, chart in enumerate(charts, first):
        title = _text(chart["title"])
        yield (
            f'<figure class="chart" id="chart-{number}"><figcaption><span>{title}</span>'
            f'<button type="button" aria-pressed="false" aria-label="log scale of {title}">log</button>'
            f'<button type="button" aria-label="all of {title}">reset</button></figcaption>'
            f'<div class="plot"></div></figure>\n'
        )
    yield "</div>\n"


def _epochs(run: Contents, of: str) -> Iterator[str]:
    """Give the history as a table, of a long one some epochs at equal distances."""
    count = run.epochs
    if not count:
        return
    rows = sorted({*map(round, np.linspace(0, count - 1, min(count, TABLE_EPOCHS)).tolist())})
    keys = [*run.columns]
    said = f"{len(rows)} of {count:,} epochs" if len(rows) < count else f"{count} epoch{'s' * (count > 1)}"
    lines = [[_cell(run.columns[key][row]) for key in keys] for row in rows]
    table = _grid("epochs", _heads(map(_text, keys)), lines)
    yield f"<details><summary>Table of {said}{of}</summary>\n{table}</details>\n"


def _details(run: Contents) -> Iterator[str]:
    for name, confusion in run.confusions.items():
        yield f"<h2>Confusion matrix{_text(f' of {name}' if name else '')}</h2>\n"
        yield from _confusion(confusion)
    if run.unconfused and not run.confusions:
        yield f'<h2>Confusion matrix</h2>\n<p class="soft">{_text(run.unconfused)}</p>\n'
    if run.layers:
        yield f"<h2>Model</h2>\n{_table(run.layers[1:], 'layers', run.layers[0])}"
        yield _fold_text("The model as code", run.code)
    if run.data:
        head = ("column", "kind", "steps", "becomes")
        fold = "<details>" if len(run.data) > FEW else "<details open>"
        yield f"<h2>Columns</h2>\n{fold}<summary>From a table's columns to the model's numbers</summary>\n"
        yield f"{_table(run.data, 'columns', head)}</details>\n"
    if run.steps:
        yield from _steps(run.steps)
    if run.settings:
        yield "<h2>Settings</h2>\n"
        if isinstance(run.settings, str):
            yield _fold_text("The experiment as it ran", run.settings)
        else:
            table = _table(run.settings, "settings")
            yield f"<details><summary>What the run was started with</summary>\n{table}</details>\n"


def _confusion(confusion: Confusion) -> Iterator[str]:
    counts, classes = confusion.counts, [_text(name) for name in confusion.classes]
    total, true, predicted = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    rows = f"{figure(float(total))} rows of validation data" if total == np.rint(total) else "weighted validation data"
    if len(classes) > MATRIX_CLASSES:
        yield from _confusions(confusion, rows)
        return
    yield f'<p class="soft">The newest weights on {rows}. Each row is a true class, each column a predicted one.</p>\n'
    edge, lines = '<td class="edge">{}</td>'.format, []
    for index, name in enumerate(classes):
        cells = [name]
        for other, count in enumerate(counts[index].tolist()):
            share = math.ceil(10 * count / true[index]) if count else 0
            kind = " ".join([*(["hit"] if index == other else []), *([f"s{share}"] if share else [])])
            cells.append(f'<td class="{kind}">{figure(count)}</td>' if kind else figure(count))
        lines.append([*cells, edge(figure(float(true[index]))), edge(_share(counts[index, index], true[index]))])
    precisions = [_share(counts[p, p], predicted[p]) for p in range(len(classes))]
    lines.append(["precision", *map(edge, [*precisions, figure(float(total)), _share(np.trace(counts), total)])])
    yield _grid("confusion matrix", _heads(["", *classes, "rows", "recall"]), lines, "matrix")


def _confusions(confusion: Confusion, rows: str) -> Iterator[str]:
    """Give the commonest confusions of many classes."""
    counts, names = confusion.counts.copy(), confusion.classes
    true = counts.sum(axis=1)
    right = _share(np.trace(counts), counts.sum())
    np.fill_diagonal(counts, 0)
    cells = [divmod(int(cell), len(names)) for cell in np.argsort(-counts, axis=None, kind="stable")[:PAIRS]]
    pairs = [(i, j) for i, j in cells if counts[i, j]]
    yield f"<p>The newest weights on {rows}: {len(names)} classes, {right} right. The commonest confusions:</p>\n"
    table = [(names[i], names[j], figure(float(counts[i, j])), _share(counts[i, j], true[i])) for i, j in pairs]
    yield _table(table, "commonest confusions", ("true class", "predicted", "rows", "share of the class"))


def _share(amount: Any, whole: Any) -> str:
    return f"{amount / whole:.1%}" if whole else "none"


def _steps(steps: Sequence[Any]) -> Iterator[str]:
    """Give the quantities of the first steps side by side."""
    head = ("quantity", *(f"step {number}" for number in range(1, len(steps) + 1)))
    yield "<h2>The first steps</h2>\n"
    if "h" in steps[0]:  # of a neuron: every quantity, of a batch those of its first row
        if (rows := max(np.size(step["h"]) for step in steps)) > 1:
            said = f"Of each batch, of up to {rows} rows, the first row is shown"
            yield f'<p class="soft">{said}; the increment is that of the whole batch.</p>\n'
        cells = [(name.replace("_", " "), *(_array(name, step) for step in steps)) for name in steps[0]]
        yield _table(cells, "first steps", head)
        return
    cells = [(name.replace("_", " "), *(figure(step[name]) for step in steps)) for name in ("loss", "learning_rate")]
    for name in steps[0]["weights"]:
        for kind, label in (
            ("weights", name),
            ("gradients", f"{name}, gradient"),
            ("increments", f"{name}, increment"),
        ):
            cells.append((label, *(figure(step[kind][name]) for step in steps)))
    table = _table(cells, "first steps", head)
    said = "The norms of each parameter before the step, of its gradient, and of what the step added to it"
    yield f"<details{' open' * (len(cells) <= 2 * FEW)}><summary>{said}</summary>\n{table}</details>\n"


def _array(name: str, step: Any) -> str:
    """Return a quantity of a step: a number, or a vector, without its middle if it is long."""
    value = np.asarray(step[name])
    if np.ndim(step["h"]) and name not in ("weights", "bias", "learning_rate", "increment", "new_weights", "new_bias"):
        value = value[0]
    texts = [f"{number:.6g}" for number in value.ravel().tolist()]
    shown = texts if len(texts) <= 8 else [*texts[:3], "...", *texts[-3:]]
    return f"[{', '.join(shown)}]" if value.ndim else texts[0]


def _fold_text(summary: str, text: str) -> str:
    kept = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... and {len(text) - LONGEST:,} more characters"
    return f"<details><summary>{summary}</summary><pre>{_text(kept)}</pre></details>\n"


def _table(rows: Iterable[Sequence[str]], label: str, head: Sequence[str] = ()) -> str:
    """Return a table of texts, of a long one the first rows."""
    lines = [*rows]
    more = f'<p class="soft">... and {len(lines) - ROWS:,} more rows</p>\n' if len(lines) > ROWS else ""
    return (
        _grid(label, _heads(map(_text, head)) if head else "", ([*map(_shorten, row)] for row in lines[:ROWS]), "text")
        + more
    )


def _grid(label: str, head: str, rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of HTML, which scrolls where the page is narrow; the first cell of a row is its header."""
    lines = [(first, "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in cells)) for first, *cells in rows]
    body = "".join(f'<tr><th scope="row">{first}</th>{cells}</tr>\n' for first, cells in lines)
    begin = f'<div class="table" role="region" tabindex="0" aria-label="{label}"><table class="{kind}">\n'
    return f"{begin}{head and f'<thead>{head}</thead>'}<tbody>\n{body}</tbody></table></div>\n"


def _heads(cells: Iterable[str]) -> str:
    """Return a row of the headers of columns."""
    heads = (f'<th scope="col">{cell}</th>' if cell else "<td></td>" for cell in cells)
    return f"<tr>{''.join(heads)}</tr>"


def _shorten(text: str) -> str:
    return _text(text if len(text) <= 2000 else f"{text[:2000]} ... and {len(text) - 2000:,} more characters")


def _cell(value: Any) -> str:
    """Return a figure or a setting as HTML."""
    return _text(value if isinstance(value, str) else figure(value))


def _text(text: str) -> str:
    """Return text as HTML: nothing in it is a tag, ends an attribute or commands a terminal."""
    return escape(printable(text))


def _json(value: Any) -> str:
    """Return JSON that no tag can end."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return files("framework.views.reports").joinpath(name).read_text(encoding="utf-8")


def figures(runs: Sequence[Contents]) -> list[str]:
    """Return the names of the figures of some runs without val_, in the order in which they come."""
    names = (key.removeprefix("val_") for run in runs for key in run.columns if key not in COUNTERS)
    return [*dict.fromkeys(names)]


def charts(runs: Sequence[Contents]) -> list[dict[str, Any]]:
    """Return a chart for each figure: its title and its curves, those of training and validation together.

    A learning rate that no run changes has none.
    """
    series_by_chart: dict[str, list[dict[str, Any]]] = {}
    for name in figures(runs):
        if name == "learning_rate" and all(len({*run.columns.get(name, ())}) < 2 for run in runs):
            continue
        norms = next((kind for kind in NORMS if len(runs) == 1 and name.startswith(f"{kind}_")), None)
        series = [*_series(runs, name)]
        if norms is not None:  # those of all layers are one chart
            number = len(series_by_chart.get(norms, ()))
            changed = {"name": name.removeprefix(f"{norms}_"), "color": number % COLORS, "dash": number}
            series = [curve | changed for curve in series]
        series_by_chart.setdefault(norms or name, []).extend(series)
    return [{"title": title, "series": series} for title, series in series_by_chart.items() if series]


def scatters(rows: Sequence[Mapping[str, Any]], settings: Iterable[str], objective: str) -> list[dict[str, Any]]:
    """Return a chart of the objective of some runs, the best first, over each setting that has several values."""
    rows = [row for row in rows if math.isfinite(row.get(objective) or math.nan)]
    drawn = []
    for setting in settings if len(rows) > 1 else ():
        x, names, log = axis_positions([row[setting] for row in rows])
        order = sorted(range(len(rows)), key=x.__getitem__)
        y, best = ([rows[index][objective] if index <= last else None for index in order] for last in (len(rows), 0))
        points = {"x": sorted(x), "dash": 0, "thin": False}
        series = [{"name": "runs", "color": 0, "y": y, **points}, {"name": "the best", "color": 1, "y": best, **points}]
        about = {"over": setting, "names": names, "log": log, "runs": [rows[index]["run"] for index in order]}
        drawn += [{"title": f"{objective} over {setting}", "series": series, **about}] if len({*x}) > 1 else []
    return drawn


def _series(runs: Sequence[Contents], name: str) -> Iterator[dict[str, Any]]:
    several = len(runs) > 1
    for index, run in enumerate(runs):
        for kind, key in enumerate((name, f"val_{name}")):
            if key not in run.columns:
                continue
            label = ("training", "validation")[kind] if f"val_{name}" in run.columns else name
            epochs = run.columns.get("epoch") or range(1, run.epochs + 1)
            x, y = thin_curve(epochs, run.columns[key])
            yield {
                "name": f"{run.name}: {label}" if several else label,
                "color": (index if several else kind) % COLORS,
                "dash": index if several else kind,
                "thin": several and kind == 0 and label != name,
                "x": x,
                "y": y,
            }


def thin_curve(x: Sequence[float | None], y: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """Return the points of a curve, of a long one the smallest and the largest of each of equal parts.

    The first and the last point stay, and so does a gap: where y is not finite, the result has None. Points without a
    value are left out.

    Example:
        >>> thin_curve([1, 2, 3], [0.5, float("nan"), None])
        ([1, 2], [0.5, None])
    """
    pairs = zip(x, y, strict=True)
    points = [(at, value) for at, value in pairs if value is not None and at is not None and math.isfinite(at)]
    if len(points) > POINTS:
        values = np.array([value for _, value in points])
        kept = {0, len(points) - 1}
        for indices in np.array_split(np.arange(len(points)), (POINTS - 2) // 3):
            inside = values[indices]
            if not (finite := np.isfinite(inside)).all():
                kept.add(int(indices[np.argmin(finite)]))
            if finite.any():
                kept.add(int(indices[np.argmin(np.where(finite, inside, np.inf))]))
                kept.add(int(indices[np.argmax(np.where(finite, inside, -np.inf))]))
        points = [points[index] for index in sorted(kept)]
    return [at for at, _ in points], [float(f"{v:.7g}") if math.isfinite(v) else None for _, v in points]
