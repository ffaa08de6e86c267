"""Record an optimizer's update as a graph, for the engines that compile.

A record is made by calling the formula on symbols of ``graph``. Raise ``CannotLower`` if it cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from framework.backends.numpy import emit
from framework.backends.programs import programs_of
from framework.base.errors import DerivativeError, FrameworkError
from framework.base.settings.messages import warn
from framework.formulas.schedules import ConstantSchedule, Schedule
from framework.graph.graph import Graph, signature
from framework.graph.node import Node, matching, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.refuse import CANNOT, NO_RULE
from framework.graph.symbol import Symbol
from framework.graph.trace import share, trace_again
from framework.training.optimizers import Optimizer

TOLERANCES = {"float64": 1e-12, "float32": 1e-3}
"""The relative and absolute tolerance between an update and its record."""

_VIEWS = frozenset({"broadcast_to", "reshape"})


Result = TypeVar("Result")


class CannotLower(FrameworkError):  # noqa: N818 (not an error: the NumPy engine takes over)
    """A part of a step has no form that an engine can compile; the message names it and says why.

    Attributes:
        op: The operation of the graph that has no such form; empty unless the part is a single operation.
    """

    def __init__(self, message: str, op: str = "") -> None:
        """Hold the message."""
        super().__init__(message)
        self.op = op


class Slower(CannotLower):
    """A part that an engine could compile, but NumPy computes faster. The fallback raises no warning."""


def run_compiler(make: Callable[[], Result]) -> Result:
    """Return what a compiler makes of formulas that have a graph.

    Raises:
        CannotLower: The compiler raises an error.

    Warns:
        UserWarning: The error is of a kind that no formula causes, but a fault of the framework.
    """
    try:
        return make()
    except CannotLower:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is)
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, LookupError | AttributeError | TypeError | ValueError | ArithmeticError | AssertionError):
            reason = f"{type(error).__name__}: {reason}"
            warn(f"a fault of the framework: {reason}; please report it with the model. NumPy computes it")
        raise CannotLower(reason) from None


@dataclass(frozen=True, eq=False)
class Lowered:
    """A formula as a graph, with its outputs by name; records of the same operations are equal.

    Attributes:
        inputs: The nodes of the arguments by name.
        outputs: Nodes or numbers by name.
    """

    inputs: dict[str, Node]
    outputs: dict[str, Any]

    @cached_property
    def nodes(self) -> list[Node]:
        """The operations in the order in which they must be computed, with their inputs; without views."""
        return [node for node in order_nodes(map(bare, self.outputs.values())) if bare(node) is node]

    @cached_property
    def _signature(self) -> tuple[Any, ...]:
        return tuple(self.outputs), signature(self.outputs.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lowered) and self._signature == other._signature

    def __hash__(self) -> int:
        return hash(self._signature)


def bare(value: Any) -> Any:
    """Return what a view shows: kernels work on single elements, where a broadcast or reshape changes nothing."""
    while isinstance(value, Node) and value.op in _VIEWS:
        value = value.args[0]
    return value


def reason(name: str, error: Exception) -> str:
    """Return why a formula cannot be recorded."""
    if not isinstance(error, DerivativeError):
        return f"{name} cannot be recorded: {type(error).__name__}: {error}"
    if error.subject != CANNOT:
        return f"{name} cannot be recorded: {error}"
    no_rule = [advice.words for advice in error.advice[:1]] == [NO_RULE[:1]]
    return f"{name} cannot be recorded {error.problem if no_rule else str(error).removeprefix(f'{CANNOT} ')}"


def of_elements(name: str, record: Lowered) -> Lowered:
    """Return a record of which each element can be computed alone; ``name`` is that of the formula.

    Raises:
        CannotLower: An operation works on several elements.
    """
    for node in record.nodes:
        if not is_single(node):
            raise CannotLower(f"{name} cannot be recorded: {call_text(node)} works on several elements")
    return record


def is_single(node: Node) -> bool:
    """Return whether a node is an input, or an operation on each element alone."""
    if node.op == "astype":
        return not (node.kind == "i" and node.args[0].kind == "f")
    return OPERATIONS[node.op].elementwise or matching(node, "input")


def call_text(node: Node) -> str:
    """Return what a message calls an operation."""
    return f"np.{node.op}" if hasattr(np, node.op) else node.op


def python_text(node: Node) -> str:
    """Return what a message calls a function of Python on arrays."""
    owner, name = getattr(node.attributes["function"], "__self__", None), node.attributes["name"]
    return name if owner is None or type(owner).__name__ == name else f"{type(owner).__name__}.{name}"


def rehearse_update(optimizer: Optimizer, dtype: str) -> Lowered:
    """Return the record of what ``update`` does to values and memory, compared with ``update`` at a few points.

    Raises:
        CannotLower: ``update`` cannot be recorded, changes nothing, or depends on more than its arguments.
    """

    def call(graph: Graph) -> tuple[Any, Lowered]:
        update = _update(optimizer, graph, optimizer.learning_rate)
        return graph.key_of(update.outputs.values()), update

    def rehearse() -> Lowered:
        key, update = trace_again(("update", optimizer), call, dtype)
        return share((type(optimizer), key), lambda: _rehearse(optimizer, dtype, update))

    return share(("update", dtype), rehearse, programs_of(optimizer))


def _rehearse(optimizer: Optimizer, dtype: str, update: Lowered) -> Lowered:
    """Return the record of an update, after a comparison with the update itself."""
    name = f"{type(optimizer).__name__}.update"
    of_elements(name, update)
    if _update(optimizer, Graph(dtype), optimizer.learning_rate) != update:
        raise CannotLower(f"{name} is another formula at each call, as with random numbers; a kernel has one")
    others = (0.25 if optimizer.learning_rate == 0.5 else 0.5, ConstantSchedule(rate=0.5))
    if any(_update(optimizer, Graph(dtype), other) != update for other in others):
        raise CannotLower(f"{name} reads self.learning_rate, which a hook may assign: use the argument 'rate'")
    numbers = np.random.default_rng(0).normal(size=(2 + len(optimizer.memory), 8)).astype(dtype)
    numbers[2:] = abs(numbers[2:])  # memory often holds squares
    for step in (1, 2, 1001):  # odd and even, early and late
        values, gradients, *memory = (array.copy() for array in numbers)
        with np.errstate(all="ignore"):
            arguments = (*numbers[:2], 0.03, float(step), *numbers[2:])
            updated = [emit({"a": a}, update.inputs, memory=False)(*arguments) for a in update.outputs.values()]
            try:
                optimizer.update(values, gradients, 0.03, step, *memory)
            except Exception as error:  # noqa: BLE001 (whatever a user's formula raises for arrays of another length)
                raise CannotLower(f"{name} raises on 8 numbers {type(error).__name__}: {error}") from None
        if not np.allclose(updated, [values, *memory], rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype], equal_nan=True):
            raise CannotLower(f"{name} gives other numbers than its record, by what is not among its arguments")
    return update


def _update(optimizer: Optimizer, graph: Graph, learning_rate: float | Schedule) -> Lowered:
    """Return the record of ``update``, with this learning rate in the optimizer's settings."""
    memory = [f"memory_{index}" for index in range(len(optimizer.memory))]  # a user's names might be used in the source
    shapes = {"values": (graph.rows,), "gradients": (graph.rows,), "rate": (), "step": ()}
    shapes |= dict.fromkeys(memory, (graph.rows,))
    inputs = {name: graph.input(name, shape) for name, shape in shapes.items()}
    arrays: dict[str, Any] = {name: Symbol(node) for name, node in inputs.items()}
    recipe = optimizer
    if learning_rate is not optimizer.learning_rate:
        recipe = optimizer.replace()
        recipe.__dict__["learning_rate"] = learning_rate
    name = f"{type(optimizer).__name__}.update"
    try:
        with np.errstate(all="ignore"):
            recipe.update(*arrays.values())
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
        raise CannotLower(reason(name, error)) from None
    changed = {name: arrays[name].node for name in ("values", *memory)}
    if all(node is inputs[name] for name, node in changed.items()):
        raise CannotLower(f"{name} changes nothing in place")
    return Lowered(inputs, changed)
