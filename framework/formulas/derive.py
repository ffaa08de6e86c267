"""The chain rule over a record: forwards for one number an element, backwards for rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from framework.formulas.rules import COMPARISONS, OPERATIONS, REDUCTIONS
from framework.formulas.symbols import COLUMN, FULL, Symbol, Tape

CONVENTION, LEFT, RIGHT = "convention", "left", "right"
"""What the derivative at a kink is: the convention's, or that of the approach from the left or from the right."""


class Simplifier(Tape):
    """A tape that leaves out what changes nothing (+ 0, * 1, a double sign), except while a formula is recorded."""

    def __init__(self, dtype: Any, *, rows: bool) -> None:
        """Start empty."""
        super().__init__(dtype, rows=rows)
        self._verbatim = False

    @contextmanager
    def verbatim(self) -> Iterator[None]:
        """Record every operation as it comes, so that the record computes the formula's own bits."""
        self._verbatim = True
        try:
            yield
        finally:
            self._verbatim = False
            for node in self.nodes:
                node.stale = False  # the record keeps every value

    def record(self, op: str, *args: Any) -> Any:
        """Add an operation, or return what it comes to."""
        if not any(isinstance(arg, Symbol) for arg in args):
            return _number(op, args)
        short = None if self._verbatim else _SHORTER.get(op)
        if short is not None:
            found = short(*args)
            if found is not None:
                return found
        return super().record(op, *args)


def _number(op: str, args: tuple[Any, ...]) -> Any:
    with np.errstate(all="ignore"):
        value = getattr(np, op)(*args)
    return bool(value) if op in COMPARISONS else float(value)


def _plain(x: Any) -> Any:
    """Return a number that NumPy computed from plain ones as plain again: it takes the dtype of what it meets."""
    return x.item() if isinstance(x, np.generic) else x


def _is(x: Any, value: float) -> bool:
    return not isinstance(x, Symbol) and x == value


def _add(a: Any, b: Any) -> Any:
    if _is(a, 0):
        return b
    if _is(b, 0):
        return a
    if isinstance(b, Symbol) and b.op == "negative":
        return a - b.args[0]
    return None


def _subtract(a: Any, b: Any) -> Any:
    if _is(b, 0):
        return a
    return -b if _is(a, 0) else None


def _multiply(a: Any, b: Any) -> Any:
    if _is(a, 0) or _is(b, 0):
        return 0.0
    if _is(a, 1):
        return b
    if _is(b, 1):
        return a
    if _is(a, -1):
        return -b
    if _is(b, -1):
        return -a
    for x, other in ((a, b), (b, a)):
        if isinstance(x, Symbol) and x.op == "negative":
            return -(x.args[0] * other if x is a else other * x.args[0])
    if not isinstance(a, Symbol) and isinstance(b, Symbol) and b.op == "multiply" and not isinstance(b.args[0], Symbol):
        return (a * b.args[0]) * b.args[1]
    return None


def _divide(a: Any, b: Any) -> Any:
    if _is(a, 0):
        return 0.0
    if _is(b, 1):
        return a
    return -(a.args[0] / b) if isinstance(a, Symbol) and a.op == "negative" else None


def _negative(x: Any) -> Any:
    return x.args[0] if x.op == "negative" else None


def _power(x: Any, n: Any) -> Any:
    return x if _is(n, 1) else 1.0 if _is(n, 0) else None


def _where(condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(condition, Symbol):
        return a if condition else b
    same = a is b if isinstance(a, Symbol) or isinstance(b, Symbol) else a == b
    return a if same else None


_SHORTER: dict[str, Any] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "power": _power,
    "where": _where,
}


def tangent(output: Any, x: Symbol, mode: str = CONVENTION, *, guarded: bool = False) -> Any:
    """Return d(output)/dx, element by element, as a symbol on x's tape or a number.

    Going forwards keeps the relative accuracy where a derivative is tiny: a factor that overflows never meets one that
    has already underflowed.

    Args:
        output: A symbol or a number.
        x: The input to derive by.
        mode: What counts at a kink.
        guarded: Whether a quotient has the derivative 0 by an overflowed denominator, as in 1 / (1 + exp(h)).
    """
    tangents: dict[Symbol, Any] = {x: 1.0}
    limits: dict[Symbol, Any] = {}  # what nodes come to from one side, where that is another value than at the point
    for node in [*x.tape.nodes]:
        if node.op == "input":
            continue
        arguments = tuple(limits.get(arg, arg) if isinstance(arg, Symbol) else arg for arg in node.args)
        ts = [tangents.get(arg, 0.0) if isinstance(arg, Symbol) else 0.0 for arg in node.args]
        value: Any = node
        if mode != CONVENTION:
            value = _limit(node, arguments, ts, mode)
            if value is not node:
                limits[node] = value
        if all(_is(t, 0) for t in ts):
            continue
        if node.op in _TIES:
            tangents[node] = _TIES[node.op](arguments, ts, mode)
        else:
            tangents[node] = _total(node, ts, value, arguments, guarded=guarded)
        if node is output:
            break
    return tangents.get(output, 0.0) if isinstance(output, Symbol) else 0.0


def _total(node: Symbol, ts: list[Any], value: Any, arguments: tuple[Any, ...], *, guarded: bool) -> Any:
    """Add up what the tangents of a node's arguments cause."""
    total: Any = 0.0
    for place, t in enumerate(ts):
        if _is(t, 0):
            continue
        part = _pushed(node.op, place, t, value, arguments)
        if guarded and node.op == "divide" and place == 1:
            part = np.where(np.isinf(arguments[1]), 0.0, part)
        total = total + part
    return total


def _limit(node: Symbol, arguments: tuple[Any, ...], ts: list[Any], mode: str) -> Any:
    """Return a node's value as x comes from one side: at a tie, a jump has the value of that side."""
    side = 1.0 if mode == RIGHT else -1.0
    if node.op in ("sign", "heaviside"):
        (x, *_), t = arguments, ts[0]
        beside = _plain(np.sign(side * t) if node.op == "sign" else np.heaviside(side * t, 0.5))
        return np.where(x == 0, beside, node.tape.record(node.op, *arguments))
    value = (
        node
        if all(a is b for a, b in zip(arguments, node.args, strict=True))
        else node.tape.record(node.op, *arguments)
    )
    if node.op in COMPARISONS and node.op not in ("equal", "not_equal"):
        a, b = arguments
        moving = side * (ts[0] - ts[1])  # how a - b changes on the way away from the tie
        return np.where(a == b, moving > 0 if node.op.startswith("greater") else moving < 0, value)
    return value


def _pushed(op: str, place: int, t: Any, value: Any, arguments: tuple[Any, ...]) -> Any:
    """Apply the rule of one argument; a tangent where(c, t, 0) keeps its choice outermost, so 0 * inf never comes."""
    if isinstance(t, Symbol) and t.op == "where" and _is(t.args[2], 0):
        return np.where(t.args[0], _pushed(op, place, t.args[1], value, arguments), 0.0)
    rule = OPERATIONS[op].rules[place]
    return 0.0 if rule is None else rule(t, value, *arguments)


def _abs_tie(arguments: tuple[Any, ...], ts: list[Any], mode: str) -> Any:
    (x,), (t,) = arguments, ts
    if mode == CONVENTION:
        return _pushed("abs", 0, t, None, arguments)
    at_zero = _plain(np.abs(t) if mode == RIGHT else -np.abs(t))
    return np.where(x == 0, at_zero, np.sign(x) * t)


def _maximum_tie(arguments: tuple[Any, ...], ts: list[Any], mode: str) -> Any:
    (a, b), (ta, tb) = arguments, ts
    return _extreme_tie(a > b, b > a, (a, b), (ta, tb), mode, larger=mode == RIGHT)


def _minimum_tie(arguments: tuple[Any, ...], ts: list[Any], mode: str) -> Any:
    (a, b), (ta, tb) = arguments, ts
    return _extreme_tie(a < b, b < a, (a, b), (ta, tb), mode, larger=mode == LEFT)


def _extreme_tie(
    first: Any, second: Any, arguments: tuple[Any, Any], ts: tuple[Any, Any], mode: str, *, larger: bool
) -> Any:
    (a, b), (ta, tb) = arguments, ts
    if mode != CONVENTION:
        tie = _plain(np.maximum(ta, tb) if larger else np.minimum(ta, tb))
        return np.where(a == b, tie, np.where(first, ta, tb))
    if _is(tb, 0):
        return np.where(first, ta, 0.0)
    if _is(ta, 0):
        return np.where(second, tb, 0.0)
    return np.where(first, ta, np.where(second, tb, 0.5 * (ta + tb)))


def _where_tie(arguments: tuple[Any, ...], ts: list[Any], _mode: str) -> Any:
    return np.where(arguments[0], ts[1], ts[2])


def _copysign_tie(arguments: tuple[Any, ...], ts: list[Any], mode: str) -> Any:
    (a, b), (ta, tb) = arguments, ts
    if mode != CONVENTION:
        b = np.where(b == 0, tb if mode == RIGHT else -tb, b)
    return _abs_tie((a,), [ta], mode) * np.copysign(1.0, b)  # copysign(a, b) is |a| with the sign of b


_TIES: dict[str, Any] = {
    "abs": _abs_tie,
    "copysign": _copysign_tie,
    "maximum": _maximum_tie,
    "minimum": _minimum_tie,
    "where": _where_tie,
}


def adjoint(output: Symbol, x: Symbol, gradient: Any) -> Any:
    """Return the gradient of sum(gradient * output) with respect to x, for formulas over a row.

    Args:
        output: A symbol of x's tape.
        x: The input to derive by, FULL.
        gradient: A symbol of the output's kind, or 1.
    """
    adjoints: dict[Symbol, Any] = {output: gradient}
    for node in reversed([*x.tape.nodes]):
        g = adjoints.get(node)
        if g is None or node.op == "input":
            continue
        for place, arg in enumerate(node.args):
            if not isinstance(arg, Symbol):
                continue
            part = _row_rule(node, place, arg, g)
            if not _is(part, 0):
                adjoints[arg] = part if arg not in adjoints else adjoints[arg] + part
    return adjoints.get(x, 0.0)


def _row_rule(node: Symbol, place: int, arg: Symbol, g: Any) -> Any:
    """Carry an adjoint back through one argument of a node, summed over the row where the argument was spread."""
    tape = arg.tape
    if node.op in REDUCTIONS:
        whole = tape.record("spread", g, arg)
        if node.op == "sum":
            return whole
        if node.op == "mean":
            return whole / tape.record("row_length", arg)
        winners = np.where(arg == tape.record("spread", node, arg), 1.0, 0.0)
        return whole * winners / tape.reduce("sum", winners, -1, True)
    if node.op == "column":
        return tape.record("flat", g)
    part = _row_choice(node, place, g)
    if arg.kind == COLUMN and node.kind == FULL and not _is(part, 0):
        return tape.reduce("sum", tape.record("spread", part, _full_argument(node)), -1, True)
    return part


def _row_choice(node: Symbol, place: int, g: Any) -> Any:
    """Carry an adjoint through one argument; what is not chosen gets 0 and never 0 times infinity."""
    if node.op == "where":
        condition = node.args[0]
        return 0.0 if place == 0 else np.where(condition, g, 0.0) if place == 1 else np.where(condition, 0.0, g)
    if node.op in ("maximum", "minimum"):
        mine, other = node.args[place], node.args[1 - place]
        wins = mine > other if node.op == "maximum" else mine < other
        shared = 0.5 * g if isinstance(mine, Symbol) and isinstance(other, Symbol) else 0.0
        return np.where(wins, g, np.where(mine == other, shared, 0.0))
    if node.op == "copysign":
        return _copysign_tie(node.args, [g, 0.0], CONVENTION) if place == 0 else 0.0
    return _pushed(node.op, place, g, node, node.args)


def _full_argument(node: Symbol) -> Symbol:
    """Return an input: something that has the whole row's shape."""
    return next(known for known in node.tape.nodes if known.kind == FULL and known.op == "input")
