"""FittedPreprocess: a recipe with the numbers learnt from the training data; a part of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.base.arrays import Array
from framework.base.errors import DataError, SettingsError, ShapeError, nearest, shorten
from framework.base.frames import Frame, Kind, is_frame
from framework.base.settings.component import Component, Named
from framework.base.tables import as_html
from framework.base.trees import Tree
from framework.preprocessing.categories import Classes, Level, Levels
from framework.preprocessing.numbers import Bounds
from framework.preprocessing.proposing import step_code
from framework.preprocessing.reading import (
    absent_column,
    advice_on_kept,
    frame_of,
    raw_column,
    target_frame,
    tell_rounded,
)
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.preprocessing.steps import HOLDS, Column, ColumnStep

NUMBERS = "numbers"
"""The name of all columns without ids in x, where others have ids."""


_ADVICE = "; model(x) takes numbers that are transformed already, and so does predict after model.preprocess = None"

PIECE_ROWS = 16_384
"""Rows that are transformed at once: their numbers stay in the processor's cache while column after column comes."""


class FittedPreprocess(Component):
    """Each column's kind and its steps, with the numbers that ``Preprocess.fit`` has learnt.

    A table's columns are found by name: their order does not matter, and extra columns are ignored.

    Attributes:
        columns: The steps of each column of the inputs, in the order of the training data.
        kinds: The kind of each of these columns in the training data.
        target: The steps of each column of the target.
        target_kinds: The kind of each of those.
        zones: The time zone of each column of dates that had one in the training data. Dates of another zone are
            converted to it, so that an hour is an hour of the same clock.
        recipe: The Preprocess that it was fitted from, or None.

    Example:
        >>> from framework import Standardize
        >>> from framework.preprocessing import FittedPreprocess
        >>> fitted = FittedPreprocess(
        ...     columns={"age": [Standardize(mean=30.0, scale=10.0)]}, kinds=["number"], target={}, target_kinds=[]
        ... )
        >>> fitted.names, FittedPreprocess.from_json(fitted.to_json()) == fitted
        (('age',), True)
    """

    columns: Named[tuple[ColumnStep, ...]]
    kinds: tuple[Kind, ...]
    target: Named[tuple[ColumnStep, ...]] = ()
    target_kinds: tuple[Kind, ...] = ()
    zones: Named[str] = ()
    recipe: Component | None = None

    def model_post_init(self, context: object) -> None:
        """Check that there is a kind for each column, that nothing is left to learn, and that the steps fit."""
        for setting, steps, kinds in (
            ("kinds", self.columns, self.kinds),
            ("target_kinds", self.target, self.target_kinds),
        ):
            if len(steps) != len(kinds):
                raise SettingsError("must have one kind per column", name=f"setting '{setting}'")
            for name, chain in steps:
                if unfitted := next((step for step in chain if step.open), None):
                    raise SettingsError(f"column {name!r}: {unfitted!r} has learnt nothing yet")
        try:
            self.names  # noqa: B018 -- takes no rows through all steps
        except (IndexError, ValueError) as error:  # a ValueError of zip
            if isinstance(error, SettingsError):
                raise
            raise SettingsError("a step has numbers for more or fewer arrays than come to it") from None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the columns that a table must have."""
        return tuple(name for name, _ in self.columns)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the columns of the target."""
        return tuple(name for name, _ in self.target)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of numbers, in the order in which the model takes them."""
        return tuple(name for column in self._empty() for name, _ in _outputs(column))

    @property
    def numbers(self) -> tuple[bool, ...]:
        """For each of ``names``, whether it is a number, and not 0 or 1 for a level, a boolean or a missing value."""
        return tuple(
            column.form == "numbers" and not column.boolean and index < len(column.names)
            for column in self._empty()
            for index, _ in enumerate(_outputs(column))
        )

    @property
    def became(self) -> dict[str, tuple[str, ...]]:
        """The names of the numbers that each column of the inputs becomes; ``ids`` for what an Embedding takes."""
        return {
            column.label: (("ids",) if column.form == "ids" else ()) + tuple(name for name, _ in _outputs(column))
            for column in self._empty()
        }

    @property
    def shape(self) -> Any:
        """The shape of a row as the model takes it; a dict of shapes by name where columns have ids."""
        ids: dict[str, Any] = dict.fromkeys(self.vocabularies, ())
        numbers = (len(self.names),)
        return ({NUMBERS: numbers} if self.names else {}) | ids if ids else numbers

    @property
    def vocabularies(self) -> dict[str, int]:
        """How many ids each column with ``Levels`` has, by name."""
        return {
            name: len(step.levels or ()) + 2
            for name, steps in self.columns
            for step in steps
            if isinstance(step, Levels)
        }

    @property
    def classes(self) -> dict[str, tuple[Level, ...]]:
        """The classes of each target that has some, as the target has them."""
        return {name: step.levels for name, steps in self.target for step in steps if isinstance(step, Classes)}

    @cached_property
    def unit(self) -> str:
        """Say of what the loss is, and in which unit the metrics are; "" where they are in the same."""
        changed = {
            name: ", ".join(type(step).__name__ for step in steps)
            for name, steps in self.target
            if steps and not isinstance(steps[-1], Classes)
        }
        after = " and ".join(f"{name!r} after {steps}" for name, steps in changed.items())
        return f"The loss is of {after}; the metrics are in the unit of {' and '.join(map(repr, changed))}." * bool(
            after
        )

    def _empty(self, prefix: str = "") -> Iterator[Column]:
        """Give each column after its steps, with no rows; ``prefix`` begins messages."""
        for (name, steps), kind in zip(self.columns, self.kinds, strict=True):
            yield _through(steps, absent_column(name, f"{prefix}column {name!r}", kind, 0))

    def transform(
        self, table: Any, dtype: npt.DTypeLike = "float64", *, name: str = "transform", start: int = 0
    ) -> Tree:
        """Return the rows of a table as the model takes them.

        Args:
            table: A pandas, polars or Arrow table. Columns are found by name.
            dtype: Of the numbers.
            name: The caller, for messages.
            start: The number of the table's first row, for messages.

        Returns:
            (rows, columns); if a column has ids, a dict with these ``numbers`` and with the ids of each such column.

        Raises:
            DataError: A column is missing or of another kind, or a value has no answer; names the column and the row.
        """
        frame = frame_of(table, name, _ADVICE)
        self.require_columns(frame, name)
        numbers = np.empty((frame.rows, len(self.names)), dtype)
        ids = {label: np.empty(frame.rows, np.int64) for label in self.vocabularies}
        zones = dict(self.zones)
        for first in range(0, frame.rows, PIECE_ROWS):
            stop = min(first + PIECE_ROWS, frame.rows)
            block = frame if stop - first == frame.rows else frame.slice(first, stop)
            position = 0
            for (label, steps), kind in zip(self.columns, self.kinds, strict=True):
                where = f"{name}: column {label!r}"
                column = _through(steps, raw_column(block, label, where, kind, start + first, zones.get(label)))
                tell_rounded(block, label, column)
                if column.form == "ids":
                    ids[label][first:stop] = column.arrays[0]
                for _, values in _outputs(column):
                    with np.errstate(over="ignore"):
                        cast = values.astype(numbers.dtype)
                    if not (finite := np.isfinite(cast)).all():
                        column.refuse(~finite, f"becomes a number that {numbers.dtype} does not hold", "drop it")
                    numbers[first:stop, position] = cast
                    position += 1
        if not ids:
            return numbers
        return {NUMBERS: numbers, **ids} if self.names else {**ids}

    def blocks(self, x: Any, dtype: npt.DTypeLike, name: str, start: int = 0) -> Iterator[Tree]:
        """Give the rows of a table as the model takes them, ``BLOCK_ROWS`` at a time; of no rows one empty block."""
        frame = frame_of(x, name, _ADVICE)
        for first in range(0, frame.rows, BLOCK_ROWS) or [0]:
            yield self.transform(frame.slice(first, first + BLOCK_ROWS), dtype, name=name, start=start + first)

    def require_outputs(self, name: str) -> None:
        """Refuse columns that do not end as numbers or ids, and a table of which nothing is left.

        Raises:
            SettingsError: Names the column; or two columns, whose steps give the model columns of one name.
        """
        columns = [*self._empty(f"{name}: ")]
        ids = [column.label for column in columns if column.form == "ids"]
        givers: dict[str, str] = {}
        for column in columns:
            for label, _ in _outputs(column):
                if label in givers:
                    raise SettingsError(
                        f"the columns {givers[label]!r} and {column.label!r} would both give the model a column "
                        f"{label!r}; rename one of them in the table",
                        where=name,
                    )
                givers[label] = column.label
        if not ids and not givers:
            raise SettingsError("the Preprocess drops every column, so nothing is left for the model", where=name)
        if givers and NUMBERS in ids:
            raise SettingsError(
                "has Levels, but x holds the other columns by this name; rename it", name=f"{name}: column {NUMBERS!r}"
            )

    def require_columns(self, frame: Frame, name: str) -> None:
        """Refuse a table that lacks a column.

        Raises:
            DataError: Names the missing columns, and the nearest name that is there.
        """
        present = frozenset(frame.names)
        missing = [label for label in self.inputs if label not in present]
        if missing:
            extra = [label for label in frame.names if label not in self.inputs]
            shown = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise DataError(
                f"the table must have the column{'s' * (len(missing) > 1)} {shown}, as in "
                f"fit{nearest(missing[0], extra)}",
                where=name,
                advice=advice_on_kept(name),
            )

    def transform_target(self, y: Any, *, name: str = "transform", start: int | Array = 0) -> Tree:
        """Return targets as the loss takes them: (rows,), or (rows, targets) for several columns.

        Args:
            y: A column or an array; a table, whose columns are found by name, or an array for several.
            name: The caller, for messages.
            start: The number of the first row, for messages.

        Raises:
            DataError: A class was not in the training data, or a value is missing; names the row.
        """
        frame = target_frame(y, name)
        if len(frame.names) != len(self.target) or (is_frame(y) and {*frame.names} != {*self.targets}):
            raise ShapeError(
                f"must have the column{'s' * (len(self.target) > 1)} {', '.join(map(repr, self.targets))}, as in "
                f"fit; got {', '.join(map(repr, frame.names))}{advice_on_kept(name)}",
                name=f"{name}: argument 'y'",
            )
        arrays = []
        labels = self.targets if is_frame(y) else frame.names  # a column of Arrow has no name, and an array neither
        for label, (known, steps), kind in zip(labels, self.target, self.target_kinds, strict=True):
            column = raw_column(frame, label, f"{name}: target {known!r}", kind, start)
            try:
                column = _through(steps, column)
            except DataError as error:
                unknown = any(isinstance(step, Classes) and (step.places(column) == -2).any() for step in steps)
                raise error.advise(advice_on_kept(name) if unknown else None) from None
            if column.form not in ("numbers", "ids"):
                raise SettingsError(
                    f"holds {HOLDS[column.form]}", name=column.where, advice="write target=[Classes()] in Preprocess"
                )
            column.require_present("drop such rows first")
            tell_rounded(frame, label, column)
            arrays.append(column.arrays[0])
        return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)

    def inverse(self, prediction: Any, *, targets: bool = False) -> Any:
        """Return predictions in the unit of the target, float64 if it has steps; probabilities stay as they are.

        The predictions of several outputs are a dict by the names of the targets. ``targets`` turns targets back, which
        no ``Bounds`` hold.

        Raises:
            ShapeError: The predictions have another number of columns than the target.

        Example:
            >>> from framework import Standardize
            >>> from framework.preprocessing import FittedPreprocess
            >>> fitted = FittedPreprocess(
            ...     columns={},
            ...     kinds=[],
            ...     target={"price": [Standardize(mean=100.0, scale=50.0)]},
            ...     target_kinds=["number"],
            ... )
            >>> fitted.inverse(np.array([0.0, 2.0]))
            array([100., 200.])
        """
        if all(isinstance(step, Classes) for _, steps in self.target for step in steps):
            return prediction
        if isinstance(prediction, dict):
            known = dict(self.target)
            return {name: _back(known.get(name, ()), outputs, targets) for name, outputs in prediction.items()}
        if len(self.target) == 1:
            return _back(self.target[0][1], prediction, targets)
        if prediction.ndim != 2 or prediction.shape[1] != len(self.target):
            raise ShapeError(f"predictions must have {len(self.target)} columns, as the target; got {prediction.shape}")
        columns = [_back(steps, prediction[:, index], targets) for index, (_, steps) in enumerate(self.target)]
        return np.stack(columns, axis=1)

    def summary_table(self) -> list[tuple[str, str, str, str]]:
        """Return a row for each column: its name, its kind, its steps, and the columns of numbers that it gives."""
        produced = [*map(", ".join, self.became.values()), *["target"] * len(self.target)]
        columns = zip(self.columns + self.target, self.kinds + self.target_kinds, produced, strict=True)
        return [(name, kind, format_steps(steps), gives) for (name, steps), kind, gives in columns]

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows: each column with its steps, and the columns of numbers that it gives."""
        table = self.summary_table()
        rows = [(name, kind, shorten(steps), shorten(gives) or "nothing") for name, kind, steps, gives in table]
        return as_html([("column", "kind", "steps", "gives"), *rows], left=4)

    def __str__(self) -> str:
        return "\n".join(f"{name} ({kind}): {steps}" for name, kind, steps, _ in self.summary_table())


def format_steps(steps: Sequence[ColumnStep]) -> str:
    """Return steps as code for readers, without the settings that are the defaults; numbers have six digits.

    Example:
        >>> from framework import Standardize
        >>> from framework.preprocessing import Log
        >>> format_steps((Log(), Standardize(mean=[1 / 3], scale=[1.0]))), format_steps(())
        ('Log(), Standardize(mean=[0.333333], scale=[1.0])', 'as it is')
    """
    return ", ".join(step_code(step, digits=6) for step in steps) or "as it is"


def _through(steps: tuple[ColumnStep, ...], column: Column) -> Column:
    for step in steps:
        step.require(column)
        column = step.apply(column)
    return column


def _back(steps: Sequence[ColumnStep], values: Any, targets: bool) -> Any:
    """Return float64 numbers, or a value of a graph, in the unit of a target; those of classes stay as they are."""
    if not steps or any(isinstance(step, Classes) for step in steps):
        return values
    values = values.astype(np.float64) if isinstance(values, np.ndarray) else values
    with np.errstate(over="ignore"):  # a prediction may be far beyond the targets of the training rows
        for step in reversed(steps):
            values = values if targets and isinstance(step, Bounds) else step.inverse(values, 0)
    return values


def _outputs(column: Column) -> list[tuple[str, Array]]:
    """Return the numbers that a column gives the model, by name.

    Raises:
        SettingsError: It still holds text or dates.
        DataError: A number is missing.
    """
    if column.form in ("texts", "dates"):
        advice = "Dates()" if column.form == "dates" else "OneHot(20), Levels(20) for an Embedding,"
        raise SettingsError(f"holds {HOLDS[column.form]}: write {advice} or Drop() for it", name=column.where)
    if column.form == "ids":
        return [*column.flags]
    column.require_present("fill or drop it, or fit with Impute() in its steps")
    return [*zip(column.names, column.arrays, strict=True), *column.flags]
