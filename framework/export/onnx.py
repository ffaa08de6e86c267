"""export_onnx: a model as an ONNX file, lowered from its graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framework.arrays import class_names
from framework.errors import SettingsError
from framework.export.columns import write_columns, write_inverse
from framework.export.file import File
from framework.export.whole import model_hint, whole
from framework.export.writer import Writer
from framework.extras import required
from framework.files import write_whole
from framework.models import Model
from framework.models.rows import classes_of, scores_of
from framework.settings.messages import brief
from framework.trees import leaves


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    shape: Any = None,
    dtype: str | None = None,
    classes: Sequence[Any] | None = None,
) -> None:
    """Write a model as an ONNX file, which ONNX Runtime and other programs run without Python or this package.

    The graph computes what ``model(x)`` computes, for any number of rows. Dropout does nothing there, and BatchNorm
    uses its running numbers. The file is written whole, or not at all.

    A model with a ``preprocess`` takes the columns of a table, and gives what ``model.predict(table)`` gives. Each
    column is an input, (rows,): float64 for numbers and booleans, where NaN is missing; text for text and categories,
    where "" is missing; int64 for dates, the microseconds since 1970 on the clock of their time zone. Where ``predict``
    raises an error for a missing value, the file gives NaN.

    Args:
        model: The model.
        path: The file; ``.onnx`` is the usual ending.
        shape: The shape of a sample, where the model leaves sizes open, as the steps of a recurrent layer; a dict of
            shapes by name for several inputs.
        dtype: "float32" or "float64"; None is the model's.
        classes: The names of the classes, for a further output ``label``: the likeliest class of each row. The classes
            of a Preprocess are known already. One output has a label if its activation is from 0 to 1, as Sigmoid's.

    Raises:
        SettingsError: Something in the model has no form in ONNX; names the layer or column and the operation. Or an
            argument does not fit the model, or the file cannot be written.
        UsageError: onnx is not installed, or a number of inputs is not known yet.

    Example:
        >>> from framework import Dense, ReLU, Sequential, Softmax
        >>> model = Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax()))
        >>> export_onnx(model, "model.onnx", classes=["red", "green", "blue"])

    Source:
        The ONNX specification, IR version 10, opset 21.
    """
    required("onnx", "export_onnx")
    if not isinstance(model, Model):
        raise SettingsError(f"export_onnx: argument 'model' must be a model; got {brief(model)}{model_hint(model)}")
    if dtype not in (None, "float32", "float64"):
        raise SettingsError(f"export_onnx: argument 'dtype' must be 'float32' or 'float64'; got {dtype!r}")
    write_whole(path, _written(model, shape, dtype or model.dtype, classes).SerializeToString())


def _written(model: Model, shape: Any, dtype: str, classes: Sequence[Any] | None) -> Any:
    """Return the ONNX model."""
    found = whole(model, shape, dtype, name="export_onnx")
    preprocess = model.preprocess
    file = File(required("onnx", "export_onnx"))
    writer = Writer(file, found.graph, found.numbers, found.layer_of)
    if preprocess is None:
        names = {
            key: file.input(key, writer.dtype(node), writer.sizes(node.shape)) for key, node in found.inputs.items()
        }
        if model.columns and len(names) == 1:
            file.note("columns", dict.fromkeys(model.columns, "number"))  # in the order of x
    else:
        names = write_columns(file, preprocess, dtype)
        file.note("columns", dict(zip(preprocess.inputs, preprocess.kinds, strict=True)))
        file.note("zones", dict(preprocess.zones))
    for key, node in found.inputs.items():
        writer.name(node, names[key])
    values = dict(zip(found.outputs, writer.write(found.outputs.values()), strict=True))
    shapes = {key: node.shape[1:] for key, node in found.outputs.items()}
    if preprocess is not None:
        values = write_inverse(file, preprocess, {key: (values[key], shapes[key]) for key in values}, dtype)
    labels = _classes(model, shapes, classes)
    names = _output_names(model, shapes, labels)
    for key, value in values.items():
        file.output(names[key], value, dtype, ["rows", *shapes[key]])
    for key, levels in labels.items():
        file.layer = label = "label" if len(values) == 1 else f"{key} label"
        _write_label(file, label, values[key], shapes[key], levels, dtype)
    if labels:
        file.note("classes", labels if len(values) > 1 else next(iter(labels.values())))
    return file.model()


def _output_names(model: Model, shapes: Mapping[str, tuple[int, ...]], labels: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each output in the file."""
    if len(shapes) > 1:
        return {key: key for key in shapes}
    ((key, shape),) = shapes.items()
    (activation,) = leaves(model.output_activation)
    targets = () if model.preprocess is None else model.preprocess.targets
    scores = scores_of(activation, shape) if labels else ""
    return {key: scores or (targets[0] if len(targets) == 1 else "output")}


def _classes(
    model: Model, shapes: Mapping[str, tuple[int, ...]], classes: Sequence[Any] | None
) -> dict[str, tuple[Any, ...]]:
    """Return the classes of each output that chooses one, by name."""
    outputs = [*shapes]
    ends = zip(shapes.items(), leaves(model.output_activation), strict=False)  # a user's model may not say its own
    choosing = [key for (key, shape), activation in ends if scores_of(activation, shape)]
    if classes is not None and model.preprocess is not None and model.preprocess.classes:
        raise SettingsError("export_onnx: leave argument 'classes' out: the model's Preprocess has the classes")
    if classes is not None and len(outputs) > 1:
        raise SettingsError(
            f"export_onnx: argument 'classes' is for a model of one output; this one has {', '.join(outputs)}"
        )
    if classes is not None and not choosing:
        raise SettingsError(
            "export_onnx: argument 'classes' is for a model that ends in an activation from 0 to 1, such as Sigmoid, "
            f"or has an output for each class; this one ends in {brief(model.output_activation)}"
        )
    found = {}
    for key in choosing:
        known, shape = classes_of(model, key if len(outputs) > 1 else None), shapes[key]
        if classes is not None or known is not None:
            count = 2 if shape in ((), (1,)) else shape[0] if len(shape) == 1 else 0
            found[key] = class_names(classes, known, count, "export_onnx")
    return found


def _write_label(
    file: File, label: str, scores: str, shape: tuple[int, ...], classes: tuple[Any, ...], dtype: str
) -> None:
    """Write the likeliest class of each row, as ``model.classify`` finds it; no text where the scores are NaN."""
    if shape in ((), (1,)):
        scores = file.op("Reshape", scores, file.integers([-1]))
        place = file.cast(file.op("Greater", scores, file.number(0.5, dtype)), "int64")
    else:
        place = file.op("ArgMax", scores, axis=1, keepdims=0)
        scores = file.op("ReduceSum", scores, file.integers([1]), keepdims=0)
    names = np.array(classes)
    names = names if names.dtype.kind in "bif" else names.astype(object)
    found = file.op("Gather", file.array(names), place)
    if names.dtype == object:
        found = file.op("Where", file.op("IsNaN", scores), file.array([""], object), found)
    file.output(label, found, names.dtype, ["rows"])
