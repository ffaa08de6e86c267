"""Gradient: the chain rule backwards over a graph, into the same graph; and the slope where several kinks meet.

There, the conventions of an elementwise formula may add up to the slope of neither side: max(h, 0) - max(-h, 0) is
smooth and has the slope 1 at 0, where the rules of both maxima give 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from itertools import combinations, product, starmap
from typing import Any

import numpy as np

from framework.base.errors import DerivativeError
from framework.base.trees import leaves
from framework.graph.graph import Graph, kind_of, rewrite_into
from framework.graph.loop import reverse_loop
from framework.graph.node import Node, ancestors, dependents, matching, nodes_in, order_nodes
from framework.graph.operations import COMPARISONS, GROWING, OPERATIONS, unbroadcast
from framework.graph.simplify import is_number
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.textbook import tidy

_DENOMINATOR = {"divide": 1, "reciprocal": 0}
"""The argument that an operation divides by."""

_BOUNDED = frozenset({"tanh", "arctan", "erf", "erfc", "sin", "cos", "sign"})


def gradients(
    seeds: Iterable[tuple[Node, Node | float]],
    wrt: Sequence[Node],
    inputs: Collection[Node] = (),
    ends: Collection[Node] = (),
) -> list[Node]:
    """Return the gradients of sum(g * output), summed over the pairs (output, g), as nodes of the shapes of ``wrt``.

    A call of an activation uses the derivative that its class writes, if any. Where kinks of an elementwise formula
    meet, its slope lies between those of both sides, and a denominator that overflows leaves a slope of 0.

    Args:
        seeds: Pairs of an output and its gradient: a node of its shape, or a number.
        wrt: The nodes to derive by.
        inputs: Nodes that count as inputs: the derivation stops there.
        ends: Nodes that no elementwise formula goes beyond, such as the outputs of layers.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> traced = trace(lambda x, w: x @ w, {"x": (ROWS, 3), "w": (3, 2)})
        >>> g = traced.graph.input("g", traced.output.shape)
        >>> gradients([(traced.output, g)], list(traced.inputs.values()))
        [matmul(v3, v4)(10007, 3), matmul(v6, v3)(3, 2)]

    Source:
        Griewank and Walther, Evaluating derivatives (2008), chapter 3.
    """
    pairs = [(output, g) for output, g in seeds if isinstance(output, Node)]
    with wrt[0].graph.simplifying(reorders=True):
        return _Reverse(pairs, wrt, inputs, ends, ties=True).result()


def derivative(output: Any, variable: Node) -> Any:
    """Return d(output)/d(variable) of an elementwise formula: a node of the same graph, or a plain number.

    Args:
        output: A node or a plain number.
        variable: The node to derive by.

    Raises:
        DerivativeError: An operation works on several elements.

    Example:
        >>> from framework.graph.graph import Graph
        >>> graph = Graph()
        >>> h = graph.input("h", (3,))
        >>> derivative(graph.add("tanh", h), h)
        subtract(1.0, v2)(3,)
    """
    order = order_nodes([output], {variable})
    depends = dependents(order, {variable}, {variable}) - {variable}
    for node in order:
        if node in depends and not elementwise(node):
            raise DerivativeError(
                f"the formula works on several elements, in {node.op}: it has a gradient, but no derivative "
                "for each element"
            )
    if output is variable:
        return 1.0
    if output not in depends:
        return 0.0
    slope = gradients([(output, 1.0)], [variable], {variable})[0]
    return slope if slope.fill is None else slope.fill


def textbook_derivative(output: Any, variable: Node) -> Any:
    """Return d(output)/d(variable) of an elementwise formula as readers write it: a node or a plain number.

    The chain rule goes forwards, so that a product is derived in the order in which it is written. What only matters
    where kinks meet or a denominator overflows is left out.
    """
    with variable.graph.simplifying(reorders=True):
        return _tangent(output, variable)


def _tangent(output: Any, variable: Node) -> Any:
    order = order_nodes([output], {variable})
    tangents: dict[Any, Any] = {variable: 1.0}
    for node in order:
        match node:
            case Node("divide", (int() | float() as c, Node("add", (1, Node("exp", (z,))) | (Node("exp", (z,)), 1)))):
                y = symbol_of(node)  # a sigmoid, whose derivative readers know in terms of the output
                tangents[node] = tangents.get(z, 0.0) * -(y * (1.0 - (y if c == 1 else y / c)))
                continue
            case _ if _is_constant(node):
                continue
            case _:
                pass
        args = [
            np.where(symbol_of(arg), 1.0, 0.0) if kind_of(arg) == "b" and node.op != "where" else symbol_of(arg)
            for arg in node.args
        ]
        for arg, rule in zip(node.args, OPERATIONS[node.op].rules, strict=False):
            if arg in tangents and rule is not None:
                term = rule(tangents[arg], symbol_of(node), *args)
                tangents[node] = tangents[node] + term if node in tangents else term
    return tidy(value_of(tangents.get(output, 0.0)), {variable, *order})


class _Reverse:
    """One backward pass: an adjoint for each node that depends on some of ``wrt``."""

    def __init__(
        self,
        seeds: list[tuple[Node, Node | float]],
        wrt: Sequence[Node],
        inputs: Collection[Node],
        ends: Collection[Node],
        *,
        ties: bool,
    ) -> None:
        self.wrt, self.given = wrt, inputs
        self.graph = wrt[0].graph
        self.order = order_nodes((output for output, _ in seeds), inputs)
        self.reached = dependents(self.order, wrt, inputs)
        self.consumers: dict[Node, list[Node]] = {node: [] for node in self.order}
        for node in self.order:
            for arg in nodes_in(node.args) if node not in inputs else ():
                self.consumers[arg].append(node)
        self.calls = {node: call for node, call in self.graph.calls.items() if call.pullback is not None}
        self.ends = {output for output, _ in seeds} | {*self.calls, *ends, *inputs, *wrt}
        self.overflowing = _overflowing(self.order, self.reached)
        self.ties = ties
        self.deciding: list[Node] = []  # kinks whose rules have decided where a gradient goes
        self.adjoints: dict[Node, Any] = {}
        self.parts: dict[Node, dict[int, Node]] = {}  # the gradients of the parts of a loop
        for output, g in seeds:
            self._give(output, Symbol(_as_node(output, g)) if isinstance(g, Node) else g)

    def _give(self, node: Any, term: Any) -> None:
        """Add to the adjoint of a node."""
        if term is None or node not in self.reached or node.kind != "f":
            return
        before = self.adjoints.get(node)
        self.adjoints[node] = term if before is None else before + term

    def result(self) -> list[Node]:
        for node in reversed(self.order):
            if node.op == "loop" and node in self.parts:
                argument_gradients = reverse_loop(node, self.parts[node], gradients)
                for arg, argument_gradient in zip(node.args, argument_gradients, strict=True):
                    self._give(arg, symbol_of(argument_gradient))
            elif node.op == "call" and node in self.parts:
                self._call_back(node, self.parts[node])
            elif node in self.adjoints and node in self.reached and node.args and node not in self.given:
                self._back(node, self.adjoints[node])
        return [_as_node(node, self.adjoints.get(node, 0.0)) for node in self.wrt]

    def _call_back(self, call: Node, by_output: dict[int, Node]) -> None:
        """Let Python carry the gradients of the outputs of a call back to its arguments."""
        graph, rows = call.graph, call.args[0].shape[0]
        shapes = enumerate(leaves(call.attributes["called"].outputs), 1)
        parts = [
            by_output[output] if output in by_output else graph.broadcast(0.0, (rows, *shape))
            for output, shape in shapes
        ]
        back = graph.intern_node("call_back", (call, *parts), call.attributes, ())
        for index, arg in enumerate(call.args):
            self._give(arg, Symbol(graph.intern_node("part", (back,), {"index": index}, arg.shape)))

    def _back(self, node: Node, g: Any) -> None:
        """Propagate the adjoint of a node, a symbol or a number, to its arguments."""
        row = OPERATIONS[node.op]
        if row.elementwise and node not in self.calls:
            self._back_elementwise(node, g)
            return
        g = Symbol(_as_node(node, g))
        call = self.calls.get(node)
        if call is not None and call.pullback is not None:
            self._give(call.argument, call.pullback(g, Symbol(call.argument), Symbol(node)))
        elif node.op == "part":
            self.parts.setdefault(node.args[0], {})[node.attributes["index"]] = g.node
        elif row.reverse is not None:
            arg_gradients = row.reverse(g, Symbol(node), *map(symbol_of, node.args), **node.attributes)
            for arg, gradient in zip(node.args, arg_gradients, strict=True):
                self._give(arg, gradient)

    def _back_elementwise(self, node: Node, g: Any) -> None:
        if _is_constant(node):
            return  # the terms of its slope would cancel, but leave their rounding errors
        args = [symbol_of(arg) for arg in node.args]
        variable, slope = self._slope_of_formula(node) or (node, None)
        if slope is not None and not ancestors([node], {variable}) & self.ends - {node, variable}:
            self._give(variable, _apply_rule(node, lambda t, _y, *_args: t * slope, g, args))
            return
        arg_gradients = _gradients_of_choice(node, g) or self._apply_rules(node, g, args)
        for arg, gradient in zip(node.args, arg_gradients, strict=True):
            if gradient is not None and isinstance(arg, Node):
                same = arg.shape == node.shape
                self._give(arg, gradient if same else unbroadcast(Symbol(_as_node(node, gradient)), arg.shape))

    def _apply_rules(self, node: Node, g: Any, args: list[Any]) -> list[Any]:
        """Return the gradients of the arguments of an elementwise operation; None for an argument without one."""
        if node.op in EXTREMES or node.op == "copysign":
            self.deciding.append(node)
        arg_gradients: list[Any] = [
            None if rule is None or arg not in self.reached else _apply_rule(node, rule, g, args)
            for arg, rule in zip(node.args, OPERATIONS[node.op].rules, strict=True)
        ]
        if node in self.overflowing:
            index = _DENOMINATOR[node.op]
            if arg_gradients[index] is not None:
                arg_gradients[index] = np.where(np.isinf(args[index]), 0.0, arg_gradients[index])
        return arg_gradients

    def _slope_of_formula(self, node: Node) -> tuple[Node, Any] | None:
        """Return the variable of an elementwise formula that ends in a node, and its slope, if it has several kinks."""
        variable = variable_of(node, self.reached, self.consumers, self.ends) if self.ties else None
        if variable is None:
            return None
        inner = _Reverse([(node, 1.0)], [variable], {variable}, self.ends, ties=False)
        slope = inner.result()[0]
        return variable, symbol_of(between(slope, variable, inner.reached, inner.deciding))


def _is_constant(node: Node) -> bool:
    """Return whether an operation has no slope because its arguments are equal, as in x - x."""
    return OPERATIONS[node.op].constant_of_equal and node.args[0] is node.args[1]


def _apply_rule(node: Node, rule: Any, g: Any, args: list[Any]) -> Any:
    """Apply the rule of one argument. A choice of 0 stays outermost, so that 0 * inf never occurs."""
    chosen = value_of(g)
    if matching(chosen, "where"):
        condition, *sides = map(symbol_of, chosen.args)
        zero = [is_number(side, 0) for side in chosen.args[1:]]
        if any(zero):
            pairs = zip(zero, sides, strict=True)
            return np.where(condition, *(0.0 if none else _apply_rule(node, rule, side, args) for none, side in pairs))
    return rule(g, Symbol(node), *args)


def _as_node(node: Node, g: Any) -> Node:
    """Return an adjoint as a node of the shape of its own node."""
    g = value_of(g)
    return g if isinstance(g, Node) and g.shape == node.shape else node.graph.broadcast(g, node.shape)


def _gradients_of_choice(node: Node, g: Any) -> tuple[Any, ...] | None:
    """Return the gradients of a kink's arguments where a choice has already decided on which side of it a number is.

    In where(h > 0, ..., expm1(min(h, 0))), the minimum is h wherever it is chosen, also at 0.
    """
    choice = value_of(g)
    if node.op not in EXTREMES or not matching(choice, "where"):
        return None
    condition = choice.args[0]
    pair = (node.args[0], 0.0) if node.op == "abs" else node.args
    if not isinstance(condition, Node) or condition.op not in ORDER or condition.args not in (pair, pair[::-1]):
        return None
    choice, yes, no = map(symbol_of, choice.args)
    above = condition.op.startswith("greater") == (condition.args == pair)
    if node.op == "abs":
        return (np.where(choice, yes, -no) if above else np.where(choice, -yes, no),)
    parts = np.where(choice, yes, 0.0), np.where(choice, 0.0, no)
    return parts if above == (node.op in ("maximum", "fmax")) else parts[::-1]


def _overflowing(order: Collection[Node], reached: Collection[Node]) -> set[Node]:
    """Return the quotients whose denominator can overflow."""
    growing: set[Node] = set()
    for node in order:
        if (
            node not in reached
            or not elementwise(node)
            or node.op in _BOUNDED
            or (node.op == "exp" and _is_limited(node.args[0]))
        ):
            continue
        grows = node.op in GROWING and not (node.op == "multiply" and len(nodes_in(node.args)) == 1)
        if grows or any(arg in growing for arg in nodes_in(node.args)):
            growing.add(node)
    return {
        node
        for node in order
        if node.op in _DENOMINATOR and any(arg in growing for arg in nodes_in(node.args[_DENOMINATOR[node.op] :]))
    }


def _is_limited(x: Any) -> bool:
    """Return whether a value is a number, or never above 0 by its form, so that its exponential cannot overflow."""
    if matching(x, "negative"):
        (inner,) = x.args
        return inner.op in ("abs", "square") or (inner.op == "multiply" and inner.args[0] is inner.args[1])
    return matching(x, "minimum") and any(not isinstance(arg, Node) and arg <= 80.0 for arg in x.args)


ORDER = COMPARISONS - {"equal", "not_equal"}
"""Comparisons whose result changes at a tie."""

EXTREMES = frozenset({"abs", "maximum", "minimum", "fmax", "fmin"})
_JUMPS = ORDER | {"sign", "heaviside", "copysign"}
_KINKS = EXTREMES | _JUMPS


def elementwise(node: Node) -> bool:
    """Return whether each element depends on one element of each argument."""
    return OPERATIONS[node.op].elementwise or node.op == "astype"


def variable_of(
    node: Node, reached: Collection[Node], consumers: Mapping[Node, Collection[Node]], ends: Collection[Node]
) -> Node | None:
    """Return the one variable of the largest elementwise formula that ends in a node, if it has several kinks.

    Args:
        node: The result of the formula.
        reached: The nodes that depend on what the whole graph is derived by.
        consumers: The nodes that use a node.
        ends: Nodes that are given or need a gradient of their own, so that they are not inside a formula.
    """
    members: set[Node] = set()
    frontier, variable, kinks = {node}, None, 0
    while frontier:
        last = max(frontier, key=lambda member: member.place)
        if kinks > 1 and frontier == {last} and last.kind == "f" and last.shape == node.shape:
            variable = last
        inside = last is node or not (last in ends or any(user not in members for user in consumers[last]))
        if not inside or last.shape != node.shape or not elementwise(last):
            break
        members.add(last)
        kinks += len(_pairs(last)) if last.op in _KINKS else 0
        frontier.remove(last)
        frontier.update(arg for arg in nodes_in(last.args) if arg in reached)
    return variable


def between(slope: Node, variable: Node, reached: Collection[Node], deciding: Collection[Node]) -> Node:
    """Return a slope, held between those of both sides wherever a kink is, if some of the kinks can meet.

    Args:
        slope: The slope of the formula by its variable.
        variable: The variable.
        reached: The nodes of the formula that depend on it.
        deciding: Those whose rules have decided where a gradient goes.
    """
    jumps = (node for node in order_nodes([slope], {variable}) if node in reached and node.op in _JUMPS)
    pairs = [pair for node in dict.fromkeys([*deciding, *jumps]) for pair in _pairs(node)]
    kinks = [_numbers(*pair) for pair in pairs]
    if not any(starmap(_meet, combinations(kinks, 2))):
        return slope
    bases, numbers = {base for base, _ in kinks}, {number for _, several in kinks for number in several}
    base = bases.pop() if len(bases) == 1 else None
    variable = base or variable
    left, right = (_beside(slope, variable, side) for side in ("subtract", "add"))
    if base is not None:
        values = [[_value(form, base, number) for form in (slope, left, right)] for number in numbers]
        at, before, after = np.array(values, float).T
        if ((at >= np.fmin(before, after)) & (at <= np.fmax(before, after))).all():
            return slope
    add = variable.graph.add
    held = add("fmin", add("fmax", slope, add("fmin", left, right)), add("fmax", left, right))  # NaN does not count
    ties = (add("equal", *pair) for pair in dict.fromkeys(pairs))
    made: Node = add("where", reduce(lambda tie, other: add("bitwise_or", tie, other), ties), held, slope)
    return made


def _value(output: Any, variable: Node, number: float) -> float | None:
    """Return the value of an output at a number of a variable; None if it depends on anything else."""
    values: dict[Any, Any] = {variable: number}
    for node in order_nodes([output], {variable}):
        if node.op == "broadcast_to":
            values[node] = values.get(node.args[0], node.args[0])
        elif node is not variable:
            if not node.args or not OPERATIONS[node.op].elementwise:
                return None
            values[node] = node.graph.add(node.op, *(values.get(arg, arg) for arg in node.args))
    return float(values.get(output, output))


def _beside(slope: Node, variable: Node, side: str) -> Any:
    """Return a slope with every decision as it is a few units in the last place to one side of the variable."""
    graph, number = variable.graph, np.finfo(variable.graph.dtype)
    step = graph.add("multiply", 8.0 * float(number.eps), graph.add("abs", variable))
    step = graph.add("add", step, 16.0 * float(number.tiny))
    order = order_nodes([slope], {variable})
    inside = dependents(order, {variable}, {variable}) - {variable}
    limits: dict[Node, Any] = {node: node for node in order if node not in inside}
    moved = limits | {variable: graph.add(side, variable, step)}
    jumps = [node for node in order if node in inside and node.op in _JUMPS]
    rewrite_into(graph, [arg for jump in jumps for arg in jump.args], moved, lambda *_: None)

    def decide_jump(graph: Graph, node: Node, _args: Any) -> Any:
        return graph.add(node.op, *(moved.get(arg, arg) for arg in node.args)) if node in jumps else None

    return rewrite_into(graph, [slope], limits, decide_jump)[0]


# where kinks are


def _pairs(node: Node) -> list[tuple[Any, ...]]:
    """Return the pairs of values that are equal at the kinks of an operation."""
    if node.op in ("abs", "sign", "heaviside"):
        return [(node.args[0], 0.0)]
    return [(arg, 0.0) for arg in nodes_in(node.args)] if node.op == "copysign" else [node.args]


def _meet(one: tuple[Any, set[float]], other: tuple[Any, set[float]]) -> bool:
    """Return whether two kinks may be at one number; False only if their numbers are known and differ."""
    if one[0] is None or one[0] is not other[0]:
        return True
    return any(math.isclose(x, y, abs_tol=1e-9) for x, y in product(one[1], other[1]))


def _numbers(a: Any, b: Any) -> tuple[Node | None, set[float]]:
    """Return a node and its values where a = b; None and nothing where they are not known."""
    if isinstance(b, Node):
        a, b = b, a
    if isinstance(b, Node):
        return None, set()
    values = {b}
    while len(inner := nodes_in(a.args)) == 1 and (undone := [_undone(a, value) for value in values]) and all(undone):
        a, values = inner[0], {value for several in undone for value in several}
    return a, values


def _undone(a: Node, b: float) -> tuple[float, ...]:
    """Return the values of the one argument of ``a`` that is a node where a = b; nothing where they are not known."""
    c = next((arg for arg in a.args if not isinstance(arg, Node)), 0.0)
    match a.op:
        case "negative":
            return (-b,)
        case "abs":
            return b, -b
        case "add":
            return (b - c,)
        case "subtract":
            return (b + c,) if a.args[1] is c else (c - b,)
        case "multiply" if c:
            return (b / c,)
        case "divide" if c and a.args[1] is c:
            return (b * c,)
        case "maximum" | "fmax" | "minimum" | "fmin" if b != c:
            return (b,)
        case _:
            return ()
