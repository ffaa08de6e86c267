"""Several runs side by side: the settings in which they differ, and their figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from framework.experiments.folder import RunFolder
from framework.settings.messages import brief
from framework.tables import COUNTERS

FEW = 3
"""More names than this that only some runs have share a cell."""


def comparison(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return a row for each run: its folder, the settings in which the runs differ, epochs, and figures.

    All figures are of one epoch, which is named: that of the final weights, or the last one of a run that is not
    complete. Settings are read as text, so that the runs' own classes need not be defined.
    """
    settings = [_without_found(run.settings) for run in runs]
    differing = dict(_differing(settings, ""))
    rows = [
        {"run": run.path.name, **{name: values[place] for name, values in differing.items()}, **_figures(run)}
        for place, run in enumerate(runs)
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _without_found(settings: Any, follows: bool = False) -> Any:
    """Return settings without the inputs of layers that follow others, whose units they are."""
    if isinstance(settings, list):
        return [_without_found(item, follows) for item in settings]
    if not isinstance(settings, dict):
        return settings
    made = {}
    for key, item in settings.items():
        if key == "layers" and isinstance(item, list):
            made[key] = [_without_found(layer, follows or place > 0) for place, layer in enumerate(item)]
        elif not (follows and key == "inputs"):
            made[key] = _without_found(item, follows)
    return made


def _figures(run: RunFolder) -> dict[str, Any]:
    """Return figures that are all of one epoch: of the one whose weights a complete run has kept."""
    metrics, history = run.metrics, run.history()
    row = history[-1] if history else {}
    kept = {} if metrics is None else {f"val_{name}": value for name, value in metrics["validation"].items()}
    if kept:
        row = next((each for each in reversed(history) if _holds(each, kept)), {})
    shown = {name: value for name, value in row.items() if name not in (*COUNTERS, "learning_rate")}
    return {"epochs": len(history), "complete": metrics is not None, "epoch": row.get("epoch"), **shown, **kept}


def _holds(row: Mapping[str, Any], figures: Mapping[str, Any]) -> bool:
    return all(
        row.get(name) == value or (isinstance(row.get(name), float) and math.isclose(row[name], value, rel_tol=1e-9))
        for name, value in figures.items()
    )


def _differing(values: Sequence[Any], path: str) -> Iterator[tuple[str, list[Any]]]:
    """Give every setting that differs by its path, such as ``trainer.callbacks.EarlyStopping.patience``.

    Of classes that differ, the settings that several runs have are compared. Many names that only some runs have, as
    those of columns, share a cell.
    """
    tables = [_by_name(value) for value in values]
    if all(value == values[0] for value in values):
        return
    if not all(isinstance(table, dict) for table in tables):
        yield path, [_brief(value) for value in values]
        return
    kinds = [table.get("type") for table in tables]
    keys = dict.fromkeys(key for table in tables for key in table)
    some = [key for key in keys if not all(key in table for table in tables)]
    if len({*kinds}) > 1:
        yield path, kinds
        keys = dict.fromkeys(key for key in keys if key != "type" and sum(key in table for table in tables) > 1)
    elif len(some) > FEW and kinds[0] is None:
        yield path, [_brief({key: None for key in some if key in table}) for table in tables]
        keys = dict.fromkeys(key for key in keys if key not in some)
    for key in keys:
        yield from _differing([table.get(key) for table in tables], f"{path}.{key}" if path else str(key))


def _by_name(value: Any) -> Any:
    """Return an array of tables as a table: by their classes, if each has another, else by their places."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return value
    kinds = [item.get("type") for item in value]
    named = None not in kinds and len({*kinds}) == len(kinds)
    return dict(zip(kinds if named else range(len(value)), value, strict=True))


def _brief(value: Any) -> Any:
    """Return a setting as a cell: a class by its name, other tables and arrays by what is in them."""
    if isinstance(value, dict):
        return value["type"] if "type" in value else brief(", ".join(map(str, value))).strip("'")
    return ", ".join(str(_brief(item)) for item in value) if isinstance(value, list) else value
