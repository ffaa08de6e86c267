"""export_python: a model as a Python file that needs NumPy alone, and shows the network's formula."""

from __future__ import annotations

import base64
import builtins
import io
import itertools
import json
import keyword
import math
import os
import re
import textwrap
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError
from framework.export.source import HELPER_NAMES, HELPERS, Formula, Lines, helpers_in, quoted
from framework.export.table_source import TABLE_HELPERS, TableSource
from framework.export.whole import OnSymbols, numbers_of, sample_of, without_graph
from framework.files import write_whole
from framework.graph.graph import KINDS
from framework.graph.lower import lower
from framework.graph.node import Node, ordered
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import ROWS, trace
from framework.models import Layer, Model
from framework.models.affine import Neuron
from framework.models.rows import scores_of
from framework.models.sequential import Sequential
from framework.settings.component import belongs_to
from framework.settings.messages import worded
from framework.shapes import of_rows, shown
from framework.trees import flatten, leaves, map_leaves, names, sample_shape

_SMALL = 64
"""Arrays of up to this many numbers stand in the file as they are; larger ones in a blob at its end."""

_TAKEN = {"np", "base64", "io", "x", "rows", "real", "table", "predict", "network", "transform", "classify"}
_TAKEN |= {"datetime", "ZoneInfo", *keyword.kwlist, *dir(builtins), *HELPER_NAMES, *TABLE_HELPERS}


@worded
def export_python(model: Model, path: str | os.PathLike[str], *, shape: Any = None, dates: Sequence[str] = ()) -> None:
    """Write a model as a Python file with one function, ``predict(x)``, that needs NumPy alone.

    The function is the formula of the network, layer after layer, in NumPy. It gives the bits of ``model(x)`` for a
    batch x, with the same NumPy on the same machine, because it makes the same calls in the same order. Small
    parameters stand in the file as numbers, larger ones as text at its end. A class with an ``apply`` of its own is
    written from the graph of it, and its last bits may differ.

    A model with a ``preprocess`` gives ``predict(table)`` in place of it, and ``classify(table)`` where that of the
    model gives classes. A table is a dict of columns by name, or a list of records. They give what the methods of the
    model give.

    Args:
        model: The model.
        path: The file; ``.py`` is the usual ending.
        shape: The shape of a sample, a dict of shapes by name for several inputs; None is that of the last ``fit``, or
            of the model where it leaves no size open.
        dates: How texts of dates in a table are written that are not ISO 8601, as for ``CSV``: ``["%m/%d/%Y"]``.

    Raises:
        SettingsError: A formula, or an ``apply`` of a class of yours, has no graph; names the layer. Or a step of the
            Preprocess has no source; names the column. Or the file cannot be written.
        UsageError: A number of inputs is not known yet.

    Example:
        >>> from framework import Dense, ReLU, Sequential
        >>> model = Sequential(Dense(2, 3, ReLU()), Dense(3, 1))
        >>> export_python(model, "network.py")
        >>> import runpy
        >>> predict = runpy.run_path("network.py")["predict"]
        >>> bool((predict([[1.0, 2.0]]) == model([[1.0, 2.0]])).all())
        True
    """
    write_whole(path, _File(model, sample_of(model, shape, "export_python"), dates).source())


class _File:
    """Writes the file of one model."""

    def __init__(self, model: Model, shape: Any, dates: Sequence[str]) -> None:
        self.model, self.shape, self.dates = model, shape, dates
        self.numbers: dict[str, Array] = {}  # the parameters, by their names in the file
        self.stored: dict[tuple[str, str], str] = {}  # these names, by those in the model and its place
        self.lines, self.table = Lines(_TAKEN), Lines([])

    def source(self) -> str:
        """Return the source of the file."""
        x = self._inputs()
        start = len(self.lines.lines)
        output = self._through(self.model, x, self.shape, "")
        given = set(leaves(x))
        output = map_leaves(lambda name: f"np.array({name})" if name in given else name, output)
        self.lines.line("")
        self.lines.line(f"return {_shown(output)}")
        inputs, formula = self.lines.lines[:start], self.lines.lines[start:]
        if any(re.search(r"\brows\b", line) for line in formula):
            inputs.append(f"    rows = len({leaves(x)[0]})")
        body = "\n".join([*inputs, *formula])
        self.numbers |= self.lines.constants
        gives, takes = (quoted(shown(of_rows(part))) for part in (self.model.shape_after(self.shape), self.shape))
        said = f'"""Return the outputs, {gives},\n    for a batch x, {takes}, in {self.model.dtype}.\n    """'
        functions = [f"def predict(x):\n    {said}\n{body}\n"]
        if self.model.preprocess is not None:
            functions = [*self._table(), functions[0].replace("def predict(", "def network(", 1)]
        helpers = helpers_in("\n".join(functions), HELPERS | TABLE_HELPERS)
        large = {name: value for name, value in self.numbers.items() if value.size > _SMALL}
        small = {name: value for name, value in self.numbers.items() if value.size <= _SMALL}
        made = f"written by export_python of framework {metadata.version('framework')} with NumPy {np.__version__}"
        parts = [
            f'"""A {type(self.model).__name__}, {made}.\n\n{quoted(self.model.summary())}\n"""\n',
            "import base64\nimport io\n" if large else "",
            "from datetime import datetime\nfrom zoneinfo import ZoneInfo\n" if "date_of" in helpers else "",
            "import numpy as np\n\n",
            "\n\n".join(functions),
            *(f"\n{helpers[name]}" for name in sorted(helpers)),
            f"\n\n# parameters\n{_literals(small)}" if small else "",
            f"\n\n{_blob(large)}" if large else "",
        ]
        return "\n".join(part for part in parts[:4] if part) + "\n" + "".join(parts[4:])

    def _table(self) -> list[str]:
        """Return the functions that take a table, and keep the arrays that they read."""
        preprocess = self.model.preprocess
        assert preprocess is not None
        self.table = Lines({*_TAKEN, *self.numbers})
        source = TableSource(preprocess, self.model.dtype, self.table, self.dates)
        transform = source.transform()
        shape = self.model.shape_after(self.shape)
        outputs = shape if isinstance(shape, dict) else math.prod(shape)
        scores = "" if isinstance(shape, dict) else scores_of(self.model.output_activation, shape)
        predict = source.predict(outputs, scores)
        self.numbers |= self.table.constants
        return [predict, transform]

    def _inputs(self) -> Any:
        """Write the lines that take x, and return the names of its leaves."""
        dtype = self.model.dtype
        if self.model.columns and self.model.preprocess is None and not isinstance(self.shape, dict):
            self.lines.line(f"require_columns(x, {[*self.model.columns]})")

        def taken(shape: Any, limit: Any, text: str, wanted: str) -> Any:
            if isinstance(shape, dict):
                return {key: taken(shape[key], limit[key], f"{text}[{key!r}]", key) for key in shape}
            name = "x" if text == "x" else self.lines.name(_identifier(wanted))
            self.lines.line(f"{name} = np.ascontiguousarray({text}, np.{dtype})")
            self.lines.line(f"if {name}.shape[1:] != {shape}:")
            message = json.dumps(f"{text} must have the shape {shown(of_rows(shape))}; got ", ensure_ascii=False)[:-1]
            message = message.replace("{", "{{").replace("}", "}}")
            self.lines.line(f'    raise ValueError(f{message}{{{name}.shape}}")')
            counts = np.unique(limit)
            if len(counts) == 1 and np.isfinite(counts[0]):
                self.lines.line(f"require_ids({name}, {int(counts[0])})")
            return name

        return taken(self.shape, self.model.cardinalities(self.shape), "x", "x")

    def _through(self, model: Model, x: Any, shape: Any, path: str) -> Any:
        """Write the lines of a model, and return the names of its outputs.

        Args:
            model: The model.
            x: The names of its inputs.
            shape: The shape of a sample of them.
            path: The place of the model, as ``"0.block."``.
        """
        place = path.removesuffix(".")
        if isinstance(model, Layer):
            return self._layer(model, x, shape, place)
        if isinstance(model, Sequential):
            for name, part in model.parts.items():
                x, shape = self._through(part, x, shape, f"{path}{name}."), part.infer_shape(shape)
            return x
        return self._traced(model, x, shape, path)

    def _layer(self, layer: Layer, x: Any, shape: Any, place: str) -> Any:
        label = f"{place} {layer._label}".strip()
        if not (layer._derives and (belongs_to(type(layer), "apply", "formula") or type(layer) is Neuron)):
            return self._traced(layer, x, shape, place and f"{place}.")
        self._comment(place, repr(layer) if len(repr(layer)) <= 100 else type(layer).__name__)
        program = layer.program(shape, training=False)
        inputs, results = program.prediction
        texts = dict(zip(program.leaves, leaves(x), strict=True))
        texts |= {key: self._number(key, value, place) for key, value in numbers_of(layer).items()}
        given = {node: texts[key] for key, node in inputs.items()}
        graph = next(iter(inputs.values())).graph
        try:
            formula = Formula(self.lines, graph, given, results.values())
            return formula.write(results["output"], results.get("h"), *(_identifier(f"{a}{place}") for a in "ah"))
        except SettingsError as error:
            raise SettingsError(f"export_python: layer {label}: {error}") from None

    def _number(self, key: str, value: Array, place: str) -> str:
        """Store a parameter or buffer of the model at a place, and return its name in the file."""
        if (key, place) not in self.stored:
            name = self.stored[key, place] = self.lines.name(_identifier(f"{key}_{place}" if place else key))
            self.numbers[name] = np.asarray(value)
        return self.stored[key, place]

    def _traced(self, model: Model, x: Any, shape: Any, path: str) -> Any:
        """Write the lines of a model with an ``apply`` of its own, which is called on symbols.

        Each call of a child ends what is written so far; the child's own lines come next.
        """
        place, numbers, given = path.removesuffix("."), numbers_of(model), flatten(shape)
        label = f"{place} {getattr(model, '_label', type(model).__name__)}".strip()
        record = _Calls(model)
        shapes = {leaf: (ROWS, *size) for leaf, size in given.items()} | {k: np.shape(v) for k, v in numbers.items()}
        kinds = {key: KINDS.get(value.dtype.kind, "f") for key, value in numbers.items()}

        def formula(**symbols: Symbol) -> Any:
            record.children.clear()
            values: dict[str, Any] = {key: symbols[key] for key in numbers}
            record.output = model.apply(map_leaves(symbols.__getitem__, names(shape)), values, record)
            return tuple(leaves({"": record.output, **{name: call.x for name, call in record.children.items()}}))

        try:
            traced = trace(formula, shapes, model.dtype, kinds=kinds)
        except SettingsError as error:
            raise SettingsError(f"export_python: layer {label}: {error}") from None
        except Exception as error:  # noqa: BLE001 (whatever an apply that was written for arrays raises on symbols)
            raise SettingsError(f"export_python: layer {label} has no graph: {without_graph(error)}") from None
        inputs = {node.name: node for node in ordered(traced.outputs) if node.op == "input"}
        lowered = lower([*traced.outputs, *inputs.values()], inputs.values(), exact=True)
        nodes = dict(zip(inputs, lowered[len(traced.outputs) :], strict=True))
        texts = dict(zip(given, leaves(x), strict=True))
        texts |= {key: self._number(key, value, place) for key, value in numbers.items() if key in nodes}
        known = {nodes[name]: text for name, text in texts.items() if name in nodes}
        results = iter(lowered)

        def written(tree: Any, name: str) -> Any:
            """Write as many of the results as the tree has leaves; return it with their names."""
            start = len(self.lines.lines)
            found = map_leaves(lambda _: self._result(next(results), known, name), tree)
            if self.lines.lines[start:]:
                self._comment(place, type(model).__name__, start)
            return found

        output = [*itertools.islice(results, len(leaves(record.output)))]
        for call in record.children.values():
            x = written(call.x, _identifier(f"x_{path}{call.name}"))
            found = self._through(call.child, x, call.shape, f"{path}{call.name}.")
            known |= {nodes[n]: text for n, text in zip(call.outputs, leaves(found), strict=True) if n in nodes}
        results = iter(output)
        return written(record.output, _identifier(f"a{place}"))

    def _result(self, node: Any, known: dict[Node, str], name: str) -> str:
        """Write the lines of a node, unless its name is known, and return its name."""
        if node not in known:
            known[node] = Formula(self.lines, node.graph, known, [node], exact=True).write(node, None, name, name)
        return known[node]

    def _comment(self, place: str, text: str, start: int | None = None) -> None:
        """Write an empty line and a comment, at the end or before the line ``start``."""
        self.lines.lines, rest = self.lines.lines[:start], self.lines.lines[start:] if start is not None else []
        self.lines.line("")
        self.lines.comment(f"{place} {text}")
        self.lines.lines += rest


class _Call(NamedTuple):
    """A call of a child in ``apply``.

    Attributes:
        name: The child's name.
        child: The child.
        x: What it is called on, as symbols.
        shape: The shape of a sample of x.
        outputs: The names of the inputs of the graph that stand for its outputs.
    """

    name: str
    child: Model
    x: Any
    shape: Any
    outputs: list[str]


class _Calls(OnSymbols):
    """A record in which the outputs of children are inputs of the graph."""

    __slots__ = ("children", "output")

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.children: dict[str, _Call] = {}
        self.output: Any = None

    def called(self, name: str, child: Model, x: Any) -> Any:
        shape, key = sample_shape(x), f"<{len(self.children)}>"
        gives, graph = child.shape_after(shape), value_of(leaves(x)[0]).graph
        if any(len(leaf) != graph.rows for leaf in leaves(x)):
            raise SettingsError("it calls a child on other rows than those of x; use export_onnx")
        outputs = {leaf: graph.input(f"{key}{leaf}", (graph.rows, *size)) for leaf, size in flatten(gives).items()}
        self.children[key] = _Call(name, child, x, shape, [node.name for node in outputs.values()])
        return map_leaves(lambda leaf: Symbol(outputs[leaf]), names(gives))


def _literals(arrays: dict[str, Array]) -> str:
    """Return small arrays as source, from which the same bits come back."""
    found = []
    for name, value in arrays.items():
        numbers = re.sub(r"\b(nan|inf)\b", r"np.\1", repr(value.tolist()))
        dtype = f"np.{value.dtype.name.replace('bool', 'bool_')}"
        if value.ndim == 2 and len(value) > 1:  # rows begin on lines of their own
            rows = "\n".join(f"{_wrapped(row, 8)}," for row in re.findall(r"\[[^\[\]]*\]", numbers))
            found.append(f"{name} = np.array(\n    [\n{rows}\n    ],\n    {dtype},\n)")
        elif len(numbers) > 80:
            found.append(f"{name} = np.array(\n{_wrapped(numbers, 4)},\n    {dtype},\n)")
        else:
            found.append(f"{name} = np.array({numbers}, {dtype})")
    return "\n".join(found) + "\n"


def _wrapped(text: str, indent: int) -> str:
    """Return a long text in several lines."""
    first, rest = " " * indent, " " * (indent + 1)
    return textwrap.fill(
        text, 118, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _blob(arrays: dict[str, Array]) -> str:
    """Return larger arrays as text, and the lines that read it."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    text = "\n".join(textwrap.wrap(base64.b64encode(file.getvalue()).decode(), 118))
    lines = "\n".join(f'{name} = _arrays["{name}"]' for name in arrays)
    return (
        f'# larger parameters: a compressed npz file as text\n_TEXT = """\n{text}\n"""\n'
        f"_arrays = np.load(io.BytesIO(base64.b64decode(_TEXT)))\n{lines}\n"
    )


def _identifier(text: str) -> str:
    """Return a text as a name of Python."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() or name.startswith("_") else name


def _shown(tree: Any) -> str:
    if not isinstance(tree, dict):
        return str(tree)
    return f"{{{', '.join(f'{key!r}: {_shown(part)}' for key, part in tree.items())}}}"
