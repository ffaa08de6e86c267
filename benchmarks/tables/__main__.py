"""How good are the commands and the estimators on forty real tables, with their defaults?

    python -m benchmarks.tables run                      # all tables and contenders, seed 0; goes on where it ended
    python -m benchmarks.tables run --half report --seeds 0,1,2 --contenders commands,lightgbm
    python -m benchmarks.tables show --half report       # the results as Markdown

A table is split once for each seed: three quarters of the rows train, the others test, with equal shares of the classes
or of the tenths of a number. The loss is the log loss, or the root of the mean squared error. Each line of the results
names a table, a seed and a contender; what is there is not run again. Seconds are those of the processor, one thread.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.tables.contenders import CONTENDERS, OTHERS, Prediction
from benchmarks.tables.results import FIELDS, RESULTS, read_results, shown
from benchmarks.tables.sources import TABLES, TARGET, halves, load

FEW_ROWS = 5_000
"""Larger tables have one seed only."""


def split(frame: pd.DataFrame, task: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to train on and those to test, each class or tenth of the numbers with its share."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    y = frame[TARGET]
    strata = y if task == "class" else pd.qcut(y, 10, labels=False, duplicates="drop")
    train, test = train_test_split(frame, test_size=0.25, random_state=seed, stratify=strata)
    return train.reset_index(drop=True), test.reset_index(drop=True)


def scores(task: str, y: pd.Series, values: Any) -> dict[str, float]:
    """Return the log loss and the accuracy of probabilities, or the root mean squared error and R² of numbers."""
    if task == "number":
        squares = (y.to_numpy(float) - np.asarray(values, float)) ** 2
        return {"loss": float(np.sqrt(squares.mean())), "score": float(1 - squares.mean() / y.var(ddof=0))}
    chances = values.to_numpy(float).clip(1e-7, 1)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = values.columns.astype(str)
    rows, places = np.arange(len(y)), labels.get_indexer(y.astype(str))
    accuracy = float((labels[chances.argmax(axis=1)] == y.astype(str).to_numpy()).mean())
    return {"loss": float(-np.log(np.where(places >= 0, chances[rows, places], 1e-7)).mean()), "score": accuracy}


def cells(options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Give what is to be run: a table, a seed, a contender."""
    names = options.tables or [name for name, half in halves().items() if options.half in (half, "all")]
    for seed in options.seeds:
        for name in names:
            for contender in options.contenders:
                yield name, seed, contender


def run(options: argparse.Namespace) -> None:
    """Run what is not in the results yet, and append a line for each."""
    done = {(row["table"], row["seed"], row["contender"]) for row in read_results(options.out) if row["loss"]}
    if not options.out.exists():
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    for name, seed, contender in cells(options):
        label = options.label or contender
        if (name, str(seed), label) in done:
            continue
        frame, task = load(name), TABLES[name].task
        if seed and len(frame) > FEW_ROWS:
            continue
        train, test = split(frame, task, seed)
        row = {"table": name, "seed": seed, "contender": label, "rows": len(frame), "columns": frame.shape[1] - 1}
        try:
            made: Prediction = (CONTENDERS | OTHERS)[contender](train, test, task, seed)
            row |= scores(task, test[TARGET], made.values)
            row |= {"fit_seconds": made.fit, "predict_seconds": made.predict, "note": made.note}
        except Exception as error:
            if not options.go_on:
                raise
            row["note"] = f"{type(error).__name__}: {error}".replace("\n", " ")
        with options.out.open("a", encoding="utf-8", newline="") as file:
            line = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
            csv.DictWriter(file, FIELDS).writerow(line)
        print(*(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "show", "list"))
    parser.add_argument("--half", choices=("choose", "report", "all"), default="all")
    parser.add_argument("--tables", type=lambda text: text.split(","), help="names, with commas between")
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=[*CONTENDERS])
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--label", help="the contender's name in the results, to compare two versions of one")
    parser.add_argument("--go-on", action="store_true", help="write an error into the results and go on")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file of results")
    options = parser.parse_args(arguments)
    if options.action == "list":
        for name, half in halves().items():
            print(f"{name:14} {TABLES[name].task:7} {half}")
    elif options.action == "show":
        rows = [row for row in read_results(options.out) if options.tables is None or row["table"] in options.tables]
        print(shown(rows, options.half, options.contenders))
    else:
        run(options)


if __name__ == "__main__":
    sys.exit(main())
