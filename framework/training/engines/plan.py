"""Plan: a step and its update as graphs, which an engine compiles; the same one for trainings that are alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from framework.backends.numpy import emit
from framework.backends.programs import keys_of, require_called, require_derivatives
from framework.base.arrays import Array, Batch
from framework.base.errors import DerivativeError
from framework.base.trees import at, fill, form_of, map_leaves, sample_shape
from framework.formulas.losses.several import Figure
from framework.graph.graph import Graph, rewrite, signature
from framework.graph.node import Node, ancestors, nodes_in
from framework.graph.step import ModelGraph, StepGraph
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import share
from framework.models.regularizers import Regularizer
from framework.training.engines.records import CannotLower, Lowered, rehearse_update, run_compiler
from framework.training.engines.step import metrics_in_step, overrides_loop
from framework.training.optimizers import BoundOptimizer
from framework.training.optimizers.base import list_limits
from framework.training.runs.figures import Figures
from framework.training.runs.run import Run

LITERALS = frozenset({0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, 4.0})
"""The constants of an update that stay in its formula, because they help a compiler."""


class Update:
    """The update of parameters that have one learning rate and one decay.

    What depends on the rate and the step alone, such as the corrections of Adam, is computed by NumPy in float64, for
    all steps of a chunk at once. So are the settings, and updates with other settings are one formula.

    Attributes:
        inputs: The values, the gradients and the optimizer's memory, by name.
        numbers: The numbers that it takes besides.
        outputs: The new values and memory, by name.
        key: Equal for the same formula.
        steady: Whether the numbers are the same in every step of one rate.
    """

    def __init__(self, record: Lowered) -> None:
        """Take what depends on settings, the rate and the step out of the record of an update."""
        inputs = dict(record.inputs)
        rate, step = inputs.pop("rate"), inputs.pop("step")
        outside = _numbers([*record.outputs.values()], {rate, step}, {*inputs.values()})
        constants: list[float] = []

        def number(new: Graph, index: int) -> Node:
            return new.input(f"number_{index}", ())

        def apart(new: Graph, value: Any) -> Any:
            if isinstance(value, Node | bool) or value in LITERALS or not math.isfinite(value):
                return value
            if value not in constants:
                constants.append(value)
            return number(new, len(outside) + constants.index(value))

        def rule(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
            if node in outside:
                return number(new, outside.index(node))
            if node not in inside or not args:
                return None
            parts = tuple(apart(new, arg) for arg in args)
            return None if parts == args else new.add(node.op, *parts, **node.attributes)

        inside = ancestors(record.outputs.values(), outside)
        new = rewrite([*inputs.values(), *record.outputs.values()], rule)
        self.inputs = dict(zip(inputs, new, strict=False))
        self.outputs = dict(zip(record.outputs, new[len(inputs) :], strict=True))
        graph = new[0].graph
        self.numbers = [number(graph, index) for index in range(len(outside) + len(constants))]
        self.key = tuple(self.outputs), signature(self.outputs.values())
        named = {f"number_{index}": node for index, node in enumerate(outside)}
        self._compute = emit(named, {"rate": rate, "step": step}, memory=False) if named else None
        self._outside, self._constants = len(outside), constants
        self.steady = step not in ancestors(outside)

    @property
    def descends(self) -> bool:
        """Whether it is w <- w - rate * g and nothing else."""
        match self.outputs["values"]:
            case Node(op="subtract", args=(before, Node(op="multiply", args=factors))) if len(self.numbers) == 1:
                plain = before is self.inputs["values"] and {*factors} == {self.inputs["gradients"], *self.numbers}
            case _:
                plain = False
        return plain and all(node is self.inputs[name] for name, node in self.outputs.items() if name != "values")

    def numbers_at(self, rates: Array, steps: Array) -> Array:
        """Return the numbers of some steps, (steps, numbers)."""
        columns = () if self._compute is None else self._compute(rates, steps)
        columns = columns if self._outside != 1 else (columns,)
        table = np.empty((len(rates), len(self.numbers)))
        for index, column in enumerate((*columns, *self._constants)):
            table[:, index] = column
        return table


def _numbers(outputs: list[Any], sources: set[Node], arrays: set[Node]) -> list[Node]:
    """Return the nodes that depend on ``sources`` alone and that others read."""
    nodes = ancestors(outputs)
    alone: set[Node] = set()
    for node in sorted(nodes, key=lambda node: node.place):
        args = nodes_in(node.args)
        if node in sources or (args and node not in arrays and all(arg in alone for arg in args) and not node.shape):
            alone.add(node)
    read = [arg for node in nodes - alone for arg in nodes_in(node.args) if arg in alone]
    return sorted({*read, *(node for node in nodes_in(outputs) if node in alone)}, key=lambda node: node.place)


class Group(NamedTuple):
    """Parameters that have one learning rate and one decay.

    Attributes:
        factors: By what the rate and the decay of the optimizer are multiplied.
        update: Their update.
        names: The parameters.
    """

    factors: tuple[float, float]
    update: Update
    names: tuple[str, ...]


def groups_of(optimizer: BoundOptimizer) -> list[Group]:
    """Return the updates of the parameters that are trained.

    Raises:
        CannotLower: One cannot be recorded.
    """
    recipe, factors, parameters = optimizer.recipe, optimizer._factors(), optimizer.parameters
    trained = [name for name in parameters if name not in parameters.frozen]
    groups = []
    for label in dict.fromkeys(factors[name] for name in trained):
        decayed: Any = {} if label[1] == 1.0 else {"weight_decay": label[1] * optimizer.weight_decay}
        record = rehearse_update(recipe.replace(**decayed) if decayed else recipe, optimizer.model.dtype)
        update = share(("update", record), partial(Update, record))
        groups.append(Group(label, update, tuple(name for name in trained if factors[name] == label)))
    return groups


class Plan:
    """A step and its update as graphs; the same one for trainings that are alike.

    Attributes:
        graph: The step as a graph.
        step: What it computes, as nodes that are not lowered.
        inputs: The data, the numbers of the model and the draws, by role and name: ``data x``, ``number 0.weights``.
        groups: The updates; empty where NumPy makes them.
        reason: Why NumPy makes them.
        clips: The names of the clips that the optimizer has; see ``list_limits``.
        regularizers: The penalties.
        kept: The outputs that metrics read, first the arguments of their activations; empty if none does.
    """

    def __init__(
        self,
        graph: StepGraph,
        groups: Sequence[Group],
        regularizers: Sequence[Regularizer],
        *,
        reason: str,
        clips: tuple[str, ...],
        keeps: bool,
    ) -> None:
        """Compose the step."""
        self.graph, self.groups, self.regularizers = graph, groups, regularizers
        self.reason, self.clips = reason, clips
        self.step, inputs = graph.compose(plain=True)
        model = graph.model
        names = [*(f"data {name}" for name in (*model.x, *graph.loss.data))]
        names += [f"number {name}" for name in model.numbers]
        names += [f"draw {index}" for index in range(len(model.draws))]
        self.inputs = dict(zip(names, inputs, strict=True))
        self.kept = nodes_in([*self.step.h, *self.step.a]) if keeps else []

    @cached_property
    def bytes_per_row(self) -> int:
        """How much memory a row of a step takes for what is drawn for it and kept of it."""
        drawn = sum(math.prod(draw.shape) for draw, _ in self.graph.model.draws)
        return 4 * drawn + 8 * sum(math.prod(node.shape[1:]) for node in self.kept)

    def penalties(self, trained: Mapping[str, Node]) -> tuple[list[Any], dict[str, Any]]:
        """Return the penalties of parameters, and what they add to the gradient of each.

        Args:
            trained: The nodes of the parameters that are trained, by name.
        """
        penalties, slopes = list[Any](), dict[str, Any]()
        numbers: Any = self.graph.model.numbers
        for regularizer in self.regularizers:
            penalty: Any = 0.0
            for name in regularizer.names(numbers):
                if name not in trained:
                    continue
                w = Symbol(trained[name], fixed=True)
                penalty = penalty + regularizer.value(w)
                slopes[name] = slopes.get(name, 0.0) + regularizer.strength * regularizer.slope(w)
            penalties.append(value_of(regularizer.strength * penalty))
        return penalties, {name: value_of(slope) for name, slope in slopes.items()}

    def output_trees(self, outputs: Sequence[Array]) -> tuple[Any, Any]:
        """Return (h, a) of the outputs of a batch."""
        takes, names = iter(outputs), self.graph.model.outputs
        ends = [next(takes) if isinstance(node, Node) else None for node in self.step.h]
        return fill(names, ends), fill(names, takes)


class Compiled(Protocol):
    """A plan that an engine has compiled."""

    plan: Plan


class Planned(NamedTuple):
    """The plan of a training as an engine has compiled it, with the figures and the settings of this training.

    Attributes:
        compiled: What the engine has made of the plan.
        per_row: Over how many values of a row each figure of which a step gives the total is the mean, the loss first.
        metrics: The metrics that NumPy computes from the outputs.
        groups: The updates.
        limits: Those of the clips, in the order of ``Plan.clips``.
    """

    compiled: Any
    per_row: dict[str, float]
    metrics: tuple[Figure, ...]
    groups: Sequence[Group]
    limits: Array

    def numbers(self, rates: Array, made: int) -> Iterator[Array]:
        """Give the numbers that each update takes in each step, after those that are made."""
        steps = np.arange(made + 1.0, made + 1.0 + len(rates))
        for group in self.groups:
            yield group.update.numbers_at(rates * group.factors[0], steps)


def plan_training(
    run: Run,
    regularizers: Sequence[Regularizer],
    figures: Figures,
    batch: Batch,
    make: Callable[[Plan], Compiled],
    *,
    pause_flushing: Callable[[], AbstractContextManager[None]],
    derives: bool = False,
    shards: bool = False,
    within: str = "",
) -> Planned:
    """Return the plan of a training, compiled once for trainings that are alike.

    Args:
        run: The run.
        regularizers: The penalties.
        figures: The loss and the metrics.
        batch: Some rows, for their form.
        make: Compiles a plan.
        pause_flushing: Puts back the caller's mode for subnormal numbers for a while.
        derives: Whether gradients that a class writes by hand are derived too.
        shards: Whether the rows are a part of a batch whose layers mix rows.
        within: Why NumPy makes the updates, even if they can be recorded; empty if it need not.

    Raises:
        CannotLower: The step has no graph, or ``make`` cannot compile it; names the part.
    """
    model, loss, optimizer = run.model, run.loss_function, run.optimizer
    metrics = metrics_in_step(figures, model)
    formulas = [(metric.path, metric.formula) for metric in metrics]
    if loop := overrides_loop(loss):
        raise CannotLower(f"{loop} replaces that of its base class")
    reason, groups, limits = within, list[Group](), list_limits(optimizer.recipe)
    try:
        groups = [] if within else groups_of(optimizer)
    except CannotLower as error:
        reason = str(error)

    def compile_plan() -> Compiled:
        with pause_flushing():
            require_called(plain.written)
            require_derivatives(*(layer for _, layer in model.walk_models()), loss, *regularizers, traced=True)
        graph = StepGraph(model, loss, batch, metrics=formulas, shards=shards, derives=derives, plain=plain)
        keeps = len(metrics) < len(figures.of_metrics) or None in graph.loss.metrics
        plan = Plan(graph, groups, () if reason else regularizers, reason=reason, clips=tuple(limits), keeps=keeps)
        return run_compiler(partial(make, plan))

    try:
        plain = ModelGraph(model, sample_shape(batch[0]), training=True, shards=shards, derives=derives, stable=False)
        losses = keys_of(loss, *(formula for _, formula in formulas), *regularizers, dtype=model.dtype)
        form = form_of(batch[1]), batch[2] is None, model.parameters.frozen, len(figures.of_metrics), derives
        updates = tuple((group.update.key, group.names) for group in groups)
        key = make, plain.key, losses, tuple(formulas), form, reason, updates, tuple(limits)
        made = share(key, compile_plan, model._built().programs if plain.calls else None)
    except (CannotLower, Warning):  # a program may make errors of warnings
        raise
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
        layer = getattr(error, "layer", None)
        where = f"layer {layer} has no graph" if layer else f"{type(model).__name__} and {type(loss).__name__}"
        said = f"{error}" if isinstance(error, DerivativeError) else f"{type(error).__name__}: {error}"
        raise CannotLower(f"{where}: {said.splitlines()[0]}") from None
    totals = made.plan.graph.loss.metrics
    traced = [metric for metric, total in zip(metrics, totals, strict=True) if total is not None]
    row = map_leaves(lambda leaf: (1, *leaf.shape[1:]), batch[1])
    summed = [(figure.key, figure.formula, figure.path) for figure in (*figures.of_outputs, *traced)]
    per_row = {name: formula.count(at(row, path), None) for name, formula, path in [("loss", loss, ()), *summed]}
    rest = tuple(figure for figure in figures.of_metrics if figure not in traced)
    return Planned(made, per_row, rest, groups, np.array([*limits.values()]))
