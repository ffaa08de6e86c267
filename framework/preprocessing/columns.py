"""Columns: some rows of one column of a table on their way through its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from framework.arrays import Array
from framework.errors import DataError
from framework.frames import text_of

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
        framework.errors.DataError: fit: column 'age' has a missing value in row 11; make Impute() its first step
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

    def refuse(self, bad: Array, what: str, advice: str) -> None:
        """Raise an error for the first row of a mask, if there is one.

        Raises:
            DataError: Names the column and the row.
        """
        if bad.any():
            row = int(np.argmax(bad))
            row = row + self.start if isinstance(self.start, int) else int(self.start[row])
            raise DataError(f"{self.where} {what} in row {row}; {advice}")

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

    def filled_texts(self, value: float) -> Callable[[], tuple[Array, tuple[str, ...]]] | None:
        """Return what gives the texts of unchanged numbers once the missing ones are this number."""
        texts = self.texts
        if texts is None:
            return None

        def filled() -> tuple[Array, tuple[str, ...]]:
            codes, levels = texts()
            return np.where(codes < 0, len(levels), codes), (*levels, self._text(value))

        return filled

    def _text(self, number: float) -> str:
        return text_of(bool(number) if self.boolean and number in (0.0, 1.0) else number)
