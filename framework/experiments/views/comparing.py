"""The folders of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.experiments.files.changes import without_found
from framework.experiments.folder import RunFolder
from framework.reports.comparing import Side, comparison


def compared(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return the comparison of some runs, for which their own classes need not be defined."""
    return comparison([_side(folder, name) for name, folder in named(folders).items()])


def named(folders: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """Return folders by name, or by path where two have the same name."""
    names = {folder.path.name: folder for folder in folders}
    return names if len(names) == len(folders) else {str(folder.path): folder for folder in folders}


def _side(folder: RunFolder, name: str) -> Side:
    metrics, rows = folder.metrics, folder.history()
    row = rows[-1] if rows else {}
    if metrics is not None and metrics.get("epoch") is None:  # the final weights are from within an epoch
        row = {f"val_{key}": value for key, value in (metrics.get("validation") or {}).items()} or row
    elif metrics is not None:
        row = next((each for each in rows if each.get("epoch") == metrics["epoch"]), row)
    return Side(name, without_found(folder.settings), len(rows), metrics is not None, row)
