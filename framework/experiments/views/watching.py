"""Watching runs in the terminal, from the lines that JSONLog writes: the training itself is not touched.

Curves are drawn with characters: blocks in one line, and dots of braille in several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from framework.base.arrays import Array, place_of_best
from framework.base.errors import SettingsError
from framework.base.extras import load_module
from framework.base.files import leads_to
from framework.base.settings.messages import printable
from framework.base.tables import COUNTERS, duration, figure
from framework.experiments.folder import RunFolder, rows_of
from framework.training.runs.history import History

STYLES = ("cyan", "yellow", "green", "magenta", "blue", "red", "white")


class Tail:
    r"""The rows of a file to which lines are added; a file that is replaced is read from its start.

    Args:
        path: The file, which may not be there yet.

    Example:
        >>> file = Path("lines.jsonl")
        >>> file.write_text('{"epoch": 1}\n{"epo')
        18
        >>> tail = Tail(file)
        >>> tail.read(), tail.rows  # the second line is not whole yet
        (True, History(1 epochs, last {'epoch': 1}))
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place, self._last, self.rows = 0, b"", History()

    def read(self) -> bool:
        """Read what is new, and return whether there is something."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self._place - len(self._last)))
                text = file.read()
        except OSError:
            text = b""
        again = not text.startswith(self._last) or (not self._last and self._place > 0)
        if again:
            self.rows, self._place, self._last = History(), 0, b""
            return self.read() or True
        text = text[len(self._last) :]
        whole = text[: text.rfind(b"\n") + 1]
        if whole:
            self._place += len(whole)
            self._last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
            for row in rows_of(whole):
                self.rows.append({key: math.nan if value is None else float(value) for key, value in row.items()})
        return bool(whole)

    @property
    def foreign(self) -> bool:
        """Whether the file has lines, and none of them is a row."""
        return bool(self._last) and not self.rows


class Watched:
    """A run that is watched: the folder of an experiment, or a file of JSONLog.

    Args:
        path: The folder or the file; neither has to be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = printable(path.name or str(path.absolute()))
        self.epochs: int | None = None
        self.folder: RunFolder | None = None
        self.tail = Tail(path)
        self.found = False
        self.metrics: dict[str, Any] | None = None

    def read(self) -> bool:
        """Read what is new, and return whether there is something."""
        before, new = self.metrics, not self.found
        self.found = self.found or leads_to(self.path) == "file"
        if not self.found and leads_to(self.path):
            with suppress(SettingsError):  # not written yet
                folder = RunFolder(self.path)
                self.tail, epochs = Tail(folder.log), folder.settings.get("trainer", {}).get("epochs")
                self.folder, self.epochs, self.found = folder, epochs, True
        if not self.found:
            return False
        metrics = None if self.folder is None else self.folder.metrics  # before the lines, so that none is missed
        changed, self.metrics = self.tail.read(), metrics
        return changed or new or metrics != before

    @property
    def rows(self) -> History:
        """The rows that are there; what is not finite is NaN."""
        return self.tail.rows

    @property
    def _epoch(self) -> int:
        """The last epoch."""
        return self.rows[-1].get("epoch") or len(self.rows)

    @property
    def place(self) -> str:
        """The epoch, of how many."""
        if not self.rows:
            return ""
        epoch = self._epoch
        return f"{epoch:,}/{self.epochs:,}" if self.epochs is not None and epoch <= self.epochs else f"{epoch:,}"

    @property
    def state(self) -> str:
        """Say how the run stands."""
        if self.metrics is not None:
            reason = self.metrics.get("stop_reason")
            if self.folder is not None and not self.folder.complete:
                return printable(str(reason)) if reason else "stopped: framework resume continues"
            return f"complete: {printable(str(reason))}" if reason else "complete"
        if not self.rows:
            return "waiting for its first epoch" if self.path.exists() else "waiting: nothing is there yet"
        seconds = [row["seconds"] for row in self.rows[-20:] if math.isfinite(row.get("seconds", math.nan))]
        if not seconds:
            return "no times in its lines"
        epoch_seconds = sum(seconds) / len(seconds)
        said = f"{duration(epoch_seconds)} an epoch"
        quiet = time.time() - self.tail.path.stat().st_mtime if self.tail.path.exists() else 0
        if quiet > max(30.0, 5 * max(seconds)):
            return f"{said}, no new line for {duration(quiet)}"
        left = 0 if self.epochs is None else self.epochs - self._epoch
        return f"{said}, {duration(epoch_seconds * left)} left" if left > 0 else said

    def values(self, key: str) -> Array:
        """Return a column, NaN where a row has no number."""
        return self.rows.columns()[key]

    @property
    def keys(self) -> list[str]:
        """The figures, in the order in which they come."""
        return [key for key in self.rows.keys if key not in COUNTERS]


def watch(
    paths: Sequence[str | Path], *, once: bool = False, log: bool = False, every: float = 0.5, stream: Any = None
) -> None:
    """Show runs in the terminal until they have ended; where the output is not a terminal, as lines.

    Args:
        paths: Folders of runs, or files of JSONLog; those that are not there yet are waited for.
        once: Show them once, as they are.
        log: Draw the curves on a log scale, from the figures that are positive.
        every: The seconds between two looks at the files.
        stream: Where to write; None is standard output.

    Raises:
        UsageError: rich is not installed.
        SettingsError: ``once``, and a path is not there.
    """
    console = load_module("rich.console", "framework watch").Console(
        file=stream, highlight=False, markup=False, emoji=False
    )
    runs = [Watched(run_path) for path in paths for run_path in _members(Path(path))]
    for run in runs:
        run.read()
        if (once and not run.found) or run.tail.foreign:
            raise SettingsError(f"{str(run.path)!r} is neither the folder of a run nor a file of JSONLog")
    if once or (console.is_terminal and all(run.metrics is not None for run in runs)):
        console.print(_view(runs, console, log))
    elif console.is_terminal:
        _live(runs, console, log, every)
    else:
        _follow(runs, console, log, every)


def _members(path: Path) -> list[Path]:
    """Return the folders of the members of a run, also of those that have not begun; else the path itself."""
    with suppress(SettingsError):  # not written yet, or a file
        folder = RunFolder(path)
        if (count := folder.settings.get("members", 1)) > 1:
            return [folder.member_path(number) for number in range(count)]
    return [path]


def _live(runs: Sequence[Watched], console: Any, log: bool, every: float) -> None:
    """Redraw when a file has changed, and every ten seconds for the times; leave the last picture."""
    live = load_module("rich.live", "framework watch").Live(
        console=console, auto_refresh=False, vertical_overflow="crop"
    )
    with live:
        drawn = -math.inf
        while True:
            changed = [run.read() for run in runs]
            if any(changed) or time.monotonic() - drawn > 10:
                live.update(_view(runs, console, log), refresh=True)
                drawn = time.monotonic()
            if all(run.metrics is not None for run in runs):
                return
            time.sleep(every)


def _follow(runs: Sequence[Watched], console: Any, log: bool, every: float) -> None:
    """Write what is there, then a line for each new epoch."""
    console.print(_view(runs, console, log))
    seen = [len(run.rows) for run in runs]
    while not all(run.metrics is not None for run in runs):
        time.sleep(every)
        for index, run in enumerate(runs):
            run.read()
            new = run.rows[seen[index] :] if seen[index] <= len(run.rows) else run.rows
            seen[index] = len(run.rows)
            for row in new:
                shown = ", ".join(
                    f"{printable(key)}={_cell(row, key).replace(',', '')}" for key in row if key not in COUNTERS
                )
                console.print(f"{run.name}: epoch {row.get('epoch', '?')}: {shown}", soft_wrap=True)
    for run in runs:
        console.print(f"{run.name}: {run.state}", soft_wrap=True)


def _view(runs: Sequence[Watched], console: Any, log: bool) -> Any:
    """Return the picture of all runs: a table, then the curves."""
    group = load_module("rich.console", "framework watch").Group
    tables = _table_of_one(runs[0], console) if len(runs) == 1 else _table_of_several(runs, console)
    return group(*tables, *_curves(runs, console, log))


def _texts(*parts: tuple[str, str]) -> Any:
    return load_module("rich.text", "framework watch").Text.assemble(*parts)


def _empty_table(console: Any, *columns: str) -> Any:
    box = load_module("rich.box", "framework watch").SIMPLE_HEAD
    table = load_module("rich.table", "framework watch").Table(box=box, pad_edge=False, safe_box=not _draws(console))
    for index, column in enumerate(columns):
        left = index == 0 or column in ("curve", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    return table


def _table_of_one(run: Watched, console: Any) -> list[Any]:
    """Return the state of a run, and its figures."""
    said = _texts((run.name, "bold"), (f"  epoch {run.place}" if run.rows else "", ""), (f"  {run.state}", "dim"))
    if not run.rows:
        return [said]
    columns = ["figure", "last", "smallest", "epoch", "largest", "epoch"]
    rows = []
    for key in run.keys:
        values = run.values(key)
        row = [printable(key), _cell(run.rows[-1], key)]
        for mode in ("min", "max"):
            index = place_of_best(values, mode)
            row += (
                ["", ""] if index is None else [_short(values[index]), str(run.rows[index].get("epoch") or index + 1)]
            )
        rows.append(row)
    widths = [3 + max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    space = console.width - 2
    shown, longest = (6, 20) if sum(widths) + 4 <= space else (3, 10)
    length = max(4, min(longest, space - sum(widths[:shown])))  # figures come first
    table = _empty_table(console, *columns[:shown], "curve")
    for key, (name, *cells) in zip(run.keys, rows, strict=True):
        curve = _texts((sparkline(run.values(key), length, _blocks(console)), _style(key)))
        table.add_row(_texts((name, "")), *cells[: shown - 1], curve)
    return [said, table]


def _table_of_several(runs: Sequence[Watched], console: Any) -> list[Any]:
    """Return a table with a row for each run."""
    states = [run.state.replace(": ", ":", 1).partition(": ")[0].replace(":", ": ", 1) for run in runs]
    taken = max(len(run.name) for run in runs) + max(map(len, states)) + 36  # by all columns but those of figures
    keys = [*dict.fromkeys(key for run in runs for key in run.keys if key != "learning_rate")]
    keys = sorted(keys, key=lambda key: not key.startswith("val_"))[: max(1, (console.width - taken) // 13)]
    table = _empty_table(console, "run", "epoch", *map(printable, keys), "curve", "state")
    for index, run in enumerate(runs):
        main = _main(run)
        curve = sparkline(run.values(main), 12, _blocks(console)) if main else ""
        style = STYLES[index % len(STYLES)]
        cells = [_cell(run.rows[-1], key) if run.rows else "" for key in keys]
        table.add_row(
            _texts((run.name, style)), run.place, *cells, _texts((curve, style)), _texts((states[index], "dim"))
        )
    return [table]


def _main(run: Watched) -> str | None:
    """Return the figure by which runs are compared."""
    return next((key for key in ("val_loss", "loss", *run.keys) if key in run.keys), None)


def _curves(runs: Sequence[Watched], console: Any, log: bool) -> list[Any]:
    """Return a plot for each figure of one run, or one plot of several runs."""
    if not _draws(console) or not any(run.keys and len(run.rows) > 1 for run in runs):
        return []
    across = 2 if console.width >= 100 else 1
    width = max(10, min(100, (console.width - 2 * across) // across - 11))
    plots = []
    if len(runs) > 1:
        drawn = [(name, run.values(name), index) for index, run in enumerate(runs) if (name := _main(run)) is not None]
        curves = [(values, STYLES[index % len(STYLES)]) for _, values, index in drawn]
        title = " and ".join(dict.fromkeys(name for name, _, _ in drawn))
        plots.append(_plot(title, [], curves, max(10, min(150, console.width - 13)), log))
    else:
        run = runs[0]
        for name in dict.fromkeys(key.removeprefix("val_") for key in run.keys if key != "learning_rate"):
            keys = [key for key in (name, f"val_{name}") if key in run.keys]
            plots.append(_plot(name, keys, [(run.values(key), _style(key)) for key in keys], width, log))
    grid = load_module("rich.table", "framework watch").Table.grid(padding=(0, 2))
    for _ in range(across):
        grid.add_column(no_wrap=True)
    for start in range(0, len(plots), across):
        grid.add_row(*plots[start : start + across])
    return [grid]


def _style(key: str) -> str:
    return STYLES[key.startswith("val_")]


def _plot(title: str, keys: Sequence[str], curves: Sequence[tuple[Array, str]], width: int, log: bool) -> Any:
    """Return the lines of a plot: a title, the curves with the limits beside them, and the epochs below."""
    if log:
        curves = [(np.log10(np.where(values > 0, values, np.nan)), style) for values, style in curves]
    finite = np.concatenate([values[np.isfinite(values)] for values, _ in curves])
    legend = [(f"  ── {'validation' if key.startswith('val_') else 'training'}", _style(key)) for key in keys]
    texts = [(printable(title), "bold"), (" (log scale)" if log else "", "dim"), *(legend if len(keys) > 1 else [])]
    if not finite.size:
        return _texts(*texts, ("\nno value to draw", "dim"))
    low, high = float(finite.min()), float(finite.max())
    labels = {0: high, HEIGHT - 1: low}
    for index, line in enumerate(braille(curves, width, HEIGHT, low, high)):
        label = _short(10.0 ** labels[index] if log else labels[index]) if index in labels else ""
        texts += [(f"\n{label:>9} ", "dim"), *line]
    epochs = max(len(values) for values, _ in curves)
    texts.append((f"\n{'':10}{'1':<{width - len(str(epochs))}}{epochs}", "dim"))
    return _texts(*texts)


HEIGHT = 6
"""The lines of a plot."""


def _draws(console: Any) -> bool:
    """Return whether the output has characters for curves."""
    return str(console.encoding).lower().startswith("utf")


def _blocks(console: Any) -> str:
    return BLOCKS if _draws(console) else ASCII_BLOCKS


def _cell(row: Mapping[str, Any], key: str) -> str:
    """Return a figure of a row, as text; nothing where the row has none."""
    if key not in row:
        return ""
    return _short(row[key]) if math.isfinite(row[key]) else "not finite"


def _short(value: float | None) -> str:
    return figure(value, digits=5)


BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"


def sparkline(values: Array, width: int, blocks: str = BLOCKS) -> str:
    """Return values as blocks in one line; a gap is a space.

    Example:
        >>> sparkline(np.array([4.0, 2.0, 1.0, np.nan, 0.0]), 10)
        '█▅▃ ▁'
    """
    if not len(values):
        return ""
    parts = np.array_split(values, min(width, len(values)))
    ends = np.array([chunk[-1] for chunk in parts])
    finite = ends[np.isfinite(ends)]
    if not finite.size:
        return " " * len(ends)
    low, high = finite.min(), finite.max()
    span = high / 2 - low / 2 or 1.0  # halves: the whole may overflow
    share = (np.where(np.isfinite(ends), ends, low) / 2 - low / 2) / span
    places = np.minimum(share * len(blocks), len(blocks) - 1).astype(int)
    return "".join(blocks[level] if ok else " " for level, ok in zip(places, np.isfinite(ends), strict=True))


def braille(
    curves: Iterable[tuple[Array, str]], width: int, height: int, low: float, high: float
) -> list[list[tuple[str, str]]]:
    """Return curves as lines of braille characters, each of which has 2 x 4 dots, with their styles.

    Args:
        curves: The values of each curve at equal distances, with its style. All have the same x axis.
        width: The characters in a line.
        height: The lines.
        low: The value at the bottom.
        high: The value at the top.
    """
    curves = [*curves]
    dots = np.zeros((4 * height, 2 * width), dtype=bool)
    styles = np.full((height, width), "", dtype=object)
    longest = max(len(values) for values, _ in curves)
    span = high / 2 - low / 2 or 1.0  # halves: the whole may overflow
    for values, style in curves:
        own = round(2 * width * len(values) / longest)
        before = None
        for column, chunk in enumerate(_columns(values, max(own, 1))):
            inside = chunk[np.isfinite(chunk)]
            if not inside.size:
                before = None
                continue
            rows = np.rint((1 - (inside / 2 - low / 2) / span) * (4 * height - 1)).astype(int)
            ends = [rows.min(), rows.max(), *([] if before is None else [before])]
            dots[min(ends) : max(ends) + 1, column] = True
            styles[min(ends) // 4 : max(ends) // 4 + 1, column // 2] = style
            before = rows[-1]
    return [_line(dots[4 * row : 4 * row + 4], styles[row]) for row in range(height)]


def _columns(values: Array, count: int) -> list[Array]:
    """Return the values that belong to each column of dots: several, or one between two values."""
    if len(values) >= count:
        return np.array_split(values, count)
    places = np.linspace(0, count - 1, len(values))
    between = 2 * np.interp(np.arange(count), places, values / 2)
    between[np.rint(places).astype(int)] = values  # also one between two gaps
    return np.array_split(between, count)


_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def _line(dots: Array, styles: Array) -> list[tuple[str, str]]:
    """Return a line of characters from its four rows of dots."""
    cells = (dots.reshape(4, -1, 2) * _DOTS[:, None, :]).sum(axis=(0, 2))
    characters = [(chr(0x2800 + int(cell)) if cell else " ", style) for cell, style in zip(cells, styles, strict=True)]
    return [("".join(c for c, _ in group), style) for style, group in groupby(characters, lambda pair: pair[1])]
