"""Curves: the columns of histories as the charts of a page, thinned so that long runs stay small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framework.plots.trials import placed
from framework.reports.contents import Contents
from framework.tables import COUNTERS

POINTS = 2000
"""A curve with more points is thinned to at most this many."""

COLORS = 7
"""How many colours the page has; further runs repeat them with other dashes."""

NORMS = ("gradient_norm", "weight_norm")
"""How the columns of ``LayerNorms`` begin."""


def figures(runs: Sequence[Contents]) -> list[str]:
    """Return the names of the figures of some runs without val_, in the order in which they come."""
    names = (key.removeprefix("val_") for run in runs for key in run.columns if key not in COUNTERS)
    return [*dict.fromkeys(names)]


def charts(runs: Sequence[Contents]) -> list[dict[str, Any]]:
    """Return a chart for each figure: its title and its curves, those of training and validation together.

    A learning rate that no run changes has none.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in figures(runs):
        if name == "learning_rate" and all(len({*run.columns.get(name, ())}) < 2 for run in runs):
            continue
        norms = next((kind for kind in NORMS if len(runs) == 1 and name.startswith(f"{kind}_")), None)
        series = [*_series(runs, name)]
        if norms is not None:  # those of all layers are one chart
            place = len(found.get(norms, ()))
            changed = {"name": name.removeprefix(f"{norms}_"), "color": place % COLORS, "dash": place}
            series = [curve | changed for curve in series]
        found.setdefault(norms or name, []).extend(series)
    return [{"title": title, "series": series} for title, series in found.items() if series]


def scatters(rows: Sequence[Mapping[str, Any]], settings: Iterable[str], objective: str) -> list[dict[str, Any]]:
    """Return a chart of the objective of some runs, the best first, over each setting that has several values."""
    rows = [row for row in rows if math.isfinite(row.get(objective) or math.nan)]
    drawn = []
    for setting in settings if len(rows) > 1 else ():
        x, names, log = placed([row[setting] for row in rows])
        order = sorted(range(len(rows)), key=x.__getitem__)
        y, best = ([rows[place][objective] if place <= last else None for place in order] for last in (len(rows), 0))
        points = {"x": sorted(x), "dash": 0, "thin": False}
        series = [{"name": "runs", "color": 0, "y": y, **points}, {"name": "the best", "color": 1, "y": best, **points}]
        about = {"over": setting, "names": names, "log": log, "runs": [rows[place]["run"] for place in order]}
        drawn += [{"title": f"{objective} over {setting}", "series": series, **about}] if len({*x}) > 1 else []
    return drawn


def _series(runs: Sequence[Contents], name: str) -> Iterator[dict[str, Any]]:
    several = len(runs) > 1
    for place, run in enumerate(runs):
        for kind, key in enumerate((name, f"val_{name}")):
            if key not in run.columns:
                continue
            label = ("training", "validation")[kind] if f"val_{name}" in run.columns else name
            epochs = run.columns.get("epoch") or range(1, run.epochs + 1)
            x, y = thinned(epochs, run.columns[key])
            yield {
                "name": f"{run.name}: {label}" if several else label,
                "color": (place if several else kind) % COLORS,
                "dash": place if several else kind,
                "thin": several and kind == 0 and label != name,
                "x": x,
                "y": y,
            }


def thinned(x: Sequence[float | None], y: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """Return the points of a curve, of a long one the smallest and the largest of each of equal parts.

    The first and the last point stay, and so does a gap: where y is not finite, the result has None. Points without a
    value are left out.

    Example:
        >>> thinned([1, 2, 3], [0.5, float("nan"), None])
        ([1, 2], [0.5, None])
    """
    pairs = zip(x, y, strict=True)
    points = [(at, value) for at, value in pairs if value is not None and at is not None and math.isfinite(at)]
    if len(points) > POINTS:
        values = np.array([value for _, value in points])
        kept = {0, len(points) - 1}
        for part in np.array_split(np.arange(len(points)), (POINTS - 2) // 3):
            inside = values[part]
            if not (finite := np.isfinite(inside)).all():
                kept.add(int(part[np.argmin(finite)]))
            if finite.any():
                kept.add(int(part[np.argmin(np.where(finite, inside, np.inf))]))
                kept.add(int(part[np.argmax(np.where(finite, inside, -np.inf))]))
        points = [points[place] for place in sorted(kept)]
    return [at for at, _ in points], [float(f"{v:.7g}") if math.isfinite(v) else None for _, v in points]
