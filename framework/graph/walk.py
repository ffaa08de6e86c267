"""Walk: carry symbols through a model, layer after layer. What reads a model reads the graph that it makes.

Each model says by ``trace`` what it makes of symbols. A model whose passes are written by hand becomes one node, a
call: Python runs ``apply`` on arrays, and ``apply_backward`` for the gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from framework.base.arrays import Array, Record
from framework.base.errors import DerivativeError, FrameworkError, ShapeError
from framework.base.random_streams import random_generator
from framework.base.shapes import format_shape
from framework.base.trees import fill, leaves, map_leaves, names, sample_shape
from framework.graph.node import Node, nodes_in, order_nodes
from framework.graph.rows import mixing_operation
from framework.graph.stable import stabilise
from framework.graph.symbol import Symbol, value_of


class Draw(NamedTuple):
    """An array of uniform random numbers in [0, 1) that a layer receives in each step.

    Attributes:
        name: What the layer calls it, which is a part of its key.
        place: What follows (seed, epoch, step) in its key: where the layer is in the model.
        shape: The shape for one row.
        label: The layer, for messages.
        wide: Whether a formula computes with the numbers, in the dtype of the model. Numbers that it only compares, as
            Dropout does, stay float32.
    """

    name: str
    place: tuple[int, ...]
    shape: tuple[int, ...]
    label: str
    wide: bool = True

    def fill(self, out: Array, key: tuple[int, ...]) -> None:
        """Draw the numbers of some rows from the key of their pass."""
        seed, *counters = (*key, *self.place)
        random_generator(seed, self.name, *counters).random(dtype=np.float32, out=out)


class Scope(NamedTuple):
    """A layer in a graph.

    Attributes:
        path: Where it is in the model: ``"2.block.0"``, or ``""`` for the model itself.
        label: The layer, for messages: ``"2.block.0 Dense"``.
        start: The place of the first node that it may have made; those before are of the layers before it.
        stop: The place after its last node.
        input: The nodes of its input, by name for several.
        output: The nodes of its output, by name for several.
    """

    path: str
    label: str
    start: int
    stop: int
    input: Any
    output: Any


class Ids(NamedTuple):
    """Ids that a layer looks up: whole numbers from 0 to ``limit`` - 1."""

    name: str
    limit: int
    node: Node


@dataclass(frozen=True)
class PythonCall:
    """A model whose passes Python runs, as a node of a graph; equal in two traces of a model and its copy.

    Its value is the tuple of the record, which ``apply_backward`` reads, and the leaves of the output.

    Attributes:
        model: The model.
        number: Which of the calls of the graph it is.
        place: Where the model is in the key of random numbers.
        training: Whether its output is for ``apply_backward``.
        shape: The shape of a sample, or shapes by name.
        outputs: The shape of a prediction, or shapes by name.
    """

    model: Any = field(compare=False)
    number: int
    place: tuple[int, ...]
    training: bool
    shape: Any = field(compare=False)
    outputs: Any = field(compare=False)

    def forward(self, memory: Any, *arrays: Any) -> tuple[Any, ...]:
        """Return the record and the leaves of the output; ``memory`` keeps the record from step to step."""
        model, form = self.model, names(self.shape)
        record = memory.records.get(self.number)
        if record is None:
            record = memory.records[self.number] = Record(model.dtype, training=self.training)
        takes = iter(arrays)
        x = fill(form, takes)
        record.begin(x, None if memory.key is None else (*memory.key, *self.place))
        output = model.apply(x, dict(zip(model.parameters, takes, strict=True)), record)
        message = f"{model._label}.apply must return {{}}; got {{}}: write output_shape in the class"
        _require_shapes(output, len(arrays[0]), self.outputs, message)
        return record, *(np.asarray(leaf, model.dtype) for leaf in leaves(in_order(self.outputs, output)))

    def backward(self, call: tuple[Any, ...], *gradients: Array) -> tuple[Array, ...]:
        """Return dL/dx by leaf, then the gradient of each parameter, from those of the outputs."""
        model, record = self.model, call[0]
        parameters = model.parameters
        output = fill(self.outputs, map(_read_only, gradients))
        parameters.gradient[...] = 0.0  # apply_backward may leave out a child
        dx = in_order(self.shape, model.apply_backward(output, parameters.views, record, parameters.gradients))
        message = f"{model._label}.apply_backward must return dL/dx, {{}}, as its input; got {{}}"
        _require_shapes(dx, len(gradients[0]), self.shape, message)
        return (
            *(np.asarray(leaf, model.dtype) for leaf in leaves(dx)),
            *(gradient.copy() for gradient in parameters.gradients.values()),
        )


def _require_shapes(tree: Any, rows: int, shapes: Any, message: str) -> None:
    """Refuse arrays of other shapes than so many rows of samples; ``message`` takes the right shapes and theirs.

    Raises:
        ShapeError: They have other shapes.
    """
    expected, shapes_of_tree = map_leaves(lambda shape: (rows, *shape), shapes), map_leaves(np.shape, tree)
    if shapes_of_tree != expected:
        raise ShapeError(message.format(format_shape(expected), format_shape(shapes_of_tree)))


def _read_only(array: Array) -> Array:
    """Return a view that cannot be written into: others read the array too."""
    view = array.view()
    view.flags.writeable = False
    return view


def in_order(form: Any, tree: Any) -> Any:
    """Return a tree with its names in the order of another one."""
    return map_leaves(lambda _, leaf: leaf, form, tree)


class Walk:
    """Carries symbols through a model.

    Attributes:
        training: Whether the outputs are those of training.
        sample: Whether x is one sample without an axis of rows.
        symbols: The parameters and buffers, as ``number 0.weights``.
        derives: Whether gradients that a class writes by hand are derived too: True, or the model of which.
        drawn: The random arrays, each with its node.
        buffers: The new value of each buffer.
        ids: The ids that layers look up.
        minimum: The number of rows that training needs, with the layer that needs them.
        ends: The nodes of the layers' outputs: each layer is derived by itself.
        scopes: The layers in the order in which they end, inner ones first.
        calls: The layers that Python runs.
        checks: Whether the layers check their formulas, which an equal graph has passed before.
        stable: Whether the outputs of layers are in their stable forms.
    """

    def __init__(
        self,
        model: Any,
        symbols: Mapping[str, Symbol],
        *,
        training: bool,
        sample: bool = False,
        derives: Any = False,
        checks: bool = True,
        stable: bool = True,
    ) -> None:
        """Begin without outputs."""
        self.symbols, self.training, self.sample, self.derives = symbols, training, sample, derives
        self.checks, self.stable = checks, stable
        self.drawn: list[tuple[Draw, Node]] = []
        self.buffers: dict[str, Any] = {name: symbols[f"number {name}"] for name in model.buffers}
        self.ids: list[Ids] = []
        self.minimum: tuple[int, str] = (0, "")
        self.ends: set[Node] = set()
        self.scopes: list[Scope] = []
        self.calls: list[str] = []

    @property
    def sound(self) -> Any:
        """Whether all ids are as the layers require them: a symbol, or True without ids."""
        sound: Any = True
        for ids in self.ids:
            values = Symbol(ids.node)
            right = np.all((values >= 0) & (values < ids.limit) & (values == np.floor(values)))
            sound = right if sound is True else sound & right
        return sound

    def trace_model(self, model: Any, x: Any, path: str = "", key_suffix: tuple[int, ...] = ()) -> Any:
        """Return the output of a model for x.

        Args:
            model: The model, or a part of it.
            x: Symbols.
            path: Where it is, ``"0.block."``.
            key_suffix: The same in the key of its random numbers.

        Raises:
            DerivativeError: It cannot be traced. The error has the layer as its attribute ``layer``.
        """
        label = f"{path.removesuffix('.')} {model._label}".strip()
        graph = leaves(x)[0].graph
        start = len(graph.nodes)
        try:
            output = model.trace(self, x, path, key_suffix)
        except Exception as error:
            if not hasattr(error, "layer"):
                error.layer = label  # type: ignore[attr-defined]
            raise
        if self.training and model.minimum_rows > self.minimum[0]:
            self.minimum = model.minimum_rows, label
        ends = map_leaves(value_of, x), map_leaves(value_of, output)
        self.scopes.append(Scope(path.removesuffix("."), label, start, len(graph.nodes), *ends))
        return output

    def trace_apply(self, model: Any, x: Any, path: str, key_suffix: tuple[int, ...]) -> Any:
        """Return what the ``apply`` of a class makes of symbols, as floats.

        Raises:
            DerivativeError: It cannot be traced.
        """
        values = self.symbols_of((*model.parameters, *model.buffers), path)
        graph, inside = leaves(x)[0].graph, len(self.scopes)
        start = len(graph.nodes)
        try:
            output = model.apply(x, values, Following(self, model, path, key_suffix))
            if self.checks:
                self._require_rows_apart(model, output, start, self.scopes[inside:])
            return map_leaves(lambda leaf: leaf.astype(float), output)
        except Exception as error:
            if isinstance(error, FrameworkError) or hasattr(error, "layer"):  # of a layer inside
                raise
            if isinstance(error.__cause__, DerivativeError):  # NumPy hides that of an assignment to an element
                raise error.__cause__ from None
            advice = "" if model.by_hand else ", or write apply_backward too: then Python runs both"
            problem = f"{model._label}.apply cannot be traced: {type(error).__name__}: {error}"
            raise DerivativeError(problem, advice=f"write it with NumPy functions{advice}") from error

    def _require_rows_apart(self, model: Any, output: Any, start: int, children: list[Scope]) -> None:
        """Check that ``apply`` returns something, and that what it computes itself treats each row alone."""
        if output is None:
            raise DerivativeError(f"{model._label}.apply returns nothing: write return and the output")
        ranges = [range(scope.start, scope.stop) for scope in children]
        needed = (node for node in order_nodes(map(value_of, leaves(output))) if node.place >= start)
        own = (node for node in needed if not any(node.place in places for places in ranges))
        if not getattr(type(model), "mixes_rows", False) and (mixed := mixing_operation(own)):
            raise DerivativeError(
                f"{model._label}.apply mixes rows, by {mixed}: a row's output must depend on that row alone. Use "
                "another axis, or put it into a Layer with mixes_rows = True, as BatchNorm is"
            )

    def symbols_of(self, names: Iterable[str], path: str) -> dict[str, Any]:
        """Return the symbols of parameters or buffers of a model by their names in it."""
        return {name: self.symbols[f"number {path}{name}"] for name in names}

    def runs_in_python(self, model: Any) -> bool:
        """Return whether Python runs the passes of a model, because its class writes them."""
        return model.by_hand and self.derives is not True and self.derives is not model

    def shape(self, x: Any) -> Any:
        """Return the shape of a sample of x, or shapes by name."""
        return map_leaves(lambda leaf: leaf.shape, x) if self.sample else map_leaves(lambda leaf: leaf.shape[1:], x)

    def draw(self, draw: Draw, x: Any) -> Symbol:
        """Return the symbol of a random array for the rows of x."""
        first = leaves(x)[0]
        node = first.graph.input(f"draw {len(self.drawn)}", (*first.shape[:1], *draw.shape))
        self.drawn.append((draw, node))
        return Symbol(node, fixed=True)

    def end_layer(self, output: Any, sources: Iterable[Any] = ()) -> Any:
        """Return the output of a layer, noted as one; ``sources`` are what it starts from.

        Raises:
            DerivativeError: It does not depend on the input.
        """
        if not isinstance(output, Symbol):
            raise DerivativeError(f"it gives {format_shape(np.shape(output))}, which does not depend on its input")
        form = output.astype(float).node
        if self.stable:
            (form,) = stabilise([form], {*nodes_in(map(value_of, sources))})
        output = Symbol(form if isinstance(form, Node) else output.graph.broadcast(form, ()))
        self.ends.add(output.node)
        return output

    def call(self, model: Any, x: Any, path: str, key_suffix: tuple[int, ...]) -> Any:
        """Return the output of a model whose passes Python runs."""
        inputs, shape = leaves(x), sample_shape(x)
        outputs = model.infer_shape(shape)
        called = PythonCall(model, len(self.calls), key_suffix, self.training, shape, outputs)
        self.calls.append(f"{path.removesuffix('.')} {model._label}".strip())
        values = self.symbols_of(model.parameters, path).values()
        graph, rows = inputs[0].graph, inputs[0].shape[0]
        node = graph.intern_node("call", tuple(symbol.node for symbol in (*inputs, *values)), {"called": called}, ())
        places = count(1)

        def output(size: tuple[int, ...]) -> Symbol:
            output_node = graph.intern_node("part", (node,), {"index": next(places)}, (rows, *size))
            self.ends.add(output_node)
            return Symbol(output_node)

        return map_leaves(output, outputs)


class Following(Record):
    """The record of ``apply`` on symbols: children are walked through, and nothing is written into memory."""

    __slots__ = ("_counts", "_model", "path", "place", "walk")

    def __init__(self, walk: Walk, model: Any, path: str, key_suffix: tuple[int, ...]) -> None:
        """Follow one call of ``apply``; see ``Walk.trace_model``."""
        super().__init__(model.dtype, training=walk.training)
        self.walk, self._model, self.path, self.place = walk, model, path, key_suffix
        self._counts = Counter[str]()

    @property
    def key(self) -> Any:
        """Refuse: there is no key of random numbers while ``apply`` is traced. It is None while it is tried."""
        if self._model is None:
            return None
        raise DerivativeError(
            f"{self._model._label}.apply reads record.key, which a traced apply does not have: declare the random "
            "numbers in draws(shape) of a Layer, or write apply_backward too: then Python runs both"
        )

    @key.setter
    def key(self, value: Any) -> None:
        """Leave it out."""

    def call_child(self, name: str, child: Any, x: Any) -> Any:
        """Return what a child makes of x; each call has random numbers of its own."""
        key_suffix = self._model._key_of_call(self.place, name, self._counts[name])
        self._counts[name] += 1
        return self.walk.trace_model(child, x, f"{self.path}{name}.", key_suffix)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return None, so that ``out=record.array(...)`` makes a new array."""
        return None
