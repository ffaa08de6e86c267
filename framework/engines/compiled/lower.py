"""Record formulas for a kernel: those of a model that predicts, or of many models that are trained at once.

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
from framework.engines.compiled.formulas import (
    REDUCTIONS,
    called,
    fixed,
    name_of,
)
from framework.engines.compiled.wiring import Operation, Wiring
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
from framework.graph.node import Node
from framework.graph.operations import OPERATIONS
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
        record: w -> slope, times the strength.
        spans: The first number and the count of each parameter that it acts on, in the vector of all.
    """

    record: Lowered
    spans: tuple[tuple[int, int], ...]


class Passes(NamedTuple):
    """The records of an activation.

    Attributes:
        forward: h -> a, and for elements the slope.
        backward: (gradient, h, a) -> delta, over rows; None for elements, where delta is the gradient times the slope.
    """

    forward: Lowered
    backward: Lowered | None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the source of a kernel that trains depends on.

    Attributes:
        wiring: The operations, and which reads what.
        loss: The loss.
        dtype: "float64" or "float32".
        passes: By operation, the records of its activation; None for the output.
        penalties: The regularizers.
        update: The record of the optimizer's update: (values, gradients, rate, step, memory) -> the same.
    """

    wiring: Wiring
    loss: Loss
    dtype: str
    passes: tuple[Passes | None, ...]
    penalties: tuple[Penalty, ...]
    update: Lowered

    def output(self) -> Lowered:
        """Return the record (h, target, scale) -> (a, total, delta) of the output with its loss.

        ``target`` are the targets, and ``scale`` is dL/d(value) of a row; ``total`` are the values.
        """
        output = self.wiring.operations[-1]
        key = self.loss.traced_key, output.activation.traced_key
        return _output(self.loss, output.activation, output.width, self.dtype, key)

    @property
    def descends(self) -> bool:
        """Whether a step is w <- w - rate * g and nothing else, so that it can be part of the product that gives g."""
        inputs, outputs = self.update.inputs, self.update.outputs
        match outputs.get("values"):
            case Node(op="subtract", args=(before, Node(op="multiply", args=factors))):
                plain = before is inputs["values"] and {*factors} == {inputs["rate"], inputs["gradients"]}
            case _:
                plain = False
        return plain and all(value is inputs[name] for name, value in outputs.items() if name != "values")


def lowered(model: Model, loss: Loss, optimizer: Optimizer, regularizers: Sequence[Regularizer]) -> Plan:
    """Return the plan of a kernel that trains models like ``model``.

    Raises:
        CannotLower: Some part has no form that such a kernel can compute.
    """
    wiring = Wiring.of(model)
    _require_line(wiring)
    if isinstance(loss, Losses):
        raise CannotLower("it takes models of one input and one output")
    passes = tuple(
        None if each.writes is None else _activation(each.activation, each.width, model.dtype)
        for each in wiring.operations
    )
    require_one_rate(optimizer)
    penalties = tuple(_penalty(regularizer, model) for regularizer in regularizers)
    update = rehearsed_update(optimizer, model.dtype)
    plan = Plan(wiring, loss, model.dtype, passes, penalties, update)
    plan.output()
    formulas: tuple[Any, ...] = *(operation.activation for operation in wiring.operations), loss
    try:
        for formula in dict.fromkeys(formulas):
            formula.require_traced_derivative()
            share(("program", formula, formula.traced_key), formula.program)  # traced twice, so without random numbers
    except DerivativeError as error:
        raise CannotLower(str(error)) from None
    return plan


def _require_line(wiring: Wiring) -> None:
    """Check that each operation is a product with an activation, and reads what the one before it writes.

    Raises:
        CannotLower: One is not; the message names it.
    """
    for place, operation in enumerate(wiring.operations):
        if not operation.affine:
            kind = type(operation.layer or operation.activation).__name__
            raise CannotLower(f"it takes layers of the kinds Dense and Neuron one after another; got {kind}")
        last = place == len(wiring.operations) - 1
        if operation.reads != (place,) or (operation.writes is None) != last:
            raise CannotLower("it takes layers one after another")


def require_one_rate(optimizer: Optimizer) -> None:
    """Check that an optimizer has the same learning rate and decay for all parameters.

    Raises:
        CannotLower: It has factors for some of them.
    """
    if optimizer.rate_factors or optimizer.decay_factors:
        raise CannotLower("a kernel has one learning rate and one decay for all parameters")


class Prediction(NamedTuple):
    """The formula of an operation in a prediction.

    Attributes:
        record: h, or x, or x0 and x1, with the parameters and buffers -> a.
        parameters: The names of the parameters.
        buffers: The names of the buffers.
    """

    record: Lowered
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()


def prediction(operation: Operation, dtype: str) -> Prediction:
    """Return the formula of an operation in a prediction.

    Raises:
        CannotLower: A kernel has no form for it, or its output for a row depends on other rows.
    """
    if operation.affine or operation.layer is None:
        record = _activation(operation.activation, operation.width, dtype).forward
        return Prediction(Lowered(record.inputs, {"a": record.outputs["a"]}))
    if len(operation.reads) == 2:
        return Prediction(_sum(dtype))
    return _layer(operation.layer, operation.width)


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
    """Record a computation on rows of ``width`` numbers, and ``scale``: symbols to symbols or numbers by name."""
    graph = Graph(dtype)
    nodes = {name: graph.input(name, () if name == "scale" else (graph.rows, width)) for name in names}
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


def _activation(activation: Activation, width: int, dtype: str) -> Passes:
    """Return how an activation goes forward and back."""
    return _activation_of(activation, width, dtype, activation.traced_key)


@lru_cache(maxsize=256)
def _activation_of(activation: Activation, width: int, dtype: str, _key: tuple[Any, ...]) -> Passes:
    if not _coupled(activation):

        def both(h: Symbol) -> dict[str, Any]:
            a = _stable(activation, h)
            return {"a": a, "slope": _slope(activation, h, a)}

        return Passes(of_elements(type(activation).__name__, _recorded(("h",), ELEMENTS, dtype, both)), None)

    def forward(h: Symbol) -> dict[str, Any]:
        return {"a": _stable(activation, h)}

    def backward(*symbols: Symbol) -> dict[str, Any]:
        return {"delta": _row_backward(activation, *symbols)}

    back = _recorded(("gradient", "h", "a"), width, dtype, backward)
    name = type(activation).__name__
    return Passes(_of_rows(name, _recorded(("h",), width, dtype, forward)), _of_rows(name, back))


def _stable(activation: Activation, h: Symbol) -> Any:
    """Return f(h) in its stable form."""
    a = value_of(called(activation, "_formula", h))
    return symbol_of(stabilise([a], {h.node})[0])


@lru_cache(maxsize=2)
def _sum(dtype: str) -> Lowered:
    """Return the record of the sum of two matrices."""
    return _recorded(("x0", "x1"), ELEMENTS, dtype, lambda one, other: {"a": one + other})


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
        return {"slope": regularizer.strength * called(regularizer, "slope", w)}

    return of_elements(type(regularizer).__name__, _recorded(("w",), ELEMENTS, dtype, slope))


@lru_cache(maxsize=256)
def _output(loss: Loss, activation: Activation, width: int, dtype: str, _key: tuple[Any, ...]) -> Lowered:
    """Return the last activation, the loss and delta = dL/dh as one record, so that they share what they can."""
    _require_own(loss)
    coupled = _coupled(activation)

    def all_of(h: Symbol, target: Symbol, scale: Symbol) -> dict[str, Any]:
        a = _stable(activation, h)
        called(loss, "value", a, target)  # for its errors
        value, slope, of_h = loss.traced(Output(fixed(a), h, activation, None), target)
        delta = slope() if callable(slope) else called(loss, "slope", a, target)
        if not of_h:
            delta = _row_backward(activation, delta, h, a) if coupled else delta * _slope(activation, h, a)
        if not isinstance(value, Symbol):
            raise CannotLower(f"{type(loss).__name__}.value is the same for every row")
        return {"a": a, "total": value, "delta": delta * scale}

    over_rows = loss.by_row or coupled
    record = _recorded(("h", "target", "scale"), width if over_rows else ELEMENTS, dtype, all_of)
    return (_of_rows if over_rows else of_elements)(type(loss).__name__, record)


def _layer(layer: Layer, width: int) -> Prediction:
    """Return how a layer with a formula predicts, over the rows and the units of a batch."""
    name = type(layer).__name__
    try:
        program = layer.program((width,), training=False)
    except DerivativeError as error:
        raise CannotLower(reason(name_of(layer, "formula"), error)) from None
    if mixed := mixing(program.traced.output):
        raise CannotLower(f"{name} mixes rows, by {mixed}")
    names = tuple(layer.layout()), tuple(layer.initial_buffers())
    return Prediction(_traced(program, name, *names), *names)


@lru_cache(maxsize=64)
def _traced(program: LayerGraph, name: str, parameters: tuple[str, ...], buffers: tuple[str, ...]) -> Lowered:
    traced = program.traced
    output, *nodes = rewrite([*stabilise([traced.output]), *traced.inputs.values()], _simpler)
    given = dict(zip(traced.inputs, nodes, strict=True))
    for each in (*parameters, *buffers):
        if given[each].shape != (given["x"].shape[-1],) or given[each].kind != "f":
            raise CannotLower(f"a kernel takes numbers for each unit of {name}; got {each} of another shape")
    return _of_rows(name, Lowered(given, {"a": output}))


def _simpler(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Return a variance by sums."""
    if node.op != "var":
        return _dropped_axes(new, node, args)
    x, axes, ddof, keepdims = args[0], *map(node.attributes.__getitem__, ("axes", "ddof", "keepdims"))
    deviation = new.add("subtract", x, new.add("mean", x, axes=axes, keepdims=True))
    total = new.add("sum", new.add("multiply", deviation, deviation), axes=axes, keepdims=keepdims)
    count = new.lift(int(np.prod([x.shape[axis] for axis in axes])))
    return new.add("divide", total, new.add("subtract", count, ddof) if ddof else count)


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


def _of_rows(name: str, record: Lowered) -> Lowered:
    """Return a record that a kernel can compute in loops along the row; ``name`` is that of the formula.

    Raises:
        CannotLower: An operation has no such form.
    """
    rows, width = next(iter(record.inputs.values())).shape
    shapes = {(rows, width), (rows, 1), (rows,), (1, width), (width,), (1, 1), (1,), ()}
    for node in record.nodes:
        reduces = node.op in REDUCTIONS and node.attributes["axes"] == (1,) and node.args[0].shape == (rows, width)
        if not (is_single(node) or reduces or node.op == "rows") or node.shape not in shapes:
            raise CannotLower(f"{name} cannot be recorded: a kernel has no form for {call_text(node)} over the row")
    return record
