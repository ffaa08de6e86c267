"""Rows: data checked for a model and its losses, and cast once; and predictions, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.backends.arithmetic import SMALL, limit_threads
from framework.base.arrays import Array, Batch, column_names, real_array, require_finite, require_ids
from framework.base.errors import DataError, FrameworkError, SettingsError, ShapeError, within
from framework.base.frames import Frame, is_frame
from framework.base.shapes import format_shape, is_known, of_rows
from framework.base.trees import Tree, flatten, leaves, map_leaves, real_tree, rows_in, sample_shape, take
from framework.data.fingerprints import sum_and_fingerprint
from framework.data.parts import Part, Source, explain_error
from framework.data.sampling import Sampling
from framework.data.sources import source_of
from framework.formulas.losses import Loss
from framework.formulas.losses.base import require_weights
from framework.formulas.losses.several import Figure, OutputLosses
from framework.formulas.metrics import Metric
from framework.graph.trace import share
from framework.models.parameters import Columns
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.statistics import BLOCK_ROWS

if TYPE_CHECKING:
    from framework.models.base import Model

NO_COLUMNS = Columns()

_AS_IS = nullcontext()

EVALUATION_ROWS = 4096
"""Rows that go through the model at once when nothing is learnt."""


def prepare(
    data: Any,
    model: Model,
    losses: tuple[Loss | Figure, ...],
    name: str,
    columns: Columns = NO_COLUMNS,
    metrics: Iterable[Metric | Loss] = (),
    *,
    fingerprinted: bool = False,
    sampling: Sampling | None = None,
) -> Source:
    """Return data as batches for a model and its losses; rows in memory are checked whole, others as they are read.

    Args:
        data: A source, or what ``source_of`` makes one of.
        model: The model that takes the data.
        losses: The losses that take the targets: the trained one first, then metrics that are losses.
        name: The caller, for messages.
        columns: The columns that the tables x and y must have; None are those that the model was fitted with.
        metrics: The metrics that take the targets; rows that are not in memory are checked when they are used.
        fingerprinted: Whether the fingerprint will be asked for: that of arrays is found while they are checked.
        sampling: How the rows of a shuffled epoch are drawn; None uses each row once.

    Raises:
        DataError: The data is of no such form, has no rows, or holds something no model can learn from.
        ShapeError: Shapes do not fit the model or each other.
        DtypeError: Values are not real numbers.
    """
    source = source_of(data, name)
    checks = Checks(model, losses, name, columns)
    if source.in_memory:
        checks.metrics, checks.fingerprinted = metrics, fingerprinted
    return source.with_checks(checks, sampling)


@contextmanager
def settling(model: Model, source: Source, preprocess: FittedPreprocess | None) -> Iterator[None]:
    """Give a model its Preprocess, and take the numbers of inputs that it leaves open from the data.

    An error leaves the model as it was.
    """
    with unsettling(model):
        if model.list_unsettled():
            _settle(model, source, preprocess)
        if preprocess is not model.preprocess:
            model.preprocess = preprocess
        yield


@contextmanager
def unsettling(model: Model) -> Iterator[None]:
    """At an error, take back the Preprocess and the numbers of inputs that a model did not have before."""
    layers = model.list_unsettled()
    before = None if layers else model._built().columns
    try:
        yield
    except BaseException:
        if before is None:
            model.unsettle(layers)
        else:
            model._built().columns = before
        raise


def _settle(model: Model, source: Source, preprocess: FittedPreprocess | None) -> None:
    name = f"{source.name}: argument 'x'"
    if preprocess is None:
        x = dict(first) if isinstance(first := source.first[0], Mapping) else first
        shapes = map_leaves(lambda leaf: leaf.shape if hasattr(leaf, "shape") else real_array(leaf, name).shape, x)
    else:
        shapes = map_leaves(lambda shape: (1, *shape), preprocess.shape)
        model.tell_numbers(preprocess.numbers)
    require_samples(shapes, model, name)
    if any(0 in shape[1:] for shape in leaves(shapes)):
        raise ShapeError(f"must not have an empty axis; got {format_shape(shapes)}", name=name)
    model.settle(map_leaves(lambda shape: shape[1:], shapes))


class Checks:
    """The checks of some data: each part is checked by itself, and all must have one form.

    Attributes:
        columns: Those of the tables x and y that all parts must have; the model's own until one was checked.
        metrics: The metrics whose targets are checked too.
        fingerprinted: Whether the fingerprints of the arrays of x are found, in the pass that checks their numbers.
        digests: These fingerprints.
    """

    def __init__(
        self, model: Model, losses: tuple[Loss | Figure, ...], name: str, columns: Columns = NO_COLUMNS
    ) -> None:
        """Remember what takes the data; see ``prepare``."""
        self.model, self.losses, self.name, self.columns = model, losses, name, columns
        self.metrics: Iterable[Metric | Loss] = ()
        self.fingerprinted = False
        self.digests: list[str] = []
        self._form: Any = None

    @property
    def input_shape(self) -> Any:
        """The shape of a sample, as far as the model knows it."""
        return self.model.input_shape

    def __call__(self, triple: Part, where: str = "", start: int = 0) -> Batch:
        """Return x, y and weight as the model and the loss take them.

        Args:
            triple: The part.
            where: How messages name it; "" is all of the data.
            start: The number of its first row.

        Raises:
            DataError: It holds something that no model can learn from, or has another form than the first part.
        """
        name = f"{self.name}: {where}" if where else self.name
        x, y = self._transform(triple[0], triple[1], start)
        with _counting_from(start):
            batch = self._check_arrays(x, y, triple[2], name)
        form = (*map(sample_shape, batch[:2]), batch[2] is not None)
        if self._form is None:  # that of the first part is that of all
            self._form, self.columns = form, Columns(column_names(x), column_names(y), shape=form[0])
        elif form != self._form:
            got, before = (
                f"x {format_shape(of_rows(x))}, y {format_shape(of_rows(y))}, {'weights' if weighted else 'no weights'}"
                for x, y, weighted in (form, self._form)
            )
            raise DataError(
                f"must return one form, and weights for all rows or for none; got {got}; before {before}", name=name
            )
        return batch

    def _transform(self, x: Any, y: Any, start: int) -> tuple[Any, Any]:
        """Return x and y as the model and the loss take them; for several outputs the columns of y by their names."""
        model, name = self.model, self.name
        targets: tuple[str, ...] = ()
        if model.preprocess is not None:
            x = model.preprocess.transform(x, model.dtype, name=name, start=start)
            targets = model.preprocess.targets  # without steps for them, y stays as it is
            y = model.preprocess.transform_target(y, name=name, start=start) if targets else y
        if isinstance(self.losses[0], OutputLosses):
            if is_frame(y):
                frame = Frame(y, f"{name}: argument 'y'")
                y = {label: frame.column(label) for label in frame.names}
            elif targets and not isinstance(y, Mapping):
                y = dict(zip(targets, np.reshape(y, (len(y), -1)).T, strict=True))
        return x, y

    def _check_arrays(self, x: Any, y: Any, weight: Any, name: str) -> Batch:
        """Return x, y and weight as arrays that fit the model and the loss; see ``prepare`` and ``check_rows``."""
        model, source, of_y = self.model, y, f"{name}: argument 'y'"
        x = check_rows(x, model, name, self.columns.inputs, self._sum_and_fingerprint if self.fingerprinted else None)
        rows = rows_in(x)
        if rows == 0:
            raise DataError(f"must have at least one row; got shape {_format_shapes(x)}", name=f"{name}: argument 'x'")
        if known := self.columns.targets or model.target_columns:
            model.require_columns(y, of_y, known)
        y = real_tree(y, of_y)
        for array in leaves(y):
            if array.ndim == 0 or len(array) != rows:
                got = f"{_format_shapes(x)} and {_format_shapes(y)}"
                raise ShapeError(f"{name}: arguments 'x' and 'y' must have the same number of rows; got shapes {got}")
        sample = model.infer_shape(sample_shape(x))
        sample = sample if is_known(sample) else sample_shape(model.output(take(x, slice(1)))[1])
        shape = map_leaves(lambda sizes: (rows, *sizes), sample)
        forms = [loss.form_targets(y, shape, model.dtype, of_y, source) for loss in self.losses]
        y = forms[0]  # that of the loss which is trained on
        if weight is not None:
            weight = require_weights(weight, rows, f"{name}: argument 'weight'", model.dtype)
        self._require_metrics(y, weight, shape, of_y)
        return x, y, weight

    def _sum_and_fingerprint(self, array: Array) -> float:
        """Return the sum of an array, and keep its fingerprint, which is found in the same pass over the numbers."""
        text, total = sum_and_fingerprint(array)
        self.digests.append(text)
        return total

    def _require_metrics(self, y: Any, weight: Any, shape: Any, name: str) -> None:
        """Check that metrics take the targets; a loss has checked them itself."""
        metrics = [metric for metric in self.metrics if isinstance(metric, Metric)]
        target = y if self.model.preprocess is None or not metrics else self.model.preprocess.inverse(y, targets=True)
        for metric in metrics:
            with within(*name.split(": ")):
                metric.require_targets(target, weight, shape)


@contextmanager
def _counting_from(start: int) -> Iterator[None]:
    """Say in errors which row of the data the first row of a part is, if it is not the first one."""
    try:
        yield
    except DataError as error:
        raise error.advise(f"rows count from row {start} of the data" if start else None) from None


def _format_shapes(tree: Tree) -> str:
    """Return the shapes of arrays, for a message."""
    return format_shape(map_leaves(np.shape, tree))


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
    advice = model.advice(shape[1:])
    if len(shape) == 1:
        advice = "; one feature is x.reshape(-1, 1), one sample x[None]"
    elif any(model.input_shape) and model.takes(shape):
        advice = f"; one sample is x[None]{advice and f'; for more, {advice[2:]}'}"
    expected = format_shape(("rows", *model.input_shape))
    raise ShapeError(f"must have the shape {expected}; got {shape}{advice}", name=name)


def check_rows(
    x: Any, model: Model, name: str, known: tuple[str, ...] | None = None, total: Callable[[Array], float] | None = None
) -> Any:
    """Return x as rows of the model's dtype, finite and of its input shape: an array, or a dict of arrays by name.

    ``total`` returns a number that is finite only if all of an array are, from a pass that the caller needs anyway.

    Raises:
        ShapeError: x is not a batch of the model's samples.
        DataError: A value is not finite; or a frame's columns are not those that the model was fitted with.
    """
    where = f"{name}: argument 'x'"
    model.require_columns(x, where, known)
    x = dict(x) if isinstance(x, Mapping) else x
    array = real_tree(x, where, model.dtype)
    limits, sources = _limits(array, model, where), flatten(x, where)
    rows_in(array, where)
    for leaf, values in flatten(array, where).items():
        if total is None or not math.isfinite(total(values)):
            require_finite(values, leaf, sources[leaf])
        if limits is not None:
            require_ids(values, limits[leaf], leaf, sources[leaf])
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
    key = tuple(flatten(sample).items()) if isinstance(sample, dict) else sample
    return rows * int(share(key, lambda: max(_products(model, sample), default=0), model._built().products))


def _products(model: Any, sample: Any) -> Iterator[int]:
    """Give the multiply-adds of one sample with each matrix or kernel, as far as shapes are known."""
    if hasattr(type(model), "cardinality"):  # a layer; one with ids looks up
        for weights in model.layout().values() if model.cardinality is None else ():
            for shape in leaves(sample) if len(weights) > 1 else ():
                axes = shape[:-1] if len(weights) == 2 else shape[1:]
                yield math.prod(weights) * math.prod(axis for axis in axes if isinstance(axis, int))
        return
    parts: Mapping[str, Model] = getattr(model, "parts", {})
    for name, child in parts.items():
        yield from _products(child, sample[name] if isinstance(sample, dict) and name in sample else sample)
        if model.chain:
            try:
                sample = child.infer_shape(sample)
            except FrameworkError:
                return


def predict_rows(model: Model, x: Any, name: str, output: Callable[[Any], Any] | None = None, *, start: int = 0) -> Any:
    """Return the predictions for rows of x in the unit of the target; see ``Model.predict``.

    ``output`` gives new arrays of the model's outputs for a batch of checked rows; None is NumPy. ``start`` is the
    number of the first row, for messages.
    """
    preprocess = model.preprocess
    outputs = []
    for rows in _inputs(model, x, name, start):
        count = rows_in(rows)
        work = multiply_adds(model, min(count, EVALUATION_ROWS), sample_shape(rows))
        with _AS_IS if work <= SMALL else limit_threads(work):
            if output is not None:
                outputs.append(output(rows))
                continue
            workspace = model.take_workspace(count)
            for first in range(0, count, EVALUATION_ROWS) or [0]:  # of no rows, one empty batch
                with np.errstate(all="ignore"):
                    _, a = model.output(take(rows, slice(first, first + EVALUATION_ROWS)), workspace)
                outputs.append(map_leaves(lambda leaf: leaf.copy(), a))
            model.keep_workspace(workspace, count)
    whole = outputs[0] if len(outputs) == 1 else map_leaves(lambda *parts: np.concatenate(parts), *outputs)
    return whole if preprocess is None else preprocess.inverse(whole)


def _inputs(model: Model, x: Any, name: str, start: int) -> Iterator[Any]:
    """Give the rows of x as the model takes them, in blocks where x is a Dataset or is transformed."""
    try:
        for first, rows in _in_blocks(x, start):
            if model.preprocess is None:
                with _counting_from(first):
                    block = check_rows(rows, model, name)
                yield block
            else:
                for block in model.preprocess.blocks(rows, model.dtype, name, first):
                    yield check_rows(block, model, name)
    except DataError as error:
        raise explain_error(error, x) from None


def _in_blocks(x: Any, start: int) -> Iterator[tuple[int, Any]]:
    """Give the rows of a Dataset in blocks, without targets, after the number of the first; other data as a whole."""
    if not (hasattr(x, "read") and hasattr(x, "__len__")):
        yield start, x
        return
    for first in range(0, len(x), BLOCK_ROWS) or [0]:
        stop = min(first + BLOCK_ROWS, len(x))
        yield start + first, x.frame(first, stop) if hasattr(x, "frame") else x.read(first, stop)[0]


def classify_rows(model: Model, x: Any, name: str) -> Any:
    """Return the likeliest class of each row; see ``Model.classify``."""
    scores = predict_rows(model, x, name)
    if not isinstance(scores, dict):
        only = classes_of(model)
        return _name_classes(places_of(scores, model.output_activation, only, name), only)
    classes = {key: levels for key in scores if (levels := classes_of(model, key)) is not None}
    if not classes:
        raise SettingsError(
            f"{name}: the model must have one output; it has {', '.join(scores)}: take the classes of one, as "
            f"Accuracy().classes(model.predict(x)[{next(iter(scores))!r}])"
        )
    activation = model.output_activation
    return {
        key: _name_classes(places_of(scores[key], activation[key], levels, f"{name}: output {key!r}"), levels)
        for key, levels in classes.items()
    }


def classes_of(model: Model, output: str | None = None) -> tuple[Any, ...] | None:
    """Return the classes of an output as the target has them, if it has some; None is the output of a model of one."""
    known = {} if model.preprocess is None else model.preprocess.classes
    return next(iter(known.values()), None) if output is None else known.get(output)


def _name_classes(places: Array, classes: tuple[Any, ...] | None) -> Array:
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
        scores: What ``predict_rows`` gives for one output.
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
        raise ShapeError(f"the target has {len(classes)} classes, and the model tells {count} apart", where=name)
    return places
