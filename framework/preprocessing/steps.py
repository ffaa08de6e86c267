"""ColumnStep: what a column goes through on its way to the model.

Its settings are the recipe; the numbers that it learns from the training data are settings too, and
empty until then: ``Standardize()`` becomes ``Standardize(mean=(3.0,), scale=(1.5,))``. So a step with its numbers is a
component like any other, and you may write the numbers yourself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator

from framework.arrays import Array
from framework.errors import SettingsError
from framework.preprocessing.columns import HOLDS, Column, Form
from framework.settings.component import Component


def _each(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(_each)]
"""A number for each array of a column; one number is a tuple of one."""


class ColumnStep(Component):
    """A step that a column takes on its way to the model.

    A subclass for numbers writes the formula ``formula(x, place)``, and ``inverse(y, place)`` if it can be undone;
    ``place`` counts the arrays of a column, of which only dates have more than one. A step that learns from the data
    has ``learns``, ``statistic`` and ``learnt`` too.

    Example:
        >>> class Root(ColumnStep):
        ...     def formula(self, x, place):
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
                f"{column.where} holds {HOLDS[column.form]}, which {kind} cannot follow; leave {kind} out"
            )
        advice = {
            "texts": "write Classes() for classes"
            if ": target " in column.where
            else "write OneHot(20), Levels(20) or Drop()",
            "dates": "write Dates() first",
            "numbers": "leave it out",
        }[column.form]
        taken = " or ".join(HOLDS[form] for form in self.takes)
        raise SettingsError(f"{column.where} holds {HOLDS[column.form]}, and {kind} takes {taken}; {advice}")

    def apply(self, column: Column) -> Column:
        """Return the column after this step.

        Raises:
            DataError: The formula makes NaN of a number; names the number and the row.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = tuple(self.formula(array, place) for place, array in enumerate(column.arrays))
        for given, array in zip(column.arrays, arrays, strict=True):
            lost = np.isnan(array)
            if lost.any() and (lost := lost & ~np.isnan(given)).any():
                kind, number = type(self).__name__, given[np.argmax(lost)]
                column.refuse(lost, f"holds {number}, of which {kind} makes NaN,", f"change the formula of {kind}")
        return column.replaced(arrays=arrays, boolean=False)

    def formula(self, x: Array, place: int) -> Array:
        """Return the numbers after this step; NaN stays NaN."""
        raise NotImplementedError

    def inverse(self, y: Array, place: int) -> Array:
        """Return the numbers that ``formula`` turns into y.

        Raises:
            SettingsError: The step cannot be undone.
        """
        raise SettingsError(f"{type(self).__name__} cannot be undone, so it does not fit a target")
