"""StepGraph: forward pass, loss, backward pass and penalties of a model in training, as one graph.

The formulas of the layers, and what composite models write in ``apply``, are called on symbols one after another, as a
forward pass calls them on arrays. The loss gives the gradient that the backward pass starts from, and one derivation
goes through the whole graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from framework.arrays import Batch
from framework.emit.programs import wholly_ours
from framework.engines.records import CannotLower
from framework.errors import DerivativeError
from framework.graph.gradient import gradients
from framework.graph.graph import KINDS, Call, Graph
from framework.graph.lower import softmax_in
from framework.graph.node import Node, nodes_in, ordered
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.tangent import derivative
from framework.graph.trace import ROWS, trace
from framework.losses import Loss
from framework.losses.several import Figure, Losses
from framework.models import Layer, Model
from framework.models.composite import Following
from framework.models.sequential import Sequential
from framework.regularizers import Regularizer
from framework.runs.figures import Figures
from framework.settings.component import belongs_to
from framework.settings.messages import is_ours
from framework.shapes import shown
from framework.trees import at, flatten, leaves, map_leaves, names, sample_shape

Path = tuple[str, ...]
"""The names that lead to an output; () where there is one."""


class Draw(NamedTuple):
    """An array of uniform random numbers that a layer receives in each step.

    Attributes:
        name: What the layer calls it, which is a part of its key.
        place: What follows (seed, epoch, step) in its key: where the layer is in the model.
        shape: The shape for one row.
    """

    name: str
    place: tuple[int, ...]
    shape: tuple[int, ...]


class Step(NamedTuple):
    """The results of a step before the update, as nodes or plain numbers of one graph, or as arrays.

    Attributes:
        total: The sum of w l over the rows, of which the loss is the mean.
        totals: That of each of several outputs, then that of each metric of ``StepGraph.metrics``.
        sound: Whether ids are as the layers require them.
        gradients: The gradient of each parameter.
        buffers: The new value of each buffer.
        h: The pre-activations of the outputs, 0 where there is none.
        a: The outputs.
    """

    total: Any
    totals: tuple[Any, ...]
    sound: Any
    gradients: tuple[Any, ...]
    buffers: tuple[Any, ...]
    h: tuple[Any, ...]
    a: tuple[Any, ...]


class Penalties(NamedTuple):
    """The part of penalties in a step, as nodes or plain numbers of its graph, or as arrays.

    Attributes:
        sound: Whether each is finite.
        slopes: What is added to the gradient of each parameter.
    """

    sound: Any
    slopes: tuple[Any, ...]


class StepGraph:
    """The graph of a step, for samples and targets of one form.

    Attributes:
        graph: The graph of all nodes.
        inputs: The leaves of x, those of y, the weight if there is one, the number that the sum of the loss is divided
            by, the parameters, the buffers, and the draws.
        step: What is computed of them, for all rows or for some of a batch.
        penalties: What is computed of the parameters, once for a batch; None without regularizers.
        parameters: The nodes of the parameters.
        draws: The random arrays, in the order of their inputs.
        outputs: The names of the leaves of the output.
        metrics: The metrics whose sums are a part of the step: the losses that have a graph.
    """

    def __init__(
        self, model: Model, loss: Loss, regularizers: Sequence[Regularizer], figures: Figures, batch: Batch
    ) -> None:
        """Trace a step.

        Args:
            model: The model.
            loss: The loss.
            regularizers: The penalties.
            figures: The loss and the metrics.
            batch: x, y and weight of some rows, for their shapes and dtypes.

        Raises:
            CannotLower: A part of the step has no graph; names it.
        """
        x, y, weight = batch
        parameters, buffers = model.parameters, model.buffers
        given = flatten(x, "x") | flatten(y, "y")
        kinds = {name: "f" if name[0] == "x" else KINDS[array.dtype.kind] for name, array in given.items()}
        shapes = {name: (ROWS, *array.shape[1:]) for name, array in given.items()}
        shapes |= {"count": ()} if weight is None else {"weight": (ROWS,), "count": ()}
        numbers = {key: np.asarray(value) for part in (parameters.views, buffers) for key, value in part.items()}
        for key, value in numbers.items():
            shapes[f"number {key}"] = value.shape
            kinds[f"number {key}"] = KINDS[value.dtype.kind]
        ours = all(map(wholly_ours, (model, loss, *regularizers)))
        made: dict[Graph, tuple[Step, Penalties, _Walk]] = {}  # the formula may be called twice

        def formula(**symbols: Symbol) -> Any:
            walk = _Walk(model, regularizers, symbols)
            found = walk.step(names(sample_shape(x), "x"), names(sample_shape(y), "y"), loss, figures)
            step, penalties = (map_parts(value_of, part) for part in (found, walk.penalties()))
            made[symbols["count"].graph] = Step(*step), Penalties(*penalties), walk
            return tuple(map(symbol_of, nodes_in(flat((step, penalties)))))

        try:
            traced = trace(formula, shapes, model.dtype, kinds=kinds, open_rows=not ours)
        except CannotLower:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
            raise CannotLower(f"{type(model).__name__} and {type(loss).__name__}: {_said(error)}") from None
        self.graph = traced.graph
        self.step, penalties, walk = made[self.graph]
        self.outputs, self.metrics = walk.outputs, walk.metrics
        self.penalties = penalties if regularizers else None
        self.parameters = [traced.inputs[f"number {key}"] for key in parameters]
        self.draws = [draw for draw, _ in walk.drawn]
        self.inputs = [*traced.inputs.values(), *(node for _, node in walk.drawn)]


def flat(step: Any) -> list[Any]:
    """Return the leaves of nested tuples."""
    return [leaf for part in step for leaf in flat(part)] if isinstance(step, tuple) else [step]


def map_parts(function: Any, part: Any) -> Any:
    """Return nested tuples with what ``function`` gives for each leaf."""
    return tuple(map_parts(function, each) for each in part) if isinstance(part, tuple) else function(part)


def _said(error: Exception) -> str:
    text = str(error) if isinstance(error, DerivativeError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]


class _Walk:
    """Carries symbols through a model in training, layer after layer."""

    def __init__(self, model: Model, regularizers: Sequence[Regularizer], symbols: Mapping[str, Symbol]) -> None:
        self.model, self.regularizers, self.symbols = model, regularizers, symbols
        self.drawn: list[tuple[Draw, Node]] = []
        self.new: dict[str, Any] = {name: symbols[f"number {name}"] for name in model.buffers}
        self.sound: Any = True
        self.ends: set[Node] = set()
        self.outputs: Any = None
        self.metrics: list[Figure] = []

    def step(self, x: Any, y: Any, loss: Loss, figures: Figures) -> Step:
        """Return everything that a step computes, as symbols."""
        symbols, model = self.symbols, self.model
        a = self.through(model, map_leaves(symbols.__getitem__, x), "", ())
        self.outputs = names(map_leaves(lambda _: None, a), "output")
        calls = symbols["count"].graph.calls  # h is that of the activations that end the model, where they do
        h = map_leaves(lambda part: Symbol(calls[part.node].argument) if part.node in calls else None, a)
        target, weight = map_leaves(symbols.__getitem__, y), symbols.get("weight")
        found = _LossOf(symbols["count"], weight)
        total = found.through(loss, model.output_activation, a, h, target, symbols["count"])
        totals = [found.totals[figure.path] for figure in figures.of_outputs]
        for figure in figures.of_metrics:
            own = getattr(type(figure.formula), "output_sums", None) is not Loss.output_sums
            if own or figures.inverse(model, figure) is not None:  # a Preprocess undoes its steps in NumPy
                continue
            with suppress(Exception):  # whatever a formula does with a symbol: NumPy computes it
                activation, *parts = (at(part, figure.path) for part in (model.output_activation, a, h, target))
                sums = _LossOf(symbols["count"], weight)
                totals.append(sums.through(figure.formula, activation, parts[0], parts[1], parts[2], None))
                self.metrics.append(figure)
        parameters = [symbols[f"number {name}"].node for name in model.parameters]
        slopes = gradients(found.seeds, parameters, ends=self.ends) if parameters else []
        return Step(
            total,
            tuple(totals),
            self.sound,
            tuple(map(symbol_of, slopes)),
            tuple(self.new.values()),
            tuple(0.0 if part is None else part for part in leaves(h)),
            tuple(leaves(a)),
        )

    def penalties(self) -> tuple[Any, tuple[Any, ...]]:
        """Return whether each penalty is finite, and what they add to the gradient of each parameter."""
        sound: Any = True
        slopes: dict[str, Any] = dict.fromkeys(self.model.parameters, 0.0)
        frozen = {*self.model.parameters.frozen}
        for regularizer in self.regularizers:
            penalty: Any = 0.0
            for name in regularizer.names(self.model.parameters):
                if name in frozen:
                    continue
                w = self.symbols[f"number {name}"]
                value = regularizer.value(w)
                penalty = penalty + value
                slopes[name] = slopes[name] + regularizer.strength * _penalty_slope(regularizer, w, value)
            finite = np.isfinite(regularizer.strength * penalty)
            sound = finite if sound is True else sound & finite
        return sound, tuple(slopes.values())

    def require(self, condition: Any) -> None:
        """Note what must be true of a step; where it is not, the NumPy engine makes the step, and raises its error."""
        self.sound = condition if self.sound is True else self.sound & condition

    def through(self, model: Model, x: Any, path: str, place: tuple[int, ...]) -> Any:
        """Return the output of a model for x.

        Args:
            model: The model, or a part of it.
            x: Symbols.
            path: Where it is, ``"0.block."``.
            place: The same in the key of its random numbers.
        """
        if isinstance(model, Sequential) and type(model).apply is Sequential.apply:
            for number, (name, part) in enumerate(model.parts.items()):
                x = self.through(part, x, f"{path}{name}.", model._child_key(place, number))
            return x
        label = f"{path.removesuffix('.')} {model._label}".strip()
        try:
            if not isinstance(model, Layer):
                if getattr(model, "check", "on") != "on":
                    raise CannotLower("its gradients differ from the outputs' on purpose")  # noqa: TRY301
                return model.apply(x, self._values(model, path), _Walking(self, model, path, place))
            return self._layer(model, x, path, place)
        except CannotLower as reason:
            named = str(reason).startswith("layer ")
            raise CannotLower(str(reason) if named else f"layer {label}: {reason}") from None
        except Exception as error:  # noqa: BLE001 (whatever an apply that was written for arrays raises on symbols)
            raise CannotLower(f"layer {label} has no graph: {_said(error)}") from None

    def _values(self, model: Model, path: str) -> dict[str, Any]:
        return {name: self.symbols[f"number {path}{name}"] for name in model.parameters}

    def _layer(self, layer: Layer, x: Any, path: str, place: tuple[int, ...]) -> Any:
        values = self._values(layer, path)
        for leaf, count in layer._cardinality("x").items():
            ids = flatten(x, "x")[leaf]
            self.require(np.all((ids >= 0) & (ids < count) & (ids == np.floor(ids))))
        if not (layer._derives and belongs_to(type(layer), "apply", "formula")):
            if layer.check != "on":
                raise CannotLower("its gradients differ from the outputs' on purpose")
            return self._ended(layer.apply(x, values, _Walking(self, layer, path, place)))
        graph, rows = leaves(x)[0].graph, leaves(x)[0].shape[:1]
        for name, shape in layer.draws(sample_shape(x)).items():
            node = graph.input(f"draw {len(self.drawn)}", (*rows, *shape))
            self.drawn.append((Draw(name, place, shape), node))
            values[name] = Symbol(node, fixed=True)
        start = {node for value in (*leaves(x), *values.values()) for node in nodes_in([value_of(value)])}
        values |= {name: self.symbols[f"number {path}{name}"] for name in layer.buffers}
        found = layer.formula(x, **values)
        output, new = found if layer.buffers and isinstance(found, tuple) else (found, {})
        for name, value in new.items():
            self.new[f"{path}{name}"] = value
        return self._ended(symbol_of(_recognised(value_of(output.astype(float)), start)))

    def _ended(self, output: Any) -> Any:
        """Note the output of a layer: each layer is derived by itself, as the other engines do."""
        if not isinstance(output, Symbol):
            raise CannotLower(f"it gives {shown(np.shape(output))}, which does not depend on its input")
        self.ends.add(output.node)
        return output


class _Walking(Following):
    """The record of ``apply`` on symbols: children are walked through."""

    __slots__ = ("_called", "_model", "_path", "_place", "_walk")

    def __init__(self, walk: _Walk, model: Any, path: str, place: tuple[int, ...]) -> None:
        super().__init__(model.dtype, training=True)
        self._walk, self._model, self._path, self._place = walk, model, path, place
        self._called: dict[str, int] = {}

    def called(self, name: str, child: Model, x: Any) -> Any:
        calls = self._called[name] = self._called.get(name, -1) + 1
        parts = [*self._model.parts]
        place = parts.index(name) + calls * len(parts)
        return self._walk.through(child, x, f"{self._path}{name}.", self._model._child_key(self._place, place))

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return None: what is computed on symbols is written nowhere."""
        return None


def _recognised(output: Any, start: set[Node]) -> Any:
    """Return the output of a layer with each softmax as one node, so that no gradient goes through its maximum.

    A loop stays as it is, and so does what a class derives by hand.
    """
    if not isinstance(output, Node):
        return output
    graph = output.graph
    order = ordered([output], start)
    calls = {node: call for node in order if (call := graph.calls.get(node)) is not None}
    if any(node.op == "loop" for node in order) or any(call.pullback for call in calls.values()):
        return output
    known: dict[Node, Any] = {}
    for node in order:
        args = tuple(known.get(arg, arg) if isinstance(arg, Node) else arg for arg in node.args)
        if node in start or not node.args:
            continue
        found = softmax_in(graph, node, args)
        known[node] = graph.made(node.op, args, node.attributes, node.shape, node.kind) if found is None else found
        if node in calls:
            argument = calls[node].argument
            graph.calls[known[node]] = Call(calls[node].activation, known.get(argument, argument), None)
    return known.get(output, output)


class _LossOf:
    """The loss of a step, of one output or of several.

    Attributes:
        seeds: Nodes of the model, each with the gradient of the loss by it.
        totals: The sum of w l of each output.
    """

    def __init__(self, count: Symbol, weight: Symbol | None) -> None:
        self.count, self.weight = count, weight
        self.seeds: list[tuple[Node, Any]] = []
        self.totals: dict[Path, Any] = {}

    def through(self, loss: Loss, activation: Any, a: Any, h: Any, target: Any, count: Any, path: Path = ()) -> Any:
        """Return the sum of w l; its gradient, divided by ``count``, is added to the seeds."""
        if not isinstance(loss, Losses):
            return self._single(loss, activation, a, h, target, count, path)
        _require_inherited(loss, Losses)
        total: Any = 0.0
        for name, each in loss.losses.items():
            share = loss.weight_of(name)
            output = a[name]
            per_row = 1.0 if isinstance(output, dict) else each.count((1, *output.shape[1:]), None)
            divisor = count * (per_row / share) if share else None
            found = self.through(
                each, at(activation, (name,)), output, at(h, (name,)), target[name], divisor, (*path, name)
            )
            total = total + found * (share / per_row) if share else total
        self.totals[path] = total
        return total

    def _single(self, loss: Loss, activation: Any, a: Symbol, h: Any, target: Symbol, count: Any, path: Path) -> Any:
        _require_inherited(loss, Loss)
        target = _expanded(loss, a, target)
        fused = loss.fuses(activation)
        if fused and h is None:
            raise CannotLower(f"{type(loss).__name__}: the model's last activation is not found in its graph")
        first = h if fused else a
        values = loss.value_from_preactivation(h, target) if fused else loss.value(a, target)
        expected = a.shape[:1] if loss.by_row else a.shape
        if not isinstance(values, Symbol) or values.shape != expected:
            raise CannotLower(
                f"{type(loss).__name__} gives {shown(np.shape(values))}, and not a value for each of {expected}"
            )
        weights: Any = 1.0
        if self.weight is not None:
            weights = self.weight
            values = values * np.reshape(weights, (-1, *(1,) * (values.ndim - 1)))
            weights = np.reshape(weights, (-1, *(1,) * (a.ndim - 1)))
        total = self.totals[path] = np.sum(values)
        if count is not None:  # an output of weight 0 is not trained
            slope = loss.fused_slope(a, target) if fused else _slope(loss, a, target)
            delta = np.broadcast_to(slope, a.shape) * (weights / count)
            self.seeds.append((first.node, value_of(delta)))
        return total


def _expanded(loss: Loss, a: Symbol, target: Symbol) -> Any:
    """Return targets of the outputs' shape; classes as one-hot rows."""
    if loss.by_row and target.ndim == 1 and a.ndim == 2:
        return (target[:, None] == np.arange(a.shape[1])).astype(float)
    if math.prod(target.shape[1:]) != math.prod(a.shape[1:]):
        raise CannotLower(f"{type(loss).__name__}: targets {shown(target.shape)} of outputs {shown(a.shape)}")
    return np.reshape(target, a.shape).astype(float)


def _slope(loss: Loss, a: Symbol, target: Any) -> Any:
    """Return d(value)/d(prediction), written or derived."""
    if type(loss).slope is not Loss.slope:
        return loss.slope(a, target)
    value = value_of(loss.value(a, target))
    if not isinstance(value, Node):
        return 0.0
    if not loss.by_row:
        return symbol_of(derivative(value, a.node))
    value = _recognised(value, {a.node, *nodes_in([value_of(target)])})
    return symbol_of(gradients([(value, 1.0)], [a.node], {a.node})[0])


def _penalty_slope(regularizer: Regularizer, w: Symbol, value: Any) -> Any:
    """Return d(value)/dw, written or derived."""
    if type(regularizer).slope is not Regularizer.slope:
        return regularizer.slope(w)
    return symbol_of(gradients([(value_of(value), 1.0)], [w.node], {w.node})[0]) if isinstance(value, Symbol) else 0.0


_LOOPS = ("backward", "output_delta", "count", "expand", "_total", "_fill")
"""The methods of a loss that the graph replaces."""


def _require_inherited(loss: Loss, base: type[Any]) -> None:
    """Refuse a class that overrides what its base class does with ``value``: the graph would not call it."""
    for name in _LOOPS:
        written = next(cls for cls in type(loss).__mro__ if name in vars(cls))
        if not is_ours(written.__module__):
            raise CannotLower(f"{type(loss).__name__}.{name} replaces {base.__name__}.{name}")
