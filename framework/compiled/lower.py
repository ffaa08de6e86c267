"""What can be compiled: the formulas of a model, its loss and its optimizer, as records for the kernel.

A record is made by calling the formula once on symbols, so a user's formula lowers like the library's. What cannot be
recorded, or replaces a method of a base class that the kernel stands for, raises ``CannotLower``, which says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.activations import Activation, RowActivation
from framework.compiled.cells import Cell
from framework.errors import DerivativeError
from framework.formulas.derive import Simplifier, adjoint
from framework.formulas.program import Program, needed
from framework.formulas.rules import REDUCTIONS
from framework.formulas.symbols import COLUMN, Symbol
from framework.losses import Loss, RowLoss
from framework.models import Dense, Model, Neuron, Sequential
from framework.optimizers import Optimizer


class CannotLower(Exception):  # noqa: N818 (not an error: the NumPy engine takes over)
    """A formula has no form that a kernel can compute; the message names it and says why."""


@dataclass(frozen=True)
class Record:
    """A formula as operations: what goes in, and what comes out.

    Attributes:
        inputs: The symbols of the arguments by name.
        outputs: Symbols or numbers by name.
    """

    inputs: dict[str, Symbol]
    outputs: dict[str, Any]

    @property
    def tape(self) -> Any:
        """All nodes, in the order of computation."""
        return next(iter(self.inputs.values())).tape

    def signature(self) -> tuple[Any, ...]:
        """Return what two records of the same formula have in common: every operation and every number."""
        wanted = needed(*self.outputs.values())
        places = {node: place for place, node in enumerate(node for node in self.tape.nodes if node in wanted)}

        def shown(value: Any) -> Any:
            return places[value] if isinstance(value, Symbol) else repr(value)

        nodes = [(node.op, node.kind, node.name, *map(shown, node.args)) for node in places]
        return tuple(nodes), tuple((name, shown(value)) for name, value in self.outputs.items())


@dataclass(frozen=True)
class Plan:
    """Everything that a kernel's source is written from.

    Attributes:
        layers: The layers, from the first to the last.
        hidden: For each layer but the last, the record h -> (a, slope); over rows h -> a.
        backwards: For each layer but the last, None, or over rows the record (gradient, h, a) -> delta.
        output: The record (h, target) -> (a, value, delta) of the last activation with the loss.
        update: The record of the optimizer's update: (values, gradients, rate, step, memory) -> the same.
        by_row: Whether the loss has one value a row.
        dtype: "float64" or "float32".
        clip_norm: The optimizer's.
        clip_value: The optimizer's.
    """

    layers: tuple[Any, ...]
    hidden: tuple[Record, ...]
    backwards: tuple[Record | None, ...]
    output: Record
    update: Record
    by_row: bool
    dtype: str
    clip_norm: float | None
    clip_value: float | None

    @property
    def descends(self) -> bool:
        """Whether a step is w <- w - rate * g and nothing else, so that it can be part of the product that gives g."""
        inputs, outputs = self.update.inputs, self.update.outputs
        match outputs["values"]:
            case Symbol(op="subtract", args=(before, Symbol(op="multiply", args=factors))):
                plain = before is inputs["values"] and {*factors} == {inputs["rate"], inputs["gradients"]}
            case _:
                plain = False
        kept = all(value is inputs[name] for name, value in outputs.items() if name != "values")
        return plain and kept and self.clip_norm is None and self.clip_value is None


def lowered(model: Model, loss: Loss, optimizer: Optimizer) -> Plan:
    """Return the plan of a kernel that trains ``model``.

    Raises:
        CannotLower: Some part has no form that a kernel can compute.
    """
    layers = _layers(model)
    dtype = model.dtype
    hidden, backwards = [], []
    for layer in layers[:-1]:
        record, backward = _activation(layer.activation, dtype)
        hidden.append(record)
        backwards.append(backward)
    return Plan(
        layers=layers,
        hidden=tuple(hidden),
        backwards=tuple(backwards),
        output=_output(loss, layers[-1].activation, dtype),
        update=lowered_update(optimizer, dtype),
        by_row=loss.by_row,
        dtype=dtype,
        clip_norm=optimizer.clip_norm,
        clip_value=optimizer.clip_value,
    )


def _layers(model: Model) -> tuple[Any, ...]:
    """Return the layers of units that a model is made of."""
    if type(model) is Sequential:
        layers = tuple(layer for part in model.layers for layer in _layers(part))
        if any(type(layer) is Neuron for layer in layers[:-1]):
            raise CannotLower("a Neuron that is not the last layer gives no row")
        return layers
    if type(model) in (Dense, Neuron):
        return (model,)
    raise CannotLower(f"{type(model).__name__} is no layer that a kernel has; it has Dense, Neuron and Sequential")


def _activation(activation: Any, dtype: str) -> tuple[Record, Record | None]:
    """Return how a hidden layer's activation goes forward, and back where that needs another record."""
    _require_own(activation, _base(activation))
    tape = Simplifier(dtype, rows=isinstance(activation, RowActivation))
    h = tape.input("h")
    with tape.verbatim():
        a = _called(activation, "__call__", h)
        if isinstance(activation, Activation):
            return Record({"h": h}, {"a": a, "slope": _slope(activation, h, a)}), None
    tape = Simplifier(dtype, rows=True)
    gradient, h_back, a_back = tape.input("gradient"), tape.input("h"), tape.input("a")
    with tape.verbatim():
        delta = _row_backward(activation, gradient, h_back, a_back)
    return (
        Record({"h": h}, {"a": a}),
        Record({"gradient": gradient, "h": h_back, "a": a_back}, {"delta": delta}),
    )


def _output(loss: Loss, activation: Any, dtype: str) -> Record:
    """Return the last activation, the loss and delta = dL/dh as one record, so that they share what they can."""
    _require_own(activation, _base(activation))
    _require_own(loss, RowLoss if isinstance(loss, RowLoss) else Loss)
    rows = loss.by_row or isinstance(activation, RowActivation)
    tape = Simplifier(dtype, rows=rows)
    h, target = tape.input("h"), tape.input("target")
    with tape.verbatim():
        a = _called(activation, "__call__", h)
        if type(activation) is loss.canonical:
            value = _called(loss, "value_from_preactivation", h, target)
            delta = _called(loss, "fused_slope", a, target)
        else:
            value = _called(loss, "value", a, target)
            delta = _loss_slope(loss, a, target)
            if isinstance(activation, RowActivation):
                delta = _row_backward(activation, delta, h, a)
            else:
                delta = delta * _slope(activation, h, a)
    return Record({"h": h, "target": target}, {"a": a, "value": value, "delta": delta})


def _slope(activation: Activation, h: Symbol, a: Any) -> Any:
    """Return f'(h): the derivative that training uses, where it is written as one that can be recorded."""
    if activation._has_derivative_from_output:
        written: tuple[str, Any] | None = ("derivative_from_output", a)
    else:
        written = ("derivative", h) if activation._has_derivative else None
    try:
        if written is not None:
            return _called(activation, *written)
    except CannotLower:
        if activation.check == "off":  # another derivative than the formula's, on purpose
            raise
    program = _traced(activation, "__call__", ("h",), h.tape.dtype)
    return replay(program.derivative_record, {program.inputs[0]: h})


def _loss_slope(loss: Loss, a: Any, target: Symbol) -> Any:
    """Return d(value)/d(prediction), written or derived."""
    base = RowLoss if loss.by_row else Loss
    try:
        if type(loss).slope is not base.slope:
            return _called(loss, "slope", a, target)
    except CannotLower:
        if loss.check == "off":
            raise
    program = _traced(loss, "value", ("prediction", "target"), target.tape.dtype, rows=loss.by_row)
    derived = adjoint(program.output, program.inputs[0], 1.0) if loss.by_row else program.derivative_record
    return replay(derived, dict(zip(program.inputs, (a, target), strict=True)))


def _row_backward(activation: RowActivation, gradient: Any, h: Any, a: Any) -> Any:
    """Return dL/dh of a row, written or derived."""
    try:
        if type(activation).backward is not RowActivation.backward:
            return _called(activation, "backward", gradient, h, a)
    except CannotLower:
        if activation.check == "off":
            raise
    program = _traced(activation, "__call__", ("h",), h.tape.dtype, rows=True)
    upstream = program.tape.input("gradient")
    derived = adjoint(program.output, program.inputs[0], upstream)
    return replay(derived, {program.inputs[0]: h, upstream: gradient})


def lowered_update(optimizer: Optimizer, dtype: str, learning_rate: float | None = None) -> Record:
    """Return the record of what ``update`` does to values and memory.

    Args:
        optimizer: The optimizer; whether it is bound makes no difference.
        dtype: "float64" or "float32".
        learning_rate: What ``update`` finds in place of its own; a record that is to last must not depend on it.

    Raises:
        CannotLower: ``update`` cannot be recorded, or changes nothing.
    """
    _require_own(optimizer, Optimizer)
    tape = Simplifier(dtype, rows=False)
    memory = [f"memory_{place}" for place in range(len(optimizer.memory))]  # own names might be those of the source
    inputs = {name: tape.input(name) for name in ("values", "gradients", "rate", "step", *memory)}
    cells = {name: Cell(symbol) for name, symbol in inputs.items()}
    recipe = optimizer.replace()  # bound to no model: what a run counts is no setting
    recipe.__dict__["learning_rate"] = optimizer.learning_rate if learning_rate is None else learning_rate
    with tape.verbatim():
        _called(recipe, "update", *cells.values(), changes=True)
    changed = {name: cells[name].value for name in ("values", *memory)}
    if all(value is inputs[name] for name, value in changed.items()):
        raise CannotLower(f"{type(optimizer).__name__}.update changes nothing in place")
    return Record(inputs, changed)


def replay(result: Any, given: dict[Symbol, Any]) -> Any:
    """Record ``result`` again on the tape of what its inputs are replaced by.

    Args:
        result: A symbol of another tape, or a number.
        given: What each input of that tape is replaced by.
    """
    if not isinstance(result, Symbol):
        return result
    tape = next(value.tape for value in given.values() if isinstance(value, Symbol))
    known = dict(given)
    wanted = needed(result)
    for node in result.tape.nodes:
        if node not in wanted or node in known:
            continue
        arguments = [known[arg] if isinstance(arg, Symbol) else arg for arg in node.args]
        if node.op in REDUCTIONS:
            known[node] = tape.reduce(node.op, arguments[0], -1, node.kind == COLUMN)
        else:
            known[node] = tape.record(node.op, *arguments)
    return known[result]


def _called(component: Any, method: str, *arguments: Any, changes: bool = False) -> Any:
    """Call a formula on symbols, and say which one it is when that fails."""
    name = f"{type(component).__name__}.{method}".removesuffix(".__call__")
    try:
        with np.errstate(all="ignore"):
            result = getattr(component, method)(*arguments)
    except DerivativeError as error:
        reason = str(error).removeprefix("the derivative cannot be derived through ")
        raise CannotLower(f"{name} cannot be recorded through {reason}") from None
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
        raise CannotLower(f"{name} cannot be recorded: {type(error).__name__}: {error}") from None
    if not changes and not isinstance(result, Symbol | int | float | np.number):
        raise CannotLower(f"{name} returns {type(result).__name__}, no numbers")
    return result


def _traced(component: Any, method: str, names: tuple[str, ...], dtype: Any, *, rows: bool = False) -> Program:
    try:
        return Program(getattr(component, method), names, dtype, rows=rows)
    except Exception as error:  # noqa: BLE001 (as above)
        raise CannotLower(f"{type(component).__name__}.{method} cannot be recorded: {error}") from None


_LOOPS: dict[type, tuple[str, ...]] = {
    Activation: ("evaluate", "backward_into", "derivative_at"),
    RowActivation: ("evaluate", "backward_into"),
    Loss: ("backward", "count", "expand", "targets", "_total", "_fill"),
    RowLoss: ("backward", "count", "expand", "targets", "_total", "_fill"),
    Optimizer: ("step", "rate", "_clip"),
}
"""The methods of the base classes that the kernel stands for."""


def _base(activation: Any) -> Callable[..., Any]:
    return RowActivation if isinstance(activation, RowActivation) else Activation


def _require_own(component: Any, base: Any) -> None:
    """Refuse a class that replaces a loop of its base class: the kernel would go around it."""
    for name in _LOOPS[base]:
        if getattr(type(component), name) is not getattr(base, name):
            raise CannotLower(f"{type(component).__name__}.{name} replaces {base.__name__}.{name}")
