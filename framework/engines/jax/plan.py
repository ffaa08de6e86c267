"""Plan: the parts of the compiled functions of a run, for one form of the data and the settings of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from framework.arrays import Array, Batch
from framework.emit.jax import Source
from framework.emit.programs import require_called, require_derivatives
from framework.engines.jax.program import Program, State, Update
from framework.engines.records import CannotLower
from framework.engines.step import overrides_loop, traced_metrics
from framework.errors import DerivativeError
from framework.graph.graph import Graph
from framework.graph.node import Node, nodes_in
from framework.graph.step import StepGraph
from framework.graph.symbol import Symbol, value_of
from framework.models import Model
from framework.optimizers import BoundOptimizer
from framework.regularizers import Regularizer
from framework.runs.figures import Figures
from framework.runs.run import Run
from framework.trees import at, fill, map_leaves


class Plan:
    """The parts of the compiled functions of a run, for one form of the data and the settings of the optimizer.

    Attributes:
        graph: The step as a graph.
        names: The parameters that are trained.
        updates: The factor of the learning rate and the update of each group of parameters, and their places among the
            trained ones.
        per_row: The figures of which each step gives the total, the loss first, and over how many values of a row each
            is the mean.
        metrics: The metrics that NumPy computes from the outputs.
        bytes_per_row: How much memory a row of a step takes for what is kept of it.
    """

    def __init__(self, run: Run, regularizers: Sequence[Regularizer], figures: Figures, batch: Batch) -> None:
        """Trace the step and the update.

        Raises:
            CannotLower: Something in them has no graph; names it.
            DerivativeError: An operation has no form in JAX; names it.
        """
        model, loss, optimizer = run.model, run.loss_function, run.optimizer
        metrics = traced_metrics(figures, model)
        try:
            if loop := overrides_loop(loss):
                raise CannotLower(f"{loop} replaces that of its base class")  # noqa: TRY301
            require_derivatives(*(part for _, part in model.placed()), loss, traced=True)
            self.graph = StepGraph(
                model, loss, batch, metrics=[(each.path, each.formula) for each in metrics], derives=True
            )
            require_called(self.graph.model.written)
            self._penalties = _penalty_slopes(model, regularizers) if regularizers else None
        except CannotLower:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
            layer = getattr(error, "layer", None)
            where = f"layer {layer} has no graph" if layer else f"{type(model).__name__} and {type(loss).__name__}"
            said = f"{error}" if isinstance(error, DerivativeError) else f"{type(error).__name__}: {error}"
            raise CannotLower(f"{where}: {said.splitlines()[0]}") from None
        self.step, inputs = self.graph.composed(plain=True)
        self.model, self.recipe = model, optimizer.recipe
        traced = [each for each, total in zip(metrics, self.graph.loss.metrics, strict=True) if total is not None]
        self.metrics = tuple(figure for figure in figures.of_metrics if figure not in traced)
        self.names, self._frozen = self.graph.trained, model.parameters.frozen
        self.updates = [*self._updates(optimizer)]
        row = map_leaves(lambda leaf: (1, *leaf.shape[1:]), batch[1])
        formulas = [(each.key, each.formula, each.path) for each in (*figures.of_outputs, *traced)]
        self.per_row = {key: each.count(at(row, path), None) for key, each, path in [("loss", loss, ()), *formulas]}
        self._kept = nodes_in([*self.step.h, *self.step.a]) if self.metrics else []
        self.draws = [draw for draw, _ in self.graph.model.draws]
        drawn = sum(math.prod(draw.shape) for draw in self.draws)
        self.bytes_per_row = 4 * drawn + 8 * sum(math.prod(node.shape[1:]) for node in self._kept)
        self._program = self._written(inputs)

    def _updates(self, optimizer: BoundOptimizer) -> Iterator[tuple[float, Update, tuple[int, ...]]]:
        recipe, factors = optimizer.recipe, optimizer._factors()
        for label in dict.fromkeys(factors[name] for name in self.names):
            rate, decay = label
            decayed: Any = {} if decay == 1.0 else {"weight_decay": decay * optimizer.weight_decay}
            places = tuple(place for place, name in enumerate(self.names) if factors[name] == label)
            yield rate, Update(recipe.replace(**decayed), self.model.dtype), places

    def _written(self, inputs: Sequence[Node]) -> Program:
        """Write the step, the penalties and the updates, for no batch yet; frozen parameters come behind the others."""
        step, model = self.step, self.graph.model
        start = len(model.x) + len(self.graph.loss.data)
        by_name = dict(zip(model.numbers, inputs[start:], strict=False))
        parameters = [by_name[name] for name in (*self.names, *self._frozen)]
        inputs = [*inputs[:start], *parameters, *inputs[start + len(parameters) :]]
        outputs = [step.total, *step.totals, step.sound, *step.gradients, *step.buffers, *self._kept]
        return Program(
            step=Source("step", outputs, inputs, inputs[0].graph),
            penalties=self._penalties,
            updates=tuple((update.source, places) for _, update, places in self.updates),
            totals=len(step.totals),
            clips=(self.recipe.clip_norm, self.recipe.clip_value),
        )

    def program(self, rows: int, part: int) -> Program:
        """Return the program for batches of so many rows, of which so many go through the model at once."""
        return replace(self._program, rows=rows, part=part)

    def state(self, optimizer: BoundOptimizer) -> State:
        """Return the state as it is: views of the model and of the optimizer's memory."""
        parameters = self.model.parameters
        memory = [parameters.views_of(array) for array in optimizer.memory.values()]
        return State(
            tuple(parameters.views[name] for name in self.names),
            tuple(tuple(views[name] for views in memory) for name in self.names),
            tuple(self.model.buffers.values()),
        )

    def fixed(self) -> tuple[Array, ...]:
        """Return the parameters that are not trained."""
        return tuple(self.model.parameters.views[name] for name in self._frozen)

    def numbers(self, rates: Array, made: int) -> Iterator[Array]:
        """Give the numbers that each update takes in each step, after those that are made."""
        steps = np.arange(made + 1.0, made + 1.0 + len(rates))
        for factor, update, _ in self.updates:
            yield update.numbers(rates * factor, steps).astype(self.model.dtype)

    def output_trees(self, outputs: Sequence[Array]) -> tuple[Any, Any]:
        """Return (h, a) of the outputs of a batch."""
        takes, names = iter(outputs), self.graph.model.outputs
        ends = [next(takes) if isinstance(node, Node) else None for node in self.step.h]
        return fill(names, ends), fill(names, takes)


def _penalty_slopes(model: Model, regularizers: Sequence[Regularizer]) -> Source:
    """Return (trained parameters) -> whether each penalty is finite, and what they add to each gradient."""
    graph, frozen = Graph(model.dtype), {*model.parameters.frozen}
    views = {name: view for name, view in model.parameters.views.items() if name not in frozen}
    inputs = {name: graph.input(name, view.shape) for name, view in views.items()}
    sound: Any = True
    slopes: dict[str, Any] = dict.fromkeys(inputs, 0.0)
    for regularizer in regularizers:
        penalty: Any = 0.0
        for name in regularizer.names(model.parameters):
            if name not in inputs:
                continue
            w = Symbol(inputs[name], fixed=True)
            penalty = penalty + regularizer.value(w)
            slopes[name] = slopes[name] + regularizer.strength * regularizer.slope(w)
        finite = np.isfinite(regularizer.strength * penalty)
        sound = finite if sound is True else sound & finite
    return Source("penalties", [*map(value_of, (sound, *slopes.values()))], inputs.values(), graph)


def padded(array: Array, length: int) -> Array:
    """Return an array with zeros behind it, up to a length."""
    more = length - len(array)
    return np.concatenate((array, np.zeros((more, *array.shape[1:]), array.dtype))) if more > 0 else array
