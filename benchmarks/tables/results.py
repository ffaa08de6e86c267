"""The results as a page: a table of losses, ranks, and what one contender's loss and time are of another's."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.tables.sources import TABLES, halves

RESULTS = Path(__file__).parent / "results.csv"
FIELDS = ["table", "seed", "contender", "rows", "columns", "loss", "score", "fit_seconds", "predict_seconds", "note"]


def read_results(path: Path) -> list[dict[str, str]]:
    """Return the lines of a file of results; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def means(rows: Sequence[Mapping[str, str]], field: str) -> dict[str, dict[str, float]]:
    """Return the mean of each table and contender over the seeds of the table that all its contenders have."""
    values: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row[field]:
            values[row["table"]][row["contender"]][row["seed"]] = float(row[field])
    shared = {table: set.intersection(*({*seeds} for seeds in by_name.values())) for table, by_name in values.items()}
    return {
        table: {name: statistics.fmean(seeds[seed] for seed in shared[table]) for name, seeds in by_name.items()}
        for table, by_name in values.items()
        if shared[table]
    }


def shown(rows: Sequence[Mapping[str, str]], half: str, names: Sequence[str]) -> str:
    """Return the losses of the tables that all contenders have learnt, and what they are in the mean."""
    rows = [row for row in rows if row["contender"] in names]
    roles, losses, seconds = halves(), means(rows, "loss"), means(rows, "fit_seconds")
    wanted = [name for name in TABLES if half in (roles[name], "all") and name in losses]
    common = [name for name in wanted if all(each in losses[name] for each in names)]
    size = {row["table"]: f"{int(row['rows']):,} × {row['columns']}" for row in rows}
    lines = [f"| table | rows × columns | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for table in wanted:
        best = min(losses[table].get(each, math.inf) for each in names)
        texts = [f"{losses[table][each]:.4g}" if each in losses[table] else "" for each in names]
        texts = [f"**{text}**" if text == f"{best:.4g}" else text for text in texts]
        lines.append(f"| {table} | {size[table]} | {' | '.join(texts)} |")
    ranks = [pd.Series(losses[table])[[*names]].rank() for table in common]
    lines += ["", f"{len(common)} tables that all of them have learnt:", ""]
    lines += [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines.append(_line("mean rank", [statistics.fmean(places[name] for places in ranks) for name in names]))
    for other in ("lightgbm", "mlp"):
        if other in names:
            over = [statistics.geometric_mean(losses[t][name] / losses[t][other] for t in common) for name in names]
            lines.append(_line(f"loss over {other}'s", over))
    if "mlp" in names:
        better = [sum(losses[t][name] < losses[t]["mlp"] for t in common) / len(common) for name in names]
        lines.append(_line("tables better than mlp", better))
        times = [statistics.median(seconds[t][name] / seconds[t]["mlp"] for t in common) for name in names]
        lines.append(_line("time over mlp's, median", times))
    lines.append(_line("seconds, median", [statistics.median(seconds[t][name] for t in common) for name in names]))
    return "\n".join(lines)


def _line(title: str, values: Sequence[float]) -> str:
    return f"| {title} | {' | '.join(f'{value:.3g}' for value in values)} |"
