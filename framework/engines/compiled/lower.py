"""Record the formulas of a model, its loss and its optimizer for a kernel.

A record is made by calling the formula on symbols of ``graph``, so a user's formula lowers like the library's. Raise
``CannotLower`` if a formula cannot be recorded, or if a class overrides a method that the kernel replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from framework.activations import Activation
from framework.emit.programs import require_called
from framework.engines.compiled.formulas import (
    REDUCTIONS,
    arguments,
    called,
    fixed,
    name_of,
    of_shards,
)
from framework.engines.compiled.wiring import Operation, Path, Wiring
from framework.engines.records import (
    CannotLower,
    Lowered,
    call_text,
    is_single,
    of_elements,
    reason,
    rehearsed_update,
)
from framework.errors import DerivativeError, FrameworkError
from framework.graph.gradient import derivative, gradients
from framework.graph.graph import Graph, rewrite, substitute
from framework.graph.lower import expand
from framework.graph.node import Node, nodes_in
from framework.graph.operations import COMPARISONS, OPERATIONS
from framework.graph.rows import mixing
from framework.graph.stable import stabilise
from framework.graph.step import Output
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.trace import share
from framework.losses import Loss, RowLoss
from framework.losses.several import Losses
from framework.models import Model
from framework.models.layer import Layer, LayerGraph
from framework.optimizers import Optimizer
from framework.regularizers import Regularizer

ELEMENTS = 4
"""The row length that elementwise formulas are recorded with; their kernels serve rows of any length."""


class Penalty(NamedTuple):
    """A regularizer.

    Attributes:
        record: w -> (slope, times the strength; change = slope^2, square = w^2).
        spans: The first number and the count of each parameter that it acts on, in the vector of all.
    """

    record: Lowered
    spans: tuple[tuple[int, int], ...]


_Names = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class Passes(NamedTuple):
    """The records of a layer's formula, or of an activation.

    Attributes:
        forward: (x, or x0 and x1, the parameters, draws and buffers) -> (a, the new buffers, square = a^2, and of a
            shard the sums over all shards that the backward pass reads); of an activation of elements h -> (a, slope,
            square).
        backward: (gradient, the same, those sums) -> (dx, or dx0 and dx1, the gradient of each parameter, their
            squares); of an activation (gradient, slope), or over rows (gradient, h, a) -> (delta, change = delta^2).
        names: The names of the inputs besides x: of parameters, draws and buffers.
    """

    forward: Lowered
    backward: Lowered
    names: _Names = ((), (), ())


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the source of a kernel depends on.

    Attributes:
        wiring: The operations, and which reads what.
        losses: The loss of each output, in the order of the wiring's.
        shares: The weight of each of them in the sum; None where the model has one output.
        optimizer: The optimizer's recipe.
        dtype: "float64" or "float32".
        passes: By operation, the records of its formula; None for an output.
        penalties: The regularizers.
        update: The record of the optimizer's update: (values, gradients, rate, step, memory) -> the same; empty in a
            plan of gradients, to which NumPy adds the slopes of the regularizers before it makes the update.
        shards: Whether the gradients are those of a part of a batch.
        reason: Why a kernel does not make the update; empty if it does, and for shards, whose update is NumPy's anyway.
    """

    wiring: Wiring
    losses: tuple[Loss, ...]
    shares: tuple[float, ...] | None
    optimizer: Optimizer
    dtype: str
    passes: tuple[Passes | None, ...]
    penalties: tuple[Penalty, ...]
    update: Lowered
    shards: bool = False
    reason: str = ""

    def output(self, place: int, *, weighted: bool) -> Lowered:
        """Return the record (h, target, scale, weight) -> (a, total, delta, change) of an output with its loss.

        ``target`` are the targets, ``scale`` is dL/d(value) of a row, and ``weight`` that of each row; ``total`` is
        the sum of the values, and ``change`` is delta^2.
        """
        output = [*self.wiring.outputs.values()][place]
        loss = self.losses[place]
        key = loss.traced_key, output.activation.traced_key
        return _output(loss, output.activation, output.width, self.dtype, weighted, key)

    @property
    def descends(self) -> bool:
        """Whether a step is w <- w - rate * g and nothing else, so that it can be part of the product that gives g."""
        inputs, outputs, recipe = self.update.inputs, self.update.outputs, self.optimizer
        match outputs.get("values"):
            case Node(op="subtract", args=(before, Node(op="multiply", args=factors))):
                plain = before is inputs["values"] and {*factors} == {inputs["rate"], inputs["gradients"]}
            case _:
                plain = False
        kept = all(value is inputs[name] for name, value in outputs.items() if name != "values")
        return plain and kept and recipe.clip_norm is None and recipe.clip_value is None


def lowered(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    regularizers: Sequence[Regularizer] = (),
    *,
    shards: bool = False,
    within: str = "",
) -> Plan:
    """Return the plan of a kernel that trains ``model``, or with ``shards`` of one that computes gradients alone.

    If a kernel cannot make the update or compute a regularizer, the plan is for gradients alone too, with the reason.
    So is it if hooks act within each step, as ``within`` says; it is empty if none do.

    Raises:
        CannotLower: Some other part has no form that a kernel can compute.
    """
    wiring = Wiring.of(model)
    losses, shares = _losses(loss, wiring)
    activations = [operation.activation for operation in wiring.operations]
    formulas: tuple[Any, ...] = tuple(
        dict.fromkeys((*activations, *(out.activation for out in wiring.outputs.values()), *losses))
    )
    passes = tuple(_passes(operation, model.dtype, shards=shards) for operation in wiring.operations)
    update, penalties, why = _NO_UPDATE, tuple[Penalty, ...](), within
    try:
        if not shards and not within:
            require_one_rate(optimizer)
            penalties = tuple(_penalty(regularizer, model) for regularizer in regularizers)
            update = rehearsed_update(optimizer, model.dtype)
    except CannotLower as error:
        penalties, why = (), str(error)
    plan = Plan(wiring, losses, shares, optimizer, model.dtype, passes, penalties, update, shards, why)
    for place in range(len(losses)):
        plan.output(place, weighted=False)
    try:
        for formula in formulas:
            formula.require_traced_derivative()
            share(("program", formula, formula.traced_key), formula.program)  # traced twice, so without random numbers
    except DerivativeError as error:
        raise CannotLower(str(error)) from None
    return plan


_NO_UPDATE = Lowered({}, {})


def require_one_rate(optimizer: Optimizer) -> None:
    """Check that an optimizer has the same learning rate and decay for all parameters.

    Raises:
        CannotLower: It has factors for some of them.
    """
    if optimizer.rate_factors or optimizer.decay_factors:
        raise CannotLower("a kernel has one learning rate and one decay for all parameters")


def _passes(operation: Operation, dtype: str, *, shards: bool = False) -> Passes | None:
    if operation.writes is None:
        return None
    if operation.affine or operation.layer is None:
        activation = operation.activation
        return _activation(activation, operation.width, dtype, activation.traced_key)
    if len(operation.reads) == 2:
        return _sum(dtype)
    return _layer(operation.layer, operation.width, shards=shards)


def prediction_passes(operation: Operation, dtype: str) -> Passes:
    """Return the record x -> a of an operation in prediction; nothing else is computed.

    Raises:
        CannotLower: A kernel has no form for it, or its output for a row depends on other rows.
    """
    layer = operation.layer
    if operation.affine or layer is None or len(operation.reads) == 2:
        found = _passes(operation, dtype)
        assert found is not None
    else:
        found = _layer(layer, operation.width, training=False)
        if mixed := mixing(found.forward.outputs["a"]):
            raise CannotLower(f"{type(layer).__name__} mixes rows, by {mixed}")
    return found._replace(forward=Lowered(found.forward.inputs, {"a": found.forward.outputs["a"]}))


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


_LOOPS = ("backward", "count", "expand", "_total")
"""The methods of a loss that the kernel replaces."""


def _require_own(loss: Loss) -> None:
    """Refuse a loss that overrides a loop of its base class: the kernel would not call it."""
    base = RowLoss if isinstance(loss, RowLoss) else Loss
    for name in _LOOPS:
        if getattr(type(loss), name) is not getattr(base, name):
            raise CannotLower(f"{type(loss).__name__}.{name} replaces {base.__name__}.{name}")


# formulas


def _recorded(names: tuple[str, ...], width: int, dtype: str, compute: Callable[..., dict[str, Any]]) -> Lowered:
    """Record a computation on rows of ``width`` numbers: symbols to symbols or numbers by name.

    ``scale`` is a number, and ``weight`` one of each row.
    """
    graph = Graph(dtype)
    shapes = {"scale": (), "weight": (graph.rows, 1)}
    nodes = {name: graph.input(name, shapes.get(name, (graph.rows, width))) for name in names}
    with np.errstate(all="ignore"):
        outputs = compute(*map(fixed, nodes.values()))
    values = rewrite([*nodes.values(), *map(value_of, outputs.values())], _dropped_axes)
    return Lowered(dict(zip(nodes, values, strict=False)), dict(zip(outputs, values[len(nodes) :], strict=True)))


def _dropped_axes(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Return a sum with kept axes as the one without, so that both are computed once; and a stable form by others."""
    if OPERATIONS[node.op].lowered is not None:
        return expand(new, node, args, lambda _order, _output: _dropped_axes)
    if node.op not in REDUCTIONS or not node.attributes["keepdims"]:
        return None
    found = new.add(node.op, *args, **(node.attributes | {"keepdims": False}))
    return new.add("reshape", found, shape=node.shape)


@lru_cache(maxsize=256)
def _activation(activation: Activation, width: int, dtype: str, _key: tuple[Any, ...]) -> Passes:
    """Return how an activation goes forward and back."""
    if not _coupled(activation):

        def both(h: Symbol) -> dict[str, Any]:
            a = _stable(activation, h)
            return {"a": a, "slope": _slope(activation, h, a), "square": a * a}

        return Passes(
            of_elements(type(activation).__name__, _recorded(("h",), ELEMENTS, dtype, both)), _chain_rule(dtype)
        )

    def forward(h: Symbol) -> dict[str, Any]:
        a = _stable(activation, h)
        return {"a": a, "square": a * a}

    def backward(*symbols: Symbol) -> dict[str, Any]:
        delta = _row_backward(activation, *symbols)
        return {"delta": delta, "change": delta * delta}

    back = _recorded(("gradient", "h", "a"), width, dtype, backward)
    return Passes(_of_rows(activation, _recorded(("h",), width, dtype, forward)), _of_rows(activation, back))


def _stable(activation: Activation, h: Symbol) -> Any:
    """Return f(h) in its stable form."""
    a = value_of(called(activation, "_formula", h))
    return symbol_of(stabilise([a], {h.node})[0])


@lru_cache(maxsize=2)
def _chain_rule(dtype: str) -> Lowered:
    def delta(gradient: Symbol, slope: Symbol) -> dict[str, Any]:
        delta = gradient * slope
        return {"delta": delta, "change": delta * delta}

    return _recorded(("gradient", "slope"), ELEMENTS, dtype, delta)


@lru_cache(maxsize=2)
def _sum(dtype: str) -> Passes:
    """Return how the sum of two matrices goes forward and back."""

    def forward(one: Symbol, other: Symbol) -> dict[str, Any]:
        a = one + other
        return {"a": a, "square": a * a}

    back = _recorded(("gradient",), ELEMENTS, dtype, lambda gradient: {"dx0": gradient, "dx1": gradient})
    return Passes(_recorded(("x0", "x1"), ELEMENTS, dtype, forward), back)


def _penalty(regularizer: Regularizer, model: Model) -> Penalty:
    try:
        regularizer.require_traced_derivative()
    except FrameworkError as error:  # which the NumPy engine raises at the first step
        raise CannotLower(str(error)) from None
    start, spans, names = 0, list[tuple[int, int]](), regularizer.names(model.parameters)
    for name, view in model.parameters.items():
        spans += [(start, view.size)] if name in names else []
        start += view.size
    return Penalty(_slope_of(regularizer, model.dtype, regularizer.traced_key), tuple(spans))


@lru_cache(maxsize=64)
def _slope_of(regularizer: Regularizer, dtype: str, _key: tuple[Any, ...]) -> Lowered:
    """Return strength * slope, for each number of a parameter alone."""

    def slope(w: Symbol) -> dict[str, Any]:
        gradient = regularizer.strength * called(regularizer, "slope", w)
        return {"slope": gradient, "change": gradient * gradient, "square": w * w}

    return of_elements(type(regularizer).__name__, _recorded(("w",), ELEMENTS, dtype, slope))


@lru_cache(maxsize=256)
def _output(
    loss: Loss, activation: Activation, width: int, dtype: str, weighted: bool, _key: tuple[Any, ...]
) -> Lowered:
    """Return the last activation, the loss and delta = dL/dh as one record, so that they share what they can."""
    _require_own(loss)
    coupled = _coupled(activation)

    def all_of(h: Symbol, target: Symbol, scale: Symbol, weight: Any = 1.0) -> dict[str, Any]:
        a = _stable(activation, h)
        called(loss, "value", a, target)  # for its errors
        value, slope, of_h = loss.traced(Output(fixed(a), h, activation, None), target)
        delta = slope() if callable(slope) else called(loss, "slope", a, target)
        if not of_h:
            delta = _row_backward(activation, delta, h, a) if coupled else delta * _slope(activation, h, a)
        if not isinstance(value, Symbol):
            raise CannotLower(f"{type(loss).__name__}.value is the same for every row")
        delta = delta * (scale * weight if weighted else scale)
        weight = weight.reshape(value.shape) if weighted and value.ndim == 1 else weight
        return {"a": a, "total": value * weight if weighted else value, "delta": delta, "change": delta * delta}

    over_rows = loss.by_row or coupled
    names = ("h", "target", "scale", "weight") if weighted else ("h", "target", "scale")
    record = _recorded(names, width if over_rows else ELEMENTS, dtype, all_of)
    return _of_rows(loss, record) if over_rows else of_elements(type(loss).__name__, record)


def _layer(layer: Layer, width: int, *, training: bool = True, shards: bool = False) -> Passes:
    """Return how a layer with a formula goes forward and back, over the rows and the units of a batch."""
    try:
        draws, buffers = layer.draws((width,)) if training else {}, layer.initial_buffers()
        shards = shards and (layer.mixes_rows or bool(buffers))
        program = layer.program((width,), training=training)
        if training:
            require_called(program.traced.graph.written)
        names = tuple(layer.layout()), tuple(draws), tuple(buffers)
        return _traced(program, type(layer).__name__, names, shards=shards)
    except DerivativeError as error:
        raise CannotLower(reason(name_of(layer, "formula"), error)) from None


@lru_cache(maxsize=64)
def _traced(program: LayerGraph, name: str, own: _Names, *, shards: bool) -> Passes:
    traced, (parameters, draws, buffers) = of_shards(program) if shards else program.traced, own
    wanted, names, inputs = ("x", *parameters), [*traced.inputs], traced.inputs
    first = [*stabilise([traced.output]), *traced.outputs[1:], *inputs.values()]
    gradient = traced.graph.input("gradient", first[0].shape)
    found = gradients([(first[0], gradient)], [inputs[each] for each in wanted])
    drawn = {inputs[each] for each in draws}

    def rule(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
        return _simpler(new, node, args, drawn=not drawn.isdisjoint(node.args))

    lowered = rewrite([*first, gradient, *found], rule)
    output, *new = lowered[: len(first) - len(names)]
    given = dict(zip([*names, "gradient"], lowered[len(first) - len(names) :], strict=False))
    slopes = lowered[len(lowered) - len(wanted) :]
    outputs = {"a": output, "square": value_of(symbol_of(output) * symbol_of(output))}
    outputs |= {f"buffer_{place}": value for place, value in enumerate(new)}
    forward = Lowered({each: given[each] for each in names}, outputs)
    backward = Lowered(given, {f"d{each}": slope for each, slope in zip(wanted, slopes, strict=True)})
    kinds = {each: given[each].kind for each in names}
    for each in (*parameters, *buffers):
        if given[each].shape != (given["x"].shape[-1],) or kinds[each] != "f":
            raise CannotLower(f"a kernel takes numbers for each unit of {name}; got {each} of another shape")
    for record in (forward, backward):
        _of_region(name, record)
    if given["x"].graph.dtype == "float64":
        random = {given[each] for each in draws}
        for node in (*forward.nodes, *backward.nodes):  # NumPy computes with random and plain numbers in float32
            args = nodes_in(arguments(node))
            if args and random.issuperset(args) and node.op not in {*COMPARISONS, "astype"}:
                raise CannotLower(f"{name} computes with its random numbers alone, which are float32, in np.{node.op}")
    return Passes(*_sharing_totals(forward, backward), own)


def _sharing_totals(forward: Lowered, backward: Lowered) -> tuple[Lowered, Lowered]:
    """Let the backward pass read sums over all shards that the forward pass knows, instead of another exchange."""
    known = {*backward.nodes}
    totals = [node for node in forward.nodes if node.op == "total" and node.shape and node in known]
    names = {node: f"total_{place}" for place, node in enumerate(totals)}

    def read(new: Graph, node: Node, _args: tuple[Any, ...]) -> Any:
        return new.input(names[node], node.shape) if node in names else None

    if not totals:
        return forward, backward
    given = {**backward.inputs, **{name: node for node, name in names.items()}}
    found = rewrite([*given.values(), *backward.outputs.values()], read)
    inputs, outputs = (
        dict(zip(given, found, strict=False)),
        dict(zip(backward.outputs, found[len(given) :], strict=True)),
    )
    forward = Lowered(forward.inputs, forward.outputs | {name: node for node, name in names.items()})
    return forward, Lowered(inputs, outputs)


def _simpler(new: Graph, node: Node, args: tuple[Any, ...], *, drawn: bool) -> Any:
    """Return a variance by sums; a number that NumPy compares with float32 numbers becomes one."""
    match node.op:
        case "var":
            x, axes, ddof = args[0], node.attributes["axes"], node.attributes["ddof"]
            mean = new.add("mean", x, axes=axes, keepdims=True)
            deviation = new.add("subtract", x, mean)
            total = new.add(
                "sum", new.add("multiply", deviation, deviation), axes=axes, keepdims=node.attributes["keepdims"]
            )
            count = new.lift(int(np.prod([x.shape[axis] for axis in axes])))
            return new.add("divide", total, new.add("subtract", count, ddof) if ddof else count)
        case _:
            pass
    if drawn and node.op in COMPARISONS:
        return new.add(node.op, *(arg if isinstance(arg, Node) else float(np.float32(arg)) for arg in args))
    return _dropped_axes(new, node, args)


def _coupled(activation: Activation) -> bool:
    try:
        return activation.coupled
    except DerivativeError as error:
        raise CannotLower(str(error)) from None


def _slope(activation: Activation, h: Symbol, a: Any) -> Any:
    """Return f'(h), written or derived."""
    if activation.writes_derivative:
        return called(activation, "derivative", h)
    return symbol_of(derivative(value_of(a), h.node))


def _row_backward(activation: Activation, gradient: Symbol, h: Symbol, a: Symbol) -> Any:
    """Return dL/dh of a row, written or derived."""
    if activation.writes_backward:
        return called(activation, "backward", gradient, h, a)
    form = value_of(_stable(activation, h))
    delta = gradients([(form, gradient.node)], [h.node], {h.node})
    return symbol_of(*substitute(delta, {form: a.node}))


# the form that a kernel has


def _of_rows(component: Any, record: Lowered) -> Lowered:
    """Return a record that a kernel can compute in loops along the row.

    Raises:
        CannotLower: An operation has no such form.
    """
    _of_region(type(component).__name__, record, axes=((1,),))
    return record


def _of_region(name: str, record: Lowered, axes: tuple[tuple[int, ...], ...] = ((0,), (1,))) -> None:
    """Check that a kernel can compute a record in loops over rows and along the row.

    Raises:
        CannotLower: An operation has no such form.
    """
    rows, width = next(iter(record.inputs.values())).shape
    shapes = {(rows, width), (rows, 1), (rows,), (1, width), (width,), (1, 1), (1,), ()}
    for node in record.nodes:
        reduces = node.op in REDUCTIONS and node.attributes["axes"] in axes and node.args[0].shape == (rows, width)
        if not (is_single(node) or reduces or node.op in ("rows", "total")) or node.shape not in shapes:
            raise CannotLower(f"{name} cannot be recorded: a kernel has no form for {call_text(node)} over the row")
