"""export_python: a model as a Python file that needs NumPy alone, and shows the network's formula."""

from __future__ import annotations

import base64
import builtins
import io
import json
import keyword
import math
import os
import re
import textwrap
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import SettingsError
from framework.base.files import write_whole
from framework.base.settings.messages import word_errors
from framework.base.shapes import format_shape, of_rows
from framework.base.trees import leaves, map_leaves
from framework.export.source import HELPER_NAMES, HELPERS, Lines, Readable, docstring_text, helpers_in
from framework.export.table_source import TABLE_HELPERS, TableSource
from framework.export.whole import graph_of, scope_of
from framework.graph.lower import Lowering
from framework.graph.node import Node, order_nodes
from framework.graph.step import ModelGraph
from framework.models import Layer, Model
from framework.models.rows import scores_of

_SMALL = 64
"""Arrays of up to this many numbers stand in the file as they are; larger ones in a blob at its end."""

_TAKEN = {"np", "base64", "io", "x", "rows", "real", "table", "predict", "network", "transform", "classify"}
_TAKEN |= {"datetime", "ZoneInfo", *keyword.kwlist, *dir(builtins), *HELPER_NAMES, *TABLE_HELPERS}


@word_errors
def export_python(model: Model, path: str | os.PathLike[str], *, shape: Any = None, dates: Sequence[str] = ()) -> None:
    """Write a model as a Python file with one function, ``predict(x)``, that needs NumPy alone.

    The function is the formula of the network, layer after layer, in NumPy. It gives the bits of ``model(x)`` for a
    batch x, with the same NumPy on the same machine, because it makes the same calls in the same order. Small
    parameters stand in the file as numbers, larger ones as text at its end. A class that writes ``apply_backward`` is
    written from the graph of its ``apply``, and its last bits may differ.

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
    write_whole(path, _File(model, graph_of(model, shape, "export_python"), dates).source())


class _File:
    """Writes the file of one model."""

    def __init__(self, model: Model, graph: ModelGraph, dates: Sequence[str]) -> None:
        self.model, self.graph, self.shape, self.dates = model, graph, graph.shape, dates
        self.numbers: dict[str, Array] = {}  # the parameters, by their names in the file
        self.labels: dict[str, str] = {}  # of the layers, by their comments
        self.lines, self.table = Lines(_TAKEN), Lines([])

    def source(self) -> str:
        """Return the source of the file."""
        x = self._inputs()
        start = len(self.lines.lines)
        output = self._formula(x)
        self.lines.lines += ["", f"    return {_tree_text(output)}"]
        inputs, formula = self.lines.lines[:start], self.lines.lines[start:]
        if any(re.search(r"\brows\b", line) for line in formula):
            inputs.append(f"    rows = len({leaves(x)[0]})")
        body = "\n".join([*inputs, *formula])
        self.numbers |= self.lines.constants
        gives, takes = (
            docstring_text(format_shape(of_rows(shape))) for shape in (self.model.shape_after(self.shape), self.shape)
        )
        said = f'"""Return the outputs, {gives},\n    for a batch x, {takes}, in {self.model.dtype}.\n    """'
        functions = [f"def predict(x):\n    {said}\n{body}\n"]
        if self.model.preprocess is not None:
            functions = [*self._table(), functions[0].replace("def predict(", "def network(", 1)]
        helpers = helpers_in("\n".join(functions), HELPERS | TABLE_HELPERS)
        large = {name: value for name, value in self.numbers.items() if value.size > _SMALL}
        small = {name: value for name, value in self.numbers.items() if value.size <= _SMALL}
        article = "An" if type(self.model).__name__[0] in "AEIOU" else "A"
        made = f"written by export_python of framework {metadata.version('framework')} with NumPy {np.__version__}"
        parts = [
            f'"""{article} {type(self.model).__name__}, {made}.\n\n{docstring_text(self.model.summary())}\n"""\n',
            "import base64\nimport io\n" if large else "",
            "from datetime import datetime\nfrom zoneinfo import ZoneInfo\n" if "date_of" in helpers else "",
            "import numpy as np\n\n",
            "\n\n".join(functions),
            *(f"\n{helpers[name]}" for name in sorted(helpers)),
            f"\n\n# parameters\n{_literals(small)}" if small else "",
            f"\n\n{_blob(large)}" if large else "",
        ]
        return "\n".join(section for section in parts[:4] if section) + "\n" + "".join(parts[4:])

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

        def write_input(shape: Any, limit: Any, text: str, wanted: str) -> Any:
            if isinstance(shape, dict):
                return {key: write_input(shape[key], limit[key], f"{text}[{key!r}]", key) for key in shape}
            name = "x" if text == "x" else self.lines.name(_identifier(wanted))
            self.lines.line(f"{name} = np.ascontiguousarray({text}, np.{dtype})")
            self.lines.line(f"if {name}.shape[1:] != {shape}:")
            message = json.dumps(
                f"{text} must have the shape {format_shape(of_rows(shape))}; got ", ensure_ascii=False
            )[:-1]
            message = message.replace("{", "{{").replace("}", "}}")
            self.lines.line(f'    raise ValueError(f{message}{{{name}.shape}}")')
            counts = np.unique(limit)
            if len(counts) == 1 and np.isfinite(counts[0]):
                self.lines.line(f"require_ids({name}, {int(counts[0])})")
            return name

        return write_input(self.shape, self.model.cardinalities(self.shape), "x", "x")

    def _formula(self, x: Any) -> Any:
        """Write the lines of the network, and return the texts of its outputs; ``x`` are the names of its inputs."""
        graph, values = self.graph, {**self.model.parameters, **self.model.buffers}
        lowering = Lowering(graph.graph)
        lowering.add(graph.inputs)
        results, became = lowering.add(graph.a), lowering.known
        names = {became[node]: name for node, name in zip(graph.x.values(), leaves(x), strict=True)}
        read = {*order_nodes(results)}
        for full, node in graph.numbers.items():
            if became[node] in read:
                path, _, key = full.rpartition(".")
                name = names[became[node]] = self.lines.name(_identifier(f"{key}_{path}" if path else key))
                self.numbers[name] = np.asarray(values[full])
        wanted: dict[Any, str] = {}
        for scope in graph.scopes:
            for node in leaves(scope.output):
                wanted.setdefault(became.get(node), _identifier(f"a{scope.path}"))
                if node in graph.graph.calls:
                    wanted.setdefault(became.get(graph.graph.calls[node].argument), _identifier(f"h{scope.path}"))
        formula = Readable(self.lines, lowering.graph, names, results)
        try:
            texts = formula.write_results(wanted, self._headings(lowering))
        except SettingsError as error:
            raise error.within("export_python", f"layer {self.labels[self.lines.heading]}") from None
        homes = map(formula.lives.home.get, results)  # x itself and views of it are copied
        outputs = iter(
            [f"np.array({text})" if home in names else text for home, text in zip(homes, texts, strict=True)]
        )
        return map_leaves(lambda _: next(outputs), graph.outputs)

    def _headings(self, lowering: Lowering) -> dict[Node, str]:
        """Return the comment that each value of the lowered graph stands under: the layer that it was made in."""
        models, heading = dict(self.model.walk_models()), ""
        made_from = {new: old for old, new in reversed(lowering.known.items()) if isinstance(new, Node)}
        headings = {}
        for node in reversed(lowering.graph.nodes):  # those without an origin of their own belong to the next one
            scope = scope_of(self.graph, made_from[node]) if node in made_from else None
            if scope is not None:
                model = models[scope.path]
                text = repr(model) if isinstance(model, Layer) else ""
                heading = f"{scope.path} {text if 0 < len(text) <= 100 else type(model).__name__}"
                self.labels[heading] = scope.label
            headings[node] = heading
        return headings


def _literals(arrays: dict[str, Array]) -> str:
    """Return small arrays as source, from which the same bits come back."""
    assignments = []
    for name, value in arrays.items():
        numbers = re.sub(r"\b(nan|inf)\b", r"np.\1", repr(value.tolist()))
        dtype = f"np.{value.dtype.name.replace('bool', 'bool_')}"
        if value.ndim == 2 and len(value) > 1:  # rows begin on lines of their own
            rows = "\n".join(f"{_wrap(row, 8)}," for row in re.findall(r"\[[^\[\]]*\]", numbers))
            assignments.append(f"{name} = np.array(\n    [\n{rows}\n    ],\n    {dtype},\n)")
        elif len(numbers) > 80:
            assignments.append(f"{name} = np.array(\n{_wrap(numbers, 4)},\n    {dtype},\n)")
        else:
            assignments.append(f"{name} = np.array({numbers}, {dtype})")
    return "\n".join(assignments) + "\n"


def _wrap(text: str, indent: int) -> str:
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


def _tree_text(tree: Any) -> str:
    if not isinstance(tree, dict):
        return str(tree)
    return f"{{{', '.join(f'{key!r}: {_tree_text(subtree)}' for key, subtree in tree.items())}}}"
