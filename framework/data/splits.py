"""Splits: a training and a held-out part of arrays, tables and files."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from framework.arrays import Array, real_array, require_finite
from framework.data.sources import adapt
from framework.data.streams import Stream
from framework.errors import DataError, SettingsError, ShapeError
from framework.frames import Frame, concatenated, is_frame, is_series
from framework.parts import names_in, parted, parts
from framework.random_streams import random_generator
from framework.settings.messages import brief, worded
from framework.trees import as_tree, flatten, map_leaves


@worded
def split(
    data: tuple[Any, ...], fraction: float = 0.25, *, seed: int = 0, stratify: bool = False
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Split arrays or tables into a training and a held-out part, shuffled; or the rows of files, in their order.

    Args:
        data: (x, y) or (x, y, weight): arrays or tables with the same number of rows; each may be a dict of them by
            name. Or (table, "target"), as ``fit`` takes it. The same seed takes the same rows of all of these. Or a
            Dataset, such as ``CSV`` and ``Parquet``: both parts are Datasets, as ``hold_out`` gives them.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the shuffle.
        stratify: Whether each class of y (rows,) has the same share of both parts, as far as rows allow: whole numbers,
            text, or a column of categories or booleans. Data in memory only.

    Returns:
        (training, held-out), each a tuple like ``data``; the rows are copies, tables those of the same library.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or leaves a part empty.
        ShapeError: The arrays differ in rows.
        DataError: ``stratify`` is asked for and y holds real numbers, not classes; or a column does not exist.

    Example:
        >>> train, test = split((np.arange(8).reshape(8, 1), np.arange(8)), 0.25)
        >>> train[0].shape, test[1].shape
        ((6, 1), (2,))
        >>> import pandas
        >>> table = pandas.DataFrame({"age": [31, 25, 40, 58], "city": ["Bern", "Rome", "Bern", "Rome"]})
        >>> train, test = split((table, "city"), 0.5, stratify=True)
        >>> train[0]["city"].tolist(), train[1]
        (['Rome', 'Bern'], 'city')
    """
    data = adapt(data, "split")
    whole = hasattr(data, "read") and hasattr(data, "__len__")
    if not (whole or (isinstance(data, tuple | list) and 1 <= len(data) <= 3)) or not isinstance(
        fraction, numbers.Real
    ):
        got = f"{type(data).__name__} and {brief(fraction)}"
        hint = "; write split((table, 'target'))" if is_frame(data) else ""
        raise SettingsError(f"split: give a tuple (x, y) and a fraction; got {got}{hint}")
    if not 0 < fraction < 1:
        raise SettingsError(f"split: argument 'fraction' must be between 0 and 1; got {fraction!r}")
    trees = {} if whole else _trees(data, "split")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise SettingsError(f"split: argument 'seed' must be a whole number, 0 or more; got {seed!r}")
    if not isinstance(stratify, bool | np.bool_):
        raise SettingsError(
            f"split: argument 'stratify' must be True, for the classes y, or False; got {brief(stratify)}"
        )
    if whole and stratify:
        raise SettingsError(f"split: stratify needs data in memory; got a {type(data).__name__}; leave stratify out")
    if whole:
        return hold_out(data, float(fraction), seed, "split: argument 'fraction'")
    rows = _rows_of(trees, "split")
    labels = parts(data, "split")[1] if len(data) > 1 else None
    order = random_generator(seed, "split").permutation(rows)
    held = round(len(order) * fraction)
    if stratify and len(data) == 1:
        raise SettingsError("split: stratify needs the classes: give (x, y)")
    if stratify:
        order = _spread(order, _require_classes(_classes(labels)))  # from each class its share of the first rows
    if not 0 < held < len(order):
        raise SettingsError(f"split: {fraction} of {len(order)} rows leaves a part empty; give more rows")
    return _taken(data, trees, order[held:]), _taken(data, trees, order[:held])


SEGMENT_ROWS = 65_536
"""Rows that follow one another, of which a part is held out."""


def hold_out(
    data: Any, fraction: float, seed: int | None, name: str, fold: int | None = None, classes: Array | None = None
) -> tuple[Any, Any]:
    """Return the training part and the held-out part of some data, each in the order of the data.

    Of each 65,536 rows that follow one another, a part is drawn by the seed. Which rows these are depends on the seed,
    the fraction and the number of rows alone: they are the same from memory and from files of any kind. With classes a
    part of all rows of each class is drawn.

    Args:
        data: (x, y) or (x, y, weight) in memory; or a Dataset, which is read in blocks. To give a block of n rows,
            about n / fraction rows that follow one another are read, and 65,536 at most.
        fraction: The held-out part of the rows, between 0 and 1.
        seed: The seed of the draw; None holds out the last rows.
        name: The caller and its argument, for messages.
        fold: The number of a part, from 0 to 1 / fraction - 1: over all folds, each row is held out once. The parts
            follow the drawn order, or without a seed the order of the data. None holds out one part, drawn or the last.
        classes: A number for the class of each row, (rows,): each class has its share of every part, as far as rows
            allow, and a class of one row is trained on, unless its fold is held out. None draws from all rows alike.

    Raises:
        SettingsError: The fraction is not between 0 and 1, or a part has no rows; or data has no rows by number.

    Example:
        >>> (x, y), (_, held_out) = hold_out((np.arange(8.0), np.arange(8)), 0.25, None, "hold_out")
        >>> y, held_out
        (array([0, 1, 2, 3, 4, 5]), array([6, 7]))
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"{name} must be between 0 and 1, such as 0.2; got {fraction!r}")
    if isinstance(data, Stream):
        raise SettingsError(f"{name} needs rows by number; got a {data.name}; give held-out data by itself")
    whole = hasattr(data, "read") and hasattr(data, "__len__")
    trees = {} if whole else _trees(data, name)
    drawn = Draw(len(data) if whole else _rows_of(trees, name), fraction, seed, fold)
    draw = drawn if classes is None else Mask(drawn.mask(0, drawn.count, classes))
    by = "order" if seed is None else f"seed {seed}{'' if classes is None else ' and class'}"
    by += "" if fold is None else f", fold {fold}"
    for held, what in ((True, "validate"), (False, "train")):
        if not sum(draw.size(start, held=held) for start in draw.starts):
            raise SettingsError(f"{name} = {fraction} of {draw.count} rows leaves nothing to {what} with")
    if whole:
        others = Selection(data, draw, f"without the held-out {fraction} by {by}", held=False)
        return others, Selection(data, draw, f"{fraction} held out by {by}", held=True)
    train, validation = (
        np.concatenate([start + draw.rows(start, held=held) for start in draw.starts]) for held in (False, True)
    )
    return _taken(data, trees, train), _taken(data, trees, validation)


def taking(data: tuple[Any, ...] | list[Any], name: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gives some rows of data in memory, by their numbers or a mask; tables stay tables.

    Raises:
        ShapeError: The arrays differ in rows.

    Example:
        >>> take = taking((np.arange(4.0), np.arange(4)), "take")
        >>> take([0, 3])
        (array([0., 3.]), array([0, 3]))
    """
    trees = _trees(data, name)
    every = np.arange(_rows_of(trees, name))
    return lambda rows: _taken(data, trees, every[np.asarray(rows)])


@contextmanager
def rows_of_parts(validation: Any) -> Iterator[None]:
    """Say in errors that rows are counted within a part, if ``validation`` is the fraction that is held out."""
    try:
        yield
    except DataError as error:
        if not isinstance(validation, float) or not re.search(r"\brow \d|\b[xy](\['.*'\])?\[\d", str(error)):
            raise
        part = "held-out" if "validation: " in str(error) else "training"
        raise type(error)(f"{error}; rows are counted within the {part} part") from None


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

    def __init__(self, count: int, fraction: float, seed: int | None, fold: int | None) -> None:
        self.count, self.fraction, self.seed, self.fold = count, fraction, seed, fold
        self.starts = range(0, count, SEGMENT_ROWS)

    def _held(self, start: int, end: int) -> slice:
        """Return the held-out places in the order of the rows start..end."""
        size, folds = end - start, round(1 / self.fraction)
        if self.seed is None:
            first, last = self.count - round(self.count * self.fraction), self.count
            if self.fold is not None:
                first, last = (self.count * (self.fold + more) // folds for more in (0, 1))
            return slice(*(min(max(0, row - start), size) for row in (first, last)))
        if self.fold is not None:
            return slice(size * self.fold // folds, size * (self.fold + 1) // folds)
        return slice(size - round(end * self.fraction) + round(start * self.fraction), size)

    def mask(self, start: int, end: int, classes: Array | None = None) -> Array:
        """Return whether each of the rows start..end is held out; ``classes`` has a number for each of them."""
        order, mask = np.arange(end - start), np.zeros(end - start, bool)
        if self.seed is not None:
            order = random_generator(self.seed, "validation", start).permutation(order)
        mask[(order if classes is None else _spread(order, classes))[self._held(start, end)]] = True
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
            self._read(self._rows(place)[numbers[places == place] - (self._ends[place - 1] if place else 0)])
            for place in np.unique(places).tolist() or [len(self._ends) - 1]
        ]
        return tuple(map_leaves(concatenated, *parts) for parts in zip(*pieces, strict=True))

    def _rows(self, place: int) -> Array:
        """Return the rows of this part in a segment; those of the last segment are remembered."""
        kept = self._kept
        if kept[0] != place:
            start = self.draw.starts[place]
            kept = self._kept = place, start + self.draw.rows(start, held=self.held)
        return kept[1]

    def _read(self, rows: Array) -> tuple[Any, ...]:
        """Return some rows of the Dataset, ascending; those between them are read too, unless it has ``read_rows``."""
        first, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        numbered = len(rows) > 0 and hasattr(self.dataset, "read_rows")
        read = self.dataset.read_rows(rows.tolist()) if numbered else self.dataset.read(first, end)
        found = parted(read, type(self.dataset).__name__)
        trees = (as_tree(part, "data", _leaf) for part in found if part is not None)
        return tuple(trees) if numbered else tuple(_rows(tree, rows - first) for tree in trees)

    def explained(self, message: str) -> str:
        """Return a message on a column with what the Dataset knows of it."""
        return str(self.dataset.explained(message)) if hasattr(self.dataset, "explained") else message

    def fingerprint(self) -> str | None:
        """Return a text that changes with the data and the rows; None if the Dataset has none."""
        return f"{self.dataset.fingerprint()}, {self.name}" if hasattr(self.dataset, "fingerprint") else None


def _trees(data: tuple[Any, ...] | list[Any], name: str) -> dict[int, Any]:
    """Return the trees of arrays and tables in some data by place; names of columns are left out."""
    return {
        i: as_tree(part, f"{name}: argument 'data[{i}]'", _leaf)
        for i, part in enumerate(data)
        if not names_in(data[0], part)
    }


def _rows_of(trees: dict[int, Any], name: str) -> int:
    """Return the number of rows.

    Raises:
        ShapeError: Arrays differ in it.
    """
    shapes = {leaf: _shape(part) for i, tree in trees.items() for leaf, part in flatten(tree, f"data[{i}]").items()}
    counts = {shape[:1] for shape in shapes.values()}
    if len(counts) != 1 or counts == {()}:
        got = ", ".join(f"{leaf} {shape}" for leaf, shape in shapes.items())
        raise ShapeError(f"{name}: arrays must have the same number of rows; got {got}")
    return counts.pop()[0]


def _taken(data: tuple[Any, ...] | list[Any], trees: dict[int, Any], rows: Array) -> tuple[Any, ...]:
    """Return some rows of data; names of columns stay."""
    return tuple(_rows(trees[i], rows) if i in trees else part for i, part in enumerate(data))


def _leaf(value: Any, name: str) -> Any:
    """Return a table or its column as it is, classes as an array of text, and anything else as an array of numbers."""
    if is_frame(value) or is_series(value):
        return value
    texts = _texts(value)
    return real_array(value, name) if texts is None else texts


def _texts(value: Any) -> Array | None:
    """Return an array or a list of text as an array, which may have None where a text is missing; else None."""
    held = value.ravel() if isinstance(value, np.ndarray) else value
    if not isinstance(held, list | tuple | np.ndarray) or not len(held) or not isinstance(held[0], str | None):
        return None
    return np.asarray(value) if all(isinstance(item, str | None) for item in held) else None


def _shape(leaf: Any) -> tuple[int, ...]:
    if isinstance(leaf, np.ndarray):
        return tuple(leaf.shape)
    frame = Frame(leaf, "split")
    return (frame.rows,) if is_series(leaf) else (frame.rows, len(frame.names))


def _rows(tree: Any, rows: Array) -> Any:
    """Return some rows of each array, table or column."""
    return map_leaves(lambda leaf: leaf[rows] if isinstance(leaf, np.ndarray) else Frame(leaf).take(rows).native, tree)


def _classes(labels: Any) -> Array:
    """Return a number for the class of each row."""
    name = "split: argument 'data[1]'"
    if is_frame(labels) and len((frame := Frame(labels, name)).names) == 1:
        labels = frame.column(*frame.names)
    if is_series(labels) and (frame := Frame(labels, name)).kind(*frame.names) in ("text", "category"):
        codes, _ = frame.texts(*frame.names)
        if (codes < 0).any():
            where = frame.place(frame.names[0], int(np.argmin(codes)))
            raise DataError(f"{name} must have a class in each row; got none in {where}")
        return codes
    if (texts := _texts(labels)) is not None and texts.ndim == 1:
        if None in (texts := texts.tolist()):
            raise DataError(f"{name} must have a class in each row; got none in row {texts.index(None)}")
        return np.unique(texts, return_inverse=True)[1]
    if isinstance(labels, dict) or (array := real_array(labels, name)).ndim != 1:
        got = "a dict" if isinstance(labels, dict) else array.shape
        raise ShapeError(f"split: stratify needs one class per row, (rows,); got {got}")
    require_finite(array, name, labels)  # NaN equals no class
    return array


def _require_classes(labels: Array) -> Array:
    classes = np.unique(labels)
    if 2 * len(classes) > len(labels) or not np.array_equal(classes, np.floor(classes)):
        raise DataError(
            "split: stratify needs classes, as whole numbers that come several times; argument 'data[1]' holds "
            f"{len(classes)} different numbers in {len(labels)} rows; leave stratify out"
        )
    return labels


def _spread(order: Array, labels: Array) -> Array:
    """Return an order of rows in which the rows of each class are spread evenly."""
    _, codes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    sizes, rank = np.repeat(counts, counts), np.empty(len(order))
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rank[np.argsort(codes, kind="stable")] = (within + 0.5) / sizes
    spread: Array = order[np.argsort(rank, kind="stable")]
    return spread
