"""Checks: what data must be for a model and a loss, cast once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from framework.arrays import Batch, real_array, require_finite, require_ids
from framework.data.fingerprints import summed_fingerprint
from framework.data.frames import parts
from framework.errors import DataError, ShapeError
from framework.losses import Loss
from framework.losses.requirements import require_weights
from framework.models import Model
from framework.models.parameters import Columns
from framework.models.shapes import is_known, require_rows, shown
from framework.settings.messages import brief
from framework.trees import Tree, flatten, leaves, map_leaves, real_tree, rows_in, sample_shape, take

NO_COLUMNS = Columns()


@contextmanager
def settling(model: Model, data: Any, name: str) -> Iterator[None]:
    """Take the numbers of inputs that a model leaves open from the data; an error leaves them open."""
    layers = model.unsettled()
    if not layers:
        yield
        return
    try:
        if isinstance(data, tuple | list) and len(data) in (2, 3):
            _settle(model, parts(data, name)[0], f"{name}: argument 'x'")
        elif hasattr(data, "read") and hasattr(data, "__len__"):
            _settle(model, read(data, 0, 1, name)[0], f"{name}: argument 'x'")
        yield
    except BaseException:
        model.unsettle(layers)
        raise


def _settle(model: Model, x: Any, name: str) -> None:
    x = dict(x) if isinstance(x, Mapping) else x
    shapes = map_leaves(lambda leaf: leaf.shape if hasattr(leaf, "shape") else real_array(leaf, name).shape, x)
    require_samples(shapes, model, name)
    if any(0 in shape[1:] for shape in leaves(shapes)):
        raise ShapeError(f"{name} must not have an empty axis; got {shown(shapes)}")
    model.settle(map_leaves(lambda shape: shape[1:], shapes))


def read(dataset: Any, start: int, stop: int, name: str) -> tuple[Any, Any, Any]:
    """Return x, y and weight of some rows of a Dataset, as it gives them.

    Raises:
        DataError: It does not return two or three parts.
    """
    got, name = dataset.read(start, stop), f"{name}: {type(dataset).__name__}.read({start}, {stop})"
    if not isinstance(got, tuple | list) or len(got) not in (2, 3):
        form = f"{len(got)} parts" if isinstance(got, tuple | list) else type(got).__name__
        raise DataError(f"{name} must return (x, y) or (x, y, weight); got {form}")
    return parts(got, name)


def target_shape(model: Model, x: Tree) -> tuple[int, ...]:
    """Return the shape of the model's outputs for these rows."""
    each = model.shape_after(sample_shape(x))
    return (rows_in(x), *(each if is_known(each) else model.output(take(x, slice(1)))[1].shape[1:]))


def checked(
    x: Any,
    y: Any,
    weight: Any,
    model: Model,
    losses: tuple[Loss, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    digests: list[str] | None = None,
) -> Batch:
    """Return x, y and weight as arrays that fit the model and the loss; see ``prepare`` and ``checked_rows``."""
    x = checked_rows(x, model, name, columns.inputs, digests)
    rows, form = rows_in(x), shown(map_leaves(np.shape, x))
    if rows == 0:
        raise DataError(f"{name}: argument 'x' must have at least one row; got shape {form}")
    if isinstance(y, Mapping):
        raise DataError(f"{name}: argument 'y' must be one array, as the model has one output; got {brief(sorted(y))}")
    if known := columns.targets or model.target_columns:
        model.require_columns(y, f"{name}: argument 'y'", known)
    given, y = y, real_array(y, f"{name}: argument 'y'")
    if y.ndim == 0 or len(y) != rows:
        raise ShapeError(
            f"{name}: arguments 'x' and 'y' must have the same number of rows; got shapes {form} and {y.shape}"
        )
    shape = target_shape(model, x)
    if not losses[0].by_row or y.shape == shape:
        y = real_array(y, f"{name}: argument 'y'", model.dtype)
    require_finite(y, f"{name}: argument 'y'", given)
    forms = [loss.require_targets(y, shape, f"{name}: argument 'y'") for loss in losses]
    y = forms[0]  # that of the loss which is trained on
    if weight is not None:
        weight = require_weights(weight, rows, f"{name}: argument 'weight'", model.dtype)
    return x, y, weight


def require_samples(shape: Any, model: Model, name: str) -> None:
    """Check that an array of this shape, or arrays of these shapes by name, hold rows of the model's input shape.

    Raises:
        ShapeError: They do not; names the array, or says how to add an axis that is missing.
    """
    if isinstance(shape, dict) or isinstance(model.input_shape, dict):
        require_rows(shape, model.input_shape, name, model.advice)
        return
    if shape and model.takes(shape[1:]):
        return
    hint = ""
    if len(shape) == 1:
        hint = "; one feature is x.reshape(-1, 1), one sample x[None]"
    elif len(shape) == len(model.input_shape):
        hint = "; add the axis that is missing, as x[:, None] for one channel or x[..., None] for one number a step"
    elif len(shape) == 2 < len(model.input_shape):
        hint = "; begin the model with a Reshape, e.g. Reshape((1, 28, 28)) for images of one channel"
    expected = shown(("rows", *model.input_shape))
    raise ShapeError(f"{name} must have the shape {expected}; got {shape}{hint}{model.advice}")


def checked_rows(
    x: Any, model: Model, name: str, known: tuple[str, ...] | None = None, digests: list[str] | None = None
) -> Any:
    """Return x as rows of the model's dtype, finite and of its input shape: an array, or a dict of arrays by name.

    ``digests`` takes the fingerprint of each array, which is found in the same pass over the numbers.

    Raises:
        ShapeError: x is not a batch of the model's samples.
        DataError: A value is not finite; or a frame's columns are not those that the model was fitted with.
    """
    model.require_columns(x, f"{name}: argument 'x'", known)
    array = real_tree(x, f"{name}: argument 'x'", model.dtype)
    require_samples(map_leaves(np.shape, array), model, f"{name}: argument 'x'")
    rows_in(array, f"{name}: argument 'x'")
    limits = leaves(model.cardinalities(sample_shape(array)))
    given = flatten(x, f"{name}: argument 'x'")
    for (leaf, values), limit in zip(flatten(array, f"{name}: argument 'x'").items(), limits, strict=True):
        total = np.nan
        if digests is not None:
            text, total = summed_fingerprint(values)
            digests.append(text)
        if not np.isfinite(total):
            require_finite(values, leaf, given[leaf])
        require_ids(values, limit, leaf)
    return array
