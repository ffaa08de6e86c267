"""Checks: what data must be for a model and a loss, cast once; and fingerprints, which tell data from other data."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from framework.arrays import Array, Batch, column_names, real_array, require_finite
from framework.errors import DataError, ShapeError
from framework.frames import Frame, is_frame
from framework.losses import Loss
from framework.losses.requirements import require_weights
from framework.losses.several import Figure, Losses
from framework.models import Model
from framework.models.parameters import Columns
from framework.models.rows import checked_rows, require_samples
from framework.parts import Part, parted, parts
from framework.preprocessing.fitted import FittedPreprocess
from framework.settings.messages import brief
from framework.shapes import is_known, of_rows, shown
from framework.trees import Tree, flatten, leaf_name, leaves, map_leaves, real_tree, rows_in, sample_shape, take

NO_COLUMNS = Columns()


@contextmanager
def settling(model: Model, data: Any, name: str, preprocess: FittedPreprocess | None) -> Iterator[None]:
    """Give a model its Preprocess, and take the numbers of inputs that it leaves open from the data.

    An error leaves the model as it was.
    """
    layers = model.unsettled()
    before = None if layers else model._built().columns
    try:
        if layers and preprocess is not None:
            _settle(model, map_leaves(lambda shape: (1, *shape), preprocess.shape), name)
        elif layers:
            for x in _some_inputs(data, name):
                _settle(model, _shapes(x, name), name)
        if preprocess is not model.preprocess:
            model.preprocess = preprocess
        yield
    except BaseException:
        if before is None:
            model.unsettle(layers)
        else:
            model._built().columns = before
        raise


def _some_inputs(data: Any, name: str) -> Iterator[Any]:
    """Give x of some rows, or nothing if the data has none of the forms that ``prepare`` takes."""
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        yield parts(data, name)[0]
    elif hasattr(data, "read") and hasattr(data, "__len__"):
        yield read(data, 0, 1, name)[0]
    elif hasattr(data, "first"):  # a Stream
        yield data.first[0]


def _shapes(x: Any, name: str) -> Any:
    x = dict(x) if isinstance(x, Mapping) else x
    name = f"{name}: argument 'x'"
    return map_leaves(lambda leaf: leaf.shape if hasattr(leaf, "shape") else real_array(leaf, name).shape, x)


def _settle(model: Model, shapes: Any, name: str) -> None:
    name = f"{name}: argument 'x'"
    require_samples(shapes, model, name)
    if any(0 in shape[1:] for shape in leaves(shapes)):
        raise ShapeError(f"{name} must not have an empty axis; got {shown(shapes)}")
    model.settle(map_leaves(lambda shape: shape[1:], shapes))


def read(dataset: Any, start: int, stop: int, name: str) -> Part:
    """Return x, y and weight of some rows of a Dataset, as it gives them.

    Raises:
        DataError: It does not return two or three parts.
    """
    return parted(dataset.read(start, stop), f"{name}: {type(dataset).__name__}.read({start}, {stop})")


def target_shape(model: Model, x: Tree) -> Any:
    """Return the shape of the model's outputs for these rows; a dict of shapes by name for several outputs."""
    each = model.shape_after(sample_shape(x))
    each = each if is_known(each) else sample_shape(model.output(take(x, slice(1)))[1])
    rows = rows_in(x)
    return map_leaves(lambda shape: (rows, *shape), each)


def checked(
    x: Any,
    y: Any,
    weight: Any,
    model: Model,
    losses: tuple[Loss | Figure, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    digests: list[str] | None = None,
) -> Batch:
    """Return x, y and weight as arrays that fit the model and the loss; see ``prepare`` and ``checked_rows``.

    ``digests`` takes the fingerprint of each array of x.
    """
    total = None if digests is None else partial(_digested, digests)
    x = checked_rows(x, model, name, columns.inputs, total)
    rows, form = rows_in(x), shown(map_leaves(np.shape, x))
    if rows == 0:
        raise DataError(f"{name}: argument 'x' must have at least one row; got shape {form}")
    if known := columns.targets or model.target_columns:
        model.require_columns(y, f"{name}: argument 'y'", known)
    given, y = y, real_tree(y, f"{name}: argument 'y'")
    for array in leaves(y):
        if array.ndim == 0 or len(array) != rows:
            got = f"{form} and {shown(map_leaves(np.shape, y))}"
            raise ShapeError(f"{name}: arguments 'x' and 'y' must have the same number of rows; got shapes {got}")
    shape = target_shape(model, x)
    y = _cast(y, losses[0], shape, f"{name}: argument 'y'", model.dtype, given)
    forms = [loss.require_targets(y, shape, f"{name}: argument 'y'") for loss in losses]
    y = forms[0]  # that of the loss which is trained on
    if weight is not None:
        weight = require_weights(weight, rows, f"{name}: argument 'weight'", model.dtype)
    return x, y, weight


class PartChecks:
    """The checks of data that comes in parts: each is checked by itself, and all must have one form.

    Attributes:
        columns: Those of the frames x and y of the first part.
    """

    def __init__(self, model: Model, losses: tuple[Loss | Figure, ...], name: str) -> None:
        """Remember what takes the data; ``name`` is the caller, for messages."""
        self.model, self.losses, self.name = model, losses, name
        self.columns = NO_COLUMNS
        self._form: Any = None

    def __call__(self, part: Part, where: str, start: int = 0) -> Batch:
        """Return x, y and weight as the model and the loss take them.

        Args:
            part: The part.
            where: How messages name it.
            start: The number of its first row.

        Raises:
            DataError: It holds something that no model can learn from, or has another form than the first part.
        """
        name = f"{self.name}: {where}"
        x, y = transformed(*part[:2], self.model, self.losses, self.name, start)
        try:
            batch = checked(x, y, part[2], self.model, self.losses, name, self.columns)
        except DataError as error:
            if start == 0:
                raise
            raise type(error)(f"{error}; rows count from row {start} of the data") from None
        if self.columns == NO_COLUMNS:
            self.columns = Columns(column_names(x), column_names(y), shape=sample_shape(batch[0]))  # those of all
        form = (*map(sample_shape, batch[:2]), batch[2] is not None)
        self._form = self._form or form
        if form != self._form:
            got, before = (
                f"x {shown(of_rows(x))}, y {shown(of_rows(y))}, {'weights' if weighted else 'no weights'}"
                for x, y, weighted in (form, self._form)
            )
            raise DataError(
                f"{name} must return one form, and weights for all rows or for none; got {got}; before {before}"
            )
        return batch


def _digested(digests: list[str], array: Array) -> float:
    """Add the fingerprint of an array, and return its sum, which is found in the same pass over the numbers."""
    text, total = summed_fingerprint(array)
    digests.append(text)
    return total


def _cast(y: Tree, loss: Any, shape: Any, name: str, dtype: str, given: Any) -> Tree:
    """Return targets that are numbers in the model's dtype, and classes as they are; both finite.

    Raises:
        DataError: A number is not finite; or the model has one output and the targets are several, or the reverse.
    """
    loss.require_outputs(shape)
    if isinstance(loss, Losses):
        loss.require_names(y, name)
        return {
            key: _cast(y[key], each, shape[key], leaf_name(name, key), dtype, given[key])
            for key, each in loss.losses.items()
        }
    if isinstance(y, dict):
        raise DataError(f"{name} must be one array, as the model has one output; got {brief(sorted(y))}")
    if not loss.by_row or y.shape == shape:
        y = real_array(y, name, dtype)
    require_finite(y, name, given)
    return y


def transformed(
    x: Any, y: Any, model: Model, losses: tuple[Loss | Figure, ...], name: str, start: int = 0
) -> tuple[Any, Any]:
    """Return x and y as the model and the loss take them; for several outputs the columns of y by their names."""
    targets: tuple[str, ...] = ()
    if model.preprocess is not None:
        x = model.preprocess.transform(x, model.dtype, name=name, start=start)
        targets = model.preprocess.targets  # without steps for them, y stays as it is
        y = model.preprocess.transform_target(y, name=name, start=start) if targets else y
    if isinstance(losses[0], Losses):
        if is_frame(y):
            frame = Frame(y, f"{name}: argument 'y'")
            y = {label: frame.column(label) for label in frame.names}
        elif targets and not isinstance(y, Mapping):
            y = dict(zip(targets, np.reshape(y, (len(y), -1)).T, strict=True))
    return x, y


_COLUMNS = 1021
"""Words in a row of the grid: a prime, so that no period of the data fits it, and odd, so that signs count."""

_ROWS = 64
"""Rows that are summed at once: half a megabyte, which stays in cache while it is read twice."""


def fingerprint(array: Array) -> str:
    """Return the dtype and shape of an array and a digest of its contents.

    The bytes are laid out as a grid of 8-byte words. The digest is SHA-256 over the sum of every row and of every
    column of the grid, modulo 2^64, and over the words that fill no row. So it is as fast as memory, and sees every
    change of up to three words, an exchange of two values among them; more changes escape only where they cancel out
    along every row and every column. It does not protect against deliberate forgery.

    Example:
        >>> fingerprint(np.zeros((2, 3)))
        'float64 (2, 3) 4c564769e8be'
        >>> fingerprint(np.arange(3.0)) == fingerprint(np.array([0.0, 2.0, 1.0]))
        False

    Source:
        Elias, Error-free coding (1954): the product of two parity codes has the minimum distance 4.
    """
    return summed_fingerprint(array)[0]


@np.errstate(all="ignore")
def summed_fingerprint(array: Array) -> tuple[str, float]:
    """Return the fingerprint, and from the same pass a number that is finite only if all floats are, such as their sum.

    Where llvmlite is loaded, native code makes the pass.
    """
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.uint8)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    total = 0.0
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(raw) - len(raw) % (8 * _COLUMNS)
    if whole:
        grid = raw[:whole].view(np.uint64).reshape(-1, _COLUMNS)
        rows, columns, total = _native_sums(grid, kind) or _grid_sums(grid, kind)
        digest.update(rows.data)
        digest.update(columns.data)
    digest.update(raw[whole:].data)
    total += _sum(raw[whole:].view(kind))
    return f"{array.dtype.name} {array.shape} {digest.hexdigest()[:12]}", total


def _native_sums(grid: Array, kind: np.dtype[Any]) -> tuple[Array, Array, float] | None:
    """Return the same sums by native code where llvmlite is loaded, which else takes longer than is saved."""
    if "llvmlite.binding" not in sys.modules:
        return None
    from framework.native.scan import EXPONENTS, grid_sums  # noqa: PLC0415 (slow, and seldom needed)

    return grid_sums(grid, kind) if kind in EXPONENTS else None


def _grid_sums(grid: Array, kind: np.dtype[Any]) -> tuple[Array, Array, float]:
    """Return the sums of the rows and of the columns of a grid of words, and of the numbers in them."""
    sums, columns, total = np.empty(len(grid), np.uint64), np.zeros(grid.shape[1], np.uint64), 0.0
    for first in range(0, len(grid), _ROWS):
        rows = grid[first : first + _ROWS]
        total += _sum(rows.reshape(-1).view(kind))
        sums[first : first + _ROWS] = np.add.reduce(rows, axis=1)
        columns += np.add.reduce(rows, axis=0)
    return sums, columns, total


def _sum(numbers: Array) -> float:
    return float(np.add.reduce(numbers)) if numbers.dtype.kind == "f" else 0.0


def fingerprints(x: Tree, y: Tree, weight: Array | None, known: Sequence[str] = ()) -> str:
    """Return the fingerprint of each part of some data, and of each leaf by name; ``known`` are the first ones.

    Example:
        >>> fingerprints(np.zeros((2, 3)), np.zeros(2), None)  # doctest: +ELLIPSIS
        'x float64 (2, 3) 4c564769e8be, y float64 (2,) ...'
    """
    parts = [*flatten(x, "x").items(), *flatten(y, "y").items()] + ([] if weight is None else [("weight", weight)])
    digests = [*known, *(fingerprint(array) for _, array in parts[len(known) :])]
    texts = (f"{name} {text}" for (name, _), text in zip(parts, digests, strict=True))
    return ", ".join(sorted(texts, key=lambda text: (text.startswith("weight"), text)))  # whatever a dict's order
