"""The graph of a step: forward pass, loss and backward pass of any model, and the graph of a prediction.

A step is three graphs in a row. The loss begins with the outputs of the model, and the backward pass with the gradient
that the loss gives. Each of them is derived and lowered by itself, so the halves of a step by hand give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from framework.base.errors import DerivativeError
from framework.base.trees import at, flatten, leaves, map_leaves, names, sample_shape
from framework.graph.gradient import gradients
from framework.graph.graph import KINDS, Graph
from framework.graph.lower import Lowering
from framework.graph.node import Node, nodes_in, order_nodes
from framework.graph.operations import COMPARISONS
from framework.graph.rows import over_shards
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import ROWS, trace
from framework.graph.walk import Walk

Path = tuple[str, ...]
"""The names that lead to an output; () where there is one."""


class ModelGraph:
    """The outputs of a model, for samples of one shape.

    Attributes:
        graph: The graph of all nodes.
        x: The leaves of the input by name, ``x`` or ``x['city']``.
        numbers: The parameters and the buffers by name.
        draws: The random arrays, each with its node.
        outputs: The tree of the names of the outputs' leaves, ``output`` or ``output['late']``.
        a: The leaves of the output.
        h: The argument of the activation that ends each of them, or None.
        buffers: The new value of each buffer by name.
        ids: The ids that layers look up.
        sound: Whether all ids are as the layers require them; True without ids.
        minimum: The number of rows that training needs, with the layer that needs them.
        scopes: The layers.
        calls: The layers that Python runs.
        written: The activations in formulas whose classes write a derivative.
        key: Equal for equal graphs of the same layers.
        shape: The shape of a sample, or shapes by name.
        sample: Whether x is one sample without an axis of rows.
        training: Whether the outputs are those of training.
    """

    graph: Graph

    def __init__(
        self,
        model: Any,
        shape: Any,
        *,
        training: bool,
        dtype: str | None = None,
        kinds: Mapping[str, str] | None = None,
        sample: bool = False,
        shards: bool = False,
        derives: Any = False,
        stable: bool = True,
        plain: ModelGraph | None = None,
    ) -> None:
        """Trace a model.

        Args:
            model: The model.
            shape: The shape of a sample, or shapes by name.
            training: Whether the outputs are those of training.
            dtype: The dtype of floats; None is the model's.
            kinds: The kind of each leaf of the input that does not hold floats.
            sample: Whether x is one sample without an axis of rows.
            shards: Whether x is a part of a batch; sums over rows then go over all parts.
            derives: Whether gradients that a class writes by hand are derived too; or the model of which.
            stable: Whether layers are in their stable forms. To trace a model without them is faster, and the key
                tells as well whether its formulas are those that were traced before.
            plain: The graph without stable forms, if it was traced before: then its checks are not made again.

        Raises:
            DerivativeError: A layer cannot be traced; the error has its name as ``layer``.
        """
        self.shape, self.sample, self.training = shape, sample, training
        samples, numbers = flatten(shape), {**model.parameters.views, **model.buffers}
        shapes = {name: size if sample else (ROWS, *size) for name, size in samples.items()}
        shapes |= {f"number {name}": value.shape for name, value in numbers.items()}
        walks: dict[Graph, tuple[Walk, Any]] = {}  # the formula may be called twice
        form = {"training": training, "sample": sample, "derives": derives, "stable": stable}

        def formula_of(walked: Any, *, checks: bool) -> Callable[..., Any]:
            def formula(**symbols: Symbol) -> Any:
                walk = Walk(walked, symbols, checks=checks, **form)
                output = walk.trace_model(walked, map_leaves(symbols.__getitem__, names(shape)))
                walks[next(iter(symbols.values())).graph] = walk, output
                return (*leaves(output), walk.sound, *walk.buffers.values())

            return formula

        def formula_of_twin(**symbols: Symbol) -> Any:
            twin = _with_other_numbers(model) if derives is False else model
            return formula_of(twin, checks=True)(**symbols)

        number_kinds = {f"number {name}": KINDS[value.dtype.kind] for name, value in numbers.items()}
        options: Any = {"dtype": dtype or model.dtype, "kinds": number_kinds | dict(kinds or {})}
        options |= {"checked": plain and plain.graph, "compared": not stable}
        formulas, settings = model.identity
        identity = formulas, training, derives is True, derives is model, stable
        traced = None
        with suppress(Exception):
            traced = trace(
                formula_of(model, checks=False), shapes, **options, owner=(identity, settings), again=formula_of_twin
            )
        if traced is None:
            labels = {f"{path} {layer._label}".strip(): layer for path, layer in model.walk_models()}
            of_user = [label for label, layer in labels.items() if ":" in layer.tag() and not layer.by_hand]
            options |= {"name": f"apply of {' or '.join(of_user)}"} if of_user else {}
            trace(formula_of(model, checks=True), shapes, **options)  # its errors say more
            raise DerivativeError(
                f"{model._label}: apply or a formula reads numbers of the model itself, which training changes: "
                "take parameters and buffers from its arguments, as values['body.weights']"
            )
        walk, output = walks[traced.graph]
        self.graph, self.written = traced.graph, traced.graph.written
        self.outputs = names(map_leaves(lambda _: None, output), "output")
        self.ids, self.minimum, self.scopes, self.calls = walk.ids, walk.minimum, walk.scopes, walk.calls
        count = len(leaves(output))
        self.a, self.sound = traced.outputs[:count], traced.outputs[count]
        self.buffers = dict(zip(walk.buffers, traced.outputs[count + 1 :], strict=True))
        self.x = {name: traced.inputs[name] for name in samples}
        self.numbers = {name: traced.inputs[f"number {name}"] for name in numbers}
        computed = _nodes_read_as_numbers(traced.outputs) if walk.drawn else set()
        self.draws = [(draw._replace(wide=node in computed), node) for draw, node in walk.drawn]
        self._ends = walk.ends
        ends = sorted(node.place for node in self._ends)
        inputs = tuple(draw for draw, _ in self.draws), tuple(ids[:2] for ids in walk.ids)
        self.key = identity, traced.key, sample, shards, self.minimum, str(self.outputs), *inputs, *ends
        if shards:
            self._share_out()
        calls = self.graph.calls  # h is that of the activations that end the model, where they do
        self.h = tuple(calls[node].argument if node in calls else None for node in self.a)

    def _share_out(self) -> None:
        """Let every sum over rows go over all shards."""
        nodes = [*self.buffers.values(), *self.x.values(), *self.numbers.values(), *(node for _, node in self.draws)]
        nodes = [*self.a, self.sound, *nodes, *self._ends, *(ids.node for ids in self.ids)]
        takes = iter(over_shards(nodes))
        self.a = tuple(next(takes) for _ in self.a)
        self.sound = next(takes)
        self.buffers, self.x, self.numbers = (
            {name: next(takes) for name in group} for group in (self.buffers, self.x, self.numbers)
        )
        self.draws = [(draw, next(takes)) for draw, _ in self.draws]
        self._ends = {next(takes) for _ in self._ends}
        self.ids = [ids._replace(node=next(takes)) for ids in self.ids]
        self.graph = next(iter(self.numbers.values())).graph

    @property
    def inputs(self) -> list[Node]:
        """The parameters, the buffers, the draws and the leaves of x."""
        return [*self.numbers.values(), *(node for _, node in self.draws), *self.x.values()]

    def gradients(self, of_h: Mapping[str, bool], wrt: Sequence[Node]) -> tuple[dict[str, Node], list[Node]]:
        """Return inputs for the gradients of outputs, and the gradients of ``wrt`` that follow from them.

        Args:
            of_h: By leaf of the outputs that have a gradient, whether it is that of h, not that of the output itself.
            wrt: The nodes to derive by.
        """
        ends = dict(zip(leaves(self.outputs), zip(self.a, self.h, strict=True), strict=True))
        pairs = {name: ends[name][which] for name, which in of_h.items()}
        seeds = {name: self.graph.input(f"seed {name}", node.shape) for name, node in pairs.items()}
        starts = [(pairs[name], seed) for name, seed in seeds.items()]
        return seeds, gradients(starts, wrt, ends=self._ends) if wrt else []


def _with_other_numbers(model: Any) -> Any:
    """Return a copy of a model whose parameters and buffers differ from its own."""
    twin = model.copy()
    for number in (*twin.parameters.views.values(), *twin.buffers.values()):
        number[...] = -0.3 - number if number.dtype.kind == "f" else ~number
    return twin


class Output(NamedTuple):
    """An output of a model, as a loss reads it: symbols, or trees of them by name for several outputs.

    Attributes:
        a: The output.
        h: The argument of the activation that ends it, or None.
        activation: That activation, or None.
        name: The name of its leaf.
    """

    a: Any
    h: Any
    activation: Any
    name: Any

    def at(self, path: Path) -> Output:
        """Return the output that a path of names leads to."""
        return Output(*(at(values, path) for values in self))


class LossGraph:
    """The graph of a loss and of metrics that are losses, from the outputs of a model to the gradient of each.

    Attributes:
        graph: The graph of all nodes.
        a: The inputs for the leaves of the outputs, by name.
        h: Those for the arguments of their activations; None for an output without one.
        data: The leaves of y, the weight if there is one, and the number that the loss is divided by, by name.
        totals: The sum of w l of each output by its path, that of the whole loss at (); then that of each metric.
        metrics: The sum of w l of each metric, None where it has no graph.
        of_h: By leaf of the outputs that are trained, whether the gradient is that of h, not that of the output itself.
        paths: The outputs of which there is a total, the whole first.
        key: Equal for equal graphs.
    """

    def __init__(
        self,
        model: ModelGraph,
        loss: Any,
        y: Any,
        *,
        weighted: bool,
        metrics: Sequence[tuple[Path, Any]] = (),
        graph: Graph | None = None,
    ) -> None:
        """Trace a loss.

        Args:
            model: The graph of the model.
            loss: The loss.
            y: Targets, for their shapes and kinds.
            weighted: Whether each row has a weight.
            metrics: Further losses, each with the path of its output.
            graph: The graph to make it in; None is one of its own.

        Raises:
            DerivativeError: The loss cannot be traced.
        """
        self.graph = graph = Graph(model.graph.dtype, model.graph.rows) if graph is None else graph
        rows = model.a[0].shape[:1]
        ends = dict(zip(leaves(model.outputs), zip(model.a, model.h, strict=True), strict=True))
        self.a = {name: graph.input(f"a {name}", a.shape) for name, (a, _) in ends.items()}
        self.h = {name: h and graph.input(f"h {name}", h.shape) for name, (_, h) in ends.items()}
        self.data = {
            name: graph.input(name, (*rows, *np.shape(leaf)[1:]), KINDS[np.asarray(leaf).dtype.kind])
            for name, leaf in flatten(y, "y").items()
        }
        if weighted:
            self.data["weight"] = graph.input("weight", rows)
        self.data["count"] = graph.input("count", ())
        symbols = {name: Symbol(node, fixed=True) for name, node in self.data.items()}
        self.weight = symbols.get("weight")
        self.totals: dict[Path, Any] = {}
        self.of_h: dict[str, bool] = {}
        self._slopes: dict[str, tuple[Any, Any, tuple[int, ...]]] = {}
        calls = model.graph.calls

        def output(name: str) -> Output:
            call = calls.get(ends[name][0])
            h = self.h[name]
            return Output(Symbol(self.a[name], fixed=True), h and Symbol(h, fixed=True), call and call.activation, name)

        outputs = map_leaves(output, model.outputs)
        whole = Output(*(map_leaves(lambda fields, index=index: fields[index], outputs) for index in range(4)))
        target = map_leaves(symbols.__getitem__, names(y, "y"))
        with np.errstate(all="ignore"):
            loss.trace(self, whole, target, symbols["count"], ())
            totals = self.totals
            self.metrics: list[Any] = []
            for path, metric in metrics:
                self.totals = {}
                try:
                    self.metrics.append(value_of(metric.trace(self, whole.at(path), at(target, path), None, ())))
                except Exception:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
                    self.metrics.append(None)
            self.totals = {path: value_of(total) for path, total in totals.items()}
        self.paths = [(), *(path for path in self.totals if path)]
        slopes = (
            "derived" if callable(slope) else value_of(slope) for *two, _ in self._slopes.values() for slope in two
        )
        outputs = graph.key_of([*self.totals.values(), *self.metrics, *slopes])
        self.key = *self.totals, *self.data, *self.of_h.items(), outputs

    def add(self, path: Path, total: Any, output: Output, slope: Any, scale: Any, *, of_h: bool) -> Any:
        """Note the sum of w l of an output, and what its gradient is the product of; return the sum.

        Args:
            path: The names that lead to the output.
            total: The sum.
            output: The output.
            slope: d(value)/d(output), or a function that derives it.
            scale: The weight of each row, divided by what the loss is divided by; None for what is not trained.
            of_h: Whether the gradient is that of h.
        """
        self.totals[path] = total
        if scale is not None:
            self.of_h[output.name], self._slopes[output.name] = of_h, (slope, scale, output.a.shape)
        return total

    @property
    def pattern(self) -> tuple[bool, ...]:
        """For each leaf of the outputs, trained or not, whether its gradient is that of h."""
        return tuple(self.of_h.get(name, False) for name in self.a)

    @cached_property
    def deltas(self) -> dict[str, Any]:
        """By leaf of the outputs that are trained, the gradient: a node or a number."""
        deltas = {}
        with np.errstate(all="ignore"):
            for name, (written, scale, shape) in self._slopes.items():
                slope = written() if callable(written) else written
                deltas[name] = value_of((np.broadcast_to(slope, shape) if shape else slope) * scale)
        return deltas

    def join(self, lowering: Lowering, ends: Iterable[Any], seeds: Mapping[str, Node]) -> list[Any]:
        """Add the loss to a lowered model, and let its gradients take the place of the seeds; return the totals.

        Args:
            lowering: The lowered model.
            ends: The leaves of its outputs, then the arguments of their activations, or None.
            seeds: By leaf of the outputs, the input for its gradient.
        """
        known = lowering.known
        known |= {node: end for node, end in zip((*self.a.values(), *self.h.values()), ends, strict=True) if node}
        totals = lowering.add([*(self.totals[path] for path in self.paths), *self.metrics])
        deltas = lowering.add(self.deltas.get(name, 0.0) for name in seeds)
        for seed, delta in zip(seeds.values(), deltas, strict=True):
            known[seed] = lowering.graph.add("broadcast_to", delta, shape=seed.shape)
        return totals


def _nodes_read_as_numbers(outputs: Iterable[Any]) -> set[Node]:
    """Return the nodes that are results, or that other operations than comparisons read."""
    results = nodes_in(outputs)
    readers = (node for node in order_nodes(results) if node.op not in COMPARISONS)
    return {*results, *(arg for node in readers for arg in nodes_in(node.args))}


class Step(NamedTuple):
    """A step before the update, as nodes or plain numbers of one graph, or as arrays.

    Attributes:
        total: The sum of w l over the rows, of which the loss is the mean.
        totals: That of each of several outputs, then that of each metric that has a graph.
        sound: Whether ids are as the layers require them.
        gradients: The gradient of each parameter that is trained.
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


class StepGraph:
    """The graph of a step, for samples and targets of one form.

    Attributes:
        model: The graph of the model.
        loss: That of the loss.
        trained: The names of the parameters that are trained.
        key: Equal for equal graphs of the same layers.
    """

    def __init__(
        self,
        model: Any,
        loss: Any,
        batch: tuple[Any, Any, Any],
        *,
        metrics: Sequence[tuple[Path, Any]] = (),
        shards: bool = False,
        derives: bool = False,
        plain: ModelGraph | None = None,
    ) -> None:
        """Trace a step.

        Args:
            model: The model.
            loss: The loss.
            batch: x, y and weight of some rows, for their shapes and dtypes.
            metrics: OutputLosses that are metrics, each with the path of its output.
            shards: Whether the batch is a part of a larger one.
            derives: Whether gradients that a class writes by hand are derived too.
            plain: The graph of the model without stable forms, if it was traced before.

        Raises:
            DerivativeError: A part of the step cannot be traced.
        """
        x, y, weight = batch
        self.model = ModelGraph(model, sample_shape(x), training=True, shards=shards, derives=derives, plain=plain)
        graph = self.model.graph
        self.loss = LossGraph(self.model, loss, y, weighted=weight is not None, metrics=metrics, graph=graph)
        frozen = {*model.parameters.frozen}
        self.trained = [name for name in model.parameters if name not in frozen]
        self.key = self.model.key, self.loss.key, *self.trained

    @cached_property
    def _derived(self) -> tuple[dict[str, Node], list[Node]]:
        self.loss.deltas  # noqa: B018 (derived first, as by hand)
        return self.model.gradients(self.loss.of_h, [self.model.numbers[name] for name in self.trained])

    @property
    def inputs(self) -> list[Node]:
        """The leaves of x, those of y, the weight and the count, the parameters, the buffers, and the draws."""
        model = self.model
        drawn = [node for _, node in model.draws]
        return [*model.x.values(), *self.loss.data.values(), *model.numbers.values(), *drawn]

    def compose(self, *, plain: bool = False) -> tuple[Step, list[Node]]:
        """Return the step as one graph, and its inputs there; a ``plain`` one is not lowered for NumPy."""
        seeds, derived = self._derived  # first, because a loop is extended while it is derived
        model, loss, lowering = self.model, self.loss, Lowering(self.model.graph, plain=plain)
        inputs = lowering.add(self.inputs)
        a, h = lowering.add(model.a), lowering.add(model.h)
        buffers, (sound,) = lowering.add(model.buffers.values()), lowering.add([model.sound])
        total, *totals = loss.join(lowering, (*a, *h), seeds)
        pairs = zip(lowering.add(derived), derived, strict=True)
        gradients = [g if isinstance(g, Node) else lowering.graph.broadcast(g, old.shape) for g, old in pairs]
        ends = tuple(0.0 if node is None else node for node in h)
        metrics = tuple(metric for metric in totals if metric is not None)
        return Step(total, metrics, sound, tuple(gradients), tuple(buffers), ends, tuple(a)), inputs
