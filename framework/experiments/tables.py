"""Tables of experiments: a file by its ending, read as another one, or into memory; and its rows that have a target.

An experiment trains on the rows that have a target, and is evaluated on these.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, FrameworkError, Setting, SettingsError, nearest
from framework.base.extras import load_module
from framework.base.files import leads_to
from framework.base.frames import Frame
from framework.base.settings.messages import list_names, warn
from framework.data.csv import CSV, NULLS
from framework.data.files import locate_files
from framework.data.parquet import Parquet
from framework.data.splits import Mask, Selection
from framework.data.table_files import TableFile
from framework.experiments.files.building import build
from framework.experiments.files.text import apply_changes, parse_change, places
from framework.models import Model
from framework.preprocessing.statistics import BLOCK_ROWS

IN_MEMORY = 5_000_000
"""Cells of a table that is read into memory; a larger one is read in blocks, each epoch again."""


def table_of(path: str, like: TableFile | None = None, **settings: Any) -> TableFile:
    """Return the table of a file: CSV or Parquet, by its ending; of a folder by the files in it.

    Args:
        path: The file, or a pattern, a folder or a URL of one ending.
        like: A table of the same kind, whose settings (delimiter, target, ...) it has too.
        **settings: Further settings.

    Raises:
        SettingsError: The ending is another one.

    Example:
        >>> table_of("a.parquet", target="late")
        Parquet(path='a.parquet', target='late')
    """
    kinds: dict[str, type[TableFile]] = {".csv": CSV, ".parquet": Parquet}
    ending = Path(path).suffix.lower()
    kind = kinds.get({".pq": ".parquet", ".txt": ".csv", ".tsv": ".csv"}.get(ending, ending))
    if kind is None and leads_to(path, DataError) == "folder":
        held = [candidate for candidate in kinds.values() if any(Path(path).rglob(f"*{candidate.ending}"))]
        kind = held[0] if len(held) == 1 else None if like is None else type(like)
    if kind is None:
        hint = "; unpack it first" if ending in (".gz", ".zip", ".bz2", ".xz", ".zst") else ""
        if not ending and not leads_to(path, DataError):
            hint = "; there is no folder of this name"
        raise SettingsError(f"the table {path!r} must end in .csv or .parquet{hint}")
    if isinstance(like, kind):
        return like.replace(path=path, **settings)
    if ending == ".tsv":
        settings.setdefault("delimiter", "\t")
    roles = {} if like is None else {"target": like.target, "weight": like.weight, "columns": like.columns}
    return kind(**{"path": path, **roles, **settings})


ROLES = ("type", "path", "target")
"""Settings of a table that the arguments of a command give."""


def table_read_as(table: TableFile, changes: Sequence[str]) -> TableFile:
    """Return a table with settings such as ``data.delimiter=;``, which say how its file is read.

    Raises:
        SettingsError: A setting is unknown or wrong, or one that says something else.

    Example:
        >>> table_read_as(CSV("a.csv"), ["data.thousands=,"]).thousands
        ','
    """
    parsed_changes = {text: parse_change(text) for text in changes}
    for text, (path, _) in parsed_changes.items():
        if len(path) != 2 or path[0] != "data" or path[1] in ROLES:
            raise SettingsError(
                f"--set {text}: this command takes settings of how the table is read, such as data.thousands=, or "
                "data.encoding=latin-1"
            )
    if not parsed_changes:
        return table
    settings = json.loads(table.to_json())
    made: TableFile = build(
        apply_changes({"data": settings}, parsed_changes)["data"],
        TableFile,
        lambda path: places(str(table.path), {}, parsed_changes)(("data", *path)),
    )
    return made


def render_for_command(error: Exception, file: str | None = None) -> str:
    """Return the message of an error whose advice on the settings of a table is flags of a command.

    For a command that has no such flags, they are settings of the ``file`` that it reads.

    Example:
        >>> advice = Advice("write ", Setting("thousands", ","), " or ", Setting("text", ("zip",)))
        >>> error = DataError("CSV: column 'a' has numbers with ','", advice=advice)
        >>> print(render_for_command(error))
        CSV: column 'a' has numbers with ','; write --set data.thousands=, or --set 'data.text=["zip"]'
        >>> print(render_for_command(error, "run/experiment.toml").partition("; ")[2])
        write thousands = "," or text = ["zip"] in [data] of run/experiment.toml
    """
    if not isinstance(error, FrameworkError):
        return str(error) or type(error).__name__
    table = "validation" if "validation" in error.where else "data"

    def word(setting: Setting | str) -> str:
        if isinstance(setting, str):
            return setting
        value = setting.value
        if isinstance(value, tuple):
            value = [word for one in value for word in (NULLS if one is ... else (one,))]
        text = json.dumps(value, ensure_ascii=False)
        if file is not None:
            return f"{setting.name} = {text}"
        text = value if isinstance(value, str) and value.isprintable() else text
        return f"--set {shlex.quote(f'{table}.{setting.name}={text}')}"

    def write(advice: Advice) -> str:
        words = [advice.command] if advice.command else [*map(word, advice.words)]
        ends = file is not None and any(isinstance(word, Setting) for word in advice.words)
        return "".join([*words, f" in [{table}] of {file}" * ends])

    moved = f"; if it was moved, write its new path in [{table}] of {file}"
    return error.render(write) + moved * (file is not None and error.expected == "file")


def require_not_read(table: TableFile, name: str, path: str | Path) -> None:
    """Refuse to replace a file of a table by what is made of the table; ``name`` begins the message.

    Raises:
        SettingsError: The path is one of the table's files.
    """
    if not leads_to(path):
        return
    for file in locate_files(table.path, table.ending, type(table).__name__):
        if file.system is None and Path(path).samefile(file.path):
            raise SettingsError(f"{file.url} is read, so it must not be replaced; give another file", where=name)


def as_trained(table: TableFile, model: Model) -> TableFile:
    """Return a table whose columns are read as those that a model was trained with.

    Another CSV file may look unlike the training data: a column of codes such as ``A7`` holds only ``12`` in it. So
    its text is said to be text.
    """
    fitted = model.preprocess
    if not isinstance(table, CSV) or fitted is None:
        return table
    kinds = [*zip(fitted.inputs, fitted.kinds, strict=True), *zip(fitted.targets, fitted.target_kinds, strict=True)]
    texts = [name for name, kind in kinds if kind in ("text", "category")]
    return table.replace(text=[name for name in dict.fromkeys(texts) if table.header is None or name in table.header])


def require_trained(table: TableFile, model: Model, data: str) -> None:
    """Check that a table has the columns that a model was trained with.

    Args:
        table: The table; of a CSV file, as ``as_trained`` gives it.
        model: The model.
        data: The path of the table, for the message.

    Raises:
        DataError: It lacks one; names it.
    """
    columns, what = model.columns or (), "the columns that the model was trained with"
    try:
        require_columns(table, columns, data, what)
    except DataError:
        if isinstance(table, CSV):  # a column of text is missing perhaps, which no setting of the user names
            require_columns(table.replace(text=()), columns, data, what)
        raise


def require_columns(table: TableFile, columns: Sequence[str], data: str, what: str) -> None:
    """Check that a table has some columns; ``data`` and ``what`` name the table and the columns in the message.

    Raises:
        DataError: It lacks one; names it.
    """
    names = table.rows.names
    if missing := next((name for name in columns if name not in names), None):
        problem = f"must have {what}; there is no {missing!r}{nearest(missing, names)}"
        error = DataError(problem, name=data, argument=missing, advice=table.hint(names))
        listed = "" if error.advice or nearest(missing, names) else f"Columns: {list_names(names)}"
        raise error.advise(listed)


def read_alike(table: TableFile, data: TableFile) -> TableFile:
    """Return a CSV file in which columns are text that are text in ``data``, also if all its cells are numbers."""
    if not isinstance(table, CSV):
        return table
    types = load_module("pyarrow", "CSV").types
    schema = data.rows.schema
    used = {*(table.columns or table.rows.names), *table.targets}
    texts = [name for name in schema.names if name in used and types.is_string(schema.field(name).type)]
    return table if {*texts} <= {*table.text} else table.replace(text=[*dict.fromkeys([*table.text, *texts])])


def drop_target(table: TableFile) -> TableFile:
    """Return a table without a target to predict from; the files may have its column or not."""
    changes: dict[str, Any] = {"target": None, "columns": None}
    if isinstance(table, CSV):
        changes["text"] = tuple(name for name in table.text if name not in table.targets)
    if isinstance(table, CSV) and table.header is not None:
        try:
            len(table.replace(**changes))
        except DataError:  # not as many cells as there are names: perhaps the target's are not there
            changes["header"] = tuple(name for name in table.header if name not in table.targets)
    return table.replace(**changes)


def in_memory(data: TableFile | Selection) -> Any:
    """Return a table of at most ``IN_MEMORY`` cells as (table, target); else as it is, to be read in blocks."""
    table: Any = data
    while isinstance(table, Selection):
        table = table.dataset
    if len(data) * len(table.names) > IN_MEMORY:
        return data
    x, y, *weight = data.read(0, len(data))
    for name in table.targets:
        x = x.append_column(name, y if isinstance(table.target, str) else y.column(name))
    return (x, table.target if isinstance(table.target, str) else [*table.targets], *weight)


def drop_unlabelled(table: TableFile) -> TableFile | Selection:
    """Return a table without its rows that have no target, and warn of their number.

    Raises:
        DataError: No row has a target.
    """
    if table.target is None:
        return table
    blocks = [
        np.any([frame.column(name).to_native().is_null(nan_is_null=True) for name in frame.names], axis=0)
        for frame in targets_of(table)
    ]
    absent = np.concatenate([np.zeros(0, bool), *blocks])
    missing = int(absent.sum())
    if not missing:
        return table
    what = "the target " + ", ".join(map(repr, table.targets))
    if missing == len(table):
        raise DataError(f"{what} is missing in all {missing:,} rows, so there is nothing to learn from")
    warn(f"{what} is missing in {missing:,} of {len(table):,} rows, first in row {absent.argmax()}; they are left out")
    return Selection(table, Mask(absent), f"{len(table) - missing} rows with a target", held=False)


def classes_of(table: TableFile | Selection, most: float = math.inf) -> tuple[list[tuple[str, ...]], Array]:
    """Return the classes of the target, of several targets their combinations, and the number of that of each row.

    Reading ends after a block with which there are more than ``most`` classes.
    """
    known: dict[tuple[str, ...], int] = {}
    numbers = [np.zeros(0, np.int64)]
    for frame in targets_of(table):
        texts = [np.array(levels, object)[codes] for codes, levels in map(frame.texts, frame.names)]
        numbers.append(np.array([known.setdefault(row, len(known)) for row in zip(*texts, strict=True)]))
        if len(known) > most:
            break
    return [*known], np.concatenate(numbers)


def groups_of(table: TableFile | Selection, column: str) -> Array:
    """Return the number of the group of each row, in the order of their first rows; ``column`` holds the groups.

    Raises:
        DataError: The column does not exist, is the target or the weight, or lacks a value in a row.
    """
    file = _file_of(table)
    require_columns(file, [column], "the table", "the column of setting 'groups'")
    if column in (*file.targets, file.weight):
        problem = "must be neither the target nor the weight"
        raise DataError(problem, name=f"groups: column {column!r}", advice="choose another column")
    narrow = file.replace(columns=[column], **({"text": (column,)} if isinstance(file, CSV) else {}))
    known: dict[str, int] = {}
    numbers = [np.zeros(0, np.int64)]
    for x, _ in _blocks_of(table, narrow):
        frame = Frame(x, "groups")
        codes, levels = frame.texts(column)
        numbers.append(np.array([*(known.setdefault(level, len(known)) for level in levels), -1])[codes])
    groups = np.concatenate(numbers)
    if (missing := groups < 0).any():
        raise DataError(
            f"is missing in {missing.sum():,} of {len(table):,} rows that have a target, first in row "
            f"{missing.argmax()} of these",
            name=f"groups: column {column!r}",
            row=int(missing.argmax()),
            advice="fill it in, or delete the rows",
        )
    return groups


def targets_of(table: TableFile | Selection) -> Iterator[Frame]:
    """Give the targets of a table, in blocks."""
    file = _file_of(table)
    narrow = file if isinstance(file, CSV) else file.replace(columns=file.names[:1])  # a CSV file is parsed whole
    for _, y in _blocks_of(table, narrow):
        yield Frame(y, f"the target {file.targets[0]!r}")


def _file_of(table: TableFile | Selection) -> TableFile:
    file: TableFile = table if isinstance(table, TableFile) else table.dataset
    return file


def _blocks_of(table: TableFile | Selection, narrow: TableFile) -> Iterator[tuple[Any, Any]]:
    """Give the inputs and the targets of ``narrow``, the file of a table with fewer columns, in its rows and blocks."""
    rows = narrow if isinstance(table, TableFile) else Selection(narrow, table.draw, table.name, held=table.held)
    for start in range(0, len(rows), BLOCK_ROWS):
        x, y, *_ = rows.read(start, min(start + BLOCK_ROWS, len(rows)))
        yield x, y
