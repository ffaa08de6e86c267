"""Plan: the parts of the compiled functions of a run, written for JAX."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from framework.backends.jax import Source
from framework.base.arrays import Array
from framework.base.errors import DerivativeError
from framework.graph.graph import Graph
from framework.graph.node import Node, nodes_in
from framework.graph.symbol import Symbol, value_of
from framework.models import Model
from framework.training.engines.jax.program import Program, State
from framework.training.engines.plan import Plan, Update
from framework.training.engines.records import CannotLower
from framework.training.optimizers import BoundOptimizer


class JaxPlan:
    """The parts of the compiled functions of a run, written for JAX.

    Attributes:
        plan: The step and its update as graphs.
        names: The parameters that are trained.
    """

    def __init__(self, plan: Plan) -> None:
        """Write the step, the penalties and the updates; frozen parameters come behind the others.

        Raises:
            CannotLower: NumPy makes the update, or an operation has no form in JAX; names it.
        """
        if plan.reason:
            raise CannotLower(plan.reason)
        self.plan, self.names = plan, plan.graph.trained
        step, nodes = plan.step, plan.inputs
        trained = {f"number {name}": nodes[f"number {name}"] for name in self.names}
        data = {name: node for name, node in nodes.items() if name.startswith("data ")}
        inputs = [*{**data, **trained, **nodes}.values()]  # then the frozen ones, the buffers and the draws
        outputs = [step.total, *step.totals, step.sound, *step.gradients, *step.buffers, *plan.kept]
        places = {name: index for index, name in enumerate(self.names)}
        updates = [(update_source(group.update), tuple(places[name] for name in group.names)) for group in plan.groups]
        try:
            self._program = Program(
                step=Source("step", outputs, inputs, inputs[0].graph),
                penalties=_penalty_slopes(plan, trained) if plan.regularizers else None,
                updates=tuple(updates),
                totals=len(step.totals),
            )
        except DerivativeError as error:
            raise CannotLower.of(error) from None

    def program(self, rows: int, part_rows: int, limits: Array) -> Program:
        """Return the program for batches of so many rows, of which so many go through the model at once."""
        clips = tuple(zip(self.plan.clips, limits.tolist(), strict=True))
        return replace(self._program, rows=rows, part_rows=part_rows, clips=clips)

    def state(self, model: Model, optimizer: BoundOptimizer) -> State:
        """Return the state as it is: views of the model and of the optimizer's memory."""
        parameters = model.parameters
        memory = [parameters.views_of(array) for array in optimizer.memory.values()]
        return State(
            tuple(parameters.views[name] for name in self.names),
            tuple(tuple(views[name] for views in memory) for name in self.names),
            tuple(model.buffers.values()),
        )


def update_source(update: Update) -> Source:
    """Return (values, gradients, *memory, *numbers) -> (values, *memory), flat."""
    arguments = [*update.inputs.values(), *update.numbers]
    return Source("update", update.outputs.values(), arguments, arguments[0].graph)


def _penalty_slopes(plan: Plan, trained: dict[str, Node]) -> Source:
    """Return (trained parameters) -> whether each penalty is finite, and what they add to each gradient."""
    graph = Graph(plan.graph.model.graph.dtype)
    inputs = {name.removeprefix("number "): graph.input(name, node.shape) for name, node in trained.items()}
    penalties, slopes = plan.penalties(inputs)
    sound: Any = True
    for penalty in nodes_in(penalties):
        finite = np.isfinite(Symbol(penalty))
        sound = finite if sound is True else sound & finite
    return Source("penalties", [value_of(sound), *(slopes.get(name, 0.0) for name in inputs)], inputs.values(), graph)


def pad(array: Array, length: int) -> Array:
    """Return an array with zeros behind it, up to a length."""
    more = length - len(array)
    return np.concatenate((array, np.zeros((more, *array.shape[1:]), array.dtype))) if more > 0 else array
