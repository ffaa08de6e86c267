"""How the runs of a sweep are judged: the column of the history, and the means over folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from framework.errors import SettingsError, nearest
from framework.experiments.experiment import Experiment


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if a value is missing or not finite."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(finite) if len(finite) == len(values) else None


def score(value: Any, mode: str) -> float:
    """Return a number that is smaller for a better figure."""
    if value is None or not math.isfinite(value):
        return math.inf
    return float(-value if mode == "max" else value)


def judged(experiment: Experiment, objective: str | None, mode: str | None) -> tuple[str, str]:
    """Return the column by which runs of an experiment are judged, and its mode."""
    trainer = experiment.trainer
    columns = trainer.columns(validated=experiment.validation is not None)
    monitored = {key: value for callback in trainer.callbacks for key, value in callback.judged().items()}
    if objective is None:
        objective = next(iter(monitored), "val_loss" if "val_loss" in columns else "loss")
    if objective not in columns:
        raise SettingsError(
            f"--objective {objective}: the history will not have it{nearest(objective, columns) or '.'} "
            f"Columns: {', '.join(columns)}"
        )
    better = trainer.figures.better.get(objective.removeprefix("val_"))
    known = {"greater": "max", "smaller": "min"}.get(better or "", mode or monitored.get(objective))
    if known is None:
        raise SettingsError(f"--objective {objective}: give --mode min or max; the figure does not say which is better")
    if mode not in (None, known):
        raise SettingsError(f"--mode {mode}: {objective} is better when it is {better}; leave --mode out")
    return objective, known


def averaged(rows: Sequence[dict[str, Any]], settings: Sequence[str], objective: str) -> dict[str, Any]:
    """Return the row of a trial from those of its folds."""
    first, states = rows[0], [row["state"] for row in rows]
    figures = [key for key in first if key not in ("run", "state", "error", *settings)]
    values = [row.get(objective) for row in rows]
    return {
        "run": first["run"].rpartition("-")[0],
        **{key: first[key] for key in settings if key not in ("validation", "fold")},
        "state": min(states, key=("failed", "dropped", "new", "begun", "complete").index),
        "folds": states.count("complete"),
        **{key: mean([row[key] for row in rows]) for key in figures},
        "deviation": None if mean(values) is None else statistics.stdev(v for v in values if v is not None),
        "error": next((row["error"] for row in rows if row.get("error") is not None), None),
    }
