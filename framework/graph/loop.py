"""Loop: a recurrence as one operation with a body, so that a graph does not grow with the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from framework.base.errors import ShapeError
from framework.graph.graph import Graph, rewrite_node, signature
from framework.graph.node import Node, dependents, nodes_in, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.refuse import refuse
from framework.graph.symbol import Symbol, array_symbol, value_of

_EVERYWHERE = frozenset({"constant", "rows", "row_numbers"})
"""Operations without arguments, which a body repeats."""
_KINDS = {"f": "float", "i": "int", "b": "bool"}


class Body:
    """One step of a loop.

    Attributes:
        states: The nodes that stand for the state before the step.
        entries: Those that stand for one entry of each sequence.
        outputs: The new states, then what is stacked over the steps, then what is summed over them.
        stacked: How many outputs are stacked.
        captured: Nodes from outside that the step uses, the same in every step.
    """

    def __init__(self, states: list[Node], entries: list[Node], outputs: list[Node], stacked: int) -> None:
        """Hold a step, and find what it captures."""
        self.states, self.entries, self.outputs, self.stacked = states, entries, outputs, stacked
        inside, inputs = self.inside(), self.given
        captured = [
            arg
            for node in order_nodes(outputs, inputs)
            if node in inside and node not in inputs
            for arg in nodes_in(node.args)
            if arg not in inside and arg.op not in _EVERYWHERE
        ]
        self.captured = list(dict.fromkeys([*captured, *(output for output in outputs if output not in inside)]))

    @property
    def given(self) -> set[Node]:
        """The nodes that a step starts from."""
        return {*self.states, *self.entries}

    def inside(self) -> set[Node]:
        """Return the nodes that change from step to step."""
        return dependents(order_nodes(self.outputs, self.given), self.given)

    def order(self) -> list[Node]:
        """Return the nodes that a step computes, in the order of computation."""
        inputs = {*self.states, *self.entries, *self.captured}
        return [node for node in order_nodes(self.outputs, inputs) if node not in inputs]

    @property
    def places(self) -> Any:
        """Where the nodes are in the graph: equal for the bodies of equal graphs."""
        nodes = (self.states, self.entries, self.outputs)
        return *(tuple(node.place for node in group) for group in nodes), self.stacked

    def signature(self) -> Any:
        """Return a key that is equal for two traces of one body."""
        return signature(self.outputs), self.stacked

    def rewrite(
        self, new: Graph, node: Node, args: tuple[Any, ...], known: dict[Node, Any], rule: Callable[..., Any]
    ) -> Node:
        """Return the loop in another graph, with its body rewritten by the same rule."""
        inner: dict[Node, Any] = {outside: known[outside] for outside in self.captured}
        for entering in (*self.states, *self.entries):
            inner[entering] = new.input(f"step_{len(new.nodes)}", entering.shape, entering.kind)
        for inner_node in self.order():
            rewrite_node(new, inner_node, inner, rule)
        body = Body(
            [inner[state] for state in self.states],
            [inner[entry] for entry in self.entries],
            [node_of(new, inner[output], output) for output in self.outputs],
            self.stacked,
        )
        count = len(self.states) + len(self.entries)
        moving = [node_of(new, arg, old) for arg, old in zip(args[:count], node.args, strict=False)]
        return add_loop(new, body, moving, node.attributes["steps"], reverse=node.attributes["reverse"])


def loop(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, sequence: Any, axis: int = 1) -> tuple[Any, Any]:
    """Run ``state, output = step(state, entry)`` over the entries of a sequence.

    On arrays it is a Python loop. In a formula that is traced, it becomes one operation, so that a recurrence over many
    steps is traced, derived and compiled in the time of one step.

    Args:
        step: (state, entry) -> (new state, output); the state is an array or a tuple of arrays.
        state: The first state.
        sequence: An array, or a tuple of arrays with the same number of steps.
        axis: The axis of the steps.

    Returns:
        The last state, and the outputs stacked along ``axis``.

    Raises:
        ShapeError: The sequences differ in the number of steps or are empty arrays, or a step changes the shape or kind
            of the state.
        TypeError: ``step`` does not return a pair, or a state is a list.
        DerivativeError: The steps are the rows of a formula.

    Example:
        >>> import numpy as np
        >>> def add(total, x):
        ...     return total + x, total + x
        >>> loop(add, np.zeros(1), np.array([[1.0, 2.0, 3.0]]))
        (array([6.]), array([[1., 3., 6.]]))
    """
    sequences = sequence if isinstance(sequence, tuple) else (sequence,)
    _require_no_list("state", state)
    firsts = state if isinstance(state, tuple) else (state,)
    symbols = [x for x in (*sequences, *firsts) if isinstance(x, Symbol)]
    sizes = [np.shape(array)[axis] for array in sequences]
    if symbols and any(map(symbols[0].graph.rows_in, sizes)):
        refuse("a loop whose steps are the rows", "use another axis: the number of rows is not fixed")
    if len(set(sizes)) > 1:
        raise ShapeError(f"loop: the sequences must have the same number of steps, axis {axis}; they have {sizes}")

    def take_step(state: Any, parts: Sequence[Any]) -> Any:
        result = step(state, tuple(parts) if isinstance(sequence, tuple) else parts[0])
        if not isinstance(result, tuple) or len(result) != 2 or result[1] is None:
            got = f"{len(result)} values" if isinstance(result, tuple) else "one value"
            raise TypeError(
                "loop: step must return a pair of arrays, (new state, output); "
                f"it returned {got if got != '2 values' else 'no output'}"
            )
        _require_no_list("new state", result[0])
        return result

    if not symbols:
        if not sizes[0]:
            raise ShapeError(f"the sequence has no steps, axis {axis} of {np.shape(sequences[0])}", where="loop")
        outputs = []
        for index in range(sizes[0]):
            state, output = take_step(state, [np.take(array, index, axis) for array in sequences])
            outputs.append(output)
        return state, np.stack(outputs, axis)
    graph = symbols[0].graph
    moved = [value_of(np.moveaxis(array_symbol(array, graph), axis, 0)) for array in sequences]  # type: ignore[type-var]
    firsts = tuple(array_symbol(first, graph).node for first in firsts)
    graph.loops += 1
    name = f"loop_{graph.loops}"
    states = [graph.input(f"{name}_state_{n}", first.shape, first.kind) for n, first in enumerate(firsts)]
    entries = [
        graph.input(f"{name}_entry_{n}", sequence_node.shape[1:], sequence_node.kind)
        for n, sequence_node in enumerate(moved)
    ]
    before = tuple(Symbol(node, fixed=True) for node in states)
    new, output = take_step(before if isinstance(state, tuple) else before[0], [Symbol(e, fixed=True) for e in entries])
    results = [array_symbol(value, graph).node for value in (*(new if isinstance(new, tuple) else (new,)), output)]
    kept, returned = (
        ", ".join(f"{_KINDS[value.kind]} {graph.shape_text(value.shape)}" for value in parts)
        for parts in (firsts, results[:-1])
    )
    if kept != returned:
        raise ShapeError(f"the state must keep its shape and kind, {kept}; step returned {returned}", where="loop")
    node = add_loop(graph, Body(states, entries, results, 1), [*firsts, *moved], moved[0].shape[0])
    parts = [Symbol(part(node, index)) for index in range(len(results))]
    last = tuple(parts[:-1]) if isinstance(state, tuple) else parts[0]
    return last, np.moveaxis(parts[-1], 0, axis)  # type: ignore[type-var]


def add_loop(graph: Graph, body: Body, moving: Iterable[Any], steps: int, *, reverse: bool = False) -> Node:
    """Return the loop of a body; ``moving`` are the first states, then the sequences."""
    attributes = {"body": body, "steps": steps, "reverse": reverse}
    return graph.intern_node("loop", (*moving, *body.captured), attributes, ())


def _require_no_list(name: str, value: Any) -> None:
    if isinstance(value, list):
        raise TypeError(f"loop: the {name} must be an array or a tuple of arrays; got a list")


def node_of(graph: Graph, value: Any, old: Node) -> Node:
    """Return a rewritten value as a node: a plain number is broadcast to the shape of the old node."""
    return value if isinstance(value, Node) else graph.broadcast(value, old.shape, old.kind)


def part(node: Node, index: int) -> Any:
    """Return one result of a loop: a last state, what is stacked over the steps, or a sum."""
    body = node.attributes["body"]
    output = body.outputs[index]
    stacked = len(body.states) <= index < len(body.states) + body.stacked
    shape = (node.attributes["steps"], *output.shape) if stacked else output.shape
    if 0 in shape:
        return node.graph.of_nothing("part", shape, output.kind)
    return node.graph.intern_node("part", (node,), {"index": index}, shape, output.kind)


def reverse_loop(node: Node, by_result: dict[int, Node], gradients: Callable[..., list[Node]]) -> list[Node | None]:
    """Return the gradient of each argument of a loop: a loop in the other direction.

    Args:
        node: The loop. It is extended to stack the values of each step that the backward pass reads.
        by_result: The gradient of each of its results, by index.
        gradients: The function ``graph.gradient.gradients``.
    """
    graph, body, steps = node.graph, node.attributes["body"], node.attributes["steps"]
    count = len(body.states)
    inside = body.inside()
    state_gradients = [graph.input(f"gradient_{len(graph.nodes)}", output.shape) for output in body.outputs[:count]]
    stacked_gradients = {
        index: graph.input(f"gradient_{len(graph.nodes)}", body.outputs[index].shape)
        for index in range(count, count + body.stacked)
        if index in by_result
    }
    captured = [outside for outside in body.captured if outside.kind == "f"]
    wrt = [*body.states, *body.entries, *captured]
    seeds = list(zip(body.outputs[:count], state_gradients, strict=True))
    seeds += [(body.outputs[index], g) for index, g in stacked_gradients.items()]
    input_gradients = gradients(seeds, wrt, {*wrt, *body.captured})
    saved = _values_to_stack(body, inside, input_gradients, {*state_gradients, *stacked_gradients.values()})
    kept = [value for value in saved if value not in body.entries]
    start = count + body.stacked
    body.outputs[start:start] = kept
    body.stacked += len(kept)
    entries = [value for value in saved if value in body.entries]
    back = Body(state_gradients, [*stacked_gradients.values(), *kept, *entries], input_gradients, len(body.entries))
    moving = [
        *(
            by_result.get(index) or graph.broadcast(0.0, output.shape)
            for index, output in enumerate(body.outputs[:count])
        ),
        *(by_result[gradient] for gradient in stacked_gradients),
        *(part(node, start + offset) for offset in range(len(kept))),
        *(node.args[count + body.entries.index(entry)] for entry in entries),
    ]
    backward = add_loop(graph, back, moving, steps, reverse=not node.attributes["reverse"])
    parts = [part(backward, index) for index in range(len(input_gradients))]
    by_captured = dict(zip(captured, parts[count + len(body.entries) :], strict=True))
    return [*parts[: count + len(body.entries)], *(by_captured.get(outside) for outside in body.captured)]


def _values_to_stack(body: Body, inside: set[Node], gradients_of_step: list[Node], fresh: set[Node]) -> list[Node]:
    """Return the nodes of a step that the backward pass reads; of a view, the array it is taken from."""
    order = order_nodes(gradients_of_step, {*inside, *body.captured, *fresh})
    inside |= {node for node in order if node.op == "part" and node.args[0] in inside}  # stacked by inner loops
    read = [arg for node in order if node not in inside for arg in nodes_in(node.args) if arg in inside]
    saved = []
    for value in dict.fromkeys([*read, *(node for node in gradients_of_step if node in inside)]):
        base = value
        while OPERATIONS[base.op].view and isinstance(base.args[0], Node) and base not in body.given:
            base = base.args[0]
        if base in inside and base not in saved:
            saved.append(base)
    return saved
