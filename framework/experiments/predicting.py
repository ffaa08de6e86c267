"""Predictions of a table, written as another table, block by block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.data.table_files import TableFile
from framework.errors import DataError, SettingsError
from framework.experiments.folder import RunFolder
from framework.experiments.tables import table_of
from framework.extras import required
from framework.models import Model
from framework.models.rows import likeliest

BLOCK_ROWS = 65_536


def write_predictions(run: RunFolder, data: str, out: str, keep: Sequence[str] = ()) -> int:
    """Write the predictions of every row of a table, in its order, and return the number of rows.

    The file appears when it is complete. Memory is that of 65,536 rows.

    Args:
        run: The run, of whose newest model the predictions are.
        data: A CSV or Parquet file, which may lack the target.
        out: The file to write: ``.csv`` or ``.parquet``.
        keep: Columns of the table that are written in front of the predictions.

    Raises:
        SettingsError: ``out`` has another ending or cannot be written.
        DataError: The table cannot be read, or lacks a column.
    """
    experiment, model = run.experiment, run.model()
    if model.columns is None:
        raise DataError("the model was trained without names of columns, so it cannot predict a table")
    columns = dict.fromkeys([*model.columns, *keep])
    table = table_of(data, experiment.data, target=None, weight=None, columns=[*columns])
    targets = experiment.data.targets
    return _written(Path(out), _blocks(model, table, targets, keep))


def _blocks(model: Model, table: TableFile, targets: tuple[str, ...], keep: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Give the columns of each block of rows; of no rows, one block."""
    rows = len(table)
    for start in range(0, rows, BLOCK_ROWS) or [0]:
        frame = table.frame(start, min(start + BLOCK_ROWS, rows))
        found = columns_of(model, model.predict(frame), targets)
        if taken := [name for name in keep if name in found]:
            raise SettingsError(f"--keep {taken[0]}: the predictions have a column of this name; leave it out")
        yield {name: frame.column(name) for name in keep} | found


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
    if isinstance(prediction, dict):
        outputs = (_numbers(each, [name]) for name, each in prediction.items())
        return {name: values for output in outputs for name, values in output.items()}
    if model.preprocess is not None and model.preprocess.classes:
        places, classes = likeliest(model, prediction, "predict")
        assert classes is not None  # the target has some
        shares = prediction.reshape(len(prediction), -1)
        shares = np.column_stack([1 - shares, shares]) if shares.shape[1] == 1 else shares
        probabilities = {f"{targets[0]}={name}": shares[:, place] for place, name in enumerate(classes)}
        return {targets[0]: np.array(classes)[places], **probabilities}
    return _numbers(prediction, targets)


def _numbers(prediction: Array, targets: Sequence[str]) -> dict[str, Array]:
    if prediction.ndim == 1 or prediction.shape[1:] == (1,):
        return {targets[0]: prediction.reshape(-1)}
    flat = prediction.reshape(len(prediction), -1)
    names = targets if len(targets) == flat.shape[1] else [f"{targets[0]}.{place}" for place in range(flat.shape[1])]
    return {name: flat[:, place] for place, name in enumerate(names)}


def _written(path: Path, blocks: Iterator[dict[str, Any]]) -> int:
    """Write blocks of columns as one table, which appears when it is complete; return the number of rows."""
    arrow = required("pyarrow", "a table")
    module, kind = {".csv": ("pyarrow.csv", "CSVWriter"), ".parquet": ("pyarrow.parquet", "ParquetWriter")}.get(
        path.suffix.lower(), ("", "")
    )
    if not module:
        raise SettingsError(f"--out {path}: the predictions must be written as .csv or .parquet")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    rows, writer = 0, None
    try:
        with contextlib.ExitStack() as stack:
            for block in blocks:
                table = arrow.table(block)
                if writer is None:
                    writer = stack.enter_context(getattr(required(module, "a table"), kind)(str(partial), table.schema))
                writer.write_table(table)
                rows += table.num_rows
        partial.replace(path)
    except OSError as error:
        raise SettingsError(
            f"--out {path}: the file must be one that can be written; {error.strerror or error}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return rows
