"""Trace: call a formula once on symbols, and return its graph.

To check a new graph, the formula is called again, with a small prime in place of the large one for the number of rows.
A difference reveals random numbers, a branch on the number of rows, or a number that is computed from it. It may also
come from a size in the formula that happens to be a multiple of a prime: then two other primes are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

import framework.graph.functions  # noqa: F401 (fills the table of functions)
from framework.base.errors import DerivativeError
from framework.graph.graph import STAND_IN, Graph, signature
from framework.graph.loop import Body
from framework.graph.node import Node, order_nodes
from framework.graph.refuse import refuse
from framework.graph.symbol import Symbol, value_of

ROWS = -1
"""Stands for the number of rows in the shapes that ``trace`` takes."""

STAND_INS = (STAND_IN, 10009, 10037, 10039, 10061, 10067, 10069, 10079)
"""Primes that may stand for the number of rows."""

FEW_ROWS = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
"""Those of the second trace, so that a branch on the number of rows shows."""


Result = TypeVar("Result")

_KNOWN: dict[Any, Any] = {}
_KEPT = 1024
"""How many graphs that were checked, and programs made of graphs, are known."""


def share(key: Any, make: Callable[[], Result], kept: dict[Any, Any] | None = None) -> Result:
    """Return what ``make`` returned for an equal key before, or what it returns now.

    Args:
        key: The key.
        make: Makes the value.
        kept: Where values are kept; None is a place for the whole process.
    """
    kept = _KNOWN if kept is None else kept
    try:
        known: Result | None = kept.get(key)
    except TypeError:  # a user's function that has no hash
        return make()
    if known is None:
        known = make()
        _keep(kept, key, known)
    return known


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _KEPT:
        kept.pop(next(iter(tuple(kept))), None)  # a copy, as another thread may add one
    kept[key] = value


def trace_again(owner: Any, call: Callable[[Graph], Result], dtype: str = "float64", rows: int = STAND_IN) -> Result:
    """Return what ``call`` makes in a graph: in that of the last trace for an equal owner, if it adds no node there.

    To find a node takes a fraction of the time of making it, and a later fit traces formulas that seldom change.

    Args:
        owner: Whose formula it is, hashable.
        call: Traces it, and adds nothing else to the graph.
        dtype: The dtype of floats.
        rows: The stand-in for the number of rows.
    """
    key = "graph", owner, dtype, rows
    try:
        graph = _KNOWN.pop(key, None) or Graph(dtype, rows)  # no other thread may trace in it
    except TypeError:  # a user's function that has no hash
        return call(Graph(dtype, rows))
    count = graph.begin_trace()
    result = call(graph)
    if 0 < count < len(graph.nodes):
        graph = Graph(dtype, rows)
        result = call(graph)
    if not graph.ops & {"call", "python"}:  # these hold the model
        _keep(_KNOWN, key, graph)
    return result


@dataclass(frozen=True, eq=False)
class Traced:
    """A formula as a graph.

    Attributes:
        inputs: The nodes of the arguments by name.
        outputs: What the formula returns: nodes and plain numbers.
        key: Equal for equal graphs with the same activations, as they were traced.
    """

    inputs: dict[str, Node]
    outputs: tuple[Any, ...]
    key: Any = None

    @property
    def output(self) -> Any:
        """The first output."""
        return self.outputs[0]

    @property
    def graph(self) -> Graph:
        """The graph of all nodes."""
        return next(iter(self.inputs.values())).graph


def trace(
    formula: Callable[..., Any],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "float64",
    *,
    kinds: Mapping[str, str] | None = None,
    owner: Any = None,
    check: Callable[[Traced], None] = lambda _traced: None,
    again: Callable[..., Any] | None = None,
    checked: Graph | None = None,
    compared: bool = False,
    name: str = "the formula",
) -> Traced:
    """Call a formula on symbols, and return its graph.

    Args:
        formula: A function of arrays, written with NumPy functions; it returns an array or a tuple of arrays.
        shapes: The shape of each argument by name, with ``ROWS`` for the number of rows.
        dtype: The dtype of floats.
        kinds: The kind of each argument that does not hold floats: "i" or "b".
        owner: Whose formula it is, hashable. Each graph of an owner is checked once; without an owner, at each call.
        check: Raises an error for a graph that is not sound.
        again: The function of the second call; None is the formula.
        checked: A graph of the same formula in another form, which has passed the checks.
        compared: Whether the graph serves to compare its key alone: then a later trace of the owner's is made in it.
        name: What the formula is called in errors.

    Raises:
        DerivativeError: The formula cannot be traced; names the operation and its line, and says what to write.

    Example:
        >>> trace(lambda h: h / (1 + np.exp(-h)), {"h": (ROWS, 3)}).output
        divide(v0, v3)(10007, 3)

    Source:
        Griewank and Walther, Evaluating derivatives (2008), chapters 2 and 3.
    """
    known = math.prod(size for shape in shapes.values() for size in shape if size > 0)
    primes = [prime for prime in STAND_INS if known % prime]  # no size of an argument looks like rows
    options = shapes, kinds or {}

    def call_with_rows(stand_in: int) -> Traced:
        def call(graph: Graph) -> Traced:
            first = _call_formula(formula, *options, graph)
            return Traced(first.inputs, first.outputs, _key(first))

        if compared:
            return trace_again((owner, *(tuple(option.items()) for option in options)), call, dtype, stand_in)
        return call(Graph(dtype, stand_in))

    if checked is not None:
        return call_with_rows(checked.rows)

    def trace_with_rows(stand_in: int, smallest: int) -> Traced:
        first = call_with_rows(stand_in)

        def require_sound() -> bool:
            sizes = {abs(size) for size in (*_whole_numbers(first.outputs), known) if size and size % stand_in}
            small = next(
                prime for prime in (*FEW_ROWS, *STAND_INS) if prime >= smallest and all(size % prime for size in sizes)
            )
            if signature(first.outputs) != signature(
                _call_formula(again or formula, *options, Graph(dtype, small)).outputs
            ):
                raise DerivativeError(
                    f"{name} cannot be traced: two traces of it differ. If it draws random numbers, declare them in "
                    "draws(shape) of a Layer; if it computes a number from the number of rows, use np.mean, or the "
                    "size itself, as in x / len(x); it must not branch on the number of rows"
                )
            check(first)
            return True

        if owner is None:
            require_sound()
        else:
            share((owner, first.key), require_sound)
        return first

    try:
        return trace_with_rows(primes[0], 3)
    except (DerivativeError, ValueError):
        with suppress(DerivativeError, ValueError):
            return trace_with_rows(primes[1], 7)  # a size in the formula may have looked like rows
        raise


def _whole_numbers(outputs: Iterable[Any]) -> Iterator[int]:
    """Give every size, index and whole number in a graph."""
    for node in order_nodes(outputs):
        waiting: list[Any] = [node.shape, node.args, *node.attributes.values()]
        while waiting:
            value = waiting.pop()
            if isinstance(value, tuple):
                waiting += value
            elif type(value) is int:
                yield value
            elif isinstance(value, Body):
                yield from _whole_numbers(value.outputs)


def _call_formula(
    formula: Callable[..., Any], shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str], graph: Graph
) -> Traced:
    symbols = {}
    for name, shape in shapes.items():
        sizes = tuple(graph.rows if size == ROWS else size for size in shape)
        symbols[name] = Symbol(graph.input(name, sizes, kinds.get(name, "f")), fixed=True)
    nodes = {name: symbol.node for name, symbol in symbols.items()}
    with np.errstate(all="ignore"):
        try:
            results = formula(**symbols)
        except ValueError as error:
            if isinstance(error.__cause__, DerivativeError):  # NumPy hides the error of an assignment to an element
                raise error.__cause__ from None
            raise
        except TypeError as error:
            if "Symbol" not in str(error):
                raise
            raise DerivativeError(f"the formula cannot be traced: write it with NumPy functions; {error}") from None
    results = results if isinstance(results, tuple) else (results,)
    return Traced(nodes, tuple(_node_or_number(graph, result) for result in results))


def _key(traced: Traced) -> tuple[Any, ...]:
    """Return the key of a new graph: its nodes, and where it calls which activation, with the gradients they write."""
    graph, calls = traced.graph, []
    for node, call in graph.calls.items():
        written = None
        if call.pullback is not None:
            scratch = Graph(graph.dtype, graph.rows)
            arguments = [Symbol(scratch.input(f"{index}", node.shape)) for index in range(3)]
            with np.errstate(all="ignore"):
                written = scratch.key_of([value_of(call.pullback(*arguments))])
        calls.append((node.place, call.argument.place, call.activation, written))
    return graph.key_of(traced.outputs), *calls


def _node_or_number(graph: Graph, result: Any) -> Any:
    """Return what a formula returns as a node or a plain number."""
    if result is None or result is Ellipsis:
        raise DerivativeError(f"the formula returned {result}: write return and the formula")
    if not isinstance(result, Symbol | np.ndarray | np.generic | bool | int | float):
        refuse(f"a result of type {type(result).__name__}", "return an array")
    return graph.lift(value_of(result))
