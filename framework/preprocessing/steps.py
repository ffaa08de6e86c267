"""ColumnStep: what a column goes through on its way to the model.

Its settings are the recipe; the numbers that it learns from the training data are settings too, and
empty until then: ``Standardize()`` becomes ``Standardize(mean=(3.0,), scale=(1.5,))``. So a step with its numbers is a
component like any other, and you may write the numbers yourself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, SettingsError
from framework.base.frames import text_of
from framework.base.settings.component import Component

Form = Literal["numbers", "texts", "dates", "indicators", "ids", "dropped"]

HOLDS = {
    "numbers": "numbers",
    "texts": "text",
    "dates": "dates",
    "indicators": "columns of 0 and 1",
    "ids": "ids",
    "dropped": "nothing",
}
"""The forms in the words of messages."""


@dataclass(frozen=True)
class Column:
    """Some rows of a column.

    Attributes:
        where: The caller and the column, for messages: ``fit: column 'age'``.
        label: The name of the column.
        form: What the arrays hold.
        names: The name of each array.
        arrays: Numbers as float64 with NaN for missing ones; codes of ``levels`` as int64, -1 for missing ones; dates
            as microseconds since 1970, int64, with ``missing`` beside them; indicators as float64; ids as int64.
        levels: The texts that the codes stand for.
        missing: Which dates are missing.
        flags: Further outputs by name, which later steps leave as they are.
        boolean: Whether the numbers are False and True.
        texts: What gives (codes, levels) of numbers that no step has changed, exact for any whole number.
        start: The number of the first row in the caller's data, or those of all rows.
        weight: The weights of the rows from which is learnt, or None.

    Example:
        >>> Column(
        ...     "fit: column 'age'", "age", "numbers", ("age",), (np.array([31.0, np.nan]),), start=10
        ... ).require_present()
        Traceback (most recent call last):
        framework.base.errors.DataError: fit: column 'age' has a missing value in row 11; make Impute() its first step
    """

    where: str
    label: str
    form: Form
    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    levels: tuple[str, ...] = ()
    missing: Array | None = None
    flags: tuple[tuple[str, Array], ...] = ()
    boolean: bool = False
    texts: Callable[[], tuple[Array, tuple[str, ...]]] | None = None
    start: int | Array = 0
    weight: Array | None = None

    def replaced(self, **changes: Any) -> Self:
        """Return a copy with some attributes changed."""
        return replace(self, **({"texts": None} | changes))

    def first_row(self, bad: Array) -> int:
        """Return the number of the first row of a mask in the caller's data."""
        row = int(np.argmax(bad))
        return row + self.start if isinstance(self.start, int) else int(self.start[row])

    def refuse(self, bad: Array, what: str, advice: Advice | str) -> None:
        """Raise an error for the first row of a mask, if there is one.

        Raises:
            DataError: Names the column and the row.
        """
        if bad.any():
            row = self.first_row(bad)
            raise DataError(f"{what} in row {row}", name=self.where, row=row, advice=advice)

    def require_present(self, advice: str = "make Impute() its first step") -> None:
        """Refuse missing numbers.

        Raises:
            DataError: Some number is missing; names the row.
        """
        if self.form == "numbers":
            for array in self.arrays:
                self.refuse(np.isnan(array), "has a missing value", advice)

    def as_texts(self) -> Column:
        """Return numbers as texts, as ``text_of`` writes them: ``3``, ``0.5``, ``True``; texts as they are."""
        if self.form != "numbers":
            return self
        if self.texts is not None:
            codes, levels = self.texts()
            return self.replaced(form="texts", arrays=(codes,), levels=levels)
        values, codes = np.unique(self.arrays[0], return_inverse=True)  # NaN is the last one
        present = values[: len(values) - int(np.isnan(values[-1:]).sum())]
        codes = np.where(codes < len(present), codes, -1).astype(np.int64)
        return self.replaced(form="texts", arrays=(codes,), levels=tuple(map(self._text, present.tolist())))

    def texts_filled_with(self, value: float) -> Callable[[], tuple[Array, tuple[str, ...]]] | None:
        """Return what gives the texts of unchanged numbers once the missing ones are this number."""
        texts = self.texts
        if texts is None:
            return None

        def fill_texts() -> tuple[Array, tuple[str, ...]]:
            codes, levels = texts()
            return np.where(codes < 0, len(levels), codes), (*levels, self._text(value))

        return fill_texts

    def _text(self, number: float) -> str:
        return text_of(bool(number) if self.boolean and number in (0.0, 1.0) else number)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]
"""A number for each array of a column; one number is a tuple of one."""


class ColumnStep(Component):
    """A step that a column takes on its way to the model.

    A subclass for numbers writes the formula ``formula(x, place)``, and ``inverse(y, place)`` if it can be undone;
    ``place`` counts the arrays of a column, of which only dates have more than one. A step that learns from the data
    has ``learns``, ``statistic`` and ``learnt`` too.

    Example:
        >>> class Root(ColumnStep):
        ...     def formula(self, x, index):
        ...         return np.sign(x) * np.sqrt(np.abs(x))
        >>> Root().apply(Column("fit: column 'age'", "age", "numbers", ("age",), (np.array([9.0]),))).arrays
        (array([3.]),)
    """

    takes: ClassVar[tuple[Form, ...]] = ("numbers",)
    """The forms of column that it takes."""

    missing: ClassVar[Literal["refused", "filled", "taken"]] = "refused"
    """How it takes missing values while it learns."""

    learns: ClassVar[tuple[str, ...]] = ()
    """The settings that it learns, which have their defaults until then."""

    statistic: ClassVar[Callable[..., Any]]
    """Makes an empty statistic of ``framework.preprocessing.statistics``, for each array of a column."""

    @property
    def open(self) -> bool:
        """Whether it has numbers to learn."""
        return any(getattr(self, name) == type(self).model_fields[name].default for name in self.learns)

    def learnt(self, statistics: Sequence[Any], where: str) -> Self:
        """Return this step with the numbers that follow from the statistics of all blocks.

        Raises:
            DataError: The column has no value that they could follow from.
        """
        raise NotImplementedError

    def gather(self, column: Column, statistics: Sequence[Any]) -> None:
        """Add the rows of a block to the statistics."""
        for statistic, array in zip(statistics, column.arrays, strict=True):
            statistic.add(array)

    def count_missing(self, statistics: Sequence[Any], filling: Column) -> None:
        """Count missing values as the ones that are filled in for them, which one row holds."""
        for statistic, array in zip(statistics, filling.arrays, strict=True):
            statistic.fill(float(array[0]))

    def require(self, column: Column) -> None:
        """Refuse a column of a form that this step does not take.

        Raises:
            SettingsError: Names the column.
        """
        if column.form in self.takes:
            return
        kind = type(self).__name__
        if column.form in ("indicators", "ids", "dropped"):
            raise SettingsError(
                f"holds {HOLDS[column.form]}, which {kind} cannot follow", name=column.where, advice=f"leave {kind} out"
            )
        advice = {
            "texts": "write Classes() for classes"
            if ": target " in column.where
            else "write OneHot(20), Levels(20) or Drop()",
            "dates": "write Dates() first",
            "numbers": "leave it out",
        }[column.form]
        taken = " or ".join(HOLDS[form] for form in self.takes)
        raise SettingsError(f"holds {HOLDS[column.form]}, and {kind} takes {taken}; {advice}", name=column.where)

    def apply(self, column: Column) -> Column:
        """Return the column after this step.

        Raises:
            DataError: The formula makes NaN of a number; names the number and the row.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = tuple(self.formula(array, index) for index, array in enumerate(column.arrays))
        for values, array in zip(column.arrays, arrays, strict=True):
            lost = np.isnan(array)
            if lost.any() and (lost := lost & ~np.isnan(values)).any():
                kind, number = type(self).__name__, values[np.argmax(lost)]
                column.refuse(lost, f"holds {number}, of which {kind} makes NaN,", f"change the formula of {kind}")
        return column.replaced(arrays=arrays, boolean=False)

    def formula(self, x: Array, index: int) -> Array:
        """Return the numbers after this step; NaN stays NaN."""
        raise NotImplementedError

    def inverse(self, y: Array, index: int) -> Array:
        """Return the numbers that ``formula`` turns into y.

        Raises:
            SettingsError: The step cannot be undone.
        """
        raise SettingsError(f"{type(self).__name__} cannot be undone, so it does not fit a target")
