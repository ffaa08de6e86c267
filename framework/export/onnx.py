"""export_onnx: a model as an ONNX file, lowered from its graph."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from framework.base.arrays import class_names
from framework.base.errors import SettingsError, brief
from framework.base.extras import load_module
from framework.base.files import write_whole
from framework.base.settings.component import require_dtype
from framework.base.settings.messages import word_errors
from framework.base.trees import leaves
from framework.export.columns import column_inputs, write_columns, write_inverse
from framework.export.file import File
from framework.export.whole import graph_of, scope_of
from framework.export.writer import Writer
from framework.graph.node import Node
from framework.models import Model
from framework.models.rows import classes_of, scores_of
from framework.preprocessing.categories import Classes


@word_errors
def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    shape: Any = None,
    dtype: str | None = None,
    classes: Iterable[Any] | None = None,
) -> None:
    """Write a model as an ONNX file, which ONNX Runtime and other programs run without Python or this package.

    The graph computes what ``model(x)`` computes, for any number of rows. Dropout does nothing there, and BatchNorm
    uses its running numbers. The file is written whole, or not at all.

    A model with a ``preprocess`` takes the columns of a table, and gives what ``model.predict(table)`` gives. Each
    column is an input, (rows,): float64 for numbers and booleans, where NaN is missing; text for text and categories,
    where "" is missing; int64 for dates, the microseconds since 1970 on the clock of their time zone. The file gives
    NaN for a row that ``predict`` refuses because of a missing or infinite value, or of an unknown level.

    Args:
        model: The model.
        path: The file; ``.onnx`` is the usual ending.
        shape: The shape of a sample, a dict of shapes by name for several inputs; None is that of the last ``fit``, or
            of the model where it leaves no size open.
        dtype: "float32" or "float64"; None is the model's. Predictions in the unit of a target with steps are float64.
        classes: The names of the classes, for a further output ``label``: the likeliest class of each row. The classes
            of a Preprocess are known already. One output has a label if its activation is from 0 to 1, as Sigmoid's.
            Where the scores are NaN, the label is "" of text, NaN of fractions, and the first class of whole numbers
            and booleans.

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
    load_module("onnx", "export_onnx")
    dtype = require_dtype("export_onnx: argument 'dtype'", model.dtype if dtype is None else dtype)
    write_whole(path, _write_model(model, shape, dtype, classes).SerializeToString())


def _write_model(model: Model, shape: Any, dtype: str, classes: Iterable[Any] | None) -> Any:
    """Return the ONNX model."""
    graph, preprocess = graph_of(model, shape, "export_onnx", dtype, ids=True), model.preprocess
    takes = dict(zip(_names(graph.shape, "x"), graph.x.values(), strict=True))
    gives = dict(zip(_names(graph.outputs, "output"), graph.a, strict=True))
    numbers = {**model.parameters, **model.buffers}
    shapes = {key: node.shape[1:] for key, node in gives.items()}
    classes_of_outputs = _classes(model, shapes, classes)
    outputs = _output_names(model, shapes, classes_of_outputs)
    labels = {key: "label" if len(shapes) == 1 else f"{key} label" for key in classes_of_outputs}
    inputs = [*takes] if preprocess is None else column_inputs(preprocess)
    file = File(load_module("onnx", "export_onnx"), _distinct([*inputs, *outputs.values(), *labels.values()]))
    writer = Writer(
        file,
        graph.graph,
        {name: (node, numbers[name]) for name, node in graph.numbers.items()},
        lambda node: getattr(scope_of(graph, node), "label", ""),
    )
    refused = ""
    if preprocess is None:
        names = {key: _input(writer, key, node) for key, node in takes.items()}
        if model.columns and len(names) == 1:
            file.note("columns", dict.fromkeys(model.columns, "number"))  # in the order of x
    else:
        names, refused = write_columns(file, preprocess, dtype)
        file.note("columns", dict(zip(preprocess.inputs, preprocess.kinds, strict=True)))
        file.note("zones", dict(preprocess.zones))
    for key, node in takes.items():
        writer.name(node, names[key])
    values = dict(zip(gives, writer.write(gives.values()), strict=True))
    if refused:
        values = {key: _mask_refused(file, refused, value, len(shapes[key]), dtype) for key, value in values.items()}
    named = {key: (value, shapes[key]) for key, value in values.items()}
    in_unit = {} if preprocess is None else write_inverse(file, preprocess, named)
    for key, value in (values | in_unit).items():
        file.output(outputs[key], value, "float64" if key in in_unit else dtype, ["rows", *shapes[key]])
    for key, levels in classes_of_outputs.items():
        file.layer = labels[key]
        _write_label(file, labels[key], values[key], shapes[key], levels, dtype)
    if classes_of_outputs:
        file.note("classes", classes_of_outputs if len(values) > 1 else next(iter(classes_of_outputs.values())))
    return file.model()


def _names(tree: Any, alone: str) -> list[str]:
    """Return the names of leaves as users know them, in the order of ``leaves``: ``city``; ``a.b`` inside another."""
    if not isinstance(tree, dict):
        return [alone]
    return [f"{key}.{rest}" if rest else key for key, subtree in tree.items() for rest in _names(subtree, "")]


def _distinct(names: list[str]) -> list[str]:
    """Return names, of which no two may be the same, and none empty."""
    if "" in names:
        raise SettingsError(
            "an input or output of the file would have the name ''; give the column a name", where="export_onnx"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SettingsError(
            f"export_onnx: two inputs or outputs of the file would have the name {twice[0]!r}; give the column, or the "
            "input or output of the model, another one"
        )
    return names


def _input(writer: Writer, name: str, node: Node) -> str:
    """Add an input; an id below 0 becomes one that Gather refuses, as it counts from the end otherwise."""
    file = writer.file
    x = file.input(name, writer.dtype(node), writer.sizes(node.shape))
    if node.kind != "i":
        return x
    below = file.op("Less", x, file.number(0, np.int64))
    return file.op("Where", below, file.number(int(np.iinfo(np.int64).max), np.int64), x)


def _mask_refused(file: File, refused: str, value: str, axes: int, dtype: str) -> str:
    """Return the name of a value with NaN in the rows that are refused."""
    refused = file.op("Unsqueeze", refused, file.integers(range(1, 1 + axes))) if axes else refused
    return file.op("Where", refused, file.number(np.nan, dtype), value)


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
    model: Model, shapes: Mapping[str, tuple[int, ...]], classes: Iterable[Any] | None
) -> dict[str, tuple[Any, ...]]:
    """Return the classes of each output that chooses one, by name."""
    outputs = [*shapes]
    ends = zip(shapes.items(), leaves(model.output_activation), strict=False)  # a user's model may not say its own
    choosing = [key for (key, shape), activation in ends if scores_of(activation, shape)]
    if classes is not None and model.preprocess is not None and model.preprocess.classes:
        raise SettingsError("export_onnx: leave argument 'classes' out: the model's Preprocess has the classes")
    if classes is not None and len(outputs) > 1:
        raise SettingsError(
            f"is for a model of one output; this one has {', '.join(outputs)}", name="export_onnx: argument 'classes'"
        )
    if classes is not None and not choosing:
        raise SettingsError(
            "export_onnx: argument 'classes' is for a model that ends in an activation from 0 to 1, such as Sigmoid, "
            f"or has an output for each class; this one ends in {brief(model.output_activation)}"
        )
    levels_by_output = {}
    for key in choosing:
        known, shape = classes_of(model, key if len(outputs) > 1 else None), shapes[key]
        if classes is not None or known is not None:
            count = 2 if shape in ((), (1,)) else shape[0] if len(shape) == 1 else 0
            levels_by_output[key] = _levels(class_names(classes, known, count, "export_onnx"))
    return levels_by_output


def _levels(names: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the names of classes as texts, numbers or booleans of Python."""
    try:
        levels = Classes(names).levels
    except SettingsError:
        levels = ()
    if not levels or np.array(levels).dtype.kind not in "biUf":
        raise SettingsError(
            "export_onnx: argument 'classes' must hold different texts, or whole numbers below 2^63, or fractions, or "
            f"booleans; got {brief(list(names))}"
        )
    return levels


def _write_label(
    file: File, label: str, scores: str, shape: tuple[int, ...], classes: tuple[Any, ...], dtype: str
) -> None:
    """Write the likeliest class of each row, as ``model.classify`` finds it; "" or NaN where the scores are NaN."""
    if shape in ((), (1,)):
        scores = file.op("Reshape", scores, file.integers([-1]))
        index = file.cast(file.op("Greater", scores, file.number(0.5, dtype)), "int64")
    else:
        index = file.op("ArgMax", scores, axis=1, keepdims=0)
        scores = file.op("ReduceSum", scores, file.integers([1]), keepdims=0)
    names = np.array(classes)
    names = names if names.dtype.kind in "bif" else names.astype(object)
    labels = file.op("Gather", file.array(names), index)
    if names.dtype.kind in "Of":
        nothing = np.array(["" if names.dtype == object else np.nan], names.dtype)
        labels = file.op("Where", file.op("IsNaN", scores), file.array(nothing), labels)
    file.output(label, labels, names.dtype, ["rows"])
