"""Predictions of a table, written block by block: as another table, or of many Parquet files as a folder of part files.

Any number of processes may write the parts. A row group is a task: its part appears when it is complete, so a process
may be killed at any time. A claim keeps two processes from doing the same part. It only saves time: a part that is
written twice is the same. A part that is there already is read once, by one of the processes, to compare the checksums
of its pages.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import DataError, FrameworkError, SettingsError, brief
from framework.base.extras import load_module
from framework.base.files import leads_to, real_path, whole_file
from framework.base.trees import map_leaves
from framework.data.csv import CSV
from framework.data.files import File, locate_files
from framework.data.parquet import Parquet, row_groups
from framework.data.parts import explain_error
from framework.data.table_files import TableFile
from framework.experiments import tables
from framework.experiments.folder import RunFolder
from framework.experiments.processes import Claims
from framework.formulas.losses.rows import MultiQuantile
from framework.formulas.losses.several import OutputLosses
from framework.models import Model
from framework.models.rows import places_of, predict_rows
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.training.checkpoint import load_model


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
    tables.require_not_read(tables.table_of(data, trained), f"--out {out}", out)
    table, kept = open_tables(models[0], trained, data, keep, changes)
    try:
        return write_table(Path(out), blocks(models, table, kept, trained.targets, _labels(runs), cuts(table)))
    except DataError as error:
        error.where = tuple(where for where in error.where if where not in ("predict", "argument 'x'"))
        error.subject = "" if error.subject == "argument 'x'" else error.subject
        raise error.within(*[data] * (data not in str(error))) from None


def models_of(checkpoints: Sequence[Path]) -> list[Model]:
    """Return the models of some checkpoints.

    Raises:
        SettingsError: They have other columns or classes, so their predictions have no common mean.
    """
    models = [load_model(path) for path in checkpoints]
    for path, model in zip(checkpoints, models, strict=True):
        for what, one, two in zip(
            ("columns", "targets", "classes"), _comparable_settings(models[0]), _comparable_settings(model), strict=True
        ):
            if one != two:
                raise SettingsError(
                    f"the mean of several models needs the same {what} in all of them; {str(path)!r} has "
                    f"{brief(two)}, and {str(checkpoints[0])!r} {brief(one)}"
                )
    return models


def _comparable_settings(model: Model) -> tuple[Any, Any, Any]:
    """Return the columns, targets and classes, which must be equal for a mean of predictions."""
    return model.columns, model.target_columns, {} if model.preprocess is None else model.preprocess.classes


def open_tables(
    model: Model, trained: TableFile, data: str, keep: Sequence[str], changes: Sequence[str]
) -> tuple[TableFile, TableFile | None]:
    """Return the table of a model's inputs, and that of the columns of --keep; see ``write_predictions``.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    if model.columns is None:
        raise DataError("the model was trained without names of columns, so it cannot predict a table")
    table = tables.table_read_as(tables.table_of(data, tables.as_trained(trained, model), weight=None), changes)
    table = tables.drop_target(table)
    tables.require_trained(table, model, data)
    tables.require_columns(table, keep, data, "the columns of --keep")
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
    models: Sequence[Model],
    table: TableFile,
    kept: TableFile | None,
    targets: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    ends: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """Give the columns of each block of rows, from each of ``ends`` to the next; of several models, of their mean."""
    compute = load_module("pyarrow.compute", "a table")
    for start, stop in pairwise(ends):
        try:
            frame = table.frame(start, stop)
            predictions = [predict_rows(model, frame, "predict", start=start) for model in models]
        except DataError as error:
            raise explain_error(error, table) from None
        prediction = predictions[0]
        if len(predictions) > 1:
            prediction = map_leaves(lambda *arrays: np.mean(arrays, axis=0), *predictions)
        columns = columns_of(models[0], prediction, targets, labels)
        block: dict[str, Any] = {}
        keeps: Any = kept and kept.frame(start, stop)
        for name in keeps.column_names if kept else ():
            label = f"actual {name}" if name in columns else name
            if label in columns or label in block:
                raise SettingsError(f"--keep {name}: the predictions have a column {label!r}", advice="leave it out")
            cells = keeps.column(name)
            if isinstance(kept, CSV):
                cells = compute.if_else(compute.equal(cells, ""), None, cells)
            block[label] = cells
        yield block | columns


def _labels(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Return the columns of each target of which quantiles are predicted, such as ``price_q10``.

    Raises:
        SettingsError: Runs predict different quantiles, or other runs none, so they have no common mean.
    """
    labels: list[dict[str, list[str]]] = []
    for run in runs:
        experiment = run.experiment
        loss, targets = experiment.trainer.loss, experiment.data.targets
        losses = loss.losses if isinstance(loss, OutputLosses) else dict.fromkeys(targets[:1], loss)
        quantiles = {name: loss.quantiles for name, loss in losses.items() if isinstance(loss, MultiQuantile)}
        labels.append({name: [f"{name}_q{100 * q:.15g}" for q in values] for name, values in quantiles.items()})
        if labels[-1] != labels[0]:
            raise SettingsError(
                f"the mean of several models needs the same quantiles in all of them; {str(run.path)!r} has "
                f"{brief(labels[-1])}, and {str(runs[0].path)!r} {brief(labels[0])}"
            )
    return labels[0]


def columns_of(
    model: Model, prediction: Any, targets: Sequence[str], labels: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> dict[str, Any]:
    """Return predictions as columns: numbers by the name of their target; a class, and the probability of each.

    Args:
        model: The model.
        prediction: What ``model.predict`` gives.
        targets: The names of the columns of the target.
        labels: The columns of a target that has several.

    Example:
        >>> from framework import Neuron
        >>> columns_of(Neuron(1), np.array([1.5, 2.5]), ["price"])
        {'price': array([1.5, 2.5])}
    """
    classes = {} if model.preprocess is None else model.preprocess.classes
    activation = model.output_activation
    if isinstance(prediction, dict):
        outputs = [
            _columns(values, labels.get(name, [name]), activation[name], classes.get(name))
            for name, values in prediction.items()
        ]
        return {name: values for output in outputs for name, values in output.items()}
    known = classes.get(targets[0]) if len(targets) == 1 else None
    return _columns(prediction, labels.get(targets[0], targets), activation, known)


def _columns(
    prediction: Array, targets: Sequence[str], activation: Any, classes: tuple[Any, ...] | None
) -> dict[str, Any]:
    """Return one output as columns."""
    flat = prediction.reshape(len(prediction), math.prod(prediction.shape[1:]))  # also without rows
    if classes is not None:
        chosen = np.array(classes)[places_of(prediction, activation, classes, "predict")]
        shares = np.column_stack([1 - flat, flat]) if flat.shape[1] == 1 else flat
        return {targets[0]: chosen, **{f"{targets[0]}={name}": shares[:, n] for n, name in enumerate(classes)}}
    several = [f"{targets[0]}.{index}" for index in range(flat.shape[1])]
    names = targets if len(targets) == flat.shape[1] else several
    return {name: flat[:, index] for index, name in enumerate(names)}


def write_table(path: Path, column_blocks: Iterator[dict[str, Any]], about: Mapping[str, str] | None = None) -> int:
    """Write blocks of columns as one table, which appears when it is complete; return the number of rows.

    Args:
        path: The file, ``.csv`` or ``.parquet``.
        column_blocks: The blocks.
        about: The metadata of a Parquet file.
    """
    arrow = load_module("pyarrow", "a table")
    module, kind, options = {
        ".csv": ("pyarrow.csv", "CSVWriter", {}),
        ".parquet": ("pyarrow.parquet", "ParquetWriter", {"write_page_checksum": True}),
    }.get(path.suffix.lower(), ("", "", {}))
    if not module:
        raise SettingsError(f"--out {path}: the predictions must be written as .csv or .parquet")
    rows, writer = 0, None
    with whole_file(path) as new, contextlib.ExitStack() as stack:
        for block in column_blocks:
            table = arrow.table(block)
            if about is not None:
                table = table.replace_schema_metadata({**about, COLUMNS: columns_text(table.schema)})
            if writer is None:
                make = getattr(load_module(module, "a table"), kind)
                writer = stack.enter_context(make(str(new), table.schema, **options))
            writer.write_table(table)
            rows += table.num_rows
    return rows


COLUMNS = "framework.columns"
"""The key in the metadata of a part for the names and types of its columns, which no checksum covers."""


def columns_text(schema: Any) -> str:
    """Return the names and types of the columns of a table's schema."""
    return str(schema.remove_metadata())


WAIT = 0.5
"""Seconds between two looks at parts that other processes have claimed."""

CLAIMS = ".claims"
"""The folder of the claims, within that of the parts. A folder of thousands of parts is slow to list."""

SHOWN = 10
"""How many kinds of errors are reported."""

ABOUT = "framework.predictions"
"""The key in the metadata of a part for its checkpoint, row group and columns."""


def is_folder(out: str) -> bool:
    """Return whether predictions go to a folder: one that is there, or a name without an ending.

    Example:
        >>> is_folder("predicted"), is_folder("v1.2/"), is_folder("predicted.csv")
        (True, True, False)
    """
    return out.endswith(("/", os.sep)) or leads_to(out) == "folder" or not Path(out).suffix


def write_parts(
    runs: Sequence[RunFolder],
    data: str,
    out: str,
    keep: Sequence[str] = (),
    changes: Sequence[str] = (),
    *,
    overwrite: bool = False,
    checked: bool = False,
    report: Callable[[FrameworkError], None],
) -> Parts:
    """Write the predictions of each row group of some Parquet files to a file of its own, and wait for all of them.

    The part ``NAME.00002.parquet`` holds the rows of the third row group of the file NAME, in their order. Sorted by
    name, the parts are in the order of the rows. A part says in its metadata which checkpoint, which row group of which
    file (with its size and time) and which columns it was made of.

    Args:
        runs: The runs of whose newest models the predictions are; of several, their mean, with equal weights.
        data: A Parquet file, a folder or a pattern of them.
        out: The folder of the parts.
        keep: Columns of the table that are written in front of the predictions.
        changes: Settings of how the table is read.
        overwrite: Replace parts that were made of something else; without it, they are errors.
        checked: Whether other processes have checked the parts a moment ago, which are not read again then.
        report: A function that gets the first error of each kind. Errors of one kind differ only in the names of the
            file and the part. The other parts are written.

    Raises:
        SettingsError: ``out`` cannot be written, or is within the folder that is read; ``data`` is not Parquet; or the
            models of the runs have other columns or classes.
        DataError: There is no such file.
    """
    trained = runs[0].experiment.data
    if (table := tables.table_of(data, Parquet(data))).ending != ".parquet":
        problem = f"--out {out} is a folder, which is written from Parquet files; got {data}"
        raise SettingsError(problem, advice=f"write one file with --out {Path(out)}.csv")
    files = locate_files(table.path, ".parquet", "Parquet")
    folder = real_path(out)
    within = Path(data).is_dir() and folder.is_relative_to(real_path(data))
    if within or any(file.system is None and real_path(file.path).is_relative_to(folder) for file in files):
        raise SettingsError(f"--out {out}: its parts would be read as files of {data}; give a folder outside of it")
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {out} must be a folder that can be written; {error}") from None
    checkpoints = [run.checkpoint() for run in runs]
    digests = " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in checkpoints)
    about = {"checkpoint": digests, "target": [*trained.targets], "keep": [*dict.fromkeys(keep)]}
    parts = Parts(models_of(checkpoints), trained, _labels(runs), Path(out), about, changes, overwrite, report)
    parts.write(files, checked=checked)
    return parts


class _Part(NamedTuple):
    """A row group, and where its predictions go.

    Attributes:
        file: The file of the row group.
        path: The part.
        start: The first row of the row group in its file.
        stop: The row after its last.
        about: The checkpoint, the row group and the columns that the part is made of.
    """

    file: File
    path: Path
    start: int
    stop: int
    about: dict[str, Any]


class Parts:
    """The parts of a folder, and what is needed to write them.

    Attributes:
        count: How many are there.
        rows: How many rows they have.
        written: How many this process wrote.
        failed: How many files or parts had errors.
        kinds: The kinds of these errors: their texts without the names of the file and the part.
    """

    def __init__(
        self,
        models: Sequence[Model],
        trained: TableFile,
        labels: Mapping[str, Sequence[str]],
        folder: Path,
        about: dict[str, Any],
        changes: Sequence[str],
        overwrite: bool,
        report: Callable[[FrameworkError], None],
    ) -> None:
        self._models, self._trained, self._labels, self._folder, self._about = models, trained, labels, folder, about
        self._changes, self._overwrite, self._report = changes, overwrite, report
        self._arrow, self._parquet = load_module("pyarrow", "Parquet"), load_module("pyarrow.parquet", "Parquet")
        self._open: tuple[File | None, Any] = (None, None)  # the file that was opened last, and its tables
        self._claims = Claims(folder / CLAIMS)
        self.count = self.rows = self.written = self.failed = 0
        self.kinds: set[str] = set()

    def write(self, files: Sequence[File], *, checked: bool) -> None:
        """Write the parts that are not there or damaged, and wait for those that others write or check."""
        left = [out for file in files for out in self._of(file)]
        while left := [out for out in left if not self._settle(out, checked=checked)]:
            checked = True
            time.sleep(WAIT)

    def _of(self, file: File) -> list[_Part]:
        """Return the parts of a file; a file without row groups has one, without rows."""
        parts: list[_Part] = []
        start = 0
        try:
            stamp = file.stamp()
            for number, rows in enumerate(row_groups(file) or [0]):
                made_of = {"file": file.name, "size and time": stamp, "row group": number, "rows": rows}
                path = self._folder / f"{file.name}.{number:05}.parquet"
                parts.append(_Part(file, path, start, start + rows, self._about | made_of))
                start += rows
        except FrameworkError as error:
            self._fail(error, file.url)
        return parts

    def _fail(self, error: FrameworkError, *names: str) -> None:
        """Count an error, and report the first of its kind; ``names`` are those of its file and its part."""
        self.failed += 1
        kind = re.sub(r"\brow (group )?\d+", "row", str(error))
        for name in names:
            kind = kind.replace(name, "")
        if kind not in self.kinds:
            self.kinds.add(kind)
            if len(self.kinds) <= SHOWN:
                self._report(error)

    def _settle(self, out: _Part, *, checked: bool) -> bool:
        """Return whether a part is there, after writing it if no other process does, or has an error."""
        try:
            if not self._finish(out, checked=checked):
                return False
        except FrameworkError as error:
            self._fail(error, str(out.path), out.file.url)
            return True
        self.count += 1
        self.rows += out.stop - out.start
        return True

    def _finish(self, out: _Part, *, checked: bool) -> bool:
        """Return whether a part is there, after checking or writing it if no other process does."""
        name = str(out.path.relative_to(self._folder))
        first = self._claims.first(name)
        if checked and self._is_there(out) and not first.exists():
            return True
        try:
            for path in (out.path, first):
                path.parent.mkdir(parents=True, exist_ok=True)
            claim = self._claims.take(name)
        except OSError as error:
            raise SettingsError(f"{out.path} cannot be written: {error}") from None
        if claim is None:
            return False
        with claim:
            if not (self._is_there(out) and self._is_sound(out)):
                self._write(out)
                self.written += 1
            if claim.before:  # of killed processes
                for remains in out.path.parent.glob(f".{glob.escape(out.path.name)}.*.new"):
                    remains.unlink(missing_ok=True)
                claim.forget()
        return True

    def _is_sound(self, out: _Part) -> bool:
        """Return whether the checksums and the columns of a part are those with which it was written."""
        try:
            with self._parquet.ParquetFile(out.path, page_checksum_verification=True) as file:
                rows = sum(map(len, file.iter_batches(BLOCK_ROWS, use_threads=False)))
                schema = file.schema_arrow
        except (OSError, ValueError, self._arrow.ArrowException):
            return False
        columns = (schema.metadata or {}).get(COLUMNS.encode())
        return rows == out.stop - out.start and columns == columns_text(schema).encode()

    def _is_there(self, out: _Part) -> bool:
        """Return whether a part is there; False too for one that is damaged at its end, or must be replaced.

        Raises:
            SettingsError: It was made of something else, and must not be replaced.
        """
        try:
            with self._parquet.ParquetFile(out.path) as file:  # the file holds the metadata twice: also in a schema
                metadata, copies = file.schema_arrow.metadata or {}, file.metadata.metadata or {}
        except (OSError, ValueError, self._arrow.ArrowException):
            return False
        key = ABOUT.encode()
        if metadata.get(key) != copies.get(key):
            return False
        try:
            made_of = json.loads(metadata[key])
        except (LookupError, ValueError):
            made_of = {}
        if made_of == out.about:
            return True
        if self._overwrite:
            return False
        others = [name for name, value in out.about.items() if made_of.get(name) != value]
        values = f": {brief(made_of.get('keep'))} there, {brief(out.about['keep'])} now" if others == ["keep"] else ""
        problem = f"is a part with another {', '.join(others)}{values}; give --out another folder, or --overwrite"
        raise SettingsError(problem, name=str(out.path))

    def _write(self, out: _Part) -> None:
        file = out.file
        if file.stamp() != out.about["size and time"]:
            raise DataError("was changed after the command began", name=file.url, advice="start the command again")
        try:
            if self._open[0] != file:
                self._open = (
                    file,
                    open_tables(self._models[0], self._trained, file.url, self._about["keep"], self._changes),
                )
            table, kept = self._open[1]
            ends = cuts_within(out.start, out.stop)
            column_blocks = blocks(self._models, table, kept, self._trained.targets, self._labels, ends)
            write_table(out.path, column_blocks, {ABOUT: json.dumps(out.about)})
        except FrameworkError as error:
            if self._is_there(out):  # written by a process that has taken the claim over
                return
            where = f"{file.url}, row group {out.about['row group']}"
            raise error.within(*[where] * (file.url not in str(error))) from None
