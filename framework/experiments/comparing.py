"""Several runs side by side: the settings in which they differ, and their figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from framework.experiments.folder import RunFolder


def comparison(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return a row for each run: its folder, the settings in which the runs differ, epochs, and figures.

    The figures are those of the final weights on the validation data; of a run that is not complete, those of its last
    epoch. Settings are read as text, so that the runs' own classes need not be defined.
    """
    settings = [dict(_flat(run.settings)) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    differing = [name for name in names if any(each.get(name) != settings[0].get(name) for each in settings)]
    rows = [
        {"run": run.path.name, **{name: each.get(name) for name in differing}, **_figures(run)}
        for run, each in zip(runs, settings, strict=True)
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _figures(run: RunFolder) -> dict[str, Any]:
    metrics, history = run.metrics, run.history()
    last = history[-1] if history else {}
    shown = {name: value for name, value in last.items() if name not in ("epoch", "learning_rate", "seconds")}
    if metrics is not None:
        shown |= {f"val_{name}": value for name, value in metrics["validation"].items()}
    return {"epochs": len(history), "complete": metrics is not None, **shown}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give every setting by its path: ``trainer.epochs``, ``trainer.callbacks.EarlyStopping.patience``."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, list):
        kinds = [item.get("type") if isinstance(item, dict) else None for item in value]
        named = None not in kinds and len({*kinds}) == len(kinds)  # else by their places, as the layers of a model
        items = zip(kinds if named else range(len(value)), value, strict=True)
    elif isinstance(value, dict):
        items = value.items()
    else:
        yield path, value
        return
    for key, item in items:
        yield from _flat(item, f"{path}.{key}" if path else str(key))
