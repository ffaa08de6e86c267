"""Rehearsal: compare the formulas of a kernel with the classes' own methods at a few points before it is compiled.

A record may differ from its formula: where the formula draws random numbers or asks for the type of an argument, or
where a written derivative could not be recorded and the derived one differs from it at a kink. NumPy then makes the
steps. The result is cached for each record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.derivatives import POINTS, ROWS
from framework.derivatives.formulas import MODERATE, TARGETS
from framework.emit.numpy import emit
from framework.engines.compiled.expressions import FUNCTIONS, Writer
from framework.engines.compiled.lower import CannotLower, Formulas, Record, lowered_update
from framework.engines.compiled.rows import row_function
from framework.graph.node import Node
from framework.graph.operations import COMPARISONS, KINKS
from framework.losses import Loss
from framework.optimizers import Optimizer
from framework.schedules.decay import ConstantSchedule

TOLERANCES = {"float64": 1e-12, "float32": 1e-3}
"""How far apart both may be, in parts of the larger one or of 1: powers are written as products."""

STEPS = (1, 2, 1001)
"""The steps at which an update is rehearsed: odd and even, early and late."""

TIED_ROWS: Array = np.array([*ROWS, [0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 1.0, 0.5]])
GOAL_ROWS: Array = np.array([*np.eye(4)[:3], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
"""Rows, some with ties, and targets for them."""

_SIZES = np.geomspace(1e-3, 1e3, 60)
_GRID: Array = np.unique(np.concatenate([np.arange(-12.0, 12.5, 0.5), -_SIZES, _SIZES]))
"""Where kinks are looked for."""


@lru_cache(maxsize=64)
def rehearse(formulas: Formulas) -> None:
    """Refuse formulas of which one computes something else than the method that it was recorded from.

    Raises:
        CannotLower: One does; the message names it.
    """
    dtype, activations = formulas.dtype, formulas.activations
    for activation, record, backward in zip(activations, formulas.hidden, formulas.backwards, strict=False):
        _rehearse_hidden(activation, dtype, record, backward)
    _rehearse_output(activations[-1], formulas.loss, dtype, formulas.output)
    _rehearse_update(formulas.optimizer, dtype, formulas.update)


@lru_cache(maxsize=256)
def _rehearse_hidden(activation: Any, dtype: str, forward: Record, backward: Record | None) -> None:
    with np.errstate(all="ignore"):
        if backward is None:
            h = np.concatenate([POINTS, _kinks(forward, [])]).astype(dtype)
            a = activation(h)
            found = _by_element(forward, dtype, h)
            _compare(activation, "__call__", found["a"], a)
            _compare(activation, "derivative", found["slope"], activation.backward(np.ones_like(h), h, a))
            return
        h = _rows(TIED_ROWS, forward, dtype)
        a = activation(h)
        _compare(activation, "__call__", _by_row(forward, h)["a"], a)
        gradient = np.cos(np.arange(h.size, dtype=dtype)).reshape(h.shape)
        found = _by_row(backward, gradient, h, a)
        _compare(activation, "backward", found["delta"], activation.backward(gradient, h, a))


@lru_cache(maxsize=256)
def _rehearse_output(activation: Any, loss: Loss, dtype: str, output: Record) -> None:
    with np.errstate(all="ignore"):
        if loss.by_row or activation.coupled:
            h, target = (_rows(rows, output, dtype) for rows in (TIED_ROWS, GOAL_ROWS))
            found = _by_row(output, h, target)
        else:
            points = [(h, t) for t in TARGETS for h in (*MODERATE, *_kinks(output, [t]))]
            h, target = np.array(points, dtype).T.copy()
            found = _by_element(output, dtype, h, target)
        a = activation(h)
        _compare(activation, "__call__", found["a"], a)
        if loss.fuses(activation):
            _compare(loss, "value_from_preactivation", found["value"], loss.value_from_preactivation(h, target))
            _compare(loss, "fused_slope", found["delta"], loss.fused_slope(a, target))
            return
        _compare(loss, "value", found["value"], loss.value(a, target))
        slope = np.broadcast_to(np.asarray(loss.slope(a, target), dtype), h.shape)
        delta = activation.backward(slope, h, a)
        _compare(loss, f"slope with the derivative of {type(activation).__name__}", found["delta"], delta)


@lru_cache(maxsize=256)
def _rehearse_update(optimizer: Optimizer, dtype: str, update: Record) -> None:
    name = f"{type(optimizer).__name__}.update"
    if lowered_update(optimizer, dtype) != update:
        raise CannotLower(f"{name} is another formula at each call, as with random numbers; a kernel has one")
    others = (0.25 if optimizer.learning_rate == 0.5 else 0.5, ConstantSchedule(rate=0.5))
    if any(lowered_update(optimizer, dtype, other) != update for other in others):
        raise CannotLower(f"{name} reads self.learning_rate, which a hook may assign: use the argument 'rate'")
    text, _ = (writer := Writer(dtype)).update(update)
    run = _function(text, "update", writer)
    numbers = np.random.default_rng(0).normal(size=(2 + len(optimizer.memory), 8)).astype(dtype)
    numbers[:, 0] = 0.0
    numbers[2:, :6] = abs(numbers[2:, :6])  # what is remembered is often a square
    for step in STEPS:
        values, gradients, *memory = numbers.copy()
        found = {"values": values, **{f"memory_{place}": array for place, array in enumerate(memory)}}
        own = {argument: array.copy() for argument, array in found.items()}
        with np.errstate(all="ignore"):
            run(np.float64(0.03), np.float64(step), values, gradients, *memory)
            optimizer.update(own["values"], gradients.copy(), 0.03, step, *list(own.values())[1:])
        for argument, array in found.items():
            _compare(optimizer, "update", array, own[argument])


def _function(text: str, name: str, writer: Writer) -> Callable[..., Any]:
    """Return a function of a kernel as Python runs it, with its constants."""
    real = np.dtype(writer.dtype).type
    namespace: dict[str, Any] = {
        "formula": lambda function: function,
        "real": real,
        "np": np,
        "math": SimpleNamespace(erf=lambda x: real(math.erf(x)), erfc=lambda x: real(math.erfc(x))),
        **{own: getattr(np, own) for own in FUNCTIONS},
    }
    exec(text, namespace)
    constants = {f"c{place}": np.float64(value) for place, value in enumerate(writer.constants)}
    function: Callable[..., Any] = namespace[name]
    return lambda *arguments: function(*arguments, **constants)


def _by_element(record: Record, dtype: str, *arguments: Array) -> dict[str, Array]:
    """Return what the kernel's function gives, one number after another."""
    text, _ = (writer := Writer(dtype)).elementwise("rehearsed", record)
    run = _function(text, "rehearsed", writer)
    results = np.array([run(*numbers) for numbers in zip(*arguments, strict=True)], dtype)
    return dict(zip(record.outputs, results.T, strict=True))


def _by_row(record: Record, *arguments: Array) -> dict[str, Array]:
    """Return what a record over rows gives, by NumPy; refuse one that a kernel has no form for."""
    reads = {name: f"{name}[i, j]" for name in record.inputs}
    writes = {name: "values[i]" if name == "value" else f"out[{name}, i, j]" for name in record.outputs}
    row_function(Writer("float64"), "rehearsed", record, reads, writes, width="width", single=False)
    dtype = arguments[0].dtype
    return {name: np.asarray(_numpy(value, record)(*arguments), dtype) for name, value in record.outputs.items()}


def _rows(rows: Array, record: Record, dtype: str) -> Array:
    """Return rows as long as those that a record is made for: cut, or filled up with small numbers."""
    width = next(iter(record.inputs.values())).shape[1]
    filled = np.zeros((len(rows), width), dtype)
    filled[: len(ROWS)] = 0.01 * np.cos(np.arange(len(ROWS) * width)).reshape(len(ROWS), width)
    filled[:, : rows.shape[1]] = rows[:, :width]
    return filled


def _numpy(value: Any, record: Record) -> Callable[..., Any]:
    """Return what NumPy computes for an output, from the arguments."""
    return emit({"value": value}, record.inputs, memory=False)


def _kinks(record: Record, rest: list[float]) -> Array:
    """Return where the kinks of a record lie along its first input: where the two sides of one are equal."""
    found = [_ties(_numpy(difference, record), rest) for node in record.nodes for difference in _differences(node)]
    return np.concatenate([np.zeros(0), *found])


def _differences(node: Node) -> list[Node]:
    """Return what is 0 where a kink is."""
    if node.op in ("abs", "sign", "heaviside"):
        return [node.args[0]]
    if node.op == "copysign":
        return [side for side in node.args if isinstance(side, Node)]
    if node.op in (KINKS | COMPARISONS) - {"where"}:  # a choice has its kinks where its condition changes
        return [node.graph.add("subtract", *node.args)]
    return []


def _ties(difference: Callable[..., Any], rest: list[float]) -> Array:
    """Return where a function of the first input is 0 or changes its sign, found by bisection."""

    def sign(h: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.sign(difference(h, *(np.full_like(h, value) for value in rest))), h.shape)

    signs = sign(_GRID)
    places = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    low, high = _GRID[places], _GRID[places + 1]
    for _ in range(60 if len(places) else 0):
        middle = 0.5 * (low + high)
        same = sign(middle) == signs[places]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.concatenate([_GRID[signs == 0], low, high])


def _compare(component: Any, method: str, found: Any, own: Any) -> None:
    found, own = np.asarray(found), np.asarray(own)
    tolerance = TOLERANCES[found.dtype.name]
    if not np.allclose(found, own, rtol=tolerance, atol=tolerance, equal_nan=True):
        name = f"{type(component).__name__}.{method}".removesuffix(".__call__")
        raise CannotLower(
            f"{name} gives other numbers than its record: at a kink, or by what is not among its arguments and settings"
        )
