"""Stable forms: rewrite a formula so that naive spellings neither overflow nor lose small values.

Rules apply while a graph is made. They put operations in place that no user writes, such as ``softplus``, each with a
stable lowering and derivative in the table of operations. ``log_of`` knows the logarithms of positive expressions.

An expression is positive by its form, as exp(x) is, or a rule does not apply. A rule may assume that 0 log 0 is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from framework.base.arrays import LARGEST_EXPONENT
from framework.graph.graph import Call, Graph
from framework.graph.loop import Body, add_loop, node_of
from framework.graph.node import Node, common_shape, matching, nodes_in, order_nodes
from framework.graph.operations import shape_with_ones
from framework.graph.patterns import Fact, Patterns
from framework.graph.rows import is_place
from framework.graph.simplify import is_along

_TERMS = 12
"""Sums of more terms stay as they are."""
_CURVED = frozenset(
    {"exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "sqrt", "sin", "cos", "sinh", "cosh", "tanh"}
)
"""Operations of which a formula that is not stable has one."""
_NEAR_1 = frozenset({"sum", "gather", "index", "softmax", "power", "multiply", "divide", "reshape"})
"""Operations on positive values of which 1 may be subtracted."""


def stabilise(outputs: Iterable[Any], inputs: Collection[Node] = (), *, of_loss: bool = False) -> list[Any]:
    """Return the outputs in stable forms, in the same graph.

    A formula with a derivative that differs from the formula's on purpose stays as it is.

    Args:
        outputs: Nodes and plain numbers of one graph.
        inputs: Nodes that the outputs start from.
        of_loss: Whether exponents that are held where their exponential overflows are set free. It changes the tiny
            values of a sigmoid, so the loss of a step does it and the model does not.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> def softmax(h):
        ...     e = np.exp(h - np.max(h, axis=-1, keepdims=True))
        ...     return e / np.sum(e, axis=-1, keepdims=True)
        >>> h = {"h": (ROWS, 3)}
        >>> stabilise(trace(softmax, h).outputs), stabilise(trace(lambda h: np.log(softmax(h)), h).outputs)
        ([softmax(v0)(10007, 3)], [log_softmax(v0)(10007, 3)])
    """
    outputs = list(outputs)
    order = [node for node in order_nodes(outputs, inputs) if node not in inputs and node.args]
    if not order or order[0].graph.ops.isdisjoint(_CURVED) or any(map(_differs, order)):
        return outputs
    known: dict[Any, Any] = {}
    with order[0].graph.simplifying(LOSS_RULES if of_loss else RULES):
        for node in order:
            _rewrite(node, known)
    return [known.get(output, output) for output in outputs]


def _differs(node: Node) -> bool:
    """Return whether a derivative in an operation differs from that of the formula on purpose."""
    call = node.graph.calls.get(node)
    inside = node.attributes["body"].order() if node.op == "loop" else ()
    return bool(call and call.pullback and call.activation.check == "off") or any(map(_differs, inside))


def _rewrite(node: Node, known: dict[Any, Any]) -> None:
    """Add the stable form of an operation to the known ones."""
    graph, args = node.graph, tuple(known.get(arg, arg) for arg in node.args)
    if node.op == "loop":
        form: Any = _rewrite_loop(node, args, known)
    elif node.op == "part" or (args == node.args and node.op not in graph.rules):
        form = graph.intern_node(node.op, args, node.attributes, node.shape, node.kind)
    else:
        form = graph.add(node.op, *args, **node.attributes)
    if node.shape and getattr(form, "shape", ()) != node.shape:
        form = graph.add("broadcast_to", form, shape=node.shape)
    known[node] = form
    call = graph.calls.get(node)
    if call is not None and isinstance(form, Node):
        graph.calls[form] = Call(call.activation, known.get(call.argument, call.argument), call.pullback)


def _rewrite_loop(node: Node, args: tuple[Any, ...], known: dict[Any, Any]) -> Node:
    body = node.attributes["body"]
    for inner in body.order():
        _rewrite(inner, known)
    outputs = [node_of(node.graph, known.get(output, output), output) for output in body.outputs]
    if outputs == body.outputs and args == node.args:
        return node
    count = len(body.states) + len(body.entries)
    moving = [node_of(node.graph, arg, old) for arg, old in zip(args[:count], node.args, strict=False)]
    made = Body(body.states, body.entries, outputs, body.stacked)
    return add_loop(node.graph, made, moving, node.attributes["steps"], reverse=node.attributes["reverse"])


# operations on nodes and plain numbers


def _make(op: str, *args: Any, **attributes: Any) -> Any:
    graph = next((arg.graph for arg in args if isinstance(arg, Node)), None)
    return (graph or Graph()).add(op, *args, **attributes)


def _like(node: Node, *args: Any) -> Any:
    """Return the operation of a node on other arguments."""
    return node.graph.add(node.op, *args, **node.attributes)


def _with_sign(sign: float, x: Any) -> Any:
    return x if sign > 0 else _make("negative", x)


def _scale(factor: float, x: Any) -> Any:
    return None if x is None else _make("multiply", factor, x)


def _of_node(op: str, x: Any, *others: Any, **attributes: Any) -> Any:
    """Return an operation on a node; None for a number, or nothing."""
    return _make(op, x, *others, **attributes) if isinstance(x, Node) else None


# facts: of elements, and true wherever the first form does not overflow


def _logistic(x: Any, **attributes: bool) -> Any:
    return x.record("logistic", **attributes)


def _softplus(x: Any) -> Any:
    return x.record("softplus")


def _log1mexp(x: Any) -> Any:
    return x.record("log1mexp")


FACTS: tuple[Fact, ...] = (
    # sigmoid and softplus in parts
    lambda x: (np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-abs(x))), _logistic(x, tails=True)),
    lambda x: (1.0 - _logistic(x), _logistic(-x)),
    lambda x: (1.0 + np.tanh(x), 2.0 * _logistic(2.0 * x)),
    lambda x: (1.0 - np.tanh(x), 2.0 * _logistic(-2.0 * x)),
    lambda x: (1.0 - np.square(np.tanh(x)), 4.0 * (_logistic(2.0 * x) * _logistic(-2.0 * x))),
    lambda x: (np.maximum(x, 0.0) + _softplus(-abs(x)), _softplus(x)),
    lambda x: (x + _softplus(-x), _softplus(x)),
    lambda x: (x - _softplus(x), -_softplus(-x)),
    lambda x: (_softplus(x) - _softplus(-x), x),
    lambda x, y: (x * _softplus(-y) + (1.0 - x) * _softplus(y), _softplus(y) - x * y),
    # small differences
    lambda x: (np.exp(x) - 1.0, np.expm1(x)),
    lambda x: (np.expm1(x) - np.exp(x), 0.0 * x - 1.0),  # whose terms cancelled before
    lambda x: (1.0 - np.cos(x), 2.0 * np.square(np.sin(0.5 * x))),
    lambda x: (np.cosh(x) - 1.0, 2.0 * np.square(np.sinh(0.5 * x))),
    lambda x: (np.sqrt(1.0 + x) - 1.0, np.expm1(0.5 * np.log1p(x))),
    lambda x, y: (-(x - y), y - x),
    # logarithms and exponentials
    lambda x: (np.log(-np.expm1(x)), _log1mexp(x)),
    lambda x: (np.log(np.expm1(x)), x + _log1mexp(-x)),
    lambda x: (np.log1p(np.expm1(x)), x),
    lambda x: (np.log1p(-_logistic(x)), -_softplus(x)),
    lambda x: (np.log((1.0 + x) / (1.0 - x)), 2.0 * np.arctanh(x)),
    lambda x: (np.log1p(x) - np.log1p(-x), 2.0 * np.arctanh(x)),
    lambda x: (np.log(x + np.sqrt(np.square(x) + 1.0)), np.arcsinh(x)),
    lambda x: (np.log(1.0 + x), np.log1p(x)),
    lambda x: (np.log(1.0 - x), np.log1p(-x)),
    lambda x: (np.logaddexp(x, 0.0), _softplus(x)),
    lambda x: (np.logaddexp(x, -x), x.record("log_cosh") + math.log(2.0)),
    lambda x: (np.exp(-_softplus(x)), _logistic(-x)),
    lambda x, y: (np.exp(x) * np.exp(y), np.exp(x + y)),
    # quotients, roots, and 0 log 0
    lambda x, y: ((np.exp(x) - np.exp(y)) / (np.exp(x) + np.exp(y)), np.tanh(0.5 * (x - y))),
    lambda x: (np.expm1(x) / (1.0 + np.exp(x)), np.tanh(0.5 * x)),
    lambda x: (np.sinh(x) / np.cosh(x), np.tanh(x)),
    lambda x: (np.expm1(x) / x, x.record("expm1_ratio")),
    lambda x: (x / np.expm1(x), x.record("bernoulli")),
    lambda x: (np.sin(x) / x, x.record("sine_ratio")),
    lambda x: (np.sqrt(np.square(x)), abs(x)),
    lambda x: (np.sqrt(x * x), abs(x)),
    lambda x: (x * np.log(x), x * np.log(np.where(x == 0.0, 1.0, x))),
    lambda x, y: (x * (np.log(x) - y), x * (np.log(np.where(x == 0.0, 1.0, x)) - y)),
)

_PATTERNS = Patterns(FACTS)


def _by_facts(op: str, *args: Any) -> Any:
    """Return what a fact says of an operation, or None."""
    nodes = nodes_in(args)
    if not nodes or not _PATTERNS.candidates(op, args):
        return None
    shape = common_shape(*(node.shape for node in nodes))
    return _PATTERNS.replace(Node(nodes[0].graph, op, args, {}, shape, "f"), _make)


# what rules ask of nodes and plain numbers


def _number(x: Any) -> float | None:
    """Return a number, plain or broadcast; None for anything else."""
    value = x.fill if isinstance(x, Node) else x
    return None if value is None or isinstance(value, Node) else float(value)


def _orders(x: Any, op: str = "add") -> tuple[tuple[Any, Any], ...]:
    """Return the two arguments of an operation in both orders; nothing for any other one."""
    return (x.args, x.args[::-1]) if matching(x, op) else ()


def _bare(x: Any) -> Any:
    """Return a value without changes of its shape."""
    while isinstance(x, Node) and x.op in ("reshape", "broadcast_to") and isinstance(x.args[0], Node):
        x = x.args[0]
    return x


def _is_kept(x: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Return whether a reduction of an array of this shape, in another shape, has the axes where they were."""
    while matching(x, "broadcast_to") and isinstance(x.args[0], Node):
        x = x.args[0]
    return bool(x.shape == shape_with_ones(shape, axes) or math.prod(x.shape) == 1)


def _root(x: Any) -> Any:
    """Return y for y^2; None for anything else."""
    match x:
        case Node("square", (y,)):
            return y
        case Node("multiply", (y, z)) if y is z:
            return y
        case _:
            return None


# the logarithm of a positive expression


def log_of(x: Any, *, loose: bool = False) -> Any:
    """Return log(x) of an expression that is positive by its form, and whose logarithm is better known; else None.

    Args:
        x: A node or a number.
        loose: Whether factors of unknown sign may stay inside a logarithm of their own, as where the user wrote one.
    """
    number = _number(x)
    if number is not None:
        return math.log(number) if number > 0 else None
    return _LOGS[x.op](x, loose) if isinstance(x, Node) and x.op in _LOGS else None


def _log_as_written(x: Any) -> Any:
    """Return the logarithm of a value of any sign: with its stable form, or as 2 log|y| of y^2; else None."""
    form = log_of(x, loose=True)
    root = _root(x) if form is None else None
    return form if root is None else _make("multiply", 2.0, _make("log", _make("abs", root)))


def _log_of_product(x: Node, loose: bool) -> Any:
    """Return the sum, or difference, of the logarithms of two factors, of which one at most has an unknown sign."""
    a, b = x.args
    if x.op == "multiply" and a is b:
        return _scale(2.0, log_of(a))
    logs = [log_of(a), log_of(b)]
    if not nodes_in(logs) or (None in logs and not loose):
        return None
    return _make("add" if x.op == "multiply" else "subtract", *map(_or_written, logs, x.args))


def _or_written(log: Any, x: Any) -> Any:
    """Return log(x) as it is known, or as the user wrote it."""
    if log is None:
        log = _log_as_written(x)
    return _make("log", x) if log is None else log


def _log_of_choice(x: Node, loose: bool) -> Any:
    """Return the choice between two logarithms; one that is not known stays as the user wrote it."""
    condition, *sides = x.args
    logs = [log_of(side, loose=loose) for side in sides]
    if not nodes_in(logs) or (not loose and None in logs):
        return None
    return _make("where", condition, *map(_or_written, logs, sides))


def _log_of_sum(x: Node, _loose: bool) -> Any:
    """Return log(e^a + e^b)."""
    a, b = map(log_of, x.args)
    accurate = any(matching(term, "logistic") or matching(term, "softmax") for term in x.args)  # p + epsilon
    if accurate or a is None or b is None or not nodes_in((a, b)):
        return None
    if isinstance(a, Node) and isinstance(b, Node):
        return _make("logaddexp", a, b)
    number, rest = (b, a) if isinstance(a, Node) else (a, b)
    return _make("add", number, _make("softplus", _make("subtract", rest, number)))


def _log_of_reduction(x: Node, loose: bool) -> Any:
    """Return log(sum(e^a)), or log(sum(w e^a)) where the factors w are weights."""
    inner, axes, exponent, weights = x.args[0], x.attributes["axes"], log_of(x.args[0]), list[Any]()
    for factor, weight in _orders(inner, "multiply"):
        known = log_of(factor)
        if isinstance(known, Node) and (_is_weight(weight) or (loose and log_of(weight) is None)):
            exponent, weights = known, [weight]
    if not isinstance(exponent, Node):
        return None
    whole = [x.graph.add("broadcast_to", factor, shape=inner.shape) for factor in (exponent, *weights)]
    total = _make("logsumexp", *whole, axes=axes)
    if x.op == "mean":
        count = math.prod(inner.shape[axis] for axis in axes)
        if x.graph.rows_in(count):
            return None
        total = _make("subtract", total, math.log(count))
    return total if x.attributes["keepdims"] else _make("reshape", total, shape=x.shape)


def _is_weight(x: Any) -> bool:
    """Return whether a value is not negative by its form."""
    match x:
        case Node("constant"):
            return bool(np.all(x.attributes["value"].value >= 0))
        case Node("broadcast_to" | "reshape", (y,)):
            return _is_weight(y)
        case Node("multiply" | "add", (y, z)):
            return _is_weight(y) and _is_weight(z)
        case Node():
            return x in x.graph.distributions
        case _:
            return bool(x >= 0)


def _log_of_part(x: Node, loose: bool) -> Any:
    """Return the logarithm of a selection, or of another shape, of positive elements."""
    inner = log_of(x.args[0], loose=loose)
    return _like(x, inner, *x.args[1:]) if isinstance(inner, Node) else None


_LOGS: dict[str, Callable[[Node, bool], Any]] = {
    "exp": lambda x, _: x.args[0],
    "exp2": lambda x, _: _make("multiply", x.args[0], math.log(2.0)),
    "logistic": lambda x, _: _with_sign(-1, _make("softplus", _with_sign(-1, x.args[0]))),
    "softplus": lambda x, _: _make("log_softplus", *x.args),
    "softmax": lambda x, _: _make("log_softmax", *x.args, **x.attributes),
    "cosh": lambda x, _: _make("log_cosh", *x.args),
    "abs": lambda x, _: log_of(x.args[0]),
    "square": lambda x, _: _scale(2.0, log_of(x.args[0])),
    "sqrt": lambda x, loose: _scale(0.5, log_of(x.args[0], loose=loose)),
    "power": lambda x, _: _scale(x.args[1], log_of(x.args[0])),
    "prod": lambda x, _: _of_node("sum", log_of(x.args[0]), **x.attributes),
    "add": _log_of_sum,
    "where": _log_of_choice,
    **dict.fromkeys(("multiply", "divide"), _log_of_product),
    **dict.fromkeys(("sum", "mean"), _log_of_reduction),
    **dict.fromkeys(("gather", "index", "reshape", "transpose", "broadcast_to"), _log_of_part),
}


# rules for sums


def _terms(x: Any, sign: int = 1) -> list[tuple[int, Any]]:
    """Return the signed terms of a sum."""
    match x:
        case Node("add", (a, b)):
            return _terms(a, sign) + _terms(b, sign)
        case Node("subtract", (a, b)):
            return _terms(a, sign) + _terms(b, -sign)
        case Node("negative", (a,)):
            return _terms(a, -sign)
        case _:
            return [(sign, x)]


def _total(terms: Iterable[tuple[int, Any]]) -> Any:
    """Return the sum of signed terms."""
    (sign, total), *others = terms
    total = _with_sign(sign, total)
    for sign, other in others:
        total = _make("add" if sign > 0 else "subtract", total, other)
    return total


def _sum(*terms: tuple[int, Any]) -> Any:
    """Return a sum with the first pair of its terms that has a stable form replaced by it; terms that cancel stay."""
    flat = [term for sign, x in terms for term in _terms(x, sign)]
    left = [term for term in enumerate(flat) if len(flat) <= _TERMS and (-term[1][0], term[1][1]) not in flat]
    for i, (s, x) in left:
        for j, (t, y) in left:
            form = _pair(s * t, x, y) if i != j and nodes_in((x, y)) else None
            if form is not None:
                rest = [term for k, term in enumerate(flat) if k not in (i, j)]
                rest.insert(min(i, j), (s, form))
                total = _total(rest)
                shape = common_shape(*(node.shape for node in nodes_in(x for _, x in terms)))
                graph = nodes_in((x, y))[0].graph
                return graph.add("broadcast_to", total, shape=shape) if shape else total
    return None


def _pair(sign: int, x: Any, y: Any) -> Any:
    """Return x + y, or x - y where the sign is negative, as one node; None if it has no stable form."""
    form = _by_facts("add" if sign > 0 else "subtract", x, y)
    if form is None and sign < 0 and _number(y) == 1.0 and isinstance(x, Node) and x.op in _NEAR_1:
        form = _of_node("expm1", log_of(x))
    if form is None and sign < 0 and matching(_bare(y), "logsumexp") and isinstance(x, Node):
        form = _less_logsumexp(x, y)
    return form


def _less_logsumexp(x: Node, y: Node) -> Any:
    """Return x - logsumexp(x) of rows, or of the class of each row, which float32 loses far from 0."""
    total = _bare(y)
    (z, *weights), axes = total.args, total.attributes["axes"]
    if x is z and not weights and _is_kept(y, x.shape, axes):
        return _make("log_softmax", x, axes=axes)
    is_class = x.op == "gather" and x.args[0] is z and x.shape == y.shape and z.ndim == 2 and axes == (1,)
    if is_class and not weights and x.attributes["axes"] == (0, 1) and is_place(x.args[1]):
        return _like(x, _make("log_softmax", z, axes=axes), *x.args[1:])
    return None


# rules for logarithms and exponentials


def _log(x: Any) -> Any:
    known = _log_as_written(x)
    return _by_facts("log", x) if known is None else known


def _log1p(x: Any) -> Any:
    form = _by_facts("log1p", x)
    match x:
        case Node() if form is not None:
            return form
        case Node("negative", (Node("where", (condition, *sides)),)) if len(nodes_in(sides)) == 1:
            return _make("where", condition, *(_make("log1p", _make("negative", side)) for side in sides))
        case Node("negative", (Node("exp" | "softmax" | "gather" | "sum" | "index") as p,)):
            return _of_node("log1mexp", log_of(p))
        case Node("square" | "multiply" | "logistic" | "softmax" | "softplus"):
            return None
        case _:
            return _of_node("softplus", log_of(x))


def _in_base(base: float) -> Callable[[Any], Any]:
    return lambda x: _scale(1.0 / math.log(base), log_of(x))


def _free(exponent: Any) -> Any:
    """Return z for min(z, c), where c only keeps exp(z) from overflowing; None for anything else."""
    largest = LARGEST_EXPONENT[exponent.graph.dtype] - 1e-3 if isinstance(exponent, Node) else 0.0
    return next((z for c, z in _orders(exponent, "minimum") if (_number(c) or 0.0) >= largest), None)


def _exp(x: Any) -> Any:
    if matching(x, "log_softmax"):
        return _make("softmax", *x.args, **x.attributes)
    return _by_facts("exp", x)


def _exp_of_loss(x: Any) -> Any:
    free = _free(x)
    return _exp(x) if free is None else _make("exp", free)


def _hold(x: Any, **attributes: bool) -> Any:
    """Return 1 / (1 + exp(min(z, c))) as a logistic function that stays above 0."""
    free = _free(x.args[0]) if matching(x, "negative") else None
    return None if free is None else _make("logistic", _make("negative", free), **attributes, held=True)


# rules for products, quotients and roots


def _grows(x: Any) -> bool:
    """Return whether a denominator may overflow."""
    grows = matching(x, "exp") or matching(x, "exp2") or matching(x, "cosh")
    passes = isinstance(x, Node) and x.op in ("add", "multiply", "power", "square", "sqrt", "sum")
    return grows or (passes and any(map(_grows, x.args)))


def _divide(a: Any, b: Any) -> Any:
    if matching(a, "negative"):
        return _with_sign(-1, _make("divide", *a.args, b))
    for rule in (partial(_by_facts, "divide"), _softmax, _quotient):
        if (form := rule(a, b)) is not None:
            return form
    number = _number(b)
    return _make("multiply", 1.0 / number, a) if number and _is_power_of_two(number) else None


def _softmax(a: Any, b: Any) -> Any:
    total, exponent = _bare(b), log_of(a)
    if not matching(total, "sum") or not isinstance(exponent, Node) or log_of(total.args[0]) is not exponent:
        return None
    axes = total.attributes["axes"]
    is_whole = exponent.shape == a.shape == total.args[0].shape and b.shape in (shape_with_ones(a.shape, axes), a.shape)
    return _make("softmax", exponent, axes=axes) if is_whole and _is_kept(b, a.shape, axes) else None


def _quotient(a: Any, b: Any) -> Any:
    """Return a / b, where b may overflow, by the logarithms of both."""
    below = log_of(b) if _grows(b) else None
    if not isinstance(below, Node):
        return None
    above = log_of(a)
    for x, y in _orders(b):  # e^u / (e^u + e^v)
        u, v = log_of(x), log_of(y)
        if above is not None and v is not None and (above is u or (not isinstance(u, Node) and above == u)):
            return _make("logistic", _make("subtract", u, v))
    if above is not None:
        return _make("exp", _make("subtract", above, below))
    for factor, rest in _orders(a, "multiply"):
        if isinstance(log_of(factor), Node):
            return _make("multiply", rest, _make("divide", factor, b))
    return _make("multiply", a, _make("exp", _make("negative", below)))


def _is_power_of_two(number: float) -> bool:
    """Return whether a number and its reciprocal are powers of two in every dtype."""
    mantissa, exponent = math.frexp(number)
    return abs(mantissa) == 0.5 and abs(exponent) < 120


def _two(x: Any) -> tuple[float, Any]:
    """Return the power of two in front of a product, by which it is exact, and the rest."""
    for number, rest in _orders(x, "multiply"):
        factor = _number(number)
        if factor is not None and _is_power_of_two(factor) and isinstance(rest, Node) and rest.shape == x.shape:
            return factor, rest
    return 1.0, x


def _multiply(a: Any, b: Any) -> Any:
    form = _powers_of_two(a, b)
    form = _by_facts("multiply", a, b) if form is None else form
    return _drop_guard(a, b) if form is None else form


def _powers_of_two(a: Any, b: Any) -> Any:
    """Return a product with its powers of two joined in front, which changes no bits."""
    (c, x), (d, y) = _two(a), _two(b)
    for number, (factor, rest) in ((_number(a), (d, y)), (_number(b), (c, x))):
        if number is not None:
            joins = factor != 1.0 and _is_power_of_two(number)
            return _make("multiply", number * factor, rest) if joins else None
    if (c != 1.0 and d != 1.0) or (c != d and (matching(x, "logistic") or matching(y, "logistic"))):
        return _make("multiply", c * d, _make("multiply", x, y))
    return None


def _drop_guard(a: Any, b: Any) -> Any:
    """Return x log(z + (x == 0)) without the guard, where log(z) is finite."""
    for x, y in ((a, b), (b, a)):
        for guard, z in _orders(y.args[0]) if matching(y, "log") else ():
            mask = guard.args[0] if matching(guard, "astype") else guard
            if matching(mask, "equal") and mask.args[0] is x and _number(mask.args[1]) == 0.0:
                return _of_node("multiply", log_of(z), x)
    return None


def _power(x: Any, n: Any) -> Any:
    known = None if isinstance(n, Node) or float(n).is_integer() else log_of(x)
    return _make("exp", _make("multiply", float(n), known)) if isinstance(known, Node) else None


# rules for rows


def _drop_shift(x: Any, *, axes: Any) -> Any:
    """Return a softmax of rows without their shift, which does not change it."""
    for z, shift in (x.args,) if matching(x, "subtract") else _orders(x):
        if isinstance(z, Node) and z.shape == x.shape and is_along(shift, x.ndim, axes):
            return _make("softmax", z, axes=axes)
    return None


def _cross_entropy(x: Any, *, axes: Any, keepdims: bool) -> Any:
    """Return a sum with the terms t log(softmax(z)) apart, each as one node."""
    terms = _terms(x)
    for index, (sign, term) in enumerate(terms):
        for t, form in _orders(term, "multiply"):
            if not matching(form, "log_softmax") or form.attributes["axes"] != axes or form.shape != x.shape:
                continue
            z, target = form.args[0], x.graph.add("broadcast_to", t, shape=x.shape)
            is_whole = math.isclose(_sum_of(target, axes), 1.0)
            total = _make("expected_log_softmax", z, target, axes=axes, whole=is_whole)
            shape = total.shape if keepdims else tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
            total, others = (
                _with_sign(sign, _make("reshape", total, shape=shape)),
                [*terms[:index], *terms[index + 1 :]],
            )
            if not others:
                return total
            rest = _total((s, x.graph.add("broadcast_to", other, shape=x.shape)) for s, other in others)
            return _make("add", _make("sum", rest, axes=axes, keepdims=keepdims), total)
    return None


def _sum_of(t: Any, axes: Any) -> float:
    """Return the sum of a distribution, also of one that is scaled and moved by numbers; NaN for anything else."""
    if t in t.graph.distributions and axes == (t.ndim - 1,):
        return 1.0
    for op in ("add", "multiply"):
        for term, rest in _orders(t, op):
            number = _number(term)
            if number is not None and isinstance(rest, Node) and rest.shape == t.shape:
                total = _sum_of(rest, axes)
                return number * total if op == "multiply" else total + number * t.shape[axes[0]]
    return math.nan


RULES: Mapping[str, Callable[..., Any]] = {
    "add": lambda a, b: _sum((1, a), (1, b)),
    "subtract": lambda a, b: _sum((1, a), (-1, b)),
    "negative": lambda x: _by_facts("negative", x),
    "log": _log,
    "log2": _in_base(2.0),
    "log10": _in_base(10.0),
    "log1p": _log1p,
    "logaddexp": lambda a, b: _by_facts("logaddexp", a, b),
    "exp": _exp,
    "logistic": _hold,
    "multiply": _multiply,
    "divide": _divide,
    "reciprocal": lambda x: _make("divide", 1.0, x),
    "sqrt": lambda x: _by_facts("sqrt", x),
    "power": _power,
    "softmax": _drop_shift,
    "sum": _cross_entropy,
}
"""By operation: (*arguments, **attributes) -> what takes its place, or None."""

LOSS_RULES = {**RULES, "exp": _exp_of_loss}
