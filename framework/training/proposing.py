"""The batch sizes and epochs that commands and estimators propose for a table, by its number of rows."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Choices for tables of at most this many rows.

    Attributes:
        rows: The number of rows.
        validation: The part of them that is held out.
        levels: How many levels of a text column get a column of their own.
        batch_size: Rows of a step.
        epochs: How many, where the learning rate falls to 0 in them.
    """

    rows: float
    validation: float
    levels: int
    batch_size: int
    epochs: int


SIZES = (
    Size(2_500, 0.2, 20, 64, 60),
    Size(10_000, 0.2, 20, 128, 60),
    Size(30_000, 0.2, 20, 256, 40),
    Size(200_000, 0.1, 50, 512, 20),
    Size(float("inf"), 0.1, 100, 1024, 10),
)


def size_of(rows: int, *, classes: bool) -> Size:
    """Return the choices for so many rows; a number is learnt in 40 epochs at most.

    benchmarks/tables has the figures: its choosing half set these sizes, its other half says what they are worth.

    Example:
        >>> size_of(1_000, classes=True).epochs, size_of(1_000, classes=False).epochs
        (60, 40)
    """
    size = next(size for size in SIZES if rows <= size.rows)
    return size if classes else size._replace(epochs=min(size.epochs, 40))
