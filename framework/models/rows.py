"""Rows: samples checked for a model, and its predictions for them, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.arithmetic import SMALL, limit_threads
from framework.arrays import Array, require_finite, require_ids
from framework.errors import DataError, FrameworkError, SettingsError, ShapeError
from framework.preprocessing.statistics import BLOCK_ROWS
from framework.shapes import shown
from framework.trees import flatten, leaves, map_leaves, real_tree, rows_in, sample_shape, take

if TYPE_CHECKING:
    from framework.models.base import Model

_AS_IS = nullcontext()

EVALUATION_ROWS = 4096
"""Rows that go through the model at once when nothing is learnt."""


def require_samples(shape: Any, model: Model, name: str) -> None:
    """Check that an array of this shape, or arrays of these shapes by name, hold rows of the model's input shape.

    Raises:
        ShapeError: They do not; names the array, or says how to add an axis that is missing.
    """
    if isinstance(shape, dict) or isinstance(model.input_shape, dict):
        model.require_batch(shape, name)
        return
    if shape and model.takes(shape[1:]):
        return
    hint = ""
    if len(shape) == 1:
        hint = "; one feature is x.reshape(-1, 1), one sample x[None]"
    elif len(shape) == len(model.input_shape):
        hint = "; add the axis that is missing, as x[:, None] for one channel or x[..., None] for one number per step"
    elif len(shape) == 2 < len(model.input_shape):
        hint = "; begin the model with a Reshape, e.g. Reshape((1, 28, 28)) for images of one channel"
    expected = shown(("rows", *model.input_shape))
    raise ShapeError(f"{name} must have the shape {expected}; got {shape}{hint}{model.advice}")


def checked_rows(
    x: Any, model: Model, name: str, known: tuple[str, ...] | None = None, total: Callable[[Array], float] | None = None
) -> Any:
    """Return x as rows of the model's dtype, finite and of its input shape: an array, or a dict of arrays by name.

    ``total`` may find the sum of an array, which is finite only if every number is, on another errand.

    Raises:
        ShapeError: x is not a batch of the model's samples.
        DataError: A value is not finite; or a frame's columns are not those that the model was fitted with.
    """
    where = f"{name}: argument 'x'"
    model.require_columns(x, where, known)
    x = dict(x) if isinstance(x, Mapping) else x
    array = real_tree(x, where, model.dtype)
    limits, given = _limits(array, model, where), flatten(x, where)
    rows_in(array, where)
    for leaf, values in flatten(array, where).items():
        if total is None or not math.isfinite(total(values)):
            require_finite(values, leaf, given[leaf])
        if limits is not None:
            require_ids(values, limits[leaf], leaf, given[leaf])
    return array


def _limits(array: Any, model: Model, where: str) -> dict[str, Any] | None:
    """Return how many ids each number in a sample may be, by leaf; None if a sample holds no ids.

    Raises:
        ShapeError: The array is not a batch of the model's samples.
    """
    known = model._built().limits
    shapes = map_leaves(np.shape, array)
    key = tuple(flatten(shapes).items()) if isinstance(shapes, dict) else shapes[1:]
    if key not in known or shapes == ():
        require_samples(shapes, model, where)
        limits = model.cardinalities(sample_shape(array))
        known[key] = limits if any(np.isfinite(limit).any() for limit in leaves(limits)) else None
    return None if known[key] is None else flatten(known[key], where)


def multiply_adds(model: Model, rows: int, sample: Any) -> int:
    """Return about how many multiply-adds the largest product of a batch has: rows, steps in a row, and weights.

    Args:
        model: The model.
        rows: The rows of the batch.
        sample: The shape of a sample, or shapes by name; an open size counts as 1.
    """
    known = model._built().products
    key = tuple(flatten(sample).items()) if isinstance(sample, dict) else sample
    if key not in known:
        known[key] = max(_products(model, sample), default=0)
    return rows * known[key]


def _products(model: Model, sample: Any) -> Iterator[int]:
    """Give the multiply-adds of one sample with each matrix or kernel, as far as shapes are known."""
    if hasattr(model, "cardinality"):  # a layer; one with ids looks up
        for weights in model.layout().values() if model.cardinality is None else ():
            for shape in leaves(sample) if len(weights) > 1 else ():
                axes = shape[:-1] if len(weights) == 2 else shape[1:]
                yield math.prod(weights) * math.prod(axis for axis in axes if isinstance(axis, int))
        return
    parts: Mapping[str, Model] = getattr(model, "parts", {})
    for name, part in parts.items():
        yield from _products(part, sample[name] if isinstance(sample, dict) and name in sample else sample)
        if model.chain:
            try:
                sample = part.infer_shape(sample)
            except FrameworkError:
                return


def predicted(model: Model, x: Any, name: str, output: Callable[[Any], Any] | None = None) -> Any:
    """Return the predictions for rows of x in the unit of the target; see ``Model.predict``.

    ``output`` gives new arrays of the model's outputs for a batch of checked rows; None is NumPy.
    """
    preprocess = model.preprocess
    found = []
    for part in _explained(_inputs(model, x, name), x):
        rows = checked_rows(part, model, name)
        count = rows_in(rows)
        work = multiply_adds(model, min(count, EVALUATION_ROWS), sample_shape(rows))
        with _AS_IS if work <= SMALL else limit_threads(work):
            if output is not None:
                found.append(output(rows))
                continue
            workspace = model.take_workspace(count)
            for start in range(0, count, EVALUATION_ROWS) or [0]:  # of no rows, one empty batch
                with np.errstate(all="ignore"):
                    _, a = model.output(take(rows, slice(start, start + EVALUATION_ROWS)), workspace)
                found.append(map_leaves(lambda leaf: leaf.copy(), a))
            model.keep_workspace(workspace, count)
    whole = found[0] if len(found) == 1 else map_leaves(lambda *parts: np.concatenate(parts), *found)
    return whole if preprocess is None else preprocess.inverse(whole)


def _inputs(model: Model, x: Any, name: str) -> Iterator[Any]:
    """Give the rows of x as the model takes them, in blocks where x is a Dataset or is transformed."""
    for rows in _in_blocks(x):
        if model.preprocess is None:
            yield rows
        else:
            yield from model.preprocess.blocks(rows, model.dtype, name)


def _explained(parts: Iterator[Any], x: Any) -> Iterator[Any]:
    """Give parts; an error gains what the file x knows of a column."""
    try:
        yield from parts
    except DataError as error:
        text = x.explained(str(error)) if hasattr(x, "explained") else str(error)
        raise (type(error)(text) if text != str(error) else error) from None


def _in_blocks(x: Any) -> Iterator[Any]:
    """Give the rows of a Dataset in blocks, without targets; other data as a whole."""
    if not (hasattr(x, "read") and hasattr(x, "__len__")):
        yield x
        return
    for start in range(0, len(x), BLOCK_ROWS) or [0]:
        stop = min(start + BLOCK_ROWS, len(x))
        yield x.frame(start, stop) if hasattr(x, "frame") else x.read(start, stop)[0]


def classified(model: Model, x: Any, name: str) -> Any:
    """Return the likeliest class of each row; see ``Model.classify``."""
    scores = predicted(model, x, name)
    if not isinstance(scores, dict):
        only = classes_of(model)
        return _named(places_of(scores, model.output_activation, only, name), only)
    classes = {key: levels for key in scores if (levels := classes_of(model, key)) is not None}
    if not classes:
        raise SettingsError(
            f"{name}: the model must have one output; it has {', '.join(scores)}: take the classes of one, as "
            f"Accuracy().classes(model.predict(x)[{next(iter(scores))!r}])"
        )
    activation = model.output_activation
    return {
        key: _named(places_of(scores[key], activation[key], levels, f"{name}: output {key!r}"), levels)
        for key, levels in classes.items()
    }


def classes_of(model: Model, output: str | None = None) -> tuple[Any, ...] | None:
    """Return the classes of an output as the target has them, if it has some; None is the output of a model of one."""
    known = {} if model.preprocess is None else model.preprocess.classes
    return next(iter(known.values()), None) if output is None else known.get(output)


def _named(places: Array, classes: tuple[Any, ...] | None) -> Array:
    return places if classes is None else np.array(classes)[places]


def scores_of(activation: Any, shape: Any) -> str:
    """Return what an output of this shape says of classes: probabilities, scores, or "" for one number of any size.

    Example:
        >>> from framework import Identity, Sigmoid
        >>> scores_of(Sigmoid(), ()), scores_of(Identity(), (3,)), scores_of(Identity(), ())
        ('probabilities', 'scores', '')
    """
    if getattr(activation, "output_range", None) == (0.0, 1.0):
        return "probabilities"
    return "" if shape in ((), (1,)) else "scores"


def places_of(scores: Array, activation: Any, classes: tuple[Any, ...] | None, name: str) -> Array:
    """Return the place of the likeliest class of each row.

    Args:
        scores: What ``predicted`` gives for one output.
        activation: The activation of that output.
        classes: The classes as the target has them, if it has some.
        name: The caller, for messages.

    Raises:
        SettingsError: The output gives one number, which may lie outside of 0 and 1.
        ShapeError: The rows are not scores of classes, or not of as many as have names.
    """
    if scores.ndim == 1 or scores.shape[1:] == (1,):
        if not scores_of(activation, scores.shape[1:]):
            raise SettingsError(
                f"{name}: a model of one output must end in an activation from 0 to 1, such as Sigmoid, to choose one "
                f"of two classes; got {activation!r}"
            )
        places, count = (scores.reshape(-1) > 0.5).astype(np.intp), 2
    elif scores.ndim == 2:
        places, count = scores.argmax(axis=1), scores.shape[1]
    else:
        raise ShapeError(f"{name}: the model must give one row of numbers a sample; got the shape {scores.shape}")
    if classes is not None and len(classes) != count:
        raise ShapeError(f"{name}: the target has {len(classes)} classes, and the model tells {count} apart")
    return places
