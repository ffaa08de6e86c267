"""Predictions of a table, written as another table, block by block."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.checkpoint import load_model
from framework.data.csv import CSV
from framework.data.parquet import Parquet
from framework.data.table_files import TableFile
from framework.errors import DataError, SettingsError
from framework.experiments.folder import RunFolder
from framework.experiments.tables.reading import (
    as_trained,
    require_columns,
    require_not_read,
    require_trained,
    table_of,
    table_read_as,
    without_target,
)
from framework.extras import required
from framework.files import whole_file
from framework.models import Model
from framework.models.rows import places_of
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.settings.messages import brief
from framework.trees import map_leaves


def write_predictions(
    runs: Sequence[RunFolder], data: str, out: str, keep: Sequence[str] = (), changes: Sequence[str] = ()
) -> int:
    """Write the predictions of every row of a table, in its order, and return the number of rows.

    The file appears when it is complete. Memory is that of 65,536 rows.

    Args:
        runs: The runs of whose newest models the predictions are; of several, their mean, with equal weights.
        data: A CSV or Parquet file, which may lack the target.
        out: The file to write: ``.csv`` or ``.parquet``.
        keep: Columns of the table that are written in front of the predictions: of a CSV file its cells as they are
            there. The target, whose name the predictions have, is named ``actual NAME``.
        changes: Settings of how the table is read, such as ``"data.delimiter=;"``; the others are those of the run.

    Raises:
        SettingsError: ``out`` has another ending, cannot be written, or is the table itself; or the models of the runs
            have other columns or classes.
        DataError: The table cannot be read, or lacks a column.
    """
    models, trained = models_of([run.checkpoint() for run in runs]), runs[0].experiment.data
    require_not_read(table_of(data, trained), f"--out {out}", out)
    table, kept = opened(models[0], trained, data, keep, changes)
    try:
        return written(Path(out), blocks(models, table, kept, trained.targets, cuts(table)))
    except DataError as error:
        said = str(error).removeprefix("predict: argument 'x': ").removeprefix("predict: argument 'x' ")
        raise type(error)(said if data in said else f"{data}: {said}") from None


def models_of(checkpoints: Sequence[Path]) -> list[Model]:
    """Return the models of some checkpoints.

    Raises:
        SettingsError: They have other columns or classes, so their predictions have no common mean.
    """
    models = [load_model(path) for path in checkpoints]
    for path, model in zip(checkpoints, models, strict=True):
        for what, one, two in zip(("columns", "targets", "classes"), _kept(models[0]), _kept(model), strict=True):
            if one != two:
                raise SettingsError(
                    f"the mean of several models needs the same {what} in all of them; {str(path)!r} has "
                    f"{brief(two)}, and {str(checkpoints[0])!r} {brief(one)}"
                )
    return models


def _kept(model: Model) -> tuple[Any, Any, Any]:
    """Return the columns, targets and classes, which must be equal for a mean of predictions."""
    return model.columns, model.target_columns, {} if model.preprocess is None else model.preprocess.classes


def opened(
    model: Model, trained: TableFile, data: str, keep: Sequence[str], changes: Sequence[str]
) -> tuple[TableFile, TableFile | None]:
    """Return the table of a model's inputs, and that of the columns of --keep; see ``write_predictions``.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    if model.columns is None:
        raise DataError("the model was trained without names of columns, so it cannot predict a table")
    table = table_read_as(table_of(data, as_trained(trained, model), weight=None), changes)
    table = without_target(table)
    require_trained(table, model, data)
    require_columns(table, keep, f"{data} must have the columns of --keep")
    if not keep:
        return table.replace(columns=model.columns), None
    names = [*dict.fromkeys(keep)]
    unchanged = {"text": names, "nulls": (), "thousands": None} if isinstance(table, CSV) else {}  # the text of cells
    return table.replace(columns=model.columns), table.replace(columns=names, **unchanged)


def cuts(table: TableFile) -> list[int]:
    """Return where the blocks of a table begin and end.

    A block of a Parquet file ends with its row group, so that predictions do not depend on the rows of other groups:
    the last bits of a product of matrices depend on how many rows it has.
    """
    ends = [0, *table.starts[1:], len(table)] if isinstance(table, Parquet) else [0, len(table)]
    return [0, *(cut for start, stop in pairwise(ends) for cut in cuts_within(start, stop)[1:])]


def cuts_within(start: int, stop: int) -> list[int]:
    """Return where the blocks of the rows start..stop begin and end.

    Example:
        >>> cuts_within(0, 100_000), cuts_within(5, 5)
        ([0, 65536, 100000], [5, 5])
    """
    return [*(range(start, stop, BLOCK_ROWS) or [start]), stop]


def blocks(
    models: Sequence[Model], table: TableFile, kept: TableFile | None, targets: Sequence[str], ends: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Give the columns of each block of rows, from each of ``ends`` to the next; of several models, of their mean."""
    compute = required("pyarrow.compute", "a table")
    for start, stop in pairwise(ends):
        try:
            frame = table.frame(start, stop)
            predictions = [model.predict(frame) for model in models]
        except DataError as error:
            raise type(error)(table.explained(str(error))) from None
        prediction = predictions[0]
        if len(predictions) > 1:
            prediction = map_leaves(lambda *each: np.mean(each, axis=0), *predictions)
        found = columns_of(models[0], prediction, targets)
        block: dict[str, Any] = {}
        keeps: Any = kept and kept.frame(start, stop)
        for name in keeps.column_names if kept else ():
            label = f"actual {name}" if name in found else name
            if label in found or label in block:
                raise SettingsError(f"--keep {name}: the predictions have a column {label!r}; leave it out")
            cells = keeps.column(name)
            if isinstance(kept, CSV):
                cells = compute.if_else(compute.equal(cells, ""), None, cells)
            block[label] = cells
        yield block | found


def columns_of(model: Model, prediction: Any, targets: Sequence[str]) -> dict[str, Any]:
    """Return predictions as columns: numbers by the name of their target; a class, and the probability of each.

    Args:
        model: The model.
        prediction: What ``model.predict`` gives.
        targets: The names of the columns of the target.

    Example:
        >>> from framework import Neuron
        >>> columns_of(Neuron(1), np.array([1.5, 2.5]), ["price"])
        {'price': array([1.5, 2.5])}
    """
    classes = {} if model.preprocess is None else model.preprocess.classes
    activation = model.output_activation
    if isinstance(prediction, dict):
        outputs = [_columns(each, [name], activation[name], classes.get(name)) for name, each in prediction.items()]
        return {name: values for output in outputs for name, values in output.items()}
    return _columns(prediction, targets, activation, classes.get(targets[0]) if len(targets) == 1 else None)


def _columns(
    prediction: Array, targets: Sequence[str], activation: Any, classes: tuple[Any, ...] | None
) -> dict[str, Any]:
    """Return one output as columns."""
    flat = prediction.reshape(len(prediction), math.prod(prediction.shape[1:]))  # also without rows
    if classes is not None:
        chosen = np.array(classes)[places_of(prediction, activation, classes, "predict")]
        shares = np.column_stack([1 - flat, flat]) if flat.shape[1] == 1 else flat
        return {targets[0]: chosen, **{f"{targets[0]}={name}": shares[:, n] for n, name in enumerate(classes)}}
    several = [f"{targets[0]}.{place}" for place in range(flat.shape[1])]
    names = targets if len(targets) == flat.shape[1] else several
    return {name: flat[:, place] for place, name in enumerate(names)}


def written(path: Path, found: Iterator[dict[str, Any]], about: Mapping[str, str] | None = None) -> int:
    """Write blocks of columns as one table, which appears when it is complete; return the number of rows.

    Args:
        path: The file, ``.csv`` or ``.parquet``.
        found: The blocks.
        about: The metadata of a Parquet file.
    """
    arrow = required("pyarrow", "a table")
    module, kind, options = {
        ".csv": ("pyarrow.csv", "CSVWriter", {}),
        ".parquet": ("pyarrow.parquet", "ParquetWriter", {"write_page_checksum": True}),
    }.get(path.suffix.lower(), ("", "", {}))
    if not module:
        raise SettingsError(f"--out {path}: the predictions must be written as .csv or .parquet")
    rows, writer = 0, None
    with whole_file(path) as new, contextlib.ExitStack() as stack:
        for block in found:
            table = arrow.table(block)
            if about is not None:
                table = table.replace_schema_metadata({**about, COLUMNS: columns_text(table.schema)})
            if writer is None:
                make = getattr(required(module, "a table"), kind)
                writer = stack.enter_context(make(str(new), table.schema, **options))
            writer.write_table(table)
            rows += table.num_rows
    return rows


COLUMNS = "framework.columns"
"""The key in the metadata of a part for the names and types of its columns, which no checksum covers."""


def columns_text(schema: Any) -> str:
    """Return the names and types of the columns of a table's schema."""
    return str(schema.remove_metadata())
