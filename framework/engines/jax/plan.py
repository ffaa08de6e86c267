"""Plan: the parts of the compiled functions of a run, for one form of the data and the settings of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from framework.arrays import Array, Batch
from framework.emit.jax import Source
from framework.emit.programs import parts_of, wholly_ours
from framework.engines.jax.graph import StepGraph
from framework.engines.jax.program import Program, State, Update
from framework.graph.node import Node, nodes_in
from framework.graph.reads import Reads
from framework.losses import Loss
from framework.losses.several import Losses
from framework.optimizers import BoundOptimizer
from framework.regularizers import Regularizer
from framework.runs.figures import Figures
from framework.runs.run import Run
from framework.settings.component import Component
from framework.settings.messages import is_ours
from framework.trees import at, map_leaves


class Plan:
    """The parts of the compiled functions of a run, for one form of the data and the settings of the optimizer.

    Attributes:
        graph: The step as a graph.
        trained: Which of the parameters are trained.
        updates: The factor of the learning rate and the update of each group of parameters, and their places among the
            trained ones.
        per_row: How many values of a row the loss is the mean over.
        totals: The figures of which each step gives the total: the losses of several outputs, and metrics.
        per_total: How many values of a row each of them is the mean over.
        metrics: The metrics that NumPy computes from the outputs.
        reads: By class, the values that the formulas of users' classes read.
        bytes_per_row: How much memory a row of a step takes for what is kept of it.
    """

    def __init__(self, run: Run, regularizers: Sequence[Regularizer], figures: Figures, batch: Batch) -> None:
        """Trace the step and the update.

        Raises:
            CannotLower: Something in them has no graph; names it.
            DerivativeError: An operation has no form in JAX; names it.
        """
        model, loss, optimizer = run.model, run.loss_function, run.optimizer
        self.graph = StepGraph(model, loss, regularizers, figures, batch)
        self.model, self.recipe = model, optimizer.recipe
        self.totals = [*figures.of_outputs, *self.graph.metrics]
        self.metrics = tuple(figure for figure in figures.of_metrics if figure not in self.graph.metrics)
        frozen = {*model.parameters.frozen}
        self.names = [name for name in model.parameters if name not in frozen]
        self.fixed_names = [name for name in model.parameters if name in frozen]
        self.trained = tuple(name not in frozen for name in model.parameters)
        self._slices, start = dict[str, slice](), 0
        for name, view in model.parameters.items():
            self._slices[name] = slice(start, start := start + view.size)
        self.updates = [*self._updates(optimizer)]
        self.per_row = values_in_row(loss, batch[1])
        self.per_total = [
            1.0 if isinstance(figure.formula, Losses) else values_in_row(figure.formula, at(batch[1], figure.path))
            for figure in self.totals
        ]
        self._kept = [*self.graph.step.h, *self.graph.step.a] if self.metrics else []
        drawn = sum(math.prod(draw.shape) for draw in self.graph.draws)
        self.bytes_per_row = 4 * drawn + 8 * sum(math.prod(node.shape[1:]) for node in nodes_in(self._kept))
        self.reads = [
            *_reads((model, loss, *(each.formula for each in self.graph.metrics), *regularizers, optimizer.recipe))
        ]
        self._program = self._written()

    def _updates(self, optimizer: BoundOptimizer) -> Iterator[tuple[float, Update, tuple[int, ...]]]:
        recipe = optimizer.recipe
        for (rate, decay), run in optimizer.parameters.groups(optimizer._factors()):
            decayed: Any = {} if decay == 1.0 else {"weight_decay": decay * optimizer.weight_decay}
            places = (
                place for place, name in enumerate(self.names) if self._slices[name].start in range(run.start, run.stop)
            )
            yield rate, Update(recipe.replace(**decayed), self.model.dtype), tuple(places)

    def _written(self) -> Program:
        """Write the step, the penalties and the updates, for no batch yet."""
        graph, step = self.graph, self.graph.step

        def chosen(parts: Iterable[Any]) -> list[Any]:
            return [each for each, trained in zip(parts, self.trained, strict=True) if trained]

        outputs = [step.total, *step.totals, step.sound, *chosen(step.gradients), *step.buffers, *self._kept]
        penalties = graph.penalties and Source(
            "penalties", [graph.penalties.sound, *chosen(graph.penalties.slopes)], chosen(graph.parameters), graph.graph
        )
        return Program(
            step=Source("step", outputs, graph.inputs, graph.graph),
            penalties=penalties,
            updates=tuple((update.source, places) for _, update, places in self.updates),
            trained=self.trained,
            totals=len(step.totals),
            buffers=len(step.buffers),
            kept=tuple(node.shape[1:] if isinstance(node, Node) else None for node in self._kept),
            clips=(self.recipe.clip_norm, self.recipe.clip_value),
        )

    def program(self, rows: int, part: int) -> Program:
        """Return the program for batches of so many rows, of which so many go through the model at once."""
        return replace(self._program, rows=rows, part=part)

    def state(self, optimizer: BoundOptimizer) -> State:
        """Return the state as it is: views of the model and of the optimizer's memory."""
        parameters, buffers = self.model.parameters, self.model.buffers
        values = tuple(parameters.views[name] for name in self.names)
        memory = tuple(self.memory(optimizer, name) for name in self.names)
        return State(values, memory, tuple(buffers.values()))

    def memory(self, optimizer: BoundOptimizer, name: str) -> tuple[Array, ...]:
        """Return the views of the optimizer's memory of a parameter."""
        shape = self.model.parameters.views[name].shape
        return tuple(array[self._slices[name]].reshape(shape) for array in optimizer.memory.values())

    def fixed(self) -> tuple[Array, ...]:
        """Return the parameters that are not trained."""
        return tuple(self.model.parameters.views[name] for name in self.fixed_names)

    def numbers(self, rates: Array, steps: int, capacity: int) -> tuple[Array, ...]:
        """Return the numbers that each update takes in each step, after so many steps."""
        found = []
        for factor, update, _ in self.updates:
            made = update.numbers(rates * factor, np.arange(steps + 1.0, steps + 1.0 + len(rates)))
            found.append(padded(made.astype(self.model.dtype), capacity))
        return tuple(found)

    def output_trees(self, outputs: Sequence[Array]) -> tuple[Any, Any]:
        """Return (h, a) of the outputs of a batch."""
        count = len(outputs) // 2
        h = [
            None if not isinstance(node, Node) else part
            for node, part in zip(self._kept, outputs[:count], strict=False)
        ]
        takes = iter(h), iter(outputs[count:])
        return tuple(map_leaves(lambda _, take=take: next(take), self.graph.outputs) for take in takes)


_FORMULAS = (
    *("_formula", "derivative", "derivative_from_output", "backward", "value", "slope", "value_from_preactivation"),
    *("fused_slope", "update", "formula", "apply", "function"),
)
"""The methods of components that are traced."""


def _reads(components: Iterable[Component]) -> Iterator[tuple[str, Reads]]:
    """Give what the formulas of users' classes read, of components and the components among their settings."""
    for component in components:
        if not wholly_ours(component):
            yield from _reads(parts_of(component))
        kind = type(component)
        methods = [getattr(component, name) for name in _FORMULAS if hasattr(kind, name) or name in kind.model_fields]
        own = [method for method in methods if callable(method) and not is_ours(getattr(method, "__module__", None))]
        if own:
            yield kind.__name__, Reads(own, kind)


def padded(array: Array, length: int) -> Array:
    """Return an array with zeros behind it, up to a length."""
    more = length - len(array)
    return np.concatenate((array, np.zeros((more, *array.shape[1:]), array.dtype))) if more > 0 else array


def values_in_row(loss: Loss, target: Any) -> float:
    """Return how many values of a row of the target a loss is the mean over."""
    return loss.count((1, *target.shape[1:]) if isinstance(target, np.ndarray) else (1,), None)
