"""Parts: x, y and weight of some rows, as users give them; and sources, of which arrays in memory are one part."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from framework.base.arrays import Array, Batch, real_array
from framework.base.errors import DataError, ShapeError, UsageError, brief
from framework.base.frames import Frame, is_frame, is_series
from framework.base.trees import as_tree, flatten, map_leaves, rows_in
from framework.data.fingerprints import fingerprints
from framework.data.pieces import (
    UNREAD,
    Own,
    Piece,
    Position,
    map_batch,
    permutation,
    read_only,
    rows_of_batch,
    sort_batches,
)
from framework.data.sampling import Chances, Sampling, draw_rows

if TYPE_CHECKING:
    from framework.data.splits import Mask

Part = tuple[Any, Any, Any]
"""x, y and weight of some rows, as they were given; the weight may be None."""

READ_AGAIN = (
    "write Stream(function), where function(epoch) gives the same rows whenever it is called with the same epoch"
)
"""The advice for data that can be read only once."""

Share: TypeAlias = Callable[[int], list[tuple[int, slice]]]
"""Returns which rows of so many a worker computes, by the number of each part."""


class Source(ABC):
    """Data as a caller of ``fit`` gave it; and once it is checked for a model, its batches.

    Attributes:
        given: The data.
        name: The caller, for messages.
        kind: How messages name the data.
        rows: The number of rows; None while it is not known.
        target: The name of the column of the target, if there is one, and one alone.
        checks: What checks and casts the rows, after ``with_checks``: ``Checks`` of ``framework.models.rows``.
        once: Whether the rows can be read only once.
        exact: Whether an epoch can be read again from its middle.
        in_memory: Whether all rows are in memory, as one part.
    """

    rows: int | None
    checks: Any
    once, exact, in_memory = False, True, False

    def __init__(self, data: Any, name: str) -> None:
        """Hold the data."""
        self.given, self.name, self.kind = data, name, type(data).__name__
        target = getattr(data, "target", None)
        self.target = target if isinstance(target, str) else None

    def with_name(self, name: str) -> Self:
        """Return the source for another caller."""
        source = copy.copy(self)
        source.name = name
        return source

    def require_again(self, epochs: int, *, learns: bool) -> None:
        """Refuse data that cannot be read for so many epochs, and before, if a Preprocess ``learns`` from it.

        Raises:
            UsageError: Says what to write.
        """
        name, kind = self.name, self.kind
        if learns and self.once:
            raise UsageError(
                f"{name}: a Preprocess is fitted on rows that can be read again; got a {kind}; write "
                "Stream(function), or model.preprocess = recipe.fit(table) before, with a table of such rows"
            )
        if name == "resume" and not self.exact:
            raise UsageError(f"a {kind} cannot be read from the middle of an epoch; {READ_AGAIN}", where="resume")
        if self.once and epochs > 1:
            raise UsageError(f"{name}: a {kind} can be read once, which is one epoch; got {epochs}; {READ_AGAIN}")

    @property
    @abstractmethod
    def first(self) -> Part:
        """The first rows, one at least; those in memory are all."""

    @abstractmethod
    def parts(self, size: int) -> Iterator[Part]:
        """Give all rows in their order; those that are read by number in parts of ``size`` rows."""

    def with_checks(self, checks: Any, sampling: Sampling | None = None) -> Self:
        """Return the source for a model and its losses; rows that are in memory are checked at once."""
        source = copy.copy(self)
        source.checks = checks
        source._begin(sampling)
        return source

    @abstractmethod
    def _begin(self, sampling: Sampling | None) -> None:
        """Check the rows that are in memory, and learn their chances if they are drawn."""

    @property
    def columns(self) -> Any:
        """The names of the columns of the tables x and y, and the shape of a sample, as far as rows were checked."""
        return self.checks.columns

    @abstractmethod
    def pieces(self, position: Position, before: tuple[int, str] = UNREAD, own: Own | None = None) -> Generator[Piece]:
        """Give the rows of an epoch from a position on in pieces, which are cut into batches.

        Each piece but the last holds whole batches. With ``own`` the rows of each batch are in the order of the data,
        and only those that it names need be read.
        """

    @abstractmethod
    def rows_of(self, position: Position, *, shared: bool = False) -> Array:
        """Return which rows of the data the next batch holds, in its order; it may span windows."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a text that changes with the data."""

    def cut_batches(self, size: int, start: int = 0, order: tuple[int, int] | None = None) -> Generator[Batch]:
        """Give batches of ``size`` rows from a row on in the order (seed, epoch); None is the data's own order."""
        yield from _batches_of(self.pieces(Position(size, start, order)))

    def shares(self, size: int, share: Share) -> Generator[tuple[Batch, int]]:
        """Give the batches of the data's own order as far as a worker computes them, and the part that each is of.

        The parts are those of the whole data, so that a worker reads only its own; of a stream, those of each batch.
        """
        for batch in self.cut_batches(size):
            for number, rows in share(rows_in(batch[1])):
                yield rows_of_batch(batch, rows), number


class NumberedSource(Source):
    """Data whose rows can be read by number."""

    rows: int

    @abstractmethod
    def select(self, draw: Mask, what: str, *, held: bool) -> Self:
        """Return the rows that are held out by a draw, or the others; ``what`` says which, for the fingerprint."""

    @abstractmethod
    def between(self, size: int, start: int, stop: int) -> Generator[Piece]:
        """Give the rows start..stop in the data's own order; no others are read."""

    def shares(self, size: int, share: Share) -> Generator[tuple[Batch, int]]:
        for number, rows in share(self.rows):
            for batch in _batches_of(self.between(size, rows.start, rows.stop)):
                yield batch, number


def _batches_of(pieces: Generator[Piece]) -> Generator[Batch]:
    with closing(pieces):
        for piece in pieces:
            while not piece.done:
                yield piece.take()


def parts(data: tuple[Any, ...] | list[Any], name: str) -> tuple[Any, Any, Any]:
    """Return x, y and weight of (x, y) or (x, y, weight); columns that are given by name are taken out of a frame x.

    Args:
        data: y may be the name of a column of a frame x, or a list of names; weight the name of one.
        name: The caller, for messages.

    Raises:
        DataError: A column does not exist; names the nearest. Or x is not a table, or no column is left in it. Or x and
            y are of pandas, and their indexes hold the same labels in another order.

    Example:
        >>> import pandas
        >>> x, y, weight = parts((pandas.DataFrame({"age": [31], "size": [1.8], "late": [1]}), "late"), "fit")
        >>> [*x.columns], y.to_list(), weight
        (['age', 'size'], [1], None)
    """
    x, y, weight = data if len(data) == 3 else (*data, None)
    named = [*names_in(x, y), *names_in(x, weight)]
    if not named:
        for argument, other in (("y", y), ("weight", weight)):
            _require_one_order(x, other, f"{name}: arguments 'x' and '{argument}'")
        return x, y, weight
    if not is_frame(x):
        raise DataError(f"{name}: {brief(named[0])} names a column, which needs a table as x; got {type(x).__name__}")
    frame = Frame(x, f"{name}: argument 'x'")
    if (
        not isinstance(y, str)
        and len(y) == frame.rows
        and (others := [label for label in names_in(x, y) if label not in frame.names])
    ):
        raise DataError(
            f"{name}: argument 'x' has no column {others[0]!r}: text in a list beside a table names its columns; "
            "give classes as a column of the table or as an array, np.array(...)"
        )
    if names_in(x, y):
        y = frame.column(y) if isinstance(y, str) else frame.select(y).native
    if isinstance(weight, str):
        weight = frame.column(weight)
    rest = [label for label in frame.names if label not in named]
    if not rest:
        raise DataError(f"must have a column beside {brief(named)}; got no other", name=f"{name}: argument 'x'")
    return frame.select(rest).native, y, weight


def read_part(dataset: Any, start: int, stop: int, name: str) -> Part:
    """Return x, y and weight of some rows of a Dataset, as it gives them.

    Raises:
        DataError: It does not return two or three parts.
    """
    return unpack_item(dataset.read(start, stop), f"{name}: {type(dataset).__name__}.read({start}, {stop})")


def names_in(x: Any, labels: Any) -> list[str]:
    """Return the names of columns that y or weight is given by: a text, or texts in a list beside a table x.

    Example:
        >>> names_in(None, "late"), names_in(None, ["late"]), names_in(None, [1.0])
        (['late'], [], [])
    """
    if isinstance(labels, str):
        return [labels]
    several = isinstance(labels, list | tuple) and is_frame(x) and all(isinstance(label, str) for label in labels)
    return [*labels] if several else []


def _require_one_order(x: Any, y: Any, name: str) -> None:
    """Refuse tables of pandas whose rows have the same labels in another order: rows are paired by their place."""
    first, second = (
        getattr(one, "index", None) if type(one).__module__.startswith("pandas") else None for one in (x, y)
    )
    if first is None or second is None or len(first) != len(second) or first.equals(second):
        return
    if first.is_unique and first.isin(second).all():
        raise DataError(
            f"{name} must have their rows in one order; both indexes hold the same labels, in another order; where the "
            "labels belong together, write y.loc[x.index]; where the places do, reset_index(drop=True) of both"
        )


def unpack_item(item: Any, name: str) -> Part:
    """Return x, y and weight of an item that holds some rows.

    Raises:
        DataError: It is neither (x, y) nor (x, y, weight).

    Example:
        >>> unpack_item(([[1.0]], [2.0]), "item 0")
        ([[1.0]], [2.0], None)
    """
    _require_parts(item, f"{name} must return")
    return parts(item, name)


def _require_parts(item: Any, demand: str) -> None:
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        form = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"{demand} (x, y) or (x, y, weight); got {form}")


def explain_error(error: DataError, data: Any) -> DataError:
    """Return an error with what a Dataset knows of the column that is wrong, if it has the method ``explain``."""
    if hasattr(data, "explain"):
        data.explain(error)
    return error


def rows_in_part(triple: Part, name: str) -> int:
    """Return the number of rows of y, or of its first array.

    Raises:
        ShapeError: y is one number.
    """
    y = triple[1]
    while isinstance(y, Mapping) and y:
        y = next(iter(y.values()))
    try:
        return len(y)
    except TypeError:
        raise ShapeError("must have rows in y; got one number; for single rows write each='row'", name=name) from None


def first_rows(triple: Part, rows: int) -> Part:
    """Return the first rows of a part, as arrays and tables."""
    x, y, weight = (
        None if tree is None else take_rows(as_tree(tree, "data", as_leaf), np.arange(rows)) for tree in triple
    )
    return x, y, weight


def stack_items(items: Sequence[Any], name: str, numbers: Sequence[int] | None = None) -> Part:
    """Return items of one row each as the rows of one part; ``numbers`` are those of the rows, for messages.

    Raises:
        DataError: An item is neither (x, y) nor (x, y, weight), or unlike the first one.

    Example:
        >>> stack_items([([1, 2], 3), ([4, 5], 6)], "data")
        (array([[1, 2],
               [4, 5]]), array([3, 6]), None)
    """
    rows: list[Any] = []
    numbers = range(len(items)) if numbers is None else numbers
    for number, item in zip(numbers, items, strict=True):
        _require_parts(item, f"{name}: row {number} must be")
        if rows and len(item) != len(rows[0]):
            problem = f"row {number} must have {len(rows[0])} parts, as row {numbers[0]} has; got {len(item)}"
            raise DataError(problem, where=name)
        rows.append(item)
    columns = zip(*rows, strict=True)
    x, y, *weight = (
        _stack_values([*values], f"{name}: {argument}", numbers)
        for values, argument in zip(columns, "xyw", strict=False)
    )
    return x, y, weight[0] if weight else None


def _stack_values(values: list[Any], name: str, numbers: Sequence[int]) -> Any:
    if isinstance(values[0], Mapping):
        keys = values[0].keys()
        if odd := next((index for index, value in enumerate(values) if value.keys() != keys), None):
            raise DataError(
                f"{name} must have the same names in each row; got {brief(sorted(values[odd]))} in row {numbers[odd]}, "
                f"{brief(sorted(keys))} in row {numbers[0]}"
            )
        return {key: _stack_values([value[key] for value in values], f"{name}[{key!r}]", numbers) for key in keys}
    arrays = [np.asarray(value) for value in values]
    if odd := next((index for index, array in enumerate(arrays) if array.shape != arrays[0].shape), None):
        raise ShapeError(
            f"{name} must have one shape in each row; got {arrays[odd].shape} in row {numbers[odd]}, "
            f"{arrays[0].shape} in row {numbers[0]}"
        )
    return np.stack(arrays)


class ArraySource(NumberedSource):
    """Arrays and tables in memory, each of which may be a dict of them by name; one part.

    Example:
        >>> source = ArraySource((np.arange(4.0), np.arange(4)), "fit")
        >>> source.rows, source.take(np.array([0, 3])).given
        (4, (array([0., 3.]), array([0, 3])))
    """

    in_memory = True
    arrays: Batch
    _chances: Array | None
    _memory: list[Batch]

    def __init__(self, data: tuple[Any, ...], name: str) -> None:
        """Hold (x, y), (x, y, weight) or a table alone; y and weight may name columns of x."""
        super().__init__(data, name)
        self.target = data[1] if len(data) > 1 and isinstance(data[1], str) else None

    @cached_property
    def first(self) -> Part:
        return parts(self.given, self.name) if len(self.given) > 1 else (self.given[0], None, None)

    @cached_property
    def _trees(self) -> dict[int, Any]:
        """The trees of arrays and tables by place; names of columns are left out."""
        return {
            i: as_tree(value, f"{self.name}: argument 'data[{i}]'", as_leaf)
            for i, value in enumerate(self.given)
            if not names_in(self.given[0], value)
        }

    @cached_property
    def rows(self) -> int:  # type: ignore[override]  # found when it is first asked for
        """The number of rows.

        Raises:
            ShapeError: Arrays differ in it.
        """
        trees = self._trees.items()
        shapes = {leaf: _shape(array) for i, tree in trees for leaf, array in flatten(tree, f"data[{i}]").items()}
        counts = {shape[:1] for shape in shapes.values()}
        if len(counts) != 1 or counts == {()}:
            got = ", ".join(f"{leaf} {shape}" for leaf, shape in shapes.items())
            raise ShapeError(f"arrays must have the same number of rows; got {got}", where=self.name)
        return counts.pop()[0]

    def parts(self, size: int) -> Iterator[Part]:
        yield self.first

    def take(self, rows: Array) -> Self:
        """Return some rows, by their numbers; tables stay tables, and names of columns stay."""
        trees = self._trees
        selected = tuple(take_rows(trees[i], rows) if i in trees else value for i, value in enumerate(self.given))
        return type(self)(selected, self.name)

    def select(self, draw: Mask, what: str, *, held: bool) -> Self:
        return self.take(np.concatenate([start + draw.rows(start, held=held) for start in draw.starts]))

    def _begin(self, sampling: Sampling | None) -> None:
        arrays = self.checks(self.first)
        if (weights := arrays[2]) is not None and not weights.any():
            count = len(weights)
            raise DataError(f"{self.name}: argument 'weight' must have a positive sum; all {count} weights are 0")
        vars(self).update(given=None, first=None, _trees=None)  # the caller may free what was cast
        self.rows, self._memory, self._chances = rows_in(arrays[1]), [], None
        self._whole = self.arrays = map_batch(read_only, arrays)
        if sampling is not None:
            chances = Chances(sampling, self.name)
            chances.learn(self.arrays)
            self._chances, self.arrays = chances.of(self.arrays), chances.drop_chances(self.arrays)

    def pieces(self, position: Position, before: tuple[int, str] = UNREAD, own: Own | None = None) -> Generator[Piece]:
        size, order = min(position.size, self.rows), self._row_order(position, shared=own is not None)
        piece = Piece(self.arrays, size, position.start, order, self._memory)
        if order is None:
            piece.rows = self._in_order
        yield piece

    def between(self, size: int, start: int, stop: int) -> Generator[Piece]:
        yield Piece(rows_of_batch(self.arrays, slice(start, stop)), size)

    def rows_of(self, position: Position, *, shared: bool = False) -> Array:
        rows = self._row_order(position, shared=shared)
        rows = self._in_order if rows is None else rows
        return rows[position.start : position.start + position.size]

    @cached_property
    def _in_order(self) -> Array:
        """The data's own order, the same array in each epoch, whose address a kernel then knows."""
        return np.arange(self.rows)

    def _row_order(self, position: Position, *, shared: bool) -> Array | None:
        order, chances = position.order, self._chances
        if order is None:
            return None
        rows = permutation(self.rows, *order) if chances is None else draw_rows(chances, self.rows, *order)
        return sort_batches(rows, min(position.size, self.rows)) if shared else rows

    def fingerprint(self) -> str:
        return fingerprints(*self._whole, self.checks.digests)


def as_leaf(value: Any, name: str) -> Any:
    """Return a table or its column as it is, classes as an array of text, and anything else as an array of numbers."""
    if is_frame(value) or is_series(value):
        return value
    texts = texts_of(value)
    return real_array(value, name) if texts is None else texts


def texts_of(value: Any) -> Array | None:
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


def take_rows(tree: Any, rows: Array) -> Any:
    """Return some rows of each array, table or column."""
    return map_leaves(lambda leaf: leaf[rows] if isinstance(leaf, np.ndarray) else Frame(leaf).take(rows).native, tree)
