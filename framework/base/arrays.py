"""Arrays: what comes in is checked and cast once; working memory is kept and reused from step to step.

Whatever harmless form data has (integers, bool, any byte or memory order, lists, tables), it becomes one contiguous
array of the model's dtype. Anything else is refused, with the first value that is not a real number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framework.base.errors import DataError, DerivativeError, DtypeError, SettingsError, ShapeError, Text, brief
from framework.base.frames import Frame, is_frame, is_series
from framework.base.settings.messages import warn

Array = npt.NDArray[Any]

Arrays = Mapping[str, Array]
"""Arrays by name."""

Batch = tuple[Any, Any, Array | None]
"""x and the targets, trees of arrays; the weights, where there are some."""

Sums = dict[str, tuple[float, ...]]
"""The sums of some rows, by the name of the figure that is made of them."""

BLOCK = 8192
"""Elements that a formula sees at once. Its temporaries stay in the processor's cache and never grow with the batch."""


LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}
"""The largest number of each dtype that formulas are computed in."""

LARGEST_EXPONENT = {"float64": 709.782712893384, "float32": 88.72283}
"""The logarithm of it, by the name of the dtype."""

_NO_NUMBERS = {
    "O": "Python objects",
    "S": "bytes",
    "T": "text",
    "U": "text",
    "V": "records",
    "M": "dates",
    "c": "complex numbers",
    "m": "durations",
}


def real_array(value: Any, name: str, dtype: npt.DTypeLike | None = None) -> Array:
    """Return ``value`` as a C-contiguous array of real numbers; the same array when it is one already.

    Args:
        value: An array, a number, a (nested) sequence, a table of pandas, polars or Arrow, or a column of one.
        name: The argument's name in messages, ``"fit: argument 'x'"``.
        dtype: What to cast to; None keeps the dtype, in native byte order.

    Raises:
        DtypeError: The values are text, objects, dates, complex or masked numbers, or the object gives no array; names
            the column of a table.
        DataError: The names of a table's columns are not clear.
        ShapeError: The rows have different lengths.

    Example:
        >>> real_array([[1, 2], [3, 4]], "x", "float32").dtype.name
        'float32'
    """
    as_wanted = type(value) is np.ndarray and (dtype is None or value.dtype == dtype)
    if as_wanted and value.dtype.kind in "biuf" and value.dtype.isnative and value.flags.c_contiguous:
        return value  # type: ignore[no-any-return]
    if is_frame(value):
        return _grid(Frame(value, name), dtype, name)
    array = _numbers(value, name)
    wanted = array.dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
    with np.errstate(over="ignore"):  # a value beyond the dtype becomes inf here and is refused by require_finite
        return np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)


def numeric(value: Any, name: str) -> Any:
    """Return a number or an array as it is, and a list as an array of real numbers, as NumPy's functions take them.

    Raises:
        DtypeError: The values are not real numbers.

    Example:
        >>> numeric([0, 1], "h"), numeric(2.0, "h")
        (array([0, 1]), 2.0)
    """
    return value if isinstance(value, (float, int)) or hasattr(value, "dtype") else real_array(value, name)


def column_names(value: Any, name: str = "table") -> tuple[str, ...] | None:
    """Return the names of a table's columns, or None for anything else; ``name`` is the argument's in messages.

    Raises:
        DataError: The names are not clear.

    Example:
        >>> import pandas
        >>> column_names(pandas.DataFrame({"age": [31]})), column_names([[1.0]])
        (('age',), None)
    """
    return Frame(value, name).names if type(value) is not np.ndarray and is_frame(value) else None


def _tell_rounded(frame: Frame, label: str, array: Array, name: str) -> None:
    """Warn of a column of whole numbers, whose values are ``array``, of which no float64 holds some."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and (lost := frame.describe_rounding(label)):
        warn(f"{name}{f': column {label!r}' if label else ''} holds {lost}; leave it out, or divide it")


def _grid(frame: Frame, dtype: npt.DTypeLike | None, name: str) -> Array:
    """Return a table's columns side by side, each judged by its own dtype, with no further copy of the data."""
    arrays = [frame.values(name) for name in frame.names]
    kinds = {array.dtype for array in arrays}
    grid = np.empty((frame.rows, len(arrays)), dtype or np.result_type(*kinds or [np.float64]).newbyteorder("="))
    if grid.dtype.kind == "f":
        for label, array in zip(frame.names, arrays, strict=True):
            _tell_rounded(frame, label, array, name)
    with np.errstate(over="ignore"):
        rows = max(1024, BLOCK // max(1, len(arrays)))  # which stay in the cache; fewer cost more calls than they save
        for start in range(0, frame.rows, rows):
            for index, array in enumerate(arrays):
                grid[start : start + rows, index] = array[start : start + rows]
    return grid


def _numbers(value: Any, name: str) -> Array:
    """Return ``value`` as an array of real numbers, of any dtype and order."""
    if is_series(value):
        frame = Frame(value, name)
        column: Array = frame.values()
        _tell_rounded(frame, frame.names[0], column, name)
        return column
    if _is_masked(value):
        raise DtypeError("must have no masked values; got a masked array", name=name, advice="fill or drop them first")
    try:
        try:
            array = np.asanyarray(value)
        except TypeError:  # kinds that have nothing in common, such as numbers and dates
            array = np.asarray(value, dtype=object)
    except ValueError as error:
        raise ShapeError(
            f"must be a full grid of numbers; got {_unlike(value, name_of(name)) or error}", name=name
        ) from None
    except Exception as error:
        raise DtypeError(
            f"{name} must be an array of real numbers, or become one; got {type(value).__name__}, which says: {error}"
        ) from error
    if has_mask(type(array)):  # what an object gives for itself
        raise DtypeError("must have no masked values; got a masked array", name=name, advice="fill or drop them first")
    if kind := _NO_NUMBERS.get(array.dtype.kind):
        if isinstance(value, list | tuple):  # whose numbers are still numbers, not text like all the rest
            array = np.asarray(value, dtype=object)
        return _unbox_numbers(array, name, kind)
    numbers: Array = array
    return numbers


def floats(value: Any, name: str) -> Array:
    """Return floats that a formula may subtract and square: small whole numbers would wrap, and halves overflow.

    Example:
        >>> floats(np.array([0], "uint8"), "x") - 1
        array([-1.])
    """
    array = real_array(value, name)
    return array if array.dtype in LARGEST else real_array(array, name, np.float64)


def _is_masked(value: Any) -> bool:
    """Return whether a mask would be lost on the way to an array, as NumPy loses those inside a list."""
    if isinstance(value, np.ndarray):
        return has_mask(type(value))
    if not isinstance(value, list | tuple):
        return False
    items: list[Any] = [*value]
    for _ in range(64):  # as deep as an array may be
        kinds = set(map(type, items))
        if any(map(has_mask, kinds)):
            return True
        if not any(issubclass(kind, list | tuple) for kind in kinds):
            break
        items = [item for sequence in items if isinstance(sequence, list | tuple) for item in sequence]
    return False


def has_mask(kind: type) -> bool:
    """Return whether a class is that of masked arrays, without the import of ``numpy.ma`` (8 ms) for any other class.

    Example:
        >>> has_mask(np.ndarray), has_mask(np.ma.MaskedArray)
        (False, True)
    """
    return kind is not np.ndarray and issubclass(kind, np.ndarray) and issubclass(kind, np.ma.MaskedArray)


def _unlike(value: Any, name: str, path: tuple[int, ...] = ()) -> str:
    """Name the first row whose length differs from that of row 0; return "" if there is none."""
    if not isinstance(value, list | tuple) or len(path) == 32:
        return ""
    shapes = [getattr(row, "shape", ()) for row in value]
    lengths = [
        f"the shape {shape}" if len(shape) > 1 else f"length {len(row)}" if hasattr(row, "__len__") else ""
        for row, shape in zip(value, shapes, strict=True)
    ]
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            said = ["is a single value" if not size else f"has {size}" for size in (length, lengths[0])]
            at, first = (element(name, (*path, index)) for index in (row, 0))
            return f"rows of different lengths: {at} {said[0]}, {first} {said[1]}"
    return next((difference for row, item in enumerate(value) if (difference := _unlike(item, name, (*path, row)))), "")


def _unbox_numbers(array: Array, name: str, kind: str) -> Array:
    """Turn objects that are all real numbers (such as one made of Python's own) into numbers, or refuse."""
    if array.size == 0:
        return np.zeros(array.shape)
    for index, item in np.ndenumerate(array):
        real = isinstance(item, int | float | np.integer | np.floating | np.bool_)
        if not real or isinstance(item, np.timedelta64):  # which NumPy counts among the whole numbers
            shown = item.item() if isinstance(item, np.str_ | np.bytes_) else item
            hint = f"; write {name_of(name)}.toarray()" if hasattr(item, "toarray") else ""  # a sparse matrix
            if kind == "text" and array.ndim == 1:
                hint = "; np.unique(text, return_inverse=True)[1] are numbers of classes"
            problem = f"must hold real numbers; got {kind}, first {brief(shown)} at {element(name, index)}{hint}"
            raise DtypeError(problem, name=name, row=index[0] if index else None)
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise DataError("must be finite; got a whole number too large for a float", name=name) from None


def name_of(name: str) -> str:
    """Return the bare argument of ``"fit: argument 'x'"``: ``x``."""
    return name.rpartition("argument ")[2].strip("'")


def element(name: str, index: tuple[int, ...]) -> str:
    """Return how messages write an element of an argument: ``x[1, 0]``."""
    return name_of(name) + (f"[{', '.join(map(str, index))}]" if index else "")


def require_finite(array: Array, name: str, source: Any = None) -> None:
    """Refuse NaN and infinity, with their number and the first place.

    Args:
        array: Numbers.
        name: The argument's name in messages.
        source: What the array was made of, for data. The column of a table is named, and NaN gets advice.

    Raises:
        DataError: Some value is not finite.

    Example:
        >>> require_finite(np.array([1.0, np.nan]), "x")
        Traceback (most recent call last):
        framework.base.errors.DataError: x must be finite; got nan at x[1] (1 of 2 values)
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    with np.errstate(all="ignore"):
        if math.isfinite(np.add.reduce(array, axis=None)):  # one cheap pass; a sum may overflow, so look closer below
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    index = first_place(bad)
    hint = ""
    if np.isnan(array[index]) and source is not None:
        argument, hint = name_of(name), "drop the rows with missing values"
        if is_frame(source) or is_series(source):
            hint += ", or fill these by Impute() in a Preprocess"
        elif argument[:1] == "x":  # a target or a weight that is made up would train on it
            hint += f", or fill these, as np.nan_to_num({argument}) does by 0"
    where = _where(name, index, source)
    count = np.count_nonzero(bad)
    got = Text(f"{array[index]} {where} ({count} of {array.size} values)")
    raise DataError("must be finite", name=name, got=got, row=index[0] if index else None, advice=hint)


def require_untouched(name: str, arguments: Mapping[str, Array], call: Callable[[], Any]) -> Any:
    """Return the result of a call, and refuse one that changes its arguments.

    Args:
        name: The name of the function, for the message.
        arguments: Its arguments by name.
        call: Calls it.

    Raises:
        DerivativeError: An argument has changed.
    """
    kept = {argument: array.copy() for argument, array in arguments.items()}
    with np.errstate(all="ignore"):
        result = call()
    for argument, array in arguments.items():
        if not np.array_equal(array, kept[argument], equal_nan=True):
            raise DerivativeError(
                f"{name} changes its argument '{argument}' in place; make a new array: "
                f"'{argument} = {argument} * 2', not '{argument} *= 2'"
            )
    return result


def require_like(owner: object, method: str, result: Any, shape: tuple[int, ...]) -> None:
    """Check that a formula's result has a shape and is real.

    Args:
        owner: The formula, or its name.
        method: The method that gave the result.
        result: The result.
        shape: What its shape must be.

    Raises:
        ShapeError: The formula changed the shape.
        DtypeError: The formula's result is not real.
    """
    name = owner if isinstance(owner, str) else type(owner).__name__
    if result is None or result is Ellipsis:
        raise ShapeError(f"{name}.{method} returned {result}: write return and the formula")
    kind = result.dtype if isinstance(result, np.ndarray | np.generic) else np.asarray(result).dtype
    if np.shape(result) != shape:
        raise ShapeError(
            f"{name}.{method} must keep the shape: expected {shape}; got {np.shape(result)}. "
            "Use NumPy functions that work element by element; a constant is np.full_like(h, 2.0)"
        )
    if kind.kind not in "fiub":
        raise DtypeError(f"{name}.{method} must give real numbers; got {kind}")


def _where(name: str, index: tuple[int, ...], source: Any) -> str:
    """Return where a value is, by the column where the array was made of a table."""
    if not (is_frame(source) or is_series(source)):
        return f"at {element(name, index)}"
    frame = Frame(source, name)
    return f"in {frame.place(frame.names[index[-1] if is_frame(source) else 0], index[0])}"


def likeliest(rows: Array, name: str) -> Array:
    """Return the class of each row of targets, (rows,), of one-hot rows, of -1 and one 1, or of probabilities.

    Of equal probabilities the first counts.

    Raises:
        DataError: A row is neither; names the row.

    Example:
        >>> likeliest(np.array([[0.0, 1.0], [0.7, 0.3], [1.0, -1.0]]), "target")
        array([1, 0, 0])
        >>> likeliest(np.array([[3.5, 1.2]]), "y")
        Traceback (most recent call last):
        framework.base.errors.DataError: y must have one class per row; got [3.5 1.2] at row 0. Give ...
    """
    signed = (np.abs(rows) == 1.0).all(axis=1) & (np.count_nonzero(rows > 0, axis=1) == 1)
    odd = ~signed & ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1.0) <= 1e-4))
    if odd.any():
        row = int(np.argmax(odd))
        hint = "Give integer classes, one-hot rows or rows of probabilities"
        if np.isin(rows[row], (-1, 0, 1)).all():
            hint = (
                "Of several labels per row, count each as a row of its own: prediction.reshape(-1), target.reshape(-1)"
            )
        got = Text(f"{rows[row]} at row {row}")
        raise DataError("must have one class per row", name=name, got=got, row=row, advice=hint)
    return np.asarray(np.argmax(rows, axis=-1))


def class_names(wanted: Any, known: Sequence[Any] | None, count: int, name: str) -> tuple[Any, ...]:
    """Return the names of classes: those given, else those that the target had, else numbers.

    Raises:
        SettingsError: There are more or fewer names than classes, or they have no order.

    Example:
        >>> class_names(None, ["no", "yes"], 2, "report"), class_names(None, None, 2, "report")
        (('no', 'yes'), (0, 1))
    """
    chosen = wanted if wanted is not None else known if known is not None else range(count)
    name = f"{name}: argument 'classes'"
    if isinstance(chosen, set | frozenset):
        raise SettingsError("must be a list, in the order of the outputs", name=name, got=chosen)
    if isinstance(chosen, str) or not hasattr(chosen, "__len__") or len(chosen) != count:
        raise SettingsError(f"must have {count} names, one a class", name=name, got=chosen)
    return (*chosen,)


def first_place(mask: Any) -> tuple[int, ...]:
    """Return the index of the first True of a mask that has one.

    Example:
        >>> first_place(np.array([[False, False], [True, True]]))
        (1, 0)
    """
    return tuple(map(int, np.argwhere(mask)[0]))


def require_ids(array: Array, cardinality: Any, name: str, source: Any = None) -> None:
    """Check that ids are whole numbers from 0 to ``cardinality - 1``.

    Args:
        array: Ids, or a batch of samples that hold some.
        cardinality: How many ids there are; for a batch an array for each sample, inf for a number that is not an id.
        name: The argument's name in messages.
        source: What the array was made of. The column of a table is named.

    Raises:
        DataError: An id is fractional or out of range; says how many, and where the first is.

    Example:
        >>> require_ids(np.array([[0.5, 3.0], [1.5, 5.0]]), np.array([np.inf, 5]), "x")
        Traceback (most recent call last):
        framework.base.errors.DataError: x must hold whole ids in 0..4; got 5.0 at x[1, 1] (1 of 2 ids)
    """
    at_each_step = isinstance(cardinality, int) and array.size > 0  # for which a cheaper look is enough
    if at_each_step and array.min() >= 0 and array.max() < cardinality and (array == np.floor(array)).all():
        return
    ids = np.less(cardinality, np.inf)
    if not ids.any():
        return
    bad = ~((array >= 0) & (array < cardinality) & (array == np.floor(array))) & ids
    if bad.any():
        index = first_place(bad)
        largest = int(np.broadcast_to(cardinality, array.shape)[index]) - 1
        count = np.count_nonzero(np.broadcast_to(ids, array.shape))
        raise DataError(
            f"must hold whole ids in 0..{largest}; got {array[index]} {_where(name, index, source)} "
            f"({np.count_nonzero(bad)} of {count} ids)",
            name=name,
            row=index[0] if index else None,
        )


def blocks(array: Array) -> list[slice]:
    """Cut the rows of an array into slices of about ``BLOCK`` elements.

    Example:
        >>> blocks(np.zeros((10, 2048)))
        [slice(0, 4, None), slice(4, 8, None), slice(8, 12, None)]
    """
    rows, size = len(array), array.size
    if size <= BLOCK:
        return _ONE_BLOCK if rows else []
    step = max(1, BLOCK * rows // size)
    return [slice(start, start + step) for start in range(0, rows, step)]


_ONE_BLOCK = [slice(None)]


def place_of_best(values: Any, mode: str = "min") -> int | None:
    """Return the place of the smallest finite value, or of the largest for mode "max"; None if no value is finite.

    Example:
        >>> place_of_best([np.nan, 0.5, 0.25, 0.25]), place_of_best([1.0, np.inf], "max"), place_of_best([])
        (2, 0, None)
    """
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    return int(np.where(finite, values if mode == "min" else -values, np.inf).argmin())


class Record(dict[str, Any]):
    """The arrays that a model whose passes are written by hand keeps from ``apply`` for ``apply_backward``, by name.

    A model in training has one record, and ``array`` returns the same memory at every step.

    Attributes:
        training: Whether this is a training pass.
        key: (seed, epoch, step, ..., place of the layer): the key of this pass's random numbers, or None.
        dtype: The dtype of the model.
        x: What ``apply`` was given.
        calls: The passes of each child in this forward, by the child's name.
        filled: The children whose gradients of this pass are there already, so that further ones add to them.
        workspaces: The working memory of each call of a child.

    Example:
        >>> record = Record("float64", training=True)
        >>> record.array("h", (4, 2)).shape, record.array("h", (3, 2)).base is record.array("h", (4, 2)).base
        ((4, 2), True)
    """

    __slots__ = ("_buffers", "calls", "dtype", "filled", "key", "training", "workspaces", "x")

    def __init__(self, dtype: npt.DTypeLike, *, training: bool) -> None:
        """Start empty."""
        super().__init__()
        self.dtype = np.dtype(dtype)
        self.training = training
        self.key: tuple[int, ...] | None = None
        self.workspaces: dict[Any, Any] = {}
        self._buffers: dict[str, Array] = {}
        self.begin(None, None)

    def begin(self, x: Any, key: tuple[int, ...] | None) -> None:
        """Begin a pass."""
        self.x, self.key = x, key
        self.calls: dict[str, list[Any]] = {}
        self.filled: set[str] = set()

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike | None = None) -> Array:
        """Return uninitialised memory of this shape under this name; the first axis may shrink without a new one."""
        kept = self._buffers.get(name)
        if kept is None or kept.shape[1:] != shape[1:] or kept.shape[0] < shape[0]:
            kept = self._buffers[name] = np.zeros(shape, dtype or self.dtype)
        return kept[: shape[0]]
