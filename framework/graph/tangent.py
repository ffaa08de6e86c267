"""Tangent: the derivative of elementwise formulas of one variable, forwards through the graph.

Reverse rules alone fail in three cases. Where kinks meet, their conventions may add up to the derivative of neither
side: max(h, 0) + log1p(exp(-|h|)) is smooth and has the slope 1/2 at 0. Where a denominator overflows, infinity is
multiplied by 0: h / (1 + exp(-2h)) at -400. A branch that is not taken may be infinite: where(h > 0, log(h), 0) at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import reduce
from typing import Any

import numpy as np

from framework.errors import DerivativeError
from framework.graph.graph import kind_of
from framework.graph.node import Node, dependents, matching, nodes_in, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.region import DENOMINATOR, ORDER, Region, elementwise, kinks_of, overflowing
from framework.graph.symbol import symbol_of, value_of
from framework.graph.textbook import tidied
from framework.special import erf, erfc

_LEFT, _AT, _RIGHT = -1.0, 0.0, 1.0
"""Where a derivative is taken: just left of the point, at it, by the conventions for kinks, or just right of it."""


def slope(region: Region) -> Any:
    """Return d(result)/d(variable) of a region, element by element: a node of its graph, or a plain number."""
    return _slope(region, textbook=False)


def derivative(output: Any, variable: Node, *, textbook: bool = False) -> Any:
    """Return d(output)/d(variable) of an elementwise formula: a node of the same graph, or a plain number.

    Args:
        output: A node or a plain number.
        variable: The node to derive by.
        textbook: Whether to leave out what only matters at ties of kinks and where a denominator overflows, for
            readers.

    Raises:
        DerivativeError: An operation works on several elements.

    Example:
        >>> from framework.graph.graph import Graph
        >>> graph = Graph()
        >>> h = graph.input("h", (3,))
        >>> derivative(graph.add("tanh", h), h)
        subtract(1.0, v2)(3,)

    Source:
        Griewank and Walther, Evaluating derivatives (2008), chapters 3 and 14.
    """
    if output is variable:
        return 1.0
    order = ordered([output], {variable})
    depends = dependents(order, {variable}, {variable})
    members = tuple(node for node in order if node in depends and node is not variable)
    for node in members:
        if not elementwise(node):
            raise DerivativeError(
                f"the formula works on several elements, in {node.op}: it has a gradient, but no derivative "
                "for each element"
            )
    return _slope(Region(variable, members), textbook=textbook) if output in depends else 0.0


def _slope(region: Region, *, textbook: bool) -> Any:
    graph = region.variable.graph
    graph.simplifies = graph.reorders = True
    if textbook:
        return tidied(value_of(_tangent(region, ())), {region.variable, *region.members})
    guards = overflowing(region)
    return value_of(_between(region, guards, _tangent(region, guards)))


# the chain rule forwards


def _tangent(region: Region, guards: Collection[Node], side: float = _AT) -> Any:
    """Return the derivative of a region as a symbol or a number; that of quotients in ``guards`` is 0 at infinity.

    The forward order keeps the relative accuracy of a tiny derivative: a factor that overflows is never multiplied by
    one that has already underflowed.
    """
    tangents: dict[Any, Any] = {region.variable: 1.0}
    limits: dict[Any, Any] = {}  # values beside the point that differ from those at it
    for node in region.members:
        args = tuple(limits.get(arg, symbol_of(arg)) for arg in node.args)
        ts = tuple(tangents.get(arg, 0.0) for arg in node.args)
        y: Any = symbol_of(node)
        if side != _AT:
            y = _limit(node, args, ts, side)
            if value_of(y) is not node:
                limits[node] = y
        if node.op in _TIES:
            t = _TIES[node.op](args, ts, side)
        else:
            t = _recognised(node, y, tangents)
            t = _total(node, args, ts, y, guards) if t is None else t
        tangents[node] = _float(t)
    return tangents[region.members[-1]]


def _total(node: Node, args: tuple[Any, ...], ts: tuple[Any, ...], y: Any, guards: Collection[Node]) -> Any:
    """Return the tangent of a node: the sum of what the tangents of its arguments contribute."""
    total: Any = 0.0
    for place, t in enumerate(ts):
        if not _zero(t) and node.op != "astype":
            part = _float(_pushed(node, place, t, y, args, guards))
            same = isinstance(value_of(part), Node) and value_of(part) is value_of(total)
            total = 2.0 * part if same else total + part
    return total


def _pushed(node: Node, place: int, t: Any, y: Any, args: tuple[Any, ...], guards: Collection[Node]) -> Any:
    """Apply the rule of one argument; a choice of 0 stays outermost, so that 0 * infinity never occurs."""
    choice = value_of(t)
    if matching(choice, "where") and (_zero(choice.args[1]) or _zero(choice.args[2])):
        condition, *sides = map(symbol_of, choice.args)
        sides = [0.0 if _zero(part) else _pushed(node, place, part, y, args, guards) for part in sides]
        return np.where(condition, *sides)
    rule = OPERATIONS[node.op].rules[place]
    if rule is None:
        return 0.0
    part = rule(t, y, *map(_float, args))
    if node in guards and DENOMINATOR[node.op] == place:
        return np.where(np.isinf(args[place]), 0.0, part)
    return part


def _recognised(node: Node, y: Any, tangents: dict[Any, Any]) -> Any:
    """Return the derivative of a logistic function or a softplus, where the chain rule is inaccurate; else None."""
    match node:
        # c / (1 + exp(z)); z may be clipped at the logarithm of the largest number, where the result is nearly 0
        case Node("divide", (int() | float() as c, Node("add", (1, Node("exp", (z,))) | (Node("exp", (z,)), 1)))):
            largest = math.log(np.finfo(node.graph.dtype).max) - 1e-3
            match z:
                case Node("minimum", (Node() as held, int() | float() as limit) | (int() | float() as limit, held)):
                    z = held if limit >= largest else z
                case _:
                    pass
            return -tangents.get(z, 0.0) * (y * (1.0 - (y if c == 1 else y / c)))
        # exp(min(z, 0)) / (1 + exp(-|z|))
        case Node("divide", (Node("exp", (Node("minimum", (z, 0)),)), Node("add", (1, e)) as total)) if _decay(e) is z:
            return tangents.get(z, 0.0) * symbol_of(e) / symbol_of(total) / symbol_of(total)
        # max(z, 0) + log(1 + exp(-|z|))
        case Node("add", (Node("maximum", (z, 0)), Node("log1p", (e,)))) if _decay(e) is z:
            return tangents.get(z, 0.0) * np.exp(np.minimum(symbol_of(z), 0.0)) / (1.0 + symbol_of(e))
        case _:
            return None


def _decay(e: Any) -> Any:
    """Return z for exp(-|z|); None for anything else."""
    match e:
        case Node("exp", (Node("negative", (Node("abs", (z,)),)),)):
            return z
        case _:
            return None


def _zero(t: Any) -> bool:
    """Return whether a tangent is the number 0, plain or broadcast."""
    t = value_of(t)
    return bool(t.fill == 0) if isinstance(t, Node) else bool(t == 0)


def _float(t: Any) -> Any:
    """Return booleans and integers as floats, which a rule can negate and add up."""
    kind = kind_of(value_of(t))
    if isinstance(value_of(t), Node):
        return np.where(t, 1.0, 0.0) if kind == "b" else t.astype(float) if kind == "i" else t
    return t


# kinks


def _limit(node: Node, args: tuple[Any, ...], ts: tuple[Any, ...], side: float) -> Any:
    """Return a node's value as the variable approaches from one side: at a jump, the value on that side."""
    same = all(value_of(a) is b for a, b in zip(args, node.args, strict=True))
    y = symbol_of(node if same else node.graph.add(node.op, *map(value_of, args), **node.attributes))
    if node.op in ORDER and isinstance(value_of(y), Node):
        (a, b), larger = args, node.op.startswith("greater")
        moving = side * (ts[0] - ts[1])  # how a - b changes away from the tie
        beside = moving > 0 if larger else moving < 0
        if isinstance(value_of(moving), Node):
            return _where((a == b) & (moving != 0), beside, y)
        if moving == 0:
            return y  # the sides are equal on an interval
        return (a >= b if beside else a > b) if larger else (a <= b if beside else a < b)
    if node.op in ("sign", "heaviside"):
        moving = side * ts[0]
        beside = _plain(np.sign(moving) if node.op == "sign" else np.heaviside(moving, args[1]))
        return _where(args[0] == 0, beside, y)
    if node.op == "copysign":
        return _plain(np.copysign(args[0], _sign_of(args[1], ts[1], side)))
    return y


def _abs_tie(args: tuple[Any, ...], ts: tuple[Any, ...], side: float) -> Any:
    (x,), (t,) = args, ts
    if side == _AT:
        return np.sign(x) * t
    if isinstance(value_of(t), Node):
        return _where(x == 0, side * np.abs(t), np.sign(x) * t)
    return _where(x > 0, t, -t) if side * t < 0 else _where(x < 0, -t, t)


def _copysign_tie(args: tuple[Any, ...], ts: tuple[Any, ...], side: float) -> Any:
    """Return the derivative of |a| with the sign of b."""
    (a, b), (ta, tb) = args, ts
    return _abs_tie((a,), (ta,), side) * _plain(np.copysign(1.0, _sign_of(b, tb, side)))


def _sign_of(b: Any, tb: Any, side: float) -> Any:
    """Return a number with the sign that b has beside the point."""
    return b if side == _AT else _where(_and(b == 0, tb != 0), side * tb, b)


def _extreme_tie(larger: bool, keeps_nan: bool) -> Callable[..., Any]:
    def tie(args: tuple[Any, ...], ts: tuple[Any, ...], side: float) -> Any:
        (a, b), (ta, tb) = args, ts
        first, second = (a > b, b > a) if larger else (a < b, b < a)
        if not keeps_nan:
            first, second = first | np.isnan(b), second | np.isnan(a)
        if side != _AT:
            rising = larger == (side == _RIGHT)
            if any(isinstance(value_of(t), Node) for t in ts):
                both = np.maximum(ta, tb) if rising else np.minimum(ta, tb)
                return _where(a == b, both, _where(first, ta, tb))
            return _where(first, ta, tb) if (ta <= tb) == rising else _where(second, tb, ta)
        if all(isinstance(value_of(x), Node) for x in args):
            return _where(first, ta, _where(second, tb, 0.5 * (ta + tb)))
        return _where(first, ta, 0.0) if _zero(tb) else _where(second, tb, 0.0)

    return tie


_TIES: dict[str, Callable[..., Any]] = {
    "abs": _abs_tie,
    "copysign": _copysign_tie,
    "maximum": _extreme_tie(True, True),
    "minimum": _extreme_tie(False, True),
    "fmax": _extreme_tie(True, False),
    "fmin": _extreme_tie(False, False),
    "where": lambda args, ts, _side: _where(args[0], ts[1], ts[2]),
}


def _where(condition: Any, a: Any, b: Any) -> Any:
    """Return np.where of symbols and plain numbers."""
    return np.where(condition, a, b) if isinstance(value_of(condition), Node) else a if condition else b


def _and(condition: Any, other: Any) -> Any:
    return condition & other if isinstance(value_of(other), Node) else other and condition


def _plain(x: Any) -> Any:
    """Return a number that NumPy computed as a plain one."""
    return x.item() if isinstance(x, np.generic) else x


def _between(region: Region, guards: Collection[Node], found: Any) -> Any:
    """Return the derivative, clipped between those of both sides at ties, if the conventions fail at some tie."""
    kinks = kinks_of(region)
    ties = _probes(region, kinks) if len(kinks) > 1 else []
    if not ties:
        return found
    left, right = _tangent(region, guards, _LEFT), _tangent(region, guards, _RIGHT)
    low, high = _plain(np.fmin(left, right)), _plain(np.fmax(left, right))  # a side that is NaN is ignored
    nearer = _plain(np.fmin(np.fmax(found, low), high))
    compute = _computation([value_of(nearer), *map(value_of, (found, left, right))], ties[0])
    compared = [compute(probe) for probe in ties]
    for place, candidate in enumerate((found, left, right), 1):  # a side by itself is cheaper than a choice
        if all(np.allclose(values[place], values[0], rtol=1e-9, atol=0.0, equal_nan=True) for values in compared):
            return candidate
    tied = reduce(lambda a, b: a | b, (symbol_of(a) == symbol_of(b) for a, b in dict.fromkeys(kinks)))
    return _where(tied, nearer, found)


# where kinks of a formula meet, found by computing it at some numbers

_SIZES = np.geomspace(1e-3, 1e3, 60)
_GRID = np.concatenate([np.arange(-12.0, 12.5, 0.5), -_SIZES, _SIZES])

_Probe = dict[Node, Any]
"""Values of the variable, and a number for each other input of a region."""

_NUMBERS: dict[str, Callable[..., Any]] = {"erf": erf, "erfc": erfc}


def _probes(region: Region, kinks: list[tuple[Any, Any]]) -> list[_Probe]:
    """Return the values of the variable at kinks, if any kinks meet, for two choices of the region's other inputs."""
    numbers = {float(arg) for node in region.members for arg in node.args if not isinstance(arg, Node)}
    numbers = {size for number in numbers if math.isfinite(number) for size in (number, -number)}
    grid = np.unique([*_GRID, *numbers])
    leaves = _leaves(region)
    compute = _computation([side for pair in kinks for side in pair], {region.variable, *leaves})
    found, meeting = [], False
    for first in (True, False)[: 2 if leaves else 1]:
        values = {leaf: _sample(leaf, first) for leaf in leaves}

        def differences(h: Any, values: _Probe = values) -> Any:
            """Return the sign of the difference of each kink's sides, and whether they are equal."""
            computed = [np.broadcast_to(side, h.shape) for side in compute({region.variable: h, **values})]
            a, b = np.array(computed[::2]), np.array(computed[1::2])
            return (a > b) * 1 - (a < b), a == b

        signs = differences(grid)[0]
        kink, place = np.nonzero(signs[:, :-1] * signs[:, 1:] < 0)
        low, high = grid[place], grid[place + 1]
        each = np.arange(len(place))
        for _ in range(10 if len(place) else 0):  # each time, keep the one of 64 parts where the sign changes
            parts = np.append(low + (high - low) * np.linspace(0.0, 1.0, 65)[:-1, None], [high], axis=0)
            inside = differences(parts.ravel())[0].reshape(len(signs), *parts.shape)[kink, :, each]
            end = np.argmax(inside != signs[kink, place][:, None], axis=1)
            low, high = parts[end - 1, each], parts[end, each]
        points = np.concatenate([grid, low, high])
        tied = differences(points)[1].sum(axis=0)
        meeting |= bool((tied > 1).any())
        found.append({region.variable: points[tied > 0], **values})
    return found if meeting else []


def _leaves(region: Region) -> list[Node]:
    """Return the other inputs of a region: what its members read, followed through elementwise operations."""
    found: dict[Node, None] = {}
    waiting = list(region.members)
    known = {region.variable}
    while waiting:
        node = waiting.pop()
        if node in known:
            continue
        known.add(node)
        if elementwise(node) or node.op in ("broadcast_to", "reshape"):
            waiting.extend(nodes_in(node.args))
        else:
            found[node] = None
    return list(found)


def _sample(leaf: Node, first: bool) -> Any:
    """Return a number for a node that does not depend on the variable."""
    if leaf.op == "constant":
        return leaf.attributes["value"].value.flat[0 if first else -1]
    return {"f": 0.5 if first else -1.5, "i": int(first), "b": first}[leaf.kind]


def _computation(outputs: list[Any], given: Collection[Node]) -> Callable[[_Probe], list[Any]]:
    """Return a function from the values of the given nodes to those of the outputs."""
    steps = ordered(outputs, given)

    def compute(values: _Probe) -> list[Any]:
        known: dict[Any, Any] = dict(values)
        with np.errstate(all="ignore"):
            for node in steps:
                if node not in known:
                    known[node] = _computed(node, [known[arg] if isinstance(arg, Node) else arg for arg in node.args])
        return [known[output] if isinstance(output, Node) else output for output in outputs]

    return compute


def _computed(node: Node, args: list[Any]) -> Any:
    if node.op in ("broadcast_to", "reshape"):
        return args[0]
    if node.op == "astype":
        return np.asarray(args[0]).astype({"f": float, "i": int, "b": bool}[node.kind])
    return (_NUMBERS.get(node.op) or getattr(np, node.op))(*args)
