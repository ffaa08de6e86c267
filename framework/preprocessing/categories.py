"""Steps for text and categories: columns of 0 and 1, ids, and the classes of a target.

Whole numbers and booleans count as text too: their levels are ``3`` and ``True``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field, FiniteFloat

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, SettingsError, brief
from framework.base.frames import text_of
from framework.base.settings.component import Count
from framework.preprocessing.statistics import LevelCounts
from framework.preprocessing.steps import Column, ColumnStep


class _LevelStep(ColumnStep):
    """A step that learns the levels of a column.

    Missing values and levels that were not learnt are taken, unless the step says otherwise.
    """

    takes = ("numbers", "texts")
    missing = "taken"
    learns: ClassVar[tuple[str, ...]] = ("levels",)
    statistic = LevelCounts

    def model_post_init(self, context: object) -> None:
        """Check that no level comes twice."""
        levels = [*map(text_of, self.settings()["levels"] or ())]
        if len(set(levels)) < len(levels):
            twice = next(level for level in levels if levels.count(level) > 1)
            raise SettingsError(f"must not hold {twice!r} twice", name="setting 'levels'")

    def gather(self, column: Column, statistics: Sequence[Any]) -> None:
        (counts,) = statistics
        texts = column.as_texts()
        counts.numeric = column.form == "numbers" and not column.boolean
        counts.add(texts.arrays[0], texts.levels)

    def count_missing(self, statistics: Sequence[Any], filling: Column) -> None:
        (counts,) = statistics
        counts.fill(filling.as_texts().levels[0])

    def places(self, column: Column) -> Array:
        """Return the place of each row's text among the levels: -1 for missing ones, -2 for others."""
        texts = column.as_texts()
        known = {text_of(level): index for index, level in enumerate(self.settings()["levels"])}
        codes = np.array([*(known.get(level, -2) for level in texts.levels), -1], np.int64)
        row_codes: Array = codes[texts.arrays[0]]
        return row_codes

    def refuse_others(self, column: Column, places: Array, advice: Advice | str) -> None:
        """Refuse a level that was not learnt.

        Raises:
            DataError: Names the column, the level and the row.
        """
        others = places == -2
        if others.any():
            texts, row = column.as_texts(), int(np.argmax(others))
            text = texts.levels[texts.arrays[0][row]]
            known = brief(list(self.settings()["levels"]))
            what = f"has {brief(text)}, which is not among the levels of fit, {known},"
            fit, held_out, target = column.where.partition(": validation: target ")
            if held_out:
                column = column.replaced(where=f"{fit}: validation: class {brief(text)} of target {target}")
                what = "is only among the held-out rows, first"
                end = "leaves rows of each class for training"
                command = f'validation = 0.2 with holdout = "stratified" in the file {end}'
                advice = Advice(f"split(data, stratify=True) {end}", command=command)
            column.refuse(others, what, advice)


def _require_levels(counts: LevelCounts, where: str) -> None:
    if not counts.counts and not counts.missing and not counts.error:
        raise DataError("has no rows", name=where)


def _texts(levels: Any) -> Any:
    """Return levels of which some are numbers or booleans as texts."""
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        return levels
    return tuple(text_of(level) if isinstance(level, int | float | np.generic) else level for level in levels)


Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""Levels; numbers and booleans are written as texts."""


class OneHot(_LevelStep):
    """A column of 0 and 1 for each of the ``n`` commonest levels: ``city=Paris``.

    Rarer levels share the column ``city other``, and missing values have ``city missing``. Both exist only if the
    training rows have such values, because the weights of a column that is always 0 would not be trained. Without
    such a column, a level that the training rows do not have gives 0 in every column, and so does a missing value.

    Among levels of one count, the first in the alphabet counts as the commonest. With more than 65,536 distinct texts
    the counts are those of ``framework.preprocessing.statistics.LevelCounts``, which states their error.

    Attributes:
        n: The largest number of levels.
        other: Whether other levels are taken; False raises an error for them, in the training data too.
        levels: The levels, learnt unless they are given.
        other_column: Whether there is a column ``other``, learnt unless it is given.
        missing_column: Whether there is a column ``missing``, learnt unless it is given.

    Raises:
        DataError: ``other`` is False and a level is not among the learnt ones; names it and its row.

    Example:
        >>> column = Column("predict: column 'city'", "city", "texts", ("city",), (np.array([0, 1]),), ("Rome", "Oslo"))
        >>> found = OneHot(levels=["Oslo", "Paris"], other_column=True, missing_column=False).apply(column)
        >>> dict(zip(found.names, found.arrays))
        {'city=Oslo': array([0., 1.]), 'city=Paris': array([0., 0.]), 'city other': array([1., 0.])}
    """

    learns = ("other_column", "missing_column")

    n: Count = 20
    other: bool = Field(True, kw_only=True)
    levels: Texts = Field((), kw_only=True)
    other_column: bool | None = Field(None, kw_only=True)
    missing_column: bool | None = Field(None, kw_only=True)

    def learnt(self, statistics: Sequence[LevelCounts], where: str) -> Self:
        (counts,) = statistics
        _require_levels(counts, where)
        levels = self.levels or counts.commonest(self.n)
        others = sorted({*counts.counts} - {*levels})
        if others and self.levels and not self.other:
            raise DataError(
                f"has {brief(others[0])}, which is not among the levels {brief(list(levels))}; write other=True to "
                "take it",
                name=where,
            )
        more = bool(others) or counts.error > 0
        if more and not self.other:
            raise DataError(
                f"has {'more than ' if counts.error else ''}{len(counts.counts)} levels, and OneHot takes {self.n}; "
                "write a larger n, or other=True",
                name=where,
            )
        return self.replace(
            levels=levels,
            other_column=more if self.other_column is None else self.other_column,
            missing_column=counts.missing > 0 if self.missing_column is None else self.missing_column,
        )

    def apply(self, column: Column) -> Column:
        places = self.places(column)
        if not self.other:
            self.refuse_others(column, places, "write other=True to take it")
        name = column.label
        wanted = [(f"{name}={level}", code) for code, level in enumerate(self.levels)]
        wanted += [(f"{name} other", -2)] if self.other_column else []
        wanted += [(f"{name} missing", -1)] if self.missing_column else []
        arrays = tuple((places == code).astype(np.float64) for _, code in wanted)
        return column.replaced(form="indicators", names=tuple(label for label, _ in wanted), arrays=arrays)


class Levels(_LevelStep):
    """Ids for an Embedding: 0 for other levels, 1 for missing values, and 2, 3, ... for the ``n`` commonest levels.

    So the vocabulary of the Embedding is n + 2. x is then a dict: ``{"numbers": ..., "city": ids}``. Levels that the
    training rows do not have get the id 0.

    The rows 0 and 1 of the Embedding are trained only if the training rows have other levels, more than n, and missing
    values. Else they stay as they were drawn, and a prediction for such a row is arbitrary. ``OneHot`` gives 0 in every
    column for it.

    Attributes:
        n: The largest number of levels.
        levels: The levels in the order of their ids; None are learnt.

    Example:
        >>> column = Column("fit: column 'city'", "city", "texts", ("city",), (np.array([1, -1, 0]),), ("Oslo", "Rome"))
        >>> Levels(50, levels=["Paris", "Rome"]).apply(column).arrays
        (array([3, 1, 0]),)
    """

    n: Count = 50
    levels: Texts | None = Field(None, kw_only=True)

    def learnt(self, statistics: Sequence[LevelCounts], where: str) -> Self:
        (counts,) = statistics
        _require_levels(counts, where)
        return self.replace(levels=counts.commonest(self.n))

    def apply(self, column: Column) -> Column:
        places = self.places(column)
        return column.replaced(form="ids", arrays=(places + 2,))


Level: TypeAlias = bool | int | FiniteFloat | str
"""A class of a target."""


def _plain(levels: Any) -> Any:
    """Return levels as numbers and texts of Python."""
    if isinstance(levels, np.ndarray):
        return tuple(levels.tolist())
    if not isinstance(levels, list | tuple):
        return levels
    return tuple(level.item() if isinstance(level, np.generic) else level for level in levels)


class Classes(_LevelStep):
    """The classes of a target as 0, 1, 2, ...: text from A to Z, numbers by value, False before True.

    ``model.predict`` gives the model's probabilities, and ``model.classify`` the classes as the target has them: text,
    numbers or booleans. Whole numbers are integers whatever the dtype of the target is.

    Attributes:
        levels: The classes, learnt unless they are given, as ``Classes(["no", "yes"])`` or ``Classes([2, 10])``. The
            second of two is the one whose probability a model of one output gives.

    Raises:
        SettingsError: ``levels`` are of several kinds, or a text ends in a zero character.
        DataError: A class is missing, or was not in the training rows; names it and its row.

    Example:
        >>> column = Column("fit: column 'late'", "late", "texts", ("late",), (np.array([0, 1, 0]),), ("yes", "no"))
        >>> Classes(["no", "yes"]).apply(column).arrays
        (array([1, 0, 1]),)
    """

    levels: Annotated[tuple[Level, ...], BeforeValidator(_plain)] = ()

    def model_post_init(self, context: object) -> None:
        """Check that no class comes twice, and that all are text, or numbers, or booleans."""
        super().model_post_init(context)
        if odd := next((level for level in self.levels if isinstance(level, str) and level.endswith("\0")), None):
            raise SettingsError(
                "must not end in a zero character, which NumPy's text drops", name="setting 'levels'", got=odd
            )
        if len({float if type(level) is int else type(level) for level in self.levels}) > 1:
            raise SettingsError(
                f"must hold text, numbers or booleans alone; got {brief(list(self.levels))}", name="setting 'levels'"
            )

    def gather(self, column: Column, statistics: Sequence[Any]) -> None:
        super().gather(column, statistics)
        statistics[0].boolean = column.form == "numbers" and column.boolean
        self._require_present(column, column.as_texts().arrays[0])

    def _require_present(self, column: Column, codes: Array) -> None:
        column.refuse(codes == -1, "has no class", "drop such rows first")

    def learnt(self, statistics: Sequence[LevelCounts], where: str) -> Self:
        (counts,) = statistics
        if counts.error:
            raise DataError(f"has more than {len(counts.counts)} classes; is it a number to predict?", name=where)
        if len(counts.counts) < 2:
            raise DataError(
                f"must have two classes or more; got {', '.join(map(repr, counts.counts)) or 'none'}", name=where
            )
        levels: list[Level] = [*counts.sort_texts(counts.counts)]
        if counts.boolean:
            levels = [level == "True" for level in levels]
        elif counts.numeric:
            levels = [int(text) if text.lstrip("-").isdigit() else float(text) for text in map(str, levels)]
        return self.replace(levels=levels)

    def apply(self, column: Column) -> Column:
        places = self.places(column)
        self._require_present(column, places)
        self.refuse_others(column, places, "drop such rows, or train on rows of each class")
        return column.replaced(form="ids", arrays=(places,))
