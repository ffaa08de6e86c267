"""Record the formulas of a model, its loss and its optimizer for a kernel.

A record is made by calling the formula on symbols of ``graph``, so a user's formula lowers like the library's. Raise
``CannotLower`` if a formula cannot be recorded, or if a class overrides a method that the kernel replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from framework.activations import Activation
from framework.emit.numpy import emit
from framework.emit.programs import Program, wholly_ours
from framework.engines.compiled.wiring import CannotLower, Path, Wiring
from framework.errors import DerivativeError
from framework.graph.graph import Graph, signature
from framework.graph.lower import lower
from framework.graph.node import Node, matching, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.reads import Reads
from framework.graph.refuse import NO_RULE
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.losses import Loss, RowLoss
from framework.losses.several import Losses
from framework.models import Model
from framework.optimizers import Optimizer
from framework.schedules import Schedule
from framework.schedules.formulas import ConstantSchedule
from framework.settings.component import Component
from framework.settings.messages import is_ours

ELEMENTS = 4
"""The row length that elementwise formulas are recorded with; their kernels serve rows of any length."""

TOLERANCES = {"float64": 1e-12, "float32": 1e-3}
"""The relative and absolute tolerance between an update and its record."""

REDUCTIONS = frozenset({"sum", "mean", "max", "min"})

_VIEWS = frozenset({"broadcast_to", "reshape"})


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
        return [node for node in ordered(map(bare, self.outputs.values())) if bare(node) is node]

    @property
    def coupled(self) -> bool:
        """Whether elements of a row depend on one another."""
        return any(node.op in REDUCTIONS for node in self.nodes)

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


def arguments(node: Node) -> tuple[Any, ...]:
    """Return a node's arguments without views."""
    return tuple(map(bare, node.args))


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the source of a kernel depends on.

    Attributes:
        wiring: The layers, and which reads what.
        losses: The loss of each output, in the order of the wiring's.
        shares: The weight of each of them in the sum; None where the model has one output.
        optimizer: The optimizer's recipe.
        dtype: "float64" or "float32".
        hidden: For each layer, the record h -> (a, slope), over rows h -> a; None for an output.
        backwards: For each layer, None, or over rows the record (gradient, h, a) -> delta.
        outputs: By layer, the record (h, target) -> (a, value, delta) of an output's activation with its loss.
        update: The record of the optimizer's update: (values, gradients, rate, step, memory) -> the same.
        reads: By class, what a user's written derivatives and update read besides their arguments and settings.
    """

    wiring: Wiring
    losses: tuple[Loss, ...]
    shares: tuple[float, ...] | None
    optimizer: Optimizer
    dtype: str
    hidden: tuple[Lowered | None, ...]
    backwards: tuple[Lowered | None, ...]
    outputs: dict[int, Lowered]
    update: Lowered
    reads: tuple[tuple[str, Reads], ...]

    @property
    def descends(self) -> bool:
        """Whether a step is w <- w - rate * g and nothing else, so that it can be part of the product that gives g."""
        inputs, outputs, recipe = self.update.inputs, self.update.outputs, self.optimizer
        match outputs["values"]:
            case Node(op="subtract", args=(before, Node(op="multiply", args=factors))):
                plain = before is inputs["values"] and {*factors} == {inputs["rate"], inputs["gradients"]}
            case _:
                plain = False
        kept = all(value is inputs[name] for name, value in outputs.items() if name != "values")
        return plain and kept and recipe.clip_norm is None and recipe.clip_value is None

    def require_unchanged(self) -> None:
        """Check that each written derivative, and the update, reads the same values as when it was recorded.

        Raises:
            DerivativeError: One does; names the value.
        """
        for name, reads in self.reads:
            if (changed := reads.changed()) is not None:
                raise DerivativeError(
                    f"{name}: {changed} has changed while training; the kernel computes with its first value. Make it "
                    "a setting, or let the formula depend on its arguments alone"
                )


def lowered(model: Model, loss: Loss, optimizer: Optimizer) -> Plan:
    """Return the plan of a kernel that trains ``model``.

    Raises:
        CannotLower: Some part has no form that a kernel can compute.
    """
    if optimizer.rate_factors or optimizer.decay_factors:
        raise CannotLower("a kernel has one learning rate and one decay for all parameters")
    wiring = Wiring.of(model)
    activations = tuple(wiring.activations)
    units = tuple(map(wiring.units, range(len(activations))))
    losses, shares = _losses(loss, wiring)
    formulas: tuple[Activation | Loss, ...] = (*activations, *losses)
    methods = tuple(map(_recorded_from, dict.fromkeys((*formulas, optimizer))))
    plan = _plan(activations, units, tuple(wiring.outputs.values()), losses, optimizer, model.dtype, methods)
    plan = replace(plan, wiring=wiring, shares=shares)
    try:
        for formula in formulas:
            formula.program()  # traced twice, so without random numbers; the engine watches what it reads
    except DerivativeError as error:
        raise CannotLower(str(error)) from None
    return plan


@lru_cache(maxsize=64)
def _plan(
    activations: tuple[Activation, ...],
    units: tuple[int, ...],
    outputs: tuple[int, ...],
    losses: tuple[Loss, ...],
    optimizer: Optimizer,
    dtype: str,
    _methods: tuple[Any, ...],  # a part of the key
) -> Plan:
    """Return a plan without a wiring, recorded once: each fit needs it twice, and it takes milliseconds."""
    hidden = [
        (None, None) if layer in outputs else _activation(activation, units[layer], dtype)
        for layer, activation in enumerate(activations)
    ]
    return Plan(
        wiring=Wiring(),
        losses=losses,
        shares=None,
        optimizer=optimizer,
        dtype=dtype,
        hidden=tuple(record for record, _ in hidden),
        backwards=tuple(backward for _, backward in hidden),
        outputs={
            layer: _output(loss, activations[layer], units[layer], dtype)
            for layer, loss in zip(outputs, losses, strict=True)
        },
        update=rehearsed_update(optimizer, dtype),
        reads=_reads(*dict.fromkeys(activations), *dict.fromkeys(losses), optimizer),
    )


def _losses(loss: Loss, wiring: Wiring) -> tuple[tuple[Loss, ...], tuple[float, ...] | None]:
    """Return the loss of each output and its weight in the sum, and bring the outputs into their order."""
    if not isinstance(loss, Losses):
        return (loss,), None
    found: dict[Path, tuple[Loss, float]] = {}

    def add(loss: Loss, path: Path, share: float) -> None:
        if type(loss) is Losses:
            for name, each in loss.losses.items():
                add(each, (*path, name), share * loss.weight_of(name))
        else:
            found[path] = (loss, share)

    add(loss, (), 1.0)
    if found.keys() != wiring.outputs.keys():
        raise CannotLower(f"a kernel takes Losses for the outputs of the model; got {type(loss).__name__}")
    wiring.outputs = {path: wiring.outputs[path] for path in found}
    losses, shares = zip(*found.values(), strict=True)
    return losses, shares


def _recorded_from(component: Component) -> tuple[Any, ...]:
    """Return the methods that are recorded and what a user's methods read: the key of a component's records."""
    base = next(base for base in _WRITTEN if isinstance(component, base))
    names = (*_FORMULA[base], *_WRITTEN[base])
    methods = tuple(getattr(type(component), name) for name in names)
    if wholly_ours(component):
        return methods
    reads = Reads([getattr(component, name) for name in names], type(component))
    return *methods, frozenset(reads.values.items())


_LOOPS: dict[type, tuple[str, ...]] = {
    Activation: ("derivative_at",),
    **dict.fromkeys((RowLoss, Loss), ("backward", "count", "expand", "targets", "_total", "_fill")),
    Optimizer: (),
}
"""The methods of the base classes that the kernel replaces."""


_FORMULA: dict[type, tuple[str, ...]] = {Activation: ("_formula",), Loss: ("value",), Optimizer: ()}
"""The methods that are formulas."""

_WRITTEN: dict[type, tuple[str, ...]] = {
    Activation: ("derivative", "derivative_from_output", "backward"),
    Loss: ("slope", "value_from_preactivation", "fused_slope"),
    Optimizer: ("update",),
}
"""The further methods that are recorded; the programs of formulas watch what those read."""


def _reads(*components: Activation | Loss | Optimizer) -> tuple[tuple[str, Reads], ...]:
    """Return what such methods of users' classes read, by the name of the class."""
    found = []
    for cls in map(type, components):
        names = next(names for base, names in _WRITTEN.items() if issubclass(cls, base))
        own = [method for name in names if not is_ours((method := getattr(cls, name)).__module__)]
        if own:
            found.append((cls.__name__, Reads(own, cls)))
    return tuple(found)


def _require_own(component: Any) -> None:
    """Refuse a class that overrides a loop of its base class: the kernel would not call it."""
    base = next(base for base in _LOOPS if isinstance(component, base))
    for name in _LOOPS[base]:
        if getattr(type(component), name) is not getattr(base, name):
            raise CannotLower(f"{type(component).__name__}.{name} replaces {base.__name__}.{name}")


# formulas


def _recorded(names: tuple[str, ...], width: int, dtype: str, compute: Callable[..., dict[str, Any]]) -> Lowered:
    """Record a computation on rows of ``width`` numbers: symbols to symbols or numbers by name."""
    graph = Graph(dtype)
    nodes = {name: graph.input(name, (graph.rows, width)) for name in names}
    with np.errstate(all="ignore"):
        outputs = compute(*map(_argument, nodes.values()))
    return Lowered(nodes, {name: value_of(value) for name, value in outputs.items()})


def _argument(value: Any) -> Any:
    """Return a value as an argument of a formula, which the formula must not change."""
    value = value_of(value)
    return Symbol(value, fixed=True) if isinstance(value, Node) else value


def _activation(activation: Activation, units: int, dtype: str) -> tuple[Lowered, Lowered | None]:
    """Return how a hidden layer's activation goes forward, and back where that needs another record."""
    _require_own(activation)
    if not _coupled(activation):

        def both(h: Symbol) -> dict[str, Any]:
            a = _called(activation, "_formula", h)
            return {"a": a, "slope": _slope(activation, h, a)}

        return _of_elements(activation, _recorded(("h",), ELEMENTS, dtype, both)), None
    forward = _recorded(("h",), units, dtype, lambda h: {"a": _called(activation, "_formula", h)})
    names = ("gradient", "h", "a")
    backward = _recorded(names, units, dtype, lambda *symbols: {"delta": _row_backward(activation, *symbols)})
    return _of_rows(activation, forward), _of_rows(activation, backward)


def _output(loss: Loss, activation: Activation, units: int, dtype: str) -> Lowered:
    """Return the last activation, the loss and delta = dL/dh as one record, so that they share what they can."""
    _require_own(activation)
    _require_own(loss)
    coupled = _coupled(activation)

    def all_three(h: Symbol, target: Symbol) -> dict[str, Any]:
        a = _called(activation, "_formula", h)
        if loss.fuses(activation):
            value = _called(loss, "value_from_preactivation", h, target)
            return {"a": a, "value": value, "delta": _called(loss, "fused_slope", a, target)}
        value = _called(loss, "value", a, target)
        slope = _loss_slope(loss, a, target)
        if coupled:
            return {"a": a, "value": value, "delta": _row_backward(activation, slope, h, a)}
        return {"a": a, "value": value, "delta": slope * _slope(activation, h, a)}

    over_rows = loss.by_row or coupled
    record = _recorded(("h", "target"), units if over_rows else ELEMENTS, dtype, all_three)
    return _of_rows(loss, record) if over_rows else _of_elements(loss, record)


def _coupled(activation: Activation) -> bool:
    try:
        return activation.coupled
    except DerivativeError as error:
        raise CannotLower(str(error)) from None


def _slope(activation: Activation, h: Symbol, a: Any) -> Any:
    """Return f'(h), written or derived."""
    if activation._has_derivative_from_output:
        return _called(activation, "derivative_from_output", a)
    if activation._has_derivative:
        return _called(activation, "derivative", h)
    return _derived(activation, "_formula", [h])


def _loss_slope(loss: Loss, a: Any, target: Symbol) -> Any:
    """Return d(value)/d(prediction), written or derived."""
    if type(loss).slope is not Loss.slope:
        return _called(loss, "slope", a, target)
    return _derived(loss, "value", [a, target])


def _row_backward(activation: Activation, gradient: Any, h: Symbol, a: Any) -> Any:
    """Return dL/dh of a row, written or derived."""
    if activation._has_backward:
        return _called(activation, "backward", gradient, h, a)
    return _derived(activation, "_formula", [h], gradient, a)


def _derived(component: Any, method: str, given: list[Any], gradient: Any = None, output: Any = None) -> Any:
    """Return the derivative of a formula by its first argument, recorded where its arguments are.

    Args:
        component: The owner of the formula.
        method: The formula's name.
        given: The arguments.
        gradient: The gradient to pull back through a formula over rows; None is 1.
        output: The formula's result, where a gradient is given, so that it is not computed again.
    """
    graph, width = next((value.graph, value.shape[-1]) for value in given if isinstance(value, Symbol))
    try:
        names = ("first", "second")[: len(given)]
        program = Program(getattr(component, method), names, graph.dtype, width, ours=True)
        nodes = [program.slope, *program.inputs.values()]
        if gradient is not None:
            seed, pulled = program.pulled
            nodes, given = [pulled, *program.inputs.values(), program.output, seed], [*given, output, gradient]
        found, *inputs = nodes if program.elementwise else lower(nodes, exact=True)
    except DerivativeError as error:
        raise CannotLower(_reason(_name(component, method), error)) from None
    known = dict(zip(inputs, map(value_of, given), strict=True))
    for node in ordered([found], known):
        if node not in known:
            args = tuple(known[arg] if isinstance(arg, Node) else arg for arg in node.args)
            known[node] = graph.made(node.op, args, node.attributes, node.shape, node.kind)
    return symbol_of(known.get(found, found))


def rehearsed_update(optimizer: Optimizer, dtype: str) -> Lowered:
    """Return the record of what ``update`` does to values and memory, compared with ``update`` at a few points.

    Raises:
        CannotLower: ``update`` cannot be recorded, changes nothing, or depends on more than its arguments.
    """
    name, update = f"{type(optimizer).__name__}.update", _update(optimizer, dtype, optimizer.learning_rate)
    if _update(optimizer, dtype, optimizer.learning_rate) != update:
        raise CannotLower(f"{name} is another formula at each call, as with random numbers; a kernel has one")
    others = (0.25 if optimizer.learning_rate == 0.5 else 0.5, ConstantSchedule(rate=0.5))
    if any(_update(optimizer, dtype, other) != update for other in others):
        raise CannotLower(f"{name} reads self.learning_rate, which a hook may assign: use the argument 'rate'")
    numbers = np.random.default_rng(0).normal(size=(2 + len(optimizer.memory), 8)).astype(dtype)
    numbers[2:] = abs(numbers[2:])  # memory often holds squares
    for step in (1, 2, 1001):  # odd and even, early and late
        values, gradients, *memory = (array.copy() for array in numbers)
        with np.errstate(all="ignore"):
            arguments = (*numbers[:2], 0.03, float(step), *numbers[2:])
            found = [emit({"a": a}, update.inputs, memory=False)(*arguments) for a in update.outputs.values()]
            optimizer.update(values, gradients, 0.03, step, *memory)
        if not np.allclose(found, [values, *memory], rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype], equal_nan=True):
            raise CannotLower(f"{name} gives other numbers than its record, by what is not among its arguments")
    return update


def _update(optimizer: Optimizer, dtype: str, learning_rate: float | Schedule) -> Lowered:
    """Return the record of ``update``, with this learning rate in the optimizer's settings."""
    graph = Graph(dtype)
    memory = [f"memory_{place}" for place in range(len(optimizer.memory))]  # a user's names might be used in the source
    shapes = {"values": (graph.rows,), "gradients": (graph.rows,), "rate": (), "step": ()}
    shapes |= dict.fromkeys(memory, (graph.rows,))
    inputs = {name: graph.input(name, shape) for name, shape in shapes.items()}
    arrays = {name: Symbol(node) for name, node in inputs.items()}
    recipe = optimizer.replace()
    recipe.__dict__["learning_rate"] = learning_rate
    _called(recipe, "update", *arrays.values(), changes=True)
    changed = {name: arrays[name].node for name in ("values", *memory)}
    if all(node is inputs[name] for name, node in changed.items()):
        raise CannotLower(f"{type(optimizer).__name__}.update changes nothing in place")
    return _of_elements(optimizer, Lowered(inputs, changed), method="update")


def _called(component: Any, method: str, *arguments: Any, changes: bool = False) -> Any:
    """Call a formula on symbols; an error names the formula.

    Args:
        component: The owner of the formula.
        method: The formula's name.
        arguments: Symbols and numbers.
        changes: Whether the formula works in place and returns nothing.
    """
    name = _name(component, method)
    try:
        with np.errstate(all="ignore"):
            result = getattr(component, method)(*(arguments if changes else map(_argument, arguments)))
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
        raise CannotLower(_reason(name, error)) from None
    if not changes and not isinstance(result, Symbol | int | float | np.number):
        raise CannotLower(f"{name} returns {type(result).__name__}; expected an array")
    return result


def _name(component: Any, method: str) -> str:
    return f"{type(component).__name__}.{method}".removesuffix("._formula")


def _reason(name: str, error: Exception) -> str:
    """Return why a formula cannot be recorded."""
    if not isinstance(error, DerivativeError):
        return f"{name} cannot be recorded: {type(error).__name__}: {error}"
    start, text = "the formula cannot be traced ", str(error).removesuffix(f": {NO_RULE}")
    return f"{name} cannot be recorded{' ' if text.startswith(start) else ': '}{text.removeprefix(start)}"


# the form that a kernel has


def _of_elements(component: Any, record: Lowered, method: str = "") -> Lowered:
    """Return a record of which each element can be computed alone.

    Raises:
        CannotLower: An operation works on several elements.
    """
    for node in record.nodes:
        if not _single(node):
            name = f"{type(component).__name__}{f'.{method}' if method else ''}"
            raise CannotLower(f"{name} cannot be recorded: {_call(node)} works on several elements")
    return record


def _of_rows(component: Any, record: Lowered) -> Lowered:
    """Return a record that a kernel can compute in loops along the row.

    Raises:
        CannotLower: An operation has no such form.
    """
    rows, width = next(iter(record.inputs.values())).shape
    for node in record.nodes:
        reduces = node.op in REDUCTIONS and node.attributes["axes"] == (1,) and node.args[0].shape == (rows, width)
        if not (_single(node) or reduces) or node.shape[1:] not in ((), (1,), (width,)) or node.shape[:1] != (rows,):
            name = type(component).__name__
            raise CannotLower(f"{name} cannot be recorded: a kernel has no form for {_call(node)} over the row")
    return record


def _single(node: Node) -> bool:
    """Return whether a node is an input, or an operation on each element alone."""
    if node.op == "astype":
        return not (node.kind == "i" and node.args[0].kind == "f")
    return OPERATIONS[node.op].elementwise or matching(node, "input")


def _call(node: Node) -> str:
    return f"np.{node.op}" if hasattr(np, node.op) else node.op
