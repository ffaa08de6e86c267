"""export_python: a model as a Python file that needs NumPy alone, and shows the network's formula."""

from __future__ import annotations

import base64
import builtins
import io
import keyword
import math
import os
import re
import textwrap
from importlib import metadata
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.errors import SettingsError
from framework.export.source import HELPER_NAMES, Formula, Lines, quoted
from framework.export.table_source import TABLE_HELPER_NAMES, TableSource, table_helper
from framework.export.whole import model_hint, sample_of
from framework.files import write_whole
from framework.models import Layer, Model
from framework.models.affine import Neuron
from framework.models.branches import Heads, Join
from framework.models.rows import scores_of
from framework.models.sequential import Residual, Sequential
from framework.settings.component import belongs_to
from framework.settings.messages import brief
from framework.shapes import of_rows, shown
from framework.trees import leaves, map_leaves

_SMALL = 64
"""Arrays of up to this many numbers stand in the file as they are; larger ones in a blob at its end."""

_TAKEN = {"np", "base64", "io", "x", "rows", "real", "table", "predict", "network", "transform", "classify"}
_TAKEN |= {*keyword.kwlist, *dir(builtins), *HELPER_NAMES, *TABLE_HELPER_NAMES}


def export_python(model: Model, path: str | os.PathLike[str], *, shape: Any = None) -> None:
    """Write a model as a Python file with one function, ``predict(x)``, that needs NumPy alone.

    The function is the formula of the network, layer after layer, in NumPy. It gives the bits of ``model(x)`` for a
    batch x, with the same NumPy on the same machine, because it makes the same calls in the same order. Small
    parameters stand in the file as numbers, larger ones as text at its end.

    A model with a ``preprocess`` gives ``predict(table)`` in place of it, and ``classify(table)`` where that of the
    model gives classes. A table is a dict of columns by name, or a list of records. They give what the methods of the
    model give.

    Args:
        model: The model.
        path: The file; ``.py`` is the usual ending.
        shape: The shape of a sample, where the model leaves sizes open; a dict of shapes by name for several inputs.

    Raises:
        SettingsError: A layer or a Composite writes its own ``apply``, or a formula calls a Python function that has no
            graph; names the layer. Or a step of the Preprocess has no source; names the column. Or the file cannot be
            written.
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
    if not isinstance(model, Model):
        raise SettingsError(f"export_python: argument 'model' must be a model; got {brief(model)}{model_hint(model)}")
    write_whole(path, _File(model, sample_of(model, shape, "export_python")).source())


class _File:
    """Writes the file of one model."""

    def __init__(self, model: Model, shape: Any) -> None:
        self.model, self.shape = model, shape
        self.numbers: dict[str, Array] = {}  # the parameters, by their names in the file
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
        functions = [f"def predict(x):\n{self._summary()}\n{body}\n"]
        if self.model.preprocess is not None:
            functions = [*self._table(), functions[0].replace("def predict(", "def network(", 1)]
        helpers = self.table.helpers | self.lines.helpers
        large = {name: value for name, value in self.numbers.items() if value.size > _SMALL}
        small = {name: value for name, value in self.numbers.items() if value.size <= _SMALL}
        parts = [
            self._docstring(),
            "from __future__ import annotations\n" if {"erf", "windows"} & helpers else "",
            "import base64\nimport io\n" if large else "",
            "import numpy as np\n\n",
            "\n\n".join(functions),
            *(f"\n{table_helper(name)}" for name in sorted(helpers)),
            f"\n\n# parameters\n{_literals(small)}" if small else "",
            f"\n\n{_blob(large)}" if large else "",
        ]
        return "\n".join(part for part in parts[:4] if part) + "\n" + "".join(parts[4:])

    def _table(self) -> list[str]:
        """Return the functions that take a table, and keep the arrays that they read."""
        preprocess = self.model.preprocess
        assert preprocess is not None
        self.table = Lines({*_TAKEN, *self.numbers})
        source = TableSource(preprocess, self.model.dtype, self.table)
        transform = source.transform()
        shape = self.model.shape_after(self.shape)
        outputs = shape if isinstance(shape, dict) else math.prod(shape)
        scores = "" if isinstance(shape, dict) else scores_of(self.model.output_activation, shape)
        predict = source.predict(outputs, scores)
        self.numbers |= self.table.constants
        return [predict, transform]

    def _docstring(self) -> str:
        made = f"written by export_python of framework {metadata.version('framework')} with NumPy {np.__version__}"
        return f'"""A {type(self.model).__name__}, {made}.\n\n{quoted(self.model.summary())}\n"""\n'

    def _summary(self) -> str:
        shapes = self.model.shape_after(self.shape), self.shape
        found, given = (quoted(shown(of_rows(shape))) for shape in shapes)
        return f'    """Return the outputs, {found},\n    for a batch x, {given}, in {self.model.dtype}.\n    """'

    def _inputs(self) -> Any:
        """Write the lines that take x, and return the names of its leaves."""
        dtype = self.model.dtype
        if self.model.columns and self.model.preprocess is None and not isinstance(self.shape, dict):
            self.lines.line(f"{self.lines.calls('require_columns')}(x, {[*self.model.columns]})")

        def taken(shape: Any, limit: Any, text: str, wanted: str) -> Any:
            if isinstance(shape, dict):
                return {key: taken(shape[key], limit[key], f"{text}[{key!r}]", key) for key in shape}
            name = "x" if text == "x" else self.lines.name(_identifier(wanted))
            self.lines.line(f"{name} = np.ascontiguousarray({text}, np.{dtype})")
            self.lines.line(f"if {name}.shape[1:] != {shape}:")
            message = f"{name} must have the shape {shown(of_rows(shape))}; got {{{name}.shape}}"
            self.lines.line(f'    raise ValueError(f"{message}")')
            counts = np.unique(limit)
            if len(counts) == 1 and np.isfinite(counts[0]):
                self.lines.line(f"{self.lines.calls('require_ids')}({name}, {int(counts[0])})")
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
                x, shape = self._through(part, x, shape, f"{path}{name}."), part.shape_after(part.narrowed(shape))
            return x
        if type(model) is Residual:
            inner = self._through(model.block, x, shape, f"{path}block.")
            self._comment(place, "Residual: the input is added")
            return self._assigned(place, f"{x} + {inner}", x, inner)
        if type(model) is Heads:
            return {name: self._through(part, x, shape, f"{path}{name}.") for name, part in model.parts.items()}
        if type(model) is Join:
            outputs = []
            for name, part in model.parts.items():
                given, size = x[name], shape[name]
                if size == () and not part.takes(()):
                    given, size = f"{given}[:, None]", (1,)
                outputs.append(self._through(part, given, size, f"{path}{name}."))
            self._comment(place, "Join: side by side")
            return self._assigned(place, f"np.concatenate([{', '.join(outputs)}], axis=-1)", *outputs)
        raise self._own_apply(f"{place} {type(model).__name__}".strip())

    def _layer(self, layer: Layer, x: Any, shape: Any, place: str) -> str:
        label = f"{place} {layer._label}".strip()
        if not (layer._derives and (belongs_to(type(layer), "apply", "formula") or type(layer) is Neuron)):
            raise self._own_apply(label)
        self._comment(place, repr(layer) if len(repr(layer)) <= 100 else type(layer).__name__)
        program = layer.program(shape, training=False)
        inputs, results = program.prediction
        names = dict(zip(program.leaves, leaves(x), strict=True))
        for key, value in [*layer.parameters.items(), *layer.buffers.items()]:
            names[key] = self.lines.name(_identifier(f"{key}_{place}" if place else key))
            self.numbers[names[key]] = np.asarray(value)
        given = {node: names[key] for key, node in inputs.items()}
        graph = next(iter(inputs.values())).graph
        try:
            formula = Formula(self.lines, graph, given, results.values())
            return formula.write(results["output"], results.get("h"), *(_identifier(f"{a}{place}") for a in "ah"))
        except SettingsError as error:
            raise SettingsError(f"export_python: layer {label}: {error}") from None

    def _own_apply(self, label: str) -> SettingsError:
        return SettingsError(
            f"export_python: layer {label} writes its own 'apply', which is not a formula that can be shown; write "
            "'formula' in its class, or use export_onnx"
        )

    def _comment(self, place: str, text: str) -> None:
        self.lines.line("")
        self.lines.comment(f"{place} {text}")

    def _assigned(self, place: str, text: str, *given: str) -> str:
        """Write a line, of which the result is C contiguous, as the engine's is."""
        text = f"np.ascontiguousarray({text})" if self.lines.strided.intersection(given) else text
        name = self.lines.name(_identifier(f"a{place}"))
        self.lines.line(f"{name} = {text}")
        return name


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
    names = "\n".join(f'{name} = _arrays["{name}"]' for name in arrays)
    return (
        f'# larger parameters: a compressed npz file as text\n_TEXT = """\n{text}\n"""\n'
        f"_arrays = np.load(io.BytesIO(base64.b64decode(_TEXT)))\n{names}\n"
    )


def _identifier(text: str) -> str:
    """Return a text as a name of Python."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() or name.startswith("_") else name


def _shown(tree: Any) -> str:
    if not isinstance(tree, dict):
        return str(tree)
    return f"{{{', '.join(f'{key!r}: {_shown(part)}' for key, part in tree.items())}}}"
