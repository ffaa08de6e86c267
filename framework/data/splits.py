"""Splits: which rows of some data are held out, and a Dataset of some rows of another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import DataError, SettingsError
from framework.base.frames import concatenate_rows
from framework.base.random_streams import random_generator
from framework.base.trees import as_tree, map_leaves
from framework.data.parts import as_leaf, explain_error, take_rows, unpack_item

SEGMENT_ROWS = 65_536
"""Rows that follow one another, of which a part is held out."""


class Mask:
    """The rows that a mask chooses, and the others, by segments of ``SEGMENT_ROWS`` rows.

    Attributes:
        count: The number of rows.
        starts: The first rows of the segments.
    """

    def __init__(self, mask: Array) -> None:
        self._mask, self.count, self.starts = mask, len(mask), range(0, len(mask), SEGMENT_ROWS)

    def mask(self, start: int, end: int) -> Array:
        """Return whether each of the rows start..end is chosen."""
        return self._mask[start:end]

    @property
    def whole(self) -> Array:
        """Whether each of all rows is chosen."""
        return np.concatenate([self.mask(start, self._end(start)) for start in self.starts])

    def size(self, start: int, *, held: bool) -> int:
        """Return how many rows of a segment are chosen, or how many are not."""
        return len(self.rows(start, held=held))

    def rows(self, start: int, *, held: bool) -> Array:
        """Return the rows of a segment that are chosen, or the others; ascending, counted from its start."""
        return np.flatnonzero(self.mask(start, self._end(start)) == held)

    def _end(self, start: int) -> int:
        return min(start + SEGMENT_ROWS, self.count)


class Draw(Mask):
    """Which rows are held out: of each segment of ``SEGMENT_ROWS`` rows, a part, drawn when its rows are needed."""

    def __init__(self, count: int, fraction: float, seed: int | None, fold: int | None = None) -> None:
        self.count, self.fraction, self.seed, self.fold = count, fraction, seed, fold
        self.starts = range(0, count, SEGMENT_ROWS)

    def _held(self, start: int, end: int) -> slice:
        """Return the held-out places in the order of the rows start..end."""
        size, folds = end - start, round(1 / self.fraction)
        if self.seed is None:
            return slice(min(max(0, self.count - round(self.count * self.fraction) - start), size), size)
        if self.fold is not None:
            return slice(size * self.fold // folds, size * (self.fold + 1) // folds)
        return slice(size - round(end * self.fraction) + round(start * self.fraction), size)

    def mask(self, start: int, end: int, classes: Array | None = None) -> Array:
        """Return whether each of the rows start..end is held out; ``classes`` has a number for each of them."""
        order, mask = np.arange(end - start), np.zeros(end - start, bool)
        if self.seed is not None:
            order = random_generator(self.seed, "validation", start).permutation(order)
        mask[(order if classes is None else spread_classes(order, classes))[self._held(start, end)]] = True
        return mask

    def size(self, start: int, *, held: bool) -> int:
        """Return how many rows of a segment are held out, or how many are not."""
        end = self._end(start)
        chosen = len(range(end - start)[self._held(start, end)])
        return chosen if held else end - start - chosen


class Selection:
    """Some rows of a Dataset; a Dataset, see ``hold_out``.

    Args:
        dataset: The Dataset.
        draw: Which of its rows are held out.
        name: What the rows are, for the fingerprint.
        held: Whether these are the held-out rows, or the others.
    """

    def __init__(self, dataset: Any, draw: Mask, name: str, *, held: bool) -> None:
        self.dataset, self.draw, self.name, self.held = dataset, draw, name, held
        self.target = getattr(dataset, "target", "")
        self.read_ahead = getattr(dataset, "read_ahead", False)
        self._ends = np.cumsum([draw.size(start, held=held) for start in draw.starts])
        self._kept = (-1, np.zeros(0, np.int64))  # the number of a segment, and its rows
        if hasattr(dataset, "read_rows"):
            self.read_rows = self._read_rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._ends[-1])

    @property
    def starts(self) -> Sequence[int]:
        """The first rows of the segments that have any."""
        return sorted({0, *self._ends.tolist()} - {len(self)})

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop, as the Dataset gives them."""
        return self._read_rows(range(start, stop))

    def _read_rows(self, rows: Sequence[int]) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of some rows, ascending, as the Dataset gives them."""
        numbers = np.asarray(rows, np.int64)
        places = np.minimum(np.searchsorted(self._ends, numbers, side="right"), len(self._ends) - 1)
        pieces = [
            self._read(self._rows(segment)[numbers[places == segment] - (self._ends[segment - 1] if segment else 0)])
            for segment in np.unique(places).tolist() or [len(self._ends) - 1]
        ]
        return tuple(map_leaves(concatenate_rows, *parts) for parts in zip(*pieces, strict=True))

    def _rows(self, index: int) -> Array:
        """Return the rows of this part in a segment; those of the last segment are remembered."""
        kept = self._kept
        if kept[0] != index:
            start = self.draw.starts[index]
            kept = self._kept = index, start + self.draw.rows(start, held=self.held)
        return kept[1]

    def _read(self, rows: Array) -> tuple[Any, ...]:
        """Return some rows of the Dataset, ascending; those between them are read too, unless it has ``read_rows``."""
        first, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        numbered = len(rows) > 0 and hasattr(self.dataset, "read_rows")
        read = self.dataset.read_rows(rows.tolist()) if numbered else self.dataset.read(first, end)
        triple = unpack_item(read, type(self.dataset).__name__)
        trees = (as_tree(value, "data", as_leaf) for value in triple if value is not None)
        return tuple(trees) if numbered else tuple(take_rows(tree, rows - first) for tree in trees)

    def explain(self, error: DataError) -> None:
        """Say in the error of a column what the Dataset knows of it."""
        explain_error(error, self.dataset)

    def fingerprint(self) -> str | None:
        """Return a text that changes with the data and the rows; None if the Dataset has none."""
        return f"{self.dataset.fingerprint()}, {self.name}" if hasattr(self.dataset, "fingerprint") else None


def spread_classes(order: Array, labels: Array) -> Array:
    """Return an order of rows in which the rows of each class are spread evenly."""
    _, codes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    sizes, rank = np.repeat(counts, counts), np.empty(len(order))
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rank[np.argsort(codes, kind="stable")] = (within + 0.5) / sizes
    spread: Array = order[np.argsort(rank, kind="stable")]
    return spread


def draw_groups(groups: Array, classes: Array | None, fraction: float, seed: int, fold: int | None, name: str) -> Array:
    """Return whether each row is held out, where rows of one group are held out together, (rows,).

    One group after another joins the part whose number of rows, or of rows of each class, it brings closest to what is
    asked. Groups come in a drawn order; for folds large ones come first, which makes the folds more alike.

    Raises:
        SettingsError: There are fewer groups than parts; ``name`` begins the message.

    Source:
        scikit-learn's StratifiedGroupKFold, with parts of any size.
    """
    shares = np.array([fraction, 1 - fraction] if fold is None else [fraction] * round(1 / fraction))
    _, first, codes, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if len(sizes) < len(shares):
        raise SettingsError(
            f"{name} = {fraction:.3g} needs at least {len(shares)} groups, because the rows of a group stay together; "
            f"got {len(sizes)}; choose other groups, or larger parts"
        )
    classes = np.zeros_like(codes) if classes is None else classes
    _, kinds, totals = np.unique(classes, return_inverse=True, return_counts=True)
    order = random_generator(seed, "validation of groups").permutation(np.argsort(first))  # whatever the groups' names
    if fold is not None:
        order = order[np.argsort(-sizes[order], kind="stable")]
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    filled, part_of, empty = np.zeros((len(shares), len(totals))), np.zeros_like(sizes), np.ones(len(shares), bool)
    for left, group in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        size = np.bincount(kinds[rows[group]], minlength=len(totals)) / totals
        excess = (2 * (filled - shares[:, None]) @ size + size @ size) / shares
        if empty.sum() == left:  # each part gets a group
            excess[~empty] = np.inf
        part_of[group] = chosen = excess.argmin()
        filled[chosen] += size
        empty[chosen] = False
    held: Array = part_of[codes] == (fold or 0)
    return held


@contextmanager
def rows_of_parts(validation: Any) -> Iterator[None]:
    """Say in errors that rows are counted within a part, if ``validation`` is the fraction that is held out."""
    try:
        yield
    except DataError as error:
        if isinstance(validation, float) and error.row is not None:
            portion = "held-out" if "validation" in error.where else "training"
            error.advise(f"rows are counted within the {portion} part")
        raise
